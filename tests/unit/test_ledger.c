/* test_ledger.c - records kept, chained, signed, found again; and every way to change one of them behind its back. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include "base/os.h"
#include "node/ledger_parts.h"
#include "test.h"

static char folder[64], path[128];
static nigh_signer signer;

static void begin(void) {
    char key[128];
    snprintf(folder, sizeof folder, "/tmp/nigh-ledger-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/own/ledger.sqlite", folder);
    snprintf(key, sizeof key, "%s/key", folder);
    nigh_signer_open(&signer, key);
    CHECK(signer.there);
}

static void end(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    CHECK(system(command) == 0);
}

#define SET(field, text) snprintf(field, sizeof(field), "%s", text)

static nigh_record record_of(unsigned i) {
    nigh_record r = { .at_ms = 1700000000000u + i * 1000u, .policy_version = 3, .prompt_tokens = i, .hop_count = 1,
                      .cost_usd = i * 1e-6, .total_ms = 12, .keep_output_s = 604800 };
    snprintf(r.id, sizeof r.id, "rcpt-%016x", i * 2654435761u);
    snprintf(r.tenant, sizeof r.tenant, "tenant-%u", i % 3);
    SET(r.user, "u");
    snprintf(r.feature, sizeof r.feature, "feature-%u", i % 5);
    SET(r.class_name, "personal");
    SET(r.to, "loopback");
    SET(r.outcome, i % 7 ? "answered" : "error");
    SET(r.why, "local-first; mid: offline");
    if (i % 11 == 0) SET(r.degraded, "cache; age=31s");
    SET(r.hops[0].target, i % 2 ? "tiny" : "mid");
    SET(r.hops[0].tier, i % 2 ? "device" : "edge");
    SET(r.hops[0].ended, "ok");
    SET(r.hops[0].model, "nigh-stories");
    r.hops[0].bytes_out = i % 2 ? 0 : 100 + i;
    r.hops[0].retention_s = i % 2 ? 0 : UINT32_MAX;
    return r;
}

static void add_many(nigh_ledger *l, unsigned from, unsigned count) {
    for (unsigned i = from; i < from + count; i++) {
        nigh_record r = record_of(i);
        CHECK(nigh_ledger_add(l, &r, NULL) == NIGH_OK);
    }
}

static int64_t ask(const char *sql) {
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    int64_t n = -1;
    if (sqlite3_open(path, &db) == SQLITE_OK && sqlite3_prepare_v2(db, sql, -1, &s, NULL) == SQLITE_OK)
        n = sqlite3_step(s) == SQLITE_ROW ? sqlite3_column_int64(s, 0) : -2;
    sqlite3_finalize(s);
    sqlite3_close(db);
    return n;
}

static void kept_after_flush(void) {
    nigh_ledger *l, *other;
    nigh_err err = { 0 };
    struct stat st;
    begin();
    CHECK_MSG(nigh_ledger_open(&l, path, &signer, &err) == NIGH_OK, "%s", err.text);
    add_many(l, 0, 150);
    CHECK(nigh_ledger_flush(l, &err) == NIGH_OK);
    CHECK(ask("SELECT count(*) FROM record") == 150);
    CHECK(ask("SELECT count(*) FROM head") >= 3);
    CHECK(stat(path, &st) == 0 && (st.st_mode & 0777) == 0600);
    CHECK(nigh_ledger_open(&other, path, &signer, &err) == NIGH_EBUSY);
    CHECK_MSG(strstr(err.text, "another process") != NULL, "%s", err.text);
    nigh_ledger_close(l);
    CHECK(nigh_ledger_open(&l, path, &signer, &err) == NIGH_OK);
    add_many(l, 150, 10);
    nigh_ledger_close(l);
    CHECK(ask("SELECT max(n) FROM record") == 160);
    end();
}

/* What is hashed is JSON that reads back and is written the same again. */
static void bodies_are_canonical(void) {
    static nigh_record r;
    uint64_t seed = test_seed();
    size_t longest = 0;
    nigh_buf b = NIGH_BUF(1 << 20), again = NIGH_BUF(1 << 20);
    for (unsigned round = 0; round < 2000; round++) {
        for (size_t i = 0; i < sizeof r; i++) ((uint8_t *)&r)[i] = (uint8_t)(test_rand(&seed) >> 11);
        if (round < 3) memset(&r, round == 0 ? 1 : round == 1 ? 0xff : 'x', sizeof r);
        r.hop_count = round % (NIGH_RECORD_HOPS_MAX + 1);
        if (round < 3) r.hop_count = NIGH_RECORD_HOPS_MAX;
        r.inner = NIGH_STR("");
        r.may_leave_region = round & 1;
        for (size_t i = 0; i < NIGH_RECORD_HOPS_MAX; i++) r.hops[i].trains = round & 1;
        b.len = again.len = 0;
        CHECK(nigh_buf_reserve(&b, 1 << 17) == NIGH_OK);
        CHECK(nigh_ledger_encode(&b, &r, NIGH_STR("")) == NIGH_OK);
        nigh_ledger_entry e;
        memcpy(&e, b.ptr, sizeof e);
        CHECK(b.len == sizeof e + e.tenant_bytes + e.feature_bytes + e.target_bytes + e.body_bytes);
        longest = e.body_bytes > longest ? e.body_bytes : longest;
        nigh_str body = { b.ptr + b.len - e.body_bytes, e.body_bytes };
        CHECK(nigh_ledger_canonical(&again, body, NULL) == NIGH_OK);
        CHECK_MSG(nigh_str_eq(body, nigh_buf_str(&again)), "seed %llu round %u", (unsigned long long)test_seed(),
                  round);
    }
    CHECK_MSG(longest <= NIGH_LEDGER_BODY_MAX, "%zu", longest);
    nigh_buf_release(&b);
    nigh_buf_release(&again);
}

TEST_MAIN(T(kept_after_flush), T(bodies_are_canonical))
