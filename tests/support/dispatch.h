/* Dispatch in virtual time: the real ledger and as many real agents as wanted, in one process, without sockets, disks or
 * handlers. What it is for: how far the makespan is from the ideal one, for workloads and clusters that no machine at hand
 * can show; and that this stays so (a run is the same for the same case, whatever the machine).
 *
 * Modelled: the way between two processes (half a round trip, in order), the time that the ventilator takes for a message, a
 * flush of the journal, the sink (it records everything, a while later), and attempts that take a time. A bundle's tasks begin
 * one after the other with no time between. Real: every decision of the ledger and of the agents, and the wire's encoding.
 *
 * The ideal: the same tasks in the same order (priorities, then shares by weight, with --max-running and labels), each given
 * at once to a slot that is free and can run it; no message takes any time. Nobody idles while there is something to run. No
 * bound below: where times differ much, another order than this one can be quicker, and luck decides which task is last. */
#ifndef TESTS_SUPPORT_DISPATCH_H
#define TESTS_SUPPORT_DISPATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dispatch_times {
    TIMES_CONSTANT, TIMES_UNIFORM /* 0.5 to 1.5 of the mean */, TIMES_EXPONENTIAL, TIMES_PARETO /* alpha 1.5 */,
    TIMES_BIMODAL /* 1% take 100 times as long */, TIMES_KINDS,
};

enum dispatch_mix {
    MIX_EVEN,
    MIX_SPEEDS,         /* half of the workers are 20 times slower */
    MIX_SLOTS,          /* half have 8 slots, half have 1 */
    MIX_STRAGGLERS,     /* one of ten is ten times slower */
    MIX_JOIN,           /* half of the workers come when half of the work is done */
    MIX_LEAVE,          /* half of them drain and leave then */
    MIX_LOST,           /* one of ten is lost then, without a word */
    MIX_LABELS,         /* half of the tasks can run on a tenth of the workers only */
    MIX_KINDS,
};

enum dispatch_batches {
    BATCHES_ONE,
    BATCHES_WEIGHTS,    /* three, of weights 1, 1 and 3 */
    BATCHES_PRIORITIES, /* three, one above the other */
    BATCHES_LIMITED,    /* two; the first may run on a quarter of the slots at most */
    BATCHES_MANY,       /* a thousand */
    BATCHES_KINDS,
};

extern const char *const dispatch_times_names[TIMES_KINDS];
extern const char *const dispatch_mix_names[MIX_KINDS];
extern const char *const dispatch_batches_names[BATCHES_KINDS];

struct dispatch_case {
    enum dispatch_times times;
    enum dispatch_mix mix;
    enum dispatch_batches batches;
    uint32_t workers, slots;
    uint64_t tasks;                     /* over all batches */
    int64_t mean;                       /* ns an attempt takes at a worker of usual speed */
    int64_t round_trip;                 /* ns */
    int64_t message;                    /* ns of the ventilator's time for each message that it reads or writes */
    uint64_t seed;
};

struct dispatch_figures {
    bool complete;                      /* else it did not end within ten times the ideal and a minute */
    int64_t makespan, ideal;            /* ns from the submission to the end of the last attempt */
    double lost;                        /* share of the slots' time, until the last attempt began, in which a slot was idle while
                                           a task that it could run waited anywhere */
    uint64_t messages;                  /* to and from the ventilator since the submission, without heartbeats */
    uint64_t recalls, assigns;
    uint64_t looked;                    /* candidates that dispatch has looked at: see struct ledger_counts */
    uint64_t turns;                     /* of the ventilator */
    double ledger_ns;                   /* of real time in the ledger for each task, with packing and unpacking */
    double worker_bytes;                /* of memory that the ledger takes for each worker */
};

void dispatch_run(const struct dispatch_case *c, struct dispatch_figures *ret);

/* ---- shared by its parts ---- */

#define DISPATCH_MANY 1000u

struct dispatch_batch {
    uint64_t first, tasks;              /* `first`: of all tasks, in the numbering of dispatch_time */
    int32_t priority;
    uint32_t weight;
    uint64_t max_running;
    bool labelled;
};

struct dispatch_worker {
    uint32_t slots, slower;             /* takes so many times as long */
    bool labelled, joins, leaves, lost;
};

struct dispatch_plan {
    const struct dispatch_case *c;
    struct dispatch_batch *batches;
    size_t n_batches;
    struct dispatch_worker *workers;
    uint32_t n_slots;
    int64_t half;                       /* ns after the submission: when workers join, leave or are lost */
};

void dispatch_plan(const struct dispatch_case *c, struct dispatch_plan *ret);
void dispatch_plan_release(struct dispatch_plan *plan);
int64_t dispatch_time(const struct dispatch_case *c, uint64_t task);       /* ns at a worker of usual speed */
int64_t dispatch_ideal(const struct dispatch_plan *plan);

/* A binary heap of things with a time; equals in the order in which they came. */
struct dispatch_event {
    int64_t at;
    uint64_t order;
    uint32_t kind, who, slot;
    uint64_t what;
    void *packet;
};
struct dispatch_heap {
    struct dispatch_event *at;
    size_t n, room;
    uint64_t orders;
};
void dispatch_push(struct dispatch_heap *heap, struct dispatch_event e);
bool dispatch_pop(struct dispatch_heap *heap, struct dispatch_event *ret);

#endif
