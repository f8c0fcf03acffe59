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
