/* quant.h - the tensor types of GGUF files: block layouts, row sizes, exact values.
 * Layouts follow the GGUF specification (gguf.md of ggml) and are described in docs/format-packed.md. */
#ifndef NIGH_QUANT_H
#define NIGH_QUANT_H

#include "base/base.h"

typedef enum { /* ids as in GGUF files */
    NIGH_TYPE_F32 = 0, NIGH_TYPE_F16 = 1, NIGH_TYPE_Q4_0 = 2, NIGH_TYPE_Q4_1 = 3, NIGH_TYPE_Q5_0 = 6,
    NIGH_TYPE_Q5_1 = 7, NIGH_TYPE_Q8_0 = 8, NIGH_TYPE_Q2_K = 10, NIGH_TYPE_Q3_K = 11, NIGH_TYPE_Q4_K = 12,
    NIGH_TYPE_Q5_K = 13, NIGH_TYPE_Q6_K = 14, NIGH_TYPE_IQ4_NL = 20, NIGH_TYPE_IQ4_XS = 23, NIGH_TYPE_BF16 = 30
} nigh_type;

typedef struct {
    const char *name;           /* "Q4_K" */
    uint32_t block_values;      /* values of one block: 1, 32 or 256 */
    uint32_t block_bytes;
} nigh_type_info;

/* NULL when the type is not supported. */
const nigh_type_info *nigh_type_find(uint32_t gguf_id);
/* The GGUF id of a name such as "q8_0" (any case); false when unknown or not supported. */
bool nigh_type_parse(nigh_str name, nigh_type *out);
/* The name of any type that GGUF knows, supported or not ("IQ2_XXS"), for error messages; "type" when unknown. */
const char *nigh_type_name(uint32_t gguf_id);

float nigh_f16_to_f32(uint16_t h);          /* exact; also subnormals, infinities, NaN */
uint16_t nigh_f32_to_f16(float f);          /* round half to even */
float nigh_bf16_to_f32(uint16_t h);
uint16_t nigh_f32_to_bf16(float f);         /* round half to even; NaN stays NaN */

/* `count` values (a multiple of the block) from file form to f32: exactly what the stored bits mean. */
void nigh_dequantize(nigh_type type, const uint8_t *src, float *out, size_t count);
/* f32 to F32, F16, BF16, Q8_0 or Q4_0, byte for byte what the reference quantiser of the format writes. False for
 * other types. */
bool nigh_quantize(nigh_type type, const float *x, uint8_t *dst, size_t count);

#endif
