/* Starting processes: the only place in the tree that does. No fork anywhere: the child borrows the
 * caller's memory until it has executed the program (clone with CLONE_VM and CLONE_VFORK), so the
 * cost doesn't grow with the size of the caller, and a process with ZeroMQ threads can do it too.
 *
 * A child starts with an empty signal mask, every signal at its default, and no descriptor but
 * 0, 1, 2 and, if asked for, 3. */
#ifndef COMMON_SPAWN_H
#define COMMON_SPAWN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define SPAWN_NULL (-1)            /* for a standard descriptor: /dev/null */
#define SPAWN_NOTHING (-1)         /* for keep_fd: nothing */
#define SPAWN_KEPT_FD 3            /* where keep_fd is found in the child */

struct spawn_limit {
    int resource;                  /* RLIMIT_... */
    uint64_t soft, hard;
};

struct spawn_request {
    char *const *argv;             /* NULL-terminated, at least argv[0] */
    char *const *env;              /* NULL-terminated, the whole environment of the child */
    const char *file;              /* the program; NULL: argv[0], searched in the PATH of `env`. Never handed to a shell */
    int in, out, err;              /* the child's 0, 1, 2: any descriptor of the caller, or SPAWN_NULL */
    int keep_fd;                   /* the child's 3, or SPAWN_NOTHING */
    int nice_by;                   /* added to the caller's niceness */
    bool new_session;              /* leader of a new session and so of a new group */
    bool dies_with_caller;         /* SIGKILL when the calling thread ends: a second net, it doesn't reach grandchildren */
    bool signals_are_default;      /* the caller promises that it handles and ignores no signal and blocks all of them:
                                      saves 130 system calls in the child's first microseconds */
    const int *cgroups;            /* open cgroup.procs files: the child enters these groups before the program does anything */
    unsigned n_cgroups;
    const struct spawn_limit *limits;
    unsigned n_limits;
};

/* Starts it. 0, or -errno of the step that failed (ENOENT, EACCES, E2BIG, ENOEXEC of the program;
 * EMFILE, EAGAIN, ENOMEM of the start): then nothing runs and nothing is left to reap. Blocks for as
 * long as the kernel takes to load the program. The caller reaps *ret_pid and closes *ret_pidfd
 * (CLOEXEC); ret_pidfd may be NULL when none is wanted. From any thread. */
int spawn_process(const struct spawn_request *request, pid_t *ret_pid, int *ret_pidfd);

#endif
