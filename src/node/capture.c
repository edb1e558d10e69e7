/* capture.c - see capture.h.
 *
 *     NAME.capture = head, entry, entry, ...
 *     head         = {"format":"nigh-capture","version":1,"name":...,"feature":...,"tenant":...,"until_s":...,
 *                     "approved_by":[...],"readers":[...],"begun_s":...} and a line feed
 *     entry        = bytes of the sealed text (4, little endian), nonce (24 random bytes), sealed text
 *
 * Sealed with XChaCha20-Poly1305; what is bound to an entry beside its text is the head and the entry's number, so that
 * entries cannot be changed, left out in the middle, reordered, or moved to another capture. What is cut at the end
 * cannot be told from what was never there.
 *
 * The key lies in a file of its own, so that it can be destroyed alone: after that the entries say nothing, wherever
 * copies of them lie. A copy of the key would undo that; nothing here makes one but the memory of the running node,
 * which looks whether the file is still there each time before it seals. */
#define _GNU_SOURCE
#include "node/capture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sodium.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"
#include "node/private_file.h"

enum { KEY_BYTES = crypto_aead_xchacha20poly1305_ietf_KEYBYTES, NONCE_BYTES = 24, TAG_BYTES = 16 };
enum { HEAD_MAX = 16 << 10, PATH_BYTES = 4096, ENTRY_HEAD = 4 + NONCE_BYTES };

typedef struct {
    const nigh_capture_rule *rule;
    uint8_t key[KEY_BYTES];
    nigh_buf head;
    char path[PATH_BYTES], key_path[PATH_BYTES];
    uint64_t count, bytes;
    bool over;
} capture;

struct nigh_captures {
    pthread_mutex_t lock;
    char folder[PATH_BYTES];
    capture list[NIGH_CAPTURES_MAX];
    size_t count;
};

static bool is_name(nigh_str name) { return nigh_policy_is_file_name(name); }

/* FOLDER/NAME.END. */
static nigh_status path_of(char out[PATH_BYTES], const char *folder, nigh_str name, const char *end, nigh_err *err) {
    if (!is_name(name)) return nigh_fail(err, NIGH_EINVAL, 0, "this is no name of a capture");
    if (nigh_format(out, PATH_BYTES, "%s/%.*s.%s", folder, (int)name.len, name.ptr, end) < PATH_BYTES) return NIGH_OK;
    return nigh_fail(err, NIGH_ERANGE, 0, "the path of a capture is too long");
}

/* ---- heads ---- */

static nigh_status write_head(nigh_buf *b, const nigh_capture_rule *r, nigh_str feature, uint64_t now_s) {
    NIGH_TRY(nigh_buf_add(b, NIGH_STR("{\"format\":\"nigh-capture\",\"version\":1,\"name\":")));
    NIGH_TRY(nigh_json_add_string(b, r->name));
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"feature\":")));
    NIGH_TRY(nigh_json_add_string(b, feature));
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"tenant\":")));
    NIGH_TRY(nigh_json_add_string(b, r->tenant));
    NIGH_TRY(nigh_buf_addf(b, ",\"until_s\":%llu,\"approved_by\":", (unsigned long long)r->until_s));
    NIGH_TRY(nigh_json_add_value(b, r->approved_by));
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"readers\":")));
    NIGH_TRY(nigh_json_add_value(b, r->readers));
    return nigh_buf_addf(b, ",\"begun_s\":%llu}\n", (unsigned long long)now_s);
}

/* Splits a capture's bytes into head and entries, and reads the head. The caller releases doc. */
static nigh_status split(nigh_str all, nigh_str *head, nigh_str *entries, nigh_json_doc *doc, nigh_err *err) {
    size_t cut = nigh_str_find(nigh_str_slice(all, 0, HEAD_MAX), NIGH_STR("\n"), 0);
    if (cut == SIZE_MAX) return nigh_fail(err, NIGH_EDATA, 0, "a capture has no head");
    *head = nigh_str_slice(all, 0, cut + 1);
    *entries = nigh_str_slice(all, cut + 1, all.len);
    if (nigh_json_parse(doc, nigh_str_slice(all, 0, cut), NULL) != NIGH_OK)
        return nigh_fail(err, NIGH_EDATA, 0, "the head of a capture cannot be read");
    if (nigh_json_says(doc->root, "format", "nigh-capture") && nigh_json_count(doc->root, "version") == 1)
        return NIGH_OK;
    nigh_json_release(doc);
    return nigh_fail(err, NIGH_EDATA, 0, "this is not a capture, or one of a version that is not known here");
}

/* The next entry; false when none is whole. */
static bool next_entry(nigh_str *left, nigh_str *nonce, nigh_str *sealed) {
    nigh_reader r = nigh_reader_of(*left);
    uint64_t bytes = nigh_read_uint(&r, 4);
    *nonce = nigh_read_bytes(&r, NONCE_BYTES);
    *sealed = nigh_read_bytes(&r, bytes);
    if (r.bad || bytes < TAG_BYTES || bytes > NIGH_CAPTURE_ENTRY_MAX + TAG_BYTES) return false;
    *left = nigh_str_slice(*left, nigh_reader_pos(&r), left->len);
    return true;
}

/* What an entry is bound to: the head, and its number. */
static nigh_status add_bound(nigh_buf *b, nigh_str head, uint64_t n) {
    NIGH_TRY(nigh_buf_add(b, head));
    for (int i = 0; i < 8; i++) NIGH_TRY(nigh_buf_add_char(b, (char)(n >> (8 * i))));
    return NIGH_OK;
}

/* ---- the end ---- */

static nigh_status read_file(nigh_buf *out, const char *folder, nigh_str name, const char *end, nigh_err *err) {
    char path[PATH_BYTES];
    NIGH_TRY(path_of(path, folder, name, end, err));
    return nigh_private_read(out, path, err);
}

/* The head goes on, with what was there. */
static nigh_status write_ended(const char *folder, nigh_str name, nigh_str all, nigh_err *err) {
    char path[PATH_BYTES];
    nigh_str head, left, nonce, sealed;
    nigh_json_doc doc;
    nigh_buf b = NIGH_BUF(2 * HEAD_MAX);
    uint64_t count = 0;
    NIGH_TRY(path_of(path, folder, name, "ended", err));
    NIGH_TRY(split(all, &head, &left, &doc, err));
    while (next_entry(&left, &nonce, &sealed)) count++;
    nigh_status status = nigh_buf_add(&b, nigh_str_slice(head, 0, head.len - 2));
    if (status == NIGH_OK)
        status = nigh_buf_addf(&b, ",\"ended_s\":%llu,\"entries\":%llu}\n",
                               (unsigned long long)(nigh_os_unix_ms() / 1000), (unsigned long long)count);
    if (status == NIGH_OK) status = nigh_private_write(path, nigh_buf_str(&b), err);
    nigh_json_release(&doc);
    nigh_buf_release(&b);
    return status;
}

/* The key first: whatever fails after that, nobody reads the entries any more. */
nigh_status nigh_capture_end(const char *folder, nigh_str name, nigh_err *err) {
    char path[PATH_BYTES], key[PATH_BYTES];
    nigh_buf all = NIGH_BUF(NIGH_CAPTURE_BYTES_MAX + HEAD_MAX);
    NIGH_TRY(path_of(path, folder, name, "capture", err));
    NIGH_TRY(path_of(key, folder, name, "key", err));
    if (access(path, F_OK) != 0 && access(key, F_OK) != 0)
        return nigh_failf(err, NIGH_ENOENT, 0, "there is no capture '%.*s' that goes on", (int)name.len, name.ptr);
    nigh_status status = access(key, F_OK) == 0 ? nigh_private_destroy(key, err) : NIGH_OK;
    if (status != NIGH_OK) return status;
    if (access(path, F_OK) == 0) {
        status = read_file(&all, folder, name, "capture", err);
        if (status == NIGH_OK) status = write_ended(folder, name, nigh_buf_str(&all), err);
        if (status == NIGH_OK && unlink(path) != 0)
            status = nigh_failf(err, NIGH_EIO, 0, "%s: cannot be removed; its key is destroyed", path);
    }
    nigh_buf_release(&all);
    return status;
}

/* Calls fn with the name of every file in the folder that ends so. A folder that is not there has none. */
typedef nigh_status name_fn(void *ud, nigh_str name, nigh_err *err);
static nigh_status each_name(const char *folder, const char *end, name_fn *fn, void *ud, nigh_err *err) {
    DIR *d = opendir(folder);
    nigh_status status = NIGH_OK;
    if (!d && errno == ENOENT) return NIGH_OK;
    if (!d) return nigh_failf(err, NIGH_EIO, 0, "%s: cannot be opened: %s", folder, strerror(errno));
    for (struct dirent *e; status == NIGH_OK && (e = readdir(d));) {
        nigh_str name = nigh_str_of(e->d_name);
        if (!nigh_str_ends(name, nigh_str_of(end))) continue;
        name.len -= strlen(end);
        if (is_name(name)) status = fn(ud, name, err);
    }
    closedir(d);
    return status;
}

typedef struct { const char *folder; const nigh_policy *policy; bool by_policy; uint64_t now_s; nigh_buf *out; } sweep;

static const nigh_capture_rule *rule_of(const nigh_policy *p, nigh_str name) {
    for (size_t i = 0; p && i < p->capture_count; i++)
        if (nigh_str_eq(p->captures[i].name, name)) return &p->captures[i];
    return NULL;
}

/* Ends a capture whose time has come, or that the policy does not name any more. */
static nigh_status end_if_due(void *ud, nigh_str name, nigh_err *err) {
    const sweep *s = ud;
    nigh_buf all = NIGH_BUF(NIGH_CAPTURE_BYTES_MAX + HEAD_MAX);
    nigh_str head, left;
    nigh_json_doc doc;
    bool due = s->by_policy && !rule_of(s->policy, name);
    if (!due) {
        nigh_status status = read_file(&all, s->folder, name, "capture", err);
        if (status == NIGH_OK) status = split(nigh_buf_str(&all), &head, &left, &doc, err);
        if (status == NIGH_OK) {
            due = nigh_json_count(doc.root, "until_s") <= s->now_s;
            nigh_json_release(&doc);
        } else due = status == NIGH_ENOENT || status == NIGH_EDATA;     /* a key without a capture */
        nigh_buf_release(&all);
        if (!due && status != NIGH_OK) return status;
    }
    return due ? nigh_capture_end(s->folder, name, err) : NIGH_OK;
}

static nigh_status end_all_due(const char *folder, const nigh_policy *policy, bool by_policy, nigh_err *err) {
    sweep s = { .folder = folder, .policy = policy, .by_policy = by_policy, .now_s = nigh_os_unix_ms() / 1000 };
    return each_name(folder, ".key", end_if_due, &s, err);
}

/* ---- open ---- */

static nigh_status begin_files(capture *c, nigh_str feature, uint64_t now_s, nigh_err *err) {
    nigh_status status = write_head(&c->head, c->rule, feature, now_s);
    if (status != NIGH_OK) return nigh_fail(err, status, 0, "the head of a capture is too long");
    if (!nigh_os_random(c->key, sizeof c->key))
        return nigh_fail(err, NIGH_EIO, 0, "the system gives no random numbers");
    /* The capture first: a key without one would be swept away. */
    NIGH_TRY(nigh_private_write(c->path, nigh_buf_str(&c->head), err));
    return nigh_private_write(c->key_path, (nigh_str){ (const char *)c->key, sizeof c->key }, err);
}

static nigh_status go_on(capture *c, nigh_err *err) {
    nigh_buf key = NIGH_BUF(KEY_BYTES), all = NIGH_BUF(NIGH_CAPTURE_BYTES_MAX + HEAD_MAX);
    nigh_str head, left, nonce, sealed;
    nigh_json_doc doc;
    nigh_status status = nigh_private_read(&key, c->key_path, err);
    if (status == NIGH_OK && key.len != KEY_BYTES)
        status = nigh_failf(err, NIGH_EDATA, 0, "%s: is no key of a capture", c->key_path);
    if (status == NIGH_OK) memcpy(c->key, key.ptr, KEY_BYTES);
    if (status == NIGH_OK) status = nigh_private_read(&all, c->path, err);
    if (status == NIGH_OK) status = split(nigh_buf_str(&all), &head, &left, &doc, err);
    if (status == NIGH_OK) {
        status = nigh_buf_add(&c->head, head);
        while (next_entry(&left, &nonce, &sealed)) c->count++;
        c->bytes = all.len - left.len;
        /* Half an entry, from a crash, is cut off, so that what follows can be read. */
        if (left.len && truncate(c->path, (off_t)c->bytes) != 0)
            status = nigh_failf(err, NIGH_EIO, 0, "%s: %s", c->path, strerror(errno));
        nigh_json_release(&doc);
    }
    if (key.ptr) sodium_memzero(key.ptr, key.len);
    nigh_buf_release(&key);
    nigh_buf_release(&all);
    return status;
}

static nigh_status open_one(nigh_captures *all, const nigh_policy *p, const nigh_capture_rule *r, nigh_err *err) {
    char ended[PATH_BYTES];
    uint64_t now_s = nigh_os_unix_ms() / 1000;
    capture *c = &all->list[all->count];
    NIGH_TRY(path_of(ended, all->folder, r->name, "ended", err));
    if (r->until_s <= now_s || access(ended, F_OK) == 0) return NIGH_OK;
    *c = (capture){ .rule = r, .head = NIGH_BUF(HEAD_MAX) };
    all->count++;
    NIGH_TRY(path_of(c->path, all->folder, r->name, "capture", err));
    NIGH_TRY(path_of(c->key_path, all->folder, r->name, "key", err));
    if (access(c->key_path, F_OK) == 0) NIGH_TRY(go_on(c, err));
    else NIGH_TRY(begin_files(c, p->features[r->feature_idx].name, now_s, err));
    if (!c->bytes) c->bytes = c->head.len;
    return NIGH_OK;
}

nigh_status nigh_captures_open(nigh_captures **out, const nigh_policy *policy, const char *folder, nigh_err *err) {
    *out = NULL;
    if (sodium_init() < 0) return nigh_fail(err, NIGH_EIO, 0, "the cryptography cannot be set up");
    NIGH_TRY(end_all_due(folder, policy, true, err));
    if (!policy || !policy->capture_count) return NIGH_OK;
    nigh_captures *c = nigh_alloc(sizeof *c, 1);
    if (!c) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for captures");
    pthread_mutex_init(&c->lock, NULL);
    nigh_status status = nigh_format(c->folder, sizeof c->folder, "%s", folder) < sizeof c->folder
                             ? NIGH_OK : nigh_fail(err, NIGH_ERANGE, 0, "the path of the captures is too long");
    for (size_t i = 0; i < policy->capture_count && status == NIGH_OK; i++)
        status = open_one(c, policy, &policy->captures[i], err);
    if (status == NIGH_OK && c->count) *out = c;
    else nigh_captures_close(c);
    return status;
}

void nigh_captures_close(nigh_captures *c) {
    if (!c) return;
    for (size_t i = 0; i < c->count; i++) {
        sodium_memzero(c->list[i].key, KEY_BYTES);
        nigh_buf_release(&c->list[i].head);
    }
    pthread_mutex_destroy(&c->lock);
    nigh_free(c);
}

/* ---- add ---- */

static bool fits(const capture *c, uint32_t feature_idx, nigh_str tenant, uint64_t now_s) {
    return !c->over && c->rule->feature_idx == feature_idx && now_s < c->rule->until_s
           && nigh_str_eq(c->rule->tenant, tenant);
}

bool nigh_captures_want(nigh_captures *c, uint32_t feature_idx, nigh_str tenant, uint64_t now_s) {
    bool any = false;
    if (!c) return false;
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < c->count; i++) any |= fits(&c->list[i], feature_idx, tenant, now_s);
    pthread_mutex_unlock(&c->lock);
    return any;
}

static nigh_status write_plain(nigh_buf *b, const nigh_captured *w) {
    NIGH_TRY(nigh_buf_addf(b, "{\"at_s\":%llu,\"receipt\":", (unsigned long long)w->now_s));
    NIGH_TRY(nigh_json_add_string(b, w->receipt));
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"request\":")));
    NIGH_TRY(nigh_json_add_string(b, w->request));
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"answer\":")));
    NIGH_TRY(nigh_json_add_string(b, w->answer));
    return nigh_buf_add_char(b, '}');
}

static nigh_status seal(const capture *c, nigh_str plain, nigh_buf *entry) {
    nigh_buf bound = NIGH_BUF(HEAD_MAX + 8);
    size_t sealed = plain.len + TAG_BYTES;
    nigh_status status = add_bound(&bound, nigh_buf_str(&c->head), c->count);
    if (status == NIGH_OK) status = nigh_buf_reserve(entry, ENTRY_HEAD + sealed);
    if (status == NIGH_OK) {
        uint8_t *to = (uint8_t *)entry->ptr;
        for (int i = 0; i < 4; i++) to[i] = (uint8_t)(sealed >> (8 * i));
        randombytes_buf(to + 4, NONCE_BYTES);
        crypto_aead_xchacha20poly1305_ietf_encrypt(to + ENTRY_HEAD, NULL, (const uint8_t *)plain.ptr, plain.len,
                                                   (const uint8_t *)bound.ptr, bound.len, NULL, to + 4, c->key);
        entry->len = ENTRY_HEAD + sealed;
    }
    nigh_buf_release(&bound);
    return status;
}

static void forget(capture *c) {
    c->over = true;
    sodium_memzero(c->key, KEY_BYTES);
}

/* A write that fails half way is cut off again. */
static nigh_status append(capture *c, nigh_str entry, nigh_err *err) {
    int fd;
    if (c->bytes + entry.len > NIGH_CAPTURE_BYTES_MAX)
        return nigh_fail(err, NIGH_ERANGE, 0, "the capture is as large as it may get");
    NIGH_TRY(nigh_private_open(c->path, O_WRONLY | O_APPEND, &fd, err));
    ssize_t n = write(fd, entry.ptr, entry.len);
    bool ok = n == (ssize_t)entry.len && fdatasync(fd) == 0;
    if (!ok) (void)!ftruncate(fd, (off_t)c->bytes);
    close(fd);
    if (!ok) return nigh_failf(err, NIGH_EIO, 0, "%s: cannot be written", c->path);
    c->bytes += entry.len;
    c->count++;
    return NIGH_OK;
}

nigh_status nigh_captures_add(nigh_captures *c, const nigh_captured *what, nigh_err *err) {
    nigh_buf plain = NIGH_BUF(NIGH_CAPTURE_ENTRY_MAX), entry = NIGH_BUF(NIGH_CAPTURE_ENTRY_MAX + 1024);
    if (!nigh_captures_want(c, what->feature_idx, what->tenant, what->now_s)) return NIGH_OK;
    nigh_status status = write_plain(&plain, what);
    if (status != NIGH_OK) nigh_fail(err, status, 0, "what was to be captured is too long");
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < c->count && status == NIGH_OK; i++) {
        capture *one = &c->list[i];
        if (!fits(one, what->feature_idx, what->tenant, what->now_s)) continue;
        if (access(one->key_path, F_OK) != 0) { forget(one); continue; }
        entry.len = 0;
        status = seal(one, nigh_buf_str(&plain), &entry);
        if (status == NIGH_OK) status = append(one, nigh_buf_str(&entry), err);
        else nigh_fail(err, status, 0, "not enough memory to capture");
    }
    pthread_mutex_unlock(&c->lock);
    if (plain.ptr) sodium_memzero(plain.ptr, plain.len);
    nigh_buf_release(&plain);
    nigh_buf_release(&entry);
    return status;
}

void nigh_captures_tidy(nigh_captures *c, uint64_t now_s) {
    if (!c) return;
    pthread_mutex_lock(&c->lock);
    for (size_t i = 0; i < c->count; i++) {
        if (c->list[i].over || c->list[i].rule->until_s > now_s) continue;
        forget(&c->list[i]);
        (void)!nigh_capture_end(c->folder, c->list[i].rule->name, NULL);    /* tried again by the next who opens */
    }
    pthread_mutex_unlock(&c->lock);
}

/* ---- for people ---- */

static nigh_status open_entry(nigh_str head, uint64_t n, const uint8_t *key, nigh_str nonce, nigh_str sealed,
                              nigh_buf *out, nigh_err *err) {
    nigh_buf bound = NIGH_BUF(HEAD_MAX + 8);
    nigh_status status = add_bound(&bound, head, n);
    if (status == NIGH_OK) status = nigh_buf_reserve(out, sealed.len + 1);
    if (status == NIGH_OK
        && crypto_aead_xchacha20poly1305_ietf_decrypt((uint8_t *)out->ptr + out->len, NULL, NULL,
               (const uint8_t *)sealed.ptr, sealed.len, (const uint8_t *)bound.ptr, bound.len,
               (const uint8_t *)nonce.ptr, key) != 0)
        status = nigh_failf(err, NIGH_EDATA, n, "entry %llu of the capture was changed, or does not stand in its place",
                            (unsigned long long)n + 1);
    nigh_buf_release(&bound);
    if (status != NIGH_OK) return status;
    out->len += sealed.len - TAG_BYTES;
    return nigh_buf_add_char(out, '\n');
}

static nigh_status read_entries(nigh_str head, nigh_str left, nigh_str key, nigh_buf *out, nigh_err *err) {
    nigh_str nonce, sealed;
    uint64_t n = 0;
    if (key.len != KEY_BYTES) return nigh_fail(err, NIGH_EDATA, 0, "the key of the capture is none");
    for (; left.len; n++) {
        if (!next_entry(&left, &nonce, &sealed))
            return nigh_failf(err, NIGH_EDATA, n, "entry %llu of the capture is not whole", (unsigned long long)n + 1);
        NIGH_TRY(open_entry(head, n, (const uint8_t *)key.ptr, nonce, sealed, out, err));
    }
    return NIGH_OK;
}

static nigh_status note_reading(const char *folder, nigh_str name, nigh_str reader, nigh_err *err) {
    char path[PATH_BYTES];
    nigh_buf line = NIGH_BUF(4096);
    int fd;
    NIGH_TRY(path_of(path, folder, name, "reads", err));
    NIGH_TRY(nigh_private_open(path, O_WRONLY | O_APPEND | O_CREAT, &fd, err));
    nigh_status status = nigh_buf_addf(&line, "{\"at_s\":%llu,\"as\":",
                                       (unsigned long long)(nigh_os_unix_ms() / 1000));
    if (status == NIGH_OK) status = nigh_json_add_string(&line, reader);
    if (status == NIGH_OK) status = nigh_buf_add(&line, NIGH_STR("}\n"));
    bool ok = status == NIGH_OK && write(fd, line.ptr, line.len) == (ssize_t)line.len && fsync(fd) == 0;
    close(fd);
    nigh_buf_release(&line);
    return ok ? NIGH_OK : nigh_fail(err, NIGH_EIO, 0, "the reading cannot be noted, so nothing is shown");
}

static nigh_status check_reader(const nigh_json *head, nigh_str reader, nigh_err *err) {
    for (const nigh_json *v = nigh_json_first(nigh_json_get(head, NIGH_STR("readers"))); v; v = v->next)
        if (v->type == NIGH_JSON_STRING && nigh_str_eq(v->text, reader)) return NIGH_OK;
    return nigh_failf(err, NIGH_EAUTH, 0, "'%.*s' is not one of those whom the policy lets read this capture",
                      (int)nigh_min(reader.len, 64), reader.ptr);
}

nigh_status nigh_capture_read(const char *folder, nigh_str name, nigh_str reader, nigh_buf *out, nigh_err *err) {
    char ended[PATH_BYTES];
    nigh_buf all = NIGH_BUF(NIGH_CAPTURE_BYTES_MAX + HEAD_MAX), key = NIGH_BUF(KEY_BYTES);
    nigh_str head, left;
    nigh_json_doc doc;
    NIGH_TRY(end_all_due(folder, NULL, false, err));
    NIGH_TRY(path_of(ended, folder, name, "ended", err));
    if (access(ended, F_OK) == 0)
        return nigh_failf(err, NIGH_EPOLICY, 0, "the capture '%.*s' has ended; its key was destroyed", (int)name.len,
                          name.ptr);
    nigh_status status = read_file(&key, folder, name, "key", err);
    if (status == NIGH_OK) status = read_file(&all, folder, name, "capture", err);
    if (status == NIGH_OK) status = split(nigh_buf_str(&all), &head, &left, &doc, err);
    if (status == NIGH_OK) {
        status = check_reader(doc.root, reader, err);
        if (status == NIGH_OK) status = note_reading(folder, name, reader, err);
        if (status == NIGH_OK) status = read_entries(head, left, nigh_buf_str(&key), out, err);
        nigh_json_release(&doc);
    }
    if (key.ptr) sodium_memzero(key.ptr, key.len);
    nigh_buf_release(&key);
    nigh_buf_release(&all);
    return status;
}

static size_t count_reads(const char *folder, nigh_str name) {
    nigh_buf b = NIGH_BUF(16 << 20);
    size_t n = 0;
    if (read_file(&b, folder, name, "reads", NULL) == NIGH_OK)
        for (size_t i = 0; i < b.len; i++) n += b.ptr[i] == '\n';
    nigh_buf_release(&b);
    return n;
}

static nigh_status list_going(void *ud, nigh_str name, nigh_err *err) {
    sweep *s = ud;
    nigh_buf all = NIGH_BUF(NIGH_CAPTURE_BYTES_MAX + HEAD_MAX);
    nigh_str head, left, nonce, sealed;
    nigh_json_doc doc;
    uint64_t count = 0;
    nigh_status status = read_file(&all, s->folder, name, "capture", err);
    if (status == NIGH_OK) status = split(nigh_buf_str(&all), &head, &left, &doc, err);
    if (status == NIGH_OK) {
        while (next_entry(&left, &nonce, &sealed)) count++;
        if (s->out->ptr[s->out->len - 1] != '[') status = nigh_buf_add_char(s->out, ',');
        if (status == NIGH_OK) status = nigh_buf_add(s->out, nigh_str_slice(head, 0, head.len - 2));
        if (status == NIGH_OK)
            status = nigh_buf_addf(s->out, ",\"ended\":false,\"entries\":%llu,\"bytes\":%zu,\"reads\":%zu}",
                                   (unsigned long long)count, all.len, count_reads(s->folder, name));
        nigh_json_release(&doc);
    }
    nigh_buf_release(&all);
    return status;
}

static nigh_status list_ended(void *ud, nigh_str name, nigh_err *err) {
    sweep *s = ud;
    nigh_buf all = NIGH_BUF(2 * HEAD_MAX);
    nigh_status status = read_file(&all, s->folder, name, "ended", err);
    if (status == NIGH_OK && s->out->ptr[s->out->len - 1] != '[') status = nigh_buf_add_char(s->out, ',');
    if (status == NIGH_OK && all.len > 2)
        status = nigh_buf_add(s->out, nigh_str_slice(nigh_buf_str(&all), 0, all.len - 2));
    if (status == NIGH_OK)
        status = nigh_buf_addf(s->out, ",\"ended\":true,\"reads\":%zu}", count_reads(s->folder, name));
    nigh_buf_release(&all);
    return status;
}

nigh_status nigh_capture_list(const char *folder, nigh_buf *out, nigh_err *err) {
    sweep s = { .folder = folder, .out = out };
    NIGH_TRY(end_all_due(folder, NULL, false, err));
    NIGH_TRY(nigh_buf_add(out, NIGH_STR("{\"captures\":[")));
    NIGH_TRY(each_name(folder, ".capture", list_going, &s, err));
    NIGH_TRY(each_name(folder, ".ended", list_ended, &s, err));
    return nigh_buf_add(out, NIGH_STR("]}"));
}
