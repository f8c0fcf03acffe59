/* What the files of the register share; nobody else includes this.
 *
 *   register.c           the registry's life, the talk with the ventilator
 *   register_batch.c     batches: tables, records on disk, counts, completion
 *   register_tasks.c     which tasks of a batch have a verdict: bitmaps per block
 *   register_result.c    results: what is first, what is staged
 *   register_closing.c   closings: many tasks ended by one row
 *   register_ask.c       what is on record of a batch
 *   register_forget.c    forgotten batches, and their tombstones
 *   register_figures.c   how long things took, and a sample of failures, for people
 *   register_answer.c    what is said, and counted, once a flush is on disk
 *   register_restore.c   the same state again from the store
 *
 * Two views of a batch are kept apart. What is *staged* decides which result is the first one; what
 * is *committed* is all that others are told. An answer stands between them: it is made when its row
 * is staged, and carries what its commit makes true. */
#ifndef SINK_REGISTER_PRIVATE_H
#define SINK_REGISTER_PRIVATE_H

#include <sys/queue.h>

#define HASH_NONFATAL_OOM 1                 /* a failed HASH_ADD leaves the handle's tbl NULL */
#include <uthash.h>

#include "common/histogram.h"
#include "sink/register.h"

/* Levels of notes, as in common/log.h, which a pure core doesn't see. */
enum note_level { NOTE_ERROR, NOTE_WARN, NOTE_INFO, NOTE_DEBUG };

#define CLOSED_SPANS 1000u                  /* of a closing's row, and of an answer to `ask`; more become a bitmap */
#define CLOSED_PART (UINT64_C(1) << 22)     /* tasks of a row with a bitmap: 512 KiB fit into a head */
#define CLOSINGS_KEPT 64u                   /* of a batch, to answer them again */
#define FENCES_KEPT 8u                      /* of an unsettled task's attempts, to know them again */
#define ANSWERS_AT_ONCE 1000u               /* results in one Recorded message */
#define NUMBER_KEY "batch/%016" PRIx64

/* ---- register_tasks.c ---- */

struct block;

struct tasks {
    struct block **blocks;                  /* NULL: no task of the block is in; one shared block: all are */
    size_t n_blocks;
    size_t bytes;
};

/* Makes room, so that adding this range can't fail. 0 or -ENOMEM. */
int tasks_reserve(struct tasks *self, uint64_t first, uint64_t count);
void tasks_add(struct tasks *self, uint64_t first, uint64_t count);
uint64_t tasks_in(const struct tasks *self, uint64_t first, uint64_t count);        /* how many of the range are in */
/* The first index at or after `from` and before `end` that is in (or isn't); `end` when there is none. */
uint64_t tasks_next(const struct tasks *self, uint64_t from, uint64_t end, bool is_in);
/* The next run of indices that are in (or aren't), in [*at, end): false when there is none; moves *at behind it. */
bool tasks_run(const struct tasks *self, uint64_t *at, uint64_t end, bool is_in, uint64_t *ret_first, uint64_t *ret_count);
void tasks_copy_bits(const struct tasks *self, uint8_t *bitmap, uint64_t from, uint64_t end);    /* of the tasks of [from, end) */
void tasks_release(struct tasks *self);
void bits_add(uint8_t *bitmap, uint64_t first, uint64_t count);

/* ---- answers ---- */

struct batch;

/* One thing to say and count when `sequence` is committed. */
struct answer {
    STAILQ_ENTRY(answer) entry;
    TAILQ_ENTRY(answer) of_batch;
    uint64_t sequence;
    mono_t taken;                           /* when it was put into the queue */
    struct batch *batch;                    /* that it changes, and whose list it is in; NULL: none, or forgotten meanwhile */
    uint64_t fresh_first, fresh_last;       /* around the tasks that it settles */
    uint64_t counts[WIRE_VERDICTS];
    uint64_t by_deadline;
    bool completes;

    bool is_result;                         /* `result`, which goes out with others; else `message` */
    Wire__RecordedResult result;
    Wire__Fence fence;
    uint8_t id[WIRE_ID];
    Wire__Upward *message;                  /* owned; NULL: nothing is said */
    struct slice body;
    _Alignas(max_align_t) uint8_t columns[];
};
STAILQ_HEAD(answer_queue, answer);
TAILQ_HEAD(batch_answers, answer);

/* ---- batches ---- */

struct closing_note { uint64_t session, number, closed; };

/* Attempts on record of a task that has no verdict. */
struct attempts {
    UT_hash_handle hh;
    uint64_t index;
    uint32_t n;
    struct { uint64_t epoch; uint32_t attempt; } last[FENCES_KEPT];      /* rising */
};

struct batch {
    struct register_batch seen;             /* committed; first, so that the two can be told apart by type only */
    UT_hash_handle by_id, by_number, by_short;
    char *short_id;
    Wire__Options *options;
    struct tasks tasks;                     /* staged; empty once staged_complete */
    uint64_t recorded, by_deadline, counts[WIRE_VERDICTS];     /* staged */
    bool staged_complete, whole, whole_closed;
    struct attempts *attempts;              /* by index */
    struct closing_note closings[CLOSINGS_KEPT];
    uint64_t n_closings;                    /* ever; they are kept in a ring */
    struct batch_answers answers;           /* that change it and aren't committed */
    bool dirty, touched;
    TAILQ_ENTRY(batch) dirty_entry, touched_entry;
    uint64_t last_row;                      /* restoring: the last row that was read */
    bool needs_rows;
    TAILQ_ENTRY(batch) unread_entry;
    struct batch_figures *figures;          /* owned; NULL: none, or told for the last time */
};
TAILQ_HEAD(batch_list, batch);

/* Of a batch that was forgotten. */
struct tombstone {
    UT_hash_handle hh;
    TAILQ_ENTRY(tombstone) entry;
    uint64_t number;
    uint8_t id[WIRE_ID];
    char short_id[];
};

/* ---- figures ---- */

#define HANDLERS_TOLD 64u                   /* apart from the others */
#define TAIL 512u                           /* bytes of a failure's standard error */

struct handler_figures {
    char name[WIRE_NAME + 1];
    uint64_t verdicts[WIRE_VERDICTS], attempts;
    struct histogram run, wait;
};
struct failure {
    uint8_t batch[WIRE_ID];
    uint64_t index;
    uint32_t attempt, signal;
    Wire__Verdict verdict;
    Wire__Reason reason;
    int32_t code;
    bool settled;
    char worker[WIRE_NAME + 1], sentence[161];
    uint8_t tail[TAIL];
    size_t tail_len;
};
struct batch_figures;
struct figures {
    struct handler_figures handlers[HANDLERS_TOLD], others;
    size_t n_handlers;
    TAILQ_HEAD(, batch_figures) changed;             /* since they were told */
    struct failure *failures;                        /* to be told; owned, NULL before the first */
    size_t n_failures;
    struct histogram commit;
};

struct registry {
    struct register_ports ports;
    struct register_config config;
    char *program, *advertise, *results_endpoint, *query_endpoint;

    uint8_t journal[WIRE_ID];
    bool journal_known;
    bool is_up, welcomed, draining, drained, full;
    bool silence_told;
    int64_t heartbeat;
    uint64_t beats;
    mono_t hello_at, beat_at, heard_at, dirty_at;

    struct batch *by_id, *by_number, *by_short;
    struct tombstone *tombstones_by_id;
    TAILQ_HEAD(, tombstone) tombstones;              /* the oldest first */
    uint64_t next_number;
    uint64_t open_batches, n_batches;
    struct batch_list dirty, touched;
    struct batch_list unread;                        /* restoring: those that need rows */

    struct answer_queue answers;
    uint64_t last_sequence, committed;
    struct wire_writer writer;
    struct wire_arena *arena;                        /* restoring only */
    uint64_t results, recorded, duplicates, refused, unregistered, malformed;
    mono_t now;
    struct figures figures;
};

/* ---- register.c ---- */
void register_note(struct registry *self, int level, const char *event, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Sends if the ventilator is there and knows us; else it will ask. */
void say(struct registry *self, Wire__Upward *message, struct slice body);
/* Remembers the sequence of something staged; false: it was not staged, for lack of memory. */
bool staged(struct registry *self, uint64_t sequence);

/* ---- register_batch.c ---- */
struct batch *batch_make(const uint8_t id[WIRE_ID], const char *short_id, const Wire__Options *options);
void batch_destroy(struct batch **self_p);
int batch_insert(struct registry *self, struct batch *batch);           /* under its number; 0 or -ENOMEM */
void batch_take_out(struct registry *self, struct batch *batch);        /* of all tables and lists */
struct batch *batch_of(struct registry *self, const uint8_t id[WIRE_ID]);      /* NULL: unknown, or forgotten */
bool batch_store(struct registry *self, struct batch *batch);           /* stages its record */
void batch_dirty(struct registry *self, struct batch *batch);           /* its record is staged again soon */
void batches_store_dirty(struct registry *self);
void batch_touch(struct registry *self, struct batch *batch);           /* `moved` is due */
bool batch_complete_now(struct registry *self, struct batch *batch);    /* becomes staged_complete if it is; true when it just did */
void batch_settle_seen(struct batch *batch);                            /* whole_cancelled, from the rest */
void batch_register(struct registry *self, const Wire__Register *message);

/* ---- register_forget.c ---- */
void batch_forget(struct registry *self, const uint8_t id[WIRE_ID]);
struct tombstone *tombstone_of(const struct registry *self, const uint8_t id[WIRE_ID]);     /* NULL: it was not forgotten, or long ago */
int tombstone_restore(struct registry *self, const Wire__SinkBatchRecord *record);          /* 0 or -1: no memory */
void tombstones_release(struct registry *self);

/* ---- register_result.c ---- */
/* Counts the tasks of a report that `fresh` (NULL: all) has, by verdict. */
void report_count(const Wire__Report *report, const uint8_t *fresh, uint64_t counts[WIRE_VERDICTS], uint64_t *ret_by_deadline);
/* Makes room for an attempt of each unsettled task of the fence, so that attempts_add can't fail. *ret_new:
 * for how many it isn't on record. 0 or -ENOMEM. */
int attempts_reserve(struct batch *batch, const Wire__Fence *fence, uint32_t *ret_new);
void attempts_add(struct batch *batch, const Wire__Fence *fence);
uint32_t attempts_on_record(const struct batch *batch, uint64_t index);
void attempts_drop(struct batch *batch, uint64_t first, uint64_t count);
void attempts_release(struct batch *batch);
bool report_says_whole(const Wire__Report *report);

/* ---- register_closing.c ---- */
void take_closing(struct registry *self, const Wire__Closing *closing);
void closing_remember(struct batch *batch, const Wire__Closing *closing, uint64_t closed);

/* ---- register_ask.c ---- */
void batch_ask(struct registry *self, const uint8_t id[WIRE_ID], uint64_t from);

/* ---- register_figures.c ---- */
void figures_begin(struct registry *self);
void figures_end(struct registry *self);
/* A report was staged; fresh NULL: all of its tasks count. */
void figures_report(struct registry *self, struct batch *batch, const Wire__Report *report, const uint8_t *fresh, struct slice body);
void figures_closed(struct registry *self, struct batch *batch, const Wire__Closing *closing, uint64_t closed);
void figures_committed(struct registry *self, const struct answer *answer);
void figures_complete(struct batch *batch);             /* nothing more will be recorded of it */
void figures_forget(struct batch *batch);

/* ---- register_answer.c ---- */
/* With room for `columns` bytes. NULL without memory. */
struct answer *answer_new(size_t columns);
void answer_destroy(struct answer **self_p);
struct answer *answer_to_report(const Wire__Report *report, const uint8_t *fresh, uint32_t n_fresh);
/* To an attempt: with room to say how many of each task are on record. */
struct answer *answer_to_attempt(const Wire__Report *report, const uint8_t *fresh, uint32_t n_fresh);
/* Says it of `batch`, once this one is on record too: one entry when they are all alike. */
void answer_on_record(struct answer *self, const struct batch *batch);
struct answer *answer_to_closing(const Wire__Closing *closing, uint64_t closed);
struct answer *answer_message(const Wire__Upward *message, struct slice body);
/* Takes it: said at once when everything staged is committed, else after the last thing staged.
 * `batch`: that its commit changes, or NULL. */
void answer_put(struct registry *self, struct answer **answer_p, struct batch *batch);
void answers_say(struct registry *self);        /* all that `committed` allows */

#endif
