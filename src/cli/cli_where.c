/* cli_where.c - `nigh where`: four questions about one answer, in plain sentences; and its receipt, to keep. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/cli_ledger.h"
#include "cli/show.h"

static const char help[] =
    "usage: nigh where ID|last [OPTIONS]\n"
    "\n"
    "Where did it go, who can read it, how long is it kept, may it leave the region?\n"
    "ID is the receipt's name, which stands in the header nigh-receipt of the answer\n"
    "(rcpt-...); last: the newest answer.\n"
    "\n"
    "      --receipt        prints the signed receipt (JSON) instead: whoever has the\n"
    "                       node's public key can check it with `nigh verify`,\n"
    "                       without the ledger\n"
    "      --request FILE --answer FILE   prints the receipt together with what was\n"
    "                       asked and answered, both as JSON, for `nigh verify` to\n"
    "                       make the answer again; Nigh itself keeps neither\n"
    "      --path PATH      with them: where the request went, default\n"
    "                       /v1/chat/completions\n"
    "      --json           the four answers for programs\n"
    "      --file FILE      the ledger, default $NIGH_HOME/ledger.db, or below\n"
    "                       ~/.local/share/nigh\n"
    "\n"
    "examples:\n"
    "  nigh where last\n"
    "  nigh where last --receipt\n";

enum { OUT_MAX = 1 << 20, CONTENT_MAX = 64 << 20, COLUMNS = 96, INDENT = 2 };

typedef struct {
    const char *file, *request, *answer, *path;
    bool receipt, json;
} words;

/* The id of the newest record. */
static nigh_status find_last(nigh_ledger *l, char out[64], nigh_err *err) {
    nigh_buf b = NIGH_BUF(OUT_MAX);
    nigh_json_doc doc;
    nigh_status status = nigh_ledger_find(l, &(nigh_ledger_query){ .limit = 1 }, &b, err);
    if (status == NIGH_OK) status = nigh_json_parse(&doc, nigh_buf_str(&b), err);
    if (status == NIGH_OK) {
        nigh_str id = nigh_json_text(nigh_json_first(nigh_json_get(doc.root, NIGH_STR("records"))), "id");
        nigh_format(out, 64, "%.*s", (int)id.len, id.ptr);
        nigh_json_release(&doc);
        if (!out[0]) status = nigh_fail(err, NIGH_ENOENT, 0, "the ledger holds no record yet");
    }
    nigh_buf_release(&b);
    return status;
}

/* Breaks between words. */
static void print_wrapped(nigh_str text) {
    size_t column = INDENT;
    printf("%*s", INDENT, "");
    for (size_t at = 0; at < text.len;) {
        size_t end = nigh_min(nigh_str_find(text, NIGH_STR(" "), at), text.len);
        if (column > INDENT && column + (end - at) > COLUMNS) {
            printf("\n%*s", INDENT, "");
            column = INDENT;
        }
        if (column > INDENT) putchar(' ');
        nigh_show_text(stdout, nigh_str_slice(text, at, end), 0);
        column += end - at + 1;
        at = end + 1;
    }
    putchar('\n');
}

static void print_answers(const nigh_json *a) {
    static const struct { const char *key, *question; } questions[] = { { "where", "Where did it go?" },
        { "who", "Who can read it?" }, { "kept", "How long is it kept?" }, { "leave", "May it leave the region?" } };
    char when[64];
    nigh_show_text(stdout, nigh_json_text(a, "id"), 64);
    printf("  %s\n", nigh_cli_time(when, nigh_json_count(a, "at_ms")));
    for (size_t i = 0; i < NIGH_COUNT(questions); i++) {
        printf("\n%s\n", questions[i].question);
        print_wrapped(nigh_json_text(a, questions[i].key));
    }
}

static nigh_status answer(nigh_ledger *l, nigh_str id, bool json, nigh_err *err) {
    nigh_buf b = NIGH_BUF(OUT_MAX);
    nigh_json_doc doc;
    nigh_status status = nigh_ledger_where(l, id, &b, err);
    if (status == NIGH_OK && json) printf("%.*s\n", (int)b.len, b.ptr);
    else if (status == NIGH_OK) {
        status = nigh_json_parse(&doc, nigh_buf_str(&b), err);
        if (status == NIGH_OK) { print_answers(doc.root); nigh_json_release(&doc); }
    }
    nigh_buf_release(&b);
    return status;
}

/* A file with JSON, written without spaces. */
static nigh_status add_file(nigh_buf *out, const char *path, nigh_err *err) {
    nigh_json_doc doc;
    NIGH_TRY(nigh_cli_read_json(&doc, path, CONTENT_MAX, err));
    nigh_status status = nigh_json_add_value(out, doc.root);
    nigh_json_release(&doc);
    return status;
}

static nigh_status add_kept(nigh_ledger *l, nigh_str id, const words *w, nigh_buf *out, nigh_err *err) {
    NIGH_TRY(nigh_buf_add(out, NIGH_STR("{\"format\":\"nigh-kept\",\"version\":1,\"path\":")));
    NIGH_TRY(nigh_json_add_string(out, nigh_str_of(w->path)));
    NIGH_TRY(nigh_buf_add(out, NIGH_STR(",\"request\":")));
    NIGH_TRY(add_file(out, w->request, err));
    NIGH_TRY(nigh_buf_add(out, NIGH_STR(",\"answer\":")));
    NIGH_TRY(add_file(out, w->answer, err));
    NIGH_TRY(nigh_buf_add(out, NIGH_STR(",\"receipt\":")));
    NIGH_TRY(nigh_ledger_receipt(l, id, out, err));
    return nigh_buf_add_char(out, '}');
}

static nigh_status print_receipt(nigh_ledger *l, nigh_str id, const words *w, nigh_err *err) {
    nigh_buf b = NIGH_BUF(2 * CONTENT_MAX);
    nigh_status status = w->request ? add_kept(l, id, w, &b, err) : nigh_ledger_receipt(l, id, &b, err);
    if (status == NIGH_OK) { fwrite(b.ptr, 1, b.len, stdout); putchar('\n'); }
    nigh_buf_release(&b);
    return status;
}

static nigh_status run(int argc, char **argv, nigh_err *err) {
    words w = { .path = "/v1/chat/completions" };
    const nigh_opt opts[] = { { "file", 0, NIGH_OPT_TEXT, &w.file, 0, 0 },
                              { "request", 0, NIGH_OPT_TEXT, &w.request, 0, 0 },
                              { "answer", 0, NIGH_OPT_TEXT, &w.answer, 0, 0 },
                              { "path", 0, NIGH_OPT_TEXT, &w.path, 0, 0 },
                              { "receipt", 0, NIGH_OPT_FLAG, &w.receipt, 0, 0 },
                              { "json", 0, NIGH_OPT_FLAG, &w.json, 0, 0 } };
    nigh_ledger *l;
    char last[64] = "";
    NIGH_TRY(nigh_opts_read(opts, NIGH_COUNT(opts), &argc, argv, err));
    if (argc != 1) return nigh_fail(err, NIGH_EINVAL, 0, "wants one receipt's name (rcpt-...), or last");
    if (!w.request != !w.answer) return nigh_fail(err, NIGH_EINVAL, 0, "--request and --answer stand together");
    NIGH_TRY(nigh_cli_ledger_open(&l, w.file, err));
    nigh_status status = strcmp(argv[0], "last") == 0 ? find_last(l, last, err) : NIGH_OK;
    nigh_str id = nigh_str_of(last[0] ? last : argv[0]);
    if (status == NIGH_OK)
        status = w.receipt || w.request ? print_receipt(l, id, &w, err) : answer(l, id, w.json, err);
    nigh_ledger_close(l);
    return status;
}

const nigh_command nigh_command_where = { "where", "where one answer was made, who can read it, how long it is kept",
                                          help, run };
