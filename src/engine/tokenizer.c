/* tokenizer.c - text to ids: special tokens first, then the plain text between them by the vocabulary's kind.
 *     nigh_tokenizer_encode -> tokenizer_special.c (pieces) -> tokenizer_merge.c      BPE, SentencePiece
 *                                                           -> tokenizer_wordpiece.c  WordPiece
 * Also the growing list of ids and what may be asked of a vocabulary. */
#include "engine/tokenizer_vocab.h"

/* ---- lists of ids ---- */

static nigh_status grow(nigh_ids *ids) {
    size_t cap = nigh_min(ids->cap ? 2 * ids->cap : 64, ids->limit);
    int32_t *p = nigh_alloc(cap, sizeof *p);
    if (!p) return NIGH_ENOMEM;
    if (ids->len) memcpy(p, ids->ptr, ids->len * sizeof *p);
    nigh_free(ids->ptr);
    ids->ptr = p;
    ids->cap = cap;
    return NIGH_OK;
}

nigh_status nigh_ids_add(nigh_ids *ids, int32_t id) {
    if (ids->len >= ids->limit) return NIGH_ERANGE;
    if (ids->len == ids->cap) NIGH_TRY(grow(ids));
    ids->ptr[ids->len++] = id;
    return NIGH_OK;
}

void nigh_ids_release(nigh_ids *ids) {
    nigh_free(ids->ptr);
    *ids = NIGH_IDS(ids->limit);
}

/* ---- encoding ---- */

typedef struct {
    const nigh_tokenizer *t;
    nigh_encoder *e;        /* NULL for WordPiece */
    nigh_str text;
    nigh_ids *out;
    const uint8_t *marks;   /* see nigh_tokenizer_encode_marked */
    bool after_special;     /* also at the beginning: a SentencePiece vocabulary may want a space here */
} encoding;

static nigh_status encode_fragment(void *ud, nigh_fragment f) {
    encoding *c = ud;
    nigh_str plain = { c->text.ptr + f.begin, f.end - f.begin };
    bool space_before = c->after_special && c->t->add_space_prefix;
    c->after_special = f.id >= 0;
    if (f.id >= 0) return nigh_ids_add(c->out, f.id);
    if (c->t->kind == NIGH_VOCAB_BPE) return nigh_encoder_plain_bpe(c->e, plain);
    if (c->t->kind == NIGH_VOCAB_SPM) return nigh_encoder_plain_spm(c->e, plain, space_before);
    return nigh_wordpiece_plain(c->t, plain, c->out);
}

static nigh_status encode_all(encoding *c, nigh_encode_opts o) {
    const nigh_tokenizer *t = c->t;
    bool wordpiece = t->kind == NIGH_VOCAB_WORDPIECE;
    if (o.add_special && t->add_bos && t->bos >= 0) NIGH_TRY(nigh_ids_add(c->out, t->bos));
    NIGH_TRY(nigh_special_split(t, c->text, (nigh_special_where){ o.parse_special, c->marks }, encode_fragment, c));
    if (o.add_special && wordpiece && t->sep >= 0) NIGH_TRY(nigh_ids_add(c->out, t->sep));
    if (o.add_special && t->add_eos && t->eos >= 0 && !(wordpiece && t->eos == t->sep))
        NIGH_TRY(nigh_ids_add(c->out, t->eos));
    return NIGH_OK;
}

nigh_status nigh_tokenizer_encode(const nigh_tokenizer *t, nigh_str text, nigh_encode_opts o, nigh_ids *out,
                                  nigh_err *err) {
    return nigh_tokenizer_encode_marked(t, text, NULL, o, out, err);
}

nigh_status nigh_tokenizer_encode_marked(const nigh_tokenizer *t, nigh_str text, const uint8_t *plain,
                                         nigh_encode_opts o, nigh_ids *out, nigh_err *err) {
    encoding c = { t, NULL, text, out, plain, true };
    nigh_status st = NIGH_OK;
    size_t before = out->len;
    if (text.len > INT32_MAX)
        return nigh_fail(err, NIGH_ERANGE, 0, "a text of more than 2 GiB cannot be tokenized at once");
    if (text.len && t->kind != NIGH_VOCAB_WORDPIECE) {
        c.e = nigh_encoder_new(t, text.len, out);
        if (!c.e) st = NIGH_ENOMEM;
    }
    if (st == NIGH_OK) st = encode_all(&c, o);
    nigh_encoder_free(c.e);
    if (st == NIGH_OK) return NIGH_OK;
    out->len = before;
    if (st == NIGH_ERANGE) return nigh_failf(err, st, 0, "the text has more than %zu tokens", out->limit);
    return nigh_fail(err, st, 0, "no memory to tokenize the text");
}

/* ---- looking up and asking ---- */

int32_t nigh_vocab_find_hashed(const nigh_tokenizer *t, nigh_str key, uint32_t hash) {
    for (uint32_t i = hash & t->slot_mask; t->slots[i].id1; i = (i + 1) & t->slot_mask)
        if (t->slots[i].hash == hash && nigh_str_eq(nigh_vocab_key(t, t->slots[i].id1 - 1), key))
            return (int32_t)(t->slots[i].id1 - 1);
    return -1;
}

int32_t nigh_vocab_find(const nigh_tokenizer *t, nigh_str key) {
    return nigh_vocab_find_hashed(t, key, nigh_hash_end(nigh_hash_more(NIGH_HASH_BEGIN, key.ptr, key.len)));
}

static bool is_id(const nigh_tokenizer *t, int32_t id) { return id >= 0 && (uint32_t)id < t->count; }

size_t nigh_tokenizer_count(const nigh_tokenizer *t) { return t->count; }
int32_t nigh_tokenizer_bos(const nigh_tokenizer *t) { return t->bos; }
int32_t nigh_tokenizer_eos(const nigh_tokenizer *t) { return t->eos; }
int32_t nigh_tokenizer_eot(const nigh_tokenizer *t) { return t->eot; }
bool nigh_tokenizer_adds_bos(const nigh_tokenizer *t) { return t->add_bos; }
bool nigh_tokenizer_adds_eos(const nigh_tokenizer *t) { return t->add_eos; }
bool nigh_tokenizer_is_end(const nigh_tokenizer *t, int32_t id) {
    return is_id(t, id) && t->type[id] & NIGH_TOKEN_ENDS;
}
bool nigh_tokenizer_is_control(const nigh_tokenizer *t, int32_t id) {
    return is_id(t, id) && nigh_vocab_type(t, (uint32_t)id) == NIGH_TOKEN_CONTROL;
}
nigh_str nigh_tokenizer_text(const nigh_tokenizer *t, int32_t id) {
    if (!is_id(t, id)) return (nigh_str){ 0 };
    return (nigh_str){ t->text + t->text_at[id], t->text_at[id + 1] - t->text_at[id] };
}
