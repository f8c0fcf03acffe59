/* The ledger as the control tower sees it: read-only, in one walk over what is in flight. A walk costs time in
 * proportion to what flies, not to what is queued; it is for a timer of about a second, not for each message.
 * What a visitor is given is lent for the length of the call; visitors must not call the ledger. */
#ifndef VENTILATOR_LEDGER_SURVEY_H
#define VENTILATOR_LEDGER_SURVEY_H

#include "ventilator/ledger.h"

/* Where an attempt is. */
enum survey_phase {
    SURVEY_WAITING,       /* at its worker, and not reported as started */
    SURVEY_RUNNING,
    SURVEY_STOPPING,      /* runs, and was told to end: cancelled, or its batch's deadline has passed */
    SURVEY_LANDING,       /* has ended; its result is not recorded */
    SURVEY_PHASES,
};
const char *survey_phase_name(enum survey_phase phase);

struct survey_batch {
    uint64_t number;
    const char *short_id, *name, *handler;      /* handler empty: an ad-hoc command */
    Wire__State state;
    uint64_t total, queued, in_flight, settled, retried, duplicates;
    uint64_t counts[WIRE_VERDICTS];
    double rate;                                /* tasks a second, smoothed */
    int64_t deadline_left;                      /* ns; INT64_MAX: none */
    bool recovering, disowned, damaged;
};

struct survey_worker {
    uint64_t number;
    const char *name, *state;                   /* state: as in WorkerStatus */
    uint32_t slots, busy, held, window;
    uint64_t phases[SURVEY_PHASES];
    uint64_t finished, run_us, result_bytes, unreleased_bytes, unreleased, queued;      /* queued: as it said itself */
    int64_t silent, service, round_trip;        /* ns */
    bool draining, silent_too_long, commands;
    int worst;                                  /* thousandths of its time that the worst of its attempts has used; -1: no bounds */
};

struct survey_attempt {
    uint64_t batch, worker;                     /* numbers */
    const char *short_id, *worker_name, *handler;
    uint64_t index;
    uint32_t attempt;
    enum survey_phase phase;
    int64_t age;                                /* ns since its start (waiting: since it was handed out) */
    int64_t left, budget;                       /* ns of the earliest bound; INT64_MAX: none. left may be below 0 */
    bool worker_silent;
};

struct survey_totals {
    uint64_t epoch, batches, open_batches, queued, phases[SURVEY_PHASES];
    uint64_t recorded, retried, duplicates, losses, dispatched, refused, stale;
    uint64_t verdicts[WIRE_VERDICTS];           /* recorded since the start of this process */
    uint64_t flights, cached_bytes;
    uint32_t workers, slots, busy, recovering, draining_workers, silent_workers;
    uint64_t wanted;          /* slots that would all have something to do: queued tasks that may start, and what is at workers */
    bool sink_present, sink_full, journal_full, draining;
    int64_t sink_silent;      /* ns since its last sign of life */
    bool cut_short;           /* more flew than a walk looks at; the phases are those of the first part */
};

/* Any of them may be NULL. attempt is called for attempts that run or are stopped, workers' attempts after their worker. */
struct survey_visitor {
    void *arg;
    void (*batch)(void *arg, const struct survey_batch *batch);          /* open ones, in the order of their admission */
    void (*worker)(void *arg, const struct survey_worker *worker);
    void (*attempt)(void *arg, const struct survey_attempt *attempt);
};
void ledger_survey(const struct ledger *self, mono_t now, const struct survey_visitor *visitor, struct survey_totals *ret);

/* One batch, complete or not; false: it is not here (any more). */
bool ledger_survey_batch(const struct ledger *self, mono_t now, uint64_t number, const struct survey_visitor *visitor);

/* Whether this session is the sink's that is here now. */
bool ledger_is_sink(const struct ledger *self, uint64_t session);

/* The id that a batch of this short id has; false: there is none. */
bool ledger_batch_number(const struct ledger *self, const char *short_id, uint64_t *ret_number);
bool ledger_batch_number_of(const struct ledger *self, const uint8_t id[WIRE_ID], uint64_t *ret_number);       /* the same, of a full id */

/* Its handler's name; empty: an ad-hoc command, or no such batch. Valid until the next event. */
const char *ledger_batch_handler(const struct ledger *self, uint64_t number);

#endif
