/* tokenizer_vocab.h - the inside of a tokenizer: its tables, and the functions that its files share.
 * Built once by tokenizer_load.c, read-only afterwards. */
#ifndef NIGH_TOKENIZER_VOCAB_H
#define NIGH_TOKENIZER_VOCAB_H

#include "engine/tokenizer.h"
#include "engine/tokenizer_split.h"

typedef enum { NIGH_VOCAB_BPE, NIGH_VOCAB_SPM, NIGH_VOCAB_WORDPIECE } nigh_vocab_kind;

enum { /* types as in the file, then what is added here */
    NIGH_TOKEN_NORMAL = 1, NIGH_TOKEN_UNKNOWN = 2, NIGH_TOKEN_CONTROL = 3, NIGH_TOKEN_USER = 4, NIGH_TOKEN_UNUSED = 5,
    NIGH_TOKEN_BYTE = 6, NIGH_TOKEN_TYPE_BITS = 7,
    NIGH_TOKEN_ENDS = 8,            /* ends the text */
    NIGH_TOKEN_EATS_RIGHT = 16,     /* as a special token it takes the white space behind it along */
    NIGH_TOKEN_NO_BYTES = 32,       /* BPE: its text holds letters that stand for no byte */
    NIGH_TOKEN_TWIN = 64            /* another plain token has the same key */
};

enum { NIGH_VOCAB_MAX = 1 << 22, NIGH_TOKEN_BYTES_MAX = 1024, NIGH_SPECIAL_BYTES_MAX = 256, NIGH_PROBES_MAX = 128 };
#define NIGH_NO_RANK UINT32_MAX

typedef struct { uint32_t hash, id1; } nigh_text_slot;                  /* id1: id + 1, 0 is free */
typedef struct { uint32_t left, right, rank, id; } nigh_pair_slot;      /* rank NO_RANK is free */
/* A node of the tree of special texts; children of a node hang on one list. id: -1 when no token ends here. */
typedef struct { uint32_t child, sibling; int32_t id; uint8_t byte; } nigh_special_node;

struct nigh_tokenizer {
    nigh_vocab_kind kind;
    const nigh_split_rule *rule;    /* BPE */
    uint32_t count;
    /* Texts as stored and keys (what the text matches, as bytes of running text); id i is [at[i], at[i+1]). */
    char *text, *key;
    uint32_t *text_at, *key_at;
    uint32_t key_bytes_max;         /* of tokens in the table */
    uint8_t *type;
    uint32_t *rank;                 /* SPM: 0 is merged first */
    nigh_text_slot *slots;          /* key to id, of tokens that plain text may become */
    uint32_t slot_mask;
    nigh_pair_slot *pairs;          /* BPE: two ids to the merged one */
    uint32_t pair_mask;
    int32_t byte_id[256];           /* BPE: the token of a byte; SPM: its byte token; -1: none */
    nigh_special_node *special;     /* [0] is not used; first[b]: the node of first byte b, or 0 */
    uint32_t special_count;
    uint32_t first[256];
    bool has_user, has_eats_right;
    bool splits_at_spaces;          /* SPM: no token holds a space behind another letter */
    bool add_bos, add_eos, add_space_prefix, clean_spaces;
    int32_t bos, eos, eot, unk, sep; /* -1: none; sep: what WordPiece puts behind a text */
};

static inline unsigned nigh_vocab_type(const nigh_tokenizer *t, uint32_t id) {
    return t->type[id] & NIGH_TOKEN_TYPE_BITS;
}
static inline nigh_str nigh_vocab_key(const nigh_tokenizer *t, uint32_t id) {
    return (nigh_str){ t->key + t->key_at[id], t->key_at[id + 1] - t->key_at[id] };
}

/* A hash that grows byte by byte (FNV-1a), and its last step. */
#define NIGH_HASH_BEGIN 0xcbf29ce484222325u
static inline uint64_t nigh_hash_more(uint64_t h, const char *p, size_t n) {
    for (size_t i = 0; i < n; i++) h = (h ^ (unsigned char)p[i]) * 0x100000001b3u;
    return h;
}
static inline uint32_t nigh_hash_end(uint64_t h) { return (uint32_t)((h ^ h >> 29) * 0xbf58476d1ce4e5b9u >> 32); }

/* The token whose key is `key`, among those that plain text may become; -1: none. */
int32_t nigh_vocab_find(const nigh_tokenizer *t, nigh_str key);
/* The same when the hash is known (nigh_hash_end over the key). */
int32_t nigh_vocab_find_hashed(const nigh_tokenizer *t, nigh_str key, uint32_t hash);
static inline uint32_t nigh_pair_hash(uint32_t left, uint32_t right) {
    return (uint32_t)((((uint64_t)left << 32 | right) * 0x9e3779b97f4a7c15u) >> 32);
}
/* BPE: what left and right merge into; rank NO_RANK when they do not. */
static inline uint32_t nigh_vocab_pair(const nigh_tokenizer *t, int32_t left, int32_t right, int32_t *into) {
    for (uint32_t i = nigh_pair_hash((uint32_t)left, (uint32_t)right) & t->pair_mask;; i = (i + 1) & t->pair_mask) {
        const nigh_pair_slot *s = &t->pairs[i];
        if (s->rank == NIGH_NO_RANK) return NIGH_NO_RANK;
        if (s->left == (uint32_t)left && s->right == (uint32_t)right) { *into = (int32_t)s->id; return s->rank; }
    }
}

/* ---- tokenizer_special.c ---- */
/* Builds the tree of special texts. Fails: EDATA (a text too long), ENOMEM. */
nigh_status nigh_special_build(nigh_tokenizer *t, nigh_err *err);
/* Pieces of a text in order: plain (id -1) or one special token. */
typedef struct { size_t begin, end; int32_t id; } nigh_fragment;
typedef nigh_status nigh_fragment_fn(void *ud, nigh_fragment f);
typedef struct { bool parse_special; const uint8_t *plain; } nigh_special_where;    /* plain: see tokenizer.h */
/* Calls fn for every piece. Only user-defined tokens are found unless parse_special, and control tokens only where
 * plain is 0. Fails: ENOMEM, ERANGE, what fn returns. */
nigh_status nigh_special_split(const nigh_tokenizer *t, nigh_str text, nigh_special_where where, nigh_fragment_fn *fn,
                               void *ud);

/* ---- tokenizer_merge.c and tokenizer_wordpiece.c: plain text to ids ---- */
typedef struct nigh_encoder nigh_encoder;
/* text_bytes: of the whole text, to size the word cache. NULL when out of memory. */
nigh_encoder *nigh_encoder_new(const nigh_tokenizer *t, size_t text_bytes, nigh_ids *out);
void nigh_encoder_free(nigh_encoder *e);
nigh_status nigh_encoder_plain_bpe(nigh_encoder *e, nigh_str text);
/* space_before: put the space in front that the vocabulary wants at the beginning. */
nigh_status nigh_encoder_plain_spm(nigh_encoder *e, nigh_str text, bool space_before);
nigh_status nigh_wordpiece_plain(const nigh_tokenizer *t, nigh_str text, nigh_ids *out);

/* ---- a heap of numbers, smallest first (tokenizer_merge.c) ---- */
typedef struct { uint64_t *at; size_t len; } nigh_heap;
void nigh_heap_order(nigh_heap *h);                 /* makes any order a heap */
void nigh_heap_push(nigh_heap *h, uint64_t v);      /* the caller knows that there is room */
uint64_t nigh_heap_pop(nigh_heap *h);

#endif
