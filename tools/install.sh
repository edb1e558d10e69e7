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
need run   libsodium-dev      header sodium.h             -- signs the manifests of models
need run   libsqlite3-dev     header sqlite3.h            -- keeps the ledger and the queue of requests
need run   libcurl4-gnutls-dev header curl/curl.h         -- calls edge nodes and providers
need run   clang-19           have clang-19               -- builds the engine as WebAssembly, and the fuzz targets
need run   lld-19             have wasm-ld-19             -- links the engine for the browser
need run   nodejs             node_is_new                 -- builds the SDK and the console, and runs their tests
need run   npm                have npm                    -- installs the packages that build them
need run   ca-certificates    certificates                -- npm fetches its packages over TLS
need test  chromium           chromium_is_there           -- the browser that the console test drives
need test  curl               have curl                   -- the commands of the documents use it
need test  iproute2           have ip                     -- makes the network that nigh prove counts in
need test  zstd               have zstd                   -- unpacks the reference texts of some tests
need test  gcc-aarch64-linux-gnu have aarch64-linux-gnu-gcc -- builds the arithmetic and its tests for 64-bit ARM
need test  libc6-dev-arm64-cross [ -e /usr/aarch64-linux-gnu/include/stdio.h ] -- the C library those tests stand on
need test  qemu-user          have qemu-aarch64           -- runs them
need lanes libclang-rt-19-dev clang_runtime               -- the run-time parts of libFuzzer and of the sanitizers

npm_missing=()
# npm_need PURPOSE FOLDER -- REASON: notes the folder when its packages are older than its lock file.
npm_need() {
    [[ $wanted == *" $1 "* ]] && [ -e "$2/package-lock.json" ] || return 0
    [ ! "$2/node_modules/.package-lock.json" -nt "$2/package-lock.json" ] || return 0
    npm_missing+=("$2")
    printf '  missing: %-20s %s\n' "$2/node_modules" "$4"
}
npm_need run  web       -- "the npm packages that build the SDK and the console (web/package.json)"
npm_need test tests/web -- "the npm packages of the client and console tests (tests/web/package.json)"

if [ ${#missing[@]} = 0 ] && [ ${#npm_missing[@]} = 0 ]; then
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
for folder in "${npm_missing[@]}"; do
    echo "installing: npm packages of $folder"
    (cd "$folder" && PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 npm ci --no-audit --no-fund --loglevel=error)
    touch "$folder/node_modules/.package-lock.json"
done
