/* A whole worker, with real sockets, keepers and commands, in the loop of a ventilator and a sink that
 * this test plays. Waits are for events, each with a bound. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/net.h"
#include "worker/keeper.h"
#include "worker/shell.h"

#define BOUND (60 * NS_PER_S)

/* The thread sanitizer takes a keeper's start for a fork, and would not let the next test start sockets after it. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "die_after_fork=0"; }

static uint8_t batch[WIRE_ID] = "the batch's id..";

struct world {
    char dir[64], address[80], lane_address[96], sink_address[80];
    struct loop *loop;
    struct net *net;
    struct net_socket *router, *lane, *sink;
    net_peer peer;
    struct wire_arena *arena;
    struct wire_writer writer;
    struct loop_hook check;
    struct loop_timer bound;
    bool (*done)(struct world *w);
    bool late;

    struct worker_config config;
    struct worker_shell *shell;
    uint64_t session, lane_epoch, sequence;
    unsigned lanes, hellos, opened, results, started;
    bool releases;                 /* at once */
    bool goodbye;
    char holdings[256];            /* of the last hello */
    char text[4096];               /* the results, one a line */
    Wire__Options options;
    Wire__Micros timeout;
};

/* ---- the ventilator that is played ---- */

static void send_lane(struct world *w, Wire__Lane *m, struct slice body)
{
    m->session = w->session;
    m->lane_epoch = w->lane_epoch;
    m->sequence = ++w->sequence;
    assert_int_equal(wire_write(&w->writer, &m->base), 0);
    assert_int_equal(net_send(w->lane, 0, w->writer.bytes, w->writer.len, body, body.len > 0), 0);
}

static void on_lane_up(void *arg, struct net_socket *socket, bool is_up)
{
    struct world *w = arg;
    if (socket != w->lane || !is_up)
        return;
    Wire__Open open = WIRE__OPEN__INIT;
    Wire__Lane m = WIRE__LANE__INIT;
    m.what_case = WIRE__LANE__WHAT_OPEN;
    m.open = &open;
    send_lane(w, &m, (struct slice){0});
}

static void send_down(struct world *w, Wire__Downward *m)
{
    m->epoch = 1;
    assert_int_equal(wire_write(&w->writer, &m->base), 0);
    (void)net_send(w->router, w->peer, w->writer.bytes, w->writer.len, (struct slice){0}, false);
}

static void welcome(struct world *w)
{
    struct why why = {""};
    const struct net_callbacks callbacks = {.up = on_lane_up, .arg = w};
    if (w->lane)
        net_close(&w->lane);
    snprintf(w->lane_address, sizeof w->lane_address, "ipc://%s/lane-%u", w->dir, ++w->lanes);
    w->lane = net_open(w->net, NET_LANE_OUT, w->lane_address, &callbacks, &why);
    assert_non_null(w->lane);
    w->sequence = 0;
    w->lane_epoch++;
    char *endpoints[] = {w->sink_address};
    Wire__SinkPlace place = WIRE__SINK_PLACE__INIT;
    place.endpoints = endpoints;
    place.n_endpoints = 1;
    Wire__Welcome m = WIRE__WELCOME__INIT;
    m.major = WIRE_MAJOR;
    m.ventilator = wire_id_bytes((const uint8_t *)"the journal's id");
    m.lane_endpoint = w->lane_address;
    m.lane_epoch = w->lane_epoch;
    m.heartbeat_us = 100000;
    m.lease_us = 20000000;
    m.silence_us = 60000000;
    m.result_credit = 1u << 20;
    m.sink = &place;
    Wire__Downward down = WIRE__DOWNWARD__INIT;
    down.what_case = WIRE__DOWNWARD__WHAT_WELCOME;
    down.welcome = &m;
    send_down(w, &down);
}

static void on_hello(struct world *w, const Wire__WorkerHello *hello)
{
    size_t len = 0;
    w->hellos++;
    w->holdings[0] = '\0';
    for (size_t i = 0; i < hello->n_holdings; i++)
        len += (size_t)snprintf(w->holdings + len, sizeof w->holdings - len, "%d:%" PRIu64 "+%u ", hello->holdings[i]->state,
                                hello->holdings[i]->fence->first, hello->holdings[i]->fence->count);
    assert_string_equal(hello->name, "w1");
    welcome(w);
}

static void on_control(void *arg, struct net_socket *socket, const struct net_message *message)
{
    struct world *w = arg;
    const Wire__Upward *m;
    struct why why = {""};
    (void)socket;
    if (wire_read_upward(w->arena, message->head, message->head_len, 0, &m, &why) < 0)
        fail_msg("%s", why.text);
    w->peer = message->peer;
    w->session = m->session;
    if (m->what_case == WIRE__UPWARD__WHAT_HELLO)
        on_hello(w, m->hello);
    w->opened += m->what_case == WIRE__UPWARD__WHAT_OPENED;
    w->started += m->what_case == WIRE__UPWARD__WHAT_STARTED;
    w->goodbye |= m->what_case == WIRE__UPWARD__WHAT_GOODBYE;
    if (m->what_case != WIRE__UPWARD__WHAT_HEARTBEAT)
        return;
    Wire__HeartbeatAnswer answer = WIRE__HEARTBEAT_ANSWER__INIT;
    answer.number = m->heartbeat->number;
    Wire__Downward down = WIRE__DOWNWARD__INIT;
    down.what_case = WIRE__DOWNWARD__WHAT_HEARTBEAT;
    down.heartbeat = &answer;
    send_down(w, &down);
}

/* ---- the sink that is played ---- */

static void release(struct world *w, const Wire__Fence *fence)
{
    Wire__Fence *fences[] = {(Wire__Fence *)(uintptr_t)fence};
    Wire__Release message = WIRE__RELEASE__INIT;
    message.fences = fences;
    message.n_fences = 1;
    Wire__Lane m = WIRE__LANE__INIT;
    m.what_case = WIRE__LANE__WHAT_RELEASE;
    m.release = &message;
    send_lane(w, &m, (struct slice){0});
}

static void on_result(void *arg, struct net_socket *socket, const struct net_message *message)
{
    struct world *w = arg;
    const Wire__Result *m;
    struct why why = {""};
    (void)socket;
    if (wire_read_result(w->arena, message->head, message->head_len, message->body.len, &m, &why) < 0)
        fail_msg("%s", why.text);
    const Wire__Report *r = m->report;
    size_t len = strlen(w->text);
    w->results += r->fence->count;
    snprintf(w->text + len, sizeof w->text - len, "%" PRIu64 " %s %s%s: %.*s%s\n", r->fence->first,
             wire_verdict_name(r->verdicts[0]), r->n_reasons ? wire_reason_name(r->reasons[0]) : "-",
             r->n_extras ? r->extras[0]->sentence : "", (int)message->body.len, (const char *)message->body.data, "");
    if (w->releases)
        release(w, r->fence);
}

/* ---- a world ---- */

static void too_late(void *arg)
{
    struct world *w = arg;
    w->late = true;
    loop_stop(w->loop);
}

static bool check(void *arg)
{
    struct world *w = arg;
    if (w->done && w->done(w))
        loop_stop(w->loop);
    return false;
}

static void wait_until(struct world *w, bool (*done)(struct world *w))
{
    w->done = done;
    w->late = false;
    loop_timer_set(w->loop, &w->bound, mono_add(mono_now(), BOUND));
    assert_int_equal(loop_run(w->loop), 0);
    loop_timer_clear(w->loop, &w->bound);
    w->done = NULL;
    if (w->late)
        fail_msg("it did not happen; results so far: %s", w->text);
}

static bool is_open(struct world *w) { return w->opened > 0; }
static bool has_result(struct world *w) { return w->results >= 1; }
static bool has_three(struct world *w) { return w->results >= 3; }
static bool has_started(struct world *w) { return w->started > 0; }
static bool never(struct world *w) { (void)w; return false; }    /* until the worker stops the loop */

static void open_router(struct world *w)
{
    const struct net_callbacks callbacks = {.message = on_control, .arg = w};
    struct why why = {""};
    w->router = net_open(w->net, NET_ROUTER, w->address, &callbacks, &why);
    if (!w->router)
        fail_msg("%s", why.text);
}

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct why why = {""};
    snprintf(w->dir, sizeof w->dir, "/tmp/test_worker.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->address, sizeof w->address, "ipc://%s/control", w->dir);
    snprintf(w->sink_address, sizeof w->sink_address, "ipc://%s/sink", w->dir);
    w->loop = loop_new();
    w->arena = wire_arena_new();
    w->net = net_new(w->loop, &(struct net_config){.max_sockets = 16, .max_message = WIRE_MESSAGE}, &why);
    assert_true(w->loop && w->arena && w->net);
    w->check = (struct loop_hook){.turn = check, .arg = w};
    w->bound = (struct loop_timer){.fire = too_late, .arg = w};
    loop_add_hook(w->loop, &w->check);
    open_router(w);
    const struct net_callbacks results = {.message = on_result, .arg = w};
    w->sink = net_open(w->net, NET_RESULTS_IN, w->sink_address, &results, &why);
    assert_non_null(w->sink);
    wire__options__init(&w->options);
    wire__micros__init(&w->timeout);
    w->options.grace_us = 100000;
    w->options.max_output = 1000;
    w->options.weight = 1;
    w->releases = true;
    snprintf(w->config.ventilator, sizeof w->config.ventilator, "%s", w->address);
    snprintf(w->config.name, sizeof w->config.name, "w1");
    w->config.slots = 2;
    w->config.allow_commands = true;
    w->config.shutdown_timeout = 30 * NS_PER_S;
    int code;
    w->shell = worker_shell_new(w->loop, &w->config, &code, &why);
    if (!w->shell)
        fail_msg("%s", why.text);
    wait_until(w, is_open);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    worker_shell_destroy(&w->shell);
    net_destroy(&w->net);
    loop_remove_hook(w->loop, &w->check);
    loop_destroy(&w->loop);
    wire_arena_destroy(&w->arena);
    wire_writer_release(&w->writer);
    char path[128];
    static const char *const names[] = {"control", "sink", "lane-1", "lane-2"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", w->dir, names[i]);
        unlink(path);
    }
    rmdir(w->dir);
    free(w);
    return 0;
}

static void assign(struct world *w, char **words, uint32_t n, const char *letters)
{
    uint32_t length = 1;
    for (w->options.n_command = 0; words[w->options.n_command];)
        w->options.n_command++;
    w->options.command = words;
    Wire__Announce announce = WIRE__ANNOUNCE__INIT;
    announce.batch = wire_id_bytes(batch);
    announce.short_id = (char *)(uintptr_t)"b7k2";
    announce.options = &w->options;
    Wire__Lane m = WIRE__LANE__INIT;
    m.what_case = WIRE__LANE__WHAT_ANNOUNCE;
    m.announce = &announce;
    send_lane(w, &m, (struct slice){0});
    Wire__Tasks tasks = WIRE__TASKS__INIT;
    tasks.count = n;
    tasks.lengths = &length;
    tasks.n_lengths = 1;
    Wire__Assign message = WIRE__ASSIGN__INIT;
    message.batch = wire_id_bytes(batch);
    message.tasks = &tasks;
    message.epoch = message.attempt = 1;
    m.what_case = WIRE__LANE__WHAT_ASSIGN;
    m.assign = &message;
    struct buf *body = buf_copy(letters, n);
    send_lane(w, &m, slice_of(body));
    buf_unref(&body);
}

#define WORDS(...) ((char *[]){__VA_ARGS__, NULL})
#define W(text) (char *)(uintptr_t)(text)

static void commands_run(void **state)
{
    struct world *w = *state;
    assign(w, WORDS(W("sh"), W("-c"), W("echo $TARMAC_KEY $0 >&2; echo out")), 3, "abc");
    wait_until(w, has_three);
    assert_non_null(strstr(w->text, "0 ok -: out\nb7k2/0 a\n"));
    assert_non_null(strstr(w->text, "b7k2/1 b\n"));
    assert_non_null(strstr(w->text, "b7k2/2 c\n"));
}

static void a_command_that_is_not_there_is_a_failure(void **state)
{
    struct world *w = *state;
    assign(w, WORDS(W("/nowhere/at/all")), 1, "a");
    wait_until(w, has_result);
    assert_non_null(strstr(w->text, "0 failed not_started"));
    assert_non_null(strstr(w->text, "/nowhere/at/all: No such file"));
    /* The slot is as good as before. Another batch, since a batch's options never change. */
    batch[0]++;
    assign(w, WORDS(W("true")), 2, "ab");
    wait_until(w, has_three);
    assert_non_null(strstr(w->text, "ok"));
}

static void a_command_that_can_not_be_made_is_a_failure(void **state)
{
    struct world *w = *state;
    assign(w, WORDS(W("echo")), 3, "a\0c");
    wait_until(w, has_three);
    assert_non_null(strstr(w->text, "1 failed not_started"));
    assert_non_null(strstr(w->text, "0 ok"));
    assert_non_null(strstr(w->text, "2 ok"));
}

static void a_timeout_stops_a_command(void **state)
{
    struct world *w = *state;
    w->timeout.us = 100000;
    w->options.timeout = &w->timeout;
    assign(w, WORDS(W("sleep"), W("600")), 1, "1");
    wait_until(w, has_result);
    assert_string_equal(w->text, "0 deadline_exceeded timeout: \n");
}

static void a_new_ventilator_finds_what_runs(void **state)
{
    struct world *w = *state;
    assign(w, WORDS(W("sleep"), W("600")), 1, "1");
    wait_until(w, has_started);
    net_close(&w->lane);
    net_close(&w->router);
    w->hellos = w->opened = 0;
    open_router(w);
    wait_until(w, is_open);
    assert_int_equal(w->hellos, 1);
    assert_string_equal(w->holdings, "1:0+1 ");
    assert_int_equal(w->results, 0);
}

static void a_drain_ends_the_loop(void **state)
{
    struct world *w = *state;
    assign(w, WORDS(W("sh"), W("-c"), W("echo $0")), 3, "abc");
    wait_until(w, has_result);
    worker_shell_signal(w->shell);
    wait_until(w, never);
    assert_int_equal(worker_shell_exit_code(w->shell), 0);
}

static void unreleased_results_are_an_exit_code(void **state)
{
    struct world *w = *state;
    w->releases = false;
    assign(w, WORDS(W("true")), 1, "a");
    wait_until(w, has_result);
    worker_shell_signal(w->shell);
    worker_shell_signal(w->shell);
    wait_until(w, never);
    assert_int_equal(worker_shell_exit_code(w->shell), 1);
}

static void a_second_signal_ends_what_runs(void **state)
{
    struct world *w = *state;
    assign(w, WORDS(W("sleep"), W("600")), 2, "12");
    wait_until(w, has_started);
    worker_shell_signal(w->shell);
    worker_shell_signal(w->shell);
    wait_until(w, never);
    mono_t before = mono_now();
    worker_shell_destroy(&w->shell);
    assert_true(mono_since(mono_now(), before) < BOUND);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    if (keeper_is_asked_for(argc, argv))
        return keeper_main(argc, argv);
    const struct CMUnitTest tests[] = {
        TEST(commands_run),
        TEST(a_command_that_is_not_there_is_a_failure),
        TEST(a_command_that_can_not_be_made_is_a_failure),
        TEST(a_timeout_stops_a_command),
        TEST(a_new_ventilator_finds_what_runs),
        TEST(a_drain_ends_the_loop),
        TEST(unreleased_results_are_an_exit_code),
        TEST(a_second_signal_ends_what_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
