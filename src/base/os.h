/* os.h - the one door to the operating system. os_posix.c and os_wasm.c implement it; the browser
 * has no files, so there the file functions are absent and rooms 0-3 do not call them on their own. */
#ifndef NIGH_OS_H
#define NIGH_OS_H

#include "base/base.h"

/* ---- heap, for memory.c only ---- */
void *nigh_os_heap_take(size_t bytes);          /* 64-byte aligned; bytes a multiple of 64; NULL when none */
void nigh_os_heap_give(void *p);

/* ---- big blocks: weights and caches, on 2 MiB pages where the system gives them ---- */
void *nigh_os_pages_take(size_t bytes);         /* zeroed; NULL when there is none */
/* The same on small pages, taken as they are touched: for what is reserved whole and may stay mostly empty. */
void *nigh_os_sparse_take(size_t bytes);
void nigh_os_pages_give(void *p, size_t bytes); /* of either; accepts NULL */

/* ---- time ---- */
uint64_t nigh_os_now_ns(void);                  /* monotonic */
uint64_t nigh_os_thread_cpu_ns(void);           /* processor time of the calling thread */
uint64_t nigh_os_unix_ms(void);                 /* wall clock, UTC */

/* ---- processor ---- */
uint64_t nigh_os_hwcap(void);                   /* what the system says of it: AT_HWCAP of Linux, else 0 */
/* Asks for the tile registers of AMX, which Linux lends to a process that asks. False: they may not be used. */
bool nigh_os_tiles_ask(void);
size_t nigh_os_cpu_count(void);                 /* threads this process may run on, at least 1 */
size_t nigh_os_rss_bytes(void);                 /* resident now; 0 when unknown */
size_t nigh_os_rss_peak_bytes(void);            /* largest resident size so far; 0 when unknown */
size_t nigh_os_memory_available_bytes(void);    /* what may still be taken without swapping; 0 when unknown */
const char *nigh_os_env(const char *name);      /* NULL when unset */
NIGH_CHECK bool nigh_os_random(void *out, size_t bytes);
/* 64 random bits for the name of a thing, not for a secret: the system is asked once for many. Not in the browser. */
uint64_t nigh_os_random_name(void);

/* From here on the system writes no core dump of this process, and no other process of the same user may read its
 * memory or trace it. False: not all of that can be had. */
bool nigh_os_hide_memory(void);

/* ---- files ---- */
typedef struct { nigh_str bytes; int fd; } nigh_file;
/* Maps a regular file read-only. Fails: ENOENT, EINVAL (not a regular file), EIO, ENOMEM. An empty file maps to
 * length 0. */
NIGH_CHECK nigh_status nigh_file_open(nigh_file *f, const char *path, nigh_err *err);
/* Tells the system that the pages of these bytes are not needed again soon. */
void nigh_file_drop(const nigh_file *f, size_t offset, size_t bytes);
/* Copies bytes of the file without touching the mapping; false when they are not all there. */
bool nigh_file_copy(const nigh_file *f, size_t offset, void *out, size_t bytes);
/* Both in the shape of nigh_model_opts: file is a nigh_file. */
bool nigh_file_read_part(void *file, size_t offset, void *out, size_t bytes);
void nigh_file_drop_part(void *file, size_t offset, size_t bytes);
/* From here on this thread runs only where nothing else wants the core. */
void nigh_os_thread_idle(void);
/* Was the file cut short after it was mapped? What is missing reads as zeros; ask after the last read. */
bool nigh_file_changed(const nigh_file *f);
void nigh_file_close(nigh_file *f);
/* Reads a whole file, stdin when path is "-". Fails with ERANGE over the buffer's limit. */
NIGH_CHECK nigh_status nigh_file_read(nigh_buf *out, const char *path, nigh_err *err);
/* Whole or not at all: temp + fsync + rename + fsync of the folder. */
NIGH_CHECK nigh_status nigh_file_write(const char *path, nigh_str bytes, nigh_err *err);
bool nigh_file_exists(const char *path);
/* For those who write a file piece by piece: all of the bytes, and the folder the path lies in, so that a name made or
 * taken away there outlives a power cut. False: errno says why. */
NIGH_CHECK bool nigh_file_write_all(int fd, nigh_str bytes);
NIGH_CHECK bool nigh_file_sync_folder(const char *path);

#endif
