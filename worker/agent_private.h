/* What the files of the agent share; nobody else includes this.
 *
 *   agent.c          the agent as a whole: making it, its events, the tick
 *   agent_control.c  the control channel: hello, welcome, heartbeats, the lease, silence
 *   agent_lane.c     the lane: its order, and what each of its messages does
 *   agent_batch.c    announced batches and their deadlines
 *   agent_queue.c    assigned frames: tasks that have not started
 *   agent_slots.c    running attempts: start, bounds, stop, end
 *   agent_bundle.c   many tasks at once for a plugin's process
 *   agent_outbox.c   ended attempts, kept until they are released
 *   agent_report.c   how ended attempts look on the wire
 *   agent_fences.c   lists of fences that wait to be told upward
 *   agent_due.c      the heap of everything that has a time
 *
 * What can fail for want of memory fails early: an attempt starts only when the memory for its
 * report is there, and a deadline has its place in the heap from the beginning. */
#ifndef WORKER_AGENT_PRIVATE_H
#define WORKER_AGENT_PRIVATE_H

#include <stddef.h>

#include <bsd/sys/tree.h>
#include <sys/queue.h>

#include "common/log_level.h"
#include "worker/agent.h"

#define OPEN_WITHIN (2 * NS_PER_S)            /* from welcome to the lane's `open` */
#define HELLO_PAUSE (250 * NS_PER_MS)         /* between two hellos at least */
#define FLUSH_EVERY (10 * NS_PER_MS)          /* what has ended is told together with what ends so soon after, while more waits to be run */
#define STARTED_EVERY (20 * NS_PER_MS)        /* between two reports of what has started */
#define SINK_FULL_PAUSE (50 * NS_PER_MS)      /* until a result that found no room is tried again */
#define LEAVE_MARGIN NS_PER_S
#define SILENCE_PRESET (10 * NS_PER_S)        /* until a welcome says otherwise */
#define MEMORY_PAUSE (100 * NS_PER_MS)        /* until something that found no memory is tried again */

/* ---- agent_due.c: what has a time ---- */

struct due {
    mono_t at;
    size_t place;                             /* 1-based place in the heap; 0: not set */
    void (*fire)(struct agent *agent, mono_t now, struct due *due);
};
struct due_heap {
    struct due **at;
    size_t n, room, promised;
};
/* Keeps a place for one more, so that setting it later can't fail. 0 or -ENOMEM. */
int agent_due_promise(struct due_heap *heap);
void agent_due_break_promise(struct due_heap *heap);
void agent_due_set(struct due_heap *heap, struct due *due, mono_t at);      /* MONO_NEVER clears */
void agent_due_clear(struct due_heap *heap, struct due *due);
struct due *agent_due_first(const struct due_heap *heap);                   /* NULL: none */

/* ---- agent_fences.c: what waits to be told ---- */

struct fence_entry {
    Wire__Fence fence;
    uint8_t id[WIRE_ID];
};
struct fence_list {
    struct fence_entry *at;
    Wire__Fence **pointers;
    size_t n, room;
};
/* Adds, merging with the last one where that is consecutive. 0 or -ENOMEM. */
int agent_fences_add(struct fence_list *list, const uint8_t *id, uint64_t first, uint32_t count, uint64_t epoch, uint32_t attempt);
/* Up to WIRE_FENCES of them from `from` on, as a message's repeated field; lent until the next call. */
size_t agent_fences_cut(struct fence_list *list, size_t from, Wire__Fence ***ret);
void agent_fences_release(struct fence_list *list);

/* ---- agent_batch.c ---- */

TAILQ_HEAD(frame_list, frame);
LIST_HEAD(slot_list, slot);
RB_HEAD(batch_tree, batch);

struct batch {
    RB_ENTRY(batch) node;
    uint8_t id[WIRE_ID];
    char *short_id;
    Wire__Options *options;
    const struct agent_handler *handler;      /* NULL: the batch's own command */
    bool refused;                             /* no such handler here, or no ad-hoc commands */
    bool announced;                           /* on the lane of now */
    mono_t deadline;                          /* MONO_NEVER: none */
    struct due expiry;                        /* of its unstarted tasks */
    struct frame_list frames;                 /* oldest first */
    struct slot_list running;
    uint64_t holders;                         /* frames, slots, reports */
    uint32_t bundle;                          /* of its own command: so many go to a keeper at once; 0: nothing is known yet */
};

struct batch *agent_batch_find(struct agent *self, const ProtobufCBinaryData *id);
int agent_batch_announce(struct agent *self, mono_t now, const Wire__Announce *message);    /* 0 or -ENOMEM */
void agent_batch_set_deadline(struct agent *self, mono_t now, struct batch *batch, const Wire__Micros *left);
void agent_batch_retire(struct agent *self, struct batch *batch);
void agent_batches_retire_all(struct agent *self);      /* a new lane: everything is announced again */
void agent_batch_hold(struct batch *batch);
void agent_batch_let_go(struct agent *self, struct batch *batch);     /* destroys a retired one that nobody holds */
/* Is there still enough time to start one of its tasks? */
bool agent_batch_has_time(const struct batch *batch, mono_t now);
void agent_batches_destroy(struct agent *self);

/* ---- agent_queue.c ---- */

/* Assigned tasks that have not started: [first, first + count) and their payloads, one behind the other. */
struct frame {
    TAILQ_ENTRY(frame) entry;                 /* of all, in the order of arrival */
    TAILQ_ENTRY(frame) batch_entry;
    struct batch *batch;
    uint64_t first, epoch;
    uint32_t count, attempt, tries_left;
    mono_t admitted;
    struct slice body;                        /* counted; from the first task's payload on */
    Wire__Tasks *columns;                     /* as they came, for their extras; NULL without */
    size_t next_extra;
    uint32_t lengths_from;                    /* index of the first task's length */
    size_t n_lengths;                         /* 0, 1 or many, as in the column */
    uint32_t lengths[];
};

int agent_queue_push(struct agent *self, mono_t now, struct batch *batch, const Wire__Assign *message, struct slice body);
/* The head's first `n` tasks, as a frame that is in no queue any more; NULL: no memory. */
struct frame *agent_queue_take(struct agent *self, struct frame *frame, uint32_t n);
/* Puts what is behind the first `begun` of such a frame back to the head of the queue; takes the frame. */
void agent_queue_put_back(struct agent *self, mono_t now, struct frame **frame_p, uint32_t begun);
/* Each drops unstarted tasks without a word, and returns how many. */
uint64_t agent_queue_drop(struct agent *self, const Wire__Fence *fence);
uint64_t agent_queue_cancel(struct agent *self, struct batch *batch, Wire__Span *const *spans, size_t n);
/* Each gives unstarted tasks back to the ventilator. */
uint64_t agent_queue_recall(struct agent *self, struct batch *batch, uint32_t count);
void agent_queue_return_all(struct agent *self);
/* Ends all unstarted tasks of a batch: it can't run here, or there is no time. 0; -ENOMEM: some are left. */
int agent_queue_refuse(struct agent *self, mono_t now, struct batch *batch);
int agent_queue_expire(struct agent *self, mono_t now, struct batch *batch);
struct frame *agent_queue_head(const struct agent *self);
/* The head's next task: its payload (lent: it lives as long as the frame's buffer) and its extra or NULL. */
struct slice agent_queue_payload(const struct frame *frame);
const Wire__TaskExtra *agent_queue_extra(struct frame *frame);
void agent_queue_advance(struct agent *self, struct frame *frame);    /* may destroy it */
void agent_queue_destroy(struct agent *self);

/* ---- agent_slots.c ---- */

struct slot {
    uint32_t number;                          /* from 0 */
    bool busy;
    LIST_ENTRY(slot) batch_entry;
    TAILQ_ENTRY(slot) fresh_entry;            /* started, not yet reported */
    bool fresh;
    struct batch *batch;
    uint64_t index, epoch;                    /* index: of the first task of an open bundle; then of the one that began last */
    uint32_t count, begun;                    /* 1 and 1; of a bundle its tasks, and once it isn't open whether one of them runs */
    int64_t parts_ns;                         /* of a bundle: the time of the tasks before that one */
    bool learned;                             /* how long its tasks take */
    bool open;                                /* a bundle of which further tasks may begin */
    struct frame *rest;                       /* while it is open: all of its tasks */
    uint32_t attempt, tries_left;
    mono_t admitted, started;                 /* started: the last one that has begun, as far as is known */
    struct report *report;                    /* the memory for its end */
    Wire__TaskExtra *extra;                   /* owned copy, or NULL */
    mono_t timeout;                           /* MONO_NEVER: none */
    struct due bound;
    bool stopped, silent, cut_off;
    Wire__Reason reason;                      /* of the stop */
};

int agent_slots_new(struct agent *self);            /* 0 or -ENOMEM */
void agent_slots_destroy(struct agent *self);
void agent_slots_start(struct agent *self, mono_t now);
void agent_slot_arm(struct agent *self, struct slot *slot);      /* after its batch's deadline moved */
/* Stops the running attempts of `batch` that lie in the spans (none: all). Returns how many there are. */
uint64_t agent_slots_cancel(struct agent *self, mono_t now, struct batch *batch, Wire__Span *const *spans, size_t n, Wire__Reason reason, bool silent);
void agent_slots_drop(struct agent *self, mono_t now, const Wire__Fence *fence);
int64_t agent_slots_cut_off(struct agent *self, mono_t now);    /* stops everything; the largest grace */
void agent_slot_is_fresh(struct agent *self, mono_t now, struct slot *slot);    /* to be told as started if it still runs at the next report */
void agent_slots_report_started(struct agent *self, mono_t now);
void agent_slot_ended(struct agent *self, mono_t now, struct slot *slot, const struct agent_end *end);

/* ---- agent_bundle.c ---- */

#define BUNDLE_NS (4 * NS_PER_MS)             /* of work, as far as is known */
#define BUNDLE_SPLIT (10 * NS_PER_MS)         /* what has not begun by then goes back to the queue */
#define BUNDLE_TIMEOUT (50 * NS_PER_MS)       /* attempts of a shorter timeout go alone */
#define BUDGET_EXACT NS_PER_S                 /* commands that have less time left go alone: each is told how much it has */

/* How many tasks of the frame go to a slot at once. */
uint32_t agent_bundle_size(const struct agent *self, mono_t now, const struct frame *frame);
/* No further task of it begins (with `keep_first` the first may); what has not begun is queued again. Not open: nothing. */
void agent_bundle_split(struct agent *self, mono_t now, struct slot *slot, bool keep_first);
void agent_bundles_split(struct agent *self, mono_t now, const struct batch *batch, bool keep_first);    /* NULL: of all batches */
/* At its end: reports the tasks before the last, learns how long one takes, and leaves the last one's time in `end`. */
void agent_bundle_ended(struct agent *self, mono_t now, struct slot *slot, struct agent_end *end);

/* ---- agent_outbox.c ---- */

struct outcome {
    Wire__Verdict verdict;
    Wire__Reason reason;
    int32_t code;
    uint32_t signal, flags, slot, output_len, errors_len;
    uint64_t queued_us, run_us;
    char *sentence;                           /* owned, or NULL */
    Wire__TaskExtra *extra;                   /* owned, or NULL: the task's own values */
    struct slice output, errors;              /* until the report is sealed */
};

#define RESEND_LEVELS 5                       /* 5, 10, 20, 40 and 60 s */
enum { REPORT_UNSENT = RESEND_LEVELS, REPORT_OPEN, REPORT_LISTS };

/* The results of consecutive tasks of one dispatch. While it is open, the next one may join. */
struct report {
    RB_ENTRY(report) node;
    TAILQ_ENTRY(report) entry;
    unsigned list;                            /* a resend level, REPORT_UNSENT, or REPORT_OPEN: neighbours may join it */
    unsigned level;                           /* the next one */
    mono_t resend_at;
    struct batch *batch;
    uint64_t first, epoch;
    uint32_t count, attempt;
    Wire__ResultKind kind;
    struct slice body;                        /* counted */
    size_t bytes;                             /* that count against the result credit */
    uint8_t *released;                        /* bitmap, once some were released */
    uint32_t n_released;
    bool sent_before;
    uint32_t n_outcomes, room;                /* one for each task, or one for all */
    struct outcome *outcomes;
    struct outcome own;                       /* room for the first */
};
TAILQ_HEAD(report_list, report);
RB_HEAD(report_tree, report);

struct report *agent_report_new(void);
void agent_report_destroy(struct agent *self, struct report **report_p);
/* Takes the report, filled but for its place: it is kept until it is released. May join those beside it. */
void agent_outbox_put(struct agent *self, struct report **report_p);
/* The same for one more outcome, which is taken: 0, or -ENOMEM and it is released. `first` of `like` is its index. */
int agent_outbox_add(struct agent *self, const struct report *like, struct outcome *outcome);
void agent_outbox_seal(struct agent *self);         /* nothing joins those that are here any more: they are to be sent */
void agent_outbox_release(struct agent *self, const Wire__Fence *fence);
void agent_outbox_send(struct agent *self, mono_t now);
void agent_outbox_send_again(struct agent *self);   /* everything, as if it had never been sent */
mono_t agent_outbox_next(const struct agent *self, mono_t now);
void agent_outbox_destroy(struct agent *self);
/* In the order of batch, epoch, attempt, index. */
struct report *agent_outbox_first(const struct agent *self);
struct report *agent_outbox_after(struct report *report);

/* ---- agent_report.c ---- */

struct columns;                               /* scratch, reused */
struct columns *agent_columns_new(void);
void agent_columns_destroy(struct columns **self_p);
/* Sends it. 0, -EAGAIN, or -ENOMEM. */
int agent_report_send(struct agent *self, const struct report *report);
/* Would this outcome be tried again? */
Wire__ResultKind agent_report_kind(const struct batch *batch, uint32_t tries_left, const struct outcome *outcome);
/* An owned copy that the wire takes: as long as it may be, in UTF-8. NULL without memory. */
char *agent_report_sentence(const char *text);
/* Puts the parts of the body into one. Without memory the output is lost, and said to be truncated. */
void agent_report_seal(struct report *report);

/* ---- agent_control.c ---- */

#define BEATS 64u                             /* heartbeats whose sending time is remembered */

enum lane_state { LANE_NONE, LANE_DIALLED, LANE_OPEN };

struct control {
    bool is_up;                               /* the DEALER */
    bool welcomed;
    bool leaving;                             /* it said goodbye on this connection */
    uint32_t hellos_open;                     /* sent and not answered on this connection */
    mono_t first_hello_at, last_hello_at;     /* of those that are open; of all */
    mono_t hello_due;                         /* MONO_NEVER: none is planned */
    mono_t last_heard;
    mono_t beat_due;
    uint64_t beat_number;
    struct { uint64_t number; mono_t sent; } beats[BEATS];
    int64_t heartbeat, lease, silence;
    mono_t lease_until;
    uint64_t result_credit;
    uint64_t epoch;                           /* of the ventilator, as last heard */
    bool knows_ventilator;
    uint8_t ventilator[WIRE_ID];
};

struct lane_side {
    enum lane_state state;
    uint64_t epoch, sequence;                 /* sequence: of the last message that was read */
    mono_t open_by;
    uint32_t port;                            /* where it was dialled; 0: it is local */
};

int agent_control_send(struct agent *self, Wire__Upward *message);    /* fills session and lane epoch */
void agent_control_tick(struct agent *self, mono_t now, bool caught_up);
mono_t agent_control_next(const struct agent *self);
bool agent_control_lease_valid(const struct agent *self, mono_t now);
void agent_control_heard(struct agent *self, mono_t now);
void agent_control_lane_moved(struct agent *self, mono_t now);       /* a message of it was read */
/* For Started, Finished, Returned: added if there are any and the next hello wouldn't tell it anyway. */
void agent_control_tell(struct agent *self, struct fence_list *list, const struct batch *batch, uint64_t first, uint32_t count,
                  uint64_t epoch, uint32_t attempt);
/* These attempts of the slot have ended, and took so long together. */
void agent_control_finished(struct agent *self, const struct slot *slot, uint64_t first, uint32_t count, int64_t run_ns);
void agent_control_flush(struct agent *self);                         /* what waits in the lists, if the lane is open */
void agent_control_confirm(struct agent *self, uint64_t number, uint64_t dropped, uint64_t stopping);

/* ---- agent_lane.c ---- */

void agent_lane_break(struct agent *self, mono_t now, const char *why);
void agent_lane_not_opened(struct agent *self, mono_t now);             /* in time: a port may be closed */

/* ---- agent.c ---- */

enum { TELL_STARTED, TELL_FINISHED, TELL_RECALLED, TELL_DRAINED, TELL_NO_BATCH, TELL_DROPPED, TELL_CUT_OFF, TELL_LISTS };

struct agent {
    struct agent_config config;               /* a copy: strings and arrays are owned */
    struct agent_ports ports;
    struct control control;
    struct lane_side lane;
    struct due_heap due;
    struct batch_tree batches;                /* by id */

    struct frame_list queue;
    uint64_t queued;

    struct slot *slots;
    uint32_t *free_slots;                     /* a stack */
    uint32_t n_free;
    uint64_t to_share;                        /* what the free slots may take of the queue, while they are filled */
    uint32_t *bundle_of;                      /* of each handler: so many tasks go to a slot at once; 0: nothing is known yet */
    TAILQ_HEAD(, slot) fresh;
    mono_t started_due;
    mono_t start_again;                       /* after a lack of memory */

    struct report_tree reports;
    struct report_list lists[REPORT_LISTS];
    struct report *open;                      /* the one that the last result joined; NULL: none */
    mono_t flushed;                           /* when what had ended was last told */
    uint64_t unreleased, unreleased_bytes;
    bool sink_up;
    mono_t sink_again;
    struct columns *columns;

    struct fence_list tell[TELL_LISTS];
    uint64_t finished_run_us, finished_bytes;

    bool draining, left, cut;
    mono_t cut_at, leave_by;
    uint64_t started, ended, resent, stale_messages, returned;
};

static inline uint32_t agent_busy(const struct agent *self) { return self->config.slots - self->n_free; }
void agent_note(struct agent *self, int level, const char *event, const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
