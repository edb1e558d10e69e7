/* cli_ledger.h - what `where`, `ledger`, `verify` and `policy` share: where the ledger lies, times for people and from
 * people, public keys. */
#ifndef NIGH_CLI_LEDGER_H
#define NIGH_CLI_LEDGER_H

#include "node/ledger.h"

/* A file in the user's own folder, $NIGH_HOME or ~/.local/share/nigh. Fails: ENOENT when there is no home. */
NIGH_CHECK nigh_status nigh_cli_home_path(const char *name, char *out, size_t cap, nigh_err *err);
/* Opens to read; path NULL: the node's own ledger. */
NIGH_CHECK nigh_status nigh_cli_ledger_open(nigh_ledger **out, const char *path, nigh_err *err);
/* The key of --public-key; NULL: the node's own, if there is one. *there: false when there is none at all. */
NIGH_CHECK nigh_status nigh_cli_public_key(const char *hex, uint8_t out[32], bool *there, nigh_err *err);

/* "2026-11-21 18:40:03 CET" in the zone of this machine. */
const char *nigh_cli_time(char buf[64], uint64_t unix_ms);
/* "2026-11-21", "2026-11-21 18:40", "2026-11-21T18:40:03Z", "today", "yesterday", or an age: "90m", "24h", "7d".
 * Without a Z it is this machine's time. Fails: EINVAL naming the option. */
NIGH_CHECK nigh_status nigh_cli_read_time(const char *option, const char *text, uint64_t *unix_ms, nigh_err *err);

#endif
