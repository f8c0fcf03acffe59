/* The agent: every decision of a worker, as a pure state machine. Messages, ends of attempts and the
 * time come in; it calls its ports to have things done. No sockets, clock, disk, processes or threads inside.
 *
 * What must hold:
 *   - an attempt starts only while the lease is valid, its task is not cancelled, time is left, and
 *     the unreleased results are within the credit (I3, I6);
 *   - each attempt that was assigned and not returned ends in one report, kept until it is released;
 *   - a slot is used again only after its keeper said that nothing of the attempt is alive (I8);
 *   - what is held is told in each hello; a broken lane loses nothing but unread messages.
 *
 * Ports are called during an event, in the order in which things must happen; a port must not call
 * back into the agent. Everything passed to a port is lent for the length of the call. */
#ifndef WORKER_AGENT_H
#define WORKER_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/clock.h"
#include "proto/wire.h"

struct agent;

enum agent_handler_kind { AGENT_COMMAND, AGENT_PERSISTENT, AGENT_PLUGIN };

/* A handler as its operator configured it; for an ad-hoc command the batch's own words. */
struct agent_handler {
    const char *name;
    enum agent_handler_kind kind;
    const char *const *command;      /* template words, NULL-terminated; of a plugin: those of its host */
    bool bundles;                    /* takes many tasks at once; see struct agent_run. A batch's own command always does */
};

struct agent_config {
    const char *name;
    const char *program;             /* for hello: "worker 0.1.0" */
    uint32_t slots;
    const Wire__Value *const *labels; size_t n_labels;
    const struct agent_handler *handlers; size_t n_handlers;
    bool allow_commands;
    uint64_t max_payload;
    int64_t shutdown_timeout;        /* ns */
    uint64_t session;                /* random, nonzero */
};

/* One attempt to run in a slot; or a bundle: consecutive tasks of one dispatch for a plugin's process or for the keeper of a
 * slot, which begins one after the other by itself, in order. What had not begun when a bundle ends was never started. */
struct agent_run {
    uint32_t slot;                          /* from 0 */
    const struct agent_handler *handler;    /* NULL: the batch's own command */
    const Wire__Options *options;
    const char *short_id;
    const uint8_t *batch;                   /* 16 bytes */
    uint64_t index;
    uint32_t attempt;                       /* as people count: from 1 */
    uint64_t epoch;                         /* with it the attempt is unique: what a nested submission names */
    uint32_t count;                         /* 1, or the tasks of a bundle from `index` on */
    const uint32_t *lengths; size_t n_lengths;     /* of a bundle's payloads: one for each, one for all, or none: empty */
    mono_t not_after;                       /* of a bundle: no task begins later … */
    int64_t begin_for;                      /* … nor, but the first, when the first began so many ns ago */
    struct slice payload;                   /* the item; a range's number already as text (not in a bundle). Of a bundle all of them */
    const Wire__TaskExtra *extra;           /* or NULL */
    int64_t budget;                         /* ns left at the start; -1: no bound */
    uint8_t span_id[8];                     /* of this attempt */
};

/* A task of a bundle, which has ended: after it another one began. */
struct agent_part {
    int code;                               /* as an exit code; or the signal that ended it */
    bool signalled, swept;
    uint32_t run_ns, output_len, errors_len;
    bool output_truncated;
    const char *sentence;                   /* or NULL */
};

/* What has become of a bundle so far. */
struct agent_split {
    uint32_t begun;                         /* with `keep_first` at least 1 */
    mono_t begun_at;                        /* the last of them; left as it is when that isn't known */
    const struct agent_part *parts;         /* those before the last that has begun, in order: one less than have begun, or none. Lent
                                             * until the next call of a port */
    uint32_t n_parts;
    struct slice part_outputs;              /* of each its output and its errors, one behind the other; counted. Shorter than the sum without
                                             * memory: then all are lost */
};

/* How it ended, from the shell. Of a bundle: how the last task ended that had begun. */
struct agent_end {
    enum { AGENT_EXITED, AGENT_SIGNALLED, AGENT_NOT_STARTED, AGENT_KEEPER_DIED, AGENT_FAULT } how;
    int code;                               /* exit code, signal, or 0 */
    bool term_sent, kill_sent;              /* by us, before the command ended */
    struct slice output, errors;
    bool output_truncated, errors_truncated, swept;
    bool limit;                             /* it hit one of its limits and failed; the sentence says which */
    int64_t run_ns;                         /* of a plugin's bundle: of all that have begun */
    const char *sentence;                   /* not started, a fault, a limit, or keeper died: why; a handler's own words; else NULL */
};

struct agent_ports {
    void *arg;
    /* control channel (DEALER): 0, or -EAGAIN when it is not up (the agent tries again where it matters) */
    int (*up)(void *arg, const Wire__Upward *message);
    /* the lane: dial (closing any other first); close (unread messages are dropped) */
    void (*lane_dial)(void *arg, const char *endpoint, uint32_t port);   /* endpoint "": the port at the ventilator's host */
    void (*lane_close)(void *arg);
    /* the sink: where it is; results to it: 0, or -EAGAIN (not up, or full) */
    void (*sink_place)(void *arg, const Wire__SinkPlace *place);
    int (*result)(void *arg, const Wire__Result *message, struct slice body);
    /* slots. stop: signal now, kill after the grace; called again only to shorten it */
    void (*run)(void *arg, const struct agent_run *run);
    void (*stop)(void *arg, uint32_t slot, int64_t grace);
    /* Of a bundle that runs in the slot, or has just ended, no further task begins after the return of this; with `keep_first` the first one
     * still may. Called once for each bundle. May be NULL: then there are no bundles */
    void (*split)(void *arg, uint32_t slot, bool keep_first, struct agent_split *ret);
    /* one line for people and tests: an event name and key=value text; level as in common/log.h */
    void (*note)(void *arg, int level, const char *event, const char *text);
    /* nothing is left to do after a drain: leave. unreleased: results that were given up on */
    void (*leave)(void *arg, uint64_t unreleased);
};

struct agent *agent_new(const struct agent_config *config, const struct agent_ports *ports);    /* NULL: no memory. Copies config */
void agent_destroy(struct agent **self_p);

/* Events. `now` never goes back. */
void agent_control(struct agent *self, mono_t now, bool is_up);             /* the DEALER came up or went down */
void agent_downward(struct agent *self, mono_t now, const Wire__Downward *message);
void agent_lane(struct agent *self, mono_t now, const Wire__Lane *message, struct slice body);
void agent_lane_lost(struct agent *self, mono_t now, const char *why);      /* the PULL closed, or read rubbish */
void agent_sink(struct agent *self, mono_t now, bool is_up);                /* the PUSH to the sink came up (also: has room again) or went down */
void agent_ended(struct agent *self, mono_t now, uint32_t slot, const struct agent_end *end);
void agent_drain(struct agent *self, mono_t now);                           /* SIGTERM */
void agent_leave_now(struct agent *self, mono_t now);                       /* a second signal */

/* Does what is due and returns when to call again (MONO_NEVER: when something happens). Call it after
 * every batch of events as well. `caught_up`: all input was read before (a process that stood still
 * judges nobody's silence otherwise). */
mono_t agent_tick(struct agent *self, mono_t now, bool caught_up);

/* For status lines, metrics and tests. */
struct agent_counts {
    uint32_t slots, busy;
    uint64_t queued, unreleased, unreleased_bytes;
    uint64_t started, ended, resent, stale_messages, returned;
    bool lane_open, lease_valid, draining;
};
void agent_count(const struct agent *self, mono_t now, struct agent_counts *ret);

#endif
