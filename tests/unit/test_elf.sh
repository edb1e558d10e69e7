#!/usr/bin/env bash
# Reads the built program and checks that a release is hardened as the Makefile means it to be, that it needs no library
# but those it says, and that it fits: program and shipped models together under 12 MB.
set -u
cd "$(dirname "$0")/../.." || exit 1
program=${1:-build/nigh}
passed=0 failed=0
check() { # check NAME COMMAND...: one case
    local name=$1
    shift
    if "$@" > /dev/null 2>&1; then passed=$((passed + 1)); return; fi
    failed=$((failed + 1))
    echo "  FAILED $name" >&2
}
[ -e "$program" ] || { echo "there is no $program; test_elf: 0 passed, 1 failed, 0 skipped"; exit 1; }

headers=$(readelf -hlW "$program") dynamic=$(readelf -dW "$program") symbols=$(readelf -W --dyn-syms "$program")
has() { grep -qE "$2" <<< "$1"; }
lacks() { ! grep -qE "$2" <<< "$1"; }
check "position independent (PIE)" has "$headers" 'Type: +DYN'
check "marked as PIE" has "$dynamic" 'FLAGS_1.*PIE'
check "relocations read-only (RELRO)" has "$headers" 'GNU_RELRO'
check "bound at start (BIND_NOW)" has "$dynamic" 'BIND_NOW|FLAGS_1.*NOW'
check "stack not executable" has "$headers" 'GNU_STACK.* RW '
check "no segment writable and executable" lacks "$headers" 'LOAD.* RWE '
check "no library path inside" lacks "$dynamic" 'RPATH|RUNPATH'
check "stack protector" has "$symbols" '__stack_chk_fail'
check "checked string functions (FORTIFY)" has "$symbols" '__(memcpy|memset|fprintf|snprintf|printf|read|fgets)_chk'
others=$(grep NEEDED <<< "$dynamic" | grep -vE '\[(lib(c|m|pthread|microhttpd|sodium|sqlite3|dl)\.so|ld-linux)')
check "needs only libc, the HTTP library, libsodium and SQLite" [ -z "$others" ]

bytes=$(cat "$program" models/*.gguf 2> /dev/null | wc -c)
check "program and shipped models under 12 MB ($bytes bytes)" [ "$bytes" -lt 12000000 ]
echo "  $program: $(stat -c %s "$program") bytes, with the shipped models $bytes"
echo "test_elf: $passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
