/* utf8.h - one letter at a time out of UTF-8 text and back. Strict: overlong forms, surrogates and
 * values over U+10FFFF are no letters. */
#ifndef NIGH_UTF8_H
#define NIGH_UTF8_H

#include "base/base.h"

/* The letter that starts at s.ptr[at] (at < s.len) goes to *out; returns its bytes, 1..4.
 * What is no letter gives 0 and leaves *out as U+FFFD; a caller that goes on skips one byte. */
size_t nigh_utf8_read(nigh_str s, size_t at, uint32_t *out);
/* Writes a letter (<= U+10FFFF, no surrogate) to out; returns its bytes, 1..4. */
size_t nigh_utf8_write(uint32_t letter, char out[4]);
/* Offset of the first byte that is no UTF-8, or SIZE_MAX. */
size_t nigh_utf8_check(nigh_str s);

#endif
