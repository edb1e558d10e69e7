/* private_file.h - files that only their owner may read: keys, state, ledgers. A link is never followed, and a file
 * that others may read is refused rather than used. */
#ifndef NIGH_PRIVATE_FILE_H
#define NIGH_PRIVATE_FILE_H

#include "base/base.h"

/* Makes every folder above the file, mode 0700. What cannot be made shows when the file is opened. */
void nigh_private_folders(const char *path);
/* Opens (made with mode 0600 when flags has O_CREAT) and checks that it is a regular file of ours that nobody else may
 * read. Fails: ENOENT, EINVAL (not ours alone), EIO. The sentence names the path. */
NIGH_CHECK nigh_status nigh_private_open(const char *path, int flags, int *fd, nigh_err *err);
/* The whole file. Fails as nigh_private_open; ERANGE over the buffer's limit. */
NIGH_CHECK nigh_status nigh_private_read(nigh_buf *out, const char *path, nigh_err *err);
/* Whole or not at all: a file beside it, fsync, rename, fsync of the folder. */
NIGH_CHECK nigh_status nigh_private_write(const char *path, nigh_str bytes, nigh_err *err);
/* Overwrites the file with random bytes, then unlinks it. What a journal or a flash disk kept elsewhere stays there. */
NIGH_CHECK nigh_status nigh_private_destroy(const char *path, nigh_err *err);

#endif
