/* Which results a worker may forget: told with the next message down its lane, or a little later (ledger_release.c). */
#ifndef VENTILATOR_LEDGER_RELEASE_H
#define VENTILATOR_LEDGER_RELEASE_H

#include "ventilator/ledger_private.h"

/* Its worker may forget this result, or those of this fence. A worker that isn't there, or is away, is told when it sends them again. */
void release_result(struct ledger *l, uint64_t session, const Wire__Fence *fence, struct batch *b);
/* A result of a batch that is not here: its worker must not keep it for ever, and is told at once. */
void release_unknown(struct ledger *l, uint64_t session, Wire__Fence *fence);
/* The sink has told of these tasks, not of their worker's results: it may forget those all the same, instead of bringing
 * them again after its pause. Who leaves waits for nothing else. */
void release_ended(struct ledger *l, const struct flight *f, uint64_t first, uint32_t count);
void release_look(struct ledger *l, struct worker *w);   /* after a change of its lane, or that it leaves */
void release_forget(struct ledger *l, struct worker *w);
void release_flush(struct ledger *l, bool all);          /* at the end of a turn: those that can't wait, or all */

#endif
