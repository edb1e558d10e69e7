/* cli_serve.c - `nigh serve`: a node on this machine, until Ctrl-C or SIGTERM. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/os.h"
#include "cli/cli.h"
#include "cli/cli_draft.h"
#include "cli/cli_model.h"
#include "node/keys.h"
#include "node/node.h"
#include "node/request.h"

static const char help[] =
    "usage: nigh serve [MODEL...] [OPTIONS]\n"
    "\n"
    "Serves models over HTTP: a page to try them at /, OpenAI's API below /v1.\n"
    "Without MODEL: the model that comes with Nigh.\n"
    "\n"
    "  --host ADDRESS       where to listen, default 127.0.0.1 (this machine only);\n"
    "                       any other address wants a key\n"
    "  --port N             default 6444; 0: any free port\n"
    "  --key-file FILE      keys, default $NIGH_HOME/keys/api when it exists; once\n"
    "                       there is a key, requests need one\n"
    "  --new-key            makes a key, adds its hash to the key file, prints the\n"
    "                       key once, and ends; it may do everything, but for what\n"
    "                       these say:\n"
    "    --tenant NAME        whose key it is: tenants share neither answers, caches\n"
    "                         nor queues\n"
    "    --user NAME          it is this user's; '*': it may name its user\n"
    "                         (x-nigh-user), for applications\n"
    "    --features A,B       only these features of the policy\n"
    "    --rpm N, --tpm N     requests and tokens a minute\n"
    "    --usd-day X          money a day (UTC); what is on its way when it is spent\n"
    "                         may go over it\n"
    "  --new-peer KEY       adds another node to the key file, by its public key\n"
    "                       (64 hex digits; docs/format-peer.md), and ends; the words\n"
    "                       above hold for it, too\n"
    "  --allow-host NAME    also answer to this name, e.g. nigh.example or\n"
    "                       nigh.example:8080 (repeatable)\n"
    "  --allow-origin O     pages of this origin may call, e.g. https://app.example\n"
    "                       (repeatable)\n"
    "  -t, --threads N      default: one for each core\n"
    "  --context N          tokens of each sequence, default: the model's own, at\n"
    "                       most 4,096\n"
    "  --cache TYPE         " NIGH_CLI_CACHE_HELP
    "  --parallel N         sequences at once, default 4\n"
    "  --queue N            sequences that may wait, default 64; more are answered\n"
    "                       with 429\n"
    "  --connections N      open at once, default 4,096; of one address a quarter of\n"
    "                       them, at least 1,024\n"
    "  --draft MODEL        a small model of the same vocabulary guesses ahead; none:\n"
    "                       nothing guesses\n"
    "  --no-speculation     the same as --draft none. Otherwise repetitions are\n"
    "                       guessed from the text and checked many at once: faster\n"
    "                       where it repeats, and the same text to the byte\n"
    "  --policy FILE        features.json: requests for feature/NAME run where it\n"
    "                       allows (docs/format-policy.md)\n"
    "  --trust KEY          only a policy that this key signed (64 hex digits;\n"
    "                       repeatable)\n"
    "  --ledger FILE        the ledger of answers, default with --policy\n"
    "                       $NIGH_HOME/ledger.db\n"
    "  --allow-private H:P  a provider at this host and port may be an address of\n"
    "                       one's own network, asked without TLS: for a gateway of\n"
    "                       one's own (repeatable)\n"
    "  --ca-file FILE       certificates that count for edge nodes and providers,\n"
    "                       default: the system's\n"
    "  --fields             prints the fields of the API with their types and ranges\n"
    "                       as JSON, and ends\n"
    "\n"
    "Ctrl-C or SIGTERM: stops accepting, lets answers end for up to 10 seconds; a\n"
    "second one ends at once.\n"
    "\n"
    "examples:\n"
    "  nigh serve\n"
    "  nigh serve my.gguf --port 8000 --parallel 8\n"
    "  nigh serve --new-key && nigh serve --host 0.0.0.0 --allow-host nigh.example\n"
    "  curl http://127.0.0.1:6444/v1/completions \\\n"
    "      -H 'content-type: application/json' -d '{\"prompt\":\"Once upon a time\"}'\n";

enum { GRACE_MS = 10000, MODELS_MAX = 16 };
static const double no_limit = 1e300;

typedef struct {
    const char *host, *key_file, *draft, *cache, *policy, *ledger, *ca_file, *new_peer;
    nigh_opt_list allow_hosts, allow_origins, allow_private, trust;
    int64_t port, threads, context, parallel, queue, connections;
    bool new_key, fields, alone;
    /* of a new key */
    const char *tenant, *user, *features;
    int64_t rpm, tpm;
    double usd_day;
} words;

/* Where the user's own data is kept. */
static bool default_home(char *out, size_t cap) {
    const char *home = nigh_os_env("NIGH_HOME"), *user = nigh_os_env("HOME");
    if (!home && !user) return false;
    return nigh_format(out, cap, "%s%s", home ? home : user, home ? "" : "/.local/share/nigh") < cap;
}

/* A file of keys when none was named: beside the models, in the user's own folder. */
static bool default_key_file(const char *name, char *out, size_t cap) {
    const char *home = nigh_os_env("NIGH_HOME"), *user = nigh_os_env("HOME");
    if (!home && !user) return false;
    return nigh_format(out, cap, "%s%s/keys/%s", home ? home : user, home ? "" : "/.local/share/nigh", name)
        < cap;
}

/* False: too long. */
static bool take_name(const char *from, char *out, size_t cap) {
    return !from || nigh_format(out, cap, "%s", from) < cap;
}

static nigh_status make_key(const words *w, const char *path, nigh_err *err) {
    char key[NIGH_KEY_TEXT];
    nigh_rights r = { .rpm = (uint32_t)w->rpm, .tpm = (uint32_t)w->tpm,
        .usd_day = w->usd_day < no_limit ? w->usd_day : -1,
        .any_user = w->user && strcmp(w->user, "*") == 0 };
    if (!path) return nigh_fail(err, NIGH_EINVAL, 0, "--new-key wants --key-file FILE: there is no home folder");
    if (!take_name(w->tenant, r.tenant, sizeof r.tenant) || !take_name(w->features, r.features, sizeof r.features)
        || !take_name(r.any_user ? NULL : w->user, r.user, sizeof r.user))
        return nigh_fail(err, NIGH_ERANGE, 0, "a name has at most 127 bytes, the features together 1,023");
    if (!(w->usd_day >= 0)) return nigh_fail(err, NIGH_EINVAL, 0, "--usd-day wants an amount of 0 or more");
    if (w->new_peer) {
        NIGH_TRY(nigh_keys_add_peer(path, &r, w->new_peer, err));
        fprintf(stderr, "added to %s\n", path);
        return NIGH_OK;
    }
    NIGH_TRY(nigh_keys_create(path, &r, key, err));
    fprintf(stderr, "added to %s; this is the only time the key is shown:\n", path);
    printf("%s\n", key);
    return NIGH_OK;
}

static nigh_status print_fields(void) {
    nigh_buf b = NIGH_BUF(65536);
    nigh_status status = nigh_fields_json(&b);
    if (status == NIGH_OK) fwrite(b.ptr, 1, b.len, stdout);
    nigh_buf_release(&b);
    return status;
}

static int stop_pipe[2];
static void on_stop(void *ud) { (void)!write(stop_pipe[1], "", (size_t)(ud == NULL)); }

static nigh_status serve(const nigh_node_opts *o, nigh_err *err) {
    nigh_node *n;
    nigh_buf b = NIGH_BUF(65536);
    if (pipe(stop_pipe) != 0) return nigh_fail(err, NIGH_EIO, 0, "no pipe can be had");
    nigh_cli_on_stop(on_stop, NULL);
    nigh_cli_catch_signals();
    NIGH_TRY(nigh_node_open(&n, o, err));
    if (nigh_node_describe(n, &b) == NIGH_OK) fwrite(b.ptr, 1, b.len, stdout);
    nigh_buf_release(&b);
    bool bracket = strchr(o->host, ':') != NULL;
    printf("nigh is at http://%s%s%s:%u  (Ctrl-C ends it)\n", bracket ? "[" : "", o->host, bracket ? "]" : "",
        nigh_node_port(n));
    fflush(stdout);
    char byte;
    while (!nigh_cli_stopped() && read(stop_pipe[0], &byte, 1) < 0) { }    /* a signal ends the read, too */
    fprintf(stderr, "stopping; once more to end at once\n");
    nigh_node_close(n, GRACE_MS);
    return NIGH_OK;
}

static nigh_status run(int argc, char **argv, nigh_err *err) {
    words w = { .host = "127.0.0.1", .port = 6444, .usd_day = no_limit };
    const nigh_opt opts[] = {
        { "host", 0, NIGH_OPT_TEXT, &w.host, 0, 0 }, { "port", 0, NIGH_OPT_INT, &w.port, 0, 65535 },
            { "key-file", 0, NIGH_OPT_TEXT, &w.key_file, 0, 0 },
        { "allow-host", 0, NIGH_OPT_LIST, &w.allow_hosts, 0, 0 },
            { "allow-origin", 0, NIGH_OPT_LIST, &w.allow_origins, 0, 0 },
        { "threads", 't', NIGH_OPT_INT, &w.threads, 0, 1024 }, { "context", 0, NIGH_OPT_INT, &w.context, 0, 1 << 24 },
        { "cache", 0, NIGH_OPT_TEXT, &w.cache, 0, 0 },
        { "parallel", 0, NIGH_OPT_INT, &w.parallel, 0, 64 }, { "queue", 0, NIGH_OPT_INT, &w.queue, 0, 65536 },
        { "connections", 0, NIGH_OPT_INT, &w.connections, 1, 1 << 20 },
        { "draft", 0, NIGH_OPT_TEXT, &w.draft, 0, 0 }, { "no-speculation", 0, NIGH_OPT_FLAG, &w.alone, 0, 0 },
        { "tenant", 0, NIGH_OPT_TEXT, &w.tenant, 0, 0 }, { "user", 0, NIGH_OPT_TEXT, &w.user, 0, 0 },
        { "features", 0, NIGH_OPT_TEXT, &w.features, 0, 0 }, { "rpm", 0, NIGH_OPT_INT, &w.rpm, 1, UINT32_MAX },
        { "tpm", 0, NIGH_OPT_INT, &w.tpm, 1, UINT32_MAX }, { "usd-day", 0, NIGH_OPT_FLOAT, &w.usd_day, 0, 0 },
        { "policy", 0, NIGH_OPT_TEXT, &w.policy, 0, 0 }, { "ledger", 0, NIGH_OPT_TEXT, &w.ledger, 0, 0 },
        { "trust", 0, NIGH_OPT_LIST, &w.trust, 0, 0 },
        { "allow-private", 0, NIGH_OPT_LIST, &w.allow_private, 0, 0 },
        { "ca-file", 0, NIGH_OPT_TEXT, &w.ca_file, 0, 0 }, { "new-peer", 0, NIGH_OPT_TEXT, &w.new_peer, 0, 0 },
        { "new-key", 0, NIGH_OPT_FLAG, &w.new_key, 0, 0 }, { "fields", 0, NIGH_OPT_FLAG, &w.fields, 0, 0 } };
    static char key_path[4096], manifest_key[4096], draft_path[4096], paths[MODELS_MAX][4096];
    const char *models[MODELS_MAX];
    NIGH_TRY(nigh_opts_read(opts, NIGH_COUNT(opts), &argc, argv, err));
    if (w.fields) return print_fields();
    bool has_default = default_key_file("api", key_path, sizeof key_path)
        && default_key_file("manifest", manifest_key, sizeof manifest_key);
    w.new_key |= w.new_peer != NULL;
    if (!w.new_key && (w.tenant || w.user || w.features || w.rpm || w.tpm || w.usd_day < no_limit))
        return nigh_fail(err, NIGH_EINVAL, 0,
            "--tenant, --user, --features, --rpm, --tpm and --usd-day go with --new-key");
    if (w.new_key) return make_key(&w, w.key_file ? w.key_file : has_default ? key_path : NULL, err);
    if (!w.key_file && has_default && nigh_file_exists(key_path)) w.key_file = key_path;
    if (argc > MODELS_MAX) return nigh_failf(err, NIGH_ERANGE, 0, "at most %d models", MODELS_MAX);
    char *shipped[] = { "nigh-stories" };
    char **names = argc ? argv : shipped;
    size_t count = argc ? (size_t)argc : 1;
    for (size_t i = 0; i < count; i++) {
        NIGH_TRY(nigh_cli_model_path(names[i], paths[i], sizeof paths[i], err));
        models[i] = paths[i];
    }
    bool none = nigh_cli_draft_is_none(w.draft), draft = w.draft && !none && !w.alone;
    if (draft) NIGH_TRY(nigh_cli_model_path(w.draft, draft_path, sizeof draft_path, err));
    nigh_node_opts o = { .models = models, .model_count = count, .host = w.host, .port = (uint16_t)w.port,
        .key_file = w.key_file, .manifest_key = has_default ? manifest_key : NULL, .cpu = nigh_cli_cpu(),
        .threads = (uint32_t)w.threads, .context_tokens = (uint32_t)w.context, .parallel = (uint32_t)w.parallel,
            .queue = (uint32_t)w.queue, .connections = (uint32_t)w.connections, .alone = w.alone || none,
            .draft = draft ? draft_path : NULL };
    char home[4096];
    o.policy = w.policy;
    static nigh_trusted_key trusted[NIGH_OPT_LIST_MAX];
    for (size_t i = 0; i < w.trust.count; i++)
        if (!nigh_trusted_key_parse(nigh_str_of(w.trust.item[i]), &trusted[i]))
            return nigh_fail(err, NIGH_EINVAL, 0, "--trust wants 64 hex digits");
    o.trusted = trusted;
    o.trusted_count = w.trust.count;
    o.ledger = w.ledger;
    o.ca_file = w.ca_file;
    o.allow_private = w.allow_private.item;
    o.allow_private_count = w.allow_private.count;
    if (default_home(home, sizeof home)) o.home = home;
    NIGH_TRY(nigh_cli_cache(w.cache, &o.cache, err));
    /* A name without a port is this node's own port, and the port that a Host field leaves out (a proxy's). */
    for (size_t i = 0; i < w.allow_hosts.count; i++) {
        NIGH_TRY(nigh_hosts_add(&o.hosts, nigh_str_of(w.allow_hosts.item[i]), o.port, err));
        NIGH_TRY(nigh_hosts_add(&o.hosts, nigh_str_of(w.allow_hosts.item[i]), 80, err));
    }
    for (size_t i = 0; i < w.allow_origins.count; i++)
        NIGH_TRY(nigh_origins_add(&o.origins, nigh_str_of(w.allow_origins.item[i]), err));
    return serve(&o, err);
}

const nigh_command nigh_command_serve = { "serve", "serve models over HTTP: a page, and OpenAI's API", help, run };
