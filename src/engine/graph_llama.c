/* graph_llama.c - Llama (Touvron et al. 2023): the shape that most families vary.
 * Pre-norm with RMSNorm, rotary positions on adjacent pairs, grouped-query attention, SwiGLU. */
#include "engine/graph.h"

static void layer(nigh_graph *g, uint32_t i) {
    const nigh_layer *l = &g->m->layers[i];
    const nigh_hparams *h = &g->m->h;
    nigh_graph_rmsnorm(g, g->xn, g->x, l->attn_norm);                       /* xn:  [T][embed]                   */
    nigh_graph_qkv(g, l, g->xn);                                            /* q: [T][q_dim]  k, v: [T][kv_dim]  */
    nigh_graph_scale(g, g->q, 1.0f / __builtin_sqrtf((float)h->head_dim), h->q_dim);
    nigh_graph_store(g, i, 0);                                              /* rotate, then into the cache       */
    nigh_graph_attend(g, i, 0);                                             /* att: [T][q_dim]                   */
    nigh_graph_wo(g, l, g->x);                                              /* x += Wo att: [T][embed]          */
    nigh_graph_rmsnorm(g, g->xn, g->x, l->ffn_norm);                        /* xn:  [T][embed]                   */
    nigh_graph_gate_up(g, l, g->xn, NIGH_ACT_SILU);                         /* gate: silu(gate) * up: [T][ffn]  */
    nigh_graph_down(g, l, g->x);                                            /* x += Wdown gate: [T][embed]      */
}

static void end(nigh_graph *g) { nigh_graph_rmsnorm(g, g->xn, g->x, g->m->output_norm); }

const nigh_arch nigh_arch_llama = {
    .name = "llama", .layer = layer, .end = end,
    .flags = NIGH_ARCH_ROPE | NIGH_ARCH_ADJACENT | NIGH_ARCH_GATE | NIGH_ARCH_PRE_NORM };

/* phi3 (Abdin et al. 2024) is the same walk: its fused matrices are taken apart when the file is read, it rotates
 * halves, and it may take other angles for long contexts (rope.c). */
const nigh_arch nigh_arch_phi3 = {
    .name = "phi3", .layer = layer, .end = end,
    .flags = NIGH_ARCH_ROPE | NIGH_ARCH_FUSED | NIGH_ARCH_GATE | NIGH_ARCH_PRE_NORM };
