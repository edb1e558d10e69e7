/* seeds_gguf.c - writes the first inputs of the GGUF fuzzing: every case of gguf_cases.h as a file.
 * usage: seeds_gguf DIR          all of them (for fuzzing, not kept)
 *        seeds_gguf --small DIR  a few tiny ones (kept in tests/fuzz/corpus/gguf) */
#include "gguf_cases.h"

static void save(const char *dir, const char *id, const uint8_t *bytes, size_t len) {
    char path[512];
    int n = snprintf(path, sizeof path, "%s/%s", dir, id);
    for (int i = (int)strlen(dir) + 1; i < n && i < (int)sizeof path; i++)
        if (strchr(" /=,^<>|:", path[i])) path[i] = '-';
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, len, f) != len || fclose(f) != 0) { perror(path); exit(1); }
}

static void visit(void *ud, const char *id, gc_want want, const uint8_t *bytes, size_t len) {
    (void)want;
    save(ud, id, bytes, len);
}

/* One key of every type, one tensor of every shape: 900 bytes. */
static void tiny(const char *dir, const char *id, uint32_t version, uint64_t alignment) {
    gc_model *m = calloc(1, sizeof *m);
    gc_file *f = malloc(sizeof *f);
    char name[16];
    if (!m || !f) abort();
    memcpy(m->magic, "GGUF", 5);
    m->version = version;
    m->alignment = alignment;
    if (alignment != 32) gc_u32(m, "general.alignment", alignment);
    for (uint32_t type = 0; type <= GC_F64; type++) {
        snprintf(name, sizeof name, "k%u", type);
        if (type == GC_STR) gc_string(m, name, "text");
        else if (type != GC_ARR) gc_number(m, name, type, 1);
    }
    gc_bytes *b = gc_array(m, "strings", GC_STR, 2);
    gc_text(b, "");
    gc_text(b, "two");
    gc_uint(gc_array(m, "numbers", GC_I16, 2), 0x20001, 4);
    gc_uint(gc_array(m, "bools", GC_BOOL, 2), 0x0100, 2);
    gc_array(m, "empty", GC_F32, 0);
    gc_tensor_add(m, "one", GC_TYPE_F32, 3, 0);
    gc_tensor_add(m, "two", GC_TYPE_Q8_0, 32, 2);
    gc_tensor *t = gc_tensor_add(m, "four", GC_TYPE_F32, 2, 1);
    t->dim_count = 4;
    t->dims[2] = t->dims[3] = 1;
    gc_write(m, f);
    save(dir, id, f->bytes.ptr, f->bytes.len);
    gc_clear(&f->bytes);
    gc_release(m);
    free(m);
    free(f);
}

int main(int argc, char **argv) {
    bool small = argc == 3 && strcmp(argv[1], "--small") == 0;
    if (argc < 2 || argc > 3 || (argc == 3 && !small)) { fputs("usage: seeds_gguf [--small] DIR\n", stderr); return 1; }
    const char *dir = argv[argc - 1];
    tiny(dir, "tiny-v3", 3, 32);
    tiny(dir, "tiny-v2", 2, 32);
    tiny(dir, "tiny-aligned-8", 3, 8);
    tiny(dir, "tiny-aligned-64", 3, 64);
    if (!small) gc_cases_each(visit, argv[argc - 1]);
    return 0;
}
