# shellcheck shell=bash disable=SC2016,SC2154
# SIGKILL of any of the processes, and of all at once, at any moment while a batch runs on all slots, whose side
# effects are counted outside: every task is recorded once, and none is called `ok` that never ran.

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
    local n=$((SLOW > 1 ? 2000 : 10000)) kills=0 names target
    seed
    export TARMAC_MAX_LOSSES=1000    # it is we who kill the workers, and not a task
    start_cluster 3 --slots 2
    seq $n >"$T/items"
    start client "$BIN/ventilator" submit --wait --name everything --format json --no-bar -a "$T/items" -- sh -c "$effect" '{}' "$T/ran"
    names=(ventilator sink w1 w2 w3 all)
    while alive "${PIDS[client]}" && [ $kills -lt 20 ]; do
        pick 300 800
        nap 0.$picked
        pick 0 5
        target=${names[picked]}
        if [ "$target" = all ]; then restart_killed ventilator sink w1 w2 w3; else restart_killed "$target"; fi
        kills=$((kills + 1))
    done
    ended client 0 100
    assert_each_once "$T/client.out" "$n"
    assert_all_ok "$(ventilator list --json | jq -r 'select(.name == "everything") | .batch')" "$n" "$T/ran"
    echo "# $kills kills, $n tasks, $extra runs more than tasks, $duplicates duplicates"
}
