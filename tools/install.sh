#!/usr/bin/env bash
# Installs what is missing, and only that, on Debian and its relatives; each package says why it is needed.
#   tools/install.sh run      what `make run` needs          tools/install.sh --check [run|test|all]   only reports
#   tools/install.sh test     also what `make test` needs    (exit 1 when something is missing)
#   tools/install.sh all      also what the sanitizer and fuzz lanes need
# A thing counts as there when a program or a header is found, wherever it came from: a node of one's own is kept.
# When nothing is missing it asks nobody, downloads nothing, and is done in a moment.
set -euo pipefail
cd "$(dirname "$0")/.."

check=
[ "${1:-}" != --check ] || { check=1; shift; }
purpose=${1:-run}
case $purpose in run) wanted=" run ";; test) wanted=" run test ";; all) wanted=" run test lanes ";;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 1;; esac

have() { command -v "$1" > /dev/null 2>&1; }
header() { [ -e "/usr/include/$1" ] || echo "#include <$1>" | ${CC:-cc} -E -x c - > /dev/null 2>&1; }
node_is_new() { have node && [ "$(node -p 'process.versions.node.split(".")[0]' 2> /dev/null || echo 0)" -ge 18 ]; }
clang_runtime() { ls "$(clang-19 -print-resource-dir 2> /dev/null)"/lib/linux/libclang_rt.fuzzer-* > /dev/null 2>&1; }
chromium_is_there() { have chromium || have chromium-browser || have google-chrome; }
certificates() { [ -e /etc/ssl/certs/ca-certificates.crt ]; }

missing=()
# need PURPOSE PACKAGE CHECK... -- REASON: notes the package when the check fails.
need() {
    local purpose=$1 package=$2 words=()
    shift 2
    [[ $wanted == *" $purpose "* ]] || return 0
    while [ "$1" != -- ]; do words+=("$1"); shift; done
    shift
    "${words[@]}" && return 0
    missing+=("$package")
    printf '  missing: %-20s %s\n' "$package" "$*"
}

need run   gcc                have "${CC:-cc}"            -- compiles everything
need run   libc6-dev          header stdio.h              -- headers of the C library
need run   libmicrohttpd-dev  header microhttpd.h         -- the HTTP server that the node stands on
need test  clang-19           have clang-19               -- builds the core for WebAssembly, and the fuzz targets
need test  lld-19             have wasm-ld-19             -- links the WebAssembly module
need test  nodejs             node_is_new                 -- runs the tests of the browser module, console and clients
need test  npm                have npm                    -- installs the openai client and the browser driver
need test  ca-certificates    certificates                -- npm fetches its packages over TLS
need test  chromium           chromium_is_there           -- the browser that the console test drives
need test  curl               have curl                   -- the commands of the documents use it
need test  zstd               have zstd                   -- unpacks the reference texts of some tests
need test  gcc-aarch64-linux-gnu have aarch64-linux-gnu-gcc -- builds the arithmetic and its tests for 64-bit ARM
need test  libc6-dev-arm64-cross [ -e /usr/aarch64-linux-gnu/include/stdio.h ] -- the C library those tests stand on
need test  qemu-user          have qemu-aarch64           -- runs them
need lanes libclang-rt-19-dev clang_runtime               -- the run-time parts of libFuzzer and of the sanitizers

npm_missing=
if [[ $wanted == *" test "* ]] && [ -e tests/web/package-lock.json ] &&
    [ ! tests/web/node_modules/.package-lock.json -nt tests/web/package-lock.json ]; then
    npm_missing=1
    echo "  missing: tests/web/node_modules the npm packages of the client and console tests (tests/web/package.json)"
fi

if [ ${#missing[@]} = 0 ] && [ -z "$npm_missing" ]; then
    [ -z "$check" ] || echo "nothing is missing for '$purpose'"
    exit 0
fi
[ -z "$check" ] || exit 1

if [ ${#missing[@]} != 0 ]; then
    have apt-get || { echo "there is no apt-get here; install these by hand: ${missing[*]}" >&2; exit 1; }
    root=()
    if [ "$(id -u)" != 0 ]; then
        have sudo || { echo "installing needs root or sudo: apt-get install ${missing[*]}" >&2; exit 1; }
        root=(sudo)
    fi
    echo "installing: ${missing[*]}"
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends)
    if ! { "${root[@]}" apt-get update -qq && "${root[@]}" "${install[@]}" "${missing[@]}"; } > "$log" 2>&1; then
        tail -n 20 "$log" >&2
        echo "apt-get could not install: ${missing[*]}" >&2
        exit 1
    fi
fi
if [ -n "$npm_missing" ]; then
    echo "installing: npm packages of tests/web"
    (cd tests/web && PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --no-audit --no-fund --loglevel=error)
    touch tests/web/node_modules/.package-lock.json
fi
