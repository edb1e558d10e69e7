/* hparams.c - the numbers that shape a model, read from its metadata and checked once.
 * Everything later (buffers, loops, divisions) relies on the ranges checked here; an error names the key. */
#include "engine/model.h"

/* "<architecture>.<suffix>" in a caller's buffer. */
static nigh_str arch_key(const nigh_model *m, const char *suffix, char *buf, size_t cap) {
    size_t n = nigh_format(buf, cap, "%s.%s", m->arch->name, suffix);
    return (nigh_str){ buf, nigh_min(n, cap - 1) };
}

static nigh_status out_of_range(const nigh_gguf *g, nigh_str key, uint64_t v, uint64_t min, uint64_t max,
                                nigh_err *err) {
    const nigh_gguf_value *value = nigh_gguf_find(g, key);
    return nigh_failf(err, NIGH_EDATA, value ? value->at : 0, "%.*s is %llu, outside %llu..%llu", (int)key.len, key.ptr,
                      (unsigned long long)v, (unsigned long long)min, (unsigned long long)max);
}

/* A number in min..max. fallback 0 means that the key must be there. A per-layer array is accepted when all its
 * values are equal. */
static nigh_status read_u32(const nigh_model *m, const nigh_gguf *g, const char *suffix, uint32_t fallback,
                            uint32_t min, uint32_t max, uint32_t *out, nigh_err *err) {
    char buf[160];
    nigh_str key = arch_key(m, suffix, buf, sizeof buf);
    const nigh_gguf_value *v = nigh_gguf_find(g, key);
    if (!v && fallback) { *out = fallback; return NIGH_OK; }
    if (!v) return nigh_failf(err, NIGH_EDATA, 0, "the key %.*s is missing", (int)key.len, key.ptr);
    if (v->type != NIGH_GGUF_ARRAY) {
        NIGH_TRY(nigh_gguf_u32(g, key, out, err));
        return *out < min || *out > max ? out_of_range(g, key, *out, min, max, err) : NIGH_OK;
    }
    bool ints = v->item_type <= NIGH_GGUF_I32 || v->item_type == NIGH_GGUF_U64 || v->item_type == NIGH_GGUF_I64;
    if (!ints || v->count == 0 || v->count != m->h.layers)
        return nigh_failf(err, NIGH_EDATA, v->at, "%.*s must be a number or an array of one for each layer",
                          (int)key.len, key.ptr);
    int64_t first = nigh_gguf_item_int(v, 0);
    for (uint64_t i = 1; i < v->count; i++)
        if (nigh_gguf_item_int(v, i) != first)
            return nigh_failf(err, NIGH_ENOSUP, v->at, "%.*s differs between layers, which is not supported",
                              (int)key.len, key.ptr);
    if (first < (int64_t)min || first > (int64_t)max) return out_of_range(g, key, (uint64_t)first, min, max, err);
    *out = (uint32_t)first;
    return NIGH_OK;
}

/* A finite number in min..max; absent leaves *out. */
static nigh_status read_f32(const nigh_model *m, const nigh_gguf *g, const char *suffix, float min, float max,
                            float *out, nigh_err *err) {
    char buf[160];
    nigh_str key = arch_key(m, suffix, buf, sizeof buf);
    const nigh_gguf_value *value = nigh_gguf_find(g, key);
    if (!value) return NIGH_OK;
    float v = 0;
    NIGH_TRY(nigh_gguf_f32(g, key, &v, err));
    if (!(v >= min && v <= max))
        return nigh_failf(err, NIGH_EDATA, value->at, "%.*s is %f, outside %f..%f", (int)key.len, key.ptr, (double)v,
                          (double)min, (double)max);
    *out = v;
    return NIGH_OK;
}

static nigh_status read_sizes(nigh_model *m, const nigh_gguf *g, nigh_err *err) {
    nigh_hparams *h = &m->h;
    uint32_t value_dim, dim;
    if (nigh_gguf_find(g, arch_key(m, "expert_count", (char[160]){ 0 }, 160))) {
        uint32_t experts;
        NIGH_TRY(read_u32(m, g, "expert_count", 0, 0, UINT32_MAX, &experts, err));
        if (experts)
            return nigh_failf(err, NIGH_ENOSUP, 0, "a mixture of experts (expert_count %u) is not supported",
                              experts);
    }
    NIGH_TRY(read_u32(m, g, "block_count", 0, 1, NIGH_LAYERS_MAX, &h->layers, err));
    NIGH_TRY(read_u32(m, g, "context_length", 0, 1, NIGH_CONTEXT_MAX, &h->context, err));
    NIGH_TRY(read_u32(m, g, "embedding_length", 0, 1, NIGH_EMBED_MAX, &h->embed, err));
    NIGH_TRY(read_u32(m, g, "feed_forward_length", 0, 1, NIGH_FFN_MAX, &h->ffn, err));
    NIGH_TRY(read_u32(m, g, "attention.head_count", 0, 1, NIGH_HEADS_MAX, &h->heads, err));
    NIGH_TRY(read_u32(m, g, "attention.head_count_kv", h->heads, 1, h->heads, &h->kv_heads, err));
    dim = h->embed / h->heads;
    if (!nigh_gguf_find(g, arch_key(m, "attention.key_length", (char[160]){ 0 }, 160))
        && (h->embed % h->heads || dim == 0))
        return nigh_failf(err, NIGH_EDATA, 0, "embedding_length %u is no multiple of head_count %u", h->embed,
                          h->heads);
    NIGH_TRY(read_u32(m, g, "attention.key_length", dim, 1, NIGH_HEAD_DIM_MAX, &h->head_dim, err));
    NIGH_TRY(read_u32(m, g, "attention.value_length", h->head_dim, 1, NIGH_HEAD_DIM_MAX, &value_dim, err));
    if (value_dim != h->head_dim)
        return nigh_fail(err, NIGH_ENOSUP, 0, "keys and values of different length are not supported");
    if (h->heads % h->kv_heads || h->heads / h->kv_heads > NIGH_GROUP_MAX)
        return nigh_failf(err, NIGH_EDATA, 0, "head_count %u does not fit head_count_kv %u", h->heads, h->kv_heads);
    h->q_dim = h->heads * h->head_dim;
    h->kv_dim = h->kv_heads * h->head_dim;
    return NIGH_OK;
}

static nigh_status read_attention(nigh_model *m, const nigh_gguf *g, nigh_err *err) {
    nigh_hparams *h = &m->h;
    char buf[160];
    bool causal = !(m->arch->flags & NIGH_ARCH_ENCODER);
    nigh_str key = arch_key(m, "attention.causal", buf, sizeof buf);
    if (nigh_gguf_find(g, key)) {
        NIGH_TRY(nigh_gguf_bool(g, key, &h->causal, err));
        if (h->causal != causal)
            return nigh_failf(err, NIGH_ENOSUP, nigh_gguf_find(g, key)->at,
                              "%s with the other attention.causal is not supported", m->arch->name);
    }
    h->causal = causal;
    bool layer_norm = (m->arch->flags & NIGH_ARCH_LAYER_NORM) != 0;
    h->norm_eps = -1;
    NIGH_TRY(read_f32(m, g, layer_norm ? "attention.layer_norm_epsilon" : "attention.layer_norm_rms_epsilon", 0, 1,
                      &h->norm_eps, err));
    if (h->norm_eps < 0)
        return nigh_failf(err, NIGH_EDATA, 0, "the key %s.attention.layer_norm_%sepsilon is missing", m->arch->name,
                          layer_norm ? "" : "rms_");
    NIGH_TRY(read_f32(m, g, "attn_logit_softcapping", 0, 1e6f, &h->attn_softcap, err));
    NIGH_TRY(read_f32(m, g, "final_logit_softcapping", 0, 1e6f, &h->final_softcap, err));
    uint32_t window = 0, pooling = 0;
    if (nigh_gguf_find(g, arch_key(m, "attention.sliding_window", buf, sizeof buf)))
        NIGH_TRY(read_u32(m, g, "attention.sliding_window", 0, 0, UINT32_MAX, &window, err));
    h->window = window;
    if (m->arch->flags & NIGH_ARCH_ALIBI) {
        h->alibi_max = 8;
        NIGH_TRY(read_f32(m, g, "attention.max_alibi_bias", 0, 1024, &h->alibi_max, err));
    }
    if (nigh_gguf_find(g, arch_key(m, "pooling_type", buf, sizeof buf))) {
        NIGH_TRY(read_u32(m, g, "pooling_type", 0, 0, 4, &pooling, err));
        if (pooling == 4) return nigh_fail(err, NIGH_ENOSUP, 0, "models that rank (pooling type 4) are not supported");
    }
    h->pooling = (nigh_pooling)pooling;
    return NIGH_OK;
}

nigh_status nigh_hparams_read(nigh_model *m, const nigh_gguf *g, nigh_err *err) {
    NIGH_TRY(read_sizes(m, g, err));
    NIGH_TRY(read_attention(m, g, err));
    nigh_hparams *h = &m->h;
    h->rope_dims = 0;
    if (m->arch->flags & NIGH_ARCH_ROPE) {
        NIGH_TRY(read_u32(m, g, "rope.dimension_count", h->head_dim, 1, h->head_dim, &h->rope_dims, err));
        if (h->rope_dims % 2) return nigh_failf(err, NIGH_EDATA, 0, "rope.dimension_count %u is odd", h->rope_dims);
    }
    const nigh_gguf_value *tokens = nigh_gguf_find(g, NIGH_STR("tokenizer.ggml.tokens"));
    if (!tokens) return nigh_fail(err, NIGH_EDATA, 0, "the file has no vocabulary: tokenizer.ggml.tokens is missing");
    if (tokens->count == 0 || tokens->count > NIGH_VOCAB_MAX)
        return nigh_failf(err, NIGH_EDATA, tokens->at, "a vocabulary of %llu tokens is outside 1..%d",
                          (unsigned long long)tokens->count, NIGH_VOCAB_MAX);
    h->vocab = (uint32_t)tokens->count;
    return NIGH_OK;
}
