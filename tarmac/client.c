/* The connection to the ventilator. A request is kept, packed, until its reply came; after each
 * reconnect comes a hello, and after its welcome everything that is kept, in the order of asking. */
#include "tarmac/client.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/options.h"
#include "tarmac/client_private.h"

#define SEND_AGAIN (100 * NS_PER_MS)

struct outstanding {
    uint64_t id;
    struct buf *packed;
    struct slice body;
    bool with_body, unsent;
    enum client_again again;
    client_reply *reply;
    void *arg;
    struct outstanding *next, *previous;
};

/* ---- the list of what is outstanding ---- */

static void append(struct client *self, struct outstanding *o)
{
    o->previous = self->last;
    *(self->last ? &self->last->next : &self->first) = o;
    self->last = o;
}

static void drop(struct client *self, struct outstanding *o)
{
    *(o->previous ? &o->previous->next : &self->first) = o->next;
    *(o->next ? &o->next->previous : &self->last) = o->previous;
    buf_unref(&o->packed);
    slice_drop(&o->body);
    free(o);
}

static struct outstanding *find(const struct client *self, uint64_t id)
{
    struct outstanding *o = self->first;
    while (o && o->id != id)
        o = o->next;
    return o;
}

/* ---- patience ---- */

static void fail(struct client *self, enum client_end end, const char *sentence)
{
    if (self->failed)
        return;
    self->failed = true;
    loop_timer_clear(self->loop, &self->patience);
    loop_timer_clear(self->loop, &self->later);
    self->config.failed(self->config.arg, end, sentence);
}

static void out_of_patience(void *arg)
{
    struct client *self = arg;
    struct why why;
    char took[32];
    int64_t timeout = self->ever_welcomed ? self->config.reconnect_timeout : self->config.connect_timeout;
    format_duration(timeout, took);
    const char *refusal = net_refusal(self->socket);
    if (refusal[0] != '\0')
        why_set(&why, "the ventilator at %s will not have us: %s (tried for %s)", self->ventilator, refusal, took);
    else if (self->up)
        why_set(&why, "what listens at %s takes the connection and says nothing within %s; is it the clients' port of 'ventilator serve'?",
                self->ventilator, took);
    else if (self->ever_welcomed)
        why_set(&why, "the ventilator at %s went away and was not back within %s (--reconnect-timeout)", self->ventilator, took);
    else
        why_set(&why, "can't reach the ventilator at %s within %s; is 'ventilator serve' running there? (--ventilator, --connect-timeout)",
                self->ventilator, took);
    fail(self, CLIENT_UNREACHABLE, why.text);
}

static bool is_wanted(const struct client *self) { return self->first || self->wanted > 0; }

static void watch_patience(struct client *self)
{
    if (self->welcomed || self->failed || !is_wanted(self)) {
        loop_timer_clear(self->loop, &self->patience);
        return;
    }
    if (self->patience.place != 0)
        return;
    int64_t timeout = self->ever_welcomed ? self->config.reconnect_timeout : self->config.connect_timeout;
    /* It may have been away for long before anybody wanted it. */
    mono_t since = self->ever_welcomed ? mono_now() : self->away_since;
    if (loop_timer_set(self->loop, &self->patience, mono_add(since, timeout)) < 0)
        fail(self, CLIENT_UNREACHABLE, "there is no memory left");
}

void client_want(struct client *self, int by)
{
    self->wanted += by;
    watch_patience(self);
}

/* ---- sending ---- */

static size_t put_id(uint8_t *out, uint64_t id)
{
    size_t n = 0;
    out[n++] = 0x08;    /* Field 1, a varint: `id` of a Request. */
    for (; id >= 0x80; id >>= 7)
        out[n++] = (uint8_t)(id | 0x80);
    out[n++] = (uint8_t)id;
    return n;
}

static int send_frame(struct client *self, uint64_t id, const uint8_t *packed, size_t len, struct slice body, bool with_body)
{
    if (self->frame_room < len + 16) {
        uint8_t *frame = realloc(self->frame, 2 * len + 16);
        if (!frame)
            return -ENOMEM;
        self->frame = frame;
        self->frame_room = 2 * len + 16;
    }
    size_t n = put_id(self->frame, id);
    memcpy(self->frame + n, packed, len);
    return net_send(self->socket, 0, self->frame, n + len, body, with_body);
}

static void send_later(struct client *self)
{
    if (self->later.place == 0 && loop_timer_set(self->loop, &self->later, mono_add(mono_now(), SEND_AGAIN)) < 0)
        fail(self, CLIENT_UNREACHABLE, "there is no memory left");
}

/* What can't be sent because nobody is there is sent after the next welcome. What there is no memory for is tried again
 * soon, and what comes behind it waits, so that the order stays. */
static void send_one(struct client *self, struct outstanding *o)
{
    o->unsent = self->later.place != 0 ||
                send_frame(self, o->id, buf_bytes(o->packed), buf_len(o->packed), o->body, o->with_body) == -ENOMEM;
    if (o->unsent)
        send_later(self);
}

static void say_hello(struct client *self)
{
    Wire__ClientHello hello = WIRE__CLIENT_HELLO__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    hello.major = WIRE_MAJOR;
    hello.minor = WIRE_MINOR;
    hello.program = self->program;
    m.what_case = WIRE__REQUEST__WHAT_HELLO;
    m.hello = &hello;
    self->welcomed = false;
    self->hello_id = self->next_id++;
    if (wire_write(&self->writer, &m.base) < 0 ||
        send_frame(self, self->hello_id, self->writer.bytes, self->writer.len, (struct slice){0}, false) == -ENOMEM)
        send_later(self);
    watch_patience(self);
}

static void send_again(void *arg)
{
    struct client *self = arg;
    if (self->up && !self->welcomed)
        say_hello(self);
    for (struct outstanding *o = self->welcomed ? self->first : NULL; o; o = o->next)
        if (o->unsent)
            send_one(self, o);
}

uint64_t client_post(struct client *self, struct buf *packed, struct slice body, bool with_body, enum client_again again,
                     client_reply *reply, void *arg)
{
    struct outstanding *o = calloc(1, sizeof *o);
    if (!o || !packed) {
        free(o);
        return 0;
    }
    o->id = self->next_id++;
    o->packed = buf_ref(packed);
    o->body = slice_keep(body);
    if (body.len > 0 && o->body.len == 0) {
        buf_unref(&o->packed);
        free(o);
        return 0;
    }
    o->with_body = with_body;
    o->again = again;
    o->reply = reply;
    o->arg = arg;
    append(self, o);
    if (self->welcomed)
        send_one(self, o);
    watch_patience(self);
    return o->id;
}

uint64_t client_request(struct client *self, Wire__Request *request, client_reply *reply, void *arg)
{
    request->id = 0;
    struct buf *packed = wire_write_buf(&request->base);
    uint64_t id = client_post(self, packed, (struct slice){0}, false, CLIENT_AGAIN, reply, arg);
    buf_unref(&packed);
    return id;
}

void client_forget(struct client *self, uint64_t id)
{
    struct outstanding *o = id ? find(self, id) : NULL;
    if (o)
        drop(self, o);
    watch_patience(self);
}

bool client_is_up(const struct client *self) { return self->welcomed; }

/* ---- receiving ---- */

static void on_welcome(struct client *self, const Wire__ClientWelcome *welcome)
{
    struct outstanding *o, *next;
    self->welcomed = self->ever_welcomed = true;
    self->max_payload = welcome->max_payload ? welcome->max_payload : WIRE_PAYLOAD;
    self->window_chunks = welcome->window_chunks ? welcome->window_chunks : 1;
    self->window_bytes = welcome->window_bytes;
    watch_patience(self);
    loop_timer_clear(self->loop, &self->later);
    for (o = self->first; o; o = next) {
        next = o->next;
        if (o->again == CLIENT_ONCE)
            drop(self, o);
        else
            send_one(self, o);
    }
    for (struct client_listener *l = self->listeners, *after; l; l = after) {
        after = l->next;
        l->welcomed(l->arg);
    }
}

/* A reply to a hello, or to something that was sent before the ventilator knew us. */
static bool about_hello(struct client *self, const Wire__Reply *reply)
{
    bool mine = reply->id == self->hello_id && !self->welcomed;
    if (reply->what_case == WIRE__REPLY__WHAT_SAY_HELLO) {
        /* Each request of a connection that isn't known is answered so; one hello is enough. */
        if (self->welcomed)
            say_hello(self);
        return true;
    }
    if (mine && reply->what_case == WIRE__REPLY__WHAT_WELCOME)
        on_welcome(self, reply->welcome);
    if (mine && reply->what_case == WIRE__REPLY__WHAT_REFUSED)
        fail(self, CLIENT_REFUSED, reply->refused->sentence);
    return mine || reply->what_case == WIRE__REPLY__WHAT_WELCOME;
}

static void on_message(void *arg, struct net_socket *socket, const struct net_message *message)
{
    struct client *self = arg;
    struct why why, whole;
    const Wire__Reply *reply;
    (void)socket;
    if (self->failed)
        return;
    if (wire_read_reply(self->arena, message->head, message->head_len, message->body.len, &reply, &why) < 0) {
        if (wire_arena_starved(self->arena)) {
            fail(self, CLIENT_UNREACHABLE, "there is no memory left");
            return;
        }
        why_set(&whole, "the ventilator at %s has sent what breaks the protocol: %s", self->ventilator, why.text);
        fail(self, CLIENT_UNREACHABLE, whole.text);
        return;
    }
    if (about_hello(self, reply))
        return;
    struct outstanding *o = find(self, reply->id);
    if (!o)
        return;    /* Forgotten, or answered twice because it was asked twice. */
    client_reply *call = o->reply;
    void *call_arg = o->arg;
    drop(self, o);
    call(call_arg, reply);
}

static void on_up(void *arg, struct net_socket *socket, bool is_up)
{
    struct client *self = arg;
    (void)socket;
    self->up = is_up;
    self->welcomed = false;
    if (self->failed)
        return;
    if (is_up) {
        say_hello(self);
    } else {
        self->away_since = loop_now(self->loop);
        watch_patience(self);
    }
}

/* ---- all of it ---- */

struct client *client_new(struct loop *loop, struct net *net, const struct client_config *config, struct why *why)
{
    struct client *self = calloc(1, sizeof *self);
    struct net_callbacks callbacks = {.message = on_message, .up = on_up, .arg = self};
    const struct net_access access = {.dials = ROLE_VENTILATOR};
    if (!self)
        goto no_memory;
    self->loop = loop;
    self->net = net;
    self->config = *config;
    self->next_id = 1;
    self->away_since = mono_now();
    self->patience = (struct loop_timer){.fire = out_of_patience, .arg = self};
    self->later = (struct loop_timer){.fire = send_again, .arg = self};
    self->ventilator = strdup(config->ventilator);
    self->program = strdup(config->program);
    self->arena = wire_arena_new();
    if (!self->ventilator || !self->program || !self->arena)
        goto no_memory;
    self->socket = net_open_for(net, NET_DEALER, self->ventilator, &access, &callbacks, why);
    if (!self->socket)
        client_destroy(&self);
    return self;
no_memory:
    why_set(why, "there is no memory left");
    client_destroy(&self);
    return NULL;
}

void client_destroy(struct client **self_p)
{
    struct client *self = *self_p;
    if (!self)
        return;
    while (self->first)
        drop(self, self->first);
    loop_timer_clear(self->loop, &self->patience);
    loop_timer_clear(self->loop, &self->later);
    if (self->socket)
        net_close(&self->socket);
    wire_arena_destroy(&self->arena);
    wire_writer_release(&self->writer);
    free(self->frame);
    free(self->ventilator);
    free(self->program);
    free(self);
    *self_p = NULL;
}

void client_listen(struct client *self, struct client_listener *listener)
{
    listener->next = self->listeners;
    self->listeners = listener;
}

void client_unlisten(struct client *self, struct client_listener *listener)
{
    struct client_listener **at = &self->listeners;
    while (*at && *at != listener)
        at = &(*at)->next;
    if (*at)
        *at = listener->next;
}
