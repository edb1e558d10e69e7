#!/usr/bin/env bash
# test_policy_sign.sh - `nigh policy`: keys, signatures, and what a person reads when one does not hold.
. "$(dirname "$0")/lib.sh"
mkdir -p "$tmp/examples"
cp examples/features.json "$tmp/examples"
cp examples/features.json "$tmp"
check_examples policy
cd "$tmp" || exit 1
key=$("$NIGH" policy key policy.key 2> /dev/null)
other=$("$NIGH" policy key other.key 2> /dev/null)
check_equal "the key is 64 digits" 64 "${#key}"
check_equal "asked again it is the same" "$key" "$("$NIGH" policy key policy.key)"
check_equal "only its owner may read it" 600 "$(stat -c %a policy.key)"
"$NIGH" policy sign features.json --key policy.key > signed.json
"$NIGH" policy show signed.json --text > text.json
check_same "what was signed comes out to the byte" features.json text.json
check_match "show" "^signed by   $key" "$("$NIGH" policy show signed.json)"
check_match "show, plain" "^signed by   nobody" "$("$NIGH" policy show features.json)"
check_match "show, JSON" "\"signed\":true,\"key\":\"$key\"" "$("$NIGH" policy show signed.json --json)"
check_match "verify" "^good: features, version 1" "$("$NIGH" policy verify signed.json --public-key "$other" --public-key "$key")"
check_match "check takes a signed one" "^autocomplete" "$("$NIGH" check signed.json)"
check_fails "another key" 9 "not one of those that count" "$NIGH" policy verify signed.json --public-key "$other"
check_fails "plain" 9 "is not signed" "$NIGH" policy verify features.json --public-key "$key"
sed 's/mail-summary/mail-Summary/' signed.json > changed.json
check_fails "changed" 9 "changed after it was signed" "$NIGH" policy verify changed.json --public-key "$key"
check_fails "changed, shown" 9 "changed after it was signed" "$NIGH" policy show changed.json
head -c 500 signed.json > short.json
check_fails "cut" 9 "is not signed" "$NIGH" policy verify short.json --public-key "$key"
sed 's/"version": 1/"version": 2/' features.json > newer.json
"$NIGH" policy sign newer.json --key policy.key --out newer.signed.json 2> /dev/null
check_match "version 2" "version 2" "$("$NIGH" policy verify newer.signed.json --public-key "$key" --state seen)"
check_fails "never back" 11 "older than version 2" "$NIGH" policy verify signed.json --public-key "$key" --state seen
check_fails "no key" 2 "make one with: nigh policy key nokey" "$NIGH" policy sign features.json --key nokey
check_fails "not a policy" 1 "this key is not known" sh -c "echo '{\"x\":1}' | '$NIGH' policy sign - --key policy.key"
check_fails "whose?" 1 "wants --public-key" "$NIGH" policy verify signed.json
finish
