/* bench_ledger.c - what a record costs: `nigh_ledger_add` alone, a sustained rate, checking, as CSV.
 * usage: bench_ledger [RECORDS] [RATE]     default 200,000 records; RATE a second for the paced row, default 20,000 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"
#include "node/ledger.h"

static nigh_record record_of(uint64_t i) {
    nigh_record r = { .at_ms = nigh_os_unix_ms(), .policy_version = 3, .prompt_tokens = 212, .completion_tokens = 64,
                      .cost_usd = 0.00081, .first_ms = 190, .total_ms = 1240, .hop_count = 1 };
    snprintf(r.id, sizeof r.id, "rcpt-%016llx", (unsigned long long)(i * 0x9e3779b97f4a7c15u));
    snprintf(r.tenant, sizeof r.tenant, "acme");
    snprintf(r.feature, sizeof r.feature, "feature-%u", (unsigned)(i % 9));
    snprintf(r.class_name, sizeof r.class_name, "personal");
    snprintf(r.to, sizeof r.to, "loopback");
    snprintf(r.outcome, sizeof r.outcome, "answered");
    snprintf(r.why, sizeof r.why, "local-first; tiny: context");
    snprintf(r.hops[0].target, sizeof r.hops[0].target, "big-eu");
    snprintf(r.hops[0].tier, sizeof r.hops[0].tier, "cloud");
    snprintf(r.hops[0].model, sizeof r.hops[0].model, "large");
    snprintf(r.hops[0].address, sizeof r.hops[0].address, "203.0.113.7");
    snprintf(r.hops[0].ended, sizeof r.hops[0].ended, "ok");
    r.hops[0].bytes_out = 1893;
    return r;
}

static double cpu_s(void) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) + (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static double now_s(void) { return (double)nigh_os_now_ns() / 1e9; }

static void fail(const char *what, const nigh_err *err) {
    fprintf(stderr, "%s: %s\n", what, err->text);
    exit(1);
}

/* As fast as it goes; waits where the queue is full. */
static void run_flat_out(nigh_ledger *l, uint64_t count) {
    nigh_err err = { 0 };
    nigh_record r = record_of(1);
    double wall = now_s(), cpu = cpu_s();
    uint64_t own = nigh_os_thread_cpu_ns();
    for (uint64_t i = 0; i < count; i++) {
        snprintf(r.id, sizeof r.id, "rcpt-%016llx", (unsigned long long)(i * 0x9e3779b97f4a7c15u));
        nigh_status status = nigh_ledger_add(l, &r, &err);
        if (status == NIGH_EBUSY) { i--; usleep(20000); }
        else if (status != NIGH_OK) fail("add", &err);
    }
    own = nigh_os_thread_cpu_ns() - own;
    if (nigh_ledger_flush(l, &err) != NIGH_OK) fail("flush", &err);
    wall = now_s() - wall;
    printf("flat out,records,%llu\nflat out,processor ns of add and its id,%.0f\nflat out,records a second,%.0f\n"
           "flat out,processor us a record,%.2f\n", (unsigned long long)count, (double)own / (double)count,
           (double)count / wall, (cpu_s() - cpu) * 1e6 / (double)count);
}

/* At a rate, as answers come: how much of one core it takes. */
static void run_paced(nigh_ledger *l, uint64_t rate) {
    nigh_err err = { 0 };
    double begin = now_s(), cpu = cpu_s();
    uint64_t done = 0, refused = 0;
    while (now_s() - begin < 5) {
        for (uint64_t due = (uint64_t)((now_s() - begin) * (double)rate); done < due; done++) {
            nigh_record r = record_of(done);
            nigh_status status = nigh_ledger_add(l, &r, &err);
            if (status == NIGH_EBUSY) refused++;
            else if (status != NIGH_OK) fail("add", &err);
        }
        usleep(1000);
    }
    uint64_t last = nigh_os_now_ns();
    if (nigh_ledger_flush(l, &err) != NIGH_OK) fail("flush", &err);
    printf("paced,records a second,%llu\npaced,refused,%llu\npaced,share of one core,%.3f\npaced,last flush ms,%.1f\n",
           (unsigned long long)rate, (unsigned long long)refused, (cpu_s() - cpu) / (now_s() - begin),
           (double)(nigh_os_now_ns() - last) / 1e6);
}

int main(int argc, char **argv) {
    uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 10) : 200000, rate = argc > 2 ? strtoull(argv[2], NULL,
                                                                                                 10) : 20000;
    char folder[] = "./bench-ledger-XXXXXX", path[128], key[128], command[128];
    nigh_signer signer;
    nigh_ledger *l;
    nigh_ledger_proof proof;
    nigh_err err = { 0 };
    struct stat st;
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/ledger.sqlite", folder);
    snprintf(key, sizeof key, "%s/key", folder);
    nigh_signer_open(&signer, key);
    if (nigh_ledger_open(&l, path, &signer, &err) != NIGH_OK) fail("open", &err);
    printf("what,unit,value\n");
    run_paced(l, rate);
    run_flat_out(l, count);
    double begin = cpu_s();
    if (nigh_ledger_verify(l, signer.public_key, &proof, &err) != NIGH_OK) fail("verify", &err);
    printf("verify,processor us a record,%.2f\nverify,records,%llu\nverify,signatures,%llu\n",
           (cpu_s() - begin) * 1e6 / (double)proof.records, (unsigned long long)proof.records,
           (unsigned long long)proof.heads);
    uint64_t records = proof.records;
    nigh_ledger_close(l);
    if (stat(path, &st) == 0) printf("file,bytes a record,%.0f\n", (double)st.st_size / (double)records);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) != 0;
}
