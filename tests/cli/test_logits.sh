#!/usr/bin/env bash
# test_logits.sh - `nigh logits`: the size of the file, the same bytes for any batch, thread count and processor,
# golden rows, refusals.
. "$(dirname "$0")/lib.sh"
logits() { "$NIGH" logits "$@"; }

check_examples logits

ids=1,5,9,12,5,7,30,31,32,33,34,40,41,42,43,44,45,46,47,48
logits "$model" --ids $ids --out "$tmp/whole" 2> "$tmp/err"
rows=$(sed -n 's/^\([0-9]*\) rows of \([0-9]*\) f32 .*/\1 \2/p' "$tmp/err")
check_equal "one row for each id" 20 "${rows% *}"
check_equal "as wide as the vocabulary" $((20 * ${rows#* } * 4)) "$(wc -c < "$tmp/whole")"
for settings in "--batch 1" "--batch 3 -t 1" "--batch 7 -t 3" "--batch 8192" "-c 64"; do
    logits "$model" --ids $ids --out "$tmp/other" -q $settings
    check_same "the same bytes with $settings" "$tmp/whole" "$tmp/other"
done
for cpu in scalar avx2 avx512; do
    NIGH_CPU=$cpu logits "$model" --ids $ids --out "$tmp/other" -q
    check_same "the same bytes with NIGH_CPU=$cpu" "$tmp/whole" "$tmp/other"
done
logits "$model" --ids " 1, 5 ,9,12" --out - -q > "$tmp/other"
head -c $((4 * ${rows#* } * 4)) "$tmp/whole" > "$tmp/start"
check_same "standard output; a row depends on what is before it only" "$tmp/start" "$tmp/other"
logits "$model" --ids $ids --out /dev/null -q
check_equal "a device is written to, not replaced" yes "$([ -c /dev/null ] && echo yes)"

# Against the reference, where it is there: a trained model, and two whose positions depend on the context.
golden() { node "$tmp/compare.mjs" "$NIGH" "$1" "$shared/golden/logits/$2.json" "$tmp/out" "${@:3}"; }
if [ -r "$golden_model" ] && command -v node > /dev/null && command -v cc > /dev/null; then
    cat > "$tmp/compare.mjs" << 'END'
import { readFileSync } from "fs";
import { execFileSync } from "child_process";
const [nigh, model, golden, out, ...more] = process.argv.slice(2);
let worst = 0;
for (const run of JSON.parse(readFileSync(golden)).runs) {
    execFileSync(nigh, ["logits", model, "--cache", "f32", "--ids", run.ids.join(","), "--out", out, "-q", ...more]);
    const bytes = readFileSync(out), all = new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
    const last = all.subarray(all.length - run.logits_last.length);
    run.logits_last.forEach((want, i) => { worst = Math.max(worst, Math.abs(want - last[i])); });
}
console.log(worst <= 2e-4 ? "within" : `off by ${worst}`);
END
    check_equal "golden logits, tolerance 2e-4" within "$(golden "$golden_model" stories260K)"
    cc -std=c11 -O1 -w "$shared/tools/mkgguf.c" -o "$tmp/mkgguf" -lm
    phi3() {
        "$tmp/mkgguf" --family phi3 --seed "$1" --kv-heads 2 --rope longrope --rope-original 256 --out "$2" > /dev/null
    }
    phi3 152 "$tmp/long.gguf"
    phi3 153 "$tmp/short.gguf"
    check_equal "long factors: the model's own context" within "$(golden "$tmp/long.gguf" phi3-longrope)"
    check_equal "short factors: -c 256" within "$(golden "$tmp/short.gguf" phi3-longrope-short -c 256)"
else
    skip "golden logits: no reference data, no node or no compiler"
fi

check_fails "no tokens" 1 "give either --ids 1,2,3 or -p TEXT" logits "$model" --out "$tmp/x"
check_fails "both" 1 "give either" logits "$model" --ids 1 -p x --out "$tmp/x"
check_fails "no place" 1 "say with --out FILE" logits "$model" --ids 1
check_fails "no number" 1 "'two' is no token id; this model has 0\.\." logits "$model" --ids 1,two --out "$tmp/x"
check_fails "an empty id" 1 "'' is no token id" logits "$model" --ids 1,,2 --out "$tmp/x"
check_fails "no such id" 1 "'99999999' is no token id" logits "$model" --ids 99999999 --out "$tmp/x"
check_fails "negative id" 1 "'-1' is no token id" logits "$model" --ids -1 --out "$tmp/x"
check_fails "context" 3 "20 tokens do not fit into a context of 4; give more with -c" \
    logits "$model" --ids $ids -c 4 --out "$tmp/x"
check_fails "batch" 1 "batch must lie in 1..8192" logits "$model" --ids 1 --batch 0 --out "$tmp/x"
check_fails "no folder" 5 "cannot be written: No such file" logits "$model" --ids 1 --out "$tmp/none/x"
if [ -w /dev/full ]; then
    check_fails "a full disk" 5 "/dev/full cannot be written" logits "$model" --ids $ids --out /dev/full -q
fi
check_equal "nothing is left of what failed" "" "$(ls "$tmp" | grep -E '^x|tmp$')"
finish
