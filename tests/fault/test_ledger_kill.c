/* test_ledger_kill.c - a process that writes a ledger is killed at any moment, or finds the disk full: the file opens
 * again, the chain verifies, and everything that a flush acknowledged is there. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "base/os.h"
#include "node/ledger.h"
#include "test.h"

static char folder[64], path[128];
static nigh_signer signer;

/* What the writing process says of itself; it lies in memory that outlives it. */
typedef struct { volatile uint64_t acknowledged, added; volatile int failed; } report;
static report *said;

static void begin(void) {
    char key[128];
    snprintf(folder, sizeof folder, "/tmp/nigh-ledger-kill-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/own/ledger.sqlite", folder);
    snprintf(key, sizeof key, "%s/key", folder);
    nigh_signer_open(&signer, key);
    said = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(signer.there && said != MAP_FAILED);
}

static void end(void) {
    char command[128];
    munmap(said, 4096);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    CHECK(system(command) == 0);
}

/* Record number i, which says so itself. */
static nigh_record record_of(uint64_t i) {
    nigh_record r = { .at_ms = i, .hop_count = 1 };
    snprintf(r.id, sizeof r.id, "rcpt-%016llx", (unsigned long long)i);
    snprintf(r.outcome, sizeof r.outcome, "answered");
    snprintf(r.feature, sizeof r.feature, "feature-%u", (unsigned)(i % 9));
    snprintf(r.hops[0].target, sizeof r.hops[0].target, "tiny");
    return r;
}

/* Adds from number `from` on, flushes now and then, until it is killed. */
static void write_for_ever(uint64_t from, uint64_t seed) {
    nigh_ledger *l;
    if (nigh_ledger_open(&l, path, &signer, NULL) != NIGH_OK) { said->failed = 1; _exit(1); }
    for (uint64_t i = from;; i++) {
        nigh_record r = record_of(i);
        if (nigh_ledger_add(l, &r, NULL) != NIGH_OK) { said->failed = 2; _exit(1); }
        said->added = i;
        if (test_rand(&seed) % 50 == 0) {
            if (nigh_ledger_flush(l, NULL) != NIGH_OK) { said->failed = 3; _exit(1); }
            said->acknowledged = i;
        }
        if (test_rand(&seed) % 300 == 0) usleep((useconds_t)(test_rand(&seed) % 3000));
    }
}

/* How many records are there; 0 when something does not fit. */
static uint64_t count_kept(unsigned round) {
    nigh_ledger *l;
    nigh_ledger_proof proof = { .records = 0 };
    nigh_err err = { 0 };
    nigh_status status = nigh_ledger_open(&l, path, &signer, &err);
    if (status == NIGH_OK) status = nigh_ledger_verify(l, signer.public_key, &proof, &err);
    CHECK_MSG(status == NIGH_OK, "round %u: %s", round, err.text);
    nigh_ledger_close(l);
    return status == NIGH_OK ? proof.records : 0;
}

static void killed_at_any_moment(void) {
    uint64_t seed = test_seed(), kept = 0, lost_unacknowledged = 0;
    unsigned rounds = test_short() ? 40 : 200;
    begin();
    for (unsigned round = 0; round < rounds; round++) {
        if (round % 20 == 0) { kept = 0; unlink(path); }
        *said = (report){ .acknowledged = kept, .added = kept };
        pid_t child = fork();
        if (child == 0) write_for_ever(kept + 1, seed + round);
        usleep((useconds_t)(test_rand(&seed) % 25000));
        kill(child, SIGKILL);
        int how;
        CHECK(waitpid(child, &how, 0) == child && WIFSIGNALED(how));
        CHECK_MSG(said->failed == 0, "round %u: %d", round, said->failed);
        uint64_t now = count_kept(round);
        CHECK_MSG(now >= said->acknowledged && now <= said->added + 1, "seed %llu round %u: %llu of %llu acknowledged",
                  (unsigned long long)test_seed(), round, (unsigned long long)now,
                  (unsigned long long)said->acknowledged);
        lost_unacknowledged += now < said->added ? said->added - now : 0;
        kept = now;
    }
    printf("  %u kills; 0 acknowledged records lost, %llu that were only added\n", rounds,
           (unsigned long long)lost_unacknowledged);
    fflush(stdout);                                         /* what waits would be printed by every child, too */
    end();
}

/* In a process of its own: a file may not grow beyond `bytes`, as on a disk that is full. */
static void limit_files(uint64_t bytes) {
    struct rlimit limit;
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = bytes ? bytes : limit.rlim_max;
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(9);
}

static int fill_and_heal(void) {
    nigh_ledger *l;
    nigh_err err = { 0 };
    uint64_t i = 1, acknowledged = 0;
    if (nigh_ledger_open(&l, path, &signer, NULL) != NIGH_OK) return 1;
    limit_files(400 << 10);
    for (; i < 100000; i++) {
        nigh_record r = record_of(i);
        if (nigh_ledger_add(l, &r, &err) != NIGH_OK) break;
        if (i % 40 == 0 && nigh_ledger_flush(l, &err) == NIGH_OK) acknowledged = i;
    }
    if (i == 100000 || err.code != NIGH_EIO || !strstr(err.text, "no record can be kept")) return 2;
    if (nigh_ledger_flush(l, &err) != NIGH_EIO) return 3;
    nigh_record r = record_of(i);
    if (nigh_ledger_add(l, &r, &err) != NIGH_EIO) return 4;     /* no answer without a record */
    limit_files(0);                                             /* room again */
    if (nigh_ledger_flush(l, &err) != NIGH_OK) return 5;
    if (nigh_ledger_add(l, &r, &err) != NIGH_OK) return 6;
    nigh_ledger_close(l);
    said->acknowledged = acknowledged;
    said->added = i;
    return 0;
}

static void disk_full(void) {
    int how;
    begin();
    pid_t child = fork();
    if (child == 0) _exit(fill_and_heal());
    CHECK(waitpid(child, &how, 0) == child);
    CHECK_MSG(WIFEXITED(how) && WEXITSTATUS(how) == 0, "step %d", WEXITSTATUS(how));
    CHECK(said->acknowledged > 0 && count_kept(0) == said->added);  /* what waited was written, too */
    end();
}

/* Full from the first byte on, and never healed: closing ends, opening later works. */
static void disk_full_to_the_end(void) {
    int how;
    begin();
    CHECK(count_kept(0) == 0);
    pid_t child = fork();
    if (child == 0) {
        nigh_ledger *l;
        nigh_record r = record_of(1);
        if (nigh_ledger_open(&l, path, &signer, NULL) != NIGH_OK) _exit(1);
        limit_files(1);
        if (nigh_ledger_add(l, &r, NULL) != NIGH_OK) _exit(2);
        if (nigh_ledger_flush(l, NULL) != NIGH_EIO) _exit(3);
        nigh_ledger_close(l);
        _exit(0);
    }
    CHECK(waitpid(child, &how, 0) == child);
    CHECK_MSG(WIFEXITED(how) && WEXITSTATUS(how) == 0, "step %d", WEXITSTATUS(how));
    CHECK(count_kept(1) == 0);
    end();
}

static int second_process(void) {
    nigh_ledger *l;
    nigh_err err = { 0 };
    nigh_ledger_proof proof;
    if (nigh_ledger_open(&l, path, &signer, &err) != NIGH_EBUSY || !strstr(err.text, "another process")) return 1;
    if (nigh_ledger_open_to_read(&l, path, &err) != NIGH_OK) return 2;
    for (int i = 0; i < 20; i++) {
        if (nigh_ledger_verify(l, signer.public_key, &proof, &err) != NIGH_OK) return 3;
        usleep(2000);
    }
    nigh_ledger_close(l);
    return proof.records > 0 ? 0 : 4;
}

static void two_processes(void) {
    nigh_ledger *l;
    int how = 0;
    begin();
    CHECK(nigh_ledger_open(&l, path, &signer, NULL) == NIGH_OK);
    nigh_record first = record_of(1);
    CHECK(nigh_ledger_add(l, &first, NULL) == NIGH_OK && nigh_ledger_flush(l, NULL) == NIGH_OK);
    pid_t child = fork();
    if (child == 0) _exit(second_process());
    for (uint64_t i = 2; waitpid(child, &how, WNOHANG) == 0; i++) {
        nigh_record r = record_of(i);
        CHECK(nigh_ledger_add(l, &r, NULL) == NIGH_OK && nigh_ledger_flush(l, NULL) == NIGH_OK);
    }
    CHECK_MSG(WIFEXITED(how) && WEXITSTATUS(how) == 0, "step %d", WEXITSTATUS(how));
    nigh_ledger_close(l);
    end();
}

TEST_MAIN(T(killed_at_any_moment), T(disk_full), T(disk_full_to_the_end), T(two_processes))
