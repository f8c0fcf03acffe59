/* What the sink tells of run times and failures. It counts from the start of its process: what came before is
 * forgotten when another one speaks. */
#include <stdlib.h>
#include <string.h>

#include "ventilator/tower.h"

/* Cut at the size, not within a character. */
static void take_text(char *out, size_t size, const char *text)
{
    size_t len = strnlen(text, size - 1);
    while (len > 0 && text[len] != '\0' && ((unsigned char)text[len] & 0xC0) == 0x80)
        len--;
    memcpy(out, text, len);
    out[len] = '\0';
}

static struct histogram take_durations(const Wire__Durations *from)
{
    struct histogram h = {0};
    for (size_t i = 0; from != NULL && i < from->n_buckets && i < HISTOGRAM_BUCKETS; i++)
        h.buckets[i] = from->buckets[i];
    h.sum_us = from != NULL ? from->sum_us : 0;
    return h;
}

static void take_handlers(struct tower *self, const Wire__Figures *m)
{
    self->n_handlers = 0;
    self->run = self->wait = (struct histogram){0};
    for (size_t i = 0; i < m->n_handlers && i <= TOWER_HANDLERS; i++) {
        const Wire__HandlerFigures *from = m->handlers[i];
        struct tower_handler *to = &self->handlers[self->n_handlers++];
        *to = (struct tower_handler){.attempts = from->attempts, .run = take_durations(from->run), .wait = take_durations(from->wait)};
        take_text(to->name, sizeof to->name, from->handler);
        for (size_t v = 0; v < from->n_verdicts && v < WIRE_VERDICTS; v++)
            to->verdicts[v] = from->verdicts[v];
        histogram_merge(&self->run, &to->run);
        histogram_merge(&self->wait, &to->wait);
    }
}

static struct tower_batch *batch_of(struct tower *self, const struct ledger *ledger, const uint8_t *id, mono_t now)
{
    uint64_t number;
    return ledger_batch_number_of(ledger, id, &number) ? tower_batch_want(self, ledger, number, now) : NULL;
}

static void take_batches(struct tower *self, const struct ledger *ledger, const Wire__Figures *m, mono_t now)
{
    for (size_t i = 0; i < m->n_batches; i++) {
        struct tower_batch *batch = batch_of(self, ledger, m->batches[i]->batch.data, now);
        if (batch == NULL)
            continue;
        batch->run = take_durations(m->batches[i]->run);
        batch->wait = take_durations(m->batches[i]->wait);
    }
}

/* Bytes of a program, cut anywhere: what isn't UTF-8 becomes '?' when it is shown; a NUL would end it. */
static void take_tail(struct tower_failure *to, const ProtobufCBinaryData *tail)
{
    size_t len = tail->len < TOWER_TAIL ? tail->len : TOWER_TAIL, skip = 0;
    while (skip < len && skip < 4 && (tail->data[skip] & 0xC0) == 0x80)
        skip++;             /* the end of a character that was cut */
    for (size_t i = skip; i < len; i++)
        to->tail[i - skip] = tail->data[i] == 0 ? ' ' : (char)tail->data[i];
    to->tail[len - skip] = '\0';
}

static void take_failure(struct tower *self, struct tower_batch *batch, const Wire__FailureNote *from, mono_t now)
{
    if (batch->failures == NULL && (batch->failures = calloc(TOWER_FAILURES, sizeof *batch->failures)) == NULL)
        return;
    struct tower_failure *to = &batch->failures[batch->n_failures++ % TOWER_FAILURES];
    *to = (struct tower_failure){.index = from->index, .attempt = from->attempt, .verdict = from->verdict, .reason = from->reason, .code = from->code,
                                 .signal = from->signal, .settled = from->settled, .at = now};
    take_text(to->batch, sizeof to->batch, batch->short_id);
    take_text(to->worker, sizeof to->worker, from->worker);
    take_text(to->sentence, sizeof to->sentence, from->sentence);
    take_tail(to, &from->tail);
    batch->moved = self->sequence;
}

void tower_take(struct tower *self, const struct ledger *ledger, uint64_t session, const Wire__Figures *m, mono_t now)
{
    if (!ledger_is_sink(ledger, session))
        return;
    if (self->sink_session != session) {
        self->sink_session = session;
        self->run_before = self->wait_before = self->commit_before = (struct histogram){0};
    }
    self->sink_told = now;
    self->commit = take_durations(m->commit);
    take_handlers(self, m);
    take_batches(self, ledger, m, now);
    for (size_t i = 0; i < m->n_failures; i++) {
        struct tower_batch *batch = batch_of(self, ledger, m->failures[i]->batch.data, now);
        if (batch != NULL)
            take_failure(self, batch, m->failures[i], now);
    }
    self->sink_results = m->results;
    self->sink_duplicates = m->duplicates;
    self->sink_refused = m->refused + m->malformed;
    self->sink_recorded = m->recorded;
    self->sink_waiting_bytes = m->waiting_bytes;
    self->sink_trace_lines = m->trace_lines;
    self->sink_trace_dropped = m->trace_dropped;
}
