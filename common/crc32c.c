/* CRC-32C. Frames are checked at each read, so it must cost next to nothing: the processor's
 * instruction takes eight bytes at a time. The table is for processors without it. */
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

__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const uint8_t *at, size_t len)
{
    uint64_t wide = crc;
    for (; len >= 8; len -= 8, at += 8) {
        uint64_t eight;
        memcpy(&eight, at, sizeof eight);
        wide = __builtin_ia32_crc32di(wide, eight);
    }
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
