/* What the control tower knows: a sample of the ledger each second, kept as short histories, and what the sink has
 * told of run times and failures. It is for people and monitors; nothing of it decides anything.
 * Memory is bounded: TOWER_BATCHES histories, TOWER_PLANES attempts, one stand for each worker. */
#ifndef VENTILATOR_TOWER_H
#define VENTILATOR_TOWER_H

#ifndef HASH_NONFATAL_OOM
#define HASH_NONFATAL_OOM 1         /* a failed HASH_ADD leaves the handle's tbl NULL */
#endif
#include <uthash.h>

#include "common/histogram.h"
#include "ventilator/ledger_survey.h"

#define TOWER_FINE 300u             /* points of 1 s */
#define TOWER_COARSE 360u           /* points of TOWER_COARSE_S seconds */
#define TOWER_COARSE_S 10u
#define TOWER_BATCHES 64u           /* whose history is kept: those that moved last */
#define TOWER_HANDLERS 64u          /* told apart; the rest together */
#define TOWER_FAILURES 16u          /* kept of a batch */
#define TOWER_PLANES 32u            /* the attempts that run longest, in each sample */
#define TOWER_OLDEST 256u           /* the same, when it is asked for */
#define TOWER_TAIL 512u             /* bytes of a failure's standard error */

struct tower_point {
    float rate, p50, p90, p99;      /* percentiles in ms; below 0: nothing was recorded */
    uint32_t running;
    uint64_t queued;
};
struct tower_series {               /* two rings; `n` points were ever put into each */
    struct tower_point fine[TOWER_FINE], coarse[TOWER_COARSE];
    uint64_t n_fine, n_coarse;
    double rate_sum;
    uint64_t running_most;
    struct histogram runs;          /* of the coarse point that is being made */
};

struct tower_failure {
    char batch[16], worker[64], sentence[160], tail[TOWER_TAIL + 1];
    uint64_t index;
    uint32_t attempt;
    Wire__Verdict verdict;
    Wire__Reason reason;
    int32_t code;
    uint32_t signal;
    bool settled;
    mono_t at;
};

struct tower_batch {                /* what is kept of a batch */
    UT_hash_handle hh;
    uint64_t number, moved, seen;   /* samples: in which something of it changed, and in which it was there, last */
    char short_id[16], name[33];
    struct survey_batch last;       /* its strings are not valid */
    uint64_t settled_before;
    struct histogram run, wait, run_before;     /* as the sink told; since its start */
    struct tower_failure *failures; /* a ring of TOWER_FAILURES; owned, NULL before the first */
    uint64_t n_failures;
    struct tower_series series;
};

struct tower_stand {                /* a worker */
    UT_hash_handle hh;
    uint64_t number, seen;
    char name[WIRE_NAME + 1];       /* whole: series and paths are told apart by it */
    const char *state;
    uint32_t slots;
    uint64_t phases[SURVEY_PHASES];
    uint64_t finished, run_us, result_bytes, unreleased_bytes, unreleased;
    int worst;
    bool dirty;                     /* changed since it was told to the viewers */
};

struct tower_plane {
    char short_id[16], worker_name[256], handler[64];
    struct survey_attempt seen;     /* its strings are not valid */
};
struct tower_planes {               /* the oldest of all, sorted once they are complete */
    struct tower_plane *rows;
    size_t n, most;
    uint64_t total;                 /* how many run */
};

struct tower_handler {
    char name[64];
    uint64_t verdicts[WIRE_VERDICTS], attempts;
    struct histogram run, wait;
};

struct tower {
    mono_t started, sampled;
    double seconds;                 /* from the sample before to the last one */
    uint64_t sequence;              /* of the sample */
    struct survey_totals now, before;
    struct tower_batch *batches;    /* hash by number */
    struct tower_stand *stands;     /* hash by number */
    uint64_t gone[256];             /* numbers of workers that left since the viewers were told */
    size_t n_gone;
    struct tower_planes planes;
    struct tower_series *series;    /* of all batches; owned */
    /* What the sink told. */
    uint64_t sink_session;
    struct tower_handler handlers[TOWER_HANDLERS + 1];
    size_t n_handlers;
    struct histogram commit, run, wait;         /* run, wait: of all handlers */
    struct histogram run_before, recent_run[10], recent_wait[10], recent_commit[10], wait_before, commit_before;
    uint64_t sink_results, sink_recorded, sink_duplicates, sink_refused, sink_waiting_bytes, sink_trace_lines, sink_trace_dropped;
    mono_t sink_told;
};

struct tower *tower_new(mono_t now);        /* NULL: no memory */
void tower_destroy(struct tower **self_p);

/* Once a second. */
void tower_sample(struct tower *self, const struct ledger *ledger, mono_t now);

/* The sink's figures, of this session; those of anybody else are passed over. */
void tower_take(struct tower *self, const struct ledger *ledger, uint64_t session, const Wire__Figures *message, mono_t now);

/* Those that run longest now, at most `most` of them, the oldest first; `batch` or `worker` not 0: of that one only. 0 or -ENOMEM. */
int tower_oldest(const struct ledger *ledger, mono_t now, size_t most, uint64_t worker, struct tower_planes *ret);
void tower_planes_release(struct tower_planes *planes);

/* The sum of the last ten seconds. */
struct histogram tower_recent(const struct histogram *ring);

struct tower_batch *tower_batch_find(struct tower *self, uint64_t number);      /* NULL: it isn't kept */
/* The same; if it isn't kept, it is from now on, in the place of the one that moved longest ago. NULL: it is not here, or no memory. */
struct tower_batch *tower_batch_want(struct tower *self, const struct ledger *ledger, uint64_t number, mono_t now);

#endif
