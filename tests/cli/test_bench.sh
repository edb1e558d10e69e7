#!/usr/bin/env bash
# test_bench.sh - `nigh bench`: the keys, that they fit together, the table, refusals. It proves no speed.
. "$(dirname "$0")/lib.sh"
bench() { "$NIGH" bench "$@"; }

check_examples bench
out=$(bench "$model" -p 32 -n 8 -r 1 -t 1 --json)
for key in prompt_tps decode_tps load_ms first_token_ms rss_mb memory_gbps decode_share; do
    check_match "$key is above 0" "\"$key\":(0\.0*[1-9]|[1-9])" "$out"
done
check_match "what was measured" '"threads":1,"cpu":"(scalar|avx2|avx512)","prompt":32,"tokens":8,"context":0,"rounds":1\}$' "$out"
check_match "the model" "\"model\":\"$(sha256sum "$model" | cut -c 1-64)\"" "$out"
value() { printf '%s' "$out" | sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p"; }
share=$(awk "BEGIN { s = $(value decode_tps) * $(value decode_bytes) / 1e9 / $(value memory_gbps)
    d = s / $(value decode_share) - 1
    print (d < 0.01 && d > -0.01) ? \"fits\" : s }")
check_equal "decode_share = decode_tps x decode_bytes / memory_gbps" fits "$share"
out=$(bench "$model" -p 8 -n 4 -c 40 -r 3 -t 1 --json)
rate='[0-9]+\.[0-9]{2}'
check_match "each round" "\"prompt_rounds\":\[$rate,$rate,$rate\],\"decode_rounds\":\[$rate,$rate,$rate\]" "$out"
check_match "a context" '"tokens":4,"context":40,"rounds":3\}$' "$out"
out=$(bench "$model" --start -t 1 --json)
check_match "a start" '^\{"start_ms":[0-9.]+,"load_ms":[0-9.]+,"first_token_ms":[0-9.]+,"peak_mb":[0-9.]+,"model"' "$out"
check_equal "the start holds its parts" fits "$(awk "BEGIN {
    rest = $(value start_ms) - $(value load_ms) - $(value first_token_ms)
    print (rest > -0.02) ? \"fits\" : rest }")"
check_match "a start in words" 'first token after [0-9.]+ ms .*, at most [0-9.]+ MB; .*1 threads' "$(bench "$model" --start -t 1)"
out=$(printf 'prompt\ndecode\ndecode 40 3\nmemory\n' | bench "$model" -p 8 -n 4 -c 40 -t 1 --steps | cut -d , -f 2- | tail -n 4)
check_match "steps" '^\{"prompt_tps":[0-9.]+\}' "$out"
check_match "steps: decode"  '^"context":0,"tokens":4\}' "$out"
check_match "steps: decode behind a context"  '^"context":40,"tokens":3\}' "$out"
check_match "steps: memory" '^\{"memory_gbps":[0-9.]+\}$' "$out"
steps() { printf '%s\n' "$1" | bench "$model" -p 8 -n 4 -c 40 -t 1 --steps > "$tmp/steps"; }
check_fails "a context beyond the limit" 1 "'decode 41' is no step; memory, prompt, or decode 0..40 1..4" steps "decode 41"
check_fails "too many tokens" 1 "'decode 0 5' is no step" steps "decode 0 5"
check_fails "no tokens" 1 "is no step" steps "decode 0 0"
check_fails "a word too many" 1 "is no step" steps "decode 1 1 1"
check_fails "no number" 1 "is no step" steps "decoder"
check_fails "a word that is no step" 1 "'dance' is no step" steps dance
check_match "NIGH_CPU" '"cpu":"scalar"' "$(NIGH_CPU=scalar bench "$model" -p 4 -n 2 -r 1 --json)"
table=$(bench "$model" -p 32 -n 8 -r 1 -t 1)
for word in 'load .* ms' 'prompt +32 .* tokens/s .*first token after' 'decode +8 .* tokens/s' 'memory read .* GB/s' \
    'share .* %' 'resident .* MB'; do
    check_match "the table" "$word" "$table"
done
check_fails "no model" 1 "no model is named" bench
check_fails "context" 3 "this model has a context of [0-9]+ tokens; give less with -p, -n and -c" bench "$model" -p 1000000
check_match "the context in the table" 'behind 40 tokens of context' "$(bench "$model" -p 8 -n 4 -c 40 -r 1)"
check_fails "context and tokens" 3 "this model has a context of" bench "$model" -c 1000 -n 1000
check_fails "rounds" 1 "rounds must lie in 1..100" bench "$model" -r 0
finish
