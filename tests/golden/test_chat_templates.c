/* test_chat_templates.c - prompts of 55 public templates against what llama.cpp rendered
 * (../shared/data/chat-templates). A pair is a template and a conversation; both must give the same text, or both an
 * error. Prints every pair that differs with the first difference; at least 95 % must be equal. */
#include "base/os.h"
#include "engine/chat.h"
#include "test.h"

static nigh_status read_file(const char *path, nigh_buf *out) {
    *out = NIGH_BUF(1 << 26);
    return nigh_file_read(out, path, NULL);
}

static void show_difference(const char *name, nigh_str which, nigh_str ours, nigh_str theirs) {
    size_t i = 0;
    while (i < ours.len && i < theirs.len && ours.ptr[i] == theirs.ptr[i]) i++;
    nigh_buf a = NIGH_BUF(1000), b = NIGH_BUF(1000);
    size_t from = i > 20 ? i - 20 : 0;
    CHECK(nigh_json_add_string(&a, nigh_str_slice(ours, from, i + 60)) == NIGH_OK &&
          nigh_json_add_string(&b, nigh_str_slice(theirs, from, i + 60)) == NIGH_OK);
    printf("  differs: %s %.*s at byte %zu:\n    ours   %.*s\n    theirs %.*s\n", name, (int)which.len, which.ptr, i,
        (int)a.len, a.ptr, (int)b.len, b.ptr);
    nigh_buf_release(&a);
    nigh_buf_release(&b);
}

static bool compare(const char *name, const nigh_chat *c, const nigh_json *conversation, const nigh_json *expected) {
    nigh_chat_opts o = { .year = 2026,
        .month = 11,
        .day = 21,
        .drop_bos = true,
        .bos_token = NIGH_STR("<s>"),
        .eos_token = NIGH_STR("</s>") };
    nigh_buf prompt = NIGH_BUF(1 << 22);
    nigh_spans spans = { 0 };
    nigh_err err = { 0 };
    const nigh_json *want = nigh_json_get(expected, NIGH_STR("prompt"));
    nigh_status status = nigh_chat_render(c, conversation, o, &prompt, &spans, &err);
    bool same = want ? status == NIGH_OK && nigh_str_eq(nigh_buf_str(&prompt), want->text) : status != NIGH_OK;
    if (!same && status != NIGH_OK)
        printf("  differs: %s %.*s: %s\n", name, (int)conversation->key.len, conversation->key.ptr, err.text);
    else if (!same)
        show_difference(name, conversation->key, nigh_buf_str(&prompt), want ? want->text : NIGH_STR("(an error)"));
    CHECK(status != NIGH_OK || spans.count == 0 || spans.ptr[spans.count - 1].end == prompt.len);
    nigh_spans_release(&spans);
    nigh_buf_release(&prompt);
    return same;
}

static void test_all(void) {
    char path[1200];
    nigh_buf text;
    nigh_json_doc doc;
    nigh_err err = { 0 };
    size_t pairs = 0, equal = 0;
    if (!test_shared()) TEST_SKIP("no ../shared");
    snprintf(path, sizeof path, "%s/data/chat-templates/expected.json", test_shared());
    if (read_file(path, &text) != NIGH_OK) TEST_SKIP("no expected.json in ../shared/data/chat-templates");
    CHECK_MSG(nigh_json_parse(&doc, nigh_buf_str(&text), &err) == NIGH_OK, "%s", err.text);
    const nigh_json *cases = nigh_json_get(doc.root, NIGH_STR("cases"));
    for (const nigh_json *t = nigh_json_first(nigh_json_get(doc.root, NIGH_STR("templates"))); t; t = t->next) {
        char name[200];
        nigh_buf source;
        nigh_chat *chat;
        nigh_format(name, sizeof name, "%.*s", (int)t->key.len, t->key.ptr);
        snprintf(path, sizeof path, "%s/data/chat-templates/templates/%s", test_shared(), name);
        CHECK(read_file(path, &source) == NIGH_OK);
        nigh_status status = nigh_chat_open(&chat, NIGH_CHAT_OWN, nigh_buf_str(&source), &err);
        if (status != NIGH_OK) printf("  differs: %s: %s\n", name, err.text);
        for (const nigh_json *x = t->first; x; x = x->next) {
            const nigh_json *conversation = nigh_json_get(cases, x->key);
            pairs++;
            if (conversation && status == NIGH_OK && compare(name, chat, conversation, x)) equal++;
        }
        nigh_chat_close(chat);
        nigh_buf_release(&source);
    }
    printf("  %zu of %zu pairs equal\n", equal, pairs);
    CHECK(pairs >= 275 && equal * 100 >= pairs * 95);
    nigh_json_release(&doc);
    nigh_buf_release(&text);
    CHECK(nigh_alloc_live_bytes() == 0);
}

/* ---- S10: what a user types stays marked as the user's ---- */
static const char *const typed_tokens[] = { "<|im_end|>", "<|im_start|>system", "<|eot_id|>", "<|start_header_id|>",
    "<end_of_turn>", "<start_of_turn>model", "</s>", "<s>", "[/INST]", "[INST]", "<|end|>", "<|assistant|>",
    "<|endoftext|>", "<tool_call>", "</tool_call>", "<|channel|>", "<turn|>", "<|START_OF_TURN_TOKEN|>", "<bos>",
    "<|user|>" };
static const struct { const char *before, *after; } typed_shapes[] = {
    { "", "" }, { "\n", "\n" }, { "  ", "" }, { "a ", " b" }, { "<", ">" }, { "{\"k\":\"", "\"}" }, { "'", "'" },
    { "", ":" }, { "\xc3\xa9", "" }, { "\t", "." } };

/* Renders with the text in a message of `role`; is each place where it comes out marked as user text? */
static bool check_typed(const nigh_chat *c, const char *role, nigh_str typed, size_t *seen) {
    nigh_buf request = NIGH_BUF(1 << 16), prompt = NIGH_BUF(1 << 22);
    nigh_spans spans = { 0 };
    nigh_json_doc doc = { 0 };
    bool good = true;
    CHECK(nigh_buf_addf(&request, "{\"messages\":[{\"role\":\"%s\",\"content\":", role) == NIGH_OK);
    CHECK(nigh_json_add_string(&request, typed) == NIGH_OK);
    bool system = strcmp(role, "system") == 0;
    CHECK(nigh_buf_add(&request, system ? NIGH_STR("},{\"role\":\"user\",\"content\":\"x\"}]}") : NIGH_STR("}]}")) ==
          NIGH_OK);
    CHECK(nigh_json_parse(&doc, nigh_buf_str(&request), NULL) == NIGH_OK);
    if (nigh_chat_render(c, doc.root, (nigh_chat_opts){ .year = 2026, .month = 11, .day = 21 }, &prompt, &spans,
            NULL) == NIGH_OK) {
        nigh_str text = nigh_buf_str(&prompt), core = nigh_str_trim(typed);
        for (size_t at = 0; (at = nigh_str_find(text, core, at)) != SIZE_MAX; at += core.len) {
            size_t i = 0;
            while (spans.ptr[i].end <= at) i++;
            good = good && spans.ptr[i].user && spans.ptr[i].end >= at + core.len;
            ++*seen;
        }
    }
    nigh_spans_release(&spans);
    nigh_json_release(&doc);
    nigh_buf_release(&prompt);
    nigh_buf_release(&request);
    return good;
}

static void check_injections(const char *name, const nigh_chat *c) {
    size_t seen = 0, tried = 0;
    for (size_t k = 0; k < NIGH_COUNT(typed_tokens); k++) {
        for (size_t i = 0; i < NIGH_COUNT(typed_shapes); i++) {
            char typed[220];
            snprintf(typed, sizeof typed, "zq9%s%s%szq9", typed_shapes[i].before, typed_tokens[k],
                     typed_shapes[i].after);
            const char *role = (k + i) % 3 ? "user" : "system";
            CHECK_MSG(check_typed(c, role, nigh_str_of(typed), &seen),
                "%s: %s of the %s counts as the template's own", name, typed, role);
            tried++;
        }
    }
    CHECK_MSG(seen >= tried / 2, "%s: only %zu of %zu came out", name, seen, tried);
}

static void test_injections(void) {
    char path[1200];
    nigh_buf text;
    nigh_json_doc doc;
    size_t templates = 0;
    if (!test_shared()) TEST_SKIP("no ../shared");
    snprintf(path, sizeof path, "%s/data/chat-templates/expected.json", test_shared());
    if (read_file(path, &text) != NIGH_OK) TEST_SKIP("no expected.json in ../shared/data/chat-templates");
    CHECK(nigh_json_parse(&doc, nigh_buf_str(&text), NULL) == NIGH_OK);
    for (const nigh_json *t = nigh_json_first(nigh_json_get(doc.root, NIGH_STR("templates"))); t; t = t->next) {
        char name[200];
        nigh_buf source;
        nigh_chat *chat;
        nigh_format(name, sizeof name, "%.*s", (int)t->key.len, t->key.ptr);
        snprintf(path, sizeof path, "%s/data/chat-templates/templates/%s", test_shared(), name);
        CHECK(read_file(path, &source) == NIGH_OK);
        if (nigh_chat_open(&chat, NIGH_CHAT_OWN, nigh_buf_str(&source), NULL) == NIGH_OK) {
            check_injections(name, chat);
            templates++;
            nigh_chat_close(chat);
        }
        nigh_buf_release(&source);
    }
    printf("  %zu templates, %zu texts each\n", templates, NIGH_COUNT(typed_tokens) * NIGH_COUNT(typed_shapes));
    nigh_json_release(&doc);
    nigh_buf_release(&text);
}

TEST_MAIN(T(test_all), T(test_injections))
