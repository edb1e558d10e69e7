/* pack.c - weights laid out for the kernels: 16 rows interleaved, so that the lanes of a vector are rows.
 *
 * Called once for each group when a model is loaded (nigh_mat_pack), by the embedding lookup (nigh_mat_row) and
 * by the plain C product (nigh_tile_read). A group of a quantised type, all of it a multiple of 64 bytes:
 *
 *     span 0: [planes of block 0]...[planes of block 7]     a block is 16 rows x 32 columns
 *             [scales of the file's block(s)]               f16 d[16], maybe f16 m[16], maybe bytes for each block
 *     span 1: ...                                           the last span may have fewer than 8 blocks
 *
 * so one token's product reads memory strictly forward.
 *
 * Register j (0..7) of a block holds columns 4j..4j+3 of 16 rows: byte 4 r + k is row r, column 4 j + k, which
 * is what an int8 dot product wants. A plane keeps some bits of each byte:
 *
 *     8 bits   register j                                  at 64 j
 *     4 bits   registers j (low) and j + 4 (high nibble)   at 64 j, j < 4
 *     2 bits   registers 4 i + n in bits 2n, 2n + 1        at 64 i, i < 2
 *     1 bit    register n in bit n                         at 0
 *
 * Types with 5 bits have a plane of 4 and one of 1, with 6: 4 and 2, with 3: 2 and 1; the low plane comes first.
 * Rows that do not exist are zero bytes: a scale of 0. They are computed and never written out. */
#include "kernel/math.h"
#include "kernel/pack.h"

static uint16_t read16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static void write16(uint8_t *p, uint16_t v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

/* Bits of the low plane: 8, 4 or 2. What is missing is in a second plane behind it. */
static unsigned low_bits(nigh_form f) { return f.bits == 8 ? 8 : f.bits >= 4 ? 4 : 2; }

size_t nigh_mat_group_bytes(nigh_type type, size_t cols) {
    const nigh_type_info *info = nigh_type_find(type);
    if (!info || cols == 0 || cols >> 31 || cols % info->block_values) return 0;
    nigh_form f = nigh_form_of(type);
    if (!f.bits) return nigh_round_up(cols * NIGH_ROWS * info->block_bytes, 64);
    size_t planes = cols / NIGH_BLOCK * nigh_form_plane_bytes(f);
    return nigh_round_up(planes + cols / f.columns * nigh_form_scale_bytes(f), 64);
}

/* ---- into the packed form ---- */

static uint32_t load32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

/* `bits` bits of each byte of u[0..31], from bit `from` up, as one row of a plane, `bits` being 8, 4, 2 or 1. Four
 * columns go at once, as the four bytes of a word; their order in memory is that of the plane. */
static void put_plane(uint8_t *plane, size_t row, const uint8_t *u, unsigned bits, unsigned from) {
    size_t words = bits;                                /* of the plane: 8, 4, 2 or 1; each has 8 / bits registers */
    uint32_t mask = 0x01010101u * ((1u << bits) - 1);
    for (size_t i = 0; i < words; i++) {
        uint32_t word = 0;
        for (size_t n = 0; n < 8 / bits; n++) {
            size_t j = bits == 4 ? i + 4 * n : i * (8 / bits) + n;
            word |= (load32(u + 4 * j) >> from & mask) << n * bits;
        }
        memcpy(plane + 64 * i + 4 * row, &word, 4);
    }
}

/* The planes of one row and block: all that is below is known where this is inlined. */
static inline void put_planes(uint8_t *plane, size_t row, const uint8_t *u, unsigned bits) {
    switch (bits) {
    case 8: put_plane(plane, row, u, 8, 0); break;
    case 6:
        put_plane(plane, row, u, 4, 0);
        put_plane(plane + 256, row, u, 2, 4);
        break;
    case 5:
        put_plane(plane, row, u, 4, 0);
        put_plane(plane + 256, row, u, 1, 4);
        break;
    case 4: put_plane(plane, row, u, 4, 0); break;
    case 3:
        put_plane(plane, row, u, 2, 0);
        put_plane(plane + 128, row, u, 1, 2);
        break;
    default: put_plane(plane, row, u, 2, 0); break;
    }
}

static unsigned get_plane(const uint8_t *plane, size_t row, size_t column, unsigned bits) {
    size_t j = column / 4, share = 8 / bits;
    size_t at = bits == 4 ? j % 4 : j / share, shift = bits == 4 ? j / 4 * 4 : j % share * bits;
    return plane[64 * at + 4 * row + column % 4] >> shift & ((1u << bits) - 1);
}

static void put_scales(nigh_form f, uint8_t *scales, size_t row, const nigh_block *b) {
    write16(scales + 2 * row, b->d);
    if (f.has_min) write16(scales + 32 + 2 * row, b->m);
    if (!f.has_sub) return;
    scales += f.has_min ? 64 : 32;
    for (size_t i = 0; i < 8; i++) {
        if (f.sub == 16) {
            for (size_t h = 0; h < 2; h++)
                scales[32 * i + 2 * row + h] = (uint8_t)(b->sc[2 * i + h] | (f.has_min ? b->mn[2 * i + h] << 4 : 0));
        } else if (f.has_min) {
            scales[32 * i + row] = b->sc[i];
            scales[32 * i + 16 + row] = b->mn[i];
        } else {
            scales[16 * i + row] = b->sc[i];
        }
    }
}

static void get_scales(nigh_form f, const uint8_t *scales, size_t row, nigh_block *b) {
    b->d = read16(scales + 2 * row);
    b->m = f.has_min ? read16(scales + 32 + 2 * row) : 0;
    if (!f.has_sub) return;
    scales += f.has_min ? 64 : 32;
    for (size_t i = 0; i < 8; i++) {
        if (f.sub == 16) {
            for (size_t h = 0; h < 2; h++) {
                uint8_t byte = scales[32 * i + 2 * row + h];
                b->sc[2 * i + h] = f.has_min ? byte & 15 : byte;
                b->mn[2 * i + h] = f.has_min ? byte >> 4 : 0;
            }
        } else if (f.has_min) {
            b->sc[i] = scales[32 * i + row];
            b->mn[i] = scales[32 * i + 16 + row];
        } else {
            b->sc[i] = scales[16 * i + row];
        }
    }
}

/* F32, F16, BF16: [column][16 rows]. Some columns of all rows at a time, so that what is written stays near. */
static void pack_floats(size_t bytes, size_t cols, const uint8_t *src, size_t rows, uint8_t *dst) {
    enum { RUN = 64 };
    for (size_t first = 0; first < cols; first += RUN) {
        size_t end = nigh_min(first + RUN, cols);
        for (size_t r = 0; r < rows; r++) {
            const uint8_t *from = src + r * cols * bytes;
            if (bytes == 4)
                for (size_t c = first; c < end; c++) memcpy(dst + (c * NIGH_ROWS + r) * 4, from + c * 4, 4);
            else
                for (size_t c = first; c < end; c++) memcpy(dst + (c * NIGH_ROWS + r) * 2, from + c * 2, 2);
        }
    }
}

/* ---- types of 32 columns: what a plane of 4 or 8 bits wants lies in the file as it is ---- */

/* Bits 0, 4, .. 28 of each half become its bits 0..7. */
static uint64_t gather_fourth_bits(uint64_t v) {
    v = (v | v >> 3) & 0x0303030303030303u;
    v = (v | v >> 6) & 0x000f000f000f000fu;
    return (v | v >> 12) & 0x000000ff000000ffu;
}

/* The 32 fifth bits of a row as a word of a plane of one bit: bit 4 n + k becomes bit n of byte k. */
static uint32_t fifth_bits_word(uint32_t q) {
    uint64_t ones = 0x11111111u;
    uint64_t even = gather_fourth_bits((q & ones) | (q >> 2 & ones) << 32);
    uint64_t odd = gather_fourth_bits((q >> 1 & ones) | (q >> 3 & ones) << 32);
    even |= odd << 8;
    return (uint32_t)even | (uint32_t)(even >> 32) << 16;
}

/* A source of packing: `rows` rows of the file, from one block on. */
typedef struct { const uint8_t *at; size_t row_bytes, rows; } file_rows;

/* A span of `blocks` blocks. The weights begin at `weights_at` of a block, the fifth bits in front of them. The form is
 * known where this is inlined. */
static inline void pack_span_32(nigh_form f, size_t weights_at, const file_rows *s, size_t blocks, uint8_t *span) {
    size_t plane_bytes = nigh_form_plane_bytes(f), scale_bytes = nigh_form_scale_bytes(f);
    size_t block_bytes = weights_at + (f.bits == 8 ? 32 : 16);
    for (size_t r = 0; r < s->rows; r++) {
        const uint8_t *p = s->at + r * s->row_bytes;
        uint8_t *plane = span + 4 * r, *scales = span + blocks * plane_bytes + 2 * r;
        for (size_t i = 0; i < blocks; i++, p += block_bytes, plane += plane_bytes, scales += scale_bytes) {
            memcpy(scales, p, 2);
            if (f.has_min) memcpy(scales + 32, p + 2, 2);
            for (size_t j = 0; j < (f.bits == 8 ? 8 : 4); j++) {
                uint32_t word = load32(p + weights_at + 4 * j) ^ (f.bits == 8 ? 0x80808080u : 0);
                memcpy(plane + 64 * j, &word, 4);
            }
            if (f.bits != 5) continue;
            const uint8_t *q = p + weights_at - 4;
            uint32_t word = fifth_bits_word((uint32_t)read16(q) | (uint32_t)read16(q + 2) << 16);
            memcpy(plane + 256, &word, 4);
        }
    }
}

/* ---- types of 256 columns ---- */

static void pack_span_256(nigh_type type, nigh_form f, const file_rows *s, uint8_t *span) {
    size_t plane_bytes = nigh_form_plane_bytes(f);
    for (size_t r = 0; r < s->rows; r++) {
        nigh_block b;
        b.d = b.m = 0;
        nigh_block_read(type, s->at + r * s->row_bytes, &b);
        put_scales(f, span + NIGH_SPAN * plane_bytes, r, &b);
        for (size_t n = 0; n < NIGH_SPAN; n++) put_planes(span + n * plane_bytes, r, b.u + NIGH_BLOCK * n, f.bits);
    }
}

static void pack_span(nigh_type type, const file_rows *s, size_t blocks, uint8_t *span) {
    switch (type) {
    case NIGH_TYPE_Q4_0:
    case NIGH_TYPE_IQ4_NL: pack_span_32(nigh_form_of(NIGH_TYPE_Q4_0), 2, s, blocks, span); break;
    case NIGH_TYPE_Q4_1: pack_span_32(nigh_form_of(NIGH_TYPE_Q4_1), 4, s, blocks, span); break;
    case NIGH_TYPE_Q5_0: pack_span_32(nigh_form_of(NIGH_TYPE_Q5_0), 6, s, blocks, span); break;
    case NIGH_TYPE_Q5_1: pack_span_32(nigh_form_of(NIGH_TYPE_Q5_1), 8, s, blocks, span); break;
    case NIGH_TYPE_Q8_0: pack_span_32(nigh_form_of(NIGH_TYPE_Q8_0), 2, s, blocks, span); break;
    default: pack_span_256(type, nigh_form_of(type), s, span); break;
    }
}

void nigh_mat_pack(nigh_type type, size_t rows, size_t cols, const uint8_t *src, size_t group_idx, uint8_t *dst) {
    const nigh_type_info *info = nigh_type_find(type);
    size_t first = group_idx * NIGH_ROWS, group_bytes = nigh_mat_group_bytes(type, cols);
    assert(info && group_bytes && first < rows);
    nigh_form f = nigh_form_of(type);
    size_t row_bytes = cols / info->block_values * info->block_bytes;
    file_rows s = { src + first * row_bytes, row_bytes, nigh_min(rows - first, NIGH_ROWS) };
    if (s.rows < NIGH_ROWS) memset(dst, 0, group_bytes);
    else memset(dst + group_bytes - 64, 0, 64);         /* what fills up the last line */
    if (!f.bits) {
        pack_floats(info->block_bytes, cols, s.at, s.rows, dst);
        return;
    }
    for (size_t b = 0, blocks = cols / NIGH_BLOCK; b < blocks; b += NIGH_SPAN) {
        size_t span = nigh_min(NIGH_SPAN, blocks - b);
        pack_span(type, &s, span, dst);
        s.at += span * NIGH_BLOCK / f.columns * info->block_bytes;
        dst += nigh_form_span_bytes(f, span);
    }
}

/* ---- back out of it ---- */

static float get_float(nigh_type type, const uint8_t *p) {
    float out;
    nigh_dequantize(type, p, &out, 1);
    return out;
}

void nigh_mat_row(const nigh_mat *m, size_t row, float *out) {
    const nigh_type_info *info = nigh_type_find(m->type);
    assert(info && row < m->rows);
    nigh_form f = nigh_form_of(m->type);
    const uint8_t *group = m->data + row / NIGH_ROWS * m->group_bytes;
    size_t r = row % NIGH_ROWS;
    if (!f.bits) {
        for (size_t c = 0; c < m->cols; c++)
            out[c] = get_float(m->type, group + (c * NIGH_ROWS + r) * info->block_bytes);
        return;
    }
    unsigned low = low_bits(f);
    nigh_block b = { 0 };
    for (size_t c = 0; c < m->cols; c += f.columns) {
        get_scales(f, group + nigh_form_scale_at(f, m->cols / NIGH_BLOCK, c / NIGH_BLOCK), r, &b);
        for (size_t i = 0; i < f.columns; i++) {
            const uint8_t *plane = group + nigh_form_plane_at(f, (c + i) / NIGH_BLOCK);
            unsigned u = get_plane(plane, r, i % NIGH_BLOCK, low);
            if (f.bits > low) u |= get_plane(plane + NIGH_PLANE * low / 8, r, i % NIGH_BLOCK, f.bits - low) << low;
            b.u[i] = (uint8_t)u;
        }
        nigh_block_values(m->type, &b, out + c);
    }
}

static void tile_scales(nigh_form f, const uint8_t *scales, size_t i, nigh_tile *t) {
    for (size_t r = 0; r < NIGH_ROWS; r++) {
        nigh_block b = { 0 };
        get_scales(f, scales, r, &b);
        t->dw[r] = nigh_f16_to_f32(b.d);
        t->mw[r] = nigh_f16_to_f32(b.m);
        for (size_t h = 0; h < 2; h++) t->sc[h][r] = t->mn[h][r] = 1;
        if (f.sub == 16) {
            for (size_t h = 0; h < 2; h++) {
                t->sc[h][r] = f.has_min ? b.sc[2 * i + h] : (int8_t)b.sc[2 * i + h];
                t->mn[h][r] = b.mn[2 * i + h];
            }
        } else if (f.has_sub) {
            t->dw[r] *= f.has_min ? (float)b.sc[i] : (float)(int8_t)b.sc[i];
            t->mw[r] *= (float)b.mn[i];
        } else if (f.has_min) {
            t->mw[r] = -t->mw[r];               /* Q4_1, Q5_1 add their minimum, the others subtract it */
        }
    }
}

/* Adds one plane of `bits` bits to the weights, from bit `to` up. */
static void tile_plane(const uint8_t *plane, unsigned bits, unsigned to, nigh_tile *t) {
    unsigned share = 8 / bits, mask = (1u << bits) - 1;
    for (size_t j = 0; j < 8; j++) {
        size_t at = bits == 4 ? j % 4 : j / share, shift = bits == 4 ? j / 4 * 4 : j % share * bits;
        for (size_t k = 0; k < 4; k++)
            for (size_t r = 0; r < NIGH_ROWS; r++)
                t->w[4 * j + k][r] = (int16_t)(t->w[4 * j + k][r] | (plane[64 * at + 4 * r + k] >> shift & mask) << to);
    }
}

void nigh_tile_read(const nigh_mat *m, size_t group, size_t block, nigh_tile *t) {
    nigh_form f = nigh_form_of(m->type);
    const uint8_t *base = m->data + group * m->group_bytes, *plane = base + nigh_form_plane_at(f, block);
    unsigned low = low_bits(f);
    memset(t->w, 0, sizeof t->w);
    tile_plane(plane, low, 0, t);
    if (f.bits > low) tile_plane(plane + NIGH_PLANE * low / 8, f.bits - low, low, t);
    int16_t *w = &t->w[0][0];
    for (size_t i = 0; i < NIGH_PLANE; i++) w[i] = (int16_t)(f.table ? nigh_iq4_values[w[i] & 15] : w[i] - f.zero);
    tile_scales(f, base + nigh_form_scale_at(f, m->cols / NIGH_BLOCK, block), block % (f.columns / NIGH_BLOCK), t);
}
