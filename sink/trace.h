/* --trace-file: one span for each attempt that is recorded, as a line of OTLP JSON. Lines are made when the result is
 * staged, and written once it is on disk: a span that can be read is of an attempt that is recorded. Formatting
 * happens in the loop, writing in a thread; what finds no room in TRACE_MOST bytes is dropped and counted. */
#ifndef SINK_TRACE_H
#define SINK_TRACE_H

#include "common/clock.h"
#include "common/linefile.h"
#include "proto/wire.h"

#define TRACE_MOST ((size_t)16 * 1024 * 1024)

struct trace;

struct trace *trace_open(const char *path, struct why *why);      /* NULL: why */
/* Waits a few seconds at most for what is on its way to the file. */
void trace_close(struct trace **self_p);

/* The attempts of a report were staged, and flush `sequence` will hold them. fresh: a bitmap of those that count; NULL: all. */
void trace_staged(struct trace *self, const char *short_id, const Wire__Options *options, const Wire__Report *report, const uint8_t *fresh,
                  uint64_t sequence, wall_t now);
void trace_committed(struct trace *self, uint64_t sequence);
void trace_reopen(struct trace *self);                            /* for who rotates the file */
void trace_count(struct trace *self, struct linefile_counts *ret);

/* Appends the span of one attempt to `out`, which has room for TRACE_LINE bytes; returns its length, with the newline. */
#define TRACE_LINE 8192u
size_t trace_line(char *out, const char *short_id, const Wire__Options *options, const Wire__Report *report, uint32_t i, wall_t now);

#endif
