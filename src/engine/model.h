/* model.h - what a loaded model is made of. Inside the engine only; the public door is nigh/engine.h.
 * Shapes are written [rows][columns] as they lie in memory; T is the number of tokens of a batch. */
#ifndef NIGH_MODEL_H
#define NIGH_MODEL_H

#include "engine/gguf.h"
#include "engine/tokenizer.h"
#include "kernel/kernel.h"
#include "nigh/engine.h"

enum {
    NIGH_LAYERS_MAX = 512, NIGH_EMBED_MAX = 65536, NIGH_HEADS_MAX = 1024, NIGH_HEAD_DIM_MAX = 1024,
    NIGH_FFN_MAX = 1 << 20, NIGH_CONTEXT_MAX = 1 << 24, NIGH_VOCAB_MAX = 1 << 22,
    NIGH_GROUP_MAX = 128            /* query heads that share one key/value head */
};

typedef struct {
    uint32_t context, embed, layers, ffn, heads, kv_heads, head_dim, rope_dims, window, vocab;
    uint32_t q_dim, kv_dim;         /* heads * head_dim, kv_heads * head_dim */
    float norm_eps;
    float attn_softcap, final_softcap;  /* 0: none */
    float alibi_max;                /* 0: none */
    bool causal;
    nigh_pooling pooling;
    uint32_t rope_original;         /* longrope: contexts above it take the long factors; else 0 */
    float rope_mscale[2];           /* cos and sin are multiplied by it, per table */
} nigh_hparams;

/* One layer. What an architecture does not have is NULL or has rows 0. Norms and biases are f32. */
typedef struct {
    nigh_mat wq, wk, wv;            /* [q_dim][embed], [kv_dim][embed], [kv_dim][embed] */
    nigh_mat wo;                    /* [embed][q_dim] */
    nigh_mat gate, up, down;        /* [ffn][embed], [ffn][embed], [embed][ffn] */
    const float *bq, *bk, *bv, *bo, *bup, *bdown;
    const float *attn_norm, *q_norm, *k_norm, *post_attn_norm, *ffn_norm, *post_ffn_norm;
    const float *attn_out_norm, *attn_out_norm_bias, *layer_out_norm, *layer_out_norm_bias;
} nigh_layer;

struct nigh_graph;

/* One model family: which tensors it has, and its forward pass. */
typedef struct {
    const char *name;               /* general.architecture */
    unsigned flags;
    void (*begin)(struct nigh_graph *g);                    /* after the embedding rows are in x; may be NULL */
    void (*layer)(struct nigh_graph *g, uint32_t layer_idx);
    void (*end)(struct nigh_graph *g);                      /* the last norm: x -> xn, for the rows that are wanted */
} nigh_arch;

enum { /* nigh_arch.flags */
    NIGH_ARCH_ENCODER = 1,          /* vectors, not text; sees both sides */
    NIGH_ARCH_ADJACENT = 2,         /* rotates pairs (2i, 2i+1); others (i, i + d/2) */
    NIGH_ARCH_ROPE = 4,
    NIGH_ARCH_FUSED = 8,            /* attn_qkv holds q, k, v; ffn_up holds gate, up */
    NIGH_ARCH_GATE = 16,
    NIGH_ARCH_PRE_NORM = 32, NIGH_ARCH_POST_NORM = 64,
    NIGH_ARCH_QK_NORM = 128,        /* per head */
    NIGH_ARCH_QK_NORM_WIDE = 256,   /* over the whole row */
    NIGH_ARCH_QKV_BIAS = 512, NIGH_ARCH_OUT_BIAS = 1024, NIGH_ARCH_UP_BIAS = 2048, NIGH_ARCH_DOWN_BIAS = 4096,
    NIGH_ARCH_LEARNED_POS = 8192,
    NIGH_ARCH_LAYER_NORM = 16384,   /* mean and variance, with bias, after each half (bert) */
    NIGH_ARCH_ALIBI = 32768,
    NIGH_ARCH_TWO_BASES = 65536     /* gemma3: windowed layers rotate with base 10,000, unscaled */
};

extern const nigh_arch nigh_arch_llama, nigh_arch_qwen2, nigh_arch_qwen3, nigh_arch_gemma2, nigh_arch_gemma3,
    nigh_arch_gemma_embedding, nigh_arch_phi3, nigh_arch_olmo2, nigh_arch_bert, nigh_arch_nomic_bert,
    nigh_arch_jina_bert_v2;

struct nigh_model {
    nigh_model_info info;
    nigh_hparams h;
    const nigh_arch *arch;
    nigh_kernels kernels;
    nigh_tokenizer *tokenizer;
    nigh_layer *layers;             /* [layers] */
    nigh_mat token_embd;            /* [vocab][embed] */
    nigh_mat output;                /* [vocab][embed]; the same bytes as token_embd when tied */
    nigh_mat token_types, position_embd;
    const float *embd_norm, *embd_norm_bias, *output_norm;
    double *rope_freq[2];           /* [rope_dims / 2] angle per position, by table; NULL when unused */
    char *text;                     /* copies of name, architecture, chat template */
    void *weights;                  /* one block: every packed matrix and every vector */
    size_t weights_bytes;
};

/* Reads and checks the hyperparameters (hparams.c). */
NIGH_CHECK nigh_status nigh_hparams_read(nigh_model *m, const nigh_gguf *g, nigh_err *err);
/* The angle per position of each pair, scaling applied (rope.c). factors: [rope_dims / 2] divisors or NULL. */
NIGH_CHECK nigh_status nigh_rope_init(nigh_model *m, const nigh_gguf *g, nigh_err *err);
/* Groups of 16 rows that are packed from a run of rows of the file: `at` is the offset of the first. */
typedef struct { nigh_mat *mat; uint64_t at; size_t groups_before; } nigh_pack_job;
/* vectors: NULL, or [tensor_count], filled with the places of vectors whose data has not come yet. */
typedef struct {
    nigh_pack_job *jobs;
    size_t count, groups;
    const nigh_kernels *k;
    float **vectors;
} nigh_pack_list;
size_t nigh_pack_row_bytes(const nigh_pack_job *job);     /* of one row in the file */

/* Something else to do while weights are packed, by one of the threads; when it fails, packing stops. */
typedef struct { nigh_status (*run)(void *ud); void *ud; } nigh_beside;
/* Binds and packs every tensor (weights.c). o: the pool, and who is told of bytes of the file that are done with.
 * beside: done, too, unless something is wrong with the tensors; its failure is not returned. */
NIGH_CHECK nigh_status nigh_weights_load(nigh_model *m, const nigh_gguf *g, nigh_model_opts o, nigh_beside beside,
                                         nigh_err *err);
/* The same in pieces. Measuring finds every tensor and sets m->weights_bytes; no tensor's data is read. */
NIGH_CHECK nigh_status nigh_weights_measure(nigh_model *m, const nigh_gguf *g, nigh_err *err);
/* Takes that memory and puts the vectors into it, whose data must be there unless list->vectors is to tell their
 * places. The matrices are left to the caller, who packs the list (empty but for list->vectors at first; to be freed by
 * nigh_free(list->jobs), also after a failure). */
NIGH_CHECK nigh_status nigh_weights_place(nigh_model *m, const nigh_gguf *g, nigh_pack_list *list, nigh_err *err);
/* Packs groups begin..end-1 of the list from bytes of the file, the first of which is at `bytes_at`. */
void nigh_weights_pack(const nigh_pack_list *list, const uint8_t *bytes, uint64_t bytes_at, size_t begin, size_t end);

/* The two halves of opening a model (model.c), before the weights and after them (the vocabulary is the
 * caller's). *out is to be closed by the caller, also after a failure. */
NIGH_CHECK nigh_status nigh_model_begin(nigh_model **out, const nigh_gguf *g, nigh_model_opts o, nigh_err *err);
void nigh_model_end(nigh_model *m);

#endif
