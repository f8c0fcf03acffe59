/* Finding and signalling every descendant.
 *
 * What can go wrong, and the answer: a pid is used again between the look and the signal. Children
 * of our own can't be, as long as nobody reaps them during a pass; for the others a pidfd is opened
 * first, and the signal goes out only if the start time is still the one that was seen.
 * Without memory a pass does what it can: the caller repeats it as long as anything is alive. */
#include "worker/sweep.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/keeper_wire.h"

#define STAT_SIZE 1024             /* the fields up to the start time take less than 300 bytes */
enum stat_field { FIELD_PARENT = 4, FIELD_GROUP = 5, FIELD_THREADS = 20, FIELD_BORN = 22, FIELD_END };

/* ---- reading /proc ---- */

static uint64_t number_at(const char **text_p)
{
    const char *text = *text_p;
    uint64_t number = 0;
    while (*text >= '0' && *text <= '9')
        number = number * 10 + (uint64_t)(*text++ - '0');
    *text_p = text;
    return number;
}

static pid_t pid_of(const char *name)
{
    uint64_t pid = number_at(&name);
    return *name == '\0' && pid <= INT32_MAX ? (pid_t)pid : 0;
}

/* Reads at most size - 1 bytes and ends them with a NUL; -1 when the process is gone. */
static ssize_t read_file(const char *path, char *to, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t len = 0, got;
    while ((size_t)len < size - 1 && (got = read(fd, to + len, size - 1 - (size_t)len)) > 0)
        len += got;
    close(fd);
    to[len] = '\0';
    return len;
}

static bool look_at(pid_t pid, struct sweep_process *ret_process)
{
    char path[32], text[STAT_SIZE];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (read_file(path, text, sizeof text) <= 0)
        return false;
    /* The name is in parentheses and may hold any byte, so the fields start behind the last one. */
    const char *field = strrchr(text, ')');
    if (!field)
        return false;
    uint64_t value[FIELD_END] = {0};
    if (field[1] != ' ' || field[2] == '\0')
        return false;
    char state = field[2];
    field += 3;
    for (int i = FIELD_PARENT; i < FIELD_END; i++) {
        if (*field++ != ' ')
            return false;
        field += *field == '-';    /* only fields that are of no interest are ever negative */
        value[i] = number_at(&field);
    }
    /* When the first thread has ended, the state says Z although others still run. */
    *ret_process = (struct sweep_process){
        .pid = pid, .parent = (pid_t)value[FIELD_PARENT], .group = (pid_t)value[FIELD_GROUP],
        .born = value[FIELD_BORN], .dead = state == 'X' || (state == 'Z' && value[FIELD_THREADS] <= 1),
    };
    return true;
}

/* ---- the walk ---- */

static bool reserve(void **memory_p, size_t *room, size_t wanted, size_t each)
{
    if (wanted <= *room)
        return true;
    size_t more = *room ? *room * 2 : 64;
    if (more < wanted)
        more = wanted;
    void *memory = reallocarray(*memory_p, more, each);
    if (!memory)
        return false;
    *memory_p = memory;
    *room = more;
    return true;
}

static void add_found(struct sweep *self, const struct sweep_process *process)
{
    void *memory = self->found;
    bool fits = reserve(&memory, &self->found_room, self->n_found + 1, sizeof *self->found);
    self->found = memory;
    if (fits)
        self->found[self->n_found++] = *process;
}

/* The whole of a file lies in scratch afterwards, or as much of it as there is memory for; -1 when it can't be read. */
static ssize_t read_whole(struct sweep *self, const char *path)
{
    size_t wanted = 4096;
    for (;;) {
        void *memory = self->scratch;
        bool fits = reserve(&memory, &self->scratch_room, wanted, 1);
        self->scratch = memory;
        if (!self->scratch)
            return -1;
        ssize_t len = read_file(path, self->scratch, self->scratch_room);
        if (len < 0 || !fits || (size_t)len < self->scratch_room - 1)
            return len;
        wanted = 2 * self->scratch_room;
    }
}

static bool add_children_of_thread(struct sweep *self, pid_t pid, pid_t thread)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)thread);
    if (read_whole(self, path) < 0)
        return false;
    for (const char *at = self->scratch; *at; at++) {
        struct sweep_process process;
        pid_t child = (pid_t)number_at(&at);
        /* Another parent means that the number was used again, or that the child came to us meanwhile:
         * then the next pass finds it. */
        if (look_at(child, &process) && process.parent == pid)
            add_found(self, &process);
        if (*at == '\0')
            break;
    }
    return true;
}

/* False when this kernel has no `children` files. */
static bool add_children(struct sweep *self, pid_t pid)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *folder = opendir(path);
    if (!folder)
        return true;               /* it is gone, and its children are ours now: the next pass sees them */
    bool any = false, known = false;
    for (struct dirent *entry; (entry = readdir(folder)); ) {
        pid_t thread = pid_of(entry->d_name);
        if (thread <= 0)
            continue;
        any = true;
        known = add_children_of_thread(self, pid, thread) || known;
    }
    closedir(folder);
    return known || !any;
}

static void walk_tree(struct sweep *self)
{
    self->slow = !add_children(self, getpid());
    for (size_t i = 0; i < self->n_found; i++) {
        if (!self->found[i].dead)
            add_children(self, self->found[i].pid);
    }
}

static void find_all(struct sweep *self)
{
    DIR *folder = opendir("/proc");
    if (!folder)
        return;
    for (struct dirent *entry; (entry = readdir(folder)); ) {
        struct sweep_process process;
        pid_t pid = pid_of(entry->d_name);
        if (pid > 0 && look_at(pid, &process))
            add_found(self, &process);
    }
    closedir(folder);
}

static void move_to_front(struct sweep *self, size_t i, size_t *ours)
{
    struct sweep_process chosen = self->found[i];
    self->found[i] = self->found[*ours];
    self->found[(*ours)++] = chosen;
}

static void move_children(struct sweep *self, pid_t parent, size_t *ours)
{
    for (size_t i = *ours; i < self->n_found; i++)
        if (self->found[i].parent == parent)
            move_to_front(self, i, ours);
}

/* The slow way, for kernels without `children` files: every process of the machine, and then those
 * whose line of parents leads to us. */
static void walk_all(struct sweep *self)
{
    size_t ours = 0;
    find_all(self);
    move_children(self, getpid(), &ours);
    for (size_t looked = 0; looked < ours; looked++)
        move_children(self, self->found[looked].pid, &ours);
    self->n_found = ours;
}

/* ---- counting and signalling ---- */

/* Without memory a pid counts as known: counting may fall short, ending may not. */
bool sweep_learn(struct sweep *self, pid_t pid)
{
    size_t low = 0, high = self->n_known;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (self->known[middle] < pid)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < self->n_known && self->known[low] == pid)
        return false;
    void *memory = self->known;
    bool fits = reserve(&memory, &self->known_room, self->n_known + 1, sizeof *self->known);
    self->known = memory;
    if (!fits)
        return false;
    memmove(self->known + low + 1, self->known + low, (self->n_known - low) * sizeof *self->known);
    self->known[low] = pid;
    self->n_known++;
    return true;
}

static void send_one(const struct sweep_process *process, int signal)
{
    if (process->parent == getpid()) {
        kill(process->pid, signal);          /* not reaped yet, so the number is still its own */
        if (signal == SIGTERM)
            kill(process->pid, SIGCONT);
        return;
    }
    int pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0);
    struct sweep_process now;
    if (pidfd >= 0 && look_at(process->pid, &now) && now.born == process->born) {
        syscall(SYS_pidfd_send_signal, pidfd, signal, NULL, 0);
        if (signal == SIGTERM)
            syscall(SYS_pidfd_send_signal, pidfd, SIGCONT, NULL, 0);
    }
    if (pidfd >= 0)
        close(pidfd);
}

/* Killing a group is one step for the kernel, which no fork inside the group can outrun. Groups lie
 * within sessions and every session here was made by a descendant, so all members are descendants. */
static void kill_groups(const struct sweep *self)
{
    pid_t us = getpid(), our_group = getpgrp(), last = 0;
    for (size_t i = 0; i < self->n_found; i++) {
        const struct sweep_process *process = &self->found[i];
        if (process->parent != us || process->group <= 1 || process->group == our_group || process->group == last)
            continue;
        kill(-process->group, SIGKILL);
        last = process->group;
    }
}

size_t sweep_signal(struct sweep *self, int signal, pid_t spared)
{
    self->n_found = 0;
    if (!self->slow)
        walk_tree(self);
    if (self->slow)
        walk_all(self);
    if (signal == SIGKILL)
        kill_groups(self);

    size_t n_new = 0;
    for (size_t i = 0; i < self->n_found; i++) {
        const struct sweep_process *process = &self->found[i];
        bool is_spared = spared != 0 && process->group == spared;
        if (process->dead || (is_spared && signal != SIGKILL))
            continue;
        send_one(process, signal);
        if (!is_spared && sweep_learn(self, process->pid))
            n_new++;
    }
    return n_new;
}

/* ---- strays ---- */

static bool runs_our_program(pid_t pid)
{
    struct stat ours, theirs;
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
    return stat(path, &theirs) == 0 && stat("/proc/self/exe", &ours) == 0 && ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev;
}

/* The other slots' keepers, and those of a worker that ran as a task: they leave by themselves when their worker does. */
static bool is_keeper(struct sweep *self, pid_t pid)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    return runs_our_program(pid) && read_whole(self, path) > 0 && strcmp(self->scratch, KEEPER_NAME) == 0;
}

static bool has_mark(struct sweep *self, pid_t pid, const char *mark, size_t size)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
    ssize_t len = read_whole(self, path);
    return len > 0 && memmem(self->scratch, (size_t)len + 1, mark, size) != NULL;
}

static bool was_killed(const struct sweep *self, const struct sweep_process *process)
{
    for (size_t i = 0; i < self->n_killed; i++)
        if (self->killed[i].pid == process->pid && self->killed[i].born == process->born)
            return true;
    return false;
}

static void remember_killed(struct sweep *self, const struct sweep_process *process)
{
    if (was_killed(self, process))
        return;
    void *memory = self->killed;
    bool fits = reserve(&memory, &self->killed_room, self->n_killed + 1, sizeof *self->killed);
    self->killed = memory;
    if (fits)
        self->killed[self->n_killed++] = *process;
}

/* One that runs our program as a child of the worker may be a keeper that is just being started. */
static bool is_stray(struct sweep *self, const struct sweep_process *process, const char *mark, size_t size, pid_t parent)
{
    if (process->dead || process->pid == getpid() || process->pid == parent)
        return false;
    if (was_killed(self, process))
        return true;
    bool orphan = parent != 0 && process->parent == parent && !runs_our_program(process->pid);
    return orphan || (has_mark(self, process->pid, mark, size) && !is_keeper(self, process->pid));
}

size_t sweep_strays(struct sweep *self, const char *name, const char *value, pid_t parent)
{
    char mark[128];
    int len = snprintf(mark, sizeof mark, "%s=%s", name, value);
    size_t ours = 0, alive = 0;
    self->n_found = 0;
    find_all(self);
    for (size_t i = 0; i < self->n_found; i++)
        if (is_stray(self, &self->found[i], mark, (size_t)len + 1, parent))
            move_to_front(self, i, &ours);
    for (size_t looked = 0; looked < ours; looked++)
        move_children(self, self->found[looked].pid, &ours);
    self->n_found = ours;
    for (size_t i = 0; i < self->n_found; i++) {
        if (self->found[i].dead || is_keeper(self, self->found[i].pid))
            continue;
        send_one(&self->found[i], SIGKILL);
        remember_killed(self, &self->found[i]);
        alive++;
    }
    return alive;
}

void sweep_describe(pid_t pid, char ret_name[SWEEP_NAME], char *ret_state)
{
    char path[32], text[STAT_SIZE];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (read_file(path, text, sizeof text) <= 0)
        return;
    char *name = strchr(text, '('), *end = strrchr(text, ')');
    if (!name || !end || end[1] != ' ' || end[2] == '\0')
        return;
    *end = '\0';
    snprintf(ret_name, SWEEP_NAME, "%s", name + 1);
    *ret_state = end[2];
}

void sweep_reset(struct sweep *self)
{
    self->n_found = 0;
    self->n_known = 0;
    self->n_killed = 0;
}

void sweep_clear(struct sweep *self)
{
    free(self->found);
    free(self->known);
    free(self->killed);
    free(self->scratch);
    *self = (struct sweep){0};
}
