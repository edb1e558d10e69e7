/* libc.c - the few functions of the C library, and of the compiler itself, that the core rooms use, for the browser
 * build. Copying and filling become one instruction each (bulk memory); the rest are plain loops. Built with
 * -fno-builtin, so that no loop is turned into a call of itself. */
#include <stdint.h>
#include <string.h>

void *memcpy(void *restrict to, const void *restrict from, size_t n) { return __builtin_memcpy(to, from, n); }
void *memmove(void *to, const void *from, size_t n) { return __builtin_memmove(to, from, n); }
void *memset(void *to, int byte, size_t n) { return __builtin_memset(to, byte, n); }

int memcmp(const void *a, const void *b, size_t n) {
    const uint8_t *p = a, *q = b;
    for (size_t i = 0; i < n; i++) if (p[i] != q[i]) return p[i] < q[i] ? -1 : 1;
    return 0;
}

void *memchr(const void *p, int byte, size_t n) {
    const uint8_t *at = p;
    for (; n; n--, at++) if (*at == (uint8_t)byte) return (void *)(uintptr_t)at;
    return NULL;
}

size_t strlen(const char *s) {
    size_t n = 0;
    while (s[n]) n++;
    return n;
}

int strncmp(const char *a, const char *b, size_t n) {
    for (; n && *a == *b && *a; n--) { a++; b++; }
    return n ? (int)(uint8_t)*a - (int)(uint8_t)*b : 0;
}

int strcmp(const char *a, const char *b) { return strncmp(a, b, SIZE_MAX); }

char *strchr(const char *s, int c) {
    for (; *s != (char)c; s++) if (!*s) return NULL;
    return (char *)(uintptr_t)s;
}

/* The 128-bit product that the compiler asks for when it checks a 64-bit product for overflow: four products of 32-bit
 * halves, added with their carries. Signed and unsigned agree in the lower 128 bits. */
__int128 __multi3(__int128 a, __int128 b);
__int128 __multi3(__int128 a, __int128 b) {
    uint64_t a_low = (uint64_t)a, b_low = (uint64_t)b;
    uint64_t a0 = a_low & UINT32_MAX, a1 = a_low >> 32, b0 = b_low & UINT32_MAX, b1 = b_low >> 32;
    uint64_t low = a0 * b0, middle = a1 * b0 + (low >> 32), cross = a0 * b1 + (middle & UINT32_MAX);
    uint64_t high = a1 * b1 + (middle >> 32) + (cross >> 32);
    high += (uint64_t)(a >> 64) * b_low + a_low * (uint64_t)(b >> 64);
    return (__int128)((unsigned __int128)high << 64 | (cross << 32 | (low & UINT32_MAX)));
}
