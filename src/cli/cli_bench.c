/* cli_bench.c - `nigh bench`: how fast a model is on this machine, next to what the machine's memory can give.
 *
 * To make one token, all weights are read once; so the read bandwidth is the limit, and the share of it that is
 * reached is the figure that can be compared between machines. The bandwidth is measured here, with the same
 * threads, before and after the model's turns, and the best pass counts: a busy machine makes the share look worse,
 * never better.
 *
 * Prompt: P tokens into an empty session. Decode: N tokens, one at a time, each the most likely after the last,
 * behind C tokens of context (their evaluation is not counted). Each is run once to warm up (decoding: 8 tokens; not
 * counted), then R times; the median counts, and JSON has every round.
 *
 * Steps: the same turns one by one, each when a line on standard input asks for it, so that two programs can be
 * measured in turn while both stay loaded: a machine whose memory changes its speed from second to second treats both
 * alike.
 *
 * Start: a process begins, loads, runs its prompt once, picks one token and says so at once: what a user waits for.
 * Who started the process can time that from outside; nothing that could come later (the file's hash) comes before. */
#include <stdio.h>
#include <stdlib.h>

#include "cli/cli.h"
#include "cli/cli_bench_many.h"
#include "cli/cli_model.h"
#include "engine/sampler.h"
#include "kernel/kernel.h"

static const char help[] =
    "usage: nigh bench MODEL [-p 512] [-n 128] [-c 0] [OPTIONS]\n"
    "\n"
    "Measures a model on this machine: tokens a second for a prompt and for an\n"
    "answer, and the share of the memory's read bandwidth that the answer uses. One\n"
    "run to warm up is not counted; the median of the others is.\n"
    "\n"
    "  -p, --prompt N       tokens of the prompt, drawn at random (default 512, or as\n"
    "                       many as the context holds)\n"
    "  -n, --tokens N       tokens to make (default 128)\n"
    "  -c, --context N      make them behind N tokens of context (default 0)\n"
    "  -r, --rounds N       counted runs of each (default 5)\n"
    "      --cache TYPE     " NIGH_CLI_CACHE_HELP
    "  -t, --threads N      default: one a core\n"
    "      --sequences N    N texts written together (2..64), behind prompts of -p 16\n"
    "                       tokens, next to one alone\n"
    "      --start          only the start: load, run the prompt once (default: 1\n"
    "                       token), tell when a token came\n"
    "      --steps          measure when told: lines on standard input, one of:\n"
    "                       memory, prompt, decode [C [N]] (behind C tokens, at most\n"
    "                       --context; N at most --tokens); a line of JSON answers\n"
    "                       each\n"
    "      --json           one JSON object: prompt_tps, decode_tps, load_ms,\n"
    "                       first_token_ms, rss_mb, memory_gbps, decode_share, each\n"
    "                       round, and what was measured; with --start: start_ms,\n"
    "                       load_ms, first_token_ms, peak_mb\n"
    "\n"
    "load_ms: from the file's name to the loaded model. first_token_ms: from the\n"
    "prompt to its first token, loaded model. start_ms: from the file's name to the\n"
    "first token. rss_mb: memory of the process after the runs; peak_mb: its most,\n"
    "both in 10^6 bytes. memory_gbps: 10^9 bytes a second.\n"
    "decode_share: decode_tps x the bytes of weights that one token reads /\n"
    "memory_gbps.\n"
    "NIGH_CPU=scalar|avx2|avx512|amx (ARM: scalar|neon|dotprod) lowers the\n"
    "instruction set.\n"
    "\n"
    "examples:\n"
    "  nigh bench MODEL.gguf\n"
    "  nigh bench MODEL.gguf -p 64 -n 16 -t 1 --json\n"
    "  nigh bench MODEL.gguf --context 256 -r 9\n"
    "  nigh bench MODEL.gguf --start\n"
    "  nigh bench MODEL.gguf --sequences 8 -n 64\n"
    "  echo prompt | nigh bench MODEL.gguf --steps -p 64\n";

enum { ROUNDS_MAX = 100, PASSES = 4, WARM_TOKENS = 8 };
#define READ_BYTES ((size_t)256 << 20)

typedef struct {
    int64_t sequences, prompt, tokens, context, rounds, threads;
    const char *cache;
    bool start, steps, json;
} bench_opts;

/* Seconds of each round, in rising order. */
typedef struct { double prompt[ROUNDS_MAX], decode[ROUNDS_MAX]; } bench_rounds;

typedef struct {
    double prompt_tps, decode_tps, load_ms, first_token_ms, start_ms, rss_mb, peak_mb, memory_gbps, decode_share;
    bench_rounds seconds;
} bench_result;

static nigh_status read_opts(bench_opts *o, int *argc, char **argv, nigh_err *err) {
    *o = (bench_opts){ .rounds = 5 };
    const nigh_opt opts[] = { { "prompt", 'p', NIGH_OPT_INT, &o->prompt, 1, 1 << 20 },
                              { "tokens", 'n', NIGH_OPT_INT, &o->tokens, 1, 1 << 20 },
                              { "context", 'c', NIGH_OPT_INT, &o->context, 0, 1 << 20 },
                              { "rounds", 'r', NIGH_OPT_INT, &o->rounds, 1, ROUNDS_MAX },
                              { "cache", 0, NIGH_OPT_TEXT, &o->cache, 0, 0 },
                              { "threads", 't', NIGH_OPT_INT, &o->threads, 1, 256 },
                              { "sequences", 0, NIGH_OPT_INT, &o->sequences, 2, NIGH_CLI_MANY_MAX },
                              { "start", 0, NIGH_OPT_FLAG, &o->start, 0, 0 },
                              { "steps", 0, NIGH_OPT_FLAG, &o->steps, 0, 0 },
                              { "json", 0, NIGH_OPT_FLAG, &o->json, 0, 0 } };
    NIGH_TRY(nigh_opts_read(opts, NIGH_COUNT(opts), argc, argv, err));
    return nigh_cli_one_model(*argc, argv, err);
}

static double seconds_since(uint64_t begin_ns) { return (double)(nigh_os_now_ns() - begin_ns) / 1e9; }

static const char *kernels_name(void) {
    static nigh_kernels k;
    nigh_kernels_init(&k, nigh_cli_cpu());
    return k.name;
}

/* ---- the memory's read bandwidth ---- */

enum { LINES_AHEAD = 32, CHUNK_BYTES = 1 << 20 };

typedef struct { const uint8_t *bytes; uint64_t sums[256]; } read_job;

/* Reads a piece of the buffer, a cache line at a time, some lines ahead of itself. The sum keeps the reads alive. */
static void read_chunks(void *ud, size_t worker, size_t begin, size_t end) {
    read_job *job = ud;
    const uint64_t *p = (const uint64_t *)(const void *)(job->bytes + begin * CHUNK_BYTES);
    size_t words = (end - begin) * CHUNK_BYTES / sizeof *p;
    uint64_t a[8] = { 0 };
    for (size_t i = 0; i < words; i += 8) {
        __builtin_prefetch(p + i + (size_t)LINES_AHEAD * 8, 0, 3);
        for (size_t j = 0; j < 8; j++) a[j] += p[i + j];
    }
    for (size_t j = 0; j < 8; j++) job->sums[worker] += a[j];
}

/* The best of some passes over one buffer that no cache holds, in 10^9 bytes a second; 0 when there is no memory for
 * it. */
static double measure_read(nigh_pool *pool) {
    static read_job job;
    uint8_t *bytes = nigh_os_pages_take(READ_BYTES);
    double best = 0;
    if (!bytes) return 0;
    for (size_t i = 0; i < READ_BYTES; i += 64) bytes[i] = (uint8_t)i;
    job.bytes = bytes;
    for (int pass = 0; pass < PASSES; pass++) {
        uint64_t begin = nigh_os_now_ns();
        nigh_pool_run(pool, read_chunks, &job, READ_BYTES / CHUNK_BYTES, 1);
        double rate = (double)READ_BYTES / 1e9 / seconds_since(begin);
        best = rate > best ? rate : best;
    }
    nigh_os_pages_give(bytes, READ_BYTES);
    return best;
}

/* ---- the model's turns ---- */

typedef struct {
    nigh_cli_model *m;
    nigh_sampler *greedy;
    int32_t *prompt;
    float *logits;
    size_t prompt_count, token_count, context_count;
} bench_work;

/* Seconds from an empty session to the first token of a prompt. */
static nigh_status time_prompt(bench_work *w, double *seconds, nigh_err *err) {
    nigh_session_truncate(w->m->session, 0);
    uint64_t begin = nigh_os_now_ns();
    NIGH_TRY(nigh_runner_prompt(w->m->runner, w->m->session, w->prompt, (uint32_t)w->prompt_count, w->logits, err));
    nigh_sampler_pick(w->greedy, w->logits);
    *seconds = seconds_since(begin);
    return NIGH_OK;
}

/* Seconds of `token_count` tokens behind the context, which a session keeps from round to round. */
static nigh_status time_decode(bench_work *w, double *seconds, nigh_err *err) {
    nigh_session *session = w->m->session;
    int32_t token = w->prompt[0];
    if (w->context_count == 0) nigh_session_truncate(session, 0);
    else NIGH_TRY(nigh_runner_prompt(w->m->runner, session, w->prompt, (uint32_t)w->context_count, w->logits, err));
    uint64_t begin = nigh_os_now_ns();
    for (size_t i = 0; i < w->token_count; i++) {
        nigh_batch_item item = { .session = session, .tokens = &token, .count = 1, .logits = w->logits };
        if (nigh_cli_stopped()) return nigh_fail(err, NIGH_ECANCEL, 0, "stopped");
        NIGH_TRY(nigh_runner_eval(w->m->runner, &item, 1, err));
        token = nigh_sampler_pick(w->greedy, w->logits);
    }
    *seconds = seconds_since(begin);
    return NIGH_OK;
}

static int by_size(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef nigh_status time_fn(bench_work *w, double *seconds, nigh_err *err);

/* Seconds of `rounds` runs in rising order. */
static nigh_status time_rounds(bench_work *w, time_fn *fn, size_t rounds, double *seconds, nigh_err *err) {
    for (size_t i = 0; i < rounds; i++) NIGH_TRY(fn(w, &seconds[i], err));
    qsort(seconds, rounds, sizeof *seconds, by_size);
    return NIGH_OK;
}

/* One prompt and a few tokens, not counted. */
static nigh_status warm_up(bench_work *w, nigh_err *err) {
    double seconds;
    size_t tokens = w->token_count;
    NIGH_TRY(time_prompt(w, &seconds, err));
    w->token_count = nigh_min(tokens, WARM_TOKENS);
    nigh_status status = time_decode(w, &seconds, err);
    w->token_count = tokens;
    return status;
}

static nigh_status measure(bench_work *w, size_t rounds, bench_result *r, nigh_err *err) {
    double before = measure_read(w->m->pool);
    NIGH_TRY(warm_up(w, err));
    NIGH_TRY(time_rounds(w, time_prompt, rounds, r->seconds.prompt, err));
    NIGH_TRY(time_rounds(w, time_decode, rounds, r->seconds.decode, err));
    r->prompt_tps = (double)w->prompt_count / r->seconds.prompt[rounds / 2];
    r->decode_tps = (double)w->token_count / r->seconds.decode[rounds / 2];
    r->first_token_ms = r->seconds.prompt[rounds / 2] * 1e3;
    r->rss_mb = (double)nigh_os_rss_bytes() / 1e6;
    r->load_ms = (double)w->m->load_ns / 1e6;
    double after = measure_read(w->m->pool);
    r->memory_gbps = after > before ? after : before;
    if (r->memory_gbps > 0) r->decode_share = r->decode_tps * (double)w->m->about->decode_bytes / 1e9 / r->memory_gbps;
    return NIGH_OK;
}

/* Reads "decode", "decode C" or "decode C N" into two numbers, each at most what it holds already; C is 0 by default,
 * N what it holds. */
static bool read_decode(nigh_str line, size_t *context, size_t *tokens) {
    size_t *out[2] = { context, tokens }, limit[2] = { *context, *tokens };
    *context = 0;
    if (!nigh_str_starts(line, NIGH_STR("decode"))) return false;
    line = nigh_str_slice(line, 6, line.len);
    for (size_t i = 0; i < 2; i++) {
        int64_t number;
        line = nigh_str_trim(line);
        size_t end = nigh_min(nigh_str_find(line, NIGH_STR(" "), 0), line.len);
        if (end == 0) return line.len == 0;
        if (!nigh_str_to_i64(nigh_str_slice(line, 0, end), &number)) return false;
        if (number < (int64_t)i || (size_t)number > limit[i]) return false;
        *out[i] = (size_t)number;
        line = nigh_str_slice(line, end, line.len);
    }
    return nigh_str_trim(line).len == 0;
}

/* Answers one line of standard input with a line of JSON. */
static nigh_status take_step(bench_work *w, nigh_str line, nigh_err *err) {
    bench_work step = *w;
    double seconds;
    if (nigh_str_eq(line, NIGH_STR("memory"))) {
        printf("{\"memory_gbps\":%.2f}\n", measure_read(w->m->pool));
    } else if (nigh_str_eq(line, NIGH_STR("prompt"))) {
        NIGH_TRY(time_prompt(w, &seconds, err));
        printf("{\"prompt_tps\":%.2f}\n", (double)w->prompt_count / seconds);
    } else if (read_decode(line, &step.context_count, &step.token_count)) {
        NIGH_TRY(time_decode(&step, &seconds, err));
        printf("{\"decode_tps\":%.2f,\"context\":%zu,\"tokens\":%zu}\n", (double)step.token_count / seconds,
               step.context_count, step.token_count);
    } else {
        return nigh_failf(err, NIGH_EINVAL, 0, "'%.*s' is no step; memory, prompt, or decode 0..%zu 1..%zu",
                          (int)nigh_min(line.len, 40), line.ptr, w->context_count, w->token_count);
    }
    fflush(stdout);
    return NIGH_OK;
}

static nigh_status measure_steps(bench_work *w, nigh_err *err) {
    nigh_buf line = NIGH_BUF(4096);
    nigh_status status = NIGH_OK, read = NIGH_OK;
    printf("{\"weight_bytes\":%llu,\"decode_bytes\":%llu,\"threads\":%zu,\"cpu\":\"%s\",\"load_ms\":%.2f}\n",
           (unsigned long long)w->m->about->weight_bytes, (unsigned long long)w->m->about->decode_bytes,
           nigh_pool_size(w->m->pool), kernels_name(), (double)w->m->load_ns / 1e6);
    fflush(stdout);
    while (status == NIGH_OK && nigh_cli_read_line(&line, &read))
        status = take_step(w, nigh_str_trim(nigh_buf_str(&line)), err);
    nigh_buf_release(&line);
    return status != NIGH_OK ? status : read == NIGH_OK ? NIGH_OK : nigh_fail(err, read, 0, "a line is too long");
}

static nigh_status measure_start(bench_work *w, bench_result *r, nigh_err *err) {
    double seconds;
    NIGH_TRY(time_prompt(w, &seconds, err));
    r->start_ms = (double)(nigh_os_now_ns() - w->m->begun_ns) / 1e6;
    r->first_token_ms = seconds * 1e3;
    r->load_ms = (double)w->m->load_ns / 1e6;
    r->peak_mb = (double)nigh_os_rss_peak_bytes() / 1e6;
    return NIGH_OK;
}

/* ---- what is said ---- */

static void print_rounds(const char *name, const double *seconds, size_t rounds, size_t tokens) {
    printf("\"%s\":[", name);
    for (size_t i = 0; i < rounds; i++) printf("%s%.2f", i ? "," : "", (double)tokens / seconds[i]);
    printf("],");
}

static void print_json(const bench_work *w, const bench_opts *o, const bench_result *r) {
    const nigh_cli_model *m = w->m;
    printf("{\"prompt_tps\":%.2f,\"decode_tps\":%.2f,\"load_ms\":%.2f,\"first_token_ms\":%.2f,\"rss_mb\":%.1f,"
           "\"memory_gbps\":%.2f,"
           "\"decode_share\":%.4f,",
           r->prompt_tps, r->decode_tps, r->load_ms, r->first_token_ms, r->rss_mb, r->memory_gbps, r->decode_share);
    print_rounds("prompt_rounds", r->seconds.prompt, (size_t)o->rounds, w->prompt_count);
    print_rounds("decode_rounds", r->seconds.decode, (size_t)o->rounds, w->token_count);
    printf("\"model\":\"%s\",\"weight_bytes\":%llu,\"decode_bytes\":%llu,\"threads\":%zu,\"cpu\":\"%s\","
           "\"prompt\":%lld,\"tokens\":%lld,\"context\":%lld,\"rounds\":%lld}\n",
           m->hash, (unsigned long long)m->about->weight_bytes, (unsigned long long)m->about->decode_bytes,
           nigh_pool_size(m->pool), kernels_name(), (long long)o->prompt, (long long)o->tokens, (long long)o->context,
           (long long)o->rounds);
}

static void print_table(const bench_work *w, const bench_opts *o, const bench_result *r) {
    const nigh_cli_model *m = w->m;
    const char *name = strrchr(m->path, '/');
    size_t last = (size_t)o->rounds - 1;
    double prompt = (double)w->prompt_count, tokens = (double)w->token_count;
    printf("%s (%.12s), %.1f MB of weights, %zu threads, %s, median of %lld\n", name ? name + 1 : m->path, m->hash,
           (double)m->about->weight_bytes / 1e6, nigh_pool_size(m->pool), kernels_name(), (long long)o->rounds);
    printf("  load         %10.1f ms\n", r->load_ms);
    printf("  prompt %5lld %10.1f tokens/s   (%.1f - %.1f), first token after %.1f ms\n", (long long)o->prompt,
           r->prompt_tps, prompt / r->seconds.prompt[last], prompt / r->seconds.prompt[0], r->first_token_ms);
    printf("  decode %5lld %10.1f tokens/s   (%.1f - %.1f)", (long long)o->tokens, r->decode_tps,
           tokens / r->seconds.decode[last], tokens / r->seconds.decode[0]);
    if (o->context) printf(", behind %lld tokens of context", (long long)o->context);
    printf("\n  memory read  %10.1f GB/s       this machine, the same threads\n", r->memory_gbps);
    printf("  share        %10.1f %%          of it is used by decoding (%.1f MB a token)\n", r->decode_share * 100,
           (double)m->about->decode_bytes / 1e6);
    printf("  resident     %10.1f MB\n", r->rss_mb);
}

/* At once: who waits for this line times the start from outside. The hash comes behind it. */
static void print_start(bench_work *w, const bench_opts *o, const bench_result *r) {
    nigh_cli_model *m = w->m;
    printf(o->json ? "{\"start_ms\":%.2f,\"load_ms\":%.2f,\"first_token_ms\":%.2f,\"peak_mb\":%.1f,"
                   : "first token after %.1f ms (load %.1f, prompt and token %.1f), at most %.1f MB",
           r->start_ms, r->load_ms, r->first_token_ms, r->peak_mb);
    fflush(stdout);
    const char *hash = nigh_cli_model_hash(m);
    if (o->json) printf("\"model\":\"%s\",\"threads\":%zu,\"cpu\":\"%s\"}\n", hash, nigh_pool_size(m->pool),
                        kernels_name());
    else printf("; %.12s, %zu threads, %s\n", hash, nigh_pool_size(m->pool), kernels_name());
}

/* ---- the command ---- */

/* What was not said: as much as the context holds, of 512 and 128. Fails: ERANGE. */
static nigh_status default_opts(const bench_work *w, bench_opts *o, nigh_err *err) {
    const nigh_model_info *about = w->m->about;
    if (o->prompt == 0) o->prompt = o->start ? 1 : (int64_t)nigh_min(512, about->context_tokens);
    if (o->tokens == 0) {
        size_t room = about->context_tokens - nigh_min((size_t)o->context, about->context_tokens);
        o->tokens = (int64_t)nigh_max(nigh_min(128, room), 1);
    }
    size_t need = nigh_max((size_t)o->prompt, (size_t)(o->context + o->tokens));
    if (need > about->context_tokens && !about->encoder)
        return nigh_failf(err, NIGH_ERANGE, 0, "this model has a context of %u tokens; give less with -p, -n and -c",
                          about->context_tokens);
    return NIGH_OK;
}

static nigh_status prepare(bench_work *w, bench_opts *o, nigh_err *err) {
    nigh_cli_model *m = w->m;
    uint64_t state = 1;
    NIGH_TRY(default_opts(w, o, err));
    if (!o->start && !o->steps) nigh_cli_model_hash(m);
    size_t count = nigh_max((size_t)o->prompt, (size_t)o->context);
    size_t need = nigh_max((size_t)o->prompt, o->start ? 0 : (size_t)(o->context + o->tokens));
    NIGH_TRY(nigh_cli_cache(o->cache, &m->cache, err));
    NIGH_TRY(nigh_cli_model_begin(m, (uint32_t)need, 0, err));
    if (!o->start) nigh_file_close(&m->file);       /* its pages are not the model's memory */
    NIGH_TRY(nigh_sampler_new(&w->greedy, (nigh_sampler_opts){ 0 }, m->about->vocab, err));
    w->prompt_count = (size_t)o->prompt;
    w->token_count = (size_t)o->tokens;
    w->context_count = (size_t)o->context;
    w->prompt = nigh_alloc(count, sizeof *w->prompt);
    w->logits = nigh_alloc(m->about->vocab, sizeof *w->logits);
    if (!w->prompt || !w->logits) return nigh_fail(err, NIGH_ENOMEM, 0, "no memory for the prompt");
    for (size_t i = 0; i < count; i++) {            /* Knuth's linear congruential generator (MMIX) */
        state = state * 6364136223846793005u + 1442695040888963407u;
        w->prompt[i] = (int32_t)((state >> 33) % m->about->vocab);
    }
    return NIGH_OK;
}

static nigh_status bench_many(const nigh_cli_model *m, const bench_opts *o, nigh_err *err) {
    nigh_cli_many_opts many = { .sequences = (uint32_t)o->sequences, .prompt = o->prompt ? (uint32_t)o->prompt : 16,
                                .tokens = o->tokens ? (uint32_t)o->tokens : 128, .rounds = (uint32_t)o->rounds,
                                .json = o->json };
    if (m->about->encoder) return nigh_fail(err, NIGH_EINVAL, 0, "this model gives vectors, not text");
    if ((size_t)many.prompt + many.tokens + 1 > m->about->context_tokens)
        return nigh_failf(err, NIGH_ERANGE, 0, "this model has a context of %u tokens; give less with -p and -n",
                          m->about->context_tokens);
    nigh_cli_catch_signals();
    return nigh_cli_bench_many(m, &many, err);
}

static nigh_status run(int argc, char **argv, nigh_err *err) {
    bench_opts o;
    bench_result r = { 0 };
    nigh_cli_model m = { .file = { .fd = -1 } };
    bench_work w = { .m = &m };
    NIGH_TRY(read_opts(&o, &argc, argv, err));
    nigh_status status = nigh_cli_model_open(&m, argv[0], o.threads, true, false, err);
    if (status == NIGH_OK && o.sequences) {
        status = bench_many(&m, &o, err);
        nigh_cli_model_close(&m);
        return status;
    }
    if (status == NIGH_OK) status = prepare(&w, &o, err);
    if (status == NIGH_OK) {
        nigh_cli_catch_signals();
        status = o.start   ? measure_start(&w, &r, err)
                 : o.steps ? measure_steps(&w, err)
                           : measure(&w, (size_t)o.rounds, &r, err);
    }
    if (status == NIGH_OK && o.start) print_start(&w, &o, &r);
    else if (status == NIGH_OK && o.json && !o.steps) print_json(&w, &o, &r);
    else if (status == NIGH_OK && !o.steps) print_table(&w, &o, &r);
    nigh_sampler_free(w.greedy);
    nigh_free(w.prompt);
    nigh_free(w.logits);
    nigh_cli_model_close(&m);
    return status;
}

const nigh_command nigh_command_bench = { "bench", "measure a model on this machine", help, run };
