/* Logs: one line an event on standard error, as `time level program event key=value …` or as one
 * JSON object. Keys and words are those of docs/; values are quoted when they need it.
 * Programs log; common/, proto/ and the pure cores don't (the loop's and the sockets' own warnings aside). */
#ifndef COMMON_LOG_H
#define COMMON_LOG_H

#include <stdbool.h>

#include "common/log_level.h"

enum log_format { LOG_TEXT, LOG_JSON };

void log_setup(const char *program, enum log_format format, enum log_level level);
bool log_wanted(enum log_level level);

/* log_event(LOG_INFO, "batch_admitted", "batch", "b7k2", "tasks", log_u64(n), NULL): an event name
 * (snake_case), then key and value strings in pairs, then NULL. Truncates at 4 KiB. Thread-safe. */
void log_event(enum log_level level, const char *event, ...) __attribute__((sentinel));

/* The same for a pure core's note: `text` is key=value pairs, a value with blanks in double quotes. */
void log_text(enum log_level level, const char *event, const char *text);

/* Numbers as strings, for the call above: each returns one of 16 buffers of the thread, in turn. */
const char *log_u64(unsigned long long value);
const char *log_i64(long long value);
const char *log_ms(long long ns);      /* nanoseconds as milliseconds with three decimals */

#endif
