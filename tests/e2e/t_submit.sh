# shellcheck shell=bash disable=SC2016,SC2154,SC2034
# Submissions that survive: the ventilator is killed and restarted, the connection is cut, the submitter dies. What was
# acknowledged is there once, in the order of the input, and the rest follows.

lines=$((SLOW > 1 ? 200000 : 2000000))

# The items 1 to N, in parts: after part i only when $T/part-i is there. So a submission isn't over before its time.
feed_parts() {    # N PARTS
    local i
    for ((i = 0; i < $2; i++)); do
        seq $(($1 * i / $2 + 1)) $(($1 * (i + 1) / $2))
        # A test that ends before the last part takes its folder along: nobody waits for that part any more.
        until [ -e "$T/part-$((i + 1))" ]; do [ -d "$T" ] || return 0; nap 0.01; done
    done
}
open_part() { : >"$T/part-$1"; }

# A submission in the background, fed by parts.
start_submission() {    # NAME N PARTS OPTION...
    local name=$1 n=$2 parts=$3
    shift 3
    rm -f "$T"/part-*
    mkfifo "$T/$name.lines"
    feed_parts "$n" "$parts" >"$T/$name.lines" &
    "$BIN/ventilator" submit "$@" <"$T/$name.lines" >"$T/$name.out" 2>"$T/$name.err" &
    PIDS[$name]=$!
}

is_listed() { ventilator list --json 2>/dev/null | jq -e 'select(.batch)' >/dev/null; }
first_batch() { ventilator list --json | jq -rs '.[0].batch'; }

# The journal has just the items 1 to N: the same key with the same items is the same batch, and with any other it is
# refused (the digests of all items are compared, in their order).
assert_items() {    # KEY BATCH N COMMAND...
    local key=$1 batch=$2 n=$3
    shift 3
    assert_eq "total" "$(status_of "$batch" total)" "$n"
    assert_exit 0 bash -c 'seq "$1" | "${@:2}"' - "$n" "$BIN/ventilator" submit --key "$key" -- "$@"
    assert_eq "batch of the same key" "$(cat "$T/out")" "$batch"
    assert_refused 4 "$key" bash -c 'seq "$1" | sed "\$s/\$/x/" | "${@:2}"' - "$n" "$BIN/ventilator" submit --key "$key" -- "$@"
    assert_eq "total afterwards" "$(status_of "$batch" total)" "$n"
}

# ---- what breaks while it streams ----

test_ventilator_is_killed_while_lines_stream_in() {
    local i batch
    seed
    start_cluster 1
    start_submission client "$lines" 5 --key many -- true '{}'
    wait_for 20 "the batch to be known" is_listed
    for i in 1 2 3 4; do
        open_part $i
        pick 0 250
        nap "0.$(printf %03d "$picked")"
        alive "${PIDS[client]}" || fail "the submission was over before the kill"
        kill -KILL "${PIDS[ventilator]}"
        ended ventilator 137
        start_ventilator
    done
    open_part 5
    ended client 0 90
    batch=$(cat "$T/client.out")
    assert_eq "batches" "$(ventilator list --json | jq -s length)" 1
    assert_exit 0 ventilator cancel "$batch"
    assert_exit 130 ventilator wait "$batch"
    assert_eq "tasks with a verdict" "$(ventilator status "$batch" --json | jq '.ok + .cancelled')" "$lines"
    assert_items many "$batch" "$lines" true '{}'
    echo "# $lines lines through 4 kills of the ventilator"
}

test_connection_is_cut_while_lines_stream_in() {
    local i batch clients n=$((lines / 4)) before
    seed
    start_relay relay 1
    clients=$port
    CLIENTS=tcp://127.0.0.1:$clients
    start_cluster 1
    start_submission client "$n" 5 --key cut --ventilator "tcp://127.0.0.2:$clients" -- true '{}'
    wait_for 20 "the batch to be known" is_listed
    for i in 1 2 3 4; do
        open_part $i
        pick 0 150
        nap "0.$(printf %03d "$picked")"
        case $i in
            1 | 3) network relay close ;;
            # A network that swallows everything, in one direction and in both, until its connections break.
            2) network relay stop down ;;
            4) network relay stop both ;;
        esac
        nap "0.$(printf %03d "$picked")"
        network relay close
        network relay pass
    done
    before=$(status_of "$(first_batch)" total)
    open_part 5
    ended client 0 60
    batch=$(cat "$T/client.out")
    assert_between "items before the last part" "$before" 1 "$n"
    assert_items cut "$batch" "$n" true '{}'
    assert_exit 0 ventilator cancel "$batch"
}

# ---- keys ----

test_a_key_is_one_batch() {
    local batch
    start_cluster 1
    batch=$(submit --key nightly -- sh -c "$effect" '{}' "$T/ran" ::: 1 2 3)
    assert_exit 0 ventilator wait "$batch"
    assert_eq "the same again" "$(submit --key nightly -- sh -c "$effect" '{}' "$T/ran" ::: 1 2 3)" "$batch"
    assert_exit 0 ventilator submit --wait --key nightly -- sh -c "$effect" '{}' "$T/ran" ::: 1 2 3
    assert_refused 4 "nightly other items" ventilator submit --key nightly -- sh -c "$effect" '{}' "$T/ran" ::: 1 3 2
    assert_refused 4 "nightly more items" ventilator submit --key nightly -- sh -c "$effect" '{}' "$T/ran" ::: 1 2
    assert_refused 4 "nightly fewer items" ventilator submit --key nightly -- sh -c "$effect" '{}' "$T/ran" ::: 1 2 3 4
    assert_refused 4 "nightly command $batch" ventilator submit --key nightly -- echo '{}' ::: 1 2 3
    assert_refused 4 "nightly range $batch" ventilator submit --key nightly --range 1-3 -- sh -c "$effect" '{}' "$T/ran"
    assert_all_ok "$batch" 3 "$T/ran"
    assert_eq "runs more than tasks" "$extra" 0
    # A range has its key too, and a restart forgets none.
    batch=$(submit --key spread --range 1-5 -- sh -c "$effect" '{}' "$T/spread")
    stop ventilator TERM 0
    start_ventilator
    assert_eq "the same range again" "$(submit --key spread --range 1-5 -- sh -c "$effect" '{}' "$T/spread")" "$batch"
    assert_refused 4 "spread range $batch" ventilator submit --key spread --range 1-6 -- sh -c "$effect" '{}' "$T/spread"
    assert_exit 0 ventilator wait "$batch"
    assert_all_ok "$batch" 5 "$T/spread"
    assert_eq "runs more than tasks" "$extra" 0
}

# Both fill the batch with the same items: whatever each of them is told, it has them once.
test_two_submitters_of_one_key() {
    local n=100000 name code ok=0
    start_cluster 1
    for name in first second; do
        seq $n >"$T/$name.items"
        start "$name" "$BIN/ventilator" submit --key shared -a "$T/$name.items" -- true '{}'
    done
    for name in first second; do
        wait_for 60 "the end of the $name" not_alive "${PIDS[$name]}"
        code=0
        wait "${PIDS[$name]}" || code=$?
        unset "PIDS[$name]"
        case $code in
            0) ok=$((ok + 1)) ;;
            4) grep -qE -- '--key shared: |takes no more' "$T/$name.err" || fail "the $name says: $(cat "$T/$name.err")" ;;
            *) fail "the $name exits $code: $(cat "$T/$name.err")" ;;
        esac
    done
    [ $ok -gt 0 ] || ventilator submit --key shared -a "$T/first.items" -- true '{}' >"$T/first.out" 2>"$T/first.err" ||
        fail "the same again exits $?: $(cat "$T/first.err")"
    assert_items shared "$(first_batch)" $n true '{}'
    echo "# $ok of 2 have submitted all of it"
}

# ---- a submitter that dies ----

# Leaves a batch of which some items were acknowledged: its id is in $batch, their number in $admitted.
die_half_way() {    # KEY
    start_submission client 1000 2 --key "$1" -- sh -c "$effect" '{}' "$T/ran"
    wait_for 20 "the first half to be admitted" has_open 500
    batch=$(first_open)
    kill -KILL "${PIDS[client]}"
    ended client 137
    open_part 1
    wait_for 20 "what was acknowledged to run" status_reaches "$batch" ok 500
    admitted=$(status_of "$batch" total)
    assert_eq "state" "$(status_of "$batch" state)" open
    assert_eq "counts" "$(ventilator status "$batch" --json | jq -r '"\(.ok) \(.queued) \(.running)"')" "$admitted 0 0"
    ventilator status "$batch" | grep -qw open || fail "status doesn't say that the batch is open"
    ventilator explain "$batch" | grep -qw open || fail "explain doesn't say that the batch is open"
    rm "$T/client.lines"
}
first_open() { ventilator list --json | jq -r 'select(.state == "open") | .batch' | head -n 1; }
has_open() { batch=$(first_open); [ -n "$batch" ] && status_reaches "$batch" total "$1"; }

test_a_dead_submitter_s_batch_is_continued() {
    local batch admitted
    start_cluster 2
    die_half_way k1
    stop ventilator TERM 0
    start_ventilator
    assert_exit 0 bash -c 'seq 1000 | "$@"' - "$BIN/ventilator" submit --key k1 -- sh -c "$effect" '{}' "$T/ran"
    assert_eq "batch" "$(cat "$T/out")" "$batch"
    assert_exit 0 ventilator wait "$batch"
    assert_all_ok "$batch" 1000 "$T/ran"
    assert_eq "runs more than tasks" "$extra" 0
}

test_a_dead_submitter_s_batch_is_sealed() {
    local batch admitted
    start_cluster 2
    die_half_way k2
    assert_exit 0 ventilator seal "$batch"
    assert_exit 0 ventilator wait "$batch"
    assert_all_ok "$batch" "$admitted" "$T/ran"
    assert_eq "runs more than tasks" "$extra" 0
    assert_exit 0 ventilator seal "$batch"
    assert_refused 4 "k2 takes no more" bash -c 'seq 1000 | "$@"' - "$BIN/ventilator" submit --key k2 -- sh -c "$effect" '{}' "$T/ran"
    assert_refused 4 "nosuch" ventilator seal nosuch
}

test_a_dead_submitter_s_batch_is_cancelled() {
    local batch admitted
    start_cluster 2
    die_half_way k3
    assert_exit 0 ventilator cancel "$batch"
    wait_for 10 "the end of the batch" eval '[ "$(status_of "$batch" state)" = complete ]'
    assert_eq "counts" "$(ventilator status "$batch" --json | jq -r '"\(.total) \(.ok) \(.cancelled)"')" "$admitted $admitted 0"
    assert_refused 4 "k3 takes no more" bash -c 'seq 1000 | "$@"' - "$BIN/ventilator" submit --key k3 -- sh -c "$effect" '{}' "$T/ran"
}

# ---- a ventilator that stays away ----

test_a_ventilator_that_stays_away() {
    local batch name
    start_cluster 1
    start_submission client 1000 2 --key kept --reconnect-timeout 1s -- true '{}'
    wait_for 20 "the first half to be admitted" has_open 500
    kill -KILL "${PIDS[ventilator]}"
    ended ventilator 137
    ended client 3 20
    assert_eq "lines of standard error" "$(grep -c . "$T/client.err")" 1
    assert_contains "$T/client.err" "--reconnect-timeout"
    assert_contains "$T/client.err" "submit the same again with --key kept"
    assert_contains "$T/client.err" "ventilator seal $batch"
    open_part 1
    start_ventilator
    assert_eq "state" "$(status_of "$batch" state)" open
    assert_exit 0 bash -c 'seq 1000 | "$@"' - "$BIN/ventilator" submit --key kept -- true '{}'
    assert_eq "batch" "$(cat "$T/out")" "$batch"
    assert_exit 0 ventilator wait "$batch"
    # Who only waits needs but the sink; without that too it is told that nothing is lost by its leaving.
    start waiter "$BIN/ventilator" submit --wait --no-bar --reconnect-timeout 1s -- sh -c 'until [ -e "$0" ]; do sleep 0.02; done' "$T/over" ::: 1
    wait_for 20 "the task to run" some_running "$T/over"
    # It can run before the client is told that all is admitted.
    wait_for 20 "the client to know that all is admitted" grep -q "^ventilator: batch " "$T/waiter.err"
    for name in ventilator sink; do
        kill -KILL "${PIDS[$name]}"
        ended "$name" 137
    done
    ended waiter 3 20
    assert_contains "$T/waiter.err" "goes on without us"
    start_ventilator
    start_sink
    : >"$T/over"
    batch=$(sed -n "s/.*'ventilator wait \([a-z0-9]*\)'.*/\1/p" "$T/waiter.err")
    assert_exit 0 ventilator wait "$batch"
}

test_interrupt_with_the_sink_away() {
    start_cluster 1
    start submit "$BIN/ventilator" submit --wait --grace 60s --reconnect-timeout 1s -- sh -c 'trap "" TERM; : >"$0"; while :; do sleep 608; done' {} ::: "$T/started"
    wait_for 10 "the command to start" test -e "$T/started"
    kill -INT "${PIDS[submit]}"
    wait_for 10 "the batch to be cancelled" eval '[ "$(ventilator list --json | jq -r .state)" = cancelling ]'
    stop sink TERM 0
    ended submit 3 20
    assert_contains "$T/submit.err" "cancel"
    ! grep -q "goes on without us" "$T/submit.err" || fail "it was cancelled: $(cat "$T/submit.err")"
    grep -Eq "is cancelled: 'ventilator wait|has no answer yet: see 'ventilator status" "$T/submit.err" || fail "no advice: $(cat "$T/submit.err")"
}

test_one_task_is_one_task() {
    local batch
    start_cluster 1
    echo "no program" >"$T/text"
    batch=$(submit -- "$T/text" {} ::: x)
    assert_exit 1 ventilator wait "$batch"
    assert_exit 0 ventilator status "$batch"
    assert_contains "$T/out" ", 1 task"
    ! grep -q "1 tasks" "$T/out" || fail "status says: $(cat "$T/out")"
    assert_exit 0 ventilator explain "$batch"
    assert_contains "$T/out" ": 1 task,"
    assert_exit 0 ventilator results "$batch" --format json
    assert_contains "$T/out" "can't start"
    ! grep -q PATH "$T/out" || fail "it was found, and can't be run: $(cat "$T/out")"
    assert_exit 1 ventilator submit --wait --format json -- no-such-program {} ::: x
    assert_contains "$T/out" "in the worker's PATH"
}
