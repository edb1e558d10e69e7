/* place_write.c - what is said of an answer: the field x-placement, the receipt in the body, the counters; and the ends
 * of a request, good and bad. No answer ends without its record.
 *
 *     x-placement: tier=edge;target=mid;region=DE;class=personal;why=local-first;degraded=0;out=312B;rid=rcpt-...
 *
 * In front of a stream the field says what is known then; the receipt in its last event says it all. */
#include "node/place_parts.h"

#include "base/os.h"

/* A region of the policy when it is just that; else the one country; else how many. */
const char *place_region(const nigh_policy *p, const nigh_target *t, char out[16]) {
    size_t count = 0;
    const char *none = t->tier == NIGH_TIER_DEVICE ? "here" : "not-stated";
    if (t->tier == NIGH_TIER_DEVICE || !t->has_area) { nigh_format(out, 16, "%s", none); return out; }
    for (size_t i = 0; i < p->country_count; i++) {
        if (!(t->area.bits[i / 64] >> (i % 64) & 1)) continue;
        if (!count++) nigh_format(out, 16, "%.*s", (int)nigh_min(p->countries[i].len, 15), p->countries[i].ptr);
    }
    if (count < 2) return out;
    for (size_t i = 0; i < p->region_count; i++)
        if (memcmp(&p->regions[i].area, &t->area, sizeof t->area) == 0) {
            nigh_format(out, 16, "%.*s", (int)nigh_min(p->regions[i].name.len, 15), p->regions[i].name.ptr);
            return out;
        }
    nigh_format(out, 16, "%zu-countries", count);
    return out;
}

/* Where the answer was made: an answer out of the cache was made here, whatever made it at first. */
typedef struct { nigh_str target; const char *tier; char region[16]; } origin;

static origin origin_of(const nigh_placed *pl) {
    const nigh_policy *p = pl->place->policy;
    origin o = { .target = NIGH_STR(""), .tier = "-" };
    nigh_format(o.region, sizeof o.region, "-");
    if (pl->t >= p->target_count) return o;
    o.target = p->targets[pl->t].name;
    o.tier = pl->from_cache ? "device" : nigh_tier_name(p->targets[pl->t].tier);
    if (pl->from_cache) nigh_format(o.region, sizeof o.region, "here");
    else (void)place_region(p, &p->targets[pl->t], o.region);
    return o;
}

static uint64_t bytes_out(const nigh_placed *pl) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < pl->hop_count; i++) bytes += pl->hops[i].bytes_out;
    return bytes;
}

/* Why this place: the rank, or the cache; and what became of those before it. */
void place_why(const nigh_placed *pl, char *out, size_t cap) {
    static const char *const ranks[] = { "local-first", "latency", "cost", "quality" };
    size_t last = pl->hop_count && pl->hops[pl->hop_count - 1].end == PLACE_OK;
    size_t n = nigh_format(out, cap, "%s", pl->from_cache ? "cache" : pl->f ? ranks[pl->f->rank] : "unknown-feature");
    for (size_t i = 0; i + last < pl->hop_count && n < cap; i++) {
        nigh_str name = pl->place->policy->targets[pl->hops[i].target_idx].name;
        n += nigh_format(out + n, cap - n, "+%.*s:%s", (int)nigh_min(name.len, 24), name.ptr,
            place_end_name((place_end)pl->hops[i].end));
    }
}

/* A name of the policy inside a field: no separator, nothing that is not plain ASCII. */
static void field_name(nigh_str name, char *out, size_t cap) {
    size_t n = 0;
    for (size_t i = 0; i < name.len && n + 1 < cap; i++) {
        char c = name.ptr[i];
        out[n++] = c > ' ' && c < 0x7f && c != ';' && c != '=' && c != ',' ? c : '_';
    }
    out[n] = '\0';
}

/* The older field, which every answer has. In front of a stream from elsewhere the bytes are those so far. */
static void old_head(nigh_placed *pl, const origin *o, bool whole) {
    nigh_answer *a = pl->a;
    char field[512];
    if (!a->model[0]) return;
    a->receipt.place = o->tier;
    a->receipt.model = a->model;
    a->receipt.model_sha256 = a->model_sha256;
    a->receipt.bytes_out = bytes_out(pl);
    a->receipt.ms = nigh_openai_us(a) / 1000;
    nigh_receipt_header(&a->receipt, whole, field, sizeof field);
    for (char *c = field; *c; c++) if (*c < ' ' || *c >= 0x7f) *c = '_';
    nigh_exchange_header(a->x, "nigh-receipt", field);
}

void place_head(nigh_placed *pl, bool whole) {
    const nigh_policy *p = pl->place->policy;
    origin o = origin_of(pl);
    char field[512], name[64], region[16], class[64], why[128], degraded[96], out[32] = "";
    if (!pl->a->x) return;
    field_name(o.target.len ? o.target : NIGH_STR("-"), name, sizeof name);
    field_name(nigh_str_of(o.region), region, sizeof region);
    field_name(p->classes[pl->d.class_idx].name, class, sizeof class);
    place_why(pl, why, sizeof why);
    for (char *c = why; *c; c++) if (*c <= ' ' || *c >= 0x7f || *c == ';') *c = '_';
    field_name(nigh_str_of(pl->degraded), degraded, sizeof degraded);
    if (whole) nigh_format(out, sizeof out, "out=%lluB;", (unsigned long long)bytes_out(pl));
    nigh_format(field, sizeof field, "tier=%s;target=%s;region=%s;class=%s;why=%s;degraded=%s;%srid=%s", o.tier, name,
        region, class, why, pl->degraded[0] ? degraded : "0", out, pl->a->receipt.id);
    nigh_exchange_header(pl->a->x, "x-placement", field);
    old_head(pl, &o, whole);
}

/* ---- the receipt ---- */

static nigh_status add_hop(nigh_buf *b, const nigh_policy *p, const place_hop *h) {
    const nigh_target *t = &p->targets[h->target_idx];
    char region[16];
    NIGH_TRY(nigh_buf_add(b, NIGH_STR("{\"target\":")));
    NIGH_TRY(nigh_json_add_string(b, t->name));
    NIGH_TRY(nigh_buf_addf(b,
        ",\"tier\":\"%s\",\"region\":\"%s\",\"ended\":\"%s\",\"bytes_out\":%llu,\"bytes_in\":%llu,"
        "\"first_ms\":%u,\"total_ms\":%u,\"http\":%u,\"address\":", nigh_tier_name(t->tier), place_region(p, t, region),
        place_end_name((place_end)h->end), (unsigned long long)h->bytes_out, (unsigned long long)h->bytes_in,
        h->first_ms, h->total_ms, h->http));
    NIGH_TRY(nigh_json_add_string(b, nigh_str_of(h->address)));
    return nigh_buf_add_char(b, '}');
}

static nigh_status add_policy_part(nigh_buf *b, const nigh_placed *pl) {
    const nigh_policy *p = pl->place->policy;
    char why[256];
    place_why(pl, why, sizeof why);
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"feature\":")));
    NIGH_TRY(nigh_json_add_string(b, pl->f ? pl->f->name : NIGH_STR("")));
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"class\":")));
    NIGH_TRY(nigh_json_add_string(b, p->classes[pl->d.class_idx].name));
    NIGH_TRY(nigh_buf_addf(b, ",\"policy_version\":%llu,\"redacted\":%u,\"why\":", (unsigned long long)p->version,
        pl->redacted));
    NIGH_TRY(nigh_json_add_string(b, nigh_str_of(why)));
    NIGH_TRY(nigh_buf_addf(b, ",\"degraded\":%s,\"degraded_how\":", pl->degraded[0] ? "true" : "false"));
    NIGH_TRY(nigh_json_add_string(b, nigh_str_of(pl->degraded)));
    if (pl->looked) {
        NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"confidence\":")));
        NIGH_TRY(nigh_json_add_f32(b, (float)pl->confidence));
    }
    if (pl->from_cache)
        NIGH_TRY(nigh_buf_addf(b, ",\"cache\":{\"age_s\":%llu,\"receipt\":\"%s\"}", (unsigned long long)pl->cache_age_s,
            pl->cache_receipt));
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"hops\":[")));
    for (size_t i = 0; i < pl->hop_count; i++) {
        if (i) NIGH_TRY(nigh_buf_add_char(b, ','));
        NIGH_TRY(add_hop(b, p, &pl->hops[i]));
    }
    NIGH_TRY(nigh_buf_add_char(b, ']'));
    if (!pl->inner.len) return NIGH_OK;
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"inner\":")));
    return nigh_buf_add(b, nigh_buf_str(&pl->inner));
}

nigh_status nigh_place_receipt(const nigh_placed *pl, nigh_buf *b) {
    const nigh_answer *a = pl->a;
    origin o = origin_of(pl);
    NIGH_TRY(nigh_buf_addf(b, "{\"id\":\"%s\",\"place\":\"%s\",\"tier\":\"%s\",\"target\":", a->receipt.id, o.tier,
        o.tier));
    NIGH_TRY(nigh_json_add_string(b, o.target));
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"region\":")));
    NIGH_TRY(nigh_json_add_string(b, nigh_str_of(o.region)));
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"model\":")));
    NIGH_TRY(nigh_json_add_string(b, nigh_str_of(a->model)));
    NIGH_TRY(nigh_buf_addf(b, ",\"model_sha256\":\"%s\",\"bytes_out\":%llu,\"to\":\"%s\",\"first_ms\":%u,\"ms\":%llu",
        a->model_sha256, (unsigned long long)bytes_out(pl), a->receipt.to, pl->first_ms,
        (unsigned long long)(nigh_openai_us(a) / 1000)));
    NIGH_TRY(add_policy_part(b, pl));
    return nigh_buf_add_char(b, '}');
}

/* ---- ends ---- */

void place_count(nigh_placed *pl, bool answered) {
    nigh_place *p = pl->place;
    size_t f = pl->ask.feature_idx < p->policy->feature_count ? pl->ask.feature_idx : NIGH_FEATURES_MAX;
    pthread_mutex_lock(&p->lock);
    p->features[f].answers += answered;
    p->features[f].errors += !answered;
    p->features[f].degraded += answered && pl->degraded[0];
    if (answered && pl->t < NIGH_TARGETS_MAX) p->features[f].on_target[pl->t]++;
    pthread_mutex_unlock(&p->lock);
}

void place_answer(nigh_placed *pl) {
    nigh_answer *a = pl->a;
    nigh_err err = { 0 };
    place_land(pl, true);
    if (!place_record(pl, "answered", &err)) { place_error(pl, 503, "ledger", NULL, err.text); return; }
    place_count(pl, true);
    a->receipt.ms = nigh_openai_us(a) / 1000;
    if (a->r.stream && !a->begun) {     /* it was held back, or there was no text */
        place_head(pl, true);
        nigh_openai_begin_stream(a);
        for (size_t i = 0; i < a->choice_count && !a->r.echo; i++) nigh_openai_replay(a, i);
    } else if (!a->begun) place_head(pl, true);
    nigh_openai_end_well(a);
    place_capture(pl);
    if (pl->queue_id[0]) place_drained(pl, a->broken ? 503 : 200, "not enough memory");
    place_over(pl);
}

void place_error(nigh_placed *pl, int http, const char *code, const char *param, const char *text) {
    nigh_err err = { 0 };
    char rule[96];
    place_land(pl, false);
    place_count(pl, false);
    if (!pl->rule[0]) nigh_format(pl->rule, sizeof pl->rule, "%s", code ? code : "error");
    nigh_format(rule, sizeof rule, "%s", param ? param : "");   /* it may lie in pl */
    if (!pl->queue_id[0] && !place_record(pl, "error", &err) && !pl->a->begun) { http = 503; code = "ledger"; }
    if (!pl->a->begun) {                /* nobody answered */
        pl->t = UINT32_MAX;
        pl->a->model = "";
        place_head(pl, true);
    }
    if (pl->queue_id[0]) place_drained(pl, http, text);
    nigh_openai_end_in_error(pl->a, http, code, rule[0] ? rule : NULL, text);
    place_over(pl);
}

void place_unref(nigh_placed *pl) {
    if (atomic_fetch_sub(&pl->refs, 1) != 1) return;
    nigh_redactor_free(pl->redactor);
    nigh_buf_release(&pl->inner);
    nigh_buf_release(&pl->sent);
    nigh_buf_release(&pl->caught);
    nigh_buf_release(&pl->before);
    nigh_buf_release(&pl->unsure);
    nigh_free(pl->arguments);
    nigh_free(pl->queue_rights);
    nigh_free(pl);
}

void place_over(nigh_placed *pl) {
    nigh_openai_over(pl->a);
    place_unref(pl);
}
