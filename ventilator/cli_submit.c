/* submit, wait and results: a batch goes in, or what came of one comes out. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/bug.h"
#include "ventilator/cli_job.h"

#define EXIT_WORDS \
    "Exit codes, the first that applies: 130 the whole batch was cancelled, 124 a task was ended by the batch's deadline, " \
    "1 some tasks are not ok, 0 all are; 2 usage, 3 the ventilator or the sink can't be reached, " CLI_EXIT_WORDS

/* ---- submit ---- */

static const struct option_spec *const submit_tables[] = {
    cli_handler_options, cli_require_options, cli_batch_options, cli_items_options, cli_wait_options, cli_format_options,
    cli_verdict_options, cli_follow_options, cli_connection_options, NULL,
};

const struct command_spec submit_command = {
    .program = "ventilator",
    .name = "submit",
    .arguments = "[options] --handler NAME | -- COMMAND {} [::: ITEM...]",
    .summary = "Submits a batch, one task for each item, and prints its id.",
    .details = "Items come from the arguments behind :::, from a file or range or files, else from the lines of standard input. "
               "The submission streams: work starts before the input has ended, and a ventilator that restarts meanwhile goes on "
               "where it was.\n\n"
               "In a command line {} stands for the item, {.} for it without extension, {/} for its base name, {//} for its folder, "
               "{/.} for its base name without extension, {#} for its index + 1, {%} for the slot. Without any the item becomes "
               "the last argument.\n\n"
               "With --wait results go to standard output as tasks end, and Ctrl-C cancels the batch; a second one leaves at "
               "once.\n\n" EXIT_WORDS,
    .tables = submit_tables,
    .stop_at_first_argument = true,
};

static void on_job_signal(void *arg, int number)
{
    (void)number;
    job_signal(arg);
}

int submit_main(int argc, char **argv)
{
    struct job job;
    int code;
    if (!job_parse(&job, &submit_command, argc, argv, &code))
        return code;
    job.wait = job.options.wait;
    job.say_id = true;
    if (job.options.dry_run) {
        code = job_dry_run(&job);
    } else {
        bool started = job_open(&job, on_job_signal, &job) == 0 && job_start(&job) == 0;
        code = started ? cli_run_loop(&job.cli) : job.cli.code;
        job_close(&job);
    }
    job_release(&job);
    return code;
}

/* ---- wait and results ---- */

static const struct option_spec *const wait_tables[] = {cli_follow_options, cli_connection_options, NULL};

const struct command_spec wait_command = {
    .program = "ventilator",
    .name = "wait",
    .arguments = "[options] BATCH",
    .summary = "Waits until a batch is complete.",
    .details = EXIT_WORDS " Ctrl-C leaves the batch alone.",
    .tables = wait_tables,
};

static const struct option_spec follow_option[] = {
    {.name = "follow", .type = OPT_FLAG, .offset = offsetof(struct cli_options, follow),
     .help = "Go on until the batch is complete, not just to what is recorded now."},
    {.name = NULL},
};

static const struct option_spec *const results_tables[] = {
    follow_option, cli_format_options, cli_verdict_options, cli_follow_options, cli_connection_options, NULL,
};

const struct command_spec results_command = {
    .program = "ventilator",
    .name = "results",
    .arguments = "[options] BATCH",
    .summary = "Prints what was recorded of a batch.",
    .details = "Without --follow it ends with what is there now; with --ordered, at the first task that has no verdict yet. "
               "Exit codes: 0 printed, 2 usage, 3 the ventilator or the sink can't be reached, " CLI_EXIT_WORDS,
    .tables = results_tables,
};

struct reading {
    struct cli cli;
    struct cli_options options;
    struct out_files *files;
    int log;                             /* of the jobs; below 0: none */
    struct follow *follow;
    bool wait;
};

static void on_leave(void *arg, int number)
{
    struct reading *self = arg;
    (void)number;
    cli_end(&self->cli, CLI_CANCELLED);
}

static void on_status(void *arg, const Wire__Reply *reply)
{
    struct reading *self = arg;
    struct why why;
    if (reply->what_case == WIRE__REPLY__WHAT_REFUSED) {
        cli_fail(&self->cli, CLI_REFUSED, reply->refused->sentence);
        return;
    }
    if (reply->what_case != WIRE__REPLY__WHAT_STATUS || reply->status->n_batches != 1) {
        cli_fail(&self->cli, CLI_REFUSED, "the ventilator has answered something else; use programs of one release");
        return;
    }
    const Wire__BatchStatus *s = reply->status->batches[0];
    struct follow_config config = {.cli = &self->cli, .batch = s->batch.data, .short_id = s->short_id,
                                   .follow = self->wait || self->options.follow, .complete = s->state == WIRE__STATE__COMPLETE,
                                   .results = !self->wait,
                                   .code_by_end = self->wait, .files = self->files, .log = self->log,
                                   .admitted = wall_now().ns - (int64_t)s->age_us * NS_PER_US};
    self->follow = follow_new(&config, &why);
    if (!self->follow)
        cli_fail(&self->cli, CLI_NOT_OK, why.text);
}

static int ask(struct reading *self, const char *ref)
{
    Wire__Status status = WIRE__STATUS__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    status.ref = (char *)(uintptr_t)ref;
    m.what_case = WIRE__REQUEST__WHAT_STATUS;
    m.status = &status;
    return client_request(self->cli.client, &m, on_status, self) ? 0 : -1;
}

static int read_batch(struct reading *self, const char *ref)
{
    int code;
    if (cli_open(&self->cli, &self->options, on_leave, self) < 0)
        return self->cli.code;
    code = cli_connect(&self->cli) == 0 && ask(self, ref) == 0 ? cli_run_loop(&self->cli) : self->cli.code;
    follow_destroy(&self->follow);
    cli_close(&self->cli);
    return code;
}

static int reading_main(const struct command_spec *command, bool wait, int argc, char **argv)
{
    struct reading self = {.wait = wait, .log = -1};
    struct cli_options *o = &self.options;
    struct why why;
    int code, rest;
    bool dashes;
    if (!cli_parse(command, argc, argv, o, &rest, &dashes, &code))
        return code;
    code = EXIT_USAGE;
    if (rest + 1 != argc)
        cli_refuse_usage(rest == argc ? "which batch? give the id that submit printed; 'ventilator list' shows them"
                                      : "one batch at a time: give one id");
    else if (o->joblog && (self.log = joblog_open(o->joblog, &why)) < 0)
        cli_refuse_usage(why.text);
    else if (o->out_dir && !(self.files = out_files_new(o->out_dir, o->out_name, &why)))
        cli_refuse_usage(why.text);
    else
        code = read_batch(&self, argv[rest]);
    out_files_destroy(&self.files);
    if (self.log >= 0)
        close(self.log);
    options_release(command, o);
    return code;
}

int wait_main(int argc, char **argv) { return reading_main(&wait_command, true, argc, argv); }
int results_main(int argc, char **argv) { return reading_main(&results_command, false, argc, argv); }
