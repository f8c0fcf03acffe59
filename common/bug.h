/* Panic is for our own bugs; never for memory, disks or peers. */
#ifndef COMMON_BUG_H
#define COMMON_BUG_H

/* Says file, line and condition on standard error and exits with 7 (EXIT_BUG). In every build. */
#define BUG_IF(condition) ((condition) ? bug_report(__FILE__, __LINE__, #condition) : (void)0)
void bug_report(const char *file, int line, const char *condition) __attribute__((noreturn));

/* Exit codes of the daemons (docs/guide.md). EXIT_BUSY: an address, the data folder, memory or descriptors are in use by others;
 * another try may find them free. */
enum exit_code {
    EXIT_STOPPED = 0, EXIT_UNRELEASED = 1, EXIT_USAGE = 2, EXIT_BUSY = 5, EXIT_DISK = 6, EXIT_BUG = 7,
};

#endif
