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
one() { # one TARGET: a line of what came of it; fails when something was found
    local target=$1 program=$build/tests/fuzz/fuzz_$1 corpus=$build/corpus/$1 log=$build/fuzz_$1.log runs edges
    mkdir -p "$corpus"
    if [ -x "$build/tests/fuzz/seeds_$target" ] && ! "$build/tests/fuzz/seeds_$target" "$corpus"; then
        echo "FAILED fuzz_$target: its seeds cannot be written"
        return 1
    fi
    local args=("$corpus")
    [ ! -d "tests/fuzz/corpus/$target" ] || args+=("tests/fuzz/corpus/$target")
    [ ! -r "tests/fuzz/fuzz_$target.dict" ] || args+=("-dict=tests/fuzz/fuzz_$target.dict")
    args+=("-max_total_time=$seconds" "-max_len=${FUZZ_BYTES:-65536}" -timeout=10)
    args+=(-malloc_limit_mb=256 -rss_limit_mb=1024)
    if "$program" "${args[@]}" -print_final_stats=1 "-artifact_prefix=$build/findings/$target-" > "$log" 2>&1; then
        runs=$(sed -nE 's/^stat::number_of_executed_units: *//p' "$log")
        edges=$(grep -oE 'cov: [0-9]+' "$log" | tail -n 1)
        echo "fuzz_$target: $runs runs in $seconds s, $edges, no finding"
        return
    fi
    tail -n 40 "$log"
    echo "FAILED fuzz_$target: see $log and $build/findings"
    return 1
}

# As many at a time as there are processors; each keeps one busy.
running=0
trap 'trap "" TERM; kill 0; exit 130' INT TERM       # jobs in the background do not see Ctrl-C by themselves
reap() { if wait -n; then passed=$((passed + 1)); else failed=$((failed + 1)); fi; running=$((running - 1)); }
for target in "$@"; do
    [ "$running" -lt "$(nproc)" ] || reap
    one "$target" &
    running=$((running + 1))
done
while [ "$running" -gt 0 ]; do reap; done
echo "$passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
