/* cli_model.h - what `run`, `logits`, `embed` and `bench` share: opening a model, saying what memory it takes
 * before taking it, refusing in a plain sentence, ids on the command line, the hash that names the model. */
#ifndef NIGH_CLI_MODEL_H
#define NIGH_CLI_MODEL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/os.h"
#include "base/pool.h"
#include "engine/tokenizer.h"
#include "nigh/engine.h"

enum { NIGH_CLI_CONTEXT = 4096 };       /* tokens of a session when nobody says -c */

typedef struct {
    char path[4096], hash[65];          /* hash: of the file, hexadecimal; empty until nigh_cli_model_hash */
    nigh_file file;
    nigh_pool *pool;
    nigh_model *model;
    nigh_runner *runner;                /* NULL until nigh_cli_model_begin */
    nigh_session *session;
    const nigh_model_info *about;
    const nigh_tokenizer *tokenizer;
    nigh_cache cache;                   /* set it before nigh_cli_model_begin */
    size_t available;                   /* bytes that could be had before anything was taken; 0: not known */
    uint64_t begun_ns, load_ns;         /* when open was called; how long it took */
    bool quiet, line_open, hashing;
    atomic_bool unwanted;               /* nobody will ask for the hash any more */
    pthread_t hasher;
} nigh_cli_model;

/* Finds, maps and loads a model. threads: 0 = one a core. quiet: nothing on stderr. hash: begin to compute the file's
 * hash beside the other work. Says how much memory the weights take before it takes it. Close it also after a
 * failure. Fails: as nigh_model_open, naming the file; ENOENT; ENOMEM when this machine has less than the weights
 * need. */
NIGH_CHECK nigh_status nigh_cli_model_open(nigh_cli_model *m, const char *name, int64_t threads, bool quiet,
                                           bool hash, nigh_err *err);
/* Makes the runner and, with context > 0, the session; shows the bytes first. batch: 0 = 512.
 * Fails: EINVAL (an encoder gives no text), ERANGE (context), ENOMEM when this machine has less. */
NIGH_CHECK nigh_status nigh_cli_model_begin(nigh_cli_model *m, uint32_t context, uint32_t batch, nigh_err *err);
/* "f16", "i16", "q8_0" or "f32" of --cache; NULL: f16. Fails: EINVAL. */
NIGH_CHECK nigh_status nigh_cli_cache(const char *word, nigh_cache *out, nigh_err *err);
#define NIGH_CLI_CACHE_HELP "f16 (default); i16 faster, q8_0 smaller, f32 exact\n"
/* The context to use: what -c says, else the model's own, but at most NIGH_CLI_CONTEXT. */
uint32_t nigh_cli_context(const nigh_cli_model *m, int64_t wanted);
void nigh_cli_model_close(nigh_cli_model *m);
/* Waits for the hash. */
const char *nigh_cli_model_hash(nigh_cli_model *m);

/* One positional word and no more: the model's name. Fails: EINVAL. */
NIGH_CHECK nigh_status nigh_cli_one_model(int argc, char **argv, nigh_err *err);
/* Appends the ids of "1,2,3". Fails: EINVAL naming what is no id of this vocabulary. */
NIGH_CHECK nigh_status nigh_cli_parse_ids(const nigh_cli_model *m, const char *text, nigh_ids *ids, nigh_err *err);
/* Appends the ids of a text, with the tokens that the file wants in front and behind. special: names of control
 * tokens count. */
NIGH_CHECK nigh_status nigh_cli_encode(const nigh_cli_model *m, nigh_str text, bool special, nigh_ids *ids,
                                       nigh_err *err);
/* Reads a line of standard input, without its end, into `line`. False at the end of the input, and on a failure,
 * which goes into *status: ERANGE, ENOMEM. */
NIGH_CHECK bool nigh_cli_read_line(nigh_buf *line, nigh_status *status);
enum { NIGH_CLI_IDS_MAX = 1 << 22, NIGH_CLI_TEXT_MAX = 64 << 20 };

#endif
