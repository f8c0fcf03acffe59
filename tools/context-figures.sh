#!/bin/bash
# Measures how late each bound takes effect, by where it is enforced, and how long a cancel takes to a handler's SIGTERM.
# Prints a table in markdown. All clocks are of this machine, so times of different processes may be compared here.
# usage: [B=build] tools/context-figures.sh [N] [CANCELS]      N: measurements of each bound (50); CANCELS (200)
# shellcheck disable=SC2016
set -u
cd "$(dirname "$0")/.." || exit 1
export B=${B:-build} SAN='' LC_ALL=C.UTF-8
E2E_NAME=context-figures E2E_DIR=$(mktemp -d /tmp/tarmac-figures.XXXXXX) || exit 1
export E2E_NAME E2E_DIR
n=${1:-50} cancels=${2:-200}

for program in bin/ventilator bin/worker bin/sink tests/relay; do
    [ -x "$B/$program" ] || { echo "context-figures: $B/$program is not built; run: make programs tests"; exit 1; }
done
# shellcheck source=tests/e2e/lib.sh
. tests/e2e/lib.sh
trap 'clean_up_figures' EXIT
clean_up_figures() { (exit $?); (clean_up); local code=$?; rm -rf "$E2E_DIR"; exit $code; }

# ---- what is measured ----

# From the numbers on standard input, in ms: one row of the table.
row() {    # BOUND WHERE
    sort -n | awk -v bound="$1" -v where="$2" '
        { at[NR] = $1 }
        function part(p,   i) { i = int(NR * p + 0.999999); return at[i < 1 ? 1 : i] }
        END { if (NR > 0) printf "| %s | %s | %.1f | %.1f | %d |\n", bound, where, part(0.5), part(0.99), NR
              else printf "| %s | %s | nothing measured | | |\n", bound, where }'
}

# Between two of the ventilator's log lines about each batch in $T/batches, less MS.
between_lines() {    # FROM TO LESS_MS
    awk -v from="$1" -v to="$2" -v less="$3" '
        function ms(text,   a) { split(substr(text, 12), a, /[:Z]/); return ((a[1] * 60 + a[2]) * 60 + a[3]) * 1000 }
        FNR == NR { wanted["batch=" $1]; next }
        !($5 in wanted) { next }
        $4 == from { began[$5] = ms($1) }
        $4 == to && $5 in began { d = ms($1) - began[$5]; if (d < 0) d += 86400000; printf "%.3f\n", d - less }
    ' "$T/batches" "$T/ventilator.err"
}

all_complete() {
    local batch
    while read -r batch; do grep -q "batch_complete batch=$batch " "$T/ventilator.err" || return 1; done <"$T/batches"
}
submit_many() {    # N options of each
    local i times=$1
    shift
    : >"$T/batches"
    for ((i = 0; i < times; i++)); do submit "$@" >>"$T/batches"; done
}
run_ms_less() { ventilator results "$1" --format json | jq ".run_ms - $2"; }    # BATCH MS
over() {
    local name
    for name in "${!PIDS[@]}"; do stop "$name" TERM 0 30; done
}

running_least() { [ "$(pgrep -cf "^$1")" -ge "$2" ]; }

# Writes the time of day into FILE.INDEX.up, and when told to stop into FILE.INDEX.told.
told='trap "echo \$EPOCHREALTIME >$1.$0.told; exit" TERM; echo $EPOCHREALTIME >$1.$0.up; sleep 6500 & wait'
has() { [ -s "$1" ]; }

# ---- the bounds ----

in_the_queue() {
    start_ventilator
    start_sink
    submit_many "$n" --deadline 1s -- true ::: 1
    wait_for 60 "all batches to be over" all_complete
    between_lines batch_new batch_complete 1000 | row '`--deadline`' "queue (no worker)"
    start_worker w1
    submit --grace 100ms -- sleep ::: 6501 >"$T/blocker"
    wait_for 20 "the blocker to run" some_running "sleep 6501"
    submit_many "$n" --deadline 21s --min-runtime 20s -- true ::: 1
    wait_for 60 "all batches to be over" all_complete
    between_lines batch_new batch_complete 1000 | row '`--min-runtime`' "dispatch (the slot is busy)"
    ventilator cancel "$(cat "$T/blocker")" >"$T/cancelled"
}

at_the_worker() {
    start_worker w2 --slots "$n" --label for=figures
    local batch mine=(--require for=figures)
    submit_many "$n" "${mine[@]}" --deadline 1500ms -- sleep ::: 6502
    wait_for 60 "all batches to be over" all_complete
    between_lines batch_new batch_complete 1500 | row '`--deadline`' "worker (SIGTERM ends it), to the end of the batch"
    batch=$(submit "${mine[@]}" --timeout 300ms --max-running 4 --range "1-$n" -- sh -c "exec sleep 6502")
    ventilator wait "$batch" >"$T/waited" 2>&1
    run_ms_less "$batch" 300 | row '`--timeout`' "worker (SIGTERM ends it)"
    batch=$(seq "$n" | jq -c '{payload: "6502", timeout: "200ms"}' | "$BIN/ventilator" submit "${mine[@]}" --max-running 4 --json-lines -- sleep 2>"$T/submit.err")
    ventilator wait "$batch" >"$T/waited" 2>&1
    run_ms_less "$batch" 200 | row 'timeout of one task (`--json-lines`)' "worker (SIGTERM ends it)"
    batch=$(submit "${mine[@]}" --timeout 200ms --grace 200ms --max-running 4 --range "1-$n" -- sh -c 'trap "" TERM; while :; do sleep 6502; done')
    ventilator wait "$batch" >"$T/waited" 2>&1
    run_ms_less "$batch" 400 | row '`--timeout` + `--grace`' "keeper (SIGKILL; nothing is alive)"
}

moved_deadlines() {
    local batch
    submit_many "$n" --require for=nobody --deadline 600s -- true ::: 1
    while read -r batch; do ventilator extend "$batch" --deadline 1s >>"$T/extended"; done <"$T/batches"
    wait_for 60 "all batches to be over" all_complete
    between_lines batch_extended batch_complete 1000 | row '`extend --deadline`' "queue"
}

# ---- cancels ----

cancel_to_signal() {
    local batch i
    batch=$(submit --require for=figures --max-running 1 --grace 20s --range "0-$((cancels - 1))" -- bash -c "$told" '{}' "$T/c")
    for ((i = 0; i < cancels; i++)); do
        wait_for 30 "task $i to run" has "$T/c.$i.up"
        echo "$EPOCHREALTIME" >"$T/c.$i.cancel"
        ventilator cancel "$batch" --task "$i" >"$T/cancelled" || fail "cancel of task $i"
        wait_for 30 "task $i to be told" has "$T/c.$i.told"
        paste -d' ' "$T/c.$i.cancel" "$T/c.$i.told" >>"$T/cancels"
    done
    awk '{ printf "%.3f\n", ($2 - $1) * 1000 }' "$T/cancels" | row '`cancel --task`, from the start of the command' "worker, to the handler's SIGTERM"
    # The ventilator writes its line when it takes the cancel, the handler its own when it is told.
    grep -F "batch_cancel batch=$batch " "$T/ventilator.err" | awk '{ print $1 }' | while read -r when; do date -d "$when" +%s.%N; done |
        paste -d' ' - <(awk '{ print $2 }' "$T/cancels") | awk '{ printf "%.3f\n", ($2 - $1) * 1000 }' |
        row '`cancel --task`, from its arrival at the ventilator' "worker, to the handler's SIGTERM"
}

# ---- workers out of reach ----

no_answer() {
    WORKERS='' CLIENTS='' RESULTS='' QUERY=''
    rm -rf "$T"/data-*
    start_ventilator --silence 300s
    start_sink
    start_worker w3 --slots "$n"
    submit_many "$n" --deadline 25s --grace 300ms -- sleep ::: 6503
    wait_for 30 "all to run" running_least "sleep 6503" "$n"
    kill -STOP "${PIDS[w3]}"
    wait_for 60 "all batches to be over" all_complete
    kill -CONT "${PIDS[w3]}"
    wait_for 30 "all to be ended" none_running "sleep 6503"
    between_lines batch_new batch_complete 25300 | row '`--deadline` + `--grace`' "ventilator (the worker stands still; 200 ms are left for its word)"
}
cut_off() {
    local first batch
    WORKERS='' CLIENTS='' RESULTS='' QUERY=''
    rm -rf "$T"/data-*
    start_relay vent 9
    first=$port
    WORKERS=tcp://127.0.0.1:$first
    start_ventilator --heartbeat 200ms --silence 3s --lanes $((first + 1))-$((first + 8))
    start_sink
    start_ready w4 "$BIN/worker" --ventilator "tcp://127.0.0.2:$first" --sink "$RESULTS" --name w4 --slots "$n" --shutdown-timeout 2s --allow-commands
    # Each slot's keeper is started with its first task: that is not what is measured.
    batch=$(submit --range "1-$n" -- sh -c 'sleep 1')
    ventilator wait "$batch" >"$T/waited" 2>&1
    submit_many "$n" --timeout 20s --grace 20s -- sleep ::: 6504
    wait_for 15 "all to run" running_least "sleep 6504" "$n"
    network vent "stop both"
    wait_for 60 "all to be ended" none_running "sleep 6504"
    network vent pass
    wait_for 60 "all batches to be over" all_complete
    while read -r batch; do run_ms_less "$batch" 20000; done <"$T/batches" | row '`--timeout`' "worker that hears from nobody (SIGTERM ends it)"
}

printf '| bound | where it takes effect | median, ms late | p99, ms late | n |\n|---|---|---|---|---|\n'
in_the_queue
at_the_worker
moved_deadlines
cancel_to_signal
over
no_answer
over
cut_off
