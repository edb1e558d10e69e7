/* capture.h - content of requests that somebody has to look at: only where the policy names a capture (its feature, its
 * tenant, its end, two people who approved it, who may read it), sealed, with a key that is destroyed at the end.
 * Without one in the policy nothing is made and nothing is kept.
 *
 *     FOLDER/NAME.capture   one line of JSON that says what it is, then sealed entries      mode 0600
 *     FOLDER/NAME.key       32 bytes; overwritten and removed when the capture ends         mode 0600
 *     FOLDER/NAME.reads     who read it, when
 *     FOLDER/NAME.ended     what is left then: what it was, when it ended, how much it held
 *
 * A name is used once: a capture that has ended does not begin again, whatever the policy says. The format:
 * docs/format-policy.md. */
#ifndef NIGH_CAPTURE_H
#define NIGH_CAPTURE_H

#include "place/policy.h"

enum { NIGH_CAPTURE_BYTES_MAX = 256 << 20, NIGH_CAPTURE_ENTRY_MAX = 8 << 20 };

typedef struct nigh_captures nigh_captures;

/* Opens the captures of the policy whose end has not come, and ends all others that lie in the folder. *out is NULL
 * when there is nothing to capture. policy: borrowed, must outlive it; NULL: only ends what has to end. Fails: EIO,
 * EINVAL (a file that others may read), ENOMEM; then nothing is captured. */
NIGH_CHECK nigh_status nigh_captures_open(nigh_captures **out, const nigh_policy *policy, const char *folder,
                                          nigh_err *err);
void nigh_captures_close(nigh_captures *c);     /* forgets the keys; does not end what goes on */
/* Is a request of this feature and tenant captured? Costs next to nothing; c may be NULL. */
bool nigh_captures_want(nigh_captures *c, uint32_t feature_idx, nigh_str tenant, uint64_t now_s);

typedef struct {
    uint32_t feature_idx;
    nigh_str tenant, receipt;       /* receipt: the id of its record */
    nigh_str request, answer;       /* as they went over the wire, or the text */
    uint64_t now_s;
} nigh_captured;
/* Seals and writes it in every capture that fits. Any thread. Fails: EIO, ERANGE (the file or the entry is as large
 * as it may get); the answer goes out all the same. A capture whose key is gone ends quietly. */
NIGH_CHECK nigh_status nigh_captures_add(nigh_captures *c, const nigh_captured *what, nigh_err *err);
/* Ends those whose time has come; call it once a minute or so. */
void nigh_captures_tidy(nigh_captures *c, uint64_t now_s);

/* ---- for people, also while a node runs ---- */
/* {"captures":[{"name":...,"ended":false,...}]}. Ends those whose time has come. */
NIGH_CHECK nigh_status nigh_capture_list(const char *folder, nigh_buf *out, nigh_err *err);
/* One JSON object a line: what was captured. reader: one of those that the policy named; the reading is noted before
 * the first word is given. Fails: ENOENT, EAUTH (no such reader), EPOLICY (it has ended), EDATA (changed, cut, out of
 * order). */
NIGH_CHECK nigh_status nigh_capture_read(const char *folder, nigh_str name, nigh_str reader, nigh_buf *out,
                                         nigh_err *err);
/* Destroys the key, then the sealed entries. ENOENT. */
NIGH_CHECK nigh_status nigh_capture_end(const char *folder, nigh_str name, nigh_err *err);

#endif
