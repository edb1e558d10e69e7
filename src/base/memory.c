/* memory.c - the one door to the heap. Counts what is live, so a leak is a number in a test, and can
 * be told to fail at the nth request, so every path of an empty memory is a test too.
 * Layout of a block: 64 bytes in front (its size), then the 64-byte aligned bytes the caller sees. */
#include <stdatomic.h>

#include "base/base.h"
#include "base/os.h"

enum { HEAD_BYTES = 64 };

static atomic_size_t live_bytes;
static atomic_uint_fast64_t fail_countdown; /* 0: off; 1: the next one fails */
static atomic_bool fail_forever;

static bool fault_injected(void) {
    uint_fast64_t n = atomic_load_explicit(&fail_countdown, memory_order_relaxed);
    if (n == 0) return false;
    if (n > 1) { atomic_store_explicit(&fail_countdown, n - 1, memory_order_relaxed); return false; }
    if (!atomic_load_explicit(&fail_forever, memory_order_relaxed)) atomic_store(&fail_countdown, 0);
    return true;
}

void *nigh_alloc(size_t size, size_t count) {
    size_t bytes, total;
    if (!nigh_mul(size, count, &bytes) || bytes == 0 || !nigh_add(bytes, HEAD_BYTES + 63, &total)) return NULL;
    if (fault_injected()) return NULL;
    uint8_t *p = nigh_os_heap_take(total & ~(size_t)63);
    if (!p) return NULL;
    memcpy(p, &bytes, sizeof bytes);
    memset(p + HEAD_BYTES, 0, bytes);
    atomic_fetch_add_explicit(&live_bytes, bytes, memory_order_relaxed);
    return p + HEAD_BYTES;
}

void nigh_free(void *ptr) {
    size_t bytes;
    if (!ptr) return;
    uint8_t *p = (uint8_t *)ptr - HEAD_BYTES;
    memcpy(&bytes, p, sizeof bytes);
    atomic_fetch_sub_explicit(&live_bytes, bytes, memory_order_relaxed);
    nigh_os_heap_give(p);
}

size_t nigh_alloc_live_bytes(void) { return atomic_load(&live_bytes); }

void nigh_alloc_fail_at(uint64_t nth, bool forever) {
    atomic_store(&fail_forever, forever);
    atomic_store(&fail_countdown, nth);
}
