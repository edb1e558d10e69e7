/* cli_chat_template.c - `nigh chat-template FILE`: a JSON request on standard input to the prompt a model would see.
 * FILE is a Jinja source, or a .gguf whose own template is used. Nothing is evaluated; no model is needed. */
#include <stdio.h>

#include "base/os.h"
#include "cli/cli.h"
#include "engine/chat.h"

enum { REQUEST_BYTES_MAX = 64 << 20 };

typedef struct {
    const char *date, *builtin;
    bool json;
    nigh_chat_opts chat;
} options;

static bool digits(const char *text, size_t count, int32_t *out) {
    *out = 0;
    for (size_t i = 0; i < count; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        *out = *out * 10 + (text[i] - '0');
    }
    return true;
}

/* Days since 1970 to a date: eras of 400 years, years that begin in March (Howard Hinnant's algorithm). */
static void set_today(nigh_chat_opts *o) {
    int64_t days = (int64_t)(nigh_os_unix_ms() / 86400000) + 719468, era = days / 146097, left = days % 146097;
    int64_t year = (left - left / 1460 + left / 36524 - left / 146096) / 365;
    int64_t of_year = left - (365 * year + year / 4 - year / 100), month = (5 * of_year + 2) / 153;
    o->day = (int32_t)(of_year - (153 * month + 2) / 5 + 1);
    o->month = (int32_t)(month < 10 ? month + 3 : month - 9);
    o->year = (int32_t)(year + 400 * era + (o->month <= 2));
}

static nigh_status read_options(options *o, int *argc, char **argv, nigh_err *err) {
    const nigh_opt opts[] = { { "date", 0, NIGH_OPT_TEXT, &o->date, 0, 0 },
                              { "builtin", 0, NIGH_OPT_TEXT, &o->builtin, 0, 0 },
                              { "json", 0, NIGH_OPT_FLAG, &o->json, 0, 0 } };
    NIGH_TRY(nigh_opts_read(opts, NIGH_COUNT(opts), argc, argv, err));
    nigh_chat_opts *c = &o->chat;
    set_today(c);
    const char *d = o->date;
    if (!d) return NIGH_OK;
    bool good = strlen(d) == 10 && d[4] == '-' && d[7] == '-' && digits(d, 4, &c->year) &&
                digits(d + 5, 2, &c->month) && digits(d + 8, 2, &c->day) && c->year > 0 && c->month >= 1 &&
                c->month <= 12 && c->day >= 1 && c->day <= 31;
    return good ? NIGH_OK : nigh_failf(err, NIGH_EINVAL, 0, "--date wants a date like 2026-11-21, not '%s'", d);
}

/* The text of the token whose id stands under `key`. */
static nigh_str token_text(const nigh_gguf *g, const char *key) {
    const nigh_gguf_value *tokens;
    nigh_str text = { 0 };
    uint32_t id;
    size_t cursor = 0;
    if (nigh_gguf_u32(g, nigh_str_of(key), &id, NULL) != NIGH_OK) return text;
    if (nigh_gguf_array(g, NIGH_STR("tokenizer.ggml.tokens"), NIGH_GGUF_STRING, &tokens, NULL) != NIGH_OK) return text;
    for (uint64_t i = 0; i <= id; i++) if (!nigh_gguf_next_string(tokens, &cursor, &text)) return (nigh_str){ 0 };
    return text;
}

static nigh_status print_json(const nigh_chat *c, nigh_str prompt, const nigh_spans *spans, nigh_err *err) {
    nigh_buf b = NIGH_BUF(SIZE_MAX / 2);
    nigh_chat_takes t = nigh_chat_about(c);
    nigh_status status = nigh_buf_add(&b, NIGH_STR("{\"prompt\":"));
    if (status == NIGH_OK) status = nigh_json_add_string(&b, prompt);
    if (status == NIGH_OK) status = nigh_buf_add(&b, NIGH_STR(",\"spans\":["));
    for (size_t i = 0; i < spans->count && status == NIGH_OK; i++)
        status = nigh_buf_addf(&b, "%s{\"end\":%zu,\"user\":%s}", i ? "," : "", spans->ptr[i].end,
                               spans->ptr[i].user ? "true" : "false");
    if (status == NIGH_OK)
        status = nigh_buf_addf(&b,
            "],\"template\":\"%s\",\"takes\":{\"system\":%s,\"text\":%s,\"parts\":%s,\"tools\":%s,"
            "\"object_arguments\":%s,\"thinking\":%s}}\n",
            nigh_chat_kind_name(nigh_chat_kind_of(c)).ptr, t.system ? "true" : "false", t.text ? "true" : "false",
            t.parts ? "true" : "false", t.tools ? "true" : "false", t.object_arguments ? "true" : "false",
            t.thinking ? "true" : "false");
    if (status == NIGH_OK) fwrite(b.ptr, 1, b.len, stdout);
    else nigh_fail(err, status, 0, "not enough memory for the answer");
    nigh_buf_release(&b);
    return status;
}

static nigh_status show_prompt(const nigh_chat *c, const options *o, nigh_err *err) {
    nigh_buf prompt = NIGH_BUF(NIGH_TEMPLATE_OUTPUT_MAX);
    nigh_json_doc doc = { 0 };
    nigh_spans spans = { 0 };
    nigh_status status = nigh_cli_read_json(&doc, "-", REQUEST_BYTES_MAX, err);
    if (status == NIGH_OK) status = nigh_chat_render(c, doc.root, o->chat, &prompt, &spans, err);
    if (status == NIGH_OK && o->json) status = print_json(c, nigh_buf_str(&prompt), &spans, err);
    else if (status == NIGH_OK) fwrite(prompt.ptr, 1, prompt.len, stdout);
    nigh_spans_release(&spans);
    nigh_json_release(&doc);
    nigh_buf_release(&prompt);
    return status;
}

static nigh_status use_template(nigh_chat_kind kind, nigh_str source, const options *o, nigh_err *err) {
    nigh_chat *c;
    NIGH_TRY(nigh_chat_open(&c, kind, source, err));
    nigh_status status = show_prompt(c, o, err);
    nigh_chat_close(c);
    return status;
}

static nigh_status use_gguf(nigh_str file, const char *path, options *o, nigh_err *err) {
    nigh_gguf g;
    nigh_str source;
    NIGH_TRY(nigh_gguf_parse(&g, file, err));
    nigh_status status = nigh_gguf_string(&g, NIGH_STR("tokenizer.chat_template"), &source, NULL);
    if (status == NIGH_OK) {
        o->chat.bos_token = token_text(&g, "tokenizer.ggml.bos_token_id");
        o->chat.eos_token = token_text(&g, "tokenizer.ggml.eos_token_id");
        status = use_template(NIGH_CHAT_OWN, source, o, err);
    } else
        status = nigh_failf(err, NIGH_ENOENT, 0,
            "%s has no chat template; --builtin plain or --builtin chatml uses one of ours", path);
    nigh_gguf_release(&g);
    return status;
}

static nigh_status run(int argc, char **argv, nigh_err *err) {
    options o = { .chat = { .bos_token = NIGH_STR("<s>"), .eos_token = NIGH_STR("</s>"),
                              .trust_request_tokens = true, .drop_bos = true } };
    nigh_file file = { 0 };
    NIGH_TRY(read_options(&o, &argc, argv, err));
    if (o.builtin) {
        nigh_chat_kind kind = strcmp(o.builtin, "plain") == 0 ? NIGH_CHAT_PLAIN : NIGH_CHAT_CHATML;
        if (argc) return nigh_fail(err, NIGH_EINVAL, 0, "give either a file or --builtin");
        if (kind == NIGH_CHAT_CHATML && strcmp(o.builtin, "chatml") != 0)
            return nigh_failf(err, NIGH_EINVAL, 0, "--builtin wants plain or chatml, not '%s'", o.builtin);
        return use_template(kind, (nigh_str){ 0 }, &o, err);
    }
    if (argc != 1) return nigh_fail(err, NIGH_EINVAL, 0, "expected one FILE.jinja or FILE.gguf");
    NIGH_TRY(nigh_file_open(&file, argv[0], err));
    bool gguf = nigh_str_starts(file.bytes, NIGH_STR("GGUF"));
    nigh_status status =
        gguf ? use_gguf(file.bytes, argv[0], &o, err) : use_template(NIGH_CHAT_OWN, file.bytes, &o, err);
    nigh_file_close(&file);
    return status;
}

const nigh_command nigh_command_chat_template = {
    "chat-template", "a JSON request with messages to the prompt a model sees",
    "usage: nigh chat-template FILE [--date YYYY-MM-DD] [--json]  < request.json\n"
    "       nigh chat-template --builtin plain|chatml             < request.json\n"
    "\n"
    "Reads a JSON object from standard input and prints the prompt that the template\n"
    "makes of it. FILE is a Jinja template, or a .gguf file whose own template is\n"
    "used.\n"
    "\n"
    "The request: messages (with role and content; tool_calls), tools,\n"
    "add_generation_prompt (true when absent), bos_token, eos_token (for a .jinja\n"
    "file <s> and </s> when absent), chat_template_kwargs.\n"
    "A bos_token at the very start of the prompt is not printed: the tokenizer adds\n"
    "it.\n"
    "\n"
    "  --date D       the day that templates print as today's; else the real one\n"
    "                 (UTC)\n"
    "  --builtin NAME a template of ours: plain (User: and Assistant: lines) or\n"
    "                 chatml\n"
    "  --json         print an object: prompt, spans (bytes up to `end`; user: text\n"
    "                 of the request, which can never become a special token), and\n"
    "                 what the template takes\n"
    "\n"
    "examples:\n"
    "  echo '{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}' \\\n"
    "      | nigh chat-template --builtin chatml\n"
    "  echo '{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}' \\\n"
    "      | nigh chat-template --builtin plain --json\n",
    run
};
