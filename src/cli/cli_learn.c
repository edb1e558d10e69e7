/* cli_learn.c - `nigh learn`: folders of text in, a model file out. The work is in src/learn; here are options,
 * progress, and the order of things: read, split, vocabulary, run (with checkpoints), held-out loss. */
#include <stdio.h>
#include <unistd.h>

#include "base/os.h"
#include "cli/cli.h"
#include "learn/export.h"
#include "learn/train.h"

typedef struct {
    const char *out, *checkpoint, *from, *name, *license, *about, *type;
    int64_t vocab, dim, layers, heads, kv_heads, ff, context, batch, steps, warmup, decay, seed, threads, held,
        eval_every, save_every;
    double rate;
    bool exact, quiet;
} options;

typedef struct {
    options o;
    nigh_recipe recipe;
    nigh_corpus corpus;
    nigh_bpe *bpe;
    nigh_feed feed;
    nigh_pool *pool;
    nigh_trainer *trainer;
    nigh_state state;
    uint64_t started_ns, shown_ns, saved_ns;
    uint64_t first_step;
    double held_loss;
    bool terminal;
} job;

static void set_recipe(job *j) {
    const options *o = &j->o;
    nigh_recipe r = nigh_recipe_default();
    r.shape.vocab = (uint32_t)o->vocab, r.shape.dim = (uint32_t)o->dim, r.shape.layers = (uint32_t)o->layers;
    r.shape.heads = (uint32_t)o->heads, r.shape.kv_heads = (uint32_t)o->kv_heads, r.shape.ff = (uint32_t)o->ff,
        r.shape.window = (uint32_t)o->context;
    r.batch = (uint32_t)o->batch, r.steps = (uint64_t)o->steps, r.warmup = (uint32_t)o->warmup,
        r.decay = (uint32_t)o->decay;
    r.seed = (uint64_t)o->seed, r.rate = (float)o->rate;
    j->recipe = r;
}

/* A second round speaks the vocabulary of the first, whatever its text is. */
static nigh_status take_vocabulary(job *j, nigh_err *err) {
    nigh_state s = { 0 };
    NIGH_TRY(nigh_state_load(&s, j->o.from, err));
    nigh_status status = nigh_bpe_take(j->bpe, (const uint16_t (*)[2])s.merges, s.merge_count);
    nigh_state_release(&s);
    return status == NIGH_OK ? status : nigh_fail(err, status, 0, "not enough memory for the vocabulary");
}

static nigh_status read_text(job *j, int argc, char **argv, nigh_err *err) {
    for (int i = 0; i < argc; i++) NIGH_TRY(nigh_corpus_add(&j->corpus, argv[i], err));
    NIGH_TRY(nigh_corpus_split(&j->corpus, (unsigned)j->o.held, err));
    const nigh_corpus *c = &j->corpus;
    fprintf(stderr, "text: %zu files, %zu documents, %.1f MB; removed as repeats: %zu documents, %zu paragraphs; "
        "held-out paragraphs too near to the rest: %zu\n",
        c->files, c->docs_read, (double)c->bytes_read / 1e6, c->docs_repeated, c->lines_repeated,
            c->lines_shared);
    j->feed.window = j->recipe.shape.window;
    j->feed.seed = j->recipe.seed;
    NIGH_TRY(nigh_feed_make(&j->feed, j->bpe, c, j->recipe.shape.vocab, err));
    fprintf(stderr, "vocabulary: %zu ids\n", nigh_bpe_count(j->bpe));
    for (size_t s = 0; s < j->feed.source_count; s++)
        fprintf(stderr, "  %s: %zu tokens (%.2f bytes each), held out %zu; weight %g, late %g\n",
            c->sources[s].path, j->feed.train[s].count,
            (double)j->feed.train[s].bytes / (double)nigh_max(j->feed.train[s].count, 1),
                j->feed.held[s].count, c->sources[s].weight, c->sources[s].late_weight);
    return NIGH_OK;
}

static bool same_vocabulary(const job *j) {
    const nigh_state *s = &j->state;
    return s->merge_count == nigh_bpe_merge_count(j->bpe)
        && memcmp(s->merges, nigh_bpe_merges(j->bpe), s->merge_count * sizeof *s->merges) == 0;
}

/* A second round: the weights of another run, everything else as at a beginning. */
static nigh_status begin_from(job *j, nigh_err *err) {
    nigh_state *s = &j->state;
    NIGH_TRY(nigh_state_load(s, j->o.from, err));
    if (memcmp(&s->recipe.shape, &j->recipe.shape, sizeof s->recipe.shape) != 0)
        return nigh_failf(err, NIGH_EINVAL, 0, "%s holds a model of another shape", j->o.from);
    fprintf(stderr, "begins with the weights of %s (%llu steps)\n", j->o.from, (unsigned long long)s->step);
    s->recipe = j->recipe;
    s->at = (nigh_feed_at){ { 0 }, { 0 } };
    s->step = 0;
    memset(s->m, 0, s->count * sizeof *s->m);
    memset(s->v, 0, s->count * sizeof *s->v);
    return NIGH_OK;
}

/* A fresh state, or the one of the checkpoint when it exists and fits. The steps and the decay may differ: a
 * run can be made longer. */
static nigh_status begin_state(job *j, nigh_err *err) {
    if (!j->o.checkpoint || !nigh_file_exists(j->o.checkpoint)) {
        if (j->o.from) return begin_from(j, err);
        if (nigh_state_new(&j->state, &j->recipe, j->bpe) != NIGH_OK)
            return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory for the model");
        return NIGH_OK;
    }
    NIGH_TRY(nigh_state_load(&j->state, j->o.checkpoint, err));
    nigh_recipe had = j->state.recipe;
    had.steps = j->recipe.steps, had.decay = j->recipe.decay;
    const nigh_recipe *want = &j->recipe;
    bool same = memcmp(&had.shape, &want->shape, sizeof had.shape) == 0 && had.batch == want->batch
        && had.warmup == want->warmup
        && had.seed == want->seed && had.rate <= want->rate && had.rate >= want->rate;
    if (!same) return nigh_failf(err, NIGH_EINVAL, 0,
        "%s was made with other options; give the same ones, or another --checkpoint", j->o.checkpoint);
    if (!same_vocabulary(j))
        return nigh_failf(err, NIGH_EINVAL, 0,
            "%s was made from other text; give the same text, or another --checkpoint", j->o.checkpoint);
    const nigh_recipe *old = &j->state.recipe;
    uint64_t decay_begins = old->steps - old->decay < want->steps - want->decay ? old->steps - old->decay
        : want->steps - want->decay;
    if (j->state.step > decay_begins && (old->steps != want->steps || old->decay != want->decay))
        return nigh_failf(err, NIGH_EINVAL, 0,
            "%s is past the step where the decay begins; --steps and --decay cannot change any more",
            j->o.checkpoint);
    j->state.recipe = j->recipe;
    fprintf(stderr, "continues %s at step %llu\n", j->o.checkpoint, (unsigned long long)j->state.step);
    return NIGH_OK;
}

static double held_loss(job *j, size_t windows, bool print) {
    double nats = 0, tokens = 0;
    for (size_t s = 0; s < j->feed.source_count; s++) {
        nigh_held h = nigh_trainer_held(j->trainer, &j->state, s, windows);
        nats += h.nats, tokens += (double)h.tokens;
        if (!print || h.tokens == 0) continue;
        double bytes = (double)j->feed.held[s].bytes / (double)j->feed.held[s].count,
            loss = h.nats / (double)h.tokens;
        fprintf(stderr, "  held out, %s: loss %.4f, %.4f bits a byte (%zu tokens)\n",
            j->corpus.sources[s].path, loss, loss / bytes / 0.6931471805599453, h.tokens);
    }
    return tokens > 0 ? nats / tokens : 0;
}

static void show(job *j, uint64_t now) {
    const nigh_state *s = &j->state;
    uint64_t done = s->step - j->first_step, left = j->recipe.steps - s->step;
    double seconds = (double)(now - j->started_ns) * 1e-9, per_step = seconds / (double)nigh_max(done, 1);
    double rate = (double)j->recipe.batch * j->recipe.shape.window / per_step;
    long eta = (long)((double)left * per_step);
    fprintf(stderr, "%sstep %llu of %llu (%.0f %%), loss %.3f, held out %.3f, %.0f tokens/s, %ld:%02ld left%s",
        j->terminal ? "\r" : "",
        (unsigned long long)s->step, (unsigned long long)j->recipe.steps,
            100.0 * (double)s->step / (double)j->recipe.steps, s->recent, j->held_loss,
        rate, eta / 60, eta % 60, j->terminal ? "   " : "\n");
    fflush(stderr);
    j->shown_ns = now;
}

static nigh_status save(job *j, nigh_err *err) {
    j->saved_ns = nigh_os_now_ns();
    return j->o.checkpoint ? nigh_state_save(&j->state, j->o.checkpoint, err) : NIGH_OK;
}

static nigh_status run_steps(job *j, nigh_err *err) {
    j->started_ns = j->saved_ns = nigh_os_now_ns();
    j->first_step = j->state.step;
    if (nigh_cli_stopped()) return nigh_fail(err, NIGH_ECANCEL, 0, "stopped before the first step");
    j->held_loss = held_loss(j, 32, false);
    while (j->state.step < j->recipe.steps) {
        nigh_trainer_step(j->trainer, &j->state);
        if (j->state.step % (uint64_t)j->o.eval_every == 0) j->held_loss = held_loss(j, 32, false);
        uint64_t now = nigh_os_now_ns();
        if (now - j->shown_ns > (j->terminal ? 500000000u : 15000000000u) || j->state.step == j->recipe.steps)
            show(j, now);
        if (nigh_cli_stopped()) {
            NIGH_TRY(save(j, err));
            if (j->o.checkpoint)
                return nigh_failf(err, NIGH_ECANCEL, 0, "stopped after step %llu; the same command continues",
                    (unsigned long long)j->state.step);
            return nigh_fail(err, NIGH_ECANCEL, 0,
                "stopped; nothing was kept (give --checkpoint FILE to be able to continue)");
        }
        if ((int64_t)((now - j->saved_ns) / 1000000000u) >= j->o.save_every) NIGH_TRY(save(j, err));
    }
    if (j->terminal) fputc('\n', stderr);
    return save(j, err);
}

static nigh_status write_model(const job *j, nigh_err *err) {
    nigh_buf file = NIGH_BUF(SIZE_MAX / 2);
    nigh_export_opts o = { .name = j->o.name, .license = j->o.license, .about = j->o.about };
    if (!j->o.out) return NIGH_OK;
    (void)nigh_type_parse(nigh_str_of(j->o.type), &o.type);     /* checked at the start */
    nigh_status status = nigh_export(&j->state, o, &file, err);
    if (status == NIGH_OK) status = nigh_file_write(j->o.out, nigh_buf_str(&file), err);
    if (status == NIGH_OK)
        fprintf(stderr, "wrote %s: %.2f MB, %s, step %llu\n", j->o.out, (double)file.len / 1e6,
            nigh_type_name((uint32_t)o.type), (unsigned long long)j->state.step);
    nigh_buf_release(&file);
    return status;
}

/* Without text: the model of a checkpoint as it stands. */
static nigh_status write_checkpoint(job *j, nigh_err *err) {
    if (!j->o.checkpoint || !j->o.out)
        return nigh_fail(err, NIGH_EINVAL, 0,
            "no text given (or, to write the model of a checkpoint: --checkpoint and --out)");
    NIGH_TRY(nigh_state_load(&j->state, j->o.checkpoint, err));
    return write_model(j, err);
}

static nigh_status learn(job *j, int argc, char **argv, nigh_err *err) {
    j->terminal = isatty(2);
    nigh_cli_catch_signals();
    j->bpe = nigh_bpe_new();
    j->pool = nigh_pool_new(nigh_min(j->o.threads ? (size_t)j->o.threads : nigh_os_cpu_count(),
        NIGH_TRAIN_LANES));
    if (!j->bpe || !j->pool) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory");
    set_recipe(j);
    NIGH_TRY(nigh_recipe_check(&j->recipe, err));
    if (j->o.from) NIGH_TRY(take_vocabulary(j, err));
    NIGH_TRY(read_text(j, argc, argv, err));
    NIGH_TRY(begin_state(j, err));
    nigh_gemm_kind kind = nigh_gemm_best(j->o.exact);
    j->trainer = nigh_trainer_new(&j->recipe, &j->feed, j->pool, nigh_gemm_find(kind));
    if (!j->trainer) return nigh_fail(err, NIGH_ENOMEM, 0, "not enough memory to train a model of this size");
    fprintf(stderr, "model: %zu parameters; %zu threads; products in %s\n", j->state.count,
        nigh_pool_size(j->pool), nigh_gemm_name(kind));
    NIGH_TRY(run_steps(j, err));
    fprintf(stderr, "held-out loss %.4f\n", held_loss(j, 0, true));
    return write_model(j, err);
}

static void release(job *j) {
    nigh_state_release(&j->state);
    nigh_trainer_free(j->trainer);
    nigh_pool_free(j->pool);
    nigh_feed_release(&j->feed);
    nigh_bpe_free(j->bpe);
    nigh_corpus_release(&j->corpus);
}

static nigh_status run(int argc, char **argv, nigh_err *err) {
    job j = { .o = { .vocab = 4096, .dim = 256, .layers = 6, .heads = 8, .kv_heads = 4, .ff = 512,
        .context = 512, .batch = 16, .steps = 2000,
        .warmup = 100, .decay = 600, .seed = 1, .held = 10, .eval_every = 50, .save_every = 60, .rate = 3e-3,
            .type = "q8_0", .name = "nigh model", .license = "", .about = "" } };
    options *o = &j.o;
    const nigh_opt opts[] = {
        { "out", 'o', NIGH_OPT_TEXT, &o->out, 0, 0 }, { "from", 0, NIGH_OPT_TEXT, &o->from, 0, 0 },
        { "checkpoint", 0, NIGH_OPT_TEXT, &o->checkpoint, 0, 0 },
            { "type", 0, NIGH_OPT_TEXT, &o->type, 0, 0 },
        { "name", 0, NIGH_OPT_TEXT, &o->name, 0, 0 }, { "license", 0, NIGH_OPT_TEXT, &o->license, 0, 0 },
            { "about", 0, NIGH_OPT_TEXT, &o->about, 0, 0 },
        { "vocab", 0, NIGH_OPT_INT, &o->vocab, 260, 65535 }, { "dim", 0, NIGH_OPT_INT, &o->dim, 32, 4096 },
            { "layers", 0, NIGH_OPT_INT, &o->layers, 1, 128 },
        { "heads", 0, NIGH_OPT_INT, &o->heads, 1, 256 }, { "kv-heads", 0, NIGH_OPT_INT, &o->kv_heads, 1, 256 },
            { "ff", 0, NIGH_OPT_INT, &o->ff, 32, 16384 },
        { "context", 'c', NIGH_OPT_INT, &o->context, 2, 8192 },
            { "batch", 'b', NIGH_OPT_INT, &o->batch, 8, 4096 },
            { "steps", 'n', NIGH_OPT_INT, &o->steps, 1, 100000000 },
        { "warmup", 0, NIGH_OPT_INT, &o->warmup, 0, 1000000 },
            { "decay", 0, NIGH_OPT_INT, &o->decay, 0, 100000000 },
            { "rate", 0, NIGH_OPT_FLOAT, &o->rate, 0, 0 },
        { "seed", 's', NIGH_OPT_INT, &o->seed, 0, 0 }, { "threads", 't', NIGH_OPT_INT, &o->threads, 0, 256 },
            { "held-out", 0, NIGH_OPT_INT, &o->held, 0, 500 },
        { "eval-every", 0, NIGH_OPT_INT, &o->eval_every, 1, 1000000 },
            { "save-every", 0, NIGH_OPT_INT, &o->save_every, 1, 1000000 },
            { "exact", 0, NIGH_OPT_FLAG, &o->exact, 0, 0 } };
    NIGH_TRY(nigh_opts_read(opts, NIGH_COUNT(opts), &argc, argv, err));
    nigh_type type;
    bool writable = nigh_type_parse(nigh_str_of(o->type), &type)
        && (type == NIGH_TYPE_F32 || type == NIGH_TYPE_F16 || type == NIGH_TYPE_BF16 || type == NIGH_TYPE_Q8_0
        || type == NIGH_TYPE_Q4_0);
    if (!writable) return nigh_failf(err, NIGH_EINVAL, 0,
        "--type must be f32, f16, bf16, q8_0 or q4_0, not '%s'", o->type);
    nigh_status status = argc == 0 ? write_checkpoint(&j, err) : learn(&j, argc, argv, err);
    release(&j);
    return status;
}

static const char help[] =
    "usage: nigh learn PATH... [OPTIONS]        text in, a model out\n"
    "\n"
    "PATH is a .txt or .md file or a folder of them, UTF-8. A form feed separates\n"
    "documents; a line is a paragraph. PATH@2 uses its text twice as often as its\n"
    "length would; PATH@2,6 six times as often in the decay at the end. Repeated text\n"
    "is removed; then about 1 document in 100 is held out to measure the loss.\n"
    "\n"
    "  -o, --out FILE.gguf     the model; written when the run is done\n"
    "      --checkpoint FILE   saved every minute and at Ctrl-C; the same command\n"
    "                          continues from it, to the same bits\n"
    "      --from CHECKPOINT   another round: begins with the weights and vocabulary\n"
    "                          of a run\n"
    "      --type T            q8_0 (default), q4_0, f16, bf16, f32\n"
    "      --name, --license, --about TEXT     stored in the model\n"
    "  -n, --steps N           2000; of these\n"
    "      --warmup N          100 in which the learning rate rises, and\n"
    "      --decay N           600 at the end in which it falls; --steps and --decay\n"
    "                          may change until it begins\n"
    "      --rate R            0.003, the highest learning rate\n"
    "  -b, --batch N           16 windows a step, a multiple of 8\n"
    "  -c, --context N         512 tokens a window; the model's context\n"
    "      --vocab N           4096 tokens, the three special ones and 256 bytes\n"
    "                          included\n"
    "      --dim N, --layers N, --heads N, --kv-heads N, --ff N\n"
    "                          the model: 256, 6, 8, 4 and 512; widths are multiples\n"
    "                          of 32\n"
    "  -s, --seed N            1\n"
    "      --held-out N        10 documents in 1,000\n"
    "      --eval-every N      50 steps; --save-every N: 60 seconds\n"
    "      --exact             products in f32 even where bf16 is faster\n"
    "  -t, --threads N         as many as there are cores, at most 8; the result does\n"
    "                          not depend on it\n"
    "\n"
    "examples:\n"
    "  nigh learn notes/ --out notes.gguf --checkpoint notes.ckpt\n"
    "  nigh learn stories@4,12 books@1,0.25 --steps 2200 --out tales.gguf\n"
    "  nigh learn poems.txt --dim 128 --layers 4 --heads 4 --kv-heads 2 --ff 256 \\\n"
    "      --vocab 1024 -n 700 -o small.gguf\n"
    "  nigh learn --checkpoint notes.ckpt --out now.gguf --type f32   # as it stands\n";

const nigh_command nigh_command_learn = { "learn", "train a small model from text files", help, run };
