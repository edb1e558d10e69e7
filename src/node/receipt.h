/* receipt.h - what every answer says about itself: where it was made, by which model, what left the device, how
 * long it took. bytes_out counts bytes of the request that this device sent to another place to have it answered.
 * Sending the answer back to whoever asked does not count; `to` says how far away that one is. */
#ifndef NIGH_RECEIPT_H
#define NIGH_RECEIPT_H

#include "base/base.h"

typedef struct {
    char id[32];                /* "rcpt-" and 16 hex digits */
    const char *place;          /* "device", or the tier of another place (place_write.c) */
    const char *model, *model_sha256;
    const char *to;             /* "loopback", "private" or "public": the address of the client */
    uint64_t bytes_out, ms;
    bool degraded;
} nigh_receipt;

void nigh_receipt_init(nigh_receipt *r, const char *model, const char *model_sha256, const char *to);
/* The value of the header `nigh-receipt`. with_ms: false in front of a stream, whose time is not known yet. */
void nigh_receipt_header(const nigh_receipt *r, bool with_ms, char *out, size_t cap);
/* The object of the body field "nigh_receipt". */
NIGH_CHECK nigh_status nigh_receipt_json(const nigh_receipt *r, nigh_buf *out);

#endif
