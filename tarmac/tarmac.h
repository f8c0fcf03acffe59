/* libtarmac: contexts, and a client of Tarmac, for programs in C. (Link with `pkg-config --libs libtarmac`.)
 *
 * A context is what Go's package of that name calls one: a deadline, a cancellation signal and request-scoped
 * values, in a tree. Whoever starts something makes a context for it and passes it down; whoever waits, waits no
 * longer than the context lives. What is submitted under a context takes its values and its trace along, ends by
 * its deadline, and is cancelled with it: between machines as well.
 *
 * Functions that can fail return a TARMAC_ code, or NULL with the code in errno's stead through the `failure` that
 * was passed: its sentence says what, where and what would be right. Every function that may block takes a context
 * and returns when it ends. Nothing here prints, exits, or touches signals.
 *
 * Threads: a context may be used by any number of threads at once. A client, and all that was made from it, by one
 * thread at a time.
 *
 * The words are those of docs/design.md; the model is https://pkg.go.dev/context. */
#ifndef TARMAC_TARMAC_H
#define TARMAC_TARMAC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define TARMAC_API __attribute__((visibility("default")))

/* The library's interface: programs built for one major version run with every later minor one. */
#define TARMAC_ABI_MAJOR 1
#define TARMAC_ABI_MINOR 0
TARMAC_API const char *tarmac_version(void);            /* of the release: "0.1.0" */

/* ---- time ---- */

/* A point in time of this machine since it booted (CLOCK_BOOTTIME, goes on while suspended), not a time of day:
 * clocks that are wrong, differ or are set change nothing. Durations are nanoseconds. */
typedef struct { int64_t ns; } tarmac_time;
#define TARMAC_US INT64_C(1000)
#define TARMAC_MS INT64_C(1000000)
#define TARMAC_S  INT64_C(1000000000)
#define TARMAC_NEVER ((tarmac_time){INT64_MAX})
TARMAC_API tarmac_time tarmac_now(void);
TARMAC_API tarmac_time tarmac_in(int64_t ns);           /* that long from now; no overflow: TARMAC_NEVER at most */

/* ---- failures ---- */

enum tarmac_code {
    TARMAC_OK = 0,
    TARMAC_CANCELLED = -1,             /* the context was cancelled */
    TARMAC_DEADLINE_EXCEEDED = -2,     /* the context's deadline has passed */
    TARMAC_REFUSED = -3,               /* by the ventilator or the sink, with its reason */
    TARMAC_UNREACHABLE = -4,           /* nobody there, for longer than the timeouts of the client */
    TARMAC_BAD_INPUT = -5,             /* an argument that can't be right */
    TARMAC_NO_MEMORY = -6,
    TARMAC_CLOSED = -7,                /* the batch takes no more tasks: sealed, cancelled, past its deadline */
};
typedef struct {
    enum tarmac_code code;
    char sentence[400];
} tarmac_failure;
TARMAC_API const char *tarmac_code_name(int code);      /* "deadline exceeded"; static */

/* ---- contexts ---- */

typedef struct tarmac_context tarmac_context;

/* The root of all: never cancelled, no deadline, no values. Static; need not be released. */
TARMAC_API tarmac_context *tarmac_background(void);

/* Children. Each ends when its parent ends, at the latest. The caller owns one reference and gives it back with
 * tarmac_release; a child keeps what it needs of its parents, in whatever order they are released. NULL, and errno:
 * ENOMEM; EINVAL for a key or value that can't be sent. */
TARMAC_API tarmac_context *tarmac_with_cancel(tarmac_context *parent);
TARMAC_API tarmac_context *tarmac_with_deadline(tarmac_context *parent, tarmac_time at);     /* never later than the parent's */
TARMAC_API tarmac_context *tarmac_with_timeout(tarmac_context *parent, int64_t ns);          /* 0 or less: it has passed already */
/* Values are text and travel with what is submitted: key [A-Za-z_][A-Za-z0-9_.-]* of at most 64 bytes, value UTF-8 without NUL
 * of at most 4,096. A key hides that of a parent. "traceparent" and "tracestate" (W3C) are the trace. */
TARMAC_API tarmac_context *tarmac_with_value(tarmac_context *parent, const char *key, const char *value);
/* Takes values and trace of the parent, and neither its cancellation nor its deadline: for what must be done afterwards. */
TARMAC_API tarmac_context *tarmac_without_cancel(tarmac_context *parent);

/* The context of a handler: of the command that a worker has started, read from the environment (docs/guide.md): its values and
 * trace, what is left of its time, and the attempt that it is, so that batches submitted under it are its children. Outside
 * a handler: a child of the background without any. The SIGTERM that asks it to stop is the program's own to handle
 * (tarmac_cancel is not for signal handlers: watch a signalfd, or a thread in sigwait). */
TARMAC_API tarmac_context *tarmac_from_environment(void);

TARMAC_API tarmac_context *tarmac_retain(tarmac_context *self);        /* another reference; returns self */
/* Gives a reference back; *self_p becomes NULL. This is about memory only: what goes on under the context is not
 * cancelled by it (`defer cancel()` of Go is tarmac_cancel, then tarmac_release). Idempotent. */
TARMAC_API void tarmac_release(tarmac_context **self_p);

/* Ends it and everything below it, now; `cause` (may be NULL, copied) is for people. The first end stands. */
TARMAC_API void tarmac_cancel(tarmac_context *self, const char *cause);

/* TARMAC_OK while it lives, else TARMAC_CANCELLED or TARMAC_DEADLINE_EXCEEDED; it never changes back. */
TARMAC_API int tarmac_err(tarmac_context *self);
/* Why, for people: the cause that was given, else the name of the code; "" while it lives. Copied into out (cut). Returns out. */
TARMAC_API const char *tarmac_cause(tarmac_context *self, char *out, size_t out_size);
/* A descriptor that becomes readable when the context ends, for poll and the like. It belongs to the context: don't
 * read or close it, and don't use it after the last reference is gone. -1: it never ends (background), or errno. */
TARMAC_API int tarmac_done(tarmac_context *self);
TARMAC_API tarmac_time tarmac_deadline(tarmac_context *self);          /* TARMAC_NEVER: none */
TARMAC_API int64_t tarmac_left(tarmac_context *self);                  /* ns, at least 0; INT64_MAX: no deadline */
TARMAC_API const char *tarmac_value(tarmac_context *self, const char *key);      /* NULL: none; lives as long as the context */
/* Waits so long, or until the context ends: TARMAC_OK, or the end's code. */
TARMAC_API int tarmac_sleep(tarmac_context *self, int64_t ns);

/* ---- the client ---- */

typedef struct tarmac_client tarmac_client;
typedef struct tarmac_batch tarmac_batch;

/* Connects and waits until the ventilator has answered. `ventilator`: tcp://HOST[:PORT] or ipc://PATH; NULL: the variable
 * TARMAC_VENTILATOR, else tcp://127.0.0.1:5555. First contact within 10 s and each later absence of at most 60 s, or what
 * the context leaves. NULL: failure says why. */
TARMAC_API tarmac_client *tarmac_connect(tarmac_context *context, const char *ventilator, tarmac_failure *failure);
/* The same to a ventilator that has keys. `keys`: a client's folder of what 'ventilator keygen' made; NULL, as in tarmac_connect:
 * the variable TARMAC_KEYS, else none; "": none. */
TARMAC_API tarmac_client *tarmac_connect_with_keys(tarmac_context *context, const char *ventilator, const char *keys, tarmac_failure *failure);
/* Legal at any time; batches made from it must be released before. */
TARMAC_API void tarmac_disconnect(tarmac_client **self_p);

/* What the tasks of a batch have in common. Zero means the default that `ventilator submit --help` shows; durations are ns. */
struct tarmac_options {
    size_t size;                        /* sizeof (struct tarmac_options): set by TARMAC_OPTIONS */
    const char *handler;                /* a handler that workers have, or … */
    const char *const *command;         /* … a command line for each task, NULL-terminated, with {} where the payload goes */
    bool pipe;                          /* the payload goes to the command's standard input */
    const char *name, *key;             /* for people; the same key again continues or returns the same batch */
    int64_t deadline, timeout, grace, min_runtime;     /* the context's deadline tightens `deadline` */
    unsigned retries;
    bool retry_on_timeout, retry_on_lost;              /* beside failures */
    int64_t backoff, backoff_most; unsigned backoff_factor_milli;
    int priority; unsigned weight; uint64_t max_running, max_output;
    const char *const *require;         /* labels "key=value" of workers, NULL-terminated */
    bool require_worker, detach;        /* detach: not cancelled with the context or the parent attempt */
    int64_t range_first; uint64_t range_count;         /* range_count > 0: the payloads are these numbers, and nothing is added */
};
#define TARMAC_OPTIONS ((struct tarmac_options){.size = sizeof(struct tarmac_options)})

/* Begins a batch under a context. The context must live as long as the batch object does (a reference is taken). When the
 * context is cancelled, so is the batch, as soon as any function below notices (unless `detach`). NULL: failure says why. */
TARMAC_API tarmac_batch *tarmac_submit(tarmac_context *context, tarmac_client *client, const struct tarmac_options *options,
                                       tarmac_failure *failure);
/* Adds a task; its index is the number of those before. Copies the payload. Waits while a window of tasks is on its way. */
TARMAC_API int tarmac_add(tarmac_batch *self, const void *payload, size_t len, tarmac_failure *failure);
/* Waits until all that was added is on the ventilator's disk. Without it the last tasks may wait for the next call. */
TARMAC_API int tarmac_flush(tarmac_batch *self, tarmac_failure *failure);
/* No more tasks: waits until all are on the ventilator's disk. */
TARMAC_API int tarmac_seal(tarmac_batch *self, tarmac_failure *failure);
/* The id that people type; lives as long as the batch. */
TARMAC_API const char *tarmac_batch_id(const tarmac_batch *self);

/* A batch that exists, by the id that people type, to read or cancel it. */
TARMAC_API tarmac_batch *tarmac_open(tarmac_context *context, tarmac_client *client, const char *id, tarmac_failure *failure);

enum tarmac_verdict { TARMAC_V_OK = 1, TARMAC_V_FAILED, TARMAC_V_DEADLINE_EXCEEDED, TARMAC_V_CANCELLED, TARMAC_V_LOST, TARMAC_V_REJECTED };
TARMAC_API const char *tarmac_verdict_name(int verdict);

/* How a task ended. Pointers are lent until the next call on the batch. */
struct tarmac_result {
    uint64_t index;
    int verdict;
    const char *reason, *sentence;      /* a word, and a sentence for people; "" when it ended well */
    unsigned attempts;
    const char *worker;
    int exit_code, signal;              /* exit_code: -1 when it has none */
    int64_t queued, run;                /* ns */
    const void *output, *errors; size_t output_len, errors_len;
    bool output_cut, errors_cut;
};
/* The next result as they are recorded: 1 and *ret; 0: the batch is complete and all were handed out; else a TARMAC_ code.
 * Legal before the batch is sealed. After a context's end it returns that; the results stay where they are: open the
 * batch again under another context to read them. */
TARMAC_API int tarmac_next(tarmac_batch *self, struct tarmac_result *ret, tarmac_failure *failure);
/* Waits until it is complete: TARMAC_OK, whatever the verdicts are. counts (may be NULL) by enum tarmac_verdict. */
TARMAC_API int tarmac_wait(tarmac_batch *self, uint64_t counts[7], tarmac_failure *failure);
/* Cancels all of it, and returns when no further attempt can start. */
TARMAC_API int tarmac_batch_cancel(tarmac_batch *self, const char *reason, tarmac_failure *failure);
/* Forgets the object, not the batch: tasks that were added go on; an unsealed batch stays open. *self_p becomes NULL. */
TARMAC_API void tarmac_batch_release(tarmac_batch **self_p);

/* ---- plugins ---- */

/* A handler that is a shared object (docs/handlers.md): it defines tarmac_plugin, and a worker loads it in a process of its
 * own for each slot, never in the worker itself. A crash, an exit or a hang costs one attempt, and the process.
 *
 *     cc -shared -fPIC $(pkg-config --cflags libtarmac) thumb.c -o thumb.so
 *
 * The functions of this header come from the process that loads it, so that contexts are the same on both sides: -ltarmac
 * isn't needed, and does no harm. Standard output is standard error there, and both are captured for each task. */

/* A task, for as long as `run` works on it. For one thread at a time; its context for any number. */
typedef struct tarmac_task tarmac_task;

struct tarmac_plugin {
    uint32_t abi_major, abi_minor;      /* these and size: set by TARMAC_PLUGIN */
    size_t size;
    const char *name;                   /* for people; may be NULL */
    /* Before the first task, once in a process: `argument` is that of the handlers file, or "". *state is the plugin's own, NULL until
     * it is set. Not 0: it can't work; the task fails for it and the process is replaced. May be NULL. */
    int (*open)(const char *argument, void **state);
    /* One task; never two at a time in one process, and always on the thread of `open`. 0: it is ok; 1 to 255: it failed with that exit
     * code; anything else: with 1, and the name of that TARMAC_ code as its error if there is none yet. It should return soon
     * after its context has ended: after the batch's grace the process is killed. */
    int (*run)(void *state, tarmac_task *task);
    /* After the last task, when the process is to leave in peace: it has a second. May be NULL. */
    void (*close)(void *state);
};
#define TARMAC_PLUGIN .abi_major = TARMAC_ABI_MAJOR, .abi_minor = TARMAC_ABI_MINOR, .size = sizeof(struct tarmac_plugin)

/* The entry point, which the plugin defines: static; called once, before `open`. */
TARMAC_API const struct tarmac_plugin *tarmac_plugin(void);

/* What is to be worked on; may have NULs, has one behind it that doesn't count. Lent until `run` returns, as are the texts below. */
TARMAC_API const void *tarmac_task_payload(const tarmac_task *self, size_t *ret_len);
/* Ends with the attempt: when it is cancelled, or its time is over. Has its values and its trace; batches that are submitted under
 * it are children of the attempt. Retain what must live longer than `run`. */
TARMAC_API tarmac_context *tarmac_task_context(const tarmac_task *self);
TARMAC_API const char *tarmac_task_batch(const tarmac_task *self);      /* the id that people type */
TARMAC_API const char *tarmac_task_key(const tarmac_task *self);        /* batch/index: the same for all attempts */
TARMAC_API uint64_t tarmac_task_index(const tarmac_task *self);
TARMAC_API unsigned tarmac_task_attempt(const tarmac_task *self);       /* from 1 */
TARMAC_API unsigned tarmac_task_slot(const tarmac_task *self);          /* from 1 */
/* Adds to the output, copied. TARMAC_NO_MEMORY; TARMAC_BAD_INPUT: beyond 64 MiB in all (the batch's --max-output cuts before). */
TARMAC_API int tarmac_task_output(tarmac_task *self, const void *bytes, size_t len);
/* A sentence for the record; copied, cut at 1,000 bytes. The last one stands. */
TARMAC_API void tarmac_task_error(tarmac_task *self, const char *sentence);

#ifdef __cplusplus
}
#endif
#endif
