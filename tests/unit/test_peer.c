/* Two nodes that know each other's keys: what goes through, and everything that must not. */
#include "node/peer.h"

#include <sodium.h>

#include "base/os.h"
#include "test.h"

static nigh_signer ours, theirs, stranger;
static nigh_keys keys;

static void make_signer(nigh_signer *s, uint8_t seed) {
    uint8_t bytes[32];
    memset(bytes, seed, sizeof bytes);
    s->there = crypto_sign_seed_keypair(s->public_key, s->secret, bytes) == 0;
}

static void set_up(void) {
    if (sodium_init() < 0) return;
    make_signer(&ours, 1);
    make_signer(&theirs, 2);
    make_signer(&stranger, 3);
    memcpy(keys.hash[0], stranger.public_key, 32);     /* a plain key that has these bytes as its hash is no peer */
    memcpy(keys.hash[1], ours.public_key, 32);
    keys.peer[1] = true;
    keys.count = 2;
}

typedef struct { nigh_buf body; char token[NIGH_PEER_TOKEN]; nigh_peer_out out; } asked;

static asked ask(const nigh_signer *by, const nigh_signer *of, const char *words) {
    asked a = { .body = NIGH_BUF(1 << 20) };
    nigh_peer_line line = { by, of->public_key };
    CHECK(nigh_buf_add(&a.body, nigh_str_of(words)) == NIGH_OK);
    CHECK(nigh_peer_ask(&line, &a.body, a.token, &a.out, NULL) == NIGH_OK);
    CHECK(nigh_str_find(nigh_buf_str(&a.body), nigh_str_of("hello"), 0) == SIZE_MAX);
    return a;
}

static nigh_peer_in *admit(nigh_peers *p, const char *token, uint64_t now_ms) {
    size_t idx = 7;
    nigh_peer_in *in = nigh_peers_admit(p, nigh_str_of(token), now_ms, &idx);
    CHECK(!in || idx == 1);
    return in;
}

static void test_there_and_back(void) {
    nigh_peers *p;
    nigh_buf event = NIGH_BUF(1 << 20), plain = NIGH_BUF(1 << 20), second = NIGH_BUF(1 << 20);
    set_up();
    CHECK(nigh_peers_open(&p, &keys, &theirs) == NIGH_OK);
    asked a = ask(&ours, &theirs, "{\"say\":\"hello\"}");
    nigh_peer_in *in = admit(p, a.token, nigh_os_unix_ms());
    if (!in) { CHECK(false); return; }
    CHECK(!nigh_peer_is_open(in) && nigh_peer_open(in, &a.body) == NIGH_OK && nigh_peer_is_open(in));
    CHECK(nigh_str_eq(nigh_buf_str(&a.body), nigh_str_of("{\"say\":\"hello\"}")));
    CHECK(nigh_peer_seal_event(in, nigh_str_of("data: {\"a\":1}\n\n"), &event) == NIGH_OK);
    CHECK(nigh_peer_seal_event(in, nigh_str_of("data: [DONE]\n\n"), &second) == NIGH_OK);
    nigh_str json = nigh_str_slice(nigh_buf_str(&event), 6, event.len - 2);
    nigh_str next = nigh_str_slice(nigh_buf_str(&second), 6, second.len - 2);
    nigh_peer_out late = a.out, whole = a.out;
    CHECK(nigh_peer_open_event(&a.out, json, &plain) == NIGH_OK);
    CHECK(nigh_str_eq(nigh_buf_str(&plain), nigh_str_of("data: {\"a\":1}\n\n")));
    CHECK(nigh_peer_open_event(&a.out, json, &plain) == NIGH_EAUTH);       /* a second time */
    CHECK(nigh_peer_open_event(&late, next, &plain) == NIGH_EAUTH);        /* one was left out */
    CHECK(nigh_peer_open_whole(&whole, 200, json, &plain) == NIGH_EAUTH);  /* an event is no whole answer */
    nigh_peer_in_free(in);
    nigh_peers_close(p);
    nigh_buf_release(&event);
    nigh_buf_release(&second);
    nigh_buf_release(&plain);
    nigh_buf_release(&a.body);
}

static void test_whole_answers(void) {
    nigh_peers *p;
    nigh_buf sealed = NIGH_BUF(1 << 20), plain = NIGH_BUF(1 << 20);
    set_up();
    CHECK(nigh_peers_open(&p, &keys, &theirs) == NIGH_OK);
    asked a = ask(&ours, &theirs, "hello");
    nigh_peer_in *in = admit(p, a.token, nigh_os_unix_ms());
    if (!in) { CHECK(false); return; }
    CHECK(nigh_peer_open(in, &a.body) == NIGH_OK);
    CHECK(nigh_peer_seal_whole(in, 503, nigh_str_of("{\"error\":1}"), &sealed) == NIGH_OK);
    CHECK(nigh_peer_open_whole(&a.out, 200, nigh_buf_str(&sealed), &plain) == NIGH_EAUTH);     /* another status */
    CHECK(nigh_peer_open_whole(&a.out, 503, nigh_buf_str(&sealed), &plain) == NIGH_OK);
    CHECK(nigh_str_eq(nigh_buf_str(&plain), nigh_str_of("{\"error\":1}")));
    nigh_peer_in_free(in);
    nigh_peers_close(p);
    nigh_buf_release(&sealed);
    nigh_buf_release(&plain);
    nigh_buf_release(&a.body);
}

static void test_who_is_let_in(void) {
    nigh_peers *p;
    uint64_t now = nigh_os_unix_ms();
    set_up();
    CHECK(nigh_peers_open(&p, &keys, &theirs) == NIGH_OK);
    asked a = ask(&ours, &theirs, "hello"), foreign = ask(&stranger, &theirs, "hello"), other = ask(&ours, &stranger,
                                                                                                   "hello");
    CHECK(nigh_peer_is_token(nigh_str_of(a.token)) && !nigh_peer_is_token(nigh_str_of("nigh-0123")));
    CHECK(admit(p, foreign.token, now) == NULL);        /* a node that is not known */
    CHECK(admit(p, other.token, now) == NULL);          /* meant for another one */
    CHECK(admit(p, a.token, now + 200000) == NULL && admit(p, a.token, now - 200000) == NULL);
    for (size_t i = 10; i < strlen(a.token); i++) {     /* any letter changed */
        char kept = a.token[i];
        a.token[i] = kept == '1' ? '2' : '1';
        CHECK_MSG(admit(p, a.token, now) == NULL, "letter %zu", i);
        a.token[i] = kept;
    }
    nigh_peer_in *in = admit(p, a.token, now);
    CHECK(in != NULL && admit(p, a.token, now) == NULL);        /* once */
    if (in) {
        nigh_buf body = NIGH_BUF(1 << 20);
        CHECK(nigh_buf_add(&body, nigh_buf_str(&foreign.body)) == NIGH_OK);
        CHECK(nigh_peer_open(in, &body) == NIGH_EAUTH && !nigh_peer_is_open(in));   /* another body */
        nigh_buf_release(&body);
    }
    nigh_peer_in_free(in);
    nigh_peers_close(p);
    nigh_buf_release(&a.body);
    nigh_buf_release(&foreign.body);
    nigh_buf_release(&other.body);
}

/* Many tokens in the same minutes: each is good once. */
static void test_replays(void) {
    nigh_peers *p;
    enum { COUNT = 400 };
    static char tokens[COUNT][NIGH_PEER_TOKEN];
    uint64_t now = nigh_os_unix_ms();
    set_up();
    CHECK(nigh_peers_open(&p, &keys, &theirs) == NIGH_OK);
    for (size_t i = 0; i < COUNT; i++) {
        asked a = ask(&ours, &theirs, "hello");
        memcpy(tokens[i], a.token, sizeof a.token);
        nigh_buf_release(&a.body);
        nigh_peer_in *in = admit(p, tokens[i], now);
        CHECK(in != NULL);
        nigh_peer_in_free(in);
    }
    for (size_t i = 0; i < COUNT; i++) CHECK(admit(p, tokens[i], now + 60000) == NULL);
    nigh_peers_close(p);
}

static void test_receipts(void) {
    static const char receipt[] = "{\"id\":\"rcpt-1\",\"ms\":12,\"share\":0.50,\"inner\":{\"a\":[1,2]}}";
    nigh_peers *p;
    nigh_buf out = NIGH_BUF(1 << 16), wrong = NIGH_BUF(1 << 16);
    nigh_json_doc doc;
    char signer[65], asker[65], hex[65];
    set_up();
    CHECK(nigh_peers_open(&p, &keys, &theirs) == NIGH_OK);
    asked a = ask(&ours, &theirs, "hello");
    nigh_peer_in *in = admit(p, a.token, nigh_os_unix_ms());
    if (!in) { CHECK(false); return; }
    CHECK(nigh_buf_add(&out, NIGH_STR("before")) == NIGH_OK && nigh_buf_add(&out, nigh_str_of(receipt)) == NIGH_OK);
    CHECK(nigh_peer_sign(in, &out, 6) == NIGH_OK);
    nigh_str made = nigh_str_slice(nigh_buf_str(&out), 6, out.len);
    CHECK(nigh_json_parse(&doc, made, NULL) == NIGH_OK);
    CHECK(nigh_peer_check_receipt(doc.root, theirs.public_key, signer, asker, NULL) == NIGH_OK);
    sodium_bin2hex(hex, sizeof hex, ours.public_key, 32);
    CHECK(strcmp(asker, hex) == 0);
    CHECK(nigh_peer_check_receipt(doc.root, stranger.public_key, signer, asker, NULL) == NIGH_EAUTH);
    nigh_json_release(&doc);
    for (size_t i = 0; i < made.len; i++) {             /* any letter that changes a value */
        if (made.ptr[i] < '0' || made.ptr[i] > '9') continue;
        wrong.len = 0;
        CHECK(nigh_buf_add(&wrong, made) == NIGH_OK);
        wrong.ptr[i] = made.ptr[i] == '7' ? '8' : '7';
        if (nigh_json_parse(&doc, nigh_buf_str(&wrong), NULL) != NIGH_OK) continue;
        CHECK_MSG(nigh_peer_check_receipt(doc.root, NULL, signer, asker, NULL) != NIGH_OK, "letter %zu", i);
        nigh_json_release(&doc);
    }
    CHECK(nigh_json_parse(&doc, nigh_str_of(receipt), NULL) == NIGH_OK);
    CHECK(nigh_peer_check_receipt(doc.root, NULL, signer, asker, NULL) == NIGH_EINVAL);
    nigh_json_release(&doc);
    nigh_peer_in_free(in);
    nigh_peers_close(p);
    nigh_buf_release(&out);
    nigh_buf_release(&wrong);
    nigh_buf_release(&a.body);
    CHECK(nigh_alloc_live_bytes() == 0);
}

TEST_MAIN(T(test_there_and_back), T(test_whole_answers), T(test_who_is_let_in), T(test_replays), T(test_receipts))
