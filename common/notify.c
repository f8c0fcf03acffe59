#include "common/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/options.h"

#define BEAT NS_PER_S
#define FILE_SIZE 256u                   /* always as long, so that one write replaces the last one whole */

struct notify {
    struct loop *loop;
    struct notify_source source;
    struct loop_timer beat;
    int64_t every;
    int socket, file;
    struct sockaddr_un to;
    socklen_t to_len;
    bool watchdog, stopping;
    char path[PATH_MAX];
    char status[NOTIFY_TEXT];            /* as told last */
};

/* ---- systemd ---- */

static int open_socket(struct notify *self, struct why *why)
{
    const char *name = getenv("NOTIFY_SOCKET");
    if (!name || name[0] == '\0')
        return 0;
    size_t len = strlen(name);
    if ((name[0] != '/' && name[0] != '@') || len < 2 || len >= sizeof self->to.sun_path)
        return why_set(why, "NOTIFY_SOCKET '%.200s' is neither a path nor an abstract name; leave it to systemd to set it", name);
    self->to.sun_family = AF_UNIX;
    memcpy(self->to.sun_path, name, len);
    if (name[0] == '@')
        self->to.sun_path[0] = '\0';
    self->to_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    self->socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return self->socket >= 0 ? 0 : why_set(why, "no socket for NOTIFY_SOCKET: %s", strerror(errno));
}

/* A third of what the watcher allows: one that comes late is no alarm yet. */
static void read_watchdog(struct notify *self)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    uint64_t us = 0, who = 0;
    struct why ignored;
    bool ours = !pid || (parse_u64(pid, 1, INT_MAX, &who, &ignored) == 0 && (pid_t)who == getpid());
    if (self->socket < 0 || !usec || !ours || parse_u64(usec, 1, UINT32_MAX, &us, &ignored) < 0)
        return;
    self->watchdog = true;
    if ((int64_t)us * NS_PER_US / 3 < self->every)
        self->every = (int64_t)us * NS_PER_US / 3;
}

/* A watcher that doesn't read is its own fault: what can't be sent now is said again with the next change. */
static void tell(struct notify *self, const char *text)
{
    if (self->socket >= 0)
        (void)sendto(self->socket, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT, (const struct sockaddr *)&self->to, self->to_len);
}

/* ---- the file ---- */

static int open_file(struct notify *self, const char *path, struct why *why)
{
    if (!path || path[0] == '\0')
        return 0;
    if (strlen(path) >= sizeof self->path)
        return why_set(why, "--health-file %.200s...: this path is too long", path);
    self->file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (self->file < 0)
        return why_set(why, "--health-file %.200s can't be written: %s; name a file in a folder that exists, best in memory (/run, /tmp)", path, strerror(errno));
    memcpy(self->path, path, strlen(path) + 1);
    return 0;
}

static void write_file(struct notify *self, bool serving, const char *text)
{
    char line[FILE_SIZE + 1];
    if (self->file < 0)
        return;
    int n = snprintf(line, sizeof line, "%s %" PRId64 " %s", serving ? "serving" : "away", mono_now().ns / NS_PER_MS, text);
    size_t len = n < 0 ? 0 : (size_t)n < FILE_SIZE ? (size_t)n : FILE_SIZE - 1;
    memset(line + len, ' ', FILE_SIZE - len);
    line[FILE_SIZE - 1] = '\n';
    /* What can't be written is what a reader sees as stale. */
    (void)!pwrite(self->file, line, FILE_SIZE, 0);
}

static bool cut(char *line, char **ret_rest)
{
    char *blank = strchr(line, ' ');
    if (!blank)
        return false;
    *blank = '\0';
    *ret_rest = blank + 1;
    return true;
}

enum health notify_health(const char *path, struct why *why)
{
    char line[FILE_SIZE + 1], *at_text, *text;
    int64_t at = 0;
    struct why ignored;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, line, FILE_SIZE);
    int error = errno;
    if (fd >= 0)
        close(fd);
    if (n < 0) {
        why_set(why, "%.200s: %s; is the process started, with --health-file and this path?", path, strerror(error));
        return HEALTH_DEAD;
    }
    line[n] = '\0';
    line[strcspn(line, "\n")] = '\0';
    bool known = cut(line, &at_text) && cut(at_text, &text) && parse_i64(at_text, 0, INT64_MAX, &at, &ignored) == 0;
    if (!known || (strcmp(line, "serving") != 0 && strcmp(line, "away") != 0)) {
        why_set(why, "%.200s is not the health file of a process that has begun to serve", path);
        return HEALTH_DEAD;
    }
    for (size_t len = strlen(text); len > 0 && text[len - 1] == ' '; len--)
        text[len - 1] = '\0';
    int64_t age = mono_now().ns / NS_PER_MS - at;
    if (age < 0 || age > HEALTH_STALE_S * 1000) {
        why_set(why, "the process stands still: its last sign of life is %" PRId64 " s old (it said: %.150s); look at its log and the load", age / 1000, text);
        return HEALTH_DEAD;
    }
    why_set(why, "%.300s", text);
    return strcmp(line, "serving") == 0 ? HEALTH_SERVING : HEALTH_AWAY;
}

/* ---- beats ---- */

static void beat(void *arg)
{
    struct notify *self = arg;
    char text[NOTIFY_TEXT] = "", datagram[NOTIFY_TEXT + 40];
    bool serving = self->source.serving(self->source.arg, text) && !self->stopping;
    write_file(self, serving, self->stopping ? "stopping" : text);
    if (strcmp(text, self->status) != 0) {
        memcpy(self->status, text, sizeof text);
        snprintf(datagram, sizeof datagram, "STATUS=%s\n", text);
        tell(self, datagram);
    }
    if (self->watchdog)
        tell(self, "WATCHDOG=1\n");
    /* Without memory for a timer there are no more beats: whoever watches finds out. */
    if (self->socket >= 0 || self->file >= 0)
        (void)loop_timer_set(self->loop, &self->beat, mono_add(mono_now(), self->every));
}

void notify_ready(struct notify *self)
{
    tell(self, "READY=1\n");
    beat(self);
}

void notify_stopping(struct notify *self)
{
    if (self->stopping)
        return;
    self->stopping = true;
    tell(self, "STOPPING=1\n");
    if (self->beat.place != 0)
        beat(self);
}

/* ---- beginning and ending ---- */

struct notify *notify_new(struct loop *loop, const char *health_file, const struct notify_source *source, struct why *why)
{
    struct notify *self = calloc(1, sizeof *self);
    if (!self) {
        why_set(why, "no memory to begin with");
        return NULL;
    }
    self->loop = loop;
    self->source = *source;
    self->every = BEAT;
    self->socket = self->file = -1;
    self->beat = (struct loop_timer){.fire = beat, .arg = self};
    int error = open_socket(self, why);
    read_watchdog(self);
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    if (error == 0 && open_file(self, health_file, why) == 0)
        return self;
    notify_destroy(&self);
    return NULL;
}

void notify_destroy(struct notify **self_p)
{
    struct notify *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    loop_timer_clear(self->loop, &self->beat);
    if (self->socket >= 0)
        close(self->socket);
    if (self->file >= 0) {
        close(self->file);
        unlink(self->path);
    }
    free(self);
}
