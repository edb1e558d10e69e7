/* redact.h - personal data and secrets out of a text before it leaves, and back into the answer.
 * A redactor belongs to one conversation: the same value gets the same placeholder in all of its texts,
 *
 *     <EMAIL_1_k3fq>      kind, number, and four letters that only this conversation uses
 *
 * so a placeholder says nothing about the value, cannot be guessed from another conversation, and is never mistaken
 * for one of another tenant. The values stay in the memory of the redactor. It fails closed: what cannot be redacted is
 * an error, and then nothing may leave.
 *
 * Models alter what they repeat: brackets that are lost and letters of another case are understood. */
#ifndef NIGH_REDACT_H
#define NIGH_REDACT_H

#include "place/find.h"

enum { NIGH_REDACT_VALUES_MAX = 4096, NIGH_REDACT_BYTES_MAX = 4 << 20 };

typedef struct nigh_redactor nigh_redactor;

/* seed: random, new for each conversation. Fails: ENOMEM. */
NIGH_CHECK nigh_status nigh_redactor_new(nigh_redactor **out, uint64_t seed, nigh_err *err);
void nigh_redactor_free(nigh_redactor *r);          /* overwrites the values first */
size_t nigh_redactor_count(const nigh_redactor *r); /* different values so far */

/* Appends `text` to `out` with what `kinds` (nigh_find_kinds) names replaced. Adds the number of replacements to
 * *replaced (may be NULL). Fails: EDATA (the text holds what looks like one of these placeholders), ERANGE (too
 * many values, or out is full), ENOMEM; then out holds what it held before. */
NIGH_CHECK nigh_status nigh_redact(nigh_redactor *r, unsigned kinds, nigh_str text, nigh_buf *out, size_t *replaced,
                                   nigh_err *err);

/* Puts values back, as text arrives in pieces of any size. At most 32 bytes are held back. One for each text that
 * arrives: each choice, each tool call. All zero but for `r` at first. */
typedef struct {
    nigh_redactor *r;
    bool json;                      /* the text is the inside of a JSON string: values are escaped */
    char before;                    /* the last byte that was handed on */
    uint8_t held_len;
    char held[32];
    size_t restored, unknown;       /* placeholders put back; placeholders that stand for nothing, now "[EMAIL?]" */
} nigh_restorer;
NIGH_CHECK nigh_status nigh_restore_add(nigh_restorer *s, nigh_str piece, nigh_buf *out);
NIGH_CHECK nigh_status nigh_restore_end(nigh_restorer *s, nigh_buf *out);

#endif
