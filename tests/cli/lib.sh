# lib.sh - what the tests of the commands share; sourced, not run. A case is one check_* call.
#   NIGH          the program (default build/nigh)
#   NIGH_SHARED   the folder of reference data (default ../shared)
# A model to run is a shipped one, else the trained tiny one of the reference data; without either the test is skipped.
set -u
NIGH=$(realpath "${NIGH:-build/nigh}")
shared=$(realpath -m "${NIGH_SHARED:-../shared}")
name=$(basename "$0" .sh)
passed=0 failed=0 skipped=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
golden_model=$shared/golden/stories260K.gguf
model=$(ls "$PWD"/models/*.gguf 2> /dev/null | head -n 1)
[ -n "$model" ] || model=$golden_model

finish() {
    echo "$name: $passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ] && [ $((passed + skipped)) -gt 0 ]
    exit
}
skip() { skipped=$((skipped + 1)); echo "  skipped $1"; }
good() { passed=$((passed + 1)); }
bad() { failed=$((failed + 1)); echo "  FAILED $1"; }

[ -x "$NIGH" ] || { bad "$NIGH is not there: make"; finish; }
[ -r "$model" ] || { skip "no model: neither models/*.gguf nor $golden_model"; finish; }

# check_equal CASE WANT GOT
check_equal() { if [ "$2" = "$3" ]; then good; else bad "$1: wanted '$2', got '$3'"; fi; }
# check_match CASE PATTERN TEXT         the pattern is an extended regular expression
check_match() { if printf '%s\n' "$3" | grep -aqE -- "$2"; then good; else bad "$1: '$2' is not in '$3'"; fi; }
# check_same CASE FILE FILE
check_same() { if cmp -s "$2" "$3"; then good; else bad "$1: $2 and $3 differ"; fi; }
# check_fails CASE CODE PATTERN COMMAND...      the exit code, and what it says on standard error
check_fails() {
    local case=$1 code=$2 pattern=$3 err got
    shift 3
    err=$("$@" 2>&1 > "$tmp/out" < /dev/null)
    got=$?
    if [ "$got" != "$code" ]; then bad "$case: exit code $got, not $code: $err"
    elif [ -s "$tmp/out" ]; then bad "$case: it printed on standard output"
    else check_match "$case" "$pattern" "$err"; fi
}
# examples COMMAND              the lines below `examples:` of its help, those that go on behind a \ joined
examples() { "$NIGH" "$1" --help | sed '1,/^examples:/d; s/^  //' | sed ':more; /\\$/ { N; s/\\\n */ /; b more }'; }
# check_examples COMMAND        every line below `examples:` of its help runs, in a folder where MODEL.gguf is a model
check_examples() {
    local line count=0
    mkdir -p "$tmp/bin" "$tmp/examples"
    ln -sf "$NIGH" "$tmp/bin/nigh"
    ln -sf "$model" "$tmp/examples/MODEL.gguf"
    while IFS= read -r line; do
        count=$((count + 1))
        if (cd "$tmp/examples" && PATH="$tmp/bin:$PATH" bash -c "$line" < /dev/null > "$tmp/out" 2> "$tmp/err")
        then good
        else bad "example '$line': exit code $?: $(head -c 300 "$tmp/err")"; fi
        [ -s "$tmp/out" ] || [ -s "$tmp/err" ] || bad "example '$line' says nothing"
    done < <(examples "$1")
    [ "$count" -gt 0 ] || bad "$1 --help has no examples"
}
