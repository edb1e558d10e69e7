/* pool.h - threads that split one call over rows.
 * One caller at a time. Each thread begins with its own run of neighbouring chunks of `grain`, so that it reads
 * memory forward; who is through takes half of what another has left, so a busy core does not stop the rest.
 * Between calls the workers spin briefly, then sleep. What is computed may not depend on how the range is
 * cut. A NULL pool is a plain loop (the browser without threads). */
#ifndef NIGH_POOL_H
#define NIGH_POOL_H

#include "base/base.h"

typedef struct nigh_pool nigh_pool;

/* worker: 0..nigh_pool_size()-1, for scratch memory of one's own. */
typedef void nigh_pool_fn(void *ud, size_t worker, size_t begin, size_t end);

/* threads: 0 = one for each core this process may use; 1 gives a pool without extra threads. NULL when out of memory.
 */
nigh_pool *nigh_pool_new(size_t threads);
void nigh_pool_free(nigh_pool *p);
size_t nigh_pool_size(const nigh_pool *p);      /* 1 for NULL */
/* Calls fn until 0..count is done; returns when every part is. grain 0 counts as 1. */
void nigh_pool_run(nigh_pool *p, nigh_pool_fn *fn, void *ud, size_t count, size_t grain);

/* What the call after the next one will read: `rows` rows of `count` pieces of `piece` bytes, a multiple of 64; the
 * pieces of a row lie `stride` bytes apart, the rows `row_stride`. A thread's share begins with the piece of its first
 * unit. */
typedef struct { const void *bytes; size_t piece, stride, count, row_stride, rows; } nigh_pool_pieces;

/* Says it before a call: whoever has to wait asks for the beginning of its share. Only a hint; bytes may be NULL
 * (nothing), and the memory may be gone by then. */
void nigh_pool_ahead(nigh_pool *p, const void *bytes, size_t count);
void nigh_pool_ahead_pieces(nigh_pool *p, nigh_pool_pieces next);

typedef struct {
    uint64_t calls;             /* that were split: each is one meeting of the threads */
    uint64_t lowered;           /* times that fewer threads were found to be faster, because others use the cores */
    size_t active;              /* threads that take part now */
} nigh_pool_stats;
nigh_pool_stats nigh_pool_about(const nigh_pool *p);

/* In the browser (pool_wasm.c) only: thread number `worker` (1..size-1), which the host has started, works here until
 * the pool is freed. */
void nigh_pool_work(nigh_pool *p, size_t worker);

#endif
