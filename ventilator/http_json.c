/* JSON of what the ledger says and the tower has sampled; docs/http.md names each field. */
#include <stdlib.h>
#include <string.h>

#include "ventilator/http_private.h"

static json_t *whole(uint64_t n) { return json_integer(n < INT64_MAX ? (json_int_t)n : INT64_MAX); }
static json_t *ms_of_us(uint64_t us) { return json_real((double)us / 1000); }
static void set(json_t *o, const char *key, json_t *value) { json_object_set_new(o, key, value); }

json_t *json_text(const char *text)
{
    json_t *s = json_string(text);
    if (s != NULL)
        return s;
    size_t len = strlen(text);
    char *copy = strdup(text);
    for (size_t i = 0; copy != NULL && i < len; i++)
        copy[i] = (unsigned char)copy[i] < 0x80 ? copy[i] : '?';
    s = copy != NULL ? json_string(copy) : NULL;
    free(copy);
    return s != NULL ? s : json_null();
}

static json_t *text_or_null(const char *text) { return text[0] != '\0' ? json_text(text) : json_null(); }

json_t *json_left(int64_t ns)
{
    return ns == INT64_MAX ? json_null() : json_integer(ns / NS_PER_MS);
}

json_t *json_quantiles(const struct histogram *h)
{
    static const struct { const char *key; double share; } marks[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}};
    if (histogram_count(h) == 0)
        return json_null();
    json_t *o = json_object();
    double us = 0;
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++) {
        histogram_quantile(h, marks[i].share, &us);
        set(o, marks[i].key, json_real(us / 1000));
    }
    return o;
}

/* ---- overview ---- */

static const char *system_note(const struct survey_totals *t)
{
    if (t->draining)
        return "the ventilator is leaving: nothing new is taken in";
    if (t->journal_full)
        return "the disk of the ventilator is full: nothing new is taken in until there is room";
    if (!t->sink_present)
        return "no sink is connected: results can't be recorded, and new batches don't start";
    if (t->sink_full)
        return "the disk of the sink is full: results wait until there is room";
    if (t->recovering > 0)
        return "recovering: the sink and the workers are asked what became of the open batches";
    return NULL;
}

json_t *json_overview(struct http *http)
{
    const struct tower *tower = http->tower;
    const struct survey_totals *t = &tower->now;
    const struct { const char *key; uint64_t value; } numbers[] = {
        {"epoch", t->epoch}, {"uptime_ms", (uint64_t)(mono_since(tower->sampled, tower->started) / NS_PER_MS)}, {"sequence", tower->sequence},
        {"workers", t->workers}, {"slots", t->slots}, {"desired_slots", t->wanted}, {"recovering", t->recovering}, {"batches", t->batches},
        {"open_batches", t->open_batches}, {"queued", t->queued}, {"waiting", t->phases[SURVEY_WAITING]}, {"running", t->phases[SURVEY_RUNNING]},
        {"stopping", t->phases[SURVEY_STOPPING]}, {"landing", t->phases[SURVEY_LANDING]}, {"recorded", t->recorded}, {"retried", t->retried},
        {"duplicates", tower->sink_duplicates}, {"losses", t->losses}, {"dispatched", t->dispatched},
    };
    struct histogram run = tower_recent(tower->recent_run), wait = tower_recent(tower->recent_wait), commit = tower_recent(tower->recent_commit);
    const char *sentence = system_note(t);
    json_t *o = json_object();
    set(o, "program", json_text(http->config.program));
    set(o, "ready", json_boolean(sentence == NULL));
    set(o, "draining", json_boolean(t->draining));
    set(o, "journal_full", json_boolean(t->journal_full));
    set(o, "sink_full", json_boolean(t->sink_full));
    set(o, "sink_present", json_boolean(t->sink_present));
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        set(o, numbers[i].key, whole(numbers[i].value));
    const struct tower_series *s = tower->series;
    set(o, "rate_per_s", json_real(s->n_fine > 0 ? (double)s->fine[(s->n_fine - 1) % TOWER_FINE].rate : 0));
    set(o, "run_ms", json_quantiles(&run));
    set(o, "wait_ms", json_quantiles(&wait));
    set(o, "commit_ms", json_quantiles(&commit));
    set(o, "note", sentence != NULL ? json_text(sentence) : json_null());
    return o;
}

/* ---- batches ---- */

json_t *json_batch(struct http *http, const Wire__BatchStatus *s)
{
    const struct { const char *key; uint64_t value; } counts[] = {
        {"total", s->total}, {"queued", s->queued}, {"running", s->running}, {"ok", s->ok}, {"failed", s->failed},
        {"deadline_exceeded", s->deadline_exceeded}, {"cancelled", s->cancelled}, {"lost", s->lost}, {"rejected", s->rejected},
        {"retried", s->retried}, {"duplicates", s->duplicates},
    };
    char id[33], trace[33];
    uint64_t number = 0;
    bool known = ledger_batch_number(http->ports.ledger, s->short_id, &number);
    const struct tower_batch *kept = known ? tower_batch_find(http->tower, number) : NULL;
    wire_id_hex(s->batch.data, id);
    wire_trace_id(s->traceparent, trace);
    json_t *o = json_object();
    set(o, "number", known ? whole(number) : json_null());
    set(o, "batch", json_text(s->short_id));
    set(o, "id", json_string(id));
    set(o, "name", json_text(s->name));
    set(o, "state", json_string(wire_state_name(s->state)));
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        set(o, counts[i].key, whole(counts[i].value));
    set(o, "handler", json_text(ledger_batch_handler(http->ports.ledger, number)));
    set(o, "deadline_left_ms", s->deadline_left != NULL ? json_integer(s->deadline_left->us / 1000) : json_null());
    set(o, "rate_per_s", json_real((double)s->rate_milli / 1000));
    set(o, "eta_ms", s->eta != NULL ? whole(s->eta->us / 1000) : json_null());
    set(o, "age_ms", whole(s->age_us / 1000));
    set(o, "trace_id", json_string(trace));
    set(o, "note", text_or_null(s->note));
    set(o, "run_ms", kept != NULL ? json_quantiles(&kept->run) : json_null());
    set(o, "wait_ms", kept != NULL ? json_quantiles(&kept->wait) : json_null());
    return o;
}

json_t *json_batches(struct http *http, Wire__BatchStatus *const *rows, size_t n, bool more, uint64_t next)
{
    json_t *list = json_array(), *o = json_object();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, json_batch(http, rows[i]));
    set(o, "batches", list);
    set(o, "more", json_boolean(more));
    set(o, "next", whole(next));
    return o;
}

/* ---- workers ---- */

static const struct tower_stand *stand_of(const struct tower *tower, const char *name)
{
    const struct tower_stand *stand;
    for (stand = tower->stands; stand != NULL; stand = stand->hh.next)
        if (strcmp(stand->name, name) == 0)
            return stand;
    return NULL;
}

static void add_flying(struct http *http, const Wire__WorkerStatus *w, json_t *o)
{
    static const struct tower_stand none;
    const struct tower_stand *stand = stand_of(http->tower, w->name);
    if (stand == NULL)
        stand = &none;
    for (int i = 0; i < SURVEY_PHASES; i++)
        set(o, survey_phase_name((enum survey_phase)i), whole(stand->phases[i]));
    set(o, "run_s", json_real((double)stand->run_us / 1e6));
    set(o, "result_bytes", whole(stand->result_bytes));
    set(o, "number", whole(stand->number));
}

json_t *json_worker(struct http *http, const Wire__WorkerStatus *w)
{
    json_t *o = json_object(), *handlers = json_array(), *labels = json_object();
    set(o, "name", json_text(w->name));
    set(o, "state", json_string(w->state));
    set(o, "slots", whole(w->slots));
    set(o, "busy", whole(w->busy));
    set(o, "held", whole(w->held));
    set(o, "window", whole(w->window));
    set(o, "finished", whole(w->finished));
    set(o, "unreleased_bytes", whole(w->unreleased_bytes));
    set(o, "service_ms", ms_of_us(w->service_us));
    set(o, "round_trip_ms", ms_of_us(w->round_trip_us));
    set(o, "silent_ms", whole(w->silent_us / 1000));
    set(o, "address", json_text(w->address));
    for (size_t i = 0; i < w->n_handlers; i++)
        json_array_append_new(handlers, json_text(w->handlers[i]));
    for (size_t i = 0; i < w->n_labels; i++)
        set(labels, w->labels[i]->key, json_text(w->labels[i]->value));
    set(o, "handlers", handlers);
    set(o, "labels", labels);
    set(o, "commands", json_boolean(w->commands));
    add_flying(http, w, o);
    return o;
}

json_t *json_workers(struct http *http, const Wire__WorkersReport *report)
{
    json_t *list = json_array(), *o = json_object();
    for (size_t i = 0; i < report->n_workers; i++)
        json_array_append_new(list, json_worker(http, report->workers[i]));
    set(o, "workers", list);
    set(o, "more", json_boolean(report->more));
    set(o, "next", whole(report->next));
    return o;
}

/* ---- attempts ---- */

static double median_ms(const struct tower *tower, const char *handler)
{
    double us;
    for (size_t i = 0; i < tower->n_handlers; i++)
        if (strcmp(tower->handlers[i].name, handler) == 0 && histogram_quantile(&tower->handlers[i].run, 0.5, &us))
            return us / 1000;
    return histogram_quantile(&tower->run, 0.5, &us) ? us / 1000 : -1;
}

/* Why it may be stuck; NULL: nothing says so. */
static const char *suspicion(const struct tower *tower, const struct tower_plane *plane, double factor)
{
    double median = median_ms(tower, plane->handler), age = (double)plane->seen.age / 1e6;
    if (plane->seen.worker_silent)
        return "its worker is silent";
    /* Short tasks are no suspects for a second: medians of a millisecond are passed by chance. */
    return median >= 0 && age > factor * median && age > 1000 ? "it runs much longer than the median of its handler" : NULL;
}

json_t *json_attempts(struct http *http, const struct tower_planes *planes, double factor)
{
    json_t *o = json_object(), *list = json_array();
    json_int_t suspects = 0;
    double us;
    for (size_t i = 0; i < planes->n; i++) {
        const struct tower_plane *p = &planes->rows[i];
        const char *reason = suspicion(http->tower, p, factor);
        suspects += reason != NULL;
        json_t *row = json_object();
        set(row, "batch", json_text(p->short_id));
        set(row, "number", whole(p->seen.batch));
        set(row, "index", whole(p->seen.index));
        set(row, "attempt", whole(p->seen.attempt));
        set(row, "worker", json_text(p->worker_name));
        set(row, "worker_number", whole(p->seen.worker));
        set(row, "handler", json_text(p->handler));
        set(row, "phase", json_string(survey_phase_name(p->seen.phase)));
        set(row, "age_ms", json_left(p->seen.age));
        set(row, "left_ms", json_left(p->seen.left));
        set(row, "budget_ms", json_left(p->seen.budget));
        set(row, "suspect", json_boolean(reason != NULL));
        set(row, "reason", reason != NULL ? json_string(reason) : json_null());
        json_array_append_new(list, row);
    }
    set(o, "median_ms", histogram_quantile(&http->tower->run, 0.5, &us) ? json_real(us / 1000) : json_null());
    set(o, "suspects", json_integer(suspects));
    set(o, "total", whole(planes->total));
    set(o, "attempts", list);
    return o;
}

/* ---- history ---- */

static json_t *number_or_null(float value) { return value < 0 ? json_null() : json_real((double)value); }

static json_t *json_ring(const struct tower_point *ring, size_t size, uint64_t n, uint64_t step_ms, uint64_t end_ms)
{
    static const char *const keys[] = {"rate_per_s", "running", "queued", "p50_ms", "p90_ms", "p99_ms"};
    json_t *o = json_object(), *columns[6];
    for (size_t i = 0; i < 6; i++)
        columns[i] = json_array();
    for (uint64_t i = n > size ? n - size : 0; i < n; i++) {
        const struct tower_point *p = &ring[i % size];
        json_t *const values[] = {json_real((double)p->rate), json_integer(p->running), whole(p->queued), number_or_null(p->p50),
                                  number_or_null(p->p90), number_or_null(p->p99)};
        for (size_t j = 0; j < 6; j++)
            json_array_append_new(columns[j], values[j]);
    }
    set(o, "step_ms", whole(step_ms));
    set(o, "end_ms", whole(end_ms));
    for (size_t i = 0; i < 6; i++)
        set(o, keys[i], columns[i]);
    return o;
}

json_t *json_history(const struct tower *tower, const struct tower_series *s)
{
    uint64_t end = (uint64_t)(mono_since(tower->sampled, tower->started) / NS_PER_MS);
    json_t *o = json_object();
    set(o, "fine", json_ring(s->fine, TOWER_FINE, s->n_fine, 1000, end));
    set(o, "coarse", json_ring(s->coarse, TOWER_COARSE, s->n_coarse, 1000 * TOWER_COARSE_S, end - s->n_fine % TOWER_COARSE_S * 1000));
    return o;
}

/* ---- failures ---- */

static json_t *json_failure(const struct tower *tower, const struct tower_failure *f)
{
    const char *reason = wire_reason_name(f->reason);
    json_t *o = json_object();
    set(o, "batch", json_text(f->batch));
    set(o, "index", whole(f->index));
    set(o, "attempt", whole(f->attempt));
    set(o, "verdict", json_string(wire_verdict_name(f->verdict)));
    set(o, "reason", reason != NULL ? json_string(reason) : json_null());
    set(o, "code", f->signal == 0 ? json_integer(f->code) : json_null());
    set(o, "signal", f->signal != 0 ? json_integer(f->signal) : json_null());
    set(o, "worker", json_text(f->worker));
    set(o, "settled", json_boolean(f->settled));
    set(o, "sentence", text_or_null(f->sentence));
    set(o, "stderr", json_text(f->tail));
    set(o, "age_ms", json_left(mono_since(tower->sampled, f->at) > 0 ? mono_since(tower->sampled, f->at) : 0));
    return o;
}

static void add_failures(const struct tower *tower, const struct tower_batch *batch, size_t most, json_t *list)
{
    uint64_t from = batch->n_failures > most ? batch->n_failures - most : 0;
    for (uint64_t i = batch->n_failures; i > from; i--)
        json_array_append_new(list, json_failure(tower, &batch->failures[(i - 1) % TOWER_FAILURES]));
}

/* Of all batches: the newest four of each at most, 64 at most. */
json_t *json_failures(struct http *http, const struct tower_batch *batch)
{
    json_t *list = json_array(), *o = json_object();
    if (batch != NULL)
        add_failures(http->tower, batch, TOWER_FAILURES, list);
    for (const struct tower_batch *b = batch == NULL ? http->tower->batches : NULL; b != NULL && json_array_size(list) < 64; b = b->hh.next)
        add_failures(http->tower, b, 4, list);
    set(o, "failures", list);
    return o;
}
