/* Faults in regular files, also those of SQLite: its calls come here since a program's own functions go before
 * those of the libraries. Include it in one file of a test program. Flushes are only pretended to: what a
 * power cut does is another test's, and here they would be most of the time. */
#ifndef TESTS_SUPPORT_FAIL_FILES_H
#define TESTS_SUPPORT_FAIL_FILES_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/support/fail.h"

static const char *fail_folder;          /* files are opened with faults only below it; NULL: none */

static bool fail_is_file(int fd)
{
    struct stat found;
    return fstat(fd, &found) == 0 && S_ISREG(found.st_mode);
}

static bool fail_file_refuses(unsigned kind)
{
    int error;
    if (!fail_due(kind, &error) || error == FAIL_SHORT)
        return false;
    errno = error;
    return true;
}

static int fail_open_file(const char *path, int flags, mode_t mode)
{
    bool ours = fail_folder && strncmp(path, fail_folder, strlen(fail_folder)) == 0;
    if (ours && fail_file_refuses(FAIL_FILE_OPEN))
        return -1;
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? (mode_t)va_arg(args, int) : 0;
    va_end(args);
    return fail_open_file(path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = flags & O_CREAT ? (mode_t)va_arg(args, int) : 0;
    va_end(args);
    return fail_open_file(path, flags, mode);
}

/* -1, or how much of `len` may be transferred. */
static ssize_t fail_allows(int fd, unsigned kind, size_t len)
{
    int error;
    if (!fail_is_file(fd) || !fail_due(kind, &error))
        return (ssize_t)len;
    if (error == FAIL_SHORT)
        return (ssize_t)(len > 1 ? len / 2 : len);
    errno = error;
    return -1;
}

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at)
{
    ssize_t n = fail_allows(fd, FAIL_FILE_WRITE, len);
    return n < 0 ? n : (ssize_t)syscall(SYS_pwrite64, fd, data, (size_t)n, at);
}

ssize_t pread64(int fd, void *data, size_t len, off64_t at)
{
    ssize_t n = fail_allows(fd, FAIL_FILE_READ, len);
    return n < 0 ? n : (ssize_t)syscall(SYS_pread64, fd, data, (size_t)n, at);
}

static int fail_sync(int fd)
{
    return fail_file_refuses(fail_is_file(fd) ? FAIL_FILE_SYNC : FAIL_FOLDER_SYNC) ? -1 : 0;
}

int fsync(int fd) { return fail_sync(fd); }
int fdatasync(int fd) { return fail_sync(fd); }

int ftruncate64(int fd, off64_t len)
{
    return fail_file_refuses(FAIL_FILE_SIZE) ? -1 : (int)syscall(SYS_ftruncate, fd, len);
}

int ftruncate(int fd, off_t len)
{
    return fail_file_refuses(FAIL_FILE_SIZE) ? -1 : (int)syscall(SYS_ftruncate, fd, len);
}

/* This one returns its error. The room is only pretended to: filling it is most of the time. */
int posix_fallocate(int fd, off_t at, off_t len)
{
    if (fail_file_refuses(FAIL_FILE_ROOM))
        return errno;
    return syscall(SYS_ftruncate, fd, at + len) < 0 ? errno : 0;
}

#endif
