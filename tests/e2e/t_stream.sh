# shellcheck shell=bash
# Submission streams: memory does not follow the length of the input, and work starts before its end.

feed() { seq "$1" "$2" >&"$input"; }

test_200000_lines_from_a_pipe() {
    start_cluster 1
    mkfifo "$T/lines"
    "$BIN/ventilator" submit -- true {} <"$T/lines" >"$T/id" 2>"$T/submit.err" &
    PIDS[submit]=$!
    exec {input}>"$T/lines"
    local batch early_v early_c late_v late_c

    feed 1 30000
    wait_for 20 "the batch to be known" eval '[ "$(ventilator list --json 2>/dev/null | jq -rs "flatten | length")" -ge 1 ] 2>/dev/null'
    batch=$(ventilator list --json | jq -rs 'flatten | .[0].batch')
    wait_for 20 "the first lines to be admitted" status_reaches "$batch" total 10000
    wait_for 20 "work to start before the input ends" status_reaches "$batch" ok 1
    early_v=$(anonymous_kb "${PIDS[ventilator]}") early_c=$(anonymous_kb "${PIDS[submit]}")

    feed 30001 200000
    wait_for 60 "most lines to be admitted" status_reaches "$batch" total 180000
    late_v=$(anonymous_kb "${PIDS[ventilator]}") late_c=$(anonymous_kb "${PIDS[submit]}")
    assert_eq "state with its submitter there" "$(status_of "$batch" state)" open

    exec {input}>&-
    ended submit 0 30
    assert_eq "total" "$(status_of "$batch" total)" 200000
    if [ -z "$SAN" ]; then
        echo "# ventilator: $early_v kB, then $late_v kB; client: $early_c kB, then $late_c kB"
        assert_between "growth of the ventilator in kB" $((late_v - early_v)) -100000 6000
        assert_between "growth of the client in kB" $((late_c - early_c)) -100000 3000
    fi
    assert_exit 0 ventilator cancel "$batch"
    assert_exit 130 ventilator wait "$batch"
    local recorded
    recorded=$(ventilator status "$batch" --json | jq '.ok + .cancelled')
    assert_eq "tasks with a verdict" "$recorded" 200000
}

test_submission_goes_on_after_a_restart_of_the_ventilator() {
    start_cluster 0
    mkfifo "$T/lines"
    "$BIN/ventilator" submit --name survivor -- true {} <"$T/lines" >"$T/id" 2>"$T/submit.err" &
    PIDS[submit]=$!
    exec {input}>"$T/lines"
    feed 1 20000
    wait_for 20 "the batch to be known" eval '[ "$(ventilator list --json 2>/dev/null | jq -rs "flatten | length")" -ge 1 ] 2>/dev/null'
    kill -KILL "${PIDS[ventilator]}"
    ended ventilator 137
    eval "start_ventilator $input>&-"    # or it would keep the pipe open
    feed 20001 30000
    exec {input}>&-
    ended submit 0 30
    assert_eq "total" "$(status_of "$(cat "$T/id")" total)" 30000
    assert_exit 0 ventilator cancel "$(cat "$T/id")"
}

test_same_key_is_the_same_batch() {
    start_cluster 1
    local first second
    first=$(submit --key nightly-7 -- echo {} ::: 1 2)
    [ ! -s "$T/submit.err" ] || fail "a new key says: $(cat "$T/submit.err")"
    second=$(submit --key nightly-7 --timeout 9s -- echo {} ::: 1 2)
    assert_contains "$T/submit.err" "batch $first of --key nightly-7 was there already"
    assert_eq "second id" "$second" "$first"
    assert_exit 0 ventilator wait "$first"
    assert_eq "total" "$(status_of "$first" total)" 2
    assert_refused 4 "nightly-7" ventilator submit --key nightly-7 -- echo {} ::: 1 other
}
