/* Finding and signalling every descendant of this process. Only for a process that is a child
 * subreaper: then whatever an attempt left behind, however often it forked or changed its session,
 * is below it in /proc. When waitid says ECHILD none is left; this is for the case that it doesn't. */
#ifndef WORKER_SWEEP_H
#define WORKER_SWEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct sweep_process {
    pid_t pid, parent, group;
    uint64_t born;                 /* start time in ticks since boot: with the pid, it names a process for good */
    bool dead;                     /* only waits to be reaped */
};

struct sweep {
    struct sweep_process *found;   /* by the last walk, parents before children */
    size_t n_found, found_room;
    pid_t *known;                  /* every pid that was ever counted, ascending */
    size_t n_known, known_room;
    struct sweep_process *killed;  /* by sweep_strays */
    size_t n_killed, killed_room;
    bool slow;                     /* this kernel has no `children` files: the whole of /proc is read; found out, or set */
    char *scratch;                 /* for the `children` files */
    size_t scratch_room;
};

/* Walks the tree once and sends `signal` to every living descendant; after SIGTERM also SIGCONT, so
 * that what is stopped can end. Returns how many were not seen by an earlier call since sweep_reset.
 * `spared` (0: none) is a process group that the caller has sent this signal to as a whole: its members
 * are neither counted nor sent SIGTERM twice.
 *
 * For SIGKILL: repeat until it returns 0, then again after each reaped child: a killed process
 * can't fork, so what a walk missed is a child of something that was still to be killed. Never waits. */
size_t sweep_signal(struct sweep *self, int signal, pid_t spared);

/* True when the pid was not known yet: what the caller ends by other means is counted once, too. */
bool sweep_learn(struct sweep *self, pid_t pid);

/* SIGKILL for what a dead keeper has left: every process with `name`=`value` in its environment, every child of
 * `parent` (0: none) that runs another program than this one, and all of their descendants; never a keeper. Returns how
 * many are alive, which `found` names: repeat until it is 0. One on its way out counts until it is dead: its environment
 * is gone by then, its locks and ports may not be. Reads all of /proc. */
size_t sweep_strays(struct sweep *self, const char *name, const char *value, pid_t parent);

#define SWEEP_NAME 17
/* For people: what the process is called, and the letter of its state. Leaves both alone when it is gone. */
void sweep_describe(pid_t pid, char ret_name[SWEEP_NAME], char *ret_state);

void sweep_reset(struct sweep *self);      /* forgets what it saw, keeps the memory */
void sweep_clear(struct sweep *self);      /* gives the memory back; {0} is a fresh one */

#endif
