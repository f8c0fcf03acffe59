/* The register and its store: what a frame costs, and how long a restart takes.
 * usage: bench_register FOLDER [ROWS [TASKS-PER-ROW]]: fills FOLDER (which a sink can then restore) and prints
 * one line of JSON. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/loop.h"
#include "common/options.h"
#include "common/store.h"
#include "sink/register.h"

#define BATCH_ID "batch-batch-batc"
#define WAITING ((size_t)16 * 1024 * 1024)

struct bench {
    struct loop *loop;
    struct store *store;
    struct registry *registry;
    uint64_t flushed, recorded;
};

static int up(void *arg, const Wire__Upward *message, struct slice body, bool with_body)
{
    struct bench *self = arg;
    (void)body;
    (void)with_body;
    if (message->what_case == WIRE__UPWARD__WHAT_RECORDED)
        self->recorded += message->recorded->n_results;
    return 0;
}

static uint64_t put(void *arg, const char *key, const void *value, size_t len)
{
    struct bench *self = arg;
    return store_put(self->store, key, value, len) < 0 ? 0 : self->flushed + 1;
}

static uint64_t drop(void *arg, const char *key)
{
    struct bench *self = arg;
    return store_delete(self->store, key) < 0 ? 0 : self->flushed + 1;
}

static uint64_t append(void *arg, uint64_t batch, uint64_t first, uint32_t count, enum register_row kind, struct slice head,
                       struct slice body, uint64_t *ret_row)
{
    struct bench *self = arg;
    struct store_frame frame = {.batch = batch, .first = first, .count = count, .kind = (uint32_t)kind, .head = head, .body = body};
    return store_append(self->store, &frame, ret_row) < 0 ? 0 : self->flushed + 1;
}

static uint64_t remove_rows(void *arg, uint64_t batch)
{
    struct bench *self = arg;
    return store_delete_frames(self->store, batch) < 0 ? 0 : self->flushed + 1;
}

static void moved(void *arg, const struct register_batch *batch)
{
    (void)arg;
    (void)batch;
}

static void note(void *arg, int level, const char *event, const char *text)
{
    (void)arg;
    if (level == 0)
        fprintf(stderr, "%s: %s\n", event, text);
}

static void committed(void *arg, uint64_t sequence)
{
    struct bench *self = arg;
    register_committed(self->registry, loop_now(self->loop), sequence);
    loop_stop(self->loop);
}

static void full(void *arg, bool is_full)
{
    (void)arg;
    (void)is_full;
}

static void failed(void *arg, const char *sentence)
{
    (void)arg;
    fprintf(stderr, "%s\n", sentence);
    exit(6);
}

static void welcome_and_register(struct bench *self)
{
    Wire__SinkWelcome welcome = WIRE__SINK_WELCOME__INIT;
    Wire__Register reg = WIRE__REGISTER__INIT;
    Wire__Options options = WIRE__OPTIONS__INIT;
    Wire__Downward message = WIRE__DOWNWARD__INIT;
    welcome.journal = (ProtobufCBinaryData){WIRE_ID, (uint8_t *)(uintptr_t)"journal-journal-"};
    welcome.heartbeat_us = 1000000;
    message.what_case = WIRE__DOWNWARD__WHAT_SINK_WELCOME;
    message.sink_welcome = &welcome;
    register_downward(self->registry, mono_now(), &message);
    options.handler = (char *)(uintptr_t)"h";
    options.weight = 1;
    reg.batch = (ProtobufCBinaryData){WIRE_ID, (uint8_t *)(uintptr_t)BATCH_ID};
    reg.short_id = (char *)(uintptr_t)"b1";
    reg.options = &options;
    message.what_case = WIRE__DOWNWARD__WHAT_REGISTER;
    message.register_ = &reg;
    register_downward(self->registry, mono_now(), &message);
}

/* A result as a worker with tiny tasks sends it: times and lengths differ from task to task. */
static void pack(struct wire_writer *w, uint64_t first, uint32_t count)
{
    Wire__Fence fence = WIRE__FENCE__INIT;
    Wire__Report report = WIRE__REPORT__INIT;
    Wire__Result message = WIRE__RESULT__INIT;
    Wire__Verdict verdict = WIRE__VERDICT__OK;
    static uint32_t lengths[WIRE_BLOCK], slots[WIRE_BLOCK];
    static uint64_t run[WIRE_BLOCK], queued[WIRE_BLOCK];
    for (uint32_t i = 0; i < count; i++) {
        lengths[i] = 64;
        slots[i] = 1 + i % 4;
        run[i] = 100 + i % 37;
        queued[i] = 1000000 + i * 20;
    }
    fence.batch = (ProtobufCBinaryData){WIRE_ID, (uint8_t *)(uintptr_t)BATCH_ID};
    fence.first = first;
    fence.count = count;
    fence.epoch = 1;
    fence.attempt = 1;
    report.fence = &fence;
    report.session = 99;
    report.worker = (char *)(uintptr_t)"worker-1";
    report.verdicts = &verdict;
    report.n_verdicts = 1;
    report.output_lengths = lengths;
    report.n_output_lengths = count;
    report.slots = slots;
    report.n_slots = count;
    report.run_us = run;
    report.n_run_us = count;
    report.queued_us = queued;
    report.n_queued_us = count;
    message.what_case = WIRE__RESULT__WHAT_REPORT;
    message.report = &report;
    if (wire_write(w, &message.base) < 0)
        exit(1);
}

static int64_t fill(struct bench *self, uint64_t rows, uint32_t per_row)
{
    struct wire_writer writer = {0};
    struct wire_arena *arena = wire_arena_new();
    struct buf *body = buf_new((size_t)per_row * 64);
    int64_t in_register = 0;
    if (!arena || !body)
        exit(1);
    memset(buf_data(body), 'x', buf_len(body));
    for (uint64_t i = 0; i < rows; i++) {
        const Wire__Result *result;
        struct why why;
        uint64_t first = i / (WIRE_BLOCK / per_row) * WIRE_BLOCK + i % (WIRE_BLOCK / per_row) * per_row;
        pack(&writer, first, per_row);
        mono_t begin = mono_now();
        if (wire_read_result(arena, writer.bytes, writer.len, buf_len(body), &result, &why) < 0) {
            fprintf(stderr, "%s\n", why.text);
            exit(1);
        }
        register_result_packed(self->registry, begin, result, (struct slice){NULL, writer.bytes, writer.len}, slice_of(body));
        in_register += mono_since(mono_now(), begin);
        if (i % 16 == 15)
            self->flushed = store_flush(self->store);
        while (store_waiting(self->store) > WAITING)
            loop_run(self->loop);
    }
    self->flushed = store_flush(self->store);
    while (self->recorded < rows)
        loop_run(self->loop);
    buf_unref(&body);
    wire_arena_destroy(&arena);
    wire_writer_release(&writer);
    return in_register;
}

int main(int argc, char **argv)
{
    struct why why = {""};
    uint64_t rows = 10000, per_row = 1000;
    if (argc < 2 || (argc > 2 && parse_u64(argv[2], 1, 100000000, &rows, &why) < 0)
        || (argc > 3 && parse_u64(argv[3], 1, WIRE_BLOCK, &per_row, &why) < 0)) {
        fprintf(stderr, "usage: bench_register FOLDER [ROWS [TASKS-PER-ROW]] %s\n", why.text);
        return 2;
    }
    struct bench self = {.loop = loop_new()};
    struct store_config config = {.dir = argv[1], .role = "results", .version = 1, .committed = committed, .full = full,
                                  .failed = failed, .arg = &self};
    enum store_refusal refusal;
    self.store = self.loop ? store_open(self.loop, &config, &refusal, &why) : NULL;
    if (!self.store) {
        fprintf(stderr, "%s\n", why.text);
        return 6;
    }
    struct register_ports ports = {&self, up, put, drop, append, remove_rows, moved, note, NULL};
    struct register_config settings = {.program = "bench", .session = 1};
    self.registry = register_new(&settings, &ports);
    self.flushed = store_flush(self.store);
    welcome_and_register(&self);
    mono_t begin = mono_now();
    int64_t in_register = fill(&self, rows, (uint32_t)per_row);
    int64_t all = mono_since(mono_now(), begin);
    printf("{\"bench\":\"register\",\"rows\":%" PRIu64 ",\"tasks_per_row\":%" PRIu64 ",\"us_per_row\":%.2f,\"tasks_per_s\":%.0f}\n",
           rows, per_row, (double)in_register / 1e3 / (double)rows, (double)(rows * per_row) * 1e9 / (double)all);
    register_destroy(&self.registry);
    store_close(&self.store, 10 * NS_PER_S);
    loop_destroy(&self.loop);
    return 0;
}
