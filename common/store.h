/* Durable records and frames in one SQLite file, behind its own thread. store_sql.c is the only
 * file that includes sqlite3.h. WAL, synchronous=FULL, page size 16 KiB, no mmap, automatic checkpoints
 * off: a second thread runs passive ones on a connection of its own; past 64 MiB of log the store
 * thread lets the checkpoint catch up. A flush serves all that arrived while the last one ran.
 *
 * Two kinds of things are kept:
 *   records  key → value, small; all that a process needs at its start
 *   frames   numbered rows of one batch: (number, batch, first, count, kind, head, body), found by
 *            number, by batch and number, or by batch and first index
 * Each value, head and body is covered by a CRC-32C that is checked at each read.
 *
 * The loop thread stages operations, then flushes: everything staged becomes durable together or
 * not at all, in order. Nothing here blocks, but store_open and store_close. */
#ifndef COMMON_STORE_H
#define COMMON_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/loop.h"
#include "common/why.h"

struct store;

struct store_frame {
    uint64_t number;          /* from store_append; rising, never reused while the file lives */
    uint64_t batch;           /* the owner's own number for the batch */
    uint64_t first;           /* index of the first task */
    uint32_t count;
    uint32_t kind;            /* the owner's */
    struct slice head, body;
};

struct store_config {
    const char *dir;          /* made (0700) if missing, with a lock file in it */
    const char *role;         /* "journal" or "results": also the file's name, role.db */
    uint32_t version;         /* of the owner's records and heads; a newer file is refused, an older one handed to migrate */
    /* Called while opening, on the caller's thread, for a file of an older version; NULL: older ones are refused. 0 or why_set. */
    int (*migrate)(struct store *store, uint32_t from, struct why *why);

    /* On the loop's thread: everything up to and with flush `sequence` is on disk. */
    void (*committed)(void *arg, uint64_t sequence);
    /* The disk became full (true: little is left, 32 MiB or an eighth of a small one) or has room again (false). Take nothing
     * new in while it is full: what is left is for what is on its way and for what ends meanwhile. When that is used up, a
     * reserve of 4 MiB, kept as a file beside the store, is let go; then flushes wait and are tried again; nothing is lost. */
    void (*full)(void *arg, bool is_full);
    /* A write or flush failed in any other way: nothing more will be written. Say so and exit with EXIT_DISK. */
    void (*failed)(void *arg, const char *sentence);
    void *arg;
};

enum store_refusal { STORE_OK, STORE_BUSY /* another process has it */, STORE_DISK /* can't be made, read or written; damaged; newer */ };

/* Opens or makes the store. Blocks. NULL: *refusal and why. */
struct store *store_open(struct loop *loop, const struct store_config *config, enum store_refusal *refusal, struct why *why);

/* Flushes what is staged, waits for it (at most `wait_ns`), stops the threads, checkpoints, closes. Callbacks no longer come. */
void store_close(struct store **self_p, int64_t wait_ns);

/* The identity of this file: 16 random bytes, made with it. */
const uint8_t *store_id(const struct store *self);

/* ---- staging (loop thread) ---- */
/* Each takes references or copies of what it needs. -ENOMEM: nothing was staged. */
int store_put(struct store *self, const char *key, const void *value, size_t len);
int store_delete(struct store *self, const char *key);
/* Stages a frame; *ret_number is its number (frame->number is ignored). */
int store_append(struct store *self, const struct store_frame *frame, uint64_t *ret_number);
/* All frames of a batch go, in small transactions that let others pass; space is given back (incremental vacuum). */
int store_delete_frames(struct store *self, uint64_t batch);

/* Hands everything staged to the thread; returns its sequence number (rising by one), or the last
 * one when nothing was staged. */
uint64_t store_flush(struct store *self);
uint64_t store_flushed(const struct store *self);        /* the last sequence that was handed over */
uint64_t store_committed(const struct store *self);      /* the last sequence that is on disk */
bool store_is_full(const struct store *self);
size_t store_waiting(const struct store *self);          /* bytes staged or flushed and not yet on disk */

/* ---- reading ---- */
/* All records whose key begins with `prefix`, in key order, at once and blocking: for the start only
 * (before the loop runs). `each` returns 0 to go on. 0, or -1 with why (damage is named with its key). */
int store_load(struct store *self, const char *prefix,
               int (*each)(void *arg, const char *key, const uint8_t *value, size_t len), void *arg, struct why *why);

enum store_order { STORE_BY_NUMBER, STORE_BY_INDEX };
struct store_query {
    uint64_t batch;
    enum store_order order;
    /* By number: rows with number > after. By index: rows that hold an index in [from, to), in the order of first and
     * number; after: 0, or the number of the last row got, to go on behind it. */
    uint64_t after, from, to;
    uint32_t max_rows;            /* at most so many (0: 256) … */
    size_t max_bytes;             /* … and stop after the row that passes this many bytes (0: 1 MiB) */
    bool heads_only;              /* leave bodies empty */
};
struct store_rows {
    const struct store_frame *frames;    /* lent; slice_keep what is kept (buffers are counted) */
    size_t n;
    bool more;                           /* a limit cut it */
    const char *damage;                  /* NULL, or a sentence: a row was damaged; rows before it are in frames */
    uint64_t sees;                       /* the last flush that it can have seen: without room, later ones may wait behind it */
};
/* Asks the thread to read what is committed by then; `done` is called once on the loop's thread, later,
 * also when nothing matched. Reads are answered in order, between commits. 0 or -ENOMEM.
 * Returns an id through *ret_id for store_read_cancel (ret_id may be NULL). */
int store_read(struct store *self, const struct store_query *query,
               void (*done)(void *arg, const struct store_rows *rows), void *arg, uint64_t *ret_id);
void store_read_cancel(struct store *self, uint64_t id);   /* done will not be called; idempotent */

/* For tests and `doctor`: reads everything, checks every CRC and SQLite's own integrity. Blocks. 0 or -1 with why. */
int store_check(struct store *self, struct why *why);

#endif
