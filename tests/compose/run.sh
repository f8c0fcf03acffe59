#!/bin/bash
# The container tests: docker-compose.yml on one host, workers from another one, a one-node swarm, the systemd units. Images
# are built once; the tests run one after the other, on one system where they can. Needs Docker, and starts a daemon when
# none runs; where the kernel forbids it, it fails and says so. Closing line: "N passed, M failed".
# usage: [B=build] [IMAGE=tarmac] [NO_BUILD=1: with the images as they are] tests/compose/run.sh [NAME...]      NAME: a part of a function's name
set -u
cd "$(dirname "$0")/../.." || exit 1
PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
work=$(mktemp -d /tmp/tarmac-compose.XXXXXX) || exit 1
# The client on this host.
[ -x "${B:-build}/bin/ventilator" ] || { tools/setup.sh build && make -s -j"$(nproc)" B="${B:-build}" programs; } || { echo "0 passed, 1 failed"; exit 1; }
bin=$(realpath "${B:-build}/bin")
exec {nothing}<> <(:)

# The builder that comes with the daemon: Debian ships no buildx. No .env of somebody who works here.
unset "${!TARMAC_@}"
export DOCKER_BUILDKIT=0 COMPOSE_DOCKER_CLI_BUILD=0 COMPOSE_HTTP_TIMEOUT=300 COMPOSE_PROJECT_NAME=tarmac-test-$$ COMPOSE_FILE=${COMPOSE_FILE:-docker-compose.yml}
export TARMAC_IMAGE=${IMAGE:-tarmac} TARMAC_WORKER_IMAGE=${IMAGE:-tarmac}-worker TARMAC_SLOTS=4
: >"$work/no.env"
if docker compose version >/dev/null 2>&1; then compose=(docker compose --env-file "$work/no.env"); else compose=(docker-compose --env-file "$work/no.env"); fi
daemon=
passed=0 failed=0

. tests/compose/lib.sh
# shellcheck source=/dev/null
for file in tests/compose/t_*.sh; do . "$file"; done

# A block of ports that nobody uses, as the numbers inside and outside are to be the same.
free_ports() {    # N
    python3 -c '
import random, socket, sys
n = int(sys.argv[1])
while True:
    first = random.randrange(20000, 32000)
    held = []
    try:
        for port in range(first, first + n):
            s = socket.socket()
            s.bind(("0.0.0.0", port))
            held.append(s)
        print(first)
        break
    except OSError:
        pass' "$1"
}

finish() {
    local code=$?
    trap - EXIT
    clean_stack
    clean_units
    clean_extra_host
    timeout 180 "${compose[@]}" --profile client down -v --remove-orphans >"$work/down" 2>&1 || { cat "$work/down"; code=1; }
    if [ -n "$daemon" ]; then
        kill -TERM "$daemon"
        timeout 60 tail --pid="$daemon" -f /dev/null || { echo "dockerd $daemon did not leave"; code=1; }
    fi
    rm -rf "$work"
    exit $code
}
trap finish EXIT
trap 'exit 143' TERM INT
give_up() { echo "# $*"; echo "$passed passed, $((failed + 1)) failed"; exit 1; }

daemon=$(tools/docker-ready.sh "$work/dockerd.log") || give_up "no Docker here: see above for what the kernel or the daemon refuses"
first=$(free_ports 24) || give_up "no free ports"
export TARMAC_PORT=$first TARMAC_QUERY_PORT=$((first + 1)) TARMAC_RESULTS_PORT=$((first + 2)) TARMAC_WORKERS_PORT=$((first + 3))
export TARMAC_LANES=$((first + 4))-$((first + 23))
TARMAC_BIND=$(docker network inspect -f '{{(index .IPAM.Config 0).Gateway}}' bridge) || give_up "no bridge network"
# A daemon names the gateway only of a bridge that was there before it.
[ -n "$TARMAC_BIND" ] || TARMAC_BIND=$(ip -4 -o addr show docker0 | awk '{sub("/.*", "", $4); print $4; exit}')
[ -n "$TARMAC_BIND" ] || give_up "the bridge network has no address"
export TARMAC_BIND TARMAC_VENTILATOR=tcp://$TARMAC_BIND:$TARMAC_PORT
"${compose[@]}" config -q || give_up "docker-compose.yml is not taken"
began=$SECONDS
[ -n "${NO_BUILD:-}" ] || timeout 900 "${compose[@]}" build >>"$work/compose.log" 2>&1 </dev/null || { tail -n 60 "$work/compose.log"; give_up "the images can't be built"; }
echo "# images after $((SECONDS - began)) s"
compose up -d --no-build --scale worker=2 || { tail -n 60 "$work/compose.log"; give_up "up failed"; }
docker cp "$(keys_container)":/keys/client "$work/client" >/dev/null || give_up "the keys of clients can't be copied"
export TARMAC_KEYS=$work/client

for test_name in $(grep -ho '^test_[a-z_]*' tests/compose/t_one_host.sh tests/compose/t_hosts.sh tests/compose/t_end.sh); do
    wanted=$([ $# -eq 0 ] && echo yes)
    for part in "$@"; do case $test_name in *"$part"*) wanted=yes ;; esac; done
    [ -n "$wanted" ] || continue
    began=$SECONDS
    if $test_name; then
        passed=$((passed + 1))
        echo "ok - compose/$test_name ($((SECONDS - began)) s)"
    else
        failed=$((failed + 1))
        echo "not ok - compose/$test_name ($((SECONDS - began)) s)"
        timeout 60 "${compose[@]}" ps 2>&1 | tail -n 20
        timeout 60 "${compose[@]}" logs --no-color --tail=15 2>&1 | tail -n 120
    fi
done
echo "$passed passed, $failed failed"
[ $failed -eq 0 ]
