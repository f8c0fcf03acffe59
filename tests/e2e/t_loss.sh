# shellcheck shell=bash disable=SC2016
# Losses: a worker that is killed, daemons that come and go.

test_kill_9_of_one_of_four_workers() {
    local n=96 batch i
    tools/make-images.sh "$T/images" $n >"$T/images.err" 2>&1 || fail "no images: $(cat "$T/images.err")"
    start_cluster 4
    # From the middle on they wait until the worker is gone: all four are busy when it is killed.
    batch=$(submit --pipe --files "$T"/images/* -- sh -c 'until [ "$TARMAC_INDEX" -lt "$0" ] || [ -e "$1" ]; do sleep 0.05; done
        exec convert - -auto-orient -thumbnail 160x160 png:-' $((n / 2)) "$T/go")
    wait_for 60 "a quarter of the images" status_reaches "$batch" ok $((n / 4))
    kill -KILL "${PIDS[w2]}"
    ended w2 137
    assert_between "recorded at the time of the kill" "$(status_of "$batch" ok)" $((n / 4)) $((n / 2))
    touch "$T/go"
    assert_exit 1 ventilator wait "$batch"
    assert_exit 0 ventilator results "$batch" --format json
    assert_each_once "$T/out" $n
    assert_eq "verdicts" "$(verdicts "$T/out")" "failed=6 ok=$((n - 6))"
    for ((i = 1; i <= 6; i++)); do
        jq -r 'select(.verdict == "failed") | .stderr' "$T/out" | grep -q '^convert' ||
            fail "a broken image's record should hold the words of convert"
    done
}

test_tasks_of_a_killed_worker_run_elsewhere() {
    start_cluster 1
    local batch since
    batch=$(submit -- sh -c 'echo began >>"$0"; exec sleep 620' "$T/began" ::: x)
    wait_for 10 "the task to run" some_running "sleep 620"
    start_worker w2
    kill -KILL "${PIDS[w1]}"
    since=$(now_ms)
    ended w1 137
    wait_for 10 "the second start" eval '[ "$(grep -c began "$T/began")" -eq 2 ]'
    assert_between "time to the second start in ms" $(($(now_ms) - since)) 0 $((4000 * PATIENCE))
    assert_exit 0 ventilator cancel "$batch"
    assert_exit 130 ventilator wait "$batch"
}

test_start_order_does_not_matter() {
    start_ventilator
    stop ventilator TERM 0
    local port=${WORKERS##*:}
    # Both are told an address at which nobody listens yet; they are ready when they serve.
    RESULTS=tcp://127.0.0.1:0 QUERY=tcp://127.0.0.1:0
    : >"$T/sink.out"
    start w1 "$BIN/worker" --ventilator "tcp://127.0.0.1:$port" --name w1 --slots 1 --allow-commands
    start sink "$BIN/sink" --ventilator "tcp://127.0.0.1:$port" --data "$T/data-sink" --results-listen "$RESULTS" --query-listen "$QUERY"
    nap 0.5
    alive "${PIDS[w1]}" || fail "the worker left because there is no ventilator yet"
    alive "${PIDS[sink]}" || fail "the sink left because there is no ventilator yet"
    start_ventilator
    assert_exit 0 ventilator submit --wait -- echo {} ::: 1 2 3
    assert_eq "output" "$(sort "$T/out" | paste -sd' ')" "1 2 3"
}

test_sink_restarts() {
    start_cluster 1
    local batch
    batch=$(submit -- sh -c 'sleep 0.05; echo $0' {} ::: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20)
    wait_for 10 "the first results" status_reaches "$batch" ok 3
    kill -KILL "${PIDS[sink]}"
    ended sink 137
    start_sink
    assert_exit 0 ventilator wait "$batch"
    assert_exit 0 ventilator results "$batch" --format json
    assert_each_once "$T/out" 20
}

test_ventilator_restarts() {
    start_cluster 2
    local batch
    batch=$(submit -- sh -c 'sleep 0.05; echo $0' {} ::: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20)
    wait_for 10 "the first results" status_reaches "$batch" ok 3
    kill -KILL "${PIDS[ventilator]}"
    ended ventilator 137
    start_ventilator
    assert_exit 0 ventilator wait "$batch"
    assert_exit 0 ventilator results "$batch" --format json
    assert_each_once "$T/out" 20
}
