/* answers.c - answers that are kept in memory, and requests that wait for an equal one.
 *
 *     table:   hash -> entry, chained; its size never changes
 *     owners:  one for each tenant that holds something: its bytes, and its entries from the one used last to the one
 *              unused for longest
 *
 * An entry is one block of memory: this struct, the text, the tool calls. It is overwritten before it is given back.
 * Room is made at the tenant that holds most: a crowd of requests of one tenant pushes out its own answers, and those
 * of another only down to an equal share. One lock guards all of it; expiry gives it back between small steps, so
 * that a hit never waits long. Keys are SHA-256 over parts with their lengths in front: no two different lists of
 * parts are the same bytes. */
#define _GNU_SOURCE
#include "node/answers.h"

#include <pthread.h>
#include <sodium.h>

#include "base/sha256.h"

enum { FOLLOWERS_MAX = 1024, EXPIRE_STEP = 256, BUCKETS_MIN = 64, BUCKETS_MAX = 1 << 18, FLIGHT_BUCKETS = 256 };

typedef struct entry entry;
typedef struct owner owner;
typedef struct flight flight;
typedef struct follower follower;

struct entry {
    entry *next;                    /* in its bucket */
    entry *newer, *older;           /* of its owner, in the order of use */
    owner *of;
    nigh_answer_key key;
    nigh_kept_answer answer;
    uint64_t until_ms;
    size_t bytes;                   /* of this block */
};

struct owner {
    owner *next;
    uint8_t id[16];
    size_t bytes;
    entry *newest, *oldest;
};

struct follower { follower *next; void (*wake)(void *ud, bool ok); void *ud; };
struct flight { flight *next; nigh_answer_key key; follower *followers, **end; size_t count; };

struct nigh_answers {
    pthread_mutex_t lock;
    entry **buckets;
    size_t bucket_count;            /* a power of two */
    size_t bytes_max, bytes;
    owner *owners;
    flight *flights[FLIGHT_BUCKETS];
    nigh_answers_counts counts;
};

/* ---- keys ---- */

static void add_number(nigh_sha256 *s, uint64_t n) {
    uint8_t bytes[8];
    for (size_t i = 0; i < 8; i++) bytes[i] = (uint8_t)(n >> (8 * i));
    nigh_sha256_add(s, (nigh_str){ (const char *)bytes, 8 });
}

static void add_part(nigh_sha256 *s, nigh_str part) {
    add_number(s, part.len);
    nigh_sha256_add(s, part);
}

/* Of a tenant, or of a user of it. */
static void name_of(nigh_str kind, nigh_str tenant, nigh_str user, uint8_t out[16]) {
    uint8_t digest[32];
    nigh_sha256 s;
    nigh_sha256_init(&s);
    add_part(&s, kind);
    add_part(&s, tenant);
    add_part(&s, user);
    nigh_sha256_end(&s, digest);
    memcpy(out, digest, 16);
}

nigh_answer_key nigh_answers_key(const nigh_answer_parts *p) {
    nigh_answer_key k = { .usable = p->scope == NIGH_CACHE_TENANT || (p->scope == NIGH_CACHE_USER && p->user.len) };
    nigh_sha256 s;
    nigh_sha256_init(&s);
    add_part(&s, NIGH_STR("nigh answer 1"));
    add_number(&s, (uint64_t)p->scope);
    add_part(&s, p->tenant);
    add_part(&s, p->scope == NIGH_CACHE_USER ? p->user : NIGH_STR(""));
    add_part(&s, p->feature);
    add_part(&s, p->model_sha256);
    add_number(&s, p->policy_version);
    add_part(&s, p->request);
    nigh_sha256_end(&s, k.hash);
    name_of(NIGH_STR("tenant"), p->tenant, NIGH_STR(""), k.owner);
    name_of(NIGH_STR("user"), p->tenant, p->user, k.maker);
    return k;
}

static size_t bucket_of(const nigh_answer_key *k, size_t count) {
    size_t n = 0;
    for (size_t i = 0; i < 4; i++) n = n << 8 | k->hash[i];
    return n & (count - 1);
}

static bool is_same(const nigh_answer_key *a, const nigh_answer_key *b) {
    return memcmp(a->hash, b->hash, sizeof a->hash) == 0;
}

/* ---- entries, under the lock ---- */

static owner *find_owner(const nigh_answers *a, const uint8_t id[16]) {
    owner *o = a->owners;
    while (o && memcmp(o->id, id, sizeof o->id) != 0) o = o->next;
    return o;
}

static void unlink_use(entry *e) {
    owner *o = e->of;
    *(e->newer ? &e->newer->older : &o->newest) = e->older;
    *(e->older ? &e->older->newer : &o->oldest) = e->newer;
}

static void link_use(entry *e) {
    owner *o = e->of;
    e->newer = NULL;
    e->older = o->newest;
    *(o->newest ? &o->newest->newer : &o->oldest) = e;
    o->newest = e;
}

static void drop_owner(nigh_answers *a, owner *o) {
    owner **at = &a->owners;
    while (*at != o) at = &(*at)->next;
    *at = o->next;
    nigh_free(o);
}

static void drop(nigh_answers *a, entry *e) {
    entry **at = &a->buckets[bucket_of(&e->key, a->bucket_count)];
    while (*at != e) at = &(*at)->next;
    *at = e->next;
    unlink_use(e);
    a->bytes -= e->bytes;
    e->of->bytes -= e->bytes;
    a->counts.entries--;
    if (!e->of->newest) drop_owner(a, e->of);
    sodium_memzero(e, e->bytes);
    nigh_free(e);
}

static entry *find(const nigh_answers *a, const nigh_answer_key *k) {
    entry *e = a->buckets[bucket_of(k, a->bucket_count)];
    while (e && !is_same(&e->key, k)) e = e->next;
    return e;
}

static bool is_over(const entry *e, uint64_t now_ms) {
    return now_ms >= e->until_ms || now_ms + NIGH_ANSWERS_CLOCK_SLACK_MS < e->answer.made_ms;
}

/* The tenant that holds most, among equals the one that wants more. */
static owner *largest(const nigh_answers *a, const owner *asks) {
    owner *most = a->owners;
    for (owner *o = a->owners; o; o = o->next)
        if (o->bytes > most->bytes || (o->bytes == most->bytes && o == asks)) most = o;
    return most;
}

/* ---- the cache ---- */

nigh_status nigh_answers_open(nigh_answers **out, size_t bytes_max, nigh_err *err) {
    nigh_answers *a = sodium_init() < 0 ? NULL : nigh_alloc(sizeof *a, 1);
    if (!a) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the cache of answers");
    a->bucket_count = BUCKETS_MIN;
    while (a->bucket_count < BUCKETS_MAX && a->bucket_count < bytes_max / 1024) a->bucket_count *= 2;
    a->buckets = nigh_alloc(sizeof *a->buckets, a->bucket_count);
    if (!a->buckets) {
        nigh_free(a);
        return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the cache of answers");
    }
    a->bytes_max = bytes_max;
    pthread_mutex_init(&a->lock, NULL);
    *out = a;
    return NIGH_OK;
}

void nigh_answers_close(nigh_answers *a) {
    if (!a) return;
    while (a->owners) drop(a, a->owners->newest);
    for (size_t i = 0; i < FLIGHT_BUCKETS; i++) assert(!a->flights[i]);
    pthread_mutex_destroy(&a->lock);
    nigh_free(a->buckets);
    nigh_free(a);
}

/* The strings of the answer go to the end of hold, in one piece, so that they stay where they are. */
static bool copy_out(const nigh_kept_answer *v, nigh_kept_answer *out, nigh_buf *hold) {
    size_t at = hold->len;
    if (nigh_buf_reserve(hold, v->text.len + v->tool_calls.len + 1) != NIGH_OK) return false;
    if (nigh_buf_add(hold, v->text) != NIGH_OK || nigh_buf_add(hold, v->tool_calls) != NIGH_OK) return false;
    *out = *v;
    out->text.ptr = hold->ptr + at;
    out->tool_calls.ptr = hold->ptr + at + v->text.len;
    return true;
}

bool nigh_answers_get(nigh_answers *a, const nigh_answer_key *k, uint32_t age_max_s, uint64_t now_ms,
    nigh_kept_answer *out, nigh_buf *hold) {
    bool hit = false;
    pthread_mutex_lock(&a->lock);
    entry *e = k->usable ? find(a, k) : NULL;
    if (e && is_over(e, now_ms)) {
        drop(a, e);
        e = NULL;
    }
    uint64_t age_ms = e && now_ms > e->answer.made_ms ? now_ms - e->answer.made_ms : 0;
    if (e && (age_max_s == UINT32_MAX || age_ms <= (uint64_t)age_max_s * 1000)) hit = copy_out(&e->answer, out, hold);
    if (hit) {
        unlink_use(e);
        link_use(e);
    }
    if (hit) a->counts.hits++;
    else a->counts.misses++;
    pthread_mutex_unlock(&a->lock);
    return hit;
}

static entry *new_entry(const nigh_answer_key *k, const nigh_kept_answer *v, uint64_t until_ms, size_t bytes) {
    entry *e = nigh_alloc(bytes, 1);
    if (!e) return NULL;
    *e = (entry){ .key = *k, .answer = *v, .until_ms = until_ms, .bytes = bytes };
    char *text = (char *)(e + 1), *calls = text + v->text.len;
    if (v->text.len) memcpy(text, v->text.ptr, v->text.len);
    if (v->tool_calls.len) memcpy(calls, v->tool_calls.ptr, v->tool_calls.len);
    e->answer.text.ptr = text;
    e->answer.tool_calls.ptr = calls;
    return e;
}

/* Puts the entry in; false when its owner cannot be had. */
static bool insert(nigh_answers *a, entry *e) {
    owner *o = find_owner(a, e->key.owner);
    if (!o) {
        o = nigh_alloc(sizeof *o, 1);
        if (!o) return false;
        memcpy(o->id, e->key.owner, sizeof o->id);
        o->next = a->owners;
        a->owners = o;
    }
    entry **bucket = &a->buckets[bucket_of(&e->key, a->bucket_count)];
    e->of = o;
    e->next = *bucket;
    *bucket = e;
    link_use(e);
    o->bytes += e->bytes;
    a->bytes += e->bytes;
    a->counts.entries++;
    return true;
}

void nigh_answers_put(nigh_answers *a, const nigh_answer_key *k, const nigh_kept_answer *v, uint32_t keep_s) {
    size_t bytes;
    if (!k->usable || !keep_s || !nigh_add(v->text.len, v->tool_calls.len, &bytes)
        || !nigh_add(bytes, sizeof(entry), &bytes) || bytes > a->bytes_max / 8) return;
    entry *e = new_entry(k, v, v->made_ms + (uint64_t)keep_s * 1000, bytes);
    pthread_mutex_lock(&a->lock);
    entry *before = find(a, k);
    if (before) drop(a, before);
    bool in = e && insert(a, e);
    while (in && a->bytes > a->bytes_max) drop(a, largest(a, e->of)->oldest);
    pthread_mutex_unlock(&a->lock);
    if (in || !e) return;
    sodium_memzero(e, e->bytes);
    nigh_free(e);
}

void nigh_answers_expire(nigh_answers *a, uint64_t now_ms) {
    for (size_t at = 0; at < a->bucket_count; at += EXPIRE_STEP) {
        pthread_mutex_lock(&a->lock);
        for (size_t i = at; i < nigh_min(at + EXPIRE_STEP, a->bucket_count); i++)
            for (entry *e = a->buckets[i], *next; e; e = next) {
                next = e->next;
                if (is_over(e, now_ms)) drop(a, e);
            }
        pthread_mutex_unlock(&a->lock);
    }
}

size_t nigh_answers_forget(nigh_answers *a, nigh_str tenant, nigh_str user) {
    uint8_t id[16], maker[16];
    size_t n = 0;
    name_of(NIGH_STR("tenant"), tenant, NIGH_STR(""), id);
    name_of(NIGH_STR("user"), tenant, user, maker);
    pthread_mutex_lock(&a->lock);
    owner *o = find_owner(a, id);
    for (entry *e = o ? o->newest : NULL, *older; e; e = older) {
        older = e->older;
        if (user.len && memcmp(e->key.maker, maker, sizeof maker) != 0) continue;
        drop(a, e);
        n++;
    }
    pthread_mutex_unlock(&a->lock);
    return n;
}

nigh_answers_counts nigh_answers_count(nigh_answers *a) {
    pthread_mutex_lock(&a->lock);
    nigh_answers_counts c = a->counts;
    c.bytes = a->bytes;
    pthread_mutex_unlock(&a->lock);
    return c;
}

/* ---- single flight ---- */

static flight **find_flight(nigh_answers *a, const nigh_answer_key *k) {
    flight **at = &a->flights[bucket_of(k, FLIGHT_BUCKETS)];
    while (*at && !is_same(&(*at)->key, k)) at = &(*at)->next;
    return at;
}

nigh_flight nigh_answers_board(nigh_answers *a, const nigh_answer_key *k, void (*wake)(void *ud, bool ok), void *ud) {
    nigh_flight role = NIGH_FLIGHT_ALONE;
    if (!k->usable) return role;
    pthread_mutex_lock(&a->lock);
    flight **at = find_flight(a, k), *f = *at;
    if (!f) {
        f = *at = nigh_alloc(sizeof *f, 1);
        if (f) {
            f->key = *k;
            f->end = &f->followers;
            role = NIGH_FLIGHT_LEADER;
        }
    } else if (f->count < FOLLOWERS_MAX) {
        follower *w = nigh_alloc(sizeof *w, 1);
        if (w) {
            *w = (follower){ .wake = wake, .ud = ud };
            *f->end = w;
            f->end = &w->next;
            f->count++;
            a->counts.joined++;
            role = NIGH_FLIGHT_FOLLOWER;
        }
    }
    pthread_mutex_unlock(&a->lock);
    return role;
}

void nigh_answers_land(nigh_answers *a, const nigh_answer_key *k, bool ok) {
    follower *w = NULL;
    if (!k->usable) return;
    pthread_mutex_lock(&a->lock);
    flight **at = find_flight(a, k), *f = *at;
    if (f) {
        w = f->followers;
        *at = f->next;
    }
    pthread_mutex_unlock(&a->lock);
    nigh_free(f);
    for (follower *next; w; w = next) {
        next = w->next;
        w->wake(w->ud, ok);
        nigh_free(w);
    }
}
