/* Control groups (cgroup2): a folder for the worker, one below it for each slot, reused from attempt to
 * attempt. A process can leave its session and its parents, but not its group, so the kernel itself says
 * when nothing of an attempt is left, and ends it in one step that no fork can outrun.
 *
 * The worker opens the home; each keeper opens its slot's folder below it. A keeper is never in the
 * group that it kills. */
#ifndef WORKER_CGROUP_H
#define WORKER_CGROUP_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/why.h"
#include "worker/cgroup_limit.h"

/* ---- the worker's ---- */

struct cgroup_home {
    char folder[PATH_MAX];         /* empty: there is none, slots are ended by session and /proc */
    int lock;                      /* held as long as the worker lives; -1: none */
    bool made;                     /* by us: removed at the end */
    bool off;                      /* no groups at all, for limits neither */
    /* By cgroup_home_control: below which each slot is held to a limit; the same as `folder`, or one in an older hierarchy. */
    char control[CONTROLS][PATH_MAX];
    int control_lock[CONTROLS];
};

/* `where`: "off"; "auto": a folder of its own below the group that this process is in, on the first cgroup2 file system that
 * takes one, or none; else a folder in a cgroup2 file system, made when it isn't there. 0; -1 with why: the folder that was
 * asked for can't be used. Also ends and removes what workers that are gone have left behind. Blocks for milliseconds. */
int cgroup_home_open(struct cgroup_home *self, const char *where, struct why *why);
/* Finds where this controller can be had: in cgroup2, else in a hierarchy of its own. 0; -1 with why: nowhere. */
int cgroup_home_control(struct cgroup_home *self, enum cgroup_control control, struct why *why);
void cgroup_home_close(struct cgroup_home *self);    /* after the keepers have left; idempotent on an opened one */

int cgroup_write(int dir, const char *name, const char *word);    /* to one of a group's files: 0 or -errno */

/* ---- a slot's ---- */

struct cgroup_slot {
    char folder[PATH_MAX];
    int dir, procs, events;        /* dir -1: there is none, and every call below finds it empty */
    bool no_kill_file;             /* a kernel before 5.14: found out, or set */
    bool freezing;                 /* by us, to kill without that file */
};

/* Makes the folder or takes the one that is there, with whatever still lives in it. 0 or -errno. */
int cgroup_slot_open(struct cgroup_slot *self, const char *folder);
/* Something in it or below it is alive. Costs one read. */
bool cgroup_slot_lives(struct cgroup_slot *self);
/* Kills all of it, in one step where the kernel can. Call again while it lives. */
void cgroup_slot_kill(struct cgroup_slot *self);
/* Calls for each process in it and below it. */
void cgroup_slot_each(const struct cgroup_slot *self, void (*each)(void *arg, pid_t pid), void *arg);
uint64_t cgroup_slot_cpu(const struct cgroup_slot *self);    /* ns of CPU time that all that was ever in it has used */
/* When nothing lives: takes back what an attempt did to its own group (groups below it, a freeze). */
void cgroup_slot_tidy(struct cgroup_slot *self);
void cgroup_slot_close(struct cgroup_slot *self, bool remove);

#endif
