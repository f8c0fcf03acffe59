/* Preloaded into a process: records what it does to the files of one folder, in the order in which it
 * happens, for tests/support/powercut.c to rebuild the folder from.
 *   POWERCUT_DIR     the folder
 *   POWERCUT_LABEL   how the record calls it
 *   POWERCUT_LOG     the record; several processes may share one
 *
 * An operation and its entry are done under one lock, so the order of entries is the order on the disk. A
 * sync has two entries, without the lock between them. SQLite's wal-index (-shm) is memory, not disk. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/support/powercut.h"

#define FDS 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX];                /* with a slash at its end; empty: nothing is recorded */
static size_t folder_len;
static const char *label = "";
static int log_fd = -1;
static bool tracked[FDS];                    /* of the folder's files, and of the folder */

__attribute__((constructor)) static void begin(void)
{
    const char *dir = getenv("POWERCUT_DIR"), *path = getenv("POWERCUT_LOG");
    if (!dir || !path)
        return;
    if (getenv("POWERCUT_LABEL"))
        label = getenv("POWERCUT_LABEL");
    /* The folder may not be there yet, its parent must be. */
    char parent[PATH_MAX], real[PATH_MAX];
    snprintf(parent, sizeof parent, "%s", dir);
    char *slash = strrchr(parent, '/');
    if (!slash)
        return;
    *slash = '\0';
    if (!realpath(parent, real))
        return;
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd >= 0)
        snprintf(folder, sizeof folder, "%.2000s/%.2000s/", real, slash + 1);
    folder_len = strlen(folder);
}

/* ---- the record ---- */

static void record(enum powercut_kind kind, int fd, uint64_t offset, const void *data, size_t len)
{
    struct powercut_entry entry = {.magic = POWERCUT_MAGIC, .kind = kind, .pid = (int32_t)getpid(), .tid = (int32_t)syscall(SYS_gettid),
                                   .fd = fd, .len = (uint32_t)len, .offset = offset};
    struct iovec parts[2] = {{&entry, sizeof entry}, {(void *)(uintptr_t)data, len}};
    int error = errno;
    if (syscall(SYS_writev, log_fd, parts, len > 0 ? 2 : 1) != (long)(sizeof entry + len)) {
        fputs("powercut: the record can't be written\n", stderr);
        abort();
    }
    errno = error;
}

static bool is_memory(const char *name)
{
    size_t len = strlen(name);
    return len > 4 && strcmp(name + len - 4, "-shm") == 0;
}

/* A name travels with the label of its folder. */
static void record_name(enum powercut_kind kind, int fd, const char *name)
{
    char text[PATH_MAX];
    int len = snprintf(text, sizeof text, "%.100s/%s", label, name);
    record(kind, fd, 0, text, (size_t)len);
}

/* The name in the folder, "" for the folder itself; NULL: it is elsewhere, or memory. */
static const char *name_of(char *whole)
{
    if (folder_len > 0 && strncmp(whole, folder, folder_len - 1) == 0) {
        if (whole[folder_len - 1] == '\0')
            return "";
        const char *name = whole + folder_len;
        if (whole[folder_len - 1] == '/' && !is_memory(name))
            return name;
    }
    return NULL;
}

static const char *name_of_fd(int fd, char whole[PATH_MAX])
{
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, whole, PATH_MAX - 1);
    whole[n > 0 ? n : 0] = '\0';
    return name_of(whole);
}

/* The same of a path that may not be there (any more): its folder must be. */
static const char *name_of_path(const char *path, char whole[PATH_MAX])
{
    char parent[PATH_MAX];
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (folder_len == 0 || !slash)
        return NULL;
    *slash = '\0';
    char *real = realpath(*parent ? parent : "/", NULL);
    snprintf(whole, PATH_MAX, "%.2000s/%.2000s", real ? real : "", slash + 1);
    free(real);
    return name_of(whole);
}

static bool is_tracked(int fd)
{
    return fd >= 0 && fd < FDS && tracked[fd];
}

/* ---- opening and closing ---- */

static int open_file(int at, const char *path, int flags, mode_t mode)
{
    char whole[PATH_MAX];
    if (folder_len == 0)
        return (int)syscall(SYS_openat, at, path, flags, mode);
    pthread_mutex_lock(&lock);
    int fd = (int)syscall(SYS_openat, at, path, flags, mode);
    int error = errno;
    const char *name = fd >= 0 ? name_of_fd(fd, whole) : NULL;
    if (name && fd >= FDS)
        abort();
    if (name) {
        tracked[fd] = true;
        record_name(*name ? POWERCUT_OPEN : POWERCUT_OPEN_FOLDER, fd, name);
        if (*name && (flags & O_TRUNC))
            record(POWERCUT_TRUNCATE, fd, 0, NULL, 0);
    } else if (fd >= 0 && fd < FDS) {
        tracked[fd] = false;
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return fd;
}

int openat(int at, const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    return open_file(at, path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    return open_file(AT_FDCWD, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) __attribute__((alias("openat")));
int open64(const char *path, int flags, ...) __attribute__((alias("open")));

/* The C library's own, or a sanitizer's, which must see what passes between threads by way of descriptors. */
#define NEXT(function)                                                          \
    static __typeof__(&(function)) next;                                        \
    if (!next)                                                                  \
        next = (__typeof__(&(function)))dlsym(RTLD_NEXT, #function)

int close(int fd)
{
    NEXT(close);
    if (!is_tracked(fd))
        return next(fd);
    pthread_mutex_lock(&lock);
    tracked[fd] = false;
    int r = next(fd);
    pthread_mutex_unlock(&lock);
    return r;
}

/* ---- writing ---- */

static atomic_bool is_full;

/* For the process itself: the disk has no room from now on, or has it again. */
void powercut_full(bool full);
void powercut_full(bool full)
{
    atomic_store(&is_full, full);
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at)
{
    NEXT(pwrite64);
    if (!is_tracked(fd))
        return next(fd, data, len, at);
    if (atomic_load(&is_full)) {
        errno = ENOSPC;
        return -1;
    }
    pthread_mutex_lock(&lock);
    ssize_t n = next(fd, data, len, at);
    if (n > 0)
        record(POWERCUT_WRITE, fd, (uint64_t)at, data, (size_t)n);
    pthread_mutex_unlock(&lock);
    return n;
}

ssize_t pwrite(int fd, const void *data, size_t len, off_t at) __attribute__((alias("pwrite64")));

ssize_t write(int fd, const void *data, size_t len)
{
    NEXT(write);
    if (!is_tracked(fd))
        return next(fd, data, len);
    pthread_mutex_lock(&lock);
    off_t at = lseek(fd, 0, SEEK_CUR);
    ssize_t n = next(fd, data, len);
    if (n > 0)
        record(POWERCUT_WRITE, fd, (uint64_t)at, data, (size_t)n);
    pthread_mutex_unlock(&lock);
    return n;
}

ssize_t writev(int fd, const struct iovec *parts, int n)
{
    NEXT(writev);
    if (!is_tracked(fd))
        return next(fd, parts, n);
    ssize_t sum = 0;
    for (int i = 0; i < n; i++) {
        ssize_t r = write(fd, parts[i].iov_base, parts[i].iov_len);
        if (r < 0)
            return sum > 0 ? sum : -1;
        sum += r;
        if ((size_t)r < parts[i].iov_len)
            break;
    }
    return sum;
}

int ftruncate64(int fd, off64_t len)
{
    NEXT(ftruncate64);
    if (!is_tracked(fd))
        return next(fd, len);
    pthread_mutex_lock(&lock);
    int r = next(fd, len);
    if (r == 0)
        record(POWERCUT_TRUNCATE, fd, (uint64_t)len, NULL, 0);
    pthread_mutex_unlock(&lock);
    return r;
}

int ftruncate(int fd, off_t len) __attribute__((alias("ftruncate64")));

int posix_fallocate64(int fd, off64_t at, off64_t len)
{
    NEXT(posix_fallocate64);
    if (!is_tracked(fd))
        return next(fd, at, len);
    pthread_mutex_lock(&lock);
    int r = next(fd, at, len);
    if (r == 0)
        record(POWERCUT_ALLOCATE, fd, (uint64_t)(at + len), NULL, 0);
    pthread_mutex_unlock(&lock);
    return r;
}

int posix_fallocate(int fd, off_t at, off_t len) __attribute__((alias("posix_fallocate64")));

/* A hole is zeros, which reach the disk or not as anything else that is written. */
static void record_hole(int fd, off64_t at, off64_t len)
{
    static const uint8_t zeros[1 << 16];
    for (off64_t end = at + len; at < end; at += (off64_t)sizeof zeros) {
        off64_t left = end - at;
        record(POWERCUT_WRITE, fd, (uint64_t)at, zeros, left < (off64_t)sizeof zeros ? (size_t)left : sizeof zeros);
    }
}

int fallocate64(int fd, int mode, off64_t at, off64_t len)
{
    NEXT(fallocate64);
    if (!is_tracked(fd))
        return next(fd, mode, at, len);
    pthread_mutex_lock(&lock);
    int r = next(fd, mode, at, len);
    if (r == 0 && mode & FALLOC_FL_PUNCH_HOLE)
        record_hole(fd, at, len);
    else if (r == 0)
        record(POWERCUT_ALLOCATE, fd, (uint64_t)(at + len), NULL, 0);
    pthread_mutex_unlock(&lock);
    return r;
}

int fallocate(int fd, int mode, off_t at, off_t len) __attribute__((alias("fallocate64")));

/* ---- syncs ---- */

static atomic_uint n_synced;                 /* of the database itself */

/* For the process itself: how often a *.db has been synced. */
unsigned powercut_synced(void);
unsigned powercut_synced(void)
{
    return atomic_load(&n_synced);
}

static bool is_database(int fd)
{
    char whole[PATH_MAX];
    const char *name = name_of_fd(fd, whole);
    size_t len = name ? strlen(name) : 0;
    return len > 3 && strcmp(name + len - 3, ".db") == 0;
}

static int sync_file(int fd, int (*next)(int))
{
    if (!is_tracked(fd))
        return next(fd);
    pthread_mutex_lock(&lock);
    record(POWERCUT_SYNC, fd, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    int r = next(fd);
    pthread_mutex_lock(&lock);
    if (r == 0)
        record(POWERCUT_SYNCED, fd, 0, NULL, 0);
    if (is_database(fd))
        atomic_fetch_add(&n_synced, 1);
    pthread_mutex_unlock(&lock);
    return r;
}

int fsync(int fd)
{
    NEXT(fsync);
    return sync_file(fd, next);
}

int fdatasync(int fd)
{
    NEXT(fdatasync);
    return sync_file(fd, next);
}

/* ---- names ---- */

int unlink(const char *path)
{
    NEXT(unlink);
    char whole[PATH_MAX];
    if (folder_len == 0)
        return next(path);
    pthread_mutex_lock(&lock);
    const char *name = name_of_path(path, whole);
    int r = next(path);
    if (r == 0 && name && *name)
        record_name(POWERCUT_UNLINK, -1, name);
    pthread_mutex_unlock(&lock);
    return r;
}

int rename(const char *from, const char *to)
{
    NEXT(rename);
    char whole_from[PATH_MAX], whole_to[PATH_MAX], both[2 * PATH_MAX];
    if (folder_len == 0)
        return next(from, to);
    pthread_mutex_lock(&lock);
    const char *old_name = name_of_path(from, whole_from), *new_name = name_of_path(to, whole_to);
    int r = next(from, to);
    if (r == 0 && old_name && new_name) {
        int len = snprintf(both, sizeof both, "%.100s/%s%c%.100s/%s", label, old_name, 0, label, new_name);
        record(POWERCUT_RENAME, -1, 0, both, (size_t)len);
    }
    pthread_mutex_unlock(&lock);
    return r;
}
