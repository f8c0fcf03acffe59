/* Ends: what the sink has recorded, the closings that the ventilator asks for itself, and deadlines.
 *
 * The sink is the judge: nothing is settled here before it says `recorded`. The ventilator's own
 * verdicts are closings, "every task of this range without a verdict is V"; they race with the workers'
 * results, and the answer counts exactly how many they ended. */
#include "ventilator/ledger_private.h"
#include "ventilator/ledger_release.h"

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
    m.whole = b->cancelled && !is_halted(b) && c->verdict == WIRE__VERDICT__CANCELLED;
    int rc = sink_closing(l, &m);
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

/* Takes the holes of [at, end) out, and what lies behind the cursor. */
static uint64_t take_all_queued(struct ledger *l, struct batch *b, uint64_t at, uint64_t end, struct span_list *taken)
{
    uint64_t n = 0;
    struct hole *h;
    while (at < end) {
        h = hole_after(b, at);
        uint64_t from = h != NULL && h->first < end ? (h->first > at ? h->first : at) : (b->cursor > at ? b->cursor : at);
        uint64_t to = h != NULL && h->first < end ? h->first + h->count : b->admitted;
        if (to > end)
            to = end;
        if (from >= to)
            break;
        n += take_queued(l, b, from, to - from);
        span_add(taken, from, to - from);
        at = to;
    }
    return n;
}

/* One closing for each run of tasks, whether they were queued or waited: a hundred thousand retries that wait are few rows. */
uint64_t close_queued_span(struct ledger *l, struct batch *b, uint64_t first, uint64_t count, Wire__Verdict v, Wire__Reason r,
                           const char *sentence)
{
    uint64_t end = count > b->admitted || first + count > b->admitted ? b->admitted : first + count, closed = 0;
    struct span_list taken = {NULL, 0, 0};
    if (first < end)
        closed = take_all_queued(l, b, first, end, &taken) + take_waiting(l, b, first, end, &taken);
    taken.n = spans_merge(taken.at, taken.n);
    for (size_t i = 0; i < taken.n; i++)
        close_span(l, b, taken.at[i].first, taken.at[i].count, v, r, sentence);
    free(taken.at);
    return closed;
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
    else if (b->too_late)
        close_queued(l, b, WIRE__VERDICT__DEADLINE_EXCEEDED, WIRE__REASON__DEADLINE, NULL);
    for (size_t i = 0; i < b->n_cancelled_tasks; i++)
        close_queued_span(l, b, b->cancelled_tasks[i].first, b->cancelled_tasks[i].count, WIRE__VERDICT__CANCELLED,
                          WIRE__REASON__CANCEL_TASK, NULL);
}

/* Judges what still flies of [first, first + count), and tells its workers that nobody waits for it. */
void close_flights_span(struct ledger *l, struct batch *b, uint64_t first, uint64_t count, Wire__Verdict v, Wire__Reason r,
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
        flight_settle(f, at, n);
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
        flight_settle(f, at, n);
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
        settled += flight_settle(f, at, n);
        release_ended(l, f, at, n);
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
    if ((c = closing_at(b, first)) == NULL) {
        struct closing key = {.first = first};
        c = RB_NFIND(closing_tree, &b->closing_places, &key);
    }
    for (; c != NULL && c->first < end; c = RB_NEXT(closing_tree, &b->closing_places, c)) {
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

static Wire__Reason reason_at(const Wire__RecordedResult *r, uint64_t i)
{
    return r->n_reasons == 0 ? WIRE__REASON__REASON_NONE : r->reasons[r->n_reasons == 1 ? 0 : i];
}

static void count_verdicts(struct ledger *l, struct batch *b, const Wire__RecordedResult *r, uint64_t first, uint64_t n)
{
    Wire__Verdict one = r->n_verdicts == 0 ? WIRE__VERDICT__VERDICT_NONE : r->verdicts[0];
    b->settled += n;
    if (r->n_verdicts <= 1 && (r->n_reasons <= 1 || one != WIRE__VERDICT__DEADLINE_EXCEEDED)) {
        b->counts[one] += n;
        l->counts.verdicts[one] += n;
        b->by_deadline += wire_is_by_deadline(one, reason_at(r, 0)) ? n : 0;
        return;
    }
    for (uint64_t i = first - r->fence->first; n > 0; n--, i++) {
        Wire__Verdict v = r->n_verdicts > 1 ? r->verdicts[i] : one;
        b->counts[v]++;
        l->counts.verdicts[v]++;
        b->by_deadline += wire_is_by_deadline(v, reason_at(r, i));
    }
}

static void record_fresh(struct ledger *l, struct batch *b, const Wire__RecordedResult *r, uint64_t first, uint64_t count)
{
    struct reporter who = {r->session, r->fence->epoch, r->fence->attempt};
    uint64_t at = first, end = first + count, n;
    while (at < end && at < b->admitted) {
        uint64_t from = at;
        at += settle_run(l, b, at, end < b->admitted ? end : b->admitted, &who, &n);
        count_verdicts(l, b, r, from, n);
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

/* Results of tasks that have a verdict: of attempts that were given up, or brought again. How many; the sink counts the same. */
static uint64_t count_duplicates(struct batch *b, const Wire__RecordedResult *r)
{
    uint64_t fresh = r->all_fresh ? r->fence->count : 0;
    for (size_t i = 0; i < r->n_fresh; i++)
        fresh += r->fresh[i]->count;
    uint64_t late = r->fence->count - (fresh < r->fence->count ? fresh : r->fence->count);
    b->duplicates += late;
    return late;
}

static void record_verdict(struct ledger *l, struct batch *b, const Wire__RecordedResult *r)
{
    if (r->all_fresh) {
        record_fresh(l, b, r, r->fence->first, r->fence->count);
        return;
    }
    for (size_t i = 0; i < r->n_fresh; i++)
        record_fresh(l, b, r, r->fresh[i]->first, r->fresh[i]->count);
    if (count_duplicates(b, r) > 0 && flies(b, r))
        sink_doubt(l, b);       /* what recorded them was not heard here */
}

/* The attempt of a task is on record and did not settle it: it is tried again after its backoff. */
static void record_try(struct ledger *l, struct batch *b, uint64_t at, struct flight *f, uint32_t on_record)
{
    struct past past = f->past;
    struct flight *mine = flight_carve(l, f, at, 1);
    BUG_IF_NO_MEMORY(mine);
    flight_drop(l, mine);
    /* An answer that is heard again, of an attempt whose worker was away, counts nothing. */
    bool counts = on_record == 0 || on_record > past.tries;
    past.tries = on_record > past.tries ? on_record : past.tries + (on_record == 0);
    b->retried += counts;
    l->counts.retried += counts;
    try_again(l, b, at, past);
}

static void record_attempt(struct ledger *l, struct batch *b, const Wire__RecordedResult *r)
{
    struct reporter who = {r->session, r->fence->epoch, r->fence->attempt};
    count_duplicates(b, r);
    for (uint32_t i = 0; i < r->fence->count; i++) {
        uint64_t at = r->fence->first + i;
        uint32_t on_record = wire_u32(r->on_record, r->n_on_record, i);
        struct flight *f = flight_at(b, at);
        if (f != NULL && is_reporter(f, &who) && !bit_get(f->done, (uint32_t)(at - f->first)))
            record_try(l, b, at, f, on_record);
        else if (on_record > 0)
            tries_on_record(l, b, at, 1, on_record);    /* one that was given up: its task is queued or under way already */
    }
}

static void record_closing(struct ledger *l, struct batch *b, const Wire__RecordedResult *r)
{
    struct closing *c;
    HASH_FIND(hh, b->closing_by_number, &r->number, sizeof r->number, c);
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
    l->counts.verdicts[c->verdict] += r->closed;
    b->by_deadline += wire_is_by_deadline(c->verdict, c->reason) ? r->closed : 0;
    b->settled += r->closed;
    l->counts.recorded += r->closed;
    drop_closing(b, c);
}

/* A result of a batch that is complete. The sink isn't asked about it again: the journal keeps the number. */
static void record_late(struct ledger *l, struct batch *b, const Wire__RecordedResult *r, struct batch **unwritten)
{
    if (r->kind == WIRE__RESULT_KIND__IS_CLOSING)
        return;
    b->duplicates += r->fence->count;
    if (*unwritten != NULL && *unwritten != b)
        batch_tally(l, *unwritten);
    *unwritten = b;
}

void on_recorded(struct ledger *l, const Wire__Recorded *m)
{
    struct batch *unwritten = NULL;
    l->sink_moved = l->now;
    for (size_t i = 0; i < m->n_results; i++) {
        const Wire__RecordedResult *r = m->results[i];
        struct batch *b = batch_by_id(l, r->fence->batch);
        if (b == NULL) {
            release_unknown(l, r->session, r->fence);
            continue;
        }
        if (r->kind != WIRE__RESULT_KIND__IS_CLOSING) {
            release_result(l, r->session, r->fence, b);
            nested_recorded(l, b, r);
        }
        /* Before the sink has told what it has, what it says now is part of that answer. */
        bool attempt = r->kind == WIRE__RESULT_KIND__IS_ATTEMPT;
        if (b->disowned || (b->recovery == RECOVER_ASK && b->asked == 0 && !attempt))
            continue;
        if (b->complete)
            record_late(l, b, r, &unwritten);
        else if (r->kind == WIRE__RESULT_KIND__IS_VERDICT)
            record_verdict(l, b, r);
        else if (attempt)
            record_attempt(l, b, r);    /* always: its worker has just been told to forget it */
        else
            record_closing(l, b, r);
        batch_moved(l, b);
    }
    if (unwritten != NULL)
        batch_tally(l, unwritten);
}

void on_refused_result(struct ledger *l, const Wire__RefusedResult *m)
{
    struct batch *b = batch_by_id(l, m->fence->batch);
    if (b == NULL)
        return;
    release_result(l, m->session, m->fence, b);
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
    p->batch = b->number;
    p->upto = b->staged;
    p->seals = b->seal_staged;
}

void deadline_due(struct ledger *l, void *owner)
{
    struct batch *b = owner;
    b->too_late = true;
    if (mono_before(l->now, b->deadline)) {
        close_queued(l, b, WIRE__VERDICT__DEADLINE_EXCEEDED, WIRE__REASON__DEADLINE, NULL);
        due_set(l, &b->due, b->deadline, deadline_due, b);
        batch_moved(l, b);
        return;
    }
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
