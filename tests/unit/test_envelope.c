/* test_envelope.c - signed policies, and every way to bring in one that nobody let out. */
#define _GNU_SOURCE
#include <sodium.h>
#include <sys/stat.h>

#include "base/os.h"
#include "node/envelope.h"
#include "test.h"

static char folder[64], path[128], state[128];
static nigh_signer boss, thief;

static void begin(void) {
    char key[128];
    snprintf(folder, sizeof folder, "/tmp/nigh-envelope-XXXXXX");
    CHECK(mkdtemp(folder) != NULL);
    snprintf(path, sizeof path, "%s/features.json", folder);
    snprintf(state, sizeof state, "%s/own/state", folder);
    snprintf(key, sizeof key, "%s/boss", folder);
    nigh_signer_open(&boss, key);
    snprintf(key, sizeof key, "%s/thief", folder);
    nigh_signer_open(&thief, key);
}

static void end(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    CHECK(system(command) == 0);
}

static size_t policy_text(char out[1024], unsigned version, const char *class_name) {
    return (size_t)snprintf(out, 1024,
        "{\n  \"version\": %u,\n  \"classes\": { \"%s\": { \"level\": 1, \"may_cross\": [\"device\"] } },\n"
        "  \"targets\": { \"t\u00e4ny\": { \"tier\": \"device\", \"model\": \"m\" } },\n"
        "  \"features\": { \"f\": { \"class\": \"%s\", \"place\": [\"t\u00e4ny\"] } }\n}\n", version, class_name,
        class_name);
}

static void write_text(nigh_str text) {
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(text.ptr, 1, text.len, f) == text.len && fclose(f) == 0);
}

static void sign_as(const nigh_signer *s, unsigned version, const char *class_name, const char *id, nigh_buf *out) {
    char text[1024];
    nigh_err err = { 0 };
    size_t n = policy_text(text, version, class_name);
    out->len = 0;
    CHECK_MSG(nigh_envelope_sign(out, (nigh_str){ text, n }, nigh_str_of(id), s, &err) == NIGH_OK, "%s", err.text);
    write_text(nigh_buf_str(out));
}

/* With the boss's key as the one that counts, and a state. */
static nigh_status load(nigh_err *err, nigh_envelope_facts *facts) {
    nigh_trusted_key trusted[2] = { { { 7 } } };
    nigh_policy *p;
    memcpy(trusted[1].key, boss.public_key, 32);
    nigh_envelope_opts o = { .path = path, .trusted = trusted, .trusted_count = 2, .state_path = state };
    nigh_status status = nigh_envelope_load(&p, facts, &o, err);
    CHECK((status == NIGH_OK) == (p != NULL));
    nigh_policy_free(p);
    return status;
}

static void signed_and_loaded(void) {
    nigh_buf b = NIGH_BUF(1 << 20);
    nigh_err err = { 0 };
    nigh_envelope_facts facts;
    struct stat st;
    begin();
    sign_as(&boss, 3, "secret", "shop", &b);
    CHECK_MSG(load(&err, &facts) == NIGH_OK, "%s", err.text);
    CHECK(facts.is_signed && facts.trusted && facts.version == 3 && strcmp(facts.id, "shop") == 0);
    CHECK(stat(state, &st) == 0 && (st.st_mode & 0777) == 0600);
    CHECK(load(&err, NULL) == NIGH_OK);
    sign_as(&boss, 4, "secret", "shop", &b);
    CHECK(load(&err, NULL) == NIGH_OK);
    sign_as(&boss, 1, "secret", "other", &b);      /* another id has versions of its own */
    CHECK(load(&err, NULL) == NIGH_OK);
    char text[1024];
    size_t n = policy_text(text, 3, "secret");
    CHECK(nigh_envelope_sign(&b, (nigh_str){ text, n }, NIGH_STR("a b"), &boss, &err) == NIGH_EINVAL);
    CHECK(nigh_envelope_sign(&b, (nigh_str){ text, n - 3 }, NIGH_STR("a"), &boss, &err) == NIGH_EINVAL);
    nigh_buf_release(&b);
    end();
}

static void attacks_are_refused(void) {
    nigh_buf b = NIGH_BUF(1 << 20), changed = NIGH_BUF(1 << 20);
    nigh_err err = { 0 };
    begin();
    sign_as(&thief, 3, "secret", "shop", &b);
    CHECK(load(&err, NULL) == NIGH_EAUTH && strstr(err.text, "not one of those that count"));
    CHECK(!nigh_file_exists(state));                /* what is refused leaves no trace */
    sign_as(&boss, 3, "secret", "shop", &b);
    CHECK(load(&err, NULL) == NIGH_OK);
    sign_as(&boss, 2, "secret", "shop", &b);
    CHECK(load(&err, NULL) == NIGH_EPOLICY && strstr(err.text, "version 2 is older than version 3"));
    sign_as(&boss, 3, "public", "shop", &b);
    CHECK(load(&err, NULL) == NIGH_EPOLICY && strstr(err.text, "another policy of version 3"));
    char text[1024];
    size_t n = policy_text(text, 9, "secret");
    write_text((nigh_str){ text, n });              /* the envelope taken away */
    CHECK(load(&err, NULL) == NIGH_EAUTH && strstr(err.text, "is not signed"));

    sign_as(&boss, 5, "secret", "shop", &b);        /* each byte changed, and each length */
    unsigned taken = 0;
    for (size_t i = 0; i < b.len - 1; i++) {
        changed.len = 0;
        CHECK(nigh_buf_add(&changed, nigh_buf_str(&b)) == NIGH_OK);
        changed.ptr[i] = (char)(changed.ptr[i] ^ (1 << i % 8));
        write_text(nigh_buf_str(&changed));
        taken += load(&err, NULL) == NIGH_OK;
        write_text(nigh_str_slice(nigh_buf_str(&b), 0, i));
        taken += load(&err, NULL) == NIGH_OK;
    }
    CHECK_MSG(taken == 0, "%u changed policies were taken", taken);
    write_text(nigh_buf_str(&b));
    CHECK(load(&err, NULL) == NIGH_OK);
    /* A key that belongs to nobody we know, beside a signature that fits it, is the first case; a key of ours beside
     * the thief's signature is a changed byte. Another id on the same bytes: */
    sign_as(&boss, 6, "secret", "shop", &b);
    nigh_str all = nigh_buf_str(&b);
    size_t at = nigh_str_find(all, NIGH_STR("shop"), 0);
    b.ptr[at] = 'S';
    write_text(all);
    CHECK(load(&err, NULL) == NIGH_EAUTH);
    nigh_buf_release(&b);
    nigh_buf_release(&changed);
    end();
}

static void the_state_is_watched(void) {
    nigh_buf b = NIGH_BUF(1 << 20);
    nigh_err err = { 0 };
    begin();
    sign_as(&boss, 3, "secret", "shop", &b);
    CHECK(load(&err, NULL) == NIGH_OK);
    CHECK(truncate(state, 20) == 0);
    CHECK(load(&err, NULL) == NIGH_EIO);
    CHECK(chmod(state, 0644) == 0);
    CHECK(load(&err, NULL) == NIGH_EINVAL);
    CHECK(unlink(state) == 0);                      /* the documented limit: an older one comes back */
    sign_as(&boss, 2, "secret", "shop", &b);
    CHECK(load(&err, NULL) == NIGH_OK);
    nigh_buf_release(&b);
    end();
}

static void plain_policies(void) {
    char text[1024];
    nigh_policy *p;
    nigh_err err = { 0 };
    nigh_envelope_facts facts;
    begin();
    write_text((nigh_str){ text, policy_text(text, 3, "secret") });
    nigh_envelope_opts o = { .path = path, .state_path = state };
    CHECK_MSG(nigh_envelope_load(&p, &facts, &o, &err) == NIGH_OK, "%s", err.text);
    CHECK(!facts.is_signed && facts.version == 3 && !facts.id[0]);
    nigh_policy_free(p);
    write_text((nigh_str){ text, policy_text(text, 3, "public") });     /* edited: nobody signed it anyway */
    CHECK(nigh_envelope_load(&p, &facts, &o, &err) == NIGH_OK);
    nigh_policy_free(p);
    write_text((nigh_str){ text, policy_text(text, 2, "public") });
    CHECK(nigh_envelope_load(&p, &facts, &o, &err) == NIGH_EPOLICY);
    o.state_path = NULL;
    CHECK(nigh_envelope_load(&p, &facts, &o, &err) == NIGH_OK);
    nigh_policy_free(p);
    o.require_signed = true;
    CHECK(nigh_envelope_load(&p, &facts, &o, &err) == NIGH_EAUTH);
    o.require_signed = false;
    write_text(NIGH_STR("{\n  \"version\": 1,\n  \"clases\": {} }"));
    CHECK(nigh_envelope_load(&p, &facts, &o, &err) == NIGH_EINVAL);
    CHECK_MSG(strstr(err.text, "features.json:3:") != NULL, "%s", err.text);
    o.path = "/nothing/here";
    CHECK(nigh_envelope_load(&p, &facts, &o, &err) == NIGH_ENOENT);
    end();
}

TEST_MAIN(T(signed_and_loaded), T(attacks_are_refused), T(the_state_is_watched), T(plain_policies))
