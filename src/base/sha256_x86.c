/* sha256_x86.c - blocks of SHA-256 with the processor's own instructions, several times as fast; sha256.c asks
 * for it where there is much to hash. The same function, so the same digest.
 *
 * The instructions want the eight words of the state as two registers, lowest lane first: F E B A and H G D C. One of
 * them does two rounds: it takes both registers and the sum of schedule and constant, and gives the new F E B A; the
 * old one is then the new H G D C. Sixteen words of the schedule live in four registers, which take turns. */
#include "base/sha256.h"

#if defined(__x86_64__) && defined(__GNUC__)

#include <immintrin.h>

#define WITH_SHA __attribute__((target("sha,sse4.1")))

static void cpuid(uint32_t leaf, uint32_t *b, uint32_t *c) {
    uint32_t a = leaf, d;
    *c = 0;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(*b), "+c"(*c), "=d"(d));
}

/* SSSE3, SSE4.1 (leaf 1) and SHA (leaf 7). Intel SDM, vol. 2, CPUID. */
bool nigh_sha256_x86_found(void) {
    uint32_t b, c;
    cpuid(0, &b, &c);
    cpuid(1, &b, &c);
    bool sse = (c >> 9 & 1) && (c >> 19 & 1);
    cpuid(7, &b, &c);
    return sse && (b >> 29 & 1);
}

/* Four rounds with the schedule words of `w`. */
WITH_SHA static inline void four_rounds(__m128i *feba, __m128i *hgdc, __m128i w, const uint32_t *constants) {
    __m128i sum = _mm_add_epi32(w, _mm_loadu_si128((const __m128i *)(const void *)constants));
    __m128i next = _mm_sha256rnds2_epu32(*hgdc, *feba, sum);
    *hgdc = _mm_sha256rnds2_epu32(*feba, next, _mm_shuffle_epi32(sum, 0x0e));
    *feba = *hgdc;
    *hgdc = next;
}

/* The next four words of the schedule, from the last sixteen: a, b, c, d in rising order. */
WITH_SHA static inline __m128i schedule(__m128i a, __m128i b, __m128i c, __m128i d) {
    __m128i middle = _mm_alignr_epi8(d, c, 4);          /* w[t - 7] */
    return _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(a, b), middle), d);
}

WITH_SHA void nigh_sha256_x86(uint32_t state[8], const uint8_t *blocks, size_t count, const uint32_t constants[64]) {
    const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i dcba = _mm_loadu_si128((const __m128i *)(const void *)state);
    __m128i hgfe = _mm_loadu_si128((const __m128i *)(const void *)(state + 4));
    __m128i badc = _mm_shuffle_epi32(dcba, 0xb1), efgh = _mm_shuffle_epi32(hgfe, 0x1b);
    __m128i feba = _mm_alignr_epi8(badc, efgh, 8), hgdc = _mm_blend_epi16(efgh, badc, 0xf0);
    for (; count > 0; count--, blocks += 64) {
        __m128i w[4], feba_before = feba, hgdc_before = hgdc;
        for (size_t i = 0; i < 4; i++) {
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(blocks + 16 * i)), big_endian);
            four_rounds(&feba, &hgdc, w[i], constants + 4 * i);
        }
        for (size_t t = 16; t < 64; t += 16) {
            for (size_t i = 0; i < 4; i++) {
                w[i] = schedule(w[i], w[(i + 1) % 4], w[(i + 2) % 4], w[(i + 3) % 4]);
                four_rounds(&feba, &hgdc, w[i], constants + t + 4 * i);
            }
        }
        feba = _mm_add_epi32(feba, feba_before);
        hgdc = _mm_add_epi32(hgdc, hgdc_before);
    }
    __m128i abef = _mm_shuffle_epi32(feba, 0x1b), dchg = _mm_shuffle_epi32(hgdc, 0xb1);
    _mm_storeu_si128((__m128i *)(void *)state, _mm_blend_epi16(abef, dchg, 0xf0));
    _mm_storeu_si128((__m128i *)(void *)(state + 4), _mm_alignr_epi8(dchg, abef, 8));
}

#else

bool nigh_sha256_x86_found(void) { return false; }

void nigh_sha256_x86(uint32_t state[8], const uint8_t *blocks, size_t count, const uint32_t constants[64]) {
    (void)state;
    (void)blocks;
    (void)count;
    (void)constants;
}

#endif
