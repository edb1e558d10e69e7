/* test_cli_tokenize.c - `nigh tokenize` and `nigh detokenize` as a user meets them, on a small vocabulary made here.
 */
#define _GNU_SOURCE
#include "base/os.h"
#include "program.h"
#include "test.h"
#include "vocab_maker.h"

static vocab_maker maker;
static char dir[] = "/tmp/nigh-tokenize-XXXXXX", file[64];

/* Bytes are their own ids; "ab" is 256, <|end_of_text|> 257. */
static bool make_file(void) {
    nigh_buf bytes = NIGH_BUF(1 << 20);
    if (file[0]) return true;
    maker.model = "gpt2";
    maker.pre = "gpt-2";
    vm_alphabet(&maker);
    vm_token(&maker, "ab", 1, 0);
    vm_token(&maker, "<|end_of_text|>", 3, 0);
    vm_merge(&maker, "a b");
    if (!mkdtemp(dir) || vm_write(&maker, &bytes, NULL) != NIGH_OK) return false;
    snprintf(file, sizeof file, "%s/x.gguf", dir);
    bool written = nigh_file_write(file, nigh_buf_str(&bytes), NULL) == NIGH_OK;
    nigh_buf_release(&bytes);
    return written;
}

static void check(const char *input, const char *command, const char *options, const char *want, int code) {
    program_result r = program_run("printf -- '%s' | %s %s %s %s 2>&1", input, program_path(), command, file, options);
    CHECK_MSG(r.code == code, "%s %s: exit code %d", command, options, r.code);
    bool same = code ? strstr(r.text, want) != NULL : strcmp(r.text, want) == 0;
    CHECK_MSG(same, "%s %s of '%s': '%s', not '%s'", command, options, input, r.text, want);
    free(r.text);
}

static void test_tokenize(void) {
    CHECK(make_file());
    check("ab c", "tokenize", "", "256 32 99\n", 0);
    check("ab c", "tokenize", "--ids", "256 32 99\n", 0);
    check("ab c", "tokenize", "--json", "[256,32,99]\n", 0);
    check("", "tokenize", "", "\n", 0);
    check("", "tokenize", "--json", "[]\n", 0);
    check("ab\\n", "tokenize", "--pieces", "256\t\"ab\"\n10\t\"\\n\"\n", 0);
    check("ab<|end_of_text|>", "tokenize", "--special", "256 257\n", 0);
    check("<|end", "tokenize", "--special", "60 124 101 110 100\n", 0);
    check("a", "tokenize", "--pieces --json", "--pieces goes without", 1);
    check("a", "tokenize", "twice", "one MODEL", 1);
}

static void test_detokenize(void) {
    CHECK(make_file());
    check("256 32,99\\n", "detokenize", "", "ab c", 0);
    check("[256, 257]", "detokenize", "", "ab", 0);
    check("[256, 257]", "detokenize", "--special", "ab<|end_of_text|>", 0);
    check("97 32 46", "detokenize", "", "a.", 0);
    check("97 32 46", "detokenize", "--exact", "a .", 0);
    check("", "detokenize", "", "", 0);
    check("1 x", "detokenize", "", "'x' is no id", 1);
    check("258", "detokenize", "", "there is no token 258; ids are 0 to 257", 1);
    check("-1", "detokenize", "", "there is no token -1", 1);
}

TEST_MAIN(T(test_tokenize), T(test_detokenize))
