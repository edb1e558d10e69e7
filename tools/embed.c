/* embed.c - writes files as a C table, so that the program carries its own pages.
 * usage: embed OUT.c ROOT FILE...      Each file becomes the asset "/PATH", its path below the folder ROOT, with the
 * type of its ending (src/node/assets.h). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *type_of(const char *name) {
    static const struct { const char *end, *type; } types[] = {
        { ".html", "text/html; charset=utf-8" }, { ".css", "text/css; charset=utf-8" },
        { ".js", "text/javascript; charset=utf-8" }, { ".svg", "image/svg+xml" }, { ".wasm", "application/wasm" },
        { ".json", "application/json" } };
    const char *end = strrchr(name, '.');
    for (size_t i = 0; end && i < sizeof types / sizeof *types; i++)
        if (strcmp(end, types[i].end) == 0) return types[i].type;
    return "application/octet-stream";
}

/* The path below the root, without a slash in front. */
static const char *below(const char *path, const char *root) {
    size_t n = strlen(root);
    if (strncmp(path, root, n) == 0) path += n;
    while (*path == '/') path++;
    return path;
}

static int write_bytes(FILE *out, const char *path, int index, size_t *count) {
    FILE *in = fopen(path, "rb");
    int c;
    *count = 0;
    if (!in) { perror(path); return 1; }
    fprintf(out, "static const unsigned char bytes_%d[] = {", index);
    while ((c = fgetc(in)) != EOF) fprintf(out, "%s%d,", (*count)++ % 32 ? "" : "\n    ", c);
    fprintf(out, "\n    0 };\n");       /* an empty file still makes an array */
    fclose(in);
    return 0;
}

int main(int argc, char **argv) {
    size_t counts[64];
    FILE *out = argc > 2 && argc < 67 ? fopen(argv[1], "w") : NULL;
    if (!out) { fprintf(stderr, "usage: embed OUT.c ROOT FILE...\n"); return 1; }
    fprintf(out, "/* Made by tools/embed.c. */\n#include \"node/assets.h\"\n\n");
    for (int i = 3; i < argc; i++) if (write_bytes(out, argv[i], i, &counts[i - 3])) return 1;
    fprintf(out, "const nigh_asset nigh_assets[] = {\n");
    for (int i = 3; i < argc; i++)
        fprintf(out, "    { \"/%s\", \"%s\", bytes_%d, %zu },\n", below(argv[i], argv[2]), type_of(argv[i]), i,
                counts[i - 3]);
    fprintf(out, "};\nconst size_t nigh_asset_count = %d;\n", argc - 3);
    return fclose(out) ? 1 : 0;
}
