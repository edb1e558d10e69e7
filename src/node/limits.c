/* limits.c - token buckets for requests and tokens, and sums of money for a day.
 *
 * A bucket holds at most a minute's worth and fills evenly; when a request turns out larger than what was taken for
 * it, the bucket goes below zero and the next ones wait. Sums stand in an open-addressed table by hash: one entry for
 * each key and each user that spent something today. When there is no memory for another entry, its money goes to a
 * sum that counts for everybody who has none: a limit may then hold too early, never too late.
 *
 * The file: a head of 16 bytes, then records of 40 bytes: day (8), who (16), USD (8, double), check (8). It is made
 * anew with one record an entry at start, at the first amount of another day and when it has grown. A check that does
 * not fit ends reading: that was a write the power cut short. */
#define _GNU_SOURCE
#include "node/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"
#include "base/sha256.h"
#include "node/private_file.h"

enum { HEAD_BYTES = 16, RECORD_BYTES = 40, RECORDS_GROWN = 65536, TABLE_MIN = 64, TABLE_MAX = 1 << 22 };
static const char magic[HEAD_BYTES + 1] = "nigh spent 1\n\0\0\0";
static const uint64_t DAY_MS = 86400000;

typedef struct { double requests, tokens; uint64_t at_ms; bool begun; } bucket;
typedef struct { uint8_t who[16]; double usd; bool used; } sum;

struct nigh_limits {
    pthread_mutex_t lock;
    bucket buckets[NIGH_KEYS_MAX];
    uint8_t key_names[NIGH_KEYS_MAX][16];
    size_t key_count;
    sum *table;
    size_t size, count;             /* size: a power of two */
    double rest;                    /* of those there was no memory for */
    uint64_t day;
    int fd;                         /* -1: in memory only, or the file could not be written */
    char path[4096];
    size_t records;                 /* in the file */
};

/* ---- names ---- */

static void name_of(nigh_str kind, nigh_str a, nigh_str b, uint8_t out[16]) {
    uint8_t digest[32], len[8];
    nigh_sha256 s;
    for (size_t i = 0; i < 8; i++) len[i] = (uint8_t)(a.len >> (8 * i));
    nigh_sha256_init(&s);
    nigh_sha256_add(&s, kind);
    nigh_sha256_add(&s, (nigh_str){ (const char *)len, sizeof len });
    nigh_sha256_add(&s, a);
    nigh_sha256_add(&s, b);
    nigh_sha256_end(&s, digest);
    memcpy(out, digest, 16);
}

static void user_name(const nigh_rights *r, nigh_str user, uint8_t out[16]) {
    name_of(NIGH_STR("user"), nigh_str_of(r->tenant), user, out);
}

/* The sum of a key's day; all callers without a key share one. */
static void key_name(const nigh_limits *l, const nigh_rights *r, uint8_t out[16]) {
    if (r->key_idx < l->key_count) memcpy(out, l->key_names[r->key_idx], 16);
    else name_of(NIGH_STR("nokey"), NIGH_STR(""), NIGH_STR(""), out);
}

/* ---- sums ---- */

static sum *place_of(const nigh_limits *l, const uint8_t who[16]) {
    size_t i = 0;
    memcpy(&i, who, sizeof i);
    for (;; i++) {
        sum *s = &l->table[i & (l->size - 1)];
        if (!s->used || memcmp(s->who, who, sizeof s->who) == 0) return s;
    }
}

static bool grow(nigh_limits *l) {
    nigh_limits wide = { .size = 2 * l->size };
    if (wide.size > TABLE_MAX) return false;
    wide.table = nigh_alloc(sizeof *wide.table, wide.size);
    if (!wide.table) return false;
    for (size_t i = 0; i < l->size; i++) if (l->table[i].used) *place_of(&wide, l->table[i].who) = l->table[i];
    nigh_free(l->table);
    l->table = wide.table;
    l->size = wide.size;
    return true;
}

static void add_sum(nigh_limits *l, const uint8_t who[16], double usd) {
    sum *s = place_of(l, who);
    if (!s->used) {
        if (2 * (l->count + 1) > l->size && !grow(l)) { l->rest += usd; return; }
        s = place_of(l, who);
        memcpy(s->who, who, sizeof s->who);
        s->used = true;
        l->count++;
    }
    s->usd += usd;
}

static double get_sum(const nigh_limits *l, const uint8_t who[16]) {
    const sum *s = place_of(l, who);
    return s->used ? s->usd : l->rest;
}

/* ---- the file ---- */

static void make_record(uint64_t day, const uint8_t who[16], double usd, uint8_t out[RECORD_BYTES]) {
    uint64_t bits, check;
    memcpy(&bits, &usd, sizeof bits);
    for (size_t i = 0; i < 8; i++) out[i] = (uint8_t)(day >> (8 * i));
    memcpy(out + 8, who, 16);
    for (size_t i = 0; i < 8; i++) out[24 + i] = (uint8_t)(bits >> (8 * i));
    check = nigh_str_hash((nigh_str){ (const char *)out, 32 }, 0x6e696768);
    for (size_t i = 0; i < 8; i++) out[32 + i] = (uint8_t)(check >> (8 * i));
}

/* Adds what a record says, when it is of today. False: it is none. */
static bool take_record(nigh_limits *l, const uint8_t in[RECORD_BYTES]) {
    uint8_t same[RECORD_BYTES];
    nigh_reader r = nigh_reader_of((nigh_str){ (const char *)in, RECORD_BYTES });
    uint64_t day = nigh_read_uint(&r, 8), bits;
    double usd;
    (void)nigh_read_bytes(&r, 16);
    bits = nigh_read_uint(&r, 8);
    memcpy(&usd, &bits, sizeof usd);
    make_record(day, in + 8, usd, same);
    if (memcmp(same, in, RECORD_BYTES) != 0 || !(usd >= 0 && usd <= 1e15)) return false;
    if (day == l->day) add_sum(l, in + 8, usd);
    return true;
}

static nigh_status read_file(nigh_limits *l, nigh_err *err) {
    uint8_t piece[RECORD_BYTES * 256];
    struct stat st;
    ssize_t got;
    int fd;
    nigh_status status = nigh_private_open(l->path, O_RDONLY, &fd, err);
    if (status != NIGH_OK) return status == NIGH_ENOENT ? NIGH_OK : status;
    bool ours = fstat(fd, &st) == 0 && (st.st_size == 0
        || (read(fd, piece, HEAD_BYTES) == HEAD_BYTES && memcmp(piece, magic, HEAD_BYTES) == 0));
    bool good = ours;
    while (good && (got = read(fd, piece, sizeof piece)) > 0)
        for (size_t at = 0; good && at < (size_t)got; at += RECORD_BYTES)
            good = at + RECORD_BYTES <= (size_t)got && take_record(l, piece + at);
    close(fd);
    return ours ? NIGH_OK
        : nigh_failf(err, NIGH_EINVAL, 0, "%s: is no file of what was spent; it may be removed", l->path);
}

static bool write_sums(nigh_limits *l, int fd) {
    uint8_t piece[RECORD_BYTES * 256];
    size_t n = 0;
    bool ok = write(fd, magic, HEAD_BYTES) == HEAD_BYTES;
    for (size_t i = 0; ok && i < l->size; i++) {
        if (!l->table[i].used) continue;
        make_record(l->day, l->table[i].who, l->table[i].usd, piece + n);
        n += RECORD_BYTES;
        if (n < sizeof piece) continue;
        ok = write(fd, piece, n) == (ssize_t)n;
        n = 0;
    }
    return ok && (!n || write(fd, piece, n) == (ssize_t)n);
}

/* Makes the file anew, with one record an entry: whole or not at all. */
static bool write_file(nigh_limits *l) {
    char temp[sizeof l->path + 8];
    if (!l->path[0]) return true;
    nigh_format(temp, sizeof temp, "%s.new", l->path);
    int fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
    bool ok = fd >= 0 && write_sums(l, fd) && fsync(fd) == 0 && rename(temp, l->path) == 0;
    if (!ok && fd >= 0) close(fd);
    if (!ok) return false;
    if (l->fd >= 0) close(l->fd);
    l->fd = fd;
    l->records = l->count;
    return true;
}

static void append(nigh_limits *l, const uint8_t who[16], double usd) {
    uint8_t record[RECORD_BYTES];
    if (l->fd < 0) return;
    make_record(l->day, who, usd, record);
    /* Half a record would hide those behind it, so the file is made anew then, and when it has grown. */
    bool whole = write(l->fd, record, sizeof record) == (ssize_t)sizeof record;
    if (!whole || ++l->records > RECORDS_GROWN + 4 * l->count) (void)write_file(l);
}

/* Another day: everybody begins at zero. A clock that is set back does not bring a day back. */
static void turn_day(nigh_limits *l, uint64_t now_ms) {
    uint64_t day = now_ms / DAY_MS;
    if (day <= l->day) return;
    l->day = day;
    memset(l->table, 0, l->size * sizeof *l->table);
    l->count = 0;
    l->rest = 0;
    (void)write_file(l);
}

/* ---- life ---- */

nigh_status nigh_limits_open(nigh_limits **out, const nigh_keys *keys, const char *path, nigh_err *err) {
    nigh_limits *l = nigh_alloc(sizeof *l, 1);
    if (!l) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for limits");
    pthread_mutex_init(&l->lock, NULL);
    l->fd = -1;
    l->size = TABLE_MIN;
    l->day = nigh_os_unix_ms() / DAY_MS;
    l->key_count = keys ? keys->count : 0;
    for (size_t i = 0; i < l->key_count; i++)
        name_of(NIGH_STR("key"), NIGH_STR(""), (nigh_str){ (const char *)keys->hash[i], 32 }, l->key_names[i]);
    l->table = nigh_alloc(sizeof *l->table, l->size);
    nigh_status status = l->table ? NIGH_OK : nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for limits");
    if (status == NIGH_OK && path && nigh_format(l->path, sizeof l->path, "%s", path) >= sizeof l->path)
        status = nigh_fail(err, NIGH_ERANGE, 0, "the path is too long");
    if (status == NIGH_OK && path) {
        nigh_private_folders(path);
        status = read_file(l, err);
        if (status == NIGH_OK && !write_file(l))
            status = nigh_fail(err, NIGH_EIO, 0, "the file of what was spent cannot be written");
    }
    if (status == NIGH_OK) *out = l;
    else nigh_limits_close(l);
    return status;
}

void nigh_limits_close(nigh_limits *l) {
    if (!l) return;
    if (l->fd >= 0) {
        (void)fsync(l->fd);
        close(l->fd);
    }
    pthread_mutex_destroy(&l->lock);
    nigh_free(l->table);
    nigh_free(l);
}

/* ---- rights ---- */

nigh_status nigh_rights_allow(const nigh_rights *r, nigh_str feature, nigh_err *err) {
    nigh_str list = nigh_str_of(r->features);
    if (!list.len) return NIGH_OK;
    for (size_t at = 0; at < list.len;) {
        size_t end = nigh_min(nigh_str_find(list, NIGH_STR(","), at), list.len);
        if (feature.len && nigh_str_eq(nigh_str_slice(list, at, end), feature)) return NIGH_OK;
        at = end + 1;
    }
    if (!feature.len)
        return nigh_fail(err, NIGH_EPOLICY, 0,
            "key.features: this key is for certain features; the request names none");
    return nigh_failf(err, NIGH_EPOLICY, 0, "key.features: this key may not ask the feature %.*s",
        (int)nigh_min(feature.len, 80), feature.ptr);
}

nigh_status nigh_rights_user(const nigh_rights *r, nigh_str named, char out[128], nigh_err *err) {
    bool own = !named.len || (!r->any_user && r->user[0] && nigh_str_eq(named, nigh_str_of(r->user)));
    if (!own && !r->any_user)
        return nigh_fail(err, NIGH_EPOLICY, 0, "key.user: this key may not ask for that user");
    nigh_str name = own ? nigh_str_of(r->user) : named;
    if (name.len >= 128) return nigh_fail(err, NIGH_EINVAL, 0, "the name of a user has at most 127 bytes");
    for (size_t i = 0; i < name.len; i++)
        if ((unsigned char)name.ptr[i] < 32 || name.ptr[i] == 127)
            return nigh_fail(err, NIGH_EINVAL, 0, "the name of a user holds a control character");
    if (name.len) memcpy(out, name.ptr, name.len);
    out[name.len] = '\0';
    return NIGH_OK;
}

/* ---- a minute ---- */

/* What has flowed in since it was looked at; a clock that was set back brings nothing. */
static void fill(bucket *b, const nigh_rights *r, uint64_t now_ms) {
    if (!b->begun) *b = (bucket){ .requests = r->rpm, .tokens = r->tpm, .at_ms = now_ms, .begun = true };
    double minutes = now_ms > b->at_ms ? (double)(now_ms - b->at_ms) / 60000 : 0;
    b->requests = fmin(r->rpm, b->requests + minutes * r->rpm);
    b->tokens = fmin(r->tpm, b->tokens + minutes * r->tpm);
    b->at_ms = now_ms;
}

static double wait_ms(double has, double wants, uint32_t a_minute) {
    return a_minute && has < wants ? (wants - has) / a_minute * 60000 : 0;
}

nigh_status nigh_limits_take(nigh_limits *l, const nigh_rights *r, uint32_t tokens, uint64_t now_ms,
    uint32_t *retry_ms, nigh_err *err) {
    *retry_ms = 0;
    if (r->key_idx >= l->key_count || (!r->rpm && !r->tpm)) return NIGH_OK;
    if (r->tpm && tokens > r->tpm)
        return nigh_failf(err, NIGH_ERANGE, 0, "key.tpm: the request may take %u tokens, the key has %u a minute",
            tokens, r->tpm);
    pthread_mutex_lock(&l->lock);
    bucket *b = &l->buckets[r->key_idx];
    fill(b, r, now_ms);
    double requests_ms = wait_ms(b->requests, 1, r->rpm), tokens_ms = wait_ms(b->tokens, tokens, r->tpm),
        ms = fmax(requests_ms, tokens_ms);
    if (ms <= 0) {
        if (r->rpm) b->requests -= 1;
        if (r->tpm) b->tokens -= tokens;
    }
    pthread_mutex_unlock(&l->lock);
    if (ms <= 0) return NIGH_OK;
    *retry_ms = (uint32_t)fmin(ceil(ms), 3600000);
    return nigh_fail(err, NIGH_EBUSY, 0, requests_ms >= tokens_ms
        ? "key.rpm: the key's requests of this minute are used up"
        : "key.tpm: the key's tokens of this minute are used up");
}

/* ---- a day ---- */

void nigh_limits_settle(nigh_limits *l, const nigh_rights *r, uint32_t taken, uint32_t used, double usd,
    nigh_str user, uint64_t now_ms) {
    uint8_t key[16], who[16];
    pthread_mutex_lock(&l->lock);
    if (r->key_idx < l->key_count && r->tpm) {
        bucket *b = &l->buckets[r->key_idx];
        fill(b, r, now_ms);
        b->tokens = fmin(r->tpm, b->tokens + taken - (double)used);
    }
    turn_day(l, now_ms);
    if (usd > 0 && usd <= 1e12) {
        key_name(l, r, key);
        user_name(r, user, who);
        add_sum(l, key, usd);
        append(l, key, usd);
        add_sum(l, who, usd);
        append(l, who, usd);
    }
    pthread_mutex_unlock(&l->lock);
}

static double spent(nigh_limits *l, const uint8_t who[16], uint64_t now_ms) {
    pthread_mutex_lock(&l->lock);
    turn_day(l, now_ms);
    double usd = get_sum(l, who);
    pthread_mutex_unlock(&l->lock);
    return usd;
}

double nigh_limits_spent(nigh_limits *l, const nigh_rights *r, nigh_str user, uint64_t now_ms) {
    uint8_t who[16];
    user_name(r, user, who);
    return spent(l, who, now_ms);
}

double nigh_limits_key_spent(nigh_limits *l, const nigh_rights *r, uint64_t now_ms) {
    uint8_t who[16];
    key_name(l, r, who);
    return spent(l, who, now_ms);
}

bool nigh_limits_over_budget(nigh_limits *l, const nigh_rights *r, uint64_t now_ms) {
    return r->usd_day >= 0 && nigh_limits_key_spent(l, r, now_ms) >= r->usd_day;
}
