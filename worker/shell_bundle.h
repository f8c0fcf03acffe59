/* The worker shell's side of bundles: their memory, what goes in, and what comes out as the agent's parts. */
#ifndef WORKER_SHELL_BUNDLE_H
#define WORKER_SHELL_BUNDLE_H

#include "worker/agent.h"
#include "worker/bundle.h"

/* Of one slot and one handler. {0}: none yet. */
struct shell_bundle {
    struct bundle *memory;
    int fd;
    uint32_t count;                /* of what runs: its tasks; 1: it came alone */
};

int shell_bundle_open(struct shell_bundle *self);      /* 0 or -errno; open already: 0 */
void shell_bundle_close(struct shell_bundle *self);
int shell_bundle_put(struct shell_bundle *self, const struct agent_run *run);    /* 0 or -errno */
uint32_t shell_bundle_split(struct shell_bundle *self, bool keep_first, mono_t *ret_begun);

/* What has ended before the last one that began; used again for each end. */
struct shell_parts;
struct shell_parts *shell_parts_new(void);
void shell_parts_destroy(struct shell_parts **self_p);
/* Closes the bundle and puts its parts into `end`, lent until shell_parts_drop; the last one's time is cut out of the whole. */
void shell_parts_take(struct shell_parts *self, struct shell_bundle *bundle, struct agent_end *end);
void shell_parts_drop(struct shell_parts *self);

#endif
