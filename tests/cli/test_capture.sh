#!/usr/bin/env bash
# test_capture.sh - `nigh capture` with a node that answers by a policy: what is captured, what never is, and the end.
. "$(dirname "$0")/lib.sh"
[ -r "$PWD/models/nigh-stories.gguf" ] || { skip "models/nigh-stories.gguf is not there"; finish; }
command -v curl > /dev/null || { skip "there is no curl"; finish; }
export NIGH_HOME=$tmp/home TZ=UTC
cd "$tmp" || exit 1
write_policy() { # write_policy VERSION CAPTURES
    cat > policy.json <<JSON
{ "version": $1, "classes": { "personal": { "level": 1, "may_cross": ["device"] } },
  "targets": { "tiny": { "tier": "device", "model": "nigh-stories" } },
  "features": { "story": { "class": "personal", "place": ["tiny"], "degrade": ["error"] },
                "tale": { "class": "personal", "place": ["tiny"], "degrade": ["error"] } }, "captures": { $2 } }
JSON
}
node=0
trap '[ $node = 0 ] || kill $node 2> /dev/null; wait; rm -rf "$tmp"' EXIT
serve() {
    "$NIGH" serve --policy policy.json --port 0 > serve.log 2>&1 &
    node=$!
    for _ in $(seq 100); do grep -qs 'nigh is at' serve.log && break; sleep 0.1; done
    base=$(grep -o 'http://[0-9.:]*' serve.log)
    [ -n "$base" ] || { bad "the node did not start: $(cat serve.log)"; finish; }
}
stop() { kill $node; wait $node; node=0; }
ask() { # ask FEATURE WORD MORE
    curl -s -H 'content-type: application/json' "$base/v1/completions" \
        -d "{\"model\":\"feature/$1\",\"prompt\":\"The $2 walked\",\"max_tokens\":8,\"temperature\":0$3}"
}
case='"case-142": { "feature": "story", "tenant": "", "until": "2099-01-01T00:00:00Z", "approved_by": ["anna", "ben"],
    "readers": ["oncall"] }'

write_policy 1 ""
serve
ask story Xanthippe "" > /dev/null
check_equal "nothing by default" 1 "$(grep -raq Xanthippe "$NIGH_HOME"; echo $?)"
check_equal "and no folder" 1 "$(test -e "$NIGH_HOME/captures"; echo $?)"
check_equal "said so" "nothing is captured, and nothing was" "$("$NIGH" capture list)"
stop

write_policy 2 "$case"
serve
answer=$(ask story Zebulon "")
ask tale Ophelia "" > /dev/null
ask story Balthasar ',"stream":true' > stream.txt
sleep 0.3
check_equal "sealed" 1 "$(grep -raqE 'Zebulon|Balthasar|Ophelia' "$NIGH_HOME"; echo $?)"
said=$("$NIGH" capture list)
check_match "the list" "^case-142  goes on until 2099-01-01" "$said"
check_match "who approved it" "approved by +anna, ben" "$said"
check_match "how much" "held +2 answers" "$said"
"$NIGH" capture read case-142 --as oncall > read.txt
check_equal "one line an answer" 2 "$(wc -l < read.txt)"
check_match "the request" 'The Zebulon walked' "$(cat read.txt)"
text=$(printf '%s' "$answer" | sed 's/.*"text":"\([^"\\]*\).*/\1/')
check_match "the answer" "$text" "$(cat read.txt)"
check_match "the words of a stream" 'Balthasar.*"answer":"[^"]{6,}"}$' "$(cat read.txt)"
check_equal "no other feature" 0 "$(grep -c Ophelia read.txt)"
check_fails "not a reader" 9 "not one of those" "$NIGH" capture read case-142 --as mallory
check_fails "who?" 1 "wants --as READER" "$NIGH" capture read case-142
check_match "the reading is noted" "read 1 times" "$("$NIGH" capture list)"

check_match "the end" "the key of case-142 is destroyed" "$("$NIGH" capture end case-142)"
ask story Hildegard "" > /dev/null
check_equal "the key is gone" 1 "$(test -e "$NIGH_HOME/captures/case-142.key"; echo $?)"
check_equal "the entries, too" 1 "$(test -e "$NIGH_HOME/captures/case-142.capture"; echo $?)"
check_fails "nobody reads it" 11 "has ended" "$NIGH" capture read case-142 --as oncall
check_match "what is left" "^case-142  ended .*; the key is destroyed" "$("$NIGH" capture list)"
stop
serve
ask story Kunigunde "" > /dev/null
check_equal "a name is used once" 1 "$(test -e "$NIGH_HOME/captures/case-142.capture"; echo $?)"
stop
check_fails "no such capture" 2 "there is no capture" "$NIGH" capture end case-1
check_examples capture
write_policy 3 '"c": { "feature": "story", "tenant": "", "until": "2099-01-01T00:00:00Z", "approved_by": ["anna", "anna"], "readers": ["x"] }'
check_fails "one person alone" 1 "two different people" "$NIGH" check policy.json
finish
