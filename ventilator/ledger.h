/* The ledger: every decision of the ventilator, as a pure state machine. Messages, finished commits,
 * frames read from the journal and the time come in; it calls its ports to have things done. No sockets,
 * clock, disk or threads inside.
 *
 * What must hold (the invariants of docs/design.md):
 *   - what was acknowledged to a submitter is in the journal, and ends in one verdict (I1);
 *   - a task has at most one current attempt; its next one has another number (the fence);
 *   - every batch with a deadline is closed by deadline + grace (I2);
 *   - no attempt of a cancelled task is assigned once the cancel was taken in (I3);
 *   - memory follows what is in flight, not what is queued (I5).
 *
 * Where a task is: `queued` (from the cursor on, or in a hole), `waiting` (a retry's backoff), in a
 * `flight` (assigned to a worker), in a `closing` (its end was sent to the sink), or settled. Only
 * ledger_move.c moves tasks between these.
 *
 * Ports are called during an event, in the order in which things must happen, and must not call back.
 * What is passed to a port is lent for the length of the call. */
#ifndef VENTILATOR_LEDGER_H
#define VENTILATOR_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/why.h"
#include "proto/wire.h"

struct ledger;
typedef uint32_t ledger_peer;          /* a connection of one of the ROUTERs */

/* A frame of tasks as it lies in the journal. */
struct ledger_frame {
    uint64_t first;
    uint32_t count;
    struct slice head;                 /* a packed Tasks */
    struct slice body;
};

struct ledger_ports {
    void *arg;
    int (*reply)(void *arg, ledger_peer client, const Wire__Reply *message);      /* 0 or -errno: the client is gone */
    int (*down)(void *arg, ledger_peer peer, const Wire__Downward *message);
    /* Lanes are known by their epoch. open: 0 and where it listens, or -errno (nothing was opened). */
    int (*lane_open)(void *arg, uint64_t lane, uint32_t *ret_port, const char **ret_endpoint);
    void (*lane_send)(void *arg, uint64_t lane, const Wire__Lane *message, struct slice body, bool with_body);
    void (*lane_close)(void *arg, uint64_t lane);
    /* The sink: where its PULL is (NULL: gone); closings to it: 0 or -EAGAIN (sent again later). */
    void (*sink_place)(void *arg, const Wire__SinkPlace *place);
    int (*closing)(void *arg, const Wire__Result *message);
    /* Staging; each returns the sequence of the flush that will hold it. The caller flushes at the end of the turn. */
    uint64_t (*put)(void *arg, const char *key, const void *value, size_t len);
    uint64_t (*remove)(void *arg, const char *key);
    uint64_t (*append)(void *arg, uint64_t batch, const struct ledger_frame *frame);
    uint64_t (*remove_frames)(void *arg, uint64_t batch);
    /* Asks for frames that hold indices from `from` on, below `to`, about `bytes` of them; answered by ledger_loaded. */
    void (*load)(void *arg, uint64_t batch, uint64_t from, uint64_t to, size_t bytes);
    void (*random)(void *arg, void *bytes, size_t len);
    /* One line for people and tests; level as in common/log.h. */
    void (*note)(void *arg, int level, const char *event, const char *text);
    /* The drain is over: nothing of this process is needed any more. */
    void (*leave)(void *arg);
};

struct ledger_config {
    const char *program;               /* "ventilator 0.1.0" */
    uint8_t journal[WIRE_ID];
    uint64_t session;                  /* random, nonzero */
    int64_t heartbeat, loss_grace, silence;      /* ns */
    int64_t shutdown_timeout;
    uint32_t max_losses;               /* a task started at so many losses is judged lost */
    uint64_t max_payload;
    uint64_t result_credit;            /* bytes a worker may hold unreleased */
    size_t cache_bytes;                /* payloads kept in memory ahead of their dispatch */
    int64_t retain;                    /* ns: complete batches are purged after it; 0: when somebody asks for it */
    int64_t keep_keys;                 /* ns: for how long the keys of purged batches are kept */
    uint32_t workers_port, lanes_from, lanes_to; /* told to whoever asks; 0: none */
    wall_t wall; char boot[37];        /* at the start, for deadlines that the journal holds */
};

/* NULL: no memory. `now` is the start. Copies config. */
struct ledger *ledger_new(const struct ledger_config *config, const struct ledger_ports *ports, mono_t now);
void ledger_destroy(struct ledger **self_p);

/* Rebuilding, before any other event: each record of the journal in key order, then ledger_restored, which
 * takes the next epoch (staged; nothing is dispatched before it is committed). */
int ledger_restore(struct ledger *self, const char *key, const uint8_t *value, size_t len, struct why *why);
void ledger_restored(struct ledger *self, mono_t now);

/* Events. `now` never goes back. */
void ledger_request(struct ledger *self, mono_t now, ledger_peer client, const Wire__Request *message, struct slice body);
void ledger_upward(struct ledger *self, mono_t now, ledger_peer peer, const char *address,
                   const Wire__Upward *message, struct slice body);
void ledger_lane(struct ledger *self, mono_t now, uint64_t lane, bool is_up);
void ledger_sink_up(struct ledger *self, mono_t now, bool is_up);          /* the PUSH to the sink */
void ledger_committed(struct ledger *self, mono_t now, uint64_t sequence);
void ledger_loaded(struct ledger *self, mono_t now, uint64_t batch, const struct ledger_frame *frames, size_t n,
                   const char *damage);
void ledger_full(struct ledger *self, mono_t now, bool is_full);           /* the journal's disk */
void ledger_drain(struct ledger *self, mono_t now);                        /* SIGTERM */

/* Does what is due, dispatches what can be dispatched, and returns when to call again. Call it after
 * every batch of events too. caught_up: see worker/agent.h. */
mono_t ledger_tick(struct ledger *self, mono_t now, bool caught_up);

struct ledger_counts {
    uint64_t batches, open_batches, queued, in_flight, recorded, duplicates, retried, losses;
    uint64_t stale_messages, refused, dispatched;
    uint64_t verdicts[WIRE_VERDICTS];           /* recorded, as told to this process */
    uint32_t workers, slots;
    uint64_t cached_bytes, flights, holes;
    bool sink_present, draining, full;
    uint64_t looked;                            /* by dispatch, at batches, workers and kinds of both: for tests of what a turn costs */
};
void ledger_count(const struct ledger *self, struct ledger_counts *ret);

/* Checks that every index of every batch is in exactly one place and that all counters agree: for tests
 * and the simulation. 0 or -1 with why. O(everything). */
int ledger_audit(const struct ledger *self, struct why *why);

#endif
