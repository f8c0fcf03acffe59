/* What a command prints. Without memory for more, what is beyond is dropped and marked as cut: the
 * attempt goes on. */
#include "worker/capture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define CHUNK (64 * 1024)          /* a pipe holds as much, unless somebody enlarged it */
#define KEPT_ROOM (1024 * 1024)    /* memory that is not given back between attempts */

void capture_begin(struct capture *self, int fd, uint64_t max)
{
    self->fd = fd;
    self->cut = false;
    self->max = max < SIZE_MAX / 4 ? (size_t)max : SIZE_MAX / 4;
    self->len = 0;
}

/* How much is ever held: for a tail twice what is kept, so that moving it costs each byte one copy at most. */
static size_t most(const struct capture *self)
{
    if (!self->tail || self->max == 0)
        return self->max;
    return 2 * self->max > CHUNK ? 2 * self->max : CHUNK;
}

static void grow(struct capture *self)
{
    size_t room = self->room < CHUNK / 2 ? CHUNK : 2 * self->room;
    if (room > most(self))
        room = most(self);
    if (room <= self->room)
        return;
    uint8_t *data = realloc(self->data, room);
    if (!data)
        return;
    self->data = data;
    self->room = room;
}

static void forget_front(struct capture *self)
{
    size_t kept = self->max < self->room / 2 ? self->max : self->room / 2;
    memmove(self->data, self->data + self->len - kept, kept);
    self->len = kept;
    self->cut = true;
}

/* Where to read to; NULL when what comes is to be dropped. */
static uint8_t *room_for_more(struct capture *self, size_t *ret_len)
{
    size_t limit = most(self);
    if (self->len == self->room && self->room < limit)
        grow(self);
    if (self->tail && self->room > 0 && (self->len == self->room || self->len >= limit))
        forget_front(self);
    size_t end = self->room < limit ? self->room : limit;
    if (self->len >= end)
        return NULL;
    *ret_len = end - self->len < CHUNK ? end - self->len : CHUNK;
    return self->data + self->len;
}

/* Bytes read, 0 at the end, -1 when there is nothing now. */
static ssize_t read_some(struct capture *self)
{
    uint8_t dropped[CHUNK];
    size_t len = 0;
    uint8_t *to = room_for_more(self, &len);
    ssize_t got;
    do
        got = read(self->fd, to ? to : dropped, to ? len : sizeof dropped);
    while (got < 0 && errno == EINTR);
    if (got > 0 && to)
        self->len += (size_t)got;
    else if (got > 0)
        self->cut = true;
    if (got < 0 && errno != EAGAIN) {
        self->cut = true;          /* a pipe that can't be read has ended as far as we are concerned */
        got = 0;
    }
    return got;
}

void capture_close(struct capture *self)
{
    close(self->fd);
    self->fd = -1;
}

void capture_read(struct capture *self)
{
    if (self->fd >= 0 && read_some(self) == 0)
        capture_close(self);
}

void capture_end(struct capture *self)
{
    if (self->fd < 0)
        return;
    /* Not to the end of the input: somebody outside the attempt may hold the pipe open, and write. */
    int left = 0;
    if (ioctl(self->fd, FIONREAD, &left) < 0)
        left = 0;
    for (ssize_t got; left > 0 && (got = read_some(self)) > 0; )
        left -= (int)got;
    capture_close(self);
}

const uint8_t *capture_kept(const struct capture *self, size_t *ret_len)
{
    size_t skipped = self->len > self->max ? self->len - self->max : 0;
    *ret_len = self->len - skipped;
    return self->data ? self->data + skipped : NULL;
}

void capture_reset(struct capture *self)
{
    if (self->room <= KEPT_ROOM)
        return;
    free(self->data);
    self->data = NULL;
    self->room = self->len = 0;
}
