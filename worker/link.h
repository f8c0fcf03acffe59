/* A worker's link to the others: its agent, the control channel, the lane and the connection to the sink. What the sockets bring
 * becomes the agent's events, what the agent says becomes sends. Slots are somebody else's: a worker's shell has keepers in them. */
#ifndef WORKER_LINK_H
#define WORKER_LINK_H

#include "common/loop.h"
#include "common/net.h"
#include "common/why.h"
#include "worker/agent.h"

struct worker_link;

/* The agent's ports that are not messages: as in struct agent_ports. */
struct link_slots {
    void *arg;
    void (*run)(void *arg, const struct agent_run *run);
    void (*stop)(void *arg, uint32_t slot, int64_t grace);
    void (*split)(void *arg, uint32_t slot, bool keep_first, struct agent_split *ret);
    void (*leave)(void *arg, uint64_t unreleased);
    /* Something came: the agent wants to be ticked in this turn. NULL: it is in each turn. */
    void (*woken)(void *arg);
};

/* Where it dials; lent for the link's life. */
struct link_places {
    const char *ventilator;
    const char *sink;               /* empty: where the ventilator says */
};

/* Dials. `net` must outlive it, and may have other links. NULL: why. */
struct worker_link *worker_link_new(struct loop *loop, struct net *net, const struct link_places *places, const struct agent_config *config,
                                    const struct link_slots *slots, struct why *why);
void worker_link_destroy(struct worker_link **self_p);
void worker_link_close(struct worker_link *self);       /* the sockets only: nothing comes any more */

struct agent *worker_link_agent(struct worker_link *self);

/* What it waits for before its lane is open, for people: "ventilator" or "lane"; where that is; and why it is refused, or "". */
const char *worker_link_waits_for(const struct worker_link *self, const char **ret_at, const char **ret_refusal);

#endif
