/* Quarantine: tasks that one more loss would judge (CARE_LAST) fly alone. Each is dispatched as a flight of one task to a
 * worker that holds nothing, which gets nothing else while it holds it: what ends that worker is then that task.
 *
 * So that they don't wait for ever on a busy cluster, a worker is reserved for them when no able one is empty: its unstarted
 * tasks are recalled, and it gets nothing until it has drained. So that they don't keep the others from their work, one
 * worker of eight (at least one) may be reserved or flying alone while anything else wants it. */
#include "ventilator/ledger_private.h"

#include <inttypes.h>
#include <stdio.h>

#define RESERVE_NS     (NS_PER_S / 4)   /* no able worker was there to be reserved: looked for again after this */
#define WORKERS_TO_ONE 8u

/* Tasks on their last chance that could fly now. */
static bool may_fly(const struct ledger *l, const struct batch *b)
{
    return b->in_care[CARE_LAST] > 0 && !batch_is_full(b) && batch_may_fly(l, b);
}

static bool has_quota(const struct ledger *l)
{
    uint32_t most = HASH_COUNT(l->by_session) / WORKERS_TO_ONE;
    return l->n_alone + l->n_reserved < (most > 0 ? most : 1);
}

/* ---- reservations ---- */

void quarantine_let_go(struct ledger *l, struct worker *w)
{
    if (!w->reserved)
        return;
    w->reserved = false;
    l->n_reserved--;
    TAILQ_REMOVE(&l->reserved, w, reserved_link);
    worker_room(l, w);
}

/* Some task on its last chance could run there. */
static bool is_wanted(const struct ledger *l, const struct worker *w)
{
    const struct batch *b;
    TAILQ_FOREACH(b, &l->quarantine, quarantine_link)
        if (may_fly(l, b) && worker_can_run(w, b))
            return true;
    return false;
}

/* Gives back all that it has not started, batch by batch. */
static void recall_all(struct ledger *l, struct worker *w)
{
    const struct flight *f;
    uint64_t turn = l->next_number;         /* no later recall has it, and no earlier one */
    TAILQ_FOREACH(f, &w->flights, at_worker) {
        if (f->unended == 0 || f->batch->recalled == turn)
            continue;
        f->batch->recalled = turn;
        Wire__Recall r = WIRE__RECALL__INIT;
        recall_over(l, w);
        r.number = w->recall = l->next_number++;
        r.batch = wire_id_bytes(f->batch->id);
        r.count = w->held;
        Wire__Lane m = WIRE__LANE__INIT;
        m.what_case = WIRE__LANE__WHAT_RECALL;
        m.recall = &r;
        worker_lane(l, w, &m, (struct slice){0}, false);
    }
}

static void reserve(struct ledger *l, struct worker *w)
{
    note(l, LOG_INFO, "worker_reserved", "worker=%s held=%u", w->shown, w->held);
    w->reserved = true;
    l->n_reserved++;
    TAILQ_INSERT_TAIL(&l->reserved, w, reserved_link);
    worker_room(l, w);
    recall_all(l, w);
}

/* The able worker that is empty soonest; NULL: there is none, or one is empty already. */
static struct worker *least_held(const struct ledger *l, const struct batch *b)
{
    struct worker *best = NULL;
    for (struct worker *w = l->by_session; w != NULL; w = w->hh.next) {
        if (w->state != WORKER_READY || w->draining || w->cut_off || w->reserved || w->last > 0 || !worker_can_run(w, b))
            continue;
        if (w->held == 0)
            return NULL;
        if (best == NULL || w->held < best->held)
            best = w;
    }
    return best;
}

void quarantine_reserve(struct ledger *l)
{
    struct worker *w;
    bool waits = false;
    const struct batch *b;
    if (l->reserve_due.set || !has_quota(l))
        return;
    TAILQ_FOREACH(b, &l->quarantine, quarantine_link) {
        if (!may_fly(l, b))
            continue;
        waits = true;
        if ((w = least_held(l, b)) == NULL)
            continue;
        reserve(l, w);
        return;
    }
    if (waits)
        due_set(l, &l->reserve_due, mono_add(l->now, RESERVE_NS), look_again, NULL);
}

/* ---- dispatch ---- */

static struct worker *empty_worker(struct ledger *l, const struct batch *b, bool all)
{
    struct worker *w;
    TAILQ_FOREACH(w, &l->reserved, reserved_link)
        if (w->held == 0 && worker_can_run(w, b))
            return w;
    if (!all && !has_quota(l))
        return NULL;
    struct crew *crew;
    TAILQ_FOREACH(crew, &l->roomy, roomy_link) {
        w = crew_fits(crew, b->want) ? RB_MIN(room_tree, &crew->room) : NULL;
        if (w != NULL && w->held == 0)
            return w;
    }
    return NULL;
}

/* The batch of the highest priority that has a task and a worker for it; among equals they take turns. */
static struct batch *next_pair(struct ledger *l, bool all, struct worker **ret_worker)
{
    struct batch *best = NULL, *b;
    struct worker *w;
    TAILQ_FOREACH(b, &l->quarantine, quarantine_link) {
        if ((best != NULL && b->options->priority <= best->options->priority) || b->loading || !may_fly(l, b)
            || (w = empty_worker(l, b, all)) == NULL)
            continue;
        best = b;
        *ret_worker = w;
    }
    return best;
}

void quarantine_dispatch(struct ledger *l, bool all)
{
    struct batch *b;
    struct worker *w = NULL, *next;
    TAILQ_FOREACH_SAFE(w, &l->reserved, reserved_link, next)
        if (!is_wanted(l, w))
            quarantine_let_go(l, w);
    while ((b = next_pair(l, all, &w)) != NULL) {
        if (!assign(l, w, b, true)) {
            batch_ready(l, b);
            if (!b->loading)
                return;                     /* no memory now */
            continue;
        }
        quarantine_let_go(l, w);
        if (b->in_care[CARE_LAST] > 0) {
            TAILQ_REMOVE(&l->quarantine, b, quarantine_link);
            TAILQ_INSERT_TAIL(&l->quarantine, b, quarantine_link);
        }
        batch_ready(l, b);
    }
}

/* ---- for people ---- */

bool quarantine_note(struct ledger *l, const struct batch *b, char *out, size_t size)
{
    uint64_t n = b->in_care[CARE_LAST];
    const struct worker *w;
    if (n == 0 || !batch_may_fly(l, b))
        return false;
    int at = snprintf(out, size, "%" PRIu64 " %s lost workers before and %s for a worker that holds nothing else", n,
                      n == 1 ? "task was at" : "tasks were at", n == 1 ? "waits" : "wait");
    TAILQ_FOREACH(w, &l->reserved, reserved_link) {
        if (!worker_can_run(w, b))
            continue;
        snprintf(out + at, size - (size_t)at, " (%.100s gets nothing new, and has %u to finish first)", w->name, w->held);
        break;
    }
    return true;
}
