/* test_learn_export.c - what learn writes is what the engine runs: the same ids for the same text, the same loss. */
#define _GNU_SOURCE
#include <math.h>

#include "engine/tokenizer.h"
#include "kernel/kernel.h"
#include "learn/export.h"
#include "learn_made.h"
#include "nigh/engine.h"

enum { WINDOW = 48 };

static const char text[] = "Tom saw a red ball. \"It's mine,\" he said; they'll find 12 of them.\n"
    "The old man  sold\tbread\n\n\xe2\x80\x9cYes\xe2\x80\x9d \xe2\x80\x94 caf\xc3\xa9 na\xc3\xafve, \xc2\xbd cup!   ";

static nigh_recipe tiny(void) {
    nigh_recipe r = nigh_recipe_default();
    r.shape = (nigh_shape){ .vocab = 500, .dim = 64, .layers = 3, .heads = 4, .kv_heads = 2, .ff = 96,
        .window = WINDOW, .rope_base = 10000.0f, .eps = 1e-5f };
    r.batch = 8, r.warmup = 0, r.decay = 0, r.steps = 1;
    return r;
}

/* A vocabulary from made text and a state with weights larger than those of a beginning, so that a mistake shows. */
static nigh_bpe *make(nigh_state *s, char *made) {
    uint64_t seed = test_seed();
    nigh_recipe r = tiny();
    nigh_bpe *b = nigh_bpe_new();
    made_document(made, 60, &seed);
    CHECK(nigh_bpe_add(b, nigh_str_of(made), 1) == NIGH_OK && nigh_bpe_add(b, nigh_str_of(text), 0) == NIGH_OK);
    CHECK(nigh_bpe_learn(b, r.shape.vocab) == NIGH_OK);
    CHECK(nigh_state_new(s, &r, b) == NIGH_OK);
    for (size_t i = 0; i < s->count; i++) s->params[i] *= 2.5f + (float)(i % 7) * 0.1f;
    return b;
}

static void test_ids(void) {
    char *made = malloc(60 * MADE_LINE);
    uint16_t *want = malloc(60 * MADE_LINE * sizeof *want);
    nigh_state s;
    nigh_bpe *b = make(&s, made);
    nigh_buf file = NIGH_BUF(1 << 24);
    nigh_gguf g;
    nigh_tokenizer *t = NULL;
    nigh_err err = { 0 };
    CHECK(nigh_export(&s, (nigh_export_opts){ .type = NIGH_TYPE_F32 }, &file, &err) == NIGH_OK);
    CHECK_MSG(nigh_gguf_parse(&g, nigh_buf_str(&file), &err) == NIGH_OK, "%s", err.text);
    CHECK_MSG(nigh_tokenizer_open(&t, &g, &err) == NIGH_OK, "%s", err.text);
    CHECK(nigh_tokenizer_count(t) == s.recipe.shape.vocab && nigh_tokenizer_bos(t) == NIGH_BPE_END);
    const char *const both[] = { made, text };
    for (size_t i = 0; i < 2; i++) {
        nigh_ids got = NIGH_IDS(1 << 20);
        size_t len = 0;
        nigh_bpe_encode(b, nigh_str_of(both[i]), want, &len);
        CHECK(nigh_tokenizer_encode(t, nigh_str_of(both[i]), (nigh_encode_opts){ false, false }, &got, &err) ==
              NIGH_OK);
        bool same = got.len == len;
        for (size_t j = 0; same && j < len; j++) same = got.ptr[j] == want[j];
        CHECK_MSG(
            same, "text %zu: %zu ids, learn has %zu (seed %llu)", i, got.len, len, (unsigned long long)test_seed());
        nigh_ids_release(&got);
    }
    nigh_tokenizer_close(t);
    nigh_gguf_release(&g);
    nigh_buf_release(&file);
    nigh_state_release(&s);
    nigh_bpe_free(b);
    free(made);
    free(want);
}

/* Loss of one window in nats a token, from the engine's logits. */
static double engine_loss(nigh_str file, const uint16_t *ids, size_t vocab) {
    nigh_model *m;
    nigh_session *s;
    nigh_runner *r;
    nigh_err err = { 0 };
    int32_t tokens[WINDOW];
    float *logits = malloc(WINDOW * vocab * sizeof *logits);
    double loss = 0;
    for (size_t i = 0; i < WINDOW; i++) tokens[i] = ids[i];
    nigh_status status = nigh_model_open(&m, file, (nigh_model_opts){ .cpu = nigh_cpu_detect() }, &err);
    CHECK_MSG(status == NIGH_OK, "%s", err.text);
    if (status != NIGH_OK) return NAN;
    const nigh_session_opts exact = { .cache = NIGH_CACHE_F32 };     /* as the training computes it */
    CHECK(nigh_session_new_as(&s, m, exact, &err) == NIGH_OK && nigh_runner_new(&r, m, NULL, 0, &err) == NIGH_OK);
    CHECK(nigh_runner_eval(r, &(nigh_batch_item){ s, tokens, WINDOW, true, logits }, 1, &err) == NIGH_OK);
    for (size_t i = 0; i < WINDOW; i++) {
        double sum = 0, at = (double)logits[i * vocab + ids[i + 1]];
        for (size_t j = 0; j < vocab; j++) sum += exp((double)logits[i * vocab + j] - at);
        loss += log(sum) / WINDOW;
    }
    nigh_runner_free(r);
    nigh_session_free(s);
    nigh_model_close(m);
    free(logits);
    return loss;
}

static void test_loss(void) {
    char *made = malloc(60 * MADE_LINE);
    nigh_state s;
    nigh_bpe *b = make(&s, made);
    uint16_t ids[WINDOW + 1];
    uint64_t seed = test_seed();
    nigh_err err;
    for (size_t i = 0; i <= WINDOW; i++) ids[i] = (uint16_t)(test_rand(&seed) % nigh_bpe_count(b));
    nigh_net *n = nigh_net_new(&s.recipe.shape, 1, nigh_gemm_plain);
    double want = nigh_net_loss(n, s.params, ids, NULL, 0) / WINDOW;
    const struct { nigh_type type; double bound; } cases[] = {
        { NIGH_TYPE_F32, 1e-5 }, { NIGH_TYPE_F16, 5e-3 }, { NIGH_TYPE_BF16, 3e-2 }, { NIGH_TYPE_Q8_0, 1e-1 } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) {
        nigh_buf file = NIGH_BUF(1 << 24);
        CHECK(nigh_export(&s, (nigh_export_opts){ .type = cases[i].type }, &file, &err) == NIGH_OK);
        double got = engine_loss(nigh_buf_str(&file), ids, s.recipe.shape.vocab);
        CHECK_MSG(fabs(got - want) < cases[i].bound * want, "%s: engine %.7f, learn %.7f",
            nigh_type_name((uint32_t)cases[i].type), got, want);
        if (getenv("NIGH_RATE"))
            printf("%s: engine %.7f, learn %.7f\n", nigh_type_name((uint32_t)cases[i].type), got, want);
        nigh_buf_release(&file);
    }
    CHECK(nigh_export(&s, (nigh_export_opts){ .type = NIGH_TYPE_Q6_K }, &(nigh_buf){ .limit = 1 << 24 }, &err) ==
          NIGH_EINVAL);
    nigh_net_free(n);
    nigh_state_release(&s);
    nigh_bpe_free(b);
    free(made);
}

TEST_MAIN(T(test_ids), T(test_loss))
