# shellcheck shell=bash
# --audit-file of the ventilator: docs/audit.md is its grammar, and its parser is here.

bare='[A-Za-z0-9._:@/+%-]+'
value="($bare|\"([^\"\\\\]|\\\\.)*\")"
state='open|sealed|extended|deadline|cancelling|tasks_cancelled|halted|recovered|complete|purged|damaged|disowned'
worker_state='opening|ready|draining|away|lost|left|cut_off|heard|refused'
change="(batch $value ($state)|worker $value ($worker_state)|sink (here|gone|full|has_room|refused)|ventilator (begins|leaves))"
action='action (submit|seal|cancel|extend|drain|purge|retry)'
grammar="^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z ($change|$action)( [a-z0-9_]+=$value)*\$"

assert_grammar() {
    [ -s "$1" ] || fail "the audit ${1##*/} is empty"
    ! grep -vE "$grammar" "$1" >"$T/ungrammatical" || fail "these lines don't follow the grammar: $(head -n 5 "$T/ungrammatical")"
}
audited() { grep -qE "Z $1" "$T/audit"; }
assert_audited() { wait_for 30 "the line '$1' in the audit" audited "$1"; }
# The words of one batch or worker, in their order.
story() { sed -nE "s/^[^ ]+ (batch|worker) $1 ([a-z_]+).*/\\2/p" "$T/audit" | paste -sd' '; }

test_states_and_actions() {
    local ok cancelled nasty
    start_ventilator --audit-file "$T/audit" --http 127.0.0.1:0
    url=$(ready_field ventilator http)
    start_sink
    start_worker w1
    start_worker "w 2=\"x"
    ok=$(submit -- true ::: 1 2)
    ventilator wait "$ok" >/dev/null 2>&1
    cancelled=$(submit -- sleep {} ::: 300 300 300)
    assert_exit 0 ventilator extend "$cancelled" --deadline 10m
    assert_exit 0 ventilator cancel "$cancelled" --task 2
    curl -sf -X POST -H 'X-Tarmac: 1' -H 'Content-Type: application/json' -d '{"reason":"a \"good\" one\n"}' \
        "$url/api/v1/batches/$cancelled/cancel" >"$T/answer" || fail "cancel by HTTP: $(cat "$T/answer")"
    ventilator wait "$cancelled" >/dev/null 2>&1
    nasty=$(submit --name 'x" by=root
z' -- true ::: 1 2>/dev/null || true)
    [ -z "$nasty" ] || ventilator wait "$nasty" >/dev/null 2>&1
    nasty=$(submit --name 'x" by="root' -- true ::: 1)
    ventilator wait "$nasty" >/dev/null 2>&1
    assert_exit 4 ventilator cancel zzzz
    assert_exit 0 ventilator drain w1
    assert_exit 0 ventilator purge "$ok"
    assert_audited "worker w1 left"
    assert_audited "batch $ok purged"
    assert_audited "action purge"
    stop ventilator TERM 0
    assert_grammar "$T/audit"
    assert_eq "the first batch" "$(story "$ok")" "open sealed complete purged"
    assert_eq "the cancelled batch" "$(story "$cancelled")" "open sealed extended tasks_cancelled cancelling complete"
    # Its lane may be seen to close before its goodbye is read.
    assert_eq "the drained worker" "$(story w1 | sed 's/ away / /')" "opening ready draining left"
    assert_audited "worker w_2__x ready"
    assert_audited "batch $ok complete tasks=2 ok=2 failed=0"
    assert_audited "action submit by=client:127.0.0.1 subject=$ok outcome=done"
    assert_audited "action extend by=client:127.0.0.1 subject=$cancelled outcome=done deadline_ms=600000"
    assert_audited "action cancel by=client:127.0.0.1 subject=$cancelled outcome=done spans=1"
    assert_audited "action cancel by=http:127.0.0.1 subject=$cancelled outcome=done spans=0 reason=\"a ..good.. one.x0a\" queued=[0-9]+ running=[0-9]+ finished=1"
    assert_audited "action cancel by=client:127.0.0.1 subject=zzzz outcome=refused spans=0 why="
    assert_audited "action drain by=client:127.0.0.1 subject=w1 outcome=done"
    assert_audited "action purge by=client:127.0.0.1 subject=$ok outcome=done batches=1"
    assert_audited "ventilator leaves"
    assert_contains "$T/ventilator.err" "action action=cancel by=http:127.0.0.1 subject=$cancelled outcome=done"
}

test_losses_and_rotation() {
    start_ventilator --audit-file "$T/audit" --loss-grace 500ms
    start_sink
    start_worker w1
    assert_audited "worker w1 ready"
    kill -KILL "${PIDS[w1]}"
    assert_audited "worker w1 lost"
    assert_eq "the killed worker" "$(story w1)" "opening ready away lost"
    mv "$T/audit" "$T/audit.1"
    kill -HUP "${PIDS[ventilator]}"
    wait_for 30 "the new file" test -e "$T/audit"
    submit -- true ::: 1 >/dev/null
    assert_audited "batch [a-z0-9]+ open"
    stop sink TERM 0
    assert_audited "sink gone"
    stop ventilator TERM 0
    assert_grammar "$T/audit"
    assert_grammar "$T/audit.1"
}

test_a_full_disk_is_said() {
    start_ventilator --audit-file /dev/full
    wait_for 30 "the sentence about dropped lines" grep -q 'audit_dropped.*file=/dev/full.*No space left' "$T/ventilator.err"
    assert_refused 2 "audit-file $T/none/audit" "$BIN/ventilator" serve --data "$T/other" --listen "ipc://$T/c" --workers-listen "ipc://$T/w" --lanes 0 \
        --http off --audit-file "$T/none/audit"
}
