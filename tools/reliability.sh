#!/bin/bash
# shellcheck disable=SC2034,SC2154,SC1090 # what the sourced tests set and use
# Makes the figures of docs/reliability.md on this machine, as tables: memory of backlogs and streams, restart times,
# detection times with the default settings, and a run into a full disk with the commands as seen. It measures with what
# the end-to-end tests measure with, in full: ten minutes, and 3 GB of room in /tmp. Best on a machine that does nothing else.
# Exits with 1 when a promised bound is broken: 32 MiB of growth, 2 s for a restart.
# usage: [B=build] [TASKS=10000000] [REAL=200000] tools/reliability.sh [memory|stream|detection|disk]...
set -u
cd "$(dirname "$0")/.." || exit 1
export B=${B:-build} SAN='' LC_ALL=C.UTF-8 TASKS=${TASKS:-10000000} REAL=${REAL:-200000}
[ $# -gt 0 ] || set -- memory stream detection disk

row() { local IFS='|'; echo "|$*|"; }
table() { row "$@"; row "${@//*/---}"; }
with_commas() { sed -E ':a; s/([0-9])([0-9]{3})($|[^0-9])/\1,\2\3/; ta' <<<"$1"; }

# ---- memory, disk and restart of a backlog ----

measure_memory() {
    start_ventilator
    start_sink
    measure_backlogs 10000 "$TASKS"
    local n
    n=$(with_commas "$TASKS")
    table "RssAnon, kB" "backlog of 10,000" "of $n" "and a range of $n more"
    row ventilator "$ventilator_small" "$ventilator_large" "$ventilator_range"
    row sink "$sink_small" "$sink_large" "$(memory_of sink)"
    row "folder of the ventilator" "" "$backlog_kb" "$range_kb more"
    echo
    echo "Submitted in $submit_ms ms ($((TASKS / (submit_ms + 1) * 1000)) tasks/s, each of 64 bytes and on disk)."
    echo
    measure_restart
    table "restart after SIGKILL with that journal" "ms from the start"
    row "ready line" "$ready_ms"
    row "status answered" "$status_ms"
    row "a submission admitted" "$submit_ms"
    assert_between "growth of the ventilator in kB" $((ventilator_large - ventilator_small)) -100000 $((32 * MIB))
    assert_between "growth of the sink in kB" $((sink_large - sink_small)) -100000 $((32 * MIB))
    assert_between "time from the start to a submission in ms" "$submit_ms" 0 2000
}

# ---- streams ----


measure_streams() {
    local n real
    start_ventilator
    start_sink
    table "results read with --format json" "ventilator, peak kB" "sink, peak kB" "client, peak kB" "ms"
    for n in 10000 "$TASKS"; do
        measure_stream "$(submit --range "1-$n" -- true '{}')" "$n"
        row "$(with_commas "$n"), ended by one cancel" "$peak_ventilator" "$peak_sink" "$peak_client" "$stream_ms"
    done
    start_worker w1 --slots "$(nproc)"
    real=$(submit --range "1-$REAL" -- echo '{}')
    assert_exit 0 ventilator wait "$real"
    since=$(now_ms)
    peaks_during "$BIN/ventilator" results "$real" --format json
    row "$(with_commas "$REAL"), run by a worker" "$peak_ventilator" "$peak_sink" "$peak_client" "$(($(now_ms) - since))"
    assert_eq "lines" "$printed" "$REAL"
}

# ---- detection with the default settings ----

# What is done at the moment of the fault, how it shows, and how it is healed; the batch must be complete after all.
detect() {    # WHAT SEEN HEAL...; $fault is the command of the fault
    local what=$1 seen=$2 noticed complete_ms
    shift 2
    begin_batch 200
    since=$(now_ms)
    $fault
    holds_within 60 eval "$seen" || fail "$what: not noticed within 60 s"
    noticed=$(($(now_ms) - since))
    holds_within 30 complete && complete_ms=$(($(now_ms) - since)) || complete_ms="when it is back"
    "$@"
    assert_exit 0 ventilator wait "$batch"
    assert_all_ok "$batch" 200 "$T/ran"
    row "$what" "$noticed" "$complete_ms" "$extra"
    wait_for 60 "w1 to be ready again" worker_is w1 ready
}

kill_w2() { kill -KILL "${PIDS[w2]}"; ended w2 137; }
stop_process() { kill -STOP "${PIDS[$1]}"; }
go_on() { kill -CONT "${PIDS[$1]}"; }

measure_detection() {
    bounds=()    # the defaults: heartbeat 1 s, loss grace 2 s, silence 10 s
    pace=0.05
    start_cut_cluster
    local fault
    table "fault, with default settings" "noticed after ms" "the batch complete after ms" "runs beyond the tasks"
    fault=kill_w2; detect "a worker is killed (SIGKILL)" 'worker_is_not w2 ready' start_worker w2 --slots 2 --label who=w2
    fault="stop_process w1"; detect "a worker is stopped (SIGSTOP)" 'worker_is_not w1 ready' go_on w1
    fault="network vent stop both"; detect "a worker is cut off from the ventilator" 'worker_is_not w1 ready' network vent pass
    fault="network vent stop up"; detect "… only what it says is lost" 'worker_is_not w1 ready' network vent pass
    fault="network vent stop down"; detect "… only what it should hear is lost" 'worker_is_not w1 ready' network vent pass
    fault="network results stop up"; detect "a worker is cut off from the sink" 'worker_is w1 cut_off' network results pass
    fault="stop_process sink"; detect "the sink is stopped (SIGSTOP)" 'note_has "$batch" "no sink"' go_on sink
}

# ---- a full disk ----

show() { echo "\$ $*"; "$@" 2>&1 | sed "s|$T/||g"; }

measure_disk() {
    echo '```console'
    small_disk "$T/data-ventilator" 96m
    on_small_disk start_ventilator
    start_sink
    start_worker w1 --slots 2
    local first id
    first=$(submit --name first --range 1-5 --require no=such -- true '{}')
    fill_but 20000
    items 400 60000 >"$T/items"
    df_of() { on_disk df -k --output=size,used,avail,pcent "$T/data-ventilator"; }
    echo '$ df data-ventilator'; df_of
    echo '$ ventilator submit --name big -a items --pipe -- wc -c &'
    start big "$BIN/ventilator" submit --name big -a "$T/items" --pipe -- wc -c
    wait_for 20 "the submitter to wait" says big 'is full.*waiting'
    cat "$T/big.err"
    echo '$ df data-ventilator'; df_of
    show ventilator status
    show ventilator submit --reconnect-timeout 2s -- true ::: 1
    show ventilator cancel "$first"
    rm "$DISK/ballast"
    echo '$ rm data-ventilator/ballast; wait'
    ended big 0 30
    id=$(cat "$T/big.out")
    echo "$id"
    assert_exit 0 ventilator wait "$id"
    show ventilator status
    grep -o 'disk_.*' "$T/ventilator.err" | sed "s|$T/||g"
    echo '```'
}

# ---- all of it ----

for section in "$@"; do
    case $section in
    memory) run=measure_memory ;;
    stream) run=measure_streams ;;
    detection) run=measure_detection ;;
    disk) run=measure_disk ;;
    *) echo "reliability: there is no '$section'; there are: memory stream detection disk" >&2; exit 2 ;;
    esac
    E2E_DIR=$(mktemp -d /tmp/tarmac-reliability.XXXXXX) || exit 1
    export E2E_DIR E2E_NAME=reliability/$section
    (
        . tests/e2e/lib.sh
        for file in stuck disk memory; do . "tests/e2e/t_$file.sh"; done
        $run
    ) || { rm -rf "$E2E_DIR"; exit 1; }
    rm -rf "$E2E_DIR"
    echo
done
