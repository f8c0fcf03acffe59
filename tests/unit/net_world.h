/* What the tests of sockets share: a loop with two nets, and ends that remember what they heard. */
#ifndef TESTS_UNIT_NET_WORLD_H
#define TESTS_UNIT_NET_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/net.h"

#define BOUND (30 * NS_PER_S)            /* for every wait: generous, for a busy machine */
#define ANY_PORT "tcp://127.0.0.1:0"
#define MAX_MESSAGE ((size_t)32 << 20)
#define NO_BODY ((struct slice){0})

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

static inline void too_late(void *arg)
{
    struct world *world = arg;
    world->late = true;
    loop_stop(world->loop);
}

static inline bool check(void *arg)
{
    struct world *world = arg;
    if (world->done && world->done(world->done_arg))
        loop_stop(world->loop);
    return false;
}

static inline struct net *new_net(struct loop *loop, int max_sockets)
{
    struct why why = {""};
    struct net *net = net_new(loop, &(struct net_config){.max_sockets = max_sockets, .max_message = MAX_MESSAGE}, &why);
    if (!net)
        fail_msg("%s", why.text);
    return net;
}

static inline void world_open(struct world *world, int max_sockets)
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

static inline void world_close(struct world *world)
{
    net_destroy(&world->near);
    net_destroy(&world->far);
    assert_null(world->near);
    loop_remove_hook(world->loop, &world->check);
    loop_destroy(&world->loop);
    assert_int_equal(rmdir(world->dir), 0);    /* The sockets took their paths away. */
}

/* Runs the loop until done(arg) holds at the end of a turn. */
static inline void run_until(struct world *world, bool (*done)(void *arg), void *arg)
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
    struct world *meanwhile;             /* run at the tenth message, after close_other */
};

static inline void pass_some_turns(struct world *world);

static inline void on_message(void *arg, struct net_socket *socket, const struct net_message *message)
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
    if (end->close_other && (!end->meanwhile || end->messages == 10))
        net_close(&end->close_other->socket);
    for (int i = 0; end->meanwhile && end->messages == 10 && i < 3; i++)
        pass_some_turns(end->meanwhile);
    if (end->close_self)
        net_close(&end->socket);
}

static inline void on_up(void *arg, struct net_socket *socket, bool is_up)
{
    struct end *end = arg;
    assert_int_equal(net_is_up(socket), is_up);
    *(is_up ? &end->ups : &end->downs) += 1;
    end->last_change = mono_now();
}

static inline void on_room(void *arg, struct net_socket *socket)
{
    struct end *end = arg;
    (void)socket;
    end->rooms++;
}

static inline void open_end(struct end *end, struct net *net, enum net_kind kind, const char *endpoint)
{
    struct why why = {""};
    struct net_callbacks callbacks = {.message = on_message, .up = on_up, .arg = end, .room = on_room};
    end->socket = net_open(net, kind, endpoint, &callbacks, &why);
    if (!end->socket)
        fail_msg("%s", why.text);
}

static inline void close_end(struct end *end)
{
    net_close(&end->socket);
    slice_drop(&end->body);
}

/* Opens it once its address, or a socket, is free again: libzmq gives back in its own time. The
 * touching makes the turns in which that is tried. */
struct retry { struct end *end; struct net *net; enum net_kind kind; const char *endpoint; struct end *toucher; };

static inline bool try_to_open(void *arg)
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

static inline int say(struct end *end, net_peer peer, const char *head)
{
    return net_send(end->socket, peer, (const uint8_t *)head, strlen(head), NO_BODY, false);
}

static inline bool is_up(void *arg) { return net_is_up(((struct end *)arg)->socket); }
static inline bool is_down(void *arg) { return !is_up(arg); }
static inline bool heard_1(void *arg) { return ((struct end *)arg)->messages >= 1; }
static inline bool heard_2(void *arg) { return ((struct end *)arg)->messages >= 2; }

/* A lane that is opened and closed, by the same threads of libzmq. */
static inline void pass_some_turns(struct world *world)
{
    struct end probe = {0}, prober = {0};
    open_end(&probe, world->near, NET_LANE_OUT, ANY_PORT);
    open_end(&prober, world->far, NET_LANE_IN, net_endpoint(probe.socket));
    run_until(world, is_up, &probe);
    close_end(&probe);
    close_end(&prober);
}

#endif
