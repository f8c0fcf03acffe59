# shellcheck shell=bash disable=SC2016
# Bad input: one clear sentence, the exit code of the contract, and the daemons go on.

still_working() {
    assert_exit 0 ventilator submit --wait -- echo {} ::: fine
    assert_eq "output" "$(cat "$T/out")" fine
}

test_unknown_flag() {
    assert_refused 2 "--no-such" ventilator run --no-such -- true ::: 1
    assert_refused 2 "--require" ventilator run --require zone=a -- true ::: 1
    assert_refused 2 "--require-worker" ventilator run --require-worker -- true ::: 1
    assert_refused 2 "--no-such" ventilator serve --no-such
    assert_refused 2 "--no-such" "$BIN/worker" --no-such
    assert_refused 2 "--no-such" "$BIN/sink" --no-such
    assert_refused 2 "nonsense" ventilator nonsense
}

test_bad_duration_and_size() {
    assert_refused 2 "--deadline 5x" ventilator run --deadline 5x -- true ::: 1
    assert_refused 2 "--timeout -1s" ventilator run --timeout=-1s -- true ::: 1
    assert_refused 2 "--deadline 99999999999999d" ventilator run --deadline 99999999999999d -- true ::: 1
    assert_refused 2 "--max-output 1Q" ventilator run --max-output 1Q -- true ::: 1
    assert_refused 2 "--heartbeat soon" ventilator serve --heartbeat soon
    TARMAC_LOSS_GRACE=never assert_refused 2 "TARMAC_LOSS_GRACE never" ventilator serve --data "$T/v"
}

test_empty_variable_counts_as_unset() {
    TARMAC_TIMEOUT='' assert_exit 0 ventilator run -- echo {} ::: 1
}

test_missing_command_and_bad_range() {
    assert_refused 2 "" ventilator run
    assert_refused 2 "--range 9-1" ventilator run --range 9-1 -- true
    assert_refused 2 "--range x" ventilator run --range x -- true
    assert_refused 2 "--slots" ventilator run --slots 0 -- true ::: 1
    assert_refused 2 "--value novalue" ventilator run --value novalue -- true ::: 1
    assert_refused 2 "--traceparent" ventilator run --traceparent junk -- true ::: 1
}

test_unreadable_file() {
    assert_refused 2 "$T/absent" ventilator run -a "$T/absent" -- true
    assert_refused 2 "$T/absent" ventilator run --pipe --files "$T/absent" -- cat
    mkdir "$T/folder"
    assert_refused 2 "$T/folder" ventilator run --pipe --files "$T/folder" -- cat
}

test_oversized_payload() {
    start_cluster 1
    truncate -s 3G "$T/huge"
    assert_refused 4 "$T/huge" ventilator submit --pipe --files "$T/huge" -- wc -c
    still_working
}

test_wrong_address() {
    start_ventilator
    stop ventilator TERM 0
    assert_refused 3 "${CLIENTS#tcp://}" ventilator status --connect-timeout 500ms
    assert_between "time in ms" "$took" 400 $((2000 * PATIENCE))
    assert_refused 2 "nonsense" ventilator status --ventilator nonsense
    assert_refused 2 "tcp://127.0.0.1:99999" ventilator status --ventilator tcp://127.0.0.1:99999
    assert_refused 2 "udp://127.0.0.1" "$BIN/worker" --ventilator udp://127.0.0.1
}

test_unknown_batch() {
    start_ventilator
    start_sink
    assert_refused 4 "zzzz" ventilator status zzzz
    assert_refused 4 "zzzz" ventilator wait zzzz
    assert_refused 4 "zzzz" ventilator cancel zzzz
    assert_refused 4 "zzzz" ventilator results zzzz
}

test_task_that_is_not_there() {
    start_cluster 1
    local batch
    batch=$(submit -- true ::: a b c)
    assert_exit 0 ventilator wait "$batch"
    assert_refused 4 "$batch 3 99" ventilator explain "$batch" 99
    assert_refused 4 "$batch 3" ventilator explain "$batch" 3
    assert_exit 0 ventilator explain "$batch" 2
    assert_refused 2 "-1" ventilator explain "$batch" -- -1
}

test_label_given_twice() {
    assert_refused 2 "--label q=c" "$BIN/worker" --label q=b --label q=c
}

test_unknown_handler() {
    start_cluster 1
    assert_refused 4 "no-such-handler" ventilator submit --require-worker --handler no-such-handler ::: 1
    local batch
    batch=$(submit --handler no-such-handler --deadline 1s ::: 1)
    assert_contains "$T/submit.err" "no-such-handler"
    assert_exit 124 ventilator wait "$batch"
    still_working
}

test_commands_only_where_they_are_allowed() {
    start_ventilator
    start_sink
    start_ready careful "$BIN/worker" --ventilator "$WORKERS" --name careful --slots 1 --handler greet='echo hello {}'
    assert_refused 4 "--allow-commands" ventilator submit --require-worker -- echo {} ::: 1
    assert_exit 0 ventilator submit --wait --handler greet ::: ada
    assert_eq "output" "$(cat "$T/out")" "hello ada"
}

test_port_in_use() {
    start_ventilator
    start_sink
    assert_refused 5 "${CLIENTS#tcp://}" ventilator serve --data "$T/other" --listen "$CLIENTS" \
        --workers-listen tcp://127.0.0.1:0 --lanes 0 --http off
    assert_refused 5 "${RESULTS#tcp://}" "$BIN/sink" --ventilator "$WORKERS" --data "$T/other-sink" \
        --results-listen "$RESULTS" --query-listen tcp://127.0.0.1:0
}

test_serve_names_the_duration_and_its_value() {
    assert_refused 2 "--heartbeat 0s" ventilator serve --heartbeat 0s
    assert_refused 2 "--loss-grace 0s" ventilator serve --loss-grace 0s
    assert_refused 2 "--silence --heartbeat 500ms 1s" ventilator serve --silence 500ms
    assert_refused 2 "--max-payload 68157440 64M" ventilator serve --max-payload 65M
}

# A sanitizer needs descriptors of its own.
test_plain_no_descriptors_to_begin_with() {
    few() { sh -c 'ulimit -n 4; exec "$@"' few "$@"; }
    assert_refused 5 "descriptors" few "$BIN/ventilator" serve --data "$T/v" --http off
    assert_refused 5 "loop" few "$BIN/sink" --data "$T/s"
    assert_refused 5 "loop" few "$BIN/worker"
    assert_refused 5 "loop" few "$BIN/ventilator" list
    several() { sh -c 'ulimit -n 20; exec "$@"' several "$@"; }
    assert_refused 5 "ulimit 20" several "$BIN/ventilator" list
    assert_refused 5 "ulimit 20" several "$BIN/ventilator" run -- echo ::: x
}

test_data_folder_in_use() {
    start_ventilator
    start_sink
    assert_refused 5 "$T/data-ventilator" ventilator serve --data "$T/data-ventilator" \
        --listen tcp://127.0.0.1:0 --workers-listen tcp://127.0.0.1:0 --lanes 0 --http off
    assert_refused 5 "$T/data-sink" "$BIN/sink" --ventilator "$WORKERS" --data "$T/data-sink" \
        --results-listen tcp://127.0.0.1:0 --query-listen tcp://127.0.0.1:0
}

test_data_folder_that_cannot_be_written() {
    # A file where a folder should be: the root user is refused here too.
    : >"$T/file"
    assert_refused 6 "$T/file/data" ventilator serve --data "$T/file/data" \
        --listen tcp://127.0.0.1:0 --workers-listen tcp://127.0.0.1:0 --lanes 0 --http off
    assert_refused 6 "$T/file/data" "$BIN/sink" --ventilator tcp://127.0.0.1:1 --data "$T/file/data" \
        --results-listen tcp://127.0.0.1:0 --query-listen tcp://127.0.0.1:0
}

test_no_keys_beyond_loopback() {
    assert_refused 2 "--insecure" ventilator serve --data "$T/v" --listen tcp://0.0.0.0:0 \
        --workers-listen tcp://127.0.0.1:0 --lanes 0 --http off
}

# Bytes that differ from port to port and are the same in each run.
noise() {    # SEED
    LC_ALL=C awk -v seed="$1" 'BEGIN { srand(seed); for (i = 0; i < 20000; i++) printf "%c", int(rand() * 255) + 1 }'
}

throw_at() {    # PORT
    { exec 9<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || return 0
    noise "$1" >&9 2>/dev/null
    exec 9>&-
    # What looks like a ZeroMQ greeting (version 3, no security) and goes on as noise.
    { exec 9<>"/dev/tcp/127.0.0.1/$1"; } 2>/dev/null || return 0
    { printf '\377\0\0\0\0\0\0\0\001\177\003\0NULL'; head -c 48 /dev/zero; noise "$(($1 + 1))"; } >&9 2>/dev/null
    exec 9>&-
}

test_random_bytes_on_every_port() {
    start_cluster 1
    trap '' PIPE
    local name port ports=0 round
    for round in 1 2 3; do
        for name in ventilator sink; do
            for port in $(listening_ports "${PIDS[$name]}"); do
                (throw_at "$port")
                ports=$((ports + 1))
            done
        done
    done
    assert_between "ports that were tried" $ports 12 100    # two each and a lane, three times
    for name in ventilator sink w1; do
        alive "${PIDS[$name]}" || fail "$name did not survive round $round"
    done
    still_working
}

test_help_and_version() {
    local program
    for program in ventilator worker sink; do
        assert_exit 0 "$BIN/$program" --version
        assert_contains "$T/out" "$program"
        assert_exit 0 "$BIN/$program" --help
        assert_contains "$T/out" "--"
    done
    assert_exit 0 ventilator submit --help
    assert_contains "$T/out" "--deadline"
    assert_contains "$T/out" "TARMAC_DEADLINE"
}

# Standard output on a full disk: a sentence, and an exit code that says so.
assert_output_lost() {    # COMMAND...
    local got=0
    "$@" >/dev/full 2>"$T/err" </dev/null || got=$?
    assert_eq "exit code of '$*'" "$got" 6
    assert_contains "$T/err" "standard output can't be written: "
}

test_output_that_cannot_be_written() {
    local program
    for program in ventilator worker sink; do
        assert_output_lost "$BIN/$program" --version
        assert_output_lost "$BIN/$program" --help
        assert_output_lost "$BIN/$program" --man
        assert_output_lost "$BIN/$program" --completion
    done
    assert_output_lost ventilator submit --help
    assert_output_lost ventilator serve --help
    assert_output_lost ventilator list --version
    assert_output_lost ventilator run --dry-run -- echo {} ::: 1
    assert_output_lost ventilator run -- echo {} ::: 1
    assert_output_lost ventilator keygen "$T/keys"
}

test_answers_that_cannot_be_written() {
    local batch words command
    start_cluster 1
    assert_output_lost ventilator submit -- false {} ::: a
    batch=$(sed -n "s/.*batch \([a-z0-9]*\) is submitted.*/\1/p" "$T/err")
    [ -n "$batch" ] || fail "the id of the batch is lost: $(cat "$T/err")"
    assert_exit 1 ventilator wait "$batch"
    assert_output_lost ventilator retry "$batch"
    assert_contains "$T/err" "is submitted"
    for command in list "list --json" status "status $batch" workers "explain $batch" "explain $batch 0" "cancel $batch" "doctor --quick" \
        "purge --older-than 7d" "watch --lines" "drain w1"; do
        read -ra words <<<"$command"
        assert_output_lost ventilator "${words[@]}"
    done
    # Who reads a pipe and has seen enough needs no sentence.
    submit -- true ::: {1..5} >/dev/null
    (trap '' PIPE; ventilator list 2>"$T/err") | :
    assert_eq "what list says" "$(cat "$T/err")" ""
}

# A complete batch, and a sink with another folder: what was recorded is elsewhere, and nobody waits for it.
test_a_sink_without_the_records_of_a_batch() {
    local batch words
    start_cluster 1
    batch=$(submit -- echo {} ::: a b c)
    assert_exit 0 ventilator wait "$batch"
    stop sink TERM 0
    start_sink --data "$T/data-other"
    wait_for 10 "the ventilator to say so" grep -q 'sink_other_store' "$T/ventilator.err"
    words="no records of batch $batch"
    assert_refused 4 "$words" ventilator results "$batch"
    assert_refused 4 "$words" ventilator results "$batch" --follow
    assert_refused 4 "$words" ventilator wait "$batch"
    assert_refused 4 "$words" ventilator retry "$batch"
    assert_exit 4 ventilator explain "$batch" 1
    assert_contains "$T/err" "no records of batch $batch"
    still_working
    stop sink TERM 0
    start_sink
    assert_exit 0 ventilator results "$batch"
    assert_eq "results of the sink that has them" "$(sort "$T/out" | paste -sd' ')" "a b c"
}
