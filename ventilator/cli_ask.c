/* Commands that ask the ventilator one thing and print the answer. */
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bug.h"
#include "common/output.h"
#include "ventilator/cli.h"

#define PAGE 1000u                       /* batches, workers of one reply, at most */

struct question {
    struct cli cli;
    struct cli_options options;
    void (*print)(struct question *self, const Wire__Reply *reply);
    Wire__Reply__WhatCase expected;
    Wire__Request *request;
    /* Answers of many come in pages: whether there is more, and then the request asks for it. NULL: never. */
    bool (*more)(struct question *self, const Wire__Reply *reply);
    bool later_page;
    bool one;                            /* about one batch */
};

static void on_reply(void *arg, const Wire__Reply *reply)
{
    struct question *self = arg;
    if (reply->what_case == WIRE__REPLY__WHAT_REFUSED) {
        cli_fail(&self->cli, CLI_REFUSED, reply->refused->sentence);
        return;
    }
    if (reply->what_case != self->expected) {
        cli_fail(&self->cli, CLI_REFUSED, "the ventilator has answered something else; use programs of one release");
        return;
    }
    self->print(self, reply);
    if (output_flush() == 0 && self->more && self->more(self, reply)) {
        self->later_page = true;
        if (client_request(self->cli.client, self->request, on_reply, self) == 0)
            cli_fail(&self->cli, CLI_NOT_OK, "there is no memory to ask for the rest");
        return;
    }
    cli_end(&self->cli, CLI_OK);
}

static int ask(struct question *self, Wire__Request *request)
{
    int code;
    self->request = request;
    if (cli_open(&self->cli, &self->options, NULL, NULL) < 0)
        return self->cli.code;
    if (cli_connect(&self->cli) < 0)
        code = self->cli.code;
    else if (client_request(self->cli.client, request, on_reply, self) == 0)
        code = CLI_NOT_OK;
    else
        code = cli_run_loop(&self->cli);
    cli_close(&self->cli);
    return code;
}

/* Reads the options; the arguments behind them must be from `least` to `most`. False: *ret_code. */
static bool begin(struct question *self, const struct command_spec *command, int argc, char **argv, int least, int most,
                  char ***ret_arguments, int *ret_code)
{
    int rest;
    bool dashes;
    *self = (struct question){0};
    if (!cli_parse(command, argc, argv, &self->options, &rest, &dashes, ret_code))
        return false;
    *ret_arguments = argv + rest;
    if (argc - rest >= least && argc - rest <= most)
        return true;
    fprintf(stderr, "ventilator: usage: ventilator %s %s\n", command->name, command->arguments);
    options_release(command, &self->options);
    *ret_code = EXIT_USAGE;
    return false;
}

static int end(struct question *self, const struct command_spec *command, int code)
{
    options_release(command, &self->options);
    return code;
}

static const struct option_spec json_options[] = {
    {.name = "json", .type = OPT_FLAG, .offset = offsetof(struct cli_options, json), .help = "One JSON object a line."},
    {.name = NULL},
};

static void print_json(json_t *object)
{
    json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(15));
    putchar('\n');
    json_decref(object);
}

/* ---- status, list ---- */

static const char *time_text(int64_t us, char out[32])
{
    int64_t ms = us / 1000;
    return format_duration((ms < 10000 && ms > -10000 ? ms : ms / 1000 * 1000) * NS_PER_MS, out);
}

/* `system`: NULL where the answer has none. */
static void print_batch_json(const Wire__BatchStatus *s, const Wire__SystemStatus *system)
{
    json_t *o = json_object();
    const struct { const char *key; uint64_t value; } counts[] = {
        {"total", s->total}, {"queued", s->queued}, {"running", s->running}, {"ok", s->ok}, {"failed", s->failed},
        {"deadline_exceeded", s->deadline_exceeded}, {"cancelled", s->cancelled}, {"lost", s->lost},
        {"rejected", s->rejected}, {"retried", s->retried}, {"duplicates", s->duplicates},
    };
    char id[33];
    json_object_set_new(o, "batch", json_string(s->short_id));
    json_object_set_new(o, "name", json_string(s->name));
    json_object_set_new(o, "state", json_string(wire_state_name(s->state)));
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        json_object_set_new(o, counts[i].key, json_integer((json_int_t)counts[i].value));
    json_object_set_new(o, "deadline_left_ms", s->deadline_left ? json_integer(s->deadline_left->us / 1000) : json_null());
    json_object_set_new(o, "rate_per_s", json_real((double)s->rate_milli / 1000));
    json_object_set_new(o, "eta_ms", s->eta ? json_integer((json_int_t)(s->eta->us / 1000)) : json_null());
    wire_id_hex(s->batch.data, id);
    json_object_set_new(o, "id", json_string(id));
    json_object_set_new(o, "note", s->note[0] ? json_string(s->note) : json_null());
    if (system) {
        json_object_set_new(o, "journal_full", json_boolean(system->journal_full));
        json_object_set_new(o, "sink_full", json_boolean(system->sink_full));
    }
    print_json(o);
}

static void print_count(const char *name, uint64_t value)
{
    if (value > 0)
        printf("  %-18s %10" PRIu64 "\n", name, value);
}

static void print_batch_text(const Wire__BatchStatus *s)
{
    char text[32];
    printf("batch %s%s%s%s: %s, %" PRIu64 " task%s%s\n", s->short_id, s->name[0] ? " \"" : "", s->name, s->name[0] ? "\"" : "",
           wire_state_name(s->state), s->total, s->total == 1 ? "" : "s", s->state == WIRE__STATE__OPEN ? " so far" : "");
    print_count("queued", s->queued);
    print_count("running", s->running);
    print_count("ok", s->ok);
    print_count("failed", s->failed);
    print_count("deadline_exceeded", s->deadline_exceeded);
    print_count("cancelled", s->cancelled);
    print_count("lost", s->lost);
    print_count("rejected", s->rejected);
    print_count("retried", s->retried);
    print_count("duplicates", s->duplicates);
    if (s->state != WIRE__STATE__COMPLETE) {
        printf("  rate %.1f/s", (double)s->rate_milli / 1000);
        if (s->eta)
            printf(", ends in about %s", time_text((int64_t)s->eta->us, text));
        if (s->deadline_left)
            printf(", deadline in %s", time_text(s->deadline_left->us, text));
        putchar('\n');
    }
    if (s->note[0] != '\0')
        printf("  %s\n", s->note);
}

static void print_table(Wire__BatchStatus *const *batches, size_t n, bool with_header)
{
    if (n > 0 && with_header)
        printf("%-12s %-11s %10s %10s %10s %10s %10s  %s\n", "BATCH", "STATE", "TASKS", "QUEUED", "RUNNING", "OK", "NOT OK", "NAME");
    for (size_t i = 0; i < n; i++) {
        const Wire__BatchStatus *s = batches[i];
        printf("%-12s %-11s %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10" PRIu64 " %10" PRIu64 "  %s\n", s->short_id,
               wire_state_name(s->state), s->total, s->queued, s->running, s->ok,
               s->failed + s->deadline_exceeded + s->cancelled + s->lost + s->rejected, s->name);
    }
}

static void print_system(const Wire__SystemStatus *s)
{
    printf("%" PRIu32 " worker%s with %" PRIu32 " slot%s, %s sink%s%s%s\n", s->workers, s->workers == 1 ? "" : "s", s->slots,
           s->slots == 1 ? "" : "s", s->sink_present ? "a" : "no", s->draining ? ", draining" : "",
           s->journal_full ? ", the journal's disk is full" : "", s->sink_full ? ", the sink's disk is full" : "");
    if (s->note[0] != '\0')
        printf("%s\n", s->note);
}

static void print_status(struct question *self, const Wire__Reply *reply)
{
    const Wire__StatusReport *r = reply->status;
    for (size_t i = 0; self->options.json && i < r->n_batches; i++)
        print_batch_json(r->batches[i], r->system);
    if (self->options.json)
        return;
    if (self->one && r->n_batches > 0) {
        print_batch_text(r->batches[0]);
        return;
    }
    if (r->system && !self->later_page)
        print_system(r->system);
    print_table(r->batches, r->n_batches, !self->later_page);
}

static bool more_status(struct question *self, const Wire__Reply *reply)
{
    self->request->status->after = reply->status->next;
    return reply->status->more;
}

static void print_list(struct question *self, const Wire__Reply *reply)
{
    const Wire__ListReport *r = reply->list;
    for (size_t i = 0; self->options.json && i < r->n_batches; i++)
        print_batch_json(r->batches[i], NULL);
    if (!self->options.json)
        print_table(r->batches, r->n_batches, !self->later_page);
}

static bool more_list(struct question *self, const Wire__Reply *reply)
{
    self->request->list->after = reply->list->next;
    return reply->list->more;
}

static const struct option_spec *const json_tables[] = {json_options, cli_connection_options, NULL};

const struct command_spec status_command = {
    .program = "ventilator", .name = "status", .arguments = "[options] [BATCH]",
    .summary = "Counts the tasks of a batch by state; without one, all batches and the system.",
    .details = "Running are all tasks that a worker has: also those that wait there for a slot, so they may be more than there are slots.",
    .tables = json_tables,
};

int status_main(int argc, char **argv)
{
    struct question self;
    char **arguments;
    int code;
    if (!begin(&self, &status_command, argc, argv, 0, 1, &arguments, &code))
        return code;
    Wire__Status status = WIRE__STATUS__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    self.one = arguments[0] != NULL;
    if (self.one)
        status.ref = arguments[0];
    else
        status.most = PAGE;
    m.what_case = WIRE__REQUEST__WHAT_STATUS;
    m.status = &status;
    self.expected = WIRE__REPLY__WHAT_STATUS;
    self.print = print_status;
    self.more = more_status;
    return end(&self, &status_command, ask(&self, &m));
}

const struct command_spec list_command = {
    .program = "ventilator", .name = "list", .arguments = "[options]",
    .summary = "Lists the batches.",
    .tables = json_tables,
};

int list_main(int argc, char **argv)
{
    struct question self;
    char **arguments;
    int code;
    if (!begin(&self, &list_command, argc, argv, 0, 0, &arguments, &code))
        return code;
    Wire__List list = WIRE__LIST__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    m.what_case = WIRE__REQUEST__WHAT_LIST;
    m.list = &list;
    list.most = PAGE;
    self.expected = WIRE__REPLY__WHAT_LIST;
    self.print = print_list;
    self.more = more_list;
    return end(&self, &list_command, ask(&self, &m));
}

/* ---- cancel ---- */

static const struct option_spec cancel_options[] = {
    {.name = "task", .type = OPT_STRINGS, .offset = offsetof(struct cli_options, tasks), .value = "LIST",
     .help = "Only these tasks: indices from 0, such as 3,7-9."},
    {.name = "reason", .type = OPT_STRING, .offset = offsetof(struct cli_options, reason), .value = "TEXT",
     .help = "Why, for the records."},
    {.name = NULL},
};
static const struct option_spec *const cancel_tables[] = {cancel_options, cli_connection_options, NULL};

const struct command_spec cancel_command = {
    .program = "ventilator", .name = "cancel", .arguments = "[options] BATCH",
    .summary = "Cancels a batch, or some of its tasks; answers when none of them can start any more.",
    .details = "Prints how many were queued, running, finished already, and on workers that could not be reached (those stop "
               "by themselves when their lease has run out).",
    .tables = cancel_tables,
};

static void print_cancelled(struct question *self, const Wire__Reply *reply)
{
    const Wire__CancelReport *r = reply->cancelled;
    (void)self;
    printf("%s: %" PRIu64 " queued, %" PRIu64 " running, %" PRIu64 " finished already, %" PRIu64 " unreachable\n", r->short_id,
           r->queued, r->running, r->finished, r->unreachable);
}

int cancel_main(int argc, char **argv)
{
    struct question self;
    struct why why;
    char **arguments;
    int code;
    if (!begin(&self, &cancel_command, argc, argv, 1, 1, &arguments, &code))
        return code;
    Wire__Cancel cancel = WIRE__CANCEL__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    if (cli_parse_spans(&self.options.tasks, &cancel.tasks, &cancel.n_tasks, &why) < 0) {
        cli_refuse_usage(why.text);
        return end(&self, &cancel_command, EXIT_USAGE);
    }
    cancel.ref = arguments[0];
    if (self.options.reason)
        cancel.reason = (char *)(uintptr_t)self.options.reason;
    m.what_case = WIRE__REQUEST__WHAT_CANCEL;
    m.cancel = &cancel;
    self.expected = WIRE__REPLY__WHAT_CANCELLED;
    self.print = print_cancelled;
    code = ask(&self, &m);
    cli_free_spans(cancel.tasks, cancel.n_tasks);
    return end(&self, &cancel_command, code);
}

/* ---- extend, seal ---- */

static const struct option_spec extend_options[] = {
    {.name = "deadline", .type = OPT_DURATION, .offset = offsetof(struct cli_options, deadline), .value = "D", .preset = "-1",
     .env = "", .help = "The new deadline, counted from now."},
    {.name = NULL},
};
static const struct option_spec *const extend_tables[] = {extend_options, cli_connection_options, NULL};

const struct command_spec extend_command = {
    .program = "ventilator", .name = "extend", .arguments = "[options] BATCH --deadline D",
    .summary = "Sets the deadline of a batch to that long from now.",
    .tables = extend_tables,
};

static void print_extended(struct question *self, const Wire__Reply *reply)
{
    char text[32];
    (void)self;
    printf("%s: deadline in %s\n", reply->extended->short_id, time_text((int64_t)reply->extended->deadline_left_us, text));
}

int extend_main(int argc, char **argv)
{
    struct question self;
    char **arguments;
    int code;
    if (!begin(&self, &extend_command, argc, argv, 1, 1, &arguments, &code))
        return code;
    if (self.options.deadline <= 0) {
        cli_refuse_usage("extend needs --deadline, the time from now, such as --deadline 10m");
        return end(&self, &extend_command, EXIT_USAGE);
    }
    Wire__Extend extend = WIRE__EXTEND__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    extend.ref = arguments[0];
    extend.deadline_us = (uint64_t)(self.options.deadline / NS_PER_US);
    m.what_case = WIRE__REQUEST__WHAT_EXTEND;
    m.extend = &extend;
    self.expected = WIRE__REPLY__WHAT_EXTENDED;
    self.print = print_extended;
    return end(&self, &extend_command, ask(&self, &m));
}

static const struct option_spec *const plain_tables[] = {cli_connection_options, NULL};

const struct command_spec seal_command = {
    .program = "ventilator", .name = "seal", .arguments = "[options] BATCH",
    .summary = "Ends the input of an open batch whose submitter is gone: it takes no more tasks.",
    .tables = plain_tables,
};

static void print_sealed(struct question *self, const Wire__Reply *reply)
{
    (void)self;
    uint64_t tasks = reply->admitted->next_index;
    printf("%s with %" PRIu64 " task%s\n", wire_state_name(reply->admitted->state), tasks, tasks == 1 ? "" : "s");
}

int seal_main(int argc, char **argv)
{
    struct question self;
    char **arguments;
    int code;
    if (!begin(&self, &seal_command, argc, argv, 1, 1, &arguments, &code))
        return code;
    Wire__Seal seal = WIRE__SEAL__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    seal.ref = arguments[0];
    m.what_case = WIRE__REQUEST__WHAT_SEAL;
    m.seal = &seal;
    self.expected = WIRE__REPLY__WHAT_ADMITTED;
    self.print = print_sealed;
    return end(&self, &seal_command, ask(&self, &m));
}

/* ---- workers, drain ---- */

const struct command_spec workers_command = {
    .program = "ventilator", .name = "workers", .arguments = "[options]",
    .summary = "Lists the workers and what they hold.",
    .tables = json_tables,
};

static void print_worker_json(const Wire__WorkerStatus *w)
{
    json_t *o = json_object(), *handlers = json_array(), *labels = json_object();
    const struct { const char *key; uint64_t value; } counts[] = {
        {"slots", w->slots}, {"busy", w->busy}, {"held", w->held}, {"window", w->window}, {"finished", w->finished},
        {"unreleased_bytes", w->unreleased_bytes}, {"lane_port", w->lane_port},
    };
    json_object_set_new(o, "name", json_string(w->name));
    json_object_set_new(o, "state", json_string(w->state));
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        json_object_set_new(o, counts[i].key, json_integer((json_int_t)counts[i].value));
    json_object_set_new(o, "service_ms", json_real((double)w->service_us / 1000));
    json_object_set_new(o, "round_trip_ms", json_real((double)w->round_trip_us / 1000));
    json_object_set_new(o, "silent_ms", json_integer((json_int_t)(w->silent_us / 1000)));
    for (size_t i = 0; i < w->n_handlers; i++)
        json_array_append_new(handlers, json_string(w->handlers[i]));
    for (size_t i = 0; i < w->n_labels; i++)
        json_object_set_new(labels, w->labels[i]->key, json_string(w->labels[i]->value));
    json_object_set_new(o, "handlers", handlers);
    json_object_set_new(o, "labels", labels);
    json_object_set_new(o, "commands", json_boolean(w->commands));
    json_object_set_new(o, "address", json_string(w->address));
    print_json(o);
}

static void print_worker_text(const Wire__WorkerStatus *w)
{
    printf("%-24s %-9s %3" PRIu32 "/%-5" PRIu32 " %8" PRIu64 " %10" PRIu64 "  ", w->name, w->state, w->busy, w->slots, w->held,
           w->finished);
    for (size_t i = 0; i < w->n_handlers; i++)
        printf("%s%s", i > 0 ? "," : "", w->handlers[i]);
    printf("%s%s\n", w->commands && w->n_handlers ? "," : "", w->commands ? "(commands)" : "");
}

static void print_workers(struct question *self, const Wire__Reply *reply)
{
    const Wire__WorkersReport *r = reply->workers;
    if (!self->options.json && r->n_workers > 0 && !self->later_page)
        printf("%-24s %-9s %9s %8s %10s  %s\n", "WORKER", "STATE", "BUSY", "HELD", "FINISHED", "HANDLERS");
    for (size_t i = 0; i < r->n_workers; i++) {
        if (self->options.json)
            print_worker_json(r->workers[i]);
        else
            print_worker_text(r->workers[i]);
    }
}

static bool more_workers(struct question *self, const Wire__Reply *reply)
{
    self->request->workers->after = reply->workers->next;
    return reply->workers->more;
}

int workers_main(int argc, char **argv)
{
    struct question self;
    char **arguments;
    int code;
    if (!begin(&self, &workers_command, argc, argv, 0, 0, &arguments, &code))
        return code;
    Wire__Workers workers = WIRE__WORKERS__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    m.what_case = WIRE__REQUEST__WHAT_WORKERS;
    m.workers = &workers;
    workers.most = PAGE;
    self.expected = WIRE__REPLY__WHAT_WORKERS;
    self.print = print_workers;
    self.more = more_workers;
    return end(&self, &workers_command, ask(&self, &m));
}

const struct command_spec drain_command = {
    .program = "ventilator", .name = "drain", .arguments = "[options] WORKER",
    .summary = "Tells a worker to give back what has not started, finish what runs, and leave.",
    .tables = plain_tables,
};

static void print_draining(struct question *self, const Wire__Reply *reply)
{
    (void)self;
    printf("%s is draining\n", reply->draining->worker);
}

int drain_main(int argc, char **argv)
{
    struct question self;
    char **arguments;
    int code;
    if (!begin(&self, &drain_command, argc, argv, 1, 1, &arguments, &code))
        return code;
    Wire__Drain drain = WIRE__DRAIN__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    drain.worker = arguments[0];
    m.what_case = WIRE__REQUEST__WHAT_DRAIN;
    m.drain = &drain;
    self.expected = WIRE__REPLY__WHAT_DRAINING;
    self.print = print_draining;
    return end(&self, &drain_command, ask(&self, &m));
}

/* ---- purge ---- */

static const struct option_spec purge_options[] = {
    {.name = "older-than", .type = OPT_DURATION, .offset = offsetof(struct cli_options, older_than), .value = "D", .preset = "-1",
     .env = "", .help = "All batches that have been complete for at least so long, instead of a single one."},
    {.name = NULL},
};
static const struct option_spec *const purge_tables[] = {purge_options, cli_connection_options, NULL};

const struct command_spec purge_command = {
    .program = "ventilator", .name = "purge", .arguments = "[options] BATCH | --older-than D",
    .summary = "Forgets a complete batch, its tasks and results, or all that have been complete for so long.",
    .details = "Refused (exit code 4) while the batch is not complete, or while a worker still holds attempts of it; with --older-than "
               "such batches are passed over and counted. When it answers, that is on the ventilator's disk; the sink forgets the results "
               "as soon as it is there. The space goes back to the file system. The key of a purged batch is kept for a while "
               "('ventilator serve --keep-keys'): submitting with it is refused, in place of running everything once more.",
    .tables = purge_tables,
};

static void print_purged(struct question *self, const Wire__Reply *reply)
{
    const Wire__Purged *r = reply->purged;
    if (self->one)
        printf("%s is %s\n", r->short_id, r->batches > 0 ? "purged" : "purged already");
    else
        printf("%" PRIu64 " purged, %" PRIu64 " passed over because they are not complete, %" PRIu64 " because workers hold attempts of them\n",
               r->batches, r->open, r->held);
    if (r->at_sink > 0)
        cli_say(&self->cli, "the sink has %" PRIu64 " purged batch%s still to forget; it does so as soon as it can", r->at_sink,
                r->at_sink == 1 ? "" : "es");
}

int purge_main(int argc, char **argv)
{
    struct question self;
    char **arguments;
    int code;
    if (!begin(&self, &purge_command, argc, argv, 0, 1, &arguments, &code))
        return code;
    Wire__Purge purge = WIRE__PURGE__INIT;
    Wire__Micros age = WIRE__MICROS__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    self.one = arguments[0] != NULL;
    if (self.one == (self.options.older_than >= 0)) {
        cli_refuse_usage("purge needs a batch, or --older-than and a time such as 7d, and not both");
        return end(&self, &purge_command, EXIT_USAGE);
    }
    if (self.one) {
        purge.ref = arguments[0];
    } else {
        age.us = (uint64_t)self.options.older_than / (uint64_t)NS_PER_US;
        purge.older_than = &age;
    }
    m.what_case = WIRE__REQUEST__WHAT_PURGE;
    m.purge = &purge;
    self.expected = WIRE__REPLY__WHAT_PURGED;
    self.print = print_purged;
    return end(&self, &purge_command, ask(&self, &m));
}
