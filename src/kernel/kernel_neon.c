/* kernel_neon.c - aarch64 without the dot product instructions (ARMv8.0: Cortex-A53, A72, a Raspberry Pi 4).
 *
 * smull multiplies eight signed bytes into int16, smlal adds further products, sadalp adds neighbours and widens to
 * int32. Before that, so many products may meet in one int16 (|q| <= 127, 32,767 is the largest):
 *
 *     up to 5 bits    8 of them: 8 * 31 * 127 = 31,496
 *     6 bits          4: 4 * 63 * 127 = 32,004
 *     8 bits, IQ4     2: 2 * 128 * 127 = 32,512
 *
 * Bytes 4r..4r+3 of a register are one row, so the two sums of neighbours of a row meet in the last step, addp. */
#if defined(__aarch64__)

#include <arm_neon.h>

#include "kernel/kernel_isa.h"
#include "kernel/pack.h"

ALWAYS int32x4_t dots(nigh_form f, int32x4_t sum, const int8x16_t *w, const int8_t *q, int count) {
    int32x4_t low = vdupq_n_s32(0), high = low;
    int meet = f.bits <= 5 && !f.table ? 8 : f.bits == 6 ? 4 : 2;
    meet = meet < count ? meet : count;
    UNROLL for (int j = 0; j < count; j += meet) {
        int16x8_t a = vdupq_n_s16(0), b = a;
        UNROLL for (int i = j; i < j + meet; i++) {
            int32_t four;
            memcpy(&four, q + 4 * i, 4);
            int8x8_t token = vreinterpret_s8_s32(vdup_n_s32(four));
            a = i == j ? vmull_s8(vget_low_s8(w[i]), token) : vmlal_s8(a, vget_low_s8(w[i]), token);
            b = i == j ? vmull_s8(vget_high_s8(w[i]), token) : vmlal_s8(b, vget_high_s8(w[i]), token);
        }
        low = vpadalq_s16(low, a);
        high = vpadalq_s16(high, b);
    }
    return vaddq_s32(sum, vpaddq_s32(low, high));
}

#include "kernel/kernel_neon.h"

void nigh_kernels_neon(nigh_kernels *k) {
    k->name = "neon";
    loops_fill(k);
    k->matmul = neon_matmul;
    k->attend = lanes_attend;
}

#endif
