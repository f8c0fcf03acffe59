/* Ends: what the sink has recorded, the closings that the ventilator asks for itself, deadlines and cancels.
 *
 * The sink is the judge: nothing is settled here before it says `recorded`. The ventilator's own
 * verdicts are closings, "every task of this range without a verdict is V"; they race with the workers'
 * results, and the answer counts exactly how many they ended. */
#include "ventilator/ledger_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- closings ---- */

/* 0, or it didn't go: then with the next resend. */
static int send_closing(struct ledger *l, struct batch *b, struct closing *c)
{
    if (!b->registered || !l->sink_present)
        return -EAGAIN;
    Wire__Span span = WIRE__SPAN__INIT;
    span.first = c->first;
    span.count = c->count;
    Wire__Closing m = WIRE__CLOSING__INIT;
    m.batch = wire_id_bytes(b->id);
    m.number = c->number;
    m.span = &span;
    m.verdict = c->verdict;
    m.reason = c->reason;
    m.sentence = c->sentence != NULL ? c->sentence : (char *)(uintptr_t)"";
    m.session = l->config.session;
    m.whole = b->cancelled && c->verdict == WIRE__VERDICT__CANCELLED;
    Wire__Result result = WIRE__RESULT__INIT;
    result.what_case = WIRE__RESULT__WHAT_CLOSING;
    result.closing = &m;
    int rc = l->port.closing(l->port.arg, &result);
    c->sent = rc == 0;
    c->sent_at = l->now;
    return rc;
}

static void plan_resend(struct ledger *l, struct batch *b, mono_t at)
{
    if (!b->resend.set || mono_before(at, b->resend.at))
        due_set(l, &b->resend, at, resend_due, b);
}

/* When a closing has to be sent again. A burst can fill the way to the sink: the rest follows as soon as there may
 * be room. */
static mono_t resend_at(const struct ledger *l, const struct batch *b, const struct closing *c)
{
    if (c->sent)
        return mono_add(c->sent_at, RESEND_NS);
    return mono_add(l->now, b->registered && l->sink_present ? FULL_NS : RESEND_NS);
}

void closings_send(struct ledger *l, struct batch *b, bool again)
{
    struct closing *c;
    bool has_room = true;
    TAILQ_FOREACH(c, &b->closings, link) {
        bool overdue = c->sent && mono_since(l->now, c->sent_at) >= RESEND_NS;
        c->sent = c->sent && !overdue && !again;
        if (!c->sent && has_room)
            has_room = send_closing(l, b, c) == 0;
        plan_resend(l, b, resend_at(l, b, c));
    }
}

void close_span(struct ledger *l, struct batch *b, uint64_t first, uint64_t count, Wire__Verdict v, Wire__Reason r, const char *sentence)
{
    if (count == 0)
        return;
    struct closing *c = put_closing(l, b, first, count, v, r, sentence);
    send_closing(l, b, c);
    plan_resend(l, b, resend_at(l, b, c));
}

/* Closes what is queued or waiting of [first, first + count); how many that were. */
static uint64_t close_queued_span(struct ledger *l, struct batch *b, uint64_t first, uint64_t count, Wire__Verdict v, Wire__Reason r,
                                  const char *sentence)
{
    uint64_t end = count > b->admitted || first + count > b->admitted ? b->admitted : first + count, closed = 0;
    struct hole *h;
    for (uint64_t at = first; at < end;) {
        h = hole_after(b, at);
        uint64_t from = h != NULL && h->first < end ? (h->first > at ? h->first : at) : (b->cursor > at ? b->cursor : at);
        uint64_t to = h != NULL && h->first < end ? h->first + h->count : b->admitted;
        if (to > end)
            to = end;
        if (from >= to)
            break;
        closed += take_queued(l, b, from, to - from);
        close_span(l, b, from, to - from, v, r, sentence);
        at = to;
    }
    return first < end ? closed + take_waiting(l, b, first, end, &(struct ending){v, r, sentence}) : closed;
}

void close_queued(struct ledger *l, struct batch *b, Wire__Verdict v, Wire__Reason r, const char *sentence)
{
    if (b->recovery != RECOVER_ASK)         /* what is recorded isn't known yet: the sink's answer comes first */
        close_queued_span(l, b, 0, b->admitted, v, r, sentence);
}

void close_unwanted(struct ledger *l, struct batch *b)
{
    if (b->complete || b->recovery == RECOVER_ASK)
        return;
    if (b->cancelled)
        close_queued(l, b, WIRE__VERDICT__CANCELLED, b->cancel_reason, b->cancel_sentence);
    else if (b->deadline_passed)
        close_queued(l, b, WIRE__VERDICT__DEADLINE_EXCEEDED, WIRE__REASON__DEADLINE, NULL);
    for (size_t i = 0; i < b->n_cancelled_tasks; i++)
        close_queued_span(l, b, b->cancelled_tasks[i].first, b->cancelled_tasks[i].count, WIRE__VERDICT__CANCELLED,
                          WIRE__REASON__CANCEL_TASK, NULL);
}

/* Judges what still flies of [first, first + count), and tells its workers that nobody waits for it. */
static void close_flights_span(struct ledger *l, struct batch *b, uint64_t first, uint64_t count, Wire__Verdict v, Wire__Reason r,
                               const char *sentence)
{
    uint64_t at = first, end = count > b->admitted || first + count > b->admitted ? b->admitted : first + count;
    struct flight *f;
    while (at < end && (f = flight_after(b, at)) != NULL && f->first < end) {
        uint64_t f_end = f->first + f->count;
        uint32_t n = flight_open_run(f, &at);
        if (n == 0 || at >= end) {
            at = f_end;
            continue;
        }
        if (n > end - at)
            n = (uint32_t)(end - at);
        Wire__Span span = WIRE__SPAN__INIT;
        span.first = at;
        span.count = n;
        flight_settle(l, f, at, n);
        close_span(l, b, at, n, v, r, sentence);
        worker_cancel(l, f->worker, b, &span, 1, r, true, 0);
        flight_prune(l, f);
        at += n;
    }
}

void close_flights(struct ledger *l, struct batch *b, Wire__Verdict v, Wire__Reason r, const char *sentence)
{
    close_flights_span(l, b, 0, b->admitted, v, r, sentence);
}

/* ---- recorded ---- */

struct reporter {
    uint64_t session, epoch;
    uint32_t attempt;
};

static bool is_reporter(const struct flight *f, const struct reporter *who)
{
    return who != NULL && f->worker->session == who->session && f->epoch == who->epoch && f->past.attempts == who->attempt;
}

/* Another attempt of these tasks is under way although they have their verdict: stop it, keep its slot
 * taken until the worker says that it has ended. */
static void stop_other(struct ledger *l, struct flight *f, uint64_t first, uint32_t count)
{
    Wire__Span span = WIRE__SPAN__INIT;
    span.first = first;
    span.count = count;
    if (f->unended > 0)
        worker_cancel(l, f->worker, f->batch, &span, 1, WIRE__REASON__CANCEL_TASK, true, 0);
}

static struct closing *closing_at(struct batch *b, uint64_t index)
{
    struct closing *c;
    TAILQ_FOREACH(c, &b->closings, link)
        if (index - c->first < c->count)
            return c;
    return NULL;
}

/* Takes the run of tasks that begins at `at` out of wherever they are, because they are recorded.
 * Returns the run's length (1 or more); *settled says how many of it were not settled before (all or none). */
static uint64_t settle_run(struct ledger *l, struct batch *b, uint64_t at, uint64_t end, const struct reporter *who, uint64_t *settled)
{
    struct flight *f = flight_at(b, at);
    if (f != NULL && !bit_get(f->done, (uint32_t)(at - f->first))) {
        uint64_t run = at;
        uint32_t n = flight_open_run(f, &run);
        if (n > end - at)
            n = (uint32_t)(end - at);
        flight_settle(l, f, at, n);
        if (is_reporter(f, who))
            flight_end(l, f, at, n);
        else
            stop_other(l, f, at, n);
        flight_prune(l, f);
        return *settled = n;
    }
    uint64_t n = 1;
    struct waiting *w;
    struct closing *c;
    struct hole *h = hole_at(b, at);
    if (h != NULL || at >= b->cursor) {
        uint64_t to = h != NULL ? h->first + h->count : b->admitted;
        n = to < end ? to - at : end - at;
        return (*settled = take_queued(l, b, at, n)) > 0 ? n : 1;
    }
    HASH_FIND(hh, b->waitings, &at, sizeof at, w);
    if (w != NULL) {
        drop_waiting(l, w);
    } else if (b->asked > 0 && at >= b->asked) {
        n = 0;                  /* a closing's: the sink will name it */
    } else if ((c = closing_at(b, at)) != NULL && c->expected > 0) {
        c->expected--;
        b->in_closings--;
    } else {
        n = 0;
    }
    *settled = n;
    return 1;
}

static uint64_t settle_flights(struct ledger *l, struct batch *b, uint64_t first, uint64_t end)
{
    uint64_t at = first, settled = 0;
    struct flight *f;
    while (at < end && (f = flight_after(b, at)) != NULL && f->first < end) {
        uint64_t f_end = f->first + f->count;
        uint32_t n = flight_open_run(f, &at);
        if (n == 0 || at >= end) {
            at = f_end;
            continue;
        }
        if (n > end - at)
            n = (uint32_t)(end - at);
        settled += flight_settle(l, f, at, n);
        stop_other(l, f, at, n);
        flight_prune(l, f);
        at += n;
    }
    return settled;
}

static uint64_t settle_closings(struct batch *b, uint64_t first, uint64_t end)
{
    uint64_t settled = 0;
    struct closing *c;
    TAILQ_FOREACH(c, &b->closings, link) {
        uint64_t from = c->first > first ? c->first : first, to = c->first + c->count < end ? c->first + c->count : end;
        uint64_t n = to <= from ? 0 : to - from < c->expected ? to - from : c->expected;
        c->expected -= n;
        settled += n;
    }
    b->in_closings -= settled;
    return settled;
}

/* Its work follows the places that its tasks are in, not how many there are: most of them were settled long ago. */
uint64_t settle_span(struct ledger *l, struct batch *b, uint64_t first, uint64_t count)
{
    uint64_t end = first + count < b->admitted ? first + count : b->admitted;
    if (first >= end)
        return 0;
    uint64_t settled = settle_flights(l, b, first, end) + take_queued(l, b, first, end - first);
    return settled + take_waiting(l, b, first, end, NULL) + settle_closings(b, first, end);
}

static void count_verdicts(struct batch *b, const Wire__RecordedResult *r, uint64_t first, uint64_t n)
{
    b->settled += n;
    if (r->n_verdicts <= 1) {
        b->counts[r->n_verdicts == 0 ? WIRE__VERDICT__VERDICT_NONE : r->verdicts[0]] += n;
        return;
    }
    for (uint64_t i = first - r->fence->first; n > 0; n--, i++)
        b->counts[r->verdicts[i]]++;
}

static void record_fresh(struct ledger *l, struct batch *b, const Wire__RecordedResult *r, uint64_t first, uint64_t count)
{
    struct reporter who = {r->session, r->fence->epoch, r->fence->attempt};
    uint64_t at = first, end = first + count, n;
    while (at < end && at < b->admitted) {
        uint64_t from = at;
        at += settle_run(l, b, at, end < b->admitted ? end : b->admitted, &who, &n);
        count_verdicts(b, r, from, n);
        l->counts.recorded += n;
    }
}

/* Whether tasks of this reporter still fly that the sink calls recorded by something else. */
static bool flies(struct batch *b, const Wire__RecordedResult *r)
{
    uint64_t at = r->fence->first, end = at + r->fence->count;
    struct flight *f = flight_after(b, at);
    return f != NULL && f->first < end && flight_open_run(f, &at) > 0 && at < end;
}

static void record_verdict(struct ledger *l, struct batch *b, const Wire__RecordedResult *r)
{
    uint64_t fresh = 0;
    if (r->all_fresh) {
        record_fresh(l, b, r, r->fence->first, r->fence->count);
        return;
    }
    for (size_t i = 0; i < r->n_fresh; i++) {
        record_fresh(l, b, r, r->fresh[i]->first, r->fresh[i]->count);
        fresh += r->fresh[i]->count;
    }
    b->duplicates += r->fence->count - (fresh < r->fence->count ? fresh : r->fence->count);
    if (fresh < r->fence->count && flies(b, r))
        sink_doubt(l, b);       /* what recorded them was not heard here */
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

/* The attempt of a task is on record and did not settle it: it is tried again after its backoff. */
static void record_attempt(struct ledger *l, struct batch *b, const Wire__RecordedResult *r)
{
    struct reporter who = {r->session, r->fence->epoch, r->fence->attempt};
    for (uint64_t at = r->fence->first; at < r->fence->first + r->fence->count; at++) {
        struct flight *f = flight_at(b, at);
        if (f == NULL || !is_reporter(f, &who) || bit_get(f->done, (uint32_t)(at - f->first)))
            continue;           /* an attempt that was given up: its task is queued or under way already */
        struct past past = f->past;
        struct flight *mine = flight_carve(l, f, at, 1);
        BUG_IF_NO_MEMORY(mine);
        flight_drop(l, mine);
        past.tries++;
        b->retried++;
        l->counts.retried++;
        int64_t delay = b->options->retry != NULL ? backoff(l, b->options->retry, past.tries) : 0;
        if (delay > 0 && !b->cancelled && !b->deadline_passed)
            put_waiting(l, b, at, past, delay);
        else
            requeue(l, b, at, 1, past);
    }
}

static void record_closing(struct ledger *l, struct batch *b, const Wire__RecordedResult *r)
{
    struct closing *c;
    TAILQ_FOREACH(c, &b->closings, link)
        if (c->number == r->number)
            break;
    if (c == NULL) {
        /* Asked for before a restart, and recorded only now: nobody here knows which tasks those were. */
        if (r->closed > 0)
            sink_doubt(l, b);
        return;
    }
    if (b->asked > 0) {
        c->recorded = true;
        return;
    }
    if (c->expected > r->closed) {
        /* Results of its tasks came first, and their answers were lost with a connection: the sink tells the whole. */
        sink_doubt(l, b);
        return;
    }
    b->counts[c->verdict] += r->closed;
    b->settled += r->closed;
    l->counts.recorded += r->closed;
    drop_closing(l, b, c);
}

/* A result of a batch that is not here: its worker must not keep it for ever. */
static void release_unknown(struct ledger *l, const Wire__RecordedResult *r)
{
    struct worker *w = worker_by_session(l, r->session);
    if (w == NULL)
        return;
    owed_recorded(l, w);
    Wire__Release release = WIRE__RELEASE__INIT;
    Wire__Fence *fence = r->fence;
    release.n_fences = 1;
    release.fences = &fence;
    Wire__Lane m = WIRE__LANE__INIT;
    m.what_case = WIRE__LANE__WHAT_RELEASE;
    m.release = &release;
    worker_lane(l, w, &m, (struct slice){0}, false);
}

void on_recorded(struct ledger *l, const Wire__Recorded *m)
{
    l->sink_moved = l->now;
    for (size_t i = 0; i < m->n_results; i++) {
        const Wire__RecordedResult *r = m->results[i];
        struct batch *b = batch_by_id(l, r->fence->batch);
        if (b == NULL) {
            release_unknown(l, r);
            continue;
        }
        if (r->kind != WIRE__RESULT_KIND__IS_CLOSING)
            worker_release(l, r->session, r->fence, b);
        /* Before the sink has told what it has, what it says now is part of that answer. */
        bool attempt = r->kind == WIRE__RESULT_KIND__IS_ATTEMPT;
        if (b->complete || (b->recovery == RECOVER_ASK && b->asked == 0 && !attempt)) {
            b->duplicates += b->complete && r->kind == WIRE__RESULT_KIND__IS_VERDICT ? r->fence->count : 0;
            continue;
        }
        if (r->kind == WIRE__RESULT_KIND__IS_VERDICT)
            record_verdict(l, b, r);
        else if (attempt)
            record_attempt(l, b, r);    /* always: its worker has just been told to forget it */
        else
            record_closing(l, b, r);
        batch_moved(l, b);
    }
}

void on_refused_result(struct ledger *l, const Wire__RefusedResult *m)
{
    struct batch *b = batch_by_id(l, m->fence->batch);
    if (b == NULL)
        return;
    worker_release(l, m->session, m->fence, b);
    note(l, LOG_WARN, "result_refused", "batch=%s first=%" PRIu64 " count=%u reason=\"%s\"", b->short_id, m->fence->first,
         m->fence->count, m->sentence);
    if (b->complete || b->recovery == RECOVER_ASK)
        return;
    close_flights_span(l, b, m->fence->first, m->fence->count, WIRE__VERDICT__FAILED, m->reason, m->sentence);
    batch_moved(l, b);
}

/* ---- deadlines ---- */

/* No more is taken in after the deadline. */
static void deadline_seals(struct ledger *l, struct batch *b)
{
    if (b->seal_staged)
        return;
    b->seal_staged = true;
    struct pending *p = pend(l, PENDING_QUIET, batch_tally(l, b));
    BUG_IF_NO_MEMORY(p);
    p->batch = b->number;
    p->upto = b->staged;
    p->seals = b->seal_staged;
}

void deadline_due(struct ledger *l, void *owner)
{
    struct batch *b = owner;
    if (b->recovery == RECOVER_ASK) {
        b->deadline_passed = true;
        due_set(l, &b->due, mono_add(l->now, NS_PER_S / 10), deadline_due, b);
        return;
    }
    int64_t grace = us_to_ns(b->options->grace_us) + CLOSE_SLACK_NS;
    mono_t end = mono_add(b->deadline, grace);
    deadline_seals(l, b);       /* also when this process was not there at the deadline */
    if (mono_reached(l->now, end)) {
        b->grace_passed = true;
        close_queued(l, b, WIRE__VERDICT__DEADLINE_EXCEEDED, WIRE__REASON__DEADLINE, NULL);
        close_flights(l, b, WIRE__VERDICT__DEADLINE_EXCEEDED, WIRE__REASON__DEADLINE, "its worker did not answer in time");
    } else {
        note(l, LOG_INFO, "batch_deadline", "batch=%s queued=%" PRIu64 " in_flight=%" PRIu64, b->short_id, batch_queued(b), b->in_flight);
        b->deadline_passed = true;
        close_queued(l, b, WIRE__VERDICT__DEADLINE_EXCEEDED, WIRE__REASON__DEADLINE, NULL);
        due_set(l, &b->due, end, deadline_due, b);
    }
    batch_moved(l, b);
}

/* ---- cancels ---- */

void worker_cancel(struct ledger *l, struct worker *w, struct batch *b, const Wire__Span *spans, size_t n, Wire__Reason reason,
                   bool silent, uint64_t number)
{
    Wire__Span **pointers = n > 0 ? calloc(n, sizeof *pointers) : NULL;
    if (n > 0 && pointers == NULL)
        return;
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

static void cancel_due(struct ledger *l, void *owner);

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

/* First the answer falls due, when a worker doesn't confirm; then, after the grace, the verdict. */
static void cancel_due(struct ledger *l, void *owner)
{
    struct cancel *c = owner;
    struct batch *b = batch_by_number(l, c->batch);
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

static uint64_t flying_in(struct batch *b, const struct worker *w, uint64_t first, uint64_t count)
{
    uint64_t n = 0, end = first + count < first ? UINT64_MAX : first + count;
    for (struct flight *f = flight_after(b, first); f != NULL && f->first < end; f = RB_NEXT(flight_tree, &b->flights, f)) {
        uint64_t at = first;
        uint32_t run;
        if (f->worker != w)
            continue;
        while ((run = flight_open_run(f, &at)) > 0 && at < end) {
            n += run < end - at ? run : end - at;
            at += run;
        }
    }
    return n;
}

static uint64_t flying_of(struct batch *b, const struct worker *w, const struct cancel *c)
{
    uint64_t n = 0;
    if (c->n_tasks == 0)
        return flying_in(b, w, 0, b->admitted);
    for (size_t i = 0; i < c->n_tasks; i++)
        n += flying_in(b, w, c->tasks[i].first, c->tasks[i].count);
    return n;
}

static void ask_workers(struct ledger *l, struct batch *b, struct cancel *c)
{
    c->asked = calloc(HASH_COUNT(l->by_session) + 1, sizeof *c->asked);
    BUG_IF_NO_MEMORY(c->asked);
    for (struct worker *w = l->by_session; w != NULL; w = w->hh.next) {
        uint64_t tasks = flying_of(b, w, c);
        /* One that has just said hello may still hold what its welcome tells it to drop. */
        if (tasks == 0 && w->state != WORKER_OPENING)
            continue;
        c->asked[c->n_asked].session = w->session;
        c->asked[c->n_asked++].tasks = tasks;
        worker_cancel(l, w, b, c->tasks, c->n_tasks, c->reason, false, c->number);
    }
}

void cancel_journaled(struct ledger *l, struct cancel *c)
{
    struct batch *b = batch_by_number(l, c->batch);
    if (b == NULL || b->complete) {
        c->finished = b != NULL ? b->settled : 0;
        cancel_reply(l, c);
        cancel_free(l, c);
        return;
    }
    uint64_t all = c->n_tasks == 0 ? b->admitted : 0, flying = 0;
    if (c->n_tasks == 0 && b->recovery != RECOVER_ASK)
        c->queued = close_queued_span(l, b, 0, b->admitted, WIRE__VERDICT__CANCELLED, c->reason, b->cancel_sentence);
    for (size_t i = 0; i < c->n_tasks && b->recovery != RECOVER_ASK; i++) {
        c->queued += close_queued_span(l, b, c->tasks[i].first, c->tasks[i].count, WIRE__VERDICT__CANCELLED, c->reason, NULL);
        all += c->tasks[i].count;
    }
    ask_workers(l, b, c);
    for (size_t i = 0; i < c->n_asked; i++)
        flying += c->asked[i].tasks;
    c->finished = all > c->queued + flying ? all - c->queued - flying : 0;
    c->judge_at = mono_add(l->now, us_to_ns(b->options->grace_us) + CLOSE_SLACK_NS + l->config.loss_grace / 4);
    note(l, LOG_INFO, "batch_cancel", "batch=%s tasks=%zu queued=%" PRIu64 " at_workers=%" PRIu64, b->short_id, c->n_tasks, c->queued, flying);
    if (c->n_asked == 0 && !l->waiting_for_workers)
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
    if (m->n_tasks == 0 && !b->complete && !b->cancelled) {
        b->cancelled = b->seal_staged = true;
        b->cancel_reason = WIRE__REASON__CANCEL;
        b->cancel_sentence = m->reason[0] != '\0' ? strdup(m->reason) : NULL;
    }
    batch_ready(l, b);
    struct pending *p = pend(l, PENDING_CANCEL, batch_tally(l, b));
    BUG_IF_NO_MEMORY(p);
    p->client = client;
    p->request = request;
    p->batch = b->number;
    p->upto = b->staged;
    p->seals = b->seal_staged;
    p->cancel = c;
}

static void cancel_answered(struct ledger *l, struct cancel *c)
{
    if (c->n_asked > 0 || c->replied || l->waiting_for_workers)
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
        c->queued += m->dropped;
        c->running += m->stopping;
        uint64_t told = m->dropped + m->stopping;
        c->finished += c->asked[i].tasks > told ? c->asked[i].tasks - told : 0;
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
            c->queued += c->asked[i].tasks;
            c->asked[i] = c->asked[--c->n_asked];
            cancel_answered(l, c);
            break;
        }
    }
}

void cancel_reapply(struct ledger *l, struct batch *b)
{
    if (!b->cancelled && b->n_cancelled_tasks == 0)
        return;
    struct cancel *c = cancel_new(l, b, b->cancelled ? b->cancel_reason : WIRE__REASON__CANCEL_TASK);
    c->replied = true;
    if (!b->cancelled) {
        c->tasks = calloc(b->n_cancelled_tasks, sizeof *c->tasks);
        BUG_IF_NO_MEMORY(c->tasks);
        memcpy(c->tasks, b->cancelled_tasks, b->n_cancelled_tasks * sizeof *c->tasks);
        c->n_tasks = b->n_cancelled_tasks;
    }
    c->judge_at = mono_add(l->now, 2 * l->config.loss_grace + us_to_ns(b->options->grace_us) + CLOSE_SLACK_NS);
    due_set(l, &c->due, c->judge_at, cancel_due, c);
}
