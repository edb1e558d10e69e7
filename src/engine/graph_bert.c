/* graph_bert.c - the encoders: BERT (Devlin et al. 2018), Nomic BERT (Nussbaum et al. 2024: rotary
 * positions, SwiGLU) and Jina BERT v2 (Guenther et al. 2023: ALiBi on both sides, GeGLU).
 * Every token sees every other; LayerNorm with bias after each half; no norm after the last layer but
 * its own. The token-type row 0 is added to every token. */
#include "engine/graph.h"

static void add_row(nigh_graph *g, const nigh_mat *m, uint32_t row, float *x) {
    nigh_mat_row(m, row, g->y);
    g->k->add(x, g->y, g->m->h.embed);
}

static void begin(nigh_graph *g) {
    const nigh_model *m = g->m;
    for (uint32_t t = 0; t < g->count; t++) {
        float *x = g->x + (size_t)t * m->h.embed;
        if (m->token_types.rows) add_row(g, &m->token_types, 0, x);
        if (m->position_embd.rows) add_row(g, &m->position_embd, g->pos[t], x);
    }
    nigh_graph_layernorm(g, g->x, m->embd_norm, m->embd_norm_bias);         /* x:   [T][embed]                   */
}

static void layer(nigh_graph *g, uint32_t i) {
    const nigh_layer *l = &g->m->layers[i];
    const nigh_hparams *h = &g->m->h;
    nigh_graph_qkv(g, l, g->x);                                             /* q: [T][q_dim]  k, v: [T][kv_dim]  */
    nigh_graph_scale(g, g->q, 1.0f / __builtin_sqrtf((float)h->head_dim), h->q_dim);
    nigh_graph_store(g, i, 0);
    nigh_graph_attend(g, i, 0);                                             /* att: [T][q_dim]                   */
    nigh_graph_wo(g, l, g->x);                                              /* x += Wo att: [T][embed]           */
    nigh_graph_layernorm(g, g->x, l->attn_out_norm, l->attn_out_norm_bias);
    if (g->m->arch->flags & NIGH_ARCH_GATE) {
        nigh_graph_gate_up(g, l, g->x, g->m->arch->flags & NIGH_ARCH_ALIBI ? NIGH_ACT_GELU : NIGH_ACT_SILU);
        nigh_graph_down(g, l, g->x);                                        /* x += Wdown gate: [T][embed]       */
    } else {
        nigh_graph_linear(g, g->x, &(nigh_linear){ &l->up, l->bup, g->up, NULL }, 1);       /* up: [T][ffn]      */
        nigh_graph_gelu(g, g->up);
        nigh_graph_linear(g, g->up, &(nigh_linear){ &l->down, l->bdown, g->y, g->x }, 1);   /* x += Wdown up     */
    }
    nigh_graph_layernorm(g, g->x, l->layer_out_norm, l->layer_out_norm_bias);
}

static void end(nigh_graph *g) { memcpy(g->xn, g->x, (size_t)g->count * g->m->h.embed * sizeof *g->x); }

#define BERT_FLAGS (NIGH_ARCH_ENCODER | NIGH_ARCH_LAYER_NORM)

const nigh_arch nigh_arch_bert = { .name = "bert",
                                   .begin = begin,
                                   .layer = layer,
                                   .end = end,
                                   .flags = BERT_FLAGS | NIGH_ARCH_LEARNED_POS | NIGH_ARCH_QKV_BIAS
                                            | NIGH_ARCH_OUT_BIAS | NIGH_ARCH_UP_BIAS | NIGH_ARCH_DOWN_BIAS };

const nigh_arch nigh_arch_nomic_bert = { .name = "nomic-bert",
                                         .begin = begin,
                                         .layer = layer,
                                         .end = end,
                                         .flags = BERT_FLAGS | NIGH_ARCH_ROPE | NIGH_ARCH_GATE };

const nigh_arch nigh_arch_jina_bert_v2 = { .name = "jina-bert-v2",
                                           .begin = begin,
                                           .layer = layer,
                                           .end = end,
                                           .flags = BERT_FLAGS | NIGH_ARCH_ALIBI | NIGH_ARCH_GATE | NIGH_ARCH_QKV_BIAS
                                                    | NIGH_ARCH_OUT_BIAS | NIGH_ARCH_DOWN_BIAS };
