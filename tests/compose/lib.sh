# shellcheck shell=bash
# What the container tests share; sourced by run.sh, which has set $work, $compose and the ports.

nap() { read -rt "${1:-0.3}" -u "$nothing" || true; }
now_ms() { local up; read -r up _ </proc/uptime; echo "${up/./}0"; }
say() { printf '# %s\n' "$*"; }
fail() { say "$test_name: $*"; return 1; }

until_true() {    # SECONDS WHAT COMMAND...; $waited is the time in ms
    local since end what=$2
    since=$(now_ms) end=$((since + $1 * 1000))
    shift 2
    until "$@"; do
        [ "$(now_ms)" -lt "$end" ] || { fail "waited in vain for $what"; return 1; }
        nap
    done
    waited=$(($(now_ms) - since))
}

# ---- docker ----

compose() { timeout 300 "${compose[@]}" "$@" >>"$work/compose.log" 2>&1 </dev/null; }
ids() { docker ps -q --no-trunc --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" --filter "label=com.docker.compose.service=$1"; }
one() { ids "$1" | head -n 1; }
health_of() { docker inspect -f '{{.State.Health.Status}}' "$1"; }
# What the program itself says now: 0 serves, 1 waits for another one, 3 stands still.
told_by() { timeout 20 docker exec "$1" ventilator doctor --health-file /run/tarmac/health >/dev/null 2>&1; }
is_away() { told_by "$1"; [ $? -eq 1 ]; }
n_running() { [ "$(ids "$1" | wc -l)" -eq "$2" ]; }

scale() { compose up -d --no-build --no-recreate --no-deps --scale "worker=$1" worker || { tail -n 20 "$work/compose.log"; fail "scale worker=$1"; }; }

# As a crash: not docker's own kill, after which the restart policy rests. The container may be gone before the shell in it has ended.
crash() {
    local code=0
    docker exec "$1" sh -c 'kill -KILL $(cat /proc/1/task/1/children)' >/dev/null || code=$?
    [ $code -eq 0 ] || [ $code -eq 137 ]
}
network() { docker network ls -q --filter "label=com.docker.compose.project=$COMPOSE_PROJECT_NAME" --filter "label=com.docker.compose.network=default"; }
unplug() { docker network disconnect "$(network)" "$1"; }
plug_in() { docker network connect --alias "$2" "$(network)" "$1"; }

# ---- tarmac, from this host ----

v() { timeout 400 "$bin/ventilator" "$@" </dev/null; }
workers_json() { v workers --json 2>/dev/null | jq -cs 'flatten' 2>/dev/null; }
n_workers() { [ "$(workers_json | jq "[.[] | select(.state == \"ready\")] | length")" = "$1" ]; }
sink_is_missed() { timeout 20 docker exec "$(one ventilator)" ventilator doctor --health-file /run/tarmac/health 2>/dev/null | grep -q 'no sink'; }
answers() { v status --connect-timeout 2s --reconnect-timeout 2s >/dev/null 2>&1; }
ok_count() { v status "$1" --json --connect-timeout 2s 2>/dev/null | jq '.ok' 2>/dev/null; }
has_ok() { local n; n=$(ok_count "$1"); [ "${n:-0}" -ge "$2" ]; }
submit() { v submit "$@" 2>>"$work/submit.err" || { tail -n 5 "$work/submit.err"; fail "submit exits $?"; }; }

# Each of the N tasks of a batch is recorded once, and all are ok.
recorded_once() {    # BATCH N
    # A ventilator or sink that was started elsewhere has another address, which its peers notice after the silence time.
    v wait "$1" --no-bar --connect-timeout 60s >/dev/null 2>"$work/wait" || { cat "$work/wait"; fail "wait $1 ends badly"; return 1; }
    v results "$1" --format json --connect-timeout 60s >"$work/results" || { fail "results $1 ends badly"; return 1; }
    [ "$(wc -l <"$work/results")" -eq "$2" ] && [ "$(jq -r .index "$work/results" | sort -n | uniq | wc -l)" -eq "$2" ] ||
        { fail "$2 tasks should be recorded once each, there are $(wc -l <"$work/results") lines"; return 1; }
    [ "$(jq -r 'select(.verdict == "ok")' -c "$work/results" | wc -l)" -eq "$2" ] || fail "not each of the $2 tasks is ok"
}

# The system as most tests want it.
whole() {    # N_WORKERS
    n_running ventilator 1 && n_running sink 1 && n_running worker "$1" || compose up -d --no-build --no-recreate --scale "worker=$1" ||
        { tail -n 20 "$work/compose.log"; fail "the system does not come up"; return 1; }
    until_true 90 "$1 workers" n_workers "$1"
}
