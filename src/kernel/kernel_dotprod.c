/* kernel_dotprod.c - aarch64 with the dot product instructions (ARMv8.2 and later: most telephones since 2018, Apple
 * silicon, Graviton 2, a Raspberry Pi 5). sdot adds four products of signed bytes to an int32 lane, exactly; the
 * token's four bytes are one lane of a register, so nothing is broadcast. Built with that extension, asked for at run
 * time (kernel_cpu.c). The rest is kernel_neon.h. */
#if defined(__ARM_FEATURE_DOTPROD)

#include <arm_neon.h>

#include "kernel/kernel_isa.h"
#include "kernel/pack.h"

ALWAYS int32x4_t dots(nigh_form f, int32x4_t sum, const int8x16_t *w, const int8_t *q, int count) {
    int8x16_t token = vld1q_s8(q);
    (void)f;
    sum = vdotq_laneq_s32(sum, w[0], token, 0);
    sum = vdotq_laneq_s32(sum, w[1], token, 1);
    sum = vdotq_laneq_s32(sum, w[2], token, 2);
    sum = vdotq_laneq_s32(sum, w[3], token, 3);
    if (count == 4) return sum;
    token = vld1q_s8(q + 16);
    sum = vdotq_laneq_s32(sum, w[4], token, 0);
    sum = vdotq_laneq_s32(sum, w[5], token, 1);
    sum = vdotq_laneq_s32(sum, w[6], token, 2);
    return vdotq_laneq_s32(sum, w[7], token, 3);
}

#include "kernel/kernel_neon.h"

void nigh_kernels_dotprod(nigh_kernels *k) {
    k->name = "dotprod";
    loops_fill(k);
    k->matmul = neon_matmul;
    k->attend = lanes_attend;
}

#endif
