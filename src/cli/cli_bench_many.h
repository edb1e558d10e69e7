/* cli_bench_many.h - `nigh bench --sequences N`: how much more N texts written together bring than one. */
#ifndef NIGH_CLI_BENCH_MANY_H
#define NIGH_CLI_BENCH_MANY_H

#include "cli/cli_model.h"

typedef struct { uint32_t sequences, prompt, tokens, rounds; bool json; } nigh_cli_many_opts;

enum { NIGH_CLI_MANY_MAX = 64 };

/* m: opened, nothing more. Prints the figures. Fails: as nigh_sched_open; ECANCEL. */
NIGH_CHECK nigh_status nigh_cli_bench_many(const nigh_cli_model *m, const nigh_cli_many_opts *o, nigh_err *err);

#endif
