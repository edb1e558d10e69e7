#!/usr/bin/env bash
# test_run.sh - `nigh run` as a user meets it: text, status line, JSON, refusals, Ctrl-C, the terminal.
. "$(dirname "$0")/lib.sh"
run() { "$NIGH" run "$@"; }
json() { node -e 'const o = JSON.parse(require("fs").readFileSync(0)); console.log(eval(process.argv[1]))' "$1"; }

check_examples run

# Greedy text of a trained model, as llama2.c gives it.
if [ -r "$golden_model" ]; then
    run "$golden_model" -p "" -n 200 -q > "$tmp/story" 2> "$tmp/err"
    check_same "greedy story" "$shared/golden/stories260K.txt" "$tmp/story"
    check_equal "quiet" "" "$(cat "$tmp/err")"
    run "$golden_model" -p "Once upon a time" -n 60 -q > "$tmp/whole"
    for settings in "-t 1" "-c 70" "-t 3 --top-k 1 --temp 1"; do
        run "$golden_model" -p "Once upon a time" -n 60 -q $settings > "$tmp/other"
        check_same "the same text with $settings" "$tmp/whole" "$tmp/other"
    done
    got=$(run "$golden_model" -p "Once upon a time" -n 20 -q)
    check_equal "it goes on with its own space" ", there was" "${got:0:11}"
    got=$(run "$golden_model" -p "Once upon a time" --stop "nothing" --stop "girl named" -q)
    check_equal "a stop string over token borders" ", there was a little " "$got"
else
    skip "greedy story: $golden_model is not there"
fi

# The status line and the memory line.
hash=$(sha256sum "$model" | cut -c 1-64)
run "$model" -p "One day" -n 5 > "$tmp/out" 2> "$tmp/err"
check_match "memory before it is taken" \
    '^memory: weights [0-9.]+ MiB \+ cache [0-9.]+ MiB \([0-9]+ tokens\) \+ scratch' \
    "$(head -n 1 "$tmp/err")"
want="^on this device · model ${hash:0:12} · 0 bytes sent · prompt [0-9]+ tokens at [0-9.]+ tok/s"
check_match "status line" "$want · [0-9]+ tokens at [0-9.]+ tok/s( \\([0-9]+ of [0-9]+ guesses right\\))? · [0-9]+ ms\$" "$(tail -n 1 "$tmp/err")"

# Seeds: the same one repeats, also the one that was drawn.
run "$model" -p "One day" -n 30 --temp 1 --seed 5 -q > "$tmp/a"
run "$model" -p "One day" -n 30 --temp 1 --seed 5 -q -t 1 > "$tmp/b"
check_same "one seed, one text" "$tmp/a" "$tmp/b"
run "$model" -p "One day" -n 30 --temp 1 > "$tmp/a" 2> "$tmp/err"
seed=$(sed -n 's/.* · seed \([0-9]*\)$/\1/p' "$tmp/err")
run "$model" -p "One day" -n 30 --temp 1 --seed "$seed" -q > "$tmp/b"
check_same "the drawn seed repeats the text" "$tmp/a" "$tmp/b"

# JSON.
if command -v node > /dev/null; then
    out=$(run "$model" -p "One day" -n 7 --json --ignore-end -q)
    facts='const { place, bytes_out, model } = o.receipt;
        [o.finish_reason, o.usage.completion_tokens, place, bytes_out, model].join(" ")'
    check_equal "json" "length 7 device 0 $hash" "$(printf '%s' "$out" | json "$facts")"
    check_equal "json text" "$(run "$model" -p "One day" -n 7 --ignore-end -q)" "$(printf '%s' "$out" | json o.text)"
    out=$(run "$model" -p "One day" --ignore-end -c 20 --json -q)
    check_equal "the context is full" length "$(printf '%s' "$out" | json o.finish_reason)"
else
    skip "json: there is no node"
fi

# Guesses change nothing but the time.
repeats="the dog saw the cat and the dog saw the cat and the dog"
for settings in "--temp 0" "--temp 0.9 --seed 3" "--temp 1.4 --seed 4 --repeat-penalty 1.2" "-c 40"; do
    run "$model" -p "$repeats" -n 60 --ignore-end -q $settings --no-speculation > "$tmp/alone"
    run "$model" -p "$repeats" -n 60 --ignore-end -q $settings > "$tmp/other"
    check_same "the same text with guesses, $settings" "$tmp/alone" "$tmp/other"
    run "$model" -p "$repeats" -n 60 --ignore-end -q $settings --draft "$model" > "$tmp/other"
    check_same "the same text with a draft model, $settings" "$tmp/alone" "$tmp/other"
done
if [ -r "$golden_model" ]; then
    run "$model" -p "$repeats" -n 5 -q --draft "$golden_model" > /dev/null 2> "$tmp/err"
    check_equal "a draft model of another vocabulary" 1 $?
    check_match "it says so" "the draft model has another vocabulary" "$(cat "$tmp/err")"
fi

# The prompt from standard input, without its last line feed.
check_equal "standard input" "$(run "$model" -p "One day" -n 5 -q)" "$(echo "One day" | run "$model" -n 5 -q)"

# Refusals say what to do next.
check_fails "no model" 1 "no model is named; give" run
check_fails "no such file" 2 "nowhere.gguf: no such file" run nowhere.gguf -p x
check_fails "no such name" 2 "no model 'nothing'.*give the path" run nothing -p x
check_fails "too many words" 1 "'day' is one word too many; a text goes behind -p" run "$model" day
check_fails "unknown option" 1 "unknown option --tmep" run "$model" -p x --tmep 1
check_fails "unknown option: what next" 1 "see: nigh run --help" run "$model" -p x --tmep 1
check_fails "temperature" 1 "temperature must lie in 0..100" run "$model" -p x --temp -1 -q
check_fails "top-p" 1 "top_p must lie in 0..1" run "$model" -p x --temp 1 --top-p 1.5 -q
check_fails "tokens" 1 "tokens must lie in 1" run "$model" -p x -n 0
check_fails "empty stop" 1 "a stop string has 1 to 1024 bytes" run "$model" -p x --stop ""
check_fails "long prompt" 3 "the context has room for 8; shorten it, or give more with -c" \
    run "$model" -c 8 -p "$(yes one day | head -n 100)"
check_fails "large context" 3 "more than the [0-9]+ that this model was made for; give less with -c" \
    run "$model" -c 4000000 -p x
echo "not a model" > "$tmp/bad.gguf"
check_fails "no GGUF file" 6 "^nigh run: .*bad.gguf: " run "$tmp/bad.gguf" -p x -q
head -c 300000 "$model" > "$tmp/cut.gguf"
check_fails "a cut file" 6 "^nigh run: .*cut.gguf: " run "$tmp/cut.gguf" -p x -q
check_fails "a folder" 1 "not a regular file" run "$tmp/" -p x
if truncate -s 8T "$tmp/huge.gguf" 2> /dev/null; then
    check_fails "more than this machine has" 4 "the weights would take [0-9]+ MiB, but this machine has [0-9]+ MiB" \
        run "$tmp/huge.gguf" -p x
else
    skip "more than this machine has: no sparse files in $tmp"
fi

# Ctrl-C: the text so far, a status line, exit code 7. A quick model may be done before the signal: then once more.
for try in 1 2 3 4 5; do
    rm -f "$tmp/out"
    "$NIGH" run "$model" -p "One day" --ignore-end --temp 1 --seed 1 > "$tmp/out" 2> "$tmp/err" &
    child=$!
    while [ ! -s "$tmp/out" ] && kill -0 $child 2> /dev/null; do :; done
    kill -INT $child 2> /dev/null
    wait $child
    code=$?
    [ "$code" != 0 ] && break
done
if [ "$code" = 0 ]; then
    skip "Ctrl-C: the text was complete before it, five times"
else
    check_equal "Ctrl-C: exit code" 7 "$code"
    check_match "Ctrl-C: status line" "^on this device · .*tok/s" "$(cat "$tmp/err")"
    check_match "Ctrl-C: what happened" "^nigh run: stopped; the text so far is above" "$(cat "$tmp/err")"
fi

# A reader that goes away ends the program quietly; a full disk is an error.
run "$model" -p "One day" -n 50 -q --ignore-end 2> "$tmp/err" | head -c 1 > /dev/null
check_equal "a closed pipe" "" "$(cat "$tmp/err")"
if [ -w /dev/full ]; then
    run "$model" -p "One day" -n 5 -q > /dev/full 2> "$tmp/err"
    check_equal "a full disk" "5 nigh run: standard output cannot be written" "$? $(cat "$tmp/err")"
fi

# A terminal never gets a raw control character, a file gets every byte.
if command -v script > /dev/null && script -qec true /dev/null < /dev/null > "$tmp/tty" 2>&1; then
    hot=(-p "One day" --temp 100 --seed 3 -n 400 --ignore-end -q)
    plain=$(run "$model" "${hot[@]}" | LC_ALL=C tr -cd '\000-\010\013-\037\177' | wc -c)
    script -qec "$(printf '%q ' "$NIGH" run "$model" "${hot[@]}")" /dev/null < /dev/null > "$tmp/tty" 2>&1
    shown=$(LC_ALL=C tr -cd '\000-\010\013\014\016-\037\177' < "$tmp/tty" | wc -c)
    [ "$plain" -gt 0 ] || skip "control characters: this model made none"
    check_equal "control characters on a terminal (in a file: $plain)" 0 "$shown"
    check_equal "text on a terminal" yes "$([ "$(wc -c < "$tmp/tty")" -gt 400 ] && echo yes)"
else
    skip "terminal: there is no script(1), or no pseudo-terminal for it"
fi
finish
