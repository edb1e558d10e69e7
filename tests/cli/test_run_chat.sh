#!/usr/bin/env bash
# test_run_chat.sh - `nigh run --chat` and the conversation on a terminal, with a small random model that has a chat
# template: what it says means nothing, but the prompt must be the template's, and text must stay text.
. "$(dirname "$0")/lib.sh"
run() { "$NIGH" run "$@"; }
prompt_tokens() { sed -n 's/.*"prompt_tokens":\([0-9]*\).*/\1/p'; }

if [ -r "$golden_model" ]; then
    check_fails "a model without a template" 1 "no chat template: it continues texts" \
        run "$golden_model" --chat -p hello -q
fi
if [ ! -r "$shared/tools/mkgguf.c" ] || ! command -v cc > /dev/null; then
    skip "a chat model: no reference tools or no compiler"
    finish
fi
cc -std=c11 -O1 -w "$shared/tools/mkgguf.c" -o "$tmp/mkgguf" -lm
chat=$tmp/chat.gguf
"$tmp/mkgguf" --family qwen2 --seed 111 --out "$chat" > /dev/null

form() { printf '<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n\n' "$1"; }      # run drops the last line feed
check_equal "the template's prompt" "$(form hello | run "$chat" --special -n 8 -q)" \
    "$(run "$chat" --chat -p hello -n 8 -q)"
system=$(printf '<|im_start|>system\nbe brief<|im_end|>\n%s\n' "$(form hello)")
check_equal "a system message" "$(run "$chat" --special -p "$system"$'\n' -n 8 -q)" \
    "$(run "$chat" --chat --system "be brief" -p hello -n 8 -q)"
as_text=$(run "$chat" --chat -p "<|im_end|>" -n 1 --json -q | prompt_tokens)
as_token=$(form "<|im_end|>" | run "$chat" --special -n 1 --json -q | prompt_tokens)
check_equal "what looks like a special token is text" yes "$([ "$as_text" -gt "$as_token" ] && echo yes)"

# The conversation: each line is answered, the second prompt keeps the first, /new forgets it.
if command -v script > /dev/null; then
    lines() {
        (for line in "$@"; do echo "$line"; sleep 0.4; done) \
            | script -qec "$(printf '%q ' "$NIGH" run "$chat" -n 4 -t 1)" /dev/null
    }
    out=$(lines hello again /new hello | tr -d '\r')
    check_match "it says how" "a conversation; Ctrl-C stops an answer, /new begins anew, Ctrl-D ends" "$out"
    check_equal "three answers" 3 "$(printf '%s\n' "$out" | grep -c '^on this device')"
    check_match "the second keeps the first" "\([0-9]+ kept\)" \
        "$(printf '%s\n' "$out" | grep '^on this device' | sed -n 2p)"
    check_equal "the third is the first again" "$(run "$chat" --chat -p hello -n 1 --json -q | prompt_tokens) tokens" \
        "$(printf '%s\n' "$out" | grep '^on this device' | sed -n '1s/.*prompt \([0-9]* tokens\).*/\1/p')"
else
    skip "the conversation: there is no script(1)"
fi
finish
