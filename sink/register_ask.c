/* The answer to `ask`: what is on record of a batch from an index on, as a few spans or as a bitmap,
 * never task by task. It is a picture of what is staged, sent when all of that is committed. What one
 * message has no room for, the ventilator asks for from the next index on: so neither side holds
 * more than one part at a time, however large the batch. */
#include <stdlib.h>

#include "sink/register_private.h"

#define NOTES 40000u                        /* runs of attempts: what a head has room for */
#define PART_TASKS (UINT32_C(1) << 22)      /* of a bitmap */

struct part {
    struct batch *batch;                    /* NULL: unknown */
    uint64_t from, to, end;                 /* it tells of [from, to), the last one ends at `end` */
    bool bitmap;
    Wire__Span spans[CLOSED_SPANS], *span_pointers[CLOSED_SPANS];
    size_t n_spans;
    Wire__AttemptNote *notes, **note_pointers;
    size_t n_notes;
};

/* Behind the last task that is settled or has an attempt on record. */
static uint64_t end_of(const struct batch *batch)
{
    uint64_t end = batch->staged_complete ? batch->seen.total : (uint64_t)batch->tasks.n_blocks * WIRE_BLOCK;
    while (!batch->staged_complete && end > 0 && !batch->tasks.blocks[end / WIRE_BLOCK - 1])
        end -= WIRE_BLOCK;
    for (const struct attempts *a = batch->attempts; a; a = a->hh.next)
        end = a->n > 0 && a->index >= end ? a->index + 1 : end;
    return end;
}

/* More runs than fit into a list of spans? */
static bool has_many_runs(const struct batch *batch, uint64_t from, uint64_t end, size_t most)
{
    uint64_t first, count;
    for (size_t n = 0; tasks_run(&batch->tasks, &from, end, true, &first, &count); n++)
        if (n == most)
            return true;
    return false;
}

static void add_span(struct part *part, uint64_t first, uint64_t count)
{
    Wire__Span *span = &part->spans[part->n_spans];
    wire__span__init(span);
    span->first = first;
    span->count = count;
    part->span_pointers[part->n_spans++] = span;
}

static void gather_spans(struct part *part)
{
    uint64_t at = part->from, first, count;
    if (part->batch->staged_complete && part->to > part->from)
        add_span(part, part->from, part->to - part->from);
    else
        while (tasks_run(&part->batch->tasks, &at, part->to, true, &first, &count))
            add_span(part, first, count);
}

static int by_index(const struct attempts *a, const struct attempts *b)
{
    return a->index < b->index ? -1 : a->index > b->index;
}

/* Neighbours with as many attempts become one note. The part ends where the notes have no room any more. 0 or -1. */
static int gather_notes(struct part *part)
{
    struct batch *batch = part->batch;
    size_t most = HASH_COUNT(batch->attempts);
    most = most < NOTES ? most : NOTES;
    if (most == 0)
        return 0;
    part->notes = calloc(most, sizeof *part->notes);
    part->note_pointers = calloc(most, sizeof *part->note_pointers);
    if (!part->notes || !part->note_pointers)
        return -1;
    HASH_SORT(batch->attempts, by_index);
    for (const struct attempts *a = batch->attempts; a && a->index < part->to; a = a->hh.next) {
        Wire__AttemptNote *last = part->n_notes > 0 ? &part->notes[part->n_notes - 1] : NULL;
        if (a->n == 0 || a->index < part->from)
            continue;               /* room for one that was never staged; or told before */
        if (last && last->attempts == a->n && last->first + last->count == a->index) {
            last->count++;
            continue;
        }
        if (part->n_notes == most) {
            part->to = a->index;
            break;
        }
        last = &part->notes[part->n_notes];
        wire__attempt_note__init(last);
        last->first = a->index;
        last->count = 1;
        last->attempts = a->n;
        part->note_pointers[part->n_notes++] = last;
    }
    return 0;
}

/* 0 or -1: no memory. */
static int gather(const struct registry *self, struct part *part)
{
    const struct batch *batch = part->batch;
    size_t spans = self->config.ask_spans > 0 && self->config.ask_spans < CLOSED_SPANS ? self->config.ask_spans : CLOSED_SPANS;
    uint64_t tasks = self->config.ask_tasks ? self->config.ask_tasks : PART_TASKS;
    part->end = part->to = end_of(batch);
    if (part->from >= part->end)
        return 0;
    part->bitmap = !batch->staged_complete && has_many_runs(batch, part->from, part->end, spans);
    if (part->bitmap && part->end - part->from > tasks)
        part->to = part->from + tasks;
    if (gather_notes(part) < 0)
        return -1;
    if (!part->bitmap)
        gather_spans(part);
    return 0;
}

static struct answer *answer_part(struct part *part, const uint8_t id[WIRE_ID])
{
    struct batch *batch = part->batch;
    Wire__BatchRecords records = WIRE__BATCH_RECORDS__INIT;
    Wire__Upward message = WIRE__UPWARD__INIT;
    struct buf *bitmap = NULL;
    records.batch = wire_id_bytes(id);
    records.known = batch != NULL;
    records.from = part->from;
    if (batch) {
        records.recorded = batch->recorded;
        records.counts = batch->counts;
        records.n_counts = WIRE_VERDICTS;
        records.duplicates = batch->seen.duplicates;
        records.by_deadline = batch->by_deadline;
        records.whole_cancelled = batch->whole && (batch->whole_closed || batch->counts[WIRE__VERDICT__CANCELLED] > 0);
        records.attempts = part->note_pointers;
        records.n_attempts = part->n_notes;
        records.spans = part->span_pointers;
        records.n_spans = part->n_spans;
        records.bitmap = part->bitmap;
        records.more = part->to < part->end;
        records.to = records.more ? part->to : 0;
    }
    if (part->bitmap) {
        if (!(bitmap = buf_new((size_t)((part->to - part->from + 7) / 8))))
            return NULL;
        tasks_copy_bits(&batch->tasks, buf_data(bitmap), part->from, part->to);
    }
    message.what_case = WIRE__UPWARD__WHAT_RECORDS;
    message.records = &records;
    struct answer *answer = answer_message(&message, slice_of(bitmap));
    buf_unref(&bitmap);
    return answer;
}

void batch_ask(struct registry *self, const uint8_t id[WIRE_ID], uint64_t from)
{
    struct batch *batch = batch_of(self, id);
    struct part *part = calloc(1, sizeof *part);
    if (!part)
        return;                     /* unanswered, so it comes again */
    part->batch = batch;
    part->from = from;
    if (!part->batch || gather(self, part) == 0) {
        struct answer *answer = answer_part(part, id);
        if (answer)
            answer_put(self, &answer, NULL);
    }
    free(part->notes);
    free(part->note_pointers);
    free(part);
}
