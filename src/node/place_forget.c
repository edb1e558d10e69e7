/* place_forget.c - deletion on request: what this node keeps of the words of one user, or of everybody of a tenant.
 *
 *     POST /nigh/forget {"user":"u-17"}      or {"all":true}; own keys may add "tenant"
 *
 * These are answers that are kept in memory, requests that wait in the queue, their answers that wait to be fetched,
 * and the beginnings of prompts that sessions of the tenant hold. What is answered at this moment goes on. Records of
 * the ledger hold no words and stay their time; what a capture keeps ends with its key. */
#include "node/place_parts.h"

#include "base/os.h"

typedef struct { char tenant[128], user[128]; } whom;       /* user "": everybody of the tenant */

static nigh_status refuse(nigh_refusal *why, nigh_status status, const char *code, const char *param,
    const char *text) {
    return nigh_refuse(why, status, code, param, "%s", text);
}

static nigh_status read_tenant(const nigh_json *v, const nigh_rights *rights, whom *w, nigh_refusal *why) {
    nigh_str own = nigh_str_of(rights->tenant);
    if (v && (v->type != NIGH_JSON_STRING || v->text.len >= sizeof w->tenant))
        return refuse(why, NIGH_EINVAL, "invalid_type", "tenant", "'tenant' must be a text of at most 127 bytes");
    if (v && own.len && !nigh_str_eq(v->text, own))
        return refuse(why, NIGH_EPOLICY, "policy_rights", "tenant", "this key belongs to another tenant");
    nigh_str name = v ? v->text : own;
    nigh_format(w->tenant, sizeof w->tenant, "%.*s", (int)name.len, name.ptr);
    return NIGH_OK;
}

/* For anybody of its tenant speaks a key that may name its user, and the operator's: of no tenant and no user. Any
 * other one speaks for its own user alone. */
static nigh_status read_whom(const nigh_json *root, const nigh_rights *rights, whom *w, nigh_refusal *why) {
    const nigh_json *user = nigh_json_get(root, NIGH_STR("user")), *all = nigh_json_get(root, NIGH_STR("all"));
    nigh_err err = { 0 };
    NIGH_TRY(read_tenant(nigh_json_get(root, NIGH_STR("tenant")), rights, w, why));
    bool everybody = all && all->type == NIGH_JSON_BOOL && all->boolean;
    bool one = user && user->type == NIGH_JSON_STRING && user->text.len;
    if (everybody == one || (user && !one) || (all && !everybody))
        return refuse(why, NIGH_EINVAL, "invalid_type", "user", "wants either \"user\": a name, or \"all\": true");
    nigh_rights speaks = *rights;
    speaks.any_user |= !rights->tenant[0] && !rights->user[0];
    if (everybody && !speaks.any_user)
        return refuse(why, NIGH_EPOLICY, "policy_user", "all", "this key may not speak for other users");
    if (!one) return NIGH_OK;
    nigh_status status = nigh_rights_user(&speaks, user->text, w->user, &err);
    return status == NIGH_OK ? NIGH_OK
        : refuse(why, status, status == NIGH_EPOLICY ? "policy_user" : "invalid_value", "user", err.text);
}

static nigh_status write_reply(nigh_buf *b, const whom *w, size_t answers, size_t queued) {
    NIGH_TRY(nigh_buf_add(b, NIGH_STR("{\"object\":\"nigh.forgotten\",\"tenant\":")));
    NIGH_TRY(nigh_json_add_string(b, nigh_str_of(w->tenant)));
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"user\":")));
    if (w->user[0]) NIGH_TRY(nigh_json_add_string(b, nigh_str_of(w->user)));
    else NIGH_TRY(nigh_buf_add(b, NIGH_STR("null")));
    return nigh_buf_addf(b, ",\"answers\":%zu,\"queued\":%zu}", answers, queued);
}

void nigh_place_forget(nigh_place *p, nigh_exchange *x) {
    nigh_json_doc doc = { 0 };
    nigh_refusal why = { 0 };
    nigh_err err = { 0 };
    nigh_buf b = NIGH_BUF(4096);
    whom w = { .tenant = "" };
    size_t answers = 0, queued = 0;
    nigh_status status = nigh_json_parse(&doc, nigh_exchange_body(x), &err);
    if (status != NIGH_OK) refuse(&why, NIGH_EINVAL, "invalid_json", NULL, err.text);
    else status = read_whom(doc.root, nigh_place_rights(p, x), &w, &why);
    nigh_json_release(&doc);
    if (status != NIGH_OK) {
        nigh_exchange_error(x, why.status, why.code, why.param, why.text);
        return;
    }
    nigh_str tenant = nigh_str_of(w.tenant), user = nigh_str_of(w.user);
    if (p->outbox) status = nigh_outbox_forget(p->outbox, tenant, user, &queued, &err);
    if (p->answers) answers = nigh_answers_forget(p->answers, tenant, user);
    for (size_t i = 0; i < p->node->model_count; i++)
        nigh_sched_forget(p->node->models[i].sched, nigh_sched_owner_of(tenant, user).tenant);
    if (status == NIGH_OK) status = write_reply(&b, &w, answers, queued);
    if (status == NIGH_OK) nigh_exchange_reply(x, 200, "application/json", nigh_buf_str(&b));
    else nigh_exchange_error(x, nigh_status_http(status), "queue", NULL, err.text[0] ? err.text
        : nigh_status_text(status));
    nigh_buf_release(&b);
}
