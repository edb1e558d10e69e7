#!/usr/bin/env bash
# test_embed.sh - `nigh embed`: arrays that are JSON, their length, lines of standard input, refusals, and the vectors
# of one model against the reference.
. "$(dirname "$0")/lib.sh"
embed() { "$NIGH" embed "$@"; }

check_examples embed
one=$(embed "$model" -p "a short text" -q)
raw=$(embed "$model" -p "a short text" -q --raw)
check_match "an array of numbers" '^\[-?[0-9][0-9.e+-]*(,-?[0-9][0-9.e+-]*)+\]$' "$one"
length() { printf '%s' "$1" | tr -d '[]' | tr ',' '\n' | awk '{ s += $1 * $1 } END { printf "%.5f %d", sqrt(s), NR }'; }
check_match "length 1" '^(1\.00000|0\.99999|1\.00001) ' "$(length "$one")"
check_equal "raw has as many numbers" "$(length "$one" | cut -d ' ' -f 2)" "$(length "$raw" | cut -d ' ' -f 2)"
check_match "raw is not scaled" "^$(length "$raw" | cut -d ' ' -f 1)" "$(length "$raw")"
check_equal "raw differs" no "$([ "$one" = "$raw" ] && echo yes || echo no)"
check_equal "a line each" "$one
$(embed "$model" -p "another" -q)
$one" "$(printf 'a short text\nanother\na short text' | embed "$model" -q)"
check_equal "threads do not matter" "$one" "$(embed "$model" -p "a short text" -q -t 1)"
check_equal "no lines, no vectors" "" "$(embed "$model" -q < /dev/null)"

check_fails "both" 1 "give either -p TEXT or --ids" embed "$model" -p x --ids 1
check_fails "no such id" 1 "is no token id" embed "$model" --ids 1,99999999
check_fails "too long" 3 "the text has [0-9]+ tokens, but at most [0-9]+ fit; cut it into parts" \
    embed "$model" -p "$(yes 'one day and another' | head -n 5000)"
printf 'fine\n%s\n' "$(yes 'one day and another' | head -n 9000 | tr '\n' ' ')" > "$tmp/lines"
err=$(embed "$model" -q < "$tmp/lines" 2>&1 > "$tmp/out")
check_equal "which line: exit code" 3 $?
check_match "which line" "line 2: the text has" "$err"
check_equal "the lines before it are there" 1 "$(wc -l < "$tmp/out")"

# A model without a pooling rule gives an array for each token; a text model refuses to be run as one.
if [ -r "$shared/tools/mkgguf.c" ] && command -v cc > /dev/null; then
    cc -std=c11 -O1 -w "$shared/tools/mkgguf.c" -o "$tmp/mkgguf" -lm
    "$tmp/mkgguf" --family bert --seed 173 --pooling none --out "$tmp/none.gguf" > /dev/null
    rows=$(embed "$tmp/none.gguf" --ids 2,9,8,7,3 -q)
    check_equal "an array for each token" 5 "$(printf '%s' "$rows" | grep -o '\[-\?[0-9]' | wc -l)"
    check_match "inside an array" '^\[\[.*\]\]$' "$rows"
    if command -v node > /dev/null; then
        "$tmp/mkgguf" --family bert --seed 171 --out "$tmp/mean.gguf" > /dev/null
        cat > "$tmp/compare.mjs" << 'END'
import { readFileSync } from "fs";
import { execFileSync } from "child_process";
const [nigh, model, golden] = process.argv.slice(2);
let worst = 0, runs = 0;
for (const run of JSON.parse(readFileSync(golden)).runs) {
    if (run.embedding) runs++; else continue;
    const got = JSON.parse(execFileSync(nigh, ["embed", model, "--ids", run.ids.join(","), "--raw", "-q"]));
    run.embedding.forEach((want, i) => { worst = Math.max(worst, Math.abs(want - got[i])); });
}
console.log(runs > 0 && worst <= 2e-5 ? "within" : `${runs} runs, off by ${worst}`);
END
        check_equal "golden vectors, tolerance 2e-5" within \
            "$(node "$tmp/compare.mjs" "$NIGH" "$tmp/mean.gguf" "$shared/golden/logits/bert-mean.json")"
    else
        skip "golden vectors: there is no node"
    fi
    check_fails "an encoder gives no text" 1 "this model gives vectors, not text; use: nigh embed" \
        "$NIGH" run "$tmp/none.gguf" -p x
    check_fails "an encoder gives no logits" 1 "this model gives vectors, not text; use: nigh embed" \
        "$NIGH" logits "$tmp/none.gguf" --ids 1 --out "$tmp/x"
    check_fails "an encoder is not measured" 1 "this model gives vectors, not text" \
        "$NIGH" bench "$tmp/none.gguf" -p 8 -n 4
else
    skip "encoders: no reference tools or no compiler"
fi
finish
