/* The answer to `ask`: what is on record of a batch, as a few spans or as a bitmap, never task by
 * task. It is a picture of what is staged, sent when all of that is committed. */
#include <stdlib.h>

#include "sink/register_private.h"

#define NOTES 40000u        /* runs of attempts: what a head has room for */

struct spans {
    Wire__Span spans[CLOSED_SPANS], *pointers[CLOSED_SPANS];
    size_t n;
};

/* false: there are too many. */
static bool gather_spans(const struct batch *batch, struct spans *ret)
{
    uint64_t at = 0, first, count, end = (uint64_t)batch->tasks.n_blocks * WIRE_BLOCK;
    if (batch->staged_complete && batch->seen.total > 0) {
        wire__span__init(&ret->spans[0]);
        ret->spans[0].count = batch->seen.total;
        ret->pointers[0] = &ret->spans[0];
        ret->n = 1;
        return true;
    }
    for (ret->n = 0; tasks_run(&batch->tasks, &at, end, true, &first, &count); ret->n++) {
        if (ret->n == CLOSED_SPANS)
            return false;
        wire__span__init(&ret->spans[ret->n]);
        ret->spans[ret->n].first = first;
        ret->spans[ret->n].count = count;
        ret->pointers[ret->n] = &ret->spans[ret->n];
    }
    return true;
}

/* Up to what a body holds: of tasks beyond that, the ventilator learns when it tries them again. */
static struct buf *gather_bitmap(const struct batch *batch)
{
    uint64_t n = (uint64_t)batch->tasks.n_blocks * WIRE_BLOCK;
    while (n > 0 && !batch->tasks.blocks[n / WIRE_BLOCK - 1])
        n -= WIRE_BLOCK;
    if (n > (uint64_t)WIRE_BODY * 8)
        n = (uint64_t)WIRE_BODY * 8;
    struct buf *buf = buf_new((size_t)((n + 7) / 8));
    if (buf)
        tasks_copy_bits(&batch->tasks, buf_data(buf), n);
    return buf;
}

struct notes {
    Wire__AttemptNote *notes, **pointers;
    size_t n;
};

static int by_index(const struct attempts *a, const struct attempts *b)
{
    return a->index < b->index ? -1 : a->index > b->index;
}

/* Neighbours with as many attempts become one note. 0 or -1. */
static int gather_notes(struct batch *batch, struct notes *ret)
{
    size_t most = HASH_COUNT(batch->attempts);
    most = most < NOTES ? most : NOTES;
    if (most == 0)
        return 0;
    ret->notes = calloc(most, sizeof *ret->notes);
    ret->pointers = calloc(most, sizeof(Wire__AttemptNote *));
    if (!ret->notes || !ret->pointers)
        return -1;
    HASH_SORT(batch->attempts, by_index);
    for (const struct attempts *a = batch->attempts; a; a = a->hh.next) {
        Wire__AttemptNote *last = ret->n > 0 ? &ret->notes[ret->n - 1] : NULL;
        if (a->n == 0)
            continue;               /* room for one that was never staged */
        if (last && last->attempts == a->n && last->first + last->count == a->index) {
            last->count++;
            continue;
        }
        if (ret->n == most)
            break;
        last = &ret->notes[ret->n];
        wire__attempt_note__init(last);
        last->first = a->index;
        last->count = 1;
        last->attempts = a->n;
        ret->pointers[ret->n++] = last;
    }
    return 0;
}

static struct answer *answer_records(struct batch *batch, const uint8_t id[WIRE_ID], struct spans *spans, struct notes *notes)
{
    Wire__BatchRecords records = WIRE__BATCH_RECORDS__INIT;
    Wire__Upward message = WIRE__UPWARD__INIT;
    struct buf *bitmap = NULL;
    records.batch = wire_id_bytes(id);
    records.known = batch != NULL;
    if (batch) {
        records.recorded = batch->recorded;
        records.counts = batch->counts;
        records.n_counts = WIRE_VERDICTS;
        records.duplicates = batch->seen.duplicates;
        records.whole_cancelled = batch->whole && (batch->whole_closed || batch->counts[WIRE__VERDICT__CANCELLED] > 0);
        records.attempts = notes->pointers;
        records.n_attempts = notes->n;
        records.bitmap = !gather_spans(batch, spans);
        records.spans = spans->pointers;
        records.n_spans = records.bitmap ? 0 : spans->n;
        if (records.bitmap && !(bitmap = gather_bitmap(batch)))
            return NULL;
    }
    message.what_case = WIRE__UPWARD__WHAT_RECORDS;
    message.records = &records;
    struct answer *answer = answer_message(&message, slice_of(bitmap));
    buf_unref(&bitmap);
    return answer;
}

void batch_ask(struct registry *self, const uint8_t id[WIRE_ID])
{
    struct batch *batch = batch_of(self, id);
    if (batch && !batch->options)
        batch = NULL;
    struct spans *spans = malloc(sizeof *spans);
    struct notes notes = {0};
    if (spans && (!batch || gather_notes(batch, &notes) == 0)) {
        struct answer *answer = answer_records(batch, id, spans, &notes);
        if (answer)
            answer_put(self, &answer, NULL);
    }
    free(notes.notes);
    free(notes.pointers);
    free(spans);
}
