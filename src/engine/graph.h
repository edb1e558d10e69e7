/* graph.h - the words that a forward pass is written in (see graph_llama.c for how it reads).
 * A graph is one batch on its way through the layers: T tokens, perhaps of several sessions. Every
 * function works on all T rows; small ones run on the calling thread, large ones over the pool.
 * Nothing here can fail: all memory was reserved by the runner. */
#ifndef NIGH_GRAPH_H
#define NIGH_GRAPH_H

#include "base/pool.h"
#include "engine/session.h"

/* A run of tokens of one session inside the batch. */
typedef struct {
    nigh_session *session;
    uint32_t first, count;          /* rows of the batch */
    uint32_t pos;                   /* position of the first one */
} nigh_span;

typedef struct nigh_graph {
    const nigh_model *m;
    const nigh_kernels *k;
    nigh_pool *pool;
    uint32_t count;                 /* T */
    const int32_t *ids;             /* [T] */
    const uint32_t *pos;            /* [T] */
    const nigh_span *spans;
    size_t span_count;
    float *x;                       /* [T][embed]: the residual stream */
    float *xn, *y;                  /* [T][embed]: normed input, output of a half */
    float *q, *kk, *v, *att;        /* [T][q_dim], [T][kv_dim], [T][kv_dim], [T][q_dim] */
    float *gate, *up;               /* [T][ffn] */
    float *cos[2], *sin[2];         /* [T][rope_dims / 2], by table */
    float *scratch;                 /* of one step, by worker */
    size_t scratch_stride;          /* floats of one worker */
    float *parts;                   /* of attention that is split over threads; NULL: never */
    nigh_acts acts;                 /* quantised input of the product that runs now */
    nigh_acts wide;                 /* quantised input of the down product, written by the one before it */
} nigh_graph;

/* Runs fn over the rows of the batch; on the calling thread when rows x width values are few. */
void nigh_graph_each_row(nigh_graph *g, nigh_pool_fn *fn, void *ud, size_t width);

/* One product out = W in (+ bias); out: [T][rows of w]. With a residual: residual += out, row by row as they come, and
 * out may hold anything afterwards. */
typedef struct { const nigh_mat *w; const float *bias; float *out, *residual; } nigh_linear;

/* in: [T][cols]. All products share the input, which is rounded once (if any weight is quantised). */
void nigh_graph_linear(nigh_graph *g, const float *in, const nigh_linear *products, size_t count);
/* The same for `rows` rows of an input that is not the batch (the output matrix). */
void nigh_graph_linear_rows(nigh_graph *g, const float *in, uint32_t rows, const nigh_linear *products, size_t count);

/* [T][embed]; out may be in */
void nigh_graph_rmsnorm(nigh_graph *g, float *out, const float *in, const float *w);
void nigh_graph_layernorm(nigh_graph *g, float *x, const float *w, const float *b);         /* [T][embed] in place */
/* RMS norm of each head of q and k by itself: w of [head_dim]. */
void nigh_graph_head_norm(nigh_graph *g, const float *q_norm, const float *k_norm);
/* RMS norm of whole rows of q and k: w of [q_dim], [kv_dim]. */
void nigh_graph_wide_norm(nigh_graph *g, const float *q_norm, const float *k_norm);
void nigh_graph_add(nigh_graph *g, float *x, const float *y);                               /* x += y, [T][embed] */
void nigh_graph_scale(nigh_graph *g, float *x, float by, size_t width);                     /* [T][width] */

/* Rotates q and k by table `table` (none for models without; longrope picks by the session's room), then puts k and v
 * into the sessions' caches. */
void nigh_graph_store(nigh_graph *g, uint32_t layer_idx, size_t table);
/* att = softmax(q K^T) V for what each token may see; window 0: everything before it (or all, when not causal).
 * q must carry the factor 1/sqrt(head_dim) already. */
void nigh_graph_attend(nigh_graph *g, uint32_t layer_idx, uint32_t window);

typedef enum { NIGH_ACT_SILU, NIGH_ACT_GELU } nigh_act;
void nigh_graph_gelu(nigh_graph *g, float *x);                                              /* [T][ffn] */

/* Names the weights of the step after the coming one, from the first byte of `first` to the end of `last`: who waits in
 * between asks for them. And what the layer's attention reads first, or where that is little, what comes after it. */
void nigh_graph_ahead(const nigh_graph *g, const nigh_mat *first, const nigh_mat *last);
void nigh_graph_attend_ahead(const nigh_graph *g, uint32_t layer_idx);

/* What most families share. Each is one meeting of the threads (and, for many tokens, one more to round the input);
 * who has to wait asks for the weights of the next one. */
void nigh_graph_qkv(nigh_graph *g, const nigh_layer *l, const float *in);          /* q, k, v = W in (+ bias)    */
void nigh_graph_wo(nigh_graph *g, const nigh_layer *l, float *residual);           /* y = Wo att (+ bias)        */
/* gate = act(Wgate in) * (Wup in + bias), rounded for what comes next (then gate may hold anything): [T][ffn] */
void nigh_graph_gate_up(nigh_graph *g, const nigh_layer *l, const float *in, nigh_act act);
void nigh_graph_down(nigh_graph *g, const nigh_layer *l, float *residual);         /* y = Wdown gate (+ bias)    */

/* Floats of attention scratch that one worker needs, whatever the length of the text. */
size_t nigh_graph_scratch_floats(const nigh_model *m);
enum { NIGH_GRAPH_PARTS_FLOATS = 1 << 20, NIGH_GRAPH_PIECE_FLOATS = 1 << 14 };

#endif
