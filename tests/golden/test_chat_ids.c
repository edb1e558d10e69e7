/* test_chat_ids.c - a conversation through the template and the tokenizer of every reference model that has one: the
 * text and the ids equal llama.cpp's (`chat` in ../shared/golden/logits). Then the same conversation with every
 * control token of the vocabulary typed by the user: no control token may come of it (S10). */
#include "engine/chat.h"
#include "engine/gguf.h"
#include "model_files.h"

typedef struct { nigh_file file; nigh_gguf gguf; nigh_tokenizer *tokenizer; nigh_chat *chat; } model;

static bool open_model(model *m, const char *name) {
    char path[1024];
    nigh_str source = { 0 };
    nigh_err err = { 0 };
    *m = (model){ 0 };
    if (!model_file_path(name, path, sizeof path) || nigh_file_open(&m->file, path, &err) != NIGH_OK) return false;
    nigh_status status = nigh_gguf_parse(&m->gguf, m->file.bytes, &err);
    if (status == NIGH_OK) status = nigh_gguf_string(&m->gguf, NIGH_STR("tokenizer.chat_template"), &source, &err);
    if (status == NIGH_OK) status = nigh_tokenizer_open(&m->tokenizer, &m->gguf, &err);
    if (status == NIGH_OK) status = nigh_chat_open(&m->chat, NIGH_CHAT_OWN, source, &err);
    CHECK_MSG(status == NIGH_OK, "%s: %s", name, err.text);
    return status == NIGH_OK;
}

static void close_model(model *m) {
    nigh_chat_close(m->chat);
    nigh_tokenizer_close(m->tokenizer);
    nigh_gguf_release(&m->gguf);
    nigh_file_close(&m->file);
}

/* Renders and encodes a request; the caller releases both. */
static bool encode(const model *m, nigh_str request, bool add_special, nigh_buf *prompt, nigh_ids *ids) {
    nigh_json_doc doc;
    nigh_spans spans = { 0 };
    nigh_err err = { 0 };
    const nigh_tokenizer *t = m->tokenizer;
    nigh_chat_opts o = { .bos_token = nigh_tokenizer_text(t, nigh_tokenizer_bos(t)),
                         .eos_token = nigh_tokenizer_text(t, nigh_tokenizer_eos(t)), .drop_bos = true };
    nigh_status status = nigh_json_parse(&doc, request, &err);
    if (status == NIGH_OK) status = nigh_chat_render(m->chat, doc.root, o, prompt, &spans, &err);
    if (status == NIGH_OK) status = nigh_chat_encode(t, nigh_buf_str(prompt), &spans, add_special, ids, &err);
    CHECK_MSG(status == NIGH_OK, "%s", err.text);
    nigh_spans_release(&spans);
    nigh_json_release(&doc);
    return status == NIGH_OK;
}

static void add(nigh_buf *b, nigh_str s) { CHECK(nigh_buf_add(b, s) == NIGH_OK); }

/* [[role, content], ...] to a request. */
static void make_request(const nigh_json *messages, nigh_buf *out) {
    add(out, NIGH_STR("{\"messages\":["));
    for (const nigh_json *m = nigh_json_first(messages); m; m = m->next) {
        if (m != messages->first) add(out, NIGH_STR(","));
        add(out, NIGH_STR("{\"role\":"));
        CHECK(nigh_json_add_string(out, m->first->text) == NIGH_OK);
        add(out, NIGH_STR(",\"content\":"));
        CHECK(nigh_json_add_string(out, m->first->next->text) == NIGH_OK);
        add(out, NIGH_STR("}"));
    }
    add(out, NIGH_STR("]}"));
}

static void check_chat(const char *name, const model *m, const nigh_json *chat) {
    nigh_buf request = NIGH_BUF(1 << 20), prompt = NIGH_BUF(1 << 20);
    nigh_ids ids = NIGH_IDS(100000);
    size_t count, same = 0;
    int32_t *want = json_ids(json_get(chat, "ids"), &count);
    nigh_str text = json_get(chat, "text")->text;
    make_request(json_get(chat, "messages"), &request);
    if (encode(m, nigh_buf_str(&request), false, &prompt, &ids)) {
        CHECK_MSG(nigh_str_eq(nigh_buf_str(&prompt), text), "%s\n    ours   %.*s\n    theirs %.*s", name,
            (int)prompt.len, prompt.ptr, (int)text.len, text.ptr);
        while (same < count && same < ids.len && ids.ptr[same] == want[same]) same++;
        CHECK_MSG(same == count && ids.len == count, "%s: id %zu of %zu differs: %d, not %d", name, same, count,
            same < ids.len ? ids.ptr[same] : -1, same < count ? want[same] : -1);
    }
    nigh_free(want);
    nigh_ids_release(&ids);
    nigh_buf_release(&prompt);
    nigh_buf_release(&request);
}

static size_t count_control(const model *m, const nigh_ids *ids) {
    size_t n = 0;
    for (size_t i = 0; i < ids->len; i++) n += nigh_tokenizer_is_control(m->tokenizer, ids->ptr[i]);
    return n;
}

/* A user types all control tokens: as many control ids come out as for a harmless text. */
static void check_injection(const char *name, const model *m) {
    nigh_buf request = NIGH_BUF(1 << 22), typed = NIGH_BUF(1 << 20), prompt = NIGH_BUF(1 << 22);
    nigh_ids harmless = NIGH_IDS(1 << 20), hostile = NIGH_IDS(1 << 20);
    size_t tokens = 0;
    for (size_t i = 0; i < nigh_tokenizer_count(m->tokenizer) && tokens < 500; i++) {
        if (!nigh_tokenizer_is_control(m->tokenizer, (int32_t)i)) continue;
        add(&typed, nigh_tokenizer_text(m->tokenizer, (int32_t)i));
        tokens++;
    }
    if (encode(m, NIGH_STR("{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}"), true, &prompt, &harmless)) {
        add(&request, NIGH_STR("{\"messages\":[{\"role\":\"user\",\"content\":"));
        CHECK(nigh_json_add_string(&request, nigh_buf_str(&typed)) == NIGH_OK);
        add(&request, NIGH_STR("}]}"));
        prompt.len = 0;
        bool done = encode(m, nigh_buf_str(&request), true, &prompt, &hostile);
        CHECK_MSG(done && tokens > 0 && count_control(m, &hostile) == count_control(m, &harmless),
            "%s: %zu control ids, not %zu", name, count_control(m, &hostile), count_control(m, &harmless));
    }
    nigh_ids_release(&harmless);
    nigh_ids_release(&hostile);
    nigh_buf_release(&prompt);
    nigh_buf_release(&typed);
    nigh_buf_release(&request);
}

static void run_all(bool injection) {
    nigh_json_doc list, doc;
    nigh_buf list_text, text;
    size_t models = 0;
    if (!golden_read("models.json", &list, &list_text)) TEST_SKIP("no reference models in ../shared/golden");
    for (const nigh_json *row = nigh_json_first(list.root); row; row = row->next) {
        char file[128], golden[128];
        model m;
        nigh_format(file, sizeof file, "%.*s", (int)json_get(row, "file")->text.len, json_get(row, "file")->text.ptr);
        nigh_format(
            golden, sizeof golden, "%.*s", (int)json_get(row, "golden")->text.len, json_get(row, "golden")->text.ptr);
        if (!golden_read(golden, &doc, &text)) continue;
        const nigh_json *chat = json_get(doc.root, "chat");
        if (chat && chat->type == NIGH_JSON_OBJECT && model_file_path(file, (char[1024]){ 0 }, 1024)) {
            models++;
            bool opened = open_model(&m, file);
            if (opened && injection) check_injection(file, &m);
            else if (opened) check_chat(file, &m, chat);
            close_model(&m);
        }
        nigh_json_release(&doc);
        nigh_buf_release(&text);
    }
    printf("  %zu models with a template\n", models);
    nigh_json_release(&list);
    nigh_buf_release(&list_text);
    CHECK(nigh_alloc_live_bytes() == 0);
    if (!models) TEST_SKIP("the reference models are not made (make golden-models)");
}

static void test_golden(void) { run_all(false); }
static void test_injection(void) { run_all(true); }

TEST_MAIN(T(test_golden), T(test_injection))
