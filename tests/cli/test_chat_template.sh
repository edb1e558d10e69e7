#!/usr/bin/env bash
# test_chat_template.sh - `nigh chat-template`: a source and a model file to prompts, dates, spans, refusals with line
# and column.
. "$(dirname "$0")/lib.sh"
prompt() { "$NIGH" chat-template "$@"; }
request='{"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi <|im_end|>"}]}'

check_examples chat-template
chatml='{% for m in messages %}{{ "<|im_start|>" ~ m.role ~ "\n" ~ m.content ~ "<|im_end|>\n" }}{% endfor %}'
printf '%s' "$chatml" > "$tmp/chatml.jinja"
want=$'<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi <|im_end|><|im_end|>'
check_equal "a source" "$want" "$(echo "$request" | prompt "$tmp/chatml.jinja")"
check_equal "built in, chatml" \
    "$want"$'\n<|im_start|>assistant' "$(echo "$request" | prompt --builtin chatml)"
check_equal "built in, plain" \
    $'Be brief.\n\nUser: Hi <|im_end|>\nAssistant:' "$(echo "$request" | prompt --builtin plain)"
check_match "spans" \
    '"spans":\[\{"end":19,"user":false\},\{"end":28,"user":true\},' \
    "$(echo "$request" | prompt "$tmp/chatml.jinja" --json)"
check_match "takes" \
    '"template":"plain","takes":\{"system":true,"text":true' "$(echo "$request" | prompt --builtin plain --json)"

printf '{{ bos_token }}{{ strftime_now("%%d %%b %%Y") }} {{ date_string }} {{ eos_token }}' > "$tmp/date.jinja"
check_equal "the date" "21 Nov 2026 21 Nov 2026 </s>" "$(echo "$request" | prompt "$tmp/date.jinja" --date 2026-11-21)"
today=$(date -u +'%d %b %Y')
check_match "today" "^($today|$(date -u +'%d %b %Y')) " "$(echo "$request" | prompt "$tmp/date.jinja")"
given='{"messages":[{"role":"user","content":"x"}],
        "bos_token":"[B]","eos_token":"[E]","chat_template_kwargs":{"n":[1,null]}}'
printf '.{{ bos_token }}{{ eos_token }}{{ n }}' > "$tmp/tokens.jinja"
check_equal "tokens and more names" ".[B][E][1, None]" "$(echo "$given" | prompt "$tmp/tokens.jinja")"

# refuses CASE CODE PATTERN SOURCE [REQUEST]
refuses() {
    printf '%s' "$4" > "$tmp/bad.jinja"
    local err
    err=$(printf '%s' "${5:-$request}" | prompt "$tmp/bad.jinja" 2>&1 > "$tmp/out")
    check_equal "$1: exit code" "$2" $?
    check_match "$1" "$3" "$err"
    check_equal "$1: no prompt" 0 "$(wc -c < "$tmp/out")"
}
refuses "unknown filter" 10 "line 2 column 6: unknown filter 'frob'" $'a\n{{ x|frob }}'
refuses "unknown tag" 10 "line 1 column 4: unknown tag 'include'" '{% include "x" %}'
refuses "no end" 1 "line 1 column 1: the source ends before elif else endif" '{% if 1 %}'
refuses "its own refusal" 1 "the template refuses: roles" '{{ raise_exception("roles") }}'
refuses "too many steps" 3 "more than 1000000 steps|takes more than" '{% for i in range(10**9) %}{% endfor %}'
refuses "no messages" 1 "messages must be an array" 'x' '{}'
refuses "no JSON" 1 "JSON, line 1 column 2" 'x' '{'
check_fails "no file" 2 "there is no|no such|cannot" "$NIGH" chat-template "$tmp/none.jinja"
check_fails "no argument" 1 "expected one FILE" "$NIGH" chat-template
check_fails "bad date" 1 "a date like 2026-11-21" "$NIGH" chat-template --date 2026-13-01 "$tmp/chatml.jinja"
check_fails "bad name" 1 "wants plain or chatml" "$NIGH" chat-template --builtin other
check_fails "a model without one" 2 "has no chat template; --builtin" "$NIGH" chat-template models/nigh-stories.gguf

# A model file's own template.
if [ -r "$shared/tools/mkgguf.c" ] && command -v cc > /dev/null; then
    cc -std=c11 -O1 -w "$shared/tools/mkgguf.c" -o "$tmp/mkgguf" -lm
    "$tmp/mkgguf" --family qwen2 --seed 1 --out "$tmp/m.gguf" > /dev/null
    check_match "a model file" '^<\|im_start\|>' "$(echo "$request" | prompt "$tmp/m.gguf")"
fi
finish
