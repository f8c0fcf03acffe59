/* What a command prints, read from a pipe without ever blocking: the first `max` bytes (standard
 * output) or the last (standard error). The rest is read and dropped, so that the command never
 * waits for room. The memory grows with what is printed, is used again, and is given back when large. */
#ifndef WORKER_CAPTURE_H
#define WORKER_CAPTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct capture {
    int fd;                        /* the non-blocking end to read from; -1: none, or read to its end */
    bool tail;                     /* keep the last bytes, not the first */
    bool cut;                      /* something was dropped */
    size_t max;
    uint8_t *data;
    size_t len, room;
};

void capture_begin(struct capture *self, int fd, uint64_t max);    /* takes the descriptor */
void capture_read(struct capture *self);       /* one read; at the end of the input the descriptor is closed */
void capture_close(struct capture *self);      /* there is nothing to read and nobody to write */
void capture_end(struct capture *self);        /* takes what the pipe still holds, waits for nothing, closes the descriptor */
const uint8_t *capture_kept(const struct capture *self, size_t *ret_len);    /* after capture_end, until the next begin */
void capture_reset(struct capture *self);      /* after the bytes were used: gives large memory back */

#endif
