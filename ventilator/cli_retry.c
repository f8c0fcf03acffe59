/* retry: a new batch of those tasks of a complete one that did not end well.
 *
 * The sink knows how each task ended, the ventilator has the payloads: the heads of the results are read here into a bitmap,
 * one bit a task, and the ventilator is told, piece by piece, which tasks to copy. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/bug.h"
#include "ventilator/cli_output.h"

#define CREDIT (4u * 1024 * 1024)
#define TASKS_PER_TURN 4096
#define SPANS_MOST 1024u                 /* of a piece */
#define PIECE_MOST 4096u                 /* tasks of a piece: a frame takes no more */
#define AGAIN_NS (NS_PER_S / 4)

static const struct option_spec verdict_options[] = {
    {.name = "verdict", .type = OPT_CUSTOM, .offset = offsetof(struct cli_options, verdicts), .value = "V,...", .parse = cli_parse_verdicts,
     .help = "The tasks of these verdicts: ok, failed, deadline_exceeded, cancelled, lost, rejected; without it all that are not ok."},
    {.name = NULL},
};

static const struct option_spec *const tables[] = {verdict_options, cli_wait_options, cli_format_options, cli_follow_options, cli_connection_options,
                                                   NULL};

const struct command_spec retry_command = {
    .program = "ventilator",
    .name = "retry",
    .arguments = "[options] BATCH",
    .summary = "Makes a new batch of those tasks of a complete one that did not end well, and prints its id.",
    .details = "The new batch has the same options and payloads, also its deadline anew, but no key and no parent. Its tasks are "
               "numbered from 0, in the order of the old ones. A batch that is not complete, or was purged, is refused. When no task "
               "fits nothing is made, and the exit code is 0. With --wait results are printed as by 'submit --wait', with its exit "
               "codes, and Ctrl-C cancels the new batch.\n\nExit codes else: 0 done, 2 usage, 3 the ventilator or the sink "
               "can't be reached, " CLI_EXIT_WORDS,
    .tables = tables,
};

struct retry {
    struct cli cli;
    struct cli_options options;
    const char *ref;
    uint8_t old[WIRE_ID], id[WIRE_ID], submission[WIRE_ID];
    char old_short[64], short_id[64];
    /* Which tasks. */
    struct stream *stream;
    struct loop_hook hook;
    bool hooked, picked;
    uint8_t *bits;
    uint64_t n_bits, chosen;
    /* The pieces. */
    bool known, cancelled;
    uint64_t next, position;             /* of the new batch; of the bit that is its task */
    Wire__Span spans[SPANS_MOST], *pointers[SPANS_MOST];
    struct loop_timer again;
    char advice[256];
    /* Its results. */
    struct out_files *files;
    int log;
    struct follow *follow;
};

static void send_piece(struct retry *self);
static void send_begin(struct retry *self);

static void no_memory(struct retry *self) { cli_fail(&self->cli, CLI_NOT_OK, "there is no memory left"); }

/* ---- which tasks ---- */

static bool has(const struct retry *self, uint64_t i) { return i < self->n_bits && (self->bits[i / 8] >> (i % 8) & 1) != 0; }

static bool wanted(const struct retry *self, Wire__Verdict verdict)
{
    uint32_t verdicts = self->options.verdicts;
    return verdicts == 0 ? verdict != WIRE__VERDICT__OK : (verdicts >> verdict & 1) != 0;
}

/* false: no memory. */
static bool choose(struct retry *self, uint64_t index)
{
    if (index >= self->n_bits) {
        uint64_t room = self->n_bits > 0 ? self->n_bits : 65536;
        while (room <= index)
            room *= 2;
        uint8_t *bits = realloc(self->bits, room / 8);
        if (!bits)
            return false;
        memset(bits + self->n_bits / 8, 0, (room - self->n_bits) / 8);
        self->bits = bits;
        self->n_bits = room;
    }
    self->chosen += !has(self, index);
    self->bits[index / 8] |= (uint8_t)(1u << (index % 8));
    return true;
}

static void all_picked(struct retry *self)
{
    const Wire__StreamEnd *end = stream_end(self->stream);
    self->picked = true;
    if (end->sentence[0] != '\0' || !end->complete) {
        cli_fail(&self->cli, CLI_REFUSED, end->sentence[0] != '\0' ? end->sentence : "the sink's records of this batch are not complete; ask again later");
        return;
    }
    if (self->chosen == 0) {
        cli_say(&self->cli, "batch %s has no task that ended so: there is nothing to try again", self->old_short);
        cli_end(&self->cli, CLI_OK);
        return;
    }
    send_begin(self);
}

static bool pump(void *arg)
{
    struct retry *self = arg;
    struct stream_task task;
    enum stream_result r = STREAM_TASK;
    if (self->cli.over || !self->stream || self->picked)
        return false;
    for (int n = 0; n < TASKS_PER_TURN && (r = stream_next(self->stream, &task)) == STREAM_TASK; n++)
        if (wanted(self, task.verdict) && !choose(self, task.index)) {
            no_memory(self);
            return false;
        }
    if (r == STREAM_END)
        all_picked(self);
    return r == STREAM_TASK;
}

static void on_begun(void *arg, const Wire__StreamBegin *begin) { (void)arg, (void)begin; }
static void on_ready(void *arg) { (void)arg; }    /* the hook looks in this very turn */

static void on_stream_failed(void *arg, enum client_end how, const char *sentence)
{
    cli_fail_as(&((struct retry *)arg)->cli, how, sentence);
}

static void pick(struct retry *self)
{
    struct why why;
    struct stream_config config = {.batch = self->old, .recorded_as = self->old_short, .heads_only = true, .credit = CREDIT, .begun = on_begun, .ready = on_ready,
                                   .failed = on_stream_failed, .arg = self};
    self->hook = (struct loop_hook){.turn = pump, .arg = self};
    loop_add_hook(self->cli.loop, &self->hook);
    self->hooked = true;
    self->stream = stream_new(self->cli.client, &config, &why);
    if (!self->stream)
        cli_fail(&self->cli, CLI_NOT_OK, why.text);
}

/* ---- the pieces ---- */

static bool refused(struct retry *self, const Wire__Reply *reply, Wire__Reply__WhatCase expected)
{
    if (reply->what_case == expected)
        return false;
    if (reply->what_case != WIRE__REPLY__WHAT_REFUSED)
        cli_fail(&self->cli, CLI_REFUSED, "the ventilator has answered something else; use programs of one release");
    else if (reply->refused->code == WIRE__REFUSED_CODE__NOT_NOW)
        loop_timer_set(self->cli.loop, &self->again, mono_add(loop_now(self->cli.loop), AGAIN_NS));
    else
        cli_fail(&self->cli, CLI_REFUSED, reply->refused->sentence);
    return true;
}

static void on_again(void *arg)
{
    struct retry *self = arg;
    if (self->known)
        send_piece(self);
    else
        send_begin(self);
}

/* The new batch has so many: steps to the bit of its next one. */
static void step(struct retry *self, uint64_t next)
{
    for (; self->next < next && self->position < self->n_bits; self->position++)
        self->next += has(self, self->position);
}

static void done(struct retry *self)
{
    self->cli.advice = NULL;
    if (!self->options.wait)
        cli_end(&self->cli, CLI_OK);
}

static void on_piece(void *arg, const Wire__Reply *reply)
{
    struct retry *self = arg;
    if (reply->what_case == WIRE__REPLY__WHAT_REFUSED && reply->refused->code == WIRE__REFUSED_CODE__OUT_OF_ORDER &&
        reply->refused->next_index >= self->next) {
        step(self, reply->refused->next_index);      /* the answer to a piece was lost with a connection */
        send_piece(self);
        return;
    }
    if (refused(self, reply, WIRE__REPLY__WHAT_ADMITTED))
        return;
    const Wire__Admitted *a = reply->admitted;
    step(self, a->next_index);
    if (a->state == WIRE__STATE__OPEN)
        send_piece(self);
    else if (self->next < self->chosen && !self->options.wait)
        cli_fail(&self->cli, CLI_REFUSED, "the new batch was ended before all tasks were in it");
    else
        done(self);
}

/* The next tasks, as many as fit into a piece; rising spans of the old batch. */
static size_t fill(struct retry *self, uint64_t *ret_tasks)
{
    size_t n = 0;
    uint64_t tasks = 0, at = self->position;
    for (; at < self->n_bits && tasks < PIECE_MOST; at++) {
        if (at % 8 == 0 && self->bits[at / 8] == 0) {
            at += 7;
            continue;
        }
        if (!has(self, at))
            continue;
        if (n > 0 && self->spans[n - 1].first + self->spans[n - 1].count == at) {
            self->spans[n - 1].count++;
        } else if (n == SPANS_MOST) {
            break;
        } else {
            wire__span__init(&self->spans[n]);
            self->spans[n].first = at;
            self->spans[n].count = 1;
            self->pointers[n] = &self->spans[n];
            n++;
        }
        tasks++;
    }
    *ret_tasks = tasks;
    return n;
}

static void ask(struct retry *self, Wire__Retry *r, client_reply *reply)
{
    Wire__Request m = WIRE__REQUEST__INIT;
    r->ref = self->old_short;
    r->submission = wire_id_bytes(self->submission);
    m.what_case = WIRE__REQUEST__WHAT_RETRY;
    m.retry = r;
    if (client_request(self->cli.client, &m, reply, self) == 0)
        no_memory(self);
}

static void send_piece(struct retry *self)
{
    Wire__Retry r = WIRE__RETRY__INIT;
    uint64_t tasks;
    if (self->cancelled)
        return;
    r.n_tasks = fill(self, &tasks);
    r.tasks = self->pointers;
    r.first = self->next;
    r.last = self->next + tasks == self->chosen;
    ask(self, &r, on_piece);
}

/* ---- the new batch ---- */

static void begin_following(struct retry *self, const Wire__Submitted *s)
{
    struct why why;
    struct follow_config config = {.cli = &self->cli, .batch = self->id, .short_id = self->short_id, .place = s->sink, .follow = true,
                                   .results = true, .code_by_end = true, .files = self->files, .log = self->log,
                                   .admitted = wall_now().ns - (int64_t)s->age_us * NS_PER_US, .from_the_start = s->next_index == 0};
    self->options.verdicts = 0;          /* said which tasks are tried again, not which results are printed */
    self->follow = follow_new(&config, &why);
    if (!self->follow)
        cli_fail(&self->cli, CLI_NOT_OK, why.text);
}

static void on_submitted(void *arg, const Wire__Reply *reply)
{
    struct retry *self = arg;
    if (refused(self, reply, WIRE__REPLY__WHAT_SUBMITTED))
        return;
    const Wire__Submitted *s = reply->submitted;
    self->known = true;
    memcpy(self->id, s->batch.data, WIRE_ID);
    snprintf(self->short_id, sizeof self->short_id, "%s", s->short_id);
    snprintf(self->advice, sizeof self->advice, "batch %s keeps what it has and stays open: end it with 'ventilator cancel %s', and retry again",
             self->short_id, self->short_id);
    self->cli.advice = self->advice;
    if (s->note[0] != '\0')
        cli_say(&self->cli, "%s", s->note);
    if (self->options.wait) {
        cli_say(&self->cli, "batch %s: %" PRIu64 " task%s of batch %s", self->short_id, self->chosen, self->chosen == 1 ? "" : "s",
                self->old_short);
        begin_following(self, s);
    } else {
        cli_print_id(&self->cli, self->short_id);
    }
    step(self, s->next_index);
    send_piece(self);
}

static void send_begin(struct retry *self)
{
    Wire__Retry r = WIRE__RETRY__INIT;
    Wire__Verdict verdicts[WIRE_VERDICTS];
    for (unsigned v = WIRE__VERDICT__OK; v < WIRE_VERDICTS; v++)
        if (self->options.verdicts >> v & 1)
            verdicts[r.n_verdicts++] = (Wire__Verdict)v;
    r.verdicts = verdicts;
    ask(self, &r, on_submitted);
}

/* ---- the old one ---- */

static void on_status(void *arg, const Wire__Reply *reply)
{
    struct retry *self = arg;
    struct why why;
    if (refused(self, reply, WIRE__REPLY__WHAT_STATUS))
        return;
    const Wire__BatchStatus *s = reply->status->n_batches == 1 ? reply->status->batches[0] : NULL;
    if (!s || s->state != WIRE__STATE__COMPLETE) {
        why_set(&why, "batch %s is not complete: what has not ended can't be tried again; wait for it ('ventilator wait %s'), or cancel it", self->ref,
                self->ref);
        cli_fail(&self->cli, CLI_REFUSED, why.text);
        return;
    }
    memcpy(self->old, s->batch.data, WIRE_ID);
    snprintf(self->old_short, sizeof self->old_short, "%s", s->short_id);
    pick(self);
}

static void on_cancelled(void *arg, const Wire__Reply *reply)
{
    struct retry *self = arg;
    (void)reply;
    cli_advise_cancelled(&self->cli, self->short_id, self->advice, sizeof self->advice);
}

static void on_signal(void *arg, int number)
{
    struct retry *self = arg;
    char ref[33];
    Wire__Cancel cancel = WIRE__CANCEL__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    (void)number;
    if (!self->known || !self->options.wait || self->cancelled) {
        cli_end(&self->cli, CLI_CANCELLED);
        return;
    }
    cli_say(&self->cli, "interrupted: cancelling the batch; once more leaves at once");
    self->cancelled = true;
    wire_id_hex(self->id, ref);
    cancel.ref = ref;
    cancel.reason = (char *)(uintptr_t)"interrupted by whoever submitted it";
    m.what_case = WIRE__REQUEST__WHAT_CANCEL;
    m.cancel = &cancel;
    bar_cancelling(self->cli.bar);
    if (!client_request(self->cli.client, &m, on_cancelled, self))
        no_memory(self);
}

static int run(struct retry *self)
{
    Wire__Status status = WIRE__STATUS__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    int code = CLI_NOT_OK;
    status.ref = (char *)(uintptr_t)self->ref;
    m.what_case = WIRE__REQUEST__WHAT_STATUS;
    m.status = &status;
    self->again = (struct loop_timer){.fire = on_again, .arg = self};
    if (getrandom(self->submission, sizeof self->submission, 0) != sizeof self->submission) {
        cli_refuse_usage("no random number could be had for the new batch");
        return CLI_NOT_OK;
    }
    if (cli_open(&self->cli, &self->options, on_signal, self) < 0)
        return self->cli.code;
    if (cli_connect(&self->cli) < 0)
        code = self->cli.code;
    else if (client_request(self->cli.client, &m, on_status, self) != 0)
        code = cli_run_loop(&self->cli);
    loop_timer_clear(self->cli.loop, &self->again);
    if (self->hooked)
        loop_remove_hook(self->cli.loop, &self->hook);
    stream_destroy(&self->stream);
    follow_destroy(&self->follow);
    cli_close(&self->cli);
    return code;
}

static int prepare(struct retry *self, struct why *why)
{
    const struct cli_options *o = &self->options;
    if (o->joblog && !o->wait)
        return why_set(why, "--joblog %.300s: without --wait nothing is known of how tasks end", o->joblog);
    if (o->joblog && (self->log = joblog_open(o->joblog, why)) < 0)
        return -1;
    if (o->out_dir && !(self->files = out_files_new(o->out_dir, o->out_name, why)))
        return -1;
    return 0;
}

int retry_main(int argc, char **argv)
{
    struct retry *self = calloc(1, sizeof *self);
    struct why why;
    int code, rest;
    bool dashes;
    if (!self) {
        cli_refuse_usage("there is no memory left");
        return CLI_NOT_OK;
    }
    self->log = -1;
    if (cli_parse(&retry_command, argc, argv, &self->options, &rest, &dashes, &code)) {
        code = EXIT_USAGE;
        if (rest + 1 != argc)
            cli_refuse_usage("retry takes one batch: give the id that submit printed; 'ventilator list' shows them");
        else if (prepare(self, &why) < 0)
            cli_refuse_usage(why.text);
        else {
            self->ref = argv[rest];
            code = run(self);
        }
        options_release(&retry_command, &self->options);
    }
    out_files_destroy(&self->files);
    if (self->log >= 0)
        close(self->log);
    free(self->bits);
    free(self);
    return code;
}
