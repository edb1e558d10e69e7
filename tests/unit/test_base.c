/* test_base.c - strings, formatting, buffers, the reader and memory. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>

#include "base/base.h"
#include "base/os.h"
#include "test.h"

static void test_str(void) {
    const struct { nigh_str a, b; bool want;
    } cases[] = { { NIGH_STR(""), NIGH_STR(""), true },
                  { NIGH_STR("ab"), NIGH_STR("abc"), false },
                  { NIGH_STR("a\0b"), NIGH_STR("a\0c"), false } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) CHECK(nigh_str_eq(cases[i].a, cases[i].b) == cases[i].want);
    CHECK(nigh_str_find(NIGH_STR("aaab"), NIGH_STR("ab"), 0) == 2);
    CHECK(nigh_str_find(NIGH_STR("aaab"), NIGH_STR("b"), 3) == 3);
    CHECK(nigh_str_find(NIGH_STR("ab"), NIGH_STR("abc"), 0) == SIZE_MAX);
    CHECK(nigh_str_find(NIGH_STR("ab"), NIGH_STR(""), 2) == 2);
    CHECK(nigh_str_eq(nigh_str_trim(NIGH_STR(" \t x y\n")), NIGH_STR("x y")));
    CHECK(nigh_str_cmp(NIGH_STR("a"), NIGH_STR("ab")) < 0);
    const struct { nigh_str text; uint64_t at; size_t line, column;
    } places[] = { { NIGH_STR(""), 0, 1, 1 }, { NIGH_STR("ab\ncd"), 1, 1, 2 }, { NIGH_STR("ab\ncd"), 2, 1, 3 },
                   { NIGH_STR("ab\ncd"), 3, 2, 1 }, { NIGH_STR("ab\ncd"), 99, 2, 3 }, { NIGH_STR("\n\n"), 2, 3, 1 } };
    for (size_t i = 0; i < NIGH_COUNT(places); i++) {
        size_t column, line = nigh_str_line(places[i].text, places[i].at, &column);
        CHECK_MSG(line == places[i].line && column == places[i].column, "case %zu: %zu:%zu", i, line, column);
    }
}

static void test_numbers(void) {
    int64_t i = 0;
    double d = 0;
    CHECK(nigh_str_to_i64(NIGH_STR("-9223372036854775808"), &i) && i == INT64_MIN);
    CHECK(!nigh_str_to_i64(NIGH_STR("9223372036854775808"), &i));
    CHECK(!nigh_str_to_i64(NIGH_STR(""), &i) && !nigh_str_to_i64(NIGH_STR("-"), &i)
          && !nigh_str_to_i64(NIGH_STR("1 "), &i));
    CHECK(nigh_str_to_f64(NIGH_STR("0.7"), &d) && d == 0.7);
    CHECK(nigh_str_to_f64(NIGH_STR("-1.5e-3"), &d) && d == -1.5e-3);
    CHECK(nigh_str_to_f64(NIGH_STR("1e400"), &d) && d > 1e300);
    CHECK(!nigh_str_to_f64(NIGH_STR("1."), &d) && !nigh_str_to_f64(NIGH_STR(".5"), &d)
          && !nigh_str_to_f64(NIGH_STR("nan"), &d));
}

static void test_hex(void) {
    uint8_t all[256], back[256];
    char text[2 * 256 + 1];
    for (size_t i = 0; i < 256; i++) all[i] = (uint8_t)i;
    nigh_hex_write(text, all, sizeof all);
    CHECK(strncmp(text, "000102", 6) == 0 && strcmp(text + 508, "feff") == 0);
    CHECK(nigh_hex_read(nigh_str_of(text), back, sizeof back) && memcmp(all, back, sizeof all) == 0);
    CHECK(nigh_hex_read(NIGH_STR(""), back, 0));
    const nigh_str refused[] = { NIGH_STR(""), NIGH_STR("0"), NIGH_STR("00"), NIGH_STR("000"), NIGH_STR("00000"),
                                 NIGH_STR("0g00"), NIGH_STR("g000"), NIGH_STR("00A0"), NIGH_STR("000F"),
                                 NIGH_STR("0x00"), NIGH_STR("00 0"), NIGH_STR("\0" "000") };
    for (size_t i = 0; i < NIGH_COUNT(refused); i++) CHECK_MSG(!nigh_hex_read(refused[i], back, 2), "case %zu", i);
    for (int c = 0; c < 256; c++) {
        const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c) : NULL;
        int want = at ? (int)(at - digits) : c >= 'A' && c <= 'F' ? 10 + c - 'A' : -1;
        CHECK_MSG(nigh_hex_digit((char)c) == want, "letter %d", c);
    }
}

static void test_format(void) {
    char text[64];
    CHECK(nigh_format(text, sizeof text, "%s|%5d|%-4u|%04x|%zu", "a", -7, 3u, 0xbeu, (size_t)9) == 19);
    CHECK(strcmp(text, "a|   -7|3   |00be|9") == 0);
    nigh_format(text, sizeof text, "%.2f %.0f %f %.*s%%", 1.005, 2.5, -0.25, 2, "xyz");
    CHECK_MSG(strcmp(text, "1.00 3 -0.250000 xy%") == 0 || strcmp(text, "1.01 3 -0.250000 xy%") == 0, "%s", text);
    CHECK(nigh_format(text, 4, "%s", "abcdef") == 6 && strcmp(text, "abc") == 0);
    nigh_format(text, sizeof text, "%lld %llu", (long long)INT64_MIN, (unsigned long long)UINT64_MAX);
    CHECK(strcmp(text, "-9223372036854775808 18446744073709551615") == 0);
}

static void test_fail(void) {
    nigh_err err = { 0 };
    CHECK(nigh_failf(&err, NIGH_EDATA, 7, "byte %d is odd", 7) == NIGH_EDATA && err.code == NIGH_EDATA && err.at == 7);
    CHECK(nigh_fail_in(&err, NIGH_EDATA, "a.gguf") == NIGH_EDATA && err.at == 7);
    CHECK(strcmp(err.text, "a.gguf: byte 7 is odd") == 0);
    CHECK(nigh_fail_in(NULL, NIGH_EIO, "a.gguf") == NIGH_EIO);
}

static void test_buf(void) {
    nigh_buf b = NIGH_BUF(10);
    CHECK(nigh_buf_add(&b, NIGH_STR("12345678")) == NIGH_OK);
    CHECK(nigh_buf_add(&b, NIGH_STR("abc")) == NIGH_ERANGE && b.len == 8);
    CHECK(nigh_buf_addf(&b, "%d", 42) == NIGH_OK && nigh_str_eq(nigh_buf_str(&b), NIGH_STR("1234567842")));
    nigh_buf_release(&b);
    CHECK(b.len == 0 && b.ptr == NULL);
}

static void test_reader(void) {
    nigh_reader r = nigh_reader_of(NIGH_STR("\x01\x02\x03"));
    CHECK(nigh_read_uint(&r, 2) == 0x0201 && !r.bad);
    CHECK(nigh_read_uint(&r, 2) == 0 && r.bad);
    CHECK(nigh_read_uint(&r, 1) == 0 && nigh_reader_pos(&r) == 2);
}

static void test_memory(void) {
    size_t before = nigh_alloc_live_bytes();
    uint8_t *p = nigh_alloc(3, 7);
    CHECK(p && (uintptr_t)p % 64 == 0 && p[0] == 0 && p[20] == 0);
    CHECK(nigh_alloc_live_bytes() == before + 21);
    CHECK(nigh_alloc(SIZE_MAX / 2, 3) == NULL && nigh_alloc(SIZE_MAX - 8, 1) == NULL);
    nigh_alloc_fail_at(2, false);
    void *a = nigh_alloc(1, 1), *b = nigh_alloc(1, 1), *c = nigh_alloc(1, 1);
    CHECK(a && !b && c);
    nigh_free(a);
    nigh_free(c);
    nigh_free(p);
    CHECK(nigh_alloc_live_bytes() == before);
}

static void test_files(void) {
    char path[64];
    nigh_err err;
    nigh_file f;
    nigh_format(path, sizeof path, "/tmp/nigh-test-%d", (int)getpid());
    CHECK(nigh_file_write(path, NIGH_STR("hello"), &err) == NIGH_OK);
    CHECK(nigh_file_open(&f, path, &err) == NIGH_OK && nigh_str_eq(f.bytes, NIGH_STR("hello")));
    nigh_file_close(&f);
    unlink(path);
    CHECK(nigh_file_open(&f, path, &err) == NIGH_ENOENT);
    CHECK(nigh_file_open(&f, "/dev/zero", &err) == NIGH_EINVAL);
    CHECK(nigh_file_open(&f, "/", &err) == NIGH_EINVAL);
}

static void test_file_pieces(void) {
    char path[64], folder[5000];
    int ends[2];
    nigh_file f;
    nigh_format(path, sizeof path, "/tmp/nigh-pieces-%d", (int)getpid());
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(nigh_file_write_all(fd, NIGH_STR("one, ")) && nigh_file_write_all(fd, NIGH_STR(""))
          && nigh_file_write_all(fd, NIGH_STR("two")));
    close(fd);
    CHECK(nigh_file_open(&f, path, NULL) == NIGH_OK && nigh_str_eq(f.bytes, NIGH_STR("one, two")));
    CHECK(!nigh_file_write_all(f.fd, NIGH_STR("three")) && errno == EBADF);     /* it is open to read */
    nigh_file_close(&f);
    CHECK(nigh_file_sync_folder(path) && nigh_file_sync_folder("a-name-alone") && nigh_file_sync_folder("/"));
    CHECK(!nigh_file_sync_folder("/no-such-folder/x") && errno == ENOENT);
    memset(folder, 'x', sizeof folder - 1);
    folder[sizeof folder - 1] = '\0';
    folder[sizeof folder - 2] = '/';
    CHECK(!nigh_file_sync_folder(folder) && errno == ENAMETOOLONG);
    /* A pipe that is full until somebody reads takes it in several writes. */
    enum { BIG = 1 << 20 };
    static char big[BIG], back[BIG];
    CHECK(pipe(ends) == 0);
    memset(big, 'y', BIG);
    pid_t child = fork();
    if (child == 0) _exit(nigh_file_write_all(ends[1], (nigh_str){ big, BIG }) ? 0 : 1);
    size_t got = 0;
    close(ends[1]);
    for (ssize_t n; (n = read(ends[0], back + got, BIG - got)) > 0;) got += (size_t)n;
    int state = 1;
    CHECK(waitpid(child, &state, 0) == child && state == 0 && got == BIG && memcmp(big, back, BIG) == 0);
    close(ends[0]);
    unlink(path);
}

/* A file that loses its end while it is mapped reads as zeros there, and says so. */
static void test_file_cut_while_mapped(void) {
    char path[64];
    char bytes[3 * 4096];
    nigh_err err;
    nigh_file f;
    size_t sum = 0;
    memset(bytes, 1, sizeof bytes);
    nigh_format(path, sizeof path, "/tmp/nigh-cut-%d", (int)getpid());
    CHECK(nigh_file_write(path, (nigh_str){ bytes, sizeof bytes }, &err) == NIGH_OK);
    CHECK(nigh_file_open(&f, path, &err) == NIGH_OK && !nigh_file_changed(&f));
    CHECK(truncate(path, 4096) == 0);
    for (size_t i = 0; i < f.bytes.len; i++) sum += (size_t)f.bytes.ptr[i];
    CHECK(sum == 4096 && nigh_file_changed(&f));
    nigh_file_close(&f);
    CHECK(nigh_file_open(&f, path, &err) == NIGH_OK && !nigh_file_changed(&f) && f.bytes.len == 4096);
    nigh_file_close(&f);
    unlink(path);
}

TEST_MAIN(T(test_str), T(test_numbers), T(test_hex), T(test_format), T(test_fail), T(test_buf), T(test_reader),
          T(test_memory), T(test_files), T(test_file_pieces), T(test_file_cut_while_mapped))
