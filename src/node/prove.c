/* prove.c - a node and its requests inside a namespace; ledger and packets compared outside. */
#define _GNU_SOURCE
#include "node/prove.h"

#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/json.h"
#include "base/os.h"
#include "node/ledger.h"
#include "node/local_call.h"

enum { ANSWER_MAX = 4 << 20, WAIT_S = 600 };
enum { INSIDE_NO_NODE = 3, INSIDE_BAD_END = 4 };      /* exit codes of the child */

/* What the child gets: the question, and where the node keeps its things. */
typedef struct { const nigh_prove_ask *a; const char *home, *ledger, *log; } work;

/* The whole number that a text begins with; 0: none. */
static unsigned number_at(const char *text) {
    unsigned n = 0;
    for (; *text >= '0' && *text <= '9' && n < 100000; text++) n = n * 10 + (unsigned)(*text - '0');
    return n;
}

/* ---- inside: a node, and the requests ---- */

/* One request over loopback, one whole answer. 0: it could not be had. */
static int ask(uint16_t port, const char *class, nigh_str body, nigh_buf *answer) {
    int status = 0;
    const nigh_local_ask a = { .port = port, .path = "/v1/chat/completions", .field = class ? "x-data-class" : NULL,
        .value = class, .body = body, .wait_s = WAIT_S };
    return nigh_local_call(&a, &status, answer, NULL) == NIGH_OK ? status : 0;
}

/* The node as a child of this process; its port, or 0. */
static uint16_t start_node(const work *w, pid_t *pid) {
    char *argv[64] = { "nigh", "serve", "--port", "0", "--policy", (char *)w->a->policy, "--ledger",
        (char *)w->ledger };
    char line[1024];
    size_t n = 8;
    unsigned port = 0;
    int out[2];
    for (size_t i = 0; i < w->a->allow_private_count; i++) {
        argv[n++] = "--allow-private";
        argv[n++] = (char *)w->a->allow_private[i];
    }
    for (size_t i = 0; i < w->a->model_count; i++) argv[n++] = (char *)w->a->models[i];
    if (pipe(out) != 0) return 0;
    *pid = fork();
    if (*pid == 0) {
        int log = open(w->log, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        dup2(out[1], 1);
        if (log >= 0) dup2(log, 2);
        close(out[0]);
        setenv("NIGH_HOME", w->home, 1);    /* no keys: it listens on the namespace's own loopback only */
        execv("/proc/self/exe", argv);
        _exit(127);
    }
    close(out[1]);
    FILE *f = fdopen(out[0], "r");
    while (f && !port && fgets(line, sizeof line, f)) {
        const char *at = strstr(line, "nigh is at http://127.0.0.1:");
        if (at) port = number_at(at + strlen("nigh is at http://127.0.0.1:"));
    }
    return (uint16_t)port;          /* the pipe stays open: the node may still print */
}

static nigh_status write_body(const work *w, int64_t i, nigh_buf *b) {
    uint64_t random = (uint64_t)w->a->seed * 0x9e3779b97f4a7c15u + (uint64_t)i * 0xbf58476d1ce4e5b9u;
    b->len = 0;
    NIGH_TRY(nigh_buf_add(b, NIGH_STR("{\"max_tokens\":32,\"model\":")));
    nigh_buf name = NIGH_BUF(1024);
    nigh_status status = nigh_buf_addf(&name, "feature/%s", w->a->feature);
    if (status == NIGH_OK) status = nigh_json_add_string(b, nigh_buf_str(&name));
    nigh_buf_release(&name);
    NIGH_TRY(status);
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"messages\":[{\"role\":\"user\",\"content\":")));
    NIGH_TRY(nigh_json_add_string(b, nigh_str_of(w->a->text)));
    b->len--;                       /* its closing mark */
    for (uint64_t n = w->a->seed ? (random >> 33) % 301 : 0; n; n--) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        NIGH_TRY(nigh_buf_addf(b, " w%llx", (unsigned long long)(random >> (40 + n % 16))));
    }
    return nigh_buf_add(b, NIGH_STR("\"}]}"));
}

/* In the namespace. Writes one line a request to `out`: its HTTP status. */
static int inside(void *ud, int out) {
    const work *w = ud;
    nigh_buf body = NIGH_BUF(1 << 20), answer = NIGH_BUF(ANSWER_MAX);
    pid_t node = 0;
    uint16_t port = start_node(w, &node);
    int code = port ? 0 : INSIDE_NO_NODE;
    for (int64_t i = 0; i < w->a->requests && code == 0; i++)
        if (write_body(w, i, &body) != NIGH_OK
            || dprintf(out, "%d\n", ask(port, w->a->class_name, nigh_buf_str(&body), &answer)) < 0)
            code = INSIDE_BAD_END;
    int state;
    if (node > 0) {
        kill(node, SIGTERM);
        waitpid(node, &state, 0);
        if (code == 0 && !(WIFEXITED(state) && WEXITSTATUS(state) == 0)) code = INSIDE_BAD_END;
    }
    return code;
}

/* ---- outside: the comparison ---- */

static void add_hops(const nigh_json *records, nigh_prove_result *r) {
    for (const nigh_json *one = nigh_json_first(records); one; one = one->next) {
        const nigh_json *hops = nigh_json_get(one, NIGH_STR("hops"));
        r->answered += nigh_json_says(one, "outcome", "answered");
        for (const nigh_json *h = nigh_json_first(hops); h; h = h->next) {
            if (nigh_json_says(h, "tier", "device")) continue;
            r->calls_away++;
            r->ledger_out += nigh_json_count(h, "bytes_out");
            r->ledger_in += nigh_json_count(h, "bytes_in");
        }
    }
}

static nigh_status read_ledger(const char *path, nigh_prove_result *r, nigh_err *err) {
    const nigh_ledger_query all = { .limit = NIGH_PROVE_REQUESTS_MAX };
    nigh_ledger_proof proof = { 0 };
    nigh_json_doc doc = { 0 };
    nigh_ledger *l;
    nigh_buf b = NIGH_BUF(256 << 20);
    NIGH_TRY(nigh_ledger_open_to_read(&l, path, err));
    nigh_status status = nigh_ledger_verify(l, NULL, &proof, err);
    if (status == NIGH_OK) status = nigh_ledger_find(l, &all, &b, err);
    nigh_ledger_close(l);
    if (status == NIGH_OK) status = nigh_json_parse(&doc, nigh_buf_str(&b), err);
    if (status == NIGH_OK) add_hops(nigh_json_get(doc.root, NIGH_STR("records")), r);
    r->records = proof.records;
    nigh_json_release(&doc);
    nigh_buf_release(&b);
    return status;
}

static void count_answers(int fd, nigh_prove_result *r) {
    char line[64];
    int own = dup(fd);
    FILE *f = own >= 0 ? fdopen(own, "r") : NULL;
    while (f && fgets(line, sizeof line, f)) {
        unsigned status = number_at(line);
        if (status != 200) *(status ? &r->errors : &r->failed) += 1;
    }
    if (f) fclose(f);
    else if (own >= 0) close(own);
}

static uint64_t apart(uint64_t a, uint64_t b) { return a > b ? a - b : b - a; }

/* Headers of Ethernet, IPv4 and TCP: what a packet carries beside its payload, at most. */
enum { HEADERS_MAX = 14 + 60 + 60 };

static void judge(nigh_prove_result *r) {
    const nigh_prove_seen *seen = &r->seen;
    for (size_t i = 0; i < seen->place_count; i++) {
        const nigh_prove_place *p = &seen->places[i];
        *(p->port ? &r->line_out : &r->other_out) += p->bytes_out;
        r->line_in += p->port ? p->bytes_in : 0;
    }
    r->agrees = !seen->missed && apart(r->line_out, r->ledger_out) <= HEADERS_MAX * seen->packets_out
                && apart(r->line_in, r->ledger_in) <= HEADERS_MAX * seen->packets_in
                && (r->ledger_out != 0 || r->line_out == 0);
}

static nigh_status node_failed(const char *log, nigh_err *err) {
    nigh_buf text = NIGH_BUF(1 << 20);
    if (nigh_file_read(&text, log, NULL) == NIGH_OK) fwrite(text.ptr, 1, text.len, stderr);
    nigh_buf_release(&text);
    return nigh_fail(err, NIGH_EIO, 0, "the node did not start; what it said stands above");
}

static nigh_status run(const work *w, nigh_prove_result *r, nigh_err *err) {
    nigh_prove_wire *wire;
    int code;
    NIGH_TRY(nigh_prove_wire_open(&wire, w->a->outside, inside, (void *)w, err));
    count_answers(nigh_prove_wire_out(wire), r);
    NIGH_TRY(nigh_prove_wire_close(wire, &code, &r->seen, err));
    if (code == INSIDE_NO_NODE) return node_failed(w->log, err);
    if (code != 0) return nigh_failf(err, NIGH_EIO, 0, "the work inside the namespace ended with code %d", code);
    NIGH_TRY(read_ledger(w->ledger, r, err));
    judge(r);
    return NIGH_OK;
}

static int forget(const char *path, const struct stat *about, int kind, struct FTW *at) {
    (void)about;
    (void)kind;
    (void)at;
    return remove(path);
}

/* The node's home is a folder of its own, which is gone afterwards. */
nigh_status nigh_prove(const nigh_prove_ask *a, nigh_prove_result *out, nigh_err *err) {
    char folder[] = "/tmp/nigh-prove-XXXXXX", ledger[64], log[64];
    *out = (nigh_prove_result){ 0 };
    if (!mkdtemp(folder)) return nigh_fail(err, NIGH_EIO, 0, "no folder can be made in /tmp");
    nigh_format(ledger, sizeof ledger, "%s/ledger.db", folder);
    nigh_format(log, sizeof log, "%s/log", folder);
    const work w = { a, folder, ledger, log };
    nigh_status status = run(&w, out, err);
    (void)nftw(folder, forget, 16, FTW_DEPTH | FTW_PHYS);
    return status;
}
