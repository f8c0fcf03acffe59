# `ventilator doctor`: what it says of a system that is whole, of one that lacks something, and of folders on the disk.

doctor() { "$BIN/ventilator" doctor "$@"; }
assert_line() { grep -qE -- "$1" "$T/out" || fail "no line like '$1' in: $(cat "$T/out")"; }

test_a_whole_system_is_called_so() {
    start_cluster 2 --slots 2
    wait_for 10 "two workers, and nothing to complain of" doctor_is_content 2    # of slow answers it complains
    assert_line "^ok .*ventilator at $CLIENTS answers within .* ms: ventilator [0-9.]+, protocol [0-9.]+, epoch 1"
    assert_line '^ok .*2 workers with 4 slots ready'
    assert_line '^ok .*the sink at .* answers within .* ms: sink [0-9.]+'
    assert_exit 0 doctor --quick
    assert_eq "lines of --quick" "$(wc -l <"$T/out")" 1
    assert_line '^ok '
}

test_what_is_missing_is_named() {
    start_ventilator
    assert_exit 1 doctor
    assert_line '^FAIL .*has no sink: .*start .sink'
    assert_line '^WARN .*there is no worker'
    assert_exit 0 doctor --quick
    seq 5 | "$BIN/ventilator" submit -a - -- true >"$T/id" 2>"$T/submit.err" || fail "submit: $(cat "$T/submit.err")"
    assert_exit 1 doctor
    assert_line '^FAIL .*there is no worker, and 5 tasks are queued'
    start_sink
    start_worker w1
    wait_for 10 "a whole system" doctor_finds_nothing
    # The sink's query port is not where it says.
    stop sink TERM 0
    QUERY=ipc://$T/elsewhere start_sink
    rm -f "$T/elsewhere"
    wait_for 10 "a sink out of reach" sink_is_out_of_reach
}
doctor_is_content() { doctor_finds_nothing && ! grep -qE '^(WARN|FAIL)' "$T/out" && grep -q "$1 workers with" "$T/out"; }    # WORKERS
doctor_finds_nothing() { doctor >"$T/out" 2>&1; }
sink_is_out_of_reach() { ! doctor >"$T/out" 2>&1 && grep -q '^FAIL .*the sink doesn.t answer at .*query-listen' "$T/out"; }

test_nobody_there() {
    assert_exit 3 doctor --ventilator "ipc://$T/nobody" --connect-timeout 200ms
    assert_line "^FAIL .*can't reach the ventilator at ipc://$T/nobody"
    assert_exit 3 doctor --quick --ventilator "ipc://$T/nobody" --connect-timeout 200ms
    start_ventilator
    # The workers' port takes the connection, and a client's hello is none of its messages.
    assert_exit 3 doctor --ventilator "$WORKERS" --connect-timeout $((500 * PATIENCE))ms
    assert_line '^FAIL .*(says nothing|is no ventilator|was silent|refuses)'
}

# A port that gives no answer, as behind a firewall: its queue is full, and nobody accepts. Takes one with three free ones
# behind it.
start_blocked_port() {
    start blocked python3 -u -c '
import random, socket, time
def listen(port, queue):
    s = socket.socket()
    s.bind(("127.0.0.1", port))
    s.listen(queue)
    return s
while True:
    port = random.randrange(20000, 30000)
    try:
        free = [listen(port + i, 1) for i in range(1, 4)]
        held = listen(port, 0)
        break
    except OSError:
        pass
for s in free:
    s.close()
clients = []
for _ in range(8):
    c = socket.socket()
    c.setblocking(False)
    c.connect_ex(("127.0.0.1", port))
    clients.append(c)
print("port", port, flush=True)
time.sleep(600)'
    wait_for 30 "the blocked port" grep -qs '^port' "$T/blocked.out"
    blocked=$(awk '{ print $2 }' "$T/blocked.out")
}

test_a_blocked_lane_is_named() {
    local blocked
    start_blocked_port
    start_ventilator --lanes "$blocked-$((blocked + 3))"
    start_sink
    start_worker w1
    assert_exit 0 doctor
    assert_line "^WARN .*1 of the lanes' ports are blocked from here: $blocked of 127.0.0.1 gives no answer; .*Open $blocked-$((blocked + 3)) in the firewall"
    assert_line "^ok .*port ${WORKERS##*:} of 127.0.0.1, for workers and the sink, is open from here"
    assert_line "^ok .*port ${RESULTS##*:} of 127.0.0.1, for results, is open from here"
    assert_line '^(ok|WARN) .*a process on this host may open [0-9]+ files'
    assert_exit 1 doctor --for-worker
    assert_line "^FAIL .*: $blocked of 127.0.0.1 gives no answer"
    # The worker beside it works on.
    assert_exit 0 ventilator submit --wait -- echo {} ::: well
    assert_eq "output" "$(cat "$T/out")" well
}

test_few_files_and_bad_names() {
    start_cluster 1
    ( ulimit -n 1000; doctor ) >"$T/out" 2>"$T/err" || fail "doctor exits $?: $(cat "$T/out" "$T/err")"
    assert_line '^WARN .*may open 1000 files: too few .*LimitNOFILE'
    assert_exit 3 doctor --ventilator tcp://no-such-name.invalid:5555
    assert_line '^FAIL .*the name no-such-name.invalid can.t be resolved on this host: .*/etc/hosts'
    assert_exit 0 doctor --ventilator "tcp://localhost:${CLIENTS##*:}"
    assert_line '^ok .*the name localhost is .*127.0.0.1'
    assert_line '^ok .*the slowest answers within .* ms'
}

test_bad_options() {
    assert_refused 2 "--data --quick" doctor --data "$T" --quick
    assert_refused 2 "options" doctor word
    assert_refused 2 "--ventilator nonsense:" doctor --ventilator nonsense://x
    assert_refused 6 "$T journal.db results.db --data" doctor --data "$T"
}

# Every byte and name of a folder, to see that nothing was changed. The index of the log is memory of processes.
folder_sum() { (cd "$1" && find . -type f ! -name '*-shm' -print0 | sort -z | xargs -0 sha256sum) | sha256sum; }

assert_sound() {    # FOLDER WORDS
    local before after
    before=$(folder_sum "$1")
    assert_exit 0 doctor --data "$1"
    after=$(folder_sum "$1")
    assert_eq "the sum of $1 after doctor" "$after" "$before"
    assert_line '^ok .*is sound$'
    assert_line "$2"
    assert_line "^(ok|WARN) .* of .* are free where $1 is"
}

test_folders_on_the_disk() {
    local batch role
    start_cluster 1
    batch=$(seq 300 | "$BIN/ventilator" submit -a - -- true 2>"$T/submit.err") || fail "submit: $(cat "$T/submit.err")"
    ventilator wait "$batch" --no-bar >/dev/null 2>&1 || fail "wait"
    submit --range 1-1000 --require gpu=yes -- true >/dev/null
    # While they run, the folders are theirs.
    assert_refused 5 "$T/data-ventilator ${PIDS[ventilator]} stop" doctor --data "$T/data-ventilator"
    assert_refused 5 "$T/data-sink ${PIDS[sink]} stop" doctor --data "$T/data-sink"
    # Killed, with logs that are not taken in: they are read, and left as they are.
    kill -KILL "${PIDS[ventilator]}" "${PIDS[sink]}"
    ended ventilator 137
    ended sink 137
    [ -s "$T/data-ventilator/journal.db-wal" ] || fail "the journal should have a log"
    assert_sound "$T/data-ventilator" '^ok .*2 batches, 1 of them open with 1000 tasks'
    assert_sound "$T/data-sink" '^ok .* 300 verdicts, one for each task'
    # They go on from there, and end well.
    start_ventilator
    start_sink
    stop ventilator TERM 0
    stop sink TERM 0
    assert_sound "$T/data-ventilator" 'a ventilator.s journal, format'
    assert_sound "$T/data-sink" 'a sink.s results, format'
    # From a folder that can't be written.
    cp -r "$T/data-sink" "$T/copy"
    chmod 500 "$T/copy"; chmod 400 "$T"/copy/*
    assert_sound "$T/copy" '^ok .* 300 verdicts'
    chmod 700 "$T/copy"
    # One byte.
    for role in ventilator/journal sink/results; do
        printf '\x55' | dd of="$T/data-$role.db" bs=1 seek=70000 conv=notrunc 2>/dev/null
        assert_exit 6 doctor --data "$T/data-${role%/*}"
        assert_line "^FAIL .*page 5 doesn't match its checksum"
        assert_line '^FAIL .*damaged in [0-9]+ places?; restore the folder from a backup'
    done
    # The programs refuse them as well.
    assert_exit 6 timeout 10 "$BIN/sink" --ventilator "$WORKERS" --data "$T/data-sink" --results-listen "ipc://$T/r" --query-listen "ipc://$T/q"
    assert_contains "$T/err" "is damaged"
    assert_contains "$T/err" "restore the folder from a backup"
    # What is no store at all.
    mkdir "$T/other"
    echo "notes" >"$T/other/journal.db"
    assert_exit 6 doctor --data "$T/other"
    assert_line '^FAIL .*not a store of Tarmac'
}
