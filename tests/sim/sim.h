/* A whole cluster in one process, with virtual time: one ventilator, one sink, up to five workers and a
 * client, between them a network and under them disks that are made of ports. Everything that happens
 * follows from a seed. docs/simulation.md says what is checked.
 *
 *   main.c       runs seeds and mutants, prints TAP
 *   world.c      the clock, the queue of events, chance, processes that start, crash and freeze
 *   network.c    connections: real encoding, delays, breaks, partitions
 *   disk.c       what is staged, flushed, committed, lost in a crash
 *   vent.c worker.c sink.c client.c     the four kinds of processes around the cores
 *   scenario.c   what a seed means: the cluster and its batches; faults.c: what goes wrong
 *   check.c      the invariants; purged.c: of what is purged
 *   cover.c      what was reached, and how often
 *   say.c        messages in the trace
 *   mutants.c    rules that are broken on purpose, and who must notice; bent.c: one inside the ledger */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/clock.h"
#include "proto/wire.h"
#include "sink/register.h"
#include "ventilator/ledger.h"
#include "worker/agent.h"

#define US NS_PER_US
#define MS NS_PER_MS
#define S  NS_PER_S

#define MAX_WORKERS  5u
#define MAX_SLOTS    4u
#define MAX_PLANS    6u
#define N_PROCESSES  (3u + MAX_WORKERS)
#define LOSS_GRACE   (2 * S)
#define MAX_LOSSES   3u
#define CACHE_BYTES  UINT64_C(2000)    /* of payloads in the ventilator's memory */
#define CACHE_SLACK  UINT64_C(2500000) /* for each batch: what is read at once */
#define WORLD_BEGIN  (1000 * S)

struct world;
struct link;

/* ---- events ---- */

/* What a run has reached: counted over all seeds, printed at the end. */
#define COVERS(X) \
    X(KILL_VENT, "kills of the ventilator")                      X(KILL_SINK, "kills of the sink") \
    X(KILL_WORKER, "kills of a worker")                          X(KILL_CLIENT, "kills of the client") \
    X(KILL_MIDWAY, "kills between two effects of one event")     X(KILL_RECOVERING, "kills again during the recovery") \
    X(POWER_ALL, "power cuts of everything at once")             X(POWER_ONE, "power cuts of one host") \
    X(REBOOT, "restarts with another boot id")                   X(WALL_STEP, "steps of the wall clock") \
    X(JOURNAL_IDLE, "journal lost its process: idle")            X(STORE_IDLE, "store lost its process: idle") \
    X(JOURNAL_STAGED, "journal: staged, not flushed")            X(STORE_STAGED, "store: staged, not flushed") \
    X(JOURNAL_FLUSHED, "journal: flushed, behind another")       X(STORE_FLUSHED, "store: flushed, behind another") \
    X(JOURNAL_WRITING, "journal: while it commits")              X(STORE_WRITING, "store: while it commits") \
    X(JOURNAL_PART, "journal: some flushes durable")             X(STORE_PART, "store: some flushes durable") \
    X(JOURNAL_DURABLE, "journal: durable, not told")             X(STORE_DURABLE, "store: durable, not told") \
    X(JOURNAL_TOLD, "journal: told a moment ago")                X(STORE_TOLD, "store: told a moment ago") \
    X(FLUSHES_LOST, "flushes that a crash lost")                 X(FLUSHES_KEPT, "flushes that survived untold") \
    X(ERROR_JOURNAL, "journal: write errors, exit code 6")       X(ERROR_STORE, "store: write errors, exit code 6") \
    X(FULL_JOURNAL, "journal: full")                             X(FULL_STORE, "store: full") \
    X(FULL_BOTH, "both disks full")                              X(FULL_LONG, "full for more than 5 s") \
    X(FULL_START, "starts with a full disk")                     X(FULL_KILL, "kills while the disk is full") \
    X(CUT_ONE_WAY, "partitions, one way")                        X(CUT_TWO_WAYS, "partitions, both ways") \
    X(CUT_VENT_WORKER, "between ventilator and worker")          X(CUT_SINK_WORKER, "between sink and worker") \
    X(CUT_VENT_SINK, "between ventilator and sink")              X(CUT_VENT_CLIENT, "between ventilator and client") \
    X(LINK_BROKEN, "connections broken alone")                   X(LINK_STALLED, "connections that stood still") \
    X(LINK_VANISHED, "connections whose end vanished unheard")   X(LINK_LATE, "broken connections that were read late") \
    X(LANE_MISMATCH, "dials of a lane that is another's")        X(SINK_BUSY, "results that found the way to the sink full") \
    X(FREEZE, "freezes")                                         X(FREEZE_LONG, "freezes of more than 13 s") \
    X(SUSPEND, "suspends of a host")                             X(SLOW, "worlds with something slow") \
    X(DRAIN, "orderly leavings")                                 X(ROLL, "rolling restarts of everything") \
    X(SINK_GONE, "a sink that is gone for a minute")             X(DUPLICATE, "results of tasks that had a verdict") \
    X(RUN_AGAIN, "attempts of tasks that ran before")            X(SUBMITTER_DIED, "submitters that died half way") \
    X(CONTINUED, "... whose batch was continued")                X(CANCELLED_OPEN, "... whose batch was cancelled") \
    X(SEALED_OPEN, "... whose batch was sealed")                 X(RESUBMITTED, "complete batches that were submitted again") \
    X(POISON, "tasks that killed a worker")                      X(POISON_LOST, "of these, judged lost") \
    X(BACKLOG, "backlogs of more than 100,000 tasks")            X(PURGED, "batches that were purged") \
    X(PURGE_WAITS, "purges refused while something is held")     X(PURGE_KEY, "submissions refused: their batch is purged") \
    X(KILL_PURGING, "kills while the sink has to forget")        X(RETAINED, "batches purged for their age") \
    X(NOT_NOW, "requests refused until later: full, leaving")   X(HALTED, "tasks that a halt has ended") \
    X(BUNDLE, "bundles of many tasks in one slot")               X(BUNDLE_SPLIT, "of these, ended with tasks that had not begun")

#define COVER_OF(name, text) COVER_##name,
enum cover { COVERS(COVER_OF) COVER_N };

struct event {
    int64_t at;
    uint64_t order;
    struct event *next;                /* while its process is frozen */
    struct process *target;            /* NULL: the world's own */
    uint32_t life;                     /* of the target, when it was made: another life never sees it */
    void (*fire)(struct world *w, struct event *e);
    void *p;
    uint64_t a, b;
};

/* ---- processes ---- */

enum role { ROLE_VENT, ROLE_SINK, ROLE_CLIENT, ROLE_WORKER };

struct process {
    struct world *world;
    enum role role;
    unsigned number;                   /* in world.all */
    char name[12];
    bool alive, frozen, stopping;
    uint32_t life;
    unsigned stood_still;              /* turns to go before it may judge silence */
    struct event *held, *held_last;
    int64_t booted;                    /* the world's time at which its host's clock stood at 0 */
    int64_t drift;                     /* ns that this clock gains in a second */
    unsigned boots;
    int64_t slow;                      /* a turn of its loop may come so much later */
    bool doomed;                       /* it dies when this event is over; nothing that it still does has an effect */
    uint64_t doom_in;                  /* effects until then; 0: not planned */
    int64_t down;                      /* for how long, after that */
    bool turn_planned;
    uint64_t wake;                     /* the timer that counts */
    unsigned spins;
    struct wire_arena *arena;
    struct wire_writer writer;
};

/* ---- network ---- */

enum link_kind { LINK_CLIENT, LINK_CONTROL, LINK_LANE, LINK_RESULTS };
enum { DIALER, LISTENER };             /* the ends of a link */

/* One end that dials, and goes on dialling (but for lanes). */
struct dial {
    enum link_kind kind;
    struct process *from, *to;
    struct link *link;                 /* as far as the dialler knows */
    bool wanted, planned;
    uint32_t port;                     /* lanes */
};

/* ---- disk ---- */

struct op {
    struct op *next;
    enum { OP_PUT, OP_REMOVE, OP_APPEND, OP_REMOVE_FRAMES } kind;
    char key[80];
    uint64_t number, batch, first;
    uint32_t count, row_kind;
    struct buf *value, *body;          /* record or head; body */
};

struct flush {
    struct flush *next;
    uint64_t sequence;
    struct op *ops, **tail;
};

/* Where a process may be while it waits for its disk, in the order of COVER_JOURNAL_IDLE and on. */
enum await { AWAIT_IDLE, AWAIT_STAGED, AWAIT_FLUSHED, AWAIT_WRITING, AWAIT_PART, AWAIT_DURABLE, AWAIT_TOLD, AWAITS };

struct disk {
    struct process *owner;
    struct op **records;               /* by key */
    size_t n_records, room_records;
    struct op **frames;                /* by number */
    size_t n_frames, room_frames;
    struct flush *staged, *flushes, **flushes_tail;
    uint64_t sequence, committed, told, next_number;
    int64_t told_at;
    bool busy, full, in_part;
    unsigned reserve;                  /* commits that a full disk still takes */
    bool fail_next;                    /* the next commit ends in an error of the disk */
    enum await armed;                  /* the process dies at the armed_in'th await of this kind; AWAIT_IDLE: none */
    unsigned armed_in;
    int64_t speed;                     /* ns of a usual commit */
};

/* ---- the processes' own ---- */

struct lane {
    uint64_t epoch;
    uint32_t port;
    bool open;
    struct link *link;
};

struct vent {
    struct process p;
    uint64_t most_in_flight;           /* ever */
    unsigned boot_known;               /* something was committed in this boot of its host */
    struct ledger *ledger;
    struct disk disk;
    struct dial sink;
    struct lane lanes[64];
    uint32_t next_port;
    bool left;
};

struct run {                           /* what a slot does */
    bool busy, stopping;
    uint64_t generation;
    uint8_t batch[WIRE_ID];
    uint64_t index, epoch;
    uint32_t attempt;
    int64_t started, kill_at;
    bool stubborn;
    int how, code;
    struct task_run *record;
    /* of a bundle: */
    struct agent_run what;             /* as it came; its pointers are the agent's, while the slot is busy */
    uint32_t begun;
    bool closed, keep_first;
    mono_t first_at, begun_at;
};

struct worker {
    struct process p;
    struct agent *agent;
    struct dial control, lane, sink;
    struct run runs[MAX_SLOTS];
    struct agent_part parts[MAX_SLOTS][WIRE_BLOCK];
    uint32_t slots;
    uint64_t session, told;
    bool left, was_full;
};

struct sink {
    struct process p;
    struct registry *registry;
    struct disk disk;
    struct dial control;
    bool paused;
};

/* What the client means to do with one batch. */
struct plan {
    bool used, range, seal_apart, never_sealed, whole_cancel, with_key;
    uint64_t total;
    int64_t submit_at, cancel_after, extend_after;      /* the last two after the first answer; 0: not */
    uint64_t extend_us;
    Wire__Options options;
    Wire__RetryRule retry;
    Wire__HaltRule halt;
    Wire__Range numbers;
    Wire__Micros deadline, timeout;
    uint8_t submission[WIRE_ID];
    char key[16], name[16];
    Wire__Span cancel_span;
    bool may_get_stuck, tiny, micro;
    enum { LIVES_ON, DIES_CONTINUED, DIES_CANCELLED, DIES_SEALED } submitter;
    uint64_t dies_at;                  /* its submitter, with so many tasks on the way */
    int64_t dead_for;
    bool resubmits;                    /* the whole, when it is complete */
    bool purges;                       /* after that, and submits it once more */
    int64_t purge_at;
    uint64_t poison[3];                /* tasks whose attempts kill their worker */
    size_t n_poison;

    /* The client's, lost in its crash. */
    enum { PLAN_NEW, PLAN_SUBMITTED, PLAN_SENT, PLAN_SEALED } stage;
    bool waiting, sealed_told, cancel_sent, extend_sent, status_sent, purge_sent;
    uint64_t next, digest, on_the_way;
    /* The world's. */
    uint8_t id[WIRE_ID];
    char short_id[16];
    bool known, cancel_done, extend_done, status_done, died, resubmitted, purge_asked, perhaps_purged, purged, key_refused;
    int64_t asked_at, answered_at, dead_until, again_at;
    struct truth *truth;
};

struct client {
    struct process p;
    struct dial dial;
    bool welcomed;
    uint64_t next_request;
    struct { uint64_t id; unsigned plan; int kind; int64_t at; } asked[64];
};

/* ---- what is true (check.c) ---- */

struct task_run {
    struct task_run *next;
    uint64_t epoch;
    uint32_t attempt;
    struct worker *worker;
    uint32_t life;
    bool over, stopped, ok;
};


struct task {
    uint8_t verdict;                   /* recorded, on disk */
    bool cancelled;                    /* the cancel was acknowledged */
    uint8_t killed;                    /* workers */
    struct task_run *runs;
};

struct truth {
    struct truth *next;
    uint8_t id[WIRE_ID];
    char short_id[16];
    uint64_t acknowledged, recorded, n;
    uint64_t counts[WIRE_VERDICTS];
    struct task *tasks;
    size_t room;
    bool complete;                     /* the ventilator said so */
    int64_t deadline_by, grace;        /* the latest time that the deadline can be; 0: none */
    int64_t deadline_from;             /* the earliest; 0: none */
    uint64_t deadline_version;
    const Wire__HaltRule *halt;        /* of its plan; NULL: none */
    uint64_t total;                    /* that its plan means to submit */
    uint64_t failures;                 /* on disk, as a halt rule counts them */
    int64_t halted_at;                 /* there are enough of them since then; 0: not yet */
};

/* What a seed is about. */
enum theme {
    THEME_QUIET,                       /* nothing goes wrong */
    THEME_STORM,                       /* anything may */
    THEME_GENTLE,                      /* everything is restarted in turn, as an operator does it */
    THEME_POISON,                      /* some tasks kill their workers, nothing else does */
    THEME_BACKLOG,                     /* far more tasks than can run */
};

enum mutant {
    MUTANT_NONE, MUTANT_SINK_COMMITS_EARLY, MUTANT_JOURNAL_COMMITS_EARLY, MUTANT_RECORDED_LOST, MUTANT_CANCEL_IGNORED,
    MUTANT_LANE_REORDERED, MUTANT_RUN_TWICE, MUTANT_SLOT_FREED_EARLY, MUTANT_ROW_FORGOTTEN, MUTANT_RESTORE_SKIPS, MUTANT_CLOSING_LOST,
    MUTANT_TORN_FLUSH, MUTANT_DISK_ERROR_IGNORED,
    MUTANT_CLOCK_FAST, MUTANT_CLOCK_SENT, MUTANT_DEADLINE_FORGOTTEN, MUTANT_REBOOT_UNNOTICED, MUTANT_LEASE_TOO_LONG,
    MUTANT_DRAIN_KILLS, MUTANT_LOSSES_UNCOUNTED, MUTANT_INNOCENT_BLAMED, MUTANT_CACHE_UNBOUNDED, MUTANT_KEY_FORGOTTEN,
    MUTANT_FORGET_LOST, MUTANT_PURGE_HALF, MUTANT_TOMBSTONE_LOST, MUTANT_COUNTER_BENT, MUTANT_WIRE_BENT, MUTANT_ACK_INVENTED, MUTANT_COUNTS_FORGED, MUTANT_OK_INVENTED, MUTANT_RELEASE_LOST, MUTANT_HOLDINGS_HIDDEN,
    MUTANT_HALT_IGNORED, MUTANT_HALT_EARLY, MUTANT_BUNDLE_GOES_ON, MUTANTS
};

struct world {
    uint64_t seed, random[4];
    int64_t now, end_of_faults, horizon;
    uint64_t order, n_events;
    struct event **heap;
    size_t n_heap, room_heap;

    struct vent vent;
    struct sink sink;
    struct client client;
    struct worker workers[MAX_WORKERS];
    unsigned n_workers;
    struct process *all[N_PROCESSES];
    unsigned n_all;

    struct link *links;
    bool cut[N_PROCESSES][N_PROCESSES];          /* nothing passes from the first to the second */
    uint32_t next_peer;
    uint64_t next_link;

    enum theme theme;
    int64_t retain;                      /* ns: complete batches are purged after this; 0: never */
    int64_t slack;                       /* for what is slow in this world */
    int64_t wall_offset, wall_most;      /* of the wall clock; the most that it ever was */
    bool wall_stepped, any_doomed;
    unsigned rolls;                      /* rounds of restarts that are to come */

    struct plan plans[MAX_PLANS];
    struct truth *truths;
    unsigned disturbances;                       /* of the ventilator, the sink or what is between them, that go on */
    int64_t disturbed_at;

    enum mutant mutant;
    uint64_t mutations;                          /* how often the rule was broken */

    bool failed, over;
    char invariant[32], reason[600];
    bool tracing, loud;
    char (*lines)[260];
    size_t n_lines;

    struct wire_arena *arena;                    /* of the checks */
    struct why why;
};

/* ---- world.c ---- */
void world_run(struct world *w);
uint64_t chance(struct world *w);
uint64_t below(struct world *w, uint64_t n);                     /* [0, n) */
int64_t between(struct world *w, int64_t low, int64_t high);     /* [low, high] */
bool one_in(struct world *w, unsigned n);
struct event *after(struct world *w, int64_t delay, struct process *target, void (*fire)(struct world *, struct event *));
void trace(struct world *w, const char *who, const char *format, ...) __attribute__((format(printf, 3, 4)));
void violated(struct world *w, const char *invariant, const char *format, ...) __attribute__((format(printf, 3, 4)));
void process_start(struct process *p);
void process_crash(struct process *p, const char *why);
void process_freeze(struct process *p, int64_t ns);
void turn_soon(struct process *p);
void disturb_begin(struct world *w, struct process *p);
void disturb_end(struct world *w, struct process *p);
mono_t clock_of(const struct process *p);                         /* what its host's CLOCK_BOOTTIME shows */
wall_t wall_of(const struct world *w);
bool port_works(struct process *p);                              /* false: it is dying, and this has no effect any more */
void process_doom(struct process *p, int64_t down);              /* it dies when this event is over */
void process_reboot(struct process *p);                          /* its host starts anew: call it while the process is dead */
extern volatile uint64_t running_seed;

/* ---- network.c ---- */
void dial_want(struct dial *d);
void dial_drop(struct dial *d);                                  /* closes its connection; the other end notices */
bool dial_is_up(const struct dial *d);
/* 0; -EAGAIN: not up, or (results) full. `end` is the sender's. What is sent into a broken connection is lost. */
int link_send(struct link *l, int end, const ProtobufCMessage *m, struct slice body, bool with_body);
struct link *link_of_peer(struct world *w, enum link_kind kind, uint32_t peer);
uint32_t link_peer(const struct link *l);
uint64_t link_lane(const struct link *l);
enum link_kind link_kind(const struct link *l);
struct process *link_end(const struct link *l, int end);
void link_break(struct link *l);
void link_stall(struct link *l, int64_t ns);
void links_stall_of(struct process *p, int64_t ns);
void links_vanish_of(struct process *p, int64_t ns);             /* its host is gone: nobody says so before this time */
bool link_alive(const struct link *l);
struct link *link_random(struct world *w);
void links_break_of(struct process *p);
void links_pump(struct world *w);                                /* after something was healed or unpaused */
void links_free(struct world *w);

/* What the network tells a process. */
struct arrival { struct link *link; const uint8_t *head; size_t head_len; struct slice body; bool with_body; };
void vent_message(struct vent *v, const struct arrival *a);
void vent_notice(struct vent *v, struct link *l, bool is_up);
struct lane *vent_lane(struct vent *v, uint32_t port);
void worker_message(struct worker *k, const struct arrival *a);
void worker_notice(struct worker *k, struct link *l, bool is_up);
void worker_has_room(struct worker *k);
void sink_message(struct sink *s, const struct arrival *a);
void sink_notice(struct sink *s, struct link *l, bool is_up);
void client_message(struct client *c, const struct arrival *a);
void client_notice(struct client *c, struct link *l, bool is_up);

/* ---- disk.c ---- */
uint64_t disk_put(struct disk *d, const char *key, const void *value, size_t len);
uint64_t disk_remove(struct disk *d, const char *key);
uint64_t disk_append(struct disk *d, uint64_t batch, uint64_t first, uint32_t count, uint32_t kind, struct slice head, struct slice body,
                     uint64_t *ret_number);
uint64_t disk_remove_frames(struct disk *d, uint64_t batch);
void disk_flush(struct disk *d);
void disk_crash(struct disk *d);
void disk_free(struct disk *d);
void disk_full(struct disk *d, bool is_full);
bool disk_is_idle(const struct disk *d);
size_t disk_waiting(const struct disk *d);
void disk_died(struct disk *d);                                  /* its process was killed: counts where that was */

/* ---- vent.c, worker.c, sink.c, client.c ---- */
void vent_start(struct vent *v);
void vent_end(struct vent *v);
void vent_turn(struct vent *v, bool caught_up);
void vent_committed(struct vent *v, uint64_t sequence);
void vent_full(struct vent *v, bool is_full);
void vent_drain(struct vent *v);
void vent_audit(struct vent *v);
void worker_start(struct worker *k);
void worker_end(struct worker *k);
void worker_turn(struct worker *k, bool caught_up);
void worker_drain(struct worker *k);
void sink_start(struct sink *s);
void sink_end(struct sink *s);
void sink_turn(struct sink *s, bool caught_up);
void sink_committed(struct sink *s, uint64_t sequence);
void sink_full(struct sink *s, bool is_full);
void sink_drain(struct sink *s);
void client_start(struct client *c);
void client_end(struct client *c);
void client_turn(struct client *c);
bool client_is_done(const struct client *c);
struct plan *plan_of_batch(struct world *w, const uint8_t *id);
void sleep_until(struct process *p, mono_t next);

/* ---- scenario.c, faults.c ---- */
void scenario_make(struct world *w);
void faults_make(struct world *w, int64_t span);
void fault_kill(struct world *w, struct process *p, const char *why, int64_t down);      /* and starts it again after that */

/* ---- purged.c ---- */
void check_purged(struct world *w, const struct plan *p);        /* it was acknowledged, or seen */
bool purge_is_over(struct world *w, const struct plan *p);       /* at the sink */

/* ---- cover.c ---- */
void cover(struct world *w, enum cover what);
void cover_show(void);
unsigned cover_missing(char *out, size_t size);                  /* how many kinds were never reached, and their names */

/* ---- check.c ---- */
struct truth *truth_of(struct world *w, const uint8_t *id);
void check_row(struct world *w, const struct op *row);           /* is on the sink's disk now */
void check_sink_record(struct world *w, const struct op *record);
void check_recorded(struct world *w, const Wire__Recorded *m);   /* the sink says so */
void check_duplicate(struct world *w, const Wire__Result *m);    /* it comes to the sink */
void check_register(struct world *w, const Wire__Register *m);
void check_batch_complete(struct world *w, const char *text);    /* the ventilator says so */
void check_acknowledged(struct world *w, struct truth *t, uint64_t upto);
void check_cancel_reply(struct world *w, struct plan *plan, const Wire__CancelReport *r);
struct task_run *check_run(struct worker *k, const struct agent_run *run);
void check_deadline(struct world *w, struct truth *t, int64_t from, int64_t by, int64_t grace);
void check_reboot(struct world *w);                              /* the ventilator starts where only the wall clock knows what passed */
void check_killed(struct world *w, struct truth *t, uint64_t index);       /* this task killed its worker */
void check_memory(struct vent *v);
void check_status(struct world *w, struct truth *t, const Wire__BatchStatus *s);
void check_end(struct world *w);
void check_idle_end(struct world *w);
void check_free(struct world *w);

/* ---- say.c ---- */
void say_lane(struct world *w, const char *who, const Wire__Lane *m);
void say_upward(struct world *w, const char *who, const Wire__Upward *m);

/* ---- mutants.c ---- */
extern const struct mutant_spec { const char *name, *caught_by, *what; } mutants[MUTANTS];
void mutant_lane(struct worker *k, const Wire__Lane *m, struct slice body);      /* hands it to the agent, or not as it should */
const Wire__Lane *mutant_announce(struct vent *v, const Wire__Lane *m);          /* what is sent instead */
const Wire__Downward *mutant_downward(struct worker *k, const Wire__Downward *m);        /* what comes instead */
void mutants_forget(struct world *w);                            /* what its events hold */
bool mutate(struct world *w, enum mutant m);                     /* is it this one? counts */

/* ---- bent.c ---- */
bool ledger_bend(struct ledger *l);

/* ---- main.c ---- */
struct world *world_make(uint64_t seed, enum mutant mutant);
void world_free(struct world **w_p);

#endif
