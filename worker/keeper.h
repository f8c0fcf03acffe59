/* The keeper: a small process for each slot that runs one attempt at a time and proves that nothing
 * of it is left. The worker's loop never forks; it sends the keeper what to run over a socket pair
 * and gets the end back. This header is the worker's side; keeper_main is the process itself.
 *
 * The keeper is a child subreaper. Each attempt is a new session in it (the session is set before
 * exec), in the slot's own cgroup where there is one. Its order of ending: SIGTERM to the group, the
 * grace, SIGKILL to the cgroup, the group and every other descendant, until neither the cgroup nor /proc
 * shows any; only then "ended". When the command itself has ended, what it left running is ended in the
 * same way. When the worker's end of the socket pair closes, everything is killed at once and the keeper
 * leaves. A keeper that is killed is replaced; the new one ends what is left before anything else.
 *
 * All of it is for the loop's thread, and nothing blocks unless it says so. */
#ifndef WORKER_KEEPER_H
#define WORKER_KEEPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/loop.h"
#include "common/why.h"
#include "worker/cgroup_limit.h"
#include "worker/limits.h"

struct keeper;

/* For a persistent handler: the task, whose payload is the input. Its command runs already, or is started for it. */
struct keeper_task {
    struct slice head;             /* packed Task of handler.proto, without id and payload */
    bool protobuf;                 /* what it speaks; else JSON */
    bool own_program;              /* the program is this one; argv[0] is only what it is asked to be */
    uint32_t recycle;              /* replaced after so many tasks; 0: never */
    bool bundle;                   /* many of them, which are in the memory of the keeper's place */
    size_t shared;                 /* the length of its payload, which is there too; then the input is empty. 0: it is the input */
};

/* What to run. Everything is lent for the length of keeper_run. */
struct keeper_run {
    const struct keeper_task *task;    /* NULL: a command. A keeper runs commands, or one persistent handler in its life */
    char *const *argv;             /* NULL-terminated; argv[0] is searched in PATH. Never a shell */
    char *const *env;              /* NULL-terminated "NAME=value", added to the keeper's own environment */
    struct slice input;            /* standard input; empty: /dev/null unless has_input */
    bool has_input;
    uint64_t max_output;           /* bytes of standard output that are kept; what is beyond is read and dropped */
    uint64_t max_errors;           /* bytes of the tail of standard error that are kept */
    const struct limits *limits;   /* NULL: none. Those of memory and processes need a place with their groups */
    int64_t grace;                 /* ns between SIGTERM and SIGKILL for what the command leaves running at its own end */
};

enum keeper_how { KEEPER_EXITED, KEEPER_SIGNALLED, KEEPER_NOT_STARTED, KEEPER_FAULT /* a persistent handler's; the sentence says which */ };

struct keeper_end {
    enum keeper_how how;
    int code;                      /* exit code, signal number, or errno of the spawn */
    const char *sentence;          /* of a persistent handler: its error, or its fault; of a command in a row that was not started: its program.
                                    * NULL: none. Lent */
    bool term_sent, kill_sent;     /* signals (to a persistent handler: the cancel) that the keeper sent to the command before it ended */
    struct slice output, errors;   /* counted: slice_keep what is kept */
    size_t shared;                 /* the length of an output that is in the memory of the keeper's place; 0: it is here */
    bool output_truncated, errors_truncated;
    int64_t run_ns;                /* from the spawn to the end of the command itself */
    int limit;                     /* enum limit_kind of the limit that ended it, or that it met before it failed; -1: none */
    uint32_t swept;                /* descendants that outlived the command and had to be ended */
};

enum keeper_note {
    KEEPER_NOTE_STUCK,             /* something of the attempt doesn't end after SIGKILL; the slot stays taken. Once for each attempt */
    KEEPER_NOTE_NO_GROUP,          /* the slot's cgroup can't be used; it goes on without */
};

struct keeper_callbacks {
    /* The attempt and all of its descendants are gone; the slot is free. */
    void (*ended)(void *arg, struct keeper *keeper, const struct keeper_end *end);
    /* The keeper itself died (somebody killed it) and is replaced by itself. `lost`: an attempt ran; nothing is known of its end, and
     * nothing of it is alive any more; the keeper can run the next. Else nothing ran. */
    void (*died)(void *arg, struct keeper *keeper, const char *sentence, bool lost);
    /* A sentence for people; may be NULL. */
    void (*said)(void *arg, struct keeper *keeper, enum keeper_note note, const char *sentence);
    void *arg;
};

/* Where a keeper works. Copied. */
struct keeper_place {
    unsigned slot;                 /* for its process title and messages */
    const char *group;             /* folder of the slot's own cgroup2 group, made by the keeper; NULL: none */
    int bundle;                    /* descriptor of a bundle that the keeper or a plugin's process shares; stays the caller's, as long as the keeper
                                    * is open; 0: none */
    const char *control[CONTROLS]; /* folders of its groups for limits; NULL: none */
};

/* Starts a keeper process (re-executes this program as keeper_main).
 * NULL: why. Does not block for longer than a vfork and exec. */
struct keeper *keeper_open(struct loop *loop, const struct keeper_place *place, const struct keeper_callbacks *callbacks, struct why *why);
/* Closes the socket pair: the keeper kills what runs and leaves; it is reaped by this call or, if it takes
 * longer, in the background by pidfd (see keepers_wait). Callbacks no longer come. Legal in `ended`, not in the other callbacks. */
void keeper_close(struct keeper **self_p);

/* Starts an attempt. Legal only when none runs (after open, in or after `ended`, in or after `died`). 0; -ENOMEM; -E2BIG when argv and
 * environment are larger than the system takes (nothing was started, `ended` will not come). */
int keeper_run(struct keeper *self, const struct keeper_run *run);

/* Many commands in a row, as one run: those that were added, each as for keeper_run, but that limits and what is kept of outputs are the
 * same for all, and that input is copied. keeper_run_added starts them; they are claimed from, and leave their results in, the bundle of the
 * keeper's place, where the owner has put as many tasks before. `ended` comes once: with the last one that has begun; without
 * meaning when none has, but that it isn't started when the keeper could not share the memory. Legal when keeper_run is; a run that
 * could not be added (the same errors) leaves the others as they are. */
int keeper_add(struct keeper *self, const struct keeper_run *run);
void keeper_run_added(struct keeper *self);

/* SIGTERM now, SIGKILL after the grace. Idempotent; a later call can only shorten the grace. 0 grace: SIGKILL at once.
 * Without a running attempt: nothing. */
void keeper_stop(struct keeper *self, int64_t grace_ns);

/* For the end of a program, after its loop has stopped and before loop_destroy: waits at most `ns` for the keepers of
 * this loop that were closed and haven't left yet, and reaps them. False: some are still there (a process that can't be
 * killed holds them); they are given up and left to init. Blocks. */
bool keepers_wait(struct loop *loop, int64_t ns);

/* The process itself: first thing in a main, before any thread: `if (keeper_is_asked_for(argc, argv)) return
 * keeper_main(argc, argv);`. keeper_main never returns. Every program that opens keepers has to, tests too. The question also notes this
 * process's limits of open files: commands find those, however much the program raises its own later. */
bool keeper_is_asked_for(int argc, char **argv);
int keeper_main(int argc, char **argv);

#endif
