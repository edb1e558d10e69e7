/* chat_encode.c - a prompt with spans to ids.
 *
 *   text    <|user|>\n  I say <|end|> here  <|end|>\n<|assistant|>
 *   spans   template    user                template
 *   plain   00000000 0  1111111111111111111 0000000 0 0000000000000
 *
 * The whole prompt is tokenised at once with a mark for each byte: a control token may not touch a byte of the user.
 * What lies between two control tokens is one text, across the borders of spans. So user text can never become a
 * control token, and marking it changes no other id. */
#include "engine/chat.h"

/* Has the template itself begun the prompt with BOS? */
static bool starts_with_bos(const nigh_tokenizer *t, nigh_str prompt, const nigh_spans *spans) {
    nigh_str bos = nigh_tokenizer_text(t, nigh_tokenizer_bos(t));
    bool written = spans && spans->count && !spans->ptr[0].user && spans->ptr[0].end >= bos.len;
    return written && bos.len && nigh_str_starts(prompt, bos);
}

nigh_status nigh_chat_encode(const nigh_tokenizer *t, nigh_str prompt, const nigh_spans *spans, bool add_special,
                             nigh_ids *out, nigh_err *err) {
    size_t begin = 0, skip = 0;
    uint8_t *plain = NULL;
    if (prompt.len) {
        plain = nigh_alloc(1, prompt.len);
        if (!plain) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the prompt");
        memset(plain, 1, prompt.len);
    }
    for (size_t i = 0; spans && i < spans->count; i++) {
        size_t end = nigh_min(spans->ptr[i].end, prompt.len);
        if (!spans->ptr[i].user && end > begin) memset(plain + begin, 0, end - begin);
        begin = nigh_max(begin, end);
    }
    if (add_special && nigh_tokenizer_adds_bos(t) && nigh_tokenizer_bos(t) >= 0 && starts_with_bos(t, prompt, spans))
        skip = nigh_tokenizer_text(t, nigh_tokenizer_bos(t)).len;
    nigh_encode_opts o = { .add_special = add_special, .parse_special = true };
    nigh_str text = nigh_str_slice(prompt, skip, prompt.len);
    nigh_status status = nigh_tokenizer_encode_marked(t, text, plain ? plain + skip : NULL, o, out, err);
    nigh_free(plain);
    return status;
}
