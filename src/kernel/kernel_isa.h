/* kernel_isa.h - inside the kernel room: each instruction set fills the slots it does better than the one before. */
#ifndef NIGH_KERNEL_ISA_H
#define NIGH_KERNEL_ISA_H

#include "kernel/kernel.h"

void nigh_kernels_ref(nigh_kernels *k);
#if defined(__x86_64__)
void nigh_kernels_avx2(nigh_kernels *k);
void nigh_kernels_avx512(nigh_kernels *k);
#endif

#endif
