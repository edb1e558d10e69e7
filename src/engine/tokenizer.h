/* tokenizer.h - text to ids and back, for the vocabularies that GGUF files carry.
 * Three kinds: byte-level BPE ("gpt2"), SentencePiece BPE ("llama"), WordPiece ("bert"). Built from the
 * metadata of one file; copies what it keeps; immutable afterwards, any thread may use it.
 * Time is linear in the text (but for a log factor); nothing recurses on outside data. */
#ifndef NIGH_TOKENIZER_H
#define NIGH_TOKENIZER_H

#include "engine/gguf.h"

typedef struct nigh_tokenizer nigh_tokenizer;

typedef struct {
    bool add_special;       /* put BOS in front / EOS behind as the file asks for */
    bool parse_special;     /* text of control tokens becomes the token; else it is plain text */
} nigh_encode_opts;

/* A growing list of ids. limit: most ids it may hold. */
typedef struct { int32_t *ptr; size_t len, cap, limit; } nigh_ids;
#define NIGH_IDS(max) ((nigh_ids){ NULL, 0, 0, (max) })
NIGH_CHECK nigh_status nigh_ids_add(nigh_ids *ids, int32_t id);     /* ERANGE over the limit, ENOMEM */
void nigh_ids_release(nigh_ids *ids);

/* Fails: EDATA with the key and what is wrong; ENOSUP naming an unknown tokenizer model or pre-tokenizer; ENOMEM. */
NIGH_CHECK nigh_status nigh_tokenizer_open(nigh_tokenizer **out, const nigh_gguf *g, nigh_err *err);
void nigh_tokenizer_close(nigh_tokenizer *t);

/* Appends the ids of text. Any bytes are accepted; what is no UTF-8 becomes byte tokens or the unknown token
 * (WordPiece leaves it out). On failure `out` is as before. Fails: ERANGE (more ids than out->limit, text over 2
 * GiB), ENOMEM. */
NIGH_CHECK nigh_status nigh_tokenizer_encode(const nigh_tokenizer *t, nigh_str text, nigh_encode_opts o,
                                             nigh_ids *out, nigh_err *err);
/* The same for text of which only a part may hold control tokens. plain: a byte for each byte of the text; where it is
 * not 0, the text is no part of a control token, whatever it looks like. NULL: as nigh_tokenizer_encode. */
NIGH_CHECK nigh_status nigh_tokenizer_encode_marked(const nigh_tokenizer *t, nigh_str text, const uint8_t *plain,
                                                    nigh_encode_opts o, nigh_ids *out, nigh_err *err);

/* Appends the bytes of one token, as they stand in running text (a piece of a UTF-8 letter is possible). special:
 * also print control tokens (else they give nothing). Ids out of range give nothing. */
NIGH_CHECK nigh_status nigh_tokenizer_piece(const nigh_tokenizer *t, int32_t id, bool special, nigh_buf *out);
/* The text of a list of ids (SentencePiece: without the leading space that encoding adds; WordPiece: pieces joined, a
 * space in front of every word). For the vocabularies that docs/format-vocabulary.md names, spaces in front of ? ! . ,
 * and around apostrophes are taken away. It need not be UTF-8: any ids may come. */
NIGH_CHECK nigh_status nigh_tokenizer_decode(const nigh_tokenizer *t, const int32_t *ids, size_t count, bool special,
                                             nigh_buf *out);

/* A stream of tokens to whole UTF-8 letters. All zero to begin with: the bytes of the tokens as they are, held back
 * only while a letter is incomplete (at most 3 bytes); what is no UTF-8 becomes U+FFFD, one for each sequence that
 * breaks off. started: set it when the tokens follow on other text; else SentencePiece's first space is taken off, as
 * decoding does. clean: also take spaces away where nigh_tokenizer_decode does (holds back 6 bytes more); then both
 * give the same text. */
typedef struct { char held[4]; uint8_t held_len, spaces[3]; bool started, clean; } nigh_detok;
/* Appends what may be shown after this token. */
NIGH_CHECK nigh_status nigh_detok_push(nigh_detok *d, const nigh_tokenizer *t, int32_t id, bool special,
                                       nigh_buf *out);
/* At the end: what is still held is shown, half a letter as U+FFFD. */
NIGH_CHECK nigh_status nigh_detok_flush(nigh_detok *d, nigh_buf *out);

size_t nigh_tokenizer_count(const nigh_tokenizer *t);               /* vocabulary size */
int32_t nigh_tokenizer_bos(const nigh_tokenizer *t);                /* -1: none; the same for all below */
int32_t nigh_tokenizer_eos(const nigh_tokenizer *t);
int32_t nigh_tokenizer_eot(const nigh_tokenizer *t);                /* end of a turn */
bool nigh_tokenizer_adds_bos(const nigh_tokenizer *t);
bool nigh_tokenizer_adds_eos(const nigh_tokenizer *t);
/* Does this token end the text (eos, eot, eom and the like)? */
bool nigh_tokenizer_is_end(const nigh_tokenizer *t, int32_t id);
bool nigh_tokenizer_is_control(const nigh_tokenizer *t, int32_t id);
nigh_str nigh_tokenizer_text(const nigh_tokenizer *t, int32_t id);  /* as stored in the file */

#endif
