/* Workers: hello and what they hold, their lanes, what they report, and their loss.
 *
 * A worker is OPENING from its hello until it has confirmed its lane, then READY, and AWAY from the
 * moment when its lane breaks until it says hello again or the loss grace is over. One due per
 * worker: opening that takes too long, being away too long, or silence, by its state. */
#include "ventilator/ledger_private.h"
#include "ventilator/ledger_release.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void worker_due(struct ledger *l, void *owner);

struct worker *worker_by_session(struct ledger *l, uint64_t session)
{
    struct worker *w;
    HASH_FIND(hh, l->by_session, &session, sizeof session, w);
    return w;
}

struct worker *worker_by_peer(struct ledger *l, ledger_peer peer)
{
    struct worker *w;
    HASH_FIND(hh_peer, l->by_peer, &peer, sizeof peer, w);
    return w;
}

static void set_peer(struct ledger *l, struct worker *w, ledger_peer peer)
{
    struct worker *other;
    HASH_FIND(hh_peer, l->by_peer, &w->peer, sizeof w->peer, other);
    if (other == w)
        HASH_DELETE(hh_peer, l->by_peer, w);
    HASH_FIND(hh_peer, l->by_peer, &peer, sizeof peer, other);
    if (other != NULL)
        HASH_DELETE(hh_peer, l->by_peer, other);
    w->peer = peer;
    HASH_ADD(hh_peer, l->by_peer, peer, sizeof w->peer, w);
}

void worker_say_hello(struct ledger *l, ledger_peer peer)
{
    Wire__SayHello say = WIRE__SAY_HELLO__INIT;
    Wire__Downward m = WIRE__DOWNWARD__INIT;
    m.epoch = l->epoch;
    m.what_case = WIRE__DOWNWARD__WHAT_SAY_HELLO;
    m.say_hello = &say;
    l->port.down(l->port.arg, peer, &m);
}

void refuse_peer(struct ledger *l, ledger_peer peer, Wire__RefusedCode code, const char *sentence)
{
    Wire__Refused refused = WIRE__REFUSED__INIT;
    refused.code = code;
    refused.sentence = (char *)(uintptr_t)sentence;
    Wire__Downward m = WIRE__DOWNWARD__INIT;
    m.epoch = l->epoch;
    m.what_case = WIRE__DOWNWARD__WHAT_REFUSED;
    m.refused = &refused;
    l->counts.refused++;
    l->port.down(l->port.arg, peer, &m);
}

/* ---- lanes ---- */

void worker_lane(struct ledger *l, struct worker *w, Wire__Lane *m, struct slice body, bool with_body)
{
    if (!w->lane_up || !w->open_sent)
        return;             /* what matters is said again once the lane is confirmed */
    if (w->sequence == w->sequence_read)
        w->moved = l->now;          /* nothing was outstanding: it stands still from now on at the earliest */
    m->session = w->session;
    m->lane_epoch = w->lane;
    m->sequence = ++w->sequence;
    l->port.lane_send(l->port.arg, w->lane, m, body, with_body);
    release_look(l, w);
}

static void lane_forget(struct ledger *l, struct worker *w)
{
    if (w->lane != 0) {
        l->port.lane_close(l->port.arg, w->lane);
        HASH_DELETE(hh_lane, l->by_lane, w);
    }
    w->lane = w->sequence = w->sequence_read = 0;
    w->lane_up = w->open_sent = false;
    recall_over(l, w);
    release_forget(l, w);
    struct announced *a, *next;
    HASH_ITER(hh, w->announced, a, next) {
        HASH_DEL(w->announced, a);
        LIST_REMOVE(a, at_batch);
        free(a);
    }
}

static void go_away(struct ledger *l, struct worker *w, const char *reason)
{
    note(l, LOG_WARN, "worker_away", "worker=%s held=%u reason=\"%s\"", w->shown, w->held, reason);
    lane_forget(l, w);
    w->state = WORKER_AWAY;
    worker_room(l, w);
    due_set(l, &w->due, mono_add(l->now, l->config.loss_grace), worker_due, w);
}

/* What passes heartbeats and swallows payloads is, most of the time, a tunnel with smaller packets than it admits. */
static void lane_closed(struct ledger *l, struct worker *w)
{
    char reason[200] = "its lane closed";
    int64_t still = mono_since(l->now, w->moved);
    bool swallowed = w->sequence > w->sequence_read && still > l->config.silence / 2 && mono_since(l->now, w->heard) < 3 * l->config.heartbeat;
    if (swallowed)
        snprintf(reason, sizeof reason, "its lane closed: nothing on it arrived for %" PRId64 " s while its heartbeats did; do large packets (MTU) pass to %s?",
                 still / NS_PER_S, w->address[0] != '\0' ? w->address : "it");
    go_away(l, w, reason);
    w->swallows |= swallowed;
}

void ledger_lane(struct ledger *l, mono_t now, uint64_t lane, bool is_up)
{
    l->now = now;
    struct worker *w;
    HASH_FIND(hh_lane, l->by_lane, &lane, sizeof lane, w);
    if (w == NULL || w->lane_up == is_up)
        return;
    w->lane_up = is_up;
    if (!is_up) {
        lane_closed(l, w);
        return;
    }
    if (w->open_sent)
        return;
    Wire__Open open = WIRE__OPEN__INIT;
    Wire__Lane m = WIRE__LANE__INIT;
    m.what_case = WIRE__LANE__WHAT_OPEN;
    m.open = &open;
    w->open_sent = true;
    w->probe_sent = now;
    release_look(l, w);
    worker_lane(l, w, &m, (struct slice){0}, false);
}

/* ---- the end of a worker ---- */

void worker_free(struct ledger *l, struct worker *w)
{
    struct worker *other;
    struct flight *f, *next;
    w->state = WORKER_AWAY;
    TAILQ_FOREACH_SAFE(f, &w->flights, at_worker, next)
        flight_drop(l, f);
    worker_room(l, w);
    due_clear(l, &w->due);
    lane_forget(l, w);
    stakes_forget(l, w);
    crew_leave(l, w);
    HASH_DELETE(hh, l->by_session, w);
    HASH_DELETE(hh_name, l->by_name, w);
    HASH_FIND(hh_peer, l->by_peer, &w->peer, sizeof w->peer, other);
    if (other == w)
        HASH_DELETE(hh_peer, l->by_peer, w);
    l->n_slots -= w->slots;
    wire_free(&w->hello);
    free(w->releases);
    free(w->name);
    free(w);
}

static void worker_gone(struct ledger *l, struct worker *w, uint32_t losses, const char *reason)
{
    char key[300];
    note(l, losses > 0 ? LOG_WARN : LOG_INFO, losses > 0 ? "worker_lost" : "worker_left", "worker=%s held=%u reason=\"%s\"",
         w->shown, w->held, reason);
    l->counts.losses += losses;
    snprintf(key, sizeof key, "worker/%s", w->name);
    l->port.remove(l->port.arg, key);
    w->state = WORKER_AWAY;
    worker_unload(l, w, losses > 0);
    cancel_worker_gone(l, w);
    worker_free(l, w);
}

/* Until then its lane must be open at last. */
static mono_t given_up_at(const struct ledger *l, const struct worker *w)
{
    return mono_add(w->opening_since, l->config.silence + OPEN_NS);
}

/* Behind a local address there is no port that could be closed. */
static void lane_not_confirmed(struct ledger *l, struct worker *w)
{
    char reason[200] = "its lane was not confirmed within 2 s";
    if (w->lane_port != 0)
        snprintf(reason, sizeof reason, "its lane at port %u was not confirmed within 2 s; is that port (--lanes) open from %s?", w->lane_port,
                 w->address[0] != '\0' ? w->address : "there");
    go_away(l, w, reason);
}

static void worker_due(struct ledger *l, void *owner)
{
    struct worker *w = owner;
    if (w->state == WORKER_AWAY) {
        worker_gone(l, w, 1, "not back within the loss grace");
        return;
    }
    if (w->state == WORKER_OPENING) {
        ledger_peer peer = w->peer;
        /* It may say hello again and again where nothing passes from here: that keeps no task. */
        if (mono_reached(l->now, given_up_at(l, w))) {
            worker_gone(l, w, 1, "its lane can't be opened");
            return;
        }
        lane_not_confirmed(l, w);
        worker_say_hello(l, peer);
        return;
    }
    if (mono_since(l->now, w->heard) >= l->config.silence) {
        worker_gone(l, w, 1, "silent");
        return;
    }
    bool speaks = mono_since(l->now, w->heard) < 3 * l->config.heartbeat;
    bool stands_still = mono_since(l->now, w->moved) >= l->config.silence + line_ns(w->held_bytes);
    if (speaks && w->sequence > w->sequence_read && stands_still) {
        ledger_peer peer = w->peer;
        go_away(l, w, "its lane stands still while its control goes on");
        worker_say_hello(l, peer);
        return;
    }
    owed_judge(l, w);
    due_set(l, &w->due, mono_add(l->now, l->config.heartbeat), worker_due, w);
}

/* ---- hello: what it holds is adopted, what it doesn't is queued ---- */

struct dropped {
    Wire__Fence *fences;
    size_t n, room;
};

static void drop_holding(struct dropped *d, const Wire__Fence *fence, uint64_t first, uint64_t count)
{
    Wire__Fence *last = d->n > 0 ? &d->fences[d->n - 1] : NULL;
    if (last != NULL && last->batch.data == fence->batch.data && last->epoch == fence->epoch && last->attempt == fence->attempt
        && last->first + last->count == first) {
        last->count += (uint32_t)count;     /* of one holding: that lies within a block */
        return;
    }
    if (d->n >= d->room || count == 0)
        return;             /* bounded: what is not told stays held, and its results are recorded as duplicates */
    d->fences[d->n] = *fence;
    d->fences[d->n].first = first;
    d->fences[d->n++].count = (uint32_t)count;
}

static void adopt_holding(struct ledger *l, struct worker *w, const Wire__Holding *holding, struct dropped *d)
{
    const Wire__Fence *fence = holding->fence;
    struct batch *b = batch_by_id(l, fence->batch);
    uint64_t at = fence->first, end = fence->first + fence->count;
    if (b == NULL || b->complete || end > b->admitted) {
        drop_holding(d, fence, at, end - at);
        return;
    }
    while (at < end) {
        struct past past;
        uint64_t n = queued_run(b, at, end - at, &past);
        struct flight *f = n == 0 ? flight_at(b, at) : NULL;
        /* What was cancelled meanwhile, or is too late, must not start: the new lease comes with the welcome, the lane's cancel after it;
         * and a worker that stood still reads how much time was left when it was assigned. */
        bool none = b->cancelled || b->too_late || mono_reached(l->now, b->deadline);
        bool unwanted = n > 0 && holding->state == WIRE__HOLDING_STATE__QUEUED && (none || batch_task_cancelled(b, at));
        if (unwanted) {
            n = none ? n : 1;
            drop_holding(d, fence, at, n);
        } else if (n > 0 && fence->attempt >= past.attempts) {
            n = b->n_cancelled_tasks > 0 && holding->state == WIRE__HOLDING_STATE__QUEUED ? 1 : n;
            take_queued(l, b, at, n);
            past.attempts = fence->attempt;
            past_undo(l, &past, w->session);
            f = put_flight(l, b, w, at, (uint32_t)n, fence->epoch, past, 0);
            BUG_IF_NO_MEMORY(f);
            if (holding->state == WIRE__HOLDING_STATE__ENDED)
                flight_end(l, f, at, (uint32_t)n);
            else if (holding->state == WIRE__HOLDING_STATE__RUNNING)
                bits_fill(f->started, 0, (uint32_t)n);
        } else {
            /* It was given up: its result is welcome if it has one; another attempt of it may be under way. */
            bool settled = n == 0 && (f == NULL || bit_get(f->done, (uint32_t)(at - f->first)));
            n = n > 0 ? n : 1;
            if (settled || holding->state != WIRE__HOLDING_STATE__ENDED)
                drop_holding(d, fence, at, n);
        }
        at += n;
    }
}

static void adopt(struct ledger *l, struct worker *w, const Wire__WorkerHello *h, struct dropped *d)
{
    struct flight *f, *next;
    struct touched touched;
    touch_begin(l, &touched);
    TAILQ_FOREACH_SAFE(f, &w->flights, at_worker, next) {
        uint64_t at = f->first;
        uint32_t n;
        struct { uint64_t first; uint32_t count; } run;
        struct batch *owner = f->batch;
        struct past past = f->past;
        while ((n = flight_open_run(f, &at)) > 0) {
            run.first = at;
            run.count = n;
            at += n;
            flight_settle(f, run.first, run.count);
            put_hole(l, owner, run.first, run.count, past);
        }
        touch(&touched, owner);
        flight_drop(l, f);
    }
    bool ours = h->ventilator.len == 0 || memcmp(h->ventilator.data, l->config.journal, WIRE_ID) == 0;
    for (size_t i = 0; i < h->n_holdings; i++) {
        struct batch *b = batch_by_id(l, h->holdings[i]->fence->batch);
        if (b != NULL)
            touch(&touched, b);
        if (ours)
            adopt_holding(l, w, h->holdings[i], d);
        else
            drop_holding(d, h->holdings[i]->fence, h->holdings[i]->fence->first, h->holdings[i]->fence->count);
    }
    for (struct batch *b = touched.first; b != NULL; b = b->next_touched) {
        close_unwanted(l, b);
        batch_moved(l, b);
    }
}

static void welcome(struct ledger *l, struct worker *w, const char *endpoint, const struct dropped *d)
{
    char *hosts[3], *results[1], *queries[1];
    Wire__SinkPlace place = WIRE__SINK_PLACE__INIT;
    sink_fill_place(l, &place, hosts, results, queries);
    Wire__Welcome h = WIRE__WELCOME__INIT;
    h.major = WIRE_MAJOR;
    h.minor = WIRE_MINOR;
    h.program = l->program;
    h.ventilator = wire_id_bytes(l->config.journal);
    h.lane_port = w->lane_port;
    h.lane_endpoint = (char *)(uintptr_t)endpoint;
    h.lane_epoch = w->lane;
    h.heartbeat_us = ns_to_us(l->config.heartbeat);
    h.lease_us = ns_to_us(lease_ns(l));
    h.silence_us = ns_to_us(l->config.silence);
    h.result_credit = l->config.result_credit;
    h.sink = &place;
    Wire__Fence *fences[WIRE_FENCES];
    for (size_t i = 0; i < d->n; i++)
        fences[i] = &d->fences[i];
    h.n_dropped = d->n;
    h.dropped = fences;
    Wire__Downward m = WIRE__DOWNWARD__INIT;
    m.epoch = l->epoch;
    m.what_case = WIRE__DOWNWARD__WHAT_WELCOME;
    m.welcome = &h;
    w->place_told = l->sink_version;
    w->leased = l->now;
    l->port.down(l->port.arg, w->peer, &m);
}

static struct worker *worker_new(struct ledger *l, uint64_t session, const char *name)
{
    struct worker *w = calloc(1, sizeof *w);
    char *copy = strdup(name);
    if (w == NULL || copy == NULL) {
        free(w);
        free(copy);
        return NULL;
    }
    w->name = copy;
    note_text(name, true, w->shown);
    w->session = session;
    w->number = l->next_worker++;
    w->owed_since = MONO_NEVER;
    w->opening_since = MONO_NEVER;
    TAILQ_INIT(&w->flights);
    HASH_ADD(hh, l->by_session, session, sizeof w->session, w);
    HASH_ADD_KEYPTR(hh_name, l->by_name, w->name, strlen(w->name), w);
    return w;
}

static bool is_alive(const struct ledger *l, const struct worker *w)
{
    return w->state == WORKER_READY && w->lane_up && mono_since(l->now, w->heard) < 3 * l->config.heartbeat;
}

/* Finds or makes the worker of a hello; NULL: refused. */
static struct worker *hello_worker(struct ledger *l, ledger_peer peer, uint64_t session, const Wire__WorkerHello *h)
{
    char sentence[WIRE_SENTENCE], shown[WIRE_NAME + 1];
    if (h->major != WIRE_MAJOR) {
        snprintf(sentence, sizeof sentence, "this ventilator speaks protocol %u.%u and the worker's '%.60s' speaks %u.%u; use programs of one release",
                 WIRE_MAJOR, WIRE_MINOR, h->program, h->major, h->minor);
        note(l, LOG_WARN, "worker_refused", "worker=%s protocol=%u.%u", note_text(h->name, true, shown), h->major, h->minor);
        refuse_peer(l, peer, WIRE__REFUSED_CODE__WRONG_VERSION, sentence);
        return NULL;
    }
    struct worker *w = worker_by_session(l, session), *named;
    if (w != NULL)
        return w;
    HASH_FIND(hh_name, l->by_name, h->name, strlen(h->name), named);
    if (named != NULL && is_alive(l, named)) {
        snprintf(sentence, sizeof sentence, "a worker named '%s' is here and alive (from %s); give this one another --name", h->name, named->address);
        note(l, LOG_WARN, "worker_refused", "worker=%s reason=\"its name is taken\"", note_text(h->name, true, shown));
        refuse_peer(l, peer, WIRE__REFUSED_CODE__REFUSED, sentence);
        return NULL;
    }
    if (named != NULL)
        worker_gone(l, named, 1, "it started anew");
    w = worker_new(l, session, h->name);
    if (w == NULL)
        refuse_peer(l, peer, WIRE__REFUSED_CODE__NOT_NOW, "the ventilator has no memory for another worker now");
    return w;
}

static void journal_worker(struct ledger *l, const struct worker *w)
{
    char key[300];
    Wire__JournalWorker r = WIRE__JOURNAL_WORKER__INIT;
    r.name = w->name;
    r.session = w->session;
    snprintf(key, sizeof key, "worker/%s", w->name);
    if (wire_write(&l->writer, &r.base) == 0)
        l->port.put(l->port.arg, key, l->writer.bytes, l->writer.len);
    struct known_worker *k;
    HASH_FIND(hh, l->awaited, w->name, strlen(w->name), k);
    if (k == NULL)
        return;
    HASH_DEL(l->awaited, k);
    free(k);
}

static void on_hello(struct ledger *l, ledger_peer peer, const char *address, uint64_t session, const Wire__WorkerHello *h)
{
    struct worker *w = hello_worker(l, peer, session, h);
    if (w == NULL)
        return;
    Wire__WorkerHello *copy = (Wire__WorkerHello *)wire_copy(&h->base);
    Wire__Fence *room = malloc(WIRE_FENCES * sizeof *room);       /* not cleared: most hellos have nothing to drop */
    struct dropped d = {.fences = room, .room = WIRE_FENCES};
    if (copy == NULL || room == NULL) {
        free(room);
        wire_free(&copy);
        if (w->hello == NULL)
            worker_free(l, w);              /* just made */
        refuse_peer(l, peer, WIRE__REFUSED_CODE__NOT_NOW, "the ventilator has no memory for another worker now");
        return;
    }
    wire_free(&w->hello);
    w->hello = copy;
    l->n_slots += h->slots - w->slots;
    w->slots = h->slots;
    snprintf(w->address, sizeof w->address, "%s", address);
    set_peer(l, w, peer);
    lane_forget(l, w);
    if (mono_is_never(w->opening_since))
        w->opening_since = l->now;
    w->heard = w->moved = l->now;
    w->state = WORKER_OPENING;
    crew_join(l, w);
    worker_room(l, w);              /* nothing is assigned before the new lane is confirmed */
    const char *endpoint = "";
    uint64_t lane = l->epoch << 24 | l->next_lane++;
    int rc = l->port.lane_open(l->port.arg, lane, &w->lane_port, &endpoint);
    if (rc < 0) {
        free(room);
        note(l, LOG_ERROR, "no_lane", "worker=%s error=\"%s\"", w->shown, strerror(-rc));
        refuse_peer(l, peer, WIRE__REFUSED_CODE__NOT_NOW, "the ventilator has no free port for another lane; give it a larger range (--lanes)");
        go_away(l, w, "no port for its lane");
        return;
    }
    w->lane = lane;
    HASH_ADD(hh_lane, l->by_lane, lane, sizeof w->lane, w);
    journal_worker(l, w);
    adopt(l, w, h, &d);
    cancels_concern(l, w);
    welcome(l, w, endpoint, &d);
    free(room);
    /* Its hellos may come faster than a lane is given up. */
    due_set(l, &w->due, mono_min(mono_add(l->now, OPEN_NS), given_up_at(l, w)), worker_due, w);
    note(l, LOG_INFO, "worker_hello", "worker=%s slots=%u held=%u dropped=%zu address=%s", w->shown, w->slots, w->held, d.n, w->address);
    if (l->waiting_for_workers && l->awaited == NULL)
        workers_back(l);
}

/* ---- reports ---- */

typedef void (*flight_part)(struct ledger *l, struct batch *b, struct flight *f, uint64_t first, uint32_t count, void *arg);

/* Calls `part` for what flies of a fence at this worker. */
static void each_part(struct ledger *l, struct worker *w, const Wire__Fence *fence, flight_part part, void *arg)
{
    struct batch *b = batch_by_id(l, fence->batch);
    uint64_t at = fence->first, end = fence->first + fence->count;
    while (b != NULL && at < end) {
        struct flight *f = flight_after(b, at);
        if (f == NULL || f->first >= end)
            return;
        uint64_t low = f->first > at ? f->first : at, high = f->first + f->count < end ? f->first + f->count : end;
        at = high;
        if (f->worker == w && f->epoch == fence->epoch && f->past.attempts == fence->attempt)
            part(l, b, f, low, (uint32_t)(high - low), arg);
    }
}

/* What was measured when the lane opened may have been a moment in which everybody came at once: no way there and back is
 * longer than what has come back. (What was taken over from an earlier epoch was sent before.) */
static void bound_round_trip(struct ledger *l, const struct flight *f)
{
    int64_t took = mono_since(l->now, f->assigned);
    if (f->epoch == l->epoch && took < f->worker->round_trip)
        f->worker->round_trip = took;
}

static void part_started(struct ledger *l, struct batch *b, struct flight *f, uint64_t first, uint32_t count, void *arg)
{
    (void)b, (void)arg;
    bound_round_trip(l, f);
    flight_began(l, f, first, count);
}

static void part_finished(struct ledger *l, struct batch *b, struct flight *f, uint64_t first, uint32_t count, void *arg)
{
    (void)arg;
    bound_round_trip(l, f);
    flight_end(l, f, first, count);
    flight_prune(l, f);
    if (b->options->max_running > 0 && !b->complete)
        batch_ready(l, b);
}

static void part_returned(struct ledger *l, struct batch *b, struct flight *f, uint64_t first, uint32_t count, void *arg)
{
    (void)arg;
    uint64_t at = first, end = first + count;
    while (at < end && (f = flight_at(b, at)) != NULL) {
        uint64_t run = at, f_end = f->first + f->count, to = f_end < end ? f_end : end;
        uint32_t n = flight_open_run(f, &run);
        if (n == 0 || run >= to) {
            flight_end(l, f, at, (uint32_t)(to - at));
            flight_prune(l, f);
            at = to;
            continue;
        }
        if (run > at)
            flight_end(l, f, at, (uint32_t)(run - at));
        if (n > to - run)
            n = (uint32_t)(to - run);
        struct past past = f->past;
        struct flight *mine = flight_carve(l, f, run, n);
        BUG_IF_NO_MEMORY(mine);
        flight_drop(l, mine);
        requeue(l, b, run, n, past);
        at = run + n;
    }
}

/* n tasks of the report have ended: how long those of each batch took. */
static void learn_paces(struct ledger *l, struct worker *w, const Wire__Finished *m, uint64_t n)
{
    bool apart = false;
    for (size_t i = 0; i < m->n_fences; i++)
        apart |= m->fences[i]->run_us > 0;
    pace_learn_all(w, n, us_to_ns(m->run_us));
    for (size_t i = 0; i < m->n_fences; i++) {
        const Wire__Fence *f = m->fences[i];
        struct batch *b = batch_by_id(l, f->batch);
        if (b == NULL)
            continue;
        /* Workers of before don't tell them apart. */
        int64_t took = apart ? us_to_ns(f->run_us) : (int64_t)((double)us_to_ns(m->run_us) * f->count / (double)n);
        if (pace_learn(w, b, f->count, took))
            flights_charge(w, b);
        recall_too_many(l, w, b, f->first + f->count);
    }
}

static void on_finished(struct ledger *l, struct worker *w, const Wire__Finished *m)
{
    uint64_t n = 0;             /* also what the sink has told of already, which doesn't fly any more: its time is in the report */
    for (size_t i = 0; i < m->n_fences; i++) {
        each_part(l, w, m->fences[i], part_finished, NULL);
        n += m->fences[i]->count;
    }
    w->finished += n;
    w->progress = l->now;
    w->run_us += m->run_us;
    w->result_bytes += m->result_bytes;
    if (n == 0)
        return;
    learn_paces(l, w, m, n);
    w->swallows = false;
    worker_room(l, w);
}

static void leaves_by_itself(struct ledger *l, struct worker *w)
{
    w->draining = true;
    release_look(l, w);
    worker_room(l, w);
    note(l, LOG_INFO, "worker_drain", "worker=%s held=%u by=worker", w->shown, w->held);
}

static void on_returned(struct ledger *l, struct worker *w, const Wire__Returned *m)
{
    for (size_t i = 0; i < m->n_fences; i++) {
        each_part(l, w, m->fences[i], part_returned, NULL);
        struct batch *b = batch_by_id(l, m->fences[i]->batch);
        if (b != NULL)
            batch_moved(l, b);
    }
    if (m->cause == WIRE__RETURN_CAUSE__DRAINED && !w->draining)
        leaves_by_itself(l, w);
}

void worker_tell_drain(struct ledger *l, struct worker *w)
{
    Wire__LaneDrain drain = WIRE__LANE_DRAIN__INIT;
    Wire__Lane m = WIRE__LANE__INIT;
    m.what_case = WIRE__LANE__WHAT_DRAIN;
    m.drain = &drain;
    worker_lane(l, w, &m, (struct slice){0}, false);
}

static void on_opened(struct ledger *l, struct worker *w)
{
    if (w->state != WORKER_OPENING || !w->lane_up)
        return;
    w->state = WORKER_READY;
    w->opening_since = MONO_NEVER;
    w->round_trip = mono_since(l->now, w->probe_sent);
    w->moved = l->now;
    due_set(l, &w->due, mono_add(l->now, l->config.heartbeat), worker_due, w);
    /* What was cancelled while its lane was down is cancelled now. */
    cancels_tell(l, w);
    struct batch *last = NULL;
    struct flight *f;
    TAILQ_FOREACH(f, &w->flights, at_worker) {
        struct batch *b = f->batch;
        if (b == last)
            continue;
        last = b;
        if (!b->complete)
            worker_announce(l, w, b);       /* its deadline may have been moved meanwhile, or be moved from now on */
        if (halt_lets_finish(b))
            halt_recall(l, w, b);
        else if (b->cancelled)
            worker_cancel(l, w, b, NULL, 0, b->cancel_reason, false, 0);
        if (b->n_cancelled_tasks > 0 && (!b->cancelled || halt_lets_finish(b)))
            worker_cancel(l, w, b, b->cancelled_tasks, b->n_cancelled_tasks, WIRE__REASON__CANCEL_TASK, false, 0);
    }
    if (w->draining)
        worker_tell_drain(l, w);                 /* asked for while its lane was down */
    worker_room(l, w);
    note(l, LOG_INFO, "worker_ready", "worker=%s slots=%u held=%u", w->shown, w->slots, w->held);
}

/* One whose lane stands still hears of no cancel: it may go on, and start nothing, until its lane moves again. */
static bool lane_moves(const struct ledger *l, const struct worker *w)
{
    return w->sequence == w->sequence_read || mono_since(l->now, w->moved) <= lease_ns(l);
}

static void on_heartbeat(struct ledger *l, struct worker *w, uint64_t lane_epoch, const Wire__Heartbeat *h)
{
    if (lane_epoch == w->lane && h->lane_sequence > w->sequence_read) {
        w->sequence_read = h->lane_sequence;
        w->moved = l->now;
    }
    if (w->sequence == w->sequence_read)
        w->moved = l->now;
    w->unreleased_bytes = h->unreleased_bytes;
    w->unreleased = h->unreleased;
    w->queued = h->queued;
    owed_told(l, w, h->unreleased);
    w->busy = h->busy;
    if (h->draining && !w->draining)
        leaves_by_itself(l, w);
    char *hosts[3], *results[1], *queries[1];
    Wire__SinkPlace place = WIRE__SINK_PLACE__INIT;
    Wire__HeartbeatAnswer answer = WIRE__HEARTBEAT_ANSWER__INIT;
    if (lane_moves(l, w)) {
        answer.number = h->number;
        w->leased = l->now;
    }
    if (w->place_told != l->sink_version) {
        sink_fill_place(l, &place, hosts, results, queries);
        answer.sink = &place;
        w->place_told = l->sink_version;
    }
    Wire__Downward m = WIRE__DOWNWARD__INIT;
    m.epoch = l->epoch;
    m.what_case = WIRE__DOWNWARD__WHAT_HEARTBEAT;
    m.heartbeat = &answer;
    l->port.down(l->port.arg, w->peer, &m);
}

static void on_confirmed(struct ledger *l, struct worker *w, const Wire__Confirmed *m)
{
    if (m->number == w->recall && w->recall != 0) {
        recall_over(l, w);
        worker_room(l, w);
    } else {
        cancel_confirmed(l, w, m);
    }
}

void worker_upward(struct ledger *l, ledger_peer peer, const char *address, const Wire__Upward *m)
{
    if (m->what_case == WIRE__UPWARD__WHAT_HELLO) {
        on_hello(l, peer, address, m->session, m->hello);
        return;
    }
    struct worker *w = worker_by_peer(l, peer);
    if (w == NULL || w->session != m->session || (w->state == WORKER_AWAY && m->what_case != WIRE__UPWARD__WHAT_GOODBYE)) {
        worker_say_hello(l, peer);
        return;
    }
    w->heard = l->now;
    if (m->what_case == WIRE__UPWARD__WHAT_HEARTBEAT) {
        on_heartbeat(l, w, m->lane_epoch, m->heartbeat);
        return;
    }
    if (m->what_case == WIRE__UPWARD__WHAT_GOODBYE) {
        worker_gone(l, w, 0, "goodbye");
        return;
    }
    if (m->lane_epoch != w->lane) {
        l->counts.stale_messages++;
        return;
    }
    switch (m->what_case) {
    case WIRE__UPWARD__WHAT_OPENED:    on_opened(l, w); break;
    case WIRE__UPWARD__WHAT_STARTED:
        for (size_t i = 0; i < m->started->n_fences; i++)
            each_part(l, w, m->started->fences[i], part_started, NULL);
        break;
    case WIRE__UPWARD__WHAT_FINISHED:  on_finished(l, w, m->finished); break;
    case WIRE__UPWARD__WHAT_RETURNED:  on_returned(l, w, m->returned); break;
    case WIRE__UPWARD__WHAT_CONFIRMED: on_confirmed(l, w, m->confirmed); break;
    default:
        l->counts.stale_messages++;
    }
}
