/* place_rights.c - who asks: the rights of a key, its minute, its money. The same for features and for plain models. */
#include "node/place_parts.h"

#include "base/os.h"

enum { ANSWER_TOKENS = 512 };

const nigh_rights *place_rights(const nigh_place *p, const nigh_asked *asked) {
    const nigh_keys *keys = &p->node->keys;
    return asked && asked->key_idx < keys->count && keys->rights ? &keys->rights[asked->key_idx] : &p->own;
}

const nigh_rights *nigh_place_rights(const nigh_place *p, nigh_exchange *x) {
    return place_rights(p, x ? nigh_exchange_asked(x) : NULL);
}

double place_spent_today(nigh_place *p, const nigh_rights *rights, const char *user) {
    return p->limits ? nigh_limits_spent(p->limits, rights, nigh_str_of(user), nigh_os_unix_ms()) : 0;
}

void place_settle(nigh_place *p, nigh_answer *a, double usd, uint32_t tokens) {
    if (!p->limits || a->settled) return;
    a->settled = true;
    nigh_limits_settle(p->limits, a->rights, a->taken, tokens, usd, nigh_str_of(a->user), nigh_os_unix_ms());
}

static nigh_status refuse(nigh_refusal *why, nigh_status status, const char *code, const char *param,
    const nigh_err *err) {
    return nigh_refuse(why, status, code, param, "%s", err->text);
}

nigh_status nigh_place_admit(nigh_place *p, nigh_answer *a, nigh_refusal *why) {
    const nigh_asked *asked = a->x ? nigh_exchange_asked(a->x) : NULL;
    nigh_str name = NIGH_STR("");
    nigh_err err = { 0 };
    uint32_t retry_ms = 0;
    uint64_t now_ms = nigh_os_unix_ms();
    (void)place_feature(p, asked, &a->r, &name);
    uint32_t f = name.len && p->policy ? nigh_policy_feature(p->policy, name) : UINT32_MAX;
    if (f != UINT32_MAX) name = p->policy->features[f].name;
    nigh_status status = nigh_rights_user(a->rights, nigh_str_of(asked ? asked->user : ""), a->user, &err);
    if (status != NIGH_OK)
        return refuse(why, status, status == NIGH_EPOLICY ? "policy_user" : "invalid_value", "x-nigh-user", &err);
    if (nigh_rights_allow(a->rights, name, &err) != NIGH_OK)
        return refuse(why, NIGH_EPOLICY, "policy_rights", "features", &err);
    if (!p->limits) return NIGH_OK;
    uint64_t tokens = place_tokens(&a->r) + (a->r.max_tokens ? (uint64_t)a->r.max_tokens : ANSWER_TOKENS);
    uint32_t take = (uint32_t)nigh_min(tokens, UINT32_MAX);
    status = nigh_limits_take(p->limits, a->rights, take, now_ms, &retry_ms, &err);
    if (status == NIGH_OK) { a->taken = take; return NIGH_OK; }
    if (status == NIGH_EBUSY && a->x) nigh_exchange_retry(a->x, retry_ms);
    return refuse(why, status, status == NIGH_EBUSY ? "rate_limited" : "too_many_tokens", "limits", &err);
}
