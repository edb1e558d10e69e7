/* loading.c - a model from pieces of its file, where the file cannot be mapped (a browser).
 *
 * The head of the file names every tensor, so all is checked and measured before any weight is read. Then two rounds:
 *
 *     vectors     norms, biases, rotation factors: small, copied into one block, read from there as from a file
 *     matrices    groups of 16 rows, packed from each piece to their place; the piece may go after that
 *
 * So there is in memory what a model needs, and one piece. The head comes from a stranger: sizes are bounded by
 * gguf.c, the shapes by weights.c, before they size anything here. */
#include "base/pool.h"
#include "engine/model.h"

enum { VECTOR_BYTES_MAX = NIGH_FFN_MAX * sizeof(float), GROUPS_AT_ONCE = 8 };

struct nigh_loading {
    nigh_gguf g;
    nigh_model_opts o;
    nigh_model *m;
    uint8_t *vectors;               /* their bytes, each from a multiple of 64 on */
    size_t vector_bytes, vector_at; /* the whole block; what is used of it */
    size_t tensor_idx;              /* first round: the next vector */
    bool placed;
    nigh_pack_list list;
    size_t job_idx, group_idx;      /* second round: the next group, counted over the list */
    size_t wanted_groups, wanted_bytes;
    uint64_t wanted_at;             /* of the last next; wanted_bytes 0: none */
};

static bool is_vector(const nigh_gguf_tensor *t) {
    return t->dims[1] == 1 && t->dims[2] == 1 && t->dims[3] == 1 && t->bytes <= VECTOR_BYTES_MAX;
}

static nigh_status measure(nigh_loading *l, nigh_err *err) {
    for (size_t i = 0; i < l->g.tensor_count; i++) {
        const nigh_gguf_tensor *t = &l->g.tensors[i];
        if (!is_vector(t)) continue;
        if (!nigh_add(l->vector_bytes, nigh_round_up((size_t)t->bytes, 64), &l->vector_bytes))
            return nigh_fail(err, NIGH_ERANGE, 0, "the vectors are too large");
    }
    return nigh_weights_measure(l->m, &l->g, err);
}

nigh_status nigh_loading_new(nigh_loading **out, nigh_str head, uint64_t file_bytes, nigh_model_opts o,
                             nigh_err *err) {
    *out = NULL;
    if ((size_t)file_bytes != file_bytes)
        return nigh_fail(err, NIGH_ERANGE, 0, "the file is too large for this machine");
    nigh_loading *l = nigh_alloc(1, sizeof *l);
    if (!l) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for a model");
    l->o = o;
    nigh_status status = nigh_gguf_parse_head(&l->g, head, (size_t)file_bytes, err);
    if (status == NIGH_OK) status = nigh_model_begin(&l->m, &l->g, err);
    if (status == NIGH_OK) status = nigh_tokenizer_open(&l->m->tokenizer, &l->g, err);
    if (status == NIGH_OK) status = measure(l, err);
    if (status != NIGH_OK) { nigh_loading_free(l); return status; }
    *out = l;
    return NIGH_OK;
}

uint64_t nigh_loading_bytes(const nigh_loading *l) { return (uint64_t)l->m->weights_bytes + l->vector_bytes; }

/* ---- what is wanted ---- */

static bool want_vector(nigh_loading *l) {
    while (l->tensor_idx < l->g.tensor_count && !is_vector(&l->g.tensors[l->tensor_idx])) l->tensor_idx++;
    if (l->tensor_idx == l->g.tensor_count) return false;
    l->wanted_at = l->g.tensors[l->tensor_idx].at;
    l->wanted_bytes = (size_t)l->g.tensors[l->tensor_idx].bytes;
    return true;
}

static bool want_groups(nigh_loading *l, size_t most) {
    const nigh_pack_list *list = &l->list;
    while (l->job_idx + 1 < list->count && list->jobs[l->job_idx + 1].groups_before <= l->group_idx) l->job_idx++;
    if (l->group_idx == list->groups) return false;
    const nigh_pack_job *job = &list->jobs[l->job_idx];
    size_t row_bytes = nigh_pack_row_bytes(job);
    size_t first = (l->group_idx - job->groups_before) * NIGH_ROWS, left = job->mat->rows - first;
    size_t groups = nigh_max(1, most / NIGH_ROWS / row_bytes), rows = nigh_min(left, groups * NIGH_ROWS);
    l->wanted_groups = (rows + NIGH_ROWS - 1) / NIGH_ROWS;
    l->wanted_at = job->at + (uint64_t)first * row_bytes;
    l->wanted_bytes = rows * row_bytes;
    return true;
}

bool nigh_loading_next(nigh_loading *l, size_t most, uint64_t *at, size_t *bytes) {
    l->wanted_bytes = 0;
    bool more = l->placed ? want_groups(l, most) : want_vector(l);
    *at = more ? l->wanted_at : 0;
    *bytes = more ? l->wanted_bytes : 0;
    return more;
}

/* ---- what has come ---- */

/* All vectors are there: the memory of the model is taken, the matrices are given their places. */
static nigh_status place(nigh_loading *l, nigh_err *err) {
    NIGH_TRY(nigh_rope_init(l->m, &l->g, err));
    NIGH_TRY(nigh_weights_place(l->m, &l->g, &l->list, err));
    l->placed = true;
    return NIGH_OK;
}

static nigh_status keep_vector(nigh_loading *l, const uint8_t *bytes, nigh_err *err) {
    if (!l->vectors) l->vectors = nigh_alloc(1, l->vector_bytes);
    if (!l->vectors) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the vectors of the model");
    nigh_gguf_tensor *t = &l->g.tensors[l->tensor_idx++];
    memcpy(l->vectors + l->vector_at, bytes, l->wanted_bytes);
    t->data = l->vectors + l->vector_at;
    l->vector_at += nigh_round_up(l->wanted_bytes, 64);
    return want_vector(l) ? NIGH_OK : place(l, err);
}

typedef struct { const nigh_loading *l; const uint8_t *bytes; } piece;

static void pack_piece(void *ud, size_t worker, size_t begin, size_t end) {
    const piece *p = ud;
    (void)worker;
    nigh_weights_pack(&p->l->list, p->bytes, p->l->wanted_at, p->l->group_idx + begin, p->l->group_idx + end);
}

nigh_status nigh_loading_feed(nigh_loading *l, const uint8_t *bytes, nigh_err *err) {
    if (l->wanted_bytes == 0) return nigh_fail(err, NIGH_EINVAL, 0, "no bytes of the model are wanted");
    if (!l->placed) {
        nigh_status status = keep_vector(l, bytes, err);
        l->wanted_bytes = 0;
        return status;
    }
    piece p = { l, bytes };
    nigh_pool_run(l->o.pool, pack_piece, &p, l->wanted_groups, GROUPS_AT_ONCE);
    l->group_idx += l->wanted_groups;
    l->wanted_bytes = 0;
    return NIGH_OK;
}

nigh_status nigh_loading_end(nigh_model **out, nigh_loading *l, nigh_err *err) {
    *out = NULL;
    if (!l->placed || l->group_idx < l->list.groups)
        return nigh_fail(err, NIGH_EINVAL, 0, "some bytes of the model have not come yet");
    nigh_model_end(l->m, l->o);
    *out = l->m;
    l->m = NULL;
    nigh_loading_free(l);
    return NIGH_OK;
}

void nigh_loading_free(nigh_loading *l) {
    if (!l) return;
    nigh_gguf_release(&l->g);
    nigh_model_close(l->m);
    nigh_free(l->list.jobs);
    nigh_free(l->vectors);
    nigh_free(l);
}
