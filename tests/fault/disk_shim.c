/* Preloaded into a process: the Nth flush or write of its store fails, once. Whoever tried it again would have luck. Or: its flushes
 * stand still for as long as a file exists, so that it is killed for certain before what it does is over.
 *   DISK_FAULT       sync:N or write:N, N from 1: counted over all files of the store (its .db, its log and its large bodies, not the wal-index)
 *   DISK_FAULT_LOG   a file that gets a line when it has happened
 *   DISK_HOLD        the file whose existence holds the flushes */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static long left = -1;                       /* calls that are let through; -1: all */
static char what;                            /* 's'ync or 'w'rite */

__attribute__((constructor)) static void begin(void)
{
    const char *text = getenv("DISK_FAULT"), *number = text ? strchr(text, ':') : NULL;
    if (!number)
        return;
    what = text[0];
    left = atol(number + 1) - 1;
}

static int is_of_the_store(int fd, char path[4096])
{
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t len = readlink(link, path, 4095);
    path[len > 0 ? len : 0] = '\0';
    const char *end = strrchr(path, '.');
    return end && (strcmp(end, ".db") == 0 || strcmp(end, ".db-wal") == 0 || strcmp(end, ".db-bulk") == 0);
}

static void say(const char *call, const char *path)
{
    const char *log = getenv("DISK_FAULT_LOG");
    int fd = log ? (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    if (fd < 0)
        return;
    dprintf(fd, "%s %s\n", call, path);
    close(fd);
}

static int fails(char call, const char *name, int fd)
{
    char path[4096];
    if (call != what || !is_of_the_store(fd, path))
        return 0;
    pthread_mutex_lock(&lock);
    int now = left == 0;
    if (left >= 0)
        left--;
    pthread_mutex_unlock(&lock);
    if (now)
        say(name, path);
    errno = EIO;
    return now;
}

static void hold(int fd)
{
    char path[4096];
    const char *file = getenv("DISK_HOLD");
    while (file && is_of_the_store(fd, path) && access(file, F_OK) == 0)
        poll(NULL, 0, 5);
}

static int flush(long call, const char *name, int fd)
{
    hold(fd);
    return fails('s', name, fd) ? -1 : (int)syscall(call, fd);
}

int fsync(int fd) { return flush(SYS_fsync, "fsync", fd); }
int fdatasync(int fd) { return flush(SYS_fdatasync, "fdatasync", fd); }

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at)
{
    return fails('w', "pwrite", fd) ? -1 : (ssize_t)syscall(SYS_pwrite64, fd, data, len, at);
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at) { return pwrite64(fd, data, len, at); }
