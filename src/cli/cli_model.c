/* cli_model.c - see cli_model.h.
 * The hash of the file is computed by a thread of its own, on a core that nothing else wants, while the model answers:
 * loading and answering are never slower for it. It copies the file piece by piece; the mapping's pages are given back
 * as soon as they are packed. */
#define _GNU_SOURCE
#include <stdio.h>
#include <unistd.h>

#include "base/sha256.h"
#include "cli/cli.h"
#include "cli/cli_model.h"

#define MIB 1048576.0

/* ---- memory, shown before it is taken ---- */

/* Does the machine have `bytes`? Where the system does not say what is available, that is 0 and nothing is refused
 * here. */
static nigh_status check_memory(size_t bytes, size_t available, const char *what, const char *advice, nigh_err *err) {
    if (available == 0 || bytes <= available) return NIGH_OK;
    return nigh_failf(err, NIGH_ENOMEM, 0, "%s would take %.0f MiB, but this machine has %.0f MiB available; %s", what,
                      (double)bytes / MIB, (double)available / MIB, advice);
}

static void say_weights(nigh_cli_model *m) {
    if (m->quiet) return;
    fprintf(stderr, "memory: weights %.1f MiB", (double)m->file.bytes.len / MIB);
    fflush(stderr);
    m->line_open = true;
}

static void end_line(nigh_cli_model *m) {
    if (m->line_open) fputc('\n', stderr);
    m->line_open = false;
}

/* ---- hash ---- */

enum { HASH_PIECE = 256 << 10 };

/* The hash stays empty when the file can no longer be read as a whole. */
static void hash_file(nigh_cli_model *m) {
    uint8_t digest[32], *piece = nigh_alloc(1, HASH_PIECE);
    size_t at = 0, len = m->file.bytes.len;
    nigh_sha256 s;
    nigh_sha256_init(&s);
    while (piece && at < len && !atomic_load_explicit(&m->unwanted, memory_order_relaxed)) {
        size_t bytes = nigh_min(HASH_PIECE, len - at);
        if (!nigh_file_copy(&m->file, at, piece, bytes)) break;
        nigh_sha256_add(&s, (nigh_str){ (const char *)piece, bytes });
        at += bytes;
    }
    nigh_free(piece);
    nigh_sha256_end(&s, digest);
    if (at == len) nigh_sha256_hex(digest, m->hash);
}

static void *hash_beside(void *arg) {
    nigh_os_thread_idle();
    hash_file(arg);
    return NULL;
}

const char *nigh_cli_model_hash(nigh_cli_model *m) {
    if (m->hashing) pthread_join(m->hasher, NULL);
    else if (!m->hash[0]) hash_file(m);
    m->hashing = false;
    return m->hash;
}

/* ---- open and close ---- */

nigh_status nigh_cli_model_open(nigh_cli_model *m, const char *name, int64_t threads, bool quiet, bool hash,
                                nigh_err *err) {
    *m = (nigh_cli_model){ .file = { .fd = -1 }, .quiet = quiet, .begun_ns = nigh_os_now_ns() };
    NIGH_TRY(nigh_cli_model_path(name, m->path, sizeof m->path, err));
    NIGH_TRY(nigh_file_open(&m->file, m->path, err));
    m->available = nigh_os_memory_available_bytes();
    NIGH_TRY(check_memory(m->file.bytes.len, m->available, "the weights",
                          "close other programs or take a smaller model", err));
    m->pool = nigh_pool_new((size_t)threads);
    if (!m->pool) return nigh_fail(err, NIGH_ENOMEM, 0, "the threads cannot be started; ask for fewer with -t");
    m->hashing = hash && pthread_create(&m->hasher, NULL, hash_beside, m) == 0;
    if (nigh_str_starts(m->file.bytes, NIGH_STR("GGUF"))) say_weights(m);
    const nigh_model_opts opts = { .pool = m->pool, .cpu = nigh_cli_cpu(), .file = &m->file,
                                   .read = nigh_file_read_part, .done = nigh_file_drop_part };
    nigh_status status = nigh_model_open(&m->model, m->file.bytes, opts, err);
    if (nigh_file_changed(&m->file))
        status = nigh_fail(err, NIGH_EIO, 0, "the file was cut short while it was read");
    if (status != NIGH_OK) return nigh_fail_in(err, status, m->path);
    m->about = nigh_model_about(m->model);
    m->tokenizer = nigh_model_tokenizer(m->model);
    m->load_ns = nigh_os_now_ns() - m->begun_ns;
    return NIGH_OK;
}

uint32_t nigh_cli_context(const nigh_cli_model *m, int64_t wanted) {
    if (wanted > 0) return (uint32_t)nigh_min((size_t)wanted, UINT32_MAX);
    return (uint32_t)nigh_min(m->about->context_tokens, NIGH_CLI_CONTEXT);
}

nigh_status nigh_cli_cache(const char *word, nigh_cache *out, nigh_err *err) {
    static const struct { const char *word; nigh_cache cache; } caches[] = {
        { "f16", NIGH_CACHE_F16 }, { "i16", NIGH_CACHE_I16 }, { "q8_0", NIGH_CACHE_Q8_0 },
        { "f32", NIGH_CACHE_F32 } };
    *out = NIGH_CACHE_F16;
    for (size_t i = 0; word && i < NIGH_COUNT(caches); i++)
        if (!strcmp(word, caches[i].word)) { *out = caches[i].cache; return NIGH_OK; }
    return word ? nigh_failf(err, NIGH_EINVAL, 0, "--cache is f16, i16, q8_0 or f32, not '%.40s'", word) : NIGH_OK;
}

nigh_status nigh_cli_model_begin(nigh_cli_model *m, uint32_t context, uint32_t batch, nigh_err *err) {
    if (context && m->about->encoder)
        return nigh_fail(err, NIGH_EINVAL, 0, "this model gives vectors, not text; use: nigh embed");
    if (context > m->about->context_tokens)
        return nigh_failf(
            err, NIGH_ERANGE, 0,
            "a context of %u tokens is more than the %u that this model was made for; give less with -c", context,
            m->about->context_tokens);
    nigh_session_opts o = { .context_tokens = context, .cache = m->cache };
    size_t cache = context ? nigh_session_bytes_as(m->model, o) : 0, scratch = nigh_runner_bytes(m->model, batch),
           both;
    if (m->line_open) {
        if (context) fprintf(stderr, " + cache %.1f MiB (%u tokens)", (double)cache / MIB, (unsigned)context);
        fprintf(stderr, " + scratch %.1f MiB, of %.0f MiB available", (double)scratch / MIB,
                (double)m->available / MIB);
        end_line(m);
    }
    if (!nigh_add(cache, scratch, &both)) both = SIZE_MAX;
    NIGH_TRY(check_memory(both, nigh_os_memory_available_bytes(), "cache and scratch",
                          "ask for a shorter context with -c", err));
    NIGH_TRY(nigh_runner_new(&m->runner, m->model, m->pool, batch, err));
    return context ? nigh_session_new_as(&m->session, m->model, o, err) : NIGH_OK;
}

void nigh_cli_model_close(nigh_cli_model *m) {
    end_line(m);
    atomic_store(&m->unwanted, true);
    if (m->hashing) pthread_join(m->hasher, NULL);
    nigh_session_free(m->session);
    nigh_runner_free(m->runner);
    nigh_model_close(m->model);
    nigh_pool_free(m->pool);
    nigh_file_close(&m->file);
    *m = (nigh_cli_model){ .file = { .fd = -1 } };
}

/* ---- words of the command line ---- */

nigh_status nigh_cli_one_model(int argc, char **argv, nigh_err *err) {
    if (argc == 1) return NIGH_OK;
    if (argc == 0)
        return nigh_fail(err, NIGH_EINVAL, 0, "no model is named; give a .gguf file or the name of a shipped model");
    return nigh_failf(err, NIGH_EINVAL, 0, "'%s' is one word too many; a text goes behind -p, in quotes", argv[1]);
}

nigh_status nigh_cli_parse_ids(const nigh_cli_model *m, const char *text, nigh_ids *ids, nigh_err *err) {
    nigh_str all = nigh_str_of(text);
    for (size_t at = 0; at <= all.len;) {
        size_t end = nigh_min(nigh_str_find(all, NIGH_STR(","), at), all.len);
        nigh_str word = nigh_str_trim(nigh_str_slice(all, at, end));
        int64_t id;
        if (!nigh_str_to_i64(word, &id) || id < 0 || id >= (int64_t)m->about->vocab)
            return nigh_failf(err, NIGH_EINVAL, at, "'%.*s' is no token id; this model has 0..%u",
                              (int)nigh_min(word.len, 40), word.ptr, m->about->vocab - 1);
        nigh_status status = nigh_ids_add(ids, (int32_t)id);
        if (status != NIGH_OK) return nigh_fail(err, status, at, "too many token ids");
        at = end + 1;
    }
    return NIGH_OK;
}

nigh_status nigh_cli_encode(const nigh_cli_model *m, nigh_str text, bool special, nigh_ids *ids, nigh_err *err) {
    return nigh_tokenizer_encode(m->tokenizer, text,
                                 (nigh_encode_opts){ .add_special = true, .parse_special = special }, ids, err);
}

bool nigh_cli_read_line(nigh_buf *line, nigh_status *status) {
    line->len = 0;
    for (int c; *status == NIGH_OK; *status = nigh_buf_add_char(line, (char)c)) {
        c = getchar();
        if (c == EOF) return line->len > 0;
        if (c == '\n') return true;
    }
    return false;
}
