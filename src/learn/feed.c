/* feed.c - see feed.h.
 * The order of an epoch is i -> (a i + b) mod n with a coprime to n: each window once, no table. */
#include "learn/feed.h"

void nigh_feed_release(nigh_feed *f) {
    for (size_t s = 0; s < NIGH_CORPUS_SOURCES; s++) { nigh_free(f->train[s].ids); nigh_free(f->held[s].ids); }
    *f = (nigh_feed){ 0 };
}

static nigh_status encode(nigh_feed *f, const nigh_bpe *b, const nigh_corpus *c) {
    size_t train[NIGH_CORPUS_SOURCES] = { 0 }, held[NIGH_CORPUS_SOURCES] = { 0 };
    for (size_t i = 0; i < c->doc_count; i++)
        (c->docs[i].held_out ? held : train)[c->docs[i].source] += c->docs[i].text.len + 1;
    for (size_t s = 0; s < c->source_count; s++) {
        f->train[s].ids = nigh_alloc(train[s] + 1, sizeof(uint16_t));
        f->held[s].ids = nigh_alloc(held[s] + 1, sizeof(uint16_t));
        if (!f->train[s].ids || !f->held[s].ids) return NIGH_ENOMEM;
    }
    for (size_t i = 0; i < c->doc_count; i++) {
        nigh_run *r = c->docs[i].held_out ? &f->held[c->docs[i].source] : &f->train[c->docs[i].source];
        r->ids[r->count++] = NIGH_BPE_END;
        nigh_bpe_encode(b, c->docs[i].text, r->ids, &r->count);
        r->bytes += c->docs[i].text.len;
    }
    return NIGH_OK;
}

nigh_status nigh_feed_make(nigh_feed *f, nigh_bpe *b, const nigh_corpus *c, size_t vocab, nigh_err *err) {
    nigh_status status = NIGH_OK;
    f->source_count = c->source_count;
    for (size_t s = 0; s < c->source_count; s++)
        f->weight[s] = c->sources[s].weight, f->late_weight[s] = c->sources[s].late_weight;
    for (size_t i = 0; i < c->doc_count && status == NIGH_OK; i++)
        status = nigh_bpe_add(b, c->docs[i].text, !c->docs[i].held_out);
    if (status == NIGH_OK) status = nigh_bpe_learn(b, vocab);
    if (status == NIGH_OK) status = encode(f, b, c);
    if (status != NIGH_OK) return nigh_fail(err, status, 0, "not enough memory for the text");
    size_t windows = 0;
    for (size_t s = 0; s < f->source_count; s++) windows += f->train[s].count / (f->window + 1);
    return windows ? NIGH_OK : nigh_fail(err, NIGH_EINVAL, 0,
        "there is too little text: not one whole window to train on");
}

size_t nigh_feed_held_count(const nigh_feed *f, size_t source) {
    return f->held[source].count < 2 ? 0 : (f->held[source].count - 1) / f->window;
}

static uint64_t mix(uint64_t a, uint64_t b) {
    uint64_t z = (a ^ b * 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 29) * 0x94d049bb133111ebu;
    return z ^ z >> 32;
}
static uint64_t gcd(uint64_t a, uint64_t b) { while (b) { uint64_t t = a % b; a = b, b = t; } return a; }

/* The source that is furthest behind its share. */
static size_t choose(const nigh_feed *f, const double *weights, const uint64_t *taken) {
    size_t best = 0;
    double least = -1;
    for (size_t s = 0; s < f->source_count; s++) {
        double share = weights[s] * (double)f->train[s].count;
        if (f->train[s].count < f->window + 1 || share <= 0) continue;
        double at = ((double)taken[s] + 0.5) / share;
        if (least < 0 || at < least) least = at, best = s;
    }
    return least < 0 ? SIZE_MAX : best;
}

void nigh_feed_next(const nigh_feed *f, nigh_feed_at *at, bool late, uint16_t *out) {
    uint64_t *turns = late ? at->late_taken : at->taken;
    size_t s = choose(f, late ? f->late_weight : f->weight, turns);
    if (s == SIZE_MAX) s = choose(f, f->weight, turns);
    for (size_t i = 0; s == SIZE_MAX; i++) if (f->train[i].count >= f->window + 1) s = i;
    uint64_t w = f->window, i = at->taken[s] + at->late_taken[s], spare = f->train[s].count - 1;
    turns[s]++;
    uint64_t n = spare / w > 1 ? spare / w - 1 : 1;       /* one window less, so that every offset fits */
    uint64_t seed = mix(mix(f->seed, s + 1), i / n), a = 1 + mix(seed, 1) % n;
    while (gcd(a, n) != 1) a = a % n + 1;
    uint64_t offset = n * w < spare ? mix(seed, 2) % nigh_min(w, spare - n * w + 1) : 0;
    uint64_t idx = (uint64_t)((a * (i % n) + mix(seed, 3) % n) % n);
    memcpy(out, f->train[s].ids + offset + idx * w, (w + 1) * sizeof *out);
}
