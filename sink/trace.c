#include "sink/trace.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define CLOSE_NS (2 * NS_PER_S)
#define CHUNK ((size_t)256 * 1024)

/* Lines that wait for their flush. */
struct chunk {
    TAILQ_ENTRY(chunk) link;
    uint64_t sequence;
    size_t len, room;
    uint64_t lines;
    char bytes[];
};

TAILQ_HEAD(chunk_list, chunk);

struct trace {
    struct linefile *file;
    struct chunk_list waiting;
    size_t waiting_bytes;
};

struct trace *trace_open(const char *path, struct why *why)
{
    struct trace *self = calloc(1, sizeof *self);
    if (self == NULL) {
        why_set(why, "no memory for the trace file");
        return NULL;
    }
    TAILQ_INIT(&self->waiting);
    self->file = linefile_open(path, TRACE_MOST, why);
    if (self->file == NULL) {
        free(self);
        return NULL;
    }
    return self;
}

void trace_close(struct trace **self_p)
{
    struct trace *self = *self_p;
    struct chunk *chunk;
    *self_p = NULL;
    if (self == NULL)
        return;
    while ((chunk = TAILQ_FIRST(&self->waiting)) != NULL) {
        TAILQ_REMOVE(&self->waiting, chunk, link);
        free(chunk);
    }
    linefile_close(&self->file, CLOSE_NS);
    free(self);
}

void trace_reopen(struct trace *self) { linefile_reopen(self->file); }

void trace_count(struct trace *self, struct linefile_counts *ret) { linefile_count(self->file, ret); }

/* ---- a line ---- */

struct line {
    char *out;
    size_t len;             /* always below TRACE_LINE: texts are cut before */
};

static void put(struct line *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct line *l, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(l->out + l->len, TRACE_LINE - l->len, format, ap);
    va_end(ap);
    if (n > 0 && l->len + (size_t)n < TRACE_LINE)
        l->len += (size_t)n;
}

/* A JSON string of at most `most` bytes of the text, which is UTF-8. */
static void put_text(struct line *l, const char *text, size_t most)
{
    size_t len = strnlen(text, most);
    while (len > 0 && text[len] != '\0' && ((unsigned char)text[len] & 0xC0) == 0x80)
        len--;
    put(l, "\"");
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            put(l, "\\%c", c);
        else if (c < 0x20)
            put(l, "\\u%04x", c);
        else if (l->len < TRACE_LINE - 1)
            l->out[l->len++] = (char)c;
    }
    put(l, "\"");
}

static void put_attribute(struct line *l, const char *key, const char *value)
{
    put(l, "{\"key\":\"%s\",\"value\":{\"stringValue\":", key);
    put_text(l, value, 256);
    put(l, "}},");
}

static void put_number(struct line *l, const char *key, int64_t value)
{
    put(l, "{\"key\":\"%s\",\"value\":{\"intValue\":\"%" PRId64 "\"}},", key, value);
}

static void put_ids(struct line *l, const Wire__Options *options, const Wire__Report *report, uint32_t i)
{
    uint8_t span[8];
    const char *parent = options->traceparent;
    wire_span_id(report->fence->batch.data, report->fence->first + i, report->fence->epoch, report->fence->attempt, span);
    put(l, "\"traceId\":\"%.32s\",\"spanId\":\"", parent + 3);
    for (size_t j = 0; j < sizeof span; j++)
        put(l, "%02x", span[j]);
    put(l, "\",\"parentSpanId\":\"%.16s\",", parent + 36);
    if (options->tracestate[0] != '\0') {
        put(l, "\"traceState\":");
        put_text(l, options->tracestate, WIRE_TRACE);
        put(l, ",");
    }
}

static const char *sentence_of(const Wire__Report *report, uint32_t i)
{
    for (size_t j = 0; j < report->n_extras; j++)
        if (report->extras[j]->offset == i)
            return report->extras[j]->sentence;
    return "";
}

static void put_attributes(struct line *l, const char *short_id, const Wire__Report *report, uint32_t i, Wire__Verdict verdict, const char *reason)
{
    uint32_t signal = wire_u32(report->signals, report->n_signals, i), flags = wire_u32(report->flags, report->n_flags, i);
    put(l, "\"attributes\":[");
    put_attribute(l, "tarmac.batch", short_id);
    put_number(l, "tarmac.index", (int64_t)(report->fence->first + i));
    put_number(l, "tarmac.attempt", report->fence->attempt);
    put_number(l, "tarmac.epoch", (int64_t)report->fence->epoch);
    put_attribute(l, "tarmac.worker", report->worker);
    put_number(l, "tarmac.slot", wire_u32(report->slots, report->n_slots, i));
    put_attribute(l, "tarmac.verdict", wire_verdict_name(verdict));
    if (reason != NULL)
        put_attribute(l, "tarmac.reason", reason);
    if (flags & WIRE_EXIT_CODE)
        put_number(l, "tarmac.exit_code", wire_i32(report->codes, report->n_codes, i));
    if (signal != 0)
        put_number(l, "tarmac.signal", signal);
    put_number(l, "tarmac.queued_us", (int64_t)wire_u64(report->queued_us, report->n_queued_us, i));
    put(l, "{\"key\":\"tarmac.settled\",\"value\":{\"boolValue\":%s}}],", report->kind == WIRE__RESULT_KIND__IS_VERDICT ? "true" : "false");
}

size_t trace_line(char *out, const char *short_id, const Wire__Options *options, const Wire__Report *report, uint32_t i, wall_t now)
{
    struct line l = {.out = out};
    Wire__Verdict verdict = report->verdicts[report->n_verdicts == 1 ? 0 : i];
    const char *reason = report->n_reasons == 0 ? NULL : wire_reason_name(report->reasons[report->n_reasons == 1 ? 0 : i]);
    const char *sentence = sentence_of(report, i);
    uint64_t end = (uint64_t)now.ns, run = wire_u64(report->run_us, report->n_run_us, i) * 1000;
    put(&l, "{\"resourceSpans\":[{\"resource\":{\"attributes\":[{\"key\":\"service.name\",\"value\":{\"stringValue\":\"tarmac\"}}]},"
        "\"scopeSpans\":[{\"scope\":{\"name\":\"tarmac.sink\",\"version\":\"%s\"},\"spans\":[{", TARMAC_VERSION);
    put_ids(&l, options, report, i);
    put(&l, "\"name\":");
    put_text(&l, options->handler[0] != '\0' ? options->handler : "command", WIRE_NAME);
    put(&l, ",\"kind\":5,\"startTimeUnixNano\":\"%" PRIu64 "\",\"endTimeUnixNano\":\"%" PRIu64 "\",", run < end ? end - run : end, end);
    put_attributes(&l, short_id, report, i, verdict, reason);
    if (verdict == WIRE__VERDICT__OK) {
        put(&l, "\"status\":{\"code\":1}");
    } else {
        put(&l, "\"status\":{\"code\":2,\"message\":");
        put_text(&l, sentence[0] != '\0' ? sentence : reason != NULL ? reason : wire_verdict_name(verdict), 256);
        put(&l, "}");
    }
    put(&l, "}]}]}]}\n");
    return l.len;
}

/* ---- what waits for its flush ---- */

static struct chunk *chunk_for(struct trace *self, uint64_t sequence)
{
    struct chunk *last = TAILQ_LAST(&self->waiting, chunk_list);
    if (last != NULL && last->sequence == sequence && last->room - last->len >= TRACE_LINE)
        return last;
    if (self->waiting_bytes > TRACE_MOST || !linefile_has_room(self->file, self->waiting_bytes + TRACE_LINE))
        return NULL;
    /* Small commits are frequent: the room of most of them is a few lines. */
    size_t room = last != NULL && last->sequence == sequence ? CHUNK : 2 * TRACE_LINE;
    struct chunk *chunk = malloc(sizeof *chunk + room);
    if (chunk == NULL)
        return NULL;
    *chunk = (struct chunk){.sequence = sequence, .room = room};
    TAILQ_INSERT_TAIL(&self->waiting, chunk, link);
    return chunk;
}

void trace_staged(struct trace *self, const char *short_id, const Wire__Options *options, const Wire__Report *report, const uint8_t *fresh,
                  uint64_t sequence, wall_t now)
{
    if (!wire_traceparent_ok(options->traceparent) || report->n_verdicts == 0)
        return;
    uint64_t dropped = 0;
    for (uint32_t i = 0; i < report->fence->count; i++) {
        if (fresh != NULL && !(fresh[i / 8] >> (i % 8) & 1))
            continue;
        struct chunk *chunk = chunk_for(self, sequence);
        if (chunk == NULL) {
            dropped++;
            continue;
        }
        size_t len = trace_line(chunk->bytes + chunk->len, short_id, options, report, i, now);
        chunk->len += len;
        chunk->lines++;
        self->waiting_bytes += len;
    }
    if (dropped > 0)
        linefile_drop(self->file, dropped);
}

void trace_committed(struct trace *self, uint64_t sequence)
{
    struct chunk *chunk;
    while ((chunk = TAILQ_FIRST(&self->waiting)) != NULL && chunk->sequence <= sequence) {
        TAILQ_REMOVE(&self->waiting, chunk, link);
        self->waiting_bytes -= chunk->len;
        linefile_put(self->file, chunk->bytes, chunk->len);
        free(chunk);
    }
}
