/* graph_olmo2.c - OLMo 2 (Walsh et al. 2024): no norm before a half, one after it; RMS norms over the
 * whole rows of q and k; rotates halves; SwiGLU. */
#include "engine/graph.h"

static void layer(nigh_graph *g, uint32_t i) {
    const nigh_layer *l = &g->m->layers[i];
    const nigh_hparams *h = &g->m->h;
    nigh_graph_qkv(g, l, g->x);                                             /* q: [T][q_dim]  k, v: [T][kv_dim]  */
    nigh_graph_wide_norm(g, l->q_norm, l->k_norm);
    nigh_graph_scale(g, g->q, 1.0f / __builtin_sqrtf((float)h->head_dim), h->q_dim);
    nigh_graph_store(g, i, 0);                                              /* rotate, then into the cache       */
    nigh_graph_attend(g, i, 0);                                             /* att: [T][q_dim]                   */
    nigh_graph_wo(g, l, NULL);                                              /* y:   [T][embed]                   */
    nigh_graph_rmsnorm(g, g->y, g->y, l->post_attn_norm);
    nigh_graph_add(g, g->x, g->y);
    nigh_graph_gate_up(g, l, g->x, NIGH_ACT_SILU);                          /* gate: silu(gate) * up: [T][ffn]   */
    nigh_graph_down(g, l, NULL);                                            /* y:   [T][embed]                   */
    nigh_graph_rmsnorm(g, g->y, g->y, l->post_ffn_norm);
    nigh_graph_add(g, g->x, g->y);
}

static void end(nigh_graph *g) { nigh_graph_rmsnorm(g, g->xn, g->x, g->m->output_norm); }

const nigh_arch nigh_arch_olmo2 = {
    .name = "olmo2", .layer = layer, .end = end,
    .flags = NIGH_ARCH_ROPE | NIGH_ARCH_GATE | NIGH_ARCH_POST_NORM | NIGH_ARCH_QK_NORM_WIDE };
