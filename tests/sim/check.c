/* What must hold, counted from what is durable at the sink and from what the slots really ran: nothing of
 * it is taken from the cores' own books. */
#include "tests/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bug.h"

#define SLACK          (3 * S / 2)     /* for the last messages and commits of a batch at its deadline */
#define IN_FLIGHT      60000u          /* run credits, and what is not released yet */
#define SETTLE         (25 * S)        /* after a disturbance: silence, reconnection, recovery, what is sent again */

struct truth *truth_of(struct world *w, const uint8_t *id)
{
    for (struct truth *t = w->truths; t != NULL; t = t->next)
        if (memcmp(t->id, id, WIRE_ID) == 0)
            return t;
    struct truth *t = calloc(1, sizeof *t);
    BUG_IF(t == NULL);
    memcpy(t->id, id, WIRE_ID);
    t->next = w->truths;
    w->truths = t;
    return t;
}

static struct task *task_of(struct truth *t, uint64_t index)
{
    if (index >= t->room) {
        size_t room = t->room ? t->room : 64;
        while (room <= index)
            room *= 2;
        t->tasks = realloc(t->tasks, room * sizeof *t->tasks);
        BUG_IF(t->tasks == NULL);
        memset(&t->tasks[t->room], 0, (room - t->room) * sizeof *t->tasks);
        t->room = room;
    }
    return &t->tasks[index];
}

/* ---- I1: what is on the sink's disk ---- */

/* What is judged lost must have lost its workers: by its own doing, where nothing else kills them. */
static void check_lost(struct world *w, struct truth *t, uint64_t index)
{
    const struct task *task = task_of(t, index);
    if (w->theme == THEME_QUIET || w->theme == THEME_GENTLE)
        violated(w, "gentle", "task %s/%" PRIu64 " is judged lost, and no worker was killed", t->short_id, index);
    if (task->killed > 0)
        cover(w, COVER_POISON_LOST);
    if (w->theme != THEME_POISON)
        return;
    if (task->killed == 0)
        violated(w, "poison", "task %s/%" PRIu64 " is judged lost and has killed no worker", t->short_id, index);
}

void check_killed(struct world *w, struct truth *t, uint64_t index)
{
    struct task *task = task_of(t, index);
    cover(w, COVER_POISON);
    if (++task->killed > MAX_LOSSES && w->theme == THEME_POISON)
        violated(w, "poison", "task %s/%" PRIu64 " kills its worker for the %u. time; %u are the most", t->short_id, index, task->killed, MAX_LOSSES);
}

/* The deadline may move to and fro by its clock's drift. */
static void check_early(struct world *w, const struct truth *t, uint64_t index, Wire__Verdict verdict, Wire__Reason reason)
{
    if (verdict != WIRE__VERDICT__DEADLINE_EXCEEDED || reason != WIRE__REASON__DEADLINE || w->now + 20 * MS >= t->deadline_from)
        return;
    if (!(w->wall_stepped && w->vent.p.boots > 0))
        violated(w, "early", "task %s/%" PRIu64 " is ended by a deadline that is %" PRId64 " ms away", t->short_id, index,
                 (t->deadline_from - w->now) / MS);
}

static void record(struct world *w, struct truth *t, uint64_t index, Wire__Verdict verdict)
{
    struct task *task = task_of(t, index);
    if (task->verdict != 0) {
        violated(w, "I1", "task %s/%" PRIu64 " is recorded twice: %s, then %s", t->short_id, index, wire_verdict_name(task->verdict),
                 wire_verdict_name(verdict));
        return;
    }
    if (verdict == WIRE__VERDICT__LOST)
        check_lost(w, t, index);
    task->verdict = (uint8_t)verdict;
    t->recorded++;
    t->counts[verdict]++;
    if (index >= t->n)
        t->n = index + 1;
}

/* "ok" is the word of a handler that ended by itself with 0, in just that attempt. */
static void check_ok(struct world *w, struct truth *t, uint64_t index, const Wire__Fence *fence)
{
    const struct task_run *r = task_of(t, index)->runs;
    while (r != NULL && (r->epoch != fence->epoch || r->attempt != fence->attempt))
        r = r->next;
    if (r == NULL || !r->over || !r->ok)
        violated(w, "honest", "task %s/%" PRIu64 " is recorded ok by attempt %" PRIu64 ".%u, which %s", t->short_id, index, fence->epoch,
                 fence->attempt, r == NULL ? "never ran" : "did not end so");
}

/* ---- halts ---- */

static bool is_failure(Wire__Verdict verdict, Wire__Reason reason)
{
    return verdict == WIRE__VERDICT__FAILED || verdict == WIRE__VERDICT__LOST || verdict == WIRE__VERDICT__REJECTED
           || (verdict == WIRE__VERDICT__DEADLINE_EXCEEDED && reason == WIRE__REASON__TIMEOUT);
}

static bool enough(const struct truth *t, uint64_t of)
{
    const Wire__HaltRule *rule = t->halt;
    return rule != NULL && ((rule->failures > 0 && t->failures >= rule->failures)
                            || (rule->percent > 0 && t->failures >= 3 && t->failures * 100 >= rule->percent * of));
}

/* A halt comes after the failures that its rule names. The share is of what was submitted when it came: of what is acknowledged,
 * at least. */
static void check_halt(struct world *w, struct truth *t, uint64_t index, Wire__Verdict verdict, Wire__Reason reason)
{
    t->failures += is_failure(verdict, reason);
    if (t->halted_at == 0 && enough(t, t->total))
        t->halted_at = w->now;
    if (reason != WIRE__REASON__HALT)
        return;
    cover(w, COVER_HALTED);
    if (!enough(t, t->acknowledged))
        violated(w, "halt", "task %s/%" PRIu64 " is ended by a halt; only %" PRIu64 " tasks have failed", t->short_id, index, t->failures);
}

/* Where nothing goes wrong the ventilator hears of failures in time. */
static void check_halted(struct world *w, const struct worker *k, const struct truth *t, const struct agent_run *run)
{
    if (w->theme == THEME_QUIET && t->halted_at > 0 && w->now > t->halted_at + 3 * S + 4 * w->slack)
        violated(w, "halt", "%s starts %s/%" PRIu64 " %" PRId64 " ms after the batch had failed too often", k->p.name, run->short_id, run->index,
                 (w->now - t->halted_at) / MS);
}

static void check_report(struct world *w, const struct op *row, const Wire__Row *m)
{
    const Wire__Report *report = m->report;
    struct truth *t = truth_of(w, report->fence->batch.data);
    trace(w, "disk", "%s of %s/%" PRIu64 " +%u attempt %" PRIu64 ".%u by %s: %s", row->row_kind == ROW_VERDICT ? "verdict" : "attempt",
          t->short_id, report->fence->first, report->fence->count, report->fence->epoch, report->fence->attempt, report->worker,
          wire_verdict_name(report->verdicts[0]));
    for (uint32_t i = 0; i < report->fence->count && row->row_kind == ROW_VERDICT; i++) {
        if (m->fresh.len > 0 && (m->fresh.data[i / 8] >> (i % 8) & 1) == 0)
            continue;
        Wire__Verdict verdict = report->verdicts[report->n_verdicts == 1 ? 0 : i];
        record(w, t, report->fence->first + i, verdict);
        check_halt(w, t, report->fence->first + i, verdict,
                   report->n_reasons == 0 ? WIRE__REASON__REASON_NONE : report->reasons[report->n_reasons == 1 ? 0 : i]);
        if (report->n_reasons > 0)
            check_early(w, t, report->fence->first + i, verdict, report->reasons[report->n_reasons == 1 ? 0 : i]);
        if (verdict == WIRE__VERDICT__OK)
            check_ok(w, t, report->fence->first + i, report->fence);
    }
}

static void check_closed(struct world *w, struct truth *t, uint64_t index, const Wire__Closing *c)
{
    record(w, t, index, c->verdict);
    check_halt(w, t, index, c->verdict, c->reason);
}

static void check_closing(struct world *w, const Wire__Row *m)
{
    const Wire__Closing *c = m->closing;
    struct truth *t = truth_of(w, c->batch.data);
    trace(w, "disk", "closing %" PRIu64 " of %s/%" PRIu64 " +%" PRIu64 ": %s", c->number, t->short_id, c->span->first, c->span->count,
          wire_verdict_name(c->verdict));
    for (size_t i = 0; i < m->n_closed; i++)
        for (uint64_t k = 0; k < m->closed[i]->count; k++)
            check_closed(w, t, m->closed[i]->first + k, c);
    check_early(w, t, c->span->first, c->verdict, c->reason);
    for (uint64_t k = 0; k < (uint64_t)m->closed_bitmap.len * 8; k++)
        if (m->closed_bitmap.data[k / 8] >> (k % 8) & 1)
            check_closed(w, t, c->span->first + k, c);
}

void check_row(struct world *w, const struct op *row)
{
    const Wire__Row *m;
    struct why why = {""};
    if (wire_read_row(w->arena, buf_bytes(row->value), buf_len(row->value), buf_len(row->body), &m, &why) < 0)
        violated(w, "wire", "a row can't be read back: %s", why.text);
    else if (m->report != NULL)
        check_report(w, row, m);
    else if (m->closing != NULL)
        check_closing(w, m);
}

/* The sink's own word that a batch is complete. */
void check_sink_record(struct world *w, const struct op *op)
{
    const ProtobufCMessage *m;
    struct why why = {""};
    if (strncmp(op->key, "batch/", 6) != 0)
        return;
    if (wire_read_any(w->arena, &wire__sink_batch_record__descriptor, buf_bytes(op->value), buf_len(op->value), &m, &why) < 0) {
        violated(w, "wire", "a record can't be read back: %s", why.text);
        return;
    }
    const Wire__SinkBatchRecord *r = (const Wire__SinkBatchRecord *)m;
    struct truth *t = truth_of(w, r->batch.data);
    if (r->complete && (r->total == NULL || r->total->n != t->recorded || t->n > r->total->n))
        violated(w, "I1", "the sink calls batch %s complete; %" PRIu64 " tasks are recorded, %" PRIu64 " exist", t->short_id, t->recorded,
                 r->total != NULL ? r->total->n : 0);
    for (size_t i = 0; r->complete && i < r->n_counts; i++)
        if (r->counts[i] != t->counts[i])
            violated(w, "counts", "the sink's record of %s says %" PRIu64 " %s, its rows %" PRIu64, t->short_id, r->counts[i],
                     wire_verdict_name((Wire__Verdict)i), t->counts[i]);
}

/* A result comes in of a task that has its verdict: it must change nothing. */
void check_duplicate(struct world *w, const Wire__Result *m)
{
    if (m->what_case != WIRE__RESULT__WHAT_REPORT)
        return;
    const Wire__Fence *fence = m->report->fence;
    if (task_of(truth_of(w, fence->batch.data), fence->first)->verdict != 0)
        cover(w, COVER_DUPLICATE);
}

/* Nothing is called recorded before it is on disk. */
void check_recorded(struct world *w, const Wire__Recorded *m)
{
    for (size_t i = 0; i < m->n_results; i++) {
        const Wire__RecordedResult *r = m->results[i];
        struct truth *t = truth_of(w, r->fence->batch.data);
        trace(w, "sink", "says recorded (kind %d) %s/%" PRIu64 " +%u attempt %" PRIu64 ".%u, number %" PRIu64 " closed %" PRIu64, r->kind, t->short_id,
              r->fence->first, r->fence->count, r->fence->epoch, r->fence->attempt, r->number, r->closed);
        if (r->kind != WIRE__RESULT_KIND__IS_VERDICT)
            continue;
        for (uint64_t k = 0; k < r->fence->count; k++)
            if (task_of(t, r->fence->first + k)->verdict == 0)
                violated(w, "I1", "task %s/%" PRIu64 " is called recorded and has no verdict on disk", t->short_id, r->fence->first + k);
    }
}

static uint64_t number_after(const char *text, const char *word)
{
    const char *at = strstr(text, word);
    return at != NULL ? strtoull(at + strlen(word), NULL, 10) : UINT64_MAX;
}

/* Every batch is registered before it can end, whether its client has heard of it or not. */
void check_register(struct world *w, const Wire__Register *m)
{
    struct truth *t = truth_of(w, m->batch.data);
    snprintf(t->short_id, sizeof t->short_id, "%s", m->short_id);
    const struct plan *p = &w->plans[number_after(m->options->name, "plan ")];
    t->halt = p->halt.when != WIRE__HALT_WHEN__HALT_NEVER ? &p->halt : NULL;
    t->total = p->total;
}

void check_acknowledged(struct world *w, struct truth *t, uint64_t upto)
{
    if (mutate(w, MUTANT_ACK_INVENTED))
        upto++;
    if (upto < t->acknowledged)
        violated(w, "I1", "batch %s had %" PRIu64 " acknowledged tasks and has %" PRIu64 " now", t->short_id, t->acknowledged, upto);
    t->acknowledged = upto;
}

void check_batch_complete(struct world *w, const char *text)
{
    char short_id[16] = "";
    sscanf(text, "batch=%15s", short_id);
    struct truth *t = w->truths;
    while (t != NULL && strcmp(t->short_id, short_id) != 0)
        t = t->next;
    if (t == NULL)
        return;
    uint64_t tasks = number_after(text, "tasks=");
    if (tasks != t->recorded || tasks < t->acknowledged || t->n > tasks)
        violated(w, "I1", "the ventilator calls batch %s complete with %" PRIu64 " tasks; %" PRIu64 " are recorded, %" PRIu64 " acknowledged",
                 short_id, tasks, t->recorded, t->acknowledged);
    for (int v = WIRE__VERDICT__OK; v < (int)WIRE_VERDICTS; v++) {
        char word[40];
        snprintf(word, sizeof word, " %s=", wire_verdict_name((Wire__Verdict)v));
        if (number_after(text, word) != t->counts[v])
            violated(w, "counts", "batch %s ends with%s%" PRIu64 " at the ventilator and %" PRIu64 " on the sink's disk", short_id, word,
                     number_after(text, word), t->counts[v]);
    }
    t->complete = true;
}

void check_status(struct world *w, struct truth *t, const Wire__BatchStatus *s)
{
    const uint64_t told[WIRE_VERDICTS] = {0, s->ok, s->failed, s->deadline_exceeded, s->cancelled, s->lost, s->rejected};
    for (int v = WIRE__VERDICT__OK; v < (int)WIRE_VERDICTS; v++)
        if (told[v] != t->counts[v])
            violated(w, "counts", "status of %s says %s=%" PRIu64 ", the sink's disk %" PRIu64, t->short_id, wire_verdict_name((Wire__Verdict)v),
                     told[v], t->counts[v]);
}

/* ---- I3, I8, fences: what starts ---- */

/* The other attempt runs where the ventilator sees it and may rely on it. */
static bool still_counts(const struct task_run *r)
{
    struct worker *k = r->worker;
    struct agent_counts counts;
    if (r->over || r->stopped || !k->p.alive || k->p.life != r->life || k->p.frozen)
        return false;
    agent_count(k->agent, clock_of(&k->p), &counts);
    return counts.lane_open && counts.lease_valid && k->lane.link != NULL && link_alive(k->lane.link);
}

/* A worker that hears nothing any more keeps the deadline by itself; what was on its way to it comes late. */
static void check_late(struct world *w, const struct worker *k, const struct truth *t, const struct agent_run *run)
{
    int64_t slack = w->theme == THEME_STORM || w->theme == THEME_BACKLOG ? 25 * S : S / 2 + w->slack;
    if (t->deadline_by > 0 && w->now > t->deadline_by + slack)
        violated(w, "deadline", "%s starts %s/%" PRIu64 " %" PRId64 " ms after its deadline", k->p.name, run->short_id, run->index,
                 (w->now - t->deadline_by) / MS);
}

struct task_run *check_run(struct worker *k, const struct agent_run *run)
{
    struct world *w = k->p.world;
    struct truth *t = truth_of(w, run->batch);
    struct task *task = task_of(t, run->index);
    if (task->cancelled)
        violated(w, "I3", "%s starts %s/%" PRIu64 " after its cancel was acknowledged", k->p.name, run->short_id, run->index);
    check_late(w, k, t, run);
    check_halted(w, k, t, run);
    if (task->runs != NULL)
        cover(w, COVER_RUN_AGAIN);
    for (const struct task_run *r = task->runs; r != NULL; r = r->next) {
        if (r->epoch == run->epoch && r->attempt == run->attempt)
            violated(w, "fence", "attempt %" PRIu64 ".%u of %s/%" PRIu64 " starts a second time, at %s", run->epoch, run->attempt,
                     run->short_id, run->index, k->p.name);
        if (r->ok && (w->theme == THEME_QUIET || w->theme == THEME_GENTLE))
            violated(w, "gentle", "%s/%" PRIu64 " starts again at %s; it ended ok at %s, and nothing was killed", run->short_id, run->index,
                     k->p.name, r->worker->p.name);
        if (still_counts(r))
            violated(w, "one_attempt", "attempt %" PRIu64 ".%u of %s/%" PRIu64 " starts at %s while %" PRIu64 ".%u runs at %s, which is there",
                     run->epoch, run->attempt, run->short_id, run->index, k->p.name, r->epoch, r->attempt, r->worker->p.name);
    }
    struct task_run *made = calloc(1, sizeof *made);
    BUG_IF(made == NULL);
    *made = (struct task_run){task->runs, run->epoch, run->attempt, k, k->p.life, false, false, false};
    task->runs = made;
    return made;
}

/* From the moment when the ventilator sends the answer. Exempt: what it calls unreachable, and what had ended
 * otherwise before: an assignment may be stuck on its way longer than its task lives. */
void check_cancel_reply(struct world *w, struct plan *plan, const Wire__CancelReport *r)
{
    struct truth *t = plan->truth;
    trace(w, "check", "cancel of %s is answered: queued=%" PRIu64 " running=%" PRIu64 " finished=%" PRIu64 " unreachable=%" PRIu64, t->short_id,
          r->queued, r->running, r->finished, r->unreachable);
    if (r->unreachable > 0)
        return;
    uint64_t first = plan->whole_cancel ? 0 : plan->cancel_span.first;
    uint64_t end = plan->whole_cancel ? (plan->total > t->n ? plan->total : t->n) : first + plan->cancel_span.count;
    for (uint64_t i = first; i < end; i++) {
        struct task *task = task_of(t, i);
        task->cancelled |= task->verdict == 0 || task->verdict == WIRE__VERDICT__CANCELLED;
    }
}

/* ---- I2 ---- */

static void say_unfinished(struct world *w, char *out, size_t size)
{
    size_t n = 0;
    out[0] = '\0';
    for (const struct truth *t = w->truths; t != NULL && n < size; t = t->next)
        if (!t->complete)
            n += (size_t)snprintf(out + n, size - n, " batch %s: %" PRIu64 " of %" PRIu64 " recorded;", t->short_id, t->recorded, t->acknowledged);
    for (unsigned i = 0; i < w->n_workers && n < size; i++) {
        struct agent_counts c;
        if (w->workers[i].agent == NULL)
            continue;
        agent_count(w->workers[i].agent, clock_of(&w->workers[i].p), &c);
        if (c.busy + c.queued + c.unreleased > 0)
            n += (size_t)snprintf(out + n, size - n, " %s: busy %u queued %" PRIu64 " unreleased %" PRIu64 ";", w->workers[i].p.name, c.busy,
                                  c.queued, c.unreleased);
    }
}

static void judge_deadline(struct world *w, struct event *e);

static void judge_later(struct world *w, struct truth *t, int64_t delay)
{
    struct event *e = after(w, delay, NULL, judge_deadline);
    e->p = t;
    e->a = t->deadline_version;
}

static void judge_deadline(struct world *w, struct event *e)
{
    struct truth *t = e->p;
    if (t->complete || e->a != t->deadline_version || t->deadline_by == 0)
        return;
    if (w->disturbances > 0)
        judge_later(w, t, S);
    else if (w->disturbed_at > t->deadline_by - SETTLE && w->now < w->disturbed_at + SETTLE)
        judge_later(w, t, w->disturbed_at + SETTLE - w->now);
    else {
        char text[400];
        say_unfinished(w, text, sizeof text);
        violated(w, "I2", "batch %s is not complete %" PRId64 " ms after its deadline, grace %" PRId64 " ms; last disturbance at %.3f s:%s",
                 t->short_id, (w->now - t->deadline_by) / MS, t->grace / MS, (double)w->disturbed_at / 1e9, text);
    }
}

/* Across a restart of its host the journal has only the wall clock's word: what that was set back, counts twice. */
void check_reboot(struct world *w)
{
    for (struct truth *t = w->truths; t != NULL; t = t->next)
        if (t->deadline_by > 0 && !t->complete)
            check_deadline(w, t, t->deadline_from, t->deadline_by + w->wall_most - w->wall_offset, t->grace);
}

void check_deadline(struct world *w, struct truth *t, int64_t from, int64_t by, int64_t grace)
{
    t->deadline_from = from;
    t->deadline_by = by;
    t->grace = grace;
    t->deadline_version++;
    judge_later(w, t, by + grace + SLACK + w->slack - w->now);
}

/* ---- I5 ---- */

/* What the ledger keeps in memory follows what flies. */
void check_memory(struct vent *v)
{
    struct world *w = v->p.world;
    struct ledger_counts c;
    ledger_count(v->ledger, &c);
    uint64_t cached = CACHE_BYTES + c.open_batches * CACHE_SLACK;
    if (c.cached_bytes > cached)
        violated(w, "I5", "%" PRIu64 " bytes of payloads are in memory, %" PRIu64 " are the most", c.cached_bytes, cached);
    if (c.in_flight > IN_FLIGHT)
        violated(w, "I5", "%" PRIu64 " tasks are in flight, %u are the most that %u workers may hold", c.in_flight, IN_FLIGHT, MAX_WORKERS);
    v->most_in_flight = c.in_flight > v->most_in_flight ? c.in_flight : v->most_in_flight;
    if (c.holes + c.flights > 64 + 4 * v->most_in_flight)
        violated(w, "I5", "%" PRIu64 " holes and %" PRIu64 " flights; never more than %" PRIu64 " tasks were in flight", c.holes, c.flights,
                 v->most_in_flight);
}

/* ---- the end ---- */

void check_idle_end(struct world *w)
{
    char text[400];
    say_unfinished(w, text, sizeof text);
    violated(w, "I6", "not over %" PRId64 " s after the last fault:%s", (w->horizon - w->end_of_faults) / S, text);
}

/* In a world where only poison kills, each of it must be found out, unless something else ended it before. */
static void check_poison(struct world *w, const struct plan *p)
{
    for (size_t i = 0; i < p->n_poison; i++) {
        const struct task *task = task_of(p->truth, p->poison[i]);
        if (task->killed == MAX_LOSSES && task->verdict != WIRE__VERDICT__LOST && p->options.deadline == NULL && p->cancel_after == 0
            && p->options.halt == NULL)
            violated(w, "poison", "task %s/%" PRIu64 " has killed %u workers and is recorded %s", p->short_id, p->poison[i], task->killed,
                     wire_verdict_name(task->verdict));
    }
}

void check_end(struct world *w)
{
    for (size_t i = 0; i < MAX_PLANS && w->theme == THEME_POISON; i++)
        if (w->plans[i].known)
            check_poison(w, &w->plans[i]);
    for (struct truth *t = w->truths; t != NULL; t = t->next) {
        for (uint64_t i = 0; i < t->acknowledged; i++)
            if (task_of(t, i)->verdict == 0)
                violated(w, "I1", "task %s/%" PRIu64 " was acknowledged and has no verdict", t->short_id, i);
        if (t->recorded != t->n)
            violated(w, "I1", "batch %s has %" PRIu64 " verdicts and its last one is of task %" PRIu64, t->short_id, t->recorded, t->n - 1);
    }
}

void check_free(struct world *w)
{
    while (w->truths != NULL) {
        struct truth *t = w->truths;
        w->truths = t->next;
        for (size_t i = 0; i < t->room; i++)
            while (t->tasks[i].runs != NULL) {
                struct task_run *r = t->tasks[i].runs;
                t->tasks[i].runs = r->next;
                free(r);
            }
        free(t->tasks);
        free(t);
    }
}
