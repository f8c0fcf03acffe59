# shellcheck shell=bash disable=SC2016
# Processes that stand still, and connections on which nothing passes any more: each is noticed in seconds, each
# task is recorded once, nobody waits for ever, and busy is not taken for dead.

# Short times, so that a loss takes seconds; under sanitizers a healthy process may be silent for longer.
silence=$((2 * SLOW))
bounds=(--heartbeat 200ms --loss-grace 1s --silence "${silence}s")

# A ventilator, a sink, and two workers of which w1 reaches both through relays: `vent` and `results`.
start_cut_cluster() {
    local first
    start_relay vent 9
    first=$port
    WORKERS=tcp://127.0.0.1:$first
    start_ventilator "${bounds[@]}" --lanes $((first + 1))-$((first + 8))
    start_relay results 1
    RESULTS=tcp://127.0.0.1:$port
    start_sink
    start_ready w1 "$BIN/worker" --ventilator "tcp://127.0.0.2:$first" --sink "tcp://127.0.0.2:$port" --name w1 --slots 2 \
        --shutdown-timeout 2s --allow-commands --label who=w1
    start_worker w2 --slots 2 --label who=w2
}

start_two_workers() {
    start_ventilator "${bounds[@]}"
    start_sink
    start_worker w1 --slots 2 --label who=w1
    start_worker w2 --slots 2 --label who=w2
}

# ---- what is known of a worker ----

worker_state() { ventilator workers --json 2>>"$T/workers.err" | jq -r "select(.name == \"$1\") | .state"; }
worker_is() { [ "$(worker_state "$1")" = "$2" ]; }
worker_is_not() { [ "$(worker_state "$1")" != "$2" ]; }
says() { grep -qE -- "$2" "$T/$1.err"; }                # NAME WORDS: in its log
times_said() { grep -cE -- "$2" "$T/$1.err"; }
says_more() { [ "$(times_said "$1" "$2")" -gt "$3" ]; }  # NAME WORDS BEFORE
note_has() { status_of "$1" note | grep -qF -- "$2"; }  # BATCH WORDS

# A batch of N tasks that leave a line each and take a moment ($pace), of which some have ended when this returns. The last ones,
# as many as there are slots, wait for `let_end`: so the batch is not over, and each worker has something to tell.
batch='' pace=0.05
begin_batch() {    # N [options]
    local n=$1
    shift
    rm -f "$T/ran" "$T/end"
    batch=$(submit --range "1-$n" "$@" -- sh -c 'echo "$0" >>"$1"; [ "$0" -le "$3" ] || until [ -e "$4" ]; do sleep 0.02; done; exec sleep "$2"' \
        '{}' "$T/ran" "$pace" $((n - 4)) "$T/end")
    wait_for 10 "the first results" status_reaches "$batch" ok 6
}
let_end() { : >"$T/end"; }
complete() { [ "$(status_of "$batch" state)" = complete ]; }

# What only it can run is run by it.
assert_works_again() {    # WORKER
    wait_for 20 "$1 to be ready again" worker_is "$1" ready
    assert_exit 0 timeout $((20 * PATIENCE)) "$BIN/ventilator" submit --wait --format json --require "who=$1" -- true {} ::: again
    assert_eq "worker" "$(jq -r .worker "$T/out")" "$1"
}

# ---- processes that stand still ----

test_stopped_worker_is_given_up_and_comes_back() {
    start_two_workers
    begin_batch 60
    local since
    since=$(now_ms)
    kill -STOP "${PIDS[w1]}"
    wait_for $((4 + silence)) "w1 to be given up" says ventilator 'worker_lost worker=w1'
    echo "# a stopped worker: given up after $(($(now_ms) - since)) ms, with --silence ${silence}s"
    let_end
    # All of it is done while w1 stands still.
    wait_for 20 "the batch to be complete" complete
    process_state "${PIDS[w1]}" | grep -q T || fail "w1 is not stopped any more"
    assert_all_ok "$batch" 60 "$T/ran"
    kill -CONT "${PIDS[w1]}"
    assert_works_again w1
    # Its late results are duplicates, or were given up by name; they change nothing.
    assert_all_ok "$batch" 60 "$T/ran"
    assert_between "runs beyond the tasks" "$extra" 0 2
}

test_late_result_of_a_stopped_worker_is_a_duplicate() {
    start_two_workers
    # The keeper and the task go on while the worker stands still: its result waits for it.
    batch=$(submit --require who=w1 -- sh -c 'echo $PPID >>"$0.runs"; while [ ! -e "$0" ]; do sleep 0.05; done' "$T/go" ::: x)
    wait_for 10 "the task to run" ran_least "$T/go.runs" 1
    kill -STOP "${PIDS[w1]}"
    wait_for $((4 + silence)) "w1 to be given up" says ventilator 'worker_lost worker=w1'
    assert_eq "tasks that wait for a worker" "$(status_of "$batch" queued)" 1
    start_worker w3 --label who=w1
    wait_for 10 "the second run" ran_least "$T/go.runs" 2
    touch "$T/go"
    assert_exit 0 ventilator wait "$batch"
    kill -CONT "${PIDS[w1]}"
    wait_for 20 "w1 to be ready again" worker_is w1 ready
    assert_exit 0 ventilator results "$batch" --format json
    assert_eq "records" "$(jq -c '[.index, .verdict, .worker, .attempts]' "$T/out")" '[0,"ok","w3",2]'
    assert_eq "runs" "$(runs_of "$T/go.runs")" 2
    assert_between "duplicates" "$(status_of "$batch" duplicates)" 0 1
}

test_stopped_ventilator_judges_nobody() {
    start_two_workers
    pace=0.1
    begin_batch 100
    kill -STOP "${PIDS[ventilator]}"
    nap $((silence + 2))    # longer than the silence time and the loss grace: that is what is tested
    kill -CONT "${PIDS[ventilator]}"
    let_end
    assert_exit 0 ventilator wait "$batch"
    assert_all_ok "$batch" 100 "$T/ran"
    assert_eq "runs beyond the tasks" "$extra" 0
    ! says ventilator 'worker_lost|sink_gone' || fail "a ventilator that stood still itself has given somebody up"
}

test_sink_that_stands_still() {
    start_two_workers
    begin_batch 60
    local since
    since=$(now_ms)
    kill -STOP "${PIDS[sink]}"
    wait_for $((4 + silence)) "the sink to be missed" note_has "$batch" "no sink"
    echo "# a stopped sink: missed after $(($(now_ms) - since)) ms, with --silence ${silence}s"
    let_end
    # Nobody is blamed for it, however long it takes.
    nap $((silence + 1))
    assert_eq "states" "$(worker_state w1) $(worker_state w2)" "ready ready"
    complete && fail "the batch is complete without its sink"
    kill -CONT "${PIDS[sink]}"
    assert_exit 0 ventilator wait "$batch"
    assert_all_ok "$batch" 60 "$T/ran"
    assert_eq "runs beyond the tasks" "$extra" 0
    ! says ventilator 'worker_lost|worker_cut_off' || fail "a worker was given up although the sink stood still"
}

test_sink_that_is_gone_for_long() {
    start_two_workers
    pace=0.5
    begin_batch 100 --deadline 10m --grace 1s
    assert_exit 0 ventilator extend "$batch" --deadline 6s
    kill -KILL "${PIDS[sink]}"
    ended sink 137
    # Past the deadline, its grace and each resend: then the batch ends at once when the sink is back.
    nap 16
    complete && fail "the batch is complete without its sink"
    start_sink
    local since
    since=$(now_ms)
    assert_exit 124 timeout $((20 * PATIENCE)) "$BIN/ventilator" wait "$batch"
    echo "# a batch whose deadline passed while its sink was away for 16 s: complete $(($(now_ms) - since)) ms after its return"
    assert_exit 0 ventilator results "$batch" --format json
    assert_each_once "$T/out" 100
    # What ended in time was kept by its worker, and races with the verdict of the deadline: the first one recorded stands.
    assert_between "tasks that ended ok" "$(jq -r 'select(.verdict == "ok") | .index' "$T/out" | wc -l)" 6 "$(runs_of "$T/ran")"
    ! says ventilator 'worker_lost|worker_cut_off' || fail "a worker was given up although the sink was away"
}

# ---- cuts between a worker and the ventilator ----

# One cluster is cut and healed again and again: what one cut leaves behind meets the next.
test_worker_cut_off_from_the_ventilator() {
    start_cut_cluster
    local what since lost
    for what in "stop both" "stop up" "stop down" "close"; do
        lost=$(times_said ventilator 'worker_lost worker=w1')
        begin_batch 60
        since=$(now_ms)
        network vent "$what"
        let_end
        if [ "$what" != close ]; then
            # What it was given and can't have heard of, or can't report, is done elsewhere.
            wait_for 20 "the batch to be complete after '$what'" complete
            wait_for 20 "w1 to be missed after '$what'" worker_is_not w1 ready
            [ "$what" = "stop down" ] || wait_for 20 "w1 to be given up after '$what'" says_more ventilator 'worker_lost worker=w1' "$lost"
            echo "# a worker cut off from the ventilator ('$what'): noticed, and its work done elsewhere, within $(($(now_ms) - since)) ms"
            network vent pass
        fi
        assert_works_again w1
        wait_for 20 "the batch to be complete" complete
        assert_all_ok "$batch" 60 "$T/ran"
        assert_between "runs beyond the tasks after '$what'" "$extra" 0 4
    done
}

# Its running task goes on, and what waits in its queue is not kept for as long as the cut lasts.
test_worker_that_hears_nothing_keeps_no_tasks() {
    start_cut_cluster
    touch "$T/ran"
    batch=$(submit -- sh -c 'echo "$0" >>"$1"; while [ ! -e "$1.$0" ]; do sleep 0.05; done' '{}' "$T/ran" ::: 1 2 3 4 5 6 7 8)
    wait_for 10 "both workers to be busy" ran_least "$T/ran" 4
    network vent stop down
    wait_for $((8 + 2 * silence)) "w1 to be missed" worker_is_not w1 ready
    touch "$T"/ran.{1,2,3,4,5,6,7,8}
    wait_for 30 "the batch to be complete" complete
    assert_all_ok "$batch" 8 "$T/ran"
    network vent pass
    assert_works_again w1
}

# ---- cuts between a worker and the sink ----

test_worker_cut_off_from_the_sink() {
    start_cut_cluster
    local since seen what
    for what in "stop both" "stop up" "stop down" "close"; do
        begin_batch 60
        since=$(now_ms)
        network results "$what"
        let_end
        if [ "$what" = "stop both" ] || [ "$what" = "stop up" ]; then
            wait_for 20 "w1 to be cut off after '$what'" worker_is w1 cut_off
            seen=$(($(now_ms) - since))
            wait_for 20 "the batch to be complete after '$what'" complete
            echo "# a worker cut off from the sink ('$what'): noticed after $seen ms, its work done elsewhere after $(($(now_ms) - since)) ms"
            says ventilator 'worker_cut_off worker=w1' || fail "the log doesn't tell that w1 is cut off"
            # Nothing more goes to it; what only it could run waits, and that is said.
            if [ "$what" = "stop up" ]; then
                seen=$(submit --require who=w1 -- true '{}' ::: 1)
                wait_for 5 "the note of a batch that only w1 can run" note_has "$seen" "reaches the sink"
            fi
        fi
        wait_for 20 "the batch to be complete after '$what'" complete
        network results pass
        assert_works_again w1
        assert_all_ok "$batch" 60 "$T/ran"
    done
    ! says ventilator 'worker_lost' || fail "a worker was given up that only the sink didn't hear"
}

# ---- deadlines and cancels while everything is stuck ----

test_deadline_while_all_are_stuck() {
    start_cut_cluster
    pace=0.2
    begin_batch 1000 --deadline 10m --grace 1s
    assert_exit 0 ventilator extend "$batch" --deadline 4s
    # One stands still, the other is cut off from both: nobody but the ventilator can end it.
    kill -STOP "${PIDS[w2]}"
    network results stop both
    network vent stop both
    assert_exit 124 timeout $((30 * PATIENCE)) "$BIN/ventilator" wait "$batch"
    assert_between "time from the stop to the end, in ms" "$took" 0 $((5000 + 5000 * PATIENCE))
    echo "# deadline 4s, grace 1s, no worker in reach: complete $took ms after the stop"
    assert_exit 0 ventilator results "$batch" --format json
    assert_each_once "$T/out" 1000
    assert_eq "verdicts" "$(verdicts "$T/out" | sed 's/ ok=[0-9]*//; s/=[0-9]*//')" deadline_exceeded
    kill -CONT "${PIDS[w2]}"
    network vent pass
    network results pass
    assert_works_again w1
    assert_works_again w2
    assert_exit 0 ventilator results "$batch" --format json
    assert_each_once "$T/out" 1000
}

test_cancel_while_its_worker_is_stuck() {
    start_two_workers
    batch=$(submit --grace 1s --require who=w1 -- sleep '{}' ::: 660 660 660 660)
    wait_for 10 "the first task to run" some_running "sleep 660"
    kill -STOP "${PIDS[w1]}"
    assert_exit 0 timeout $((20 * PATIENCE)) "$BIN/ventilator" cancel "$batch"
    assert_contains "$T/out" "unreachable"
    assert_exit 130 timeout $((20 * PATIENCE)) "$BIN/ventilator" wait "$batch"
    kill -CONT "${PIDS[w1]}"
    wait_for 20 "what runs at w1 to be ended" none_running "sleep 660"
    assert_works_again w1
    assert_exit 0 ventilator results "$batch" --format json
    assert_eq "verdicts" "$(verdicts "$T/out")" "cancelled=4"
}

# ---- busy is not dead ----

test_busy_is_not_dead() {
    local i
    # The machine burns at the handlers' expense and ours: twice as many loops as cores, at nice 0.
    start_ventilator --heartbeat 500ms --loss-grace 2s --silence $((4 * SLOW))s
    start_sink
    start_worker w1 --slots 2
    for ((i = 0; i < 2 * $(nproc); i++)); do start "burn$i" sh -c 'while :; do :; done'; done
    for i in 1 2 3; do head -c 64M /dev/zero >"$T/payload$i"; done
    batch=$(submit --pipe --files "$T"/payload[1-3] -- wc -c)
    rm -f "$T"/payload*
    assert_exit 0 timeout $((100 * PATIENCE)) "$BIN/ventilator" wait "$batch"
    assert_exit 0 ventilator results "$batch" --format json
    assert_each_once "$T/out" 3
    assert_eq "what the tasks have read, and attempts" "$(jq -c '[.stdout, .attempts]' "$T/out" | sort | uniq -c | xargs)" "3 [67108864\\n,1]"
    ! says ventilator 'worker_lost|worker_away|worker_cut_off|sink_gone' || fail "somebody busy was taken for dead"
    for ((i = 0; i < 2 * $(nproc); i++)); do
        kill -KILL "${PIDS[burn$i]}"
        ended "burn$i" 137
    done
}
