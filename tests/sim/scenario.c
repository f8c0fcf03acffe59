/* What a seed means: how many workers and slots, which batches with which options, and which faults at
 * which times. After `end_of_faults` everything is healed and started; then all must come to its end. */
#include "tests/sim/sim.h"

#include <stdio.h>
#include <string.h>

#define POISON_SHARE 6u                /* of 100 worlds */

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

/* Not by the world's own chance: what a seed meant before there were halts it means still. */
static void choose_halt(struct world *w, struct plan *p, unsigned i)
{
    uint64_t z = (w->seed * 16 + i + 1) * UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 29) * UINT64_C(0xBF58476D1CE4E5B9);
    z ^= z >> 32;
    wire__halt_rule__init(&p->halt);
    if (z % 8 != 0)
        return;
    p->halt.when = z >> 8 & 1 ? WIRE__HALT_WHEN__HALT_NOW : WIRE__HALT_WHEN__HALT_SOON;
    if ((z >> 9) % 3 == 0)
        p->halt.percent = 1 + (uint32_t)((z >> 16) % 30);
    else
        p->halt.failures = 1 + (z >> 16) % 8;
    p->options.halt = &p->halt;
}

/* Submitters die, and come again. */
static void choose_submitter(struct world *w, struct plan *p)
{
    p->resubmits = one_in(w, 6);
    p->purges = one_in(w, 4);
    if (p->range || p->total < 4 || !one_in(w, 5))
        return;
    p->submitter = (unsigned)between(w, DIES_CONTINUED, DIES_SEALED);
    p->dies_at = 1 + below(w, p->total - 2);
    p->dead_for = between(w, 200 * MS, one_in(w, 3) ? 30 * S : 5 * S);
    p->never_sealed = false;
}

static void choose_poison(struct world *w, struct plan *p)
{
    if (w->theme != THEME_POISON && !(w->theme == THEME_STORM && one_in(w, 30)))
        return;
    p->n_poison = below(w, 1 + sizeof p->poison / sizeof *p->poison);
    for (size_t i = 0; i < p->n_poison; i++)
        p->poison[i] = below(w, p->total);
}

/* Far more than can run: a deadline ends most of it. */
static void choose_backlog(struct world *w, struct plan *p)
{
    cover(w, COVER_BACKLOG);
    p->total = 100000 + below(w, 60000);
    p->deadline.us = (uint64_t)between(w, 3000000, 9000000);
    p->options.deadline = &p->deadline;
    if (one_in(w, 3))
        p->options.min_runtime_us = p->deadline.us / 2;
    p->tiny = one_in(w, 4);
    p->never_sealed = one_in(w, 4);
    if (one_in(w, 4)) {
        p->range = true;
        wire__range__init(&p->numbers);
        p->numbers.count = p->total;
        p->numbers.step = 1;
        p->options.range = &p->numbers;
        p->never_sealed = false;
    }
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
    snprintf(p->name, sizeof p->name, "plan %u", i);
    p->options.name = p->name;
    p->options.weight = (uint32_t)between(w, 1, 4);
    p->options.priority = one_in(w, 4) ? (int32_t)between(w, -2, 2) : 0;
    p->options.max_running = p->total < 150 && one_in(w, 5) ? (uint64_t)between(w, 1, 4) : 0;
    p->options.max_output = 1000;
    if (one_in(w, 3)) {
        p->options.handler = (char *)(uintptr_t)(one_in(w, 12) ? "unheard-of" : "resize");
        if (strcmp(p->options.handler, "unheard-of") == 0)
            p->total = 3;
        p->micro = one_in(w, 4);
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
    if (w->theme == THEME_BACKLOG && i == 0)
        choose_backlog(w, p);
    p->seal_apart = one_in(w, 3);
    choose_submitter(w, p);
    choose_poison(w, p);
    choose_halt(w, p, i);
    if ((one_in(w, 3) && p->submitter != DIES_CANCELLED) || strcmp(p->options.handler, "unheard-of") == 0) {
        p->cancel_after = between(w, MS, one_in(w, 2) ? 500 * MS : 12 * S);
        p->whole_cancel = one_in(w, 2) || strcmp(p->options.handler, "unheard-of") == 0;
    }
    if (p->options.deadline != NULL && one_in(w, 4)) {
        p->extend_after = between(w, MS, 2 * S);
        p->extend_us = (uint64_t)between(w, 100000, 15000000);
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
        agent_count(w->workers[i].agent, clock_of(&w->workers[i].p), &c);
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

static void choose_theme(struct world *w)
{
    uint64_t n = below(w, 100);
    w->theme = n < 8 ? THEME_QUIET : n < 14 ? THEME_GENTLE : n < 14 + POISON_SHARE ? THEME_POISON : n < 15 + POISON_SHARE ? THEME_BACKLOG : THEME_STORM;
}

/* In some worlds something is slow: a disk, the loops, or one process. */
static void choose_speeds(struct world *w)
{
    int64_t slow = 0;
    w->vent.disk.speed = between(w, 100 * US, 4 * MS);
    w->sink.disk.speed = between(w, 100 * US, 4 * MS);
    if (one_in(w, 20)) {
        struct disk *d = one_in(w, 2) ? &w->vent.disk : &w->sink.disk;
        slow = d->speed = between(w, 20 * MS, 150 * MS);
    }
    if (one_in(w, 20))
        for (unsigned i = 0; i < w->n_all; i++)
            slow += w->all[i]->slow = between(w, 0, 40 * MS);
    if (one_in(w, 20))
        slow += w->all[below(w, w->n_all)]->slow = between(w, 10 * MS, 200 * MS);
    if (slow > 0)
        cover(w, COVER_SLOW);
    w->retain = one_in(w, 25) ? between(w, S, 20 * S) : 0;
    w->slack = 20 * slow + (w->theme == THEME_BACKLOG ? 4 * S : 0);       /* hundreds of retries that wait are closed one by one */
}

void scenario_make(struct world *w)
{
    w->vent.disk.owner = &w->vent.p;
    w->sink.disk.owner = &w->sink.p;
    w->n_workers = (unsigned)between(w, 1, MAX_WORKERS);
    choose_theme(w);
    choose_speeds(w);
    for (unsigned i = 0; i < w->n_workers; i++)
        w->workers[i].slots = (uint32_t)between(w, 1, MAX_SLOTS);
    unsigned n_plans = (unsigned)between(w, 1, MAX_PLANS);
    for (unsigned i = 0; i < n_plans; i++)
        choose_plan(w, i);
    for (unsigned i = 0; i < 3 + w->n_workers; i++)
        after(w, between(w, 0, 600 * MS), NULL, begin)->p = w->all[i];
    int64_t span = between(w, 3 * S, 30 * S);
    w->end_of_faults = w->now + span + 30 * S;
    w->horizon = w->end_of_faults + 700 * S;
    faults_make(w, span);
    after(w, span + 30 * S, NULL, watch);
}
