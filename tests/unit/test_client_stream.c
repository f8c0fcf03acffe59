/* The client library against a scripted sink: streams of results through everything. */
#include "tests/unit/client_world.h"

/* ---- the sink ---- */

static void answer(struct world *w, net_peer peer, uint64_t id, Wire__Answer__WhatCase what, void *message, struct slice body)
{
    Wire__Answer m = WIRE__ANSWER__INIT;
    m.id = id;
    m.what_case = what;
    m.welcome = message;
    assert_int_equal(wire_write(&w->writer, &m.base), 0);
    assert_int_equal(net_send(w->sink, peer, w->writer.bytes, w->writer.len, body, body.len > 0), 0);
}

/* A row whose packed Row is `row`. */
static void send_row(struct world *w, net_peer peer, uint64_t id, uint64_t number, const Wire__Row *row, const char *body)
{
    struct buf *packed = wire_write_buf(&row->base);
    Wire__StreamRow m = WIRE__STREAM_ROW__INIT;
    m.number = number;
    m.row = (ProtobufCBinaryData){.len = buf_len(packed), .data = buf_data(packed)};
    answer(w, peer, id, WIRE__ANSWER__WHAT_ROW, &m, (struct slice){.data = (const uint8_t *)body, .len = strlen(body)});
    buf_unref(&packed);
}

/* Tasks first, first + 1 …, one letter of output each; `fresh`: a bitmap of one byte, 0: all. */
static void report_row(struct world *w, net_peer peer, uint64_t id, uint64_t number, uint64_t first, const char *letters,
                       uint8_t fresh, Wire__ResultKind kind)
{
    Wire__Fence fence = WIRE__FENCE__INIT;
    Wire__Report report = WIRE__REPORT__INIT;
    Wire__Row row = WIRE__ROW__INIT;
    Wire__Verdict ok = WIRE__VERDICT__OK;
    uint32_t one = 1, flags = 8;
    fence.batch = wire_id_bytes(batch_id);
    fence.first = first;
    fence.count = (uint32_t)strlen(letters);
    fence.epoch = 1;
    fence.attempt = 1;
    report.fence = &fence;
    report.session = 7;
    report.worker = (char *)(uintptr_t)"w1";
    report.kind = kind;
    report.n_verdicts = 1;
    report.verdicts = &ok;
    report.n_output_lengths = 1;
    report.output_lengths = &one;
    report.n_flags = 1;
    report.flags = &flags;
    row.report = &report;
    row.fresh = (ProtobufCBinaryData){.len = fresh ? 1 : 0, .data = &fresh};
    send_row(w, peer, id, number, &row, letters);
}

static void closing_row(struct world *w, net_peer peer, uint64_t id, uint64_t number, uint64_t first, uint64_t count,
                        const Wire__Span *spans, size_t n, uint8_t bitmap)
{
    Wire__Closing closing = WIRE__CLOSING__INIT;
    Wire__Span span = WIRE__SPAN__INIT, copies[4];
    Wire__Span *list[4];
    Wire__Row row = WIRE__ROW__INIT;
    closing.batch = wire_id_bytes(batch_id);
    closing.number = 1;
    span.first = first;
    span.count = count;
    closing.span = &span;
    closing.verdict = WIRE__VERDICT__CANCELLED;
    closing.reason = WIRE__REASON__CANCEL;
    closing.session = 7;
    row.closing = &closing;
    for (size_t i = 0; i < n; i++) {
        copies[i] = spans[i];
        list[i] = &copies[i];
    }
    row.closed = list;
    row.n_closed = n;
    if (bitmap)
        row.closed_bitmap = (ProtobufCBinaryData){.len = 1, .data = &bitmap};
    send_row(w, peer, id, number, &row, "");
}

static void send_begin(struct world *w, net_peer peer, uint64_t id)
{
    Wire__StreamBegin begin = WIRE__STREAM_BEGIN__INIT;
    Wire__Options options = WIRE__OPTIONS__INIT;
    options.handler = (char *)(uintptr_t)"h";
    options.weight = 1;
    begin.batch = wire_id_bytes(batch_id);
    begin.short_id = (char *)(uintptr_t)"b7k2";
    begin.options = &options;
    answer(w, peer, id, WIRE__ANSWER__WHAT_BEGIN, &begin, (struct slice){0});
}

static void send_end(struct world *w, net_peer peer, uint64_t id, uint64_t recorded)
{
    uint64_t counts[WIRE_VERDICTS] = {0};
    Wire__StreamEnd end = WIRE__STREAM_END__INIT;
    counts[WIRE__VERDICT__OK] = recorded;
    end.recorded = recorded;
    end.n_counts = WIRE_VERDICTS;
    end.counts = counts;
    end.complete = true;
    answer(w, peer, id, WIRE__ANSWER__WHAT_END, &end, (struct slice){0});
}

static void open_sink(struct world *w);

static void on_query(void *arg, struct net_socket *socket, const struct net_message *message)
{
    struct world *w = arg;
    const Wire__Query *m;
    struct why why;
    Wire__ClientWelcome welcome = WIRE__CLIENT_WELCOME__INIT;
    (void)socket;
    if (wire_read_query(w->arena, message->head, message->head_len, message->body.len, &m, &why) < 0)
        fail_msg("%s", why.text);
    welcome.major = WIRE_MAJOR;
    welcome.window_chunks = 1;
    welcome.max_payload = welcome.window_bytes = 1u << 20;
    switch (m->what_case) {
    case WIRE__QUERY__WHAT_HELLO:
        answer(w, message->peer, m->id, WIRE__ANSWER__WHAT_WELCOME, &welcome, (struct slice){0});
        break;
    case WIRE__QUERY__WHAT_SUBSCRIBE:
        w->subscriptions++;
        w->after = m->subscribe->after;
        w->from_index = m->subscribe->from_index;
        w->waits = m->subscribe->wait;
        w->serve(w, message->peer, m->id);
        break;
    case WIRE__QUERY__WHAT_CREDIT:
        w->credit_given += m->credit->bytes;
        if (w->end_at_credit && w->credit_given >= w->end_at_credit)
            send_end(w, message->peer, m->id, 20);
        break;
    default:
        break;
    }
}

static void open_sink(struct world *w)
{
    struct net_callbacks callbacks = {.message = on_query, .arg = w};
    struct why why;
    w->sink = net_open(w->theirs, NET_ROUTER, w->query, &callbacks, &why);
    if (!w->sink)
        fail_msg("%s", why.text);
}

/* Takes all there is: "3:ok:c " for each task. */
static void on_ready(void *arg)
{
    struct world *w = arg;
    struct stream_task t;
    enum stream_result r;
    while ((r = stream_next(w->stream, &t)) == STREAM_TASK) {
        size_t n = strlen(w->tasks);
        snprintf(w->tasks + n, sizeof w->tasks - n, "%" PRIu64 ":%s:%.*s ", t.index, wire_verdict_name(t.verdict),
                 (int)t.output_len, (const char *)t.output);
    }
    if (r == STREAM_END) {
        w->stream_over = true;
        stop(w);
    }
}

static void on_begun(void *arg, const Wire__StreamBegin *begin)
{
    (void)arg;
    assert_string_equal(begin->short_id, "b7k2");
}

static void follow(struct world *w, bool ordered, void (*serve)(struct world *w, net_peer peer, uint64_t id), const char *expected)
{
    struct why why = {""};
    struct stream_config config = {.batch = batch_id, .ordered = ordered, .follow = true, .credit = 1000, .begun = on_begun,
                                   .ready = on_ready, .failed = on_failed, .arg = w};
    w->serve = serve;
    open_sink(w);
    connect_to(w, w->clients, BOUND, BOUND);
    w->stream = stream_new(w->client, &config, &why);
    assert_non_null(w->stream);
    run(w);
    assert_string_equal(w->sentence, "");
    assert_true(w->stream_over);
    assert_string_equal(w->tasks, expected);
}

static void serve_all_kinds(struct world *w, net_peer peer, uint64_t id)
{
    Wire__Span spans[2] = {WIRE__SPAN__INIT, WIRE__SPAN__INIT};
    spans[0].first = 10;
    spans[0].count = 1;
    spans[1].first = 12;
    spans[1].count = 2;
    send_begin(w, peer, id);
    report_row(w, peer, id, 1, 0, "abc", 0, WIRE__RESULT_KIND__IS_VERDICT);
    report_row(w, peer, id, 2, 3, "xy", 0, WIRE__RESULT_KIND__IS_ATTEMPT);
    report_row(w, peer, id, 3, 2, "_de_", 6, WIRE__RESULT_KIND__IS_VERDICT);
    closing_row(w, peer, id, 4, 10, 4, spans, 2, 0);
    closing_row(w, peer, id, 5, 20, 8, NULL, 0, 0x81);
    send_end(w, peer, id, 10);
}

static void rows_become_tasks(void **state)
{
    follow(*state, false, serve_all_kinds, "0:ok:a 1:ok:b 2:ok:c 3:ok:d 4:ok:e 10:cancelled: 12:cancelled: 13:cancelled: "
                                           "20:cancelled: 27:cancelled: ");
}

static void serve_and_die(struct world *w, net_peer peer, uint64_t id)
{
    if (w->subscriptions == 1) {
        send_begin(w, peer, id);
        report_row(w, peer, id, 5, 0, "ab", 0, WIRE__RESULT_KIND__IS_VERDICT);
        net_linger(w->sink, NS_PER_S);
        net_close(&w->sink);
        open_sink(w);
        return;
    }
    send_begin(w, peer, id);
    if (w->after < 5)    /* What it was told already it is told again if it doesn't say so. */
        report_row(w, peer, id, 5, 0, "ab", 0, WIRE__RESULT_KIND__IS_VERDICT);
    report_row(w, peer, id, 6, 2, "c", 0, WIRE__RESULT_KIND__IS_VERDICT);
    send_end(w, peer, id, 3);
}

static void a_stream_goes_on(void **state)
{
    struct world *w = *state;
    follow(w, false, serve_and_die, "0:ok:a 1:ok:b 2:ok:c ");
    assert_int_equal(w->subscriptions, 2);
}

static void serve_ordered(struct world *w, net_peer peer, uint64_t id)
{
    Wire__Span spans[2] = {WIRE__SPAN__INIT, WIRE__SPAN__INIT};
    spans[0].first = 1;
    spans[0].count = 1;
    spans[1].first = 3;
    spans[1].count = 2;
    send_begin(w, peer, id);
    report_row(w, peer, id, 9, 0, "a", 0, WIRE__RESULT_KIND__IS_VERDICT);
    closing_row(w, peer, id, 4, 1, 4, spans, 2, 0);
    report_row(w, peer, id, 7, 2, "c__f", 9, WIRE__RESULT_KIND__IS_VERDICT);
    send_end(w, peer, id, 6);
}

static void overlapping_rows_are_put_in_order(void **state)
{
    follow(*state, true, serve_ordered, "0:ok:a 1:cancelled: 2:ok:c 3:cancelled: 4:cancelled: 5:ok:f ");
}

static void serve_much(struct world *w, net_peer peer, uint64_t id)
{
    send_begin(w, peer, id);
    for (uint64_t i = 0; i < 20; i++)
        report_row(w, peer, id, i + 1, i, "x", 0, WIRE__RESULT_KIND__IS_VERDICT);
    w->end_at_credit = 1000;
}

static void credit_comes_back(void **state)
{
    struct world *w = *state;
    struct why why = {""};
    struct stream_config config = {.batch = batch_id, .follow = true, .credit = 1000, .begun = on_begun, .ready = on_ready,
                                   .failed = on_failed, .arg = w};
    w->serve = serve_much;
    open_sink(w);
    connect_to(w, w->clients, BOUND, BOUND);
    w->stream = stream_new(w->client, &config, &why);
    run(w);
    assert_true(w->stream_over);    /* The sink has waited for a thousand bytes of it. */
}

static void serve_refusal(struct world *w, net_peer peer, uint64_t id)
{
    Wire__Refused r = WIRE__REFUSED__INIT;
    r.code = WIRE__REFUSED_CODE__BAD_REQUEST;
    r.sentence = (char *)(uintptr_t)"no such thing";
    answer(w, peer, id, WIRE__ANSWER__WHAT_REFUSED, &r, (struct slice){0});
}

static void a_refused_stream(void **state)
{
    struct world *w = *state;
    struct why why = {""};
    struct stream_config config = {.batch = batch_id, .follow = true, .credit = 1000, .begun = on_begun, .ready = on_ready,
                                   .failed = on_failed, .arg = w};
    w->serve = serve_refusal;
    open_sink(w);
    connect_to(w, w->clients, BOUND, BOUND);
    w->stream = stream_new(w->client, &config, &why);
    run(w);
    assert_int_equal(w->end, CLIENT_REFUSED);
    assert_string_equal(w->sentence, "no such thing");
}

static void serve_unknown(struct world *w, net_peer peer, uint64_t id)
{
    Wire__Refused r = WIRE__REFUSED__INIT;
    assert_false(w->waits);
    r.code = WIRE__REFUSED_CODE__UNKNOWN_BATCH;
    r.sentence = (char *)(uintptr_t)"the sink has no batch of this name";
    answer(w, peer, id, WIRE__ANSWER__WHAT_REFUSED, &r, (struct slice){0});
}

/* What is on record can't come yet: a sink that doesn't know it has other records. */
static void records_that_are_elsewhere(void **state)
{
    struct world *w = *state;
    struct why why = {""};
    struct stream_config config = {.batch = batch_id, .recorded_as = "b7k2", .follow = true, .credit = 1000, .begun = on_begun,
                                   .ready = on_ready, .failed = on_failed, .arg = w};
    w->serve = serve_unknown;
    open_sink(w);
    connect_to(w, w->clients, BOUND, BOUND);
    w->stream = stream_new(w->client, &config, &why);
    run(w);
    assert_int_equal(w->end, CLIENT_REFUSED);
    assert_non_null(strstr(w->sentence, "no records of batch b7k2"));
}

static void no_sink_anywhere(void **state)
{
    struct world *w = *state;
    struct why why = {""};
    struct stream_config config = {.batch = batch_id, .follow = true, .credit = 1000, .begun = on_begun, .ready = on_ready,
                                   .failed = on_failed, .arg = w};
    connect_to(w, w->clients, 200 * NS_PER_MS, BOUND);
    w->stream = stream_new(w->client, &config, &why);
    run(w);
    assert_int_equal(w->end, CLIENT_UNREACHABLE);
    assert_non_null(strstr(w->sentence, "has no sink"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, enter, leave)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(rows_become_tasks), TEST(a_stream_goes_on), TEST(overlapping_rows_are_put_in_order),
        TEST(credit_comes_back), TEST(a_refused_stream), TEST(records_that_are_elsewhere), TEST(no_sink_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
