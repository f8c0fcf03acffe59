/* The same state again from the store: first the records, then the rows of the batches that are not
 * complete, through the same counting as when they were taken in. */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "sink/register_private.h"

/* ---- records ---- */

static void take_closings(struct batch *batch, const Wire__SinkBatchRecord *record)
{
    for (size_t i = 0; i < record->n_closings; i++) {
        const Wire__SinkClosing *from = record->closings[i];
        batch->closings[batch->n_closings++ % CLOSINGS_KEPT] = (struct closing_note){from->session, from->number, from->closed};
    }
}

static void take_counts(struct batch *batch, const Wire__SinkBatchRecord *record)
{
    for (size_t i = 0; i < WIRE_VERDICTS && i < record->n_counts; i++) {
        batch->counts[i] = batch->seen.counts[i] = record->counts[i];
        batch->recorded += record->counts[i];
    }
    batch->seen.recorded = batch->recorded;
    batch->by_deadline = batch->seen.by_deadline = record->by_deadline;
    batch->staged_complete = batch->seen.complete = true;
}

static int restore_batch(struct registry *self, const Wire__SinkBatchRecord *record)
{
    if (record->forgotten)
        return tombstone_restore(self, record);
    struct batch *batch = batch_make(record->batch.data, record->short_id, record->options);
    if (!batch)
        return -ENOMEM;
    batch->seen.number = record->number;
    batch->seen.total_known = record->total != NULL;
    batch->seen.total = record->total ? record->total->n : 0;
    batch->seen.duplicates = record->duplicates;
    batch->whole = record->whole;
    batch->whole_closed = record->whole_closed;
    take_closings(batch, record);
    if (record->complete)
        take_counts(batch, record);
    batch->needs_rows = !record->complete;
    batch_settle_seen(batch);
    if (batch_insert(self, batch) < 0) {
        batch_destroy(&batch);
        return -ENOMEM;
    }
    if (batch->needs_rows)
        TAILQ_INSERT_TAIL(&self->unread, batch, unread_entry);
    return 0;
}

static struct batch *batch_numbered(struct registry *self, uint64_t number)
{
    struct batch *batch;
    HASH_FIND(by_number, self->by_number, &number, sizeof number, batch);
    return batch;
}

static int restore_batch_record(struct registry *self, const char *key, const uint8_t *value, size_t len, struct why *why)
{
    const ProtobufCMessage *message;
    struct why inner;
    if (wire_read_any(self->arena, &wire__sink_batch_record__descriptor, value, len, &message, &inner) < 0)
        return why_set(why, "record %s can't be read: %s", key, inner.text);
    const Wire__SinkBatchRecord *record = (const Wire__SinkBatchRecord *)message;
    if (record->batch.len != WIRE_ID || record->number == 0 || (!record->forgotten && !record->options))
        return why_set(why, "record %s is not a batch: its id has %zu bytes, its number is %" PRIu64 ", its options are %s"
                       "; restore the folder from a backup", key, record->batch.len, record->number, record->options ? "there" : "missing");
    if (batch_of(self, record->batch.data) || tombstone_of(self, record->batch.data) || batch_numbered(self, record->number))
        return why_set(why, "record %s is the second one of its batch; restore the folder from a backup", key);
    return restore_batch(self, record) < 0 ? why_set(why, "no memory for record %s", key) : 0;
}

int register_restore_record(struct registry *self, const char *key, const uint8_t *value, size_t len, struct why *why)
{
    if (strncmp(key, "batch/", 6) == 0)
        return restore_batch_record(self, key, value, len, why);
    if (strcmp(key, "meta") != 0)
        return why_set(why, "record %s is none of a sink's; is this folder another program's?", key);
    const ProtobufCMessage *message;
    struct why inner;
    if (wire_read_any(self->arena, &wire__sink_record__descriptor, value, len, &message, &inner) < 0)
        return why_set(why, "record %s can't be read: %s", key, inner.text);
    const Wire__SinkRecord *record = (const Wire__SinkRecord *)message;
    if (record->journal.len == WIRE_ID) {
        memcpy(self->journal, record->journal.data, WIRE_ID);
        self->journal_known = true;
    }
    return 0;
}

/* ---- rows ---- */

bool register_restore_needs(struct registry *self, uint64_t *ret_batch, uint64_t *ret_after)
{
    const struct batch *batch = TAILQ_FIRST(&self->unread);
    if (!batch)
        return false;
    *ret_batch = batch->seen.number;
    *ret_after = batch->last_row;
    return true;
}

/* A run of a row's tasks that it settled. */
static int settle_run(struct batch *batch, uint64_t first, uint64_t count)
{
    if (tasks_reserve(&batch->tasks, first, count) < 0)
        return -ENOMEM;
    tasks_add(&batch->tasks, first, count);
    if (batch->attempts)
        attempts_drop(batch, first, count);
    return 0;
}

/* The runs of set bits. */
static int settle_bits(struct batch *batch, uint64_t first, const uint8_t *bits, uint64_t n)
{
    for (uint64_t i = 0; i < n;) {
        if (bits[i / 8] == 0 && i % 8 == 0) {
            i += 8;
            continue;
        }
        uint64_t from = i;
        while (i < n && (bits[i / 8] >> (i % 8) & 1))
            i++;
        if (i > from && settle_run(batch, first + from, i - from) < 0)
            return -ENOMEM;
        if (i == from)
            i++;
    }
    return 0;
}

static int restore_report(struct batch *batch, const Wire__Row *row, uint32_t kind)
{
    const Wire__Report *report = row->report;
    uint32_t n_new;
    if (kind == ROW_ATTEMPT) {
        if (attempts_reserve(batch, report->fence, &n_new) < 0)
            return -ENOMEM;
        attempts_add(batch, report->fence);
        return 0;
    }
    const uint8_t *fresh = row->fresh.len > 0 ? row->fresh.data : NULL;
    report_count(report, fresh, batch->counts, &batch->by_deadline);
    batch->whole = batch->whole || report_says_whole(report);
    return fresh ? settle_bits(batch, report->fence->first, fresh, report->fence->count)
                 : settle_run(batch, report->fence->first, report->fence->count);
}

static int restore_closing(struct batch *batch, const Wire__Row *row)
{
    const Wire__Closing *closing = row->closing;
    uint64_t before = tasks_in(&batch->tasks, closing->span->first, closing->span->count);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < row->n_closed; i++)
        rc = settle_run(batch, row->closed[i]->first, row->closed[i]->count);
    if (rc == 0 && row->closed_bitmap.len > 0)
        rc = settle_bits(batch, closing->span->first, row->closed_bitmap.data, closing->span->count);
    uint64_t closed = tasks_in(&batch->tasks, closing->span->first, closing->span->count) - before;
    bool by_deadline = closing->verdict == WIRE__VERDICT__DEADLINE_EXCEEDED
                    && (closing->reason == WIRE__REASON__DEADLINE || closing->reason == WIRE__REASON__MIN_RUNTIME);
    batch->counts[closing->verdict] += closed;
    batch->by_deadline += by_deadline ? closed : 0;
    return rc;
}

int register_restore_row(struct registry *self, uint64_t number, uint64_t row_number, uint32_t kind, struct slice head, struct why *why)
{
    struct batch *batch = batch_numbered(self, number);
    if (!batch || !batch->needs_rows)
        return 0;
    const Wire__Row *row;
    struct why inner;
    if (wire_read_row(self->arena, head.data, head.len, WIRE_NO_BODY, &row, &inner) < 0)
        return why_set(why, "row %" PRIu64 " of batch %s can't be read: %s; restore the folder from a backup", row_number,
                       batch->short_id, inner.text);
    int rc = row->closing ? restore_closing(batch, row) : restore_report(batch, row, kind);
    if (rc < 0)
        return why_set(why, "no memory for row %" PRIu64 " of batch %s", row_number, batch->short_id);
    batch->last_row = row_number;
    return 0;
}

void register_restore_rows_end(struct registry *self, uint64_t number)
{
    struct batch *batch = batch_numbered(self, number);
    if (!batch || !batch->needs_rows)
        return;
    batch->needs_rows = false;
    TAILQ_REMOVE(&self->unread, batch, unread_entry);
    for (size_t i = 0; i < WIRE_VERDICTS; i++) {
        batch->recorded += batch->counts[i];
        batch->seen.counts[i] = batch->counts[i];
    }
    batch->seen.recorded = batch->recorded;
    batch->seen.by_deadline = batch->by_deadline;
    /* Its last row is there, its record doesn't say so: only a lack of memory then can have done that. */
    if (batch_complete_now(self, batch)) {
        batch->seen.complete = true;
        self->open_batches--;
    }
    batch_settle_seen(batch);
}
