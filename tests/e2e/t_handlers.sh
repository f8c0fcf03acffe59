# shellcheck shell=bash disable=SC2016
# Handlers: their limits, the handlers file, and persistent ones.

start_with() {    # options of the worker
    start_ventilator
    start_sink
    start_worker w1 "$@"
}

# One task of a handler: its verdict, reason and sentence.
one_task() {    # HANDLER ITEM [options]
    local handler=$1 item=$2
    shift 2
    assert_exit "${CODE:-1}" ventilator submit --wait --format json --handler "$handler" "$@" ::: "$item"
    jq -r '[.verdict, .reason // "-"] | join(" ")' "$T/out"
}

test_limits_are_named() {
    local spin='while :; do :; done'
    start_with --handler "spin=sh -c '$spin'" --limit spin:cpu=300ms --handler "few=sh -c 'ulimit -n; ulimit -n 60'" --limit files=50
    assert_eq "end of the spinner" "$(one_task spin x --timeout 60s)" "failed limit"
    assert_contains "$T/out" "limit of CPU time of 300ms"
    assert_eq "end of the one with few files" "$(one_task few x)" "failed exit"
    assert_eq "its limit" "$(jq -r .stdout "$T/out")" 50
}

test_memory_limit() {
    start_ventilator
    start_sink
    start w1 "$BIN/worker" --ventilator "$WORKERS" --name w1 --slots 1 --limit memory=50M --handler 'say=echo' \
        --handler "eat=sh -c 'head -c 200000000 /dev/zero | tail >/dev/null'"
    wait_for 10 "the worker, or its refusal" ready_or_gone w1
    if ! is_ready w1; then    # no rights for a group with this controller
        ended w1 2
        assert_contains "$T/w1.err" "--limit memory"
        return
    fi
    assert_eq "end of the eater" "$(one_task eat x)" "failed limit"
    assert_contains "$T/out" "memory limit of 50M"
    CODE=0 one_task say x >/dev/null
}

test_what_can_not_be_enforced_is_refused() {
    assert_refused 2 "--limit memory --cgroup off" "$BIN/worker" --cgroup off --limit memory=50M
    assert_refused 2 "--limit processes --cgroup off" "$BIN/worker" --cgroup off --handler x=true --limit x:processes=5
    printf '{"a": {"kind": "persistent", "command": ["x"], "limits": {"cpu": "1s"}}}' >"$T/handlers.json"
    assert_refused 2 "--limit cpu handler cgroup2" "$BIN/worker" --cgroup off --handlers "$T/handlers.json"
    assert_refused 2 "--limit nobody handler" "$BIN/worker" --limit nobody:cpu=1s
}

test_handlers_file() {
    cat >"$T/handlers.json" <<'EOF'
{
  "words": {"command": ["printf", "[%s]", "{}", "a b"]},
  "line":  {"command": "printf '<%s>' {}", "limits": {"cpu": "20s", "files": 64}}
}
EOF
    start_with --handlers "$T/handlers.json"
    CODE=0 one_task words "x y" >/dev/null
    assert_eq "words" "$(jq -r .stdout "$T/out")" "[x y][a b]"
    CODE=0 one_task line "x y" >/dev/null
    assert_eq "line" "$(jq -r .stdout "$T/out")" "<x y>"
}

test_bad_handlers_file_is_refused() {
    printf '{"a": {"command": ["x"]},\n "b": {"commnd": ["x"]}}\n' >"$T/handlers.json"
    assert_refused 2 "--handlers handlers.json:2 commnd command" "$BIN/worker" --handlers "$T/handlers.json"
    printf '{"a": {"command": ["x"]},\n "b" }\n' >"$T/handlers.json"
    assert_refused 2 "--handlers handlers.json:2" "$BIN/worker" --handlers "$T/handlers.json"
    assert_refused 2 "--handlers $T/none" "$BIN/worker" --handlers "$T/none"
}

# ---- persistent handlers ----

write_handlers() {
    local examples=$PWD/examples
    cat >"$T/handlers.json" <<EOF
{
  "nap":    {"kind": "persistent", "command": ["python3", "$examples/persistent.py"]},
  "upper":  {"kind": "persistent", "command": ["python3", "$examples/persistent_short.py"], "recycle": 3},
  "node":   {"kind": "persistent", "command": ["node", "$examples/persistent.js"]},
  "talks":  {"kind": "persistent", "command": ["echo", "good morning"]},
  "absent": {"kind": "persistent", "command": ["$T/no/such/handler"]},
  "deaf":   {"kind": "persistent", "command": ["sh", "-c", "trap '' TERM; (setsid sleep 6201 &); while :; do sleep 6202; done"]},
  "eats":   {"kind": "persistent", "command": ["python3", "-c", "import sys; sys.stdin.buffer.read(4)\nwhile True: pass"], "limits": {"cpu": "300ms"}}
}
EOF
}

# Without groups, where the CPU time of one of them could not be seen.
start_persistent() {
    write_handlers
    jq 'del(.eats)' "$T/handlers.json" >"$T/fewer.json"
    start_with --cgroup off --handlers "$T/fewer.json"
}

test_persistent_python() {
    start_persistent
    assert_exit 0 ventilator submit --wait --ordered --handler upper ::: one two three four five six seven
    assert_eq "output" "$(paste -sd' ' "$T/out")" "ONE TWO THREE FOUR FIVE SIX SEVEN"
    assert_exit 0 ventilator submit --wait --format json --value user=ada --handler nap ::: 0.01
    assert_eq "output" "$(jq -r .stdout "$T/out")" "slept 0.01 s for ada"
    assert_eq "errors" "$(jq -r '.stderr == "task " + .batch + "/0\n"' "$T/out")" true
    assert_eq "end of nonsense" "$(one_task nap nonsense)" "failed exit"
    assert_eq "its code" "$(jq -r .exit "$T/out")" 64
}

test_persistent_python_is_cancelled() {
    start_persistent
    CODE=0 one_task nap 0 >/dev/null
    local before after
    before=$(marked_running persistent.py)
    assert_exit 0 ventilator submit --handler nap --grace 20s ::: 600
    local batch
    batch=$(cat "$T/out")
    wait_for 10 "the task to run" status_reaches "$batch" running 1
    ventilator cancel "$batch" >"$T/cancel" || fail "the cancel was refused"
    assert_exit 130 ventilator wait "$batch"
    assert_exit 0 ventilator results "$batch" --format json
    assert_eq "verdicts" "$(verdicts "$T/out")" "cancelled=1"
    CODE=0 one_task nap 0 >/dev/null
    after=$(marked_running persistent.py)
    assert_eq "process of the handler" "$after" "$before"
}

test_persistent_node() {
    command -v node >/dev/null || { echo "# no node here: its example is not run"; return; }
    start_persistent
    assert_exit 0 ventilator submit --wait --ordered --handler node ::: abc "xyz ü"
    assert_eq "output" "$(paste -sd, "$T/out")" "cba,ü zyx"
    assert_exit 1 ventilator submit --wait --format json --handler node --timeout 300ms --grace 20s --value delay_ms=600000 ::: abc
    assert_eq "verdicts" "$(verdicts "$T/out")" "deadline_exceeded=1"
}

test_persistent_handlers_that_misbehave() {
    start_persistent
    local i
    for i in 1 2 3; do
        assert_eq "end of the one that talks rubbish" "$(one_task talks x)" "failed handler_fault"
        assert_contains "$T/out" "good morning"
    done
    assert_eq "faults said by the worker" "$(grep -c 'handler_fault.*talks' "$T/w1.err")" 1
    for i in 1 2; do
        assert_eq "end of the one that isn't there" "$(one_task absent x)" "failed not_started"
        assert_contains "$T/out" "$T/no/such/handler"
    done
    assert_eq "absences said by the worker" "$(grep -c 'handler_fault.*absent' "$T/w1.err")" 1
    assert_eq "end of the deaf one" "$(one_task deaf x --timeout 300ms --grace 200ms)" "deadline_exceeded timeout"
    none_running "sleep 620" || fail "a descendant of the deaf handler is left alive"
    CODE=0 one_task upper x >/dev/null
    stop w1 TERM 0
    none_running persistent || fail "a persistent handler is left alive"
}

test_persistent_handler_in_a_group() {
    write_handlers
    start_ventilator
    start_sink
    start w1 "$BIN/worker" --ventilator "$WORKERS" --name w1 --slots 1 --handlers "$T/handlers.json"
    wait_for 10 "the worker, or its refusal" ready_or_gone w1
    if ! is_ready w1; then    # no rights for a group
        ended w1 2
        assert_contains "$T/w1.err" "--limit cpu"
        return
    fi
    assert_eq "end of the one that eats time" "$(one_task eats x --timeout 60s)" "failed limit"
    CODE=0 one_task upper x >/dev/null
    assert_eq "end of the deaf one" "$(one_task deaf x --timeout 300ms --grace 200ms)" "deadline_exceeded timeout"
    none_running "sleep 620" || fail "a descendant of the deaf handler is left alive"
}

# Quick commands go to a slot several at a time; each is an attempt of its own all the same.
test_quick_commands_each_have_their_own() {
    start_with --slots 2 --allow-commands
    assert_exit 1 ventilator submit --wait --format json --range 1-400 -- \
        sh -c 'echo "$0 $TARMAC_INDEX $TARMAC_KEY $TRACEPARENT"; [ $(($0 % 5)) -ne 1 ] || echo "errors of $0" >&2; [ $0 -ne 77 ] || kill -SEGV $$; exit $(($0 % 3))' {}
    assert_eq "records" "$(jq -r .index "$T/out" | sort -nu | wc -l)" 400
    assert_eq "exit codes as they should be" "$(jq -r 'select(.index != 76) | select(.exit == (.index + 1) % 3) | .index' "$T/out" | wc -l)" 399
    assert_eq "the one that a signal ended" "$(jq -c 'select(.index == 76) | [.verdict, .signal, .exit]' "$T/out")" '["failed",11,null]'
    assert_eq "what each printed" "$(jq -r 'select(.index != 76) | select((.stdout | split(" "))[0:2] == ["\(.index + 1)", "\(.index)"]) | .index' "$T/out" | wc -l)" 399
    assert_eq "keys" "$(jq -r 'select("/\(.index) " as $key | .stdout | contains($key)) | .index' "$T/out" | wc -l)" 400
    assert_eq "spans" "$(jq -r '.stdout | split(" ")[3][0:55]' "$T/out" | sort -u | wc -l)" 400
    assert_eq "errors" "$(jq -r 'select(.stderr == (if (.index + 1) % 5 == 1 then "errors of \(.index + 1)\n" else "" end)) | .index' "$T/out" | wc -l)" 400
}

# One that takes long doesn't keep back those that were handed over with it, and one that leaves something behind ends it first.
test_quick_commands_do_not_wait_for_a_long_one() {
    start_with --slots 2 --allow-commands
    start client "$BIN/ventilator" submit --wait --format json --range 1-300 -- \
        sh -c '[ $0 -ne 120 ] || { while [ ! -e '"$T"'/go ]; do sleep 0.05; done; }; [ $0 -ne 60 ] || { sleep 608 & }; exit 0' {}
    others_are_done() { [ "$(jq -r .index "$T/client.out" | sort -nu | wc -l)" -eq 299 ]; }
    wait_for 20 "all but one to end" others_are_done
    : >"$T/go"
    ended client 0
    left_is_gone() { [ -z "$(marked_running "sleep 608")" ]; }
    wait_for 10 "what was left behind to be gone" left_is_gone
}
