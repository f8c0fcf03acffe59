/* Results and closings. The first verdict of a task that is staged stands; what comes later is
 * counted and answered, and never stored again.
 *
 * Nothing is changed before its row is staged, and everything that could fail for lack of memory is
 * done before that: a result that can't be taken is left unanswered and comes again. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sink/register_private.h"

#define FRESH_BYTES (WIRE_BLOCK / 8)

/* ---- counting ---- */

static size_t entry(size_t n, uint32_t i) { return n == 1 ? 0 : i; }

static Wire__Reason reason_of(const Wire__Report *report, uint32_t i)
{
    return report->n_reasons == 0 ? WIRE__REASON__REASON_NONE : report->reasons[entry(report->n_reasons, i)];
}

static bool bit_at(const uint8_t *bitmap, uint32_t i)
{
    return bitmap[i / 8] >> (i % 8) & 1;
}

void report_count(const Wire__Report *report, const uint8_t *fresh, uint64_t counts[WIRE_VERDICTS], uint64_t *ret_by_deadline)
{
    uint32_t count = report->fence->count;
    uint64_t by_deadline = 0;
    if (!fresh && report->n_verdicts == 1 && report->n_reasons <= 1) {
        counts[report->verdicts[0]] += count;
        by_deadline = wire_is_by_deadline(report->verdicts[0], reason_of(report, 0)) ? count : 0;
        *ret_by_deadline += by_deadline;
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (fresh && !bit_at(fresh, i))
            continue;
        Wire__Verdict verdict = report->verdicts[entry(report->n_verdicts, i)];
        counts[verdict]++;
        by_deadline += wire_is_by_deadline(verdict, reason_of(report, i));
    }
    *ret_by_deadline += by_deadline;
}

bool report_says_whole(const Wire__Report *report)
{
    for (size_t i = 0; i < report->n_reasons; i++)
        if (report->reasons[i] == WIRE__REASON__CANCEL || report->reasons[i] == WIRE__REASON__PARENT)
            return true;
    return false;
}

/* ---- attempts of unsettled tasks ---- */

static struct attempts *attempts_of(const struct batch *batch, uint64_t index)
{
    struct attempts *found;
    HASH_FIND(hh, batch->attempts, &index, sizeof index, found);
    return found;
}

static bool fence_before(uint64_t epoch, uint32_t attempt, uint64_t other_epoch, uint32_t other_attempt)
{
    return epoch != other_epoch ? epoch < other_epoch : attempt < other_attempt;
}

static uint32_t fences_kept(const struct attempts *attempts)
{
    return attempts->n < FENCES_KEPT ? attempts->n : FENCES_KEPT;
}

/* Older ones than those kept are taken for known: they ended long ago. */
static bool is_on_record(const struct attempts *attempts, const Wire__Fence *fence)
{
    uint32_t kept = fences_kept(attempts);
    for (uint32_t i = 0; i < kept; i++)
        if (attempts->last[i].epoch == fence->epoch && attempts->last[i].attempt == fence->attempt)
            return true;
    return kept == FENCES_KEPT && fence_before(fence->epoch, fence->attempt, attempts->last[0].epoch, attempts->last[0].attempt);
}

static void put_on_record(struct attempts *attempts, const Wire__Fence *fence)
{
    uint32_t kept = fences_kept(attempts);
    if (kept == FENCES_KEPT)
        memmove(&attempts->last[0], &attempts->last[1], --kept * sizeof attempts->last[0]);
    uint32_t at = kept;
    for (; at > 0 && fence_before(fence->epoch, fence->attempt, attempts->last[at - 1].epoch, attempts->last[at - 1].attempt); at--)
        attempts->last[at] = attempts->last[at - 1];
    attempts->last[at].epoch = fence->epoch;
    attempts->last[at].attempt = fence->attempt;
    attempts->n++;
}

static struct attempts *attempts_make(struct batch *batch, uint64_t index)
{
    struct attempts *made = calloc(1, sizeof *made);
    if (!made)
        return NULL;
    made->index = index;
    HASH_ADD(hh, batch->attempts, index, sizeof made->index, made);
    if (made->hh.tbl)
        return made;
    free(made);
    return NULL;
}

int attempts_reserve(struct batch *batch, const Wire__Fence *fence, uint32_t *ret_new)
{
    uint64_t at = fence->first, end = fence->first + fence->count, first, count;
    uint32_t n_new = 0;
    while (tasks_run(&batch->tasks, &at, end, false, &first, &count))
        for (uint64_t i = first; i < first + count; i++) {
            struct attempts *attempts = attempts_of(batch, i);
            if (!attempts && !(attempts = attempts_make(batch, i)))
                return -ENOMEM;
            n_new += !is_on_record(attempts, fence);
        }
    *ret_new = n_new;
    return 0;
}

uint32_t attempts_on_record(const struct batch *batch, uint64_t index)
{
    const struct attempts *attempts = attempts_of(batch, index);
    return attempts ? attempts->n : 0;
}

void attempts_add(struct batch *batch, const Wire__Fence *fence)
{
    uint64_t at = fence->first, end = fence->first + fence->count, first, count;
    while (tasks_run(&batch->tasks, &at, end, false, &first, &count))
        for (uint64_t i = first; i < first + count; i++) {
            struct attempts *attempts = attempts_of(batch, i);
            if (attempts && !is_on_record(attempts, fence))
                put_on_record(attempts, fence);
        }
}

static void attempts_delete(struct batch *batch, struct attempts *attempts)
{
    HASH_DEL(batch->attempts, attempts);
    free(attempts);
}

void attempts_drop(struct batch *batch, uint64_t first, uint64_t count)
{
    struct attempts *attempts, *next;
    if (count > HASH_COUNT(batch->attempts)) {
        HASH_ITER(hh, batch->attempts, attempts, next)
            if (attempts->index >= first && attempts->index - first < count)
                attempts_delete(batch, attempts);
        return;
    }
    for (uint64_t i = first; i < first + count; i++)
        if ((attempts = attempts_of(batch, i)))
            attempts_delete(batch, attempts);
}

void attempts_release(struct batch *batch)
{
    struct attempts *attempts, *next;
    HASH_ITER(hh, batch->attempts, attempts, next)
        attempts_delete(batch, attempts);
}

/* ---- rows of reports ---- */

/* Whether a packed Result is nothing but its report: then it is a packed Row as well, since the
 * report is field 1 of both. */
static bool is_plain(struct slice head)
{
    if (head.len < 2 || head.data[0] != 0x0a)
        return false;
    uint64_t len = 0;
    for (size_t i = 1; i < head.len && i <= 5; i++) {
        len |= (uint64_t)(head.data[i] & 0x7f) << (7 * (i - 1));
        if (!(head.data[i] & 0x80))
            return len == head.len - i - 1;
    }
    return false;
}

/* The head as it came, with the bitmap behind it as field 3. NULL without memory. */
static struct buf *head_with_bitmap(struct slice head, const uint8_t *fresh, uint32_t count)
{
    size_t len = (count + 7) / 8, prefix = len < 128 ? 2 : 3;
    struct buf *buf = buf_new(head.len + prefix + len);
    if (!buf)
        return NULL;
    uint8_t *to = buf_data(buf);
    memcpy(to, head.data, head.len);
    to += head.len;
    *to++ = 0x1a;
    *to++ = (uint8_t)(len < 128 ? len : (len & 0x7f) | 0x80);
    if (len >= 128)
        *to++ = (uint8_t)(len >> 7);
    memcpy(to, fresh, len);
    return buf;
}

static struct buf *pack_row(const Wire__Report *report, const uint8_t *fresh)
{
    Wire__Row row = WIRE__ROW__INIT;
    row.report = (Wire__Report *)(uintptr_t)report;
    if (fresh)
        row.fresh = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)fresh, .len = (report->fence->count + 7) / 8};
    return wire_write_buf(&row.base);
}

/* `fresh` NULL: no bitmap is kept. */
static bool append_report(struct registry *self, struct batch *batch, const Wire__Report *report, const uint8_t *fresh,
                          enum register_row kind, struct slice head, struct slice body)
{
    struct buf *made = NULL;
    if (!is_plain(head))
        made = pack_row(report, fresh);
    else if (fresh)
        made = head_with_bitmap(head, fresh, report->fence->count);
    if (!made && (fresh || !is_plain(head)))
        return false;
    uint64_t row;
    bool done = staged(self, self->ports.append(self->ports.arg, batch->seen.number, report->fence->first, report->fence->count,
                                                kind, made ? slice_of(made) : head, body, &row));
    buf_unref(&made);
    return done;
}

/* ---- reports ---- */

static void answer_nothing_new(struct registry *self, const Wire__Report *report)
{
    struct answer *answer = answer_to_report(report, NULL, 0);
    if (answer)
        answer_put(self, &answer, NULL);
}

static void count_duplicates(struct registry *self, struct batch *batch, uint64_t n)
{
    if (n == 0)
        return;
    batch->seen.duplicates += n;
    self->duplicates += n;
    batch_dirty(self, batch);
}

static void refuse(struct registry *self, struct batch *batch, const Wire__Report *report)
{
    char sentence[256];
    Wire__RefusedResult refused = WIRE__REFUSED_RESULT__INIT;
    Wire__Upward message = WIRE__UPWARD__INIT;
    snprintf(sentence, sizeof sentence, "batch %s has %" PRIu64 " tasks, so a result of tasks %" PRIu64 " to %" PRIu64 " can't be one of its",
             batch->short_id, batch->seen.total, report->fence->first, report->fence->first + report->fence->count - 1);
    register_note(self, NOTE_DEBUG, "result_refused", "%s", sentence);
    self->refused++;
    refused.fence = report->fence;
    refused.session = report->session;
    refused.reason = WIRE__REASON__MALFORMED;
    refused.sentence = sentence;
    message.what_case = WIRE__UPWARD__WHAT_REFUSED;
    message.refused = &refused;
    struct answer *answer = answer_message(&message, (struct slice){0});
    if (answer)
        answer_put(self, &answer, NULL);
}

static void find_fresh(const struct batch *batch, const Wire__Fence *fence, uint8_t *fresh)
{
    uint64_t at = fence->first, end = fence->first + fence->count, first, count;
    while (tasks_run(&batch->tasks, &at, end, false, &first, &count))
        bits_add(fresh, first - fence->first, count);
}

/* The tasks are settled as of now; others hear of it when the row is committed. */
static void settle(struct batch *batch, const Wire__Report *report, const uint8_t *fresh, struct answer *answer)
{
    const Wire__Fence *fence = report->fence;
    uint64_t end = fence->first + fence->count;
    answer->fresh_first = tasks_next(&batch->tasks, fence->first, end, false);
    answer->fresh_last = end - 1;
    report_count(report, fresh, answer->counts, &answer->by_deadline);
    tasks_add(&batch->tasks, fence->first, fence->count);
    if (batch->attempts)
        attempts_drop(batch, fence->first, fence->count);
    for (size_t i = 0; i < WIRE_VERDICTS; i++) {
        batch->counts[i] += answer->counts[i];
        batch->recorded += answer->counts[i];
    }
    batch->by_deadline += answer->by_deadline;
    batch->whole = batch->whole || report_says_whole(report);
}

static void take_verdict(struct registry *self, struct batch *batch, const Wire__Report *report, struct slice head, struct slice body)
{
    const Wire__Fence *fence = report->fence;
    uint8_t bits[FRESH_BYTES] = {0};
    uint32_t n_in = batch->staged_complete ? fence->count : (uint32_t)tasks_in(&batch->tasks, fence->first, fence->count);
    if (n_in == fence->count) {
        count_duplicates(self, batch, n_in);
        answer_nothing_new(self, report);
        return;
    }
    if (n_in > 0)
        find_fresh(batch, fence, bits);
    const uint8_t *fresh = n_in > 0 ? bits : NULL;
    struct answer *answer = answer_to_report(report, fresh, fence->count - n_in);
    if (!answer || tasks_reserve(&batch->tasks, fence->first, fence->count) < 0
        || !append_report(self, batch, report, fresh, ROW_VERDICT, head, body)) {
        answer_destroy(&answer);
        return;
    }
    count_duplicates(self, batch, n_in);
    settle(batch, report, fresh, answer);
    figures_report(self, batch, report, fresh, body);
    answer->completes = batch_complete_now(self, batch);
    answer_put(self, &answer, batch);
}

/* The answer calls all tasks without a verdict fresh, also when this attempt of theirs was on record
 * already: it says "go on with them", and must say so again when it was not heard. */
static void take_attempt(struct registry *self, struct batch *batch, const Wire__Report *report, struct slice head, struct slice body)
{
    const Wire__Fence *fence = report->fence;
    uint8_t fresh[FRESH_BYTES] = {0};
    uint32_t n_in = batch->staged_complete ? fence->count : (uint32_t)tasks_in(&batch->tasks, fence->first, fence->count);
    if (n_in == fence->count) {
        count_duplicates(self, batch, n_in);
        answer_nothing_new(self, report);
        return;
    }
    uint32_t n_new;
    find_fresh(batch, fence, fresh);
    struct answer *answer = answer_to_attempt(report, fresh, fence->count - n_in);
    if (!answer || attempts_reserve(batch, fence, &n_new) < 0
        || (n_new > 0 && !append_report(self, batch, report, NULL, ROW_ATTEMPT, head, body))) {
        answer_destroy(&answer);
        return;
    }
    attempts_add(batch, fence);
    if (n_new > 0)
        figures_report(self, batch, report, NULL, body);
    answer_on_record(answer, batch);
    count_duplicates(self, batch, n_in);
    answer_put(self, &answer, n_new > 0 ? batch : NULL);
}

static void take_report(struct registry *self, const Wire__Report *report, struct slice head, struct slice body)
{
    struct batch *batch = batch_of(self, report->fence->batch.data);
    if (!batch) {
        self->unregistered++;
        answer_nothing_new(self, report);
        return;
    }
    if (batch->seen.total_known && report->fence->first + report->fence->count > batch->seen.total)
        refuse(self, batch, report);
    else if (report->kind == WIRE__RESULT_KIND__IS_ATTEMPT)
        take_attempt(self, batch, report, head, body);
    else
        take_verdict(self, batch, report, head, body);
}

/* ---- events ---- */

void register_result_packed(struct registry *self, mono_t now, const Wire__Result *message, struct slice head, struct slice body)
{
    self->now = now;
    self->results++;
    /* Fields that nobody here knows were read over, and aren't stored either. */
    if (head.len != wire__result__get_packed_size(message))
        head = (struct slice){0};
    if (message->what_case == WIRE__RESULT__WHAT_REPORT)
        take_report(self, message->report, head, body);
    else if (message->what_case == WIRE__RESULT__WHAT_CLOSING)
        take_closing(self, message->closing);
}

void register_result(struct registry *self, mono_t now, const Wire__Result *message, struct slice body)
{
    register_result_packed(self, now, message, (struct slice){0}, body);
}

void register_malformed(struct registry *self, mono_t now, const char *sentence)
{
    (void)now;
    self->malformed++;
    register_note(self, NOTE_WARN, "result_malformed", "%s", sentence);
}
