/* What goes wrong, and when. Everything is healed by w->end_of_faults. */
#include "tests/sim/sim.h"

#include <string.h>

/* Nothing is judged as over before this is. */
static void lasts(struct world *w, int64_t ns)
{
    int64_t end = w->now + ns + 30 * S;
    if (end <= w->end_of_faults)
        return;
    w->horizon += end - w->end_of_faults;
    w->end_of_faults = end;
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

/* ---- kills ---- */

static void start_again(struct world *w, struct event *e)
{
    struct process *p = e->p;
    disturb_end(w, p);
    process_start(p);
}

static struct disk *disk_of(struct process *p)
{
    return p->role == ROLE_VENT ? &p->world->vent.disk : p->role == ROLE_SINK ? &p->world->sink.disk : NULL;
}

void fault_kill(struct world *w, struct process *p, const char *why, int64_t down)
{
    static const enum cover kinds[] = {[ROLE_VENT] = COVER_KILL_VENT, [ROLE_SINK] = COVER_KILL_SINK, [ROLE_CLIENT] = COVER_KILL_CLIENT,
                                       [ROLE_WORKER] = COVER_KILL_WORKER};
    if (!p->alive)
        return;
    cover(w, kinds[p->role]);
    if (disk_of(p) != NULL)
        disk_died(disk_of(p));
    process_crash(p, why);
    disturb_begin(w, p);
    after(w, down, NULL, start_again)->p = p;
    lasts(w, down);
}

static void kill_one(struct world *w) { fault_kill(w, some_process(w), "SIGKILL", down_time(w)); }

static void kill_two(struct world *w)
{
    kill_one(w);
    kill_one(w);
}

static void kill_again(struct world *w, struct event *e)
{
    struct process *p = e->p;
    if (p->alive)
        cover(w, COVER_KILL_RECOVERING);
    fault_kill(w, p, "SIGKILL while it recovers", down_time(w));
}

static void kill_twice(struct world *w)
{
    struct process *p = some_process(w);
    int64_t down = between(w, MS, 300 * MS);
    fault_kill(w, p, "SIGKILL", down);
    after(w, down + (one_in(w, 2) ? between(w, 0, 20 * MS) : between(w, 0, 3 * S)), NULL, kill_again)->p = p;
}

/* At one of its waits for its disk. */
static void kill_at_disk(struct world *w)
{
    struct process *p = one_in(w, 2) ? &w->vent.p : &w->sink.p;
    struct disk *d = disk_of(p);
    d->armed = (enum await)between(w, AWAIT_STAGED, AWAITS - 1);
    d->armed_in = 1 + (unsigned)below(w, one_in(w, 2) ? 3 : 30);
    /* On a fast disk no flush ever waits for another. */
    if ((d->armed == AWAIT_FLUSHED || d->armed == AWAIT_PART) && d->speed < 10 * MS)
        d->speed = between(w, 4 * MS, 12 * MS);
    p->down = down_time(w);
}

/* Between two effects of one event: some messages are sent, the others are not. */
static void kill_midway(struct world *w)
{
    struct process *p = some_process(w);
    p->doom_in = 1 + below(w, 40);
    p->down = down_time(w);
}

static void disk_error(struct world *w)
{
    struct process *p = one_in(w, 2) ? &w->vent.p : &w->sink.p;
    disk_of(p)->fail_next = true;
    p->down = between(w, 50 * MS, 3 * S);
}

/* ---- power ---- */

static void power_off(struct world *w, struct process *p)
{
    bool lived = p->alive;
    if (lived)
        fault_kill(w, p, "its host lost power", one_in(w, 2) ? between(w, 2 * MS, 500 * MS) : between(w, S, 30 * S));
    process_reboot(p);
}

static void power_cut(struct world *w)
{
    if (one_in(w, 2)) {
        cover(w, COVER_POWER_ALL);
        for (unsigned i = 0; i < w->n_all; i++)
            if (w->all[i]->life > 0)
                power_off(w, w->all[i]);
        return;
    }
    struct process *p = some_process(w);
    if (p->life == 0)
        return;
    cover(w, COVER_POWER_ONE);
    links_vanish_of(p, between(w, 0, 15 * S));
    power_off(w, p);
}

static void step_wall(struct world *w)
{
    cover(w, COVER_WALL_STEP);
    w->wall_stepped = true;
    w->wall_offset += one_in(w, 3) ? between(w, -10 * S, 0) : between(w, -100 * MS, one_in(w, 2) ? S : 3600 * S);
    if (w->wall_offset > w->wall_most)
        w->wall_most = w->wall_offset;
    trace(w, "world", "the wall clock is %" PRId64 " ms off", w->wall_offset / MS);
}

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

static void cover_cut(struct world *w, const struct process *a, const struct process *b, unsigned ways)
{
    cover(w, ways == 3 ? COVER_CUT_TWO_WAYS : COVER_CUT_ONE_WAY);
    if (a->role == ROLE_CLIENT)
        cover(w, COVER_CUT_VENT_CLIENT);
    else if (a->role != ROLE_WORKER)
        cover(w, COVER_CUT_VENT_SINK);
    else
        cover(w, b->role == ROLE_VENT ? COVER_CUT_VENT_WORKER : COVER_CUT_SINK_WORKER);
}

static void partition(struct world *w)
{
    struct process *a = some_process(w), *b = one_in(w, 2) || a->role == ROLE_CLIENT ? &w->vent.p : &w->sink.p;
    unsigned ways = (unsigned)between(w, 1, 3);
    if (a == b || w->cut[a->number][b->number] || w->cut[b->number][a->number])
        return;
    int64_t time = one_in(w, 2) ? between(w, 10 * MS, 2 * S) : between(w, S, one_in(w, 8) ? 60 * S : 14 * S);
    w->cut[a->number][b->number] = ways & 1;
    w->cut[b->number][a->number] = ways & 2;
    if (a->role != ROLE_WORKER)
        disturb_begin(w, NULL);
    cover_cut(w, a, b, ways);
    trace(w, "net", "nothing passes between %s and %s (ways %u) for %" PRId64 " ms", a->name, b->name, ways, time / MS);
    struct event *e = after(w, time, NULL, heal);
    e->a = a->number;
    e->b = b->number;
    lasts(w, time);
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
        cover(w, COVER_LINK_BROKEN);
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

/* ---- standing still ---- */

static void freeze(struct world *w)
{
    struct process *p = some_process(w);
    int64_t ns = one_in(w, 2) ? between(w, 100 * MS, 3 * S) : one_in(w, 6) ? between(w, 13 * S, 60 * S) : between(w, 2 * S, 13 * S);
    if (!p->alive || p->frozen)
        return;
    cover(w, ns > 13 * S ? COVER_FREEZE_LONG : COVER_FREEZE);
    if (one_in(w, 4)) {                 /* its host sleeps: its kernel answers nobody either */
        cover(w, COVER_SUSPEND);
        links_stall_of(p, ns);
    }
    process_freeze(p, ns);
    lasts(w, ns);
}

/* ---- disks ---- */

static void has_room(struct world *w, struct event *e)
{
    struct disk *d = e->p;
    if (d->owner->frozen) {
        after(w, S, NULL, has_room)->p = d;
        return;
    }
    if (d->full)
        disk_full(d, false);
    disturb_end(w, NULL);
    trace(w, d->owner->name, "its disk has room");
}

static bool fill(struct world *w, struct disk *d, int64_t ns)
{
    if (d->full || d->owner->frozen)
        return false;
    cover(w, d->owner->role == ROLE_SINK ? COVER_FULL_STORE : COVER_FULL_JOURNAL);
    if (ns > 5 * S)
        cover(w, COVER_FULL_LONG);
    trace(w, d->owner->name, "its disk is full");
    disturb_begin(w, NULL);
    disk_full(d, true);
    after(w, ns, NULL, has_room)->p = d;
    lasts(w, ns);
    return true;
}

static int64_t full_time(struct world *w) { return one_in(w, 3) ? between(w, 4 * S, 70 * S) : between(w, 50 * MS, 4 * S); }

static void fill_disk(struct world *w)
{
    bool both = one_in(w, 4), first = one_in(w, 2);
    if (both && fill(w, &w->vent.disk, full_time(w)) && fill(w, &w->sink.disk, full_time(w)))
        cover(w, COVER_FULL_BOTH);
    else if (!both)
        fill(w, first ? &w->vent.disk : &w->sink.disk, full_time(w));
}

/* ---- orderly leaving ---- */

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

static void drain_one(struct world *w, struct process *p, int64_t away)
{
    cover(w, COVER_DRAIN);
    disturb_begin(w, p);
    switch (p->role) {
    case ROLE_VENT: vent_drain(&w->vent); break;
    case ROLE_SINK: sink_drain(&w->sink); break;
    default:
        if (mutate(w, MUTANT_DRAIN_KILLS))
            process_crash(p, "SIGTERM kills it");
        else
            worker_drain((struct worker *)p);
    }
    struct event *e = after(w, away, NULL, start_after_drain);
    e->p = p;
    e->a = p->life;
    lasts(w, away + 30 * S);
}

static bool can_drain(const struct process *p) { return p->alive && !p->frozen && !p->stopping && p->role != ROLE_CLIENT; }

static void drain(struct world *w)
{
    struct process *p = some_process(w);
    if (can_drain(p))
        drain_one(w, p, between(w, 100 * MS, 3 * S));
}

/* Everything in turn, each when the one before is back: e->a is whose turn it is, e->b whether it was told. */
static void roll_on(struct world *w, struct event *e)
{
    struct process *p = w->all[e->a];
    uint64_t n = 3 + w->n_workers;
    bool next = p->role == ROLE_CLIENT || (e->b && p->alive && !p->stopping), told = e->b;
    if (next && e->a + 1 == n) {
        w->rolls--;
        if (w->rolls == 0)
            return;
    }
    if (!next && !told && can_drain(p)) {
        drain_one(w, p, between(w, 50 * MS, S));
        told = true;
    }
    struct event *on = after(w, next ? between(w, 50 * MS, 2 * S) : 200 * MS, NULL, roll_on);
    on->a = next ? (e->a + 1) % n : e->a;
    on->b = !next && told;
    lasts(w, 5 * S);
}

static void roll(struct world *w)
{
    if (w->rolls > 0)
        return;
    cover(w, COVER_ROLL);
    w->rolls = (unsigned)between(w, 1, 3);
    after(w, 0, NULL, roll_on);
}

static void lose_sink(struct world *w)
{
    if (!w->sink.p.alive)
        return;
    cover(w, COVER_SINK_GONE);
    fault_kill(w, &w->sink.p, "gone for a minute", between(w, 60 * S, 70 * S));
}

/* ---- which ---- */

static const struct { unsigned weight; void (*strike)(struct world *w); } kinds[] = {
    {6, kill_one}, {2, kill_two}, {3, kill_twice}, {6, kill_at_disk}, {4, kill_midway}, {1, disk_error}, {2, power_cut}, {1, step_wall},
    {4, partition}, {6, hurt_link}, {3, freeze}, {3, fill_disk}, {3, drain},
};

static void fault(struct world *w, struct event *e)
{
    (void)e;
    unsigned all = 0;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        all += kinds[i].weight;
    uint64_t choice = below(w, all);
    size_t i = 0;
    for (; choice >= kinds[i].weight; i++)
        choice -= kinds[i].weight;
    kinds[i].strike(w);
}

static void begin_roll(struct world *w, struct event *e)
{
    (void)e;
    roll(w);
}

static void begin_lack(struct world *w, struct event *e)
{
    (void)e;
    lose_sink(w);
}

void faults_make(struct world *w, int64_t span)
{
    unsigned n = 0;
    if (w->theme == THEME_STORM)
        n = (unsigned)between(w, 1, one_in(w, 8) ? 40 : 9);
    if (w->theme == THEME_BACKLOG)
        n = (unsigned)between(w, 0, 4);
    for (unsigned i = 0; i < n; i++)
        after(w, between(w, 100 * MS, span), NULL, fault);
    if (w->theme == THEME_GENTLE || (w->theme == THEME_STORM && one_in(w, 20)))
        after(w, between(w, 500 * MS, span / 2), NULL, begin_roll);
    if (w->theme == THEME_STORM && one_in(w, 25))
        after(w, between(w, 500 * MS, span), NULL, begin_lack);
}
