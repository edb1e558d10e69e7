/* model_files.h - reference models and their expected numbers, found beside the project.
 * Models that a recipe makes lie in $NIGH_GOLDEN_MODELS (make test builds them, tools/golden_models.sh);
 * the rest lie in the shared folder. Everything returns NULL or false when it is absent. */
#ifndef NIGH_MODEL_FILES_H
#define NIGH_MODEL_FILES_H

#include "base/json.h"
#include "base/os.h"
#include "base/pool.h"
#include "engine/tokenizer.h"
#include "kernel/kernel.h"
#include "nigh/engine.h"
#include "test.h"

/* The path of "llama.gguf" and the like; false when it is nowhere. */
static inline bool model_file_path(const char *file, char *path, size_t cap) {
    const char *made = getenv("NIGH_GOLDEN_MODELS"), *shared = test_shared();
    if (made) {
        snprintf(path, cap, "%s/%s", made, file);
        if (access(path, R_OK) == 0) return true;
    }
    if (!shared) return false;
    snprintf(path, cap, "%s/golden/models/%s", shared, file);
    if (access(path, R_OK) == 0) return true;
    snprintf(path, cap, "%s/golden/%s", shared, file);
    return access(path, R_OK) == 0;
}

/* Opens a model by file name. On failure prints why and returns NULL. */
static inline nigh_model *model_file_open(const char *file, nigh_pool *pool, unsigned cpu) {
    char path[1024];
    nigh_err err = { 0 };
    nigh_file f;
    nigh_model *m = NULL;
    if (!model_file_path(file, path, sizeof path)) return NULL;
    if (nigh_file_open(&f, path, &err) == NIGH_OK) {
        if (nigh_model_open(&m, f.bytes, (nigh_model_opts){ .pool = pool, .cpu = cpu }, &err) != NIGH_OK)
            fprintf(stderr, "    %s: %s (at %llu)\n", file, err.text, (unsigned long long)err.at);
        nigh_file_close(&f);
    }
    return m;
}

/* Parses shared/golden/<name>; false when it is absent. */
static inline bool golden_read(const char *name, nigh_json_doc *doc, nigh_buf *text) {
    char path[1024];
    nigh_err err = { 0 };
    if (!test_shared()) return false;
    snprintf(path, sizeof path, "%s/golden/%s", test_shared(), name);
    *text = NIGH_BUF(64 << 20);
    if (nigh_file_read(text, path, &err) != NIGH_OK) return false;
    if (nigh_json_parse(doc, nigh_buf_str(text), &err) == NIGH_OK) return true;
    fprintf(stderr, "    %s: %s at %llu\n", name, err.text, (unsigned long long)err.at);
    return false;
}

static inline const nigh_json *json_get(const nigh_json *o, const char *key) {
    return nigh_json_get(o, nigh_str_of(key));
}

/* A JSON array of whole numbers; the caller frees it with nigh_free. */
static inline int32_t *json_ids(const nigh_json *a, size_t *count) {
    *count = a ? a->count : 0;
    int32_t *ids = nigh_alloc(*count + 1, sizeof *ids);
    size_t n = 0;
    for (const nigh_json *v = nigh_json_first(a); v && ids; v = v->next) ids[n++] = (int32_t)v->integer;
    return ids;
}

static inline float *json_floats(const nigh_json *a, size_t *count) {
    *count = a ? a->count : 0;
    float *x = nigh_alloc(*count + 1, sizeof *x);
    size_t n = 0;
    for (const nigh_json *v = nigh_json_first(a); v && x; v = v->next) x[n++] = (float)v->number;
    return x;
}

#endif
