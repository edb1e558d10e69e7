/* exports_probe.c - one call for the browser's probe: the product that decoding spends its time in, over a matrix of
 * its own, so that a page can time the arithmetic of a device before any model is there. */
#include "kernel/kernel.h"

#pragma GCC diagnostic ignored "-Wmissing-prototypes"

enum { SIDE = 1024 /* Q8_0: 1.06 MiB, more than a first cache holds */, BLOCKS = SIDE / NIGH_BLOCK };

static nigh_mat matrix;
static uint8_t *packed;
static float *in, *out;
static nigh_acts acts;

static bool prepare(void) {
    size_t group = nigh_mat_group_bytes(NIGH_TYPE_Q8_0, SIDE);
    if (packed) return true;
    packed = nigh_alloc(group, SIDE / NIGH_ROWS);
    in = nigh_alloc(sizeof *in, SIDE);
    out = nigh_alloc(sizeof *out, SIDE);
    acts = (nigh_acts){ .cols = SIDE, .count = 1, .x = in, .q = nigh_alloc(1, SIDE),
        .scale = nigh_alloc(sizeof(float), BLOCKS), .sum = nigh_alloc(sizeof(int32_t), 2 * BLOCKS) };
    if (!packed || !in || !out || !acts.q || !acts.scale || !acts.sum) return false;
    for (size_t i = 0; i < SIDE; i++) in[i] = (float)(i % 7) - 3;
    matrix = (nigh_mat){ NIGH_TYPE_Q8_0, SIDE, SIDE, group, packed };
    return true;
}

/* `rounds` products of 1024 x 1024 Q8_0 with one vector. Returns 0, or ENOMEM. */
__attribute__((export_name("probe_product"))) int wasm_probe_product(uint32_t rounds) {
    nigh_kernels k;
    if (!prepare()) return NIGH_ENOMEM;
    nigh_kernels_init(&k, nigh_cpu_detect());
    for (uint32_t i = 0; i < rounds; i++) {
        k.quantize(&acts, 0, 1);
        k.matmul(&matrix, &acts, out, SIDE, 0, SIDE / NIGH_ROWS);
    }
    return 0;
}
