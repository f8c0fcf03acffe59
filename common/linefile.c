#include "common/linefile.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"

struct bytes { char *at; size_t len, room; };

struct linefile {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t work, ended;
    char *path;
    size_t most;
    struct bytes queued;              /* under the lock, like all that follows */
    size_t in_hand;                   /* bytes that the thread writes now */
    struct linefile_counts counts;
    bool reopen, closing, over;
    int fd;                           /* the thread's own, like what follows; -1: could not be opened */
    bool torn;                        /* the last write ended within a line */
};

static uint64_t lines_in(const char *bytes, size_t len)
{
    uint64_t n = 0;
    const char *end = bytes + len;
    for (const char *at = bytes; at < end && (at = memchr(at, '\n', (size_t)(end - at))) != NULL; at++)
        n++;
    return n;
}

static int open_file(const char *path)
{
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
}

/* ---- the thread ---- */

static int write_all(int fd, const char *bytes, size_t len, size_t *ret_done)
{
    *ret_done = 0;
    while (*ret_done < len) {
        ssize_t n = write(fd, bytes + *ret_done, len - *ret_done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : EIO;
        *ret_done += (size_t)n;
    }
    return 0;
}

/* What could not be written is dropped: a disk that is full must not fill the memory too. A line that was torn is
 * ended before the next one begins. */
static void write_lines(struct linefile *self, const struct bytes *b, bool reopen)
{
    size_t done = 0;
    int error = 0;
    if (reopen || self->fd < 0) {
        if (self->fd >= 0)
            close(self->fd);
        self->fd = open_file(self->path);
        self->torn = false;
        error = self->fd < 0 ? errno : 0;
    }
    if (error == 0 && self->torn && (error = write_all(self->fd, "\n", 1, &done)) == 0)
        self->torn = false;
    done = 0;
    if (error == 0 && !self->torn)
        error = write_all(self->fd, b->at, b->len, &done);
    if (done > 0)
        self->torn = b->at[done - 1] != '\n';
    uint64_t written = lines_in(b->at, done), all = lines_in(b->at, b->len);
    pthread_mutex_lock(&self->lock);
    self->counts.written += written;
    self->counts.dropped += all - written;
    self->counts.error = error;
    pthread_mutex_unlock(&self->lock);
}

static void *run(void *arg)
{
    struct linefile *self = arg;
    struct bytes mine = {0};
    pthread_mutex_lock(&self->lock);
    for (;;) {
        while (self->queued.len == 0 && !self->closing && !self->reopen)
            pthread_cond_wait(&self->work, &self->lock);
        bool reopen = self->reopen;
        if (self->queued.len == 0 && !reopen)
            break;
        struct bytes swap = self->queued;
        self->queued = mine;
        mine = swap;
        self->reopen = false;
        self->in_hand = mine.len;
        pthread_mutex_unlock(&self->lock);
        write_lines(self, &mine, reopen);
        mine.len = 0;
        pthread_mutex_lock(&self->lock);
        self->in_hand = 0;
    }
    self->over = true;
    pthread_cond_signal(&self->ended);
    pthread_mutex_unlock(&self->lock);
    free(mine.at);
    return NULL;
}

/* ---- the owner ---- */

static void destroy(struct linefile *self)
{
    if (self->fd >= 0)
        close(self->fd);
    pthread_mutex_destroy(&self->lock);
    pthread_cond_destroy(&self->work);
    pthread_cond_destroy(&self->ended);
    free(self->queued.at);
    free(self->path);
    free(self);
}

struct linefile *linefile_open(const char *path, size_t most, struct why *why)
{
    struct linefile *self = calloc(1, sizeof *self);
    pthread_condattr_t monotonic;
    if (self == NULL || (self->path = strdup(path)) == NULL) {
        free(self);
        why_set(why, "%s: no memory", path);
        return NULL;
    }
    self->most = most;
    pthread_mutex_init(&self->lock, NULL);
    pthread_cond_init(&self->work, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&self->ended, &monotonic);
    pthread_condattr_destroy(&monotonic);
    self->fd = open_file(path);
    int error = self->fd < 0 ? errno : pthread_create(&self->thread, NULL, run, self);
    if (error == 0)
        return self;
    why_set(why, "%s: can't be written: %s", path, strerror(error));
    destroy(self);
    return NULL;
}

/* Under the lock. */
static bool has_room(const struct linefile *self, size_t len)
{
    size_t used = self->queued.len + self->in_hand;
    return used <= self->most && len <= self->most - used;
}

static bool append(struct bytes *to, const char *bytes, size_t len)
{
    if (to->room - to->len < len) {
        size_t room = to->room > 0 ? to->room : 4096;
        while (room - to->len < len)
            room *= 2;
        char *grown = realloc(to->at, room);
        if (grown == NULL)
            return false;
        to->at = grown;
        to->room = room;
    }
    memcpy(to->at + to->len, bytes, len);
    to->len += len;
    return true;
}

bool linefile_put(struct linefile *self, const char *lines, size_t len)
{
    pthread_mutex_lock(&self->lock);
    bool taken = has_room(self, len) && append(&self->queued, lines, len);
    if (!taken)
        self->counts.dropped += lines_in(lines, len);
    pthread_cond_signal(&self->work);
    pthread_mutex_unlock(&self->lock);
    return taken;
}

bool linefile_has_room(struct linefile *self, size_t len)
{
    pthread_mutex_lock(&self->lock);
    bool room = has_room(self, len);
    pthread_mutex_unlock(&self->lock);
    return room;
}

void linefile_drop(struct linefile *self, uint64_t lines)
{
    pthread_mutex_lock(&self->lock);
    self->counts.dropped += lines;
    pthread_mutex_unlock(&self->lock);
}

void linefile_reopen(struct linefile *self)
{
    pthread_mutex_lock(&self->lock);
    self->reopen = true;
    pthread_cond_signal(&self->work);
    pthread_mutex_unlock(&self->lock);
}

void linefile_count(struct linefile *self, struct linefile_counts *ret)
{
    pthread_mutex_lock(&self->lock);
    *ret = self->counts;
    pthread_mutex_unlock(&self->lock);
}

void linefile_close(struct linefile **self_p, int64_t ns)
{
    struct linefile *self = *self_p;
    struct timespec until;
    *self_p = NULL;
    if (self == NULL)
        return;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(ns / NS_PER_S) + 1;
    pthread_mutex_lock(&self->lock);
    self->closing = true;
    pthread_cond_signal(&self->work);
    int rc = 0;
    while (!self->over && rc == 0)
        rc = pthread_cond_timedwait(&self->ended, &self->lock, &until);
    bool over = self->over;
    pthread_mutex_unlock(&self->lock);
    if (!over) {
        pthread_detach(self->thread);
        return;
    }
    pthread_join(self->thread, NULL);
    destroy(self);
}
