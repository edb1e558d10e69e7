/* draft.c - see draft.h.
 *
 * The text, and for each place in it the last earlier place that follows the same two tokens (by a hash):
 *
 *     tokens   the  cat  sat  on  the  cat  |          two places follow "the cat": 2 and 6
 *     place    0    1    2    3   4    5    6          before[6] = 2, heads[hash(the, cat)] = 6
 *
 * A guess is a place in the text: the token that stands there is expected next. Of the places that follow the same two
 * tokens (at most WALK of them, the nearest first) the one that agrees over the longest stretch is taken; where there
 * is none, the last place that follows the same token, which seldom comes true, but a second row costs little. When a
 * long copy is broken off by a token that was never seen here, the guess slips one place on: most edits replace a word.
 *
 * How far a guess is to be trusted depends on the length of the agreement, and on the text; so it is counted, by
 * length, how many of the last guesses came true. Old counts fade by FADE with each new one. */
#include "engine/draft.h"

enum { WALK = 32, AGREE_MAX = 32, AGREE_SLIP = 8, HEADS_MAX = 1 << 16, KINDS = 9 };
#define FADE 0.96f
#define FIRST_WEIGHT 4.0f       /* a guess at how good guesses are counts like so many that were seen */
#define ROW_SHARE 0.15          /* of one row's time, what each further row takes, until it is measured */
#define WORTH 1.02              /* the least gain for which anything is drafted */

/* By the agreement: a slip; 1 token, seen once; 1, seen more often; 2, 3, 4-5, 6-8, 9-15, 16 and more. */
static const float first_rate[KINDS] = { 0.5f, 0.15f, 0.1f, 0.3f, 0.45f, 0.6f, 0.7f, 0.8f, 0.9f };

struct nigh_draft {
    uint32_t limit, count, head_mask;
    int32_t *tokens;            /* [limit] */
    uint32_t *before;           /* [limit + 1] */
    uint32_t *heads, *last;     /* [head_mask + 1]; 0: none; by two tokens, by one */
    uint32_t at, agree;         /* the guess: tokens[at]; agree 0: none */
    bool once;                  /* agree is 1, and the token before it had been seen once */
    bool slipped;               /* agree is 1, but what was before it agreed, too */
    float right[KINDS], all[KINDS];
};

/* ---- life ---- */

nigh_status nigh_draft_new(nigh_draft **out, uint32_t tokens_max, nigh_err *err) {
    *out = NULL;
    uint32_t heads = 256;
    while (heads < tokens_max && heads < HEADS_MAX) heads *= 2;
    nigh_draft *d = nigh_alloc(1, sizeof *d);
    if (d) {
        *d = (nigh_draft){ .limit = tokens_max, .head_mask = heads - 1 };
        d->tokens = nigh_alloc(nigh_max(tokens_max, 1), sizeof *d->tokens);
        d->before = nigh_alloc((size_t)tokens_max + 1, sizeof *d->before);
        d->heads = nigh_alloc(heads, sizeof *d->heads);
        d->last = nigh_alloc(heads, sizeof *d->last);
    }
    if (!d || !d->tokens || !d->before || !d->heads || !d->last) {
        nigh_draft_free(d);
        return nigh_fail(err, NIGH_ENOMEM, 0, "no memory for drafts");
    }
    for (size_t i = 0; i < KINDS; i++) {
        d->all[i] = FIRST_WEIGHT;
        d->right[i] = FIRST_WEIGHT * first_rate[i];
    }
    *out = d;
    return NIGH_OK;
}

void nigh_draft_free(nigh_draft *d) {
    if (!d) return;
    nigh_free(d->tokens);
    nigh_free(d->before);
    nigh_free(d->heads);
    nigh_free(d->last);
    nigh_free(d);
}

void nigh_draft_clear(nigh_draft *d) {
    memset(d->heads, 0, ((size_t)d->head_mask + 1) * sizeof *d->heads);
    memset(d->last, 0, ((size_t)d->head_mask + 1) * sizeof *d->last);
    d->count = d->at = d->agree = 0;
}

const int32_t *nigh_draft_text(const nigh_draft *d, uint32_t *count) {
    *count = d->count;
    return d->tokens;
}

/* ---- the index ---- */

/* Multiplicative hashing, Knuth 6.4. */
static uint32_t slot_of(const nigh_draft *d, uint64_t key) {
    return (uint32_t)(key * 0x9e3779b97f4a7c15u >> 40) & d->head_mask;
}
static uint32_t *last_of(const nigh_draft *d) { return &d->last[slot_of(d, (uint32_t)d->tokens[d->count - 1])]; }
static uint32_t *head_of(const nigh_draft *d) {
    return &d->heads[slot_of(d, (uint64_t)(uint32_t)d->tokens[d->count - 2] << 32
                                    | (uint32_t)d->tokens[d->count - 1])];
}

static uint32_t agreement(const nigh_draft *d, uint32_t place) {
    uint32_t n = 0, most = (uint32_t)nigh_min(place, AGREE_MAX);
    while (n < most && d->tokens[place - 1 - n] == d->tokens[d->count - 1 - n]) n++;
    return n;
}

/* Looks for the place that agrees longest with the end of the text; found ones replace the guess if they are better. */
static void look_up(nigh_draft *d) {
    if (d->count < 2) return;
    uint32_t place = *last_of(d) >> 1;
    if (d->agree == 0 && place && agreement(d, place)) {
        d->at = place;
        d->agree = 1;
        d->once = (*last_of(d) & 1) == 0;
    }
    place = *head_of(d);
    for (int i = 0; i < WALK && place; i++, place = d->before[place]) {
        uint32_t n = agreement(d, place);
        if (n < 2 || n <= d->agree) continue;
        d->at = place;
        d->agree = n;
        d->slipped = false;
        if (n == AGREE_MAX) return;
    }
}

/* The end of the text becomes a place that can be found. */
static void enter(nigh_draft *d) {
    uint32_t *last = last_of(d);
    *last = d->count << 1 | (*last != 0);
    if (d->count < 2) return;
    uint32_t *head = head_of(d);
    d->before[d->count] = *head;
    *head = d->count;
}

void nigh_draft_read(nigh_draft *d, const int32_t *tokens, size_t count) {
    if (count == 0) return;
    for (size_t i = 0; i < count && d->count < d->limit; i++) {
        if (d->count) enter(d);
        d->tokens[d->count++] = tokens[i];
    }
    d->agree = 0;
    d->slipped = false;
    look_up(d);
}

/* ---- guesses ---- */

static size_t kind_of(const nigh_draft *d, uint32_t agree) {
    if (agree == 1) return d->slipped ? 0 : d->once ? 1 : 2;
    return agree < 4 ? agree + 1 : agree < 6 ? 5 : agree < 9 ? 6 : agree < 16 ? 7 : 8;
}

void nigh_draft_write(nigh_draft *d, int32_t token) {
    if (d->count == d->limit) { d->agree = 0; return; }
    bool right = d->agree && d->tokens[d->at] == token;
    if (d->agree) {
        size_t kind = kind_of(d, d->agree);
        d->all[kind] = d->all[kind] * FADE + 1;
        d->right[kind] = d->right[kind] * FADE + (right ? 1 : 0);
    }
    d->slipped = !right && d->agree >= AGREE_SLIP;
    if (d->count) enter(d);
    d->tokens[d->count++] = token;
    d->at++;
    d->agree = right ? (uint32_t)nigh_min(d->agree + 1, AGREE_MAX) : d->slipped ? 1 : 0;
    look_up(d);
}

void nigh_draft_guess(const nigh_draft *d, uint32_t most, nigh_guess *out) {
    float chance = 1;
    out->count = 0;
    if (!d->agree) return;
    for (uint32_t i = 0; i < nigh_min(most, NIGH_DRAFT_MAX); i++) {
        uint32_t from = d->at + i;
        size_t kind = kind_of(d, d->agree + i);
        chance *= d->right[kind] / d->all[kind];
        out->token[i] = from < d->count ? d->tokens[from] : out->token[from - d->count];
        out->chance[i] = chance;
        out->count = i + 1;
    }
}

/* ---- what it costs, and what pays ---- */

void nigh_draft_cost_add(nigh_draft_cost *c, uint32_t rows, uint64_t ns) {
    if (rows < 1 || rows > NIGH_DRAFT_ROWS_MAX || ns == 0) return;
    double was = c->seen[rows] ? c->ns[rows] : c->seen[1] ? nigh_draft_cost_of(c, rows) : 0, now = (double)ns;
    /* A process that was put to sleep is no measure of the model. */
    if (was > 0) now = now > 2 * was ? 2 * was : now < was / 2 ? was / 2 : now;
    if (c->seen[rows] < 16) c->seen[rows]++;
    c->ns[rows] = was > 0 ? was + (now - was) / (c->seen[rows] < 4 ? 2 : 8) : now;
}

double nigh_draft_cost_of(const nigh_draft_cost *c, uint32_t rows) {
    uint32_t low = (uint32_t)nigh_min(rows, NIGH_DRAFT_ROWS_MAX), high = rows;
    while (low > 1 && !c->seen[low]) low--;
    while (high <= NIGH_DRAFT_ROWS_MAX && !c->seen[high]) high++;
    double one = c->seen[1] ? c->ns[1] : 1;
    if (!c->seen[low]) return one * (1 + ROW_SHARE * (rows - 1));
    if (low == rows) return c->ns[low];
    double slope = high <= NIGH_DRAFT_ROWS_MAX ? (c->ns[high] - c->ns[low]) / (high - low)
                   : low > 1                   ? (c->ns[low] - one) / (low - 1)
                                               : one * ROW_SHARE;
    return c->ns[low] + (slope > 0 ? slope : 0) * (rows - low);
}

uint32_t nigh_draft_choose(const nigh_draft_cost *c, uint32_t rows, double *expected, const nigh_guess *g) {
    double best = *expected / nigh_draft_cost_of(c, rows) * WORTH, sum = *expected, found = sum;
    uint32_t count = 0;
    for (uint32_t i = 0; i < g->count && rows + i < NIGH_DRAFT_ROWS_MAX; i++) {
        sum += (double)g->chance[i];
        double rate = sum / nigh_draft_cost_of(c, rows + i + 1);
        if (rate <= best) continue;
        best = rate;
        found = sum;
        count = i + 1;
    }
    *expected = found;
    return count;
}
