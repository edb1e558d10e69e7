/* fuzz_json.c - any bytes: parse; what is taken is printed, parsed again and must print the same. */
#include <stdlib.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    nigh_json_doc doc, again;
    nigh_buf first = NIGH_BUF(1 << 26), second = NIGH_BUF(1 << 26);
    if (nigh_json_parse(&doc, (nigh_str){ (const char *)data, size }, NULL) != NIGH_OK) return 0;
    if (nigh_json_add_value(&first, doc.root) != NIGH_OK) abort();
    if (nigh_json_parse(&again, nigh_buf_str(&first), NULL) != NIGH_OK) abort();
    if (nigh_json_add_value(&second, again.root) != NIGH_OK) abort();
    if (!nigh_str_eq(nigh_buf_str(&first), nigh_buf_str(&second))) abort();
    nigh_json_release(&doc);
    nigh_json_release(&again);
    nigh_buf_release(&first);
    nigh_buf_release(&second);
    return 0;
}
