/* The one thing in the simulation that knows the ledger from inside: it bends a counter, so that the audit has something
 * to notice. A file of its own, because the ledger and the simulation use the same names for different things. */
#include "ventilator/ledger_private.h"

bool ledger_bend(struct ledger *l);     /* as in sim.h; false: there is none to bend */

bool ledger_bend(struct ledger *l)
{
    struct batch *b = TAILQ_FIRST(&l->open);
    if (b == NULL || b->in_flight == 0)
        return false;
    b->in_flight++;
    return true;
}
