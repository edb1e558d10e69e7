/* test_ledger.c - records kept, chained, signed, found again; and every way to change one of them behind its back. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sodium.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include "base/os.h"
#include "base/sha256.h"
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

/* ---- receipts ---- */

static void made(unsigned count) {
    nigh_ledger *l;
    nigh_err err = { 0 };
    begin();
    CHECK_MSG(nigh_ledger_open(&l, path, &signer, &err) == NIGH_OK, "%s", err.text);
    add_many(l, 0, count);
    nigh_ledger_close(l);
}

static nigh_status check_text(nigh_str text, const uint8_t *key, nigh_err *err) {
    nigh_json_doc doc;
    nigh_receipt_proof proof;
    nigh_status status = nigh_json_parse(&doc, text, err);
    if (status != NIGH_OK) return status;
    status = nigh_ledger_check_receipt(doc.root, key, &proof, err);
    nigh_json_release(&doc);
    return status;
}

/* The same receipt with spaces, and with any one character changed. */
static void attack_receipt(nigh_str text) {
    nigh_buf b = NIGH_BUF(1 << 20);
    uint64_t seed = test_seed();
    unsigned accepted = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        CHECK(nigh_buf_add_char(&b, c) == NIGH_OK);
        if ((c == ',' || c == '{') && text.ptr[i + 1] == '"') CHECK(nigh_buf_add(&b, NIGH_STR("\n  ")) == NIGH_OK);
    }
    CHECK(check_text(nigh_buf_str(&b), signer.public_key, NULL) == NIGH_OK);
    for (size_t i = 0; i < text.len; i++) {
        b.len = 0;
        CHECK(nigh_buf_add(&b, text) == NIGH_OK);
        char to = (char)(0x20 + test_rand(&seed) % 0x5f);
        if (to == text.ptr[i]) continue;
        b.ptr[i] = to;
        accepted += check_text(nigh_buf_str(&b), signer.public_key, NULL) == NIGH_OK;
    }
    CHECK_MSG(accepted == 0, "%u of %zu changes were accepted", accepted, text.len);
    nigh_buf_release(&b);
}

static void receipts_hold(void) {
    nigh_ledger *l;
    nigh_err err = { 0 };
    nigh_buf b = NIGH_BUF(1 << 20);
    uint8_t other[32] = { 1 };
    nigh_record r;
    made(300);
    CHECK(nigh_ledger_open_to_read(&l, path, &err) == NIGH_OK);
    for (unsigned i = 0; i < 300; i++) {
        r = record_of(i);
        b.len = 0;
        CHECK_MSG(nigh_ledger_receipt(l, nigh_str_of(r.id), &b, &err) == NIGH_OK, "%s", err.text);
        CHECK_MSG(check_text(nigh_buf_str(&b), signer.public_key, &err) == NIGH_OK, "%u: %s", i, err.text);
        CHECK(check_text(nigh_buf_str(&b), other, &err) == NIGH_EAUTH);
        CHECK(b.len < 6000);
    }
    r = record_of(200);
    b.len = 0;
    CHECK(nigh_ledger_receipt(l, nigh_str_of(r.id), &b, &err) == NIGH_OK);
    attack_receipt(nigh_buf_str(&b));
    CHECK(nigh_ledger_receipt(l, NIGH_STR("rcpt-0000000000000000\""), &b, &err) == NIGH_ENOENT);
    nigh_ledger_close(l);
    /* One that still waits for the disk is found, too. */
    CHECK(nigh_ledger_open(&l, path, &signer, &err) == NIGH_OK);
    r = record_of(300);
    r.inner = NIGH_STR("{ \"id\" : \"rcpt-inner\", \"n\": 1.50 }");
    CHECK(nigh_ledger_add(l, &r, &err) == NIGH_OK);
    b.len = 0;
    CHECK(nigh_ledger_receipt(l, nigh_str_of(r.id), &b, &err) == NIGH_OK);
    CHECK(nigh_str_find(nigh_buf_str(&b), NIGH_STR("\"inner\":{\"id\":\"rcpt-inner\",\"n\":1.50}"), 0) != SIZE_MAX);
    CHECK(check_text(nigh_buf_str(&b), signer.public_key, &err) == NIGH_OK);
    r.inner = NIGH_STR("{\"id\":");
    CHECK(nigh_ledger_add(l, &r, &err) == NIGH_EINVAL);
    nigh_ledger_close(l);
    nigh_buf_release(&b);
    end();
}

/* The example of docs/format-ledger.md, whose key is the bytes 0 to 31. */
static void documented_example_holds(void) {
    uint8_t id[NIGH_LEDGER_ID_BYTES], seed[32], public_key[32], secret[64];
    char first[65], record[65], next[65];
    nigh_buf page = NIGH_BUF(1 << 20), body = NIGH_BUF(1 << 20);
    nigh_json_doc doc;
    nigh_receipt_proof proof;
    nigh_err err = { 0 };
    for (size_t i = 0; i < sizeof seed; i++) seed[i] = (uint8_t)i;
    crypto_sign_seed_keypair(public_key, secret, seed);
    CHECK(nigh_file_read(&page, "docs/format-ledger.md", &err) == NIGH_OK);
    size_t at = nigh_str_find(nigh_buf_str(&page), NIGH_STR("```json\n"), 0);
    size_t to = nigh_str_find(nigh_buf_str(&page), NIGH_STR("\n```"), at + 1);
    nigh_str text = nigh_str_slice(nigh_buf_str(&page), at + 8, to);
    CHECK(at != SIZE_MAX && nigh_json_parse(&doc, text, &err) == NIGH_OK);
    CHECK_MSG(nigh_ledger_check_receipt(doc.root, public_key, &proof, &err) == NIGH_OK, "%s", err.text);
    CHECK(proof.n == 1 && proof.head_n == 2 && nigh_hex_read(nigh_str_of(proof.ledger), id, sizeof id));
    CHECK(nigh_json_add_value(&body, nigh_json_get(doc.root, NIGH_STR("record"))) == NIGH_OK && body.len == 671);
    nigh_hash chain = nigh_ledger_first(id), hash = nigh_ledger_hash(nigh_buf_str(&body));
    nigh_hex_write(first, chain.b, 32);
    nigh_hex_write(record, hash.b, 32);
    chain = nigh_ledger_next(&chain, 1, &hash);
    nigh_hex_write(next, chain.b, 32);
    CHECK(nigh_str_find(nigh_buf_str(&page), nigh_str_of(first), to) != SIZE_MAX);
    CHECK(nigh_str_find(nigh_buf_str(&page), nigh_str_of(record), to) != SIZE_MAX);
    CHECK(nigh_str_find(nigh_buf_str(&page), nigh_str_of(next), to) != SIZE_MAX);
    nigh_json_release(&doc);
    nigh_buf_release(&body);
    nigh_buf_release(&page);
}

/* ---- questions ---- */

static size_t count_of(nigh_str haystack, const char *needle) {
    size_t n = 0;
    for (size_t at = 0; (at = nigh_str_find(haystack, nigh_str_of(needle), at)) != SIZE_MAX; at++) n++;
    return n;
}

static void questions_are_answered(void) {
    nigh_ledger *l;
    nigh_err err = { 0 };
    nigh_buf b = NIGH_BUF(1 << 20);
    nigh_json_doc doc;
    made(100);
    CHECK(nigh_ledger_open_to_read(&l, path, &err) == NIGH_OK);
    nigh_ledger_query q = { .feature = NIGH_STR("feature-2"), .limit = 5 };
    CHECK_MSG(nigh_ledger_find(l, &q, &b, &err) == NIGH_OK, "%s", err.text);
    CHECK(count_of(nigh_buf_str(&b), "{\"n\":") == 5 && count_of(nigh_buf_str(&b), "\"feature\":\"feature-2\"") == 5);
    CHECK(count_of(nigh_buf_str(&b), "{\"n\":98,") == 1);          /* the newest: i = 97 */
    CHECK(count_of(nigh_buf_str(&b), "\"answers\":10,") == 2);      /* mid and tiny, ten each */
    CHECK(nigh_json_parse(&doc, nigh_buf_str(&b), &err) == NIGH_OK);
    nigh_json_release(&doc);
    b.len = 0;
    q = (nigh_ledger_query){ .from_ms = 1700000010000u, .to_ms = 1700000020000u, .target = NIGH_STR("mid") };
    CHECK(nigh_ledger_find(l, &q, &b, &err) == NIGH_OK);
    CHECK(count_of(nigh_buf_str(&b), "{\"n\":") == 5 && count_of(nigh_buf_str(&b), "\"bytes_out\":570") == 1);
    b.len = 0;
    q = (nigh_ledger_query){ .tenant = NIGH_STR("nobody") };
    CHECK(nigh_ledger_find(l, &q, &b, &err) == NIGH_OK);
    CHECK(nigh_str_eq(nigh_buf_str(&b), NIGH_STR("{\"records\":[],\"totals\":[]}")));
    nigh_ledger_close(l);
    nigh_buf_release(&b);
    end();
}

static void where_says_it_plainly(void) {
    nigh_ledger *l;
    nigh_err err = { 0 };
    nigh_buf b = NIGH_BUF(1 << 20);
    begin();
    CHECK(nigh_ledger_open(&l, path, &signer, &err) == NIGH_OK);
    nigh_record home = record_of(1), away = record_of(2);
    away.redacted = 2;
    away.may_leave_region = true;
    away.hop_count = 2;
    away.hops[1] = away.hops[0];
    SET(away.hops[0].ended, "timeout");
    SET(away.hops[1].target, "big");
    SET(away.hops[1].tier, "cloud");
    SET(away.hops[1].region, "DE");
    away.hops[1].retention_s = 86400 * 30;
    away.hops[1].trains = true;
    CHECK(nigh_ledger_add(l, &home, &err) == NIGH_OK && nigh_ledger_add(l, &away, &err) == NIGH_OK);
    CHECK(nigh_ledger_where(l, nigh_str_of(home.id), &b, &err) == NIGH_OK);
    const char *const says[] = {
        "It was answered on this device by the model nigh-stories. Nothing of it left this device.",
        "Whoever asked, from this machine, and whoever runs this device.\"",
        "On this device: the answer for at most 7 days. This ledger holds no word of it.\"",
        "No: version 3 of the policy lets feature-1 reach no place outside its region. This one did "
        "not leave the device." };
    for (size_t i = 0; i < NIGH_COUNT(says); i++)
        CHECK_MSG(count_of(nigh_buf_str(&b), says[i]) == 1, "%s", says[i]);
    b.len = 0;
    CHECK(nigh_ledger_where(l, nigh_str_of(away.id), &b, &err) == NIGH_OK);
    const char *const tells[] = {
        "It was answered by big (cloud, DE) by the model nigh-stories. To mid (edge, region not stated): 102 bytes "
        "out, 0 bytes back; it ended with: timeout. To big (cloud, DE): 102 bytes out, 0 bytes back.",
        "mid, which says that it does not train on it. Whoever runs big, which may train on it. Before it left, 2 "
        "personal or "
        "secret values were replaced.",
        "mid does not say how long it keeps what it got. big says that it keeps what it got for 30 days.",
        "Yes: version 3 of the policy lets feature-2 leave its region. This one went to: a region that is not "
        "stated, DE." };
    for (size_t i = 0; i < NIGH_COUNT(tells); i++)
        CHECK_MSG(count_of(nigh_buf_str(&b), tells[i]) == 1, "%s: %.*s", tells[i], (int)b.len, b.ptr);
    nigh_ledger_close(l);
    nigh_buf_release(&b);
    end();
}

/* ---- attacks ---- */

static void alter(const char *sql) {
    sqlite3 *db = NULL;
    char *why = NULL;
    CHECK(sqlite3_open(path, &db) == SQLITE_OK);
    CHECK_MSG(sqlite3_exec(db, sql, NULL, NULL, &why) == SQLITE_OK, "%s: %s", sql, why);
    CHECK_MSG(sqlite3_changes(db) > 0, "%s changes nothing", sql);
    sqlite3_close(db);
}

static nigh_status verify(nigh_ledger_proof *proof, nigh_err *err) {
    nigh_ledger *l;
    nigh_status status = nigh_ledger_open_to_read(&l, path, err);
    if (status == NIGH_OK) status = nigh_ledger_verify(l, signer.public_key, proof, err);
    nigh_ledger_close(l);
    return status;
}

static void changes_are_found(void) {
    static const struct { const char *sql; uint64_t at; } cases[] = {
        { "UPDATE record SET body = replace(body, 'personal', 'public') WHERE n = 17", 17 },
        { "UPDATE record SET body = replace(body, '\"bytes_out\":0', '\"bytes_out\":1') WHERE n = 18", 18 },
        { "UPDATE record SET body = '' WHERE n = 40", 40 },
        { "UPDATE record SET body = body || ' ' WHERE n = 41", 41 },
        { "UPDATE record SET chain = randomblob(32) WHERE n = 50", 50 },
        { "UPDATE record SET chain = x'' WHERE n = 51", 51 },
        { "UPDATE record SET feature = 'other' WHERE n = 60", 60 },
        { "UPDATE record SET tenant = NULL WHERE n = 60", 60 },
        { "UPDATE record SET target = 'other' WHERE n = 61", 61 },
        { "UPDATE record SET at_ms = at_ms + 1 WHERE n = 62", 62 },
        { "UPDATE record SET key = key + 1 WHERE n = 63", 63 },
        { "UPDATE record SET bytes_out = 7 WHERE n = 64", 64 },
        { "UPDATE record SET bytes_in = 7 WHERE n = 65", 65 },
        { "UPDATE record SET cost_nusd = 7 WHERE n = 66", 66 },
        { "UPDATE record SET marks = 4 WHERE n = 67", 67 },
        { "DELETE FROM record WHERE n = 70", 70 },
        { "DELETE FROM record WHERE n <= 64", 1 },
        { "DELETE FROM record WHERE n > 140", 141 },
        { "UPDATE record SET n = 1000 WHERE n = 80", 80 },
        { "INSERT INTO record SELECT n + 1, at_ms, key, tenant, feature, target, bytes_out, bytes_in, cost_nusd, marks,"
          " chain, body FROM record WHERE n = 150", 151 },
        { "UPDATE head SET at_ms = at_ms + 1 WHERE n = 64", 64 },
        { "UPDATE head SET signature = randomblob(64) WHERE n = 128", 128 },
        { "UPDATE head SET signature = x'00' WHERE n = 128", 128 },
        { "UPDATE head SET n = 63 WHERE n = 64", 63 },
        { "UPDATE head SET signer = 9 WHERE n = 150", 150 },
        { "DELETE FROM head WHERE n = 64", 64 },
        { "DELETE FROM head WHERE n = 150", 129 },
        { "UPDATE signer SET public_key = randomblob(32)", 64 },
        { "UPDATE ledger SET id = randomblob(16)", 1 },
        { "INSERT INTO expiry VALUES(64, (SELECT chain FROM record WHERE n = 64), 1, 1, 1, randomblob(64));"
          "DELETE FROM record WHERE n <= 64; DELETE FROM head WHERE n <= 64", 64 },
    };
    char keep[160], command[2000];
    nigh_ledger_proof proof;
    nigh_err err = { 0 };
    made(150);
    CHECK_MSG(verify(&proof, &err) == NIGH_OK, "%s", err.text);
    CHECK(proof.records == 150 && proof.first_n == 1 && proof.heads == 3 && proof.signers == 1);
    snprintf(keep, sizeof keep, "%s/keep", folder);
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        snprintf(command, sizeof command, "rm -f %s-wal %s-shm; if [ -e %s ]; then cp %s %s; else cp %s %s; fi", path,
                 path, keep, keep, path, path, keep);
        CHECK(system(command) == 0);
        alter(cases[i].sql);
        err = (nigh_err){ 0 };
        CHECK_MSG(verify(&proof, &err) == NIGH_EDATA && err.at == cases[i].at, "%s: %llu %s", cases[i].sql,
                  (unsigned long long)err.at, err.text);
    }
    end();
}

/* Everything that was recorded, as one hash. */
static nigh_hash contents(void) {
    static const char *const tables[] = { "ledger", "signer", "record", "head", "expiry" };
    nigh_sha256 s;
    nigh_hash h;
    char sql[64];
    sqlite3 *db = NULL;
    nigh_sha256_init(&s);
    if (sqlite3_open(path, &db) == SQLITE_OK)
        for (size_t i = 0; i < NIGH_COUNT(tables); i++) {
            sqlite3_stmt *q = NULL;
            snprintf(sql, sizeof sql, "SELECT * FROM %s ORDER BY 1", tables[i]);
            if (sqlite3_prepare_v2(db, sql, -1, &q, NULL) != SQLITE_OK) continue;
            while (sqlite3_step(q) == SQLITE_ROW)
                for (int c = 0; c < sqlite3_column_count(q); c++) nigh_sha256_add(&s, nigh_column(q, c));
            sqlite3_finalize(q);
        }
    sqlite3_close(db);
    nigh_sha256_end(&s, h.b);
    return h;
}

/* One byte of the file, anywhere: it is found, or nothing that was recorded is different. */
static void flipped_bytes_are_found(void) {
    uint64_t seed = test_seed();
    unsigned rounds = test_short() ? 60 : 400, found = 0, harmless = 0, missed = 0;
    nigh_ledger_proof proof;
    nigh_file file;
    nigh_buf whole = NIGH_BUF(8 << 20);
    made(150);
    CHECK(nigh_file_open(&file, path, NULL) == NIGH_OK);
    CHECK(nigh_buf_add(&whole, file.bytes) == NIGH_OK);
    nigh_file_close(&file);
    nigh_hash before = contents();
    for (unsigned i = 0; i < rounds; i++) {
        size_t at = test_rand(&seed) % whole.len;
        uint8_t flip = (uint8_t)(1u << (test_rand(&seed) % 8));
        whole.ptr[at] = (char)(whole.ptr[at] ^ flip);
        FILE *f = fopen(path, "wb");
        CHECK(f && fwrite(whole.ptr, 1, whole.len, f) == whole.len && fclose(f) == 0);
        nigh_hash after = contents();
        bool good = verify(&proof, NULL) == NIGH_OK;
        found += !good;
        harmless += good && nigh_hash_eq(&before, &after);
        if (good && !nigh_hash_eq(&before, &after)) {
            missed++;
            fprintf(stderr, "    seed %llu: byte %zu flipped by %u was not found\n",
                    (unsigned long long)test_seed(), at,
                    flip);
        }
        whole.ptr[at] = (char)(whole.ptr[at] ^ flip);
    }
    printf("  %u flips: %u found, %u where nothing is kept\n", rounds, found, harmless);
    CHECK(missed == 0 && found > rounds / 2);
    nigh_buf_release(&whole);
    end();
}

/* ---- age ---- */

static void old_records_go(void) {
    nigh_ledger *l;
    nigh_ledger_proof proof;
    nigh_err err = { 0 };
    nigh_buf b = NIGH_BUF(1 << 20);
    nigh_record r = record_of(7);
    begin();
    CHECK(nigh_ledger_open(&l, path, &signer, &err) == NIGH_OK);
    add_many(l, 0, 10000);
    CHECK(nigh_ledger_flush(l, &err) == NIGH_OK);
    usleep(5000);
    uint64_t cut = nigh_os_unix_ms();
    usleep(5000);
    CHECK(nigh_ledger_expire(l, 1, &err) == NIGH_OK);
    CHECK(nigh_ledger_verify(l, signer.public_key, &proof, &err) == NIGH_OK && proof.records == 10000);
    add_many(l, 10000, 100);
    CHECK_MSG(nigh_ledger_expire(l, cut, &err) == NIGH_OK, "%s", err.text);
    CHECK_MSG(nigh_ledger_verify(l, signer.public_key, &proof, &err) == NIGH_OK, "%s", err.text);
    CHECK(proof.records == 100 && proof.first_n == 10001 && proof.expired_n == 10000 && proof.expired_before_ms == cut);
    CHECK(nigh_ledger_receipt(l, nigh_str_of(r.id), &b, &err) == NIGH_ENOENT);
    r = record_of(10000);
    CHECK(nigh_ledger_receipt(l, nigh_str_of(r.id), &b, &err) == NIGH_OK);
    CHECK(check_text(nigh_buf_str(&b), signer.public_key, &err) == NIGH_OK);
    CHECK(nigh_ledger_expire(l, nigh_os_unix_ms() + 1000, &err) == NIGH_OK);
    nigh_ledger_close(l);
    CHECK(ask("SELECT count(*) FROM record") == 0);
    CHECK(nigh_ledger_open(&l, path, &signer, &err) == NIGH_OK);    /* what is left is the note */
    add_many(l, 0, 1);
    CHECK(nigh_ledger_verify(l, signer.public_key, &proof, &err) == NIGH_OK);
    CHECK(proof.records == 1 && proof.first_n == 10101);
    nigh_ledger_close(l);
    alter("UPDATE expiry SET before_ms = before_ms + 1");
    CHECK(verify(&proof, &err) == NIGH_EDATA && err.at == 10100);
    nigh_buf_release(&b);
    end();
}

static void another_key_goes_on(void) {
    nigh_ledger *l;
    nigh_ledger_proof proof;
    nigh_err err = { 0 };
    nigh_signer other = signer;
    char key[128];
    made(10);
    snprintf(key, sizeof key, "%s/other", folder);
    nigh_signer_open(&other, key);
    CHECK(nigh_ledger_open(&l, path, &other, &err) == NIGH_OK);
    add_many(l, 10, 10);
    CHECK(nigh_ledger_verify(l, NULL, &proof, &err) == NIGH_OK && proof.signers == 2);
    CHECK(nigh_ledger_verify(l, other.public_key, &proof, &err) == NIGH_EAUTH && err.at == 10);
    nigh_ledger_close(l);
    other.there = false;
    CHECK(nigh_ledger_open(&l, path, &other, &err) == NIGH_EINVAL);
    end();
}

/* ---- many threads, no memory ---- */

static void *add_from_thread(void *ud) {
    for (unsigned i = 0; i < 2000; i++) {
        nigh_record r = record_of(i);
        CHECK(nigh_ledger_add(ud, &r, NULL) == NIGH_OK);
        if (i % 500 == 0) CHECK(nigh_ledger_flush(ud, NULL) == NIGH_OK);
    }
    return NULL;
}

static void threads_add_together(void) {
    nigh_ledger *l;
    nigh_ledger_proof proof;
    nigh_err err = { 0 };
    pthread_t threads[4];
    begin();
    CHECK(nigh_ledger_open(&l, path, &signer, &err) == NIGH_OK);
    for (size_t i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, add_from_thread, l) == 0);
    for (size_t i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    CHECK_MSG(nigh_ledger_verify(l, signer.public_key, &proof, &err) == NIGH_OK, "%s", err.text);
    CHECK(proof.records == 8000);
    nigh_ledger_close(l);
    end();
}

static void no_memory_is_said(void) {
    nigh_ledger *l;
    nigh_err err = { 0 };
    nigh_ledger_proof proof;
    nigh_record r = record_of(1);
    r.inner = NIGH_STR("{\"a\":1}");
    size_t before = nigh_alloc_live_bytes();
    begin();
    CHECK(nigh_ledger_open(&l, path, &signer, &err) == NIGH_OK);
    unsigned kept = 0;
    for (unsigned i = 1; i <= 12; i++) {
        nigh_alloc_fail_at(i, false);
        nigh_status status = nigh_ledger_add(l, &r, &err);
        nigh_alloc_fail_at(0, false);
        CHECK(status == NIGH_OK || status == NIGH_ENOMEM);
        kept += status == NIGH_OK;
    }
    CHECK(nigh_ledger_verify(l, NULL, &proof, &err) == NIGH_OK && proof.records == kept);
    nigh_ledger_close(l);
    CHECK(nigh_alloc_live_bytes() == before);
    end();
}

static void files_that_are_none(void) {
    nigh_ledger *l;
    nigh_err err = { 0 };
    char command[2000];
    begin();
    CHECK(nigh_ledger_open_to_read(&l, path, &err) == NIGH_ENOENT);
    snprintf(command, sizeof command, "mkdir %s/own && echo something else, long enough > %s && chmod 600 %s", folder,
             path, path);
    CHECK(system(command) == 0);
    CHECK_MSG(nigh_ledger_open(&l, path, &signer, &err) == NIGH_EDATA, "%s", err.text);
    CHECK(nigh_ledger_open_to_read(&l, path, &err) == NIGH_EDATA);
    snprintf(command, sizeof command, "rm %s && touch %s && chmod 644 %s", path, path, path);
    CHECK(system(command) == 0);
    CHECK(nigh_ledger_open(&l, path, &signer, &err) == NIGH_EINVAL);
    snprintf(command, sizeof command, "rm %s && ln -s %s/key %s", path, folder, path);
    CHECK(system(command) == 0);
    CHECK(nigh_ledger_open(&l, path, &signer, &err) == NIGH_EIO);
    end();
}

TEST_MAIN(T(kept_after_flush), T(bodies_are_canonical), T(receipts_hold), T(documented_example_holds),
          T(questions_are_answered),
          T(where_says_it_plainly), T(changes_are_found), T(flipped_bytes_are_found), T(old_records_go),
          T(another_key_goes_on), T(threads_add_together), T(no_memory_is_said), T(files_that_are_none))
