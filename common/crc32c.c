/* CRC-32C. Frames are checked at each read, so it must cost next to nothing: the processor's
 * instruction takes eight bytes at a time, and three of them are under way at once where there is enough for that: each waits
 * for the one before it in its own third. The table is for processors without it. */
#include "common/crc32c.h"

#include <pthread.h>
#include <string.h>

#define POLYNOMIAL UINT32_C(0x82F63B78)    /* Castagnoli, bits reversed */

static uint32_t table[256];

static void make_table(void)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1) ? POLYNOMIAL : 0);
        table[byte] = crc;
    }
}

static uint32_t by_table(uint32_t crc, const uint8_t *at, size_t len)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_table);
    for (; len > 0; len--)
        crc = (crc >> 8) ^ table[(crc ^ *at++) & 0xFF];
    return crc;
}

#if defined(__x86_64__)
static int has_instruction(void) { return __builtin_cpu_supports("sse4.2"); }

#define THIRD 4096                         /* bytes */
#define LINE 64                            /* bytes that come from memory together */

static uint32_t behind[4][256];            /* what each byte of a sum becomes when so many zeros follow */

__attribute__((target("sse4.2"))) static uint64_t take_eight(uint64_t crc, const uint8_t *at)
{
    uint64_t eight;
    memcpy(&eight, at, sizeof eight);
    return __builtin_ia32_crc32di(crc, eight);
}

/* The same place of the next three thirds: by itself the processor doesn't look beyond the end of a page, and what is summed
 * was mostly written by another core. Where that is behind the last byte, nothing happens. */
static void fetch_ahead(const uint8_t *at)
{
    for (size_t i = 3; i < 6; i++)
        __builtin_prefetch((const void *)((uintptr_t)at + i * THIRD));
}

/* A sum is linear in its bits: those of one bit each are added up. */
__attribute__((target("sse4.2"))) static void make_behind(void)
{
    static const uint8_t zeros[8];
    for (unsigned bit = 0; bit < 32; bit++) {
        uint64_t crc = UINT32_C(1) << bit;
        for (unsigned i = 0; i < THIRD; i += 8)
            crc = take_eight(crc, zeros);
        for (unsigned byte = 0; byte < 256; byte++)
            behind[bit / 8][byte] ^= byte >> bit % 8 & 1 ? (uint32_t)crc : 0;
    }
}

static uint32_t followed(uint64_t crc)
{
    return behind[0][crc & 0xFF] ^ behind[1][crc >> 8 & 0xFF] ^ behind[2][crc >> 16 & 0xFF] ^ behind[3][crc >> 24 & 0xFF];
}

__attribute__((target("sse4.2"))) static uint32_t by_thirds(uint32_t crc, const uint8_t **at, size_t *len)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    if (*len >= 3 * THIRD)
        pthread_once(&once, make_behind);
    for (; *len >= 3 * THIRD; *len -= 3 * THIRD, *at += 3 * THIRD) {
        uint64_t first = crc, second = 0, third = 0;
        for (const uint8_t *p = *at, *end = p + THIRD; p < end; ) {
            fetch_ahead(p);
            for (const uint8_t *line = p + LINE; p < line; p += 8) {
                first = take_eight(first, p);
                second = take_eight(second, p + THIRD);
                third = take_eight(third, p + 2 * THIRD);
            }
        }
        crc = followed(followed(first) ^ second) ^ (uint32_t)third;
    }
    return crc;
}

__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const uint8_t *at, size_t len)
{
    uint64_t wide = by_thirds(crc, &at, &len);
    for (; len >= 8; len -= 8, at += 8)
        wide = take_eight(wide, at);
    crc = (uint32_t)wide;
    for (; len > 0; len--)
        crc = __builtin_ia32_crc32qi(crc, *at++);
    return crc;
}
#else
static int has_instruction(void) { return 0; }

static uint32_t by_instruction(uint32_t crc, const uint8_t *at, size_t len) { return by_table(crc, at, len); }
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
    return ~(has_instruction() ? by_instruction(~crc, data, len) : by_table(~crc, data, len));
}

uint32_t crc32c_by_table(uint32_t crc, const void *data, size_t len) { return ~by_table(~crc, data, len); }
