# shellcheck shell=bash
# What the end-to-end tests share. tests/e2e/run.sh sources this file and one t_*.sh in a shell of its
# own for each test function, with B, E2E_DIR (a private folder, removed afterwards) and E2E_NAME set.
# A test ends the shell: by `fail`, or by returning. Whatever it started is ended by the exit trap, which
# also looks for processes that got away and for what a sanitizer wrote.

PATH=/usr/sbin:/usr/bin:/sbin:/bin
SAN=${SAN:-}
BIN=$(realpath "$B")/bin
T=$E2E_DIR
unset "${!TARMAC_@}"
# Every process that a test starts carries this in its environment, however far it strays.
export TARMAC_E2E_MARK=mark-$$-$RANDOM$RANDOM
export TMPDIR=$T/tmp ASAN_OPTIONS=log_path=$T/sanitizer:exitcode=99:detect_leaks=1
export UBSAN_OPTIONS=log_path=$T/sanitizer:print_stacktrace=1:exitcode=99
export TSAN_OPTIONS=log_path=$T/sanitizer:exitcode=99:second_deadlock_stack=1:suppressions=$PWD/tools/tsan.supp
mkdir -p "$TMPDIR"
# A busy machine is slow, and sanitizers are slower: bounds in time are this much wider.
SLOW=1; [ -z "$SAN" ] || SLOW=4
PATIENCE=$((4 * SLOW)); [ -z "$SAN" ] || PATIENCE=10    # how much longer than on an idle machine anything may take
late=$((3000 * PATIENCE))    # by how many ms what has a time may miss it: said by those who measure, never judged tightly
export TARMAC_CONNECT_TIMEOUT=$((10 * PATIENCE))s    # or a client leaves while the sink is started again

declare -A PIDS=()
exec {nothing}<> <(:)    # a pipe on which nothing ever arrives

# ---- saying how it went ----

fail() {
    printf '# %s: %s\n' "$E2E_NAME" "$*"
    local i
    for ((i = 1; i < ${#FUNCNAME[@]} - 1; i++)); do
        printf '#   at %s:%s (%s)\n' "${BASH_SOURCE[i]}" "${BASH_LINENO[i - 1]}" "${FUNCNAME[i]}"
    done
    exit 1
}

assert_eq() {    # WHAT GOT WANTED
    [ "$2" = "$3" ] || fail "$1 is '$2', should be '$3'"
}

assert_between() {    # WHAT GOT LEAST MOST
    { [ "$2" -ge "$3" ] && [ "$2" -le "$4" ]; } || fail "$1 is $2, should be $3 to $4"
}

assert_contains() {    # FILE TEXT
    grep -qF -- "$2" "$1" || fail "${1##*/} should contain '$2', has: $(head -c 2000 "$1")"
}

# Runs a command with standard output in $T/out and standard error in $T/err; demands its exit code.
# $took is the time in ms.
assert_exit() {    # CODE COMMAND...
    local wanted=$1 got=0 since
    shift
    since=$(now_ms)
    "$@" >"$T/out" 2>"$T/err" </dev/null || got=$?
    took=$(($(now_ms) - since))
    [ "$got" -eq "$wanted" ] ||
        fail "exit code of '$*' is $got, should be $wanted; stderr: $(tail -c 2000 "$T/err"); stdout: $(head -c 500 "$T/out")"
}

# The same for a refusal: one clear sentence on standard error which names what is given, nothing on
# standard output.
assert_refused() {    # CODE WORDS COMMAND...
    local code=$1 words=$2 word
    shift 2
    assert_exit "$code" "$@"
    [ "$(grep -c . "$T/err")" -eq 1 ] || fail "'$*' should say one sentence, says: $(head -c 2000 "$T/err")"
    for word in $words; do assert_contains "$T/err" "$word"; done
    [ ! -s "$T/out" ] || fail "'$*' should print nothing on standard output, prints: $(head -c 500 "$T/out")"
}

# ---- time ----

now_ms() {
    local up
    read -r up _ </proc/uptime
    echo "${up/./}0"
}

nap() { read -rt "${1:-0.05}" -u "$nothing" || true; }

holds_within() {    # SECONDS COMMAND...
    local until=$(($(now_ms) + $1 * 1000))
    shift
    until "$@"; do
        [ "$(now_ms)" -lt "$until" ] || return 1
        nap
    done
}

wait_for() {    # SECONDS WHAT COMMAND...
    local seconds=$1 what=$2
    shift 2
    holds_within $((seconds * PATIENCE)) "$@" || fail "waited $((seconds * PATIENCE)) s for $what"
}

# ---- processes ----

alive() { kill -0 "$1" 2>/dev/null && [ "$(process_state "$1")" != Z ]; }
not_alive() { ! alive "$1"; }
process_state() { sed -n 's/^State:[[:blank:]]*\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null; }

# Ids of processes that carry the mark of this test. The test's own shell got it after its start, so it
# isn't among them; nor are the ended ones, whose environment is gone.
marked() {
    grep -alF "TARMAC_E2E_MARK=$TARMAC_E2E_MARK" /proc/[0-9]*/environ 2>/dev/null |
        sed 's|/proc/\([0-9]*\)/.*|\1|' | while read -r pid; do
            case $(readlink "/proc/$pid/exe" 2>/dev/null) in */grep | */sed | '') ;; *) echo "$pid" ;; esac
        done
}
none_marked() { [ -z "$(marked)" ]; }
marked_running() {    # TEXT: those whose command line has it
    local pid
    for pid in $(marked); do
        if tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF -- "$1"; then echo "$pid"; fi
    done
}
some_running() { [ -n "$(marked_running "$1")" ]; }
none_running() { [ -z "$(marked_running "$1")" ]; }

# Starts a process in the background: its output is in $T/NAME.out and $T/NAME.err, its id in
# ${PIDS[NAME]}. Signals that a shell ignores in the background are given back their meaning.
start() {    # NAME COMMAND...
    local name=$1
    shift
    env --default-signal=INT,QUIT "$@" >>"$T/$name.out" 2>>"$T/$name.err" </dev/null &
    PIDS[$name]=$!
}

is_ready() { grep -qhs '^ready\b' "$T/$1.out" "$T/$1.err"; }
ready_or_gone() { is_ready "$1" || not_alive "${PIDS[$1]}"; }

start_ready() {    # NAME COMMAND...
    : >"$T/$1.out"; : >"$T/$1.err"
    start "$@"
    wait_for 10 "the ready line of $1" ready_or_gone "$1"
    is_ready "$1" || fail "$1 ended before it was ready"
}

ready_field() {    # NAME KEY
    grep -hs '^ready\b' "$T/$1.out" "$T/$1.err" | tail -n 1 | tr ' ' '\n' | sed -n "s/^$2=//p"
}

# Ends a process that `start` started and demands the exit code.
stop() {    # NAME SIGNAL CODE [SECONDS]
    kill "-$2" "${PIDS[$1]}" 2>/dev/null || fail "$1 is gone already"
    ended "$1" "$3" "${4:-15}"
}

ended() {    # NAME CODE [SECONDS]
    local got=0
    wait_for "${3:-15}" "the end of $1" not_alive "${PIDS[$1]}"
    wait "${PIDS[$1]}" || got=$?
    unset "PIDS[$1]"
    assert_eq "exit code of $1" "$got" "$2"
}

# The ports on which a process listens.
listening_ports() {    # PID
    local inodes
    inodes=$(find "/proc/$1/fd" -lname 'socket:*' -printf '%l\n' 2>/dev/null | tr -dc '0-9\n' | paste -sd'|')
    awk -v inodes="^($inodes)\$" '$4 == "0A" && $10 ~ inodes { split($2, a, ":"); print a[2] }' "/proc/$1/net/tcp" |
        while read -r hex; do echo $((16#$hex)); done
}

anonymous_kb() { sed -n 's/^RssAnon:[[:blank:]]*\([0-9]*\).*/\1/p' "/proc/$1/status"; }

# ---- the three programs ----

# `--shutdown-timeout` is short so that a test's end doesn't wait for tasks that sleep. $under has what ventilator and sink
# find in their environment besides.
under=()
start_ventilator() {    # [options]
    start_ready ventilator "${under[@]}" "$BIN/ventilator" serve --data "$T/data-ventilator" \
        --listen "${CLIENTS:-tcp://127.0.0.1:0}" --workers-listen "${WORKERS:-tcp://127.0.0.1:0}" \
        --lanes 0 --http off --shutdown-timeout 2s "$@"
    CLIENTS=$(ready_field ventilator clients)
    WORKERS=$(ready_field ventilator workers)
    export TARMAC_VENTILATOR=$CLIENTS
    [ -n "$CLIENTS" ] && [ -n "$WORKERS" ] || fail "the ready line of the ventilator lacks clients= or workers="
}

start_sink() {    # [options]
    start_ready sink "${under[@]}" "$BIN/sink" --ventilator "$WORKERS" --data "$T/data-sink" \
        --results-listen "${RESULTS:-tcp://127.0.0.1:0}" --query-listen "${QUERY:-tcp://127.0.0.1:0}" "$@"
    RESULTS=$(ready_field sink results)
    QUERY=$(ready_field sink query)
    [ -n "$RESULTS" ] && [ -n "$QUERY" ] || fail "the ready line of the sink lacks results= or query="
}

start_worker() {    # NAME [options]
    local name=$1
    shift
    start_ready "$name" "$BIN/worker" --ventilator "$WORKERS" --name "$name" --slots 1 \
        --shutdown-timeout 2s --allow-commands "$@"
}

start_cluster() {    # N_WORKERS [options of each worker]
    local n=$1 i
    shift
    start_ventilator
    start_sink
    for ((i = 1; i <= n; i++)); do start_worker "w$i" "$@"; done
}

ventilator() { "$BIN/ventilator" "$@"; }

submit() {    # options…: submits, prints the id
    ventilator submit "$@" </dev/null 2>"$T/submit.err" || fail "submit $* exits $?: $(tail -c 2000 "$T/submit.err")"
}

status_of() {    # BATCH FIELD
    ventilator status "$1" --json 2>>"$T/status.err" | jq -r ".$2"
}
status_reaches() {    # BATCH FIELD LEAST
    local value
    value=$(status_of "$1" "$2")
    [ "${value:-0}" -ge "$3" ] 2>/dev/null
}

# Every index from 0 to N - 1 has exactly one line in the JSON results.
assert_each_once() {    # FILE N
    jq -r .index "$1" | sort -n >"$T/indices" || fail "$1 is not one JSON object a line: $(head -c 500 "$1")"
    seq 0 $(($2 - 1)) | cmp -s - "$T/indices" ||
        fail "each of $2 tasks should be recorded once: $(wc -l <"$T/indices") lines, $(sort -nu "$T/indices" | wc -l) tasks"
}
verdicts() { jq -r .verdict "$1" | sort | uniq -c | awk '{ printf "%s%s=%d", (NR > 1 ? " " : ""), $2, $1 }'; }

# ---- a network that can be cut ----

# Starts a relay of N ports: what dials 127.0.0.2 at one of them reaches the same port at 127.0.0.1. Its first port is
# in $port. Then `network NAME stop both` and so on: see relay.c.
start_relay() {    # NAME N
    local fd
    mkfifo "$T/$1.commands"
    exec {fd}<>"$T/$1.commands"
    : >"$T/$1.out"
    "$B/tests/relay" 127.0.0.2 127.0.0.1 "$2" >>"$T/$1.out" 2>>"$T/$1.err" <&"$fd" &
    PIDS[$1]=$!
    eval "exec $fd>&-"
    wait_for 10 "the ready line of $1" ready_or_gone "$1"
    port=$(ready_field "$1" port)
    [ -n "$port" ] || fail "$1 is not ready"
}
has_lines() { [ "$(wc -l <"$1")" -ge "$2" ]; }
network() {    # NAME COMMAND...
    local name=$1 before
    shift
    before=$(wc -l <"$T/$name.out")
    echo "$*" >"$T/$name.commands"
    wait_for 5 "$name to do '$*'" has_lines "$T/$name.out" $((before + 1))
}

# ---- chance ----

# What chance decides follows from SEED, which is printed: with it in the environment a test does the same again, as
# far as a machine can. A test function adds a number of its own, so that it can be repeated alone.
seed() {    # [NUMBER]
    SEED=${SEED:-$((($(now_ms) / 7 + $$) % 32768))}
    RANDOM=$(((SEED + ${1:-0}) % 32768))
    echo "# SEED=$SEED"
}

# A number from LEAST to MOST is put into $picked; a subshell would draw chances of its own.
pick() { picked=$(($1 + RANDOM % ($2 - $1 + 1))); }

# ---- effects, counted outside ----

# A task's command that is given {} and a file: `effect` leaves the item as a line in the file, whole or not at all.
# shellcheck disable=SC2016
effect='echo "$0" >>"$1"'
runs_of() { if [ -e "$1" ]; then wc -l <"$1"; else echo 0; fi; }    # FILE
ran_least() { [ "$(runs_of "$1")" -ge "$2" ]; }                      # FILE LEAST

# All N tasks of a batch are recorded `ok`, once each, and counted so; and each of the items 1 to N is in FILE, once
# at least. $extra is how many runs were more than tasks, $duplicates how many results came twice.
assert_all_ok() {    # BATCH N FILE
    assert_exit 0 ventilator results "$1" --format json
    assert_each_once "$T/out" "$2"
    assert_eq "verdicts" "$(verdicts "$T/out")" "ok=$2"
    ventilator status "$1" --json >"$T/status.json" 2>>"$T/status.err" || fail "status exits $?"
    assert_eq "status" "$(jq -r '"\(.state) \(.total) \(.ok) \(.queued + .running + .failed + .cancelled + .lost + .rejected + .deadline_exceeded)"' "$T/status.json")" \
        "complete $2 $2 0"
    duplicates=$(jq -r .duplicates "$T/status.json")
    [ "$duplicates" -ge 0 ] || fail "status shows no number of duplicates, but '$duplicates'"
    sort -un "$3" | cmp -s - <(seq "$2") || fail "$(sort -un "$3" | wc -l) of $2 tasks have run that are recorded as ok"
    extra=$(($(runs_of "$3") - $2))
}

# ---- the end of a test ----

print_logs() {
    local file
    for file in "$T"/*.err "$T"/*.out "$T"/sanitizer*; do
        [ -s "$file" ] || continue
        printf '# ---- %s\n' "${file##*/}"
        tail -c 6000 "$file" | tail -n 60 | sed 's/^/#   /'
    done
}

all_gone() {
    local name
    for name in "${!PIDS[@]}"; do not_alive "${PIDS[$name]}" || return 1; done
}

clean_up() {
    local code=$? name pid left
    trap - EXIT
    trap '' TERM
    # SIGCONT comes first: sent to one that is leaving it would take away the SIGSTOP by which the leak check
    # of AddressSanitizer holds the threads, and that waits for it for ever.
    for name in "${!PIDS[@]}"; do kill -CONT "${PIDS[$name]}" 2>/dev/null; kill -TERM "${PIDS[$name]}" 2>/dev/null; done
    # A worker whose last release went down with the others waits for it as long as its --shutdown-timeout:
    # the second signal means at once.
    if ! holds_within 3 all_gone; then
        for name in "${!PIDS[@]}"; do kill -TERM "${PIDS[$name]}" 2>/dev/null; done
    fi
    for name in "${!PIDS[@]}"; do
        if ! holds_within $((10 * PATIENCE)) not_alive "${PIDS[$name]}"; then
            printf '# %s: %s did not leave when told to; killed\n' "$E2E_NAME" "$name"
            kill -KILL "${PIDS[$name]}" 2>/dev/null
            code=1
        fi
    done
    if ! holds_within $((10 * PATIENCE)) none_marked; then
        for pid in $(marked); do
            left=$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)
            printf '# %s: process %s is left alive: %s\n' "$E2E_NAME" "$pid" "$left"
            kill -KILL "$pid" 2>/dev/null
        done
        code=1
    fi
    if compgen -G "$T/sanitizer*" >/dev/null; then
        printf '# %s: a sanitizer has found something\n' "$E2E_NAME"
        code=1
    fi
    [ "$code" -eq 0 ] || print_logs
    exit "$code"
}
trap clean_up EXIT
trap 'exit 143' TERM INT
