/* pack.h - inside the kernel room: the shape of each quantised type, blocks of the file, blocks of a packed group.
 * The drawing of the packed layout is docs/format-packed.md. */
#ifndef NIGH_KERNEL_PACK_H
#define NIGH_KERNEL_PACK_H

#include "kernel/kernel.h"

enum { NIGH_PLANE = NIGH_ROWS * NIGH_BLOCK };   /* weights in one packed block: 16 rows x 32 columns */

#define NIGH_QUANT_TYPES(X) \
    X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q8_0) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_NL) X(IQ4_XS)

/* How a quantised type is built. bits 0: it is not quantised (F32, F16, BF16). */
typedef struct {
    uint16_t columns;           /* of one block of the file: 32 or 256                          */
    uint8_t bits;               /* of one weight                                                */
    uint8_t zero;               /* weight = stored - zero (IQ4: after the table, which adds 128) */
    uint8_t sub;                /* columns that share an integer scale: 16 or 32                */
    bool has_min, has_sub, table;
} nigh_form;

static inline nigh_form nigh_form_of(nigh_type type) {
    switch (type) {
    case NIGH_TYPE_Q4_0: return (nigh_form){ 32, 4, 8, 32, false, false, false };
    case NIGH_TYPE_Q4_1: return (nigh_form){ 32, 4, 0, 32, true, false, false };
    case NIGH_TYPE_Q5_0: return (nigh_form){ 32, 5, 16, 32, false, false, false };
    case NIGH_TYPE_Q5_1: return (nigh_form){ 32, 5, 0, 32, true, false, false };
    case NIGH_TYPE_Q8_0: return (nigh_form){ 32, 8, 128, 32, false, false, false };
    case NIGH_TYPE_IQ4_NL: return (nigh_form){ 32, 4, 128, 32, false, false, true };
    case NIGH_TYPE_Q2_K: return (nigh_form){ 256, 2, 0, 16, true, true, false };
    case NIGH_TYPE_Q3_K: return (nigh_form){ 256, 3, 4, 16, false, true, false };
    case NIGH_TYPE_Q4_K: return (nigh_form){ 256, 4, 0, 32, true, true, false };
    case NIGH_TYPE_Q5_K: return (nigh_form){ 256, 5, 0, 32, true, true, false };
    case NIGH_TYPE_Q6_K: return (nigh_form){ 256, 6, 32, 16, false, true, false };
    case NIGH_TYPE_IQ4_XS: return (nigh_form){ 256, 4, 128, 32, false, true, true };
    default: return (nigh_form){ 1, 0, 0, 1, false, false, false };
    }
}

/* Bytes of the planes of one packed block, and of the scales of 16 rows for one block of the file. */
static inline size_t nigh_form_plane_bytes(nigh_form f) { return (size_t)NIGH_PLANE * f.bits / 8; }
static inline size_t nigh_form_scale_bytes(nigh_form f) {
    size_t floats = f.has_min ? 64 : 32;                /* f16 d[16], and f16 m[16] */
    size_t per_block = f.sub == 16 || f.has_min ? 32 : 16;
    return floats + (f.has_sub ? per_block * (f.columns / NIGH_BLOCK) : 0);
}


/* A group is a row of spans: the planes of 8 blocks (256 columns; the last span may have fewer), then their scales. */
enum { NIGH_SPAN = 8 };
static inline size_t nigh_form_span_bytes(nigh_form f, size_t blocks) {
    return blocks * nigh_form_plane_bytes(f) + (f.columns == 256 ? 1 : blocks) * nigh_form_scale_bytes(f);
}
/* Where the planes of block b lie in a group of `blocks` blocks, and the scales of the file's block it belongs to. */
static inline size_t nigh_form_plane_at(nigh_form f, size_t b) {
    return b / NIGH_SPAN * nigh_form_span_bytes(f, NIGH_SPAN) + b % NIGH_SPAN * nigh_form_plane_bytes(f);
}
static inline size_t nigh_form_scale_at(nigh_form f, size_t blocks, size_t b) {
    size_t first = b / NIGH_SPAN * NIGH_SPAN, behind = nigh_min(NIGH_SPAN, blocks - first) * nigh_form_plane_bytes(f);
    return nigh_form_plane_at(f, first) + behind + (f.columns == 256 ? 0 : (b - first) * nigh_form_scale_bytes(f));
}

/* One block of the file: 32 or 256 columns of one row. u: weights before the zero point is taken away (IQ4: indices).
 * sc, mn: integer scales and minima, one for each `sub` columns (signed ones as their bytes). d, m: f16. */
typedef struct {
    uint8_t u[256], sc[16], mn[16];
    uint16_t d, m;
} nigh_block;

extern const int8_t nigh_iq4_values[16];
void nigh_block_read(nigh_type type, const uint8_t *src, nigh_block *b);
void nigh_block_values(nigh_type type, const nigh_block *b, float *out);

/* One block of 32 columns of a packed group, taken apart as the definition of matmul needs it.
 * Without sub-scales sc is 1 and mn is 1. */
typedef struct {
    int16_t w[NIGH_BLOCK][NIGH_ROWS];           /* the zero point taken away */
    float dw[NIGH_ROWS], mw[NIGH_ROWS];
    int32_t sc[2][NIGH_ROWS], mn[2][NIGH_ROWS];
} nigh_tile;
void nigh_tile_read(const nigh_mat *m, size_t group, size_t block, nigh_tile *t);

#endif
