/* test_gguf_model.c - bad files as models: every group of bad files, the sweeps, and an empty memory go through
 * nigh_model_open. What opens must also survive being run: three tokens give finite numbers or an error, whatever the
 * weights hold. */
#include <math.h>

#include "gguf_cases.h"
#include "nigh/engine.h"
#include "base/base.h"
#include "test.h"

static struct { size_t shown, refused, opened, ran; } tally;

/* Evaluates three tokens. Fails only as the header says. */
static void run_model(const char *id, const nigh_model *m) {
    nigh_session *s = NULL;
    nigh_runner *r = NULL;
    nigh_err err = { 0 };
    static const int32_t tokens[] = { 0, 0, 0 };
    const nigh_model_info *about = nigh_model_about(m);
    if (about->encoder || about->vocab == 0 || about->context_tokens < 3) return;
    float *logits = nigh_alloc(sizeof *logits, about->vocab);
    nigh_status status = logits ? nigh_session_new(&s, m, 3, &err) : NIGH_ENOMEM;
    if (status == NIGH_OK) status = nigh_runner_new(&r, m, NULL, 4, &err);
    if (status == NIGH_OK) status = nigh_runner_prompt(r, s, tokens, 3, logits, &err);
    CHECK_MSG(status == NIGH_OK || status == NIGH_EDATA || status == NIGH_ENOMEM, "%s: %d %s", id, status, err.text);
    for (uint32_t i = 0; status == NIGH_OK && i < about->vocab; i++)
        CHECK_MSG(isfinite(logits[i]), "%s: logit %u", id, i);
    tally.ran += status == NIGH_OK;
    nigh_runner_free(r);
    nigh_session_free(s);
    nigh_free(logits);
}

static void visit(void *ud, const char *id, gc_want want, const uint8_t *bytes, size_t len) {
    nigh_model *m = NULL;
    nigh_err err = { 0 };
    size_t live = nigh_alloc_live_bytes();
    (void)ud;
    tally.shown++;
    nigh_status status = nigh_model_open(&m, (nigh_str){ (const char *)bytes, len }, (nigh_model_opts){ 0 }, &err);
    if (status == NIGH_OK) {
        tally.opened++;
        CHECK_MSG(want == GC_GOOD || want == GC_ANY, "%s was opened", id);
        run_model(id, m);
        nigh_model_close(m);
    } else {
        tally.refused++;
        CHECK_MSG(want != GC_GOOD, "%s was refused: %s", id, err.text);
        CHECK_MSG(status == NIGH_EDATA || status == NIGH_ENOSUP, "%s: status %d %s", id, status, err.text);
        CHECK_MSG(err.code == status && err.text[0], "%s: no words", id);
    }
    CHECK_MSG(nigh_alloc_live_bytes() == live, "%s leaks", id);
}

static gc_file *seed_file(void) {
    gc_model *m = malloc(sizeof *m);
    gc_file *f = malloc(sizeof *f);
    if (!m || !f) abort();
    gc_seed(m);
    gc_write(m, f);
    gc_release(m);
    free(m);
    return f;
}

static void show_tally(const char *what) {
    printf("  %s: %zu inputs, %zu refused, %zu opened, %zu ran\n", what, tally.shown, tally.refused, tally.opened,
           tally.ran);
    CHECK(tally.shown > 0 && tally.ran > 0);
    memset(&tally, 0, sizeof tally);
}

static void test_groups(void) {
    gc_cases_each(visit, NULL);
    show_tally("groups");
}

static void test_sweeps(void) {
    gc_file *f = seed_file();
    gc_sweep_fields(visit, NULL, f);
    show_tally("integers");
    gc_sweep_bytes(visit, NULL, f, 24, f->data_at, 3);
    show_tally("bytes");
    printf("  seed %llu (NIGH_SEED)\n", (unsigned long long)test_seed());
    gc_sweep_splices(visit, NULL, f, 1000, test_seed());
    show_tally("splices");
    gc_clear(&f->bytes);
    free(f);
}

static void test_no_memory(void) {
    gc_file *f = seed_file();
    size_t live = nigh_alloc_live_bytes();
    for (int forever = 0; forever < 2; forever++) {
        nigh_status status = NIGH_ENOMEM;
        uint64_t n = 0;
        while (status == NIGH_ENOMEM && n++ < 10000) {
            nigh_model *m = NULL;
            nigh_err err = { 0 };
            nigh_alloc_fail_at(n, forever);
            status = nigh_model_open(&m, (nigh_str){ (const char *)f->bytes.ptr, f->bytes.len },
                                     (nigh_model_opts){ 0 }, &err);
            nigh_alloc_fail_at(0, false);
            CHECK_MSG(status == NIGH_OK || (status == NIGH_ENOMEM && err.text[0]), "allocation %llu: %d",
                      (unsigned long long)n, status);
            if (status == NIGH_OK) nigh_model_close(m);
            CHECK_MSG(nigh_alloc_live_bytes() == live, "allocation %llu leaks", (unsigned long long)n);
        }
        printf("  %llu allocations, %s\n", (unsigned long long)n - 1,
               forever ? "one and all after it fail" : "each fails once");
        CHECK(status == NIGH_OK && n > 5);
    }
    gc_clear(&f->bytes);
    free(f);
}

TEST_MAIN(T(test_groups), T(test_sweeps), T(test_no_memory))
