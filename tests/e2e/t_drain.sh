# shellcheck shell=bash disable=SC2016
# SIGTERM: each program finishes or gives back what it holds, and leaves with 0.

# Tasks that wait until a file exists: nothing here depends on how long a machine takes.
hold='echo $0; while [ ! -e "$1" ]; do sleep 0.05; done'

test_worker_finishes_what_runs_and_gives_back_the_rest() {
    start_ventilator
    start_sink
    start_worker w1 --shutdown-timeout 20s
    local batch
    batch=$(submit -- sh -c "$hold" {} "$T/go" ::: 1 2 3)
    wait_for 10 "the first task to run" some_running "$T/go"
    kill -TERM "${PIDS[w1]}"
    start_worker w2
    touch "$T/go"
    ended w1 0 20
    assert_exit 0 ventilator wait "$batch"
    assert_exit 0 ventilator results "$batch" --format json
    assert_each_once "$T/out" 3
    assert_eq "verdicts" "$(verdicts "$T/out")" "ok=3"
    assert_eq "worker of the first" "$(jq -r 'select(.index == 0) | "\(.worker) \(.attempts)"' "$T/out")" "w1 1"
}

test_worker_gives_back_what_outlasts_its_shutdown_timeout() {
    start_ventilator
    start_sink
    start_worker w1 --shutdown-timeout 500ms
    local batch
    batch=$(submit --grace 500ms -- sh -c 'if [ ! -e "$0" ]; then : >"$0"; exec sleep 630; fi' "$T/began" ::: 1)
    wait_for 10 "the task to run" test -e "$T/began"
    stop w1 TERM 0 10
    none_running "sleep 630" || fail "the task is left alive after its worker"
    start_worker w2
    assert_exit 0 ventilator wait "$batch"
    assert_exit 0 ventilator results "$batch" --format json
    assert_eq "record" "$(jq -r '"\(.verdict) \(.worker)"' "$T/out")" "ok w2"
}

test_second_signal_leaves_at_once() {
    start_ventilator
    start_sink
    start_worker w1 --shutdown-timeout 60s
    submit -- sleep 631 ::: 1 >"$T/id"
    wait_for 10 "the task to run" some_running "sleep 631"
    kill -TERM "${PIDS[w1]}"
    wait_for 5 "the worker to hear the first" grep -q 'signal name=SIGTERM' "$T/w1.err"
    nap 0.3
    alive "${PIDS[w1]}" || fail "a worker with a running task should wait for it"
    kill -TERM "${PIDS[w1]}"
    wait_for 5 "the worker to leave" not_alive "${PIDS[w1]}"
    unset "PIDS[w1]"
    wait_for 5 "its task to be gone" none_running "sleep 631"
    ventilator cancel "$(cat "$T/id")" >"$T/cancelled" 2>&1 || fail "cancel exits $?: $(cat "$T/cancelled")"
}

test_idle_programs_leave_at_once() {
    start_cluster 1
    local since
    since=$(now_ms)
    stop w1 TERM 0 5
    stop sink TERM 0 5
    stop ventilator TERM 0 5
    assert_between "time in ms" $(($(now_ms) - since)) 0 $((3000 * PATIENCE))
}

test_interrupt_is_a_drain_too() {
    start_cluster 1
    stop w1 INT 0 5
    stop sink INT 0 5
    stop ventilator INT 0 5
}

test_ventilator_keeps_its_queue() {
    start_ventilator
    start_sink
    local batch
    batch=$(submit -- echo {} ::: 1 2 3)
    stop ventilator TERM 0
    start_ventilator
    start_worker w1
    assert_exit 0 ventilator wait "$batch"
    assert_exit 0 ventilator results "$batch"
    assert_eq "output" "$(sort "$T/out" | paste -sd' ')" "1 2 3"
}

test_rolling_restart_under_load() {
    start_cluster 2
    local batch
    batch=$(submit --range 1-150 -- sh -c 'sleep 0.02; echo $0' {})
    wait_for 20 "the first results" status_reaches "$batch" ok 10
    stop w1 TERM 0; start_worker w1
    stop sink TERM 0; start_sink
    stop ventilator TERM 0; start_ventilator
    stop w2 TERM 0; start_worker w2
    assert_exit 0 ventilator wait "$batch"
    assert_exit 0 ventilator results "$batch" --format json
    assert_each_once "$T/out" 150
    assert_eq "verdicts" "$(verdicts "$T/out")" "ok=150"
}
