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
        acc[r] += (float)msum * (t->mw[r] * da);
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

/* ---- attention ---- */

/* score[key] for begin..end-1: the product with each key, capped, with its distance. */
static void scores_of(const nigh_attn *a, size_t i, float *score) {
    const float *q = a->q[i];
    for (size_t key = a->begin[i]; key < a->end[i]; key++) {
        const float *k = a->k + key / 16 * 16 * a->head_dim + key % 16;
        float s = 0.0f;
        for (size_t d = 0; d < a->head_dim; d++) s += q[d] * k[d * 16];
        if (a->softcap != 0.0f) s = a->softcap * nigh_tanhf(s / a->softcap);
        if (a->slope) s -= a->slope[i] * (float)(a->pos[i] > key ? a->pos[i] - key : key - a->pos[i]);
        score[key] = s;
    }
}

static void ref_attend(const nigh_attn *a) {
    float *score = a->scratch;
    for (size_t i = 0; i < a->count; i++) {
        size_t begin = a->begin[i], end = a->end[i];
        float partial[16] = { 0 }, *out = a->out[i];
        scores_of(a, i, score);
        float top = largest_of(score + begin, end - begin);
        for (size_t key = begin; key < end; key++) {
            score[key] = nigh_expf(score[key] - top);
            partial[key % 16] += score[key];
        }
        for (size_t d = 0; d < a->head_dim; d++) out[d] = 0.0f;
        for (size_t key = begin; key < end; key++)
            for (size_t d = 0; d < a->head_dim; d++) out[d] += score[key] * a->v[key * a->v_stride + d];
        loops_scale(out, 1.0f / tree_sum(partial), a->head_dim);
    }
}

void nigh_kernels_ref(nigh_kernels *k) {
    k->name = "scalar";
    loops_fill(k);
    k->matmul = ref_matmul;
    k->attend = ref_attend;
}
