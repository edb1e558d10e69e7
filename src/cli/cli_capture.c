/* cli_capture.c - `nigh capture`: content that a policy lets be kept for a while: what there is, to read it, to end it.
 */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/cli_ledger.h"
#include "cli/show.h"
#include "node/capture.h"

static const char help[] =
    "usage: nigh capture list [--json]\n"
    "       nigh capture read NAME --as READER\n"
    "       nigh capture end NAME\n"
    "\n"
    "Nigh keeps no word of what is asked and answered, but where the policy names a\n"
    "capture: for one feature and one tenant, until a day, approved by two people,\n"
    "for readers it names (docs/format-policy.md). What is captured lies sealed in a\n"
    "file; its key is overwritten and removed when the capture ends: at its time,\n"
    "when the policy does not name it any more, or now.\n"
    "\n"
    "  list             the captures that go on, and those that have ended, with who\n"
    "                   approved them\n"
    "  read             one JSON object a line: request, answer, receipt; notes who\n"
    "                   read it, and when\n"
    "  end              destroys the key; a running node notices. There is no way\n"
    "                   back\n"
    "\n"
    "      --as READER  one of the readers that the policy names. It is noted, not\n"
    "                   proven: whoever can read the files of the user that runs the\n"
    "                   node can read the key\n"
    "      --folder DIR default $NIGH_HOME/captures, or below ~/.local/share/nigh\n"
    "      --json       for programs\n"
    "\n"
    "examples:\n"
    "  nigh capture list\n";

enum { OUT_MAX = 512 << 20 };

static void print_names(const nigh_json *list) {
    for (const nigh_json *v = nigh_json_first(list); v; v = v->next) {
        nigh_show_text(stdout, v->type == NIGH_JSON_STRING ? v->text : NIGH_STR("?"), 60);
        if (v->next) printf(", ");
    }
    putchar('\n');
}

static void print_one(const nigh_json *c) {
    char when[64], bytes[32];
    bool over = nigh_json_true(c, "ended");
    nigh_show_text(stdout, nigh_json_text(c, "name"), 64);
    if (over) printf("  ended %s; the key is destroyed\n", nigh_cli_time(when, nigh_json_count(c, "ended_s") * 1000));
    else printf("  goes on until %s\n", nigh_cli_time(when, nigh_json_count(c, "until_s") * 1000));
    printf("  feature      ");
    nigh_show_text(stdout, nigh_json_text(c, "feature"), 64);
    printf("\n  tenant       ");
    nigh_show_text(stdout, nigh_json_text(c, "tenant").len ? nigh_json_text(c, "tenant") : NIGH_STR("(one's own)"), 64);
    printf("\n  approved by  ");
    print_names(nigh_json_get(c, NIGH_STR("approved_by")));
    printf("  readers      ");
    print_names(nigh_json_get(c, NIGH_STR("readers")));
    printf("  held         %llu answers", (unsigned long long)nigh_json_count(c, "entries"));
    if (!over) printf(", %s", nigh_show_bytes(bytes, nigh_json_count(c, "bytes")));
    printf("; read %llu times\n\n", (unsigned long long)nigh_json_count(c, "reads"));
}

static nigh_status list(const char *folder, bool json, nigh_err *err) {
    nigh_buf b = NIGH_BUF(OUT_MAX);
    nigh_json_doc doc;
    nigh_status status = nigh_capture_list(folder, &b, err);
    if (status == NIGH_OK && json) printf("%.*s\n", (int)b.len, b.ptr);
    else if (status == NIGH_OK) {
        status = nigh_json_parse(&doc, nigh_buf_str(&b), err);
        if (status == NIGH_OK) {
            const nigh_json *first = nigh_json_first(nigh_json_get(doc.root, NIGH_STR("captures")));
            if (!first) printf("nothing is captured, and nothing was\n");
            for (const nigh_json *c = first; c; c = c->next) print_one(c);
            nigh_json_release(&doc);
        }
    }
    nigh_buf_release(&b);
    return status;
}

static nigh_status read_one(const char *folder, const char *name, const char *reader, nigh_err *err) {
    nigh_buf b = NIGH_BUF(OUT_MAX);
    if (!reader) return nigh_fail(err, NIGH_EINVAL, 0, "wants --as READER: who reads it");
    nigh_status status = nigh_capture_read(folder, nigh_str_of(name), nigh_str_of(reader), &b, err);
    if (status == NIGH_OK) fwrite(b.ptr, 1, b.len, stdout);
    nigh_buf_release(&b);
    return status;
}

static nigh_status end(const char *folder, const char *name, nigh_err *err) {
    NIGH_TRY(nigh_capture_end(folder, nigh_str_of(name), err));
    printf("ended: the key of %s is destroyed\n", name);
    return NIGH_OK;
}

static nigh_status run(int argc, char **argv, nigh_err *err) {
    const char *folder = NULL, *reader = NULL;
    bool json = false;
    char own[4096];
    const nigh_opt opts[] = { { "folder", 0, NIGH_OPT_TEXT, &folder, 0, 0 }, { "as", 0, NIGH_OPT_TEXT, &reader, 0, 0 },
                              { "json", 0, NIGH_OPT_FLAG, &json, 0, 0 } };
    NIGH_TRY(nigh_opts_read(opts, NIGH_COUNT(opts), &argc, argv, err));
    if (!folder) NIGH_TRY(nigh_cli_home_path("captures", own, sizeof own, err));
    if (!folder) folder = own;
    if (argc == 1 && strcmp(argv[0], "list") == 0) return list(folder, json, err);
    if (argc == 2 && strcmp(argv[0], "read") == 0) return read_one(folder, argv[1], reader, err);
    if (argc == 2 && strcmp(argv[0], "end") == 0) return end(folder, argv[1], err);
    return nigh_fail(err, NIGH_EINVAL, 0, "wants list, read NAME, or end NAME");
}

const nigh_command nigh_command_capture = { "capture", "content that a policy lets be kept for a while; end it", help,
                                            run };
