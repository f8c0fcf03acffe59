# shellcheck shell=bash disable=SC2016,SC2154
# Networks that fail, between hosts. What is measured is printed; docs/networks.md has a table of it. After each
# failure every task has one verdict, each `ok` has an effect that was counted outside, and all workers are ready again.
# Those that are mostly waiting for bounds of 10 s are `plain`: under sanitizers the others show the same code.
. tests/e2e/hosts.sh

all_is_well() {    # WORKERS
    local batch
    wait_for 30 "all $1 workers to be ready" workers_ready "$1"
    batch=$(submit -- sh -c "$effect" {} "$T/afterwards" ::: $(seq $((4 * $1))))
    assert_exit 0 ventilator wait "$batch"
    assert_all_ok "$batch" $((4 * $1)) "$T/afterwards"
}

# ---- loss ----

test_packets_are_lost() {
    local batch host
    place_all 3
    for host in v s c w1; do loses $host 0.03; done
    loses w2 0.10
    loses w3 0.20
    clock
    batch=$(submit -- sh -c "$brief" {} "$T/effects" ::: $(seq 200))
    assert_exit 0 ventilator wait "$batch"
    figure "200 tasks on three hosts that lose 3, 10 and 20 % of what comes in"
    assert_all_ok "$batch" 200 "$T/effects"
    printf '# runs that were too many: %s, duplicates: %s, workers lost: %s\n' "$extra" "$duplicates" "$(said ventilator worker_lost)"
}

# ---- cuts ----

test_plain_cut_between_ventilator_and_worker() {
    local batch
    place_all 4
    batch=$(submit -- sh -c "$hold" {} "$T/effects" "$T/gate" ::: $(seq 8))
    wait_for 10 "all slots to be busy" ran_least "$T/effects" 8
    cut v w1
    lasts 4000
    mend v w1
    wait_for 10 "w1 to be heard again" eval '[ "$(silent_ms w1)" -lt 1500 ]'
    assert_eq "workers lost by a cut of 4 s" "$(said ventilator worker_lost)" 0

    clock
    deaf w1 v
    deaf v w2
    cut v w3
    wait_for 30 "the loss of w2" has_said 1 ventilator worker_lost worker=w2
    figure "worker to ventilator is cut, the ventilator gives the worker up after"
    wait_for 30 "the loss of w1 and w3" has_said 3 ventilator worker_lost
    figure "ventilator to worker, and both ways, likewise, the last one after"
    assert_eq "the loss of w4, which nothing happened to" "$(said ventilator worker_lost worker=w4)" 0
    : >"$T/gate"
    clock
    assert_exit 0 ventilator wait "$batch"
    figure "the batch ends after"
    hears w1 v
    hears v w2
    mend v w3
    clock
    wait_for 30 "all workers to be ready" workers_ready 4
    figure "all three are ready again after"
    assert_all_ok "$batch" 8 "$T/effects"
    all_is_well 4
}

test_plain_cut_between_worker_and_sink() {
    local batch
    place_all 4
    batch=$(submit -- sh -c "$brief" {} "$T/effects" ::: $(seq 40))
    wait_for 10 "the first results" status_reaches "$batch" ok 10
    cut s w1
    lasts 4000
    mend s w1
    clock
    assert_exit 0 ventilator wait "$batch"
    figure "cut for 4 s: the batch ends after"
    assert_all_ok "$batch" 40 "$T/effects"
    assert_eq "workers cut off by a cut of 4 s" "$(said ventilator worker_cut_off)" 0

    deaf w1 s
    deaf s w2
    cut s w3
    rm "$T/effects"
    clock
    batch=$(submit -- sh -c "$brief" {} "$T/effects" ::: $(seq 400))
    wait_for 40 "three workers to be cut off" has_said 3 ventilator worker_cut_off
    figure "worker and sink are cut apart, the ventilator knows after"
    assert_exit 0 ventilator wait "$batch"
    figure "the batch ends after"
    hears w1 s
    hears s w2
    mend s w3
    clock
    wait_for 40 "their results to be recorded" has_said 3 ventilator worker_heard
    figure "their results are recorded after"
    assert_all_ok "$batch" 400 "$T/effects"
    assert_eq "lost workers" "$(said ventilator worker_lost)" 0
    all_is_well 4
}


cut_ventilator_and_sink() {    # WORDS WHO WORD CUT MEND: who knows it first, by which word in its log
    local batch before
    place_all 2
    batch=$(submit -- sh -c "$brief" {} "$T/effects" ::: $(seq 700))
    wait_for 10 "the first results" status_reaches "$batch" ok 10
    eval "$4"
    lasts 3000
    eval "$5"
    wait_for 20 "results after a cut of 3 s" status_reaches "$batch" ok 150
    assert_eq "losses of the sink by a cut of 3 s" "$(said ventilator sink_gone)" 0
    eval "$4"
    clock
    wait_for 30 "the loss" has_said 1 "$2" "$3"
    figure "$1: the $2 knows after"
    before=$(status_of "$batch" ok)
    eval "$5"
    clock
    wait_for 30 "results" status_reaches "$batch" ok $((before + 1))
    figure "results are recorded again after"
    assert_exit 0 ventilator wait "$batch"
    assert_all_ok "$batch" 700 "$T/effects"
    assert_eq "lost workers" "$(said ventilator worker_lost)" 0
    all_is_well 2
}
test_plain_cut_from_ventilator_to_sink() {
    cut_ventilator_and_sink "ventilator to sink is cut" sink ventilator_silent "deaf s v" "hears s v"
}
test_plain_cut_from_sink_to_ventilator() {
    cut_ventilator_and_sink "sink to ventilator is cut" ventilator sink_gone "deaf v s" "hears v s"
}
test_plain_cut_between_ventilator_and_sink() {
    cut_ventilator_and_sink "ventilator and sink are cut apart" ventilator sink_gone "cut v s" "mend v s"
}

# A submission that streams, and a stream of results: both are cut in the middle, and go on where they were.
test_cut_between_client_and_the_others() {
    local batch there feed
    place_all 2
    mkfifo "$T/items"
    enter c
    start submit "${there[@]}" "$BIN/ventilator" submit -a "$T/items" --wait --format json --key stream -- sh -c "$effect" {} "$T/effects"
    exec {feed}>"$T/items"
    seq 1 100 >&"$feed"
    wait_for 20 "the first results" has_lines "$T/submit.out" 50
    batch=$(jq -rn 'input | .batch' "$T/submit.out")

    cut c v
    cut c s
    seq 101 200 >&"$feed"
    lasts 3000
    mend c v
    mend c s
    clock
    wait_for 20 "results after a cut of 3 s" has_lines "$T/submit.out" 150
    figure "client, cut off for 3 s: results come again after"

    deaf v c
    deaf c s
    seq 201 300 >&"$feed"
    lasts 12000
    hears v c
    hears c s
    clock
    wait_for 20 "results after a cut of 12 s" has_lines "$T/submit.out" 250
    figure "client, cut off one way for 12 s: results come again after"
    printf 'the last\n' >&"$feed"
    exec {feed}>&-
    ended submit 0 30
    assert_each_once "$T/submit.out" 301
    assert_eq "kinds of lines in the results" "$(verdicts "$T/submit.out")" "ok=301"
    assert_eq "tasks that have run" "$(sort -u "$T/effects" | wc -l)" 301
    assert_eq "of" "$(status_of "$batch" total)" 301
}

# ---- hosts that vanish, and move ----

# As when the power is cut: nobody hears of it. The machine is back under its address later.
vanish() {    # HOST NAME-OF-PROCESS
    unplug "$1"
    kill -KILL "${PIDS[$2]}"
    ended "$2" 137
}

test_plain_worker_host_vanishes() {
    local batch
    place_all 2
    batch=$(submit -- sh -c "$hold" {} "$T/effects" "$T/gate" ::: 1 2 3 4)
    wait_for 10 "all slots to be busy" ran_least "$T/effects" 4
    clock
    vanish w1 w1
    wait_for 30 "the loss of w1" has_said 1 ventilator worker_lost worker=w1
    figure "a worker's host vanishes: the ventilator knows after"
    : >"$T/gate"
    assert_exit 0 ventilator wait "$batch"
    assert_all_ok "$batch" 4 "$T/effects"

    # Back before anybody noticed: the dead one's name is taken for a moment.
    vanish w2 w2
    plug_again w1
    plug_again w2
    clock
    place_worker w2
    figure "another host vanishes and is back at once: it is ready after"
    place_worker w1
    all_is_well 2
}

test_plain_sink_host_vanishes() {
    local batch before
    place_all 2
    batch=$(submit -- sh -c "$brief" {} "$T/effects" ::: $(seq 400))
    wait_for 10 "the first results" status_reaches "$batch" ok 10
    clock
    vanish s sink
    wait_for 30 "the loss of the sink" has_said 1 ventilator sink_gone
    figure "the sink's host vanishes: the ventilator knows after"
    before=$(status_of "$batch" ok)
    plug_again s
    clock
    place_sink s
    wait_for 30 "results" status_reaches "$batch" ok $((before + 1))
    figure "it is back: results are recorded after"
    assert_exit 0 ventilator wait "$batch"
    assert_all_ok "$batch" 400 "$T/effects"
    assert_eq "lost workers" "$(said ventilator worker_lost)" 0
    all_is_well 2
}

test_ventilator_host_vanishes() {
    local batch
    place_all 2
    batch=$(submit -- sh -c "$hold" {} "$T/effects" "$T/gate" ::: $(seq 12))
    wait_for 10 "all slots to be busy" ran_least "$T/effects" 4
    clock
    vanish v ventilator
    wait_for 30 "the workers and the sink to know" eval 'has_said 1 w1 lane_broken && has_said 1 w2 lane_broken && has_said 1 sink ventilator_'
    figure "the ventilator's host vanishes: workers and sink know after"
    : >"$T/gate"
    plug_again v
    clock
    place_ventilator v
    wait_for 30 "the workers to be back" workers_ready 2
    figure "it is back: workers are ready after"
    assert_exit 0 ventilator wait "$batch"
    figure "the batch ends after"
    assert_all_ok "$batch" 12 "$T/effects"
    assert_eq "runs that were too many" "$extra" 0
    all_is_well 2
}

test_plain_worker_address_changes() {
    local batch
    place_all 2
    batch=$(submit -- sh -c "$hold" {} "$T/effects" "$T/gate" ::: 1 2 3 4)
    wait_for 10 "all slots to be busy" ran_least "$T/effects" 4
    clock
    must on w1 ip addr del "${ADDRESS[w1]}/24" dev net
    must on w1 ip addr add 10.77.0.101/24 dev net
    wait_for 40 "w1 under its new address" eval 'ventilator workers --json | grep -q "\"state\":\"ready\".*10.77.0.101"'
    figure "a worker's address changes: it is ready under the new one after"
    : >"$T/gate"
    clock
    assert_exit 0 ventilator wait "$batch"
    figure "the batch ends after"
    assert_all_ok "$batch" 4 "$T/effects"
    all_is_well 2
}

# Nobody waits for ever for somebody who can't be reached: commands, a worker that leaves, a sink, a ventilator.
test_all_leave_though_cut_off() {
    local batch host
    place_all 1
    batch=$(submit -- sh -c "$hold" {} "$T/effects" "$T/gate" ::: 1 2 3)
    wait_for 10 "all slots to be busy" ran_least "$T/effects" 2
    for host in v s w1; do must on $host iptables -w -A INPUT ! -i lo -j DROP; done
    assert_refused 3 "${ADDRESS[v]}:5555" ventilator status "$batch" --connect-timeout 1s
    assert_refused 3 "${ADDRESS[v]}:5555" ventilator submit --connect-timeout 1s -- true ::: 1
    clock
    kill -TERM "${PIDS[w1]}" "${PIDS[sink]}" "${PIDS[ventilator]}"
    wait_for 30 "all to leave" all_have_left
    figure "all are told to leave, and reach nobody: the last one is gone after"
    ended ventilator 0
    ended sink 0
    ended w1 0
    wait_for 10 "the end of its tasks" none_running "$T/gate"
    for host in v s w1; do must on $host iptables -w -F INPUT; done
    : >"$T/gate"
    place_ventilator v
    place_sink s
    place_worker w1
    assert_exit 0 ventilator wait "$batch"
    assert_all_ok "$batch" 3 "$T/effects"
}
all_have_left() { not_alive "${PIDS[ventilator]}" && not_alive "${PIDS[sink]}" && not_alive "${PIDS[w1]}"; }

# ---- chance ----

# One thing after the other goes wrong somewhere, several at a time, for moments and for longer than anybody waits.
mishap() {    # into $undo
    local -a names=(v s c w1 w2 w3)
    local one other
    pick 0 5; one=${names[picked]}
    pick 1 5; other=${names[((picked + $(index_of "$one" "${names[@]}")) % 6)]}
    pick 0 5
    case $picked in
        0 | 1) what="cut $one $other"; undo="mend $one $other" ;;
        2) what="deaf $one $other"; undo="hears $one $other" ;;
        3) what="unplug $one"; undo="plug_again $one" ;;
        4) what="resets $one $other"; undo="resets_no_more $one $other" ;;
        5) what="swallows $one $other"; undo="swallows_no_more $one $other" ;;
    esac
    eval "$what"
}
index_of() { local i=0 word=$1; shift; while [ "$1" != "$word" ]; do shift; i=$((i + 1)); done; echo $i; }
resets() { must on "$1" iptables -w -I INPUT -p tcp -s "${ADDRESS[$2]}" -j REJECT --reject-with tcp-reset; }    # HOST FROM
resets_no_more() { must on "$1" iptables -w -D INPUT -p tcp -s "${ADDRESS[$2]}" -j REJECT --reject-with tcp-reset; }

test_plain_one_thing_after_the_other() {
    local batch round what undo undone=()
    seed
    place_all 3 --heartbeat 500ms --loss-grace 1s --silence 3s
    batch=$(submit -- sh -c 'echo "$0" >>"$1"; sleep 0.1; head -c 20000 /dev/zero' {} "$T/effects" ::: $(seq 800))
    for ((round = 0; round < ${ROUNDS:-8}; round++)); do
        mishap
        undone+=("$undo")
        printf '# %s\n' "$what" >>"$T/mishaps.out"
        pick 100 3000
        lasts $picked
        pick 0 2
        while [ ${#undone[@]} -gt $picked ]; do
            eval "${undone[0]}"
            undone=("${undone[@]:1}")
        done
    done
    for undo in "${undone[@]}"; do eval "$undo"; done
    clock
    assert_exit 0 timeout $((40 * PATIENCE)) nsenter -t "${PIDS[host-c]}" -n -- "$BIN/ventilator" wait "$batch"
    figure "mishaps are over: the batch ends after"
    assert_all_ok "$batch" 800 "$T/effects"
    printf '# runs that were too many: %s, duplicates: %s, lost workers: %s\n' "$extra" "$duplicates" "$(said ventilator worker_lost)"
    clock
    all_is_well 3
    figure "all workers work again after"
}

# ---- narrow lines ----

# Longer than the silence time on the way in both directions: as long as bytes flow nobody is given up.
test_plain_64_mib_on_a_narrow_line() {
    local batch
    hosts v s c w1 w2
    place_ventilator v --silence 4s
    place_sink s
    place_worker w1
    narrow v 100mbit
    narrow w1 100mbit
    narrow s 400mbit
    head -c $((64 * 1024 * 1024 - 1024)) /dev/urandom >"$T/large"
    clock
    batch=$(submit --pipe --max-output 64M --files "$T/large" -- cat)
    assert_exit 0 ventilator wait "$batch"
    figure "64 MiB to a worker and back at 100 Mbit/s"
    assert_exit 0 ventilator results "$batch" --out-dir "$T/results"
    cmp "$T/large" "$T/results"/* || fail "the result is not what was sent"
    rm -r "$T/results"
    assert_exit 0 ventilator results "$batch" --format json
    assert_eq "verdict and attempts" "$(jq -r '"\(.verdict) \(.attempts)"' "$T/out")" "ok 1"
    for word in worker_lost worker_away worker_cut_off sink_gone; do
        assert_eq "lines of the log with $word" "$(said ventilator $word)" 0
    done
    assert_eq "duplicates" "$(status_of "$batch" duplicates)" 0
    all_is_well 1
}

# ---- ways to the sink ----

# The worker's network is behind a router that gives its own address to all that leaves it.
test_plain_behind_address_translation() {
    local batch way
    hosts v s c r
    new_host w1
    plug r home 192.168.7.1/24
    ADDRESS[r]=10.77.0.4
    plug w1 home 192.168.7.2/24
    must on w1 ip route add default via 192.168.7.1
    must on r sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    must on r iptables -w -t nat -A POSTROUTING -o net -j MASQUERADE
    must on r iptables -w -A FORWARD -i net -m conntrack --ctstate NEW -j DROP
    place_ventilator v
    way() {    # WORDS
        batch=$(submit -- sh -c "$effect" {} "$T/effects-$1" ::: 1 2 3 4)
        clock
        assert_exit 0 ventilator wait "$batch"
        figure "behind a router, sink $2: four tasks end after"
        assert_all_ok "$batch" 4 "$T/effects-$1"
        stop sink TERM 0
    }
    place_sink s
    place_worker w1
    assert_eq "the worker's address" "$(ventilator workers --json | jq -r .address)" "${ADDRESS[r]}"
    way 1 "as it advertises itself"
    place_sink_silently s
    way 2 "at the address that the ventilator sees"
    ADDRESS[s]=${ADDRESS[v]}
    PIDS[host-s2]=${PIDS[host-s]} PIDS[host-s]=${PIDS[host-v]}
    place_sink_silently s
    way 3 "at the ventilator's host"
    PIDS[host-s]=${PIDS[host-s2]} ADDRESS[s]=10.77.0.2
    unset "PIDS[host-s2]"
    stop w1 TERM 0
    place_sink_silently s --advertise 10.77.0.99
    place_worker w1 --sink tcp://10.77.0.2:5557
    way 4 "where --sink says, and advertised wrongly"
}

# ---- ports that are closed ----

test_lane_ports_are_closed() {
    local batch there
    hosts v s c w1 w2
    place_ventilator v --lanes 5600-5607
    place_sink s
    must on v iptables -w -A INPUT -p tcp --dport 5600:5607 -j DROP
    enter w1
    start w1 "${there[@]}" "$BIN/worker" --ventilator "$WORKERS" --name w1 --slots 2 --shutdown-timeout 2s --allow-commands
    wait_for 20 "the worker's log to name the port" has_said 1 w1 lane_broken "port 560"
    wait_for 20 "the ventilator's log to name it" has_said 1 ventilator worker_away "port 560"
    wait_for 20 "doctor to name it" eval 'ventilator doctor >"$T/doctor.out" 2>&1; grep -q "port 560[0-7]" "$T/doctor.out"'
    must on v iptables -w -F INPUT
    clock
    wait_for 20 "the worker" workers_ready 1
    figure "ports of lanes are opened: the worker is ready after"
    must on v iptables -w -A INPUT -p tcp --dport 5600:5603 -j REJECT --reject-with tcp-reset
    clock
    place_worker w2
    figure "half of them are refused: a worker is ready after"
    all_is_well 2
}

# ---- lines that swallow what is large ----

# As where a tunnel's smaller packets are told to nobody: heartbeats pass, payloads don't.
swallows_no_more() { must on "$1" iptables -w -D INPUT ! -i lo -s "${ADDRESS[$2]}" -m length --length 700:65535 -j DROP; }
swallows() { must on "$1" iptables -w -I INPUT ! -i lo -s "${ADDRESS[$2]}" -m length --length 700:65535 -j DROP; }    # HOST FROM

large_items() { head -c 100000 /dev/zero | tr '\0' x >"$T/large"; for ((i = 0; i < $1; i++)); do cp "$T/large" "$T/item-$i"; done; }    # N
all_items_ok() {    # BATCH N
    assert_exit 0 ventilator results "$1" --format json
    assert_each_once "$T/out" "$2"
    assert_eq "verdicts" "$(verdicts "$T/out")" "ok=$2"
    assert_eq "tasks that have run" "$(sort -u "$T/effects" | wc -l)" "$2"
}

test_plain_large_packets_to_a_worker_are_swallowed() {
    local batch i
    place_all 2
    large_items 8
    swallows w1 v
    clock
    batch=$(submit --pipe --files "$T"/item-* -- sh -c 'echo "$TARMAC_INDEX" >>"$0"; cat' "$T/effects")
    assert_exit 0 ventilator wait "$batch"
    figure "large packets to one of two workers are swallowed: the batch ends after"
    all_items_ok "$batch" 8
    has_said 1 ventilator worker_away "MTU" || fail "the ventilator's log should say what may be wrong"
    must on w1 iptables -w -F INPUT
    all_is_well 2
}

test_plain_large_packets_to_the_sink_are_swallowed() {
    local batch i
    place_all 2
    large_items 8
    swallows s w1
    clock
    batch=$(submit --pipe --files "$T"/item-* -- sh -c 'echo "$TARMAC_INDEX" >>"$0"; cat' "$T/effects")
    assert_exit 0 ventilator wait "$batch"
    figure "large packets from one of two workers to the sink are swallowed: the batch ends after"
    all_items_ok "$batch" 8
    must on s iptables -w -F INPUT
    clock
    wait_for 40 "the results that were held up" has_said 1 ventilator worker_heard
    figure "they pass again: the results are recorded after"
    all_is_well 2
}

# ---- delay ----

# Each piece of each connection comes up to 300 ms late: heartbeats after results, releases before reports, cancels
# on the lane after what was said on the control channel.
test_connections_overtake_each_other() {
    local batch first i
    must ip link set lo up
    client() { "$@"; }
    ventilator() { "$BIN/ventilator" "$@"; }
    start_relay vent 9
    first=$port
    WORKERS=tcp://127.0.0.1:$first
    start_ventilator --lanes $((first + 1))-$((first + 8))
    start_relay results 1
    RESULTS=tcp://127.0.0.1:$port
    start_sink
    for i in 1 2 3; do
        start_ready "w$i" "$BIN/worker" --ventilator "tcp://127.0.0.2:$first" --sink "tcp://127.0.0.2:$port" --name "w$i" --slots 2 \
            --shutdown-timeout 2s --allow-commands
    done
    network vent delay 300
    network results delay 300
    clock
    batch=$(submit -- sh -c "$brief" {} "$T/effects" ::: $(seq 100))
    wait_for 30 "the first results" status_reaches "$batch" ok 10
    network vent close
    network results close
    assert_exit 0 ventilator wait "$batch"
    figure "100 tasks, up to 300 ms of delay on each piece, and all connections broken once"
    assert_all_ok "$batch" 100 "$T/effects"
    printf '# runs that were too many: %s, duplicates: %s\n' "$extra" "$duplicates"
    batch=$(submit -- sleep 600 ::: 1 2 3 4 5 6 7 8 9 10)
    wait_for 30 "six attempts" status_reaches "$batch" running 6
    assert_exit 0 ventilator cancel "$batch"
    assert_exit 130 ventilator wait "$batch"
    wait_for 20 "the end of what was cancelled" none_running "sleep 600"
    assert_eq "lost workers" "$(said ventilator worker_lost)" 0
    network vent delay 0
    network results delay 0
    all_is_well 3
}

# ---- keys ----

# With keys the handshake is longer: a short cut, a long one, and one in the middle of it.
test_cuts_with_keys() {
    local batch
    hosts v s c w1 w2
    assert_exit 0 "$BIN/ventilator" keygen "$T/keys"
    secure=yes
    export TARMAC_KEYS=$T/keys/client
    place_ventilator v
    place_sink s
    place_worker w1
    cut v w2
    enter w2
    start w2 "${there[@]}" "$BIN/worker" --keys "$T/keys/worker" --ventilator "$WORKERS" --name w2 --slots 2 --shutdown-timeout 2s --allow-commands
    batch=$(submit -- sh -c "$brief" {} "$T/effects" ::: $(seq 150))
    wait_for 10 "the first results" status_reaches "$batch" ok 10
    deaf w1 v
    lasts 3000
    hears w1 v
    mend v w2
    clock
    wait_for 30 "both workers" workers_ready 2
    figure "with keys: ready after a cut in the middle of the first contact"
    cut v w1
    deaf s w2
    clock
    wait_for 30 "the loss of w1" has_said 1 ventilator worker_lost worker=w1
    figure "with keys: ventilator and worker are cut apart, the ventilator knows after"
    mend v w1
    hears s w2
    clock
    wait_for 30 "both workers" workers_ready 2
    figure "with keys: ready again after"
    assert_exit 0 ventilator wait "$batch"
    assert_all_ok "$batch" 150 "$T/effects"
    all_is_well 2
}

# ---- many at once ----

# All of them say hello at once when the ventilator is back; and it is killed while they do.
test_plain_storm_of_hellos() {
    local n=100 i batch there
    hosts v s c w1 w2
    place_ventilator v
    place_sink s
    clock
    for ((i = 1; i <= n; i++)); do
        enter "w$((1 + i % 2))"
        start "x$i" "${there[@]}" "$BIN/worker" --ventilator "$WORKERS" --name "x$i" --slots 1 --shutdown-timeout 2s --allow-commands
    done
    wait_for 60 "$n workers" workers_ready $n
    figure "$n workers start at once: all are ready after"
    batch=$(submit -- sh -c "$brief" {} "$T/effects" ::: $(seq 1000))
    wait_for 20 "the first results" status_reaches "$batch" ok 100
    for i in 1 2; do
        kill -KILL "${PIDS[ventilator]}"
        ended ventilator 137
        clock
        place_ventilator v
        [ $i -eq 2 ] || wait_for 60 "the first of them" eval 'has_said 10 ventilator worker_ready'
    done
    wait_for 60 "$n workers" workers_ready $n
    figure "$n workers come back to a ventilator that was killed: all are ready after"
    assert_exit 0 ventilator wait "$batch"
    assert_all_ok "$batch" 1000 "$T/effects"
    printf '# runs that were too many: %s, workers lost: %s\n' "$extra" "$(said ventilator worker_lost)"
}
