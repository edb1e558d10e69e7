/* session.c - one sequence of tokens and its cache; see session.h for the layout. */
#include "engine/session.h"

#include "base/os.h"
#include "kernel/kv.h"

static nigh_type type_of(nigh_cache cache) {
    static const nigh_type types[] = { [NIGH_CACHE_F16] = NIGH_TYPE_F16, [NIGH_CACHE_F32] = NIGH_TYPE_F32,
                                       [NIGH_CACHE_Q8_0] = NIGH_TYPE_Q8_0, [NIGH_CACHE_I16] = NIGH_TYPE_I16 };
    return types[cache];
}

static size_t cache_layers(const nigh_model *m) { return m->arch->flags & NIGH_ARCH_ENCODER ? 1 : m->h.layers; }

static size_t head_bytes(const nigh_model *m, nigh_type type) { return 2 * nigh_kv_half_bytes(type, m->h.head_dim); }

/* Bytes of one block of 64 positions, and of all. False when they do not fit a size. */
static bool cache_bytes(const nigh_model *m, uint32_t limit, nigh_type type, size_t *block, size_t *all) {
    size_t blocks = nigh_round_up(limit, NIGH_KV_BLOCK) / NIGH_KV_BLOCK, heads;
    return nigh_mul(cache_layers(m), m->h.kv_heads, &heads) && nigh_mul(heads, head_bytes(m, type), block)
           && nigh_mul(blocks, *block, all);
}

size_t nigh_session_bytes_as(const nigh_model *m, nigh_session_opts o) {
    size_t block, bytes;
    uint32_t limit = o.context_tokens ? o.context_tokens : m->h.context;
    return cache_bytes(m, limit, type_of(o.cache), &block, &bytes) && nigh_add(bytes, limit * sizeof(int32_t), &bytes)
               ? bytes : SIZE_MAX;
}

size_t nigh_session_bytes(const nigh_model *m, uint32_t context_tokens) {
    return nigh_session_bytes_as(m, (nigh_session_opts){ .context_tokens = context_tokens });
}

nigh_status nigh_session_make(nigh_session **out, const nigh_model *m, uint32_t limit, nigh_type type, nigh_err *err) {
    size_t block, bytes;
    *out = NULL;
    if (!cache_bytes(m, limit, type, &block, &bytes))
        return nigh_fail(err, NIGH_ERANGE, 0, "the context is too long for this machine");
    nigh_session *s = nigh_alloc(1, sizeof *s);
    if (!s) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for a session");
    *s = (nigh_session){ .m = m, .limit = limit, .cache_layers = (uint32_t)cache_layers(m), .type = type,
                         .cache_bytes = bytes, .block_bytes = block, .head_bytes = head_bytes(m, type) };
    s->tokens = nigh_alloc(limit, sizeof *s->tokens);
    s->cache = nigh_os_pages_take(bytes);
    if (s->tokens && s->cache) { *out = s; return NIGH_OK; }
    nigh_session_free(s);
    return nigh_failf(err, NIGH_ENOMEM, 0,
                      "a session of %u tokens needs %zu MiB, which cannot be had; ask for a shorter context", limit,
                      bytes >> 20);
}

nigh_status nigh_session_new_as(nigh_session **out, const nigh_model *m, nigh_session_opts o, nigh_err *err) {
    *out = NULL;
    if (o.context_tokens > m->h.context)
        return nigh_failf(err, NIGH_ERANGE, 0,
                          "a context of %u tokens is more than the %u that this model was made for", o.context_tokens,
                          m->h.context);
    if (nigh_kv_is_int(type_of(o.cache)) && m->h.head_dim % NIGH_KV_SPAN)
        return nigh_failf(err, NIGH_ENOSUP, 0,
                          "a cache of %s needs heads of a multiple of 32 values, but this model's have %u; take f16",
                          o.cache == NIGH_CACHE_I16 ? "i16" : "q8_0", m->h.head_dim);
    return nigh_session_make(out, m, o.context_tokens ? o.context_tokens : m->h.context, type_of(o.cache), err);
}

nigh_status nigh_session_new(nigh_session **out, const nigh_model *m, uint32_t context_tokens, nigh_err *err) {
    return nigh_session_new_as(out, m, (nigh_session_opts){ .context_tokens = context_tokens }, err);
}

void nigh_session_free(nigh_session *s) {
    if (!s) return;
    nigh_free(s->tokens);
    nigh_os_pages_give(s->cache, s->cache_bytes);
    nigh_free(s);
}

uint32_t nigh_session_limit(const nigh_session *s) { return s->limit; }
uint32_t nigh_session_count(const nigh_session *s) { return s->count; }
const int32_t *nigh_session_tokens(const nigh_session *s) { return s->tokens; }

void nigh_session_truncate(nigh_session *s, uint32_t count) {
    if (count < s->count) s->count = count;
}

void nigh_session_wipe(nigh_session *s) {
    size_t blocks = nigh_round_up(s->written, NIGH_KV_BLOCK) / NIGH_KV_BLOCK;
    memset(s->cache, 0, blocks * s->block_bytes);
    memset(s->tokens, 0, s->written * sizeof *s->tokens);
    s->count = s->written = 0;
}

uint32_t nigh_session_reuse(nigh_session *s, const int32_t *tokens, uint32_t count) {
    uint32_t same = 0, most = count ? count - 1 : 0;
    while (same < s->count && same < most && s->tokens[same] == tokens[same]) same++;
    s->count = same;
    return same;
}

nigh_status nigh_session_copy_prefix(nigh_session *dst, const nigh_session *src, uint32_t count, nigh_err *err) {
    if (dst->m != src->m || dst->type != src->type)
        return nigh_fail(err, NIGH_EINVAL, 0, "the two sessions are not of one model and one type of cache");
    if (count > src->count)
        return nigh_failf(err, NIGH_ERANGE, 0, "%u tokens cannot be copied, the session holds %u", count, src->count);
    if (count > dst->limit)
        return nigh_failf(err, NIGH_ERANGE, 0, "%u tokens do not fit a session of %u", count, dst->limit);
    if (dst != src) {
        uint32_t whole = (uint32_t)nigh_min(nigh_round_up(count, NIGH_KV_BLOCK), dst->limit);
        dst->written = (uint32_t)nigh_max(dst->written, whole);
        size_t blocks = nigh_round_up(count, NIGH_KV_BLOCK) / NIGH_KV_BLOCK;
        memcpy(dst->cache, src->cache, blocks * dst->block_bytes);
        memcpy(dst->tokens, src->tokens, count * sizeof *dst->tokens);
    }
    dst->count = count;
    return NIGH_OK;
}

uint8_t *nigh_session_head(const nigh_session *s, uint32_t layer_idx, uint32_t kv_head) {
    return s->cache + ((size_t)(layer_idx % s->cache_layers) * s->m->h.kv_heads + kv_head) * s->head_bytes;
}
