/* export.h - a trained state as a GGUF file of architecture "llama", complete for any reader of the format. */
#ifndef NIGH_EXPORT_H
#define NIGH_EXPORT_H

#include "kernel/quant.h"
#include "learn/train.h"

typedef struct {
    nigh_type type;                         /* of the matrices: F32, F16, BF16, Q8_0, Q4_0; norms stay F32 */
    const char *name, *license, *about;     /* general.name and so on;
        NULL or "": left out (name: "nigh model") */
} nigh_export_opts;

/* The whole file, into out. Fails: EINVAL (a type that is not written), ENOMEM, ERANGE. */
NIGH_CHECK nigh_status nigh_export(const nigh_state *s, nigh_export_opts o, nigh_buf *out, nigh_err *err);

#endif
