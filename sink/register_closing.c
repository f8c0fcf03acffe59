/* Closings: "every task of this range without a verdict ends thus". One row for ten million tasks;
 * which of them it ended is kept with it, as spans, or as a bitmap when they lie scattered. */
#include <stdlib.h>
#include <string.h>

#include "sink/register_private.h"

struct closed {
    Wire__Span spans[CLOSED_SPANS], *pointers[CLOSED_SPANS];
    size_t n;
    uint64_t first, end;        /* around them */
    bool too_many;
};

static void find_closed(const struct batch *batch, uint64_t from, uint64_t end, struct closed *ret)
{
    uint64_t at = from, first, count;
    ret->n = 0;
    ret->too_many = false;
    ret->first = ret->end = from;
    while (tasks_run(&batch->tasks, &at, end, false, &first, &count)) {
        if (ret->n == CLOSED_SPANS) {
            ret->too_many = true;
            return;
        }
        ret->first = ret->n == 0 ? first : ret->first;
        ret->end = first + count;
        wire__span__init(&ret->spans[ret->n]);
        ret->spans[ret->n].first = first;
        ret->spans[ret->n].count = count;
        ret->pointers[ret->n] = &ret->spans[ret->n];
        ret->n++;
    }
}

/* A part that has too many spans for a list: the bitmap of those that have no verdict. NULL without memory. */
static uint8_t *closed_bits(const struct batch *batch, struct closed *closed, uint64_t end, size_t *ret_len)
{
    uint64_t at = closed->first, first, count;
    uint8_t *bits = calloc(1, (size_t)((end - closed->first + 7) / 8));
    if (!bits)
        return NULL;
    while (tasks_run(&batch->tasks, &at, end, false, &first, &count)) {
        bits_add(bits, first - closed->first, count);
        closed->end = first + count;
    }
    *ret_len = (size_t)((closed->end - closed->first + 7) / 8);
    return bits;
}

/* One row for the tasks of [from, end) that have no verdict. */
static bool append_closing(struct registry *self, struct batch *batch, const Wire__Closing *closing, uint64_t end, struct closed *closed)
{
    Wire__Closing part = *closing;
    Wire__Span span = WIRE__SPAN__INIT;
    Wire__Row row = WIRE__ROW__INIT;
    uint8_t *bits = NULL;
    if (closed->too_many) {
        if (!(bits = closed_bits(batch, closed, end, &row.closed_bitmap.len)))
            return false;
        row.closed_bitmap.data = bits;
    } else {
        row.closed = closed->pointers;
        row.n_closed = closed->n;
    }
    span.first = closed->first;
    span.count = closed->end - closed->first;
    part.span = &span;
    row.closing = &part;
    struct buf *head = wire_write_buf(&row.base);
    free(bits);
    uint64_t number;
    bool done = head && staged(self, self->ports.append(self->ports.arg, batch->seen.number, span.first, (uint32_t)span.count,
                                                        ROW_CLOSING, slice_of(head), (struct slice){0}, &number));
    buf_unref(&head);
    return done;
}

/* Closes [from, end) in one row; 0: nothing was open there. -1: no memory, nothing was changed. */
static int64_t close_part(struct registry *self, struct batch *batch, const Wire__Closing *closing, uint64_t from, uint64_t end,
                          struct closed *closed)
{
    uint64_t n = end - from - tasks_in(&batch->tasks, from, end - from);
    if (n == 0)
        return 0;
    if (tasks_reserve(&batch->tasks, from, end - from) < 0 || !append_closing(self, batch, closing, end, closed))
        return -1;
    tasks_add(&batch->tasks, from, end - from);
    return (int64_t)n;
}

/* Closes [from, end). *ret_closed: how many tasks. false: not all of it could be, for lack of memory. */
static bool close_range(struct registry *self, struct batch *batch, const Wire__Closing *closing, uint64_t from, uint64_t end,
                        uint64_t *ret_closed)
{
    struct closed *closed = malloc(sizeof *closed);
    bool done = closed != NULL;
    *ret_closed = 0;
    if (done)
        find_closed(batch, from, end, closed);
    uint64_t step = done && closed->too_many ? CLOSED_PART : end - from;
    while (done && from < end) {
        uint64_t stop = end - from > step ? from + step : end;
        find_closed(batch, from, stop, closed);
        int64_t n = close_part(self, batch, closing, from, stop, closed);
        done = n >= 0;
        *ret_closed += done ? (uint64_t)n : 0;
        from = stop;
    }
    free(closed);
    return done;
}

/* ---- the same closing again ---- */

void closing_remember(struct batch *batch, const Wire__Closing *closing, uint64_t closed)
{
    struct closing_note *to = &batch->closings[batch->n_closings % CLOSINGS_KEPT];
    *to = (struct closing_note){closing->session, closing->number, closed};
    batch->n_closings++;
}

static const struct closing_note *find_again(const struct batch *batch, const Wire__Closing *closing)
{
    uint64_t n = batch->n_closings < CLOSINGS_KEPT ? batch->n_closings : CLOSINGS_KEPT;
    for (uint64_t i = 0; i < n; i++)
        if (batch->closings[i].number == closing->number && batch->closings[i].session == closing->session)
            return &batch->closings[i];
    return NULL;
}

static void answer_closed(struct registry *self, const Wire__Closing *closing, uint64_t closed)
{
    struct answer *answer = answer_to_closing(closing, closed);
    if (answer)
        answer_put(self, &answer, NULL);
}

/* ---- taking it in ---- */

static void count_closed(struct batch *batch, const Wire__Closing *closing, uint64_t closed, struct answer *answer)
{
    answer->counts[closing->verdict] = closed;
    answer->by_deadline = wire_is_by_deadline(closing->verdict, closing->reason) ? closed : 0;
    answer->result.closed = closed;
    answer->result.all_fresh = closed == closing->span->count;
    batch->counts[closing->verdict] += closed;
    batch->recorded += closed;
    batch->by_deadline += answer->by_deadline;
    if (batch->attempts)
        attempts_drop(batch, closing->span->first, closing->span->count);
}

static void close_tasks(struct registry *self, struct batch *batch, const Wire__Closing *closing, uint64_t end)
{
    struct answer *answer = answer_to_closing(closing, 0);
    uint64_t closed;
    if (!answer)
        return;
    answer->fresh_first = tasks_next(&batch->tasks, closing->span->first, end, false);
    answer->fresh_last = end - 1;
    /* What could be closed counts. Without an answer the rest comes again. */
    answer->is_result = close_range(self, batch, closing, closing->span->first, end, &closed);
    if (answer->is_result)
        closing_remember(batch, closing, closed);
    batch->whole = batch->whole || closing->whole;
    batch->whole_closed = batch->whole_closed || (closing->whole && closed > 0);
    count_closed(batch, closing, closed, answer);
    figures_closed(self, batch, closing, closed);
    answer->completes = batch_complete_now(self, batch);
    if (!answer->completes && !batch_store(self, batch))
        batch_dirty(self, batch);
    answer_put(self, &answer, batch);
}

void take_closing(struct registry *self, const Wire__Closing *closing)
{
    struct batch *batch = batch_of(self, closing->batch.data);
    if (!batch) {
        self->unregistered++;
        answer_closed(self, closing, 0);
        return;
    }
    const struct closing_note *again = find_again(batch, closing);
    if (again) {
        answer_closed(self, closing, again->closed);
        return;
    }
    uint64_t end = closing->span->first + closing->span->count;
    if (batch->seen.total_known && end > batch->seen.total)
        end = batch->seen.total;
    bool open = !batch->staged_complete && end > closing->span->first
             && tasks_next(&batch->tasks, closing->span->first, end, false) < end;
    if (open) {
        close_tasks(self, batch, closing, end);
        return;
    }
    if (closing->whole && !batch->whole) {
        batch->whole = true;
        batch_settle_seen(batch);
        if (!batch_store(self, batch))
            batch_dirty(self, batch);
    }
    answer_closed(self, closing, 0);
}
