# shellcheck shell=bash disable=SC2016,SC2154
# Poison: a task whose handler kills its worker is judged `lost` in the end, with the workers that it took along named
# in its record; nobody else is. The workers are started again as a service manager would.

# The parent of a handler is its slot's keeper, and the keeper's is the worker.
kill_worker='worker=$(sed -n "s/^PPid:[[:blank:]]*//p" "/proc/$PPID/status")
case $(readlink "/proc/$worker/exe") in */worker) ;; *) echo "$worker is no worker" >&2; exit 9 ;; esac
kill -KILL "$worker"; sleep 600'

# The item, the file of effects, the file where poison leaves its number before it acts.
work='case $0 in
*poison) echo "${0%poison}" >>"$2"; '$kill_worker' ;;
esac
echo "$0" >>"$1"'

supervise() {    # NAME SLOTS: runs a worker again and again, until this is told to end
    local child='' code=0 ending=''
    trap 'ending=1; kill -TERM $child 2>/dev/null' TERM
    while [ -z "$ending" ]; do
        "$BIN/worker" --ventilator "$WORKERS" --name "$1" --slots "$2" --shutdown-timeout 2s --allow-commands </dev/null &
        child=$!
        wait $child
        code=$?
        if [ -n "$ending" ]; then
            wait $child
            exit $?
        fi
        echo "$1 $code" >>"$T/ends"
    done
    exit "$code"
}

start_supervised() {    # SLOTS NAME...
    local slots=$1 name
    shift
    : >"$T/ends"
    for name in "$@"; do
        supervise "$name" "$slots" >>"$T/$name.out" 2>>"$T/$name.err" &
        PIDS[$name]=$!
    done
}

make_items() {    # N POISON...: the items 1 to N, some of them poison
    local n=$1 marks=() i
    shift
    for i in "$@"; do marks+=(-e "${i}s/\$/poison/"); done
    seq "$n" | sed "${marks[@]}" >"$T/items"
    : >"$T/ran"; : >"$T/tasted"
}

# Just these are lost, each for the workers that its record names; all others are ok.
assert_only_lost() {    # BATCH N POISON...
    local batch=$1 n=$2 index line starts
    shift 2
    assert_exit 0 ventilator results "$batch" --format json
    assert_each_once "$T/out" "$n"
    assert_eq "verdicts" "$(verdicts "$T/out")" "lost=$# ok=$((n - $#))"
    assert_eq "lost items" "$(jq -r 'select(.verdict == "lost") | .index + 1' "$T/out" | sort -n | paste -sd' ')" "$*"
    sort -un "$T/ran" | cmp -s - <(seq "$n" | grep -vxF "$(printf '%s\n' "$@")") || fail "not all others have run"
    for index in "$@"; do
        line=$(jq -rc "select(.index == $((index - 1)))" "$T/out")
        starts=$(grep -cx "$index" "$T/tasted")
        assert_between "starts of poison $index" "$starts" 1 3
        assert_eq "reason of $index" "$(jq -r .reason <<<"$line")" losses
        jq -r .sentence <<<"$line" | grep -qE '3 workers.*w[123]' || fail "the record of $index should name its workers: $line"
        echo "# task $index started $starts times: $(jq -r .sentence <<<"$line")"
    done
    assert_eq "workers that ended by themselves" "$(grep -vc ' 137$' "$T/ends")" 0
    echo "# $(wc -l <"$T/ends") workers lost, $(($(runs_of "$T/ran") - n + $#)) runs more than tasks"
}

test_poison_among_300_tasks() {
    local batch
    start_ventilator
    start_sink
    start_supervised 2 w1 w2 w3
    make_items 300 40 41 170
    batch=$(submit -a "$T/items" -- sh -c "$work" '{}' "$T/ran" "$T/tasted")
    assert_exit 1 ventilator wait "$batch"
    assert_only_lost "$batch" 300 40 41 170
    assert_exit 0 ventilator submit --wait -- echo {} ::: fine
    assert_eq "output" "$(cat "$T/out")" fine
}

test_poison_with_one_worker() {
    local batch other
    start_ventilator
    start_sink
    start_supervised 4 w1
    make_items 60 1 30 60
    batch=$(submit -a "$T/items" -- sh -c "$work" '{}' "$T/ran" "$T/tasted")
    other=$(submit --range 1-100 -- sh -c "$effect" '{}' "$T/other")
    assert_exit 1 ventilator wait "$batch"
    assert_only_lost "$batch" 60 1 30 60
    assert_exit 0 ventilator wait "$other"
    assert_all_ok "$other" 100 "$T/other"
}

# A new ventilator counts losses anew, and says so in the record; poison ends all the same.
test_poison_outlives_a_ventilator() {
    local batch
    start_ventilator
    start_sink
    start_supervised 2 w1 w2
    make_items 20 5
    batch=$(submit -a "$T/items" -- sh -c "$work" '{}' "$T/ran" "$T/tasted")
    wait_for 20 "the first loss" ran_least "$T/ends" 1
    kill -KILL "${PIDS[ventilator]}"
    ended ventilator 137
    start_ventilator
    assert_exit 1 ventilator wait "$batch"
    assert_exit 0 ventilator results "$batch" --format json
    assert_each_once "$T/out" 20
    assert_eq "verdicts" "$(verdicts "$T/out")" "lost=1 ok=19"
    assert_between "starts of the poison" "$(runs_of "$T/tasted")" 1 6
    echo "# started $(runs_of "$T/tasted") times: $(jq -r 'select(.verdict == "lost") | .sentence' "$T/out")"
}

# With --retry-on lost a loss over the limit is one try.
test_poison_that_is_tried_again() {
    local batch
    start_ventilator
    start_sink
    start_supervised 2 w1 w2
    : >"$T/ran"; : >"$T/tasted"
    batch=$(submit --retry-on lost --retries 3 --backoff 10ms,1,10ms -- sh -c \
        'echo "$0" >>"$2"; [ "$(wc -l <"$2")" -ge 5 ] || { '"$kill_worker"'; }; echo "$0" >>"$1"' '{}' "$T/ran" "$T/tasted" ::: 1)
    assert_exit 0 ventilator wait "$batch"
    assert_all_ok "$batch" 1 "$T/ran"
    assert_eq "starts" "$(runs_of "$T/tasted")" 5
}
