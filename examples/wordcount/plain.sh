#!/bin/sh
# Count the words of all files of a folder, after Doug McIlroy's six commands (Communications of
# the ACM 29:6, 1986). Millpond names the folders; by hand: plain.sh FOLDER [OUTPUT]
set -eu
export LC_ALL=C
source=${1:-${MILLPOND_INPUT_DATA:-}}
target=${2:-${MILLPOND_OUTPUT:-.}}
{
    echo word,count
    find "$source" -type f -exec sh -c 'for file; do cat "$file"; echo; done' sh {} + |
        tr A-Z a-z | tr -cs a-z '\n' | sed '/^$/d' | sort | uniq -c | sort -k1,1nr -k2,2 |
        awk '{ print $2 "," $1 }'
} > "$target/words.csv"
awk -F, 'NR > 1 { all += $2 } END { print all + 0 " words, " NR - 1 " different ones" }' "$target/words.csv"
