/* The worker as a process: a loop, its sockets and keepers around one agent. */
#ifndef WORKER_SHELL_H
#define WORKER_SHELL_H

#include "common/loop.h"
#include "common/why.h"
#include "worker/config.h"

struct worker_shell;

/* Begins to work in this loop: dials the ventilator. `config` is lent for the shell's life. When everything is done, the
 * loop is stopped. NULL: why, and the exit code. */
struct worker_shell *worker_shell_new(struct loop *loop, const struct worker_config *config, int *ret_code, struct why *why);
/* Ends everything that still runs, and waits a little for it to be gone. The loop must not run. */
void worker_shell_destroy(struct worker_shell **self_p);

/* SIGTERM or SIGINT: the first drains, the second leaves at once. */
void worker_shell_signal(struct worker_shell *self);
int worker_shell_exit_code(const struct worker_shell *self);

int worker_main(int argc, char **argv);

#endif
