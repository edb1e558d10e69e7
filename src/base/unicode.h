/* unicode.h - what kind a letter is: general categories, white space, lower case, letters without their marks.
 * Letters are code points; UTF-8 is utf8.h's. The tables are made by tools/unicode_tables.mjs. Pure functions. */
#ifndef NIGH_UNICODE_H
#define NIGH_UNICODE_H

#include "base/base.h"

typedef enum { /* general categories; the order is also that of tools/unicode_tables.mjs */
    NIGH_CN, NIGH_LU, NIGH_LL, NIGH_LT, NIGH_LM, NIGH_LO, NIGH_MN, NIGH_MC, NIGH_ME, NIGH_ND, NIGH_NL, NIGH_NO, NIGH_PC,
    NIGH_PD, NIGH_PS, NIGH_PE, NIGH_PI, NIGH_PF, NIGH_PO, NIGH_SM, NIGH_SC, NIGH_SK, NIGH_SO, NIGH_ZS, NIGH_ZL, NIGH_ZP,
    NIGH_CC, NIGH_CF, NIGH_CS, NIGH_CO
} nigh_category;

#define NIGH_BIT(category) (1u << (category))
enum { /* groups of categories, for `nigh_unicode_mask(letter) & GROUP` */
    NIGH_LETTER = NIGH_BIT(NIGH_LU) | NIGH_BIT(NIGH_LL) | NIGH_BIT(NIGH_LT) | NIGH_BIT(NIGH_LM) | NIGH_BIT(NIGH_LO),
    NIGH_MARK = NIGH_BIT(NIGH_MN) | NIGH_BIT(NIGH_MC) | NIGH_BIT(NIGH_ME),
    NIGH_NUMBER = NIGH_BIT(NIGH_ND) | NIGH_BIT(NIGH_NL) | NIGH_BIT(NIGH_NO),
    NIGH_PUNCTUATION = NIGH_BIT(NIGH_PC) | NIGH_BIT(NIGH_PD) | NIGH_BIT(NIGH_PS) | NIGH_BIT(NIGH_PE) | NIGH_BIT(NIGH_PI)
                       | NIGH_BIT(NIGH_PF) | NIGH_BIT(NIGH_PO),
    NIGH_SYMBOL = NIGH_BIT(NIGH_SM) | NIGH_BIT(NIGH_SC) | NIGH_BIT(NIGH_SK) | NIGH_BIT(NIGH_SO),
    NIGH_CONTROL = NIGH_BIT(NIGH_CC) | NIGH_BIT(NIGH_CF) | NIGH_BIT(NIGH_CS) | NIGH_BIT(NIGH_CO)
};

/* Cn for what is not assigned and for values over U+10FFFF. */
nigh_category nigh_unicode_category(uint32_t letter);
static inline uint32_t nigh_unicode_mask(uint32_t letter) { return NIGH_BIT(nigh_unicode_category(letter)); }
/* The property White_Space: what \s means in the splitting rules of tokenizers. */
bool nigh_unicode_is_space(uint32_t letter);
/* The lower-case letter, one for one (of the rare two-letter forms the first). */
uint32_t nigh_unicode_lower(uint32_t letter);
/* The canonical decomposition (NFD) without its marks: e for U+00E9, three jamo for a Hangul syllable, nothing for a
 * mark. Returns how many of out are filled, 0..3. Three letters of Kirat Rai (U+16D68..16D6A) stay whole. */
size_t nigh_unicode_bare(uint32_t letter, uint32_t out[3]);

#endif
