/* quantize_avx2.c - activations to int8 with AVX2, also what the AVX-512 table uses.
 *
 * The same numbers as quantize_block of kernel_loops.h, eight blocks of 32 at a time: the largest sizes of eight blocks
 * end in the eight lanes of one register, so that the two divisions are made once for all of them.
 *
 * A block's q are rounded by adding 1.5 * 2^23, are at most 127 in size, and so survive both saturating packs. A block
 * that is not usable (tiny, NaN, infinite) may hold anything until its mask makes it 0. */
#if defined(__AVX2__)

#include <immintrin.h>

#include "kernel/kernel_isa.h"

enum { TOGETHER = 8 };

typedef struct {
    float by[TOGETHER], scale[TOGETHER];
    int32_t usable[TOGETHER];           /* all bits or none */
} limits;

ALWAYS __m256i size_bits(const float *x) {
    __m256i v = _mm256_castps_si256(_mm256_loadu_ps(x));
    return _mm256_and_si256(v, _mm256_set1_epi32(0x7fffffff));
}

/* Eight partial maxima of the sizes of a block, as bits: a NaN is larger than infinity. */
ALWAYS __m256i block_tops(const float *x) {
    __m256i a = _mm256_max_epi32(size_bits(x), size_bits(x + 8));
    return _mm256_max_epi32(a, _mm256_max_epi32(size_bits(x + 16), size_bits(x + 24)));
}

ALWAYS __m256i merge_32(__m256i a, __m256i b) {
    return _mm256_max_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
}
ALWAYS __m256i merge_64(__m256i a, __m256i b) {
    return _mm256_max_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
}

/* Lane i: the largest size in block i, of `count` blocks from x on. */
ALWAYS __m256i tops_of(const float *x, size_t count) {
    UNSET __m256i t[TOGETHER];
    for (size_t i = 0; i < TOGETHER; i++) t[i] = i < count ? block_tops(x + i * NIGH_BLOCK) : _mm256_setzero_si256();
    __m256i low = merge_64(merge_32(t[0], t[1]), merge_32(t[2], t[3]));
    __m256i high = merge_64(merge_32(t[4], t[5]), merge_32(t[6], t[7]));
    return _mm256_max_epi32(_mm256_permute2x128_si256(low, high, 0x20), _mm256_permute2x128_si256(low, high, 0x31));
}

ALWAYS void limits_of(__m256i tops, limits *out) {
    const __m256i infinite = _mm256_set1_epi32(0x7f800000), smallest = _mm256_set1_epi32(0x0d800000 - 1); /* 2^-100 */
    __m256i finite = _mm256_cmpgt_epi32(infinite, tops);
    __m256i usable = _mm256_and_si256(finite, _mm256_cmpgt_epi32(tops, smallest));
    __m256 most = _mm256_set1_ps(127.0f), largest = _mm256_castsi256_ps(tops);
    __m256 scale = _mm256_and_ps(_mm256_div_ps(largest, most), _mm256_castsi256_ps(usable));
    __m256 none = _mm256_andnot_ps(_mm256_castsi256_ps(finite), _mm256_castsi256_ps(_mm256_set1_epi32(0x7fc00000)));
    _mm256_storeu_ps(out->scale, _mm256_or_ps(scale, none));
    _mm256_storeu_ps(out->by, _mm256_div_ps(most, largest));
    _mm256_storeu_si256((__m256i *)(void *)out->usable, usable);
}

ALWAYS __m256i rounded(const float *x, __m256 by) {
    const __m256 magic = _mm256_set1_ps(12582912.0f);
    __m256 v = _mm256_add_ps(_mm256_mul_ps(_mm256_loadu_ps(x), by), magic);
    return _mm256_sub_epi32(_mm256_castps_si256(v), _mm256_castps_si256(magic));
}

/* The 32 q of one block, and minus their sums. */
ALWAYS void quantize_block_avx2(const float *x, float factor, int32_t usable, int8_t *q, int32_t sum[2]) {
    __m256 by = _mm256_set1_ps(factor);
    __m256i low = _mm256_packs_epi32(rounded(x, by), rounded(x + 8, by));
    __m256i high = _mm256_packs_epi32(rounded(x + 16, by), rounded(x + 24, by));
    __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(low, high), order);
    bytes = _mm256_and_si256(bytes, _mm256_set1_epi32(usable));
    _mm256_storeu_si256((__m256i *)(void *)q, bytes);
    /* Sums of eight bytes each, raised by 128: a half of 16 is two of them. */
    __m256i sums = _mm256_sad_epu8(_mm256_xor_si256(bytes, _mm256_set1_epi8(-128)), _mm256_setzero_si256());
    sums = _mm256_add_epi32(sums, _mm256_shuffle_epi32(sums, 0x4e));
    int32_t first = 16 * 128 - _mm256_extract_epi32(sums, 0), second = 16 * 128 - _mm256_extract_epi32(sums, 4);
    sum[0] = first + second;
    sum[1] = (int32_t)(((uint32_t)first & 0xffffu) | (uint32_t)second << 16);
}

/* `count` blocks of one token, which lie `width` blocks apart in the activations. */
ALWAYS void quantize_run(const nigh_acts *a, const float *x, size_t at, size_t width, size_t count) {
    UNSET limits l;
    limits_of(tops_of(x, count), &l);
    for (size_t i = 0; i < count; i++, at += width) {
        a->scale[at] = l.scale[i];
        quantize_block_avx2(x + i * NIGH_BLOCK, l.by[i], l.usable[i], a->q + at * NIGH_BLOCK, a->sum + 2 * at);
    }
}

void nigh_quantize_blocks_avx2(const nigh_acts *a, const float *x, size_t x_stride, size_t begin, size_t end,
                               size_t first_block, size_t last_block) {
    for (size_t t = begin; t < end; t++, x += x_stride) {
        size_t start = nigh_acts_at(a, t, 0), width = nigh_acts_at(a, t, 1) - start, b = first_block;
        const float *from = x;
        for (; b + TOGETHER <= last_block; b += TOGETHER, from += TOGETHER * NIGH_BLOCK)
            quantize_run(a, from, start + b * width, width, TOGETHER);
        if (b < last_block) quantize_run(a, from, start + b * width, width, last_block - b);
    }
}

void nigh_quantize_avx2(const nigh_acts *a, size_t begin, size_t end) {
    nigh_quantize_blocks_avx2(a, a->x + begin * a->cols, a->cols, begin, end, 0, a->cols / NIGH_BLOCK);
}

#endif
