/* A receipt is a file from outside: any bytes are refused, or hold; and what it says is explained in a bounded way. */
#include <stdlib.h>

#include "node/ledger_parts.h"

static void explain(const nigh_json *record) {
    nigh_buf b = NIGH_BUF(1 << 20);
    nigh_json_doc doc;
    if (nigh_ledger_explain(record, &b) == NIGH_OK) {
        if (nigh_json_parse(&doc, nigh_buf_str(&b), NULL) != NIGH_OK) abort();
        nigh_json_release(&doc);
    }
    nigh_buf_release(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    nigh_json_doc doc;
    nigh_receipt_proof proof;
    nigh_err err = { 0 };
    if (nigh_json_parse(&doc, (nigh_str){ (const char *)data, size }, NULL) != NIGH_OK) return 0;
    nigh_status status = nigh_ledger_check_receipt(doc.root, NULL, &proof, &err);
    if (status != NIGH_OK && !err.text[0]) abort();
    if (status == NIGH_OK && (proof.n == 0 || proof.n > proof.head_n)) abort();
    const nigh_json *record = nigh_json_get(doc.root, NIGH_STR("record"));
    explain(record ? record : doc.root);
    nigh_json_release(&doc);
    return 0;
}
