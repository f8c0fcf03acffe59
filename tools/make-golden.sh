#!/bin/bash
# Makes the golden files anew: a journal and a results store (with their large bodies, in files beside) as the programs of
# this build leave them, after a fixed little set of batches. tests/unit/test_golden.c reads them, and those of every earlier
# version, which are never made again: a change of the format or of the records' version gets files of its own (docs/disk.md).
# usage: [B=build] tools/make-golden.sh [FOLDER]      the default is tests/golden
set -euo pipefail
cd "$(dirname "$0")/.."
B=${B:-build}
out=${1:-tests/golden}
work=$(mktemp -d /tmp/tarmac-golden.XXXXXX)
pids=()
clean_up() {
    exec 9>&- || true
    for pid in "${pids[@]}"; do kill -KILL "$pid" 2>/dev/null || true; done
    rm -rf "$work"
}
trap clean_up EXIT
export TARMAC_VENTILATOR=ipc://$work/c

until_holds() {    # WHAT COMMAND...: within 20 s
    local what=$1 i
    shift
    for ((i = 0; i < 400; i++)); do
        if "$@"; then return; fi
        read -rt 0.05 <> <(:) || true
    done
    echo "make-golden: waited 20 s for $what" >&2
    cat "$work"/*.log >&2
    exit 1
}
is_ready() { grep -q '^ready' "$work/$1.log" 2>/dev/null; }
has() { [ "$("$B/bin/ventilator" status "$1" --json 2>/dev/null | jq -r ".$2")" = "$3" ]; }
submit() { "$B/bin/ventilator" submit "$@" 2>>"$work/submit.log"; }
begin() { "$B/bin/$1" "${@:2}" >"$work/$1.log" 2>&1 </dev/null & pids+=($!); until_holds "the start of $1" is_ready "$1"; }

begin ventilator serve --data "$work/v" --listen "ipc://$work/c" --workers-listen "ipc://$work/w" --lanes "ipc://$work/l-" --http off
begin sink --ventilator "ipc://$work/w" --data "$work/s" --results-listen "ipc://$work/r" --query-listen "ipc://$work/q"
begin worker --ventilator "ipc://$work/w" --name golden --slots 1 --allow-commands

# Complete: standard output and errors, a task that failed twice, values.
a=$(seq 0 5 | submit --name "done" --value user=ada --retries 1 --backoff 1ms,1,1ms -a - -- sh -c 'echo "out $0"; echo "err $0" >&2; exit $(($0 == 3))' '{}')
until_holds "the end of the first batch" has "$a" state complete
# Queued: small payloads and a large one, one of the tasks cancelled.
b=$({ seq 1 2000; head -c 300000 /dev/zero | tr '\0' x; echo; } | submit --name payloads --require gpu=yes --priority 3 -a - -- true)
"$B/bin/ventilator" cancel "$b" --task 7 >/dev/null
until_holds "the cancel of one task" has "$b" cancelled 1
# Queued: a range, and a deadline of a thousand hours.
submit --name range --require gpu=yes --deadline 1000h --range 1-50000 -- true >/dev/null
# Cancelled as a whole.
c=$(seq 1 3 | submit --name cancelled --require gpu=yes -a - -- true)
"$B/bin/ventilator" cancel "$c" --reason "as an example" >/dev/null
until_holds "the cancelled batch" has "$c" state complete
# Half recorded: its worker is killed.
d=$(seq 0 3 | submit --name half -a - -- sh -c '[ "$0" -lt 2 ] || exec sleep 1000' '{}')
until_holds "half of a batch" has "$d" ok 2
# Open: its submitter is killed.
mkfifo "$work/items"
submit --name open --key a-key --require gpu=yes -a "$work/items" -- true >"$work/open.id" &
submitter=$!
pids+=("$submitter")
exec 9>"$work/items"
printf '%s\n' one two three >&9
open_id() { "$B/bin/ventilator" list --json | jq -r 'select(.name == "open").batch'; }
has_three() { has "$(open_id)" total 3; }
until_holds "three items of an open batch" has_three
kill -KILL "$submitter"
kill -KILL "${pids[2]}"
kill -TERM "${pids[0]}" "${pids[1]}"
wait "${pids[0]}" "${pids[1]}"

mkdir -p "$out"
for pair in v:journal s:results; do
    db=$work/${pair%%:*}/${pair##*:}.db
    [ ! -s "$db-wal" ] || { echo "make-golden: $db has a log still" >&2; exit 1; }
    said=$("$B/bin/ventilator" doctor --data "${db%/*}")
    name=$out/${pair##*:}-$(sed -n 's/.*, format \([0-9]*\), records of version \([0-9]*\),.*/\1.\2/p' <<<"$said").db.gz
    gzip -9nc "$db" >"$name"
    # What lies beside it has its name.
    [ ! -s "$db-bulk" ] || gzip -9nc "$db-bulk" >"${name%.gz}-bulk.gz"
    printf '%s: %s bytes, %s unpacked\n' "$name" "$(stat -c %s "$name")" "$(stat -c %s "$db")"
done
