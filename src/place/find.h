/* find.h - personal data and secrets that have a form: found in text by their shape and proved by their check digits
 * where they have some. Names, addresses and other free text have no form and are not found here.
 * One pass, no memory, no recursion; time is linear in the text. The rules are those of ISO 7812 (cards, Luhn),
 * ISO 13616 (IBAN), RFC 5322/1123 (mail, hosts), ITU-T E.164 (telephone), the Social Security Administration, and the
 * published check-digit rules of each national number. */
#ifndef NIGH_FIND_H
#define NIGH_FIND_H

#include "base/base.h"

#define NIGH_FIND_KINDS(X) /* name, the word in a placeholder, secret? */ \
    X(EMAIL, "EMAIL", false)      \
    X(URL, "URL", false)          \
    X(IP, "IP", false)            \
    X(MAC, "MAC", false)          \
    X(CARD, "CARD", false)        \
    X(IBAN, "IBAN", false)        \
    X(SSN, "SSN", false)          \
    X(PHONE, "PHONE", false)      \
    X(NATIONAL_ID, "ID", false)   \
    X(WALLET, "WALLET", false)    \
    X(SECRET, "SECRET", true)

typedef enum {
#define NIGH_FIND_ENUM(name, word, secret) NIGH_FIND_##name,
    NIGH_FIND_KINDS(NIGH_FIND_ENUM)
#undef NIGH_FIND_ENUM
    NIGH_FIND_COUNT
} nigh_find_kind;

const char *nigh_find_word(nigh_find_kind kind);
/* Bits of NIGH_REDACT_* (policy.h) to bits of kinds. */
unsigned nigh_find_kinds(unsigned redact);

typedef struct { nigh_find_kind kind; size_t begin, end; } nigh_found;

/* The first finding of `kinds` (bits 1 << kind) at or after *from; moves *from behind it. False at the end. Findings do
 * not overlap. */
bool nigh_find_next(nigh_str text, size_t *from, unsigned kinds, nigh_found *out);

#endif
