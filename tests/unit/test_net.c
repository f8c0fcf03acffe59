/* The sockets: what is promised in net.h, over real connections in this process and to others.
 * Strangers (random bytes, hand-made ZMTP) speak through plain TCP sockets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/net.h"

#define BOUND (30 * NS_PER_S)            /* for every wait: generous, for a busy machine */
#define ANY_PORT "tcp://127.0.0.1:0"
#define MAX_MESSAGE ((size_t)32 << 20)
#define NO_BODY ((struct slice){0})

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define SCALE 10                         /* the long ones are shorter under a sanitizer */
#else
#define SCALE 1
#endif

/* ---- a world: one loop, two nets ---- */

struct world {
    struct loop *loop;
    struct net *near, *far;
    struct loop_hook check;
    struct loop_timer bound;
    bool (*done)(void *arg);
    void *done_arg;
    bool late;
    char dir[64];
};

static void too_late(void *arg)
{
    struct world *world = arg;
    world->late = true;
    loop_stop(world->loop);
}

static bool check(void *arg)
{
    struct world *world = arg;
    if (world->done && world->done(world->done_arg))
        loop_stop(world->loop);
    return false;
}

static struct net *new_net(struct loop *loop, int max_sockets)
{
    struct why why = {""};
    struct net *net = net_new(loop, &(struct net_config){max_sockets, MAX_MESSAGE}, &why);
    if (!net)
        fail_msg("%s", why.text);
    return net;
}

static void world_open(struct world *world, int max_sockets)
{
    *world = (struct world){.dir = "/tmp/test_net.XXXXXX"};
    assert_non_null(mkdtemp(world->dir));
    world->loop = loop_new();
    assert_non_null(world->loop);
    world->near = new_net(world->loop, max_sockets);
    world->far = new_net(world->loop, max_sockets);
    world->check = (struct loop_hook){.turn = check, .arg = world};
    world->bound = (struct loop_timer){.fire = too_late, .arg = world};
    loop_add_hook(world->loop, &world->check);
}

static void world_close(struct world *world)
{
    net_destroy(&world->near);
    net_destroy(&world->far);
    assert_null(world->near);
    loop_remove_hook(world->loop, &world->check);
    loop_destroy(&world->loop);
    assert_int_equal(rmdir(world->dir), 0);    /* The sockets took their paths away. */
}

/* Runs the loop until done(arg) holds at the end of a turn. */
static void run_until(struct world *world, bool (*done)(void *arg), void *arg)
{
    world->done = done;
    world->done_arg = arg;
    world->late = false;
    if (done(arg))
        return;
    assert_int_equal(loop_timer_set(world->loop, &world->bound, mono_add(mono_now(), BOUND)), 0);
    assert_int_equal(loop_run(world->loop), 0);
    loop_timer_clear(world->loop, &world->bound);
    assert_false(world->late);
}

/* ---- an end: a socket and what it heard ---- */

struct end {
    struct net_socket *socket;
    int messages, ups, downs, rooms;
    bool bodies;                         /* the last message had a body */
    char head[64], address[64];          /* of the last message */
    struct slice body;
    net_peer peer;
    mono_t last_change;
    bool echo, close_self;
    struct end *close_other;
};

static void on_message(void *arg, struct net_socket *socket, const struct net_message *message)
{
    struct end *end = arg;
    assert_ptr_equal(socket, end->socket);
    assert_true(message->head_len < sizeof end->head);
    end->messages++;
    memcpy(end->head, message->head, message->head_len);
    end->head[message->head_len] = '\0';
    snprintf(end->address, sizeof end->address, "%s", net_peer_address(socket));
    end->bodies = message->has_body;
    end->peer = message->peer;
    slice_drop(&end->body);
    end->body = slice_keep(message->body);
    if (end->echo)
        assert_int_equal(net_send(socket, message->peer, message->head, message->head_len, message->body, message->has_body), 0);
    if (end->close_other)
        net_close(&end->close_other->socket);
    if (end->close_self)
        net_close(&end->socket);
}

static void on_up(void *arg, struct net_socket *socket, bool is_up)
{
    struct end *end = arg;
    assert_int_equal(net_is_up(socket), is_up);
    *(is_up ? &end->ups : &end->downs) += 1;
    end->last_change = mono_now();
}

static void on_room(void *arg, struct net_socket *socket)
{
    struct end *end = arg;
    (void)socket;
    end->rooms++;
}

static void open_end(struct end *end, struct net *net, enum net_kind kind, const char *endpoint)
{
    struct why why = {""};
    struct net_callbacks callbacks = {.message = on_message, .up = on_up, .arg = end, .room = on_room};
    end->socket = net_open(net, kind, endpoint, &callbacks, &why);
    if (!end->socket)
        fail_msg("%s", why.text);
}

static void close_end(struct end *end)
{
    net_close(&end->socket);
    slice_drop(&end->body);
}

/* Opens it once its address, or a socket, is free again: libzmq gives back in its own time. The
 * touching makes the turns in which that is tried. */
struct retry { struct end *end; struct net *net; enum net_kind kind; const char *endpoint; struct end *toucher; };

static bool try_to_open(void *arg)
{
    struct retry *retry = arg;
    struct why why;
    struct net_callbacks callbacks = {.message = on_message, .up = on_up, .arg = retry->end};
    retry->end->socket = net_open(retry->net, retry->kind, retry->endpoint, &callbacks, &why);
    if (!retry->end->socket && errno != EADDRINUSE && errno != EMFILE)
        fail_msg("%s", why.text);
    net_pause(retry->toucher->socket, false);
    return retry->end->socket;
}

static int say(struct end *end, net_peer peer, const char *head)
{
    return net_send(end->socket, peer, (const uint8_t *)head, strlen(head), NO_BODY, false);
}

static bool is_up(void *arg) { return net_is_up(((struct end *)arg)->socket); }
static bool is_down(void *arg) { return !is_up(arg); }
static bool heard_1(void *arg) { return ((struct end *)arg)->messages >= 1; }
static bool heard_2(void *arg) { return ((struct end *)arg)->messages >= 2; }

/* A lane that is opened and closed, by the same threads of libzmq. */
static void pass_some_turns(struct world *world)
{
    struct end probe = {0}, prober = {0};
    open_end(&probe, world->near, NET_LANE_OUT, ANY_PORT);
    open_end(&prober, world->far, NET_LANE_IN, net_endpoint(probe.socket));
    run_until(world, is_up, &probe);
    close_end(&probe);
    close_end(&prober);
}

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
    struct net *net = net_new(loop, &(struct net_config){16, MAX_MESSAGE}, &why);
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

static bool in_has_some(void *arg) { return ((struct end *)arg)->messages > 20; }

/* With RECONNECT_IVL -1 libzmq would abort here, once in a few hundred times. */
static void test_lane_breaks_between_two_parts(void **state)
{
    struct world world;
    uint8_t bytes[300] = {0};
    struct slice body = {NULL, bytes, sizeof bytes};
    (void)state;
    world_open(&world, 64);
    for (int round = 0; round < 300 / SCALE; round++) {
        struct end out = {0}, in = {0};
        open_end(&out, world.near, NET_LANE_OUT, ANY_PORT);
        open_end(&in, world.far, NET_LANE_IN, net_endpoint(out.socket));
        run_until(&world, is_up, &out);
        for (int i = 0; i < 400; i++)
            assert_int_equal(net_send(out.socket, 0, bytes, 10, body, true), 0);
        run_until(&world, in_has_some, &in);
        close_end(&out);
        pass_some_turns(&world);    /* in which the break arrives */
        close_end(&in);
    }
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

/* ---- bodies ---- */

static void mark_released(void *arg) { atomic_store((atomic_bool *)arg, true); }

static bool released(void *arg) { return atomic_load((atomic_bool *)arg); }

static void roundtrip(struct world *world, struct end *out, struct end *in, size_t len)
{
    atomic_bool gone = false;
    uint8_t *bytes = malloc(len + 1);
    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(i * 31 + (i >> 8));
    struct buf *buf = buf_wrap(bytes, len, mark_released, &gone);
    in->messages = 0;
    assert_int_equal(net_send(out->socket, 0, (const uint8_t *)"head", 4, slice_of(buf), true), 0);
    buf_unref(&buf);
    run_until(world, heard_1, in);
    assert_string_equal(in->head, "head");
    assert_true(in->bodies);
    assert_int_equal(in->body.len, len);
    if (len > 0)
        assert_memory_equal(in->body.data, bytes, len);
    /* libzmq's reference goes on its own thread; a further message makes turns meanwhile. */
    while (!released(&gone)) {
        in->messages = 0;
        assert_int_equal(say(out, 0, "more"), 0);
        run_until(world, heard_1, in);
    }
    free(bytes);
}

static void test_bodies_of_all_sizes(void **state)
{
    static const size_t sizes[] = {0, 1, 33, 512, 513, 4096, 4097, 8192, 100000, (size_t)16 << 20};
    static const enum net_kind pairs[][2] = {{NET_RESULTS_OUT, NET_RESULTS_IN}, {NET_LANE_OUT, NET_LANE_IN}};
    struct world world;
    (void)state;
    for (size_t p = 0; p < 2; p++) {
        struct end out = {0}, in = {0};
        world_open(&world, 16);
        enum net_kind binding = p == 0 ? pairs[p][1] : pairs[p][0], dialling = p == 0 ? pairs[p][0] : pairs[p][1];
        struct end *binder = p == 0 ? &in : &out, *dialler = p == 0 ? &out : &in;
        open_end(binder, world.near, binding, ANY_PORT);
        open_end(dialler, world.far, dialling, net_endpoint(binder->socket));
        run_until(&world, is_up, &out);
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
            roundtrip(&world, &out, &in, sizes[i]);
        slice_drop(&in.body);
        in.messages = 0;
        assert_int_equal(say(&out, 0, "alone"), 0);
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

/* ---- strangers ---- */

static int dial(unsigned port)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void put(int fd, const void *bytes, size_t len)
{
    /* The other side may have hung up already: that is what some of these are for. */
    ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);
    assert_true(n == (ssize_t)len || errno == EPIPE || errno == ECONNRESET);
}

static void get(int fd, size_t len)
{
    uint8_t bytes[128];
    struct timeval bound = {.tv_sec = 20};
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof bound), 0);
    assert_int_equal(recv(fd, bytes, len, MSG_WAITALL), (ssize_t)len);
}

/* ZMTP 3.0 by hand: the greeting, and READY of a DEALER that asks for this routing id. */
static int dial_zmtp(unsigned port, const char *identity)
{
    uint8_t greeting[64] = {0xff, [9] = 0x7f, [10] = 3, [12] = 'N', 'U', 'L', 'L'};
    uint8_t ready[64] = "\x04\x00\x05READY\x0bSocket-Type\x00\x00\x00\x06" "DEALER\x08Identity\x00\x00\x00";
    size_t len = 2 + 6 + 12 + 4 + 6 + 9 + 3;
    int fd = dial(port);
    ready[len++] = (uint8_t)strlen(identity);
    memcpy(ready + len, identity, strlen(identity));
    len += strlen(identity);
    ready[1] = (uint8_t)(len - 2);
    /* Step by step: libzmq never answers one who says everything at once. Its I/O thread does the answering. */
    put(fd, greeting, sizeof greeting);
    get(fd, sizeof greeting);
    put(fd, ready, len);
    get(fd, 2 + 6 + 12 + 4 + 6 + 9 + 4);    /* READY of a ROUTER, without a routing id */
    return fd;
}

struct hung_up { struct loop_watch watch; struct loop *loop; bool seen; };

static void stranger_ready(void *arg, uint32_t events)
{
    struct hung_up *stranger = arg;
    char bytes[256];
    (void)events;
    ssize_t n = read(stranger->watch.fd, bytes, sizeof bytes);
    if (n > 0)
        return;
    stranger->seen = true;
    loop_unwatch(stranger->loop, &stranger->watch);
}

static bool was_hung_up(void *arg) { return ((struct hung_up *)arg)->seen; }

struct guarded { struct world world; struct end router, dealer; unsigned port; };

static void guarded_open(struct guarded *guarded)
{
    *guarded = (struct guarded){.router.echo = true};
    world_open(&guarded->world, 16);
    open_end(&guarded->router, guarded->world.near, NET_ROUTER, ANY_PORT);
    guarded->port = net_port(guarded->router.socket);
    open_end(&guarded->dealer, guarded->world.far, NET_DEALER, net_endpoint(guarded->router.socket));
    run_until(&guarded->world, is_up, &guarded->dealer);
}

/* A ping that is answered: the others are not disturbed. */
static void guarded_ping(struct guarded *guarded)
{
    guarded->dealer.messages = 0;
    assert_int_equal(say(&guarded->dealer, 0, "ping"), 0);
    run_until(&guarded->world, heard_1, &guarded->dealer);
    assert_string_equal(guarded->dealer.head, "ping");
    assert_int_equal(guarded->dealer.downs, 0);
}

static void guarded_close(struct guarded *guarded)
{
    close_end(&guarded->dealer);
    close_end(&guarded->router);
    world_close(&guarded->world);
}

static void test_random_bytes_disturb_nobody(void **state)
{
    struct guarded guarded;
    uint8_t bytes[4096];
    int fds[20];
    unsigned seed = 20240607;
    (void)state;
    guarded_open(&guarded);
    for (size_t i = 0; i < 20; i++) {
        for (size_t j = 0; j < sizeof bytes; j++)
            bytes[j] = (uint8_t)rand_r(&seed);
        if (i % 2)
            bytes[0] = 0xff;    /* how ZMTP begins */
        if (i == 4)
            memcpy(bytes, "GET / HTTP/1.1\r\n\r\n", 18);
        fds[i] = dial(guarded.port);
        put(fds[i], bytes, i == 0 ? 0 : sizeof bytes / (i + 1));
        guarded_ping(&guarded);
    }
    for (size_t i = 0; i < 20; i++)
        close(fds[i]);
    guarded_ping(&guarded);
    guarded_close(&guarded);
}

static void test_too_large_message_is_refused(void **state)
{
    struct guarded guarded;
    uint8_t frame[9] = {2, 0, 0, 0, 0, (uint8_t)((MAX_MESSAGE + 1) >> 24), 0, 0, 1};
    (void)state;
    guarded_open(&guarded);
    struct hung_up stranger = {.loop = guarded.world.loop, .watch = {.ready = stranger_ready, .arg = &stranger}};
    stranger.watch.fd = dial_zmtp(guarded.port, "");
    put(stranger.watch.fd, "\x00\x05hello", 7);    /* The handshake is right: this one arrives. */
    run_until(&guarded.world, heard_1, &guarded.router);
    assert_string_equal(guarded.router.head, "hello");
    put(stranger.watch.fd, frame, sizeof frame);
    assert_int_equal(loop_watch(guarded.world.loop, &stranger.watch, EPOLLIN), 0);
    run_until(&guarded.world, was_hung_up, &stranger);
    guarded_ping(&guarded);
    close(stranger.watch.fd);
    guarded_close(&guarded);
}

static bool two_malformed(void *arg) { return net_counters(arg)->malformed == 2; }
static bool three_malformed(void *arg) { return net_counters(arg)->malformed == 3; }

static void test_malformed_is_counted(void **state)
{
    struct guarded guarded;
    (void)state;
    guarded_open(&guarded);
    int fd = dial_zmtp(guarded.port, "");
    put(fd, "\x01\x01" "a\x01\x01" "b\x00\x01" "c", 9);
    put(fd, "\x01\x01" "a\x01\x01" "b\x01\x01" "c\x01\x01" "d\x00\x01" "e", 15);
    run_until(&guarded.world, two_malformed, guarded.world.near);
    assert_int_equal(guarded.router.messages, 0);
    put(fd, "\x01\x04head\x00\x04" "body", 12);    /* It may go on, and is heard. */
    run_until(&guarded.world, heard_1, &guarded.router);
    assert_string_equal(guarded.router.head, "head");
    assert_int_equal(guarded.router.body.len, 4);
    int named = dial_zmtp(guarded.port, "me");      /* a routing id that is not libzmq's own */
    put(named, "\x00\x05hello", 7);
    run_until(&guarded.world, three_malformed, guarded.world.near);
    assert_int_equal(guarded.router.messages, 1);
    guarded_ping(&guarded);
    close(fd);
    close(named);
    guarded_close(&guarded);
}

/* ---- opening and closing ---- */

static void test_callbacks_may_close(void **state)
{
    struct world world;
    struct end out[2] = {{0}}, in[2] = {{0}};
    (void)state;
    world_open(&world, 16);
    for (int i = 0; i < 2; i++) {
        open_end(&out[i], world.near, NET_LANE_OUT, ANY_PORT);
        open_end(&in[i], world.far, NET_LANE_IN, net_endpoint(out[i].socket));
        run_until(&world, is_up, &out[i]);
    }
    in[0].close_self = in[1].close_self = true;
    in[0].close_other = &in[1];
    in[1].close_other = &in[0];
    for (int i = 0; i < 200; i++)
        for (int j = 0; j < 2; j++)
            assert_int_equal(say(&out[j], 0, "close"), 0);
    run_until(&world, is_down, &out[0]);
    run_until(&world, is_down, &out[1]);
    assert_int_equal(in[0].messages + in[1].messages, 1);
    assert_null(in[0].socket);
    assert_null(in[1].socket);
    for (int i = 0; i < 2; i++) {
        close_end(&in[i]);    /* closing what is closed */
        close_end(&out[i]);
    }
    world_close(&world);
}

static void test_linger_sends_the_rest(void **state)
{
    struct world world;
    struct end out = {0}, in = {0};
    (void)state;
    world_open(&world, 16);
    open_end(&in, world.near, NET_RESULTS_IN, ANY_PORT);
    open_end(&out, world.far, NET_RESULTS_OUT, net_endpoint(in.socket));
    run_until(&world, is_up, &out);
    assert_int_equal(say(&out, 0, "one"), 0);
    assert_int_equal(say(&out, 0, "goodbye"), 0);
    net_linger(out.socket, 10 * NS_PER_S);
    net_close(&out.socket);
    run_until(&world, heard_2, &in);
    assert_string_equal(in.head, "goodbye");
    close_end(&in);
    world_close(&world);
}

static void refused(struct net *net, enum net_kind kind, const char *endpoint, int error, const char *word)
{
    struct why why = {""};
    struct net_callbacks callbacks = {.message = on_message};
    assert_null(net_open(net, kind, endpoint, &callbacks, &why));
    assert_int_equal(errno, error);
    if (!strstr(why.text, word))
        fail_msg("'%s' does not say '%s'", why.text, word);
}

static void test_refusals_say_why(void **state)
{
    struct world world;
    struct end tcp = {0}, ipc = {0};
    char at[128];
    (void)state;
    world_open(&world, 8);
    snprintf(at, sizeof at, "ipc://%s/taken", world.dir);
    open_end(&tcp, world.near, NET_ROUTER, ANY_PORT);
    open_end(&ipc, world.near, NET_ROUTER, at);
    refused(world.far, NET_LANE_OUT, net_endpoint(tcp.socket), EADDRINUSE, net_endpoint(tcp.socket));
    refused(world.far, NET_ROUTER, at, EADDRINUSE, at);
    refused(world.far, NET_ROUTER, "tcp://192.0.2.1:0", EADDRNOTAVAIL, "no such address");
    refused(world.far, NET_ROUTER, "tcp://no-such-host.invalid:0", ENODEV, "no such address");
    refused(world.far, NET_ROUTER, "ipc:///nonexistent/folder/x", ENOENT, "make it first");
    refused(world.far, NET_DEALER, "tcp://127.0.0.1:0", EINVAL, "port");
    refused(world.far, NET_DEALER, "tcp://127.0.0.1", EINVAL, "port is missing");
    refused(world.far, NET_DEALER, "127.0.0.1:5555", EINVAL, "tcp://HOST:PORT");
    struct end many[8] = {{0}};
    for (int i = 0; i < 8; i++) {
        struct retry retry = {&many[i], world.far, NET_DEALER, at, &tcp};
        run_until(&world, try_to_open, &retry);
    }
    refused(world.far, NET_DEALER, at, EMFILE, "raise the limits");
    close_end(&tcp);
    close_end(&ipc);
    world_close(&world);
}

static void test_too_many_sockets_are_refused(void **state)
{
    struct loop *loop = loop_new();
    struct why why = {""};
    (void)state;
    assert_null(net_new(loop, &(struct net_config){1000000, MAX_MESSAGE}, &why));
    assert_non_null(strstr(why.text, "1000000 sockets"));
    assert_null(net_new(loop, &(struct net_config){0, MAX_MESSAGE}, &why));
    struct net *none = NULL;
    net_destroy(&none);
    loop_destroy(&loop);
}

static void test_localhost_and_ipv6(void **state)
{
    struct world world;
    struct end router = {0}, six = {0}, dealer = {0};
    struct why why;
    (void)state;
    world_open(&world, 8);
    open_end(&router, world.near, NET_ROUTER, "tcp://localhost:*");
    char at[64];
    snprintf(at, sizeof at, "tcp://127.0.0.1:%u", net_port(router.socket));
    assert_string_equal(net_endpoint(router.socket), at);
    struct net_callbacks callbacks = {.message = on_message, .arg = &six};
    six.socket = net_open(world.near, NET_ROUTER, "tcp://[::1]:0", &callbacks, &why);
    if (six.socket) {    /* A machine without IPv6 refuses it, in words. */
        open_end(&dealer, world.far, NET_DEALER, net_endpoint(six.socket));
        run_until(&world, is_up, &dealer);
        assert_int_equal(say(&dealer, 0, "hello"), 0);
        run_until(&world, heard_1, &six);
        assert_string_equal(six.address, "::1");
    } else
        assert_non_null(strstr(why.text, "[::1]"));
    close_end(&dealer);
    close_end(&six);
    close_end(&router);
    world_close(&world);
}

static void test_descriptors_close_on_exec(void **state)
{
    struct guarded guarded;
    (void)state;
    guarded_open(&guarded);
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    for (struct dirent *entry; (entry = readdir(dir)); ) {
        int fd = 0;
        for (const char *digit = entry->d_name; *digit >= '0' && *digit <= '9'; digit++)
            fd = fd * 10 + (*digit - '0');
        char path[64], target[64] = "";
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(path, target, sizeof target - 1);
        bool ours = n > 0 && (strstr(target, "socket:") || strstr(target, "event"));
        if (fd > 2 && ours && !(fcntl(fd, F_GETFD) & FD_CLOEXEC))
            fail_msg("descriptor %d (%s) would be inherited by a handler", fd, target);
    }
    closedir(dir);
    guarded_close(&guarded);
}

/* ---- endpoint words ---- */

static void parses(const char *text, unsigned default_port, const char *to)
{
    char out[300] = "untouched";
    struct why why = {"untouched"};
    int r = net_endpoint_parse(text, default_port, out, sizeof out, &why);
    if (to) {
        assert_int_equal(r, 0);
        assert_string_equal(out, to);
        assert_string_equal(why.text, "untouched");
    } else {
        assert_int_equal(r, -1);
        assert_string_equal(out, "untouched");
        if (!strstr(why.text, text))
            fail_msg("'%s' does not name '%s'", why.text, text);
    }
}

static void test_endpoint_words(void **state)
{
    (void)state;
    parses("tcp://ada", 5555, "tcp://ada:5555");
    parses("tcp://ada.example.org:7", 5555, "tcp://ada.example.org:7");
    parses("tcp://127.0.0.1:65535", 0, "tcp://127.0.0.1:65535");
    parses("tcp://*:*", 1, "tcp://*:0");
    parses("tcp://[::1]", 5556, "tcp://[::1]:5556");
    parses("tcp://[fe80::1%eth0]:9", 5556, "tcp://[fe80::1%eth0]:9");
    parses("ipc:///tmp/x", 5555, "ipc:///tmp/x");
    static const char *const bad[] = {
        "", "ada", "ada:5555", "udp://ada:5", "TCP://ada:5", "tcp://", "tcp://:5", "tcp://ada:", "tcp://ada:65536",
        "tcp://ada:-1", "tcp://ada:+5", "tcp://ada: 5", "tcp://ada:5x", "tcp://ada:5/", "tcp://::1:5555",
        "tcp://[::1", "tcp://[::1]5555", "tcp://[ada]:5", "tcp://[]:5", "tcp://1.2.3:5", "tcp://1.2.3.256:5",
        "tcp://a b:5", "tcp://-a:5", "tcp://a@b:5", "tcp://eth0;ada:5", "ipc://",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        parses(bad[i], 5555, NULL);
    parses("tcp://ada", 0, NULL);

    char longest[300] = "ipc://", out[300], small[10] = "untouched";
    struct why why;
    memset(longest + 6, 'x', 107);
    assert_int_equal(net_endpoint_parse(longest, 0, out, sizeof out, &why), 0);
    longest[6 + 107] = 'x';
    assert_int_equal(net_endpoint_parse(longest, 0, out, sizeof out, &why), -1);
    assert_non_null(strstr(why.text, "107"));
    memset(longest, 'x', 290);
    memcpy(longest, "tcp://", 6);
    assert_int_equal(net_endpoint_parse(longest, 5, out, sizeof out, &why), -1);
    assert_int_equal(net_endpoint_parse("tcp://ada", 5555, small, sizeof small, &why), -1);
    assert_int_equal(net_endpoint_parse("ipc:///tmp/x", 5555, small, sizeof small, &why), -1);
    assert_string_equal(small, "untouched");
}

static void test_endpoint_hosts(void **state)
{
    char host[20] = "untouched";
    (void)state;
    assert_int_equal(net_endpoint_host("ipc:///tmp/x", host, sizeof host), -1);
    assert_int_equal(net_endpoint_host("tcp://a-host-that-is-too-long-for-it:5", host, sizeof host), -1);
    assert_int_equal(net_endpoint_host("tcp://[::1", host, sizeof host), -1);
    assert_string_equal(host, "untouched");
    assert_int_equal(net_endpoint_host("tcp://ada:5", host, sizeof host), 0);
    assert_string_equal(host, "ada");
    assert_int_equal(net_endpoint_host("tcp://[::1]:5", host, sizeof host), 0);
    assert_string_equal(host, "[::1]");
    static const char *const loopback[] = {"ipc:///tmp/x", "tcp://localhost:1", "tcp://127.0.0.1:1", "tcp://127.9.9.9:1",
                                           "tcp://[::1]:1", "tcp://[::ffff:127.0.0.1]:1"};
    static const char *const others[] = {"tcp://*:1", "tcp://0.0.0.0:1", "tcp://127.evil.example:1", "tcp://10.0.0.1:1",
                                         "tcp://[::]:1", "tcp://[::ffff:10.0.0.1]:1", "tcp://localhost.example:1", "nonsense"};
    for (size_t i = 0; i < sizeof loopback / sizeof *loopback; i++)
        assert_true(net_endpoint_is_loopback(loopback[i]));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_false(net_endpoint_is_loopback(others[i]));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_endpoint_words),
        cmocka_unit_test(test_endpoint_hosts),
        cmocka_unit_test(test_lane_is_up_while_its_peer_lives),
        cmocka_unit_test(test_a_thousand_lanes),
        cmocka_unit_test(test_lane_never_reconnects),
        cmocka_unit_test(test_lane_breaks_between_two_parts),
        cmocka_unit_test(test_dealer_waits_and_nothing_stale_arrives),
        cmocka_unit_test(test_peer_that_left_is_unreachable),
        cmocka_unit_test(test_edges_are_not_lost),
        cmocka_unit_test(test_bodies_of_all_sizes),
        cmocka_unit_test(test_full_is_not_down),
        cmocka_unit_test(test_random_bytes_disturb_nobody),
        cmocka_unit_test(test_too_large_message_is_refused),
        cmocka_unit_test(test_malformed_is_counted),
        cmocka_unit_test(test_callbacks_may_close),
        cmocka_unit_test(test_linger_sends_the_rest),
        cmocka_unit_test(test_refusals_say_why),
        cmocka_unit_test(test_too_many_sockets_are_refused),
        cmocka_unit_test(test_localhost_and_ipv6),
        cmocka_unit_test(test_descriptors_close_on_exec),
    };
    return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
