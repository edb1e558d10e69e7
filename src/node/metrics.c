/* metrics.c - counters in the text format of Prometheus (version 0.0.4). */
#include "node/metrics.h"

#include "base/os.h"

static const uint64_t bounds_ms[NIGH_BUCKETS] = { 5, 10, 25, 50, 100, 250, 500, 1000, 5000, 30000 };

void nigh_metrics_observe(nigh_histogram *h, uint64_t us) {
    size_t i = 0;
    while (i < NIGH_BUCKETS && us > bounds_ms[i] * 1000) i++;
    atomic_fetch_add(&h->bucket[i], 1);
    atomic_fetch_add(&h->sum_us, us);
    atomic_fetch_add(&h->count, 1);
}

static nigh_status print_value(nigh_buf *out, const char *name, const char *type, const char *help, int64_t v) {
    return nigh_buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n%s %lld\n", name, help, name, type, name, (long long)v);
}

static nigh_status print_histogram(nigh_buf *out, const char *name, const char *help, const nigh_histogram *h) {
    uint64_t below = 0;
    NIGH_TRY(nigh_buf_addf(out, "# HELP %s %s\n# TYPE %s histogram\n", name, help, name));
    for (size_t i = 0; i <= NIGH_BUCKETS; i++) {
        below += atomic_load(&h->bucket[i]);
        if (i < NIGH_BUCKETS)
            NIGH_TRY(nigh_buf_addf(out, "%s_bucket{le=\"%.3f\"} %llu\n", name, (double)bounds_ms[i] / 1000.0,
                (unsigned long long)below));
        else NIGH_TRY(nigh_buf_addf(out, "%s_bucket{le=\"+Inf\"} %llu\n", name, (unsigned long long)below));
    }
    return nigh_buf_addf(out, "%s_sum %.6f\n%s_count %llu\n", name, (double)atomic_load(&h->sum_us) / 1e6, name,
        (unsigned long long)atomic_load(&h->count));
}

nigh_status nigh_metrics_print(const nigh_metrics *m, unsigned connections, nigh_buf *out) {
    const struct { const char *name, *type, *help; int64_t value; } values[] = {
        { "nigh_running_sequences", "gauge", "Sequences in the batch now.", atomic_load(&m->running) },
        { "nigh_queued_sequences", "gauge", "Sequences that wait for a place.", atomic_load(&m->queued) },
        { "nigh_connections", "gauge", "Open connections.", connections },
        { "nigh_prompt_tokens_total", "counter", "Tokens of prompts.", (int64_t)atomic_load(&m->prompt_tokens) },
        { "nigh_cached_tokens_total", "counter", "Of these, taken from a cache.",
            (int64_t)atomic_load(&m->cached_tokens) },
        { "nigh_generated_tokens_total", "counter", "Tokens generated.", (int64_t)atomic_load(&m->generated_tokens) },
        { "nigh_batches_total", "counter", "Evaluations.", (int64_t)atomic_load(&m->batches) },
        { "nigh_batch_tokens_total", "counter", "Tokens in all evaluations.", (int64_t)atomic_load(&m->batch_tokens) },
        { "nigh_guesses_total", "counter", "Guessed tokens that were evaluated.", (int64_t)atomic_load(&m->guesses) },
        { "nigh_guesses_right_total", "counter", "Of these, the ones that came true.",
            (int64_t)atomic_load(&m->guesses_right) },
        { "nigh_cancelled_total", "counter", "Sequences stopped because their client left.",
            (int64_t)atomic_load(&m->cancelled) },
        { "nigh_slow_readers_total", "counter", "Streams dropped because their client did not read.",
            (int64_t)atomic_load(&m->slow_readers) },
        { "nigh_refused_busy_total", "counter", "Requests refused because the queue was full.",
            (int64_t)atomic_load(&m->refused_busy) },
        { "nigh_bytes_out_total", "counter", "Bytes of requests that left this device for another place.",
            (int64_t)atomic_load(&m->bytes_out) },
        { "nigh_resident_bytes", "gauge", "Memory in use.", (int64_t)nigh_os_rss_bytes() } };
    for (size_t i = 0; i < NIGH_COUNT(values); i++)
        NIGH_TRY(print_value(out, values[i].name, values[i].type, values[i].help, values[i].value));
    NIGH_TRY(nigh_buf_add(out,
        NIGH_STR("# HELP nigh_answers_total Answers to requests for text or vectors.\n"
                 "# TYPE nigh_answers_total counter\n")));
    for (size_t i = 2; i < 6; i++)
        NIGH_TRY(nigh_buf_addf(out, "nigh_answers_total{code=\"%zuxx\"} %llu\n", i,
            (unsigned long long)atomic_load(&m->answers[i])));
    NIGH_TRY(print_histogram(out, "nigh_first_token_seconds", "From the request's head to the first token.",
        &m->first_token));
    return print_histogram(out, "nigh_answer_seconds", "From the request's head to the end of the answer.", &m->whole);
}
