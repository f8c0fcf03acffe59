/* Retries: how many tries a task has used up, and when its next one comes.
 *
 * An attempt that did not settle its task is a try once it is on record at the sink. The sink says with each answer how
 * many are on record, and tells it again after a restart: so an answer that is lost, or comes twice, or late from a worker
 * that was given up, counts each attempt exactly once. Losses that the retry rule forgives use up tries as well; only this
 * process knows of those. */
#include "ventilator/ledger_private.h"

#include <stdlib.h>

uint32_t tries_left(const struct batch *b, const struct past *past)
{
    uint32_t retries = b->options->retry != NULL ? b->options->retry->retries : 0;
    uint64_t used = (uint64_t)past->tries + past->forgiven;
    return retries > used ? retries - (uint32_t)used : 0;
}

static int64_t backoff(struct ledger *l, const Wire__RetryRule *rule, uint32_t tries)
{
    double delay = (double)rule->backoff_us, most = rule->backoff_max_us > 0 ? (double)rule->backoff_max_us : delay;
    for (uint32_t i = 1; i < tries && delay < most; i++)
        delay *= rule->backoff_factor_milli > 0 ? (double)rule->backoff_factor_milli / 1000.0 : 1.0;
    uint16_t jitter;
    l->port.random(l->port.arg, &jitter, sizeof jitter);
    delay = (delay < most ? delay : most) * (0.75 + (double)jitter / 131072.0);     /* 75% to 125% */
    return us_to_ns((uint64_t)delay);
}

void try_again(struct ledger *l, struct batch *b, uint64_t index, struct past past)
{
    int64_t delay = b->options->retry != NULL ? backoff(l, b->options->retry, past.tries + past.forgiven) : 0;
    if (delay > 0 && !b->cancelled && !b->too_late)
        put_waiting(l, b, index, past, delay);
    else
        requeue(l, b, index, 1, past);
}

/* Of what is in f from `at` on, and before `end`: how many tasks were looked at. */
static uint64_t raise_flight(struct ledger *l, struct flight *f, uint64_t at, uint64_t end, uint32_t n)
{
    uint64_t open = at, f_end = f->first + f->count;
    uint32_t run = flight_open_run(f, &open);
    if (end > f_end)
        end = f_end;
    if (run == 0 || open >= end)
        return end - at;
    if (open > at)
        return open - at;
    if (run > end - at)
        run = (uint32_t)(end - at);
    if (f->past.tries < n) {
        struct flight *mine = flight_carve(l, f, at, run);
        BUG_IF_NO_MEMORY(mine);
        mine->past.tries = n;
    }
    return run;
}

static void raise_queued(struct ledger *l, struct batch *b, uint64_t first, uint64_t count, struct past past, uint32_t n)
{
    if (past.tries >= n && past.attempts >= n)
        return;
    take_queued(l, b, first, count);
    past.tries = past.tries > n ? past.tries : n;
    past.attempts = past.attempts > n ? past.attempts : n;
    put_hole(l, b, first, count, past);
}

void tries_on_record(struct ledger *l, struct batch *b, uint64_t first, uint64_t count, uint32_t n)
{
    uint64_t end = first + count < b->admitted ? first + count : b->admitted, run;
    for (uint64_t at = first; at < end; at += run) {
        struct past past;
        struct flight *f;
        struct waiting *w;
        if ((run = queued_run(b, at, end - at, &past)) > 0) {
            raise_queued(l, b, at, run, past, n);
        } else if ((f = flight_at(b, at)) != NULL) {
            run = raise_flight(l, f, at, end, n);
        } else {
            run = 1;
            HASH_FIND(hh, b->waitings, &at, sizeof at, w);
            if (w != NULL && w->past.tries < n)
                w->past.tries = n;
        }
    }
}
