#include "common/output.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/bug.h"

#define EXIT_NOT_READ 1
#define UNKNOWN (-1)

static int first_error;

/* A write that made room in the buffer has failed, and its errno is gone. Of a pipe that nobody reads the rest can still be seen. */
static int error_of_before(void)
{
    struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};
    return poll(&p, 1, 0) > 0 && (p.revents & POLLERR) ? EPIPE : UNKNOWN;
}

int output_flush(void)
{
    bool failed = fflush(stdout) != 0;
    if (first_error == 0 && failed)
        first_error = errno;
    else if (first_error == 0 && ferror(stdout))
        first_error = error_of_before();
    return first_error;
}

void output_forget(void)
{
    clearerr(stdout);
    first_error = 0;
}

int output_end(const char *program, int code)
{
    int error = output_flush();
    if (error == 0)
        return code;
    if (error != EPIPE)
        fprintf(stderr, "%s: standard output can't be written: %s\n", program, error == UNKNOWN ? "some of it is lost" : strerror(error));
    if (code != 0)
        return code;
    return error == EPIPE ? EXIT_NOT_READ : EXIT_DISK;
}
