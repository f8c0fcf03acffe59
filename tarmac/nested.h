/* The attempt that a process belongs to, as a worker names it in TARMAC_PARENT: what a nested submission names as its
 * parent. Pure. */
#ifndef TARMAC_NESTED_H
#define TARMAC_NESTED_H

#include <stdint.h>

#include "proto/wire.h"

/* "BATCH/INDEX/EPOCH/ATTEMPT", the batch in hex. 0: *ret is its fence, whose batch lies in `id`; -1: it is not one. */
int nested_parent(const char *text, uint8_t id[WIRE_ID], Wire__Fence *ret);

#endif
