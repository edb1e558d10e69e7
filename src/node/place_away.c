/* place_away.c - a try of an edge node or a provider.
 *
 * The request goes out as place_body.c wrote it; what comes back gets its private values again, text and arguments of
 * tools each through a restorer of its own, and goes the way of any answer. On the transfers' thread, which must not
 * wait: a client that reads slowly pauses the transfer, one that leaves cancels it.
 *
 * A stream that goes on after another place broke off: some models begin anew although they were given the beginning.
 * So as long as the new text repeats what was sent, it is held back; where it differs, all of it is news. */
#include "node/place_parts.h"

#include "base/os.h"
#include "node/upstream.h"

enum { KEY_MAX = 16384, PIECE_MAX = 16 << 20, QUIET_LEAST_MS = 1000, QUIET_MAX_MS = 20000 };

/* ---- providers: where they are asked when a target states no url ---- */

static const struct { const char *name, *url, *api; } providers[] = {
    { "openai", "https://api.openai.com/v1", "openai-chat" },
    { "anthropic", "https://api.anthropic.com/v1", "anthropic" },
    { "mistral", "https://api.mistral.ai/v1", "openai-chat" },
    { "groq", "https://api.groq.com/openai/v1", "openai-chat" },
    { "openrouter", "https://openrouter.ai/api/v1", "openai-chat" },
    { "deepseek", "https://api.deepseek.com/v1", "openai-chat" },
    { "together", "https://api.together.xyz/v1", "openai-chat" },
    { "fireworks", "https://api.fireworks.ai/inference/v1", "openai-chat" },
    { "cerebras", "https://api.cerebras.ai/v1", "openai-chat" },
    { "xai", "https://api.x.ai/v1", "openai-chat" },
    { "google", "https://generativelanguage.googleapis.com/v1beta/openai", "openai-chat" } };

static void find_provider(const nigh_target *t, place_line *line) {
    line->url = t->url;
    nigh_str api = t->api;
    for (size_t i = 0; i < NIGH_COUNT(providers); i++) {
        if (!nigh_str_eq(t->provider, nigh_str_of(providers[i].name))) continue;
        if (!line->url.len) line->url = nigh_str_of(providers[i].url);
        if (!api.len) api = nigh_str_of(providers[i].api);
    }
    if (!line->url.len) line->lacks = "its provider is not known here, and it states no url";
    else if (!nigh_api_find(api, &line->api)) line->lacks = "its api is not known here";
}

/* "env:NAME" or "file:PATH" to the key itself. */
static void read_key(const nigh_target *t, place_line *line) {
    char name[4096];
    nigh_str env = NIGH_STR("env:"), file = NIGH_STR("file:");
    line->key = NIGH_BUF(KEY_MAX);
    if (!t->key.len) return;
    bool is_env = nigh_str_starts(t->key, env);
    nigh_str from = nigh_str_slice(t->key, is_env ? env.len : file.len, t->key.len);
    nigh_format(name, sizeof name, "%.*s", (int)nigh_min(from.len, sizeof name - 1), from.ptr);
    const char *value = is_env ? nigh_os_env(name) : NULL;
    bool good = is_env ? value && nigh_buf_add(&line->key, nigh_str_of(value)) == NIGH_OK
                       : nigh_str_starts(t->key, file) && nigh_file_read(&line->key, name, NULL) == NIGH_OK;
    if (!good || !nigh_str_trim(nigh_buf_str(&line->key)).len) line->lacks = "its key is not there";
}

/* A node that is known by its key is asked with ours. */
static void read_node_key(const nigh_target *t, const nigh_signer *own, place_line *line) {
    if (!t->node_key.len) return;
    line->sealed = nigh_hex_read(t->node_key, line->node_key, sizeof line->node_key);
    if (!line->sealed) line->lacks = "its node_key is no key";
    else if (!own->there) line->lacks = "it wants this node's own key, and there is none";
}

nigh_status place_away_open(nigh_place *p, const nigh_node_opts *o, nigh_err *err) {
    bool any = false;
    for (size_t t = 0; t < p->policy->target_count; t++) {
        const nigh_target *target = &p->policy->targets[t];
        place_line *line = &p->lines[t];
        if (target->tier == NIGH_TIER_DEVICE) continue;
        any = true;
        find_provider(target, line);
        read_key(target, line);
        read_node_key(target, &p->node->signer, line);
        if (!line->lacks) continue;
        p->lacking |= (uint64_t)1 << t;
        nigh_format(p->targets[t].error, sizeof p->targets[t].error, "%s", line->lacks);
    }
    nigh_upstream_opts uo = { .ca_file = o->ca_file, .allow_private = o->allow_private,
        .allow_private_count = o->allow_private_count, .driven = true,
        .calls_max = o->connections };
    return any ? nigh_upstream_open(&p->upstream, &uo, err) : NIGH_OK;
}

void place_away_close(nigh_place *p) {
    for (size_t t = 0; p->policy && t < p->policy->target_count; t++) {
        volatile char *key = p->lines[t].key.ptr;
        for (size_t i = 0; i < p->lines[t].key.cap; i++) key[i] = 0;
        nigh_buf_release(&p->lines[t].key);
    }
}

/* ---- what comes back ---- */

/* The client's side changed: it left, or it reads again. From a socket thread. */
static void on_client(void *ud) {
    nigh_placed *pl = ud;
    uint64_t id = atomic_load(&pl->call_id), second = atomic_load(&pl->second_id);
    if (!id) return;
    if (nigh_exchange_gone(pl->a->x)) {
        nigh_upstream_cancel(pl->place->upstream, id);
        if (second) nigh_upstream_cancel(pl->place->upstream, second);
    } else nigh_upstream_pause(pl->place->upstream, id, false);
}

static void hold_if_full(nigh_placed *pl) {
    uint64_t id = atomic_load(&pl->call_id);
    if (id && pl->a->begun && !nigh_exchange_room(pl->a->x)) nigh_upstream_pause(pl->place->upstream, id, true);
}

static void begin(nigh_placed *pl) {
    place_note_first(pl);
    if (pl->a->r.stream && !pl->a->begun) place_begin_stream(pl);
}

static void say(nigh_placed *pl, nigh_str text) {
    if (!text.len) return;
    begin(pl);
    if (pl->keep_sent && nigh_buf_add(&pl->sent, text) != NIGH_OK) pl->a->broken = true;
    place_catch(pl, text);
    nigh_openai_text(pl->a, 0, text);
}

/* Text after a break: news, or a repetition of what was sent. */
static void say_news(nigh_placed *pl, nigh_str text) {
    nigh_str was = nigh_buf_str(&pl->before);
    while (pl->repeating && text.len) {
        size_t n = nigh_min(was.len - pl->repeated, text.len);
        pl->repeating = memcmp(was.ptr + pl->repeated, text.ptr, n) == 0;
        if (!pl->repeating) { say(pl, nigh_str_slice(was, 0, pl->repeated)); break; }   /* it was news after all */
        pl->repeated += n;
        text = nigh_str_slice(text, n, text.len);
        pl->repeating = pl->repeated < was.len;
    }
    say(pl, text);
}

static void restored(nigh_placed *pl, nigh_str piece, bool last) {
    nigh_buf out = NIGH_BUF(PIECE_MAX);
    if (!pl->redactor) { say_news(pl, piece); return; }
    pl->text.r = pl->redactor;
    nigh_status status = last ? nigh_restore_end(&pl->text, &out) : nigh_restore_add(&pl->text, piece, &out);
    if (status != NIGH_OK) pl->a->broken = true;
    else say_news(pl, nigh_buf_str(&out));
    nigh_buf_release(&out);
}

static void on_begin(void *ud, const char *model, const char *request_id) {
    (void)ud;
    (void)model;
    (void)request_id;
}

static void on_text(void *ud, nigh_str piece) {
    nigh_placed *pl = ud;
    restored(pl, piece, false);
    hold_if_full(pl);
}

static bool make_tools(nigh_placed *pl) {
    nigh_answer *a = pl->a;
    if (!a->tools) a->tools = nigh_alloc(sizeof *a->tools, NIGH_TOOL_CALLS_MAX);
    if (!pl->arguments) pl->arguments = nigh_alloc(sizeof *pl->arguments, NIGH_TOOL_CALLS_MAX);
    return a->tools && pl->arguments;
}

/* `arguments` as they came, with their values again. */
static void add_arguments(nigh_placed *pl, size_t i, nigh_str id, nigh_str name, nigh_str arguments, bool last) {
    nigh_answer *a = pl->a;
    nigh_buf out = NIGH_BUF(PIECE_MAX);
    nigh_restorer *s = &pl->arguments[i];
    nigh_status status = NIGH_OK;
    s->r = pl->redactor;
    s->json = true;
    if (!s->r) status = nigh_buf_add(&out, arguments);
    else status = last ? nigh_restore_end(s, &out) : nigh_restore_add(s, arguments, &out);
    if (status == NIGH_OK) status = nigh_buf_add(&a->tools[i].arguments, nigh_buf_str(&out));
    if (status != NIGH_OK) a->broken = true;
    else if (a->begun && (out.len || id.len || name.len)) nigh_openai_tool(a, i, id, name, nigh_buf_str(&out));
    nigh_buf_release(&out);
}

static void on_tool(void *ud, uint32_t i, nigh_str id, nigh_str name, nigh_str arguments) {
    nigh_placed *pl = ud;
    nigh_answer *a = pl->a;
    if (i >= NIGH_TOOL_CALLS_MAX || !make_tools(pl)) { a->broken = true; return; }
    begin(pl);
    for (; a->tool_count <= i; a->tool_count++) {
        nigh_tool_call *t = &a->tools[a->tool_count];
        t->id = t->name = NIGH_BUF(1024);
        t->arguments = NIGH_BUF(PIECE_MAX);
    }
    nigh_tool_call *t = &a->tools[i];
    if (!t->id.len && nigh_buf_add(&t->id, id) != NIGH_OK) a->broken = true;
    if (!t->name.len && nigh_buf_add(&t->name, name) != NIGH_OK) a->broken = true;
    add_arguments(pl, i, id, name, arguments, false);
    hold_if_full(pl);
}

/* Nobody counted: what was said is counted as what was asked is. */
static void guess_usage(nigh_placed *pl) {
    nigh_choice *c = pl->a->choices;
    size_t bytes = c->text_bytes;
    for (size_t i = 0; i < pl->a->tool_count; i++) bytes += pl->a->tools[i].arguments.len;
    pl->a->prompt_tokens = pl->ask.prompt_tokens;
    c->token_count = (uint32_t)(bytes / 3) + 1;
}

static void on_finish(void *ud, const char *finish, const nigh_usage *usage) {
    static const char *const words[] = { "stop", "length", "tool_calls", "content_filter" };
    nigh_placed *pl = ud;
    nigh_choice *c = pl->a->choices;
    c->finish_word = words[0];
    for (size_t i = 0; i < NIGH_COUNT(words); i++) if (strcmp(words[i], finish) == 0) c->finish_word = words[i];
    if (!usage->known) { guess_usage(pl); return; }
    pl->a->prompt_tokens = usage->prompt_tokens;
    c->token_count = usage->completion_tokens;
    c->cached = usage->cached_tokens;
}

static void on_receipt(void *ud, nigh_str json) {
    nigh_placed *pl = ud;
    pl->inner.len = 0;
    if (nigh_buf_add(&pl->inner, json) != NIGH_OK) pl->a->broken = true;
}

/* What a restorer still held is text now. */
static void flush(nigh_placed *pl) {
    if (!pl->redactor) return;
    restored(pl, NIGH_STR(""), true);
    for (size_t i = 0; i < pl->a->tool_count; i++)
        add_arguments(pl, i, NIGH_STR(""), NIGH_STR(""), NIGH_STR(""), true);
}

/* An edge node that says it answered with another model than the one whose hash the policy names. */
static bool is_other_model(const nigh_placed *pl) {
    nigh_str hash = pl->place->policy->targets[pl->t].hash;
    nigh_json_doc doc = { 0 };
    if (!hash.len || !pl->inner.len || nigh_json_parse(&doc, nigh_buf_str(&pl->inner), NULL) != NIGH_OK) return false;
    const nigh_json *said = nigh_json_get(doc.root, NIGH_STR("model_sha256"));
    bool other = said && !nigh_str_eq(said->text, hash);
    nigh_json_release(&doc);
    return other;
}

/* A node that is known by its key: is its receipt signed with it? */
static bool is_unsigned(const nigh_placed *pl) {
    const place_line *line = &pl->place->lines[pl->t];
    nigh_json_doc doc = { 0 };
    char signer[65], asker[65];
    if (!line->sealed) return false;
    if (!pl->inner.len || nigh_json_parse(&doc, nigh_buf_str(&pl->inner), NULL) != NIGH_OK) return true;
    bool good = nigh_peer_check_receipt(doc.root, line->node_key, signer, asker, NULL) == NIGH_OK;
    nigh_json_release(&doc);
    return !good;
}

static place_end end_of(const nigh_placed *pl, const nigh_call_result *r) {
    if (pl->a->broken) return PLACE_MEMORY;
    if (r->end == NIGH_CALL_OK && is_unsigned(pl)) return PLACE_PEER;
    if (r->end == NIGH_CALL_OK && is_other_model(pl)) return PLACE_MODEL;
    return (place_end)r->end;           /* the first names of place_end are those of nigh_call_end, in their order */
}

static void on_done(void *ud, const nigh_call_result *r) {
    nigh_placed *pl = ud;
    place_hop *hop = place_hop_now(pl);
    if (r->end == NIGH_CALL_OK) flush(pl);
    if (pl->a->x) nigh_exchange_on(pl->a->x, NULL, NULL);
    hop->bytes_out = r->bytes_out;
    hop->bytes_in = r->bytes_in;
    hop->retry_ms = r->retry_ms;
    hop->http = (uint16_t)r->http;
    /* It got there, and what became of it nobody said. */
    bool known = r->end == NIGH_CALL_OK || r->end == NIGH_CALL_BUSY || r->end == NIGH_CALL_REJECTED
                 || r->end == NIGH_CALL_CONTEXT || r->end == NIGH_CALL_FAILED;
    pl->maybe_sent |= r->sent && !known;
    nigh_format(hop->address, sizeof hop->address, "%s", r->address);
    atomic_fetch_add(&pl->place->node->metrics.bytes_out, r->bytes_out);
    place_end end = end_of(pl, r);
    place_ended(pl, end, end == PLACE_MODEL ? "it answered with another model than the policy names"
        : end == PLACE_PEER ? "its receipt is not signed with the key that the policy names" : r->text);
}

const nigh_upstream_calls place_away_calls = { .begin = on_begin, .text = on_text, .tool = on_tool, .finish = on_finish,
    .receipt = on_receipt, .done = on_done };

/* ---- going out ---- */

void place_away_name(nigh_placed *pl, uint32_t idx) {
    const nigh_target *t = &pl->place->policy->targets[idx];
    pl->t = idx;
    nigh_format(pl->model, sizeof pl->model, "%.*s", (int)nigh_min(t->model.len, sizeof pl->model - 1), t->model.ptr);
    nigh_format(pl->model_sha256, sizeof pl->model_sha256, "%.*s", (int)t->hash.len, t->hash.ptr);
    pl->a->model = pl->model;
    pl->a->model_sha256 = pl->model_sha256;
}

static nigh_status make_room(nigh_placed *pl) {
    nigh_answer *a = pl->a;
    NIGH_TRY(place_make_room(pl));
    NIGH_TRY(nigh_openai_make_choices(a, 1));
    a->served = NULL;
    pl->text = (nigh_restorer){ 0 };
    nigh_free(pl->arguments);
    pl->arguments = NULL;
    pl->inner.len = 0;
    pl->repeated = 0;
    pl->repeating = pl->before.len > 0;
    place_away_name(pl, pl->t);
    return NIGH_OK;
}

static place_end refuse_body(nigh_placed *pl, nigh_status status, const nigh_err *err, nigh_refusal *why) {
    if (status == NIGH_ENOMEM) {
        nigh_refuse(why, status, "no_memory", NULL, "not enough memory");
        return PLACE_MEMORY;
    }
    nigh_format(pl->rule, sizeof pl->rule, "redact");
    nigh_refuse(why, NIGH_EPOLICY, "policy_redaction", "redact", "what must not leave cannot be taken out: %s",
        err->text);
    return PLACE_REDACTION;
}

/* How long a stream may say nothing in its middle: a quarter of the feature's time. Nodes like us say something every
 * 15 s. */
static uint32_t quiet_ms(const nigh_feature *f) {
    uint32_t ms = f && f->total_ms ? f->total_ms / 4 : QUIET_MAX_MS;
    return ms < QUIET_LEAST_MS ? QUIET_LEAST_MS : ms < QUIET_MAX_MS ? ms : QUIET_MAX_MS;
}

nigh_status place_away_send(nigh_placed *pl, uint32_t idx, uint64_t until_ms, nigh_str body,
    const nigh_upstream_calls *calls, void *ud, uint64_t *id, nigh_err *err) {
    nigh_place *p = pl->place;
    const nigh_target *t = &p->policy->targets[idx];
    const place_line *line = &p->lines[idx];
    nigh_str class = p->policy->classes[pl->d.class_idx].name;
    char field[128];
    const char *headers[] = { field };
    uint64_t now_ms = place_now_ms();
    uint32_t left = until_ms > now_ms ? (uint32_t)(until_ms - now_ms) : 1;
    uint32_t whole = place_left_ms(pl);
    nigh_format(field, sizeof field, "x-data-class: %.*s", (int)nigh_min(class.len, 64), class.ptr);
    const nigh_peer_line peer = { .signer = &p->node->signer, .key = line->node_key };
    nigh_upstream_ask ask = { .api = line->api, .peer = line->sealed ? &peer : NULL, .tier = t->tier, .url = line->url,
        .key = nigh_str_trim(nigh_buf_str(&line->key)), .model = t->model, .body = body, .max_tokens = pl->max_tokens,
        .connect_ms = left < 3000 ? left : 3000, .first_ms = left, .total_ms = whole ? whole : 1,
        .quiet_ms = quiet_ms(pl->f),
        .idempotency_key = pl->queue_id[0] ? pl->queue_id : NULL, .headers = headers,
        .header_count = t->tier == NIGH_TIER_EDGE };
    return nigh_upstream_call(p->upstream, &ask, calls, ud, id, err);
}

place_end place_away_start(nigh_placed *pl, nigh_refusal *why) {
    nigh_place *p = pl->place;
    nigh_exchange *x = pl->a->x;
    nigh_buf body;
    nigh_err err = { 0 };
    uint64_t alone = 0, *id = &alone;
    if (make_room(pl) != NIGH_OK) {
        nigh_refuse(why, NIGH_ENOMEM, "no_memory", NULL, "not enough memory");
        return PLACE_MEMORY;
    }
    nigh_status status = place_body(pl, p->policy->targets[pl->t].tier, true, &body, &err);
    if (status != NIGH_OK) return refuse_body(pl, status, &err, why);
    atomic_store(&pl->call_id, 0);
    atomic_fetch_add(&pl->refs, 1);     /* it may be over before the call returns */
    if (x) nigh_exchange_keep(x);
    if (x) nigh_exchange_on(x, on_client, pl);
    atomic_store(&pl->second_id, 0);
    void *first = place_race_new(pl, &id);
    status = place_away_send(pl, pl->t, pl->try_until_ms, nigh_buf_str(&body),
        first ? &place_race_calls : &place_away_calls, first ? first : pl, id, &err);
    nigh_buf_release(&body);
    if (status == NIGH_OK) {
        atomic_store(&pl->call_id, *id);
        if (x && nigh_exchange_gone(x)) nigh_upstream_cancel(p->upstream, *id);
    } else if (x) nigh_exchange_on(x, NULL, NULL);
    if (first) place_race_begun(first, status == NIGH_OK);
    nigh_exchange_release(x);
    place_unref(pl);
    if (status == NIGH_OK) return PLACE_OK;
    nigh_refuse(why, status, status == NIGH_EBUSY ? "queue_full" : "unsupported_value", NULL, "%s", err.text);
    if (status == NIGH_ENOSUP || status == NIGH_EIO) {
        nigh_format(pl->lacks, sizeof pl->lacks, "%s", err.text);
        return PLACE_UNREACHABLE;
    }
    return status == NIGH_EBUSY ? PLACE_BUSY : status == NIGH_ENOMEM ? PLACE_MEMORY : PLACE_REJECTED;
}
