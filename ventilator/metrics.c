/* /metrics, in Prometheus' text format. Label sets are bounded: METRICS_WORKERS workers, the handlers that the sink
 * tells apart, verdicts. Batches are no label: there is no end to them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ventilator/http_private.h"

#define METRICS_WORKERS 1000u

/* A family: its name without the prefix, its type and what it is. */
static void family(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP tarmac_%s %s\n# TYPE tarmac_%s %s\n", name, help, name, type);
}

static void one(FILE *out, const char *name, const char *type, const char *help, uint64_t value)
{
    family(out, name, type, help);
    fprintf(out, "tarmac_%s %" PRIu64 "\n", name, value);
}

/* A label's value, with what the format wants escaped. */
static void put_label(FILE *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\\' || *text == '"')
            fputc('\\', out);
        if (*text == '\n')
            fputs("\\n", out);
        else
            fputc(*text, out);
    }
}

static void put_histogram(FILE *out, const char *name, const char *handler, const struct histogram *h)
{
    uint64_t n = 0;
    for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
        n += h->buckets[i];
        fprintf(out, "tarmac_%s_bucket{", name);
        if (handler != NULL) {
            fputs("handler=\"", out);
            put_label(out, handler);
            fputs("\",", out);
        }
        if (i < HISTOGRAM_BOUNDS)
            fprintf(out, "le=\"%.10g\"} %" PRIu64 "\n", (double)histogram_bound(i) / 1e6, n);
        else
            fprintf(out, "le=\"+Inf\"} %" PRIu64 "\n", n);
    }
    const char *const ends[] = {"sum", "count"};
    for (size_t i = 0; i < 2; i++) {
        fprintf(out, "tarmac_%s_%s", name, ends[i]);
        if (handler != NULL) {
            fputs("{handler=\"", out);
            put_label(out, handler);
            fputs("\"}", out);
        }
        if (i == 0)
            fprintf(out, " %.6f\n", (double)h->sum_us / 1e6);
        else
            fprintf(out, " %" PRIu64 "\n", n);
    }
}

/* ---- the ventilator ---- */

static void put_queue(FILE *out, const struct survey_totals *t)
{
    one(out, "batches", "gauge", "Batches that are known, complete ones too.", t->batches);
    one(out, "batches_open", "gauge", "Batches that are not complete.", t->open_batches);
    one(out, "batches_recovering", "gauge", "Open batches of which it is not known yet what is recorded.", t->recovering);
    one(out, "tasks_queued", "gauge", "Tasks that wait to be handed out, or for their next try.", t->queued);
    family(out, "attempts", "gauge", "Attempts at workers, by where they are.");
    for (int i = 0; i < SURVEY_PHASES; i++)
        fprintf(out, "tarmac_attempts{phase=\"%s\"} %" PRIu64 "\n", survey_phase_name((enum survey_phase)i), t->phases[i]);
    one(out, "desired_slots", "gauge", "Slots that would all have something to do now: for autoscalers.", t->wanted);
    one(out, "attempts_dispatched_total", "counter", "Attempts handed to workers since this process began.", t->dispatched);
    one(out, "attempts_retried_total", "counter", "Attempts that were followed by another try.", t->retried);
    one(out, "tasks_recorded_total", "counter", "Tasks of which the sink told this process the verdict.", t->recorded);
    family(out, "verdicts_total", "counter", "The same, by verdict.");
    for (size_t i = WIRE__VERDICT__OK; i < WIRE_VERDICTS; i++)
        fprintf(out, "tarmac_verdicts_total{verdict=\"%s\"} %" PRIu64 "\n", wire_verdict_name((Wire__Verdict)i), t->verdicts[i]);
    one(out, "requests_refused_total", "counter", "Requests of clients and workers that were refused.", t->refused);
    one(out, "messages_stale_total", "counter", "Messages that came too late to mean anything.", t->stale);
    one(out, "payload_cache_bytes", "gauge", "Payloads that are in memory ahead of their dispatch.", t->cached_bytes);
    one(out, "epoch", "gauge", "Starts of the ventilator on this journal.", t->epoch);
    one(out, "journal_full", "gauge", "1 while the ventilator's disk is full and nothing is taken in.", t->journal_full);
    one(out, "draining", "gauge", "1 while the ventilator is leaving.", t->draining);
}

static void put_http(FILE *out, const struct http *http)
{
    one(out, "http_viewers", "gauge", "Open streams of the control tower.", http->n_viewers);
    one(out, "http_requests_total", "counter", "HTTP requests that were answered.", http->served);
    one(out, "http_errors_total", "counter", "HTTP requests that were answered with an error.", http->refused);
    family(out, "build_info", "gauge", "Always 1.");
    fprintf(out, "tarmac_build_info{version=\"%s\"} 1\n", TARMAC_VERSION);
    family(out, "uptime_seconds", "gauge", "Since the start of the ventilator.");
    fprintf(out, "tarmac_uptime_seconds %.3f\n", (double)mono_since(http->tower->sampled, http->tower->started) / 1e9);
}

/* ---- workers ---- */

static void put_fleet(FILE *out, const struct survey_totals *t)
{
    one(out, "workers", "gauge", "Workers that are known.", t->workers);
    one(out, "workers_draining", "gauge", "Workers that were told to leave.", t->draining_workers);
    one(out, "workers_silent", "gauge", "Workers that are away, or gave no sign of life for three heartbeats.", t->silent_workers);
    one(out, "workers_lost_total", "counter", "Workers that were given up.", t->losses);
    one(out, "slots", "gauge", "Slots of all workers.", t->slots);
    one(out, "slots_busy", "gauge", "Slots that run something, as last reported.", t->busy);
}

struct column {
    const char *name, *type, *help;
    uint64_t (*value)(const struct tower_stand *stand);
    double scale;                      /* what is printed is value / scale */
};

static uint64_t slots_of(const struct tower_stand *s) { return s->slots; }
static uint64_t running_of(const struct tower_stand *s) { return s->phases[SURVEY_RUNNING] + s->phases[SURVEY_STOPPING]; }
static uint64_t waiting_of(const struct tower_stand *s) { return s->phases[SURVEY_WAITING]; }
static uint64_t finished_of(const struct tower_stand *s) { return s->finished; }
static uint64_t run_us_of(const struct tower_stand *s) { return s->run_us; }
static uint64_t result_bytes_of(const struct tower_stand *s) { return s->result_bytes; }
static uint64_t unreleased_of(const struct tower_stand *s) { return s->unreleased; }
static uint64_t unreleased_bytes_of(const struct tower_stand *s) { return s->unreleased_bytes; }
static uint64_t ready_of(const struct tower_stand *s) { return strcmp(s->state, "ready") == 0; }

static const struct column columns[] = {
    {"worker_ready", "gauge", "1 while the worker takes tasks.", ready_of, 1},
    {"worker_slots", "gauge", "Slots of the worker.", slots_of, 1},
    {"worker_attempts_running", "gauge", "Attempts that run at the worker.", running_of, 1},
    {"worker_attempts_waiting", "gauge", "Attempts at the worker that were not reported as started.", waiting_of, 1},
    {"worker_attempts_finished_total", "counter", "Attempts that have ended at the worker.", finished_of, 1},
    {"worker_run_seconds_total", "counter", "Sum of the run times of its attempts.", run_us_of, 1e6},
    {"worker_result_bytes_total", "counter", "Bytes of its results.", result_bytes_of, 1},
    {"worker_results_unreleased", "gauge", "Results that the worker keeps until they are recorded.", unreleased_of, 1},
    {"worker_results_unreleased_bytes", "gauge", "Bytes of them.", unreleased_bytes_of, 1},
};

static void put_workers(FILE *out, const struct tower *tower)
{
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        const struct column *c = &columns[i];
        unsigned n = 0;
        family(out, c->name, c->type, c->help);
        for (const struct tower_stand *s = tower->stands; s != NULL && n < METRICS_WORKERS; s = s->hh.next, n++) {
            fprintf(out, "tarmac_%s{worker=\"", c->name);
            put_label(out, s->name);
            fprintf(out, "\"} %.15g\n", (double)c->value(s) / c->scale);
        }
    }
}

/* ---- the sink ---- */

static void put_sink(FILE *out, const struct tower *tower)
{
    one(out, "sink_up", "gauge", "1 while a sink is connected.", tower->now.sink_present);
    one(out, "sink_full", "gauge", "1 while the sink's disk is full and no results are taken.", tower->now.sink_full);
    family(out, "sink_silent_seconds", "gauge", "Since the sink's last sign of life.");
    fprintf(out, "tarmac_sink_silent_seconds %.3f\n", (double)tower->now.sink_silent / 1e9);
    one(out, "sink_results_total", "counter", "Messages with results that the sink has taken.", tower->sink_results);
    one(out, "sink_tasks_recorded_total", "counter", "Tasks that the sink has recorded since its start.", tower->sink_recorded);
    one(out, "sink_duplicates_total", "counter", "Results that came after their verdict.", tower->sink_duplicates);
    one(out, "sink_refused_total", "counter", "Results that were refused or malformed.", tower->sink_refused);
    one(out, "sink_waiting_bytes", "gauge", "Bytes of results that are not on the sink's disk yet.", tower->sink_waiting_bytes);
    one(out, "sink_trace_spans_total", "counter", "Spans written to the sink's trace file.", tower->sink_trace_lines);
    one(out, "sink_trace_spans_dropped_total", "counter", "Spans for which there was no room, or no disk.", tower->sink_trace_dropped);
    family(out, "commit_seconds", "histogram", "From the arrival of a message with results at the sink until it is on disk.");
    put_histogram(out, "commit_seconds", NULL, &tower->commit);
}

static bool is_empty(const struct tower_handler *h)
{
    uint64_t n = h->attempts;
    for (size_t i = 0; i < WIRE_VERDICTS; i++)
        n += h->verdicts[i];
    return n == 0;
}

/* Ad-hoc commands have no handler; a handler's name has no parentheses at its ends by accident. */
static const char *label_of(const struct tower_handler *h) { return h->name[0] != '\0' ? h->name : "(command)"; }

static void put_handlers(FILE *out, const struct tower *tower)
{
    static const struct { const char *name, *help; } histograms[] = {
        {"run_seconds", "Run time of an attempt, by handler."}, {"queue_wait_seconds", "From a task's admission to the start of its attempt, by handler."},
    };
    family(out, "handler_verdicts_total", "counter", "Tasks that the sink has recorded since its start, by handler and verdict.");
    for (size_t i = 0; i < tower->n_handlers; i++)
        for (size_t v = WIRE__VERDICT__OK; v < WIRE_VERDICTS && !is_empty(&tower->handlers[i]); v++) {
            fputs("tarmac_handler_verdicts_total{handler=\"", out);
            put_label(out, label_of(&tower->handlers[i]));
            fprintf(out, "\",verdict=\"%s\"} %" PRIu64 "\n", wire_verdict_name((Wire__Verdict)v), tower->handlers[i].verdicts[v]);
        }
    for (size_t k = 0; k < 2; k++) {
        family(out, histograms[k].name, "histogram", histograms[k].help);
        for (size_t i = 0; i < tower->n_handlers; i++)
            if (!is_empty(&tower->handlers[i]))
                put_histogram(out, histograms[k].name, label_of(&tower->handlers[i]), k == 0 ? &tower->handlers[i].run : &tower->handlers[i].wait);
    }
}

char *metrics_render(const struct http *http, size_t *ret_len)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, ret_len);
    if (out == NULL)
        return NULL;
    put_queue(out, &http->tower->now);
    put_fleet(out, &http->tower->now);
    put_workers(out, http->tower);
    put_sink(out, http->tower);
    put_handlers(out, http->tower);
    put_http(out, http);
    bool failed = ferror(out) != 0;
    if (fclose(out) == 0 && !failed)
        return text;
    free(text);
    return NULL;
}
