/* cli_calibrate.c - `nigh calibrate`: the threshold of a feature's escalation, found on an evaluation. */
#include <stdio.h>

#include "base/json.h"
#include "base/os.h"
#include "cli/cli.h"
#include "place/calibrate.h"

static const char help[] =
    "usage: nigh calibrate PAIRS [--rate R] [--score-min S] [OPTIONS]\n"
    "\n"
    "Finds below which confidence answers of the device's model should be asked for\n"
    "elsewhere: the `threshold` of a feature whose `escalate` names confidence. PAIRS\n"
    "has one line of JSON for each question of an evaluation,\n"
    "\n"
    "  {\"confidence\": 0.83, \"score\": 1}\n"
    "\n"
    "confidence as `nigh_receipt` says it of an answer of such a feature; score from\n"
    "0 (useless) to 1 (right), as judged; or \"good\": true or false.\n"
    "\n"
    "      --rate R        at most this share escalates, e.g. 0.2; the threshold is\n"
    "                      the highest that keeps it\n"
    "      --score-min S   the answers that stay are at least this good on the\n"
    "                      average; the lowest threshold that gets there, within the\n"
    "                      rate if one is given\n"
    "      --eval NAME     the evaluation's name in the policy, for what is printed\n"
    "      --json          for programs\n"
    "\n"
    "exit codes: 0; 1 malformed, or no threshold does it\n"
    "\n"
    "examples:\n"
    "  nigh calibrate mail-v3.jsonl --rate 0.2 --eval mail-v3\n"
    "  nigh calibrate mail-v3.jsonl --score-min 0.9\n";

enum { FILE_MAX = 256 << 20 };
static const double none = 1e300;

static nigh_status read_pair(const nigh_json *line, size_t at, nigh_pair *out, nigh_err *err) {
    const nigh_json *sure = nigh_json_get(line, NIGH_STR("confidence")), *score = nigh_json_get(line,
                                                                                        NIGH_STR("score"));
    const nigh_json *good = nigh_json_get(line, NIGH_STR("good"));
    bool has_score = score && score->type == NIGH_JSON_NUMBER, has_good = good && good->type == NIGH_JSON_BOOL;
    if (!sure || sure->type != NIGH_JSON_NUMBER || has_score == has_good)
        return nigh_failf(err, NIGH_EINVAL, at, "line %zu: wants a confidence, and a score or good", at);
    *out = (nigh_pair){ sure->number, has_score ? score->number : good->boolean ? 1 : 0 };
    return NIGH_OK;
}

static nigh_status read_pairs(nigh_str text, nigh_pair *pairs, size_t *count, nigh_err *err) {
    nigh_json_doc doc;
    nigh_err inner = { 0 };
    size_t number = 0;
    for (size_t at = 0; at < text.len;) {
        size_t end = nigh_min(nigh_str_find(text, NIGH_STR("\n"), at), text.len);
        nigh_str line = nigh_str_trim(nigh_str_slice(text, at, end));
        at = end + 1;
        number++;
        if (!line.len) continue;
        nigh_status status = nigh_json_parse(&doc, line, &inner);
        if (status != NIGH_OK) return nigh_failf(err, status, number, "line %zu: %s", number, inner.text);
        status = read_pair(doc.root, number, &pairs[*count], err);
        nigh_json_release(&doc);
        if (status != NIGH_OK) return status;
        (*count)++;
    }
    return NIGH_OK;
}

static void print(const nigh_calibration *c, const nigh_calibrate_opts *o, const char *eval) {
    printf("threshold         %.6g\n", c->threshold);
    printf("escalates         %zu of %zu, %.1f %%\n", c->below, c->count, 100 * c->rate);
    printf("held-out half     %.1f %% with the threshold of the other half\n", 100 * c->held_out_rate);
    printf("score             %.3f of all, %.3f of those that stay, %.3f of those that go\n", c->score_all,
           c->score_kept, c->score_below);
    printf("order             %.3f: how often the model was surer of a good answer than of a bad one (0.5: its\n"
           "                  confidence says nothing)\n", c->order);
    printf("\n\"escalate\": { \"when\": [\"confidence\"], \"threshold\": %.6g, \"target_rate\": %.6g", c->threshold,
           o->rate >= 0 ? o->rate : c->rate);
    if (eval) printf(", \"eval\": \"%s\"", eval);
    printf(" }\n");
}

static void print_json(const nigh_calibration *c) {
    printf("{\"threshold\":%.17g,\"pairs\":%zu,\"below\":%zu,\"rate\":%.6g,\"held_out_rate\":%.6g,\"score\":%.6g,"
           "\"score_kept\":%.6g,\"score_below\":%.6g,\"order\":%.6g}\n", c->threshold, c->count, c->below, c->rate,
           c->held_out_rate, c->score_all, c->score_kept, c->score_below, c->order);
}

static nigh_status calibrate(const char *path, const nigh_calibrate_opts *o, nigh_calibration *out, nigh_err *err) {
    nigh_buf text = NIGH_BUF(FILE_MAX);
    size_t lines = 1, count = 0;
    nigh_status status = nigh_file_read(&text, path, err);
    for (size_t i = 0; i < text.len; i++) lines += text.ptr[i] == '\n';
    nigh_pair *pairs = status == NIGH_OK ? nigh_alloc(sizeof *pairs, lines) : NULL;
    if (status == NIGH_OK && !pairs) status = nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the pairs");
    if (status == NIGH_OK) status = read_pairs(nigh_buf_str(&text), pairs, &count, err);
    if (status == NIGH_OK) status = nigh_calibrate(pairs, count, o, out, err);
    nigh_free(pairs);
    nigh_buf_release(&text);
    return status;
}

static nigh_status run(int argc, char **argv, nigh_err *err) {
    double rate = none, score_min = none;
    const char *eval = NULL;
    bool json = false;
    nigh_calibration c;
    const nigh_opt opts[] = { { "rate", 0, NIGH_OPT_FLOAT, &rate, 0, 0 },
                              { "score-min", 0, NIGH_OPT_FLOAT, &score_min, 0, 0 },
                              { "eval", 0, NIGH_OPT_TEXT, &eval, 0, 0 }, { "json", 0, NIGH_OPT_FLAG, &json, 0, 0 } };
    NIGH_TRY(nigh_opts_read(opts, NIGH_COUNT(opts), &argc, argv, err));
    bool has_rate = rate < none, has_score = score_min < none;
    if (argc != 1 || (!has_rate && !has_score))
        return nigh_fail(err, NIGH_EINVAL, 0, "wants one file of pairs, and --rate or --score-min");
    if ((has_rate && !(rate >= 0 && rate <= 1)) || (has_score && !(score_min >= 0 && score_min <= 1)))
        return nigh_fail(err, NIGH_EINVAL, 0, "--rate and --score-min lie between 0 and 1");
    nigh_calibrate_opts o = { .rate = has_rate ? rate : -1, .score_min = has_score ? score_min : -1 };
    NIGH_TRY(calibrate(argv[0], &o, &c, err));
    if (json) print_json(&c);
    else print(&c, &o, eval);
    return NIGH_OK;
}

const nigh_command nigh_command_calibrate = { "calibrate", "find the threshold of an escalation on an evaluation", help,
                                              run };
