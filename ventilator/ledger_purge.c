/* Purges: complete batches are forgotten, when they are asked to be or when they were retained for long enough.
 *
 * A purge is one flush of the journal: the records and frames of the batch go, and a tombstone comes. From then on the
 * batch is gone here; when that is on disk, the sink is told to forget it too, again and again until it says that it
 * has. So no crash of either leaves a half: before the flush nothing has happened, after it the tombstone knows what
 * is left to do.
 *
 * A tombstone that the sink has answered keeps the batch's key for a while, so that a submission that comes again is
 * not taken for a new one. */
#include "ventilator/ledger_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TOMBSTONES  10000u              /* that the sink has answered; then the oldest go */
#define AT_ONCE     256u                /* batches purged, tombstones taken away in one turn … */
#define STEP_NS     NS_PER_MS           /* … and then others have theirs */
#define FORGETS     256u                /* on their way to the sink without an answer */
#define LATER_NS    NS_PER_S            /* what is held is looked at again */

struct tombstone {
    UT_hash_handle hh;                  /* by id */
    UT_hash_handle hh_short, hh_submission;
    TAILQ_ENTRY(tombstone) link;        /* in `unanswered`, then in `kept` */
    uint64_t number;
    uint8_t id[WIRE_ID], submission[WIRE_ID];
    char short_id[16];
    char *key;                          /* owned, or NULL */
    wall_t purged;
    uint64_t sequence;                  /* of the flush that purges it */
    bool forgotten;                     /* by the sink */
    bool is_told;                       /* the sink was, and has not answered */
    mono_t told;                        /* when */
};

/* A purge of all that are older than something, a step at a time. */
struct sweep {
    TAILQ_ENTRY(sweep) link;
    ledger_peer client;
    uint64_t request;
    int64_t age;                        /* ns since the completion, at least */
    uint64_t sequence, purged;
};

static wall_t wall_of(const struct ledger *l)
{
    return (wall_t){l->config.wall.ns + mono_since(l->now, l->started)};
}

/* The clock on the wall may have been set back since. */
static int64_t age_of(const struct ledger *l, wall_t then)
{
    int64_t age = wall_of(l).ns - then.ns;
    return age > 0 ? age : 0;
}

/* ---- tombstones ---- */

static void tombstone_key(const struct tombstone *t, char key[40])
{
    snprintf(key, 40, "purged/%016" PRIx64, t->number);
}

static uint64_t tombstone_journal(struct ledger *l, const struct tombstone *t)
{
    char key[40];
    Wire__JournalPurged r = WIRE__JOURNAL_PURGED__INIT;
    r.number = t->number;
    r.batch = wire_id_bytes(t->id);
    r.short_id = (char *)(uintptr_t)t->short_id;
    r.submission = wire_id_bytes(t->submission);
    r.key = t->key != NULL ? t->key : (char *)(uintptr_t)"";
    r.purged_wall_ns = t->purged.ns;
    r.forgotten = t->forgotten;
    if (wire_write(&l->writer, &r.base) < 0)
        out_of_memory();
    tombstone_key(t, key);
    return l->port.put(l->port.arg, key, l->writer.bytes, l->writer.len);
}

/* In the order of their purges: they come nearly so. */
static void tombstone_keep(struct ledger *l, struct tombstone *t)
{
    struct tombstone *before = TAILQ_LAST(&l->purges.kept, tombstones);
    while (before != NULL && before->purged.ns > t->purged.ns)
        before = TAILQ_PREV(before, tombstones, link);
    if (before != NULL)
        TAILQ_INSERT_AFTER(&l->purges.kept, before, t, link);
    else
        TAILQ_INSERT_HEAD(&l->purges.kept, t, link);
    l->purges.n_kept++;
}

static void tombstone_add(struct ledger *l, struct tombstone *t)
{
    HASH_ADD(hh, l->purges.by_id, id, WIRE_ID, t);
    HASH_ADD(hh_short, l->purges.by_short, short_id, strlen(t->short_id), t);
    HASH_ADD(hh_submission, l->purges.by_submission, submission, WIRE_ID, t);
    if (t->forgotten) {
        tombstone_keep(l, t);
        return;
    }
    TAILQ_INSERT_TAIL(&l->purges.unanswered, t, link);
    if (l->purges.next_told == NULL)
        l->purges.next_told = t;
    l->purges.n_unanswered++;
}

static void tombstone_free(struct ledger *l, struct tombstone *t)
{
    HASH_DELETE(hh, l->purges.by_id, t);
    HASH_DELETE(hh_short, l->purges.by_short, t);
    HASH_DELETE(hh_submission, l->purges.by_submission, t);
    free(t->key);
    free(t);
}

/* One that the sink has answered goes. */
static void tombstone_end(struct ledger *l, struct tombstone *t)
{
    char key[40];
    tombstone_key(t, key);
    l->port.remove(l->port.arg, key);
    TAILQ_REMOVE(&l->purges.kept, t, link);
    l->purges.n_kept--;
    tombstone_free(l, t);
}

static void kept_due(struct ledger *l, void *unused)
{
    (void)unused;
    struct tombstone *t;
    unsigned n = 0;
    int64_t left = 0;
    while ((t = TAILQ_FIRST(&l->purges.kept)) != NULL && n < AT_ONCE) {
        left = l->config.keep_keys - age_of(l, t->purged);
        if (left > 0 && l->purges.n_kept <= TOMBSTONES)
            break;
        tombstone_end(l, t);
        n++;
    }
    if (t != NULL)
        due_set(l, &l->purges.kept_due, mono_add(l->now, n == AT_ONCE ? STEP_NS : left), kept_due, NULL);
}

bool purged_short_id(const struct ledger *l, const char *short_id)
{
    struct tombstone *t;
    HASH_FIND(hh_short, l->purges.by_short, short_id, strlen(short_id), t);
    return t != NULL;
}

static struct tombstone *tombstone_find(const struct ledger *l, const char *ref)
{
    struct tombstone *t, *found = NULL;
    size_t len = strlen(ref);
    HASH_FIND(hh_short, l->purges.by_short, ref, len, t);
    if (t != NULL || len < 4)
        return t;
    for (t = l->purges.by_id; t != NULL; t = t->hh.next) {
        char hex[33];
        wire_id_hex(t->id, hex);
        if (strncmp(hex, ref, len) != 0)
            continue;
        if (found != NULL)
            return NULL;
        found = t;
    }
    return found;
}

bool purged_find(const struct ledger *l, const char *ref, struct why *why)
{
    char when[32];
    const struct tombstone *t = tombstone_find(l, ref);
    if (t != NULL)
        why_set(why, "batch %s was purged at %s: nothing of it is kept but its id and key", t->short_id, wall_text(t->purged, when));
    return t != NULL;
}

bool purged_submission(const struct ledger *l, const uint8_t submission[WIRE_ID], Wire__RefusedCode *ret_code, struct why *why)
{
    struct tombstone *t;
    char when[32];
    HASH_FIND(hh_submission, l->purges.by_submission, submission, WIRE_ID, t);
    if (t == NULL)
        return false;
    *ret_code = t->sequence > l->purges.committed ? WIRE__REFUSED_CODE__NOT_NOW : WIRE__REFUSED_CODE__REFUSED;
    wall_text(t->purged, when);
    if (*ret_code == WIRE__REFUSED_CODE__NOT_NOW)
        why_set(why, "this submission is batch %s, which is just being purged; try again in a moment", t->short_id);
    else if (t->key != NULL)
        why_set(why, "the key '%s' is that of batch %s, which was purged at %s: its tasks have run. To run them once more submit with "
                "another --key", t->key, t->short_id, when);
    else
        why_set(why, "this submission is batch %s, which was purged at %s: its tasks have run. To run them once more submit anew, as "
                "another submission", t->short_id, when);
    return true;
}

/* ---- what the sink has to forget ---- */

static void forget_due(struct ledger *l, void *unused)
{
    (void)unused;
    struct tombstone *t = TAILQ_FIRST(&l->purges.unanswered);
    if (t == NULL)
        return;
    if (t->is_told && mono_since(l->now, t->told) >= RESEND_NS)
        purge_tell_again(l);
    due_set(l, &l->purges.forget_due, mono_add(l->now, RESEND_NS), forget_due, NULL);
}

/* Tells the sink of what is on disk here, as far as it may not have answered. */
static void tell(struct ledger *l)
{
    struct tombstone *t;
    while ((t = l->purges.next_told) != NULL && l->sink_present && l->epoch_committed && !l->draining && l->purges.n_told < FORGETS
           && t->sequence <= l->purges.committed) {
        if (sink_forget(l, t->id) < 0)
            return;
        t->is_told = true;
        t->told = l->now;
        l->purges.n_told++;
        l->purges.next_told = TAILQ_NEXT(t, link);
        if (!l->purges.forget_due.set)
            due_set(l, &l->purges.forget_due, mono_add(l->now, RESEND_NS), forget_due, NULL);
    }
}

void purge_tell_again(struct ledger *l)
{
    struct tombstone *t;
    TAILQ_FOREACH(t, &l->purges.unanswered, link) {
        if (t == l->purges.next_told)
            break;
        t->is_told = false;
    }
    l->purges.next_told = TAILQ_FIRST(&l->purges.unanswered);
    l->purges.n_told = 0;
    tell(l);
}

void purge_committed(struct ledger *l, uint64_t sequence)
{
    l->purges.committed = sequence;
    tell(l);
}

void on_forgotten(struct ledger *l, const Wire__Forgotten *m)
{
    struct tombstone *t;
    HASH_FIND(hh, l->purges.by_id, m->batch.data, m->batch.len, t);
    if (t == NULL || t->forgotten)
        return;
    l->purges.n_told -= t->is_told;
    if (l->purges.next_told == t)
        l->purges.next_told = TAILQ_NEXT(t, link);
    TAILQ_REMOVE(&l->purges.unanswered, t, link);
    l->purges.n_unanswered--;
    t->forgotten = true;
    tombstone_keep(l, t);
    if (l->config.keep_keys <= 0)
        tombstone_end(l, t);
    else
        tombstone_journal(l, t);
    if (l->purges.n_kept > TOMBSTONES)
        kept_due(l, NULL);
    else if (!l->purges.kept_due.set && l->purges.n_kept > 0)
        due_set(l, &l->purges.kept_due, mono_add(l->now, l->config.keep_keys), kept_due, NULL);
    tell(l);
}

/* ---- purging ---- */

/* Somebody waits for an answer about it. */
static bool is_asked_about(const struct ledger *l, const struct batch *b)
{
    const struct pending *p;
    TAILQ_FOREACH(p, &l->pendings, link)
        if (p->batch == b->number)
            return true;
    TAILQ_FOREACH(p, &l->unanswered, link)
        if (p->batch == b->number)
            return true;
    const struct cancel *c;
    TAILQ_FOREACH(c, &l->cancels, link)
        if (c->batch == b->number && !c->replied)
            return true;
    return false;
}

/* Workers may hold attempts of it. */
static bool is_held(const struct ledger *l, struct batch *b)
{
    return l->waiting_for_workers || !RB_EMPTY(&b->flights) || is_asked_about(l, b);
}

static void refuse_held(struct ledger *l, struct batch *b, ledger_peer client, uint64_t request)
{
    char sentence[WIRE_SENTENCE];
    struct flight *f = RB_MIN(flight_tree, &b->flights);
    if (!b->complete)
        snprintf(sentence, sizeof sentence, "batch %s is not complete: %" PRIu64 " of its %" PRIu64 " tasks have ended; wait for it or cancel it, "
                 "then purge it", b->short_id, b->settled, b->admitted);
    else if (f != NULL)
        snprintf(sentence, sizeof sentence, "worker %.255s still holds attempts of batch %s; purge it when they have ended ('ventilator workers' "
                 "shows what is held)", f->worker->name, b->short_id);
    else if (l->waiting_for_workers)
        snprintf(sentence, sizeof sentence, "workers that were here before the ventilator's restart are not back yet and may hold attempts of "
                 "batch %s; purge it in a few seconds", b->short_id);
    else
        snprintf(sentence, sizeof sentence, "another request about batch %s is not answered yet; purge it in a moment", b->short_id);
    reply_refused(l, client, request, WIRE__REFUSED_CODE__REFUSED, sentence);
}

/* Stages the end of a batch, and forgets it. */
static uint64_t purge_batch(struct ledger *l, struct batch *b, const char *by)
{
    struct tombstone *t = calloc(1, sizeof *t);
    BUG_IF_NO_MEMORY(t);
    t->number = b->number;
    memcpy(t->id, b->id, WIRE_ID);
    memcpy(t->submission, b->submission, WIRE_ID);
    memcpy(t->short_id, b->short_id, sizeof t->short_id);
    t->key = b->key;
    b->key = NULL;
    t->purged = wall_of(l);
    if (b->options->range == NULL)
        l->port.remove_frames(l->port.arg, b->number);
    batch_unjournal(l, b);
    t->sequence = tombstone_journal(l, t);
    note(l, LOG_INFO, "batch_purged", "batch=%s tasks=%" PRIu64 " by=%s", b->short_id, b->admitted, by);
    batch_free(l, b);
    tombstone_add(l, t);
    return t->sequence;
}

/* Purges some of those that have been complete for at least `age`. *ret_held: how many of them are held. true: there
 * may be more. *ret_next: the age of the first one that is too young, or -1. */
static bool purge_some(struct ledger *l, int64_t age, const char *by, struct sweep *sweep, uint64_t *ret_held, int64_t *ret_next)
{
    struct batch *b, *next;
    unsigned n = 0;
    *ret_held = 0;
    *ret_next = -1;
    TAILQ_FOREACH_SAFE(b, &l->purges.complete, open_link, next) {
        if (age_of(l, b->completed) < age) {
            *ret_next = age_of(l, b->completed);
            return false;
        }
        if (is_held(l, b)) {
            ++*ret_held;
            continue;
        }
        if (n++ == AT_ONCE)
            return true;
        uint64_t sequence = purge_batch(l, b, by);
        if (sweep != NULL) {
            sweep->sequence = sequence;
            sweep->purged++;
        }
    }
    return false;
}

/* ---- retention ---- */

static void retain_due(struct ledger *l, void *unused)
{
    (void)unused;
    uint64_t held;
    int64_t next;
    if (l->draining)
        return;
    int64_t wait = STEP_NS;
    if (!purge_some(l, l->config.retain, "retention", NULL, &held, &next))
        wait = next < 0 ? INT64_MAX : l->config.retain - next;
    if (held > 0 && wait > LATER_NS)
        wait = LATER_NS;
    if (wait < INT64_MAX)
        due_set(l, &l->purges.retain_due, mono_add(l->now, wait), retain_due, NULL);
}

/* In the order of completion: they come nearly so. */
void purge_completed(struct ledger *l, struct batch *b)
{
    struct batch *before = TAILQ_LAST(&l->purges.complete, complete_batches);
    while (before != NULL && before->completed.ns > b->completed.ns)
        before = TAILQ_PREV(before, complete_batches, open_link);
    if (before != NULL)
        TAILQ_INSERT_AFTER(&l->purges.complete, before, b, open_link);
    else
        TAILQ_INSERT_HEAD(&l->purges.complete, b, open_link);
    if (l->config.retain > 0 && !l->purges.retain_due.set)
        due_set(l, &l->purges.retain_due, mono_add(l->now, l->config.retain - age_of(l, b->completed)), retain_due, NULL);
}

/* ---- requests ---- */

static void answer(struct ledger *l, ledger_peer client, uint64_t request, const Wire__Purged *purged)
{
    Wire__Reply m = WIRE__REPLY__INIT;
    m.id = request;
    m.what_case = WIRE__REPLY__WHAT_PURGED;
    m.purged = (Wire__Purged *)(uintptr_t)purged;
    reply_send(l, client, &m);
}

void purge_answer(struct ledger *l, struct pending *p)
{
    Wire__Purged purged = WIRE__PURGED__INIT;
    purged.batches = p->upto;
    purged.short_id = p->purge.short_id;
    purged.open = p->purge.open;
    purged.held = p->purge.held;
    /* A sink that is here hears of what was just purged in this turn. Who asks once more wants to know whether it is gone. */
    purged.at_sink = l->sink_present && p->upto > 0 ? 0 : l->purges.n_unanswered;
    answer(l, p->client, p->request, &purged);
}

static struct pending *pend_answer(struct ledger *l, uint64_t sequence, ledger_peer client, uint64_t request, uint64_t batches)
{
    struct pending *p = pend(l, PENDING_PURGE, sequence);
    p->client = client;
    p->request = request;
    p->upto = batches;
    return p;
}

static uint64_t count_open(const struct ledger *l, int64_t age)
{
    const struct batch *b;
    uint64_t n = 0;
    TAILQ_FOREACH(b, &l->open, open_link)
        n += age_of(l, b->created_wall) >= age;
    return n;
}

static void sweep_due(struct ledger *l, void *unused)
{
    (void)unused;
    struct sweep *s = TAILQ_FIRST(&l->purges.sweeps);
    uint64_t held;
    int64_t next;
    if (!purge_some(l, s->age, "age", s, &held, &next)) {
        struct pending answered = {.client = s->client, .request = s->request, .upto = s->purged}, *p = &answered;
        /* What its last step purged may be on disk by now: then nothing more might ever be flushed. */
        if (s->sequence > l->purges.committed)
            p = pend_answer(l, s->sequence, s->client, s->request, s->purged);
        p->purge.held = held;
        p->purge.open = count_open(l, s->age);
        if (p == &answered)
            purge_answer(l, p);
        TAILQ_REMOVE(&l->purges.sweeps, s, link);
        free(s);
    }
    if (!TAILQ_EMPTY(&l->purges.sweeps))
        due_set(l, &l->purges.sweep_due, mono_add(l->now, STEP_NS), sweep_due, NULL);
}

static void purge_older(struct ledger *l, ledger_peer client, uint64_t request, const Wire__Micros *age)
{
    struct sweep *s = calloc(1, sizeof *s);
    if (s == NULL) {
        reply_refused(l, client, request, WIRE__REFUSED_CODE__NOT_NOW, "the ventilator has no memory for a purge now; try again later");
        return;
    }
    s->client = client;
    s->request = request;
    s->age = us_to_ns(age->us);
    TAILQ_INSERT_TAIL(&l->purges.sweeps, s, link);
    if (!l->purges.sweep_due.set)
        due_set(l, &l->purges.sweep_due, l->now, sweep_due, NULL);
}

void purge_begin(struct ledger *l, ledger_peer client, uint64_t request, const Wire__Purge *m)
{
    struct why why = {""};
    if (m->older_than != NULL) {
        purge_older(l, client, request, m->older_than);
        return;
    }
    struct batch *b = batch_find(l, m->ref, &why);
    const struct tombstone *t = b == NULL ? tombstone_find(l, m->ref) : NULL;
    if (t != NULL) {                        /* asked for again: the answer was lost */
        struct pending *p = pend_answer(l, tombstone_journal(l, t), client, request, 0);
        memcpy(p->purge.short_id, t->short_id, sizeof p->purge.short_id);
    } else if (b == NULL) {
        reply_refused(l, client, request, WIRE__REFUSED_CODE__UNKNOWN_BATCH, why.text);
    } else if (!b->complete || is_held(l, b)) {
        refuse_held(l, b, client, request);
    } else {
        char short_id[16];
        memcpy(short_id, b->short_id, sizeof short_id);
        struct pending *p = pend_answer(l, purge_batch(l, b, "request"), client, request, 1);
        memcpy(p->purge.short_id, short_id, sizeof p->purge.short_id);
    }
}

/* ---- start and end ---- */

int restore_purged(struct ledger *l, const Wire__JournalPurged *r, struct why *why)
{
    if (r->batch.len != WIRE_ID || r->submission.len != WIRE_ID || r->short_id[0] == '\0' || strlen(r->short_id) >= sizeof((struct tombstone *)0)->short_id)
        return why_set(why, "the journal's record of purged batch number %" PRIu64 " is not one; restore the folder from a copy", r->number);
    struct tombstone *t = calloc(1, sizeof *t);
    if (t == NULL || (r->key[0] != '\0' && (t->key = strdup(r->key)) == NULL)) {
        free(t);
        return why_set(why, "no memory for the journal's purged batches");
    }
    t->number = r->number;
    memcpy(t->id, r->batch.data, WIRE_ID);
    memcpy(t->submission, r->submission.data, WIRE_ID);
    snprintf(t->short_id, sizeof t->short_id, "%s", r->short_id);
    t->purged.ns = r->purged_wall_ns;
    t->forgotten = r->forgotten;
    tombstone_add(l, t);
    return 0;
}

void purge_init(struct ledger *l)
{
    TAILQ_INIT(&l->purges.complete);
    TAILQ_INIT(&l->purges.unanswered);
    TAILQ_INIT(&l->purges.kept);
    TAILQ_INIT(&l->purges.sweeps);
}

void purge_restored(struct ledger *l)
{
    if (!TAILQ_EMPTY(&l->purges.kept))
        due_set(l, &l->purges.kept_due, l->now, kept_due, NULL);
    if (l->config.retain > 0 && !TAILQ_EMPTY(&l->purges.complete))
        due_set(l, &l->purges.retain_due, l->now, retain_due, NULL);
}

void purge_destroy(struct ledger *l)
{
    struct tombstone *t, *next;
    HASH_ITER(hh, l->purges.by_id, t, next)
        tombstone_free(l, t);
    struct sweep *s, *s_next;
    TAILQ_FOREACH_SAFE(s, &l->purges.sweeps, link, s_next)
        free(s);
}
