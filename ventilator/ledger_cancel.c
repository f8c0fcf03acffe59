/* Cancels: taken in at once, journaled, told to the workers concerned, answered when these have confirmed or can't start
 * anything any more, and judged when nobody answered for what ran. */
#include "ventilator/ledger_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void worker_cancel(struct ledger *l, struct worker *w, struct batch *b, const Wire__Span *spans, size_t n, Wire__Reason reason,
                   bool silent, uint64_t number)
{
    Wire__Span **pointers = n > 0 ? calloc(n, sizeof *pointers) : NULL;
    if (n > 0)
        BUG_IF_NO_MEMORY(pointers);
    for (size_t i = 0; i < n; i++)
        pointers[i] = (Wire__Span *)(uintptr_t)&spans[i];
    Wire__CancelTasks m = WIRE__CANCEL_TASKS__INIT;
    m.number = number;
    m.batch = wire_id_bytes(b->id);
    m.n_tasks = n;
    m.tasks = pointers;
    m.reason = reason;
    m.silent = silent;
    Wire__Lane lane = WIRE__LANE__INIT;
    lane.what_case = WIRE__LANE__WHAT_CANCEL;
    lane.cancel = &m;
    worker_lane(l, w, &lane, (struct slice){0}, false);
    free(pointers);
}

void cancel_free(struct ledger *l, struct cancel *c)
{
    due_clear(l, &c->due);
    TAILQ_REMOVE(&l->cancels, c, link);
    free(c->tasks);
    free(c->asked);
    free(c);
}

static void cancel_reply(struct ledger *l, struct cancel *c)
{
    struct batch *b = batch_by_number(l, c->batch);
    for (size_t i = 0; i < c->n_asked; i++)
        c->unreachable += c->asked[i].tasks;
    c->n_asked = 0;
    if (c->request != 0 && b != NULL) {
        Wire__CancelReport r = WIRE__CANCEL_REPORT__INIT;
        r.queued = c->queued;
        r.running = c->running;
        r.finished = c->finished;
        r.unreachable = c->unreachable;
        r.short_id = b->short_id;
        Wire__Reply m = WIRE__REPLY__INIT;
        m.id = c->request;
        m.what_case = WIRE__REPLY__WHAT_CANCELLED;
        m.cancelled = &r;
        reply_send(l, c->client, &m);
    }
    c->request = 0;
    c->replied = true;
}

/* When none of the workers that have not confirmed may start anything any more. A lane that moves is waited for, though not
 * for ever. */
static mono_t leases_end(const struct ledger *l, const struct cancel *c)
{
    mono_t end = l->now, most = mono_add(c->journaled, l->config.silence);
    for (size_t i = 0; i < c->n_asked; i++) {
        const struct worker *w;
        HASH_FIND(hh, l->by_session, &c->asked[i].session, sizeof c->asked[i].session, w);
        if (w != NULL && mono_before(end, mono_add(w->leased, lease_ns(l))))
            end = mono_add(w->leased, lease_ns(l));
    }
    return mono_min(end, most);
}

/* First the answer falls due, when a worker doesn't confirm; then, after the grace, the verdict. */
static void cancel_due(struct ledger *l, void *owner)
{
    struct cancel *c = owner;
    struct batch *b = batch_by_number(l, c->batch);
    mono_t end = c->recovering ? mono_add(l->now, NS_PER_S / 10) : leases_end(l, c);
    if (!c->replied && mono_before(l->now, end)) {
        due_set(l, &c->due, end, cancel_due, c);
        return;
    }
    if (!c->replied)
        cancel_reply(l, c);
    if (b == NULL || b->complete) {
        cancel_free(l, c);
        return;
    }
    if (!mono_reached(l->now, c->judge_at) || b->recovery == RECOVER_ASK) {
        due_set(l, &c->due, mono_reached(l->now, c->judge_at) ? mono_add(l->now, NS_PER_S / 10) : c->judge_at, cancel_due, c);
        return;
    }
    for (size_t i = 0; i < c->n_tasks; i++)
        close_flights_span(l, b, c->tasks[i].first, c->tasks[i].count, WIRE__VERDICT__CANCELLED, c->reason, "its worker did not answer in time");
    if (c->n_tasks == 0)
        close_flights(l, b, WIRE__VERDICT__CANCELLED, c->reason, "its worker did not answer in time");
    batch_moved(l, b);
    cancel_free(l, c);
}

/* Adds what flies of it to the count of the worker that has it. */
static void count_flying_in(struct batch *b, uint64_t first, uint64_t count, struct worker **list)
{
    uint64_t end = first + count < first ? UINT64_MAX : first + count;
    for (struct flight *f = flight_after(b, first); f != NULL && f->first < end; f = RB_NEXT(flight_tree, &b->flights, f)) {
        uint64_t at = first;
        uint32_t run;
        while (f->worker != NULL && (run = flight_open_run(f, &at)) > 0 && at < end) {
            if (f->worker->flying == 0) {
                f->worker->next_flying = *list;
                *list = f->worker;
            }
            f->worker->flying += run < end - at ? run : end - at;
            at += run;
        }
    }
}

/* The workers that have some of it, and how many each; for all of them at once: workers and flights are both thousands. */
static struct worker *list_flying(struct batch *b, const struct cancel *c)
{
    struct worker *list = NULL;
    if (c->n_tasks == 0)
        count_flying_in(b, 0, b->admitted, &list);
    for (size_t i = 0; i < c->n_tasks; i++)
        count_flying_in(b, c->tasks[i].first, c->tasks[i].count, &list);
    return list;
}

static void ask_worker(struct ledger *l, struct batch *b, struct cancel *c, struct worker *w)
{
    if (c->n_asked == c->room_asked) {
        c->room_asked = c->room_asked > 0 ? 2 * c->room_asked : 8;
        c->asked = reallocarray(c->asked, c->room_asked, sizeof *c->asked);
        BUG_IF_NO_MEMORY(c->asked);
    }
    c->asked[c->n_asked].session = w->session;
    c->asked[c->n_asked++].tasks = w->flying;
    worker_cancel(l, w, b, c->tasks, c->n_tasks, c->reason, false, c->number);
}

static void ask_workers(struct ledger *l, struct batch *b, struct cancel *c)
{
    struct worker *list = list_flying(b, c), *w;
    for (w = list; w != NULL; w = w->next_flying)
        ask_worker(l, b, c, w);
    /* One that has just said hello may still hold what its welcome tells it to drop. */
    TAILQ_FOREACH(w, &l->opening, opening_link)
        if (w->flying == 0)
            ask_worker(l, b, c, w);
    for (w = list; w != NULL; w = w->next_flying)
        w->flying = 0;
}

/* Ends what is queued of it. */
static void close_its_queue(struct ledger *l, struct batch *b, struct cancel *c)
{
    if (c->n_tasks == 0)
        c->queued += close_queued_span(l, b, 0, b->admitted, WIRE__VERDICT__CANCELLED, c->reason, b->cancel_sentence);
    for (size_t i = 0; i < c->n_tasks; i++)
        c->queued += close_queued_span(l, b, c->tasks[i].first, c->tasks[i].count, WIRE__VERDICT__CANCELLED, c->reason, NULL);
}

/* How many tasks it is about. */
static uint64_t count_all(const struct batch *b, const struct cancel *c)
{
    uint64_t all = c->n_tasks == 0 ? b->admitted : 0;
    for (size_t i = 0; i < c->n_tasks; i++)
        all += c->tasks[i].count;
    return all;
}

/* What is neither queued, nor running, nor at a worker that has not confirmed, had ended before. How many are at those. */
static uint64_t count_finished(const struct batch *b, struct cancel *c)
{
    uint64_t all = count_all(b, c), flying = 0;
    for (size_t i = 0; i < c->n_asked; i++)
        flying += c->asked[i].tasks;
    uint64_t others = c->queued + c->running + flying;
    c->finished = all > others ? all - others : 0;
    return flying;
}

void cancel_journaled(struct ledger *l, struct cancel *c)
{
    struct batch *b = batch_by_number(l, c->batch);
    if (b == NULL || b->complete) {
        c->finished = b != NULL ? count_all(b, c) : 0;
        cancel_reply(l, c);
        cancel_free(l, c);
        return;
    }
    c->journaled = l->now;
    c->recovering = b->recovery == RECOVER_ASK;
    if (!c->recovering)
        close_its_queue(l, b, c);
    ask_workers(l, b, c);
    uint64_t flying = count_finished(b, c);
    c->judge_at = mono_add(l->now, us_to_ns(b->options->grace_us) + CLOSE_SLACK_NS + l->config.loss_grace / 4);
    note(l, LOG_INFO, "batch_cancel", "batch=%s tasks=%zu queued=%" PRIu64 " at_workers=%" PRIu64, b->short_id, c->n_tasks, c->queued, flying);
    if (c->n_asked == 0 && !l->waiting_for_workers && !c->recovering)
        cancel_reply(l, c);
    /* A worker that is not back since the restart may hold some of it, until its lease is over: the answer waits. */
    int64_t patience = l->waiting_for_workers ? 2 * l->config.loss_grace : l->config.loss_grace;
    due_set(l, &c->due, c->replied ? c->judge_at : mono_add(l->now, patience), cancel_due, c);
    batch_moved(l, b);
}

static struct cancel *cancel_new(struct ledger *l, struct batch *b, Wire__Reason reason)
{
    struct cancel *c = calloc(1, sizeof *c);
    BUG_IF_NO_MEMORY(c);
    c->number = l->next_number++;
    c->batch = b->number;
    c->reason = reason;
    TAILQ_INSERT_TAIL(&l->cancels, c, link);
    return c;
}

/* false: there is no room for so many. */
static bool take_spans(struct batch *b, struct cancel *c, const Wire__Cancel *m)
{
    c->tasks = calloc(m->n_tasks, sizeof *c->tasks);
    BUG_IF_NO_MEMORY(c->tasks);
    for (; c->n_tasks < m->n_tasks; c->n_tasks++)
        c->tasks[c->n_tasks] = *m->tasks[c->n_tasks];
    return batch_cancel_tasks(b, c->tasks, c->n_tasks);
}

void cancel_whole(struct batch *b, Wire__Reason reason, const char *sentence)
{
    free(b->cancel_sentence);
    b->cancelled = b->seal_staged = true;
    b->cancel_reason = reason;
    b->cancel_sentence = sentence[0] != '\0' ? strdup(sentence) : NULL;      /* without memory: without words */
}

static struct pending *pend_cancel(struct ledger *l, struct batch *b, struct cancel *c)
{
    batch_ready(l, b);
    struct pending *p = pend(l, PENDING_CANCEL, batch_tally(l, b));
    p->batch = b->number;
    p->upto = b->staged;
    p->seals = b->seal_staged;
    p->cancel = c;
    return p;
}

void cancel_by_itself(struct ledger *l, struct batch *b, Wire__Reason reason, const char *sentence)
{
    struct cancel *c = cancel_new(l, b, reason);
    cancel_whole(b, reason, sentence);
    pend_cancel(l, b, c);
}

/* Takes a cancel in: from here on nothing of it is dispatched; the rest follows when it is in the journal. */
void cancel_begin(struct ledger *l, ledger_peer client, uint64_t request, const Wire__Cancel *m)
{
    struct why why = {""};
    struct batch *b = batch_find(l, m->ref, &why);
    if (b == NULL) {
        reply_refused(l, client, request, WIRE__REFUSED_CODE__UNKNOWN_BATCH, why.text);
        return;
    }
    for (size_t i = 0; i < m->n_tasks; i++) {
        if (m->tasks[i]->first + m->tasks[i]->count > b->staged) {
            char sentence[200];
            snprintf(sentence, sizeof sentence, "batch %s has tasks 0 to %" PRIu64 "; there is no task %" PRIu64 " to cancel", b->short_id,
                     b->staged - (b->staged > 0), m->tasks[i]->first + m->tasks[i]->count - 1);
            reply_refused(l, client, request, WIRE__REFUSED_CODE__BAD_REQUEST, sentence);
            return;
        }
    }
    struct cancel *c = cancel_new(l, b, m->n_tasks > 0 ? WIRE__REASON__CANCEL_TASK : WIRE__REASON__CANCEL);
    c->client = client;
    c->request = request;
    if (m->n_tasks > 0 && !take_spans(b, c, m)) {
        cancel_free(l, c);
        reply_refused(l, client, request, WIRE__REFUSED_CODE__REFUSED, "so many separate tasks of this batch are cancelled that there is no room "
                      "for more (4,096 ranges); cancel wider ranges, or the whole batch");
        return;
    }
    /* One that is halted may still run things: somebody wants these to stop as well. */
    if (m->n_tasks == 0 && !b->complete && (!b->cancelled || is_halted(b)))
        cancel_whole(b, WIRE__REASON__CANCEL, m->reason);
    struct pending *p = pend_cancel(l, b, c);
    p->client = client;
    p->request = request;
}

static void cancel_answered(struct ledger *l, struct cancel *c)
{
    if (c->n_asked > 0 || c->replied || l->waiting_for_workers || c->recovering)
        return;
    cancel_reply(l, c);
    due_set(l, &c->due, c->judge_at, cancel_due, c);
}

void cancel_confirmed(struct ledger *l, struct worker *w, const Wire__Confirmed *m)
{
    struct cancel *c;
    TAILQ_FOREACH(c, &l->cancels, link)
        if (c->number == m->number)
            break;
    for (size_t i = 0; c != NULL && i < c->n_asked; i++) {
        if (c->asked[i].session != w->session)
            continue;
        uint64_t told = m->dropped + m->stopping;
        c->running += m->stopping;
        if (!c->recovering) {       /* else they are counted with the queue, where they are now, and with the rest */
            c->queued += m->dropped;
            c->finished += c->asked[i].tasks > told ? c->asked[i].tasks - told : 0;
        }
        c->asked[i] = c->asked[--c->n_asked];
        cancel_answered(l, c);
        return;
    }
}

/* A worker that says hello may hold tasks of a cancel that is not answered: it has to confirm it, too. */
void cancels_concern(struct ledger *l, struct worker *w)
{
    struct cancel *c;
    TAILQ_FOREACH(c, &l->cancels, link) {
        size_t i = 0;
        while (i < c->n_asked && c->asked[i].session != w->session)
            i++;
        if (c->replied || !c->due.set || i < c->n_asked)
            continue;           /* answered; asked; or not journaled yet: then it is asked with the others */
        void *grown = realloc(c->asked, (c->n_asked + 1) * sizeof *c->asked);
        BUG_IF_NO_MEMORY(grown);
        c->asked = grown;
        c->room_asked = c->n_asked + 1;
        c->asked[c->n_asked].session = w->session;
        c->asked[c->n_asked++].tasks = 0;
    }
}

/* Its lane is open: what it was not told, or may not have read, is told now. */
void cancels_tell(struct ledger *l, struct worker *w)
{
    const struct cancel *c;
    TAILQ_FOREACH(c, &l->cancels, link) {
        struct batch *b = batch_by_number(l, c->batch);
        for (size_t i = 0; b != NULL && i < c->n_asked; i++)
            if (c->asked[i].session == w->session)
                worker_cancel(l, w, b, c->tasks, c->n_tasks, c->reason, false, c->number);
    }
}

void cancels_recovered(struct ledger *l, struct batch *b)
{
    struct cancel *c, *next;
    TAILQ_FOREACH_SAFE(c, &l->cancels, link, next) {
        if (c->batch != b->number || !c->recovering)
            continue;
        c->recovering = false;
        close_its_queue(l, b, c);
        count_finished(b, c);
        cancel_answered(l, c);
    }
}

void cancels_may_answer(struct ledger *l)
{
    struct cancel *c, *next;
    TAILQ_FOREACH_SAFE(c, &l->cancels, link, next)
        if (c->due.set)                 /* it is in the journal */
            cancel_answered(l, c);
}

void cancel_worker_gone(struct ledger *l, struct worker *w)
{
    struct cancel *c, *next;
    TAILQ_FOREACH_SAFE(c, &l->cancels, link, next) {
        for (size_t i = 0; i < c->n_asked; i++) {
            if (c->asked[i].session != w->session)
                continue;
            c->queued += c->recovering ? 0 : c->asked[i].tasks;
            c->asked[i] = c->asked[--c->n_asked];
            cancel_answered(l, c);
            break;
        }
    }
}

void cancel_reapply(struct ledger *l, struct batch *b)
{
    bool whole = b->cancelled && !halt_lets_finish(b);
    if (!whole && b->n_cancelled_tasks == 0)
        return;
    struct cancel *c = cancel_new(l, b, whole ? b->cancel_reason : WIRE__REASON__CANCEL_TASK);
    c->replied = true;
    if (!whole) {
        c->tasks = calloc(b->n_cancelled_tasks, sizeof *c->tasks);
        BUG_IF_NO_MEMORY(c->tasks);
        memcpy(c->tasks, b->cancelled_tasks, b->n_cancelled_tasks * sizeof *c->tasks);
        c->n_tasks = b->n_cancelled_tasks;
    }
    c->judge_at = mono_add(l->now, 2 * l->config.loss_grace + us_to_ns(b->options->grace_us) + CLOSE_SLACK_NS);
    due_set(l, &c->due, c->judge_at, cancel_due, c);
}
