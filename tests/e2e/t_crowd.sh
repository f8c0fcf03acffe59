# shellcheck shell=bash disable=SC2154
# Many workers at one ventilator: hundreds of them in one process, whose slots are simulated (tests/bench/bench_crowd.c), with the
# protocol in full. The ventilator is killed in the middle of a batch.

crowd_of=$((SLOW > 1 ? 40 : 200))
tasks_of_it=$((100 * crowd_of))

start_crowd() {    # [options]
    start_ready crowd "$B/tests/bench/bench_crowd" "$WORKERS" "$crowd_of" 4 "$@"
    assert_eq "workers that got ready" "$(ready_field crowd workers)" "$crowd_of"
}
ready_workers() { ventilator workers --json 2>>"$T/status.err" | grep -c '"state":"ready"'; }
all_are_ready() { [ "$(ready_workers)" -eq "$crowd_of" ]; }
none_is_left() { [ -z "$(ventilator workers --json 2>>"$T/status.err")" ]; }
left_field() { sed -n 's/^left //p' "$T/crowd.out" | tr ' ' '\n' | sed -n "s/^$1=//p"; }

assert_recorded() {    # BATCH N
    assert_exit 0 ventilator wait "$1"
    assert_exit 0 ventilator results "$1" --format json
    assert_each_once "$T/out" "$2"
    assert_eq "verdicts" "$(verdicts "$T/out")" "ok=$2"
}

# All of them leave, each with all of its results recorded.
drain_crowd() {
    stop crowd TERM 0 30
    assert_eq "workers that left" "$(left_field workers)" "$crowd_of"
    assert_eq "unreleased results" "$(left_field unreleased)" 0
    wait_for 10 "the ventilator to have no workers" none_is_left
}

test_a_crowd_outlives_its_ventilator() {
    local batch done_before
    start_ventilator
    start_sink
    start_crowd 50000
    wait_for 10 "the ventilator to know that all are ready" all_are_ready
    batch=$(seq "$tasks_of_it" | ventilator submit --handler bench) || fail "submit exits $?"
    batch=${batch%% *}
    wait_for 20 "a quarter of the tasks" status_reaches "$batch" ok $((tasks_of_it / 4))
    done_before=$(status_of "$batch" ok)
    kill -KILL "${PIDS[ventilator]}"
    ended ventilator 137
    start_ventilator
    assert_recorded "$batch" "$tasks_of_it"
    wait_for 10 "all workers to be back" all_are_ready
    drain_crowd
    echo "# $crowd_of workers, killed when $done_before of $tasks_of_it tasks had ended; $(left_field ended) attempts"
}

# With nothing to wait for: frames and bundles as large as they get.
test_a_crowd_of_tiny_tasks() {
    local batch n=$((10 * tasks_of_it)) times
    start_ventilator
    start_sink
    start_crowd
    for times in 1 2; do
        batch=$(seq "$n" | ventilator submit --handler bench) || fail "submit exits $?"
        assert_recorded "${batch%% *}" "$n"
    done
    assert_eq "what ran" "$(jq -r .stdout "$T/out" | sort -n | cmp - <(seq "$n") 2>&1)" ""
    drain_crowd
    [ "$(left_field ended)" -ge $((times * n)) ] || fail "$(left_field ended) attempts for $times times $n tasks"
}
