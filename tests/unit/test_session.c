/* test_session.c - what a session leaves behind: nothing, once it is wiped. */
#define _GNU_SOURCE
#include "model_files.h"

#include "engine/session.h"

enum { TOKENS = 150, CONTEXT = 200 };

static size_t left_in(const nigh_session *s) {
    size_t found = 0;
    for (size_t i = 0; i < s->cache_bytes; i++) found += s->cache[i] != 0;
    for (size_t i = 0; i < s->limit; i++) found += s->tokens[i] != 0;
    return found;
}

static void make_prompt(int32_t *ids, uint32_t seed) {
    for (uint32_t i = 0; i < TOKENS; i++) ids[i] = (int32_t)(1 + (i * 7 + seed * 31) % 500);
}

/* Read, cut short, copied into, begun anew: wiped, all of it is zero, and what comes next is as in a new session. */
static void test_wipe(void) {
    static const nigh_cache kinds[] = { NIGH_CACHE_F16, NIGH_CACHE_F32, NIGH_CACHE_Q8_0 };
    nigh_model *m = model_file_open("stories260K-q8_0.gguf", NULL, nigh_cpu_detect());
    if (!m) TEST_SKIP("the reference models are not here");
    nigh_err err = { 0 };
    nigh_runner *r = NULL;
    int32_t a[TOKENS], b[TOKENS];
    size_t vocab = nigh_model_about(m)->vocab, tried = 0;
    float *after = nigh_alloc(vocab, sizeof *after), *fresh = nigh_alloc(vocab, sizeof *fresh);
    make_prompt(a, 1);
    make_prompt(b, 2);
    CHECK(nigh_runner_new(&r, m, NULL, 64, &err) == NIGH_OK);
    for (size_t k = 0; k < NIGH_COUNT(kinds); k++)
        for (int how = 0; how < 4; how++) {
            nigh_session_opts o = { .context_tokens = CONTEXT, .cache = kinds[k] };
            nigh_session *s = NULL, *other = NULL, *new = NULL;
            if (nigh_session_new_as(&s, m, o, &err) != NIGH_OK) continue;      /* heads too narrow for q8_0 */
            CHECK(nigh_session_new_as(&other, m, o, &err) == NIGH_OK);
            CHECK(nigh_session_new_as(&new, m, o, &err) == NIGH_OK);
            CHECK(nigh_runner_prompt(r, how == 2 ? other : s, a, TOKENS, after, &err) == NIGH_OK);
            if (how == 1) nigh_session_truncate(s, 3);
            if (how == 2) CHECK(nigh_session_copy_prefix(s, other, TOKENS - 5, &err) == NIGH_OK);
            if (how == 3) CHECK(nigh_session_reuse(s, b, TOKENS) == 0);
            CHECK(left_in(s) > 1000);
            nigh_session_wipe(s);
            CHECK_MSG(left_in(s) == 0 && nigh_session_count(s) == 0, "%zu bytes are left, case %d", left_in(s), how);
            CHECK(nigh_runner_prompt(r, s, b, TOKENS, after, &err) == NIGH_OK);
            CHECK(nigh_runner_prompt(r, new, b, TOKENS, fresh, &err) == NIGH_OK);
            CHECK(memcmp(after, fresh, vocab * sizeof *fresh) == 0);
            nigh_session_free(s);
            nigh_session_free(other);
            nigh_session_free(new);
            tried++;
        }
    CHECK(tried >= 8);
    nigh_free(after);
    nigh_free(fresh);
    nigh_runner_free(r);
    nigh_model_close(m);
}

TEST_MAIN(T(test_wipe))
