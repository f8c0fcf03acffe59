/* What the seeds have reached. A fault that never happens proves nothing: the table at the end of a run shows
 * how often each did, and a long run in which one never did has failed. */
#include "tests/sim/sim.h"

#include <stdio.h>
#include <string.h>

static uint64_t counts[COVER_N];

#define TEXT_OF(name, text) [COVER_##name] = text,
static const char *const texts[COVER_N] = {COVERS(TEXT_OF)};

/* Mutants are no part of what was tested, and neither is the taking down of a world that is over. */
void cover(struct world *w, enum cover what)
{
    if (!w->over && w->mutant == MUTANT_NONE)
        counts[what]++;
}

void cover_show(void)
{
    puts("# reached by these seeds:");
    for (size_t i = 0; i < COVER_N; i += 2) {
        printf("# %10" PRIu64 "  %-42s", counts[i], texts[i]);
        if (i + 1 < COVER_N)
            printf(" %10" PRIu64 "  %s", counts[i + 1], texts[i + 1]);
        putchar('\n');
    }
}

unsigned cover_missing(char *out, size_t size)
{
    unsigned n = 0;
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < COVER_N; i++) {
        if (counts[i] > 0)
            continue;
        n++;
        if (len < size)
            len += (size_t)snprintf(out + len, size - len, "%s %s", len > 0 ? ";" : "", texts[i]);
    }
    return n;
}
