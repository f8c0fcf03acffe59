# A power cut under the ventilator and the sink: what both did to their folders is recorded in one record while
# batches run, the folders are rebuilt as a disk could show them at moments of it, and the processes are started on
# them. What had been acknowledged ends in one verdict; what had been handed out as a result stays as it was.
# SEED=… chooses other moments.

TOOL=$BIN/../tests/fault/test_powercut
recorder_of() {    # LABEL FOLDER: sets $recorder, what `start` puts before the command
    recorder=(LD_PRELOAD="$BIN/../tests/powercut.so" POWERCUT_LOG="$T/record" POWERCUT_DIR="$2" POWERCUT_LABEL="$1"
        ASAN_OPTIONS="$ASAN_OPTIONS:verify_asan_link_order=0")
}

mark_results() { jq -c --unbuffered '"result \(.batch) \(.index) \(.verdict) \(.attempts)"' -r | "$TOOL" mark-lines "$T/record"; }

# Three batches at a time: one whose results are read as they come, two of which only the admission is awaited.
run_under_the_recorder() {
    local recorder id i
    recorder_of ventilator "$T/data-ventilator"
    start_ready ventilator "${recorder[@]}" "$BIN/ventilator" serve \
        --data "$T/data-ventilator" --listen tcp://127.0.0.1:0 --workers-listen tcp://127.0.0.1:0 --lanes 0 --http off
    CLIENTS=$(ready_field ventilator clients) WORKERS=$(ready_field ventilator workers)
    export TARMAC_VENTILATOR=$CLIENTS
    recorder_of sink "$T/data-sink"
    start_ready sink "${recorder[@]}" "$BIN/sink" --ventilator "$WORKERS" --data "$T/data-sink" \
        --results-listen tcp://127.0.0.1:0 --query-listen tcp://127.0.0.1:0
    start_worker w1 --slots 2
    ventilator submit --wait --format json --no-bar --range 1-150 -- true 2>"$T/submit.err" </dev/null | mark_results &
    local reader=$!
    for i in 1 2; do
        id=$(seq 100 | ventilator submit --name "b$i" --retries 1 --backoff 10ms,1,10ms -a - -- sh -c 'exit $(($0 % 7 == 3))' '{}' 2>>"$T/submit.err") ||
            fail "submit: $(cat "$T/submit.err")"
        "$TOOL" mark "$T/record" "acknowledged $id 100"
        ventilator wait "$id" --no-bar >>"$T/wait.out" 2>&1
    done
    wait $reader || fail "reading results: $(cat "$T/submit.err")"
    stop w1 TERM 0
    stop ventilator TERM 0
    stop sink TERM 0
}

# Both lose power, or only one of them: then the other has all that it wrote.
rebuild_at() {    # ENTRY SEED
    local ventilator_how=2 sink_how=2
    case $(($2 % 5)) in
        0) ventilator_how=0 sink_how=0 ;;
        1) ventilator_how=1 ;;
        2) sink_how=1 ;;
    esac
    rm -rf "$T/data-ventilator" "$T/data-sink"
    mkdir -m 700 "$T/data-ventilator" "$T/data-sink"
    "$TOOL" rebuild "$T/record" "$1" $ventilator_how "$2" ventilator "$T/data-ventilator" >"$T/told" || fail "the ventilator's folder at $1"
    "$TOOL" rebuild "$T/record" "$1" $sink_how "$2" sink "$T/data-sink" >/dev/null || fail "the sink's folder at $1"
}

# Whatever the ventilator knows after the cut ends, each task once. The submitters are gone: what is open is sealed.
assert_all_ends() {
    local batch total code
    ventilator list --json >"$T/list" 2>"$T/list.err" || fail "list: $(cat "$T/list.err")"
    while read -r batch; do
        [ "$(status_of "$batch" state)" != open ] || ventilator seal "$batch" >/dev/null 2>&1
        code=0
        timeout $((30 * PATIENCE)) "$BIN/ventilator" wait "$batch" --no-bar >"$T/wait.out" 2>&1 || code=$?
        [ $code -le 1 ] || fail "wait $batch exits $code: $(cat "$T/wait.out"); $(ventilator explain "$batch")"
        total=$(status_of "$batch" total)
        [ "$total" -gt 0 ] || continue
        ventilator results "$batch" --format json >"$T/results-$batch" 2>"$T/results.err" || fail "results: $(cat "$T/results.err")"
        assert_each_once "$T/results-$batch" "$total"
    done < <(jq -r .batch "$T/list")
}

# What had been told before the cut is there: so many tasks, and each result as it was.
assert_what_was_told() {
    local batch n
    while read -r _ batch n; do
        [ -s "$T/results-$batch" ] || fail "batch $batch was acknowledged, and is gone"
        assert_each_once "$T/results-$batch" "$n"
    done < <(grep '^acknowledged ' "$T/told")
    find "$T" -maxdepth 1 -name 'results-*' -exec cat {} + | jq -r '"result \(.batch) \(.index) \(.verdict) \(.attempts)"' | sort >"$T/now"
    grep '^result ' "$T/told" | sort | comm -23 - "$T/now" >"$T/changed"
    [ ! -s "$T/changed" ] || fail "these results were handed out and are not there any more: $(head -n 5 "$T/changed")"
}

test_everything_acknowledged_ends_once_after_a_power_cut() {
    local seed=${SEED:-$((($(now_ms) / 7) % 32768))} cuts=${CUTS:-4} n cut at
    echo "# SEED=$seed"
    RANDOM=$seed
    run_under_the_recorder
    n=$("$TOOL" count "$T/record") || fail "no record was made"
    for ((cut = 0; cut < cuts; cut++)); do
        at=$((n * cut / cuts + (RANDOM * 32768 + RANDOM) % (n / cuts)))
        rebuild_at $at $((seed + cut))
        echo "# cut at $at of $n, $(wc -l <"$T/told") things told"
        unset CLIENTS WORKERS RESULTS QUERY
        rm -f "$T"/results-*
        start_ventilator
        start_sink
        start_worker w1 --slots 2
        assert_all_ends
        assert_what_was_told
        stop w1 TERM 0
        stop ventilator TERM 0
        stop sink TERM 0
        # And each byte of what they leave: among others that no task has two verdicts.
        assert_exit 0 "$BIN/ventilator" doctor --data "$T/data-ventilator"
        assert_exit 0 "$BIN/ventilator" doctor --data "$T/data-sink"
    done
}
