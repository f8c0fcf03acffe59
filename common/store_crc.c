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

uint32_t frame_head_crc(const struct store_frame *frame)
{
    uint64_t fields[] = { htole64(frame->number), htole64(frame->batch), htole64(frame->first),
                          htole64((uint64_t)frame->count << 32 | frame->kind), htole64(frame->head.len) };
    return crc32c(crc32c(0, fields, sizeof fields), frame->head.data, frame->head.len);
}

uint32_t frame_body_crc(uint32_t head_crc, const struct store_frame *frame)
{
    uint64_t len = htole64(frame->body.len);
    return crc32c(crc32c(head_crc, &len, sizeof len), frame->body.data, frame->body.len);
}
