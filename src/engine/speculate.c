/* speculate.c - see speculate.h. */
#include "engine/speculate.h"

#include "base/os.h"

/* ---- one sequence of many ---- */

nigh_status nigh_speculation_init(nigh_speculation *sp, nigh_session *session, bool drafts, nigh_err *err) {
    *sp = (nigh_speculation){ .session = session };
    return drafts ? nigh_draft_new(&sp->draft, nigh_session_limit(session), err) : NIGH_OK;
}

void nigh_speculation_release(nigh_speculation *sp) {
    nigh_draft_free(sp->draft);
    *sp = (nigh_speculation){ 0 };
}

void nigh_speculation_start(nigh_speculation *sp, const int32_t *ids, size_t count) {
    assert(nigh_session_count(sp->session) == count && count > 0);
    sp->begin = (uint32_t)count - 1;
    sp->tokens[0] = ids[count - 1];
    sp->count = 1;
    sp->used = 0;
    sp->drafted = sp->accepted = 0;
    if (!sp->draft) return;
    nigh_draft_clear(sp->draft);
    nigh_draft_read(sp->draft, ids, count);
}

void nigh_speculation_guess(nigh_speculation *sp, const nigh_draft_cost *cost, uint32_t rows, double *expected,
                            uint32_t room) {
    nigh_guess guess;
    assert(!nigh_speculation_has_row(sp));
    sp->begin = nigh_session_count(sp->session);
    sp->used = 0;
    sp->count = 1;
    room = (uint32_t)nigh_min(nigh_min(room, NIGH_DRAFT_MAX), nigh_session_limit(sp->session) - sp->begin - 1);
    if (!sp->draft || room == 0) return;
    nigh_draft_guess(sp->draft, room, &guess);
    uint32_t count = nigh_draft_choose(cost, rows, expected, &guess);
    if (sp->model && count == 0) {          /* the text suggests nothing; the small model may */
        uint32_t text_count;
        const int32_t *text = nigh_draft_text(sp->draft, &text_count);
        guess.count = room;
        count = nigh_draft_model_guess(sp->model, text, text_count, cost, rows, expected, &guess);
    }
    memcpy(sp->tokens + 1, guess.token, count * sizeof *guess.token);
    sp->count += count;
}

nigh_batch_item nigh_speculation_item(const nigh_speculation *sp, float *logits) {
    return (nigh_batch_item){ .session = sp->session, .tokens = sp->tokens, .count = sp->count, .all_logits = true,
                              .logits = logits };
}

void nigh_speculation_evaluated(nigh_speculation *sp) { sp->drafted += sp->count - 1; }
void nigh_speculation_only_last(nigh_speculation *sp) { sp->count = 1; }

nigh_status nigh_speculation_step(nigh_speculation *sp, nigh_generation *g, const float *logits, nigh_step *step,
                                  nigh_err *err) {
    assert(nigh_speculation_has_row(sp));
    NIGH_TRY(nigh_generation_step(g, logits, step, err));
    bool more = ++sp->used < sp->count && step->finish == NIGH_FINISH_NONE && sp->tokens[sp->used] == step->token;
    if (sp->draft && step->finish == NIGH_FINISH_NONE) nigh_draft_write(sp->draft, step->token);
    if (more) { sp->accepted++; return NIGH_OK; }
    nigh_session_truncate(sp->session, sp->begin + sp->used);
    sp->count = sp->used;
    sp->tokens[0] = step->token;
    return NIGH_OK;
}

/* ---- one sequence alone ---- */

struct nigh_writer {
    nigh_writer_opts o;
    nigh_speculation sp;
    nigh_draft_cost cost;
    float *logits;                  /* [1 + NIGH_DRAFT_MAX][vocab], or one row; touched as they are used */
    size_t logits_bytes;
};

nigh_status nigh_writer_new(nigh_writer **out, nigh_writer_opts o, nigh_err *err) {
    *out = NULL;
    nigh_writer *w = nigh_alloc(1, sizeof *w);
    if (!w) return nigh_fail(err, NIGH_ENOMEM, 0, "no memory for an answer");
    w->o = o;
    w->logits_bytes = (o.alone ? 1 : 1 + NIGH_DRAFT_MAX) * o.vocab * sizeof *w->logits;
    w->logits = nigh_os_sparse_take(w->logits_bytes);
    nigh_status status = w->logits ? nigh_speculation_init(&w->sp, o.session, !o.alone, err)
                                   : nigh_fail(err, NIGH_ENOMEM, 0, "no memory for the logits");
    if (status != NIGH_OK) { nigh_writer_free(w); return status; }
    w->sp.model = o.model;
    *out = w;
    return NIGH_OK;
}

void nigh_writer_free(nigh_writer *w) {
    if (!w) return;
    nigh_speculation_release(&w->sp);
    nigh_os_pages_give(w->logits, w->logits_bytes);
    nigh_free(w);
}

float *nigh_writer_logits(nigh_writer *w) { return w->logits; }
const nigh_speculation *nigh_writer_about(const nigh_writer *w) { return &w->sp; }

void nigh_writer_start(nigh_writer *w, const int32_t *ids, size_t count) {
    nigh_speculation_start(&w->sp, ids, count);
}

bool nigh_writer_full(const nigh_writer *w) {
    return !nigh_speculation_has_row(&w->sp)
           && nigh_session_count(w->sp.session) == nigh_session_limit(w->sp.session);
}

static nigh_status evaluate(nigh_writer *w, nigh_err *err) {
    nigh_batch_item item = nigh_speculation_item(&w->sp, w->logits);
    uint64_t begin = w->o.now_ns ? w->o.now_ns() : 0;
    NIGH_TRY(nigh_runner_eval(w->o.runner, &item, 1, err));
    if (w->o.now_ns) nigh_draft_cost_add(&w->cost, w->sp.count, w->o.now_ns() - begin);
    nigh_speculation_evaluated(&w->sp);
    return NIGH_OK;
}

/* A guess that drives the model out of its numbers is no fault of the text. */
static nigh_status evaluate_next(nigh_writer *w, nigh_err *err) {
    double expected = 1;
    nigh_speculation_guess(&w->sp, &w->cost, 1, &expected, nigh_runner_limit(w->o.runner) - 1);
    nigh_status status = evaluate(w, err);
    if (status != NIGH_EDATA || w->sp.count == 1) return status;
    nigh_speculation_only_last(&w->sp);
    return evaluate(w, err);
}

nigh_status nigh_writer_step(nigh_writer *w, nigh_generation *g, nigh_step *step, nigh_err *err) {
    if (!nigh_speculation_has_row(&w->sp)) {
        nigh_status status = evaluate_next(w, err);
        if (status != NIGH_OK) { w->sp.count = w->sp.used; return status; }
    }
    return nigh_speculation_step(&w->sp, g, w->logits + (size_t)w->sp.used * w->o.vocab, step, err);
}
