#!/usr/bin/env bash
# Runs test programs one after the other and ends with one counted line over all of them:
#     N passed, N failed, N skipped
# usage: tools/run_tests.sh PROGRAM...      A program counts by its own last line; one that dies counts as failed.
# NAME.mjs runs under node, NAME.sh under bash; where there is no node, that counts as one skipped case.
set -u
passed=0 failed=0 skipped=0
run() {
    case $1 in
        *.mjs)
            if command -v node > /dev/null; then node "$1"; return; fi
            echo "  skipped $1: there is no node"
            echo "0 passed, 0 failed, 1 skipped";;
        *.sh) bash "$1";;
        *) "$1";;
    esac
}
number() { printf '%s' "$1" | sed -nE "s/.*(^|[^0-9])([0-9]+) $2.*/\2/p"; }
for program in "$@"; do
    name=$(basename "$program")
    start=$(date +%s%N)
    out=$(run "$program" 2>&1)
    code=$?
    ms=$((($(date +%s%N) - start) / 1000000))
    line=$(printf '%s\n' "$out" | grep -aE '[0-9]+ passed, [0-9]+ failed' | tail -n 1)
    p=$(number "$line" passed) f=$(number "$line" failed) s=$(number "$line" skipped)
    if [ -z "$line" ] || { [ "$code" != 0 ] && [ "${f:-0}" = 0 ]; }; then f=$((${f:-0} + 1)); fi
    passed=$((passed + ${p:-0})) failed=$((failed + ${f:-0})) skipped=$((skipped + ${s:-0}))
    if [ "${f:-0}" != 0 ]; then
        printf '%s\n' "$out" | tail -n 60
        echo "FAILED $name (exit $code); repeat with: $program"
    else
        printf '%s\n' "$out" | grep -a '^  skipped' | head -n 10
        printf '%-28s %5s passed %5s skipped %7d ms\n' "$name" "${p:-0}" "${s:-0}" "$ms"
    fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
