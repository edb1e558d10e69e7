/* gguf.c - reads the header of a GGUF file: see gguf.h for the door, docs/format-gguf.md for the format.
 *
 *     "GGUF"  version  tensors  keys | key, type, payload ... | name, dims, type, offset ... | pad | data, pad, ...
 *      4       4        8        8      `keys` times             `tensors` times                      ^ data_at
 *
 * The bytes come from strangers. So: every number goes through nigh_reader, which cannot leave the file; a
 * count is compared with the bytes that are left before it sizes anything; sums and products are checked;
 * nothing recurses (an array of arrays is refused). The tables are sorted lists, not hash tables: finding a
 * duplicate or a name takes n log n at worst, whatever names a stranger chooses.
 *
 * Tensors must lie one behind the other in the order of their list, each start aligned, without holes, and
 * the file must end where the last one ends (its padding may be there or not). Every writer we know does this,
 * llama.cpp asks for it too, and it leaves no room for overlaps or for bytes that nothing describes. */
#include "engine/gguf.h"

#include "base/utf8.h"

enum {
    ENTRY_BYTES_MIN = 8 + 1 + 4 + 1,              /* a key of one byte with a value of one byte */
    INFO_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8,       /* a tensor's line with a name of one byte and one dimension */
    TYPE_COUNT = NIGH_GGUF_F64 + 1,
    SHOWN_BYTES = 80                              /* of a name in a message */
};

static const uint8_t type_bytes[TYPE_COUNT] = { /* 0: not of a fixed size */
    [NIGH_GGUF_U8] = 1, [NIGH_GGUF_I8] = 1, [NIGH_GGUF_U16] = 2, [NIGH_GGUF_I16] = 2, [NIGH_GGUF_U32] = 4,
    [NIGH_GGUF_I32] = 4, [NIGH_GGUF_F32] = 4, [NIGH_GGUF_BOOL] = 1, [NIGH_GGUF_U64] = 8, [NIGH_GGUF_I64] = 8,
    [NIGH_GGUF_F64] = 8 };

static const char *const type_names[TYPE_COUNT] = {
    "u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64" };

typedef struct {
    nigh_gguf *g;
    nigh_reader in;
    size_t unseen;                  /* bytes of the file behind those of the reader */
    nigh_err *err;
} parser;

#define LLU(number) ((unsigned long long)(number))
#define SHOWN(name) shown(name), (name).ptr       /* for "%.*s" */

/* Bytes of the file that are left. What it counts may be more than can be read: then the reader turns bad. */
static uint64_t left_of(const parser *p) { return (uint64_t)nigh_reader_left(&p->in) + p->unseen; }

/* ---- names ---- */

/* A name may be shown to people and compared bytewise: UTF-8 without control characters. */
static bool is_clean_name(nigh_str s) {
    uint32_t letter;
    for (size_t i = 0, n; i < s.len; i += n) {
        n = nigh_utf8_read(s, i, &letter);
        if (n == 0 || letter < 0x20 || (letter >= 0x7f && letter < 0xa0)) return false;
    }
    return true;
}

/* The length of what a message shows of a clean name: cut between letters. For "%.*s". */
static int shown(nigh_str name) {
    uint32_t letter;
    size_t end = 0, n;
    while (end < name.len && (n = nigh_utf8_read(name, end, &letter)) != 0 && end + n <= SHOWN_BYTES) end += n;
    return (int)end;
}

/* ---- sorted lists of names: heap sort, because its worst case is its usual case ---- */

static nigh_str value_name(const nigh_gguf *g, uint32_t i) { return g->values[i].key; }
static nigh_str tensor_name(const nigh_gguf *g, uint32_t i) { return g->tensors[i].name; }
typedef nigh_str name_fn(const nigh_gguf *g, uint32_t i);

static void sift_down(const nigh_gguf *g, name_fn *name, uint32_t *order, size_t at, size_t count) {
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && nigh_str_cmp(name(g, order[child]), name(g, order[child + 1])) < 0) child++;
        if (nigh_str_cmp(name(g, order[at]), name(g, order[child])) >= 0) return;
        uint32_t swap = order[at];
        order[at] = order[child];
        order[child] = swap;
    }
}

static void sort_names(const nigh_gguf *g, name_fn *name, uint32_t *order, size_t count) {
    for (size_t i = 0; i < count; i++) order[i] = (uint32_t)i;
    for (size_t i = count / 2; i-- > 0;) sift_down(g, name, order, i, count);
    for (size_t end = count; end-- > 1;) {
        uint32_t swap = order[0];
        order[0] = order[end];
        order[end] = swap;
        sift_down(g, name, order, 0, end);
    }
}

/* Sorts and refuses a name that comes twice. what: "key" or "tensor". */
static nigh_status index_names(parser *p, name_fn *name, uint32_t *order, size_t count, const char *what) {
    sort_names(p->g, name, order, count);
    for (size_t i = 1; i < count; i++) {
        nigh_str a = name(p->g, order[i - 1]), b = name(p->g, order[i]);
        if (!nigh_str_eq(a, b)) continue;
        const char *later = a.ptr > b.ptr ? a.ptr : b.ptr;
        return nigh_failf(p->err, NIGH_EDATA, (uint64_t)(later - p->g->file.ptr), "the %s '%.*s' is there twice",
                          what, SHOWN(a));
    }
    return NIGH_OK;
}

static size_t find_name(const nigh_gguf *g, name_fn *name, const uint32_t *order, size_t count, nigh_str wanted) {
    for (size_t begin = 0, end = count; begin < end;) {
        size_t middle = begin + (end - begin) / 2;
        int c = nigh_str_cmp(name(g, order[middle]), wanted);
        if (c == 0) return order[middle];
        if (c < 0) begin = middle + 1;
        else end = middle;
    }
    return SIZE_MAX;
}

/* ---- header ---- */

static nigh_status fail_magic(parser *p, nigh_str magic) {
    const char *why = "this is not a GGUF file";
    if (magic.len == 0) why = "the file is empty";
    else if (magic.len < 4) why = "the file ends inside the first four bytes";
    else if (nigh_str_eq(magic, NIGH_STR("FUGG"))) why = "the magic is reversed: this is not a GGUF file";
    else if (nigh_str_eq(magic, NIGH_STR("lmgg")) || nigh_str_eq(magic, NIGH_STR("tjgg")))
        why = "this is a file of the older GGML format: convert it to GGUF";
    else if (nigh_str_starts(magic, NIGH_STR("PK"))) why = "this is a zip file (PyTorch?), not a GGUF file";
    else if (p->g->file.len > 8 && p->g->file.ptr[8] == '{') why = "this looks like safetensors: convert it to GGUF";
    return nigh_fail(p->err, NIGH_EDATA, 0, why);
}

/* Checks magic, version and both counts; makes the tables. */
static nigh_status parse_header(parser *p) {
    nigh_gguf *g = p->g;
    nigh_str magic = nigh_read_bytes(&p->in, nigh_min(4, nigh_reader_left(&p->in)));
    if (!nigh_str_eq(magic, NIGH_STR("GGUF"))) return fail_magic(p, magic);
    g->version = (uint32_t)nigh_read_uint(&p->in, 4);
    if (p->in.bad) return nigh_fail(p->err, NIGH_EDATA, 4, "the file ends inside its version");
    if (g->version == 0x02000000u || g->version == 0x03000000u)
        return nigh_fail(p->err, NIGH_ENOSUP, 4, "big-endian GGUF is not supported");
    if (g->version != 2 && g->version != 3)
        return nigh_failf(p->err, NIGH_ENOSUP, 4, "GGUF version %u is not supported (2 and 3 are)", g->version);
    uint64_t tensors = nigh_read_uint(&p->in, 8), keys = nigh_read_uint(&p->in, 8);
    if (p->in.bad) return nigh_fail(p->err, NIGH_EDATA, 8, "the file ends inside its counts");
    uint64_t left = left_of(p);
    if (tensors > NIGH_GGUF_TENSORS_MAX || tensors > left / INFO_BYTES_MIN)
        return nigh_failf(p->err, NIGH_EDATA, 8, "%llu tensors are declared; %llu bytes are left and %d are allowed",
                          LLU(tensors), LLU(left), (int)NIGH_GGUF_TENSORS_MAX);
    if (keys > NIGH_GGUF_KEYS_MAX || keys > left / ENTRY_BYTES_MIN)
        return nigh_failf(p->err, NIGH_EDATA, 16, "%llu keys are declared; %llu bytes are left and %d are allowed",
                          LLU(keys), LLU(left), (int)NIGH_GGUF_KEYS_MAX);
    g->value_count = (size_t)keys;
    g->tensor_count = (size_t)tensors;
    g->values = nigh_alloc(sizeof *g->values, g->value_count);
    g->value_order = nigh_alloc(sizeof *g->value_order, g->value_count);
    g->tensors = nigh_alloc(sizeof *g->tensors, g->tensor_count);
    g->tensor_order = nigh_alloc(sizeof *g->tensor_order, g->tensor_count);
    if ((keys && (!g->values || !g->value_order)) || (tensors && (!g->tensors || !g->tensor_order)))
        return nigh_fail(p->err, NIGH_ENOMEM, 0, "not enough memory for the tables of a GGUF file");
    return NIGH_OK;
}

/* ---- keys and values ---- */

/* About a key or tensor whose name cannot be shown: its number in the list instead. */
static nigh_status fail_nameless(parser *p, const char *what, size_t index, uint64_t at, const char *why) {
    return nigh_failf(p->err, NIGH_EDATA, at, "%s number %zu: %s", what, index + 1, why);
}

static nigh_status fail_value(parser *p, const nigh_gguf_value *v, uint64_t at, const char *why) {
    return nigh_failf(p->err, NIGH_EDATA, at, "key '%.*s': %s", SHOWN(v->key), why);
}

/* A string: u64 length, bytes. False when it leaves the file or is too long. */
static bool read_string(nigh_reader *in, nigh_str *out) {
    uint64_t bytes = nigh_read_uint(in, 8);
    if (in->bad || bytes > NIGH_GGUF_STRING_BYTES_MAX) return false;
    *out = nigh_read_bytes(in, bytes);
    return !in->bad;
}

static nigh_status read_payload_of_bools(parser *p, const nigh_gguf_value *v) {
    for (size_t i = 0; i < v->bytes.len; i++)
        if ((uint8_t)v->bytes.ptr[i] > 1) return fail_value(p, v, v->at + i, "a bool is neither 0 nor 1");
    return NIGH_OK;
}

/* Items of a fixed size, or strings, which are walked once here so that readers need not check again. */
static nigh_status read_array(parser *p, nigh_gguf_value *v) {
    uint64_t start = nigh_reader_pos(&p->in);
    uint64_t item_type = nigh_read_uint(&p->in, 4), count = nigh_read_uint(&p->in, 8);
    if (p->in.bad) return fail_value(p, v, start, "the file ends inside an array's head");
    if (item_type >= TYPE_COUNT) return fail_value(p, v, start, "an array of an unknown type");
    if (item_type == NIGH_GGUF_ARRAY) return fail_value(p, v, start, "an array of arrays is not supported");
    v->item_type = (nigh_gguf_type)item_type;
    v->count = count;
    v->at = nigh_reader_pos(&p->in);
    size_t item_bytes_min = type_bytes[item_type] ? type_bytes[item_type] : 8;
    if (count > left_of(p) / item_bytes_min)
        return fail_value(p, v, start + 4, "an array declares more items than the file holds");
    const char *begin = (const char *)p->in.at;
    if (item_type == NIGH_GGUF_STRING) {
        for (uint64_t i = 0; i < count; i++) {
            nigh_str item;
            uint64_t item_at = nigh_reader_pos(&p->in);
            if (!read_string(&p->in, &item))
                return fail_value(p, v, item_at, "a string of the array leaves the file or is over 16 MiB");
        }
        v->bytes = (nigh_str){ begin, (size_t)((const char *)p->in.at - begin) };
        return NIGH_OK;
    }
    v->bytes = nigh_read_bytes(&p->in, count * item_bytes_min);
    return item_type == NIGH_GGUF_BOOL ? read_payload_of_bools(p, v) : NIGH_OK;
}

static nigh_status read_payload(parser *p, nigh_gguf_value *v) {
    v->count = 1;
    v->at = nigh_reader_pos(&p->in);
    if (v->type == NIGH_GGUF_ARRAY) return read_array(p, v);
    if (v->type == NIGH_GGUF_STRING) {
        if (!read_string(&p->in, &v->bytes))
            return fail_value(p, v, v->at, "the string leaves the file or is over 16 MiB");
        v->at += 8;
        return NIGH_OK;
    }
    v->bytes = nigh_read_bytes(&p->in, type_bytes[v->type]);
    if (p->in.bad) return fail_value(p, v, v->at, "the file ends inside the value");
    return v->type == NIGH_GGUF_BOOL ? read_payload_of_bools(p, v) : NIGH_OK;
}

static nigh_status parse_value(parser *p, size_t index) {
    nigh_gguf_value *v = &p->g->values[index];
    uint64_t at = nigh_reader_pos(&p->in), bytes = nigh_read_uint(&p->in, 8);
    if (p->in.bad) return fail_nameless(p, "key", index, at, "the file ends here");
    if (bytes == 0 || bytes > NIGH_GGUF_KEY_BYTES_MAX || bytes > left_of(p))
        return fail_nameless(p, "key", index, at, "the name is empty, too long or leaves the file");
    v->key = nigh_read_bytes(&p->in, bytes);
    if (!is_clean_name(v->key)) return fail_nameless(p, "key", index, at + 8, "the name is not plain UTF-8");
    at = nigh_reader_pos(&p->in);
    uint64_t type = nigh_read_uint(&p->in, 4);
    if (p->in.bad) return fail_value(p, v, at, "the file ends inside its type");
    if (type >= TYPE_COUNT) return fail_value(p, v, at, "a value of an unknown type");
    v->type = (nigh_gguf_type)type;
    v->item_type = v->type;
    return read_payload(p, v);
}

static nigh_status parse_values(parser *p) {
    for (size_t i = 0; i < p->g->value_count; i++) NIGH_TRY(parse_value(p, i));
    return index_names(p, value_name, p->g->value_order, p->g->value_count, "key");
}

/* ---- tensors ---- */

static nigh_status fail_tensor(parser *p, const nigh_gguf_tensor *t, uint64_t at, const char *why) {
    return nigh_failf(p->err, NIGH_EDATA, at, "tensor '%.*s': %s", SHOWN(t->name), why);
}

static bool mul64(uint64_t a, uint64_t b, uint64_t *out) {
    *out = a * b;
    return a == 0 || *out / a == b;
}

/* Sizes of one tensor from its dimensions and type. */
static nigh_status size_tensor(parser *p, nigh_gguf_tensor *t, uint64_t type_at, uint32_t type) {
    const nigh_type_info *info = nigh_type_find(type);
    if (!info)
        return nigh_failf(p->err, NIGH_ENOSUP, type_at, "tensor '%.*s': %s (number %u) is not supported",
                          SHOWN(t->name), nigh_type_name(type), type);
    t->type = (nigh_type)type;
    if (t->dims[0] % info->block_values != 0)
        return nigh_failf(p->err, NIGH_EDATA, type_at, "tensor '%.*s': rows of %llu values, but a block of %s holds %u",
                          SHOWN(t->name), LLU(t->dims[0]), info->name, info->block_values);
    uint64_t bytes = t->dims[0] / info->block_values;
    bool fits = mul64(bytes, info->block_bytes, &bytes);
    for (uint32_t d = 1; d < t->dim_count; d++) fits = fits && mul64(bytes, t->dims[d], &bytes);
    if (!fits || bytes > (uint64_t)p->g->file.len + p->unseen)
        return fail_tensor(p, t, type_at, "larger than the file");
    t->bytes = bytes;
    return NIGH_OK;
}

/* Leaves the offset inside the data section in t->at; place_tensors makes it one of the file. */
static nigh_status parse_tensor(parser *p, size_t index) {
    nigh_gguf_tensor *t = &p->g->tensors[index];
    uint64_t at = nigh_reader_pos(&p->in), bytes = nigh_read_uint(&p->in, 8);
    if (p->in.bad) return fail_nameless(p, "tensor", index, at, "the file ends here");
    if (bytes == 0 || bytes > NIGH_GGUF_NAME_BYTES_MAX || bytes > left_of(p))
        return fail_nameless(p, "tensor", index, at, "the name is empty, over 64 bytes or leaves the file");
    t->name = nigh_read_bytes(&p->in, bytes);
    if (!is_clean_name(t->name)) return fail_nameless(p, "tensor", index, at + 8, "the name is not plain UTF-8");
    at = nigh_reader_pos(&p->in);
    uint64_t dim_count = nigh_read_uint(&p->in, 4);
    if (p->in.bad) return fail_tensor(p, t, at, "the file ends inside its shape");
    if (dim_count < 1 || dim_count > 4) return fail_tensor(p, t, at, "the number of dimensions is not 1 to 4");
    t->dim_count = (uint32_t)dim_count;
    for (uint32_t d = 0; d < 4; d++) t->dims[d] = d < dim_count ? nigh_read_uint(&p->in, 8) : 1;
    uint64_t type_at = nigh_reader_pos(&p->in);
    uint32_t type = (uint32_t)nigh_read_uint(&p->in, 4);
    t->at = nigh_read_uint(&p->in, 8);
    if (p->in.bad) return fail_tensor(p, t, at, "the file ends inside its shape");
    for (uint32_t d = 0; d < dim_count; d++)
        if (t->dims[d] == 0) return fail_tensor(p, t, at + 4 + 8 * (uint64_t)d, "a dimension is 0");
    return size_tensor(p, t, type_at, type);
}

static nigh_status read_alignment(parser *p, uint64_t *alignment) {
    const nigh_gguf_value *v = nigh_gguf_find(p->g, NIGH_STR("general.alignment"));
    *alignment = NIGH_GGUF_ALIGNMENT;
    if (!v) return NIGH_OK;
    if (v->type != NIGH_GGUF_U32) return fail_value(p, v, v->at, "not a u32");
    uint64_t n = (uint64_t)nigh_gguf_item_int(v, 0);
    if (n < 8 || n > NIGH_GGUF_ALIGNMENT_MAX || (n & (n - 1)) != 0)
        return fail_value(p, v, v->at, "not a power of two from 8 to 65536");
    *alignment = n;
    return NIGH_OK;
}

/* No sum here can wrap: what is added is at most the file's size, and alignment is at most 64 KiB. */
static nigh_status place_tensors(parser *p) {
    nigh_gguf *g = p->g;
    uint64_t alignment, total = g->file.len + p->unseen, at = nigh_reader_pos(&p->in), offset = 0;
    NIGH_TRY(read_alignment(p, &alignment));
    uint64_t data_at = (at + alignment - 1) & ~(alignment - 1), end = at;
    for (size_t i = 0; i < g->tensor_count; i++) {
        nigh_gguf_tensor *t = &g->tensors[i];
        if (t->at != offset)
            return nigh_failf(p->err, NIGH_EDATA, (uint64_t)(t->name.ptr - g->file.ptr),
                              "tensor '%.*s': its offset is %llu, not %llu where the one before ends (aligned to %llu)",
                              SHOWN(t->name), LLU(t->at), LLU(offset), LLU(alignment));
        if (data_at > total || !nigh_span_fits(offset, t->bytes, total - data_at))
            return nigh_failf(p->err, NIGH_EDATA, data_at + offset,
                              "tensor '%.*s': its %llu bytes at %llu leave the file of %llu bytes",
                              SHOWN(t->name), LLU(t->bytes), LLU(data_at + offset), LLU(total));
        t->at = data_at + offset;
        t->data = p->unseen ? NULL : (const uint8_t *)g->file.ptr + t->at;
        end = t->at + t->bytes;
        offset = (offset + t->bytes + alignment - 1) & ~(alignment - 1);
    }
    if (total > ((end + alignment - 1) & ~(alignment - 1)))
        return nigh_failf(p->err, NIGH_EDATA, end, "%llu bytes behind the last tensor belong to nothing",
                          LLU(total - end));
    return NIGH_OK;
}

static nigh_status parse_tensors(parser *p) {
    for (size_t i = 0; i < p->g->tensor_count; i++) NIGH_TRY(parse_tensor(p, i));
    NIGH_TRY(index_names(p, tensor_name, p->g->tensor_order, p->g->tensor_count, "tensor"));
    return place_tensors(p);
}

static nigh_status parse(nigh_gguf *g, nigh_str bytes, size_t unseen, nigh_err *err) {
    *g = (nigh_gguf){ .file = bytes };
    parser p = { g, nigh_reader_of(bytes), unseen, err };
    nigh_status status = parse_header(&p);
    if (status == NIGH_OK) status = parse_values(&p);
    if (status == NIGH_OK) status = parse_tensors(&p);
    if (p.in.bad && unseen)
        status = nigh_fail(err, NIGH_ERANGE, bytes.len, "the keys and tensors of the file do not end here");
    if (status != NIGH_OK) nigh_gguf_release(g);
    return status;
}

nigh_status nigh_gguf_parse(nigh_gguf *g, nigh_str file, nigh_err *err) { return parse(g, file, 0, err); }

nigh_status nigh_gguf_parse_head(nigh_gguf *g, nigh_str head, size_t file_bytes, nigh_err *err) {
    head.len = nigh_min(head.len, file_bytes);
    return parse(g, head, file_bytes - head.len, err);
}

void nigh_gguf_release(nigh_gguf *g) {
    nigh_free(g->values);
    nigh_free(g->value_order);
    nigh_free(g->tensors);
    nigh_free(g->tensor_order);
    *g = (nigh_gguf){ 0 };
}

/* ---- asking ---- */

const nigh_gguf_value *nigh_gguf_find(const nigh_gguf *g, nigh_str key) {
    size_t i = find_name(g, value_name, g->value_order, g->value_count, key);
    return i == SIZE_MAX ? NULL : &g->values[i];
}

const nigh_gguf_tensor *nigh_gguf_tensor_find(const nigh_gguf *g, nigh_str name) {
    size_t i = find_name(g, tensor_name, g->tensor_order, g->tensor_count, name);
    return i == SIZE_MAX ? NULL : &g->tensors[i];
}

static bool is_integer(nigh_gguf_type t) {
    return t <= NIGH_GGUF_I32 || t == NIGH_GGUF_U64 || t == NIGH_GGUF_I64;
}

static bool is_float(nigh_gguf_type t) { return t == NIGH_GGUF_F32 || t == NIGH_GGUF_F64; }

static uint64_t load(const nigh_gguf_value *v, uint64_t i, size_t bytes) {
    assert(i < v->count);
    uint64_t out = 0;
    const uint8_t *p = (const uint8_t *)v->bytes.ptr + (size_t)i * bytes;
    for (size_t k = 0; k < bytes; k++) out |= (uint64_t)p[k] << (8 * k);
    return out;
}

int64_t nigh_gguf_item_int(const nigh_gguf_value *v, uint64_t i) {
    uint64_t bits = load(v, i, type_bytes[v->item_type]);
    switch (v->item_type) {
    case NIGH_GGUF_I8: return (int8_t)bits;
    case NIGH_GGUF_I16: return (int16_t)bits;
    case NIGH_GGUF_I32: return (int32_t)bits;
    case NIGH_GGUF_I64: return (int64_t)bits;
    default: return bits > INT64_MAX ? INT64_MAX : (int64_t)bits;
    }
}

float nigh_gguf_item_float(const nigh_gguf_value *v, uint64_t i) {
    uint64_t bits = load(v, i, type_bytes[v->item_type]);
    uint32_t low = (uint32_t)bits;
    float f;
    double d;
    if (v->item_type == NIGH_GGUF_F32) { memcpy(&f, &low, sizeof f); return f; }
    if (v->item_type == NIGH_GGUF_F64) { memcpy(&d, &bits, sizeof d); return (float)d; }
    return (float)nigh_gguf_item_int(v, i);
}

static nigh_status find_value(const nigh_gguf *g, nigh_str key, const nigh_gguf_value **out, nigh_err *err) {
    *out = nigh_gguf_find(g, key);
    return *out ? NIGH_OK : nigh_failf(err, NIGH_ENOENT, 0, "the key '%.*s' is missing", SHOWN(key));
}

static nigh_status fail_type(const nigh_gguf_value *v, const char *wanted, nigh_err *err) {
    bool array = v->type == NIGH_GGUF_ARRAY;
    return nigh_failf(err, NIGH_EDATA, v->at, "the key '%.*s' is %s %s, not %s", SHOWN(v->key),
                      array ? "an array of" : "of type", type_names[v->item_type], wanted);
}

nigh_status nigh_gguf_u32(const nigh_gguf *g, nigh_str key, uint32_t *out, nigh_err *err) {
    const nigh_gguf_value *v;
    NIGH_TRY(find_value(g, key, &v, err));
    if (!is_integer(v->type)) return fail_type(v, "an integer", err);
    int64_t n = nigh_gguf_item_int(v, 0);
    if (n < 0 || n > UINT32_MAX)
        return nigh_failf(err, NIGH_EDATA, v->at, "the key '%.*s' is not in 0..4294967295", SHOWN(key));
    *out = (uint32_t)n;
    return NIGH_OK;
}

nigh_status nigh_gguf_f32(const nigh_gguf *g, nigh_str key, float *out, nigh_err *err) {
    const nigh_gguf_value *v;
    NIGH_TRY(find_value(g, key, &v, err));
    if (!is_float(v->type)) return fail_type(v, "a float", err);
    double d;
    uint64_t bits = v->type == NIGH_GGUF_F64 ? load(v, 0, 8) : 0;
    memcpy(&d, &bits, sizeof d);
    if (v->type == NIGH_GGUF_F32) d = (double)nigh_gguf_item_float(v, 0);
    if (!(d >= -3.4028234663852886e38 && d <= 3.4028234663852886e38)) /* the largest f32; false for NaN */
        return nigh_failf(err, NIGH_EDATA, v->at, "the key '%.*s' is not a finite number", SHOWN(key));
    *out = (float)d;
    return NIGH_OK;
}

nigh_status nigh_gguf_bool(const nigh_gguf *g, nigh_str key, bool *out, nigh_err *err) {
    const nigh_gguf_value *v;
    NIGH_TRY(find_value(g, key, &v, err));
    if (v->type != NIGH_GGUF_BOOL) return fail_type(v, "a bool", err);
    *out = v->bytes.ptr[0] != 0;
    return NIGH_OK;
}

nigh_status nigh_gguf_string(const nigh_gguf *g, nigh_str key, nigh_str *out, nigh_err *err) {
    const nigh_gguf_value *v;
    NIGH_TRY(find_value(g, key, &v, err));
    if (v->type != NIGH_GGUF_STRING) return fail_type(v, "a string", err);
    *out = v->bytes;
    return NIGH_OK;
}

nigh_status nigh_gguf_array(const nigh_gguf *g, nigh_str key, nigh_gguf_type item_type, const nigh_gguf_value **out,
                            nigh_err *err) {
    const nigh_gguf_value *v;
    NIGH_TRY(find_value(g, key, &v, err));
    bool same = v->item_type == item_type || (is_integer(v->item_type) && is_integer(item_type)) ||
                (is_float(v->item_type) && is_float(item_type));
    if (v->type != NIGH_GGUF_ARRAY || !same) {
        char wanted[32];
        nigh_format(wanted, sizeof wanted, "an array of %s", type_names[item_type]);
        return fail_type(v, wanted, err);
    }
    *out = v;
    return NIGH_OK;
}

bool nigh_gguf_next_string(const nigh_gguf_value *v, size_t *cursor, nigh_str *out) {
    assert(v->type == NIGH_GGUF_ARRAY && v->item_type == NIGH_GGUF_STRING);
    nigh_reader in = nigh_reader_of(nigh_str_slice(v->bytes, *cursor, v->bytes.len));
    if (!read_string(&in, out)) return false;
    *cursor += nigh_reader_pos(&in);
    return true;
}
