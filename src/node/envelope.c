/* envelope.c - see envelope.h.
 *
 *     file -> plain policy, or envelope: who signed? -> nigh_policy_parse -> older than what was seen? -> policy
 *
 * The state file holds one line of JSON for all policies:
 *
 *     {"format":"nigh-policy-state","version":1,"policies":[{"name":"id:shop","policy_version":7,"sha256":"hex"}]}
 *
 * A signed policy's name is "id:" and its id, a plain one's "path:" and where it lies. The file is read and written
 * under a lock of its own (FILE.lock), and before the policy is used: what was once in force is known to have been,
 * also after a crash. */
#define _GNU_SOURCE
#include "node/envelope.h"

#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/os.h"
#include "base/sha256.h"
#include "node/private_file.h"

enum { STATE_BYTES_MAX = 1 << 20, STATE_POLICIES_MAX = 1000, NAME_MAX_BYTES = 4096 + 8 };

/* ---- bytes and keys ---- */

bool nigh_trusted_key_parse(nigh_str text, nigh_trusted_key *out) {
    return nigh_hex_read(text, out->key, sizeof out->key);
}

static bool is_id(nigh_str id) {
    if (id.len == 0 || id.len > NIGH_ENVELOPE_ID_MAX) return false;
    for (size_t i = 0; i < id.len; i++) {
        char c = id.ptr[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_'
                    || c == '.';
        if (!good) return false;
    }
    return true;
}

static nigh_status signed_text(nigh_buf *out, nigh_str id, nigh_str policy) {
    NIGH_TRY(nigh_buf_add(out, NIGH_STR("nigh-policy 1\n")));
    NIGH_TRY(nigh_buf_add(out, id));
    NIGH_TRY(nigh_buf_add_char(out, '\n'));
    return nigh_buf_add(out, policy);
}

/* ---- signing ---- */

static nigh_status write_envelope(nigh_buf *out, nigh_str policy, nigh_str id, const nigh_signer *s) {
    uint8_t signature[crypto_sign_BYTES];
    char hex[2 * crypto_sign_BYTES + 1];
    nigh_buf text = NIGH_BUF(NIGH_POLICY_BYTES_MAX + 256);
    nigh_status status = signed_text(&text, id, policy);
    if (status == NIGH_OK)
        crypto_sign_detached(signature, NULL, (const uint8_t *)text.ptr, text.len, s->secret);
    nigh_buf_release(&text);
    NIGH_TRY(status);
    NIGH_TRY(nigh_buf_addf(out, "{\"format\":\"nigh-policy\",\"version\":1,\"id\":\"%.*s\",\"policy\":", (int)id.len,
                           id.ptr));
    NIGH_TRY(nigh_json_add_string(out, policy));
    nigh_hex_write(hex, s->public_key, sizeof s->public_key);
    NIGH_TRY(nigh_buf_addf(out, ",\"key\":\"%s\"", hex));
    nigh_hex_write(hex, signature, sizeof signature);
    return nigh_buf_addf(out, ",\"signature\":\"%s\"}\n", hex);
}

nigh_status nigh_envelope_sign(nigh_buf *out, nigh_str policy, nigh_str id, const nigh_signer *s, nigh_err *err) {
    nigh_policy *p;
    if (!s->there) return nigh_fail(err, NIGH_EINVAL, 0, "there is no key to sign with");
    if (!is_id(id))
        return nigh_failf(err, NIGH_EINVAL, 0, "an id has 1 to %d letters, digits, '-', '_' or '.'",
                          NIGH_ENVELOPE_ID_MAX);
    NIGH_TRY(nigh_policy_parse(&p, policy, err));
    nigh_policy_free(p);
    nigh_status status = write_envelope(out, policy, id, s);
    return status == NIGH_OK ? NIGH_OK : nigh_fail(err, status, 0, nigh_status_text(status));
}

/* ---- reading ---- */

typedef struct {
    const nigh_envelope_opts *o;
    nigh_envelope_facts facts;
    nigh_str policy;                /* its exact bytes */
    nigh_err *err;
} loading;

static nigh_status check_signature(loading *l, nigh_str id, const uint8_t key[32], const uint8_t *signature) {
    nigh_buf text = NIGH_BUF(NIGH_ENVELOPE_BYTES_MAX + 256);
    nigh_status status = signed_text(&text, id, l->policy);
    bool fits = status == NIGH_OK
                && crypto_sign_verify_detached(signature, (const uint8_t *)text.ptr, text.len, key) == 0;
    nigh_buf_release(&text);
    if (status != NIGH_OK) return nigh_failf(l->err, status, 0, "%s: %s", l->o->path, nigh_status_text(status));
    if (!fits)
        return nigh_failf(l->err, NIGH_EAUTH, 0, "%s: the signature does not fit: the policy was changed after it was "
                          "signed", l->o->path);
    for (size_t i = 0; i < l->o->trusted_count; i++)
        if (sodium_memcmp(l->o->trusted[i].key, key, 32) == 0) l->facts.trusted = true;
    if (l->o->trusted_count && !l->facts.trusted)
        return nigh_failf(l->err, NIGH_EAUTH, 0, "%s: signed with the key %.16s..., which is not one of those that "
                                                 "count",
                          l->o->path, l->facts.key);
    return NIGH_OK;
}

static nigh_status open_envelope(loading *l, const nigh_json *root) {
    static const char *const keys[] = { "format", "version", "id", "policy", "key", "signature" };
    const nigh_json *version = nigh_json_get(root, NIGH_STR("version"));
    nigh_str id = nigh_json_text(root, "id");
    uint8_t key[32], signature[crypto_sign_BYTES];
    for (const nigh_json *v = root->first; v; v = v->next) {
        size_t i = 0;
        while (i < NIGH_COUNT(keys) && !nigh_str_eq(nigh_str_of(keys[i]), v->key)) i++;
        if (i == NIGH_COUNT(keys))
            return nigh_failf(l->err, NIGH_EINVAL, v->at, "%s: a signed policy has no '%.*s'", l->o->path,
                              (int)nigh_min(v->key.len, 64), v->key.ptr);
    }
    if (!version || !version->is_int || version->integer != 1)
        return nigh_failf(l->err, NIGH_EINVAL, 0, "%s: a signed policy of a version that is not known here",
                          l->o->path);
    l->policy = nigh_json_text(root, "policy");
    if (!is_id(id) || !l->policy.len || !nigh_hex_read(nigh_json_text(root, "key"), key, sizeof key)
        || !nigh_hex_read(nigh_json_text(root, "signature"), signature, sizeof signature))
        return nigh_failf(l->err, NIGH_EINVAL, 0, "%s: a signed policy needs id, policy, key and signature",
                          l->o->path);
    l->facts.is_signed = true;
    nigh_format(l->facts.id, sizeof l->facts.id, "%.*s", (int)id.len, id.ptr);
    nigh_hex_write(l->facts.key, key, sizeof key);
    return check_signature(l, id, key, signature);
}

static nigh_status parse_policy(loading *l, nigh_policy **out) {
    nigh_err inner = { 0 };
    size_t column;
    nigh_status status = nigh_policy_parse(out, l->policy, &inner);
    if (status == NIGH_OK) return NIGH_OK;
    size_t line = nigh_str_line(l->policy, inner.at, &column);
    if (nigh_str_starts(nigh_str_of(inner.text), NIGH_STR("JSON, line ")))      /* it says so itself */
        return nigh_failf(l->err, status, inner.at, "%s: %s", l->o->path, inner.text);
    return nigh_failf(l->err, status, inner.at, "%s:%zu:%zu: %s", l->o->path, line, column, inner.text);
}

/* ---- versions ---- */

static nigh_status older(loading *l, uint64_t seen) {
    return nigh_failf(l->err, NIGH_EPOLICY, 0, "%s: version %llu is older than version %llu, which was in force "
                      "already; to go back, give the old text a higher version", l->o->path,
                      (unsigned long long)l->facts.version, (unsigned long long)seen);
}

static nigh_status state_is_bad(loading *l) {
    return nigh_failf(l->err, NIGH_EIO, 0, "%s: cannot be read; it says which version of a policy is the newest, and "
                      "without that none is used", l->o->state_path);
}

/* Copies what other policies had; of ours says whether it has to be written. */
static nigh_status compare_state(loading *l, const nigh_json *root, nigh_str name, nigh_buf *out, bool *write) {
    const nigh_json *list = nigh_json_get(root, NIGH_STR("policies"));
    *write = true;
    if (!nigh_json_says(root, "format", "nigh-policy-state") || !list || list->type != NIGH_JSON_ARRAY)
        return state_is_bad(l);
    for (const nigh_json *v = list->first; v; v = v->next) {
        const nigh_json *seen = nigh_json_get(v, NIGH_STR("policy_version"));
        if (!seen || !seen->is_int || seen->integer < 0) return state_is_bad(l);
        if (!nigh_str_eq(nigh_json_text(v, "name"), name)) {
            NIGH_TRY(nigh_json_add_value(out, v));
            NIGH_TRY(nigh_buf_add_char(out, ','));
            continue;
        }
        uint64_t version = (uint64_t)seen->integer;
        bool same = nigh_str_eq(nigh_json_text(v, "sha256"), nigh_str_of(l->facts.sha256));
        if (l->facts.version < version) return older(l, version);
        if (l->facts.version == version && !same && l->facts.is_signed)
            return nigh_failf(l->err, NIGH_EPOLICY, 0, "%s: another policy of version %llu was in force already; every "
                              "change needs a higher version", l->o->path, (unsigned long long)version);
        *write = l->facts.version > version || !same;
    }
    return NIGH_OK;
}

static nigh_status add_state(loading *l, nigh_str name, nigh_buf *out) {
    NIGH_TRY(nigh_buf_add(out, NIGH_STR("{\"name\":")));
    NIGH_TRY(nigh_json_add_string(out, name));
    return nigh_buf_addf(out, ",\"policy_version\":%llu,\"sha256\":\"%s\"}]}\n", (unsigned long long)l->facts.version,
                         l->facts.sha256);
}

static nigh_status update_state(loading *l, nigh_str name) {
    nigh_buf old = NIGH_BUF(STATE_BYTES_MAX), now = NIGH_BUF(2 * STATE_BYTES_MAX);
    nigh_json_doc doc;
    bool write = true;
    nigh_status status = nigh_buf_add(&now, NIGH_STR("{\"format\":\"nigh-policy-state\",\"version\":1,\"policies\":["));
    nigh_status read = status == NIGH_OK ? nigh_private_read(&old, l->o->state_path, l->err) : status;
    if (read == NIGH_OK) {
        read = nigh_json_parse(&doc, nigh_buf_str(&old), NULL);
        status = read == NIGH_OK ? compare_state(l, doc.root, name, &now, &write) : state_is_bad(l);
        if (read == NIGH_OK) nigh_json_release(&doc);
    } else if (read != NIGH_ENOENT) status = read;
    if (status == NIGH_OK && write) {
        status = add_state(l, name, &now);
        if (status == NIGH_OK) status = nigh_private_write(l->o->state_path, nigh_buf_str(&now), l->err);
    }
    nigh_buf_release(&old);
    nigh_buf_release(&now);
    return status;
}

static nigh_status watch_version(loading *l) {
    char lock[4096 + 8], name[NAME_MAX_BYTES];
    int fd;
    if (!l->o->state_path || (!l->facts.is_signed && strcmp(l->o->path, "-") == 0)) return NIGH_OK;
    char *real = l->facts.is_signed ? NULL : realpath(l->o->path, lock);
    nigh_format(name, sizeof name, "%s%s", l->facts.is_signed ? "id:" : "path:",
                l->facts.is_signed ? l->facts.id : real ? real : l->o->path);
    if (nigh_format(lock, sizeof lock, "%s.lock", l->o->state_path) >= sizeof lock)
        return nigh_fail(l->err, NIGH_ERANGE, 0, "the path of the policy's state is too long");
    nigh_private_folders(l->o->state_path);
    NIGH_TRY(nigh_private_open(lock, O_RDWR | O_CREAT, &fd, l->err));
    nigh_status status = flock(fd, LOCK_EX) == 0 ? update_state(l, nigh_str_of(name)) : state_is_bad(l);
    close(fd);
    return status;
}

/* ---- all of it ---- */

static nigh_status load(loading *l, nigh_policy **out, const nigh_json *root, nigh_str text) {
    bool envelope = nigh_json_says(root, "format", "nigh-policy");
    l->policy = text;
    if (envelope) NIGH_TRY(open_envelope(l, root));
    else if (l->o->trusted_count || l->o->require_signed)
        return nigh_failf(l->err, NIGH_EAUTH, 0, "%s: is not signed, and only signed policies are taken here; sign it "
                          "with: nigh policy sign", l->o->path);
    NIGH_TRY(parse_policy(l, out));
    l->facts.version = (*out)->version;
    nigh_sha256_of(l->policy, l->facts.sha256);
    nigh_status status = watch_version(l);
    if (status == NIGH_OK) return NIGH_OK;
    nigh_policy_free(*out);
    *out = NULL;
    return status;
}

nigh_status nigh_envelope_load(nigh_policy **out, nigh_envelope_facts *facts, const nigh_envelope_opts *o,
                               nigh_err *err) {
    nigh_buf text = NIGH_BUF(NIGH_ENVELOPE_BYTES_MAX);
    nigh_json_doc doc = { .root = NULL };
    loading l = { .o = o, .err = err };
    *out = NULL;
    if (sodium_init() < 0) return nigh_fail(err, NIGH_EIO, 0, "the cryptography cannot be set up");
    nigh_status status = nigh_file_read(&text, o->path, err);
    if (status == NIGH_OK) {
        /* What cannot be read as JSON is taken for a plain policy, whose reader says where and why. */
        bool parsed = nigh_json_parse(&doc, nigh_buf_str(&text), NULL) == NIGH_OK;
        status = load(&l, out, parsed ? doc.root : NULL, nigh_buf_str(&text));
        if (parsed) nigh_json_release(&doc);
    }
    nigh_buf_release(&text);
    if (facts) *facts = l.facts;
    return status;
}
