/* cli_verify.c - `nigh verify`: does a receipt hold, does the ledger, and is an answer what its model says?
 *
 *     receipt  (nigh-receipt)   signature and chain, by the public key alone
 *     kept     (nigh-kept)      the same, and the request is answered again with the model of the receipt's hash: equal
 *                               words, finish reasons and token counts, or where they differ
 *     --ledger                  every record and every signature
 *
 * A model is looked for by its hash: the file that --model names, else in the folders where models lie. */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "base/os.h"
#include "cli/cli.h"
#include "cli/cli_ledger.h"
#include "cli/cli_model.h"
#include "cli/show.h"
#include "node/peer.h"
#include "node/replay.h"

static const char help[] =
    "usage: nigh verify RECEIPT.json [OPTIONS]\n"
    "       nigh verify --ledger [OPTIONS]\n"
    "\n"
    "Checks a signed receipt: was the record changed, and who signed it? With\n"
    "--ledger: the whole ledger, every record, every signature, and that nothing is\n"
    "missing; a receipt beside it must be in that ledger.\n"
    "\n"
    "A file that `nigh where ID --request FILE --answer FILE` made holds what was\n"
    "asked and answered, too. If the answer was made on a device, it is made again\n"
    "here, with the model of the same hash, and compared byte by byte. A receipt\n"
    "holds no hash of the words; what ties them to it is the model, the request and\n"
    "the counts of tokens.\n"
    "\n"
    "      --public-key HEX who must have signed, 64 digits; without it the key of\n"
    "                       this machine's node, if it has one, and for a receipt of\n"
    "                       another node: whoever signed it, which is printed\n"
    "      --file FILE      the ledger, default $NIGH_HOME/ledger.db, or below\n"
    "                       ~/.local/share/nigh\n"
    "      --model FILE     the model to answer again with; without it the one with\n"
    "                       the right hash is looked for\n"
    "  -t, --threads N      default: one for each core; any number gives the same\n"
    "                       bytes\n"
    "      --context N, --cache TYPE   as the node had them, if it was started with\n"
    "                       them\n"
    "\n"
    "exit codes: 0 it holds; 2 no such file or model; 6 changed, incomplete, or\n"
    "another answer; 9 another key\n"
    "\n"
    "examples:\n"
    "  nigh where last --receipt > receipt.json && nigh verify receipt.json\n"
    "  nigh verify --ledger\n"
    "  nigh verify receipt.json --ledger\n";

enum { FILE_MAX = 192 << 20, ANSWER_MAX = 64 << 20, SHOWN = 60 };

typedef struct {
    const char *public_key, *file, *model, *cache;
    int64_t threads, context;
    bool ledger;
} words;

/* ---- the ledger ---- */

static nigh_status print_ledger(const words *w, nigh_err *err) {
    uint8_t key[32];
    bool there;
    char n[32], heads[32], when[64];
    nigh_ledger *l;
    nigh_ledger_proof p;
    NIGH_TRY(nigh_cli_public_key(w->public_key, key, &there, err));
    NIGH_TRY(nigh_cli_ledger_open(&l, w->file, err));
    nigh_status status = nigh_ledger_verify(l, there ? key : NULL, &p, err);
    nigh_ledger_close(l);
    if (status != NIGH_OK) return status;
    if (!p.records && !p.expired_n) { printf("the ledger is empty\n"); return NIGH_OK; }
    printf("the ledger holds: %s record%s, %s signature%s\n", nigh_show_count(n, p.records), p.records == 1 ? "" : "s",
           nigh_show_count(heads, p.heads), p.heads == 1 ? "" : "s");
    if (p.expired_n)
        printf("records 1 to %s were deleted for their age, all written before %s\n", nigh_show_count(n, p.expired_n),
               nigh_cli_time(when, p.expired_before_ms));
    if (p.signers > 1) printf("signed by %llu different keys\n", (unsigned long long)p.signers);
    if (!there) printf("no public key was named: it fits together, but anybody with a key could have written it\n");
    printf("ledger  %s\nkey     %s\nhead    record %llu, %s\n", p.ledger, p.key,
           (unsigned long long)(p.first_n + p.records - 1), p.chain);
    printf("Note the head elsewhere: a ledger that is cut or set back later does not come to it any more.\n");
    return NIGH_OK;
}

/* Is the receipt's record in this ledger, the same to the byte? */
static nigh_status find_in_ledger(const nigh_json *receipt, const words *w, nigh_err *err) {
    nigh_str id = nigh_json_text(nigh_json_get(receipt, NIGH_STR("record")), "id");
    nigh_buf b = NIGH_BUF(1 << 20), kept = NIGH_BUF(1 << 20), shown = NIGH_BUF(1 << 20);
    nigh_json_doc doc;
    nigh_ledger *l;
    NIGH_TRY(nigh_cli_ledger_open(&l, w->file, err));
    nigh_status status = nigh_ledger_receipt(l, id, &b, err);
    if (status == NIGH_OK) status = nigh_json_parse(&doc, nigh_buf_str(&b), err);
    if (status == NIGH_OK) {
        status = nigh_json_add_value(&kept, nigh_json_get(doc.root, NIGH_STR("record")));
        if (status == NIGH_OK) status = nigh_json_add_value(&shown, nigh_json_get(receipt, NIGH_STR("record")));
        bool same = nigh_str_eq(nigh_buf_str(&kept), nigh_buf_str(&shown))
                    && nigh_str_eq(nigh_json_text(doc.root, "ledger"), nigh_json_text(receipt, "ledger"))
                    && nigh_str_eq(nigh_json_text(doc.root, "before"), nigh_json_text(receipt, "before"));
        if (status == NIGH_OK && !same)
            status = nigh_fail(err, NIGH_EDATA, 0, "the ledger has another record under this name: one was replaced");
        nigh_json_release(&doc);
    } else if (status == NIGH_ENOENT)
        nigh_fail(err, status, 0, "this ledger does not have the record: it is another one, the record was deleted "
                                  "for its age, or the ledger was cut");
    if (status == NIGH_OK) printf("the ledger has the same record\n");
    nigh_ledger_close(l);
    nigh_buf_release(&b);
    nigh_buf_release(&kept);
    nigh_buf_release(&shown);
    return status;
}

/* ---- the model of a hash ---- */

static bool search_folder(const char *folder, nigh_str hash, char *out, size_t cap) {
    DIR *d = opendir(folder);
    bool found = false;
    if (!d) return false;
    for (struct dirent *e; !found && (e = readdir(d));)
        found = nigh_str_ends(nigh_str_of(e->d_name), NIGH_STR(".gguf"))
                && nigh_format(out, cap, "%s/%s", folder, e->d_name) < cap && nigh_cli_has_hash(out, hash);
    closedir(d);
    return found;
}

/* The folder that a shipped model's path lies in tells where models are looked for. */
static nigh_status find_model(const nigh_json *hop, const words *w, char *out, size_t cap, nigh_err *err) {
    nigh_str hash = nigh_json_text(hop, "model_sha256"), model = nigh_json_text(hop, "model");
    char name[256], folder[4096];
    if (hash.len != 64) return nigh_fail(err, NIGH_EINVAL, 0, "the receipt does not say the hash of the model");
    if (w->model) {
        NIGH_TRY(nigh_cli_model_path(w->model, out, cap, err));
        if (nigh_cli_has_hash(out, hash)) return NIGH_OK;
        return nigh_failf(err, NIGH_EDATA, 0, "%s is not the model of the receipt (sha256 %.12s...)", out, hash.ptr);
    }
    nigh_format(name, sizeof name, "%.*s", (int)model.len, model.ptr);
    if (!strchr(name, '/') && name[0] && nigh_cli_model_path(name, out, cap, NULL) == NIGH_OK
        && nigh_cli_has_hash(out, hash))
        return NIGH_OK;
    if (nigh_cli_model_path("nigh-stories", folder, sizeof folder, NULL) == NIGH_OK && strrchr(folder, '/')) {
        *strrchr(folder, '/') = '\0';
        if (search_folder(folder, hash, out, cap)) return NIGH_OK;
    }
    if (nigh_cli_home_path("models", folder, sizeof folder, NULL) == NIGH_OK && search_folder(folder, hash, out, cap))
        return NIGH_OK;
    return nigh_failf(err, NIGH_ENOENT, 0, "the model %s (sha256 %.12s...) is not here; name its file with --model",
                      name,
                      hash.ptr);
}

/* ---- the same answer again ---- */

/* Of a choice: its text, or its message; of one that is a text itself, that. */
static nigh_status add_words(nigh_buf *out, const nigh_json *choice) {
    const nigh_json *message = nigh_json_get(choice, NIGH_STR("message"));
    const nigh_json *content = nigh_json_get(message ? message : choice, message ? NIGH_STR("content")
                                                                                 : NIGH_STR("text"));
    const nigh_json *tools = nigh_json_get(message, NIGH_STR("tool_calls"));
    if (choice->type == NIGH_JSON_STRING) return nigh_buf_add(out, choice->text);
    if (content && content->type == NIGH_JSON_STRING) NIGH_TRY(nigh_buf_add(out, content->text));
    return tools && tools->type == NIGH_JSON_ARRAY ? nigh_json_add_value(out, tools) : NIGH_OK;
}

static void print_around(const char *what, nigh_str s, size_t at) {
    printf("  %s", what);
    nigh_show_text(stdout, nigh_str_slice(s, at > 20 ? at - 20 : 0, nigh_min(s.len, at + SHOWN)), 0);
    putchar('\n');
}

static nigh_status compare_words(size_t i, nigh_str kept, nigh_str now, nigh_err *err) {
    char n[32];
    size_t at = 0;
    if (nigh_str_eq(kept, now)) {
        printf("answer %zu: equal, %s\n", i + 1, nigh_show_bytes(n, now.len));
        return NIGH_OK;
    }
    while (at < kept.len && at < now.len && kept.ptr[at] == now.ptr[at]) at++;
    printf("answer %zu: differs from byte %zu on\n", i + 1, at);
    print_around("kept: ", kept, at);
    print_around("now:  ", now, at);
    return nigh_failf(err, NIGH_EDATA, at,
        "the answer that was kept is not what this model answers: answer %zu differs from byte %zu on", i + 1, at);
}

static nigh_status compare_choice(size_t i, const nigh_json *kept, const nigh_json *now, nigh_err *err) {
    nigh_buf a = NIGH_BUF(ANSWER_MAX), b = NIGH_BUF(ANSWER_MAX);
    nigh_status status = add_words(&a, kept);
    if (status == NIGH_OK) status = add_words(&b, now);
    if (status == NIGH_OK) status = compare_words(i, nigh_buf_str(&a), nigh_buf_str(&b), err);
    nigh_str ended = nigh_json_text(kept, "finish_reason");
    if (status == NIGH_OK && ended.len && !nigh_str_eq(ended, nigh_json_text(now, "finish_reason")))
        status = nigh_failf(err, NIGH_EDATA, 0, "answer %zu ended with another reason", i + 1);
    nigh_buf_release(&a);
    nigh_buf_release(&b);
    return status;
}

/* The counts stand in the receipt and are signed. */
static nigh_status compare_counts(const nigh_json *record, const nigh_json *now, nigh_err *err) {
    const nigh_json *usage = nigh_json_get(now, NIGH_STR("usage"));
    static const char *const names[] = { "prompt_tokens", "completion_tokens" };
    for (size_t i = 0; i < NIGH_COUNT(names); i++)
        if (nigh_json_int(record, names[i], -1) != nigh_json_int(usage, names[i], -1))
            return nigh_failf(err, NIGH_EDATA, 0,
                              "the receipt counts %lld %s, this request gives %lld: it is not the one of the receipt",
                              (long long)nigh_json_int(record, names[i], -1), names[i],
                              (long long)nigh_json_int(usage, names[i], -1));
    printf("tokens: %lld in, %lld out, as the receipt says\n", (long long)nigh_json_int(record, names[0], -1),
           (long long)nigh_json_int(record, names[1], -1));
    return NIGH_OK;
}

static nigh_status compare_answers(const nigh_json *kept, const nigh_json *record, const nigh_json *now,
                                   nigh_err *err) {
    const nigh_json *answer = nigh_json_get(kept, NIGH_STR("answer"));
    const nigh_json *choices = nigh_json_get(answer, NIGH_STR("choices")), *again = nigh_json_get(now,
                                                                                       NIGH_STR("choices"));
    const nigh_json *a = answer && answer->type == NIGH_JSON_STRING ? answer : nigh_json_first(choices);
    const nigh_json *b = nigh_json_first(again);
    if (!a) return nigh_fail(err, NIGH_EINVAL, 0, "the answer that was kept is neither a text nor an answer of the "
                                                  "API");
    if (choices && again && choices->count != again->count)
        return nigh_fail(err, NIGH_EDATA, 0, "the request gives another number of answers");
    for (size_t i = 0; a && b; i++, a = a == answer ? NULL : a->next, b = b->next)
        NIGH_TRY(compare_choice(i, a, b, err));
    return compare_counts(record, now, err);
}

static nigh_status answer_again(const nigh_json *kept, const words *w, nigh_err *err) {
    const nigh_json *record = nigh_json_get(nigh_json_get(kept, NIGH_STR("receipt")), NIGH_STR("record"));
    const nigh_json *hop = NULL;
    nigh_buf now = NIGH_BUF(ANSWER_MAX);
    nigh_json_doc doc;
    char model[4096];
    for (const nigh_json *h = nigh_json_first(nigh_json_get(record, NIGH_STR("hops"))); h; h = h->next) hop = h;
    if (!nigh_json_says(hop, "tier", "device") || nigh_json_text(record, "degraded").len)
        return nigh_fail(err, NIGH_ENOSUP, 0,
            "the receipt holds, but the answer was not made anew on a device: only such answers can be made again");
    NIGH_TRY(find_model(hop, w, model, sizeof model, err));
    nigh_replay_opts o = { .path = nigh_json_text(kept, "path"), .request = nigh_json_get(kept, NIGH_STR("request")),
                           .model = model, .cpu = nigh_cli_cpu(), .threads = (uint32_t)w->threads,
                           .context_tokens = (uint32_t)w->context };
    NIGH_TRY(nigh_cli_cache(w->cache, &o.cache, err));
    printf("asked again: %s\n", model);
    fflush(stdout);
    nigh_status status = nigh_replay(&now, &o, err);
    if (status == NIGH_OK) status = nigh_json_parse(&doc, nigh_buf_str(&now), err);
    if (status == NIGH_OK) {
        status = compare_answers(kept, record, doc.root, err);
        nigh_json_release(&doc);
    }
    nigh_buf_release(&now);
    return status;
}

/* ---- receipts ---- */

static void print_receipt(const nigh_json *receipt, const nigh_receipt_proof *p, bool named) {
    const nigh_json *record = nigh_json_get(receipt, NIGH_STR("record"));
    char when[64], signed_at[64];
    printf("the receipt holds: ");
    nigh_show_text(stdout, nigh_json_text(record, "id"), 64);
    printf(", %s, record %llu of its ledger\n", nigh_cli_time(when, nigh_json_count(record, "at_ms")),
           (unsigned long long)p->n);
    printf("signed %s%s by %s\n", nigh_cli_time(signed_at, p->head_at_ms), named ? "" : ", says the receipt,", p->key);
    if (!named) printf("no public key was named: whether that is the node's key, you must know\n");
}

/* Receipts of nodes that were asked, each inside the one of who asked it. */
static nigh_status print_inner(const nigh_json *receipt, nigh_err *err) {
    const nigh_json *inner = nigh_json_get(nigh_json_get(receipt, NIGH_STR("record")), NIGH_STR("inner"));
    char signer[65], asker[65];
    for (; inner && inner->type == NIGH_JSON_OBJECT; inner = nigh_json_get(inner, NIGH_STR("inner"))) {
        nigh_status status = nigh_peer_check_receipt(inner, NULL, signer, asker, err);
        if (status != NIGH_OK && status != NIGH_EINVAL) return status;
        printf("inside it: ");
        nigh_show_text(stdout, nigh_json_text(inner, "id"), 64);
        if (status == NIGH_EINVAL) printf(", the receipt of another node, which did not sign it\n");
        else printf(" holds\nsigned by the node %s\nfor the node %s\n", signer, asker);
    }
    return NIGH_OK;
}

static nigh_status check(const nigh_json *root, const words *w, nigh_err *err) {
    bool kept = nigh_json_says(root, "format", "nigh-kept"), there;
    const nigh_json *receipt = kept ? nigh_json_get(root, NIGH_STR("receipt")) : root;
    nigh_receipt_proof p;
    uint8_t key[32];
    NIGH_TRY(nigh_cli_public_key(w->public_key, key, &there, err));
    nigh_status status = nigh_ledger_check_receipt(receipt, there ? key : NULL, &p, err);
    /* The key of this machine's node says nothing against a receipt of another one. */
    if (status == NIGH_EAUTH && !w->public_key) {
        there = false;
        status = nigh_ledger_check_receipt(receipt, NULL, &p, err);
    }
    if (status != NIGH_OK) return status;
    print_receipt(receipt, &p, there);
    NIGH_TRY(print_inner(receipt, err));
    if (w->ledger) NIGH_TRY(find_in_ledger(receipt, w, err));
    return kept ? answer_again(root, w, err) : NIGH_OK;
}

static nigh_status check_file(const char *path, const words *w, nigh_err *err) {
    nigh_json_doc doc;
    NIGH_TRY(nigh_cli_read_json(&doc, path, FILE_MAX, err));
    nigh_status status = check(doc.root, w, err);
    nigh_json_release(&doc);
    return status;
}

static nigh_status run(int argc, char **argv, nigh_err *err) {
    words w = { 0 };
    const nigh_opt opts[] = { { "public-key", 0, NIGH_OPT_TEXT, &w.public_key, 0, 0 },
                              { "file", 0, NIGH_OPT_TEXT, &w.file, 0, 0 },
                              { "model", 0, NIGH_OPT_TEXT, &w.model, 0, 0 },
                              { "cache", 0, NIGH_OPT_TEXT, &w.cache, 0, 0 },
                              { "threads", 't', NIGH_OPT_INT, &w.threads, 0, 1024 },
                              { "context", 0, NIGH_OPT_INT, &w.context, 0, 1 << 24 },
                              { "ledger", 0, NIGH_OPT_FLAG, &w.ledger, 0, 0 } };
    NIGH_TRY(nigh_opts_read(opts, NIGH_COUNT(opts), &argc, argv, err));
    if (argc == 0 && w.ledger) return print_ledger(&w, err);
    if (argc != 1) return nigh_fail(err, NIGH_EINVAL, 0, "wants one receipt, or --ledger");
    return check_file(argv[0], &w, err);
}

const nigh_command nigh_command_verify = { "verify", "check a receipt or the ledger; make a kept answer again", help,
                                          run };
