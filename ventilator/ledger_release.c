/* Which results a worker may forget.
 *
 * Nobody waits for that, but each message down a lane wakes four threads: the lane's and the agent's at either end. One task at a time
 * would pay that for each of them. So a release goes with the next message down the same lane, and a
 * little later if there is none. It can't wait where something waits for it: a worker that leaves, a batch that is complete, results
 * that take up the worker's result credit. */
#include "ventilator/ledger_release.h"

#include <stdlib.h>
#include <string.h>

#define RELEASE_PAUSE (5 * NS_PER_MS)
#define RELEASES_AT_ONCE 64             /* so many are worth a message of their own */

static bool can_wait(const struct ledger *l, const struct worker *w)
{
    return !w->draining && w->sequence == w->release_sequence && w->n_releases < RELEASES_AT_ONCE
        && w->unreleased_bytes < l->config.result_credit / 4;
}

/* Before its lane is open they wait for that. */
void release_look(struct ledger *l, struct worker *w)
{
    bool any = w->n_releases > 0 && w->lane_up && w->open_sent;
    enum release_place place = !any ? RELEASE_NOTHING : can_wait(l, w) ? RELEASE_LATER : RELEASE_NOW;
    if (place == w->release_place)
        return;
    if (w->release_place != RELEASE_NOTHING)
        TAILQ_REMOVE(&l->releasing[w->release_place], w, release_link);
    if (place != RELEASE_NOTHING)
        TAILQ_INSERT_TAIL(&l->releasing[place], w, release_link);
    w->release_place = place;
}

void release_forget(struct ledger *l, struct worker *w)
{
    w->n_releases = 0;
    release_look(l, w);
}

void release_result(struct ledger *l, uint64_t session, const Wire__Fence *fence, struct batch *b)
{
    struct worker *w = worker_by_session(l, session);
    if (w != NULL)
        owed_recorded(l, w);
    if (w == NULL || w->state == WORKER_AWAY)
        return;             /* it sends the result again, and is answered then */
    if (w->n_releases == w->room_releases) {
        size_t room = w->room_releases > 0 ? 2 * w->room_releases : 16;
        struct release *grown = realloc(w->releases, room * sizeof *grown);
        if (grown == NULL)
            return;
        w->releases = grown;
        w->room_releases = room;
    }
    if (w->n_releases == 0)
        w->release_sequence = w->sequence;
    struct release *r = &w->releases[w->n_releases++];
    r->fence = *fence;
    memcpy(r->batch, b->id, WIRE_ID);
    release_look(l, w);
}

void release_ended(struct ledger *l, const struct flight *f, uint64_t first, uint32_t count)
{
    Wire__Fence fence = WIRE__FENCE__INIT;
    fence.epoch = f->epoch;
    fence.attempt = f->past.attempts;
    for (uint64_t at = first, end = first + count; at < end; at++) {
        if (!bit_get(f->ended, (uint32_t)(at - f->first)))
            continue;
        fence.first = at;
        while (at < end && bit_get(f->ended, (uint32_t)(at - f->first)))
            at++;
        fence.count = (uint32_t)(at - fence.first);
        release_result(l, f->worker->session, &fence, f->batch);
    }
}

static void say(struct ledger *l, struct worker *w, Wire__Fence **fences, size_t n)
{
    Wire__Release release = WIRE__RELEASE__INIT;
    Wire__Lane m = WIRE__LANE__INIT;
    release.n_fences = n;
    release.fences = fences;
    m.what_case = WIRE__LANE__WHAT_RELEASE;
    m.release = &release;
    worker_lane(l, w, &m, (struct slice){0}, false);
}

void release_unknown(struct ledger *l, uint64_t session, Wire__Fence *fence)
{
    struct worker *w = worker_by_session(l, session);
    if (w == NULL)
        return;
    owed_recorded(l, w);
    say(l, w, &fence, 1);
}

static void tell(struct ledger *l, struct worker *w)
{
    Wire__Fence *fences[256];
    for (size_t at = 0; at < w->n_releases;) {
        size_t n = 0;
        for (; n < sizeof fences / sizeof *fences && at < w->n_releases; n++, at++) {
            w->releases[at].fence.batch = wire_id_bytes(w->releases[at].batch);
            fences[n] = &w->releases[at].fence;
        }
        say(l, w, fences, n);
    }
    release_forget(l, w);
}

static void tell_all_in(struct ledger *l, enum release_place place)
{
    struct worker *w;
    while ((w = TAILQ_FIRST(&l->releasing[place])) != NULL)
        tell(l, w);
}

static void release_due(struct ledger *l, void *unused)
{
    (void)unused;
    tell_all_in(l, RELEASE_LATER);
}

void release_flush(struct ledger *l, bool all)
{
    tell_all_in(l, RELEASE_NOW);
    if (all)
        tell_all_in(l, RELEASE_LATER);
    if (!TAILQ_EMPTY(&l->releasing[RELEASE_LATER]) && !l->release_due.set)
        due_set(l, &l->release_due, mono_add(l->now, RELEASE_PAUSE), release_due, NULL);
}
