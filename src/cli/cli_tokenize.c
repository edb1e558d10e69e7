/* cli_tokenize.c - `nigh tokenize MODEL` and `nigh detokenize MODEL`: text on standard input to ids on one line, and
 * back. Only the vocabulary of the file is read, so files without weights and of any architecture will do. The bytes
 * of the text are taken as they are: nothing is trimmed, and detokenize adds no line feed. */
#include <stdio.h>

#include "base/json.h"
#include "base/os.h"
#include "cli/cli.h"
#include "engine/tokenizer.h"

enum { TEXT_BYTES_MAX = 1 << 30, IDS_MAX = 1 << 28 };

typedef struct { bool special, ids, pieces, json; } tokenize_opts;

static nigh_status open_tokenizer(nigh_tokenizer **out, int argc, char **argv, nigh_err *err) {
    char path[4096];
    nigh_file file;
    nigh_gguf g;
    if (argc != 1) return nigh_fail(err, NIGH_EINVAL, 0, argc ? "one MODEL and no more" : "which MODEL?");
    NIGH_TRY(nigh_cli_model_path(argv[0], path, sizeof path, err));
    NIGH_TRY(nigh_file_open(&file, path, err));
    nigh_status st = nigh_gguf_parse(&g, file.bytes, err);
    if (st == NIGH_OK) {
        st = nigh_tokenizer_open(out, &g, err);
        nigh_gguf_release(&g);
    }
    nigh_file_close(&file);
    return st == NIGH_OK ? NIGH_OK : nigh_fail_in(err, st, path);
}

static nigh_status print(const nigh_buf *b, nigh_err *err) {
    if (b->len == 0 || fwrite(b->ptr, 1, b->len, stdout) == b->len) return NIGH_OK;
    return nigh_fail(err, NIGH_EIO, 0, "standard output cannot be written");
}

/* ---- tokenize ---- */

static nigh_status add_pieces(const nigh_tokenizer *t, const nigh_ids *ids, nigh_buf *out) {
    nigh_buf piece = NIGH_BUF(1 << 16);
    nigh_status st = NIGH_OK;
    for (size_t i = 0; i < ids->len && st == NIGH_OK; i++) {
        piece.len = 0;
        st = nigh_tokenizer_piece(t, ids->ptr[i], true, &piece);
        if (st == NIGH_OK) st = nigh_buf_addf(out, "%d\t", (int)ids->ptr[i]);
        if (st == NIGH_OK) st = nigh_json_add_string(out, nigh_buf_str(&piece));
        if (st == NIGH_OK) st = nigh_buf_add_char(out, '\n');
    }
    nigh_buf_release(&piece);
    return st;
}

static nigh_status add_ids(const nigh_ids *ids, bool json, nigh_buf *out) {
    if (json) NIGH_TRY(nigh_buf_add_char(out, '['));
    for (size_t i = 0; i < ids->len; i++)
        NIGH_TRY(nigh_buf_addf(out, i == 0 ? "%d" : json ? ",%d" : " %d", (int)ids->ptr[i]));
    return nigh_buf_add(out, json ? NIGH_STR("]\n") : NIGH_STR("\n"));
}

static nigh_status tokenize(const nigh_tokenizer *t, tokenize_opts o, nigh_err *err) {
    nigh_buf text = NIGH_BUF(TEXT_BYTES_MAX), out = NIGH_BUF((size_t)TEXT_BYTES_MAX * 8);
    nigh_ids ids = NIGH_IDS(IDS_MAX);
    nigh_encode_opts how = { o.special, o.special };
    nigh_status st = nigh_file_read(&text, "-", err);
    if (st == NIGH_OK) st = nigh_tokenizer_encode(t, nigh_buf_str(&text), how, &ids, err);
    if (st == NIGH_OK) {
        st = o.pieces ? add_pieces(t, &ids, &out) : add_ids(&ids, o.json, &out);
        st = st == NIGH_OK ? print(&out, err) : nigh_fail(err, st, 0, "no memory for the ids");
    }
    nigh_ids_release(&ids);
    nigh_buf_release(&text);
    nigh_buf_release(&out);
    return st;
}

static nigh_status run_tokenize(int argc, char **argv, nigh_err *err) {
    tokenize_opts o = { 0 };
    nigh_tokenizer *t = NULL;
    const nigh_opt opts[] = { { "special", 0, NIGH_OPT_FLAG, &o.special, 0, 0 },
                              { "ids", 0, NIGH_OPT_FLAG, &o.ids, 0, 0 },
                              { "pieces", 0, NIGH_OPT_FLAG, &o.pieces, 0, 0 },
                              { "json", 0, NIGH_OPT_FLAG, &o.json, 0, 0 } };
    NIGH_TRY(nigh_opts_read(opts, NIGH_COUNT(opts), &argc, argv, err));
    if (o.pieces && (o.ids || o.json)) return nigh_fail(err, NIGH_EINVAL, 0, "--pieces goes without --ids and --json");
    NIGH_TRY(open_tokenizer(&t, argc, argv, err));
    nigh_status st = tokenize(t, o, err);
    nigh_tokenizer_close(t);
    return st;
}

/* ---- detokenize ---- */

static bool between_ids(char c) { return c == ' ' || c == ',' || (c >= '\t' && c <= '\r') || c == '[' || c == ']'; }

static nigh_status read_ids(const nigh_tokenizer *t, nigh_str text, nigh_ids *ids, nigh_err *err) {
    for (size_t at = 0; at < text.len;) {
        size_t end = at;
        int64_t id;
        while (end < text.len && !between_ids(text.ptr[end])) end++;
        nigh_str word = nigh_str_slice(text, at, end);
        if (word.len) {
            if (!nigh_str_to_i64(word, &id))
                return nigh_failf(err, NIGH_EINVAL, at, "'%.*s' is no id", (int)nigh_min(word.len, 32), word.ptr);
            if (id < 0 || (uint64_t)id >= nigh_tokenizer_count(t))
                return nigh_failf(err, NIGH_EINVAL, at, "there is no token %lld; ids are 0 to %zu", (long long)id,
                                  nigh_tokenizer_count(t) - 1);
            nigh_status st = nigh_ids_add(ids, (int32_t)id);
            if (st != NIGH_OK) return nigh_fail(err, st, at, "too many ids");
        }
        at = end + 1;
    }
    return NIGH_OK;
}

static nigh_status add_exact(const nigh_tokenizer *t, const nigh_ids *ids, bool special, nigh_buf *out) {
    for (size_t i = 0; i < ids->len; i++) NIGH_TRY(nigh_tokenizer_piece(t, ids->ptr[i], special, out));
    return NIGH_OK;
}

static nigh_status run_detokenize(int argc, char **argv, nigh_err *err) {
    bool special = false, exact = false;
    nigh_tokenizer *t = NULL;
    nigh_buf text = NIGH_BUF(TEXT_BYTES_MAX), out = NIGH_BUF((size_t)TEXT_BYTES_MAX * 8);
    nigh_ids ids = NIGH_IDS(IDS_MAX);
    const nigh_opt opts[] = { { "special", 0, NIGH_OPT_FLAG, &special, 0, 0 },
                              { "exact", 0, NIGH_OPT_FLAG, &exact, 0, 0 } };
    NIGH_TRY(nigh_opts_read(opts, NIGH_COUNT(opts), &argc, argv, err));
    NIGH_TRY(open_tokenizer(&t, argc, argv, err));
    nigh_status st = nigh_file_read(&text, "-", err);
    if (st == NIGH_OK) st = read_ids(t, nigh_buf_str(&text), &ids, err);
    if (st == NIGH_OK) {
        if (exact) st = add_exact(t, &ids, special, &out);
        else st = nigh_tokenizer_decode(t, ids.ptr, ids.len, special, &out);
        st = st == NIGH_OK ? print(&out, err) : nigh_fail(err, st, 0, "no memory for the text");
    }
    nigh_tokenizer_close(t);
    nigh_ids_release(&ids);
    nigh_buf_release(&text);
    nigh_buf_release(&out);
    return st;
}

static const char tokenize_help[] =
    "usage: nigh tokenize MODEL [--special] [--ids | --json | --pieces]\n"
    "\n"
    "Reads text from standard input and prints its token ids on one line, with spaces\n"
    "between.\n"
    "Only the vocabulary of MODEL is read: a GGUF file without weights will do.\n"
    "\n"
    "      --special   also put the tokens in front and behind that the model wants\n"
    "                  (BOS, EOS), and read <names> of control tokens in the text as\n"
    "                  those tokens; without it they are plain text\n"
    "      --ids       ids on one line (the default)\n"
    "      --json      ids as a JSON array\n"
    "      --pieces    one token a line: its id, a tab, its text as a JSON string\n"
    "                  (pieces of a letter: U+FFFD)\n"
    "\n"
    "examples:\n"
    "  printf 'Once upon a time' | nigh tokenize MODEL.gguf\n"
    "  nigh tokenize MODEL.gguf --special --pieces < letter.txt\n";

static const char detokenize_help[] =
    "usage: nigh detokenize MODEL [--special] [--exact]\n"
    "\n"
    "Reads token ids from standard input, with spaces, commas or line feeds between\n"
    "(a JSON array will do), and prints their text, without a line feed behind it.\n"
    "Some vocabularies (gpt-2, starcoder, falcon, bert and others) take away spaces\n"
    "in front of punctuation here, and those of SentencePiece the first space.\n"
    "\n"
    "      --special   also print control tokens by their names; without it they give\n"
    "                  nothing\n"
    "      --exact     the bytes of the tokens as they are, no space taken away\n"
    "\n"
    "examples:\n"
    "  echo 15043 3186 | nigh detokenize MODEL.gguf\n"
    "  nigh tokenize MODEL.gguf < letter.txt | nigh detokenize MODEL.gguf --exact\n";

const nigh_command nigh_command_tokenize = { "tokenize", "text on standard input to token ids", tokenize_help,
                                             run_tokenize };
const nigh_command nigh_command_detokenize = { "detokenize", "token ids on standard input to text", detokenize_help,
                                               run_detokenize };
