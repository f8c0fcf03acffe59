/* Base64, strict in what it reads. */
#include "tarmac/base64.h"

static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void base64_encode(const uint8_t *bytes, size_t n, char *out)
{
    for (size_t i = 0; i < n; i += 3) {
        size_t left = n - i;
        uint32_t three = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0)
                         | (left > 2 ? bytes[i + 2] : 0);
        *out++ = letters[three >> 18];
        *out++ = letters[three >> 12 & 63];
        *out++ = left > 1 ? letters[three >> 6 & 63] : '=';
        *out++ = left > 2 ? letters[three & 63] : '=';
    }
}

static int value_of(char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

ssize_t base64_decode(const char *text, size_t n, uint8_t *out)
{
    size_t pad = 0, made = 0;
    if (n % 4 != 0)
        return -1;
    while (pad < 2 && pad < n && text[n - 1 - pad] == '=')
        pad++;
    for (size_t i = 0; i < n; i += 4) {
        size_t digits = i + 4 == n ? 4 - pad : 4;
        uint32_t four = 0;
        for (size_t k = 0; k < 4; k++) {
            int value = k < digits ? value_of(text[i + k]) : 0;
            if (value < 0)
                return -1;
            four = four << 6 | (uint32_t)value;
        }
        if ((digits == 2 && (four & 0xffff)) || (digits == 3 && (four & 0xff)))
            return -1;    /* Bits that stand for nothing: two texts would mean the same bytes. */
        for (size_t k = 0; k + 1 < digits; k++)
            out[made++] = (uint8_t)(four >> (16 - 8 * k));
    }
    return (ssize_t)made;
}
