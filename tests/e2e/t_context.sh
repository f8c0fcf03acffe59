# shellcheck shell=bash disable=SC2016
# Deadlines, timeouts and cancels as handlers meet them: the earliest bound wins wherever it is enforced, whatever the
# wall clocks show and whoever stands still, and the slot comes back. What is late is said in ms, never judged tightly.

running() { [ "$(status_of "$1" running)" = "$2" ]; }
file_ms() { tail -n 1 "$1" | sed 's/\.//; s/$/0/'; }    # FILE that has a line of /proc/uptime

# ---- the earliest bound wins ----

# One task of a second's work and more, with all bounds given: which ended it, and when.
assert_bound() {    # REASON MS [options]
    local reason=$1 ms=$2 spent
    shift 2
    assert_exit "$([ "$reason" = deadline ] && echo 124 || echo 1)" ventilator submit --wait --format json --no-bar --grace 20s "$@"
    assert_eq "end with $*" "$(jq -r '[.verdict, .reason] | join(" ")' "$T/out")" "deadline_exceeded $reason"
    # A deadline counts from the admission, a timeout from the start.
    if [ "$reason" = deadline ]; then spent=$took; else spent=$(jq '.run_ms | floor' "$T/out"); fi
    assert_between "time in ms with $*" "$took" "$((ms - 10))" $((ms + spent + late))
    assert_between "time in ms of what ran with $*" "$spent" 0 $((ms + late))
}

test_earliest_bound_wins() {
    start_cluster 1
    echo '{"payload": "640", "timeout": "300ms"}' >"$T/short"
    echo '{"payload": "640", "timeout": "50s"}' >"$T/long"
    local handler=(-- sleep)
    assert_bound deadline 600 --deadline 600ms --timeout 40s --json-lines -a "$T/long" "${handler[@]}"
    assert_bound timeout 500 --deadline 40s --timeout 500ms --json-lines -a "$T/long" "${handler[@]}"
    assert_bound timeout 300 --deadline 40s --timeout 30s --json-lines -a "$T/short" "${handler[@]}"
    assert_bound timeout 300 --json-lines -a "$T/short" "${handler[@]}"
    assert_bound timeout 200 --deadline 40s --timeout 200ms --json-lines -a "$T/short" "${handler[@]}"
    assert_bound deadline 250 --deadline 250ms --timeout 20s --json-lines -a "$T/short" "${handler[@]}"
    none_running "sleep 640" || fail "a sleep is left alive"
}

test_timeout_of_one_task_is_its_own() {
    start_cluster 1
    printf '%s\n' '{"payload": "640", "timeout": "200ms"}' '{"payload": "0.5"}' '{"payload": "640", "timeout": "100ms"}' >"$T/tasks"
    assert_exit 1 ventilator submit --wait --format json --json-lines -a "$T/tasks" --timeout 20s -- sleep
    assert_eq "ends" "$(jq -r '"\(.index) \(.verdict) \(.reason // "-")"' "$T/out" | sort | paste -sd,)" \
        "0 deadline_exceeded timeout,1 ok -,2 deadline_exceeded timeout"
}

# An attempt that can't finish any more isn't started; what has started is left to end.
test_min_runtime() {
    start_cluster 1
    local batch
    batch=$(submit --deadline 10m --min-runtime 50s --range 1-3 -- sh -c 'echo "$0" >>"$1"; while [ ! -e "$1.go" ]; do sleep 0.05; done' '{}' "$T/ran")
    wait_for 10 "the first task to run" ran_least "$T/ran" 1
    assert_exit 0 ventilator extend "$batch" --deadline 51s
    wait_for 20 "the others to be given up" status_reaches "$batch" deadline_exceeded 2
    assert_eq "state" "$(status_of "$batch" state) $(status_of "$batch" running)" "sealed 1"
    touch "$T/ran.go"
    assert_exit 124 ventilator wait "$batch"
    assert_exit 0 ventilator results "$batch" --format json
    assert_eq "ends" "$(jq -r '"\(.index) \(.verdict)"' "$T/out" | sort | paste -sd,)" "0 ok,1 deadline_exceeded,2 deadline_exceeded"
    assert_eq "runs" "$(runs_of "$T/ran")" 1
}

# ---- moved deadlines ----

test_extend_moves_what_runs_both_ways() {
    start_cluster 2
    local shorter longer
    shorter=$(submit --deadline 90s --grace 1s -- sleep ::: 641)
    longer=$(submit --deadline 90s -- sh -c 'while [ ! -e "$0" ]; do sleep 0.05; done' "$T/go" ::: x)
    wait_for 10 "both to run" running "$shorter" 1
    wait_for 10 "both to run" running "$longer" 1
    assert_exit 0 ventilator extend "$longer" --deadline ${PATIENCE}s
    assert_exit 0 ventilator extend "$longer" --deadline 80s
    assert_exit 0 ventilator extend "$shorter" --deadline 500ms
    assert_exit 124 ventilator wait "$shorter"
    assert_between "time to the new end in ms" "$took" 0 $((500 + late))
    echo "# a deadline brought forward to 500 ms from now: complete $took ms after"
    none_running "sleep 641" || fail "a sleep is left alive"
    nap $PATIENCE    # past the deadline that it had: that is what is tested
    assert_eq "state past the deadline that it had" "$(status_of "$longer" running)" 1
    touch "$T/go"
    assert_exit 0 ventilator wait "$longer"
}

test_extend_moves_what_waits_both_ways() {
    start_ventilator
    start_sink
    local shorter longer
    shorter=$(submit --deadline 90s -- true ::: 1 2)
    longer=$(submit --deadline ${PATIENCE}s -- true ::: 1 2)
    assert_exit 0 ventilator extend "$longer" --deadline 80s
    assert_exit 0 ventilator extend "$shorter" --deadline 300ms
    assert_exit 124 ventilator wait "$shorter"
    nap $PATIENCE    # past the first deadline
    start_worker w1
    assert_exit 0 ventilator wait "$longer"
}

# ---- a worker that is cut off from everything ----

bounds=(--heartbeat 200ms --loss-grace 1s --silence "$((2 * SLOW))s")

start_cut_worker() {
    local first
    start_relay vent 9
    first=$port
    WORKERS=tcp://127.0.0.1:$first
    start_ventilator "${bounds[@]}" --lanes $((first + 1))-$((first + 8))
    start_relay results 1
    RESULTS=tcp://127.0.0.1:$port
    start_sink
    start_ready w1 "$BIN/worker" --ventilator "tcp://127.0.0.2:$first" --sink "tcp://127.0.0.2:$port" --name w1 --slots 2 \
        --shutdown-timeout 2s --allow-commands
}

# A command that says when it began and when it was told to stop, in the worker's own time.
told='trap "read -r up rest </proc/uptime; echo \$up >>$0.told; exit 0" TERM
read -r up rest </proc/uptime; echo "$up" >>"$0.began"; while :; do sleep 0.02; done'
has_file() { [ -s "$1" ]; }
assert_told() {    # NAME MS: not before $since + MS, not long after
    assert_between "time to the $1 in ms" $(($(file_ms "$T/$1.told") - since)) $(($2 - 10)) $(($2 + late))
}

test_worker_that_is_cut_off_keeps_the_bounds() {
    start_cut_worker
    local timeout deadline since
    since=$(now_ms)
    timeout=$(submit --timeout 5s --grace 20s -- sh -c "$told" "$T/timeout" ::: x)
    deadline=$(submit --deadline 6s --grace 1s -- sh -c "$told" "$T/deadline" ::: x)
    wait_for 10 "both to run" has_file "$T/timeout.began"
    wait_for 10 "both to run" has_file "$T/deadline.began"
    network vent stop both
    network results stop both
    wait_for 15 "the one with the timeout to be told" has_file "$T/timeout.told"
    wait_for 15 "the one with the deadline to be told" has_file "$T/deadline.told"
    assert_told timeout 5000
    assert_told deadline 6000
    assert_exit 124 timeout $((15 * PATIENCE)) "$BIN/ventilator" wait "$deadline"
    network vent pass
    network results pass
    # Its own record of the timeout arrives after the cut, unless the ventilator had it done elsewhere.
    assert_exit 1 timeout $((30 * PATIENCE)) "$BIN/ventilator" wait "$timeout"
    assert_exit 0 ventilator results "$timeout" --format json
    assert_eq "verdicts" "$(verdicts "$T/out")" "deadline_exceeded=1"
}

# ---- a worker that stands still ----

# The worker, its keepers and what they run: as a machine that was suspended.
children() { cat "/proc/$1"/task/*/children 2>/dev/null; }
tree() { local pid; echo "$1"; for pid in $(children "$1"); do tree "$pid"; done; }

stop_across_the_deadline() {    # worker|all: what stands still
    local batch since how=$1 pids
    start_ventilator    # whose silence time is longer than the deadline: the worker isn't given up before
    start_sink
    start_worker w1
    batch=$(submit --deadline 10m --grace 500ms --range 1-4 -- sh -c 'echo "$0" >>"$1"; while :; do sleep 642; done' '{}' "$T/ran")
    wait_for 10 "the first task to run" ran_least "$T/ran" 1
    if [ "$how" = all ]; then pids=$(tree "${PIDS[w1]}"); else pids=${PIDS[w1]}; fi
    since=$(now_ms)
    assert_exit 0 ventilator extend "$batch" --deadline 3s
    # shellcheck disable=SC2086
    kill -STOP $pids
    assert_exit 124 timeout $((20 * PATIENCE)) "$BIN/ventilator" wait "$batch"
    took=$(($(now_ms) - since))
    echo "# deadline 3s, grace 500ms, the worker stopped ($how): complete after $took ms"
    assert_between "time to the end in ms" "$took" 3490 $((3500 + late))
    # shellcheck disable=SC2086
    kill -CONT $pids
    wait_for 15 "what it ran to be ended" none_running "sleep 642"
    assert_exit 0 timeout $((20 * PATIENCE)) "$BIN/ventilator" submit --wait -- true ::: again
    assert_eq "runs" "$(runs_of "$T/ran")" 1
    assert_exit 0 ventilator results "$batch" --format json
    assert_eq "verdicts" "$(verdicts "$T/out")" "deadline_exceeded=4"
}

test_stopped_worker_does_not_hold_the_batch() { stop_across_the_deadline worker; }
test_stopped_machine_does_not_hold_the_batch() { stop_across_the_deadline all; }

# ---- wall clocks ----

# What is started with these has the wall clock of FILE, a number of seconds that it is off; all other clocks are right.
wall_clock_of() {    # FILE
    clock=(LD_PRELOAD="$BIN/../tests/wallclock.so" WALLCLOCK_OFFSET="$1" ASAN_OPTIONS="$ASAN_OPTIONS:verify_asan_link_order=0")
}
set_clock() { echo "$2" >"$T/clock-$1.new"; mv "$T/clock-$1.new" "$T/clock-$1"; }    # NAME SECONDS

# The clock that a worker's own log shows is hours off, in its last line.
assert_clock_is_off() {    # NAME SECONDS
    local shown
    shown=$(tail -n 1 "$T/$1.err" | grep -oE '^[0-9-]+T[0-9:.]+Z') || fail "no time in the log of $1"
    shown=$(date -d "$shown" +%s)
    assert_between "seconds by which the clock of $1 is off" $((shown - $(date +%s))) $(($2 - 120)) $(($2 + 120))
}

start_with_wrong_clocks() {
    set_clock ventilator -20000
    set_clock w1 36000
    local clock
    wall_clock_of "$T/clock-ventilator"
    start_ready ventilator "${clock[@]}" "$BIN/ventilator" serve --data "$T/data-ventilator" --listen "${CLIENTS:-tcp://127.0.0.1:0}" \
        --workers-listen "${WORKERS:-tcp://127.0.0.1:0}" --lanes 0 --http off --shutdown-timeout 2s
    CLIENTS=$(ready_field ventilator clients)
    WORKERS=$(ready_field ventilator workers)
    export TARMAC_VENTILATOR=$CLIENTS
}

test_wall_clocks_hours_off_and_stepping() {
    local clock batch since moved timeout
    start_with_wrong_clocks
    start_sink
    wall_clock_of "$T/clock-w1"
    start_ready w1 "${clock[@]}" "$BIN/worker" --ventilator "$WORKERS" --name w1 --slots 4 --shutdown-timeout 2s --allow-commands
    assert_exit 0 ventilator submit --wait -- date ::: +%s
    assert_between "seconds by which the clock of w1's tasks is off" $(($(cat "$T/out") - $(date +%s))) 35900 36100
    assert_clock_is_off ventilator -20000
    since=$(now_ms)
    timeout=$(submit --timeout 3s --grace 20s -- sh -c "$told" "$T/timeout" ::: x)
    batch=$(submit --deadline 10m --grace 20s -- sh -c "$told" "$T/deadline" ::: x)
    wait_for 10 "both to run" has_file "$T/deadline.began"
    wait_for 10 "both to run" has_file "$T/timeout.began"
    moved=$(now_ms)
    assert_exit 0 ventilator extend "$batch" --deadline 4s
    set_clock w1 -7200
    set_clock ventilator 90000
    nap 0.5
    set_clock w1 180000
    set_clock ventilator -3600
    nap 0.5
    set_clock w1 -86400
    assert_exit 1 ventilator wait "$timeout"
    assert_exit 124 ventilator wait "$batch"
    assert_told timeout 3000
    since=$moved
    assert_told deadline 4000
    stop w1 TERM 0
    assert_clock_is_off w1 -86400
    echo "# clocks off and stepping: timeout 3s told after $(($(file_ms "$T/timeout.told") - $(file_ms "$T/timeout.began"))) ms, deadline 4s after $(($(file_ms "$T/deadline.told") - since)) ms"
}

# The same boot: how long it was away is known to the millisecond, whatever the wall clock did meanwhile.
test_wall_clock_steps_while_the_ventilator_is_away() {
    local ahead behind since
    start_with_wrong_clocks
    start_sink
    since=$(now_ms)
    ahead=$(submit --deadline 600s -- true ::: 1)
    behind=$(submit --deadline 4s -- true ::: 1)
    kill -KILL "${PIDS[ventilator]}"
    ended ventilator 137
    start_with_wrong_clocks
    set_clock ventilator 90000
    assert_exit 124 ventilator wait "$behind"
    assert_between "deadline in ms" $(($(now_ms) - since)) 3980 $((4000 + late))
    assert_eq "the other one" "$(status_of "$ahead" state)" sealed
    start_worker w1
    assert_exit 0 ventilator wait "$ahead"
}

# ---- what never ends by itself ----

stuck_for_ever() {    # handler options
    local since
    since=$(now_ms)
    assert_exit 1 ventilator submit --wait --format json --timeout 400ms --grace 600ms "$@"
    took=$(($(now_ms) - since))
    assert_eq "ends" "$(jq -r '[.verdict, .reason] | join(" ")' "$T/out" | sort | uniq -c | xargs)" "2 deadline_exceeded timeout"
    assert_between "time of two in one slot in ms" "$took" 1990 $((2000 + late))
    none_running "sleep 643" || fail "a descendant of it is left alive"
    echo "# stuck for ever, timeout 400ms, grace 600ms, two of them in one slot: complete after $took ms"
}

test_stuck_command_gives_its_slot_back() {
    start_cluster 1
    stuck_for_ever -- sh -c 'trap "" TERM INT HUP; (setsid sh -c "trap \"\" TERM; sleep 6431" &); while :; do sleep 6432; done' ::: 1 2
}

test_stuck_persistent_handler_gives_its_slot_back() {
    echo '{"deaf": {"kind": "persistent", "command": ["sh", "-c", "trap \"\" TERM; (setsid sleep 6433 &); while :; do sleep 6434; done"]}}' >"$T/handlers.json"
    start_cluster 1 --handlers "$T/handlers.json"
    stuck_for_ever --handler deaf ::: 1 2
}

# ---- a thousand at a time ----

thousand_left() { pgrep -cf '^sleep 6440044' || true; }
none_of_the_thousand() { [ "$(thousand_left)" = 0 ]; }
the_thousand_run() { nap 0.5; [ "$(thousand_left)" = 1000 ]; }

test_plain_thousand_attempts_are_cancelled() {
    start_ventilator
    start_sink
    start_worker w1 --slots 1000
    local batch since
    since=$(now_ms)
    batch=$(submit --grace 20s --range 1-1000 -- sleep 6440044)
    wait_for 80 "a thousand to run" the_thousand_run
    echo "# a thousand attempts run $(($(now_ms) - since)) ms after their submission"
    since=$(now_ms)
    assert_exit 0 ventilator cancel "$batch"
    # On a machine that has no time for the worker its word comes too late for the answer: it counts as out of reach.
    assert_eq "running, or out of reach" "$(grep -oE '[0-9]+ (running|unreachable)' "$T/out" | awk '{ n += $1 } END { print n }')" 1000
    assert_exit 130 ventilator wait "$batch"
    took=$(($(now_ms) - since))
    none_of_the_thousand || fail "$(thousand_left) of the thousand are alive although all are recorded as cancelled"
    echo "# a thousand attempts cancelled: complete, and nothing of them alive, after $took ms"
    assert_between "time to the end in ms" "$took" 0 "$late"
    assert_exit 0 ventilator results "$batch" --format json
    assert_eq "verdicts" "$(verdicts "$T/out")" "cancelled=1000"
}
