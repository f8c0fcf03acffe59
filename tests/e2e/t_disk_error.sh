# shellcheck shell=bash
# A flush or a write of a store fails, once: its process says so and ends with the disk's exit code, it never tries
# again. Started anew it goes on, and every task of every batch is recorded once.

batches=10 tasks=30

shim_for() {    # FAULT: sets $shim, what `start` puts before the command
    rm -f "$T/hit"
    shim=(LD_PRELOAD="$BIN/../tests/disk_shim.so" ASAN_OPTIONS="$ASAN_OPTIONS:verify_asan_link_order=0"
        DISK_FAULT="$1" DISK_FAULT_LOG="$T/hit")
}

faulty_ventilator() {    # FAULT STARTER
    shim_for "$1"
    "$2" ventilator "${shim[@]}" "$BIN/ventilator" serve --data "$T/data-ventilator" --listen "${CLIENTS:-tcp://127.0.0.1:0}" \
        --workers-listen "${WORKERS:-tcp://127.0.0.1:0}" --lanes 0 --http off --shutdown-timeout 2s
}

faulty_sink() {    # FAULT STARTER
    shim_for "$1"
    "$2" sink "${shim[@]}" "$BIN/sink" --ventilator "$WORKERS" --data "$T/data-sink" \
        --results-listen "${RESULTS:-tcp://127.0.0.1:0}" --query-listen "${QUERY:-tcp://127.0.0.1:0}"
}

is_hit() { [ -s "$T/hit" ]; }

# It ended by the fault, and its sentence says which file, what, and that it is the disk.
assert_ended_by_the_disk() {    # NAME FILE
    ended "$1" 6
    is_hit || fail "$1 ended with 6, but not by the fault: $(tail -n 3 "$T/$1.err")"
    assert_eq "faults in $1" "$(wc -l <"$T/hit")" 1
    grep -F "$2" "$T/$1.err" | grep -q 'Input/output error.*look after the disk' ||
        fail "$1 should say which file the disk failed on: $(cat "$T/$1.err")"
}

# And more of them until the fault is met: a slow disk is flushed less often.
submit_all() {
    local i=0
    until [ $i -ge $batches ] && is_hit; do
        i=$((i + 1))
        ventilator submit --wait --key "k$i" --format json --no-bar --range "1-$tasks" -- true >"$T/results-$i" 2>>"$T/submit.err" </dev/null || return
    done
}

assert_all_once() {
    local file
    for file in "$T"/results-*; do
        assert_each_once "$file" $tasks
        assert_eq "verdicts of ${file##*-}" "$(verdicts "$file")" "ok=$tasks"
    done
}

fresh_folder() {
    rm -rf "$T/data-ventilator" "$T/data-sink" "$T"/results-*
    unset CLIENTS WORKERS RESULTS QUERY
}

one_round() {    # WHO FAULT
    local client
    fresh_folder
    if [ "$1" = ventilator ]; then
        faulty_ventilator "$2" start_ready
        CLIENTS=$(ready_field ventilator clients) WORKERS=$(ready_field ventilator workers)
        export TARMAC_VENTILATOR=$CLIENTS
        start_sink
    else
        start_ventilator
        faulty_sink "$2" start_ready
        RESULTS=$(ready_field sink results) QUERY=$(ready_field sink query)
    fi
    start_worker w1 --slots 2
    submit_all &
    client=$!
    wait_for 30 "fault $2 in the $1" is_hit
    if [ "$1" = ventilator ]; then
        assert_ended_by_the_disk ventilator journal.db
        start_ventilator
    else
        assert_ended_by_the_disk sink results.db
        start_sink
    fi
    wait_for 60 "the batches after $2 in the $1" not_alive $client
    wait $client || fail "after $2 in the $1: submit exits $?: $(tail -n 3 "$T/submit.err")"
    assert_all_once
    echo "# $2 in the $1: $(cat "$T/hit"), and all went on"
    stop w1 TERM 0
    stop ventilator TERM 0
    stop sink TERM 0
}

test_a_flush_of_the_journal_fails() {
    one_round ventilator sync:12
    one_round ventilator sync:25
}
test_a_write_of_the_journal_fails() { one_round ventilator write:40; }
test_a_flush_of_the_results_fails() {
    one_round sink sync:12
    one_round sink sync:40
}
test_a_write_of_the_results_fails() { one_round sink write:120; }

# While it opens: it ends with the same code and never was ready; nothing stands in the way of the next start.
test_the_disk_fails_at_the_start() {
    local fault
    start_ventilator
    for fault in sync:1 sync:2 write:1 write:9; do
        faulty_sink $fault start
        assert_ended_by_the_disk sink results.db
    done
    start_sink
    stop sink TERM 0
    stop ventilator TERM 0
    for fault in sync:1 write:1 write:2; do
        faulty_ventilator $fault start
        assert_ended_by_the_disk ventilator journal.db
    done
    start_ventilator
    stop ventilator TERM 0
}
