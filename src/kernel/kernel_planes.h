/* kernel_planes.h - AVX-512: the packed planes of a block as eight registers of bytes, and its scales.
 *
 * Shared by the products of kernel_avx512.c and kernel_amx.c. What the planes are: pack.c and docs/format-packed.md.
 * The file that includes this has <immintrin.h>. */
#ifndef NIGH_KERNEL_PLANES_H
#define NIGH_KERNEL_PLANES_H

#include "kernel/kernel_isa.h"
#include "kernel/pack.h"

/* ---- planes to bytes ---- */

ALWAYS __m512i load(const uint8_t *p) { return _mm512_loadu_si512((const void *)p); }

/* Bits of every byte moved from bit `from` to bit `to`; the mask cuts off what came over from the neighbour byte. */
ALWAYS __m512i move_bits(__m512i v, int from, int to) {
    if (from > to) return _mm512_srli_epi16(v, (unsigned)(from - to));
    return from < to ? _mm512_slli_epi16(v, (unsigned)(to - from)) : v;
}
/* low | (high & mask) */
ALWAYS __m512i merge(__m512i low, __m512i high, char mask) {
    return _mm512_ternarylogic_epi32(low, high, _mm512_set1_epi8(mask), 0xf8);
}

ALWAYS void read_nibbles(const uint8_t *p, __m512i w[8]) {
    __m512i mask = _mm512_set1_epi8(15);
    for (int j = 0; j < 4; j++) {
        __m512i v = load(p + 64 * j);
        w[j] = _mm512_and_si512(v, mask);
        w[j + 4] = _mm512_and_si512(_mm512_srli_epi16(v, 4), mask);
    }
}

ALWAYS void read_pairs(const uint8_t *p, __m512i w[8]) {
    for (int j = 0; j < 8; j++)
        w[j] = _mm512_and_si512(move_bits(load(p + 64 * (j / 4)), j % 4 * 2, 0), _mm512_set1_epi8(3));
}

/* The eight registers of one block. bits and table are constants wherever this is inlined. */
ALWAYS void read_planes(nigh_form f, const uint8_t *p, __m512i w[8]) {
    if (f.bits == 8)
        for (int j = 0; j < 8; j++) w[j] = load(p + 64 * j);
    if (f.bits >= 4 && f.bits <= 6) read_nibbles(p, w);
    if (f.bits <= 3) read_pairs(p, w);
    if (f.bits == 5)
        for (int j = 0; j < 8; j++) w[j] = merge(w[j], move_bits(load(p + 256), j, 4), 0x10);
    if (f.bits == 6)
        for (int j = 0; j < 8; j++) w[j] = merge(w[j], move_bits(load(p + 256 + 64 * (j / 4)), j % 4 * 2, 4), 0x30);
    if (f.bits == 3)
        for (int j = 0; j < 8; j++) w[j] = merge(w[j], move_bits(load(p + 128), j, 2), 0x04);
    if (f.table) {
        __m128i values = _mm_xor_si128(_mm_loadu_si128((const __m128i *)nigh_iq4_values), _mm_set1_epi8(-128));
        __m512i table = _mm512_broadcast_i32x4(values);
        for (int j = 0; j < 8; j++) w[j] = _mm512_shuffle_epi8(table, w[j]);
    }
}

/* ---- scales ---- */

typedef struct {
    __m512 dw, mw;
    __m512i sc[2];          /* int32: scale of each half                               */
    __m512i zero_pair;      /* int16 pairs: zero * scale of the halves, first one low  */
    __m512i min_pair;       /* int16 pairs: minima of the halves                       */
} scales;

ALWAYS __m512 halves_as_floats(const uint8_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
ALWAYS __m512 bytes_as_floats(const uint8_t *p, bool is_signed) {
    __m128i v = _mm_loadu_si128((const __m128i *)p);
    return _mm512_cvtepi32_ps(is_signed ? _mm512_cvtepi8_epi32(v) : _mm512_cvtepu8_epi32(v));
}

/* Scales of 16 columns: two bytes for each row, the half's scale (Q2_K: scale and minimum in one byte). */
ALWAYS void read_half_scales(nigh_form f, const uint8_t *p, scales *s) {
    __m256i bytes = _mm256_loadu_si256((const __m256i *)p);
    __m512i pair;
    if (f.has_min) {
        pair = _mm512_cvtepu8_epi16(_mm256_and_si256(bytes, _mm256_set1_epi8(15)));
        s->min_pair = _mm512_cvtepu8_epi16(_mm256_and_si256(_mm256_srli_epi16(bytes, 4), _mm256_set1_epi8(15)));
    } else {
        pair = _mm512_cvtepi8_epi16(bytes);
        s->zero_pair = _mm512_mullo_epi16(pair, _mm512_set1_epi16(f.zero));
    }
    s->sc[0] = _mm512_srai_epi32(_mm512_slli_epi32(pair, 16), 16);
    s->sc[1] = _mm512_srai_epi32(pair, 16);
}

/* p: scales of a span; i: which of its blocks. */
ALWAYS scales read_scales(nigh_type type, nigh_form f, const uint8_t *p, size_t i) {
    scales s = { 0 };
    if (f.columns == NIGH_BLOCK) p += i * nigh_form_scale_bytes(f);
    s.dw = halves_as_floats(p);
    if (f.has_min) s.mw = halves_as_floats(p + 32);
    p += f.has_min ? 64 : 32;
    if (f.sub == 16) {
        read_half_scales(f, p + 32 * i, &s);
    } else if (f.has_sub && f.has_min) {
        s.dw = _mm512_mul_ps(s.dw, bytes_as_floats(p + 32 * i, false));
        s.mw = _mm512_mul_ps(s.mw, bytes_as_floats(p + 32 * i + 16, false));
    } else if (f.has_sub) {
        s.dw = _mm512_mul_ps(s.dw, bytes_as_floats(p + 16 * i, true));
    } else if (type == NIGH_TYPE_Q4_1 || type == NIGH_TYPE_Q5_1) {
        s.mw = _mm512_xor_ps(s.mw, _mm512_set1_ps(-0.0f));
    }
    return s;
}

ALWAYS unsigned log2_of(unsigned v) { return v == 128 ? 7 : v == 32 ? 5 : v == 16 ? 4 : v == 8 ? 3 : v == 4 ? 2 : 0; }

#endif
