/* Plugins, in real host processes that this program is itself: most tests through a keeper, as a worker has them; some by hand,
 * over the host's pipes. */
#include "tests/unit/keeper_world.h"

#include <libgen.h>
#include <poll.h>

#include "common/spawn.h"
#include "proto/handler.h"
#include "worker/bundle.h"
#include "worker/handler_codec.h"
#include "worker/plugin_host.h"

static char *path_of(const char *name, char *out, size_t size)
{
    char self[PATH_MAX] = "";
    assert_true(readlink(SELF, self, sizeof self - 1) > 0);
    snprintf(out, size, "%s/plugin_%s.so", dirname(self), name);
    return out;
}

static size_t pack_head(uint8_t *to, size_t room, int64_t budget_ms)
{
    Tarmac__Handler__Value user = TARMAC__HANDLER__VALUE__INIT, empty = user, *values[] = {&user, &empty};
    user.key = (char *)(uintptr_t)"user";
    user.value = (char *)(uintptr_t)"ada";
    empty.key = (char *)(uintptr_t)"empty";
    Tarmac__Handler__Task task = TARMAC__HANDLER__TASK__INIT;
    task.batch = (char *)(uintptr_t)"b7k2";
    task.key = (char *)(uintptr_t)"b7k2/41";
    task.index = 41;
    task.attempt = 2;
    task.slot = 7;
    task.budget_ms = budget_ms;
    task.traceparent = (char *)(uintptr_t)"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    task.values = values;
    task.n_values = 2;
    assert_true(tarmac__handler__task__get_packed_size(&task) <= room);
    return tarmac__handler__task__pack(&task, to);
}

/* ---- through a keeper ---- */

static const char *plugin = "sample", *argument;    /* what tests use now; argument NULL: the FIFO */
static int64_t budget_ms = -1;
static uint32_t recycle;
static struct bundle *memory;                       /* that the keeper's place shares; NULL: none */

static void start_bytes(struct place *place, const void *payload, size_t len)
{
    char path[PATH_MAX + 64];
    char *argv[] = {PLUGIN_HOST, path_of(plugin, path, sizeof path), argument ? (char *)(uintptr_t)argument : place->fifo, NULL};
    uint8_t packed[512];
    struct keeper_task head = {.protobuf = true, .own_program = true, .recycle = recycle, .shared = memory && len >= BUNDLE_LARGE_LEAST ? len : 0};
    head.head = (struct slice){.data = packed, .len = pack_head(packed, sizeof packed, budget_ms)};
    struct keeper_run run = run_of(argv);
    run.task = &head;
    run.input = (struct slice){.data = payload, .len = len};
    if (head.shared > 0) {
        assert_true(bundle_put_large(memory, run.input));
        run.input = (struct slice){0};
    }
    run.has_input = true;
    assert_int_equal(keeper_run(place->keeper, &run), 0);
}

static void start_task(struct place *place, const char *payload) { start_bytes(place, payload, strlen(payload)); }

static void task(struct place *place, const char *payload)
{
    start_task(place, payload);
    wait_for_end(place);
}

static void works(struct place *place)
{
    task(place, "echo something");
    assert_ended(place, KEEPER_EXITED, 0);
    assert_slice(place->end.output, "something");
}

static void test_tasks(void **state)
{
    struct place *place = *state;
    works(place);
    for (int i = 0; i < 50; i++)
        works(place);
    assert_slice(place->end.errors, "");
    start_bytes(place, "a\0b", 3);
    wait_for_end(place);
    assert_int_equal(place->end.output.len, 3);
    assert_memory_equal(place->end.output.data, "a\0b", 3);
    task(place, "fail");
    assert_ended(place, KEEPER_EXITED, 7);
    assert_slice(place->end.output, "part");
    assert_string_equal(place->sentence, "no luck");
    task(place, "nonsense");
    assert_ended(place, KEEPER_EXITED, 1);
    task(place, "served");
    assert_slice(place->end.output, "55");
}

static void test_context(void **state)
{
    struct place *place = *state;
    static const char expected[] = "b7k2 41 2 7 b7k2/41 user=ada empty= trace=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 ";
    char text[300];
    task(place, "context");
    snprintf(text, sizeof text, "%sunbounded", expected);
    assert_slice(place->end.output, text);
    budget_ms = 900000;
    task(place, "context");
    budget_ms = -1;
    snprintf(text, sizeof text, "%sbounded", expected);
    assert_slice(place->end.output, text);
}

static void test_printing_breaks_nothing(void **state)
{
    struct place *place = *state;
    task(place, "print");
    assert_ended(place, KEEPER_EXITED, 0);
    assert_slice(place->end.output, "");
    assert_slice(place->end.errors, "four bytes and more on standard output");
    works(place);
    assert_slice(place->end.errors, "");
}

static void test_output_is_bounded(void **state)
{
    struct place *place = *state;
    task(place, "large");
    assert_ended(place, KEEPER_EXITED, 1);
    assert_string_equal(place->sentence, "bad input");
    assert_true(place->end.output_truncated && place->end.output.len == 1 << 20);
    works(place);
}

/* Its output, wherever it is. */
static void assert_echoed(struct place *place, const char *payload, size_t len)
{
    struct buf *output = place->end.shared > 0 ? bundle_take_large(memory, place->end.shared) : NULL;
    struct slice whole = output ? slice_of(output) : place->end.output;
    assert_int_equal(place->end.shared > 0, len - 5 >= BUNDLE_LARGE_LEAST);
    assert_ended(place, KEEPER_EXITED, 0);
    assert_int_equal(whole.len, len - 5);
    assert_memory_equal(whole.data, payload + 5, len - 5);
    buf_unref(&output);
}

static void test_large_ones_in_shared_memory(void **state)
{
    struct place *place = *state;
    static char payload[(3 << 20) + 1];
    int fd = -1;
    memset(payload, 'x', sizeof payload - 1);
    memcpy(payload, "echo ", 5);
    assert_int_equal(bundle_make(&memory, &fd), 0);
    keeper_close(&place->keeper);
    place->bundle = fd;
    open_keeper(place);
    static const size_t lengths[] = {3 << 20, BUNDLE_LARGE_LEAST - 1, BUNDLE_LARGE_LEAST + 4, BUNDLE_LARGE_LEAST + 5, 100, 1 << 20};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        size_t len = lengths[i];
        payload[5] = (char)('a' + i);
        start_bytes(place, payload, len);
        wait_for_end(place);
        /* One longer than its batch allows is cut. */
        if (len > (1 << 20) + 5) {
            assert_true(place->end.output_truncated && place->end.shared == 1 << 20);
            place->end.output_truncated = false;
            continue;
        }
        assert_echoed(place, payload, len);
        assert_false(place->end.output_truncated);
        bundle_let_large_go(memory);
    }
    task(place, "crash");
    assert_ended(place, KEEPER_FAULT, place->end.code);
    start_bytes(place, payload, 500000);
    wait_for_end(place);
    assert_echoed(place, payload, 500000);
    keeper_close(&place->keeper);
    place->bundle = 0;
    open_keeper(place);
    bundle_unmap(&memory);
    close(fd);
}

static void check_fault(struct place *place, const char *what, const char *words)
{
    task(place, what);
    assert_ended(place, KEEPER_FAULT, place->end.code);
    if (!strstr(place->sentence, words))
        fail_msg("'%s' should be in: %s", words, place->sentence);
}

static void test_crash_and_exit(void **state)
{
    struct place *place = *state;
    check_fault(place, "crash", "signal 6");
    works(place);
    check_fault(place, "exit", "exited with code 3");
    works(place);
}

static void test_what_is_no_plugin(void **state)
{
    struct place *place = *state;
    static const struct { const char *name, *words; } bad[] = {
        {"absent", "cannot open shared object"}, {"other", "no tarmac_plugin()"}, {"broken", "no_such_function_anywhere"},
        {"later", "version 2.0"}, {"idle", "no run"}, {"loud", "exited with code 4"},
    };
    struct why why;
    char path[PATH_MAX + 64];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        plugin = bad[i].name;
        check_fault(place, "echo x", bad[i].words);
        check_fault(place, "echo x", bad[i].words);
        assert_int_equal(plugin_host_try(path_of(plugin, path, sizeof path), &why), -1);
        if (!strstr(why.text, bad[i].words) || !strstr(why.text, path))
            fail_msg("'%s' and its path should be in: %s", bad[i].words, why.text);
    }
    plugin = "sample";
    assert_int_equal(plugin_host_try(path_of(plugin, path, sizeof path), &why), 0);
    argument = "bad";
    check_fault(place, "echo x", "open() returned 5");
    assert_slice(place->end.errors, "no, thanks\n");
    argument = NULL;
    works(place);
}

static void test_cancel(void **state)
{
    struct place *place = *state;
    start_task(place, "wait");
    wait_for_lines(place, 1);
    keeper_stop(place->keeper, LONG);
    wait_for_end(place);
    assert_ended(place, KEEPER_EXITED, 1);
    assert_true(place->end.term_sent && !place->end.kill_sent);
    assert_slice(place->end.output, "the attempt is cancelled");
    assert_string_equal(place->sentence, "context cancelled");
    works(place);
}

static void test_deadline(void **state)
{
    struct place *place = *state;
    budget_ms = 20;
    task(place, "wait");
    budget_ms = -1;
    assert_ended(place, KEEPER_EXITED, 1);
    assert_string_equal(place->sentence, "context deadline exceeded");
    assert_false(place->end.term_sent);
    works(place);
}

static void test_hang(void **state)
{
    struct place *place = *state;
    start_task(place, "hang");
    wait_for_lines(place, 1);
    keeper_stop(place->keeper, NS_PER_MS);
    wait_for_end(place);
    assert_ended(place, KEEPER_SIGNALLED, SIGKILL);
    assert_true(place->end.term_sent && place->end.kill_sent);
    works(place);
}

static void test_hang_in_open(void **state)
{
    struct place *place = *state;
    argument = "hang";
    start_task(place, "echo x");
    keeper_stop(place->keeper, NS_PER_MS);
    wait_for_end(place);
    argument = NULL;
    assert_ended(place, KEEPER_SIGNALLED, SIGKILL);
    works(place);
}

static void test_recycle(void **state)
{
    struct place *place = *state;
    recycle = 2;
    for (int i = 0; i < 5; i++) {
        task(place, "served");
        assert_slice(place->end.output, i % 2 ? "2" : "1");
    }
    recycle = 0;
}

/* ---- by hand ---- */

struct hand {
    int to, from;
    pid_t pid;
    struct handler_bytes out;
};

static void open_hand(struct hand *self, const char *fifo)
{
    char path[PATH_MAX + 64], name[] = PLUGIN_HOST;
    char *argv[] = {name, path_of("sample", path, sizeof path), (char *)(uintptr_t)fifo, NULL};
    int in[2], out[2];
    assert_int_equal(pipe2(in, O_CLOEXEC), 0);
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    struct spawn_request request = {.argv = argv, .env = environ, .file = SELF, .in = in[0], .out = out[1], .err = 2, .keep_fd = SPAWN_NOTHING};
    *self = (struct hand){.to = in[1], .from = out[0]};
    assert_int_equal(spawn_process(&request, &self->pid, NULL), 0);
    close(in[0]);
    close(out[1]);
}

static void put(struct hand *self, uint64_t id, const char *payload)
{
    uint8_t packed[512];
    size_t len = pack_head(packed, sizeof packed, -1);
    assert_int_equal(handler_put_task(&self->out, true, id, packed, len, payload, strlen(payload), 0), 0);
}

static void send_out(struct hand *self)
{
    assert_true(write(self->to, self->out.data, self->out.len) == (ssize_t)self->out.len);
    self->out.len = 0;
}

static void read_exactly(int fd, uint8_t *to, size_t len)
{
    for (ssize_t got; len > 0; to += got, len -= (size_t)got) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        assert_int_equal(poll(&p, 1, (int)(BOUND / NS_PER_MS)), 1);
        got = read(fd, to, len);
        assert_true(got > 0);
    }
}

static void expect(struct hand *self, uint64_t id, int code, const char *output)
{
    uint8_t head[HANDLER_FRAME_HEAD], frame[1000];
    struct handler_result result;
    struct why why;
    read_exactly(self->from, head, sizeof head);
    uint32_t len = handler_frame_length(head);
    assert_true(len <= sizeof frame);
    read_exactly(self->from, frame, len);
    assert_int_equal(handler_read_result(true, frame, len, &result, &why), 0);
    assert_int_equal(result.id, id);
    assert_int_equal(result.code, code);
    assert_int_equal(result.output_len, strlen(output));
    assert_memory_equal(result.output_len ? result.output : (const uint8_t *)"", output, strlen(output));
    handler_result_release(&result);
}

/* The end of its input: it closes the plugin and leaves. */
static void close_hand(struct hand *self)
{
    siginfo_t info = {0};
    uint8_t byte;
    close(self->to);
    assert_int_equal(read(self->from, &byte, 1), 0);
    close(self->from);
    assert_int_equal(waitid(P_PID, (id_t)self->pid, &info, WEXITED), 0);
    assert_int_equal(info.si_code, CLD_EXITED);
    assert_int_equal(info.si_status, 0);
    handler_bytes_release(&self->out);
}

static void test_many_in_one_write(void **state)
{
    struct place *place = *state;
    struct hand hand;
    char text[32];
    open_hand(&hand, place->fifo);
    for (unsigned i = 0; i < 200; i++) {
        snprintf(text, sizeof text, "echo %u", i);
        put(&hand, i, text);
    }
    send_out(&hand);
    for (unsigned i = 0; i < 200; i++) {
        snprintf(text, sizeof text, "%u", i);
        expect(&hand, i, 0, text);
    }
    /* A frame that comes in pieces; a cancel of a task that is gone, one of a task that waits behind another, and a message that
     * is none. */
    put(&hand, 300, "echo slowly");
    for (size_t i = 0; i < hand.out.len; i++)
        assert_int_equal(write(hand.to, hand.out.data + i, 1), 1);
    hand.out.len = 0;
    expect(&hand, 300, 0, "slowly");
    handler_put_cancel(&hand.out, true, 300);
    put(&hand, 301, "wait");
    put(&hand, 302, "wait");
    handler_put_cancel(&hand.out, true, 302);
    handler_put_cancel(&hand.out, true, 301);
    send_out(&hand);
    expect(&hand, 301, 1, "the attempt is cancelled");
    expect(&hand, 302, 1, "the attempt is cancelled");
    assert_int_equal(write(hand.to, "\0\0\0\2\xff\xff", 6), 6);
    put(&hand, 303, "echo still here");
    send_out(&hand);
    expect(&hand, 303, 0, "still here");
    close_hand(&hand);
}

int main(int argc, char **argv)
{
    if (plugin_host_is_asked_for(argc, argv))
        return plugin_host_main(argc, argv);
    play_a_part(argc, argv);
    const struct CMUnitTest tests[] = {
        KEEPER_TEST(test_tasks), KEEPER_TEST(test_context), KEEPER_TEST(test_printing_breaks_nothing), KEEPER_TEST(test_output_is_bounded),
        KEEPER_TEST(test_crash_and_exit), KEEPER_TEST(test_what_is_no_plugin), KEEPER_TEST(test_cancel), KEEPER_TEST(test_deadline),
        KEEPER_TEST(test_hang), KEEPER_TEST(test_hang_in_open), KEEPER_TEST(test_recycle), KEEPER_TEST(test_many_in_one_write),
        KEEPER_TEST(test_large_ones_in_shared_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
