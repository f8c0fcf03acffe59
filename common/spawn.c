/* Starting processes without fork.
 *
 * What must hold: between clone and execve the child runs in the caller's memory, so it may only
 * make system calls and touch its own stack and `struct start`. It makes them by number: the
 * wrappers of libc (and of the sanitizers) keep books in memory that isn't the child's. */
#include "common/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STACK_SIZE (32 * 1024)
#define SIGNAL_SET_SIZE 8          /* what the kernel's calls want, not sizeof(sigset_t) */
#define LAST_SIGNAL 64
#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"

#define IN_CHILD __attribute__((no_sanitize("address", "thread", "undefined")))

struct start {
    const struct spawn_request *request;
    const char *path;              /* to be searched; NULL: `file` is the program */
    const char *file;
    int niceness;
    pid_t caller;
    volatile int error;            /* set by the child when it could not become the program */
};

static const char *path_of(char *const *env)
{
    for (; *env; env++) {
        if (strncmp(*env, "PATH=", 5) == 0)
            return *env + 5;
    }
    return DEFAULT_PATH;
}

/* ---- in the child ---- */

IN_CHILD static long reset_signals(void)
{
    /* All zero is SIG_DFL without flags, in the kernel's layout of every architecture. */
    static const uint64_t by_default[8];
    for (int number = 1; number <= LAST_SIGNAL; number++)
        syscall(SYS_rt_sigaction, number, by_default, NULL, SIGNAL_SET_SIZE);
    return 0;
}

/* Moves a source out of the way of the targets 0 to 3, unless it stands where it belongs. */
IN_CHILD static int lifted(int source, int target)
{
    if (source == SPAWN_NULL)
        source = (int)syscall(SYS_openat, AT_FDCWD, "/dev/null", O_RDWR | O_CLOEXEC, 0);
    if (source < 0 || source > SPAWN_KEPT_FD || source == target)
        return source;
    return (int)syscall(SYS_fcntl, source, F_DUPFD_CLOEXEC, SPAWN_KEPT_FD + 1);
}

IN_CHILD static long put(int source, int target)
{
    if (source == target)          /* dup3 refuses this, and CLOEXEC would stay */
        return syscall(SYS_fcntl, source, F_SETFD, 0);
    return syscall(SYS_dup3, source, target, 0);
}

IN_CHILD static long place_descriptors(const struct spawn_request *request)
{
    int kept = request->keep_fd == SPAWN_NOTHING ? 0 : 1;
    int source[4] = {request->in, request->out, request->err, request->keep_fd};
    for (int target = 0; target < 3 + kept; target++) {
        source[target] = lifted(source[target], target);
        if (source[target] < 0)
            return -1;
    }
    for (int target = 0; target < 3 + kept; target++) {
        if (put(source[target], target) < 0)
            return -1;
    }
    /* Everything is CLOEXEC anyway; this is for what a library forgot. Kernels before 5.9 lack it. */
    syscall(SYS_close_range, 3 + kept, UINT_MAX, 0);
    return 0;
}

IN_CHILD static int execute(const char *file, const struct spawn_request *request)
{
    syscall(SYS_execve, file, request->argv, request->env);
    return errno;
}

/* Looks as execvp does: a folder without the program is passed over, one where it may not be run
 * is remembered; but a file that is no program is an error and never a shell script. */
IN_CHILD static int execute_in_path(const char *path, const char *name, const struct spawn_request *request)
{
    char full[PATH_MAX];
    int error = ENOENT;
    size_t name_size = strlen(name) + 1;
    for (const char *next; path; path = next) {
        const char *end = strchrnul(path, ':');
        next = *end ? end + 1 : NULL;
        size_t len = (size_t)(end - path);
        if (len + 1 + name_size > sizeof full)
            continue;
        for (size_t i = 0; i < len; i++)
            full[i] = path[i];
        if (len > 0)               /* an empty entry is the current folder */
            full[len++] = '/';
        for (size_t i = 0; i < name_size; i++)
            full[len + i] = name[i];
        int failed = execute(full, request);
        if (failed == EACCES)
            error = EACCES;
        else if (failed != ENOENT && failed != ENOTDIR && failed != ESTALE && failed != ENODEV && failed != ETIMEDOUT)
            return failed;
    }
    return error;
}

/* Not by clone3 with CLONE_INTO_CGROUP: Linux 6.18 kills at birth what begins in a group that was ever ended by cgroup.kill. */
IN_CHILD static long enter_groups(const struct spawn_request *request)
{
    for (unsigned i = 0; i < request->n_cgroups; i++) {
        if (syscall(SYS_write, request->cgroups[i], "0", 1) != 1)
            return -1;
    }
    return 0;
}

IN_CHILD static long set_limits(const struct spawn_request *request)
{
    for (unsigned i = 0; i < request->n_limits; i++) {
        uint64_t both[2] = {request->limits[i].soft, request->limits[i].hard};
        if (syscall(SYS_prlimit64, 0, request->limits[i].resource, both, NULL) < 0)
            return -1;
    }
    return 0;
}

IN_CHILD static int become(const struct start *start)
{
    const struct spawn_request *request = start->request;
    uint64_t no_signals = 0;
    if (!request->signals_are_default)
        reset_signals();
    if (request->new_session && syscall(SYS_setsid) < 0)
        return errno;
    if (request->nice_by != 0)
        syscall(SYS_setpriority, PRIO_PROCESS, 0, start->niceness);
    /* Groups before their files are closed; limits after descriptors were moved to where a low limit has no room. */
    if (enter_groups(request) < 0 || place_descriptors(request) < 0 || set_limits(request) < 0)
        return errno;
    if (request->dies_with_caller) {
        syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        if (syscall(SYS_getppid) != start->caller)
            return ESRCH;          /* it ended before it could be asked for */
    }
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &no_signals, NULL, SIGNAL_SET_SIZE);
    return start->path ? execute_in_path(start->path, start->file, request) : execute(start->file, request);
}

IN_CHILD static int child_main(void *arg)
{
    struct start *start = arg;
    start->error = become(start);
    syscall(SYS_exit_group, 127);
    return 127;
}

/* ---- in the caller ---- */

static int start_child(struct start *start, pid_t *ret_pid, int *ret_pidfd)
{
    /* The caller stands still until the child has its own memory, so the child's stack may lie on the caller's. */
    _Alignas(64) char stack[STACK_SIZE];
    int flags = CLONE_VM | CLONE_VFORK | SIGCHLD | (ret_pidfd ? CLONE_PIDFD : 0);
    int pidfd = -1;
    pid_t pid = clone(child_main, stack + sizeof stack, flags, start, &pidfd);
    if (pid < 0)
        return -errno;
    if (start->error != 0) {
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        if (ret_pidfd)
            close(pidfd);
        return -start->error;
    }
    *ret_pid = pid;
    if (ret_pidfd)
        *ret_pidfd = pidfd;
    return 0;
}

int spawn_process(const struct spawn_request *request, pid_t *ret_pid, int *ret_pidfd)
{
    struct start start = {.request = request, .file = request->file ? request->file : request->argv[0]};
    if (!request->file && !strchr(start.file, '/'))
        start.path = path_of(request->env);
    if (*start.file == '\0')
        return -ENOENT;
    if (request->nice_by != 0)
        start.niceness = getpriority(PRIO_PROCESS, 0) + request->nice_by;
    if (request->dies_with_caller)
        start.caller = getpid();
    if (request->signals_are_default)
        return start_child(&start, ret_pid, ret_pidfd);

    /* A handler of the caller must not run in the child, where it would change the caller's memory. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int result = start_child(&start, ret_pid, ret_pidfd);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}
