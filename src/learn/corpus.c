/* corpus.c - see corpus.h.
 * The memory of what has been seen is one open table of 64-bit hashes of word runs ("shingles"); a collision
 * would need two of a few million runs to agree in 64 bits. A document is copied, without the paragraphs that
 * go, into a block of its own. */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/os.h"
#include "base/utf8.h"
#include "learn/corpus.h"

enum { SHINGLE = 5, SHARED = 13, LINE_WORDS = 8, DEPTH_MAX = 16, NAMES_MAX = 1 << 26 };
#define CORPUS_MAX ((size_t)1 << 30)

bool nigh_grow(void *array, size_t *cap, size_t need, size_t item_bytes) {
    void *old;
    if (need <= *cap) return true;
    memcpy(&old, array, sizeof old);
    size_t want = nigh_max(need, *cap + *cap / 2 + 16);
    void *grown = nigh_alloc(want, item_bytes);
    if (!grown) return false;
    if (old) memcpy(grown, old, *cap * item_bytes);
    nigh_free(old);
    memcpy(array, &grown, sizeof grown);
    *cap = want;
    return true;
}

void nigh_corpus_release(nigh_corpus *c) {
    for (size_t i = 0; i < c->block_count; i++) nigh_free(c->blocks[i]);
    nigh_free(c->blocks);
    nigh_free(c->docs);
    *c = (nigh_corpus){ 0 };
}

/* ---- reading ---- */
static bool add_doc(nigh_corpus *c, nigh_str text) {
    text = nigh_str_trim(text);
    if (text.len == 0) return true;
    if (!nigh_grow(&c->docs, &c->doc_cap, c->doc_count + 1, sizeof *c->docs)) return false;
    c->docs[c->doc_count++] = (nigh_doc){ .text = text, .source = (uint32_t)c->source_count - 1 };
    return true;
}

static nigh_status add_file(nigh_corpus *c, const char *path, nigh_err *err) {
    nigh_buf text = NIGH_BUF(CORPUS_MAX - c->bytes_read);
    nigh_status status = nigh_file_read(&text, path, err);
    if (status != NIGH_OK) { nigh_buf_release(&text); return status; }
    size_t bad = nigh_utf8_check(nigh_buf_str(&text));
    if (bad != SIZE_MAX) {
        nigh_buf_release(&text);
        return nigh_failf(err, NIGH_EDATA, bad, "%s is no UTF-8 text at byte %zu", path, bad);
    }
    if (!nigh_grow(&c->blocks, &c->block_cap, c->block_count + 1, sizeof *c->blocks)) {
        nigh_buf_release(&text);
        return NIGH_ENOMEM;
    }
    if (text.ptr) c->blocks[c->block_count++] = text.ptr;
    c->bytes_read += text.len;
    c->files++;
    for (size_t at = 0; at < text.len;) {
        size_t end = nigh_min(nigh_str_find(nigh_buf_str(&text), NIGH_STR("\f"), at), text.len);
        if (!add_doc(c, nigh_str_slice(nigh_buf_str(&text), at, end))) return NIGH_ENOMEM;
        at = end + 1;
    }
    return NIGH_OK;
}

static bool is_text(const char *name) {
    nigh_str s = nigh_str_of(name);
    return nigh_str_ends(s, NIGH_STR(".txt")) || nigh_str_ends(s, NIGH_STR(".md"));
}
static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* Names of a folder in order, without hidden ones; text owns them, names points into it. */
static nigh_status list_folder(const char *path, nigh_buf *text, char ***names, size_t *count, nigh_err *err) {
    nigh_status status = NIGH_OK;
    DIR *dir = opendir(path);
    if (!dir) return nigh_failf(err, NIGH_EIO, 0, "the folder %s cannot be read", path);
    *count = 0;
    for (struct dirent *e; status == NIGH_OK && (e = readdir(dir)) != NULL;) {
        if (e->d_name[0] == '.') continue;
        status = nigh_buf_add(text, (nigh_str){ e->d_name, strlen(e->d_name) + 1 });
        ++*count;
    }
    closedir(dir);
    if (status == NIGH_OK && !(*names = nigh_alloc(*count + 1, sizeof **names))) status = NIGH_ENOMEM;
    if (status != NIGH_OK) return nigh_failf(err, status, 0, "the folder %s has too many files", path);
    char *at = text->ptr;
    for (size_t i = 0; i < *count; i++, at += strlen(at) + 1) (*names)[i] = at;
    qsort(*names, *count, sizeof **names, by_name);
    return NIGH_OK;
}

/* Depth is bounded, so a folder that contains itself ends in an error, not in a crash. */
static nigh_status add_path(nigh_corpus *c, const char *path, unsigned depth, nigh_err *err) {
    struct stat st;
    char inner[4096], **names = NULL;
    nigh_buf text = NIGH_BUF(NAMES_MAX);
    size_t count = 0;
    if (depth > DEPTH_MAX)
        return nigh_failf(err, NIGH_ERANGE, 0, "%s: folders are nested more than %d deep", path, DEPTH_MAX);
    if (stat(path, &st) != 0) return nigh_failf(err, NIGH_ENOENT, 0, "%s: no such file or folder", path);
    if (!S_ISDIR(st.st_mode)) return add_file(c, path, err);
    nigh_status status = list_folder(path, &text, &names, &count, err);
    for (size_t i = 0; i < count && status == NIGH_OK; i++) {
        if (nigh_format(inner, sizeof inner, "%s/%s", path, names[i]) >= sizeof inner)
            status = nigh_failf(err, NIGH_ERANGE, 0, "a path in %s is too long", path);
        else if (stat(inner, &st) == 0 && (S_ISDIR(st.st_mode) || is_text(inner)))
            status = add_path(c, inner, depth + 1, err);
    }
    nigh_free(names);
    nigh_buf_release(&text);
    return status;
}

nigh_status nigh_corpus_add(nigh_corpus *c, char *path, nigh_err *err) {
    nigh_source source = { path, 1, 1 };
    char *at = strrchr(path, '@');
    if (c->source_count == NIGH_CORPUS_SOURCES)
        return nigh_failf(err, NIGH_ERANGE, 0, "more than %d paths", NIGH_CORPUS_SOURCES);
    if (at) {
        nigh_str weights = nigh_str_of(at + 1);
        size_t comma = nigh_min(nigh_str_find(weights, NIGH_STR(","), 0), weights.len);
        bool ok = nigh_str_to_f64(nigh_str_slice(weights, 0, comma), &source.weight);
        source.late_weight = source.weight;
        if (ok && comma < weights.len)
            ok = nigh_str_to_f64(nigh_str_slice(weights, comma + 1, weights.len), &source.late_weight);
        if (!ok || !(source.weight >= 0 && source.weight <= 1000 && source.late_weight >= 0
            && source.late_weight <= 1000))
            return nigh_failf(err, NIGH_EINVAL, 0,
                "%s: what follows @ must be one or two weights in 0..1000, as in stories@2,6", path);
        *at = '\0';
    }
    c->sources[c->source_count++] = source;
    size_t before = c->doc_count;
    NIGH_TRY(add_path(c, path, 0, err));
    if (c->doc_count == before) return nigh_failf(err, NIGH_ENOENT, 0, "%s holds no text (.txt or .md)", path);
    return NIGH_OK;
}

/* ---- words and what has been seen ---- */
typedef struct { uint64_t *slots; size_t mask, count; } seen_set;

static bool seen_init(seen_set *s, size_t items) {
    size_t slots = 1024;
    while (slots < items * 2) slots *= 2;
    *s = (seen_set){ nigh_alloc(slots, sizeof *s->slots), slots - 1, 0 };
    return s->slots != NULL;
}
static uint64_t *seen_slot(const seen_set *s, uint64_t hash) {
    size_t i = (size_t)(hash ^ hash >> 29) & s->mask;
    while (s->slots[i] != 0 && s->slots[i] != hash) i = (i + 1) & s->mask;
    return &s->slots[i];
}
static bool seen_has(const seen_set *s, uint64_t hash) { return *seen_slot(s, hash) == hash; }
static void seen_add(seen_set *s, uint64_t hash) {
    uint64_t *slot = seen_slot(s, hash);
    if (*slot == 0 && s->count < s->mask - s->mask / 8) { *slot = hash; s->count++; }
}

/* The hashes of the runs of `length` words of a line, one at a time. */
typedef struct { nigh_str line; size_t at, words; uint64_t ring[16]; } runs;

static bool is_word_byte(uint8_t b) {
    return b >= 0x80 || (b >= '0' && b <= '9') || ((b | 0x20) >= 'a' && (b | 0x20) <= 'z');
}

static bool next_word(runs *r) {
    while (r->at < r->line.len && !is_word_byte((uint8_t)r->line.ptr[r->at])) r->at++;
    if (r->at == r->line.len) return false;
    uint64_t h = 0xcbf29ce484222325u;                   /* FNV-1a */
    for (; r->at < r->line.len && is_word_byte((uint8_t)r->line.ptr[r->at]); r->at++) {
        uint8_t b = (uint8_t)r->line.ptr[r->at];
        h = (h ^ (b >= 'A' && b <= 'Z' ? b | 0x20u : b)) * 0x100000001b3u;
    }
    r->ring[r->words++ % NIGH_COUNT(r->ring)] = h;
    return true;
}
static bool next_run(runs *r, size_t length, uint64_t *hash) {
    do if (!next_word(r)) return false; while (r->words < length);
    uint64_t h = length;
    for (size_t i = r->words - length; i < r->words; i++)
        h = (h ^ r->ring[i % NIGH_COUNT(r->ring)]) * 0x9e3779b97f4a7c15u, h ^= h >> 32;
    *hash = h | 1;
    return true;
}

static bool next_line(nigh_str text, size_t *at, nigh_str *line) {
    if (*at >= text.len) return false;
    size_t end = nigh_min(nigh_str_find(text, NIGH_STR("\n"), *at), text.len);
    *line = nigh_str_slice(text, *at, end);
    *at = end + 1;
    return true;
}

static uint64_t text_hash(nigh_str text) {
    runs r = { .line = text };
    uint64_t h = 1;
    while (next_word(&r))
        h = (h ^ r.ring[(r.words - 1) % NIGH_COUNT(r.ring)]) * 0x9e3779b97f4a7c15u, h ^= h >> 32;
    return h | 1;
}

static void add_runs(seen_set *seen, nigh_str text, size_t length) {
    nigh_str line;
    uint64_t h;
    for (size_t at = 0; next_line(text, &at, &line);)
        for (runs r = { .line = line }; next_run(&r, length, &h);) seen_add(seen, h);
}

/* Runs of a line, and how many of them were seen. */
static void count_runs(const seen_set *seen, nigh_str line, size_t length, size_t *all, size_t *old) {
    uint64_t h;
    *all = *old = 0;
    for (runs r = { .line = line }; next_run(&r, length, &h); ++*all) *old += seen_has(seen, h);
}

/* ---- repeats ---- */
static void append_line(char *text, size_t *len, nigh_str line) {
    if (*len) text[(*len)++] = '\n';
    memmove(text + *len, line.ptr, line.len);
    *len += line.len;
}

/* Shortens the document in place by its repeated paragraphs; false when it goes as a whole. */
static bool keep_doc(nigh_corpus *c, nigh_doc *d, seen_set *seen) {
    size_t all = 0, old = 0, len = 0, line_all, line_old;
    nigh_str line;
    uint64_t own = text_hash(d->text);
    if (seen_has(seen, own)) return false;
    for (size_t at = 0; next_line(d->text, &at, &line);) {
        count_runs(seen, line, SHINGLE, &line_all, &line_old);
        all += line_all, old += line_old;
    }
    if (all >= 20 && old * 2 > all) return false;
    char *text = (char *)(uintptr_t)d->text.ptr;        /* inside a block that the corpus owns */
    for (size_t at = 0; next_line(d->text, &at, &line);) {
        count_runs(seen, line, SHINGLE, &line_all, &line_old);
        if (line_all + SHINGLE - 1 >= LINE_WORDS
            && line_old * 5 >= line_all * 4) { c->lines_repeated++; continue; }
        append_line(text, &len, line);
    }
    d->text.len = len;
    seen_add(seen, own);
    add_runs(seen, d->text, SHINGLE);
    return len > 0;
}

/* Removes held-out paragraphs that share SHARED words in a row with training text. */
static nigh_status separate(nigh_corpus *c) {
    seen_set held, shared;
    size_t bytes = 0, all, old;
    nigh_str line;
    uint64_t h;
    for (size_t i = 0; i < c->doc_count; i++) if (c->docs[i].held_out) bytes += c->docs[i].text.len;
    if (!seen_init(&held, bytes / 2)) return NIGH_ENOMEM;
    if (!seen_init(&shared, bytes / 2)) { nigh_free(held.slots); return NIGH_ENOMEM; }
    for (size_t i = 0; i < c->doc_count; i++) if (c->docs[i].held_out) add_runs(&held, c->docs[i].text, SHARED);
    for (size_t i = 0; i < c->doc_count; i++) {
        if (c->docs[i].held_out) continue;
        for (size_t at = 0; next_line(c->docs[i].text, &at, &line);)
            for (runs r = { .line = line }; next_run(&r, SHARED, &h);) if (seen_has(&held, h))
                seen_add(&shared, h);
    }
    for (size_t i = 0; i < c->doc_count; i++) {
        nigh_doc *d = &c->docs[i];
        size_t len = 0;
        if (!d->held_out) continue;
        for (size_t at = 0; next_line(d->text, &at, &line);) {
            count_runs(&shared, line, SHARED, &all, &old);
            if (old) c->lines_shared++;
            else append_line((char *)(uintptr_t)d->text.ptr, &len, line);
        }
        d->text.len = len;
    }
    nigh_free(held.slots);
    nigh_free(shared.slots);
    return NIGH_OK;
}

nigh_status nigh_corpus_split(nigh_corpus *c, unsigned held_per_1000, nigh_err *err) {
    seen_set seen;
    size_t kept = 0;
    if (!seen_init(&seen, c->bytes_read / 4))
        return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory to find repeated text");
    c->docs_read = c->doc_count;
    for (size_t i = 0; i < c->doc_count; i++) {
        if (!keep_doc(c, &c->docs[i], &seen)) { c->docs_repeated++; continue; }
        c->docs[kept] = c->docs[i];
        c->docs[kept].held_out = text_hash(c->docs[i].text) / 2 % 1000 < held_per_1000;
        kept++;
    }
    c->doc_count = kept;
    nigh_free(seen.slots);
    if (separate(c) != NIGH_OK)
        return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory to separate the held-out text");
    return NIGH_OK;
}
