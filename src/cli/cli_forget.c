/* cli_forget.c - `nigh forget`: what a node keeps of somebody's words is deleted. The node that runs does it, since
 * what it keeps is in its memory; without one there is only the queue's file. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/os.h"
#include "cli/cli.h"
#include "cli/cli_ledger.h"
#include "cli/show.h"
#include "node/local_call.h"
#include "node/outbox.h"

static const char help[] =
    "usage: nigh forget USER [OPTIONS]\n"
    "       nigh forget --all [OPTIONS]\n"
    "\n"
    "Deletes what the node of this machine keeps of the words of a user: answers\n"
    "that are kept, requests that wait in the queue, and their answers; also the\n"
    "beginnings of prompts that are held in memory for its tenant. There is no way\n"
    "back. Records of the ledger hold no words; they stay as long as the policy\n"
    "says (nigh ledger). What a capture keeps ends with nigh capture end.\n"
    "\n"
    "      --tenant T   whose user it is, default: of no tenant, one's own\n"
    "      --all        everybody of the tenant\n"
    "      --port N     of the node, default 6444. When none listens there, the queue\n"
    "                   below $NIGH_HOME is opened\n"
    "\n"
    "A node with keys wants one: NIGH_API_KEY in the environment.\n"
    "\n"
    "examples:\n"
    "  nigh forget u-17 --tenant acme\n"
    "  nigh forget --all\n";

enum { ANSWER_MAX = 1 << 20, WAIT_S = 60 };

static nigh_status write_body(nigh_buf *b, const char *tenant, const char *user) {
    NIGH_TRY(nigh_buf_add(b, NIGH_STR("{\"tenant\":")));
    NIGH_TRY(nigh_json_add_string(b, nigh_str_of(tenant)));
    if (!user) return nigh_buf_add(b, NIGH_STR(",\"all\":true}"));
    NIGH_TRY(nigh_buf_add(b, NIGH_STR(",\"user\":")));
    NIGH_TRY(nigh_json_add_string(b, nigh_str_of(user)));
    return nigh_buf_add_char(b, '}');
}

static uint64_t number_of(const nigh_json *object, const char *key) {
    const nigh_json *v = nigh_json_get(object, nigh_str_of(key));
    return v && v->is_int && v->integer > 0 ? (uint64_t)v->integer : 0;
}

static nigh_status read_answer(int http, nigh_str text, uint64_t *answers, uint64_t *queued, nigh_err *err) {
    nigh_json_doc doc = { 0 };
    nigh_status status = nigh_json_parse(&doc, text, NULL);
    if (status == NIGH_OK && http == 200) {
        *answers = number_of(doc.root, "answers");
        *queued = number_of(doc.root, "queued");
    } else {
        const nigh_json *e = status == NIGH_OK ? nigh_json_get(doc.root, NIGH_STR("error")) : NULL;
        const nigh_json *said = nigh_json_get(e, NIGH_STR("message"));
        nigh_str why = said && said->type == NIGH_JSON_STRING ? said->text : NIGH_STR("without a reason");
        status = nigh_failf(err, http == 401 ? NIGH_EAUTH : http == 403 ? NIGH_EPOLICY : NIGH_EIO, 0,
                            "the node refused it (%d): %.*s", http, (int)nigh_min(why.len, 160), why.ptr);
    }
    nigh_json_release(&doc);
    return status;
}

/* Without a node: nothing is in memory, but the queue may be on the disk. */
static nigh_status forget_file(const char *tenant, const char *user, uint64_t *queued, nigh_err *err) {
    char path[4096], key[4096];
    nigh_outbox *q;
    size_t count = 0;
    NIGH_TRY(nigh_cli_home_path("queue.db", path, sizeof path, err));
    NIGH_TRY(nigh_cli_home_path("keys/queue", key, sizeof key, err));
    if (!nigh_file_exists(path)) return NIGH_OK;
    NIGH_TRY(nigh_outbox_open(&q, path, key, err));
    nigh_status status = nigh_outbox_forget(q, nigh_str_of(tenant), nigh_str_of(user ? user : ""), &count, err);
    nigh_outbox_close(q);
    *queued = count;
    return status;
}

static nigh_status forget(uint16_t port, const char *tenant, const char *user, nigh_err *err) {
    nigh_buf body = NIGH_BUF(4096), answer = NIGH_BUF(ANSWER_MAX);
    uint64_t answers = 0, queued = 0;
    char a[32], b[32];
    int http = 0;
    nigh_status status = write_body(&body, tenant, user);
    nigh_local_ask ask = { .port = port, .path = "/nigh/forget", .key = nigh_os_env("NIGH_API_KEY"),
                           .body = nigh_buf_str(&body), .wait_s = WAIT_S };
    if (status == NIGH_OK) status = nigh_local_call(&ask, &http, &answer, err);
    bool runs = status != NIGH_ENOENT;
    if (status == NIGH_OK) status = read_answer(http, nigh_buf_str(&answer), &answers, &queued, err);
    else if (!runs) status = forget_file(tenant, user, &queued, err);
    nigh_buf_release(&body);
    nigh_buf_release(&answer);
    if (status != NIGH_OK) return status;
    printf("deleted %s kept answer%s and %s request%s of the queue\n", nigh_show_count(a, answers),
           answers == 1 ? "" : "s", nigh_show_count(b, queued), queued == 1 ? "" : "s");
    if (!runs) fprintf(stderr, "no node listens at port %u: only the queue's file was looked at\n", port);
    return NIGH_OK;
}

static nigh_status run(int argc, char **argv, nigh_err *err) {
    const char *tenant = "";
    int64_t port = 6444;
    bool all = false;
    const nigh_opt opts[] = { { "tenant", 0, NIGH_OPT_TEXT, &tenant, 0, 0 }, { "all", 0, NIGH_OPT_FLAG, &all, 0, 0 },
                              { "port", 0, NIGH_OPT_INT, &port, 1, 65535 } };
    NIGH_TRY(nigh_opts_read(opts, NIGH_COUNT(opts), &argc, argv, err));
    if (argc > 1 || all == (argc == 1) || (argc && !argv[0][0]))
        return nigh_fail(err, NIGH_EINVAL, 0, "wants the name of one user, or --all");
    return forget((uint16_t)port, tenant, all ? NULL : argv[0], err);
}

const nigh_command nigh_command_forget = { "forget", "delete what is kept of a user's words", help, run };
