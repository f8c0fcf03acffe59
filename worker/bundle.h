/* A bundle: many tasks in one go, in memory that the worker shares with whoever begins them: a plugin's process, or the keeper,
 * which starts commands. The worker puts the tasks there while nothing runs; the other claims one after the other, and leaves
 * the result of each there before it claims the next. The result of the last one it claimed goes the usual way, so what happens to
 * that one is what happens to a task that came alone. (Of commands only the claims and the results are here: what to run has been
 * sent to the keeper.)
 *
 * Payloads and outputs of plugins that are large cross in the same memory, each in a place of its own, which takes memory only once it
 * is used: a copy in and a copy out, where pipes and sockets copy eight times.
 *
 * Whether a task has begun is one atomic number: the process counts it up, and anybody may close it. What the process leaves there is
 * foreign to the worker: lengths are checked when they are read. None of these blocks. */
#ifndef WORKER_BUNDLE_H
#define WORKER_BUNDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/clock.h"
#include "proto/wire.h"

#define BUNDLE_MOST 4096u                      /* tasks */
#define BUNDLE_LARGE_MOST ((size_t)64 << 20)   /* bytes of a payload or an output */

struct bundle;

/* Sealed against a change of its size. 0, with the descriptor (the caller's) and its mapping; or -errno. */
int bundle_make(struct bundle **ret, int *ret_fd);
/* The same from its descriptor, which stays the caller's; NULL: it is none. */
struct bundle *bundle_map(int fd);
void bundle_unmap(struct bundle **self_p);     /* NULL is fine */

/* ---- the worker's side ---- */

struct bundle_order {
    uint32_t count;
    const uint32_t *lengths;                   /* of the payloads in `body`; n_lengths: count, 1 (of each), or 0 (all empty) */
    size_t n_lengths;
    struct slice body;
    const Wire__Range *range;                  /* or NULL: the payloads are its numbers, from that of task `index` on */
    uint64_t index;
    mono_t not_after;
    int64_t begin_for;
    uint64_t max_output;                       /* a longer one ends the bundle */
};
/* Only while nothing runs. 0, or -E2BIG. */
int bundle_put(struct bundle *self, const struct bundle_order *order);
/* No further task begins; with `keep_first` the first one still does, however late it is. Returns how many have begun (with it at least 1, but where
 * it was closed without any before). */
uint32_t bundle_close(struct bundle *self, bool keep_first);
mono_t bundle_begun_at(const struct bundle *self);    /* the last one; the beginning of time: none */

struct bundle_part {
    int code;                                  /* as an exit code; or the signal that ended it */
    bool signalled, swept;
    uint32_t run_ns, output_len, errors_len, words_at;     /* words_at: where in the words its sentence begins; 0: none */
};
/* After the end: how the first `n` ended, what they said in one block (of each its output, then its errors) and their sentences in another, which begins
 * and ends with a NUL; both may be NULL for want of memory, or because there are none. False: what stands there can't be, and nothing is set. */
bool bundle_take(const struct bundle *self, uint32_t n, struct bundle_part *ret, struct buf **ret_outputs, struct buf **ret_words);

/* A large payload of a task that comes alone, and a large output. */
#define BUNDLE_LARGE_LEAST ((size_t)32 << 10)
bool bundle_put_large(struct bundle *self, struct slice payload);    /* only while nothing runs. False: it doesn't fit */
struct buf *bundle_take_large(const struct bundle *self, size_t len);    /* after the end, at most BUNDLE_LARGE_MOST; NULL: no memory */
void bundle_let_large_go(struct bundle *self);     /* after the end: gives the memory of very large ones back */

/* ---- the side of who begins them ---- */

void bundle_not_inherited(struct bundle *self);    /* what the plugin forks doesn't have it */
/* Claims the next task: its number, or -1 when there is none for it. Publishes what was left of the task before. */
int64_t bundle_claim(struct bundle *self, mono_t now);
const void *bundle_payload(const struct bundle *self, uint32_t number, size_t *ret_len);    /* aligned, with a NUL behind it */
const void *bundle_large(const struct bundle *self, size_t len);    /* a large payload, with a NUL behind it; NULL: there can't be such a one */
bool bundle_leave_large(struct bundle *self, const void *output, size_t len);    /* false: it doesn't fit */

/* A result. */
struct bundle_left {
    int code;
    bool signalled, swept;
    const void *output, *errors;
    size_t output_len, errors_len;
    const char *sentence;                      /* "": none */
    int64_t run_ns;
};
/* Leaves it, to be published by the next claim. False: it doesn't fit, and has to go the usual way. */
bool bundle_leave(struct bundle *self, uint32_t number, const struct bundle_left *left);

#endif
