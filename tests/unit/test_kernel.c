/* test_kernel.c - the definition against double arithmetic, every instruction set against the definition, bit for
 * bit. */
#define _GNU_SOURCE                                     /* for cpu_of_tests.h */
#include "kernel/kernel.h"
#include "kernel/math.h"

#include <math.h>

#include "test.h"

#include "cpu_of_tests.h"

static const nigh_type all_types[] = {
    NIGH_TYPE_F32,  NIGH_TYPE_F16,  NIGH_TYPE_BF16, NIGH_TYPE_Q4_0,   NIGH_TYPE_Q4_1,
    NIGH_TYPE_Q5_0, NIGH_TYPE_Q5_1, NIGH_TYPE_Q8_0, NIGH_TYPE_Q2_K,   NIGH_TYPE_Q3_K,
    NIGH_TYPE_Q4_K, NIGH_TYPE_Q5_K, NIGH_TYPE_Q6_K, NIGH_TYPE_IQ4_NL, NIGH_TYPE_IQ4_XS,
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

enum { PACK_GUARD = 64 };           /* bytes round a packed matrix */

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
    size_t groups = (rows + 15) / 16, bytes = groups * m.mat.group_bytes;
    uint8_t *memory = nigh_alloc(bytes + 2 * PACK_GUARD, 1);
    memset(memory, 0xa5, bytes + 2 * PACK_GUARD);       /* packing writes every byte of a group and no other */
    m.packed = memory + PACK_GUARD;
    for (size_t g = groups; g-- > 0;) nigh_mat_pack(type, rows, cols, m.src, g, m.packed + g * m.mat.group_bytes);
    bool whole = true;
    for (size_t i = 0; i < PACK_GUARD; i++) whole = whole && memory[i] == 0xa5 && m.packed[bytes + i] == 0xa5;
    CHECK_MSG(whole, "packing %s, %zu rows, %zu columns, wrote past its group", info->name, rows, cols);
    m.mat.data = m.packed;
    return m;
}
static void matrix_free(matrix *m) {
    free(m->src);
    nigh_free(m->packed - PACK_GUARD);
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

/* Rows that do not exist, and what fills up the last line of a group, are zero bytes: packed twice, they are equal. */
static void check_missing_rows(const matrix *m) {
    size_t groups = (m->mat.rows + 15) / 16, bytes = m->mat.group_bytes;
    uint8_t *again = malloc(bytes);
    for (size_t g = 0; g < groups; g++) {
        memset(again, 0x5a, bytes);
        nigh_mat_pack(m->mat.type, m->mat.rows, m->mat.cols, m->src, g, again);
        CHECK_MSG(!memcmp(again, m->packed + g * bytes, bytes), "%s leaves bytes of a group as they were",
                  nigh_type_name(m->mat.type));
    }
    free(again);
}

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
            CHECK_MSG((double)m.mat.group_bytes <= 1.04 * 16.0 * (double)m.row_bytes, "%s",
                      nigh_type_name(all_types[i]));
            check_missing_rows(&m);
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
        bool quantised =
            all_types[i] != NIGH_TYPE_F32 && all_types[i] != NIGH_TYPE_F16 && all_types[i] != NIGH_TYPE_BF16;
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
                    size_t at = quantised ? nigh_acts_at(&a, t, c / 32) : 0;
                    double x = quantised ? (double)a.scale[at] * a.q[at * 32 + c % 32] : (double)a.x[t * cols + c];
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
    CHECK_MSG(worst_exp < 2e-7 && worst_tanh < 2.5e-7 && worst_silu < 2e-7, "%g %g %g", worst_exp, worst_tanh,
              worst_silu);
    CHECK(nigh_expf(0) == 1 && nigh_expf(-88) == 0 && nigh_expf(-1e30f) == 0 && isinf(nigh_expf(88.8f))
          && isinf(nigh_expf(1e30f)));
    CHECK(isfinite(nigh_expf(88.7f)) && nigh_expf(-INFINITY) == 0 && isinf(nigh_expf(INFINITY))
          && isnan(nigh_expf(NAN)));
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
    CHECK_MSG(worst_exp < 1e-15 && worst_log < 1e-15 && worst_sine < 1e-15 && worst_pow < 1e-14, "%g %g %g %g",
              worst_exp, worst_log, worst_sine, worst_pow);
    CHECK(nigh_exp64(0) == 1 && nigh_exp64(-800) == 0 && isinf(nigh_exp64(800)) && isnan(nigh_exp64(NAN))
          && nigh_exp64(-744) > 0);
    CHECK(nigh_log64(1) == 0 && isinf(nigh_log64(0)) && isnan(nigh_log64(-1)) && isnan(nigh_log64(NAN))
          && isinf(nigh_log64(INFINITY)));
    CHECK(fabs(nigh_log64(5e-324) / log(5e-324) - 1) < 1e-15);
    double s, c;
    nigh_sincos64(NAN, &s, &c);
    CHECK(s == 0 && c == 1);
}

/* ---- every instruction set against plain C, bit for bit ---- */

/* Equal bits; any NaN equals any NaN (which of two NaNs a sum keeps is not part of the contract). */
static bool same_bits(const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (nigh_bits32(a[i]) != nigh_bits32(b[i]) && !(isnan(a[i]) && isnan(b[i]))) return false;
    return true;
}

/* The tables to compare: those of this processor. ref: plain C. */
typedef struct { nigh_kernels ref, isa[5]; size_t count; } tables;

static tables tables_new(void) {
    static const char *const names[] = { "avx2", "avx512", "amx", "neon", "dotprod" };
    tables t = { .count = 0 };
    nigh_kernels_init(&t.ref, 0);
    for (size_t i = 0; i < NIGH_COUNT(names); i++) {
        unsigned cpu;
        CHECK(nigh_cpu_parse(nigh_str_of(names[i]), &cpu));
        nigh_kernels_init(&t.isa[t.count], cpu & cpu_of_tests());
        if (!strcmp(t.isa[t.count].name, names[i])) t.count++;
    }
    return t;
}

/* Packs one group in another way: the same bytes as plain C's, every one of them and no other. */
static void check_pack(const nigh_kernels *k, const matrix *m, size_t group) {
    size_t bytes = m->mat.group_bytes;
    uint8_t *memory = nigh_alloc(bytes + 2 * PACK_GUARD, 1), *again = memory + PACK_GUARD;
    memset(memory, 0xa5, bytes + 2 * PACK_GUARD);
    k->pack(m->mat.type, m->mat.rows, m->mat.cols, m->src, group, again);
    bool same = !memcmp(again, m->packed + group * bytes, bytes);
    for (size_t b = 0; b < PACK_GUARD; b++) same = same && memory[b] == 0xa5 && again[bytes + b] == 0xa5;
    CHECK_MSG(same, "%s packs %s with %zu columns otherwise", k->name, nigh_type_name(m->mat.type), m->mat.cols);
    nigh_free(memory);
}

static void test_pack(void) {
    uint64_t state = test_seed();
    tables t = tables_new();
    for (size_t i = 0; i < NIGH_COUNT(all_types); i++)
        for (size_t cols = 256; cols <= 800; cols += 32) {
            if (cols % nigh_type_find(all_types[i])->block_values) continue;
            matrix m = matrix_new(all_types[i], 16 + 16 * (cols % 64 == 0) + 3, cols, true, &state);
            for (size_t n = 0; n < t.count; n++)
                for (size_t g = 0; g < (m.mat.rows + 15) / 16; g++) check_pack(&t.isa[n], &m, g);
            matrix_free(&m);
        }
}

/* Extreme blocks: nothing, NaN, infinity, tiny, all at the largest size, one large value. */
static void make_extreme(float *x, size_t n, uint64_t *state) {
    static const float odd[] = { 0, -0.0f, 1e-30f, 1e-38f, 1e-45f, 3e38f, -3e38f };
    for (size_t b = 0; b + 32 <= n; b += 32)
        switch (test_rand(state) % 12) {
        case 0: memset(x + b, 0, 32 * sizeof *x); break;
        case 1: x[b + 5] = NAN; break;
        case 2: x[b + 31] = -INFINITY; break;
        case 3: for (size_t i = 0; i < 32; i++) x[b + i] = i % 2 ? 2.5f : -2.5f; break;
        case 4: for (size_t i = 0; i < 32; i++) x[b + i] = odd[test_rand(state) % NIGH_COUNT(odd)]; break;
        case 5: for (size_t i = 0; i < 32; i++) x[b + i] *= 1e-32f; break;
        case 6: for (size_t i = 0; i < 32; i++) x[b + i] = 3.0f; break;
        default: break;
        }
}

static void check_matmul(const tables *t, nigh_type type, size_t rows, size_t cols, size_t count, int hostile,
                         uint64_t *state) {
    size_t stride = rows + 3, groups = (rows + 15) / 16, room = count * stride;
    matrix m = matrix_new(type, rows, cols, hostile > 0, state);
    nigh_acts a = acts_new(cols, count, state);
    if (hostile) make_extreme((float *)(uintptr_t)a.x, cols * count, state);
    t->ref.quantize(&a, 0, count);
    float *want = guarded(room), *got = guarded(room);
    t->ref.matmul(&m.mat, &a, want, stride, 0, groups);
    for (size_t i = 0; i < t->count; i++) {
        for (size_t k = 0; k < room; k++) got[k] = guard_value();
        size_t cut = test_rand(state) % (groups + 1);       /* rows in two parts: the same bits */
        t->isa[i].matmul(&m.mat, &a, got, stride, cut, groups);
        t->isa[i].matmul(&m.mat, &a, got, stride, 0, cut);
        bool same = true, gap = true;
        for (size_t k = 0; k < count; k++) {
            same = same && same_bits(want + k * stride, got + k * stride, rows);
            for (size_t r = rows; r < stride; r++) gap = gap && nigh_bits32(got[k * stride + r]) == 0x7fc0beefu;
        }
        CHECK_MSG(same && gap && guards_stand(got, room),
                  "%s %s rows %zu cols %zu tokens %zu hostile %d same %d gap %d", t->isa[i].name,
                  nigh_type_name(type), rows, cols, count, hostile, same, gap);
    }
    guarded_free(want);
    guarded_free(got);
    acts_free(&a);
    matrix_free(&m);
}

static void test_matmul_bits(void) {
    static const size_t counts[] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 33 }, rows[] = { 1, 16, 37 };
    uint64_t state = test_seed();
    tables t = tables_new();
    if (!t.count) TEST_SKIP("this processor has plain C only");
    for (size_t i = 0; i < NIGH_COUNT(all_types); i++)
        for (size_t c = 0; c < NIGH_COUNT(counts); c++)
            for (size_t r = 0; r < NIGH_COUNT(rows); r++) {
                uint32_t block = nigh_type_find(all_types[i])->block_values;
                size_t cols = block == 256 ? (size_t)256 << (c & 1) : block == 32 ? 32 + 64 * (c % 4) : 1 + 13 * c;
                for (int hostile = 0; hostile < 2; hostile++)
                    check_matmul(&t, all_types[i], rows[r], cols, counts[c], hostile, &state);
            }
}

/* Several spans of columns, the last one short, and more tokens than any kernel takes at once. */
static void test_matmul_large(void) {
    static const size_t counts[] = { 48, 130, 175 };
    uint64_t state = test_seed();
    tables t = tables_new();
    if (!t.count) TEST_SKIP("this processor has plain C only");
    for (size_t i = 0; i < NIGH_COUNT(all_types); i++)
        for (size_t c = 0; c < NIGH_COUNT(counts); c++) {
            uint32_t block = nigh_type_find(all_types[i])->block_values;
            size_t cols = block == 256 ? 768 + 512 * (c & 1) : block == 32 ? 352 + 800 * c : 77;
            check_matmul(&t, all_types[i], 37, cols, counts[c], c == 2, &state);
        }
}

/* Weights and activations at the ends of their ranges, so that int16 or int32 sums would run over if they could. */
static void test_matmul_ends(void) {
    static const uint8_t fills[] = { 0x00, 0xff, 0x80, 0x7f, 0x0f, 0xf0 };
    uint64_t state = test_seed();
    tables t = tables_new();
    if (!t.count) TEST_SKIP("this processor has plain C only");
    for (size_t i = 3; i < NIGH_COUNT(all_types); i++)
        for (size_t n = 0; n < NIGH_COUNT(fills) * 3; n++) {
            enum { ROWS = 16, COLS = 256, COUNT = 9 };
            matrix m = matrix_new(all_types[i], ROWS, COLS, false, &state);
            const nigh_type_info *info = nigh_type_find(all_types[i]);
            memset(m.src, fills[n / 3], ROWS * m.row_bytes);
            for (size_t b = 0; b < ROWS * m.row_bytes; b += info->block_bytes)
                tame_block(all_types[i], m.src + b, &state);
            nigh_mat_pack(all_types[i], ROWS, COLS, m.src, 0, m.packed);
            nigh_acts a = acts_new(COLS, COUNT, &state);
            for (size_t k = 0; k < COLS * COUNT; k++)
                ((float *)(uintptr_t)a.x)[k] = n % 3 == 0 ? 1.0f : n % 3 == 1 ? -1.0f : k % 2 ? 1.0f : -1.0f;
            t.ref.quantize(&a, 0, COUNT);
            float want[ROWS * COUNT], got[ROWS * COUNT];
            t.ref.matmul(&m.mat, &a, want, ROWS, 0, 1);
            for (size_t k = 0; k < t.count; k++) {
                t.isa[k].matmul(&m.mat, &a, got, ROWS, 0, 1);
                CHECK_MSG(!memcmp(want, got, sizeof want), "%s %s fill %02x", t.isa[k].name, info->name, fills[n / 3]);
            }
            acts_free(&a);
            matrix_free(&m);
        }
}

/* One block of activations: every q is the nearest, the sums are theirs. */
static void check_block(const nigh_acts *a, const float *x, size_t at) {
    const int8_t *q = a->q + at * 32;
    float top = 0, scale = a->scale[at];
    int half[2] = { 0, 0 };
    for (int i = 0; i < 32; i++) {
        half[i / 16] += q[i];
        top = fmaxf(top, fabsf(x[i]));
        if (!isnan(scale)) CHECK(q[i] >= -127 && fabsf((float)q[i] * scale - x[i]) <= scale * 0.5001f + 1e-30f);
    }
    CHECK(a->sum[2 * at] == -half[0] - half[1]);
    CHECK((int16_t)(a->sum[2 * at + 1] & 0xffff) == -half[0] && a->sum[2 * at + 1] >> 16 == -half[1]);
    CHECK(isnan(scale) || scale == (top < 0x1p-100f ? 0 : top / 127));
}

static void test_quantize_bits(void) {
    uint64_t state = test_seed();
    tables t = tables_new();
    for (int round = 0; round < 300; round++) {
        size_t cols = 32 * (1 + test_rand(&state) % 19), count = 1 + test_rand(&state) % (round % 8 ? 4 : 37);
        size_t begin = test_rand(&state) % count, blocks = count * (cols / 32);
        nigh_acts a = acts_new(cols, count, &state), b = a;
        make_extreme((float *)(uintptr_t)a.x, cols * count, &state);
        float *x = guarded(cols * count), *q = guarded(blocks * 8);
        float *scale = guarded(blocks), *sum = guarded(blocks * 2);
        memcpy(x, a.x, cols * count * sizeof *x);
        b.x = x, b.q = (int8_t *)q, b.scale = scale, b.sum = (int32_t *)(void *)sum;
        t.ref.quantize(&a, 0, count);
        for (size_t n = 0; n < cols * count; n += 32)
            check_block(&a, a.x + n, nigh_acts_at(&a, n / cols, n % cols / 32));
        for (size_t i = 0; i < t.count; i++) {
            size_t cut = test_rand(&state) % (cols / 32 + 1);
            memset(q, 99, cols * count);
            if (round % 2) {                                /* in two parts of the tokens, the second first */
                t.isa[i].quantize(&b, begin, count);
                t.isa[i].quantize(&b, 0, begin);
            } else {                                        /* in two runs of blocks, the second first */
                t.isa[i].quantize_blocks(&b, b.x + cut * 32, cols, 0, count, cut, cols / 32);
                float *part = nigh_alloc(count * cut * 32 + 1, sizeof *part);       /* the first one from elsewhere */
                for (size_t n = 0; n < count; n++) memcpy(part + n * cut * 32, b.x + n * cols, cut * 32 * sizeof *part);
                t.isa[i].quantize_blocks(&b, part, cut * 32, 0, count, 0, cut);
                nigh_free(part);
            }
            CHECK(!memcmp(a.q, b.q, cols * count) && same_bits(a.scale, b.scale, blocks));
            CHECK(!memcmp(a.sum, b.sum, blocks * 8));
            CHECK(guards_stand(q, blocks * 8) && guards_stand(scale, blocks) && guards_stand(sum, blocks * 2));
        }
        acts_free(&a);
        guarded_free(x), guarded_free(q), guarded_free(scale), guarded_free(sum);
    }
}

/* Runs the elementwise slot number `slot` on x (n values, in place), with y as its second operand. */
enum { SLOTS = 13 };
static void run_slot(const nigh_kernels *k, int slot, float *x, const float *y, size_t n) {
    switch (slot) {
    case 0: k->rmsnorm(x, x, y, n, 1e-5f); break;
    case 1: k->rmsnorm(x, x, NULL, n, 1e-6f); break;
    case 2: k->layernorm(x, x, y, y + 1, n, 1e-5f); break;
    case 3: k->layernorm(x, x, y, NULL, n, 1e-5f); break;
    case 4: k->add(x, y, n); break;
    case 5: k->scale(x, y[0], n); break;
    case 6: k->silu_mul(x, y, n); break;
    case 7: k->gelu_mul(x, y, n); break;
    case 8: k->gelu(x, n); break;
    case 9: k->softcap(x, 30.0f, n); break;
    case 10: k->softmax(x, n); break;
    case 11: k->rope(x, y, y + n / 2, n / 2, true); break;
    case 12: k->rope(x, y, y + n / 2, n / 2, false); break;
    default: break;
    }
}

static void test_elementwise_bits(void) {
    uint64_t state = test_seed();
    tables t = tables_new();
    for (int slot = 0; slot < SLOTS; slot++)
        for (int round = 0; round < 120; round++) {
            size_t n = 1 + test_rand(&state) % (round < 60 ? 40 : 700);
            float *x = guarded(n), *want = guarded(n), *got = guarded(n), *y = guarded(n + 1);
            float by = round % 3 == 0 ? 30.0f : 1.0f;
            for (size_t i = 0; i < n; i++) x[i] = rand_float(&state) * by;
            for (size_t i = 0; i <= n; i++) y[i] = rand_float(&state);
            if (round % 10 == 9) make_extreme(x, n, &state);
            memcpy(want, x, n * sizeof *x);
            run_slot(&t.ref, slot, want, y, n);
            CHECK(guards_stand(want, n));
            for (size_t i = 0; i < t.count; i++) {
                memcpy(got, x, n * sizeof *x);
                run_slot(&t.isa[i], slot, got, y, n);
                CHECK_MSG(same_bits(want, got, n) && guards_stand(got, n), "%s slot %d n %zu round %d", t.isa[i].name,
                          slot, n, round);
            }
            guarded_free(x), guarded_free(want), guarded_free(got), guarded_free(y);
        }
}

/* ---- the cache ---- */

/* Rounding into a block: every f16 there is, what lies between, and what is too large. */
static void test_kv_f16(void) {
    uint8_t *block = nigh_alloc(2, nigh_kv_half_bytes(NIGH_TYPE_F16, 1));
    for (uint32_t h = 0; h < 0x10000u; h++) {
        float exact = nigh_f16_to_f32((uint16_t)h), next = nigh_f16_to_f32((uint16_t)(h + 1));
        nigh_kv_store(NIGH_TYPE_F16, block, 1, h % 64, &exact, &next);
        float got = nigh_kv_key(NIGH_TYPE_F16, block, 1, h % 64, 0);
        if (isfinite(exact)) CHECK(nigh_bits32(got) == nigh_bits32(exact));
        else CHECK(isnan(got));
        if (!isfinite(exact) || !isfinite(next)) continue;
        float middle = (float)(((double)exact + (double)next) / 2), near = nextafterf(middle, exact);
        nigh_kv_store(NIGH_TYPE_F16, block, 1, h % 64, &middle, &near);
        CHECK(nigh_bits32(nigh_kv_key(NIGH_TYPE_F16, block, 1, h % 64, 0)) == nigh_bits32(h & 1 ? next : exact));
        CHECK(nigh_bits32(nigh_kv_value(NIGH_TYPE_F16, block, 1, h % 64, 0)) == nigh_bits32(exact));
    }
    for (uint32_t i = 0; i < 200000; i++) {             /* as the slow conversion, but for what is too large */
        float x = nigh_float_of(i * 21474u);
        uint16_t slow = nigh_f32_to_f16(x);
        nigh_kv_store(NIGH_TYPE_F16, block, 1, 63, &x, &x);
        float got = nigh_kv_value(NIGH_TYPE_F16, block, 1, 63, 0), want = nigh_f16_to_f32(slow);
        if (isfinite(x) && isinf(want)) want = copysignf(65504.0f, x);
        CHECK(isfinite(x) ? nigh_bits32(got) == nigh_bits32(want) : isnan(got));
    }
    nigh_free(block);
}

static void test_kv_q8_0(void) {
    enum { DIMS = 96 };
    uint64_t state = test_seed();
    float k[DIMS], v[DIMS];
    uint8_t *block = nigh_alloc(2, nigh_kv_half_bytes(NIGH_TYPE_Q8_0, DIMS));
    for (size_t at = 0; at < NIGH_KV_BLOCK; at++) {
        float by = at == 7 ? 1e-35f : at == 9 ? 1e30f : 1.0f;
        for (size_t d = 0; d < DIMS; d++) { k[d] = rand_float(&state) * by; v[d] = rand_float(&state) * by; }
        if (at == 11) { k[40] = NAN; v[3] = INFINITY; }
        nigh_kv_store(NIGH_TYPE_Q8_0, block, DIMS, at, k, v);
        for (size_t d = 0; d < DIMS; d++) {
            float top_k = 0, top_v = 0, gk = nigh_kv_key(NIGH_TYPE_Q8_0, block, DIMS, at, d),
                  gv = nigh_kv_value(NIGH_TYPE_Q8_0, block, DIMS, at, d);
            for (size_t i = d / 32 * 32; i < d / 32 * 32 + 32; i++) {
                top_k = fmaxf(top_k, fabsf(k[i]));
                top_v = fmaxf(top_v, fabsf(v[i]));
            }
            if (at == 7) CHECK(gk == 0 && gv == 0);
            else if (at == 11 && d / 32 == 1) CHECK(isnan(gk) && !isnan(gv));
            else if (at == 11 && d < 32) CHECK(!isnan(gk) && isnan(gv));
            else CHECK(fabsf(gk - k[d]) <= top_k / 253.9f && fabsf(gv - v[d]) <= top_v / 253.9f);
        }
    }
    nigh_free(block);
}

/* ---- attention ---- */

typedef struct {
    nigh_attn a;
    uint8_t *cache;
    float *q_memory, *out, *part, *state;
    const float **q;
    float **outs;
    uint32_t *ints;
    float *slope;
    size_t out_floats, part_floats, scratch_floats, rounded_floats;
} heads;

static void heads_free(heads *h) {
    nigh_free(h->cache), free(h->q_memory), free((void *)h->q), free(h->outs), free(h->ints), free(h->slope);
    guarded_free(h->out), guarded_free(h->a.scratch), guarded_free(h->part), nigh_free(h->state);
    guarded_free(h->a.rounded);
}

/* kind: bits 1 any ends, 2 windows, 4 distances, 8 a cap. What no query sees is NaN. */
static heads heads_new(nigh_type type, size_t count, size_t dims, size_t keys, int kind, uint64_t *state) {
    size_t blocks = (keys + NIGH_KV_BLOCK - 1) / NIGH_KV_BLOCK, padded = nigh_attn_padded(count),
           stride = 2 * nigh_kv_half_bytes(type, dims) + 64 * (size_t)(kind % 3);
    heads h = { .cache = nigh_alloc(blocks, stride),
                .q_memory = malloc(count * dims * 4),
                .out = guarded(count * dims),
                .q = malloc(count * sizeof(float *)),
                .outs = malloc(count * sizeof(float *)),
                .ints = malloc(3 * count * 4),
                .slope = malloc(count * 4),
                .out_floats = count * dims,
                .part_floats = nigh_attn_part(count, dims),
                .scratch_floats = nigh_attn_scratch(count, dims),
                .rounded_floats = nigh_attn_rounded(count, dims) };
    h.part = guarded(h.part_floats);
    h.state = nigh_alloc(2 * padded, 4);
    memset(h.cache, 0xff, blocks * stride);
    for (size_t i = 0; i < keys; i++) {
        float k[128], v[128];
        for (size_t d = 0; d < dims; d++) { k[d] = rand_float(state); v[d] = rand_float(state); }
        nigh_kv_store(type, h.cache + i / NIGH_KV_BLOCK * stride, dims, i % NIGH_KV_BLOCK, k, v);
    }
    for (size_t i = 0; i < count; i++) {
        float *q = h.q_memory + i * dims;
        h.q[i] = q;
        h.outs[i] = h.out + i * dims;
        for (size_t d = 0; d < dims; d++) q[d] = rand_float(state) * 0.3f;
        uint32_t end =
            (uint32_t)(kind & 1 ? 1 + test_rand(state) % keys : keys - nigh_min(keys - 1, (count - 1 - i) / 2));
        h.ints[count + i] = end;
        h.ints[i] = kind & 2 ? (uint32_t)(test_rand(state) % end) : 0;
        h.ints[2 * count + i] = end - 1;
        h.slope[i] = 0.1f * (float)(i + 1);
    }
    h.a = (nigh_attn){ .count = count, .head_dim = dims, .q = h.q, .out = h.outs, .begin = h.ints,
                       .end = h.ints + count, .pos = h.ints + 2 * count, .slope = kind & 4 ? h.slope : NULL,
                       .softcap = kind & 8 ? 5.0f : 0.0f, .type = type, .blocks = h.cache, .block_stride = stride,
                       .scratch = guarded(h.scratch_floats), .rounded = guarded(h.rounded_floats) };
    return h;
}

/* All blocks, in order, and the last division. */
static void attend_all(const nigh_kernels *k, heads *h, size_t blocks) {
    size_t padded = nigh_attn_padded(h->a.count);
    for (size_t i = 0; i < padded; i++) { h->state[i] = -INFINITY; h->state[padded + i] = 0; }
    for (size_t i = 0; i < h->out_floats; i++) h->out[i] = 0;
    k->round_queries(&h->a);
    CHECK(guards_stand(h->a.rounded, h->rounded_floats));
    for (size_t b = 0; b < blocks; b++) {
        for (size_t i = 0; i < h->scratch_floats; i++) h->a.scratch[i] = guard_value();
        for (size_t i = 0; i < h->part_floats; i++) h->part[i] = guard_value();
        k->attend(&h->a, b, h->part);
        k->fold(&h->a, h->part, h->state);
        CHECK(guards_stand(h->part, h->part_floats) && guards_stand(h->a.scratch, h->scratch_floats));
    }
    for (size_t i = 0; i < h->a.count; i++)
        k->scale(h->outs[i], 1.0f / h->state[padded + i], h->a.head_dim);
}

/* What attention means, in double, for one query. */
static double attend_error(const heads *h, size_t i) {
    const nigh_attn *a = &h->a;
    double sum = 0, worst = 0, top = -1e300, *p = calloc(a->end[i], sizeof *p);
    for (size_t key = a->begin[i]; key < a->end[i]; key++) {
        const uint8_t *block = a->blocks + key / NIGH_KV_BLOCK * a->block_stride;
        for (size_t d = 0; d < a->head_dim; d++)
            p[key] += (double)a->q[i][d] * nigh_kv_key(a->type, block, a->head_dim, key % NIGH_KV_BLOCK, d);
        if (a->softcap != 0) p[key] = a->softcap * tanh(p[key] / a->softcap);
        if (a->slope) p[key] -= a->slope[i] * fabs((double)a->pos[i] - (double)key);
        top = fmax(top, p[key]);
    }
    for (size_t key = a->begin[i]; key < a->end[i]; key++) sum += p[key] = exp(p[key] - top);
    for (size_t d = 0; d < a->head_dim; d++) {
        double want = 0;
        for (size_t key = a->begin[i]; key < a->end[i]; key++) {
            const uint8_t *block = a->blocks + key / NIGH_KV_BLOCK * a->block_stride;
            want += p[key] / sum * nigh_kv_value(a->type, block, a->head_dim, key % NIGH_KV_BLOCK, d);
        }
        worst = fmax(worst, fabs(want - a->out[i][d]));
    }
    free(p);
    return worst;
}

static void check_attend(const tables *t, nigh_type type, size_t count, size_t dims, size_t keys, int kind,
                         uint64_t *state) {
    size_t blocks = (keys + NIGH_KV_BLOCK - 1) / NIGH_KV_BLOCK;
    heads h = heads_new(type, count, dims, keys, kind, state);
    float *want = malloc(h.out_floats * sizeof *want);
    nigh_kernels ref = t->ref;
    attend_all(&ref, &h, blocks);
    memcpy(want, h.out, h.out_floats * sizeof *want);
    CHECK(guards_stand(h.out, h.out_floats));
    double most = type == NIGH_TYPE_I16 ? 2e-3 : type == NIGH_TYPE_Q8_0 ? 4e-4 : 1e-5;    /* queries, weights rounded */
    for (size_t i = 0; i < count; i++) CHECK_MSG(attend_error(&h, i) < most, "off by %g", attend_error(&h, i));
    for (size_t i = 0; i < t->count; i++) {
        attend_all(&t->isa[i], &h, blocks);
        CHECK_MSG(same_bits(want, h.out, h.out_floats) && guards_stand(h.out, h.out_floats),
                  "%s %s kind %d queries %zu dims %zu keys %zu", t->isa[i].name, nigh_type_name(type), kind, count,
                  dims, keys);
    }
    /* One query alone: what stands beside it does not matter. */
    size_t lone = test_rand(state) % count;
    nigh_attn a = h.a;
    h.a.count = 1;
    h.a.q += lone, h.a.out += lone, h.a.begin += lone, h.a.end += lone, h.a.pos += lone;
    if (h.a.slope) h.a.slope += lone;
    float **outs = h.outs;
    h.outs += lone;
    attend_all(t->count ? &t->isa[t->count - 1] : &ref, &h, blocks);
    CHECK(same_bits(want + lone * dims, outs[lone], dims));
    h.a = a;
    h.outs = outs;
    free(want);
    heads_free(&h);
}

static void test_attend(void) {
    static const size_t counts[] = { 1, 2, 3, 4, 5, 9, 16, 31 }, dims[] = { 8, 16, 64, 72, 96, 80, 128, 7 };
    uint64_t state = test_seed();
    tables t = tables_new();
    for (int kind = 0; kind < 16; kind++)
        for (size_t c = 0; c < NIGH_COUNT(counts); c++)
            for (size_t n = 0; n < NIGH_COUNT(dims); n++) {
                size_t keys = 1 + test_rand(&state) % (c % 2 ? 300 : 130);
                check_attend(&t, NIGH_TYPE_F32, counts[c], dims[n], keys, kind, &state);
                check_attend(&t, NIGH_TYPE_F16, counts[c], dims[n], keys, kind, &state);
                if (dims[n] % 32) continue;
                check_attend(&t, NIGH_TYPE_Q8_0, counts[c], dims[n], keys, kind, &state);
                check_attend(&t, NIGH_TYPE_I16, counts[c], dims[n], keys, kind, &state);
            }
}

/* A NaN in a value shows in the 32 numbers that share its scale, an infinity in a key in all; on every set. */
static void check_damage(const nigh_kernels *k, nigh_type type, bool in_key) {
    uint64_t state = test_seed();
    heads h = heads_new(type, 3, 64, 100, 0, &state);
    float key[64], value[64];
    for (size_t d = 0; d < 64; d++) { key[d] = rand_float(&state); value[d] = rand_float(&state); }
    if (in_key) key[50] = INFINITY;
    else value[5] = NAN;
    nigh_kv_store(type, h.cache + 40 / NIGH_KV_BLOCK * h.a.block_stride, 64, 40 % NIGH_KV_BLOCK, key, value);
    attend_all(k, &h, 2);
    for (size_t i = 0; i < 3 * 64; i++)
        CHECK_MSG(isnan(h.out[i]) == (in_key || i % 64 < 32), "%s %s %d: %zu is %g", k->name, nigh_type_name(type),
                  in_key, i, (double)h.out[i]);
    heads_free(&h);
}

static void test_attend_damage(void) {
    tables t = tables_new();
    for (int n = 0; n < 4; n++) {
        nigh_type type = n % 2 ? NIGH_TYPE_I16 : NIGH_TYPE_Q8_0;
        check_damage(&t.ref, type, n > 1);
        for (size_t i = 0; i < t.count; i++) check_damage(&t.isa[i], type, n > 1);
    }
}

static void test_weight(void) {
    double worst_near = 0, worst = 0;
    for (int i = 0; i < 693000; i++) {
        float x = (float)i * -1e-4f;
        double off = fabs(nigh_weightf(x) / exp((double)x) - 1);
        worst = fmax(worst, off);
        if (x > -20) worst_near = fmax(worst_near, off);
    }
    CHECK_MSG(worst_near < 1.5e-6 && worst < 5e-6, "%g %g", worst_near, worst);
    CHECK(nigh_weightf(0) == 1 && nigh_weightf(-0.0f) == 1 && isnan(nigh_weightf(NAN)));
    CHECK(nigh_weightf(-70) == 0x1p-100f && nigh_weightf(-INFINITY) == 0x1p-100f && nigh_weightf(-1e30f) == 0x1p-100f);
}

TEST_MAIN(T(test_packed_means_the_same), T(test_pack), T(test_ref_matmul_is_right), T(test_math_f32), T(test_math_f64),
          T(test_matmul_bits), T(test_matmul_large), T(test_matmul_ends), T(test_quantize_bits),
          T(test_elementwise_bits), T(test_kv_f16), T(test_kv_q8_0), T(test_weight), T(test_attend),
          T(test_attend_damage))
