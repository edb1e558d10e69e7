/* cli.h - the front door as a program: one table of commands, one way to read options.
 * A command is one file cli_<name>.c that defines `const nigh_command nigh_command_<name>` and is listed in
 * main.c. It returns a nigh_status; main prints the error and exits with -status (the one error table).
 * Output for people goes to stdout, progress and errors to stderr; --json where a program may read it. */
#ifndef NIGH_CLI_H
#define NIGH_CLI_H

#include "base/json.h"

typedef struct {
    const char *name;               /* "run" */
    const char *line;               /* one line for `nigh --help` */
    const char *help;               /* whole text of `nigh NAME --help`, with examples */
    nigh_status (*run)(int argc, char **argv, nigh_err *err);   /* argv[0] is the first word after the command's name */
} nigh_command;

/* One option. value points at const char *, int64_t, double or bool (a flag without value), by kind (a
 * nigh_opt_list for a LIST).
 * Options may stand anywhere, as `--name value`, `--name=value` or `-n value`; `--` ends them. */
typedef enum { NIGH_OPT_TEXT, NIGH_OPT_INT, NIGH_OPT_FLOAT, NIGH_OPT_FLAG, NIGH_OPT_LIST } nigh_opt_kind;
enum { NIGH_OPT_LIST_MAX = 16 };
typedef struct {
    const char *item[NIGH_OPT_LIST_MAX];
    size_t count;
} nigh_opt_list; /* of an option that may stand several times */
typedef struct {
    const char *name;               /* "threads", without dashes */
    char letter;                    /* 't', or 0 */
    nigh_opt_kind kind;
    void *value;
    int64_t min, max;               /* of an INT, inclusive; both 0: no limit */
} nigh_opt;

/* Reads the options and moves what is left (positional words) to the front of argv; *argc becomes their count.
 * Fails: EINVAL naming the option and what it wants. */
NIGH_CHECK nigh_status nigh_opts_read(const nigh_opt *opts, size_t count, int *argc, char **argv, nigh_err *err);
/* Finds a model: a path to a file, or the name of a shipped model (models/NAME.gguf beside the program or in its
 * installed share folder, or in $NIGH_HOME/models). Fails: ENOENT naming the places that were looked at. */
NIGH_CHECK nigh_status nigh_cli_model_path(const char *name, char *path, size_t cap, nigh_err *err);
/* Is there a file at the path with this SHA-256 (64 lower-case digits)? */
bool nigh_cli_has_hash(const char *path, nigh_str sha256);
/* Reads a file of JSON, stdin when path is "-". Fails: as nigh_file_read and nigh_json_parse, naming the path. */
NIGH_CHECK nigh_status nigh_cli_read_json(nigh_json_doc *doc, const char *path, size_t bytes_max, nigh_err *err);
/* Processor flags to use: what there is, lowered by NIGH_CPU (a word of nigh_cpu_parse). */
unsigned nigh_cli_cpu(void);
/* Ctrl-C and SIGTERM set a flag once nigh_cli_catch_signals was called; a second signal ends the program at once. */
void nigh_cli_catch_signals(void);
bool nigh_cli_stopped(void);
void nigh_cli_go_on(void);              /* forgets the signals so far */
/* The first of these signals also calls fn(ud), which must be safe in a signal handler. fn NULL: no more. */
void nigh_cli_on_stop(void (*fn)(void *ud), void *ud);

#endif
