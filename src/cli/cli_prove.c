/* cli_prove.c - `nigh prove`: the question in words, the comparison as a table. The work is src/node/prove.c. */
#include <stdio.h>

#include "cli/cli.h"
#include "cli/cli_policy.h"
#include "node/prove.h"

static const char help[] =
    "usage: nigh prove POLICY FEATURE [MODEL...] [OPTIONS]\n"
    "\n"
    "Runs a feature in a network namespace of its own and counts every packet that\n"
    "leaves it, from outside. Then compares: what the ledger says was sent and\n"
    "received, and what really crossed. Linux, as root, with `ip`.\n"
    "\n"
    "      --requests N     default 5\n"
    "      --text TEXT      what is asked; default: a sentence with an e-mail address\n"
    "                       in it\n"
    "      --seed N         behind it words of another number in each request, 0 to\n"
    "                       300, from this seed\n"
    "      --class NAME     what the caller says of the data\n"
    "      --outside ADDR   this machine's end of the line, default 10.213.213.1; the\n"
    "                       node has the next address\n"
    "      --allow-private HOST:PORT   as for nigh serve: a gateway of one's own\n"
    "                       (repeatable)\n"
    "      --json           for programs\n"
    "\n"
    "Without a MODEL: the one that comes with Nigh. The namespace reaches this\n"
    "machine at ADDR, and further only where this machine forwards and translates its\n"
    "packets. Exit code 6: the bytes do not agree.\n"
    "\n"
    "examples:\n"
    "  sudo nigh prove features.json note-title\n"
    "  sudo nigh prove features.json translate --requests 100 --outside 10.7.0.1\n";

static void print_place(const nigh_prove_place *p) {
    char where[32];
    size_t n = nigh_format(where, sizeof where, "%u.%u.%u.%u", p->address >> 24, p->address >> 16 & 255,
        p->address >> 8 & 255, p->address & 255);
    if (p->port) nigh_format(where + n, sizeof where - n, ":%u", p->port);
    if (!p->address) nigh_format(where, sizeof where, "neighbours");
    printf("    %-24s %12llu bytes out, %12llu bytes in%s\n", where, (unsigned long long)p->bytes_out,
        (unsigned long long)p->bytes_in, p->port ? "" : "   (no TCP: name lookups, ARP)");
}

static void print_people(const nigh_prove_ask *a, const nigh_prove_result *r) {
    printf("feature %s: %lld requests, %llu answered, %llu answered with an error, %llu not at all\n", a->feature,
        (long long)a->requests, (unsigned long long)r->answered, (unsigned long long)r->errors,
        (unsigned long long)r->failed);
    printf("the ledger says:   %12llu bytes out, %12llu bytes in, %llu calls to other places (%llu records, chain "
        "verified)\n", (unsigned long long)r->ledger_out, (unsigned long long)r->ledger_in,
        (unsigned long long)r->calls_away, (unsigned long long)r->records);
    printf("the line carried:  %12llu bytes out, %12llu bytes in, in %llu and %llu packets\n",
        (unsigned long long)r->line_out, (unsigned long long)r->line_in, (unsigned long long)r->seen.packets_out,
        (unsigned long long)r->seen.packets_in);
    for (size_t i = 0; i < r->seen.place_count; i++) print_place(&r->seen.places[i]);
    if (r->seen.missed)
        printf("%llu packets were not counted: nothing is proved\n", (unsigned long long)r->seen.missed);
    else if (!r->agrees) printf("THEY DO NOT AGREE: more (or less) crossed the line than the ledger has\n");
    else if (r->line_out) printf("they agree: all that left is in the ledger\n");
    else printf("they agree: nothing left this machine%s\n", r->answered ? "" : ", but nothing was answered either");
}

static nigh_status print_json(const nigh_prove_ask *a, const nigh_prove_result *r) {
    nigh_buf name = NIGH_BUF(4096);
    nigh_status status = nigh_json_add_string(&name, nigh_str_of(a->feature));
    if (status == NIGH_OK)
        printf("{\"feature\":%.*s,\"requests\":%lld,\"answered\":%llu,\"errors\":%llu,\"failed\":%llu,"
            "\"ledger_bytes_out\":%llu,\"ledger_bytes_in\":%llu,\"calls_away\":%llu,\"records\":%llu,"
            "\"line_bytes_out\":%llu,\"line_bytes_in\":%llu,\"packets_out\":%llu,\"packets_in\":%llu,"
            "\"other_bytes_out\":%llu,\"sent_again\":%llu,\"missed\":%llu,\"agrees\":%s}\n", (int)name.len, name.ptr,
            (long long)a->requests, (unsigned long long)r->answered, (unsigned long long)r->errors,
            (unsigned long long)r->failed, (unsigned long long)r->ledger_out, (unsigned long long)r->ledger_in,
            (unsigned long long)r->calls_away, (unsigned long long)r->records, (unsigned long long)r->line_out,
            (unsigned long long)r->line_in, (unsigned long long)r->seen.packets_out,
            (unsigned long long)r->seen.packets_in, (unsigned long long)r->other_out,
            (unsigned long long)r->seen.again_out, (unsigned long long)r->seen.missed, r->agrees ? "true" : "false");
    nigh_buf_release(&name);
    return status;
}

static nigh_status check_words(const nigh_prove_ask *a, nigh_err *err) {
    nigh_policy *p;
    uint32_t idx;
    NIGH_TRY(nigh_cli_policy_open(&p, a->policy, err));
    nigh_status status = nigh_cli_find_feature(p, a->feature, &idx, err);
    if (status == NIGH_OK && a->class_name) status = nigh_cli_find_class(p, a->class_name, &idx, err);
    nigh_policy_free(p);
    return status;
}

static nigh_status find_models(nigh_prove_ask *a, int count, char **names, nigh_err *err) {
    static char paths[NIGH_PROVE_WORDS_MAX][4096];
    if (count > NIGH_PROVE_WORDS_MAX) return nigh_failf(err, NIGH_ERANGE, 0, "at most %d models", NIGH_PROVE_WORDS_MAX);
    a->model_count = count ? (size_t)count : 1;
    for (size_t i = 0; i < a->model_count; i++) {
        NIGH_TRY(nigh_cli_model_path(count ? names[i] : "nigh-stories", paths[i], sizeof paths[i], err));
        a->models[i] = paths[i];
    }
    return NIGH_OK;
}

static nigh_status run(int argc, char **argv, nigh_err *err) {
    static nigh_prove_result result;
    bool json = false;
    nigh_opt_list private = { .count = 0 };
    nigh_prove_ask a = { .requests = 5, .outside = "10.213.213.1",
        .text = "Summarise in one line: please call me back at jane.doe@example.org before noon." };
    const nigh_opt opts[] = {
        { "requests", 0, NIGH_OPT_INT, &a.requests, 1, NIGH_PROVE_REQUESTS_MAX },
        { "text", 0, NIGH_OPT_TEXT, &a.text, 0, 0 }, { "seed", 0, NIGH_OPT_INT, &a.seed, 0, INT64_MAX },
        { "class", 0, NIGH_OPT_TEXT, &a.class_name, 0, 0 }, { "outside", 0, NIGH_OPT_TEXT, &a.outside, 0, 0 },
        { "allow-private", 0, NIGH_OPT_LIST, &private, 0, 0 }, { "json", 0, NIGH_OPT_FLAG, &json, 0, 0 } };
    NIGH_TRY(nigh_opts_read(opts, NIGH_COUNT(opts), &argc, argv, err));
    if (argc < 2) return nigh_fail(err, NIGH_EINVAL, 0, "a policy and the name of a feature are wanted");
    a.policy = argv[0];
    a.feature = argv[1];
    for (size_t i = 0; i < private.count; i++) a.allow_private[a.allow_private_count++] = private.item[i];
    NIGH_TRY(check_words(&a, err));
    NIGH_TRY(find_models(&a, argc - 2, argv + 2, err));
    NIGH_TRY(nigh_prove(&a, &result, err));
    if (json) NIGH_TRY(print_json(&a, &result));
    else print_people(&a, &result);
    return result.agrees ? NIGH_OK : nigh_fail(err, NIGH_EDATA, 0, "the ledger and the packets do not agree");
}

const nigh_command nigh_command_prove = { "prove", "count what a feature sends, from outside, against its ledger", help,
    run };
