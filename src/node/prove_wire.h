/* prove_wire.h - a network of its own for one program, with a counter outside it. Linux, as root.
 *
 *     [ child process, own network namespace ] --eth0--- veth ---[ this machine: every frame is counted here ]
 *
 * The counter is a packet socket on our end of the pair: it sees what really crosses, whatever the program inside says
 * of itself. The namespace has loopback and this one line, and no IPv6. */
#ifndef NIGH_PROVE_WIRE_H
#define NIGH_PROVE_WIRE_H

#include <sys/types.h>

#include "base/base.h"

enum { NIGH_PROVE_PLACES_MAX = 64 };

/* One address outside that something went to or came from. */
typedef struct {
    uint32_t address;               /* IPv4, host order */
    uint16_t port;                  /* 0: not TCP */
    uint64_t packets_out, packets_in;
    uint64_t bytes_out, bytes_in;   /* of TCP: its payload; of all others: the whole frame */
} nigh_prove_place;

typedef struct {
    uint64_t packets_out, packets_in;
    uint64_t frames_out, frames_in;         /* bytes with all headers */
    uint64_t again_out, again_in;           /* payload that TCP sent once more */
    uint64_t missed;                        /* frames that the counter could not take: then nothing is proved */
    nigh_prove_place places[NIGH_PROVE_PLACES_MAX];
    size_t place_count;
} nigh_prove_seen;

typedef struct nigh_prove_wire nigh_prove_wire;

/* Runs inside(ud, in, out) in a child process with a network of its own, whose way out is `outside` (this machine's
 * end, e.g. 10.213.213.1; the child has the next address). The child's result is its exit code; what it writes to `out`
 * is read from nigh_prove_wire_out. Fails: ENOSUP (not Linux, not root, no `ip` program), EIO. */
NIGH_CHECK nigh_status nigh_prove_wire_open(nigh_prove_wire **w, const char *outside, int (*inside)(void *ud, int out),
    void *ud, nigh_err *err);
int nigh_prove_wire_out(const nigh_prove_wire *w);
/* Waits for the child, stops counting, takes the line away. *code: the child's exit code, or 128 + its signal. */
NIGH_CHECK nigh_status nigh_prove_wire_close(nigh_prove_wire *w, int *code, nigh_prove_seen *seen, nigh_err *err);

#endif
