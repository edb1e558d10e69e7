/* tidy.c - the rules of the house that a machine can check, as a test: one case for each rule.
 * Reads every source file below the working directory once, keeps the text and a copy in which comments and literals
 * are blanked, and lets each rule look. Rooms, floors and exceptions stand in tools/layers.txt. What the rules mean and
 * why they exist: CONTRIBUTING.md. It reads C roughly (no preprocessing), as far as our own style needs. */
#define _GNU_SOURCE
#include <fts.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "test.h"

enum { FUNCTION_LINES_MAX = 70, FILE_LINES_MAX = 1200, FILE_LINES_HOME = 600 };
enum { C_COLUMNS_MAX = 120, SCRIPT_COLUMNS_MAX = 160 };
enum { FILES_MAX = 2000, ROOMS_MAX = 32, ALLOWED_MAX = 64 };

typedef struct {
    char *path, *text, *code;   /* code: text with comments, strings and characters blanked; the same length */
    size_t len, lines;
    bool is_c, is_header, is_script, is_markdown;
} source;

static source files[FILES_MAX];
static size_t file_count;
static struct { char name[32]; int floor; bool freestanding; } rooms[ROOMS_MAX];
static size_t room_count;
static struct { char rule[32], path[128]; } allowed[ALLOWED_MAX];
static size_t allowed_count;

/* ---- reading ---- */

static bool ends(const char *s, const char *suffix) {
    size_t n = strlen(s), k = strlen(suffix);
    return n >= k && strcmp(s + n - k, suffix) == 0;
}

static bool starts(const char *s, const char *prefix) { return strncmp(s, prefix, strlen(prefix)) == 0; }
static bool is_word(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static size_t line_of(const source *f, size_t at) {
    size_t line = 1;
    for (size_t i = 0; i < at; i++) line += f->text[i] == '\n';
    return line;
}

static void report(const source *f, size_t at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void report(const source *f, size_t at, const char *fmt, ...) {
    char text[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    test_check(false, text, f->path, (int)line_of(f, at));
}

static bool is_allowed(const char *rule, const char *path) {
    for (size_t i = 0; i < allowed_count; i++)
        if (strcmp(allowed[i].rule, rule) == 0 && strcmp(allowed[i].path, path) == 0) return true;
    return false;
}

/* Blanks comments and the inside of literals, so that what is left is code. */
static void blank(source *f) {
    enum { CODE, BLOCK, LINE, STRING, CHARACTER } state = CODE;
    for (size_t i = 0; i < f->len; i++) {
        char c = f->text[i], next = i + 1 < f->len ? f->text[i + 1] : '\0';
        bool keep = state == CODE;
        if (state == CODE && c == '/' && (next == '*' || next == '/')) {
            state = next == '*' ? BLOCK : LINE;
            keep = false;
        } else if (state == CODE && c == '"') state = STRING;
        else if (state == CODE && c == '\'') state = CHARACTER;
        else if (state == BLOCK && c == '*' && next == '/') {
            f->code[i] = ' ';
            f->code[++i] = ' ';
            state = CODE;
            continue;
        } else if (state == LINE && c == '\n') state = CODE;
        else if ((state == STRING || state == CHARACTER) && c == '\\') {
            f->code[i] = ' ';
            if (++i < f->len) f->code[i] = ' ';
            continue;
        } else if ((state == STRING && c == '"') || (state == CHARACTER && c == '\'')) {
            state = CODE;
            keep = true;
        }
        f->code[i] = keep || c == '\n' ? c : ' ';
    }
}

static void load(const char *path) {
    source f = { .is_header = ends(path, ".h"),
                 .is_c = ends(path, ".c") || ends(path, ".h"),
                 .is_markdown = ends(path, ".md"),
                 .is_script = ends(path, ".sh") || ends(path, ".mjs") || ends(path, ".js") || ends(path, ".ts")
                              || ends(path, ".css") || ends(path, ".html") || ends(path, ".json")
                              || ends(path, ".txt") || ends(path, ".yml") || ends(path, "Makefile")
                              || ends(path, ".ci/run") };
    if (!f.is_c && !f.is_markdown && !f.is_script) return;
    FILE *in = fopen(path, "rb");
    if (!in) return;
    struct stat st;
    if (fstat(fileno(in), &st) == 0 && file_count < FILES_MAX) {
        f.len = (size_t)st.st_size;
        f.path = strdup(path);
        f.text = calloc(1, f.len + 1);
        f.code = calloc(1, f.len + 1);
        f.len = fread(f.text, 1, f.len, in);
        for (size_t i = 0; i < f.len; i++) f.lines += f.text[i] == '\n';
        if (f.is_c) blank(&f);
        files[file_count++] = f;
    }
    fclose(in);
}

static int by_name(const FTSENT **a, const FTSENT **b) { return strcmp((*a)->fts_name, (*b)->fts_name); }

static void load_all(void) {
    char dot[] = ".", *roots[] = { dot, NULL };
    FTS *walk = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, by_name);
    if (!walk) return;
    for (FTSENT *e; (e = fts_read(walk));) {
        bool hidden = e->fts_level > 0 && e->fts_name[0] == '.' && strcmp(e->fts_name, ".ci") != 0;
        bool built = starts(e->fts_name, "build") || !strcmp(e->fts_name, "node_modules")
                     || !strcmp(e->fts_name, "artifacts") || !strcmp(e->fts_name, "corpus");
        if (e->fts_info == FTS_D && (hidden || built)) fts_set(walk, e, FTS_SKIP);
        else if (e->fts_info == FTS_F) load(e->fts_path + 2);
    }
    fts_close(walk);
}

static void load_layers(void) {
    char line[512];
    FILE *in = fopen("tools/layers.txt", "r");
    if (!in) return;
    while (fgets(line, sizeof line, in)) {
        char *save = NULL, *word = strtok_r(line, " \t\n", &save), *a = strtok_r(NULL, " \t\n", &save),
             *b = strtok_r(NULL, " \t\n", &save);
        if (!word || word[0] == '#' || !a || !b) continue;
        char *last = strtok_r(NULL, " \t\n", &save);
        if (strcmp(word, "room") == 0 && room_count < ROOMS_MAX) {
            snprintf(rooms[room_count].name, sizeof rooms->name, "%s", a);
            rooms[room_count].floor = (int)strtol(b, NULL, 10);
            rooms[room_count++].freestanding = last && strcmp(last, "freestanding") == 0;
        } else if (strcmp(word, "allow") == 0 && last && allowed_count < ALLOWED_MAX) {
            snprintf(allowed[allowed_count].rule, sizeof allowed->rule, "%s", a);
            snprintf(allowed[allowed_count++].path, sizeof allowed->path, "%s", b);
        }
    }
    fclose(in);
}

/* ---- includes ---- */

/* The number of the room that src/ROOM/... or ROOM/... names, or -1. */
static int room_of(const char *path) {
    if (starts(path, "src/")) path += 4;
    for (size_t i = 0; i < room_count; i++) {
        size_t n = strlen(rooms[i].name);
        if (strncmp(path, rooms[i].name, n) == 0 && path[n] == '/') return (int)i;
    }
    return -1;
}

/* The next #include at or after *at: its name without quotes into `name`. *at moves behind it. */
static bool next_include(const source *f, size_t *at, char *name, size_t cap, bool *system) {
    for (const char *p = f->text + *at; (p = strstr(p, "#include")); p++) {
        if (p != f->text && p[-1] != '\n') continue;
        const char *q = p + 8;
        while (*q == ' ') q++;
        *system = *q == '<';
        const char *end = strpbrk(q + 1, "\">\n");
        if (!end || end - q - 1 >= (ptrdiff_t)cap) continue;
        snprintf(name, cap, "%.*s", (int)(end - q - 1), q + 1);
        *at = (size_t)(end - f->text);
        return true;
    }
    return false;
}

static bool in_list(const char *name, const char *const *list) {
    for (; *list; list++) if (strcmp(name, *list) == 0) return true;
    return false;
}

static void include_direction(void) {
    char name[256];
    bool system;
    for (size_t i = 0; i < file_count; i++) {
        if (!files[i].is_c || !starts(files[i].path, "src/")) continue;
        int room = room_of(files[i].path);
        if (room < 0) { report(&files[i], 0, "this room is not in tools/layers.txt"); continue; }
        for (size_t at = 0; next_include(&files[i], &at, name, sizeof name, &system);) {
            int other = room_of(name);
            if (system || starts(name, "nigh/") || !strchr(name, '/')) continue;
            if (other < 0) report(&files[i], at, "\"%s\" is in no room of tools/layers.txt", name);
            else if (other != room && rooms[other].floor >= rooms[room].floor)
                report(&files[i], at, "room %s (floor %d) includes %s (floor %d)", rooms[room].name,
                       rooms[room].floor, name, rooms[other].floor);
        }
    }
}

static bool is_isa_file(const char *path) {
    return ends(path, "_avx2.c") || ends(path, "_avx512.c") || ends(path, "_amx.c") || ends(path, "_x86.c")
           || ends(path, "_neon.c") || ends(path, "_neon.h") || ends(path, "_dotprod.c")
           || ends(path, "_wasm.c");
}

static void freestanding_headers(void) {
    static const char *const plain[] = { "assert.h", "stdarg.h",    "stdbool.h", "stddef.h", "stdint.h",
                                         "string.h", "stdatomic.h", "limits.h",  "float.h",  NULL };
    static const char *const vectors[] = { "immintrin.h", "arm_neon.h", "wasm_simd128.h", NULL };
    char name[256];
    bool system;
    for (size_t i = 0; i < file_count; i++) {
        int room = room_of(files[i].path);
        if (!files[i].is_c || !starts(files[i].path, "src/") || room < 0 || !rooms[room].freestanding) continue;
        if (is_allowed("system-headers", files[i].path)) continue;
        for (size_t at = 0; next_include(&files[i], &at, name, sizeof name, &system);)
            if (system && !in_list(name, plain) && !(is_isa_file(files[i].path) && in_list(name, vectors)))
                report(&files[i], at, "<%s> is not for a room that is built without a C library", name);
    }
}

static void sockets_and_libraries_only_in_node(void) {
    static const char *const system_headers[] = {
        "arm_neon.h", "assert.h",      "ctype.h",       "dirent.h",      "errno.h",     "fcntl.h",      "fenv.h",
        "float.h",    "fts.h",         "ftw.h",         "getopt.h",    "immintrin.h",  "inttypes.h",
        "limits.h",   "locale.h",      "math.h",        "poll.h",      "pthread.h",    "sched.h",
        "signal.h",   "spawn.h",       "stdalign.h",    "stdarg.h",    "stdatomic.h",  "stdbool.h",
        "stddef.h",   "stdint.h",      "stdio.h",       "stdlib.h",    "string.h",     "strings.h",
        "sys/auxv.h", "sys/file.h",    "sys/ioctl.h",   "sys/mman.h",  "sys/prctl.h",  "sys/random.h", "sys/resource.h",
        "sys/stat.h", "sys/syscall.h", "sys/sysinfo.h", "sys/time.h",  "sys/types.h",  "sys/wait.h",
        "syscall.h",  "termios.h",     "threads.h",     "time.h",      "unistd.h",     "wasm_simd128.h", NULL
    };
    char name[256];
    bool system;
    for (size_t i = 0; i < file_count; i++) {
        const char *path = files[i].path;
        if (!files[i].is_c || (!starts(path, "src/") && !starts(path, "include/")) || starts(path, "src/node/"))
            continue;
        for (size_t at = 0; next_include(&files[i], &at, name, sizeof name, &system);)
            if (system && !in_list(name, system_headers))
                report(&files[i], at, "<%s>: sockets and libraries belong into src/node", name);
    }
}

static void headers_are_used(void) {
    char name[256], want[512];
    bool system;
    for (size_t i = 0; i < file_count; i++) {
        const char *path = files[i].path;
        bool door = starts(path, "include/"), used = false;
        if (!files[i].is_header || !(door || starts(path, "src/")) || starts(path, "src/wasm/include/")) continue;
        snprintf(want, sizeof want, "%s", path + (door ? 8 : 4));
        for (size_t k = 0; k < file_count && !used; k++)
            for (size_t at = 0;
                 k != i && !used && files[k].is_c && next_include(&files[k], &at, name, sizeof name, &system);)
                used = strcmp(name, want) == 0;
        if (!used) report(&files[i], 0, "no file includes %s", want);
    }
}

/* ---- words ---- */

/* Reports each call of one of `names`: a word that "(" follows and that is not a member (.x( or ->x(). */
static void each_call(const source *f, const char *const *names, const char *what) {
    for (size_t i = 0; i < f->len; i++) {
        if (!is_word(f->code[i]) || (i && is_word(f->code[i - 1]))) continue;
        size_t end = i;
        while (end < f->len && is_word(f->code[end])) end++;
        size_t open = end;
        while (open < f->len && f->code[open] == ' ') open++;
        bool member = i && (f->code[i - 1] == '.' || f->code[i - 1] == '>');
        if (f->code[open] != '(' || member) continue;
        for (const char *const *n = names; *n; n++)
            if (strlen(*n) == end - i && strncmp(f->code + i, *n, end - i) == 0) report(f, i, "%s: %s", *n, what);
    }
}

static void banned_calls(void) {
    static const char *const everywhere[] = { "strcpy", "strcat", "strncat", "sprintf", "vsprintf", "strtok", "gets",
        "sscanf", "scanf", "alloca", "tmpnam", "mktemp", NULL };
    static const char *const in_the_program[] = { "atoi", "atol", "atof", "system", "popen", "rand", "srand",
        "setjmp", "longjmp", NULL };
    for (size_t i = 0; i < file_count; i++) {
        if (!files[i].is_c) continue;
        each_call(&files[i], everywhere, "banned (CONTRIBUTING.md)");
        if (starts(files[i].path, "src/")) each_call(&files[i], in_the_program, "banned in src (CONTRIBUTING.md)");
    }
}

static void heap_only_in_base(void) {
    static const char *const names[] = { "malloc",         "calloc", "realloc", "free",     "aligned_alloc",
                                         "posix_memalign", "strdup", "strndup", "asprintf", NULL };
    for (size_t i = 0; i < file_count; i++)
        if (files[i].is_c && starts(files[i].path, "src/") && !is_allowed("heap", files[i].path))
            each_call(&files[i], names, "use nigh_alloc and nigh_free");
}

static void report_each(const source *f, const char *haystack, const char *word, const char *what) {
    for (const char *p = haystack; (p = strstr(p, word)); p++)
        if (p == haystack || !is_word(p[-1])) report(f, (size_t)(p - haystack), "%s: %s", word, what);
}

static void instruction_sets_only_in_kernel(void) {
    static const char *const words[] = { "_mm_",        "_mm256_", "_mm512_",         "__m128",           "__m256",
                                         "__m512",      "_tile_",  "__builtin_ia32_", "__x86_64__",       "__i386__",
                                         "__aarch64__", "__AVX",   "__ARM_",          "__wasm_simd128__", NULL };
    for (size_t i = 0; i < file_count; i++) {
        const char *path = files[i].path;
        if (!files[i].is_c || !starts(path, "src/") || starts(path, "src/kernel/") || is_isa_file(path)
            || is_allowed("isa", path))
            continue;
        for (const char *const *w = words; *w; w++)
            report_each(&files[i], files[i].code, *w, "instruction sets belong into src/kernel");
    }
}

static void systems_only_in_os_files(void) {
    static const char *const words[] = { "__linux__", "__APPLE__",  "_WIN32",         "__FreeBSD__",
                                         "__wasm__",  "__wasm32__", "__EMSCRIPTEN__", NULL };
    for (size_t i = 0; i < file_count; i++) {
        const char *path = files[i].path;
        if (!files[i].is_c || !starts(path, "src/") || starts(path, "src/base/os_") || starts(path, "src/wasm/")
            || is_allowed("os", path))
            continue;
        for (const char *const *w = words; *w; w++)
            report_each(&files[i], files[i].code, *w, "what differs by system belongs into src/base/os_*.c");
    }
}

static void nothing_unfinished(void) {
    static const char *const words[] = { "TO" "DO", "FIX" "ME", "XX" "X:", "HA" "CK:", NULL };
    for (size_t i = 0; i < file_count; i++)
        for (const char *const *w = words; *w && (files[i].is_c || files[i].is_script); w++)
            if (!ends(files[i].path, ".json") && !ends(files[i].path, ".txt"))
                report_each(&files[i], files[i].text, *w, "an issue, or do it");
}

static void no_path_of_a_machine(void) {
    static const char *const words[] = { "/wo"
                                         "rk/",
                                         "/ro"
                                         "ot/",
                                         "/ho"
                                         "me/",
                                         "regis"
                                         "try.npm",
                                         "regis"
                                         "try.yarn",
                                         "deb."
                                         "debian.org",
                                         "pypi"
                                         ".org",
                                         NULL };
    for (size_t i = 0; i < file_count; i++)
        for (const char *const *w = words; *w; w++)
            for (const char *p = files[i].text; (p = strstr(p, *w)); p++)
                report(&files[i], (size_t)(p - files[i].text), "%s: a machine's path or a registry's host", *w);
}

/* ---- shape ---- */

/* Lines that begin with # and their continuations, blanked in a copy: braces inside macros say nothing about
 * functions. */
static char *without_macros(const source *f) {
    char *code = calloc(1, f->len + 1);
    bool macro = false;
    for (size_t i = 0; i < f->len; i++) {
        bool line_begins = i == 0 || f->code[i - 1] == '\n';
        if (line_begins && !(macro && i >= 2 && f->text[i - 2] == '\\')) macro = f->code[i] == '#';
        code[i] = macro && f->code[i] != '\n' ? ' ' : f->code[i];
    }
    return code;
}

static bool is_function_head(const char *code, size_t begin, size_t end) {
    bool paren = false;
    for (size_t i = begin; i < end; i++) {
        if (code[i] == '=') return false;
        if (code[i] == '(') paren = true;
    }
    return paren;
}

static void functions_are_short(void) {
    size_t longest = 0;
    for (size_t i = 0; i < file_count; i++) {
        const source *f = &files[i];
        if (!f->is_c) continue;
        char *code = without_macros(f);
        size_t depth = 0, head = 0, begin = 0;
        bool function = false;
        for (size_t at = 0; at < f->len; at++) {
            if (code[at] == '{' && depth++ == 0) { function = is_function_head(code, head, at); begin = head; }
            else if (code[at] == '}' && depth && --depth == 0) {
                while (begin < at && (code[begin] == ' ' || code[begin] == '\n')) begin++;
                size_t lines = line_of(f, at) - line_of(f, begin) + 1;
                if (function && lines > longest) longest = lines;
                if (function && lines > FUNCTION_LINES_MAX)
                    report(f, begin, "a function of %zu lines; %d are allowed", lines, FUNCTION_LINES_MAX);
                head = at + 1;
            } else if (code[at] == ';' && depth == 0) head = at + 1;
        }
        if (depth) report(f, f->len, "braces do not match");
        free(code);
    }
    printf("  longest function: %zu lines\n", longest);
}

static void lines_are_short(void) {
    for (size_t i = 0; i < file_count; i++) {
        const source *f = &files[i];
        bool page = ends(f->path, ".json") || ends(f->path, ".txt") || ends(f->path, ".html") || ends(f->path, ".css");
        if (!f->is_c && (!f->is_script || page)) continue;
        size_t columns = 0, most = f->is_c ? C_COLUMNS_MAX : SCRIPT_COLUMNS_MAX;
        for (size_t at = 0; at < f->len; at++) {
            if (f->text[at] == '\n') { columns = 0; continue; }
            if (((unsigned char)f->text[at] & 0xc0) != 0x80) columns++;
            if (columns == most + 1) { report(f, at, "a line longer than %zu columns", most); columns++; }
        }
    }
}

static void files_are_short(void) {
    for (size_t i = 0; i < file_count; i++) {
        const source *f = &files[i];
        if (!f->is_c && (!f->is_script || ends(f->path, ".json") || ends(f->path, ".txt"))) continue;
        if (f->lines > FILE_LINES_MAX) report(f, f->len, "%zu lines; %d are allowed", f->lines, FILE_LINES_MAX);
        else if (f->lines > FILE_LINES_HOME)
            printf("  %s has %zu lines; %d is home\n", f->path, f->lines, FILE_LINES_HOME);
    }
}

static void text_is_clean(void) {
    for (size_t i = 0; i < file_count; i++) {
        const source *f = &files[i];
        if (f->len && f->text[f->len - 1] != '\n') report(f, f->len, "the last line has no end");
        for (size_t at = 0; at < f->len; at++) {
            bool blank_end = f->text[at] == '\n' && at && (f->text[at - 1] == ' ' || f->text[at - 1] == '\t');
            if (f->text[at] == '\r') report(f, at, "a carriage return");
            if (f->is_c && f->text[at] == '\t') report(f, at, "a tab");
            if (blank_end && !f->is_markdown) report(f, at, "white space at the end of a line");
        }
    }
}

static void files_open_with_their_essay(void) {
    for (size_t i = 0; i < file_count; i++)
        if (files[i].is_c && !starts(files[i].text, "/* "))
            report(&files[i], 0, "does not open with a comment that says what it is");
}

/* A declaration is documented by a comment on its line or above it, with no blank line between; one comment may serve
 * a group. */
static void public_functions_are_documented(void) {
    for (size_t i = 0; i < file_count; i++) {
        const source *f = &files[i];
        bool documented = false;
        if (!f->is_header || !starts(f->path, "include/")) continue;
        for (size_t at = 0; at < f->len;) {
            const char *line = f->text + at;
            size_t n = strcspn(line, "\n");
            if (n == 0) documented = false;
            if (memmem(line, n, "/*", 2) || memmem(line, n, "*/", 2)) documented = true;
            if (strncmp(line, "NIGH_API", 8) == 0 && !documented) report(f, at, "a public function without a comment");
            at += n + 1;
        }
    }
}

/* ---- documents ---- */

static void check_link(const source *f, size_t at, const char *target, size_t len) {
    char folder[512], path[1024];
    if (len == 0 || target[0] == '#' || starts(target, "http:") || starts(target, "https:")
        || starts(target, "mailto:"))
        return;
    const char *hash = memchr(target, '#', len);
    if (hash) len = (size_t)(hash - target);
    const char *slash = strrchr(f->path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - f->path + 1) : 0, f->path);
    snprintf(path, sizeof path, "%s%.*s", folder, (int)len, target);
    if (access(path, R_OK) != 0) report(f, at, "dead link: %.*s", (int)len, target);
}

static void links_lead_somewhere(void) {
    size_t links = 0;
    for (size_t i = 0; i < file_count; i++) {
        if (!files[i].is_markdown) continue;
        for (const char *p = files[i].text; (p = strstr(p, "](")); p++) {
            check_link(&files[i], (size_t)(p - files[i].text), p + 2, strcspn(p + 2, ") \n"));
            links++;
        }
    }
    printf("  %zu links\n", links);
}

/* models/NAME.gguf, os_NAME.c: a word in capitals stands for any. */
static bool is_placeholder(const char *path, size_t len) {
    return memmem(path, len, "NAME", 4) || memmem(path, len, "FILE", 4);
}

/* A file or folder that a comment or a document names by its path from the root exists. */
static void named_files_exist(void) {
    static const char *const roots[] = { "src/", "docs/", "tools/", "tests/", "include/", "models/", "bench/", NULL };
    char path[256];
    for (size_t i = 0; i < file_count; i++) {
        const source *f = &files[i];
        if (!f->is_c && !f->is_markdown) continue;
        for (const char *const *r = roots; *r; r++) {
            for (const char *p = f->text; (p = strstr(p, *r)); p++) {
                if (p != f->text && (is_word(p[-1]) || strchr("/.$-*<{", p[-1]))) continue;
                size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./");
                while (n && (p[n - 1] == '.' || p[n - 1] == '/')) n--;
                if (n >= sizeof path || strchr("*<{$[", p[n]) || !memchr(p, '.', n)) continue;
                if (is_placeholder(p, n)) continue;
                snprintf(path, sizeof path, "%.*s", (int)n, p);
                if (access(path, F_OK) != 0 && !starts(path, "tests/web/node_modules"))
                    report(f, (size_t)(p - f->text), "%s does not exist", path);
            }
        }
    }
}

int main(int argc, char **argv) {
    load_layers();
    load_all();
    static const test_case cases[] = { T(include_direction),
                                       T(freestanding_headers),
                                       T(sockets_and_libraries_only_in_node),
                                       T(headers_are_used),
                                       T(banned_calls),
                                       T(heap_only_in_base),
                                       T(instruction_sets_only_in_kernel),
                                       T(systems_only_in_os_files),
                                       T(nothing_unfinished),
                                       T(no_path_of_a_machine),
                                       T(functions_are_short),
                                       T(lines_are_short),
                                       T(files_are_short),
                                       T(text_is_clean),
                                       T(files_open_with_their_essay),
                                       T(public_functions_are_documented),
                                       T(links_lead_somewhere),
                                       T(named_files_exist) };
    if (room_count == 0 || file_count == 0) { fputs("tidy: run it at the root of the project\n", stderr); return 1; }
    return test_main(cases, sizeof cases / sizeof *cases, argc, argv);
}
