# shellcheck shell=bash
# Tasks that are tried again.

# Fails with 7 until it has run N times; each run leaves a line.
# shellcheck disable=SC2016
fails_until='echo "$TARMAC_ATTEMPT" >>"$1"; [ "$(wc -l <"$1")" -ge "$0" ] || exit 7'
explains() { ventilator explain "$1" 0 2>/dev/null | grep -q -- "$2"; }

test_it_is_tried_until_it_succeeds() {
    start_cluster 2
    assert_exit 0 ventilator submit --wait --format json --retries 5 --backoff 10ms,2,50ms -- sh -c "$fails_until" {} "$T/runs" ::: 4
    assert_eq "runs" "$(tr '\n' ' ' <"$T/runs")" "1 2 3 4 "
    assert_eq "record" "$(jq -r '"\(.verdict) \(.attempts) \(.exit)"' "$T/out")" "ok 4 0"
    local batch
    batch=$(ventilator list --json | jq -r .batch)
    assert_eq "retried" "$(status_of "$batch" retried)" 3
    assert_exit 0 ventilator explain "$batch" 0
    assert_contains "$T/out" "task 0: ok by attempt 4 at w"
}

test_the_last_try_is_the_verdict() {
    start_cluster 1
    assert_exit 1 ventilator submit --wait --format json --retries 2 --backoff 10ms,1,10ms -- sh -c "$fails_until" {} "$T/runs" ::: 9
    assert_eq "runs" "$(wc -l <"$T/runs")" 3
    assert_eq "record" "$(jq -r '"\(.verdict) \(.attempts) \(.exit)"' "$T/out")" "failed 3 7"
}

test_what_is_tried_again_can_be_said() {
    start_cluster 1
    # Exit codes: 7 is tried again, 8 is not.
    assert_exit 1 ventilator submit --wait --format json --retries 2 --retry-on 7 --backoff 10ms,1,10ms -- \
        sh -c 'exit "$0"' {} ::: 7 8
    assert_eq "attempts" "$(jq -r '"\(.index):\(.attempts)"' "$T/out" | sort | tr '\n' ' ')" "0:3 1:1 "
    # A timeout is none unless it is said.
    assert_exit 1 ventilator submit --wait --format json --retries 1 --timeout 200ms --grace 100ms --backoff 10ms,1,10ms -- sleep {} ::: 660
    assert_eq "attempts without it" "$(jq -r .attempts "$T/out")" 1
    assert_exit 1 ventilator submit --wait --format json --retries 1 --timeout 200ms --grace 100ms --backoff 10ms,1,10ms \
        --retry-on deadline_exceeded -- sleep {} ::: 661
    assert_eq "record" "$(jq -r '"\(.attempts) \(.verdict) \(.reason)"' "$T/out")" "2 deadline_exceeded timeout"
}

test_the_pause_and_what_is_told_meanwhile() {
    start_cluster 1
    local batch
    batch=$(submit --retries 3 --backoff 60s,2,60s -- sh -c 'exit 3' {} ::: 1)
    wait_for 10 "the story" explains "$batch" "waits .* before try 2 of 4"
    assert_eq "queued" "$(status_of "$batch" queued)" 1
    assert_exit 0 ventilator cancel "$batch"
    assert_exit 130 ventilator wait "$batch"
    assert_exit 0 ventilator explain "$batch" 0
    assert_contains "$T/out" "task 0: cancelled"
}

test_tries_survive_a_restart() {
    start_cluster 1
    local batch
    batch=$(submit --retries 2 --backoff ${PATIENCE}s,1,${PATIENCE}s -- sh -c "$fails_until" {} "$T/runs" ::: 9)
    wait_for 10 "the first try" explains "$batch" "before try [23] of 3"
    stop ventilator KILL 137
    start_ventilator
    assert_exit 1 ventilator wait "$batch"
    assert_eq "runs" "$(wc -l <"$T/runs")" 3
    assert_exit 0 ventilator results "$batch" --format json
    assert_eq "record" "$(jq -r '"\(.verdict) \(.attempts)"' "$T/out")" "failed 3"
}

test_a_handler_that_nobody_has_is_told_at_once() {
    start_cluster 1 --handler known='true'
    local batch
    batch=$(ventilator submit --handler unknown ::: 1 2>"$T/err") || fail "submit exits $?"
    assert_contains "$T/err" "no present worker has the handler 'unknown'"
    assert_contains <(status_of "$batch" note) "no present worker has the handler 'unknown'"
    assert_exit 0 ventilator explain "$batch" 0
    assert_contains "$T/out" "no present worker has the handler 'unknown'"
    assert_refused 4 "unknown nothing was submitted" ventilator submit --require-worker --handler unknown ::: 1
    batch=$(submit --require zone=moon --handler known ::: 1)
    assert_contains <(status_of "$batch" note) "required label zone=moon"
    start_worker w2 --label zone=moon --handler known='true'
    assert_exit 0 ventilator wait "$batch"
}
