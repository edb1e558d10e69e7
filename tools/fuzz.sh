#!/usr/bin/env bash
# Runs every fuzz target for a while under ASan and UBSan, and ends with a counted line.
# usage: tools/fuzz.sh BUILD_DIR TARGET...      TARGET: gguf, json, ... of tests/fuzz/fuzz_TARGET.c
#   FUZZ_SECONDS   for each target (60)
#   FUZZ_BYTES     the longest input (65536)
# The corpus grows in BUILD_DIR/corpus/TARGET; tests/fuzz/corpus/TARGET is read, never written. What crashes lies in
# BUILD_DIR/findings; repair the code, then put the input into tests/fuzz/corpus/TARGET: make test replays it for ever.
set -u
build=${1:?usage: tools/fuzz.sh BUILD_DIR TARGET...}
shift
seconds=${FUZZ_SECONDS:-60} passed=0 failed=0
mkdir -p "$build/findings"
for target in "$@"; do
    program=$build/tests/fuzz/fuzz_$target
    corpus=$build/corpus/$target
    mkdir -p "$corpus"
    [ ! -x "$build/tests/fuzz/seeds_$target" ] || "$build/tests/fuzz/seeds_$target" "$corpus" || exit 1
    args=("$corpus")
    [ ! -d "tests/fuzz/corpus/$target" ] || args+=("tests/fuzz/corpus/$target")
    [ ! -r "tests/fuzz/fuzz_$target.dict" ] || args+=("-dict=tests/fuzz/fuzz_$target.dict")
    log=$build/fuzz_$target.log
    args+=("-max_total_time=$seconds" "-max_len=${FUZZ_BYTES:-65536}" -timeout=10)
    args+=(-malloc_limit_mb=256 -rss_limit_mb=1024)
    if "$program" "${args[@]}" -print_final_stats=1 "-artifact_prefix=$build/findings/$target-" > "$log" 2>&1; then
        passed=$((passed + 1))
        runs=$(sed -nE 's/^stat::number_of_executed_units: *//p' "$log")
        edges=$(grep -oE 'cov: [0-9]+' "$log" | tail -n 1)
        echo "fuzz_$target: $runs runs in $seconds s, $edges, no finding"
    else
        failed=$((failed + 1))
        tail -n 40 "$log"
        echo "FAILED fuzz_$target: see $log and $build/findings"
    fi
done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
