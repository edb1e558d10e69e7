/* replay.h - an answer that was made on a device, made again from what was asked, to compare both. A node of its own
 * answers, on this machine, with one model, so that everything between the request and the words is the same code. */
#ifndef NIGH_REPLAY_H
#define NIGH_REPLAY_H

#include "base/json.h"
#include "node/node.h"

typedef struct {
    nigh_str path;                  /* /v1/chat/completions or /v1/completions */
    const nigh_json *request;       /* the body; borrowed */
    const char *model;              /* path of the GGUF file */
    unsigned cpu;
    uint32_t threads, context_tokens;
    nigh_cache cache;               /* as it was then: q8_0 gives other bits than f16 */
} nigh_replay_opts;

/* Appends the whole answer (JSON), also when it was a stream. Fails: EINVAL (a request that cannot be repeated: drawn
 * at random without a seed; a path that is none; refused by the node), and as nigh_node_open. */
NIGH_CHECK nigh_status nigh_replay(nigh_buf *out, const nigh_replay_opts *o, nigh_err *err);

#endif
