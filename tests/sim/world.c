/* The clock and the queue of events; chance; processes that start, crash and stand still. */
#include "tests/sim/sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bug.h"

#define MOST_EVENTS  UINT64_C(4000000)
#define MOST_SPINS   20000u
#define LINES        400u
#define MOST_SECONDS 60u              /* of real time: a core that never returns stops virtual time */

volatile uint64_t running_seed;

/* ---- chance: xoshiro256**, seeded by splitmix64 (Blackman and Vigna) ---- */

static uint64_t rotate(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

uint64_t chance(struct world *w)
{
    uint64_t *s = w->random, result = rotate(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate(s[3], 45);
    return result;
}

static void chance_seed(struct world *w)
{
    uint64_t x = w->seed;
    for (size_t i = 0; i < 4; i++) {
        uint64_t z = (x += UINT64_C(0x9E3779B97F4A7C15));
        z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
        w->random[i] = z ^ (z >> 31);
    }
}

uint64_t below(struct world *w, uint64_t n) { return n == 0 ? 0 : chance(w) % n; }
int64_t between(struct world *w, int64_t low, int64_t high) { return low + (int64_t)below(w, (uint64_t)(high - low) + 1); }
bool one_in(struct world *w, unsigned n) { return below(w, n) == 0; }

/* ---- clocks: each host counts from its own boot, a little too fast or too slow ---- */

mono_t clock_of(const struct process *p)
{
    int64_t up = p->world->now - p->booted;
    return (mono_t){up + up / NS_PER_S * p->drift + up % NS_PER_S * p->drift / NS_PER_S};
}

wall_t wall_of(const struct world *w) { return (wall_t){w->now + 1700000000 * S + w->wall_offset}; }

/* ---- what is told ---- */

void trace(struct world *w, const char *who, const char *format, ...)
{
    if (!w->tracing)
        return;
    char *line = w->lines[w->n_lines++ % LINES];
    int n = snprintf(line, sizeof w->lines[0], "[%10.4f] %-6s ", (double)w->now / 1e9, who);
    va_list args;
    va_start(args, format);
    vsnprintf(line + n, sizeof w->lines[0] - (size_t)n, format, args);
    va_end(args);
    if (w->loud)
        printf("# %s\n", line);
}

void violated(struct world *w, const char *invariant, const char *format, ...)
{
    if (w->failed)
        return;
    w->failed = w->over = true;
    snprintf(w->invariant, sizeof w->invariant, "%s", invariant);
    va_list args;
    va_start(args, format);
    vsnprintf(w->reason, sizeof w->reason, format, args);
    va_end(args);
    trace(w, "CHECK", "%s: %s", w->invariant, w->reason);
}

/* ---- the queue ---- */

static bool sooner(const struct event *a, const struct event *b)
{
    return a->at != b->at ? a->at < b->at : a->order < b->order;
}

static void heap_push(struct world *w, struct event *e)
{
    if (w->n_heap == w->room_heap) {
        w->room_heap = w->room_heap ? 2 * w->room_heap : 256;
        w->heap = realloc(w->heap, w->room_heap * sizeof(struct event *));
        BUG_IF(w->heap == NULL);
    }
    size_t i = w->n_heap++;
    for (; i > 0 && sooner(e, w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = e;
}

static struct event *heap_pop(struct world *w)
{
    struct event *top = w->heap[0], *last = w->heap[--w->n_heap];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= w->n_heap)
            break;
        if (child + 1 < w->n_heap && sooner(w->heap[child + 1], w->heap[child]))
            child++;
        if (!sooner(w->heap[child], last))
            break;
        w->heap[i] = w->heap[child];
        i = child;
    }
    if (w->n_heap > 0)
        w->heap[i] = last;
    return top;
}

struct event *after(struct world *w, int64_t delay, struct process *target, void (*fire)(struct world *, struct event *))
{
    struct event *e = calloc(1, sizeof *e);
    BUG_IF(e == NULL);
    e->at = w->now + (delay > 0 ? delay : 0);
    e->order = w->order++;
    e->target = target;
    e->life = target != NULL ? target->life : 0;
    e->fire = fire;
    heap_push(w, e);
    return e;
}

/* ---- dying in the middle of something ---- */

void process_doom(struct process *p, int64_t down)
{
    p->doomed = p->world->any_doomed = true;
    p->down = down;
}

bool port_works(struct process *p)
{
    if (p->doom_in > 0 && --p->doom_in == 0) {
        cover(p->world, COVER_KILL_MIDWAY);
        process_doom(p, p->down);
    }
    return !p->doomed;
}

static void bury_doomed(struct world *w)
{
    if (!w->any_doomed)
        return;
    w->any_doomed = false;
    for (unsigned i = 0; i < w->n_all; i++)
        if (w->all[i]->doomed)
            fault_kill(w, w->all[i], "SIGKILL at just this point", w->all[i]->down);
}

static void turn(struct world *w, struct event *e);
static void wake(struct world *w, struct event *e);

static void fire(struct world *w, struct event *e)
{
    struct process *p = e->target;
    if (p == NULL || (p->alive && p->life == e->life)) {
        e->fire(w, e);
        bury_doomed(w);
        if (p != NULL && p->alive && p->life == e->life && e->fire != turn && e->fire != wake)
            turn_soon(p);
    }
    free(e);
}

static void hold(struct process *p, struct event *e)
{
    e->next = NULL;
    if (p->held == NULL)
        p->held = e;
    else
        p->held_last->next = e;
    p->held_last = e;
}

static void free_held(struct process *p)
{
    while (p->held != NULL) {
        struct event *e = p->held;
        p->held = e->next;
        free(e);
    }
}

static void step(struct world *w)
{
    struct event *e = heap_pop(w);
    if (e->at > w->horizon) {
        free(e);
        check_idle_end(w);
        w->over = true;
        return;
    }
    w->now = e->at;
    if (e->target != NULL && e->target->frozen && e->target->life == e->life)
        hold(e->target, e);
    else
        fire(w, e);
    if (++w->n_events > MOST_EVENTS)
        violated(w, "I6", "%" PRIu64 " events and no end at %" PRId64 " s", w->n_events, w->now / S);
}

/* ---- turns ---- */

static void turn(struct world *w, struct event *e)
{
    struct process *p = e->target;
    p->turn_planned = false;
    bool caught_up = p->stood_still == 0;
    if (!caught_up)
        p->stood_still--;
    switch (p->role) {
    case ROLE_VENT:   vent_turn((struct vent *)p, caught_up); break;
    case ROLE_SINK:   sink_turn((struct sink *)p, caught_up); break;
    case ROLE_CLIENT: client_turn((struct client *)p); break;
    case ROLE_WORKER: worker_turn((struct worker *)p, caught_up); break;
    }
    (void)w;
}

/* Most turns serve one event, some several: as when a loop finds more than one thing ready. */
void turn_soon(struct process *p)
{
    struct world *w = p->world;
    if (p->turn_planned)
        return;
    after(w, one_in(w, 3) ? between(w, 0, 800 * US + p->slow) : 0, p, turn);
    p->turn_planned = true;
}

static void wake(struct world *w, struct event *e)
{
    (void)w;
    if (e->target->wake == e->a)
        turn_soon(e->target);
}

void sleep_until(struct process *p, mono_t next)
{
    struct world *w = p->world;
    p->wake++;
    if (mono_is_never(next))
        return;
    int64_t left = mono_since(next, clock_of(p));
    if (left <= 0 && ++p->spins > MOST_SPINS)
        violated(w, "I6", "%s asks to be called again at once, %u times by now: it spins", p->name, p->spins);
    /* Its clock may be slow: better a little late than just before the time. */
    after(w, left > 0 ? left + left / 2000 + 1 : 100 * US, p, wake)->a = p->wake;
}

/* ---- lives ---- */

static bool is_central(const struct process *p) { return p->role == ROLE_VENT || p->role == ROLE_SINK; }

void disturb_begin(struct world *w, struct process *p)
{
    if (p != NULL && !is_central(p))
        return;
    w->disturbances++;
    w->disturbed_at = w->now;
}

void disturb_end(struct world *w, struct process *p)
{
    if (p != NULL && !is_central(p))
        return;
    w->disturbances--;
    w->disturbed_at = w->now;
}

void process_start(struct process *p)
{
    if (p->alive)
        return;
    trace(p->world, p->name, "starts");
    p->life++;
    p->alive = true;
    p->frozen = p->stopping = p->turn_planned = p->doomed = false;
    p->doom_in = 0;
    p->stood_still = 0;
    p->arena = wire_arena_new();
    BUG_IF(p->arena == NULL);
    switch (p->role) {
    case ROLE_VENT:   vent_start((struct vent *)p); break;
    case ROLE_SINK:   sink_start((struct sink *)p); break;
    case ROLE_CLIENT: client_start((struct client *)p); break;
    case ROLE_WORKER: worker_start((struct worker *)p); break;
    }
    turn_soon(p);
}

/* Also how a process leaves that has nothing left to do: nothing of its memory survives. */
void process_crash(struct process *p, const char *why)
{
    if (!p->alive)
        return;
    trace(p->world, p->name, "ends: %s", why);
    p->alive = p->frozen = p->doomed = false;
    p->doom_in = 0;
    p->life++;
    free_held(p);
    links_break_of(p);
    switch (p->role) {
    case ROLE_VENT:   vent_end((struct vent *)p); break;
    case ROLE_SINK:   sink_end((struct sink *)p); break;
    case ROLE_CLIENT: client_end((struct client *)p); break;
    case ROLE_WORKER: worker_end((struct worker *)p); break;
    }
    wire_arena_destroy(&p->arena);
    wire_writer_release(&p->writer);
}

static void thaw(struct world *w, struct event *e)
{
    struct process *p = e->p;
    disturb_end(w, p);
    if (p->life != e->a || !p->frozen)
        return;
    trace(w, p->name, "thaws");
    p->frozen = false;
    p->stood_still = 3;
    struct event *held = p->held;
    p->held = NULL;
    while (held != NULL) {
        struct event *next = held->next;
        fire(w, held);
        held = next;
    }
    turn_soon(p);
}

void process_freeze(struct process *p, int64_t ns)
{
    struct world *w = p->world;
    if (!p->alive || p->frozen)
        return;
    trace(w, p->name, "freezes for %" PRId64 " ms", ns / MS);
    p->frozen = true;
    disturb_begin(w, p);
    struct event *e = after(w, ns, NULL, thaw);
    e->p = p;
    e->a = p->life;
}

void process_reboot(struct process *p)
{
    cover(p->world, COVER_REBOOT);
    p->boots++;
    p->booted = p->world->now;
}

/* ---- making, running, ending ---- */

static void add_process(struct world *w, struct process *p, enum role role, const char *name, unsigned number)
{
    p->world = w;
    p->role = role;
    p->number = w->n_all;
    snprintf(p->name, sizeof p->name, number > 0 ? "%s%u" : "%s", name, number);
    w->all[w->n_all++] = p;
    p->booted = w->now - (one_in(w, 3) ? between(w, S, 60 * S) : between(w, S, 40 * 86400 * S));
    p->drift = between(w, -100000, 100000);
    if (role == ROLE_VENT && mutate(w, MUTANT_CLOCK_FAST))
        p->drift = NS_PER_S / 5;
}

struct world *world_make(uint64_t seed, enum mutant mutant)
{
    struct world *w = calloc(1, sizeof *w);
    BUG_IF(w == NULL);
    w->seed = seed;
    w->mutant = mutant;
    w->now = WORLD_BEGIN;
    w->lines = calloc(LINES, sizeof w->lines[0]);
    w->arena = wire_arena_new();
    BUG_IF(w->lines == NULL || w->arena == NULL);
    chance_seed(w);
    add_process(w, &w->vent.p, ROLE_VENT, "vent", 0);
    add_process(w, &w->sink.p, ROLE_SINK, "sink", 0);
    add_process(w, &w->client.p, ROLE_CLIENT, "client", 0);
    for (unsigned i = 0; i < MAX_WORKERS; i++)
        add_process(w, &w->workers[i].p, ROLE_WORKER, "w", i + 1);
    scenario_make(w);
    return w;
}

void world_run(struct world *w)
{
    running_seed = w->seed;
    alarm(MOST_SECONDS);
    while (!w->over && w->n_heap > 0)
        step(w);
    running_seed = 0;
}

void world_free(struct world **w_p)
{
    struct world *w = *w_p;
    w->tracing = false;
    w->over = true;
    for (unsigned i = 0; i < w->n_all; i++)
        process_crash(w->all[i], "the simulation is over");
    mutants_forget(w);
    while (w->n_heap > 0)
        free(heap_pop(w));
    free(w->heap);
    links_free(w);
    disk_free(&w->vent.disk);
    disk_free(&w->sink.disk);
    check_free(w);
    wire_arena_destroy(&w->arena);
    free(w->lines);
    free(w);
    *w_p = NULL;
}
