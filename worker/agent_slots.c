/* Slots: what runs, until when it may, and what its end means.
 *
 * A slot is busy from the start of an attempt until its keeper says that nothing of it is alive. A stop
 * changes nothing about that; it only decides what will be reported. The first reason for a stop
 * stands, except that a drain's gives way to any other: its attempts are given back, not judged. */
#include "worker/agent_private.h"

#include <errno.h>
#include <stdlib.h>

/* ---- stopping ---- */

static int64_t grace_of(const struct batch *batch) { return (int64_t)batch->options->grace_us * NS_PER_US; }

static void slot_stop(struct agent *self, mono_t now, struct slot *slot, Wire__Reason reason, bool cut_off)
{
    agent_bundle_split(self, now, slot, false);
    if (slot->stopped && !(slot->cut_off && !cut_off))
        return;
    bool told = slot->stopped;
    slot->stopped = true;
    slot->cut_off = cut_off;
    slot->reason = reason;
    agent_due_clear(&self->due, &slot->bound);
    if (!told)
        self->ports.stop(self->ports.arg, slot->number, grace_of(slot->batch));
}

static void bound_reached(struct agent *self, mono_t now, struct due *due)
{
    struct slot *slot = (struct slot *)((char *)due - offsetof(struct slot, bound));
    if (slot->open && mono_before(now, slot->batch->deadline)) {
        agent_bundle_split(self, now, slot, true);
        return;
    }
    bool deadline = !mono_before(slot->timeout, slot->batch->deadline);
    slot_stop(self, now, slot, deadline ? WIRE__REASON__DEADLINE : WIRE__REASON__TIMEOUT, false);
}

void agent_slot_arm(struct agent *self, struct slot *slot)
{
    mono_t bound = slot->open ? mono_add(slot->started, BUNDLE_SPLIT) : slot->timeout;
    if (!slot->stopped)
        agent_due_set(&self->due, &slot->bound, mono_min(bound, slot->batch->deadline));
}

static bool lies_in(uint64_t index, Wire__Span *const *spans, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (index >= spans[i]->first && index - spans[i]->first < spans[i]->count)
            return true;
    return n == 0;
}

uint64_t agent_slots_cancel(struct agent *self, mono_t now, struct batch *batch, Wire__Span *const *spans, size_t n, Wire__Reason reason, bool silent)
{
    uint64_t covered = 0;
    struct slot *slot;
    LIST_FOREACH(slot, &batch->running, batch_entry) {
        if (slot->begun == 0 || !lies_in(slot->index, spans, n))
            continue;
        covered++;
        slot->silent |= silent;
        slot_stop(self, now, slot, reason == WIRE__REASON__REASON_NONE ? WIRE__REASON__CANCEL : reason, false);
    }
    return covered;
}

void agent_slots_drop(struct agent *self, mono_t now, const Wire__Fence *fence)
{
    struct batch *batch = agent_batch_find(self, &fence->batch);
    struct slot *slot;
    if (!batch)
        return;
    LIST_FOREACH(slot, &batch->running, batch_entry) {
        uint64_t index = slot->index;
        if (slot->begun == 0 || slot->epoch != fence->epoch || slot->attempt != fence->attempt || index < fence->first
            || index - fence->first >= fence->count)
            continue;
        slot->silent = true;
        slot_stop(self, now, slot, WIRE__REASON__CANCEL, false);
    }
}

int64_t agent_slots_cut_off(struct agent *self, mono_t now)
{
    int64_t largest = 0;
    for (uint32_t i = 0; i < self->config.slots; i++) {
        struct slot *slot = &self->slots[i];
        if (!slot->busy)
            continue;
        if (grace_of(slot->batch) > largest)
            largest = grace_of(slot->batch);
        slot_stop(self, now, slot, WIRE__REASON__SHUTDOWN, true);
    }
    return largest;
}

/* ---- starting ---- */

static bool may_start(const struct agent *self, mono_t now)
{
    /* With nothing unreleased one may always run: the credit says how much to leave lying, not whether to work. */
    bool credit = self->unreleased_bytes == 0 || self->unreleased_bytes < self->control.result_credit;
    return !self->draining && self->n_free > 0 && credit && agent_control_lease_valid(self, now) && mono_reached(now, self->start_again);
}

static mono_t timeout_of(mono_t now, const Wire__Options *options, const Wire__TaskExtra *extra)
{
    mono_t at = options->timeout ? mono_add(now, (int64_t)options->timeout->us * NS_PER_US) : MONO_NEVER;
    if (extra && extra->timeout)
        at = mono_min(at, mono_add(now, (int64_t)extra->timeout->us * NS_PER_US));
    return at;
}

void agent_slot_is_fresh(struct agent *self, mono_t now, struct slot *slot)
{
    if (TAILQ_EMPTY(&self->fresh))
        self->started_due = mono_add(now, STARTED_EVERY);
    TAILQ_INSERT_TAIL(&self->fresh, slot, fresh_entry);
    slot->fresh = true;
}

static void slot_take(struct agent *self, mono_t now, struct slot *slot, const struct frame *frame, uint32_t count)
{
    slot->busy = true;
    self->to_share -= count < self->to_share ? count : self->to_share;
    slot->batch = frame->batch;
    slot->index = frame->first;
    slot->count = count;
    slot->open = count > 1;
    slot->begun = 1;
    slot->parts_ns = 0;
    slot->learned = false;
    slot->epoch = frame->epoch;
    slot->attempt = frame->attempt;
    slot->tries_left = frame->tries_left;
    slot->admitted = frame->admitted;
    slot->started = now;
    slot->stopped = slot->silent = slot->cut_off = false;
    slot->reason = WIRE__REASON__REASON_NONE;
    slot->timeout = timeout_of(now, frame->batch->options, slot->extra);
    agent_batch_hold(slot->batch);
    LIST_INSERT_HEAD(&slot->batch->running, slot, batch_entry);
    /* Which of a bundle runs is known when it is split. */
    if (!slot->open)
        agent_slot_is_fresh(self, now, slot);
    agent_slot_arm(self, slot);
}

static void slot_run(struct agent *self, mono_t now, struct slot *slot, struct slice payload)
{
    struct batch *batch = slot->batch;
    char number[WIRE_RANGE_ITEM];
    if (batch->options->range && slot->count == 1)
        payload = wire_range_item(batch->options->range, slot->index, number);
    mono_t bound = mono_min(slot->timeout, batch->deadline);
    struct agent_run run = {
        .slot = slot->number,
        .handler = batch->handler,
        .options = batch->options,
        .short_id = batch->short_id,
        .batch = batch->id,
        .index = slot->index,
        .attempt = slot->attempt,
        .epoch = slot->epoch,
        .count = slot->count,
        .lengths = slot->rest ? &slot->rest->lengths[slot->rest->n_lengths > 1 ? slot->rest->lengths_from : 0] : NULL,
        .n_lengths = slot->rest ? slot->rest->n_lengths > 1 ? slot->count : slot->rest->n_lengths : 0,
        .not_after = mono_min(self->control.lease_until, mono_add(batch->deadline, -(int64_t)batch->options->min_runtime_us * NS_PER_US)),
        .begin_for = 2 * BUNDLE_NS,
        .payload = payload,
        .extra = slot->extra,
        .budget = mono_is_never(bound) ? -1 : mono_since(bound, now),
    };
    wire_span_id(batch->id, slot->index, slot->epoch, slot->attempt, run.span_id);
    self->ports.run(self->ports.arg, &run);
}

static int start_bundle(struct agent *self, mono_t now, struct frame *frame, uint32_t count)
{
    struct slot *slot = &self->slots[self->free_slots[self->n_free - 1]];
    slot->report = agent_report_new();
    slot->rest = slot->report ? agent_queue_take(self, frame, count) : NULL;
    if (!slot->rest) {
        agent_report_destroy(self, &slot->report);
        return -ENOMEM;
    }
    self->n_free--;
    self->started += count;
    slot_take(self, now, slot, slot->rest, count);
    slot_run(self, now, slot, slot->rest->body);
    return 0;
}

static int start_first(struct agent *self, mono_t now, struct frame *frame)
{
    uint32_t count = agent_bundle_size(self, now, frame);
    if (count > 1)
        return start_bundle(self, now, frame, count);
    struct slot *slot = &self->slots[self->free_slots[self->n_free - 1]];
    const Wire__TaskExtra *extra = agent_queue_extra(frame);
    slot->report = agent_report_new();
    slot->extra = slot->report && extra ? (Wire__TaskExtra *)wire_copy(&extra->base) : NULL;
    if (!slot->report || (extra && !slot->extra)) {
        agent_report_destroy(self, &slot->report);
        return -ENOMEM;
    }
    self->n_free--;
    self->started++;
    slot_take(self, now, slot, frame, 1);
    slot_run(self, now, slot, agent_queue_payload(frame));
    agent_queue_advance(self, frame);
    return 0;
}

void agent_slots_start(struct agent *self, mono_t now)
{
    struct frame *frame;
    self->to_share = (self->queued * self->n_free + self->config.slots - 1) / self->config.slots;
    while (may_start(self, now) && (frame = agent_queue_head(self)) != NULL) {
        int error = frame->batch->refused ? agent_queue_refuse(self, now, frame->batch)
                  : !agent_batch_has_time(frame->batch, now) ? agent_queue_expire(self, now, frame->batch)
                  : start_first(self, now, frame);
        if (error < 0)
            self->start_again = mono_add(now, MEMORY_PAUSE);
    }
}

void agent_slots_report_started(struct agent *self, mono_t now)
{
    struct slot *slot;
    if (TAILQ_EMPTY(&self->fresh) || !mono_reached(now, self->started_due))
        return;
    while ((slot = TAILQ_FIRST(&self->fresh)) != NULL) {
        TAILQ_REMOVE(&self->fresh, slot, fresh_entry);
        slot->fresh = false;
        agent_control_tell(self, &self->tell[TELL_STARTED], slot->batch, slot->index, 1, slot->epoch, slot->attempt);
    }
}

/* ---- the end ---- */

static void own_outcome(const struct agent_end *end, struct outcome *out)
{
    out->verdict = WIRE__VERDICT__FAILED;
    switch (end->how) {
    case AGENT_EXITED:
        out->verdict = end->code == 0 ? WIRE__VERDICT__OK : WIRE__VERDICT__FAILED;
        out->reason = end->code == 0 ? WIRE__REASON__REASON_NONE : WIRE__REASON__EXIT_CODE;
        break;
    case AGENT_SIGNALLED: out->reason = WIRE__REASON__SIGNAL; break;
    case AGENT_NOT_STARTED: out->reason = WIRE__REASON__NOT_STARTED; break;
    case AGENT_KEEPER_DIED: out->reason = WIRE__REASON__KEEPER_DIED; break;
    case AGENT_FAULT: out->reason = WIRE__REASON__HANDLER_FAULT; break;
    }
    if (end->limit) {
        out->verdict = WIRE__VERDICT__FAILED;
        out->reason = WIRE__REASON__LIMIT;
    }
}

/* Had it ended well by itself before the stop reached it? */
static bool was_done(const struct agent_end *end)
{
    return end->how == AGENT_EXITED && end->code == 0 && !end->term_sent && !end->kill_sent;
}

static void judge(const struct slot *slot, const struct agent_end *end, struct outcome *out)
{
    if (!slot->stopped || slot->cut_off || was_done(end)) {
        own_outcome(end, out);
        return;
    }
    out->reason = slot->reason;
    out->verdict = slot->reason == WIRE__REASON__TIMEOUT || slot->reason == WIRE__REASON__DEADLINE
                 || slot->reason == WIRE__REASON__MIN_RUNTIME ? WIRE__VERDICT__DEADLINE_EXCEEDED : WIRE__VERDICT__CANCELLED;
}

/* Keeps the bytes within what the wire takes: of the output its beginning, of the errors their end. */
static void take_output(const struct agent_end *end, struct outcome *out)
{
    struct slice output = end->output, errors = end->errors;
    if (output.len > WIRE_OUTPUT)
        output = slice_cut(output, 0, WIRE_OUTPUT);
    if (errors.len > WIRE_ERRORS)
        errors = slice_cut(errors, errors.len - WIRE_ERRORS, WIRE_ERRORS);
    out->output = slice_keep(output);
    out->errors = slice_keep(errors);
    if (end->output_truncated || out->output.len < end->output.len)
        out->flags |= WIRE_OUTPUT_TRUNCATED;
    if (end->errors_truncated || out->errors.len < end->errors.len)
        out->flags |= WIRE_ERRORS_TRUNCATED;
    out->output_len = (uint32_t)out->output.len;
    out->errors_len = (uint32_t)out->errors.len;
}

static void fill_outcome(struct slot *slot, const struct agent_end *end, struct outcome *out)
{
    judge(slot, end, out);
    take_output(end, out);
    out->code = end->how == AGENT_EXITED ? end->code : 0;
    out->signal = end->how == AGENT_SIGNALLED ? (uint32_t)end->code : 0;
    out->flags |= (end->swept ? WIRE_SWEPT : 0) | (end->how == AGENT_EXITED ? WIRE_EXIT_CODE : 0);
    out->slot = slot->number + 1;
    out->run_us = end->run_ns > 0 ? (uint64_t)(end->run_ns / NS_PER_US) : 0;
    out->queued_us = (uint64_t)(mono_since(slot->started, slot->admitted) / NS_PER_US);
    if (end->sentence)
        out->sentence = agent_report_sentence(end->sentence);
    if (slot->extra && slot->extra->n_values > 0) {
        out->extra = slot->extra;
        slot->extra = NULL;
    }
}

static void slot_free(struct agent *self, struct slot *slot)
{
    agent_due_clear(&self->due, &slot->bound);
    LIST_REMOVE(slot, batch_entry);
    if (slot->fresh)
        TAILQ_REMOVE(&self->fresh, slot, fresh_entry);
    slot->fresh = slot->busy = false;
    wire_free(&slot->extra);
    agent_report_destroy(self, &slot->report);
    if (slot->rest)
        agent_queue_put_back(self, (mono_t){INT64_MIN}, &slot->rest, UINT32_MAX);
    agent_batch_let_go(self, slot->batch);
    slot->batch = NULL;
    self->free_slots[self->n_free++] = slot->number;
}

static void report_end(struct agent *self, struct slot *slot, const struct agent_end *end)
{
    struct report *report = slot->report;
    slot->report = NULL;
    fill_outcome(slot, end, &report->own);
    report->batch = slot->batch;
    report->first = slot->index;
    report->count = 1;
    report->epoch = slot->epoch;
    report->attempt = slot->attempt;
    report->kind = agent_report_kind(slot->batch, slot->tries_left, &report->own);
    agent_batch_hold(slot->batch);
    agent_outbox_put(self, &report);
}

/* The one attempt of the slot, or the last of a bundle's. */
static void last_ended(struct agent *self, struct slot *slot, const struct agent_end *end)
{
    bool returned = slot->cut_off && !slot->silent && !was_done(end);
    if (returned) {
        agent_control_tell(self, &self->tell[TELL_CUT_OFF], slot->batch, slot->index, 1, slot->epoch, slot->attempt);
        self->returned++;
    } else {
        agent_control_finished(self, slot, slot->index, 1, end->run_ns);
    }
    self->ended++;
    if (!returned && !slot->silent)
        report_end(self, slot, end);
}

void agent_slot_ended(struct agent *self, mono_t now, struct slot *slot, const struct agent_end *end)
{
    struct agent_end last = *end;
    agent_bundle_ended(self, now, slot, &last);
    if (slot->begun > 0)
        last_ended(self, slot, &last);
    slot_free(self, slot);
}

/* ---- all of them ---- */

int agent_slots_new(struct agent *self)
{
    uint32_t n = self->config.slots;
    self->slots = calloc(n, sizeof *self->slots);
    self->free_slots = calloc(n, sizeof *self->free_slots);
    if (!self->slots || !self->free_slots)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++) {
        self->slots[i].number = i;
        self->slots[i].bound.fire = bound_reached;
        /* On top of the stack lies the first, so that a quiet worker wakes few keepers. */
        self->free_slots[self->n_free++] = n - 1 - i;
        if (agent_due_promise(&self->due) < 0)
            return -ENOMEM;
    }
    return 0;
}

void agent_slots_destroy(struct agent *self)
{
    for (uint32_t i = 0; self->slots && i < self->config.slots; i++)
        if (self->slots[i].busy)
            slot_free(self, &self->slots[i]);
    free(self->slots);
    free(self->free_slots);
}
