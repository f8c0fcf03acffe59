/* The register: every decision of a sink, as a pure state machine. Results, the ventilator's messages,
 * finished commits and the time come in; it calls its ports. No sockets, clock, disk or threads inside.
 *
 * What must hold:
 *   - a task has at most one recorded verdict: the first that is staged stands (I1);
 *   - nothing is called recorded (to the ventilator, or in a stream) before it is on disk;
 *   - a batch is complete exactly when each of its tasks has a recorded verdict, and its total is known;
 *   - duplicates are counted and released, never stored twice;
 *   - nothing is queued for an absent ventilator: it asks (`ask`) when it is back.
 *
 * Kept in memory: for each batch that is not complete a bitmap per block of 4,096; for each batch
 * its registration and counts. All of it is rebuilt from the store at the start. */
#ifndef SINK_REGISTER_H
#define SINK_REGISTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/clock.h"
#include "common/why.h"
#include "proto/wire.h"

struct registry;      /* the struct; `register` is a word of C */

/* A batch, for the streams. Pointers are the registry's. */
struct register_batch {
    uint64_t number;                  /* the store's number for it */
    uint8_t id[WIRE_ID];
    const char *short_id;
    const Wire__Options *options;
    bool total_known;
    uint64_t total, recorded, duplicates, by_deadline;
    uint64_t counts[WIRE_VERDICTS];   /* committed, by Verdict */
    bool complete, whole_cancelled;
};

/* Kinds of rows in the store. */
enum register_row { ROW_VERDICT, ROW_ATTEMPT, ROW_CLOSING };

struct register_ports {
    void *arg;
    /* to the ventilator's ROUTER: 0 or -EAGAIN (absent: the message is dropped, the ventilator will ask) */
    int (*up)(void *arg, const Wire__Upward *message, struct slice body, bool with_body);
    /* staging; each returns the sequence of the flush that will hold it (the caller flushes at the end of the turn),
     * or 0: no memory, nothing was staged. Sequences begin with 1 */
    uint64_t (*put)(void *arg, const char *key, const void *value, size_t len);
    uint64_t (*remove)(void *arg, const char *key);
    uint64_t (*append)(void *arg, uint64_t batch, uint64_t first, uint32_t count, enum register_row kind,
                       struct slice head, struct slice body, uint64_t *ret_row);
    uint64_t (*remove_rows)(void *arg, uint64_t batch);
    /* something of this batch became durable, or it became known, complete or forgotten (then its number
     * finds nothing any more): streams may go on */
    void (*moved)(void *arg, const struct register_batch *batch);
    void (*note)(void *arg, int level, const char *event, const char *text);
    /* A row with these attempts was staged, and flush `sequence` holds it: for traces. fresh: a bitmap of the tasks that it is
     * about; NULL: all of the report. All is lent. May be NULL */
    void (*attempts)(void *arg, const struct register_batch *batch, const Wire__Report *report, const uint8_t *fresh, uint64_t sequence);
};

struct register_config {
    const char *program;
    uint8_t store[WIRE_ID];
    const char *advertise, *results_endpoint, *query_endpoint;
    uint32_t results_port, query_port;
    uint64_t session;                 /* random, nonzero */
    /* An answer to `ask` has at most so many spans; what has more is told as bitmaps of so many tasks. 0: 1,000 and 4 Mi. */
    uint32_t ask_spans, ask_tasks;
};

struct registry *register_new(const struct register_config *config, const struct register_ports *ports);
void register_destroy(struct registry **self_p);

/* Rebuilding, before any other event: each record of the store, in key order; then, for each batch
 * that is not complete, its rows by number (register_restore_needs says which, and from which row on), heads only,
 * and register_restore_rows_end when there are no more of them. 0, or -1 with why. */
int register_restore_record(struct registry *self, const char *key, const uint8_t *value, size_t len, struct why *why);
bool register_restore_needs(struct registry *self, uint64_t *ret_batch, uint64_t *ret_after);
int register_restore_row(struct registry *self, uint64_t batch, uint64_t row, uint32_t kind, struct slice head, struct why *why);
void register_restore_rows_end(struct registry *self, uint64_t batch);

/* Events. */
void register_ventilator(struct registry *self, mono_t now, bool is_up);
void register_downward(struct registry *self, mono_t now, const Wire__Downward *message);
void register_result(struct registry *self, mono_t now, const Wire__Result *message, struct slice body);
/* The same with the packed Result that `message` was read from (lent): it is stored as it came, not packed anew. */
void register_result_packed(struct registry *self, mono_t now, const Wire__Result *message, struct slice head, struct slice body);
/* A result whose head or body could not be read as one: nothing can be answered; counted. */
void register_malformed(struct registry *self, mono_t now, const char *sentence);
void register_committed(struct registry *self, mono_t now, uint64_t sequence);
void register_full(struct registry *self, mono_t now, bool is_full);
void register_drain(struct registry *self, mono_t now);       /* says goodbye once everything staged is committed */
bool register_drained(const struct registry *self);            /* it was said (or nobody is there to hear it) */
mono_t register_tick(struct registry *self, mono_t now, bool caught_up);   /* heartbeats */

/* For the streams: by short id, full hex id or a unique beginning of it; NULL: unknown. Valid until the next event. */
const struct register_batch *register_find(struct registry *self, const char *ref);
/* Whether a batch of that name was there and is forgotten (not too long ago). */
bool register_was_forgotten(const struct registry *self, const char *ref);
const struct register_batch *register_find_number(struct registry *self, uint64_t number);
/* The first index at or after `from` that has no committed verdict (total or more when there is none). */
uint64_t register_prefix(struct registry *self, uint64_t number, uint64_t from);

/* Tells the ventilator what people want to see of the sink: call it about once a second. Beside what the registry has counted
 * it tells what the shell adds. Without a ventilator, or memory, it does nothing. */
struct register_extra { uint64_t waiting_bytes, trace_lines, trace_dropped; };
void register_tell_figures(struct registry *self, const struct register_extra *extra);

struct register_counts {
    uint64_t batches, open_batches, results, recorded, duplicates, refused, unregistered, malformed;
    uint64_t bitmap_bytes;
    bool ventilator_present, full;
};
void register_count(const struct registry *self, struct register_counts *ret);

#endif
