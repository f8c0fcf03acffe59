# shellcheck shell=bash disable=SC2016,SC2154
# The crash matrix: SIGKILL of each process, and of all at once, in each phase of a batch whose effects are counted
# outside. A phase is reached for certain: a batch of its own holds all slots but two to the end, so that every worker
# runs something; two tasks of each batch hold the rest back from one kill to the next; and what the processes say
# shows how far they are. The clock only spreads the kills within a phase.

tasks=${MATRIX_TASKS:-$((SLOW > 1 ? 240 : 420))}    # of a cell
rounds=$((SLOW > 1 ? 2 : 3))      # in each cell
slots=3
holders=$((3 * slots - 2))        # on three workers: one at least on each
rows=()

# The item, the file of effects, the file of those that hold on, and what the names of the files begin with that end it.
work='case $0 in
?*h*) echo "$0" >>"$2"; until [ -e "$3-${0#*h}" ]; do sleep 0.02; done ;;
esac
echo "${0%h*}" >>"$1"'

# ---- the processes ----

# The flushes of ventilator and sink stand still while $T/no-flush is there.
under=(LD_PRELOAD="$BIN/../tests/disk_shim.so" ASAN_OPTIONS="$ASAN_OPTIONS:verify_asan_link_order=0" DISK_HOLD="$T/no-flush")

launch() {    # NAME: starts it where it was, and waits for nothing
    case $1 in
        ventilator) set -- "$1" "${under[@]}" "$BIN/ventilator" serve --data "$T/data-ventilator" --listen "$CLIENTS" --workers-listen "$WORKERS" \
            --lanes 0 --http off --shutdown-timeout 5s ;;
        sink) set -- "$1" "${under[@]}" "$BIN/sink" --ventilator "$WORKERS" --data "$T/data-sink" --results-listen "$RESULTS" --query-listen "$QUERY" ;;
        *) set -- "$1" "$BIN/worker" --ventilator "$WORKERS" --name "$1" --slots $slots --shutdown-timeout 60s --allow-commands ;;
    esac
    tail -n 20 "$T/$1.err" >>"$T/before-$1.err" 2>/dev/null
    : >"$T/$1.out"; : >"$T/$1.err"
    start "$@"
}

processes_of() {    # TARGET: into $names, in an order of chance
    local i j name
    names=("$1")
    [[ $1 == all* ]] || return 0
    names=(ventilator sink w1 w2 w3)
    for ((i = 4; i > 0; i--)); do
        pick 0 $i
        j=$picked name=${names[i]}
        names[i]=${names[j]} names[j]=$name
    done
}

kill_9() {    # NAME...
    local name
    for name in "$@"; do kill -KILL "${PIDS[$name]}" || fail "$name is gone before it was killed"; done
    for name in "$@"; do ended "$name" 137; done
    kills=$((kills + $#))
}

launch_all() { local name; for name in "$@"; do launch "$name"; done; }

all_ready() {    # NAME...
    local name
    for name in "$@"; do
        is_ready "$name" || { alive "${PIDS[$name]}" && return 1; fail "$name ended before it was ready"; }
    done
}
none_ready() { local name; for name in "$@"; do if is_ready "$name"; then return 1; fi; done; }

is_really() { [[ /proc/$1/exe -ef $2 ]]; }
leaves() { [[ $(<"$T/$1.err") == *"$2"* ]] || ! alive "${PIDS[$1]}"; }

pause() {    # MS: a moment that chance chose
    local fraction
    printf -v fraction '%d.%03d' $(($1 / 1000)) $(($1 % 1000))
    [ "$1" -eq 0 ] || nap "$fraction"
}
soon() { local i; for ((i = 0; i < 2000 * SLOW; i++)); do "$@" && return; nap 0.005; done; return 1; }

# ---- the ways to be killed ----

kill_once() {    # NAME...
    kill_9 "$@"
    launch_all "$@"
}

# A second time as soon as it is there again, or has just begun to do something.
kill_twice() {
    kill_once "$@"
    wait_for 15 "$* to be ready" all_ready "$@"
    pick 0 200
    pause "$picked"
    kill_once "$@"
}

# Again and again until it was hit while it ran and none of them was ready.
kill_recovering() {
    local i name before=0
    kill_9 "$@"
    for ((i = 0; i < 40 && before < 2; i++)); do
        launch_all "$@"
        for name in "$@"; do
            case $name in w?) soon is_really "${PIDS[$name]}" "$BIN/worker" ;; *) soon is_really "${PIDS[$name]}" "$BIN/$name" ;; esac
        done
        pick 0 $((20 * SLOW))
        pause "$picked"
        kill_9 "$@"
        if none_ready "$@"; then before=$((before + 1)); fi
    done
    [ $before -gt 0 ] || fail "$* was never killed before it was ready"
    launch_all "$@"
}

# SIGTERM, and the kill when it has said that it leaves, before it has left: who has a store can't close it, and a worker
# waits for what holds on.
kill_draining() {
    local name
    : >"$T/no-flush"
    for name in "$@"; do kill -TERM "${PIDS[$name]}"; done
    for name in "$@"; do soon leaves "$name" SIGTERM || fail "$name doesn't say that it was told to leave"; done
    pick 0 15
    pause "$picked"
    kill_9 "$@"
    rm "$T/no-flush"
    launch_all "$@"
}

# The client goes with the others; the next one has the same key, and all the items again.
kill_client() {
    kill -KILL "${PIDS[client]}"
    ended client 137
    kills=$((kills + 1))
}

# ---- a cell ----

held_least() { [ "$(sort -u "$T/holding" | wc -l)" -ge "$1" ]; }
barred() { [ "$(sort -u "$T/held" | grep -c "h$1\$")" -eq 2 ]; }
ran_or_barred() { ran_least "$T/ran" "$1" || barred "$2"; }

# Into $T/items. At the end of each round are two that hold on until the kill of that round is over.
make_items() {
    local i at marks=()
    for ((i = 1; i <= rounds; i++)); do
        at=$((tasks * i / rounds - 12))
        marks+=(-e "$at,$((at + 1))s/\$/h$i/")
    done
    seq "$tasks" | sed "${marks[@]}" >"$T/items"
    rm -f "$T"/go-[0-9]* "$T/results"
    : >"$T/ran"; : >"$T/held"
}

# The items a few at a time, and no more than those of a round before its kill: until then the client is submitting.
feed_slowly() {
    local at=1 round
    for ((round = 1; round <= rounds; round++)); do
        while [ $((at + 8)) -lt $((tasks * round / rounds)) ]; do
            sed -n "$at,$((at + 7))p" "$T/items"
            at=$((at + 8))
            nap 0.01
        done
        until [ -e "$T/go-$round" ]; do nap 0.02; done
    done
    sed -n "$at,\$p" "$T/items"
}

submit_cell() {    # submitting|…: starts the client, and knows the batch
    local options=(--wait --format json --no-bar --name "cell-$cell" --key "cell-$cell") from=$T/items
    if [ "$1" = submitting ]; then
        rm -f "$T/lines"
        mkfifo "$T/lines"
        feed_slowly >"$T/lines" &
        from=$T/lines
    fi
    "$BIN/ventilator" submit "${options[@]}" -- sh -c "$work" '{}' "$T/ran" "$T/held" "$T/go" \
        <"$from" >"$T/results" 2>"$T/client.err" &
    PIDS[client]=$!
    soon is_listed "cell-$cell" || fail "the batch is not listed"
}
is_listed() {
    batch=$(ventilator list --json 2>>"$T/status.err" | jq -r "select(.name == \"$1\") | .batch")
    [ -n "$batch" ]
}

reach() {    # PHASE ROUND
    local state=sealed
    [ "$1" = submitting ] && state=open
    pick 10 $((tasks / rounds - 30))
    wait_for 30 "$picked more tasks to have run" ran_or_barred $(($(runs_of "$T/ran") + picked)) "$2"
    assert_eq "state of the batch before the kill" "$(status_of "$batch" state)" $state
    alive "${PIDS[client]}" || fail "the client has ended before the kill"
}

run_cell() {    # PHASE TARGET
    local names kills=0 since round
    cell=$((cell + 1))
    since=$(now_ms)
    make_items
    submit_cell "$1"
    for ((round = 1; round <= rounds; round++)); do
        reach "$1" $round
        processes_of "$2"
        [ "$2" != all+client ] || kill_client
        case $1 in
            submitting | running) kill_once "${names[@]}" ;;
            draining) kill_draining "${names[@]}" ;;
            recovering) kill_recovering "${names[@]}" ;;
            twice) kill_twice "${names[@]}" ;;
        esac
        : >"$T/go-$round"
        wait_for 15 "$2 to be ready again" all_ready "${names[@]}"
        [ "$2" != all+client ] || submit_cell "$1"
    done
    ended client 0 60
    assert_each_once "$T/results" $tasks
    assert_all_ok "$batch" $tasks "$T/ran"
    # Running attempts outlive ventilator and sink, and what had ended is known to a worker or on disk: nothing runs again.
    case $2 in ventilator | sink) assert_eq "runs more than tasks" "$extra" 0 ;; esac
    note_cell "$1" "$2" "$since"
}

note_cell() {    # PHASE TARGET SINCE
    rows+=("$(printf '%-11s %-10s %5d %6d %9d %10d %7d' "$1" "$2" "$kills" "$tasks" "$extra" "$duplicates" $(($(now_ms) - $3)))")
    total_kills=$((total_kills + kills)) total_extra=$((total_extra + extra))
}

print_table() {
    printf '# %-11s %-10s %5s %6s %9s %10s %7s\n' phase target kills tasks runs-over duplicates ms
    printf '# %s\n' "${rows[@]}"
    printf '# %d kills, %d tasks, each with one verdict, %d runs more than tasks\n' "$total_kills" $((cell * tasks)) "$total_extra"
}

begin() {    # NUMBER
    seed "$1"
    cell=0 total_kills=0 total_extra=0
    export TARMAC_MAX_LOSSES=1000    # it is we who kill the workers, and not a task
    start_ventilator --shutdown-timeout 5s
    start_sink
    launch_all w1 w2 w3
    : >"$T/holding"
    holding=$(submit --name holders -a <(seq -f '%.0fhend' $holders) -- sh -c "$work" '{}' "$T/held-on" "$T/holding" "$T/go")
    wait_for 30 "the tasks that hold on to run" held_least $holders
}

finish() {
    local name
    : >"$T/go-end"
    assert_exit 0 ventilator wait "$holding"
    assert_all_ok "$holding" $holders "$T/held-on"
    print_table
    for name in w1 w2 w3 sink ventilator; do stop "$name" TERM 0; done
}

matrix() {    # NUMBER PHASE
    local target
    begin "$1"
    for target in ventilator sink w1 w2 w3 all all+client; do
        case $target in w2 | w3) [ $SLOW -eq 1 ] || continue ;; esac    # one worker is enough for a sanitizer
        run_cell "$2" "$target"
    done
    finish
}

test_killed_while_submitting() { matrix 1 submitting; }
test_killed_while_running() { matrix 2 running; }
test_killed_while_draining() { matrix 3 draining; }
test_killed_while_recovering() { matrix 4 recovering; }
test_killed_twice_in_a_row() { matrix 5 twice; }
