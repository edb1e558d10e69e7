/* keys.c - making, keeping and comparing keys.
 * A key has 256 bits of entropy, so a plain hash is enough to keep it: there is nothing to guess. What is compared
 * is the hash of what was sent with the hash that is kept, all bytes and all keys each time. */
#define _GNU_SOURCE
#include "node/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"
#include "base/sha256.h"

static void hash_of(nigh_str text, uint8_t out[32]) {
    nigh_sha256 s;
    nigh_sha256_init(&s);
    nigh_sha256_add(&s, text);
    nigh_sha256_end(&s, out);
}

/* Makes every folder above the file. */
static void make_folders(const char *path) {
    char folder[4096];
    if (nigh_format(folder, sizeof folder, "%s", path) >= sizeof folder) return;
    for (char *p = folder + 1; *p; p++) {
        if (*p != '/') continue;
        *p = '\0';
        (void)mkdir(folder, 0700);      /* what cannot be made shows when the file is opened */
        *p = '/';
    }
}

/* Opens the file and checks that it is ours alone. */
static nigh_status open_checked(const char *path, int flags, int *out, nigh_err *err) {
    struct stat st;
    int fd = open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return nigh_fail(err, errno == ENOENT ? NIGH_ENOENT : NIGH_EIO, 0, errno == ENOENT
            ? "there is no key file; make one with: nigh serve --new-key" : "the key file cannot be opened");
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || (st.st_mode & 077) || st.st_uid != geteuid()) {
        close(fd);
        return nigh_fail(err, NIGH_EINVAL, 0,
            "the key file must be a regular file of yours that nobody else may read (chmod 600)");
    }
    *out = fd;
    return NIGH_OK;
}

nigh_status nigh_keys_create(const char *path, char out[NIGH_KEY_TEXT], nigh_err *err) {
    uint8_t secret[32], hash[32];
    char digits[65], line[160];
    int fd = -1;
    if (!nigh_os_random(secret, sizeof secret))
        return nigh_fail(err, NIGH_EIO, 0, "the system gives no random numbers");
    nigh_sha256_hex(secret, digits);
    nigh_format(out, NIGH_KEY_TEXT, "nigh-%s", digits);
    hash_of(nigh_str_of(out), hash);
    nigh_sha256_hex(hash, digits);
    size_t n = nigh_format(line, sizeof line, "sha256:%s %llu\n", digits,
        (unsigned long long)(nigh_os_unix_ms() / 1000));
    make_folders(path);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) NIGH_TRY(open_checked(path, O_WRONLY | O_APPEND, &fd, err));
    bool ok = write(fd, line, n) == (ssize_t)n && fsync(fd) == 0;
    close(fd);
    return ok ? NIGH_OK : nigh_fail(err, NIGH_EIO, 0, "the key file cannot be written");
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool read_line(nigh_keys *k, nigh_str line) {
    nigh_str prefix = NIGH_STR("sha256:");
    if (!nigh_str_starts(line, prefix) || line.len < prefix.len + 64) return false;
    for (size_t i = 0; i < 32; i++) {
        int hi = hex_digit(line.ptr[prefix.len + 2 * i]), lo = hex_digit(line.ptr[prefix.len + 2 * i + 1]);
        if (hi < 0 || lo < 0) return false;
        k->hash[k->count][i] = (uint8_t)(hi * 16 + lo);
    }
    k->count++;
    return true;
}

nigh_status nigh_keys_load(nigh_keys *k, const char *path, nigh_err *err) {
    static char text[NIGH_KEYS_MAX * 128];      /* read once, at start */
    int fd;
    NIGH_TRY(open_checked(path, O_RDONLY, &fd, err));
    ssize_t got = read(fd, text, sizeof text);
    close(fd);
    if (got < 0) return nigh_fail(err, NIGH_EIO, 0, "the key file cannot be read");
    nigh_str all = { text, (size_t)got };
    memset(k, 0, sizeof *k);
    for (size_t at = 0; at < all.len;) {
        size_t end = nigh_min(nigh_str_find(all, NIGH_STR("\n"), at), all.len);
        nigh_str line = nigh_str_trim(nigh_str_slice(all, at, end));
        if (line.len && k->count == NIGH_KEYS_MAX)
            return nigh_fail(err, NIGH_ERANGE, at, "the key file holds too many keys");
        if (line.len && !read_line(k, line))
            return nigh_fail(err, NIGH_EINVAL, at, "the key file holds a line that is no key");
        at = end + 1;
    }
    if (!k->count)
        return nigh_fail(err, NIGH_EINVAL, 0, "the key file holds no key; make one with: nigh serve --new-key");
    return NIGH_OK;
}

size_t nigh_keys_find(const nigh_keys *k, nigh_str text) {
    uint8_t hash[32];
    size_t found = 0;
    hash_of(text, hash);
    for (size_t i = 0; i < k->count; i++) {
        unsigned differs = 0;
        for (size_t j = 0; j < 32; j++) differs |= (unsigned)(hash[j] ^ k->hash[i][j]);
        size_t same = (differs - 1u) >> 31;     /* 1 exactly when differs is 0 */
        found |= (i + 1) & (0 - same);
    }
    return found - 1;
}

bool nigh_keys_match(const nigh_keys *k, nigh_str text) { return nigh_keys_find(k, text) != SIZE_MAX; }

nigh_str nigh_keys_bearer(nigh_str a) {
    const char *word = "bearer ";
    if (a.len < 8) return NIGH_STR("");
    for (size_t i = 0; i < 7; i++) if ((a.ptr[i] | (i < 6 ? 32 : 0)) != word[i]) return NIGH_STR("");
    return nigh_str_slice(a, 7, a.len);
}
