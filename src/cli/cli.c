/* cli.c - what the commands share: options, the place of a model, files of JSON, processor choice, Ctrl-C. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/os.h"
#include "base/sha256.h"
#include "cli/cli.h"
#include "kernel/kernel.h"

static nigh_status store(const nigh_opt *o, const char *text, nigh_err *err) {
    if (o->kind == NIGH_OPT_TEXT) { *(const char **)o->value = text; return NIGH_OK; }
    if (o->kind == NIGH_OPT_LIST) {
        nigh_opt_list *list = o->value;
        if (list->count == NIGH_OPT_LIST_MAX)
            return nigh_failf(err, NIGH_EINVAL, 0, "--%s may stand at most %d times", o->name, NIGH_OPT_LIST_MAX);
        list->item[list->count++] = text;
        return NIGH_OK;
    }
    if (o->kind == NIGH_OPT_FLOAT) {
        if (nigh_str_to_f64(nigh_str_of(text), o->value)) return NIGH_OK;
        return nigh_failf(err, NIGH_EINVAL, 0, "--%s wants a number, not '%s'", o->name, text);
    }
    int64_t v;
    if (!nigh_str_to_i64(nigh_str_of(text), &v))
        return nigh_failf(err, NIGH_EINVAL, 0, "--%s wants a whole number, not '%s'", o->name, text);
    if ((o->min || o->max) && (v < o->min || v > o->max))
        return nigh_failf(err, NIGH_EINVAL, 0, "--%s must lie in %lld..%lld, not %lld", o->name, (long long)o->min,
                          (long long)o->max, (long long)v);
    *(int64_t *)o->value = v;
    return NIGH_OK;
}

/* The option that `arg` names, and its value when it is written as --name=value. */
static const nigh_opt *find_opt(const nigh_opt *opts, size_t count, const char *arg, const char **value) {
    *value = NULL;
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(opts[i].name);
        if (opts[i].letter && arg[0] == '-' && arg[1] == opts[i].letter && arg[2] == '\0') return &opts[i];
        if (strncmp(arg, "--", 2) != 0 || strncmp(arg + 2, opts[i].name, len) != 0) continue;
        if (arg[2 + len] == '\0') return &opts[i];
        if (arg[2 + len] == '=') { *value = arg + 3 + len; return &opts[i]; }
    }
    return NULL;
}

nigh_status nigh_opts_read(const nigh_opt *opts, size_t count, int *argc, char **argv, nigh_err *err) {
    int kept = 0;
    bool ended = false;
    for (int i = 0; i < *argc; i++) {
        const char *value;
        if (ended || argv[i][0] != '-' || argv[i][1] == '\0') { argv[kept++] = argv[i]; continue; }
        if (strcmp(argv[i], "--") == 0) { ended = true; continue; }
        const nigh_opt *o = find_opt(opts, count, argv[i], &value);
        if (!o) return nigh_failf(err, NIGH_EINVAL, 0, "unknown option %s", argv[i]);
        if (o->kind == NIGH_OPT_FLAG) {
            if (value) return nigh_failf(err, NIGH_EINVAL, 0, "--%s takes no value", o->name);
            *(bool *)o->value = true;
            continue;
        }
        if (!value && i + 1 == *argc) return nigh_failf(err, NIGH_EINVAL, 0, "--%s wants a value", o->name);
        NIGH_TRY(store(o, value ? value : argv[++i], err));
    }
    *argc = kept;
    return NIGH_OK;
}

/* The folder above that of the running program, without a slash at the end; ".." when it cannot be told. */
static void program_root(char *out, size_t cap) {
    ssize_t n = readlink("/proc/self/exe", out, cap - 1);
    if (n <= 0) { nigh_format(out, cap, ".."); return; }
    for (int up = 0; up < 2; up++) {
        while (n > 0 && out[n - 1] != '/') n--;
        n -= n > 0;
    }
    out[n] = '\0';
}

nigh_status nigh_cli_model_path(const char *name, char *path, size_t cap, nigh_err *err) {
    char root[4096];
    const char *home = nigh_os_env("NIGH_HOME"), *user = nigh_os_env("HOME");
    if (nigh_format(path, cap, "%s", name) >= cap)
        return nigh_fail(err, NIGH_ERANGE, 0, "the model's path is too long");
    if (strchr(name, '/') || nigh_str_ends(nigh_str_of(name), NIGH_STR(".gguf"))) return NIGH_OK;
    program_root(root, sizeof root);
    const struct { const char *root, *rest;
    } places[] = { { root, "/models" },
                   { root, "/share/nigh/models" },
                   { home ? home : user, home ? "/models" : "/.local/share/nigh/models" } };
    for (size_t i = 0; i < NIGH_COUNT(places); i++) {
        if (!places[i].root || nigh_format(path, cap, "%s%s/%s.gguf", places[i].root, places[i].rest, name) >= cap)
            continue;
        if (nigh_file_exists(path)) return NIGH_OK;
    }
    if (nigh_file_exists(name)) { nigh_format(path, cap, "%s", name); return NIGH_OK; }
    return nigh_failf(err, NIGH_ENOENT, 0,
        "there is no model '%s': no such file, and none of that name in %s/models, %s/share/nigh/models or %s%s; give "
        "the path of a .gguf file", name, root, root, places[2].root ? places[2].root : "",
        places[2].root ? places[2].rest : "$NIGH_HOME/models");
}

bool nigh_cli_has_hash(const char *path, nigh_str sha256) {
    char hex[65];
    nigh_file f;
    if (nigh_file_open(&f, path, NULL) != NIGH_OK) return false;
    nigh_sha256_of(f.bytes, hex);
    nigh_file_close(&f);
    return nigh_str_eq(sha256, nigh_str_of(hex));
}

nigh_status nigh_cli_read_json(nigh_json_doc *doc, const char *path, size_t bytes_max, nigh_err *err) {
    nigh_buf text = NIGH_BUF(bytes_max);
    nigh_err inner = { 0 };
    nigh_status status = nigh_file_read(&text, path, err);
    if (status == NIGH_OK) {
        status = nigh_json_parse(doc, nigh_buf_str(&text), &inner);
        if (status != NIGH_OK)
            nigh_failf(err, status, inner.at, "%s: %s", strcmp(path, "-") ? path : "standard input", inner.text);
    }
    nigh_buf_release(&text);
    return status;
}

unsigned nigh_cli_cpu(void) {
    unsigned flags = nigh_cpu_detect(), wanted;
    const char *name = nigh_os_env("NIGH_CPU");
    return name && nigh_cpu_parse(nigh_str_of(name), &wanted) ? flags & wanted : flags;
}

static volatile sig_atomic_t stop_count;
static void (*volatile stop_fn)(void *ud);
static void *volatile stop_ud;

static void on_signal(int number) {
    stop_count++;
    if (stop_count > 1) _exit(128 + number);
    if (stop_fn) stop_fn(stop_ud);
}

void nigh_cli_on_stop(void (*fn)(void *ud), void *ud) {
    stop_fn = NULL;
    stop_ud = ud;
    stop_fn = fn;
}

void nigh_cli_catch_signals(void) {
    struct sigaction a = { .sa_handler = on_signal };
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
}

bool nigh_cli_stopped(void) { return stop_count > 0; }
void nigh_cli_go_on(void) { stop_count = 0; }
