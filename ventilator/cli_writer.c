/* A descriptor that is written to without waiting. It is not made nonblocking: it may be shared with
 * whoever started us, who didn't ask for that. A pipe that polls as writable takes PIPE_BUF bytes at
 * once, so pieces of that size never wait. */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "ventilator/cli_output.h"

#define KEPT_ROOM (1024 * 1024)

static void on_writable(void *arg, uint32_t events)
{
    struct writer *self = arg;
    (void)events;
    loop_unwatch(self->loop, &self->watch);
    writer_push(self);
}

void writer_open(struct writer *self, struct loop *loop, int fd)
{
    *self = (struct writer){.loop = loop, .fd = fd};
    self->watch = (struct loop_watch){.fd = fd, .ready = on_writable, .arg = self};
    /* epoll takes all but what never makes anybody wait. */
    self->plain = loop_watch(loop, &self->watch, EPOLLOUT) == -EPERM;
    loop_unwatch(loop, &self->watch);
}

void writer_close(struct writer *self)
{
    if (self->loop)
        loop_unwatch(self->loop, &self->watch);
    text_release(&self->pending);
}

static void give_up(struct writer *self, int error)
{
    self->broken = true;
    self->error = error;
    self->from = self->pending.len = 0;
}

/* 1: some were written; 0: it would wait; -1: broken. */
static int write_some(struct writer *self)
{
    struct pollfd p = {.fd = self->fd, .events = POLLOUT};
    size_t n = writer_pending(self);
    if (!self->plain) {
        if (poll(&p, 1, 0) == 0)
            return 0;
        n = n < PIPE_BUF ? n : PIPE_BUF;
    }
    ssize_t written = write(self->fd, self->pending.bytes + self->from, n);
    if (written >= 0)
        self->from += (size_t)written;
    else if (errno == EAGAIN)
        return 0;
    else if (errno != EINTR) {
        give_up(self, errno);
        return -1;
    }
    return 1;
}

void writer_push(struct writer *self)
{
    if (self->pending.broken)
        give_up(self, ENOMEM);
    if (self->watch.active || self->broken)
        return;
    int r = 1;
    while (writer_pending(self) > 0 && (r = write_some(self)) > 0)
        ;
    if (r == 0 && loop_watch(self->loop, &self->watch, EPOLLOUT) < 0)
        give_up(self, EIO);
    if (writer_pending(self) > 0) {
        /* A reader that is always a little behind must not make us keep what it has read. */
        if (self->from > self->pending.len / 2) {
            memmove(self->pending.bytes, self->pending.bytes + self->from, writer_pending(self));
            self->pending.len -= self->from;
            self->from = 0;
        }
        return;
    }
    self->from = self->pending.len = 0;
    if (self->pending.room > KEPT_ROOM)
        text_release(&self->pending);
}
