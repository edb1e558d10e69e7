/* place_request.c - what a request asks for, and what the policy decides of it.
 *
 *     feature    model "feature/NAME"; else the field x-feature; else metadata.feature; else an alias of the policy
 *     class      the most private of the feature's, the field x-data-class, and (`found` of the policy) what its
 *                strings hold: personal data or secrets that are known by their form
 *     size       a third of the bytes of its words, in tokens, and max_tokens (512 when it does not say)
 *
 * A name that the policy does not have stands for its default feature, or for an unknown one, which stays here. */
#include "node/place_parts.h"

#include "base/os.h"

enum { BYTES_A_TOKEN = 3, ANSWER_TOKENS = 512, LONGEST_MS = 600000, SENT_MAX = 16 << 20, INNER_MAX = 16384 };

/* ---- reading ---- */

static bool is_alias(const nigh_policy *p, nigh_str name) {
    for (size_t i = 0; i < p->alias_count; i++) if (nigh_str_eq(p->aliases[i].name, name)) return true;
    return false;
}

bool place_feature(const nigh_place *place, const nigh_asked *asked, const nigh_request *r, nigh_str *name) {
    const nigh_policy *p = place->policy;
    nigh_str prefix = NIGH_STR("feature/"), field = nigh_str_of(asked ? asked->feature : "");
    *name = NIGH_STR("");
    if (!p) return false;
    *name = nigh_str_slice(r->model, prefix.len, r->model.len);
    if (nigh_str_starts(r->model, prefix)) return true;
    *name = field.len ? field : r->feature;
    if (name->len) return true;
    if (!r->model.len || !is_alias(p, r->model)) return false;
    *name = r->model;
    return true;
}

typedef struct { size_t bytes; unsigned look, found; } words;  /* look: for these kinds; found: of them */

static void take_words(words *w, nigh_str text) {
    nigh_found f;
    w->bytes += text.len;
    for (size_t from = 0; w->look && nigh_find_next(text, &from, w->look, &f);) {
        w->found |= 1u << f.kind;
        w->look &= ~(1u << f.kind);
    }
}

/* All strings and numbers below v, without recursion. */
static void words_of(const nigh_json *v, words *w) {
    const nigh_json *stack[NIGH_JSON_DEPTH_MAX];
    size_t depth = 0;
    for (const nigh_json *at = v; at;) {
        if (at->type == NIGH_JSON_STRING || at->type == NIGH_JSON_NUMBER) take_words(w, at->text);
        if (at->first && depth < NIGH_JSON_DEPTH_MAX) { stack[depth++] = at; at = at->first; continue; }
        while (depth && !at->next) at = stack[--depth];
        at = depth ? at->next : NULL;
    }
}

/* The class of what stands in a request, by the policy's `found`. */
static uint32_t found_class(const nigh_policy *p, const nigh_request *r) {
    unsigned pii = nigh_find_kinds(NIGH_REDACT_PII), secrets = nigh_find_kinds(NIGH_REDACT_SECRETS);
    uint32_t of_pii = p->found_pii_idx, of_secrets = p->found_secrets_idx;
    words w = { .look = (of_pii < p->class_count ? pii : 0) | (of_secrets < p->class_count ? secrets : 0) };
    if (!w.look) return UINT32_MAX;
    words_of(r->content, &w);
    words_of(r->tools, &w);
    uint32_t a = w.found & pii ? of_pii : UINT32_MAX, b = w.found & secrets ? of_secrets : UINT32_MAX;
    if (a == UINT32_MAX || b == UINT32_MAX) return a == UINT32_MAX ? b : a;
    return p->classes[a].level > p->classes[b].level ? a : b;
}

uint32_t place_tokens(const nigh_request *r) {
    words w = { 0 };
    words_of(r->content, &w);
    words_of(r->tools, &w);
    return (uint32_t)(w.bytes / BYTES_A_TOKEN) + 1;
}

uint32_t nigh_place_estimate(const nigh_request *r) { return place_tokens(r); }

bool place_read(const nigh_place *p, const nigh_asked *asked, const nigh_request *r, nigh_place_request *out,
    nigh_str *name) {
    nigh_str class = nigh_str_of(asked ? asked->data_class : "");
    if (!place_feature(p, asked, r, name)) return false;
    *out = (nigh_place_request){ .feature_idx = nigh_policy_feature(p->policy, *name), .data_class_idx = UINT32_MAX,
        .found_class_idx = found_class(p->policy, r), .needs = r->needs };
    out->prompt_tokens = place_tokens(r);
    out->max_tokens = r->max_tokens ? (uint32_t)r->max_tokens : ANSWER_TOKENS;
    if (class.len) {                    /* a class that nobody declared counts as the most private one */
        uint32_t c = nigh_policy_class(p->policy, class);
        out->data_class_idx = c == UINT32_MAX ? p->policy->top_class_idx : c;
    }
    return true;
}

/* Another place is asked in chat's words, for one answer; what has no such words stays here. */
static unsigned beyond_away(const nigh_request *r) {
    return r->task != NIGH_TASK_CHAT || r->n != 1 || r->logprobs || r->template_kwargs ? NIGH_WHY_UNSUPPORTED : 0;
}

void place_why_names(unsigned why, char *out, size_t cap) {
    size_t n = 0;
    out[0] = '\0';
    for (unsigned i = 0; i < NIGH_WHYS && n < cap; i++)
        if (why >> i & 1) n += nigh_format(out + n, cap - n, "%s%s", n ? "," : "", nigh_why_name(i));
}

/* ---- beginning ---- */

bool nigh_place_takes(const nigh_place *p, const nigh_answer *a) {
    nigh_str name;
    return place_feature(p, nigh_exchange_asked(a->x), &a->r, &name);
}

/* What refuses a target beside the policy's own rules. */
static unsigned more_whys(const nigh_placed *pl, uint32_t t) {
    const nigh_target *target = &pl->place->policy->targets[t];
    bool costs = nigh_place_cost(target, pl->ask.prompt_tokens, pl->ask.max_tokens) > 0;
    return (target->tier == NIGH_TIER_DEVICE ? 0 : pl->beyond_away) | (pl->over_budget && costs ? NIGH_WHY_COST : 0);
}

static void drop_more(nigh_placed *pl) {
    nigh_decision *d = &pl->d;
    size_t count = 0;
    for (size_t i = 0; i < d->count; i++) {
        if (more_whys(pl, d->order[i])) d->usable &= ~((uint64_t)1 << d->order[i]);
        else d->order[count++] = d->order[i];
    }
    d->count = count;
}

static unsigned why_none(const nigh_placed *pl, const nigh_place_facts *facts) {
    unsigned why = nigh_place_whys(pl->place->policy, facts, &pl->ask);
    for (uint64_t left = pl->d.allowed; left; left &= left - 1) why |= more_whys(pl, (uint32_t)__builtin_ctzll(left));
    return why;
}

void place_decide(nigh_placed *pl, const nigh_rights *rights, const char *user) {
    nigh_place *p = pl->place;
    nigh_place_facts facts;
    uint32_t first[NIGH_TARGETS_MAX], total[NIGH_TARGETS_MAX];
    place_facts(p, nigh_str_of(rights->tenant), &facts, first, total);
    pl->ask.spent_today_usd = place_spent_today(p, rights, user);
    pl->over_budget = p->limits && nigh_limits_over_budget(p->limits, rights, nigh_os_unix_ms());
    nigh_decide(p->policy, &facts, &pl->ask, &pl->d);
    if (pl->beyond_away || pl->over_budget) drop_more(pl);
    if (!pl->d.count) pl->refused = why_none(pl, &facts);
}

bool place_new(nigh_place *p, nigh_answer *a, const nigh_asked *asked, nigh_placed **out) {
    nigh_placed *pl = *out = nigh_alloc(sizeof *pl, 1);
    nigh_str name;
    if (!pl) {
        nigh_openai_end_in_error(a, 503, "no_memory", NULL, "not enough memory");
        nigh_openai_over(a);
        return false;
    }
    *pl = (nigh_placed){ .a = a, .place = p, .beyond_away = beyond_away(&a->r), .t = UINT32_MAX };
    pl->sent = pl->before = NIGH_BUF(SENT_MAX);
    pl->inner = NIGH_BUF(INNER_MAX);
    atomic_init(&pl->refs, 1);
    a->placed = pl;
    (void)place_read(p, asked, &a->r, &pl->ask, &name);
    pl->ask.seed = nigh_place_seed(nigh_str_of(a->receipt.id));
    pl->f = pl->ask.feature_idx < p->policy->feature_count ? &p->policy->features[pl->ask.feature_idx] : NULL;
    uint32_t total = pl->f ? pl->f->total_ms : 0;
    pl->until_ms = a->start_ns / 1000000 + (total ? total : LONGEST_MS);
    return true;
}

bool nigh_place_decides(const nigh_place *p) { return p && p->policy; }

void nigh_place_begin(nigh_place *p, nigh_answer *a, bool on_socket) {
    nigh_placed *pl;
    if (!place_new(p, a, a->x ? nigh_exchange_asked(a->x) : NULL, &pl)) return;
    pl->on_socket = on_socket;
    place_decide(pl, a->rights, a->user);
    if (pl->d.count && place_from_cache(pl)) return;
    place_next(pl);
}

/* ---- the same without running it ---- */

static nigh_status add_name(nigh_buf *b, nigh_str name) { return nigh_json_add_string(b, name); }

static nigh_status add_whys(nigh_buf *b, unsigned why) {
    bool any = false;
    NIGH_TRY(nigh_buf_add_char(b, '['));
    for (unsigned i = 0; i < NIGH_WHYS; i++) {
        if (!(why >> i & 1)) continue;
        NIGH_TRY(nigh_buf_addf(b, "%s{\"rule\":\"%s\",\"text\":\"%s\"}", any ? "," : "", nigh_why_name(i),
            nigh_why_text(i)));
        any = true;
    }
    return nigh_buf_add_char(b, ']');
}

static nigh_status add_target(nigh_buf *b, const nigh_policy *p, uint32_t t, unsigned why,
    const nigh_place_request *ask, double share) {
    const nigh_target *target = &p->targets[t];
    char region[16];
    NIGH_TRY(nigh_buf_add(b, NIGH_STR("{\"target\":")));
    NIGH_TRY(add_name(b, target->name));
    NIGH_TRY(nigh_buf_addf(b, ",\"tier\":\"%s\",\"region\":\"%s\",\"model\":", nigh_tier_name(target->tier),
        place_region(p, target, region)));
    NIGH_TRY(add_name(b, target->model));
    NIGH_TRY(nigh_buf_addf(b, ",\"usable\":%s,\"cost_usd\":", why ? "false" : "true"));
    NIGH_TRY(nigh_json_add_f64(b, nigh_place_cost(target, ask->prompt_tokens, ask->max_tokens)));
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"share\":")));
    NIGH_TRY(nigh_json_add_f32(b, (float)share));
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"refused_by\":")));
    NIGH_TRY(add_whys(b, why));
    return nigh_buf_add_char(b, '}');
}

static nigh_status add_decision(nigh_buf *b, const nigh_policy *p, const nigh_place_request *ask,
    const nigh_decision *d) {
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"class\":")));
    NIGH_TRY(add_name(b, p->classes[d->class_idx].name));
    NIGH_TRY(nigh_buf_addf(b, ",\"policy_version\":%llu,\"prompt_tokens\":%u,\"max_tokens\":%u,\"redact\":[%s%s%s],"
        "\"order\":[", (unsigned long long)p->version, ask->prompt_tokens, ask->max_tokens,
        d->redact & NIGH_REDACT_PII ? "\"pii\"" : "", d->redact == (NIGH_REDACT_PII | NIGH_REDACT_SECRETS) ? "," : "",
        d->redact & NIGH_REDACT_SECRETS ? "\"secrets\"" : ""));
    for (size_t i = 0; i < d->count; i++) {
        if (i) NIGH_TRY(nigh_buf_add_char(b, ','));
        NIGH_TRY(add_name(b, p->targets[d->order[i]].name));
    }
    uint32_t second = d->count ? nigh_place_hedge(p, ask, d, d->order[0], 0) : UINT32_MAX;
    NIGH_TRY(nigh_buf_add(b, NIGH_STR("],\"hedge\":")));
    return second == UINT32_MAX ? nigh_buf_add(b, NIGH_STR("null")) : add_name(b, p->targets[second].name);
}

static nigh_status add_steps(nigh_buf *b, const nigh_policy *p, const nigh_feature *f) {
    static const char *const kinds[] = { "error", "cache", "target", "queue" };
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"degrade\":[")));
    for (size_t i = 0; f && i < f->degrade_count; i++) {
        const nigh_degrade *g = &f->degrade[i];
        NIGH_TRY(nigh_buf_addf(b, "%s{\"step\":\"%s\"", i ? "," : "", kinds[g->kind]));
        if (g->kind == NIGH_DEGRADE_TARGET) {
            NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"target\":")));
            NIGH_TRY(add_name(b, p->targets[g->target_idx].name));
            if (g->max_tokens) NIGH_TRY(nigh_buf_addf(b, ",\"max_tokens\":%u", g->max_tokens));
        } else if (g->kind != NIGH_DEGRADE_ERROR) NIGH_TRY(nigh_buf_addf(b, ",\"seconds\":%u", g->seconds));
        NIGH_TRY(nigh_buf_add_char(b, '}'));
    }
    return nigh_buf_add_char(b, ']');
}

/* The seed of ?receipt=rcpt-...: whose order is asked for; else 0. */
static uint64_t seed_of(nigh_str query) {
    nigh_str word = NIGH_STR("receipt=");
    size_t at = nigh_str_find(query, word, 0);
    if (at == SIZE_MAX) return 0;
    size_t end = nigh_min(nigh_str_find(query, NIGH_STR("&"), at), query.len);
    return nigh_place_seed(nigh_str_slice(query, at + word.len, end));
}

static nigh_status explain(nigh_place *p, nigh_exchange *x, const nigh_rights *rights, const nigh_request *r,
    nigh_buf *b) {
    const nigh_asked *asked = nigh_exchange_asked(x);
    const nigh_policy *policy = p->policy;
    nigh_placed pl = { .place = p, .beyond_away = beyond_away(r) };
    nigh_place_facts facts;
    uint32_t first[NIGH_TARGETS_MAX], total[NIGH_TARGETS_MAX], f;
    double shares[NIGH_TARGETS_MAX];
    nigh_str name;
    if (!place_read(p, asked, r, &pl.ask, &name))
        return nigh_buf_add(b, NIGH_STR("{\"feature\":null,\"text\":\"no feature is asked for: a model of this node "
                                        "answers, and nothing leaves it\"}"));
    pl.ask.seed = seed_of(nigh_exchange_query(x));
    place_decide(&pl, rights, asked->user);
    f = pl.ask.feature_idx;
    place_facts(p, nigh_str_of(rights->tenant), &facts, first, total);
    nigh_place_shares(policy, &facts, &pl.ask, &pl.d, shares);
    NIGH_TRY(nigh_buf_add(b, NIGH_STR("{\"feature\":")));
    if (f < policy->feature_count) NIGH_TRY(add_name(b, policy->features[f].name));
    else NIGH_TRY(nigh_buf_add(b, NIGH_STR("\"\"")));
    NIGH_TRY(add_decision(b, policy, &pl.ask, &pl.d));
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"targets\":[")));
    for (uint32_t t = 0; t < policy->target_count; t++) {
        unsigned why = nigh_place_why(policy, &facts, &pl.ask, t);
        why |= more_whys(&pl, t);
        if (t) NIGH_TRY(nigh_buf_add_char(b, ','));
        NIGH_TRY(add_target(b, policy, t, why, &pl.ask, shares[t]));
    }
    NIGH_TRY(nigh_buf_add_char(b, ']'));
    NIGH_TRY(add_steps(b, policy, f < policy->feature_count ? &policy->features[f] : NULL));
    return nigh_buf_add_char(b, '}');
}

/* A body with messages is a conversation, one with a prompt a text to go on from, one with an input wants vectors. */
static nigh_task task_of(nigh_str body) {
    nigh_json_doc doc = { 0 };
    nigh_task task = NIGH_TASK_CHAT;
    if (nigh_json_parse(&doc, body, NULL) != NIGH_OK) return task;
    if (!nigh_json_get(doc.root, NIGH_STR("messages")))
        task = nigh_json_get(doc.root, NIGH_STR("prompt")) ? NIGH_TASK_COMPLETION
               : nigh_json_get(doc.root, NIGH_STR("input")) ? NIGH_TASK_EMBEDDING : task;
    nigh_json_release(&doc);
    return task;
}

void nigh_place_explain(nigh_place *p, nigh_exchange *x) {
    nigh_request r;
    nigh_refusal why;
    nigh_buf b = NIGH_BUF(1 << 20);
    if (!p->policy) {
        nigh_exchange_error(x, 404, "no_policy", NULL, "this node has no policy: nigh serve --policy FILE");
        return;
    }
    nigh_str body = nigh_exchange_body(x);
    if (nigh_request_parse_any(&r, task_of(body), body, &why) != NIGH_OK) {
        nigh_exchange_error(x, why.status, why.code, why.param, why.text);
        return;
    }
    if (explain(p, x, nigh_place_rights(p, x), &r, &b) == NIGH_OK)
        nigh_exchange_reply(x, 200, "application/json", nigh_buf_str(&b));
    else nigh_exchange_error(x, 503, "no_memory", NULL, "not enough memory");
    nigh_buf_release(&b);
    nigh_request_release(&r);
}
