/* bench_place.c - what placement costs: one decision (p50, p99) and redaction of text (MB/s), one thread, as CSV.
 *   bench_place [POLICY [TEXT...]]      defaults: examples/features.json, and a text made here */
#include <stdio.h>
#include <stdlib.h>

#include "base/os.h"
#include "place/decide.h"
#include "place/redact.h"

enum { DECISIONS = 200000, TEXT_BYTES = 16 << 20 };

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

static void bench_decisions(const nigh_policy *p) {
    static uint32_t ns[DECISIONS];
    nigh_place_facts facts = { .online = true, .on_mains = true, .ram_mb = 8000, .isa = ~0u, .models = ~0ull,
                               .tenant_zones = ~0ull };
    uint64_t state = 1, chosen = 0;
    for (size_t i = 0; i < DECISIONS; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        nigh_place_request r = { .feature_idx = (uint32_t)(state >> 33) % (uint32_t)(p->feature_count + 1),
                                 .data_class_idx = (uint32_t)(state >> 40) % (uint32_t)p->class_count,
                                 .found_class_idx = UINT32_MAX, .prompt_tokens = 500, .max_tokens = 200 };
        nigh_decision d;
        facts.online = state >> 50 & 1;
        uint64_t begun = nigh_os_now_ns();
        nigh_decide(p, &facts, &r, &d);
        ns[i] = (uint32_t)(nigh_os_now_ns() - begun);
        chosen += d.count;
    }
    qsort(ns, DECISIONS, sizeof *ns, by_size);
    printf("decision,p50_ns,%u\ndecision,p99_ns,%u\ndecision,targets_chosen,%llu\n", ns[DECISIONS / 2],
           ns[DECISIONS / 100 * 99], (unsigned long long)chosen);
}

static void bench_text(const char *name, nigh_str text) {
    nigh_buf out = NIGH_BUF(text.len * 2 + 64);
    double best = 1e9;
    size_t replaced = 0;
    for (int round = 0; round < 7; round++) {
        nigh_redactor *r;
        if (nigh_redactor_new(&r, 42, NULL) != NIGH_OK || nigh_buf_reserve(&out, text.len) != NIGH_OK) return;
        out.len = replaced = 0;
        uint64_t begun = nigh_os_thread_cpu_ns();   /* what a core does, also when others want it */
        nigh_err err = { 0 };
        unsigned kinds = nigh_find_kinds(NIGH_REDACT_PII | NIGH_REDACT_SECRETS);
        nigh_status status = nigh_redact(r, kinds, text, &out, &replaced, &err);
        double seconds = (double)(nigh_os_thread_cpu_ns() - begun) * 1e-9;
        if (status != NIGH_OK) printf("%s,error,%s\n", name, err.text);
        if (seconds < best) best = seconds;
        nigh_redactor_free(r);
    }
    printf("redact %s,MB_per_s,%.0f\nredact %s,findings,%zu\n", name, (double)text.len / best * 1e-6, name, replaced);
    nigh_buf_release(&out);
}

static nigh_str made_text(void) {
    static const char sentence[] = "The letter came in the morning, and she read it twice before she spoke: nothing in "
                                   "it - as far as one could tell - had been meant for her. ";
    char *text = malloc(TEXT_BYTES);
    for (size_t i = 0; text && i < TEXT_BYTES; i++) text[i] = sentence[i % (sizeof sentence - 1)];
    return (nigh_str){ text, text ? TEXT_BYTES : 0 };
}

int main(int argc, char **argv) {
    nigh_buf file = NIGH_BUF(NIGH_POLICY_BYTES_MAX);
    nigh_err err = { 0 };
    nigh_policy *p;
    if (nigh_file_read(&file, argc > 1 ? argv[1] : "examples/features.json", &err) != NIGH_OK
        || nigh_policy_parse(&p, nigh_buf_str(&file), &err) != NIGH_OK) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    printf("what,figure,value\n");
    bench_decisions(p);
    nigh_policy_free(p);
    nigh_buf_release(&file);
    nigh_str text = made_text();
    bench_text("made text", text);
    free((char *)text.ptr);
    for (int i = 2; i < argc; i++) {
        nigh_file f;
        if (nigh_file_open(&f, argv[i], NULL) != NIGH_OK) continue;
        bench_text(argv[i], f.bytes);
        nigh_file_close(&f);
    }
    return 0;
}
