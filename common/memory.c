/* A body of 1 MiB comes and goes within milliseconds. Left to itself glibc gives its pages back when they go, and takes others
 * for the next one, which the kernel has to clear and to map: that cost more than copying did (docs/performance.md).
 *
 * By itself it would keep as much from the first body of 16 MiB on, and map nothing shorter than 32 MiB after one of
 * that length. */
#include "common/memory.h"

#include <malloc.h>

#define MAPPED_FROM (32 << 20)               /* the most that glibc takes: from there on a block is mapped, and unmapped again */

void memory_keep(void)
{
    /* Where it can't be had, it is slower. */
    (void)mallopt(M_MMAP_THRESHOLD, MAPPED_FROM);
    (void)mallopt(M_TRIM_THRESHOLD, MEMORY_KEPT);
}
