# shellcheck shell=bash
# The log of the jobs, in GNU parallel's columns.

column() { cut -f "$2" "$1" | tail -n +2; }    # FILE N
rows() { tail -n +2 "$1" | sort -n; }

test_run_writes_what_parallel_would() {
    local before after
    before=$(date +%s)
    assert_exit 1 ventilator run --slots 2 --joblog "$T/log" -- sh -c 'case $0 in a) exit 0 ;; b) exit 7 ;; c) kill -9 $$ ;; *) echo "$0" ;; esac' {} \
        ::: a b c "it's d"
    after=$(($(date +%s) + 1))
    assert_eq "header" "$(head -n 1 "$T/log")" $'Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand'
    assert_eq "exit values and signals" "$(rows "$T/log" | cut -f 1,7,8 | tr '\t\n' ':,')" "1:0:0,2:7:0,3:0:9,4:0:0,"
    assert_eq "bytes" "$(rows "$T/log" | sed -n 4p | cut -f 6)" 7
    rows "$T/log" | sed -n 4p | cut -f 9 >"$T/command"
    assert_contains "$T/command" "sh -c 'case"
    assert_contains "$T/command" "'it'\\''s d'"
    local start
    while read -r start; do assert_between "start" "${start%.*}" $((before - 1)) "$after"; done < <(column "$T/log" 3)
}

test_of_a_batch_that_is_over() {
    start_cluster 1
    local batch before
    before=$(date +%s)
    assert_refused 2 "--joblog --wait" ventilator submit --joblog "$T/never" -- true {} ::: 1
    [ ! -e "$T/never" ] || fail "a refused command made a file"
    assert_refused 2 "--joblog directory" ventilator wait --joblog "$T" nothing
    batch=$(submit --timeout $((300 * PATIENCE))ms --grace 200ms -- sleep {} ::: 0 620)
    assert_exit 1 ventilator wait --joblog "$T/waited" "$batch"
    assert_exit 0 ventilator results --format none --joblog "$T/log" "$batch"
    # The start is told as an age, and turned into wall time by each command: a millisecond either way.
    cmp -s <(cut -f 1,2,4- "$T/waited") <(cut -f 1,2,4- "$T/log") || fail "wait and results log differently: $(cat "$T/waited" "$T/log")"
    assert_eq "exit values" "$(rows "$T/log" | cut -f 1,2,7 | tr '\t\n' ':,')" "1:w1:0,2:w1:-1,"
    local first second
    first=$(rows "$T/log" | sed -n 1p | cut -f 3)
    second=$(rows "$T/log" | sed -n 2p | cut -f 3)
    assert_between "start of the first" "${first%.*}" $((before - 1)) $((before + 30))
    [ "${first/./}" -le "${second/./}" ] || fail "the second began at $second, before the first at $first"
    assert_eq "command" "$(rows "$T/log" | sed -n 2p | cut -f 9)" "sleep {}"
    batch=$(submit --range 5-6 -- echo n{})
    assert_exit 0 ventilator wait "$batch"
    assert_exit 0 ventilator results --format none --ordered --joblog "$T/log" "$batch"
    assert_eq "commands of a range" "$(column "$T/log" 9 | tr '\n' ,)" "echo n5,echo n6,"
}

test_a_full_disk_is_told() {
    [ -c /dev/full ] || fail "this host has no /dev/full"
    assert_exit 6 ventilator run --slots 1 --joblog /dev/full -- true {} ::: 1 2 3
    assert_contains "$T/err" "--joblog"
}
