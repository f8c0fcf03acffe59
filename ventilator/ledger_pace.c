/* How long tasks take, batch by batch at each worker, and how many of them a worker may hold by that: its run credit.
 *
 * Batches differ, at one worker too: whoever has just run a hundred thousand tiny tasks must not be given thousands of long ones.
 * So each task takes up its own part of a worker's credit: of those of 2 µs it may hold thousands, of those of an hour its slots
 * and one more; and what takes up all of it together is a mixture of both. Of a batch that a worker doesn't know it is what the
 * others have seen of it, else what its handler took for others; a command that nobody knows starts small. */
#include "ventilator/ledger_private.h"

#include <string.h>

#define HIDE_NS (20 * NS_PER_MS)        /* beyond the round trip: what a worker may take to tell of an end, and a turn of the loops */

int64_t pace_hidden(const struct worker *w) { return 2 * w->round_trip + HIDE_NS; }

uint32_t pace_credit(const struct worker *w, int64_t service)
{
    if (service == 0)
        return w->slots + 1;            /* nothing is known yet: start small */
    double ahead = (double)w->slots * (double)pace_hidden(w) / (double)service;
    uint32_t least = service < 100 * NS_PER_MS ? 2 : 1;
    uint32_t prefetch = ahead < least ? least : ahead > MAX_WINDOW ? MAX_WINDOW : (uint32_t)ahead;
    return w->slots + prefetch;
}

uint64_t pace_charge(const struct worker *w, int64_t service)
{
    uint64_t n = pace_credit(w, service);
    return (CREDIT + n - 1) / n;        /* rounded up: n of them fill it */
}

/* Of all attempts, not of all reports: a single one that was seen from outside must not hide a thousand tiny ones. */
static void learn(struct pace *p, uint64_t n, int64_t took)
{
    p->ns = p->ns * 7 / 8 + (double)took;
    p->n = p->n * 7 / 8 + (double)n;
    double each = p->ns / p->n;
    p->service = each < (double)INT64_MAX / 2 ? (int64_t)each + 1 : INT64_MAX / 2;       /* 0 would say that nothing is known */
}

/* That of b, in front of the others; the one that was not needed for longest makes room for it. Its service is 0 when it is new. */
static struct pace *own_pace(struct worker *w, const struct batch *b)
{
    uint32_t at = 0;
    while (at < w->n_paces && w->paces[at].batch != b->number)
        at++;
    struct pace own = at < w->n_paces ? w->paces[at] : (struct pace){.batch = b->number};
    if (at == w->n_paces && w->n_paces < PACES_KEPT)
        w->n_paces++;
    at = at < PACES_KEPT ? at : PACES_KEPT - 1;
    memmove(w->paces + 1, w->paces, at * sizeof w->paces[0]);
    w->paces[0] = own;
    return &w->paces[0];
}

bool pace_learn(struct worker *w, struct batch *b, uint64_t n, int64_t took)
{
    struct pace *own = own_pace(w, b);
    bool is_new = own->service == 0;
    learn(own, n, took);
    learn(&b->pace, n, took);
    learn(&b->want->pace, n, took);
    return is_new;
}

void pace_learn_all(struct worker *w, uint64_t n, int64_t took) { learn(&w->pace, n, took); }

int64_t pace_of(const struct worker *w, const struct batch *b)
{
    for (uint32_t i = 0; i < w->n_paces; i++)
        if (w->paces[i].batch == b->number)
            return w->paces[i].service;
    if (b->pace.service > 0)
        return b->pace.service;
    /* A handler does much the same for each batch, and batches may have no more than a task each; commands are all of one want. */
    return b->options->handler[0] != '\0' ? b->want->pace.service : 0;
}
