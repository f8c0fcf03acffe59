/* Workers whose results don't reach the sink, though we hear them and the sink.
 *
 * Such a worker looks alive from here, takes tasks and says that they have ended, and none of them is ever
 * recorded. What tells it from others: it has results to be recorded, none of them was for the silence time,
 * and the sink is not the reason: it says that nothing waits for its disk, or goes on recording. Then its
 * ended tasks are given to others, and nothing new to it, until something of it is recorded. A result that
 * arrives late is welcome, or a duplicate, as after a loss. */
#include "ventilator/ledger_private.h"

#include <inttypes.h>

void owed_recorded(struct ledger *l, struct worker *w)
{
    w->owed_since = l->now;
    if (!w->cut_off)
        return;
    w->cut_off = false;
    note(l, LOG_INFO, "worker_heard", "worker=%s reason=\"its results reach the sink again\"", w->shown);
    worker_room(l, w);
}

void owed_told(struct ledger *l, struct worker *w, uint64_t unreleased)
{
    if (unreleased == 0) {
        owed_recorded(l, w);
        w->owed_since = MONO_NEVER;
    } else if (mono_is_never(w->owed_since)) {
        w->owed_since = l->now;
    }
}

/* The first run of tasks that have ended and aren't recorded. */
static bool owed_run(const struct flight *f, uint32_t *ret_at, uint32_t *ret_n)
{
    uint32_t at = 0, n = 0;
    while (at < f->count && (!bit_get(f->ended, at) || bit_get(f->done, at)))
        at++;
    while (at + n < f->count && bit_get(f->ended, at + n) && !bit_get(f->done, at + n))
        n++;
    *ret_at = at;
    *ret_n = n;
    return n > 0;
}

/* Each run is carved out: it will fly again, and flights of a batch do not overlap. */
static void give_to_others(struct ledger *l, struct worker *w)
{
    struct flight *f = TAILQ_FIRST(&w->flights);
    uint32_t at, n;
    struct touched touched;
    touch_begin(l, &touched);
    while (f != NULL) {
        if (!owed_run(f, &at, &n)) {
            f = TAILQ_NEXT(f, at_worker);
            continue;
        }
        struct batch *b = f->batch;
        struct past past = f->past;
        uint64_t first = f->first + at;
        struct flight *mine = flight_carve(l, f, first, n);
        BUG_IF_NO_MEMORY(mine);
        flight_drop(l, mine);
        requeue(l, b, first, n, past);
        touch(&touched, b);
        f = TAILQ_FIRST(&w->flights);       /* carving has made others of it */
    }
    for (struct batch *b = touched.first; b != NULL; b = b->next_touched)
        batch_moved(l, b);
}

static bool sink_moves(const struct ledger *l)
{
    return l->sink_present && !l->sink_full && mono_since(l->now, l->sink_moved) < 3 * l->config.heartbeat;
}

void owed_judge(struct ledger *l, struct worker *w)
{
    if (mono_is_never(w->owed_since))
        return;
    if (!sink_moves(l)) {
        w->owed_since = l->now;         /* who waits for a sink that stands still is not cut off from it */
        return;
    }
    if (!w->cut_off && mono_since(l->now, w->owed_since) < l->config.silence + line_ns(w->unreleased_bytes))
        return;
    if (!w->cut_off)
        note(l, LOG_WARN, "worker_cut_off", "worker=%s unreleased_bytes=%" PRIu64 " reason=\"none of its results reached the sink for %" PRId64
             " ms\"", w->shown, w->unreleased_bytes, mono_since(l->now, w->owed_since) / NS_PER_MS);
    w->cut_off = true;
    worker_room(l, w);
    give_to_others(l, w);
}
