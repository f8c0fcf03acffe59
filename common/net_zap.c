/* Who may connect: the answers to ZAP 1.0 (RFC 27), which libzmq asks at the end of each CURVE handshake with one of our
 * listeners. The I/O thread waits for us, so the answer comes from memory, in the next turn of the loop.
 *
 * czmq has an answerer of its own, zauth. It can't tell one port from another: whoever may submit could take tasks. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <zmq.h>

#include "common/net_inside.h"

#define ENDPOINT "inproc://zeromq.zap.01"
#define PARTS 8                  /* of a request with a 32-byte key: 7 */
#define TURN_REQUESTS 64

struct zap {
    struct net *net;
    void *handle;
    struct loop_watch watch;
    bool ready;
};

/* ---- requests ---- */

static bool is_text(const struct zap_part *part, const char *text)
{
    return part->len == strlen(text) && memcmp(part->bytes, text, part->len) == 0;
}

/* A short printable text; what comes from outside ends up in our log. */
static bool copy_text(const struct zap_part *part, char *out, size_t size)
{
    if (part->len >= size)
        return false;
    for (size_t i = 0; i < part->len; i++)
        if (part->bytes[i] < 0x20 || part->bytes[i] > 0x7e)
            return false;
    memcpy(out, part->bytes, part->len);
    out[part->len] = '\0';
    return true;
}

int zap_read(const struct zap_part *parts, size_t n, struct zap_request *ret, struct why *why)
{
    struct zap_request request = {.domain = ""};
    if (n < 6 || !is_text(&parts[0], "1.0"))
        return why_set(why, "it is no request of ZAP 1.0");
    if (parts[1].len > 255)
        return why_set(why, "the id of the request is too long");
    if (!copy_text(&parts[2], request.domain, sizeof request.domain))
        return why_set(why, "there is no such domain");
    if (!copy_text(&parts[3], request.address, sizeof request.address))
        return why_set(why, "the address can't be read");
    if (!is_text(&parts[5], "CURVE"))
        return why_set(why, "the mechanism is not CURVE");
    if (n != 7 || parts[6].len != 32)
        return why_set(why, "a key has 32 bytes");
    net_key_text(parts[6].bytes, request.key);
    *ret = request;
    return 0;
}

const struct net_identity *zap_judge(const struct net_keys *keys, const struct net_socket *socket,
                                     const struct zap_request *request, struct why *why)
{
    const struct net_identity *who;
    if (!socket) {
        why_set(why, "there is no such domain");
        return NULL;
    }
    who = net_keys_find(keys, socket->access.admits, request->key);
    if (who && socket->access.only && socket->access.only != who) {
        why_set(why, "this lane is that of another worker than %s", who->name);
        return NULL;
    }
    if (who)
        return who;
    who = net_keys_find(keys, ~0u, request->key);
    if (who)
        why_set(why, "the key of %s %s doesn't open this port", net_role_name(who->role), who->name);
    else
        why_set(why, "the key %s is not in the allow-list", request->key);
    return NULL;
}

/* ---- the socket ---- */

static const struct net_socket *socket_of(const struct net *net, const char *domain)
{
    for (const struct link *link = net->sockets.next; link != &net->sockets; link = link->next) {
        const struct net_socket *socket = OWNER(link, all);
        if (socket->domain[0] != '\0' && strcmp(socket->domain, domain) == 0)
            return socket;
    }
    return NULL;
}

static void reply(struct zap *self, const struct zap_part *id, const struct net_identity *who)
{
    char user[2 + NET_KEY_TEXT] = "";
    if (who)
        snprintf(user, sizeof user, "%c%s", 'a' + (int)who->role, who->key);
    const struct zap_part parts[] = {
        {(const uint8_t *)"1.0", 3}, *id, {(const uint8_t *)(who ? "200" : "400"), 3},
        {(const uint8_t *)(who ? "OK" : "refused"), who ? 2 : 7}, {(const uint8_t *)user, strlen(user)}, {(const uint8_t *)"", 0},
    };
    size_t n = sizeof parts / sizeof *parts;
    for (size_t i = 0; i < n; i++)
        while (zmq_send(self->handle, parts[i].bytes, parts[i].len, ZMQ_DONTWAIT | (i + 1 < n ? ZMQ_SNDMORE : 0)) < 0 && errno == EINTR)
            ;
}

static void answer(struct zap *self, const struct zap_part *parts, size_t n)
{
    static const struct zap_part nothing = {(const uint8_t *)"", 0};
    struct zap_request request;
    struct why why;
    const struct net_identity *who = NULL;
    const struct net_socket *socket = NULL;
    if (zap_read(parts, n, &request, &why) < 0) {
        net_say_once(self->net, "zap_malformed", "", "", why.text);
    } else {
        socket = socket_of(self->net, request.domain);
        who = zap_judge(self->net->keys, socket, &request, &why);
        if (!who)
            net_say_once(self->net, "peer_refused", request.address, socket ? socket->access.port : request.domain, why.text);
    }
    reply(self, n > 1 && parts[1].len <= 255 ? &parts[1] : &nothing, who);
}

/* The number of parts of the next request, 0: there is none. Those beyond PARTS are thrown away, and make it malformed. */
static size_t receive(struct zap *self, zmq_msg_t messages[PARTS])
{
    size_t n = 0;
    bool more = true;
    while (more) {
        zmq_msg_t *message = &messages[n < PARTS - 1 ? n : PARTS - 1];
        int r = zmq_msg_recv(message, self->handle, ZMQ_DONTWAIT);
        if (r < 0 && errno == EINTR && n > 0)
            continue;
        if (r < 0)
            return 0;
        more = zmq_msg_more(message);
        n += n < PARTS;
    }
    return n;
}

static bool serve_one(struct zap *self)
{
    zmq_msg_t messages[PARTS];
    struct zap_part parts[PARTS];
    for (int i = 0; i < PARTS; i++)
        zmq_msg_init(&messages[i]);
    size_t n = receive(self, messages);
    for (size_t i = 0; i < n; i++)
        parts[i] = (struct zap_part){zmq_msg_data(&messages[i]), zmq_msg_size(&messages[i])};
    if (n > 0)
        answer(self, parts, n);
    for (int i = 0; i < PARTS; i++)
        zmq_msg_close(&messages[i]);
    return n > 0;
}

bool zap_turn(struct zap *self)
{
    if (!self->ready)
        return false;
    for (int i = 0; i < TURN_REQUESTS; i++)
        if (!serve_one(self)) {
            /* Interrupted, there may be one all the same. */
            self->ready = errno == EINTR;
            return self->ready;
        }
    return true;
}

static void on_ready(void *arg, uint32_t events)
{
    (void)events;
    ((struct zap *)arg)->ready = true;    /* The hook comes later in this turn. */
}

struct zap *zap_new(struct net *net)
{
    struct zap *self = calloc(1, sizeof *self);
    int linger = 0, fd = -1;
    size_t size = sizeof fd;
    if (!self)
        return NULL;
    self->net = net;
    self->watch = (struct loop_watch){.fd = -1, .ready = on_ready, .arg = self};
    self->handle = zmq_socket(net->context, ZMQ_REP);
    if (!self->handle || zmq_setsockopt(self->handle, ZMQ_LINGER, &linger, sizeof linger) < 0 || zmq_bind(self->handle, ENDPOINT) < 0 ||
        zmq_getsockopt(self->handle, ZMQ_FD, &fd, &size) < 0)
        goto fail;
    self->watch.fd = fd;
    int r = loop_watch(net->loop, &self->watch, EPOLLIN);
    self->ready = true;
    if (r == 0)
        return self;
    errno = -r;
fail:
    zap_destroy(&self);
    return NULL;
}

void zap_destroy(struct zap **self_p)
{
    struct zap *self = *self_p;
    int error = errno;
    if (!self)
        return;
    loop_unwatch(self->net->loop, &self->watch);
    if (self->handle)
        zmq_close(self->handle);
    free(self);
    *self_p = NULL;
    errno = error;
}
