/* pack_avx2.c - packing with AVX2: the same bytes as pack.c gives, which says what they are.
 *
 * A packed register is column k of 16 rows, four bytes of each; in the file a row's bytes lie together. So packing is
 * turning squares: 16 bytes of eight rows become four registers of eight rows (turn). What is left is done in these
 * registers, for eight rows at once: nibbles that lie 16 columns apart change places with those of the neighbour block,
 * and so do the pairs of bits and the single bits (swap).
 *
 *     row 0: a0 a1 a2 a3        a0 b0 c0 d0 e0 f0 g0 h0
 *     row 1: b0 b1 b2 b3   ->   a1 b1 c1 d1 ...            each a word of four columns
 *     ...                       ...
 *
 * Whole groups of 16 rows only, of the types that model files are made of; all else goes to pack.c. */
#if defined(__AVX2__)

#include <immintrin.h>

#include "kernel/kernel_isa.h"
#include "kernel/pack.h"

enum { HALF = 8 };              /* rows of a register */

/* Rows of the file from one block on: row r lies at `at + r * stride`. */
typedef struct { const uint8_t *at; size_t stride; } source;

ALWAYS source skip(source s, size_t bytes) { return (source){ s.at + bytes, s.stride }; }

ALWAYS __m256i two_rows(const uint8_t *p, const uint8_t *q) {
    __m128i low = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm256_inserti128_si256(_mm256_castsi128_si256(low), _mm_loadu_si128((const __m128i *)(const void *)q), 1);
}

/* 16 bytes of rows 8 h .. 8 h + 7 become four registers: word j of each of the rows. */
ALWAYS void turn(source s, size_t h, __m256i t[4]) {
    const uint8_t *p = s.at + h * HALF * s.stride;
    __m256i a = two_rows(p, p + 4 * s.stride), b = two_rows(p + s.stride, p + 5 * s.stride);
    __m256i c = two_rows(p + 2 * s.stride, p + 6 * s.stride), d = two_rows(p + 3 * s.stride, p + 7 * s.stride);
    __m256i ab = _mm256_unpacklo_epi32(a, b), cd = _mm256_unpacklo_epi32(c, d);
    t[0] = _mm256_unpacklo_epi64(ab, cd);
    t[1] = _mm256_unpackhi_epi64(ab, cd);
    ab = _mm256_unpackhi_epi32(a, b);
    cd = _mm256_unpackhi_epi32(c, d);
    t[2] = _mm256_unpacklo_epi64(ab, cd);
    t[3] = _mm256_unpackhi_epi64(ab, cd);
}

ALWAYS void put(uint8_t *p, __m256i v) { _mm256_storeu_si256((__m256i *)(void *)p, v); }
ALWAYS __m256i masked(__m256i v, int mask) { return _mm256_and_si256(v, _mm256_set1_epi8((char)mask)); }

/* The bits of `low` (of each byte) of *a and *b come together in *a, the others in *b; `by` is the width of such a
 * field. */
ALWAYS void swap(__m256i *a, __m256i *b, int by, int low) {
    __m256i first = _mm256_or_si256(masked(*a, low), _mm256_slli_epi16(masked(*b, low), by));
    *b = _mm256_or_si256(masked(_mm256_srli_epi16(*a, by), low), masked(*b, ~low));
    *a = first;
}

/* f16 at `at` of 16 rows, side by side. */
ALWAYS void put_halves(source s, uint8_t *out) {
    for (size_t r = 0; r < NIGH_ROWS; r++) memcpy(out + 2 * r, s.at + r * s.stride, 2);
}

/* ---- types of 32 columns ---- */

/* Bit 4 n + k of each word becomes bit n of its byte k. */
ALWAYS __m256i spread_bits(__m256i q) {
    __m256i out = _mm256_setzero_si256();
    for (int k = 0; k < 4; k++) {
        __m256i v = _mm256_and_si256(_mm256_srli_epi32(q, k), _mm256_set1_epi32(0x11111111));
        v = masked(_mm256_or_si256(v, _mm256_srli_epi32(v, 3)), 0x03);
        v = _mm256_and_si256(_mm256_or_si256(v, _mm256_srli_epi32(v, 6)), _mm256_set1_epi32(0x000f000f));
        v = _mm256_and_si256(_mm256_or_si256(v, _mm256_srli_epi32(v, 12)), _mm256_set1_epi32(0xff));
        out = _mm256_or_si256(out, _mm256_slli_epi32(v, 8 * k));
    }
    return out;
}

/* Half h of a block whose weights begin at `weights_at`, the fifth bits in front of them. */
ALWAYS void put_block_32(unsigned bits, size_t weights_at, source s, size_t h, uint8_t *plane) {
    UNSET __m256i t[4];
    const __m256i sign = _mm256_set1_epi8(-128);
    turn(skip(s, weights_at), h, t);
    for (size_t j = 0; j < 4; j++) put(plane + 64 * j + 32 * h, bits == 8 ? _mm256_xor_si256(t[j], sign) : t[j]);
    if (bits == 8) {
        turn(skip(s, weights_at + 16), h, t);
        for (size_t j = 0; j < 4; j++) put(plane + 256 + 64 * j + 32 * h, _mm256_xor_si256(t[j], sign));
    }
    if (bits != 5) return;
    turn(skip(s, weights_at - 4), h, t);
    put(plane + 256 + 32 * h, spread_bits(t[0]));
}

ALWAYS void pack_32(nigh_form f, size_t weights_at, source s, size_t blocks, uint8_t *span) {
    size_t plane_bytes = nigh_form_plane_bytes(f), scale_bytes = nigh_form_scale_bytes(f);
    uint8_t *scales = span + blocks * plane_bytes;
    for (size_t i = 0; i < blocks; i++, span += plane_bytes, scales += scale_bytes) {
        for (size_t h = 0; h < 2; h++) put_block_32(f.bits, weights_at, s, h, span);
        put_halves(s, scales);
        if (f.has_min) put_halves(skip(s, 2), scales + 32);
        s = skip(s, weights_at + (f.bits == 8 ? 32 : 16));
    }
}

/* ---- types of 256 columns ---- */

/* 32 bytes hold two blocks, one in their low, one in their high halves. Half h of both. */
ALWAYS void put_nibbles(source s, size_t h, uint8_t *low, uint8_t *high) {
    UNSET __m256i a[4], b[4];
    turn(s, h, a);
    turn(skip(s, 16), h, b);
    for (size_t j = 0; j < 4; j++) {
        swap(&a[j], &b[j], 4, 0x0f);
        put(low + 64 * j + 32 * h, a[j]);
        put(high + 64 * j + 32 * h, b[j]);
    }
}

/* 32 bytes hold the pairs of bits of four blocks, which lie `stride` bytes apart. */
ALWAYS void put_pairs(source s, size_t h, uint8_t *plane, size_t stride) {
    for (size_t i = 0; i < 2; i++) {
        UNSET __m256i t[4];
        turn(skip(s, 16 * i), h, t);
        swap(&t[0], &t[1], 2, 0x33);
        swap(&t[2], &t[3], 2, 0x33);
        swap(&t[0], &t[2], 4, 0x0f);
        swap(&t[1], &t[3], 4, 0x0f);
        for (size_t b = 0; b < 4; b++) put(plane + b * stride + 64 * i + 32 * h, t[b]);
    }
}

/* 32 bytes hold one bit of each weight of eight blocks. */
ALWAYS void put_bits(source s, size_t h, uint8_t *plane, size_t stride) {
    UNSET __m256i t[8];
    turn(s, h, t);
    turn(skip(s, 16), h, t + 4);
    for (size_t i = 0; i < 8; i += 2) swap(&t[i], &t[i + 1], 1, 0x55);
    for (size_t i = 0; i < 8; i += i % 2 ? 3 : 1) swap(&t[i], &t[i + 2], 2, 0x33);
    for (size_t i = 0; i < 4; i++) swap(&t[i], &t[i + 4], 4, 0x0f);
    for (size_t b = 0; b < 8; b++) put(plane + b * stride + 32 * h, t[b]);
}

/* Byte i of the words of 16 rows, side by side, at out + 32 i. */
ALWAYS void put_bytes(__m256i first, __m256i second, uint8_t *out) {
    const __m256i order = _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 0, 4, 8, 12, 1, 5, 9,
                                           13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m256i words = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i a = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(first, order), words);
    __m256i b = _mm256_permutevar8x32_epi32(_mm256_shuffle_epi8(second, order), words);
    __m256i even = _mm256_unpacklo_epi64(a, b), odd = _mm256_unpackhi_epi64(a, b);
    _mm_storeu_si128((__m128i *)(void *)out, _mm256_castsi256_si128(even));
    _mm_storeu_si128((__m128i *)(void *)(out + 32), _mm256_castsi256_si128(odd));
    _mm_storeu_si128((__m128i *)(void *)(out + 64), _mm256_extracti128_si256(even, 1));
    _mm_storeu_si128((__m128i *)(void *)(out + 96), _mm256_extracti128_si256(odd, 1));
}

/* The eight 6-bit scales and minima of Q4_K and Q5_K, in the 12 bytes from s on (16 are read). */
ALWAYS void put_scales_6bit(source s, uint8_t *out) {
    UNSET __m256i t[2][4], sc[2][2], mn[2][2];
    for (size_t h = 0; h < 2; h++) {
        turn(s, h, t[h]);
        sc[h][0] = masked(t[h][0], 0x3f);
        mn[h][0] = masked(t[h][1], 0x3f);
        sc[h][1] = _mm256_or_si256(masked(t[h][2], 0x0f), masked(_mm256_srli_epi16(t[h][0], 2), 0x30));
        mn[h][1] = _mm256_or_si256(masked(_mm256_srli_epi16(t[h][2], 4), 0x0f),
                                   masked(_mm256_srli_epi16(t[h][1], 2), 0x30));
    }
    for (size_t i = 0; i < 2; i++) {
        put_bytes(sc[0][i], sc[1][i], out + 128 * i);
        put_bytes(mn[0][i], mn[1][i], out + 128 * i + 16);
    }
}

/* 16 scales of a byte: two for each block and row, side by side. */
ALWAYS void put_scales_16(source s, uint8_t *out) {
    UNSET __m256i a[4], b[4];
    const __m256i low = _mm256_set1_epi32(0xffff);
    turn(s, 0, a);
    turn(s, 1, b);
    for (size_t j = 0; j < 4; j++) {
        __m256i even = _mm256_packus_epi32(_mm256_and_si256(a[j], low), _mm256_and_si256(b[j], low));
        __m256i odd = _mm256_packus_epi32(_mm256_srli_epi32(a[j], 16), _mm256_srli_epi32(b[j], 16));
        put(out + 64 * j, _mm256_permute4x64_epi64(even, 0xd8));
        put(out + 64 * j + 32, _mm256_permute4x64_epi64(odd, 0xd8));
    }
}

/* Q4_K: d, m, 12 bytes of scales, nibbles. Q5_K: d, m, scales, fifth bits, nibbles. */
ALWAYS void pack_45_k(nigh_form f, source s, uint8_t *span) {
    size_t plane_bytes = nigh_form_plane_bytes(f), nibbles_at = f.bits == 5 ? 48 : 16;
    uint8_t *scales = span + NIGH_SPAN * plane_bytes;
    for (size_t c = 0; c < 4; c++)
        for (size_t h = 0; h < 2; h++)
            put_nibbles(skip(s, nibbles_at + 32 * c), h, span + 2 * c * plane_bytes, span + (2 * c + 1) * plane_bytes);
    for (size_t h = 0; f.bits == 5 && h < 2; h++) put_bits(skip(s, 16), h, span + 256, plane_bytes);
    put_halves(s, scales);
    put_halves(skip(s, 2), scales + 32);
    put_scales_6bit(skip(s, 4), scales + 64);
}

/* Q6_K: nibbles, pairs of bits, scales, d. */
ALWAYS void pack_6_k(nigh_form f, source s, uint8_t *span) {
    size_t plane_bytes = nigh_form_plane_bytes(f);
    uint8_t *scales = span + NIGH_SPAN * plane_bytes;
    for (size_t n = 0; n < 2; n++) {
        uint8_t *at = span + 4 * n * plane_bytes;
        for (size_t h = 0; h < 2; h++) {
            put_nibbles(skip(s, 64 * n), h, at, at + 2 * plane_bytes);
            put_nibbles(skip(s, 64 * n + 32), h, at + plane_bytes, at + 3 * plane_bytes);
            put_pairs(skip(s, 128 + 32 * n), h, at + 256, plane_bytes);
        }
    }
    put_halves(skip(s, 208), scales);
    put_scales_16(skip(s, 192), scales + 32);
}

/* ---- groups ---- */

ALWAYS void pack_group(nigh_type type, source s, size_t cols, uint8_t *dst) {
    const nigh_form f = nigh_form_of(type);
    const size_t weights_at = type == NIGH_TYPE_Q5_1 ? 8 : type == NIGH_TYPE_Q5_0 ? 6 : f.has_min ? 4 : 2;
    const size_t span_bytes = nigh_form_span_bytes(f, NIGH_SPAN);
    for (size_t left = cols / NIGH_BLOCK; left;) {
        size_t blocks = nigh_min(NIGH_SPAN, left);
        if (f.columns == NIGH_BLOCK) {
            pack_32(f, weights_at, s, blocks, dst);
            s = skip(s, blocks * (weights_at + (f.bits == 8 ? 32 : 16)));
        } else if (f.bits == 6) {
            pack_6_k(f, s, dst);
            s = skip(s, 210);
        } else {
            pack_45_k(f, s, dst);
            s = skip(s, f.bits == 5 ? 176 : 144);
        }
        dst += span_bytes;
        left -= blocks;
    }
}

#define PACKED_HERE(X) X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q8_0) X(Q4_K) X(Q5_K) X(Q6_K)

#define DEFINE(name) \
    static void pack_##name(source s, size_t cols, uint8_t *dst) { pack_group(NIGH_TYPE_##name, s, cols, dst); }
PACKED_HERE(DEFINE)
#undef DEFINE

void nigh_pack_avx2(nigh_type type, size_t rows, size_t cols, const uint8_t *src, size_t group_idx, uint8_t *dst) {
    const nigh_type_info *info = nigh_type_find(type);
    size_t first = group_idx * NIGH_ROWS, group_bytes = nigh_mat_group_bytes(type, cols);
    assert(info && group_bytes && first < rows);
    void (*fn)(source s, size_t cols, uint8_t *dst) = NULL;
    switch (type) {
    case NIGH_TYPE_IQ4_NL: fn = pack_Q4_0; break;
#define CASE(name) case NIGH_TYPE_##name: fn = pack_##name; break;
    PACKED_HERE(CASE)
#undef CASE
    default: break;
    }
    if (!fn || rows - first < NIGH_ROWS) {
        nigh_mat_pack(type, rows, cols, src, group_idx, dst);
        return;
    }
    size_t stride = cols / info->block_values * info->block_bytes;
    memset(dst + group_bytes - 64, 0, 64);              /* what fills up the last line */
    fn((source){ src + first * stride, stride }, cols, dst);
}

#endif
