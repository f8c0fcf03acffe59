# shellcheck shell=bash disable=SC2016,SC2154
# Rolling restarts: every process in turn is told to leave and started again while work goes on. Nothing is lost,
# nothing fails, nothing runs twice: a process that leaves finishes what runs and gives back the rest. (A task's number
# of attempts says how often it was handed out; what was given back unstarted counts there, and is no run.)

# Items for as long as $T/enough isn't there; how many there were is in $T/fed then.
feed() {
    local n=0
    until [ -e "$T/enough" ]; do
        seq $((n + 1)) $((n + 4))
        n=$((n + 4))
        nap 0.01
    done
    echo $n >"$T/fed"
}

# A batch that goes on until end_load: its submitter too lives through all of it.
begin_load() {
    : >"$T/ran"
    mkfifo "$T/lines"
    feed >"$T/lines" &
    "$BIN/ventilator" submit --wait --name load --format json --no-bar -- sh -c "$effect" '{}' "$T/ran" \
        <"$T/lines" >"$T/results" 2>"$T/client.err" &
    PIDS[client]=$!
    wait_for 20 "the first effects" ran_least "$T/ran" 20
}

batch_named() { ventilator list --json | jq -r "select(.name == \"$1\") | .batch"; }

# Every task ran once.
end_load() {
    local n batch
    : >"$T/enough"
    ended client 0 60
    n=$(cat "$T/fed") batch=$(batch_named load)
    assert_each_once "$T/results" "$n"
    assert_all_ok "$batch" "$n" "$T/ran"
    assert_eq "runs more than tasks" "$extra" 0
    echo "# $restarts restarts under load, $n tasks, each ran once; $duplicates results came twice"
}

go_on() { wait_for 20 "work to go on" ran_least "$T/ran" $(($(runs_of "$T/ran") + 10)); }

start_again() {    # NAME
    case $1 in
        ventilator) start_ventilator --shutdown-timeout 20s ;;
        sink) start_sink ;;
        *) start_worker "$1" --slots 2 --shutdown-timeout 20s ;;
    esac
}

restart() {    # NAME
    stop "$1" TERM 0 30
    start_again "$1"
    restarts=$((restarts + 1))
}

begin() {    # WORKERS
    local i
    restarts=0
    start_ventilator --shutdown-timeout 20s
    start_sink
    for ((i = 1; i <= $1; i++)); do start_again "w$i"; done
    begin_load
}

roll() {    # NAME...: in this order, work going on between any two
    local name
    for name in "$@"; do
        restart "$name"
        go_on
    done
}

test_rolling_restart_with_2_workers() {
    begin 2
    roll w1 w2 sink ventilator
    roll ventilator w2 w1
    roll sink w1 ventilator w2
    end_load
}

test_rolling_restart_with_3_workers() {
    begin 3
    roll ventilator w1 sink w2 w3
    roll w3 w2 ventilator w1
    roll sink w1 w2 ventilator w3
    end_load
}

test_rolling_restart_that_waits_for_nothing() {
    local i names
    seed
    begin 3
    names=(ventilator sink w1 w2 w3)
    for ((i = 0; i < 12; i++)); do
        pick 0 4
        restart "${names[picked]}"
    done
    end_load
}

# All of it, again and again: workers first, who need the others to be rid of their results.
test_everything_leaves_and_comes_back() {
    local name round
    begin 3
    for ((round = 0; round < 3; round++)); do
        for name in w1 w2 w3; do kill -TERM "${PIDS[$name]}"; done
        for name in w1 w2 w3; do ended "$name" 0 30; done
        for name in sink ventilator; do kill -TERM "${PIDS[$name]}"; done
        for name in sink ventilator; do ended "$name" 0 30; done
        for name in w3 ventilator w1 sink w2; do
            case $name in
                w?) : >"$T/$name.out"
                    start "$name" "$BIN/worker" --ventilator "$WORKERS" --name "$name" --slots 2 --shutdown-timeout 20s --allow-commands ;;
                *) start_again "$name" ;;
            esac
            restarts=$((restarts + 1))
        done
        for name in w1 w2 w3; do wait_for 20 "$name to be ready" is_ready "$name"; done
        go_on
    done
    end_load
}

# In one moment, as when a machine goes down: a worker that nobody takes the results from any more says so with its
# exit code, and what it could not bring runs again.
test_everything_leaves_in_one_moment() {
    local name n batch unreleased=0 code
    start_ventilator
    start_sink
    for name in w1 w2; do start_worker "$name" --slots 2 --shutdown-timeout ${PATIENCE}s; done
    begin_load
    for name in ventilator sink w1 w2; do kill -TERM "${PIDS[$name]}"; done
    for name in ventilator sink; do ended "$name" 0 30; done
    for name in w1 w2; do
        wait_for 20 "the end of $name" not_alive "${PIDS[$name]}"
        code=0
        wait "${PIDS[$name]}" || code=$?
        unset "PIDS[$name]"
        n=$(sed -n 's/.*stopped unreleased=//p' "$T/$name.err" | tail -n 1)
        assert_eq "exit code of $name with $n unreleased results" "$code" $((n > 0))
        unreleased=$((unreleased + n))
    done
    start_ventilator
    start_sink
    for name in w1 w2; do start_worker "$name" --slots 2; done
    : >"$T/enough"
    ended client 0 60
    n=$(cat "$T/fed") batch=$(batch_named load)
    assert_all_ok "$batch" "$n" "$T/ran"
    assert_between "runs more than tasks" "$extra" 0 $unreleased
    echo "# $n tasks, $unreleased results could not be brought, $extra tasks ran again"
}

has_state() { [ "$(ventilator workers --json | jq -r "select(.name == \"$1\") | .state")" = "$2" ]; }
has_finished() { [ "$(ventilator workers --json | jq -r "select(.name == \"$1\") | .finished")" -ge "$2" ] 2>/dev/null; }
is_listed() { ventilator workers --json | jq -e "select(.name == \"$1\")" >/dev/null; }
is_not_listed() { ! is_listed "$1"; }

test_drain_of_a_worker_while_others_go_on() {
    local name
    begin 3
    for name in w1 w2 w3 w3 w1; do
        assert_exit 0 ventilator drain "$name"
        ended "$name" 0 30
        wait_for 10 "$name to be forgotten" is_not_listed "$name"
        go_on
        start_again "$name"
        wait_for 20 "$name to take work again" has_finished "$name" 3
        restarts=$((restarts + 1))
    done
    end_load
}

test_drain_waits_for_what_runs() {
    local batch
    start_cluster 1 --slots 2 --shutdown-timeout 20s
    batch=$(submit -- sh -c 'echo "$0" >>"$1.began"; until [ -e "$1.go" ]; do sleep 0.02; done; echo "$0" >>"$1"' '{}' "$T/ran" ::: 1 2 3 4 5 6)
    wait_for 10 "two tasks to run" ran_least "$T/ran.began" 2
    assert_exit 0 ventilator drain w1
    wait_for 10 "the worker to drain" has_state w1 draining
    assert_eq "tasks that have begun" "$(runs_of "$T/ran.began")" 2
    : >"$T/ran.go"
    ended w1 0 20
    assert_eq "tasks that have run" "$(runs_of "$T/ran")" 2
    assert_eq "counts" "$(ventilator status "$batch" --json | jq -r '"\(.ok) \(.queued) \(.running)"')" "2 4 0"
    start_worker w1 --slots 2
    assert_exit 0 ventilator wait "$batch"
    assert_all_ok "$batch" 6 "$T/ran"
    assert_eq "runs more than tasks" "$extra" 0
    assert_refused 4 "w9" ventilator drain w9
}

# A worker that is told to leave while the ventilator is away keeps its results until that is back.
test_worker_leaves_while_the_ventilator_is_away() {
    local batch
    start_ventilator
    start_sink
    start_worker w1 --slots 2 --shutdown-timeout 20s
    batch=$(submit -- sh -c 'echo "$0" >>"$1.began"; until [ -e "$1.go" ]; do sleep 0.02; done; echo "$0" >>"$1"' '{}' "$T/ran" ::: 1 2)
    wait_for 10 "both tasks to run" ran_least "$T/ran.began" 2
    stop ventilator TERM 0
    kill -TERM "${PIDS[w1]}"
    : >"$T/ran.go"
    wait_for 10 "both tasks to end" ran_least "$T/ran" 2
    start_ventilator
    ended w1 0 30
    assert_exit 0 ventilator wait "$batch"
    assert_all_ok "$batch" 2 "$T/ran"
    assert_eq "runs more than tasks" "$extra" 0
}
