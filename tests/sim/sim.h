/* A whole cluster in one process, with virtual time: one ventilator, one sink, up to five workers and a
 * client, between them a network and under them disks that are made of ports. Everything that happens
 * follows from a seed. docs/simulation.md says what is checked.
 *
 *   main.c       runs seeds and mutants, prints TAP
 *   world.c      the clock, the queue of events, chance, processes that start, crash and freeze
 *   network.c    connections: real encoding, delays, breaks, partitions
 *   disk.c       what is staged, flushed, committed, lost in a crash
 *   vent.c worker.c sink.c client.c     the four kinds of processes around the cores
 *   scenario.c   what a seed means: batches, faults
 *   check.c      the invariants
 *   say.c        messages in the trace
 *   mutants.c    rules that are broken on purpose, and who must notice */
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

struct world;
struct link;

/* ---- events ---- */

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

struct disk {
    struct process *owner;
    struct op **records;               /* by key */
    size_t n_records, room_records;
    struct op **frames;                /* by number */
    size_t n_frames, room_frames;
    struct flush *staged, *flushes, **flushes_tail;
    uint64_t sequence, committed, next_number;
    bool busy, full;
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
};

struct worker {
    struct process p;
    struct agent *agent;
    struct dial control, lane, sink;
    struct run runs[MAX_SLOTS];
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
    Wire__Range numbers;
    Wire__Micros deadline, timeout;
    uint8_t submission[WIRE_ID];
    char key[16];
    Wire__Span cancel_span;
    bool may_get_stuck;

    /* The client's, lost in its crash. */
    enum { PLAN_NEW, PLAN_SUBMITTED, PLAN_SENT, PLAN_SEALED } stage;
    bool waiting, sealed_told, cancel_sent, extend_sent, status_sent;
    uint64_t next, digest, on_the_way;
    /* The world's. */
    uint8_t id[WIRE_ID];
    char short_id[16];
    bool known, cancel_done, extend_done, status_done;
    int64_t answered_at;
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
    uint64_t deadline_version;
};

enum mutant {
    MUTANT_NONE, MUTANT_SINK_COMMITS_EARLY, MUTANT_JOURNAL_COMMITS_EARLY, MUTANT_RECORDED_LOST, MUTANT_CANCEL_IGNORED,
    MUTANT_LANE_REORDERED, MUTANT_RUN_TWICE, MUTANT_SLOT_FREED_EARLY, MUTANT_ROW_FORGOTTEN, MUTANT_RESTORE_SKIPS, MUTANT_CLOSING_LOST,
    MUTANT_ACK_INVENTED, MUTANT_COUNTS_FORGED, MUTANT_OK_INVENTED, MUTANT_RELEASE_LOST, MUTANT_HOLDINGS_HIDDEN, MUTANTS
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
mono_t now_of(const struct world *w);
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

/* ---- scenario.c ---- */
void scenario_make(struct world *w);

/* ---- check.c ---- */
struct truth *truth_of(struct world *w, const uint8_t *id);
void check_row(struct world *w, const struct op *row);           /* is on the sink's disk now */
void check_sink_record(struct world *w, const struct op *record);
void check_recorded(struct world *w, const Wire__Recorded *m);   /* the sink says so */
void check_register(struct world *w, const Wire__Register *m);
void check_batch_complete(struct world *w, const char *text);    /* the ventilator says so */
void check_acknowledged(struct world *w, struct truth *t, uint64_t upto);
void check_cancel_reply(struct world *w, struct plan *plan, const Wire__CancelReport *r);
struct task_run *check_run(struct worker *k, const struct agent_run *run);
void check_deadline(struct world *w, struct truth *t, int64_t by, int64_t grace);
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
void mutants_forget(struct world *w);                            /* what its events hold */
bool mutate(struct world *w, enum mutant m);                     /* is it this one? counts */

/* ---- main.c ---- */
struct world *world_make(uint64_t seed, enum mutant mutant);
void world_free(struct world **w_p);

#endif
