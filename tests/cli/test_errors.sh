#!/usr/bin/env bash
# test_errors.sh - what a person reads when a file is not what it should be: the file is named, the sentence says what is
# wrong, and the exit code is that of the one table (nigh --help).
. "$(dirname "$0")/lib.sh"
cd "$tmp" || exit 1
export NIGH_HOME=$tmp/own
nigh() { "$NIGH" "$@"; }
printf 'not a model, not a policy, not a receipt\n' > words.txt
head -c 5000 "$model" > cut.gguf
: > empty.gguf
mkdir folder

looked="in .*/models, .*/share/nigh/models or $NIGH_HOME/models; give the path"
check_fails "a model that is not there" 2 "^nigh run: there is no model 'nosuch': no such file, and none of that name $looked" \
    nigh run nosuch -p x
check_equal "no dots in what was looked at" "" "$(nigh run nosuch -p x 2>&1 | grep -F '/../')"
check_fails "a file that is not there" 2 '^nigh run: ./no.gguf: no such file$' nigh run ./no.gguf -p x
for command in "run -p x" "bench" "embed -p x" "logits -p x --out out" "tokenize" "inspect" "serve --port 0"; do
    set -- $command
    c=$1
    shift
    check_fails "$c: a folder" 1 "^nigh $c: .*folder: not a regular file$" nigh "$c" ./folder "$@"
    check_fails "$c: an empty file" 6 "^nigh $c: .*empty.gguf: the file is empty" nigh "$c" empty.gguf "$@"
    check_fails "$c: a file that was cut short" 6 "^nigh $c: .*cut.gguf: " nigh "$c" cut.gguf "$@"
done
check_equal "no memory is reckoned for what is no model" "" "$(nigh run ./words.txt -p x 2>&1 | grep memory)"
check_fails "learn: nothing there" 2 '^nigh learn: nowhere: no such file or folder$' nigh learn nowhere

for command in check plan "policy show" "serve --port 0 --policy"; do
    check_fails "$command: no such file" 2 ': none.json: no such file$' nigh $command none.json
    check_fails "$command: a folder" 5 ': folder: Is a directory$' nigh $command folder
    check_fails "$command: no JSON" 1 ': words.txt: JSON, line 1 column 1: expected a value$' nigh $command words.txt
done
check_fails "verify: no JSON" 1 ': words.txt: JSON, line 1 column 1: expected a value$' nigh verify words.txt
check_fails "verify: no such file" 2 ': none.json: no such file$' nigh verify none.json
check_fails "chat-template: no JSON" 1 'standard input: JSON, line 1 column 1: the text ends too early$' \
    nigh chat-template --builtin chatml
check_fails "ledger: none" 2 'ledger.db: there is no ledger; a node writes one$' nigh ledger
check_fails "ledger: another file" 6 'words.txt: file is not a database$' nigh ledger --file words.txt

check_fails "keys: none" 2 ': keys: there is no key file; make one with: nigh serve --new-key$' nigh serve --port 0 --key-file keys
: > keys
check_fails "keys: readable by others" 1 ': keys: must be a regular file of yours that nobody else may read' \
    nigh serve --port 0 --key-file keys
chmod 600 keys
check_fails "keys: empty" 1 ': keys: holds no key; make one with: nigh serve --new-key$' nigh serve --port 0 --key-file keys
echo nonsense > keys
check_fails "keys: no key" 1 ': keys: holds a line that is no key, or rights that do not exist .byte 0.$' \
    nigh serve --port 0 --key-file keys
check_fails "keys: a folder" 1 ': folder: must be a regular file' nigh serve --port 0 --key-file folder
check_fails "a key in a folder that cannot be made" 5 'words.txt/keys: cannot be' nigh serve --new-key --key-file words.txt/keys
finish
