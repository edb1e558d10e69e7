/* graph_attend.c - the half of graph.h that knows the key/value cache: rotation, storing, attention.
 *
 * Attention is cut into tiles: one key/value head with all query heads that share it, and some tokens. A tile goes
 * through the blocks of its cache in rising order, computes the part of each and folds it into the result, so that keys
 * and values are read once for the whole tile. Where there are too few tiles for the threads (one token of a model with
 * three key/value heads), the blocks of all tiles are handed out one by one; their parts are kept, and after every few
 * of them, and after the last, what can be folded is folded, in the same order. Short texts go block by block, as they
 * lie in memory, long ones tile by tile, so that a thread folds most of its parts while they are near. The result is
 * the same to the bit (kernel.h). Each kernel is told what its thread reads next, also behind its last block. */
#include <stdatomic.h>

#include "engine/graph.h"
#include "kernel/math.h"

enum {
    INLINE_FLOATS = 16384,          /* elementwise work up to this many values stays on the caller */
    FEW_TOKENS = 8,                 /* up to here reading memory is what takes the time */
    TILE_QUERIES = 64,              /* queries that share one pass over keys and values */
    QUERIES_MAX = 128,              /* not less than NIGH_GROUP_MAX and TILE_QUERIES */
    SPLIT_TILES = 64,               /* more tiles than this are never split */
    SPLIT_UNITS = 4096,             /* blocks of all tiles that one round can have */
    FOLD_EVERY = 4,                 /* units, until a thread looks what it can fold: a look is not for nothing */
    SHORT_BLOCKS = 8,               /* of a short text */
    STORE_TOKENS = 16               /* tokens whose keys are stored by one thread: they share cache lines */
};

typedef struct { nigh_graph *g; uint32_t layer_idx, window; size_t table, tile_tokens; } attend_job;

static const nigh_span *span_of(const nigh_graph *g, size_t row) {
    const nigh_span *s = g->spans;
    while (row >= (size_t)s->first + s->count) s++;
    return s;
}

/* Where a key and a value of few tokens will be put comes while the queries are rotated, a part with each head, so that
 * storing does not wait for one line after the other: a key is spread over all the lines of its group of 16. */
static void ask_for_place(const nigh_graph *g, const nigh_span *s, uint32_t layer_idx, size_t pos, uint32_t head) {
    const nigh_hparams *h = &g->m->h;
    uint32_t group = h->heads / h->kv_heads, part = head % group;
    size_t bytes = nigh_kv_value_bytes(s->session->type), row = h->head_dim * bytes, at = pos % NIGH_KV_BLOCK;
    const uint8_t *block = nigh_session_head(s->session, layer_idx, head / group)
                           + pos / NIGH_KV_BLOCK * s->session->block_bytes;
    const uint8_t *key = block + at / 16 * 16 * row, *value = block + nigh_kv_half_bytes(s->session->type, h->head_dim);
    for (size_t i = 16 * row * part / group; i < 16 * row * (part + 1) / group; i += 64) __builtin_prefetch(key + i);
    for (size_t i = 0; part == 0 && i < 2 * row; i += 64) __builtin_prefetch(value + at / 2 * 2 * row + i);
}

static void store_rows(void *ud, size_t worker, size_t begin, size_t end) {
    const attend_job *j = ud;
    nigh_graph *g = j->g;
    const nigh_hparams *h = &g->m->h;
    uint32_t half = h->rope_dims / 2, dim = h->head_dim;
    bool adjacent = (g->m->arch->flags & NIGH_ARCH_ADJACENT) != 0;
    (void)worker;
    for (size_t t = begin; t < end; t++) {
        const nigh_span *s = span_of(g, t);
        size_t table = h->rope_original ? s->session->limit > h->rope_original : j->table;
        const float *c = g->cos[table] + t * half, *n = g->sin[table] + t * half;
        for (uint32_t i = 0; i < h->heads; i++) {
            if (g->count <= FEW_TOKENS) ask_for_place(g, s, j->layer_idx, g->pos[t], i);
            if (half) g->k->rope(g->q + t * h->q_dim + i * dim, c, n, half, adjacent);
        }
        for (uint32_t i = 0; i < h->kv_heads; i++) {
            float *key = g->kk + t * h->kv_dim + i * dim;
            if (half) g->k->rope(key, c, n, half, adjacent);
            uint32_t block = g->pos[t] / NIGH_KV_BLOCK, at = g->pos[t] % NIGH_KV_BLOCK;
            uint8_t *kv = nigh_session_head(s->session, j->layer_idx, i) + block * s->session->block_bytes;
            nigh_kv_store(s->session->type, kv, dim, at, key, g->v + t * h->kv_dim + i * dim);
        }
    }
}

void nigh_graph_store(nigh_graph *g, uint32_t layer_idx, size_t table) {
    attend_job j = { .g = g, .layer_idx = layer_idx, .table = table };
    bool small = g->count * (g->m->h.q_dim + 2 * (size_t)g->m->h.kv_dim) <= INLINE_FLOATS;
    nigh_pool_run(small ? NULL : g->pool, store_rows, &j, g->count, STORE_TOKENS);
}

/* Press et al., "Train short, test long" (2022): slopes for any number of heads. */
static float alibi_slope(const nigh_hparams *h, uint32_t head) {
    uint32_t power = 1;
    while (power * 2 <= h->heads) power *= 2;
    float step = head < power ? 1.0f : 0.5f,
          exponent = head < power ? (float)(head + 1) : (float)(2 * (head - power) + 1);
    return (float)nigh_pow64(2.0, -(double)(h->alibi_max * step * exponent) / (double)power);
}

/* What row t may see: [*begin, *end). */
static void visible(const nigh_graph *g, const nigh_span *s, size_t t, uint32_t window, uint32_t *begin,
                    uint32_t *end) {
    uint32_t pos = g->pos[t], last = s->pos + s->count, reach = window / 2;
    if (g->m->h.causal) {
        *end = pos + 1;
        *begin = window && pos + 1 > window ? pos + 1 - window : 0;
    } else {
        *begin = window && pos > reach ? pos - reach : 0;
        *end = window && last - pos > reach + 1 ? pos + reach + 1 : last;
    }
}

/* ---- tiles ---- */

typedef struct {
    nigh_attn a;
    uint32_t first_block, last_block;           /* that any of its queries sees: first..last-1 */
    const float *q[QUERIES_MAX];
    float *out[QUERIES_MAX], slope[QUERIES_MAX];
    uint32_t begin[QUERIES_MAX], end[QUERIES_MAX], pos[QUERIES_MAX];
} tile;

enum { TILE_FLOATS = (sizeof(tile) + 63) / 64 * 16 };   /* what a tile takes in the graph's memory for parts */

static size_t tiles_of(const attend_job *j, const nigh_span *s) {
    return (s->count + j->tile_tokens - 1) / j->tile_tokens * j->g->m->h.kv_heads;
}

/* Query heads of one key/value head and `tokens` rows from `row` on. */
static void fill_tile(tile *t, const attend_job *j, const nigh_span *s, uint32_t row, uint32_t tokens,
                      uint32_t kv_head) {
    const nigh_graph *g = j->g;
    const nigh_hparams *h = &g->m->h;
    uint32_t group = h->heads / h->kv_heads, first = UINT32_MAX, last = 0, n = 0;
    for (uint32_t r = row; r < row + tokens; r++)
        for (uint32_t i = 0; i < group; i++, n++) {
            uint32_t head = kv_head * group + i;
            t->q[n] = g->q + (size_t)r * h->q_dim + (size_t)head * h->head_dim;
            t->out[n] = g->att + (size_t)r * h->q_dim + (size_t)head * h->head_dim;
            t->pos[n] = g->pos[r];
            visible(g, s, r, j->window, &t->begin[n], &t->end[n]);
            if (h->alibi_max > 0) t->slope[n] = alibi_slope(h, head);
            first = (uint32_t)nigh_min(first, t->begin[n]);
            last = (uint32_t)nigh_max(last, t->end[n]);
        }
    t->first_block = first / NIGH_KV_BLOCK;
    t->last_block = (last + NIGH_KV_BLOCK - 1) / NIGH_KV_BLOCK;
    t->a = (nigh_attn){ .count = n,
                        .head_dim = h->head_dim,
                        .q = t->q,
                        .out = t->out,
                        .begin = t->begin,
                        .end = t->end,
                        .pos = t->pos,
                        .slope = h->alibi_max > 0 ? t->slope : NULL,
                        .softcap = h->attn_softcap,
                        .type = s->session->type,
                        .blocks = nigh_session_head(s->session, j->layer_idx, kv_head),
                        .block_stride = s->session->block_bytes };
}

/* Tiles are numbered span by span, tokens by tokens, head by head. */
static void find_tile(tile *t, const attend_job *j, size_t n) {
    const nigh_span *s = j->g->spans;
    size_t heads = j->g->m->h.kv_heads;
    for (; n >= tiles_of(j, s); s++) n -= tiles_of(j, s);
    size_t first = n / heads * j->tile_tokens;
    uint32_t tokens = (uint32_t)nigh_min(j->tile_tokens, s->count - first);
    fill_tile(t, j, s, s->first + (uint32_t)first, tokens, (uint32_t)(n % heads));
}

/* A state, and behind it the rounded queries. */
static size_t state_floats(size_t queries, size_t dims) {
    return 2 * nigh_attn_padded(queries) + nigh_attn_rounded(queries, dims);
}

static void begin_tile(const nigh_kernels *k, tile *t, float *state) {
    size_t padded = nigh_attn_padded(t->a.count);
    t->a.rounded = state + 2 * padded;
    k->round_queries(&t->a);
    for (size_t i = 0; i < padded; i++) state[i] = -__builtin_inff();
    memset(state + padded, 0, padded * sizeof *state);
    for (size_t i = 0; i < t->a.count; i++) memset(t->out[i], 0, t->a.head_dim * sizeof(float));
}

static void end_tile(const nigh_kernels *k, const tile *t, const float *state) {
    const float *sum = state + nigh_attn_padded(t->a.count);
    for (size_t i = 0; i < t->a.count; i++) k->scale(t->out[i], 1.0f / sum[i], t->a.head_dim);
}

/* ---- one tile after the other ---- */

static void attend_tiles(void *ud, size_t worker, size_t begin, size_t end) {
    const attend_job *j = ud;
    const nigh_kernels *k = j->g->k;
    float *scratch = j->g->scratch + worker * j->g->scratch_stride;
    tile t;
    for (size_t n = begin; n < end; n++) {
        find_tile(&t, j, n);
        float *part = scratch + nigh_attn_scratch(t.a.count, t.a.head_dim),
              *state = part + nigh_attn_part(t.a.count, t.a.head_dim);
        t.a.scratch = scratch;
        begin_tile(k, &t, state);
        for (size_t b = t.first_block; b < t.last_block; b++) {
            t.a.next = b + 1 < t.last_block ? t.a.blocks + (b + 1) * t.a.block_stride : NULL;
            k->attend(&t.a, b, part);
            k->fold(&t.a, part, state);
        }
        end_tile(k, &t, state);
    }
}

/* ---- blocks of a few tiles, in rounds: as many blocks as there is room for their parts ---- */

/* Blocks of a tile in this round: that are computed, that are folded; and whether somebody folds. */
typedef struct { _Alignas(64) atomic_size_t done; atomic_bool busy; size_t folded; } fold_line;

/* Says that a part is there: the number of the round that has computed it. It is never cleared, so that a line of it
 * moves between the threads only where one folds what another has computed. */
typedef struct { _Alignas(64) atomic_uint_fast64_t round; } part_flag;

/* Tiles that differ in the head alone stand together. A unit of work is one block of one tile; of a short text the
 * units of such a company go block by block, head by head, of a long one tile by tile. The memory of the graph's parts
 * holds the tiles, their states, the parts, and at its end, where nothing else ever lies, the flags and the number of
 * the last round. */
typedef struct {
    const nigh_graph *g;
    tile *tiles;
    float *states, *parts;
    part_flag *flags;                           /* [count][blocks] */
    uint_fast64_t round;
    size_t count, heads, first_block, blocks, part_floats, state_floats, threads;
    const nigh_mat *after;                      /* what is read after the last block */
    bool last;
    fold_line lines[SPLIT_TILES];
} split_job;

static bool has_block(const tile *t, size_t block) { return block >= t->first_block && block < t->last_block; }

typedef struct { size_t tile_idx, block_idx; } split_unit;

static split_unit unit_of(const split_job *s, size_t n) {
    if (s->blocks > SHORT_BLOCKS) return (split_unit){ n / s->blocks, n % s->blocks };
    size_t company = n / (s->heads * s->blocks), rest = n % (s->heads * s->blocks);
    return (split_unit){ company * s->heads + rest % s->heads, rest / s->heads };
}

static float *state_of(const split_job *s, size_t tile_idx) { return s->states + tile_idx * s->state_floats; }

/* What a worker reads after unit n: the next one, and behind the last one of its share the first bytes of its share of
 * the next product. NULL where that is not known. */
static const uint8_t *bytes_behind(const split_job *s, size_t worker, size_t n) {
    size_t units = s->count * s->blocks, end = units * (worker + 1) / s->threads;
    if (++n == end && s->last) {
        size_t groups = (s->after->rows + NIGH_ROWS - 1) / NIGH_ROWS;
        return s->after->data + groups * worker / s->threads * s->after->group_bytes;
    }
    if (n >= units) return NULL;
    split_unit u = unit_of(s, n);
    const tile *t = &s->tiles[u.tile_idx];
    size_t block = s->first_block + u.block_idx;
    return has_block(t, block) ? t->a.blocks + block * t->a.block_stride : NULL;
}

/* Folds the parts that wait, in rising order, unless somebody does. Who stops looks whether the last part has come
 * meanwhile: its thread saw that somebody was at it, and left it to him. */
static void fold_waiting(split_job *s, size_t tile_idx) {
    const tile *t = &s->tiles[tile_idx];
    fold_line *line = &s->lines[tile_idx];
    const part_flag *flags = s->flags + tile_idx * s->blocks;
    do {
        if (atomic_exchange(&line->busy, true)) return;
        size_t at = line->folded;
        for (; at < s->blocks && atomic_load_explicit(&flags[at].round, memory_order_acquire) == s->round; at++)
            if (has_block(t, s->first_block + at))
                s->g->k->fold(&t->a, s->parts + (tile_idx * s->blocks + at) * s->part_floats, state_of(s, tile_idx));
        line->folded = at;
        if (at == s->blocks) {
            if (s->last) end_tile(s->g->k, t, state_of(s, tile_idx));
            return;
        }
        (void)atomic_exchange(&line->busy, false);
    } while (atomic_load(&line->done) == s->blocks);
}

static void attend_blocks(void *ud, size_t worker, size_t begin, size_t end) {
    split_job *s = ud;
    for (size_t n = begin; n < end; n++) {
        split_unit u = unit_of(s, n);
        const tile *t = &s->tiles[u.tile_idx];
        size_t block = s->first_block + u.block_idx, at = u.tile_idx * s->blocks + u.block_idx;
        if (has_block(t, block)) {
            nigh_attn a = t->a;
            a.next = bytes_behind(s, worker, n);
            a.scratch = s->g->scratch + worker * s->g->scratch_stride;
            s->g->k->attend(&a, block, s->parts + at * s->part_floats);
        }
        atomic_store_explicit(&s->flags[at].round, s->round, memory_order_release);
        size_t done = atomic_fetch_add(&s->lines[u.tile_idx].done, 1) + 1;
        if (done == s->blocks || u.block_idx % FOLD_EVERY == FOLD_EVERY - 1) fold_waiting(s, u.tile_idx);
    }
}

/* Finds the tiles and gives everything its place; the lines are left to the rounds. room: blocks that a round can
 * have. */
static void place_split(split_job *s, const attend_job *j, size_t *first, size_t *last, size_t *room) {
    *first = SIZE_MAX, *last = 0;
    s->g = j->g;
    s->after = &j->g->m->layers[j->layer_idx].wo;
    s->heads = j->g->m->h.kv_heads;
    s->part_floats = s->state_floats = 0;
    s->tiles = (tile *)(void *)j->g->parts;
    for (size_t n = 0; n < s->count; n++) {
        tile *t = &s->tiles[n];
        find_tile(t, j, n);
        *first = nigh_min(*first, t->first_block);
        *last = nigh_max(*last, t->last_block);
        s->part_floats = nigh_max(s->part_floats, nigh_attn_part(t->a.count, t->a.head_dim));
        s->state_floats = nigh_max(s->state_floats, state_floats(t->a.count, t->a.head_dim));
    }
    s->states = j->g->parts + s->count * TILE_FLOATS;
    s->parts = s->states + s->count * s->state_floats;
    s->flags = (part_flag *)(void *)(j->g->parts + NIGH_GRAPH_PARTS_FLOATS) - SPLIT_UNITS;
    size_t floats = (size_t)((float *)(void *)(s->flags - 1) - s->parts);
    *room = nigh_min(floats / s->part_floats, SPLIT_UNITS) / s->count;
}

static void attend_split(const attend_job *j, size_t tiles) {
    split_job s;
    size_t first, last, room;
    s.count = tiles;
    s.threads = nigh_pool_about(j->g->pool).active;
    place_split(&s, j, &first, &last, &room);
    for (size_t n = 0; n < tiles; n++) begin_tile(j->g->k, &s.tiles[n], state_of(&s, n));
    part_flag *last_round = s.flags - 1;
    for (s.first_block = first; s.first_block < last; s.first_block += s.blocks) {
        s.round = atomic_fetch_add(&last_round->round, 1) + 1;
        s.blocks = nigh_min(room, last - s.first_block);
        s.last = s.first_block + s.blocks == last;
        for (size_t n = 0; n < tiles; n++) {
            atomic_init(&s.lines[n].done, 0);
            atomic_init(&s.lines[n].busy, false);
            s.lines[n].folded = 0;
        }
        nigh_pool_run(j->g->pool, attend_blocks, &s, tiles * s.blocks, 1);
    }
}

/* How the batch is cut. Tiles that are too few to keep the threads busy are split, if there is room for the parts of
 * some blocks. */
typedef struct { size_t tiles, tile_tokens, work; bool split; } attend_plan;

static attend_plan plan_of(const nigh_graph *g) {
    size_t heads = g->m->h.kv_heads, group = g->m->h.heads / heads, threads = nigh_pool_size(g->pool), keys = 0;
    size_t queries = nigh_max(group, TILE_QUERIES);
    size_t dims = g->m->h.head_dim;
    size_t floats = TILE_FLOATS + nigh_attn_part(queries, dims) + state_floats(queries, dims);
    attend_plan p = { .tile_tokens = nigh_max(1, TILE_QUERIES / group) };
    for (size_t i = 0; i < g->span_count; i++) {
        const nigh_span *s = &g->spans[i];
        p.tiles += (s->count + p.tile_tokens - 1) / p.tile_tokens * heads;
        keys = nigh_max(keys, s->pos + s->count);
        p.work += (size_t)(s->pos + s->count) * s->count * g->m->h.q_dim;
    }
    p.split = g->parts && p.tiles <= 8 * threads && p.tiles <= SPLIT_TILES && keys > NIGH_KV_BLOCK
              && p.tiles * floats <= NIGH_GRAPH_PARTS_FLOATS / 8;
    return p;
}

void nigh_graph_attend_ahead(const nigh_graph *g, uint32_t layer_idx) {
    const nigh_layer *l = &g->m->layers[layer_idx];
    const nigh_session *s = g->spans[0].session;
    size_t heads = g->m->h.kv_heads;
    if (g->count > FEW_TOKENS || g->span_count > 1 || g->m->h.window || !plan_of(g).split) {
        nigh_graph_ahead(g, &l->wo, &l->wo);
        return;
    }
    size_t blocks = (g->spans[0].pos + g->spans[0].count + NIGH_KV_BLOCK - 1) / NIGH_KV_BLOCK;
    nigh_pool_pieces heads_first = { nigh_session_head(s, layer_idx, 0), s->head_bytes, s->head_bytes, heads,
                                     s->block_bytes, blocks };
    nigh_pool_pieces blocks_first = { nigh_session_head(s, layer_idx, 0), s->head_bytes, s->block_bytes, blocks,
                                      s->head_bytes, heads };
    nigh_pool_ahead_pieces(g->pool, blocks > SHORT_BLOCKS ? blocks_first : heads_first);
}

void nigh_graph_attend(nigh_graph *g, uint32_t layer_idx, uint32_t window) {
    attend_plan p = plan_of(g);
    const nigh_layer *l = &g->m->layers[layer_idx];
    attend_job j = { .g = g, .layer_idx = layer_idx, .window = window, .tile_tokens = p.tile_tokens };
    if (p.work <= INLINE_FLOATS) {
        attend_tiles(&j, 0, 0, p.tiles);
    } else if (p.split) {
        nigh_graph_ahead(g, &l->wo, &l->wo);
        attend_split(&j, p.tiles);
    } else {
        nigh_pool_run(g->pool, attend_tiles, &j, p.tiles, 1);
    }
}

size_t nigh_graph_scratch_floats(const nigh_model *m) {
    size_t queries = nigh_max(m->h.heads / m->h.kv_heads, TILE_QUERIES), dims = m->h.head_dim;
    size_t floats = nigh_attn_scratch(queries, dims) + nigh_attn_part(queries, dims) + state_floats(queries, dims);
    return nigh_round_up(floats, 1024);
}
