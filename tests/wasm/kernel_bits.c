/* kernel_bits.c - the kernels of the browser against plain C, inside the browser: a module of its own for the tests and
 * the bench, with the objects of the real one. check_* return 0 when every bit is the same, else where it is not:
 * tests/wasm/test_kernel.mjs names the case again. */
#include "base/base.h"
#include "kernel/kernel.h"
#include "kernel/math.h"

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define EXPORT(name) __attribute__((export_name(#name)))

enum { GUARD = 16, GUARD_BITS = 0x7fc0beef };

static uint64_t state;

static uint32_t rand32(void) { /* SplitMix64 */
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(z ^ z >> 31);
}

static float rand_float(void) { return ((float)(rand32() >> 8) * 0x1p-24f - 0.5f) * 4.0f; }

/* What blocks of activations may look like: nothing, NaN, infinity, tiny, all at the largest size. */
static void make_extreme(float *x, size_t n) {
    for (size_t b = 0; b + 32 <= n; b += 32)
        switch (rand32() % 9) {
        case 0: memset(x + b, 0, 32 * sizeof *x); break;
        case 1: x[b + 5] = __builtin_nanf(""); break;
        case 2: x[b + 31] = -__builtin_inff(); break;
        case 3: for (size_t i = 0; i < 32; i++) x[b + i] = i % 2 ? 2.5f : -2.5f; break;
        case 4: for (size_t i = 0; i < 32; i++) x[b + i] *= 1e-32f; break;
        case 5: for (size_t i = 0; i < 32; i++) x[b + i] = -3.0f; break;
        default: break;
        }
}

static bool same(const float *a, const float *b, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (nigh_bits32(a[i]) != nigh_bits32(b[i]) && (a[i] == a[i] || b[i] == b[i])) return false;
    return true;
}

static float *floats(size_t n) {
    float *p = nigh_alloc(n, sizeof *p);
    if (!p) __builtin_trap();
    for (size_t i = 0; i < n; i++) p[i] = rand_float();
    return p;
}

/* Bytes of a matrix as a file has them: anything (fill < 0), or all `fill`; with usual scales unless hostile. */
static uint8_t *file_bytes(nigh_type type, size_t bytes, int fill, bool hostile) {
    const nigh_type_info *info = nigh_type_find((uint32_t)type);
    static const uint8_t two_at[][3] = { /* type, offsets of its f16 */
        { NIGH_TYPE_Q4_1, 0, 2 }, { NIGH_TYPE_Q5_1, 0, 2 }, { NIGH_TYPE_Q4_K, 0, 2 }, { NIGH_TYPE_Q5_K, 0, 2 },
        { NIGH_TYPE_Q2_K, 80, 82 }, { NIGH_TYPE_Q3_K, 108, 108 }, { NIGH_TYPE_Q6_K, 208, 208 } };
    uint8_t at[2] = { 0, 0 }, *p = nigh_alloc(1, bytes);
    for (size_t i = 0; i < bytes; i++) p[i] = fill < 0 ? (uint8_t)rand32() : (uint8_t)fill;
    for (size_t i = 0; i < NIGH_COUNT(two_at); i++)
        if (two_at[i][0] == type) { at[0] = two_at[i][1]; at[1] = two_at[i][2]; }
    for (size_t b = 0; !hostile && b < bytes; b += info->block_bytes)
        for (size_t i = 0; i < 2; i++) {
            float size = 0.001f + (float)(rand32() >> 8) * 0x1p-24f;
            uint16_t half = type == NIGH_TYPE_BF16 ? nigh_f32_to_bf16(size) : nigh_f32_to_f16(size);
            if (type == NIGH_TYPE_F32) memcpy(p + b, &size, 4);
            else memcpy(p + b + at[i], &half, 2);
        }
    return p;
}

typedef struct { nigh_mat mat; uint8_t *file, *packed; nigh_acts a; size_t groups; } product;

static product product_new(nigh_type type, size_t rows, size_t cols, size_t count, int fill, bool hostile) {
    const nigh_type_info *info = nigh_type_find((uint32_t)type);
    product p = { .mat = { type, rows, cols, nigh_mat_group_bytes(type, cols), NULL }, .groups = (rows + 15) / 16 };
    p.file = file_bytes(type, rows * (cols / info->block_values) * info->block_bytes, fill, hostile);
    p.packed = nigh_alloc(p.groups, p.mat.group_bytes);
    for (size_t g = 0; g < p.groups; g++)
        nigh_mat_pack(type, rows, cols, p.file, g, p.packed + g * p.mat.group_bytes);
    p.mat.data = p.packed;
    float *x = floats(count * cols);
    if (hostile) make_extreme(x, count * cols);
    p.a = (nigh_acts){ .cols = cols, .count = count, .x = x, .q = nigh_alloc(1, count * cols + 64) };
    p.a.scale = nigh_alloc(4, count * (cols / 32) + 1);
    p.a.sum = nigh_alloc(4, count * (cols / 16) + 1);
    return p;
}

static void product_free(product *p) {
    nigh_free(p->file);
    nigh_free(p->packed);
    nigh_free((void *)(uintptr_t)p->a.x);
    nigh_free(p->a.q);
    nigh_free(p->a.scale);
    nigh_free(p->a.sum);
}

static bool guards_stand(const float *p, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (nigh_bits32(p[i]) != GUARD_BITS) return false;
    return true;
}

/* 0 the same; 1 other bits, 2 something was written that is no row of the matrix */
EXPORT(check_matmul)
int check_matmul(int type, size_t rows, size_t cols, size_t count, int fill, int hostile, uint32_t seed) {
    nigh_kernels ref, isa;
    nigh_kernels_init(&ref, 0);
    nigh_kernels_init(&isa, nigh_cpu_detect());
    state = seed;
    product p = product_new((nigh_type)type, rows, cols, count, fill, hostile != 0);
    size_t stride = rows + 3, room = count * stride + GUARD, cut = rand32() % (p.groups + 1);
    float *want = floats(room), *got = floats(room);
    for (size_t i = 0; i < room; i++) got[i] = nigh_float_of(GUARD_BITS);
    if (cols % NIGH_BLOCK == 0) ref.quantize(&p.a, 0, count);
    ref.matmul(&p.mat, &p.a, want, stride, 0, p.groups);
    isa.matmul(&p.mat, &p.a, got, stride, cut, p.groups);
    isa.matmul(&p.mat, &p.a, got, stride, 0, cut);
    int wrong = guards_stand(got + count * stride, GUARD) ? 0 : 2;
    for (size_t t = 0; t < count && !wrong; t++) {
        if (!same(want + t * stride, got + t * stride, rows)) wrong = 1;
        if (!guards_stand(got + t * stride + rows, stride - rows)) wrong = 2;
    }
    nigh_free(want);
    nigh_free(got);
    product_free(&p);
    return wrong;
}

EXPORT(check_quantize) int check_quantize(size_t cols, size_t count, uint32_t seed) {
    nigh_kernels ref, isa;
    nigh_kernels_init(&ref, 0);
    nigh_kernels_init(&isa, nigh_cpu_detect());
    state = seed;
    product p = product_new(NIGH_TYPE_Q8_0, 1, cols, count, -1, true), q = p;
    q.a.q = nigh_alloc(1, count * cols + 64);
    q.a.scale = nigh_alloc(4, count * (cols / 32));
    q.a.sum = nigh_alloc(4, count * (cols / 16));
    ref.quantize(&p.a, 0, count);
    isa.quantize(&q.a, 0, count);
    bool equal = !memcmp(p.a.q, q.a.q, count * cols) && !memcmp(p.a.sum, q.a.sum, count * (cols / 16) * 4)
                 && same(p.a.scale, q.a.scale, count * (cols / 32));
    nigh_free(q.a.q);
    nigh_free(q.a.scale);
    nigh_free(q.a.sum);
    product_free(&p);
    return !equal;
}

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
    default: __builtin_trap();
    }
}

EXPORT(check_slot) int check_slot(int slot, size_t n, int extreme, uint32_t seed) {
    nigh_kernels ref, isa;
    nigh_kernels_init(&ref, 0);
    nigh_kernels_init(&isa, nigh_cpu_detect());
    state = seed;
    float *want = floats(n), *got = floats(n), *y = floats(n + 1);
    if (extreme) make_extreme(want, n);
    memcpy(got, want, n * sizeof *got);
    run_slot(&ref, slot, want, y, n);
    run_slot(&isa, slot, got, y, n);
    bool equal = same(want, got, n);
    nigh_free(want);
    nigh_free(got);
    nigh_free(y);
    return !equal;
}

/* ---- attention ---- */

enum { QUERIES = 9, KEYS = 150 };

typedef struct {
    nigh_attn a;
    const float *q[QUERIES];
    float *out[QUERIES], *rows, *got, *part, *state;
    uint32_t begin[QUERIES], end[QUERIES];
    uint8_t *cache;
} attention;

/* Queries that see different keys, also none of a block; what nobody sees is NaN. */
static void attention_begin(attention *t, nigh_type type, size_t count, size_t dims) {
    size_t blocks = (KEYS + NIGH_KV_BLOCK - 1) / NIGH_KV_BLOCK, stride = 2 * nigh_kv_half_bytes(type, dims);
    t->cache = nigh_alloc(blocks, stride);
    memset(t->cache, 0xff, blocks * stride);
    t->rows = floats(count * dims);
    t->got = floats(count * dims);
    t->part = floats(nigh_attn_part(count, dims));
    t->state = floats(2 * nigh_attn_padded(count));
    for (size_t i = 0; i < KEYS; i++) {
        float *kv = floats(2 * dims);
        nigh_kv_store(type, t->cache + i / NIGH_KV_BLOCK * stride, dims, i % NIGH_KV_BLOCK, kv, kv + dims);
        nigh_free(kv);
    }
    for (size_t i = 0; i < count; i++) {
        t->q[i] = t->rows + i * dims;
        t->out[i] = t->got + i * dims;
        t->end[i] = i % 3 ? KEYS - (uint32_t)i : 1 + rand32() % KEYS;
        t->begin[i] = i % 4 == 3 ? rand32() % t->end[i] : 0;
    }
    t->a = (nigh_attn){ .count = count, .head_dim = dims, .q = t->q, .out = t->out, .begin = t->begin, .end = t->end,
                        .pos = t->end, .type = type, .blocks = t->cache, .block_stride = stride,
                        .scratch = floats(nigh_attn_scratch(count, dims)),
                        .rounded = floats(nigh_attn_rounded(count, dims)) };
}

static void attention_run(attention *t, const nigh_kernels *k) {
    size_t padded = nigh_attn_padded(t->a.count);
    for (size_t i = 0; i < padded; i++) { t->state[i] = -__builtin_inff(); t->state[padded + i] = 0; }
    memset(t->got, 0, t->a.count * t->a.head_dim * sizeof *t->got);
    k->round_queries(&t->a);
    for (size_t b = 0; b * NIGH_KV_BLOCK < KEYS; b++) {
        k->attend(&t->a, b, t->part);
        k->fold(&t->a, t->part, t->state);
    }
}

EXPORT(check_attend) int check_attend(int type, size_t count, size_t dims, uint32_t seed) {
    static attention t;
    nigh_kernels ref, isa;
    nigh_kernels_init(&ref, 0);
    nigh_kernels_init(&isa, nigh_cpu_detect());
    state = seed;
    if (count > QUERIES) __builtin_trap();
    attention_begin(&t, (nigh_type)type, count, dims);
    float *want = floats(count * dims);
    attention_run(&t, &ref);
    memcpy(want, t.got, count * dims * sizeof *want);
    attention_run(&t, &isa);
    bool equal = same(want, t.got, count * dims);
    void *all[] = { want, t.cache, t.rows, t.got, t.part, t.state, t.a.scratch, t.a.rounded };
    for (size_t i = 0; i < NIGH_COUNT(all); i++) nigh_free(all[i]);
    return !equal;
}

/* ---- time: a matrix that stays, and products with it ---- */

static product timed;
static float *timed_out;

EXPORT(bench_begin) void bench_begin(int type, size_t rows, size_t cols, size_t count) {
    nigh_kernels k;
    product_free(&timed);
    nigh_free(timed_out);
    nigh_kernels_init(&k, nigh_cpu_detect());
    timed = product_new((nigh_type)type, rows, cols, count, -1, false);
    timed_out = floats(rows * count);
    if (cols % NIGH_BLOCK == 0) k.quantize(&timed.a, 0, count);
}

EXPORT(bench_run) void bench_run(size_t times) {
    nigh_kernels k;
    nigh_kernels_init(&k, nigh_cpu_detect());
    for (size_t i = 0; i < times; i++)
        k.matmul(&timed.mat, &timed.a, timed_out, timed.mat.rows, 0, timed.groups);
}
