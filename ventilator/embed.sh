#!/bin/bash
# Prints a C file that holds the given files as the table of ventilator/page.h.
# usage: ventilator/embed.sh FILE...
set -eu
printf '#include "ventilator/page.h"\n'
i=0
for file in "$@"; do
    printf 'static const unsigned char file_%d[] = {' $i
    od -An -v -tu1 "$file" | sed 's/ *\([0-9][0-9]*\)/\1,/g'
    printf '0};\n'
    i=$((i + 1))
done
printf 'const struct page_file page_files[] = {\n'
i=0
for file in "$@"; do
    printf '    {"%s", file_%d, sizeof file_%d - 1},\n' "${file##*/}" $i $i
    i=$((i + 1))
done
printf '    {0, 0, 0},\n};\n'
