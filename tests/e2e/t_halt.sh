# shellcheck shell=bash
# Batches that are ended by their own failures.

complete() { [ "$(status_of "$1" state)" = complete ]; }
sleeps() { some_running "sleep $1"; }

# Items: a number is slept, `bad` fails when the file is there.
# shellcheck disable=SC2016
fails_at_go='case $0 in bad) while [ ! -e "$1" ]; do sleep 0.05; done; exit 7 ;; *) exec sleep "$0" ;; esac'

test_soon_lets_what_runs_finish() {
    start_cluster 2
    local batch
    batch=$(submit --halt soon,fail=1 -- sh -c 'case $0 in bad) until [ -e "$1.hold" ]; do sleep 0.05; done; exit 7 ;; esac
        : >"$1.$0"; until [ -e "$1" ]; do sleep 0.05; done' {} "$T/go" ::: bad hold a b c d e f g h)
    wait_for 10 "the halt" status_reaches "$batch" cancelled 7
    assert_eq "note" "$(status_of "$batch" note)" "halted: 1 task failed"
    assert_eq "state" "$(status_of "$batch" state)" "cancelling"
    touch "$T/go"
    assert_exit 1 ventilator wait "$batch"
    assert_exit 0 ventilator results "$batch" --format json
    assert_each_once "$T/out" 10
    [ "$(jq -r 'select(.index == 1).verdict' "$T/out")" = ok ] || fail "the task that ran did not finish: $(verdicts "$T/out")"
    [ "$(jq -r 'select(.verdict == "cancelled").reason' "$T/out" | sort -u)" = halt ] || fail "a cancelled task has another reason"
    assert_eq "note in the end" "$(status_of "$batch" note)" "halted: 1 task failed"
    assert_exit 0 ventilator explain "$batch"
    assert_contains "$T/out" "halted: 1 task failed"
}

test_now_stops_what_runs() {
    start_cluster 2
    local batch
    batch=$(submit --halt now,fail=1 --grace 1s -- sh -c "$fails_at_go" {} "$T/go" ::: bad 641 642 643 644)
    wait_for 10 "the second task to run" sleeps 641
    touch "$T/go"
    assert_exit 1 ventilator wait "$batch"
    none_running "sleep 64" || fail "a sleep is left alive"
    assert_exit 0 ventilator results "$batch" --format json
    assert_each_once "$T/out" 5
    assert_eq "verdicts" "$(verdicts "$T/out")" "cancelled=4 failed=1"
    assert_eq "reason of the one that ran" "$(jq -r 'select(.index == 1).reason' "$T/out")" halt
}

test_percent_and_the_exit_code_of_whoever_waits() {
    start_cluster 1
    # 3 of 20 are 15%: the third failure halts it, and the one that runs by then follows.
    local batch
    batch=$(submit --halt soon,fail=15% -- sh -c '[ "$0" -le 3 ] || until [ -e "$1" ]; do sleep 0.05; done; exit 1' {} "$T/go" ::: {1..20})
    wait_for 10 "the halt" status_reaches "$batch" cancelled 16
    touch "$T/go"
    assert_exit 1 ventilator wait "$batch"
    assert_exit 0 ventilator results "$batch" --format json
    assert_each_once "$T/out" 20
    assert_between "failed tasks" "$(jq -r .verdict "$T/out" | grep -c failed)" 3 4
    assert_exit 1 ventilator submit --wait --format json --halt now,fail=100% -- sh -c 'exit 1' {} ::: 1 2 3 4
    assert_exit 0 ventilator submit --wait --format json --halt now,fail=1 -- true {} ::: 1 2 3 4
    assert_eq "verdicts" "$(verdicts "$T/out")" "ok=4"
}

test_the_input_ends_too() {
    start_cluster 1
    local code=0
    { seq 5; wait_for 10 "the halt" test -e "$T/failed"; nap 0.5; seq 6 100000; } |
        ventilator submit --wait --format none --halt now,fail=1 -- sh -c ': >"$1"; exit 3' {} "$T/failed" >"$T/out" 2>"$T/err" || code=$?
    assert_eq "exit code" "$code" 1
}

test_a_restart_keeps_the_halt() {
    start_cluster 1
    local batch
    batch=$(submit --halt soon,fail=1 -- sh -c 'case $0 in bad) exit 7 ;; *) while [ ! -e "$1" ]; do sleep 0.05; done; echo "$0" >>"$1" ;; esac' \
        {} "$T/go" ::: hold bad a b c d)
    batch2=$(submit --halt now,fail=2 -- sh -c 'exit 1' {} ::: 1 2 3 4 5 6)
    touch "$T/go"
    wait_for 10 "the second batch to be halted" complete "$batch2"
    stop ventilator KILL 137
    start_ventilator
    assert_exit 1 ventilator wait "$batch"
    assert_exit 1 ventilator wait "$batch2"
    assert_eq "note" "$(status_of "$batch2" note | tr -d 0-9)" "halted:  tasks failed"
    assert_exit 0 ventilator results "$batch2" --format json
    assert_each_once "$T/out" 6
}

test_run_halts() {
    assert_exit 1 ventilator run --slots 1 --format json --halt now,fail=1 -- sh -c '[ "$0" -eq 1 ] || exec sleep 645; exit 5' {} ::: 1 2 3 4 5 6 7 8
    assert_each_once "$T/out" 8
    assert_eq "ends" "$(jq -r '"\(.verdict) \(.reason)"' "$T/out" | sort | uniq -c | xargs)" "7 cancelled halt 1 failed exit"
    assert_refused 2 "--halt never" ventilator run --halt sometimes -- true
}

# What never started is told in one line, or the failures drown in it.
test_those_that_never_started_are_one_line() {
    assert_exit 1 ventilator run --slots 1 --halt now,fail=1 --range 1-500 -- sh -c '[ "$0" -gt 1 ] || exit 5; exec sleep 645' {}
    assert_contains "$T/err" "task 0 failed: exit code 5"
    assert_contains "$T/err" "cancelled before they started: halted: 1 task failed"
    assert_between "lines on standard error" "$(wc -l <"$T/err")" 3 20
    start_cluster 1
    local batch
    batch=$(submit --halt soon,fail=1 -- sh -c '[ "$0" -gt 1 ] || exit 5; until [ -e "$1" ]; do sleep 0.05; done' {} "$T/go" ::: {1..6})
    wait_for 10 "the halt" status_reaches "$batch" cancelled 4
    touch "$T/go"
    assert_exit 1 ventilator wait "$batch"
    assert_exit 0 ventilator results "$batch" --verdict cancelled
    assert_between "lines on standard error" "$(wc -l <"$T/err")" 1 1
    assert_contains "$T/err" "before "
}
