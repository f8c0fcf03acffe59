/* What the files of the store share; nobody else includes this.
 *
 *   store.c          the loop's side: staging, asking, answering, opening and closing
 *   store_thread.c   the two threads: what is written and read when, the full disk, the log's length
 *   store_sql.c      the file: opening and writing by way of SQLite, the format
 *   store_read.c     … and reading
 *   store_bulk.c     the file of large bodies beside it
 *   store_error.c    what its codes mean, in words
 *   store_crc.c      the checksums of its rows
 *   store_sums.c     the checksums of its pages
 *   store_inspect.c  a store looked at from outside
 *
 * The loop makes operations and lookups and gives them away through the queues of struct store;
 * from then on they belong to the store thread, but for the fields of a lookup that say otherwise. */
#ifndef COMMON_STORE_PRIVATE_H
#define COMMON_STORE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "common/store.h"

/* ---- what travels to the thread ---- */

enum op_kind {
    OP_PUT, OP_DELETE, OP_APPEND,
    OP_PURGE,                         /* the frames of frame.batch up to number frame.number go */
    OP_VERSION,                       /* the owner's version becomes frame.number */
};

struct op {
    STAILQ_ENTRY(op) entry;
    enum op_kind kind;
    struct store_frame frame;         /* append: with references of its own; purge, version: see above */
    size_t key_len, value_len;
    char key[];                       /* put, delete: the key, a NUL, the value */
};
STAILQ_HEAD(op_list, op);

/* What one store_flush handed over. */
struct flush {
    STAILQ_ENTRY(flush) entry;
    struct op_list ops;
    uint64_t sequence;
    size_t bytes;
    bool purges;                      /* one of the operations is a purge */
};
STAILQ_HEAD(flush_list, flush);

struct lookup {
    STAILQ_ENTRY(lookup) entry;       /* of whoever has it: the queue, the thread, the answers */
    TAILQ_ENTRY(lookup) open_entry;   /* the loop's: all that are not answered */
    uint64_t id;
    void (*done)(void *arg, const struct store_rows *rows);
    void *arg;
    atomic_bool cancelled;
    struct store_query query;

    struct store_frame *frames;       /* the answer */
    size_t n, room;
    uint64_t sees;                    /* the last flush that was committed */
    bool more, damaged;
    struct why damage;
};
STAILQ_HEAD(lookup_list, lookup);
TAILQ_HEAD(open_lookups, lookup);

struct store {
    /* The loop's thread only. */
    struct loop *loop;
    struct store_config config;
    char *dir, *path;
    int lock_fd;
    uint8_t id[16];
    struct flush *next_flush;         /* what is staged; made with the first operation, so that flushing can't fail */
    size_t n_staged;
    uint64_t next_number, sequence, committed;
    size_t waiting;
    bool full, told_failed, in_callback, watching;
    struct open_lookups open;
    uint64_t last_lookup;
    struct loop_watch watch;          /* its fd: rings when there are answers */
    pthread_t thread, checkpointer;
    bool thread_runs, checkpointer_runs;

    /* The connection of the store thread; store_load and store_check borrow it under this mutex.
     * It is taken before `lock` where both are. */
    pthread_mutex_t db_lock;
    struct db *db;

    struct db *checkpoint_db;         /* the checkpoint thread's own */

    /* Everything below is guarded by `lock`. */
    pthread_mutex_t lock;
    pthread_cond_t work;              /* for the store thread */
    pthread_cond_t checkpoint_work;   /* for the checkpoint thread */
    pthread_cond_t checkpoint_idle;   /* the checkpoint thread has nothing to do */
    pthread_cond_t drained;           /* the store thread has left */
    struct flush_list flushes;
    struct lookup_list lookups, answers;
    uint64_t done_sequence;
    size_t done_bytes;                /* since the loop last looked */
    bool is_full, has_failed;
    struct why failure;
    bool stop;                        /* finish what is queued, then leave */
    bool abandon;                     /* leave as soon as possible */
    bool thread_left;
    bool checkpoint_wanted, checkpoint_running, checkpoint_stop;
};

/* ---- store.c ---- */
void flush_destroy(struct flush **self_p);
void lookup_destroy(struct lookup **self_p);
int lookup_make_room(struct lookup *self);          /* for one more frame; -1: no memory, said in its damage */
/* Says who has the folder: `fd` is its lock file. */
void store_tell_holder(const char *dir, int fd, struct why *why);

/* ---- store_thread.c ---- */
int store_threads_start(struct store *self, struct why *why);          /* 0, or -1 with why */
/* Lets the thread finish what is queued for at most `wait_ns`, then ends both. Legal when half started. */
void store_threads_stop(struct store *self, int64_t wait_ns);

/* ---- store_crc.c ---- */
uint32_t record_crc(const char *key, size_t key_len, const void *value, size_t len);
/* In the lower half over all fields and the head, in the upper half going on over the body. */
uint64_t frame_crc(const struct store_frame *frame);
bool frame_is_sound(const struct store_frame *frame, uint64_t crc, bool with_body);

/* ---- store_sql.c ---- */

enum db_result {
    DB_OK,
    DB_FULL,                          /* no room; rolled back; may be tried again */
    DB_FAILED,                        /* anything else, with why; rolled back; nobody may try again */
    DB_DAMAGED,                       /* of a purge or a shrinking: it came upon damage, with why; rolled back */
};

struct db;

struct db_facts {
    uint8_t id[16];
    uint32_t version;                 /* of the owner's records */
    uint64_t next_number;
};

/* Opens or makes the file; refuses what isn't ours, with why. */
struct db *db_open(const char *path, const char *role, uint32_t version, struct db_facts *ret_facts, struct why *why);
/* A second connection to a file that db_open has opened. */
struct db *db_open_second(const char *path, struct why *why);
/* The last connection takes the log into the file, unless `hands_off`: a disk that failed isn't written again. */
void db_close(struct db **self_p, bool hands_off);

/* All operations of all flushes, in order, in one durable transaction. */
enum db_result db_commit(struct db *self, const struct flush_list *flushes, struct why *why);
/* Answers one lookup; damage and a lack of memory are in the lookup. */
void db_lookup(struct db *self, struct lookup *lookup);
/* Deletes some frames of a batch that is to go. *ret_more: there may be others. */
enum db_result db_purge_some(struct db *self, bool *ret_more, struct why *why);
/* Gives a little of the unused space at the end of the file back. *ret_more: there is more of it. */
enum db_result db_shrink_some(struct db *self, bool *ret_more, struct why *why);
/* Copies the log into the file as far as nobody is disturbed. */
enum db_result db_checkpoint(struct db *self, struct why *why);
/* The same, and gives the log's space back to the disk, if nobody reads just now; the other connection must be idle. */
enum db_result db_cut_log(struct db *self, struct why *why);
/* Length of the log after this connection's last commit. */
size_t db_log_bytes(const struct db *self);

int db_load(struct db *self, const char *prefix, int (*each)(void *arg, const char *key, const uint8_t *value, size_t len),
            void *arg, struct why *why);
int db_check(struct db *self, struct why *why);

#endif
