#!/usr/bin/env bash
# test_policy.sh - `nigh check`, `nigh plan`, `nigh explain`: answers, exit codes, what a person reads when a file is wrong.
. "$(dirname "$0")/lib.sh"
policy=$PWD/examples/features.json
cd "$tmp" || exit 1
cp "$policy" features.json
sed 's/"place": \["tiny"\], "latency"/"place": [], "latency"/; s/"trains": false, "cost"/"trains": true, "cost"/' features.json \
    > features.old.json
check_examples_in() { # the examples of a command's help, run here; their exit code is part of the answer
    local code
    examples "$1" | while IFS= read -r line; do
        (cd "$tmp" && PATH="$(dirname "$NIGH"):$PATH" bash -c "$line" > /dev/null 2> "$tmp/said")
        code=$?
        [ $code = 0 ] || [ $code = 11 ] || echo "$line: $code $(cat "$tmp/said")"
    done
}
for command in check plan explain; do check_equal "examples of $command" "" "$(check_examples_in $command)"; done

check_match "the whole policy" "^autocomplete \(personal\)" "$("$NIGH" check features.json)"
check_equal "never leaves" 2 "$("$NIGH" check features.json | grep -c 'leaves the device: never')"
check_match "cannot leave the region" "^no: mail-summary cannot leave eu" \
    "$("$NIGH" check features.json --can mail-summary --leave eu)"
said=$("$NIGH" check features.json --can mail-summary 2> /dev/null)
check_equal "leaves the device: exit code" 11 $?
check_match "leaves the device: witness" "^yes: .* of class personal can reach mid \(edge\)" "$said"
check_match "as JSON" '^\{"leaves":true,"class":"personal","target":"mid"\}$' \
    "$("$NIGH" check features.json --can mail-summary --json 2> /dev/null)"
said=$("$NIGH" check features.json --from features.old.json 2> /dev/null)
check_equal "a new flow: exit code" 11 $?
check_match "a new flow" "mail-summary, personal data -> big-eu: is a new flow" "$said"
check_match "no new flow" "no new data flow" "$("$NIGH" check features.json --from features.json)"
sed 's/"version": 1/"version": 9/' features.json > newer.json
check_fails "never an older one" 11 "lower version" sh -c "'$NIGH' check features.json --from newer.json > /dev/null"

check_equal "nothing to warn of" "" "$("$NIGH" check features.json | grep warning)"
unsure='"escalate": { "when": ["confidence"], "threshold": 0.5 }'
sed 's|http://127.0.0.1:6445|http://10.0.0.7:6445|; s|"class": "public", "place"|"class": "public", '"$unsure"', "place"|' \
    features.json > warned.json
check_match "plain http" "^warning: mid is asked over http" "$("$NIGH" check warned.json)"
check_match "a threshold of nowhere" "^warning: translate escalates below a threshold" "$("$NIGH" check warned.json)"
sed 's|"place": \["mid", "big-eu"\], "rank": "cost"|"place": ["mid", "big-eu"], "rank": "cost", "hedge": { "after_ms": 300 }|' features.json > hedged.json
check_match "plan, a second target" "hedge: no word after 300 ms, and big-eu is asked beside it" \
    "$("$NIGH" plan hedged.json --tenant acme)"
check_match "plan, for programs" '"shares":\{"mid":1\},"hedge":"big-eu"' "$("$NIGH" plan hedged.json --tenant acme --json)"
check_fails "no receipt" 1 "wants an id like" "$NIGH" explain features.json translate --receipt 12
check_match "plan" "1\. +tiny +device +free" "$("$NIGH" plan features.json)"
check_match "plan, offline" "no +big-eu +cloud +.*offline" "$("$NIGH" plan features.json --offline)"
check_match "plan, its tenant" "[12]\. +mid +edge" "$("$NIGH" plan features.json --tenant acme)"
check_match "a secret stays" "no +big-eu +cloud +class" "$("$NIGH" explain features.json translate --class secret)"
check_match "a class nobody can lower" "^class personal" "$("$NIGH" explain features.json mail-summary --class public)"
check_match "an alias" "gpt-4o-mini stands for the feature mail-summary" \
    "$("$NIGH" explain features.json gpt-4o-mini)"
check_match "an unknown name" '"class":"secret","order":\["tiny"\]' "$("$NIGH" explain features.json nobody --json)"

check_fails "no file" 2 "nothere.json" "$NIGH" check nothere.json
sed 's/"place": \["tiny"\], "degrade"/"plaec": ["tiny"], "degrade"/' features.json > wrong.json
check_fails "a spelling mistake" 1 "wrong.json:[0-9]+:[0-9]+: policy: plaec: this key is not known" "$NIGH" check wrong.json
check_fails "no such feature" 2 "there is no feature 'x' in this policy; it has: autocomplete" "$NIGH" check features.json --can x
check_fails "no such region" 2 "no region 'mars'" "$NIGH" check features.json --can translate --leave mars
check_fails "no such class" 2 "no class 'x' in this policy; it has: public" "$NIGH" explain features.json translate --class x
finish
