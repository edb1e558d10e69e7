/* upstream_limits.c - when a place that is busy will have room again, in the words of those who do not say retry-after:
 *
 *     x-ratelimit-reset-requests: 6m0s    x-ratelimit-remaining-requests: 0     OpenAI and many like it; also -tokens
 *     anthropic-ratelimit-tokens-reset: 2026-11-21T22:40:00Z    anthropic-ratelimit-tokens-remaining: 0
 *
 * Of requests and tokens the one counts that has nothing left; if neither says what is left, the longer wait. */
#include "node/upstream_parts.h"

enum { REQUESTS, TOKENS, LONGEST_MS = 86400000 };

/* "1s", "20ms", "6m0s", "2m59.56s", "1h", or seconds alone. 0: none of these. */
static uint32_t read_wait(nigh_str text) {
    static const struct { const char *name; double ms; } units[] = { { "ms", 1 }, { "s", 1e3 }, { "m", 6e4 },
                                                                     { "h", 3.6e6 }, { "d", 8.64e7 } };
    double sum = 0, number;
    for (size_t at = 0; at < text.len;) {
        size_t end = at, unit;
        while (end < text.len && ((text.ptr[end] >= '0' && text.ptr[end] <= '9') || text.ptr[end] == '.')) end++;
        if (!nigh_str_to_f64(nigh_str_slice(text, at, end), &number) || !(number >= 0)) return 0;
        for (unit = end; unit < text.len && text.ptr[unit] >= 'a' && text.ptr[unit] <= 'z';) unit++;
        nigh_str name = nigh_str_slice(text, end, unit);
        size_t i = 0;
        if (!name.len && unit == text.len) name = NIGH_STR("s");
        while (i < NIGH_COUNT(units) && !nigh_str_eq(name, nigh_str_of(units[i].name))) i++;
        if (i == NIGH_COUNT(units)) return 0;
        sum += number * units[i].ms;
        at = unit;
    }
    return sum < LONGEST_MS ? (uint32_t)sum : LONGEST_MS;
}

static uint32_t read_instant(nigh_str text, uint64_t now_ms) {
    uint64_t at_s;
    if (!nigh_instant_parse(text, &at_s) || at_s * 1000 <= now_ms) return 0;
    return (uint32_t)nigh_min((size_t)(at_s * 1000 - now_ms), LONGEST_MS);
}

static bool skip(nigh_str *line, const char *word) {
    nigh_str w = nigh_str_of(word);
    if (line->len < w.len) return false;
    for (size_t i = 0; i < w.len; i++) {
        char c = line->ptr[i];
        if ((c >= 'A' && c <= 'Z' ? (char)(c | 32) : c) != w.ptr[i]) return false;
    }
    *line = nigh_str_slice(*line, w.len, line->len);
    return true;
}

static bool skip_kind(nigh_str *line, size_t *kind) {
    *kind = skip(line, "requests") ? REQUESTS : TOKENS;
    return *kind == REQUESTS || skip(line, "tokens");
}

static void take_left(nigh_upstream_limits *l, size_t kind, nigh_str value) {
    int64_t left;
    if (!nigh_str_to_i64(value, &left)) return;
    l->said[kind] = true;
    l->left[kind] = left > 0;
}

void nigh_upstream_limits_line(nigh_upstream_limits *l, nigh_str line, uint64_t now_ms) {
    size_t kind;
    nigh_str value;
    bool dated = skip(&line, "anthropic-ratelimit-");
    if (!dated && !skip(&line, "x-ratelimit-")) return;
    bool reset = !dated && skip(&line, "reset-"), left = !dated && !reset && skip(&line, "remaining-");
    if ((!dated && !reset && !left) || !skip_kind(&line, &kind)) return;
    if (dated && !(reset = skip(&line, "-reset")) && !(left = skip(&line, "-remaining"))) return;
    if (!skip(&line, ":")) return;
    value = nigh_str_trim(line);
    if (left) take_left(l, kind, value);
    else l->reset_ms[kind] = dated ? read_instant(value, now_ms) : read_wait(value);
}

uint32_t nigh_upstream_limits_ms(const nigh_upstream_limits *l) {
    uint32_t longest = 0;
    for (size_t kind = 0; kind < NIGH_COUNT(l->reset_ms); kind++) {
        bool counts = !(l->said[kind] && l->left[kind]);
        if (counts && l->reset_ms[kind] > longest) longest = l->reset_ms[kind];
    }
    return longest;
}
