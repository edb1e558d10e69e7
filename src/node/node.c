/* node.c - the life of a daemon, and the routes that need no model's work.
 * Routes stand in one table: a path that is not in it does not exist, and all but those marked open need a key as
 * soon as there is one. The same routes are served below /v1, below /api/v1 and without a prefix: clients differ
 * in which they were told. */
#define _GNU_SOURCE
#include "node/node_parts.h"

#include <fcntl.h>
#include <unistd.h>

#include "base/os.h"
#include "base/pool.h"
#include "base/sha256.h"
#include "node/assets.h"
#include "node/place.h"

enum { TEXT_BODY_MAX = 1 << 20, EMBED_BODY_MAX = 4 << 20, MANIFEST_MAX = 64 << 20, HERE_BODY_MAX = 16 << 10 };

/* ---- plain routes ---- */

static void get_health(void *ud, nigh_exchange *x) {
    (void)ud;
    nigh_exchange_reply(x, 200, "application/json", NIGH_STR("{\"status\":\"ok\"}"));
}

static void get_metrics(void *ud, nigh_exchange *x) {
    nigh_node *n = ud;
    nigh_buf b = NIGH_BUF(65536);
    if (nigh_metrics_print(&n->metrics, nigh_http_connections(nigh_exchange_server(x)), &b) == NIGH_OK)
        nigh_exchange_reply(x, 200, "text/plain; version=0.0.4; charset=utf-8", nigh_buf_str(&b));
    else nigh_exchange_error(x, 503, "no_memory", NULL, "not enough memory");
    nigh_buf_release(&b);
}

static nigh_status add_model(nigh_buf *b, const nigh_served *m) {
    const nigh_model_info *i = nigh_model_about(m->model);
    NIGH_TRY(nigh_buf_add(b, NIGH_STR("{\"id\":")));
    NIGH_TRY(nigh_json_add_string(b, nigh_str_of(m->id)));
    NIGH_TRY(nigh_buf_addf(b,
        ",\"object\":\"model\",\"created\":%llu,\"owned_by\":\"nigh\","
        "\"nigh\":{\"sha256\":\"%s\",\"architecture\":", (unsigned long long)m->created_s, m->sha256));
    NIGH_TRY(nigh_json_add_string(b, i->arch));
    return nigh_buf_addf(b,
        ",\"bytes\":%llu,\"context_tokens\":%u,\"parameters\":%llu,\"embedding_size\":%u,\"gives\":\"%s\","
        "\"chat_template\":%s}}",
            (unsigned long long)m->file_bytes, nigh_sched_context(m->sched),
                         (unsigned long long)i->parameters, i->embed, i->encoder ? "vectors" : "text",
                             m->chat ? "true" : "false");
}

static void reply_or_fail(nigh_exchange *x, nigh_status made, nigh_buf *b) {
    if (made == NIGH_OK) nigh_exchange_reply(x, 200, "application/json", nigh_buf_str(b));
    else nigh_exchange_error(x, 503, "no_memory", NULL, "not enough memory");
    nigh_buf_release(b);
}

static nigh_status add_models(nigh_buf *b, const nigh_node *n, nigh_exchange *x) {
    NIGH_TRY(nigh_buf_add(b, NIGH_STR("{\"object\":\"list\",\"data\":[")));
    for (size_t i = 0; i < n->model_count; i++) {
        if (i) NIGH_TRY(nigh_buf_add_char(b, ','));
        NIGH_TRY(add_model(b, &n->models[i]));
    }
    NIGH_TRY(nigh_place_models(n->place, nigh_place_rights(n->place, x), b));
    return nigh_buf_add(b, NIGH_STR("]}"));
}

static void get_models(void *ud, nigh_exchange *x) {
    nigh_buf b = NIGH_BUF(1 << 20);
    reply_or_fail(x, add_models(&b, ud, x), &b);
}

static void get_model(void *ud, nigh_exchange *x) {
    nigh_str path = nigh_str_of(nigh_exchange_path(x)), word = NIGH_STR("models/");
    size_t at = nigh_str_find(path, word, 0);
    nigh_str id = nigh_str_slice(path, at + word.len, path.len);
    const nigh_served *m = id.len ? nigh_node_find(ud, id) : NULL;
    nigh_buf b = NIGH_BUF(4096);
    if (m) reply_or_fail(x, add_model(&b, m), &b);
    else if (nigh_place_has_model(((nigh_node *)ud)->place, id)) reply_or_fail(x, nigh_place_add_model(&b, id), &b);
    else nigh_exchange_error(x, 404, "model_not_found", "model",
        "there is no such model here; GET /v1/models lists them");
}

static void get_asset(void *ud, nigh_exchange *x) {
    nigh_str path = nigh_str_of(nigh_exchange_path(x));
    (void)ud;
    if (nigh_str_eq(path, NIGH_STR("/"))) path = NIGH_STR("/index.html");
    for (size_t i = 0; i < nigh_asset_count; i++) {
        const nigh_asset *a = &nigh_assets[i];
        if (!nigh_str_eq(path, nigh_str_of(a->path))) continue;
        nigh_exchange_reply(x, 200, a->type, (nigh_str){ (const char *)a->bytes, a->count });
        return;
    }
    nigh_exchange_error(x, 404, "unknown_path", NULL, "there is nothing at this path");
}

/* ---- model files, for browsers that keep them ---- */

/* /nigh/models/ID/manifest or /nigh/models/ID/file: the model, and which of both; NULL: neither. */
static const nigh_served *read_store_path(nigh_node *n, nigh_exchange *x, bool *file) {
    nigh_str path = nigh_str_of(nigh_exchange_path(x)), manifest = NIGH_STR("/manifest"), whole = NIGH_STR("/file");
    path = nigh_str_slice(path, NIGH_STR("/nigh/models/").len, path.len);
    *file = nigh_str_ends(path, whole);
    if (!*file && !nigh_str_ends(path, manifest)) return NULL;
    path.len -= *file ? whole.len : manifest.len;
    return path.len ? nigh_node_find(n, path) : NULL;
}

static void reply_file(const nigh_served *m, nigh_exchange *x) {
    char tag[80], range[80];
    uint64_t first, count;
    nigh_str held = nigh_exchange_if_range(x);
    nigh_format(tag, sizeof tag, "\"%s\"", m->sha256);
    nigh_str asked = held.len && !nigh_str_eq(held, nigh_str_of(tag)) ? NIGH_STR("") : nigh_exchange_range(x);
    nigh_range_kind kind = nigh_range_read(asked, m->file_bytes, &first, &count);
    nigh_exchange_header(x, "accept-ranges", "bytes");
    nigh_exchange_header(x, "etag", tag);
    if (kind == NIGH_RANGE_OUTSIDE) {
        nigh_format(range, sizeof range, "bytes */%llu", (unsigned long long)m->file_bytes);
        nigh_exchange_header(x, "content-range", range);
        nigh_exchange_error(x, 416, "range_outside", NULL, "the file is shorter than that");
        return;
    }
    int fd = open(m->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) { nigh_exchange_error(x, 404, "file_is_gone", NULL, "the model's file is not there any more"); return; }
    nigh_format(range, sizeof range, "bytes %llu-%llu/%llu", (unsigned long long)first,
        (unsigned long long)(first + count - 1), (unsigned long long)m->file_bytes);
    if (kind == NIGH_RANGE_PART) nigh_exchange_header(x, "content-range", range);
    nigh_exchange_reply_file(x, kind == NIGH_RANGE_PART ? 206 : 200, "application/octet-stream", fd, first, count);
}

static void get_store(void *ud, nigh_exchange *x) {
    bool file;
    const nigh_served *m = read_store_path(ud, x, &file);
    if (!m)
        nigh_exchange_error(x, 404, "model_not_found", "model",
            "there is no such file here; GET /v1/models lists the models");
    else if (file) reply_file(m, x);
    else nigh_exchange_reply(x, 200, "application/json", nigh_buf_str(&m->manifest));
}

/* ---- requests for work ---- */

static bool post(nigh_worker *w, nigh_prep *p) {
    nigh_node *n = w->node;
    p->next = NULL;
    pthread_mutex_lock(&n->lock);
    bool taken = !n->stopping;
    if (taken) {
        *w->end = p;
        w->end = &p->next;
        pthread_cond_signal(&w->wake);
    }
    pthread_mutex_unlock(&n->lock);
    return taken;
}

bool nigh_node_post(nigh_node *n, nigh_prep *p) { return post(&n->reader, p); }

static void begin(nigh_node *n, nigh_prep *p) {
    if (p->front == NIGH_FRONT_COUNT) nigh_front_count(n, p->x);
    else nigh_openai_begin(n, p->x, p->task, p->front, false);
    nigh_exchange_release(p->x);
    nigh_free(p);
}

/* A small request that the policy may send elsewhere, or answer out of its cache, is read on its socket's thread: a
 * change of threads would cost more than that. What computes or waits goes to the reader from there. */
static bool begin_here(nigh_node *n, nigh_exchange *x, nigh_task task, nigh_front_kind front) {
    if (front == NIGH_FRONT_COUNT || nigh_exchange_body(x).len > HERE_BODY_MAX || !nigh_place_decides(n->place))
        return false;
    pthread_mutex_lock(&n->lock);
    bool open = !n->stopping;
    n->here += open;
    pthread_mutex_unlock(&n->lock);
    if (!open) return false;
    nigh_openai_begin(n, x, task, front, true);
    pthread_mutex_lock(&n->lock);
    if (--n->here == 0 && n->stopping) pthread_cond_signal(&n->none_here);
    pthread_mutex_unlock(&n->lock);
    return true;
}

/* Keeps the exchange for p, which is freed when it cannot be taken. */
static void hand(nigh_worker *w, nigh_prep *p) {
    nigh_exchange *x = p->x;
    nigh_exchange_keep(x);
    if (post(w, p)) return;
    nigh_exchange_error(x, 503, "stopping", NULL, "the node is stopping");
    nigh_exchange_release(x);
    nigh_free(p);
}

static void hand_over(nigh_node *n, nigh_exchange *x, nigh_task task, nigh_front_kind front) {
    if (begin_here(n, x, task, front)) return;
    nigh_prep *p = nigh_alloc(sizeof *p, 1);
    if (!p) { nigh_exchange_error(x, 503, "no_memory", NULL, "not enough memory"); return; }
    *p = (nigh_prep){ .run = begin, .x = x, .task = task, .front = front };
    hand(&n->reader, p);
}

static void post_completions(void *ud, nigh_exchange *x) { hand_over(ud, x, NIGH_TASK_COMPLETION, NIGH_FRONT_NONE); }
static void post_chat(void *ud, nigh_exchange *x) { hand_over(ud, x, NIGH_TASK_CHAT, NIGH_FRONT_NONE); }
static void post_embeddings(void *ud, nigh_exchange *x) { hand_over(ud, x, NIGH_TASK_EMBEDDING, NIGH_FRONT_NONE); }
static void post_messages(void *ud, nigh_exchange *x) { hand_over(ud, x, NIGH_TASK_CHAT, NIGH_FRONT_MESSAGES); }
static void post_responses(void *ud, nigh_exchange *x) { hand_over(ud, x, NIGH_TASK_CHAT, NIGH_FRONT_RESPONSES); }
static void post_count(void *ud, nigh_exchange *x) { hand_over(ud, x, NIGH_TASK_CHAT, NIGH_FRONT_COUNT); }

static void *worker_thread(void *ud) {
    nigh_worker *w = ud;
    nigh_node *n = w->node;
    for (;;) {
        pthread_mutex_lock(&n->lock);
        while (!w->first && !n->stopping) pthread_cond_wait(&w->wake, &n->lock);
        nigh_prep *p = w->first;
        if (p) w->first = p->next;
        if (!w->first) w->end = &w->first;
        pthread_mutex_unlock(&n->lock);
        if (!p) return NULL;
        p->run(n, p);
    }
}

static nigh_status start_worker(nigh_worker *w, nigh_err *err) {
    w->runs = pthread_create(&w->thread, NULL, worker_thread, w) == 0;
    return w->runs ? NIGH_OK : nigh_fail(err, NIGH_EIO, 0, "no thread can be had");
}

/* ---- questions to the files of Place ---- */

typedef struct { nigh_prep prep; void (*answer)(nigh_place *p, nigh_exchange *x); } question;

static void run_question(nigh_node *n, nigh_prep *p) {
    ((question *)(void *)p)->answer(n->place, p->x);
    nigh_exchange_release(p->x);
    nigh_free(p);
}

/* They may read much, and wait for the disk. */
static void ask_clerk(nigh_node *n, nigh_exchange *x, void (*answer)(nigh_place *p, nigh_exchange *x)) {
    question *q = nigh_alloc(sizeof *q, 1);
    if (!q) { nigh_exchange_error(x, 503, "no_memory", NULL, "not enough memory"); return; }
    *q = (question){ .prep = { .run = run_question, .x = x }, .answer = answer };
    hand(&n->clerk, &q->prep);
}

#define GET(path, run) { "GET", path, run, false, false, 0, NIGH_ERRORS_OPENAI }
#define POST(path, run, bytes) { "POST", path, run, false, false, bytes, NIGH_ERRORS_OPENAI }
#define POST_ANTHROPIC(path, run) { "POST", path, run, false, false, TEXT_BODY_MAX, NIGH_ERRORS_ANTHROPIC }
#define PAGE(path) { "GET", path, get_asset, true, true, 0, NIGH_ERRORS_OPENAI }
#define API(prefix) \
    GET(prefix "/models", get_models), GET(prefix "/models/*", get_model), \
    POST(prefix "/completions", post_completions, TEXT_BODY_MAX), \
    POST(prefix "/chat/completions", post_chat, TEXT_BODY_MAX), \
    POST(prefix "/embeddings", post_embeddings, EMBED_BODY_MAX), \
    POST(prefix "/responses", post_responses, TEXT_BODY_MAX), POST_ANTHROPIC(prefix "/messages", post_messages), \
    POST_ANTHROPIC(prefix "/messages/count_tokens", post_count)

static void post_explain(void *ud, nigh_exchange *x) { ask_clerk(ud, x, nigh_place_explain); }
static void get_placement(void *ud, nigh_exchange *x) { nigh_place_about(((nigh_node *)ud)->place, x); }
static void get_ledger(void *ud, nigh_exchange *x) { ask_clerk(ud, x, nigh_place_ledger); }
static void get_where(void *ud, nigh_exchange *x) { ask_clerk(ud, x, nigh_place_where); }
static void get_receipt(void *ud, nigh_exchange *x) { ask_clerk(ud, x, nigh_place_signed); }
static void get_queue(void *ud, nigh_exchange *x) { ask_clerk(ud, x, nigh_place_queue_get); }
static void delete_queue(void *ud, nigh_exchange *x) { ask_clerk(ud, x, nigh_place_queue_delete); }
static void post_offline(void *ud, nigh_exchange *x) { nigh_place_offline(((nigh_node *)ud)->place, x); }

static void post_forget(void *ud, nigh_exchange *x) { ask_clerk(ud, x, nigh_place_forget); }

static const nigh_route routes[] = {
    { "GET", "/health", get_health, true, false, 0, NIGH_ERRORS_OPENAI }, GET("/metrics", get_metrics),
    API("/v1"), API("/api/v1"), API(""),
    GET("/nigh/models/*", get_store), GET("/nigh/placement", get_placement),
    POST("/v1/placement/explain", post_explain, TEXT_BODY_MAX), POST("/nigh/offline", post_offline, 1024),
    GET("/nigh/ledger", get_ledger), GET("/nigh/where/*", get_where), GET("/nigh/receipt/*", get_receipt),
    POST("/nigh/forget", post_forget, 4096), GET("/v1/queue/*", get_queue),
    { "DELETE", "/v1/queue/*", delete_queue, false, false, 0, NIGH_ERRORS_OPENAI },
    PAGE("/"), PAGE("/index.html"), PAGE("/console.css"), PAGE("/console.js"), PAGE("/icon.svg"), PAGE("/sw.js"),
    PAGE("/sdk/*") };

const nigh_served *nigh_node_find(const nigh_node *n, nigh_str id) {
    if (!id.len) return &n->models[0];
    for (size_t i = 0; i < n->model_count; i++) if (nigh_str_eq(id, nigh_str_of(n->models[i].id))) return &n->models[i];
    return NULL;
}

/* ---- life ---- */

/* The file's name without folders and without .gguf: a path says more about a machine than a client should know. */
static void name_model(nigh_node *n, nigh_served *m, const char *path) {
    nigh_str name = nigh_str_of(path);
    for (size_t i = name.len; i > 0; i--)
        if (name.ptr[i - 1] == '/') { name = nigh_str_slice(name, i, name.len); break; }
    if (nigh_str_ends(name, NIGH_STR(".gguf"))) name.len -= 5;
    name.len = nigh_min(name.len, NIGH_MODEL_ID_MAX - 8);
    nigh_format(m->id, sizeof m->id, "%.*s", (int)name.len, name.ptr);
    for (unsigned again = 2; nigh_node_find(n, nigh_str_of(m->id)) && nigh_node_find(n, nigh_str_of(m->id)) != m
        && again < 100; again++)
        nigh_format(m->id, sizeof m->id, "%.*s-%u", (int)name.len, name.ptr, again);
}

/* A template that cannot be used stops conversations, not the model: text still goes on from text. */
static void open_chat(nigh_served *m) {
    nigh_str source = nigh_model_about(m->model)->chat_template;
    nigh_err err = { 0 };
    if (!source.len || nigh_chat_open(&m->chat, NIGH_CHAT_OWN, source, &err) == NIGH_OK) return;
    m->chat = NULL;
    nigh_format(m->chat_error, sizeof m->chat_error, "%s", err.text);
}

/* What the routes for browsers need of the file. */
static nigh_status keep_file(nigh_node *n, nigh_served *m, const char *path, nigh_str bytes, nigh_err *err) {
    size_t len = strlen(path);
    name_model(n, m, path);
    m->manifest = NIGH_BUF(MANIFEST_MAX);
    m->file_bytes = bytes.len;
    m->path = nigh_alloc(len + 1, 1);
    if (!m->path) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the name of a file");
    memcpy(m->path, path, len);
    nigh_status status = nigh_manifest_make(&m->manifest, &n->signer, nigh_str_of(m->id), bytes, m->sha256, n->pool);
    return status == NIGH_OK ? NIGH_OK : nigh_fail(err, status, 0, "the manifest of the model cannot be made");
}

static nigh_model_opts open_opts(const nigh_node *n, const nigh_node_opts *o, nigh_file *file) {
    return (nigh_model_opts){ .pool = n->pool, .cpu = o->cpu, .file = file, .read = nigh_file_read_part,
        .done = nigh_file_drop_part };
}

static nigh_status load_model(nigh_node *n, const nigh_node_opts *o, const char *path, nigh_err *err) {
    nigh_served *m = &n->models[n->model_count];
    nigh_file file;
    NIGH_TRY(nigh_file_open(&file, path, err));
    nigh_status status = keep_file(n, m, path, file.bytes, err);
    nigh_file_drop(&file, 0, file.bytes.len);   /* the hashes read all of it; the weights are read piece by piece */
    if (status == NIGH_OK) status = nigh_model_open(&m->model, file.bytes, open_opts(n, o, &file), err);
    if (nigh_file_changed(&file)) status = nigh_fail(err, NIGH_EIO, 0, "the file was cut short while it was read");
    nigh_file_close(&file);
    if (status != NIGH_OK) {
        nigh_model_close(m->model);
        nigh_buf_release(&m->manifest);
        nigh_free(m->path);
        *m = (nigh_served){ .model = NULL };
        return nigh_fail_in(err, status, path);
    }
    n->model_count++;                   /* from here on nigh_node_close knows it */
    m->created_s = nigh_os_unix_ms() / 1000;
    open_chat(m);
    uint32_t most = nigh_model_about(m->model)->context_tokens;
    if (o->context_tokens > most)
        return nigh_failf(err, NIGH_ERANGE, 0, "%s was made for at most %u tokens of context", m->id, most);
    nigh_sched_opts so = { .model = m->model, .pool = n->pool, .pool_lock = &n->pool_lock, .metrics = &n->metrics,
        .context_tokens = o->context_tokens, .parallel = o->parallel, .queue_max = o->queue, .alone = o->alone,
        .draft_model = n->draft };
    so.cache = o->cache;
    NIGH_TRY(nigh_sched_open(&m->sched, &so, err));
    nigh_session *probe = NULL;                     /* can such a session be had at all? */
    if (nigh_model_about(m->model)->encoder) return NIGH_OK;
    NIGH_TRY(nigh_session_new_as(&probe, m->model, (nigh_session_opts){ nigh_sched_context(m->sched), o->cache }, err));
    nigh_session_free(probe);
    return NIGH_OK;
}

static nigh_status load_draft(nigh_node *n, const nigh_node_opts *o, nigh_err *err) {
    nigh_file file;
    if (!o->draft) return NIGH_OK;
    NIGH_TRY(nigh_file_open(&file, o->draft, err));
    nigh_status status = nigh_model_open(&n->draft, file.bytes, open_opts(n, o, &file), err);
    if (nigh_file_changed(&file)) status = nigh_fail(err, NIGH_EIO, 0, "the file was cut short while it was read");
    nigh_file_close(&file);
    return status == NIGH_OK ? NIGH_OK : nigh_fail_in(err, status, o->draft);
}

static nigh_status start(nigh_node *n, const nigh_node_opts *o, nigh_err *err) {
    if (o->key_file) NIGH_TRY(nigh_keys_load(&n->keys, o->key_file, err));
    if (!nigh_http_is_loopback(o->host) && !n->keys.count)
        return nigh_failf(err, NIGH_EAUTH, 0,
            "%s can be reached from other machines, so a key is needed; make one with: nigh serve --new-key", o->host);
    n->pool = nigh_pool_new(o->threads);
    if (!n->pool) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for threads");
    if (o->model_count > NIGH_NODE_MODELS_MAX)
        return nigh_failf(err, NIGH_ERANGE, 0, "at most %d models", NIGH_NODE_MODELS_MAX);
    NIGH_TRY(load_draft(n, o, err));
    nigh_signer_open(&n->signer, o->manifest_key);
    if (n->keys.count && nigh_peers_open(&n->peers, &n->keys, &n->signer) != NIGH_OK)
        return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the node");
    for (size_t i = 0; i < o->model_count; i++) NIGH_TRY(load_model(n, o, o->models[i], err));
    n->cpu = o->cpu;
    NIGH_TRY(nigh_place_open(&n->place, n, o, err));
    NIGH_TRY(start_worker(&n->reader, err));
    NIGH_TRY(start_worker(&n->clerk, err));
    nigh_http_opts ho = { .host = o->host, .port = o->port, .hosts = o->hosts, .origins = o->origins, .keys = &n->keys,
        .peers = n->peers, .routes = routes, .route_count = NIGH_COUNT(routes), .ud = n,
        .connections_max = o->connections, .guest = nigh_place_guest(n->place) };
    return nigh_http_open(&n->http, &ho, err);
}

nigh_status nigh_node_open(nigh_node **out, const nigh_node_opts *o, nigh_err *err) {
    nigh_node *n = nigh_alloc(sizeof *n, 1);
    if (!n) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the node");
    pthread_mutex_init(&n->lock, NULL);
    pthread_mutex_init(&n->pool_lock, NULL);
    pthread_cond_init(&n->none_here, NULL);
    nigh_worker *const workers[] = { &n->reader, &n->clerk };
    for (size_t i = 0; i < NIGH_COUNT(workers); i++) {
        workers[i]->node = n;
        workers[i]->end = &workers[i]->first;
        pthread_cond_init(&workers[i]->wake, NULL);
    }
    nigh_status status = start(n, o, err);
    if (status != NIGH_OK) { nigh_node_close(n, 0); return status; }
    *out = n;
    return NIGH_OK;
}

uint16_t nigh_node_port(const nigh_node *n) { return nigh_http_port(n->http); }

nigh_status nigh_node_describe(const nigh_node *n, nigh_buf *out) {
    for (size_t i = 0; i < n->model_count; i++) {
        const nigh_served *m = &n->models[i];
        const nigh_model_info *about = nigh_model_about(m->model);
        NIGH_TRY(nigh_buf_addf(out,
            "model %s sha256:%.12s, %.1f MB of weights, %u tokens of context, %.1f MB a sequence\n", m->id,
                m->sha256, (double)about->weight_bytes / 1e6,
                               nigh_sched_context(m->sched), (double)nigh_sched_session_bytes(m->sched) / 1e6));
    }
    return NIGH_OK;
}

/* In this order nothing is used after it is gone: no new requests, a time of grace, the reader, the engines (which end
 * what is left with an error that can be seen), the sockets, the models. */
void nigh_node_close(nigh_node *n, unsigned grace_ms) {
    if (!n) return;
    if (n->http) nigh_http_drain(n->http);
    uint64_t until_ns = nigh_os_now_ns() + (uint64_t)grace_ms * 1000000;
    while (n->http && nigh_http_busy(n->http) && nigh_os_now_ns() < until_ns) usleep(10000);
    pthread_mutex_lock(&n->lock);
    n->stopping = true;
    pthread_cond_signal(&n->reader.wake);
    pthread_cond_signal(&n->clerk.wake);
    while (n->here) pthread_cond_wait(&n->none_here, &n->lock);
    pthread_mutex_unlock(&n->lock);
    if (n->reader.runs) pthread_join(n->reader.thread, NULL);
    if (n->clerk.runs) pthread_join(n->clerk.thread, NULL);
    for (size_t i = 0; i < n->model_count; i++) nigh_sched_stop(n->models[i].sched);
    nigh_place_stop(n->place, n->http != NULL);
    nigh_http_close(n->http);
    nigh_place_close(n->place);
    for (size_t i = 0; i < n->model_count; i++) {
        nigh_sched_close(n->models[i].sched);
        nigh_chat_close(n->models[i].chat);
        nigh_model_close(n->models[i].model);
        nigh_buf_release(&n->models[i].manifest);
        nigh_free(n->models[i].path);
    }
    nigh_model_close(n->draft);
    nigh_pool_free(n->pool);
    nigh_peers_close(n->peers);
    nigh_keys_release(&n->keys);
    pthread_cond_destroy(&n->none_here);
    pthread_cond_destroy(&n->reader.wake);
    pthread_cond_destroy(&n->clerk.wake);
    pthread_mutex_destroy(&n->lock);
    pthread_mutex_destroy(&n->pool_lock);
    nigh_free(n);
}
