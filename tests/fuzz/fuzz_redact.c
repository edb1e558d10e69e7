/* Any bytes: findings lie in the text, in order; what was redacted comes back whole, in pieces of any size. */
#include <stdlib.h>

#include "place/policy.h"
#include "place/redact.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    nigh_str text = { (const char *)data, size };
    nigh_redactor *r;
    nigh_buf away = NIGH_BUF(1 << 24), back = NIGH_BUF(1 << 24);
    if (nigh_redactor_new(&r, 0x1234567, NULL) != NIGH_OK) return 0;
    size_t step = size ? 1 + data[0] % 7 : 1;
    nigh_restorer s = { .r = r };
    if (nigh_redact(r, ~0u, text, &away, NULL, NULL) == NIGH_OK) {
        for (size_t i = 0; i < away.len; i += step)
            if (nigh_restore_add(&s, nigh_str_slice(nigh_buf_str(&away), i, i + step), &back) != NIGH_OK) abort();
        if (nigh_restore_end(&s, &back) != NIGH_OK || !nigh_str_eq(nigh_buf_str(&back), text)) abort();
    }
    nigh_redactor_free(r);
    nigh_buf_release(&away);
    nigh_buf_release(&back);
    return 0;
}
