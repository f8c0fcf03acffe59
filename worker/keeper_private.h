/* What the files of the keeper's process share; nobody else includes this.
 *
 *   keeper_main.c    the process: one attempt at a time, its stop, and the end of all that it leaves
 *   keeper_start.c   what the worker sends, and the start of a command
 *   keeper_row.c     many commands in a row, as one run
 *   keeper_persistent.c    processes that serve many tasks
 *   keeper_limit.c   the limits of an attempt
 *   keeper_clean.c   before the first attempt: the end of what an earlier keeper of the slot has left */
#ifndef WORKER_KEEPER_PRIVATE_H
#define WORKER_KEEPER_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/clock.h"
#include "common/spawn.h"
#include "worker/bundle.h"
#include "worker/capture.h"
#include "worker/cgroup.h"
#include "worker/handler_codec.h"
#include "worker/keeper.h"
#include "worker/keeper_wire.h"
#include "worker/sweep.h"

#define KEEPER_NO_MEMORY 1                     /* exit code */
#define KEEPER_NICE_BY 5                       /* heartbeats go on while commands burn every core */
#define KEEPER_PIPE_ROOM 65536                 /* what a pipe usually takes */
#define KEEPER_STUCK_AFTER (2 * NS_PER_S)      /* what lives so long after SIGKILL is told of */

enum phase {
    PHASE_IDLE,
    PHASE_RUNNING,       /* the command lives */
    PHASE_ENDING,        /* it has ended, what it left has been sent SIGTERM */
    PHASE_KILLING,       /* SIGKILL for all that is left, until nothing is */
};

/* A process for many tasks; between them it lives while the keeper is idle. Its id is `command`. */
struct persistent {
    bool alive;
    bool unfit;                                /* to be replaced before the next task */
    bool faulty, closed, deaf;                 /* broke the rules; closed its output, or its input, and has not ended yet */
    int to, from, errors;                      /* our ends of its standard descriptors; -1: closed */
    struct handler_bytes out, in, strings;     /* strings: words and variables, for a second start */
    bool answered, again;                      /* the task has its result; it was begun a second time */
    size_t out_at;
    uint32_t served;
    char sentence[KEEPER_SENTENCE_MOST];
};

/* Runs of commands that came as one: those that have not begun lie in bytes[at .. len). */
struct row {
    uint8_t *bytes;
    size_t at, len, room;
    uint32_t number;                           /* of the command that runs */
};

struct process {
    int sock, signals, null;
    int bundle_fd;                             /* as it came with the setup; -1: none */
    struct bundle *bundle;                     /* NULL: none */
    bool orphaned;                             /* the worker has closed its end */

    uint8_t *in;                               /* received and not used yet: in[in_at .. in_len) */
    size_t in_at, in_len, in_room;
    char **words;                              /* argv and environment of the run that starts */
    size_t words_room;

    enum phase phase;
    struct keeper_wire_run run;
    struct row row;
    bool in_row;                               /* what runs is one of the row */
    struct keeper_wire_ended report;
    pid_t command;
    bool command_ended;
    bool silent;                               /* what ends now is no run: nothing is reported */
    bool childless;                            /* no child is left; the group still holds something */
    mono_t started, kill_at, look_at, killed_at;
    bool stuck_told;
    int64_t look_again;                        /* the wait before the next look while killing */
    pid_t spared;                              /* the group that got SIGKILL as a whole while the command lived */
    struct capture output, errors;
    struct persistent handler;
    struct sweep sweep;
    struct cgroup_slot group;
    struct cgroup_limit control[CONTROLS];
    mono_t cpu_at;                             /* the next look at the CPU time; MONO_NEVER: not limited, or not to be seen */
    uint64_t cpu_before, reaped_before;        /* ns when the attempt began: of the group, of all reaped children */
    bool cpu_spent;
};

/* ---- keeper_main.c ---- */

void keeper_leave(struct process *self, int code) __attribute__((noreturn));
void keeper_orphaned(struct process *self) __attribute__((noreturn));    /* idle: ends what lives, and leaves */
/* The report, with its bodies: the output, the errors, the handler's sentence. Blocks. */
void keeper_send(struct process *self, const uint8_t *output, const uint8_t *errors);
void keeper_task_done(struct process *self, const uint8_t *output);    /* the run has ended, its process lives */
/* Nothing of the attempt before counts any more. */
void keeper_begin_run(struct process *self);
/* The run has begun, or has not (-errno): then it ends. */
void keeper_run_begun(struct process *self, int result);
void keeper_kill_everything(struct process *self);
void keeper_finish_phases(struct process *self);     /* blocks until the phase is idle */
void keeper_say(struct process *self, enum keeper_note note, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Says, once, what of `sweep` is still alive so long after SIGKILL. */
void keeper_say_stuck(struct process *self);

/* ---- keeper_start.c ---- */

bool keeper_reserve(struct process *self, size_t wanted);        /* of the input's buffer */
bool keeper_receive(struct process *self, int flags);            /* one receive; false at the end of the stream */
const uint8_t *keeper_need(struct process *self, size_t wanted); /* blocks until so much is there; leaves when the worker does */
void keeper_shrink(struct process *self);                        /* gives a large input's memory back */
int keeper_make_words(struct process *self, char *strings, char ***ret_env);
int keeper_start(struct process *self);                          /* the command whose run is next in the stream: 0 or -errno */
int keeper_start_from(struct process *self, uint8_t *at);        /* the same from memory, whose strings it changes; behind the head of its run */

/* ---- keeper_row.c ---- */

void keeper_row_take(struct process *self);                /* the one that is next in the stream */
void keeper_row_start(struct process *self);               /* its first command, if that may still begin */
/* When a command of the row has ended in a usual way: leaves its result in the bundle and starts the next. False: it is the last one. */
bool keeper_row_goes_on(struct process *self);

/* ---- keeper_persistent.c ---- */

void keeper_persistent_prepare(struct process *self);      /* before a task: ends a process that can't take it. Blocks */
int keeper_persistent_start(struct process *self);         /* the task that is next in the stream: 0 or -errno */
void keeper_persistent_ready(struct process *self, short to, short from);    /* what poll said of both */
void keeper_persistent_cancel(struct process *self);
/* When it has ended with a task: takes what it said last. True: it never read the task, and another process has it now. */
bool keeper_persistent_again(struct process *self);
void keeper_persistent_judge(struct process *self);        /* when it has ended: whose fault */
void keeper_persistent_gone(struct process *self);
void keeper_persistent_retire(struct process *self);       /* after a task: when it has served enough. Blocks */

/* ---- keeper_limit.c ---- */

#define KEEPER_RLIMITS 2
struct keeper_limits {
    int groups[1 + CONTROLS];                  /* which the attempt enters */
    struct spawn_limit limits[KEEPER_RLIMITS];
    unsigned n_groups, n_limits;
};
int keeper_limits_begin(struct process *self, struct keeper_limits *ret);    /* before the start: 0 or -errno */
bool keeper_limits_spent(struct process *self);      /* at cpu_at: all CPU time is used up; else cpu_at is moved */
void keeper_limits_end(struct process *self);        /* into the report */

/* ---- keeper_clean.c ---- */

void keeper_clean(struct process *self, const struct keeper_wire_setup *setup);    /* blocks until nothing is left */

#endif
