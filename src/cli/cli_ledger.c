/* cli_ledger.c - `nigh ledger`: what became of requests, as a table, CSV or JSON; and what cli_ledger.h promises.
 * The ledger answers in JSON (node/ledger.h); this file only asks and prints. Names come from policies and callers, so
 * they go to a terminal through show.h, and into CSV so that no spreadsheet takes one for a formula. */
#define _GNU_SOURCE
#include "cli/cli_ledger.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/os.h"
#include "cli/cli.h"
#include "cli/show.h"
#include "node/envelope.h"

static const char help[] =
    "usage: nigh ledger [OPTIONS]\n"
    "\n"
    "Lists what became of requests, newest first: one line an answer, then totals by\n"
    "the place that answered. The ledger holds no word of what was asked or answered.\n"
    "A node may be writing meanwhile.\n"
    "\n"
    "      --feature F      only of this feature\n"
    "      --tenant T       only of this tenant\n"
    "      --target T       only what this target answered\n"
    "      --from T, --to T a time of this machine (2026-11-21, \"2026-11-21 18:40\"),\n"
    "                       today, yesterday, a time in UTC (2026-11-21T18:40:00Z),\n"
    "                       or an age (90m, 24h, 7d); without --to until now\n"
    "      --limit N        lines, default 20, at most 10,000; the totals count\n"
    "                       everything that fits\n"
    "      --delete-before T deletes what was written before this time; not while a\n"
    "                       node runs. What is left still verifies, and a signed note\n"
    "                       says what is gone\n"
    "      --csv            for spreadsheets, times in UTC; without totals\n"
    "      --json           records and totals as they are kept\n"
    "      --file FILE      default $NIGH_HOME/ledger.db, or below\n"
    "                       ~/.local/share/nigh\n"
    "\n"
    "examples:\n"
    "  nigh ledger\n"
    "  nigh ledger --feature mail-summary --from 24h --limit 5\n"
    "  nigh ledger --from 2026-11-01 --csv\n";

enum { OUT_MAX = 256 << 20, LIMIT_DEFAULT = 20, SETTLE_US = 120000 };

typedef struct {
    const char *feature, *tenant, *target, *from, *to, *file, *before;
    int64_t limit;
    bool csv, json;
} words;

/* ---- shared ---- */

nigh_status nigh_cli_home_path(const char *name, char *out, size_t cap, nigh_err *err) {
    const char *home = nigh_os_env("NIGH_HOME"), *user = nigh_os_env("HOME");
    if (!home && !user) return nigh_fail(err, NIGH_ENOENT, 0, "there is no home folder; set NIGH_HOME");
    if (nigh_format(out, cap, "%s%s/%s", home ? home : user, home ? "" : "/.local/share/nigh", name) < cap)
        return NIGH_OK;
    return nigh_fail(err, NIGH_ERANGE, 0, "the path of the home folder is too long");
}

/* A node that is writing (there is a journal) has its newest records on the disk at most 50 ms and one fsync after it
 * answered; whoever asks right after an answer shall find it. */
nigh_status nigh_cli_ledger_open(nigh_ledger **out, const char *path, nigh_err *err) {
    char own[4096], journal[4096 + 8];
    if (!path) NIGH_TRY(nigh_cli_home_path("ledger.db", own, sizeof own, err));
    nigh_format(journal, sizeof journal, "%s-wal", path ? path : own);
    if (nigh_file_exists(journal)) usleep(SETTLE_US);
    return nigh_ledger_open_to_read(out, path ? path : own, err);
}

nigh_status nigh_cli_public_key(const char *hex, uint8_t out[32], bool *there, nigh_err *err) {
    char path[4096];
    nigh_signer s;
    nigh_trusted_key key;
    *there = false;
    if (hex) {
        if (!nigh_trusted_key_parse(nigh_str_of(hex), &key))
            return nigh_fail(err, NIGH_EINVAL, 0, "--public-key wants 64 hex digits in lower case");
        memcpy(out, key.key, 32);
        *there = true;
        return NIGH_OK;
    }
    if (nigh_cli_home_path("keys/manifest", path, sizeof path, NULL) != NIGH_OK || !nigh_file_exists(path))
        return NIGH_OK;
    nigh_signer_open(&s, path);
    memcpy(out, s.public_key, 32);
    *there = s.there;
    return NIGH_OK;
}

const char *nigh_cli_time(char buf[64], uint64_t unix_ms) {
    time_t at = (time_t)(unix_ms / 1000);
    struct tm local;
    if (unix_ms / 1000 > (uint64_t)1 << 40 || !localtime_r(&at, &local)
        || strftime(buf, 64, "%Y-%m-%d %H:%M:%S %Z", &local) == 0)
        nigh_format(buf, 64, "(no time)");
    return buf;
}

/* Fills as many fields as the text has digits for: "dddd-dd-dd", "dddd-dd-dd dd:dd", "dddd-dd-dd dd:dd:dd". */
static bool read_fields(const char *text, int fields[6], size_t *count) {
    static const char shape[] = "dddd-dd-dd dd:dd:dd";
    size_t n = strlen(text), field = 0;
    if (n != 10 && n != 16 && n != 19) return false;
    for (size_t i = 0; i < n; i++) {
        bool digit = text[i] >= '0' && text[i] <= '9';
        bool between = shape[i] != 'd' && (text[i] == shape[i] || (i == 10 && text[i] == 'T'));
        if (shape[i] == 'd' ? !digit : !between) return false;
        if (digit) fields[field] = fields[field] * 10 + (text[i] - '0');
        else field++;
    }
    *count = field + 1;
    return true;
}

static bool read_local(const char *text, uint64_t *unix_ms) {
    int f[6] = { 0 };
    size_t count;
    if (!read_fields(text, f, &count)) return false;
    struct tm t = { .tm_year = f[0] - 1900, .tm_mon = f[1] - 1, .tm_mday = f[2], .tm_hour = f[3], .tm_min = f[4],
                    .tm_sec = f[5], .tm_isdst = -1 };
    if (f[0] < 1970 || f[1] < 1 || f[1] > 12 || f[2] < 1 || f[2] > 31 || f[3] > 23 || f[4] > 59
        || f[5] > 59) return false;
    time_t at = mktime(&t);
    *unix_ms = (uint64_t)at * 1000;
    return at >= 0 && t.tm_mday == f[2];
}

nigh_status nigh_cli_read_time(const char *option, const char *text, uint64_t *unix_ms, nigh_err *err) {
    uint32_t age;
    uint64_t seconds, now = nigh_os_unix_ms();
    bool today = strcmp(text, "today") == 0, yesterday = strcmp(text, "yesterday") == 0;
    if (today || yesterday) {
        time_t at = (time_t)(now / 1000);
        struct tm t;
        localtime_r(&at, &t);
        t.tm_mday -= yesterday;
        t.tm_hour = t.tm_min = t.tm_sec = 0;
        t.tm_isdst = -1;
        *unix_ms = (uint64_t)mktime(&t) * 1000;
        return NIGH_OK;
    }
    if (read_local(text, unix_ms)) return NIGH_OK;
    if (nigh_instant_parse(nigh_str_of(text), &seconds)) { *unix_ms = seconds * 1000; return NIGH_OK; }
    if (nigh_duration_parse(nigh_str_of(text), &age)) {
        *unix_ms = now > (uint64_t)age * 1000 ? now - (uint64_t)age * 1000 : 0;
        return NIGH_OK;
    }
    return nigh_failf(err, NIGH_EINVAL, 0,
        "--%s wants a time like 2026-11-21 or \"2026-11-21 18:40\", today, yesterday, or an age like 24h, not '%s'",
        option, text);
}

/* ---- reading records ---- */

typedef struct { const nigh_json *last; uint64_t out, in, tries; } hops;

static hops hops_of(const nigh_json *record) {
    hops h = { 0 };
    for (const nigh_json *v = nigh_json_first(nigh_json_get(record, NIGH_STR("hops"))); v; v = v->next) {
        h.last = v;
        h.out += nigh_json_count(v, "bytes_out");
        h.in += nigh_json_count(v, "bytes_in");
        h.tries++;
    }
    return h;
}

/* ---- a table ---- */

/* At most `letters` of the text, then spaces up to that width. */
static void cell(nigh_str text, size_t letters) {
    char shown[512];
    FILE *f = fmemopen(shown, sizeof shown, "w");
    size_t width = 0;
    if (!f) return;
    nigh_show_text(f, text.len ? text : NIGH_STR("-"), letters > 3 && text.len > letters ? letters - 3 : 0);
    fputc('\0', f);
    fclose(f);
    shown[sizeof shown - 1] = '\0';
    for (const char *p = shown; *p; p++) width += ((unsigned char)*p & 0xc0) != 0x80;
    printf("%s%*s  ", shown, width < letters ? (int)(letters - width) : 0, "");
}

static void print_ending(const nigh_json *r) {
    nigh_str degraded = nigh_json_text(r, "degraded"), rule = nigh_json_text(r, "rule");
    nigh_show_text(stdout, nigh_json_text(r, "outcome"), 24);
    if (degraded.len) { printf(", degraded: "); nigh_show_text(stdout, degraded, 60); }
    if (rule.len) { printf(": "); nigh_show_text(stdout, rule, 60); }
}

static void print_row(const nigh_json *r) {
    char at[64], out[32], in[32];
    hops h = hops_of(r);
    nigh_cli_time(at, nigh_json_count(r, "at_ms"));
    at[19] = '\0';
    printf("%s  ", at);
    cell(nigh_json_text(r, "feature"), 16);
    cell(nigh_json_text(r, "class"), 9);
    cell(nigh_json_text(h.last, "target"), 14);
    cell(nigh_json_text(h.last, "tier"), 6);
    cell(nigh_json_text(h.last, "region"), 6);
    printf("%9s  %9s  %6llu ms  ", nigh_show_bytes(out, h.out), nigh_show_bytes(in, h.in),
           (unsigned long long)nigh_json_count(r, "total_ms"));
    cell(nigh_json_text(r, "id"), 21);
    print_ending(r);
    putchar('\n');
}

static void print_money(uint64_t nusd) { printf("%12.6f USD", (double)nusd / 1e9); }

static void print_totals(const nigh_json *totals) {
    char n[32], out[32], in[32];
    printf("\n%-20s  %9s  %9s  %7s  %10s  %10s  %16s\n", "by target", "answers", "degraded", "errors", "out", "in",
           "cost");
    for (const nigh_json *t = nigh_json_first(totals); t; t = t->next) {
        cell(nigh_json_text(t, "target").len ? nigh_json_text(t, "target") : NIGH_STR("(none)"), 20);
        printf("%9s  %9llu  %7llu  %10s  %10s  ", nigh_show_count(n, nigh_json_count(t, "answers")),
               (unsigned long long)nigh_json_count(t, "degraded"), (unsigned long long)nigh_json_count(t, "errors"),
               nigh_show_bytes(out, nigh_json_count(t, "bytes_out")),
               nigh_show_bytes(in, nigh_json_count(t, "bytes_in")));
        print_money(nigh_json_count(t, "cost_nusd"));
        putchar('\n');
    }
}

static void print_table(const nigh_json *found) {
    const nigh_json *records = nigh_json_get(found, NIGH_STR("records")), *totals = nigh_json_get(found,
                                                                                          NIGH_STR("totals"));
    uint64_t all = 0;
    if (!records->first) { printf("no record fits\n"); return; }
    printf("%-19s  %-16s  %-9s  %-14s  %-6s  %-6s  %9s  %9s  %9s  %-21s  %s\n", "time", "feature", "class", "target",
           "tier", "region", "out", "in", "took", "receipt", "ended");
    for (const nigh_json *r = records->first; r; r = r->next) print_row(r);
    for (const nigh_json *t = nigh_json_first(totals); t; t = t->next) all += nigh_json_count(t, "answers");
    if (all > records->count) {
        char n[32];
        printf("%zu of %s; --limit shows more\n", records->count, nigh_show_count(n, all));
    }
    print_totals(totals);
}

/* ---- CSV (RFC 4180) ---- */

/* A field that a spreadsheet would run as a formula gets an apostrophe in front. */
static void csv_text(nigh_str s) {
    bool formula = s.len && (strchr("=+-@\t\r", s.ptr[0]) != NULL);
    putchar('"');
    if (formula) putchar('\'');
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '"') putchar('"');
        putchar(s.ptr[i]);
    }
    putchar('"');
}

static void csv_time(uint64_t ms) {
    char text[64];
    time_t at = (time_t)(ms / 1000);
    struct tm t;
    if (gmtime_r(&at, &t) && strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &t)) printf("%s.%03uZ", text,
                                                                                      (unsigned)(ms % 1000));
}

static void csv_row(const nigh_json *r) {
    static const char *const texts[] = { "tenant", "user", "feature", "class", "outcome", "degraded", "rule" };
    static const char *const places[] = { "target", "tier", "region", "model", "model_sha256" };
    static const char *const numbers[] = { "first_ms", "total_ms", "prompt_tokens", "completion_tokens", "redacted",
                                           "policy_version" };
    hops h = hops_of(r);
    printf("%llu,", (unsigned long long)nigh_json_count(r, "n"));
    csv_text(nigh_json_text(r, "id"));
    putchar(',');
    csv_time(nigh_json_count(r, "at_ms"));
    for (size_t i = 0; i < NIGH_COUNT(texts); i++) { putchar(','); csv_text(nigh_json_text(r, texts[i])); }
    for (size_t i = 0; i < NIGH_COUNT(places); i++) { putchar(','); csv_text(nigh_json_text(h.last, places[i])); }
    printf(",%llu,%llu,%llu", (unsigned long long)h.tries, (unsigned long long)h.out, (unsigned long long)h.in);
    for (size_t i = 0; i < NIGH_COUNT(numbers); i++)
        printf(",%llu", (unsigned long long)nigh_json_count(r, numbers[i]));
    printf(",%.9f\n", (double)nigh_json_count(r, "cost_nusd") / 1e9);
}

static void print_csv(const nigh_json *found) {
    puts("n,id,time,tenant,user,feature,class,outcome,degraded,rule,target,tier,region,model,model_sha256,tries,"
         "bytes_out,bytes_in,first_ms,total_ms,prompt_tokens,completion_tokens,redacted,policy_version,cost_usd");
    for (const nigh_json *r = nigh_json_first(nigh_json_get(found, NIGH_STR("records"))); r; r = r->next) csv_row(r);
}

/* ---- the command ---- */

static nigh_status find_and_print(nigh_ledger *l, const words *w, const nigh_ledger_query *q, nigh_err *err) {
    nigh_buf b = NIGH_BUF(OUT_MAX);
    nigh_json_doc doc;
    nigh_status status = nigh_ledger_find(l, q, &b, err);
    if (status == NIGH_OK && w->json) {
        fwrite(b.ptr, 1, b.len, stdout);
        putchar('\n');
    } else if (status == NIGH_OK) {
        status = nigh_json_parse(&doc, nigh_buf_str(&b), err);
        if (status == NIGH_OK) {
            if (w->csv) print_csv(doc.root);
            else print_table(doc.root);
            nigh_json_release(&doc);
        }
    }
    nigh_buf_release(&b);
    return status;
}

static nigh_status delete_before(const words *w, nigh_err *err) {
    char own[4096], key[4096], when[64], n[32];
    uint64_t before;
    nigh_ledger *l;
    nigh_signer signer;
    nigh_ledger_proof was, now;
    NIGH_TRY(nigh_cli_read_time("delete-before", w->before, &before, err));
    NIGH_TRY(nigh_cli_home_path("keys/manifest", key, sizeof key, err));
    if (!w->file) NIGH_TRY(nigh_cli_home_path("ledger.db", own, sizeof own, err));
    if (!nigh_file_exists(key)) return nigh_failf(err, NIGH_ENOENT, 0,
                                                  "%s: the key that signs the ledger is not here", key);
    if (!nigh_file_exists(w->file ? w->file : own)) return nigh_fail(err, NIGH_ENOENT, 0, "there is no ledger");
    nigh_signer_open(&signer, key);
    NIGH_TRY(nigh_ledger_open(&l, w->file ? w->file : own, &signer, err));
    nigh_status status = nigh_ledger_verify(l, NULL, &was, err);
    if (status == NIGH_OK) status = nigh_ledger_expire(l, before, err);
    if (status == NIGH_OK) status = nigh_ledger_verify(l, NULL, &now, err);
    nigh_ledger_close(l);
    if (status != NIGH_OK) return status;
    printf("deleted %s record%s written before %s\n", nigh_show_count(n, was.records - now.records),
           was.records - now.records == 1 ? "" : "s", nigh_cli_time(when, before));
    return NIGH_OK;
}

static nigh_status run(int argc, char **argv, nigh_err *err) {
    words w = { .limit = LIMIT_DEFAULT };
    const nigh_opt opts[] = {
        { "feature", 0, NIGH_OPT_TEXT, &w.feature, 0, 0 }, { "tenant", 0, NIGH_OPT_TEXT, &w.tenant, 0, 0 },
        { "target", 0, NIGH_OPT_TEXT, &w.target, 0, 0 }, { "from", 0, NIGH_OPT_TEXT, &w.from, 0, 0 },
        { "to", 0, NIGH_OPT_TEXT, &w.to, 0, 0 }, { "file", 0, NIGH_OPT_TEXT, &w.file, 0, 0 },
        { "delete-before", 0, NIGH_OPT_TEXT, &w.before, 0, 0 },
        { "limit", 0, NIGH_OPT_INT, &w.limit, 1, NIGH_LEDGER_FIND_MAX }, { "csv", 0, NIGH_OPT_FLAG, &w.csv, 0, 0 },
        { "json", 0, NIGH_OPT_FLAG, &w.json, 0, 0 } };
    nigh_ledger *l;
    NIGH_TRY(nigh_opts_read(opts, NIGH_COUNT(opts), &argc, argv, err));
    if (argc) return nigh_failf(err, NIGH_EINVAL, 0, "takes options only, not '%s'", argv[0]);
    nigh_ledger_query q = { .feature = nigh_str_of(w.feature), .tenant = nigh_str_of(w.tenant),
                            .target = nigh_str_of(w.target), .limit = (uint32_t)w.limit };
    if (w.before) return delete_before(&w, err);
    if (w.from) NIGH_TRY(nigh_cli_read_time("from", w.from, &q.from_ms, err));
    if (w.to) NIGH_TRY(nigh_cli_read_time("to", w.to, &q.to_ms, err));
    NIGH_TRY(nigh_cli_ledger_open(&l, w.file, err));
    nigh_status status = find_and_print(l, &w, &q, err);
    nigh_ledger_close(l);
    return status;
}

const nigh_command nigh_command_ledger = { "ledger", "what became of requests: where, by what, how many bytes", help,
                                          run };
