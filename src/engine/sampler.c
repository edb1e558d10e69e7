/* sampler.c - one token out of a row of logits; see sampler.h.
 *
 * Greedy without bias and penalties reads the row once and touches nothing else. Otherwise the row is
 * copied, changed, and what can still be drawn stands in `kept`, always in the order of ids:
 *
 *     logits --copy--> row [vocab] --bias, penalties--> row --not "never"--> kept {value, id, mass} [count]
 *     kept --top-k--> kept --min-p--> kept --top-p--> kept --temperature, draw--> id
 *
 * No list is ever sorted. A cut "the k largest" or "the largest until their mass is p" needs only the
 * value at which it ends; that is found digit by digit (11, 11, 10 bits, from the top) over order-keeping
 * integers of the floats. So the time is linear in the vocabulary for every row, also for hostile ones.
 *
 * Masses are fixed-point integers, e^(logit - largest) in units of 2^-40. Sums of integers do not depend on
 * their order, so a cut and a draw are exactly defined: a row, a seed and a step number give one token on
 * every machine. 2^23 tokens of mass 1 still fit into 63 bits. What is below 2^-40 of the most
 * likely token is never drawn.
 *
 * The generator is a counter: draw n of seed s is a mix of (s, n), with no state that could be lost. */
#include <float.h>

#include "engine/sampler.h"
#include "kernel/math.h"

enum { REPEAT_LAST_DEFAULT = 64, REPEAT_LAST_MAX = 1 << 20, VOCAB_MAX = 1 << 23, LANES = 16 };
enum { DIGIT_BITS = 11, DIGITS = 1 << DIGIT_BITS };
#define NEVER (-__builtin_inff())
#define BIAS_LIMIT 100.0f
#define MASSLESS 28.0f          /* e^-28 < 2^-40: what is so far below the largest has no mass */

typedef struct { float *value; int32_t *id; float *mass; size_t count; } kept_list;

struct nigh_sampler {
    nigh_sampler_opts o;
    size_t vocab;
    uint64_t step;              /* draws so far */
    float *row;                 /* [vocab] the changed logits; NULL when plain greedy */
    kept_list kept;             /* arrays of [vocab]; value is `row` itself, moved together */
    int32_t *last;              /* ring of the last tokens, [o.repeat_last]; NULL without penalties */
    size_t last_count, last_at; /* tokens in the ring; where the next one goes */
    uint32_t *uses;             /* [vocab] how often each id stands in the ring */
    uint64_t *digits;           /* [DIGITS] */
};

/* ---- life ---- */

static nigh_status check_range(float v, float min, float max, const char *name, nigh_err *err) {
    if (v >= min && v <= max) return NIGH_OK;
    return nigh_failf(err, NIGH_EINVAL, 0, "%s must lie in %.0f..%.0f", name, (double)min, (double)max);
}

static nigh_status check_opts(const nigh_sampler_opts *o, size_t vocab, nigh_err *err) {
    NIGH_TRY(check_range(o->temperature, 0, 100, "temperature", err));
    NIGH_TRY(check_range(o->top_p, 0, 1, "top_p", err));
    NIGH_TRY(check_range(o->min_p, 0, 1, "min_p", err));
    NIGH_TRY(check_range(o->repeat_penalty, 0, 10, "repeat_penalty", err));
    NIGH_TRY(check_range(o->frequency_penalty, -2, 2, "frequency_penalty", err));
    NIGH_TRY(check_range(o->presence_penalty, -2, 2, "presence_penalty", err));
    if (o->repeat_last > REPEAT_LAST_MAX)
        return nigh_failf(err, NIGH_EINVAL, 0, "repeat_last must lie in 0..%d", REPEAT_LAST_MAX);
    for (size_t i = 0; i < o->bias_count; i++) {
        int32_t id = o->bias[i].id;
        if (id < 0 || (size_t)id >= vocab)
            return nigh_failf(err, NIGH_EINVAL, 0, "logit_bias names token %d; the tokens are 0..%zu", (int)id,
                              vocab - 1);
        if (o->bias[i].bias != o->bias[i].bias)
            return nigh_failf(err, NIGH_EINVAL, 0, "logit_bias of token %d is not a number", (int)id);
    }
    return NIGH_OK;
}

static bool has_penalty(const nigh_sampler_opts *o) {
    return (o->repeat_penalty != 0 && o->repeat_penalty != 1) || o->frequency_penalty != 0 || o->presence_penalty != 0;
}

nigh_status nigh_sampler_new(nigh_sampler **out, nigh_sampler_opts o, size_t vocab, nigh_err *err) {
    assert(vocab >= 1 && vocab <= VOCAB_MAX);
    *out = NULL;
    NIGH_TRY(check_opts(&o, vocab, err));
    if (o.repeat_last == 0) o.repeat_last = REPEAT_LAST_DEFAULT;
    bool penalty = has_penalty(&o), draws = o.temperature > 0, changes = penalty || o.bias_count || draws;
    nigh_sampler *s = nigh_alloc(1, sizeof *s);
    if (!s) return nigh_fail(err, NIGH_ENOMEM, 0, "no memory for a sampler");
    s->o = o;
    s->vocab = vocab;
    if (changes) s->row = nigh_alloc(vocab, sizeof *s->row);
    if (draws) {
        s->kept = (kept_list){ s->row, nigh_alloc(vocab, sizeof(int32_t)), nigh_alloc(vocab, sizeof(float)), 0 };
        s->digits = nigh_alloc(DIGITS, sizeof *s->digits);
    }
    if (penalty) {
        s->last = nigh_alloc(o.repeat_last, sizeof *s->last);
        s->uses = nigh_alloc(vocab, sizeof *s->uses);
    }
    bool whole = (!changes || s->row) && (!draws || (s->kept.id && s->kept.mass && s->digits))
                 && (!penalty || (s->last && s->uses));
    if (!whole) {
        nigh_sampler_free(s);
        return nigh_failf(err, NIGH_ENOMEM, 0, "no memory for a sampler over %zu tokens", vocab);
    }
    *out = s;
    return NIGH_OK;
}

void nigh_sampler_free(nigh_sampler *s) {
    if (!s) return;
    nigh_free(s->row);
    nigh_free(s->kept.id);
    nigh_free(s->kept.mass);
    nigh_free(s->digits);
    nigh_free(s->last);
    nigh_free(s->uses);
    nigh_free(s);
}

void nigh_sampler_accept(nigh_sampler *s, int32_t id) {
    if (!s->last || id < 0 || (size_t)id >= s->vocab) return;
    if (s->last_count == s->o.repeat_last) s->uses[s->last[s->last_at]]--;
    else s->last_count++;
    s->last[s->last_at] = id;
    s->last_at = (s->last_at + 1) % s->o.repeat_last;
    s->uses[id]++;
}

/* ---- the largest value ---- */

/* The largest of a row; NEVER when nothing is larger. In LANES parts, which a compiler can run at once: the result of
 * taking maxima does not depend on their order. NaN is never larger. */
static float largest(const float *x, size_t count) {
    float lane[LANES], max = NEVER;
    for (size_t j = 0; j < LANES; j++) lane[j] = NEVER;
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (size_t j = 0; j < LANES; j++) lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
    for (; i < count; i++) max = x[i] > max ? x[i] : max;
    for (size_t j = 0; j < LANES; j++) max = lane[j] > max ? lane[j] : max;
    return max;
}

/* The lowest id of the largest value; 0 when every value is "never". */
static int32_t pick_largest(const float *x, size_t count) {
    float max = largest(x, count);
    for (size_t i = 0; i < count; i++) if (x[i] == max) return (int32_t)i;
    return 0;
}

/* ---- bias and penalties, in `row` ---- */

static void add_bias(nigh_sampler *s, const float *logits) {
    bool always = false;
    for (size_t i = 0; i < s->o.bias_count; i++) {
        const nigh_logit_bias *b = &s->o.bias[i];
        if (b->bias >= BIAS_LIMIT) always = true;
        s->row[b->id] = b->bias <= -BIAS_LIMIT ? NEVER : s->row[b->id] + b->bias;
    }
    if (!always) return;
    for (size_t i = 0; i < s->vocab; i++) s->row[i] = NEVER;
    for (size_t i = 0; i < s->o.bias_count; i++) {
        const nigh_logit_bias *b = &s->o.bias[i];
        if (b->bias >= BIAS_LIMIT) s->row[b->id] = logits[b->id];
    }
}

/* Once for each id in the ring: `uses` is marked while its other occurrences pass by. */
static void add_penalties(nigh_sampler *s) {
    const uint32_t done = (uint32_t)1 << 31;
    float repeat = s->o.repeat_penalty == 0 ? 1 : s->o.repeat_penalty;
    for (size_t i = 0; i < s->last_count; i++) {
        int32_t id = s->last[i];
        float *v = &s->row[id];
        if (s->uses[id] & done) continue;
        *v = *v > 0 ? *v / repeat : *v * repeat;
        *v -= (float)s->uses[id] * s->o.frequency_penalty + s->o.presence_penalty;
        s->uses[id] |= done;
    }
    for (size_t i = 0; i < s->last_count; i++) s->uses[s->last[i]] &= ~done;
}

/* ---- cuts ---- */

/* Floats in the order of unsigned integers. Neither NaN nor -0 comes here. */
static inline uint32_t order_of(float v) {
    uint32_t bits = nigh_bits32(v);
    return bits >> 31 ? ~bits : bits | 0x80000000u;
}

/* e^x in units of 2^-40, for x <= 0. */
static inline uint64_t fixed_of(float mass) { return (uint64_t)(int64_t)(mass * 0x1p40f); }

/* The value at which the largest, taken together, reach `want`; *above: what stands over that value. */
static uint32_t find_cut(const nigh_sampler *s, const kept_list *k, uint64_t want, bool by_mass, uint64_t *above) {
    uint32_t found = 0;
    *above = 0;
    for (int low = 21; ; low = low == 21 ? 10 : 0) {
        unsigned bits = low ? DIGIT_BITS : 10, high = (unsigned)low + bits;
        memset(s->digits, 0, DIGITS * sizeof *s->digits);
        for (size_t i = 0; i < k->count; i++) {
            uint32_t order = order_of(k->value[i]);
            if ((uint64_t)order >> high != found) continue;
            s->digits[order >> low & ((1u << bits) - 1)] += by_mass ? fixed_of(k->mass[i]) : 1;
        }
        uint32_t digit = (1u << bits) - 1;
        for (; digit > 0 && *above + s->digits[digit] < want; digit--) *above += s->digits[digit];
        found = found << bits | digit;
        if (low == 0) return found;
    }
}

/* Keeps the largest (ties: lower ids) until together they are `want`: so many, or so much mass. */
static void cut_top(nigh_sampler *s, uint64_t want, bool by_mass) {
    kept_list *k = &s->kept;
    uint64_t sum;
    uint32_t cut = find_cut(s, k, want, by_mass, &sum);
    size_t n = 0;
    for (size_t i = 0; i < k->count; i++) {
        uint32_t order = order_of(k->value[i]);
        if (order < cut || (order == cut && sum >= want)) continue;
        if (order == cut) sum += by_mass ? fixed_of(k->mass[i]) : 1;
        k->value[n] = k->value[i];
        k->id[n] = k->id[i];
        k->mass[n++] = k->mass[i];
    }
    k->count = n;
}

static void cut_min_p(nigh_sampler *s) {
    kept_list *k = &s->kept;
    size_t n = 0;
    for (size_t i = 0; i < k->count; i++) {
        if (k->mass[i] < s->o.min_p) continue;
        k->value[n] = k->value[i];
        k->id[n] = k->id[i];
        k->mass[n++] = k->mass[i];
    }
    k->count = n;
}

/* mass = e^((value - max) / temperature); returns the sum. */
static uint64_t weigh(kept_list *k, float max, float temperature) {
    uint64_t sum = 0;
    for (size_t i = 0; i < k->count; i++) k->mass[i] = nigh_expf((k->value[i] - max) / temperature);
    for (size_t i = 0; i < k->count; i++) sum += fixed_of(k->mass[i]);
    return sum;
}

static uint64_t mass_sum(const kept_list *k) {
    uint64_t sum = 0;
    for (size_t i = 0; i < k->count; i++) sum += fixed_of(k->mass[i]);
    return sum;
}

/* A value that at least top_k tokens reach, found by a quick look, so that most of the row need not be sorted out: of
 * every 512 values the largest of each lane; the top_k-th largest of these maxima. NEVER when there are too few of
 * them. */
static float floor_of_top(nigh_sampler *s) {
    enum { STRETCH = 32 * LANES };
    kept_list maxima = { .value = s->kept.mass };       /* not in use yet */
    uint64_t above;
    if (s->o.top_k == 0 || s->o.top_k > s->vocab / STRETCH * LANES) return NEVER;
    for (size_t at = 0; at + STRETCH <= s->vocab; at += STRETCH) {
        float *lane = maxima.value + maxima.count;
        for (size_t j = 0; j < LANES; j++) lane[j] = NEVER;
        for (size_t i = at; i < at + STRETCH; i += LANES)
            for (size_t j = 0; j < LANES; j++) lane[j] = s->row[i + j] > lane[j] ? s->row[i + j] : lane[j];
        maxima.count += LANES;
    }
    for (size_t i = 0; i < maxima.count; i++) maxima.value[i] += 0.0f;      /* -0 becomes +0 */
    uint32_t order = find_cut(s, &maxima, s->o.top_k, false, &above);
    return nigh_float_of(order >> 31 ? order & 0x7fffffffu : ~order);
}

/* What can be drawn, from `row` into `kept` (value is the same memory: it only moves forward): every value that reaches
 * `floor` and is not "never". */
static void keep_possible(nigh_sampler *s, float floor) {
    kept_list *k = &s->kept;
    k->count = 0;
    for (size_t i = 0; i < s->vocab; i++) {
        float v = s->row[i];
        if (!(v >= floor && v > NEVER)) continue;
        k->id[k->count] = (int32_t)i;
        k->value[k->count++] = (v > FLT_MAX ? FLT_MAX : v) + 0.0f;     /* -0 becomes +0: they are equal */
    }
}

/* ---- the draw ---- */

static uint64_t mix(uint64_t z) { /* the finaliser of splitmix64, Vigna 2015 */
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static uint64_t random_at(uint64_t seed, uint64_t step) {
    return mix(mix(seed + 0x9e3779b97f4a7c15u) + (step + 1) * 0x9e3779b97f4a7c15u);
}

/* The upper half of a 64 x 64 bit product: maps random bits evenly to 0..b-1. */
static uint64_t mul_high(uint64_t a, uint64_t b) {
    uint64_t al = a & 0xffffffffu, ah = a >> 32, bl = b & 0xffffffffu, bh = b >> 32;
    uint64_t mid = ah * bl + (al * bl >> 32), mid2 = al * bh + (mid & 0xffffffffu);
    return ah * bh + (mid >> 32) + (mid2 >> 32);
}

static int32_t draw(nigh_sampler *s, uint64_t sum) {
    const kept_list *k = &s->kept;
    uint64_t at = mul_high(random_at(s->o.seed, s->step++), sum);
    for (size_t i = 0; i < k->count; i++) {
        uint64_t m = fixed_of(k->mass[i]);
        if (at < m) return k->id[i];
        at -= m;
    }
    return k->id[0];            /* not reached: at < sum */
}

int32_t nigh_sampler_pick(nigh_sampler *s, const float *logits) {
    const nigh_sampler_opts *o = &s->o;
    if (!s->row) return pick_largest(logits, s->vocab);
    memcpy(s->row, logits, s->vocab * sizeof *logits);
    if (o->bias_count) add_bias(s, logits);
    if (s->last) add_penalties(s);
    if (o->temperature == 0) return pick_largest(s->row, s->vocab);

    float max = largest(s->row, s->vocab);
    if (!(max > NEVER)) return pick_largest(logits, s->vocab);
    if (max > FLT_MAX) max = FLT_MAX;
    float top = floor_of_top(s), massive = max - MASSLESS * (o->temperature > 1 ? o->temperature : 1);
    keep_possible(s, top > massive ? top : massive);
    if (o->top_k && o->top_k < s->kept.count) cut_top(s, o->top_k, false);
    if (o->min_p > 0 || (o->top_p > 0 && o->top_p < 1)) weigh(&s->kept, max, 1.0f);
    if (o->min_p > 0) cut_min_p(s);
    if (o->top_p > 0 && o->top_p < 1) {
        uint64_t want = (uint64_t)(int64_t)((double)o->top_p * (double)mass_sum(&s->kept));
        cut_top(s, want ? want : 1, true);
    }
    return draw(s, weigh(&s->kept, max, o->temperature));
}

/* ---- log-probabilities ---- */

/* ln of the sum of e^x, in double, in the order of ids. */
static double log_sum_exp(const float *x, size_t count, float max) {
    float part[256];
    double sum = 0;
    for (size_t at = 0; at < count; at += NIGH_COUNT(part)) {
        size_t n = nigh_min(NIGH_COUNT(part), count - at);
        for (size_t i = 0; i < n; i++) part[i] = nigh_expf(x[at + i] - max);
        for (size_t i = 0; i < n; i++) sum += part[i] == part[i] ? (double)part[i] : 0.0;
    }
    return (double)max + nigh_log64(sum);
}

void nigh_logprobs(const float *logits, size_t vocab, int32_t id, float *of_id, nigh_logprob *top, size_t count) {
    float max = largest(logits, vocab);
    if (max > FLT_MAX) max = FLT_MAX;
    double total = max > NEVER ? log_sum_exp(logits, vocab, max) : 0;
    size_t filled = 0;
    if (of_id)
        *of_id = id >= 0 && (size_t)id < vocab && logits[id] > NEVER ? (float)((double)logits[id] - total) : NEVER;
    for (size_t i = 0; i < vocab && count; i++) {
        float v = logits[i];
        if (!(v > NEVER) || (filled == count && !(v > top[count - 1].logprob))) continue;
        size_t at = filled < count ? filled++ : count - 1;
        for (; at > 0 && v > top[at - 1].logprob; at--) top[at] = top[at - 1];
        top[at] = (nigh_logprob){ (int32_t)i, v };
    }
    for (size_t i = 0; i < filled; i++) top[i].logprob = (float)((double)top[i].logprob - total);
    for (size_t i = filled; i < count; i++) top[i] = (nigh_logprob){ -1, NEVER };
}
