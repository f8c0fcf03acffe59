/* A ventilator, a worker and a sink for one run: private sockets in a temporary folder, and nothing of
 * it left afterwards, whatever happens to us: each of the three holds the other end of a pipe of ours,
 * and leaves when that closes; the ventilator then removes the folder. */
#ifndef VENTILATOR_CLI_CLUSTER_H
#define VENTILATOR_CLI_CLUSTER_H

#include <stdint.h>

#include "common/loop.h"
#include "common/why.h"

struct cluster;

struct cluster_config {
    uint64_t slots;                      /* 0: auto */
    void (*ready)(void *arg);            /* the ventilator takes clients; the others are on their way */
    void (*failed)(void *arg, const char *sentence);     /* one of them could not start, or has ended too early */
    void *arg;
};

/* Starts the ventilator; the others follow when it is ready. NULL: why. */
struct cluster *cluster_new(struct loop *loop, const struct cluster_config *config, struct why *why);
const char *cluster_endpoint(const struct cluster *self);    /* of the ventilator, for clients */
/* Ends them, running the loop; after some seconds by force. */
void cluster_stop(struct cluster *self);
/* What is still alive leaves by itself. */
void cluster_destroy(struct cluster **self_p);

#endif
