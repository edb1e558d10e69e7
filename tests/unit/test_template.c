/* test_template.c - the template interpreter: what it renders, what it refuses and where, its limits (cases K8 to K13
 * of bad input, each within 200 ms), the marks that keep user text from becoming special tokens (S10, K14), and an
 * empty memory at every turn. */
#define _GNU_SOURCE
#include <time.h>

#include "engine/template.h"
#include "test.h"

static const char values[] =
    "{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\",\"content\":\" Hi "
    "\"},{\"role\":\"tool\",\"content\":null}],"
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"description\":\"it's\",\"n\":[1,2.5,true,null]}"
    "}],"
    "\"d\":{\"b\":1,\"A\":2,\"items\":\"own\"},\"s\":\"a,b,,c\",\"n\":7,\"empty\":[],\"word\":\"na\\u00efve "
    "\\u041c\\u0438\\u0440\"}";

/* Renders with every member of the values as a name. */
static nigh_status render_with(const char *source, const char *json, nigh_buf *out, nigh_spans *spans, nigh_err *err) {
    nigh_template *t;
    nigh_json_doc doc;
    nigh_template_var vars[16] = { { .name = NIGH_STR("bos_token"), .text = NIGH_STR("<s>"), .trusted = true } };
    size_t count = 1;
    static const nigh_str words[] = { { "user", 4 }, { "system", 6 } };
    NIGH_TRY(nigh_json_parse(&doc, nigh_str_of(json), err));
    for (const nigh_json *m = nigh_json_first(doc.root); m && count < 16; m = m->next)
        vars[count++] = (nigh_template_var){ .name = m->key, .value = m };
    nigh_status status = nigh_template_compile(&t, nigh_str_of(source), err);
    if (status == NIGH_OK) {
        nigh_template_input in = { vars, count, 2026, 11, 21, NIGH_STR("role"), words, NIGH_COUNT(words) };
        status = nigh_template_render(t, &in, out, spans, err);
        nigh_template_free(t);
    }
    nigh_json_release(&doc);
    return status;
}

static void check_text(const char *source, const char *want) {
    nigh_buf out = NIGH_BUF(1 << 22);
    nigh_err err = { 0 };
    nigh_status status = render_with(source, values, &out, NULL, &err);
    CHECK_MSG(status == NIGH_OK && nigh_str_eq(nigh_buf_str(&out), nigh_str_of(want)),
        "%s\n    gives %.*s %s\n    not   %s", source, (int)out.len, out.ptr ? out.ptr : "", err.text, want);
    nigh_buf_release(&out);
}

typedef struct { const char *source, *want; } text_case;
#define CHECK_ALL(cases) for (size_t i = 0; i < NIGH_COUNT(cases); i++) check_text((cases)[i].source, (cases)[i].want)

static void test_white_space(void) {
    static const text_case cases[] = { { "a\n", "a" }, { "a\n\n", "a\n" },
        { "{% if 1 %}\na\n{% endif %}\nb", "a\nb" }, { "  {% if 1 %}a{% endif %}", "a" },
        { "x  {% if 1 %}a{% endif %}", "x  a" }, { "x\n  {%- if 1 -%}\n a {%- endif %}\n\nb", "xa\nb" },
        { "  {%+ if 1 %}a{% endif %}", "  a" }, { "{% if 1 +%}\na{% endif %}", "\na" }, { "  {{ 1 }}\n", "  1" },
        { "a {{- 1 -}} b", "a1b" }, { "  {# x #}\na", "a" }, { "a {#- x -#} b", "ab" },
        { "{% raw %} {{ x }} {% endraw %}", " {{ x }} " }, { "a\r\nb", "a\nb" },
        { "{% set x = 1 %}\n{% set y = 2 %}\n{{ x + y }}", "3" },
        { "{% if 1 %}\n  {% if 1 %}\n  b\n  {% endif %}\n{% endif %}c", "  b\nc" } };
    CHECK_ALL(cases);
}

static void test_expressions(void) {
    static const text_case cases[] = { { "{{ 1 + 2 * 3 }} {{ (1 + 2) * 3 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} "
                                         "{{ 7 / 2 }} {{ 2 ** 10 }} {{ 1.5 + 1 }}",
                                           "7 9 3 -4 2 3.5 1024 2.5" },
        { "{{ 'a' 'b' ~ 1 ~ none ~ true }} {{ 'ab' * 3 }} {{ \"\\u00e9\\n\\x41\" }}",
            "ab1NoneTrue ababab \xc3\xa9\nA" },
        { "{{ 1 < 2 < 3 }} {{ 1 < 2 > 5 }} {{ 'a' < 'b' }} {{ 1 == 1.0 }} {{ 1 == '1' }} {{ [1, 2] == [1, 2] }} {{ "
          "true == 1 }}",
            "True False True True False True True" },
        { "{{ 'a' in 'cat' }} {{ 1 not in [1] }} {{ 'b' in d }} {{ not 'x' }} {{ 0 or 'y' }} {{ 1 and 2 }}",
            "True False True False y 2" },
        { "{{ 'a' if n == 7 else 'b' }}{{ 'a' if n == 8 }}|{{ missing }}|{{ missing is defined }}", "a||False" },
        { "{{ s[0] }}{{ s[-1] }} {{ s[2:] }} {{ s[::-1] }} {{ word[2:4] }} {{ word | length }} {{ messages[1:] | "
          "length }} {{ messages[9] is defined }}",
            "ac b,,c c,,b,a \xc3\xafv 9 2 False" },
        { "{{ [1, 'a', none, 2.0] }} {{ {'a': \"it's\"} }} {{ (1, 2)[1] }} {{ [] }} {{ {} }} {{ 'a\\nb' }} {{ "
          "['a\\nb'] }}",
            "[1, 'a', None, 2.0] {'a': \"it's\"} 2 [] {} a\nb ['a\\nb']" },
        { "{{ messages[0].content }} {{ messages[0]['content'] }} {{ d.items }} {{ d.items() | length }} {{ "
          "messages[0].missing }}.",
            "Be brief. Be brief. own 3 ." },
        { "{{ -n | abs }} {{ n is odd }} {{ n is divisibleby 7 }} {{ n is divisibleby(2) }} {{ n is not none }}",
            "7 True True False True" },
        { "{{ 1 is in [1] }} {{ 1 is in missing }} {{ 1 is in messages[0:1] }}", "True False False" },
        { "{{ 1e3 }} {{ 0.1 }} {{ 10000000 * 10 }} {{ 'x' + missing + 'y' }}", "1000.0 0.1 100000000 xy" } };
    CHECK_ALL(cases);
}

static void test_statements(void) {
    static const text_case cases[] = {
        { "{% for m in messages %}{{ loop.index }}{{ m.role }}{{ ',' if not loop.last }}{% endfor %}",
            "1system,2user,3tool" },
        { "{% for x in empty %}a{% else %}none{% endfor %} {% for x in missing %}a{% else %}none{% endfor %}",
            "none none" },
        { "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}{% for k in d %}{{ k }}{% endfor %}",
            "b=1;A=2;items=own;bAitems" },
        { "{% for i in range(9) if i % 2 %}{% if i == 7 %}{% break %}{% endif %}{% if i == 3 %}{% continue %}{% "
          "endif %}{{ i }}/{{ loop.length }} {% endfor %}",
            "1/4 5/4 " },
        { "{% set x = 1 %}{% for i in [1] %}{% set x = 2 %}{{ x }}{% endfor %}{{ x }}", "21" },
        { "{% set ns = namespace(x=1) %}{% for i in [1, 2] %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}", "4" },
        { "{% set a, b = 1, 2 %}{{ b }}{{ a }}{% set x %}t {{ a }}{% endset %}[{{ x }}]{% set y | upper %}q{% endset "
          "%}{{ y }}",
            "21[t 1]Q" },
        { "{% macro f(a, b='x', c=a) %}{{ a }}{{ b }}{{ c }};{% endmacro %}{{ f(1) }}{{ f(1, c=3) }}{{ f(b=2, a='q') "
          "}}",
            "1x1;1x3;q2q;" },
        { "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}", "3210" },
        { "{% macro wrap(t) %}<{{ t }}>{{ caller() }}</{{ t }}>{% endmacro %}{% call wrap('b') %}x{% endcall %}",
            "<b>x</b>" },
        { "{% filter upper | replace('A', 'b') %}aa{% endfilter %} {% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{% "
          "generation %}g{% endgeneration %}",
            "bb 3g" },
        { "{% for i in [1, 2, 3] %}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.revindex }}{{ loop.cycle('a', 'b') "
          "}} {% endfor %}",
            "23a 132b 21a " },
        { "{% if 0 %}a{% elif n == 7 %}b{% else %}c{% endif %}{% for a in [1, 2] %}{% for b in [1, 2] %}{{ "
          "loop.index }}{% endfor %}{{ loop.index }}{% endfor %}",
            "b121122" },
        { "{% set l = [1] %}{% set _ = l.append(2) %}{{ l }}{{ l.pop(0) }}{{ l }}{% for x in l %}{% set _ = "
          "l.append(x) %}{% endfor %}{{ l }}",
            "[1, 2]1[2][2, 2]" }
    };
    CHECK_ALL(cases);
}

static void test_filters(void) {
    static const text_case cases[] = { { "{{ tools | tojson }}",
                                           "[{\"type\": \"function\", \"function\": {\"name\": \"f\", "
                                           "\"description\": \"it's\", \"n\": [1, 2.5, true, null]}}]" },
        { "{{ {'a': [1, {}], 'b': []} | tojson(indent=2) }}", "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": []\n}" },
        { "{{ word | tojson(ensure_ascii=true) }}{{ '<&\"\\\\' | tojson }}{{ d | tojson(separators=(',', ':')) }}",
            "\"na\\u00efve \\u041c\\u0438\\u0440\"\"<&\\\"\\\\\"{\"b\":1,\"A\":2,\"items\":\"own\"}" },
        { "{{ ' x ' | trim }}|{{ 'xaxx' | trim('x') }} {{ word | upper }} {{ 'ab cd' | title }} {{ 'ABC d' | "
          "capitalize }}",
            "x|a NA\xc3\x8fVE \xd0\x9c\xd0\x98\xd0\xa0 Ab Cd Abc d" },
        { "{{ messages | map(attribute='role') | join(', ') }} {{ ['a', 'b'] | map('upper') | join }} {{ tools | "
          "map(attribute='function.name') | first }}",
            "system, user, tool AB f" },
        { "{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | "
          "rejectattr('content') | map(attribute='role') | list }}",
            "1 ['tool']" },
        { "{{ [1, 2, 3] | select('odd') | list }} {{ [1, 2, 3] | reject('odd') | list }} {{ none | selectattr('a') | "
          "list }}",
            "[1, 3] [2] []" },
        { "{{ d | dictsort }} {{ d | items | list | length }} {{ [3, 1, 2] | sort }} {{ ['b', 'A'] | sort }} {{ [1, "
          "2] | sort(reverse=true) }}",
            "[['A', 2], ['b', 1], ['items', 'own']] 3 [1, 2, 3] ['A', 'b'] [2, 1]" },
        { "{{ [1, 1, 2] | unique | list }} {{ [3, 1] | min }} {{ [3, 1] | max }} {{ [1, 2] | last }} {{ 'abc' | "
          "reverse }} {{ 'ab' | list }}",
            "[1, 2] 1 3 2 cba ['a', 'b']" },
        { "{{ missing | default('x') }}{{ '' | default('y', true) }}{{ none | default('z') }}{{ ('' | d('q')) ~ '.' "
          "}}",
            "xyNone." },
        { "{{ 'a\\nb\\n\\nc' | indent }}|{{ 'a\\nb' | indent(2, first=true) }}|{{ 'a\\n' | indent('>') }}",
            "a\n    b\n\n    c|  a\n  b|a\n" },
        { "{{ '12' | int + 1 }} {{ 'x' | int(5) }} {{ '1.5' | float }} {{ 3.9 | int }} {{ 'aXbX' | replace('X', '-', "
          "1) }} {{ 'ab' | replace('', '.') }}",
            "13 5 1.5 3 a-bX .a.b." },
        { "{{ ('{\"k\": [1, \"v\"]}' | from_json).k[1] }} {{ n | string | length }} {{ 'a' | safe }} {{ messages | "
          "count }}",
            "v 1 a 3" } };
    CHECK_ALL(cases);
}

static void test_methods(void) {
    static const text_case cases[] = {
        { "{{ s.split(',') }} {{ s.split(',', 1) }} {{ ' a  b '.split() }} {{ 'a b c'.split(none, 1) }} {{ "
          "s.rsplit(',', 1) }}",
            "['a', 'b', '', 'c'] ['a', 'b,,c'] ['a', 'b'] ['a', 'b c'] ['a,b,', 'c']" },
        { "{{ 'xxaxx'.strip('x') }} {{ ' a '.lstrip() }}| {{ ' a '.rstrip() }}| {{ 'ab'.startswith('a') }} {{ "
          "'ab'.endswith(('x', 'b')) }}",
            "a a |  a| True True" },
        { "{{ '{} {}'.format(1, 'b') }} {{ '{1}{0}{x}{{}}'.format(1, 2, x=3) }} {{ 'a-b'.replace('-', '+') }} {{ "
          "','.join(['a', 'b']) }}",
            "1 b 213{} a+b a,b" },
        { "{{ 'abcabc'.find('c') }} {{ 'abcabc'.rfind('c') }} {{ 'abc'.find('x') }} {{ 'aXbX'.count('X') }} {{ "
          "'12'.isdigit() }} {{ 'a\\nb'.splitlines() }}",
            "2 5 -1 2 True ['a', 'b']" },
        { "{{ d.get('b') }} {{ d.get('x') }} {{ d.get('x', 3) }} {{ d.keys() | list }} {{ d.values() | list }}",
            "1 None 3 ['b', 'A', 'items'] [1, 2, 'own']" },
        { "{{ strftime_now('%d %b %Y, %A %-d %B %y %j %%') }} {{ range(3) | list }} {{ range(5, 1, -2) | list }} {{ "
          "dict(a=1).a }}",
            "21 Nov 2026, Saturday 21 November 26 325 % [0, 1, 2] [5, 3] 1" },
        { "{{ strftime_now is defined }} {{ 'aB'.lower() }}{{ 'aB'.upper() }}{{ 'aB c'.title() }}",
            "True abABAb C" }
    };
    CHECK_ALL(cases);
}

typedef struct { const char *source; nigh_status status; const char *says; } refusal;

static void check_refused(const refusal *c) {
    nigh_buf out = NIGH_BUF(1 << 22);
    nigh_err err = { 0 };
    nigh_status status = render_with(c->source, values, &out, NULL, &err);
    CHECK_MSG(status == c->status && err.code == status && strstr(err.text, c->says) && out.len == 0,
        "%.100s\n    gives %s: %s\n    not %s: %s", c->source, nigh_status_name(status), err.text,
        nigh_status_name(c->status), c->says);
    nigh_buf_release(&out);
}

static void test_refused(void) {
    static const refusal cases[] = { { "a\n {{ x | frobnicate }}", NIGH_ENOSUP,
                                         "line 2 column 9: unknown filter 'frobnicate'" },
        { "{{ 1 is weird }}", NIGH_ENOSUP, "unknown test 'weird'" },
        { "{% if 0 %}{{ x | frobnicate }}{% endif %}", NIGH_ENOSUP, "unknown filter" },
        { "{% include 'x' %}", NIGH_ENOSUP, "unknown tag 'include'" },
        { "{% import 'x' as y %}", NIGH_ENOSUP, "unknown tag 'import'" },
        { "{% extends 'x' %}", NIGH_ENOSUP, "unknown tag" },
        { "{% from 'x' import y %}", NIGH_ENOSUP, "unknown tag" },
        { "{% block x %}{% endblock %}", NIGH_ENOSUP, "unknown tag" },
        { "{{ 'x' | attr('y') }}", NIGH_ENOSUP, "unknown filter 'attr'" },
        { "{{ s.__class__ }}", NIGH_ENOSUP, "line 1 column 5: the attribute '__class__' does not exist here" },
        { "{{ s['__class__'] }}", NIGH_ENOSUP, "__class__" },
        { "{{ ''.__class__.__mro__[1].__subclasses__() }}", NIGH_ENOSUP, "__class__" },
        { "{{ messages.__init__.__globals__ }}", NIGH_ENOSUP, "__init__" },
        { "{{ cycler.__init__.__globals__ }}", NIGH_EINVAL, "'cycler' is undefined" },
        { "{{ lipsum() }}", NIGH_EINVAL, "'lipsum' is undefined" },
        { "{{ namespace.__init__ }}", NIGH_ENOSUP, "__init__" },
        { "{{ [] | map(attribute='__class__') | list }}{{ [s] | map(attribute='__class__') | list }}", NIGH_ENOSUP,
            "__class__" },
        { "{{ self }}{{ self.x }}", NIGH_EINVAL, "'self' is undefined" },
        { "{{ range.x.y }}", NIGH_EINVAL, "undefined value has no 'y'" },
        { "{{ s.encode() }}", NIGH_ENOSUP, "unknown method 'encode' of a text" },
        { "{{ '%s' % 1 }}", NIGH_ENOSUP, "'%' on a text" },
        { "{{ '{:>5}'.format(1) }}", NIGH_ENOSUP, "plain fields" },
        { "{{ '{}'.format() }}", NIGH_EINVAL, "no value" },
        { "{{ '{0.__class__}'.format(s) }}", NIGH_ENOSUP, "plain fields" },
        { "{{ raise_exception('stop ' ~ n) }}", NIGH_EINVAL, "line 1 column 19: the template refuses: stop 7" },
        { "{{ 1 // 0 }}", NIGH_EINVAL, "division by zero" }, { "{{ 1 % 0 }}", NIGH_EINVAL, "division by zero" },
        { "{{ 1 / 0 }}", NIGH_EINVAL, "division by zero" },
        { "{{ missing.x }}", NIGH_EINVAL, "'missing' is undefined" },
        { "{{ messages[9].x }}", NIGH_EINVAL, "undefined value has no 'x'" },
        { "{{ 1 + 'a' }}", NIGH_EINVAL, "'+' does not work" }, { "{{ n() }}", NIGH_EINVAL, "cannot be called" },
        { "{{ n | tojson(sort_keys=true) }}", NIGH_ENOSUP, "sort keys" },
        { "{{ n | tojson(other=true) }}", NIGH_ENOSUP, "no argument 'other'" },
        { "{{ 4611686018427387904 * 4 }}", NIGH_ERANGE, "too large" }, { "{{ 10 ** 40 }}", NIGH_ERANGE, "too large" },
        { "{{ 99999999999999999999 }}", NIGH_EINVAL, "too large" },
        { "{% set n.x = 1 %}", NIGH_EINVAL, "only a namespace" },
        { "{% set a, b = [1] %}", NIGH_EINVAL, "do not fit" },
        { "{% for a, b in [1] %}{% endfor %}", NIGH_EINVAL, "no items" },
        { "{% macro f() %}{% endmacro %}{{ f(1) }}", NIGH_EINVAL, "takes 0 arguments" },
        { "{% macro f() %}{% endmacro %}{{ f(a=1) }}", NIGH_EINVAL, "no 'a'" },
        { "{{ f(*[1]) }}", NIGH_ENOSUP, "given with *" },
        { "{% for x in [] recursive %}{% endfor %}", NIGH_ENOSUP, "recursive" },
        { "{{ strftime_now('%H') }}", NIGH_ENOSUP, "%H" }, { "{{ '{' | from_json }}", NIGH_EINVAL, "from_json" },
        { "{{ {'a': 1}[[]] = 2 }}", NIGH_EINVAL, "expected }}" }, { "{{ {[]: 1} }}", NIGH_EINVAL, "cannot be a key" },
        { "{{ 's'[0:1:0] }}", NIGH_EINVAL, "step 0" }, { "{{ missing | tojson }}", NIGH_EINVAL, "no JSON" },
        { "{{ namespace() }}", NIGH_EINVAL, "cannot be shown" } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) check_refused(&cases[i]);
}

static void test_syntax(void) {
    static const refusal cases[] = { { "{{", NIGH_EINVAL, "does not end" }, { "{{ 1", NIGH_EINVAL, "does not end" },
        { "{% if 1 %}", NIGH_EINVAL, "the source ends before" }, { "{# x", NIGH_EINVAL, "comment does not end" },
        { "{% endif %}", NIGH_EINVAL, "'endif' does not belong here" },
        { "{% for x in [] %}{% endif %}", NIGH_EINVAL, "does not belong" },
        { "{% else %}", NIGH_EINVAL, "does not belong" }, { "{{ 'a }}", NIGH_EINVAL, "does not end" },
        { "{{ 1 + }}", NIGH_EINVAL, "expected a value" }, { "{{ }}", NIGH_EINVAL, "expected a value" },
        { "{{ a b }}", NIGH_EINVAL, "expected }}" }, { "{{ [1, 2 }}", NIGH_EINVAL, "expected ]" },
        { "{{ {1} }}", NIGH_EINVAL, "expected :" }, { "{{ a. }}", NIGH_EINVAL, "name after the point" },
        { "{{ $ }}", NIGH_EINVAL, "no meaning" }, { "{% set 1 = 2 %}", NIGH_EINVAL, "expected a name" },
        { "{% break %}", NIGH_EINVAL, "break outside of a loop" }, { "{% raw %}", NIGH_EINVAL, "no endraw" },
        { "{% %}", NIGH_EINVAL, "name of a tag" },
        { "{% for x in [1] %}{% macro f() %}{% break %}{% endmacro %}{% endfor %}", NIGH_EINVAL, "outside" },
        { "{{ a[] }}", NIGH_EINVAL, "expected a value" }, { "{{ a[1:2:3:4] }}", NIGH_EINVAL, "expected ]" },
        { "{{ '\\N{DASH}' }}", NIGH_ENOSUP, "escape \\N" }, { "{{ '\\ud800' }}", NIGH_EINVAL, "names no character" },
        { "{{ '\\x4' }}", NIGH_EINVAL, "hexadecimal" }, { "\xff", NIGH_EINVAL, "not UTF-8" } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) check_refused(&cases[i]);
    nigh_template *t;
    nigh_err err = { 0 };
    CHECK(nigh_template_compile(&t, NIGH_STR("a\0b"), &err) == NIGH_EINVAL && strstr(err.text, "NUL") && err.at == 1);
}

/* ---- K8 to K13: each is refused or done within 200 ms (under a sanitizer the machine is allowed ten times that)
 * ---- */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { TIME_LIMIT_MS = 2000 };
#else
enum { TIME_LIMIT_MS = 200 };
#endif

static void check_bounded(const char *name, const char *source, nigh_status want) {
    nigh_buf out = NIGH_BUF(1 << 22);
    nigh_err err = { 0 };
    struct timespec start, end;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
    nigh_status status = render_with(source, values, &out, NULL, &err);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    long ms = (end.tv_sec - start.tv_sec) * 1000 + (end.tv_nsec - start.tv_nsec) / 1000000;
    CHECK_MSG(status == want && ms <= TIME_LIMIT_MS, "%s: %s (%s) after %ld ms", name, nigh_status_name(status),
        err.text, ms);
    nigh_buf_release(&out);
}

static void test_bounds(void) {
    static const struct { const char *name, *source;
    } cases[] = { { "K8 range", "{% for i in range(10**9) %}x{% endfor %}" },
        { "K8 big loop", "{% for i in range(600000) %}{% if i %}{% endif %}{% endfor %}" },
        { "K9 nested", "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}" },
        { "K9 loops", "{% for i in range(100) %}{% for j in range(100) %}{% for k in range(100) %}{% for l in "
                      "range(100) %}{% endfor %}{% endfor %}{% endfor %}{% endfor %}" },
        { "K10 macro", "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}" },
        { "K10 two",
            "{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}" },
        { "K10 caller",
            "{% macro f() %}{{ caller() }}{% call f() %}x{% endcall %}{% endmacro %}{% call f() %}x{% endcall %}" },
        { "K11 double", "{% set ns = namespace(s='x') %}{% for i in range(40) %}{% set ns.s = ns.s + ns.s %}{% "
                        "endfor %}{{ ns.s }}" },
        { "K11 product", "{{ 'x' * 1000000000 }}" }, { "K11 join", "{{ range(500000) | join('xxxxxxxx') }}" },
        { "K11 extend", "{% set l = [1] %}{% for i in range(40) %}{% set _ = l.extend(l) %}{% endfor %}" },
        { "K11 itself", "{% set l = [1] %}{% set _ = l.append(l) %}{{ l }}" },
        { "K11 itself as JSON", "{% set l = [1] %}{% set _ = l.append(l) %}{{ l | tojson }}" },
        { "K11 itself compared",
            "{% set l = [1] %}{% set _ = l.append(l) %}{% set m = [1] %}{% set _ = m.append(m) %}{{ l == m }}" },
        { "replace",
            "{% set s = 'a' * 100000 %}{% for i in range(100) %}{% set t = s | replace('a', 'bb') %}{% endfor %}" },
        { "find",
            "{% set s = 'a' * 2000000 %}{% for i in range(1000) %}{{ s.find('a' * 1000000 ~ 'b') }}{% endfor %}" },
        { "rfind",
            "{% set s = 'a' * 200000 %}{% for i in range(1000) %}{{ s.rfind('b' ~ 'a' * 100000) }}{% endfor %}" },
        { "split", "{% set s = 'a' * 300000 %}{% for i in range(100) %}{{ s.split('a') | length }}{% endfor %}" },
        { "letters", "{% set s = 'a' * 100000 %}{% for i in range(1000) %}{{ s[i] }}{% endfor %}" },
        { "strip", "{% set s = ' ' * 1000000 %}{% for i in range(1000) %}{{ s.strip(s) }}{% endfor %}" },
        { "names", "{% set ns = namespace() %}{% for i in range(100000) %}{{ ns.a }}{{ d[i] }}{{ dict(a=1, b=2) }}{% "
                   "endfor %}" },
        { "unique", "{{ range(100000) | unique | list | length }}" },
        { "sort", "{% for i in range(100) %}{{ range(20000) | sort(reverse=true) | length }}{% endfor %}" },
        { "in", "{% set l = range(100000) | list %}{% for i in range(100000) %}{{ -1 in l }}{% endfor %}" },
        { "pop", "{% set l = range(20000) | list %}{% for i in range(20000) %}{{ l.pop(0) }}{% endfor %}" },
        { "from_json", "{% for i in range(99) %}{{ '[1]' | from_json }}{% endfor %}" },
        { "format", "{% for i in range(100000) %}{{ '{}{}'.format('x' * 100, 2) }}{% endfor %}" } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) check_bounded(cases[i].name, cases[i].source, NIGH_ERANGE);
    check_bounded("fits", "{% for i in range(10000) %}{{ i }}{% endfor %}", NIGH_OK);
}

/* begin count times, middle, end count times */
static void check_nested(
    const char *name, const char *begin, const char *middle, const char *end, size_t count, nigh_status want) {
    nigh_buf source = NIGH_BUF(1 << 26);
    for (size_t i = 0; i < count; i++) CHECK(nigh_buf_add(&source, nigh_str_of(begin)) == NIGH_OK);
    CHECK(nigh_buf_add(&source, nigh_str_of(middle)) == NIGH_OK);
    for (size_t i = 0; i < count; i++) CHECK(nigh_buf_add(&source, nigh_str_of(end)) == NIGH_OK);
    CHECK(nigh_buf_add_char(&source, '\0') == NIGH_OK);
    check_bounded(name, source.ptr, want);
    nigh_buf_release(&source);
}

static void test_nesting(void) {
    check_nested("64 if", "{% if 1 %}", "x", "{% endif %}", 60, NIGH_OK);
    check_nested("65 if", "{% if 1 %}", "x", "{% endif %}", 65, NIGH_ERANGE);
    check_nested("20000 if", "{% if 1 %}", "x", "", 20000, NIGH_ERANGE);
    check_nested("100000 if", "{% if 1 %}", "x", "", 100000, NIGH_ERANGE);
    check_nested("brackets", "(", "{{ ", "", 1, NIGH_EINVAL);
    check_nested("20 brackets", "", "{{ ((((((((((((((((((((1)))))))))))))))))))) }}", "", 1, NIGH_OK);
    check_nested("100000 not", "{{ 1 }}", "{{ not 1 }}", "", 20000, NIGH_OK);
    check_nested("16 MB", "xxxxxxxxxxxxxxxx", "", "", 1 << 20, NIGH_ERANGE);
    nigh_buf source = NIGH_BUF(1 << 20);
    static const struct { const char *open, *more, *close; nigh_status want;
    } chains[] = { { "{{ ", "(", " }}", NIGH_ERANGE }, { "{{ ", "not ", "1 }}", NIGH_ERANGE },
        { "{{ ", "-", "1 }}", NIGH_ERANGE }, { "{{ ", "[", " }}", NIGH_ERANGE }, { "{{ ", "{1:", " }}", NIGH_ERANGE },
        { "{{ ", "1 if 1 else ", "1 }}", NIGH_ERANGE }, { "{{ 1", "+1", " }}", NIGH_OK },
        { "{{ 1", " ~ 1", " }}", NIGH_OK }, { "{{ n", "|abs", " }}", NIGH_OK }, { "{{ f", "(", " }}", NIGH_ERANGE },
        { "{{ d", "[d", " }}", NIGH_ERANGE }, { "{{ 1", " is odd", " }}", NIGH_OK },
        { "{% if 0 %}", "{% elif 0 %}", "{% endif %}", NIGH_OK }, { "{{ 'a'", " 'b'", " }}", NIGH_OK } };
    for (size_t i = 0; i < NIGH_COUNT(chains); i++) {
        source.len = 0;
        CHECK(nigh_buf_add(&source, nigh_str_of(chains[i].open)) == NIGH_OK);
        for (int k = 0; k < 20000; k++) CHECK(nigh_buf_add(&source, nigh_str_of(chains[i].more)) == NIGH_OK);
        CHECK(nigh_buf_add(&source, nigh_str_of(chains[i].close)) == NIGH_OK &&
              nigh_buf_add_char(&source, '\0') == NIGH_OK);
        check_bounded(chains[i].more, source.ptr, chains[i].want);
    }
    nigh_buf_release(&source);
}

/* ---- marks ---- */
/* Renders and writes each byte's mark as a letter: t of the template, u of the user. */
static void check_marks(const char *source, const char *want_text, const char *want_marks) {
    static const char given[] = "{\"c\":\"<|x|>\",\"n\":5,\"l\":[\"<a>\",\"b\"],\"m\":[{\"role\":\"user\","
                                "\"content\":\"user\"},{\"role\":\"<|x|>\",\"content\":\" q \"}]}";
    nigh_buf out = NIGH_BUF(1 << 20);
    nigh_spans spans = { 0 };
    nigh_err err = { 0 };
    char marks[256] = { 0 };
    CHECK_MSG(render_with(source, given, &out, &spans, &err) == NIGH_OK, "%s: %s", source, err.text);
    for (size_t i = 0, at = 0; i < spans.count; i++)
        for (; at < spans.ptr[i].end && at < sizeof marks - 1; at++) marks[at] = spans.ptr[i].user ? 'u' : 't';
    CHECK_MSG(nigh_str_eq(nigh_buf_str(&out), nigh_str_of(want_text)) && strcmp(marks, want_marks) == 0,
        "%s\n    %.*s\n    %s, not\n    %s", source, (int)out.len, out.ptr, marks, want_marks);
    nigh_spans_release(&spans);
    nigh_buf_release(&out);
}

static void test_marks(void) {
    static const struct { const char *source, *text, *marks;
    } cases[] = { { "{{ bos_token }}<|x|>{{ c }}", "<s><|x|><|x|>", "tttttttttuuuuu" + 1 },
        { "{{ '<|' + c + '|>' }}", "<|<|x|>|>", "ttuuuuutt" }, { "{{ ('[' ~ c ~ ']')[1:-1] }}", "<|x|>", "uuuuu" },
        { "{{ ('ab' ~ c) | upper }}", "AB<|X|>", "ttuuuuu" }, { "{{ ('  ab' ~ c) | trim }}", "ab<|x|>", "ttuuuuu" },
        { "{{ ('a,' ~ c).split(',')[1] }}", "<|x|>", "uuuuu" },
        { "{{ ['<b>', c] | join('-') }}", "<b>-<|x|>", "ttttuuuuu" },
        { "{{ c | replace('x', 'y') }}", "<|y|>", "uutuu" },
        { "{{ 'axa' | replace('x', c) }}", "a<|x|>a", "tuuuuut" },
        { "{{ l | tojson }}", "[\"<a>\", \"b\"]", "uuuuuuuuuuuu" },
        { "{{ {'k': c} | tojson }}", "{\"k\": \"<|x|>\"}", "ttttttuuuuuuut" },
        { "{{ n }}{{ n + 1 }}{{ 1 + 1 }}{{ l | length }}", "5622", "uutu" },
        { "{% macro f(a) %}<{{ a }}>{% endmacro %}{{ f(c) }}{{ f('z') }}", "<<|x|>><z>", "tuuuuutttt" },
        { "{% set x %}[{{ c }}]{% endset %}{{ x }}", "[<|x|>]", "tuuuuut" },
        { "{{ m[0].role }}{{ m[1].role }}{{ m[0].content }}", "user<|x|>user", "ttttuuuuuuuuu" },
        { "{{ '{}!'.format(c) }}", "<|x|>!", "uuuuut" },
        { "{{ c[::-1] }}{{ c | reverse }}", ">|x|<>|x|<", "uuuuuuuuuu" },
        { "{{ ['<z>', c] }}", "['<z>', '<|x|>']", "ttttttttuuuuuuut" },
        { "{{ m[1] }}", "{'role': '<|x|>', 'content': ' q '}", "uuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuuu" },
        { "{{ c if true }}{{ '<y>' if c }}{{ c or 'x' }}", "<|x|><y><|x|>", "uuuuutttuuuuu" },
        { "{% for x in c %}{{ x }}{% endfor %}{{ c | list | join }}", "<|x|><|x|>", "uuuuuuuuuu" },
        { "{{ (c ~ '\\n<y>') | indent(2) }}", "<|x|>\n  <y>", "uuuuutttttt" },
        { "{{ '\"<|z|>\"' | from_json }}", "<|z|>", "uuuuu" },
        { "{{ c * 2 }}{{ [c] | first }}{{ c.strip('<') }}", "<|x|><|x|><|x|>|x|>", "uuuuuuuuuuuuuuuuuuu" },
        { "{{ (m | map(attribute='role') | list)[1] }}{{ 'a' ~ (c == 'x') }}", "<|x|>aFalse", "uuuuutuuuuu" } };
    for (size_t i = 0; i < NIGH_COUNT(cases); i++) check_marks(cases[i].source, cases[i].text, cases[i].marks);
}

/* ---- an empty memory, at every turn ---- */
static void test_faults(void) {
    static const char source[] = "{% macro f(a) %}<{{ a | upper }}>{% endmacro %}{% set ns = namespace(x=[]) %}{% "
                                 "for m in messages %}{% set _ = ns.x.append(m.role ~ f(m.content)) %}{% endfor %}"
                                 "{{ ns.x | join(',') }}{{ tools | tojson(indent=2) }}{{ s.split(',') | sort | list "
                                 "}}{{ '{\"a\": 0.5}' | from_json }}{% filter trim %} a {% endfilter %}";
    uint64_t n = 1;
    for (nigh_status status = NIGH_ENOMEM; status != NIGH_OK && n < 1000; n++) {
        nigh_buf out = NIGH_BUF(1 << 20);
        nigh_spans spans = { 0 };
        nigh_err err = { 0 };
        nigh_alloc_fail_at(n, false);
        status = render_with(source, values, &out, &spans, &err);
        nigh_alloc_fail_at(0, false);
        CHECK_MSG(status == NIGH_OK || (status == NIGH_ENOMEM && err.code == NIGH_ENOMEM && out.len == 0),
            "request %d: %s %s", (int)n, nigh_status_name(status), err.text);
        nigh_spans_release(&spans);
        nigh_buf_release(&out);
        CHECK(nigh_alloc_live_bytes() == 0);
    }
    CHECK_MSG(n > 20 && n < 1000, "%d", (int)n);
}

TEST_MAIN(T(test_white_space), T(test_expressions), T(test_statements), T(test_filters), T(test_methods),
    T(test_refused), T(test_syntax), T(test_bounds), T(test_nesting), T(test_marks), T(test_faults))
