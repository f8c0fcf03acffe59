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
#include <sys/syscall.h>
#include <unistd.h>

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

/* The whole of a `children` file lies in scratch afterwards, or as much of it as there is memory for;
 * false when there is no such file. */
static bool read_children(struct sweep *self, pid_t pid, pid_t thread)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)thread);
    size_t wanted = 4096;
    for (;;) {
        void *memory = self->scratch;
        bool fits = reserve(&memory, &self->scratch_room, wanted, 1);
        self->scratch = memory;
        if (!self->scratch)
            return false;
        ssize_t len = read_file(path, self->scratch, self->scratch_room);
        if (len < 0 || !fits || (size_t)len < self->scratch_room - 1)
            return len >= 0;
        wanted = 2 * self->scratch_room;
    }
}

static bool add_children_of_thread(struct sweep *self, pid_t pid, pid_t thread)
{
    if (!read_children(self, pid, thread))
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

/* The slow way, for kernels without `children` files: every process of the machine, and then those
 * whose line of parents leads to us. */
static void walk_all(struct sweep *self)
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

    size_t ours = 0, looked = 0;
    pid_t parent = getpid();
    for (;;) {
        for (size_t i = ours; i < self->n_found; i++) {
            if (self->found[i].parent != parent)
                continue;
            struct sweep_process child = self->found[i];
            self->found[i] = self->found[ours];
            self->found[ours++] = child;
        }
        if (looked == ours)
            break;
        parent = self->found[looked++].pid;
    }
    self->n_found = ours;
}

/* ---- counting and signalling ---- */

/* True when the pid was not known. Without memory it counts as known: counting may fall short, ending may not. */
static bool learn(struct sweep *self, pid_t pid)
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
        if (!is_spared && learn(self, process->pid))
            n_new++;
    }
    return n_new;
}

void sweep_reset(struct sweep *self)
{
    self->n_found = 0;
    self->n_known = 0;
}

void sweep_clear(struct sweep *self)
{
    free(self->found);
    free(self->known);
    free(self->scratch);
    *self = (struct sweep){0};
}
