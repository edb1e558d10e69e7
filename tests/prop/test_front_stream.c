/* test_front_stream.c - answers in the words of other dialects, read back by the readers that read providers.
 * The law: whatever the order in which pieces of text and of several calls of tools come, a client gets every piece,
 * each call whole and in its place, a reason and the counts; as a stream and as a whole answer. */
#include "node/dialect.h"
#include "node/front.h"
#include "test.h"

enum { ROUNDS = 400, TOOLS_MAX = 5, PIECES_MAX = 40, TEXT_MAX = 1 << 16 };

typedef struct { nigh_buf id, name, arguments; } call;
typedef struct {
    nigh_buf text;
    call calls[TOOLS_MAX];
    size_t call_count, finishes;
    char finish[32];
    nigh_usage usage;
} heard;

static void add(nigh_buf *b, nigh_str s) { CHECK(nigh_buf_add(b, s) == NIGH_OK); }

static void begin_heard(heard *h) {
    *h = (heard){ .text = NIGH_BUF(TEXT_MAX) };
    for (size_t i = 0; i < TOOLS_MAX; i++)
        h->calls[i] = (call){ NIGH_BUF(TEXT_MAX), NIGH_BUF(TEXT_MAX), NIGH_BUF(TEXT_MAX) };
}

static void release_heard(heard *h) {
    nigh_buf_release(&h->text);
    for (size_t i = 0; i < TOOLS_MAX; i++) {
        nigh_buf_release(&h->calls[i].id);
        nigh_buf_release(&h->calls[i].name);
        nigh_buf_release(&h->calls[i].arguments);
    }
}

/* ---- what the reader gives ---- */

static void on_begin(void *ud, const char *model, const char *id) { (void)ud; (void)model; (void)id; }
static void on_text(void *ud, nigh_str piece) { add(&((heard *)ud)->text, piece); }
static void on_tool(void *ud, uint32_t i, nigh_str id, nigh_str name, nigh_str arguments) {
    heard *h = ud;
    if (!test_check(i < TOOLS_MAX, "too many calls", __FILE__, __LINE__)) return;
    if (i >= h->call_count) h->call_count = i + 1;
    add(&h->calls[i].id, id);
    add(&h->calls[i].name, name);
    add(&h->calls[i].arguments, arguments);
}
static void on_finish(void *ud, const char *finish, const nigh_usage *usage) {
    heard *h = ud;
    h->finishes++;
    h->usage = *usage;
    snprintf(h->finish, sizeof h->finish, "%s", finish);
}
static void on_receipt(void *ud, nigh_str json) { (void)ud; (void)json; }
static void on_done(void *ud, const nigh_call_result *r) { (void)ud; (void)r; }
static const nigh_upstream_calls calls = { .begin = on_begin, .text = on_text, .tool = on_tool, .finish = on_finish,
    .receipt = on_receipt, .done = on_done };

static void read_back(nigh_front_kind kind, bool stream, nigh_str bytes, heard *h, uint64_t *seed) {
    nigh_dialect_answer d = { .api = kind == NIGH_FRONT_MESSAGES ? NIGH_API_ANTHROPIC : NIGH_API_OPENAI_RESPONSES,
        .calls = &calls, .ud = h, .request_id = "", .stream = stream };
    begin_heard(h);
    for (size_t at = 0; at < bytes.len;) {
        size_t end = nigh_min(at + 1 + test_rand(seed) % 300, bytes.len);
        nigh_dialect_feed(&d, nigh_str_slice(bytes, at, end));
        at = end;
    }
    nigh_call_end ended = nigh_dialect_end(&d);
    CHECK_MSG(ended == NIGH_CALL_OK, "NIGH_SEED=%llu: %s: %.*s", (unsigned long long)test_seed(), d.text,
        (int)nigh_min(bytes.len, 4000), bytes.ptr);
    nigh_dialect_release(&d);
}

/* ---- an answer in the making ---- */

static void make_answer(nigh_answer *a, nigh_front_kind kind) {
    nigh_refusal why = { 0 };
    *a = (nigh_answer){ .out = NIGH_BUF(1 << 24), .model = "m", .model_sha256 = "", .prompt_tokens = 11 };
    nigh_str body = kind == NIGH_FRONT_MESSAGES
        ? NIGH_STR("{\"max_tokens\":5,\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}")
        : NIGH_STR("{\"input\":\"a\"}");
    CHECK(nigh_front_read(a, kind, body, &why) == NIGH_OK);
    nigh_receipt_init(&a->receipt, "m", "", "loopback");
    CHECK(nigh_openai_make_choices(a, 1) == NIGH_OK);
    a->tools = nigh_alloc(sizeof *a->tools, NIGH_TOOL_CALLS_MAX);
    CHECK(a->tools != NULL);
}

static void release_answer(nigh_answer *a) {
    nigh_openai_drop_choices(a);
    nigh_front_free(a->front);
    nigh_request_release(&a->r);
    nigh_buf_release(&a->out);
}

static void keep(nigh_buf *stream, nigh_answer *a, nigh_status made) {
    CHECK(made == NIGH_OK);
    add(stream, nigh_buf_str(&a->out));
}

static void say_text(nigh_answer *a, nigh_buf *stream, uint64_t *seed) {
    static const char *const words[] = { "a", " b\n", "\"", "\xc3\xa9", "\\u", "data: x\n\n" };
    nigh_str word = nigh_str_of(words[test_rand(seed) % NIGH_COUNT(words)]);
    add(&a->choices[0].text, word);
    keep(stream, a, a->spell->text(a, 0, word));
}

/* A piece of the arguments {"k":"aaa"} of any call; a new one comes with its names. */
static void say_tool(nigh_answer *a, nigh_buf *stream, size_t i) {
    char id[16] = "", name[16] = "";
    bool is_new = i >= a->tool_count;
    for (; a->tool_count <= i; a->tool_count++) {
        nigh_tool_call *t = &a->tools[a->tool_count];
        t->id = t->name = t->arguments = NIGH_BUF(TEXT_MAX);
    }
    nigh_tool_call *t = &a->tools[i];
    if (is_new) {
        snprintf(id, sizeof id, "call_%zu", i);
        snprintf(name, sizeof name, "tool_%zu", i);
        add(&t->id, nigh_str_of(id));
        add(&t->name, nigh_str_of(name));
    }
    nigh_str piece = is_new ? NIGH_STR("{\"k\":\"") : NIGH_STR("a");
    add(&t->arguments, piece);
    keep(stream, a, a->spell->tool(a, i, nigh_str_of(id), nigh_str_of(name), piece));
}

static void close_tool(nigh_answer *a, nigh_buf *stream, size_t i) {
    add(&a->tools[i].arguments, NIGH_STR("\"}"));
    keep(stream, a, a->spell->tool(a, i, NIGH_STR(""), NIGH_STR(""), NIGH_STR("\"}")));
}

static void check_heard(const nigh_answer *a, const heard *h, size_t first) {
    CHECK(nigh_str_eq(nigh_buf_str(&h->text), nigh_buf_str(&a->choices[0].text)));
    CHECK(h->call_count == a->tool_count && h->finishes == 1);
    CHECK(strcmp(h->finish, a->choices[0].finish_word) == 0);
    CHECK(h->usage.known && h->usage.prompt_tokens == 11 && h->usage.completion_tokens == 7);
    CHECK(h->usage.cached_tokens == 3);
    for (size_t i = 0; i < h->call_count; i++) {
        const nigh_tool_call *t = &a->tools[i == 0 ? first : i <= first ? i - 1 : i];
        CHECK(nigh_str_eq(nigh_buf_str(&h->calls[i].id), nigh_buf_str(&t->id)));
        CHECK(nigh_str_eq(nigh_buf_str(&h->calls[i].name), nigh_buf_str(&t->name)));
        CHECK_MSG(nigh_str_eq(nigh_buf_str(&h->calls[i].arguments), nigh_buf_str(&t->arguments)), "%.*s, not %.*s",
            (int)h->calls[i].arguments.len, h->calls[i].arguments.ptr, (int)t->arguments.len, t->arguments.ptr);
    }
}

static void one_round(nigh_front_kind kind, uint64_t *seed) {
    nigh_answer a;
    heard h;
    nigh_buf stream = NIGH_BUF(1 << 24);
    make_answer(&a, kind);
    keep(&stream, &a, a.spell->begin(&a, 0));
    size_t tools = test_rand(seed) % (TOOLS_MAX + 1), pieces = test_rand(seed) % PIECES_MAX;
    for (size_t k = 0; k < pieces; k++) {
        size_t i = test_rand(seed) % (tools + 2);
        if (i >= tools) say_text(&a, &stream, seed);
        else say_tool(&a, &stream, nigh_min(i, a.tool_count));
    }
    for (size_t i = a.tool_count; i > 0; i--) close_tool(&a, &stream, i - 1);
    a.choices[0].finish_word = a.tool_count ? "tool_calls" : test_rand(seed) % 2 ? "stop" : "length";
    a.choices[0].token_count = 7;
    a.choices[0].cached = 3;
    size_t first = a.front->tool;
    keep(&stream, &a, a.spell->end(&a));
    read_back(kind, true, nigh_buf_str(&stream), &h, seed);
    check_heard(&a, &h, first);
    release_heard(&h);
    CHECK(a.spell->whole(&a) == NIGH_OK);
    read_back(kind, false, nigh_buf_str(&a.out), &h, seed);
    check_heard(&a, &h, 0);
    release_heard(&h);
    nigh_buf_release(&stream);
    release_answer(&a);
}

static void test_messages(void) {
    uint64_t seed = test_seed();
    size_t live = nigh_alloc_live_bytes();
    for (int i = 0; i < ROUNDS; i++) one_round(NIGH_FRONT_MESSAGES, &seed);
    CHECK(nigh_alloc_live_bytes() == live);
}

static void test_responses(void) {
    uint64_t seed = test_seed();
    size_t live = nigh_alloc_live_bytes();
    for (int i = 0; i < ROUNDS; i++) one_round(NIGH_FRONT_RESPONSES, &seed);
    CHECK(nigh_alloc_live_bytes() == live);
}

TEST_MAIN(T(test_messages), T(test_responses))
