/* What the worker and a keeper say to each other over their socket pair: a stream, both ends of one
 * build on one machine, so these are plain structs. Every message starts with its kind and has its
 * lengths in front. The worker sends `run` only when none runs; `stop` names its run, so that one
 * that crosses the end of its run can't hit the next. */
#ifndef WORKER_KEEPER_WIRE_H
#define WORKER_KEEPER_WIRE_H

#include <limits.h>
#include <stdint.h>

#include "worker/cgroup_limit.h"
#include "worker/limits.h"

#define KEEPER_NAME "tarmac-keeper"

#define KEEPER_MARK "TARMAC_SLOT_MARK"     /* in the environment of every attempt: the same for all of one slot of one worker */
#define KEEPER_NOTE_MOST 512               /* bytes of a note */
#define KEEPER_SENTENCE_MOST 1024          /* bytes of a handler's sentence, with its NUL */

enum keeper_wire_kind {
    KEEPER_WIRE_SETUP = 0x53455431, KEEPER_WIRE_RUN = 0x52554e31, KEEPER_WIRE_STOP = 0x53544f31,
    KEEPER_WIRE_BUNDLE = 0x42554e31, KEEPER_WIRE_ENDED = 0x454e4431, KEEPER_WIRE_NOTE = 0x4e4f5431, KEEPER_WIRE_READY = 0x52445931,
};

/* The first message to each keeper; the descriptor of a bundle comes along with it, where there is one. With `clean` it takes over
 * from one that died: it ends what that one left, and then says ready. */
struct keeper_wire_setup {
    uint32_t kind;
    uint32_t slot;
    uint32_t clean;
    uint32_t adopted;              /* the worker is a child subreaper: orphans of its keepers are its children */
    uint64_t files_soft, files_hard;    /* limits of open files for commands; 0: as they are */
    char mark[40];
    char folder[PATH_MAX];         /* the slot's group; empty: none */
    char control[CONTROLS][PATH_MAX];    /* its groups for limits; empty: none */
};

/* Followed by `strings_len` bytes (argc words, then envc of the form NAME=value, each with its NUL), by `task_len` bytes (a
 * packed task of handler.proto, for a persistent handler), and then by `input_len` bytes. */
struct keeper_wire_run {
    uint32_t kind;
    uint32_t run;
    uint32_t argc, envc;
    uint64_t strings_len, input_len;
    uint64_t max_output, max_errors;
    int64_t grace;
    uint32_t has_input;
    uint32_t persistent, protobuf, own_program, recycle, bundle, unused;
    uint64_t task_len;
    uint64_t shared_len;           /* of a payload that is in the memory of the bundle; then there is no input */
    uint64_t limits[LIMIT_KINDS];
};

/* Many commands, as one run: followed by `len` bytes, which are the runs of `count` commands. How far they have come is in the bundle that both
 * share (worker/bundle.h); the report is of the last one that has begun. */
struct keeper_wire_bundle {
    uint32_t kind;
    uint32_t run;
    uint32_t count, unused;
    uint64_t len;
};

struct keeper_wire_stop {
    uint32_t kind;
    uint32_t run;
    int64_t grace;
};

enum keeper_wire_flag {
    KEEPER_WIRE_TERM_SENT = 1, KEEPER_WIRE_KILL_SENT = 2, KEEPER_WIRE_OUTPUT_CUT = 4, KEEPER_WIRE_ERRORS_CUT = 8,
};

/* Followed by `output_len`, `errors_len` and `sentence_len` bytes. A note has the same head: its enum keeper_note is the code, its sentence the
 * errors. So has ready, with nothing behind it. */
struct keeper_wire_ended {
    uint32_t kind;
    uint32_t run;
    uint32_t how;                  /* enum keeper_how */
    int32_t code;
    uint32_t flags;
    uint32_t swept;
    uint32_t limit;                /* enum limit_kind + 1 of the one that was hit; 0: none */
    uint32_t sentence_len;
    int64_t run_ns;
    uint64_t output_len, errors_len;
    uint64_t shared_len;           /* of an output that is in the memory of the bundle; then output_len is 0 */
};

void keeper_remember_limits(void);     /* see keeper_is_asked_for */

#endif
