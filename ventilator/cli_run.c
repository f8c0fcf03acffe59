/* run: a submission to a ventilator, worker and sink that exist for it alone. */
#include <stdio.h>
#include <string.h>

#include "ventilator/cli_cluster.h"
#include "ventilator/cli_job.h"

static int parse_slots(void *field, const char *text, struct why *why)
{
    uint64_t n = 0;
    if (strcmp(text, "auto") != 0 && parse_u64(text, 1, WIRE_SLOTS, &n, why) < 0)
        return why_set(why, "accepted are 1 to %u, and auto", WIRE_SLOTS);
    *(uint64_t *)field = n;
    return 0;
}

static const struct option_spec slots_option[] = {
    {.name = "slots", .type = OPT_CUSTOM, .offset = offsetof(struct cli_options, slots), .value = "N|auto", .preset = "auto",
     .parse = parse_slots, .help = "How many attempts run at a time; auto: one for each core."},
    {.name = NULL},
};

static const struct option_spec *const run_tables[] = {
    slots_option, cli_batch_options, cli_items_options, cli_format_options, cli_verdict_options, cli_follow_options, NULL,
};

const struct command_spec run_command = {
    .program = "ventilator",
    .name = "run",
    .arguments = "[options] -- COMMAND {} [::: ITEM...]",
    .summary = "Runs one batch on this machine, with nothing else running, and prints the results.",
    .details = "Starts a ventilator, a worker and a sink of its own on private sockets in a temporary folder, submits, prints results "
               "as tasks end, and takes everything away again. Items and templates are those of 'ventilator submit'. Ctrl-C cancels "
               "the batch and prints what is left to print; a second one leaves at once.\n\n"
               "Exit codes, the first that applies: 130 the batch was cancelled, 124 a task was ended by the batch's deadline, 1 some "
               "tasks are not ok, 0 all are; 2 usage, 3 the parts of the run can't reach each other, " CLI_EXIT_WORDS,
    .tables = run_tables,
    .stop_at_first_argument = true,
};

struct run {
    struct job job;
    struct cluster *cluster;
};

static void on_signal(void *arg, int number)
{
    struct run *self = arg;
    (void)number;
    if (self->job.cli.over)
        loop_stop(self->job.cli.loop);    /* While the three are being ended: don't wait for them. */
    else
        job_signal(&self->job);
}

static void on_ready(void *arg)
{
    struct run *self = arg;
    struct cli_options *o = &self->job.options;
    snprintf(o->endpoint, sizeof o->endpoint, "%s", cluster_endpoint(self->cluster));
    o->connect_timeout = 10 * NS_PER_S;
    o->reconnect_timeout = 10 * NS_PER_S;
    if (job_start(&self->job) < 0)
        cli_end(&self->job.cli, self->job.cli.code);
}

static void on_failed(void *arg, const char *sentence)
{
    struct run *self = arg;
    cli_fail(&self->job.cli, CLI_UNREACHABLE, sentence);
}

static int run(struct run *self)
{
    struct job *job = &self->job;
    struct why why;
    if (job_open(job, on_signal, self) < 0)
        return job->cli.code;
    struct cluster_config config = {.slots = job->options.slots, .ready = on_ready, .failed = on_failed, .arg = self};
    self->cluster = cluster_new(job->cli.loop, &config, &why);
    if (!self->cluster) {
        cli_refuse_usage(why.text);
        return CLI_UNREACHABLE;
    }
    int code = cli_run_loop(&job->cli);
    follow_destroy(&job->follow);
    /* Whoever has asked twice doesn't wait; the three leave by themselves when we are gone. */
    if (job->signals < 2)
        cluster_stop(self->cluster);
    return code;
}

int run_main(int argc, char **argv)
{
    struct run self = {.cluster = NULL};
    int code;
    if (!job_parse(&self.job, &run_command, argc, argv, &code))
        return code;
    self.job.wait = true;
    if (self.job.options.dry_run) {
        code = job_dry_run(&self.job);
    } else {
        code = run(&self);
        cluster_destroy(&self.cluster);
        job_close(&self.job);
    }
    job_release(&self.job);
    return code;
}
