/* The codec: bytes ↔ the messages of wire.proto, with all limits in one place. This header is the
 * only one that includes the generated code; wire.c is the only file that packs and unpacks.
 *
 * Reading is strict and bounded: a head is unpacked into an arena of limited size, then checked
 * (ids, lengths, counts, enums, columns against count, body against lengths). What passes can be
 * trusted by the cores: every `fence`, `tasks`, `options` and so on that a message must have is
 * there, ids have their 16 bytes, spans do not overflow, columns have 0, 1 or count entries. */
#ifndef PROTO_WIRE_H
#define PROTO_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/why.h"
#include "wire.pb-c.h"

#define WIRE_MAJOR 1u
#define WIRE_MINOR 0u
/* Of the records on the disks (docs/disk.md). */
#define WIRE_JOURNAL_VERSION 1u
#define WIRE_RESULTS_VERSION 1u

#define WIRE_ID          16u                    /* bytes of a batch id, store id, submission */
#define WIRE_BLOCK       4096u                  /* indices; no frame crosses a block */
#define WIRE_FRAME_BODY  (256u * 1024u)         /* bytes; more only for one task */
#define WIRE_PAYLOAD     (64u * 1024u * 1024u)  /* bytes of one task, the default limit */
#define WIRE_HEAD        (1024u * 1024u)        /* bytes of a head */
#define WIRE_HEAD_CARRIED (WIRE_HEAD - 4096u)   /* bytes of the head of a request or a result: it goes on inside a larger one */
#define WIRE_HEAD_ROW    (WIRE_HEAD - 1024u)    /* bytes of a packed Row */
#define WIRE_BODY        (WIRE_PAYLOAD + 2u * 1024u * 1024u)    /* one payload; or one task's output and errors */
#define WIRE_MESSAGE     (WIRE_HEAD + WIRE_BODY)
#define WIRE_OUTPUT      (64u * 1024u * 1024u)  /* bytes of one task's kept output, at most */
#define WIRE_ERRORS      (64u * 1024u)          /* bytes of one task's kept tail of standard error */
#define WIRE_NAME        255u                   /* names of batches, workers, handlers; keys of submissions */
#define WIRE_KEY         64u                    /* keys of values and labels */
#define WIRE_VALUE       4096u
#define WIRE_VALUES      64u                    /* values of a batch, of a task; labels */
#define WIRE_VALUES_SUM  (16u * 1024u)          /* bytes of all of them */
#define WIRE_SENTENCE    1024u
#define WIRE_WORDS       1024u                  /* words of a command */
#define WIRE_COMMAND     (64u * 1024u)          /* bytes of all of them */
#define WIRE_HANDLERS    256u
#define WIRE_FENCES      4096u                  /* entries of repeated fences, spans, results */
#define WIRE_HOLDINGS    32768u                 /* of a worker's hello, dropped of the welcome: what a head has room for */
#define WIRE_CLOSED      1000u                  /* spans of a Row; more are a bitmap */
#define WIRE_SLOTS       65535u
#define WIRE_TASKS       UINT64_C(4000000000)   /* of one batch */
#define WIRE_TRACE       512u                   /* tracestate */
#define WIRE_VERDICTS    7u                     /* entries of a table by Verdict */

/* The flags of one task in a Report. */
enum { WIRE_OUTPUT_TRUNCATED = 1, WIRE_ERRORS_TRUNCATED = 2, WIRE_SWEPT = 4, WIRE_EXIT_CODE = 8 };

/* An arena for unpacking: memory is taken from it and given back all at once. Reused message after message. */
struct wire_arena;
struct wire_arena *wire_arena_new(void);
void wire_arena_destroy(struct wire_arena **self_p);
/* Whether its last read failed for want of memory: the message may be right. */
bool wire_arena_starved(const struct wire_arena *self);

/* Reads one head. On success *ret is valid until the next read with this arena or its end; it points
 * into the arena, not into `head`. On failure -1: why says which message and field broke which rule.
 * `body` is looked at for its length only (has_body false: it must not be needed). */
int wire_read_request(struct wire_arena *a, const uint8_t *head, size_t len, size_t body_len, const Wire__Request **ret, struct why *why);
int wire_read_reply(struct wire_arena *a, const uint8_t *head, size_t len, size_t body_len, const Wire__Reply **ret, struct why *why);
int wire_read_upward(struct wire_arena *a, const uint8_t *head, size_t len, size_t body_len, const Wire__Upward **ret, struct why *why);
int wire_read_downward(struct wire_arena *a, const uint8_t *head, size_t len, size_t body_len, const Wire__Downward **ret, struct why *why);
int wire_read_lane(struct wire_arena *a, const uint8_t *head, size_t len, size_t body_len, const Wire__Lane **ret, struct why *why);
int wire_read_result(struct wire_arena *a, const uint8_t *head, size_t len, size_t body_len, const Wire__Result **ret, struct why *why);
int wire_read_query(struct wire_arena *a, const uint8_t *head, size_t len, size_t body_len, const Wire__Query **ret, struct why *why);
int wire_read_answer(struct wire_arena *a, const uint8_t *head, size_t len, size_t body_len, const Wire__Answer **ret, struct why *why);

/* Pieces that are kept on disk or inside `bytes` fields, checked like the rest. */
int wire_read_tasks(struct wire_arena *a, const uint8_t *head, size_t len, size_t body_len, const Wire__Tasks **ret, struct why *why);
int wire_read_options(struct wire_arena *a, const uint8_t *head, size_t len, const Wire__Options **ret, struct why *why);
/* A Row that came in a StreamRow lies in the arena of the answer: read it with another arena. Without
 * bodies (heads_only) body_len is WIRE_NO_BODY: then there is nothing behind the lengths. */
#define WIRE_NO_BODY SIZE_MAX
int wire_read_row(struct wire_arena *a, const uint8_t *head, size_t len, size_t body_len, const Wire__Row **ret, struct why *why);
/* Any other message of a trusted origin (records on disk): unpacked and bounded, not checked further. */
int wire_read_any(struct wire_arena *a, const ProtobufCMessageDescriptor *type, const uint8_t *head, size_t len,
                  const ProtobufCMessage **ret, struct why *why);

/* The id of a Request or Query that could not be read, for the refusal; 0 when it isn't there. */
uint64_t wire_peek_id(const uint8_t *head, size_t len);

/* An owned deep copy, one allocation chain on the heap; free it with wire_free. NULL without memory. */
ProtobufCMessage *wire_copy(const ProtobufCMessage *message);
void wire_free(void *message_p);        /* address of a pointer to a message from wire_copy; sets it to NULL */

/* Writing: packs any message into a growing buffer that is reused; the bytes are valid until the next
 * call. -ENOMEM. Pass &message.base. */
struct wire_writer { uint8_t *bytes; size_t len, room; };
int wire_write(struct wire_writer *w, const ProtobufCMessage *message);
void wire_writer_release(struct wire_writer *w);
/* The same into a counted buffer. NULL without memory. */
struct buf *wire_write_buf(const ProtobufCMessage *message);

/* Columns. */
static inline uint32_t wire_u32(const uint32_t *column, size_t n, size_t i) { return n == 0 ? 0 : column[n == 1 ? 0 : i]; }
static inline uint64_t wire_u64(const uint64_t *column, size_t n, size_t i) { return n == 0 ? 0 : column[n == 1 ? 0 : i]; }
static inline int32_t wire_i32(const int32_t *column, size_t n, size_t i) { return n == 0 ? 0 : column[n == 1 ? 0 : i]; }
uint64_t wire_column_sum(const uint32_t *column, size_t n, size_t count);

/* Running digest of a batch's items, independent of how they are cut into chunks:
 * d' = (d rotated left by 5, xor (len << 32 | crc32c(item))) * 0x9E3779B97F4A7C15. Begins with 0. */
uint64_t wire_digest(uint64_t digest, const void *item, size_t len);

/* The payload of a task of a range: its number as text, in `out` with a NUL behind it. */
#define WIRE_RANGE_ITEM  24u
struct slice wire_range_item(const Wire__Range *range, uint64_t index, char out[WIRE_RANGE_ITEM]);

/* The words that people and JSON see: "ok", "deadline_exceeded" …; the reasons "exit", "timeout" ….
 * *_parse: -1 when it is none of them. */
const char *wire_verdict_name(Wire__Verdict verdict);
int wire_verdict_parse(const char *word, Wire__Verdict *ret);
const char *wire_reason_name(Wire__Reason reason);       /* NULL for REASON_NONE */
const char *wire_state_name(Wire__State state);
bool wire_is_by_deadline(Wire__Verdict verdict, Wire__Reason reason);      /* of the batch, not by an attempt's timeout */

/* W3C trace context. traceparent is 55 characters "00-<32 hex>-<16 hex>-<2 hex>", neither id all zero. */
bool wire_traceparent_ok(const char *text);
void wire_traceparent_make(const uint8_t trace_id[16], const uint8_t span_id[8], char out[56]);
/* The span of an attempt, as its handler hears it in TRACEPARENT and the sink writes it: nothing has to be sent for that. */
void wire_span_id(const uint8_t batch[WIRE_ID], uint64_t index, uint64_t epoch, uint32_t attempt, uint8_t out[8]);
void wire_trace_id(const char *traceparent, char out[33]);     /* its 32 hex digits; "" when it is not one */
bool wire_value_key_ok(const char *key);

void wire_id_hex(const uint8_t id[WIRE_ID], char out[33]);
static inline ProtobufCBinaryData wire_id_bytes(const uint8_t id[WIRE_ID])
{
    return (ProtobufCBinaryData){.len = WIRE_ID, .data = (uint8_t *)(uintptr_t)id};
}

#endif
