#include "worker/cgroup_limit.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/cgroup.h"

int cgroup_limit_open(struct cgroup_limit *self, enum cgroup_control control, const char *folder, const char *group)
{
    *self = (struct cgroup_limit){.control = control, .dir = -1, .procs = -1, .is_v2 = strcmp(folder, group) == 0};
    int n = snprintf(self->folder, sizeof self->folder, "%s", folder);
    if (n < 0 || (size_t)n >= sizeof self->folder)
        return -ENAMETOOLONG;
    if (mkdir(folder, 0755) < 0 && errno != EEXIST)
        return -errno;
    self->dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (self->dir >= 0 && !self->is_v2)
        self->procs = openat(self->dir, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    if (self->dir >= 0 && (self->is_v2 || self->procs >= 0))
        return 0;
    int error = errno;
    cgroup_limit_close(self);
    return -error;
}

uint64_t cgroup_number(int dir, const char *name, const char *word)
{
    char text[1024];
    uint64_t number = 0;
    size_t len = strlen(word);
    int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0)
        close(fd);
    text[got > 0 ? got : 0] = '\0';
    for (const char *line = text; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
        if (strncmp(line, word, len) != 0 || line[len] != ' ')
            continue;
        for (const char *c = line + len + 1; *c >= '0' && *c <= '9'; c++)
            number = number * 10 + (uint64_t)(*c - '0');
        return number;
    }
    return 0;
}

static uint64_t hits(const struct cgroup_limit *self)
{
    if (self->control == CONTROL_PIDS)
        return cgroup_number(self->dir, "pids.events", "max");
    return cgroup_number(self->dir, self->is_v2 ? "memory.events" : "memory.oom_control", "oom_kill");
}

static int set_memory(const struct cgroup_limit *self, const char *word, bool lower)
{
    if (self->is_v2) {
        /* Swap would only make it slow; and of an attempt that lost one process, none is to go on. Kernels may lack either. */
        (void)cgroup_write(self->dir, "memory.swap.max", strcmp(word, "max") == 0 ? "max" : "0");
        (void)cgroup_write(self->dir, "memory.oom.group", "1");
        return cgroup_write(self->dir, "memory.max", word);
    }
    /* Memory with swap may never be limited to less than memory alone: the order depends on the direction. */
    if (!lower)
        (void)cgroup_write(self->dir, "memory.memsw.limit_in_bytes", word);
    int result = cgroup_write(self->dir, "memory.limit_in_bytes", word);
    if (lower)
        (void)cgroup_write(self->dir, "memory.memsw.limit_in_bytes", word);
    return result;
}

int cgroup_limit_begin(struct cgroup_limit *self, uint64_t value)
{
    char word[32];
    int result = 0;
    if (self->dir < 0)
        return value == 0 ? 0 : -ENODEV;
    if (value != self->set) {
        snprintf(word, sizeof word, "%" PRIu64, value);
        bool lower = self->set == 0 || (value != 0 && value < self->set);
        if (value == 0)
            snprintf(word, sizeof word, "%s", self->is_v2 || self->control == CONTROL_PIDS ? "max" : "-1");
        result = self->control == CONTROL_PIDS ? cgroup_write(self->dir, "pids.max", word) : set_memory(self, word, lower);
        if (result == 0)
            self->set = value;
    }
    if (value != 0)
        self->hits = hits(self);
    return result;
}

bool cgroup_limit_was_hit(const struct cgroup_limit *self) { return self->dir >= 0 && self->set != 0 && hits(self) > self->hits; }

void cgroup_limit_close(struct cgroup_limit *self)
{
    if (self->procs >= 0)
        close(self->procs);
    if (self->dir >= 0)
        close(self->dir);
    self->procs = self->dir = -1;
    if (!self->is_v2 && self->folder[0] != '\0')
        rmdir(self->folder);
    self->folder[0] = '\0';
}
