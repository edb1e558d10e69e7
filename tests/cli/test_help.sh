#!/usr/bin/env bash
# test_help.sh - what the program says of itself: every command has a help that fits a terminal of 80 columns, says how
# it is called and gives examples; a wrong word is met with a sentence and the way to the help.
. "$(dirname "$0")/lib.sh"
too_long() { grep -nE '.{81}' <<< "$1"; }

help=$("$NIGH" --help)
check_equal "the list of commands: exit code" 0 $?
check_equal "lines of it over 80 columns" "" "$(too_long "$help")"
check_equal "nigh help" "$help" "$("$NIGH" help)"
check_equal "nigh -h" "$help" "$("$NIGH" -h)"
check_match "nigh --version" '^nigh [0-9]+\.[0-9]+\.[0-9]+$' "$("$NIGH" --version)"

for c in $(sed -nE 's/^  ([a-z-]+) .*/\1/p' <<< "$help"); do
    text=$("$NIGH" "$c" --help)
    check_equal "$c --help: exit code" 0 $?
    check_equal "$c -h" "$text" "$("$NIGH" "$c" -h)"
    check_equal "$c --help: lines over 80 columns" "" "$(too_long "$text")"
    check_match "$c --help: how it is called" "^usage: nigh $c( |$)" "$text"
    check_match "$c --help: its examples" "nigh $c( |$)" "$(examples "$c")"
    check_fails "$c: an unknown option" 1 "^nigh $c: unknown option --no-such-option" "$NIGH" "$c" --no-such-option
    check_match "$c: the way to the help" "^see: nigh $c --help$" "$("$NIGH" "$c" --no-such-option 2>&1)"
done
[ $passed -gt 140 ] || bad "commands: only $passed cases"

check_fails "an unknown command" 1 "^nigh: there is no command 'x'; see: nigh --help$" "$NIGH" x
check_fails "no command" 1 "^usage: nigh COMMAND" "$NIGH"
finish
