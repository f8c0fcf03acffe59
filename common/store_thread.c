/* The two threads of a store.
 *
 * The store thread takes all that is queued, commits it as one transaction, tells the loop, and
 * answers lookups for a moment. What has no hurry is done a step at a time between the commits:
 * purges, and giving unused space back.
 *
 * A full disk: the intake is told to stop while there is still some room, for what is on its way already.
 * When a transaction finds none, the log is taken into the file first, which may make some. Then the
 * reserve, a file of some megabytes beside the store, is deleted: so the endings of what was admitted can
 * still be written. When that is used up too, the same transaction is tried again every half second. The disk
 * counts as having room again when there is a reserve, and clearly more than what stopped the intake.
 *
 * The checkpoint thread copies the log into the file. It never disturbs commits, and so never gets
 * to the end while they don't pause: past a bound the store thread waits for it and does the rest
 * itself, after which SQLite begins the log anew. */
#include "common/store_private.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/log.h"

#define MIB ((size_t)1 << 20)
#define LOG_STEP (4 * MIB)                   /* a checkpoint for each so much of log */
#define LOG_BOUND (64 * MIB)                 /* the log is begun anew when the checkpoint thread is idle … */
#define LOG_LIMIT (128 * MIB)                /* … or in any case */
#define RESERVE (4 * MIB)
#define LOW (32 * MIB)                       /* less free than this, or than an eighth of the disk, is full … */
#define ENOUGH (40 * MIB)                    /* … and this, or a fifth, is room again */
#define RETRY (500 * NS_PER_MS)
#define LOOKUP_TIME (2 * NS_PER_MS)          /* of lookups between two commits */

/* What the store thread keeps to itself. */
struct work {
    struct flush_list group;                 /* being committed, or waiting for room */
    struct lookup_list lookups;
    bool failed;
    bool full;                               /* as told to the loop */
    bool stuck;                              /* the group found no room: not before retry_at again */
    mono_t retry_at;
    mono_t upkeep_at;                        /* not before, for the same reason */
    mono_t regain_at;                        /* while full: when to look for room */
    char *reserve;                           /* the path; NULL: there was no room for a reserve from the beginning */
    bool has_reserve;
    bool purging, shrinking, shrunk;
    bool damaged;                            /* … came upon damage: nothing more of it is done */
    size_t log_seen;                         /* its length when a checkpoint was last thought of */
};

/* ---- telling the loop ---- */

static void ring(struct store *self)
{
    /* It can only fail when the counter is at its end: then it rings already. */
    while (eventfd_write(self->watch.fd, 1) < 0 && errno == EINTR)
        continue;
}

static void tell_failed(struct store *self, const struct why *why)
{
    pthread_mutex_lock(&self->lock);
    if (!self->has_failed) {
        self->has_failed = true;
        self->failure = *why;
    }
    pthread_cond_signal(&self->work);
    pthread_mutex_unlock(&self->lock);
    ring(self);
}

static void tell_full(struct store *self, struct work *work, bool full)
{
    if (work->full == full)
        return;
    work->full = full;
    pthread_mutex_lock(&self->lock);
    self->is_full = full;
    pthread_mutex_unlock(&self->lock);
    ring(self);
}

static void tell_committed(struct store *self, struct work *work)
{
    struct flush *flush;
    size_t bytes = 0;
    uint64_t sequence = 0;
    STAILQ_FOREACH(flush, &work->group, entry) {
        bytes += flush->bytes;
        sequence = flush->sequence;
        work->purging |= flush->purges;
    }
    pthread_mutex_lock(&self->lock);
    /* When a checkpoint failed meanwhile, the disk's word for this commit is worth nothing. */
    if (!self->has_failed) {
        self->done_sequence = sequence;
        self->done_bytes += bytes;
    }
    pthread_mutex_unlock(&self->lock);
    ring(self);
}

static void drop_group(struct work *work)
{
    struct flush *flush;
    while ((flush = STAILQ_FIRST(&work->group))) {
        STAILQ_REMOVE_HEAD(&work->group, entry);
        flush_destroy(&flush);
    }
}

/* ---- the reserve ---- */

static bool make_reserve(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return false;
    bool made = posix_fallocate(fd, 0, (off_t)RESERVE) == 0;
    close(fd);
    if (!made)
        unlink(path);
    return made;
}

/* Bytes that are free, and the disk's size. false: it doesn't say. */
static bool look_at_disk(const struct store *self, uint64_t *ret_free, uint64_t *ret_size)
{
    struct statvfs disk;
    if (statvfs(self->dir, &disk) < 0)
        return false;
    *ret_free = (uint64_t)disk.f_bavail * disk.f_frsize;
    *ret_size = (uint64_t)disk.f_blocks * disk.f_frsize;
    return true;
}

/* A disk that is no larger than some reserves has none, and is used to its end. */
static bool is_tiny(const struct store *self)
{
    uint64_t free_bytes, size;
    return look_at_disk(self, &free_bytes, &size) && size < 4 * RESERVE;
}

static void first_reserve(struct store *self, struct work *work)
{
    if (asprintf(&work->reserve, "%s/reserve", self->dir) < 0)
        work->reserve = NULL;
    work->has_reserve = work->reserve && make_reserve(work->reserve);
    if (work->has_reserve)
        return;
    if (work->reserve && !is_tiny(self)) {
        tell_full(self, work, true);         /* as it was before this start, perhaps */
        return;
    }
    free(work->reserve);
    work->reserve = NULL;
}

static void let_reserve_go(struct work *work)
{
    unlink(work->reserve);
    work->has_reserve = false;
}

/* More than what makes it full: else the first new work would do so again. */
static bool has_room(const struct store *self, size_t beside)
{
    uint64_t free_bytes, size;
    if (!look_at_disk(self, &free_bytes, &size))
        return false;
    return free_bytes >= beside + ENOUGH || free_bytes >= beside + size / 5;
}

/* ---- the log ---- */

static bool checkpoint_busy(const struct store *self)
{
    return self->checkpoint_wanted || self->checkpoint_running;
}

static void want_checkpoint(struct store *self)
{
    pthread_mutex_lock(&self->lock);
    self->checkpoint_wanted = true;
    pthread_cond_signal(&self->checkpoint_work);
    pthread_mutex_unlock(&self->lock);
}

static void fail(struct store *self, struct work *work, const struct why *why)
{
    work->failed = true;
    tell_failed(self, why);
}

/* Takes all of the log into the file by `how`; nobody commits meanwhile. */
static void take_log(struct store *self, struct work *work, enum db_result (*how)(struct db *, struct why *))
{
    struct why why;
    pthread_mutex_lock(&self->lock);
    while (checkpoint_busy(self))
        pthread_cond_wait(&self->checkpoint_idle, &self->lock);
    bool failed = self->has_failed;
    pthread_mutex_unlock(&self->lock);
    if (!failed && how(self->db, &why) == DB_FAILED)
        fail(self, work, &why);
}

/* The next commit begins it anew. */
static void catch_up(struct store *self, struct work *work)
{
    take_log(self, work, db_checkpoint);
}

/* It stays as long as it ever was, even when all of it is in the file: on a full disk that is room. */
static void cut_log(struct store *self, struct work *work)
{
    if (!work->failed && db_log_bytes(self->db) > 0)
        take_log(self, work, db_cut_log);
}

/* ---- room ---- */

/* The intake stops while what is on its way still finds room: else it would take the endings' reserve. */
static void mind_room(struct store *self, struct work *work)
{
    uint64_t free_bytes, size;
    if (work->full || !work->reserve || !look_at_disk(self, &free_bytes, &size))
        return;
    /* The log needs as much again in the file before its own space is any use: where neither has room, both are lost. */
    uint64_t log = db_log_bytes(self->db);
    if (free_bytes >= log + LOW || free_bytes >= log + size / 8)
        return;
    cut_log(self, work);
    if (work->failed || has_room(self, 0))
        return;
    tell_full(self, work, true);
    work->regain_at = mono_add(mono_now(), RETRY);
}

static void regain_room(struct store *self, struct work *work)
{
    if (work->failed || !work->full || !STAILQ_EMPTY(&work->group) || !mono_reached(mono_now(), work->regain_at))
        return;
    if (!has_room(self, 0)) {
        pthread_mutex_lock(&self->db_lock);
        cut_log(self, work);
        pthread_mutex_unlock(&self->db_lock);
    }
    if (work->reserve && !work->has_reserve && has_room(self, RESERVE))
        work->has_reserve = make_reserve(work->reserve);
    if (!work->reserve || (work->has_reserve && has_room(self, 0)))
        tell_full(self, work, false);
    else
        work->regain_at = mono_add(mono_now(), RETRY);
}

/* ---- the log's length ---- */

static void mind_log(struct store *self, struct work *work)
{
    size_t bytes = db_log_bytes(self->db);
    if (bytes < work->log_seen)
        work->log_seen = 0;
    if (work->failed || bytes < work->log_seen + LOG_STEP)
        return;
    work->log_seen = bytes;
    pthread_mutex_lock(&self->lock);
    bool busy = checkpoint_busy(self);
    pthread_mutex_unlock(&self->lock);
    if (bytes >= LOG_LIMIT || (bytes >= LOG_BOUND && !busy))
        catch_up(self, work);
    else if (!busy)
        want_checkpoint(self);
}

static void *checkpoint_main(void *arg)
{
    struct store *self = arg;
    pthread_mutex_lock(&self->lock);
    for (;;) {
        while (!self->checkpoint_wanted && !self->checkpoint_stop)
            pthread_cond_wait(&self->checkpoint_work, &self->lock);
        if (self->checkpoint_stop)
            break;
        self->checkpoint_wanted = false;
        bool failed = self->has_failed;
        self->checkpoint_running = true;
        pthread_mutex_unlock(&self->lock);
        struct why why;
        /* No room is no harm here: everything is in the log, and the commits will notice. */
        if (!failed && db_checkpoint(self->checkpoint_db, &why) == DB_FAILED)
            tell_failed(self, &why);
        pthread_mutex_lock(&self->lock);
        self->checkpoint_running = false;
        pthread_cond_broadcast(&self->checkpoint_idle);
    }
    /* Nobody may wait for what will not be done any more. */
    self->checkpoint_wanted = false;
    pthread_cond_broadcast(&self->checkpoint_idle);
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

/* ---- the work ---- */

static bool may_try(const struct work *work)
{
    return !work->stuck || mono_reached(mono_now(), work->retry_at);
}

static enum db_result commit_somehow(struct store *self, struct work *work, struct why *why)
{
    enum db_result result = db_commit(self->db, &work->group, why);
    if (result == DB_FULL) {
        catch_up(self, work);
        if (!work->failed)
            result = db_commit(self->db, &work->group, why);
    }
    if (result == DB_FULL && work->has_reserve && !work->failed) {
        let_reserve_go(work);
        tell_full(self, work, true);
        work->regain_at = mono_add(mono_now(), RETRY);
        catch_up(self, work);                /* with the reserve it may come to the log's end: then that is room */
        if (!work->failed)
            result = db_commit(self->db, &work->group, why);
    }
    return result;
}

static void commit_group(struct store *self, struct work *work)
{
    struct why why;
    if (STAILQ_EMPTY(&work->group) || !may_try(work))
        return;
    switch (commit_somehow(self, work, &why)) {
    case DB_OK:
        work->stuck = false;
        tell_committed(self, work);
        drop_group(work);
        mind_room(self, work);
        break;
    case DB_FULL:
        work->stuck = true;
        work->retry_at = mono_add(mono_now(), RETRY);
        tell_full(self, work, true);
        break;
    case DB_FAILED: case DB_DAMAGED:
        fail(self, work, &why);
        break;
    }
}

static void answer(struct store *self, struct lookup *lookup)
{
    pthread_mutex_lock(&self->lock);
    STAILQ_INSERT_TAIL(&self->answers, lookup, entry);
    pthread_mutex_unlock(&self->lock);
    ring(self);
}

/* Each lookup is short by its own limits; many of them must not keep commits waiting either. */
static void serve_lookups(struct store *self, struct work *work)
{
    mono_t until = mono_add(mono_now(), LOOKUP_TIME);
    struct lookup *lookup;
    while ((lookup = STAILQ_FIRST(&work->lookups))) {
        STAILQ_REMOVE_HEAD(&work->lookups, entry);
        lookup->sees = self->done_sequence;      /* nobody else writes it */
        if (!atomic_load(&lookup->cancelled))
            db_lookup(self->db, lookup);
        answer(self, lookup);
        if (mono_reached(mono_now(), until))
            break;
    }
}

/* What has no hurry did not succeed. */
static void put_off(struct store *self, struct work *work, enum db_result result, const struct why *why)
{
    switch (result) {
    case DB_OK:
        break;
    case DB_FULL:
        catch_up(self, work);                /* that may make room */
        work->upkeep_at = mono_add(mono_now(), RETRY);
        break;
    case DB_DAMAGED:
        work->damaged = true;
        log_event(LOG_ERROR, "store_damaged", "what", why->text, "text", "the space of what was deleted is not given back", NULL);
        break;
    case DB_FAILED:
        fail(self, work, why);
        break;
    }
}

static void purge_step(struct store *self, struct work *work)
{
    struct why why;
    bool more = true;
    enum db_result result = db_purge_some(self->db, &more, &why);
    if (result != DB_OK) {
        put_off(self, work, result, &why);
        return;
    }
    work->stuck = false;                     /* its space can be used: whoever waits for room tries at once */
    work->purging = more;
    work->shrinking = !more;
}

static void shrink_step(struct store *self, struct work *work)
{
    struct why why;
    bool more = false;
    enum db_result result = db_shrink_some(self->db, &more, &why);
    if (result != DB_OK) {
        put_off(self, work, result, &why);
        return;
    }
    /* The file gets shorter only when the log is taken into it. */
    if (!more && work->shrunk)
        want_checkpoint(self);
    work->shrinking = work->shrunk = more;
}

static void upkeep(struct store *self, struct work *work, bool was_idle)
{
    if (work->failed || work->damaged || !mono_reached(mono_now(), work->upkeep_at))
        return;
    if (work->purging)
        purge_step(self, work);
    else if (work->shrinking && was_idle)
        shrink_step(self, work);
}

/* ---- the store thread ---- */

static mono_t next_upkeep(const struct work *work)
{
    mono_t at = (work->purging || work->shrinking) && !work->damaged ? work->upkeep_at : MONO_NEVER;
    return work->full && STAILQ_EMPTY(&work->group) ? mono_min(at, work->regain_at) : at;
}

static bool something_to_do(const struct store *self, const struct work *work)
{
    if (!STAILQ_EMPTY(&self->lookups) || !STAILQ_EMPTY(&work->lookups) || self->has_failed != work->failed)
        return true;
    if (work->failed)
        return !STAILQ_EMPTY(&self->flushes);
    if ((!STAILQ_EMPTY(&work->group) || !STAILQ_EMPTY(&self->flushes)) && may_try(work))
        return true;
    return mono_reached(mono_now(), next_upkeep(work));
}

static bool may_leave(const struct store *self, const struct work *work)
{
    if (self->abandon)
        return true;
    return self->stop && (self->has_failed || (STAILQ_EMPTY(&work->group) && STAILQ_EMPTY(&self->flushes)));
}

/* The conditions run on CLOCK_MONOTONIC, the one that pthreads and its checkers know. */
static struct timespec wake_time(int64_t wait_ns)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t ns = now.tv_nsec + (wait_ns > 0 ? wait_ns % NS_PER_S : 0);
    now.tv_sec += (time_t)((wait_ns > 0 ? wait_ns / NS_PER_S : 0) + ns / NS_PER_S);
    now.tv_nsec = (long)(ns % NS_PER_S);
    return now;
}

static void wait_for_work(struct store *self, const struct work *work)
{
    mono_t at = work->failed ? MONO_NEVER : next_upkeep(work);
    if (work->stuck && !work->failed)
        at = mono_min(at, work->retry_at);
    mono_t now = mono_now();
    if (mono_is_never(at)) {
        pthread_cond_wait(&self->work, &self->lock);
        return;
    }
    struct timespec until = wake_time(mono_since(at, now));
    pthread_cond_timedwait(&self->work, &self->lock, &until);
}

/* Takes all that is queued. Lookups are taken together with the flushes before them, and these are
 * committed first: so a lookup sees all that was flushed before it was asked. */
static bool take_work(struct store *self, struct work *work)
{
    pthread_mutex_lock(&self->lock);
    while (!something_to_do(self, work) && !may_leave(self, work))
        wait_for_work(self, work);
    bool leave = may_leave(self, work);
    work->failed = work->failed || self->has_failed;
    if (work->failed || STAILQ_EMPTY(&work->group))
        STAILQ_CONCAT(&work->group, &self->flushes);
    STAILQ_CONCAT(&work->lookups, &self->lookups);
    pthread_mutex_unlock(&self->lock);
    return !leave;
}

static void turn(struct store *self, struct work *work)
{
    bool was_idle = STAILQ_EMPTY(&work->group) || work->stuck;     /* what waits for room is helped by it */
    pthread_mutex_lock(&self->db_lock);
    if (work->failed)
        drop_group(work);
    commit_group(self, work);
    serve_lookups(self, work);
    upkeep(self, work, was_idle);
    mind_log(self, work);
    pthread_mutex_unlock(&self->db_lock);
    regain_room(self, work);
}

static void *store_main(void *arg)
{
    struct store *self = arg;
    struct work work = { .purging = true, .shrinking = true };    /* what the last process left unfinished */
    STAILQ_INIT(&work.group);
    STAILQ_INIT(&work.lookups);
    first_reserve(self, &work);
    while (take_work(self, &work))
        turn(self, &work);
    drop_group(&work);
    free(work.reserve);
    pthread_mutex_lock(&self->lock);
    STAILQ_CONCAT(&self->answers, &work.lookups);
    self->thread_left = true;
    pthread_cond_signal(&self->drained);
    pthread_mutex_unlock(&self->lock);
    return NULL;
}

/* ---- starting and stopping ---- */

static int start(pthread_t *thread, bool *runs, const char *name, void *(*main)(void *), struct store *self, struct why *why)
{
    sigset_t all, before;
    sigfillset(&all);
    /* Signals are the loop's. */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(thread, NULL, main, self);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        return why_set(why, "the thread for %s can't be started: %s; raise the limit of processes", self->path, strerror(error));
    *runs = true;
    pthread_setname_np(*thread, name);
    return 0;
}

int store_threads_start(struct store *self, struct why *why)
{
    if (start(&self->checkpointer, &self->checkpointer_runs, "checkpoint", checkpoint_main, self, why) < 0)
        return -1;
    return start(&self->thread, &self->thread_runs, "store", store_main, self, why);
}

static void stop_store_thread(struct store *self, int64_t wait_ns)
{
    struct timespec until = wake_time(wait_ns < 86400 * NS_PER_S ? wait_ns : 86400 * NS_PER_S);
    int error = 0;
    pthread_mutex_lock(&self->lock);
    self->stop = true;
    pthread_cond_signal(&self->work);
    while (!self->thread_left && error != ETIMEDOUT)
        error = pthread_cond_timedwait(&self->drained, &self->lock, &until);
    self->abandon = true;
    pthread_cond_signal(&self->work);
    pthread_mutex_unlock(&self->lock);
    pthread_join(self->thread, NULL);
    self->thread_runs = false;
}

void store_threads_stop(struct store *self, int64_t wait_ns)
{
    if (self->thread_runs)
        stop_store_thread(self, wait_ns);
    if (!self->checkpointer_runs)
        return;
    pthread_mutex_lock(&self->lock);
    self->checkpoint_stop = true;
    pthread_cond_signal(&self->checkpoint_work);
    pthread_mutex_unlock(&self->lock);
    pthread_join(self->checkpointer, NULL);
    self->checkpointer_runs = false;
}
