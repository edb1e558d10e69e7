/* kernel.h - numbers in, numbers out: the arithmetic of the engine, one table of functions per ISA.
 *
 * THE CONTRACT. Plain C (kernel_ref.c) is the definition. Every ISA gives the same bits, for every
 * input, every batch and every split of the rows. So: no fused multiply-add, no re-association, and
 * - a product with quantised weights is exact int32 inside a block of 32 columns, times one f32 scale,
 *   and blocks are added to the f32 sum of the row in rising order (see matmul below);
 * - a product with f32/f16/bf16 weights is one f32 sum per row over the columns in rising order;
 * - attention works in blocks of 64 keys, in the order stated below;
 * - sums inside norms and softmax keep 16 partial sums (element i goes to partial i mod 16), which are
 *   added as a fixed tree: 8 apart, 4, 2, 1;
 * - exp, tanh, erf and the like are fixed sequences of + - * / on f32 (math.h of this room).
 * Lanes of a vector are therefore always OUTPUT rows (or the 16 partials), never pieces of one sum.
 *
 * A kernel cannot fail, allocate, or see a struct of the model. Nothing here is shared or global. */
#ifndef NIGH_KERNEL_H
#define NIGH_KERNEL_H

#include "base/base.h"
#include "kernel/kv.h"
#include "kernel/quant.h"

enum { NIGH_ROWS = 16 };            /* rows of a weight matrix that lie interleaved: one group      */
enum { NIGH_BLOCK = 32 };           /* columns of a quantised block of activations                   */

/* What the processor can do (kernel_cpu.c). A flag stands with those before it in its row. */
enum {
    NIGH_CPU_AVX2 = 1, NIGH_CPU_AVX512 = 2 /* F BW VL DQ VNNI */, NIGH_CPU_AMX = 4 /* TILE INT8 */,
    NIGH_CPU_NEON = 8, NIGH_CPU_DOTPROD = 16 /* SDOT */,
    NIGH_CPU_WASM = 32 /* a build has one kind of it: simd128 or relaxed */
};

/* A weight matrix laid out for the kernels: ceil(rows / 16) groups, group_bytes from one to the next, 64-byte
 * aligned; rows that do not exist are zero. The layout of each type is in docs/format-packed.md. Two matrices may lie
 * group by group in turn: then group_bytes is twice what nigh_mat_group_bytes says.
 * out = W x: rows = outputs, cols = inputs. */
typedef struct {
    nigh_type type;
    size_t rows, cols, group_bytes;
    const uint8_t *data;
} nigh_mat;

/* Bytes of one packed group of 16 rows of `cols` columns (a multiple of 64); 0 when the type is not known or cols
 * does not fit the type's block. cols < 2^31. */
size_t nigh_mat_group_bytes(nigh_type type, size_t cols);
/* Packs rows first..first+15 (fewer at the end) of a GGUF matrix into one group. src: the whole matrix as it stands
 * in the file. */
void nigh_mat_pack(nigh_type type, size_t rows, size_t cols, const uint8_t *src, size_t group_idx, uint8_t *dst);
/* One row as f32, from the packed form: the same values that nigh_dequantize gives. out: [cols] */
void nigh_mat_row(const nigh_mat *m, size_t row, float *out);

/* Activations of `count` tokens. x is used by f32/f16/bf16 weights, q/scale/sum by quantised ones.
 * A block of 32: scale = max|x| / 127, q = round-half-even(x * (127 / max|x|)); all 0 when max is below 2^-100. A NaN
 * or an infinity makes the scale NaN and every q 0. cols of quantised weights are a multiple of 32. */
typedef struct {
    size_t cols, count;
    const float *x;                 /* [count][cols]                                                 */
    int8_t *q;                      /* count * cols, in the order of nigh_acts_at, 32 each           */
    float *scale;                   /* count * cols / 32, in the same order                          */
    int32_t *sum;                   /* count * cols / 16, two each: minus the sum of the 32 q; minus */
                                    /* the sums of their halves, as int16, the first one low         */
} nigh_acts;
enum { NIGH_TILE = 16 };            /* tokens whose blocks lie side by side                          */

/* Where block b of a token is kept: [tile of 16 tokens][block][token of the tile], so that a product walks forward. */
static inline size_t nigh_acts_at(const nigh_acts *a, size_t token, size_t b) {
    size_t first = token / NIGH_TILE * NIGH_TILE, width = nigh_min(a->count - first, NIGH_TILE);
    return first * (a->cols / NIGH_BLOCK) + b * width + token % NIGH_TILE;
}

/* Attention of `count` queries that share one key/value head, over a cache in blocks of 64 positions (kv.h). Each block
 * is a softmax of its own, whose part is then folded into what the blocks before it gave, in rising order; so it does
 * not matter who computes a block, nor when.
 *   part    score = sum over d in rising order, capped, minus its distance; top = the largest score of the seen keys
 *           (exact); weight = nigh_weightf(score - top), sums in 16 partials by key mod 16; row = sum of weight * value
 *           over the seen keys in rising order
 *   ints    over a cache of integers products are exact integers; top is 8,191 for I16 and 32,767 for Q8_0
 *           query: rounded as kv.h says, 32 values share a scale, up to top
 *           score = sum over spans of 32 in rising order of (float)isum * (scale of the key * scale of the query)
 *           row, for each span: most = the largest scale of the values of the seen keys; ratio of a key = its scale *
 *           (top / most), 0 when most is below 2^-100; its integer = round-half-even(weight * ratio), 0 for what is not
 *           seen; row = ((float)isum of keys 0..31 + (float)isum of keys 32..63) * (most * (1 / top) + 0 * the sum of
 *           the seen scales in 16 partials): a scale that is NaN makes the row NaN
 *   fold    new top = the larger; keep = nigh_weightf(old top - new top);
 *           add = nigh_weightf(top of the part - new top);
 *           sum = sum * keep + sum of the part * add; out = out * keep + row * add
 * A block of which a query sees nothing leaves it as it was. The end is one multiplication of out by 1 / sum. */
typedef struct {
    size_t count;                   /* queries: several heads of a group, several tokens             */
    size_t head_dim;                /* a multiple of 16 is fast, any is right                        */
    const float *const *q;          /* [count] -> [head_dim], already scaled                         */
    float *const *out;              /* [count] -> [head_dim]                                         */
    const uint32_t *begin, *end;    /* [count]: keys begin..end-1 are seen, begin < end              */
    const uint32_t *pos;            /* [count]: the query's own position (for alibi)                 */
    const float *slope;             /* [count] alibi slope: score -= slope * |pos - key|; or NULL    */
    float softcap;                  /* 0: none; else score = c * tanh(score / c), before alibi       */
    nigh_type type;                 /* of the cache: F32, F16, I16 or Q8_0                           */
    const uint8_t *blocks;          /* block 0 of this head, 64-byte aligned                         */
    size_t block_stride;            /* bytes from one block to the next, a multiple of 64            */
    const uint8_t *next;            /* the block that will be read after this one; NULL: not known   */
    float *scratch;                 /* nigh_attn_scratch(count, head_dim) floats, 64-byte aligned    */
    float *rounded;                 /* nigh_attn_rounded(count, head_dim) floats: the queries as     */
                                    /* integers, for a cache of integers                             */
} nigh_attn;

/* A part: tops, sums (each padded to 16; sum 0: nothing seen), then the rows [count][head_dim]. A state: tops, sums. */
static inline size_t nigh_attn_padded(size_t count) { return nigh_round_up(count, 16); }
static inline size_t nigh_attn_part(size_t count, size_t head_dim) {
    return nigh_round_up(2 * nigh_attn_padded(count) + count * head_dim, 16);
}
static inline size_t nigh_attn_scratch(size_t count, size_t head_dim) {
    size_t spans = head_dim / NIGH_KV_SPAN, padded = nigh_attn_padded(count);
    return nigh_round_up(NIGH_KV_BLOCK * (2 * head_dim + padded + spans) + (padded + 1) * spans, 16);
}
/* Integers int16 [count][head_dim], then their scales [count][head_dim / 32]. */
static inline size_t nigh_attn_rounded(size_t count, size_t head_dim) {
    return nigh_round_up(count * head_dim / 2 + count * (head_dim / NIGH_KV_SPAN) + 1, 16);
}
static inline int16_t *nigh_attn_ints(const nigh_attn *a, size_t i) {
    return (int16_t *)(void *)a->rounded + i * a->head_dim;
}
static inline float *nigh_attn_scales(const nigh_attn *a, size_t i) {
    return a->rounded + a->count * a->head_dim / 2 + i * (a->head_dim / NIGH_KV_SPAN);
}
/* The largest integer of queries and weights: no sum of 32 products leaves 31 bits. */
static inline float nigh_attn_top(nigh_type type) { return type == NIGH_TYPE_Q8_0 ? 32767.0f : 8191.0f; }

typedef struct nigh_kernels {
    const char *name;               /* a word of nigh_cpu_parse                                      */

    /* nigh_mat_pack, or what gives the same bytes. */
    void (*pack)(nigh_type type, size_t rows, size_t cols, const uint8_t *src, size_t group_idx, uint8_t *dst);

    /* Fills q, scale, sum of tokens begin..end-1 from x. */
    void (*quantize)(const nigh_acts *a, size_t begin, size_t end);
    /* The same for blocks first_block..last_block-1 of these tokens only, from values that lie elsewhere: those of
     * token begin at x, of the next one x_stride floats behind. */
    void (*quantize_blocks)(const nigh_acts *a, const float *x, size_t x_stride, size_t begin, size_t end,
                            size_t first_block, size_t last_block);

    /* out[t * out_stride + r] for all tokens t of `a` and the rows r of groups begin..end-1 (rows past m->rows are
     * not written). Quantised: for each block b of 32 columns in rising order acc += (float)isum * (dw * da) isum:
     * exact int32 over the block, sub-scales of 16 included acc += mw * (da * (float)msum)         only for types
     * with a minimum (Q4_1 Q5_1 Q4_K Q5_K Q2_K) with dw, mw and the exact meaning of isum, msum per type in
     * docs/format-packed.md. */
    void (*matmul)(const nigh_mat *m, const nigh_acts *a, float *out, size_t out_stride, size_t begin, size_t end);

    /* out = x / rms(x) * w.  w may be NULL (all 1).  out may be x. */
    void (*rmsnorm)(float *out, const float *x, const float *w, size_t n, float eps);
    /* out = (x - mean) / sqrt(var + eps) * w + b.  b may be NULL.  out may be x. */
    void (*layernorm)(float *out, const float *x, const float *w, const float *b, size_t n, float eps);
    void (*add)(float *x, const float *y, size_t n);                 /* x += y                        */
    void (*scale)(float *x, float by, size_t n);                     /* x *= by                       */
    void (*silu_mul)(float *gate, const float *up, size_t n);        /* gate = silu(gate) * up        */
    void (*gelu_mul)(float *gate, const float *up, size_t n);        /* tanh form                     */
    void (*gelu)(float *x, size_t n);                                /* tanh form                     */
    void (*softcap)(float *x, float cap, size_t n);                  /* x = cap * tanh(x / cap)       */
    /* x = softmax(x); the sum in 16 partials. */
    void (*softmax)(float *x, size_t n);
    /* Rotates the first 2 * half values of one head. cos, sin: [half].
     * adjacent: pairs (2i, 2i+1) (llama); else (i, i + half) (all others). */
    void (*rope)(float *x, const float *cos, const float *sin, size_t half, bool adjacent);
    /* Fills a->rounded for a cache of integers (does nothing for others): once, before the first block. */
    void (*round_queries)(const nigh_attn *a);
    /* The part of one block; what the rows of queries that see nothing of it hold does not matter. */
    void (*attend)(const nigh_attn *a, size_t block, float *part);
    /* Folds a part into out and the state [2][padded count]; before the first block: tops -infinity, sums 0, out 0. */
    void (*fold)(const nigh_attn *a, const float *part, float *state);
} nigh_kernels;

unsigned nigh_cpu_detect(void);                                      /* flags of this processor       */
/* Fills every slot with plain C, then overrides what `cpu` allows. cpu: found flags & mask, so tests can lower it. */
void nigh_kernels_init(nigh_kernels *k, unsigned cpu);
/* "scalar", "avx2", "avx512", "amx", "neon", "dotprod", ...: the flags of that and of what it stands on; false for any
 * other word. */
bool nigh_cpu_parse(nigh_str name, unsigned *flags);

#endif
