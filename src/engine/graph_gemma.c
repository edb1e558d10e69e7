/* graph_gemma.c - Gemma 2 (Riviere et al. 2024) and Gemma 3 (2025), and the embedding model made of it.
 * Norms before and after each half (their weights are stored with the 1 added), GeGLU, embeddings
 * scaled by sqrt(embed). Gemma 2: every even layer sees a window, scores and logits are capped by
 * c * tanh(x / c). Gemma 3: all but every sixth layer see a window and rotate with base 10,000; q and k
 * are normed per head. Gemma embedding: the same, looking to both sides. */
#include "engine/graph.h"

static void begin(nigh_graph *g) { nigh_graph_scale(g, g->x, __builtin_sqrtf((float)g->m->h.embed), g->m->h.embed); }

/* The two largest models of the families divide by sqrt(embed / heads) instead of sqrt(head_dim). */
static float q_scale(const nigh_model *m, uint32_t odd_layers) {
    const nigh_hparams *h = &m->h;
    return 1.0f / __builtin_sqrtf(h->layers == odd_layers ? (float)(h->embed / h->heads) : (float)h->head_dim);
}

static void halves(nigh_graph *g, uint32_t i, float scale, uint32_t window, size_t table) {
    const nigh_layer *l = &g->m->layers[i];
    nigh_graph_rmsnorm(g, g->xn, g->x, l->attn_norm);                       /* xn:  [T][embed]                   */
    nigh_graph_qkv(g, l, g->xn);                                            /* q: [T][q_dim]  k, v: [T][kv_dim]  */
    if (l->q_norm) nigh_graph_head_norm(g, l->q_norm, l->k_norm);           /* gemma 3                           */
    nigh_graph_scale(g, g->q, scale, g->m->h.q_dim);
    nigh_graph_store(g, i, table);                                          /* rotate, then into the cache       */
    nigh_graph_attend(g, i, window);                                        /* att: [T][q_dim]                   */
    nigh_graph_wo(g, l, NULL);                                              /* y:   [T][embed]                   */
    nigh_graph_rmsnorm(g, g->y, g->y, l->post_attn_norm);
    nigh_graph_add(g, g->x, g->y);
    nigh_graph_rmsnorm(g, g->xn, g->x, l->ffn_norm);                        /* xn:  [T][embed]                   */
    nigh_graph_gate_up(g, l, g->xn, NIGH_ACT_GELU);                         /* gate: gelu(gate) * up: [T][ffn]   */
    nigh_graph_down(g, l, NULL);                                            /* y:   [T][embed]                   */
    nigh_graph_rmsnorm(g, g->y, g->y, l->post_ffn_norm);
    nigh_graph_add(g, g->x, g->y);
}

static void layer_gemma2(nigh_graph *g, uint32_t i) {
    halves(g, i, q_scale(g->m, 46), i % 2 == 0 ? g->m->h.window : 0, 0);    /* 46 layers: the 27B                */
}

static void layer_gemma3(nigh_graph *g, uint32_t i) {
    bool local = i % 6 != 5;
    halves(g, i, q_scale(g->m, 62), local ? g->m->h.window : 0, local);     /* 62 layers: the 27B                */
}

static void end(nigh_graph *g) { nigh_graph_rmsnorm(g, g->xn, g->x, g->m->output_norm); }

#define GEMMA_FLAGS (NIGH_ARCH_ROPE | NIGH_ARCH_GATE | NIGH_ARCH_PRE_NORM | NIGH_ARCH_POST_NORM)

const nigh_arch nigh_arch_gemma2 = {
    .name = "gemma2", .begin = begin, .layer = layer_gemma2, .end = end, .flags = GEMMA_FLAGS
};

const nigh_arch nigh_arch_gemma3 = {
    .name = "gemma3", .begin = begin, .layer = layer_gemma3, .end = end,
    .flags = GEMMA_FLAGS | NIGH_ARCH_QK_NORM | NIGH_ARCH_TWO_BASES };

const nigh_arch nigh_arch_gemma_embedding = {
    .name = "gemma-embedding", .begin = begin, .layer = layer_gemma3, .end = end,
    .flags = GEMMA_FLAGS | NIGH_ARCH_QK_NORM | NIGH_ARCH_TWO_BASES | NIGH_ARCH_ENCODER };
