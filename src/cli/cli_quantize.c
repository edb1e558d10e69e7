/* cli_quantize.c - `nigh quantize IN OUT TYPE`: the same model with its matrices in another type.
 *
 * Every matrix (two dimensions or more) goes through f32 to TYPE, all to the same type, as llama-quantize --pure
 * does; vectors, and the tables of positions and token types of encoders, stay as they are, and so does a matrix
 * whose rows do not fill the blocks of TYPE. Keys are copied in their order; general.file_type and
 * general.quantization_version are set.
 *
 * The output is written piece by piece into a file beside OUT and renamed when it is complete and on the disk: OUT is
 * whole or not there, and memory does not grow with the model. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/os.h"
#include "base/sha256.h"
#include "cli/cli.h"
#include "cli/show.h"
#include "engine/gguf.h"

enum { CHUNK_VALUES = 1 << 16, CHUNK_BYTES = CHUNK_VALUES * 4 };   /* a multiple of every block */

typedef struct {
    const nigh_gguf *gguf;
    nigh_type type;
    const char *path;           /* OUT */
    char temp[4096];
    int fd;
    uint64_t written;
    nigh_sha256 hash;
    size_t changed;             /* tensors that got another type */
    bool progress;
    float *values;              /* [CHUNK_VALUES] */
    uint8_t *bytes;             /* [CHUNK_BYTES] */
} job;

/* llama.cpp's number for a whole file, as the specification lists them. */
static uint32_t file_type_of(nigh_type type) {
    switch (type) {
    case NIGH_TYPE_F32: return 0;
    case NIGH_TYPE_F16: return 1;
    case NIGH_TYPE_Q4_0: return 2;
    case NIGH_TYPE_BF16: return 32;
    default: return 7; /* Q8_0 */
    }
}

/* The type a tensor has in the output. */
static nigh_type type_for(const job *j, const nigh_gguf_tensor *t) {
    const nigh_type_info *info = nigh_type_find((uint32_t)j->type);
    bool table = nigh_str_eq(t->name, NIGH_STR("position_embd.weight"))
                 || nigh_str_eq(t->name, NIGH_STR("token_types.weight"));
    return t->dim_count < 2 || table || t->dims[0] % info->block_values != 0 ? t->type : j->type;
}

/* ---- writing ---- */

static nigh_status fail_io(const job *j, nigh_err *err) {
    return nigh_failf(err, NIGH_EIO, j->written, "%s cannot be written: %s", j->path, strerror(errno));
}

static nigh_status put(job *j, nigh_str bytes, nigh_err *err) {
    nigh_sha256_add(&j->hash, bytes);
    if (nigh_cli_stopped()) return nigh_failf(err, NIGH_ECANCEL, 0, "stopped; %s was not written", j->path);
    if (!nigh_file_write_all(j->fd, bytes)) return fail_io(j, err);
    j->written += bytes.len;
    return NIGH_OK;
}

static nigh_status pad(job *j, nigh_err *err) {
    static const char zeros[NIGH_GGUF_ALIGNMENT];
    return put(j, (nigh_str){ zeros, (size_t)((0 - j->written) % NIGH_GGUF_ALIGNMENT) }, err);
}

/* ---- one tensor ---- */

static nigh_status check_finite(const nigh_gguf_tensor *t, const float *values, size_t count, nigh_err *err) {
    for (size_t i = 0; i < count; i++)
        if (values[i] - values[i] != 0)
            return nigh_failf(err, NIGH_EDATA, t->at, "tensor '%.*s' holds a value that is not finite",
                              (int)t->name.len, t->name.ptr);
    return NIGH_OK;
}

static nigh_status convert(job *j, const nigh_gguf_tensor *t, nigh_type type, nigh_err *err) {
    const nigh_type_info *from = nigh_type_find((uint32_t)t->type), *to = nigh_type_find((uint32_t)type);
    uint64_t left = t->bytes / from->block_bytes * from->block_values;
    const uint8_t *src = t->data;
    while (left) {
        size_t count = left < CHUNK_VALUES ? (size_t)left : CHUNK_VALUES;
        nigh_dequantize(t->type, src, j->values, count);
        NIGH_TRY(check_finite(t, j->values, count, err));
        if (!nigh_quantize(type, j->values, j->bytes, count))
            return nigh_fail(err, NIGH_ENOSUP, 0, "this type cannot be written");
        NIGH_TRY(put(j, (nigh_str){ (const char *)j->bytes, count / to->block_values * to->block_bytes }, err));
        src += count / from->block_values * from->block_bytes;
        left -= count;
    }
    return NIGH_OK;
}

static void show_progress(const job *j, size_t index, const nigh_gguf_tensor *t) {
    if (!j->progress) return;
    fprintf(stderr, "\r\033[K%zu of %zu  ", index + 1, j->gguf->tensor_count);
    nigh_show_text(stderr, t->name, 0);
}

static nigh_status put_tensors(job *j, nigh_err *err) {
    nigh_status status = NIGH_OK;
    for (size_t i = 0; i < j->gguf->tensor_count && status == NIGH_OK; i++) {
        const nigh_gguf_tensor *t = &j->gguf->tensors[i];
        nigh_type type = type_for(j, t);
        show_progress(j, i, t);
        if (type == t->type) status = put(j, (nigh_str){ (const char *)t->data, (size_t)t->bytes }, err);
        else status = convert(j, t, type, err);
        if (status == NIGH_OK) status = pad(j, err);
        j->changed += type != t->type;
    }
    if (j->progress) fputs("\r\033[K", stderr);
    return status;
}

/* ---- the head ---- */

static void put_keys(const job *j, nigh_gguf_writer *w) {
    static const char *const file_type = "general.file_type", *const version = "general.quantization_version";
    for (size_t i = 0; i < j->gguf->value_count; i++) {
        const nigh_gguf_value *v = &j->gguf->values[i];
        if (nigh_str_eq(v->key, nigh_str_of(file_type))) nigh_gguf_put_u32(w, file_type, file_type_of(j->type));
        else if (nigh_str_eq(v->key, nigh_str_of(version))) nigh_gguf_put_u32(w, version, 2);
        else if (nigh_str_eq(v->key, NIGH_STR("general.alignment"))) continue; /* ours is the usual one */
        else nigh_gguf_put_value(w, v);
    }
    if (!nigh_gguf_find(j->gguf, nigh_str_of(file_type))) nigh_gguf_put_u32(w, file_type, file_type_of(j->type));
    if (!nigh_gguf_find(j->gguf, nigh_str_of(version))) nigh_gguf_put_u32(w, version, 2);
}

static nigh_status put_head(job *j, nigh_err *err) {
    nigh_buf head = NIGH_BUF((size_t)2 << 30);
    nigh_gguf_writer *w = nigh_gguf_writer_new();
    nigh_status status = w ? NIGH_OK : nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory");
    if (w) {
        put_keys(j, w);
        for (size_t i = 0; i < j->gguf->tensor_count; i++) {
            const nigh_gguf_tensor *t = &j->gguf->tensors[i];
            nigh_gguf_put_tensor(w, t->name, type_for(j, t), t->dims, t->dim_count, NULL);
        }
        status = nigh_gguf_finish_head(w, &head, err);
    }
    if (status == NIGH_OK) status = put(j, nigh_buf_str(&head), err);
    nigh_gguf_writer_free(w);
    nigh_buf_release(&head);
    return status;
}

/* ---- the file ---- */

static nigh_status write_file(job *j, nigh_err *err) {
    if (nigh_format(j->temp, sizeof j->temp, "%s.%d.tmp", j->path, (int)getpid()) >= sizeof j->temp)
        return nigh_fail(err, NIGH_ERANGE, 0, "the path is too long");
    j->fd = open(j->temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (j->fd < 0) return fail_io(j, err);
    nigh_status status = put_head(j, err);
    if (status == NIGH_OK) status = put_tensors(j, err);
    if (status == NIGH_OK && fsync(j->fd) != 0) status = fail_io(j, err);
    if (close(j->fd) != 0 && status == NIGH_OK) status = fail_io(j, err);
    if (status == NIGH_OK && rename(j->temp, j->path) != 0) status = fail_io(j, err);
    if (status != NIGH_OK) unlink(j->temp);
    else if (!nigh_file_sync_folder(j->path)) status = fail_io(j, err);
    return status;
}

static nigh_status quantize(job *j, nigh_err *err) {
    j->values = nigh_alloc(sizeof *j->values, CHUNK_VALUES);
    j->bytes = nigh_alloc(1, CHUNK_BYTES);
    nigh_sha256_init(&j->hash);
    nigh_status status =
        j->values && j->bytes ? write_file(j, err) : nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory");
    nigh_free(j->values);
    nigh_free(j->bytes);
    return status;
}

/* ---- the command ---- */

static bool is_same_file(const char *a, const char *b) {
    struct stat sa, sb;
    return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

static void report(job *j, uint64_t bytes_before, bool json) {
    uint8_t digest[32];
    char hex[65], size[32], before[32];
    nigh_sha256_end(&j->hash, digest);
    nigh_sha256_hex(digest, hex);
    if (json) {
        printf("{\"bytes\":%llu,\"bytes_before\":%llu,\"type\":\"%s\",", (unsigned long long)j->written,
               (unsigned long long)bytes_before, nigh_type_name((uint32_t)j->type));
        printf("\"converted\":%zu,\"kept\":%zu,\"sha256\":\"%s\"}\n", j->changed,
               j->gguf->tensor_count - j->changed, hex);
        return;
    }
    printf("%s: %s (before: %s), %zu tensors to %s, %zu as they were\nsha256 %s\n", j->path,
           nigh_show_bytes(size, j->written), nigh_show_bytes(before, bytes_before), j->changed,
           nigh_type_name((uint32_t)j->type), j->gguf->tensor_count - j->changed, hex);
}

static bool can_write(nigh_type type) {
    return type == NIGH_TYPE_F32 || type == NIGH_TYPE_F16 || type == NIGH_TYPE_BF16 || type == NIGH_TYPE_Q8_0
           || type == NIGH_TYPE_Q4_0;
}

static nigh_status run(int argc, char **argv, nigh_err *err) {
    bool json = false;
    const nigh_opt opts[] = { { "json", 0, NIGH_OPT_FLAG, &json, 0, 0 } };
    char path[4096];
    nigh_file f;
    nigh_gguf g;
    nigh_type type;
    NIGH_TRY(nigh_opts_read(opts, NIGH_COUNT(opts), &argc, argv, err));
    if (argc != 3) return nigh_fail(err, NIGH_EINVAL, 0, "three words are wanted: nigh quantize IN OUT TYPE");
    if (!nigh_type_parse(nigh_str_of(argv[2]), &type) || !can_write(type))
        return nigh_failf(err, NIGH_EINVAL, 0, "'%s' is not one of Q8_0 Q4_0 F16 BF16 F32", argv[2]);
    NIGH_TRY(nigh_cli_model_path(argv[0], path, sizeof path, err));
    if (is_same_file(path, argv[1])) return nigh_fail(err, NIGH_EINVAL, 0, "IN and OUT are the same file");
    nigh_cli_catch_signals();
    NIGH_TRY(nigh_file_open(&f, path, err));
    nigh_status status = nigh_gguf_parse(&g, f.bytes, err);
    if (status != NIGH_OK) nigh_fail_in(err, status, path);
    if (status == NIGH_OK) {
        job j = { .gguf = &g, .type = type, .path = argv[1], .fd = -1, .progress = isatty(2) != 0 };
        status = quantize(&j, err);
        if (status == NIGH_OK) report(&j, f.bytes.len, json);
        nigh_gguf_release(&g);
    }
    nigh_file_close(&f);
    return status;
}

const nigh_command nigh_command_quantize = {
    .name = "quantize",
    .line = "write a model with its matrices in another type",
    .help =
    "usage: nigh quantize IN OUT TYPE [--json]\n"
    "\n"
    "Writes the model IN to OUT with every matrix as TYPE: Q8_0, Q4_0, F16, BF16 or\n"
    "F32. All matrices get the same type, as llama-quantize --pure does; vectors stay\n"
    "as they are. IN may have any type that Nigh reads, but what an earlier\n"
    "quantisation rounded away does not come back. OUT is written whole or not at\n"
    "all.\n"
    "\n"
    "examples:\n"
    "  nigh quantize model.gguf model-q8_0.gguf Q8_0\n"
    "  nigh quantize model-q8_0.gguf model-f16.gguf F16 --json\n",
    .run = run,
};
