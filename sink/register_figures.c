/* Figures of what was recorded, for the control tower: how long attempts ran and waited, per handler and batch, how
 * long the disk took, and a sample of the failures. Nothing is decided by them, nothing waits for them; where there is
 * no memory for one, it is missing. */
#include <stdlib.h>
#include <string.h>

#include "sink/register_private.h"

#define FAILURES_MOST 16u           /* in one message */
#define BATCHES_MOST 32u

struct batch_figures {
    TAILQ_ENTRY(batch_figures) entry;
    struct registry *of;
    uint8_t id[WIRE_ID];
    struct batch *batch;
    struct histogram run, wait;
    bool changed;
};

/* ---- handlers ---- */

static struct handler_figures *handler_of(struct registry *self, const Wire__Options *options)
{
    struct figures *figures = &self->figures;
    const char *name = options->handler;
    for (size_t i = 0; i < figures->n_handlers; i++)
        if (strcmp(figures->handlers[i].name, name) == 0)
            return &figures->handlers[i];
    if (figures->n_handlers == HANDLERS_TOLD || strlen(name) > WIRE_NAME)
        return &figures->others;
    struct handler_figures *made = &figures->handlers[figures->n_handlers++];
    memcpy(made->name, name, strlen(name) + 1);
    return made;
}

/* ---- batches ---- */

static struct batch_figures *figures_of(struct registry *self, struct batch *batch)
{
    struct batch_figures *own = batch->figures;
    if (!own && !(own = calloc(1, sizeof *own)))
        return NULL;
    if (!batch->figures) {
        batch->figures = own;
        own->batch = batch;
        own->of = self;
        memcpy(own->id, batch->seen.id, WIRE_ID);
    }
    if (!own->changed)
        TAILQ_INSERT_TAIL(&self->figures.changed, own, entry);
    own->changed = true;
    return own;
}

static void drop(struct batch_figures *own)
{
    if (own->changed)
        TAILQ_REMOVE(&own->of->figures.changed, own, entry);
    own->batch->figures = NULL;
    free(own);
}

void figures_forget(struct batch *batch)
{
    if (batch->figures)
        drop(batch->figures);
}

void figures_complete(struct batch *batch)
{
    if (batch->figures && !batch->figures->changed)
        drop(batch->figures);
}

/* ---- what is recorded ---- */

static bool is_counted(const uint8_t *fresh, uint32_t i) { return !fresh || (fresh[i / 8] >> (i % 8) & 1); }

static void add_column(struct histogram *to, const uint64_t *column, size_t n, const Wire__Report *report, const uint8_t *fresh)
{
    uint32_t count = report->fence->count;
    if (n <= 1 && report->n_slots <= 1 && !fresh) {
        if (wire_u32(report->slots, report->n_slots, 0) > 0)
            histogram_add(to, wire_u64(column, n, 0), count);
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        if (is_counted(fresh, i) && wire_u32(report->slots, report->n_slots, i) > 0)
            histogram_add(to, wire_u64(column, n, i), 1);
}

/* Of the whole body: where the standard error of task i lies. */
static struct slice errors_of(const Wire__Report *report, struct slice body, uint32_t i)
{
    size_t at = 0;
    for (uint32_t j = 0; j < i; j++)
        at += (size_t)wire_u32(report->output_lengths, report->n_output_lengths, j) + wire_u32(report->error_lengths, report->n_error_lengths, j);
    at += wire_u32(report->output_lengths, report->n_output_lengths, i);
    size_t len = wire_u32(report->error_lengths, report->n_error_lengths, i);
    return at + len <= body.len ? slice_cut(body, at, len) : (struct slice){0};
}

static void take_line(char *out, size_t size, const char *text)
{
    size_t len = strnlen(text, size - 1);
    while (len > 0 && text[len] != '\0' && ((unsigned char)text[len] & 0xC0) == 0x80)
        len--;              /* not within a character */
    for (size_t i = 0; i < len; i++)
        out[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? ' ' : text[i];
    out[len] = '\0';
}

static struct failure *failure_new(struct registry *self, const struct batch *batch, const char *worker, const char *sentence)
{
    struct figures *figures = &self->figures;
    if (!figures->failures)
        figures->failures = calloc(FAILURES_MOST, sizeof *figures->failures);
    if (!figures->failures || figures->n_failures == FAILURES_MOST)
        return NULL;
    struct failure *failure = &figures->failures[figures->n_failures++];
    *failure = (struct failure){.index = 0};
    memcpy(failure->batch, batch->seen.id, WIRE_ID);
    take_line(failure->worker, sizeof failure->worker, worker);
    take_line(failure->sentence, sizeof failure->sentence, sentence);
    return failure;
}

static const char *sentence_of(const Wire__Report *report, uint32_t i)
{
    for (size_t j = 0; j < report->n_extras; j++)
        if (report->extras[j]->offset == i)
            return report->extras[j]->sentence;
    return "";
}

static bool is_failure(Wire__Verdict verdict)
{
    return verdict != WIRE__VERDICT__OK && verdict != WIRE__VERDICT__CANCELLED;
}

static void sample_failures(struct registry *self, const struct batch *batch, const Wire__Report *report, const uint8_t *fresh, struct slice body)
{
    size_t n = report->n_verdicts;
    if (n == 1 && !is_failure(report->verdicts[0]))
        return;
    for (uint32_t i = 0; i < report->fence->count && self->figures.n_failures < FAILURES_MOST; i++) {
        Wire__Verdict verdict = n == 0 ? WIRE__VERDICT__OK : report->verdicts[n == 1 ? 0 : i];
        if (!is_failure(verdict) || !is_counted(fresh, i))
            continue;
        struct failure *failure = failure_new(self, batch, report->worker, sentence_of(report, i));
        if (!failure)
            return;
        struct slice tail = errors_of(report, body, i);
        size_t len = tail.len < sizeof failure->tail ? tail.len : sizeof failure->tail;
        if (len > 0)
            memcpy(failure->tail, tail.data + tail.len - len, len);
        failure->tail_len = len;
        failure->index = report->fence->first + i;
        failure->attempt = report->fence->attempt;
        failure->verdict = verdict;
        failure->reason = report->n_reasons == 0 ? WIRE__REASON__REASON_NONE : report->reasons[report->n_reasons == 1 ? 0 : i];
        failure->code = wire_i32(report->codes, report->n_codes, i);
        failure->signal = wire_u32(report->signals, report->n_signals, i);
        failure->settled = report->kind == WIRE__RESULT_KIND__IS_VERDICT;
    }
}

void figures_report(struct registry *self, struct batch *batch, const Wire__Report *report, const uint8_t *fresh, struct slice body)
{
    struct handler_figures *handler = handler_of(self, batch->options);
    struct batch_figures *own = figures_of(self, batch);
    struct histogram run = {0}, wait = {0};
    uint64_t unused = 0;
    if (report->kind == WIRE__RESULT_KIND__IS_VERDICT)
        report_count(report, fresh, handler->verdicts, &unused);
    else
        handler->attempts += report->fence->count;
    add_column(&run, report->run_us, report->n_run_us, report, fresh);
    add_column(&wait, report->queued_us, report->n_queued_us, report, fresh);
    histogram_merge(&handler->run, &run);
    histogram_merge(&handler->wait, &wait);
    if (own) {
        histogram_merge(&own->run, &run);
        histogram_merge(&own->wait, &wait);
    }
    sample_failures(self, batch, report, fresh, body);
    if (self->ports.attempts)
        self->ports.attempts(self->ports.arg, &batch->seen, report, fresh, self->last_sequence);
}

void figures_closed(struct registry *self, struct batch *batch, const Wire__Closing *closing, uint64_t closed)
{
    handler_of(self, batch->options)->verdicts[closing->verdict] += closed;
    if (closed == 0 || (closing->verdict != WIRE__VERDICT__LOST && closing->verdict != WIRE__VERDICT__REJECTED && closing->verdict != WIRE__VERDICT__FAILED))
        return;
    struct failure *failure = failure_new(self, batch, "", closing->sentence);
    if (!failure)
        return;
    failure->index = closing->span->first;
    failure->verdict = closing->verdict;
    failure->reason = closing->reason;
    failure->settled = true;
}

void figures_committed(struct registry *self, const struct answer *answer)
{
    int64_t ns = mono_since(self->now, answer->taken);
    if (answer->is_result)
        histogram_add(&self->figures.commit, ns > 0 ? (uint64_t)(ns / NS_PER_US) : 0, 1);
}

/* ---- telling ---- */

static void fill_durations(Wire__Durations *to, const struct histogram *from)
{
    wire__durations__init(to);
    to->buckets = (uint64_t *)(uintptr_t)from->buckets;
    to->n_buckets = HISTOGRAM_BUCKETS;
    while (to->n_buckets > 0 && from->buckets[to->n_buckets - 1] == 0)
        to->n_buckets--;
    to->sum_us = from->sum_us;
}

struct told_handler { Wire__HandlerFigures figures; Wire__Durations run, wait; };
struct told_batch { Wire__BatchFigures figures; Wire__Durations run, wait; };
struct told {
    Wire__Durations commit;
    struct told_handler handlers[HANDLERS_TOLD + 1];
    Wire__HandlerFigures *handler_pointers[HANDLERS_TOLD + 1];
    struct told_batch batches[BATCHES_MOST];
    Wire__BatchFigures *batch_pointers[BATCHES_MOST];
    Wire__FailureNote failures[FAILURES_MOST];
    Wire__FailureNote *failure_pointers[FAILURES_MOST];
};

static void tell_handler(struct told *told, size_t i, const struct handler_figures *from, const char *name)
{
    struct told_handler *to = &told->handlers[i];
    wire__handler_figures__init(&to->figures);
    fill_durations(&to->run, &from->run);
    fill_durations(&to->wait, &from->wait);
    to->figures.handler = (char *)(uintptr_t)name;
    to->figures.verdicts = (uint64_t *)(uintptr_t)from->verdicts;
    to->figures.n_verdicts = WIRE_VERDICTS;
    to->figures.attempts = from->attempts;
    to->figures.run = &to->run;
    to->figures.wait = &to->wait;
    told->handler_pointers[i] = &to->figures;
}

static void tell_batch(struct told *told, size_t i, struct batch_figures *from)
{
    struct told_batch *to = &told->batches[i];
    wire__batch_figures__init(&to->figures);
    fill_durations(&to->run, &from->run);
    fill_durations(&to->wait, &from->wait);
    to->figures.batch = wire_id_bytes(from->id);
    to->figures.run = &to->run;
    to->figures.wait = &to->wait;
    told->batch_pointers[i] = &to->figures;
}

static void tell_failure(struct told *told, size_t i, struct failure *from)
{
    Wire__FailureNote *to = &told->failures[i];
    wire__failure_note__init(to);
    to->batch = wire_id_bytes(from->batch);
    to->index = from->index;
    to->attempt = from->attempt;
    to->verdict = from->verdict;
    to->reason = from->reason;
    to->code = from->code;
    to->signal = from->signal;
    to->worker = from->worker;
    to->settled = from->settled;
    to->sentence = from->sentence;
    to->tail = (ProtobufCBinaryData){.len = from->tail_len, .data = from->tail};
    told->failure_pointers[i] = to;
}

/* Those of complete batches were told for the last time: nothing will change them. */
static void batches_told(struct registry *self, size_t n)
{
    for (; n > 0; n--) {
        struct batch_figures *own = TAILQ_FIRST(&self->figures.changed);
        TAILQ_REMOVE(&self->figures.changed, own, entry);
        own->changed = false;
        if (own->batch->staged_complete)
            drop(own);
    }
}

static void fill_counts(const struct registry *self, const struct register_extra *extra, Wire__Figures *figures)
{
    figures->results = self->results;
    figures->recorded = self->recorded;
    figures->duplicates = self->duplicates;
    figures->refused = self->refused;
    figures->malformed = self->malformed;
    figures->unregistered = self->unregistered;
    figures->waiting_bytes = extra->waiting_bytes;
    figures->trace_lines = extra->trace_lines;
    figures->trace_dropped = extra->trace_dropped;
}

void register_tell_figures(struct registry *self, const struct register_extra *extra)
{
    struct told *told = self->welcomed ? calloc(1, sizeof *told) : NULL;
    Wire__Figures figures = WIRE__FIGURES__INIT;
    Wire__Upward message = WIRE__UPWARD__INIT;
    struct batch_figures *own;
    if (!told)
        return;
    fill_counts(self, extra, &figures);
    fill_durations(&told->commit, &self->figures.commit);
    for (size_t i = 0; i < self->figures.n_handlers; i++)
        tell_handler(told, i, &self->figures.handlers[i], self->figures.handlers[i].name);
    tell_handler(told, self->figures.n_handlers, &self->figures.others, "other");
    TAILQ_FOREACH(own, &self->figures.changed, entry)
        if (figures.n_batches < BATCHES_MOST)
            tell_batch(told, figures.n_batches++, own);
    for (size_t i = 0; i < self->figures.n_failures; i++)
        tell_failure(told, i, &self->figures.failures[i]);
    figures.commit = &told->commit;
    figures.handlers = told->handler_pointers;
    figures.n_handlers = self->figures.n_handlers + 1;
    figures.batches = told->batch_pointers;
    figures.failures = told->failure_pointers;
    figures.n_failures = self->figures.n_failures;
    message.what_case = WIRE__UPWARD__WHAT_FIGURES;
    message.figures = &figures;
    say(self, &message, (struct slice){0});
    self->figures.n_failures = 0;
    batches_told(self, figures.n_batches);
    free(told);
}

void figures_begin(struct registry *self)
{
    TAILQ_INIT(&self->figures.changed);
}

void figures_end(struct registry *self)
{
    free(self->figures.failures);
}
