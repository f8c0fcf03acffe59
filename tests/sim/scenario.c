/* What a seed means: how many workers and slots, which batches with which options, and which faults at
 * which times. After `end_of_faults` everything is healed and started; then all must come to its end. */
#include "tests/sim/sim.h"

#include <stdio.h>
#include <string.h>

static char empty[] = "";
static char word_one[] = "true";
static char *words[] = {word_one};

/* ---- batches ---- */

static uint64_t choose_total(struct world *w)
{
    switch (below(w, 12)) {
    case 0:  return 1;
    case 1:  return 300 + below(w, 600);
    case 2:  return one_in(w, 6) ? 4000 + below(w, 1000) : 100 + below(w, 200);
    default: return 2 + below(w, 80);
    }
}

static void choose_retry(struct world *w, struct plan *p)
{
    wire__retry_rule__init(&p->retry);
    if (one_in(w, 2))
        return;
    p->retry.retries = (uint32_t)between(w, 1, 4);
    p->retry.on_failed = !one_in(w, 5);
    p->retry.on_deadline_exceeded = one_in(w, 2);
    p->retry.backoff_us = one_in(w, 3) ? 0 : (uint64_t)between(w, 10000, 1500000);
    p->retry.backoff_factor_milli = one_in(w, 2) ? 2000 : 0;
    p->retry.backoff_max_us = 4000000;
    p->options.retry = &p->retry;
}

static void choose_bounds(struct world *w, struct plan *p)
{
    wire__micros__init(&p->deadline);
    wire__micros__init(&p->timeout);
    p->options.grace_us = (uint64_t)between(w, 0, 2000000);
    if (p->total >= 300 || one_in(w, 2)) {       /* more than the slots can do in time */
        p->deadline.us = (uint64_t)between(w, one_in(w, 4) ? 1000 : 300000, 25000000);
        p->options.deadline = &p->deadline;
        p->may_get_stuck = one_in(w, 2);
        p->never_sealed = one_in(w, 8);
    }
    if (one_in(w, 3)) {
        p->timeout.us = (uint64_t)between(w, 20000, 3000000);
        p->options.timeout = &p->timeout;
        p->may_get_stuck |= one_in(w, 2);
    }
    if (one_in(w, 8))
        p->options.min_runtime_us = (uint64_t)between(w, 1000, 400000);
}

static void choose_plan(struct world *w, unsigned i)
{
    struct plan *p = &w->plans[i];
    p->used = true;
    wire__options__init(&p->options);
    p->total = choose_total(w);
    p->submit_at = w->now + between(w, 0, one_in(w, 2) ? 300 * MS : 8 * S);
    for (size_t k = 0; k < WIRE_ID; k++)
        p->submission[k] = (uint8_t)chance(w);
    p->with_key = one_in(w, 4);
    snprintf(p->key, sizeof p->key, "key %u", i);
    p->options.name = empty;
    p->options.weight = (uint32_t)between(w, 1, 4);
    p->options.priority = one_in(w, 4) ? (int32_t)between(w, -2, 2) : 0;
    p->options.max_running = p->total < 150 && one_in(w, 5) ? (uint64_t)between(w, 1, 4) : 0;
    p->options.max_output = 1000;
    if (one_in(w, 3)) {
        p->options.handler = (char *)(uintptr_t)(one_in(w, 12) ? "unheard-of" : "resize");
        if (strcmp(p->options.handler, "unheard-of") == 0)
            p->total = 3;
    } else {
        p->options.command = words;
        p->options.n_command = 1;
    }
    choose_retry(w, p);
    choose_bounds(w, p);
    if (one_in(w, 4)) {
        p->range = true;
        wire__range__init(&p->numbers);
        p->numbers.count = p->total;
        p->numbers.step = 1;
        p->options.range = &p->numbers;
        p->never_sealed = false;
    }
    p->seal_apart = one_in(w, 3);
    if (one_in(w, 3) || strcmp(p->options.handler, "unheard-of") == 0) {
        p->cancel_after = between(w, MS, one_in(w, 2) ? 500 * MS : 12 * S);
        p->whole_cancel = one_in(w, 2) || strcmp(p->options.handler, "unheard-of") == 0;
    }
    if (p->options.deadline != NULL && one_in(w, 4)) {
        p->extend_after = between(w, MS, 2 * S);
        p->extend_us = (uint64_t)between(w, 100000, 15000000);
    }
}

/* ---- faults ---- */

static void start_again(struct world *w, struct event *e)
{
    struct process *p = e->p;
    disturb_end(w, p);
    process_start(p);
}

static void crash(struct world *w, struct process *p, int64_t down)
{
    if (!p->alive)
        return;
    process_crash(p, "SIGKILL");
    disturb_begin(w, p);
    after(w, down, NULL, start_again)->p = p;
}

static struct process *some_process(struct world *w)
{
    switch (below(w, 8)) {
    case 0:
    case 1:  return &w->vent.p;
    case 2:
    case 3:  return &w->sink.p;
    case 4:  return &w->client.p;
    default: return &w->workers[below(w, w->n_workers)].p;
    }
}

static int64_t down_time(struct world *w) { return one_in(w, 2) ? between(w, MS, 500 * MS) : between(w, 200 * MS, 7 * S); }

/* ---- partitions ---- */

static void heal(struct world *w, struct event *e)
{
    bool central = w->all[e->a]->role != ROLE_WORKER && w->all[e->b]->role != ROLE_WORKER;
    w->cut[e->a][e->b] = w->cut[e->b][e->a] = false;
    if (central)
        disturb_end(w, NULL);
    trace(w, "net", "%s and %s hear each other again", w->all[e->a]->name, w->all[e->b]->name);
    links_pump(w);
}

static void partition(struct world *w)
{
    struct process *a = some_process(w), *b = one_in(w, 2) ? &w->vent.p : &w->sink.p;
    unsigned ways = (unsigned)between(w, 1, 3);
    if (a == b || w->cut[a->number][b->number] || w->cut[b->number][a->number])
        return;
    int64_t time = one_in(w, 2) ? between(w, 10 * MS, 2 * S) : between(w, S, 14 * S);
    w->cut[a->number][b->number] = ways & 1;
    w->cut[b->number][a->number] = ways & 2;
    if (a->role != ROLE_WORKER)
        disturb_begin(w, NULL);
    trace(w, "net", "nothing passes between %s and %s (ways %u) for %" PRId64 " ms", a->name, b->name, ways, time / MS);
    struct event *e = after(w, time, NULL, heal);
    e->a = a->number;
    e->b = b->number;
}

/* ---- disks ---- */

static void has_room(struct world *w, struct event *e)
{
    struct disk *d = e->p;
    if (d->full)
        disk_full(d, false);
    disturb_end(w, NULL);
    trace(w, d->owner->name, "its disk has room");
}

static void fill_disk(struct world *w)
{
    struct disk *d = one_in(w, 2) ? &w->vent.disk : &w->sink.disk;
    if (d->full || !d->owner->alive || d->owner->frozen)
        return;
    trace(w, d->owner->name, "its disk is full");
    disturb_begin(w, NULL);
    disk_full(d, true);
    after(w, between(w, 50 * MS, 4 * S), NULL, has_room)->p = d;
}

/* ---- drains ---- */

static void start_after_drain(struct world *w, struct event *e)
{
    struct process *p = e->p;
    if (p->alive && p->life == e->a) {          /* still leaving */
        struct event *again = after(w, 500 * MS, NULL, start_after_drain);
        again->p = p;
        again->a = e->a;
        return;
    }
    disturb_end(w, p);
    process_start(p);
}

static void drain(struct world *w)
{
    struct process *p = some_process(w);
    if (!p->alive || p->frozen || p->stopping || p->role == ROLE_CLIENT)
        return;
    disturb_begin(w, p);
    switch (p->role) {
    case ROLE_VENT: vent_drain(&w->vent); break;
    case ROLE_SINK: sink_drain(&w->sink); break;
    default:        worker_drain((struct worker *)p);
    }
    struct event *e = after(w, between(w, 100 * MS, 3 * S), NULL, start_after_drain);
    e->p = p;
    e->a = p->life;
}

static void unstalled(struct world *w, struct event *e)
{
    (void)e;
    disturb_end(w, NULL);
}

static void hurt_link(struct world *w)
{
    struct link *l = link_random(w);
    if (l == NULL)
        return;
    bool central = link_end(l, 0)->role != ROLE_WORKER;
    if (one_in(w, 2)) {
        w->disturbed_at = central ? w->now : w->disturbed_at;
        link_break(l);
        return;
    }
    int64_t ns = between(w, 100 * MS, 14 * S);
    link_stall(l, ns);
    if (central) {
        disturb_begin(w, NULL);
        after(w, ns, NULL, unstalled);
    }
}

static void fault(struct world *w, struct event *e)
{
    (void)e;
    switch (below(w, 13)) {
    case 0:
    case 1:
    case 2:
        crash(w, some_process(w), down_time(w));
        break;
    case 3: {
        struct process *a = some_process(w), *b = some_process(w);
        crash(w, a, down_time(w));
        crash(w, b, down_time(w));
        break;
    }
    case 4: {                           /* again while it recovers */
        struct process *p = some_process(w);
        int64_t down = between(w, MS, 300 * MS);
        crash(w, p, down);
        after(w, down + between(w, 0, 3 * S), NULL, fault);
        break;
    }
    case 5:
    case 6:
    case 11: hurt_link(w); break;
    case 7:
    case 8:  partition(w); break;
    case 9:  process_freeze(some_process(w), one_in(w, 2) ? between(w, 100 * MS, 3 * S) : between(w, 2 * S, 13 * S)); break;
    case 10: fill_disk(w); break;
    default: drain(w); break;
    }
}

/* ---- the end ---- */

static void watch(struct world *w, struct event *e)
{
    (void)e;
    bool idle = client_is_done(&w->client);
    for (unsigned i = 0; i < w->n_workers && idle; i++) {
        struct agent_counts c;
        if (w->workers[i].agent == NULL)
            continue;
        agent_count(w->workers[i].agent, now_of(w), &c);
        idle = c.busy == 0 && c.queued == 0 && c.unreleased == 0;
    }
    if (idle) {
        check_end(w);
        w->over = true;
    } else {
        after(w, S, NULL, watch);
    }
}

static void begin(struct world *w, struct event *e)
{
    (void)w;
    process_start(e->p);
}

void scenario_make(struct world *w)
{
    w->vent.disk.owner = &w->vent.p;
    w->sink.disk.owner = &w->sink.p;
    w->n_workers = (unsigned)between(w, 1, MAX_WORKERS);
    w->vent.disk.speed = between(w, 100 * US, 4 * MS);
    w->sink.disk.speed = between(w, 100 * US, 4 * MS);
    for (unsigned i = 0; i < w->n_workers; i++)
        w->workers[i].slots = (uint32_t)between(w, 1, MAX_SLOTS);
    unsigned n_plans = (unsigned)between(w, 1, MAX_PLANS);
    for (unsigned i = 0; i < n_plans; i++)
        choose_plan(w, i);
    for (unsigned i = 0; i < 3 + w->n_workers; i++)
        after(w, between(w, 0, 600 * MS), NULL, begin)->p = w->all[i];
    int64_t span = between(w, 3 * S, 30 * S);
    unsigned n_faults = one_in(w, 6) ? 0 : (unsigned)between(w, 1, one_in(w, 8) ? 40 : 9);
    for (unsigned i = 0; i < n_faults; i++)
        after(w, between(w, 100 * MS, span), NULL, fault);
    w->end_of_faults = w->now + span + 30 * S;
    w->horizon = w->end_of_faults + 700 * S;
    after(w, span + 30 * S, NULL, watch);
}
