/* CRC-32C (Castagnoli), as in RFC 3720 B.4: with the processor's instruction where there is one. */
#ifndef COMMON_CRC32C_H
#define COMMON_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continues `crc` (0 to begin) over the bytes. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

/* The same without the instruction: for the test that compares the two. */
uint32_t crc32c_by_table(uint32_t crc, const void *data, size_t len);

#endif
