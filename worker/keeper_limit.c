/* The limits of an attempt, each by what binds it:
 *
 *   memory, processes   the controller of a group, for the attempt as a whole
 *   CPU time            RLIMIT_CPU for each process, and where the slot has a group, its clock for all of them together
 *   open files          RLIMIT_NOFILE for each process, as the word says
 *
 * What was hit is found out at the end: only of an attempt that failed, since one that coped has not been ended by it. */
#include "worker/keeper_private.h"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#define SOONEST_LOOK (10 * NS_PER_MS)
#define HARD_AFTER 2               /* seconds of CPU time between SIGXCPU, which a program may catch, and SIGKILL */

static uint64_t reaped_cpu(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_CHILDREN, &usage) < 0)
        return 0;
    int64_t s = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec, us = usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
    return (uint64_t)(s * NS_PER_S + us * NS_PER_US);
}

static void look_again(struct process *self, uint64_t left)
{
    /* All processors together can't use it up sooner. */
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    int64_t wait = (int64_t)left / (n > 0 ? n : 1);
    self->cpu_at = mono_add(mono_now(), wait > SOONEST_LOOK ? wait : SOONEST_LOOK);
}

static void begin_cpu(struct process *self, uint64_t limit)
{
    self->cpu_spent = false;
    self->cpu_at = MONO_NEVER;
    if (limit == 0)
        return;
    self->reaped_before = reaped_cpu();
    self->cpu_before = cgroup_slot_cpu(&self->group);
    if (self->group.dir >= 0)
        look_again(self, limit);
}

int keeper_limits_begin(struct process *self, struct keeper_limits *ret)
{
    static const enum limit_kind of_control[CONTROLS] = {[CONTROL_MEMORY] = LIMIT_MEMORY, [CONTROL_PIDS] = LIMIT_PROCESSES};
    const uint64_t *of = self->run.limits;
    *ret = (struct keeper_limits){0};
    if (self->group.dir >= 0)
        ret->groups[ret->n_groups++] = self->group.procs;
    for (int i = 0; i < CONTROLS; i++) {
        uint64_t value = of[of_control[i]];
        int error = cgroup_limit_begin(&self->control[i], value);
        if (error < 0)
            return error;
        if (value != 0 && self->control[i].procs >= 0)
            ret->groups[ret->n_groups++] = self->control[i].procs;
    }
    /* Of a process that serves many tasks the kernel would count them all: only the group's clock can tell them apart. */
    if (of[LIMIT_CPU] != 0 && !self->run.persistent) {
        uint64_t s = (of[LIMIT_CPU] + NS_PER_S - 1) / NS_PER_S;
        ret->limits[ret->n_limits++] = (struct spawn_limit){.resource = RLIMIT_CPU, .soft = s, .hard = s + HARD_AFTER};
    }
    if (of[LIMIT_FILES] != 0)
        ret->limits[ret->n_limits++] = (struct spawn_limit){.resource = RLIMIT_NOFILE, .soft = of[LIMIT_FILES], .hard = of[LIMIT_FILES]};
    begin_cpu(self, of[LIMIT_CPU]);
    return 0;
}

bool keeper_limits_spent(struct process *self)
{
    uint64_t limit = self->run.limits[LIMIT_CPU], used = cgroup_slot_cpu(&self->group) - self->cpu_before;
    self->cpu_spent = used >= limit;
    if (self->cpu_spent)
        self->cpu_at = MONO_NEVER;
    else
        look_again(self, limit - used);
    return self->cpu_spent;
}

static bool cpu_was_hit(const struct process *self)
{
    uint64_t limit = self->run.limits[LIMIT_CPU];
    if (limit == 0 || self->run.persistent)
        return self->cpu_spent && limit != 0;
    return self->cpu_spent || (self->report.how == KEEPER_SIGNALLED && self->report.code == SIGXCPU)
        || reaped_cpu() - self->reaped_before >= limit;
}

void keeper_limits_end(struct process *self)
{
    bool coped = self->report.how == KEEPER_NOT_STARTED || (self->report.how == KEEPER_EXITED && self->report.code == 0 && !self->cpu_spent);
    int hit = coped ? -1
            : cgroup_limit_was_hit(&self->control[CONTROL_MEMORY]) ? LIMIT_MEMORY
            : cpu_was_hit(self) ? LIMIT_CPU
            : cgroup_limit_was_hit(&self->control[CONTROL_PIDS]) ? LIMIT_PROCESSES : -1;
    self->report.limit = (uint32_t)(hit + 1);
    self->cpu_at = MONO_NEVER;
}
