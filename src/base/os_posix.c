/* os_posix.c - os.h on Linux and other POSIX systems: heap, pages, clocks, files. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/os.h"

enum { HEAP_ALIGN = 64 };

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1                  /* as gcc says it */
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
void *nigh_os_heap_take(size_t bytes) { return aligned_alloc(HEAP_ALIGN, bytes); }   /* its guards close to the block */
void nigh_os_heap_give(void *p) { free(p); }
#else

/* Aligned by hand: aligned_alloc of glibc before 2.38 never looks at what the thread has kept of its own blocks, and
 * takes several times as long as malloc. How far the block was moved (16 to 64 bytes) stands in the byte in front. */
void *nigh_os_heap_take(size_t bytes) {
    size_t total;
    uint8_t *block = nigh_add(bytes, HEAP_ALIGN, &total) ? malloc(total) : NULL;
    if (!block) return NULL;
    size_t moved = HEAP_ALIGN - ((uintptr_t)block & (HEAP_ALIGN - 1));
    block[moved - 1] = (uint8_t)moved;
    return block + moved;
}

void nigh_os_heap_give(void *p) {
    uint8_t *at = p;
    if (at) free(at - at[-1]);
}
#endif

enum { HUGE_PAGE = 2 << 20 };

void *nigh_os_pages_take(size_t bytes) {
    size_t total;
    if (bytes == 0 || !nigh_add(bytes, HUGE_PAGE, &total)) return NULL;
    uint8_t *p = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    /* Trim to a 2 MiB boundary in front, so that the kernel can use huge pages from the start. */
    size_t lead = (size_t)(-(uintptr_t)p & (HUGE_PAGE - 1));
    size_t kept = nigh_round_up(bytes, 4096);
    if (lead) munmap(p, lead);
    if (total - lead > kept) munmap(p + lead + kept, total - lead - kept);
    madvise(p + lead, kept, MADV_HUGEPAGE);
    return p + lead;
}

void *nigh_os_sparse_take(size_t bytes) {
    if (bytes == 0 || bytes > SIZE_MAX - 4096) return NULL;
    void *p = mmap(NULL, nigh_round_up(bytes, 4096), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    madvise(p, nigh_round_up(bytes, 4096), MADV_NOHUGEPAGE);
    return p;
}

void nigh_os_pages_give(void *p, size_t bytes) {
    if (p) munmap(p, nigh_round_up(bytes, 4096));
}

static uint64_t clock_ns(clockid_t which) {
    struct timespec t;
    clock_gettime(which, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t nigh_os_now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }
uint64_t nigh_os_thread_cpu_ns(void) { return clock_ns(CLOCK_THREAD_CPUTIME_ID); }
uint64_t nigh_os_unix_ms(void) { return clock_ns(CLOCK_REALTIME) / 1000000u; }

bool nigh_os_tiles_ask(void) {
#ifdef SYS_arch_prctl
    enum { REQUEST_PERMISSION = 0x1023, TILE_DATA = 18 };      /* Linux: Documentation/arch/x86/xstate.rst */
    return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
#else
    return false;
#endif
}

uint64_t nigh_os_hwcap(void) { return getauxval(AT_HWCAP); }

size_t nigh_os_cpu_count(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return (size_t)CPU_COUNT(&set);
    return 1;
}

/* The number after `key` in a small text file of /proc, in kB; 0 when it is not there. */
static size_t proc_kb(const char *path, const char *key) {
    char line[256];
    size_t found = 0, key_len = strlen(key);
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    while (!found && fgets(line, sizeof line, f)) {
        if (strncmp(line, key, key_len) != 0) continue;
        for (const char *p = line + key_len; *p; p++)
            if (*p >= '0' && *p <= '9') found = found * 10 + (size_t)(*p - '0');
    }
    fclose(f);
    return found;
}

size_t nigh_os_rss_bytes(void) { return proc_kb("/proc/self/status", "VmRSS:") * 1024; }
size_t nigh_os_memory_available_bytes(void) { return proc_kb("/proc/meminfo", "MemAvailable:") * 1024; }

size_t nigh_os_rss_peak_bytes(void) {
    struct rusage u;
    return getrusage(RUSAGE_SELF, &u) == 0 ? (size_t)u.ru_maxrss * 1024 : 0;
}

bool nigh_os_hide_memory(void) {
    bool limited = setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 }) == 0;
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 && limited;     /* this also where dumps go to a program */
}

void nigh_os_thread_idle(void) {
#ifdef SCHED_IDLE
    pthread_setschedparam(pthread_self(), SCHED_IDLE, &(struct sched_param){ 0 });
#endif
}

const char *nigh_os_env(const char *name) { return getenv(name); }

bool nigh_os_random(void *out, size_t bytes) {
    uint8_t *p = out;
    while (bytes) {
        ssize_t n = getrandom(p, bytes, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        p += n;
        bytes -= (size_t)n;
    }
    return true;
}

uint64_t nigh_os_random_name(void) {
    static _Thread_local uint64_t names[32];
    static _Thread_local size_t left;
    if (!left) left = nigh_os_random(names, sizeof names) ? NIGH_COUNT(names) : 0;
    return left ? names[--left] : nigh_os_now_ns();
}

/* ---- files ---- */

static nigh_status open_failed(nigh_err *err, const char *path) {
    if (errno == ENOENT || errno == ENOTDIR) return nigh_failf(err, NIGH_ENOENT, 0, "%s: no such file", path);
    return nigh_failf(err, NIGH_EIO, 0, "%s: cannot be opened: %s", path, strerror(errno));
}

/* A file that is cut short while it is mapped gives SIGBUS to whoever reads it. The handler puts a page of zeros
 * where the byte is missing and marks the mapping, so that the reader ends in an orderly way and is then told. */
enum { GUARDED_MAX = 64 };
static struct { atomic_uintptr_t begin, end; atomic_bool changed; } guarded[GUARDED_MAX];

static void on_missing_page(int number, siginfo_t *info, void *context) {
    uintptr_t at = (uintptr_t)info->si_addr;
    (void)context;
    for (size_t i = 0; i < GUARDED_MAX; i++) {
        if (at < atomic_load(&guarded[i].begin) || at >= atomic_load(&guarded[i].end)) continue;
        void *page = (void *)(at & ~(uintptr_t)4095);
        if (mmap(page, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) break;
        atomic_store(&guarded[i].changed, true);
        return;
    }
    signal(number, SIG_DFL);    /* not ours: let it end the program as it would have */
}

static void install_guard(void) {
    struct sigaction a = { .sa_flags = SA_SIGINFO | SA_RESTART };
    a.sa_sigaction = on_missing_page;
    sigaction(SIGBUS, &a, NULL);
}

static void guard(const nigh_file *f) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    uintptr_t begin = (uintptr_t)f->bytes.ptr;
    pthread_once(&once, install_guard);
    for (size_t i = 0; i < GUARDED_MAX; i++) {
        uintptr_t none = 0;
        if (!atomic_compare_exchange_strong(&guarded[i].begin, &none, begin)) continue;
        atomic_store(&guarded[i].changed, false);
        atomic_store(&guarded[i].end, begin + f->bytes.len);
        return;
    }
}

static size_t guard_of(const nigh_file *f) {
    size_t i = 0;
    while (i < GUARDED_MAX && atomic_load(&guarded[i].begin) != (uintptr_t)f->bytes.ptr) i++;
    return i;
}

bool nigh_file_changed(const nigh_file *f) {
    size_t i = f->bytes.len ? guard_of(f) : GUARDED_MAX;
    return i < GUARDED_MAX && atomic_load(&guarded[i].changed);
}

nigh_status nigh_file_open(nigh_file *f, const char *path, nigh_err *err) {
    struct stat st;
    *f = (nigh_file){ .fd = -1 };
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return open_failed(err, path);
    nigh_status status = NIGH_OK;
    if (fstat(fd, &st) != 0) status = nigh_failf(err, NIGH_EIO, 0, "%s: %s", path, strerror(errno));
    else if (!S_ISREG(st.st_mode)) status = nigh_failf(err, NIGH_EINVAL, 0, "%s: not a regular file", path);
    else if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            status = nigh_failf(err, NIGH_ENOMEM, 0, "%s: cannot be mapped: %s", path, strerror(errno));
        else f->bytes = (nigh_str){ p, (size_t)st.st_size };
    }
    if (status != NIGH_OK) close(fd);
    else f->fd = fd;
    if (f->bytes.len) guard(f);
    return status;
}

/* One fault maps all pages of the 64 KiB around it that are in memory, so these are dropped together. */
enum { FAULT_AROUND = 64 << 10 };

void nigh_file_drop(const nigh_file *f, size_t offset, size_t bytes) {
    if (offset > f->bytes.len || bytes > f->bytes.len - offset || bytes == 0) return;
    size_t begin = offset & ~(size_t)(FAULT_AROUND - 1),
           end = nigh_min(nigh_round_up(offset + bytes, FAULT_AROUND), f->bytes.len);
    madvise((void *)(uintptr_t)(f->bytes.ptr + begin), end - begin, MADV_DONTNEED);
}

bool nigh_file_copy(const nigh_file *f, size_t offset, void *out, size_t bytes) {
    for (size_t at = 0; at < bytes;) {
        ssize_t n = pread(f->fd, (char *)out + at, bytes - at, (off_t)(offset + at));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        at += (size_t)n;
    }
    return true;
}

bool nigh_file_read_part(void *file, size_t offset, void *out, size_t bytes) {
    return nigh_file_copy(file, offset, out, bytes);
}

void nigh_file_drop_part(void *file, size_t offset, size_t bytes) { nigh_file_drop(file, offset, bytes); }

void nigh_file_close(nigh_file *f) {
    size_t i = f->bytes.len ? guard_of(f) : GUARDED_MAX;
    if (i < GUARDED_MAX) {
        atomic_store(&guarded[i].end, 0);
        atomic_store(&guarded[i].begin, 0);
    }
    if (f->bytes.len) munmap((void *)(uintptr_t)f->bytes.ptr, f->bytes.len);
    if (f->bytes.len || f->fd > 0) close(f->fd);
    *f = (nigh_file){ .fd = -1 };
}

nigh_status nigh_file_read(nigh_buf *out, const char *path, nigh_err *err) {
    bool is_stdin = strcmp(path, "-") == 0;
    int fd = is_stdin ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return open_failed(err, path);
    nigh_status status = NIGH_OK;
    for (;;) {
        char piece[65536];
        ssize_t n = read(fd, piece, sizeof piece);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) status = nigh_failf(err, NIGH_EIO, out->len, "%s: %s", path, strerror(errno));
        if (n <= 0) break;
        status = nigh_buf_add(out, (nigh_str){ piece, (size_t)n });
        if (status != NIGH_OK) {
            nigh_failf(err, status, out->len, "%s: %s (%zu bytes)", path, nigh_status_text(status), out->limit);
            break;
        }
    }
    if (!is_stdin) close(fd);
    return status;
}

bool nigh_file_write_all(int fd, nigh_str bytes) {
    while (bytes.len) {
        ssize_t n = write(fd, bytes.ptr, bytes.len);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        bytes.ptr += n;
        bytes.len -= (size_t)n;
    }
    return true;
}

bool nigh_file_sync_folder(const char *path) {
    char folder[4096];
    size_t n = strlen(path);
    while (n && path[n - 1] != '/') n--;
    if (nigh_format(folder, sizeof folder, "%.*s", n ? (int)n : 1, n ? path : ".") >= sizeof folder) {
        errno = ENAMETOOLONG;
        return false;
    }
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return false;
    bool ok = fsync(fd) == 0 || errno == EINVAL;
    close(fd);
    return ok;
}

nigh_status nigh_file_write(const char *path, nigh_str bytes, nigh_err *err) {
    char temp[4096];
    if (nigh_format(temp, sizeof temp, "%s.%d.tmp", path, (int)getpid()) >= sizeof temp)
        return nigh_fail(err, NIGH_ERANGE, 0, "the path is too long");
    int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) return nigh_failf(err, NIGH_EIO, 0, "%s: cannot be created: %s", temp, strerror(errno));
    bool ok = nigh_file_write_all(fd, bytes) && fsync(fd) == 0;
    ok = close(fd) == 0 && ok;
    ok = ok && rename(temp, path) == 0 && nigh_file_sync_folder(path);
    if (ok) return NIGH_OK;
    int why = errno;
    unlink(temp);
    return nigh_failf(err, NIGH_EIO, 0, "%s: cannot be written: %s", path, strerror(why));
}

bool nigh_file_exists(const char *path) { return access(path, R_OK) == 0; }
