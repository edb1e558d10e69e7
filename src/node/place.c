/* place.c - the policy of a node: read at start, its targets found among the models; the routes that tell of it. */
#include "node/place_parts.h"

#include "base/os.h"
#include "place/check.h"

/* ---- life ---- */

/* The model of this node that a device target names, if its hash is the one that is asked for. */
static const nigh_served *served_as(const nigh_node *n, const nigh_target *t) {
    const nigh_served *m = t->model.len ? nigh_node_find(n, t->model) : NULL;
    return m && (!t->hash.len || nigh_str_eq(t->hash, nigh_str_of(m->sha256))) ? m : NULL;
}

static bool is_near(nigh_str url) {
    static const char *const names[] = { "//127.", "//localhost", "//[::1]" };
    for (size_t i = 0; i < NIGH_COUNT(names); i++)
        if (nigh_str_find(url, nigh_str_of(names[i]), 0) != SIZE_MAX) return true;
    return false;
}

static void find_targets(nigh_place *p) {
    for (size_t t = 0; t < p->policy->target_count; t++) {
        const nigh_target *target = &p->policy->targets[t];
        if (target->tier != NIGH_TIER_DEVICE) { p->near |= is_near(target->url); continue; }
        p->served[t] = served_as(p->node, target);
        p->models |= (uint64_t)(p->served[t] != NULL) << t;
    }
}

/* With keys that are trusted, only a policy that one of them signed; and never an older one than was loaded before. */
static nigh_status read_policy(nigh_place *p, const nigh_node_opts *o, nigh_err *err) {
    char state[4096];
    if (o->home) nigh_format(state, sizeof state, "%s/policy.state", o->home);
    nigh_envelope_opts eo = { .path = o->policy, .trusted = o->trusted, .trusted_count = o->trusted_count,
        .state_path = o->home ? state : NULL };
    return nigh_envelope_load(&p->policy, &p->policy_facts, &eo, err);
}

/* What the policy alone says of each feature: can it leave its region? */
static void find_ways_out(nigh_place *p) {
    for (uint32_t f = 0; f < p->policy->feature_count; f++) {
        const nigh_feature *feature = &p->policy->features[f];
        p->may_leave[f] = nigh_can_leave(p->policy, f, feature->has_area ? &feature->area : NULL).leaves;
        p->keeps |= feature->cache != NIGH_CACHE_NONE && feature->keep_cache_s;
    }
}

static nigh_status open_files(nigh_place *p, const nigh_node_opts *o, nigh_err *err) {
    char path[4096];
    bool money = p->node->keys.count || p->policy;
    if (o->home) nigh_format(path, sizeof path, "%s/spent", o->home);
    if (money) NIGH_TRY(nigh_limits_open(&p->limits, &p->node->keys, o->home ? path : NULL, err));
    if (o->home) nigh_format(path, sizeof path, "%s/ledger.db", o->home);
    const char *ledger = o->ledger ? o->ledger : o->home && p->policy ? path : NULL;
    if (ledger) NIGH_TRY(nigh_ledger_open(&p->ledger, ledger, &p->node->signer, err));
    return p->keeps ? nigh_answers_open(&p->answers, PLACE_ANSWERS_BYTES, err) : NIGH_OK;
}

nigh_status nigh_place_open(nigh_place **out, nigh_node *n, const nigh_node_opts *o, nigh_err *err) {
    nigh_place *p = *out = nigh_alloc(sizeof *p, 1);    /* the node closes it also when this fails */
    if (!p) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the policy");
    p->node = n;
    p->own = nigh_rights_own();
    pthread_mutex_init(&p->lock, NULL);
    if (o->policy) NIGH_TRY(read_policy(p, o, err));
    if (p->policy) {
        find_targets(p);
        find_ways_out(p);
        NIGH_TRY(place_away_open(p, o, err));
    }
    NIGH_TRY(open_files(p, o, err));
    NIGH_TRY(place_capture_open(p, o, err));
    return place_queue_open(p, o, err);
}

static void take_turn(void *upstream, bool ready) { nigh_upstream_turn(upstream, ready); }
static uint64_t due_ns(void *upstream) { return nigh_upstream_due_ns(upstream); }

nigh_http_guest nigh_place_guest(const nigh_place *p) {
    if (!p || !p->upstream) return (nigh_http_guest){ .fd = -1 };
    return (nigh_http_guest){ .ud = p->upstream, .fd = nigh_upstream_fd(p->upstream), .turn = take_turn,
        .due_ns = due_ns };
}

void nigh_place_stop(nigh_place *p, bool driven) {
    if (!p) return;
    place_queue_stop(p);
    nigh_upstream_stop(p->upstream, driven);    /* ends every call that is on its way */
}

void nigh_place_close(nigh_place *p) {
    if (!p) return;
    nigh_upstream_close(p->upstream);
    nigh_answers_close(p->answers);
    nigh_outbox_close(p->outbox);
    nigh_limits_close(p->limits);
    nigh_ledger_close(p->ledger);
    nigh_captures_close(p->captures);
    place_away_close(p);
    nigh_policy_free(p->policy);
    pthread_cond_destroy(&p->wake);
    pthread_cond_destroy(&p->keeper_wake);
    pthread_mutex_destroy(&p->waiting_lock);
    pthread_mutex_destroy(&p->lock);
    nigh_free(p);
}

/* ---- features as models ---- */

nigh_status nigh_place_add_model(nigh_buf *out, nigh_str id) {
    NIGH_TRY(nigh_buf_add(out, NIGH_STR("{\"id\":")));
    NIGH_TRY(nigh_json_add_string(out, id));
    return nigh_buf_add(out, NIGH_STR(",\"object\":\"model\",\"created\":0,\"owned_by\":\"policy\"}"));
}

nigh_status nigh_place_models(const nigh_place *p, const nigh_rights *rights, nigh_buf *out) {
    char id[128];
    for (size_t f = 0; p->policy && f < p->policy->feature_count; f++) {
        nigh_str name = p->policy->features[f].name;
        if (nigh_rights_allow(rights, name, NULL) != NIGH_OK) continue;
        size_t n = nigh_format(id, sizeof id, "feature/%.*s", (int)nigh_min(name.len, 100), name.ptr);
        NIGH_TRY(nigh_buf_add_char(out, ','));
        NIGH_TRY(nigh_place_add_model(out, (nigh_str){ id, n }));
    }
    return NIGH_OK;
}

bool nigh_place_has_model(const nigh_place *p, nigh_str id) {
    nigh_str prefix = NIGH_STR("feature/");
    if (!p->policy || !nigh_str_starts(id, prefix)) return false;
    for (size_t f = 0; f < p->policy->feature_count; f++)
        if (nigh_str_eq(p->policy->features[f].name, nigh_str_slice(id, prefix.len, id.len))) return true;
    return false;
}

/* ---- GET /nigh/placement ---- */

static bool has_policy(const nigh_place *p, nigh_exchange *x) {
    if (p->policy) return true;
    nigh_exchange_error(x, 404, "no_policy", NULL, "this node has no policy: nigh serve --policy FILE");
    return false;
}

static nigh_status add_target(nigh_buf *b, nigh_place *p, size_t t, uint64_t now_ms) {
    const nigh_target *target = &p->policy->targets[t];
    const place_target *s = &p->targets[t];
    char region[16];
    bool closed = s->closed_until_ms != 0;
    NIGH_TRY(nigh_buf_add(b, NIGH_STR("{\"target\":")));
    NIGH_TRY(nigh_json_add_string(b, target->name));
    NIGH_TRY(nigh_buf_addf(b, ",\"tier\":\"%s\",\"region\":\"%s\",\"model\":", nigh_tier_name(target->tier),
        place_region(p->policy, target, region)));
    NIGH_TRY(nigh_json_add_string(b, target->model));
    NIGH_TRY(nigh_buf_addf(b, ",\"here\":%s,\"health\":\"%s\",\"closed_ms\":%llu,\"failures\":%u,\"tries\":%llu,"
        "\"answers\":%llu,\"bytes_out\":%llu,\"bytes_in\":%llu", p->served[t] ? "true" : "false",
        !closed ? "open" : now_ms < s->closed_until_ms ? "closed" : "half-open",
        (unsigned long long)(closed && now_ms < s->closed_until_ms ? s->closed_until_ms - now_ms : 0), s->failures,
        (unsigned long long)s->tries, (unsigned long long)s->answers, (unsigned long long)s->bytes_out,
        (unsigned long long)s->bytes_in));
    NIGH_TRY(nigh_buf_addf(b, ",\"first_ms\":{\"ewma\":%.1f,\"p95\":%u},\"total_ms\":{\"ewma\":%.1f,\"p95\":%u},"
        "\"last_error\":", s->first_ewma, s->first_p95, s->total_ewma, s->total_p95));
    NIGH_TRY(nigh_json_add_string(b, nigh_str_of(s->error)));
    return nigh_buf_add_char(b, '}');
}

static nigh_status add_feature(nigh_buf *b, const nigh_place *p, size_t f) {
    const nigh_policy *policy = p->policy;
    const nigh_feature *feature = &policy->features[f];
    bool any = false;
    NIGH_TRY(nigh_buf_add(b, NIGH_STR("{\"feature\":")));
    NIGH_TRY(nigh_json_add_string(b, feature->name));
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"class\":")));
    NIGH_TRY(nigh_json_add_string(b, policy->classes[feature->class_idx].name));
    NIGH_TRY(nigh_buf_addf(b, ",\"answers\":%llu,\"degraded\":%llu,\"errors\":%llu,\"on\":{",
        (unsigned long long)p->features[f].answers, (unsigned long long)p->features[f].degraded,
        (unsigned long long)p->features[f].errors));
    for (size_t i = 0; i < feature->place_count; i++) {
        uint8_t t = feature->place[i];
        NIGH_TRY(nigh_buf_add(b, any ? NIGH_STR(",") : NIGH_STR("")));
        NIGH_TRY(nigh_json_add_string(b, policy->targets[t].name));
        NIGH_TRY(nigh_buf_addf(b, ":%llu", (unsigned long long)p->features[f].on_target[t]));
        any = true;
    }
    const nigh_rate *sure = &p->features[f].sure;
    return nigh_buf_addf(b, "},\"sure\":{\"looked\":%llu,\"below\":%llu,\"escalated\":%llu}}",
        (unsigned long long)sure->seen, (unsigned long long)sure->wanted, (unsigned long long)sure->let);
}

/* Bytes on the wire, by host: what the counter of a network should find, too. */
static nigh_status add_destinations(nigh_buf *b, nigh_place *p) {
    nigh_wire_count counts[64];
    size_t n = p->upstream ? nigh_upstream_counts(p->upstream, counts, NIGH_COUNT(counts)) : 0;
    n = nigh_min(n, NIGH_COUNT(counts));
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"destinations\":[")));
    for (size_t i = 0; i < n; i++) {
        NIGH_TRY(nigh_buf_add(b, i ? NIGH_STR(",{\"host\":") : NIGH_STR("{\"host\":")));
        NIGH_TRY(nigh_json_add_string(b, nigh_str_of(counts[i].host)));
        NIGH_TRY(nigh_buf_addf(b, ",\"port\":%u,\"calls\":%llu,\"bytes_out\":%llu,\"bytes_in\":%llu}",
            counts[i].port, (unsigned long long)counts[i].calls, (unsigned long long)counts[i].bytes_out,
            (unsigned long long)counts[i].bytes_in));
    }
    return nigh_buf_add_char(b, ']');
}

static nigh_status add_all(nigh_buf *b, nigh_place *p) {
    uint64_t now_ms = place_now_ms();
    const nigh_envelope_facts *e = &p->policy_facts;
    NIGH_TRY(nigh_buf_addf(b, "{\"policy_version\":%llu,\"policy_sha256\":\"%s\",\"signed\":%s,\"trusted\":%s,"
        "\"offline\":%s,\"targets\":[", (unsigned long long)p->policy->version, e->sha256,
        e->is_signed ? "true" : "false", e->trusted ? "true" : "false", atomic_load(&p->offline) ? "true" : "false"));
    for (size_t t = 0; t < p->policy->target_count; t++) {
        if (t) NIGH_TRY(nigh_buf_add_char(b, ','));
        NIGH_TRY(add_target(b, p, t, now_ms));
    }
    NIGH_TRY(nigh_buf_add(b, NIGH_STR("],\"features\":[")));
    for (size_t f = 0; f < p->policy->feature_count; f++) {
        if (f) NIGH_TRY(nigh_buf_add_char(b, ','));
        NIGH_TRY(add_feature(b, p, f));
    }
    NIGH_TRY(nigh_buf_add(b, NIGH_STR("]")));
    NIGH_TRY(add_destinations(b, p));
    return nigh_buf_add_char(b, '}');
}

void nigh_place_about(nigh_place *p, nigh_exchange *x) {
    nigh_buf b = NIGH_BUF(4 << 20);
    if (!has_policy(p, x)) return;
    pthread_mutex_lock(&p->lock);
    nigh_status status = add_all(&b, p);
    pthread_mutex_unlock(&p->lock);
    if (status == NIGH_OK) nigh_exchange_reply(x, 200, "application/json", nigh_buf_str(&b));
    else nigh_exchange_error(x, 503, "no_memory", NULL, "not enough memory");
    nigh_buf_release(&b);
}

/* ---- POST /nigh/offline ---- */

void nigh_place_offline(nigh_place *p, nigh_exchange *x) {
    nigh_json_doc doc = { 0 };
    if (!has_policy(p, x)) return;
    if (strcmp(nigh_exchange_client(x), "loopback") != 0 || nigh_place_rights(p, x)->tenant[0]) {
        nigh_exchange_error(x, 403, "own_only", NULL,
            "only a program of this machine may do this, with a key of no tenant");
        return;
    }
    const nigh_json *v = nigh_json_parse(&doc, nigh_exchange_body(x), NULL) == NIGH_OK
                             ? nigh_json_get(doc.root, NIGH_STR("offline")) : NULL;
    if (v && v->type == NIGH_JSON_BOOL) {
        atomic_store(&p->offline, v->boolean);
        place_queue_wake(p);
        nigh_exchange_reply(x, 200, "application/json", v->boolean ? NIGH_STR("{\"offline\":true}")
            : NIGH_STR("{\"offline\":false}"));
    } else nigh_exchange_error(x, 400, "invalid_type", "offline", "'offline' must be true or false");
    nigh_json_release(&doc);
}
