#!/bin/bash
# The main job, start to end: 1,000 images through a ventilator, four workers and a sink on this machine,
# thumbnails on disk, a summary, a contact sheet, nothing left running. Free ports and a folder of its own
# (B/demo) keep it out of the way of whatever else runs here.
# usage: [B=build] [IMAGES=1000] tools/demo.sh
set -u
cd "$(dirname "$0")/.." || exit 1
PATH=/usr/sbin:/usr/bin:/sbin:/bin
B=${B:-build}
n=${IMAGES:-1000}
dir=$B/demo
bin=$(realpath "$B/bin") || exit 1
unset "${!TARMAC_@}"
export DEMO_MARK=demo-$$-$RANDOM    # what the demo started is known by this, however far it strays

say() { printf '%s\n' "$*" >&2; }
give_up() { say "demo: $*"; exit 1; }

declare -A pids=()
exec {nothing}<> <(:)
nap() { read -rt 0.1 -u "$nothing" || true; }
tell_logs() { for name in "${!pids[@]}"; do say "---- $name:"; tail -n 15 "$dir/$name.log" >&2; done; }
left_running() { grep -alF "DEMO_MARK=$DEMO_MARK" /proc/[0-9]*/environ 2>/dev/null | sed 's|/proc/\([0-9]*\)/.*|\1|' | while read -r pid; do
    case $(readlink "/proc/$pid/exe") in */grep | */sed | '') ;; *) echo "$pid" ;; esac; done; }

end_one() {    # NAME: SIGTERM, and at most 20 s
    local pid=${pids[$1]} i code=0
    kill -TERM "$pid" 2>/dev/null
    for ((i = 0; i < 200; i++)); do kill -0 "$pid" 2>/dev/null || break; nap; done
    if kill -0 "$pid" 2>/dev/null; then
        say "demo: $1 did not leave in 20 s; killed"
        kill -KILL "$pid"
        code=1
    fi
    wait "$pid" 2>/dev/null || { say "demo: $1 ended with exit code $?; its last words:"; tail -n 15 "$dir/$1.log" >&2; code=1; }
    unset "pids[$1]"
    return $code
}
end_all() {
    local name bad=0
    for name in worker-1 worker-2 worker-3 worker-4 sink ventilator; do
        [ -z "${pids[$name]:-}" ] || end_one "$name" || bad=1
    done
    return $bad
}
trap end_all EXIT
trap 'say "demo: interrupted"; exit 130' INT TERM

start() {    # NAME COMMAND...
    local name=$1
    shift
    "$@" >"$dir/$name.log" 2>&1 </dev/null &
    pids[$name]=$!
}
wait_ready() {    # NAME
    local i
    for ((i = 0; i < 200; i++)); do
        grep -q '^ready\b' "$dir/$1.log" && return 0
        kill -0 "${pids[$1]}" 2>/dev/null || break
        nap
    done
    tell_logs
    give_up "$1 did not become ready"
}
ready_field() { grep '^ready\b' "$dir/$1.log" | tr ' ' '\n' | sed -n "s/^$2=//p"; }

rm -rf "$dir"/{data-ventilator,data-sink,thumbs,*.log,*.json,contact-sheet.png}
mkdir -p "$dir"
say "demo: $n images, made in $dir/images (the same ones each time)"
tools/make-images.sh "$dir/images" "$n" || give_up "no images"

start ventilator "$bin/ventilator" serve --data "$dir/data-ventilator" --listen tcp://127.0.0.1:0 \
    --workers-listen tcp://127.0.0.1:0 --lanes 0 --http off
wait_ready ventilator
TARMAC_VENTILATOR=$(ready_field ventilator clients)
export TARMAC_VENTILATOR
workers=$(ready_field ventilator workers)
start sink "$bin/sink" --ventilator "$workers" --data "$dir/data-sink" \
    --results-listen tcp://127.0.0.1:0 --query-listen tcp://127.0.0.1:0
for i in 1 2 3 4; do
    start "worker-$i" "$bin/worker" --ventilator "$workers" --name "worker-$i" --slots 1 --allow-commands
done
for name in sink worker-1 worker-2 worker-3 worker-4; do wait_ready "$name"; done
say "demo: a ventilator, four workers of one slot each, and a sink are ready; submitting"

began=$(date +%s%N)
"$bin/ventilator" submit --wait --name thumbnails --deadline 5m --bar --format none \
    --files "$dir"/images/* --pipe --out-dir "$dir/thumbs" --out-name '{/.}.png' \
    -- convert - -auto-orient -thumbnail 160x160 png:-
code=$?
took_ms=$((($(date +%s%N) - began) / 1000000))

batch=$("$bin/ventilator" list --json | jq -rs 'flatten | .[0].batch')
"$bin/ventilator" status "$batch" --json >"$dir/status.json" || { tell_logs; give_up "no status of the batch '$batch'"; }
"$bin/ventilator" results "$batch" --format json --verdict failed,deadline_exceeded,cancelled,lost,rejected \
    >"$dir/failed.json" || give_up "no results of the batch '$batch'"

field() { jq -r ".$1" "$dir/status.json"; }
broken=$(wc -l <"$dir/broken.txt")
thumbs=$(find "$dir/thumbs" -type f -name '*.png' -size +0 | wc -l)
say ""
say "batch $batch (exit code $code)"
for verdict in ok failed deadline_exceeded cancelled lost rejected; do
    say "$(printf '  %-18s %6s' "$verdict" "$(field $verdict)")"
done
say "$(printf '  %-18s %6s   in %d.%03d s: %d tasks/s' total "$(field total)" $((took_ms / 1000)) $((took_ms % 1000)) $((n * 1000 / (took_ms > 0 ? took_ms : 1))))"
say ""
say "what failed ($broken were broken on purpose):"
# The temporary name that convert gives its standard input says nothing; its place and words stay.
jq -r '"  \(.values.file // .index): \((.stderr // .reason // "") | split("\n")[0])"' "$dir/failed.json" |
    sed "s|$dir/images/||; s|\`/tmp/magick-[^']*'|its input|" >&2

montage "$dir"/thumbs/*.png -background '#202428' -geometry 48x48+1+1 -tile 40x "$dir/contact-sheet.png" ||
    give_up "montage made no contact sheet of $dir/thumbs"

bad=0
expect() { [ "$2" = "$3" ] || { say "demo: $1 is $2, should be $3"; bad=1; }; }
expect "the exit code (1: some are not ok)" "$code" "$([ "$broken" -eq 0 ] && echo 0 || echo 1)"
expect "the number of tasks" "$(field total)" "$n"
expect "the number of ok" "$(field ok)" $((n - broken))
expect "the number of failed" "$(field failed)" "$broken"
expect "the number of thumbnails" "$thumbs" $((n - broken))
expect "the list of failed images" "$(jq -r .values.file "$dir/failed.json" | sed 's|.*/||' | sort | paste -sd,)" "$(sort "$dir/broken.txt" | paste -sd,)"

end_all || bad=1
left=$(left_running)
for pid in $left; do say "demo: process $pid is left running: $(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"; bad=1; done

say ""
say "thumbnails:    $dir/thumbs ($thumbs files)"
say "contact sheet: $dir/contact-sheet.png ($(identify -format '%wx%h' "$dir/contact-sheet.png"))"
[ -n "$left" ] || say "nothing is left running"
[ "$bad" -eq 0 ] || exit 1
