/* test_learn_checkpoint.c - checkpoints under attack: kill -9 at any moment, damaged bytes, no memory. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "base/os.h"
#include "learn/export.h"
#include "learn_made.h"

static nigh_recipe tiny(void) {
    nigh_recipe r = nigh_recipe_default();
    r.shape = (nigh_shape){ .vocab = 300, .dim = 32, .layers = 1, .heads = 2, .kv_heads = 1, .ff = 32,
        .window = 16, .rope_base = 10000.0f, .eps = 1e-5f };
    r.batch = 8, r.warmup = 3, r.decay = 10, r.steps = 40, r.rate = 5e-3f;
    return r;
}

/* Trains from the checkpoint, or from the start, to the end; saves after every step. Exits 0 when done. */
static void train_to_the_end(const char *folder, const char *checkpoint) {
    char path[80];
    nigh_recipe r = tiny();
    nigh_corpus c = { 0 };
    nigh_state s;
    nigh_bpe *bpe = nigh_bpe_new();
    nigh_feed feed = { .window = r.shape.window, .seed = r.seed };
    snprintf(path, sizeof path, "%s/made.txt", folder);
    if (nigh_corpus_add(&c, path, NULL) != NIGH_OK || nigh_corpus_split(&c, 100, NULL) != NIGH_OK
        || nigh_feed_make(&feed, bpe, &c, r.shape.vocab, NULL) != NIGH_OK) _exit(3);
    nigh_trainer *t = nigh_trainer_new(&r, &feed, NULL, nigh_gemm_find(nigh_gemm_best(false)));
    nigh_status status = nigh_file_exists(checkpoint) ? nigh_state_load(&s, checkpoint, NULL)
        : nigh_state_new(&s, &r, bpe);
    if (status != NIGH_OK) _exit(4);                    /* a kill left a damaged file: what must not be */
    while (s.step < r.steps) {
        nigh_trainer_step(t, &s);
        if (nigh_state_save(&s, checkpoint, NULL) != NIGH_OK) _exit(5);
    }
    _exit(0);
}

/* Runs it in a child that is killed after us microseconds (0: never). Gives its exit code, or -1 when the kill
 * came first. */
static int run_child(const char *folder, const char *checkpoint, unsigned us) {
    int status;
    pid_t pid = fork();
    if (pid == 0) train_to_the_end(folder, checkpoint);
    if (us) {
        struct timespec wait = { us / 1000000, us % 1000000 * 1000 };
        nanosleep(&wait, NULL);
        kill(pid, SIGKILL);
    }
    if (waitpid(pid, &status, 0) != pid) return -2;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_kill(void) {
    char folder[64], straight[80], torn[80];
    uint64_t seed = test_seed();
    nigh_state a, b;
    nigh_err err;
    int kills = 0, code = -1;
    made_corpus(folder, 30, 1);
    snprintf(straight, sizeof straight, "%s/straight", folder);
    snprintf(torn, sizeof torn, "%s/torn", folder);
    uint64_t begin = nigh_os_now_ns();
    CHECK(run_child(folder, straight, 0) == 0);
    unsigned whole = (unsigned)((nigh_os_now_ns() - begin) / 1000);
    for (int tries = 0; tries < 200 && code == -1; tries++) {
        code = run_child(folder, torn, kills < 12 ? whole / 20 + (unsigned)(test_rand(&seed) % (whole / 3))
            : 0);
        kills += code == -1;
    }
    CHECK_MSG(code == 0 && kills >= 1, "ended with %d after %d kills (seed %llu)", code, kills,
        (unsigned long long)test_seed());
    CHECK_MSG(nigh_state_load(&a, straight, &err) == NIGH_OK, "%s", err.text);
    CHECK_MSG(nigh_state_load(&b, torn, &err) == NIGH_OK, "%s", err.text);
    CHECK(a.step == 40 && b.step == 40 && a.count == b.count);
    CHECK(memcmp(a.params, b.params, a.count * 4) == 0 && memcmp(a.m, b.m, a.count * 4) == 0
        && memcmp(a.v, b.v, a.count * 4) == 0);
    nigh_state_release(&a);
    nigh_state_release(&b);
    made_remove(folder);
}

static void make_state(nigh_state *s) {
    nigh_recipe r = tiny();
    nigh_bpe *bpe = nigh_bpe_new();
    char text[4096];
    uint64_t seed = 5;
    made_document(text, 5, &seed);
    CHECK(nigh_bpe_add(bpe, nigh_str_of(text), 1) == NIGH_OK && nigh_bpe_learn(bpe, r.shape.vocab) == NIGH_OK);
    CHECK(nigh_state_new(s, &r, bpe) == NIGH_OK);
    nigh_bpe_free(bpe);
}

static void write_plain(const char *path, const char *bytes, size_t len) {
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(bytes, 1, len, f) == len && fclose(f) == 0);
}

/* Any flipped byte, any shorter length: a refusal with words. */
static void test_damage(void) {
    char folder[64], path[80];
    nigh_state s, got;
    nigh_err err;
    nigh_buf file = NIGH_BUF(1 << 24);
    uint64_t seed = test_seed();
    made_folder(folder);
    snprintf(path, sizeof path, "%s/c", folder);
    make_state(&s);
    CHECK(nigh_state_save(&s, path, &err) == NIGH_OK && nigh_file_read(&file, path, &err) == NIGH_OK);
    for (size_t i = 0; i < 400; i++) {
        size_t at = i < 200 ? i : test_rand(&seed) % file.len;
        char kept = file.ptr[at];
        file.ptr[at] = (char)(kept ^ (1 << test_rand(&seed) % 8));
        write_plain(path, file.ptr, file.len);
        nigh_status status = nigh_state_load(&got, path, &err);
        CHECK_MSG((status == NIGH_EDATA || status == NIGH_ENOSUP) && err.text[0], "byte %zu: status %d", at,
            status);
        file.ptr[at] = kept;
        write_plain(path, file.ptr, i < 200 ? i : at);
        status = nigh_state_load(&got, path, &err);
        CHECK_MSG(status == NIGH_EDATA && err.text[0], "cut at %zu: status %d", at, status);
    }
    write_plain(path, file.ptr, file.len);
    CHECK(nigh_state_load(&got, path, &err) == NIGH_OK && memcmp(got.params, s.params, s.count * 4) == 0);
    nigh_state_release(&got);
    nigh_state_release(&s);
    nigh_buf_release(&file);
    made_remove(folder);
}

/* Every allocation fails once: a clean ENOMEM and nothing left behind. */
static void test_no_memory(void) {
    char folder[64], path[80], corpus[96];
    nigh_state s;
    nigh_err err;
    made_corpus(folder, 10, 3);
    snprintf(path, sizeof path, "%s/c", folder);
    snprintf(corpus, sizeof corpus, "%s/made.txt", folder);
    make_state(&s);
    size_t live = nigh_alloc_live_bytes();
    CHECK(nigh_state_save(&s, path, &err) == NIGH_OK);
    for (int what = 0; what < 4; what++) {
        nigh_status status = NIGH_ENOMEM;
        for (uint64_t nth = 1; status != NIGH_OK && nth < 20000; nth++) {
            nigh_state got = { 0 };
            nigh_buf out = NIGH_BUF(1 << 24);
            nigh_corpus c = { 0 };
            nigh_feed feed = { .window = 16 };
            nigh_bpe *bpe = what == 3 ? nigh_bpe_new() : NULL;
            nigh_trainer *t = NULL;
            nigh_recipe r = tiny();
            nigh_alloc_fail_at(nth, false);
            if (what == 0) status = nigh_state_save(&s, path, &err);
            if (what == 1) status = nigh_state_load(&got, path, &err);
            if (what == 2) status = nigh_export(&s, (nigh_export_opts){ .type = NIGH_TYPE_F32 }, &out, &err);
            if (what == 3) {
                status = nigh_corpus_add(&c, corpus, &err);
                if (status == NIGH_OK) status = nigh_corpus_split(&c, 100, &err);
                if (status == NIGH_OK) status = nigh_feed_make(&feed, bpe, &c, 300, &err);
                if (status == NIGH_OK && !(t = nigh_trainer_new(&r, &feed, NULL, nigh_gemm_plain)))
                    status = NIGH_ENOMEM;
            }
            nigh_alloc_fail_at(0, false);
            CHECK_MSG(status == NIGH_OK || status == NIGH_ENOMEM, "case %d, allocation %u: %d %s", what,
                (unsigned)nth, status, err.text);
            nigh_state_release(&got);
            nigh_buf_release(&out);
            nigh_trainer_free(t);
            nigh_feed_release(&feed);
            nigh_bpe_free(bpe);
            nigh_corpus_release(&c);
            CHECK_MSG(nigh_alloc_live_bytes() == live, "case %d, allocation %u: %zu bytes left behind", what,
                (unsigned)nth, nigh_alloc_live_bytes() - live);
        }
        CHECK_MSG(status == NIGH_OK, "case %d never came through", what);
    }
    nigh_state_release(&s);
    made_remove(folder);
}

TEST_MAIN(T(test_kill), T(test_damage), T(test_no_memory))
