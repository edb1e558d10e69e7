/* graph_qwen.c - Qwen2 (Yang et al. 2024): Llama with biases on q, k, v, rotating halves.
 * Qwen3 (2025): no biases, but an RMS norm on each head of q and k before the rotation. */
#include "engine/graph.h"

static void layer(nigh_graph *g, uint32_t i) {
    const nigh_layer *l = &g->m->layers[i];
    const nigh_hparams *h = &g->m->h;
    nigh_graph_rmsnorm(g, g->xn, g->x, l->attn_norm);                       /* xn:  [T][embed]                   */
    nigh_graph_qkv(g, l, g->xn);                                            /* q: [T][q_dim]  k, v: [T][kv_dim]  */
    if (l->q_norm) nigh_graph_head_norm(g, l->q_norm, l->k_norm);           /* qwen3                             */
    nigh_graph_scale(g, g->q, 1.0f / __builtin_sqrtf((float)h->head_dim), h->q_dim);
    nigh_graph_store(g, i, 0);                                              /* rotate, then into the cache       */
    nigh_graph_attend(g, i, 0);                                             /* att: [T][q_dim]                   */
    nigh_graph_wo(g, l, g->x);                                              /* x += Wo att: [T][embed]          */
    nigh_graph_rmsnorm(g, g->xn, g->x, l->ffn_norm);                        /* xn:  [T][embed]                   */
    nigh_graph_gate_up(g, l, g->xn, NIGH_ACT_SILU);                         /* gate: silu(gate) * up: [T][ffn]  */
    nigh_graph_down(g, l, g->x);                                            /* x += Wdown gate: [T][embed]      */
}

static void end(nigh_graph *g) { nigh_graph_rmsnorm(g, g->xn, g->x, g->m->output_norm); }

const nigh_arch nigh_arch_qwen2 = {
    .name = "qwen2", .layer = layer, .end = end,
    .flags = NIGH_ARCH_ROPE | NIGH_ARCH_GATE | NIGH_ARCH_PRE_NORM | NIGH_ARCH_QKV_BIAS };

const nigh_arch nigh_arch_qwen3 = {
    .name = "qwen3", .layer = layer, .end = end,
    .flags = NIGH_ARCH_ROPE | NIGH_ARCH_GATE | NIGH_ARCH_PRE_NORM | NIGH_ARCH_QK_NORM };
