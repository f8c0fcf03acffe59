# Keys: everything works with them, and nothing without, with others, with those of another role, or with revoked ones.

keygen() { ventilator keygen "$T/keys" "$@" >>"$T/keygen.out" 2>&1 || fail "keygen $* exits $?: $(tail -n 3 "$T/keygen.out")"; }

# Clients' commands use the client's keys from here on.
start_keyed() {    # NAMES of workers…
    local name
    keygen
    start_ventilator --keys "$T/keys/ventilator"
    start_sink --keys "$T/keys/sink"
    for name in "$@"; do start_worker "$name" --keys "$T/keys/worker"; done
    export TARMAC_KEYS=$T/keys/client
}

# The keys of FROM, called those of ROLE, with what ROLE has to know.
disguise() {    # FROM ROLE FOLDER
    cp -r "$T/keys/$2" "$3"
    cp "$T/keys/$1"/own.* "$3/"
    sed -i "s/role = .*/role = \"$2\"/" "$3"/own.*
}

says() { grep -qE "$2" "$T/$1.err"; }                     # NAME PATTERN
lines_of() { grep -cE "$2" "$T/$1.err" || true; }         # NAME PATTERN
no_sink_yet() { ventilator doctor 2>/dev/null | grep -q 'has no sink'; }
# A client's command that is refused in these words. Whoever gives up before anybody had time to answer hears nothing.
hears() {    # WORDS COMMAND [options]
    local words=$1 command=$2 patience
    shift 2
    for patience in 1500ms 6s 25s; do
        assert_exit 3 ventilator "$command" --connect-timeout $patience "$@"
        if grep -qF -- "$words" "$T/out" "$T/err"; then return; fi
    done
    fail "'$command $*' should say '$words', says: $(cat "$T/out" "$T/err")"
}
is_refused() { says "$1" '_refuses .*reason='; }
batch_is() { [ "$(status_of "$1" state)" = "$2" ]; }

test_keygen_keeps_what_is_there() {
    local before
    assert_exit 0 ventilator keygen "$T/keys"
    assert_contains "$T/out" "keys of the ventilator"
    assert_eq "folders made" "$(grep -c '^made' "$T/out")" 4
    assert_eq "modes" "$(stat -c %a "$T"/keys/*/own.key | sort -u)" 600
    assert_eq "modes of folders" "$(stat -c %a "$T"/keys/* | sort -u)" 700
    before=$(find "$T/keys" -type f -exec md5sum {} + | sort)
    assert_exit 0 ventilator keygen "$T/keys"
    assert_eq "folders kept" "$(grep -c '^kept' "$T/out")" 4
    assert_eq "files" "$(find "$T/keys" -type f -exec md5sum {} + | sort)" "$before"
    # What a broken-off run has left is completed; a folder that was taken elsewhere is not made anew.
    mv "$T/keys/worker/own.key" "$T/keys/worker/own.key.begun"
    rm "$T/keys/sink/allow/workers/worker.pub"
    assert_exit 0 ventilator keygen "$T/keys"
    assert_eq "files" "$(find "$T/keys" -type f ! -name worker.pub -exec md5sum {} + | sort)" "$(grep -v /worker.pub <<<"$before")"
    mv "$T/keys/worker" "$T/elsewhere"
    mv "$T/keys/sink" "$T/sink-elsewhere"
    assert_exit 0 ventilator keygen "$T/keys"
    assert_contains "$T/out" "kept     $T/keys/worker"
    [ ! -e "$T/keys/worker/own.key" ] || fail "a worker that is elsewhere got a second key"
    assert_refused 2 "sink/allow keygen" ventilator keygen "$T/keys" --add worker=x
    mv "$T/sink-elsewhere" "$T/keys/sink"
    # A revoked key stays so.
    assert_exit 0 ventilator keygen "$T/keys" --add worker=a --add client=b
    assert_exit 0 ventilator keygen "$T/keys" --revoke worker=a
    assert_exit 0 ventilator keygen "$T/keys" --revoke worker=a
    assert_refused 2 "worker=a revoked" ventilator keygen "$T/keys" --add worker=a
    [ ! -e "$T/keys/ventilator/allow/workers/a.pub" ] && [ ! -e "$T/keys/sink/allow/workers/a.pub" ] || fail "a revoked key is in an allow-list"
    [ -e "$T/keys/sink/allow/clients/b.pub" ] || fail "an added key is not in the sink's allow-list"
    assert_refused 2 "--revoke worker=nobody" ventilator keygen "$T/keys" --revoke worker=nobody
    assert_refused 2 "--add worker=NAME" ventilator keygen "$T/keys" --add sink=x
    assert_refused 2 "--add worker=NAME" ventilator keygen "$T/keys" --add worker=../x
    assert_refused 2 "keygen ./keys" ventilator keygen
}

test_bad_folders_are_refused() {
    local keys=$T/keys
    keygen
    assert_refused 2 "keygen" ventilator status --keys "$T/nowhere"
    assert_refused 2 "keys of a worker" ventilator status --keys "$keys/worker"
    assert_refused 2 "keys of a client" "$BIN/worker" --keys "$keys/client"
    chmod 640 "$keys/client/own.key"
    assert_refused 2 "own.key 0640 chmod" ventilator status --keys "$keys/client"
    assert_exit 1 ventilator doctor --keys "$keys/client"
    assert_contains "$T/out" "FAIL"
    chmod 600 "$keys/client/own.key"
    sed -i 's/secret-key = "./secret-key = "~/' "$keys/client/own.key"
    assert_refused 2 "own.key secret" ventilator status --keys "$keys/client"
    echo 'curve' >"$keys/worker/known/sink.pub"
    assert_refused 2 "known/sink.pub public" "$BIN/worker" --keys "$keys/worker"
    rm -r "$keys/ventilator/allow/workers"
    assert_refused 2 "allow/workers" ventilator serve --data "$T/v" --keys "$keys/ventilator" --listen tcp://127.0.0.1:0 \
        --workers-listen tcp://127.0.0.1:0 --lanes 0
    : >"$keys/sink/allow/clients/x.pub"
    assert_refused 2 "clients/x.pub" "$BIN/sink" --data "$T/s" --keys "$keys/sink" --results-listen tcp://127.0.0.1:0 --query-listen tcp://127.0.0.1:0
    # Without keys nobody listens to other machines unknowingly.
    assert_refused 2 "keygen --keys --insecure" ventilator serve --data "$T/v" --listen tcp://0.0.0.0:0 --workers-listen tcp://127.0.0.1:0 --lanes 0
    assert_refused 2 "keygen --keys --insecure" "$BIN/sink" --data "$T/s" --results-listen tcp://0.0.0.0:0
}

test_everything_works_with_keys() {
    local batch name third=0
    start_keyed w1 w2
    assert_exit 0 ventilator submit --wait --format json -- echo {} ::: a b c
    assert_each_once "$T/out" 3
    assert_exit 0 ventilator workers
    assert_exit 0 ventilator doctor --keys "$T/keys"
    assert_contains "$T/out" "admits 1 workers and 1 clients"
    # A third of the tasks is for each kill, and waits for the one before.
    batch=$(submit --range 1-600 --timeout 600s -- sh -c 'until [ -e "$1.$((($0 - 1) / 200))" ]; do sleep 0.05; done; '"$effect; sleep 0.02" {} "$T/effects")
    for name in w1 sink ventilator; do
        : >"$T/effects.$((third++))"
        wait_for 30 "some runs" ran_least "$T/effects" $(($(runs_of "$T/effects") + 20))
        kill -KILL "${PIDS[$name]}"
        ended "$name" 137
        case $name in
        w1) start_worker w1 --keys "$T/keys/worker" ;;
        sink) start_sink --keys "$T/keys/sink" ;;
        ventilator) start_ventilator --keys "$T/keys/ventilator" ;;
        esac
    done
    assert_exit 0 ventilator wait "$batch"
    assert_all_ok "$batch" 600 "$T/effects"
    batch=$(submit -- sleep 60 ::: 1 2 3)
    assert_exit 0 ventilator cancel "$batch"
    assert_exit 130 ventilator wait "$batch"
    for name in w1 w2 sink ventilator; do stop "$name" TERM 0; done
    assert_eq "refusals" "$(cat "$T"/*.err | grep -c peer_refused)" 0
}

test_handlers_need_keys_of_their_own() {
    local nested=(sh -c "\"$BIN/ventilator\" submit --wait -- echo nested {} ::: \"\$1\" 2>&1" sh {})
    start_keyed
    start_worker without --slots 2 --keys "$T/keys/worker"
    assert_exit 1 ventilator submit --wait --format json -- "${nested[@]}" ::: 7
    assert_eq "exit code and sentence" "$(jq -r '"\(.exit) \(.stdout)"' "$T/out" | grep -c '^4 .*--handler-keys')" 1
    stop without TERM 0
    start_worker with --slots 2 --keys "$T/keys/worker" --handler-keys "$T/keys/client"
    assert_exit 0 ventilator submit --wait -- "${nested[@]}" ::: 7
    assert_contains "$T/out" "nested 7"
}

test_strangers_are_refused_and_logged_once() {
    local fds i
    start_keyed w1
    keygen_of_others
    TARMAC_KEYS='' hears "with keys only" status
    fds=$(find "/proc/${PIDS[ventilator]}/fd" | wc -l)
    for i in 1 2; do hears "has refused our key" status --keys "$T/others/client"; done
    hears "FAIL  the ventilator at $CLIENTS will not have us: it has refused our key" doctor --keys "$T/others/client"
    # The right key of the wrong ventilator.
    cp -r "$T/keys/client" "$T/astray"
    cp "$T/others/ventilator/own.pub" "$T/astray/known/ventilator.pub"
    hears "may not be its own" status --keys "$T/astray"
    # Other roles' keys, under the right name.
    disguise worker client "$T/as-client"
    hears "of another role" submit --keys "$T/as-client" -- echo {} ::: 1
    disguise client worker "$T/as-worker"
    start forger "$BIN/worker" --name forger --ventilator "$WORKERS" --keys "$T/as-worker"
    start plain env -u TARMAC_KEYS "$BIN/worker" --name plain --ventilator "$WORKERS"
    start plainsink env -u TARMAC_KEYS "$BIN/sink" --data "$T/plainsink" --ventilator "$WORKERS" --results-listen tcp://127.0.0.1:0 --query-listen tcp://127.0.0.1:0
    for i in forger plain plainsink; do wait_for 30 "$i to hear why" is_refused "$i"; done
    assert_eq "keys refused at the clients' port" "$(lines_of ventilator 'peer_refused.*port=clients')" 2
    wait_for 30 "the forger to be logged" says ventilator 'peer_refused.*port=workers.*client client'
    assert_exit 0 ventilator workers --json
    [ "$(grep -cE 'forger|plain' "$T/out")" -eq 0 ] || fail "a stranger is among the workers: $(cat "$T/out")"
    for i in forger plain plainsink; do stop "$i" TERM 0 30; done
    assert_eq "keys refused at the workers' port" "$(lines_of ventilator 'peer_refused.*port=workers')" 1
    assert_exit 0 ventilator submit --wait -- echo {} ::: fine
    wait_for 30 "their descriptors to be closed" has_at_most_fds ventilator $((fds + 4))
}
keygen_of_others() {
    ventilator keygen "$T/others" >/dev/null || fail "keygen exits $?"
    cp "$T/keys/client/known/"* "$T/others/client/known/"
}
has_at_most_fds() { [ "$(find "/proc/${PIDS[$1]}/fd" | wc -l)" -le "$2" ]; }    # NAME N

test_a_worker_key_is_no_sink() {
    keygen
    start_ventilator --keys "$T/keys/ventilator"
    export TARMAC_KEYS=$T/keys/client
    disguise worker sink "$T/as-sink"
    start_sink --keys "$T/as-sink"
    wait_for 30 "the false sink to be complained of" says ventilator 'worker worker came with a message'
    wait_for 30 "doctor to miss the sink" no_sink_yet
    stop sink TERM 0 30
}

test_a_revoked_worker_loses_its_tasks() {
    local batch
    start_keyed
    keygen --add worker=a
    start_worker w1 --slots 2 --keys "$T/keys/worker-a"
    batch=$(submit --range 1-4 -- sh -c "$effect; [ -e \"\$2\" ] || { : >\"\$2.\$0\"; sleep 300; }" {} "$T/effects" "$T/go")
    wait_for 30 "two that wait" eval '[ -e "$T/go.1" ] && [ -e "$T/go.2" ]'
    : >"$T/go"
    start_worker w2 --keys "$T/keys/worker"
    keygen --revoke worker=a
    wait_for 30 "the key to be revoked" says ventilator 'key_revoked.*name=a '
    wait_for 30 "the worker to hear of it" is_refused w1
    assert_exit 0 ventilator wait "$batch"
    assert_all_ok "$batch" 4 "$T/effects"
    assert_eq "workers of the results" "$(ventilator results "$batch" --format json | jq -r .worker | sort -u)" w2
    keygen --add worker=b
    start_worker w3 --keys "$T/keys/worker-b"
    kill -KILL "${PIDS[w1]}"
    ended w1 137
}

test_a_revoked_client_is_cut_off() {
    local batch
    start_keyed
    keygen --add client=bob
    batch=$(submit --keys "$T/keys/client-bob" -- echo {} ::: 1)
    start follower "$BIN/ventilator" results "$batch" --follow --reconnect-timeout $((3 * SLOW))s --keys "$T/keys/client-bob"
    start waiter "$BIN/ventilator" wait "$batch" --reconnect-timeout $((3 * SLOW))s --keys "$T/keys/client-bob"
    wait_for 30 "two connections" connections_at_least ventilator "${CLIENTS##*:}" 2
    keygen --revoke client=bob
    ended waiter 3 60
    assert_contains "$T/waiter.err" "has refused our key"
    ended follower 3 60
    start_worker w1 --keys "$T/keys/worker"
    assert_exit 0 ventilator wait "$batch"
}
connections_at_least() {    # NAME PORT N
    local hex
    hex=$(printf '%04X' "$2")
    [ "$(awk -v at=":$hex\$" '$2 ~ at && $4 == "01"' "/proc/${PIDS[$1]}/net/tcp" | wc -l)" -ge "$3" ]
}

test_a_run_has_no_use_for_keys() {
    keygen
    TARMAC_KEYS=$T/keys/client assert_exit 0 ventilator run -- echo {} ::: a
    assert_eq "output" "$(cat "$T/out")" a
    TARMAC_KEYS=$T/nowhere assert_exit 0 ventilator run -- echo {} ::: a
}
