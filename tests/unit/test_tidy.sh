#!/usr/bin/env bash
# Each rule of tools/tidy.c must notice the smallest file that breaks it, and must pass the same file without the fault.
set -u
cd "$(dirname "$0")/../.." || exit 1
tidy=$PWD/${B:-build}/tools/tidy
[ -x "$tidy" ] || { echo "  FAILED there is no $tidy" >&2; echo "test_tidy: 0 passed, 1 failed, 0 skipped"; exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
passed=0 failed=0

fresh() { # fresh FILE TEXT: a small project that keeps every rule, but for FILE
    rm -rf "${folder:?}"/*
    mkdir -p "$folder"/{tools,include/nigh,src/{base,kernel,engine,node,cli},docs}
    cp tools/layers.txt "$folder/tools/"
    printf '/* a.h - good. */\nint nigh_a(void);\n' > "$folder/src/base/a.h"
    printf '/* a.c - good. */\n#include "base/a.h"\nint nigh_a(void) { return 0; }\n' > "$folder/src/base/a.c"
    mkdir -p "$(dirname "$folder/$1")"
    printf '%b' "$2" > "$folder/$1"
}
fail() { failed=$((failed + 1)); echo "  FAILED $1" >&2; }
says() { (cd "$folder" && "$tidy" "$1" 2>&1); }
# rule NAME FILE BAD GOOD: the rule fails with BAD as the text of FILE and passes with GOOD.
rule() {
    fresh "$2" "$3"
    if says "$1" > /dev/null; then fail "$1 does not notice $2: $3"; return; fi
    fresh "$2" "$4"
    if ! out=$(says "$1"); then fail "$1 complains about $2: $4"; echo "$out" >&2; return; fi
    passed=$((passed + 1))
}
breaks() { printf '\\n%.0s' $(seq "$1"); }
c() { printf '/* x.c - x. */\\n%s\\n' "$1"; }

rule include_direction src/base/x.c "$(c '#include "node/n.h"')" "$(c '#include "base/a.h"')"
rule include_direction src/learn/x.c "$(c '#include "node/n.h"')" "$(c '#include "engine/e.h"')"
rule freestanding_headers src/engine/x.c "$(c '#include <stdio.h>')" "$(c '#include <string.h>')"
rule sockets_and_libraries_only_in_node src/cli/x.c "$(c '#include <sys/socket.h>')" "$(c '#include <stdio.h>')"
rule headers_are_used src/base/a.c "$(c '')" "$(c '#include "base/a.h"')"
rule banned_calls src/cli/x.c "$(c 'void f(char *p) { sprintf(p, 0); }')" "$(c 'void f(x p) { p.rand("gets()"); }')"
rule banned_calls src/cli/y.c "$(c 'void f(void) { system(0); }')" "$(c 'void f(void) { exit(0); }')"
rule heap_only_in_base src/cli/x.c "$(c 'void f(void) { free(malloc(1)); }')" "$(c 'void f(void) { nigh_free(0); }')"
rule instruction_sets_only_in_kernel src/engine/x.c "$(c '#ifdef __x86_64__')" "$(c '/* __x86_64__ */')"
rule systems_only_in_os_files src/engine/x.c "$(c '#ifdef __linux__')" "$(c '/* __linux__ */')"
rule nothing_unfinished src/cli/x.c "$(c "/* TO""DO later */")" "$(c '/* MAXTODOX */')"
rule no_path_of_a_machine docs/x.md "see /ho""me/me\n" "see the folder\n"
rule lines_are_short src/cli/x.c "$(c "/* $(printf '%0118d' 0) */")" "$(c "/* $(printf '%0110d' 0) */")"
rule files_are_short src/cli/x.c "$(c '')$(breaks 1200)" "$(c '')$(breaks 1190)"
rule functions_are_short src/cli/x.c "$(c "void f(void) {$(breaks 70)}")" "$(c "void f(void) {$(breaks 69)}")"
rule functions_are_short src/cli/x.c "$(c 'void f(void) {')" "$(c "int a[] = {$(breaks 90)};")"
rule text_is_clean src/cli/x.c "$(c 'int a; ')" "$(c 'int a;')"
rule text_is_clean src/cli/x.c '/* x */' '/* x */\n'
rule files_open_with_their_essay src/cli/x.c 'int a;\n' "$(c 'int a;')"
api='NIGH_API int a(void);'
rule public_functions_are_documented include/nigh/x.h "$(c "\\n$api")" "$(c "\\n/* a */\\n$api")"
rule links_lead_somewhere docs/x.md '[a](gone.md)\n' '[a](../src/base/a.c) [b](#here) [c](https://example.org/)\n'
rule named_files_exist docs/x.md 'see src/base/gone.c\n' 'see src/base/a.c, models/NAME.gguf and tests/*.c\n'

rules=$(grep -oE 'T\([a-z_]+\)' tools/tidy.c | sort -u | tr -d 'T()')
for name in $rules; do
    grep -q "^rule $name " "$0" || fail "no case here breaks the rule $name"
done
echo "test_tidy: $passed passed, $failed failed, 0 skipped"
[ "$failed" = 0 ]
