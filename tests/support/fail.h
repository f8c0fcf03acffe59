/* Faults on demand, for sweeps: fail the 1st, 2nd, 3rd … call of some kind until a run passes untouched.
 *
 * The programs of tests/fault are linked with --wrap (see WRAPPED in the Makefile): what our own code
 * asks of the C library and of ZeroMQ goes through here, what SQLite and ZeroMQ ask doesn't. The file
 * calls of SQLite come in with tests/support/fail_files.h. Nothing fails and nothing is counted but
 * between fail_arm and fail_disarm; blocks of memory are always counted. From any thread. */
#ifndef TESTS_SUPPORT_FAIL_H
#define TESTS_SUPPORT_FAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum fail_kind {
    FAIL_MEMORY = 1 << 0,      /* malloc, calloc, realloc, strdup, asprintf and the like */
    FAIL_LIBRARY = 1 << 1,     /* the same, of a library that was given fail_library_malloc */
    FAIL_OPEN = 1 << 2,        /* open, pipe2, socketpair, eventfd, memfd_create, epoll_create1, timerfd_create, signalfd */
    FAIL_CONTROL = 1 << 3,     /* fcntl, epoll_ctl, prctl */
    FAIL_PROCESS = 1 << 4,     /* clone, pthread_create */
    FAIL_READ = 1 << 5,        /* read, recv, ppoll */
    FAIL_WRITE = 1 << 6,       /* write, sendmsg */
    FAIL_ZMQ = 1 << 7,         /* what of ZeroMQ makes, sets, binds, connects */
    FAIL_SEND = 1 << 8,        /* zmq_msg_send, and the making of its parts */
    FAIL_FILE_OPEN = 1 << 9,   /* the rest: regular files, by tests/support/fail_files.h */
    FAIL_FILE_WRITE = 1 << 10,
    FAIL_FILE_SYNC = 1 << 11,
    FAIL_FILE_SIZE = 1 << 12,  /* ftruncate */
    FAIL_FILE_ROOM = 1 << 13,  /* posix_fallocate */
    FAIL_FILE_READ = 1 << 14,
    FAIL_FOLDER_SYNC = 1 << 15,
};

#define FAIL_SHORT (-1)        /* instead of an errno: a part is transferred, at least one byte; for calls that transfer */

struct fail_plan {
    unsigned kinds;
    long after;                /* so many calls of these kinds are let through … */
    long times;                /* … and so many fail then; -1: all */
    int error;                 /* errno, or FAIL_SHORT */
    bool torn;                 /* the first of them is short, as on a disk that fills up */
};

void fail_arm(const struct fail_plan *plan);
long fail_disarm(void);        /* how many calls failed; idempotent */
void fail_pause(void);         /* nothing is counted until fail_resume */
void fail_resume(void);
long fail_hits(void);          /* the same, without an end */
long fail_calls_since(unsigned kinds);     /* of these kinds, whether they are in the plan or not, since the first that failed */

/* ---- sweeps ---- */

/* for (struct fail_sweep s = {.kinds = …, .error = …}; fail_next(&s);) { what is done; fail_disarm(); what is checked }
 * Where there are too many points every so-many-th is taken (`stride`; 0: all, and each fifth under a sanitizer), unless
 * FAULT_ALL=1 is in the environment. With FAULT_TRACE=1 each point is printed. */
struct fail_sweep {
    unsigned kinds;
    int error;
    bool torn;
    long times;                /* 0: once */
    long stride;
    long n;                    /* calls let through in the present run */
    long points;               /* runs in which something failed */
    bool begun;
};
bool fail_next(struct fail_sweep *self);
void fail_again(const struct fail_sweep *self);    /* from the beginning of the present run: what was prepared before doesn't count */
void fail_said(const char *what, long points);     /* one line for whoever reads the test's output */
bool fail_is_sanitized(void);

/* For a process that is started by a test (a keeper): the plan travels in the environment, the hits come back in a file. */
void fail_export(const struct fail_plan *plan, const char *file);      /* plan NULL: takes it back */
void fail_import(void);
long fail_exported_hits(const char *file);

/* ---- counting ---- */

size_t fail_blocks(void);                  /* blocks that our own code has and has not freed */
void fail_tell_blocks(size_t more_than);   /* prints where the youngest of them come from */
int fail_descriptors(void);                /* of this process */
bool fail_has_children(void);              /* zombies too */

/* Time, for those who ask mono_now: it jumps ahead, for good. */
void fail_skip_time(int64_t ns);

/* For a library's own allocator. */
void *fail_library_malloc(size_t size);
void *fail_library_realloc(void *p, size_t size);

/* For fail_files.h: whether this call fails; *ret_error as in the plan. */
bool fail_due(unsigned kind, int *ret_error);

#endif
