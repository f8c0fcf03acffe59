/* A controller that holds a slot's attempts to a limit: memory or the number of processes, in the slot's own cgroup2
 * group or in a group of the older hierarchy that has the controller. */
#ifndef WORKER_CGROUP_LIMIT_H
#define WORKER_CGROUP_LIMIT_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

enum cgroup_control { CONTROL_MEMORY, CONTROL_PIDS, CONTROLS };

struct cgroup_limit {
    enum cgroup_control control;
    bool is_v2;                    /* the slot's own group: entered and removed as that */
    char folder[PATH_MAX];
    int dir, procs;                /* dir -1: there is none. procs: of the older hierarchy only */
    uint64_t set;                  /* now; 0: none */
    uint64_t hits;                 /* when the attempt began */
};

/* The number behind `word` in a group's file of lines "word number"; 0: there is none. */
uint64_t cgroup_number(int dir, const char *name, const char *word);

/* `group`: of the slot in cgroup2, or empty. 0 or -errno. */
int cgroup_limit_open(struct cgroup_limit *self, enum cgroup_control control, const char *folder, const char *group);
/* Before an attempt: 0 is none. 0 or -errno. */
int cgroup_limit_begin(struct cgroup_limit *self, uint64_t value);
bool cgroup_limit_was_hit(const struct cgroup_limit *self);    /* since it began */
void cgroup_limit_close(struct cgroup_limit *self);            /* removes what it made */

#endif
