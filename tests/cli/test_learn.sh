#!/usr/bin/env bash
# test_learn.sh - `nigh learn` as a user meets it: text to a model that runs, Ctrl-C and going on, a second round,
# refusals, the examples.

. "$(dirname "$0")/lib.sh"
tiny="--dim 32 --heads 2 --kv-heads 1 --layers 1 --ff 32 --vocab 300 --context 16 --batch 8 --warmup 1 --decay 1"
learn() { "$NIGH" learn "$@"; }

made() { # made DOCUMENTS SEED: simple sentences, a form feed behind each document
    awk -v docs="$1" -v seed="$2" 'BEGIN {
        srand(seed)
        n = split("Tom Anna dog cat king sister man bird ball house bread boat hat apple stone moon", w, " ")
        for (d = 0; d < docs; d++) {
            for (l = 0; l < 4; l++) {
                for (i = 0; i < 20; i++) printf "%s%s", i ? " " : "", w[1 + int(rand() * n)] int(rand() * 50)
                print "."
            }
            print "\f"
        } }'
}
cd "$tmp" || exit 1
mkdir notes stories books
made 60 1 > notes/a.txt
made 20 2 > stories/s.txt
made 20 3 > books/b.md
made 40 4 > poems.txt

# Text to a model that the engine runs.
learn notes $tiny --steps 20 --out tiny.gguf --name "made words" 2> err
check_equal "exit code" 0 $?
said=$(cat err)
check_match "what was read" '^text: 1 files, 60 documents, [0-9.]+ MB; removed as repeats: 0 documents, 0 par' "$said"
check_match "progress" '^step 20 of 20 \(100 %\), loss [0-9.]+, held out [0-9.]+, [0-9]+ tokens/s, 0:00 left$' "$said"
check_match "held-out loss" '^held-out loss [0-9.]+$' "$(cat err)"
check_match "file" '^wrote tiny.gguf: 0.[0-9]+ MB, Q8_0, step 20$' "$(cat err)"
got=$("$NIGH" run ./tiny.gguf -p "Tom1 dog2" -n 5 -q 2>&1)
check_equal "the model runs" 0 $?
check_match "the model says something" '.' "$got"

# Ctrl-C, again and again, and going on: the same file as without.
learn poems.txt $tiny --steps 600 --out whole.gguf 2> err
code=7 stops=0
while [ "$code" = 7 ] && [ "$stops" -lt 50 ]; do
    "$NIGH" learn poems.txt $tiny --steps 600 --checkpoint c --out parts.gguf 2> err &
    pid=$!
    for _ in $(seq 100); do grep -q '^step' err && break; sleep 0.05; done
    [ "$stops" -lt 3 ] && kill -INT "$pid" 2> /dev/null
    wait "$pid"
    code=$?
    [ "$code" = 7 ] && check_match "how to go on" 'stopped after step [0-9]+; the same command continues' "$(cat err)"
    stops=$((stops + 1))
done
[ "$stops" -ge 2 ] || bad "it was never stopped"
check_equal "it ends at last" 0 "$code"
check_same "the same model with pauses" whole.gguf parts.gguf
learn --checkpoint c --out again.gguf 2> err
check_same "the model of a checkpoint" whole.gguf again.gguf

# A second round begins with the weights of the first.
learn poems.txt $tiny --steps 20 --rate 0.001 --from c --out second.gguf 2> err
check_match "a second round" '^begins with the weights of c \(600 steps\)$' "$(cat err)"
first=$(sed -n 's/^step 1 of 20 .*, loss \([0-9]\).*/\1/p' err)
[ "${first:-9}" -lt 4 ] && good || bad "a second round begins with loss $first"

# A round on other text keeps the vocabulary, so the weights still mean the same.
learn notes $tiny --steps 20 --rate 0.001 --from c --out third.gguf 2> err
check_match "a round on other text" '^begins with the weights of c \(600 steps\)$' "$(cat err)"
echo "The moon is old and the sea is wide." > line
check_equal "the same vocabulary" "$("$NIGH" tokenize whole.gguf < line)" "$("$NIGH" tokenize third.gguf < line)"

# Refusals.
check_fails "a round of another shape" 1 'a model of another shape' learn poems.txt --from c
check_fails "no text" 1 'no text given' learn
check_fails "no folder" 2 '^nigh learn: nowhere: no such file or folder$' learn nowhere
check_fails "a type" 1 'must be f32, f16, bf16, q8_0 or q4_0' learn notes --type q9
check_fails "a width" 1 'multiple of 32' learn notes --dim 40
check_fails "other options" 1 'made with other options' learn poems.txt $tiny --steps 600 --checkpoint c --seed 2
check_fails "other text" 1 'made from other text' learn notes $tiny --steps 600 --checkpoint c
check_fails "a moved decay" 1 'past the step where the decay begins' learn poems.txt $tiny --steps 900 --checkpoint c
printf 'broken' > d
check_fails "a damaged checkpoint" 6 'no checkpoint of nigh learn' learn poems.txt $tiny --checkpoint d

# Every example of the help, on a smaller model.
while IFS= read -r line; do
    command="nigh${line#*nigh}"
    case $command in *" --checkpoint notes.ckpt --out now"*) small="" ;; *) small="$tiny --steps 4" ;; esac
    if (nigh() { "$NIGH" "$@" $small; }; eval "$command") > out 2> err; then good
    else bad "example '$line': $(tail -n 1 err)"; fi
done < <(examples learn | sed 's/ *#.*//')
for f in notes.gguf now.gguf small.gguf tales.gguf; do [ -s $f ] || bad "the example wrote no $f"; done
finish
