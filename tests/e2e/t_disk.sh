# shellcheck shell=bash disable=SC2016
# Disks: full ones, on which nothing is lost, what ends still ends, and work goes on by itself when there is room;
# damaged stores, which are refused or reported and never passed over; folders that can't be used.

# ---- a small disk ----

# A tmpfs of SIZE at FOLDER, in a mount namespace that goes with the process that holds it: nothing is left behind. Seen from here
# the folder is $DISK; what runs as `on_disk COMMAND...` sees it in its place.
small_disk() {    # FOLDER SIZE
    mkdir -p "$1"
    : >"$T/disk.out"
    start disk unshare -m --propagation private sh -c 'mount -t tmpfs -o size="$2",mode=700 tarmac-test "$1" && echo ready && exec sleep 3600' disk "$1" "$2"
    wait_for 10 "the small disk" ready_or_gone disk
    is_ready disk || fail "no disk of its own can be mounted: this test needs root (CAP_SYS_ADMIN), has: $(grep CapEff /proc/self/status); $(cat "$T/disk.err")"
    DISK=/proc/${PIDS[disk]}/root$1
    mkdir -p "$T/bin"
    printf '#!/bin/sh\nexec nsenter -m -t %s -- "$@"\n' "${PIDS[disk]}" >"$T/bin/on_disk"
    printf '#!/bin/sh\nexec "%s" "%s/ventilator" "$@"\n' "$T/bin/on_disk" "$BIN" >"$T/bin/ventilator"
    printf '#!/bin/sh\nexec "%s" "%s/sink" "$@"\n' "$T/bin/on_disk" "$BIN" >"$T/bin/sink"
    chmod +x "$T"/bin/*
}
on_disk() { "$T/bin/on_disk" "$@"; }
on_small_disk() { local BIN=$T/bin; "$@"; }    # start_ventilator or start_sink: there
free_kb() { stat -f -c '%a %S' "$DISK" | awk '{ print int($1 * $2 / 1024) }'; }
fill_but() {    # KB [NAME]: leaves so much
    local ballast=$DISK/${2:-ballast}
    rm -f "$ballast"
    head -c $((($(free_kb) - $1) * 1024)) /dev/zero >"$ballast" || fail "the ballast doesn't fit"
}

says() { grep -qE -- "$2" "$T/$1.err"; }    # NAME WORDS
is_complete() { [ "$(status_of "$1" state)" = complete ]; }
status_is() { [ "$(status_of "$1" "$2")" = "$3" ]; }
items() {    # N LENGTH: lines, each beginning with its number
    head -c "$2" /dev/zero | tr '\0' x >"$T/filling"
    awk -v n="$1" '{ for (i = 1; i <= n; i++) print i " " $0 }' "$T/filling"
}

# ---- the ventilator's disk is full ----

test_full_disk_of_the_ventilator() {
    small_disk "$T/data-ventilator" 96m
    on_small_disk start_ventilator
    start_sink
    local ending timed big
    ending=$(submit --range 1-5 --require no=such -- true '{}')
    timed=$(submit --range 1-5 --require no=such --deadline 4s -- true '{}')
    fill_but 20000
    items 400 60000 >"$T/items"
    start big "$BIN/ventilator" submit --name big -a "$T/items" --pipe -- sh -c 'awk "{ print \$1 }" >>"$0"' "$T/ran"
    wait_for 20 "the submitter to say what it waits for" says big 'disk of the ventilator is full.*waiting'
    alive "${PIDS[big]}" || fail "the submitter has left"
    says ventilator 'disk_full' || fail "the log doesn't tell of the full disk"
    wait_for 5 "status to tell" status_is "$ending" journal_full true
    ventilator status >"$T/status" || fail "status exits $?"
    assert_contains "$T/status" "the journal's disk is full"
    big=$(ventilator list --json | jq -r 'select(.name == "big") | .batch')
    assert_contains <(ventilator status "$big") "the disk of the ventilator is full"

    # Nothing new comes in: each who tries is told why, and how it stands with what was admitted.
    assert_exit 4 "$BIN/ventilator" submit --reconnect-timeout 1s -- true ::: 1
    assert_contains "$T/err" "the disk of the ventilator is full"
    assert_contains "$T/err" "--reconnect-timeout"
    # What ends finds the room that was kept for it, even when somebody else takes all the rest of the disk.
    fill_but 0 more_ballast
    assert_exit 0 timeout $((10 * PATIENCE)) "$BIN/ventilator" cancel "$ending"
    wait_for 5 "the cancelled batch to be complete" is_complete "$ending"
    wait_for 15 "the batch with a deadline to be complete" is_complete "$timed"
    start_worker w1 --slots 2
    wait_for 20 "what was admitted to run" status_reaches "$big" ok 50
    status_is "$ending" journal_full true || fail "there is room again, and nobody has made any"

    # Room: everything goes on by itself.
    rm "$DISK/ballast" "$DISK/more_ballast"
    ended big 0 30
    assert_exit 0 ventilator wait "$big"
    assert_eq "total" "$(status_of "$big" total)" 400
    assert_all_ok "$big" 400 "$T/ran"
    assert_eq "journal_full" "$(status_of "$big" journal_full)" false
    says ventilator 'disk_has_room' || fail "the log doesn't tell of the room"
}

test_interrupt_of_a_submitter_while_the_disk_is_full() {
    small_disk "$T/data-ventilator" 64m
    on_small_disk start_ventilator
    fill_but 16000
    items 400 60000 >"$T/items"
    start big "$BIN/ventilator" submit --key nightly -a "$T/items" --pipe -- true
    wait_for 20 "the submitter to wait" says big 'is full.*waiting'
    kill -INT "${PIDS[big]}"
    ended big 130 10
    says big 'interrupted after [0-9]+ items were admitted; batch .* stays open' || fail "the submitter doesn't say what becomes of its batch: $(cat "$T/big.err")"
    # The ventilator leaves and comes back on a disk that is as full as before.
    stop ventilator TERM 0
    fill_but 100
    on_small_disk start_ventilator
    assert_eq "batches" "$(ventilator list --json | jq -r '"\(.state) \(.total > 0)"')" "open true"
    assert_exit 4 "$BIN/ventilator" submit --reconnect-timeout 500ms -- true ::: 1
    rm "$DISK/ballast"
    assert_exit 0 "$BIN/ventilator" submit --key nightly -a "$T/items" --pipe -- true
    assert_eq "total" "$(ventilator list --json | jq -r .total)" 400
}

# ---- the sink's disk is full ----

test_full_disk_of_the_sink() {
    small_disk "$T/data-sink" 96m
    start_ventilator
    on_small_disk start_sink
    start_worker w1 --slots 4
    local ending timed big
    fill_but 14000
    big=$(submit --name big --range 1-300 -- sh -c 'echo "$0" >>"$1"; head -c 100000 /dev/zero | tr "\0" x' '{}' "$T/ran")
    ending=$(submit --range 1-5 --require no=such -- true '{}')
    timed=$(submit --range 1-5 --require no=such --deadline 4s -- true '{}')
    wait_for 20 "status to tell of the full disk" status_is "$big" sink_full true
    assert_contains <(ventilator status "$big") "the disk of the sink is full"
    says sink disk_full || fail "the sink's log doesn't tell of the full disk"
    says ventilator sink_full || fail "the ventilator's log doesn't tell of the full disk"
    # The worker runs the rest and keeps the results; it isn't blamed for them.
    wait_for 20 "all tasks to have run" ran_least "$T/ran" 300
    fill_but 0 more_ballast
    assert_exit 0 timeout $((10 * PATIENCE)) "$BIN/ventilator" cancel "$ending"
    wait_for 5 "the cancelled batch to be complete" is_complete "$ending"
    wait_for 15 "the batch with a deadline to be complete" is_complete "$timed"
    is_complete "$big" && fail "the batch is complete, whose results can't be recorded"
    # What is recorded can be read.
    assert_exit 0 ventilator results "$ending" --format json
    assert_eq "verdicts" "$(verdicts "$T/out")" "cancelled=5"
    status_is "$big" sink_full true || fail "there is room again, and nobody has made any"
    # What nobody reads is not taken in again and again by connections that are made anew.
    wait_for 20 "the port for results to be closed" says sink results_closed
    has_no_port() { ! listening_ports "$1" | grep -qx "$2"; }
    wait_for 10 "the port to be gone" has_no_port "${PIDS[sink]}" "${RESULTS##*:}"

    rm "$DISK/ballast" "$DISK/more_ballast"
    assert_exit 0 timeout $((60 * PATIENCE)) "$BIN/ventilator" wait "$big"
    assert_all_ok "$big" 300 "$T/ran"
    assert_eq "runs beyond the tasks" "$extra" 0
    assert_eq "sink_full" "$(status_of "$big" sink_full)" false
    ! says ventilator 'worker_lost|worker_cut_off' || fail "a worker was given up although the sink's disk was full"
}

# ---- nothing to begin with ----

vent_at() { ventilator serve --data "$1" --listen tcp://127.0.0.1:0 --workers-listen tcp://127.0.0.1:0 --lanes 0 --http off; }
sink_at() { "$BIN/sink" --ventilator tcp://127.0.0.1:1 --data "$1" --results-listen tcp://127.0.0.1:0 --query-listen tcp://127.0.0.1:0; }

test_full_disk_at_the_start() {
    small_disk "$T/disk" 2m
    fill_but 20
    local BIN=$T/bin
    assert_refused 6 "$T/disk/v room" vent_at "$T/disk/v"
    assert_refused 6 "$T/disk/s room" sink_at "$T/disk/s"
}

test_folders_that_cannot_be_used() {
    : >"$T/file"
    assert_refused 6 "$T/file folder" vent_at "$T/file"
    assert_refused 6 "$T/file folder" sink_at "$T/file"
    # The folder of the other: refused, whether its owner is there or not.
    start_ventilator
    start_sink
    assert_refused 5 "$T/data-ventilator" sink_at "$T/data-ventilator"
    assert_refused 5 "$T/data-sink" vent_at "$T/data-sink"
    stop sink TERM 0
    stop ventilator TERM 0
    assert_refused 6 "$T/data-ventilator journal.db" sink_at "$T/data-ventilator"
    assert_refused 6 "$T/data-sink results.db" vent_at "$T/data-sink"
    [ ! -e "$T/data-ventilator/results.db" ] && [ ! -e "$T/data-sink/journal.db" ] || fail "a refused program has left a file"
    # A disk that is only for reading, with a store on it and without.
    small_disk "$T/disk" 64m
    cp -r "$T/data-ventilator" "$DISK/v"
    cp -r "$T/data-sink" "$DISK/s"
    on_disk mount -o remount,ro "$T/disk"
    local BIN=$T/bin folder
    for folder in v new; do assert_refused 6 "$T/disk/$folder" vent_at "$T/disk/$folder"; done
    for folder in s new; do assert_refused 6 "$T/disk/$folder" sink_at "$T/disk/$folder"; done
}

# ---- damage ----

# Overwrites the first bytes behind TEXT in FILE.
damage() {    # FILE TEXT     in it, or with its large bodies
    local at file
    for file in "$1" "$1-bulk"; do
        at=$(grep -obUaF -- "$2" "$file" | tail -n 1 | cut -d: -f1)
        [ -n "$at" ] || continue
        printf 'DAMAGED' | dd of="$file" bs=1 seek=$((at + ${#2})) conv=notrunc status=none
        return
    done
    fail "$1 doesn't hold '$2'"
}

# Batches with names, and with payloads and outputs long enough for pages of their own, all of it out of the logs.
make_stores() {
    local long
    long=$(head -c 60000 /dev/zero | tr '\0' x)
    start_cluster 1
    done_one=$(submit --name done_one -- sh -c 'head -c 60000 /dev/zero | tr "\0" x; echo "Output-$0-0123456789abcdef"' '{}' ::: 1 2 3)
    assert_exit 0 ventilator wait "$done_one"
    open_one=$(submit --name open_one --require no=such -- true '{}' ::: "${long}Payload-1-0123456789abcdef" "${long}Payload-2-0123456789abcdef")
    stop w1 TERM 0
    stop ventilator TERM 0
    stop sink TERM 0
    rm -f "$T"/data-*/*.db-wal "$T"/data-*/*.db-shm    # empty by now, or not there
}

test_damaged_stores_are_refused_at_the_start() {
    make_stores
    cp -r "$T/data-ventilator" "$T/v"
    cp -r "$T/data-sink" "$T/s"
    # A record, the head of the file, the file cut short, something else in its place.
    damage "$T/v/journal.db" open_on
    assert_refused 6 "$T/v/journal.db damaged restore" vent_at "$T/v"
    damage "$T/s/results.db" open_on
    assert_refused 6 "$T/s/results.db damaged restore" sink_at "$T/s"
    cp "$T/data-ventilator/journal.db" "$T/v/"
    cp "$T/data-sink/results.db" "$T/s/"
    printf 'not a database' | dd of="$T/v/journal.db" conv=notrunc status=none
    printf 'not a database' | dd of="$T/s/results.db" conv=notrunc status=none
    assert_refused 6 "$T/v/journal.db move" vent_at "$T/v"
    assert_refused 6 "$T/s/results.db move" sink_at "$T/s"
    cp "$T/data-ventilator/journal.db" "$T/v/"
    cp "$T/data-sink/results.db" "$T/s/"
    truncate -s 20000 "$T/v/journal.db"
    truncate -s 20000 "$T/s/results.db"
    assert_refused 6 "$T/v/journal.db damaged" vent_at "$T/v"
    assert_refused 6 "$T/s/results.db damaged" sink_at "$T/s"
    # Nothing of it was mended or emptied on the way, and what was not touched still opens.
    assert_eq "length" "$(stat -c %s "$T/v/journal.db")" 20000
    start_ventilator
    assert_eq "batches" "$(ventilator list --json | jq -r .name | sort | xargs)" "done_one open_one"
}

test_damage_that_is_found_while_running() {
    make_stores
    damage "$T/data-ventilator/journal.db" Payload-2
    damage "$T/data-sink/results.db" Output-2
    start_ventilator
    start_sink
    start_worker w1 --label no=such
    # Its tasks can't be read: said in its note and in the log, and nothing of it runs.
    wait_for 20 "the batch's note" eval '[[ "$(status_of "$open_one" note)" == *journal*damaged* ]]'
    says ventilator 'journal_damaged' || fail "the log doesn't tell of the damage"
    assert_eq "counts" "$(ventilator status "$open_one" --json | jq -c '[.ok, .queued, .running]')" "[0,2,0]"
    # The results of the other can't be read as a whole: no line of them is made up, and the reader is told.
    assert_exit 4 ventilator results "$done_one"
    assert_contains "$T/err" damaged
    ! grep -q "Output-2" "$T/out" || fail "a damaged result was printed"
    # Others don't mind, and what can't run can be ended.
    assert_exit 0 ventilator submit --wait -- echo '{}' ::: fine
    assert_eq "output" "$(cat "$T/out")" fine
    assert_exit 0 ventilator cancel "$open_one"
    assert_exit 130 ventilator wait "$open_one"
}
