/* engine.h - a model in memory, conversations over it, and batches that move them on.
 *
 *   nigh_model    weights and vocabulary; read-only after open, shared by any threads.
 *   nigh_session  one sequence of tokens and its key/value cache; owned by one caller at a time.
 *   nigh_runner   the scratch memory and threads of a forward pass; one caller at a time. It evaluates
 *                 tokens of several sessions in one batch. A session's numbers do not depend on its
 *                 company, on the split of its prompt, or on the number of threads: same bits.
 *
 * Order of life: pool, model, runner and sessions; free in reverse. */
#ifndef NIGH_ENGINE_H
#define NIGH_ENGINE_H

#include <stdbool.h>

#include "nigh/status.h"

typedef struct nigh_pool nigh_pool;             /* threads, base/pool.h */
typedef struct nigh_tokenizer nigh_tokenizer;   /* engine/tokenizer.h */
typedef struct nigh_model nigh_model;
typedef struct nigh_session nigh_session;
typedef struct nigh_runner nigh_runner;

/* ---- model ---- */
typedef struct {
    nigh_pool *pool;            /* borrowed during open; NULL: one thread */
    unsigned cpu;               /* processor flags to use (kernel.h), e.g. nigh_cpu_detect() */
    /* Both may be called by several threads at once, and both may be NULL. */
    void *file;
    /* Copies bytes of the file: where they are mapped, that is faster than to touch pages which are needed once only.
     * False: it could not, and the bytes are taken from the mapping. */
    bool (*read)(void *file, size_t offset, void *out, size_t bytes);
    /* Told which bytes of the mapping were read and are not needed again. */
    void (*done)(void *file, size_t offset, size_t bytes);
} nigh_model_opts;

typedef enum { NIGH_POOL_NONE = 0, NIGH_POOL_MEAN = 1, NIGH_POOL_CLS = 2, NIGH_POOL_LAST = 3 } nigh_pooling;

typedef struct {
    nigh_str name, arch;        /* general.name (or ""), general.architecture; owned by the model */
    nigh_str chat_template;     /* "" when there is none */
    uint32_t context_tokens;    /* the most it was made for */
    uint32_t layers, embed, heads, kv_heads, vocab;
    uint64_t parameters;
    uint64_t weight_bytes;      /* packed weights in memory */
    uint64_t decode_bytes;      /* of these, read for one generated token */
    bool encoder;               /* gives vectors, not text */
    nigh_pooling pooling;
} nigh_model_info;

/* file: the bytes of a GGUF file; borrowed during the call only.
 * Fails: EDATA (key or tensor, offset), ENOSUP (architecture, tokenizer or tensor type by name), ENOMEM (and how much
 * was wanted). */
NIGH_API NIGH_CHECK nigh_status nigh_model_open(nigh_model **out, nigh_str file, nigh_model_opts o, nigh_err *err);
NIGH_API void nigh_model_close(nigh_model *m);
NIGH_API const nigh_model_info *nigh_model_about(const nigh_model *m);
NIGH_API const nigh_tokenizer *nigh_model_tokenizer(const nigh_model *m);

/* ---- a model from pieces, where a file cannot be mapped ----
 * In this order: new with the first bytes of the file; take; next and feed until next says that nothing is wanted; end.
 * What is wanted goes once forward through the file, as it comes from a line; the whole is never in memory. */
typedef struct nigh_loading nigh_loading;
/* head: the first bytes of a file of file_bytes; kept until the loading is over. Takes memory for the vocabulary only.
 * Fails as nigh_model_open, and with ERANGE when the file's keys and tensors do not end inside head: try
 * again with more. */
NIGH_API NIGH_CHECK nigh_status nigh_loading_new(nigh_loading **out, nigh_str head, uint64_t file_bytes,
                                                 nigh_model_opts o, nigh_err *err);
/* Memory that it will take from here on, in bytes. Show it before it is taken. */
NIGH_API uint64_t nigh_loading_bytes(const nigh_loading *l);
/* Takes that memory. Fails: ENOMEM (and how much was wanted); after a failure only free is allowed. */
NIGH_API NIGH_CHECK nigh_status nigh_loading_take(nigh_loading *l, nigh_err *err);
/* Which bytes of the file are wanted next: at most `most` of them, or one vector or one group of rows if that is more.
 * False: there is nothing more to feed. */
NIGH_API bool nigh_loading_next(nigh_loading *l, size_t most, uint64_t *at, size_t *bytes);
/* Takes what the last next asked for; borrowed. Fails: EINVAL, when nothing was. */
NIGH_API NIGH_CHECK nigh_status nigh_loading_feed(nigh_loading *l, const uint8_t *bytes, nigh_err *err);
/* Gives the model and frees the loading. Fails with EINVAL when something is still wanted, with EDATA for rotation
 * factors that are none (and frees nothing). */
NIGH_API NIGH_CHECK nigh_status nigh_loading_end(nigh_model **out, nigh_loading *l, nigh_err *err);
NIGH_API void nigh_loading_free(nigh_loading *l);   /* gives up; accepts NULL */

/* ---- session ---- */
/* How keys and values are kept: F16 (half to even, at most 65,504), half of F32; F32 as they are computed. For heads
 * of a multiple of 32 values also as integers that are multiplied as integers, one scale for 32 of them: Q8_0 (int8),
 * about half of F16, and I16 (int16, 14 bits of it), a sixteenth more than F16. */
typedef enum { NIGH_CACHE_F16 = 0, NIGH_CACHE_F32 = 1, NIGH_CACHE_Q8_0 = 2, NIGH_CACHE_I16 = 3 } nigh_cache;
typedef struct {
    uint32_t context_tokens;    /* 0: the model's own limit */
    nigh_cache cache;
} nigh_session_opts;
/* Bytes of the cache of one session with room for context_tokens (0: the model's own limit). Show it before it is
 * taken. They are reserved; memory is used only as far as the text has come. */
NIGH_API size_t nigh_session_bytes(const nigh_model *m, uint32_t context_tokens);
NIGH_API size_t nigh_session_bytes_as(const nigh_model *m, nigh_session_opts o);
/* Fails: ENOMEM (and how much was wanted), ERANGE (more than the model was made for), ENOSUP (Q8_0 and heads of another
 * size). */
NIGH_API NIGH_CHECK nigh_status nigh_session_new(nigh_session **out, const nigh_model *m, uint32_t context_tokens,
                                                 nigh_err *err);
NIGH_API NIGH_CHECK nigh_status nigh_session_new_as(nigh_session **out, const nigh_model *m, nigh_session_opts o,
                                                    nigh_err *err);
NIGH_API void nigh_session_free(nigh_session *s);
NIGH_API uint32_t nigh_session_limit(const nigh_session *s);        /* tokens it has room for */
NIGH_API uint32_t nigh_session_count(const nigh_session *s);        /* tokens evaluated so far */
NIGH_API const int32_t *nigh_session_tokens(const nigh_session *s); /* [count] */
/* Forgets everything after the first `count` tokens. */
NIGH_API void nigh_session_truncate(nigh_session *s, uint32_t count);
/* Forgets everything and overwrites it: before the session is somebody else's. */
NIGH_API void nigh_session_wipe(nigh_session *s);
/* Keeps the longest common prefix with `tokens`, but at most count - 1 of it, so that at least one token is left to
 * evaluate; forgets the rest and returns how many were kept. */
NIGH_API uint32_t nigh_session_reuse(nigh_session *s, const int32_t *tokens, uint32_t count);
/* Makes dst hold exactly the first `count` tokens of src, with what was computed for them: as if dst had evaluated
 * them itself. Fails: EINVAL (not of one model and one type of cache), ERANGE (src holds fewer, or dst has no room);
 * dst stays as it was. */
NIGH_API NIGH_CHECK nigh_status nigh_session_copy_prefix(nigh_session *dst, const nigh_session *src, uint32_t count,
                                                         nigh_err *err);

/* ---- runner ---- */
/* batch_tokens: most tokens of one evaluation (0: 512). Fails: ENOMEM. */
NIGH_API NIGH_CHECK nigh_status nigh_runner_new(nigh_runner **out, const nigh_model *m, nigh_pool *pool,
                                                uint32_t batch_tokens, nigh_err *err);
NIGH_API void nigh_runner_free(nigh_runner *r);
NIGH_API uint32_t nigh_runner_limit(const nigh_runner *r);          /* batch_tokens */
NIGH_API size_t nigh_runner_bytes(const nigh_model *m, uint32_t batch_tokens);

/* Tokens to append to one session, and where its logits go. A session may stand in a batch only once. */
typedef struct {
    nigh_session *session;
    const int32_t *tokens;      /* [count], 1 or more */
    uint32_t count;
    bool all_logits;            /* a row for each token, else only for the last */
    float *logits;              /* [count or 1][vocab], or NULL: none wanted */
} nigh_batch_item;

/* Evaluates all items in one batch (together at most nigh_runner_limit tokens).
 * Fails: ERANGE (a session is full, naming limit and need; or the batch is too long), EINVAL (a token that the
 * vocabulary does not have), ECANCEL, EDATA (the weights gave NaN or infinity). On failure every session is as it was
 * before. */
NIGH_API NIGH_CHECK nigh_status nigh_runner_eval(nigh_runner *r, const nigh_batch_item *items, size_t count,
                                                 nigh_err *err);
/* Makes the session hold exactly `tokens` (reuse, then evaluation in batches); logits of the last token: [vocab]. */
NIGH_API NIGH_CHECK nigh_status nigh_runner_prompt(nigh_runner *r, nigh_session *s, const int32_t *tokens,
                                                   uint32_t count, float *logits, nigh_err *err);
/* Stops the evaluation that runs now (or the next one) with ECANCEL. From any thread. */
NIGH_API void nigh_runner_cancel(nigh_runner *r);
/* The byte that cancel sets to 1, for somebody who can write to this memory but not call (the page of a worker). */
NIGH_API void *nigh_runner_cancel_flag(nigh_runner *r);

/* One vector for a text, pooled as the model says (decoders without a rule: mean of the last layer). out: [embed]
 * floats, not normalised. With pooling NONE: out is [count][embed]. count: 1..batch_tokens. */
NIGH_API NIGH_CHECK nigh_status nigh_runner_embed(nigh_runner *r, const int32_t *tokens, uint32_t count, float *out,
                                                  nigh_err *err);

#endif
