# shellcheck shell=bash disable=SC2016
# Plugins: shared objects, compiled here as anybody would, in real workers.

compile() {    # SOURCE OBJECT [flags]
    local source=$1 object=$2
    shift 2
    cc -shared -fPIC -Wall -Wextra -Werror -I. -o "$object.new" "$source" "$@" 2>"$T/cc.err" || fail "$source: $(head -n 20 "$T/cc.err")"
    mv "$object.new" "$object"
}

# Does what its payload says.
write_odd() {
    cat >"$T/odd.c" <<'EOC'
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tarmac/tarmac.h>

static int nest(tarmac_task *task)
{
    static const char *const command[] = {"sh", "-c", "echo $TARMAC_VALUE_USER $1", "sh", "{}", NULL};
    struct tarmac_options options = TARMAC_OPTIONS;
    struct tarmac_result result;
    tarmac_failure failure = {0};
    tarmac_context *context = tarmac_task_context(task);
    tarmac_client *client = tarmac_connect(context, NULL, &failure);
    options.command = command;
    tarmac_batch *batch = client ? tarmac_submit(context, client, &options, &failure) : NULL;
    int code = batch ? tarmac_add(batch, "below", 5, &failure) : 1;
    code = code == TARMAC_OK ? tarmac_seal(batch, &failure) : code;
    if (code == TARMAC_OK && (code = tarmac_next(batch, &result, &failure)) == 1)
        code = tarmac_task_output(task, result.output, result.output_len);
    if (code != TARMAC_OK)
        tarmac_task_error(task, failure.sentence);
    tarmac_batch_release(&batch);
    tarmac_disconnect(&client);
    return code;
}

static int run(void *state, tarmac_task *task)
{
    (void)state;
    const char *what = tarmac_task_payload(task, NULL);
    struct pollfd done = {.fd = tarmac_done(tarmac_task_context(task)), .events = POLLIN};
    if (strcmp(what, "abort") == 0)
        abort();
    if (strcmp(what, "exit") == 0)
        exit(0);
    if (strcmp(what, "hang") == 0)
        for (;;)
            poll(NULL, 0, -1);
    if (strcmp(what, "wait") == 0) {
        poll(&done, 1, -1);
        return tarmac_err(tarmac_task_context(task));
    }
    if (strcmp(what, "nest") == 0)
        return nest(task);
    printf("I was told to %s\n", what);
    return tarmac_task_output(task, "done", 4);
}

static int begin(const char *argument, void **state)
{
    (void)state;
    return strcmp(argument, "text") == 0 ? 0 : 9;
}

static const struct tarmac_plugin plugin = {TARMAC_PLUGIN, .name = "odd", .open = begin, .run = run};
const struct tarmac_plugin *tarmac_plugin(void) { return &plugin; }
EOC
}

start_plugins() {    # [options of the worker]
    compile examples/plugins/upper.c "$T/upper.so"
    write_odd
    [ -e "$T/odd.so" ] || compile "$T/odd.c" "$T/odd.so"
    cat >"$T/handlers.json" <<EOC
{
  "upper": {"kind": "plugin", "plugin": "$T/upper.so", "recycle": 100},
  "odd":   {"kind": "plugin", "plugin": "$T/odd.so", "argument": "text", "limits": {"files": 1024}},
  "late":  {"kind": "plugin", "plugin": "$T/late.so"},
  "moody": {"kind": "plugin", "plugin": "$T/odd.so", "argument": "nothing"}
}
EOC
    start_ventilator
    start_sink
    start_worker w1 --cgroup off --handlers "$T/handlers.json" "$@"
}

one_task() {    # HANDLER ITEM [options]
    local handler=$1 item=$2
    shift 2
    assert_exit "${CODE:-1}" ventilator submit --wait --format json --handler "$handler" "$@" ::: "$item"
    jq -r '[.verdict, .reason // "-"] | join(" ")' "$T/out"
}

test_a_plugin() {
    start_plugins --slots 2
    seq 1 1000 | sed 's/^/item /' >"$T/items"
    assert_exit 0 ventilator submit --wait --ordered --handler upper -a "$T/items"
    tr a-z A-Z <"$T/items" >"$T/wanted"
    # Without a line's end in the outputs they stand one behind the other.
    assert_eq "outputs" "$(tr -d '\n' <"$T/out")" "$(tr -d '\n' <"$T/wanted")"
    CODE=0 one_task odd talk
    assert_eq "output and errors" "$(jq -r '.stdout + "|" + .stderr' "$T/out")" "$(printf 'done|I was told to talk\n')"
    stop w1 TERM 0
    none_running tarmac-plugin || fail "a plugin's host is left alive"
}

test_plugins_that_misbehave() {
    start_plugins
    assert_eq "end of the one that aborts" "$(one_task odd abort)" "failed handler_fault"
    assert_contains "$T/out" "signal 6"
    assert_eq "end of the one that exits" "$(one_task odd exit)" "failed handler_fault"
    assert_contains "$T/out" "exited with code 0"
    assert_eq "faults said by the worker" "$(grep -c 'handler_fault.*odd' "$T/w1.err")" 1
    assert_eq "end of the one that hangs" "$(one_task odd hang --timeout 300ms --grace 200ms)" "deadline_exceeded timeout"
    assert_eq "end of the one that does as it is told" "$(one_task odd wait --timeout 300ms --grace 60s)" "deadline_exceeded timeout"
    CODE=0 one_task odd talk
}

# Tiny tasks go to the process many at a time: a crash costs one of them, what is printed belongs to the one that
# printed it, and each has its own key, payload and trace.
test_many_at_once() {
    cat >"$T/tiny.c" <<'EOC'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tarmac/tarmac.h>

static int run(void *state, tarmac_task *task)
{
    const char *what = tarmac_task_payload(task, NULL), *trace;
    char text[200];
    (void)state;
    if (strncmp(what, "abort", 5) == 0)
        abort();
    if (strncmp(what, "talk", 4) == 0)
        fprintf(stderr, "%s\n", what);
    if (strncmp(what, "fail", 4) == 0) {
        tarmac_task_error(task, what);
        return 3;
    }
    trace = strncmp(what, "trace", 5) == 0 ? tarmac_value(tarmac_task_context(task), "traceparent") : "";
    snprintf(text, sizeof text, "%s %s %s", tarmac_task_key(task), what, trace ? trace : "no trace");
    return tarmac_task_output(task, text, strlen(text));
}
static const struct tarmac_plugin plugin = {TARMAC_PLUGIN, .name = "tiny", .run = run};
const struct tarmac_plugin *tarmac_plugin(void) { return &plugin; }
EOC
    compile "$T/tiny.c" "$T/tiny.so"
    echo "{\"tiny\": {\"kind\": \"plugin\", \"plugin\": \"$T/tiny.so\"}}" >"$T/handlers.json"
    start_ventilator
    start_sink --trace-file "$T/spans"
    start_worker w1 --cgroup off --slots 2 --handlers "$T/handlers.json"
    seq 0 9999 | awk '{ print $1 % 2500 == 1777 ? "abort " $1 : $1 % 1000 == 500 ? "talk " $1 : $1 % 1000 == 600 ? "fail " $1 : $1 % 1000 == 700 ? "trace " $1 : "item " $1 }' >"$T/items"
    assert_exit 1 ventilator submit --wait --format json --handler tiny -a "$T/items"
    assert_each_once "$T/out" 10000
    assert_eq "verdicts" "$(verdicts "$T/out")" "failed=14 ok=9986"
    assert_eq "those that fell" "$(jq -r 'select(.reason == "handler_fault") | .index' "$T/out" | sort -n | paste -sd' ')" "1777 4277 6777 9277"
    assert_eq "those that failed" "$(jq -r 'select(.exit == 3) | .index % 1000' "$T/out" | sort -u)" 600
    assert_eq "those that printed" "$(jq -r 'select(.stderr != "") | select(.reason != "handler_fault") | "\(.index) \(.stderr | rtrimstr("\n"))"' "$T/out" | sort -n | paste -sd' ')" \
        "$(seq 500 1000 9500 | awk '{ print $1 " talk " $1 }' | paste -sd' ')"
    assert_eq "outputs that are another task's" "$(jq -r 'select(.verdict == "ok") | select((.stdout | split(" ")) as $w | ($w[0] | endswith("/\($w[2])") | not) or $w[2] != "\(.index)") | .index' "$T/out" | wc -l)" 0
    jq -r 'select(.stdout | contains("trace")) | .stdout | split("-")[2]' "$T/out" | sort -u >"$T/heard"
    assert_eq "spans" "$(wc -l <"$T/heard")" 10
    wait_for 30 "the spans of the sink" has_lines "$T/spans" 10000
    grep -o '"spanId":"[0-9a-f]*"' "$T/spans" | cut -d'"' -f4 | sort -u >"$T/written"
    assert_eq "spans that the sink has written" "$(wc -l <"$T/written")" 10000
    assert_eq "spans that were heard and not written" "$(comm -23 "$T/heard" "$T/written" | paste -sd' ')" ""
}

test_a_plugin_is_cancelled() {
    start_plugins
    CODE=0 one_task odd talk
    local before batch
    before=$(marked_running tarmac-plugin)
    assert_exit 0 ventilator submit --handler odd --grace 60s ::: wait
    batch=$(cat "$T/out")
    wait_for 10 "the task to run" status_reaches "$batch" running 1
    ventilator cancel "$batch" >"$T/cancel" || fail "the cancel was refused"
    assert_exit 130 ventilator wait "$batch"
    assert_exit 0 ventilator results "$batch" --format json
    assert_eq "verdicts" "$(verdicts "$T/out")" "cancelled=1"
    CODE=0 one_task odd talk
    assert_eq "process of the plugin" "$(marked_running tarmac-plugin)" "$before"
}

test_plugins_that_can_not_be_loaded() {
    local i
    start_plugins
    assert_eq "said at the start" "$(grep -c 'handler_fault.*late.*cannot open shared object' "$T/w1.err")" 1
    for i in 1 2; do
        assert_eq "end of the one that isn't there" "$(one_task late x)" "failed handler_fault"
        assert_contains "$T/out" "$T/late.so: cannot open shared object"
    done
    assert_eq "said by the worker" "$(grep -c 'handler_fault.*late' "$T/w1.err")" 1
    for i in 1 2; do
        assert_eq "end of the one that won't open" "$(one_task moody x)" "failed handler_fault"
        assert_contains "$T/out" "its open() returned 9"
    done
    assert_eq "said by the worker" "$(grep -c 'handler_fault.*moody' "$T/w1.err")" 1
    # Put right while the worker runs.
    compile examples/plugins/upper.c "$T/late.so"
    CODE=0 one_task late abc
    assert_eq "output" "$(jq -r .stdout "$T/out")" ABC
    sed 's/TARMAC_PLUGIN,/.abi_major = 99, .size = sizeof(plugin),/' examples/plugins/upper.c >"$T/old.c"
    compile "$T/old.c" "$T/upper.so"
    assert_eq "end of the one of another version" "$(one_task upper x)" "failed handler_fault"
    assert_contains "$T/out" "version 99.0"
}

test_nested_submission() {
    start_plugins --slots 2
    CODE=0 one_task odd nest --value user=ada
    assert_eq "output" "$(jq -r .stdout "$T/out")" "ada below"
}

# It has a copy of the functions at hand, and those of its host all the same.
test_a_plugin_that_is_linked_with_the_library() {
    local lib
    lib=$(realpath "$B")/lib
    write_odd
    compile "$T/odd.c" "$T/odd.so" -L"$lib" -ltarmac -Wl,-rpath,"$lib" -Wl,-z,defs
    start_plugins --slots 2
    CODE=0 one_task odd nest --value user=ada
    assert_eq "output" "$(jq -r .stdout "$T/out")" "ada below"
}

test_bad_handlers_file_is_refused() {
    printf '{"a": {"kind": "plugin",\n "plugin": "thumb.so"}}\n' >"$T/handlers.json"
    assert_refused 2 "handlers.json:2 whole path" "$BIN/worker" --handlers "$T/handlers.json"
    printf '{"a": {"kind": "plugin", "plugin": "/x.so",\n "limits": {"cpu": "1s"}}}\n' >"$T/handlers.json"
    assert_refused 2 "--limit cpu handler cgroup2" "$BIN/worker" --cgroup off --handlers "$T/handlers.json"
}
