/* The network under faults: every allocation, descriptor, watch and call of ZeroMQ that it needs fails in turn, while
 * it is made, while each kind of socket opens, and while messages of every size travel on all of them. A message
 * arrives whole and once, or its sender was told; what failed once works when it is tried again; nothing leaks. */
#include "tests/support/fail.h"
#include "tests/unit/net_world.h"

#define ALL (FAIL_MEMORY | FAIL_OPEN | FAIL_CONTROL | FAIL_ZMQ | FAIL_SEND)

/* ---- making ---- */

static bool is_down_to(void *arg) { return fail_descriptors() <= *(int *)arg; }

static void making_a_network(void **state)
{
    (void)state;
    struct fail_sweep sweep = {.kinds = ALL, .error = EMFILE, .stride = 1};
    struct loop *loop = loop_new();
    assert_non_null(loop);
    int descriptors = fail_descriptors();
    while (fail_next(&sweep)) {
        size_t blocks = fail_blocks();
        struct why why = {""};
        struct net *net = net_new(loop, &(struct net_config){.max_sockets = 20, .max_message = MAX_MESSAGE}, &why);
        long hits = fail_disarm();
        assert_true((hits > 0) == !net);
        assert_true(net || strlen(why.text) > 20);
        net_destroy(&net);
        assert_int_equal(fail_blocks(), blocks);
        assert_int_equal(fail_descriptors(), descriptors);
    }
    loop_destroy(&loop);
    fail_said("calls while a network is made", sweep.points);
    assert_true(sweep.points >= 5);
}

/* ---- opening ---- */

static void refused_or_open(struct world *world, enum net_kind kind, const char *endpoint, struct fail_sweep *sweep, int error)
{
    struct net_callbacks callbacks = {.message = on_message};
    struct why why = {""};
    struct end end = {0};
    callbacks.arg = &end;
    fail_again(sweep);
    end.socket = net_open(world->near, kind, endpoint, &callbacks, &why);
    int why_not = errno;
    long hits = fail_disarm();
    if (!end.socket) {
        assert_true(hits > 0);
        assert_true(why_not == error || why_not == ENOMEM);
        if (!strstr(why.text, "tcp://") && !strstr(why.text, world->dir))
            fail_msg("'%s' doesn't name the address", why.text);
    } else {
        assert_true(strlen(net_endpoint(end.socket)) > 5);
    }
    net_close(&end.socket);
}

/* After each refusal the same address is opened without faults: nothing holds it. */
static void opening_each_kind(void **state)
{
    static const enum net_kind kinds[] = {NET_ROUTER, NET_DEALER, NET_LANE_OUT, NET_LANE_IN, NET_RESULTS_OUT, NET_RESULTS_IN};
    struct world world;
    long points = 0;
    (void)state;
    world_open(&world, 100);
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        bool binds = kinds[k] == NET_ROUTER || kinds[k] == NET_LANE_OUT || kinds[k] == NET_RESULTS_IN;
        struct end other = {0}, end = {0};
        char ipc[100], there[100];
        snprintf(ipc, sizeof ipc, "ipc://%s/socket", world.dir);
        open_end(&other, world.far, NET_ROUTER, ANY_PORT);
        snprintf(there, sizeof there, "%s", net_endpoint(other.socket));
        const char *endpoint = binds ? ipc : there;
        struct fail_sweep sweep = {.kinds = ALL, .error = EMFILE};
        pass_some_turns(&world);             /* what these leave to be buried is there each time */
        while (fail_next(&sweep)) {
            size_t blocks = fail_blocks();
            refused_or_open(&world, kinds[k], endpoint, &sweep, EMFILE);
            open_end(&end, world.near, kinds[k], endpoint);
            close_end(&end);
            pass_some_turns(&world);         /* closed sockets are buried, libzmq gives its descriptors back */
            assert_int_equal(fail_blocks(), blocks);
        }
        points += sweep.points;
        close_end(&other);
    }
    world_close(&world);
    fail_said("calls while sockets open", points);
    assert_true(points >= (fail_is_sanitized() ? 20 : 100));
}

/* ---- travelling ---- */

static const size_t sizes[] = {SIZE_MAX /* no body */, 0, 3, 300, 600, 5000, 100000};
#define SIZES (sizeof sizes / sizeof *sizes)
#define LAST 1000                        /* the message after which nothing comes */

struct path {
    struct net_socket *socket;
    net_peer peer;                       /* of the router's other end, once it has spoken */
    int arrived[SIZES];
    bool sent[SIZES];
    bool is_up, last;
};

static uint8_t pattern(size_t size, size_t at) { return (uint8_t)(size * 31 + at * 7); }

static void hear(void *arg, struct net_socket *socket, const struct net_message *message)
{
    struct path *path = arg;
    (void)socket;
    assert_int_equal(message->head_len, 2);
    size_t which = message->head[0] | (size_t)message->head[1] << 8;
    path->peer = message->peer;
    if (which == LAST) {
        path->last = true;
        return;
    }
    assert_true(which < SIZES);
    path->arrived[which]++;
    assert_int_equal(message->has_body, sizes[which] != SIZE_MAX);
    assert_int_equal(message->body.len, sizes[which] == SIZE_MAX ? 0 : sizes[which]);
    for (size_t i = 0; i < message->body.len; i++)
        assert_int_equal(message->body.data[i], pattern(sizes[which], i));
}

static void see_up(void *arg, struct net_socket *socket, bool is_up)
{
    struct path *path = arg;
    (void)socket;
    path->is_up = is_up;
}

static int send_one(struct path *from, size_t which)
{
    uint8_t head[2] = {(uint8_t)which, (uint8_t)(which >> 8)};
    size_t size = which < SIZES ? sizes[which] : SIZE_MAX;
    struct slice body = {0};
    if (size != SIZE_MAX && size > 0) {
        struct buf *buf = buf_new(size);
        if (!buf)
            return -ENOMEM;
        for (size_t i = 0; i < size; i++)
            buf_data(buf)[i] = pattern(size, i);
        body = slice_of(buf);
    }
    int r = net_send(from->socket, from->peer, head, sizeof head, body, size != SIZE_MAX);
    slice_drop(&body);
    return r;
}

static void open_path(struct path *path, struct net *net, enum net_kind kind, const char *endpoint)
{
    struct net_callbacks callbacks = {.message = hear, .up = see_up, .arg = path};
    struct why why = {""};
    path->socket = net_open(net, kind, endpoint, &callbacks, &why);
    if (!path->socket)
        fail_msg("%s", why.text);
}

enum { CLIENT, SERVER, LANE, PULL, PUSH, SINK, PATHS };

struct web { struct path paths[PATHS]; };

static void send_all(struct path *from, int *refusals)
{
    for (size_t which = 0; which < SIZES; which++) {
        int r = send_one(from, which);
        if (r < 0) {
            *refusals += 1;
            assert_true(r == -ENOMEM || r == -EAGAIN || r == -EINTR);
            r = send_one(from, which);           /* the fault is over */
            assert_int_equal(r, fail_hits() > 0 ? 0 : r);
        }
        from->sent[which] = r == 0;
    }
}

static bool all_up(void *arg)
{
    struct web *web = arg;
    return web->paths[CLIENT].is_up && web->paths[LANE].is_up && web->paths[PUSH].is_up;
}
static bool server_heard_last(void *arg) { return ((struct web *)arg)->paths[SERVER].last; }
static bool all_heard_last(void *arg)
{
    struct web *web = arg;
    return web->paths[CLIENT].last && web->paths[PULL].last && web->paths[SINK].last;
}

static void assert_once(const struct path *from, const struct path *to)
{
    for (size_t which = 0; which < SIZES; which++)
        assert_int_equal(to->arrived[which], from->sent[which]);
}

static void travel(struct world *world, const struct fail_sweep *sweep, int *refusals)
{
    struct web web = {0};
    struct path *p = web.paths;
    open_path(&p[SERVER], world->near, NET_ROUTER, ANY_PORT);
    open_path(&p[CLIENT], world->far, NET_DEALER, net_endpoint(p[SERVER].socket));
    open_path(&p[LANE], world->near, NET_LANE_OUT, ANY_PORT);
    open_path(&p[PULL], world->far, NET_LANE_IN, net_endpoint(p[LANE].socket));
    open_path(&p[SINK], world->near, NET_RESULTS_IN, ANY_PORT);
    open_path(&p[PUSH], world->far, NET_RESULTS_OUT, net_endpoint(p[SINK].socket));
    run_until(world, all_up, &web);

    fail_again(sweep);
    send_all(&p[CLIENT], refusals);
    assert_int_equal(send_one(&p[CLIENT], LAST) ? send_one(&p[CLIENT], LAST) : 0, 0);
    run_until(world, server_heard_last, &web);
    send_all(&p[SERVER], refusals);
    send_all(&p[LANE], refusals);
    send_all(&p[PUSH], refusals);
    for (int from = SERVER; from <= PUSH; from++)
        if (from == SERVER || from == LANE || from == PUSH)
            assert_int_equal(send_one(&p[from], LAST) ? send_one(&p[from], LAST) : 0, 0);
    run_until(world, all_heard_last, &web);
    fail_disarm();
    assert_once(&p[CLIENT], &p[SERVER]);
    assert_once(&p[SERVER], &p[CLIENT]);
    assert_once(&p[LANE], &p[PULL]);
    assert_once(&p[PUSH], &p[SINK]);
    for (int i = 0; i < PATHS; i++)
        net_close(&p[i].socket);
}

static void sweep_travels(const char *what, struct fail_sweep sweep, long wanted, bool refuses)
{
    int refusals = 0;
    while (fail_next(&sweep)) {
        struct world world;
        fail_disarm();
        size_t blocks = fail_blocks();
        int descriptors = fail_descriptors();
        world_open(&world, 100);
        travel(&world, &sweep, &refusals);
        world_close(&world);
        assert_int_equal(fail_blocks(), blocks);
        assert_true(is_down_to(&descriptors));
    }
    fail_said(what, sweep.points);
    assert_true(sweep.points >= (fail_is_sanitized() ? wanted / 5 : wanted));
    assert_int_equal(refusals > 0, refuses);
}

static void messages_travel(void **state)
{
    (void)state;
    sweep_travels("allocations while messages travel", (struct fail_sweep){.kinds = FAIL_MEMORY, .error = ENOMEM}, 20, true);
    sweep_travels("messages that can't be made", (struct fail_sweep){.kinds = FAIL_SEND, .error = ENOMEM}, 50, true);
    sweep_travels("sends that are refused", (struct fail_sweep){.kinds = FAIL_SEND, .error = EAGAIN}, 50, true);
    sweep_travels("calls that are interrupted", (struct fail_sweep){.kinds = FAIL_ZMQ, .error = EINTR, .stride = 1}, 3, false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(making_a_network),
        cmocka_unit_test(opening_each_kind),
        cmocka_unit_test(messages_travel),
    };
    return cmocka_run_group_tests_name("network and faults", tests, NULL, NULL);
}
