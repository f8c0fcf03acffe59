/* What a keeper does before its first attempt: it ends what still lives of the slot's past. An earlier
 * keeper may have been killed, or the whole worker. The group knows what was in it; without one it is
 * found by the mark in its environment, and by its parent when that is the worker, to which the
 * orphans of a killed keeper fall when it is a child subreaper. */
#include "worker/keeper_private.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "common/bug.h"

#define FIRST_WAIT (2 * NS_PER_MS)
#define LAST_WAIT NS_PER_S

/* One look at everything; true when nothing is left alive. */
static bool end_all(struct process *self, const struct keeper_wire_setup *setup)
{
    bool lives = cgroup_slot_lives(&self->group);
    if (lives)
        cgroup_slot_kill(&self->group);
    size_t n = setup->clean ? sweep_strays(&self->sweep, KEEPER_MARK, setup->mark, setup->adopted ? getppid() : 0) : 0;
    return n == 0 && !lives;
}

/* The worker speaks only when it wants a run; its end must be noticed. */
static void wait_a_little(struct process *self, int64_t ns)
{
    struct pollfd fds[2] = {{.fd = self->sock, .events = POLLRDHUP}, {.fd = self->group.events, .events = POLLPRI}};
    const struct timespec wait = {.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S};
    if (ppoll(fds, 2, &wait, NULL) > 0 && fds[0].revents != 0)
        keeper_leave(self, EXIT_STOPPED);
}

void keeper_clean(struct process *self, const struct keeper_wire_setup *setup)
{
    int64_t wait = FIRST_WAIT;
    self->killed_at = mono_now();
    while (!end_all(self, setup)) {
        keeper_say_stuck(self);
        wait_a_little(self, wait);
        wait = wait < LAST_WAIT ? 2 * wait : LAST_WAIT;
    }
    cgroup_slot_tidy(&self->group);
    sweep_reset(&self->sweep);
    self->stuck_told = false;
    self->report = (struct keeper_wire_ended){.kind = KEEPER_WIRE_READY};
    if (setup->clean)
        keeper_send(self, NULL, NULL);
}
