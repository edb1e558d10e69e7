/* main.c - `nigh COMMAND ...`: finds the command, prints its error in one plain line, turns the status
 * into the exit code of the one error table (include/nigh/status.h). */
#include <stdio.h>

#include "base/os.h"
#include "cli/cli.h"

/* One line for each command, in the order of `nigh --help`. */
#define COMMANDS(X) \
    X(run) \
    X(embed) \
    X(logits) \
    X(bench) \
    X(inspect) \
    X(tokenize) \
    X(detokenize) \
    X(chat_template) \
    X(quantize) \
    X(serve) \
    X(learn) \
    X(check) \
    X(plan) \
    X(explain) \
    X(calibrate) \
    X(policy) \
    X(ledger) \
    X(where) \
    X(verify) \
    X(capture) \
    X(forget) \
    X(prove)

#define DECLARE(name) extern const nigh_command nigh_command_##name;
COMMANDS(DECLARE)
#undef DECLARE

static const nigh_command *const commands[] = {
#define LIST(name) &nigh_command_##name,
    COMMANDS(LIST)
#undef LIST
    NULL
};

static void print_help(FILE *out) {
    fputs("nigh: AI at the nearest place that can do it\n\n"
          "usage: nigh COMMAND [OPTIONS]   (nigh COMMAND --help for each)\n\n", out);
    for (const nigh_command *const *c = commands; *c; c++) fprintf(out, "  %-14s %s\n", (*c)->name, (*c)->line);
    fputs("\nexit codes:\n", out);
#define EXIT_CODE(name, value, http, text) fprintf(out, "  %2d  %s\n", -(value), text);
    NIGH_STATUS_MAP(EXIT_CODE)
#undef EXIT_CODE
    fputs("\nNIGH_CORE_DUMPS=1 in the environment: a crash may leave a core dump, and a\n"
          "debugger may look in. Without it neither can, since what was asked and answered\n"
          "stands in that memory.\n", out);
}

static bool is_word(const char *arg, const char *a, const char *b) {
    return strcmp(arg, a) == 0 || strcmp(arg, b) == 0;
}

static bool wants_help(int argc, char **argv) {
    for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++) if (is_word(argv[i], "--help", "-h")) return true;
    return false;
}

static int run_command(const nigh_command *c, int argc, char **argv) {
    nigh_err err = { 0 };
    if (wants_help(argc, argv)) { fputs(c->help, stdout); return 0; }
    const char *dumps = nigh_os_env("NIGH_CORE_DUMPS");     /* they would hold what was asked and answered */
    if (!dumps || strcmp(dumps, "1") != 0) (void)nigh_os_hide_memory();
    nigh_status status = c->run(argc, argv, &err);
    if (fflush(stdout) != 0 && status == NIGH_OK)
        status = nigh_fail(&err, NIGH_EIO, 0, "standard output cannot be written");
    if (status != NIGH_OK) {
        fprintf(stderr, "nigh %s: %s\n", c->name, err.text[0] ? err.text : nigh_status_text(status));
        if (status == NIGH_EINVAL) fprintf(stderr, "see: nigh %s --help\n", c->name);
    }
    return -(int)status;
}

int main(int argc, char **argv) {
    if (argc < 2 || is_word(argv[1], "--help", "-h") || strcmp(argv[1], "help") == 0) {
        print_help(argc < 2 ? stderr : stdout);
        return argc < 2 ? -NIGH_EINVAL : 0;
    }
    if (is_word(argv[1], "--version", "-V")) { puts("nigh 0.1.0"); return 0; }
    for (const nigh_command *const *c = commands; *c; c++)
        if (strcmp(argv[1], (*c)->name) == 0) return run_command(*c, argc - 2, argv + 2);
    fprintf(stderr, "nigh: there is no command '%s'; see: nigh --help\n", argv[1]);
    return -NIGH_EINVAL;
}
