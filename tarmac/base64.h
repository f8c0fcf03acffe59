/* Base64 (RFC 4648, with padding), for bytes that JSON can't carry as text. */
#ifndef TARMAC_BASE64_H
#define TARMAC_BASE64_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Bytes that the text of n bytes takes, without a NUL. */
static inline size_t base64_len(size_t n) { return (n + 2) / 3 * 4; }

/* Writes base64_len(n) bytes to out, no NUL. */
void base64_encode(const uint8_t *bytes, size_t n, char *out);

/* Strict: no blanks, padding as it should be, no stray bits. Returns the number of bytes written to out
 * (which has room for n / 4 * 3), or -1 when the text is not base64. In place (out == text) is legal. */
ssize_t base64_decode(const char *text, size_t n, uint8_t *out);

#endif
