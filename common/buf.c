/* Counted bytes. A buffer is one block of memory: this head and the bytes behind it, or this
 * head and a pointer to memory that somebody else releases. */
#include "common/buf.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "common/bug.h"

struct buf {
    atomic_size_t owners;
    size_t len;
    uint8_t *data;                   /* `own`, or the wrapped memory */
    void (*release)(void *arg);
    void *arg;
    _Alignas(max_align_t) uint8_t own[];
};

struct buf *buf_new(size_t len)
{
    if (len > SIZE_MAX - sizeof(struct buf))
        return NULL;
    struct buf *self = malloc(sizeof *self + len);
    if (!self)
        return NULL;
    atomic_init(&self->owners, 1);
    self->len = len;
    self->data = self->own;
    self->release = NULL;
    self->arg = NULL;
    return self;
}

struct buf *buf_copy(const void *data, size_t len)
{
    struct buf *self = buf_new(len);
    if (self && len > 0)
        memcpy(self->own, data, len);
    return self;
}

struct buf *buf_wrap(const void *data, size_t len, void (*release)(void *arg), void *arg)
{
    struct buf *self = buf_new(0);
    if (!self)
        return NULL;
    self->len = len;
    self->data = (uint8_t *)data;
    self->release = release;
    self->arg = arg;
    return self;
}

struct buf *buf_ref(struct buf *self)
{
    /* Relaxed is enough: whoever adds an owner is one already, so the buffer can't go meanwhile. */
    if (self)
        BUG_IF(atomic_fetch_add_explicit(&self->owners, 1, memory_order_relaxed) == 0);
    return self;
}

void buf_unref(struct buf **self_p)
{
    struct buf *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    /* Release hands our reads and writes of the bytes to the thread that frees them; acquire
     * makes that thread see those of all others. */
    size_t before = atomic_fetch_sub_explicit(&self->owners, 1, memory_order_acq_rel);
    BUG_IF(before == 0);
    if (before > 1)
        return;
    if (self->release)
        self->release(self->arg);
    free(self);
}

uint8_t *buf_data(struct buf *self) { return self->data; }

const uint8_t *buf_bytes(const struct buf *self) { return self->data; }

size_t buf_len(const struct buf *self) { return self->len; }

struct slice slice_of(struct buf *buf)
{
    return buf ? (struct slice){buf, buf->data, buf->len} : (struct slice){0};
}

struct slice slice_cut(struct slice whole, size_t from, size_t len)
{
    BUG_IF(from > whole.len || len > whole.len - from);
    /* Adding even 0 to a null pointer is undefined. */
    return (struct slice){whole.buf, whole.data ? whole.data + from : NULL, len};
}

struct slice slice_keep(struct slice s)
{
    if (s.buf) {
        buf_ref(s.buf);
        return s;
    }
    return s.len > 0 ? slice_of(buf_copy(s.data, s.len)) : (struct slice){0};
}

void slice_drop(struct slice *s)
{
    buf_unref(&s->buf);
    *s = (struct slice){0};
}
