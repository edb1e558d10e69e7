/* test_kernel.c - the definition against double arithmetic, every instruction set against the definition, bit for bit. */
#include "kernel/kernel.h"
#include "kernel/math.h"

#include <math.h>

#include "test.h"

static const nigh_type all_types[] = {
    NIGH_TYPE_F32, NIGH_TYPE_F16, NIGH_TYPE_BF16, NIGH_TYPE_Q4_0, NIGH_TYPE_Q4_1, NIGH_TYPE_Q5_0, NIGH_TYPE_Q5_1, NIGH_TYPE_Q8_0,
    NIGH_TYPE_Q2_K, NIGH_TYPE_Q3_K, NIGH_TYPE_Q4_K, NIGH_TYPE_Q5_K, NIGH_TYPE_Q6_K, NIGH_TYPE_IQ4_NL, NIGH_TYPE_IQ4_XS,
};

enum { GUARD = 64 };                /* floats round every output, that nobody may touch */

static float guard_value(void) { return nigh_float_of(0x7fc0beefu); }

static float *guarded(size_t n) {
    float *p = malloc((n + 2 * GUARD) * sizeof *p);
    for (size_t i = 0; i < n + 2 * GUARD; i++) p[i] = guard_value();
    return p + GUARD;
}
static bool guards_stand(const float *p, size_t n) {
    for (size_t i = 0; i < GUARD; i++)
        if (nigh_bits32(p[-1 - (long)i]) != 0x7fc0beefu || nigh_bits32(p[n + i]) != 0x7fc0beefu) return false;
    return true;
}
static void guarded_free(float *p) { free(p - GUARD); }

static float rand_float(uint64_t *state) { /* a bell of deviation 1 or so */
    float sum = 0;
    for (int i = 0; i < 4; i++) sum += (float)(test_rand(state) >> 40) * 0x1p-24f;
    return (sum - 2.0f) * 1.7f;
}

/* ---- a matrix of random blocks and its packed form ---- */

typedef struct { nigh_mat mat; uint8_t *src, *packed; size_t row_bytes; } matrix;

/* Makes the f16 at p a usual scale. */
static void tame(uint8_t *p, uint64_t *state, float size) {
    uint16_t h = nigh_f32_to_f16((0.5f + (float)(test_rand(state) >> 40) * 0x1p-24f) * size);
    p[0] = (uint8_t)h;
    p[1] = (uint8_t)(h >> 8);
}

static void tame_block(nigh_type type, uint8_t *p, uint64_t *state) {
    switch (type) {
    case NIGH_TYPE_F32: {
        float f = rand_float(state);
        memcpy(p, &f, 4);
        break;
    }
    case NIGH_TYPE_BF16: p[1] = (uint8_t)((p[1] & 0x80) | 0x3f); break;
    case NIGH_TYPE_F16: tame(p, state, test_rand(state) & 1 ? 1.0f : -1.0f); break;
    case NIGH_TYPE_Q4_1:
    case NIGH_TYPE_Q5_1: tame(p, state, 0.01f); tame(p + 2, state, -0.1f); break;
    case NIGH_TYPE_Q4_K:
    case NIGH_TYPE_Q5_K: tame(p, state, 0.001f); tame(p + 2, state, 0.01f); break;
    case NIGH_TYPE_Q2_K: tame(p + 80, state, 0.01f); tame(p + 82, state, 0.01f); break;
    case NIGH_TYPE_Q3_K: tame(p + 108, state, 0.01f); break;
    case NIGH_TYPE_Q6_K: tame(p + 208, state, 0.001f); break;
    default: tame(p, state, 0.01f); break;
    }
}

static matrix matrix_new(nigh_type type, size_t rows, size_t cols, bool hostile, uint64_t *state) {
    const nigh_type_info *info = nigh_type_find(type);
    matrix m = { { type, rows, cols, nigh_mat_group_bytes(type, cols), NULL }, NULL, NULL, 0 };
    m.row_bytes = cols / info->block_values * info->block_bytes;
    m.src = malloc(rows * m.row_bytes);
    for (size_t i = 0; i < rows * m.row_bytes; i++) m.src[i] = (uint8_t)test_rand(state);
    if (!hostile)
        for (size_t i = 0; i < rows * m.row_bytes; i += info->block_bytes) tame_block(type, m.src + i, state);
    size_t groups = (rows + 15) / 16;
    m.packed = nigh_alloc(m.mat.group_bytes, groups);
    for (size_t g = 0; g < groups; g++) nigh_mat_pack(type, rows, cols, m.src, g, m.packed + g * m.mat.group_bytes);
    m.mat.data = m.packed;
    return m;
}
static void matrix_free(matrix *m) {
    free(m->src);
    nigh_free(m->packed);
}

static nigh_acts acts_new(size_t cols, size_t count, uint64_t *state) {
    nigh_acts a = { .cols = cols, .count = count };
    float *x = nigh_alloc(count * cols, sizeof *x);
    for (size_t i = 0; i < count * cols; i++) x[i] = rand_float(state);
    a.x = x;
    a.q = nigh_alloc(count * cols + 64, 1);
    a.scale = nigh_alloc(count * (cols / 32) + 1, sizeof *a.scale);
    a.sum = nigh_alloc(count * (cols / 16) + 1, sizeof *a.sum);
    return a;
}
static void acts_free(nigh_acts *a) {
    nigh_free((void *)(uintptr_t)a->x);
    nigh_free(a->q);
    nigh_free(a->scale);
    nigh_free(a->sum);
}

/* ---- the packed form ---- */

static void test_packed_means_the_same(void) {
    uint64_t state = test_seed();
    for (size_t i = 0; i < NIGH_COUNT(all_types); i++)
        for (int hostile = 0; hostile < 2; hostile++) {
            size_t rows = 21, cols = 512;
            matrix m = matrix_new(all_types[i], rows, cols, hostile, &state);
            float want[512], got[512];
            for (size_t r = 0; r < rows; r++) {
                nigh_dequantize(all_types[i], m.src + r * m.row_bytes, want, cols);
                nigh_mat_row(&m.mat, r, got);
                CHECK_MSG(!memcmp(want, got, sizeof want), "%s row %zu", nigh_type_name(all_types[i]), r);
            }
            CHECK_MSG((double)m.mat.group_bytes <= 1.04 * 16.0 * (double)m.row_bytes, "%s", nigh_type_name(all_types[i]));
            matrix_free(&m);
        }
    CHECK(nigh_mat_group_bytes(NIGH_TYPE_Q4_0, 33) == 0 && nigh_mat_group_bytes(NIGH_TYPE_Q4_K, 32) == 0);
    CHECK(nigh_mat_group_bytes(NIGH_TYPE_F32, 0) == 0 && nigh_mat_group_bytes((nigh_type)16, 256) == 0);
    CHECK(nigh_mat_group_bytes(NIGH_TYPE_F16, 33) == 33 * 32 + 32);
}

/* The definition of matmul against dequantised weights and rounded activations, in double. */
static void test_ref_matmul_is_right(void) {
    uint64_t state = test_seed();
    nigh_kernels k;
    nigh_kernels_init(&k, 0);
    for (size_t i = 0; i < NIGH_COUNT(all_types); i++) {
        size_t rows = 37, cols = 768, count = 3;
        bool quantised = all_types[i] != NIGH_TYPE_F32 && all_types[i] != NIGH_TYPE_F16 && all_types[i] != NIGH_TYPE_BF16;
        matrix m = matrix_new(all_types[i], rows, cols, false, &state);
        nigh_acts a = acts_new(cols, count, &state);
        k.quantize(&a, 0, count);
        float *out = guarded(rows * count), w[768];
        k.matmul(&m.mat, &a, out, rows, 0, 3);
        double worst = 0;
        for (size_t r = 0; r < rows; r++) {
            nigh_dequantize(all_types[i], m.src + r * m.row_bytes, w, cols);
            for (size_t t = 0; t < count; t++) {
                double want = 0, size = 0;
                for (size_t c = 0; c < cols; c++) {
                    double x = quantised ? (double)a.scale[t * 24 + c / 32] * a.q[t * cols + c] : (double)a.x[t * cols + c];
                    want += x * w[c];
                    size += fabs(x * w[c]);
                }
                worst = fmax(worst, fabs(out[t * rows + r] - want) / size);
            }
        }
        CHECK_MSG(worst < 2e-6, "%s: off by %g of the size", nigh_type_name(all_types[i]), worst);
        CHECK(guards_stand(out, rows * count));
        guarded_free(out);
        acts_free(&a);
        matrix_free(&m);
    }
}

/* ---- math.h against the C library ---- */

static void test_math_f32(void) {
    double worst_exp = 0, worst_tanh = 0, worst_silu = 0;
    for (int i = -869800; i <= 880000; i += 7) {
        float x = (float)i * 1e-4f;
        double want = exp((double)x), sigmoid = 1 / (1 + exp(-(double)x));
        worst_exp = fmax(worst_exp, fabs(nigh_expf(x) / want - 1));
        if (i) worst_tanh = fmax(worst_tanh, fabs(nigh_tanhf(x) / tanh((double)x) - 1));
        worst_silu = fmax(worst_silu, fabs(nigh_siluf(x) - x * sigmoid) / (1e-30 + fabs(x)));
    }
    CHECK_MSG(worst_exp < 2e-7 && worst_tanh < 2.5e-7 && worst_silu < 2e-7, "%g %g %g", worst_exp, worst_tanh, worst_silu);
    CHECK(nigh_expf(0) == 1 && nigh_expf(-88) == 0 && nigh_expf(-1e30f) == 0 && isinf(nigh_expf(88.8f)) && isinf(nigh_expf(1e30f)));
    CHECK(isfinite(nigh_expf(88.7f)) && nigh_expf(-INFINITY) == 0 && isinf(nigh_expf(INFINITY)) && isnan(nigh_expf(NAN)));
    CHECK(nigh_tanhf(100) == 1 && nigh_tanhf(-100) == -1 && nigh_tanhf(0) == 0 && isnan(nigh_tanhf(NAN)));
    CHECK(nigh_geluf(-20) == 0 && nigh_geluf(20) == 20 && fabsf(nigh_geluf(1) - 0.8411920f) < 1e-6f);
}

static void test_math_f64(void) {
    double worst_exp = 0, worst_log = 0, worst_sine = 0, worst_pow = 0;
    uint64_t state = test_seed();
    for (int i = 0; i < 200000; i++) {
        double u = (double)(test_rand(&state) >> 11) * 0x1p-53, x = (u - 0.5) * 1400, s, c;
        worst_exp = fmax(worst_exp, fabs(nigh_exp64(x) / exp(x) - 1));
        double y = exp(x);
        worst_log = fmax(worst_log, fabs(nigh_log64(y) - log(y)) / fabs(log(y)));
        worst_log = fmax(worst_log, fabs(nigh_log64(u + 0.5) - log(u + 0.5)) / fabs(log(u + 0.5)));
        x = (u - 0.5) * (i % 2 ? 10 : 2e6);
        nigh_sincos64(x, &s, &c);
        worst_sine = fmax(worst_sine, fmax(fabs(s - sin(x)), fabs(c - cos(x))));
        worst_pow = fmax(worst_pow, fabs(nigh_pow64(1e6, -u) / pow(1e6, -u) - 1));
    }
    CHECK_MSG(worst_exp < 1e-15 && worst_log < 1e-15 && worst_sine < 1e-15 && worst_pow < 1e-14, "%g %g %g %g", worst_exp, worst_log,
              worst_sine, worst_pow);
    CHECK(nigh_exp64(0) == 1 && nigh_exp64(-800) == 0 && isinf(nigh_exp64(800)) && isnan(nigh_exp64(NAN)) && nigh_exp64(-744) > 0);
    CHECK(nigh_log64(1) == 0 && isinf(nigh_log64(0)) && isnan(nigh_log64(-1)) && isnan(nigh_log64(NAN)) && isinf(nigh_log64(INFINITY)));
    CHECK(fabs(nigh_log64(5e-324) / log(5e-324) - 1) < 1e-15);
    double s, c;
    nigh_sincos64(NAN, &s, &c);
    CHECK(s == 0 && c == 1);
}

TEST_MAIN(T(test_packed_means_the_same), T(test_ref_matmul_is_right), T(test_math_f32), T(test_math_f64))
