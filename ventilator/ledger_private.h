/* Private to the ledger: its structures, and who may change what.
 *
 *   ledger.c           the clock of the ledger: dues, pending commits, tick, audit
 *   ledger_move.c      the only file that moves tasks between their places
 *   ledger_batch.c     batches: making, finding, journaling, ending
 *   ledger_supply.c    the payloads that are in memory
 *   ledger_request.c   what clients ask; ledger_report.c: what they are told
 *   ledger_survey.c    the whole at a glance, for the control tower
 *   ledger_again.c     retry: a new batch of tasks of a complete one
 *   ledger_worker.c    hello to goodbye of workers, and their lanes
 *   ledger_loss.c      what a lost worker held: queued again, or judged
 *   ledger_retry.c     tries: what is on record, and when the next one comes
 *   ledger_owed.c      workers whose results don't reach the sink; ledger_release.c: results that they may forget
 *   ledger_dispatch.c  which task goes to which worker, and how many; ledger_pace.c: how long they take
 *   ledger_kinds.c     what batches want, and the workers that can run the same
 *   ledger_quarantine.c  tasks on their last chance: alone at an empty worker
 *   ledger_settle.c    verdicts: recorded, closings, deadlines; ledger_cancel.c: cancels
 *   ledger_halt.c      batches that are ended by their own failures
 *   ledger_parent.c    batches that attempts have submitted, and what becomes of them
 *   ledger_sink.c      the sink's connection, registration and recovery
 *   ledger_purge.c     what becomes of complete batches: retained, purged, remembered by their keys
 */
#ifndef VENTILATOR_LEDGER_PRIVATE_H
#define VENTILATOR_LEDGER_PRIVATE_H

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>

#include "common/log_level.h"
#include "ventilator/ledger.h"
#include "ventilator/ledger_kinds.h"

/* A few dozen bytes of bookkeeping without which an admitted task would be forgotten: there is no way on, and
 * the journal has everything. A process without memory is restarted; it is not our bug, but it is the end. */
#define BUG_IF_NO_MEMORY(pointer) ((pointer) == NULL ? out_of_memory() : (void)0)

#define RESEND_NS       (5 * NS_PER_S)       /* what must be answered by the sink is sent again after this */
#define FULL_NS         (NS_PER_S / 20)      /* what found no room on the way to the sink is tried again after this */
#define OPEN_NS         (2 * NS_PER_S)       /* a lane must be confirmed within this */
#define CLOSE_SLACK_NS  (NS_PER_S / 5)       /* on top of the grace, for the worker's own word to arrive */
#define LOAD_BYTES      ((size_t)1024 * 1024)
#define MAX_WINDOW      16384u
#define CREDIT          (UINT64_C(1) << 40)  /* all of a worker's run credit */
#define PACES_KEPT      8u                   /* batches of which a worker's own pace is known */
#define WINDOW_BYTES    ((uint64_t)8 * 1024 * 1024)
#define CLIENT_IDLE_NS  (600 * NS_PER_S)
#define WAITING_MAX     100000u              /* retries that wait in one batch before it dispatches nothing new */
#define NAMES_KEPT      4u                   /* of the workers that were lost with a task */
#define DEATHS_KEPT     1024u                /* lost workers whose names are kept for that */
#define SUSPECTS_MOST   64u                  /* tasks that were at lost workers, at one worker at once */

/* Something that is due at a time. */
struct due {
    RB_ENTRY(due) link;
    mono_t at;
    uint64_t order;
    bool set;
    void (*fire)(struct ledger *l, void *owner);
    void *owner;
};
RB_HEAD(due_tree, due);

/* What goes with unstarted tasks that were dispatched before (zero for fresh ones). */
struct past {
    uint32_t attempts;      /* the last number that was used */
    uint32_t tries;         /* of the retry budget: attempts on record at the sink */
    uint32_t forgiven;      /* … and what losses used up of it, as the retry rule's on_lost wants */
    uint32_t losses;        /* workers that were lost while they had it */
    uint32_t lost[NAMES_KEPT];      /* the last of them, newest first: numbers of deaths; 0: none */
    bool alone;             /* the last of them held nothing else: nothing else can have ended it */
};

/* How carefully a task is dispatched, by its losses: freely; not too many like it at one worker, so that the one that ends
 * workers is soon told from its neighbours; or, when one more loss would judge it, alone. */
enum care { CARE_NONE, CARE_SUSPECT, CARE_LAST, CARES };

/* A worker that was lost. */
struct death {
    char *name;
    uint64_t session;
};

/* Queued tasks below the cursor. */
struct hole {
    RB_ENTRY(hole) link, care_link;
    uint64_t first, count;
    enum care care;
    struct past past;
};
RB_HEAD(hole_tree, hole);
RB_HEAD(care_tree, hole);

/* A retry in its backoff. */
struct waiting {
    struct due due;
    UT_hash_handle hh;      /* in the batch, by index */
    struct batch *batch;
    uint64_t index;
    struct past past;
};

/* Tasks of one dispatch at one worker. Flights of a batch do not overlap. A task in it is `done` when it
 * has its verdict, `ended` when it no longer takes up run credit; the flight is freed when all are both. */
struct flight {
    RB_ENTRY(flight) link;              /* in the batch, by first */
    TAILQ_ENTRY(flight) at_worker;
    struct batch *batch;
    struct worker *worker;
    uint64_t first;
    uint32_t count;
    uint64_t epoch;
    struct past past;                   /* past.attempts is this one's number */
    uint32_t open;                      /* not done */
    uint32_t unended;
    uint64_t bytes;                     /* of payload; counted against the window until all have started or ended */
    uint64_t charge;                    /* of the worker's run credit, for each that has not ended */
    int64_t service;                    /* ns, as was known; 0: it was not */
    mono_t assigned;
    mono_t reported;                    /* when the last of its tasks was said to run; 0: none was yet */
    uint64_t *done, *ended, *started;   /* one bit a task; in one allocation behind the struct */
    uint32_t *began;                    /* ms from `assigned` to the report of each one's start, + 1; NULL for long flights */
};
RB_HEAD(flight_tree, flight);

/* An end that was sent to the sink and is not answered. */
struct closing {
    TAILQ_ENTRY(closing) link;
    UT_hash_handle hh;                  /* in the batch, by number */
    RB_ENTRY(closing) place_link;       /* in the batch, by first */
    uint64_t number, first, count;
    uint64_t expected;                  /* tasks of it that nothing else has settled meanwhile */
    bool sent;
    bool recorded;                      /* while the sink tells what it has: see sink_doubt */
    mono_t sent_at;
    Wire__Verdict verdict;
    Wire__Reason reason;
    char *sentence;                     /* owned; NULL: none */
};

/* A frame whose payloads are in memory. */
struct supply {
    RB_ENTRY(supply) link;              /* in the batch, by first */
    uint64_t first;
    uint32_t count;
    Wire__Tasks *tasks;                 /* owned */
    struct slice body;                  /* kept */
    size_t bytes;
    mono_t admitted;                    /* MONO_NEVER when it was read back */
    uint32_t memo_index;                /* offset of this task in the body, to cut slices in order cheaply */
    size_t memo_offset;
};
RB_HEAD(supply_tree, supply);

RB_HEAD(closing_tree, closing);

enum recovery { RECOVERED, RECOVER_ASK /* the sink has not told yet */, RECOVER_WORKERS };

struct batch {
    UT_hash_handle hh;                  /* by id */
    UT_hash_handle hh_short;
    UT_hash_handle hh_number;
    UT_hash_handle hh_submission;
    TAILQ_ENTRY(batch) open_link;       /* in `open`, or once complete in `purges.complete` */
    RB_ENTRY(batch) ready_link;
    bool ready;                         /* is in the tree of batches that may be dispatched */
    struct want *want;
    uint64_t number;
    uint8_t id[WIRE_ID];
    char short_id[16];
    uint8_t submission[WIRE_ID];
    char *key;                          /* owned, or NULL */
    Wire__Options *options;             /* owned */
    mono_t created;
    wall_t created_wall, completed;

    uint64_t staged;                    /* next index that may be submitted */
    uint64_t admitted;                  /* committed: [0, admitted) exist */
    uint64_t digest;
    bool seal_staged, sealed, complete;
    bool cancelled;                     /* the whole */
    Wire__Reason cancel_reason;
    char *cancel_sentence;
    Wire__Span *cancelled_tasks;        /* single cancels, owned array */
    size_t n_cancelled_tasks;

    uint64_t cursor;                    /* [cursor, admitted) were never dispatched */
    struct hole_tree holes;
    struct care_tree by_care[CARES];    /* the same */
    uint64_t in_holes, in_care[CARES];
    TAILQ_ENTRY(batch) quarantine_link; /* has holes of CARE_LAST */
    struct waiting *waitings;           /* hash by index */
    struct flight_tree flights;
    uint64_t in_flight;                 /* open tasks of flights */
    uint64_t unended;                   /* attempts in flights that have not ended: what --max-running counts */
    TAILQ_HEAD(, closing) closings;
    struct closing *closing_by_number;
    struct closing_tree closing_places;
    uint64_t in_closings;
    uint64_t counts[WIRE_VERDICTS];
    uint64_t settled;                   /* = sum of counts */
    uint64_t by_deadline;               /* of those that ended DEADLINE_EXCEEDED: by the batch's, not by an attempt's timeout */
    uint64_t duplicates, retried;

    mono_t deadline;                    /* MONO_NEVER: none */
    bool too_late;                      /* to start anything: the deadline has passed, or is nearer than the least run time */
    bool deadline_passed, grace_passed;
    bool by_wall_clock;                 /* its deadline, since the host's restart: the journal gets it anew */
    struct due due;                     /* too late, deadline, then deadline + grace */
    struct due resend;                  /* closings and registrations that the sink has not answered */

    LIST_HEAD(, announced) announced;   /* to these workers */
    uint64_t touched;                   /* the last list of touched batches that it is in */
    struct batch *next_touched;

    struct batch *parent;               /* whose attempt has submitted it and may still run */
    LIST_HEAD(, batch) children;
    LIST_ENTRY(batch) sibling;
    bool parent_over;                   /* that attempt has ended by itself */

    enum recovery recovery;
    bool restored;                      /* from the journal: it is older than this process */
    bool durable;                       /* the journal has it on disk: nobody is told of it before */
    bool registered;                    /* the sink has it on disk */
    bool in_doubt;                      /* the sink was asked because something didn't fit */
    bool doubt_again;                   /* something else didn't fit after the first part of its answer */
    uint64_t asked;                     /* the sink's answer comes in parts: it has told of the tasks before this one */
    bool partly_told;                   /* not all parts have come: the counts don't fit the places */
    mono_t asked_at;
    bool disowned;                      /* the sink calls it purged: nothing can be recorded of it there */
    bool register_sent;                 /* a registration is on its way */
    bool total_told;                    /* the sink has the total on disk */

    struct supply_tree supplies;
    size_t supply_bytes;
    bool loading;
    char *damage;                       /* owned: the journal's frames can't be read */

    struct pace pace;                   /* at all workers */
    uint64_t pass;                      /* fair share: the smaller, the sooner */
    uint64_t pass_rest;                 /* of its weight, what was too little for one step of it */
    uint64_t recalled;                  /* the round of recalls that named it */
    uint64_t passed_over;               /* the dispatch in which no worker with room could run it */
    TAILQ_ENTRY(batch) rated_link;
    bool is_rated;                      /* is in the list of those whose rate may not be 0 */
    uint64_t rate_settled;              /* settled at the last sample */
    double rate;                        /* tasks a second, smoothed */
};

struct announced {
    UT_hash_handle hh;
    LIST_ENTRY(announced) at_batch;
    struct worker *worker;
    uint64_t number;                    /* of the batch */
};

/* With an id of its own: its batch may be purged before the lane is up. */
struct release {
    Wire__Fence fence;
    uint8_t batch[WIRE_ID];
};

/* Whether a worker is to be told what it may forget, and in which list it is for that. */
enum release_place { RELEASE_NOTHING, RELEASE_LATER, RELEASE_NOW, RELEASE_PLACES };

enum worker_state { WORKER_OPENING, WORKER_READY, WORKER_AWAY /* its lane broke */ };

struct worker {
    UT_hash_handle hh;                  /* by session */
    UT_hash_handle hh_name;
    UT_hash_handle hh_peer;
    UT_hash_handle hh_lane;
    struct crew *crew;                  /* NULL before its hello was read */
    RB_ENTRY(worker) room_link;
    bool in_room;                       /* is in its crew's tree of workers with room */
    uint32_t idle;                      /* … and counted there with so many idle slots */
    LIST_HEAD(, stake) stakes;
    TAILQ_ENTRY(worker) unsorted_link;
    bool unsorted;                      /* its stakes are to be sorted anew */
    TAILQ_ENTRY(worker) opening_link;
    bool in_opening;                    /* is in the list of those that are OPENING */
    TAILQ_ENTRY(worker) release_link;
    enum release_place release_place;
    uint64_t number;                    /* to order equals */
    char *name;
    char shown[WIRE_NAME + 1];          /* the same for notes: one word */
    char address[64];
    uint64_t session;
    ledger_peer peer;
    enum worker_state state;
    bool draining;
    uint32_t slots;
    Wire__WorkerHello *hello;           /* owned: labels, handlers */

    uint64_t lane;                      /* its epoch; 0: none */
    uint32_t lane_port;
    uint64_t sequence;                  /* last lane message sent */
    uint64_t sequence_read;             /* as told by heartbeats */
    bool lane_up, open_sent;
    struct announced *announced;

    TAILQ_HEAD(flight_list, flight) flights;
    uint32_t held;                      /* attempts that have not ended */
    uint32_t suspects, last;            /* those of CARE_SUSPECT and of CARE_LAST */
    bool reserved;                      /* gets nothing until it is empty, and then a task of CARE_LAST */
    TAILQ_ENTRY(worker) reserved_link;
    uint64_t held_bytes;
    uint32_t window;                    /* run credit */
    uint64_t flying;                    /* of a cancel, while its workers are asked */
    struct worker *next_flying;
    double load;                        /* held / slots, the key in the room tree */
    uint64_t recall;                    /* number of the recall that is not confirmed; 0: none */
    uint64_t halted;                    /* number of the last recall that a halt has sent */
    uint32_t recalled;                  /* tasks that it asks for, and that idle slots wait for */
    mono_t recalled_at;
    struct want *recalled_want;         /* … and what those tasks want */
    TAILQ_ENTRY(worker) recalling_link; /* recalled > 0 */
    struct pace pace, paces[PACES_KEPT];        /* of all; of batches, the newest first */
    uint32_t n_paces;
    uint64_t filled;                    /* of CREDIT, by what it holds */
    uint64_t work;                      /* ns that what it holds will take, as far as is known */
    int64_t round_trip;                 /* ns, the shortest that was seen, also with what an attempt took; 0: not known */
    bool swallows;                      /* its lane stood still while its heartbeats came, and it has ended nothing since */
    mono_t progress;                    /* last time that something of it ended, or was given to it while it held nothing */
    uint64_t finished, run_us, result_bytes;
    uint64_t unreleased_bytes, unreleased, queued;      /* as its last heartbeat said */
    mono_t owed_since;                  /* it has results to be recorded, and none was, since then; MONO_NEVER: it has none */
    bool cut_off;                       /* … and that for too long */
    uint32_t busy;
    mono_t probe_sent;                  /* when its lane was opened: the answer is timed */

    mono_t heard, moved;                /* last sign of life; last time that sequence_read rose */
    mono_t opening_since;               /* its first hello since it was READY; MONO_NEVER: it is, or has said none */
    struct due due;                     /* opening, away and silence, by state */
    mono_t leased;                      /* when its lease was renewed last: it may start things for lease_ns after that */
    uint64_t place_told;                /* version of the sink's place that it knows */
    struct release *releases;           /* to be sent down its lane: see ledger_release.c; owned array */
    size_t n_releases, room_releases;
    uint64_t release_sequence;          /* the lane's, when the first of them came */
};

/* Something that waits for its flush. */
enum pending_kind { PENDING_SUBMIT, PENDING_CHUNK, PENDING_SEAL, PENDING_CANCEL, PENDING_EXTEND, PENDING_EPOCH, PENDING_QUIET,
                    PENDING_PURGE, PENDING_HALT };
struct pending {
    TAILQ_ENTRY(pending) link;
    enum pending_kind kind;
    uint64_t sequence;
    ledger_peer client;
    uint64_t request;
    uint64_t batch;                     /* number */
    uint64_t upto;
    bool seals;
    struct cancel *cancel;
    struct { char short_id[16]; uint64_t open, held; } purge;      /* of the answer; `upto`: how many batches */
};

/* A cancel that waits for its journal entry, then for the workers concerned. */
struct cancel {
    TAILQ_ENTRY(cancel) link;
    uint64_t number;
    uint64_t batch;
    ledger_peer client;
    uint64_t request;                   /* 0: nobody waits for the answer */
    Wire__Span *tasks; size_t n_tasks;  /* owned; none: the whole */
    Wire__Reason reason;
    uint64_t queued, running, finished, unreachable;
    struct { uint64_t session; uint64_t tasks; } *asked;    /* workers that have not confirmed; owned */
    size_t n_asked, room_asked;
    bool recovering;                    /* what is queued isn't known before the sink has told what is recorded */
    mono_t journaled;
    bool replied;
    mono_t judge_at;                    /* when running tasks that nobody answered for are judged */
    struct due due;
};

struct client {
    UT_hash_handle hh;
    ledger_peer peer;
    mono_t heard;
};

struct known_worker {                   /* of the journal, until it is back */
    UT_hash_handle hh;
    char name[];
};

TAILQ_HEAD(complete_batches, batch);
TAILQ_HEAD(tombstones, tombstone);

struct purges {
    struct complete_batches complete;   /* by the time of their completion */
    struct tombstone *by_id, *by_short, *by_submission;
    struct tombstones unanswered;       /* the sink may not have forgotten them; in the order of their purge */
    struct tombstone *next_told;        /* the first of them that the sink is to be told of */
    struct tombstones kept;             /* answered: kept for their keys; by the time of their purge */
    uint64_t n_unanswered, n_told, n_kept;
    uint64_t committed;                 /* sequence */
    TAILQ_HEAD(, sweep) sweeps;
    struct due forget_due, kept_due, retain_due, sweep_due;
};

struct ledger {
    struct ledger_config config;
    char *program;
    struct ledger_ports port;
    mono_t now, started;
    struct wire_writer writer;
    struct wire_arena *arena;

    uint64_t epoch;
    bool epoch_committed, draining, full, left;
    uint8_t sink_store[WIRE_ID];
    bool sink_store_known;
    uint64_t next_batch, next_lane, next_number, next_closing, next_worker, next_due;

    struct batch *by_id, *by_short, *by_number, *by_submission;
    TAILQ_HEAD(, batch) open;
    TAILQ_HEAD(, batch) rated;
    uint64_t touches;
    struct want *wants, **want_at;      /* by key, by number; owned */
    uint32_t room_wants;                /* a multiple of 64 */
    struct want_tree ready;
    TAILQ_HEAD(, want) spared;
    uint64_t pass;                      /* of the batch that was served last */
    uint64_t dispatches;

    struct worker *by_session, *by_name, *by_peer, *by_lane;
    struct crew *crews;
    TAILQ_HEAD(, crew) roomy;           /* those in which somebody has room: of many that are full none is looked at */
    TAILQ_HEAD(, worker) unsorted, opening;
    TAILQ_HEAD(, worker) releasing[RELEASE_PLACES];
    struct due release_due;
    TAILQ_HEAD(, worker) recalling;     /* by the time of it */
    TAILQ_HEAD(, want) coming;          /* wants of which something is asked back */
    struct due recall_due;
    uint32_t n_slots;

    struct death *deaths;               /* a ring of DEATHS_KEPT; owned, NULL before the first */
    uint32_t n_deaths;                  /* ever: the number of the last one */
    TAILQ_HEAD(, batch) quarantine;     /* batches that have holes of CARE_LAST */
    TAILQ_HEAD(, worker) reserved;
    uint32_t n_reserved, n_alone;       /* workers that are reserved; that have a task of CARE_LAST */
    struct due reserve_due;
    uint32_t n_loading;                 /* batches whose payloads are being read */

    struct client *clients;
    struct due clients_due;

    TAILQ_HEAD(pending_list, pending) pendings;
    struct pending_list unanswered;             /* on disk; what they admit is dispatched before they are answered, in the same turn */
    TAILQ_HEAD(, cancel) cancels;
    struct due_tree dues;

    struct known_worker *awaited;       /* workers of the journal that are not back yet */
    bool waiting_for_workers;
    struct due workers_due, rate_due;

    ledger_peer sink_peer;
    bool sink_present, sink_full, sink_dialled;
    uint64_t sink_session;
    char sink_address[64];
    uint64_t sink_version;              /* of its place */
    Wire__SinkHello *sink_hello;        /* owned */
    mono_t sink_heard, sink_moved;      /* last sign of life; last sign that it records, or has nothing to record */
    struct due sink_due;

    TAILQ_HEAD(, copy) copies;          /* pieces of retries that wait for their frames */
    struct making *making;              /* room for one frame; owned, NULL before the first retry */
    size_t supply_bytes;
    struct purges purges;
    struct ledger_counts counts;
};

/* ---- ledger.c ---- */
void due_set(struct ledger *l, struct due *d, mono_t at, void (*fire)(struct ledger *, void *), void *owner);
void due_clear(struct ledger *l, struct due *d);
struct pending *pend(struct ledger *l, enum pending_kind kind, uint64_t sequence);
void note(struct ledger *l, int level, const char *event, const char *format, ...) __attribute__((format(printf, 4, 5)));
/* A text of somebody else for a note: what would end a value becomes another character. Returns out. */
const char *note_text(const char *text, bool word, char out[WIRE_NAME + 1]);
int64_t us_to_ns(uint64_t us);          /* saturating */
uint64_t ns_to_us(int64_t ns);          /* negative is 0 */
int64_t lease_ns(const struct ledger *l);
int64_t line_ns(uint64_t bytes);        /* how long they may be on their way: who sends much on a slow line isn't silent */

/* ---- ledger_move.c ---- */
struct flight *flight_at(struct batch *b, uint64_t index);
struct flight *flight_after(struct batch *b, uint64_t index);      /* the first that ends after index */
struct span_list {
    Wire__Span *at;                     /* owned */
    size_t n, room;
};
void span_add(struct span_list *list, uint64_t first, uint64_t count);
bool bit_get(const uint64_t *bits, uint32_t at);
uint64_t word_mask(uint32_t w, uint32_t from, uint32_t to);         /* the bits of word w that lie in [from, to) */
void flight_began(struct ledger *l, struct flight *f, uint64_t first, uint32_t count);          /* reported to run */
void flights_charge(struct worker *w, const struct batch *b);       /* it is known now how long those of b take */
bool flight_waits(const struct flight *f);                          /* some of it has not started, as far as is known */
uint32_t bits_fill(uint64_t *bits, uint32_t from, uint32_t n);      /* sets; how many were 0 */
struct hole *hole_after(struct batch *b, uint64_t index);           /* the first that ends after index */
struct hole *hole_at(struct batch *b, uint64_t index);
uint64_t batch_queued(const struct batch *b);                       /* without the waiting */
/* Takes [first, first + count) out of the queue: out of holes, and off the cursor. How many were there. */
uint64_t take_queued(struct ledger *l, struct batch *b, uint64_t first, uint64_t count);
/* The run of queued tasks that begins at `first`: its length, at most `count`, and its past. */
uint64_t queued_run(struct batch *b, uint64_t first, uint64_t count, struct past *ret_past);
void put_hole(struct ledger *l, struct batch *b, uint64_t first, uint64_t count, struct past past);
void drop_holes(struct ledger *l, struct batch *b);                 /* all; their tasks must be put elsewhere or be settled */
struct waiting *put_waiting(struct ledger *l, struct batch *b, uint64_t index, struct past past, int64_t delay);
void drop_waiting(struct ledger *l, struct waiting *w);
/* Takes what waits of [first, end) out, and adds it to the list (NULL: none). How many that were. */
uint64_t take_waiting(struct ledger *l, struct batch *b, uint64_t first, uint64_t end, struct span_list *taken);
struct flight *put_flight(struct ledger *l, struct batch *b, struct worker *w, uint64_t first, uint32_t count,
                          uint64_t epoch, struct past past, uint64_t bytes);
/* Cuts a flight so that [first, first + count) of it is a flight of its own; NULL without memory. What is left
 * before and behind is freed when nothing of it is open or unended: f is not to be used afterwards. */
struct flight *flight_carve(struct ledger *l, struct flight *f, uint64_t first, uint32_t count);
uint32_t flight_end(struct ledger *l, struct flight *f, uint64_t first, uint32_t count);   /* gives run credit back */
uint32_t flight_settle(struct flight *f, uint64_t first, uint32_t count);
void flight_prune(struct ledger *l, struct flight *f);              /* frees it when nothing of it is left */
void flight_drop(struct ledger *l, struct flight *f);               /* frees it; its open tasks must be put elsewhere */
/* A run [*first, *first + result) of tasks of f that are not done, at or after *first; 0: none. */
uint32_t flight_open_run(const struct flight *f, uint64_t *first);
struct closing *put_closing(struct ledger *l, struct batch *b, uint64_t first, uint64_t count, Wire__Verdict verdict,
                            Wire__Reason reason, const char *sentence);
struct closing *closing_at(struct batch *b, uint64_t index);        /* those of a batch do not overlap; NULL: none */
void drop_closing(struct batch *b, struct closing *c);

/* ---- ledger_batch.c ---- */
struct batch *batch_new(struct ledger *l, uint64_t number, const uint8_t *id, const Wire__Options *options);
void batch_free(struct ledger *l, struct batch *b);
struct batch *batch_by_id(struct ledger *l, ProtobufCBinaryData id);
struct batch *batch_by_number(struct ledger *l, uint64_t number);
struct batch *batch_find(struct ledger *l, const char *ref, struct why *why);
int batch_index(struct ledger *l, struct batch *b);                 /* puts it into the tables */
uint64_t batch_journal(struct ledger *l, struct batch *b);
uint64_t batch_tally(struct ledger *l, struct batch *b);
void batch_unjournal(struct ledger *l, const struct batch *b);      /* its records go; its frames don't */
void batch_set_deadline(struct ledger *l, struct batch *b, mono_t at);
void batch_moved(struct ledger *l, struct batch *b);    /* after any change: is it ready, registered, complete? */
/* Lists the batches that an event concerns, each once, by `next_touched`. */
struct touched { struct batch *first; uint64_t number; };
void touch_begin(struct ledger *l, struct touched *list);
void touch(struct touched *list, struct batch *b);
bool batch_task_cancelled(const struct batch *b, uint64_t index);
/* How many of [first, first + count), from the first on, are all cancelled one by one, or all aren't: *ret_cancelled. */
uint64_t batch_cancelled_run(const struct batch *b, uint64_t first, uint64_t count, bool *ret_cancelled);
/* Adds single cancels. false: they would be more than a lane's message, and the journal's record, has room for. */
bool batch_cancel_tasks(struct batch *b, const Wire__Span *spans, size_t n);
uint64_t state_journal(struct ledger *l);
int restore_batch(struct ledger *l, const Wire__JournalBatch *r, struct why *why);
size_t spans_merge(Wire__Span *spans, size_t n);        /* sorts; those that touch become one; how many are left */
int restore_tally(struct ledger *l, const Wire__JournalTally *r, struct why *why);

/* ---- ledger_supply.c ---- */
void supply_add(struct ledger *l, struct batch *b, const Wire__Tasks *tasks, struct slice body, mono_t admitted);
struct supply *supply_at(struct batch *b, uint64_t index);
void supply_want(struct ledger *l, struct batch *b, uint64_t index);
void supply_passed(struct ledger *l, struct batch *b, struct supply *s);
void supply_drop_all(struct ledger *l, struct batch *b);
void supply_loading(struct ledger *l, struct batch *b, bool loading);       /* its payloads are being read */
size_t supply_offset(struct supply *s, uint32_t at);

/* ---- ledger_request.c, ledger_report.c ---- */
void reply_send(struct ledger *l, ledger_peer client, const Wire__Reply *m);     /* a client that is gone is forgotten */
Wire__State batch_state(const struct batch *b);
void reply_refused(struct ledger *l, ledger_peer client, uint64_t request, Wire__RefusedCode code, const char *sentence);
void reply_submitted(struct ledger *l, ledger_peer client, uint64_t request, struct batch *b);
void reply_admitted(struct ledger *l, ledger_peer client, uint64_t request, struct batch *b);
void reply_status(struct ledger *l, ledger_peer client, uint64_t request, const Wire__Status *m);
void reply_list(struct ledger *l, ledger_peer client, uint64_t request, const Wire__List *m);
void reply_workers(struct ledger *l, ledger_peer client, uint64_t request, const Wire__Workers *m);
void reply_slowest(struct ledger *l, ledger_peer client, uint64_t request, const Wire__Slowest *m);
const char *worker_state_name(const struct ledger *l, const struct worker *w);      /* for people */
void reply_explain(struct ledger *l, ledger_peer client, uint64_t request, const Wire__Explain *e);
void request_committed(struct ledger *l, struct pending *p);
void requests_answer(struct ledger *l);                  /* the chunks and seals that are on disk */
void request_submit(struct ledger *l, ledger_peer peer, uint64_t request, const Wire__Submit *s);
void pend_for(struct ledger *l, enum pending_kind kind, uint64_t sequence, ledger_peer peer, uint64_t request, const struct batch *b);
void batch_note(struct ledger *l, const struct batch *b, char *out, size_t size);   /* what people should know of it */
uint64_t batch_age_us(const struct ledger *l, const struct batch *b);       /* since its admission */
void rate_sample(struct ledger *l);
void rate_begin(struct ledger *l, struct batch *b);      /* after any change of what is settled */
void rate_end(struct ledger *l, struct batch *b);

/* ---- ledger_again.c ---- */
void request_retry(struct ledger *l, ledger_peer peer, uint64_t request, const Wire__Retry *r);
void copies_loaded(struct ledger *l, struct batch *from, const struct ledger_frame *frames, size_t n, const char *damage);
void copies_forget(struct ledger *l, const struct batch *b);        /* it goes */
void copies_destroy(struct ledger *l);

/* ---- ledger_worker.c ---- */
void worker_upward(struct ledger *l, ledger_peer peer, const char *address, const Wire__Upward *m);
struct worker *worker_by_session(struct ledger *l, uint64_t session);
void worker_lane(struct ledger *l, struct worker *w, Wire__Lane *m, struct slice body, bool with_body);
void worker_free(struct ledger *l, struct worker *w);
void worker_tell_drain(struct ledger *l, struct worker *w);      /* tells it to leave */
void worker_cancel(struct ledger *l, struct worker *w, struct batch *b, const Wire__Span *spans, size_t n,
                   Wire__Reason reason, bool silent, uint64_t number);
struct worker *worker_by_peer(struct ledger *l, ledger_peer peer);
void refuse_peer(struct ledger *l, ledger_peer peer, Wire__RefusedCode code, const char *sentence);     /* a worker or a sink */
void worker_say_hello(struct ledger *l, ledger_peer peer);

/* ---- ledger_loss.c ---- */
enum care care_of(const struct ledger *l, const struct past *past);
/* Puts tasks that were in a flight, or waited, where they belong: into the queue, or into a closing. */
void requeue(struct ledger *l, struct batch *b, uint64_t first, uint64_t count, struct past past);
void worker_unload(struct ledger *l, struct worker *w, bool is_lost);      /* requeues all that it has; ends its flights */
void judge_lost(struct ledger *l, struct batch *b);                 /* what could not be judged before the sink had told */
void past_undo(const struct ledger *l, struct past *past, uint64_t session);   /* the worker that was lost last is back */
void deaths_free(struct ledger *l);
/* "3 workers were lost while it ran: w1, w2, w3" */
void lost_sentence(const struct ledger *l, const struct batch *b, const struct past *past, char *out, size_t size);

/* ---- ledger_quarantine.c ---- */
void quarantine_dispatch(struct ledger *l, bool all);       /* all: nothing else wants the empty workers */
void quarantine_reserve(struct ledger *l);                  /* empties a worker when none is empty */
void quarantine_let_go(struct ledger *l, struct worker *w); /* its reservation ends */
/* What waits for an empty worker, for people; false: nothing does. */
bool quarantine_note(struct ledger *l, const struct batch *b, char *out, size_t size);

/* ---- ledger_retry.c ---- */
uint32_t tries_left(const struct batch *b, const struct past *past);
void try_again(struct ledger *l, struct batch *b, uint64_t index, struct past past);      /* after its backoff */
/* n attempts of each of these tasks are on record, wherever they are now. */
void tries_on_record(struct ledger *l, struct batch *b, uint64_t first, uint64_t count, uint32_t n);

/* ---- ledger_owed.c ---- */
void owed_recorded(struct ledger *l, struct worker *w);                        /* something of it was */
void owed_told(struct ledger *l, struct worker *w, uint64_t unreleased);       /* by its heartbeat */
void owed_judge(struct ledger *l, struct worker *w);                           /* once a heartbeat, while it is READY */

/* ---- ledger_dispatch.c ---- */
void dispatch(struct ledger *l);
void look_again(struct ledger *l, void *unused);            /* of a due that is there only for the dispatch that follows */
/* Gives w some tasks of b; the one of CARE_LAST that is next, or some of all others. false: b's payloads have to be read first. */
bool assign(struct ledger *l, struct worker *w, struct batch *b, bool last);
bool batch_may_fly(const struct ledger *l, const struct batch *b);      /* nothing but room may be missing */
bool batch_is_full(const struct batch *b);                          /* as many run as --max-running lets */
void worker_announce(struct ledger *l, struct worker *w, struct batch *b);     /* once on each lane */
void worker_room(struct ledger *l, struct worker *w);               /* after any change of held, window, recall or state */
void worker_leave_room(struct ledger *l, struct worker *w);
void recall_over(struct ledger *l, struct worker *w);               /* it is confirmed, or nobody waits for it any more */
/* After a change of how long tasks of b take at w: when those from `index` on are far too many for it, most go back. */
void recall_too_many(struct ledger *l, struct worker *w, struct batch *b, uint64_t index);
bool batch_is_ready(const struct ledger *l, const struct batch *b);
void batch_ready(struct ledger *l, struct batch *b);                /* enters or leaves the tree */

/* ---- ledger_pace.c ---- */
int64_t pace_hidden(const struct worker *w);                        /* ns that what it holds has to last */
uint32_t pace_credit(const struct worker *w, int64_t service);      /* how many tasks that take so long it may hold */
uint64_t pace_charge(const struct worker *w, int64_t service);      /* what one of them takes of CREDIT */
bool pace_learn(struct worker *w, struct batch *b, uint64_t n, int64_t took);     /* n of b took so long together; true: the first there */
void pace_learn_all(struct worker *w, uint64_t n, int64_t took);
int64_t pace_of(const struct worker *w, const struct batch *b);     /* ns a task; 0: nobody knows */

/* ---- ledger_settle.c ---- */
void close_span(struct ledger *l, struct batch *b, uint64_t first, uint64_t count, Wire__Verdict v, Wire__Reason r, const char *sentence);
void close_queued(struct ledger *l, struct batch *b, Wire__Verdict v, Wire__Reason r, const char *sentence);
void close_unwanted(struct ledger *l, struct batch *b);     /* what is queued and must not be: by a cancel, by the deadline */
/* The same of [first, first + count): of what is queued or waits (how many that were), and of what flies. */
uint64_t close_queued_span(struct ledger *l, struct batch *b, uint64_t first, uint64_t count, Wire__Verdict v, Wire__Reason r,
                           const char *sentence);
void close_flights_span(struct ledger *l, struct batch *b, uint64_t first, uint64_t count, Wire__Verdict v, Wire__Reason r,
                        const char *sentence);
void close_flights(struct ledger *l, struct batch *b, Wire__Verdict v, Wire__Reason r, const char *sentence);
void closings_send(struct ledger *l, struct batch *b, bool again);     /* again: also what was sent before */
void on_recorded(struct ledger *l, const Wire__Recorded *m);
void on_refused_result(struct ledger *l, const Wire__RefusedResult *m);
uint64_t settle_span(struct ledger *l, struct batch *b, uint64_t first, uint64_t count);    /* recorded, without counting verdicts */
void deadline_due(struct ledger *l, void *batch);

/* ---- ledger_cancel.c ---- */
void cancel_begin(struct ledger *l, ledger_peer client, uint64_t request, const Wire__Cancel *m);
void cancel_journaled(struct ledger *l, struct cancel *c);
void cancel_confirmed(struct ledger *l, struct worker *w, const Wire__Confirmed *m);
void cancels_concern(struct ledger *l, struct worker *w);   /* it said hello */
void cancels_tell(struct ledger *l, struct worker *w);      /* its lane is open */
void cancels_may_answer(struct ledger *l);                  /* all workers of before the restart are back, or gone */
void cancel_worker_gone(struct ledger *l, struct worker *w);
void cancels_recovered(struct ledger *l, struct batch *b);  /* the sink has told what is recorded of it */
void cancel_free(struct ledger *l, struct cancel *c);
void cancel_reapply(struct ledger *l, struct batch *b);             /* after a restart */
void cancel_whole(struct batch *b, Wire__Reason reason, const char *sentence);     /* from here on nothing of it is dispatched */
/* The same, journaled and carried through like a client's cancel, though nobody waits for an answer. */
void cancel_by_itself(struct ledger *l, struct batch *b, Wire__Reason reason, const char *sentence);

/* ---- ledger_parent.c ---- */
/* Before b is put into the tables: may it be taken in, and what does it inherit beyond what was given? -1: why says why not. */
int nested_begin(struct ledger *l, struct batch *b, const Wire__Options *given, Wire__RefusedCode *code, struct why *why);
void nested_link(struct ledger *l, struct batch *b);        /* to the parent that its options name, if that is here and open */
void nested_forget(struct batch *b);                        /* b is over: it has neither parent nor children from here on */
void nested_judge(struct ledger *l, struct batch *p);       /* p has moved: do its children go on? */
void nested_recorded(struct ledger *l, struct batch *p, const Wire__RecordedResult *r);
bool nested_note(const struct ledger *l, const struct batch *b, char *out, size_t size);    /* a deadlock; false: none */

/* ---- ledger_halt.c ---- */
void halt_judge(struct ledger *l, struct batch *b);         /* its counts have changed: is it to be halted? */
void halt_journaled(struct ledger *l, struct batch *b);
void halt_recall(struct ledger *l, struct worker *w, struct batch *b);     /* takes back what has not started there */
bool is_halted(const struct batch *b);
bool halt_lets_finish(const struct batch *b);               /* is halted, and what runs may go on */
uint64_t halt_failures(const struct batch *b);

/* ---- ledger_sink.c ---- */
void sink_upward(struct ledger *l, ledger_peer peer, const char *address, const Wire__Upward *m, struct slice body);
void sink_register(struct ledger *l, struct batch *b);      /* when there is something to tell */
void sink_fill_place(const struct ledger *l, Wire__SinkPlace *place, char **hosts, char **results, char **queries);
void resend_due(struct ledger *l, void *batch);
void sink_ask(struct ledger *l, struct batch *b);           /* what it has recorded */
/* The same, but not again before it has answered. While the parts of its answer come, tasks are settled as they are
 * told, the counts are those of the last part, and closings that are recorded meanwhile stay until then. */
void sink_doubt(struct ledger *l, struct batch *b);
void workers_back(struct ledger *l);
void sink_gone(struct ledger *l, const char *reason);
int sink_closing(struct ledger *l, Wire__Closing *closing);     /* 0, or it didn't go */
int sink_forget(struct ledger *l, const uint8_t id[WIRE_ID]);      /* tells it to; 0 or -errno */

/* ---- ledger_purge.c ---- */
void purge_init(struct ledger *l);
void purge_restored(struct ledger *l);
void purge_destroy(struct ledger *l);
int restore_purged(struct ledger *l, const Wire__JournalPurged *r, struct why *why);
void purge_begin(struct ledger *l, ledger_peer client, uint64_t request, const Wire__Purge *m);
void purge_answer(struct ledger *l, struct pending *p);     /* it is in the journal */
void purge_completed(struct ledger *l, struct batch *b);    /* b is complete: from now on it is retained */
void purge_committed(struct ledger *l, uint64_t sequence);
void purge_tell_again(struct ledger *l);                    /* a new connection of the sink */
void on_forgotten(struct ledger *l, const Wire__Forgotten *m);
bool purged_short_id(const struct ledger *l, const char *short_id);
/* Whether a batch of this name, or with this submission, was purged; then why says so. */
bool purged_find(const struct ledger *l, const char *ref, struct why *why);
/* Its code: not now, while a crash could still undo the purge. */
bool purged_submission(const struct ledger *l, const uint8_t submission[WIRE_ID], Wire__RefusedCode *ret_code, struct why *why);

int due_cmp(const struct due *a, const struct due *b);
int hole_cmp(const struct hole *a, const struct hole *b);
int flight_cmp(const struct flight *a, const struct flight *b);
int supply_cmp(const struct supply *a, const struct supply *b);
int ready_cmp(const struct batch *a, const struct batch *b);
int room_cmp(const struct worker *a, const struct worker *b);
int closing_cmp(const struct closing *a, const struct closing *b);
RB_PROTOTYPE(due_tree, due, link, due_cmp)
RB_PROTOTYPE(hole_tree, hole, link, hole_cmp)
RB_PROTOTYPE(care_tree, hole, care_link, hole_cmp)
RB_PROTOTYPE(flight_tree, flight, link, flight_cmp)
RB_PROTOTYPE(supply_tree, supply, link, supply_cmp)
RB_PROTOTYPE(ready_tree, batch, ready_link, ready_cmp)
RB_PROTOTYPE(room_tree, worker, room_link, room_cmp)
RB_PROTOTYPE(closing_tree, closing, place_link, closing_cmp)

#endif
