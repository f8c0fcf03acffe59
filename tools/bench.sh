#!/bin/bash
# The benchmarks: without a name those of the whole system (tests/bench/flights.py), one after the other, since two at
# once would measure each other. With names: those benches of the whole system, and those programs of tests/bench that
# measure a part (bench_wire, bench_store, bench_register, bench_keeper, bench_dispatch), that have it in their name.
# usage: [B=build] tools/bench.sh [--quick] [NAME...]
set -u
cd "$(dirname "$0")/.." || exit 1
export B=${B:-build}
quick=()
if [ "${1:-}" = --quick ]; then quick=(--quick); shift; fi
[ $# -gt 0 ] || exec tests/bench/flights.py "${quick[@]}"
bad=0
for part in "$@"; do
    program=$B/tests/bench/bench_${part#bench_}
    case $part in
    wire | store | register | keeper | dispatch | bench_*)
        [ -x "$program" ] || { echo "bench: there is no $program; see tests/bench"; bad=1; continue; }
        timeout -k 10 600 "$program" </dev/null || { echo "bench: $program ended with exit code $?"; bad=1; } ;;
    *) tests/bench/flights.py "${quick[@]}" "$part" || bad=1 ;;
    esac
done
exit $bad
