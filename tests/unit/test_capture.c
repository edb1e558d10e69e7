/* test_capture.c - captures: nothing without one in the policy, nobody else's, sealed, and gone at the end. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sys/stat.h>

#include "base/os.h"
#include "node/capture.h"
#include "test.h"

static char root[64], folder[128], capture_path[160], key_path[160], ended_path[160];
static nigh_policy *policy;

#define SECRET "the patient's word is Zanzibar"

static nigh_policy *parse(const char *captures) {
    char text[2048];
    nigh_policy *p = NULL;
    nigh_err err = { 0 };
    snprintf(text, sizeof text,
        "{\"version\":1,\"classes\":{\"c\":{\"level\":1,\"may_cross\":[\"device\"]}},"
        "\"targets\":{\"t\":{\"tier\":\"device\",\"model\":\"m\"}},"
        "\"features\":{\"mail\":{\"class\":\"c\",\"place\":[\"t\"]},"
        "\"other\":{\"class\":\"c\",\"place\":[\"t\"]}}%s}", captures);
    CHECK_MSG(nigh_policy_parse(&p, nigh_str_of(text), &err) == NIGH_OK, "%s", err.text);
    return p;
}

#define CASE(until) \
    ",\"captures\":{\"case-142\":{\"feature\":\"mail\",\"tenant\":\"acme\",\"until\":\"" until "\"," \
    "\"approved_by\":[\"a@x\",\"b@x\"],\"readers\":[\"oncall\"]}}"
#define LATER "2099-01-01T00:00:00Z"

static void begin(const char *captures) {
    snprintf(root, sizeof root, "/tmp/nigh-capture-XXXXXX");
    CHECK(mkdtemp(root) != NULL);
    snprintf(folder, sizeof folder, "%s/captures", root);
    snprintf(capture_path, sizeof capture_path, "%s/case-142.capture", folder);
    snprintf(key_path, sizeof key_path, "%s/case-142.key", folder);
    snprintf(ended_path, sizeof ended_path, "%s/case-142.ended", folder);
    policy = parse(captures);
}

static void end(void) {
    char command[128];
    nigh_policy_free(policy);
    snprintf(command, sizeof command, "rm -rf %s", root);
    CHECK(system(command) == 0);
}

static nigh_captures *open_captures(void) {
    nigh_captures *c = NULL;
    nigh_err err = { 0 };
    CHECK_MSG(nigh_captures_open(&c, policy, folder, &err) == NIGH_OK, "%s", err.text);
    return c;
}

static void add(nigh_captures *c, uint32_t feature, const char *tenant, const char *receipt) {
    nigh_err err = { 0 };
    nigh_captured what = { .feature_idx = feature, .tenant = nigh_str_of(tenant), .receipt = nigh_str_of(receipt),
                           .request = NIGH_STR("{\"prompt\":\"" SECRET "\"}"), .answer = NIGH_STR("so be it"),
                           .now_s = nigh_os_unix_ms() / 1000 };
    CHECK_MSG(nigh_captures_add(c, &what, &err) == NIGH_OK, "%s", err.text);
}

/* What one reads; the status in *status. */
static nigh_str read_all(nigh_buf *b, nigh_status *status) {
    nigh_err err = { 0 };
    b->len = 0;
    *status = nigh_capture_read(folder, NIGH_STR("case-142"), NIGH_STR("oncall"), b, &err);
    return nigh_buf_str(b);
}

static size_t count_of(nigh_str text, const char *word) {
    size_t n = 0;
    for (size_t at = 0; (at = nigh_str_find(text, nigh_str_of(word), at)) != SIZE_MAX; at++) n++;
    return n;
}

static bool found_in_files(const char *word) {
    char command[256];
    snprintf(command, sizeof command, "grep -raq '%s' %s", word, root);
    return system(command) == 0;
}

static void nothing_by_default(void) {
    begin("");
    nigh_captures *c = open_captures();
    CHECK(c == NULL && !nigh_captures_want(c, 0, NIGH_STR(""), 1));
    nigh_captures_tidy(c, 1);
    CHECK(access(folder, F_OK) != 0);
    nigh_policy_free(policy);
    policy = parse(CASE("2020-01-01T00:00:00Z"));       /* over before it began */
    c = open_captures();
    CHECK(c == NULL && access(folder, F_OK) != 0);
    end();
}

static void only_what_is_named(void) {
    nigh_buf b = NIGH_BUF(1 << 20);
    nigh_status status;
    struct stat st;
    begin(CASE(LATER));
    nigh_captures *c = open_captures();
    uint64_t now = nigh_os_unix_ms() / 1000;
    CHECK(nigh_captures_want(c, 0, NIGH_STR("acme"), now) && !nigh_captures_want(c, 1, NIGH_STR("acme"), now)
          && !nigh_captures_want(c, 0, NIGH_STR(""), now) && !nigh_captures_want(c, 0, NIGH_STR("acm"), now)
          && !nigh_captures_want(c, 0, NIGH_STR("acme"), 4070908800));
    add(c, 0, "acme", "rcpt-1");
    add(c, 1, "acme", "rcpt-2");
    add(c, 0, "other", "rcpt-3");
    nigh_captures_close(c);
    c = open_captures();                                /* goes on after a restart */
    add(c, 0, "acme", "rcpt-4");
    nigh_captures_close(c);
    CHECK(stat(capture_path, &st) == 0 && (st.st_mode & 0777) == 0600);
    CHECK(stat(key_path, &st) == 0 && (st.st_mode & 0777) == 0600);
    CHECK(!found_in_files("Zanzibar") && !found_in_files("so be it") && !found_in_files("rcpt-1"));
    nigh_str text = read_all(&b, &status);
    CHECK(status == NIGH_OK && count_of(text, "\n") == 2 && count_of(text, SECRET) == 2);
    CHECK(count_of(text, "\"receipt\":\"rcpt-1\"") == 1 && count_of(text, "\"receipt\":\"rcpt-4\"") == 1);
    CHECK(nigh_capture_read(folder, NIGH_STR("case-142"), NIGH_STR("mallory"), &b, NULL) == NIGH_EAUTH);
    CHECK(nigh_capture_read(folder, NIGH_STR("case-1"), NIGH_STR("oncall"), &b, NULL) == NIGH_ENOENT);
    CHECK(nigh_capture_read(folder, NIGH_STR("../key"), NIGH_STR("oncall"), &b, NULL) == NIGH_EINVAL);
    b.len = 0;
    CHECK(nigh_capture_list(folder, &b, NULL) == NIGH_OK);
    CHECK(count_of(nigh_buf_str(&b), "\"approved_by\":[\"a@x\",\"b@x\"]") == 1);
    CHECK(count_of(nigh_buf_str(&b), "\"ended\":false,\"entries\":2,") == 1);
    CHECK(count_of(nigh_buf_str(&b), "\"reads\":1") == 1);
    nigh_buf_release(&b);
    end();
}

static void check_ended(void) {
    nigh_buf b = NIGH_BUF(1 << 20);
    nigh_status status;
    CHECK(access(key_path, F_OK) != 0 && access(capture_path, F_OK) != 0 && access(ended_path, F_OK) == 0);
    (void)read_all(&b, &status);
    CHECK(status == NIGH_EPOLICY);
    nigh_captures *c = open_captures();                 /* a name is used once */
    CHECK(c == NULL && access(key_path, F_OK) != 0);
    b.len = 0;
    CHECK(nigh_capture_list(folder, &b, NULL) == NIGH_OK);
    CHECK_MSG(count_of(nigh_buf_str(&b), "\"entries\":1,\"ended\":true") == 1, "%.*s", (int)b.len, b.ptr);
    nigh_buf_release(&b);
}

static void ends(void) {
    begin(CASE(LATER));                                 /* its time has come */
    nigh_captures *c = open_captures();
    add(c, 0, "acme", "rcpt-1");
    nigh_captures_tidy(c, 1);
    CHECK(access(key_path, F_OK) == 0);
    nigh_captures_tidy(c, 4070908800);
    add(c, 0, "acme", "rcpt-2");
    check_ended();
    nigh_captures_close(c);
    end();

    begin(CASE(LATER));                                 /* the policy names it no more */
    c = open_captures();
    add(c, 0, "acme", "rcpt-1");
    nigh_captures_close(c);
    nigh_policy *kept = policy;
    policy = parse("");
    c = open_captures();
    CHECK(c == NULL);
    nigh_policy_free(policy);
    policy = kept;
    check_ended();
    end();

    begin(CASE(LATER));                                 /* somebody ended it, while the node runs */
    c = open_captures();
    add(c, 0, "acme", "rcpt-1");
    CHECK(nigh_capture_end(folder, NIGH_STR("case-142"), NULL) == NIGH_OK);
    add(c, 0, "acme", "rcpt-2");
    CHECK(!nigh_captures_want(c, 0, NIGH_STR("acme"), 1));
    check_ended();
    CHECK(nigh_capture_end(folder, NIGH_STR("case-142"), NULL) == NIGH_ENOENT);
    nigh_captures_close(c);
    end();
}

static void write_whole(nigh_str text) {
    FILE *f = fopen(capture_path, "wb");
    CHECK(f && fwrite(text.ptr, 1, text.len, f) == text.len && fclose(f) == 0);
}

static void changes_are_found(void) {
    nigh_buf whole = NIGH_BUF(1 << 20), b = NIGH_BUF(1 << 20), odd = NIGH_BUF(1 << 20);
    nigh_status status;
    begin(CASE(LATER));
    nigh_captures *c = open_captures();
    for (int i = 0; i < 3; i++) add(c, 0, "acme", "rcpt-7");
    nigh_captures_close(c);
    CHECK(nigh_file_read(&whole, capture_path, NULL) == NIGH_OK);
    size_t head = nigh_str_find(nigh_buf_str(&whole), NIGH_STR("\n"), 0) + 1, entry = (whole.len - head) / 3;
    unsigned taken = 0;
    for (size_t i = head; i < whole.len; i++) {
        whole.ptr[i] = (char)(whole.ptr[i] ^ (1 << i % 8));
        write_whole(nigh_buf_str(&whole));
        (void)read_all(&b, &status);
        taken += status == NIGH_OK;
        whole.ptr[i] = (char)(whole.ptr[i] ^ (1 << i % 8));
    }
    CHECK_MSG(taken == 0, "%u changed captures were read", taken);
    /* the first entry left out; two swapped; a head that ends later */
    CHECK(nigh_buf_add(&odd, nigh_str_slice(nigh_buf_str(&whole), 0, head)) == NIGH_OK);
    CHECK(nigh_buf_add(&odd, nigh_str_slice(nigh_buf_str(&whole), head + entry, whole.len)) == NIGH_OK);
    write_whole(nigh_buf_str(&odd));
    (void)read_all(&b, &status);
    CHECK(status == NIGH_EDATA);
    CHECK(nigh_buf_add(&odd, nigh_str_slice(nigh_buf_str(&whole), head, head + entry)) == NIGH_OK);
    write_whole(nigh_buf_str(&odd));
    (void)read_all(&b, &status);
    CHECK(status == NIGH_EDATA);
    size_t at = nigh_str_find(nigh_buf_str(&whole), NIGH_STR("oncall"), 0);
    whole.ptr[at] = 'O';
    write_whole(nigh_buf_str(&whole));
    CHECK(nigh_capture_read(folder, NIGH_STR("case-142"), NIGH_STR("Oncall"), &b, NULL) == NIGH_EDATA);
    whole.ptr[at] = 'o';
    /* half an entry, as a crash leaves it, is cut off by the next who writes */
    write_whole(nigh_str_slice(nigh_buf_str(&whole), 0, whole.len - 5));
    c = open_captures();
    add(c, 0, "acme", "rcpt-8");
    nigh_captures_close(c);
    nigh_str text = read_all(&b, &status);
    CHECK(status == NIGH_OK && count_of(text, "rcpt-7") == 2 && count_of(text, "rcpt-8") == 1);
    nigh_buf_release(&whole);
    nigh_buf_release(&odd);
    nigh_buf_release(&b);
    end();
}

static void *add_from_thread(void *ud) {
    for (int i = 0; i < 20; i++) add(ud, 0, "acme", "rcpt-t");
    return NULL;
}

static void threads_add_together(void) {
    nigh_buf b = NIGH_BUF(1 << 20);
    nigh_status status;
    pthread_t threads[3];
    size_t before = nigh_alloc_live_bytes();
    begin(CASE(LATER));
    nigh_captures *c = open_captures();
    for (size_t i = 0; i < 3; i++) CHECK(pthread_create(&threads[i], NULL, add_from_thread, c) == 0);
    for (size_t i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    CHECK(count_of(read_all(&b, &status), "rcpt-t") == 60 && status == NIGH_OK);
    nigh_captures_close(c);
    nigh_buf_release(&b);
    end();
    CHECK(nigh_alloc_live_bytes() == before);
}

TEST_MAIN(T(nothing_by_default), T(only_what_is_named), T(ends), T(changes_are_found), T(threads_add_together))
