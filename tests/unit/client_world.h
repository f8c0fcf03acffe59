/* What the tests of the client library share: a ventilator that follows a script, over real sockets in
 * this process, and what our callbacks were told. */
#ifndef TESTS_UNIT_CLIENT_WORLD_H
#define TESTS_UNIT_CLIENT_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tarmac/client.h"

#define BOUND (30 * NS_PER_S)
#define MAX_MESSAGE ((size_t)80 << 20)
#define CHUNKS 4u

static uint8_t batch_id[WIRE_ID] = "0123456789abcde";

/* ---- the world: one loop, the client's net, and theirs ---- */

struct world {
    struct loop *loop;
    struct net *ours, *theirs;
    struct loop_timer bound;
    char dir[32], clients[64], query[64];
    struct wire_arena *arena;
    struct wire_writer writer;
    bool late;

    /* The ventilator. */
    struct net_socket *ventilator;
    net_peer known;                      /* the connection that has said hello */
    int hellos, submits, lists, chunks, seals;
    int cancel_at;                       /* the batch is cancelled when this chunk comes */
    int leave_at;                        /* goes away, without a word, when so many chunks came; 0: never */
    bool admits_before_leaving, hold, refuses_once;
    uint64_t next_index, digest;
    Wire__State state;
    uint64_t most_outstanding;
    uint64_t held_id[64];
    size_t n_held;
    uint64_t seen_digest;                /* of the items themselves, as they came */
    uint64_t bytes, extras;

    /* The sink. */
    struct net_socket *sink;
    int subscriptions;
    uint64_t after, from_index, credit_given, end_at_credit;
    bool waits;                      /* the last subscription did, for an unknown batch */
    void (*serve)(struct world *w, net_peer peer, uint64_t id);

    /* What our callbacks were told. */
    struct client *client;
    struct submission *submission;
    struct items *items;
    struct stream *stream;
    int failures, replies, knowns, accepteds, endeds;
    enum client_end end;
    enum submission_end how;
    char sentence[1200];
    char tasks[4096];
    bool stream_over;
};

static inline void stop(struct world *w) { loop_stop(w->loop); }

static inline void too_late(void *arg)
{
    struct world *w = arg;
    w->late = true;
    stop(w);
}

static inline void run(struct world *w)
{
    loop_timer_set(w->loop, &w->bound, mono_add(mono_now(), BOUND));
    assert_int_equal(loop_run(w->loop), 0);
    loop_timer_clear(w->loop, &w->bound);
    assert_false(w->late);
}

/* ---- the ventilator ---- */

static inline void reply(struct world *w, net_peer peer, uint64_t id, Wire__Reply__WhatCase what, void *message)
{
    Wire__Reply m = WIRE__REPLY__INIT;
    m.id = id;
    m.what_case = what;
    m.welcome = message;    /* All cases are pointers in one place. */
    assert_int_equal(wire_write(&w->writer, &m.base), 0);
    net_send(w->ventilator, peer, w->writer.bytes, w->writer.len, (struct slice){0}, false);
}

static inline void admit(struct world *w, net_peer peer, uint64_t id)
{
    Wire__Admitted a = WIRE__ADMITTED__INIT;
    a.batch = wire_id_bytes(batch_id);
    a.next_index = w->next_index;
    a.state = w->state;
    reply(w, peer, id, WIRE__REPLY__WHAT_ADMITTED, &a);
}

static inline void refuse(struct world *w, net_peer peer, uint64_t id, Wire__RefusedCode code, const char *sentence)
{
    Wire__Refused r = WIRE__REFUSED__INIT;
    r.code = code;
    r.sentence = (char *)(uintptr_t)sentence;
    r.next_index = w->next_index;
    reply(w, peer, id, WIRE__REPLY__WHAT_REFUSED, &r);
}

static inline void take_items(struct world *w, const Wire__Chunk *c, struct slice body)
{
    const uint8_t *at = body.data;
    for (uint32_t i = 0; i < c->tasks->count; i++) {
        uint32_t len = wire_u32(c->tasks->lengths, c->tasks->n_lengths, i);
        w->seen_digest = wire_digest(w->seen_digest, at, len);
        at += len;
    }
    w->next_index += c->tasks->count;
    w->digest = c->digest_after;
    w->bytes += body.len;
    w->extras += c->tasks->n_extras;
    if (c->last)
        w->state = WIRE__STATE__SEALED;
}

static inline void open_ventilator(struct world *w);

static inline void take_chunk(struct world *w, net_peer peer, uint64_t id, const Wire__Chunk *c, struct slice body)
{
    w->chunks++;
    assert_int_equal(c->tasks->first / WIRE_BLOCK, (c->tasks->first + c->tasks->count - 1) / WIRE_BLOCK);
    assert_true(body.len <= WIRE_FRAME_BODY || c->tasks->count == 1);
    bool leaves = w->chunks == w->leave_at;
    if (w->chunks == w->cancel_at)
        w->state = WIRE__STATE__CANCELLING;
    if (c->tasks->first != w->next_index) {
        refuse(w, peer, id, WIRE__REFUSED_CODE__OUT_OF_ORDER, "not the next");
        return;
    }
    if (w->state == WIRE__STATE__OPEN && (!leaves || w->admits_before_leaving)) {
        assert_int_equal(c->digest_before, w->digest);
        take_items(w, c, body);
    }
    if (leaves) {
        net_close(&w->ventilator);
        w->known = 0;
        w->n_held = 0;
        open_ventilator(w);
        return;
    }
    /* Answers come when the window is full, or at the end: so nobody may wait for each of them. */
    w->held_id[w->n_held++] = id;
    assert_true(w->n_held <= CHUNKS);
    if (w->n_held > w->most_outstanding)
        w->most_outstanding = w->n_held;
    if (w->n_held < CHUNKS && !c->last && w->hold)
        return;
    for (size_t i = 0; i < w->n_held; i++)
        admit(w, peer, w->held_id[i]);
    w->n_held = 0;
}

static inline void take_submit(struct world *w, net_peer peer, uint64_t id)
{
    Wire__Submitted s = WIRE__SUBMITTED__INIT;
    w->submits++;
    s.batch = wire_id_bytes(batch_id);
    s.short_id = (char *)(uintptr_t)"b7k2";
    s.next_index = w->next_index;
    s.digest = w->digest;
    s.state = w->state;
    reply(w, peer, id, WIRE__REPLY__WHAT_SUBMITTED, &s);
}

static inline void take_hello(struct world *w, net_peer peer, uint64_t id)
{
    Wire__ClientWelcome welcome = WIRE__CLIENT_WELCOME__INIT;
    w->hellos++;
    w->known = peer;
    welcome.major = WIRE_MAJOR;
    welcome.max_payload = 1u << 20;
    welcome.window_chunks = CHUNKS;
    welcome.window_bytes = 1u << 20;
    reply(w, peer, id, WIRE__REPLY__WHAT_WELCOME, &welcome);
}

static inline void take_where(struct world *w, net_peer peer, uint64_t id)
{
    Wire__SinkPlace place = WIRE__SINK_PLACE__INIT;
    char nobody[80];
    char *endpoints[2] = {nobody, w->query};
    snprintf(nobody, sizeof nobody, "%s-nobody", w->query);
    place.n_query_endpoints = w->sink ? 2 : 0;
    place.query_endpoints = endpoints;
    reply(w, peer, id, WIRE__REPLY__WHAT_WHERE, &place);
}

static inline void on_request(void *arg, struct net_socket *socket, const struct net_message *message)
{
    struct world *w = arg;
    const Wire__Request *m;
    struct why why;
    Wire__SayHello say = WIRE__SAY_HELLO__INIT;
    Wire__ListReport list = WIRE__LIST_REPORT__INIT;
    (void)socket;
    if (wire_read_request(w->arena, message->head, message->head_len, message->body.len, &m, &why) < 0)
        fail_msg("%s", why.text);
    if (m->what_case == WIRE__REQUEST__WHAT_HELLO) {
        take_hello(w, message->peer, m->id);
    } else if (message->peer != w->known) {
        reply(w, message->peer, m->id, WIRE__REPLY__WHAT_SAY_HELLO, &say);
    } else if (m->what_case == WIRE__REQUEST__WHAT_SUBMIT && w->refuses_once) {
        w->refuses_once = false;
        refuse(w, message->peer, m->id, WIRE__REFUSED_CODE__NOT_NOW, "later");
    } else if (m->what_case == WIRE__REQUEST__WHAT_SUBMIT) {
        take_submit(w, message->peer, m->id);
    } else if (m->what_case == WIRE__REQUEST__WHAT_CHUNK) {
        take_chunk(w, message->peer, m->id, m->chunk, message->body);
    } else if (m->what_case == WIRE__REQUEST__WHAT_SEAL) {
        w->seals++;
        w->state = WIRE__STATE__SEALED;
        admit(w, message->peer, m->id);
    } else if (m->what_case == WIRE__REQUEST__WHAT_WHERE) {
        take_where(w, message->peer, m->id);
    } else if (++w->lists == 1 && w->leave_at == -1) {
        w->known = 0;    /* As after a restart that the connection outlived. */
        reply(w, message->peer, m->id, WIRE__REPLY__WHAT_SAY_HELLO, &say);
    } else {
        reply(w, message->peer, m->id, WIRE__REPLY__WHAT_LIST, &list);
    }
}

static inline void open_ventilator(struct world *w)
{
    struct net_callbacks callbacks = {.message = on_request, .arg = w};
    struct why why;
    w->ventilator = net_open(w->theirs, NET_ROUTER, w->clients, &callbacks, &why);
    if (!w->ventilator)
        fail_msg("%s", why.text);
}

/* ---- our side ---- */

static inline void on_failed(void *arg, enum client_end end, const char *sentence)
{
    struct world *w = arg;
    w->failures++;
    w->end = end;
    snprintf(w->sentence, sizeof w->sentence, "%s", sentence);
    stop(w);
}

static inline void on_reply(void *arg, const Wire__Reply *m)
{
    struct world *w = arg;
    assert_int_equal(m->what_case, WIRE__REPLY__WHAT_LIST);
    w->replies++;
    stop(w);
}

static inline void on_known(void *arg, const Wire__Submitted *s)
{
    struct world *w = arg;
    assert_string_equal(s->short_id, "b7k2");
    w->knowns++;
}

static inline void on_accepted(void *arg) { ((struct world *)arg)->accepteds++; }

static inline void on_ended(void *arg, enum submission_end how, enum client_end end, const char *sentence)
{
    struct world *w = arg;
    w->endeds++;
    w->how = how;
    on_failed(w, end, sentence);
    w->failures--;
}

static inline void connect_to(struct world *w, const char *endpoint, int64_t connect_timeout, int64_t reconnect_timeout)
{
    struct client_config config = {.ventilator = endpoint, .program = "test", .connect_timeout = connect_timeout,
                                   .reconnect_timeout = reconnect_timeout, .failed = on_failed, .arg = w};
    struct why why = {""};
    w->client = client_new(w->loop, w->ours, &config, &why);
    if (!w->client)
        fail_msg("%s", why.text);
}

static inline int enter(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    struct why why = {""};
    assert_non_null(w);
    snprintf(w->dir, sizeof w->dir, "/tmp/test_client.XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->clients, sizeof w->clients, "ipc://%s/c", w->dir);
    snprintf(w->query, sizeof w->query, "ipc://%s/q", w->dir);
    w->loop = loop_new();
    w->ours = net_new(w->loop, &(struct net_config){.max_sockets = 32, .max_message = MAX_MESSAGE}, &why);
    w->theirs = net_new(w->loop, &(struct net_config){.max_sockets = 32, .max_message = MAX_MESSAGE}, &why);
    w->arena = wire_arena_new();
    assert_true(w->loop && w->ours && w->theirs && w->arena);
    w->bound = (struct loop_timer){.fire = too_late, .arg = w};
    w->hold = true;
    open_ventilator(w);
    *state = w;
    return 0;
}

static inline int leave(void **state)
{
    struct world *w = *state;
    stream_destroy(&w->stream);
    submission_destroy(&w->submission);
    items_destroy(&w->items);
    client_destroy(&w->client);
    net_destroy(&w->ours);
    net_destroy(&w->theirs);
    wire_arena_destroy(&w->arena);
    wire_writer_release(&w->writer);
    loop_destroy(&w->loop);
    assert_int_equal(rmdir(w->dir), 0);
    free(w);
    return 0;
}

#endif
