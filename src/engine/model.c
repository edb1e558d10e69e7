/* model.c - opens a model: parse the file, find the family, read its numbers, pack the weights, and beside that build
 * the vocabulary. After that the file's bytes are not needed any more. */
#include "engine/model.h"

#include "base/os.h"

static const nigh_arch *const archs[] = { &nigh_arch_llama,      &nigh_arch_qwen2,       &nigh_arch_qwen3,
                                          &nigh_arch_gemma2,     &nigh_arch_gemma3,      &nigh_arch_gemma_embedding,
                                          &nigh_arch_phi3,       &nigh_arch_olmo2,       &nigh_arch_bert,
                                          &nigh_arch_nomic_bert, &nigh_arch_jina_bert_v2 };

static nigh_status find_arch(nigh_model *m, const nigh_gguf *g, nigh_err *err) {
    nigh_str name;
    if (!nigh_gguf_find(g, NIGH_STR("general.architecture")))
        return nigh_fail(err, NIGH_EDATA, 0, "the key general.architecture is missing");
    NIGH_TRY(nigh_gguf_string(g, NIGH_STR("general.architecture"), &name, err));
    for (size_t i = 0; i < NIGH_COUNT(archs); i++) {
        if (!nigh_str_eq(name, nigh_str_of(archs[i]->name))) continue;
        m->arch = archs[i];
        return NIGH_OK;
    }
    return nigh_failf(err, NIGH_ENOSUP, nigh_gguf_find(g, NIGH_STR("general.architecture"))->at,
                      "architecture '%.*s' is not supported", (int)nigh_min(name.len, 60), name.ptr);
}

/* Files that are right but are not a whole model. */
static nigh_status refuse_parts(const nigh_gguf *g, nigh_err *err) {
    nigh_str kind = NIGH_STR("model");
    uint32_t parts = 1;
    if (nigh_gguf_find(g, NIGH_STR("general.type")))
        NIGH_TRY(nigh_gguf_string(g, NIGH_STR("general.type"), &kind, err));
    if (!nigh_str_eq(kind, NIGH_STR("model")))
        return nigh_failf(err, NIGH_ENOSUP, 0, "the file holds a '%.*s', not a model", (int)nigh_min(kind.len, 40),
                          kind.ptr);
    if (nigh_gguf_find(g, NIGH_STR("split.count"))) NIGH_TRY(nigh_gguf_u32(g, NIGH_STR("split.count"), &parts, err));
    if (parts > 1)
        return nigh_failf(err, NIGH_ENOSUP, 0, "the file is one of %u parts; join them into one file first", parts);
    return NIGH_OK;
}

static nigh_str optional_string(const nigh_gguf *g, nigh_str key) {
    nigh_str v = { 0 };
    return nigh_gguf_find(g, key) && nigh_gguf_string(g, key, &v, NULL) == NIGH_OK ? v : (nigh_str){ 0 };
}

/* Copies the texts that outlive the file into one block. */
static nigh_status copy_texts(nigh_model *m, const nigh_gguf *g, nigh_err *err) {
    nigh_str name = optional_string(g, NIGH_STR("general.name")),
             chat = optional_string(g, NIGH_STR("tokenizer.chat_template"));
    m->text = nigh_alloc(1, name.len + chat.len + 1);
    if (!m->text) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the model's texts");
    if (name.len) memcpy(m->text, name.ptr, name.len);
    if (chat.len) memcpy(m->text + name.len, chat.ptr, chat.len);
    m->info.name = (nigh_str){ m->text, name.len };
    m->info.chat_template = (nigh_str){ m->text + name.len, chat.len };
    m->info.arch = nigh_str_of(m->arch->name);
    return NIGH_OK;
}

static void fill_info(nigh_model *m) {
    m->info.context_tokens = m->h.context;
    m->info.layers = m->h.layers;
    m->info.embed = m->h.embed;
    m->info.heads = m->h.heads;
    m->info.kv_heads = m->h.kv_heads;
    m->info.vocab = m->h.vocab;
    m->info.encoder = (m->arch->flags & NIGH_ARCH_ENCODER) != 0;
    m->info.pooling = m->h.pooling;
}

nigh_status nigh_model_begin(nigh_model **out, const nigh_gguf *g, nigh_model_opts o, nigh_err *err) {
    nigh_model *m = *out = nigh_alloc(1, sizeof *m);
    if (!m) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for a model");
    nigh_kernels_init(&m->kernels, o.cpu);
    NIGH_TRY(refuse_parts(g, err));
    NIGH_TRY(find_arch(m, g, err));
    NIGH_TRY(nigh_hparams_read(m, g, err));
    return copy_texts(m, g, err);
}

void nigh_model_end(nigh_model *m) { fill_info(m); }

/* The vocabulary of a large model takes as long as a good part of its weights. */
typedef struct { nigh_model *m; const nigh_gguf *g; nigh_status status; nigh_err err; } vocab_job;

static nigh_status open_vocabulary(void *ud) {
    vocab_job *j = ud;
    j->status = nigh_tokenizer_open(&j->m->tokenizer, j->g, &j->err);
    return j->status;
}

static nigh_status open_weights(nigh_model *m, const nigh_gguf *g, nigh_model_opts o, nigh_err *err) {
    vocab_job vocab = { .m = m, .g = g };
    NIGH_TRY(nigh_weights_load(m, g, o, (nigh_beside){ open_vocabulary, &vocab }, err));
    if (vocab.status != NIGH_OK) {
        if (err) *err = vocab.err;
        return vocab.status;
    }
    if (o.done && g->tensor_count) o.done(o.file, 0, (size_t)g->tensors[0].at);
    return NIGH_OK;
}

nigh_status nigh_model_open(nigh_model **out, nigh_str file, nigh_model_opts o, nigh_err *err) {
    nigh_gguf g;
    *out = NULL;
    NIGH_TRY(nigh_gguf_parse(&g, file, err));
    nigh_model *m;
    nigh_status st = nigh_model_begin(&m, &g, o, err);
    if (st == NIGH_OK) st = nigh_rope_init(m, &g, err);
    if (st == NIGH_OK) st = open_weights(m, &g, o, err);
    nigh_gguf_release(&g);
    if (st != NIGH_OK) { nigh_model_close(m); return st; }
    nigh_model_end(m);
    *out = m;
    return NIGH_OK;
}

void nigh_model_close(nigh_model *m) {
    if (!m) return;
    nigh_tokenizer_close(m->tokenizer);
    nigh_os_pages_give(m->weights, m->weights_bytes);
    nigh_free(m->rope_freq[0]);
    nigh_free(m->rope_freq[1]);
    nigh_free(m->layers);
    nigh_free(m->text);
    nigh_free(m);
}

const nigh_model_info *nigh_model_about(const nigh_model *m) { return &m->info; }
const nigh_tokenizer *nigh_model_tokenizer(const nigh_model *m) { return m->tokenizer; }
