/* Counted bytes: one block of memory, several owners, no copies. A payload stays in the buffer
 * in which it arrived while it is journaled, cached, cut into slices and sent.
 * References may be dropped on any thread (libzmq's and the store's do); the bytes never change
 * after the buffer is shared. */
#ifndef COMMON_BUF_H
#define COMMON_BUF_H

#include <stddef.h>
#include <stdint.h>

struct buf;

/* A new buffer with one reference and `len` writable bytes; NULL without memory. */
struct buf *buf_new(size_t len);

/* The same, filled with a copy. */
struct buf *buf_copy(const void *data, size_t len);

/* Wraps memory of somebody else: `release(arg)` is called once, on the thread that drops the
 * last reference. NULL without memory: then nothing was taken and release is not called. */
struct buf *buf_wrap(const void *data, size_t len, void (*release)(void *arg), void *arg);

struct buf *buf_ref(struct buf *self);            /* one more owner; returns self; NULL is fine */
void buf_unref(struct buf **self_p);              /* one owner less; sets *self_p to NULL */
uint8_t *buf_data(struct buf *self);              /* writable only while there is one owner */
const uint8_t *buf_bytes(const struct buf *self);
size_t buf_len(const struct buf *self);

/* A part of a buffer. `data` points into `buf`; buf NULL means no bytes, or bytes that are lent
 * for the length of one call and must be copied by whoever keeps them. Taking a slice of a slice
 * takes no reference by itself: slice_keep does. */
struct slice {
    struct buf *buf;
    const uint8_t *data;
    size_t len;
};

struct slice slice_of(struct buf *buf);                                  /* lends */
struct slice slice_cut(struct slice whole, size_t from, size_t len);     /* lends; must lie inside */
struct slice slice_keep(struct slice s);       /* adds a reference; copies lent bytes. On no memory: {0}, with s.len > 0 */
void slice_drop(struct slice *s);              /* drops the reference, empties s */

#endif
