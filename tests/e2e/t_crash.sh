# SIGKILL of any of the processes, and of all at once, again and again while a batch runs, whose side effects are
# counted outside: every task is recorded once, and none is called `ok` that never ran.

restart_killed() {    # NAME...: kills all of them, then starts them again; workers don't wait to be welcomed
    local name
    for name in "$@"; do kill -KILL "${PIDS[$name]}"; done
    for name in "$@"; do ended "$name" 137; done
    for name in "$@"; do
        case $name in
            ventilator) start_ventilator ;;
            sink) start_sink ;;
            *) start "$name" "$BIN/worker" --ventilator "$WORKERS" --name "$name" --slots 2 --shutdown-timeout 2s --allow-commands ;;
        esac
    done
}

test_kill_9_of_everything_in_turn() {
    local seed=${SEED:-$((($(now_ms) / 7) % 32768))} n=$((SLOW > 1 ? 2000 : 10000)) kills=0 names pick pid
    echo "# SEED=$seed"
    RANDOM=$seed
    export TARMAC_MAX_LOSSES=1000    # it is we who kill the workers, and not a task
    start_cluster 3 --slots 2
    seq $n >"$T/items"
    "$BIN/ventilator" submit --wait --format json --no-bar -a "$T/items" -- sh -c 'echo $0 >>"$1"' '{}' "$T/ran" \
        >"$T/results" 2>"$T/submit.err" </dev/null &
    pid=$!
    names=(ventilator sink w1 w2 w3 all)
    while alive $pid && [ $kills -lt 20 ]; do
        nap 0.$((RANDOM % 6 + 3))
        pick=${names[RANDOM % 6]}
        if [ "$pick" = all ]; then restart_killed ventilator sink w1 w2 w3; else restart_killed "$pick"; fi
        kills=$((kills + 1))
    done
    wait_for $((100 * SLOW)) "the end of the batch after $kills kills" not_alive $pid
    wait $pid || fail "submit --wait exits $? after $kills kills: $(tail -c 1000 "$T/submit.err")"
    echo "# $kills kills"
    assert_each_once "$T/results" "$n"
    assert_eq "verdicts" "$(verdicts "$T/results")" "ok=$n"
    assert_eq "tasks that ran" "$(sort -u "$T/ran" | wc -l)" "$n"
}
