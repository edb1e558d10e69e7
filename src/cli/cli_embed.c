/* cli_embed.c - `nigh embed`: a text to a vector, as a JSON array on one line.
 * Where the model pools nothing, a text gives an array of arrays, one for each token. */
#include <stdio.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/cli.h"
#include "cli/cli_model.h"

static const char help[] =
    "usage: nigh embed MODEL [-p TEXT | --ids 1,2,3] [OPTIONS]\n"
    "\n"
    "Prints the vector of a text as a JSON array, of length 1 unless --raw. Without\n"
    "-p and --ids each line of standard input is a text and gives one line. A model\n"
    "without a pooling rule gives an array of arrays, one for each token; a text\n"
    "model gives the mean of its last layer.\n"
    "\n"
    "  -p, --prompt TEXT    the text\n"
    "      --ids 1,2,3      token ids, taken as they are\n"
    "      --raw            as the model gives it, not scaled to length 1\n"
    "  -t, --threads N      default: one a core\n"
    "  -q, --quiet          nothing on stderr but errors\n"
    "\n"
    "examples:\n"
    "  nigh embed MODEL.gguf -p \"a short text\"\n"
    "  printf 'one\\ntwo\\n' | nigh embed MODEL.gguf -q\n"
    "  nigh embed MODEL.gguf --ids 1,2,3 --raw\n";

enum { BATCH_FIRST = 512, BATCH_MAX = 8192 };

typedef struct {
    const char *prompt, *ids;
    int64_t threads;
    bool raw, quiet;
} embed_opts;

static nigh_status read_opts(embed_opts *o, int *argc, char **argv, nigh_err *err) {
    const nigh_opt opts[] = { { "prompt", 'p', NIGH_OPT_TEXT, &o->prompt, 0, 0 },
                              { "ids", 0, NIGH_OPT_TEXT, &o->ids, 0, 0 },
                              { "raw", 0, NIGH_OPT_FLAG, &o->raw, 0, 0 },
                              { "threads", 't', NIGH_OPT_INT, &o->threads, 1, 256 },
                              { "quiet", 'q', NIGH_OPT_FLAG, &o->quiet, 0, 0 } };
    NIGH_TRY(nigh_opts_read(opts, NIGH_COUNT(opts), argc, argv, err));
    if (o->prompt && o->ids) return nigh_fail(err, NIGH_EINVAL, 0, "give either -p TEXT or --ids 1,2,3");
    return nigh_cli_one_model(*argc, argv, err);
}

/* To length 1; a vector of zeros stays. */
static void normalise(float *x, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) sum += (double)x[i] * (double)x[i];
    if (sum <= 0) return;
    double by = 1.0 / __builtin_sqrt(sum);
    for (size_t i = 0; i < count; i++) x[i] = (float)((double)x[i] * by);
}

static nigh_status add_vector(nigh_buf *b, const float *x, size_t count) {
    for (size_t i = 0; i < count; i++) {
        NIGH_TRY(nigh_buf_add_char(b, i ? ',' : '['));
        NIGH_TRY(nigh_json_add_f32(b, x[i]));
    }
    return nigh_buf_add_char(b, ']');
}

/* rows 0: one vector; else an array of so many. */
static nigh_status print_vectors(float *x, size_t rows, size_t embed, bool raw, nigh_err *err) {
    nigh_buf b = NIGH_BUF((size_t)1 << 31);
    nigh_status status = rows ? nigh_buf_add_char(&b, '[') : NIGH_OK;
    for (size_t i = 0; i < nigh_max(rows, 1) && status == NIGH_OK; i++) {
        if (!raw) normalise(x + i * embed, embed);
        if (i) status = nigh_buf_add_char(&b, ',');
        if (status == NIGH_OK) status = add_vector(&b, x + i * embed, embed);
    }
    if (status == NIGH_OK) status = nigh_buf_add(&b, rows ? NIGH_STR("]\n") : NIGH_STR("\n"));
    if (status != NIGH_OK) nigh_fail(err, status, 0, "the vectors cannot be printed");
    else if (fwrite(b.ptr, 1, b.len, stdout) != b.len)
        status = nigh_fail(err, NIGH_EIO, 0, "standard output cannot be written");
    nigh_buf_release(&b);
    return status;
}

/* The runner has room for the longest text so far; encoders see a text only as a whole. */
static nigh_status make_room(nigh_cli_model *m, size_t count, nigh_err *err) {
    if (count == 0) return nigh_fail(err, NIGH_EINVAL, 0, "the text gives no token; give it some text");
    size_t most = nigh_min(m->about->context_tokens, BATCH_MAX);
    if (count > most)
        return nigh_failf(err, NIGH_ERANGE, 0, "the text has %zu tokens, but at most %zu fit; cut it into parts",
                          count, most);
    if (m->runner && count <= nigh_runner_limit(m->runner)) return NIGH_OK;
    size_t limit = BATCH_FIRST;
    while (limit < count) limit *= 2;
    nigh_runner_free(m->runner);
    m->runner = NULL;
    return nigh_cli_model_begin(m, 0, (uint32_t)nigh_min(limit, most), err);
}

static nigh_status embed_ids(nigh_cli_model *m, const nigh_ids *ids, bool raw, nigh_err *err) {
    NIGH_TRY(make_room(m, ids->len, err));
    bool each = m->about->encoder && m->about->pooling == NIGH_POOL_NONE;
    float *x = nigh_alloc(each ? ids->len : 1, (size_t)m->about->embed * sizeof *x);
    if (!x) return nigh_fail(err, NIGH_ENOMEM, 0, "no memory for the vectors");
    nigh_status status = nigh_runner_embed(m->runner, ids->ptr, (uint32_t)ids->len, x, err);
    if (status == NIGH_OK) status = print_vectors(x, each ? ids->len : 0, m->about->embed, raw, err);
    nigh_free(x);
    return status;
}

static nigh_status embed_text(nigh_cli_model *m, nigh_str text, bool raw, nigh_err *err) {
    nigh_ids ids = NIGH_IDS(NIGH_CLI_IDS_MAX);
    nigh_status status = nigh_cli_encode(m, text, false, &ids, err);
    if (status == NIGH_OK) status = embed_ids(m, &ids, raw, err);
    nigh_ids_release(&ids);
    return status;
}

/* One text a line, answered before the next is read, so it can stand in a pipe. */
static nigh_status embed_lines(nigh_cli_model *m, bool raw, nigh_err *err) {
    nigh_buf line = NIGH_BUF(NIGH_CLI_TEXT_MAX);
    nigh_status status = NIGH_OK;
    for (unsigned long long number = 1; status == NIGH_OK && nigh_cli_read_line(&line, &status); number++) {
        nigh_err inner = { 0 };
        status = embed_text(m, nigh_buf_str(&line), raw, &inner);
        if (status != NIGH_OK) nigh_failf(err, status, inner.at, "line %llu: %s", number, inner.text);
        else if (fflush(stdout) != 0) status = nigh_fail(err, NIGH_EIO, 0, "standard output cannot be written");
    }
    if (status != NIGH_OK && err->code == NIGH_OK) nigh_fail(err, status, 0, "a line is too long");
    nigh_buf_release(&line);
    return status;
}

static nigh_status run(int argc, char **argv, nigh_err *err) {
    embed_opts o = { 0 };
    nigh_cli_model m = { .file = { .fd = -1 } };
    nigh_ids ids = NIGH_IDS(NIGH_CLI_IDS_MAX);
    NIGH_TRY(read_opts(&o, &argc, argv, err));
    if (!o.prompt && !o.ids && isatty(STDIN_FILENO) && !o.quiet) fputs("one text a line; Ctrl-D ends\n", stderr);
    nigh_status status = nigh_cli_model_open(&m, argv[0], o.threads, o.quiet, false, err);
    if (status == NIGH_OK && o.ids) {
        status = nigh_cli_parse_ids(&m, o.ids, &ids, err);
        if (status == NIGH_OK) status = embed_ids(&m, &ids, o.raw, err);
    } else if (status == NIGH_OK && o.prompt) status = embed_text(&m, nigh_str_of(o.prompt), o.raw, err);
    else if (status == NIGH_OK) status = embed_lines(&m, o.raw, err);
    nigh_ids_release(&ids);
    nigh_cli_model_close(&m);
    return status;
}

const nigh_command nigh_command_embed = { "embed", "turn a text into a vector", help, run };
