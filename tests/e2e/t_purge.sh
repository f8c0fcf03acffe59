# shellcheck shell=bash disable=SC2016
# purge and retention: complete batches are forgotten by both sides, whatever crashes; the space goes back.

# Whether neither side keeps anything of it any more.
sink_has_forgotten() { ! ventilator purge "$1" 2>&1 | grep -q 'still to forget'; }

size_of() { stat -c '%b %B' "$1" "$1-bulk" | awk '{ sum += $1 * $2 } END { print sum }'; }    # with its large bodies, without holes
smaller_than() { [ "$(size_of "$1")" -lt "$2" ]; }    # FILE BYTES

test_purge_one() {
    start_cluster 1
    local batch
    batch=$(submit --key nightly -- echo {} ::: 1 2 3)
    assert_exit 0 ventilator wait "$batch"
    assert_exit 0 ventilator purge "$batch"
    assert_eq "answer" "$(cat "$T/out")" "$batch is purged"
    [ ! -s "$T/err" ] || fail "the sink is here, and hears of it at once: $(cat "$T/err")"
    assert_exit 0 ventilator purge "$batch"
    assert_eq "the same again" "$(cat "$T/out")" "$batch is purged already"
    local command
    for command in status results cancel explain seal wait; do
        assert_refused 4 "$batch was purged at UTC" ventilator "$command" "$batch"
    done
    assert_exit 0 ventilator list --json
    [ ! -s "$T/out" ] || fail "a purged batch should not be listed: $(cat "$T/out")"
    assert_refused 4 "nightly $batch purged --key" ventilator submit --key nightly -- echo {} ::: 1 2 3
    batch=$(submit --key another -- echo {} ::: 1)
    assert_exit 0 ventilator wait "$batch"
}

start_pretender() { start_ready pretender "$B/tests/pretender" "$WORKERS" pretender 64; }

# The files without their logs: those are reused, and shrink when the program ends.
journal() { echo "$T/data-ventilator/journal.db"; }
results() { echo "$T/data-sink/results.db"; }

# Submits a million tasks of 40 bytes, waits until they have ended with 64 bytes of output each, prints the batch.
million() {
    local batch
    batch=$(seq -f 'task %034.0f' 1000000 | ventilator submit -- true 2>"$T/submit.err") ||
        fail "submit exits $?: $(cat "$T/submit.err")"
    ventilator wait "$batch" >"$T/wait.out" 2>&1 || fail "wait exits $?: $(tail -c 500 "$T/wait.out")"
    echo "$batch"
}

# Both sides have given its space back, and the sink has forgotten it.
assert_purged() {    # BATCH BYTES_OF_JOURNAL BYTES_OF_RESULTS
    wait_for 60 "the sink to forget $1" sink_has_forgotten "$1"
    wait_for 60 "journal.db to shrink from $2" smaller_than "$(journal)" $(($2 / 5))
    wait_for 60 "results.db to shrink from $3" smaller_than "$(results)" $(($3 / 5))
    assert_refused 4 "$1 was purged" ventilator status "$1"
    [ -z "$(ventilator list --json)" ] || fail "the purged batch is still listed"
}

test_plain_space_goes_back() {
    start_ventilator
    start_sink
    start_pretender
    local batch of_journal of_results
    batch=$(million) || exit
    of_journal=$(size_of "$(journal)")
    of_results=$(size_of "$(results)")
    assert_between "bytes of journal.db" "$of_journal" 20000000 400000000
    assert_between "bytes of results.db" "$of_results" 40000000 400000000
    assert_exit 0 ventilator purge "$batch"
    assert_purged "$batch" "$of_journal" "$of_results"
    # And it is used again: as much once more makes the files no longer than before.
    batch=$(million) || exit
    assert_between "bytes of journal.db" "$(size_of "$(journal)")" 20000000 $((of_journal * 2))
    assert_between "bytes of results.db" "$(size_of "$(results)")" 40000000 $((of_results * 2))
}

# At moments that are spread over the purge. Whenever the request was not answered, it may be as if it had never been made.
kill_during_a_purge() {    # PROGRAM
    start_ventilator
    start_sink
    start_pretender
    local batch of_journal of_results wait client
    for wait in 0.001 0.01 0.03 0.1; do
        batch=$(million) || exit
        of_journal=$(size_of "$(journal)")
        of_results=$(size_of "$(results)")
        ventilator purge "$batch" >"$T/purge.out" 2>"$T/purge.err" &
        client=$!
        nap $wait
        kill -KILL "${PIDS[$1]}"
        ended "$1" 137
        "start_$1"
        wait $client || { [ $? -eq 4 ] && grep -q 'not back yet' "$T/purge.err"; } || fail "purge exits $?: $(cat "$T/purge.err")"
        wait_for 20 "the second purge" ventilator purge "$batch"
        assert_purged "$batch" "$of_journal" "$of_results"
    done
}
test_plain_ventilator_is_killed_during_a_purge() { kill_during_a_purge ventilator; }
test_plain_sink_is_killed_during_a_purge() { kill_during_a_purge sink; }

test_sink_is_away_during_a_purge() {
    start_cluster 1
    local batch
    batch=$(submit -- echo {} ::: 1 2 3)
    assert_exit 0 ventilator wait "$batch"
    stop sink TERM 0
    assert_exit 0 ventilator purge "$batch"
    assert_contains "$T/err" "1 purged batch still to forget"
    stop ventilator KILL 137
    start_ventilator
    ! sink_has_forgotten "$batch" || fail "no sink has answered"
    start_sink
    wait_for 20 "the sink to forget it" sink_has_forgotten "$batch"
    stop sink TERM 0
    sink_has_forgotten "$batch" || fail "what the sink has forgotten is forgotten"
}

test_old_ones() {
    start_cluster 1
    local first second open
    first=$(submit -- echo {} ::: 1)
    second=$(submit -- echo {} ::: 1)
    open=$(submit -- sh -c 'while [ ! -e "$0" ]; do sleep 0.05; done' "$T/go" ::: 1)
    assert_exit 0 ventilator wait "$first"
    assert_exit 0 ventilator wait "$second"
    wait_for 10 "the third to run" status_reaches "$open" running 1
    assert_refused 4 "$open is not complete wait cancel" ventilator purge "$open"
    assert_exit 0 ventilator purge --older-than 1d
    assert_eq "answer" "$(cut -d' ' -f1,2,3 "$T/out")" "0 purged, 0"
    assert_exit 0 ventilator purge --older-than 0s
    assert_eq "answer" "$(cat "$T/out")" "2 purged, 1 passed over because they are not complete, 0 because workers hold attempts of them"
    touch "$T/go"
    assert_exit 0 ventilator wait "$open"
    assert_exit 0 ventilator purge "$open"
    assert_refused 2 "not both" ventilator purge
    assert_refused 2 "not both" ventilator purge "$open" --older-than 1s
    assert_refused 4 "there is no batch" ventilator purge nothing
}

is_purged() { ventilator status "$1" 2>&1 | grep -q 'was purged'; }

test_retention() {
    start_cluster 1
    local batch
    batch=$(submit --key often -- echo {} ::: 1)
    assert_exit 0 ventilator wait "$batch"
    assert_exit 0 ventilator results "$batch"
    # Nothing here has to happen within a time: it is another one's for each ventilator.
    stop ventilator TERM 0
    start_ventilator --retain 10ms --keep-keys 1h
    wait_for 10 "the batch to be purged by itself" is_purged "$batch"
    assert_contains "$T/ventilator.err" "by=retention"
    assert_refused 4 "often $batch --key" ventilator submit --key often -- echo {} ::: 1
    stop ventilator TERM 0
    start_ventilator --retain 10ms --keep-keys 10ms
    wait_for 10 "the key to be free again" ventilator submit --key often -- echo {} ::: 1
}

test_lists_of_many() {
    start_ventilator
    local i
    for ((i = 1; i <= 300; i++)); do submit --name "number $i" --range 1-2 --handler none >/dev/null; done
    ventilator list --json | jq -r .name | cut -d' ' -f2 | cmp -s - <(seq 300) || fail "list --json should have 300 batches in their order"
    assert_exit 0 ventilator list
    assert_eq "lines of list" "$(wc -l <"$T/out")" 301
    assert_exit 0 ventilator status
    assert_eq "lines of status" "$(wc -l <"$T/out")" 302
    assert_eq "headers" "$(grep -c '^BATCH ' "$T/out")" 1
}
