/* cli_run.c - `nigh run`: a prompt in, a continuation out, streamed; on a terminal without a prompt, one after another.
 *
 *     words and stdin -> run_opts -> ids -> session (the prompt in batches) -> one generation -> stdout
 *
 * A conversation is the same walk once for each line: the session keeps what the prompts have in common.
 * Text goes to stdout as soon as it is whole letters; everything else goes to stderr. What a model says is
 * outside data: to a terminal it goes without control characters, which could move the cursor, change
 * the title or answer questions in the user's name. */
#include <stdio.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/cli.h"
#include "cli/cli_chat.h"
#include "cli/cli_draft.h"
#include "cli/cli_model.h"
#include "engine/speculate.h"

static const char help[] =
    "usage: nigh run MODEL [-p TEXT] [OPTIONS]\n"
    "\n"
    "Continues a text on this device. MODEL is a .gguf file or the name of a shipped\n"
    "model. Without -p the text is read from standard input (one line feed at its end\n"
    "is dropped); where that is a terminal, each line is answered, as a conversation\n"
    "if the model has a chat template.\n"
    "\n"
    "  -p, --prompt TEXT         the text to continue; \"\" begins with nothing\n"
    "  -n, --tokens N            most tokens to make; without it until the model ends\n"
    "                            or the context is full\n"
    "      --temp T              0 (default): always the most likely token; 0.7:\n"
    "                            livelier; up to 100\n"
    "      --seed S              the same seed gives the same text, on every machine;\n"
    "                            without it a new one is drawn\n"
    "      --top-k N             draw from the N most likely tokens only\n"
    "      --top-p P             draw from the most likely tokens that together have\n"
    "                            the share P (0..1)\n"
    "      --min-p P             drop tokens less likely than P times the most likely\n"
    "                            one (0..1)\n"
    "      --repeat-penalty R    1.1 makes tokens of the last 64 less likely\n"
    "      --frequency-penalty F, --presence-penalty F    as in the OpenAI API, -2..2\n"
    "      --stop TEXT           end before this text; may stand up to 16 times\n"
    "      --ignore-end          go on after the model's end token\n"
    "      --chat                the text is a message to a chat model, in the form\n"
    "                            of the model's template\n"
    "      --system TEXT         with it, and in a conversation: the message that\n"
    "                            goes before\n"
    "      --special             <names> of control tokens in the prompt are those\n"
    "                            tokens, not text\n"
    "  -c, --context N           tokens of prompt and answer together; default the\n"
    "                            model's own, at most 4096\n"
    "      --cache TYPE          " NIGH_CLI_CACHE_HELP
    "  -t, --threads N           default: one a core\n"
    "      --draft MODEL         a small model of the same vocabulary guesses ahead;\n"
    "                            none: nothing guesses\n"
    "      --no-speculation      the same as --draft none. Otherwise repetitions are\n"
    "                            guessed from the text and checked many at once:\n"
    "                            faster where it repeats, and the same text to the\n"
    "                            byte\n"
    "      --json                one JSON object at the end instead of the text\n"
    "  -q, --quiet               nothing on stderr but errors\n"
    "\n"
    "Ctrl-C ends the text where it is (exit code 7); a second one ends the program at\n"
    "once.\n"
    "\n"
    "examples:\n"
    "  nigh run MODEL.gguf -p \"Once upon a time\" -n 100\n"
    "  nigh run MODEL.gguf -p \"The king\" -n 40 --temp 0.8 --top-p 0.95 --seed 7\n"
    "  echo \"One day\" | nigh run MODEL.gguf -n 20 --stop \".\" --json\n";

typedef struct {
    const char *prompt, *system, *draft, *cache;
    int64_t tokens, seed, threads, context, top_k;
    double temp, top_p, min_p, repeat, frequency, presence;
    nigh_opt_list stop;
    bool ignore_end, special, chat, json, quiet, alone;
} run_opts;

typedef struct {
    run_opts o;
    nigh_cli_model m;
    nigh_cli_chat chat;
    nigh_ids ids;               /* the prompt */
    nigh_cli_draft draft;
    nigh_writer *writer;
    nigh_generation *gen;
    nigh_finish finish;
    nigh_buf text;              /* of the answer, where it is needed as a whole */
    uint64_t begun_ns;          /* when the command, or this line of a conversation, began */
    uint64_t prompt_ns, answer_ns, first_ns;    /* first_ns: from the begin to the first token */
    uint32_t kept,
        evaluated; /* tokens of the prompt that the session had; of the answer that went through the model */
    bool terminal, talk;
} run_state;

static nigh_status read_opts(run_opts *o, int *argc, char **argv, nigh_err *err) {
    *o = (run_opts){ .seed = -1, .repeat = 1 };
    const nigh_opt opts[] = { { "prompt", 'p', NIGH_OPT_TEXT, &o->prompt, 0, 0 },
                              { "tokens", 'n', NIGH_OPT_INT, &o->tokens, 1, UINT32_MAX },
                              { "temp", 0, NIGH_OPT_FLOAT, &o->temp, 0, 0 },
                              { "seed", 0, NIGH_OPT_INT, &o->seed, 0, INT64_MAX },
                              { "top-k", 0, NIGH_OPT_INT, &o->top_k, 0, INT32_MAX },
                              { "top-p", 0, NIGH_OPT_FLOAT, &o->top_p, 0, 0 },
                              { "min-p", 0, NIGH_OPT_FLOAT, &o->min_p, 0, 0 },
                              { "repeat-penalty", 0, NIGH_OPT_FLOAT, &o->repeat, 0, 0 },
                              { "frequency-penalty", 0, NIGH_OPT_FLOAT, &o->frequency, 0, 0 },
                              { "presence-penalty", 0, NIGH_OPT_FLOAT, &o->presence, 0, 0 },
                              { "stop", 0, NIGH_OPT_LIST, &o->stop, 0, 0 },
                              { "ignore-end", 0, NIGH_OPT_FLAG, &o->ignore_end, 0, 0 },
                              { "chat", 0, NIGH_OPT_FLAG, &o->chat, 0, 0 },
                              { "system", 0, NIGH_OPT_TEXT, &o->system, 0, 0 },
                              { "special", 0, NIGH_OPT_FLAG, &o->special, 0, 0 },
                              { "context", 'c', NIGH_OPT_INT, &o->context, 1, UINT32_MAX },
                              { "cache", 0, NIGH_OPT_TEXT, &o->cache, 0, 0 },
                              { "threads", 't', NIGH_OPT_INT, &o->threads, 1, 256 },
                              { "draft", 0, NIGH_OPT_TEXT, &o->draft, 0, 0 },
                              { "no-speculation", 0, NIGH_OPT_FLAG, &o->alone, 0, 0 },
                              { "json", 0, NIGH_OPT_FLAG, &o->json, 0, 0 },
                              { "quiet", 'q', NIGH_OPT_FLAG, &o->quiet, 0, 0 } };
    NIGH_TRY(nigh_opts_read(opts, NIGH_COUNT(opts), argc, argv, err));
    return nigh_cli_one_model(*argc, argv, err);
}

/* A seed that JSON numbers hold exactly. */
static nigh_status draw_seed(run_opts *o, nigh_err *err) {
    uint64_t random;
    if (o->seed >= 0 || o->temp <= 0) return NIGH_OK;
    if (!nigh_os_random(&random, sizeof random))
        return nigh_fail(err, NIGH_EIO, 0, "the system gives no random numbers; say --seed");
    o->seed = (int64_t)(random >> 11);
    return NIGH_OK;
}

/* ---- text out ---- */

/* Length of the control character at p (C0 but tab and line feed, DEL, C1), else 0. */
static size_t control_bytes(const char *p, size_t left) {
    uint8_t c = (uint8_t)p[0];
    if (c == 0xc2 && left > 1 && (uint8_t)p[1] >= 0x80 && (uint8_t)p[1] < 0xa0) return 2;
    return (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f;
}

static void put_for_terminal(nigh_str text) {
    for (size_t i = 0; i < text.len;) {
        size_t control = control_bytes(text.ptr + i, text.len - i);
        if (control == 0) putchar(text.ptr[i]);
        i += control ? control : 1;
    }
}

static nigh_status put_text(run_state *r, nigh_str text, nigh_err *err) {
    if (text.len == 0) return NIGH_OK;
    if (r->o.json || r->talk) {
        nigh_status status = nigh_buf_add(&r->text, text);
        if (status != NIGH_OK) return nigh_fail(err, status, 0, "the answer is too long");
    }
    if (r->o.json) return NIGH_OK;
    if (r->terminal) put_for_terminal(text);
    else fwrite(text.ptr, 1, text.len, stdout);
    if (fflush(stdout) != 0) return nigh_fail(err, NIGH_EIO, 0, "standard output cannot be written");
    return NIGH_OK;
}

/* ---- prompt in ---- */

static nigh_status read_prompt(run_state *r, nigh_buf *text, nigh_err *err) {
    if (r->o.prompt) {
        nigh_status status = nigh_buf_add(text, nigh_str_of(r->o.prompt));
        return status == NIGH_OK ? status : nigh_fail(err, status, 0, "the prompt is too long");
    }
    NIGH_TRY(nigh_file_read(text, "-", err));
    if (text->len && text->ptr[text->len - 1] == '\n') text->len--;
    return NIGH_OK;
}

/* The ids of a text: as it is, or as the next message of a chat. */
static nigh_status make_ids(run_state *r, nigh_str text, nigh_err *err) {
    uint32_t limit = nigh_session_limit(r->m.session);
    r->ids.len = 0;
    if (r->chat.chat) {
        NIGH_TRY(nigh_cli_chat_add(&r->chat, "user", text, err));
        NIGH_TRY(nigh_cli_chat_ids(&r->chat, &r->m, &r->ids, err));
    } else NIGH_TRY(nigh_cli_encode(&r->m, text, r->o.special, &r->ids, err));
    if (r->ids.len == 0)
        return nigh_fail(err, NIGH_EINVAL, 0,
                         "the prompt is empty, and this model has no token to begin with; give it some text");
    if (r->ids.len > limit)
        return nigh_failf(
            err, NIGH_ERANGE, 0,
            "the prompt has %zu tokens, but the context has room for %u; shorten it, or give more with -c (up to %u)",
            r->ids.len, limit, r->m.about->context_tokens);
    return NIGH_OK;
}

/* ---- the answer ---- */

static nigh_status begin_generation(run_state *r, nigh_err *err) {
    nigh_str stop[NIGH_OPT_LIST_MAX];
    const run_opts *o = &r->o;
    for (size_t i = 0; i < o->stop.count; i++) stop[i] = nigh_str_of(o->stop.item[i]);
    nigh_generate_opts g = { .sampler = { .temperature = (float)o->temp,
                                          .top_k = (uint32_t)o->top_k,
                                          .top_p = (float)o->top_p,
                                          .min_p = (float)o->min_p,
                                          .repeat_penalty = (float)o->repeat,
                                          .frequency_penalty = (float)o->frequency,
                                          .presence_penalty = (float)o->presence,
                                          .seed = (uint64_t)o->seed },
                             .max_tokens = (uint32_t)o->tokens,
                             .stop = stop,
                             .stop_count = o->stop.count,
                             .ignore_end = o->ignore_end };
    return nigh_generation_new(&r->gen, r->m.tokenizer, g, r->ids.ptr, r->ids.len, err);
}

static void cancel(void *runner) { nigh_runner_cancel(runner); }

static nigh_status end_generation(run_state *r, nigh_finish why, nigh_err *err) {
    nigh_step step;
    nigh_status status = nigh_generation_end(r->gen, why, &step);
    if (status != NIGH_OK) return nigh_fail(err, status, 0, nigh_status_text(status));
    r->finish = step.finish;
    return put_text(r, step.text, err);
}

/* Token after token until the generation ends, the context is full or the user stops it. */
static nigh_status answer(run_state *r, nigh_err *err) {
    nigh_step step;
    nigh_writer_start(r->writer, r->ids.ptr, r->ids.len);
    for (;; r->evaluated++) {
        if (nigh_cli_stopped()) return end_generation(r, NIGH_FINISH_CANCEL, err);
        nigh_status status = nigh_writer_step(r->writer, r->gen, &step, err);
        if (status == NIGH_ECANCEL) return end_generation(r, NIGH_FINISH_CANCEL, err);
        if (status != NIGH_OK) return status;
        if (r->first_ns == 0) r->first_ns = nigh_os_now_ns() - r->begun_ns;
        r->finish = step.finish;
        NIGH_TRY(put_text(r, step.text, err));
        if (step.finish != NIGH_FINISH_NONE) return NIGH_OK;
        if (nigh_writer_full(r->writer)) return end_generation(r, NIGH_FINISH_LENGTH, err);
    }
}

static nigh_status evaluate_prompt(run_state *r, nigh_err *err) {
    uint32_t count = (uint32_t)r->ids.len;
    r->kept = nigh_session_reuse(r->m.session, r->ids.ptr, count);
    float *logits = nigh_writer_logits(r->writer);
    nigh_status status = nigh_runner_prompt(r->m.runner, r->m.session, r->ids.ptr, count, logits, err);
    /* A Ctrl-C that came too late for the last answer is not meant for this one. */
    if (status == NIGH_ECANCEL && !nigh_cli_stopped())
        status = nigh_runner_prompt(r->m.runner, r->m.session, r->ids.ptr, count, logits, err);
    return status;
}

static nigh_status generate(run_state *r, nigh_err *err) {
    uint64_t begin = nigh_os_now_ns();
    r->first_ns = r->answer_ns = r->evaluated = 0;
    r->text.len = 0;
    nigh_status status = evaluate_prompt(r, err);
    r->prompt_ns = nigh_os_now_ns() - begin;
    if (status == NIGH_ECANCEL) return end_generation(r, NIGH_FINISH_CANCEL, err);
    if (status != NIGH_OK) return status;
    begin = nigh_os_now_ns();
    status = answer(r, err);
    r->answer_ns = nigh_os_now_ns() - begin;
    return status;
}

/* ---- what is said at the end ---- */

static double rate(uint64_t count, uint64_t ns) { return ns ? (double)count * 1e9 / (double)ns : 0; }
static double elapsed_ms(const run_state *r) { return (double)(nigh_os_now_ns() - r->begun_ns) / 1e6; }
static double prompt_rate(const run_state *r) { return rate(r->ids.len - r->kept, r->prompt_ns); }

static void say_status(run_state *r) {
    double ms = elapsed_ms(r);      /* without the wait for the hash of a large file */
    if (r->o.quiet) return;
    fprintf(stderr, "on this device \u00b7 model %.12s \u00b7 0 bytes sent \u00b7 prompt %zu tokens at %.1f tok/s",
            nigh_cli_model_hash(&r->m), r->ids.len - r->kept, prompt_rate(r));
    if (r->kept) fprintf(stderr, " (%u kept)", (unsigned)r->kept);
    unsigned count = nigh_generation_count(r->gen);
    fprintf(stderr, " \u00b7 %u token%s", count, count == 1 ? "" : "s");
    if (r->evaluated) fprintf(stderr, " at %.1f tok/s", rate(r->evaluated, r->answer_ns));
    const nigh_speculation *sp = nigh_writer_about(r->writer);
    if (sp->accepted) fprintf(stderr, " (%llu of %llu guesses right)", (unsigned long long)sp->accepted,
                              (unsigned long long)sp->drafted);
    fprintf(stderr, " \u00b7 %.0f ms", ms);
    if (r->o.seed >= 0 && r->o.temp > 0) fprintf(stderr, " \u00b7 seed %lld", (long long)r->o.seed);
    fputc('\n', stderr);
}

static nigh_status say_json(run_state *r, nigh_err *err) {
    static const char *const reasons[] = { "none", "stop", "length", "cancel" };
    double ms = elapsed_ms(r);
    const nigh_speculation *sp = nigh_writer_about(r->writer);
    nigh_buf b = NIGH_BUF((size_t)NIGH_CLI_TEXT_MAX * 7);
    nigh_status status = nigh_buf_add(&b, NIGH_STR("{\"text\":"));
    if (status == NIGH_OK) status = nigh_json_add_string(&b, nigh_buf_str(&r->text));
    if (status == NIGH_OK) status = nigh_buf_addf(&b, ",\"finish_reason\":\"%s\"", reasons[r->finish]);
    if (status == NIGH_OK && r->o.temp > 0) status = nigh_buf_addf(&b, ",\"seed\":%lld", (long long)r->o.seed);
    if (status == NIGH_OK)
        status = nigh_buf_addf(&b, ",\"usage\":{\"prompt_tokens\":%zu,\"completion_tokens\":%u}", r->ids.len,
                               (unsigned)nigh_generation_count(r->gen));
    if (status == NIGH_OK)
        status = nigh_buf_addf(
            &b, ",\"timings\":{\"load_ms\":%.1f,\"first_token_ms\":%.1f,\"prompt_tps\":%.1f,\"decode_tps\":%.1f,"
                "\"drafted_tokens\":%llu,\"accepted_tokens\":%llu}",
            (double)r->m.load_ns / 1e6, (double)r->first_ns / 1e6, prompt_rate(r), rate(r->evaluated, r->answer_ns),
            (unsigned long long)sp->drafted, (unsigned long long)sp->accepted);
    if (status == NIGH_OK)
        status =
            nigh_buf_addf(&b, ",\"receipt\":{\"place\":\"device\",\"model\":\"%s\",\"bytes_out\":0,\"ms\":%.0f}}\n",
                          nigh_cli_model_hash(&r->m), ms);
    if (status == NIGH_OK) fwrite(b.ptr, 1, b.len, stdout);
    else nigh_fail(err, status, 0, "the answer is too long for one JSON object");
    nigh_buf_release(&b);
    return status;
}

/* ---- one answer, or one for each line ---- */

/* From the ids of a prompt to the end of its answer, with what is said after it. */
static nigh_status one_answer(run_state *r, nigh_err *err) {
    nigh_generation_free(r->gen);
    r->gen = NULL;
    NIGH_TRY(begin_generation(r, err));
    nigh_cli_catch_signals();
    nigh_cli_on_stop(cancel, r->m.runner);
    nigh_status status = generate(r, err);
    nigh_cli_on_stop(NULL, NULL);
    if (!r->o.json) putchar('\n');
    if (status != NIGH_OK) return status;
    if (fflush(stdout) != 0) return nigh_fail(err, NIGH_EIO, 0, "standard output cannot be written");
    if (r->o.json) NIGH_TRY(say_json(r, err));
    say_status(r);
    return NIGH_OK;
}

static nigh_status answer_prompt(run_state *r, nigh_err *err) {
    nigh_buf text = NIGH_BUF(NIGH_CLI_TEXT_MAX);
    nigh_status status = read_prompt(r, &text, err);
    if (status == NIGH_OK) status = make_ids(r, nigh_buf_str(&text), err);
    nigh_buf_release(&text);
    if (status == NIGH_OK) status = one_answer(r, err);
    if (status != NIGH_OK || r->finish != NIGH_FINISH_CANCEL) return status;
    return nigh_fail(err, NIGH_ECANCEL, 0, "stopped; the text so far is above");
}

/* One line of a conversation. What does not fit is said, and the conversation is as before. */
static nigh_status answer_line(run_state *r, nigh_str line, nigh_err *err) {
    size_t before = r->chat.messages.len;
    r->begun_ns = nigh_os_now_ns();
    nigh_status status = make_ids(r, line, err);
    if (status == NIGH_OK) status = one_answer(r, err);
    if (status == NIGH_OK && r->chat.chat)
        status = nigh_cli_chat_add(&r->chat, "assistant", nigh_buf_str(&r->text), err);
    if (status != NIGH_ERANGE) return status;
    fprintf(stderr, "%s; /new begins anew\n", err->text);
    *err = (nigh_err){ 0 };
    r->chat.messages.len = before;
    return NIGH_OK;
}

static nigh_status converse(run_state *r, nigh_err *err) {
    nigh_buf line = NIGH_BUF(NIGH_CLI_TEXT_MAX);
    nigh_status status = NIGH_OK;
    size_t start = r->chat.messages.len;
    if (!r->o.quiet)
        fprintf(stderr, "%s; Ctrl-C stops an answer, /new begins anew, Ctrl-D ends\n",
                r->chat.chat ? "a conversation" : "each line is continued by itself");
    nigh_cli_catch_signals();
    while (status == NIGH_OK) {
        nigh_cli_go_on();
        fputs("> ", stderr);
        if (!nigh_cli_read_line(&line, &status)) break;
        nigh_str text = nigh_str_trim(nigh_buf_str(&line));
        if (nigh_str_eq(text, NIGH_STR("/new"))) r->chat.messages.len = start;
        else if (text.len) status = answer_line(r, nigh_buf_str(&line), err);
    }
    nigh_buf_release(&line);
    fputc('\n', stderr);
    return status;
}

static nigh_status work(run_state *r, const char *model, nigh_err *err) {
    r->talk = !r->o.prompt && !r->o.json && isatty(STDIN_FILENO);
    NIGH_TRY(draw_seed(&r->o, err));
    NIGH_TRY(nigh_cli_model_open(&r->m, model, r->o.threads, r->o.quiet, !r->o.quiet || r->o.json, err));
    r->begun_ns = r->m.begun_ns;
    if (r->o.chat || r->o.system || (r->talk && r->m.about->chat_template.len))
        NIGH_TRY(nigh_cli_chat_open(&r->chat, &r->m, r->o.system, err));
    NIGH_TRY(nigh_cli_cache(r->o.cache, &r->m.cache, err));
    NIGH_TRY(nigh_cli_model_begin(&r->m, nigh_cli_context(&r->m, r->o.context), 0, err));
    NIGH_TRY(nigh_cli_draft_open(&r->draft, &r->m, r->o.draft, err));
    nigh_writer_opts w = { .runner = r->m.runner, .session = r->m.session, .model = r->draft.draft,
                           .alone = r->o.alone || nigh_cli_draft_is_none(r->o.draft), .now_ns = nigh_os_now_ns,
                           .vocab = r->m.about->vocab };
    NIGH_TRY(nigh_writer_new(&r->writer, w, err));
    return r->talk ? converse(r, err) : answer_prompt(r, err);
}

static nigh_status run(int argc, char **argv, nigh_err *err) {
    run_state r = { .ids = NIGH_IDS(NIGH_CLI_IDS_MAX),
                    .text = NIGH_BUF(NIGH_CLI_TEXT_MAX),
                    .m = { .file = { .fd = -1 } } };
    NIGH_TRY(read_opts(&r.o, &argc, argv, err));
    r.terminal = isatty(STDOUT_FILENO);
    nigh_status status = work(&r, argv[0], err);
    nigh_generation_free(r.gen);
    nigh_writer_free(r.writer);
    nigh_cli_draft_close(&r.draft);
    nigh_ids_release(&r.ids);
    nigh_buf_release(&r.text);
    nigh_cli_chat_close(&r.chat);
    nigh_cli_model_close(&r.m);
    return status;
}

const nigh_command nigh_command_run = { "run", "continue a text with a model, on this device", help, run };
