/* Follows a batch: its stream of results goes to standard output or into files, at the pace of whoever
 * reads, and its end becomes the exit code. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bug.h"
#include "ventilator/cli_output.h"

#define CREDIT (4u * 1024u * 1024u)
#define PENDING_MOST (256u * 1024u)          /* no more tasks are taken while so much waits to be written */
#define TASKS_PER_TURN 1024

struct follow {
    struct follow_config config;
    struct cli *cli;
    enum cli_format format;
    struct stream *stream;
    struct loop_hook hook;
    struct writer out, err;
    bool out_is_terminal;
    char *short_id;
    Wire__Options *options;                  /* of the batch, once it is known */
    struct render_batch batch;
    struct joblog *log;
    bool stream_ended;
    /* Cancelled before they started. A cancel or a halt ends thousands at once, so they are counted, and told in one line. */
    uint64_t unstarted;
    bool unstarted_differ;                   /* in why */
    char unstarted_why[WIRE_SENTENCE + 1];   /* of the first */
};

enum cli_format cli_format_of(const struct cli_options *o)
{
    return o->out_dir && !o->format_given ? FORMAT_NONE : (enum cli_format)o->format;
}

/* ---- one task ---- */

static bool wanted(const struct follow *self, const struct stream_task *task)
{
    uint32_t verdicts = self->cli->options->verdicts;
    return verdicts == 0 || (verdicts >> task->verdict & 1);
}

static void count_unstarted(struct follow *self, const struct stream_task *task)
{
    if (self->unstarted++ == 0)
        snprintf(self->unstarted_why, sizeof self->unstarted_why, "%s", task->sentence);
    else if (strcmp(self->unstarted_why, task->sentence) != 0)
        self->unstarted_differ = true;
}

static void put_text(struct follow *self, const struct stream_task *task)
{
    text_add(&self->out.pending, task->output, task->output_len);
    text_add(&self->err.pending, task->errors, task->errors_len);
    if (task->verdict == WIRE__VERDICT__CANCELLED && task->attempts == 0)
        count_unstarted(self, task);
    /* Why a task didn't end well, unless thousands ended at once with the batch's deadline: the last line counts those. */
    else if (task->verdict != WIRE__VERDICT__OK && (task->attempts > 0 || task->sentence[0]))
        render_sentence(&self->err.pending, task);
}

static int put_task(struct follow *self, const struct stream_task *task)
{
    struct why why;
    if (self->log)
        joblog_put(self->log, task, wall_now());
    if (!self->config.results || !wanted(self, task))
        return 0;
    if (self->config.files && out_files_put(self->config.files, task, &why) < 0) {
        cli_fail(self->cli, EXIT_DISK, why.text);
        return -1;
    }
    switch (self->format) {
    case FORMAT_TEXT: put_text(self, task); break;
    case FORMAT_JSON: render_json(&self->out.pending, &self->batch, task); break;
    case FORMAT_CSV:  render_csv(&self->out.pending, &self->batch, task); break;
    case FORMAT_NONE: break;
    }
    return 0;
}

/* ---- the end ---- */

static void say_how_it_ended(struct follow *self, const Wire__StreamEnd *end)
{
    char line[512];
    size_t n = 0;
    line[0] = '\0';
    for (size_t v = WIRE__VERDICT__OK; v < end->n_counts && v < WIRE_VERDICTS; v++)
        if (end->counts[v] > 0)
            n += (size_t)snprintf(line + n, sizeof line - n, "%s%" PRIu64 " %s", n ? ", " : "", end->counts[v],
                                  wire_verdict_name((Wire__Verdict)v));
    if (end->recorded != 0 && end->counts[WIRE__VERDICT__OK] != end->recorded && end->complete)
        cli_say(self->cli, "batch %s: %s", self->short_id, line);
}

static void say_unstarted(struct follow *self)
{
    const char *why = self->unstarted_why;
    if (self->unstarted > 0)
        cli_say(self->cli, "%" PRIu64 " task%s cancelled before %s started%s%s", self->unstarted, self->unstarted == 1 ? " was" : "s were",
                self->unstarted == 1 ? "it" : "they", !why[0] ? "" : self->unstarted_differ ? "; the first: " : ": ", why);
}

static void finish(struct follow *self)
{
    const Wire__StreamEnd *end = stream_end(self->stream);
    say_unstarted(self);
    if (self->config.code_by_end && end->n_counts > WIRE__VERDICT__OK)
        say_how_it_ended(self, end);
    if (end->sentence[0] != '\0') {
        cli_fail(self->cli, CLI_REFUSED, end->sentence);
        return;
    }
    if (self->config.complete && !end->complete) {
        struct why why;
        why_set(&why, "the sink's records of batch %s are not complete: ask again, or start it with the data folder that has them", self->short_id);
        cli_fail(self->cli, CLI_REFUSED, why.text);
        return;
    }
    int code = self->config.code_by_end ? cli_exit_code(end) : CLI_OK;
    cli_end(self->cli, code != CLI_OK ? code : self->config.least_code);
}

/* ---- the pace ---- */

static void fail_to_write(struct follow *self, const char *what, int error)
{
    struct why why;
    why_set(&why, "%s can't be written: %s", what, strerror(error));
    cli_fail(self->cli, EXIT_DISK, why.text);
}

static size_t log_pending(const struct follow *self)
{
    return self->log ? writer_pending(joblog_writer(self->log)) : 0;
}

static void write_out(struct follow *self)
{
    if (writer_pending(&self->err) > 0 || (self->out_is_terminal && writer_pending(&self->out) > 0))
        bar_clear(self->cli->bar);
    writer_push(&self->out);
    writer_push(&self->err);
    if (self->log) {
        writer_push(joblog_writer(self->log));
        if (joblog_writer(self->log)->broken) {
            fail_to_write(self, "the file of --joblog", joblog_writer(self->log)->error);
            return;
        }
    }
    if (!self->out.broken)
        return;
    if (self->out.error == EPIPE) {
        cli_end(self->cli, CLI_NOT_OK);    /* Whoever read has seen enough. */
    } else {
        fail_to_write(self, "standard output", self->out.error);
    }
}

static bool has_room(const struct follow *self)
{
    return writer_pending(&self->out) <= PENDING_MOST && writer_pending(&self->err) <= PENDING_MOST && log_pending(self) <= PENDING_MOST;
}

/* At the end of each turn: takes tasks while what they print finds a place. */
static bool pump(void *arg)
{
    struct follow *self = arg;
    struct stream_task task;
    bool more = true;
    if (self->cli->over)
        return false;
    for (int n = 0; n < TASKS_PER_TURN && more && has_room(self); n++) {
        enum stream_result r = self->stream_ended ? STREAM_END : stream_next(self->stream, &task);
        self->stream_ended = r == STREAM_END;
        more = r == STREAM_TASK;
        if (more && put_task(self, &task) < 0)
            return false;
    }
    write_out(self);
    bool drained = writer_pending(&self->out) == 0 && (writer_pending(&self->err) == 0 || self->err.broken) && log_pending(self) == 0;
    if (self->stream_ended && drained)
        finish(self);
    /* Without room the writers go on by themselves, and call for a turn when they have. */
    return more && has_room(self) && !self->cli->over;
}

/* ---- what the stream says ---- */

static void on_begun(void *arg, const Wire__StreamBegin *begin)
{
    struct follow *self = arg;
    wire_free(&self->options);
    self->options = (Wire__Options *)wire_copy(&begin->options->base);
    if (!self->options) {
        cli_fail(self->cli, CLI_NOT_OK, "there is no memory left");
        return;
    }
    self->batch = (struct render_batch){.short_id = self->short_id, .traceparent = self->options->traceparent,
                                        .values = self->options->values, .n_values = self->options->n_values};
    if (self->log)
        joblog_of_batch(self->log, self->options);
}

static void on_ready(void *arg) { (void)arg; }    /* The hook looks in this very turn. */

static void on_progress(void *arg, const Wire__StreamProgress *p)
{
    struct follow *self = arg;
    bar_progress(self->cli->bar, p->recorded, p->counts, p->n_counts, p->total != NULL, p->total ? p->total->n : 0);
}

static void on_failed(void *arg, enum client_end end, const char *sentence)
{
    struct follow *self = arg;
    cli_fail_as(self->cli, end, sentence);
}

/* ---- all of it ---- */

struct follow *follow_new(const struct follow_config *config, struct why *why)
{
    struct follow *self = calloc(1, sizeof *self);
    if (!self) {
        why_set(why, "there is no memory left");
        return NULL;
    }
    self->config = *config;
    self->cli = config->cli;
    self->format = cli_format_of(self->cli->options);
    self->hook = (struct loop_hook){.turn = pump, .arg = self};
    self->short_id = strdup(config->short_id);
    self->batch = (struct render_batch){.short_id = self->short_id, .traceparent = ""};
    self->out_is_terminal = isatty(STDOUT_FILENO);
    writer_open(&self->out, self->cli->loop, STDOUT_FILENO);
    writer_open(&self->err, self->cli->loop, STDERR_FILENO);
    if (config->log >= 0)
        self->log = joblog_new(self->cli->loop, &(struct joblog_config){.fd = config->log, .admitted = config->admitted,
                                                 .live = config->from_the_start, .items = config->items, .n_items = config->n_items});
    loop_add_hook(self->cli->loop, &self->hook);
    struct stream_config stream = {
        .batch = config->batch, .follow = config->follow, .place = config->place, .credit = CREDIT,
        .recorded_as = config->complete ? config->short_id : NULL,
        .ordered = config->results && self->cli->options->ordered,
        .heads_only = (self->format == FORMAT_NONE || !config->results) && !config->files, .end_only = !config->results && !self->log,
        .begun = on_begun, .ready = on_ready, .progress = on_progress, .failed = on_failed, .arg = self,
    };
    if (!self->short_id || (config->log >= 0 && !self->log))
        why_set(why, "there is no memory left");
    else
        self->stream = stream_new(self->cli->client, &stream, why);
    if (!self->stream)
        follow_destroy(&self);
    else if (config->results && self->format == FORMAT_CSV)
        render_csv_header(&self->out.pending);
    if (self && config->follow)
        self->cli->bar = bar_new(self->cli, self->short_id, config->batch);
    return self;
}

void follow_destroy(struct follow **self_p)
{
    struct follow *self = *self_p;
    if (!self)
        return;
    bar_destroy(&self->cli->bar);
    loop_remove_hook(self->cli->loop, &self->hook);
    stream_destroy(&self->stream);
    writer_close(&self->out);
    writer_close(&self->err);
    joblog_destroy(&self->log);
    wire_free(&self->options);
    free(self->short_id);
    free(self);
    *self_p = NULL;
}

void follow_least_code(struct follow *self, int code) { self->config.least_code = code; }
