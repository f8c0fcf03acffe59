/* The checksums of the store's rows: over little-endian fields, so that a file can move between
 * machines. Lengths are covered, so that bytes can't wander from one field into the next. */
#include <endian.h>

#include "common/crc32c.h"
#include "common/store_private.h"

uint32_t record_crc(const char *key, size_t key_len, const void *value, size_t len)
{
    uint64_t lengths[2] = { htole64(key_len), htole64(len) };
    return crc32c(crc32c(crc32c(0, lengths, sizeof lengths), key, key_len), value, len);
}

static uint32_t head_crc(const struct store_frame *frame)
{
    uint64_t fields[] = { htole64(frame->number), htole64(frame->batch), htole64(frame->first),
                          htole64((uint64_t)frame->count << 32 | frame->kind), htole64(frame->head.len) };
    return crc32c(crc32c(0, fields, sizeof fields), frame->head.data, frame->head.len);
}

static uint32_t body_crc(uint32_t head, const struct store_frame *frame)
{
    uint64_t len = htole64(frame->body.len);
    return crc32c(crc32c(head, &len, sizeof len), frame->body.data, frame->body.len);
}

uint64_t frame_crc(const struct store_frame *frame)
{
    uint32_t head = head_crc(frame);
    return (uint64_t)body_crc(head, frame) << 32 | head;
}

bool frame_is_sound(const struct store_frame *frame, uint64_t crc, bool with_body)
{
    uint32_t head = head_crc(frame);
    return head == (uint32_t)crc && (!with_body || body_crc(head, frame) == (uint32_t)(crc >> 32));
}
