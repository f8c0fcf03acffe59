/* ZeroMQ behind plain callbacks.
 *
 * How libzmq tells us things: each socket has a descriptor (ZMQ_FD) that is readable while commands
 * of the I/O threads wait for the socket. Any call on the socket takes them all, and may so make
 * it readable or writable without a further word. Hence one rule: whatever touched a socket marks
 * it ready, and the hook at the end of the turn serves what is ready: it reads until there is
 * nothing left (which takes the commands once more) or the socket's share of the turn is used up, and
 * then the socket stays ready. A mark made after our hook kicks an eventfd, so the loop comes back.
 *
 * The callbacks may close sockets. A closed socket is gone for libzmq at once; its memory is kept
 * until the hook has ended, when nothing can be looking at it. */
#include "common/net.h"

#include <czmq.h>
#undef LOG_INFO      /* czmq.h brings syslog.h along; these two are ours */
#undef LOG_DEBUG
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>
#include <zmq.h>

#include "common/bug.h"
#include "common/log.h"
#include "common/net_private.h"

#define TURN_MESSAGES 64                     /* of one socket in one turn … */
#define TURN_BYTES ((size_t)1 << 20)         /* … whichever comes first */
#define SHARE_ABOVE 512                      /* longer bodies are sent without a copy */
#define ADOPT_ABOVE 4096                     /* longer bodies are received without one: shorter ones could pin
                                              * an 8-KiB receive buffer of libzmq, and cost less to copy than a message does */
#define CONTROL_RCVHWM 64                    /* a peer that floods us waits in its own connection */
#define RESULTS_RCVHWM 4
#define ROUTING_ID_LEN 5                     /* libzmq's own: 0 and a number */
#define SCOLDED 64                           /* peers whose malformed messages were logged */

enum turn_class { CONTROL, LANES, RESULTS, N_CLASSES };

static const struct rule {
    int type;
    enum turn_class class;
    bool binds, reads, tells_up;
    bool bounded;          /* what is on its way is counted by us, since ZMQ_SNDHWM would make "full" look like "down" */
    bool never_again;      /* does not connect a second time */
    bool packs, unpacks;   /* sends, receives a message as one part: see net_parts.c */
    int rcvhwm;
} rules[] = {
    [NET_ROUTER]      = {.type = ZMQ_ROUTER, .class = CONTROL, .binds = true, .reads = true, .packs = true,
                         .rcvhwm = CONTROL_RCVHWM},
    [NET_DEALER]      = {.type = ZMQ_DEALER, .class = CONTROL, .reads = true, .unpacks = true, .tells_up = true,
                         .rcvhwm = CONTROL_RCVHWM},
    [NET_LANE_OUT]    = {.type = ZMQ_PUSH, .class = LANES, .binds = true, .tells_up = true},
    [NET_LANE_IN]     = {.type = ZMQ_PULL, .class = LANES, .reads = true, .never_again = true},
    [NET_RESULTS_OUT] = {.type = ZMQ_PUSH, .class = RESULTS, .tells_up = true, .bounded = true},
    [NET_RESULTS_IN]  = {.type = ZMQ_PULL, .class = RESULTS, .binds = true, .reads = true, .rcvhwm = RESULTS_RCVHWM},
};

struct net_socket {
    struct net *net;
    void *handle;
    const struct rule *rule;
    struct net_callbacks callbacks;
    struct loop_watch watch;
    struct link all;                         /* in net->sockets, or net->graveyard once closed */
    struct link ready;                       /* in net->ready[class] or the hook's own list */
    struct link starved;                     /* in net->starved: was told that there is no room */
    char *endpoint;
    uint32_t serial;
    bool bound, up, paused, closed;
    zmq_msg_t *head;                         /* of the message whose callback runs, or NULL */
};

struct net {
    struct loop *loop;
    void *context;
    size_t max_message;
    struct link sockets, graveyard, starved;
    struct link ready[N_CLASSES];
    struct loop_hook hook;
    struct loop_watch kick;
    bool hooked, in_turn, kicked;
    uint32_t next_serial;
    struct net_counters counters;
    uint64_t scolded[SCOLDED];               /* serial and peer */

    struct away away;                        /* of all RESULTS_OUT sockets together */
};

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifdef UNDER_TSAN
/* libzmq (and C++ is only in it) is not instrumented: its lock-free queues, by which messages and
 * their memory cross to its threads and back, are invisible to the sanitizer. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void) { return "race:libzmq.so\nrace:libstdc++.so\n"; }
#endif

/* ---- ready ---- */

#define OWNER(link_, member) ((struct net_socket *)(void *)((char *)(link_) - offsetof(struct net_socket, member)))

static void mark_ready(struct net_socket *socket)
{
    if (!socket->closed && link_alone(&socket->ready))
        link_last(&socket->net->ready[socket->rule->class], &socket->ready);
}

/* Marks it, from outside of our hook: which may have had its turn already. */
static void touch(struct net_socket *socket)
{
    struct net *net = socket->net;
    mark_ready(socket);
    if (net->in_turn || net->kicked)
        return;
    net->kicked = true;
    away_wake(&net->away);
}

static void descriptor_ready(void *arg, uint32_t events)
{
    (void)events;
    mark_ready(arg);    /* The hook comes later in this turn. */
}

static void kicked(void *arg, uint32_t events)
{
    struct net *self = arg;
    uint64_t times;
    (void)events;
    ssize_t n = read(self->kick.fd, &times, sizeof times);
    (void)n;
}

/* ---- what is on its way (RESULTS_OUT) ---- */

static int starve(struct net_socket *socket)
{
    struct net *net = socket->net;
    if (link_alone(&socket->starved))
        link_last(&net->starved, &socket->starved);
    /* The last of it may have gone before anybody could see that we wait: the hook looks again. */
    away_want_room(&net->away);
    touch(socket);
    return -EAGAIN;
}

static void tell_room(struct net *self)
{
    if (link_alone(&self->starved) || !away_want_room(&self->away))
        return;
    struct link list;
    link_all(&list, &self->starved);
    while (!link_alone(&list)) {
        struct net_socket *socket = OWNER(list.next, starved);
        link_out(&socket->starved);
        if (socket->up && socket->callbacks.room)
            socket->callbacks.room(socket->callbacks.arg, socket);
    }
}

/* ---- sending ---- */

static int copy_part(zmq_msg_t *part, const void *data, size_t len)
{
    if (zmq_msg_init_size(part, len) < 0)
        return -ENOMEM;
    if (len > 0)
        memcpy(zmq_msg_data(part), data, len);
    return 0;
}

/* On an I/O thread of libzmq. */
static void drop_buf(void *data, void *hint)
{
    struct buf *buf = hint;
    (void)data;
    buf_unref(&buf);
}

static int share_part(zmq_msg_t *part, struct slice body)
{
    if (zmq_msg_init_data(part, (void *)body.data, body.len, drop_buf, body.buf) < 0)
        return -ENOMEM;
    buf_ref(body.buf);
    return 0;
}

static int count_part(zmq_msg_t *part, struct away *away, struct slice bytes, size_t counted)
{
    struct note *note = note_new(away, bytes.buf && bytes.len > SHARE_ABOVE, bytes, counted);
    if (!note)
        return -ENOMEM;
    if (zmq_msg_init_data(part, note_bytes(note), bytes.len, note_done, note) == 0)
        return 0;
    note_done(NULL, note);
    return -ENOMEM;
}

static int pack_part(zmq_msg_t *part, const uint8_t *head, size_t head_len, struct slice body, bool with_body)
{
    size_t len = pack_len(head_len, body, with_body);
    if (len == 0 || zmq_msg_init_size(part, len) < 0)
        return -ENOMEM;
    pack_write(zmq_msg_data(part), head, head_len, body, with_body);
    return 0;
}

static int last_part(struct net_socket *socket, zmq_msg_t *part, struct slice bytes, size_t counted)
{
    if (socket->rule->bounded)
        return count_part(part, &socket->net->away, bytes, counted);
    if (bytes.buf && bytes.len > SHARE_ABOVE)
        return share_part(part, bytes);
    return copy_part(part, bytes.data, bytes.len);
}

/* All parts exist before the first is sent, so nothing but the connection can break off a message;
 * libzmq then takes back the parts that it has. */
static int send_parts(void *handle, zmq_msg_t *parts, size_t n)
{
    int r = 0;
    for (size_t i = 0; i < n; i++) {
        int flags = ZMQ_DONTWAIT | (i + 1 < n ? ZMQ_SNDMORE : 0);
        while (r == 0 && zmq_msg_send(&parts[i], handle, flags) < 0)
            if (errno != EINTR)
                r = -errno;
        if (r < 0)
            zmq_msg_close(&parts[i]);
    }
    return r;
}

int net_send(struct net_socket *socket, net_peer peer, const uint8_t *head, size_t head_len,
             struct slice body, bool with_body)
{
    struct net *net = socket->net;
    zmq_msg_t parts[2];
    size_t n = 0, len = head_len + (with_body ? body.len : 0);
    if (socket->closed || (socket->rule->tells_up && !socket->up))
        return -EAGAIN;
    if (socket->rule->bounded && !away_has_room(&net->away, len))
        return starve(socket);
    int r;
    if (socket->rule->packs) {
        uint8_t id[ROUTING_ID_LEN] = {0, (uint8_t)(peer >> 24), (uint8_t)(peer >> 16), (uint8_t)(peer >> 8), (uint8_t)peer};
        if ((r = copy_part(&parts[n], id, sizeof id)) == 0)
            n++;
        if (r == 0 && (r = pack_part(&parts[n], head, head_len, body, with_body)) == 0)
            n++;
    } else {
        struct slice last = with_body ? body : (struct slice){NULL, head, head_len};
        if ((r = with_body ? copy_part(&parts[n], head, head_len) : 0) == 0)
            n += with_body;
        if (r == 0 && (r = last_part(socket, &parts[n], last, len)) == 0)
            n++;
    }
    if (r < 0) {
        while (n > 0)
            zmq_msg_close(&parts[--n]);
        return r;
    }
    r = send_parts(socket->handle, parts, n);
    touch(socket);    /* Sending took commands: what they changed is announced by nothing else. */
    if (r == 0) {
        net->counters.messages_out++;
        net->counters.bytes_out += len;
    }
    return r;
}

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

static void hand_over(struct net_socket *socket, zmq_msg_t *parts, size_t n_parts, size_t bytes)
{
    size_t first = socket->rule->type == ZMQ_ROUTER, n = n_parts - first;
    struct net_message message = {0};
    bool known = !first || read_peer(&parts[0], &message.peer);
    socket->head = &parts[first];
    if (!known || !read_message(socket->rule, &parts[first], n, &message))
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
static size_t receive(void *handle, zmq_msg_t parts[4], size_t *ret_bytes)
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

/* Whether everything that had come was read. */
static bool drain(struct net_socket *socket)
{
    size_t used = 0;
    for (int i = 0; i < TURN_MESSAGES && used < TURN_BYTES; i++) {
        zmq_msg_t parts[4];
        size_t bytes = 0;
        for (int j = 0; j < 4; j++)
            zmq_msg_init(&parts[j]);
        size_t n = receive(socket->handle, parts, &bytes);
        bool interrupted = n == 0 && errno == EINTR;
        if (n > 0)
            hand_over(socket, parts, n, bytes);
        for (int j = 0; j < 4; j++)
            zmq_msg_close(&parts[j]);
        if (n == 0)
            return !interrupted;
        if (socket->closed || socket->paused)
            return true;
        used += bytes;
    }
    return false;
}

/* ---- serving ---- */

/* Takes the commands that wait, and tells what the socket is good for now; -1: ask again. */
static int look(struct net_socket *socket)
{
    int events = 0;
    size_t size = sizeof events;
    return zmq_getsockopt(socket->handle, ZMQ_EVENTS, &events, &size) < 0 ? -1 : events;
}

static void tell_up(struct net_socket *socket, bool up)
{
    if (socket->up == up)
        return;
    socket->up = up;
    if (socket->callbacks.up)
        socket->callbacks.up(socket->callbacks.arg, socket, up);
}

/* One turn of a socket: "it came up" before what it brought, "it is down" after it. */
static void serve(struct net_socket *socket)
{
    const struct rule *rule = socket->rule;
    bool read = rule->reads && !socket->paused;
    int events = 0;
    if (!read || (rule->tells_up && !socket->up)) {
        events = look(socket);
        if (events < 0) {
            mark_ready(socket);
            return;
        }
        if (rule->tells_up && (events & ZMQ_POLLOUT || !read))
            tell_up(socket, events & ZMQ_POLLOUT);
        if (socket->closed || !read)
            return;
    }
    bool drained = drain(socket);
    if (socket->closed)
        return;
    if (!drained)
        mark_ready(socket);
    else if (rule->tells_up) {
        events = look(socket);
        if (events < 0 || (events & ZMQ_POLLIN && !socket->paused))
            mark_ready(socket);
        else
            tell_up(socket, events & ZMQ_POLLOUT);
    }
}

static void socket_free(struct net_socket *socket)
{
    free(socket->endpoint);
    free(socket);
}

static void bury(struct net *self)
{
    while (!link_alone(&self->graveyard)) {
        struct net_socket *socket = OWNER(self->graveyard.next, all);
        link_out(&socket->all);
        socket_free(socket);
    }
}

static bool turn(void *arg)
{
    struct net *self = arg;
    bool more = false;
    self->in_turn = true;
    self->kicked = false;
    for (int class = 0; class < N_CLASSES; class++) {
        struct link list;
        link_all(&list, &self->ready[class]);
        while (!link_alone(&list)) {
            struct net_socket *socket = OWNER(list.next, ready);
            link_out(&socket->ready);
            serve(socket);
        }
    }
    tell_room(self);
    self->in_turn = false;
    bury(self);
    for (int class = 0; class < N_CLASSES; class++)
        more = more || !link_alone(&self->ready[class]);
    return more;
}

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
        {ZMQ_LINGER, 0}, {ZMQ_BACKLOG, 1024}, {ZMQ_SNDHWM, 0}, {ZMQ_RCVHWM, rule->rcvhwm},
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
    if (socket->rule->binds) {
        int r = bind_socket(socket);
        if (r < 0)
            return r;
    } else if (zmq_connect(socket->handle, socket->endpoint) < 0)
        return -errno;
    if (zmq_getsockopt(socket->handle, ZMQ_FD, &socket->watch.fd, &size) < 0)
        return -errno;
    return loop_watch(socket->net->loop, &socket->watch, EPOLLIN);
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
    self->watch = (struct loop_watch){.fd = -1, .ready = descriptor_ready, .arg = self};
    link_init(&self->ready);
    link_init(&self->starved);
    link_last(&net->sockets, &self->all);
    self->endpoint = strdup(endpoint);
    return self;
}

struct net_socket *net_open(struct net *self, enum net_kind kind, const char *endpoint,
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
    int r = socket->endpoint ? 0 : -ENOMEM;
    if (r == 0 && (socket->handle = zmq_socket(self->context, socket->rule->type)) == NULL)
        r = -errno;
    if (r == 0 && set_options(socket) < 0)
        r = -errno;
    if (r == 0)
        r = attach(socket);
    if (r < 0) {
        endpoint_refuse(word, -r, why);
        net_close(&socket);
        return errno = -r, NULL;
    }
    touch(socket);
    return socket;
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
    link_out(&socket->ready);
    link_out(&socket->starved);
    link_out(&socket->all);
    /* libzmq's reaper closes the descriptor later. */
    loop_unwatch(net->loop, &socket->watch);
    if (socket->bound)
        endpoint_remove(socket->endpoint);
    if (socket->handle)
        zmq_close(socket->handle);
    socket->handle = NULL;
    link_last(&net->graveyard, &socket->all);
}

void net_pause(struct net_socket *socket, bool paused)
{
    socket->paused = paused;
    if (!paused)
        touch(socket);
}

void net_linger(struct net_socket *socket, int64_t ns)
{
    int64_t ms = ns / NS_PER_MS;
    set_int(socket->handle, ZMQ_LINGER, ms < 0 ? 0 : ms > INT_MAX ? INT_MAX : (int)ms);
}

/* ---- asking ---- */

const char *net_endpoint(const struct net_socket *socket) { return socket->endpoint; }

unsigned net_port(const struct net_socket *socket) { return endpoint_port(socket->endpoint); }

bool net_is_up(const struct net_socket *socket) { return socket->up; }

const char *net_peer_address(const struct net_socket *socket)
{
    /* Of a local peer libzmq tells user, group and process, which is no address. */
    if (!socket->head || strncmp(socket->endpoint, "tcp://", strlen("tcp://")) != 0)
        return "";
    const char *address = zmq_msg_gets(socket->head, "Peer-Address");
    return address ? address : "";
}

const struct net_counters *net_counters(const struct net *self) { return &self->counters; }

/* ---- the context ---- */

static int make_context(struct net *self, const struct net_config *config, struct why *why)
{
    zsys_handler_set(NULL);    /* czmq would take SIGINT and SIGTERM for itself. */
    self->context = zmq_ctx_new();
    if (!self->context)
        return why_set(why, "no ZeroMQ context: %s", zmq_strerror(errno));
    int most = zmq_ctx_get(self->context, ZMQ_SOCKET_LIMIT);
    if (config->max_sockets < 1 || config->max_sockets > most)
        return why_set(why, "%d sockets can't be had, ZeroMQ allows 1 to %d: configure fewer", config->max_sockets, most);
    if (net_raise_descriptors(config->max_sockets, why) < 0)
        return -1;
    if (zmq_ctx_set(self->context, ZMQ_IO_THREADS, 2) < 0 || zmq_ctx_set(self->context, ZMQ_MAX_SOCKETS, config->max_sockets) < 0)
        return why_set(why, "ZeroMQ refuses two threads and %d sockets: %s", config->max_sockets, zmq_strerror(errno));
    return 0;
}

struct net *net_new(struct loop *loop, const struct net_config *config, struct why *why)
{
    struct net *self = calloc(1, sizeof *self);
    if (!self)
        return why_set(why, "no memory for the network"), NULL;
    self->loop = loop;
    self->max_message = config->max_message;
    link_init(&self->sockets);
    link_init(&self->graveyard);
    link_init(&self->starved);
    for (int class = 0; class < N_CLASSES; class++)
        link_init(&self->ready[class]);
    self->hook = (struct loop_hook){.turn = turn, .arg = self};
    self->kick = (struct loop_watch){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .ready = kicked, .arg = self};
    self->away.wake = self->kick.fd;
    if (self->kick.fd < 0 || loop_watch(loop, &self->kick, EPOLLIN) < 0) {
        why_set(why, "no event descriptor for the network: %s; raise the limit (ulimit -n)", strerror(errno));
        net_destroy(&self);
        return NULL;
    }
    if (make_context(self, config, why) < 0) {
        net_destroy(&self);
        return NULL;
    }
    loop_add_hook(loop, &self->hook);
    self->hooked = true;
    return self;
}

void net_destroy(struct net **self_p)
{
    struct net *self = *self_p;
    if (!self)
        return;
    BUG_IF(self->in_turn);
    while (!link_alone(&self->sockets)) {
        struct net_socket *socket = OWNER(self->sockets.next, all);
        net_close(&socket);
    }
    bury(self);
    if (self->hooked)
        loop_remove_hook(self->loop, &self->hook);
    loop_unwatch(self->loop, &self->kick);
    /* Waits for the I/O threads: no callback of theirs comes after this. */
    while (self->context && zmq_ctx_term(self->context) < 0 && errno == EINTR)
        ;
    if (self->kick.fd >= 0)
        close(self->kick.fd);
    free(self);
    *self_p = NULL;
}
