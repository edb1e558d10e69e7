/* chat_encode.c - a prompt with spans to ids.
 *
 *   text    <|user|>\n  I say <|end|> here  <|end|>\n<|assistant|>
 *   spans   template    user                template
 *   pieces  [special][  plain text         ][special][\n][special]
 *
 * Control tokens are searched in the template's spans only, leftmost and then longest first; what lies between two of
 * them is one piece of plain text, across the borders of spans. So user text can never become a control token, and
 * marking it changes no other id. Each piece after a control token is tokenised as the beginning of a text, as
 * SentencePiece vocabularies expect. */
#include "engine/chat.h"

/* The control tokens, in buckets by their first byte. */
typedef struct { int32_t *ids; size_t start[257]; } specials;

static nigh_status find_specials(const nigh_tokenizer *t, specials *s, nigh_err *err) {
    size_t count = nigh_tokenizer_count(t), fill[256];
    *s = (specials){ 0 };
    for (size_t i = 0; i < count; i++) {
        nigh_str text = nigh_tokenizer_text(t, (int32_t)i);
        if (text.len && nigh_tokenizer_is_control(t, (int32_t)i)) s->start[1 + (unsigned char)text.ptr[0]]++;
    }
    for (size_t b = 0; b < 256; b++) {
        s->start[b + 1] += s->start[b];
        fill[b] = s->start[b];
    }
    if (!s->start[256]) return NIGH_OK;
    s->ids = nigh_alloc(sizeof *s->ids, s->start[256]);
    if (!s->ids) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the special tokens");
    for (size_t i = 0; i < count; i++) {
        nigh_str text = nigh_tokenizer_text(t, (int32_t)i);
        if (text.len && nigh_tokenizer_is_control(t, (int32_t)i))
            s->ids[fill[(unsigned char)text.ptr[0]]++] = (int32_t)i;
    }
    return NIGH_OK;
}

/* The longest control token that starts here and ends before `end`, or -1. */
static int32_t match(const nigh_tokenizer *t, const specials *s, nigh_str prompt, size_t at, size_t end, size_t *len) {
    size_t bucket = (unsigned char)prompt.ptr[at];
    int32_t best = -1;
    *len = 0;
    for (size_t i = s->start[bucket]; i < s->start[bucket + 1]; i++) {
        nigh_str text = nigh_tokenizer_text(t, s->ids[i]);
        if (text.len <= *len || text.len > end - at || memcmp(text.ptr, prompt.ptr + at, text.len) != 0) continue;
        best = s->ids[i];
        *len = text.len;
    }
    return best;
}

typedef struct { const nigh_tokenizer *t; nigh_str prompt; size_t plain; nigh_ids *out; nigh_err *err; } encoder;

static nigh_status put_id(encoder *e, int32_t id) {
    nigh_status status = nigh_ids_add(e->out, id);
    if (status == NIGH_OK) return status;
    return nigh_fail(e->err, status, 0, status == NIGH_ERANGE ? "the prompt has too many tokens" : "not enough memory");
}

/* Plain text from where the last piece ended up to `end`. */
static nigh_status put_plain(encoder *e, size_t end) {
    nigh_str text = nigh_str_slice(e->prompt, e->plain, end);
    return text.len ? nigh_tokenizer_encode(e->t, text, (nigh_encode_opts){ 0 }, e->out, e->err) : NIGH_OK;
}

static nigh_status put_span(encoder *e, const specials *s, size_t begin, size_t end) {
    for (size_t at = begin, len; at < end;) {
        int32_t id = match(e->t, s, e->prompt, at, end, &len);
        if (id < 0) { at++; continue; }
        NIGH_TRY(put_plain(e, at));
        NIGH_TRY(put_id(e, id));
        at += len;
        e->plain = at;
    }
    return NIGH_OK;
}

/* Has the template itself begun the prompt with BOS? */
static bool starts_with_bos(const nigh_tokenizer *t, nigh_str prompt, const nigh_spans *spans) {
    nigh_str bos = nigh_tokenizer_text(t, nigh_tokenizer_bos(t));
    bool written = spans && spans->count && !spans->ptr[0].user && spans->ptr[0].end >= bos.len;
    return written && bos.len && nigh_str_starts(prompt, bos);
}

nigh_status nigh_chat_encode(const nigh_tokenizer *t, nigh_str prompt, const nigh_spans *spans, bool add_special,
                             nigh_ids *out, nigh_err *err) {
    encoder e = { t, prompt, 0, out, err };
    specials s;
    size_t begin = 0, before = out->len;
    nigh_status status = find_specials(t, &s, err);
    bool bos = add_special && nigh_tokenizer_adds_bos(t) && nigh_tokenizer_bos(t) >= 0;
    if (status == NIGH_OK && bos && !starts_with_bos(t, prompt, spans)) status = put_id(&e, nigh_tokenizer_bos(t));
    for (size_t i = 0; spans && i < spans->count && status == NIGH_OK; i++) {
        size_t end = nigh_min(spans->ptr[i].end, prompt.len);
        if (!spans->ptr[i].user && end > begin) status = put_span(&e, &s, begin, end);
        begin = nigh_max(begin, end);
    }
    if (status == NIGH_OK) status = put_plain(&e, prompt.len);
    if (status == NIGH_OK && add_special && nigh_tokenizer_adds_eos(t) && nigh_tokenizer_eos(t) >= 0)
        status = put_id(&e, nigh_tokenizer_eos(t));
    if (status != NIGH_OK) out->len = before;
    nigh_free(s.ids);
    return status;
}
