# shellcheck shell=bash disable=SC2016,SC2034,SC2154
# Several hosts on this machine, for tests: each is a network namespace with an address of its own at a switch. A file
# t_*.sh that sources this one runs in a namespace as well, that of the switch: nothing of it is seen outside, ports
# can be those of the manual, and tests run side by side. No namespace has a name: all are gone with the last process
# of the test, whatever ends it. Who is not root gets a user namespace in which he is.

declare -A ADDRESS=()                        # of each host
export XTABLES_LOCKFILE=$T/xtables.lock      # /run may belong to somebody else

# The test begins anew, in a network of its own.
enter_network() {
    local program as=(unshare -n)
    for program in ip iptables tc nsenter unshare; do
        command -v $program >/dev/null || fail "$program is missing; tools/setup.sh build installs it (packages iproute2, iptables, util-linux)"
    done
    [ "$(id -u)" -eq 0 ] || as=(unshare -rn)
    "${as[@]}" ip link set lo up 2>"$T/err" ||
        fail "no network can be made here ($(tail -n 1 "$T/err")): run the tests as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces above 0)"
    trap - EXIT
    # shellcheck disable=SC2016
    E2E_NETWORK=yes exec "${as[@]}" bash -c 'set -u; . tests/e2e/lib.sh; . "tests/e2e/${E2E_NAME%%/*}.sh"; "${E2E_NAME##*/}"'
}
[ "${E2E_NETWORK:-}" = yes ] || enter_network

# What the kernel refuses is said in its words, with what was wanted.
must() { "$@" 2>"$T/must.err" || fail "'$*' fails: $(tail -n 3 "$T/must.err")"; }

# ---- hosts ----

in_network() { [ "$(readlink "/proc/$1/ns/net")" != "$(readlink /proc/self/ns/net)" ]; }

# A process that does nothing keeps the namespace of a host; $there enters it.
enter() { there=(nsenter -t "${PIDS[host-$1]}" -n --); }    # HOST
on() {    # HOST COMMAND...
    local there
    enter "$1"
    shift
    "${there[@]}" "$@"
}

new_host() {    # NAME: without any link
    start "host-$1" unshare -n sleep 900
    wait_for 10 "the namespace of $1" in_network "${PIDS[host-$1]}"
    must on "$1" ip link set lo up
}

# A cable from a host to a switch of this namespace, made when it is needed first. The host's end is called as the switch.
plug() {    # HOST SWITCH ADDRESS/BITS
    local inside=$2 outside=$2-$1
    [ -e "$T/switch-$2" ] || { must ip link add "$2" type bridge && must ip link set "$2" up && : >"$T/switch-$2"; }
    must ip link add "$outside" type veth peer name "$inside" netns "${PIDS[host-$1]}"
    must ip link set "$outside" master "$2" up
    must on "$1" ip addr add "$3" dev "$inside"
    must on "$1" ip link set "$inside" up
    ADDRESS[$1]=${3%/*}
}

hosts() {    # NAME...: at one switch, `net`
    local name
    for name in "$@"; do
        new_host "$name"
        plug "$name" net "10.77.0.$((${#ADDRESS[@]} + 1))/24"
    done
}

# ---- what fails ----

deaf() { must on "$1" iptables -w -I INPUT -s "${ADDRESS[$2]}" -j DROP; }               # HOST OTHER: hears nothing of it any more
hears() { must on "$1" iptables -w -D INPUT -s "${ADDRESS[$2]}" -j DROP; }
cut() { deaf "$1" "$2"; deaf "$2" "$1"; }
mend() { hears "$1" "$2"; hears "$2" "$1"; }
loses() { must on "$1" iptables -w -A INPUT ! -i lo -m statistic --mode random --probability "$2" -j DROP; }    # HOST SHARE: of what comes in
narrow() { must on "$1" tc qdisc replace dev net root tbf rate "$2" burst 64k latency 400ms; }    # HOST RATE: of what goes out
unplug() { must ip link set "net-$1" down; }                                             # no end of a connection gets through
plug_again() { must ip link set "net-$1" up; }

# ---- the programs on hosts ----

secure=no    # yes: with the keys in $T/keys
how() { if [ $secure = yes ]; then as=(--keys "$T/keys/$1"); else as=(--insecure); fi; }    # ROLE

ventilator() { on "${client:-c}" "$BIN/ventilator" "$@"; }

place_ventilator() {    # HOST [options]
    local there as host=$1
    shift
    enter "$host"
    how ventilator
    CLIENTS=tcp://${ADDRESS[$host]}:5555 WORKERS=tcp://${ADDRESS[$host]}:5556
    export TARMAC_VENTILATOR=$CLIENTS
    start_ready ventilator "${there[@]}" "$BIN/ventilator" serve --data "$T/data-ventilator" --listen "$CLIENTS" \
        --workers-listen "$WORKERS" --http off "${as[@]}" --shutdown-timeout 2s "$@"
}

place_sink() { place_sink_silently "$1" --advertise "${ADDRESS[$1]}" "${@:2}"; }    # HOST [options]
place_sink_silently() {    # HOST [options]: doesn't say by which host it is reached
    local there as host=$1
    shift
    enter "$host"
    how sink
    start_ready sink "${there[@]}" "$BIN/sink" --ventilator "$WORKERS" --data "$T/data-sink" \
        --results-listen "tcp://${ADDRESS[$host]}:5557" --query-listen "tcp://${ADDRESS[$host]}:5558" \
        "${as[@]}" "$@"
}

# The worker is called as its host.
place_worker() {    # HOST [options]
    local there as host=$1
    shift
    enter "$host"
    how worker
    start_ready "$host" "${there[@]}" "$BIN/worker" --ventilator "$WORKERS" --name "$host" --slots 2 "${as[@]}" \
        --shutdown-timeout 2s --allow-commands "$@"
}

# Hosts v, s, c (for clients) and w1 to wN with what belongs there.
place_all() {    # N [options of the ventilator]
    local i
    hosts v s c
    for ((i = 1; i <= $1; i++)); do hosts "w$i"; done
    place_ventilator v "${@:2}"
    place_sink s
    for ((i = 1; i <= $1; i++)); do place_worker "w$i"; done
    wait_for 10 "$1 workers to be ready" workers_ready "$1"
}

silent_ms() { ventilator workers --json 2>>"$T/status.err" | jq --arg name "$1" 'select(.name == $name) | .silent_ms'; }
workers_ready() { [ "$(ventilator workers --json 2>>"$T/status.err" | grep -c '"state":"ready"')" -eq "$1" ]; }

# ---- what is measured ----

# How often a process has said something, that is, how many lines of its log have all these words.
said() {    # NAME WORD...
    local lines
    lines=$(<"$T/$1.err")
    shift
    local word
    for word in "$@"; do lines=$(grep -F -- "$word" <<<"$lines"); done
    grep -c . <<<"$lines"
}
has_said() { local times=$1; shift; [ "$(said "$@")" -ge "$times" ]; }

clock() { since=$(now_ms); }
figure() { printf '# %s: %s ms\n' "$1" $(($(now_ms) - since)); }    # WHAT, since `clock`

# How long a network stays broken is what a test is made of: here, and only here, time has to pass.
lasts() { local until=$(($(now_ms) + $1)); while [ "$(now_ms)" -lt "$until" ]; do nap; done; }    # MS

# ---- work ----

# Leaves its effect, and holds its slot until the gate is open: {} FILE GATE.
hold='echo "$0" >>"$1"; until [ -e "$2" ]; do sleep 0.05; done'
# Leaves its effect, and takes a moment.
brief='echo "$0" >>"$1"; sleep 0.05'
