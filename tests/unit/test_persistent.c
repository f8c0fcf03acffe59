/* Persistent handlers, as real processes that this program plays itself (`--handler json|protobuf`): a task's payload says
 * what the handler is to do. */
#include "tests/unit/group_world.h"
#include "tests/unit/keeper_world.h"

#include <jansson.h>

#include "proto/handler.h"
#include "worker/handler_codec.h"

/* ---- the handler ---- */

static bool speaks_protobuf;

static bool read_all(uint8_t *to, size_t len)
{
    for (ssize_t got; len > 0; to += got, len -= (size_t)got)
        if ((got = read(0, to, len)) <= 0)
            return false;
    return true;
}

static void write_all(const void *data, size_t len)
{
    const uint8_t *at = data;
    for (ssize_t put; len > 0; at += put, len -= (size_t)put)
        if ((put = write(1, at, len)) <= 0)
            _exit(97);
}

static const char *behind = "";    /* what is written in one go with the next frame */

static void write_frame(const void *data, size_t len)
{
    uint8_t *whole = malloc(4 + len + strlen(behind));
    for (int i = 0; i < 4; i++)
        whole[i] = (uint8_t)(len >> (24 - 8 * i));
    memcpy(whole + 4, data, len);
    memcpy(whole + 4 + len, behind, strlen(behind));
    write_all(whole, 4 + len + strlen(behind));
    free(whole);
}

struct request {
    bool cancel;
    uint64_t id;
    char what[64];                 /* the first word of the payload */
    const uint8_t *payload;
    size_t len;
    char context[400];
};

static void fill(struct request *ret, const void *payload, size_t len)
{
    ret->payload = payload;
    ret->len = len;
    snprintf(ret->what, sizeof ret->what, "%.*s", (int)(len < 60 ? len : 60), (const char *)payload);
    ret->what[strcspn(ret->what, " ")] = '\0';
}

static void parse_json(const uint8_t *frame, size_t len, struct request *ret)
{
    json_t *root = json_loadb((const char *)frame, len, JSON_ALLOW_NUL, NULL), *payload = json_object_get(root, "payload");
    ret->cancel = strcmp(json_string_value(json_object_get(root, "type")), "cancel") == 0;
    ret->id = (uint64_t)json_integer_value(json_object_get(root, "id"));
    if (payload)
        fill(ret, json_string_value(payload), json_string_length(payload));
    else if (!ret->cancel)
        fill(ret, "base64", 6);
    char *text = json_dumps(root, JSON_SORT_KEYS | JSON_COMPACT);
    snprintf(ret->context, sizeof ret->context, "%s", text);
    free(text);                    /* the rest is left to the end of the process */
}

static void parse_protobuf(const uint8_t *frame, size_t len, struct request *ret)
{
    Tarmac__Handler__ToHandler *message = tarmac__handler__to_handler__unpack(NULL, len, frame);
    if (!message)
        _exit(96);
    ret->cancel = message->what_case == TARMAC__HANDLER__TO_HANDLER__WHAT_CANCEL;
    ret->id = ret->cancel ? message->cancel->id : message->task->id;
    if (!ret->cancel) {
        const Tarmac__Handler__Task *task = message->task;
        fill(ret, task->payload.data, task->payload.len);
        snprintf(ret->context, sizeof ret->context, "%s %llu %u %lld %s=%s", task->batch, (unsigned long long)task->index, task->attempt,
                 (long long)task->budget_ms, task->n_values ? task->values[0]->key : "", task->n_values ? task->values[0]->value : "");
    }
}

static bool next(struct request *ret)
{
    uint8_t head[4];
    *ret = (struct request){0};
    if (!read_all(head, 4))
        return false;
    size_t len = handler_frame_length(head);
    uint8_t *frame = malloc(len + 1);
    if (!frame || !read_all(frame, len))
        return false;
    if (speaks_protobuf)
        parse_protobuf(frame, len, ret);
    else
        parse_json(frame, len, ret);
    return true;
}

static void answer(uint64_t id, bool ok, const void *output, size_t len, const char *error, int code)
{
    if (speaks_protobuf) {
        Tarmac__Handler__Result result = TARMAC__HANDLER__RESULT__INIT;
        Tarmac__Handler__FromHandler message = TARMAC__HANDLER__FROM_HANDLER__INIT;
        message.what_case = TARMAC__HANDLER__FROM_HANDLER__WHAT_RESULT;
        message.result = &result;
        result.id = id;
        result.ok = ok;
        result.output = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)output, .len = len};
        result.error = (char *)(uintptr_t)error;
        result.code = code;
        size_t size = tarmac__handler__from_handler__get_packed_size(&message);
        uint8_t *packed = malloc(size);
        tarmac__handler__from_handler__pack(&message, packed);
        write_frame(packed, size);
        free(packed);
        return;
    }
    json_t *root = json_pack("{s:s s:I s:b s:o s:s s:i}", "type", "result", "id", (json_int_t)id, "ok", ok, "output",
                             json_stringn(output, len), "error", error, "code", code);
    char *text = json_dumps(root, JSON_COMPACT);
    write_frame(text, strlen(text));
    free(text);
    json_decref(root);
}

static void leave_a_daemon(void)
{
    if (fork() == 0) {
        setsid();
        signal(SIGTERM, SIG_IGN);
        wait_for_ever();
    }
}

static void answer_unable(uint64_t id)
{
    char text[100];
    int n = snprintf(text, sizeof text, "{\"type\":\"result\",\"id\":%llu,\"ok\":false,\"fault\":true,\"error\":\"no model\"}", (unsigned long long)id);
    write_frame(text, (size_t)n);
}

static void misbehave(const struct request *request)
{
    const char *what = request->what;
    if (strcmp(what, "rubbish") == 0)
        write_all("Hello world\n", 12);
    else if (strcmp(what, "broken") == 0)
        write_frame("{\"type\": ", 9);
    else if (strcmp(what, "empty") == 0)
        write_all("\0\0\0\0", 4);
    else if (strcmp(what, "lacking") == 0)
        write_frame("{\"type\":\"result\",\"ok\":true}", 27);
    else if (strcmp(what, "odd") == 0)
        write_frame("{\"type\":\"result\",\"id\":1,\"ok\":false,\"fault\":3}", 45);
    else if (strcmp(what, "unable") == 0)
        answer_unable(request->id);
    else if (strcmp(what, "wrong") == 0)
        answer(request->id + 1, true, "", 0, "", 0);
    else if (strcmp(what, "code") == 0)
        answer(request->id, false, "", 0, "", 1000);
    else if (strcmp(what, "exit") == 0)
        _exit(3);
    else if (strcmp(what, "crash") == 0)
        kill(getpid(), SIGKILL);
    else if (strcmp(what, "close") == 0)
        close(1);
    wait_for_ever();
}

static void serve(const struct request *request, const char *fifo)
{
    const char *what = request->what;
    struct request cancel;
    char pid[16];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    if (strcmp(what, "echo") == 0)
        answer(request->id, true, request->payload + 5, request->len - 5, "", 0);
    else if (strcmp(what, "length") == 0)
        answer(request->id, true, pid, (size_t)snprintf(pid, sizeof pid, "%zu", request->len), "", 0);
    else if (strcmp(what, "pid") == 0)
        answer(request->id, true, pid, strlen(pid), "", 0);
    else if (strcmp(what, "context") == 0)
        answer(request->id, true, request->context, strlen(request->context), "", 0);
    else if (strcmp(what, "base64") == 0)
        answer(request->id, true, "base64", 6, "", 0);
    else if (strcmp(what, "fail") == 0)
        answer(request->id, false, "part", 4, "no luck", 7);
    else if (strcmp(what, "errors") == 0) {
        fprintf(stderr, "said for %llu", (unsigned long long)request->id);
        answer(request->id, true, "", 0, "", 0);
    } else if (strcmp(what, "twice") == 0) {
        behind = "and more";
        answer(request->id, true, pid, strlen(pid), "", 0);
    } else if (strcmp(what, "die") == 0) {
        answer(request->id, true, pid, strlen(pid), "", 0);
        _exit(0);
    } else if (strcmp(what, "large") == 0) {
        char *large = calloc(1, 60000);
        answer(request->id, true, memset(large, 'x', 60000), 60000, "", 0);
        _exit(0);
    } else if (strcmp(what, "daemon") == 0) {
        leave_a_daemon();
        answer(request->id, true, "", 0, "", 0);
    } else if (strcmp(what, "wait") == 0) {
        tell(fifo, "ready\n");
        if (next(&cancel) && cancel.cancel && cancel.id == request->id)
            answer(request->id, false, "", 0, "cancelled", 0);
    } else if (strcmp(what, "deaf") == 0) {
        leave_a_daemon();
        tell_pid(fifo);
        wait_for_ever();
    } else {
        misbehave(request);
    }
}

static void play_handler(int argc, char **argv)
{
    struct request request;
    if (argc < 4 || strcmp(argv[1], "--handler") != 0)
        return;
    speaks_protobuf = strcmp(argv[2], "protobuf") == 0;
    signal(SIGTERM, SIG_IGN);
    while (next(&request))
        serve(&request, argv[3]);
    exit(0);
}

/* ---- the tests ---- */

static bool protobuf;              /* which protocol they use now */
static uint32_t recycle;

static void start_task(struct place *place, const void *payload, size_t len, uint64_t max_output)
{
    char *argv[] = {SELF, "--handler", protobuf ? "protobuf" : "json", place->fifo, NULL};
    uint8_t packed[256];
    Tarmac__Handler__Value value = TARMAC__HANDLER__VALUE__INIT, *values[] = {&value};
    value.key = (char *)(uintptr_t)"user";
    value.value = (char *)(uintptr_t)"ada";
    Tarmac__Handler__Task task = TARMAC__HANDLER__TASK__INIT;
    task.batch = (char *)(uintptr_t)"b7k2";
    task.index = 41;
    task.attempt = 2;
    task.budget_ms = -1;
    task.values = values;
    task.n_values = 1;
    struct keeper_task head = {.protobuf = protobuf, .recycle = recycle};
    head.head = (struct slice){.data = packed, .len = tarmac__handler__task__pack(&task, packed)};
    struct keeper_run run = run_of(argv);
    run.task = &head;
    run.input = (struct slice){.data = payload, .len = len};
    run.has_input = true;
    run.max_output = max_output;
    assert_int_equal(keeper_run(place->keeper, &run), 0);
}

static void task(struct place *place, const char *payload)
{
    start_task(place, payload, strlen(payload), 1 << 20);
    wait_for_end(place);
}

static long number_of(const struct place *place)
{
    char text[32] = "";
    assert_true(place->end.output.len < sizeof text);
    memcpy(text, place->end.output.data, place->end.output.len);
    return strtol(text, NULL, 10);
}

static void test_tasks(void **state)
{
    struct place *place = *state;
    task(place, "pid");
    long pid = number_of(place);
    for (int i = 0; i < 50; i++) {
        task(place, "echo something");
        assert_ended(place, KEEPER_EXITED, 0);
        assert_slice(place->end.output, "something");
        assert_slice(place->end.errors, "");
    }
    task(place, "fail");
    assert_ended(place, KEEPER_EXITED, 7);
    assert_slice(place->end.output, "part");
    task(place, "errors");
    assert_memory_equal(place->end.errors.data, "said for ", 9);
    task(place, "errors");
    assert_true(place->end.errors.len < 16);
    task(place, "pid");
    assert_int_equal(number_of(place), pid);
    assert_slice(place->end.errors, "");
}

static void test_context(void **state)
{
    struct place *place = *state;
    task(place, "context");
    char text[400] = "";
    memcpy(text, place->end.output.data, place->end.output.len < 399 ? place->end.output.len : 399);
    static const char *const in_json[] = {"\"type\":\"task\"", "\"batch\":\"b7k2\"", "\"index\":41", "\"attempt\":2", "\"budget_ms\":null",
                                          "\"values\":{\"user\":\"ada\"}", "\"payload\":\"context\""};
    if (protobuf)
        assert_string_equal(text, "b7k2 41 2 -1 user=ada");
    for (size_t i = 0; !protobuf && i < sizeof in_json / sizeof *in_json; i++)
        if (!strstr(text, in_json[i]))
            fail_msg("%s is missing in %s", in_json[i], text);
}

static void test_sizes(void **state)
{
    struct place *place = *state;
    static const size_t lens[] = {0, 6, 60000, 70000, 5 << 20};
    for (size_t i = 1; i < sizeof lens / sizeof *lens; i++) {
        char *payload = malloc(lens[i]);
        memset(payload, 'x', lens[i]);
        memcpy(payload, lens[i] > 6 ? "length " : "length", lens[i] > 6 ? 7 : 6);
        start_task(place, payload, lens[i], 1 << 20);
        wait_for_end(place);
        assert_int_equal(number_of(place), lens[i]);
        memcpy(payload, "echo  ", lens[i] > 6 ? 6 : 5);
        start_task(place, payload, lens[i], 100000);
        wait_for_end(place);
        assert_int_equal(place->end.output.len, lens[i] - 5 < 100000 ? lens[i] - 5 : 100000);
        assert_int_equal(place->end.output_truncated, lens[i] - 5 > 100000);
        free(payload);
    }
    /* What is no text goes as base64 in JSON, and as it is in protobuf. */
    start_task(place, "echo \xff\xfe", 7, 100);
    wait_for_end(place);
    assert_slice(place->end.output, protobuf ? "\xff\xfe" : "base64");
}

static void check_fault(struct place *place, const char *what, const char *words)
{
    task(place, what);
    assert_ended(place, KEEPER_FAULT, place->end.code);
    if (!strstr(place->sentence, words))
        fail_msg("'%s' should be in: %s", words, place->sentence);
    /* The next one has another process, and works. */
    task(place, "echo again");
    assert_ended(place, KEEPER_EXITED, 0);
    assert_slice(place->end.output, "again");
}

static void test_faults(void **state)
{
    struct place *place = *state;
    check_fault(place, "rubbish", "Hello world");
    check_fault(place, "broken", protobuf ? "no FromHandler" : "no JSON");
    check_fault(place, "empty", "message of 0 bytes");
    check_fault(place, "wrong", "for task id");
    check_fault(place, "code", "0 to 255");
    check_fault(place, "exit", "exited with code 3");
    check_fault(place, "crash", "signal 9");
    check_fault(place, "close", "closed its standard output");
    if (protobuf)
        return;
    check_fault(place, "lacking", "\"id\"");
    check_fault(place, "odd", "\"fault\"");
    check_fault(place, "unable", "no model");
}

/* It answered, and then did what it should not: the task is done, the process is replaced without a word. */
static void test_unfit_when_idle(void **state)
{
    struct place *place = *state;
    static const char *const ways[] = {"twice", "die"};
    /* Often, since a process that is on its way out may still be there, or not, when the next task comes. */
    for (size_t i = 0; i < 60; i++) {
        task(place, ways[i % 2]);
        assert_ended(place, KEEPER_EXITED, 0);
        long pid = number_of(place);
        task(place, "pid");
        assert_ended(place, KEEPER_EXITED, 0);
        assert_true(number_of(place) != pid);
        task(place, "large");
        assert_ended(place, KEEPER_EXITED, 0);
        assert_int_equal(place->end.output.len, 60000);
    }
}

static void test_not_started(void **state)
{
    struct place *place = *state;
    char *argv[] = {"no-such-handler-anywhere", NULL};
    struct keeper_task head = {0};
    struct keeper_run run = run_of(argv);
    run.task = &head;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(keeper_run(place->keeper, &run), 0);
        wait_for_end(place);
        assert_ended(place, KEEPER_NOT_STARTED, ENOENT);
    }
    task(place, "echo x");
    assert_ended(place, KEEPER_EXITED, 0);
}

static void test_cancel(void **state)
{
    struct place *place = *state;
    task(place, "pid");
    long pid = number_of(place);
    place->ends = 0;
    start_task(place, "wait", 4, 100);
    wait_for_lines(place, 1);
    keeper_stop(place->keeper, LONG);
    wait_for_end(place);
    assert_ended(place, KEEPER_EXITED, 1);
    assert_true(place->end.term_sent && !place->end.kill_sent);
    assert_string_equal(place->sentence, "cancelled");
    task(place, "pid");
    assert_int_equal(number_of(place), pid);
}

static void test_deaf_to_cancel(void **state)
{
    struct place *place = *state;
    start_task(place, "deaf", 4, 100);
    wait_for_lines(place, 1);
    keeper_stop(place->keeper, 30 * NS_PER_MS);
    wait_for_end(place);
    assert_ended(place, KEEPER_SIGNALLED, SIGKILL);
    assert_true(place->end.term_sent && place->end.kill_sent);
    assert_gone(nth_pid(place, 0));
    task(place, "echo x");
    assert_ended(place, KEEPER_EXITED, 0);
    place->ends = 0;
    place->text_len = 0;
    start_task(place, "deaf", 4, 100);
    wait_for_lines(place, 1);
    keeper_stop(place->keeper, 0);
    wait_for_end(place);
    assert_ended(place, KEEPER_SIGNALLED, SIGKILL);
    assert_false(place->end.term_sent);
}

static void test_recycle(void **state)
{
    struct place *place = *state;
    long pids[7];
    recycle = 3;
    for (int i = 0; i < 7; i++) {
        task(place, "pid");
        pids[i] = number_of(place);
    }
    recycle = 0;
    assert_true(pids[0] == pids[1] && pids[1] == pids[2] && pids[2] != pids[3]);
    assert_true(pids[3] == pids[4] && pids[4] == pids[5] && pids[5] != pids[6]);
    /* Also one that has left something behind that ignores everything. */
    recycle = 1;
    task(place, "daemon");
    task(place, "pid");
    recycle = 0;
    assert_gone((pid_t)pids[6]);
}

static void test_close_with_an_idle_handler(void **state)
{
    struct place *place = *state;
    task(place, "daemon");
    task(place, "pid");
    pid_t pid = (pid_t)number_of(place);
    keeper_close(&place->keeper);
    assert_true(keepers_wait(place->loop, BOUND));
    assert_gone(pid);
}

static void test_keeper_dies(void **state)
{
    struct place *place = *state;
    task(place, "pid");
    pid_t handler = (pid_t)number_of(place);
    char path[64], text[512] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", (int)handler);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    pid_t keeper = (pid_t)strtol(strrchr(text, ')') + 4, NULL, 10);
    start_task(place, "deaf", 4, 100);
    place->ends = 0;
    wait_for_lines(place, 1);
    kill(keeper, SIGKILL);
    while (place->lost == 0)
        run_loop(place);
    assert_gone_or_dead(nth_pid(place, 0));
    place->deaths = 0;
    task(place, "echo x");
    assert_ended(place, KEEPER_EXITED, 0);
}

static int use_json(void **state)
{
    protobuf = false;
    return set_up(state);
}

static int use_protobuf(void **state)
{
    protobuf = true;
    return set_up(state);
}

static int use_group(void **state)
{
    protobuf = false;
    return set_up_in_group(state);
}

#define JSON(test) {#test "_in_json", test, use_json, tear_down, NULL}
#define PROTOBUF(test) {#test "_in_protobuf", test, use_protobuf, tear_down, NULL}
#define IN_GROUP(test) {#test "_in_a_group", test, use_group, tear_down, NULL}

int main(int argc, char **argv)
{
    play_handler(argc, argv);
    play_a_part(argc, argv);
    const struct CMUnitTest tests[] = {
        JSON(test_tasks), JSON(test_context), JSON(test_sizes), JSON(test_faults), JSON(test_unfit_when_idle), JSON(test_not_started),
        JSON(test_cancel), JSON(test_deaf_to_cancel), JSON(test_recycle), JSON(test_close_with_an_idle_handler), JSON(test_keeper_dies),
        PROTOBUF(test_tasks), PROTOBUF(test_context), PROTOBUF(test_sizes), PROTOBUF(test_faults), PROTOBUF(test_cancel),
        PROTOBUF(test_deaf_to_cancel), PROTOBUF(test_recycle),
    };
    const struct CMUnitTest in_groups[] = {
        IN_GROUP(test_tasks), IN_GROUP(test_faults), IN_GROUP(test_deaf_to_cancel), IN_GROUP(test_recycle),
        IN_GROUP(test_close_with_an_idle_handler), IN_GROUP(test_keeper_dies),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (groups_open()) {
        snprintf(group_of_slot, sizeof group_of_slot, "%.100s/slot-7.1", groups.home.folder);
        failed += cmocka_run_group_tests(in_groups, NULL, NULL);
    }
    groups_close();
    return failed;
}
