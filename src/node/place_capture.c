/* place_capture.c - hands what was asked and answered to the captures that the policy names (capture.h). Where it names
 * none, which is nearly everywhere, nothing here does anything. A capture that cannot be written does not stop an
 * answer: it is there to look at answers, not the other way round. */
#include "base/os.h"
#include "node/place_parts.h"

enum { CAPTURED_MAX = 8 << 20 };

nigh_status place_capture_open(nigh_place *p, const nigh_node_opts *o, nigh_err *err) {
    char folder[4096];
    bool wanted = p->policy && p->policy->capture_count;
    if (!o->home && wanted)
        return nigh_fail(err, NIGH_EINVAL, 0, "the policy names a capture, but there is no folder to keep it in");
    if (!o->home || !p->policy) return NIGH_OK;
    nigh_format(folder, sizeof folder, "%s/captures", o->home);
    return nigh_captures_open(&p->captures, p->policy, folder, err);
}

bool place_captured(const nigh_placed *pl) {
    if (!pl->place->captures || !pl->f) return false;
    return nigh_captures_want(pl->place->captures, pl->ask.feature_idx, nigh_str_of(pl->a->rights->tenant),
                              nigh_os_unix_ms() / 1000);
}

void place_catch(nigh_placed *pl, nigh_str text) {
    if (!pl->catches) return;
    if (!pl->caught.limit) pl->caught = NIGH_BUF(CAPTURED_MAX);
    if (nigh_buf_add(&pl->caught, text) != NIGH_OK) pl->catches = false;     /* too long: what there is stays */
}

static void wipe(nigh_buf *b) {
    if (b->ptr) memset(b->ptr, 0, b->len);
    nigh_buf_release(b);
}

void place_capture(nigh_placed *pl) {
    nigh_answer *a = pl->a;
    nigh_buf request = NIGH_BUF(CAPTURED_MAX);
    nigh_err err = { 0 };
    if (!place_captured(pl)) return;
    if (a->r.doc.root && nigh_json_add_value(&request, a->r.doc.root) != NIGH_OK) request.len = 0;
    nigh_buf *text = &a->out;           /* the whole answer, as it went out */
    if (a->r.stream) text = pl->caught.len || !a->choice_count ? &pl->caught : &a->choices[0].text;
    nigh_captured what = { .feature_idx = pl->ask.feature_idx, .tenant = nigh_str_of(a->rights->tenant),
                           .receipt = nigh_str_of(a->receipt.id), .request = nigh_buf_str(&request),
                           .answer = nigh_buf_str(text),
                           .now_s = nigh_os_unix_ms() / 1000 };
    (void)!nigh_captures_add(pl->place->captures, &what, &err);
    wipe(&request);
    wipe(&pl->caught);
}
