/* Which attempts have run longest: what an operator looks at first when a batch doesn't end. One walk over what
 * flies, at most LOOK_MOST of it, so that no number of watchers keeps the loop for long. */
#include "ventilator/ledger_private.h"

#include <stdlib.h>
#include <string.h>

#define SLOWEST_MOST 64u
#define LOOK_MOST    100000u

struct slow {
    const struct flight *flight;
    uint64_t index;
};

/* Kept in the order of their age: the list is short, and few of those that are looked at get into it. */
struct slowest {
    struct slow at[SLOWEST_MOST];
    size_t n, most;
    uint64_t running;
};

static void consider(struct slowest *s, const struct flight *f, uint64_t index)
{
    s->running++;
    if (s->n == s->most && !mono_before(f->reported, s->at[s->n - 1].flight->reported))
        return;
    size_t at = s->n < s->most ? s->n++ : s->n - 1;
    for (; at > 0 && mono_before(f->reported, s->at[at - 1].flight->reported); at--)
        s->at[at] = s->at[at - 1];
    s->at[at] = (struct slow){f, index};
}

static void look(const struct ledger *l, struct slowest *s)
{
    uint32_t looked = 0;
    for (const struct worker *w = l->by_session; w != NULL; w = w->hh.next) {
        const struct flight *f;
        TAILQ_FOREACH(f, &w->flights, at_worker) {
            if (f->reported.ns == 0 || f->unended == 0)
                continue;
            for (uint32_t i = 0; i < f->count; i++)
                if (bit_get(f->started, i) && !bit_get(f->ended, i) && !bit_get(f->done, i))
                    consider(s, f, f->first + i);
            looked += f->count;
            if (looked > LOOK_MOST)
                return;
        }
    }
}

/* The nearer of timeout and deadline; false: there is none. A task's own timeout is known to its worker only. */
static bool time_left(const struct ledger *l, const struct flight *f, int64_t *ret_us)
{
    const Wire__Micros *timeout = f->batch->options->timeout;
    int64_t left = INT64_MAX, by_deadline;
    if (timeout != NULL)
        left = (int64_t)timeout->us - mono_since(l->now, f->reported) / NS_PER_US;
    if (!mono_is_never(f->batch->deadline)) {
        by_deadline = mono_since(f->batch->deadline, l->now) / NS_PER_US;
        left = by_deadline < left ? by_deadline : left;
    }
    *ret_us = left;
    return left != INT64_MAX;
}

struct slow_row {
    Wire__RunningAttempt attempt;
    Wire__SignedMicros left;
};

static void fill(const struct ledger *l, const struct slow *slow, struct slow_row *row)
{
    const struct flight *f = slow->flight;
    wire__running_attempt__init(&row->attempt);
    row->attempt.short_id = f->batch->short_id;
    row->attempt.index = slow->index;
    row->attempt.attempt = f->past.attempts;
    row->attempt.worker = f->worker->name;
    row->attempt.age_us = ns_to_us(mono_since(l->now, f->reported));
    wire__signed_micros__init(&row->left);
    if (time_left(l, f, &row->left.us))
        row->attempt.left = &row->left;
}

void reply_slowest(struct ledger *l, ledger_peer client, uint64_t request, const Wire__Slowest *m)
{
    struct slowest slowest = {.most = m->most > 0 && m->most < SLOWEST_MOST ? m->most : SLOWEST_MOST};
    struct slow_row rows[SLOWEST_MOST];
    Wire__RunningAttempt *pointers[SLOWEST_MOST];
    look(l, &slowest);
    for (size_t i = 0; i < slowest.n; i++) {
        fill(l, &slowest.at[i], &rows[i]);
        pointers[i] = &rows[i].attempt;
    }
    Wire__SlowestReport report = WIRE__SLOWEST_REPORT__INIT;
    report.n_attempts = slowest.n;
    report.attempts = pointers;
    report.running = slowest.running;
    Wire__Reply reply = WIRE__REPLY__INIT;
    reply.id = request;
    reply.what_case = WIRE__REPLY__WHAT_SLOWEST;
    reply.slowest = &report;
    reply_send(l, client, &reply);
}
