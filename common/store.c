/* The loop's side of a store: operations are staged here, handed over by a flush, and what the
 * thread answers comes back as callbacks. Nothing here touches the database but opening, closing,
 * store_load and store_check.
 *
 * What must hold: operations reach the thread in the order of staging; a sequence number is told
 * once, after all lower ones; no callback comes for a cancelled lookup or out of store_close. */
#include "common/store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bug.h"
#include "common/store_private.h"

#define OP_COST 64                           /* what an operation counts for beside its bytes */

/* ---- operations and lookups ---- */

static void op_destroy(struct op *op)
{
    if (!op)
        return;
    slice_drop(&op->frame.head);
    slice_drop(&op->frame.body);
    free(op);
}

static void ops_destroy(struct op_list *ops)
{
    struct op *op;
    while ((op = STAILQ_FIRST(ops))) {
        STAILQ_REMOVE_HEAD(ops, entry);
        op_destroy(op);
    }
}

void flush_destroy(struct flush **self_p)
{
    struct flush *self = *self_p;
    if (!self)
        return;
    *self_p = NULL;
    ops_destroy(&self->ops);
    free(self);
}

void lookup_destroy(struct lookup **self_p)
{
    struct lookup *self = *self_p;
    if (!self)
        return;
    *self_p = NULL;
    for (size_t i = 0; i < self->n; i++) {
        slice_drop(&self->frames[i].head);
        slice_drop(&self->frames[i].body);
    }
    free(self->frames);
    free(self);
}

int lookup_make_room(struct lookup *self)
{
    if (self->n < self->room)
        return 0;
    size_t room = self->room ? self->room * 2 : 16;
    struct store_frame *frames = reallocarray(self->frames, room, sizeof *frames);
    if (!frames)
        return why_set(&self->damage, "no memory for the rows of batch %" PRIu64, self->query.batch);
    self->frames = frames;
    self->room = room;
    return 0;
}

static struct op *op_new(enum op_kind kind, const char *key, const void *value, size_t len)
{
    size_t key_len = strlen(key);
    if (len > SIZE_MAX / 2)
        return NULL;
    struct op *op = calloc(1, sizeof *op + key_len + 1 + len);
    if (!op)
        return NULL;
    op->kind = kind;
    op->key_len = key_len;
    op->value_len = len;
    memcpy(op->key, key, key_len);
    if (len > 0)
        memcpy(op->key + key_len + 1, value, len);
    return op;
}

/* ---- staging ---- */

/* Takes the operation, also when there is no memory for it. */
static int stage(struct store *self, struct op *op)
{
    if (op && !self->next_flush)
        self->next_flush = calloc(1, sizeof *self->next_flush);
    if (!op || !self->next_flush) {
        op_destroy(op);
        return -ENOMEM;
    }
    struct flush *flush = self->next_flush;
    if (self->n_staged++ == 0)
        STAILQ_INIT(&flush->ops);
    STAILQ_INSERT_TAIL(&flush->ops, op, entry);
    size_t cost = OP_COST + op->key_len + op->value_len + op->frame.head.len + op->frame.body.len;
    flush->bytes += cost;
    flush->purges |= op->kind == OP_PURGE;
    self->waiting += cost;
    return 0;
}

int store_put(struct store *self, const char *key, const void *value, size_t len)
{
    return stage(self, op_new(OP_PUT, key, value, len));
}

int store_delete(struct store *self, const char *key)
{
    return stage(self, op_new(OP_DELETE, key, NULL, 0));
}

int store_append(struct store *self, const struct store_frame *frame, uint64_t *ret_number)
{
    /* The file's integers are signed. */
    BUG_IF(frame->first > (uint64_t)INT64_MAX - frame->count);
    struct op *op = op_new(OP_APPEND, "", NULL, 0);
    if (!op)
        return -ENOMEM;
    op->frame = *frame;
    op->frame.number = self->next_number;
    op->frame.head = slice_keep(frame->head);
    op->frame.body = slice_keep(frame->body);
    if ((frame->head.len > 0 && !op->frame.head.buf) || (frame->body.len > 0 && !op->frame.body.buf)) {
        op_destroy(op);
        return -ENOMEM;
    }
    if (stage(self, op) < 0)
        return -ENOMEM;
    *ret_number = self->next_number++;
    return 0;
}

int store_delete_frames(struct store *self, uint64_t batch)
{
    struct op *op = op_new(OP_PURGE, "", NULL, 0);
    if (op) {
        op->frame.batch = batch;
        op->frame.number = self->next_number - 1;
    }
    return stage(self, op);
}

static struct flush *take_staged(struct store *self)
{
    struct flush *flush = self->next_flush;
    self->next_flush = NULL;
    self->n_staged = 0;
    return flush;
}

uint64_t store_flush(struct store *self)
{
    if (self->n_staged == 0)
        return self->sequence;
    struct flush *flush = take_staged(self);
    flush->sequence = ++self->sequence;
    pthread_mutex_lock(&self->lock);
    STAILQ_INSERT_TAIL(&self->flushes, flush, entry);
    pthread_mutex_unlock(&self->lock);
    /* Signalled with the lock held, the thread would wake only to wait for it. */
    pthread_cond_signal(&self->work);
    return self->sequence;
}

uint64_t store_flushed(const struct store *self)
{
    return self->sequence;
}

uint64_t store_committed(const struct store *self)
{
    return self->committed;
}

bool store_is_full(const struct store *self)
{
    return self->full;
}

size_t store_waiting(const struct store *self)
{
    return self->waiting;
}

const uint8_t *store_id(const struct store *self)
{
    return self->id;
}

/* ---- reading ---- */

int store_read(struct store *self, const struct store_query *query,
               void (*done)(void *arg, const struct store_rows *rows), void *arg, uint64_t *ret_id)
{
    struct lookup *lookup = calloc(1, sizeof *lookup);
    if (!lookup)
        return -ENOMEM;
    lookup->id = ++self->last_lookup;
    lookup->done = done;
    lookup->arg = arg;
    lookup->query = *query;
    atomic_init(&lookup->cancelled, false);
    TAILQ_INSERT_TAIL(&self->open, lookup, open_entry);
    if (ret_id)
        *ret_id = lookup->id;
    pthread_mutex_lock(&self->lock);
    STAILQ_INSERT_TAIL(&self->lookups, lookup, entry);
    pthread_mutex_unlock(&self->lock);
    pthread_cond_signal(&self->work);
    return 0;
}

void store_read_cancel(struct store *self, uint64_t id)
{
    struct lookup *lookup;
    TAILQ_FOREACH(lookup, &self->open, open_entry) {
        if (lookup->id != id)
            continue;
        lookup->done = NULL;
        atomic_store(&lookup->cancelled, true);      /* the thread needn't read for it */
        return;
    }
}

int store_load(struct store *self, const char *prefix,
               int (*each)(void *arg, const char *key, const uint8_t *value, size_t len), void *arg, struct why *why)
{
    pthread_mutex_lock(&self->db_lock);
    int result = db_load(self->db, prefix, each, arg, why);
    pthread_mutex_unlock(&self->db_lock);
    return result;
}

int store_check(struct store *self, struct why *why)
{
    pthread_mutex_lock(&self->db_lock);
    int result = db_check(self->db, why);
    pthread_mutex_unlock(&self->db_lock);
    return result;
}

/* ---- answers ---- */

static void give_answer(struct store *self, struct lookup *lookup)
{
    struct store_rows rows = {
        .frames = lookup->frames, .n = lookup->n, .more = lookup->more,
        .damage = lookup->damaged ? lookup->damage.text : NULL, .sees = lookup->sees,
    };
    TAILQ_REMOVE(&self->open, lookup, open_entry);
    if (lookup->done)
        lookup->done(lookup->arg, &rows);
    lookup_destroy(&lookup);
}

struct news {
    uint64_t sequence;
    size_t bytes;
    bool full, failed;
    struct lookup_list answers;
};

static void fetch_news(struct store *self, struct news *ret_news)
{
    STAILQ_INIT(&ret_news->answers);
    pthread_mutex_lock(&self->lock);
    ret_news->sequence = self->done_sequence;
    ret_news->bytes = self->done_bytes;
    self->done_bytes = 0;
    ret_news->full = self->is_full;
    ret_news->failed = self->has_failed;
    STAILQ_CONCAT(&ret_news->answers, &self->answers);
    pthread_mutex_unlock(&self->lock);
}

/* Commits are told before the lookups that saw them, and a failure last. */
static void tell_news(struct store *self, struct news *news)
{
    const struct store_config *config = &self->config;
    struct lookup *lookup;
    if (news->sequence > self->committed) {
        self->committed = news->sequence;
        if (config->committed)
            config->committed(config->arg, self->committed);
    }
    while ((lookup = STAILQ_FIRST(&news->answers))) {
        STAILQ_REMOVE_HEAD(&news->answers, entry);
        give_answer(self, lookup);
    }
    if (news->full != self->full) {
        self->full = news->full;
        if (config->full)
            config->full(config->arg, self->full);
    }
    if (news->failed && !self->told_failed) {
        self->told_failed = true;
        if (config->failed)
            config->failed(config->arg, self->failure.text);     /* written once, before has_failed was seen */
    }
}

static void on_answers(void *arg, uint32_t events)
{
    struct store *self = arg;
    eventfd_t rings;
    struct news news;
    (void)events;
    /* Nothing to read is fine: the news are looked up in any case. */
    if (eventfd_read(self->watch.fd, &rings) < 0 && errno != EAGAIN && errno != EINTR)
        return;
    fetch_news(self, &news);
    self->waiting -= news.bytes;
    self->in_callback = true;
    tell_news(self, &news);
    self->in_callback = false;
}

/* ---- the folder ---- */

/* A file whose name is not on the disk is lost with all that was synced in it. There are file systems that
 * can't sync a folder, and folders that we may use and not read: these are trusted. */
static int sync_folder(const char *path, struct why *why)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = fd < 0 || fsync(fd) < 0 ? errno : 0;
    if (fd < 0 && (error == EACCES || error == EPERM))
        return 0;
    if (fd >= 0)
        close(fd);
    if (error == 0 || error == EINVAL || error == ENOTSUP || error == EROFS)
        return 0;
    return why_set(why, "the folder %s can't be written to the disk: %s; look after the disk, then start again", path, strerror(error));
}

/* What was made may be of a process that ended before it could sync: so this is done at each start. */
static int sync_names(const struct store *self, struct why *why)
{
    char *parent = NULL;
    if (asprintf(&parent, "%s/..", self->dir) < 0)
        return why_set(why, "no memory to open %s", self->dir);
    int result = sync_folder(self->dir, why) < 0 ? -1 : sync_folder(parent, why);
    free(parent);
    return result;
}

static int make_folder(const struct store *self, struct why *why)
{
    struct stat found;
    if (mkdir(self->dir, 0700) == 0)
        return 0;
    if (errno != EEXIST)
        return why_set(why, "the folder %s can't be made: %s; its parent must exist and be writable for this user", self->dir, strerror(errno));
    if (stat(self->dir, &found) < 0)
        return why_set(why, "the folder %s can't be used: %s", self->dir, strerror(errno));
    if (!S_ISDIR(found.st_mode))
        return why_set(why, "%s is a file where a folder for data is wanted; name a folder, it is made when missing", self->dir);
    return 0;
}

void store_tell_holder(const char *dir, int fd, struct why *why)
{
    char pid[24] = "";
    ssize_t n = pread(fd, pid, sizeof pid - 1, 0);
    pid[n > 0 ? n : 0] = '\0';
    pid[strspn(pid, "0123456789")] = '\0';
    if (pid[0])
        why_set(why, "the folder %s is in use by the process %s; stop that one, or choose another folder", dir, pid);
    else
        why_set(why, "the folder %s is in use by another process; stop that one, or choose another folder", dir);
}

/* The lock is the kernel's, on the open file: it goes with its process, however that ends. The file stays. */
static int lock_folder(struct store *self, enum store_refusal *refusal, struct why *why)
{
    char *path = NULL;
    if (asprintf(&path, "%s/LOCK", self->dir) < 0)
        return why_set(why, "no memory to open %s", self->dir);
    self->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    free(path);
    if (self->lock_fd < 0)
        return why_set(why, "the folder %s can't be written: %s; it must belong to this user, on a disk that is not read-only",
                       self->dir, strerror(errno));
    if (flock(self->lock_fd, LOCK_EX | LOCK_NB) < 0) {
        if (errno != EWOULDBLOCK)
            return why_set(why, "the folder %s can't be locked: %s; use a local disk", self->dir, strerror(errno));
        *refusal = STORE_BUSY;
        store_tell_holder(self->dir, self->lock_fd, why);
        return -1;
    }
    /* The number is for people; on a full disk it is missing, and the lock holds all the same. */
    if (ftruncate(self->lock_fd, 0) == 0)
        (void)!dprintf(self->lock_fd, "%ld\n", (long)getpid());
    return 0;
}

/* ---- opening and closing ---- */

static void init_sync(struct store *self)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&self->lock, NULL);
    pthread_mutex_init(&self->db_lock, NULL);
    pthread_cond_init(&self->work, &monotonic);
    pthread_cond_init(&self->drained, &monotonic);
    pthread_cond_init(&self->checkpoint_work, &monotonic);
    pthread_cond_init(&self->checkpoint_idle, &monotonic);
    pthread_condattr_destroy(&monotonic);
}

static struct store *store_new(struct loop *loop, const struct store_config *config, struct why *why)
{
    struct store *self = calloc(1, sizeof *self);
    if (!self) {
        why_set(why, "no memory to open %s", config->dir);
        return NULL;
    }
    self->loop = loop;
    self->config = *config;
    self->lock_fd = -1;
    self->watch = (struct loop_watch){ .fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .ready = on_answers, .arg = self };
    STAILQ_INIT(&self->flushes);
    STAILQ_INIT(&self->lookups);
    STAILQ_INIT(&self->answers);
    TAILQ_INIT(&self->open);
    init_sync(self);
    if (self->watch.fd < 0) {
        why_set(why, "%s can't be opened: %s; raise the limit of open files", config->dir, strerror(errno));
        goto fail;
    }
    if (!(self->dir = strdup(config->dir)) || asprintf(&self->path, "%s/%s.db", config->dir, config->role) < 0) {
        self->path = NULL;
        why_set(why, "no memory to open %s", config->dir);
        goto fail;
    }
    return self;
fail:
    store_close(&self, 0);
    return NULL;
}

/* What migrate stages and the new version are committed together, here and now. */
static int migrate(struct store *self, uint32_t from, struct why *why)
{
    const struct store_config *config = &self->config;
    if (!config->migrate)
        return why_set(why, "%s has records of version %" PRIu32 ", and this Tarmac wants %" PRIu32 "; use the older Tarmac, or choose an empty folder",
                       self->path, from, config->version);
    if (config->migrate(self, from, why) < 0)
        return -1;
    struct op *op = op_new(OP_VERSION, "", NULL, 0);
    if (op)
        op->frame.number = config->version;
    if (stage(self, op) < 0)
        return why_set(why, "no memory to bring %s up to date", self->path);
    struct flush_list flushes = STAILQ_HEAD_INITIALIZER(flushes);
    struct flush *flush = take_staged(self);
    STAILQ_INSERT_TAIL(&flushes, flush, entry);
    enum db_result result = db_commit(self->db, &flushes, why);
    self->waiting -= flush->bytes;
    flush_destroy(&flush);
    if (result == DB_FULL)
        return why_set(why, "%s can't be brought up to date: no room is left on the disk; make room there", self->path);
    return result == DB_OK ? 0 : -1;
}

/* Where another role keeps its store there is no place for ours: its process may be away just now. */
static int look_for_others(const struct store *self, const char *own, struct why *why)
{
    DIR *dir = opendir(self->dir);
    struct dirent *entry;
    int result = 0;
    while (dir && result == 0 && (entry = readdir(dir))) {
        const char *dot = strrchr(entry->d_name, '.');
        if (dot && strcmp(dot, ".db") == 0 && strcmp(entry->d_name, own) != 0)
            result = why_set(why, "the folder %s holds %.100s, which is not this program's: it keeps %s; name another folder", self->dir,
                             entry->d_name, own);
    }
    if (dir)
        closedir(dir);
    return result;
}

static int open_files(struct store *self, enum store_refusal *refusal, struct why *why)
{
    struct db_facts facts;
    if (make_folder(self, why) < 0 || lock_folder(self, refusal, why) < 0
        || look_for_others(self, strrchr(self->path, '/') + 1, why) < 0)
        return -1;
    self->db = db_open(self->path, self->config.role, self->config.version, &facts, why);
    if (!self->db || sync_names(self, why) < 0)
        return -1;
    memcpy(self->id, facts.id, sizeof self->id);
    self->next_number = facts.next_number;
    if (facts.version < self->config.version && migrate(self, facts.version, why) < 0)
        return -1;
    self->checkpoint_db = db_open_second(self->path, why);
    return self->checkpoint_db ? 0 : -1;
}

struct store *store_open(struct loop *loop, const struct store_config *config, enum store_refusal *refusal, struct why *why)
{
    enum store_refusal found = STORE_DISK;
    struct store *self = store_new(loop, config, why);
    if (!self)
        goto fail;
    if (open_files(self, &found, why) < 0)
        goto fail;
    int error = loop_watch(loop, &self->watch, EPOLLIN);
    if (error < 0) {
        why_set(why, "%s can't be watched: %s", self->path, strerror(-error));
        goto fail;
    }
    self->watching = true;
    if (store_threads_start(self, why) < 0)
        goto fail;
    return self;
fail:
    store_close(&self, 0);
    *refusal = found;
    return NULL;
}

static void drop_queues(struct store *self)
{
    struct lookup *lookup;
    struct flush *flush;
    while ((lookup = TAILQ_FIRST(&self->open))) {
        TAILQ_REMOVE(&self->open, lookup, open_entry);
        lookup_destroy(&lookup);
    }
    while ((flush = STAILQ_FIRST(&self->flushes))) {
        STAILQ_REMOVE_HEAD(&self->flushes, entry);
        flush_destroy(&flush);
    }
    if (self->n_staged == 0)
        free(self->next_flush);
    else
        flush_destroy(&self->next_flush);
}

void store_close(struct store **self_p, int64_t wait_ns)
{
    struct store *self = *self_p;
    if (!self)
        return;
    BUG_IF(self->in_callback);
    *self_p = NULL;
    if (self->thread_runs)
        store_flush(self);
    store_threads_stop(self, wait_ns);
    if (self->watching)
        loop_unwatch(self->loop, &self->watch);
    drop_queues(self);
    db_close(&self->checkpoint_db, true);
    db_close(&self->db, self->has_failed);
    if (self->watch.fd >= 0)
        close(self->watch.fd);
    if (self->lock_fd >= 0)
        close(self->lock_fd);
    pthread_cond_destroy(&self->work);
    pthread_cond_destroy(&self->drained);
    pthread_cond_destroy(&self->checkpoint_work);
    pthread_cond_destroy(&self->checkpoint_idle);
    pthread_mutex_destroy(&self->lock);
    pthread_mutex_destroy(&self->db_lock);
    free(self->dir);
    free(self->path);
    free(self);
}
