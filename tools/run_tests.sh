#!/usr/bin/env bash
# Runs test programs and ends with one counted line over all of them:
#     N passed, N failed, N skipped
# usage: tools/run_tests.sh PROGRAM...      A program counts by its own last line; one that dies counts as failed.
#   JOBS           so many programs at a time (1). Scripts, which start nodes and browsers and measure time, run one after
#                  the other behind them.
# NAME.mjs runs under node, NAME.sh under bash; where there is no node, that counts as one skipped case. What tests leave
# in the folder of temporary files is removed at the end.
set -u
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
trap 'trap "" TERM; kill 0; exit 130' INT TERM       # jobs in the background do not see Ctrl-C by themselves
mkdir "$folder/counts" "$folder/tmp"
chmod 711 "$folder" && chmod 1777 "$folder/tmp"      # for tests that give up their rights on the way
export TMPDIR=$folder/tmp
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
one() { # one PROGRAM: shows what came of it, all at once, and notes its counts
    local name start out code ms line p f s
    name=$(basename "$1")
    start=$(date +%s%N)
    out=$(run "$1" 2>&1)
    code=$?
    ms=$((($(date +%s%N) - start) / 1000000))
    line=$(printf '%s\n' "$out" | grep -aE '[0-9]+ passed, [0-9]+ failed' | tail -n 1)
    p=$(number "$line" passed) f=$(number "$line" failed) s=$(number "$line" skipped)
    if [ -z "$line" ] || { [ "$code" != 0 ] && [ "${f:-0}" = 0 ]; }; then f=$((${f:-0} + 1)); fi
    echo "${p:-0} ${f:-0} ${s:-0}" > "$folder/counts/${1//\//_}"
    if [ "${f:-0}" != 0 ]; then
        out=$(printf '%s\n' "$out" | tail -n 60)
        printf '%s\nFAILED %s (exit %s); repeat with: %s\n' "$out" "$name" "$code" "$1"
    else
        out=$(printf '%s\n' "$out" | grep -a '^  skipped' | head -n 10)
        printf '%s%-28s %5s passed %5s skipped %7d ms\n' "${out:+$out
}" "$name" "${p:-0}" "${s:-0}" "$ms"
    fi
}
scripts=() running=0
for program in "$@"; do
    case $program in *.mjs | *.sh) scripts+=("$program"); continue;; esac
    if [ "$running" -ge "${JOBS:-1}" ]; then wait -n; running=$((running - 1)); fi
    one "$program" &
    running=$((running + 1))
done
wait
for program in "${scripts[@]}"; do one "$program"; done
passed=0 failed=0 skipped=0
for program in "$@"; do
    read -r p f s < "$folder/counts/${program//\//_}" || { p=0 f=1 s=0; }
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ] && [ "$passed" -gt 0 ]
