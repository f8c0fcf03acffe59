# shellcheck shell=bash disable=SC2016
# `ventilator run`: one machine, nothing else running.

test_doubles_in_some_order() {
    assert_exit 0 ventilator run -- sh -c 'echo $((2*$0))' {} ::: 1 2 3 4 5
    assert_eq "sorted output" "$(sort -n "$T/out" | paste -sd' ')" "2 4 6 8 10"
}

test_doubles_in_order() {
    assert_exit 0 ventilator run --ordered --slots 4 -- sh -c 'echo $((2*$0))' {} ::: 1 2 3 4 5
    assert_eq "output" "$(paste -sd' ' "$T/out")" "2 4 6 8 10"
}

test_timeout_of_an_attempt() {
    assert_exit 1 ventilator run --slots 2 --format json --timeout $((500 * PATIENCE))ms -- sleep {} ::: 0.1 600
    assert_between "time in ms" "$took" $((500 * PATIENCE)) $((500 * PATIENCE + late))
    assert_eq "verdicts" "$(verdicts "$T/out")" "deadline_exceeded=1 ok=1"
    assert_eq "verdict of the sleeper" "$(jq -r 'select(.index == 1) | .verdict' "$T/out")" deadline_exceeded
    assert_eq "reason of the sleeper" "$(jq -r 'select(.index == 1) | .reason' "$T/out")" timeout
    none_running "sleep 600" || fail "a sleep is left alive after the end of run"
}

test_timeout_of_what_ignores_sigterm() {
    assert_exit 1 ventilator run --format json --timeout 500ms --grace 300ms -- \
        sh -c 'trap "" TERM; (setsid sleep 601 &) ; while :; do sleep 602; done' ::: x
    assert_between "time in ms" "$took" 700 $((800 + late))
    assert_eq "verdicts" "$(verdicts "$T/out")" "deadline_exceeded=1"
    none_running "sleep 60" || fail "a descendant is left alive after the end of run"
}

test_deadline_of_the_batch() {
    assert_exit 124 ventilator run --slots 1 --format json --deadline ${PATIENCE}s --grace 500ms -- sleep {} ::: 0.1 603 604
    assert_between "time in ms" "$took" $((1000 * PATIENCE)) $((1000 * PATIENCE + 500 + late))
    assert_eq "verdicts" "$(verdicts "$T/out")" "deadline_exceeded=2 ok=1"
}

test_failure_is_told() {
    assert_exit 1 ventilator run --format json -- sh -c 'echo to-err >&2; exit $0' {} ::: 0 7
    assert_eq "verdicts" "$(verdicts "$T/out")" "failed=1 ok=1"
    assert_eq "exit of the failed" "$(jq -r 'select(.index == 1) | .exit' "$T/out")" 7
    assert_eq "stderr of the failed" "$(jq -r 'select(.index == 1) | .stderr' "$T/out")" "to-err"
}

test_command_that_does_not_exist() {
    assert_exit 1 ventilator run --format json -- no-such-program-here {} ::: a
    assert_eq "verdicts" "$(verdicts "$T/out")" "failed=1"
    assert_contains "$T/out" "no-such-program-here"
}

test_items_from_standard_input() {
    printf 'a b\nc\n\nd' | ventilator run --ordered -- printf '[%s]\n' {} >"$T/out" 2>"$T/err" || fail "exit $?: $(cat "$T/err")"
    assert_eq "output" "$(paste -sd' ' "$T/out")" "[a b] [c] [] [d]"
}

test_items_separated_by_nul() {
    printf 'a\nb\0c' | ventilator run -0 --ordered --format json -- printf %s {} >"$T/out" 2>"$T/err" || fail "exit $?: $(cat "$T/err")"
    assert_eq "stdouts" "$(jq -c .stdout "$T/out" | paste -sd' ')" '"a\nb" "c"'
}

test_items_of_a_file_and_a_range() {
    printf '1\n2\n' >"$T/items"
    assert_exit 0 ventilator run --ordered -a "$T/items" -- echo item {}
    assert_eq "output" "$(paste -sd, "$T/out")" "item 1,item 2"
    assert_exit 0 ventilator run --ordered --range 8-11 -- echo
    assert_eq "output" "$(paste -sd, "$T/out")" "8,9,10,11"
}

test_templates() {
    assert_exit 0 ventilator run --slots 1 --ordered -- echo {} {.} {/} {//} {/.} {#} {%} ::: /x/y.png z
    assert_eq "first line" "$(sed -n 1p "$T/out")" "/x/y.png /x/y y.png /x y 1 1"
    assert_eq "last words of the second line" "$(sed -n '2s/^z z z .* z \([0-9 ]*\)$/\1/p' "$T/out")" "2 1"
}

test_pipe_and_files() {
    printf 'one\ntwo\n' >"$T/f 1"
    printf 'three' >"$T/f2"
    assert_exit 0 ventilator run --pipe --ordered --files "$T/f 1" "$T/f2" -- wc -c
    assert_eq "output" "$(tr -s ' \n' ' ' <"$T/out" | sed 's/^ //; s/ $//')" "8 5"
}

test_blocks_end_at_lines() {
    seq 1 2000 | ventilator run --blocks 1K --pipe --ordered -- cat >"$T/out" 2>"$T/err" || fail "exit $?: $(cat "$T/err")"
    seq 1 2000 | cmp - "$T/out" || fail "the blocks in order are not the input"
}

test_environment_of_a_task() {
    assert_exit 0 ventilator run --timeout 30s --value user=ada --format text -- sh -c env {} ::: x
    local word
    for word in TARMAC_BATCH= TARMAC_INDEX=0 TARMAC_ATTEMPT= TARMAC_KEY= TARMAC_SLOT=1 TARMAC_BUDGET_MS= \
        TARMAC_TRACE_ID= TRACEPARENT=00- TARMAC_VALUE_USER=ada; do
        assert_contains "$T/out" "$word"
    done
    assert_exit 0 ventilator run -- sh -c env {} ::: x
    ! grep -q '^TARMAC_BUDGET_MS' "$T/out" || fail "TARMAC_BUDGET_MS is set for a task without a bound"
}

test_traceparent_is_inherited() {
    TRACEPARENT=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 assert_exit 0 ventilator run -- sh -c env {} ::: x
    assert_contains "$T/out" "TARMAC_TRACE_ID=4bf92f3577b34da6a3ce929d0e0e4736"
    ! grep -q 'TRACEPARENT=.*00f067aa0ba902b7' "$T/out" || fail "the task's traceparent should be a child of the batch's"
}

test_output_is_cut_at_its_limit() {
    assert_exit 0 ventilator run --max-output 1K --format json -- head -c {} /dev/zero ::: 5000
    assert_eq "truncated" "$(jq -r .truncated "$T/out")" true
}

test_output_that_is_not_text() {
    assert_exit 0 ventilator run --format json -- printf '\377\376' ::: x
    assert_eq "bytes" "$(jq -r .stdout_base64 "$T/out" | base64 -d | od -An -tx1 | tr -d ' \n')" fffe
}

test_out_dir() {
    assert_exit 0 ventilator run --format none --out-dir "$T/made" -- echo {} ::: a b c
    assert_eq "contents" "$(find "$T/made" -type f -exec cat {} + | sort | paste -sd' ')" "a b c"
}

test_dry_run_starts_nothing() {
    assert_exit 0 ventilator run --dry-run -- touch "$T/touched-{}" ::: a b
    assert_contains "$T/out" "touched-b"
    [ ! -e "$T/touched-a" ] || fail "a dry run ran the command"
}

test_interrupt_cancels() {
    start run "$BIN/ventilator" run --format json --grace 1s -- sh -c ': >"$0"; exec sleep 605' {} ::: "$T/started" "$T/too"
    wait_for 10 "the command to start" test -e "$T/started"
    kill -INT "${PIDS[run]}"
    ended run 130 8
    none_running "sleep 605" || fail "a sleep is left alive after the interrupt"
}

test_interrupt_is_told_once() {
    start run "$BIN/ventilator" run --slots 1 --grace 1s -- sh -c ': >"$1"; exec sleep 609' {} "$T/started" ::: {1..300}
    wait_for 10 "the command to start" test -e "$T/started"
    kill -INT "${PIDS[run]}"
    ended run 130 8
    assert_contains "$T/run.err" "cancelled before they started: interrupted by whoever submitted it"
    assert_between "lines on standard error" "$(wc -l <"$T/run.err")" 3 20
}

test_second_interrupt_leaves() {
    start run "$BIN/ventilator" run --slots 1 --grace 60s -- sh -c 'trap "" TERM; : >"$0"; while :; do sleep 606; done' {} ::: "$T/started"
    wait_for 10 "the command to start" test -e "$T/started"
    kill -INT "${PIDS[run]}"
    wait_for 5 "run to hear the first" grep -q 'once more leaves at once' "$T/run.err"
    nap 0.3
    alive "${PIDS[run]}" || fail "one interrupt should wait for the end of the batch"
    kill -INT "${PIDS[run]}"
    ended run 130 5
    wait_for 10 "everything to be gone" none_marked
}

test_kill_9_leaves_nothing_behind() {
    start run "$BIN/ventilator" run --slots 2 -- sh -c ': >"$0"; exec sleep 607' {} ::: "$T/started" "$T/too"
    wait_for 10 "the command to start" test -e "$T/started"
    kill -KILL "${PIDS[run]}"
    ended run 137
    wait_for 10 "its children to notice and go" none_marked
    assert_eq "what is left in the temporary folder" "$(ls -A "$TMPDIR")" ""
}

test_nothing_is_left_in_the_temporary_folder() {
    assert_exit 0 ventilator run -- true ::: 1 2 3
    assert_eq "what is left in the temporary folder" "$(ls -A "$TMPDIR")" ""
    none_marked || fail "a process is left alive after run: $(marked)"
}

test_no_items_is_an_empty_batch() {
    assert_exit 0 ventilator run -- echo {}
    assert_eq "output" "$(cat "$T/out")" ""
}
