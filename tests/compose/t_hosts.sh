# shellcheck shell=bash
# More than one host: workers that come from elsewhere, a swarm, and hosts without containers.

# ---- docker-compose.worker.yml ----

extra=tarmac-extra-$$
extra_compose() { COMPOSE_FILE=docker-compose.worker.yml COMPOSE_PROJECT_NAME=$extra TARMAC_HOST=$TARMAC_BIND TARMAC_KEYS_DIR=$work/worker-elsewhere compose "$@"; }
extra_running() { docker ps -q --filter "label=com.docker.compose.project=$extra" --filter label=com.docker.compose.service=worker; }
clean_extra_host() { [ -z "$(docker ps -aq --filter "label=com.docker.compose.project=$extra" 2>/dev/null)" ] || extra_compose down -v --remove-orphans; }

# A network of its own, from which only published ports are reached; keys of its own, which can be revoked.
test_a_worker_from_another_host() {
    local batch files=$COMPOSE_FILE code=0
    export COMPOSE_FILE=$files:docker-compose.open.yml
    whole 2 && compose up -d --no-build --scale worker=2 || { tail -n 20 "$work/compose.log"; code=1; }
    [ $code -ne 0 ] || a_worker_elsewhere || code=1
    clean_extra_host
    export COMPOSE_FILE=$files
    compose up -d --no-build --scale worker=2 || code=1
    return $code
}
a_worker_elsewhere() {
    compose run --rm -T keys ventilator keygen --add worker=elsewhere /keys && docker cp "$(keys_container)":/keys/worker-elsewhere "$work" >/dev/null ||
        { tail -n 5 "$work/compose.log"; fail "no keys for a worker elsewhere"; return 1; }
    until_true 90 "2 workers" n_workers 2 && extra_compose up -d --no-build --scale worker=2 || { tail -n 20 "$work/compose.log"; fail "no workers elsewhere"; return 1; }
    until_true 90 "4 workers" n_workers 4 || { extra_compose logs; return 1; }
    # Only those elsewhere are left: each of them brings its results by itself.
    scale 0 && until_true 60 "2 workers elsewhere" n_workers 2 || return 1
    batch=$(submit --range 1-500 -- echo '{}') && recorded_once "$batch" 500 || return 1
    timeout 120 docker run --rm --user "$(id -u)" -v "$work/client:/keys:ro" -e TARMAC_KEYS=/keys "$TARMAC_IMAGE" ventilator doctor --for-worker \
        --ventilator "$TARMAC_VENTILATOR" >"$work/doctor" 2>&1 </dev/null || { cat "$work/doctor"; fail "doctor finds something"; return 1; }
    compose run --rm -T keys ventilator keygen --revoke worker=elsewhere /keys || { fail "can't revoke"; return 1; }
    until_true 60 "that revoked workers are gone" n_workers 0
}

# ---- docker-stack.yml ----

stack=tarmac-stack-$$ swarm=        # swarm: whether this node was in one before us
in_stack() { docker ps -q --filter "label=com.docker.swarm.service.name=${stack}_$1"; }
stack_is_gone() { [ -z "$(docker ps -aq --filter "label=com.docker.stack.namespace=$stack")" ]; }
clean_stack() {
    [ -n "$swarm" ] || return 0
    docker stack rm "$stack" >>"$work/stack.log" 2>&1
    until_true 90 "the end of the stack" stack_is_gone
    [ $swarm != mine ] || docker swarm leave --force >>"$work/stack.log" 2>&1
    docker volume rm "${stack}_ventilator" "${stack}_sink" >>"$work/stack.log" 2>&1
    swarm=
}
stack_told() { docker service ps --no-trunc --format '{{.Name}} {{.CurrentState}} {{.Error}}' "${stack}_ventilator" "${stack}_sink" "${stack}_worker" 2>&1 | head -n 20; }
n_in_stack() { [ "$(in_stack "$1" | wc -l)" -eq "$2" ]; }

# One node is enough to see that swarm takes the file, places, scales and heals.
test_a_stack_on_a_swarm() {
    local code=0
    compose stop || { fail "can't stop the other system"; return 1; }
    a_stack || { code=1; stack_told; tail -n 10 "$work/stack.log"; }
    clean_stack
    compose start || code=1
    return $code
}
a_stack() {
    local batch n
    if [ "$(docker info -f '{{.Swarm.LocalNodeState}}')" = active ]; then
        swarm=theirs
    else
        docker swarm init --advertise-addr 127.0.0.1 >>"$work/stack.log" 2>&1 || { fail "docker swarm init is refused: $(tail -n 3 "$work/stack.log")"; return 1; }
        swarm=mine
    fi
    docker node update --label-add tarmac=store "$(docker info -f '{{.Swarm.NodeID}}')" >>"$work/stack.log" 2>&1 || { fail "no label"; return 1; }
    "$bin/ventilator" keygen "$work/stack-keys" >>"$work/stack.log" || { fail "keygen"; return 1; }
    TARMAC_WORKERS=2 TARMAC_KEYS_DIR=$work/stack-keys timeout 120 docker stack deploy -c docker-stack.yml "$stack" >>"$work/stack.log" 2>&1 ||
        { fail "the stack is not taken"; return 1; }
    export TARMAC_KEYS=$work/stack-keys/client TARMAC_VENTILATOR=tcp://127.0.0.1:$TARMAC_PORT
    stack_works
    n=$?
    export TARMAC_KEYS=$work/client TARMAC_VENTILATOR=tcp://$TARMAC_BIND:$TARMAC_PORT
    return $n
}
stack_works() {
    local batch
    until_true 120 "2 workers of the stack" n_workers 2 || return 1
    batch=$(submit --range 1-1500 -- sh -c 'sleep 0.02') && until_true 60 "the first results" has_ok "$batch" 100 || return 1
    docker service scale -d "${stack}_worker=4" >>"$work/stack.log" 2>&1 && until_true 120 "4 workers of the stack" n_workers 4 || return 1
    crash "$(in_stack worker | head -n 1)" && crash "$(in_stack ventilator)" || { fail "nobody can be killed"; return 1; }
    recorded_once "$batch" 1500 && until_true 120 "4 workers again" n_workers 4
}

# ---- hosts without containers ----

units=
clean_units() { [ -z "$units" ] || docker rm -f "$units" >/dev/null 2>&1; units=; }
on_host() { timeout 120 docker exec "$units" "$@" </dev/null; }
booted() { case $(on_host systemctl is-system-running 2>/dev/null) in running | degraded) ;; *) return 1 ;; esac; }
unit_says() { on_host systemctl show -p "$2" --value "tarmac-$1" | grep -qE -- "$3"; }

# systemd as the first process of a container, the nearest thing to a host: Type=notify, the sandbox, restart, drain.
test_units_of_systemd() {
    local code=0 groups=() group
    make -s install-units DESTDIR="$work/units" PREFIX=/usr/local >"$work/units.log" 2>&1 && cp tests/compose/units.Dockerfile "$work/units/Dockerfile" &&
        docker build -q --build-arg IMAGE="$TARMAC_IMAGE" -t "$TARMAC_IMAGE-units" "$work/units" >>"$work/units.log" 2>&1 ||
        { tail -n 20 "$work/units.log"; fail "no image with systemd"; return 1; }
    # What the first process of a host needs: a hierarchy of control groups of its own, where they are of the first version.
    for group in /sys/fs/cgroup/systemd; do [ ! -d $group ] || groups+=(-v "$group:$group:rw"); done
    [ ${#groups[@]} -gt 0 ] || groups=(--cgroupns private -v /sys/fs/cgroup:/sys/fs/cgroup:rw)
    units=$(docker run -d --cap-add SYS_ADMIN --security-opt seccomp=unconfined --security-opt apparmor=unconfined "${groups[@]}" \
        --tmpfs /run:exec --tmpfs /run/lock --tmpfs /tmp -e container=docker "$TARMAC_IMAGE-units" 2>>"$work/units.log") ||
        { tail -n 5 "$work/units.log"; units=; fail "the container with systemd does not start"; return 1; }
    units_work || { code=1; on_host journalctl --no-pager -n 60 2>&1 | tail -n 60; }
    clean_units
    return $code
}
units_work() {
    local batch program
    until_true 60 "systemd" booted || return 1
    on_host sh -c 'echo TARMAC_ALLOW_COMMANDS=1 >>/etc/tarmac/worker.env && echo TARMAC_SLOTS=2 >>/etc/tarmac/worker.env'
    # A start returns when the program has said that it is ready.
    on_host systemctl start tarmac-ventilator tarmac-sink tarmac-worker || { fail "systemctl start"; return 1; }
    until_true 60 "a worker with its ventilator" unit_says worker StatusText 'with its ventilator, 2 slots' || return 1
    on_host ventilator submit --wait --format json -- sh -c 'id -un; touch /etc/x /usr/x 2>/dev/null || echo kept out' ::: 1 >"$work/out" 2>"$work/err" ||
        { cat "$work/err"; fail "submit exits $?"; return 1; }
    [ "$(jq -r .stdout "$work/out" | xargs)" = "tarmac kept out" ] || { cat "$work/out"; fail "the task is not kept in its sandbox"; return 1; }
    # Killed, it comes back by itself.
    on_host sh -c 'kill -KILL "$(systemctl show -p MainPID --value tarmac-sink)"'
    until_true 60 "a restart of the sink" unit_says sink NRestarts '^1$' && until_true 60 "the sink" unit_says sink StatusText 'with its ventilator' || return 1
    # A stop lets what runs finish.
    batch=$(on_host ventilator submit -- sh -c 'echo begun >"/tmp/$0"; sleep 1; echo ended' ::: 1 2 2>/dev/null)
    until_true 60 "running tasks" two_run "$batch" && on_host systemctl stop tarmac-worker || { fail "stop of the worker"; return 1; }
    [ "$(on_host ventilator status "$batch" --json | jq .ok)" = 2 ] || { fail "a stop did not let two tasks finish"; return 1; }
    for program in worker ventilator sink; do
        on_host systemctl stop "tarmac-$program" && unit_says $program Result '^success$' && unit_says $program ActiveState '^inactive$' ||
            { fail "tarmac-$program does not stop well"; return 1; }
    done
}
two_run() { [ "$(on_host ventilator status "$1" --json | jq .running)" = 2 ]; }
