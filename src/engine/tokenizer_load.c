/* tokenizer_load.c - from the metadata of a GGUF file to the tables of a tokenizer. Nothing is read twice.
 *
 *     tokens[]  ->  text   "Ġthe"  "▁the"  "▁the"  as stored, one after the other; text_at[i] begins id i
 *               ->  key    " the"  " the"  " the"  as bytes of running text: what encoding looks up, decoding prints
 *               ->  slots  hash of the key -> id, for what plain text may become: no control, unknown, byte tokens
 *     merges[]  ->  pairs  (left id, right id) -> rank, merged id
 *     scores[]  ->  rank   a float as a number that falls as the score rises
 *
 * Every count, length, id and type is checked here, so that encoding and decoding cannot leave the tables. A crafted
 * file that makes a hash table degenerate is refused (NIGH_PROBES_MAX). */
#include "engine/tokenizer_vocab.h"

typedef struct {
    nigh_tokenizer *t;
    const nigh_gguf *g;
    nigh_err *err;
    const nigh_gguf_value *tokens;
    int16_t byte_of[324];   /* byte-level BPE: the byte that a letter stands for, or -1 */
    char both[2 * NIGH_TOKEN_BYTES_MAX];    /* of one merge: the bytes of its two parts */
    uint32_t next_whole;    /* the id that the next merge should make: files mostly keep both in one order */
} loader;

static nigh_status no_memory(loader *l) { return nigh_fail(l->err, NIGH_ENOMEM, 0, "no memory for the vocabulary"); }

/* ---- what the file says in single values ---- */

static nigh_status optional_bool(loader *l, nigh_str key, bool *out) {
    nigh_status st = nigh_gguf_bool(l->g, key, out, l->err);
    return st == NIGH_ENOENT ? NIGH_OK : st;
}

/* The id under `key`; unchanged when absent, -1 for 2^32-1. An id of no token is refused. */
static nigh_status optional_id(loader *l, const char *name, int32_t *out) {
    nigh_str key = nigh_str_of(name);
    uint32_t v = 0;
    nigh_status st = nigh_gguf_u32(l->g, key, &v, l->err);
    if (st == NIGH_ENOENT) return NIGH_OK;
    if (st != NIGH_OK) return st;
    if (v != UINT32_MAX && v >= l->t->count)
        return nigh_failf(l->err, NIGH_EDATA, nigh_gguf_find(l->g, key)->at, "%s is %u, but there are %u tokens",
                          name, v, l->t->count);
    *out = v == UINT32_MAX ? -1 : (int32_t)v;
    return NIGH_OK;
}

static nigh_status load_kind(loader *l) {
    nigh_str model, pre = NIGH_STR("default");
    nigh_tokenizer *t = l->t;
    nigh_status st = nigh_gguf_string(l->g, NIGH_STR("tokenizer.ggml.model"), &model, l->err);
    if (st == NIGH_ENOENT)
        return nigh_fail(l->err, NIGH_EDATA, 0, "the file has no vocabulary: tokenizer.ggml.model is missing");
    if (st != NIGH_OK) return st;
    if (nigh_str_eq(model, NIGH_STR("gpt2"))) t->kind = NIGH_VOCAB_BPE;
    else if (nigh_str_eq(model, NIGH_STR("llama"))) t->kind = NIGH_VOCAB_SPM;
    else if (nigh_str_eq(model, NIGH_STR("bert"))) t->kind = NIGH_VOCAB_WORDPIECE;
    else
        return nigh_failf(l->err, NIGH_ENOSUP, 0, "tokenizer.ggml.model '%.*s' is not supported",
                          (int)nigh_min(model.len, 64), model.ptr);
    if (t->kind == NIGH_VOCAB_BPE) {
        st = nigh_gguf_string(l->g, NIGH_STR("tokenizer.ggml.pre"), &pre, l->err);
        if (st != NIGH_OK && st != NIGH_ENOENT) return st;
        t->rule = nigh_split_find(pre);
        if (!t->rule)
            return nigh_failf(l->err, NIGH_ENOSUP, 0,
                              "the splitting rule '%.*s' (tokenizer.ggml.pre) is not supported",
                              (int)nigh_min(pre.len, 64), pre.ptr);
    }
    t->add_bos = t->kind == NIGH_VOCAB_BPE ? t->rule->add_bos : true;
    t->clean_spaces = t->kind == NIGH_VOCAB_BPE ? t->rule->clean_spaces : t->kind == NIGH_VOCAB_WORDPIECE;
    t->add_space_prefix = t->kind == NIGH_VOCAB_SPM;
    NIGH_TRY(optional_bool(l, NIGH_STR("tokenizer.ggml.add_bos_token"), &t->add_bos));
    NIGH_TRY(optional_bool(l, NIGH_STR("tokenizer.ggml.add_eos_token"), &t->add_eos));
    return optional_bool(l, NIGH_STR("tokenizer.ggml.add_space_prefix"), &t->add_space_prefix);
}

static nigh_status load_ids(loader *l) {
    nigh_tokenizer *t = l->t;
    t->bos = t->eos = t->eot = t->unk = t->sep = -1;
    if (t->kind == NIGH_VOCAB_SPM && t->count > 2) {
        t->unk = 0;
        t->bos = 1;
        t->eos = 2;
    }  /* what SentencePiece trains */
    if (t->kind == NIGH_VOCAB_WORDPIECE && t->count > 102) {
        t->unk = 100;
        t->bos = 101;
        t->sep = 102;
    } /* BERT's own */
    int32_t eom = -1, pad = -1;
    NIGH_TRY(optional_id(l, "tokenizer.ggml.cls_token_id", &t->bos));
    NIGH_TRY(optional_id(l, "tokenizer.ggml.bos_token_id", &t->bos));
    NIGH_TRY(optional_id(l, "tokenizer.ggml.eos_token_id", &t->eos));
    NIGH_TRY(optional_id(l, "tokenizer.ggml.eot_token_id", &t->eot));
    NIGH_TRY(optional_id(l, "tokenizer.ggml.eom_token_id", &eom));
    NIGH_TRY(optional_id(l, "tokenizer.ggml.unknown_token_id", &t->unk));
    NIGH_TRY(optional_id(l, "tokenizer.ggml.padding_token_id", &pad));
    NIGH_TRY(optional_id(l, "tokenizer.ggml.seperator_token_id", &t->sep));     /* spelt so in the format */
    if (eom >= 0) t->type[eom] |= NIGH_TOKEN_ENDS;
    return NIGH_OK;
}

/* ---- arrays as long as the vocabulary ---- */

static nigh_status check_length(loader *l, const nigh_gguf_value *v, const char *what) {
    if (v->count == l->t->count) return NIGH_OK;
    return nigh_failf(l->err, NIGH_EDATA, v->at, "tokenizer.ggml.%s has %llu items for %u tokens", what,
                      (unsigned long long)v->count, l->t->count);
}

static nigh_status load_types(loader *l) {
    const nigh_gguf_value *v;
    memset(l->t->type, NIGH_TOKEN_NORMAL, l->t->count);
    nigh_status st = nigh_gguf_array(l->g, NIGH_STR("tokenizer.ggml.token_type"), NIGH_GGUF_I32, &v, l->err);
    if (st == NIGH_ENOENT) return NIGH_OK;
    if (st != NIGH_OK) return st;
    NIGH_TRY(check_length(l, v, "token_type"));
    for (uint32_t i = 0; i < l->t->count; i++) {
        int64_t type = nigh_gguf_item_int(v, i);
        if (type < 0 || type > NIGH_TOKEN_BYTE)
            return nigh_failf(l->err, NIGH_EDATA, v->at, "token %u has the unknown type %lld", i, (long long)type);
        l->t->type[i] = type == 0 ? NIGH_TOKEN_NORMAL : (uint8_t)type;
    }
    return NIGH_OK;
}

static nigh_status load_scores(loader *l) {
    const nigh_gguf_value *v;
    nigh_status st = nigh_gguf_array(l->g, NIGH_STR("tokenizer.ggml.scores"), NIGH_GGUF_F32, &v, l->err);
    if (st != NIGH_OK && st != NIGH_ENOENT) return st;
    if (st == NIGH_OK) NIGH_TRY(check_length(l, v, "scores"));
    if (l->t->kind != NIGH_VOCAB_SPM) return NIGH_OK;
    l->t->rank = nigh_alloc(l->t->count, sizeof *l->t->rank);
    if (!l->t->rank) return no_memory(l);
    for (uint32_t i = 0; st == NIGH_OK && i < l->t->count; i++) {
        float score = nigh_gguf_item_float(v, i) + 0.0f;    /* -0 becomes 0 */
        uint32_t bits;
        if (score != score) return nigh_failf(l->err, NIGH_EDATA, v->at, "the score of token %u is not a number", i);
        memcpy(&bits, &score, sizeof bits);
        l->t->rank[i] = ~(bits >> 31 ? ~bits : bits | 0x80000000u);
    }
    return NIGH_OK;
}

/* ---- tokens ---- */

static bool is_byte_text(nigh_str s, unsigned *byte) {
    if (s.len != 6 || memcmp(s.ptr, "<0x", 3) || s.ptr[5] != '>') return false;
    int high = nigh_hex_digit(s.ptr[3]), low = nigh_hex_digit(s.ptr[4]);
    *byte = (unsigned)(high * 16 + low);
    return high >= 0 && low >= 0;
}

/* GPT-2's alphabet: printable bytes stand for themselves, the others for U+0100, U+0101, ... in order. */
static void make_alphabet(loader *l) {
    uint32_t next = 256;
    memset(l->byte_of, -1, sizeof l->byte_of);
    for (uint32_t b = 0; b < 256; b++) {
        bool printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
        l->byte_of[printable ? b : next++] = (int16_t)b;
    }
}

/* Writes the bytes that `s` stands for to out (at most s.len); SIZE_MAX when a letter stands for none. */
static size_t bytes_of(const loader *l, nigh_str s, char *out) {
    const uint8_t *p = (const uint8_t *)s.ptr;
    size_t n = 0;
    for (size_t i = 0; i < s.len;) {    /* every letter of the alphabet has one or two bytes */
        uint32_t letter = p[i++];
        if (letter >= 0x80) {
            if (letter < 0xc2 || letter > 0xc5 || i == s.len || (p[i] & 0xc0) != 0x80) return SIZE_MAX;
            letter = (letter & 0x1f) << 6 | (p[i++] & 0x3fu);
            if (letter >= NIGH_COUNT(l->byte_of)) return SIZE_MAX;
        }
        if (l->byte_of[letter] < 0) return SIZE_MAX;
        out[n++] = (char)l->byte_of[letter];
    }
    return n;
}

/* "▁" to " "; a space as stored is the letter itself and has no key. */
static size_t unescape(nigh_str s, char *out) {
    size_t n = 0;
    for (size_t i = 0; i < s.len; n++) {
        bool mark = s.len - i >= 3 && !memcmp(s.ptr + i, "\xe2\x96\x81", 3);
        out[n] = mark ? ' ' : s.ptr[i];
        i += mark ? 3 : 1;
    }
    return n;
}

static nigh_status write_key(loader *l, uint32_t id, nigh_str s, char *out, size_t *len) {
    nigh_tokenizer *t = l->t;
    unsigned type = nigh_vocab_type(t, id), byte;
    *len = s.len;
    if (t->kind == NIGH_VOCAB_SPM && type == NIGH_TOKEN_BYTE) {
        if (!is_byte_text(s, &byte))
            return nigh_failf(l->err, NIGH_EDATA, l->tokens->at,
                              "token %u is a byte token, but its text '%.*s' is not <0x00> to <0xFF>", id,
                              (int)nigh_min(s.len, 32), s.ptr);
        t->byte_id[byte] = (int32_t)id;
        out[0] = (char)byte;
        *len = 1;
    } else if (type == NIGH_TOKEN_CONTROL || type == NIGH_TOKEN_UNKNOWN
               || (type == NIGH_TOKEN_USER && t->kind == NIGH_VOCAB_BPE)) {
        memcpy(out, s.ptr, s.len);
    } else if (t->kind == NIGH_VOCAB_BPE) {
        size_t n = bytes_of(l, s, out);
        if (n == SIZE_MAX) {
            t->type[id] |= NIGH_TOKEN_NO_BYTES;
            memcpy(out, s.ptr, s.len);
        } else *len = n;
    } else *len = unescape(s, out);
    if (t->kind == NIGH_VOCAB_SPM && is_byte_text(s, &byte) && t->byte_id[byte] < 0) t->byte_id[byte] = (int32_t)id;
    return NIGH_OK;
}

static nigh_status load_texts(loader *l) {
    nigh_tokenizer *t = l->t;
    size_t cursor = 0, text = 0, key = 0, len;
    nigh_str s;
    for (uint32_t i = 0; i < t->count && nigh_gguf_next_string(l->tokens, &cursor, &s); i++) {
        if (s.len > NIGH_TOKEN_BYTES_MAX)
            return nigh_failf(l->err, NIGH_EDATA, l->tokens->at, "token %u has %zu bytes; at most %d are allowed", i,
                              s.len, NIGH_TOKEN_BYTES_MAX);
        if (s.len) memcpy(t->text + text, s.ptr, s.len);
        t->text_at[i] = (uint32_t)text;
        t->key_at[i] = (uint32_t)key;
        NIGH_TRY(write_key(l, i, (nigh_str){ t->text + text, s.len }, t->key + key, &len));
        text += s.len;
        key += len;
        t->text_at[i + 1] = (uint32_t)text;
        t->key_at[i + 1] = (uint32_t)key;
    }
    return NIGH_OK;
}

/* ---- the table of keys ---- */

static bool is_plain(const nigh_tokenizer *t, uint32_t id) {
    unsigned type = nigh_vocab_type(t, id);
    if (type == NIGH_TOKEN_CONTROL || type == NIGH_TOKEN_UNKNOWN || t->type[id] & NIGH_TOKEN_NO_BYTES) return false;
    if (type == NIGH_TOKEN_BYTE && t->kind == NIGH_VOCAB_SPM) return false;
    /* SentencePiece writes spaces as a mark; a token with a bare space can only be a user-defined one. */
    return t->kind != NIGH_VOCAB_SPM || !memchr(t->text + t->text_at[id], ' ', t->text_at[id + 1] - t->text_at[id]);
}

static nigh_status insert_key(loader *l, uint32_t id, uint32_t hash) {
    nigh_tokenizer *t = l->t;
    nigh_str key = nigh_vocab_key(t, id);
    for (uint32_t i = hash & t->slot_mask, probes = 0;; i = (i + 1) & t->slot_mask, probes++) {
        nigh_text_slot *s = &t->slots[i];
        if (probes == NIGH_PROBES_MAX)
            return nigh_fail(l->err, NIGH_EDATA, l->tokens->at, "the token texts are made to collide");
        if (s->id1 && !(s->hash == hash && nigh_str_eq(nigh_vocab_key(t, s->id1 - 1), key))) continue;
        if (s->id1) {
            t->type[s->id1 - 1] |= NIGH_TOKEN_TWIN;
            t->type[id] |= NIGH_TOKEN_TWIN;
        }
        /* Of two tokens with one text the later counts, but a normal one before any other. */
        if (s->id1 && nigh_vocab_type(t, s->id1 - 1) == NIGH_TOKEN_NORMAL
            && nigh_vocab_type(t, id) != NIGH_TOKEN_NORMAL)
            return NIGH_OK;
        *s = (nigh_text_slot){ hash, id + 1 };
        return NIGH_OK;
    }
}

static nigh_status load_slots(loader *l) {
    nigh_tokenizer *t = l->t;
    uint32_t slots = 16;
    while (slots < 2 * t->count) slots *= 2;
    t->slots = nigh_alloc(slots, sizeof *t->slots);
    if (!t->slots) return no_memory(l);
    t->slot_mask = slots - 1;
    t->splits_at_spaces = true;
    /* The table is too large for a near cache: a slot is asked for some keys before its turn. */
    enum { AHEAD = 16 };
    uint32_t hashes[AHEAD];
    for (uint32_t i = 0, next = 0; i < t->count; i++) {
        for (; next < t->count && next < i + AHEAD; next++) {
            nigh_str key = nigh_vocab_key(t, next);
            hashes[next % AHEAD] = nigh_hash_end(nigh_hash_more(NIGH_HASH_BEGIN, key.ptr, key.len));
            nigh_prefetch(&t->slots[hashes[next % AHEAD] & t->slot_mask]);
        }
        nigh_str key = nigh_vocab_key(t, i);
        if (key.len == 0 || !is_plain(t, i)) continue;
        t->key_bytes_max = (uint32_t)nigh_max(t->key_bytes_max, key.len);
        for (size_t k = 1; k < key.len; k++)
            if (key.ptr[k] == ' ' && key.ptr[k - 1] != ' ') t->splits_at_spaces = false;
        NIGH_TRY(insert_key(l, i, hashes[i % AHEAD]));
    }
    return NIGH_OK;
}

/* ---- merges ---- */

static nigh_status insert_pair(loader *l, nigh_pair_slot pair) {
    nigh_tokenizer *t = l->t;
    uint32_t i = nigh_pair_hash(pair.left, pair.right) & t->pair_mask;
    for (uint32_t probes = 0; t->pairs[i].rank != NIGH_NO_RANK; i = (i + 1) & t->pair_mask, probes++) {
        if (probes == NIGH_PROBES_MAX) return nigh_fail(l->err, NIGH_EDATA, 0, "the merges are made to collide");
        if (t->pairs[i].left == pair.left && t->pairs[i].right == pair.right) return NIGH_OK;   /* the first counts */
    }
    t->pairs[i] = pair;
    return NIGH_OK;
}

/* The token of a merged text; hash: of its first `left` bytes. */
static int32_t find_whole(loader *l, nigh_str key, size_t left, uint64_t hash) {
    uint32_t guess = l->next_whole;
    int32_t id = (int32_t)guess;
    bool hit = guess < l->t->count && !(l->t->type[guess] & NIGH_TOKEN_TWIN) && is_plain(l->t, guess)
               && nigh_str_eq(nigh_vocab_key(l->t, guess), key);
    if (!hit)
        id = nigh_vocab_find_hashed(l->t, key, nigh_hash_end(nigh_hash_more(hash, key.ptr + left, key.len - left)));
    if (id >= 0) l->next_whole = (uint32_t)id + 1;
    return id;
}

static nigh_status load_merge(loader *l, nigh_str merge, uint32_t rank, uint64_t at) {
    char *both = l->both;
    size_t space = merge.len > 2 ? nigh_str_find(merge, NIGH_STR(" "), 1) : SIZE_MAX, left = SIZE_MAX,
           right = SIZE_MAX;
    if (space != SIZE_MAX && merge.len <= sizeof l->both) {
        left = bytes_of(l, nigh_str_slice(merge, 0, space), both);
        if (left != SIZE_MAX) right = bytes_of(l, nigh_str_slice(merge, space + 1, merge.len), both + left);
    }
    if (right == SIZE_MAX || right == 0)
        return nigh_failf(l->err, NIGH_EDATA, at, "merge %u, '%.*s', is not two tokens with a space between", rank,
                          (int)nigh_min(merge.len, 64), merge.ptr);
    uint64_t hash = nigh_hash_more(NIGH_HASH_BEGIN, both, left);
    int32_t a = nigh_vocab_find_hashed(l->t, (nigh_str){ both, left }, nigh_hash_end(hash));
    int32_t b = nigh_vocab_find(l->t, (nigh_str){ both + left, right });
    int32_t ab = find_whole(l, (nigh_str){ both, left + right }, left, hash);
    if (a < 0 || b < 0)
        return nigh_failf(l->err, NIGH_EDATA, at, "merge %u, '%.*s': %s is no token that text can become", rank,
                          (int)nigh_min(merge.len, 64), merge.ptr, a < 0 ? "the left part" : "the right part");
    if (ab < 0) return NIGH_OK;     /* a vocabulary that was cut down keeps merges to tokens it lost: never taken */
    return insert_pair(l, (nigh_pair_slot){ (uint32_t)a, (uint32_t)b, rank, (uint32_t)ab });
}

static nigh_status load_merges(loader *l) {
    nigh_tokenizer *t = l->t;
    const nigh_gguf_value *v;
    size_t cursor = 0;
    nigh_str s;
    nigh_status st = nigh_gguf_array(l->g, NIGH_STR("tokenizer.ggml.merges"), NIGH_GGUF_STRING, &v, l->err);
    if (st == NIGH_ENOENT) return nigh_fail(l->err, NIGH_EDATA, 0, "tokenizer.ggml.merges is missing");
    if (st != NIGH_OK) return st;
    if (v->count > NIGH_VOCAB_MAX)
        return nigh_failf(l->err, NIGH_EDATA, v->at, "%llu merges; at most %d are allowed",
                          (unsigned long long)v->count, NIGH_VOCAB_MAX);
    uint32_t slots = 16;
    while (slots < 2 * v->count) slots *= 2;
    t->pairs = nigh_alloc(slots, sizeof *t->pairs);
    if (!t->pairs) return no_memory(l);
    t->pair_mask = slots - 1;
    for (uint32_t i = 0; i < slots; i++) t->pairs[i].rank = NIGH_NO_RANK;
    for (uint32_t i = 0; nigh_gguf_next_string(v, &cursor, &s); i++) NIGH_TRY(load_merge(l, s, i, v->at));
    for (unsigned b = 0; b < 256; b++) {
        char byte = (char)b;
        t->byte_id[b] = nigh_vocab_find(t, (nigh_str){ &byte, 1 });
    }
    return NIGH_OK;
}

/* ---- tokens that are special by their name ---- */

/* Files often forget to mark these. All of them become control tokens. ENDS: they end the text. ENDS_TURN: so do they,
 * and the first in this order that is there is the end of a turn, when the file does not name one. */
#define BAR "\xef\xbd\x9c"    /* U+FF5C, which DeepSeek has for | */
#define MARK "\xe2\x96\x81"   /* U+2581, for a space */
enum { IS_CONTROL, ENDS, ENDS_TURN };
static const struct { const char *text; int what; } known[] = {
    { "<|eot_id|>", ENDS_TURN }, { "<|im_end|>", ENDS_TURN }, { "<|end|>", ENDS_TURN }, { "<end_of_turn>", ENDS_TURN },
    { "<|endoftext|>", ENDS_TURN }, { "<|end_of_text|>", ENDS_TURN }, { "<EOT>", ENDS_TURN }, { "_<EOT>", ENDS_TURN },
    { "<" BAR "end" MARK "of" MARK "sentence" BAR ">", ENDS_TURN }, { "<end_of_utterance>", ENDS_TURN },
    { "<|eom_id|>", ENDS }, { "</s>", ENDS }, { "<|fim_pad|>", ENDS }, { "<fim-pad>", ENDS }, { "<fim_pad>", ENDS },
    { "<PAD>", ENDS }, { "<|fim_repo|>", ENDS }, { "<|repo_name|>", ENDS }, { "<fim-repo>", ENDS }, { "<REPO>", ENDS },
    { "<reponame>", ENDS }, { "<|file_sep|>", ENDS },
    { "<|fim_prefix|>", IS_CONTROL }, { "<fim-prefix>", IS_CONTROL }, { "<fim_prefix>", IS_CONTROL },
    { "<PRE>", IS_CONTROL }, { MARK "<PRE>", IS_CONTROL }, { "<|code_prefix|>", IS_CONTROL },
    { "<" BAR "fim" MARK "begin" BAR ">", IS_CONTROL },
    { "<|fim_suffix|>", IS_CONTROL }, { "<fim-suffix>", IS_CONTROL }, { "<fim_suffix>", IS_CONTROL },
    { "<SUF>", IS_CONTROL }, { MARK "<SUF>", IS_CONTROL }, { "<|code_suffix|>", IS_CONTROL },
    { "<" BAR "fim" MARK "hole" BAR ">", IS_CONTROL },
    { "<|fim_middle|>", IS_CONTROL }, { "<fim-middle>", IS_CONTROL }, { "<fim_middle>", IS_CONTROL },
    { "<MID>", IS_CONTROL }, { MARK "<MID>", IS_CONTROL }, { "<|code_middle|>", IS_CONTROL },
    { "<" BAR "fim" MARK "end" BAR ">", IS_CONTROL } };

static bool is_name(nigh_str s, const char *text) {
    size_t i = 0;
    while (i < s.len && text[i] && text[i] == s.ptr[i]) i++;
    return i == s.len && !text[i];
}

static void mark_known(loader *l) {
    nigh_tokenizer *t = l->t;
    size_t cursor = 0, best = NIGH_COUNT(known);
    int32_t turn = -1;
    nigh_str s;
    bool last[256] = { false };     /* which letters stand in front of the > that ends each of them */
    for (size_t k = 0; k < NIGH_COUNT(known); k++) last[(uint8_t)known[k].text[strlen(known[k].text) - 2]] = true;
    for (uint32_t i = 0; i < t->count && nigh_gguf_next_string(l->tokens, &cursor, &s); i++) {
        if (s.len < 4 || s.ptr[s.len - 1] != '>' || !last[(uint8_t)s.ptr[s.len - 2]]) continue;
        for (size_t k = 0; k < NIGH_COUNT(known); k++) {
            if (!is_name(s, known[k].text)) continue;
            t->type[i] = (uint8_t)(NIGH_TOKEN_CONTROL | (t->type[i] & ~NIGH_TOKEN_TYPE_BITS)
                                   | (known[k].what != IS_CONTROL ? NIGH_TOKEN_ENDS : 0));
            if (known[k].what == ENDS_TURN && k < best) { best = k; turn = (int32_t)i; }
        }
    }
    if (t->eot < 0) t->eot = turn;
    if (t->eot >= 0) t->type[t->eot] |= NIGH_TOKEN_ENDS;
    if (t->eos >= 0) t->type[t->eos] |= NIGH_TOKEN_ENDS;
}

static char lower(char c) { return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c; }

/* A habit of llama.cpp that such models were used with: when the name holds phi-3, most special tokens eat the white
 * space behind. */
static nigh_status mark_phi3(loader *l) {
    nigh_str name = { 0 };
    nigh_tokenizer *t = l->t;
    bool is_phi3 = false;
    nigh_status st = nigh_gguf_string(l->g, NIGH_STR("general.name"), &name, l->err);
    if (st != NIGH_OK) return st == NIGH_ENOENT ? NIGH_OK : st;
    for (size_t i = 0; i + 4 <= name.len; i++) {
        bool phi = lower(name.ptr[i]) == 'p' && lower(name.ptr[i + 1]) == 'h' && lower(name.ptr[i + 2]) == 'i';
        if (phi && (name.ptr[i + 3] == '3' || (name.ptr[i + 3] == '-' && i + 4 < name.len && name.ptr[i + 4] == '3')))
            is_phi3 = true;
    }
    for (uint32_t i = 0; is_phi3 && i < t->count; i++) {
        unsigned type = nigh_vocab_type(t, i);
        nigh_str s = { t->text + t->text_at[i], t->text_at[i + 1] - t->text_at[i] };
        if (type != NIGH_TOKEN_CONTROL && type != NIGH_TOKEN_USER && type != NIGH_TOKEN_UNKNOWN) continue;
        if (nigh_str_eq(s, NIGH_STR("<unk>")) || nigh_str_eq(s, NIGH_STR("<s>"))
            || nigh_str_eq(s, NIGH_STR("<|endoftext|>")))
            continue;
        t->type[i] |= NIGH_TOKEN_EATS_RIGHT;
    }
    return NIGH_OK;
}

/* ---- all of it ---- */

static nigh_status take_tables(loader *l) {
    nigh_tokenizer *t = l->t;
    nigh_status st = nigh_gguf_array(l->g, NIGH_STR("tokenizer.ggml.tokens"), NIGH_GGUF_STRING, &l->tokens, l->err);
    if (st == NIGH_ENOENT) return nigh_fail(l->err, NIGH_EDATA, 0, "tokenizer.ggml.tokens is missing");
    if (st != NIGH_OK) return st;
    if (l->tokens->count == 0 || l->tokens->count > NIGH_VOCAB_MAX || l->tokens->bytes.len > UINT32_MAX / 2)
        return nigh_failf(l->err, NIGH_EDATA, l->tokens->at, "a vocabulary of %llu tokens; 1 to %d are allowed",
                          (unsigned long long)l->tokens->count, NIGH_VOCAB_MAX);
    t->count = (uint32_t)l->tokens->count;
    t->type = nigh_alloc(t->count, sizeof *t->type);
    t->text_at = nigh_alloc(t->count + 1, sizeof *t->text_at);
    t->key_at = nigh_alloc(t->count + 1, sizeof *t->key_at);
    size_t bytes = l->tokens->bytes.len - 8 * (size_t)t->count + 1;     /* without the lengths in the file; never 0 */
    t->text = nigh_alloc(bytes, 1);
    t->key = nigh_alloc(bytes, 1);
    return t->type && t->text_at && t->key_at && t->text && t->key ? NIGH_OK : no_memory(l);
}

static nigh_status load(loader *l) {
    memset(l->t->byte_id, -1, sizeof l->t->byte_id);
    make_alphabet(l);
    NIGH_TRY(load_kind(l));
    NIGH_TRY(take_tables(l));
    NIGH_TRY(load_types(l));
    NIGH_TRY(load_ids(l));
    mark_known(l);
    NIGH_TRY(load_scores(l));
    NIGH_TRY(load_texts(l));
    NIGH_TRY(load_slots(l));
    if (l->t->kind == NIGH_VOCAB_BPE) NIGH_TRY(load_merges(l));
    NIGH_TRY(mark_phi3(l));
    return nigh_special_build(l->t, l->err);
}

nigh_status nigh_tokenizer_open(nigh_tokenizer **out, const nigh_gguf *g, nigh_err *err) {
    nigh_err why = { 0 };   /* a missing key that may be missing writes here, too */
    loader l = { .t = nigh_alloc(1, sizeof *l.t), .g = g, .err = &why };
    *out = NULL;
    nigh_status st = l.t ? load(&l) : no_memory(&l);
    if (st == NIGH_OK) *out = l.t;
    else {
        nigh_tokenizer_close(l.t);
        if (err) *err = why;
    }
    return st;
}

void nigh_tokenizer_close(nigh_tokenizer *t) {
    if (!t) return;
    nigh_free(t->text);
    nigh_free(t->key);
    nigh_free(t->text_at);
    nigh_free(t->key_at);
    nigh_free(t->type);
    nigh_free(t->rank);
    nigh_free(t->slots);
    nigh_free(t->pairs);
    nigh_free(t->special);
    nigh_free(t);
}
