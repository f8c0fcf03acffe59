/* From an attempt to what a keeper runs: the words of the command line, and the environment that tells
 * the handler its context. The memory is reused from attempt to attempt. */
#ifndef WORKER_COMMAND_H
#define WORKER_COMMAND_H

#include "common/why.h"
#include "worker/agent.h"
#include "worker/keeper.h"

struct worker_command;

/* `handlers` are those of the agent's config (lent); `submit_to`: for TARMAC_VENTILATOR, empty: none (copied). NULL: no memory. */
struct worker_command *worker_command_new(const struct agent_handler *handlers, size_t n, const char *submit_to);
void worker_command_destroy(struct worker_command **self_p);

/* For a persistent handler *ret has a task, without what is of its setup. Fills *ret, lent until the next call. 0; or -EINVAL,
 * -E2BIG, -ENOMEM with why: the attempt can't be started. */
int worker_command_make(struct worker_command *self, const struct agent_run *run, struct keeper_run *ret, struct why *why);

#endif
