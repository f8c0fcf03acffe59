/* For test_plugin: the payload says what is to be done, the argument is a FIFO to tell at. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tarmac/tarmac.h"

struct state {
    char fifo[200];
    unsigned served;
};

static void say(tarmac_task *task, const char *text)
{
    if (tarmac_task_output(task, text, strlen(text)) != TARMAC_OK)
        abort();
}

static void tell(const struct state *self, const char *text)
{
    int fd = open(self->fifo, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0)
        _exit(99);
    close(fd);
}

static void hang(void)
{
    for (;;)
        poll(NULL, 0, -1);
}

static int open_it(const char *argument, void **state)
{
    if (strcmp(argument, "bad") == 0) {
        printf("no, thanks\n");
        return 5;
    }
    if (strcmp(argument, "hang") == 0)
        hang();
    struct state *self = calloc(1, sizeof *self);
    if (!self)
        return 1;
    snprintf(self->fifo, sizeof self->fifo, "%s", argument);
    *state = self;
    return 0;
}

static int tell_context(tarmac_task *task)
{
    char text[600];
    tarmac_context *context = tarmac_task_context(task);
    const char *user = tarmac_value(context, "user"), *empty = tarmac_value(context, "empty"), *trace = tarmac_value(context, "traceparent");
    int64_t left = tarmac_left(context);
    snprintf(text, sizeof text, "%s %llu %u %u %s user=%s empty=%s trace=%s %s", tarmac_task_batch(task), (unsigned long long)tarmac_task_index(task),
             tarmac_task_attempt(task), tarmac_task_slot(task), tarmac_task_key(task), user ? user : "none", empty ? empty : "none",
             trace ? trace : "none", left == INT64_MAX ? "unbounded" : left > 0 && left <= 1000 * TARMAC_S ? "bounded" : "odd");
    say(task, text);
    return 0;
}

/* Longer than the first room, in pieces. */
static int write_much(tarmac_task *task)
{
    static char piece[100003];
    memset(piece, 'x', sizeof piece);
    for (int i = 0; i < 700; i++) {
        int code = tarmac_task_output(task, piece, sizeof piece);
        if (code != TARMAC_OK)
            return code;
    }
    return 0;
}

static int wait_for_cancel(struct state *self, tarmac_task *task)
{
    char cause[100];
    tarmac_context *context = tarmac_task_context(task);
    struct pollfd done = {.fd = tarmac_done(context), .events = POLLIN};
    tell(self, "ready\n");
    if (poll(&done, 1, -1) != 1)
        return 99;
    say(task, tarmac_cause(context, cause, sizeof cause));
    return tarmac_err(context);
}

static int run(void *state, tarmac_task *task)
{
    struct state *self = state;
    size_t len;
    const char *what = tarmac_task_payload(task, &len);
    char text[32];
    self->served++;
    if (strlen(what) != len)
        return tarmac_task_output(task, what, len);
    if (strncmp(what, "echo ", 5) == 0)
        return tarmac_task_output(task, what + 5, len - 5);
    if (strcmp(what, "pid") == 0 || strcmp(what, "served") == 0) {
        snprintf(text, sizeof text, "%u", *what == 'p' ? (unsigned)getpid() : self->served);
        say(task, text);
        return 0;
    }
    if (strcmp(what, "print") == 0) {
        printf("four bytes and more on standard output");
        return getchar() == EOF ? 0 : 9;
    }
    if (strcmp(what, "context") == 0)
        return tell_context(task);
    if (strcmp(what, "fail") == 0) {
        say(task, "part");
        tarmac_task_error(task, "no");
        tarmac_task_error(task, "no luck");
        return 7;
    }
    if (strcmp(what, "large") == 0)
        return write_much(task);
    if (strcmp(what, "wait") == 0)
        return wait_for_cancel(self, task);
    if (strcmp(what, "crash") == 0)
        abort();
    if (strcmp(what, "exit") == 0)
        exit(3);
    if (strcmp(what, "hang") == 0) {
        tell(self, "ready\n");
        hang();
    }
    return 1000;
}

static void close_it(void *state)
{
    free(state);
}

static const struct tarmac_plugin plugin = {TARMAC_PLUGIN, .name = "sample", .open = open_it, .run = run, .close = close_it};

const struct tarmac_plugin *tarmac_plugin(void) { return &plugin; }
