/* export.c - see export.h.
 * Tokens are stored as GPT-2's byte-level vocabularies store them: each byte as one visible letter. The bytes
 * 0x21-0x7e, 0xa1-0xac and 0xae-0xff stand for themselves; the 68 others become U+0100, U+0101, ... in order. A
 * merge is the two texts with a space between. */
#include "engine/gguf.h"
#include "learn/export.h"

typedef struct {
    const nigh_state *s;
    nigh_gguf_writer *w;
    nigh_type type;
    nigh_buf text;                          /* of all tokens and merges                 */
    nigh_str *tokens, *merges;
    int32_t *kinds;
    uint8_t *data;                          /* all tensors, one after the other         */
    size_t data_at;
    nigh_status status;
} job;

/* ---- vocabulary ---- */
static bool stands_for_itself(unsigned b) {
    return (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
}

static size_t visible(uint8_t byte, char out[2]) {
    unsigned c = byte, hidden = 0;
    for (unsigned b = 0; b < byte; b++) hidden += !stands_for_itself(b);
    if (!stands_for_itself(byte)) c = 0x100 + hidden;
    if (c < 0x80) { out[0] = (char)c; return 1; }
    out[0] = (char)(0xc0 | c >> 6);
    out[1] = (char)(0x80 | (c & 0x3f));
    return 2;
}

/* Bytes that the texts of all tokens and merges need. */
static size_t text_bytes(const nigh_state *s, uint32_t *lengths) {
    size_t total = 64;
    char out[2];
    for (unsigned b = 0; b < 256; b++)
        total += lengths[NIGH_BPE_SPECIALS + b] = (uint32_t)visible((uint8_t)b, out);
    for (size_t i = 0; i < s->merge_count; i++) {
        uint32_t both = lengths[s->merges[i][0]] + lengths[s->merges[i][1]];
        lengths[NIGH_BPE_BASE + i] = both;
        total += 2 * (size_t)both + 1;
    }
    return total;
}

/* Appends to text; room was reserved, so earlier views stay valid. */
static nigh_str add_text(job *j, nigh_str a, const char *between, nigh_str b) {
    const nigh_str parts[] = { a, nigh_str_of(between), b };
    size_t from = j->text.len;
    for (size_t i = 0; i < NIGH_COUNT(parts) && j->status == NIGH_OK; i++)
        j->status = nigh_buf_add(&j->text, parts[i]);
    return nigh_str_slice(nigh_buf_str(&j->text), from, j->text.len);
}

static nigh_status make_vocabulary(job *j) {
    static const char *const specials[NIGH_BPE_SPECIALS] = { "<|endoftext|>", "<|im_start|>", "<|im_end|>" };
    const nigh_state *s = j->s;
    size_t vocab = s->recipe.shape.vocab, used = NIGH_BPE_BASE + s->merge_count;
    uint32_t *lengths = nigh_alloc(used, sizeof *lengths);
    j->tokens = nigh_alloc(vocab, sizeof *j->tokens);
    j->merges = nigh_alloc(s->merge_count + 1, sizeof *j->merges);
    j->kinds = nigh_alloc(vocab, sizeof *j->kinds);
    if (!lengths || !j->tokens || !j->merges || !j->kinds) { nigh_free(lengths); return NIGH_ENOMEM; }
    j->text = NIGH_BUF(text_bytes(s, lengths) + 32 * (vocab - used));
    nigh_free(lengths);
    NIGH_TRY(nigh_buf_reserve(&j->text, j->text.limit));
    for (size_t i = 0; i < NIGH_BPE_SPECIALS; i++) j->tokens[i] = nigh_str_of(specials[i]);
    for (unsigned b = 0; b < 256; b++) {
        char out[2];
        j->tokens[NIGH_BPE_SPECIALS + b] = add_text(j, (nigh_str){ out, visible((uint8_t)b, out) }, "",
            NIGH_STR(""));
    }
    for (size_t i = 0; i < s->merge_count; i++) {
        nigh_str left = j->tokens[s->merges[i][0]], right = j->tokens[s->merges[i][1]];
        j->tokens[NIGH_BPE_BASE + i] = add_text(j, left, "", right);
        j->merges[i] = add_text(j, left, " ", right);
    }
    for (size_t i = used; i < vocab; i++) {             /* little text gives fewer merges than were asked for */
        char name[32];
        size_t len = nigh_format(name, sizeof name, "<|unused_%zu|>", i);
        j->tokens[i] = add_text(j, (nigh_str){ name, len }, "", NIGH_STR(""));
    }
    for (size_t i = 0; i < vocab; i++)
        j->kinds[i] = i < NIGH_BPE_SPECIALS ? 3 /* control */ : i < used ? 1 /* normal */ : 5 /* unused */;
    return j->status;
}

/* ---- tensors ---- */
static void put_tensor(job *j, const char *name, size_t at, size_t rows, size_t cols, bool matrix) {
    const nigh_type_info *info = nigh_type_find(matrix ? (uint32_t)j->type : NIGH_TYPE_F32);
    uint64_t dims[2] = { cols, rows };
    uint8_t *data = j->data + j->data_at;
    size_t bytes = rows * cols / info->block_values * info->block_bytes;
    if (cols % info->block_values) { j->status = NIGH_EINVAL; return; }
    if (!nigh_quantize(matrix ? j->type : NIGH_TYPE_F32, j->s->params + at, data, rows * cols)) {
        j->status = NIGH_EINVAL;
        return;
    }
    j->data_at += nigh_round_up(bytes, 64);
    nigh_gguf_put_tensor(j->w, nigh_str_of(name), matrix ? j->type : NIGH_TYPE_F32, dims, rows > 1
        || matrix ? 2 : 1, data);
}

static void put_layer(job *j, size_t l) {
    const nigh_shape *n = &j->s->recipe.shape;
    nigh_layer_at at = nigh_shape_layer(n, l);
    size_t d = n->dim, ff = n->ff, kv = n->kv_heads * nigh_shape_head_dim(n);
    const struct { const char *name; size_t at, rows, cols; bool matrix; } parts[] = {
        { "attn_norm", at.attn_norm, 1, d, false }, { "attn_q", at.wqkv, d, d, true },
            { "attn_k", at.wqkv + d * d, kv, d, true },
        { "attn_v", at.wqkv + (d + kv) * d, kv, d, true }, { "attn_output", at.wo, d, d, true },
            { "ffn_norm", at.ff_norm, 1, d, false },
        { "ffn_gate", at.wgu, ff, d, true }, { "ffn_up", at.wgu + ff * d, ff, d, true },
            { "ffn_down", at.wd, d, ff, true } };
    for (size_t i = 0; i < NIGH_COUNT(parts); i++) {
        char name[64];
        nigh_format(name, sizeof name, "blk.%zu.%s.weight", l, parts[i].name);
        put_tensor(j, name, parts[i].at, parts[i].rows, parts[i].cols, parts[i].matrix);
    }
}

static nigh_status put_tensors(job *j) {
    const nigh_shape *n = &j->s->recipe.shape;
    j->data = nigh_alloc(j->s->count * sizeof(float) + 64 * (9 * (size_t)n->layers + 2), 1);
    if (!j->data) return NIGH_ENOMEM;
    put_tensor(j, "token_embd.weight", 0, n->vocab, n->dim, true);
    put_tensor(j, "output_norm.weight", nigh_shape_out_norm(n), 1, n->dim, false);
    for (size_t l = 0; l < n->layers; l++) put_layer(j, l);
    return j->status;
}

/* ---- keys ---- */
static void put_text(job *j, const char *key, const char *text) {
    if (text && *text) nigh_gguf_put_string(j->w, key, nigh_str_of(text));
}

static uint32_t file_type(nigh_type t) { /* the values of general.file_type in the GGUF specification */
    switch (t) {
    case NIGH_TYPE_F16: return 1;
    case NIGH_TYPE_Q4_0: return 2;
    case NIGH_TYPE_Q8_0: return 7;
    case NIGH_TYPE_BF16: return 32;
    default: return 0;
    }
}

static void put_keys(job *j, nigh_export_opts o) {
    const nigh_shape *n = &j->s->recipe.shape;
    nigh_gguf_writer *w = j->w;
    put_text(j, "general.architecture", "llama");
    put_text(j, "general.name", o.name && *o.name ? o.name : "nigh model");
    put_text(j, "general.license", o.license);
    put_text(j, "general.description", o.about);
    nigh_gguf_put_u32(w, "general.file_type", file_type(j->type));
    nigh_gguf_put_u32(w, "general.quantization_version", 2);
    nigh_gguf_put_u32(w, "llama.context_length", n->window);
    nigh_gguf_put_u32(w, "llama.embedding_length", n->dim);
    nigh_gguf_put_u32(w, "llama.block_count", n->layers);
    nigh_gguf_put_u32(w, "llama.feed_forward_length", n->ff);
    nigh_gguf_put_u32(w, "llama.attention.head_count", n->heads);
    nigh_gguf_put_u32(w, "llama.attention.head_count_kv", n->kv_heads);
    nigh_gguf_put_u32(w, "llama.rope.dimension_count", (uint32_t)nigh_shape_head_dim(n));
    nigh_gguf_put_f32(w, "llama.rope.freq_base", n->rope_base);
    nigh_gguf_put_f32(w, "llama.attention.layer_norm_rms_epsilon", n->eps);
    nigh_gguf_put_u32(w, "llama.vocab_size", n->vocab);
    put_text(j, "tokenizer.ggml.model", "gpt2");
    put_text(j, "tokenizer.ggml.pre", "gpt-2");
    nigh_gguf_put_strings(w, "tokenizer.ggml.tokens", j->tokens, n->vocab);
    nigh_gguf_put_i32s(w, "tokenizer.ggml.token_type", j->kinds, n->vocab);
    nigh_gguf_put_strings(w, "tokenizer.ggml.merges", j->merges, j->s->merge_count);
    nigh_gguf_put_u32(w, "tokenizer.ggml.bos_token_id", NIGH_BPE_END);
    nigh_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", NIGH_BPE_END);
    nigh_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", true);
    nigh_gguf_put_bool(w, "tokenizer.ggml.add_eos_token", false);
    nigh_gguf_put_bool(w, "tokenizer.ggml.add_space_prefix", false);
}

nigh_status nigh_export(const nigh_state *s, nigh_export_opts o, nigh_buf *out, nigh_err *err) {
    job j = { .s = s, .type = o.type, .w = nigh_gguf_writer_new() };
    nigh_status status = j.w ? make_vocabulary(&j) : NIGH_ENOMEM;
    if (status == NIGH_OK) {
        put_keys(&j, o);
        status = put_tensors(&j);
    }
    if (status == NIGH_OK) status = nigh_gguf_finish(j.w, out, err);
    else (void)nigh_fail(err, status, 0, status == NIGH_EINVAL
        ? "this type cannot be written, or its blocks do not fit the model's widths"
        : "not enough memory to write the model");
    nigh_gguf_writer_free(j.w);
    nigh_buf_release(&j.text);
    nigh_free(j.tokens);
    nigh_free(j.merges);
    nigh_free(j.kinds);
    nigh_free(j.data);
    return status;
}
