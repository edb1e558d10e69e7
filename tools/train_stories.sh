#!/bin/sh
# train_stories.sh - trains models/nigh-stories.gguf again, from the corpora folder to the file.
#   tools/train_stories.sh CORPORA WORK OUT.gguf
# CORPORA: the folder that holds books-*.txt.zst, african-storybook, pratham-books and gutenberg. WORK: room for 150 MB; a run that was
# stopped continues from WORK/checkpoint. Needs zstd and awk. About an hour on two cores with AVX-512.
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
                kind = col[2] ~ /nesbit|burnett|grahame|baum|montgomery|carroll|alcott|tom-sawyer|treasure-island|white-fang|call-of-the-wild/
                for (n = col[5] + 0; n > 0; n--) is_child[++total] = kind
            }
            doc = 1
        }
        /^\f$/ { print > (is_child[doc] ? children : rest); doc++; next }
        { print > (is_child[doc] ? children : rest) }
        END { if (doc < total) { print "books: " doc " documents, the table says " total > "/dev/stderr"; exit 1 } }'

[ -z "${PREPARE_ONLY:-}" ] || exit 0
exec "$nigh" learn "$work/stories@4,12" "$work/children@2,4" "$work/books@1,0.25" --checkpoint "$work/checkpoint" --out "$out" ${LEARN_OPTIONS:-}
