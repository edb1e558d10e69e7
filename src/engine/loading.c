/* loading.c - a model from pieces of its file, where the file cannot be mapped (a browser).
 *
 * The head of the file names every tensor, so all is checked and measured before any weight is read, and every tensor
 * has its place before the first byte of one has come. Then one round forward through the file:
 *
 *     vectors     norms, biases: widened to their place; rotation factors: kept aside for the end
 *     matrices    groups of 16 rows, packed from each piece to their place; the piece may go after that
 *
 * So bytes are taken as they come from a disk or a line, and there is in memory what a model needs, and one piece. The
 * head comes from a stranger: sizes are bounded by gguf.c, the shapes by weights.c, before they size anything here. */
#include "base/pool.h"
#include "engine/model.h"

enum { VECTOR_BYTES_MAX = NIGH_FFN_MAX * sizeof(float), GROUPS_AT_ONCE = 8 };

/* What is read in one go forward: a vector (tensor `idx`), or the rows of job `idx`. */
typedef struct { uint64_t at; uint32_t idx; bool vector; } item;

struct nigh_loading {
    nigh_gguf g;
    nigh_model_opts o;
    nigh_model *m;
    uint8_t *vectors;               /* their bytes, each from a multiple of 64 on */
    size_t vector_bytes, vector_at; /* the whole block; what is used of it */
    float **places;                 /* [tensor_count]: where the values of a vector go; NULL: nowhere */
    nigh_pack_list list;
    item *items;                    /* in the order of the file; NULL: the memory was not taken yet */
    size_t item_count, item_idx, group_idx; /* the next item; the next group of a matrix */
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
    if (status == NIGH_OK) status = nigh_model_begin(&l->m, &l->g, o, err);
    if (status == NIGH_OK) status = nigh_tokenizer_open(&l->m->tokenizer, &l->g, err);
    if (status == NIGH_OK) status = measure(l, err);
    if (status != NIGH_OK) { nigh_loading_free(l); return status; }
    *out = l;
    return NIGH_OK;
}

uint64_t nigh_loading_bytes(const nigh_loading *l) { return (uint64_t)l->m->weights_bytes + l->vector_bytes; }

/* ---- the order of the file ---- */

/* Sinks items[at] in a heap whose largest stands first. */
static void sink(item *items, size_t at, size_t count) {
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && items[child + 1].at > items[child].at) child++;
        if (items[at].at >= items[child].at) return;
        item moved = items[at];
        items[at] = items[child];
        items[child] = moved;
    }
}

static void sort(item *items, size_t count) {
    for (size_t i = count / 2; i-- > 0;) sink(items, i, count);
    for (size_t last = count; last-- > 1;) {
        item moved = items[0];
        items[0] = items[last];
        items[last] = moved;
        sink(items, 0, last);
    }
}

nigh_status nigh_loading_take(nigh_loading *l, nigh_err *err) {
    if (l->places) return nigh_fail(err, NIGH_EINVAL, 0, "the memory was taken already");
    l->vectors = nigh_alloc(1, nigh_max(l->vector_bytes, 1));
    l->places = nigh_alloc(nigh_max(l->g.tensor_count, 1), sizeof *l->places);
    if (!l->vectors || !l->places) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the vectors");
    l->list.vectors = l->places;
    NIGH_TRY(nigh_weights_place(l->m, &l->g, &l->list, err));
    l->items = nigh_alloc(l->g.tensor_count + l->list.count + 1, sizeof *l->items);
    if (!l->items) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the list of tensors");
    for (size_t i = 0; i < l->g.tensor_count; i++)
        if (is_vector(&l->g.tensors[i])) l->items[l->item_count++] = (item){ l->g.tensors[i].at, (uint32_t)i, true };
    for (size_t i = 0; i < l->list.count; i++)
        l->items[l->item_count++] = (item){ l->list.jobs[i].at, (uint32_t)i, false };
    sort(l->items, l->item_count);
    return NIGH_OK;
}

/* ---- what is wanted ---- */

static void want_groups(nigh_loading *l, const nigh_pack_job *job, size_t most) {
    size_t row_bytes = nigh_pack_row_bytes(job), first = l->group_idx * NIGH_ROWS, left = job->mat->rows - first;
    size_t groups = nigh_max(1, most / NIGH_ROWS / row_bytes);
    size_t rows = groups > left / NIGH_ROWS ? left : groups * NIGH_ROWS;
    l->wanted_groups = (rows + NIGH_ROWS - 1) / NIGH_ROWS;
    l->wanted_at = job->at + (uint64_t)first * row_bytes;
    l->wanted_bytes = rows * row_bytes;
}

bool nigh_loading_next(nigh_loading *l, size_t most, uint64_t *at, size_t *bytes) {
    l->wanted_bytes = 0;
    if (l->item_idx < l->item_count) {
        const item *i = &l->items[l->item_idx];
        if (!i->vector) {
            want_groups(l, &l->list.jobs[i->idx], most);
        } else {
            l->wanted_at = i->at;
            l->wanted_bytes = (size_t)l->g.tensors[i->idx].bytes;
        }
    }
    *at = l->wanted_bytes ? l->wanted_at : 0;
    *bytes = l->wanted_bytes;
    return l->wanted_bytes > 0;
}

/* ---- what has come ---- */

static void keep_vector(nigh_loading *l, size_t tensor_idx, const uint8_t *bytes) {
    nigh_gguf_tensor *t = &l->g.tensors[tensor_idx];
    memcpy(l->vectors + l->vector_at, bytes, l->wanted_bytes);
    t->data = l->vectors + l->vector_at;
    l->vector_at += nigh_round_up(l->wanted_bytes, 64);
    if (l->places[tensor_idx]) nigh_dequantize(t->type, t->data, l->places[tensor_idx], (size_t)t->dims[0]);
    l->item_idx++;
}

typedef struct { const nigh_loading *l; const uint8_t *bytes; size_t first; } piece;

static void pack_piece(void *ud, size_t worker, size_t begin, size_t end) {
    const piece *p = ud;
    (void)worker;
    nigh_weights_pack(&p->l->list, p->bytes, p->l->wanted_at, p->first + begin, p->first + end);
}

nigh_status nigh_loading_feed(nigh_loading *l, const uint8_t *bytes, nigh_err *err) {
    if (l->wanted_bytes == 0) return nigh_fail(err, NIGH_EINVAL, 0, "no bytes of the model are wanted");
    const item *i = &l->items[l->item_idx];
    if (i->vector) {
        keep_vector(l, i->idx, bytes);
    } else {
        const nigh_pack_job *job = &l->list.jobs[i->idx];
        piece p = { l, bytes, job->groups_before + l->group_idx };
        nigh_pool_run(l->o.pool, pack_piece, &p, l->wanted_groups, GROUPS_AT_ONCE);
        l->group_idx += l->wanted_groups;
        if (l->group_idx * NIGH_ROWS >= job->mat->rows) { l->item_idx++; l->group_idx = 0; }
    }
    l->wanted_bytes = 0;
    return NIGH_OK;
}

nigh_status nigh_loading_end(nigh_model **out, nigh_loading *l, nigh_err *err) {
    *out = NULL;
    if (!l->items || l->item_idx < l->item_count)
        return nigh_fail(err, NIGH_EINVAL, 0, "some bytes of the model have not come yet");
    NIGH_TRY(nigh_rope_init(l->m, &l->g, err));
    nigh_model_end(l->m);
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
    nigh_free(l->items);
    nigh_free(l->places);
    nigh_free(l->vectors);
    nigh_free(l);
}
