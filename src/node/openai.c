/* openai.c - one request for text or vectors from its body to its last byte.
 *
 *     nigh_openai_begin    (reader's or socket's)   body -> nigh_request -> prompts -> ids -> scheduler, or a refusal
 *     on_begin, on_step    (engine's thread)   tokens -> events, or gathered for a whole answer
 *     on_done              (engine's thread)   the end: finish reasons, usage, receipt; or an error that can be seen
 *
 * An answer is born in nigh_openai_begin and freed in on_done, or at once when the request is refused. A request for
 * a feature of a policy goes to place_request.c instead, which uses the parts of this file and ends the answer. */
#include "node/openai.h"

#include "base/os.h"
#include "node/front.h"
#include "node/limits.h"
#include "node/place.h"

enum { TEXT_MAX = 8 << 20, EMBED_OUT_MAX = 256 << 20, SEQUENCES_MAX = 32 };

void nigh_openai_drop_choices(nigh_answer *a) {
    for (size_t i = 0; i < a->choice_count; i++) {
        nigh_choice *c = &a->choices[i];
        nigh_buf_release(&c->text);
        nigh_buf_release(&c->tokens);
        nigh_buf_release(&c->logprobs);
        nigh_buf_release(&c->tops);
        nigh_buf_release(&c->offsets);
    }
    nigh_free(a->choices);
    a->choices = NULL;
    a->choice_count = 0;
    for (size_t i = 0; i < a->tool_count; i++) {
        nigh_buf_release(&a->tools[i].id);
        nigh_buf_release(&a->tools[i].name);
        nigh_buf_release(&a->tools[i].arguments);
    }
    nigh_free(a->tools);
    a->tools = NULL;
    a->tool_count = 0;
}

void nigh_openai_free(nigh_answer *a) {
    if (!a) return;
    nigh_openai_drop_choices(a);
    nigh_buf_release(&a->out);
    nigh_front_free(a->front);
    nigh_request_release(&a->r);
    nigh_free(a);
}

nigh_status nigh_openai_make_choices(nigh_answer *a, size_t count) {
    nigh_openai_drop_choices(a);
    a->choices = nigh_alloc(sizeof *a->choices, count);
    if (!a->choices) return NIGH_ENOMEM;
    a->choice_count = count;
    for (size_t i = 0; i < count; i++) {
        nigh_choice *c = &a->choices[i];
        c->prompt = i / (size_t)a->r.n;
        c->text = c->tokens = c->logprobs = c->tops = c->offsets = NIGH_BUF(TEXT_MAX);
    }
    return NIGH_OK;
}

uint64_t nigh_openai_us(const nigh_answer *a) { return (nigh_os_now_ns() - a->start_ns) / 1000; }

static void count_answer(nigh_answer *a, int status) {
    atomic_fetch_add(&a->node->metrics.answers[status / 100], 1);
    nigh_metrics_observe(&a->node->metrics.whole, nigh_openai_us(a));
}

static void push(nigh_answer *a, nigh_status made) {
    if (made != NIGH_OK) a->broken = true;
    else if (a->out.len) nigh_exchange_push(a->x, nigh_buf_str(&a->out));
}

/* ---- what comes while it is made ---- */

nigh_client nigh_openai_client(nigh_answer *a) {
    if (a->broken || (a->x && nigh_exchange_gone(a->x))) return NIGH_CLIENT_GONE;
    return a->r.stream && !nigh_exchange_room(a->x) ? NIGH_CLIENT_FULL : NIGH_CLIENT_READY;
}

void nigh_openai_begin_stream(nigh_answer *a) {
    if (a->begun) return;
    a->begun = true;
    nigh_exchange_stream(a->x);
    for (size_t i = 0; i < a->choice_count && a->r.echo; i++)
        push(a, a->spell->text(a, i, nigh_buf_str(&a->choices[i].text)));
    for (size_t i = 0; i < a->choice_count && a->placed && a->r.task == NIGH_TASK_CHAT; i++)
        push(a, a->spell->begin(a, i));
}

void nigh_openai_text(nigh_answer *a, size_t choice, nigh_str text) {
    nigh_choice *c = &a->choices[choice];
    c->text_bytes += text.len;
    if (a->begun) {
        if (text.len || c->tokens.len) push(a, a->spell->text(a, choice, text));
    } else if (nigh_buf_add(&c->text, text) != NIGH_OK) a->broken = true;
}

void nigh_openai_replay(nigh_answer *a, size_t choice) {
    nigh_choice *c = &a->choices[choice];
    if (c->text.len || c->tokens.len) push(a, a->spell->text(a, choice, nigh_buf_str(&c->text)));
    for (size_t i = 0; i < a->tool_count; i++)
        push(a, a->spell->tool(a, i, nigh_buf_str(&a->tools[i].id), nigh_buf_str(&a->tools[i].name),
            nigh_buf_str(&a->tools[i].arguments)));
}

void nigh_openai_tool(nigh_answer *a, size_t i, nigh_str id, nigh_str name, nigh_str arguments) {
    push(a, a->spell->tool(a, i, id, name, arguments));
}

void nigh_openai_step(nigh_answer *a, size_t choice, const nigh_step *step) {
    nigh_choice *c = &a->choices[choice];
    if (!a->first_seen) {
        a->first_seen = true;
        nigh_metrics_observe(&a->node->metrics.first_token, nigh_openai_us(a));
    }
    c->finish = step->finish;
    c->stop = step->stop;
    c->token_count += step->token >= 0;
    if (step->token >= 0) c->logprob_sum += (double)step->logprob;
    if (step->token >= 0 && nigh_openai_add_logprobs(a, c, step) != NIGH_OK) a->broken = true;
    nigh_openai_text(a, choice, step->text);
}

void nigh_openai_vector(nigh_answer *a, size_t i, const float *v, size_t count) {
    float unit[8192];
    double sum = 0;
    if (count > NIGH_COUNT(unit)) { a->broken = true; return; }
    for (size_t k = 0; k < count; k++) sum += (double)v[k] * (double)v[k];
    double scale = sum > 0 ? 1.0 / __builtin_sqrt(sum) : 0;
    for (size_t k = 0; k < count; k++) unit[k] = (float)((double)v[k] * scale);
    if (nigh_openai_add_vector(a, i, unit, count) != NIGH_OK) a->broken = true;
}

/* ---- the end ---- */

/* A stream that cannot go on says so in its last event. */
void nigh_openai_end_in_error(nigh_answer *a, int http, const char *code, const char *param, const char *text) {
    count_answer(a, http);
    if (!a->x) return;
    param = nigh_front_param(a, param);
    if (!a->begun) nigh_exchange_error(a->x, http, code, param, text);
    else if (a->spell->error(a, http, code, param, text) == NIGH_OK) nigh_exchange_push(a->x, nigh_buf_str(&a->out));
}

void nigh_openai_end_well(nigh_answer *a) {
    a->receipt.ms = nigh_openai_us(a) / 1000;
    if (a->begun) { push(a, a->spell->end(a)); count_answer(a, 200); return; }
    nigh_status made = a->r.task == NIGH_TASK_EMBEDDING ? nigh_openai_end_vectors(a) : a->spell->whole(a);
    if (made != NIGH_OK || a->broken) {
        nigh_openai_end_in_error(a, 503, "no_memory", NULL, "not enough memory for the answer");
        return;
    }
    count_answer(a, 200);
    if (a->x) nigh_exchange_reply(a->x, 200, "application/json", nigh_buf_str(&a->out));
}

void nigh_openai_over(nigh_answer *a) {
    nigh_exchange *x = a->x;
    if (x) nigh_exchange_end(x);
    nigh_openai_free(a);
    nigh_exchange_release(x);
}

/* ---- a plain request: calls of the scheduler ---- */

static nigh_client on_client(void *ud) { return nigh_openai_client(ud); }

/* The stream begins when its first sequence gets a place: what fails before that is an error with a status of its
 * own. What is known stands in the head, the time comes at the end. Echoed prompts are the first events. */
static void on_begin(void *ud, size_t seq, uint32_t cached) {
    nigh_answer *a = ud;
    char header[256];
    a->choices[seq].cached = cached;
    if (!a->r.stream) return;
    if (!a->begun) {
        nigh_receipt_header(&a->receipt, false, header, sizeof header);
        nigh_exchange_header(a->x, "nigh-receipt", header);
        nigh_openai_begin_stream(a);
    }
    if (a->r.task == NIGH_TASK_CHAT) push(a, a->spell->begin(a, seq));
}

static void on_step(void *ud, size_t seq, const nigh_step *step) { nigh_openai_step(ud, seq, step); }
static void on_vector(void *ud, size_t i, const float *v, size_t count) { nigh_openai_vector(ud, i, v, count); }

static void refuse_plain(nigh_answer *a, int http, const char *code, const char *param, const char *text) {
    nigh_err err;
    if (!nigh_place_note(a->node->place, a, "error", code, &err)) { http = 503; code = "ledger"; text = err.text; }
    nigh_openai_end_in_error(a, http, code, param, text);
}

static void on_done(void *ud, nigh_status status, const nigh_err *err) {
    nigh_answer *a = ud;
    nigh_err unwritten = { 0 };
    char header[256];
    nigh_exchange_on(a->x, NULL, NULL);
    if (status == NIGH_OK && !nigh_place_note(a->node->place, a, "answered", "", &unwritten)) {
        nigh_openai_end_in_error(a, 503, "ledger", NULL, unwritten.text);
    } else if (status == NIGH_OK) {
        a->receipt.ms = nigh_openai_us(a) / 1000;
        nigh_receipt_header(&a->receipt, true, header, sizeof header);
        nigh_exchange_header(a->x, "nigh-receipt", header);
        nigh_openai_end_well(a);
    } else {
        const char *code = status == NIGH_ERANGE ? "context_length_exceeded" : status == NIGH_ECANCEL ? "cancelled"
            : "engine_error";
        refuse_plain(a, status == NIGH_ECANCEL ? 503 : nigh_status_http(status), code, NULL, err->text);
    }
    nigh_openai_over(a);
}

static const nigh_job_calls plain_calls = { on_client, on_begin, on_step, on_vector, on_done };

/* ---- from request to job ---- */

static uint64_t seed_of(const nigh_request *r, size_t i) {
    uint64_t seed = (uint64_t)r->seed;
    if (!r->has_seed && !nigh_os_random(&seed, sizeof seed)) seed = nigh_os_now_ns();
    return seed + (uint64_t)i * 0x9e3779b97f4a7c15u;
}

static nigh_generate_opts generate_opts(const nigh_answer *a, size_t i) {
    const nigh_request *r = &a->r;
    nigh_generate_opts o = { .max_tokens = (uint32_t)r->max_tokens, .stop = r->stop, .stop_count = r->stop_count,
        .logprobs = a->wants_logprobs, .top_logprobs = (uint32_t)r->top_logprobs, .ignore_end = r->ignore_end };
    o.sampler = (nigh_sampler_opts){ .temperature = (float)r->temperature, .top_k = (uint32_t)r->top_k,
        .top_p = (float)r->top_p, .min_p = (float)r->min_p,
        .repeat_penalty = (float)r->repeat_penalty, .frequency_penalty = (float)r->frequency_penalty,
            .presence_penalty = (float)r->presence_penalty,
        .seed = seed_of(r, i), .bias = r->bias, .bias_count = r->bias_count };
    if (r->top_p == 0) o.sampler.top_k = 1;     /* nothing but the likeliest; for the sampler 0 is "off" */
    return o;
}

static nigh_status check_model(nigh_answer *a, nigh_refusal *why) {
    const nigh_request *r = &a->r;
    if (r->beyond) return nigh_refuse(why, NIGH_ENOSUP, "unsupported_value", r->beyond_param, "%s", r->beyond);
    const nigh_model_info *about = nigh_model_about(a->served->model);
    if (about->encoder && r->task != NIGH_TASK_EMBEDDING)
        return nigh_refuse(why, NIGH_EINVAL, "unsupported_value", "model", "this model gives vectors, not text");
    if (r->dimensions && r->dimensions != about->embed)
        return nigh_refuse(why, NIGH_EINVAL, "unsupported_value", "dimensions", "this model has %u dimensions",
            about->embed);
    for (size_t i = 0; i < r->bias_count; i++)
        if ((uint32_t)r->bias[i].id >= about->vocab)
            return nigh_refuse(why, NIGH_EINVAL, "out_of_range", "logit_bias",
                "'logit_bias' names a token that this model does not have");
    if (r->echo && r->logprobs)
        return nigh_refuse(why, NIGH_ENOSUP, "unsupported_value", "echo",
            "'echo' together with 'logprobs' is not supported so far");
    if (nigh_request_count(r) * (size_t)r->n > SEQUENCES_MAX && r->task != NIGH_TASK_EMBEDDING)
        return nigh_refuse(why, NIGH_EINVAL, "too_many", "n", "prompts times 'n' may be at most %d", SEQUENCES_MAX);
    return NIGH_OK;
}

/* The text of the prompt stands in front of the answer. */
static nigh_status echo_prompt(nigh_answer *a, nigh_choice *c, const nigh_ids *ids) {
    const nigh_json *v = nigh_request_item(&a->r, c->prompt);
    if (v->type == NIGH_JSON_STRING) return nigh_buf_add(&c->text, v->text);
    return nigh_tokenizer_decode(nigh_model_tokenizer(a->served->model), ids->ptr, ids->len, false, &c->text);
}

static nigh_status make_choices(nigh_answer *a, nigh_sequence_spec *specs, nigh_refusal *why) {
    size_t n = (size_t)a->r.n;
    for (size_t i = 0; i < a->choice_count; i++) {
        nigh_choice *c = &a->choices[i];
        specs[i].who = a->who;
        specs[i].ids = NIGH_IDS(nigh_sched_context(a->served->sched));
        specs[i].generate = generate_opts(a, i);
        NIGH_TRY(nigh_openai_prompt(a->served, &a->r, c->prompt, &specs[i].ids, why));
        if (i % n == 0) a->prompt_tokens += (uint32_t)specs[i].ids.len;
        if (a->goes_on.len) NIGH_TRY(nigh_openai_go_on(a->served, &a->r, a->goes_on, &specs[i].ids, why));
        if (a->r.echo && echo_prompt(a, c, &specs[i].ids) != NIGH_OK)
            return nigh_refuse(why, NIGH_ENOMEM, "no_memory", NULL, "not enough memory");
    }
    return NIGH_OK;
}

static nigh_status refuse_job(nigh_status status, const nigh_err *err, nigh_refusal *why) {
    const char *code = status == NIGH_EBUSY ? "queue_full" : status == NIGH_ECANCEL ? "stopping" : "no_memory";
    nigh_refuse(why, status, code, NULL, "%s", err->text);
    if (status == NIGH_ECANCEL) why->status = 503;
    return status;
}

static nigh_status forget_words(nigh_answer *a, nigh_refusal *why) {
    if (nigh_request_forget(&a->r) == NIGH_OK) return NIGH_OK;
    return nigh_refuse(why, NIGH_ENOMEM, "no_memory", NULL, "not enough memory");
}

static nigh_status no_memory(nigh_refusal *why) {
    return nigh_refuse(why, NIGH_ENOMEM, "no_memory", NULL, "not enough memory");
}

static nigh_status start_text(nigh_answer *a, const nigh_job_calls *calls, nigh_refusal *why) {
    nigh_sequence_spec specs[SEQUENCES_MAX] = { 0 };
    nigh_err err;
    size_t count = nigh_request_count(&a->r) * (size_t)a->r.n;
    if (nigh_openai_make_choices(a, count) != NIGH_OK) return no_memory(why);
    nigh_status status = make_choices(a, specs, why);
    if (status == NIGH_OK && !a->placed) status = forget_words(a, why);
    if (status == NIGH_OK) {
        if (a->x) nigh_exchange_on(a->x, nigh_sched_poke, a->served->sched);
        status = nigh_sched_generate(a->served->sched, specs, count, calls, a, &err);
        if (status == NIGH_OK) return NIGH_OK;      /* `a` is the engine's now */
        if (a->x) nigh_exchange_on(a->x, NULL, NULL);
        (void)refuse_job(status, &err, why);
    }
    for (size_t i = 0; i < count; i++) nigh_ids_release(&specs[i].ids);
    return status;
}

static nigh_status start_vectors(nigh_answer *a, const nigh_job_calls *calls, nigh_refusal *why) {
    size_t count = nigh_request_count(&a->r);
    nigh_err err;
    nigh_ids *texts = nigh_alloc(sizeof *texts, count);
    nigh_status status = texts ? NIGH_OK : no_memory(why);
    for (size_t i = 0; i < count && status == NIGH_OK; i++) {
        texts[i] = NIGH_IDS(nigh_sched_batch(a->served->sched));
        status = nigh_openai_prompt(a->served, &a->r, i, &texts[i], why);
        a->prompt_tokens += (uint32_t)texts[i].len;
    }
    if (status == NIGH_OK && !a->placed) status = forget_words(a, why);
    if (status == NIGH_OK) {
        status = nigh_sched_embed(a->served->sched, texts, count, a->who, calls, a, &err);
        if (status != NIGH_OK) (void)refuse_job(status, &err, why);
    }
    for (size_t i = 0; texts && i < count; i++) nigh_ids_release(&texts[i]);
    nigh_free(texts);
    return status;
}

nigh_status nigh_openai_start(nigh_answer *a, const nigh_job_calls *calls, nigh_refusal *why) {
    a->model = a->served->id;
    a->model_sha256 = a->served->sha256;
    a->prompt_tokens = 0;
    a->out.len = 0;
    NIGH_TRY(check_model(a, why));
    return a->r.task == NIGH_TASK_EMBEDDING ? start_vectors(a, calls, why) : start_text(a, calls, why);
}

static nigh_status start_plain(nigh_answer *a, nigh_refusal *why) {
    a->served = nigh_node_find(a->node, a->r.model);
    if (!a->served)
        return nigh_refuse(why, NIGH_ENOENT, "model_not_found", "model",
            "there is no such model here; GET /v1/models lists them");
    a->receipt.model = a->served->id;
    a->receipt.model_sha256 = a->served->sha256;
    return nigh_openai_start(a, &plain_calls, why);
}

void nigh_openai_name(nigh_answer *a) {
    nigh_format(a->id, sizeof a->id, "%s-%s", a->r.task == NIGH_TASK_CHAT ? "chatcmpl" : "cmpl", a->receipt.id + 5);
    a->created_s = nigh_os_unix_ms() / 1000;
}

/* Whose prompt beginnings this request may meet: those of the same tenant and user. */
static nigh_sched_owner owner_of(const nigh_node *n, const nigh_asked *asked) {
    char user[128];
    const nigh_rights own = nigh_rights_own(),
        *r = asked->key_idx < n->keys.count ? &n->keys.rights[asked->key_idx] : &own;
    if (nigh_rights_user(r, nigh_str_of(asked->user), user, NULL) != NIGH_OK)
        nigh_format(user, sizeof user, "%s", r->user);
    return nigh_sched_owner_of(nigh_str_of(r->tenant), nigh_str_of(user));
}

nigh_answer *nigh_openai_new(nigh_node *n, nigh_exchange *x, nigh_task task) {
    nigh_answer *a = nigh_alloc(sizeof *a, 1);
    if (!a) return NULL;
    *a = (nigh_answer){ .node = n, .x = x, .rights = nigh_place_rights(n->place, x),
        .start_ns = x ? nigh_exchange_start_ns(x) : nigh_os_now_ns(),
        .out = NIGH_BUF(task == NIGH_TASK_EMBEDDING ? EMBED_OUT_MAX : TEXT_MAX * 4), .model = "",
        .model_sha256 = "", .spell = &nigh_openai_speller };
    if (x) a->who = owner_of(n, nigh_exchange_asked(x));
    return a;
}

/* A plain request that was read on its socket's thread: the rest is the reader's. */
typedef struct { nigh_prep prep; nigh_answer *a; } plain_rest;

static void end_plain(nigh_answer *a, const nigh_refusal *why) {
    refuse_plain(a, why->status, why->code, why->param, why->text);
    nigh_openai_over(a);
}

static void run_plain(nigh_node *n, nigh_prep *p) {
    nigh_refusal why = { 0 };
    nigh_answer *a = ((plain_rest *)(void *)p)->a;
    (void)n;
    nigh_free(p);
    if (start_plain(a, &why) != NIGH_OK) end_plain(a, &why);
}

static nigh_status post_plain(nigh_answer *a, nigh_refusal *why) {
    plain_rest *rest = nigh_alloc(sizeof *rest, 1);
    if (!rest) return no_memory(why);
    *rest = (plain_rest){ .prep = { .run = run_plain }, .a = a };
    if (nigh_node_post(a->node, &rest->prep)) return NIGH_OK;
    nigh_free(rest);
    nigh_refuse(why, NIGH_ECANCEL, "stopping", NULL, "the node is stopping");
    why->status = 503;
    return NIGH_ECANCEL;
}

void nigh_openai_begin(nigh_node *n, nigh_exchange *x, nigh_task task, nigh_front_kind front, bool on_socket) {
    nigh_refusal why = { 0 };
    nigh_answer *a = nigh_openai_new(n, x, task);
    if (!a) { nigh_exchange_error(x, 503, "no_memory", NULL, "not enough memory"); return; }
    nigh_exchange_keep(x);
    nigh_str body = nigh_exchange_body(x);
    nigh_status status = front == NIGH_FRONT_NONE ? nigh_request_parse_any(&a->r, task, body, &why)
                                                  : nigh_front_read(a, front, body, &why);
    nigh_exchange_drop_body(x);
    nigh_receipt_init(&a->receipt, "", "", nigh_exchange_client(x));
    nigh_openai_name(a);
    if (status == NIGH_OK) status = nigh_place_admit(n->place, a, &why);
    if (status == NIGH_OK && nigh_place_takes(n->place, a)) { nigh_place_begin(n->place, a, on_socket); return; }
    if (status == NIGH_OK) status = on_socket ? post_plain(a, &why) : start_plain(a, &why);
    if (status != NIGH_OK) end_plain(a, &why);
}
