/* math.h - exp, tanh, log and the like as fixed sequences of basic operations.
 *
 * A C library's expf differs from system to system; these do not: only + - * / , comparisons and bit
 * patterns, each rounded by IEEE 754, in the order written here. The f32 functions have no branches, so a
 * compiler may run 16 at once and every lane still gives the scalar's bits. Errors measured by test_kernel.c.
 *
 * The double functions are for tables made once (rotation angles) and for the sampler. */
#ifndef NIGH_KERNEL_MATH_H
#define NIGH_KERNEL_MATH_H

#include <stdint.h>
#include <string.h>

static inline uint32_t nigh_bits32(float f) {
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
static inline float nigh_float_of(uint32_t u) {
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline float nigh_absf(float x) { return nigh_float_of(nigh_bits32(x) & 0x7fffffffu); }
static inline float nigh_sqrtf(float x) { return __builtin_sqrtf(x); }   /* one correctly rounded instruction */

/* e^x, relative error below 2e-7. 0 below -86.99, infinity above 88.73, NaN for NaN.
 * x = n ln 2 + r; the Taylor series of e^r ends at r^7 (|r| < 0.3466: the rest is 5e-9); 2^n from its bits,
 * in two steps so that n = 128 overflows as it should. */
static inline float nigh_expf(float x) {
    const float magic = 12582912.0f;                    /* 1.5 * 2^23: adding it rounds to an integer */
    x = x < -87.5f ? -87.5f : x;
    x = x > 89.0f ? 89.0f : x;
    float shifted = x * 1.44269504f + magic;
    float n = shifted - magic;
    float r = (x - n * 0.693145752f) - n * 1.42860682e-6f;
    float p = r * (1.0f / 5040) + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    uint32_t power = (nigh_bits32(shifted) - nigh_bits32(magic) + 126u) << 23;
    return p * nigh_float_of(power) * 2.0f;
}

/* e^x of a softmax, x <= 0: relative error below 6e-7 down to -20, below 5e-6 to the end. What is less than e^-69.3
 * becomes 2^-100, so that no product with it is subnormal; NaN for NaN; 1 at 0. 2^f with |f| <= 1/2 by its minimax
 * polynomial (Remez, relative error 4.3e-7), 2^n added to its exponent. */
static inline float nigh_weightf(float x) {
    const float magic = 12582912.0f;
    float t = x * 1.44269504f;
    t = t < -100.0f ? -100.0f : t;
    float shifted = t + magic, f = t - (shifted - magic);
    float p = f * 0.00111255073f + 0.00966628268f;
    p = p * f + 0.0555740036f;
    p = p * f + 0.240223512f;
    p = p * f + 0.693142831f;
    p = p * f + 1.0f;
    return nigh_float_of(nigh_bits32(p) + (nigh_bits32(shifted) << 23));
}

/* tanh: near 0 its Taylor series, elsewhere 1 - 2 / (e^2|x| + 1); error below 2e-7 of the value. */
static inline float nigh_tanhf(float x) {
    float a = nigh_absf(x);
    float z = a * a;
    float p = z * (-1382.0f / 155925) + 62.0f / 2835;
    p = p * z - 17.0f / 315;
    p = p * z + 2.0f / 15;
    p = p * z - 1.0f / 3;
    float near = a + a * (z * p);
    float far = 1.0f - 2.0f / (nigh_expf(a + a) + 1.0f);
    float y = a < 0.35f ? near : far;
    return nigh_float_of(nigh_bits32(y) | (nigh_bits32(x) & 0x80000000u));
}

static inline float nigh_siluf(float x) { return x / (1.0f + nigh_expf(-x)); }

/* The tanh form of GELU: 0.5 x (1 + tanh(sqrt(2/pi) x (1 + 0.044715 x^2))). */
static inline float nigh_geluf(float x) {
    return 0.5f * x * (1.0f + nigh_tanhf(0.797884561f * x * (1.0f + 0.044715f * x * x)));
}

/* e^x to 2 ulp or so. 0 below -745, infinity above 709.8. */
static inline double nigh_exp64(double x) {
    const double magic = 6755399441055744.0;            /* 1.5 * 2^52 */
    if (!(x > -746.0)) return x != x ? x : 0.0;
    x = x > 710.0 ? 710.0 : x;
    double shifted = x * 1.4426950408889634 + magic, n = shifted - magic;
    double r = (x - n * 0x1.62e42fee00000p-1) - n * 0x1.a39ef35793c76p-33;
    double p = 1.0 / 6227020800;
    static const double factorial[] = { 479001600, 39916800, 3628800, 362880, 40320, 5040, 720, 120, 24, 6, 2, 1, 1 };
    for (unsigned i = 0; i < sizeof factorial / sizeof *factorial; i++) p = p * r + 1.0 / factorial[i];
    int64_t k = (int64_t)n, half = k / 2;
    uint64_t a = (uint64_t)(half + 1023) << 52, b = (uint64_t)(k - half + 1023) << 52;
    double fa, fb;
    memcpy(&fa, &a, 8);
    memcpy(&fb, &b, 8);
    return p * fa * fb;
}

/* ln x to 2 ulp or so. -infinity at 0, NaN below. x = m 2^e with m in [sqrt 1/2, sqrt 2); ln m = 2
 * artanh((m-1)/(m+1)). */
static inline double nigh_log64(double x) {
    uint64_t u;
    int e = 0;
    if (!(x > 0.0)) return x == 0.0 ? -__builtin_inf() : __builtin_nan("");
    if (x > 0x1.fffffffffffffp1023) return x;
    if (x < 0x1p-1022) { x *= 0x1p54; e = -54; }
    memcpy(&u, &x, 8);
    e += (int)(u >> 52) - 1023;
    u = (u & 0xfffffffffffffu) | 0x3ff0000000000000u;
    double m;
    memcpy(&m, &u, 8);
    if (m > 1.4142135623730951) { m *= 0.5; e++; }
    double f = (m - 1.0) / (m + 1.0), z = f * f, p = 0.0;
    for (int k = 23; k >= 3; k -= 2) p = (p + 1.0 / k) * z;
    return e * 0x1.62e42fee00000p-1 + (2.0 * f + (2.0 * f * p + e * 0x1.a39ef35793c76p-33));
}

/* x^y for x > 0: e^(y ln x). */
static inline double nigh_pow64(double x, double y) { return nigh_exp64(y * nigh_log64(x)); }

/* Sine and cosine of x radians, |x| < 10^7, to 1e-15. Further out (only a damaged model asks) sin 0, cos 1.
 * pi/2 in three parts of 30, 30 and 53 bits: the products with n < 2^23 are exact. */
static inline void nigh_sincos64(double x, double *sine, double *cosine) {
    const double magic = 6755399441055744.0;
    if (!(x > -1e7 && x < 1e7)) {
        *sine = 0.0;
        *cosine = 1.0;
        return;
    }
    double n = (x * 0.6366197723675814 + magic) - magic;
    double r = ((x - n * 0x1.921fb54p+0) - n * 0x1.10b46118p-30) - n * 0x1.313198a2e0370p-61, z = r * r;
    double s = 0.0, c = 0.0;
    for (int k = 18; k >= 2; k -= 2) {
        s = (1.0 + s) * (-z / (k * (k + 1)));
        c = (1.0 + c) * (-z / (k * (k - 1)));
    }
    s = r + r * s;
    c = 1.0 + c;
    unsigned quadrant = (unsigned)(int)n & 3u;
    double a = quadrant & 1 ? c : s, b = quadrant & 1 ? s : c;
    *sine = quadrant & 2 ? -a : a;
    *cosine = quadrant == 1 || quadrant == 2 ? -b : b;
}

static inline float nigh_logf(float x) { return (float)nigh_log64((double)x); }

#endif
