/* What messages are made of, as far as it needs no ZeroMQ: those that are counted while they are
 * away, and those that are packed into one part. */
#include "common/net_private.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A PUSH with a high-water mark of its own would report "full" like "nobody is there". So it has none, and we count. */
#define AWAY_MESSAGES 256
#define AWAY_BYTES ((size_t)4 << 20)         /* one longer message goes alone */

struct note {
    struct away *away;
    struct buf *buf;                         /* owner of the bytes, unless they are copied below */
    void *bytes;
    size_t counted;
    uint8_t copy[];
};

void away_wake(const struct away *self)
{
    uint64_t one = 1;
    ssize_t n = write(self->wake, &one, sizeof one);
    (void)n;    /* It fails only when the counter is full: then it is readable as well. */
}

bool away_has_room(struct away *self, size_t more)
{
    size_t messages = atomic_load(&self->messages), bytes = atomic_load(&self->bytes);
    return messages == 0 || (messages < AWAY_MESSAGES && bytes < AWAY_BYTES && more <= AWAY_BYTES - bytes);
}

static bool half_empty(struct away *self)
{
    return atomic_load(&self->messages) <= AWAY_MESSAGES / 2 && atomic_load(&self->bytes) <= AWAY_BYTES / 2;
}

/* Said first and looked after: what goes meanwhile is seen by one of the two sides. */
bool away_want_room(struct away *self)
{
    atomic_store(&self->wanted, true);
    return half_empty(self);
}

struct note *note_new(struct away *away, bool share, struct slice bytes, size_t counted)
{
    struct note *self = malloc(sizeof *self + (share ? 0 : bytes.len));
    if (!self)
        return NULL;
    self->away = away;
    self->counted = counted;
    self->buf = share ? buf_ref(bytes.buf) : NULL;
    self->bytes = share ? (void *)bytes.data : self->copy;
    if (!share && bytes.len > 0)
        memcpy(self->copy, bytes.data, bytes.len);
    atomic_fetch_add(&away->messages, 1);
    atomic_fetch_add(&away->bytes, counted);
    return self;
}

void *note_bytes(struct note *self) { return self->bytes; }

void note_done(void *data, void *note)
{
    struct note *self = note;
    struct away *away = self->away;
    (void)data;
    buf_unref(&self->buf);
    atomic_fetch_sub(&away->bytes, self->counted);
    atomic_fetch_sub(&away->messages, 1);
    free(self);
    if (atomic_load(&away->wanted) && half_empty(away) && atomic_exchange(&away->wanted, false))
        away_wake(away);
}

/* What a DEALER gets is one part: the length of the head (32 bits, the least first; the highest bit
 * says that a body follows), the head, the body. When the connection of a socket that dials with
 * ZMQ_IMMEDIATE breaks, libzmq 4.3 throws away what it had not yet read; if the socket learns that between
 * two parts of a message, which is at every hundredth part, an assertion in fq.cpp ends the process.
 * The other kinds that read have bound, or are lanes and don't use ZMQ_IMMEDIATE: they read to the end. */
#define PACK_BODY UINT32_C(0x80000000)

size_t pack_len(size_t head_len, struct slice body, bool with_body)
{
    if (head_len >= PACK_BODY || (with_body && body.len > SIZE_MAX / 2))
        return 0;
    return PACK_LEN + head_len + (with_body ? body.len : 0);
}

void pack_write(uint8_t *to, const uint8_t *head, size_t head_len, struct slice body, bool with_body)
{
    uint32_t word = (uint32_t)head_len | (with_body ? PACK_BODY : 0);
    for (int i = 0; i < PACK_LEN; i++)
        to[i] = (uint8_t)(word >> 8 * i);
    if (head_len > 0)
        memcpy(to + PACK_LEN, head, head_len);
    if (with_body && body.len > 0)
        memcpy(to + PACK_LEN + head_len, body.data, body.len);
}

bool pack_read(const uint8_t *bytes, size_t len, size_t *ret_head_len, bool *ret_has_body)
{
    uint32_t word = 0;
    if (len < PACK_LEN)
        return false;
    for (int i = 0; i < PACK_LEN; i++)
        word |= (uint32_t)bytes[i] << 8 * i;
    size_t head_len = word & ~PACK_BODY;
    bool has_body = word & PACK_BODY;
    if (head_len > len - PACK_LEN || (!has_body && head_len != len - PACK_LEN))
        return false;
    *ret_head_len = head_len;
    *ret_has_body = has_body;
    return true;
}
