/* The groups of a worker's slots, made when it starts, with the controls that its handlers' limits need. */
#ifndef WORKER_SHELL_GROUPS_H
#define WORKER_SHELL_GROUPS_H

#include "worker/cgroup.h"
#include "worker/config.h"

/* 0, or -1 with why: a limit that can't be enforced here. cgroup_home_close in any case. */
int shell_groups_open(struct cgroup_home *groups, const struct worker_config *config, struct why *why);

#endif
