/* The sink's side of the ledger: its connection, the registration of batches, and the recovery of what
 * is recorded. At every new connection each open batch is registered again (it is idempotent) and the
 * sink is asked what it has: nothing depends on a message that was under way when a connection broke. */
#include "ventilator/ledger_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int tell_sink(struct ledger *l, Wire__Downward *m)
{
    m->epoch = l->epoch;
    int rc = l->port.down(l->port.arg, l->sink_peer, m);
    if (rc < 0)
        sink_gone(l, "its connection closed");
    return rc;
}

void sink_fill_place(const struct ledger *l, Wire__SinkPlace *place, char **hosts, char **results, char **queries)
{
    static char empty[] = "";
    const Wire__SinkHello *h = l->sink_hello;
    if (h == NULL)
        return;
    place->hosts = hosts;
    if (h->advertise[0] != '\0')
        hosts[place->n_hosts++] = h->advertise;
    if (h->results_port != 0) {
        hosts[place->n_hosts++] = empty;
        if (l->sink_address[0] != '\0')
            hosts[place->n_hosts++] = (char *)(uintptr_t)l->sink_address;
    }
    place->results_port = h->results_port;
    place->query_port = h->query_port;
    if (h->results_endpoint[0] != '\0') {
        results[0] = h->results_endpoint;
        place->n_endpoints = 1;
        place->endpoints = results;
    }
    if (h->query_endpoint[0] != '\0') {
        queries[0] = h->query_endpoint;
        place->n_query_endpoints = 1;
        place->query_endpoints = queries;
    }
}

int sink_closing(struct ledger *l, Wire__Closing *closing)
{
    Wire__Result result = WIRE__RESULT__INIT;
    Wire__Downward m = WIRE__DOWNWARD__INIT;
    if (!l->sink_full) {
        result.what_case = WIRE__RESULT__WHAT_CLOSING;
        result.closing = closing;
        return l->port.closing(l->port.arg, &result);
    }
    /* It reads no results now, but has kept room for what ends. */
    m.what_case = WIRE__DOWNWARD__WHAT_CLOSING;
    m.closing = closing;
    return tell_sink(l, &m);
}

void sink_gone(struct ledger *l, const char *reason)
{
    if (!l->sink_present)
        return;
    l->sink_present = false;
    l->sink_full = false;
    due_clear(l, &l->sink_due);
    note(l, LOG_WARN, "sink_gone", "reason=\"%s\"", reason);
}

/* Nothing is sent to a sink that has nothing to do: that its connection closed is seen only by sending something. */
static int probe_sink(struct ledger *l)
{
    Wire__HeartbeatAnswer a = WIRE__HEARTBEAT_ANSWER__INIT;
    Wire__Downward m = WIRE__DOWNWARD__INIT;
    m.what_case = WIRE__DOWNWARD__WHAT_HEARTBEAT;
    m.heartbeat = &a;
    return tell_sink(l, &m);
}

static void sink_due(struct ledger *l, void *unused)
{
    (void)unused;
    int64_t silent = mono_since(l->now, l->sink_heard);
    if (silent >= l->config.silence)
        sink_gone(l, "silent");
    else if (silent < 2 * l->config.heartbeat || probe_sink(l) == 0)
        due_set(l, &l->sink_due, mono_min(mono_add(l->sink_heard, l->config.silence), mono_add(l->now, l->config.heartbeat)), sink_due, NULL);
}

int sink_forget(struct ledger *l, const uint8_t id[WIRE_ID])
{
    Wire__Forget f = WIRE__FORGET__INIT;
    f.batch = wire_id_bytes(id);
    Wire__Downward m = WIRE__DOWNWARD__INIT;
    m.what_case = WIRE__DOWNWARD__WHAT_FORGET;
    m.forget = &f;
    return tell_sink(l, &m);
}

/* ---- registration ---- */

static void send_register(struct ledger *l, struct batch *b)
{
    Wire__Number total = WIRE__NUMBER__INIT;
    Wire__Register r = WIRE__REGISTER__INIT;
    r.batch = wire_id_bytes(b->id);
    r.short_id = b->short_id;
    r.options = b->options;
    r.admitted = b->admitted;
    if (b->sealed && b->staged == b->admitted) {
        total.n = b->admitted;
        r.total = &total;
    }
    b->register_sent = true;
    Wire__Downward m = WIRE__DOWNWARD__INIT;
    m.what_case = WIRE__DOWNWARD__WHAT_REGISTER;
    m.register_ = &r;
    tell_sink(l, &m);
}

/* What a crash would make the journal forget must not stay behind in the sink. */
static bool must_register(const struct batch *b)
{
    return b->durable && !b->disowned && (!b->registered || (b->sealed && b->staged == b->admitted && !b->total_told));
}

static bool must_ask(const struct batch *b)
{
    return !b->disowned && (b->recovery == RECOVER_ASK || b->in_doubt);
}

void sink_register(struct ledger *l, struct batch *b)
{
    if (!l->sink_present || !l->epoch_committed || l->draining || b->complete || b->register_sent || !must_register(b))
        return;
    if (!b->resend.set)
        due_set(l, &b->resend, mono_add(l->now, RESEND_NS), resend_due, b);
    send_register(l, b);
}

void resend_due(struct ledger *l, void *owner)
{
    struct batch *b = owner;
    if (l->sink_present && must_register(b))
        send_register(l, b);
    if (l->sink_present && must_ask(b) && mono_since(l->now, b->asked_at) >= RESEND_NS)
        sink_ask(l, b);
    if (!b->disowned)
        closings_send(l, b, false);
    if ((must_register(b) || must_ask(b)) && !b->resend.set)
        due_set(l, &b->resend, mono_add(l->now, RESEND_NS), resend_due, b);
}

/* The sink has a tombstone of a batch that is open here: somebody purged it there, or the two folders don't belong together.
 * What it records of it is nothing, so there is no use in flying it, nor in asking again: people have to decide. */
static void disown(struct ledger *l, struct batch *b)
{
    if (!b->disowned)
        note(l, LOG_ERROR, "batch_disowned", "batch=%s open=%" PRIu64 " reason=\"the sink has purged it: start the sink with the folder that has"
             " its records\"", b->short_id, b->admitted - b->settled);
    b->disowned = true;
    b->registered = b->register_sent = b->in_doubt = false;
    batch_ready(l, b);
}

static void on_registered(struct ledger *l, const Wire__Registered *m)
{
    struct batch *b = batch_by_id(l, m->batch);
    if (b == NULL || b->complete)
        return;
    if (m->unknown) {
        disown(l, b);
        return;
    }
    bool first = !b->registered;
    b->registered = true;
    b->register_sent = false;
    if (m->total != NULL && b->sealed && m->total->n == b->admitted)
        b->total_told = true;
    if (first)
        closings_send(l, b, true);
    batch_moved(l, b);
}

/* ---- what is recorded ---- */

void sink_ask(struct ledger *l, struct batch *b)
{
    Wire__Ask a = WIRE__ASK__INIT;
    a.batch = wire_id_bytes(b->id);
    a.from = b->asked;
    b->asked_at = l->now;
    Wire__Downward m = WIRE__DOWNWARD__INIT;
    m.what_case = WIRE__DOWNWARD__WHAT_ASK;
    m.ask = &a;
    tell_sink(l, &m);
}

void sink_doubt(struct ledger *l, struct batch *b)
{
    if (b->disowned)
        return;
    b->doubt_again = b->asked > 0;
    if (b->in_doubt || b->asked > 0)
        return;
    b->in_doubt = true;
    sink_ask(l, b);
    if (!b->resend.set)
        due_set(l, &b->resend, mono_add(l->now, RESEND_NS), resend_due, b);
}

/* The runs of ones of a bitmap, as if they were spans. */
static void settle_bitmap(struct ledger *l, struct batch *b, uint64_t first, const uint8_t *bits, size_t len)
{
    uint64_t end = (uint64_t)len * 8, i = 0;
    while (i < end) {
        if (i % 8 == 0 && bits[i / 8] == 0) {
            i += 8;
            continue;
        }
        if ((bits[i / 8] >> (i % 8) & 1) == 0) {
            i++;
            continue;
        }
        uint64_t from = i;
        while (i < end && (bits[i / 8] >> (i % 8) & 1) != 0)
            i += i % 8 == 0 && bits[i / 8] == 0xFF ? 8 : 1;
        settle_span(l, b, first + from, i - from);
    }
}

/* The answer names all that is recorded, also what was taken out of the closings before. Else a second answer would take the
 * same tasks out again, and a closing that nobody has recorded would be given up. */
static void count_closings_anew(struct batch *b)
{
    struct closing *c;
    TAILQ_FOREACH(c, &b->closings, link) {
        b->in_closings += c->count - c->expected;
        c->expected = c->count;
    }
}

static void on_records(struct ledger *l, const Wire__BatchRecords *m, struct slice body)
{
    struct batch *b = batch_by_id(l, m->batch);
    if (b != NULL && !b->complete && !m->known && b->registered)
        disown(l, b);
    if (b == NULL || b->complete || !m->known || m->from != b->asked)
        return;
    if (b->asked == 0)
        count_closings_anew(b);
    if (m->bitmap)
        settle_bitmap(l, b, m->from, body.data, body.len);
    for (size_t i = 0; i < m->n_spans; i++)
        settle_span(l, b, m->spans[i]->first, m->spans[i]->count);
    for (size_t i = 0; i < m->n_attempts; i++)
        tries_on_record(l, b, m->attempts[i]->first, m->attempts[i]->count, m->attempts[i]->attempts);
    b->asked = m->more ? m->to : 0;
    b->partly_told = b->partly_told || m->more;
    if (m->more) {
        sink_ask(l, b);
        return;
    }
    if (b->doubt_again) {
        b->doubt_again = false;
        sink_ask(l, b);
        return;
    }
    b->in_doubt = b->partly_told = false;
    /* The sink's counts are the truth; what is recorded from here on is added to them. */
    b->settled = 0;
    for (size_t i = 0; i < WIRE_VERDICTS; i++) {
        b->counts[i] = i < m->n_counts ? m->counts[i] : 0;
        b->settled += b->counts[i];
    }
    b->by_deadline = m->by_deadline;
    b->duplicates = m->duplicates;
    struct closing *c, *next;
    TAILQ_FOREACH_SAFE(c, &b->closings, link, next)
        if (c->expected == 0 || c->recorded)
            drop_closing(b, c);
    if (b->recovery == RECOVER_ASK) {
        b->recovery = l->waiting_for_workers ? RECOVER_WORKERS : RECOVERED;
        cancels_recovered(l, b);
        close_unwanted(l, b);
        judge_lost(l, b);
        note(l, LOG_INFO, "batch_recovered", "batch=%s recorded=%" PRIu64 " queued=%" PRIu64 " in_flight=%" PRIu64, b->short_id,
             b->settled, batch_queued(b), b->in_flight);
    }
    batch_moved(l, b);
}

void workers_back(struct ledger *l)
{
    l->waiting_for_workers = false;
    due_clear(l, &l->workers_due);
    cancels_may_answer(l);
    struct batch *b, *next;
    TAILQ_FOREACH_SAFE(b, &l->open, open_link, next) {
        if (b->recovery != RECOVER_WORKERS)
            continue;
        b->recovery = RECOVERED;
        batch_moved(l, b);
    }
}

/* ---- hello ---- */

static void refuse_sink(struct ledger *l, ledger_peer peer, Wire__RefusedCode code, const char *sentence)
{
    note(l, LOG_ERROR, "sink_refused", "reason=\"%s\"", sentence);
    refuse_peer(l, peer, code, sentence);
}

static bool has_registered(const struct ledger *l)
{
    const struct batch *b;
    TAILQ_FOREACH(b, &l->open, open_link)
        if (b->registered || b->recovery != RECOVERED)
            return true;
    return false;
}

static bool sink_acceptable(struct ledger *l, ledger_peer peer, uint64_t session, const Wire__SinkHello *h)
{
    char sentence[300];
    bool same_store = l->sink_store_known && memcmp(l->sink_store, h->store.data, WIRE_ID) == 0;
    bool same_journal = h->journal.len == 0 || memcmp(h->journal.data, l->config.journal, WIRE_ID) == 0;
    if (h->major != WIRE_MAJOR) {
        snprintf(sentence, sizeof sentence, "this ventilator speaks protocol %u.%u and the sink's '%.60s' speaks %u.%u; use programs of one release",
                 WIRE_MAJOR, WIRE_MINOR, h->program, h->major, h->minor);
        refuse_sink(l, peer, WIRE__REFUSED_CODE__WRONG_VERSION, sentence);
    } else if (l->sink_present && session != l->sink_session && !same_store) {
        refuse_sink(l, peer, WIRE__REFUSED_CODE__REFUSED, "another sink is connected to this ventilator; it takes one");
    } else if (has_registered(l) && ((l->sink_store_known && !same_store) || !same_journal)) {
        refuse_sink(l, peer, WIRE__REFUSED_CODE__REFUSED, "this sink's store does not belong to the ventilator's journal, which has open batches; "
                    "start the sink with the data folder that has their records");
    } else {
        return true;
    }
    return false;
}

/* Workers that are here already would hear of it with their next heartbeat: results shall not wait for that. */
static void tell_workers(struct ledger *l)
{
    char *hosts[3], *results[1], *queries[1];
    Wire__SinkPlace place = WIRE__SINK_PLACE__INIT;
    Wire__HeartbeatAnswer answer = WIRE__HEARTBEAT_ANSWER__INIT;
    Wire__Downward m = WIRE__DOWNWARD__INIT;
    sink_fill_place(l, &place, hosts, results, queries);
    answer.sink = &place;
    m.epoch = l->epoch;
    m.what_case = WIRE__DOWNWARD__WHAT_HEARTBEAT;
    m.heartbeat = &answer;
    for (struct worker *w = l->by_session; w != NULL; w = w->hh.next)
        if (w->state != WORKER_AWAY && l->port.down(l->port.arg, w->peer, &m) == 0)
            w->place_told = l->sink_version;
}

static void on_hello(struct ledger *l, ledger_peer peer, const char *address, uint64_t session, const Wire__SinkHello *h)
{
    if (!sink_acceptable(l, peer, session, h))
        return;
    Wire__SinkHello *copy = (Wire__SinkHello *)wire_copy(&h->base);
    if (copy == NULL) {
        refuse_sink(l, peer, WIRE__REFUSED_CODE__NOT_NOW, "the ventilator has no memory for a sink now");
        return;
    }
    wire_free(&l->sink_hello);
    l->sink_hello = copy;
    l->sink_peer = peer;
    l->sink_session = session;
    l->sink_present = true;
    l->sink_heard = l->now;
    l->sink_version++;
    snprintf(l->sink_address, sizeof l->sink_address, "%s", address);
    if (!l->sink_store_known || memcmp(l->sink_store, h->store.data, WIRE_ID) != 0) {
        if (l->sink_store_known)
            note(l, LOG_WARN, "sink_other_store", "address=%s", address);    /* what is on record is in the folder of the one before */
        memcpy(l->sink_store, h->store.data, WIRE_ID);
        l->sink_store_known = true;
        state_journal(l);
    }
    Wire__SinkWelcome w = WIRE__SINK_WELCOME__INIT;
    w.major = WIRE_MAJOR;
    w.minor = WIRE_MINOR;
    w.program = l->program;
    w.journal = wire_id_bytes(l->config.journal);
    w.heartbeat_us = ns_to_us(l->config.heartbeat);
    Wire__Downward m = WIRE__DOWNWARD__INIT;
    m.what_case = WIRE__DOWNWARD__WHAT_SINK_WELCOME;
    m.sink_welcome = &w;
    if (tell_sink(l, &m) < 0)
        return;
    char *hosts[3], *results[1], *queries[1];
    Wire__SinkPlace place = WIRE__SINK_PLACE__INIT;
    sink_fill_place(l, &place, hosts, results, queries);
    l->port.sink_place(l->port.arg, &place);
    tell_workers(l);
    sink_due(l, NULL);
    note(l, LOG_INFO, "sink_hello", "address=%s results=%u query=%u", address, h->results_port, h->query_port);
    struct batch *b, *next;
    TAILQ_FOREACH_SAFE(b, &l->open, open_link, next) {
        if (!b->durable)
            continue;
        b->total_told = b->doubt_again = b->disowned = false;
        b->in_doubt = true;
        b->asked = 0;
        send_register(l, b);
        sink_ask(l, b);
        if (!b->resend.set)
            due_set(l, &b->resend, mono_add(l->now, RESEND_NS), resend_due, b);
    }
    purge_tell_again(l);
}

static void take_full(struct ledger *l, bool full)
{
    struct batch *b, *next;
    if (full == l->sink_full)
        return;
    note(l, full ? LOG_WARN : LOG_INFO, full ? "sink_full" : "sink_has_room", "open_batches=%" PRIu64, l->counts.open_batches);
    l->sink_full = full;
    /* What lies on the way that it doesn't read any more goes the other one. */
    if (full)
        TAILQ_FOREACH_SAFE(b, &l->open, open_link, next)
            closings_send(l, b, true);
}

static void on_heartbeat(struct ledger *l, const Wire__Heartbeat *h)
{
    take_full(l, h->full);
    if (h->queued == 0)
        l->sink_moved = l->now;
    Wire__HeartbeatAnswer a = WIRE__HEARTBEAT_ANSWER__INIT;
    a.number = h->number;
    Wire__Downward m = WIRE__DOWNWARD__INIT;
    m.what_case = WIRE__DOWNWARD__WHAT_HEARTBEAT;
    m.heartbeat = &a;
    tell_sink(l, &m);
}

void sink_upward(struct ledger *l, ledger_peer peer, const char *address, const Wire__Upward *m, struct slice body)
{
    if (m->what_case == WIRE__UPWARD__WHAT_SINK_HELLO) {
        on_hello(l, peer, address, m->session, m->sink_hello);
        return;
    }
    if (m->session != l->sink_session) {
        worker_say_hello(l, peer);
        return;
    }
    l->sink_heard = l->now;
    switch (m->what_case) {
    case WIRE__UPWARD__WHAT_HEARTBEAT:  on_heartbeat(l, m->heartbeat); break;
    case WIRE__UPWARD__WHAT_REGISTERED: on_registered(l, m->registered); break;
    case WIRE__UPWARD__WHAT_RECORDED:   on_recorded(l, m->recorded); break;
    case WIRE__UPWARD__WHAT_REFUSED:    on_refused_result(l, m->refused); break;
    case WIRE__UPWARD__WHAT_RECORDS:    on_records(l, m->records, body); break;
    case WIRE__UPWARD__WHAT_FORGOTTEN:  on_forgotten(l, m->forgotten); break;
    case WIRE__UPWARD__WHAT_GOODBYE:    sink_gone(l, "goodbye"); break;
    case WIRE__UPWARD__WHAT_FIGURES:    break;      /* of the control tower: nothing is decided by them */
    default:
        l->counts.stale_messages++;
    }
}

void ledger_sink_up(struct ledger *l, mono_t now, bool is_up)
{
    l->now = now;
    struct batch *b;
    if (is_up)
        TAILQ_FOREACH(b, &l->open, open_link)
            closings_send(l, b, true);
}
