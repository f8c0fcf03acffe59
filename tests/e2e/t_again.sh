# shellcheck shell=bash
# retry BATCH: a new batch of those tasks of a complete one that did not end well.

# Fails for items that FILE names, until it is gone.
# shellcheck disable=SC2016
fails_if_named='if grep -qxF -- "$0" "$1" 2>/dev/null; then exit 7; fi; echo "did $0"'
complete() { [ "$(status_of "$1" state)" = complete ]; }
has_file() { [ -s "$1" ]; }

test_only_what_failed_and_with_its_payload() {
    start_cluster 1 --slots 2
    local batch again
    printf '%s\n' b d "it's e" >"$T/bad"
    batch=$(submit --name mine --value user=ada -- sh -c "$fails_if_named" {} "$T/bad" ::: a b c d "it's e" f)
    assert_refused 4 "is not complete" ventilator retry "$(submit -- sleep {} ::: 681 | tee "$T/running")"
    assert_exit 0 ventilator cancel "$(cat "$T/running")"
    assert_exit 1 ventilator wait "$batch"
    rm "$T/bad"
    again=$(ventilator retry "$batch" 2>"$T/err") || fail "retry exits $?: $(cat "$T/err")"
    assert_exit 0 ventilator wait "$again"
    assert_exit 0 ventilator results "$again" --ordered
    assert_eq "what it did" "$(tr '\n' , <"$T/out")" "did b,did d,did it's e,"
    assert_eq "name" "$(status_of "$again" name)" mine
    assert_exit 0 ventilator results "$again" --format json
    assert_eq "values" "$(jq -r .values.user "$T/out" | sort -u)" ada
    # Nothing is left to be tried again.
    assert_exit 0 ventilator retry "$again"
    assert_contains "$T/err" "nothing to try again"
    [ ! -s "$T/out" ] || fail "an id was printed for nothing: $(cat "$T/out")"
    assert_exit 0 ventilator retry --verdict lost,cancelled "$batch"
    assert_contains "$T/err" "nothing to try again"
    assert_refused 4 "nothing" ventilator retry nothing
    assert_refused 2 "retry" ventilator retry
    ventilator purge "$batch" >/dev/null || fail "purge exits $?"
    assert_refused 4 "purged" ventilator retry "$batch"
    # One that was told to wait prints what came of it.
    assert_exit 0 ventilator retry --wait --no-bar --verdict ok --format json "$again"
    assert_each_once "$T/out" 3
}

test_ranges_large_payloads_and_tasks_with_their_own_bounds() {
    start_cluster 1 --slots 4
    local batch again
    batch=$(submit --range 100-5199 -- sh -c 'exit $(($0 % 17 == 0))' {})
    assert_exit 1 ventilator wait "$batch"
    assert_exit 1 ventilator retry --wait --no-bar --format json "$batch"
    assert_each_once "$T/out" 300
    assert_eq "verdicts" "$(verdicts "$T/out")" "failed=300"
    # Frames of few tasks, on both sides.
    mkdir "$T/items"
    local i
    for ((i = 0; i < 20; i++)); do head -c $((70000 + i)) /dev/urandom | base64 -w 0 | tr -d '\n' >"$T/items/$i"; done
    # shellcheck disable=SC2016
    batch=$(submit --pipe --files "$T"/items/* --halt never -- sh -c 'sha256sum; exit $((TARMAC_INDEX % 2))')
    assert_exit 1 ventilator wait "$batch"
    assert_exit 0 ventilator results "$batch" --format json --verdict failed --ordered
    jq -r '.stdout + .values.file' "$T/out" | sed 's/.*items/items/' >"$T/first"
    assert_eq "failed at first" "$(wc -l <"$T/out")" 10
    jq -r .stdout "$T/out" >"$T/sums"
    assert_exit 1 ventilator retry --wait --no-bar --format json --ordered "$batch"
    jq -r .stdout "$T/out" | cmp -s - "$T/sums" || fail "the payloads differ"
    assert_eq "files" "$(jq -r .values.file "$T/out" | sed 's/.*items/items/' | wc -l)" 10
    # A task's own timeout goes with it.
    printf '%s\n' '{"payload":"0.1"}' '{"payload":"682","timeout":"300ms","values":{"k":"v"}}' |
        ventilator submit --wait --no-bar --grace 100ms --json-lines -- sleep {} >/dev/null 2>&1
    batch=$(ventilator list --json | jq -r .batch | tail -n 1)
    assert_exit 1 ventilator retry --wait --no-bar --format json "$batch"
    assert_eq "record" "$(jq -r '"\(.index) \(.verdict) \(.reason) \(.values.k)"' "$T/out")" "0 deadline_exceeded timeout v"
}

test_a_ventilator_that_is_killed_meanwhile() {
    start_cluster 2 --slots 4
    local batch again code=0
    batch=$(seq 300000 | ventilator submit -a - --handler none 2>/dev/null)
    assert_exit 0 ventilator cancel "$batch"
    wait_for 30 "the end of the batch" complete "$batch"
    ventilator retry "$batch" >"$T/again" 2>"$T/retry.err" &
    local retry=$!
    wait_for 20 "the new batch" has_file "$T/again"
    stop ventilator KILL 137
    start_ventilator
    wait "$retry" || code=$?
    assert_eq "exit code of retry" "$code" 0
    again=$(cat "$T/again")
    assert_eq "tasks" "$(status_of "$again" 'total')" 300000
    assert_eq "state" "$(status_of "$again" 'state')" sealed
    assert_exit 0 ventilator cancel "$again"
}
