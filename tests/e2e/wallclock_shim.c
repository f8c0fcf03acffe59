/* Preloaded into a process: its wall clock is off by the number of seconds in the file WALLCLOCK_OFFSET, which is read
 * at every look at the clock, so that a test steps the clock by rewriting the file. All other clocks are left alone.
 * (libfaketime would do too, with FAKETIME_DONT_FAKE_MONOTONIC and no cache; without them it shifts CLOCK_BOOTTIME.) */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const char *offset_file;

__attribute__((constructor)) static void begin(void) { offset_file = getenv("WALLCLOCK_OFFSET"); }

static time_t offset(void)
{
    char text[32] = "";
    int fd = offset_file ? (int)syscall(SYS_openat, AT_FDCWD, offset_file, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    return n > 0 ? (time_t)atoll(text) : 0;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int rc = (int)syscall(SYS_clock_gettime, clock, now);
    if (rc == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += offset();
    return rc;
}

time_t time(time_t *out)
{
    struct timespec now = {0};
    clock_gettime(CLOCK_REALTIME, &now);
    if (out)
        *out = now.tv_sec;
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec now = {0};
    (void)zone;
    int rc = clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return rc;
}
