/* A file of lines that is written by a thread of its own, so that no loop waits for its disk: traces, audit. What waits
 * to be written is bounded; what finds no room, or no disk, is dropped by whole lines, counted, and can be told.
 * The file is appended to, and opened again when asked to, for those who rotate it. */
#ifndef COMMON_LINEFILE_H
#define COMMON_LINEFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/why.h"

struct linefile;

/* `most`: bytes that may wait. Call after signals were blocked. NULL: why; nothing was started. */
struct linefile *linefile_open(const char *path, size_t most, struct why *why);

/* Whole lines, each with its newline. false: there was no room, and they were counted as dropped. Never blocks. */
bool linefile_put(struct linefile *self, const char *lines, size_t len);

/* Whether so many more bytes would find room now: who makes lines at some cost asks before. */
bool linefile_has_room(struct linefile *self, size_t len);
void linefile_drop(struct linefile *self, uint64_t lines);       /* counts lines that were not even made */

/* The path is opened again before the next line is written: the old file is complete then. Never blocks. */
void linefile_reopen(struct linefile *self);

struct linefile_counts {
    uint64_t written, dropped;        /* lines */
    int error;                        /* errno of the last open or write when that failed; 0: it didn't */
};
void linefile_count(struct linefile *self, struct linefile_counts *ret);

/* Waits up to `ns` for what is queued to be written, and ends the thread. One that hangs in its disk is left behind. */
void linefile_close(struct linefile **self_p, int64_t ns);

#endif
