/* test_limits.c - keys with rights, requests and tokens a minute, money a day, and what a restart does not forget. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "test.h"

#include "base/os.h"
#include "node/limits.h"

enum { MINUTE = 60000, DAY = 86400000 };
static char folder[64];
static nigh_err err;

static const char *path_of(const char *name) {
    static char path[128];
    if (!folder[0]) {
        snprintf(folder, sizeof folder, "/tmp/nigh-limits-XXXXXX");
        CHECK(mkdtemp(folder) != NULL);
    }
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void write_text(const char *path, const char *text, size_t len, mode_t mode) {
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && write(fd, text, len) == (ssize_t)len && fchmod(fd, mode) == 0);
    close(fd);
}

#define HASH "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

/* What a line of the file gives; false: it is refused. */
static bool read_line(const char *line, nigh_rights *r) {
    nigh_keys k;
    write_text(path_of("lines"), line, strlen(line), 0600);
    if (nigh_keys_load(&k, path_of("lines"), &err) != NIGH_OK) return false;
    CHECK(k.count == 1 && k.rights[0].key_idx == 0);
    *r = k.rights[0];
    nigh_keys_release(&k);
    return true;
}

static void test_lines(void) {
    nigh_rights r;
    static const char *const bad[] = { HASH " 1 tenat=acme\n", HASH " 1 tenant=\n", HASH " 1 tenant=a=b\n", HASH "x\n",
        HASH " 1 tenant=a tenant=b\n", HASH " x tenant=a\n", HASH " 1 rpm=0\n", HASH " 1 rpm=-1\n", HASH " 1 rpm=1.5\n",
        HASH " 1 rpm=4294967296\n", HASH " 1 usd_day=-1\n", HASH " 1 usd_day=x\n", HASH " 1 usd_day=1e13\n",
        HASH " 1 user=a user=*\n", HASH " 1 tenant=a/b\n", HASH " 1  tenant=a\n", HASH " tenant=a\n", "sha256:00\n",
        HASH " 1 features=a;b\n", HASH " 1 rpm=1 rpm=2\n", HASH " 1 usd_day=1 usd_day=2\n", HASH " 1 rpm\n", "\n" };
    CHECK(read_line(HASH "\n", &r) && !r.tenant[0] && !r.any_user && !r.rpm && !r.tpm && r.usd_day < 0);
    CHECK(read_line(HASH " 1700000000\n", &r) && !r.features[0]);
    CHECK(read_line(HASH " 1700000000 usd_day=2.50 tpm=40000 rpm=60 features=mail-summary,search user=* tenant=acme\n",
        &r));
    CHECK(strcmp(r.tenant, "acme") == 0 && r.any_user && !r.user[0] && r.rpm == 60 && r.tpm == 40000
        && r.usd_day > 2.49 && r.usd_day < 2.51 && strcmp(r.features, "mail-summary,search") == 0);
    CHECK(read_line(HASH " 1 user=ann@example.org", &r) && strcmp(r.user, "ann@example.org") == 0 && !r.any_user);
    CHECK(read_line(HASH " 1 usd_day=0", &r) && fabs(r.usd_day) < 1e-9);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) CHECK_MSG(!read_line(bad[i], &r), "%s", bad[i]);
    write_text(path_of("open"), HASH "\n", strlen(HASH) + 1, 0644);
    nigh_keys k;
    CHECK(nigh_keys_load(&k, path_of("open"), &err) == NIGH_EINVAL);
}

/* Keys that are made can be read, and each is found as itself. */
static void test_keys(void) {
    char text[12][NIGH_KEY_TEXT];
    nigh_keys k;
    nigh_rights r = { .usd_day = 0.25, .rpm = 3, .any_user = true };
    const char *path = path_of("below/keys");
    char kept[128];
    snprintf(kept, sizeof kept, "%s", path);
    for (size_t i = 0; i < 12; i++) {
        snprintf(r.tenant, sizeof r.tenant, "t%zu", i);
        CHECK_MSG(nigh_keys_create(kept, i ? &r : NULL, text[i], &err) == NIGH_OK, "%s", err.text);
    }
    snprintf(r.tenant, sizeof r.tenant, "two words");
    char unused[NIGH_KEY_TEXT];
    CHECK(nigh_keys_create(kept, &r, unused, &err) == NIGH_EINVAL);
    CHECK_MSG(nigh_keys_load(&k, kept, &err) == NIGH_OK && k.count == 12, "%s", err.text);
    for (size_t i = 0; i < 12; i++) CHECK(nigh_keys_find(&k, nigh_str_of(text[i])) == i);
    CHECK(k.rights[0].usd_day < 0 && !k.rights[0].rpm && !k.rights[0].tenant[0]);
    CHECK(strcmp(k.rights[11].tenant, "t11") == 0 && k.rights[11].rpm == 3 && fabs(k.rights[11].usd_day - 0.25) < 1e-9);
    text[3][20] = text[3][20] == '0' ? '1' : '0';
    CHECK(nigh_keys_find(&k, nigh_str_of(text[3])) == SIZE_MAX && !nigh_keys_match(&k, NIGH_STR("")));
    nigh_keys_release(&k);
    CHECK(nigh_alloc_live_bytes() == 0);
}

static void test_rights(void) {
    nigh_rights r = { .features = "mail,search", .user = "ann", .usd_day = -1 }, own = nigh_rights_own();
    char user[128];
    CHECK(nigh_rights_allow(&r, NIGH_STR("mail"), &err) == NIGH_OK);
    CHECK(nigh_rights_allow(&r, NIGH_STR("search"), &err) == NIGH_OK);
    static const char *const not[] = { "", "mai", "mail,", "mail,search", "sea", "earch", "Mail" };
    for (size_t i = 0; i < sizeof not / sizeof *not; i++)
        CHECK_MSG(nigh_rights_allow(&r, nigh_str_of(not[i]), &err) == NIGH_EPOLICY, "%s", not[i]);
    CHECK(nigh_rights_allow(&own, NIGH_STR("anything"), &err) == NIGH_OK);
    CHECK(nigh_rights_allow(&own, NIGH_STR(""), &err) == NIGH_OK);
    CHECK(nigh_rights_user(&r, NIGH_STR(""), user, &err) == NIGH_OK && strcmp(user, "ann") == 0);
    CHECK(nigh_rights_user(&r, NIGH_STR("ann"), user, &err) == NIGH_OK && strcmp(user, "ann") == 0);
    CHECK(nigh_rights_user(&r, NIGH_STR("bob"), user, &err) == NIGH_EPOLICY);
    r.user[0] = '\0';
    CHECK(nigh_rights_user(&r, NIGH_STR("bob"), user, &err) == NIGH_EPOLICY);
    CHECK(nigh_rights_user(&own, NIGH_STR("bob"), user, &err) == NIGH_OK && strcmp(user, "bob") == 0);
    CHECK(nigh_rights_user(&own, NIGH_STR("b\nb"), user, &err) == NIGH_EINVAL);
    char many[200];
    memset(many, 'x', sizeof many);
    CHECK(nigh_rights_user(&own, (nigh_str){ many, 128 }, user, &err) == NIGH_EINVAL);
    CHECK(nigh_rights_user(&own, (nigh_str){ many, 127 }, user, &err) == NIGH_OK && strlen(user) == 127);
}

/* Two keys: rights as given. */
static nigh_keys two_keys(nigh_rights a, nigh_rights b) {
    nigh_keys k = { .count = 2 };
    k.rights = nigh_alloc(sizeof *k.rights, 2);
    k.rights[0] = a;
    k.rights[1] = b;
    k.rights[1].key_idx = 1;
    memset(k.hash[0], 1, 32);
    memset(k.hash[1], 2, 32);
    return k;
}

static void test_minute(void) {
    nigh_keys k = two_keys((nigh_rights){ .rpm = 60, .usd_day = -1 }, (nigh_rights){ .tpm = 6000, .usd_day = -1 });
    nigh_limits *l = NULL;
    uint64_t now = 1700000000000;
    uint32_t retry;
    size_t taken = 0;
    CHECK(nigh_limits_open(&l, &k, NULL, &err) == NIGH_OK);
    while (nigh_limits_take(l, &k.rights[0], 5, now, &retry, &err) == NIGH_OK) taken++;
    CHECK_MSG(taken == 60 && retry == 1000, "%zu taken, retry %u", taken, retry);
    CHECK(nigh_limits_take(l, &k.rights[0], 5, now + 999, &retry, &err) == NIGH_EBUSY && retry == 1);
    CHECK(nigh_limits_take(l, &k.rights[0], 5, now + 1000, &retry, &err) == NIGH_OK);
    CHECK(nigh_limits_take(l, &k.rights[0], 5, now - 9999999, &retry, &err) == NIGH_EBUSY);     /* set back */
    /* over ten minutes: a minute's worth at once and sixty a minute */
    for (taken = 0, now += DAY; now < 1700000000000 + DAY + 10 * MINUTE; now += 100)
        taken += nigh_limits_take(l, &k.rights[0], 5, now, &retry, &err) == NIGH_OK;
    CHECK_MSG(taken >= 655 && taken <= 660, "%zu", taken);
    /* tokens: what was too much comes back, what was too little is owed */
    CHECK(nigh_limits_take(l, &k.rights[1], 6001, now, &retry, &err) == NIGH_ERANGE);
    CHECK(nigh_limits_take(l, &k.rights[1], 6000, now, &retry, &err) == NIGH_OK);
    CHECK(nigh_limits_take(l, &k.rights[1], 100, now, &retry, &err) == NIGH_EBUSY && retry == 1000);
    nigh_limits_settle(l, &k.rights[1], 6000, 1000, 0, NIGH_STR(""), now);
    CHECK(nigh_limits_take(l, &k.rights[1], 5000, now, &retry, &err) == NIGH_OK);
    nigh_limits_settle(l, &k.rights[1], 5000, 11000, 0, NIGH_STR(""), now);
    CHECK(nigh_limits_take(l, &k.rights[1], 1, now + 59000, &retry, &err) == NIGH_EBUSY);
    CHECK(nigh_limits_take(l, &k.rights[1], 1, now + 61000, &retry, &err) == NIGH_OK);
    nigh_rights own = nigh_rights_own();
    for (size_t i = 0; i < 1000; i++) CHECK(nigh_limits_take(l, &own, 1000000, now, &retry, &err) == NIGH_OK);
    nigh_limits_close(l);
    nigh_keys_release(&k);
}

static bool near(double a, double b) { return fabs(a - b) < 1e-6; }

static void test_money(void) {
    nigh_rights a = { .usd_day = 1, .tenant = "t" }, b = { .usd_day = -1, .tenant = "t" };
    nigh_keys k = two_keys(a, b);
    nigh_limits *l = NULL;
    char path[128];
    uint64_t now = nigh_os_unix_ms(), tomorrow = now + DAY;
    snprintf(path, sizeof path, "%s", path_of("run/spent"));
    CHECK_MSG(nigh_limits_open(&l, &k, path, &err) == NIGH_OK, "%s", err.text);
    nigh_limits_settle(l, &k.rights[0], 0, 10, 0.4, NIGH_STR("ann"), now);
    nigh_limits_settle(l, &k.rights[1], 0, 10, 0.3, NIGH_STR("ann"), now);      /* another key, the same user */
    nigh_limits_settle(l, &k.rights[0], 0, 10, 0.5, NIGH_STR("bob"), now);
    nigh_limits_settle(l, &k.rights[0], 0, 10, NAN, NIGH_STR("bob"), now);
    nigh_limits_settle(l, &k.rights[0], 0, 10, -5, NIGH_STR("bob"), now);
    for (int again = 0; again < 3; again++) {       /* the same after restarts */
        CHECK(near(nigh_limits_spent(l, &k.rights[0], NIGH_STR("ann"), now), 0.7));
        CHECK(near(nigh_limits_spent(l, &k.rights[1], NIGH_STR("bob"), now), 0.5));
        CHECK(near(nigh_limits_key_spent(l, &k.rights[0], now), 0.9) && !nigh_limits_over_budget(l, &k.rights[0], now));
        CHECK(near(nigh_limits_key_spent(l, &k.rights[1], now), 0.3) && near(nigh_limits_spent(l, &k.rights[0],
            NIGH_STR("cat"), now), 0));
        nigh_limits_close(l);
        CHECK_MSG(nigh_limits_open(&l, &k, path, &err) == NIGH_OK, "%s", err.text);
    }
    nigh_limits_settle(l, &k.rights[0], 0, 10, 0.1, NIGH_STR("cat"), now);
    CHECK(nigh_limits_over_budget(l, &k.rights[0], now) && !nigh_limits_over_budget(l, &k.rights[1], now));
    CHECK(!nigh_limits_over_budget(l, &k.rights[0], tomorrow));
    CHECK(near(nigh_limits_spent(l, &k.rights[0], NIGH_STR("ann"), tomorrow), 0));
    CHECK(near(nigh_limits_spent(l, &k.rights[0], NIGH_STR("ann"), now), 0));  /* a clock set back brings no day back */
    nigh_limits_close(l);
    nigh_keys_release(&k);
}

/* Half a record at the end, a damaged byte, another's file. */
static void test_damage(void) {
    nigh_keys k = two_keys((nigh_rights){ .usd_day = 1 }, (nigh_rights){ .usd_day = 1 });
    nigh_limits *l = NULL;
    char path[128];
    uint64_t now = nigh_os_unix_ms();
    nigh_buf file = NIGH_BUF(1 << 20);
    snprintf(path, sizeof path, "%s", path_of("damaged"));
    CHECK(nigh_limits_open(&l, &k, path, &err) == NIGH_OK);
    for (size_t i = 0; i < 4; i++) nigh_limits_settle(l, &k.rights[0], 0, 0, 0.25, NIGH_STR("u"), now);
    nigh_limits_close(l);
    CHECK(nigh_file_read(&file, path, &err) == NIGH_OK && file.len == 16 + 8 * 40);
    for (size_t len = 0; len <= file.len; len++) {
        write_text(path, file.ptr, len, 0600);
        bool whole = len == 0 || len >= 16;
        nigh_status status = nigh_limits_open(&l, &k, path, &err);
        CHECK_MSG((status == NIGH_OK) == whole, "%zu bytes: %d %s", len, status, err.text);
        if (status != NIGH_OK) continue;
        double want = len < 16 ? 0 : (double)((len - 16) / 40 + 1) / 2 * 0.25;
        double got = nigh_limits_key_spent(l, &k.rights[0], now);
        CHECK_MSG(near(got, floor(want * 4) / 4), "%zu bytes: %f, not %f", len, got, want);
        nigh_limits_close(l);
    }
    write_text(path, file.ptr, file.len, 0644);
    CHECK(nigh_limits_open(&l, &k, path, &err) == NIGH_EINVAL);
    nigh_buf_release(&file);
    nigh_keys_release(&k);
    CHECK(nigh_alloc_live_bytes() == 0);
}

/* No memory for another user's sum: a limit may hold too early then, never too late. */
static void test_no_memory(void) {
    nigh_keys k = two_keys((nigh_rights){ .usd_day = 1 }, (nigh_rights){ .usd_day = 1 });
    nigh_limits *l = NULL;
    uint64_t now = nigh_os_unix_ms();
    for (uint64_t n = 1; n < 3; n++) {
        nigh_alloc_fail_at(n, true);
        CHECK(nigh_limits_open(&l, &k, NULL, &err) == NIGH_ENOMEM);
        nigh_alloc_fail_at(0, false);
    }
    CHECK(nigh_limits_open(&l, &k, NULL, &err) == NIGH_OK);
    nigh_alloc_fail_at(1, true);
    for (size_t i = 0; i < 1000; i++) {
        char user[16];
        snprintf(user, sizeof user, "u%zu", i);
        nigh_limits_settle(l, &k.rights[0], 0, 0, 0.25, nigh_str_of(user), now);
        CHECK(nigh_limits_spent(l, &k.rights[0], nigh_str_of(user), now) >= 0.25);
    }
    CHECK(near(nigh_limits_key_spent(l, &k.rights[0], now), 250));
    CHECK(nigh_limits_spent(l, &k.rights[0], NIGH_STR("new"), now) > 100);
    nigh_alloc_fail_at(0, false);
    nigh_limits_close(l);
    nigh_keys_release(&k);
    CHECK(nigh_alloc_live_bytes() == 0);
}

/* Killed at any moment: what a child said it had settled is there. */
static void test_kill(void) {
    nigh_keys k = two_keys((nigh_rights){ .usd_day = 1e9 }, (nigh_rights){ .usd_day = 1 });
    char path[128];
    uint64_t seed = test_seed();
    snprintf(path, sizeof path, "%s", path_of("killed"));
    double said = 0;
    for (int round = 0; round < 20; round++) {
        int pipes[2], count = 0;
        char byte;
        CHECK(pipe(pipes) == 0);
        pid_t pid = fork();
        if (pid == 0) {
            nigh_limits *l;
            if (nigh_limits_open(&l, &k, path, NULL) != NIGH_OK) _exit(2);
            for (;;) {
                nigh_limits_settle(l, &k.rights[0], 0, 0, 1, NIGH_STR("u"), nigh_os_unix_ms());
                if (write(pipes[1], "x", 1) != 1) _exit(0);
            }
        }
        close(pipes[1]);
        usleep(2000 + (useconds_t)(test_rand(&seed) % 5000));
        kill(pid, SIGKILL);
        while (read(pipes[0], &byte, 1) == 1) count++;
        close(pipes[0]);
        waitpid(pid, NULL, 0);
        nigh_limits *l;
        CHECK_MSG(nigh_limits_open(&l, &k, path, &err) == NIGH_OK, "%s", err.text);
        double got = nigh_limits_key_spent(l, &k.rights[0], nigh_os_unix_ms());
        CHECK_MSG(got >= said + count - 1e-6 && got <= said + count + 1.000001, "%f after %f said", got, said + count);
        said = got;
        nigh_limits_close(l);
    }
    printf("  %.0f amounts, 20 kills\n", said);
    CHECK(said > 20);
    nigh_keys_release(&k);
}

static nigh_limits *shared;
static nigh_keys shared_keys;
static void *spend(void *ud) {
    char user[16];
    uint32_t retry;
    for (size_t i = 0; i < 2000; i++) {
        snprintf(user, sizeof user, "u%zu", i);
        size_t key = (size_t)ud % 2;
        bool ok = nigh_limits_take(shared, &shared_keys.rights[key], 3, nigh_os_unix_ms(), &retry, NULL) == NIGH_OK;
        if (!ok && !retry) return NULL;
        nigh_limits_settle(shared, &shared_keys.rights[0], 3, 2, 0.5, nigh_str_of(user), nigh_os_unix_ms());
    }
    return NULL;
}

static void test_threads(void) {
    pthread_t threads[4];
    shared_keys = two_keys((nigh_rights){ .usd_day = 1, .rpm = 1000, .tpm = 1000 }, (nigh_rights){ .usd_day = -1 });
    CHECK(nigh_limits_open(&shared, &shared_keys, path_of("threads"), &err) == NIGH_OK);
    for (size_t i = 0; i < 4; i++) CHECK(pthread_create(&threads[i], NULL, spend, (void *)i) == 0);
    for (size_t i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    CHECK(near(nigh_limits_key_spent(shared, &shared_keys.rights[0], nigh_os_unix_ms()), 4000));
    CHECK(near(nigh_limits_spent(shared, &shared_keys.rights[0], NIGH_STR("u77"), nigh_os_unix_ms()), 2));
    nigh_limits_close(shared);
    nigh_keys_release(&shared_keys);
    CHECK(nigh_alloc_live_bytes() == 0);
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    CHECK(system(command) == 0);
}

TEST_MAIN(T(test_lines), T(test_keys), T(test_rights), T(test_minute), T(test_money), T(test_damage), T(test_no_memory),
    T(test_kill), T(test_threads))
