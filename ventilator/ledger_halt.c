/* Halting: a batch that has too many failures is ended by its own rule.
 *
 * What fails: tasks whose verdict is failed, lost or rejected, and those that ran out of an attempt's time; not those that the
 * batch's deadline or a cancel ended. Attempts that are tried again don't count. After a restart the counts are the sink's.
 *
 * A halt is a cancel of the whole batch that nobody asked for: in the journal before anything is closed, and kept over
 * restarts. `now` stops what runs; `soon` lets it finish, and takes back what waits for a slot at the workers. */
#include "ventilator/ledger_private.h"

#include <inttypes.h>
#include <stdio.h>

#define PERCENT_LEAST 3u        /* failures before a percentage means anything */

uint64_t halt_failures(const struct batch *b)
{
    uint64_t late = b->counts[WIRE__VERDICT__DEADLINE_EXCEEDED];
    return b->counts[WIRE__VERDICT__FAILED] + b->counts[WIRE__VERDICT__LOST] + b->counts[WIRE__VERDICT__REJECTED]
           + (late > b->by_deadline ? late - b->by_deadline : 0);
}

/* Of all that was submitted so far: nobody knows how long an open batch will be. */
static bool is_reached(const struct batch *b, const Wire__HaltRule *rule, uint64_t failures)
{
    if (rule->failures > 0 && failures >= rule->failures)
        return true;
    return rule->percent > 0 && failures >= PERCENT_LEAST && failures * 100 >= rule->percent * b->staged;
}

bool is_halted(const struct batch *b)
{
    return b->cancelled && b->cancel_reason == WIRE__REASON__HALT;
}

bool halt_lets_finish(const struct batch *b)
{
    return is_halted(b) && b->options->halt != NULL && b->options->halt->when == WIRE__HALT_WHEN__HALT_SOON;
}

void halt_recall(struct ledger *l, struct worker *w, struct batch *b)
{
    if (w->held == 0)
        return;
    Wire__Recall r = WIRE__RECALL__INIT;
    r.number = l->next_number++;
    r.batch = wire_id_bytes(b->id);
    r.count = w->held;
    Wire__Lane m = WIRE__LANE__INIT;
    m.what_case = WIRE__LANE__WHAT_RECALL;
    m.recall = &r;
    worker_lane(l, w, &m, (struct slice){0}, false);
}

/* It is in the journal: what is queued ends. */
void halt_journaled(struct ledger *l, struct batch *b)
{
    if (b->complete)
        return;
    close_unwanted(l, b);       /* in a recovery, once the sink has told what is recorded */
    struct flight *f;
    uint64_t turn = l->next_number;         /* no earlier recall has it */
    RB_FOREACH(f, flight_tree, &b->flights) {
        if (f->unended == 0 || f->worker->halted >= turn)
            continue;
        f->worker->halted = l->next_number;
        halt_recall(l, f->worker, b);
    }
    batch_moved(l, b);
}

static void halt(struct ledger *l, struct batch *b, uint64_t failures)
{
    char sentence[80];
    snprintf(sentence, sizeof sentence, "halted: %" PRIu64 " task%s failed", failures, failures == 1 ? "" : "s");
    note(l, LOG_WARN, "batch_halt", "batch=%s failures=%" PRIu64 " queued=%" PRIu64 " in_flight=%" PRIu64, b->short_id, failures, batch_queued(b),
         b->in_flight);
    if (b->options->halt->when == WIRE__HALT_WHEN__HALT_NOW) {
        cancel_by_itself(l, b, WIRE__REASON__HALT, sentence);
        return;
    }
    cancel_whole(b, WIRE__REASON__HALT, sentence);
    batch_ready(l, b);
    struct pending *p = pend(l, PENDING_HALT, batch_tally(l, b));
    p->batch = b->number;
    p->upto = b->staged;
    p->seals = true;
}

void halt_judge(struct ledger *l, struct batch *b)
{
    const Wire__HaltRule *rule = b->options->halt;
    if (rule == NULL || rule->when == WIRE__HALT_WHEN__HALT_NEVER || b->cancelled || b->complete || b->recovery == RECOVER_ASK)
        return;
    uint64_t failures = halt_failures(b);
    bool has_ended = b->sealed && b->settled == b->staged;
    if (!has_ended && is_reached(b, rule, failures))
        halt(l, b, failures);
}
