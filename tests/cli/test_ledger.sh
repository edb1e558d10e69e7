#!/usr/bin/env bash
# test_ledger.sh - `nigh where`, `nigh ledger`, `nigh verify` on the ledger of a node that answers by a policy: what they
# print, and that every change is noticed.
. "$(dirname "$0")/lib.sh"
shipped=$PWD/models/nigh-stories.gguf
[ -r "$shipped" ] || { skip "models/nigh-stories.gguf is not there"; finish; }
command -v curl > /dev/null || { skip "there is no curl"; finish; }
export NIGH_HOME=$tmp/home TZ=UTC
cd "$tmp" || exit 1
cat > policy.json <<'JSON'
{ "version": 3, "classes": { "personal": { "level": 1, "may_cross": ["device"] } },
  "targets": { "tiny": { "tier": "device", "model": "nigh-stories" } },
  "features": { "story": { "class": "personal", "place": ["tiny"], "retention": { "output": "7d" }, "degrade": ["error"] },
                "=tale": { "class": "personal", "place": ["tiny"], "degrade": ["error"] } } }
JSON
"$NIGH" serve --policy policy.json --port 0 > serve.log 2>&1 &
node=$!
trap 'kill $node 2> /dev/null; wait $node 2> /dev/null; rm -rf "$tmp"' EXIT
for _ in $(seq 100); do grep -qs 'nigh is at' serve.log && break; sleep 0.1; done
base=$(grep -o 'http://[0-9.:]*' serve.log)
[ -n "$base" ] || { bad "the node did not start: $(cat serve.log)"; finish; }
ask() { # ask REQUEST ANSWER: prints the receipt's name
    curl -s -D head -o "$2" -H 'content-type: application/json' -d @"$1" "$base/v1/completions"
    sed -n 's/.*rid=\(rcpt-[0-9a-f]*\).*/\1/p' head
}
printf '{"model":"feature/story","prompt":"Once upon a time","max_tokens":30,"temperature":0.8,"seed":7}' > request.json
printf '{"model":"feature/=tale","prompt":"The king","max_tokens":8,"temperature":0}' > tale.json
printf '{"model":"feature/story","prompt":"The king","max_tokens":8}' > drawn.json
id=$(ask request.json answer.json)
tale=$(ask tale.json tale.answer.json)
drawn=$(ask drawn.json drawn.answer.json)
check_match "an answer names its receipt" '^rcpt-[0-9a-f]{16}$' "$id"

said=$("$NIGH" where "$id")
check_match "where, right after the answer" "answered on this device by the model nigh-stories" "$said"
check_match "who" "Whoever asked, from this machine, and whoever runs this device" "$said"
check_match "how long" "the answer for at most 7 days" "$said"
check_match "the region" "No: version 3 of the policy lets story reach no place" "$said"
check_match "the newest" "$drawn" "$("$NIGH" where last)"
check_match "as JSON" "^\{\"id\":\"$id\",\"at_ms\":[0-9]+,\"where\":\"It was" "$("$NIGH" where "$id" --json)"

said=$("$NIGH" ledger)
check_match "a line an answer" "story +personal +tiny +device +here +0 B +0 B +[0-9]+ ms +$id +answered" "$said"
check_match "totals" "^tiny +3 +0 +0 +0 B" "$said"
check_equal "one feature" 2 "$("$NIGH" ledger --feature story --limit 1 --csv --from today | wc -l)"
check_match "more than is shown" "^1 of 2; --limit shows more" "$("$NIGH" ledger --feature story --limit 1)"
check_equal "nothing before" "no record fits" "$("$NIGH" ledger --to 2020-01-01)"
check_match "no formula for a spreadsheet" ",\"'=tale\"," "$("$NIGH" ledger --csv)"
check_equal "JSON parses" 3 "$("$NIGH" ledger --json | grep -o '"n":' | wc -l)"
check_equal "no word of what was asked" 0 "$(grep -ac 'Once upon a time' "$NIGH_HOME"/ledger.db*| grep -vc ':0$')"
check_fails "a time that is none" 1 "wants a time like" "$NIGH" ledger --from soon
check_fails "an unknown name" 2 "has no record 'rcpt-0'" "$NIGH" where rcpt-0
check_fails "no ledger" 2 "there is no ledger" env NIGH_HOME="$tmp/nobody" "$NIGH" ledger

"$NIGH" where "$id" --receipt > receipt.json
key=$(sed 's/.*"key":"\([0-9a-f]*\)".*/\1/' receipt.json)
check_match "a receipt holds" "^the receipt holds: $id" "$("$NIGH" verify receipt.json --public-key "$key")"
check_match "and is in the ledger" "^the ledger has the same record" "$("$NIGH" verify receipt.json --ledger)"
check_match "another node's" "no public key was named" "$(NIGH_HOME=$tmp/nobody "$NIGH" verify receipt.json)"
sed 's/"class":"personal"/"class":"public"/' receipt.json > changed.json
check_fails "a changed receipt" 6 "the record was changed" "$NIGH" verify changed.json
check_fails "another key" 9 "signed with another key" "$NIGH" verify receipt.json --public-key "${key/[0-9]/a}"
check_fails "no receipt" 1 "not a signed receipt" "$NIGH" verify answer.json

"$NIGH" where "$id" --request request.json --answer answer.json --path /v1/completions > kept.json
said=$("$NIGH" verify kept.json)
check_match "made again" "^answer 1: equal" "$said"
check_match "tokens as signed" "^tokens: [0-9]+ in, 30 out, as the receipt says" "$said"
check_match "with another number of threads" "^answer 1: equal" "$("$NIGH" verify kept.json -t 3)"
check_match "in plain C" "^answer 1: equal" "$(NIGH_CPU=scalar "$NIGH" verify kept.json)"
sed 's/"text":" in/"text":" on/' kept.json > other.json
check_fails "another answer" 6 "differs from byte 1 on" sh -c "'$NIGH' verify other.json > /dev/null"
"$NIGH" where "$tale" --request request.json --answer answer.json --path /v1/completions > other.json
check_fails "another receipt" 6 "the receipt counts" sh -c "'$NIGH' verify other.json > /dev/null"
"$NIGH" where "$drawn" --request drawn.json --answer drawn.answer.json --path /v1/completions > drawn.kept.json
check_fails "drawn without a seed" 1 "without a seed" sh -c "'$NIGH' verify drawn.kept.json > /dev/null"
check_fails "another model" 6 "is not the model of the receipt" sh -c "'$NIGH' verify kept.json --model policy.json > /dev/null"

check_match "the ledger" "^the ledger holds: 3 records" "$("$NIGH" verify --ledger)"
check_fails "one process writes" 8 "another process" "$NIGH" serve --policy policy.json --port 0
kill $node
wait $node
check_match "after the node" "^the ledger holds: 3 records" "$("$NIGH" verify --ledger --public-key "$key")"
for at in $(grep -abo personal "$NIGH_HOME/ledger.db" | cut -d: -f1 | head -n 3); do
    cp "$NIGH_HOME/ledger.db" changed.db
    printf P | dd of=changed.db bs=1 seek="$at" conv=notrunc status=none
    check_fails "a byte at $at" 6 "record [123]: its bytes do not fit" "$NIGH" verify --ledger --file changed.db
done
check_match "deleted for its age" "^deleted 0 records" "$("$NIGH" ledger --delete-before 1d)"
check_match "all of it" "^deleted 3 records" "$("$NIGH" ledger --delete-before 0)"
check_match "and it still holds" "^records 1 to 3 were deleted" "$("$NIGH" verify --ledger --public-key "$key")"
check_equal "an empty table" "no record fits" "$("$NIGH" ledger)"
"$NIGH" serve --policy policy.json --port 0 > serve.log 2>&1 &
node=$!
for _ in $(seq 100); do grep -qs 'nigh is at' serve.log && break; sleep 0.1; done
base=$(grep -o 'http://[0-9.:]*' serve.log)
check_match "it goes on" "^rcpt-" "$(ask request.json answer.json)"
check_match "from number 4" "^head    record 4" "$("$NIGH" verify --ledger)"
check_fails "not while a node runs" 8 "another process" "$NIGH" ledger --delete-before 1d
for command in where ledger verify; do check_examples $command; done
finish
