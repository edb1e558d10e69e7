#!/usr/bin/env bash
# test_calibrate.sh - `nigh calibrate`: a threshold from a file of pairs, and what is said of files that are none.
. "$(dirname "$0")/lib.sh"
cd "$tmp" || exit 1
for i in $(seq 0 99); do
    [ "$i" -ge 30 ] && good=true || good=false
    echo "{\"confidence\": 0.$(printf %02d "$i"), \"good\": $good}"
done > mail-v3.jsonl
sed 's/"good": true/"score": 1/; s/"good": false/"score": 0.0/' mail-v3.jsonl > scores.jsonl
said=$("$NIGH" calibrate mail-v3.jsonl --rate 0.2 --eval mail-v3)
check_match "the threshold" "^threshold +0\.2$" "$said"
check_match "the share" "^escalates +20 of 100, 20\.0 %" "$said"
check_match "the lines for the policy" '"threshold": 0\.2, "target_rate": 0\.2, "eval": "mail-v3"' "$said"
check_match "for programs" '^\{"threshold":0\.20*1?[0-9]*,"pairs":100,"below":20,"rate":0\.2,' \
    "$("$NIGH" calibrate scores.jsonl --rate 0.2 --json)"
check_match "by score" "^threshold +0\.23$" "$("$NIGH" calibrate mail-v3.jsonl --score-min 0.9)"
check_fails "out of reach" 1 "no threshold within that rate" "$NIGH" calibrate mail-v3.jsonl --rate 0.1 --score-min 0.95
check_fails "nothing asked for" 1 "wants one file of pairs" "$NIGH" calibrate mail-v3.jsonl
check_fails "no share" 1 "lie between 0 and 1" "$NIGH" calibrate mail-v3.jsonl --rate 20
head -5 mail-v3.jsonl > few.jsonl
check_fails "too few" 3 "at least 20" "$NIGH" calibrate few.jsonl --rate 0.2
{ cat mail-v3.jsonl; echo '{"confidence": 0.5}'; } > wrong.jsonl
check_fails "a line without a score" 1 "line 101: wants a confidence" "$NIGH" calibrate wrong.jsonl --rate 0.2
{ cat mail-v3.jsonl; echo '{"confidence": 7, "score": 1}'; } > wrong.jsonl
check_fails "a number out of range" 1 "between 0 and 1" "$NIGH" calibrate wrong.jsonl --rate 0.2
check_fails "no JSON" 1 "line 1:" "$NIGH" calibrate "$NIGH" --rate 0.2
finish
