/* rope.c - rotary positions: the angle that each pair of a head turns per position.
 * Su et al., "RoFormer" (2021); linear scaling: Chen et al. 2023; YaRN: Peng et al. 2023 (beta 32 and 1); long
 * factors: LongRoPE, Ding et al. 2024. Angles are kept in double and multiplied by the position, so a long context
 * loses no precision. */
#include "engine/model.h"
#include "kernel/math.h"

#define TWO_PI 6.283185307179586

typedef struct { double base, scale; bool yarn; double original, factor; } rope_rule;

/* The pair index at which a full turn takes `turns` fewer than the original context. */
static double yarn_dim(const rope_rule *r, double dims, double turns) {
    return dims * nigh_log64(r->original / (turns * TWO_PI)) / (2 * nigh_log64(r->base));
}

static double yarn_mix(const rope_rule *r, double dims, uint32_t pair) { /* 1: keep the angle, 0: stretch it */
    double low = yarn_dim(r, dims, 32), high = yarn_dim(r, dims, 1);
    low = low < 0 ? 0 : (double)(int64_t)low;
    high = (double)(int64_t)high < high ? (double)((int64_t)high + 1) : (double)(int64_t)high;
    if (high > dims - 1) high = dims - 1;
    double span = high - low < 0.001 ? 0.001 : high - low, y = ((double)pair - low) / span;
    return 1 - (y < 0 ? 0 : y > 1 ? 1 : y);
}

static nigh_status fill(nigh_model *m, size_t table, const rope_rule *r, const float *factors, nigh_err *err) {
    uint32_t half = m->h.rope_dims / 2;
    double *freq = nigh_alloc(half, sizeof *freq);
    if (!freq) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the rotation table");
    for (uint32_t i = 0; i < half; i++) {
        double angle = nigh_pow64(r->base, -2.0 * i / m->h.rope_dims);
        if (factors) angle /= (double)factors[i];
        double mix = r->yarn ? yarn_mix(r, m->h.rope_dims, i) : 0;
        freq[i] = angle * (r->scale * (1 - mix) + mix);
    }
    m->rope_freq[table] = freq;
    return NIGH_OK;
}

static nigh_status read_float(const nigh_model *m, const nigh_gguf *g, const char *suffix, double min, double max,
                              double *out, nigh_err *err) {
    char buf[160];
    float v = 0;
    nigh_str key = { buf, nigh_min(nigh_format(buf, sizeof buf, "%s.%s", m->arch->name, suffix), sizeof buf - 1) };
    const nigh_gguf_value *value = nigh_gguf_find(g, key);
    if (!value) return NIGH_OK;
    if (value->type == NIGH_GGUF_U32) v = (float)nigh_gguf_item_int(value, 0);
    else NIGH_TRY(nigh_gguf_f32(g, key, &v, err));
    if (!((double)v >= min && (double)v <= max))
        return nigh_failf(err, NIGH_EDATA, value->at, "%.*s is %f, outside %f..%f", (int)key.len, key.ptr, (double)v,
                          min, max);
    *out = (double)v;
    return NIGH_OK;
}

static nigh_status read_rule(nigh_model *m, const nigh_gguf *g, rope_rule *r, nigh_err *err) {
    char buf[160];
    nigh_str type = { 0 };
    nigh_str key = { buf,
                     nigh_min(nigh_format(buf, sizeof buf, "%s.rope.scaling.type", m->arch->name), sizeof buf - 1) };
    *r = (rope_rule){ .base = 10000, .scale = 1, .original = m->h.context, .factor = 1 };
    NIGH_TRY(read_float(m, g, "rope.freq_base", 1, 1e12, &r->base, err));
    if (r->base <= 1) return nigh_fail(err, NIGH_EDATA, 0, "rope.freq_base must be larger than 1");
    if (nigh_gguf_find(g, key)) NIGH_TRY(nigh_gguf_string(g, key, &type, err));
    NIGH_TRY(read_float(m, g, "rope.scaling.factor", 0, 1e6, &r->factor, err));
    NIGH_TRY(read_float(m, g, "rope.scaling.original_context_length", 1, NIGH_CONTEXT_MAX, &r->original, err));
    bool none = type.len == 0 || nigh_str_eq(type, NIGH_STR("none")) || nigh_str_eq(type, NIGH_STR("longrope"));
    if (none && type.len) r->factor = 1;
    r->yarn = nigh_str_eq(type, NIGH_STR("yarn"));
    if (!none && !r->yarn && !nigh_str_eq(type, NIGH_STR("linear")))
        return nigh_failf(err, NIGH_ENOSUP, nigh_gguf_find(g, key)->at, "rope.scaling.type '%.*s' is not supported",
                          (int)nigh_min(type.len, 40), type.ptr);
    if (r->factor > 0) r->scale = 1 / r->factor;
    return NIGH_OK;
}

/* A vector of [rope_dims / 2] positive divisors, or NULL when the file has none. */
static nigh_status read_factors(const nigh_model *m, const nigh_gguf *g, nigh_str name, const float **out,
                                nigh_err *err) {
    const nigh_gguf_tensor *t = nigh_gguf_tensor_find(g, name);
    *out = NULL;
    if (!t) return NIGH_OK;
    if (t->type != NIGH_TYPE_F32 || t->dim_count != 1 || t->dims[0] != m->h.rope_dims / 2)
        return nigh_failf(err, NIGH_EDATA, t->at, "tensor %.*s must be F32 of %u values", (int)name.len, name.ptr,
                          m->h.rope_dims / 2);
    size_t count = (size_t)t->dims[0];
    float *copy = nigh_alloc(count, sizeof *copy);
    if (!copy) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the rotation factors");
    memcpy(copy, t->data, count * sizeof *copy);
    for (size_t i = 0; i < count; i++) {
        if (copy[i] > 0 && copy[i] < 1e9f) continue;
        nigh_free(copy);
        return nigh_failf(err, NIGH_EDATA, t->at, "tensor %.*s: value %zu is not positive", (int)name.len, name.ptr, i);
    }
    *out = copy;
    return NIGH_OK;
}

nigh_status nigh_rope_init(nigh_model *m, const nigh_gguf *g, nigh_err *err) {
    rope_rule rule;
    const float *one = NULL, *small = NULL, *large = NULL;
    double attn_factor = 1;
    m->h.rope_mscale[0] = m->h.rope_mscale[1] = 1;
    if (!(m->arch->flags & NIGH_ARCH_ROPE)) return NIGH_OK;
    NIGH_TRY(read_rule(m, g, &rule, err));
    NIGH_TRY(read_float(m, g, "rope.scaling.attn_factor", 0, 1e3, &attn_factor, err));
    nigh_status st = read_factors(m, g, NIGH_STR("rope_freqs.weight"), &one, err);
    if (st == NIGH_OK) st = read_factors(m, g, NIGH_STR("rope_factors_short.weight"), &small, err);
    if (st == NIGH_OK) st = read_factors(m, g, NIGH_STR("rope_factors_long.weight"), &large, err);
    if (st == NIGH_OK && !small != !large)
        st = nigh_fail(err, NIGH_EDATA, 0, "rope_factors_short and rope_factors_long belong together");
    if (st == NIGH_OK) st = fill(m, 0, &rule, small ? small : one, err);
    if (st == NIGH_OK && large) {
        st = fill(m, 1, &rule, large, err);
        m->h.rope_original = (uint32_t)rule.original;
    } else if (st == NIGH_OK && m->arch->flags & NIGH_ARCH_TWO_BASES) {
        rope_rule local = { .base = 10000, .scale = 1 };
        st = read_float(m, g, "rope.freq_base_swa", 1.0001, 1e12, &local.base, err);
        if (st == NIGH_OK) st = fill(m, 1, &local, NULL, err);
    }
    double mscale = attn_factor * (rule.yarn && rule.factor > 1 ? 1 + 0.1 * nigh_log64(rule.factor) : 1);
    m->h.rope_mscale[0] = (float)mscale;
    m->h.rope_mscale[1] = large ? (float)mscale : 1;
    nigh_free((void *)(uintptr_t)one);
    nigh_free((void *)(uintptr_t)small);
    nigh_free((void *)(uintptr_t)large);
    return st;
}
