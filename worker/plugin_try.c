/* A plugin that can't be loaded is better known at the start than with the first task. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/spawn.h"
#include "worker/plugin_host.h"

#define PATIENCE (5 * NS_PER_S)

/* Its end, by itself or after the patience; true: it was in time. The descriptor is its pidfd. */
static bool wait_for(pid_t pid, int pidfd, siginfo_t *ret)
{
    struct pollfd ended = {.fd = pidfd, .events = POLLIN};
    mono_t until = mono_add(mono_now(), PATIENCE);
    int n = 0;
    for (int64_t left; n == 0 && (left = mono_since(until, mono_now())) > 0;) {
        struct timespec wait = {.tv_sec = left / NS_PER_S, .tv_nsec = left % NS_PER_S};
        n = ppoll(&ended, 1, &wait, NULL);
        n = n < 0 && errno == EINTR ? 0 : n;
    }
    /* Its session too: a plugin may start something while it is loaded. */
    kill(-pid, SIGKILL);
    while (waitid(P_PID, (id_t)pid, ret, WEXITED) < 0 && errno == EINTR)
        ;
    return n > 0;
}

static int judge(const char *path, bool in_time, const siginfo_t *end, const char *said, struct why *why)
{
    if (in_time && end->si_code == CLD_EXITED && end->si_status == 0)
        return 0;
    if (!in_time)
        return why_set(why, "%s: it was not loaded within %d s; what it does at once should be done in its open()", path, (int)(PATIENCE / NS_PER_S));
    if (said[0] != '\0')
        return why_set(why, "%s", said);
    return why_set(why, "%s: %s %d while it was loaded", path, end->si_code == CLD_EXITED ? "it exited with code" : "it was ended by signal",
                   end->si_status);
}

int plugin_host_try(const char *path, struct why *why)
{
    char name[] = PLUGIN_HOST;
    char *argv[] = {name, (char *)(uintptr_t)path, NULL};
    char said[sizeof why->text] = "";
    int ends[2], pidfd = -1;
    pid_t pid;
    siginfo_t end = {0};
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
        return why_set(why, "%s: it can't be tried: %s", path, strerror(errno));
    struct spawn_request request = {
        .argv = argv, .env = environ, .file = "/proc/self/exe", .in = SPAWN_NULL, .out = ends[1], .err = 2, .keep_fd = SPAWN_NOTHING,
        .new_session = true, .dies_with_caller = true,
    };
    int result = spawn_process(&request, &pid, &pidfd);
    close(ends[1]);
    if (result == 0) {
        bool in_time = wait_for(pid, pidfd, &end);
        close(pidfd);
        if (read(ends[0], said, sizeof said - 1) < 0)
            said[0] = '\0';
        result = judge(path, in_time, &end, said, why);
    } else {
        result = why_set(why, "%s: it can't be tried: %s", path, strerror(-result));
    }
    close(ends[0]);
    return result;
}
