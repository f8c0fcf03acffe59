# shellcheck shell=bash disable=SC2016,SC2034
# Slots always come back, and nothing of an attempt is left: with control groups and without.

# The one without the environment is known by its command line alone, which is this test's own: others run beside it.
ORPHAN="/bin/sleep 6102.$$"
HOSTILE='trap "" TERM; (setsid sh -c "trap \"\" TERM; exec sleep 6101" &) ; (env -i setsid '$ORPHAN' &) ; exec >&- 2>&-; while :; do sleep 6103; done'

# A cgroup2 file system on a folder of the test's own; $GROUPS_AT is a folder in it. The mount is taken away with the test.
mount_groups() {
    mkdir "$T/groups"
    mount -t cgroup2 tarmac-test "$T/groups" 2>"$T/mount.err" || return 1
    GROUPS_AT=$T/groups/tarmac-test-$$
    MOUNTED+=("$T/groups")
}
MOUNTED=()
unmount_all() {
    local at
    for at in "${MOUNTED[@]}"; do umount "$at" 2>/dev/null || umount -l "$at"; done
}
# Before clean_up of lib.sh looks at what is left, and removes the folder.
trap 'code=$?; stop_worker_quietly; unmount_all; (exit $code); clean_up' EXIT
stop_worker_quietly() {
    [ -z "${PIDS[worker]:-}" ] || { kill -TERM "${PIDS[worker]}" 2>/dev/null; kill -TERM "${PIDS[worker]}" 2>/dev/null; }
    [ -z "${PIDS[worker]:-}" ] || holds_within 10 not_alive "${PIDS[worker]}"
}

start_all() {    # --cgroup's value
    start_ventilator
    start_sink
    start_worker worker --name w1 --slots 2 --cgroup "$1"
}

check_hostile() {
    assert_exit 1 ventilator submit --wait --format json --timeout 400ms --grace 200ms -- sh -c "$HOSTILE" {} ::: a b c d
    assert_eq "verdicts" "$(verdicts "$T/out")" "deadline_exceeded=4"
    none_running "sleep 610" || fail "a descendant is left alive"
    [ -z "$(pgrep -f "^$ORPHAN\$")" ] || fail "a descendant without the environment is left alive"
    assert_exit 0 ventilator submit --wait --ordered -- echo {} ::: 1 2 3
    assert_eq "output" "$(paste -sd' ' "$T/out")" "1 2 3"
}

test_hostile_attempts_by_session() {
    start_all off
    check_hostile
}

test_hostile_attempts_by_group() {
    mount_groups || { check_without_mount; return; }
    start_all "$GROUPS_AT"
    check_hostile
    [ -d "$GROUPS_AT/slot-1" ] || fail "slot 1 should have a group"
    stop worker TERM 0
    [ ! -d "$GROUPS_AT" ] || fail "the worker should remove the folder that it made: $(ls "$GROUPS_AT")"
}

# Not root: what `auto` finds is all there is.
check_without_mount() {
    start_all auto
    check_hostile
}

kill_a_keeper() {
    local keeper
    assert_exit 0 ventilator submit --retries 0 -- sh -c '(setsid sleep 6104 &); : >"$0"; exec sleep 6105' {} ::: "$T/started"
    local batch
    batch=$(cat "$T/out")
    wait_for 10 "the command to start" test -e "$T/started"
    wait_for 10 "the daemon to start" some_running "sleep 6104"
    keeper=$(ps -o ppid= -p "$(marked_running "sleep 6105" | head -n 1)")
    kill -KILL "${keeper// /}"
    assert_exit 1 ventilator wait "$batch"
    assert_exit 0 ventilator results "$batch" --format json
    assert_eq "reason" "$(jq -r .reason "$T/out")" keeper_died
    none_running "sleep 610" || fail "what the killed keeper ran is left alive"
    assert_exit 0 ventilator submit --wait --ordered -- echo {} ::: 1 2 3
    assert_eq "output" "$(paste -sd' ' "$T/out")" "1 2 3"
}

test_killed_keeper_by_session() {
    start_all off
    kill_a_keeper
}

test_killed_keeper_by_group() {
    mount_groups || { start_all auto; kill_a_keeper; return; }
    start_all "$GROUPS_AT"
    kill_a_keeper
}

# A process in uninterruptible sleep, as the v1 freezer makes them: its slot stays taken and is reported once, the other goes on.
test_stuck_slot_is_reported_and_comes_back() {
    local freezer=$T/freezer batch pid
    mkdir "$freezer"
    if ! mount -t cgroup -o freezer tarmac-test "$freezer" 2>"$T/mount.err"; then
        echo "# no freezer can be mounted here: $(cat "$T/mount.err")"
        return
    fi
    MOUNTED+=("$freezer")
    start_all off
    assert_exit 0 ventilator submit --timeout ${PATIENCE}s --grace 100ms -- sh -c 'echo $$ >"$0.new"; mv "$0.new" "$0"; exec sleep 6106' {} ::: "$T/pid"
    batch=$(cat "$T/out")
    wait_for 10 "the command to start" test -e "$T/pid"
    pid=$(cat "$T/pid")
    mkdir "$freezer/tarmac-test-$$"
    echo "$pid" >"$freezer/tarmac-test-$$/cgroup.procs"
    echo FROZEN >"$freezer/tarmac-test-$$/freezer.state"
    wait_for 15 "the report of the stuck slot" grep -q slot_stuck "$T/worker.err"
    assert_contains "$T/worker.err" "process $pid"
    assert_exit 0 ventilator submit --wait --ordered -- echo {} ::: 1 2 3
    assert_eq "output" "$(paste -sd' ' "$T/out")" "1 2 3"
    alive "$pid" || fail "the frozen process should not have ended"
    echo THAWED >"$freezer/tarmac-test-$$/freezer.state"
    wait_for 10 "the slot to come back" grep -q slot_free "$T/worker.err"
    rmdir "$freezer/tarmac-test-$$"
    assert_eq "reports" "$(grep -c slot_stuck "$T/worker.err")" 1
    assert_exit 1 ventilator wait "$batch"
    assert_exit 0 ventilator results "$batch" --format json
    assert_eq "verdicts" "$(verdicts "$T/out")" "deadline_exceeded=1"
}

test_what_waits_for_a_slot_says_so() {
    local long short limited
    start_all off
    long=$(submit -- sleep {} ::: 6107 6107 6107 6107 6107 6107)
    wait_for 10 "the slots to be busy" status_reaches "$long" running 3
    short=$(submit -- true {} ::: a)
    limited=$(submit --max-running 1 --priority 3 -- sleep {} ::: 6108 6108)
    assert_eq "note of what runs" "$(ventilator status "$long" --json | jq -r .note)" null
    assert_exit 0 ventilator explain "$short" 0
    assert_contains "$T/out" "all 2 slots that could run its tasks are busy, at 1 worker; batch $limited, queued for them too, has a higher priority (3)"
    assert_contains "$T/out" "task 0: queued, 0 of its batch are before it"
    ventilator status "$short" --json | jq -r .note | grep -q "^all 2 slots" || fail "the note should say what it waits for"
    assert_exit 0 ventilator cancel "$long"
    wait_for 10 "the limited batch to run" status_reaches "$limited" running 1
    assert_exit 0 ventilator explain "$limited" 1
    assert_contains "$T/out" "max-running 1 is reached"
    assert_exit 0 ventilator cancel "$limited"
    assert_exit 0 ventilator wait "$short"
}

test_commands_find_the_limits_of_the_start() {
    ulimit -S -n 512
    start_all auto
    assert_exit 0 ventilator submit --wait -- sh -c 'ulimit -n' {} ::: x
    assert_eq "limit of open files" "$(cat "$T/out")" 512
}

test_bad_groups_are_refused() {
    assert_refused 2 "--cgroup $T cgroup2" "$BIN/worker" --cgroup "$T"
    assert_refused 2 "--cgroup auto off relative" "$BIN/worker" --cgroup relative/path
    assert_refused 2 "--cgroup /nowhere/at/all" "$BIN/worker" --cgroup /nowhere/at/all
}
