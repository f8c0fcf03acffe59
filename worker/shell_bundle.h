/* The worker shell's side of bundles: their memory, what goes in, and what comes out as the agent's parts. */
#ifndef WORKER_SHELL_BUNDLE_H
#define WORKER_SHELL_BUNDLE_H

#include "worker/agent.h"
#include "worker/bundle.h"

/* Of one slot and one handler, or all of its commands. {0}: none yet. */
struct shell_bundle {
    struct bundle *memory;
    int fd;
    uint32_t count;                /* of the bundle that runs: its tasks; 0: it could not be put in */
    uint64_t max_output;           /* and what may be kept of an output */
    bool commands;                 /* the keeper starts them: only claims and results are in the memory */
    bool large;                    /* its payload or output is in a place for large ones, or may be */
};

int shell_bundle_open(struct shell_bundle *self);      /* 0 or -errno; open already: 0 */
void shell_bundle_close(struct shell_bundle *self);
int shell_bundle_put(struct shell_bundle *self, const struct agent_run *run);    /* 0 or -errno */
/* One of its tasks, as if it came alone; `number` is room for the text of a range's. */
struct agent_run shell_bundle_one(const struct agent_run *run, uint32_t i, size_t payload_at, char number[WIRE_RANGE_ITEM]);
/* A large payload of a task that comes alone: how much of it is in memory now; 0: it goes the usual way. */
size_t shell_bundle_put_large(struct shell_bundle *self, const struct agent_run *run);    /* NULL: there is none */
/* The output that the process has left there, counted: drop it. Shorter than `len`: no memory. */
struct slice shell_bundle_take_large(struct shell_bundle *self, size_t len);
void shell_bundle_let_large_go(struct shell_bundle *self);

/* What has ended before the last one that began; used again for each split. */
struct shell_parts;
struct shell_parts *shell_parts_new(void);
void shell_parts_destroy(struct shell_parts **self_p);
/* Closes the bundle and tells what has become of it; lent until the next one. */
void shell_bundle_split(struct shell_bundle *self, struct shell_parts *parts, bool keep_first, struct agent_split *ret);

#endif
