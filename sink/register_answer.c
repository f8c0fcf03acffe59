/* What is said and counted once a flush is on disk. Answers stand in one queue, in the order of
 * what was staged, so nobody hears of anything before all that came earlier is committed too.
 * Results that are committed together are told together. */
#include <stdlib.h>
#include <string.h>

#include "sink/register_private.h"

#define ANSWER_BYTES (512u * 1024u)     /* of columns in one Recorded message: its head has 1 MiB at most */

struct answer *answer_new(size_t columns)
{
    struct answer *self = calloc(1, sizeof *self + columns);
    if (self)
        self->fresh_first = UINT64_MAX;
    return self;
}

void answer_destroy(struct answer **self_p)
{
    struct answer *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    wire_free(&self->message);
    slice_drop(&self->body);
    free(self);
}

struct answer *answer_message(const Wire__Upward *message, struct slice body)
{
    struct answer *self = answer_new(0);
    if (!self)
        return NULL;
    self->message = (Wire__Upward *)wire_copy(&message->base);
    self->body = slice_keep(body);
    if (!self->message || (body.len > 0 && !self->body.buf))
        answer_destroy(&self);
    return self;
}

/* ---- answers to results ---- */

/* Entries are 4 bytes wide. A column of equal entries is said by one. */
static size_t entries_of(const void *column, size_t n)
{
    const uint8_t *bytes = column;
    return n > 1 && memcmp(bytes, bytes + 4, (n - 1) * 4) == 0 ? 1 : n;
}

static void *take_column(uint8_t **free_space, const void *column, size_t n)
{
    void *copy = *free_space;
    if (n > 0)
        memcpy(copy, column, n * 4);
    *free_space += n * 4;
    return copy;
}

static void begin_result(struct answer *self, const uint8_t *batch, uint64_t session)
{
    memcpy(self->id, batch, WIRE_ID);
    wire__fence__init(&self->fence);
    self->fence.batch = wire_id_bytes(self->id);
    wire__recorded_result__init(&self->result);
    self->result.fence = &self->fence;
    self->result.session = session;
    self->is_result = true;
}

static bool bit_at(const uint8_t *bitmap, uint64_t i)
{
    return bitmap[i / 8] >> (i % 8) & 1;
}

static size_t count_runs(const uint8_t *bitmap, uint32_t count)
{
    size_t n = 0;
    for (uint32_t i = 0; i < count; i++)
        n += bit_at(bitmap, i) && (i == 0 || !bit_at(bitmap, i - 1));
    return n;
}

/* The spans lie behind the pointers to them. */
static void take_spans(struct answer *self, uint8_t *free_space, size_t n_runs, const uint8_t *fresh, const Wire__Fence *fence)
{
    Wire__Span **pointers = (Wire__Span **)(void *)free_space;
    Wire__Span *spans = (Wire__Span *)(void *)(free_space + n_runs * sizeof *pointers);
    size_t n = 0;
    for (uint32_t i = 0; i < fence->count; i++) {
        if (!bit_at(fresh, i))
            continue;
        if (i == 0 || !bit_at(fresh, i - 1)) {
            wire__span__init(&spans[n]);
            spans[n].first = fence->first + i;
            pointers[n] = &spans[n];
            n++;
        }
        spans[n - 1].count++;
    }
    self->result.fresh = pointers;
    self->result.n_fresh = n;
}

static struct answer *make_answer(const Wire__Report *report, const uint8_t *fresh, uint32_t n_fresh, size_t n_on_record)
{
    size_t n_verdicts = entries_of(report->verdicts, report->n_verdicts);
    size_t n_reasons = entries_of(report->reasons, report->n_reasons);
    size_t n_codes = entries_of(report->codes, report->n_codes);
    bool all_fresh = n_fresh == report->fence->count;
    size_t n_runs = n_fresh == 0 || all_fresh ? 0 : count_runs(fresh, report->fence->count);
    size_t spans = n_runs * (sizeof(Wire__Span *) + sizeof(Wire__Span));
    struct answer *self = answer_new(spans + (n_verdicts + n_reasons + n_codes + n_on_record) * 4);
    if (!self)
        return NULL;
    begin_result(self, report->fence->batch.data, report->session);
    self->fence.first = report->fence->first;
    self->fence.count = report->fence->count;
    self->fence.epoch = report->fence->epoch;
    self->fence.attempt = report->fence->attempt;
    self->result.kind = report->kind;
    self->result.all_fresh = all_fresh;
    if (n_runs > 0)
        take_spans(self, self->columns, n_runs, fresh, report->fence);
    uint8_t *free_space = self->columns + spans;
    self->result.verdicts = take_column(&free_space, report->verdicts, n_verdicts);
    self->result.n_verdicts = n_verdicts;
    self->result.reasons = take_column(&free_space, report->reasons, n_reasons);
    self->result.n_reasons = n_reasons;
    self->result.codes = take_column(&free_space, report->codes, n_codes);
    self->result.n_codes = n_codes;
    if (n_on_record > 0)
        self->result.on_record = (uint32_t *)(void *)free_space;
    return self;
}

struct answer *answer_to_report(const Wire__Report *report, const uint8_t *fresh, uint32_t n_fresh)
{
    return make_answer(report, fresh, n_fresh, 0);
}

struct answer *answer_to_attempt(const Wire__Report *report, const uint8_t *fresh, uint32_t n_fresh)
{
    return make_answer(report, fresh, n_fresh, report->fence->count);
}

void answer_on_record(struct answer *self, const struct batch *batch)
{
    Wire__RecordedResult *r = &self->result;
    bool alike = true;
    for (uint32_t i = 0; i < self->fence.count; i++) {
        r->on_record[i] = attempts_on_record(batch, self->fence.first + i);
        alike = alike && r->on_record[i] == r->on_record[0];
    }
    r->n_on_record = alike ? 1 : self->fence.count;
}

struct answer *answer_to_closing(const Wire__Closing *closing, uint64_t closed)
{
    struct answer *self = answer_new(8);
    if (!self)
        return NULL;
    begin_result(self, closing->batch.data, closing->session);
    self->fence.first = closing->span->first;
    self->fence.count = closing->span->count < UINT32_MAX ? (uint32_t)closing->span->count : UINT32_MAX;
    self->result.kind = WIRE__RESULT_KIND__IS_CLOSING;
    uint8_t *free_space = self->columns;
    self->result.verdicts = take_column(&free_space, &closing->verdict, 1);
    self->result.n_verdicts = 1;
    self->result.reasons = take_column(&free_space, &closing->reason, 1);
    self->result.n_reasons = 1;
    self->result.all_fresh = closed == closing->span->count;
    self->result.number = closing->number;
    self->result.closed = closed;
    self->result.span = closing->span->count;
    return self;
}

_Static_assert(sizeof(Wire__Verdict) == 4 && sizeof(Wire__Reason) == 4, "columns are copied by 4 bytes");

/* ---- the queue ---- */

/* What the commit makes true. */
static void apply(struct registry *self, struct answer *answer)
{
    struct batch *batch = answer->batch;
    if (!batch)
        return;
    TAILQ_REMOVE(&batch->answers, answer, of_batch);
    uint64_t n = 0;
    for (size_t i = 0; i < WIRE_VERDICTS; i++) {
        batch->seen.counts[i] += answer->counts[i];
        n += answer->counts[i];
    }
    batch->seen.recorded += n;
    batch->seen.by_deadline += answer->by_deadline;
    self->recorded += n;
    if (answer->completes) {
        batch->seen.complete = true;
        self->open_batches--;
    }
    batch_settle_seen(batch);
    batch_touch(self, batch);
}

struct recorded_together {
    struct answer_queue answers;
    size_t n, bytes;
};

static void say_together(struct registry *self, struct recorded_together *together)
{
    Wire__RecordedResult *results[ANSWERS_AT_ONCE];
    Wire__Recorded recorded = WIRE__RECORDED__INIT;
    Wire__Upward message = WIRE__UPWARD__INIT;
    struct answer *answer;
    STAILQ_FOREACH(answer, &together->answers, entry)
        results[recorded.n_results++] = &answer->result;
    recorded.results = results;
    message.what_case = WIRE__UPWARD__WHAT_RECORDED;
    message.recorded = &recorded;
    if (recorded.n_results > 0)
        say(self, &message, (struct slice){0});
    while ((answer = STAILQ_FIRST(&together->answers))) {
        STAILQ_REMOVE_HEAD(&together->answers, entry);
        answer_destroy(&answer);
    }
    together->n = together->bytes = 0;
}

/* A generous estimate of its packed length. */
static size_t weight(const struct answer *answer)
{
    const Wire__RecordedResult *r = &answer->result;
    return 128 + r->n_verdicts + r->n_reasons * 2 + r->n_codes * 10 + r->n_on_record * 5 + r->n_fresh * 24;
}

static void say_or_gather(struct registry *self, struct recorded_together *together, struct answer *answer)
{
    if (answer->is_result) {
        if (together->n >= ANSWERS_AT_ONCE || together->bytes + weight(answer) > ANSWER_BYTES)
            say_together(self, together);
        STAILQ_INSERT_TAIL(&together->answers, answer, entry);
        together->n++;
        together->bytes += weight(answer);
        return;
    }
    say_together(self, together);
    if (answer->message)
        say(self, answer->message, answer->body);
    answer_destroy(&answer);
}

void answers_say(struct registry *self)
{
    struct recorded_together together = {.answers = STAILQ_HEAD_INITIALIZER(together.answers)};
    struct answer *answer;
    while ((answer = STAILQ_FIRST(&self->answers)) && answer->sequence <= self->committed) {
        STAILQ_REMOVE_HEAD(&self->answers, entry);
        apply(self, answer);
        figures_committed(self, answer);
        say_or_gather(self, &together, answer);
    }
    say_together(self, &together);
    struct batch *batch;
    while ((batch = TAILQ_FIRST(&self->touched))) {
        TAILQ_REMOVE(&self->touched, batch, touched_entry);
        batch->touched = false;
        self->ports.moved(self->ports.arg, &batch->seen);
    }
}

void answer_put(struct registry *self, struct answer **answer_p, struct batch *batch)
{
    struct answer *answer = *answer_p;
    *answer_p = NULL;
    answer->sequence = self->last_sequence;
    answer->taken = self->now;
    answer->batch = batch;
    if (batch)
        TAILQ_INSERT_TAIL(&batch->answers, answer, of_batch);
    STAILQ_INSERT_TAIL(&self->answers, answer, entry);
    if (answer->sequence <= self->committed)
        answers_say(self);
}
