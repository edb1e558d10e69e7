/* template_run.c - walks the tree of a template and writes its output.
 *
 * Statements and expressions call each other; how deep is counted (NIGH_TEMPLATE_STACK_MAX), how often is counted
 * (NIGH_TEMPLATE_STEPS_MAX), and all memory comes from one limited pool. Names are looked up in a chain of small
 * lists:
 *
 *   loop body -> ... -> macro call -> the template's own names -> given values
 *
 * `set` writes into the innermost list, which is why a name set in a loop is gone behind it; namespaces are the way
 * out. */
#include "engine/template_ast.h"

typedef struct var var;
struct var { nigh_str name; nigh_tval value; var *next; };
struct nigh_tenv { nigh_tenv *parent; var *vars; };

static nigh_status eval(nigh_trun *r, const nigh_tnode *n, nigh_tval *out);
static nigh_status exec(nigh_trun *r, const nigh_tnode *body);

static nigh_status enter(nigh_trun *r, const nigh_tnode *n) {
    r->at = n->at;
    if (r->depth++ >= NIGH_TEMPLATE_STACK_MAX)
        return nigh_trun_fail(r, NIGH_ERANGE, "more than %d steps inside one another", NIGH_TEMPLATE_STACK_MAX);
    return nigh_trun_spend(r, 0);
}

/* ---- names ---- */
static nigh_status set_name(nigh_trun *r, nigh_tenv *env, nigh_str name, const nigh_tval *v) {
    var *x;
    size_t seen = 0;
    for (x = env->vars; x; x = x->next, seen++)
        if (nigh_str_eq(x->name, name)) {
            x->value = *v;
            return nigh_trun_spend(r, 4 * seen);
        }
    NIGH_TRY(nigh_trun_take(r, sizeof *x, 1, &x));
    *x = (var){ name, *v, env->vars };
    env->vars = x;
    return nigh_trun_spend(r, 4 * seen);
}

static nigh_status get_name(nigh_trun *r, nigh_str name, nigh_tval *out) {
    size_t seen = 0;
    for (const nigh_tenv *env = r->env; env; env = env->parent)
        for (const var *x = env->vars; x; x = x->next, seen++)
            if (nigh_str_eq(x->name, name)) { *out = x->value; return nigh_trun_spend(r, 4 * seen); }
    int func = nigh_tfunc_find(name);
    *out = func < 0 ? (nigh_tval){ 0 } : (nigh_tval){ .kind = TV_FUNC, .as.func = func };
    return nigh_trun_spend(r, 4 * seen);
}

static nigh_status push_env(nigh_trun *r, nigh_tenv *parent) {
    nigh_tenv *env;
    NIGH_TRY(nigh_trun_take(r, sizeof *env, 1, &env));
    env->parent = parent;
    r->env = env;
    return NIGH_OK;
}

/* ---- operators ---- */
static nigh_status no_operator(nigh_trun *r, const char *sign, const nigh_tval *a, const nigh_tval *b) {
    return nigh_trun_fail(
        r, NIGH_EINVAL, "'%s' does not work for %s and %s", sign, nigh_tval_kind(a), nigh_tval_kind(b));
}

static nigh_status join_lists(nigh_trun *r, const nigh_tval *a, const nigh_tval *b, nigh_tval *out) {
    NIGH_TRY(nigh_tlist_new(r, a->as.list->count + b->as.list->count, a->user || b->user, out));
    for (size_t i = 0; i < a->as.list->count; i++) NIGH_TRY(nigh_tlist_add(r, out, &a->as.list->items[i]));
    for (size_t i = 0; i < b->as.list->count; i++) NIGH_TRY(nigh_tlist_add(r, out, &b->as.list->items[i]));
    return NIGH_OK;
}

static nigh_status repeat(nigh_trun *r, const nigh_tval *text, int64_t times, nigh_tval *out) {
    nigh_tsink s = nigh_tsink_of(NIGH_TEMPLATE_OUTPUT_MAX);
    nigh_status status = NIGH_OK;
    for (int64_t i = 0; i < times && text->len && status == NIGH_OK; i++) status = nigh_tsink_add(r, &s, text);
    if (status == NIGH_OK) return nigh_tsink_take(r, &s, out);
    nigh_tsink_release(&s);
    return status;
}

static nigh_status too_large(nigh_trun *r) { return nigh_trun_fail(r, NIGH_ERANGE, "a number is too large"); }

static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

static nigh_status power(nigh_trun *r, int64_t base, int64_t exponent, int64_t *out) {
    *out = 1;
    if (exponent < 0) return nigh_trun_fail(r, NIGH_ENOSUP, "powers below zero are not supported");
    for (int64_t i = 0; i < exponent && base != 1 && !(base == 0 && i); i++) {
        if (base == -1) { *out = exponent % 2 ? -1 : 1; return NIGH_OK; }
        if (base && (*out > INT64_MAX / (base < 0 ? -base : base) || *out < INT64_MIN / (base < 0 ? -base : base)))
            return too_large(r);
        *out *= base;
    }
    return NIGH_OK;
}

/* Whole numbers; |values| stay under 2^62, so that no operation can overflow. */
static nigh_status whole(nigh_trun *r, nigh_top op, int64_t a, int64_t b, int64_t *out) {
    static const int64_t most = (int64_t)1 << 62;
    if (a >= most || a <= -most || b >= most || b <= -most) return too_large(r);
    switch (op) {
    case TO_ADD: *out = a + b; break;
    case TO_SUB: *out = a - b; break;
    case TO_MUL:
        if (a && (b > most / (a < 0 ? -a : a) || b < -(most / (a < 0 ? -a : a)))) return too_large(r);
        *out = a * b;
        break;
    case TO_POW: return power(r, a, b, out);
    default:
        if (b == 0) return nigh_trun_fail(r, NIGH_EINVAL, "division by zero");
        *out = op == TO_FLOOR ? floor_div(a, b) : a - floor_div(a, b) * b;
    }
    return NIGH_OK;
}

static nigh_status real(nigh_trun *r, nigh_top op, double a, double b, double *out) {
    switch (op) {
    case TO_ADD: *out = a + b; return NIGH_OK;
    case TO_SUB: *out = a - b; return NIGH_OK;
    case TO_MUL: *out = a * b; return NIGH_OK;
    case TO_DIV:
        if (b == 0) return nigh_trun_fail(r, NIGH_EINVAL, "division by zero");
        *out = a / b;
        return NIGH_OK;
    default: return nigh_trun_fail(r, NIGH_ENOSUP, "this operator is not supported for broken numbers");
    }
}

static nigh_status arithmetic(nigh_trun *r, nigh_top op, const nigh_tval *a, const nigh_tval *b, nigh_tval *out) {
    static const char *const signs[] = { [TO_ADD] = "+",
        [TO_SUB] = "-",
        [TO_MUL] = "*",
        [TO_DIV] = "/",
        [TO_FLOOR] = "//",
        [TO_MOD] = "%",
        [TO_POW] = "**" };
    bool user = a->user || b->user;
    if (op == TO_ADD && a->kind == TV_LIST && b->kind == TV_LIST) return join_lists(r, a, b, out);
    if (op == TO_MUL && a->kind == TV_TEXT && b->kind == TV_INT) return repeat(r, a, b->as.integer, out);
    if (op == TO_MUL && a->kind == TV_INT && b->kind == TV_TEXT) return repeat(r, b, a->as.integer, out);
    if (op == TO_MOD && a->kind == TV_TEXT) return nigh_trun_fail(r, NIGH_ENOSUP, "'%%' on a text is not supported");
    if (!nigh_tval_number(a) || !nigh_tval_number(b)) return no_operator(r, signs[op], a, b);
    if (op == TO_DIV || a->kind == TV_FLOAT || b->kind == TV_FLOAT) {
        *out = nigh_tval_real(0, user);
        return real(r, op, nigh_tval_to_real(a), nigh_tval_to_real(b), &out->as.real);
    }
    *out = nigh_tval_int(0, user);
    return whole(r, op, nigh_tval_to_int(a), nigh_tval_to_int(b), &out->as.integer);
}

static nigh_status compare(nigh_trun *r, nigh_top op, const nigh_tval *a, const nigh_tval *b, bool *out) {
    int order;
    if (op == TO_EQ || op == TO_NE) {
        NIGH_TRY(nigh_tval_equal(r, a, b, out));
        if (op == TO_NE) *out = !*out;
        return NIGH_OK;
    }
    if (op == TO_IN || op == TO_NOT_IN) {
        NIGH_TRY(nigh_tval_contains(r, b, a, out));
        if (op == TO_NOT_IN) *out = !*out;
        return NIGH_OK;
    }
    NIGH_TRY(nigh_tval_order(r, a, b, false, &order));
    *out = op == TO_LT ? order < 0 : op == TO_LE ? order <= 0 : op == TO_GT ? order > 0 : order >= 0;
    return NIGH_OK;
}

/* a ~ b ~ c: one text, put together once. */
static nigh_status eval_concat(nigh_trun *r, const nigh_tnode *n, nigh_tval *out) {
    nigh_tsink s = nigh_tsink_of(NIGH_TEMPLATE_OUTPUT_MAX);
    nigh_status status = eval(r, n->a, out);
    if (status == NIGH_OK) status = nigh_tval_print(r, &s, out);
    for (const nigh_tnode *link = n->b; link && status == NIGH_OK; link = link->next) {
        status = eval(r, link->a, out);
        r->at = link->at;
        if (status == NIGH_OK) status = nigh_tval_print(r, &s, out);
    }
    if (status == NIGH_OK) return nigh_tsink_take(r, &s, out);
    nigh_tsink_release(&s);
    return status;
}

static bool is_textual(const nigh_tval *v) { return v->kind == TV_TEXT || v->kind == TV_UNDEF; }

/* a + b - c from the left. Texts side by side are put together once; undefined beside a text is nothing, as in {{ }}.
 */
static nigh_status eval_sum(nigh_trun *r, const nigh_tnode *n, nigh_tval *out) {
    nigh_tsink s = nigh_tsink_of(NIGH_TEMPLATE_OUTPUT_MAX);
    nigh_status status = eval(r, n->a, out);
    bool joining = false;           /* the text so far lies in the sink */
    for (const nigh_tnode *link = n->b; link && status == NIGH_OK; link = link->next) {
        nigh_tval right = { 0 };
        status = eval(r, link->a, &right);
        r->at = link->at;
        if (status != NIGH_OK) break;
        bool texts =
            is_textual(&right) && (joining || (is_textual(out) && (out->kind == TV_TEXT || right.kind == TV_TEXT)));
        if (link->op == TO_ADD && texts) {
            if (!joining) status = nigh_tval_print(r, &s, out);
            if (status == NIGH_OK) status = nigh_tval_print(r, &s, &right);
            joining = true;
            continue;
        }
        if (joining) status = nigh_tsink_take(r, &s, out);
        joining = false;
        nigh_tval left = *out;
        if (status == NIGH_OK) status = arithmetic(r, (nigh_top)link->op, &left, &right, out);
    }
    if (status == NIGH_OK && joining) return nigh_tsink_take(r, &s, out);
    nigh_tsink_release(&s);
    return status;
}

/* a op b op c: logic stops early, comparisons hold each for its pair, the rest folds from the left. */
static nigh_status eval_chain(nigh_trun *r, const nigh_tnode *n, nigh_tval *out) {
    if (n->b->op == TO_CONCAT) return eval_concat(r, n, out);
    if (n->b->op == TO_ADD || n->b->op == TO_SUB) return eval_sum(r, n, out);
    NIGH_TRY(eval(r, n->a, out));
    for (const nigh_tnode *link = n->b; link; link = link->next) {
        nigh_tval left = *out, right;
        nigh_top op = (nigh_top)link->op;
        if (op == TO_OR || op == TO_AND) {
            if (nigh_tval_true(out) == (op == TO_OR)) return NIGH_OK;
            NIGH_TRY(eval(r, link->a, out));
            continue;
        }
        NIGH_TRY(eval(r, link->a, &right));
        r->at = link->at;
        if (op >= TO_ADD) NIGH_TRY(arithmetic(r, op, &left, &right, out));
        else {
            bool holds;
            NIGH_TRY(compare(r, op, &left, &right, &holds));
            if (!holds || !link->next) { *out = nigh_tval_bool(holds, left.user || right.user); return NIGH_OK; }
            *out = right;
        }
    }
    return NIGH_OK;
}

/* ---- what follows a value ---- */
static nigh_status eval_args(nigh_trun *r, const nigh_tnode *first, size_t count, nigh_targs *args) {
    nigh_tval *values;
    nigh_str *names;
    *args = (nigh_targs){ 0 };
    if (!count) return NIGH_OK;
    NIGH_TRY(nigh_trun_take(r, sizeof *values, count, &values));
    NIGH_TRY(nigh_trun_take(r, sizeof *names, count, &names));
    size_t i = 0;
    for (const nigh_tnode *a = first; a; a = a->next, i++) {
        NIGH_TRY(eval(r, a->a, &values[i]));
        if (a->named) names[args->named_count++] = a->text;
        else args->count++;
    }
    args->at = values;
    args->named = values + args->count;
    args->names = names;
    return NIGH_OK;
}

/* Python's rule for one end of a slice. */
static int64_t slice_end(int64_t v, int64_t count, int64_t step) {
    if (v < 0) v += count;
    if (v < 0) return step < 0 ? -1 : 0;
    return v >= count ? (step < 0 ? count - 1 : count) : v;
}

static nigh_status slice_part(nigh_trun *r, const nigh_tnode *n, int64_t missing, bool *given, int64_t *out) {
    nigh_tval v;
    *out = missing;
    *given = false;
    if (!n) return NIGH_OK;
    NIGH_TRY(eval(r, n, &v));
    if (v.kind == TV_NONE) return NIGH_OK;
    if (v.kind != TV_INT) return nigh_trun_fail(r, NIGH_EINVAL, "a slice wants whole numbers");
    *given = true;
    *out = v.as.integer;
    return NIGH_OK;
}

static nigh_status eval_slice(nigh_trun *r, const nigh_tnode *n, const nigh_tval *base, nigh_tval *out) {
    nigh_tval items, part;
    int64_t begin, end, step;
    bool has_begin, has_end, has_step;
    NIGH_TRY(slice_part(r, n->c, 1, &has_step, &step));
    NIGH_TRY(slice_part(r, n->a, 0, &has_begin, &begin));
    NIGH_TRY(slice_part(r, n->b, 0, &has_end, &end));
    r->at = n->at;
    if (base->kind != TV_LIST && base->kind != TV_TEXT)
        return nigh_trun_fail(r, NIGH_EINVAL, "%s cannot be sliced", nigh_tval_kind(base));
    if (step == 0) return nigh_trun_fail(r, NIGH_EINVAL, "a slice cannot have step 0");
    size_t letters;
    NIGH_TRY(nigh_tval_count(r, base, &letters));
    int64_t count = (int64_t)letters;
    begin = has_begin ? slice_end(begin, count, step) : step < 0 ? count - 1 : 0;
    end = has_end ? slice_end(end, count, step) : step < 0 ? -1 : count;
    if (base->kind == TV_TEXT && step == 1) { /* letters lie side by side */
        size_t from = nigh_ttext_place(base, 0, (size_t)begin);
        *out = nigh_tval_slice(base, from, nigh_ttext_place(base, from, end > begin ? (size_t)(end - begin) : 0));
        return nigh_trun_spend(r, base->len);
    }
    NIGH_TRY(nigh_tval_items(r, base, &items));
    NIGH_TRY(nigh_tlist_new(r, 0, base->user, &part));
    for (int64_t i = begin; step > 0 ? i < end : i > end; i += step) {
        NIGH_TRY(nigh_tlist_add(r, &part, &items.as.list->items[i]));
        if (step > count || step < -count) break;
    }
    if (base->kind == TV_LIST) { *out = part; return NIGH_OK; }
    nigh_tsink s = nigh_tsink_of(NIGH_TEMPLATE_OUTPUT_MAX);
    nigh_status status = NIGH_OK;
    for (size_t i = 0; i < part.as.list->count && status == NIGH_OK; i++)
        status = nigh_tsink_add(r, &s, &part.as.list->items[i]);
    if (status == NIGH_OK) return nigh_tsink_take(r, &s, out);
    nigh_tsink_release(&s);
    return status;
}

static nigh_status eval_method(nigh_trun *r, const nigh_tnode *attr, const nigh_tnode *call, nigh_tval *v) {
    nigh_targs args;
    nigh_tval self = *v, callee;
    bool known;
    NIGH_TRY(eval_args(r, call->a, call->count, &args));
    r->at = attr->at;
    NIGH_TRY(nigh_tmethod_run(r, &self, attr->text, &args, v, &known));
    if (known) return NIGH_OK;
    NIGH_TRY(nigh_tval_attr(r, &self, attr->text, &callee));
    if (callee.kind == TV_UNDEF)
        return nigh_trun_fail(r, NIGH_ENOSUP, "unknown method '%.*s' of %s", (int)nigh_min(attr->text.len, 60),
            attr->text.ptr, nigh_tval_kind(&self));
    return nigh_trun_call(r, &callee, &args, v);
}

static nigh_status apply_suffix(nigh_trun *r, const nigh_tnode *s, nigh_tval *v) {
    nigh_targs args;
    nigh_tval base = *v, key;
    bool holds;
    switch (s->kind) {
    case TN_ATTR: r->at = s->at; return nigh_tval_attr(r, &base, s->text, v);
    case TN_INDEX:
        NIGH_TRY(eval(r, s->a, &key));
        r->at = s->at;
        return nigh_tval_index(r, &base, &key, v);
    case TN_SLICE: return eval_slice(r, s, &base, v);
    default: break;
    }
    NIGH_TRY(eval_args(r, s->a, s->count, &args));
    r->at = s->at;
    NIGH_TRY(nigh_trun_spend(r, 0));
    if (s->kind == TN_CALL) return nigh_trun_call(r, &base, &args, v);
    if (s->kind == TN_FILTER) return nigh_tfilter_run(r, s->index, &base, &args, v);
    NIGH_TRY(nigh_ttest_run(r, s->index, &base, &args, &holds));
    *v = nigh_tval_bool(holds != s->negated, base.user);
    return NIGH_OK;
}

static nigh_status eval_postfix(nigh_trun *r, const nigh_tnode *n, nigh_tval *out) {
    NIGH_TRY(eval(r, n->a, out));
    if (out->kind == TV_UNDEF && n->a->kind == TN_NAME && n->b && n->b->kind != TN_FILTER && n->b->kind != TN_TEST) {
        r->at = n->a->at;
        return nigh_trun_fail(r, NIGH_EINVAL, "'%.*s' is undefined", (int)nigh_min(n->a->text.len, 60), n->a->text.ptr);
    }
    for (const nigh_tnode *s = n->b; s; s = s->next) {
        if (s->kind == TN_ATTR && s->next && s->next->kind == TN_CALL) {
            NIGH_TRY(eval_method(r, s, s->next, out));
            s = s->next;
        } else NIGH_TRY(apply_suffix(r, s, out));
    }
    return NIGH_OK;
}

/* ---- expressions ---- */
static nigh_status eval_list(nigh_trun *r, const nigh_tnode *n, nigh_tval *out) {
    NIGH_TRY(nigh_tlist_new(r, 0, false, out));
    for (const nigh_tnode *item = n->a; item; item = item->next) {
        nigh_tval v;
        NIGH_TRY(eval(r, item->a, &v));
        NIGH_TRY(nigh_tlist_add(r, out, &v));
    }
    return NIGH_OK;
}

static nigh_status eval_dict(nigh_trun *r, const nigh_tnode *n, nigh_tval *out) {
    NIGH_TRY(nigh_tdict_new(r, TV_DICT, false, out));
    for (const nigh_tnode *pair = n->a; pair; pair = pair->next) {
        nigh_tval key, v;
        NIGH_TRY(eval(r, pair->a, &key));
        NIGH_TRY(eval(r, pair->b, &v));
        NIGH_TRY(nigh_tdict_set(r, out, &key, &v));
    }
    return NIGH_OK;
}

static nigh_status eval_sign(nigh_trun *r, const nigh_tnode *n, nigh_tval *out) {
    nigh_tval v;
    NIGH_TRY(eval(r, n->a, &v));
    r->at = n->at;
    if (!nigh_tval_number(&v)) return nigh_trun_fail(r, NIGH_EINVAL, "%s has no sign", nigh_tval_kind(&v));
    if (v.kind == TV_FLOAT) {
        *out = nigh_tval_real(n->kind == TN_MINUS ? -v.as.real : v.as.real, v.user);
        return NIGH_OK;
    }
    int64_t i = nigh_tval_to_int(&v);
    if (n->kind == TN_MINUS && i == INT64_MIN) return too_large(r);
    *out = nigh_tval_int(n->kind == TN_MINUS ? -i : i, v.user);
    return NIGH_OK;
}

static nigh_status eval(nigh_trun *r, const nigh_tnode *n, nigh_tval *out) {
    nigh_tval v;
    nigh_status status = enter(r, n);
    if (status != NIGH_OK) return status;
    switch (n->kind) {
    case TN_LITERAL: *out = *n->literal; break;
    case TN_NAME: status = get_name(r, n->text, out); break;
    case TN_LIST: status = eval_list(r, n, out); break;
    case TN_DICT: status = eval_dict(r, n, out); break;
    case TN_CHAIN: status = eval_chain(r, n, out); break;
    case TN_POSTFIX: status = eval_postfix(r, n, out); break;
    case TN_NOT:
        status = eval(r, n->a, &v);
        if (status == NIGH_OK) *out = nigh_tval_bool(!nigh_tval_true(&v), v.user);
        break;
    case TN_MINUS: case TN_PLUS: status = eval_sign(r, n, out); break;
    default:
        assert(n->kind == TN_COND);
        status = eval(r, n->b, &v);
        if (status != NIGH_OK) break;
        if (nigh_tval_true(&v)) status = eval(r, n->a, out);
        else if (n->c) status = eval(r, n->c, out);
        else *out = (nigh_tval){ 0 };
    }
    r->depth--;
    return status;
}

/* ---- statements ---- */
/* Runs a body with its output going into a value. */
static nigh_status capture(nigh_trun *r, const nigh_tnode *body, nigh_tval *out) {
    nigh_tsink s = nigh_tsink_of(NIGH_TEMPLATE_OUTPUT_MAX), *before = r->out;
    r->out = &s;
    nigh_status status = exec(r, body);
    r->out = before;
    if (status == NIGH_OK) return nigh_tsink_take(r, &s, out);
    nigh_tsink_release(&s);
    return status;
}

static nigh_status apply_filters(nigh_trun *r, const nigh_tnode *first, nigh_tval *v) {
    for (const nigh_tnode *f = first; f; f = f->next) NIGH_TRY(apply_suffix(r, f, v));
    return NIGH_OK;
}

static nigh_status assign(nigh_trun *r, const nigh_tnode *target, const nigh_tval *v) {
    nigh_tval items, space;
    if (target->kind == TN_NAME) return set_name(r, r->env, target->text, v);
    if (target->kind == TN_ATTR) {
        NIGH_TRY(get_name(r, target->a->text, &space));
        r->at = target->at;
        if (space.kind != TV_SPACE) return nigh_trun_fail(r, NIGH_EINVAL, "only a namespace takes new values");
        nigh_tval key = nigh_tval_text(target->text, false);
        return nigh_tdict_set(r, &space, &key, v);
    }
    NIGH_TRY(nigh_tval_items(r, v, &items));
    size_t i = 0, count = items.as.list->count;
    for (const nigh_tnode *name = target->a; name; name = name->next, i++) {
        if (i == count) break;
        NIGH_TRY(set_name(r, r->env, name->text, &items.as.list->items[i]));
        if (!name->next && i + 1 == count) return NIGH_OK;
    }
    r->at = target->at;
    return nigh_trun_fail(r, NIGH_EINVAL, "%zu values do not fit the names", count);
}

static nigh_status exec_if(nigh_trun *r, const nigh_tnode *n) {
    for (const nigh_tnode *clause = n->a; clause; clause = clause->next) {
        nigh_tval v = nigh_tval_bool(true, false);
        if (clause->a) NIGH_TRY(eval(r, clause->a, &v));
        if (nigh_tval_true(&v)) return exec(r, clause->b);
    }
    return NIGH_OK;
}

/* The items a loop runs over: those for which its own `if` holds. */
static nigh_status loop_items(nigh_trun *r, const nigh_tnode *n, nigh_tval *out) {
    nigh_tval all, v;
    NIGH_TRY(eval(r, n->b, &v));
    r->at = n->at;
    NIGH_TRY(nigh_tval_items(r, &v, &all));
    if (!n->d || !n->d->a) { *out = all; return NIGH_OK; }
    nigh_tenv *outer = r->env;
    NIGH_TRY(nigh_tlist_new(r, 0, all.user, out));
    for (size_t i = 0; i < all.as.list->count; i++) {
        NIGH_TRY(push_env(r, outer));
        NIGH_TRY(assign(r, n->a, &all.as.list->items[i]));
        NIGH_TRY(eval(r, n->d->a, &v));
        if (nigh_tval_true(&v)) NIGH_TRY(nigh_tlist_add(r, out, &all.as.list->items[i]));
        r->env = outer;
    }
    return NIGH_OK;
}

static nigh_status exec_for(nigh_trun *r, const nigh_tnode *n) {
    nigh_tval items;
    nigh_tenv *outer = r->env;
    NIGH_TRY(loop_items(r, n, &items));
    nigh_tlist list = *items.as.list;       /* what a body adds to the list does not prolong the loop */
    if (!list.count) return n->d && n->d->b ? exec(r, n->d->b) : NIGH_OK;
    nigh_tlist *fixed;
    NIGH_TRY(nigh_trun_take(r, sizeof *fixed, 1, &fixed));
    *fixed = list;
    for (size_t i = 0; i < list.count; i++) {
        nigh_tloop *loop;
        NIGH_TRY(nigh_trun_take(r, sizeof *loop, 1, &loop));
        *loop = (nigh_tloop){ fixed, i };
        NIGH_TRY(push_env(r, outer));
        NIGH_TRY(set_name(r, r->env, NIGH_STR("loop"), &(nigh_tval){ .kind = TV_LOOP, .as.loop = loop }));
        NIGH_TRY(assign(r, n->a, &list.items[i]));
        NIGH_TRY(exec(r, n->c));
        r->env = outer;
        int flow = r->flow;
        r->flow = TF_NEXT;
        if (flow == TF_BREAK) break;
    }
    return NIGH_OK;
}

static nigh_status new_macro(nigh_trun *r, const nigh_tnode *n, nigh_tval *out) {
    nigh_tmacro *macro;
    NIGH_TRY(nigh_trun_take(r, sizeof *macro, 1, &macro));
    *macro = (nigh_tmacro){ n, r->env };
    *out = (nigh_tval){ .kind = TV_MACRO, .as.macro = macro };
    return NIGH_OK;
}

/* {% call f(x) %}body{% endcall %}: f may call caller(), which gives the body. */
static nigh_status exec_call(nigh_trun *r, const nigh_tnode *n) {
    nigh_tval caller, v;
    nigh_targs args;
    const nigh_tnode *call = n->c->b;
    if (call->kind != TN_CALL || call->next)
        return nigh_trun_fail(r, NIGH_ENOSUP, "a call block wants a macro's name and arguments");
    NIGH_TRY(new_macro(r, n, &caller));
    NIGH_TRY(eval(r, n->c->a, &v));
    NIGH_TRY(eval_args(r, call->a, call->count, &args));
    r->at = n->at;
    nigh_tval *named;
    nigh_str *names;
    NIGH_TRY(nigh_trun_take(r, sizeof *named, args.named_count + 1, &named));
    NIGH_TRY(nigh_trun_take(r, sizeof *names, args.named_count + 1, &names));
    if (args.named_count) {
        memcpy(named, args.named, args.named_count * sizeof *named);
        memcpy(names, args.names, args.named_count * sizeof *names);
    }
    named[args.named_count] = caller;
    names[args.named_count++] = NIGH_STR("caller");
    args.named = named;
    args.names = names;
    nigh_tval callee = v;
    NIGH_TRY(nigh_trun_call(r, &callee, &args, &v));
    return nigh_tval_print(r, r->out, &v);
}

static nigh_status exec_with(nigh_trun *r, const nigh_tnode *n) {
    nigh_tenv *outer = r->env;
    NIGH_TRY(push_env(r, outer));
    nigh_tenv *inner = r->env;
    for (const nigh_tnode *set = n->a; set; set = set->next) {
        nigh_tval v;
        r->env = outer;
        NIGH_TRY(eval(r, set->b, &v));
        r->env = inner;
        NIGH_TRY(assign(r, set->a, &v));
    }
    NIGH_TRY(exec(r, n->b));
    r->env = outer;
    return NIGH_OK;
}

static nigh_status exec_one(nigh_trun *r, const nigh_tnode *n) {
    nigh_tval v;
    switch (n->kind) {
    case TN_TEXT: return nigh_tsink_add_str(r, r->out, n->text, false);
    case TN_OUTPUT:
        NIGH_TRY(eval(r, n->a, &v));
        r->at = n->at;
        return nigh_tval_print(r, r->out, &v);
    case TN_IF: return exec_if(r, n);
    case TN_FOR: return exec_for(r, n);
    case TN_SET:
        NIGH_TRY(eval(r, n->b, &v));
        r->at = n->at;
        return assign(r, n->a, &v);
    case TN_SETBLOCK:
        NIGH_TRY(capture(r, n->b, &v));
        NIGH_TRY(apply_filters(r, n->c, &v));
        return assign(r, n->a, &v);
    case TN_MACRO:
        NIGH_TRY(new_macro(r, n, &v));
        return set_name(r, r->env, n->text, &v);
    case TN_CALLBLOCK: return exec_call(r, n);
    case TN_FILTERBLOCK:
        NIGH_TRY(capture(r, n->b, &v));
        NIGH_TRY(apply_filters(r, n->a, &v));
        return nigh_tval_print(r, r->out, &v);
    case TN_BREAK: r->flow = TF_BREAK; return NIGH_OK;
    case TN_CONTINUE: r->flow = TF_CONTINUE; return NIGH_OK;
    case TN_WITH: return exec_with(r, n);
    default: assert(n->kind == TN_BLOCK); return exec(r, n->b);
    }
}

static nigh_status exec(nigh_trun *r, const nigh_tnode *body) {
    for (const nigh_tnode *n = body; n && r->flow == TF_NEXT; n = n->next) {
        NIGH_TRY(enter(r, n));
        NIGH_TRY(exec_one(r, n));
        r->depth--;
    }
    return NIGH_OK;
}

/* ---- calls ---- */
static nigh_status bind_params(nigh_trun *r, const nigh_tnode *n, const nigh_targs *args) {
    size_t i = 0;
    for (const nigh_tnode *param = n->a; param; param = param->next, i++) {
        nigh_tval v = { 0 };
        size_t k = 0;
        while (k < args->named_count && !nigh_str_eq(args->names[k], param->text)) k++;
        if (i < args->count) v = args->at[i];
        else if (k < args->named_count) v = args->named[k];
        else if (param->a) NIGH_TRY(eval(r, param->a, &v));
        NIGH_TRY(set_name(r, r->env, param->text, &v));
    }
    if (args->count > i)
        return nigh_trun_fail(r, NIGH_EINVAL, "the macro takes %zu arguments, not %zu", i, args->count);
    for (size_t k = 0; k < args->named_count; k++) {
        const nigh_tnode *param = n->a;
        while (param && !nigh_str_eq(args->names[k], param->text)) param = param->next;
        if (param) continue;
        if (!nigh_str_eq(args->names[k], NIGH_STR("caller")))
            return nigh_trun_fail(
                r, NIGH_EINVAL, "the macro has no '%.*s'", (int)nigh_min(args->names[k].len, 60), args->names[k].ptr);
        NIGH_TRY(set_name(r, r->env, args->names[k], &args->named[k]));
    }
    return NIGH_OK;
}

nigh_status nigh_trun_call(nigh_trun *r, const nigh_tval *callee, const nigh_targs *args, nigh_tval *out) {
    if (callee->kind == TV_FUNC) return nigh_tfunc_run(r, callee->as.func, args, out);
    if (callee->kind != TV_MACRO) return nigh_trun_fail(r, NIGH_EINVAL, "%s cannot be called", nigh_tval_kind(callee));
    if (r->calls == NIGH_TEMPLATE_DEPTH_MAX)
        return nigh_trun_fail(r, NIGH_ERANGE, "macros call one another deeper than %d", NIGH_TEMPLATE_DEPTH_MAX);
    const nigh_tmacro *macro = callee->as.macro;
    nigh_tenv *before = r->env;
    r->calls++;
    NIGH_TRY(push_env(r, macro->env));
    NIGH_TRY(bind_params(r, macro->node, args));
    NIGH_TRY(capture(r, macro->node->b, out));
    r->env = before;
    r->calls--;
    return NIGH_OK;
}

/* ---- the door ---- */
void nigh_spans_release(nigh_spans *s) {
    nigh_free(s->ptr);
    *s = (nigh_spans){ 0 };
}

static nigh_status make_spans(nigh_trun *r, const nigh_buf *marks, nigh_spans *out) {
    size_t count = 0;
    for (size_t i = 0; i < marks->len; i++) count += i == 0 || marks->ptr[i] != marks->ptr[i - 1];
    if (!count) return NIGH_OK;
    out->ptr = nigh_alloc(sizeof *out->ptr, count);
    if (!out->ptr) return nigh_trun_fail(r, NIGH_ENOMEM, "not enough memory");
    for (size_t i = 0; i < marks->len; i++) {
        if (i == 0 || marks->ptr[i] != marks->ptr[i - 1]) out->ptr[out->count++].user = marks->ptr[i];
        out->ptr[out->count - 1].end = i + 1;
    }
    return NIGH_OK;
}

static nigh_status give_values(nigh_trun *r) {
    for (size_t i = 0; i < r->in->var_count; i++) {
        const nigh_template_var *v = &r->in->vars[i];
        nigh_tval value = nigh_tval_text(v->text, !v->trusted);
        if (v->value) NIGH_TRY(nigh_tval_of_json(r, v->value, !v->trusted, &value));
        NIGH_TRY(set_name(r, r->env, v->name, &value));
    }
    return push_env(r, r->env);
}

nigh_status nigh_template_render(
    const nigh_template *t, const nigh_template_input *in, nigh_buf *out, nigh_spans *spans, nigh_err *err) {
    nigh_tsink s = nigh_tsink_of(NIGH_TEMPLATE_OUTPUT_MAX);
    nigh_trun r = { .t = t,
        .in = in,
        .pool.limit = NIGH_TEMPLATE_MEMORY_MAX,
        .out = &s,
        .steps = NIGH_TEMPLATE_STEPS_MAX,
        .err = err };
    if (spans) *spans = (nigh_spans){ 0 };
    nigh_status status = push_env(&r, NULL);
    if (status == NIGH_OK) status = give_values(&r);
    if (status == NIGH_OK) status = exec(&r, t->body);
    if (status == NIGH_OK && spans) status = make_spans(&r, &s.marks, spans);
    if (status == NIGH_OK) {
        status = nigh_buf_add(out, nigh_buf_str(&s.text));
        if (status != NIGH_OK)
            nigh_fail(
                err, status, 0, status == NIGH_ERANGE ? "the prompt is longer than its limit" : "not enough memory");
    }
    if (status != NIGH_OK && spans) nigh_spans_release(spans);
    for (size_t i = 0; i < r.docs; i++) nigh_json_release(&r.doc[i]);
    nigh_tpool_release(&r.pool);
    nigh_tsink_release(&s);
    return status;
}
