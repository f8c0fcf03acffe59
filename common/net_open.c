/* Sockets: their kinds and options, how they are opened, dialled anew, and closed. */
#include "common/net.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <zmq.h>

#include "common/bug.h"
#include "common/net_inside.h"

#define CONTROL_RCVHWM 64                    /* a peer that floods us waits in its own connection */
#define RESULTS_RCVHWM 4

static const struct rule rules[] = {
    [NET_ROUTER]      = {.type = ZMQ_ROUTER, .class = CONTROL, .binds = true, .reads = true, .packs = true,
                         .rcvhwm = CONTROL_RCVHWM},
    [NET_DEALER]      = {.type = ZMQ_DEALER, .class = CONTROL, .reads = true, .unpacks = true, .tells_up = true,
                         .rcvhwm = CONTROL_RCVHWM},
    [NET_LANE_OUT]    = {.type = ZMQ_PUSH, .class = LANES, .binds = true, .tells_up = true},
    [NET_LANE_IN]     = {.type = ZMQ_PULL, .class = LANES, .reads = true, .never_again = true},
    [NET_RESULTS_OUT] = {.type = ZMQ_PUSH, .class = RESULTS, .tells_up = true, .bounded = true},
    [NET_RESULTS_IN]  = {.type = ZMQ_PULL, .class = RESULTS, .binds = true, .reads = true, .rcvhwm = RESULTS_RCVHWM},
};

/* ---- opening and closing ---- */

static int set_int(void *handle, int option, int value)
{
    return zmq_setsockopt(handle, option, &value, sizeof value);
}

static int random_below(int limit)
{
    unsigned value = 0;
    ssize_t n = getrandom(&value, sizeof value, 0);
    (void)n;    /* It is jitter: none does no harm. */
    return (int)(value % (unsigned)limit);
}

/* libzmq adds up to one interval of jitter of its own to each wait: with it none exceeds 500 ms.
 * A lane that must not reconnect is given the longest interval there is, 24 days: the documented -1
 * takes unread messages away when the peer goes, with the danger that net_parts.c speaks of. */
static int set_reconnecting(void *handle, const struct rule *rule)
{
    int first = rule->never_again ? INT_MAX : 100 + random_below(51);
    int longest = rule->never_again ? 0 : 500 - first;
    return set_int(handle, ZMQ_RECONNECT_IVL, first) < 0 || set_int(handle, ZMQ_RECONNECT_IVL_MAX, longest) < 0 ? -1 : 0;
}

static int set_options(struct net_socket *socket)
{
    const struct rule *rule = socket->rule;
    void *handle = socket->handle;
    size_t max = socket->net->max_message;
    int64_t max_message = (int64_t)(rule->unpacks ? 2 * max + PACK_LEN : max);
    uint64_t thread = rule->class == CONTROL ? 2 : 1;    /* a bit for each I/O thread */
    const struct { int option, value; } options[] = {
        {ZMQ_LINGER, socket->linger_ms}, {ZMQ_BACKLOG, 1024}, {ZMQ_SNDHWM, 0}, {ZMQ_RCVHWM, rule->rcvhwm},
        {ZMQ_IPV6, strchr(socket->endpoint, '[') != NULL}, {ZMQ_IMMEDIATE, !rule->binds && !rule->never_again},
        {ZMQ_CONNECT_TIMEOUT, 2000}, {ZMQ_HANDSHAKE_IVL, 5000}, {ZMQ_TCP_MAXRT, 10000},
        {ZMQ_TCP_KEEPALIVE, 1}, {ZMQ_TCP_KEEPALIVE_IDLE, 10}, {ZMQ_TCP_KEEPALIVE_INTVL, 5}, {ZMQ_TCP_KEEPALIVE_CNT, 3},
    };
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (set_int(handle, options[i].option, options[i].value) < 0)
            return -1;
    if (rule->type == ZMQ_ROUTER && set_int(handle, ZMQ_ROUTER_MANDATORY, 1) < 0)
        return -1;
    if (set_reconnecting(handle, rule) < 0)
        return -1;
    if (zmq_setsockopt(handle, ZMQ_MAXMSGSIZE, &max_message, sizeof max_message) < 0)
        return -1;
    return zmq_setsockopt(handle, ZMQ_AFFINITY, &thread, sizeof thread);
}

/* Both ends must know each other's key; who may connect is then asked of net_zap.c, which
 * must be there already: without an answerer libzmq lets everybody in. */
static int set_keys(struct net_socket *socket)
{
    const struct net_keys *keys = socket->net->keys;
    const char *known;
    void *handle = socket->handle;
    if (!keys)
        return 0;
    if (zmq_setsockopt(handle, ZMQ_CURVE_SECRETKEY, net_keys_secret(keys), NET_KEY_TEXT) < 0)
        return -1;
    if (socket->rule->binds)
        return set_int(handle, ZMQ_CURVE_SERVER, 1) < 0 ||
               zmq_setsockopt(handle, ZMQ_ZAP_DOMAIN, socket->domain, strlen(socket->domain)) < 0 ? -1 : 0;
    if (!(known = net_keys_known(keys, socket->access.dials)))
        return errno = ENOKEY, -1;
    return zmq_setsockopt(handle, ZMQ_CURVE_PUBLICKEY, net_keys_public(keys), NET_KEY_TEXT) < 0 ||
           zmq_setsockopt(handle, ZMQ_CURVE_SERVERKEY, known, NET_KEY_TEXT) < 0 ? -1 : 0;
}

/* Replaces the endpoint by the one that libzmq has bound, with its real port. */
static int learn_endpoint(struct net_socket *socket)
{
    char bound[sizeof(struct why)];
    size_t size = sizeof bound;
    if (zmq_getsockopt(socket->handle, ZMQ_LAST_ENDPOINT, bound, &size) < 0)
        return -errno;
    char *endpoint = strdup(bound);
    if (!endpoint)
        return -ENOMEM;
    free(socket->endpoint);
    socket->endpoint = endpoint;
    return 0;
}

static int bind_socket(struct net_socket *socket)
{
    static const char localhost[] = "tcp://localhost:";
    char address[sizeof "tcp://127.0.0.1:65535"];
    const char *where = socket->endpoint;
    /* libzmq looks no names up when it binds, and this one needs no looking up. */
    if (strncmp(where, localhost, strlen(localhost)) == 0) {
        snprintf(address, sizeof address, "tcp://127.0.0.1:%s", where + strlen(localhost));
        where = address;
    }
    if (endpoint_in_use(where))
        return -EADDRINUSE;
    if (zmq_bind(socket->handle, where) < 0)
        return -errno;
    socket->bound = true;
    return learn_endpoint(socket);
}

static int attach(struct net_socket *socket)
{
    size_t size = sizeof socket->watch.fd;
    int r = 0;
    if (socket->rule->binds)
        r = bind_socket(socket);
    else if (!socket->rule->never_again)
        r = monitor_open(socket);
    if (r < 0)
        return r;
    if (!socket->rule->binds && zmq_connect(socket->handle, socket->endpoint) < 0)
        return -errno;
    if (zmq_getsockopt(socket->handle, ZMQ_FD, &socket->watch.fd, &size) < 0)
        return -errno;
    return loop_watch(socket->net->loop, &socket->watch, EPOLLIN);
}

/* 0 or -errno; then net_detach takes back what there is. */
static int make_handle(struct net_socket *socket)
{
    socket->handle = zmq_socket(socket->net->context, socket->rule->type);
    if (!socket->handle || set_options(socket) < 0 || set_keys(socket) < 0)
        return -errno;
    return attach(socket);
}

void net_detach(struct net_socket *socket)
{
    link_out(&socket->ready);
    link_out(&socket->starved);
    link_out(&socket->shut);
    /* libzmq's reaper closes the descriptor later. */
    loop_unwatch(socket->net->loop, &socket->watch);
    monitor_close(socket);
    if (socket->bound)
        endpoint_remove(socket->endpoint);
    socket->bound = false;
    if (socket->handle)
        zmq_close(socket->handle);
    socket->handle = NULL;
}

static void dial_anew(void *arg)
{
    struct net_socket *socket = arg;
    if (socket->up)
        return;
    net_detach(socket);
    if (make_handle(socket) < 0) {
        net_detach(socket);
        (void)loop_timer_set(socket->net->loop, &socket->redial, mono_add(mono_now(), NS_PER_S));
        return;
    }
    net_touch(socket);
}

static struct net_socket *socket_new(struct net *net, enum net_kind kind, const char *endpoint,
                                     const struct net_callbacks *callbacks)
{
    struct net_socket *self = calloc(1, sizeof *self);
    if (!self)
        return NULL;
    self->net = net;
    self->rule = &rules[kind];
    self->callbacks = *callbacks;
    self->up = !self->rule->tells_up;
    self->serial = ++net->next_serial;
    self->watch = (struct loop_watch){.fd = -1, .ready = net_descriptor_ready, .arg = self};
    self->redial = (struct loop_timer){.fire = dial_anew, .arg = self};
    link_init(&self->ready);
    link_init(&self->starved);
    link_init(&self->shut);
    link_last(&net->sockets, &self->all);
    self->endpoint = strdup(endpoint);
    return self;
}

struct net_socket *net_open_for(struct net *self, enum net_kind kind, const char *endpoint, const struct net_access *access,
                                const struct net_callbacks *callbacks, struct why *why)
{
    char word[400];
    BUG_IF(rules[kind].reads && !callbacks->message);
    if (net_endpoint_parse(endpoint, 0, word, sizeof word, why) < 0)
        return errno = EINVAL, NULL;
    size_t len = strlen(word);
    if (!rules[kind].binds && len > 2 && strcmp(word + len - 2, ":0") == 0)
        return errno = EINVAL, why_set(why, "%s: nothing listens on port 0; give the port to dial", endpoint), NULL;
    struct net_socket *socket = socket_new(self, kind, word, callbacks);
    if (!socket)
        return why_set(why, "%s: no memory for a socket", endpoint), errno = ENOMEM, NULL;
    socket->access = *access;
    if (!access->port)
        socket->access.port = "nobody";
    if (self->keys && rules[kind].binds)
        snprintf(socket->domain, sizeof socket->domain, "%.12s/%u", socket->access.port, socket->serial);
    int r = socket->endpoint ? make_handle(socket) : -ENOMEM;
    if (r < 0) {
        endpoint_refuse(word, -r, why);
        net_close(&socket);
        return errno = -r, NULL;
    }
    net_touch(socket);
    return socket;
}

struct net_socket *net_open(struct net *self, enum net_kind kind, const char *endpoint,
                            const struct net_callbacks *callbacks, struct why *why)
{
    return net_open_for(self, kind, endpoint, &(struct net_access){.dials = NET_ROLES}, callbacks, why);
}

void net_close(struct net_socket **socket_p)
{
    struct net_socket *socket = *socket_p;
    *socket_p = NULL;
    if (!socket || socket->closed)
        return;
    struct net *net = socket->net;
    socket->closed = true;
    socket->up = false;
    link_out(&socket->all);
    loop_timer_clear(net->loop, &socket->redial);
    net_detach(socket);
    link_last(&net->graveyard, &socket->all);
}

void net_linger(struct net_socket *socket, int64_t ns)
{
    int64_t ms = ns / NS_PER_MS;
    socket->linger_ms = ms < 0 ? 0 : ms > INT_MAX ? INT_MAX : (int)ms;
    if (socket->handle)
        set_int(socket->handle, ZMQ_LINGER, socket->linger_ms);
}
