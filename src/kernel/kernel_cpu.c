/* kernel_cpu.c - which instruction sets this processor has, and the words that lower the choice. */
#include "base/os.h"
#include "kernel/kernel_isa.h"

unsigned nigh_cpu_detect(void) {
#if defined(__x86_64__) && defined(__GNUC__)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("f16c")) return 0;
    bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
                && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")
                && __builtin_cpu_supports("avx512vnni");
    if (!wide) return NIGH_CPU_AVX2;
    bool tiles = __builtin_cpu_supports("amx-tile") && __builtin_cpu_supports("amx-int8") && nigh_os_tiles_ask();
    return NIGH_CPU_AVX2 | NIGH_CPU_AVX512 | (tiles ? NIGH_CPU_AMX : 0);
#elif defined(__aarch64__)
    enum { HAS_DOTPROD = 1 << 20 };     /* HWCAP_ASIMDDP of Linux */
    return NIGH_CPU_NEON | (nigh_os_hwcap() & HAS_DOTPROD ? NIGH_CPU_DOTPROD : 0);
#elif defined(__wasm_simd128__)
    return NIGH_CPU_WASM;
#else
    return 0;
#endif
}

bool nigh_cpu_parse(nigh_str name, unsigned *flags) {
    static const struct { nigh_str name; unsigned flags; } names[] = {
        { { "scalar", 6 }, 0 }, { { "avx2", 4 }, NIGH_CPU_AVX2 },
        { { "avx512", 6 }, NIGH_CPU_AVX2 | NIGH_CPU_AVX512 },
        { { "amx", 3 }, NIGH_CPU_AVX2 | NIGH_CPU_AVX512 | NIGH_CPU_AMX },
        { { "neon", 4 }, NIGH_CPU_NEON }, { { "dotprod", 7 }, NIGH_CPU_NEON | NIGH_CPU_DOTPROD } };
    for (size_t i = 0; i < NIGH_COUNT(names); i++)
        if (nigh_str_eq(name, names[i].name)) { *flags = names[i].flags; return true; }
    return false;
}

void nigh_kernels_init(nigh_kernels *k, unsigned cpu) {
    nigh_kernels_ref(k);
    (void)cpu;
#if defined(__x86_64__)
    if (cpu & NIGH_CPU_AVX2) nigh_kernels_avx2(k);
    if (cpu & NIGH_CPU_AVX512) nigh_kernels_avx512(k);
    if (cpu & NIGH_CPU_AMX) nigh_kernels_amx(k);
#elif defined(__aarch64__)
    if (cpu & NIGH_CPU_NEON) nigh_kernels_neon(k);
    if (cpu & NIGH_CPU_DOTPROD) nigh_kernels_dotprod(k);
#elif defined(__wasm_simd128__)
    if (cpu & NIGH_CPU_WASM) nigh_kernels_wasm(k);
#endif
}
