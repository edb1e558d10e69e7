/* private_file.c - see private_file.h. */
#define _GNU_SOURCE
#include "node/private_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"

enum { PATH_BYTES = 4096 };

void nigh_private_folders(const char *path) {
    char folder[PATH_BYTES];
    if (nigh_format(folder, sizeof folder, "%s", path) >= sizeof folder) return;
    for (char *p = folder + 1; folder[0] && *p; p++) {
        if (*p != '/') continue;
        *p = '\0';
        (void)mkdir(folder, 0700);
        *p = '/';
    }
}

static nigh_status failed(const char *path, const char *what, nigh_err *err) {
    nigh_status code = errno == ENOENT ? NIGH_ENOENT : NIGH_EIO;
    if (code == NIGH_ENOENT) return nigh_failf(err, code, 0, "%s: no such file", path);
    return nigh_failf(err, code, 0, "%s: cannot be %s: %s", path, what, strerror(errno));
}

nigh_status nigh_private_open(const char *path, int flags, int *fd, nigh_err *err) {
    struct stat st;
    int got = open(path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (got < 0) return failed(path, "opened", err);
    if (fstat(got, &st) != 0 || !S_ISREG(st.st_mode) || (st.st_mode & 077) || st.st_uid != geteuid()) {
        close(got);
        return nigh_failf(err, NIGH_EINVAL, 0,
            "%s: must be a regular file of yours that nobody else may read (chmod 600)", path);
    }
    *fd = got;
    return NIGH_OK;
}

nigh_status nigh_private_read(nigh_buf *out, const char *path, nigh_err *err) {
    int fd;
    nigh_status status = nigh_private_open(path, O_RDONLY, &fd, err);
    if (status != NIGH_OK) return status;
    for (;;) {
        char piece[4096];
        ssize_t n = read(fd, piece, sizeof piece);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) status = failed(path, "read", err);
        if (n <= 0) break;
        status = nigh_buf_add(out, (nigh_str){ piece, (size_t)n });
        if (status == NIGH_OK) continue;
        nigh_failf(err, status, out->len, "%s: %s", path, nigh_status_text(status));
        break;
    }
    close(fd);
    return status;
}

nigh_status nigh_private_write(const char *path, nigh_str bytes, nigh_err *err) {
    char temp[PATH_BYTES];
    uint32_t salt = 0;
    if (!nigh_os_random(&salt, sizeof salt)) salt = (uint32_t)nigh_os_now_ns();
    if (nigh_format(temp, sizeof temp, "%s.%08x.tmp", path, salt) >= sizeof temp)
        return nigh_fail(err, NIGH_ERANGE, 0, "the path is too long");
    nigh_private_folders(path);
    int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return nigh_failf(err, NIGH_EIO, 0, "%s: cannot be made: %s", temp, strerror(errno));
    bool ok = nigh_file_write_all(fd, bytes) && fsync(fd) == 0;
    int why = errno;
    ok = close(fd) == 0 && ok;
    if (ok && rename(temp, path) == 0 && nigh_file_sync_folder(path)) return NIGH_OK;
    if (ok) why = errno;
    (void)unlink(temp);
    return nigh_failf(err, NIGH_EIO, 0, "%s: cannot be written: %s", path, strerror(why));
}

nigh_status nigh_private_destroy(const char *path, nigh_err *err) {
    uint8_t noise[4096];
    struct stat st;
    int fd;
    NIGH_TRY(nigh_private_open(path, O_WRONLY, &fd, err));
    bool ok = fstat(fd, &st) == 0;
    for (off_t left = ok ? st.st_size : 0; ok && left > 0; left -= (off_t)sizeof noise)
        ok = nigh_os_random(noise, sizeof noise)
             && nigh_file_write_all(fd, (nigh_str){ (const char *)noise, nigh_min(sizeof noise, (size_t)left) });
    ok = ok && fsync(fd) == 0;
    close(fd);
    if (unlink(path) == 0 && ok)
        return nigh_file_sync_folder(path) ? NIGH_OK : failed(path, "taken out of its folder", err);
    return nigh_failf(err, NIGH_EIO, 0, "%s: cannot be overwritten and removed: %s", path, strerror(errno));
}
