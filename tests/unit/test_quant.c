/* test_quant.c - the type table, the 16-bit floats, what blocks mean, and the writers against files of
 * llama-quantize. */
#include "kernel/quant.h"
#include "kernel/pack.h"

#include <math.h>

#include "test.h"

/* ---- a GGUF file, read just well enough for a test ---- */

typedef struct { char name[128]; uint32_t type; uint64_t values, offset; } tensor;
typedef struct { uint8_t *bytes; size_t size, at, data, count; tensor *tensors; } gguf;

static uint64_t take(gguf *g, size_t bytes) {
    uint64_t v = 0;
    for (size_t i = 0; i < bytes; i++) v |= (uint64_t)g->bytes[g->at + i] << 8 * i;
    g->at += bytes;
    return v;
}

static void skip_value(gguf *g, uint64_t type) {
    static const size_t sizes[] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };
    if (type == 8) {
        size_t len = take(g, 8);
        g->at += len;
    } else if (type == 9) {
        uint64_t item = take(g, 4), n = take(g, 8);
        for (uint64_t i = 0; i < n; i++) skip_value(g, item);
    } else {
        g->at += sizes[type];
    }
}

static bool gguf_open(gguf *g, const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    memset(g, 0, sizeof *g);
    fseek(f, 0, SEEK_END);
    g->size = (size_t)ftell(f);
    rewind(f);
    g->bytes = malloc(g->size);
    bool ok = g->bytes && fread(g->bytes, 1, g->size, f) == g->size;
    fclose(f);
    if (!ok) return false;
    g->at = 8;
    g->count = take(g, 8);
    uint64_t keys = take(g, 8);
    for (uint64_t i = 0; i < keys; i++) {
        skip_value(g, 8);
        skip_value(g, take(g, 4));
    }
    g->tensors = calloc(g->count, sizeof *g->tensors);
    for (size_t i = 0; i < g->count; i++) {
        tensor *t = &g->tensors[i];
        size_t len = take(g, 8);
        snprintf(t->name, sizeof t->name, "%.*s", (int)len, (const char *)g->bytes + g->at);
        g->at += len;
        t->values = 1;
        for (uint64_t dims = take(g, 4); dims; dims--) t->values *= take(g, 8);
        t->type = (uint32_t)take(g, 4);
        t->offset = take(g, 8);
    }
    g->data = (g->at + 31) / 32 * 32;
    return true;
}

static void gguf_close(gguf *g) {
    free(g->bytes);
    free(g->tensors);
}

static const uint8_t *tensor_bytes(const gguf *g, const tensor *t) { return g->bytes + g->data + t->offset; }

static const tensor *tensor_named(const gguf *g, const char *name) {
    for (size_t i = 0; i < g->count; i++)
        if (!strcmp(g->tensors[i].name, name)) return &g->tensors[i];
    return NULL;
}

/* Every quantised tensor of `quantised`, made again from the f32 file: how many bytes differ. */
static size_t differing_bytes(const char *plain, const char *quantised, size_t *compared) {
    gguf a, b;
    if (!gguf_open(&a, plain) || !gguf_open(&b, quantised)) return SIZE_MAX;
    size_t bad = 0;
    for (size_t i = 0; i < b.count; i++) {
        const tensor *t = &b.tensors[i], *from = tensor_named(&a, t->name);
        const nigh_type_info *info = nigh_type_find(t->type);
        if (t->type == NIGH_TYPE_F32 || !from || !info) continue;
        float *x = malloc(from->values * sizeof *x);
        size_t bytes = t->values / info->block_values * info->block_bytes;
        uint8_t *mine = malloc(bytes);
        nigh_dequantize(NIGH_TYPE_F32, tensor_bytes(&a, from), x, from->values);
        if (nigh_quantize((nigh_type)t->type, x, mine, t->values)) {
            *compared += bytes;
            for (size_t k = 0; k < bytes; k++) bad += mine[k] != tensor_bytes(&b, t)[k];
        }
        free(mine);
        free(x);
    }
    gguf_close(&a);
    gguf_close(&b);
    return bad;
}

static void test_writers_equal_llama_quantize(void) {
    if (!test_shared()) TEST_SKIP("no reference data beside the project");
    static const char *const types[] = { "q8_0", "q4_0" };
    for (size_t i = 0; i < NIGH_COUNT(types); i++) {
        char plain[512], quantised[512];
        size_t compared = 0;
        snprintf(plain, sizeof plain, "%s/golden/stories260K.gguf", test_shared());
        snprintf(quantised, sizeof quantised, "%s/golden/models/stories260K-%s.gguf", test_shared(), types[i]);
        size_t bad = differing_bytes(plain, quantised, &compared);
        CHECK_MSG(bad == 0 && compared > 100000, "%s: %zu of %zu bytes differ", types[i], bad, compared);
    }
}

/* NIGH_PAIR_PLAIN and NIGH_PAIR_OTHER: any two files of the same weights, e.g. mkgguf's, compared by hand. */
static void test_writers_equal_given_pair(void) {
    const char *plain = getenv("NIGH_PAIR_PLAIN"), *other = getenv("NIGH_PAIR_OTHER");
    if (!plain || !other) TEST_SKIP("NIGH_PAIR_PLAIN and NIGH_PAIR_OTHER are not set");
    size_t compared = 0, bad = differing_bytes(plain, other, &compared);
    CHECK_MSG(bad == 0 && compared > 0, "%zu of %zu bytes differ", bad, compared);
}

static void test_table(void) {
    nigh_type type;
    CHECK(nigh_type_parse(NIGH_STR("q4_k"), &type) && type == NIGH_TYPE_Q4_K);
    CHECK(nigh_type_parse(NIGH_STR("BF16"), &type) && type == NIGH_TYPE_BF16);
    CHECK(!nigh_type_parse(NIGH_STR("q4"), &type) && !nigh_type_parse(NIGH_STR("q4_0x"), &type));
    CHECK(!nigh_type_parse(NIGH_STR("IQ2_XXS"), &type) && !nigh_type_parse(NIGH_STR(""), &type));
    CHECK(!strcmp(nigh_type_name(16), "IQ2_XXS") && !strcmp(nigh_type_name(30), "BF16"));
    CHECK(!strcmp(nigh_type_name(1000), "type") && !nigh_type_find(16) && !nigh_type_find(UINT32_MAX));
    size_t found = 0;
    for (uint32_t id = 0; id < 100; id++) {
        const nigh_type_info *info = nigh_type_find(id);
        if (!info) continue;
        found++;
        CHECK(!strcmp(info->name, nigh_type_name(id)));
        CHECK(nigh_form_of((nigh_type)id).columns == info->block_values);
    }
    CHECK(found == 15);
}

/* Every half float there is, there and back; and rounding between neighbours. */
static void test_f16(void) {
    for (uint32_t h = 0; h < 65536; h++) {
        float f = nigh_f16_to_f32((uint16_t)h);
        bool nan = (h & 0x7fff) > 0x7c00;
        CHECK(nan ? isnan(f) : nigh_f32_to_f16(f) == h);
        if (nan) CHECK((nigh_f32_to_f16(f) & 0x7fff) > 0x7c00);
        double want =
            ldexp((h & 0x3ff) | ((h >> 10 & 31) ? 0x400 : 0), (int)((h >> 10 & 31) ? (h >> 10 & 31) : 1) - 25);
        if ((h & 0x7c00) != 0x7c00) CHECK(f == (float)(h >> 15 ? -want : want));
        if ((h & 0x7fff) >= 0x7bff) continue;
        float next = nigh_f16_to_f32((uint16_t)(h + 1)), middle = (f + next) / 2;
        CHECK(nigh_f32_to_f16(middle) == (h & 1 ? h + 1 : h));
        CHECK(nigh_f32_to_f16(nextafterf(middle, f)) == h && nigh_f32_to_f16(nextafterf(middle, next)) == h + 1);
    }
    CHECK(nigh_f32_to_f16(65519.99f) == 0x7bff && nigh_f32_to_f16(65520.0f) == 0x7c00
          && nigh_f32_to_f16(1e30f) == 0x7c00);
    CHECK(nigh_f32_to_f16(-1e-30f) == 0x8000);
}

static void test_bf16(void) {
    for (uint32_t h = 0; h < 65536; h++) {
        float f = nigh_bf16_to_f32((uint16_t)h);
        if ((h & 0x7fff) > 0x7f80) CHECK(isnan(f) && (nigh_f32_to_bf16(f) & 0x7fff) > 0x7f80);
        else CHECK(nigh_f32_to_bf16(f) == h);
    }
    CHECK(nigh_f32_to_bf16(1.00390625f) == 0x3f80 && nigh_f32_to_bf16(1.01171875f) == 0x3f82);
}

static uint64_t hash_floats(const float *x, size_t n) {
    uint64_t h = 0xcbf29ce484222325u;
    for (size_t i = 0; i < n; i++) {
        uint32_t u;
        memcpy(&u, x + i, 4);
        if ((u & 0x7fffffff) > 0x7f800000) u = 0x7fc00000;
        for (int k = 0; k < 4; k++) h = (h ^ (u >> 8 * k & 255)) * 0x100000001b3u;
    }
    return h;
}

/* Random blocks (splitmix64 from seed 7, eight bytes a draw, low byte first) and the hash (FNV-1a of the f32 bits) of
 * what they mean. Frozen after each type had been compared with the f32 weights that llama-quantize started from: the
 * relative error falls from 0.29 (Q2_K) over 0.069 (Q4_K) to 0.017 (Q6_K), as it must when every weight has its
 * place and scale. */
static void test_values(void) {
    static const struct { nigh_type type; uint64_t hash; } cases[] = {
        { NIGH_TYPE_Q4_0, 0x743aed46e1adf2cbu },
        { NIGH_TYPE_Q4_1, 0x4b19bc5e7eacfdbbu },
        { NIGH_TYPE_Q5_0, 0xd8dc056c2c498854u },
        { NIGH_TYPE_Q5_1, 0x5aa2907f93a2c7e1u },
        { NIGH_TYPE_Q8_0, 0x3d4e1bb52fbe5f8bu },
        { NIGH_TYPE_Q2_K, 0xc47b533b3cf84654u },
        { NIGH_TYPE_Q3_K, 0xb92d714033a39421u },
        { NIGH_TYPE_Q4_K, 0xee46b1ccd44b659fu },
        { NIGH_TYPE_Q5_K, 0x5831ff8308566156u },
        { NIGH_TYPE_Q6_K, 0x82fa65db5278a6f8u },
        { NIGH_TYPE_IQ4_NL, 0x7bd01aee2ae75bf1u },
        { NIGH_TYPE_IQ4_XS, 0x560891cf9d56f38du },
    };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        const nigh_type_info *info = nigh_type_find(cases[i].type);
        uint8_t src[64 * 256];
        static float out[64 * 256];
        uint64_t state = 7, r = 0;
        for (size_t k = 0; k < 64 * info->block_bytes; k++) {
            if (k % 8 == 0) r = test_rand(&state);
            src[k] = (uint8_t)(r >> 8 * (k % 8));
        }
        nigh_dequantize(cases[i].type, src, out, 64 * info->block_values);
        uint64_t got = hash_floats(out, 64 * info->block_values);
        CHECK_MSG(got == cases[i].hash, "%s: %016llx", info->name, (unsigned long long)got);
    }
}

TEST_MAIN(T(test_table), T(test_f16), T(test_bf16), T(test_values), T(test_writers_equal_llama_quantize),
          T(test_writers_equal_given_pair))
