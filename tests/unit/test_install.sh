#!/usr/bin/env bash
# tools/install.sh on a pretended machine: a PATH with the plain tools only, and an apt-get that writes down how it was
# called. It must ask for what is missing, for nothing else, once; and do nothing when nothing is missing.
set -u
cd "$(dirname "$0")/../.." || exit 1
root=$PWD folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
passed=0 failed=0
check() { # check NAME COMMAND...
    local name=$1
    shift
    if "$@"; then passed=$((passed + 1)); return; fi
    failed=$((failed + 1))
    echo "  FAILED $name" >&2
    cat "$folder/calls" "$folder/out" >&2
}
has() { grep -q -- "$1" "$2"; }
lacks() { ! grep -q -- "$1" "$2"; }
equals() { [ "$1" = "$2" ]; }

# A copy of the script alone, so that no node_modules of this checkout are seen or made.
mkdir -p "$folder/project/tools" "$folder/bin"
cp "$root/tools/install.sh" "$folder/project/tools/"
for tool in bash env cat sed grep id mktemp rm ls tail dirname touch; do
    ln -s "$(command -v $tool)" "$folder/bin/$tool"
done
stub() { printf '#!%s\n%s\n' "$(command -v bash)" "$2" > "$folder/bin/$1"; chmod +x "$folder/bin/$1"; }
stub id 'echo 0'
# shellcheck disable=SC2016 # the stub expands it
stub apt-get 'echo "apt-get $*" >> "$CALLS"'
install() {
    : > "$folder/calls"
    PATH="$folder/bin" CALLS="$folder/calls" CC=cc bash "$folder/project/tools/install.sh" "$@" > "$folder/out" 2>&1
    code=$?
}

install --check test
check "a check reports by its exit code" equals "$code" 1
check "a check names a package and its reason" has 'clang-19 .*WebAssembly' "$folder/out"
check "a check installs nothing" equals "$(cat "$folder/calls")" ''

install test
check "it succeeds" equals "$code" 0
check "the lists are fetched first" has '^apt-get update' "$folder/calls"
check "it asks for the browser module's compiler" has 'install .*clang-19 lld-19 nodejs' "$folder/calls"
check "it asks once" equals "$(grep -c install "$folder/calls")" 1
check "not for what only the lanes need" lacks 'libclang-rt' "$folder/calls"

for tool in cc clang-19 wasm-ld-19 npm chromium curl zstd; do stub "$tool" 'exit 0'; done
stub node 'echo 20'
install all
check "then only for what is left" has 'missing: libclang-rt-19-dev' "$folder/out"
check "and for no program that is there" lacks 'clang-19 \|nodejs\|chromium\|curl' "$folder/calls"
stub node 'echo 12'
install test
check "a node that is too old counts as missing" has 'install .* nodejs' "$folder/calls"
stub node 'echo 20'
install test
check "and one that is new enough does not" lacks 'nodejs' "$folder/calls"

# shellcheck disable=SC2016 # the stub expands it
stub apt-get 'echo "E: no network" >&2; exit 100'
stub node 'exit 1'
install test
check "a failure is a failure" equals "$code" 1
check "and says what apt-get said" has 'no network' "$folder/out"
install purpose
check "an unknown purpose shows the usage" has 'tools/install.sh run' "$folder/out"
echo "test_install: $passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
