/* The sockets: what is promised in net.h, over real connections in this process and to others. */
#include "tests/unit/net_world.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SCALE 10                         /* the long ones are shorter under a sanitizer */
#else
#define SCALE 1
#endif

/* ---- lanes ---- */

/* A process of its own that dials the lane whose endpoint it reads from `from`, until it is killed. */
static void lane_peer(int from)
{
    char endpoint[128] = "";
    struct end end = {0};
    struct why why;
    if (read(from, endpoint, sizeof endpoint - 1) <= 0)
        _exit(1);
    struct loop *loop = loop_new();
    struct net *net = net_new(loop, &(struct net_config){.max_sockets = 16, .max_message = MAX_MESSAGE}, &why);
    struct net_callbacks callbacks = {.message = on_message, .arg = &end};
    end.socket = net ? net_open(net, NET_LANE_IN, endpoint, &callbacks, &why) : NULL;
    if (end.socket)
        loop_run(loop);
    _exit(1);
}

static void test_lane_is_up_while_its_peer_lives(void **state)
{
    struct world world;
    struct end lane = {0};
    int to_peer[2];
    (void)state;
    assert_int_equal(pipe2(to_peer, O_CLOEXEC), 0);
    pid_t pid = fork();    /* Before there are contexts: they don't survive a fork. */
    assert_true(pid >= 0);
    if (pid == 0)
        lane_peer(to_peer[0]);
    world_open(&world, 16);
    open_end(&lane, world.near, NET_LANE_OUT, ANY_PORT);
    assert_true(net_port(lane.socket) > 0);
    assert_false(net_is_up(lane.socket));
    assert_int_equal(say(&lane, 0, "nobody is there"), -EAGAIN);
    const char *endpoint = net_endpoint(lane.socket);
    assert_int_equal(write(to_peer[1], endpoint, strlen(endpoint)), (ssize_t)strlen(endpoint));
    run_until(&world, is_up, &lane);
    assert_int_equal(say(&lane, 0, "open"), 0);

    mono_t killed = mono_now();
    assert_int_equal(kill(pid, SIGKILL), 0);
    run_until(&world, is_down, &lane);
    printf("    down %.3f ms after kill -9\n", (double)mono_since(lane.last_change, killed) / 1e6);
    assert_int_equal(lane.ups, 1);
    assert_int_equal(lane.downs, 1);
    assert_int_equal(say(&lane, 0, "nobody is there"), -EAGAIN);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    close(to_peer[0]);
    close(to_peer[1]);
    close_end(&lane);
    world_close(&world);
}

#define LANES 1000

struct lanes { struct end out[LANES], in[LANES]; };

static bool all_lanes_up(void *arg)
{
    struct lanes *lanes = arg;
    for (int i = 0; i < LANES; i++)
        if (!net_is_up(lanes->out[i].socket))
            return false;
    return true;
}

static bool all_lanes_heard(void *arg)
{
    struct lanes *lanes = arg;
    for (int i = 0; i < LANES; i++)
        if (!lanes->in[i].messages)
            return false;
    return true;
}

static void test_a_thousand_lanes(void **state)
{
    struct world world;
    struct lanes *lanes = calloc(1, sizeof *lanes);
    char text[32];
    (void)state;
    assert_non_null(lanes);
    world_open(&world, LANES + 10);
    mono_t began = mono_now();
    for (int i = 0; i < LANES; i++) {
        open_end(&lanes->out[i], world.near, NET_LANE_OUT, ANY_PORT);
        open_end(&lanes->in[i], world.far, NET_LANE_IN, net_endpoint(lanes->out[i].socket));
    }
    run_until(&world, all_lanes_up, lanes);
    mono_t up = mono_now();
    for (int i = 0; i < LANES; i++) {
        snprintf(text, sizeof text, "lane %d", i);
        assert_int_equal(say(&lanes->out[i], 0, text), 0);
    }
    run_until(&world, all_lanes_heard, lanes);
    printf("    1000 lanes up in %.0f ms, a message on each in %.1f ms\n", (double)mono_since(up, began) / 1e6,
           (double)mono_since(mono_now(), up) / 1e6);
    for (int i = 0; i < LANES; i++) {
        snprintf(text, sizeof text, "lane %d", i);
        assert_string_equal(lanes->in[i].head, text);
        assert_int_equal(lanes->in[i].messages, 1);
        close_end(&lanes->in[i]);
        close_end(&lanes->out[i]);
    }
    world_close(&world);
    free(lanes);
}

/* Three times a DEALER comes back to its ROUTER, which takes it as many reconnect intervals; in
 * all that time the lane's PULL doesn't come back to the new PUSH at its old address. */
static void test_lane_never_reconnects(void **state)
{
    struct world world;
    struct end out = {0}, in = {0}, router = {0}, dealer = {0};
    char lane_at[64], router_at[64];
    (void)state;
    world_open(&world, 16);
    open_end(&out, world.near, NET_LANE_OUT, ANY_PORT);
    open_end(&router, world.near, NET_ROUTER, ANY_PORT);
    snprintf(lane_at, sizeof lane_at, "%s", net_endpoint(out.socket));
    snprintf(router_at, sizeof router_at, "%s", net_endpoint(router.socket));
    open_end(&in, world.far, NET_LANE_IN, lane_at);
    open_end(&dealer, world.far, NET_DEALER, router_at);
    run_until(&world, is_up, &out);
    run_until(&world, is_up, &dealer);
    net_close(&out.socket);
    struct retry lane = {&out, world.near, NET_LANE_OUT, lane_at, &dealer};
    struct retry control = {&router, world.near, NET_ROUTER, router_at, &dealer};
    run_until(&world, try_to_open, &lane);
    for (int i = 0; i < 3; i++) {
        net_close(&router.socket);
        run_until(&world, is_down, &dealer);
        run_until(&world, try_to_open, &control);
        run_until(&world, is_up, &dealer);
    }
    assert_false(net_is_up(out.socket));
    assert_int_equal(out.ups, 1);
    close_end(&in);
    close_end(&dealer);
    world_close(&world);
}

static void mark_released(void *arg) { atomic_store((atomic_bool *)arg, true); }

static bool released(void *arg) { return atomic_load((atomic_bool *)arg); }

static bool heard_400(void *arg) { return ((struct end *)arg)->messages >= 400; }

/* Sends n messages of two parts; at the end libzmq has given all of them to the kernel. */
static void send_all(struct world *meanwhile, struct end *out, int n)
{
    static uint8_t bytes[600];
    atomic_bool gone = false;
    struct buf *last = buf_wrap(bytes, sizeof bytes, mark_released, &gone);
    assert_non_null(last);
    for (int i = 1; i < n; i++)
        assert_int_equal(net_send(out->socket, 0, bytes, 10, (struct slice){NULL, bytes, sizeof bytes}, true), 0);
    assert_int_equal(net_send(out->socket, 0, bytes, 10, slice_of(last), true), 0);
    buf_unref(&last);
    for (int i = 0; i < 10000 && !released(&gone); i++)
        pass_some_turns(meanwhile);
    assert_true(released(&gone));
}

/* The sender leaves while most of what it sent waits to be read. The lane's reader reads on to the end,
 * and nothing is torn between two parts, wherever libzmq looks for commands. */
static void test_lane_is_read_to_the_end(void **state)
{
    struct world world, meanwhile;
    (void)state;
    world_open(&world, 16);
    world_open(&meanwhile, 1000);    /* It opens and closes many, which libzmq gives back in its own time. */
    for (int round = 0; round < 6; round++) {
        struct end out = {0}, in = {.close_other = &out, .meanwhile = &meanwhile};
        open_end(&out, world.near, NET_LANE_OUT, ANY_PORT);
        open_end(&in, world.far, NET_LANE_IN, net_endpoint(out.socket));
        run_until(&world, is_up, &out);
        for (int i = 0; i < round % 2; i++)
            assert_int_equal(say(&out, 0, "odd"), 0);
        send_all(&meanwhile, &out, 400);
        run_until(&world, heard_400, &in);
        assert_int_equal(in.body.len, 600);
        close_end(&in);
    }
    world_close(&meanwhile);
    world_close(&world);
}

/* ---- control ---- */

static void test_dealer_waits_and_nothing_stale_arrives(void **state)
{
    struct world world;
    struct end router = {0}, dealer = {0};
    char at[128];
    (void)state;
    world_open(&world, 16);
    snprintf(at, sizeof at, "ipc://%s/control", world.dir);
    open_end(&dealer, world.far, NET_DEALER, at);
    assert_int_equal(say(&dealer, 0, "too early"), -EAGAIN);
    open_end(&router, world.near, NET_ROUTER, at);
    run_until(&world, is_up, &dealer);
    assert_int_equal(say(&dealer, 0, "hello 1"), 0);
    run_until(&world, heard_1, &router);
    assert_string_equal(router.head, "hello 1");
    assert_string_equal(router.address, "");
    assert_int_equal(say(&router, router.peer, "welcome"), 0);
    run_until(&world, heard_1, &dealer);
    assert_string_equal(dealer.head, "welcome");

    net_pause(router.socket, true);
    for (int i = 0; i < 5000; i++)
        assert_int_equal(say(&dealer, 0, "stale"), 0);
    net_close(&router.socket);
    run_until(&world, is_down, &dealer);
    assert_int_equal(say(&dealer, 0, "too late"), -EAGAIN);
    router = (struct end){0};
    open_end(&router, world.near, NET_ROUTER, at);
    run_until(&world, is_up, &dealer);
    assert_int_equal(say(&dealer, 0, "hello 2"), 0);
    run_until(&world, heard_1, &router);
    assert_string_equal(router.head, "hello 2");
    assert_int_equal(dealer.ups, 2);
    close_end(&dealer);
    close_end(&router);
    world_close(&world);
}

/* The same for a DEALER, of which libzmq takes the unread away: it goes down and lives. */
static void test_dealer_loses_its_router_while_reading(void **state)
{
    struct world world, meanwhile;
    uint8_t bytes[300] = {0};
    struct slice body = {NULL, bytes, sizeof bytes};
    (void)state;
    world_open(&world, 16);
    world_open(&meanwhile, 1000);    /* It opens and closes many, which libzmq gives back in its own time. */
    for (int round = 0; round < 6; round++) {
        struct end router = {0}, dealer = {.close_other = &router, .meanwhile = &meanwhile};
        open_end(&router, world.near, NET_ROUTER, ANY_PORT);
        open_end(&dealer, world.far, NET_DEALER, net_endpoint(router.socket));
        run_until(&world, is_up, &dealer);
        assert_int_equal(say(&dealer, 0, "hello"), 0);
        run_until(&world, heard_1, &router);
        for (int i = 0; i < round % 2; i++)
            assert_int_equal(say(&router, router.peer, "odd"), 0);
        for (int i = 0; i < 400; i++)
            assert_int_equal(net_send(router.socket, router.peer, bytes, 10, body, true), 0);
        run_until(&world, is_down, &dealer);
        assert_true(dealer.messages >= 10);
        close_end(&dealer);
    }
    world_close(&meanwhile);
    world_close(&world);
}

static bool unreachable(void *arg)
{
    struct end *router = arg;
    int r = say(router, router->peer, "are you there?");
    assert_true(r == 0 || r == -EHOSTUNREACH);
    return r == -EHOSTUNREACH;
}

static void test_peer_that_left_is_unreachable(void **state)
{
    struct world world;
    struct end router = {0}, dealer = {0};
    (void)state;
    world_open(&world, 16);
    open_end(&router, world.near, NET_ROUTER, ANY_PORT);
    assert_int_equal(say(&router, 12345, "nobody"), -EHOSTUNREACH);
    open_end(&dealer, world.far, NET_DEALER, net_endpoint(router.socket));
    run_until(&world, is_up, &dealer);
    assert_int_equal(say(&dealer, 0, "hello"), 0);
    run_until(&world, heard_1, &router);
    assert_string_equal(router.address, "127.0.0.1");
    assert_string_equal(net_peer_address(router.socket), "");    /* only in the callback */
    assert_int_equal(say(&router, router.peer, "welcome"), 0);
    close_end(&dealer);
    run_until(&world, unreachable, &router);    /* Each try touches the socket, so the loop comes back. */
    close_end(&router);
    world_close(&world);
}

struct rally {
    struct world *world;
    struct end *router, *dealer;
    struct loop_hook hook;
    int sent, wanted, window;
};

static bool rally_serve(void *arg)
{
    struct rally *rally = arg;
    while (rally->sent < rally->wanted && rally->sent - rally->dealer->messages < rally->window) {
        assert_int_equal(say(rally->dealer, 0, "ping"), 0);
        rally->sent++;
    }
    return false;
}

static bool rally_over(void *arg)
{
    struct rally *rally = arg;
    return rally->dealer->messages == rally->wanted;
}

/* The pings are sent by a hook that comes after both nets': nothing but the socket itself
 * brings the loop back to what sending may have swallowed. */
static void test_edges_are_not_lost(void **state)
{
    static const int windows[] = {1, 7, 100};
    (void)state;
    for (size_t i = 0; i < sizeof windows / sizeof *windows; i++) {
        struct world world;
        struct end router = {.echo = true}, dealer = {0};
        world_open(&world, 16);
        open_end(&router, world.near, NET_ROUTER, ANY_PORT);
        open_end(&dealer, world.far, NET_DEALER, net_endpoint(router.socket));
        run_until(&world, is_up, &dealer);
        struct rally rally = {.world = &world, .router = &router, .dealer = &dealer,
                              .wanted = (windows[i] == 1 ? 20000 : 50000) / SCALE, .window = windows[i]};
        rally.hook = (struct loop_hook){.turn = rally_serve, .arg = &rally};
        loop_add_hook(world.loop, &rally.hook);
        rally_serve(&rally);
        mono_t began = mono_now();
        run_until(&world, rally_over, &rally);
        printf("    window %d: %.1f us a round trip\n", windows[i],
               (double)mono_since(mono_now(), began) / 1e3 / rally.wanted);
        assert_int_equal(net_counters(world.near)->messages_in, rally.wanted);
        assert_int_equal(net_counters(world.far)->bytes_out, 4 * rally.wanted);
        loop_remove_hook(world.loop, &rally.hook);
        close_end(&dealer);
        close_end(&router);
        world_close(&world);
    }
}

/* What came while the loop was busy is taken from libzmq by a send: the descriptor then says
 * nothing more. The DEALER is alone in its loop, so nobody else's events help. */
static void test_sending_swallows_no_edge(void **state)
{
    struct world there, here;
    struct end router = {0}, dealer = {0};
    (void)state;
    world_open(&there, 1000);
    world_open(&here, 16);
    open_end(&router, there.near, NET_ROUTER, ANY_PORT);
    open_end(&dealer, here.near, NET_DEALER, net_endpoint(router.socket));
    run_until(&here, is_up, &dealer);
    assert_int_equal(say(&dealer, 0, "hello"), 0);
    run_until(&there, heard_1, &router);
    for (int i = 0; i < 10; i++) {
        dealer.messages = 0;
        assert_int_equal(say(&router, router.peer, "news"), 0);
        for (int j = 0; j < 3; j++)
            pass_some_turns(&there);
        assert_int_equal(say(&dealer, 0, "heartbeat"), 0);
        run_until(&here, heard_1, &dealer);
    }
    close_end(&dealer);
    close_end(&router);
    world_close(&here);
    world_close(&there);
}

/* Once at the end of each turn. */
struct turns { const struct end *end; int wanted, n; };

static bool count_turn(void *arg)
{
    struct turns *turns = arg;
    turns->n++;
    return turns->end->messages >= turns->wanted;
}

/* Of a round trip each end has one turn: whoever answers looks no second time whether there is more. */
static void test_an_answer_brings_no_turn(void **state)
{
    struct world world;
    struct end router = {.echo = true}, dealer = {.echo = true};
    struct turns turns = {.end = &dealer, .wanted = 2000 / SCALE};
    (void)state;
    world_open(&world, 16);
    open_end(&router, world.near, NET_ROUTER, ANY_PORT);
    open_end(&dealer, world.far, NET_DEALER, net_endpoint(router.socket));
    run_until(&world, is_up, &dealer);
    assert_int_equal(say(&dealer, 0, "ping"), 0);
    run_until(&world, count_turn, &turns);
    assert_in_range(turns.n, turns.wanted, turns.wanted * 5 / 2);
    close_end(&dealer);
    close_end(&router);
    world_close(&world);
}

/* ---- bodies ---- */

static void roundtrip(struct world *world, struct end *out, struct end *in, size_t len)
{
    atomic_bool gone = false;
    uint8_t *bytes = malloc(len + 1);
    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(i * 31 + (i >> 8));
    struct buf *buf = buf_wrap(bytes, len, mark_released, &gone);
    in->messages = 0;
    assert_int_equal(net_send(out->socket, out->peer, (const uint8_t *)"head", 4, slice_of(buf), true), 0);
    buf_unref(&buf);
    run_until(world, heard_1, in);
    assert_string_equal(in->head, "head");
    assert_true(in->bodies);
    assert_int_equal(in->body.len, len);
    if (len > 0)
        assert_memory_equal(in->body.data, bytes, len);
    while (!released(&gone))    /* libzmq's reference goes on its own thread. */
        pass_some_turns(world);
    free(bytes);
}

static void test_bodies_of_all_sizes(void **state)
{
    static const size_t sizes[] = {0, 1, 33, 512, 513, 4096, 4097, 8192, 100000, (size_t)16 << 20};
    static const struct { enum net_kind binds, dials; bool binder_sends; } ways[] = {
        {NET_RESULTS_IN, NET_RESULTS_OUT, false}, {NET_LANE_OUT, NET_LANE_IN, true},
        {NET_ROUTER, NET_DEALER, false}, {NET_ROUTER, NET_DEALER, true},
    };
    struct world world;
    (void)state;
    for (size_t way = 0; way < sizeof ways / sizeof *ways; way++) {
        struct end out = {0}, in = {0};
        struct end *binder = ways[way].binder_sends ? &out : &in, *dialler = ways[way].binder_sends ? &in : &out;
        world_open(&world, 1000);
        open_end(binder, world.near, ways[way].binds, ANY_PORT);
        open_end(dialler, world.far, ways[way].dials, net_endpoint(binder->socket));
        run_until(&world, is_up, ways[way].dials == NET_LANE_IN ? &out : dialler);
        if (ways[way].dials == NET_DEALER) {
            assert_int_equal(say(dialler, 0, "hello"), 0);
            run_until(&world, heard_1, binder);
        }
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            roundtrip(&world, &out, &in, sizes[i]);
        slice_drop(&in.body);
        in.messages = 0;
        assert_int_equal(say(&out, out.peer, "alone"), 0);
        run_until(&world, heard_1, &in);
        assert_false(in.bodies);
        /* What was received outlives the net. */
        roundtrip(&world, &out, &in, 20000);
        struct slice last = slice_keep(in.body);
        close_end(&out);
        close_end(&in);
        world_close(&world);
        slice_drop(&last);
    }
}

/* ---- backpressure ---- */

static bool has_room_again(void *arg) { return ((struct end *)arg)->rooms > 0; }
static struct { struct end *in; int wanted; } everything;
static bool heard_everything(void *arg)
{
    (void)arg;
    return everything.in->messages == everything.wanted;
}

static void test_full_is_not_down(void **state)
{
    struct world world;
    struct end out = {0}, in = {0};
    struct buf *body = buf_new(100000);
    int sent = 0;
    (void)state;
    memset(buf_data(body), 7, buf_len(body));
    world_open(&world, 16);
    open_end(&in, world.near, NET_RESULTS_IN, ANY_PORT);
    open_end(&out, world.far, NET_RESULTS_OUT, net_endpoint(in.socket));
    run_until(&world, is_up, &out);
    net_pause(in.socket, true);
    /* The kernel's buffers take some at first; when they are full nothing moves until the sink reads. */
    for (int last = -1; last != sent; ) {
        last = sent;
        while (net_send(out.socket, 0, (const uint8_t *)"x", 1, slice_of(body), true) == 0)
            sent++;
        pass_some_turns(&world);
    }
    assert_true(sent < 1000);    /* of 100 kB each: it is bounded */
    printf("    %d messages of 100 kB before -EAGAIN\n", sent);
    assert_int_equal(out.downs, 0);
    assert_int_equal(in.messages, 0);
    out.rooms = 0;
    net_pause(in.socket, false);
    run_until(&world, has_room_again, &out);
    everything.in = &in;
    everything.wanted = sent;
    run_until(&world, heard_everything, NULL);
    assert_int_equal(out.downs, 0);
    assert_int_equal(out.ups, 1);
    close_end(&out);
    close_end(&in);
    buf_unref(&body);
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lane_is_up_while_its_peer_lives),
        cmocka_unit_test(test_a_thousand_lanes),
        cmocka_unit_test(test_lane_never_reconnects),
        cmocka_unit_test(test_lane_is_read_to_the_end),
        cmocka_unit_test(test_dealer_waits_and_nothing_stale_arrives),
        cmocka_unit_test(test_dealer_loses_its_router_while_reading),
        cmocka_unit_test(test_peer_that_left_is_unreachable),
        cmocka_unit_test(test_edges_are_not_lost),
        cmocka_unit_test(test_sending_swallows_no_edge),
        cmocka_unit_test(test_an_answer_brings_no_turn),
        cmocka_unit_test(test_bodies_of_all_sizes),
        cmocka_unit_test(test_full_is_not_down),
    };
    return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
