/* Clocks: reading them, and adding to them without ever wrapping round. */
#include "common/clock.h"

#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int64_t read_clock(clockid_t clock)
{
    struct timespec ts = {0};
    /* Both clocks exist on every kernel that we run on, and the pointer is good: it can't fail. */
    (void)clock_gettime(clock, &ts);
    return (int64_t)ts.tv_sec * NS_PER_S + ts.tv_nsec;
}

mono_t mono_now(void) { return (mono_t){read_clock(CLOCK_BOOTTIME)}; }

wall_t wall_now(void) { return (wall_t){read_clock(CLOCK_REALTIME)}; }

mono_t mono_add(mono_t t, int64_t ns)
{
    int64_t sum;
    if (mono_is_never(t))
        return t;
    if (__builtin_add_overflow(t.ns, ns, &sum))
        return ns > 0 ? MONO_NEVER : (mono_t){INT64_MIN};
    return (mono_t){sum};
}

void boot_id(char out[37])
{
    ssize_t n = -1;
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        n = read(fd, out, 36);
        close(fd);
    }
    /* Half an id would compare unequal to itself at the next start: better none at all. */
    out[n == 36 ? 36 : 0] = '\0';
}

const char *wall_text(wall_t t, char out[32])
{
    time_t seconds = (time_t)(t.ns / NS_PER_S);
    struct tm parts;
    if (gmtime_r(&seconds, &parts) == NULL || strftime(out, 32, "%Y-%m-%d %H:%M:%S UTC", &parts) == 0)
        memcpy(out, "some time ago", sizeof "some time ago");
    return out;
}
