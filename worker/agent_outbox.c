/* The outbox: results are kept here until the ventilator says that they may be forgotten.
 *
 * Each report is in the tree (to be found by a release) and in one list: those that must be sent, or
 * those that were sent and wait for 5, 10, 20, 40 or 60 s. All of one list wait equally long, so each
 * list is in the order of time by itself. What has many bytes on their way waits longer from the beginning:
 * sent again, they would only make a slow line slower. */
#include "worker/agent_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define LINE_BYTES 1000000u /* a second: a line that carries less is too slow for results of that size */
#define TASK_COST 128u      /* bytes of memory that a result takes beside its output */

static const int64_t resend_after[RESEND_LEVELS] = {5 * NS_PER_S, 10 * NS_PER_S, 20 * NS_PER_S, 40 * NS_PER_S, 60 * NS_PER_S};

static int by_fence(const struct report *a, const struct report *b)
{
    int order = memcmp(a->batch->id, b->batch->id, WIRE_ID);
    if (order != 0)
        return order;
    if (a->epoch != b->epoch)
        return a->epoch < b->epoch ? -1 : 1;
    if (a->attempt != b->attempt)
        return a->attempt < b->attempt ? -1 : 1;
    return a->first < b->first ? -1 : a->first > b->first;
}
RB_GENERATE_INTERNAL(report_tree, report, node, by_fence, static __attribute__((unused)))

struct report *agent_report_new(void)
{
    struct report *report = calloc(1, sizeof *report);
    if (report) {
        report->outcomes = &report->own;
        report->n_outcomes = report->room = 1;
        report->list = REPORT_UNSENT;
    }
    return report;
}

static void outcome_release(struct outcome *outcome)
{
    free(outcome->sentence);
    wire_free(&outcome->extra);
    slice_drop(&outcome->output);
    slice_drop(&outcome->errors);
}

void agent_report_destroy(struct agent *self, struct report **report_p)
{
    struct report *report = *report_p;
    *report_p = NULL;
    if (!report)
        return;
    for (uint32_t i = 0; i < report->n_outcomes; i++)
        outcome_release(&report->outcomes[i]);
    if (report->outcomes != &report->own)
        free(report->outcomes);
    slice_drop(&report->body);
    free(report->released);
    if (report->batch)
        agent_batch_let_go(self, report->batch);
    free(report);
}

/* ---- putting in ---- */

static size_t body_of(const struct outcome *outcome) { return (size_t)outcome->output_len + outcome->errors_len; }

/* A result with words of its own goes alone: the head of a frame has room for numbers of thousands, not for texts. */
static bool is_plain(const struct report *report)
{
    const struct outcome *outcome = &report->outcomes[0];
    return report->n_outcomes == report->count && !outcome->sentence && !outcome->extra;
}

static size_t bodies_of(const struct report *report) { return report->bytes - (size_t)report->count * TASK_COST; }

static bool may_join(const struct report *open, const struct report *report)
{
    return open && open->list == REPORT_OPEN && open->batch == report->batch && open->epoch == report->epoch && open->attempt == report->attempt
        && open->kind == report->kind && open->first + open->count == report->first
        && open->first / WIRE_BLOCK == (report->first + report->count - 1) / WIRE_BLOCK && is_plain(open) && is_plain(report)
        && bodies_of(open) + bodies_of(report) <= WIRE_FRAME_BODY;
}

static int make_room(struct report *open, uint32_t wanted)
{
    if (wanted <= open->room)
        return 0;
    uint32_t room = open->room * 4 > wanted ? open->room * 4 : wanted;
    struct outcome *old = open->outcomes == &open->own ? NULL : open->outcomes;
    struct outcome *outcomes = realloc(old, room * sizeof *outcomes);
    if (!outcomes)
        return -ENOMEM;
    if (!old)
        outcomes[0] = open->own;
    open->outcomes = outcomes;
    open->room = room;
    return 0;
}

/* The outcomes of `report` are the open one's then, and are forgotten there. */
static int join(struct report *open, struct report *report)
{
    if (make_room(open, open->count + report->count) < 0)
        return -ENOMEM;
    memcpy(open->outcomes + open->count, report->outcomes, report->count * sizeof *report->outcomes);
    open->count += report->count;
    open->n_outcomes = open->count;
    open->bytes += report->bytes;
    report->n_outcomes = 0;
    return 0;
}

/* One that an open report has taken in. */
static void swallowed(struct agent *self, struct report *report)
{
    if (report->list == REPORT_OPEN) {
        RB_REMOVE(report_tree, &self->reports, report);
        TAILQ_REMOVE(&self->lists[REPORT_OPEN], report, entry);
    }
    agent_report_destroy(self, &report);
}

void agent_outbox_put(struct agent *self, struct report **report_p)
{
    struct report *report = *report_p;
    *report_p = NULL;
    report->bytes = body_of(&report->own) + TASK_COST;
    self->unreleased += report->count;
    self->unreleased_bytes += report->bytes;
    self->finished_bytes += report->bytes;
    struct report *after = RB_NFIND(report_tree, &self->reports, report);
    struct report *before = after ? RB_PREV(report_tree, &self->reports, after) : RB_MAX(report_tree, &self->reports);
    if (may_join(before, report) && join(before, report) == 0) {
        swallowed(self, report);
        report = before;
    } else {
        RB_INSERT(report_tree, &self->reports, report);
        report->list = REPORT_OPEN;
        TAILQ_INSERT_TAIL(&self->lists[REPORT_OPEN], report, entry);
    }
    if (after && after->list == REPORT_OPEN && may_join(report, after) && join(report, after) == 0)
        swallowed(self, after);
    self->open = report;
}

int agent_outbox_add(struct agent *self, const struct report *like, struct outcome *outcome)
{
    struct report one = *like;
    one.own = *outcome;
    one.outcomes = &one.own;
    one.count = one.n_outcomes = 1;
    one.bytes = body_of(outcome) + TASK_COST;
    if (may_join(self->open, &one) && join(self->open, &one) == 0) {
        self->unreleased++;
        self->unreleased_bytes += one.bytes;
        self->finished_bytes += one.bytes;
        return 0;
    }
    struct report *report = agent_report_new();
    if (!report) {
        outcome_release(outcome);
        return -ENOMEM;
    }
    report->own = *outcome;
    report->batch = like->batch;
    report->first = like->first;
    report->count = 1;
    report->epoch = like->epoch;
    report->attempt = like->attempt;
    report->kind = like->kind;
    agent_batch_hold(like->batch);
    agent_outbox_put(self, &report);
    return 0;
}

static void move_to(struct agent *self, struct report *report, unsigned list)
{
    TAILQ_REMOVE(&self->lists[report->list], report, entry);
    TAILQ_INSERT_TAIL(&self->lists[list], report, entry);
    report->list = list;
}

static void seal_one(struct agent *self, struct report *report)
{
    if (report->list != REPORT_OPEN)
        return;
    agent_report_seal(report);
    move_to(self, report, REPORT_UNSENT);
}

void agent_outbox_seal(struct agent *self)
{
    struct report *report;
    while ((report = TAILQ_FIRST(&self->lists[REPORT_OPEN])) != NULL)
        seal_one(self, report);
    self->open = NULL;
}

/* ---- taking out ---- */

static void forget(struct agent *self, struct report *report)
{
    RB_REMOVE(report_tree, &self->reports, report);
    TAILQ_REMOVE(&self->lists[report->list], report, entry);
    self->unreleased -= report->count - report->n_released;
    self->unreleased_bytes -= report->bytes;
    agent_report_destroy(self, &report);
}

/* Some of its tasks: the rest is still owed. */
static void release_part(struct agent *self, struct report *report, uint64_t from, uint64_t to)
{
    if (!report->released)
        report->released = calloc((report->count + 7) / 8, 1);
    if (!report->released)
        return;    /* It will be sent and released again. */
    for (uint64_t i = from - report->first; i < to - report->first; i++) {
        uint8_t bit = (uint8_t)(1u << (i % 8));
        if (report->released[i / 8] & bit)
            continue;
        report->released[i / 8] |= bit;
        report->n_released++;
        self->unreleased--;
    }
    if (report->n_released == report->count)
        forget(self, report);
}

static bool is_of(const struct report *report, const struct report *key)
{
    return report->batch == key->batch && report->epoch == key->epoch && report->attempt == key->attempt;
}

void agent_outbox_release(struct agent *self, const Wire__Fence *fence)
{
    struct report key = {.batch = agent_batch_find(self, &fence->batch), .first = fence->first, .epoch = fence->epoch,
                         .attempt = fence->attempt};
    if (!key.batch)
        return;
    self->open = NULL;
    uint64_t end = fence->first + fence->count;
    struct report *report = RB_NFIND(report_tree, &self->reports, &key), *next;
    /* The one before may reach into the fence. */
    struct report *before = report ? RB_PREV(report_tree, &self->reports, report) : RB_MAX(report_tree, &self->reports);
    if (before && is_of(before, &key) && before->first + before->count > fence->first)
        report = before;
    for (; report && is_of(report, &key) && report->first < end; report = next) {
        next = RB_NEXT(report_tree, &self->reports, report);
        seal_one(self, report);
        uint64_t from = report->first > fence->first ? report->first : fence->first;
        uint64_t to = report->first + report->count < end ? report->first + report->count : end;
        if (to - from == report->count)
            forget(self, report);
        else
            release_part(self, report, from, to);
    }
}

/* ---- sending ---- */

static void fetch_due(struct agent *self, mono_t now)
{
    struct report *report;
    for (unsigned level = 0; level < RESEND_LEVELS; level++)
        while ((report = TAILQ_FIRST(&self->lists[level])) != NULL && mono_reached(now, report->resend_at))
            move_to(self, report, REPORT_UNSENT);
}

/* The first list whose time is enough for all that is on its way, or its own if that is later. */
static unsigned level_of(const struct agent *self, const struct report *report)
{
    int64_t needed = resend_after[0] + (int64_t)(self->unreleased_bytes / LINE_BYTES) * NS_PER_S;
    unsigned level = report->level;
    while (level + 1 < RESEND_LEVELS && resend_after[level] < needed)
        level++;
    return level;
}

void agent_outbox_send(struct agent *self, mono_t now)
{
    struct report *report;
    if (!self->sink_up || !mono_reached(now, self->sink_again))
        return;
    fetch_due(self, now);
    while ((report = TAILQ_FIRST(&self->lists[REPORT_UNSENT])) != NULL) {
        if (agent_report_send(self, report) < 0) {
            self->sink_again = mono_add(now, SINK_FULL_PAUSE);
            return;
        }
        self->resent += report->sent_before;
        report->sent_before = true;
        unsigned level = level_of(self, report);
        report->resend_at = mono_add(now, resend_after[level]);
        move_to(self, report, level);
        report->level = level + 1 < RESEND_LEVELS ? level + 1 : level;
    }
}

void agent_outbox_send_again(struct agent *self)
{
    struct report *report;
    for (unsigned level = 0; level < RESEND_LEVELS; level++)
        while ((report = TAILQ_FIRST(&self->lists[level])) != NULL) {
            report->level = 0;
            move_to(self, report, REPORT_UNSENT);
        }
    self->sink_again = (mono_t){INT64_MIN};
}

mono_t agent_outbox_next(const struct agent *self, mono_t now)
{
    mono_t next = MONO_NEVER;
    if (!self->sink_up)
        return next;
    for (unsigned level = 0; level < RESEND_LEVELS; level++)
        if (!TAILQ_EMPTY(&self->lists[level]))
            next = mono_min(next, TAILQ_FIRST(&self->lists[level])->resend_at);
    if (!TAILQ_EMPTY(&self->lists[REPORT_UNSENT]))
        next = mono_min(next, mono_before(self->sink_again, now) ? now : self->sink_again);
    return next;
}

struct report *agent_outbox_first(const struct agent *self) { return RB_MIN(report_tree, (struct report_tree *)(uintptr_t)&self->reports); }

struct report *agent_outbox_after(struct report *report) { return RB_NEXT(report_tree, NULL, report); }

void agent_outbox_destroy(struct agent *self)
{
    struct report *report;
    while ((report = RB_MIN(report_tree, &self->reports)) != NULL)
        forget(self, report);
}
