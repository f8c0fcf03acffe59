/* Bytes ↔ messages: the arena that messages are unpacked into, and the only calls of protobuf-c's
 * pack and unpack.
 *
 * What must hold: what one head can take is bounded by its length. protobuf-c needs up to 60 bytes
 * for one byte of a hostile head (empty entries of a repeated message are 2 bytes, and duplicates of
 * a message are merged by copying), and about 20 for the densest honest one. */
#include "proto/wire.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "proto/wire_check.h"

/* Under the address sanitizer, memory of the arena that was not handed out is poisoned: who keeps a
 * message beyond the next read is found out. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POISONS 1
#endif
#endif
#if defined(POISONS) || defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define POISON(p, n) ASAN_POISON_MEMORY_REGION(p, n)
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION(p, n)
#else
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

#define ARENA_BASE ((size_t)64 * 1024)      /* what the smallest head may take, and the first chunk */
#define ARENA_PER_BYTE 32u                  /* and what each byte of a head adds */
#define ARENA_KEEP ((size_t)1024 * 1024)    /* the largest chunk that is kept for reuse */
#define ALIGN 8u                            /* of everything in generated messages */

/* ---- the arena ---- */

struct chunk {
    struct chunk *older;
    size_t room, used;
    _Alignas(ALIGN) uint8_t bytes[];
};

struct wire_arena {
    ProtobufCAllocator allocator;
    struct chunk *newest;                   /* allocations come from here only */
    size_t limit, taken;                    /* of the present message */
    bool starved;                           /* the system had no memory for it */
};

static void chunk_free(struct chunk *chunk)
{
    UNPOISON(chunk->bytes, chunk->room);
    free(chunk);
}

/* A new chunk for at least `need` bytes. They double, so that a large message takes few, but never
 * beyond what the message may still take. */
static bool arena_grow(struct wire_arena *self, size_t need)
{
    size_t room = self->newest ? self->newest->room * 2 : ARENA_BASE;
    size_t left = self->limit - self->taken;
    if (self->newest && room > left)
        room = left;
    if (room < need)
        room = need;
    struct chunk *chunk = malloc(sizeof *chunk + room);
    self->starved = !chunk;
    if (!chunk)
        return false;
    *chunk = (struct chunk){.older = self->newest, .room = room};
    POISON(chunk->bytes, room);
    self->newest = chunk;
    return true;
}

/* Each allocation has its size in front, for wire_text_len. */
static void *arena_alloc(void *arg, size_t size)
{
    struct wire_arena *self = arg;
    if (size > self->limit)
        return NULL;
    size_t need = sizeof(uint64_t) + (size + ALIGN - 1) / ALIGN * ALIGN;
    if (need > self->limit - self->taken)
        return NULL;
    if ((!self->newest || need > self->newest->room - self->newest->used) && !arena_grow(self, need))
        return NULL;
    uint8_t *at = self->newest->bytes + self->newest->used;
    UNPOISON(at, sizeof(uint64_t) + size);
    memcpy(at, &(uint64_t){size}, sizeof(uint64_t));
    self->newest->used += need;
    self->taken += need;
    return at + sizeof(uint64_t);
}

static void arena_free(void *arg, void *memory)
{
    (void)arg;
    (void)memory;
}

/* Takes everything back. The newest chunk is the largest: with it the next message of this size
 * needs no malloc. */
static void arena_reset(struct wire_arena *self, size_t head_len)
{
    struct chunk *kept = NULL;
    while (self->newest) {
        struct chunk *chunk = self->newest;
        self->newest = chunk->older;
        if (!kept && chunk->room <= ARENA_KEEP)
            kept = chunk;
        else
            chunk_free(chunk);
    }
    if (kept) {
        kept->older = NULL;
        kept->used = 0;
        POISON(kept->bytes, kept->room);
    }
    self->newest = kept;
    self->taken = 0;
    self->starved = false;
    self->limit = ARENA_BASE + ARENA_PER_BYTE * head_len;
}

struct wire_arena *wire_arena_new(void)
{
    struct wire_arena *self = calloc(1, sizeof *self);
    if (self)
        self->allocator = (ProtobufCAllocator){.alloc = arena_alloc, .free = arena_free, .allocator_data = self};
    return self;
}

void wire_arena_destroy(struct wire_arena **self_p)
{
    struct wire_arena *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    while (self->newest) {
        struct chunk *chunk = self->newest;
        self->newest = chunk->older;
        chunk_free(chunk);
    }
    free(self);
}

bool wire_arena_starved(const struct wire_arena *self) { return self->starved; }

size_t wire_text_len(const char *text)
{
    if (text == protobuf_c_empty_string)    /* an absent one */
        return 0;
    uint64_t size;
    memcpy(&size, text - sizeof size, sizeof size);
    return (size_t)size - 1;
}

/* ---- reading ---- */

static const void *unpack(struct wire_arena *a, const ProtobufCMessageDescriptor *type, const char *name,
                          const uint8_t *head, size_t len, size_t most, struct why *why)
{
    if (len > most) {
        why_set(why, "%s: the head has %zu bytes; it has at most %zu", name, len, most);
        return NULL;
    }
    arena_reset(a, len);
    /* protobuf-c passes its input to memcpy, even when it is empty. */
    const void *message = protobuf_c_message_unpack(type, &a->allocator, len, head ? head : (const uint8_t *)"");
    if (!message && a->starved)
        why_set(why, "%s: no memory to read the head of %zu bytes; the message itself may be right", name, len);
    else if (!message)
        why_set(why, "%s: the head of %zu bytes is cut off, damaged or holds too many entries; it must be one packed %s",
                name, len, type->name);
    return message;
}

static const void *read_shape(struct wire_arena *a, const struct wire_shape *shape, const uint8_t *head, size_t len,
                              size_t body_len, struct why *why)
{
    const void *message = unpack(a, shape->type, shape->name, head, len, shape->most, why);
    return message && wire_check(shape, message, body_len, why) == 0 ? message : NULL;
}

#define READER(word, Type)                                                                                     \
    int wire_read_##word(struct wire_arena *a, const uint8_t *head, size_t len, size_t body_len,               \
                         const Wire__##Type **ret, struct why *why)                                            \
    {                                                                                                          \
        const Wire__##Type *message = read_shape(a, &wire_shape_##word, head, len, body_len, why);             \
        if (!message)                                                                                          \
            return -1;                                                                                         \
        *ret = message;                                                                                        \
        return 0;                                                                                              \
    }

READER(request, Request)
READER(reply, Reply)
READER(upward, Upward)
READER(downward, Downward)
READER(lane, Lane)
READER(result, Result)
READER(query, Query)
READER(answer, Answer)
READER(tasks, Tasks)
READER(row, Row)

int wire_read_options(struct wire_arena *a, const uint8_t *head, size_t len, const Wire__Options **ret, struct why *why)
{
    const Wire__Options *message = read_shape(a, &wire_shape_options, head, len, 0, why);
    if (!message)
        return -1;
    *ret = message;
    return 0;
}

int wire_read_any(struct wire_arena *a, const ProtobufCMessageDescriptor *type, const uint8_t *head, size_t len,
                  const ProtobufCMessage **ret, struct why *why)
{
    const ProtobufCMessage *message = unpack(a, type, type->short_name, head, len, WIRE_HEAD, why);
    if (!message)
        return -1;
    *ret = message;
    return 0;
}

uint64_t wire_peek_id(const uint8_t *head, size_t len)
{
    /* Field 1 as a varint; every encoder that we know of writes it first. */
    if (len < 2 || head[0] != 0x08)
        return 0;
    uint64_t id = 0;
    for (size_t i = 1; i < len && i <= 10; i++) {
        id |= (uint64_t)(head[i] & 0x7f) << (7 * (i - 1));
        if (!(head[i] & 0x80))
            return id;
    }
    return 0;
}

/* ---- copies ---- */

ProtobufCMessage *wire_copy(const ProtobufCMessage *message)
{
    struct wire_writer w = {0};
    if (wire_write(&w, message) < 0)
        return NULL;
    ProtobufCMessage *copy = protobuf_c_message_unpack(message->descriptor, NULL, w.len, w.bytes);
    wire_writer_release(&w);
    return copy;
}

void wire_free(void *message_p)
{
    ProtobufCMessage *message;
    memcpy(&message, message_p, sizeof message);
    memset(message_p, 0, sizeof message);
    if (message)
        protobuf_c_message_free_unpacked(message, NULL);
}

/* ---- writing ---- */

int wire_write(struct wire_writer *w, const ProtobufCMessage *message)
{
    size_t len = protobuf_c_message_get_packed_size(message);
    if (len > w->room || !w->bytes) {
        size_t room = w->room ? w->room : 512;
        while (room < len)
            room *= 2;
        uint8_t *bytes = realloc(w->bytes, room);
        if (!bytes)
            return -ENOMEM;
        w->bytes = bytes;
        w->room = room;
    }
    w->len = protobuf_c_message_pack(message, w->bytes);
    return 0;
}

void wire_writer_release(struct wire_writer *w)
{
    free(w->bytes);
    *w = (struct wire_writer){0};
}

struct buf *wire_write_buf(const ProtobufCMessage *message)
{
    struct buf *buf = buf_new(protobuf_c_message_get_packed_size(message));
    if (buf)
        protobuf_c_message_pack(message, buf_data(buf));
    return buf;
}

uint64_t wire_column_sum(const uint32_t *column, size_t n, size_t count)
{
    if (n == 0)
        return 0;
    if (n == 1)
        return (uint64_t)column[0] * count;
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += column[i];
    return sum;
}
