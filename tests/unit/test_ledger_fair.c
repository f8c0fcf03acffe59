/* What a turn of dispatch gives to whom: shares of batches in pools of workers that have little or nothing in common, weights,
 * recalls, and workers that wait for a task on its last chance. Workers are played: what the ledger assigns is kept in a list
 * for each, and ends when the test says so. The time stands still unless the test moves it. */
#include "tests/unit/ledger_world.h"

#define BATCHES 8u
#define STATIONS 4u
#define SPANS 1024u

struct span { unsigned batch; uint64_t first; uint32_t count, attempt; };

/* A worker: what it holds, in the order in which it came. */
struct station {
    unsigned lane;
    struct span at[SPANS];
    unsigned n;
    uint64_t sent, assigned, recalls;   /* messages, tasks, recalls: ever */
    uint64_t recall;                    /* number of the last one */
    uint8_t recalled[WIRE_ID];          /* its batch */
};

struct fair {
    struct world w;                     /* first: the ports' argument is this world */
    uint8_t ids[BATCHES][WIRE_ID];
    uint64_t ended[BATCHES];
    unsigned n_batches, lanes;
    struct station stations[STATIONS];
};

/* ---- what the ledger sends ---- */

static unsigned number_of(const struct fair *f, const uint8_t *id)
{
    unsigned n = 0;
    while (n < f->n_batches && memcmp(f->ids[n], id, WIRE_ID) != 0)
        n++;
    assert_true(n < f->n_batches);
    return n;
}

static struct station *station_at(struct fair *f, unsigned lane)
{
    unsigned n = 0;
    while (n < STATIONS && f->stations[n].lane != lane)
        n++;
    return n < STATIONS ? &f->stations[n] : NULL;
}

static void to_station(void *arg, uint64_t lane, const Wire__Lane *m, struct slice body, bool with_body)
{
    struct fair *f = arg;
    struct station *s = station_at(f, (unsigned)(lane & 0xFFFFFF));
    (void)body, (void)with_body;
    if (s == NULL)
        return;
    s->sent++;
    if (m->what_case == WIRE__LANE__WHAT_ASSIGN) {
        const Wire__Tasks *t = m->assign->tasks;
        assert_true(s->n < SPANS);
        s->at[s->n++] = (struct span){number_of(f, m->assign->batch.data), t->first, t->count, m->assign->attempt};
        s->assigned += t->count;
    } else if (m->what_case == WIRE__LANE__WHAT_RECALL) {
        s->recalls++;
        s->recall = m->recall->number;
        memcpy(s->recalled, m->recall->batch.data, WIRE_ID);
    }
}

static void begin_fair(struct world *w)
{
    struct ledger_ports ports = {
        .arg = w, .reply = on_reply, .down = on_down, .lane_open = on_lane_open, .lane_send = to_station, .lane_close = on_lane_close,
        .sink_place = on_sink_place, .closing = on_closing, .put = on_put, .remove = on_remove, .append = on_append,
        .remove_frames = on_remove_frames, .load = on_load, .random = on_random, .note = on_note, .leave = on_leave,
    };
    struct ledger_config config = {
        .program = "ventilator test", .journal = {1}, .session = 1, .heartbeat = NS_PER_S, .loss_grace = 2 * NS_PER_S, .silence = 10 * NS_PER_S,
        .shutdown_timeout = 30 * NS_PER_S, .max_losses = 2, .max_payload = 1 << 20, .result_credit = 1 << 20, .cache_bytes = 1 << 20, .boot = "b",
    };
    w->ledger = ledger_new(&config, &ports, w->now);
    assert_non_null(w->ledger);
}

static int setup_fair(void **state)
{
    struct fair *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->w.now.ns = NS_PER_S;
    epoch_now = 1;
    f->w.flush = 1;
    begin_fair(&f->w);
    ledger_restored(f->w.ledger, f->w.now);
    committed(&f->w);
    client_hello(&f->w);
    sink_hello(&f->w);
    *state = f;
    return 0;
}

static int teardown_fair(void **state)
{
    struct fair *f = *state;
    ledger_destroy(&f->w.ledger);
    free(f);
    return 0;
}

/* ---- what happens ---- */

/* Without the audit, which looks at everything: there are many turns. */
static void turn(struct fair *f)
{
    ledger_tick(f->w.ledger, f->w.now, true);
}

static ledger_peer peer_of(unsigned station) { return 11 + station; }

/* A worker says hello, on a lane of its own; handlers are words, "" for none. */
static void hello(struct fair *f, unsigned station, uint32_t slots, const char *handler, const char *other)
{
    uint8_t journal[WIRE_ID] = {1};
    char name[] = "w0", *handlers[] = {(char *)(uintptr_t)handler, (char *)(uintptr_t)other};
    Wire__WorkerHello h = WIRE__WORKER_HELLO__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    name[1] = (char)('1' + station);
    h.major = WIRE_MAJOR;
    h.name = name;
    h.slots = slots;
    h.commands = true;
    h.n_handlers = handler[0] == '\0' ? 0 : other[0] == '\0' ? 1 : 2;
    h.handlers = handlers;
    h.ventilator = wire_id_bytes(journal);
    m.what_case = WIRE__UPWARD__WHAT_HELLO;
    m.hello = &h;
    f->stations[station].lane = ++f->lanes;
    f->stations[station].sent = 0;
    upward(&f->w, peer_of(station), peer_of(station), 0, &m);
}

static void comes(struct fair *f, unsigned station, uint32_t slots, const char *handler, const char *other)
{
    hello(f, station, slots, handler, other);
    worker_opened(&f->w, peer_of(station), f->stations[station].lane);
    turn(f);
}

/* A range of so many tasks is submitted, and known to the sink. */
static unsigned submit_with(struct fair *f, const char *handler, uint64_t count, Wire__Options *o)
{
    unsigned n = f->n_batches++;
    uint8_t id[WIRE_ID] = {(uint8_t)n, (uint8_t)(n >> 8), 7};
    Wire__Range range = WIRE__RANGE__INIT;
    Wire__Submit s = WIRE__SUBMIT__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    assert_true(n < BATCHES);
    range.count = count;
    range.step = 1;
    o->range = &range;
    o->handler = (char *)(uintptr_t)handler;
    o->n_command = handler[0] == '\0';
    o->command = command;
    o->weight = o->weight > 0 ? o->weight : 1;
    o->grace_us = 2000000;
    s.submission = wire_id_bytes(id);
    s.options = o;
    m.what_case = WIRE__REQUEST__WHAT_SUBMIT;
    m.submit = &s;
    request(&f->w, &m, "");
    committed(&f->w);
    turn(f);                            /* its answer names the batch */
    memcpy(f->ids[n], f->w.batch, WIRE_ID);
    f->w.total = count;
    registered(&f->w);
    turn(f);
    return n;
}

static unsigned submit_to(struct fair *f, const char *handler, uint64_t count)
{
    Wire__Options o = WIRE__OPTIONS__INIT;
    return submit_with(f, handler, count, &o);
}

/* Takes the first n tasks of a span out of a worker's list; it goes when it is empty. */
static void leave(struct station *s, struct span *x, uint32_t n)
{
    x->first += n;
    x->count -= n;
    if (x->count > 0)
        return;
    size_t behind = s->n - (size_t)(x - s->at) - 1;
    memmove(x, x + 1, behind * sizeof *x);
    s->n--;
}

/* A worker says that these have ended, each after so long, and the sink that they are recorded. */
static void reports_end(struct fair *f, unsigned station, const struct span *x, uint32_t n, uint64_t each_us)
{
    memcpy(f->w.batch, f->ids[x->batch], WIRE_ID);
    finished_in(&f->w, peer_of(station), f->stations[station].lane, x->first, n, x->attempt, each_us);
    recorded(&f->w, peer_of(station), x->first, n, x->attempt, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);
    f->ended[x->batch] += n;
}

/* The next tasks that a worker holds end; then there is a turn. */
static void end(struct fair *f, unsigned station, uint64_t n, uint64_t each_us)
{
    struct station *s = &f->stations[station];
    while (n > 0 && s->n > 0) {
        uint32_t some = s->at[0].count < n ? s->at[0].count : (uint32_t)n;
        reports_end(f, station, &s->at[0], some, each_us);
        leave(s, &s->at[0], some);
        n -= some;
    }
    turn(f);
}

/* So many tasks end at a worker, one frame of tiny ones after the other. */
static void end_tiny(struct fair *f, unsigned station, uint64_t n)
{
    for (uint64_t some; n > 0; n -= some) {
        some = n < 100 ? n : 100;
        end(f, station, some, 100);
    }
}

/* ---- pools of workers that have nothing in common ---- */

#define TINY 0u
#define LONG 1u

/* Two pools: in one a batch of tiny tasks has had a hundred thousand, in the other one of long tasks has had two. */
static void drift_apart(struct fair *f, unsigned *tiny, unsigned *large)
{
    comes(f, TINY, 1, "cpu", "");
    comes(f, LONG, 1, "gpu", "");
    *tiny = submit_to(f, "cpu", 10000000);
    *large = submit_to(f, "gpu", 1000);
    end(f, LONG, 1, 10000000);
    end(f, LONG, 1, 10000000);
    end_tiny(f, TINY, 100000);
}

static void a_new_batch_of_long_tasks_shares_whatever_another_pool_has_had(void **state)
{
    struct fair *f = *state;
    unsigned a, g1, g2;
    drift_apart(f, &a, &g1);
    end_tiny(f, TINY, 100);                 /* the tiny ones were served last */
    g2 = submit_to(f, "gpu", 1000);
    uint64_t before = f->ended[g1];
    for (int n = 0; n < 50; n++) {
        end(f, LONG, 1, 10000000);
        end_tiny(f, TINY, 100);
    }
    assert_in_range(f->ended[g2], 20, 30);
    assert_in_range(f->ended[g1] - before, 20, 30);
    audit(&f->w);
}

/* As many tasks as the new batch has: both have their turn, and then the older one is alone again. */
static void a_small_new_batch_ends_beside_the_older_one(void **state)
{
    struct fair *f = *state;
    unsigned a, g1, g2;
    drift_apart(f, &a, &g1);
    end_tiny(f, TINY, 100);
    g2 = submit_to(f, "gpu", 10);
    uint64_t before = f->ended[g1];
    for (int n = 0; n < 50; n++)
        end(f, LONG, 1, 10000000);
    assert_int_equal(f->ended[g2], 10);
    assert_int_equal(f->ended[g1] - before, 40);
    audit(&f->w);
}

static void a_new_batch_of_tiny_tasks_starves_none_after_another_pool_was_served(void **state)
{
    struct fair *f = *state;
    unsigned a, g1, c;
    drift_apart(f, &a, &g1);
    end(f, LONG, 1, 10000000);              /* the long ones were served last */
    c = submit_to(f, "cpu", 10000000);
    uint64_t before = f->ended[a];
    end_tiny(f, TINY, 20000);
    assert_in_range(f->ended[a] - before, 7000, 13000);
    assert_in_range(f->ended[c], 7000, 13000);
    audit(&f->w);
}

/* Two handlers of the same worker: that one of them was not asked for in a while is not saved up. */
static void what_idled_does_not_starve_what_worked(void **state)
{
    struct fair *f = *state;
    comes(f, 0, 1, "x", "y");
    unsigned x = submit_to(f, "x", 100000);
    submit_to(f, "y", 1);
    for (int n = 0; n < 1000; n++)
        end(f, 0, 1, 1000000);
    unsigned y = submit_to(f, "y", 100000);
    uint64_t before = f->ended[x];
    for (int n = 0; n < 200; n++)
        end(f, 0, 1, 1000000);
    assert_in_range(f->ended[x] - before, 80, 120);
    assert_in_range(f->ended[y], 80, 120);
    audit(&f->w);
}

/* What flies below them is no measure for those above. */
static void what_a_low_priority_has_had_is_nothing_to_high_ones(void **state)
{
    struct fair *f = *state;
    Wire__Options high = WIRE__OPTIONS__INIT;
    high.priority = 1;
    comes(f, TINY, 1, "cpu", "");
    comes(f, LONG, 1, "gpu", "cpu");
    unsigned h1 = submit_with(f, "gpu", 1000, &high);
    submit_to(f, "cpu", 10000000);
    end(f, LONG, 1, 10000000);
    end(f, LONG, 1, 10000000);
    end_tiny(f, TINY, 10000);
    unsigned h2 = submit_with(f, "gpu", 1000, &high);
    uint64_t before = f->ended[h1];
    for (int n = 0; n < 50; n++)
        end(f, LONG, 1, 10000000);
    assert_in_range(f->ended[h1] - before, 20, 30);
    assert_in_range(f->ended[h2], 20, 30);
    audit(&f->w);
}

/* ---- weights ---- */

/* So many tasks end at one slot, of two batches of these weights: the first one, and the second. */
static void weighted(struct fair *f, uint32_t first, uint32_t second, int tasks)
{
    Wire__Options a = WIRE__OPTIONS__INIT, b = WIRE__OPTIONS__INIT;
    a.weight = first;
    b.weight = second;
    submit_with(f, "", 100000, &a);
    submit_with(f, "", 100000, &b);
    comes(f, 0, 1, "", "");
    for (int n = 0; n < tasks; n++)
        end(f, 0, 1, 1000000);
    audit(&f->w);
}

/* One task at a time: the ratio of large weights is kept like that of small ones. */
static void large_weights_share_as_they_say(void **state)
{
    struct fair *f = *state;
    weighted(f, 1000000, 600000, 4000);
    assert_in_range(f->ended[1], 1500 * 98 / 100, 1500 * 102 / 100);
    assert_in_range(f->ended[0], 2500 * 98 / 100, 2500 * 102 / 100);
}

/* The smallest weight beside the largest one: it has little, and in its turn. */
static void the_smallest_weight_is_served_beside_the_largest(void **state)
{
    struct fair *f = *state;
    weighted(f, 1000, 1, 4004);
    assert_in_range(f->ended[1], 3, 6);
    assert_in_range(f->ended[0], 3998, 4001);
}

/* ---- recalls ---- */

/* A worker does as a recall wants: it gives back the last task that it holds, and says so. */
static void gives_back(struct fair *f, unsigned station)
{
    struct station *s = &f->stations[station];
    struct span *x = &s->at[s->n - 1];
    assert_true(s->n > 0);
    memcpy(f->w.batch, f->ids[x->batch], WIRE_ID);
    returned(&f->w, peer_of(station), s->lane, x->first + x->count - 1, 1, x->attempt);
    s->n -= --x->count == 0;
    confirmed(&f->w, peer_of(station), s->lane, s->recall, 1, 0);
}

static void says_started(struct fair *f, unsigned station, const struct span *x, uint32_t n)
{
    memcpy(f->w.batch, f->ids[x->batch], WIRE_ID);
    started(&f->w, peer_of(station), f->stations[station].lane, x->first, n, x->attempt);
}

/* Two tasks at a worker of one slot: one runs, one waits. An idle worker comes. */
static void one_waits_and_another_comes(struct fair *f, unsigned busy, unsigned idle, const char *handler)
{
    comes(f, busy, 1, handler, "");
    submit_to(f, handler, 2);
    assert_int_equal(f->stations[busy].assigned, 2);
    says_started(f, busy, &f->stations[busy].at[0], 1);
    comes(f, idle, 1, handler, "");
}

/* What one kind of workers asks back, and doesn't get, is nothing that another kind waits for. */
static void a_recall_that_is_not_answered_is_no_reason_for_other_workers(void **state)
{
    struct fair *f = *state;
    one_waits_and_another_comes(f, 0, 1, "b");
    assert_int_equal(f->stations[0].recalls, 1);
    one_waits_and_another_comes(f, 2, 3, "a");
    assert_int_equal(f->stations[2].recalls, 1);
    assert_int_equal(f->stations[0].recalls, 1);        /* once is enough */
    audit(&f->w);
}

/* Those that can run both don't ask for the same twice. */
static void a_recall_is_a_reason_for_workers_that_can_run_the_same(void **state)
{
    struct fair *f = *state;
    one_waits_and_another_comes(f, 0, 1, "b");
    comes(f, 2, 1, "b", "");
    comes(f, 3, 2, "b", "c");
    submit_to(f, "c", 1);
    assert_int_equal(f->stations[3].assigned, 1);       /* one of its slots is idle */
    for (int n = 0; n < 10; n++)
        turn(f);
    assert_int_equal(f->stations[0].recalls, 1);
    gives_back(f, 0);
    turn(f);
    assert_int_equal(f->stations[1].assigned + f->stations[2].assigned + f->stations[3].assigned, 1 + 1);
    audit(&f->w);
}

static void beat(struct fair *f, ledger_peer peer, uint64_t session, uint64_t lane, uint64_t sequence)
{
    Wire__Heartbeat h = WIRE__HEARTBEAT__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    h.lane_sequence = sequence;
    m.what_case = WIRE__UPWARD__WHAT_HEARTBEAT;
    m.heartbeat = &h;
    upward(&f->w, peer, session, lane, &m);
}

/* The sink and a worker live; it has read all that was sent. */
static void lives(struct fair *f, unsigned station)
{
    beat(f, SINK, 900, 0, 0);
    beat(f, peer_of(station), peer_of(station), lane_of(f->stations[station].lane), f->stations[station].sent);
}

/* A second worker, and the first one's lane stands still while its heartbeats come; then it breaks, and is opened anew. */
static void swallows(struct fair *f)
{
    unsigned first = f->stations[0].lane;
    comes(f, 1, 1, "", "");
    for (int seconds = 8; seconds > 0; seconds--) {
        beat(f, peer_of(0), peer_of(0), lane_of(first), 1);
        lives(f, 1);
        pass(&f->w, NS_PER_S);
    }
    ledger_lane(f->w.ledger, f->w.now, lane_of(first), false);
    f->stations[0].n = 0;
    comes(f, 0, 2, "", "");
}

/* One task runs at the other worker, one waits there; the one to whom large messages do not get is idle. What is asked back for
 * it would go to where it came from. */
static void nothing_is_recalled_for_who_swallows_large_messages(void **state)
{
    struct fair *f = *state;
    comes(f, 0, 2, "", "");
    submit_to(f, "", 2);
    assert_int_equal(f->stations[0].assigned, 2);
    swallows(f);
    assert_int_equal(f->stations[1].assigned, 2);
    says_started(f, 1, &f->stations[1].at[0], 1);
    for (uint64_t n = 0, answered = 0; n < 50; n++) {
        f->w.now.ns += MS;
        turn(f);
        if (f->stations[1].recalls > answered && f->stations[1].n > 0) {
            gives_back(f, 1);
            answered = f->stations[1].recalls;
            turn(f);
        }
    }
    assert_in_range(f->stations[1].recalls, 0, 2);
    audit(&f->w);
}

/* ---- how much at once ---- */

#define SLOTS 4u

struct slot { struct span task; bool busy; mono_t until; };

/* A millisecond of a worker whose tasks take a hundred: begins and ends are told at once. */
static void works(struct fair *f, unsigned station, struct slot slots[SLOTS])
{
    struct station *s = &f->stations[station];
    for (unsigned n = 0; n < SLOTS; n++) {
        struct slot *slot = &slots[n];
        if (slot->busy && mono_reached(f->w.now, slot->until)) {
            reports_end(f, station, &slot->task, 1, 100000);
            slot->busy = false;
        }
        if (slot->busy || s->n == 0)
            continue;
        *slot = (struct slot){s->at[0], true, mono_add(f->w.now, 100 * MS)};
        says_started(f, station, &slot->task, 1);
        leave(s, &s->at[0], 1);
    }
}

/* Attempts that are at a worker. */
static uint32_t held_at(const struct fair *f, unsigned station, const struct slot slots[SLOTS])
{
    const struct station *s = &f->stations[station];
    uint32_t held = 0;
    for (unsigned n = 0; n < s->n; n++)
        held += s->at[n].count;
    for (unsigned n = 0; n < SLOTS; n++)
        held += slots[n].busy;
    return held;
}

/* One of two workers is slow to open its lane, once: it was busy with something else. It is not far away for that. */
static void a_slow_beginning_is_no_long_way(void **state)
{
    struct fair *f = *state;
    struct slot slots[2][SLOTS] = {0};
    for (unsigned n = 0; n < 2; n++) {
        hello(f, n, SLOTS, "", "");
        ledger_lane(f->w.ledger, f->w.now, lane_of(f->stations[n].lane), true);
    }
    for (unsigned n = 0; n < 2; n++) {
        f->w.now.ns += n == 0 ? MS : 1499 * MS;
        worker_opened(&f->w, peer_of(n), f->stations[n].lane);
    }
    submit_to(f, "", 1000000);
    for (unsigned ms = 0; ms < 12000; ms++) {
        f->w.now.ns += MS;
        turn(f);
        for (unsigned n = 0; n < 2; n++) {
            works(f, n, slots[n]);
            if (ms % 1000 == 0)
                lives(f, n);
        }
    }
    turn(f);
    assert_in_range(held_at(f, 0, slots[0]), SLOTS, 2 * SLOTS);
    assert_in_range(held_at(f, 1, slots[1]), SLOTS, 4 * SLOTS);
    audit(&f->w);
}

/* ---- a task on its last chance ---- */

#define FIRST 0u
#define WIDE 1u
#define NARROW 2u

/* Its batch may have one attempt, and has one that takes long: the worker that was to be emptied for the other task of it. That
 * one was at a worker that was lost, and one more would judge it. */
static unsigned one_flies_and_one_has_its_last_chance(struct fair *f)
{
    Wire__Options limited = WIRE__OPTIONS__INIT;
    limited.max_running = 1;
    limited.priority = 1;
    comes(f, FIRST, 1, "m", "");
    unsigned m = submit_with(f, "m", 2, &limited);
    assert_int_equal(f->stations[FIRST].assigned, 1);
    says_started(f, FIRST, &f->stations[FIRST].at[0], 1);
    comes(f, WIDE, 4, "m", "p");
    comes(f, NARROW, 1, "m", "p");
    submit_to(f, "p", 100000);
    ledger_lane(f->w.ledger, f->w.now, lane_of(f->stations[FIRST].lane), false);
    f->stations[FIRST].n = 0;
    pass(&f->w, 2 * NS_PER_S);
    end(f, WIDE, 1, 1000000);
    const struct span *last = &f->stations[WIDE].at[f->stations[WIDE].n - 1];
    assert_int_equal(last->batch, m);
    assert_int_equal(last->first, 1);
    says_started(f, WIDE, last, 1);
    return m;
}

/* All that a worker holds ends, but what waits there and is asked back. */
static void empties(struct fair *f, unsigned station, uint32_t slots)
{
    struct station *s = &f->stations[station];
    uint64_t held = 0;
    if (s->recalls > 0 && s->n > slots)
        gives_back(f, station);
    s->recalls = 0;
    for (unsigned n = 0; n < s->n; n++)
        held += s->at[n].count;
    end(f, station, held, 1000000);
}

static void no_worker_is_kept_empty_for_what_may_not_run(void **state)
{
    struct fair *f = *state;
    one_flies_and_one_has_its_last_chance(f);
    uint64_t before = f->stations[NARROW].assigned;
    for (int n = 0; n < 10; n++) {
        empties(f, NARROW, 1);
        f->w.now.ns += 100 * MS;
        turn(f);
    }
    assert_in_range(f->stations[NARROW].assigned - before, 10, 30);
    audit(&f->w);
}

/* When it may run, it has a worker for itself. */
static void the_last_chance_comes_when_the_limit_allows_it(void **state)
{
    struct fair *f = *state;
    unsigned m = one_flies_and_one_has_its_last_chance(f);
    for (int n = 0; n < 20 && f->ended[m] < 2; n++) {
        empties(f, NARROW, 1);
        empties(f, WIDE, 4);
        f->w.now.ns += 100 * MS;
        turn(f);
    }
    assert_int_equal(f->ended[m], 2);
    audit(&f->w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_fair, teardown_fair)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_new_batch_of_long_tasks_shares_whatever_another_pool_has_had),
        TEST(a_small_new_batch_ends_beside_the_older_one),
        TEST(a_new_batch_of_tiny_tasks_starves_none_after_another_pool_was_served),
        TEST(what_idled_does_not_starve_what_worked),
        TEST(what_a_low_priority_has_had_is_nothing_to_high_ones),
        TEST(large_weights_share_as_they_say),
        TEST(the_smallest_weight_is_served_beside_the_largest),
        TEST(a_recall_that_is_not_answered_is_no_reason_for_other_workers),
        TEST(a_recall_is_a_reason_for_workers_that_can_run_the_same),
        TEST(nothing_is_recalled_for_who_swallows_large_messages),
        TEST(a_slow_beginning_is_no_long_way),
        TEST(no_worker_is_kept_empty_for_what_may_not_run),
        TEST(the_last_chance_comes_when_the_limit_allows_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
