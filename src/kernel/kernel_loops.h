/* kernel_loops.h - the elementwise kernels, written once and compiled once for each instruction set.
 *
 * kernel_ref.c and the files of the instruction sets include this file; each build vectorises the loops with its own
 * instructions. Nothing here adds more than 16 partial sums in a stated order, so the bits cannot differ: lane i
 * of a vector is element i, or partial sum i mod 16. */
#include "kernel/kernel.h"
#include "kernel/math.h"

/* The fixed tree: 8 apart, 4, 2, 1. */
static float tree_sum(float p[16]) {
    for (size_t step = 8; step; step /= 2)
        for (size_t i = 0; i < step; i++) p[i] += p[i + step];
    return p[0];
}

static float sum_of(const float *x, size_t n) {
    float p[16] = { 0 };
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t j = 0; j < 16; j++) p[j] += x[i + j];
    for (; i < n; i++) p[i % 16] += x[i];
    return tree_sum(p);
}

/* Sum of (x - mean)^2. */
static float sum_of_squares(const float *x, size_t n, float mean) {
    float p[16] = { 0 };
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t j = 0; j < 16; j++) {
            float v = x[i + j] - mean;
            p[j] += v * v;
        }
    for (; i < n; i++) {
        float v = x[i] - mean;
        p[i % 16] += v * v;
    }
    return tree_sum(p);
}

static float largest_of(const float *x, size_t n) {
    float top[16], best = -__builtin_inff();
    for (size_t j = 0; j < 16; j++) top[j] = best;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t j = 0; j < 16; j++) top[j] = x[i + j] > top[j] ? x[i + j] : top[j];
    for (; i < n; i++) top[i % 16] = x[i] > top[i % 16] ? x[i] : top[i % 16];
    for (size_t j = 0; j < 16; j++) best = top[j] > best ? top[j] : best;
    return best;
}

static void loops_rmsnorm(float *out, const float *x, const float *w, size_t n, float eps) {
    float by = 1.0f / nigh_sqrtf(sum_of_squares(x, n, 0.0f) / (float)n + eps);
    if (w)
        for (size_t i = 0; i < n; i++) out[i] = x[i] * by * w[i];
    else
        for (size_t i = 0; i < n; i++) out[i] = x[i] * by;
}

static void loops_layernorm(float *out, const float *x, const float *w, const float *b, size_t n, float eps) {
    float mean = sum_of(x, n) / (float)n;
    float by = 1.0f / nigh_sqrtf(sum_of_squares(x, n, mean) / (float)n + eps);
    if (b)
        for (size_t i = 0; i < n; i++) out[i] = (x[i] - mean) * by * w[i] + b[i];
    else
        for (size_t i = 0; i < n; i++) out[i] = (x[i] - mean) * by * w[i];
}

static void loops_add(float *x, const float *y, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] += y[i];
}
static void loops_scale(float *x, float by, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] *= by;
}
static void loops_silu_mul(float *gate, const float *up, size_t n) {
    for (size_t i = 0; i < n; i++) gate[i] = nigh_siluf(gate[i]) * up[i];
}
static void loops_gelu_mul(float *gate, const float *up, size_t n) {
    for (size_t i = 0; i < n; i++) gate[i] = nigh_geluf(gate[i]) * up[i];
}
static void loops_gelu(float *x, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = nigh_geluf(x[i]);
}
static void loops_softcap(float *x, float cap, size_t n) {
    for (size_t i = 0; i < n; i++) x[i] = cap * nigh_tanhf(x[i] / cap);
}

/* x = e^(x - top); the sum is left to the caller, who knows which partial each element belongs to. */
static void exp_from(float *x, size_t n, float top) {
    for (size_t i = 0; i < n; i++) x[i] = nigh_expf(x[i] - top);
}

static void loops_softmax(float *x, size_t n) {
    exp_from(x, n, largest_of(x, n));
    loops_scale(x, 1.0f / sum_of(x, n), n);
}

static void loops_rope(float *x, const float *cosine, const float *sine, size_t half, bool adjacent) {
    if (adjacent) {
        for (size_t i = 0; i < half; i++) {
            float a = x[2 * i], b = x[2 * i + 1];
            x[2 * i] = a * cosine[i] - b * sine[i];
            x[2 * i + 1] = a * sine[i] + b * cosine[i];
        }
    } else {
        for (size_t i = 0; i < half; i++) {
            float a = x[i], b = x[i + half];
            x[i] = a * cosine[i] - b * sine[i];
            x[i + half] = a * sine[i] + b * cosine[i];
        }
    }
}

/* One block of activations. The largest size is found on the bits, where a NaN counts as larger than infinity: any of
 * these makes the scale NaN and all q 0, so that the product says NaN. Below 2^-100 the block counts as 0 (127 / max
 * must be finite). */
static float quantize_block(const float *x, int8_t *q) {
    const float magic = 12582912.0f;            /* 1.5 * 2^23: adding it rounds half to even */
    uint32_t top = 0;
    for (size_t i = 0; i < NIGH_BLOCK; i++) {
        uint32_t size = nigh_bits32(x[i]) & 0x7fffffffu;
        top = size > top ? size : top;
    }
    float largest = nigh_float_of(top);
    bool usable = largest >= 0x1p-100f && top < 0x7f800000u;
    if (!usable) {
        memset(q, 0, NIGH_BLOCK);
        return top < 0x7f800000u ? 0.0f : __builtin_nanf("");
    }
    float by = 127.0f / largest;
    for (size_t i = 0; i < NIGH_BLOCK; i++)
        q[i] = (int8_t)(int32_t)(nigh_bits32(x[i] * by + magic) - nigh_bits32(magic));
    return largest / 127.0f;
}

static void loops_quantize_blocks(const nigh_acts *a, const float *x, size_t x_stride, size_t begin, size_t end,
                                  size_t first_block, size_t last_block) {
    for (size_t t = begin; t < end; t++, x += x_stride)
        for (size_t b = first_block; b < last_block; b++) {
            size_t at = nigh_acts_at(a, t, b);
            int8_t *q = a->q + at * NIGH_BLOCK;
            int32_t half[2] = { 0, 0 };
            a->scale[at] = quantize_block(x + (b - first_block) * NIGH_BLOCK, q);
            for (size_t i = 0; i < 16; i++) {
                half[0] -= q[i];
                half[1] -= q[16 + i];
            }
            a->sum[2 * at] = half[0] + half[1];
            a->sum[2 * at + 1] = (int32_t)(((uint32_t)half[0] & 0xffffu) | (uint32_t)half[1] << 16);
        }
}

static void loops_quantize(const nigh_acts *a, size_t begin, size_t end) {
    loops_quantize_blocks(a, a->x + begin * a->cols, a->cols, begin, end, 0, a->cols / NIGH_BLOCK);
}

static void loops_round_queries(const nigh_attn *a) {
    if (!nigh_kv_is_int(a->type)) return;
    for (size_t i = 0; i < a->count; i++)
        for (size_t s = 0; s < a->head_dim / NIGH_KV_SPAN; s++)
            nigh_attn_scales(a, i)[s] = nigh_kv_round(a->q[i] + s * NIGH_KV_SPAN, nigh_attn_top(a->type),
                                                      nigh_attn_ints(a, i) + s * NIGH_KV_SPAN);
}

/* Sixteen queries at a time: what to multiply by, then their rows. A sum of 0 says that nothing was seen. */
static void loops_fold(const nigh_attn *a, const float *part, float *state) {
    size_t padded = nigh_attn_padded(a->count), dims = a->head_dim;
    for (size_t first = 0; first < padded; first += 16) {
        float *top = state + first, *sum = top + padded, keep[16], add[16];
        const float *part_top = part + first, *part_sum = part_top + padded;
        for (size_t i = 0; i < 16; i++) {
            float best = part_top[i] > top[i] ? part_top[i] : top[i];
            keep[i] = nigh_weightf(top[i] - best);
            add[i] = nigh_weightf(part_top[i] - best);
            float both = sum[i] * keep[i] + part_sum[i] * add[i];
            top[i] = part_sum[i] != 0.0f ? best : top[i];
            sum[i] = part_sum[i] != 0.0f ? both : sum[i];
        }
        for (size_t i = 0; i < 16 && first + i < a->count; i++) {
            const float *row = part + 2 * padded + (first + i) * dims;
            float *out = a->out[first + i], old = keep[i], by = add[i];
            if (part_sum[i] == 0.0f) continue;
            for (size_t d = 0; d < dims; d++) out[d] = out[d] * old + row[d] * by;
        }
    }
}

static void loops_fill(nigh_kernels *k) {
    k->quantize = loops_quantize;
    k->quantize_blocks = loops_quantize_blocks;
    k->rmsnorm = loops_rmsnorm;
    k->layernorm = loops_layernorm;
    k->add = loops_add;
    k->scale = loops_scale;
    k->silu_mul = loops_silu_mul;
    k->gelu_mul = loops_gelu_mul;
    k->gelu = loops_gelu;
    k->softcap = loops_softcap;
    k->softmax = loops_softmax;
    k->rope = loops_rope;
    k->round_queries = loops_round_queries;
    k->fold = loops_fold;
}
