/* A whole sink in a thread of its own, over ipc in a folder of its own; the test plays the
 * ventilator, a worker and a client, and hears them as text. */
#ifndef TESTS_UNIT_SINK_WORLD_H
#define TESTS_UNIT_SINK_WORLD_H

#include <ftw.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/log.h"
#include "common/net.h"
#include "proto/wire.h"
#include "sink/shell.h"

#define BOUND (30 * NS_PER_S)
#define BATCH_ID "batch-batch-batc"

struct text { char bytes[32768]; size_t len; };

struct world {
    char dir[64], data[96], ventilator[96], results[96], query[96];
    struct loop *loop;
    struct net *net;
    struct net_socket *control, *worker, *client;
    net_peer sink;                         /* the sink's connection; 0: none has said hello */
    unsigned hellos;
    bool full;                             /* as its last heartbeat said */
    struct text vent, heard;               /* what the ventilator and the client heard */
    unsigned progress;
    Wire__StreamEnd *end;                  /* the last one */
    uint8_t last_body[64];
    size_t last_body_len;
    uint64_t last_row;
    pthread_t thread;
    bool running;
    int exit_code;
    struct loop_timer bound;
    bool out_of_time;
    struct wire_arena *arena, *row_arena;
    struct wire_writer writer;
};

__attribute__((format(printf, 2, 3))) static inline void hear(struct text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text->bytes + text->len, sizeof text->bytes - text->len, format, args);
    va_end(args);
    assert_true(n >= 0 && (size_t)n < sizeof text->bytes - text->len);
    text->len += (size_t)n;
}

static inline void forget(struct text *text)
{
    text->len = 0;
    text->bytes[0] = '\0';
}

/* ---- the ventilator ---- */

static inline void to_sink(struct world *w, Wire__Downward *message)
{
    assert_int_equal(wire_write(&w->writer, &message->base), 0);
    assert_int_equal(net_send(w->control, w->sink, w->writer.bytes, w->writer.len, (struct slice){0}, false), 0);
}

static inline void welcome(struct world *w)
{
    Wire__SinkWelcome welcome_ = WIRE__SINK_WELCOME__INIT;
    Wire__Downward message = WIRE__DOWNWARD__INIT;
    welcome_.journal = (ProtobufCBinaryData){WIRE_ID, (uint8_t *)(uintptr_t)"journal-journal-"};
    welcome_.heartbeat_us = 1000000;
    message.what_case = WIRE__DOWNWARD__WHAT_SINK_WELCOME;
    message.sink_welcome = &welcome_;
    to_sink(w, &message);
}

static inline void from_sink(void *arg, struct net_socket *socket, const struct net_message *net_message)
{
    struct world *w = arg;
    const Wire__Upward *message;
    struct why why = {""};
    (void)socket;
    if (wire_read_upward(w->arena, net_message->head, net_message->head_len, net_message->body.len, &message, &why) < 0)
        fail_msg("%s", why.text);
    switch (message->what_case) {
    case WIRE__UPWARD__WHAT_SINK_HELLO:
        w->sink = net_message->peer;
        w->hellos++;
        welcome(w);
        break;
    case WIRE__UPWARD__WHAT_HEARTBEAT: w->full = message->heartbeat->full; break;
    case WIRE__UPWARD__WHAT_REGISTERED: hear(&w->vent, "registered; "); break;
    case WIRE__UPWARD__WHAT_FORGOTTEN: hear(&w->vent, "forgotten; "); break;
    case WIRE__UPWARD__WHAT_GOODBYE: hear(&w->vent, "goodbye; "); break;
    case WIRE__UPWARD__WHAT_RECORDS: hear(&w->vent, "records %" PRIu64 "; ", message->records->recorded); break;
    case WIRE__UPWARD__WHAT_RECORDED:
        for (size_t i = 0; i < message->recorded->n_results; i++)
            hear(&w->vent, "recorded %" PRIu64 "; ", message->recorded->results[i]->fence->first);
        break;
    default: break;
    }
    loop_stop(w->loop);
}

static inline void send_register(struct world *w, int64_t total)
{
    Wire__Register reg = WIRE__REGISTER__INIT;
    Wire__Options options = WIRE__OPTIONS__INIT;
    Wire__Number number = WIRE__NUMBER__INIT;
    Wire__Downward message = WIRE__DOWNWARD__INIT;
    options.handler = (char *)(uintptr_t)"h";
    options.weight = 1;
    number.n = (uint64_t)total;
    reg.batch = (ProtobufCBinaryData){WIRE_ID, (uint8_t *)(uintptr_t)BATCH_ID};
    reg.short_id = (char *)(uintptr_t)"b1";
    reg.options = &options;
    reg.total = total >= 0 ? &number : NULL;
    message.what_case = WIRE__DOWNWARD__WHAT_REGISTER;
    message.register_ = &reg;
    to_sink(w, &message);
}

static inline void send_forget(struct world *w)
{
    Wire__Forget forget_ = WIRE__FORGET__INIT;
    Wire__Downward message = WIRE__DOWNWARD__INIT;
    forget_.batch = (ProtobufCBinaryData){WIRE_ID, (uint8_t *)(uintptr_t)BATCH_ID};
    message.what_case = WIRE__DOWNWARD__WHAT_FORGET;
    message.forget = &forget_;
    to_sink(w, &message);
}

/* ---- the worker ---- */

/* What net_send says. */
static inline int try_deliver(struct world *w, uint64_t first, uint32_t count, uint32_t bytes_each, Wire__ResultKind kind)
{
    Wire__Fence fence = WIRE__FENCE__INIT;
    Wire__Report report = WIRE__REPORT__INIT;
    Wire__Result message = WIRE__RESULT__INIT;
    Wire__Verdict verdict = WIRE__VERDICT__OK;
    fence.batch = (ProtobufCBinaryData){WIRE_ID, (uint8_t *)(uintptr_t)BATCH_ID};
    fence.first = first;
    fence.count = count;
    fence.epoch = 1;
    fence.attempt = 1;
    report.fence = &fence;
    report.session = 99;
    report.kind = kind;
    report.verdicts = &verdict;
    report.n_verdicts = 1;
    report.output_lengths = &bytes_each;
    report.n_output_lengths = 1;
    message.what_case = WIRE__RESULT__WHAT_REPORT;
    message.report = &report;
    struct buf *body = buf_new((size_t)count * bytes_each);
    assert_non_null(body);
    memset(buf_data(body), (int)('a' + first % 26), buf_len(body));
    assert_int_equal(wire_write(&w->writer, &message.base), 0);
    int rc = net_send(w->worker, 0, w->writer.bytes, w->writer.len, slice_of(body), true);
    buf_unref(&body);
    return rc;
}

static inline void deliver_kind(struct world *w, uint64_t first, uint32_t count, uint32_t bytes_each, Wire__ResultKind kind)
{
    assert_int_equal(try_deliver(w, first, count, bytes_each, kind), 0);
}

static inline void deliver(struct world *w, uint64_t first, uint32_t count)
{
    deliver_kind(w, first, count, 3, WIRE__RESULT_KIND__IS_VERDICT);
}

static inline void send_closing(struct world *w, uint64_t first, uint64_t count)
{
    Wire__Span span = WIRE__SPAN__INIT;
    Wire__Closing closing = WIRE__CLOSING__INIT;
    Wire__Result message = WIRE__RESULT__INIT;
    span.first = first;
    span.count = count;
    closing.batch = (ProtobufCBinaryData){WIRE_ID, (uint8_t *)(uintptr_t)BATCH_ID};
    closing.number = 1;
    closing.span = &span;
    closing.verdict = WIRE__VERDICT__DEADLINE_EXCEEDED;
    closing.reason = WIRE__REASON__DEADLINE;
    closing.session = 1;
    message.what_case = WIRE__RESULT__WHAT_CLOSING;
    message.closing = &closing;
    assert_int_equal(wire_write(&w->writer, &message.base), 0);
    assert_int_equal(net_send(w->worker, 0, w->writer.bytes, w->writer.len, (struct slice){0}, false), 0);
}

/* ---- the client ---- */

static inline void hear_row(struct world *w, const Wire__StreamRow *stream_row, const struct net_message *net_message)
{
    const Wire__Row *row;
    struct why why = {""};
    size_t body_len = net_message->has_body ? net_message->body.len : WIRE_NO_BODY;
    if (wire_read_row(w->row_arena, stream_row->row.data, stream_row->row.len, body_len, &row, &why) < 0)
        fail_msg("%s", why.text);
    w->last_row = stream_row->number;
    w->last_body_len = net_message->body.len;
    if (net_message->body.len > 0)
        memcpy(w->last_body, net_message->body.data, net_message->body.len < sizeof w->last_body ? net_message->body.len : sizeof w->last_body);
    if (row->closing)
        hear(&w->heard, "closing %" PRIu64 "+%" PRIu64 "; ", row->closing->span->first, row->closing->span->count);
    else
        hear(&w->heard, "%s %" PRIu64 "+%" PRIu32 "; ", row->report->kind == WIRE__RESULT_KIND__IS_ATTEMPT ? "attempt" : "row",
             row->report->fence->first, row->report->fence->count);
}

static inline void from_query(void *arg, struct net_socket *socket, const struct net_message *net_message)
{
    struct world *w = arg;
    const Wire__Answer *message;
    struct why why = {""};
    (void)socket;
    if (wire_read_answer(w->arena, net_message->head, net_message->head_len, net_message->body.len, &message, &why) < 0)
        fail_msg("%s", why.text);
    switch (message->what_case) {
    case WIRE__ANSWER__WHAT_WELCOME: hear(&w->heard, "welcome; "); break;
    case WIRE__ANSWER__WHAT_SAY_HELLO: hear(&w->heard, "say hello; "); break;
    case WIRE__ANSWER__WHAT_REFUSED: hear(&w->heard, "%d %s; ", message->refused->code, message->refused->sentence); break;
    case WIRE__ANSWER__WHAT_BEGIN: hear(&w->heard, "begin %s; ", message->begin->short_id); break;
    case WIRE__ANSWER__WHAT_ROW: hear_row(w, message->row, net_message); break;
    case WIRE__ANSWER__WHAT_PROGRESS: w->progress++; break;
    case WIRE__ANSWER__WHAT_END:
        wire_free(&w->end);
        w->end = (Wire__StreamEnd *)wire_copy(&message->end->base);
        hear(&w->heard, "end %" PRIu64 "%s%s; ", message->end->recorded, message->end->complete ? " complete" : "", message->end->sentence);
        break;
    default: fail_msg("unexpected answer %d", message->what_case);
    }
    loop_stop(w->loop);
}

static inline void query(struct world *w, Wire__Query *message)
{
    assert_int_equal(wire_write(&w->writer, &message->base), 0);
    assert_int_equal(net_send(w->client, 0, w->writer.bytes, w->writer.len, (struct slice){0}, false), 0);
}

static inline void client_hello(struct world *w, uint32_t major)
{
    Wire__ClientHello hello = WIRE__CLIENT_HELLO__INIT;
    Wire__Query message = WIRE__QUERY__INIT;
    hello.major = major;
    message.id = 1;
    message.what_case = WIRE__QUERY__WHAT_HELLO;
    message.hello = &hello;
    query(w, &message);
}

struct subscription {
    uint64_t id;                           /* 0: 2 */
    const char *ref;                       /* NULL: b1 */
    uint64_t after, from, credit;          /* credit 0: 1 MiB */
    bool ordered, follow, wait, heads_only;
};

static inline void subscribe(struct world *w, struct subscription s)
{
    Wire__Subscribe subscribe_ = WIRE__SUBSCRIBE__INIT;
    Wire__Query message = WIRE__QUERY__INIT;
    subscribe_.ref = (char *)(uintptr_t)(s.ref ? s.ref : "b1");
    subscribe_.after = s.after;
    subscribe_.from_index = s.from;
    subscribe_.ordered = s.ordered;
    subscribe_.follow = s.follow;
    subscribe_.wait = s.wait;
    subscribe_.heads_only = s.heads_only;
    subscribe_.credit = s.credit ? s.credit : 1024 * 1024;
    message.id = s.id ? s.id : 2;
    message.what_case = WIRE__QUERY__WHAT_SUBSCRIBE;
    message.subscribe = &subscribe_;
    query(w, &message);
}
#define SUBSCRIBE(w, ...) subscribe(w, (struct subscription){__VA_ARGS__})

static inline void credit(struct world *w, uint64_t bytes)
{
    Wire__Credit credit_ = WIRE__CREDIT__INIT;
    Wire__Query message = WIRE__QUERY__INIT;
    credit_.bytes = bytes;
    message.id = 2;
    message.what_case = WIRE__QUERY__WHAT_CREDIT;
    message.credit = &credit_;
    query(w, &message);
}

/* ---- its life ---- */

static inline void any_up(void *arg, struct net_socket *socket, bool is_up)
{
    struct world *w = arg;
    (void)socket;
    (void)is_up;
    loop_stop(w->loop);
}

static inline void bound_reached(void *arg)
{
    struct world *w = arg;
    w->out_of_time = true;
    loop_stop(w->loop);
}

/* Lets the loop run until `condition` holds; fails the test when that takes too long. */
#define wait_until(w, condition)                                                                    \
    do {                                                                                            \
        loop_timer_set((w)->loop, &(w)->bound, mono_add(mono_now(), BOUND));                        \
        while (!(condition) && !(w)->out_of_time)                                                   \
            assert_int_equal(loop_run((w)->loop), 0);                                               \
        loop_timer_clear((w)->loop, &(w)->bound);                                                   \
        if ((w)->out_of_time)                                                                       \
            fail_msg("%s; ventilator: %s; client: %s", #condition, (w)->vent.bytes, (w)->heard.bytes); \
    } while (0)
#define wait_heard(w, word) wait_until(w, strstr((w)->heard.bytes, word))
#define wait_vent(w, word) wait_until(w, strstr((w)->vent.bytes, word))

static inline void *run_sink(void *arg)
{
    struct world *w = arg;
    char *argv[] = {(char *)(uintptr_t)"sink", (char *)(uintptr_t)"--ventilator", w->ventilator, (char *)(uintptr_t)"--data", w->data,
                    (char *)(uintptr_t)"--results-listen", w->results, (char *)(uintptr_t)"--query-listen", w->query,
                    (char *)(uintptr_t)"--log-level", (char *)(uintptr_t)"error", NULL};
    w->exit_code = shell_main((int)(sizeof argv / sizeof *argv) - 1, argv);
    return NULL;
}

static inline void open_client(struct world *w)
{
    const struct net_callbacks callbacks = {.message = from_query, .up = any_up, .arg = w};
    struct why why;
    w->client = net_open(w->net, NET_DEALER, w->query, &callbacks, &why);
    assert_non_null(w->client);
}

static inline void start_sink(struct world *w)
{
    unsigned before = w->hellos;
    assert_int_equal(pthread_create(&w->thread, NULL, run_sink, w), 0);
    w->running = true;
    wait_until(w, w->hellos > before && net_is_up(w->worker) && net_is_up(w->client));
}

/* SIGTERM is blocked in all threads; the sink's loop reads it. */
static inline void stop_sink(struct world *w)
{
    if (!w->running)
        return;
    w->running = false;
    assert_int_equal(kill(getpid(), SIGTERM), 0);
    wait_vent(w, "goodbye");
    assert_int_equal(pthread_join(w->thread, NULL), 0);
    assert_int_equal(w->exit_code, 0);
}

/* Everything but the sink. */
static inline struct world *world_without_sink(void)
{
    struct world *w = calloc(1, sizeof *w);
    struct why why = {""};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    assert_int_equal(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
    snprintf(w->dir, sizeof w->dir, "/tmp/tarmac-sink-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->data, sizeof w->data, "%s/data", w->dir);
    snprintf(w->ventilator, sizeof w->ventilator, "ipc://%s/v", w->dir);
    snprintf(w->results, sizeof w->results, "ipc://%s/r", w->dir);
    snprintf(w->query, sizeof w->query, "ipc://%s/q", w->dir);
    w->arena = wire_arena_new();
    w->row_arena = wire_arena_new();
    w->loop = loop_new();
    w->bound = (struct loop_timer){.fire = bound_reached, .arg = w};
    w->net = net_new(w->loop, &(struct net_config){.max_sockets = 16, .max_message = WIRE_MESSAGE}, &why);
    const struct net_callbacks control = {.message = from_sink, .arg = w}, worker = {.up = any_up, .arg = w};
    w->control = net_open(w->net, NET_ROUTER, w->ventilator, &control, &why);
    w->worker = net_open(w->net, NET_RESULTS_OUT, w->results, &worker, &why);
    if (!w->control || !w->worker)
        fail_msg("%s", why.text);
    open_client(w);
    return w;
}

static inline struct world *world_new(void)
{
    struct world *w = world_without_sink();
    start_sink(w);
    return w;
}

/* With a registered batch and a client that has said hello. */
static inline struct world *world_with_batch(int64_t total)
{
    struct world *w = world_new();
    send_register(w, total);
    client_hello(w, WIRE_MAJOR);
    wait_vent(w, "registered");
    wait_heard(w, "welcome");
    forget(&w->vent);
    forget(&w->heard);
    return w;
}

static inline int remove_one(const char *path, const struct stat *s, int type, struct FTW *at)
{
    (void)s;
    (void)type;
    (void)at;
    return remove(path);
}

static inline void world_destroy(struct world *w)
{
    stop_sink(w);
    net_destroy(&w->net);
    loop_destroy(&w->loop);
    wire_arena_destroy(&w->arena);
    wire_arena_destroy(&w->row_arena);
    wire_writer_release(&w->writer);
    wire_free(&w->end);
    assert_int_equal(nftw(w->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    free(w);
}

#endif
