# shellcheck shell=bash
# What systemd and health checks are told by the three programs.

# A service manager of our own: prints each datagram, one a line.
start_watcher() {
    start watcher python3 -u -c '
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1])
print("listening", flush=True)
while True:
    print(s.recv(4096).decode().strip(), flush=True)' "$T/watcher.socket"
    wait_for 30 "the watcher" grep -qs listening "$T/watcher.out"
}
told() { grep -qE -- "$1" "$T/watcher.out"; }
health() { "$BIN/ventilator" doctor --health-file "$@"; }
health_is() { health "$2" >"$T/out" 2>&1; [ $? -eq "$1" ]; }

test_systemd_is_told() {
    local program
    start_watcher
    export NOTIFY_SOCKET=$T/watcher.socket WATCHDOG_USEC=300000
    start_ventilator
    wait_for 30 "READY of the ventilator" told '^READY=1$'
    wait_for 30 "its words" told '^STATUS=0 workers, no sink'
    wait_for 30 "its beats" told '^WATCHDOG=1$'
    for program in sink w1; do
        : >"$T/watcher.out"
        if [ $program = sink ]; then start_sink; else start_worker w1; fi
        wait_for 30 "READY of $program" told '^READY=1$'
        wait_for 30 "that $program has its ventilator" told '^STATUS=.*with its ventilator'
    done
    wait_for 30 "what the ventilator has" told '^STATUS=1 workers, a sink'
    # What a worker starts is none of the manager's business.
    assert_exit 0 ventilator submit --wait --format text -- sh -c 'echo "${NOTIFY_SOCKET:-none} ${WATCHDOG_USEC:-none}"' ::: 1
    assert_eq "environment of a task" "$(cat "$T/out")" "none none"
    for program in w1 sink ventilator; do
        : >"$T/watcher.out"
        stop $program TERM 0
        wait_for 30 "STOPPING of $program" told '^STOPPING=1$'
    done
}

# A worker is up before there is a ventilator: a start of the unit doesn't hang on another host.
test_a_worker_alone_is_ready() {
    start_watcher
    NOTIFY_SOCKET=$T/watcher.socket start w1 "$BIN/worker" --ventilator "ipc://$T/nobody" --name w1
    wait_for 30 "READY of the worker" told '^READY=1$'
    wait_for 30 "what it waits for" told '^STATUS=w1: waiting for the ventilator at ipc://'
}

test_health_files() {
    assert_exit 3 health "$T/health-v"
    assert_contains "$T/out" "is the process started"
    start_ventilator --health-file "$T/health-v"
    wait_for 30 "a ventilator that serves" health_is 0 "$T/health-v"
    assert_contains "$T/out" "no sink"
    start_sink --health-file "$T/health-s"
    start_worker w1 --health-file "$T/health-w"
    wait_for 30 "a sink that serves" health_is 0 "$T/health-s"
    wait_for 30 "a worker that serves" health_is 0 "$T/health-w"
    assert_contains "$T/out" "w1: with its ventilator"
    stop ventilator TERM 0
    [ ! -e "$T/health-v" ] || fail "a ventilator that stopped leaves its health file"
    wait_for 30 "a sink that waits" health_is 1 "$T/health-s"
    wait_for 30 "a worker that waits" health_is 1 "$T/health-w"
    assert_contains "$T/out" "waiting for the ventilator"
    # One that stands still says nothing new; the test doesn't wait for it, the file is made older.
    kill -STOP "${PIDS[w1]}"
    awk '{ $2 -= 60000; print }' "$T/health-w" >"$T/old"
    assert_exit 3 health "$T/old"
    assert_contains "$T/out" "stands still"
    kill -CONT "${PIDS[w1]}"
}

test_bad_places() {
    local why="NOTIFY_SOCKET 'nonsense'"
    assert_exit 2 env NOTIFY_SOCKET=nonsense "$BIN/worker" --ventilator "ipc://$T/v"
    assert_contains "$T/err" "$why"
    assert_exit 2 env NOTIFY_SOCKET=nonsense "$BIN/sink" --ventilator "ipc://$T/v" --data "$T/s" --results-listen "ipc://$T/r" --query-listen "ipc://$T/q"
    assert_contains "$T/err" "$why"
    assert_exit 2 env NOTIFY_SOCKET=nonsense "$BIN/ventilator" serve --data "$T/v" --listen "ipc://$T/c" --workers-listen "ipc://$T/w"
    assert_contains "$T/err" "$why"
    assert_exit 2 "$BIN/worker" --ventilator "ipc://$T/v" --health-file "$T/no/folder"
    assert_contains "$T/err" "--health-file $T/no/folder"
    assert_refused 2 "--health-file --quick" health "$T/x" --quick
}
