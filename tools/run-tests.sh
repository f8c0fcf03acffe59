#!/bin/bash
# Runs suites of tests and closes with one line, `N passed, N failed`, over all of them. Each program has
# a time limit; what a failing one printed is shown. A suite that runs no test is a failure.
# usage: [B=build] [SAN=…] [SEEDS=…] [LABEL=word] tools/run-tests.sh SUITE...     unit fault sim e2e
# Each `timeout` stays in the foreground, in the group of this script: whoever ends the group ends the tests as well.
set -u
cd "$(dirname "$0")/.." || exit 1
export B=${B:-build} SAN=${SAN:-} SEEDS=${SEEDS:-1000}
label=${LABEL:-}
passed=0 failed=0 skipped=0
said=$(mktemp) || exit 1
trap 'rm -f "$said"' EXIT

# Where the kernel spreads addresses wider than gcc's thread sanitizer expects, a program stops before its
# main; without randomness it runs.
calm=()
case $SAN in thread*) setarch "$(uname -m)" -R true 2>/dev/null && calm=(setarch "$(uname -m)" -R) ;; esac
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1:exitcode=99} UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-exitcode=99:suppressions=$PWD/tools/tsan.supp}

# Counts the TAP lines in $said. A program that failed without a failed test (it crashed, or was ended), or
# that ended before its plan was done, counts as one failure more.
account() {    # NAME CODE [shown]
    local name=$1 code=$2 shown=${3:-} good bad skip plan
    skip=$(grep -cE '^(not )?ok\b.*# SKIP' "$said")
    good=$(grep -E '^ok\b' "$said" | grep -vc '# SKIP')
    bad=$(grep -E '^not ok\b' "$said" | grep -vc '# SKIP')
    plan=$(awk -F'\\.\\.' '/^1\.\.[0-9]+/ { n += $2 } END { print n + 0 }' "$said")
    if [ "$bad" -eq 0 ] && { [ "$code" -ne 0 ] || [ $((good + skip)) -eq 0 ] || [ $((good + skip)) -lt "$plan" ]; }; then
        bad=1
        if [ "$code" -eq 124 ] || [ "$code" -eq 137 ]; then echo "not ok - $name ran into its time limit"
        elif [ "$code" -ne 0 ]; then echo "not ok - $name ended with exit code $code"
        else echo "not ok - $name ran $((good + skip)) of $plan tests"
        fi
    fi
    passed=$((passed + good)) failed=$((failed + bad)) skipped=$((skipped + skip))
    if [ "$bad" -gt 0 ]; then
        printf '%-40s %5d ok, %d not ok\n' "$name" "$good" "$bad"
        [ -n "$shown" ] || { echo "---- $name said:"; tail -n 200 "$said"; echo "---- end of $name"; }
    else
        printf '%-40s %5d ok\n' "$name" "$good"
    fi
}

run_program() {    # SECONDS PROGRAM [ARGUMENT...]
    local limit=$1 program=$2 code=0
    shift
    CMOCKA_MESSAGE_OUTPUT=TAP timeout --foreground -k 5 "$limit" "${calm[@]}" "$@" >"$said" 2>&1 </dev/null || code=$?
    account "${program#"$B"/}" "$code"
}

# The programs are those whose sources exist: a binary of a test that was taken away is not run.
run_all_of() {    # FOLDER
    local source program any='' limit=120
    [ -z "$SAN" ] || limit=480
    for source in tests/"$1"/test_*.c; do
        [ -f "$source" ] || continue
        any=1
        program=$B/${source%.c}
        if [ -x "$program" ]; then
            run_program "$limit" "$program"
        else
            echo "not ok - $program is not built"
            failed=$((failed + 1))
        fi
    done
    [ -n "$any" ] || { echo "not ok - no test in tests/$1"; failed=$((failed + 1)); }
}

# The seeds of the simulation in two halves, side by side; the mutants follow the first one.
run_sim() {
    local first=$((SEEDS / 2)) limit=$((600 + SEEDS / 20)) code=0 second_code=0 second
    [ -z "$SAN" ] || limit=$((limit * 3))
    second=$(mktemp) || exit 1
    SEEDS=$((SEEDS - first)) FROM=$((${FROM:-1} + first)) MUTANTS=0 timeout --foreground -k 5 "$limit" "${calm[@]}" "$B/tests/sim" >"$second" 2>&1 </dev/null &
    SEEDS=$first timeout --foreground -k 5 "$limit" "${calm[@]}" "$B/tests/sim" >"$said" 2>&1 </dev/null || code=$?
    wait $! || second_code=$?
    [ "$SEEDS" -lt 1000 ] || [ $((code + second_code)) -ne 0 ] || sed 's/^# reached by.*/# reached by the first half of the seeds:/' "$said" | grep '^#'
    cat "$second" >>"$said"
    rm -f "$second"
    account tests/sim $((code > second_code ? code : second_code))
}

for suite in "$@"; do
    case $suite in
    unit | fault) run_all_of "$suite" ;;
    sim) run_sim ;;
    e2e)
        code=0
        # Shown as it goes: these take the longest.
        timeout --foreground -k 60 3600 "${calm[@]}" tests/e2e/run.sh 2>&1 </dev/null | tee "$said"
        code=${PIPESTATUS[0]}
        account e2e "$code" shown
        ;;
    *) echo "run-tests: no suite is called '$suite'; there are: unit fault sim e2e" >&2; exit 2 ;;
    esac
done

printf '%s%d passed, %d failed' "${label:+$label: }" "$passed" "$failed"
[ "$skipped" -eq 0 ] || printf ', %d skipped' "$skipped"
printf '\n'
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
