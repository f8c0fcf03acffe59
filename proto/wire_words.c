/* Words and other text of the wire: names of verdicts, items of ranges, trace ids, keys, UTF-8; and the digest. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/crc32c.h"
#include "proto/wire.h"
#include "proto/wire_check.h"

/* ---- names ---- */

static const char *const verdict_names[] = {
    [WIRE__VERDICT__VERDICT_NONE] = "none",
    [WIRE__VERDICT__OK] = "ok",
    [WIRE__VERDICT__FAILED] = "failed",
    [WIRE__VERDICT__DEADLINE_EXCEEDED] = "deadline_exceeded",
    [WIRE__VERDICT__CANCELLED] = "cancelled",
    [WIRE__VERDICT__LOST] = "lost",
    [WIRE__VERDICT__REJECTED] = "rejected",
};
_Static_assert(sizeof verdict_names / sizeof *verdict_names == WIRE_VERDICTS, "a verdict has no name");

static const char *const reason_names[] = {
    [WIRE__REASON__REASON_NONE] = NULL,
    [WIRE__REASON__EXIT_CODE] = "exit",
    [WIRE__REASON__SIGNAL] = "signal",
    [WIRE__REASON__TIMEOUT] = "timeout",
    [WIRE__REASON__DEADLINE] = "deadline",
    [WIRE__REASON__CANCEL] = "cancel",
    [WIRE__REASON__HALT] = "halt",
    [WIRE__REASON__NOT_STARTED] = "not_started",
    [WIRE__REASON__NO_HANDLER] = "no_handler",
    [WIRE__REASON__LOSSES] = "losses",
    [WIRE__REASON__RESULT_TOO_LARGE] = "result_too_large",
    [WIRE__REASON__MALFORMED] = "malformed",
    [WIRE__REASON__PARENT] = "parent",
    [WIRE__REASON__SHUTDOWN] = "shutdown",
    [WIRE__REASON__KEEPER_DIED] = "keeper_died",
    [WIRE__REASON__HANDLER_FAULT] = "handler_fault",
    [WIRE__REASON__MIN_RUNTIME] = "min_runtime",
    [WIRE__REASON__LIMIT] = "limit",
    [WIRE__REASON__CANCEL_TASK] = "cancel_task",
};

static const char *const state_names[] = {
    [WIRE__STATE__OPEN] = "open",
    [WIRE__STATE__SEALED] = "sealed",
    [WIRE__STATE__CANCELLING] = "cancelling",
    [WIRE__STATE__COMPLETE] = "complete",
};

#define COUNT(table) (sizeof(table) / sizeof *(table))
/* Enums are ints that a peer may have filled with anything; as unsigned, one comparison is enough. */
#define NAME_OF(table, value) ((unsigned)(value) < COUNT(table) ? (table)[(unsigned)(value)] : "unknown")

const char *wire_verdict_name(Wire__Verdict verdict) { return NAME_OF(verdict_names, verdict); }
const char *wire_reason_name(Wire__Reason reason) { return NAME_OF(reason_names, reason); }
const char *wire_state_name(Wire__State state) { return NAME_OF(state_names, state); }

bool wire_is_by_deadline(Wire__Verdict verdict, Wire__Reason reason)
{
    return verdict == WIRE__VERDICT__DEADLINE_EXCEEDED && (reason == WIRE__REASON__DEADLINE || reason == WIRE__REASON__MIN_RUNTIME);
}

int wire_verdict_parse(const char *word, Wire__Verdict *ret)
{
    for (unsigned v = WIRE__VERDICT__OK; v < WIRE_VERDICTS; v++) {
        if (strcmp(word, verdict_names[v]) == 0) {
            *ret = (Wire__Verdict)v;
            return 0;
        }
    }
    return -1;
}

/* ---- items ---- */

uint64_t wire_digest(uint64_t digest, const void *item, size_t len)
{
    uint64_t mark = (uint64_t)len << 32 | crc32c(0, item, len);
    return ((digest << 5 | digest >> 59) ^ mark) * UINT64_C(0x9E3779B97F4A7C15);
}

/* The steps before the number may leave the 64 bits; the number itself doesn't, in a range that was checked. */
struct slice wire_range_item(const Wire__Range *range, uint64_t index, char out[WIRE_RANGE_ITEM])
{
    int n = snprintf(out, WIRE_RANGE_ITEM, "%" PRId64, (int64_t)((uint64_t)range->first + index * (uint64_t)range->step));
    return (struct slice){.data = (const uint8_t *)out, .len = (size_t)n};
}

/* ---- hex and trace context ---- */

/* Where the two ids stand in "00-<trace id>-<span id>-<flags>". */
enum { TRACE_AT = 3, SPAN_AT = 36, FLAGS_AT = 53, TRACEPARENT = 55 };

static char *hex(char *out, const uint8_t *bytes, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        *out++ = digits[bytes[i] >> 4];
        *out++ = digits[bytes[i] & 15];
    }
    return out;
}

void wire_id_hex(const uint8_t id[WIRE_ID], char out[33])
{
    *hex(out, id, WIRE_ID) = '\0';
}

static bool lower_hex(const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!(text[i] >= '0' && text[i] <= '9') && !(text[i] >= 'a' && text[i] <= 'f'))
            return false;
    return true;
}

static bool all_zero(const char *text, size_t n)
{
    return strspn(text, "0") >= n;
}

bool wire_traceparent_ok(const char *text)
{
    return strlen(text) == TRACEPARENT && memcmp(text, "00-", 3) == 0
        && lower_hex(text + TRACE_AT, 32) && text[35] == '-' && !all_zero(text + TRACE_AT, 32)
        && lower_hex(text + SPAN_AT, 16) && text[52] == '-' && !all_zero(text + SPAN_AT, 16)
        && lower_hex(text + FLAGS_AT, 2);
}

void wire_traceparent_make(const uint8_t trace_id[16], const uint8_t span_id[8], char out[56])
{
    memcpy(out, "00-", 3);
    char *at = hex(out + TRACE_AT, trace_id, 16);
    *at++ = '-';
    at = hex(at, span_id, 8);
    memcpy(at, "-01", sizeof "-01");
}

/* Mixes 64 bits: one to one, so no two tasks of a batch have the same span in one attempt (splitmix64). */
static uint64_t mixed(uint64_t x)
{
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
    return x ^ x >> 31;
}

void wire_span_id(const uint8_t batch[WIRE_ID], uint64_t index, uint64_t epoch, uint32_t attempt, uint8_t out[8])
{
    uint64_t h = 0;
    for (size_t i = 0; i < WIRE_ID; i += 8) {
        uint64_t word = 0;
        for (size_t j = 0; j < 8; j++)
            word = word << 8 | batch[i + j];
        h = mixed(h ^ word);
    }
    h = mixed(mixed(h ^ epoch) ^ attempt);
    h = mixed(h ^ index);
    for (size_t j = 0; j < 8; j++)
        out[j] = (uint8_t)(h >> (56 - 8 * j));
    if (h == 0)
        out[7] = 1;         /* a span id of zeros only is none */
}

void wire_trace_id(const char *traceparent, char out[33])
{
    size_t n = wire_traceparent_ok(traceparent) ? 32 : 0;
    memcpy(out, traceparent + (n ? TRACE_AT : 0), n);
    out[n] = '\0';
}

/* ---- text ---- */

static bool key_char(char c, bool first)
{
    if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_')
        return true;
    return !first && ((c >= '0' && c <= '9') || c == '.' || c == '-');
}

bool wire_value_key_ok(const char *key)
{
    size_t n = 0;
    while (key[n] != '\0' && n <= WIRE_KEY && key_char(key[n], n == 0))
        n++;
    return n > 0 && n <= WIRE_KEY && key[n] == '\0';
}

/* The length of the UTF-8 sequence at `s`, 0 when it is none: overlong forms, surrogates and what
 * lies beyond U+10FFFF are excluded by the range of the second byte, as in the Unicode standard. */
static size_t sequence(const uint8_t *s, size_t left)
{
    uint8_t low = 0x80, high = 0xbf;
    size_t n;
    if (s[0] < 0x80)
        return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf)
        n = 2;
    else if ((s[0] & 0xf0) == 0xe0)
        n = 3;
    else if (s[0] >= 0xf0 && s[0] <= 0xf4)
        n = 4;
    else
        return 0;
    if (s[0] == 0xe0)
        low = 0xa0;
    if (s[0] == 0xed)
        high = 0x9f;
    if (s[0] == 0xf0)
        low = 0x90;
    if (s[0] == 0xf4)
        high = 0x8f;
    if (left < n || s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

/* C0, DEL, and C1: U+009B alone begins a terminal's escape sequence. */
static bool control(const uint8_t *s)
{
    return s[0] < 0x20 || s[0] == 0x7f || (s[0] == 0xc2 && s[1] < 0xa0);
}

const char *wire_text_fault(const char *text, size_t len, bool line)
{
    const uint8_t *s = (const uint8_t *)text;
    for (size_t i = 0, n; i < len; i += n) {
        n = sequence(s + i, len - i);
        if (n == 0)
            return "is not UTF-8";
        if (s[i] == 0)
            return "has a NUL byte in it; text has none";
        if (line && control(s + i))
            return "has a control character in it; names have none";
    }
    return NULL;
}
