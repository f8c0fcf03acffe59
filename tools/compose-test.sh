#!/bin/bash
# What docker-compose.yml promises: up with four workers, a batch submitted into it, everything recorded,
# a worker container killed in the middle and nothing lost, down again with its volumes.
# usage: tools/compose-test.sh
set -u
cd "$(dirname "$0")/.." || exit 1
PATH=/usr/sbin:/usr/bin:/sbin:/bin
# The builder that comes with the daemon: Debian ships no buildx.
export DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0 COMPOSE_PROJECT_NAME=tarmac-test-$$ COMPOSE_HTTP_TIMEOUT=300
# Any free ports of the host: nothing outside is asked.
export TARMAC_PORT=0 TARMAC_QUERY_PORT=0

work=$(mktemp -d) || exit 1
daemon=
if docker compose version >/dev/null 2>&1; then compose=(docker compose); else compose=(docker-compose); fi

finish() {
    local code=$?
    trap - EXIT
    if [ $code -ne 0 ]; then
        echo "---- logs of the containers:"
        timeout 60 "${compose[@]}" logs --no-color --tail=40 2>&1 | tail -n 200
    fi
    timeout 180 "${compose[@]}" down -v --remove-orphans >"$work/down" 2>&1 || { cat "$work/down"; code=1; }
    if [ -n "$daemon" ]; then
        kill -TERM "$daemon"
        timeout 60 tail --pid="$daemon" -f /dev/null || { echo "compose-test: dockerd $daemon did not leave"; code=1; }
    fi
    rm -rf "$work"
    [ $code -eq 0 ] && echo "compose-test: ok"
    exit $code
}
trap finish EXIT
trap 'exit 143' TERM INT
give_up() { echo "compose-test: $*"; exit 1; }

daemon=$(tools/docker-ready.sh "$work/dockerd.log") || give_up "no Docker here"
"${compose[@]}" config -q || give_up "docker-compose.yml is not taken"
timeout 900 "${compose[@]}" up -d --build --scale worker=4 >"$work/up" 2>&1 || { tail -n 60 "$work/up"; give_up "up failed"; }

inside() { timeout 120 "${compose[@]}" exec -T ventilator "$@"; }
exec {nothing}<> <(:)
until_true() {    # SECONDS WHAT COMMAND...
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ $SECONDS -lt $end ] || give_up "waited in vain for $what"
        read -rt 0.5 -u "$nothing" || true
    done
}
four_workers() { [ "$(inside ventilator workers --json 2>/dev/null </dev/null | jq -rs 'flatten | length' 2>/dev/null)" = 4 ]; }
until_true 60 "four workers" four_workers

inside ventilator submit --wait --format json -- sh -c 'echo $((2*$0))' '{}' ::: 1 2 3 4 5 >"$work/out" </dev/null ||
    give_up "submit --wait exits $?"
[ "$(jq -r .stdout "$work/out" | sort -n | xargs)" = "2 4 6 8 10" ] || { cat "$work/out"; give_up "the results are not 2 4 6 8 10"; }

# Forty pictures made and measured inside the workers, one of which is killed on the way.
batch=$(inside ventilator submit --range 1-40 -- sh -c \
    'convert -size 400x300 plasma:fractal -resize 64x64! png:- | identify -format %wx%h -; sleep 0.2' '{}' </dev/null) || give_up "submit exits $?"
some_done() { [ "$(inside ventilator status "$batch" --json </dev/null | jq .ok)" -ge 6 ]; }
until_true 60 "the first results" some_done
victim=$("${compose[@]}" ps -q worker | head -n 1)
docker kill --signal KILL "$victim" >/dev/null || give_up "can't kill a worker container"
inside ventilator wait "$batch" </dev/null || give_up "wait exits $?"
inside ventilator results "$batch" --format json </dev/null >"$work/out" || give_up "results exits $?"
[ "$(jq -r .index "$work/out" | sort -n | uniq | wc -l)" = 40 ] && [ "$(wc -l <"$work/out")" = 40 ] ||
    give_up "40 tasks should be recorded once each, there are $(wc -l <"$work/out") lines"
[ "$(jq -r .stdout "$work/out" | sort | uniq -c | xargs)" = "40 64x64" ] || give_up "not every picture is 64x64"

inside sh -c '! command -v gcc && ! command -v make && [ "$(id -u)" -ne 0 ]' >/dev/null </dev/null ||
    give_up "the image has build tools in it, or runs as root"

since=$SECONDS
timeout 120 "${compose[@]}" stop >"$work/stop" 2>&1 || { cat "$work/stop"; give_up "stop failed"; }
[ $((SECONDS - since)) -lt 30 ] || give_up "stopping idle containers took $((SECONDS - since)) s"
for service in ventilator sink; do
    code=$(docker inspect -f '{{.State.ExitCode}}' "$("${compose[@]}" ps -q $service | head -n 1)")
    [ "$code" = 0 ] || give_up "$service ended with exit code $code"
done
