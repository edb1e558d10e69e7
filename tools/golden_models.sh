#!/usr/bin/env bash
# Makes the reference models that the golden tests read, about 190 MB in a few seconds, and compares the SHA-256 of
# each.
# usage: tools/golden_models.sh OUT_DIR      Does nothing when OUT_DIR is up to date, or when there is no recipe:
# the recipe is not part of this repository (../shared or $NIGH_SHARED); without it those tests are skipped.
set -euo pipefail
out=${1:?usage: tools/golden_models.sh OUT_DIR}
shared=${NIGH_SHARED:-$(dirname "$0")/../../shared}
recipe=$shared/golden/make_models.sh
maker=$shared/tools/mkgguf.c
if [ ! -r "$recipe" ] || [ ! -r "$maker" ]; then
    echo "golden models: no recipe at $shared, the tests that need them are skipped"
    exit 0
fi
version=$(cat "$recipe" "$maker" | sha256sum | cut -c 1-64)
[ "$(cat "$out/.version" 2> /dev/null || true)" != "$version" ] || exit 0
mkdir -p "$out"
exec 9> "$out/.lock"
flock 9
[ "$(cat "$out/.version" 2> /dev/null || true)" != "$version" ] || exit 0
rm -f "$out/.version"
"${CC:-cc}" -std=c11 -O2 "$maker" -o "$out/mkgguf" -lm
log=$(sh "$recipe" "$out/mkgguf" "$out" 2>&1) || { echo "golden models: $log"; exit 1; }
echo "$version" > "$out/.version"
echo "golden models: made in $out, $log"
