/* ZeroMQ behind plain callbacks.
 *
 * How libzmq tells us things: each socket has a descriptor (ZMQ_FD) that is readable while commands
 * of the I/O threads wait for the socket. Any call on the socket takes them all, and may so make
 * it readable or writable without a further word. Hence one rule: whatever touched a socket marks
 * it ready, and the hook at the end of the turn serves what is ready: it reads until there is
 * nothing left (which takes the commands once more, so the mark is gone) or the socket's share of the turn is used up, and
 * then the socket stays ready. A mark made after our hook makes the loop go on with another turn.
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
#include <unistd.h>
#include <zmq.h>

#include "common/bug.h"
#include "common/log.h"
#include "common/net_inside.h"

#define TURN_MESSAGES 64                     /* of one socket in one turn … */
#define TURN_BYTES ((size_t)1 << 20)         /* … whichever comes first */
#define MONITORS 64                          /* sockets for them */
#define REREAD_NS NS_PER_S                   /* how often allow-lists are looked at */
#define SHARE_ABOVE 512                      /* longer bodies are sent without a copy */
#define ROUTING_ID_LEN 5                     /* libzmq's own: 0 and a number */

#if defined(__SANITIZE_THREAD__)
#define UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_TSAN 1
#endif
#endif
#ifdef UNDER_TSAN
/* libzmq (C++ is only in it, libsodium called by it) is not instrumented: its lock-free queues, by which messages and
 * their memory cross to its threads and back, are invisible to the sanitizer. */
const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void) { return "race:libzmq.so\nrace:libsodium.so\nrace:libstdc++.so\n"; }
#endif

/* ---- ready ---- */

static void mark_ready(struct net_socket *socket)
{
    if (socket->handle && link_alone(&socket->ready))
        link_last(&socket->net->ready[socket->rule->class], &socket->ready);
}

void net_touch(struct net_socket *socket)
{
    struct net *net = socket->net;
    mark_ready(socket);
    if (!net->in_turn)
        loop_go_on(net->loop);
}

void net_descriptor_ready(void *arg, uint32_t events)
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
    net_touch(socket);
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
    if (!socket->handle || (socket->rule->tells_up && !socket->up))
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
    net_touch(socket);    /* Sending took commands: what they changed is announced by nothing else. */
    if (r == 0) {
        net->counters.messages_out++;
        net->counters.bytes_out += len;
    }
    return r;
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
        size_t n = net_receive(socket->handle, parts, &bytes);
        bool interrupted = n == 0 && errno == EINTR;
        if (n > 0)
            net_hand_over(socket, parts, n, bytes);
        for (int j = 0; j < 4; j++)
            zmq_msg_close(&parts[j]);
        if (n == 0) {
            /* Finding nothing took all commands: what was sent meanwhile, as answers are, asks for no second look. */
            if (!interrupted)
                link_out(&socket->ready);
            return !interrupted;
        }
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

void net_tell_up(struct net_socket *socket, bool up)
{
    if (socket->up == up)
        return;
    socket->up = up;
    if (up)
        socket->refusal = NOT_REFUSED;    /* the monitor tells later */
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
            net_tell_up(socket, events & ZMQ_POLLOUT);
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
            net_tell_up(socket, events & ZMQ_POLLOUT);
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
    self->in_turn = true;
    bool more = self->zap && zap_turn(self->zap);
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

void net_pause(struct net_socket *socket, bool paused)
{
    socket->paused = paused;
    if (!paused)
        net_touch(socket);
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

bool net_has_keys(const struct net *self) { return self->keys; }

const struct net_counters *net_counters(const struct net *self) { return &self->counters; }

/* ---- keys ---- */

static void on_complaint(void *arg, const char *sentence)
{
    net_say_once(arg, "keys_unreadable", "", "", sentence);
}

/* Lanes of that key are shut, connections of it cut; what it sends meanwhile is dropped where it is received. */
static void on_revoked(void *arg, const struct net_identity *who)
{
    struct net *self = arg;
    log_event(LOG_WARN, "key_revoked", "role", net_role_name(who->role), "name", who->name, "key", who->key, NULL);
    lines_cut(self->lines, who);
    for (struct link *link = self->sockets.next, *next; link != &self->sockets; link = next) {
        struct net_socket *socket = OWNER(link, all);
        next = link->next;
        if (socket->access.only != who)
            continue;
        net_detach(socket);
        link_out(&socket->shut);
        link_last(&self->shut, &socket->shut);
    }
}

/* Whoever is told that a lane is down may close any other. */
static void tell_shut(struct net *self)
{
    while (!link_alone(&self->shut)) {
        struct net_socket *socket = OWNER(self->shut.next, shut);
        link_out(&socket->shut);
        net_tell_up(socket, false);
    }
}

static void reread(void *arg)
{
    struct net *self = arg;
    net_keys_reread(self->keys, on_revoked, on_complaint, self);
    tell_shut(self);
    if (loop_timer_set(self->loop, &self->reread, mono_add(loop_now(self->loop), REREAD_NS)) < 0)
        log_event(LOG_ERROR, "no_memory", "what", "to read the allow-lists again", NULL);
}

static int open_keys(struct net *self, struct why *why)
{
    if (!self->keys)
        return 0;
    if (!zmq_has("curve"))
        return why_set(why, "this libzmq was built without CURVE: install one that has it, or leave out --keys");
    self->reread = (struct loop_timer){.fire = reread, .arg = self};
    if (!(self->lines = lines_new()) || !(self->zap = zap_new(self)) ||
        (net_keys_listens(self->keys) && loop_timer_set(self->loop, &self->reread, mono_add(mono_now(), REREAD_NS)) < 0))
        return why_set(why, "no memory or no descriptors to answer for keys: %s", strerror(errno));
    return 0;
}

/* ---- the context ---- */

/* Monitors come on top: two for each socket that dials, and they are few; and the answerer. */
static int most_sockets(const struct net_config *config, int most)
{
    return config->max_sockets <= most - MONITORS ? config->max_sockets + MONITORS : most;
}

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
    if (zmq_ctx_set(self->context, ZMQ_IO_THREADS, 2) < 0 || zmq_ctx_set(self->context, ZMQ_MAX_SOCKETS, most_sockets(config, most)) < 0)
        return why_set(why, "ZeroMQ refuses two threads and %d sockets: %s", config->max_sockets, zmq_strerror(errno));
    return 0;
}

struct net *net_new(struct loop *loop, const struct net_config *config, struct why *why)
{
    struct net *self = calloc(1, sizeof *self);
    if (!self) {
        struct net_keys *keys = config->keys;
        net_keys_destroy(&keys);
        return why_set(why, "no memory for the network"), NULL;
    }
    self->loop = loop;
    self->max_message = config->max_message;
    self->keys = config->keys;
    link_init(&self->sockets);
    link_init(&self->shut);
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
    if (make_context(self, config, why) < 0 || open_keys(self, why) < 0) {
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
    zap_destroy(&self->zap);
    loop_timer_clear(self->loop, &self->reread);
    if (self->hooked)
        loop_remove_hook(self->loop, &self->hook);
    loop_unwatch(self->loop, &self->kick);
    /* Waits for the I/O threads: no callback of theirs comes after this. */
    while (self->context && zmq_ctx_term(self->context) < 0 && errno == EINTR)
        ;
    if (self->kick.fd >= 0)
        close(self->kick.fd);
    lines_destroy(&self->lines);
    net_keys_destroy(&self->keys);
    free(self);
    *self_p = NULL;
}
