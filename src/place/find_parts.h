/* find_parts.h - what find.c and find_number.c share. */
#ifndef NIGH_FIND_PARTS_H
#define NIGH_FIND_PARTS_H

#include "place/find.h"

static inline bool is_digit(char c) { return c >= '0' && c <= '9'; }
static inline bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
static inline bool is_alnum(char c) { return is_digit(c) || is_letter(c); }
static inline bool is_wide(char c) { return (unsigned char)c >= 0x80; }          /* of a letter beyond ASCII */
static inline char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }
static inline char upper(char c) { return c >= 'a' && c <= 'z' ? (char)(c - 32) : c; }
static inline char at(nigh_str s, size_t i) { return i < s.len ? s.ptr[i] : '\0'; }

static inline bool found(nigh_found *out, nigh_find_kind kind, size_t begin, size_t end) {
    *out = (nigh_found){ kind, begin, end };
    return true;
}

/* A number of any kind whose first digit stands at `at`; `floor`: nothing before it may be used. */
bool nigh_find_number(nigh_str text, size_t floor, size_t at, nigh_found *out, size_t *skip);

#endif
