/* test_outbox.c - the queue of requests under attack: the process killed at any moment, a disk that is full, a key that
 * is wrong or gone, a damaged file, another tenant, and somebody who reads the raw files.
 *
 * The long case: a child puts, takes, sends and answers without end. It writes to a pipe what was acknowledged to it,
 * and "sends" to a receiver that lives in shared memory and counts how often each id was answered (it knows such keys,
 * so a second time with the same id gives the same answer and does nothing). The child is killed at a random moment,
 * the file is opened again by the next one, two hundred times. In the end the queue is drained: every entry that was
 * acknowledged is there and answered, with its own answer, and none was done twice. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "test.h"

#include "base/os.h"
#include "node/outbox.h"

static char folder[64], db[128], key[128];
static nigh_err err;

static void begin_folder(void) {
    snprintf(folder, sizeof folder, "/tmp/nigh-outbox-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    snprintf(db, sizeof db, "%s/run/queue", folder);
    snprintf(key, sizeof key, "%s/keys/queue", folder);
}

static void end_folder(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    CHECK(system(command) == 0);
}

static nigh_outbox *must_open(void) {
    nigh_outbox *q = NULL;
    nigh_status status = nigh_outbox_open(&q, db, key, &err);
    CHECK_MSG(status == NIGH_OK, "%s", err.text);
    return status == NIGH_OK ? q : NULL;
}

static nigh_queued entry_of(const char *tenant, const char *user, const char *body) {
    uint64_t now = nigh_os_unix_ms();
    nigh_queued e = { .policy_version = 7, .taken_ms = now, .until_ms = now + 3600000, .body = nigh_str_of(body) };
    snprintf(e.tenant, sizeof e.tenant, "%s", tenant);
    snprintf(e.user, sizeof e.user, "%s", user);
    snprintf(e.feature, sizeof e.feature, "mail");
    snprintf(e.class_name, sizeof e.class_name, "personal");
    return e;
}

/* ---- plain use ---- */

static void test_way(void) {
    begin_folder();
    nigh_outbox *q = must_open();
    nigh_buf hold = NIGH_BUF(1 << 20);
    nigh_queued e = entry_of("acme", "ann", "{\"q\":1}"), got, same;
    uint64_t next, now = nigh_os_unix_ms() + 10;
    struct stat st;
    if (!q) return;
    CHECK(stat(db, &st) == 0 && (st.st_mode & 0777) == 0600 && stat(key, &st) == 0 && (st.st_mode & 0777) == 0600);
    CHECK(nigh_outbox_take(q, now, &got, &hold, &err) == NIGH_ENOENT);
    CHECK(nigh_outbox_put(q, &e, NIGH_STR("k1"), &err) == NIGH_OK && strlen(e.id) == 26 && e.state == NIGH_WAITING);
    same = entry_of("acme", "ann", "{\"q\":1}");
    CHECK(nigh_outbox_put(q, &same, NIGH_STR("k1"), &err) == NIGH_OK && strcmp(same.id, e.id) == 0);
    same = entry_of("acme", "ann", "{\"q\":2}");
    CHECK(nigh_outbox_put(q, &same, NIGH_STR("k1"), &err) == NIGH_EINVAL);
    same = entry_of("acme", "bob", "{\"q\":1}");
    CHECK(nigh_outbox_put(q, &same, NIGH_STR("k1"), &err) == NIGH_OK && strcmp(same.id, e.id) != 0);
    CHECK(nigh_outbox_delete(q, nigh_str_of(same.id), NIGH_STR("acme"), NIGH_STR("bob"), &err) == NIGH_OK);
    /* what it says of itself to its own, and to nobody else */
    nigh_str id = nigh_str_of(e.id);
    CHECK(nigh_outbox_get(q, id, NIGH_STR("acme"), NIGH_STR("ann"), now, &got, &hold, &err) == NIGH_OK);
    CHECK(nigh_str_eq(got.body, NIGH_STR("{\"q\":1}")) && got.policy_version == 7);
    CHECK(strcmp(got.class_name, "personal") == 0);
    static const char *const others[][2] = { { "acme", "bob" }, { "acme", "" }, { "", "ann" }, { "acm", "eann" },
        { "ACME", "ann" }, { "acme", "ann " }, { "", "" }, { "%", "%" } };
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        nigh_str t = nigh_str_of(others[i][0]), u = nigh_str_of(others[i][1]);
        CHECK(nigh_outbox_get(q, id, t, u, now, &got, &hold, &err) == NIGH_ENOENT);
        CHECK(nigh_outbox_delete(q, id, t, u, &err) == NIGH_ENOENT);
    }
    CHECK(nigh_outbox_answer(q, e.id, NIGH_STR("no"), "r", now, &err) == NIGH_ENOENT);      /* not taken yet */
    CHECK(nigh_outbox_take(q, now, &got, &hold, &err) == NIGH_OK && strcmp(got.id, e.id) == 0 && got.tries == 1);
    CHECK(!got.maybe_sent && nigh_outbox_take(q, now, &same, &hold, &err) == NIGH_ENOENT);
    CHECK(nigh_outbox_again(q, e.id, now + 500, true, "the line is cut", &err) == NIGH_OK);
    CHECK(nigh_outbox_take(q, now + 499, &got, &hold, &err) == NIGH_ENOENT);
    CHECK(nigh_outbox_tidy(q, now, &next, &err) == NIGH_OK && next == now + 500);
    CHECK(nigh_outbox_take(q, now + 500, &got, &hold, &err) == NIGH_OK && got.tries == 2 && got.maybe_sent
        && strcmp(got.error, "the line is cut") == 0);
    CHECK(nigh_outbox_answer(q, e.id, NIGH_STR("an answer"), "rcpt-1", now + 9000, &err) == NIGH_OK);
    CHECK(nigh_outbox_answer(q, e.id, NIGH_STR("another"), "rcpt-2", now + 9000, &err) == NIGH_ENOENT);
    CHECK(nigh_outbox_refuse(q, e.id, "no", now, &err) == NIGH_ENOENT);
    CHECK(nigh_outbox_get(q, id, NIGH_STR("acme"), NIGH_STR("ann"), now, &got, &hold, &err) == NIGH_OK
        && got.state == NIGH_ANSWERED && strcmp(got.receipt, "rcpt-1") == 0);
    CHECK(nigh_str_eq(got.body, NIGH_STR("an answer")));
    CHECK(nigh_outbox_get(q, id, NIGH_STR("acme"), NIGH_STR("ann"), now + 9000, &got, &hold, &err) == NIGH_ENOENT);
    CHECK(nigh_outbox_tidy(q, now + 9000, &next, &err) == NIGH_OK && next == UINT64_MAX);
    CHECK(nigh_outbox_get(q, id, NIGH_STR("acme"), NIGH_STR("ann"), now, &got, &hold, &err) == NIGH_ENOENT);
    nigh_outbox_close(q);
    nigh_buf_release(&hold);
    CHECK(nigh_alloc_live_bytes() == 0);
    end_folder();
}

/* An entry that waits too long ends and says so; its words are gone at once. */
/* Everything of one user, in any state, then of a tenant; nobody else's. */
static void test_forget(void) {
    begin_folder();
    nigh_outbox *q = must_open();
    nigh_buf hold = NIGH_BUF(1 << 20);
    nigh_queued e, got;
    size_t count = 9;
    static const char *const owners[][2] = { { "acme", "ann" }, { "acme", "ann" }, { "acme", "ann" }, { "acme", "bob" },
        { "other", "ann" }, { "", "ann" } };
    if (!q) return;
    for (size_t i = 0; i < sizeof owners / sizeof *owners; i++) {
        e = entry_of(owners[i][0], owners[i][1], "{\"q\":1}");
        CHECK(nigh_outbox_put(q, &e, NIGH_STR(""), &err) == NIGH_OK);
    }
    uint64_t now = nigh_os_unix_ms() + 10;
    for (size_t i = 0; i < 3; i++) {            /* one of each tenant; then answered, on its way, waiting */
        CHECK(nigh_outbox_take(q, now, &got, &hold, &err) == NIGH_OK);
        if (i == 1) CHECK(nigh_outbox_answer(q, got.id, NIGH_STR("an answer"), "r", now + 9000, &err) == NIGH_OK);
    }
    CHECK(nigh_outbox_forget(q, NIGH_STR("acme"), NIGH_STR("nobody"), &count, &err) == NIGH_OK && count == 0);
    CHECK(nigh_outbox_forget(q, NIGH_STR("acm"), NIGH_STR(""), &count, &err) == NIGH_OK && count == 0);
    CHECK(nigh_outbox_forget(q, NIGH_STR("acme"), NIGH_STR("ann"), &count, &err) == NIGH_OK && count == 3);
    CHECK(nigh_outbox_forget(q, NIGH_STR("acme"), NIGH_STR("ann"), &count, &err) == NIGH_OK && count == 0);
    CHECK(nigh_outbox_forget(q, NIGH_STR("acme"), NIGH_STR(""), &count, &err) == NIGH_OK && count == 1);
    CHECK(nigh_outbox_forget(q, NIGH_STR(""), NIGH_STR(""), &count, &err) == NIGH_OK && count == 1);
    CHECK(nigh_outbox_forget(q, NIGH_STR("other"), NIGH_STR("ann"), &count, &err) == NIGH_OK && count == 1);
    CHECK(nigh_outbox_take(q, now + 99999, &got, &hold, &err) == NIGH_ENOENT);
    nigh_outbox_close(q);
    nigh_buf_release(&hold);
    CHECK(nigh_alloc_live_bytes() == 0);
    end_folder();
}

static void test_ends(void) {
    begin_folder();
    nigh_outbox *q = must_open();
    nigh_buf hold = NIGH_BUF(1 << 20);
    nigh_queued e = entry_of("t", "u", "words"), f = entry_of("t", "u", "words"), got;
    uint64_t next, late = e.until_ms;
    nigh_str t = NIGH_STR("t"), u = NIGH_STR("u");
    if (!q) return;
    CHECK(nigh_outbox_put(q, &e, NIGH_STR(""), &err) == NIGH_OK);
    CHECK(nigh_outbox_put(q, &f, NIGH_STR(""), &err) == NIGH_OK);
    CHECK(nigh_outbox_take(q, late - 1, &got, &hold, &err) == NIGH_OK && strcmp(got.id, e.id) == 0);
    CHECK(nigh_outbox_refuse(q, e.id, "rule: region", late, &err) == NIGH_OK);
    CHECK(nigh_outbox_take(q, late, &got, &hold, &err) == NIGH_ENOENT);
    CHECK(nigh_outbox_tidy(q, late, &next, &err) == NIGH_OK && next == late + NIGH_OUTBOX_ENDED_KEEP_S * 1000ull);
    CHECK(nigh_outbox_get(q, nigh_str_of(e.id), t, u, late, &got, &hold, &err) == NIGH_OK && got.state == NIGH_REFUSED
        && got.body.len == 0 && strcmp(got.error, "rule: region") == 0);
    CHECK(nigh_outbox_get(q, nigh_str_of(f.id), t, u, late, &got, &hold, &err) == NIGH_OK && got.state == NIGH_EXPIRED
        && got.body.len == 0 && got.error[0]);
    CHECK(nigh_outbox_tidy(q, next, &next, &err) == NIGH_OK && next == UINT64_MAX);
    e.until_ms = e.taken_ms;
    CHECK(nigh_outbox_put(q, &e, NIGH_STR(""), &err) == NIGH_EINVAL);
    nigh_outbox_close(q);
    nigh_buf_release(&hold);
    end_folder();
}

/* Tenants take turns, whoever queued more; and nobody takes all the room. */
static void test_turns(void) {
    begin_folder();
    nigh_outbox *q = must_open();
    nigh_buf hold = NIGH_BUF(1 << 24);
    nigh_queued got;
    char order[16] = "";
    if (!q) return;
    for (size_t i = 0; i < 12; i++) {
        const char *tenants[] = { "a", "a", "a", "a", "a", "a", "b", "b", "c", "", "a", "a" };
        nigh_queued e = entry_of(tenants[i], "u", "x");
        CHECK(nigh_outbox_put(q, &e, NIGH_STR(""), &err) == NIGH_OK);
    }
    for (size_t i = 0; i < 8; i++) {
        CHECK(nigh_outbox_take(q, nigh_os_unix_ms() + 1, &got, &hold, &err) == NIGH_OK);
        order[i] = got.tenant[0] ? got.tenant[0] : '-';
    }
    CHECK_MSG(strcmp(order, "abc-abaa") == 0 || strcmp(order, "-abcabaa") == 0, "%s", order);
    char *big = nigh_alloc(8 << 20, 1);
    memset(big, 'x', 8 << 20);
    nigh_queued e = entry_of("greedy", "u", "");
    e.body = (nigh_str){ big, 8 << 20 };
    size_t put = 0;
    while (put < 100 && nigh_outbox_put(q, &e, NIGH_STR(""), &err) == NIGH_OK) put++;
    CHECK_MSG(put > 20 && put <= 26 && err.code == NIGH_EBUSY, "%zu", put);
    snprintf(e.tenant, sizeof e.tenant, "other");
    CHECK(nigh_outbox_put(q, &e, NIGH_STR(""), &err) == NIGH_OK);
    e.body.len = NIGH_OUTBOX_BODY_MAX + 1;
    CHECK(nigh_outbox_put(q, &e, NIGH_STR(""), &err) == NIGH_ERANGE);
    nigh_free(big);
    nigh_outbox_close(q);
    nigh_buf_release(&hold);
    end_folder();
}

/* ---- kill -9 ---- */

enum { RECEIVED_MAX = 1 << 16 };
typedef struct { char id[32]; atomic_uint answered; } received;
typedef struct { atomic_size_t count, sent; received all[RECEIVED_MAX]; } receiver;
static receiver *far;

/* What the far place does: once for an id, however often it is asked. */
static unsigned far_do(const char *id) {
    atomic_fetch_add(&far->sent, 1);
    size_t n = atomic_load(&far->count);
    for (size_t i = 0; i < n; i++) if (strcmp(far->all[i].id, id) == 0) return (unsigned)i;
    if (n == RECEIVED_MAX) _exit(9);
    memcpy(far->all[n].id, id, 32);
    atomic_store(&far->count, n + 1);
    return (unsigned)n;
}

/* One step of the work; what was acknowledged goes to the pipe. Exit codes say what must not be. */
static void work_step(nigh_outbox *q, uint64_t *seed, int to) {
    char text[256];
    nigh_queued e;
    nigh_buf hold = NIGH_BUF(1 << 20);
    uint64_t r = test_rand(seed);
    snprintf(text, sizeof text, "{\"request\":%llu}", (unsigned long long)r);
    if (r % 3 == 0) {
        e = entry_of(r & 8 ? "t" : "s", "u", text);
        if (nigh_outbox_put(q, &e, NIGH_STR(""), NULL) != NIGH_OK) _exit(3);
        if (write(to, e.id, 32) != 32) _exit(0);
        return;
    }
    nigh_status status = nigh_outbox_take(q, nigh_os_unix_ms(), &e, &hold, NULL);
    if (status != NIGH_OK && status != NIGH_ENOENT) _exit(4);
    if (status != NIGH_OK) return;
    if (r % 7 == 0) {
        if (nigh_outbox_again(q, e.id, nigh_os_unix_ms(), false, "later", NULL) != NIGH_OK) _exit(5);
    } else {
        unsigned n = far_do(e.id);
        snprintf(text, sizeof text, "answer %u to %s", n, e.id);
        if (nigh_outbox_answer(q, e.id, nigh_str_of(text), "rcpt", UINT64_MAX / 2, NULL) != NIGH_OK) _exit(6);
        atomic_fetch_add(&far->all[n].answered, 1);
    }
    nigh_buf_release(&hold);
}

static void work(uint64_t seed, int to) {
    nigh_outbox *q;
    if (nigh_outbox_open(&q, db, key, NULL) != NIGH_OK) _exit(2);       /* it must always open */
    for (;;) work_step(q, &seed, to);
}

enum { ACKED_MAX = 1 << 16 };
static char acked[ACKED_MAX][32];
static size_t acked_count;

static void collect(int from, size_t most) {
    for (size_t i = 0; i < most && acked_count < ACKED_MAX && read(from, acked[acked_count], 32) == 32; i++)
        acked_count++;
}

static void drain_and_check(void) {
    nigh_outbox *q = must_open();
    nigh_queued e;
    nigh_buf hold = NIGH_BUF(1 << 20);
    char text[128];
    size_t lost = 0, wrong = 0, twice = 0;
    if (!q) return;
    while (nigh_outbox_take(q, nigh_os_unix_ms() + 1000, &e, &hold, &err) == NIGH_OK) {
        unsigned n = far_do(e.id);
        snprintf(text, sizeof text, "answer %u to %s", n, e.id);
        CHECK(nigh_outbox_answer(q, e.id, nigh_str_of(text), "rcpt", UINT64_MAX / 2, &err) == NIGH_OK);
        atomic_fetch_add(&far->all[n].answered, 1);
        hold.len = 0;
    }
    for (size_t i = 0; i < acked_count; i++) {
        bool there = false;
        for (int t = 0; t < 2 && !there; t++)
            there = nigh_outbox_get(q, nigh_str_of(acked[i]), t ? NIGH_STR("t") : NIGH_STR("s"), NIGH_STR("u"),
                nigh_os_unix_ms(), &e, &hold, &err) == NIGH_OK;
        lost += !there || e.state != NIGH_ANSWERED;
        if (!there) continue;
        snprintf(text, sizeof text, "answer %u to %s", far_do(acked[i]), acked[i]);
        wrong += !nigh_str_eq(e.body, nigh_str_of(text));
        hold.len = 0;
    }
    for (size_t i = 0; i < atomic_load(&far->count); i++) twice += atomic_load(&far->all[i].answered) > 1;
    printf("  %zu acknowledged, %zu sent for %zu ids: %zu lost, %zu with another's answer, %zu answered twice\n",
        acked_count, atomic_load(&far->sent) - acked_count, atomic_load(&far->count), lost, wrong, twice);
    CHECK(lost == 0 && wrong == 0 && twice == 0 && atomic_load(&far->count) >= acked_count);
    nigh_buf_release(&hold);
    nigh_outbox_close(q);
}

static void test_kill(void) {
    uint64_t seed = test_seed();
    int kills = test_short() ? 40 : 200, status;
    fflush(stdout);
    begin_folder();
    far = mmap(NULL, sizeof *far, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(far != MAP_FAILED);
    for (int i = 0; i < kills; i++) {
        int pipes[2];
        CHECK(pipe(pipes) == 0);
        (void)fcntl(pipes[1], F_SETPIPE_SZ, 1 << 20);
        pid_t pid = fork();
        if (pid == 0) work(test_rand(&seed) + (uint64_t)i * 7919, pipes[1]);
        close(pipes[1]);
        collect(pipes[0], test_rand(&seed) % 8);       /* a moment that does not depend on how fast the machine is */
        usleep((useconds_t)(test_rand(&seed) % 5000));
        kill(pid, SIGKILL);
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK_MSG(WIFSIGNALED(status), "kill %d (seed %llu): the child ended with %d", i,
            (unsigned long long)test_seed(), WEXITSTATUS(status));
        collect(pipes[0], SIZE_MAX);
        close(pipes[0]);
    }
    CHECK(acked_count > 2 * (size_t)kills);
    drain_and_check();
    munmap(far, sizeof *far);
    end_folder();
}

/* ---- the disk ---- */

/* Puts until it fails: an error that says so, nothing acknowledged is lost, and it works again when there is room. */
static int fill_disk(const char *where, const char *limit) {
    char path[160], key_path[160], ids[400][32];
    static char body[8192];
    nigh_outbox *q;
    nigh_queued e, got;
    nigh_buf hold = NIGH_BUF(1 << 24);
    size_t n = 0;
    snprintf(path, sizeof path, "%s/queue", where);
    snprintf(key_path, sizeof key_path, "%s/key", where);
    memset(body, 'x', sizeof body - 1);
    if (nigh_outbox_open(&q, path, key_path, &err) != NIGH_OK) return 10;
    nigh_status status = NIGH_OK;
    while (n < 400 && status == NIGH_OK) {
        e = entry_of("t", "u", body);
        status = nigh_outbox_put(q, &e, NIGH_STR(""), &err);
        if (status == NIGH_OK) memcpy(ids[n++], e.id, 32);
    }
    if (status != NIGH_EIO || n < 3 || n == 400 || !err.text[0]) return 11;
    for (size_t i = 0; i < n; i++)
        if (nigh_outbox_get(q, nigh_str_of(ids[i]), NIGH_STR("t"), NIGH_STR("u"), 0, &got, &hold, &err) != NIGH_OK)
            return 12;
    if (limit) {
        struct rlimit none = { RLIM_INFINITY, RLIM_INFINITY };
        if (setrlimit(RLIMIT_FSIZE, &none) != 0) return 13;
    } else if (unlink(limit ? "" : (snprintf(path, sizeof path, "%s/ballast", where), path)) != 0) return 14;
    e = entry_of("t", "u", body);
    if (nigh_outbox_put(q, &e, NIGH_STR(""), &err) != NIGH_OK) return 15;
    nigh_outbox_close(q);
    nigh_buf_release(&hold);
    return 0;
}

static void test_file_limit(void) {
    int status;
    begin_folder();
    pid_t pid = fork();
    if (pid == 0) {
        struct rlimit small = { 300000, RLIM_INFINITY };
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &small) != 0) _exit(20);
        _exit(fill_disk(folder, "file"));
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_MSG(WIFEXITED(status) && WEXITSTATUS(status) == 0, "ended with %d", WEXITSTATUS(status));
    end_folder();
}

/* A file system of 1 MiB, half of it taken, in a mount namespace of the child's own. */
static void test_full_disk(void) {
    int status;
    begin_folder();
    pid_t pid = fork();
    if (pid == 0) {
        char path[128];
        static char ballast[512 << 10];
        if (unshare(getuid() == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) != 0
            || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0
            || mount("tmpfs", folder, "tmpfs", 0, "size=1m,mode=700") != 0) _exit(77);
        snprintf(path, sizeof path, "%s/ballast", folder);
        int fd = open(path, O_WRONLY | O_CREAT, 0600);
        if (write(fd, ballast, sizeof ballast) != (ssize_t)sizeof ballast) _exit(21);
        close(fd);
        _exit(fill_disk(folder, NULL));
    }
    CHECK(waitpid(pid, &status, 0) == pid);
    end_folder();
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) TEST_SKIP("no file system can be mounted here");
    CHECK_MSG(WIFEXITED(status) && WEXITSTATUS(status) == 0, "ended with %d", WEXITSTATUS(status));
}

/* ---- keys and damage ---- */

static void test_key(void) {
    begin_folder();
    nigh_outbox *q = must_open(), *second = NULL;
    nigh_queued e = entry_of("t", "u", "words");
    char kept[160];
    if (!q) return;
    CHECK(nigh_outbox_put(q, &e, NIGH_STR(""), &err) == NIGH_OK);
    CHECK(nigh_outbox_open(&second, db, key, &err) == NIGH_EBUSY);      /* one process at a time */
    nigh_outbox_close(q);
    snprintf(kept, sizeof kept, "%s.kept", key);
    CHECK(rename(key, kept) == 0);
    CHECK(nigh_outbox_open(&q, db, key, &err) == NIGH_ENOENT && strstr(err.text, key) && access(key, F_OK) != 0);
    printf("  gone: %s\n", err.text);
    char other_db[160];
    snprintf(other_db, sizeof other_db, "%s/other", folder);
    CHECK(nigh_outbox_open(&q, other_db, key, &err) == NIGH_OK);        /* another queue's key in its place */
    nigh_outbox_close(q);
    CHECK(nigh_outbox_open(&q, db, key, &err) == NIGH_EINVAL);
    printf("  wrong: %s\n", err.text);
    CHECK(chmod(kept, 0644) == 0 && rename(kept, key) == 0);
    CHECK(nigh_outbox_open(&q, db, key, &err) == NIGH_EINVAL);
    printf("  open to others: %s\n", err.text);
    CHECK(chmod(key, 0600) == 0 && truncate(key, 20) == 0 && nigh_outbox_open(&q, db, key, &err) == NIGH_EINVAL);
    printf("  cut: %s\n", err.text);
    CHECK(unlink(key) == 0 && unlink(db) == 0);
    int fd = open(db, O_WRONLY | O_CREAT, 0600);
    CHECK(fd >= 0 && write(fd, "this is a text, and no database of anything", 43) == 43 && close(fd) == 0);
    nigh_outbox *none = NULL;
    CHECK(nigh_outbox_open(&none, db, key, &err) != NIGH_OK && !none);
    CHECK(nigh_alloc_live_bytes() == 0);
    end_folder();
}

/* Any byte of the file turned over, any length: it opens or refuses; it never gives words that were not put. */
static void test_damage(void) {
    begin_folder();
    nigh_outbox *q = must_open();
    nigh_buf file = NIGH_BUF(1 << 24), hold = NIGH_BUF(1 << 24);
    nigh_queued e, got;
    uint64_t seed = test_seed();
    size_t opened = 0, refused = 0, words = 0;
    if (!q) return;
    for (size_t i = 0; i < 20; i++) {
        e = entry_of("t", "u", "the same words, every time");
        CHECK(nigh_outbox_put(q, &e, NIGH_STR(""), &err) == NIGH_OK);
    }
    nigh_outbox_close(q);
    CHECK(nigh_file_read(&file, db, &err) == NIGH_OK && file.len > 4096);
    for (size_t i = 0; i < (test_short() ? 100u : 400u); i++) {
        size_t at = test_rand(&seed) % file.len, len = i % 4 ? file.len : at;
        char before = file.ptr[at];
        if (i % 4) file.ptr[at] = (char)(before ^ (1 << test_rand(&seed) % 8));
        int fd = open(db, O_WRONLY | O_TRUNC);
        CHECK(write(fd, file.ptr, len) == (ssize_t)len && close(fd) == 0);
        file.ptr[at] = before;
        if (nigh_outbox_open(&q, db, key, &err) != NIGH_OK) { refused++; continue; }
        opened++;
        for (int k = 0; k < 30 && nigh_outbox_take(q, nigh_os_unix_ms() + 1000, &got, &hold, &err) == NIGH_OK; k++) {
            CHECK(nigh_str_eq(got.body, NIGH_STR("the same words, every time")) || got.body.len == 0);
            words++;
            hold.len = 0;
        }
        nigh_outbox_close(q);
    }
    printf("  %zu opened, %zu refused, %zu entries read whole\n", opened, refused, words);
    nigh_buf_release(&file);
    nigh_buf_release(&hold);
    end_folder();
}

/* No memory at any moment: an error, nothing half done, nothing leaked. */
static void test_no_memory(void) {
    begin_folder();
    nigh_outbox *q = must_open();
    nigh_outbox_close(q);
    size_t acknowledged = 0, found = 0, failures = 0;
    char ids[64][32];
    for (uint64_t n = 1; n < 24; n++) {
        nigh_buf hold = NIGH_BUF(1 << 20);
        nigh_queued e = entry_of("t", "u", "words"), got;
        q = NULL;
        nigh_alloc_fail_at(n, true);
        nigh_status status = nigh_outbox_open(&q, db, key, &err);
        if (status == NIGH_OK && nigh_outbox_put(q, &e, NIGH_STR(""), &err) == NIGH_OK) {
            memcpy(ids[acknowledged++], e.id, 32);
            status = nigh_outbox_take(q, nigh_os_unix_ms() + 10, &got, &hold, &err);
            if (status == NIGH_OK) status = nigh_outbox_answer(q, got.id, NIGH_STR("a"), "r", UINT64_MAX / 2, &err);
        } else status = NIGH_ENOMEM;
        failures += status != NIGH_OK;
        nigh_alloc_fail_at(0, false);
        nigh_buf_release(&hold);
        nigh_outbox_close(q);
        CHECK(nigh_alloc_live_bytes() == 0);
    }
    q = must_open();
    nigh_buf hold = NIGH_BUF(1 << 20);
    nigh_queued got;
    for (size_t i = 0; q && i < acknowledged; i++)
        found += nigh_outbox_get(q, nigh_str_of(ids[i]), NIGH_STR("t"), NIGH_STR("u"), 0, &got, &hold, &err) == NIGH_OK;
    CHECK(acknowledged > 10 && found == acknowledged && failures > 3);
    nigh_buf_release(&hold);
    nigh_outbox_close(q);
    end_folder();
}

/* ---- who reads the raw files ---- */

static size_t search(const char *path, const char *what) {
    nigh_buf file = NIGH_BUF(1 << 26);
    size_t found = 0;
    if (nigh_file_read(&file, path, &err) == NIGH_OK)
        for (size_t at = 0; (at = nigh_str_find(nigh_buf_str(&file), nigh_str_of(what), at)) != SIZE_MAX; at++) found++;
    nigh_buf_release(&file);
    return found;
}

static void test_canaries(void) {
    begin_folder();
    nigh_outbox *q = must_open();
    nigh_buf hold = NIGH_BUF(1 << 20);
    nigh_queued got;
    char wal[160], canary[64], body[256];
    size_t found = 0, names = 0;
    uint64_t next;
    if (!q) return;
    snprintf(wal, sizeof wal, "%s-wal", db);
    for (size_t i = 0; i < 200; i++) {
        snprintf(canary, sizeof canary, "CANARY-%zu-REQUEST", i);
        snprintf(body, sizeof body, "{\"messages\":[{\"content\":\"%s\"}]}", canary);
        nigh_queued e = entry_of("nametenant", "u", body);
        CHECK(nigh_outbox_put(q, &e, nigh_str_of(canary), &err) == NIGH_OK);
        if (i % 2) continue;
        CHECK(nigh_outbox_take(q, nigh_os_unix_ms() + 10, &got, &hold, &err) == NIGH_OK);
        snprintf(canary, sizeof canary, "CANARY-%zu-ANSWER", i);
        if (i % 4) CHECK(nigh_outbox_answer(q, got.id, nigh_str_of(canary), "r", nigh_os_unix_ms(), &err) == NIGH_OK);
        else CHECK(nigh_outbox_refuse(q, got.id, "no", nigh_os_unix_ms(), &err) == NIGH_OK);
    }
    found = search(db, "CANARY") + search(wal, "CANARY");
    names = search(db, "nametenant") + search(wal, "nametenant");       /* so the search does find what is there */
    CHECK(nigh_outbox_tidy(q, nigh_os_unix_ms() + 1, &next, &err) == NIGH_OK);
    nigh_outbox_close(q);
    found += search(db, "CANARY") + search(wal, "CANARY");
    printf("  200 canaries: %zu found, %zu names\n", found, names);
    CHECK(found == 0 && names > 0);
    nigh_buf_release(&hold);
    end_folder();
}

/* ---- threads ---- */

static nigh_outbox *shared;
static atomic_size_t answered;
static void *use(void *ud) {
    nigh_buf hold = NIGH_BUF(1 << 20);
    nigh_queued e;
    for (size_t i = 0; i < 30; i++) {
        e = entry_of(ud ? "t" : "s", "u", "words");
        if (nigh_outbox_put(shared, &e, NIGH_STR(""), NULL) != NIGH_OK) break;
        if (nigh_outbox_take(shared, nigh_os_unix_ms() + 100000, &e, &hold, NULL) != NIGH_OK) continue;
        if (nigh_outbox_answer(shared, e.id, NIGH_STR("a"), "r", 0, NULL) == NIGH_OK) atomic_fetch_add(&answered, 1);
    }
    nigh_buf_release(&hold);
    return NULL;
}

static void test_threads(void) {
    pthread_t threads[4];
    begin_folder();
    shared = must_open();
    for (size_t i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, use, (void *)(i % 2)) == 0);
    for (size_t i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    CHECK_MSG(atomic_load(&answered) == 120, "%zu", atomic_load(&answered));
    nigh_outbox_close(shared);
    CHECK(nigh_alloc_live_bytes() == 0);
    end_folder();
}

TEST_MAIN(T(test_way), T(test_forget), T(test_ends), T(test_turns), T(test_kill), T(test_file_limit),
    T(test_full_disk), T(test_key), T(test_damage), T(test_no_memory), T(test_canaries), T(test_threads))
