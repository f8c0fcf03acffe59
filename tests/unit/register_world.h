/* For the tests of the register: a store that commits when it is told to and forgets the rest in a
 * crash, a ventilator's ear that keeps what it heard as text, and messages in one expression. */
#ifndef TESTS_UNIT_REGISTER_WORLD_H
#define TESTS_UNIT_REGISTER_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sink/register.h"

enum op_kind { OP_PUT, OP_REMOVE, OP_ROW, OP_REMOVE_ROWS };

struct op {
    enum op_kind kind;
    uint64_t sequence;
    char key[64];
    uint64_t batch, number, first;
    uint32_t count, row_kind;
    struct slice head, body;              /* of a row; the value of a record */
};

struct world {
    struct registry *registry;
    struct wire_arena *arena, *row_arena;
    struct op *ops;                       /* everything ever staged that is not gone */
    size_t n_ops, room;
    uint64_t committed, next_row;
    bool no_memory;                       /* staging fails */
    bool absent;                          /* the ventilator */
    bool deaf;                            /* nothing is kept as text */
    char heard[65536];
    size_t heard_len;
    unsigned moves, notes;
    char last_note[1024];
    Wire__BatchRecords *records;          /* the last answer to `ask`, and its bitmap */
    struct slice bitmap;
    mono_t now;
};

#define BATCH_ID "batch-batch-batc"

/* ---- ports ---- */

__attribute__((format(printf, 2, 3))) static inline void hear(struct world *w, const char *format, ...)
{
    va_list args;
    if (w->deaf)
        return;
    va_start(args, format);
    int n = vsnprintf(w->heard + w->heard_len, sizeof w->heard - w->heard_len, format, args);
    va_end(args);
    assert_true(n >= 0 && (size_t)n < sizeof w->heard - w->heard_len);
    w->heard_len += (size_t)n;
}

static inline void hear_spans(struct world *w, Wire__Span **spans, size_t n)
{
    for (size_t i = 0; i < n; i++)
        hear(w, "%s%llu+%llu", i ? "," : "", (unsigned long long)spans[i]->first, (unsigned long long)spans[i]->count);
}

static inline void hear_result(struct world *w, const Wire__RecordedResult *r)
{
    if (r->kind == WIRE__RESULT_KIND__IS_CLOSING) {
        hear(w, "closing %llu closed %llu; ", (unsigned long long)r->number, (unsigned long long)r->closed);
        return;
    }
    hear(w, "%s %llu+%u ", r->kind == WIRE__RESULT_KIND__IS_ATTEMPT ? "attempt" : "recorded",
         (unsigned long long)r->fence->first, r->fence->count);
    if (r->all_fresh)
        hear(w, "all");
    else if (r->n_fresh == 0)
        hear(w, "none");
    hear_spans(w, r->fresh, r->n_fresh);
    for (size_t i = 0; i < r->n_on_record; i++)
        hear(w, "*%u", r->on_record[i]);
    hear(w, "; ");
}

static inline void hear_records(struct world *w, const Wire__BatchRecords *records, struct slice body)
{
    wire_free(&w->records);
    slice_drop(&w->bitmap);
    w->records = (Wire__BatchRecords *)wire_copy(&records->base);
    w->bitmap = slice_keep(body);
    hear(w, "records %s%llu of ", records->known ? "" : "unknown ", (unsigned long long)records->recorded);
    hear_spans(w, records->spans, records->n_spans);
    if (records->bitmap)
        hear(w, "a bitmap");
    if (records->more)
        hear(w, " to %llu", (unsigned long long)records->to);
    for (size_t i = 0; i < records->n_attempts; i++)
        hear(w, " %llu+%u*%u", (unsigned long long)records->attempts[i]->first, records->attempts[i]->count, records->attempts[i]->attempts);
    hear(w, "; ");
}

/* Whatever is said must pass the codec's rules. */
static inline int world_up(void *arg, const Wire__Upward *said, struct slice body, bool with_body)
{
    struct world *w = arg;
    struct wire_writer writer = {0};
    struct why why = {""};
    const Wire__Upward *message;
    if (w->absent)
        return -11;
    assert_true(with_body || body.len == 0);
    assert_int_equal(wire_write(&writer, &said->base), 0);
    if (wire_read_upward(w->arena, writer.bytes, writer.len, body.len, &message, &why) < 0)
        fail_msg("%s", why.text);
    wire_writer_release(&writer);
    switch (message->what_case) {
    case WIRE__UPWARD__WHAT_SINK_HELLO: hear(w, "hello; "); break;
    case WIRE__UPWARD__WHAT_HEARTBEAT: hear(w, "heartbeat%s%s; ", message->heartbeat->full ? " full" : "", message->heartbeat->draining ? " draining" : ""); break;
    case WIRE__UPWARD__WHAT_GOODBYE: hear(w, "goodbye; "); break;
    case WIRE__UPWARD__WHAT_REGISTERED: hear(w, "registered%s; ", message->registered->unknown ? " unknown" : ""); break;
    case WIRE__UPWARD__WHAT_FORGOTTEN: hear(w, "forgotten; "); break;
    case WIRE__UPWARD__WHAT_REFUSED: hear(w, "refused: %s; ", message->refused->sentence); break;
    case WIRE__UPWARD__WHAT_RECORDS: hear_records(w, message->records, body); break;
    case WIRE__UPWARD__WHAT_RECORDED:
        for (size_t i = 0; i < message->recorded->n_results; i++)
            hear_result(w, message->recorded->results[i]);
        break;
    default: fail_msg("unexpected message %d", message->what_case);
    }
    return 0;
}

static inline struct op *world_stage(struct world *w, enum op_kind kind)
{
    if (w->n_ops == w->room) {
        w->room = w->room ? w->room * 2 : 64;
        w->ops = realloc(w->ops, w->room * sizeof *w->ops);
        assert_non_null(w->ops);
    }
    struct op *op = &w->ops[w->n_ops++];
    *op = (struct op){.kind = kind, .sequence = w->committed + 1};
    return op;
}

static inline uint64_t world_put(void *arg, const char *key, const void *value, size_t len)
{
    struct world *w = arg;
    if (w->no_memory)
        return 0;
    struct op *op = world_stage(w, OP_PUT);
    snprintf(op->key, sizeof op->key, "%s", key);
    op->head = slice_keep((struct slice){NULL, value, len});
    return op->sequence;
}

static inline uint64_t world_remove(void *arg, const char *key)
{
    struct world *w = arg;
    if (w->no_memory)
        return 0;
    struct op *op = world_stage(w, OP_REMOVE);
    snprintf(op->key, sizeof op->key, "%s", key);
    return op->sequence;
}

/* Whatever is stored must be readable as a row, with its body. */
static inline uint64_t world_append(void *arg, uint64_t batch, uint64_t first, uint32_t count, enum register_row kind,
                                    struct slice head, struct slice body, uint64_t *ret_row)
{
    struct world *w = arg;
    struct why why = {""};
    const Wire__Row *row;
    if (w->no_memory)
        return 0;
    if (wire_read_row(w->row_arena, head.data, head.len, body.len, &row, &why) < 0)
        fail_msg("%s", why.text);
    struct op *op = world_stage(w, OP_ROW);
    op->batch = batch;
    op->first = first;
    op->count = count;
    op->row_kind = kind;
    op->number = *ret_row = ++w->next_row;
    op->head = slice_keep(head);
    op->body = slice_keep(body);
    return op->sequence;
}

static inline uint64_t world_remove_rows(void *arg, uint64_t batch)
{
    struct world *w = arg;
    if (w->no_memory)
        return 0;
    struct op *op = world_stage(w, OP_REMOVE_ROWS);
    op->batch = batch;
    return op->sequence;
}

static inline void world_moved(void *arg, const struct register_batch *batch)
{
    struct world *w = arg;
    (void)batch;
    w->moves++;
}

static inline void world_note(void *arg, int level, const char *event, const char *text)
{
    struct world *w = arg;
    (void)level;
    w->notes++;
    snprintf(w->last_note, sizeof w->last_note, "%s: %s", event, text);
}

/* ---- its life ---- */

static inline void op_clear(struct op *op)
{
    slice_drop(&op->head);
    slice_drop(&op->body);
}

static inline void world_drop(struct world *w, size_t i)
{
    op_clear(&w->ops[i]);
    memmove(&w->ops[i], &w->ops[i + 1], (--w->n_ops - i) * sizeof *w->ops);
}

static inline void world_start(struct world *w)
{
    struct register_config config = {.program = "sink 0", .store = "store-store-stor", .session = 7, .results_port = 1, .query_port = 2};
    struct register_ports ports = {w, world_up, world_put, world_remove, world_append, world_remove_rows, world_moved, world_note, NULL};
    w->registry = register_new(&config, &ports);
    assert_non_null(w->registry);
}

static inline struct world *world_new(void)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->arena = wire_arena_new();
    w->row_arena = wire_arena_new();
    w->now = (mono_t){NS_PER_S};
    world_start(w);
    return w;
}

static inline void world_destroy(struct world *w)
{
    register_destroy(&w->registry);
    while (w->n_ops > 0)
        world_drop(w, w->n_ops - 1);
    free(w->ops);
    wire_arena_destroy(&w->arena);
    wire_arena_destroy(&w->row_arena);
    wire_free(&w->records);
    slice_drop(&w->bitmap);
    free(w);
}

/* Everything staged is on disk from now on, and the register hears of it. */
static inline void commit(struct world *w)
{
    w->committed++;
    register_committed(w->registry, w->now, w->committed);
}

/* What the disk has: later operations undo earlier ones. */
static inline void world_compact(struct world *w)
{
    for (size_t i = 0; i < w->n_ops; i++) {
        struct op *op = &w->ops[i];
        for (size_t k = 0; k < i; k++) {
            struct op *old = &w->ops[k];
            bool same_key = op->kind <= OP_REMOVE && old->kind <= OP_REMOVE && strcmp(op->key, old->key) == 0;
            bool row_of_it = op->kind == OP_REMOVE_ROWS && old->kind == OP_ROW && old->batch == op->batch;
            if (same_key || row_of_it) {
                world_drop(w, k--);
                i--;
                op = &w->ops[i];
            }
        }
    }
}

static inline int op_order(const void *a, const void *b)
{
    const struct op *x = a, *y = b;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    return x->kind == OP_ROW ? (x->number > y->number) - (x->number < y->number) : strcmp(x->key, y->key);
}

static inline void world_restore_rows(struct world *w, uint64_t batch, uint64_t after)
{
    struct why why = {""};
    for (size_t i = 0; i < w->n_ops; i++) {
        struct op *op = &w->ops[i];
        if (op->kind == OP_ROW && op->batch == batch && op->number > after
            && register_restore_row(w->registry, batch, op->number, op->row_kind, op->head, &why) < 0)
            fail_msg("%s", why.text);
    }
    register_restore_rows_end(w->registry, batch);
}

/* The process dies: what was staged and not committed is gone. It starts again on what the disk has. */
static inline void crash(struct world *w)
{
    struct why why = {""};
    uint64_t batch, after;
    register_destroy(&w->registry);
    for (size_t i = w->n_ops; i > 0; i--)
        if (w->ops[i - 1].sequence > w->committed)
            world_drop(w, i - 1);
    world_compact(w);
    qsort(w->ops, w->n_ops, sizeof *w->ops, op_order);
    w->committed = 0;
    for (size_t i = 0; i < w->n_ops; i++)
        w->ops[i].sequence = 0;
    world_start(w);
    for (size_t i = 0; i < w->n_ops; i++)
        if (w->ops[i].kind == OP_PUT
            && register_restore_record(w->registry, w->ops[i].key, w->ops[i].head.data, w->ops[i].head.len, &why) < 0)
            fail_msg("%s", why.text);
    while (register_restore_needs(w->registry, &batch, &after))
        world_restore_rows(w, batch, after);
}

static inline size_t rows_of_kind(const struct world *w, enum register_row kind)
{
    size_t n = 0;
    for (size_t i = 0; i < w->n_ops; i++)
        n += w->ops[i].kind == OP_ROW && w->ops[i].row_kind == (uint32_t)kind;
    return n;
}

static inline size_t rows(const struct world *w)
{
    return rows_of_kind(w, ROW_VERDICT) + rows_of_kind(w, ROW_ATTEMPT) + rows_of_kind(w, ROW_CLOSING);
}

/* Compares what was heard since the last time. */
static inline void assert_heard_at(struct world *w, const char *text, const char *file, int line)
{
    w->heard[w->heard_len] = '\0';
    _assert_string_equal(w->heard, text, file, line);
    w->heard_len = 0;
    w->heard[0] = '\0';
}
#define assert_heard(w, text) assert_heard_at(w, text, __FILE__, __LINE__)

/* ---- the ventilator's words ---- */

static inline ProtobufCBinaryData batch_id(const char *text)
{
    assert_int_equal(strlen(text), WIRE_ID);
    return (ProtobufCBinaryData){WIRE_ID, (uint8_t *)(uintptr_t)text};
}

static inline void down(struct world *w, Wire__Downward *message)
{
    struct wire_writer writer = {0};
    struct why why = {""};
    const Wire__Downward *read;
    struct wire_arena *arena = wire_arena_new();
    assert_int_equal(wire_write(&writer, &message->base), 0);
    if (wire_read_downward(arena, writer.bytes, writer.len, 0, &read, &why) < 0)
        fail_msg("%s", why.text);
    register_downward(w->registry, w->now, read);
    wire_writer_release(&writer);
    wire_arena_destroy(&arena);
}

static inline void welcome_from(struct world *w, const char *journal)
{
    Wire__SinkWelcome welcome = WIRE__SINK_WELCOME__INIT;
    Wire__Downward message = WIRE__DOWNWARD__INIT;
    welcome.program = (char *)(uintptr_t)"ventilator 0";
    welcome.journal = batch_id(journal);
    welcome.heartbeat_us = 1000000;
    message.what_case = WIRE__DOWNWARD__WHAT_SINK_WELCOME;
    message.sink_welcome = &welcome;
    down(w, &message);
}

static inline void send_register(struct world *w, const char *id, const char *short_id, int64_t total)
{
    Wire__Register reg = WIRE__REGISTER__INIT;
    Wire__Options options = WIRE__OPTIONS__INIT;
    Wire__Number number = WIRE__NUMBER__INIT;
    Wire__Downward message = WIRE__DOWNWARD__INIT;
    options.handler = (char *)(uintptr_t)"h";
    options.weight = 1;
    number.n = (uint64_t)total;
    reg.batch = batch_id(id);
    reg.short_id = (char *)(uintptr_t)short_id;
    reg.options = &options;
    reg.total = total >= 0 ? &number : NULL;
    message.what_case = WIRE__DOWNWARD__WHAT_REGISTER;
    message.register_ = &reg;
    down(w, &message);
}

static inline void send_ask_from(struct world *w, const char *id, uint64_t from)
{
    Wire__Ask ask = WIRE__ASK__INIT;
    Wire__Downward message = WIRE__DOWNWARD__INIT;
    ask.batch = batch_id(id);
    ask.from = from;
    message.what_case = WIRE__DOWNWARD__WHAT_ASK;
    message.ask = &ask;
    down(w, &message);
}

static inline void send_ask(struct world *w, const char *id) { send_ask_from(w, id, 0); }

static inline void send_forget(struct world *w, const char *id)
{
    Wire__Forget forget = WIRE__FORGET__INIT;
    Wire__Downward message = WIRE__DOWNWARD__INIT;
    forget.batch = batch_id(id);
    message.what_case = WIRE__DOWNWARD__WHAT_FORGET;
    message.forget = &forget;
    down(w, &message);
}

/* A world with a ventilator that is there and one registered batch; nothing heard yet. */
static inline struct world *world_with_batch(int64_t total)
{
    struct world *w = world_new();
    register_ventilator(w->registry, w->now, true);
    welcome_from(w, "journal-journal-");
    send_register(w, BATCH_ID, "b1", total);
    commit(w);
    assert_heard(w, "hello; registered; ");
    w->moves = 0;
    return w;
}

/* ---- results ---- */

struct sent {
    uint64_t first;
    uint32_t count;
    Wire__Verdict verdict;                /* 0: ok */
    Wire__Reason reason;
    uint32_t attempt;                     /* 0: 1 */
    bool is_attempt;
    const char *id;                       /* NULL: BATCH_ID */
    bool unpacked;                        /* through register_result, as the simulation does */
};

/* Each task's output is one byte. */
static inline void deliver(struct world *w, struct sent s)
{
    Wire__Fence fence = WIRE__FENCE__INIT;
    Wire__Report report = WIRE__REPORT__INIT;
    Wire__Result message = WIRE__RESULT__INIT;
    Wire__Verdict verdict = s.verdict ? s.verdict : WIRE__VERDICT__OK;
    uint32_t length = 1;
    static uint8_t outputs[WIRE_BLOCK];
    fence.batch = batch_id(s.id ? s.id : BATCH_ID);
    fence.first = s.first;
    fence.count = s.count;
    fence.epoch = 1;
    fence.attempt = s.attempt ? s.attempt : 1;
    report.fence = &fence;
    report.session = 99;
    report.worker = (char *)(uintptr_t)"w1";
    report.kind = s.is_attempt ? WIRE__RESULT_KIND__IS_ATTEMPT : WIRE__RESULT_KIND__IS_VERDICT;
    report.verdicts = &verdict;
    report.n_verdicts = 1;
    report.reasons = &s.reason;
    report.n_reasons = 1;
    report.output_lengths = &length;
    report.n_output_lengths = 1;
    message.what_case = WIRE__RESULT__WHAT_REPORT;
    message.report = &report;
    struct wire_writer writer = {0};
    struct why why = {""};
    const Wire__Result *read;
    struct wire_arena *arena = wire_arena_new();
    struct slice body = {NULL, outputs, s.count};
    assert_int_equal(wire_write(&writer, &message.base), 0);
    if (wire_read_result(arena, writer.bytes, writer.len, body.len, &read, &why) < 0)
        fail_msg("%s", why.text);
    if (s.unpacked)
        register_result(w->registry, w->now, read, body);
    else
        register_result_packed(w->registry, w->now, read, (struct slice){NULL, writer.bytes, writer.len}, body);
    wire_writer_release(&writer);
    wire_arena_destroy(&arena);
}
#define DELIVER(w, ...) deliver(w, (struct sent){__VA_ARGS__})

struct sent_closing {
    uint64_t number, first, count;
    Wire__Verdict verdict;                /* 0: cancelled */
    Wire__Reason reason;
    bool whole;
    uint64_t session;                     /* 0: 1 */
};

static inline void close_range_of(struct world *w, struct sent_closing s)
{
    Wire__Span span = WIRE__SPAN__INIT;
    Wire__Closing closing = WIRE__CLOSING__INIT;
    Wire__Result message = WIRE__RESULT__INIT;
    span.first = s.first;
    span.count = s.count;
    closing.batch = batch_id(BATCH_ID);
    closing.number = s.number;
    closing.span = &span;
    closing.verdict = s.verdict ? s.verdict : WIRE__VERDICT__CANCELLED;
    closing.reason = s.reason;
    closing.session = s.session ? s.session : 1;
    closing.whole = s.whole;
    message.what_case = WIRE__RESULT__WHAT_CLOSING;
    message.closing = &closing;
    register_result(w->registry, w->now, &message, (struct slice){0});
}
#define CLOSE(w, ...) close_range_of(w, (struct sent_closing){__VA_ARGS__})

static inline const struct register_batch *batch_seen(struct world *w)
{
    const struct register_batch *batch = register_find(w->registry, "b1");
    assert_non_null(batch);
    return batch;
}

static inline uint64_t prefix(struct world *w, uint64_t from)
{
    return register_prefix(w->registry, batch_seen(w)->number, from);
}

#endif
