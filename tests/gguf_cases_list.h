/* gguf_cases_list.h - the groups of bad files, in the order of their numbers; see gguf_cases.h, which includes this.
 * G39 and G40 (a file that changes while it is read) are questions to whoever maps files, not to these bytes. */
#ifndef NIGH_GGUF_CASES_LIST_H
#define NIGH_GGUF_CASES_LIST_H

typedef const char *char_p;
#define GC_ID(...) (snprintf(id, sizeof id, __VA_ARGS__), id)
/* Runs what follows for each value in turn. */
#define GC_EACH(type, v, ...) \
    for (const type *v##_ = (const type[]){ __VA_ARGS__ }, \
                    *v##_end = v##_ + sizeof((const type[]){ __VA_ARGS__ }) / sizeof(type); \
         v##_ < v##_end; v##_++) \
        for (type v = *v##_, *once_##v = &v; once_##v; once_##v = NULL)

/* ---- G1-G5: magic, version, counts ---- */
static inline void gc_cases_head(const gc_out *out) {
    char id[128];
    GC_CASE(out, "seed", GC_GOOD, (void)m);
    for (size_t n = 0; n < 24; n++) GC_CASE(out, GC_ID("G1 only %zu bytes", n), GC_BAD_FILE, gc_file f;
            gc_write(m, &f);
                                            m->cut = f.bytes.len - n; gc_clear(&f.bytes));
    GC_CASE(out, "G1 magic reversed", GC_BAD_FILE, memcpy(m->magic, "FUGG", 4));
    GC_CASE(out, "G1 magic of GGML", GC_BAD_FILE, memcpy(m->magic, "lmgg", 4));
    GC_EACH(uint32_t, v, 0, 1, 4, 0x03000000, 0x02000000, UINT32_MAX)
        GC_CASE(out, GC_ID("G2 version %u", v), GC_BAD_FILE, m->version = v);
    GC_CASE(out, "G2 version 2", GC_GOOD, m->version = 2);
    GC_EACH(uint64_t, v, UINT64_MAX, 1ull << 63, 1ull << 60, 1ull << 32, 65537)
        GC_CASE(out, GC_ID("G3 %llu tensors", (unsigned long long)v), GC_BAD_FILE,
                m->tensor_count_more = v - m->tensor_count);
    GC_CASE(out, "G3 one tensor more than there is", GC_BAD_FILE, m->tensor_count_more = 1);
    GC_CASE(out, "G3 one tensor fewer than there is", GC_BAD_FILE, m->tensor_count_more = UINT64_MAX);
    GC_CASE(out, "G3 trailing bytes", GC_BAD_FILE, m->tail = 33);
    GC_EACH(uint64_t, v, UINT64_MAX, 1ull << 63, 1ull << 60, 1ull << 32, 65537)
        GC_CASE(out, GC_ID("G4 %llu keys", (unsigned long long)v), GC_BAD_FILE, m->key_count_more = v - m->key_count);
    GC_CASE(out, "G4 one key more than there is", GC_BAD_FILE, m->key_count_more = 1);
    GC_CASE(out, "G4 one key fewer than there is", GC_BAD_FILE, m->key_count_more = UINT64_MAX);
    GC_CASE(out, "G5 no keys, no tensors, but bytes", GC_BAD_FILE, m->key_count_more = 0 - (uint64_t)m->key_count;
            m->tensor_count_more = 0 - (uint64_t)m->tensor_count);
    GC_CASE(out, "G5 nothing at all", GC_BAD_MODEL, gc_release(m); memcpy(m->magic, "GGUF", 5); m->version = 3;
            m->alignment = 32);
}

/* ---- G6-G12: keys and values ---- */
static inline gc_key *gc_key_with(gc_model *m, const char *name, size_t len) {
    gc_key *k = gc_key_add(m, "", GC_U8);
    gc_add(&k->key, name, len);
    k->key_length = k->key.len;
    gc_uint(&k->payload, 1, 1);
    return k;
}

static inline size_t gc_end_of_keys(const gc_model *m) {
    size_t at = 24;
    for (size_t i = 0; i < m->key_count; i++) at += 12 + m->keys[i].key.len + m->keys[i].payload.len;
    return at;
}

static inline void gc_cases_keys(const gc_out *out) {
    char id[128];
    GC_CASE(out, "G6 key of 0 bytes", GC_BAD_FILE, gc_key_with(m, "", 0));
    GC_EACH(uint64_t, v, UINT64_MAX, 1ull << 63, 1ull << 32, 65536, 100000)
        GC_CASE(out, GC_ID("G6 key of %llu bytes", (unsigned long long)v), GC_BAD_FILE,
                gc_key_with(m, "k", 1)->key_length = v);
    GC_CASE(out, "G6 key of 65535 bytes", GC_GOOD, gc_key *k = gc_key_with(m, "k", 1); gc_fill(&k->key, 'x', 65534);
            k->key_length = 65535);
    GC_CASE(out, "G6 key of 65536 bytes, all there", GC_BAD_FILE, gc_key *k = gc_key_with(m, "k", 1);
            gc_fill(&k->key, 'x', 65535);
            k->key_length = 65536);
    GC_CASE(out, "G6 key with NUL", GC_BAD_FILE, gc_key_with(m, "a\0b", 3));
    GC_CASE(out, "G6 key with an escape", GC_BAD_FILE, gc_key_with(m, "a\x1b[31m", 6));
    GC_CASE(out, "G6 key with DEL", GC_BAD_FILE, gc_key_with(m, "a\x7f", 2));
    GC_CASE(out, "G6 key with a C1 control", GC_BAD_FILE, gc_key_with(m, "a\xc2\x9b", 3));
    GC_CASE(out, "G6 key in letters", GC_GOOD, gc_key_with(m, "\xc3\xa4\xe2\x82\xac\xf0\x9f\x99\x82", 9));
    GC_EACH(char_p, v, "\xff", "\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80",
        "\xf5\x80\x80\x80",
            "\xe0\x80\x80", "\xf0\x80\x80\x80")
        GC_CASE(out, GC_ID("G6 key that is no UTF-8, first byte %02x", (unsigned)(uint8_t)v[0]), GC_BAD_FILE,
                gc_key_with(m, v, strlen(v)));
    GC_CASE(out, "G7 a key twice", GC_BAD_FILE, gc_uint(&gc_key_add(m, "llama.block_count", GC_U32)->payload, 2, 4));
    GC_CASE(out, "G7 a key twice, of two types", GC_BAD_FILE,
            gc_text(&gc_key_add(m, "llama.block_count", GC_STR)->payload, "2"));
    GC_CASE(out, "G7 two architectures", GC_BAD_FILE,
            gc_text(&gc_key_add(m, "general.architecture", GC_STR)->payload, "qwen2"));
    GC_EACH(uint32_t, v, 13, 14, 255, 256, 1u << 31, UINT32_MAX)
        GC_CASE(out, GC_ID("G8 value type %u", v), GC_BAD_FILE, gc_key_of(m, "general.file_type")->type = v);
    GC_CASE(out, "G9 array of arrays", GC_BAD_FILE, gc_bytes *b = gc_array(m, "x", GC_ARR, 1); gc_uint(b, GC_U8, 4);
            gc_uint(b, 0, 8));
    GC_CASE(out, "G9 arrays 1000 deep", GC_BAD_FILE, gc_bytes *b = gc_array(m, "x", GC_ARR, 1);
            for (int i = 0; i < 1000; i++) { gc_uint(b, GC_ARR, 4); gc_uint(b, 1, 8); } gc_uint(b, GC_U8, 4);
                    gc_uint(b, 0, 8));
    GC_EACH(uint32_t, v, 13, 255, 1u << 31, UINT32_MAX)
        GC_CASE(out, GC_ID("G9 array of type %u", v), GC_BAD_FILE, gc_array(m, "x", v, 0));
    GC_CASE(out, "G9 empty array", GC_GOOD, gc_array(m, "x", GC_U64, 0));
    GC_EACH(uint64_t, v, UINT64_MAX, 1ull << 61, (1ull << 61) + 1, 1ull << 63, 1ull << 32, 100000)
        GC_EACH(uint32_t, t, GC_U8, GC_U32, GC_U64, GC_STR, GC_BOOL)
            GC_CASE(out, GC_ID("G10 array of %llu of type %u", (unsigned long long)v, t), GC_BAD_FILE,
                    gc_array(m, "x", t, v));
    GC_CASE(out, "G10 10^9 strings of no bytes", GC_BAD_FILE, gc_bytes *b = gc_array(m, "x", GC_STR, 1000000000);
            for (int i = 0; i < 100; i++) gc_uint(b, 0, 8));
    GC_EACH(uint64_t, v, UINT64_MAX, 1ull << 63, 1ull << 31, (1ull << 32) + 5, 1ull << 32, (16u << 20) + 1)
        GC_CASE(out, GC_ID("G11 string of %llu bytes", (unsigned long long)v), GC_BAD_FILE,
                gc_uint(&gc_reset(m, "x", GC_STR)->payload, v, 8));
    for (uint64_t more = 0; more < 2; more++) { /* up to the end of the file (its tensors are missing), one more */
        GC_CASE(out, GC_ID("G11 string that leaves the file by %u bytes", (unsigned)more), GC_BAD_FILE, gc_file f;
                gc_string(m, "x", ""); gc_write(m, &f); gc_key *k = gc_key_of(m, "x"); k->payload.len = 0;
                gc_uint(&k->payload, f.bytes.len - (gc_end_of_keys(m) + 8) + more, 8); gc_clear(&f.bytes));
    }
    GC_EACH(uint32_t, v, 2, 127, 128, 255)
        GC_CASE(out, GC_ID("G12 bool of value %u", v), GC_BAD_FILE,
                gc_number(m, "tokenizer.ggml.add_bos_token", GC_BOOL, v));
    GC_CASE(out, "G12 bool 2 in an array", GC_BAD_FILE, gc_bytes *b = gc_array(m, "x", GC_BOOL, 3);
            gc_uint(b, 0x020001, 3));
    GC_EACH(char_p, v, "llama.rope.freq_base", "llama.attention.layer_norm_rms_epsilon")
        GC_EACH(uint32_t, t, 0x7fc00000, 0x7f800000, 0xff800000)
            GC_CASE(out, GC_ID("G12 %s with the bits %08x", v, t), GC_BAD_MODEL, gc_number(m, v, GC_F32, t));
    GC_CASE(out, "G12 scaling factor NaN", GC_BAD_MODEL, gc_string(m, "llama.rope.scaling.type", "linear");
            gc_number(m, "llama.rope.scaling.factor", GC_F32, 0x7fc00000));
    GC_CASE(out, "G12 a negative number of layers", GC_BAD_MODEL,
            gc_number(m, "llama.block_count", GC_I32, UINT32_MAX));
}

/* ---- G13, G14: keys of the model that are missing or of another type ---- */
static const char *const gc_needed[] = {
    "general.architecture", "llama.context_length", "llama.embedding_length", "llama.block_count",
        "llama.feed_forward_length",
    "llama.attention.head_count", "llama.attention.layer_norm_rms_epsilon", "tokenizer.ggml.model",
        "tokenizer.ggml.tokens" };

static inline bool gc_is_number(uint32_t type) { return type != GC_STR && type != GC_ARR && type != GC_BOOL; }

/* Of the same kind: an integer of another width, a float of another width. */
static inline bool gc_same_kind(uint32_t a, uint32_t b) {
    bool float_a = a == GC_F32 || a == GC_F64, float_b = b == GC_F32 || b == GC_F64;
    return gc_is_number(a) && gc_is_number(b) ? float_a == float_b : a == b;
}

static inline void gc_cases_types(const gc_out *out) {
    char id[128];
    gc_model *seed = malloc(sizeof *seed);
    if (!seed) abort();
    gc_seed(seed);
    for (size_t i = 0; i < sizeof gc_needed / sizeof *gc_needed; i++)
        GC_CASE(out, GC_ID("G13 without %s", gc_needed[i]), GC_BAD_MODEL, gc_drop_key(m, gc_needed[i]));
    for (size_t i = 0; i < seed->key_count; i++) {
        char key[96] = { 0 };
        memcpy(key, seed->keys[i].key.ptr, seed->keys[i].key.len);
        bool needed = false;
        for (size_t k = 0; k < sizeof gc_needed / sizeof *gc_needed; k++) needed = needed || !strcmp(key,
                gc_needed[k]);
        for (uint32_t type = 0; type <= GC_F64; type++) {
            gc_want want = needed && !gc_same_kind(seed->keys[i].type, type) ? GC_BAD_MODEL : GC_ANY;
            if (type == GC_STR) GC_CASE(out, GC_ID("G14 %s as a string", key), want, gc_string(m, key, "2"));
            else if (type == GC_ARR) GC_CASE(out, GC_ID("G14 %s as an array", key), want,
                gc_uint(gc_array(m, key, GC_U8, 1), 2, 1));
            else GC_CASE(out, GC_ID("G14 %s as type %u", key, type), want, gc_number(m, key, type, 1));
        }
    }
    gc_release(seed);
    free(seed);
}

/* ---- G15-G19: names and shapes ---- */
static inline void gc_cases_shapes(const gc_out *out) {
    char id[128];
    GC_EACH(uint64_t, v, 1ull << 31, (1ull << 31) + 1, (1ull << 32) + 4)
        GC_CASE(out, GC_ID("G15 token of %llu bytes", (unsigned long long)v), GC_BAD_FILE,
                memcpy(gc_key_of(m, "tokenizer.ggml.tokens")->payload.ptr + 12, &(uint64_t){ v }, 8));
    GC_EACH(uint64_t, v, 0, 65, 1ull << 31, UINT64_MAX)
        GC_CASE(out, GC_ID("G16 tensor name of %llu bytes", (unsigned long long)v), GC_BAD_FILE,
                gc_tensor_of(m, "output.weight")->name_length = v);
    GC_EACH(uint32_t, v, 63, 64, 65)
        GC_CASE(out, GC_ID("G16 tensor name of %u bytes, all there", v), v == 65 ? GC_BAD_FILE : GC_ANY,
                gc_tensor *t = gc_tensor_add(m, "", GC_TYPE_F32, 32, 0); gc_fill(&t->name, 'x', v);
                    t->name_length = v);
    GC_CASE(out, "G16 tensor name with NUL", GC_BAD_FILE, gc_tensor_of(m, "output.weight")->name.ptr[3] = 0);
    GC_CASE(out, "G16 tensor name with an escape", GC_BAD_FILE, gc_tensor_of(m, "output.weight")->name.ptr[3] = 0x1b);
    GC_CASE(out, "G16 tensor ../x", GC_ANY, gc_tensor_add(m, "../x", GC_TYPE_F32, 32, 0));
    GC_EACH(uint32_t, v, 0, 5, 1u << 31, UINT32_MAX)
        GC_CASE(out, GC_ID("G17 %u dimensions", v), GC_BAD_FILE, gc_tensor_of(m, "output.weight")->dim_count = v);
    GC_EACH(uint64_t, v, 0, 1ull << 63, UINT64_MAX, 1ull << 62, 1ull << 32) for (uint32_t d = 0; d < 2; d++)
        GC_CASE(out, GC_ID("G18 dimension %u is %llu", d, (unsigned long long)v), GC_BAD_FILE,
                gc_tensor_of(m, "output.weight")->dims[d] = v);
    for (uint32_t d = 0; d < 4; d++)
        GC_CASE(out, GC_ID("G18 dimension %u of 4 is 0", d), GC_BAD_FILE,
                gc_tensor *t = gc_tensor_of(m, "output_norm.weight");
                t->dim_count = 4; t->dims[1] = t->dims[2] = t->dims[3] = 1; t->dims[d] = 0);
    const struct { const char *what; uint64_t dims[4]; } wraps[] = {
        { "0", { 1ull << 32, 1ull << 32, 1, 1 } },
            { "0 by four", { 1ull << 16, 1ull << 16, 1ull << 16, 1ull << 16 } },
        { "32", { 16, (1ull << 60) + 2, 1, 1 } }, { "32 in bytes", { (1ull << 62) + 32, 1, 1, 1 } },
        { "2^63", { 1ull << 31, 1ull << 32, 1, 1 } }, { "2^63 in bytes", { 1ull << 61, 1, 1, 1 } },
        { "1", { UINT64_MAX, UINT64_MAX, 1, 1 } } };
    for (size_t i = 0; i < sizeof wraps / sizeof *wraps; i++)
        GC_CASE(out, GC_ID("G19 product wraps to %s", wraps[i].what), GC_BAD_FILE,
                gc_tensor *t = gc_tensor_of(m, "output_norm.weight");
                t->dim_count = 4; memcpy(t->dims, wraps[i].dims, sizeof wraps[i].dims));
}

/* ---- G20-G26: numbers that shape the model ---- */
static inline void gc_cases_model(const gc_out *out) {
    char id[128];
    const struct { const char *group, *key; uint64_t v; gc_want want; } numbers[] = {
        { "G20", "block_count", 0, GC_BAD_MODEL }, { "G20", "block_count", 1, GC_ANY },
            { "G20", "block_count", 3, GC_BAD_MODEL },
        { "G20", "block_count", 513, GC_BAD_MODEL }, { "G20", "block_count", 65536, GC_BAD_MODEL },
        { "G20", "block_count", UINT32_MAX, GC_BAD_MODEL }, { "G21", "attention.head_count", 0, GC_BAD_MODEL },
        { "G21", "attention.head_count", 3, GC_BAD_MODEL },
            { "G21", "attention.head_count", UINT32_MAX, GC_BAD_MODEL },
        { "G21", "attention.head_count_kv", 0, GC_BAD_MODEL }, { "G21", "attention.head_count_kv", 3, GC_BAD_MODEL },
        { "G21", "attention.head_count_kv", UINT32_MAX, GC_BAD_MODEL },
            { "G22", "embedding_length", 0, GC_BAD_MODEL },
        { "G22", "embedding_length", 31, GC_BAD_MODEL }, { "G22", "embedding_length", 33, GC_BAD_MODEL },
        { "G22", "embedding_length", 64, GC_BAD_MODEL }, { "G22", "embedding_length", 1u << 31, GC_BAD_MODEL },
        { "G23", "context_length", 0, GC_BAD_MODEL }, { "G23", "context_length", UINT32_MAX, GC_BAD_MODEL },
        { "G23", "rope.dimension_count", 18, GC_BAD_MODEL }, { "G23", "rope.dimension_count", 15, GC_BAD_MODEL },
        { "G24", "expert_count", 4, GC_BAD_MODEL }, { "G24", "expert_used_count", 2, GC_ANY },
        { "G25", "vocab_size", 0, GC_ANY }, { "G25", "vocab_size", 63, GC_ANY },
            { "G25", "vocab_size", UINT32_MAX, GC_ANY },
        { "G26", "feed_forward_length", 0, GC_BAD_MODEL }, { "G26", "feed_forward_length", 32, GC_BAD_MODEL },
        { "G26", "feed_forward_length", 65, GC_BAD_MODEL } };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        char key[64];
        snprintf(key, sizeof key, "llama.%s", numbers[i].key);
        GC_CASE(out, GC_ID("%s %s = %llu", numbers[i].group, key, (unsigned long long)numbers[i].v), numbers[i].want,
                gc_u32(m, key, numbers[i].v));
    }
    GC_CASE(out, "G23 llama.context_length = 2^63", GC_BAD_MODEL,
            gc_number(m, "llama.context_length", GC_U64, 1ull << 63));
    GC_EACH(uint32_t, n, 0, 1, 3) GC_CASE(out, GC_ID("G21 head_count_kv of %u layers", n), GC_BAD_MODEL,
        gc_bytes *b = gc_array(m, "llama.attention.head_count_kv", GC_I32, n);
            for (uint32_t i = 0; i < n; i++) gc_uint(b, 1, 4));
    GC_CASE(out, "G21 head_count_kv of zeros", GC_BAD_MODEL,
            gc_uint(gc_array(m, "llama.attention.head_count_kv", GC_I32, 2), 0, 8));
    GC_CASE(out, "G24 experts without a used one", GC_BAD_MODEL, gc_u32(m, "llama.expert_count", 4);
            gc_u32(m, "llama.expert_used_count", 0));
    GC_CASE(out, "G24 more experts used than there are", GC_BAD_MODEL, gc_u32(m, "llama.expert_count", 1);
            gc_u32(m, "llama.expert_used_count", 2));
    GC_EACH(uint32_t, rows, 63, 65, 1) GC_CASE(out, GC_ID("G25 64 tokens, %u rows", rows), GC_BAD_MODEL,
        gc_tensor *t = gc_tensor_of(m, "token_embd.weight"); t->dims[1] = rows; t->data_bytes = rows * 34);
    GC_CASE(out, "G25 no tokens", GC_BAD_MODEL, gc_array(m, "tokenizer.ggml.tokens", GC_STR, 0));
    GC_CASE(out, "K1 fewer scores than tokens", GC_BAD_MODEL,
            gc_uint(gc_array(m, "tokenizer.ggml.scores", GC_F32, 1), 0, 4));
    GC_CASE(out, "K1 fewer types than tokens", GC_BAD_MODEL,
            gc_uint(gc_array(m, "tokenizer.ggml.token_type", GC_I32, 1), 1, 4));
    GC_EACH(uint64_t, v, 64, 65, 1u << 31, UINT32_MAX) GC_CASE(out, GC_ID("K5 bos %llu", (unsigned long long)v),
        GC_ANY,
        gc_u32(m, "tokenizer.ggml.bos_token_id", v); gc_u32(m, "tokenizer.ggml.eos_token_id", v));
}

/* ---- G27-G38: alignment, types, offsets, data ---- */
static inline void gc_cases_data(const gc_out *out) {
    char id[128];
    GC_EACH(uint32_t, v, 0, 1, 3, 4, 13, 48, 131072, 1u << 31, UINT32_MAX)
        GC_CASE(out, GC_ID("G27 alignment %u", v), GC_BAD_FILE, gc_u32(m, "general.alignment", v));
    GC_EACH(uint32_t, v, 8, 16, 32, 64, 4096, 65536)
        GC_CASE(out, GC_ID("G27 alignment %u, kept", v), GC_GOOD, gc_u32(m, "general.alignment", v);
                m->alignment = v);
    GC_CASE(out, "G27 alignment 4096, laid out for 32", GC_BAD_FILE, gc_u32(m, "general.alignment", 4096));
    GC_CASE(out, "G27 alignment as i32", GC_BAD_FILE, gc_number(m, "general.alignment", GC_I32, 32));
    GC_CASE(out, "G27 alignment as u64", GC_BAD_FILE, gc_number(m, "general.alignment", GC_U64, 32));
    GC_CASE(out, "G27 alignment as a string", GC_BAD_FILE, gc_string(m, "general.alignment", "32"));
    GC_CASE(out, "G27 alignment as an array", GC_BAD_FILE,
            gc_uint(gc_array(m, "general.alignment", GC_U32, 1), 32, 4));
    GC_EACH(uint32_t, v, 4, 5, 9, 15, 16, 24, 28, 31, 99, 255, 1u << 31, UINT32_MAX)
        GC_CASE(out, GC_ID("G28 tensor of type %u", v), GC_BAD_FILE, gc_tensor_of(m, "output.weight")->type = v);
    GC_CASE(out, "G29 Q8_0 rows of 33", GC_BAD_FILE, gc_tensor_of(m, "output.weight")->dims[0] = 33);
    GC_CASE(out, "G29 Q8_0 of one value", GC_BAD_FILE, gc_tensor *t = gc_tensor_of(m, "output.weight");
            t->dims[0] = t->dims[1] = 1);
    GC_CASE(out, "G29 Q4_K rows of 32", GC_BAD_FILE, gc_tensor_of(m, "output.weight")->type = 12);
    GC_CASE(out, "G30 two tensors of 2^63-64 bytes", GC_BAD_FILE,
            gc_tensor *t = gc_tensor_of(m, "output_norm.weight");
            t->dims[0] = (1ull << 61) - 16; t[1].type = GC_TYPE_F32; t[1].dims[0] = (1ull << 61) - 16;
                t[1].dim_count = 1;
            t[1].offset = t->offset + (1ull << 63) - 64; t[1].offset_set = true);
    GC_CASE(out, "G31 2^64-8 bytes, whose padding wraps", GC_BAD_FILE,
            gc_tensor_of(m, "output_norm.weight")->dims[0] = (1ull << 62) - 2);
    GC_EACH(uint64_t, v, 1, 4, 16, 31) GC_CASE(out, GC_ID("G32 first offset %llu", (unsigned long long)v),
        GC_BAD_FILE,
        m->tensors[0].offset = v; m->tensors[0].offset_set = true);
    GC_EACH(uint64_t, v, 0 - 32ull, 0 - 64ull, 1ull << 63, 1ull << 32) for (size_t i = 0; i < 21; i += 20)
        GC_CASE(out, GC_ID("G33 offset %llu of tensor %zu", (unsigned long long)v, i), GC_BAD_FILE,
                m->tensors[i].offset = v; m->tensors[i].offset_set = true);
    GC_CASE(out, "G34 two tensors at one place", GC_BAD_FILE, m->tensors[1].offset = 0;
            m->tensors[1].offset_set = true);
    GC_CASE(out, "G34 overlapping by 32 bytes", GC_BAD_FILE, m->tensors[1].offset = 2176 - 32;
            m->tensors[1].offset_set = true);
    GC_CASE(out, "G34 offsets in falling order", GC_BAD_FILE, m->tensors[0].offset = 128; m->tensors[1].offset = 0;
            m->tensors[0].offset_set = m->tensors[1].offset_set = true);
    GC_CASE(out, "G35 a gap of data that nothing describes", GC_BAD_FILE, m->tensors[3].data_bytes += 4096);
    GC_CASE(out, "G36 no data section", GC_BAD_FILE, gc_file f; gc_write(m, &f); m->cut = f.bytes.len - f.data_at;
            gc_clear(&f.bytes));
    GC_CASE(out, "G36 cut right behind the header", GC_BAD_FILE, gc_file f; gc_write(m, &f);
            m->cut = f.bytes.len - f.data_at + 31;
            gc_clear(&f.bytes));
    GC_CASE(out, "G36 one byte short", GC_BAD_FILE, m->cut = 1);
    GC_CASE(out, "G36 1 GiB short", GC_BAD_FILE, gc_tensor_of(m, "output.weight")->dims[1] += (1u << 30) / 34 + 1);
    GC_CASE(out, "G37 offset inside the header", GC_BAD_FILE, gc_file f; gc_write(m, &f);
            m->tensors[20].offset = 0 - (uint64_t)f.data_at;
            m->tensors[20].offset_set = true; gc_clear(&f.bytes));
    GC_CASE(out, "G38 a tensor's name twice", GC_BAD_FILE,
            memcpy(gc_tensor_of(m, "blk.1.attn_k.weight")->name.ptr, "blk.0", 5));
    GC_CASE(out, "G38 without a tensor of a layer", GC_BAD_MODEL, gc_drop_tensor(m, "blk.1.ffn_up.weight"));
    GC_CASE(out, "G38 a tensor lies transposed", GC_BAD_MODEL, gc_tensor *t = gc_tensor_of(m, "blk.0.ffn_up.weight");
            t->dims[0] = 64; t->dims[1] = 32);
    GC_CASE(out, "G38 a norm of quantised values", GC_BAD_MODEL, gc_tensor *t = gc_tensor_of(m, "output_norm.weight");
            t->type = t->data_type = GC_TYPE_Q8_0; t->data_bytes = 34);
    GC_CASE(out, "G38 a norm of two dimensions", GC_BAD_MODEL, gc_tensor *t = gc_tensor_of(m, "output_norm.weight");
            t->dims[0] = t->dims[1] = 32; t->dim_count = 2; t->data_bytes = 4096);
}

/* ---- G42-G46: payloads, splits, adapters, pairs, other formats ---- */
static inline void gc_cases_other(const gc_out *out) {
    char id[128];
    gc_bytes b = { 0 };
    GC_CASE(out, "G43 one part of two", GC_BAD_MODEL, gc_number(m, "split.no", GC_U16, 0);
            gc_number(m, "split.count", GC_U16, 2);
            gc_number(m, "split.tensors.count", GC_I32, 42));
    GC_CASE(out, "G44 an adapter", GC_BAD_MODEL, gc_string(m, "general.type", "adapter");
            gc_string(m, "adapter.type", "lora"));
    GC_CASE(out, "G45 a product that wraps to the true size, behind a wrapping sum", GC_BAD_FILE,
            gc_tensor *t = gc_tensor_of(m, "output_norm.weight");
            t->dim_count = 2; t->dims[0] = 16; t->dims[1] = (1ull << 60) + 2; t[1].offset = (1ull << 63);
                t[1].offset_set = true);
    GC_CASE(out, "G45 a key more and a tensor fewer", GC_BAD_FILE, m->key_count_more = 1;
            m->tensor_count_more = UINT64_MAX);
    GC_CASE(out, "G45 alignment 8 and an offset of 8", GC_BAD_FILE, gc_u32(m, "general.alignment", 8);
            m->tensors[0].offset = 8;
            m->tensors[0].offset_set = true);
    GC_CASE(out, "G45 a size that wraps and an offset that brings it back", GC_BAD_FILE,
            gc_tensor *t = gc_tensor_of(m, "output_norm.weight");
            t->dims[0] = (1ull << 62) - 2; t->offset = 64; t->offset_set = true; t[1].offset = 64;
                t[1].offset_set = true);
    GC_EACH(uint64_t, v, 1ull << 63, UINT64_MAX, 60) {
        b.len = 0;
        gc_uint(&b, v, 8);
        const char *json = "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,16]},"
                           "\"b\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[8,24]}}";
        gc_add(&b, json, strlen(json));
        gc_fill(&b, 0, 24);
        gc_show(out->visit, out->ud, GC_ID("G46 safetensors, header of %llu bytes", (unsigned long long)v),
            GC_BAD_FILE, b.ptr, b.len);
    }
    gc_show(out->visit, out->ud, "G46 a zip file", GC_BAD_FILE,
        (const uint8_t *)"PK\3\4................................", 36);
    gc_show(out->visit, out->ud, "G46 text", GC_BAD_FILE,
        (const uint8_t *)"version https://git-lfs.github.com/spec/v1\n", 43);
    gc_clear(&b);
}

/* G42: every scale a NaN or infinite, every weight a NaN. The container is right; what comes out may be an error,
    not a crash. */
static inline void gc_cases_payload(const gc_out *out) {
    char id[128];
    GC_EACH(uint32_t, v, 0xff, 0x7c, 0x00, 0x80) {
        gc_model *m = malloc(sizeof *m);
        gc_file *f = malloc(sizeof *f);
        if (!m || !f) abort();
        gc_seed(m);
        gc_write(m, f);
        memset(f->bytes.ptr + f->data_at, (int)v, f->bytes.len - f->data_at);
        gc_show(out->visit, out->ud, GC_ID("G42 all weights made of %02x", v), GC_ANY, f->bytes.ptr, f->bytes.len);
        gc_clear(&f->bytes);
        gc_release(m);
        free(m);
        free(f);
    }
}

static inline void gc_cases_each(gc_visit *visit, void *ud) {
    const gc_out out = { visit, ud };
    gc_cases_head(&out);
    gc_cases_keys(&out);
    gc_cases_types(&out);
    gc_cases_shapes(&out);
    gc_cases_model(&out);
    gc_cases_data(&out);
    gc_cases_other(&out);
    gc_cases_payload(&out);
}

/* ---- the four sweeps over one good file ---- */

/* (i) every prefix. The last tensor needs no padding, so prefixes of at least data_end bytes are good. */
static inline void gc_sweep_prefixes(gc_visit *visit, void *ud, const gc_file *f, size_t data_end) {
    for (size_t n = 0; n < f->bytes.len; n++) gc_show(visit, ud, "prefix", n < data_end ? GC_BAD_FILE : GC_GOOD,
            f->bytes.ptr, n);
}

/* (ii) bytes begin, begin + step ... set to 00, 7F, 80, FF. */
static inline void gc_sweep_bytes(gc_visit *visit, void *ud, const gc_file *f, size_t begin, size_t end,
    size_t step) {
    static const uint8_t values[] = { 0x00, 0x7f, 0x80, 0xff };
    for (size_t i = begin; i < end; i += step) {
        uint8_t kept = f->bytes.ptr[i];
        for (size_t v = 0; v < 4; v++) {
            f->bytes.ptr[i] = values[v];
            gc_show(visit, ud, "byte", GC_ANY, f->bytes.ptr, f->bytes.len);
        }
        f->bytes.ptr[i] = kept;
    }
}

/* (iii) every integer of 4 or 8 bytes set to the values where sizes break. */
static inline void gc_sweep_fields(gc_visit *visit, void *ud, const gc_file *f) {
    static const uint64_t values[] = { 0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, 0x7fffffffffffffff,
        0x8000000000000000, UINT64_MAX };
    for (size_t i = 0; i < f->field_count; i++) {
        uint8_t kept[8], *at = f->bytes.ptr + f->fields[i].at;
        size_t bytes = f->fields[i].bytes;
        memcpy(kept, at, bytes);
        for (size_t v = 0; v < (bytes == 4 ? 5 : 9); v++) {
            for (size_t k = 0; k < bytes; k++) at[k] = (uint8_t)(values[v] >> (8 * k));
            gc_show(visit, ud, "integer", GC_ANY, f->bytes.ptr, f->bytes.len);
        }
        memcpy(at, kept, bytes);
    }
}

static inline uint64_t gc_random(uint64_t *state) { /* splitmix64, Vigna 2015 */
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* (iv) splices: a piece of the file is copied over, put into, or taken out of another place of its header. */
static inline void gc_sweep_splices(gc_visit *visit, void *ud, const gc_file *f, size_t count, uint64_t seed) {
    char id[64];
    size_t len = f->bytes.len;
    for (size_t i = 0; i < count; i++) {
        uint64_t state = seed + i;
        size_t from = gc_random(&state) % len, to = gc_random(&state) % (f->data_at + 64),
            n = 1 + gc_random(&state) % 64;
        gc_bytes b = { 0 };
        if (n > len - from) n = len - from;
        if (to > len) to = len;
        size_t over = i % 3 == 0 ? n : i % 3 == 1 ? 0 : n; /* over, into, out of */
        gc_add(&b, f->bytes.ptr, to);
        if (i % 3 != 2) gc_add(&b, f->bytes.ptr + from, n);
        if (to + over < len) gc_add(&b, f->bytes.ptr + to + over, len - to - over);
        snprintf(id, sizeof id, "splice of seed %llu", (unsigned long long)(seed + i));
        gc_show(visit, ud, id, GC_ANY, b.ptr, b.len);
        gc_clear(&b);
    }
}

#endif
