/* A submission and, when its results are wanted, the stream of them, in one loop. */
#include "ventilator/cli_job.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bug.h"
#include "tarmac/template.h"

/* ---- the command line ---- */

static bool refuse(struct job *self, const struct why *why, int *ret_code)
{
    cli_refuse_usage(why->text);
    *ret_code = EXIT_USAGE;
    job_release(self);
    return false;
}

static bool takes_handler(const struct command_spec *command)
{
    for (const struct option_spec *const *table = command->tables; *table; table++)
        if (*table == cli_handler_options)
            return true;
    return false;
}

bool job_parse(struct job *self, const struct command_spec *command, int argc, char **argv, int *ret_code)
{
    struct why why;
    struct cli_options *o = &self->options;
    int n, rest;
    bool dashes;
    *self = (struct job){.command = command, .log = -1};
    self->argv = cli_gather_files(argc, argv, &n);
    if (!self->argv) {
        why_set(&why, "there is no memory left");
        return refuse(self, &why, ret_code);
    }
    if (!cli_parse(command, n, self->argv, o, &rest, &dashes, ret_code)) {
        cli_argv_free(self->argv);
        return false;
    }
    self->prepared = true;
    const char *or_handler = takes_handler(command) ? ", or --handler NAME" : "";
    if (cli_split_words(o, self->argv + rest, dashes, or_handler, &self->words, &why) < 0 ||
        cli_items_spec(o, &self->words, &self->spec, &why) < 0 ||
        cli_batch_build(o, &self->words, &self->spec, !takes_handler(command), &self->batch, &why) < 0)
        return refuse(self, &why, ret_code);
    if (o->out_dir && !o->dry_run && !(self->files = out_files_new(o->out_dir, o->out_name, &why)))
        return refuse(self, &why, ret_code);
    return true;
}

void job_release(struct job *self)
{
    out_files_destroy(&self->files);
    if (self->log >= 0)
        close(self->log);
    self->log = -1;
    cli_batch_release(&self->batch);
    if (self->prepared)
        options_release(self->command, &self->options);
    cli_argv_free(self->argv);
    self->argv = NULL;
    self->prepared = false;
}

/* ---- dry run ---- */

static void print_quoted(const char *word, size_t len)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=@%+,-";
    bool quote = len == 0;
    for (size_t i = 0; i < len && !quote; i++)
        quote = word[i] == '\0' || !strchr(plain, word[i]);
    if (!quote) {
        fwrite(word, 1, len, stdout);
        return;
    }
    putchar('\'');
    for (size_t i = 0; i < len; i++)
        if (word[i] == '\'')
            fputs("'\\''", stdout);
        else
            putchar(word[i]);
    putchar('\'');
}

static int print_line(const struct job *self, const struct template *template, const struct item *item, uint64_t index,
                      struct template_line *line, struct why *why)
{
    if (!template) {    /* What a handler runs only its worker knows. */
        print_quoted(self->options.handler, strlen(self->options.handler));
        putchar(' ');
        print_quoted((const char *)item->payload.data, item->payload.len);
        putchar('\n');
        return 0;
    }
    struct template_task task = {.item = item->payload.data, .len = item->payload.len, .index = index, .slot = 1};
    struct why inner;
    if (template_expand(template, &task, 0, line, &inner) < 0)
        return why_set(why, "task %" PRIu64 ": %.300s", index, inner.text);
    for (size_t i = 0; i < line->argc; i++) {
        if (i > 0)
            putchar(' ');
        print_quoted(line->argv[i], strlen(line->argv[i]));
    }
    putchar('\n');
    return 0;
}

static int print_lines(struct job *self, const struct template *template, struct items *items, struct why *why)
{
    struct template_line line = {0};
    struct item item;
    enum items_result r;
    int result = 0;
    while (result == 0 && (r = items_next(items, &item, why)) != ITEMS_END) {
        if (r == ITEMS_BAD)
            result = -1;
        else if (r == ITEMS_ITEM)
            result = print_line(self, template, &item, items_given(items) - 1, &line, why);
        if (ferror(stdout))
            break;
    }
    template_line_clear(&line);
    return result;
}

int job_dry_run(struct job *self)
{
    struct why why;
    struct template *template = NULL;
    struct items *items = NULL;
    const struct cli_words *w = &self->words;
    int r = -1;
    if (w->n_command == 0 ||
        template_parse((const char *const *)w->command, w->n_command, self->options.pipe, &template, &why) == 0) {
        items = items_new(NULL, &self->spec, NULL, NULL, &why);
        r = items ? print_lines(self, template, items, &why) : -1;
    }
    items_destroy(&items);
    template_destroy(&template);
    if (r < 0) {
        cli_refuse_usage(why.text);
        return EXIT_USAGE;
    }
    return CLI_OK;
}

/* ---- cancelling ---- */

static void on_cancelled(void *arg, const Wire__Reply *reply)
{
    struct job *self = arg;
    (void)reply;    /* Refused or not: a batch that has ended is what was wanted. */
    cli_advise_cancelled(&self->cli, self->short_id, self->advice, sizeof self->advice);
    if (self->failed[0] != '\0')
        cli_fail(&self->cli, self->failed_code, self->failed);
}

static void cancel(struct job *self, const char *reason)
{
    char ref[33], cut[WIRE_SENTENCE];
    Wire__Cancel cancel = WIRE__CANCEL__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    wire_id_hex(self->id, ref);
    snprintf(cut, sizeof cut, "%s", reason);
    cancel.ref = ref;
    cancel.reason = cut;
    m.what_case = WIRE__REQUEST__WHAT_CANCEL;
    m.cancel = &cancel;
    self->cancelled = true;
    snprintf(self->advice, sizeof self->advice, "the cancel of batch %s has no answer yet: see 'ventilator status %s'", self->short_id,
             self->short_id);
    bar_cancelling(self->cli.bar);
    if (!client_request(self->cli.client, &m, on_cancelled, self))
        cli_fail(&self->cli, CLI_NOT_OK, "there is no memory left");
}

static const char interrupted[] = "interrupted by whoever submitted it";

void job_signal(struct job *self)
{
    if (!self->wait && self->known && self->signals == 0)
        cli_say(&self->cli, "interrupted after %" PRIu64 " items were admitted; %s", submission_admitted(self->submission), self->advice);
    if (++self->signals > 1 || !self->wait || !self->submission || (!self->known && !client_is_up(self->cli.client))) {
        cli_end(&self->cli, CLI_CANCELLED);
        return;
    }
    cli_say(&self->cli, "interrupted: cancelling the batch; once more leaves at once");
    if (self->known) {
        submission_stop(self->submission);
        cancel(self, interrupted);
    }
}

/* ---- the submission ---- */

/* Nothing that was admitted is lost when we leave: says what can be done with it. */
static void advise(struct job *self, bool all_admitted)
{
    const char *id = self->short_id;
    if (self->spec.kind == ITEMS_RANGE || all_admitted)
        snprintf(self->advice, sizeof self->advice, "batch %s goes on without us: see 'ventilator wait %s'", id, id);
    else if (self->options.key)
        snprintf(self->advice, sizeof self->advice,
                 "batch %s keeps what it has and stays open: submit the same again with --key %.200s, or end it with "
                 "'ventilator seal %s' or 'ventilator cancel %s'", id, self->options.key, id, id);
    else
        snprintf(self->advice, sizeof self->advice,
                 "batch %s keeps what it has and stays open: end it with 'ventilator seal %s' or 'ventilator cancel %s' "
                 "(with --key it could be continued)", id, id, id);
    self->cli.advice = self->advice;
}

static void begin_following(struct job *self, const Wire__Submitted *s)
{
    struct why why;
    struct follow_config config = {.cli = &self->cli, .batch = self->id, .short_id = self->short_id, .place = s->sink,
                                   .follow = true, .complete = s->state == WIRE__STATE__COMPLETE, .results = true, .code_by_end = true, .files = self->files, .log = self->log,
                                   .admitted = wall_now().ns - (int64_t)s->age_us * NS_PER_US, .from_the_start = s->next_index == 0};
    if (self->spec.kind == ITEMS_WORDS) {
        config.items = self->spec.words;
        config.n_items = self->spec.n_words;
    }
    self->follow = follow_new(&config, &why);
    if (!self->follow)
        cli_fail(&self->cli, CLI_NOT_OK, why.text);
}

/* Of a range that is still open nothing tells whether it was there: its tasks come with the batch. */
static bool was_there(const struct job *self, const Wire__Submitted *s)
{
    bool is_range = self->spec.kind == ITEMS_RANGE;
    return s->state == WIRE__STATE__COMPLETE || s->state == WIRE__STATE__CANCELLING
           || (!is_range && (s->next_index > 0 || s->state != WIRE__STATE__OPEN));
}

static void on_known(void *arg, const Wire__Submitted *s)
{
    struct job *self = arg;
    if (self->known)
        return;
    self->known = true;
    memcpy(self->id, s->batch.data, WIRE_ID);
    snprintf(self->short_id, sizeof self->short_id, "%s", s->short_id);
    self->continued = self->options.key && was_there(self, s);
    advise(self, false);
    if (s->note[0] != '\0' && self->say_id)
        cli_say(&self->cli, "%s", s->note);
    if (self->wait)
        begin_following(self, s);
    if (self->signals > 0 && !self->cancelled) {
        submission_stop(self->submission);
        cancel(self, interrupted);
    }
}

static void on_waiting(void *arg, const char *sentence)
{
    struct job *self = arg;
    self->waiting = true;
    cli_say(&self->cli, "%s; waiting", sentence);
}

static void on_accepted(void *arg)
{
    struct job *self = arg;
    if (!self->say_id)
        return;
    if (self->continued)
        cli_say(&self->cli, "batch %s of --key %.200s was there already: it keeps the options that it was made with", self->short_id,
                self->options.key);
    if (self->wait) {
        cli_say(&self->cli, "batch %s", self->short_id);
        return;
    }
    cli_print_id(&self->cli, self->short_id);
}

/* The batch must not look as if it were whole. With a key the same submission can still be continued. */
static void fail_submission(struct job *self, enum client_end end, const char *sentence)
{
    bool of_the_input = end == CLIENT_BAD_INPUT || (self->items && items_too_large(self->items));
    if (!of_the_input || !self->known || self->options.key) {
        if (self->waiting && self->known)
            cli_say(&self->cli, "%" PRIu64 " items were admitted; %s", submission_admitted(self->submission), self->advice);
        cli_fail_as(&self->cli, end, sentence);
        return;
    }
    self->failed_code = end == CLIENT_BAD_INPUT ? EXIT_USAGE : CLI_REFUSED;
    snprintf(self->failed, sizeof self->failed, "%s; batch %s is cancelled", sentence, self->short_id);
    cancel(self, sentence);
}

static void on_ended(void *arg, enum submission_end how, enum client_end end, const char *sentence)
{
    struct job *self = arg;
    struct why why;
    switch (how) {
    case SUBMISSION_FAILED:
        fail_submission(self, end, sentence);
        return;
    case SUBMISSION_CLOSED:
        why_set(&why, "batch %.100s is %.40s and takes no more; %" PRIu64 " items of the input were admitted, the rest was not submitted",
                self->short_id, sentence, submission_admitted(self->submission));
        if (!self->wait) {
            cli_fail(&self->cli, CLI_REFUSED, why.text);
            return;
        }
        cli_say(&self->cli, "%s", why.text);
        if (self->follow)
            follow_least_code(self->follow, CLI_NOT_OK);
        return;
    case SUBMISSION_DONE:
        advise(self, true);
        if (!self->wait)
            cli_end(&self->cli, CLI_OK);
        return;
    }
}

static void on_items_ready(void *arg)
{
    struct job *self = arg;
    if (self->submission)
        submission_ready(self->submission);
}

/* ---- all of it ---- */

static int open_log(struct job *self, struct why *why)
{
    const char *path = self->options.joblog;
    if (!path)
        return 0;
    if (!self->wait)
        return why_set(why, "--joblog %.300s: without --wait nothing is known of how tasks end; 'ventilator results BATCH --joblog FILE' "
                       "writes it later", path);
    self->log = joblog_open(path, why);
    return self->log < 0 ? -1 : 0;
}

int job_open(struct job *self, void (*on_signal)(void *arg, int number), void *arg)
{
    struct why why;
    if (open_log(self, &why) < 0) {
        cli_refuse_usage(why.text);
        self->cli.code = EXIT_USAGE;
        return -1;
    }
    if (cli_open(&self->cli, &self->options, on_signal, arg) < 0)
        return -1;
    if (self->spec.kind == ITEMS_RANGE)
        return 0;
    self->items = items_new(self->cli.loop, &self->spec, on_items_ready, self, &why);
    if (self->items)
        return 0;
    cli_refuse_usage(why.text);
    self->cli.code = EXIT_USAGE;
    return -1;
}

int job_start(struct job *self)
{
    struct why why;
    if (cli_connect(&self->cli) < 0)
        return -1;
    struct submission_config config = {
        .options = &self->batch.options, .key = self->options.key, .items = self->items,
        .known = on_known, .waiting = on_waiting, .accepted = on_accepted, .ended = on_ended, .arg = self,
    };
    self->submission = submission_new(self->cli.client, &config, &why);
    if (self->submission)
        return 0;
    cli_refuse_usage(why.text);
    self->cli.code = CLI_NOT_OK;
    return -1;
}

void job_close(struct job *self)
{
    follow_destroy(&self->follow);
    submission_destroy(&self->submission);
    items_destroy(&self->items);
    cli_close(&self->cli);
}
