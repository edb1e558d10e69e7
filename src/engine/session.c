/* session.c - one sequence of tokens and its cache; see session.h for the layout. */
#include "engine/session.h"

#include "base/os.h"

static size_t cache_layers(const nigh_model *m) { return m->arch->flags & NIGH_ARCH_ENCODER ? 1 : m->h.layers; }

static bool cache_bytes(const nigh_model *m, uint32_t limit, size_t *out) {
    size_t positions = nigh_round_up(limit, NIGH_ROWS), per_position, heads;
    return nigh_mul(cache_layers(m), m->h.kv_heads, &heads)
           && nigh_mul(heads, 2 * (size_t)m->h.head_dim * sizeof(float), &per_position)
           && nigh_mul(positions, per_position, out);
}

size_t nigh_session_bytes(const nigh_model *m, uint32_t context_tokens) {
    size_t bytes;
    uint32_t limit = context_tokens ? context_tokens : m->h.context;
    return cache_bytes(m, limit, &bytes) ? bytes + limit * sizeof(int32_t) : SIZE_MAX;
}

nigh_status nigh_session_make(nigh_session **out, const nigh_model *m, uint32_t limit, nigh_err *err) {
    size_t bytes;
    *out = NULL;
    if (!cache_bytes(m, limit, &bytes))
        return nigh_fail(err, NIGH_ERANGE, 0, "the context is too long for this machine");
    nigh_session *s = nigh_alloc(1, sizeof *s);
    if (!s) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for a session");
    *s = (nigh_session){ .m = m, .limit = limit, .cache_layers = (uint32_t)cache_layers(m), .cache_bytes = bytes };
    s->v_floats = nigh_round_up(limit, NIGH_ROWS) * (size_t)m->h.head_dim;
    s->k_floats = s->v_floats;
    s->tokens = nigh_alloc(limit, sizeof *s->tokens);
    s->cache = nigh_os_sparse_take(bytes);     /* each head's part is far from the next */
    if (s->tokens && s->cache) { *out = s; return NIGH_OK; }
    nigh_session_free(s);
    return nigh_failf(err, NIGH_ENOMEM, 0,
                      "a session of %u tokens needs %zu MiB, which cannot be had; ask for a shorter context", limit,
                      bytes >> 20);
}

nigh_status nigh_session_new(nigh_session **out, const nigh_model *m, uint32_t context_tokens, nigh_err *err) {
    *out = NULL;
    if (context_tokens > m->h.context)
        return nigh_failf(err, NIGH_ERANGE, 0,
                          "a context of %u tokens is more than the %u that this model was made for", context_tokens,
                          m->h.context);
    return nigh_session_make(out, m, context_tokens ? context_tokens : m->h.context, err);
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

uint32_t nigh_session_reuse(nigh_session *s, const int32_t *tokens, uint32_t count) {
    uint32_t same = 0, most = count ? count - 1 : 0;
    while (same < s->count && same < most && s->tokens[same] == tokens[same]) same++;
    s->count = same;
    return same;
}

nigh_status nigh_session_copy_prefix(nigh_session *dst, const nigh_session *src, uint32_t count, nigh_err *err) {
    if (dst->m != src->m) return nigh_fail(err, NIGH_EINVAL, 0, "the two sessions are not of one model");
    if (count > src->count)
        return nigh_failf(err, NIGH_ERANGE, 0, "%u tokens cannot be copied, the session holds %u", count, src->count);
    if (count > dst->limit)
        return nigh_failf(err, NIGH_ERANGE, 0, "%u tokens do not fit a session of %u", count, dst->limit);
    if (dst == src) { dst->count = count; return NIGH_OK; }
    size_t dim = dst->m->h.head_dim, keys = nigh_round_up(count, NIGH_ROWS) * dim, values = count * dim;
    for (uint32_t i = 0; i < dst->cache_layers; i++)
        for (uint32_t head = 0; head < dst->m->h.kv_heads; head++) {
            memcpy(nigh_session_keys(dst, i, head), nigh_session_keys(src, i, head), keys * sizeof(float));
            memcpy(nigh_session_values(dst, i, head), nigh_session_values(src, i, head), values * sizeof(float));
        }
    memcpy(dst->tokens, src->tokens, count * sizeof *dst->tokens);
    dst->count = count;
    return NIGH_OK;
}

static size_t head_idx(const nigh_session *s, uint32_t layer_idx, uint32_t kv_head) {
    return (size_t)(layer_idx % s->cache_layers) * s->m->h.kv_heads + kv_head;
}

float *nigh_session_keys(const nigh_session *s, uint32_t layer_idx, uint32_t kv_head) {
    return s->cache + head_idx(s, layer_idx, kv_head) * (s->k_floats + s->v_floats);
}

float *nigh_session_values(const nigh_session *s, uint32_t layer_idx, uint32_t kv_head) {
    return nigh_session_keys(s, layer_idx, kv_head) + s->k_floats;
}
