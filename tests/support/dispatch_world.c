/* The cluster of a case: the ledger, its agents, and the model of all that lies between them. */
#include "tests/support/dispatch.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/bug.h"
#include "ventilator/ledger.h"
#include "worker/agent.h"

#define SINK          1u
#define CLIENT        2u
#define PEERS         100u                      /* of workers, from here on */
#define SUBMIT_AT     (2 * NS_PER_S)            /* all that are there from the beginning are ready by then */
#define FLUSH_NS      (NS_PER_MS / 5)           /* of the journal */
#define GATHER_NS     NS_PER_MS                 /* the sink answers what came meanwhile at once */
#define SINK_TRIP     (NS_PER_MS / 5)           /* round trip of ventilator and sink */
#define TURN_NS       (10 * NS_PER_US)          /* between two turns of the ventilator at least */
#define HANDLER       "work"

enum event_kind { TO_VENT, TO_WORKER, LANE_TO_WORKER, LANE_UP, LANE_DOWN, VENT_TURN, COMMITTED, WAKE, SLOT_END, SINK_UP, RESULT, SINK_COMMIT,
                  SINK_BEAT, SUBMIT, CONTROL_UP, LEAVE, LOSE };

struct packet { size_t len; uint8_t bytes[]; };

struct run {
    struct agent_run what;
    uint64_t task;                              /* of the first: in the numbering of dispatch_time */
    uint32_t begun;
    uint32_t generation;
    bool busy, closed;
    int64_t first_at, begun_at, time;
    struct agent_part *parts;
    uint32_t room;
};

struct station {                                /* a worker */
    struct world *world;
    uint32_t number;
    const struct dispatch_worker *plan;
    struct agent *agent;
    struct run *runs;
    uint64_t lane;
    int64_t wake;
    bool control_up, sink_asked, gone, away;    /* away: it drains, or is lost */
};

/* Slots that are idle, tasks that wait: of those without a label and with one. */
struct idling {
    int64_t idle[2], waiting[2], limited, kept_back;    /* those of a batch with a limit; … that may not run now */
    int64_t since;
    double lost, all;                           /* slots × ns: idle while something waits; all */
    int64_t slots;
};

struct noted { uint8_t batch[WIRE_ID]; uint64_t first, epoch, session; uint32_t count, attempt; Wire__ResultKind kind; };

struct world {
    const struct dispatch_case *c;
    struct dispatch_plan plan;
    struct dispatch_figures *figures;
    struct dispatch_heap heap;
    int64_t now, vent_free, turn_at;
    struct ledger *ledger;
    struct station *stations;
    uint32_t *by_lane;                          /* number of a station, by the lane's count */
    size_t n_lanes, room_lanes;
    uint32_t greeting;                          /* whose hello is being read */
    struct wire_writer writer;
    struct wire_arena *arena;
    struct dispatch_event *inbox;               /* of the ventilator */
    size_t n_inbox, room_inbox;
    uint64_t flush, random, turn_messages;
    bool staged, in_turn, submitted, measures_memory;
    size_t packets;                             /* bytes, while memory is measured */
    double ledger_ns;
    int64_t ledger_bytes;
    struct noted *noted;
    size_t n_noted, room_noted;
    bool sink_waits;
    size_t n_complete;
    struct idling idling;
    uint64_t *running;                          /* of each batch */
    int64_t last_end;
};

/* ---- events ---- */

static struct packet *pack(struct world *w, const ProtobufCMessage *m)
{
    BUG_IF(wire_write(&w->writer, m) < 0);
    struct packet *p = malloc(sizeof *p + w->writer.len);
    BUG_IF(p == NULL);
    p->len = w->writer.len;
    memcpy(p->bytes, w->writer.bytes, p->len);
    w->packets += w->measures_memory ? malloc_usable_size(p) + sizeof(size_t) : 0;
    return p;
}

static void at(struct world *w, int64_t when, enum event_kind kind, uint32_t who, struct packet *packet)
{
    dispatch_push(&w->heap, (struct dispatch_event){.at = when, .kind = (uint32_t)kind, .who = who, .packet = packet});
}

/* When a message of the ventilator leaves: it writes one after the other. */
static int64_t departure(struct world *w, bool counts)
{
    w->turn_messages++;
    w->figures->messages += counts && w->submitted;
    return w->now + (int64_t)w->turn_messages * w->c->message;
}

/* ---- the ventilator's ports ---- */

static int port_reply(void *arg, ledger_peer client, const Wire__Reply *m)
{
    (void)arg, (void)client;
    BUG_IF(m->what_case == WIRE__REPLY__WHAT_REFUSED);
    return 0;
}

static void answer_register(struct world *w, const Wire__Register *r, int64_t when)
{
    Wire__Registered registered = WIRE__REGISTERED__INIT;
    registered.batch = r->batch;
    registered.total = r->total;
    Wire__Upward up = WIRE__UPWARD__INIT;
    up.session = SINK;
    up.what_case = WIRE__UPWARD__WHAT_REGISTERED;
    up.registered = &registered;
    at(w, when + SINK_TRIP + GATHER_NS, TO_VENT, SINK, pack(w, &up.base));
}

static int port_down(void *arg, ledger_peer peer, const Wire__Downward *m)
{
    struct world *w = arg;
    int64_t when = departure(w, m->what_case != WIRE__DOWNWARD__WHAT_HEARTBEAT);
    if (peer != SINK)
        at(w, when + w->c->round_trip / 2, TO_WORKER, peer - PEERS, pack(w, &m->base));
    else if (m->what_case == WIRE__DOWNWARD__WHAT_REGISTER)
        answer_register(w, m->register_, when);
    return 0;
}

static int port_lane_open(void *arg, uint64_t lane, uint32_t *ret_port, const char **ret_endpoint)
{
    struct world *w = arg;
    size_t n = lane & 0xFFFFFF;
    if (n >= w->room_lanes) {
        w->room_lanes = 2 * n + 64;
        w->by_lane = reallocarray(w->by_lane, w->room_lanes, sizeof *w->by_lane);
        BUG_IF(w->by_lane == NULL);
    }
    w->by_lane[n] = w->greeting;
    w->stations[w->greeting].lane = lane;
    *ret_port = 5600;
    *ret_endpoint = "";
    return 0;
}

static void port_lane_send(void *arg, uint64_t lane, const Wire__Lane *m, struct slice body, bool with_body)
{
    struct world *w = arg;
    (void)body, (void)with_body;                /* ranges have none */
    w->figures->recalls += m->what_case == WIRE__LANE__WHAT_RECALL;
    w->figures->assigns += m->what_case == WIRE__LANE__WHAT_ASSIGN;
    at(w, departure(w, true) + w->c->round_trip / 2, LANE_TO_WORKER, w->by_lane[lane & 0xFFFFFF], pack(w, &m->base));
}

static void port_lane_close(void *arg, uint64_t lane) { (void)arg, (void)lane; }
static void port_place(void *arg, const Wire__SinkPlace *place) { (void)arg, (void)place; }
static int port_closing(void *arg, const Wire__Result *m) { (void)arg, (void)m; return -EAGAIN; }

static uint64_t staged(struct world *w)
{
    w->staged = true;
    return w->flush;
}
static uint64_t port_put(void *arg, const char *key, const void *value, size_t len) { (void)key, (void)value, (void)len; return staged(arg); }
static uint64_t port_remove(void *arg, const char *key) { (void)key; return staged(arg); }
static uint64_t port_append(void *arg, uint64_t batch, const struct ledger_frame *f) { (void)batch, (void)f; return staged(arg); }
static uint64_t port_remove_frames(void *arg, uint64_t batch) { (void)batch; return staged(arg); }
static void port_load(void *arg, uint64_t batch, uint64_t from, uint64_t to, size_t bytes) { (void)arg, (void)batch, (void)from, (void)to, (void)bytes; }
static void port_leave(void *arg) { (void)arg; }

static void port_random(void *arg, void *bytes, size_t len)
{
    struct world *w = arg;
    for (size_t i = 0; i < len; i++) {
        w->random ^= w->random << 13, w->random ^= w->random >> 7, w->random ^= w->random << 17;
        ((uint8_t *)bytes)[i] = (uint8_t)(w->random >> 24);
    }
}

static void port_note(void *arg, int level, const char *event, const char *text)
{
    struct world *w = arg;
    (void)level, (void)text;
    w->n_complete += strcmp(event, "batch_complete") == 0;
}

/* ---- a turn of the ventilator ---- */

static void wake_vent(struct world *w, int64_t when)
{
    when = when > w->vent_free ? when : w->vent_free;
    if (w->in_turn || when >= w->turn_at)
        return;
    w->turn_at = when;
    at(w, when, VENT_TURN, 0, NULL);
}

static void to_inbox(struct world *w, const struct dispatch_event *e)
{
    if (w->n_inbox == w->room_inbox) {
        w->room_inbox = w->room_inbox > 0 ? 2 * w->room_inbox : 256;
        w->inbox = reallocarray(w->inbox, w->room_inbox, sizeof *w->inbox);
        BUG_IF(w->inbox == NULL);
    }
    w->inbox[w->n_inbox++] = *e;
    wake_vent(w, w->now);
}

static void read_upward(struct world *w, const struct dispatch_event *e)
{
    struct why why = {""};
    const Wire__Upward *m;
    struct packet *p = e->packet;
    BUG_IF(wire_read_upward(w->arena, p->bytes, p->len, 0, &m, &why) < 0);
    w->greeting = e->who;
    w->figures->messages += w->submitted && m->what_case != WIRE__UPWARD__WHAT_HEARTBEAT;
    w->turn_messages++;
    ledger_upward(w->ledger, (mono_t){w->now}, e->kind == TO_VENT && e->slot != 0 ? PEERS + e->who : SINK, "10.0.0.1", m, (struct slice){0});
}

static void submit(struct world *w)
{
    Wire__ClientHello hello = WIRE__CLIENT_HELLO__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    hello.major = WIRE_MAJOR;
    m.what_case = WIRE__REQUEST__WHAT_HELLO;
    m.hello = &hello;
    ledger_request(w->ledger, (mono_t){w->now}, CLIENT, &m, (struct slice){0});
    for (size_t i = 0; i < w->plan.n_batches; i++) {
        const struct dispatch_batch *b = &w->plan.batches[i];
        char name[24];
        uint8_t id[WIRE_ID] = {(uint8_t)i, (uint8_t)(i >> 8), 1};
        char gpu[] = "gpu", yes[] = "yes", handler[] = HANDLER;
        Wire__Value label = WIRE__VALUE__INIT, *labels = &label;
        Wire__Range range = WIRE__RANGE__INIT;
        Wire__Options o = WIRE__OPTIONS__INIT;
        Wire__Submit s = WIRE__SUBMIT__INIT;
        snprintf(name, sizeof name, "%zu", i);
        label.key = gpu, label.value = yes;
        range.count = b->tasks, range.step = 1;
        o.name = name, o.handler = handler, o.range = &range, o.weight = b->weight, o.priority = b->priority;
        o.max_running = b->max_running, o.grace_us = 2000000;
        o.n_require = b->labelled, o.require = &labels;
        s.submission = wire_id_bytes(id), s.options = &o;
        m.what_case = WIRE__REQUEST__WHAT_SUBMIT;
        m.submit = &s;
        if (b->tasks > 0)
            ledger_request(w->ledger, (mono_t){w->now}, CLIENT, &m, (struct slice){0});
        w->n_complete += b->tasks == 0;
    }
    w->submitted = true;
    for (size_t i = 0; i < w->plan.n_batches; i++)
        w->idling.waiting[w->plan.batches[i].labelled] += (int64_t)w->plan.batches[i].tasks;
    w->idling.since = w->now;
    if (w->plan.batches[0].max_running > 0) {
        w->idling.limited = (int64_t)w->plan.batches[0].tasks;
        w->idling.kept_back = w->idling.limited - (int64_t)w->plan.batches[0].max_running;
    }
}

static void handle(struct world *w, struct dispatch_event *e)
{
    switch (e->kind) {
    case TO_VENT:   read_upward(w, e); break;
    case LANE_UP:   ledger_lane(w->ledger, (mono_t){w->now}, w->stations[e->who].lane, true); break;
    case LANE_DOWN: ledger_lane(w->ledger, (mono_t){w->now}, w->stations[e->who].lane, false); break;
    case COMMITTED: ledger_committed(w->ledger, (mono_t){w->now}, e->what); break;
    case SUBMIT:    submit(w); break;
    default:        break;
    }
}

static double real_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static int64_t heap_bytes(void)
{
    struct mallinfo2 m = mallinfo2();
    return (int64_t)(m.uordblks + m.hblkhd);
}

static void vent_turn(struct world *w, const struct dispatch_event *e)
{
    if (e->at != w->turn_at)
        return;                                 /* an earlier one was planned since */
    int64_t bytes = w->measures_memory ? heap_bytes() : 0;
    double began = real_ns();
    w->packets = 0;
    w->turn_at = INT64_MAX;
    w->in_turn = true;
    w->turn_messages = 0;
    w->figures->turns++;
    for (size_t i = 0; i < w->n_inbox; i++)
        handle(w, &w->inbox[i]);
    mono_t next = ledger_tick(w->ledger, (mono_t){w->now}, true);
    w->in_turn = false;
    w->ledger_ns += w->submitted ? real_ns() - began : 0;
    if (w->measures_memory)
        w->ledger_bytes += heap_bytes() - bytes - (int64_t)w->packets;
    for (size_t i = 0; i < w->n_inbox; i++)
        free(w->inbox[i].packet);
    w->n_inbox = 0;
    if (w->staged)
        dispatch_push(&w->heap, (struct dispatch_event){.at = w->now + FLUSH_NS, .kind = COMMITTED, .what = w->flush++});
    w->staged = false;
    w->vent_free = w->now + TURN_NS + (int64_t)w->turn_messages * w->c->message;
    wake_vent(w, next.ns);
}

/* ---- the sink ---- */

static void sink_says(struct world *w, Wire__Upward *m)
{
    m->session = SINK;
    at(w, w->now + SINK_TRIP / 2, TO_VENT, SINK, pack(w, &m->base));
}

static void sink_beat(struct world *w, bool first)
{
    static const uint8_t store[WIRE_ID] = "the-sink's-store";
    Wire__SinkHello hello = WIRE__SINK_HELLO__INIT;
    Wire__Heartbeat beat = WIRE__HEARTBEAT__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    hello.major = WIRE_MAJOR;
    hello.store = wire_id_bytes(store);
    hello.results_port = 1;
    beat.number = 1;
    m.what_case = first ? WIRE__UPWARD__WHAT_SINK_HELLO : WIRE__UPWARD__WHAT_HEARTBEAT;
    if (first)
        m.sink_hello = &hello;
    else
        m.heartbeat = &beat;
    sink_says(w, &m);
    at(w, w->now + NS_PER_S, SINK_BEAT, 0, NULL);
}

static void sink_takes(struct world *w, const struct packet *p)
{
    struct why why = {""};
    const Wire__Result *m;
    BUG_IF(wire_read_result(w->arena, p->bytes, p->len, 0, &m, &why) < 0);
    if (w->n_noted == w->room_noted) {
        w->room_noted = w->room_noted > 0 ? 2 * w->room_noted : 256;
        w->noted = reallocarray(w->noted, w->room_noted, sizeof *w->noted);
        BUG_IF(w->noted == NULL);
    }
    const Wire__Report *r = m->report;
    struct noted *n = &w->noted[w->n_noted++];
    *n = (struct noted){.first = r->fence->first, .epoch = r->fence->epoch, .count = r->fence->count, .attempt = r->fence->attempt,
                        .session = r->session, .kind = r->kind};
    memcpy(n->batch, r->fence->batch.data, WIRE_ID);
    if (!w->sink_waits)
        at(w, w->now + GATHER_NS, SINK_COMMIT, 0, NULL);
    w->sink_waits = true;
}

static void sink_tells(struct world *w, const struct noted *from, size_t n)
{
    static Wire__RecordedResult results[256];
    static Wire__RecordedResult *pointers[256];
    static Wire__Fence fences[256];
    static Wire__Verdict ok = WIRE__VERDICT__OK;
    for (size_t i = 0; i < n; i++) {
        wire__fence__init(&fences[i]);
        fences[i].batch = wire_id_bytes(from[i].batch);
        fences[i].first = from[i].first, fences[i].count = from[i].count;
        fences[i].epoch = from[i].epoch, fences[i].attempt = from[i].attempt;
        wire__recorded_result__init(&results[i]);
        results[i].fence = &fences[i], results[i].session = from[i].session, results[i].kind = from[i].kind;
        results[i].n_verdicts = 1, results[i].verdicts = &ok, results[i].all_fresh = true;
        pointers[i] = &results[i];
    }
    Wire__Recorded recorded = WIRE__RECORDED__INIT;
    recorded.n_results = n;
    recorded.results = pointers;
    Wire__Upward m = WIRE__UPWARD__INIT;
    m.what_case = WIRE__UPWARD__WHAT_RECORDED;
    m.recorded = &recorded;
    sink_says(w, &m);
}

static void sink_commits(struct world *w)
{
    for (size_t i = 0; i < w->n_noted; i += 256)
        sink_tells(w, w->noted + i, w->n_noted - i < 256 ? w->n_noted - i : 256);
    w->n_noted = 0;
    w->sink_waits = false;
}

/* ---- what is lost ---- */

/* Before anything of it changes. */
static void idling_until_now(struct world *w)
{
    struct idling *s = &w->idling;
    int64_t ns = w->now - s->since, plain = s->waiting[0] - s->kept_back;
    int64_t lost = s->idle[0] < plain ? s->idle[0] : plain, rest = plain - lost + s->waiting[1];
    lost += s->idle[1] < rest ? s->idle[1] : rest;
    s->since = w->now;
    if (s->waiting[0] + s->waiting[1] == 0 || !w->submitted)
        return;
    s->lost += (double)lost * (double)ns;
    s->all += (double)s->slots * (double)ns;
}

static size_t batch_of(const struct world *w, uint64_t task)
{
    size_t low = 0, high = w->plan.n_batches;
    while (high - low > 1) {
        size_t middle = (low + high) / 2;
        if (w->plan.batches[middle].first <= task)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* A task begins (1) or ends (-1), or its worker is lost (-1, again). */
static void idling_task(struct world *w, const struct station *k, uint64_t task, int64_t step, bool again)
{
    size_t i = batch_of(w, task);
    const struct dispatch_batch *b = &w->plan.batches[i];
    idling_until_now(w);
    w->running[i] += (uint64_t)step;
    w->idling.idle[k->plan->labelled] -= k->away ? 0 : step;
    int64_t waiting = again ? 1 : step > 0 ? -1 : 0;
    w->idling.waiting[b->labelled] += waiting;
    if (b->max_running == 0)
        return;
    int64_t may = (int64_t)(b->max_running - w->running[i]);
    w->idling.limited += waiting;
    w->idling.kept_back = w->idling.limited > may ? w->idling.limited - may : 0;
}

static void idling_slots(struct world *w, const struct station *k, int64_t idle, int64_t slots)
{
    idling_until_now(w);
    w->idling.idle[k->plan->labelled] += idle;
    w->idling.slots += slots;
}

/* ---- the agents' ports ---- */

static int port_up(void *arg, const Wire__Upward *m)
{
    struct station *k = arg;
    struct world *w = k->world;
    if (!k->control_up)
        return -EAGAIN;
    dispatch_push(&w->heap, (struct dispatch_event){.at = w->now + w->c->round_trip / 2, .kind = TO_VENT, .who = k->number, .slot = 1,
                                                    .packet = pack(w, &m->base)});
    return 0;
}

static void port_dial(void *arg, const char *endpoint, uint32_t port)
{
    struct station *k = arg;
    (void)endpoint, (void)port;
    at(k->world, k->world->now + k->world->c->round_trip, LANE_UP, k->number, NULL);
}

static void port_hang_up(void *arg) { (void)arg; }

static void port_sink(void *arg, const Wire__SinkPlace *place)
{
    struct station *k = arg;
    if (place->results_port == 0 || k->sink_asked)
        return;
    k->sink_asked = true;
    at(k->world, k->world->now + k->world->c->round_trip, SINK_UP, k->number, NULL);
}

static int port_result(void *arg, const Wire__Result *m, struct slice body)
{
    struct station *k = arg;
    (void)body;                                 /* nothing prints */
    at(k->world, k->world->now + k->world->c->round_trip / 2, RESULT, k->number, pack(k->world, &m->base));
    return 0;
}

static void begin(struct station *k, uint32_t slot)
{
    struct world *w = k->world;
    struct run *r = &k->runs[slot];
    r->begun_at = w->now;
    r->time = dispatch_time(w->c, r->task + r->begun) * k->plan->slower;
    idling_task(w, k, r->task + r->begun, 1, false);
    r->begun++;
    dispatch_push(&w->heap, (struct dispatch_event){.at = w->now + r->time, .kind = SLOT_END, .who = k->number, .slot = slot, .what = ++r->generation});
}

static void port_run(void *arg, const struct agent_run *run)
{
    struct station *k = arg;
    struct run *r = &k->runs[run->slot];
    r->what = *run;
    r->task = k->world->plan.batches[strtoul(run->options->name, NULL, 10)].first + run->index;
    r->begun = 0;
    r->busy = true;
    r->closed = false;
    r->first_at = k->world->now;
    begin(k, run->slot);
}

static void port_stop(void *arg, uint32_t slot, int64_t grace) { (void)arg, (void)slot, (void)grace; }

static void port_split(void *arg, uint32_t slot, bool keep_first, struct agent_split *ret)
{
    struct station *k = arg;
    struct run *r = &k->runs[slot];
    (void)keep_first;
    r->closed = true;
    ret->begun_at.ns = r->begun_at;
    ret->begun = r->begun;
    ret->parts = r->parts;
    ret->n_parts = r->begun - 1;
}

static void port_agent_note(void *arg, int level, const char *event, const char *text) { (void)arg, (void)level, (void)event, (void)text; }

static void port_agent_leave(void *arg, uint64_t unreleased)
{
    struct station *k = arg;
    (void)unreleased;
    k->gone = true;
}

/* ---- workers ---- */

static void station_turn(struct station *k)
{
    struct world *w = k->world;
    if (k->gone || k->agent == NULL)
        return;
    mono_t next = agent_tick(k->agent, (mono_t){w->now}, true);
    if (mono_is_never(next) || next.ns >= k->wake)
        return;
    k->wake = next.ns > w->now ? next.ns : w->now;
    at(w, k->wake, WAKE, k->number, NULL);
}

static bool goes_on(struct station *k, uint32_t slot)
{
    const struct world *w = k->world;
    struct run *r = &k->runs[slot];
    if (r->closed || r->begun >= r->what.count || w->now >= r->what.not_after.ns || w->now - r->first_at >= r->what.begin_for)
        return false;
    if (r->begun > r->room) {
        r->room = 2 * r->begun;
        r->parts = reallocarray(r->parts, r->room, sizeof *r->parts);
        BUG_IF(r->parts == NULL);
    }
    r->parts[r->begun - 1] = (struct agent_part){.run_ns = (uint32_t)r->time};
    begin(k, slot);
    return true;
}

static void slot_end(struct station *k, const struct dispatch_event *e)
{
    struct world *w = k->world;
    struct run *r = &k->runs[e->slot];
    if (!r->busy || r->generation != e->what)
        return;
    w->last_end = w->now;
    idling_task(w, k, r->task + r->begun - 1, -1, false);
    if (goes_on(k, e->slot))
        return;
    r->busy = false;
    struct agent_end end = {.how = AGENT_EXITED, .run_ns = r->time};
    for (uint32_t i = 0; i + 1 < r->begun; i++)
        end.run_ns += r->parts[i].run_ns;
    agent_ended(k->agent, (mono_t){w->now}, e->slot, &end);
}

/* Its slots are counted no more: those that are busy when their attempts end. */
static void station_leaves(struct station *k)
{
    int64_t idle = 0;
    for (uint32_t slot = 0; slot < k->plan->slots; slot++)
        idle += !k->runs[slot].busy;
    idling_slots(k->world, k, -idle, -(int64_t)k->plan->slots);
    k->away = true;
}

static void to_station(struct station *k, const struct dispatch_event *e)
{
    struct world *w = k->world;
    struct why why = {""};
    const struct packet *p = e->packet;
    mono_t now = {w->now};
    const Wire__Downward *down;
    const Wire__Lane *lane;
    switch (e->kind) {
    case TO_WORKER:
        BUG_IF(wire_read_downward(w->arena, p->bytes, p->len, 0, &down, &why) < 0);
        agent_downward(k->agent, now, down);
        break;
    case LANE_TO_WORKER:
        BUG_IF(wire_read_lane(w->arena, p->bytes, p->len, 0, &lane, &why) < 0);
        agent_lane(k->agent, now, lane, (struct slice){0});
        break;
    case SLOT_END:   slot_end(k, e); break;
    case SINK_UP:    agent_sink(k->agent, now, true); break;
    case LEAVE:
        station_leaves(k);
        agent_drain(k->agent, now);
        break;
    case CONTROL_UP:
        k->control_up = true;
        idling_slots(w, k, k->plan->slots, k->plan->slots);
        agent_control(k->agent, now, true);
        break;
    default:
        break;
    }
}

static void at_station(struct world *w, struct dispatch_event *e)
{
    struct station *k = &w->stations[e->who];
    if (e->kind == WAKE && e->at != k->wake)
        return;
    if (e->kind == WAKE)
        k->wake = INT64_MAX;
    if (!k->gone) {
        to_station(k, e);
        station_turn(k);
    }
    free(e->packet);
}

static void station_lost(struct station *k)
{
    station_leaves(k);
    for (uint32_t slot = 0; slot < k->plan->slots; slot++)
        if (k->runs[slot].busy)
            idling_task(k->world, k, k->runs[slot].task + k->runs[slot].begun - 1, -1, true);
    k->gone = true;
    at(k->world, k->world->now + k->world->c->round_trip / 2, LANE_DOWN, k->number, NULL);
}

static void station_new(struct world *w, uint32_t number)
{
    struct station *k = &w->stations[number];
    char name[24], gpu[] = "gpu", yes[] = "yes";
    Wire__Value label = WIRE__VALUE__INIT;
    const Wire__Value *const labels[] = {&label};
    static const char *const words[] = {HANDLER, NULL};
    static const struct agent_handler handler = {.name = HANDLER, .kind = AGENT_PLUGIN, .command = words, .bundles = true};
    struct agent_ports ports = {
        .arg = k, .up = port_up, .lane_dial = port_dial, .lane_close = port_hang_up, .sink_place = port_sink, .result = port_result,
        .run = port_run, .stop = port_stop, .split = port_split, .note = port_agent_note, .leave = port_agent_leave,
    };
    *k = (struct station){.world = w, .number = number, .plan = &w->plan.workers[number], .wake = INT64_MAX};
    snprintf(name, sizeof name, "w%u", number);
    label.key = gpu, label.value = yes;
    const struct agent_config config = {
        .name = name, .program = "worker", .slots = k->plan->slots, .handlers = &handler, .n_handlers = 1, .labels = labels,
        .n_labels = k->plan->labelled, .max_payload = WIRE_PAYLOAD, .shutdown_timeout = 86400 * NS_PER_S, .session = PEERS + number,
    };
    k->runs = calloc(k->plan->slots, sizeof *k->runs);
    k->agent = agent_new(&config, &ports);
    BUG_IF(k->runs == NULL || k->agent == NULL);
    at(w, k->plan->joins ? SUBMIT_AT + w->plan.half : NS_PER_MS, CONTROL_UP, number, NULL);
    if (k->plan->leaves)
        at(w, SUBMIT_AT + w->plan.half, LEAVE, number, NULL);
    if (k->plan->lost)
        at(w, SUBMIT_AT + w->plan.half, LOSE, number, NULL);
}

/* ---- the whole ---- */

static void world_new(struct world *w)
{
    struct ledger_ports ports = {
        .arg = w, .reply = port_reply, .down = port_down, .lane_open = port_lane_open, .lane_send = port_lane_send,
        .lane_close = port_lane_close, .sink_place = port_place, .closing = port_closing, .put = port_put, .remove = port_remove,
        .append = port_append, .remove_frames = port_remove_frames, .load = port_load, .random = port_random, .note = port_note,
        .leave = port_leave,
    };
    static const struct ledger_config config = {
        .program = "ventilator", .journal = {1}, .session = 1, .heartbeat = NS_PER_S, .loss_grace = 2 * NS_PER_S, .silence = 10 * NS_PER_S,
        .shutdown_timeout = 30 * NS_PER_S, .max_losses = 3, .max_payload = WIRE_PAYLOAD, .result_credit = 64u << 20, .cache_bytes = 64u << 20,
        .boot = "b",
    };
    w->ledger = ledger_new(&config, &ports, (mono_t){0});
    w->arena = wire_arena_new();
    w->stations = calloc(w->c->workers, sizeof *w->stations);
    w->running = calloc(w->plan.n_batches, sizeof *w->running);
    BUG_IF(w->running == NULL || w->ledger == NULL || w->arena == NULL || w->stations == NULL);
    ledger_restored(w->ledger, (mono_t){0});
    w->turn_at = INT64_MAX;
    w->measures_memory = true;
    at(w, FLUSH_NS, COMMITTED, 0, NULL);
    w->heap.at[0].what = w->flush++;
    sink_beat(w, true);
    for (uint32_t i = 0; i < w->c->workers; i++)
        station_new(w, i);
    at(w, SUBMIT_AT, SUBMIT, 0, NULL);
}

static void world_free(struct world *w)
{
    struct dispatch_event e;
    while (dispatch_pop(&w->heap, &e))
        free(e.packet);
    for (uint32_t i = 0; i < w->c->workers; i++) {
        for (uint32_t slot = 0; slot < w->stations[i].plan->slots; slot++)
            free(w->stations[i].runs[slot].parts);
        free(w->stations[i].runs);
        agent_destroy(&w->stations[i].agent);
    }
    ledger_destroy(&w->ledger);
    wire_arena_destroy(&w->arena);
    wire_writer_release(&w->writer);
    dispatch_plan_release(&w->plan);
    free(w->heap.at);
    free(w->stations);
    free(w->by_lane);
    free(w->inbox);
    free(w->noted);
    free(w->running);
}

static void happen(struct world *w, struct dispatch_event *e)
{
    w->now = e->at;
    switch (e->kind) {
    case SUBMIT:      w->measures_memory = false;     /* fallthrough */
    case TO_VENT:
    case LANE_UP:
    case LANE_DOWN:
    case COMMITTED:   to_inbox(w, e); break;
    case VENT_TURN:   vent_turn(w, e); break;
    case SINK_BEAT:   sink_beat(w, false); break;
    case SINK_COMMIT: sink_commits(w); break;
    case LOSE:        station_lost(&w->stations[e->who]); break;
    case RESULT:
        sink_takes(w, e->packet);
        free(e->packet);
        break;
    default:          at_station(w, e);
    }
}

void dispatch_run(const struct dispatch_case *c, struct dispatch_figures *ret)
{
    struct world w = {.c = c, .figures = ret, .flush = 1, .random = c->seed * 2 + 1};
    struct dispatch_event e;
    struct ledger_counts counts;
    *ret = (struct dispatch_figures){0};
    dispatch_plan(c, &w.plan);
    ret->ideal = dispatch_ideal(&w.plan);
    world_new(&w);
    int64_t end = SUBMIT_AT + 10 * ret->ideal + 60 * NS_PER_S;
    while (w.n_complete < w.plan.n_batches && dispatch_pop(&w.heap, &e) && e.at < end)
        happen(&w, &e);
    ledger_count(w.ledger, &counts);
    ret->complete = w.n_complete == w.plan.n_batches;
    ret->makespan = w.last_end - SUBMIT_AT;
    ret->ledger_ns = w.ledger_ns / (double)c->tasks;
    ret->worker_bytes = (double)w.ledger_bytes / c->workers;
    ret->looked = counts.looked;
    ret->lost = w.idling.all > 0 ? w.idling.lost / w.idling.all : 0;
    world_free(&w);
}
