/* cli_policy_sign.c - `nigh policy`: who let a policy out. Makes keys, signs policies, shows and checks signed ones. */
#include <stdio.h>
#include <string.h>

#include "base/os.h"
#include "cli/cli.h"
#include "cli/cli_ledger.h"
#include "cli/show.h"
#include "node/envelope.h"

static const char help[] =
    "usage: nigh policy key KEYFILE\n"
    "       nigh policy sign POLICY --key KEYFILE [--id NAME] [--out FILE]\n"
    "       nigh policy show FILE [--text | --json]\n"
    "       nigh policy verify FILE --public-key HEX [--state FILE]\n"
    "\n"
    "A signed policy says who let it out and cannot be changed afterwards. The\n"
    "signature (Ed25519) stands over exactly the bytes of the policy file and a name,\n"
    "the id, under which its versions are counted.\n"
    "\n"
    "  key      makes a key that signs, if the file is not there; prints the public\n"
    "           key\n"
    "  sign     checks the policy and prints it signed\n"
    "  show     what a policy is, plain or signed; --text prints the policy file\n"
    "           exactly as it was signed\n"
    "  verify   only a policy that one of the public keys signed is good; with\n"
    "           --state also none that is older than the newest this file has seen,\n"
    "           as a node does it\n"
    "\n"
    "      --key FILE         the key that signs: 32 bytes that only you may read\n"
    "      --id NAME          default: features\n"
    "      --out FILE         instead of standard output\n"
    "      --public-key HEX   64 digits, as `nigh policy key` prints them; may stand\n"
    "                         several times\n"
    "      --state FILE       remembers the newest version of every id\n"
    "      --json             for programs\n"
    "\n"
    "exit codes: 0; 1 malformed; 9 unsigned, changed, or signed by somebody else; 11\n"
    "an older version\n"
    "\n"
    "examples:\n"
    "  nigh policy key policy.key\n"
    "  nigh policy sign features.json --key policy.key --out features.signed.json\n"
    "  nigh policy show features.signed.json\n"
    "  nigh policy verify features.signed.json \\\n"
    "      --public-key $(nigh policy key policy.key)\n";

typedef struct {
    const char *key, *id, *out, *state;
    nigh_opt_list public_keys;
    bool text, json;
} words;

/* Opens a key that is there; `make`: or makes it. */
static nigh_status open_key(const char *path, bool make, nigh_signer *s, nigh_err *err) {
    if (!path) return nigh_fail(err, NIGH_EINVAL, 0, "wants --key KEYFILE");
    if (!make && !nigh_file_exists(path))
        return nigh_failf(err, NIGH_ENOENT, 0, "%s: there is no key; make one with: nigh policy key %s", path, path);
    nigh_signer_open(s, path);
    if (s->there) return NIGH_OK;
    return nigh_failf(err, NIGH_EIO, 0,
        "%s: cannot be made or used: it must be 32 bytes in a file of yours that nobody else may read", path);
}

static nigh_status run_key(const char *path, nigh_err *err) {
    nigh_signer s;
    bool there = nigh_file_exists(path);
    char hex[65];
    NIGH_TRY(open_key(path, true, &s, err));
    nigh_hex_write(hex, s.public_key, 32);
    if (!there) fprintf(stderr, "made %s; whoever has it can sign policies. Its public key:\n", path);
    printf("%s\n", hex);
    return NIGH_OK;
}

static nigh_status run_sign(const char *path, const words *w, nigh_err *err) {
    nigh_signer s;
    nigh_buf policy = NIGH_BUF(NIGH_POLICY_BYTES_MAX), out = NIGH_BUF(NIGH_ENVELOPE_BYTES_MAX);
    NIGH_TRY(open_key(w->key, false, &s, err));
    nigh_status status = nigh_file_read(&policy, path, err);
    if (status == NIGH_OK)
        status = nigh_envelope_sign(&out, nigh_buf_str(&policy), nigh_str_of(w->id ? w->id : "features"), &s, err);
    if (status == NIGH_OK && w->out) {
        status = nigh_file_write(w->out, nigh_buf_str(&out), err);
        if (status == NIGH_OK) fprintf(stderr, "signed: %s\n", w->out);
    } else if (status == NIGH_OK) fwrite(out.ptr, 1, out.len, stdout);
    nigh_buf_release(&policy);
    nigh_buf_release(&out);
    return status;
}

/* The policy's own bytes: what stands in the envelope, or the file itself. */
static nigh_status print_text(const char *path, nigh_err *err) {
    nigh_buf file = NIGH_BUF(NIGH_ENVELOPE_BYTES_MAX);
    nigh_json_doc doc;
    nigh_status status = nigh_file_read(&file, path, err);
    if (status == NIGH_OK) status = nigh_json_parse(&doc, nigh_buf_str(&file), err);
    if (status == NIGH_OK) {
        const nigh_json *v = nigh_json_get(doc.root, NIGH_STR("policy"));
        nigh_str text = v && v->type == NIGH_JSON_STRING ? v->text : nigh_buf_str(&file);
        fwrite(text.ptr, 1, text.len, stdout);
        nigh_json_release(&doc);
    }
    nigh_buf_release(&file);
    return status;
}

static void print_facts(const nigh_policy *p, const nigh_envelope_facts *f) {
    char until[64];
    printf("policy      %s%sversion %llu\n", f->id, f->is_signed ? ", " : "", (unsigned long long)f->version);
    printf("signed by   %s\n", f->is_signed ? f->key : "nobody");
    printf("sha256      %s\n", f->sha256);
    if (p->valid_until_s == UINT64_MAX) printf("valid       without end\n");
    else printf("valid until %s, then %u hours of grace\n", nigh_cli_time(until, p->valid_until_s * 1000),
                p->grace_s / 3600);
    printf("holds       %zu features, %zu targets, %zu classes\n", p->feature_count, p->target_count, p->class_count);
}

static void print_json(const nigh_policy *p, const nigh_envelope_facts *f) {
    printf("{\"id\":\"%s\",\"version\":%llu,\"signed\":%s,\"key\":\"%s\",\"sha256\":\"%s\",\"features\":%zu}\n", f->id,
           (unsigned long long)f->version, f->is_signed ? "true" : "false", f->key, f->sha256, p->feature_count);
}

static nigh_status run_show(const char *path, const words *w, bool verify, nigh_err *err) {
    nigh_trusted_key keys[NIGH_OPT_LIST_MAX];
    nigh_envelope_opts o = { .path = path, .trusted = keys, .trusted_count = w->public_keys.count,
                             .state_path = w->state, .require_signed = verify };
    nigh_envelope_facts facts;
    nigh_policy *p;
    for (size_t i = 0; i < w->public_keys.count; i++)
        if (!nigh_trusted_key_parse(nigh_str_of(w->public_keys.item[i]), &keys[i]))
            return nigh_fail(err, NIGH_EINVAL, 0, "--public-key wants 64 hex digits in lower case");
    if (verify && !o.trusted_count)
        return nigh_fail(err, NIGH_EINVAL, 0, "wants --public-key HEX: whose signature counts");
    NIGH_TRY(nigh_envelope_load(&p, &facts, &o, err));
    nigh_status status = NIGH_OK;
    if (w->text) status = print_text(path, err);
    else if (w->json) print_json(p, &facts);
    else if (verify)
        printf("good: %s, version %llu, signed by %s\n", facts.id, (unsigned long long)facts.version, facts.key);
    else print_facts(p, &facts);
    nigh_policy_free(p);
    return status;
}

static nigh_status run(int argc, char **argv, nigh_err *err) {
    words w = { 0 };
    const nigh_opt opts[] = {
        { "key", 0, NIGH_OPT_TEXT, &w.key, 0, 0 }, { "id", 0, NIGH_OPT_TEXT, &w.id, 0, 0 },
        { "out", 0, NIGH_OPT_TEXT, &w.out, 0, 0 }, { "state", 0, NIGH_OPT_TEXT, &w.state, 0, 0 },
        { "public-key", 0, NIGH_OPT_LIST, &w.public_keys, 0, 0 }, { "text", 0, NIGH_OPT_FLAG, &w.text, 0, 0 },
        { "json", 0, NIGH_OPT_FLAG, &w.json, 0, 0 } };
    NIGH_TRY(nigh_opts_read(opts, NIGH_COUNT(opts), &argc, argv, err));
    if (argc != 2) return nigh_fail(err, NIGH_EINVAL, 0, "wants key, sign, show or verify, and one file");
    if (strcmp(argv[0], "key") == 0) return run_key(argv[1], err);
    if (strcmp(argv[0], "sign") == 0) return run_sign(argv[1], &w, err);
    if (strcmp(argv[0], "show") == 0) return run_show(argv[1], &w, false, err);
    if (strcmp(argv[0], "verify") == 0) return run_show(argv[1], &w, true, err);
    return nigh_failf(err, NIGH_EINVAL, 0, "there is no 'nigh policy %s'; there are key, sign, show and verify",
                      argv[0]);
}

const nigh_command nigh_command_policy = { "policy", "sign a policy, or say who signed it", help, run };
