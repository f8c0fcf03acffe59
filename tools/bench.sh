#!/bin/bash
# Runs every program of tests/bench and every tests/bench/*.sh, one after the other: two at once would
# measure each other. Each prints its own lines.
# usage: [B=build] tools/bench.sh [NAME...]      NAME: a part of the file's name
set -u
cd "$(dirname "$0")/.." || exit 1
export B=${B:-build}
ran=0 bad=0
for file in tests/bench/bench_*.c tests/bench/*.sh; do
    [ -f "$file" ] || continue
    wanted=$([ $# -eq 0 ] && echo yes)
    for part in "$@"; do case $file in *"$part"*) wanted=yes ;; esac; done
    [ -n "$wanted" ] || continue
    program=$file
    case $file in *.c) program=$B/${file%.c} ;; esac
    printf '== %s\n' "$file"
    timeout -k 10 600 "$program" </dev/null || { echo "bench: $file ended with exit code $?"; bad=1; }
    ran=$((ran + 1))
done
[ $ran -gt 0 ] || { echo "bench: nothing fits in tests/bench"; exit 1; }
exit $bad
