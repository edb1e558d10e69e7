/* cli_logits.c - `nigh logits`: the numbers behind the next token, one row for each position of a text, as raw
 * little-endian f32, for comparison with other programs and with oneself.
 * Rows are written as the batches are done, so a long text over a large vocabulary needs no memory for all of it. */
#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cli/cli_model.h"

static const char help[] =
    "usage: nigh logits MODEL (--ids 1,2,3 | -p TEXT) --out FILE [OPTIONS]\n"
    "\n"
    "Writes the logits after each token: raw little-endian f32, one row per position,\n"
    "as wide as the vocabulary. The bytes do not depend on the threads, on the\n"
    "batches or on the processor.\n"
    "\n"
    "      --ids 1,2,3      token ids, taken as they are\n"
    "  -p, --prompt TEXT    a text; the tokens that the model wants in front and\n"
    "                       behind are added\n"
    "      --special        <names> of control tokens in the text are those tokens,\n"
    "                       not text\n"
    "  -o, --out FILE       where to; - is standard output\n"
    "      --batch N        evaluate N tokens at a time (1..8192); default by the\n"
    "                       width of a row, at most 512\n"
    "  -c, --context N      room for N tokens; default the model's own, at most 4096\n"
    "                       unless the text is longer (some models turn positions in\n"
    "                       another way where there is more room)\n"
    "      --cache TYPE     " NIGH_CLI_CACHE_HELP
    "  -t, --threads N      default: one a core\n"
    "  -q, --quiet          nothing on stderr but errors\n"
    "\n"
    "examples:\n"
    "  nigh logits MODEL.gguf --ids 1,2,3 --out logits.f32\n"
    "  nigh logits MODEL.gguf -p \"Once upon a time\" --batch 2 -t 1 --out logits.f32\n";

enum { BATCH_DEFAULT = 512, BATCH_MAX = 8192, ROWS_BYTES = 64 << 20 };

typedef struct {
    const char *ids, *prompt, *out, *cache;
    int64_t batch, context, threads;
    bool special, quiet;
} logits_opts;

static nigh_status read_opts(logits_opts *o, int *argc, char **argv, nigh_err *err) {
    const nigh_opt opts[] = { { "ids", 0, NIGH_OPT_TEXT, &o->ids, 0, 0 },
                              { "prompt", 'p', NIGH_OPT_TEXT, &o->prompt, 0, 0 },
                              { "special", 0, NIGH_OPT_FLAG, &o->special, 0, 0 },
                              { "out", 'o', NIGH_OPT_TEXT, &o->out, 0, 0 },
                              { "batch", 0, NIGH_OPT_INT, &o->batch, 1, BATCH_MAX },
                              { "context", 'c', NIGH_OPT_INT, &o->context, 1, UINT32_MAX },
                              { "cache", 0, NIGH_OPT_TEXT, &o->cache, 0, 0 },
                              { "threads", 't', NIGH_OPT_INT, &o->threads, 1, 256 },
                              { "quiet", 'q', NIGH_OPT_FLAG, &o->quiet, 0, 0 } };
    NIGH_TRY(nigh_opts_read(opts, NIGH_COUNT(opts), argc, argv, err));
    NIGH_TRY(nigh_cli_one_model(*argc, argv, err));
    if (!o->ids == !o->prompt) return nigh_fail(err, NIGH_EINVAL, 0, "give either --ids 1,2,3 or -p TEXT");
    if (!o->out) return nigh_fail(err, NIGH_EINVAL, 0, "say with --out FILE where the logits go");
    return NIGH_OK;
}

/* ---- the file: a regular one is written beside and renamed when whole; others (a pipe, a device) are written as
 * they are ---- */

typedef struct { FILE *f; char temp[4096]; const char *path; } out_file;

static nigh_status out_failed(const out_file *o, nigh_err *err) {
    return nigh_failf(err, NIGH_EIO, 0, "%s cannot be written: %s", o->path, strerror(errno));
}

static nigh_status out_open(out_file *o, const char *path, nigh_err *err) {
    struct stat st;
    *o = (out_file){ .path = path };
    if (strcmp(path, "-") == 0) {
        o->f = stdout;
        return NIGH_OK;
    }
    bool special = stat(path, &st) == 0 && !S_ISREG(st.st_mode);
    if (!special && nigh_format(o->temp, sizeof o->temp, "%s.%d.tmp", path, (int)getpid()) >= sizeof o->temp)
        return nigh_fail(err, NIGH_ERANGE, 0, "the path is too long");
    o->f = fopen(special ? path : o->temp, "wb");
    return o->f ? NIGH_OK : out_failed(o, err);
}

static void out_put(out_file *o, const float *x, size_t count) {
    uint8_t piece[4096];
    for (size_t i = 0; i < count;) {
        size_t n = 0;
        for (; n < sizeof piece && i < count; n += 4, i++) {
            uint32_t bits;
            memcpy(&bits, &x[i], 4);
            for (size_t b = 0; b < 4; b++) piece[n + b] = (uint8_t)(bits >> (8 * b));
        }
        fwrite(piece, 1, n, o->f);
    }
}

/* ok: keep what was written. */
static nigh_status out_close(out_file *o, nigh_status status, nigh_err *err) {
    if (!o->f) return status;
    bool bad = ferror(o->f) || fflush(o->f) != 0;
    if (o->f != stdout) bad = fclose(o->f) != 0 || bad;
    if (status == NIGH_OK && !bad && o->temp[0]) bad = rename(o->temp, o->path) != 0;
    if (status == NIGH_OK && bad) status = out_failed(o, err);
    if (status != NIGH_OK && o->temp[0]) unlink(o->temp);
    return status;
}

/* ---- the work ---- */

static nigh_status write_rows(nigh_cli_model *m, const nigh_ids *ids, uint32_t batch, float *rows, out_file *out,
                              nigh_err *err) {
    for (size_t at = 0; at < ids->len && !ferror(out->f); at += batch) {
        uint32_t count = (uint32_t)nigh_min(batch, ids->len - at);
        nigh_batch_item item = {
            .session = m->session, .tokens = ids->ptr + at, .count = count, .all_logits = true, .logits = rows
        };
        NIGH_TRY(nigh_runner_eval(m->runner, &item, 1, err));
        out_put(out, rows, (size_t)count * m->about->vocab);
    }
    return NIGH_OK;
}

static nigh_status evaluate(nigh_cli_model *m, const logits_opts *o, const nigh_ids *ids, nigh_err *err) {
    size_t row_bytes = (size_t)m->about->vocab * sizeof(float),
           most = nigh_min(BATCH_DEFAULT, nigh_max(1, ROWS_BYTES / row_bytes));
    uint32_t batch = (uint32_t)nigh_min(o->batch ? (size_t)o->batch : most, ids->len);
    uint32_t context = nigh_cli_context(m, o->context);
    if (o->context == 0) context = (uint32_t)nigh_max(context, nigh_min(ids->len, m->about->context_tokens));
    if (context < ids->len)
        return nigh_failf(err, NIGH_ERANGE, 0, "%zu tokens do not fit into a context of %u; give more with -c",
                          ids->len, context);
    NIGH_TRY(nigh_cli_cache(o->cache, &m->cache, err));
    NIGH_TRY(nigh_cli_model_begin(m, context, batch, err));
    float *rows = nigh_alloc(batch, row_bytes);
    if (!rows) return nigh_failf(err, NIGH_ENOMEM, 0, "no memory for %u rows of logits; give a smaller --batch", batch);
    out_file out;
    nigh_status status = out_open(&out, o->out, err);
    if (status == NIGH_OK) status = write_rows(m, ids, batch, rows, &out, err);
    status = out_close(&out, status, err);
    nigh_free(rows);
    if (status == NIGH_OK && !o->quiet)
        fprintf(stderr, "%zu rows of %u f32 to %s\n", ids->len, m->about->vocab, o->out);
    return status;
}

static nigh_status run(int argc, char **argv, nigh_err *err) {
    logits_opts o = { 0 };
    nigh_cli_model m = { .file = { .fd = -1 } };
    nigh_ids ids = NIGH_IDS(NIGH_CLI_IDS_MAX);
    NIGH_TRY(read_opts(&o, &argc, argv, err));
    nigh_status status = nigh_cli_model_open(&m, argv[0], o.threads, o.quiet, false, err);
    if (status == NIGH_OK)
        status = o.ids ? nigh_cli_parse_ids(&m, o.ids, &ids, err)
                       : nigh_cli_encode(&m, nigh_str_of(o.prompt), o.special, &ids, err);
    if (status == NIGH_OK && ids.len == 0)
        status = nigh_fail(err, NIGH_EINVAL, 0, "the text gives no token; give it some text");
    if (status == NIGH_OK) status = evaluate(&m, &o, &ids, err);
    nigh_ids_release(&ids);
    nigh_cli_model_close(&m);
    return status;
}

const nigh_command nigh_command_logits = { "logits", "write the logits of every position of a text", help, run };
