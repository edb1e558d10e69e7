/* weights.c - finds every tensor by name, type and shape, and packs it for the kernels.
 * Two passes over one list of names: the first only adds up bytes, the second places and packs, so
 * memory is asked for once, before anything is copied. All matrices lie in one block on huge pages:
 *
 *     | q | k | v | wo | gate and up, a group in turn | down | q | ...     each 64-byte aligned, in the order in which
 *                                                                          a forward pass reads them, vectors between
 *
 * Packing is split over the pool by groups of 16 rows. The file's bytes are read once; a piece that is packed is
 * reported (nigh_model_opts.done), so that the file and its packed copy are never both in memory as a whole. */
#include <stdatomic.h>

#include "base/os.h"
#include "base/pool.h"
#include "engine/model.h"

enum {
    JOBS_MAX = 16 * NIGH_LAYERS_MAX + 16,
    PIECE_BYTES = 512 << 10,        /* packed at once, then reported */
    BUFFER_BYTES = 256 << 10        /* of the file, read at once: a part of a level-2 cache */
};

typedef struct {
    nigh_model *m;
    const nigh_gguf *g;
    nigh_err *err;
    nigh_status status;             /* the first failure; later calls do nothing */
    bool placing;                   /* second pass */
    size_t bytes;                   /* first pass: what the block must hold; second: what is used of it */
    bool *seen;                     /* [tensor_count]: asked for by name */
    nigh_pack_list *list;           /* filled by the second pass */
} loader;

static const nigh_gguf_tensor *find(loader *l, const char *name, bool required) {
    const nigh_gguf_tensor *t = nigh_gguf_tensor_find(l->g, nigh_str_of(name));
    if (!t && required && l->status == NIGH_OK)
        l->status = nigh_failf(l->err, NIGH_EDATA, 0, "tensor %s is missing", name);
    if (t) l->seen[t - l->g->tensors] = true;
    return l->status == NIGH_OK ? t : NULL;
}

static bool take(loader *l, size_t bytes, void **out) {
    size_t sum;
    *out = NULL;
    if (!nigh_add(l->bytes, nigh_round_up(bytes, 64), &sum)) {
        l->status = nigh_fail(l->err, NIGH_ERANGE, 0, "the weights are too large");
        return false;
    }
    if (l->placing) *out = (uint8_t *)l->m->weights + l->bytes;
    assert(!l->placing || sum <= l->m->weights_bytes);
    l->bytes = sum;
    return true;
}

/* Some rows of a tensor. */
typedef struct { const nigh_gguf_tensor *t; size_t first, rows; } rows_of;

/* Rows of a tensor become a matrix; with `turn`, rows of another, of the same type and shape, lie between them: a
 * group of the one, a group of the other. */
static void place_in_turn(loader *l, nigh_mat *mat, rows_of r, nigh_mat *turn, rows_of other) {
    const nigh_gguf_tensor *t = r.t;
    size_t cols = (size_t)t->dims[0], group = nigh_mat_group_bytes(t->type, cols),
           groups = (r.rows + NIGH_ROWS - 1) / NIGH_ROWS, mats = turn ? 2 : 1;
    size_t bytes;
    void *data;
    const nigh_type_info *info = nigh_type_find((uint32_t)t->type);
    if (!info || group == 0 || !nigh_mul(group * mats, groups, &bytes)) {
        l->status = nigh_failf(l->err, NIGH_ENOSUP, t->at, "tensor %.*s: type %s cannot be used for a matrix",
                               (int)t->name.len, t->name.ptr, nigh_type_name((uint32_t)t->type));
        return;
    }
    if (!take(l, bytes, &data)) return;
    for (size_t i = 0; i < mats; i++) {
        nigh_mat *m = i ? turn : mat;
        rows_of from = i ? other : r;
        const uint8_t *at = data ? (uint8_t *)data + i * group : NULL;
        *m = (nigh_mat){ .type = t->type, .rows = r.rows, .cols = cols, .group_bytes = group * mats, .data = at };
        if (!l->placing) continue;
        size_t row_bytes = cols / info->block_values * info->block_bytes;
        nigh_pack_list *list = l->list;
        list->jobs[list->count++] = (nigh_pack_job){ m, from.t->at + from.first * row_bytes, list->groups };
        list->groups += groups;
    }
}

static void place_rows(loader *l, nigh_mat *mat, const nigh_gguf_tensor *t, size_t first, size_t rows) {
    place_in_turn(l, mat, (rows_of){ t, first, rows }, NULL, (rows_of){ 0 });
}

/* The gate and up of the same rows are multiplied together (graph.c), so they lie together. */
static void place_gate_up(loader *l, nigh_layer *y, rows_of gate, rows_of up) {
    if (gate.t->type == up.t->type) {
        place_in_turn(l, &y->gate, gate, &y->up, up);
    } else {
        place_in_turn(l, &y->gate, gate, NULL, (rows_of){ 0 });
        place_in_turn(l, &y->up, up, NULL, (rows_of){ 0 });
    }
}

static bool has_shape(loader *l, const nigh_gguf_tensor *t, uint64_t cols, uint64_t rows) {
    bool ok = t->dims[0] == cols && t->dims[1] == rows && t->dims[2] == 1 && t->dims[3] == 1
              && t->dim_count <= (rows == 1 ? 4u : 2u);
    if (ok) return true;
    l->status = nigh_failf(l->err, NIGH_EDATA, t->at, "tensor %.*s has shape [%llu][%llu], not [%llu][%llu]",
                           (int)t->name.len, t->name.ptr, (unsigned long long)t->dims[1],
                           (unsigned long long)t->dims[0], (unsigned long long)rows, (unsigned long long)cols);
    return false;
}

static void bind_mat(loader *l, const char *name, nigh_mat *mat, size_t rows, size_t cols, bool required) {
    const nigh_gguf_tensor *t = find(l, name, required);
    if (t && has_shape(l, t, cols, rows)) place_rows(l, mat, t, 0, rows);
}

/* A vector of f32; F16 and BF16 are widened, quantised ones are refused. */
static void bind_vec(loader *l, const char *name, const float **out, size_t count, bool required) {
    const nigh_gguf_tensor *t = find(l, name, required);
    void *data;
    if (!t || !has_shape(l, t, count, 1)) return;
    if (t->type != NIGH_TYPE_F32 && t->type != NIGH_TYPE_F16 && t->type != NIGH_TYPE_BF16) {
        l->status = nigh_failf(l->err, NIGH_EDATA, t->at, "tensor %s is %s; a vector must be F32, F16 or BF16", name,
                               nigh_type_name((uint32_t)t->type));
        return;
    }
    if (!take(l, count * sizeof(float), &data) || !l->placing) return;
    if (l->list->vectors) l->list->vectors[t - l->g->tensors] = data;
    else nigh_dequantize(t->type, t->data, data, count);
    *out = data;
}

static void layer_vec(loader *l, uint32_t layer_idx, const char *name, const float **out, size_t count, bool required) {
    char full[80];
    nigh_format(full, sizeof full, "blk.%u.%s", layer_idx, name);
    bind_vec(l, full, out, count, required);
}

static void layer_mat(loader *l, uint32_t layer_idx, const char *name, nigh_mat *mat, size_t rows, size_t cols) {
    char full[80];
    nigh_format(full, sizeof full, "blk.%u.%s.weight", layer_idx, name);
    bind_mat(l, full, mat, rows, cols, true);
}

/* phi3: attn_qkv is q, k, v in this order; ffn_up is gate, then up. */
static void bind_fused_qkv(loader *l, uint32_t layer_idx, nigh_layer *y) {
    const nigh_hparams *h = &l->m->h;
    char full[80];
    nigh_format(full, sizeof full, "blk.%u.attn_qkv.weight", layer_idx);
    const nigh_gguf_tensor *t = find(l, full, true);
    if (!t || !has_shape(l, t, h->embed, h->q_dim + 2 * (uint64_t)h->kv_dim)) return;
    place_rows(l, &y->wq, t, 0, h->q_dim);
    place_rows(l, &y->wk, t, h->q_dim, h->kv_dim);
    place_rows(l, &y->wv, t, (size_t)h->q_dim + h->kv_dim, h->kv_dim);
}

static void bind_gate_up(loader *l, uint32_t layer_idx, nigh_layer *y) {
    const nigh_hparams *h = &l->m->h;
    bool fused = (l->m->arch->flags & NIGH_ARCH_FUSED) != 0;
    char name[80];
    nigh_format(name, sizeof name, "blk.%u.ffn_up.weight", layer_idx);
    const nigh_gguf_tensor *up = find(l, name, true), *gate = up;
    if (!up || !has_shape(l, up, h->embed, h->ffn * (fused ? 2 : (uint64_t)1))) return;
    nigh_format(name, sizeof name, "blk.%u.ffn_gate.weight", layer_idx);
    if (!fused) gate = find(l, name, true);
    if (gate && (fused || has_shape(l, gate, h->embed, h->ffn)))
        place_gate_up(l, y, (rows_of){ gate, 0, h->ffn }, (rows_of){ up, fused ? h->ffn : 0, h->ffn });
}

static void bind_layer_norms(loader *l, uint32_t i, nigh_layer *y) {
    const nigh_hparams *h = &l->m->h;
    unsigned f = l->m->arch->flags;
    if (f & NIGH_ARCH_PRE_NORM) layer_vec(l, i, "attn_norm.weight", &y->attn_norm, h->embed, true);
    if (f & NIGH_ARCH_PRE_NORM) layer_vec(l, i, "ffn_norm.weight", &y->ffn_norm, h->embed, true);
    if (f & (NIGH_ARCH_QK_NORM | NIGH_ARCH_QK_NORM_WIDE)) {
        layer_vec(l, i, "attn_q_norm.weight", &y->q_norm, f & NIGH_ARCH_QK_NORM ? h->head_dim : h->q_dim, true);
        layer_vec(l, i, "attn_k_norm.weight", &y->k_norm, f & NIGH_ARCH_QK_NORM ? h->head_dim : h->kv_dim, true);
    }
    if (f & NIGH_ARCH_POST_NORM) layer_vec(l, i, "post_attention_norm.weight", &y->post_attn_norm, h->embed, true);
    if (f & NIGH_ARCH_POST_NORM) layer_vec(l, i, "post_ffw_norm.weight", &y->post_ffn_norm, h->embed, true);
    if (f & NIGH_ARCH_LAYER_NORM) {
        layer_vec(l, i, "attn_output_norm.weight", &y->attn_out_norm, h->embed, true);
        layer_vec(l, i, "attn_output_norm.bias", &y->attn_out_norm_bias, h->embed, true);
        layer_vec(l, i, "layer_output_norm.weight", &y->layer_out_norm, h->embed, true);
        layer_vec(l, i, "layer_output_norm.bias", &y->layer_out_norm_bias, h->embed, true);
    }
}

static void bind_layer(loader *l, uint32_t i) {
    const nigh_hparams *h = &l->m->h;
    nigh_layer *y = &l->m->layers[i];
    unsigned f = l->m->arch->flags;
    bind_layer_norms(l, i, y);
    if (f & NIGH_ARCH_FUSED) bind_fused_qkv(l, i, y);
    else {
        layer_mat(l, i, "attn_q", &y->wq, h->q_dim, h->embed);
        layer_mat(l, i, "attn_k", &y->wk, h->kv_dim, h->embed);
        layer_mat(l, i, "attn_v", &y->wv, h->kv_dim, h->embed);
    }
    layer_mat(l, i, "attn_output", &y->wo, h->embed, h->q_dim);
    if (f & (NIGH_ARCH_FUSED | NIGH_ARCH_GATE)) bind_gate_up(l, i, y);
    else layer_mat(l, i, "ffn_up", &y->up, h->ffn, h->embed);
    layer_mat(l, i, "ffn_down", &y->down, h->embed, h->ffn);
    layer_vec(l, i, "attn_q.bias", &y->bq, h->q_dim, (f & NIGH_ARCH_QKV_BIAS) != 0);
    layer_vec(l, i, "attn_k.bias", &y->bk, h->kv_dim, (f & NIGH_ARCH_QKV_BIAS) != 0);
    layer_vec(l, i, "attn_v.bias", &y->bv, h->kv_dim, (f & NIGH_ARCH_QKV_BIAS) != 0);
    layer_vec(l, i, "attn_output.bias", &y->bo, h->embed, (f & NIGH_ARCH_OUT_BIAS) != 0);
    layer_vec(l, i, "ffn_up.bias", &y->bup, h->ffn, (f & NIGH_ARCH_UP_BIAS) != 0);
    layer_vec(l, i, "ffn_down.bias", &y->bdown, h->embed, (f & NIGH_ARCH_DOWN_BIAS) != 0);
}

/* One pass over every name that the architecture knows. */
static void bind_all(loader *l) {
    nigh_model *m = l->m;
    const nigh_hparams *h = &m->h;
    unsigned f = m->arch->flags;
    l->bytes = 0;
    bind_mat(l, "token_embd.weight", &m->token_embd, h->vocab, h->embed, true);
    if (f & NIGH_ARCH_LAYER_NORM) {
        bind_mat(l, "token_types.weight", &m->token_types, 2, h->embed, false);
        bind_vec(l, "token_embd_norm.weight", &m->embd_norm, h->embed, true);
        bind_vec(l, "token_embd_norm.bias", &m->embd_norm_bias, h->embed, true);
    } else {
        bind_vec(l, "output_norm.weight", &m->output_norm, h->embed, true);
        m->output = m->token_embd;
        if (!(f & NIGH_ARCH_ENCODER)) bind_mat(l, "output.weight", &m->output, h->vocab, h->embed, false);
    }
    if (f & NIGH_ARCH_LEARNED_POS) bind_mat(l, "position_embd.weight", &m->position_embd, h->context, h->embed, true);
    static const char *const tables[] = { "rope_freqs.weight", "rope_factors_short.weight",
                                          "rope_factors_long.weight" };
    for (size_t i = 0; i < NIGH_COUNT(tables); i++) (void)find(l, tables[i], false);    /* rope.c reads them */
    for (uint32_t i = 0; i < h->layers && l->status == NIGH_OK; i++) bind_layer(l, i);
}

/* Names the first tensor that nothing of the architecture asked for: ignoring it would give a wrong model. */
static nigh_status refuse_unknown(const loader *l) {
    for (size_t i = 0; i < l->g->tensor_count; i++) {
        const nigh_gguf_tensor *t = &l->g->tensors[i];
        if (!l->seen[i])
            return nigh_failf(l->err, NIGH_ENOSUP, t->at,
                              "tensor %.*s has no place in a model of architecture %s with %u layers",
                              (int)t->name.len, t->name.ptr, l->m->arch->name, l->m->h.layers);
    }
    return NIGH_OK;
}

/* Groups begin..end-1 of one matrix, from bytes of the file, the first of which is at `bytes_at`. */
static void pack_rows(const nigh_kernels *k, const nigh_pack_job *job, const uint8_t *bytes, uint64_t bytes_at,
                      size_t begin, size_t end) {
    const nigh_mat *mat = job->mat;
    uint64_t row_bytes = nigh_pack_row_bytes(job);
    for (size_t i = begin; i < end; i++) {
        uint64_t at = job->at + i * NIGH_ROWS * row_bytes;
        k->pack(mat->type, mat->rows - i * NIGH_ROWS, mat->cols, bytes + (size_t)(at - bytes_at), 0,
                (uint8_t *)(uintptr_t)mat->data + i * mat->group_bytes);
    }
}

size_t nigh_pack_row_bytes(const nigh_pack_job *job) {
    const nigh_type_info *info = nigh_type_find((uint32_t)job->mat->type);
    return job->mat->cols / info->block_values * info->block_bytes;
}

void nigh_weights_pack(const nigh_pack_list *list, const uint8_t *bytes, uint64_t bytes_at, size_t begin, size_t end) {
    for (size_t j = 0; j < list->count && begin < end; j++) {
        const nigh_pack_job *job = &list->jobs[j];
        size_t before = job->groups_before, after = before + (job->mat->rows + NIGH_ROWS - 1) / NIGH_ROWS;
        if (after <= begin) continue;
        size_t stop = nigh_min(end, after);
        pack_rows(list->k, job, bytes, bytes_at, begin - before, stop - before);
        begin = stop;
    }
}

/* Packing a whole file that is in memory. */
typedef struct {
    const nigh_pack_list *list;
    const nigh_gguf *g;
    nigh_model_opts o;
    nigh_beside beside;
    size_t piece;                   /* groups that are packed at once */
    uint8_t *buffers;               /* [threads][BUFFER_BYTES] where the file is read and not mapped, else NULL */
    atomic_bool stop;               /* beside has failed */
} packing;

/* Packs groups begin..end-1 of one matrix: read into the thread's buffer, or from the mapping, which then is done with
 * these bytes. */
static void pack_piece(const packing *p, size_t worker, const nigh_pack_job *job, size_t begin, size_t end) {
    size_t row_bytes = nigh_pack_row_bytes(job);
    size_t first = begin * NIGH_ROWS, last = nigh_min(end * NIGH_ROWS, job->mat->rows);
    size_t from = (size_t)job->at + first * row_bytes, bytes = (last - first) * row_bytes;
    uint8_t *buffer = p->buffers ? p->buffers + worker * BUFFER_BYTES : NULL;
    if (buffer && bytes <= BUFFER_BYTES && p->o.read(p->o.file, from, buffer, bytes)) {
        pack_rows(p->list->k, job, buffer, from, begin, end);
        return;
    }
    pack_rows(p->list->k, job, (const uint8_t *)p->g->file.ptr, 0, begin, end);
    if (p->o.done) p->o.done(p->o.file, from, bytes);
}

/* The same, as many groups at a time as the buffer holds. */
static void pack_pieces(const packing *p, size_t worker, const nigh_pack_job *job, size_t begin, size_t end) {
    size_t at_once = nigh_max(1, BUFFER_BYTES / (NIGH_ROWS * nigh_pack_row_bytes(job)));
    for (size_t i = begin; i < end; i += at_once) pack_piece(p, worker, job, i, nigh_min(i + at_once, end));
}

static void pack_groups(const packing *p, size_t worker, size_t begin, size_t end) {
    for (size_t j = 0; j < p->list->count && begin < end; j++) {
        const nigh_pack_job *job = &p->list->jobs[j];
        size_t before = job->groups_before, after = before + (job->mat->rows + NIGH_ROWS - 1) / NIGH_ROWS;
        if (after <= begin) continue;
        size_t stop = nigh_min(end, after);
        pack_pieces(p, worker, job, begin - before, stop - before);
        begin = stop;
    }
}

/* Part 0 is what is done beside the packing, the others are pieces. */
static void load_parts(void *ud, size_t worker, size_t begin, size_t end) {
    packing *p = ud;
    for (size_t i = begin; i < end && !atomic_load_explicit(&p->stop, memory_order_relaxed); i++) {
        if (i > 0) pack_groups(p, worker, (i - 1) * p->piece, nigh_min(i * p->piece, p->list->groups));
        else if (p->beside.run(p->beside.ud) != NIGH_OK) atomic_store(&p->stop, true);
    }
}

static void count_parameters(nigh_model *m, const nigh_gguf *g, bool tied) {
    m->info.parameters = 0;
    for (size_t i = 0; i < g->tensor_count; i++)
        m->info.parameters +=
            g->tensors[i].dims[0] * g->tensors[i].dims[1] * g->tensors[i].dims[2] * g->tensors[i].dims[3];
    m->info.weight_bytes = m->weights_bytes;
    size_t embd_bytes = (m->token_embd.rows + NIGH_ROWS - 1) / NIGH_ROWS * m->token_embd.group_bytes;
    m->info.decode_bytes = m->weights_bytes - (tied ? 0 : embd_bytes);
}

nigh_status nigh_weights_measure(nigh_model *m, const nigh_gguf *g, nigh_err *err) {
    loader l = { .m = m, .g = g, .err = err, .status = NIGH_OK };
    m->layers = nigh_alloc(m->h.layers, sizeof *m->layers);
    l.seen = nigh_alloc(g->tensor_count, sizeof *l.seen);
    if (!m->layers || !l.seen) {
        l.status = nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the layer table");
    } else {
        bind_all(&l);
        if (l.status == NIGH_OK) l.status = refuse_unknown(&l);
    }
    m->weights_bytes = l.status == NIGH_OK ? l.bytes : 0;
    nigh_free(l.seen);
    return l.status;
}

nigh_status nigh_weights_place(nigh_model *m, const nigh_gguf *g, nigh_pack_list *list, nigh_err *err) {
    loader l = { .m = m, .g = g, .err = err, .status = NIGH_OK, .placing = true, .list = list };
    list->k = &m->kernels;
    list->jobs = nigh_alloc(JOBS_MAX, sizeof *list->jobs);
    l.seen = nigh_alloc(g->tensor_count, sizeof *l.seen);
    m->weights = nigh_os_pages_take(m->weights_bytes);
    if (!list->jobs || !l.seen) {
        l.status = nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the layer table");
    } else if (!m->weights) {
        l.status = nigh_failf(err, NIGH_ENOMEM, 0, "the weights need %zu MiB, which cannot be had",
                              m->weights_bytes >> 20);
    } else {
        bind_all(&l);
        bool tied = !nigh_gguf_tensor_find(g, NIGH_STR("output.weight"));
        if (tied) m->output = m->token_embd;
        count_parameters(m, g, tied);
    }
    nigh_free(l.seen);
    return l.status;
}

nigh_status nigh_weights_load(nigh_model *m, const nigh_gguf *g, nigh_model_opts o, nigh_beside beside,
                              nigh_err *err) {
    nigh_pack_list list = { 0 };
    NIGH_TRY(nigh_weights_measure(m, g, err));
    nigh_status status = nigh_weights_place(m, g, &list, err);
    packing p = { .list = &list, .g = g, .o = o, .beside = beside };
    p.piece = nigh_max(1, PIECE_BYTES / nigh_max(1, m->weights_bytes / nigh_max(1, list.groups)));
    /* The vectors were taken from the mapping, and each brought all of its neighbourhood, 2 MiB at worst. */
    if (status == NIGH_OK && o.read && o.done && g->tensor_count)
        o.done(o.file, (size_t)g->tensors[0].at, g->file.len - (size_t)g->tensors[0].at);
    if (status == NIGH_OK && o.read) p.buffers = nigh_alloc(nigh_pool_size(o.pool), BUFFER_BYTES);
    if (status == NIGH_OK) nigh_pool_run(o.pool, load_parts, &p, 1 + (list.groups + p.piece - 1) / p.piece, 1);
    nigh_free(p.buffers);
    nigh_free(list.jobs);
    return status;
}
