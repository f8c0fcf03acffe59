# shellcheck shell=bash
# Deadlines and cancels through the three daemons.

complete() { [ "$(status_of "$1" state)" = complete ]; }

test_deadline_without_any_worker() {
    start_ventilator
    start_sink
    assert_exit 124 ventilator submit --wait --format json --deadline 2s -- true {} ::: 1 2 3 4 5 6 7
    assert_between "time in ms" "$took" 1900 $((2000 + late))
    assert_each_once "$T/out" 7
    assert_eq "verdicts" "$(verdicts "$T/out")" "deadline_exceeded=7"
}

test_deadline_of_what_runs_and_what_waits() {
    start_cluster 1
    local batch since
    start submit "$BIN/ventilator" submit --wait --format json --deadline 10m --grace 1s -- sleep {} ::: 0.1 610 611 612
    wait_for 10 "the second task to run" some_running "sleep 610"
    batch=$(ventilator list --json | jq -r .batch)
    wait_for 10 "the first to be recorded" status_reaches "$batch" ok 1
    since=$(now_ms)
    assert_exit 0 ventilator extend "$batch" --deadline 500ms
    ended submit 124
    assert_between "time in ms" $(($(now_ms) - since)) 490 $((500 + late))
    assert_each_once "$T/submit.out" 4
    assert_eq "verdicts" "$(verdicts "$T/submit.out")" "deadline_exceeded=3 ok=1"
    none_running "sleep 61" || fail "a sleep is left alive"
}

test_timeout_does_not_end_the_batch() {
    start_cluster 1
    assert_exit 1 ventilator submit --wait --format json --timeout $((500 * PATIENCE))ms -- sleep {} ::: 613 0.1
    assert_eq "verdicts" "$(verdicts "$T/out")" "deadline_exceeded=1 ok=1"
}

test_extended_deadline() {
    start_ventilator
    start_sink
    local batch since first=$((PATIENCE + 4))    # in s: it is extended before
    batch=$(submit --deadline ${first}s -- true {} ::: 1)
    since=$(now_ms)
    assert_exit 0 ventilator extend "$batch" --deadline $((first + 2))s
    assert_exit 124 ventilator wait "$batch"
    assert_between "time in ms" $(($(now_ms) - since)) $((1000 * first + 1990)) $((1000 * first + 2000 + late))
}

test_cancel_of_queued_and_running() {
    start_cluster 1
    local batch
    batch=$(submit --grace 1s -- sleep {} ::: 614 615 616)
    wait_for 10 "the first task to run" some_running "sleep 614"
    assert_exit 0 ventilator cancel "$batch" --reason "enough of it"
    none_running "sleep 615" || fail "a cancelled task has started"
    assert_exit 130 ventilator wait "$batch"
    wait_for 5 "the running one to be ended" none_running "sleep 614"
    assert_exit 0 ventilator results "$batch" --format json
    assert_each_once "$T/out" 3
    assert_eq "verdicts" "$(verdicts "$T/out")" "cancelled=3"
}

test_cancel_of_some_tasks() {
    start_cluster 1
    local batch
    batch=$(submit -- sh -c 'case $0 in hold) while [ ! -e "$1" ]; do sleep 0.1; done ;; esac' {} "$T/go" ::: hold a b c d)
    wait_for 10 "the first task to run" some_running "$T/go"
    assert_exit 0 ventilator cancel "$batch" --task 1,3-4
    touch "$T/go"
    assert_exit 1 ventilator wait "$batch"
    assert_exit 0 ventilator results "$batch" --format json
    assert_each_once "$T/out" 5
    assert_eq "cancelled tasks" "$(jq -r 'select(.verdict == "cancelled") | .index' "$T/out" | sort -n | paste -sd' ')" "1 3 4"
}

test_interrupt_of_a_waiting_submit_cancels() {
    start_cluster 1
    start submit "$BIN/ventilator" submit --wait --grace 1s --format json -- sleep 617 ::: 1 2
    wait_for 10 "the first task to run" some_running "sleep 617 1"    # and not the client, whose words are nearly these
    kill -INT "${PIDS[submit]}"
    ended submit 130 10
    assert_eq "verdicts" "$(verdicts "$T/submit.out")" "cancelled=2"
    wait_for 5 "the running one to be ended" none_running "sleep 617"
}

test_status_counts() {
    start_cluster 1
    local batch
    batch=$(submit --name counted -- sh -c 'exit $0' {} ::: 0 0 3)
    wait_for 15 "the batch to be complete" complete "$batch"
    assert_eq "counts" "$(ventilator status "$batch" --json | jq -r '"\(.name) \(.total) \(.ok) \(.failed) \(.queued) \(.running)"')" "counted 3 2 1 0 0"
    assert_exit 0 ventilator list --json
    assert_contains "$T/out" counted
}
