/* kernel_ref.c - all the arithmetic of the engine in plain C. This is the definition: where another file gives
 * other bits, the other file is wrong. Written to be read; the elementwise half is in kernel_loops.h.
 *
 * Also what runs where no faster file exists. Sums follow the contract in kernel.h: one sum per output, over
 * blocks or columns in rising order, products rounded before they are added. */
#include "kernel/kernel_isa.h"
#include "kernel/kernel_loops.h"
#include "kernel/pack.h"

enum { TOKENS = NIGH_TILE };            /* tokens that share one decoded block of weights */

/* The integer sums of 16 rows for one token: exact, in any order. Bound, all types: |w| <= 128, |q| <= 127, so a half
 * is at most 16 * 128 * 127 = 260,096 without sub-scales; the largest with them is Q6_K, 2 * 16 * 32 * 127 * 128 =
 * 16,646,144. */
static void block_sums(const nigh_tile *t, const int8_t *q, int32_t isum[NIGH_ROWS]) {
    int32_t half[2][NIGH_ROWS] = { { 0 } };
    for (size_t c = 0; c < NIGH_BLOCK; c++)
        for (size_t r = 0; r < NIGH_ROWS; r++) half[c / 16][r] += t->w[c][r] * q[c];
    for (size_t r = 0; r < NIGH_ROWS; r++) isum[r] = t->sc[0][r] * half[0][r] + t->sc[1][r] * half[1][r];
}

/* One block of 32 columns of one token, added to the sums of 16 rows. */
static void add_block(const nigh_tile *t, bool has_min, const nigh_acts *a, size_t token, size_t block, float *acc) {
    float da = a->scale[nigh_acts_at(a, token, block)];
    const int8_t *q = a->q + nigh_acts_at(a, token, block) * NIGH_BLOCK;
    int32_t isum[NIGH_ROWS], half[2] = { 0, 0 };
    block_sums(t, q, isum);
    for (size_t r = 0; r < NIGH_ROWS; r++) acc[r] += (float)isum[r] * (t->dw[r] * da);
    if (!has_min) return;
    for (size_t c = 0; c < NIGH_BLOCK; c++) half[c / 16] -= q[c];
    for (size_t r = 0; r < NIGH_ROWS; r++) {
        int32_t msum = t->mn[0][r] * half[0] + t->mn[1][r] * half[1];
        acc[r] += t->mw[r] * (da * (float)msum);
    }
}

static void store_rows(const nigh_mat *m, size_t group, const float *acc, float *out) {
    size_t first = group * NIGH_ROWS;
    memcpy(out + first, acc, nigh_min(m->rows - first, NIGH_ROWS) * sizeof *out);
}

static void matmul_quant(const nigh_mat *m, const nigh_acts *a, float *out, size_t out_stride, size_t group) {
    nigh_form f = nigh_form_of(m->type);
    for (size_t first = 0; first < a->count; first += TOKENS) {
        size_t count = nigh_min(a->count - first, TOKENS);
        float acc[TOKENS][NIGH_ROWS] = { { 0 } };
        nigh_tile tile;
        for (size_t b = 0; b < m->cols / NIGH_BLOCK; b++) {
            nigh_tile_read(m, group, b, &tile);
            for (size_t t = 0; t < count; t++) add_block(&tile, f.has_min, a, first + t, b, acc[t]);
        }
        for (size_t t = 0; t < count; t++) store_rows(m, group, acc[t], out + (first + t) * out_stride);
    }
}

static void matmul_float(const nigh_mat *m, const nigh_acts *a, float *out, size_t out_stride, size_t group) {
    const nigh_type_info *info = nigh_type_find(m->type);
    const uint8_t *data = m->data + group * m->group_bytes;
    for (size_t first = 0; first < a->count; first += TOKENS) {
        size_t count = nigh_min(a->count - first, TOKENS);
        float acc[TOKENS][NIGH_ROWS] = { { 0 } }, w[NIGH_ROWS];
        for (size_t c = 0; c < m->cols; c++) {
            nigh_dequantize(m->type, data + c * NIGH_ROWS * info->block_bytes, w, NIGH_ROWS);
            for (size_t t = 0; t < count; t++) {
                float x = a->x[(first + t) * a->cols + c];
                for (size_t r = 0; r < NIGH_ROWS; r++) acc[t][r] += w[r] * x;
            }
        }
        for (size_t t = 0; t < count; t++) store_rows(m, group, acc[t], out + (first + t) * out_stride);
    }
}

static void ref_matmul(const nigh_mat *m, const nigh_acts *a, float *out, size_t out_stride, size_t begin, size_t end) {
    assert(m->cols == a->cols && end * NIGH_ROWS < m->rows + NIGH_ROWS);
    for (size_t g = begin; g < end; g++) {
        if (nigh_form_of(m->type).bits) matmul_quant(m, a, out, out_stride, g);
        else matmul_float(m, a, out, out_stride, g);
    }
}

/* ---- attention: one block of 64 keys ---- */

/* The keys lo..hi-1 of a block that the query sees; none when lo >= hi. */
typedef struct { size_t lo, hi; } range;

static range seen(const nigh_attn *a, size_t i, size_t block) {
    size_t first = block * NIGH_KV_BLOCK, begin = nigh_max(a->begin[i], first), end = nigh_max(a->end[i], first);
    return (range){ begin - first, nigh_min(end - first, NIGH_KV_BLOCK) };
}

/* The keys [dims][64] and the values [64][dims] of a block as f32, in the scratch. */
static void unpack(const nigh_attn *a, const uint8_t *kv) {
    float *keys = a->scratch, *values = keys + NIGH_KV_BLOCK * a->head_dim;
    for (size_t key = 0; key < NIGH_KV_BLOCK; key++)
        for (size_t d = 0; d < a->head_dim; d++) {
            keys[d * NIGH_KV_BLOCK + key] = nigh_kv_key(a->type, kv, a->head_dim, key, d);
            values[key * a->head_dim + d] = nigh_kv_value(a->type, kv, a->head_dim, key, d);
        }
}

/* score[key]: the product with each key of the block. */
static void float_scores(const nigh_attn *a, size_t i, float *score) {
    memset(score, 0, NIGH_KV_BLOCK * sizeof *score);
    for (size_t d = 0; d < a->head_dim; d++)
        for (size_t key = 0; key < NIGH_KV_BLOCK; key++) score[key] += a->q[i][d] * a->scratch[d * NIGH_KV_BLOCK + key];
}

static void int_scores(const nigh_attn *a, size_t i, const uint8_t *kv, float *score) {
    const float *scales = nigh_kv_scales(a->type, kv, a->head_dim);
    const int16_t *q = nigh_attn_ints(a, i);
    for (size_t key = 0; key < NIGH_KV_BLOCK; key++) {
        score[key] = 0;
        for (size_t s = 0; s < a->head_dim / NIGH_KV_SPAN; s++) {
            int32_t sum = 0;
            for (size_t d = s * NIGH_KV_SPAN; d < (s + 1) * NIGH_KV_SPAN; d++)
                sum += q[d] * nigh_kv_int(a->type, kv, nigh_kv_key_at(a->head_dim, key, d));
            score[key] +=
                (float)sum * (scales[nigh_kv_key_scale_at(a->head_dim, key, s)] * nigh_attn_scales(a, i)[s]);
        }
    }
}

static void cap_and_distance(const nigh_attn *a, size_t i, size_t block, range r, float *score) {
    for (size_t key = r.lo; key < r.hi; key++) {
        size_t pos = block * NIGH_KV_BLOCK + key;
        if (a->softcap != 0.0f) score[key] = a->softcap * nigh_tanhf(score[key] / a->softcap);
        if (a->slope) score[key] -= a->slope[i] * (float)(a->pos[i] > pos ? a->pos[i] - pos : pos - a->pos[i]);
    }
}

static void float_row(const nigh_attn *a, range r, const float *weight, float *row) {
    const float *values = a->scratch + NIGH_KV_BLOCK * a->head_dim;
    memset(row, 0, a->head_dim * sizeof *row);
    for (size_t key = r.lo; key < r.hi; key++)
        for (size_t d = 0; d < a->head_dim; d++) row[d] += weight[key] * values[key * a->head_dim + d];
}

/* The 32 values of span s of a row. */
static void int_span(const nigh_attn *a, const uint8_t *kv, range r, size_t s, const float *weight, float *row) {
    const uint8_t *values = kv + nigh_kv_half_bytes(a->type, a->head_dim);
    const float *scale = nigh_kv_scales(a->type, values, a->head_dim) + s * NIGH_KV_BLOCK, magic = 12582912.0f;
    float partial[16] = { 0 }, top = nigh_attn_top(a->type), most = largest_of(scale + r.lo, r.hi - r.lo);
    bool usable = most >= 0x1p-100f;
    float by = usable ? top / most : 0.0f;
    int32_t w[NIGH_KV_BLOCK];
    for (size_t key = r.lo; key < r.hi; key++) {
        float share = weight[key] * (scale[key] * by);
        partial[key % 16] += scale[key];
        w[key] = share == share ? (int32_t)((share + magic) - magic) : 0;
    }
    float back = (usable ? most * (1.0f / top) : 0.0f) + 0.0f * tree_sum(partial);
    for (size_t d = s * NIGH_KV_SPAN; d < (s + 1) * NIGH_KV_SPAN; d++) {
        int32_t sum[2] = { 0, 0 };
        for (size_t key = r.lo; key < r.hi; key++)
            sum[key / 32] += w[key] * nigh_kv_int(a->type, values, nigh_kv_value_at(a->head_dim, key, d));
        row[d] = ((float)sum[0] + (float)sum[1]) * back;
    }
}

static void ref_attend(const nigh_attn *a, size_t block, float *part) {
    size_t dims = a->head_dim, padded = nigh_attn_padded(a->count);
    const uint8_t *kv = a->blocks + block * a->block_stride;
    float *top = part, *sum = part + padded, weight[NIGH_KV_BLOCK];
    bool ints = nigh_kv_is_int(a->type);
    if (!ints) unpack(a, kv);
    memset(sum, 0, padded * sizeof *sum);
    for (size_t i = 0; i < padded; i++) top[i] = -__builtin_inff();
    for (size_t i = 0; i < a->count; i++) {
        float partial[16] = { 0 }, *row = part + 2 * padded + i * dims;
        range r = seen(a, i, block);
        if (r.lo >= r.hi) continue;
        if (ints) int_scores(a, i, kv, weight);
        else float_scores(a, i, weight);
        cap_and_distance(a, i, block, r, weight);
        top[i] = largest_of(weight + r.lo, r.hi - r.lo);
        for (size_t key = r.lo; key < r.hi; key++) {
            weight[key] = nigh_weightf(weight[key] - top[i]);
            partial[key % 16] += weight[key];
        }
        sum[i] = tree_sum(partial);
        if (!ints) float_row(a, r, weight, row);
        for (size_t s = 0; ints && s < dims / NIGH_KV_SPAN; s++) int_span(a, kv, r, s, weight, row);
    }
}

void nigh_kernels_ref(nigh_kernels *k) {
    k->name = "scalar";
    loops_fill(k);
    k->pack = nigh_mat_pack;
    k->matmul = ref_matmul;
    k->attend = ref_attend;
}
