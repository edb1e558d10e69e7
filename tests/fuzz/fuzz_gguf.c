/* fuzz_gguf.c - any bytes as a GGUF file: refused, or accepted and everything handed out lies inside the file. What is
 * accepted is written again, and that must parse to the same keys and tensors. Then it is opened as a model; one that
 * opens evaluates two tokens. */
#include "gguf_sane.h"
#include "nigh/engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(cond) do { if (!(cond)) __builtin_trap(); } while (0)

static void write_again(const nigh_gguf *g, size_t size) {
    nigh_buf out = NIGH_BUF(2 * size + 65536 * 64);
    nigh_gguf again;
    nigh_gguf_writer *w = nigh_gguf_writer_new();
    REQUIRE(w);
    for (size_t i = 0; i < g->value_count; i++) /* the writer aligns to 32, whatever the file did */
        if (!nigh_str_eq(g->values[i].key, NIGH_STR("general.alignment"))) nigh_gguf_put_value(w, &g->values[i]);
    for (size_t i = 0; i < g->tensor_count; i++) {
        const nigh_gguf_tensor *t = &g->tensors[i];
        nigh_gguf_put_tensor(w, t->name, t->type, t->dims, t->dim_count, t->data);
    }
    REQUIRE(nigh_gguf_finish(w, &out, NULL) == NIGH_OK);
    REQUIRE(nigh_gguf_parse(&again, nigh_buf_str(&out), NULL) == NIGH_OK);
    REQUIRE(again.tensor_count == g->tensor_count);
    for (size_t i = 0; i < g->tensor_count; i++) {
        const nigh_gguf_tensor *a = &g->tensors[i], *b = &again.tensors[i];
        REQUIRE(nigh_str_eq(a->name, b->name) && a->type == b->type && a->bytes == b->bytes
                && !memcmp(a->data, b->data, (size_t)a->bytes));
    }
    for (size_t i = 0; i < g->value_count; i++) {
        const nigh_gguf_value *a = &g->values[i], *b = nigh_gguf_find(&again, a->key);
        REQUIRE(!b
                || (b->type == a->type && b->item_type == a->item_type && b->count == a->count
                    && nigh_str_eq(a->bytes, b->bytes)));
        REQUIRE(b || nigh_str_eq(a->key, NIGH_STR("general.alignment")));
    }
    nigh_gguf_release(&again);
    nigh_gguf_writer_free(w);
    nigh_buf_release(&out);
}

static void run_model(const nigh_model *m) {
    nigh_session *s = NULL;
    nigh_runner *r = NULL;
    static const int32_t tokens[] = { 0, 0 };
    const nigh_model_info *about = nigh_model_about(m);
    if (about->encoder || about->context_tokens < 2) return;
    float *logits = nigh_alloc(sizeof *logits, about->vocab);
    if (logits && nigh_session_new(&s, m, 2, NULL) == NIGH_OK && nigh_runner_new(&r, m, NULL, 2, NULL) == NIGH_OK) {
        nigh_status status = nigh_runner_prompt(r, s, tokens, 2, logits, NULL);
        for (uint32_t i = 0; status == NIGH_OK && i < about->vocab; i++) REQUIRE(logits[i] - logits[i] == 0);
    }
    nigh_runner_free(r);
    nigh_session_free(s);
    nigh_free(logits);
}

static void open_model(const uint8_t *data, size_t size) {
    nigh_model *m = NULL;
    nigh_err err = { 0 };
    if (nigh_model_open(&m, (nigh_str){ (const char *)data, size }, (nigh_model_opts){ 0 }, &err) == NIGH_OK) {
        run_model(m);
        nigh_model_close(m);
    } else {
        REQUIRE(err.code != NIGH_OK && err.text[0]);
    }
}

/* The same model from pieces, after a head that may be too short. */
static void load_pieces(const uint8_t *data, size_t size) {
    nigh_loading *l;
    nigh_model *m;
    nigh_str head = { (const char *)data, size - size / 4 };
    nigh_status status = nigh_loading_new(&l, head, size, (nigh_model_opts){ 0 }, NULL);
    if (status == NIGH_ERANGE) {
        head.len = size;
        status = nigh_loading_new(&l, head, size, (nigh_model_opts){ 0 }, NULL);
    }
    if (status != NIGH_OK) return;
    uint64_t at, before = 0;
    status = nigh_loading_take(l, NULL);
    for (size_t bytes; status == NIGH_OK && nigh_loading_next(l, 64, &at, &bytes);) {
        REQUIRE(nigh_span_fits(at, bytes, size) && at >= before);
        before = at;
        status = nigh_loading_feed(l, data + at, NULL);
    }
    if (status == NIGH_OK) status = nigh_loading_end(&m, l, NULL);
    if (status == NIGH_OK) nigh_model_close(m);
    else nigh_loading_free(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    nigh_gguf g;
    nigh_err err = { 0 };
    if (nigh_gguf_parse(&g, (nigh_str){ (const char *)data, size }, &err) == NIGH_OK) {
        REQUIRE(sane_gguf(&g) == NULL);
        write_again(&g, size);
        nigh_gguf_release(&g);
        open_model(data, size);
    } else {
        REQUIRE(err.code != NIGH_OK && err.text[0]);
    }
    load_pieces(data, size);
    REQUIRE(nigh_alloc_live_bytes() == 0);
    return 0;
}
