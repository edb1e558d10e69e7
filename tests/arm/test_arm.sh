#!/usr/bin/env bash
# test_arm.sh - the core on 64-bit ARM, in an emulator: plain C, NEON and SDOT give the same bits as each other, and
# the logits the same bytes as on this processor. Two processors: one of 2012 without SDOT, and all that the emulator
# knows.
#   NIGH_ARM=all      models against their golden numbers, too (`make test-arm`)
#   NIGH_ARM=models   only those: what comes behind `make test` in .ci/run
set -u
cd "$(dirname "$0")/../.." || exit 1
built=${NIGH_ARM_BUILD:-build-arm}/tests native=${NIGH_NATIVE_BUILD:-build}/tests/prop/test_bits
passed=0 failed=0 skipped=0
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

finish() {
    echo "test_arm: $passed passed, $failed failed, $skipped skipped"
    [ "$failed" = 0 ]
    exit
}
skip() { echo "  skipped the ARM tests: $1"; skipped=$((skipped + 1)); finish; }
[ -x "$built/unit/test_kernel" ] || skip "nothing is built for ARM (make arm, tools/install.sh test)"
command -v qemu-aarch64 > /dev/null || skip 'there is no qemu-aarch64 (tools/install.sh test)'
export NIGH_SHORT=1                     # every sixth model: more takes minutes

# run NAME PROGRAM...: by its own counted line, kept in a file; both processors run beside each other.
run() {
    local name=$1
    shift
    "$@" > "$tmp/$name.out" 2>&1 || echo "exit code $?" >> "$tmp/$name.out"
}
on() { # on PROCESSOR: everything that is run on it
    local test
    for test in unit/test_kernel unit/test_quant; do
        run "$1-${test#*/}" qemu-aarch64 -cpu "$1" "$built/$test"
    done
    NIGH_DIGESTS=$tmp/$1.digests run "$1-test_bits" qemu-aarch64 -cpu "$1" "$built/prop/test_bits"
}
models() { # models CASE...: of test_logits, on a processor with everything
    local case
    for case in "$@"; do run "max-$case" qemu-aarch64 -cpu max "$built/golden/test_logits" "$case"; done
}
judge() { # judge FILE: a program has passed when its last line counts no failure and something that passed
    local line
    line=$(tail -n 1 "$1")
    case $line in
        *': 0 passed, 0 failed, '*) skipped=$((skipped + 1)); grep '^  skipped' "$1";;
        *' passed, 0 failed, '*) passed=$((passed + 1));;
        *) failed=$((failed + 1)); echo "  FAILED $(basename "$1" .out):"; tail -n 20 "$1";;
    esac
}
same() { # same FILE FILE WHAT
    if cmp -s "$1" "$2"; then passed=$((passed + 1)); return; fi
    failed=$((failed + 1))
    echo "  FAILED $3:"
    diff "$1" "$2" | head -n 20
}

what=${NIGH_ARM:-arithmetic}
if [ "$what" != models ]; then
    on max & first=$!
    on cortex-a53 & second=$!
    NIGH_DIGESTS=$tmp/native.digests "$native" test_same_bits > "$tmp/native" 2>&1 || { cat "$tmp/native"; failed=1; }
    wait "$first" "$second"
fi
if [ "$what" != arithmetic ]; then
    models test_f32_cache test_f16_cache & first=$!
    models test_q8_0_cache test_i16_cache & second=$!
    wait "$first" "$second"
fi
for out in "$tmp"/*.out; do judge "$out"; done
[ "$what" != models ] || finish
if [ -s "$tmp/native.digests" ]; then
    same "$tmp/native.digests" "$tmp/max.digests" 'logits with SDOT and here'
    same "$tmp/native.digests" "$tmp/cortex-a53.digests" 'logits without SDOT and here'
    echo "  $(wc -l < "$tmp/native.digests") models, the same logits as on $(uname -m)"
else
    skipped=$((skipped + 1))
    echo '  skipped the logits: the reference models are not here'
fi
finish
