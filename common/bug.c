/* The end of a process that found itself to be wrong. */
#include "common/bug.h"

#include <stdio.h>
#include <unistd.h>

void bug_report(const char *file, int line, const char *condition)
{
    dprintf(STDERR_FILENO, "bug at %s:%d: %s; stopping, please report this line\n", file, line, condition);
    /* Nothing registered with atexit may run on a state that is known to be broken. */
    _exit(EXIT_BUG);
}
