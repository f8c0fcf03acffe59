/* What clients ask: hello, submissions chunk by chunk, seal, extend, drain. (Cancels: ledger_cancel.c;
 * purges: ledger_purge.c; reports: ledger_report.c.) */
#include "ventilator/ledger_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void reply_send(struct ledger *l, ledger_peer client, const Wire__Reply *m)
{
    if (l->port.reply(l->port.arg, client, m) == 0)
        return;
    struct client *c;
    HASH_FIND(hh, l->clients, &client, sizeof client, c);
    if (c != NULL) {
        HASH_DEL(l->clients, c);
        free(c);
    }
}

void reply_refused(struct ledger *l, ledger_peer client, uint64_t request, Wire__RefusedCode code, const char *sentence)
{
    Wire__Refused refused = WIRE__REFUSED__INIT;
    refused.code = code;
    refused.sentence = (char *)(uintptr_t)sentence;
    Wire__Reply m = WIRE__REPLY__INIT;
    m.id = request;
    m.what_case = WIRE__REPLY__WHAT_REFUSED;
    m.refused = &refused;
    l->counts.refused++;
    reply_send(l, client, &m);
}

Wire__State batch_state(const struct batch *b)
{
    if (b->complete)
        return WIRE__STATE__COMPLETE;
    if (b->cancelled)
        return WIRE__STATE__CANCELLING;
    return b->sealed ? WIRE__STATE__SEALED : WIRE__STATE__OPEN;
}

void reply_submitted(struct ledger *l, ledger_peer client, uint64_t request, struct batch *b)
{
    char text[WIRE_SENTENCE], *hosts[3], *results[1], *queries[1];
    batch_note(l, b, text, sizeof text);
    Wire__SinkPlace place = WIRE__SINK_PLACE__INIT;
    sink_fill_place(l, &place, hosts, results, queries);
    Wire__Submitted s = WIRE__SUBMITTED__INIT;
    s.batch = wire_id_bytes(b->id);
    s.short_id = b->short_id;
    s.next_index = b->staged;
    s.digest = b->digest;
    s.state = batch_state(b);
    s.sink = &place;
    s.note = text;
    s.traceparent = b->options->traceparent;
    s.age_us = batch_age_us(l, b);
    Wire__Reply m = WIRE__REPLY__INIT;
    m.id = request;
    m.what_case = WIRE__REPLY__WHAT_SUBMITTED;
    m.submitted = &s;
    reply_send(l, client, &m);
}

void reply_admitted(struct ledger *l, ledger_peer client, uint64_t request, struct batch *b)
{
    Wire__Admitted a = WIRE__ADMITTED__INIT;
    a.batch = wire_id_bytes(b->id);
    a.next_index = b->admitted;
    a.state = batch_state(b);
    Wire__Reply m = WIRE__REPLY__INIT;
    m.id = request;
    m.what_case = WIRE__REPLY__WHAT_ADMITTED;
    m.admitted = &a;
    reply_send(l, client, &m);
}

/* ---- hello ---- */

static void on_hello(struct ledger *l, ledger_peer peer, uint64_t request, const Wire__ClientHello *h)
{
    char sentence[200];
    if (h->major != WIRE_MAJOR) {
        snprintf(sentence, sizeof sentence, "this ventilator speaks protocol %u.%u and '%.60s' speaks %u.%u; use programs of one release",
                 WIRE_MAJOR, WIRE_MINOR, h->program, h->major, h->minor);
        note(l, LOG_WARN, "client_refused", "program=\"%.60s\" protocol=%u.%u", h->program, h->major, h->minor);
        reply_refused(l, peer, request, WIRE__REFUSED_CODE__WRONG_VERSION, sentence);
        return;
    }
    struct client *c;
    HASH_FIND(hh, l->clients, &peer, sizeof peer, c);
    if (c == NULL && (c = calloc(1, sizeof *c)) != NULL) {
        c->peer = peer;
        HASH_ADD(hh, l->clients, peer, sizeof c->peer, c);
    }
    if (c != NULL)
        c->heard = l->now;
    Wire__ClientWelcome w = WIRE__CLIENT_WELCOME__INIT;
    w.major = WIRE_MAJOR;
    w.minor = WIRE_MINOR;
    w.program = l->program;
    w.epoch = l->epoch;
    w.max_payload = l->config.max_payload;
    w.window_chunks = 64;
    w.window_bytes = 8u * 1024 * 1024;
    Wire__Reply m = WIRE__REPLY__INIT;
    m.id = request;
    m.what_case = WIRE__REPLY__WHAT_WELCOME;
    m.welcome = &w;
    reply_send(l, peer, &m);
}

static void say_hello(struct ledger *l, ledger_peer peer, uint64_t request)
{
    Wire__SayHello say = WIRE__SAY_HELLO__INIT;
    Wire__Reply m = WIRE__REPLY__INIT;
    m.id = request;
    m.what_case = WIRE__REPLY__WHAT_SAY_HELLO;
    m.say_hello = &say;
    reply_send(l, peer, &m);
}

/* ---- submission ---- */

void pend_for(struct ledger *l, enum pending_kind kind, uint64_t sequence, ledger_peer peer, uint64_t request, const struct batch *b)
{
    struct pending *p = pend(l, kind, sequence);
    p->client = peer;
    p->request = request;
    p->batch = b->number;
    p->upto = b->staged;
    p->seals = b->seal_staged;
}

/* A key stands in for the random submission id: its digest, so that both are found in one table. */
static void submission_of(const Wire__Submit *s, uint8_t out[WIRE_ID])
{
    if (s->key[0] == '\0') {
        memcpy(out, s->submission.data, WIRE_ID);
        return;
    }
    uint64_t d[2] = {wire_digest(1, s->key, strlen(s->key)), wire_digest(2, s->key, strlen(s->key))};
    memcpy(out, d, WIRE_ID);
}

/* Whether two submissions say the same of what is to be run; their items are compared by digest. */
static bool same_work(const Wire__Options *a, const Wire__Options *b)
{
    bool same = strcmp(a->handler, b->handler) == 0 && a->pipe == b->pipe && a->n_command == b->n_command;
    for (size_t i = 0; same && i < a->n_command; i++)
        same = strcmp(a->command[i], b->command[i]) == 0;
    if (!same || !a->range || !b->range)
        return same && !a->range == !b->range;
    return a->range->first == b->range->first && a->range->count == b->range->count && a->range->step == b->range->step;
}

/* The same key, or the same submission again. */
static void submit_again(struct ledger *l, ledger_peer peer, uint64_t request, const Wire__Submit *s, struct batch *b)
{
    char sentence[WIRE_SENTENCE];
    if (same_work(b->options, s->options)) {
        pend_for(l, PENDING_SUBMIT, batch_tally(l, b), peer, request, b);
        return;
    }
    snprintf(sentence, sizeof sentence, "--key %.200s: batch %s of this key has another handler, command or range; use another key for it",
             s->key, b->short_id);
    reply_refused(l, peer, request, WIRE__REFUSED_CODE__REFUSED, sentence);
}

static void unmake_batch(struct ledger *l, struct batch *b)
{
    nested_forget(b);
    want_give_back(l, b->want);
    wire_free(&b->options);
    free(b->key);
    free(b);
}

static int set_trace(struct ledger *l, struct batch *b)
{
    if (b->options->traceparent[0] != '\0')
        return 0;
    uint8_t ids[24];
    char text[56];
    l->port.random(l->port.arg, ids, sizeof ids);
    wire_traceparent_make(ids, ids + 16, text);
    char *copy = strdup(text);
    if (copy == NULL)
        return -1;
    b->options->traceparent = copy;         /* freed with the options: wire_copy allocates its strings one by one */
    return 0;
}

/* A batch that is not in any table yet. NULL: no memory. */
static struct batch *make_batch(struct ledger *l, const uint8_t id[WIRE_ID], const Wire__Submit *s)
{
    struct batch *b = batch_new(l, l->next_batch, id, s->options);
    if (b == NULL)
        return NULL;
    if ((s->key[0] == '\0' || (b->key = strdup(s->key)) != NULL) && set_trace(l, b) == 0)
        return b;
    unmake_batch(l, b);
    return NULL;
}

void request_submit(struct ledger *l, ledger_peer peer, uint64_t request, const Wire__Submit *s)
{
    uint8_t submission[WIRE_ID], id[WIRE_ID];
    char name[WIRE_NAME + 1], handler[WIRE_NAME + 1];
    struct batch *b;
    submission_of(s, submission);
    HASH_FIND(hh_submission, l->by_submission, submission, WIRE_ID, b);
    if (b != NULL && (s->key[0] == '\0' || (b->key != NULL && strcmp(b->key, s->key) == 0))) {
        submit_again(l, peer, request, s, b);
        return;
    }
    struct why why = {""};
    Wire__RefusedCode code = WIRE__REFUSED_CODE__REFUSED;
    if (b == NULL && purged_submission(l, submission, &code, &why)) {
        reply_refused(l, peer, request, code, why.text);
        return;
    }
    l->port.random(l->port.arg, id, sizeof id);
    b = make_batch(l, id, s);
    if (b == NULL) {
        reply_refused(l, peer, request, WIRE__REFUSED_CODE__NOT_NOW, "the ventilator has no memory for another batch now; try again later");
        return;
    }
    if (nested_begin(l, b, s->options, &code, &why) < 0) {
        reply_refused(l, peer, request, code, why.text);
        unmake_batch(l, b);
        return;
    }
    if (b->options->require_worker && !some_worker_can(l, b)) {
        char lack[WIRE_SENTENCE];
        lack_note(l, b, lack, sizeof lack);
        why_set(&why, "%s: nothing was submitted", lack);
        reply_refused(l, peer, request, WIRE__REFUSED_CODE__NO_WORKER, why.text);
        unmake_batch(l, b);
        return;
    }
    l->next_batch++;
    memcpy(b->submission, submission, WIRE_ID);
    batch_index(l, b);
    if (b->options->deadline != NULL)
        batch_set_deadline(l, b, mono_add(l->now, us_to_ns(b->options->deadline->us)));
    if (b->options->range != NULL) {
        b->staged = b->options->range->count;
        b->seal_staged = true;
    }
    batch_journal(l, b);
    pend_for(l, PENDING_SUBMIT, batch_tally(l, b), peer, request, b);
    note(l, LOG_INFO, "batch_new", "batch=%s name=\"%s\" handler=\"%s\" trace_id=%.32s", b->short_id, note_text(b->options->name, false, name),
         note_text(b->options->handler, false, handler), b->options->traceparent + 3);
}

static const char *chunk_refusal(struct ledger *l, const struct batch *b, const Wire__Chunk *c, Wire__RefusedCode *code)
{
    if (b->options->range != NULL) {
        *code = WIRE__REFUSED_CODE__BAD_REQUEST;
        return "this batch is a range: its tasks are made from its numbers, and no chunks are taken for it";
    }
    if (c->tasks->first != b->staged) {
        *code = WIRE__REFUSED_CODE__OUT_OF_ORDER;
        return "this chunk is not the next one of its batch; continue from next_index";
    }
    if (c->digest_before != b->digest) {
        *code = WIRE__REFUSED_CODE__DIFFERENT_INPUT;
        return "the items before this chunk are not those that were admitted under this key; use another --key for another input";
    }
    if (b->staged + c->tasks->count > WIRE_TASKS) {
        *code = WIRE__REFUSED_CODE__BAD_REQUEST;
        return "a batch has at most 4,000,000,000 tasks; submit the rest as another one";
    }
    for (size_t i = 0; i < c->tasks->n_lengths; i++)
        if (c->tasks->lengths[i] > l->config.max_payload) {
            *code = WIRE__REFUSED_CODE__BAD_REQUEST;
            return "a payload of this chunk is larger than this ventilator takes (max_payload of its welcome)";
        }
    return NULL;
}

static void on_chunk(struct ledger *l, ledger_peer peer, uint64_t request, const Wire__Chunk *c, struct slice body)
{
    struct batch *b = batch_by_id(l, c->batch);
    if (b == NULL) {
        reply_refused(l, peer, request, WIRE__REFUSED_CODE__UNKNOWN_BATCH, "this chunk's batch is not here; submit first");
        return;
    }
    if (b->complete || b->cancelled || b->seal_staged || c->tasks->first + c->tasks->count <= b->staged) {
        pend_for(l, PENDING_CHUNK, batch_tally(l, b), peer, request, b);    /* its state tells the client */
        return;
    }
    Wire__RefusedCode code = WIRE__REFUSED_CODE__REFUSED;
    const char *sentence = chunk_refusal(l, b, c, &code);
    if (sentence != NULL) {
        Wire__Refused refused = WIRE__REFUSED__INIT;
        refused.code = code;
        refused.sentence = (char *)(uintptr_t)sentence;
        refused.next_index = b->staged;
        Wire__Reply m = WIRE__REPLY__INIT;
        m.id = request;
        m.what_case = WIRE__REPLY__WHAT_REFUSED;
        m.refused = &refused;
        reply_send(l, peer, &m);
        return;
    }
    if (wire_write(&l->writer, &c->tasks->base) < 0)
        out_of_memory();
    struct ledger_frame frame = {.first = c->tasks->first, .count = c->tasks->count, .body = body,
                                 .head = {.data = l->writer.bytes, .len = l->writer.len}};
    l->port.append(l->port.arg, b->number, &frame);
    /* What will be dispatched soon stays in memory; a backlog doesn't. */
    if (l->supply_bytes < l->config.cache_bytes && (b->cursor == b->staged || supply_at(b, c->tasks->first - 1) != NULL))
        supply_add(l, b, c->tasks, body, l->now);
    b->staged += c->tasks->count;
    b->digest = c->digest_after;
    b->seal_staged = c->last;
    pend_for(l, PENDING_CHUNK, batch_tally(l, b), peer, request, b);
}

static struct batch *seal_target(struct ledger *l, const Wire__Seal *s, struct why *why)
{
    if (s->batch.len == 0)
        return batch_find(l, s->ref, why);
    struct batch *b = batch_by_id(l, s->batch);
    if (b == NULL)
        why_set(why, "the batch to seal is not here");
    return b;
}

static void on_seal(struct ledger *l, ledger_peer peer, uint64_t request, const Wire__Seal *s)
{
    struct why why = {""};
    struct batch *b = seal_target(l, s, &why);
    if (b == NULL) {
        reply_refused(l, peer, request, WIRE__REFUSED_CODE__UNKNOWN_BATCH, why.text);
        return;
    }
    b->seal_staged = true;
    pend_for(l, PENDING_SEAL, batch_tally(l, b), peer, request, b);
}

/* ---- what the journal has taken ---- */

static void batch_admitted(struct ledger *l, struct batch *b, const struct pending *p)
{
    b->durable = true;          /* its submission was staged before this, or is this */
    if (p->upto > b->admitted)
        b->admitted = p->upto;
    /* Its total is told to the sink, once for ever: not before the seal itself is on disk. */
    if (p->seals && b->admitted == b->staged && !b->sealed) {
        b->sealed = true;
        note(l, LOG_DEBUG, "batch_sealed", "batch=%s tasks=%" PRIu64, b->short_id, b->admitted);
    }
    /* What was on its way at the deadline goes with the rest; a cancel, whose turn comes after that, counts what it closes. */
    if (b->too_late && !b->cancelled)
        close_queued(l, b, WIRE__VERDICT__DEADLINE_EXCEEDED, WIRE__REASON__DEADLINE, NULL);
    batch_moved(l, b);
}

void request_committed(struct ledger *l, struct pending *p)
{
    struct batch *b = batch_by_number(l, p->batch);
    if (b == NULL)
        return;
    if (!b->complete)
        batch_admitted(l, b, p);
    switch (p->kind) {
    case PENDING_SUBMIT:
        reply_submitted(l, p->client, p->request, b);
        break;
    case PENDING_CANCEL:
        cancel_journaled(l, p->cancel);
        break;
    case PENDING_HALT:
        halt_journaled(l, b);
        break;
    case PENDING_EXTEND: {
        Wire__Extended e = WIRE__EXTENDED__INIT;
        e.deadline_left_us = ns_to_us(mono_since(b->deadline, l->now));
        e.short_id = b->short_id;
        Wire__Reply m = WIRE__REPLY__INIT;
        m.id = p->request;
        m.what_case = WIRE__REPLY__WHAT_EXTENDED;
        m.extended = &e;
        reply_send(l, p->client, &m);
        break;
    }
    case PENDING_CHUNK:         /* answered by requests_answer */
    case PENDING_SEAL:
    case PENDING_EPOCH:
    case PENDING_QUIET:
    case PENDING_PURGE:
        break;
    }
}

void requests_answer(struct ledger *l)
{
    struct pending *p;
    while ((p = TAILQ_FIRST(&l->unanswered)) != NULL) {
        TAILQ_REMOVE(&l->unanswered, p, link);
        struct batch *b = batch_by_number(l, p->batch);
        if (b != NULL)
            reply_admitted(l, p->client, p->request, b);
        free(p);
    }
}

/* ---- extend, drain ---- */

static void on_extend(struct ledger *l, ledger_peer peer, uint64_t request, const Wire__Extend *e)
{
    struct why why = {""};
    struct batch *b = batch_find(l, e->ref, &why);
    if (b == NULL) {
        reply_refused(l, peer, request, WIRE__REFUSED_CODE__UNKNOWN_BATCH, why.text);
        return;
    }
    if (b->complete || b->deadline_passed || b->cancelled) {
        reply_refused(l, peer, request, WIRE__REFUSED_CODE__REFUSED,
                      "this batch has ended or is ending, its deadline can't be moved any more; 'retry' makes a new batch of what did not end ok");
        return;
    }
    batch_set_deadline(l, b, mono_add(l->now, us_to_ns(e->deadline_us)));
    Wire__Micros left = WIRE__MICROS__INIT;
    left.us = e->deadline_us;
    Wire__MoveDeadline move = WIRE__MOVE_DEADLINE__INIT;
    move.batch = wire_id_bytes(b->id);
    move.deadline_left = &left;
    const struct announced *a;
    LIST_FOREACH(a, &b->announced, at_batch) {
        Wire__Lane m = WIRE__LANE__INIT;
        m.what_case = WIRE__LANE__WHAT_EXTEND;
        m.extend = &move;
        worker_lane(l, a->worker, &m, (struct slice){0}, false);
    }
    note(l, LOG_INFO, "batch_extended", "batch=%s deadline_left_ms=%" PRIu64, b->short_id, e->deadline_us / 1000);
    pend_for(l, PENDING_EXTEND, batch_journal(l, b), peer, request, b);
}

static void on_drain(struct ledger *l, ledger_peer peer, uint64_t request, const char *name)
{
    struct worker *w;
    HASH_FIND(hh_name, l->by_name, name, strlen(name), w);
    if (w == NULL) {
        char sentence[400];
        snprintf(sentence, sizeof sentence, "there is no worker '%s' here; 'ventilator workers' shows those that are", name);
        reply_refused(l, peer, request, WIRE__REFUSED_CODE__REFUSED, sentence);
        return;
    }
    w->draining = true;
    worker_room(l, w);
    worker_tell_drain(l, w);
    note(l, LOG_INFO, "worker_drain", "worker=%s held=%u", w->shown, w->held);
    Wire__Draining d = WIRE__DRAINING__INIT;
    d.worker = w->name;
    Wire__Reply answer = WIRE__REPLY__INIT;
    answer.id = request;
    answer.what_case = WIRE__REPLY__WHAT_DRAINING;
    answer.draining = &d;
    reply_send(l, peer, &answer);
}

static void on_where(struct ledger *l, ledger_peer peer, uint64_t request)
{
    char *hosts[3], *results[1], *queries[1];
    Wire__SinkPlace place = WIRE__SINK_PLACE__INIT;
    sink_fill_place(l, &place, hosts, results, queries);
    Wire__Reply m = WIRE__REPLY__INIT;
    m.id = request;
    m.what_case = WIRE__REPLY__WHAT_WHERE;
    m.where = &place;
    reply_send(l, peer, &m);
}

/* ---- all requests ---- */

static bool takes_in(const Wire__Request *m)
{
    return m->what_case == WIRE__REQUEST__WHAT_SUBMIT || m->what_case == WIRE__REQUEST__WHAT_CHUNK || m->what_case == WIRE__REQUEST__WHAT_RETRY;
}

void ledger_request(struct ledger *l, mono_t now, ledger_peer peer, const Wire__Request *m, struct slice body)
{
    l->now = now;
    if (m->what_case == WIRE__REQUEST__WHAT_HELLO) {
        on_hello(l, peer, m->id, m->hello);
        return;
    }
    struct client *c;
    HASH_FIND(hh, l->clients, &peer, sizeof peer, c);
    if (c == NULL) {
        say_hello(l, peer, m->id);
        return;
    }
    c->heard = now;
    if (l->draining && (takes_in(m) || m->what_case == WIRE__REQUEST__WHAT_PURGE)) {
        reply_refused(l, peer, m->id, WIRE__REFUSED_CODE__NOT_NOW, "the ventilator is leaving; try again when it is back");
        return;
    }
    /* What was taken in before has its room; endings must find theirs; and purges are what makes room. */
    if (l->full && takes_in(m)) {
        reply_refused(l, peer, m->id, WIRE__REFUSED_CODE__NOT_NOW, "the disk of the ventilator is full: nothing new is taken in until there is room");
        return;
    }
    switch (m->what_case) {
    case WIRE__REQUEST__WHAT_SUBMIT:  request_submit(l, peer, m->id, m->submit); break;
    case WIRE__REQUEST__WHAT_CHUNK:   on_chunk(l, peer, m->id, m->chunk, body); break;
    case WIRE__REQUEST__WHAT_SEAL:    on_seal(l, peer, m->id, m->seal); break;
    case WIRE__REQUEST__WHAT_STATUS:  reply_status(l, peer, m->id, m->status); break;
    case WIRE__REQUEST__WHAT_LIST:    reply_list(l, peer, m->id, m->list); break;
    case WIRE__REQUEST__WHAT_CANCEL:  cancel_begin(l, peer, m->id, m->cancel); break;
    case WIRE__REQUEST__WHAT_EXTEND:  on_extend(l, peer, m->id, m->extend); break;
    case WIRE__REQUEST__WHAT_WORKERS: reply_workers(l, peer, m->id, m->workers); break;
    case WIRE__REQUEST__WHAT_SLOWEST: reply_slowest(l, peer, m->id, m->slowest); break;
    case WIRE__REQUEST__WHAT_DRAIN:   on_drain(l, peer, m->id, m->drain->worker); break;
    case WIRE__REQUEST__WHAT_WHERE:   on_where(l, peer, m->id); break;
    case WIRE__REQUEST__WHAT_EXPLAIN: reply_explain(l, peer, m->id, m->explain); break;
    case WIRE__REQUEST__WHAT_RETRY:   request_retry(l, peer, m->id, m->retry); break;
    case WIRE__REQUEST__WHAT_PURGE:   purge_begin(l, peer, m->id, m->purge); break;
    default:
        reply_refused(l, peer, m->id, WIRE__REFUSED_CODE__BAD_REQUEST, "this ventilator does not know that request; use programs of one release");
    }
}
