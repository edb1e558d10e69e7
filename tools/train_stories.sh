#!/bin/sh
# train_stories.sh - trains models/nigh-stories.gguf again, from the corpora folder to the file.
#   tools/train_stories.sh CORPORA WORK OUT.gguf
# CORPORA: the folder that holds books-*.txt.zst, african-storybook, pratham-books and gutenberg. WORK: room for
# 400 MB; a run that was stopped continues from WORK/round-1 to round-4. Needs zstd and awk.
set -eu
[ $# -eq 3 ] || { echo "usage: tools/train_stories.sh CORPORA WORK OUT.gguf" >&2; exit 1; }
corpora=$1 work=$2 out=$3
nigh=${NIGH:-build/nigh}

# Straight quotes, as people type them; a paragraph is a line, without empty lines between.
plain() { sed -e "s/[‘’]/'/g; s/[“”]/\"/g" -e 's/[ 	][ 	]*/ /g; s/^ //; s/ $//' | grep -v '^$' || true; }

mkdir -p "$work/stories" "$work/children" "$work/books"

# Picture books: a page is a paragraph; the credits at the end go (they are in models/ATTRIBUTION.md).
for f in "$corpora"/african-storybook/en/*.md "$corpora"/pratham-books/en/*.md; do
    awk '/^\* (License|Text|Illustration|Translat|Adaptation|Language)/ { exit }
         /^# / { print substr($0, 3); next }
         /^##/ || /^ *$/ { if (page != "") print page; page = ""; next }
         { page = page == "" ? $0 : page " " $0 }
         END { if (page != "") print page; printf "\f\n" }' "$f"
done | plain > "$work/stories/picture-books.txt"

# Who wrote them: CC-BY asks for it.
{
    echo '# The authors of the picture books'
    echo
    echo 'The shipped model learnt from the words of these books, which are under CC-BY 4.0 (one is in the public'
    echo 'domain and says so). Changed: page breaks, credits and line breaks were removed, curly quotes made straight.'
    for collection in african-storybook:'African Storybook (africanstorybook.org)' \
                      pratham-books:'Pratham Books (storyweaver.org.in)'; do
        printf '\n## %s\n\n' "${collection#*:}"
        for f in "$corpora/${collection%%:*}"/en/*.md; do
            awk '/^# / && title == "" { title = substr($0, 3) }
                 /^\* License: \[Public/ { free = " (public domain)" }
                 /^\* (Text|Translated By|Translation|Adaptation): / { who = who "; " substr($0, 3) }
                 END { print "- " title free " — " substr(who, 3) }' "$f"
        done
    done
} > "$work/ATTRIBUTION.md"

# Old stories for children: unwrap the lines; four empty lines or more begin a new story.
for f in bryant-stories burgess-busterbrown edgeworth-parents; do
    tr -d '\r' < "$corpora/gutenberg/gutenberg/$f.txt" | awk 'NR == 1 { next }
         /\[Illustration/ { skip = 1 }
         skip { if (/\]/) skip = 0; next }
         /^ *$/ { if (par != "") print par; par = ""; if (++empty == 4) printf "\f\n"; next }
         { empty = 0; par = par == "" ? $0 : par " " $0 }
         END { if (par != "") print par; printf "\f\n" }' | sed 's/_//g; s/  */ /g; s/--/—/g'
done | plain > "$work/stories/old-stories.txt"

# The books: one document a chapter, in the order of the table of SOURCES.md without the books marked (us). Those for
# children (numbers of documents counted from 1) stand apart, so that they can weigh more.
for i in 1 2 3; do zstd -dc "$corpora/books-$i.txt.zst"; printf '\f\n'; done | plain |
    awk -v table="$corpora/SOURCES.md" -v children="$work/children/books.txt" -v rest="$work/books/books.txt" '
        BEGIN {
            while ((getline line < table) > 0) {
                if (line ~ /^## Prose/) break
                if (line !~ /^\| standardebooks\// || line ~ /\(us\)/) continue
                split(line, col, /[ ]*\|[ ]*/)
                kind = col[2] ~ /nesbit|burnett|grahame|baum|montgomery|carroll|alcott/ ||
                       col[2] ~ /tom-sawyer|treasure-island|white-fang|call-of-the-wild/
                for (n = col[5] + 0; n > 0; n--) is_child[++total] = kind
            }
            doc = 1
        }
        /^\f$/ { print > (is_child[doc] ? children : rest); doc++; next }
        { print > (is_child[doc] ? children : rest) }
        END { if (doc < total) { print "books: " doc " documents, the table says " total > "/dev/stderr"; exit 1 } }'

# without PATTERN FROM TO: the same text but for the documents in which the pattern stands.
without() {
    mkdir -p "$3/stories" "$3/children" "$3/books"
    for f in stories/old-stories.txt stories/picture-books.txt children/books.txt books/books.txt; do
        awk -v word="$1" 'BEGIN { RS = "\f\n"; ORS = "\f\n" } tolower($0) !~ word' "$2/$f" > "$3/$f"
    done
}

# The third round leaves out every document with one of the insults that old novels use for peoples; the fourth also
# the two lists of links that lie among the picture books.
insults='nigg|negr[eo]|darkies|pickaninn|[^a-z]dagos?[^a-z]|kaffir|squaw|half-breed|mulatto|injun|chinam[ae]n|jewess'
without "$insults|sheen(y|ies)[^a-z]|gypp?o|redskin" "$work" "$work/clean"
without 'https?:' "$work/clean" "$work/clean-2"

[ -z "${PREPARE_ONLY:-}" ] || exit 0
# Each later round begins with the weights of the one before; they lean towards the stories.
about="A small storyteller, trained by nigh learn on children's books and old novels."
# shellcheck disable=SC2086 # options are words
learn() { "$nigh" learn "$@" --held-out 20 ${LEARN_OPTIONS:-}; }
learn "$work/stories@4,16" "$work/children@2,4" "$work/books@1,0.2" --steps 1450 --decay 500 --checkpoint "$work/round-1"
learn "$work/stories@12" "$work/children@5" "$work/books@0.3" --steps 480 --decay 450 --warmup 30 --rate 0.0015 --seed 2 \
    --from "$work/round-1" --checkpoint "$work/round-2"
learn "$work/clean/stories@12" "$work/clean/children@5" "$work/clean/books@0.5" --steps 420 --decay 380 --warmup 30 \
    --rate 0.002 --seed 3 --from "$work/round-2" --checkpoint "$work/round-3"
learn "$work/clean-2/stories@12" "$work/clean-2/children@5" "$work/clean-2/books@0.5" --steps 200 --decay 180 --warmup 20 \
    --rate 0.0015 --seed 4 --from "$work/round-3" --checkpoint "$work/round-4" --out "$out" \
    --name nigh-stories --license CC-BY-4.0 --about "$about"
