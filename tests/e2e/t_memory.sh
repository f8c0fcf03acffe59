# shellcheck shell=bash disable=SC2016
# Memory that follows what is in flight and not what is queued, and restarts that don't follow it either. Also what
# tools/reliability.sh measures with. Memory under a sanitizer says nothing: the tests are plain ones.

# ---- measuring ----

MIB=1024    # in kB, as everything here
lines_of_64() { yes "$(printf '%064d' 7)" | head -n "$1"; }
folder_kb() { du -sk "$1" | cut -f1; }

# Anonymous memory now, when the last thing that was submitted has come to rest.
memory_of() { anonymous_kb "${PIDS[$1]}"; }

# Runs a command with standard output through `wc -l` into $printed, and notes the most anonymous memory that it, the
# ventilator and the sink have meanwhile: $peak_client, $peak_ventilator, $peak_sink.
peaks_during() {    # COMMAND...
    local now
    peak_client=0 peak_ventilator=0 peak_sink=0
    mkfifo "$T/counted"
    wc -l <"$T/counted" >"$T/count" &
    local counter=$!
    "$@" >"$T/counted" 2>"$T/peaks.err" </dev/null &
    PIDS[client]=$!
    while alive "${PIDS[client]}"; do
        now=$(memory_of client 2>/dev/null); [ "${now:-0}" -le "$peak_client" ] || peak_client=$now
        now=$(memory_of ventilator); [ "$now" -le "$peak_ventilator" ] || peak_ventilator=$now
        now=$(memory_of sink); [ "$now" -le "$peak_sink" ] || peak_sink=$now
        nap 0.02
    done
    ended client 0
    wait "$counter"
    printed=$(cat "$T/count")
    rm "$T/counted"
}

submit_lines() { lines_of_64 "$1" | "$BIN/ventilator" submit -- true '{}' 2>"$T/submit.err" || fail "submit exits $?: $(cat "$T/submit.err")"; }

# The backlogs of N_SMALL and of N_LARGE tasks of 64 bytes: $ventilator_small, $ventilator_large, $sink_small, $sink_large;
# the id of the large one in $large. The range of N_LARGE adds $range_kb to the folder.
measure_backlogs() {    # N_SMALL N_LARGE
    local before
    submit_lines "$1" >"$T/small"
    ventilator_small=$(memory_of ventilator) sink_small=$(memory_of sink)
    since=$(now_ms)
    large=$(submit_lines "$2")
    submit_ms=$(($(now_ms) - since))
    assert_eq "total" "$(status_of "$large" total)" "$2"
    ventilator_large=$(memory_of ventilator) sink_large=$(memory_of sink)
    backlog_kb=$(folder_kb "$T/data-ventilator")
    before=$backlog_kb
    range=$(submit --range "1-$2" -- true '{}')
    assert_eq "total of the range" "$(status_of "$range" total)" "$2"
    range_kb=$(($(folder_kb "$T/data-ventilator") - before))
    ventilator_range=$(memory_of ventilator)
}

# From the start of a ventilator on the folder as it is: $ready_ms, $status_ms, $submit_ms until each was answered.
measure_restart() {
    kill -KILL "${PIDS[ventilator]}"
    ended ventilator 137
    since=$(now_ms)
    start_ventilator
    ready_ms=$(($(now_ms) - since))
    ventilator status >"$T/status" 2>"$T/status.err" || fail "status exits $?: $(cat "$T/status.err")"
    status_ms=$(($(now_ms) - since))
    submit -- true '{}' ::: 1 >"$T/id"
    submit_ms=$(($(now_ms) - since))
}

# Streams the results of a batch that was cancelled as a whole: each task has its line.
measure_stream() {    # BATCH N
    ventilator cancel "$1" >"$T/cancelled" || fail "cancel exits $?"
    assert_exit 130 ventilator wait "$1"
    since=$(now_ms)
    peaks_during "$BIN/ventilator" results "$1" --format json
    stream_ms=$(($(now_ms) - since))
    assert_eq "lines" "$printed" "$2"
}

# ---- tests ----

test_plain_backlog_of_ten_million() {
    start_ventilator
    start_sink
    measure_backlogs 10000 10000000
    echo "# backlog of 10,000 and of 10,000,000: ventilator $ventilator_small and $ventilator_large kB, sink $sink_small and $sink_large kB, journal $backlog_kb kB"
    echo "# a range of 10,000,000: $range_kb kB on disk, ventilator $ventilator_range kB"
    assert_between "growth of the ventilator in kB" $((ventilator_large - ventilator_small)) -100000 $((32 * MIB))
    assert_between "growth of the sink in kB" $((sink_large - sink_small)) -100000 $((32 * MIB))
    assert_between "what a range takes on disk in kB" "$range_kb" -100000 1024
    assert_between "growth of the ventilator by a range in kB" $((ventilator_range - ventilator_large)) -100000 2048
    measure_restart
    echo "# restart with that journal: ready after $ready_ms ms, status answered after $status_ms ms, a submission after $submit_ms ms"
    # 2 s are promised, on an idle machine.
    assert_between "time to the answer of a submission in ms" "$submit_ms" 0 10000
    assert_between "growth of the ventilator by the restart in kB" $(($(memory_of ventilator) - ventilator_small)) -100000 $((32 * MIB))
    assert_eq "total" "$(status_of "$large" total)" 10000000
}

test_plain_results_stream_in_flat_memory() {
    local ventilator_before sink_before client_before
    start_ventilator
    start_sink
    measure_stream "$(submit --range 1-10000 -- true '{}')" 10000
    ventilator_before=$peak_ventilator sink_before=$peak_sink client_before=$peak_client
    measure_stream "$(submit --range 1-400000 -- true '{}')" 400000
    echo "# results of 10,000 and of 400,000 streamed: ventilator $ventilator_before and $peak_ventilator kB, sink $sink_before and $peak_sink kB, client $client_before and $peak_client kB"
    assert_between "growth of the ventilator in kB" $((peak_ventilator - ventilator_before)) -100000 4096
    assert_between "growth of the sink in kB" $((peak_sink - sink_before)) -100000 4096
    assert_between "growth of the client in kB" $((peak_client - client_before)) -100000 8192
    # Real results too: bodies of some kilobytes, more of them than anybody has memory for.
    start_worker w1 --slots 2
    local real
    real=$(submit --range 1-600 -- sh -c 'head -c 200000 /dev/zero | tr "\0" x')
    assert_exit 0 ventilator wait "$real"
    peaks_during "$BIN/ventilator" results "$real" --format csv
    echo "# 120 MB of real results streamed: ventilator $peak_ventilator kB, sink $peak_sink kB, client $peak_client kB"
    assert_between "peak of the ventilator in kB" "$peak_ventilator" 0 $((ventilator_before + 32 * MIB))
    assert_between "peak of the sink in kB" "$peak_sink" 0 $((sink_before + 64 * MIB))
    assert_between "peak of the client in kB" "$peak_client" 0 $((client_before + 32 * MIB))
}
