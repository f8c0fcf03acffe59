/* Messages as they arrive: parts of libzmq become heads and bodies, and what is none is dropped. */
#include "common/net.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>

#include "common/log.h"
#include "common/net_inside.h"

#define ADOPT_ABOVE 4096                     /* longer bodies are received without a copy: shorter ones could pin
                                              * an 8-KiB receive buffer of libzmq, and cost less to copy than a message does */
#define ROUTING_ID_LEN 5                     /* libzmq's own: 0 and a number */

/* ---- receiving ---- */

struct carrier { zmq_msg_t message; };

static void carrier_done(void *arg)
{
    struct carrier *carrier = arg;
    zmq_msg_close(&carrier->message);
    free(carrier);
}

/* A long part's bytes, in the memory in which they arrived. */
static struct buf *adopt(zmq_msg_t *part)
{
    struct carrier *carrier = malloc(sizeof *carrier);
    if (!carrier)
        return NULL;
    zmq_msg_init(&carrier->message);
    zmq_msg_move(&carrier->message, part);
    struct buf *buf = buf_wrap(zmq_msg_data(&carrier->message), zmq_msg_size(&carrier->message), carrier_done, carrier);
    if (!buf) {
        zmq_msg_move(part, &carrier->message);
        carrier_done(carrier);
    }
    return buf;
}

/* The bytes of a part from `from` on. */
static struct slice take_body(zmq_msg_t *part, size_t from)
{
    size_t len = zmq_msg_size(part) - from;
    if (len == 0)
        return (struct slice){0};
    const uint8_t *bytes = (const uint8_t *)zmq_msg_data(part) + from;
    if (len <= ADOPT_ABOVE) {
        struct buf *copy = buf_copy(bytes, len);
        if (copy)
            return slice_of(copy);
    } else {
        struct buf *whole = adopt(part);
        if (whole)
            return slice_cut(slice_of(whole), from, len);
    }
    /* Without memory the bytes are lent; whoever keeps them will find out. */
    return (struct slice){NULL, (const uint8_t *)zmq_msg_data(part) + from, len};
}

/* Once per peer, as long as it is among the last that were logged. */
static void scold(struct net_socket *socket, net_peer peer, size_t n_parts)
{
    struct net *net = socket->net;
    uint64_t who = (uint64_t)socket->serial << 32 | peer;
    uint64_t *slot = &net->scolded[(who ^ who >> 32) % SCOLDED];
    net->counters.malformed++;
    if (*slot == who)
        return;
    *slot = who;
    log_event(LOG_WARN, "message_malformed", "endpoint", socket->endpoint, "parts", log_u64(n_parts),
              "peer_address", net_peer_address(socket), NULL);
}

static bool read_peer(zmq_msg_t *part, net_peer *ret_peer)
{
    const uint8_t *id = zmq_msg_data(part);
    if (zmq_msg_size(part) != ROUTING_ID_LEN || id[0] != 0)
        return false;
    *ret_peer = (net_peer)id[1] << 24 | (net_peer)id[2] << 16 | (net_peer)id[3] << 8 | id[4];
    return true;
}

/* The reverse of pack_part. The part may be moved into the body: the head is read from where it is then. */
static bool unpack_message(zmq_msg_t *part, struct net_message *message)
{
    const uint8_t *bytes = zmq_msg_data(part);
    if (!pack_read(bytes, zmq_msg_size(part), &message->head_len, &message->has_body))
        return false;
    message->body = take_body(part, PACK_LEN + message->head_len);
    message->head = message->body.len > ADOPT_ABOVE ? message->body.data - message->head_len : bytes + PACK_LEN;
    return true;
}

static bool read_message(const struct rule *rule, zmq_msg_t *parts, size_t n, struct net_message *message)
{
    if (n < 1 || n > 2 || (rule->unpacks && n != 1))
        return false;
    if (rule->unpacks)
        return unpack_message(parts, message);
    message->head = zmq_msg_data(&parts[0]);
    message->head_len = zmq_msg_size(&parts[0]);
    message->has_body = n == 2;
    if (n == 2)
        message->body = take_body(&parts[1], 0);
    return true;
}

void net_hand_over(struct net_socket *socket, zmq_msg_t *parts, size_t n_parts, size_t bytes)
{
    size_t first = socket->rule->type == ZMQ_ROUTER, n = n_parts - first;
    struct net_message message = {0};
    bool known = !first || read_peer(&parts[0], &message.peer);
    socket->head = &parts[first];
    if (known && socket->net->keys && socket->rule->binds && !(message.who = lines_who(socket, &parts[first], message.peer)))
        ;
    else if (!known || !read_message(socket->rule, &parts[first], n, &message))
        scold(socket, message.peer, n);
    else {
        socket->net->counters.messages_in++;
        socket->net->counters.bytes_in += bytes;
        socket->callbacks.message(socket->callbacks.arg, socket, &message);
        buf_unref(&message.body.buf);
    }
    socket->head = NULL;
}

/* Reads one message; parts beyond the third are thrown away. The number of parts, 0 for nothing there. */
size_t net_receive(void *handle, zmq_msg_t parts[4], size_t *ret_bytes)
{
    size_t n = 0, bytes = 0;
    bool more = true;
    while (more) {
        zmq_msg_t *part = &parts[n < 3 ? n : 3];
        int r = zmq_msg_recv(part, handle, ZMQ_DONTWAIT);
        if (r < 0 && n > 0 && errno == EINTR)
            continue;    /* A message arrives whole: the rest of it is there. */
        if (r < 0)
            break;
        bytes += (size_t)r;
        more = zmq_msg_more(part);
        n++;
    }
    if (n > 0)
        *ret_bytes = bytes;
    return n;
}

