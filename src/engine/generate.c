/* generate.c - see generate.h.
 *
 *     logits -> sampler -> token -> detokeniser (whole letters) -> stop strings -> text that may be shown
 *
 * `text` holds what was decoded and not yet handed out:
 *
 *     | shown: step.text of the last call | held: may be the start of a stop string |
 *     0                                 shown                                    text.len
 *
 * The next call first drops the shown part. Each stop string has a matcher that keeps the length of its
 * longest beginning that the text ends with (Knuth, Morris, Pratt 1977: on a mismatch the table of the
 * string's own borders gives the next shorter one), so each byte is looked at once for each string, and
 * the most that must be held back is the largest of these lengths. */
#include "engine/generate.h"

enum { STOPS_MAX = 16, STOP_BYTES_MAX = 1024, TOP_MAX = 20, TEXT_BYTES_MAX = 1 << 20 };

typedef struct {
    const char *bytes;
    const uint16_t *border;     /* [len]: longest proper border of the first i + 1 bytes */
    uint16_t len, matched;
} matcher;

struct nigh_generation {
    const nigh_tokenizer *tokenizer;
    nigh_sampler *sampler;
    size_t vocab;
    uint32_t max_tokens, top_count, count;
    bool logprobs, ignore_end;
    nigh_finish finish;
    nigh_detok detok;
    nigh_buf text;
    size_t shown, scanned;      /* bytes of text that were handed out; that the matchers have seen */
    matcher stops[STOPS_MAX];
    size_t stop_count;
    uint8_t stopped_by;         /* its number, from 1 */
    void *stop_block;           /* the borders of all stops, then their bytes */
    nigh_logprob top[TOP_MAX];
};

/* ---- stop strings ---- */

static nigh_status check_stops(const nigh_generate_opts *o, size_t *total, nigh_err *err) {
    if (o->stop_count > STOPS_MAX)
        return nigh_failf(err, NIGH_EINVAL, 0, "at most %d stop strings, not %zu", STOPS_MAX, o->stop_count);
    *total = 0;
    for (size_t i = 0; i < o->stop_count; i++) {
        if (o->stop[i].len < 1 || o->stop[i].len > STOP_BYTES_MAX)
            return nigh_failf(err, NIGH_EINVAL, 0, "a stop string has 1 to %d bytes, not %zu", STOP_BYTES_MAX,
                              o->stop[i].len);
        *total += o->stop[i].len;
    }
    return NIGH_OK;
}

static void fill_borders(const char *bytes, size_t len, uint16_t *border) {
    uint16_t k = 0;
    border[0] = 0;
    for (size_t i = 1; i < len; i++) {
        while (k && bytes[i] != bytes[k]) k = border[k - 1];
        if (bytes[i] == bytes[k]) k++;
        border[i] = k;
    }
}

static nigh_status copy_stops(nigh_generation *g, const nigh_generate_opts *o, size_t total) {
    if (total == 0) return NIGH_OK;
    g->stop_block = nigh_alloc(total, sizeof(uint16_t) + 1);
    if (!g->stop_block) return NIGH_ENOMEM;
    uint16_t *border = g->stop_block;
    char *bytes = (char *)(border + total);
    for (size_t i = 0; i < o->stop_count; i++) {
        size_t len = o->stop[i].len;
        memcpy(bytes, o->stop[i].ptr, len);
        fill_borders(bytes, len, border);
        g->stops[i] = (matcher){ bytes, border, (uint16_t)len, 0 };
        bytes += len;
        border += len;
    }
    g->stop_count = o->stop_count;
    return NIGH_OK;
}

/* One more byte of text; true when the string is complete. */
static bool match_byte(matcher *m, char c) {
    while (m->matched && m->bytes[m->matched] != c) m->matched = m->border[m->matched - 1];
    if (m->bytes[m->matched] == c) m->matched++;
    return m->matched == m->len;
}

/* Shows the new bytes of text to the matchers. True when a stop string is complete; then the text is cut before it. */
static bool scan_text(nigh_generation *g) {
    for (; g->scanned < g->text.len; g->scanned++) {
        size_t longest = 0;
        for (size_t i = 0; i < g->stop_count; i++)
            if (match_byte(&g->stops[i], g->text.ptr[g->scanned]) && g->stops[i].len > longest) {
                longest = g->stops[i].len;
                g->stopped_by = (uint8_t)(i + 1);
            }
        if (longest == 0) continue;
        g->text.len = g->scanned + 1 - longest;
        return true;
    }
    return false;
}

/* How much of the end of the text may be the start of a stop string. */
static size_t held_bytes(const nigh_generation *g) {
    size_t held = 0;
    for (size_t i = 0; i < g->stop_count; i++) held = nigh_max(held, g->stops[i].matched);
    return held;
}

/* ---- life ---- */

nigh_status nigh_generation_new(nigh_generation **out, const nigh_tokenizer *t, nigh_generate_opts o,
                                const int32_t *prompt, size_t prompt_count, nigh_err *err) {
    size_t stop_bytes = 0, vocab = nigh_tokenizer_count(t);
    *out = NULL;
    NIGH_TRY(check_stops(&o, &stop_bytes, err));
    if (o.top_logprobs > TOP_MAX) return nigh_failf(err, NIGH_EINVAL, 0, "top_logprobs must lie in 0..%d", TOP_MAX);
    nigh_generation *g = nigh_alloc(1, sizeof *g);
    if (!g) return nigh_fail(err, NIGH_ENOMEM, 0, "no memory for a generation");
    g->tokenizer = t;
    g->vocab = vocab;
    g->max_tokens = o.max_tokens;
    g->top_count = o.top_logprobs;
    g->logprobs = o.logprobs || o.top_logprobs;
    g->ignore_end = o.ignore_end;
    g->text = NIGH_BUF(TEXT_BYTES_MAX);
    nigh_status status = copy_stops(g, &o, stop_bytes);
    if (status != NIGH_OK) nigh_fail(err, status, 0, "no memory for the stop strings");
    else status = nigh_sampler_new(&g->sampler, o.sampler, vocab, err);
    if (status != NIGH_OK) {
        nigh_generation_free(g);
        return status;
    }
    for (size_t i = 0; i < prompt_count; i++) {
        nigh_sampler_accept(g->sampler, prompt[i]);
        if (!nigh_tokenizer_is_control(t, prompt[i])) g->detok.started = true;
    }
    *out = g;
    return NIGH_OK;
}

void nigh_generation_free(nigh_generation *g) {
    if (!g) return;
    nigh_sampler_free(g->sampler);
    nigh_free(g->stop_block);
    nigh_buf_release(&g->text);
    nigh_free(g);
}

uint32_t nigh_generation_count(const nigh_generation *g) { return g->count; }

/* ---- steps ---- */

static void drop_shown(nigh_generation *g) {
    if (g->shown == 0) return;
    g->text.len -= g->shown;
    g->scanned -= g->shown;
    memmove(g->text.ptr, g->text.ptr + g->shown, g->text.len);
    g->shown = 0;
}

static void show(nigh_generation *g, nigh_step *step, size_t held) {
    g->shown = g->text.len - held;
    step->text = (nigh_str){ g->text.ptr, g->shown };
    step->finish = g->finish;
    step->stop = g->stopped_by;
}

/* The last text: half a letter becomes U+FFFD, and nothing is held back any more. */
static nigh_status close_text(nigh_generation *g, nigh_finish why, nigh_step *step) {
    NIGH_TRY(nigh_detok_flush(&g->detok, &g->text));
    g->finish = scan_text(g) ? NIGH_FINISH_STOP : why;
    show(g, step, 0);
    return NIGH_OK;
}

nigh_status nigh_generation_step(nigh_generation *g, const float *logits, nigh_step *step, nigh_err *err) {
    assert(g->finish == NIGH_FINISH_NONE);
    drop_shown(g);
    *step = (nigh_step){ .token = nigh_sampler_pick(g->sampler, logits), .top = g->top };
    if (g->logprobs) nigh_logprobs(logits, g->vocab, step->token, &step->logprob, g->top, g->top_count);

    nigh_status status;
    if (!g->ignore_end && nigh_tokenizer_is_end(g->tokenizer, step->token))
        status = close_text(g, NIGH_FINISH_STOP, step);
    else {
        g->count++;
        nigh_sampler_accept(g->sampler, step->token);
        status = nigh_detok_push(&g->detok, g->tokenizer, step->token, false, &g->text);
        if (status == NIGH_OK && scan_text(g)) {
            g->finish = NIGH_FINISH_STOP;
            show(g, step, 0);
        } else if (status == NIGH_OK && g->count == g->max_tokens) status = close_text(g, NIGH_FINISH_LENGTH, step);
        else if (status == NIGH_OK) show(g, step, held_bytes(g));
    }
    if (status != NIGH_OK)
        return nigh_failf(err, status, 0, "the text of token %d: %s", (int)step->token, nigh_status_text(status));
    return NIGH_OK;
}

nigh_status nigh_generation_end(nigh_generation *g, nigh_finish why, nigh_step *step) {
    assert(g->finish == NIGH_FINISH_NONE && why != NIGH_FINISH_NONE);
    drop_shown(g);
    *step = (nigh_step){ .token = -1, .top = g->top };
    return close_text(g, why, step);
}
