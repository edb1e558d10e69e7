/* os_wasm.c - os.h in the browser: memory, and the host's clock (the import env.now, milliseconds). No files, no
 * randomness: what the core needs of these comes in through its arguments. With threads, only one takes and gives
 * memory: the one that calls the exports.
 *
 * The heap lies behind the module's own data and grows with the module's memory, which can never shrink. Free
 * blocks stand in one list in the order of their addresses; taking is first fit, giving back joins neighbours:
 *
 *     | size, next |  64-byte aligned bytes of the caller  | size, next | ...
 *     '-- 64 bytes '
 *
 * size: the whole block with its head, a multiple of 64. next: the next free block, only while this one is free.
 *
 * Memory that nobody ever had is zero, and costs nothing until it is touched: it stays so (heads that vanish when
 * blocks join are wiped), and what is to be zero is filled only where it is not fresh. A cache for 4,096 tokens that
 * holds ten is then ten tokens large. */
#include "base/os.h"

enum { HEAD = 64, SLAB = 64 << 10 /* what memory grows by: a page of WebAssembly */, GROW = 16 * SLAB };

typedef struct block { size_t size; struct block *next; } block;

extern unsigned char __heap_base;       /* end of the module's data; the linker sets it */
static block *first_free;
static uintptr_t heap_end;              /* memory below it belongs to the heap or lies in front of it */
static uintptr_t fresh;                 /* from here on nobody has written, but for the heads of free blocks */
static uintptr_t fresh_before;          /* the same before the last block was taken */

static uint8_t *end_of(block *b) { return (uint8_t *)b + b->size; }

/* A free block takes in the next one, which lies behind it. */
static void join(block *b) {
    block *gone = b->next;
    b->size += gone->size;
    b->next = gone->next;
    *gone = (block){ 0 };
}

/* Puts a block into the list and joins it with free neighbours. */
static void give(block *b) {
    block **link = &first_free, *before = NULL;
    while (*link && *link < b) { before = *link; link = &(*link)->next; }
    b->next = *link;
    *link = b;
    if (b->next && end_of(b) == (uint8_t *)b->next) join(b);
    if (before && end_of(before) == (uint8_t *)b) join(before);
}

static uintptr_t memory_end(void) { /* the last page is left alone: its end would not fit 32 bits */
    return nigh_min(__builtin_wasm_memory_size(0), SIZE_MAX / SLAB) * SLAB;
}

static bool grow_by(size_t bytes) {
    size_t slabs = bytes / SLAB + (bytes % SLAB != 0);
    return __builtin_wasm_memory_grow(0, slabs) != SIZE_MAX;
}

/* What the last free block has at the end of the heap. */
static size_t free_at_end(void) {
    block *b = first_free;
    while (b && b->next) b = b->next;
    return b && (uintptr_t)end_of(b) == heap_end ? b->size : 0;
}

/* A free block of at least `bytes` at the end of the heap. False when the browser gives no more. */
static bool grow(size_t bytes) {
    if (heap_end == 0) heap_end = fresh = nigh_round_up((uintptr_t)&__heap_base, HEAD);
    size_t there = free_at_end(), left = memory_end() - heap_end, wanted = nigh_max(bytes - there, 2 * HEAD);
    if (left < wanted && !grow_by(nigh_max(wanted - left, GROW)) && !grow_by(wanted - left)) return false;
    block *b = (block *)heap_end;
    if (memory_end() - heap_end < wanted) return false;
    b->size = memory_end() - heap_end;
    heap_end += b->size;
    give(b);
    return true;
}

static block *take(size_t size) {
    for (block **link = &first_free; *link; link = &(*link)->next) {
        block *b = *link;
        if (b->size < size) continue;
        if (b->size - size < 2 * HEAD) { *link = b->next; return b; }
        block *rest = (block *)((uint8_t *)b + size);
        rest->size = b->size - size;
        rest->next = b->next;
        *link = rest;
        b->size = size;
        return b;
    }
    return NULL;
}

/* Is there so much memory in one piece? Asks the browser for what is missing; takes and touches nothing. */
__attribute__((export_name("room"))) bool nigh_wasm_room(size_t bytes);
bool nigh_wasm_room(size_t bytes) {
    size_t size;
    if (!nigh_add(bytes, 2 * HEAD, &size)) return false;
    for (block *b = first_free; b; b = b->next) if (b->size >= size) return true;
    return grow(size);
}

void *nigh_os_heap_take(size_t bytes) {
    size_t size;
    if (!nigh_add(bytes, HEAD, &size)) return NULL;
    block *b = take(size);
    if (!b && grow(size)) b = take(size);
    if (!b) return NULL;
    fresh_before = fresh;
    fresh = nigh_max(fresh, (uintptr_t)end_of(b));
    return (uint8_t *)b + HEAD;
}

void nigh_os_heap_give(void *p) {
    if (p) give((block *)((uint8_t *)p - HEAD));
}

void *nigh_os_pages_take(size_t bytes) {
    size_t padded;
    if (bytes == 0 || !nigh_add(bytes, HEAD - 1, &padded)) return NULL;
    void *p = nigh_os_heap_take(padded & ~(size_t)(HEAD - 1));
    if (p && (uintptr_t)p < fresh_before) memset(p, 0, nigh_min(bytes, fresh_before - (uintptr_t)p));
    return p;
}

void *nigh_os_sparse_take(size_t bytes) { return nigh_os_pages_take(bytes); }

void nigh_os_pages_give(void *p, size_t bytes) {
    (void)bytes;
    nigh_os_heap_give(p);
}

__attribute__((import_module("env"), import_name("now"))) double nigh_wasm_now(void);
uint64_t nigh_os_now_ns(void) { return (uint64_t)(nigh_wasm_now() * 1e6); }
uint64_t nigh_os_thread_cpu_ns(void) { return 0; }
uint64_t nigh_os_unix_ms(void) { return 0; }
size_t nigh_os_cpu_count(void) { return 1; }
size_t nigh_os_rss_bytes(void) { return __builtin_wasm_memory_size(0) * SLAB; }
size_t nigh_os_rss_peak_bytes(void) { return nigh_os_rss_bytes(); }
size_t nigh_os_memory_available_bytes(void) { return 0; }
const char *nigh_os_env(const char *name) { (void)name; return NULL; }
bool nigh_os_random(void *out, size_t bytes) { (void)out; (void)bytes; return false; }
