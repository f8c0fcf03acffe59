# shellcheck shell=bash
# Handlers that submit: what their batches inherit, and what becomes of them when the attempt ends.

complete() { [ "$(status_of "$1" state)" = complete ]; }
has_file() { [ -s "$1" ]; }
runs() { some_running "sleep $1"; }

# A handler that submits a batch which sleeps, and stays: its id goes into the file.
# shellcheck disable=SC2016
submits='"$1" submit -- sleep ::: "$0" >"$2.new" && mv "$2.new" "$2" && exec sleep 690'

# Submits a parent with these options whose attempt submits `sleep SECONDS`; the child's id is in $child.
nest() {    # SECONDS [options]
    local seconds=$1
    shift
    rm -f "$T/child"
    parent=$(submit "$@" -- sh -c "$submits" {} "$BIN/ventilator" "$T/child" ::: "$seconds")
    wait_for 10 "the handler to submit" has_file "$T/child"
    child=$(cat "$T/child")
    wait_for 10 "the nested batch to run" runs "$seconds"
}

test_what_is_inherited() {
    start_cluster 1 --slots 2
    # shellcheck disable=SC2016
    assert_exit 0 ventilator submit --wait --format json --deadline 60s --value User=ada --value tier=gold -- \
        sh -c '"$1" submit --wait --no-bar --format json --value tier=lead -- sh -c "env | grep ^TARMAC_" ::: 1 2>/dev/null' {} "$BIN/ventilator" ::: 1
    jq -r .stdout "$T/out" >"$T/inner"
    assert_eq "values" "$(jq -c '.values | to_entries | sort' "$T/inner")" '[{"key":"User","value":"ada"},{"key":"tier","value":"lead"}]'
    assert_eq "trace" "$(jq -r .trace_id "$T/inner")" "$(jq -r .trace_id "$T/out")"
    jq -r .stdout "$T/inner" >"$T/env"
    assert_contains "$T/env" "TARMAC_VALUE_USER=ada"
    local budget
    budget=$(sed -n 's/^TARMAC_BUDGET_MS=//p' "$T/env")
    assert_between "budget in ms" "${budget:-0}" 1000 60000
}

test_a_cancelled_parent_cancels_its_batches() {
    start_cluster 1 --slots 4
    nest 691 --grace 1s
    assert_exit 0 ventilator explain "$child"
    assert_contains "$T/out" "submitted by attempt 1 of task 0 of batch $parent"
    assert_exit 0 ventilator cancel "$parent"
    assert_exit 130 ventilator wait "$child"
    wait_for 10 "the nested task's end" none_running "sleep 691"
    assert_exit 0 ventilator results "$child" --format json
    assert_eq "reason" "$(jq -r '.verdict + " " + .reason' "$T/out")" "cancelled parent"
    assert_exit 130 ventilator wait "$parent"
}

test_a_timeout_and_a_lost_worker_do_too() {
    start_ventilator
    start_sink
    start_worker w1 --label place=here
    start_worker w2 --slots 4
    nest 692 --require place=here --timeout $((1500 * PATIENCE))ms --grace 500ms
    assert_exit 1 ventilator wait "$parent"
    local code=0
    ventilator wait "$child" 2>"$T/err" || code=$?
    case $code in 124 | 130) ;; *) fail "the nested batch of an attempt that ran out of time exits $code" ;; esac
    nest 693 --require place=here
    stop w1 KILL 137
    assert_exit 130 ventilator wait "$child"
    wait_for 10 "the nested task's end" none_running "sleep 693"
    assert_exit 0 ventilator cancel "$parent"
}

test_those_of_one_that_ends_and_detached_ones_go_on() {
    start_cluster 1 --slots 3
    # shellcheck disable=SC2016
    submits='"$1" submit -- sh -c "while [ ! -e $3 ]; do sleep 0.05; done; echo ran" ::: 1 >"$2.new" && mv "$2.new" "$2"'
    local batch child
    batch=$(submit -- sh -c "$submits" {} "$BIN/ventilator" "$T/child" "$T/go" ::: 1)
    assert_exit 0 ventilator wait "$batch"
    child=$(cat "$T/child")
    assert_eq "state" "$(status_of "$child" state)" sealed
    # shellcheck disable=SC2016
    submits='"$1" submit --detach -- sh -c "while [ ! -e $3 ]; do sleep 0.05; done; echo ran" ::: 1 >"$2.new" && mv "$2.new" "$2"; exec sleep 694'
    local detached
    batch=$(submit --grace 1s --deadline 60s -- sh -c "$submits" {} "$BIN/ventilator" "$T/detached" "$T/go" ::: 1)
    wait_for 10 "the handler to submit" has_file "$T/detached"
    detached=$(cat "$T/detached")
    assert_eq "deadline of the detached one" "$(status_of "$detached" deadline_left_ms)" null
    assert_exit 0 ventilator cancel "$batch"
    assert_exit 130 ventilator wait "$batch"
    touch "$T/go"
    assert_exit 0 ventilator wait "$child"
    assert_exit 0 ventilator wait "$detached"
}

test_a_restart_knows_them_still() {
    start_cluster 1 --slots 4
    nest 695 --grace 1s
    stop ventilator KILL 137
    start_ventilator
    # What runs is adopted again: neither of both has ended.
    wait_for 15 "the worker" status_reaches "$child" running 1
    wait_for 15 "the recovery" status_reaches "$parent" running 1
    nap 3
    assert_eq "cancelled after the restart" "$(status_of "$child" cancelled)" 0
    runs 695 || fail "the nested task was ended by the restart"
    assert_exit 0 ventilator cancel "$parent"
    assert_exit 130 ventilator wait "$child"
    wait_for 10 "the nested task's end" none_running "sleep 695"
}

notes_deadlock() { [[ $(status_of "$1" note) == deadlock:* ]]; }

test_the_deadlock_is_named() {
    start_cluster 1
    local batch
    # shellcheck disable=SC2016
    batch=$(submit --grace 1s -- sh -c '"$1" submit --wait --no-bar -- true ::: 1 2' {} "$BIN/ventilator" ::: 1)
    wait_for 10 "the note" notes_deadlock "$batch"
    assert_exit 0 ventilator explain "$batch" 0
    assert_contains "$T/out" "deadlock: all slots that could run batch"
    start_worker w2
    assert_exit 0 ventilator wait "$batch"
}

test_refusals() {
    start_cluster 1
    local batch parent
    batch=$(submit -- sh -c 'echo "$TARMAC_PARENT"' ::: 1)
    assert_exit 0 ventilator wait "$batch"
    parent=$(ventilator results "$batch")
    assert_refused 4 "attempt 1 of task 0 has ended --detach" env TARMAC_PARENT="$parent" "$BIN/ventilator" submit -- true {} ::: 1
    assert_exit 0 env TARMAC_PARENT="$parent" "$BIN/ventilator" submit --wait --detach -- true {} ::: 1
    assert_refused 2 "TARMAC_PARENT nonsense" env TARMAC_PARENT=nonsense "$BIN/ventilator" submit -- true {} ::: 1
    # A run has a ventilator of its own: no parent there, but the values and the time.
    assert_exit 0 env TARMAC_PARENT="$parent" TARMAC_VALUES='{"user":"ada"}' TARMAC_BUDGET_MS=50000 \
        "$BIN/ventilator" run --slots 1 --format json -- sh -c 'echo "$TARMAC_VALUE_USER $((TARMAC_BUDGET_MS <= 50000))"' ::: 1
    assert_eq "what a run inherits" "$(jq -r .stdout "$T/out")" "ada 1"
    assert_exit 124 env TARMAC_PARENT="$parent" TARMAC_BUDGET_MS=700 "$BIN/ventilator" run --slots 1 --deadline 1h --grace 200ms -- sleep {} ::: 696
}
