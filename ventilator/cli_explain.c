/* explain: what the ventilator knows of a batch or a task, and for one that has ended what the sink has on record. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/bug.h"
#include "common/output.h"
#include "ventilator/cli_output.h"

#define CREDIT (1024u * 1024u)

static const struct option_spec *const tables[] = {cli_connection_options, NULL};

const struct command_spec explain_command = {
    .program = "ventilator", .name = "explain", .arguments = "[options] BATCH [INDEX]",
    .summary = "Tells the story of a batch, or of one task, so far, and why it is not running.",
    .tables = tables,
};

struct explaining {
    struct cli cli;
    struct cli_options options;
    struct stream *stream;
    struct loop_hook hook;
    bool hooked, told;                   /* told: the record was there */
    const char *ref;
    uint64_t index;
};

/* ---- what is on record ---- */

static void print_task(const struct stream_task *t)
{
    const char *reason = wire_reason_name(t->reason);
    printf("task %" PRIu64 ": %s", t->index, wire_verdict_name(t->verdict));
    if (t->attempts > 0)
        printf(" by attempt %" PRIu32 " at %s", t->attempts, t->worker);
    if (t->signal)
        printf(", signal %" PRIu32, t->signal);
    else if (t->has_code)
        printf(", exit code %" PRId32, t->code);
    if (t->sentence[0] != '\0')
        printf(": %s", t->sentence);
    else if (reason)
        printf(" (%s)", reason);
    if (t->attempts > 0)
        printf("; queued %.3f s, ran %.3f s", (double)t->queued_us / 1e6, (double)t->run_us / 1e6);
    putchar('\n');
}

static bool pump(void *arg)
{
    struct explaining *self = arg;
    struct stream_task task;
    if (self->cli.over || !self->stream)
        return false;
    enum stream_result r = stream_next(self->stream, &task);
    if (r == STREAM_TASK && task.index == self->index) {
        self->told = true;
        print_task(&task);
    }
    if (r == STREAM_WAIT)
        return false;
    if (self->told)
        cli_end(&self->cli, CLI_OK);
    else
        cli_fail(&self->cli, CLI_REFUSED, "the sink has no record of this task; start it with the data folder that has it");
    return false;
}

static void on_begun(void *arg, const Wire__StreamBegin *begin) { (void)arg, (void)begin; }
static void on_ready(void *arg) { (void)arg; }    /* the hook looks in this very turn */

static void on_failed(void *arg, enum client_end how, const char *sentence)
{
    cli_fail_as(&((struct explaining *)arg)->cli, how, sentence);
}

static void read_record(struct explaining *self, const uint8_t batch[WIRE_ID])
{
    struct why why;
    struct stream_config config = {.batch = batch, .recorded_as = self->ref, .ordered = true, .heads_only = true, .credit = CREDIT, .from_index = self->index,
                                   .begun = on_begun, .ready = on_ready, .failed = on_failed, .arg = self};
    self->hook = (struct loop_hook){.turn = pump, .arg = self};
    loop_add_hook(self->cli.loop, &self->hook);
    self->hooked = true;
    self->stream = stream_new(self->cli.client, &config, &why);
    if (!self->stream)
        cli_fail(&self->cli, CLI_NOT_OK, why.text);
}

/* ---- what the ventilator knows ---- */

static void on_reply(void *arg, const Wire__Reply *reply)
{
    struct explaining *self = arg;
    if (reply->what_case == WIRE__REPLY__WHAT_REFUSED) {
        cli_fail(&self->cli, CLI_REFUSED, reply->refused->sentence);
        return;
    }
    if (reply->what_case != WIRE__REPLY__WHAT_EXPLANATION) {
        cli_fail(&self->cli, CLI_REFUSED, "the ventilator has answered something else; use programs of one release");
        return;
    }
    const Wire__Explanation *x = reply->explanation;
    for (size_t i = 0; i < x->n_lines; i++)
        puts(x->lines[i]);
    if (output_flush() == 0 && x->recorded && x->batch.len == WIRE_ID)
        read_record(self, x->batch.data);
    else
        cli_end(&self->cli, CLI_OK);
}

static int explain(struct explaining *self, char *const *arguments)
{
    struct why why;
    Wire__Explain explain = WIRE__EXPLAIN__INIT;
    Wire__Number index = WIRE__NUMBER__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    self->ref = explain.ref = arguments[0];
    if (arguments[1]) {
        if (parse_u64(arguments[1], 0, WIRE_TASKS, &index.n, &why) < 0) {
            fprintf(stderr, "ventilator: index '%.40s': %s\n", arguments[1], why.text);
            return EXIT_USAGE;
        }
        explain.index = &index;
        self->index = index.n;
    }
    m.what_case = WIRE__REQUEST__WHAT_EXPLAIN;
    m.explain = &explain;
    if (cli_open(&self->cli, &self->options, NULL, NULL) < 0)
        return self->cli.code;
    int code = CLI_NOT_OK;
    if (cli_connect(&self->cli) < 0)
        code = self->cli.code;
    else if (client_request(self->cli.client, &m, on_reply, self) != 0)
        code = cli_run_loop(&self->cli);
    if (self->hooked)
        loop_remove_hook(self->cli.loop, &self->hook);
    stream_destroy(&self->stream);
    cli_close(&self->cli);
    return code;
}

int explain_main(int argc, char **argv)
{
    struct explaining self = {.hooked = false};
    int code, rest;
    bool dashes;
    if (!cli_parse(&explain_command, argc, argv, &self.options, &rest, &dashes, &code))
        return code;
    if (argc - rest < 1 || argc - rest > 2) {
        fprintf(stderr, "ventilator: usage: ventilator %s %s\n", explain_command.name, explain_command.arguments);
        code = EXIT_USAGE;
    } else {
        code = explain(&self, argv + rest);
    }
    options_release(&explain_command, &self.options);
    return code;
}
