/* receipt.c - a receipt as a header and as JSON, of an answer to a plain request. What a feature's receipt says
 * besides, place_write.c adds. */
#include "node/receipt.h"

#include "base/json.h"
#include "base/os.h"

void nigh_receipt_init(nigh_receipt *r, const char *model, const char *model_sha256, const char *to) {
    uint64_t random = nigh_os_random_name();
    *r = (nigh_receipt){ .place = "device", .model = model, .model_sha256 = model_sha256, .to = to };
    nigh_format(r->id, sizeof r->id, "rcpt-%08x%08x", (unsigned)(random >> 32), (unsigned)random);
}

void nigh_receipt_header(const nigh_receipt *r, bool with_ms, char *out, size_t cap) {
    size_t n = nigh_format(out, cap, "place=%s; model=%s%s%s; out=%lluB; to=%s; ", r->place, r->model,
                           r->model_sha256[0] ? "@sha256:" : "", r->model_sha256, (unsigned long long)r->bytes_out,
                           r->to);
    if (n >= cap) return;
    if (with_ms) n += nigh_format(out + n, cap - n, "ms=%llu; ", (unsigned long long)r->ms);
    if (n < cap) nigh_format(out + n, cap - n, "id=%s", r->id);
}

nigh_status nigh_receipt_json(const nigh_receipt *r, nigh_buf *out) {
    NIGH_TRY(nigh_buf_addf(out, "{\"id\":\"%s\",\"place\":\"%s\",\"model\":", r->id, r->place));
    NIGH_TRY(nigh_json_add_string(out, nigh_str_of(r->model)));
    return nigh_buf_addf(out,
        ",\"model_sha256\":\"%s\",\"bytes_out\":%llu,\"to\":\"%s\",\"ms\":%llu,\"degraded\":%s}", r->model_sha256,
                         (unsigned long long)r->bytes_out, r->to, (unsigned long long)r->ms, r->degraded ? "true"
                             : "false");
}
