/* Why a connection that we dial doesn't come about though somebody is there: libzmq tells by a socket monitor only. Only
 * few sockets dial, and what is told is next to nothing: handshakes, not messages. The pipe between has no high-water
 * mark, so the I/O thread never waits for us.
 *
 * A connection whose handshake was refused libzmq gives up for good. So we dial anew, for keys are added while
 * everything runs. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <zmq.h>

#include "common/net_inside.h"

#define AGAIN_NS NS_PER_S
#define EVENTS (ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL | ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | \
                ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)

const char *net_refusal(const struct net_socket *socket)
{
    static const char *const sentences[] = {
        [NOT_REFUSED] = "",
        [WANTS_KEYS] = "it takes connections with keys only, and we have none: give --keys DIR, a folder that 'ventilator keygen' made",
        [HAS_NO_KEYS] = "it has no keys, and we have: start it with --keys as well, or leave out our --keys (TARMAC_KEYS)",
        [KEY_REFUSED] = "it has refused our key: the key isn't in its allow-list, or was revoked, or is of another role",
        [CUT_OFF] = "it ends the connection in the midst of the handshake: the public key that we have of it (known/ in --keys) may not be its own",
    };
    return sentences[socket->refusal];
}

static void set_refusal(struct net_socket *socket, enum refusal refusal)
{
    if (socket->refusal == refusal)
        return;
    socket->refusal = refusal;
    if (refusal != NOT_REFUSED && socket->callbacks.refused)
        socket->callbacks.refused(socket->callbacks.arg, socket, net_refusal(socket));
}

static void take_event(struct net_socket *socket, unsigned event, uint32_t value)
{
    bool keys = socket->net->keys;
    switch (event) {
    case ZMQ_EVENT_HANDSHAKE_SUCCEEDED:
        set_refusal(socket, NOT_REFUSED);
        return;
    case ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        /* It may just be leaving, and libzmq dials again by itself. */
        if (keys && socket->refusal == NOT_REFUSED)
            set_refusal(socket, CUT_OFF);
        return;
    case ZMQ_EVENT_HANDSHAKE_FAILED_AUTH:
        set_refusal(socket, KEY_REFUSED);
        break;
    case ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL:
        if (value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
            set_refusal(socket, keys ? HAS_NO_KEYS : WANTS_KEYS);
        else if (keys)
            set_refusal(socket, CUT_OFF);
        break;
    default:
        return;
    }
    if (!socket->closed && socket->redial.place == 0)
        (void)loop_timer_set(socket->net->loop, &socket->redial, mono_add(mono_now(), AGAIN_NS));
}

/* An event has two parts: 16 bits of what, 32 bits of value, both in our own byte order; and the address. */
static bool take_one(struct net_socket *socket)
{
    uint8_t bytes[6];
    uint16_t event;
    uint32_t value;
    char address[8];
    int n = zmq_recv(socket->monitor, bytes, sizeof bytes, ZMQ_DONTWAIT);
    if (n < 0)
        return errno == EINTR;
    while (zmq_recv(socket->monitor, address, sizeof address, ZMQ_DONTWAIT) < 0 && errno == EINTR)
        ;
    if (n != sizeof bytes)
        return true;
    memcpy(&event, bytes, sizeof event);
    memcpy(&value, bytes + sizeof event, sizeof value);
    take_event(socket, event, value);
    return true;
}

static void on_ready(void *arg, uint32_t events)
{
    struct net_socket *socket = arg;
    (void)events;
    /* The callback may close the socket. */
    while (socket->monitor && take_one(socket))
        ;
}

int monitor_open(struct net_socket *socket)
{
    char address[48];
    int zero = 0;
    size_t size = sizeof socket->monitor_watch.fd;
    snprintf(address, sizeof address, "inproc://monitor-%u", socket->serial);
    if (zmq_socket_monitor(socket->handle, address, EVENTS) < 0)
        return -errno;
    socket->monitor = zmq_socket(socket->net->context, ZMQ_PAIR);
    if (!socket->monitor || zmq_setsockopt(socket->monitor, ZMQ_RCVHWM, &zero, sizeof zero) < 0 ||
        zmq_setsockopt(socket->monitor, ZMQ_LINGER, &zero, sizeof zero) < 0 || zmq_connect(socket->monitor, address) < 0 ||
        zmq_getsockopt(socket->monitor, ZMQ_FD, &socket->monitor_watch.fd, &size) < 0) {
        int error = errno;
        monitor_close(socket);
        return -error;
    }
    socket->monitor_watch.ready = on_ready;
    socket->monitor_watch.arg = socket;
    /* Only a reader who has found nothing is woken by what comes. */
    while (take_one(socket))
        ;
    return loop_watch(socket->net->loop, &socket->monitor_watch, EPOLLIN);
}

void monitor_close(struct net_socket *socket)
{
    if (!socket->monitor)
        return;
    loop_unwatch(socket->net->loop, &socket->monitor_watch);
    zmq_socket_monitor(socket->handle, NULL, 0);
    zmq_close(socket->monitor);
    socket->monitor = NULL;
}
