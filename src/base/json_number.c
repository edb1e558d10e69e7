/* json_number.c - floats to the shortest decimal text that reads back as the same float, and back.
 *
 * Writing is the free-format algorithm of Steele and White (1990) with the scaling of Burger and Dybvig (1996): the
 * value and half the gaps to its neighbours are kept as exact fractions r/s, m_up/s, m_down/s in big integers, and
 * digits are produced until what is left lies inside the gap. It is exact, so no table of powers has to be trusted;
 * near 1.0 the integers have 2 or 3 limbs. Reading: up to 19 digits with a small power of ten are exact in one
 * operation; anything else starts from a close value and is corrected by an exact comparison of big integers against
 * the half way points. */
#include "base/json.h"

enum { LIMBS = 160, DIGITS_MAX = 780 };     /* 2^5120; a halfway point of two doubles has at most 767 digits */

typedef struct { uint32_t limb[LIMBS]; size_t count; } big;   /* little endian, no zero limb on top */

static void big_set(big *a, uint64_t v) {
    a->count = 0;
    for (; v; v >>= 32) a->limb[a->count++] = (uint32_t)v;
}

static void big_mul_add(big *a, uint32_t by, uint32_t plus) {
    uint64_t carry = plus;
    for (size_t i = 0; i < a->count; i++) {
        carry += (uint64_t)a->limb[i] * by;
        a->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
    assert(!carry || a->count < LIMBS);
    if (carry) a->limb[a->count++] = (uint32_t)carry;
}

static void big_pow10(big *a, size_t n) {
    for (; n >= 9; n -= 9) big_mul_add(a, 1000000000u, 0);
    for (; n; n--) big_mul_add(a, 10, 0);
}

static void big_shift(big *a, size_t bits) {
    size_t words = bits / 32;
    if (a->count == 0) return;
    if (words) {
        assert(a->count + words < LIMBS);
        memmove(a->limb + words, a->limb, a->count * sizeof *a->limb);
        memset(a->limb, 0, words * sizeof *a->limb);
        a->count += words;
    }
    big_mul_add(a, 1u << (bits % 32), 0);
}

static int big_cmp(const big *a, const big *b) {
    if (a->count != b->count) return a->count < b->count ? -1 : 1;
    for (size_t i = a->count; i-- > 0;) if (a->limb[i] != b->limb[i]) return a->limb[i] < b->limb[i] ? -1 : 1;
    return 0;
}

static void big_add(big *a, const big *b) {
    uint64_t carry = 0;
    for (size_t i = 0; i < b->count || carry; i++) {
        assert(i < LIMBS);
        if (i == a->count) a->limb[a->count++] = 0;
        carry += (uint64_t)a->limb[i] + (i < b->count ? b->limb[i] : 0);
        a->limb[i] = (uint32_t)carry;
        carry >>= 32;
    }
}

static void big_sub(big *a, const big *b) { /* a >= b */
    uint64_t borrow = 0;
    for (size_t i = 0; i < a->count; i++) {
        uint64_t take = (i < b->count ? b->limb[i] : 0) + borrow;
        borrow = a->limb[i] < take;
        a->limb[i] = (uint32_t)(a->limb[i] - take);
    }
    while (a->count && a->limb[a->count - 1] == 0) a->count--;
}

static int cmp_sum(const big *a, const big *b, const big *c) { /* a + b against c */
    big sum;
    sum.count = a->count;
    memcpy(sum.limb, a->limb, a->count * sizeof *a->limb);
    big_add(&sum, b);
    return big_cmp(&sum, c);
}

/* Digits of fraction * 2^exponent, shortest; *point: the value is 0.DIGITS * 10^point. narrow: the gap below is half
 * as wide. */
static size_t shortest(uint64_t fraction, int exponent, bool narrow, char *digits, int *point) {
    big r, s, up, down;
    bool even = !(fraction & 1);
    size_t extra = narrow ? 2 : 1, n = 0;
    int bits = 0;
    for (uint64_t f = fraction; f; f >>= 1) bits++;
    big_set(&r, fraction);
    big_set(&s, 1);
    big_set(&down, 1);
    big_shift(&r, (exponent > 0 ? (size_t)exponent : 0) + extra);
    big_shift(&s, (exponent < 0 ? (size_t)-exponent : 0) + extra);
    if (exponent > 0) big_shift(&down, (size_t)exponent);
    up = down;
    if (narrow) big_shift(&up, 1);
    int log2 = exponent + bits - 1;
    int k = (int)((int64_t)log2 * 30103 / 100000) - 2;      /* a little below log10; corrected upwards */
    if (k > 0) big_pow10(&s, (size_t)k);
    else { big_pow10(&r, (size_t)-k); big_pow10(&up, (size_t)-k); big_pow10(&down, (size_t)-k); }
    for (int c; (c = cmp_sum(&r, &up, &s)) > 0 || (c == 0 && even); k++) big_mul_add(&s, 10, 0);
    *point = k;
    for (;;) {
        char digit = '0';
        big_mul_add(&r, 10, 0);
        big_mul_add(&up, 10, 0);
        big_mul_add(&down, 10, 0);
        while (big_cmp(&r, &s) >= 0) { big_sub(&r, &s); digit++; }
        int low = big_cmp(&r, &down), high = cmp_sum(&r, &up, &s);
        bool is_low = low < 0 || (low == 0 && even), is_high = high > 0 || (high == 0 && even);
        if (is_low || is_high) {
            if (is_high && (!is_low || cmp_sum(&r, &r, &s) >= 0)) digit++;
            digits[n++] = digit;
            return n;
        }
        digits[n++] = digit;
    }
}

/* Plain notation from 0.00001 up to 17 places, else with an exponent. */
static nigh_status add_digits(nigh_buf *b, bool negative, const char *digits, size_t count, int point) {
    char text[64];
    size_t n = 0;
    if (negative) text[n++] = '-';
    if (point < -4 || point > 17) {
        text[n++] = digits[0];
        if (count > 1) text[n++] = '.';
        for (size_t i = 1; i < count; i++) text[n++] = digits[i];
        n += nigh_format(text + n, sizeof text - n, "e%d", point - 1);
        return nigh_buf_add(b, (nigh_str){ text, n });
    }
    if (point <= 0) text[n++] = '0';
    for (int i = point; i <= 0 && point <= 0; i++) text[n++] = i == point ? '.' : '0';
    for (size_t i = 0; i < count; i++) {
        if (point > 0 && (int)i == point) text[n++] = '.';
        text[n++] = digits[i];
    }
    for (int i = (int)count; i < point; i++) text[n++] = '0';
    return nigh_buf_add(b, (nigh_str){ text, n });
}

nigh_status nigh_json_add_f32(nigh_buf *b, float v) {
    uint32_t bits, fraction, field;
    char digits[32];
    int point;
    memcpy(&bits, &v, sizeof bits);
    field = bits >> 23 & 0xff;
    fraction = bits & 0x7fffff;
    if (field == 0xff) return nigh_buf_add(b, NIGH_STR("null"));
    if (field == 0 && fraction == 0) return nigh_buf_add(b, bits >> 31 ? NIGH_STR("-0") : NIGH_STR("0"));
    bool narrow = fraction == 0 && field > 1;
    size_t n = shortest(field ? fraction | 0x800000 : fraction, (field ? (int)field : 1) - 150, narrow, digits, &point);
    return add_digits(b, bits >> 31, digits, n, point);
}

nigh_status nigh_json_add_f64(nigh_buf *b, double v) {
    uint64_t bits, fraction, field;
    char digits[32];
    int point;
    memcpy(&bits, &v, sizeof bits);
    field = bits >> 52 & 0x7ff;
    fraction = bits & 0xfffffffffffff;
    if (field == 0x7ff) return nigh_buf_add(b, NIGH_STR("null"));
    if (field == 0 && fraction == 0) return nigh_buf_add(b, bits >> 63 ? NIGH_STR("-0") : NIGH_STR("0"));
    bool narrow = fraction == 0 && field > 1;
    size_t n = shortest(field ? fraction | 0x10000000000000 : fraction, (field ? (int)field : 1) - 1075, narrow,
                        digits, &point);
    return add_digits(b, bits >> 63, digits, n, point);
}

/* ---- reading ---- */
/* DIGITS * 10^exponent */
typedef struct { char digits[DIGITS_MAX]; size_t count; int64_t exponent; bool negative; } decimal;

static decimal scan(nigh_str s) {
    decimal d = { 0 };
    bool point = false;
    size_t i = 0;
    for (; i < s.len && s.ptr[i] != 'e' && s.ptr[i] != 'E'; i++) {
        if (s.ptr[i] == '-') { d.negative = true; continue; }
        if (s.ptr[i] == '.') { point = true; continue; }
        if (point) d.exponent--;
        if (d.count == 0 && s.ptr[i] == '0') continue;
        if (d.count < DIGITS_MAX) { d.digits[d.count++] = s.ptr[i]; continue; }
        d.exponent++;
        /* what follows only breaks ties */
        if (s.ptr[i] != '0') d.digits[DIGITS_MAX - 1] = (char)(d.digits[DIGITS_MAX - 1] | 1);
    }
    int64_t written = 0;
    nigh_str tail = nigh_str_slice(s, i + 1, s.len);
    if (tail.len && tail.ptr[0] == '+') tail = nigh_str_slice(tail, 1, tail.len);
    if (i < s.len && !nigh_str_to_i64(tail, &written))
        written = tail.len && tail.ptr[0] == '-' ? -1000000000 : 1000000000;
    if (written > 1000000000) written = 1000000000;
    if (written < -1000000000) written = -1000000000;
    d.exponent += written;
    while (d.count && d.digits[d.count - 1] == '0') { d.count--; d.exponent++; }
    return d;
}

static double f64_of_bits(uint64_t bits) {
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* The two integers of which every comparison is made: value = digits / tens. */
typedef struct { big digits, tens; } ratio;

static void ratio_of(const decimal *d, ratio *x) {
    big_set(&x->digits, 0);
    big_set(&x->tens, 1);
    for (size_t i = 0; i < d->count;) {
        uint32_t chunk = 0, power = 1;
        for (; i < d->count && power < 1000000000u; i++, power *= 10)
            chunk = chunk * 10 + (uint32_t)(d->digits[i] - '0');
        if (x->digits.count) big_mul_add(&x->digits, power, chunk);
        else big_set(&x->digits, chunk);
    }
    big_pow10(d->exponent > 0 ? &x->digits : &x->tens, (size_t)(d->exponent > 0 ? d->exponent : -d->exponent));
}

static void big_copy(big *to, const big *from) {
    to->count = from->count;
    memcpy(to->limb, from->limb, from->count * sizeof *from->limb);
}

/* The value against the point half way between the positive double of these bits and the next one above. */
static int cmp_halfway(const ratio *x, uint64_t bits) {
    big a, b, high;
    uint64_t field = bits >> 52;
    uint64_t half = 2 * ((bits & 0xfffffffffffff) | (field ? 0x10000000000000u : 0)) + 1;
    int64_t two = (field ? (int64_t)field : 1) - 1076;
    big_copy(&a, &x->digits);
    big_copy(&b, &x->tens);
    big_copy(&high, &x->tens);
    big_mul_add(&b, (uint32_t)half, 0);
    if (half >> 32) {
        big_mul_add(&high, (uint32_t)(half >> 32), 0);
        big_shift(&high, 32);
        big_add(&b, &high);
    }
    big_shift(two > 0 ? &b : &a, (size_t)(two > 0 ? two : -two));
    return big_cmp(&a, &b);
}

/* A double close to the decimal: 19 digits and a power of ten by squaring, some hundred units in the last place off
 * at most. */
static double close_to(const decimal *d) {
    double v = 0, power = 10, scale = 1;
    size_t used = nigh_min(d->count, 19);
    int64_t exponent = d->exponent + (int64_t)(d->count - used);
    for (size_t i = 0; i < used; i++) v = v * 10 + (d->digits[i] - '0');
    for (; exponent < -250; exponent += 50) v /= 1e50;
    for (uint64_t e = (uint64_t)(exponent < 0 ? -exponent : exponent); e; e >>= 1, power *= power)
        if (e & 1) scale *= power;
    return exponent < 0 ? v / scale : v * scale;
}

double nigh_json_to_f64(nigh_str text) {
    static const uint64_t infinity = 0x7ff0000000000000u;
    decimal d = scan(text);
    int64_t top = (int64_t)d.count + d.exponent;    /* the value is 0.DIGITS * 10^top */
    double sign = d.negative ? -1.0 : 1.0;
    if (d.count == 0 || top < -330) return sign * 0.0;
    if (top > 310) return sign * f64_of_bits(infinity);
    if (d.count <= 15 && d.exponent >= -22 && d.exponent <= 22) {
        double v = 0, scale = 1;
        for (size_t i = 0; i < d.count; i++) v = v * 10 + (d.digits[i] - '0');
        for (int64_t i = d.exponent < 0 ? -d.exponent : d.exponent; i; i--) scale *= 10;
        return sign * (d.exponent < 0 ? v / scale : v * scale);
    }
    ratio x;
    double near = close_to(&d);
    uint64_t low, high, reach = 4096;   /* the bits of positive doubles are ordered as their values */
    ratio_of(&d, &x);
    memcpy(&low, &near, sizeof low);
    high = low < infinity - reach ? low + reach : infinity;
    low = low > reach ? low - reach : 0;
    if (low && cmp_halfway(&x, low - 1) < 0) low = 0;
    if (high < infinity && cmp_halfway(&x, high) > 0) high = infinity;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        int c = cmp_halfway(&x, middle);
        if (c > 0 || (c == 0 && (middle & 1))) low = middle + 1;
        else high = middle;
    }
    return sign * f64_of_bits(low);
}
