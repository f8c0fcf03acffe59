/* What the library's own files, and the hosts of handlers, may do with a context besides tarmac.h. */
#ifndef TARMAC_CONTEXT_PRIVATE_H
#define TARMAC_CONTEXT_PRIVATE_H

#include "tarmac/tarmac.h"

/* The attempt that a context belongs to, as "BATCH/INDEX/EPOCH/ATTEMPT" (the variable TARMAC_PARENT): it goes with what is
 * submitted below. It is a value under a key that nobody else can set. */
#define CONTEXT_PARENT "=parent"

/* Another value, without a look at the key. */
tarmac_context *context_with_raw(tarmac_context *parent, const char *key, const char *value);

/* *context becomes its own child with a value, the other reference being given back; NULL when there is no memory. What can't be
 * sent is left out, and so is NULL. `raw`: without a look at the key. */
void context_add(tarmac_context **context, const char *key, const char *value, bool raw);

/* The deadline of a context was moved, both ways, by whoever gave it; what is below it moves along, as far as it took its
 * deadline from there. An end that has come stays. */
void context_move_deadline(tarmac_context *self, tarmac_time at);

/* Calls `each` for every value that can be seen from a context, nearest first, each key once, and not for CONTEXT_PARENT. */
void context_values(tarmac_context *self, void (*each)(void *arg, const char *key, const char *value), void *arg);

#endif
