/* Assigned tasks that have not started, as the frames in which they came. A task that waits has no
 * memory of its own: starting one moves the frame's beginning on, and a cancel in the middle leaves
 * two frames that share one body. */
#include "worker/agent_private.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEN_YEARS_US (UINT64_C(10) * 366 * 86400 * 1000000)

struct frame *agent_queue_head(const struct agent *self) { return TAILQ_FIRST(&self->queue); }

static uint32_t length_of(const struct frame *frame, uint32_t offset)
{
    if (frame->n_lengths == 0)
        return 0;
    return frame->lengths[frame->n_lengths == 1 ? 0 : frame->lengths_from + offset];
}

static size_t bytes_before(const struct frame *frame, uint32_t offset)
{
    if (frame->n_lengths <= 1)
        return (size_t)length_of(frame, 0) * offset;
    size_t sum = 0;
    for (uint32_t i = 0; i < offset; i++)
        sum += length_of(frame, i);
    return sum;
}

static void frame_destroy(struct agent *self, struct frame *frame)
{
    TAILQ_REMOVE(&self->queue, frame, entry);
    TAILQ_REMOVE(&frame->batch->frames, frame, batch_entry);
    self->queued -= frame->count;
    slice_drop(&frame->body);
    wire_free(&frame->columns);
    agent_batch_let_go(self, frame->batch);
    free(frame);
}

static struct frame *frame_new(const uint32_t *lengths, size_t n_lengths, const Wire__Tasks *columns)
{
    struct frame *frame = calloc(1, sizeof *frame + n_lengths * sizeof *lengths);
    if (!frame)
        return NULL;
    frame->n_lengths = n_lengths;
    if (n_lengths > 0)
        memcpy(frame->lengths, lengths, n_lengths * sizeof *lengths);
    if (columns && columns->n_extras > 0) {
        frame->columns = (Wire__Tasks *)wire_copy(&columns->base);
        if (!frame->columns) {
            free(frame);
            return NULL;
        }
    }
    return frame;
}

int agent_queue_push(struct agent *self, mono_t now, struct batch *batch, const Wire__Assign *message, struct slice body)
{
    const Wire__Tasks *tasks = message->tasks;
    struct frame *frame = frame_new(tasks->lengths, tasks->n_lengths, tasks);
    if (!frame)
        return -ENOMEM;
    frame->body = slice_keep(body);
    if (body.len > 0 && !frame->body.buf) {
        wire_free(&frame->columns);
        free(frame);
        return -ENOMEM;
    }
    /* What came as a fence of another clock is bounded, so that it can be subtracted safely. */
    uint64_t waited = message->waited_us < TEN_YEARS_US ? message->waited_us : TEN_YEARS_US;
    frame->admitted = mono_add(now, -(int64_t)waited * NS_PER_US);
    frame->batch = batch;
    frame->first = tasks->first;
    frame->count = tasks->count;
    frame->epoch = message->epoch;
    frame->attempt = message->attempt;
    frame->tries_left = message->tries_left;
    agent_batch_hold(batch);
    TAILQ_INSERT_TAIL(&self->queue, frame, entry);
    TAILQ_INSERT_TAIL(&batch->frames, frame, batch_entry);
    self->queued += frame->count;
    return 0;
}

/* ---- starting ---- */

struct slice agent_queue_payload(const struct frame *frame) { return slice_cut(frame->body, 0, length_of(frame, 0)); }

static void skip_extras(struct frame *frame)
{
    if (!frame->columns)
        return;
    while (frame->next_extra < frame->columns->n_extras
           && frame->columns->extras[frame->next_extra]->offset < frame->first - frame->columns->first)
        frame->next_extra++;
}

const Wire__TaskExtra *agent_queue_extra(struct frame *frame)
{
    skip_extras(frame);
    if (!frame->columns || frame->next_extra == frame->columns->n_extras)
        return NULL;
    const Wire__TaskExtra *extra = frame->columns->extras[frame->next_extra];
    return extra->offset == frame->first - frame->columns->first ? extra : NULL;
}

/* Forgets the first `n` tasks of the frame, of which some are left. */
static void drop_first(struct agent *self, struct frame *frame, uint32_t n)
{
    size_t bytes = bytes_before(frame, n);
    frame->body = slice_cut(frame->body, bytes, frame->body.len - bytes);
    if (frame->n_lengths > 1)
        frame->lengths_from += n;
    frame->first += n;
    frame->count -= n;
    self->queued -= n;
}

/* Forgets the last ones. */
static void drop_last(struct agent *self, struct frame *frame, uint32_t n)
{
    frame->body = slice_cut(frame->body, 0, bytes_before(frame, frame->count - n));
    frame->count -= n;
    self->queued -= n;
}

void agent_queue_advance(struct agent *self, struct frame *frame)
{
    if (frame->count == 1)
        frame_destroy(self, frame);
    else
        drop_first(self, frame, 1);
}

static void enqueue_first(struct agent *self, struct frame *frame)
{
    TAILQ_INSERT_HEAD(&self->queue, frame, entry);
    TAILQ_INSERT_HEAD(&frame->batch->frames, frame, batch_entry);
    self->queued += frame->count;
}

struct frame *agent_queue_take(struct agent *self, struct frame *frame, uint32_t n)
{
    struct frame *taken = frame;
    if (n < frame->count) {
        taken = frame_new(frame->n_lengths > 1 ? &frame->lengths[frame->lengths_from] : frame->lengths, frame->n_lengths > 1 ? n : frame->n_lengths,
                          frame->columns);
        if (!taken)
            return NULL;
        taken->body = slice_keep(slice_cut(frame->body, 0, bytes_before(frame, n)));
        taken->admitted = frame->admitted;
        taken->batch = frame->batch;
        taken->first = frame->first;
        taken->count = n;
        taken->epoch = frame->epoch;
        taken->attempt = frame->attempt;
        taken->tries_left = frame->tries_left;
        agent_batch_hold(taken->batch);
        drop_first(self, frame, n);
        return taken;
    }
    TAILQ_REMOVE(&self->queue, frame, entry);
    TAILQ_REMOVE(&frame->batch->frames, frame, batch_entry);
    self->queued -= frame->count;
    return frame;
}

void agent_queue_put_back(struct agent *self, mono_t now, struct frame **frame_p, uint32_t begun)
{
    struct frame *frame = *frame_p;
    struct batch *batch = frame->batch;
    *frame_p = NULL;
    enqueue_first(self, frame);
    if (begun >= frame->count) {
        frame_destroy(self, frame);
        return;
    }
    if (begun > 0)
        drop_first(self, frame, begun);
    if (self->draining)
        agent_queue_return_all(self);
    else if (!agent_batch_has_time(batch, now))
        (void)agent_queue_expire(self, now, batch);    /* without memory the next start tries again */
}

/* ---- taking some away ---- */

/* The tasks from `offset` on become a frame of their own behind this one. */
static int split(struct agent *self, struct frame *frame, uint32_t offset)
{
    const uint32_t *lengths = frame->n_lengths > 1 ? &frame->lengths[frame->lengths_from + offset] : frame->lengths;
    size_t n_lengths = frame->n_lengths > 1 ? frame->count - offset : frame->n_lengths;
    struct frame *tail = frame_new(lengths, n_lengths, frame->columns);
    if (!tail)
        return -ENOMEM;
    size_t bytes = bytes_before(frame, offset);
    tail->body = slice_keep(slice_cut(frame->body, bytes, frame->body.len - bytes));
    tail->admitted = frame->admitted;
    tail->batch = frame->batch;
    tail->first = frame->first + offset;
    tail->count = frame->count - offset;
    tail->epoch = frame->epoch;
    tail->attempt = frame->attempt;
    tail->tries_left = frame->tries_left;
    agent_batch_hold(tail->batch);
    TAILQ_INSERT_AFTER(&self->queue, frame, tail, entry);
    TAILQ_INSERT_AFTER(&frame->batch->frames, frame, tail, batch_entry);
    frame->body = slice_cut(frame->body, 0, bytes);
    frame->count = offset;
    return 0;
}

/* Takes the tasks of [first, first + count) out of the frame, which may be gone afterwards. Returns how many they were. */
static uint32_t cut_out(struct agent *self, struct frame *frame, uint64_t first, uint64_t count)
{
    uint64_t from = first > frame->first ? first : frame->first;
    uint64_t end = frame->first + frame->count;
    uint64_t to = count < UINT64_MAX - first && first + count < end ? first + count : end;
    if (to <= from)
        return 0;
    uint32_t n = (uint32_t)(to - from);
    if (n == frame->count) {
        frame_destroy(self, frame);
        return n;
    }
    if (from == frame->first) {
        drop_first(self, frame, n);
        return n;
    }
    if (to < end && split(self, frame, (uint32_t)(to - frame->first)) < 0) {
        /* Those behind the gap must not stay with those that go: the ventilator gets them back. */
        uint32_t behind = (uint32_t)(end - to);
        agent_control_tell(self, &self->tell[TELL_RECALLED], frame->batch, to, behind, frame->epoch, frame->attempt);
        self->returned += behind;
        drop_last(self, frame, behind);
    }
    drop_last(self, frame, n);
    return n;
}

uint64_t agent_queue_drop(struct agent *self, const Wire__Fence *fence)
{
    struct batch *batch = agent_batch_find(self, &fence->batch);
    struct frame *frame = batch ? TAILQ_FIRST(&batch->frames) : NULL, *next;
    uint64_t dropped = 0;
    for (; frame; frame = next) {
        next = TAILQ_NEXT(frame, batch_entry);
        if (frame->epoch == fence->epoch && frame->attempt == fence->attempt)
            dropped += cut_out(self, frame, fence->first, fence->count);
    }
    return dropped;
}

static uint64_t cancel_span(struct agent *self, struct batch *batch, uint64_t first, uint64_t count)
{
    uint64_t dropped = 0;
    struct frame *next;
    for (struct frame *frame = TAILQ_FIRST(&batch->frames); frame; frame = next) {
        next = TAILQ_NEXT(frame, batch_entry);
        uint64_t from = first > frame->first ? first : frame->first, epoch = frame->epoch;
        uint32_t attempt = frame->attempt, n = cut_out(self, frame, first, count);
        /* Told which they were, the ventilator can close them without waiting for the grace. */
        if (n > 0)
            agent_control_tell(self, &self->tell[TELL_DROPPED], batch, from, n, epoch, attempt);
        self->returned += n;
        dropped += n;
    }
    return dropped;
}

uint64_t agent_queue_cancel(struct agent *self, struct batch *batch, Wire__Span *const *spans, size_t n)
{
    /* The last frame to go may be what keeps the batch. */
    uint64_t dropped = 0;
    agent_batch_hold(batch);
    if (n == 0)
        dropped = cancel_span(self, batch, 0, UINT64_MAX);
    for (size_t i = 0; i < n; i++)
        dropped += cancel_span(self, batch, spans[i]->first, spans[i]->count);
    agent_batch_let_go(self, batch);
    return dropped;
}

static void give_back(struct agent *self, struct frame *frame, uint32_t n, struct fence_list *list)
{
    agent_control_tell(self, list, frame->batch, frame->first + frame->count - n, n, frame->epoch, frame->attempt);
    self->returned += n;
    if (n == frame->count)
        frame_destroy(self, frame);
    else
        drop_last(self, frame, n);
}

uint64_t agent_queue_recall(struct agent *self, struct batch *batch, uint32_t count)
{
    uint32_t left = count;
    struct frame *before;
    for (struct frame *frame = TAILQ_LAST(&batch->frames, frame_list); frame && left > 0; frame = before) {
        before = TAILQ_PREV(frame, frame_list, batch_entry);
        uint32_t n = frame->count < left ? frame->count : left;
        left -= n;
        give_back(self, frame, n, &self->tell[TELL_RECALLED]);
    }
    return count - left;
}

void agent_queue_return_all(struct agent *self)
{
    struct frame *frame;
    while ((frame = TAILQ_FIRST(&self->queue)) != NULL)
        give_back(self, frame, frame->count, &self->tell[TELL_DRAINED]);
}

/* ---- ending what can't start ---- */

static int end_frame(struct agent *self, mono_t now, struct frame *frame, const struct outcome *how)
{
    struct report *report = agent_report_new();
    if (!report)
        return -ENOMEM;
    struct batch *batch = frame->batch;
    report->batch = batch;
    report->first = frame->first;
    report->count = frame->count;
    report->epoch = frame->epoch;
    report->attempt = frame->attempt;
    report->kind = WIRE__RESULT_KIND__IS_VERDICT;
    report->own = *how;
    /* Losing the sentence for want of memory loses no verdict. */
    report->own.sentence = how->sentence ? strdup(how->sentence) : NULL;
    report->own.queued_us = (uint64_t)(mono_since(now, frame->admitted) / NS_PER_US);
    agent_batch_hold(batch);
    agent_control_tell(self, &self->tell[TELL_FINISHED], batch, frame->first, frame->count, frame->epoch, frame->attempt);
    self->ended += frame->count;
    agent_outbox_put(self, &report);
    frame_destroy(self, frame);
    return 0;
}

static int end_all(struct agent *self, mono_t now, struct batch *batch, const struct outcome *how)
{
    int error = 0;
    struct frame *next;
    agent_batch_hold(batch);
    for (struct frame *frame = TAILQ_FIRST(&batch->frames); frame && error == 0; frame = next) {
        next = TAILQ_NEXT(frame, batch_entry);
        error = end_frame(self, now, frame, how);
    }
    agent_batch_let_go(self, batch);
    return error;
}

int agent_queue_refuse(struct agent *self, mono_t now, struct batch *batch)
{
    char sentence[WIRE_NAME * 2 + 128];
    if (batch->options->handler[0] != '\0')
        snprintf(sentence, sizeof sentence, "worker %s has no handler %s; start it with --handler %s='COMMAND LINE'",
                 self->config.name, batch->options->handler, batch->options->handler);
    else
        snprintf(sentence, sizeof sentence, "worker %s takes no ad-hoc commands; start it with --allow-commands",
                 self->config.name);
    struct outcome how = {.verdict = WIRE__VERDICT__REJECTED, .reason = WIRE__REASON__NO_HANDLER, .sentence = sentence};
    return end_all(self, now, batch, &how);
}

int agent_queue_expire(struct agent *self, mono_t now, struct batch *batch)
{
    struct outcome how = {.verdict = WIRE__VERDICT__DEADLINE_EXCEEDED,
                          .reason = mono_reached(now, batch->deadline) ? WIRE__REASON__DEADLINE : WIRE__REASON__MIN_RUNTIME};
    return end_all(self, now, batch, &how);
}

void agent_queue_destroy(struct agent *self)
{
    struct frame *frame;
    while ((frame = TAILQ_FIRST(&self->queue)) != NULL)
        frame_destroy(self, frame);
}
