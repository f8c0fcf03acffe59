/* A log of the jobs in the columns of GNU parallel's --joblog, so that scripts that read those can read ours.
 *
 * No time of day travels with a result (docs/design.md, §5), so the start is worked out here: of what ends while we look
 * on, from when its result came and how long it ran; of what is read later, from the batch's admission and how long
 * the task was queued. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tarmac/template.h"
#include "ventilator/cli_output.h"

struct joblog {
    struct joblog_config config;
    struct writer out;
    struct template *template;
    struct template_line line;
    const Wire__Options *options;        /* lent; NULL: not known yet */
};

int joblog_open(const char *path, struct why *why)
{
    /* A pipe that nobody reads must not hold us up. */
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NONBLOCK | O_CLOEXEC, 0666);
    if (fd < 0)
        why_set(why, "--joblog %.300s can't be written: %s", path, strerror(errno));
    return fd;
}

/* ---- one line ---- */

/* As a shell would need it, which is what GNU parallel logs. A line stays a line: it writes \0 for the end of one. */
static void add_word(struct text *out, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:=@%+,-{}#";
    bool quote = *word == '\0' || strspn(word, plain) != strlen(word);
    text_add(out, "'", quote);
    for (; *word; word++) {
        if (*word == '\'')
            text_add(out, "'\\''", 4);
        else
            text_add(out, *word == '\n' ? "\0" : word, 1);
    }
    text_add(out, "'", quote);
}

static void add_words(struct text *out, char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        text_add(out, " ", i > 0);
        add_word(out, words[i]);
    }
}

/* The item, where it is known here: it doesn't come back with the result. */
static bool item_of(const struct joblog *self, uint64_t index, char number[WIRE_RANGE_ITEM], const char **ret)
{
    const Wire__Range *range = self->options->range;
    if (range && index < range->count) {
        wire_range_item(range, index, number);
        *ret = number;
    } else if (index < self->config.n_items) {
        *ret = self->config.items[index];
    } else {
        return false;
    }
    return true;
}

static void add_command(struct joblog *self, struct text *out, const struct stream_task *task)
{
    char number[WIRE_RANGE_ITEM];
    const char *item = "";
    struct why ignored;
    bool known = item_of(self, task->index, number, &item);
    struct template_task one = {.item = item, .len = strlen(item), .index = task->index, .slot = task->slot > 0 ? task->slot : 1};
    bool expands = self->template && (known || !template_takes_item(self->template));
    if (expands && template_expand(self->template, &one, 0, &self->line, &ignored) == 0) {
        add_words(out, self->line.argv, self->line.argc);
    } else if (self->options->handler[0] != '\0') {
        add_word(out, self->options->handler);
        text_add(out, " ", known);
        if (known)
            add_word(out, item);
    } else {
        add_words(out, self->options->command, self->options->n_command);
    }
}

/* GNU parallel's: -1 stands for a job that has no exit code of its own, such as one that ran out of time. */
static int32_t exit_value(const struct stream_task *task)
{
    bool ok = task->verdict == WIRE__VERDICT__OK, own = task->has_code && task->code != 0;
    bool by_signal = task->verdict == WIRE__VERDICT__FAILED && task->signal != 0;
    return own ? task->code : ok || by_signal ? 0 : -1;
}

static double start_of(const struct joblog *self, const struct stream_task *task, int64_t now)
{
    int64_t start = self->config.live && task->attempts > 0 ? now - (int64_t)task->run_us * NS_PER_US
                                                           : self->config.admitted + (int64_t)task->queued_us * NS_PER_US;
    return (double)start / 1e9;
}

void joblog_put(struct joblog *self, const struct stream_task *task, wall_t now)
{
    struct text *out = &self->out.pending;
    if (!self->options)
        return;
    text_say(out, "%" PRIu64 "\t%s\t%.3f\t%10.3f\t0\t%" PRIu64 "\t%" PRId32 "\t%" PRIu32 "\t", task->index + 1,
             task->worker[0] ? task->worker : "-", start_of(self, task, now.ns), (double)task->run_us / 1e6, task->bytes, exit_value(task),
             task->signal);
    add_command(self, out, task);
    text_add(out, "\n", 1);
}

/* ---- all of it ---- */

struct joblog *joblog_new(struct loop *loop, const struct joblog_config *config)
{
    static const char header[] = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n";
    struct joblog *self = calloc(1, sizeof *self);
    if (!self)
        return NULL;
    self->config = *config;
    writer_open(&self->out, loop, config->fd);
    text_add(&self->out.pending, header, sizeof header - 1);
    return self;
}

void joblog_destroy(struct joblog **self_p)
{
    struct joblog *self = *self_p;
    if (!self)
        return;
    writer_close(&self->out);
    template_destroy(&self->template);
    template_line_clear(&self->line);
    free(self);
    *self_p = NULL;
}

void joblog_of_batch(struct joblog *self, const Wire__Options *options)
{
    struct why ignored;
    self->options = options;
    template_destroy(&self->template);
    if (options->n_command > 0)
        template_parse((const char *const *)options->command, options->n_command, options->pipe, &self->template, &ignored);
}

struct writer *joblog_writer(struct joblog *self) { return &self->out; }
