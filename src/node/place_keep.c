/* place_keep.c - answers that are kept (answers.h): exact repeats, equal requests at the same time, and what the step
 * `cache` of a degrade ladder finds. Only conversations with one answer and no logprobs are kept; the key is everything
 * that is asked, who may see it, the class, and the model that answered. */
#include "node/place_parts.h"

#include "base/os.h"

enum { HOLD_MAX = 16 << 20 };

bool place_keeps(const nigh_placed *pl) {
    return pl->place->answers && pl->f && pl->f->cache != NIGH_CACHE_NONE && pl->f->keep_cache_s && !pl->beyond_away;
}

/* Without a key there is one person, also when nobody names a user. */
static nigh_str user_of(const nigh_answer *a) {
    bool own = a->rights->key_idx == SIZE_MAX && !a->rights->tenant[0];
    return own && !a->user[0] ? NIGH_STR("(one's own)") : nigh_str_of(a->user);
}

/* What stands for the model of a target: its hash, or its name where no hash is known. */
static nigh_status make_key(nigh_placed *pl, uint32_t t, nigh_answer_key *key) {
    const nigh_policy *p = pl->place->policy;
    const nigh_served *served = pl->place->served[t];
    nigh_buf model = NIGH_BUF(1024), body;
    nigh_err err;
    NIGH_TRY(place_body(pl, NIGH_TIER_EDGE, false, &body, &err));
    nigh_status status = nigh_buf_add(&model, p->targets[t].name);
    if (status == NIGH_OK) status = nigh_buf_add_char(&model, ' ');
    if (status == NIGH_OK) status = nigh_buf_add(&model, served ? nigh_str_of(served->sha256) : p->targets[t].hash);
    if (status == NIGH_OK) status = nigh_buf_add(&body, p->classes[pl->d.class_idx].name);
    if (status == NIGH_OK)
        *key = nigh_answers_key(&(nigh_answer_parts){ .scope = pl->f->cache,
            .tenant = nigh_str_of(pl->a->rights->tenant), .user = user_of(pl->a), .feature = pl->f->name,
            .model_sha256 = nigh_buf_str(&model),
            .policy_version = p->version, .request = nigh_buf_str(&body) });
    nigh_buf_release(&model);
    nigh_buf_release(&body);
    return status;
}

/* ---- out of the cache ---- */

static nigh_status take_tool(nigh_answer *a, const nigh_json *v) {
    const nigh_json *f = nigh_json_get(v, NIGH_STR("function")), *id = nigh_json_get(v, NIGH_STR("id"));
    const nigh_json *name = nigh_json_get(f, NIGH_STR("name")), *args = nigh_json_get(f, NIGH_STR("arguments"));
    nigh_tool_call *t = &a->tools[a->tool_count++];
    t->id = t->name = NIGH_BUF(1024);
    t->arguments = NIGH_BUF(HOLD_MAX);
    if (!id || !name || !args) return NIGH_EDATA;
    NIGH_TRY(nigh_buf_add(&t->id, id->text));
    NIGH_TRY(nigh_buf_add(&t->name, name->text));
    return nigh_buf_add(&t->arguments, args->text);
}

static nigh_status take_tools(nigh_answer *a, nigh_str text) {
    nigh_json_doc doc = { 0 };
    if (!text.len) return NIGH_OK;
    nigh_status status = nigh_json_parse(&doc, text, NULL);
    a->tools = nigh_alloc(sizeof *a->tools, NIGH_TOOL_CALLS_MAX);
    if (status == NIGH_OK && !a->tools) status = NIGH_ENOMEM;
    for (const nigh_json *v = nigh_json_first(doc.root); v && status == NIGH_OK && a->tool_count < NIGH_TOOL_CALLS_MAX;
        v = v->next)
        status = take_tool(a, v);
    nigh_json_release(&doc);
    return status;
}

static nigh_status replay(nigh_placed *pl, const nigh_kept_answer *kept) {
    nigh_answer *a = pl->a;
    NIGH_TRY(nigh_openai_make_choices(a, 1));
    pl->t = nigh_policy_target(pl->place->policy, nigh_str_of(kept->target));
    if (pl->t == UINT32_MAX) return NIGH_ENOENT;
    NIGH_TRY(nigh_buf_add(&a->choices[0].text, kept->text));
    NIGH_TRY(take_tools(a, kept->tool_calls));
    const nigh_target *t = &pl->place->policy->targets[pl->t];
    const nigh_served *served = pl->place->served[pl->t];
    nigh_format(pl->model, sizeof pl->model, "%.*s", (int)nigh_min(t->model.len, sizeof pl->model - 1), t->model.ptr);
    nigh_format(pl->model_sha256, sizeof pl->model_sha256, "%.*s", (int)t->hash.len, t->hash.ptr);
    a->model = served ? served->id : pl->model;
    a->model_sha256 = served ? served->sha256 : pl->model_sha256;
    a->choices[0].finish_word = kept->finish;
    a->choices[0].token_count = kept->completion_tokens;
    a->prompt_tokens = kept->prompt_tokens;
    pl->from_cache = true;
    uint64_t now_ms = nigh_os_unix_ms();
    pl->cache_age_s = now_ms > kept->made_ms ? (now_ms - kept->made_ms) / 1000 : 0;
    nigh_format(pl->cache_receipt, sizeof pl->cache_receipt, "%s", kept->receipt);
    return NIGH_OK;
}

static bool find(nigh_placed *pl, const nigh_answer_key *key, uint32_t age_max_s) {
    nigh_kept_answer kept;
    nigh_buf hold = NIGH_BUF(HOLD_MAX);
    bool found = nigh_answers_get(pl->place->answers, key, age_max_s, nigh_os_unix_ms(), &kept, &hold)
                 && replay(pl, &kept) == NIGH_OK;
    nigh_buf_release(&hold);
    return found;
}

/* ---- equal requests ---- */

static void run_landed(nigh_node *n, nigh_prep *prep) {
    nigh_placed *pl = (nigh_placed *)(void *)prep;
    (void)n;
    if (find(pl, &pl->key, UINT32_MAX)) { place_answer(pl); return; }
    if (nigh_exchange_gone(pl->a->x)) { place_error(pl, 503, "cancelled", NULL, "the client left"); return; }
    place_next(pl);
}

static void on_landed(void *ud, bool ok) {
    (void)ok;
    place_post(ud, run_landed);
}

bool place_from_cache(nigh_placed *pl) {
    if (!place_keeps(pl) || make_key(pl, pl->d.order[0], &pl->key) != NIGH_OK) return false;
    if (find(pl, &pl->key, UINT32_MAX)) { place_answer(pl); return true; }
    if (!pl->a->x) return false;
    nigh_flight flight = nigh_answers_board(pl->place->answers, &pl->key, on_landed, pl);
    pl->flies = flight == NIGH_FLIGHT_LEADER;
    return flight == NIGH_FLIGHT_FOLLOWER;      /* it may be gone by now */
}

bool place_stale(nigh_placed *pl, uint32_t age_max_s) {
    nigh_answer_key key;
    if (!place_keeps(pl)) return false;
    for (uint64_t left = pl->d.allowed; left; left &= left - 1) {
        if (make_key(pl, (uint32_t)__builtin_ctzll(left), &key) != NIGH_OK || !find(pl, &key, age_max_s)) continue;
        nigh_format(pl->degraded, sizeof pl->degraded, "cache; age=%llus", (unsigned long long)pl->cache_age_s);
        return true;
    }
    return false;
}

/* ---- into the cache ---- */

static void keep(nigh_placed *pl) {
    nigh_answer *a = pl->a;
    nigh_answer_key key;
    nigh_buf tools = NIGH_BUF(HOLD_MAX);
    if (pl->from_cache || pl->degraded[0] || !a->choices || a->broken || make_key(pl, pl->t, &key) != NIGH_OK) return;
    if (a->tool_count && nigh_openai_tools_json(a, &tools) != NIGH_OK) { nigh_buf_release(&tools); return; }
    const nigh_choice *c = a->choices;
    nigh_kept_answer kept = { .text = a->begun ? nigh_buf_str(&pl->sent) : nigh_buf_str(&c->text),
        .tool_calls = nigh_buf_str(&tools),
        .finish = c->finish_word ? c->finish_word : c->finish == NIGH_FINISH_LENGTH ? "length" : "stop",
        .prompt_tokens = a->prompt_tokens, .completion_tokens = c->token_count, .made_ms = nigh_os_unix_ms() };
    nigh_format(kept.receipt, sizeof kept.receipt, "%s", a->receipt.id);
    nigh_str name = pl->place->policy->targets[pl->t].name;
    nigh_format(kept.target, sizeof kept.target, "%.*s", (int)nigh_min(name.len, sizeof kept.target - 1), name.ptr);
    if (name.len < sizeof kept.target) nigh_answers_put(pl->place->answers, &key, &kept, pl->f->keep_cache_s);
    nigh_buf_release(&tools);
}

void place_land(nigh_placed *pl, bool ok) {
    if (ok && place_keeps(pl)) keep(pl);
    if (!pl->flies) return;
    pl->flies = false;
    nigh_answers_land(pl->place->answers, &pl->key, ok);
}
