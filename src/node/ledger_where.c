/* ledger_where.c - one record as four answers that a person understands: where did it go, who can read it, how long is
 * it kept, may it leave the region. Each says what the record says, and where the record says nothing, that. */
#include "node/ledger_parts.h"

enum { ANSWER_MAX = 16 << 10 };

static nigh_status say(nigh_buf *b, const char *text) { return nigh_buf_add(b, nigh_str_of(text)); }
static nigh_status name(nigh_buf *b, nigh_str s) { return nigh_buf_add(b, s.len ? s : NIGH_STR("(no name)")); }

static nigh_status say_bytes(nigh_buf *b, uint64_t n) {
    static const char *const units[] = { "KB", "MB", "GB", "TB" };
    if (n < 1000) return nigh_buf_addf(b, n == 1 ? "%llu byte" : "%llu bytes", (unsigned long long)n);
    double v = (double)n / 1000;
    size_t unit = 0;
    for (; v >= 999.95 && unit + 1 < NIGH_COUNT(units); unit++) v /= 1000;
    return nigh_buf_addf(b, "%.1f %s", v, units[unit]);
}

static nigh_status say_time(nigh_buf *b, uint64_t s) {
    static const struct { uint64_t seconds; const char *one, *many; } units[] = {
        { 86400, "day", "days" }, { 3600, "hour", "hours" }, { 60, "minute", "minutes" }, { 1, "second", "seconds" } };
    size_t i = 0;
    while (i + 1 < NIGH_COUNT(units) && s % units[i].seconds) i++;
    uint64_t n = s / units[i].seconds;
    return nigh_buf_addf(b, "%llu %s", (unsigned long long)n, n == 1 ? units[i].one : units[i].many);
}

/* Did anything of the request go to it? */
static bool got_something(const nigh_json *hop) {
    return !nigh_json_says(hop, "tier", "device") && nigh_json_count(hop, "bytes_out") > 0;
}

static const nigh_json *hops_of(const nigh_json *record) {
    return nigh_json_first(nigh_json_get(record, NIGH_STR("hops")));
}

static bool anything_left(const nigh_json *record) {
    for (const nigh_json *h = hops_of(record); h; h = h->next) if (got_something(h)) return true;
    return false;
}

/* "mid (edge, DE, 10.0.0.7)" */
static nigh_status say_place(nigh_buf *b, const nigh_json *hop) {
    nigh_str region = nigh_json_text(hop, "region"), address = nigh_json_text(hop, "address");
    NIGH_TRY(name(b, nigh_json_text(hop, "target")));
    NIGH_TRY(say(b, " ("));
    NIGH_TRY(name(b, nigh_json_text(hop, "tier")));
    NIGH_TRY(say(b, ", "));
    NIGH_TRY(region.len ? nigh_buf_add(b, region) : say(b, "region not stated"));
    if (address.len) NIGH_TRY(say(b, ", "));
    if (address.len) NIGH_TRY(nigh_buf_add(b, address));
    return say(b, ")");
}

static nigh_status say_model(nigh_buf *b, const nigh_json *hop) {
    nigh_str model = nigh_json_text(hop, "model"), hash = nigh_json_text(hop, "model_sha256");
    if (!model.len) return NIGH_OK;
    NIGH_TRY(say(b, " by the model "));
    NIGH_TRY(nigh_buf_add(b, model));
    return hash.len >= 12 ? nigh_buf_addf(b, " (sha256 %.12s...)", hash.ptr) : NIGH_OK;
}

static nigh_status say_traffic(nigh_buf *b, const nigh_json *hop) {
    NIGH_TRY(say_bytes(b, nigh_json_count(hop, "bytes_out")));
    NIGH_TRY(say(b, " out, "));
    NIGH_TRY(say_bytes(b, nigh_json_count(hop, "bytes_in")));
    return say(b, " back");
}

/* ---- where did it go ---- */

static nigh_status say_answered(nigh_buf *b, const nigh_json *record, const nigh_json *last) {
    nigh_str degraded = nigh_json_text(record, "degraded"), rule = nigh_json_text(record, "rule");
    if (nigh_json_says(record, "outcome", "queued")) NIGH_TRY(say(b, "It waits on this device for a line"));
    else if (nigh_json_says(record, "outcome", "error")) NIGH_TRY(say(b, "It was not answered"));
    else if (!last) NIGH_TRY(say(b, "It was answered on this device, without a model"));
    else if (nigh_json_says(last, "tier", "device")) {
        NIGH_TRY(say(b, "It was answered on this device"));
        NIGH_TRY(say_model(b, last));
    } else {
        NIGH_TRY(say(b, "It was answered by "));
        NIGH_TRY(say_place(b, last));
        NIGH_TRY(say_model(b, last));
    }
    if (nigh_json_says(record, "outcome", "error") && rule.len) {
        NIGH_TRY(say(b, ": "));
        NIGH_TRY(nigh_buf_add(b, rule));
    }
    if (degraded.len) {
        NIGH_TRY(say(b, ", degraded ("));
        NIGH_TRY(nigh_buf_add(b, degraded));
        NIGH_TRY(say(b, ")"));
    }
    return say(b, ".");
}

static nigh_status say_where(nigh_buf *b, const nigh_json *record) {
    const nigh_json *last = NULL;
    for (const nigh_json *h = hops_of(record); h; h = h->next) last = h;
    NIGH_TRY(say_answered(b, record, last));
    for (const nigh_json *h = hops_of(record); h; h = h->next) {
        if (!got_something(h)) continue;
        NIGH_TRY(say(b, " To "));
        NIGH_TRY(say_place(b, h));
        NIGH_TRY(say(b, ": "));
        NIGH_TRY(say_traffic(b, h));
        if (!nigh_json_says(h, "ended", "ok")) {
            NIGH_TRY(say(b, "; it ended with: "));
            NIGH_TRY(name(b, nigh_json_text(h, "ended")));
        }
        NIGH_TRY(say(b, "."));
    }
    const nigh_json *inner = nigh_json_get(record, NIGH_STR("inner"));
    if (inner && inner->type == NIGH_JSON_OBJECT)
        NIGH_TRY(say(b, " The other node's own receipt is part of this one."));
    return anything_left(record) ? NIGH_OK : say(b, " Nothing of it left this device.");
}

/* ---- who can read it ---- */

static nigh_status say_who(nigh_buf *b, const nigh_json *record) {
    uint64_t replaced = nigh_json_count(record, "redacted");
    const char *from = nigh_json_says(record, "to", "loopback") ? "from this machine"
                       : nigh_json_says(record, "to", "private") ? "from the local network"
                       : nigh_json_says(record, "to", "public") ? "from outside the local network"
                                                                : "from a place not recorded";
    NIGH_TRY(nigh_buf_addf(b, "Whoever asked, %s, and whoever runs this device.", from));
    for (const nigh_json *h = hops_of(record); h; h = h->next) {
        if (!got_something(h)) continue;
        NIGH_TRY(say(b, " Whoever runs "));
        NIGH_TRY(name(b, nigh_json_text(h, "target")));
        NIGH_TRY(say(b, nigh_json_true(h, "trains") ? ", which may train on it."
                                             : ", which says that it does not train on it."));
    }
    if (!anything_left(record)) return NIGH_OK;
    if (!replaced) return say(b, " Nothing was replaced before it left.");
    return nigh_buf_addf(b, " Before it left, %llu personal or secret value%s replaced.", (unsigned long long)replaced,
                         replaced == 1 ? " was" : "s were");
}

/* ---- how long is it kept ---- */

static nigh_status say_kept(nigh_buf *b, const nigh_json *record) {
    uint64_t output = nigh_json_count(record, "keep_output_s"), cache = nigh_json_count(record, "keep_cache_s");
    NIGH_TRY(say(b, "On this device: "));
    if (!output && !cache) NIGH_TRY(say(b, "neither the request nor the answer"));
    if (output) {
        NIGH_TRY(say(b, "the answer for at most "));
        NIGH_TRY(say_time(b, output));
    }
    if (cache) {
        NIGH_TRY(say(b, output ? ", in the cache for at most " : "the answer, in the cache, for at most "));
        NIGH_TRY(say_time(b, cache));
    }
    NIGH_TRY(say(b, ". This ledger holds no word of it."));
    for (const nigh_json *h = hops_of(record); h; h = h->next) {
        const nigh_json *kept = nigh_json_get(h, NIGH_STR("retention_s"));
        if (!got_something(h)) continue;
        NIGH_TRY(say(b, " "));
        NIGH_TRY(name(b, nigh_json_text(h, "target")));
        if (!kept || kept->type != NIGH_JSON_NUMBER) NIGH_TRY(say(b, " does not say how long it keeps what it got"));
        else if (!kept->integer) NIGH_TRY(say(b, " says that it keeps nothing"));
        else {
            NIGH_TRY(say(b, " says that it keeps what it got for "));
            NIGH_TRY(say_time(b, nigh_json_count(h, "retention_s")));
        }
        NIGH_TRY(say(b, "."));
    }
    return NIGH_OK;
}

/* ---- may it leave the region ---- */

static nigh_status say_regions(nigh_buf *b, const nigh_json *record) {
    bool first = true;
    if (!anything_left(record)) return say(b, " This one did not leave the device.");
    NIGH_TRY(say(b, " This one went to: "));
    for (const nigh_json *h = hops_of(record); h; h = h->next) {
        nigh_str region = nigh_json_text(h, "region");
        if (!got_something(h)) continue;
        if (!first) NIGH_TRY(say(b, ", "));
        NIGH_TRY(region.len ? nigh_buf_add(b, region) : say(b, "a region that is not stated"));
        first = false;
    }
    return say(b, ".");
}

static nigh_status say_leave(nigh_buf *b, const nigh_json *record) {
    uint64_t version = nigh_json_count(record, "policy_version");
    bool may = nigh_json_true(record, "may_leave_region");
    if (!version) NIGH_TRY(say(b, may ? "Yes: no policy was in force." : "No policy was in force; nothing but this "
                                        "device answers then."));
    else {
        NIGH_TRY(nigh_buf_addf(b, "%s: version %llu of the policy lets ", may ? "Yes" : "No",
                               (unsigned long long)version));
        NIGH_TRY(name(b, nigh_json_text(record, "feature")));
        NIGH_TRY(say(b, may ? " leave its region." : " reach no place outside its region."));
    }
    return say_regions(b, record);
}

/* ---- together ---- */

nigh_status nigh_ledger_explain(const nigh_json *record, nigh_buf *out) {
    static const struct { const char *key; nigh_status (*say)(nigh_buf *b, const nigh_json *record); } answers[] = {
        { "where", say_where }, { "who", say_who }, { "kept", say_kept }, { "leave", say_leave } };
    nigh_buf b = NIGH_BUF(ANSWER_MAX);
    nigh_status status = nigh_buf_add(out, NIGH_STR("{\"id\":"));
    if (status == NIGH_OK) status = nigh_json_add_string(out, nigh_json_text(record, "id"));
    if (status == NIGH_OK)
        status = nigh_buf_addf(out, ",\"at_ms\":%llu", (unsigned long long)nigh_json_count(record, "at_ms"));
    for (size_t i = 0; i < NIGH_COUNT(answers) && status == NIGH_OK; i++) {
        b.len = 0;
        status = answers[i].say(&b, record);
        if (status == NIGH_OK) status = nigh_buf_addf(out, ",\"%s\":", answers[i].key);
        if (status == NIGH_OK) status = nigh_json_add_string(out, nigh_buf_str(&b));
    }
    nigh_buf_release(&b);
    return status == NIGH_OK ? nigh_buf_add_char(out, '}') : status;
}
