# shellcheck shell=bash
# --trace-file of the sink: one span for each attempt that is recorded, child of the batch's traceparent.

span() { jq -c '.resourceSpans[0].scopeSpans[0].spans[0]' "$T/spans"; }
spans() { if [ -e "${1:-$T/spans}" ]; then wc -l <"${1:-$T/spans}"; else echo 0; fi; }
has_spans() { [ "$(spans "${2:-}")" -ge "$1" ]; }
# What the spans of a batch say of one attribute, sorted.
attribute() {    # BATCH KEY
    jq -r --arg batch "$1" --arg key "$2" '.resourceSpans[].scopeSpans[].spans[]
        | select(.attributes | any(.key == "tarmac.batch" and .value.stringValue == $batch))
        | [.attributes[] | select(.key == $key) | .value | (.stringValue // .intValue // .boolValue)][0]' "$T/spans" | sort | uniq -c | awk '{ print $2 "=" $1 }' | paste -sd' '
}

start_traced() {
    start_ventilator
    start_sink --trace-file "$T/spans"
    start_worker w1 --slots 4
}

test_each_attempt_has_a_span() {
    local trace=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 ok failed stuck
    start_traced
    ok=$(submit --traceparent $trace -- sh -c 'echo "$TRACEPARENT"' ::: 1 2 3)
    failed=$(submit --retries 1 --backoff 1ms,2,1ms -- sh -c 'exit 3' ::: 1)
    stuck=$(submit --timeout 300ms --grace 100ms -- sh -c 'trap "" TERM; while :; do read -rt 1 <>/dev/null; done' ::: 1)
    for batch in "$ok" "$failed" "$stuck"; do ventilator wait "$batch" >/dev/null 2>&1; done
    wait_for 30 "six spans" has_spans 6
    assert_eq "verdicts" "$(attribute "$ok" tarmac.verdict)" "ok=3"
    assert_eq "verdicts of the retried" "$(attribute "$failed" tarmac.verdict)" "failed=2"
    assert_eq "attempts of the retried" "$(attribute "$failed" tarmac.attempt)" "1=1 2=1"
    assert_eq "what settled" "$(attribute "$failed" tarmac.settled)" "false=1 true=1"
    assert_eq "exit codes" "$(attribute "$failed" tarmac.exit_code)" "3=2"
    assert_eq "the killed one" "$(attribute "$stuck" tarmac.verdict) $(attribute "$stuck" tarmac.reason)" "deadline_exceeded=1 timeout=1"
    # A span is the one that its handler has heard of, in the batch's trace.
    ventilator results "$ok" --format json | jq -r '.stdout' | tr -d '\n' | sed 's/00-/\n/g' | sed -n 's/\(.\{32\}\)-\(.\{16\}\)-.*/\1 \2/p' | sort >"$T/heard"
    span | jq -r 'select(.parentSpanId == "b7ad6b7169203331") | "\(.traceId) \(.spanId)"' | sort >"$T/written"
    cmp "$T/heard" "$T/written" || fail "handlers heard $(cat "$T/heard"), written is $(cat "$T/written")"
    assert_eq "spans" "$(wc -l <"$T/written")" 3
    span | jq -e 'select((.endTimeUnixNano | tonumber) < (.startTimeUnixNano | tonumber))' >/dev/null && fail "a span ends before it begins"
    [ "$(span | jq -r '.status.code' | sort | uniq -c | awk '{ print $2 "=" $1 }' | paste -sd' ')" = "1=3 2=3" ] || fail "wrong status codes"
}

test_a_trace_file_is_rotated() {
    local batch
    start_traced
    batch=$(submit -- true ::: 1 2)
    ventilator wait "$batch" >/dev/null 2>&1
    wait_for 30 "two spans" has_spans 2
    mv "$T/spans" "$T/spans.1"
    kill -HUP "${PIDS[sink]}"
    wait_for 30 "the new file" test -e "$T/spans"
    batch=$(submit -- true ::: 1 2 3)
    ventilator wait "$batch" >/dev/null 2>&1
    wait_for 30 "three spans" has_spans 3
    assert_eq "spans before" "$(spans "$T/spans.1")" 2
    assert_eq "spans after" "$(spans)" 3
    stop sink TERM 0
}

# Nothing that was recorded waits for the trace, and what is missing in it is said.
test_a_full_disk_loses_spans_only() {
    local batch
    start_ventilator
    start_sink --trace-file /dev/full
    start_worker w1
    batch=$(submit -- true ::: 1 2 3 4)
    assert_exit 0 ventilator wait "$batch"
    wait_for 30 "the sentence about dropped spans" grep -q 'trace_dropped.*file=/dev/full.*No space left' "$T/sink.err"
    assert_eq "recorded" "$(status_of "$batch" ok)" 4
}

test_a_trace_file_that_cannot_be_written_is_refused() {
    assert_refused 2 "trace-file $T/none/spans" "$BIN/sink" --ventilator "ipc://$T/w" --data "$T/data-sink" --results-listen tcp://127.0.0.1:0 \
        --query-listen tcp://127.0.0.1:0 --trace-file "$T/none/spans"
}
