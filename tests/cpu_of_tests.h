/* cpu_of_tests.h - the instruction sets that a test can run: those of this processor, and AMX, emulated where there is
 * AVX-512 without it. The test defines _GNU_SOURCE before anything else. */
#ifndef NIGH_CPU_OF_TESTS_H
#define NIGH_CPU_OF_TESTS_H

#include "kernel/kernel.h"

#if defined(__x86_64__)
#include "amx_emulator.h"
#endif

static inline unsigned cpu_of_tests(void) {
    unsigned cpu = nigh_cpu_detect();
#if defined(__x86_64__)
    if ((cpu & NIGH_CPU_AVX512) && !(cpu & NIGH_CPU_AMX)) {
        amx_emulate();
        cpu |= NIGH_CPU_AMX;
    }
#endif
    return cpu;
}

#endif
