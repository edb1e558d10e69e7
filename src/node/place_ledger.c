/* place_ledger.c - one record an answer, made before the answer is finished: who asked for which feature, where it
 * went, what left, how long it took. No word of it. When the ledger does not take the record, the answer is not
 * given. Also the routes that read it. Callers of a tenant see records of this tenant. */
#include "node/place_parts.h"

#include "base/os.h"

enum { LEDGER_BYTES_MAX = 16 << 20, KEEPER_LEAST_MS = 500, KEEPER_MOST_MS = 3600000 };

/* ---- records ---- */

static void copy(char *to, size_t cap, nigh_str text) {
    size_t n = nigh_min(text.len, cap - 1);
    if (n) memcpy(to, text.ptr, n);
    to[n] = '\0';
}
#define COPY(to, text) copy(to, sizeof(to), text)

static void start_record(nigh_record *r, const nigh_answer *a, const char *outcome) {
    uint64_t ms = nigh_openai_us(a) / 1000;
    memset(r, 0, sizeof *r);
    COPY(r->id, nigh_str_of(a->receipt.id));
    r->at_ms = nigh_os_unix_ms() - ms;
    COPY(r->to, nigh_str_of(a->receipt.to));
    COPY(r->outcome, nigh_str_of(outcome));
    r->total_ms = (uint32_t)ms;
    COPY(r->tenant, nigh_str_of(a->rights->tenant));
    COPY(r->user, nigh_str_of(a->user));
    r->prompt_tokens = a->prompt_tokens;
    for (size_t i = 0; i < a->choice_count; i++) r->completion_tokens += a->choices[i].token_count;
}

static void note_hop(nigh_hop *to, const nigh_place *p, const place_hop *from) {
    const nigh_target *t = &p->policy->targets[from->target_idx];
    const nigh_served *served = p->served[from->target_idx];
    char region[16];
    COPY(to->target, t->name);
    COPY(to->tier, nigh_str_of(nigh_tier_name(t->tier)));
    COPY(to->region, nigh_str_of(place_region(p->policy, t, region)));
    COPY(to->model, t->model);
    COPY(to->model_sha256, served ? nigh_str_of(served->sha256) : t->hash);
    COPY(to->address, nigh_str_of(from->address));
    COPY(to->ended, nigh_str_of(place_end_name((place_end)from->end)));
    to->bytes_out = from->bytes_out;
    to->bytes_in = from->bytes_in;
    to->first_ms = from->first_ms;
    to->total_ms = from->total_ms;
    to->retention_s = t->tier == NIGH_TIER_DEVICE ? 0 : t->retention_s;
    to->trains = t->tier != NIGH_TIER_DEVICE && t->trains;
}

/* USD of what the answering target was given and gave, and of the one that was asked beside it. */
static double cost_of(const nigh_placed *pl, const nigh_record *r) {
    if (pl->t >= pl->place->policy->target_count || pl->from_cache) return 0;
    const nigh_target *t = &pl->place->policy->targets[pl->t];
    double usd = t->has_cost ? nigh_place_cost(t, r->prompt_tokens, r->completion_tokens) : 0;
    /* What a place charges that was cancelled nobody says: it is counted as if it had answered, too. */
    for (size_t i = 0; i < pl->hop_count; i++) {
        const nigh_target *other = &pl->place->policy->targets[pl->hops[i].target_idx];
        if (pl->hops[i].end == PLACE_OUTRUN && other->has_cost)
            usd += nigh_place_cost(other, r->prompt_tokens, r->completion_tokens);
    }
    return usd;
}

static void fill(nigh_record *r, const nigh_placed *pl) {
    const nigh_place *p = pl->place;
    COPY(r->class_name, p->policy->classes[pl->d.class_idx].name);
    COPY(r->degraded, nigh_str_of(pl->degraded));
    place_why(pl, r->why, sizeof r->why);
    r->policy_version = p->policy->version;
    r->redacted = pl->redacted;
    r->first_ms = pl->first_ms;
    if (pl->f) {
        COPY(r->feature, pl->f->name);
        r->keep_prompt_s = pl->f->keep_prompt_s;
        r->keep_output_s = pl->f->keep_output_s;
        r->keep_cache_s = pl->f->keep_cache_s;
        r->may_leave_region = p->may_leave[pl->ask.feature_idx];
    }
    for (size_t i = 0; i < pl->hop_count; i++) note_hop(&r->hops[r->hop_count++], p, &pl->hops[i]);
    r->cost_usd = cost_of(pl, r);
    r->inner = nigh_buf_str(&pl->inner);
}

bool place_record(nigh_placed *pl, const char *outcome, nigh_err *err) {
    nigh_record r;
    start_record(&r, pl->a, outcome);
    fill(&r, pl);
    place_settle(pl->place, pl->a, pl->from_cache ? 0 : r.cost_usd, r.prompt_tokens + r.completion_tokens);
    if (strcmp(outcome, "answered") != 0) COPY(r.rule, nigh_str_of(pl->rule));
    return !pl->place->ledger || nigh_ledger_add(pl->place->ledger, &r, err) == NIGH_OK;
}

bool nigh_place_note(nigh_place *p, nigh_answer *a, const char *outcome, const char *rule, nigh_err *err) {
    nigh_record r;
    start_record(&r, a, outcome);
    place_settle(p, a, 0, r.prompt_tokens + r.completion_tokens);
    if (!p->ledger) return true;
    COPY(r.why, NIGH_STR("a model of this node was asked for"));
    COPY(r.rule, nigh_str_of(rule));
    if (a->served) {
        nigh_hop *hop = &r.hops[r.hop_count++];
        COPY(hop->tier, NIGH_STR("device"));
        COPY(hop->region, NIGH_STR("here"));
        COPY(hop->model, nigh_str_of(a->served->id));
        COPY(hop->model_sha256, nigh_str_of(a->served->sha256));
        COPY(hop->ended, rule[0] ? NIGH_STR("failed") : NIGH_STR("ok"));
        hop->total_ms = r.total_ms;
    }
    return nigh_ledger_add(p->ledger, &r, err) == NIGH_OK;
}

/* A head is at most 50 ms younger than what it covers: nothing goes too early, and all of it an hour late at most. What
 * could not be deleted is deleted the next time. */
uint64_t place_ledger_tidy(nigh_place *p) {
    uint64_t keep_ms = (uint64_t)p->policy->ledger_keep_s * 1000, now_ms = nigh_os_unix_ms();
    if (now_ms > keep_ms) (void)!nigh_ledger_expire(p->ledger, now_ms - keep_ms, NULL);
    return nigh_max(KEEPER_LEAST_MS, nigh_min(keep_ms / 4, KEEPER_MOST_MS));
}

/* ---- routes ---- */

static bool has_ledger(const nigh_place *p, nigh_exchange *x) {
    if (p->ledger) return true;
    nigh_exchange_error(x, 404, "no_ledger", NULL, "this node keeps no ledger: nigh serve --ledger FILE");
    return false;
}

/* The value of a name in a query, decoded into out; false when it is absent. */
static bool query_value(nigh_str query, nigh_str name, char *out, size_t cap) {
    for (size_t at = 0; at < query.len;) {
        size_t end = nigh_min(nigh_str_find(query, NIGH_STR("&"), at), query.len), n = 0;
        nigh_str part = nigh_str_slice(query, at, end);
        at = end + 1;
        if (part.len <= name.len || part.ptr[name.len] != '=' || !nigh_str_starts(part, name)) continue;
        for (size_t i = name.len + 1; i < part.len && n + 1 < cap; i++) {
            char c = part.ptr[i] == '+' ? ' ' : part.ptr[i];
            int hi = c == '%' && i + 2 < part.len ? nigh_hex_digit(part.ptr[i + 1]) : -1;
            int lo = hi >= 0 ? nigh_hex_digit(part.ptr[i + 2]) : -1;
            if (lo >= 0) { c = (char)(hi * 16 + lo); i += 2; }
            out[n++] = c;
        }
        out[n] = '\0';
        return true;
    }
    out[0] = '\0';
    return false;
}

/* Unix seconds, or a time like 2026-11-21T00:00:00Z; as milliseconds. */
static bool query_time(nigh_str query, nigh_str name, uint64_t *ms) {
    char text[64];
    int64_t n;
    uint64_t s;
    *ms = 0;
    if (!query_value(query, name, text, sizeof text)) return true;
    if (nigh_instant_parse(nigh_str_of(text), &s)) *ms = s * 1000;
    else if (nigh_str_to_i64(nigh_str_of(text), &n) && n >= 0 && n < 1 << 30) *ms = (uint64_t)n * 1000;
    else if (nigh_str_to_i64(nigh_str_of(text), &n) && n >= 0) *ms = (uint64_t)n * (n < 100000000000 ? 1000 : 1);
    else return false;
    return true;
}

static void reply(nigh_exchange *x, nigh_status status, const nigh_err *err, nigh_buf *b) {
    if (status == NIGH_OK) nigh_exchange_reply(x, 200, "application/json", nigh_buf_str(b));
    else nigh_exchange_error(x, nigh_status_http(status), status == NIGH_ENOENT ? "not_found" : "ledger", NULL,
        err->text);
    nigh_buf_release(b);
}

void nigh_place_ledger(nigh_place *p, nigh_exchange *x) {
    char feature[128], tenant[128], target[128], limit[16];
    nigh_ledger_query q = { 0 };
    nigh_buf b = NIGH_BUF(LEDGER_BYTES_MAX);
    nigh_err err = { 0 };
    nigh_str query = nigh_exchange_query(x);
    int64_t n = 0;
    if (!has_ledger(p, x)) return;
    query_value(query, NIGH_STR("feature"), feature, sizeof feature);
    query_value(query, NIGH_STR("tenant"), tenant, sizeof tenant);
    query_value(query, NIGH_STR("target"), target, sizeof target);
    bool has_limit = query_value(query, NIGH_STR("limit"), limit, sizeof limit);
    if (!query_time(query, NIGH_STR("from"), &q.from_ms) || !query_time(query, NIGH_STR("to"), &q.to_ms)
        || (has_limit && (!nigh_str_to_i64(nigh_str_of(limit), &n) || n < 1 || n > 1000))) {
        nigh_exchange_error(x, 400, "invalid_value", NULL,
            "from and to are times like 2026-11-21T00:00:00Z or Unix seconds, limit is 1..1000");
        return;
    }
    const nigh_rights *rights = place_rights(p, nigh_exchange_asked(x));
    if (rights->tenant[0]) COPY(tenant, nigh_str_of(rights->tenant));
    q.feature = nigh_str_of(feature);
    q.tenant = nigh_str_of(tenant);
    q.target = nigh_str_of(target);
    q.limit = (uint32_t)n;
    (void)!nigh_ledger_flush(p->ledger, NULL);
    reply(x, nigh_ledger_find(p->ledger, &q, &b, &err), &err, &b);
}

/* Is it a record of the caller's tenant? */
static nigh_status check_tenant(nigh_place *p, const nigh_rights *rights, nigh_str id, nigh_err *err) {
    nigh_buf b = NIGH_BUF(LEDGER_BYTES_MAX);
    nigh_json_doc doc = { 0 };
    nigh_status status = nigh_ledger_receipt(p->ledger, id, &b, err);
    if (status == NIGH_OK) status = nigh_json_parse(&doc, nigh_buf_str(&b), err);
    const nigh_json *record = status == NIGH_OK ? nigh_json_get(doc.root, NIGH_STR("record")) : NULL;
    const nigh_json *tenant = nigh_json_get(record, NIGH_STR("tenant"));
    if (status == NIGH_OK && (!tenant || !nigh_str_eq(tenant->text, nigh_str_of(rights->tenant))))
        status = nigh_fail(err, NIGH_ENOENT, 0, "there is no such record");
    nigh_json_release(&doc);
    nigh_buf_release(&b);
    return status;
}

static void reply_one(nigh_place *p, nigh_exchange *x, nigh_str prefix,
    nigh_status (*read)(nigh_ledger *, nigh_str, nigh_buf *, nigh_err *)) {
    nigh_buf b = NIGH_BUF(LEDGER_BYTES_MAX);
    nigh_err err = { 0 };
    nigh_str id = nigh_str_of(nigh_exchange_path(x));
    if (!has_ledger(p, x)) return;
    id = nigh_str_slice(id, prefix.len, id.len);
    const nigh_rights *rights = place_rights(p, nigh_exchange_asked(x));
    (void)!nigh_ledger_flush(p->ledger, NULL);
    nigh_status status = rights->tenant[0] ? check_tenant(p, rights, id, &err) : NIGH_OK;
    if (status == NIGH_OK) status = read(p->ledger, id, &b, &err);
    reply(x, status, &err, &b);
}

void nigh_place_where(nigh_place *p, nigh_exchange *x) {
    reply_one(p, x, NIGH_STR("/nigh/where/"), nigh_ledger_where);
}

void nigh_place_signed(nigh_place *p, nigh_exchange *x) {
    reply_one(p, x, NIGH_STR("/nigh/receipt/"), nigh_ledger_receipt);
}
