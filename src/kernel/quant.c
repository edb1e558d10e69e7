/* quant.c - the tensor types of GGUF files: what their bytes mean, and the writers of five of them.
 *
 * Owns the type table and the two 16-bit floats. Everything else goes through one form, nigh_block (pack.h):
 * nigh_block_read takes a block of the file apart into small unsigned weights and scales, nigh_block_values
 * says what they mean in f32. The packer (pack.c) uses the same two, so a packed weight cannot mean anything
 * else than the file's. The bytes of each type are drawn in docs/format-packed.md.
 *
 * Blocks come from outside: any byte is valid, a scale may be NaN or infinite, and none of it may do more
 * harm than a wrong number. */
#include "kernel/math.h"
#include "kernel/pack.h"
#include "kernel/quant.h"

static const struct {
    uint32_t id;
    nigh_type_info info;
} types[] = {
    { NIGH_TYPE_F32, { "F32", 1, 4 } },        { NIGH_TYPE_F16, { "F16", 1, 2 } },
    { NIGH_TYPE_BF16, { "BF16", 1, 2 } },      { NIGH_TYPE_Q4_0, { "Q4_0", 32, 18 } },
    { NIGH_TYPE_Q4_1, { "Q4_1", 32, 20 } },    { NIGH_TYPE_Q5_0, { "Q5_0", 32, 22 } },
    { NIGH_TYPE_Q5_1, { "Q5_1", 32, 24 } },    { NIGH_TYPE_Q8_0, { "Q8_0", 32, 34 } },
    { NIGH_TYPE_Q2_K, { "Q2_K", 256, 84 } },   { NIGH_TYPE_Q3_K, { "Q3_K", 256, 110 } },
    { NIGH_TYPE_Q4_K, { "Q4_K", 256, 144 } },  { NIGH_TYPE_Q5_K, { "Q5_K", 256, 176 } },
    { NIGH_TYPE_Q6_K, { "Q6_K", 256, 210 } },  { NIGH_TYPE_IQ4_NL, { "IQ4_NL", 32, 18 } },
    { NIGH_TYPE_IQ4_XS, { "IQ4_XS", 256, 136 } },
};

/* Every id that a GGUF file may hold, for messages only. */
static const char *const type_names[] = {
    "F32", "F16", "Q4_0", "Q4_1", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K",
    "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32",
    "I64", "F64", "IQ1_M", "BF16", "Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8", "TQ1_0", "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8",
    "IQ4_NL_8_8", "MXFP4", "NVFP4",
};

/* The 16 values of the IQ4 types. Part of the file format. */
const int8_t nigh_iq4_values[16] = { -127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113 };

const nigh_type_info *nigh_type_find(uint32_t gguf_id) {
    for (size_t i = 0; i < NIGH_COUNT(types); i++)
        if (types[i].id == gguf_id) return &types[i].info;
    return NULL;
}

const char *nigh_type_name(uint32_t gguf_id) {
    return gguf_id < NIGH_COUNT(type_names) ? type_names[gguf_id] : "type";
}

static char upper(char c) { return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c; }

static bool same_word(nigh_str a, const char *b) {
    size_t i = 0;
    for (; i < a.len && b[i]; i++)
        if (upper(a.ptr[i]) != b[i]) return false;
    return i == a.len && !b[i];
}

bool nigh_type_parse(nigh_str name, nigh_type *out) {
    for (size_t i = 0; i < NIGH_COUNT(types); i++) {
        if (!same_word(name, types[i].info.name)) continue;
        *out = (nigh_type)types[i].id;
        return true;
    }
    return false;
}

/* ---- 16-bit floats ---- */

float nigh_f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = h >> 10 & 31u, fraction = h & 0x3ffu;
    if (exponent == 31) return nigh_float_of(sign | 0x7f800000u | fraction << 13 | (fraction ? 0x400000u : 0u));
    if (exponent) return nigh_float_of(sign | (exponent + 112) << 23 | fraction << 13);
    float small = (float)fraction * 0x1p-24f;           /* zero or subnormal: exact in f32 */
    return sign ? -small : small;
}

uint16_t nigh_f32_to_f16(float f) {
    uint32_t u = nigh_bits32(f), sign = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (a >= 0x47800000u) return (uint16_t)(sign | 0x7c00u);           /* 65536 and above                         */
    if (a < 0x38800000u)                                               /* subnormal: the sum rounds to 2^-24 steps */
        return (uint16_t)(sign | (nigh_bits32(nigh_float_of(a) + 0.5f) - 0x3f000000u));
    a += 0xfffu + (a >> 13 & 1u);
    return (uint16_t)(sign | (a - 0x38000000u) >> 13);                 /* a carry into infinity is right */
}

float nigh_bf16_to_f32(uint16_t h) { return nigh_float_of((uint32_t)h << 16); }

uint16_t nigh_f32_to_bf16(float f) {
    uint32_t u = nigh_bits32(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1u)) >> 16);
}

/* ---- blocks of the file, taken apart ---- */

static uint16_t read16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }

/* Nibbles of 16 bytes: the low ones are columns 0..15, the high ones 16..31. */
static void nibbles_32(const uint8_t *q, uint8_t *u) {
    for (size_t i = 0; i < 16; i++) {
        u[i] = q[i] & 15;
        u[16 + i] = q[i] >> 4;
    }
}

/* Bit i of a byte of q becomes bit 4 of the i-th of eight u: eight copies of the byte, each with its own bit left, are
 * 0 or not. (Little endian, as all machines that this is built for.) */
static void fifth_bits(const uint8_t *q, uint8_t *u) {
    const uint64_t ones = 0x0101010101010101u;
    for (size_t i = 0; i < 4; i++) {
        uint64_t high = q[i] * ones & 0x8040201008040201u, low;
        memcpy(&low, u + 8 * i, 8);
        low |= ((high + 0x7f * ones) >> 7 & ones) << 4;
        memcpy(u + 8 * i, &low, 8);
    }
}

/* Nibbles of 128 bytes: 32 bytes hold 32 columns in their low and the next 32 in their high halves. */
static void nibbles_256(const uint8_t *q, uint8_t *u) {
    for (size_t n = 0; n < 4; n++)
        for (size_t i = 0; i < 32; i++) {
            u[64 * n + i] = q[32 * n + i] & 15;
            u[64 * n + 32 + i] = q[32 * n + i] >> 4;
        }
}

/* Pairs of bits of 64 bytes: 32 bytes hold four runs of 32 columns. */
static void pairs_256(const uint8_t *q, uint8_t *u) {
    for (size_t n = 0; n < 2; n++)
        for (size_t run = 0; run < 4; run++)
            for (size_t i = 0; i < 32; i++) u[128 * n + 32 * run + i] = q[32 * n + i] >> 2 * run & 3;
}

/* Bit `run` of 32 bytes belongs to the columns 32 run .. 32 run + 31 and becomes bit `to`. */
static void high_bits_256(const uint8_t *q, unsigned to, uint8_t *u) {
    for (size_t run = 0; run < 8; run++)
        for (size_t i = 0; i < 32; i++) u[32 * run + i] = (uint8_t)(u[32 * run + i] | (q[i] >> run & 1) << to);
}

/* The eight 6-bit scales and minima of Q4_K and Q5_K, in 12 bytes. */
static void scales_6bit(const uint8_t *q, nigh_block *b) {
    for (size_t i = 0; i < 4; i++) {
        b->sc[i] = q[i] & 63;
        b->mn[i] = q[i + 4] & 63;
        b->sc[i + 4] = (uint8_t)((q[i + 8] & 15) | q[i] >> 6 << 4);
        b->mn[i + 4] = (uint8_t)(q[i + 8] >> 4 | q[i + 4] >> 6 << 4);
    }
}

static void read_q2_k(const uint8_t *p, nigh_block *b) {
    for (size_t i = 0; i < 16; i++) {
        b->sc[i] = p[i] & 15;
        b->mn[i] = p[i] >> 4;
    }
    pairs_256(p + 16, b->u);
    b->d = read16(p + 80);
    b->m = read16(p + 82);
}

static void read_q3_k(const uint8_t *p, nigh_block *b) {
    const uint8_t *high = p, *scales = p + 96;
    pairs_256(p + 32, b->u);
    high_bits_256(high, 2, b->u);
    for (size_t i = 0; i < 16; i++) {
        unsigned low = i < 8 ? scales[i] & 15u : scales[i - 8] >> 4;
        b->sc[i] = (uint8_t)((low | (scales[8 + i % 4] >> 2 * (i / 4) & 3u) << 4) - 32u);
    }
    b->d = read16(p + 108);
}

static void read_q5_k(const uint8_t *p, nigh_block *b) {
    const uint8_t *high = p + 16;
    b->d = read16(p);
    b->m = read16(p + 2);
    scales_6bit(p + 4, b);
    nibbles_256(p + 48, b->u);
    high_bits_256(high, 4, b->u);
}

static void read_q6_k(const uint8_t *p, nigh_block *b) {
    const uint8_t *high = p + 128;
    for (size_t n = 0; n < 2; n++)
        for (size_t i = 0; i < 64; i++) {
            b->u[128 * n + i] = p[64 * n + i] & 15;
            b->u[128 * n + 64 + i] = p[64 * n + i] >> 4;
        }
    for (size_t n = 0; n < 2; n++)
        for (size_t run = 0; run < 4; run++)
            for (size_t i = 0; i < 32; i++) {
                uint8_t *u = &b->u[128 * n + 32 * run + i];
                *u = (uint8_t)(*u | (high[32 * n + i] >> 2 * run & 3) << 4);
            }
    memcpy(b->sc, p + 192, 16);
    b->d = read16(p + 208);
}

static void read_iq4_xs(const uint8_t *p, nigh_block *b) {
    unsigned high = read16(p + 2);
    b->d = read16(p);
    for (size_t i = 0; i < 8; i++) {
        unsigned low = p[4 + i / 2] >> 4 * (i % 2) & 15u;
        b->sc[i] = (uint8_t)((low | (high >> 2 * i & 3u) << 4) - 32u);
        nibbles_32(p + 8 + 16 * i, b->u + 32 * i);
    }
}

void nigh_block_read(nigh_type type, const uint8_t *p, nigh_block *b) {
    switch (type) {
    case NIGH_TYPE_Q4_0:
    case NIGH_TYPE_IQ4_NL: b->d = read16(p); nibbles_32(p + 2, b->u); break;
    case NIGH_TYPE_Q4_1: b->d = read16(p); b->m = read16(p + 2); nibbles_32(p + 4, b->u); break;
    case NIGH_TYPE_Q5_0: b->d = read16(p); nibbles_32(p + 6, b->u); fifth_bits(p + 2, b->u); break;
    case NIGH_TYPE_Q5_1:
        b->d = read16(p);
        b->m = read16(p + 2);
        nibbles_32(p + 8, b->u);
        fifth_bits(p + 4, b->u);
        break;
    case NIGH_TYPE_Q8_0:
        b->d = read16(p);
        for (size_t i = 0; i < 32; i++) b->u[i] = p[2 + i] ^ 0x80;
        break;
    case NIGH_TYPE_Q2_K: read_q2_k(p, b); break;
    case NIGH_TYPE_Q3_K: read_q3_k(p, b); break;
    case NIGH_TYPE_Q4_K:
        b->d = read16(p);
        b->m = read16(p + 2);
        scales_6bit(p + 4, b);
        nibbles_256(p + 16, b->u);
        break;
    case NIGH_TYPE_Q5_K: read_q5_k(p, b); break;
    case NIGH_TYPE_Q6_K: read_q6_k(p, b); break;
    case NIGH_TYPE_IQ4_XS: read_iq4_xs(p, b); break;
    case NIGH_TYPE_F32:
    case NIGH_TYPE_F16:
    case NIGH_TYPE_BF16: break;
    }
}

/* What a block means. Every product below is rounded once, in the order in which the format defines it. */
void nigh_block_values(nigh_type type, const nigh_block *b, float *out) {
    float d = nigh_f16_to_f32(b->d), m = nigh_f16_to_f32(b->m);
    nigh_form form = nigh_form_of(type);
    for (size_t i = 0; i < form.columns; i++) {
        int w = (int)b->u[i] - form.zero;
        size_t s = i / form.sub;
        switch (type) {
        case NIGH_TYPE_Q4_1:
        case NIGH_TYPE_Q5_1: out[i] = (float)w * d + m; break;
        case NIGH_TYPE_Q2_K:
        case NIGH_TYPE_Q4_K:
        case NIGH_TYPE_Q5_K: out[i] = d * (float)b->sc[s] * (float)w - m * (float)b->mn[s]; break;
        case NIGH_TYPE_Q3_K:
        case NIGH_TYPE_Q6_K: out[i] = d * (float)(int8_t)b->sc[s] * (float)w; break;
        case NIGH_TYPE_IQ4_XS: out[i] = d * (float)(int8_t)b->sc[s] * (float)nigh_iq4_values[b->u[i]]; break;
        case NIGH_TYPE_IQ4_NL: out[i] = d * (float)nigh_iq4_values[b->u[i]]; break;
        default: out[i] = (float)w * d; break;
        }
    }
}

void nigh_dequantize(nigh_type type, const uint8_t *src, float *out, size_t count) {
    const nigh_type_info *info = nigh_type_find(type);
    assert(info && count % info->block_values == 0);
    if (type == NIGH_TYPE_F32) {
        for (size_t i = 0; i < count; i++)
            out[i] = nigh_float_of((uint32_t)read16(src + 4 * i) | (uint32_t)read16(src + 4 * i + 2) << 16);
    } else if (type == NIGH_TYPE_F16) {
        for (size_t i = 0; i < count; i++) out[i] = nigh_f16_to_f32(read16(src + 2 * i));
    } else if (type == NIGH_TYPE_BF16) {
        for (size_t i = 0; i < count; i++) out[i] = nigh_bf16_to_f32(read16(src + 2 * i));
    } else {
        nigh_block b = { 0 };
        for (size_t i = 0; i < count; i += info->block_values, src += info->block_bytes) {
            nigh_block_read(type, src, &b);
            nigh_block_values(type, &b, out + i);
        }
    }
}

/* ---- writers ---- */

static void write16(uint8_t *p, uint16_t v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

/* x cut to lo..hi as an integer, NaN to lo: a plain cast would be undefined for wild x. */
static int to_int(float x, float lo, float hi) { return (int)(x > lo ? (x < hi ? x : hi) : lo); }

/* d = largest size / 127; q = x / d rounded half away from zero. */
static void write_q8_0(const float *x, uint8_t *p) {
    float top = 0.0f;
    for (size_t i = 0; i < 32; i++) top = nigh_absf(x[i]) > top ? nigh_absf(x[i]) : top;
    float d = top / 127.0f, inverse = d != 0.0f ? 1.0f / d : 0.0f;
    write16(p, nigh_f32_to_f16(d));
    for (size_t i = 0; i < 32; i++) {
        float v = x[i] * inverse, whole = (float)to_int(v, -128.0f, 127.0f), rest = v - whole;
        int q = (int)whole + (rest >= 0.5f) - (rest <= -0.5f);
        p[2 + i] = (uint8_t)(q > 127 ? 127 : q < -128 ? -128 : q);
    }
}

/* d = the value of largest size, with its sign, / -8; q = x / d + 8.5 cut to 0..15. */
static void write_q4_0(const float *x, uint8_t *p) {
    float top = 0.0f, value = 0.0f;
    for (size_t i = 0; i < 32; i++) {
        if (!(nigh_absf(x[i]) > top)) continue;
        top = nigh_absf(x[i]);
        value = x[i];
    }
    float d = value / -8.0f, inverse = d != 0.0f ? 1.0f / d : 0.0f;
    write16(p, nigh_f32_to_f16(d));
    for (size_t i = 0; i < 16; i++) {
        int low = to_int(x[i] * inverse + 8.5f, 0.0f, 15.0f), high = to_int(x[16 + i] * inverse + 8.5f, 0.0f, 15.0f);
        p[2 + i] = (uint8_t)(low | high << 4);
    }
}

bool nigh_quantize(nigh_type type, const float *x, uint8_t *dst, size_t count) {
    switch (type) {
    case NIGH_TYPE_F32:
        for (size_t i = 0; i < count; i++) {
            write16(dst + 4 * i, (uint16_t)nigh_bits32(x[i]));
            write16(dst + 4 * i + 2, (uint16_t)(nigh_bits32(x[i]) >> 16));
        }
        return true;
    case NIGH_TYPE_F16:
        for (size_t i = 0; i < count; i++) write16(dst + 2 * i, nigh_f32_to_f16(x[i]));
        return true;
    case NIGH_TYPE_BF16:
        for (size_t i = 0; i < count; i++) write16(dst + 2 * i, nigh_f32_to_bf16(x[i]));
        return true;
    case NIGH_TYPE_Q8_0:
        for (size_t i = 0; i + 32 <= count; i += 32, dst += 34) write_q8_0(x + i, dst);
        return true;
    case NIGH_TYPE_Q4_0:
        for (size_t i = 0; i + 32 <= count; i += 32, dst += 18) write_q4_0(x + i, dst);
        return true;
    default: return false;
    }
}
