/* Losses: what a lost worker held is queued again, and what may be what ends workers is judged.
 *
 * A worker that was lost leaves its whole load under suspicion. The tasks that only waited there are innocent, and must
 * never be judged: so a task is judged by a loss only when the worker held nothing else, and before its last loss would come
 * it is dispatched in just that way (ledger_quarantine.c). */
#include "ventilator/ledger_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MOST 200u      /* bytes of a name in a sentence */

/* ---- who was lost ---- */

enum care care_of(const struct ledger *l, const struct past *past)
{
    if (past->losses == 0)
        return CARE_NONE;
    return past->losses + 1 >= l->config.max_losses ? CARE_LAST : CARE_SUSPECT;
}

void deaths_free(struct ledger *l)
{
    for (size_t i = 0; l->deaths != NULL && i < DEATHS_KEPT; i++)
        free(l->deaths[i].name);
    free(l->deaths);
}

/* Its number; 0: there is no memory for it, and the sentence does without. */
static uint32_t add_death(struct ledger *l, const struct worker *w)
{
    if (l->deaths == NULL && (l->deaths = calloc(DEATHS_KEPT, sizeof *l->deaths)) == NULL)
        return 0;
    struct death *d = &l->deaths[++l->n_deaths % DEATHS_KEPT];
    free(d->name);
    d->name = strdup(w->name);
    d->session = w->session;
    return l->n_deaths;
}

static const struct death *death_at(const struct ledger *l, uint32_t number)
{
    if (number == 0 || l->n_deaths - number >= DEATHS_KEPT || l->deaths[number % DEATHS_KEPT].name == NULL)
        return NULL;
    return &l->deaths[number % DEATHS_KEPT];
}

static void past_lost(const struct ledger *l, struct past *past, uint32_t death, bool alone)
{
    past->losses++;
    past->alone = alone || l->config.max_losses <= 1;
    memmove(&past->lost[1], &past->lost[0], sizeof past->lost - sizeof past->lost[0]);
    past->lost[0] = death;
}

void past_undo(const struct ledger *l, struct past *past, uint64_t session)
{
    const struct death *d = death_at(l, past->lost[0]);
    if (d == NULL || d->session != session)
        return;
    past->losses--;
    past->alone = false;
    memmove(&past->lost[0], &past->lost[1], sizeof past->lost - sizeof past->lost[0]);
    past->lost[NAMES_KEPT - 1] = 0;
}

/* Cut at a character's beginning: the codec refuses half a one. */
static int name_length(const char *name)
{
    size_t n = strlen(name);
    if (n <= NAME_MOST)
        return (int)n;
    for (n = NAME_MOST; n > 0 && ((unsigned char)name[n] & 0xC0) == 0x80; n--)
        ;
    return (int)n;
}

void lost_sentence(const struct ledger *l, const struct batch *b, const struct past *past, char *out, size_t size)
{
    char names[NAMES_KEPT * (NAME_MOST + 2) + 1] = "";
    size_t at = 0;
    uint32_t known = 0;
    for (size_t i = NAMES_KEPT; i-- > 0;) {
        const struct death *d = death_at(l, past->lost[i]);
        if (d == NULL)
            continue;
        at += (size_t)snprintf(names + at, sizeof names - at, "%s%.*s", known > 0 ? ", " : "", name_length(d->name), d->name);
        known++;
    }
    const char *about = known == 0 ? "; their names are not known any more" : known < past->losses ? ", the last of them: " : ": ";
    snprintf(out, size, "%u %s lost while it ran%s%s%s", past->losses, past->losses == 1 ? "worker was" : "workers were", about, names,
             b->restored ? "; those of before the ventilator's restart are not counted" : "");
}

/* ---- judging ---- */

static bool is_convicted(const struct ledger *l, const struct past *past)
{
    return past->losses >= l->config.max_losses && past->alone;
}

/* The retry rule wants that losses use up tries, and there are some left. */
static void forgive(struct ledger *l, struct batch *b, uint64_t first, uint64_t count, struct past past)
{
    past.forgiven++;
    past.losses = 0;
    past.alone = false;
    memset(past.lost, 0, sizeof past.lost);
    b->retried += count;
    l->counts.retried += count;
    for (uint64_t i = first; i < first + count; i++)
        try_again(l, b, i, past);
}

/* Tasks that are wanted: into the queue, or judged. */
static void put_back(struct ledger *l, struct batch *b, uint64_t first, uint64_t count, struct past past)
{
    char sentence[WIRE_SENTENCE];
    if (!is_convicted(l, &past)) {
        put_hole(l, b, first, count, past);
        return;
    }
    if (b->options->retry != NULL && b->options->retry->on_lost && tries_left(b, &past) > 0) {
        forgive(l, b, first, count, past);
        return;
    }
    lost_sentence(l, b, &past, sentence, sizeof sentence);
    close_span(l, b, first, count, WIRE__VERDICT__LOST, WIRE__REASON__LOSSES, sentence);
}

void requeue(struct ledger *l, struct batch *b, uint64_t first, uint64_t count, struct past past)
{
    uint64_t end = first + count, n;
    bool cancelled;
    if (b->recovery == RECOVER_ASK) {
        put_hole(l, b, first, count, past);     /* judged when the sink has told what is recorded */
    } else if (b->cancelled) {
        close_span(l, b, first, count, WIRE__VERDICT__CANCELLED, b->cancel_reason, b->cancel_sentence);
    } else if (b->too_late) {
        close_span(l, b, first, count, WIRE__VERDICT__DEADLINE_EXCEEDED, WIRE__REASON__DEADLINE, NULL);
    } else {
        for (; first < end; first += n) {
            n = batch_cancelled_run(b, first, end - first, &cancelled);
            if (cancelled)
                close_span(l, b, first, n, WIRE__VERDICT__CANCELLED, WIRE__REASON__CANCEL_TASK, NULL);
            else
                put_back(l, b, first, n, past);
        }
    }
}

void judge_lost(struct ledger *l, struct batch *b)
{
    struct hole key = {.first = 0}, *h;
    while ((h = RB_NFIND(care_tree, &b->by_care[CARE_LAST], &key)) != NULL) {
        struct hole was = *h;
        key.first = was.first + was.count;
        if (!is_convicted(l, &was.past))
            continue;
        take_queued(l, b, was.first, was.count);
        requeue(l, b, was.first, was.count, was.past);
    }
}

/* ---- what a worker had ---- */

/* Takes the open tasks of a flight out of it, run by run, and puts them where they belong. What has ended at the worker, and
 * only waits for the sink, left an empty slot: that it was lost is nothing to it. */
static void unload(struct ledger *l, struct flight *f, const struct past *lost)
{
    const struct past as_it_was = f->past;
    uint64_t at = f->first, end = f->first + f->count;
    while (at < end) {
        uint64_t n = flight_open_run(f, &at), same = 1;
        if (n == 0)
            break;
        bool ended = bit_get(f->ended, (uint32_t)(at - f->first));
        while (same < n && bit_get(f->ended, (uint32_t)(at + same - f->first)) == ended)
            same++;
        flight_settle(f, at, (uint32_t)same);        /* they leave the flight */
        requeue(l, f->batch, at, same, ended ? as_it_was : *lost);
        at += same;
    }
    flight_drop(l, f);
}

void worker_unload(struct ledger *l, struct worker *w, bool is_lost)
{
    struct flight *f, *next;
    bool alone = w->held == 1;
    uint32_t death = is_lost && w->held > 0 ? add_death(l, w) : 0;
    TAILQ_FOREACH_SAFE(f, &w->flights, at_worker, next) {
        struct batch *b = f->batch;
        struct past past = f->past;
        if (is_lost)
            past_lost(l, &past, death, alone);
        unload(l, f, &past);
        batch_moved(l, b);
    }
}
