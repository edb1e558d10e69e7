/* pool_wasm.c - pool.h in the browser: one thread, so every call is a plain loop and there is no pool. */
#include "base/pool.h"

nigh_pool *nigh_pool_new(size_t threads) { (void)threads; return NULL; }
void nigh_pool_free(nigh_pool *p) { (void)p; }
size_t nigh_pool_size(const nigh_pool *p) { (void)p; return 1; }

void nigh_pool_ahead(nigh_pool *p, const void *bytes, size_t count) {
    (void)p;
    (void)bytes;
    (void)count;
}

nigh_pool_stats nigh_pool_about(const nigh_pool *p) {
    (void)p;
    return (nigh_pool_stats){ .active = 1 };
}

void nigh_pool_run(nigh_pool *p, nigh_pool_fn *fn, void *ud, size_t count, size_t grain) {
    (void)p;
    (void)grain;
    if (count) fn(ud, 0, 0, count);
}
