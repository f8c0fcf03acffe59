/* What a worker was told: the command line and the environment, checked before anything else happens. */
#ifndef WORKER_CONFIG_H
#define WORKER_CONFIG_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/log.h"
#include "proto/wire.h"
#include "worker/agent.h"
#include "worker/handlers.h"

struct worker_config {
    char ventilator[256];            /* whole endpoints */
    char sink[256];                  /* empty: where the ventilator says */
    char submit_to[256];             /* where handlers submit; empty: unknown */
    char name[WIRE_NAME + 1];
    char health_file[PATH_MAX];      /* empty: none */
    char keys[PATH_MAX];             /* of this worker; empty: none */
    char handler_keys[PATH_MAX];     /* a client's, for handlers that submit; empty: none */
    char cgroup[PATH_MAX];           /* as in cgroup_home_open; empty: off */
    uint32_t slots;
    bool allow_commands;
    int64_t shutdown_timeout;
    int leave_with;                  /* a descriptor: leave at once when its other end is closed; -1: none */
    enum log_format log_format;
    enum log_level log_level;
    Wire__Value **labels;
    size_t n_labels;
    struct handlers handlers;
};

enum config_result { CONFIG_OK, CONFIG_DONE /* help or the like was printed */, CONFIG_BAD };

/* Reads everything; *ret needs worker_config_release afterwards when it is CONFIG_OK. CONFIG_BAD: why is the sentence to say. */
enum config_result worker_config_read(int argc, char **argv, FILE *out, struct worker_config *ret, struct why *why);
void worker_config_release(struct worker_config *self);

/* Takes the variables that were meant for this worker, and those of an attempt that it may have been started by, out of the
 * environment, so that its handlers don't mistake them for theirs, and puts in what all of them are told of keys. After
 * worker_config_read, before any thread. */
void worker_config_clean_environment(const struct worker_config *self);

/* For an agent. Lent. */
struct agent_config worker_config_of_agent(const struct worker_config *self, uint64_t session);

#endif
