/* Rules that are broken on purpose, each by the simulation's own ports, and the check that must notice. A
 * check that can't fail checks nothing. */
#include "tests/sim/sim.h"

#include <stdlib.h>
#include <string.h>

const struct mutant_spec mutants[MUTANTS] = {
    [MUTANT_NONE] = {"none", "", "nothing is broken"},
    [MUTANT_SINK_COMMITS_EARLY] = {"sink_commits_early", "I1", "the sink's disk calls committed what is not durable yet"},
    [MUTANT_JOURNAL_COMMITS_EARLY] = {"journal_commits_early", "I1", "the journal's disk calls committed what is not durable yet"},
    [MUTANT_RECORDED_LOST] = {"recorded_lost", "I6", "the network loses every `recorded` for ever"},
    [MUTANT_CANCEL_IGNORED] = {"cancel_ignored", "I3", "a worker confirms cancels and does not carry them out"},
    [MUTANT_LANE_REORDERED] = {"lane_reordered", "I3", "a lane delivers out of order, with sequence numbers that don't show it"},
    [MUTANT_RUN_TWICE] = {"run_twice", "fence", "a slot runs the same attempt twice"},
    [MUTANT_SLOT_FREED_EARLY] = {"slot_freed_early", "I8", "a keeper says empty while the attempt is alive"},
    [MUTANT_ROW_FORGOTTEN] = {"row_forgotten", "I1", "the sink's disk forgets rows that it called committed"},
    [MUTANT_RESTORE_SKIPS] = {"restore_skips", "I1", "a sink that starts again does not read all of its rows"},
    [MUTANT_CLOSING_LOST] = {"closing_lost", "I2", "the network loses every closing"},
    [MUTANT_TORN_FLUSH] = {"torn_flush", "I1", "a crash leaves half a flush on a disk"},
    [MUTANT_DISK_ERROR_IGNORED] = {"disk_error_ignored", "I1", "a disk calls committed what it failed to write"},
    [MUTANT_CLOCK_FAST] = {"clock_fast", "early", "the ventilator's clock runs a fifth too fast"},
    [MUTANT_CLOCK_SENT] = {"clock_sent", "deadline", "a worker is told the ventilator's time instead of the time that is left"},
    [MUTANT_DEADLINE_FORGOTTEN] = {"deadline_forgotten", "deadline", "workers are not told of deadlines"},
    [MUTANT_REBOOT_UNNOTICED] = {"reboot_unnoticed", "deadline", "a ventilator takes the clock of another boot for its own"},
    [MUTANT_LEASE_TOO_LONG] = {"lease_too_long", "one_attempt or I3", "a worker counts on its lease far too long"},
    [MUTANT_DRAIN_KILLS] = {"drain_kills", "gentle", "a worker that is asked to leave just dies"},
    [MUTANT_LOSSES_UNCOUNTED] = {"losses_uncounted", "poison", "the ventilator takes a hundred losses for few"},
    [MUTANT_INNOCENT_BLAMED] = {"innocent_blamed", "poison", "workers die of what no task of theirs did"},
    [MUTANT_CACHE_UNBOUNDED] = {"cache_unbounded", "I5", "the ventilator keeps every payload in memory"},
    [MUTANT_KEY_FORGOTTEN] = {"key_forgotten", "I1", "a submission that comes again is taken for another one"},
    [MUTANT_FORGET_LOST] = {"forget_lost", "I6", "the network loses every word to the sink that it should forget a batch"},
    [MUTANT_PURGE_HALF] = {"purge_half", "purge", "the journal's disk removes no records"},
    [MUTANT_TOMBSTONE_LOST] = {"tombstone_lost", "purge", "the journal's disk forgets what was purged"},
    [MUTANT_COUNTER_BENT] = {"counter_bent", "audit", "the ledger counts one task too many in flight"},
    [MUTANT_WIRE_BENT] = {"wire_bent", "wire", "a worker reports attempts of no task"},
    [MUTANT_ACK_INVENTED] = {"ack_invented", "I1", "the client takes more for acknowledged than was"},
    [MUTANT_COUNTS_FORGED] = {"counts_forged", "counts", "the ventilator's status counts one task too many"},
    [MUTANT_OK_INVENTED] = {"ok_invented", "honest", "a failed attempt is reported as ok"},
    [MUTANT_RELEASE_LOST] = {"release_lost", "I6", "lanes lose every release, unnoticed"},
    [MUTANT_HALT_IGNORED] = {"halt_ignored", "halt", "the ventilator hears of no halt rule"},
    [MUTANT_HALT_EARLY] = {"halt_early", "halt", "a batch is halted by half of the failures that its rule names"},
    [MUTANT_BUNDLE_GOES_ON] = {"bundle_goes_on", "fence", "a plugin's process begins tasks of a bundle that was split"},
    [MUTANT_HOLDINGS_HIDDEN] = {"holdings_hidden", "one_attempt", "a worker's hello hides what it holds"},
};

bool mutate(struct world *w, enum mutant m)
{
    if (w->mutant != m)
        return false;
    w->mutations++;
    return true;
}

/* The cancel's answer, although nothing was done about it. */
static void confirm_only(struct worker *k, const Wire__Lane *m)
{
    Wire__Confirmed confirmed = WIRE__CONFIRMED__INIT;
    Wire__Upward up = WIRE__UPWARD__INIT;
    confirmed.number = m->cancel->number;
    up.session = k->session;
    up.lane_epoch = m->lane_epoch;
    up.what_case = WIRE__UPWARD__WHAT_CONFIRMED;
    up.confirmed = &confirmed;
    if (dial_is_up(&k->control))
        link_send(k->control.link, DIALER, &up.base, (struct slice){0}, false);
}

/* An assign that comes late: what was sent behind it has overtaken it. */
struct late {
    struct link *link;
    Wire__Lane *message;
    struct buf *body;
};

static void hand_on(struct worker *k, const Wire__Lane *m, struct slice body)
{
    Wire__Lane moved = *m;
    if (m->what_case == WIRE__LANE__WHAT_OPEN)
        k->told = 0;
    moved.sequence = ++k->told;
    agent_lane(k->agent, clock_of(&k->p), &moved, body);
}

static void come_late(struct world *w, struct event *e)
{
    struct late *late = e->p;
    struct worker *k = &w->workers[e->a];
    if (k->p.alive && k->lane.link == late->link)
        hand_on(k, late->message, late->body != NULL ? slice_of(late->body) : (struct slice){0});
    wire_free(&late->message);
    buf_unref(&late->body);
    free(late);
}

void mutants_forget(struct world *w)
{
    for (size_t i = 0; i < w->n_heap; i++)
        if (w->heap[i]->fire == come_late) {
            struct late *late = w->heap[i]->p;
            wire_free(&late->message);
            buf_unref(&late->body);
            free(late);
        }
}

static bool be_late(struct worker *k, const Wire__Lane *m, struct slice body)
{
    struct world *w = k->p.world;
    if (m->what_case != WIRE__LANE__WHAT_ASSIGN || !mutate(w, MUTANT_LANE_REORDERED))
        return false;
    struct late *late = calloc(1, sizeof *late);
    if (late == NULL)
        return false;
    late->link = k->lane.link;
    late->message = (Wire__Lane *)wire_copy(&m->base);
    late->body = body.len > 0 ? buf_copy(body.data, body.len) : NULL;
    struct event *e = after(w, between(w, 0, 600 * MS), NULL, come_late);
    e->p = late;
    e->a = (uint64_t)(k - w->workers);
    return true;
}

/* What a worker is told of a batch's deadline. */
const Wire__Lane *mutant_announce(struct vent *v, const Wire__Lane *m)
{
    static Wire__Micros left;
    static Wire__Announce announce;
    static Wire__Lane changed;
    struct world *w = v->p.world;
    if (m->announce->deadline_left == NULL)
        return m;
    announce = *m->announce;
    left = *announce.deadline_left;
    changed = *m;
    changed.announce = &announce;
    if (mutate(w, MUTANT_DEADLINE_FORGOTTEN))
        announce.deadline_left = NULL;
    if (mutate(w, MUTANT_CLOCK_SENT)) {
        left.us += (uint64_t)(clock_of(&v->p).ns / US);
        announce.deadline_left = &left;
    }
    return &changed;
}

const Wire__Downward *mutant_downward(struct worker *k, const Wire__Downward *m)
{
    static Wire__Welcome welcome;
    static Wire__Downward changed;
    if (m->what_case != WIRE__DOWNWARD__WHAT_WELCOME || !mutate(k->p.world, MUTANT_LEASE_TOO_LONG))
        return m;
    welcome = *m->welcome;
    changed = *m;
    changed.welcome = &welcome;
    welcome.lease_us *= 20;
    return &changed;
}

void mutant_lane(struct worker *k, const Wire__Lane *m, struct slice body)
{
    struct world *w = k->p.world;
    Wire__Beat beat = WIRE__BEAT__INIT;
    Wire__Lane nothing = *m;
    nothing.what_case = WIRE__LANE__WHAT_BEAT;
    nothing.beat = &beat;
    bool ignored = m->what_case == WIRE__LANE__WHAT_CANCEL && !m->cancel->silent && mutate(w, MUTANT_CANCEL_IGNORED);
    bool lost = m->what_case == WIRE__LANE__WHAT_RELEASE && mutate(w, MUTANT_RELEASE_LOST);
    if (ignored)
        confirm_only(k, m);
    if (!be_late(k, m, body))
        hand_on(k, ignored || lost ? &nothing : m, body);
}
