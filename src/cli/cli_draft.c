/* cli_draft.c - see cli_draft.h. The small model uses the threads of the large one: they never work at once. */
#include "cli/cli_draft.h"

#include "cli/cli.h"

bool nigh_cli_draft_is_none(const char *word) { return word && nigh_str_eq(nigh_str_of(word), NIGH_STR("none")); }

nigh_status nigh_cli_draft_open(nigh_cli_draft *d, const nigh_cli_model *m, const char *word, nigh_err *err) {
    char path[4096];
    nigh_file file = { .fd = -1 };
    *d = (nigh_cli_draft){ 0 };
    if (!word || nigh_cli_draft_is_none(word)) return NIGH_OK;
    NIGH_TRY(nigh_cli_model_path(word, path, sizeof path, err));
    NIGH_TRY(nigh_file_open(&file, path, err));
    const nigh_model_opts opts = { .pool = m->pool, .cpu = nigh_cli_cpu(), .file = &file, .read = nigh_file_read_part,
                                   .done = nigh_file_drop_part };
    nigh_status status = nigh_model_open(&d->model, file.bytes, opts, err);
    if (nigh_file_changed(&file))
        status = nigh_fail(err, NIGH_EIO, 0, "the file was cut short while it was read");
    nigh_file_close(&file);
    if (status == NIGH_OK)
        status = nigh_draft_model_new(&d->draft, d->model, m->model, m->pool, nigh_session_limit(m->session),
                                      nigh_os_now_ns, err);
    return status == NIGH_OK ? NIGH_OK : nigh_fail_in(err, status, path);
}

void nigh_cli_draft_close(nigh_cli_draft *d) {
    nigh_draft_model_free(d->draft);
    nigh_model_close(d->model);
    *d = (nigh_cli_draft){ 0 };
}
