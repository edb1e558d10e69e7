/* net.h - the model that learn trains: a llama-shaped network, its loss and its gradient, by hand.
 *
 * RMSNorm, rotary positions over adjacent pairs, grouped-query attention, SwiGLU, embeddings tied with the
 * head, no biases. Parameters are one run of f32 (layout below); a gradient is a run of the same layout. A
 * nigh_net holds the activations of one piece of a batch (`windows` windows of `window` tokens); several nets
 * may work on the same parameters in several threads. */
#ifndef NIGH_NET_H
#define NIGH_NET_H

#include "base/base.h"
#include "kernel/gemm.h"

typedef struct {
    uint32_t vocab, dim, layers, heads, kv_heads, ff;
    uint32_t window;                /* tokens of one training window = the model's context */
    float rope_base, eps;
} nigh_shape;

/* Where each part begins in the run of parameters, in floats. Matrices are [outputs][inputs].
 *   embed [vocab][dim] | per layer: attn_norm [dim], wqkv [(heads + 2 kv_heads) * head_dim][dim], wo
 *   [dim][dim],
 *   ff_norm [dim], wgu [2 ff][dim] (gate, then up), wd [dim][ff] | out_norm [dim] */
typedef struct { size_t attn_norm, wqkv, wo, ff_norm, wgu, wd; } nigh_layer_at;
static inline size_t nigh_shape_head_dim(const nigh_shape *s) { return s->dim / s->heads; }
static inline size_t nigh_shape_qkv(const nigh_shape *s) {
    return (s->heads + 2 * s->kv_heads) * nigh_shape_head_dim(s);
}
nigh_layer_at nigh_shape_layer(const nigh_shape *s, size_t layer);
size_t nigh_shape_out_norm(const nigh_shape *s);
size_t nigh_shape_count(const nigh_shape *s);           /* all parameters */
/* Is parameter i part of a matrix (decayed, stored quantised) and not of a norm? */
bool nigh_shape_is_matrix(const nigh_shape *s, size_t i);
/* Fails: EINVAL naming what does not fit (dim a multiple of 32 and of heads, even head_dim, heads a multiple of
 * kv_heads...). */
NIGH_CHECK nigh_status nigh_shape_check(const nigh_shape *s, nigh_err *err);
/* Normal values with the deviations that training starts from; seeded, the same on every machine. */
void nigh_shape_init(const nigh_shape *s, float *params, uint64_t seed);

typedef struct nigh_net nigh_net;
/* NULL when out of memory. gemm: borrowed for the net's life. */
nigh_net *nigh_net_new(const nigh_shape *s, size_t windows, nigh_gemm_fn *gemm);
void nigh_net_free(nigh_net *n);

/* Sum of -log p(target) over the tokens (natural logarithm), in double.
 * tokens: [windows][window + 1]: token t+1 is the target of token t.
 * grad: [count] is added to with the gradient of loss_sum * grad_scale; NULL: forward only. */
double nigh_net_loss(nigh_net *n, const float *params, const uint16_t *tokens, float *grad, float grad_scale);

#endif
