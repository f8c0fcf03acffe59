/* A whole sink: what it says to a ventilator, a worker and a client through its sockets, what
 * survives its end, and how it refuses to start. */
#include "common/store.h"
#include "tests/unit/sink_world.h"

static void a_stream_of_what_is_there(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    deliver(w, 10, 5);
    deliver(w, 0, 2);
    deliver_kind(w, 50, 1, 3, WIRE__RESULT_KIND__IS_ATTEMPT);
    wait_vent(w, "recorded 50");
    SUBSCRIBE(w);
    wait_heard(w, "end");
    assert_string_equal(w->heard.bytes, "begin b1; row 10+5; row 0+2; attempt 50+1; end 7; ");
    assert_int_equal(w->last_body_len, 3);
    assert_memory_equal(w->last_body, "yyy", 3);
    /* Continues behind a row; without bodies. */
    uint64_t last = w->last_row;
    forget(&w->heard);
    SUBSCRIBE(w, .after = last - 1, .heads_only = true);
    wait_heard(w, "end");
    assert_string_equal(w->heard.bytes, "begin b1; attempt 50+1; end 7; ");
    assert_int_equal(w->last_body_len, 0);
    world_destroy(w);
}

static void a_stream_follows_until_the_batch_is_complete(void **state)
{
    (void)state;
    struct world *w = world_new();
    client_hello(w, WIRE_MAJOR);
    SUBSCRIBE(w, .follow = true, .wait = true);
    wait_heard(w, "welcome");
    send_register(w, 20);
    wait_heard(w, "begin b1");
    deliver(w, 5, 5);
    wait_heard(w, "row 5+5");
    wait_until(w, w->progress > 1);
    send_closing(w, 0, 20);
    wait_heard(w, "end");
    assert_string_equal(w->heard.bytes, "welcome; begin b1; row 5+5; closing 0+20; end 20 complete; ");
    assert_int_equal(w->end->by_deadline, 15);
    assert_int_equal(w->end->total->n, 20);
    assert_int_equal(w->end->counts[WIRE__VERDICT__OK], 5);
    assert_int_equal(w->end->counts[WIRE__VERDICT__DEADLINE_EXCEEDED], 15);
    world_destroy(w);
}

static void an_ordered_stream_goes_by_index(void **state)
{
    (void)state;
    struct world *w = world_with_batch(100);
    deliver(w, 50, 10);
    wait_vent(w, "recorded 50");
    SUBSCRIBE(w, .ordered = true, .follow = true);
    deliver(w, 20, 5);
    deliver(w, 0, 20);
    wait_heard(w, "row 20+5");
    assert_string_equal(w->heard.bytes, "begin b1; row 0+20; row 20+5; ");
    deliver(w, 25, 25);
    wait_heard(w, "row 50+10");
    assert_string_equal(w->heard.bytes, "begin b1; row 0+20; row 20+5; row 25+25; row 50+10; ");
    deliver(w, 40, 50);                 /* in part */
    deliver_kind(w, 95, 1, 3, WIRE__RESULT_KIND__IS_ATTEMPT);
    send_closing(w, 0, 100);
    wait_heard(w, "end");
    assert_non_null(strstr(w->heard.bytes, "row 50+10; row 40+50; closing 90+10; end 100 complete; "));
    forget(&w->heard);
    SUBSCRIBE(w, .ordered = true, .from = 55);
    wait_heard(w, "end");
    assert_string_equal(w->heard.bytes, "begin b1; row 40+50; row 50+10; closing 90+10; end 100 complete; ");
    world_destroy(w);
}

static void rows_wait_for_credit(void **state)
{
    (void)state;
    struct world *w = world_with_batch(5);
    for (uint64_t i = 0; i < 5; i++)
        deliver_kind(w, i, 1, 10000, WIRE__RESULT_KIND__IS_VERDICT);
    wait_vent(w, "recorded 4");
    SUBSCRIBE(w, .follow = true, .credit = 1);
    wait_heard(w, "row 0+1");
    wait_until(w, w->progress > 0);
    /* What an overdrawn credit lacks must come first. */
    credit(w, 10000);
    SUBSCRIBE(w, .id = 3, .ref = "nobody");
    wait_heard(w, "nobody");
    assert_null(strstr(w->heard.bytes, "row 1"));
    credit(w, 200);
    wait_heard(w, "row 1+1");
    credit(w, UINT64_MAX);
    wait_heard(w, "end");
    assert_non_null(strstr(w->heard.bytes, "row 1+1; row 2+1; row 3+1; row 4+1; end 5 complete; "));
    world_destroy(w);
}

/* A stream that has everything gets what is recorded as it is, while its credit lasts, and goes on by reading. Others of the same
 * batch, which begin later, ask for less or go by index, get the same rows. */
static void rows_come_once_whichever_way_they_come(void **state)
{
    (void)state;
    struct world *w = world_with_batch(8);
    SUBSCRIBE(w, .follow = true, .credit = 1);
    wait_heard(w, "begin b1");
    wait_until(w, w->progress > 0);              /* it has seen that there is nothing yet */
    deliver_kind(w, 0, 1, 10000, WIRE__RESULT_KIND__IS_VERDICT);
    wait_heard(w, "row 0+1");
    deliver_kind(w, 1, 1, 10000, WIRE__RESULT_KIND__IS_VERDICT);    /* there is no credit for this one, nor for the next */
    deliver_kind(w, 2, 1, 10000, WIRE__RESULT_KIND__IS_ATTEMPT);
    wait_vent(w, "recorded 2");
    assert_null(strstr(w->heard.bytes, "row 1"));
    credit(w, UINT64_MAX);
    wait_heard(w, "attempt 2+1");
    deliver(w, 2, 2);
    wait_heard(w, "row 2+2");
    deliver(w, 4, 1);
    deliver(w, 5, 1);
    wait_heard(w, "row 5+1");
    send_closing(w, 0, 8);
    wait_heard(w, "end");
    assert_string_equal(w->heard.bytes, "begin b1; row 0+1; row 1+1; attempt 2+1; row 2+2; row 4+1; row 5+1; closing 6+2; end 8 complete; ");
    world_destroy(w);
}

static void strangers_and_mistakes_are_answered_in_words(void **state)
{
    (void)state;
    struct world *w = world_new();
    SUBSCRIBE(w);
    wait_heard(w, "say hello");
    client_hello(w, WIRE_MAJOR + 1);
    wait_heard(w, "use programs of the same version");
    client_hello(w, WIRE_MAJOR);
    wait_heard(w, "welcome");
    SUBSCRIBE(w, .ref = "b9");
    wait_heard(w, "the sink has no batch b9");
    SUBSCRIBE(w, .ref = "b9", .wait = true);
    SUBSCRIBE(w, .ref = "b9", .wait = true);
    wait_heard(w, "is a stream already");
    forget(&w->heard);
    assert_int_equal(net_send(w->client, 0, (const uint8_t *)"\x08\x05\xff", 3, (struct slice){0}, false), 0);
    wait_heard(w, "query");
    for (uint64_t id = 3; id < 67; id++)
        SUBSCRIBE(w, .id = id, .ref = "b9", .wait = true);
    wait_heard(w, "this connection has 64 streams");
    world_destroy(w);
}

static void a_stream_can_be_given_up(void **state)
{
    (void)state;
    struct world *w = world_with_batch(10);
    SUBSCRIBE(w, .follow = true);
    wait_heard(w, "begin");
    Wire__Unsubscribe unsubscribe = WIRE__UNSUBSCRIBE__INIT;
    Wire__Query message = WIRE__QUERY__INIT;
    message.id = 2;
    message.what_case = WIRE__QUERY__WHAT_UNSUBSCRIBE;
    message.unsubscribe = &unsubscribe;
    query(w, &message);
    SUBSCRIBE(w, .id = 3);
    wait_heard(w, "end 0");
    deliver(w, 0, 10);
    wait_vent(w, "recorded 0");
    SUBSCRIBE(w, .id = 2);              /* the id is free again */
    wait_heard(w, "end 10 complete");
    assert_string_equal(w->heard.bytes, "begin b1; begin b1; end 0; begin b1; row 0+10; end 10 complete; ");
    world_destroy(w);
}

static void a_purge_ends_its_streams(void **state)
{
    (void)state;
    struct world *w = world_with_batch(10);
    SUBSCRIBE(w, .follow = true);
    SUBSCRIBE(w, .id = 3, .follow = true, .ordered = true);
    wait_heard(w, "begin b1; begin b1");
    send_forget(w);
    wait_heard(w, "is gone; end 0the batch was purged");
    wait_vent(w, "forgotten");
    forget(&w->heard);
    SUBSCRIBE(w, .id = 4, .wait = true, .follow = true);        /* not one that is still to come */
    wait_heard(w, "0 batch b1 was purged: its results are gone; ");
    world_destroy(w);
}

static void a_client_that_is_gone_is_forgotten(void **state)
{
    (void)state;
    struct world *w = world_with_batch(10);
    SUBSCRIBE(w, .follow = true);
    SUBSCRIBE(w, .id = 3, .follow = true, .ordered = true);
    wait_heard(w, "begin b1; begin b1");
    net_close(&w->client);
    deliver(w, 0, 5);
    wait_vent(w, "recorded 0");
    open_client(w);
    wait_until(w, net_is_up(w->client));
    forget(&w->heard);
    client_hello(w, WIRE_MAJOR);
    SUBSCRIBE(w);
    wait_heard(w, "end");
    assert_string_equal(w->heard.bytes, "welcome; begin b1; row 0+5; end 5; ");
    world_destroy(w);
}

static void what_was_recorded_survives(void **state)
{
    (void)state;
    struct world *w = world_with_batch(10);
    deliver(w, 0, 5);
    wait_vent(w, "recorded 0");
    deliver(w, 5, 2);                   /* on its way when the signal comes */
    stop_sink(w);
    start_sink(w);
    forget(&w->vent);
    Wire__Ask ask = WIRE__ASK__INIT;
    Wire__Downward message = WIRE__DOWNWARD__INIT;
    ask.batch = (ProtobufCBinaryData){WIRE_ID, (uint8_t *)(uintptr_t)BATCH_ID};
    message.what_case = WIRE__DOWNWARD__WHAT_ASK;
    message.ask = &ask;
    to_sink(w, &message);
    wait_vent(w, "records 7");
    client_hello(w, WIRE_MAJOR);
    SUBSCRIBE(w, .follow = true);
    deliver(w, 7, 3);
    wait_heard(w, "end");
    assert_string_equal(w->heard.bytes, "welcome; begin b1; row 0+5; row 5+2; row 7+3; end 10 complete; ");
    world_destroy(w);
}

/* ---- refusing to start ---- */

static int run_with(const char *const *words)
{
    char *argv[16] = {(char *)(uintptr_t)"sink"};
    int argc = 1;
    for (; words[argc - 1]; argc++)
        argv[argc] = (char *)(uintptr_t)words[argc - 1];
    return shell_main(argc, argv);
}
#define RUN(...) run_with((const char *const[]){__VA_ARGS__, NULL})

static void nothing_failed(void *arg, const char *sentence)
{
    (void)arg;
    fail_msg("%s", sentence);
}

static void ignore_sequence(void *arg, uint64_t sequence)
{
    (void)arg;
    (void)sequence;
}

static void ignore_full(void *arg, bool is_full)
{
    (void)arg;
    (void)is_full;
}

/* Somebody else has the folder, and the addresses. */
static void it_refuses_what_is_in_use(void **state)
{
    (void)state;
    struct world *w = world_without_sink();
    struct why why = {""};
    enum store_refusal refusal;
    char other[160];
    snprintf(other, sizeof other, "%s2", w->data);
    const struct store_config config = {.dir = w->data, .role = "results", .version = 1, .committed = ignore_sequence,
                                        .full = ignore_full, .failed = nothing_failed};
    struct store *store = store_open(w->loop, &config, &refusal, &why);
    const struct net_callbacks callbacks = {.message = from_query, .arg = w};
    struct net_socket *socket = net_open(w->net, NET_RESULTS_IN, w->results, &callbacks, &why);
    if (!store || !socket)
        fail_msg("%s", why.text);
    assert_int_equal(RUN("--data", w->data, "--results-listen", w->query, "--query-listen", w->query), 5);
    assert_int_equal(RUN("--data", other, "--results-listen", w->results, "--query-listen", w->query), 5);
    assert_int_equal(RUN("--data", other, "--results-listen", w->query, "--query-listen", w->results), 5);
    store_close(&store, 0);
    world_destroy(w);
}

static void it_refuses_a_bad_disk(void **state)
{
    (void)state;
    struct world *w = world_without_sink();
    char file[160];
    snprintf(file, sizeof file, "%s/results.db", w->dir);
    assert_int_equal(RUN("--data", "/proc/nowhere"), 6);
    FILE *damaged = fopen(file, "w");
    assert_non_null(damaged);
    assert_true(fputs("this is no database, and longer than its first page's head would be", damaged) >= 0);
    assert_int_equal(fclose(damaged), 0);
    assert_int_equal(RUN("--data", w->dir, "--results-listen", w->results, "--query-listen", w->query), 6);
    world_destroy(w);
}

static void it_refuses_what_it_does_not_understand(void **state)
{
    (void)state;
    assert_int_equal(RUN("--nonsense"), 2);
    assert_int_equal(RUN("word"), 2);
    assert_int_equal(RUN("--results-listen", "nowhere"), 2);
    assert_int_equal(RUN("--ventilator", "tcp://"), 2);
    assert_int_equal(RUN("--query-listen", "tcp://0.0.0.0"), 2);
    assert_int_equal(RUN("--keys", "somewhere"), 2);
    assert_int_equal(RUN("--advertise", "tcp://host"), 2);
    assert_int_equal(RUN("--log-level", "loud"), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(it_refuses_what_it_does_not_understand),
        cmocka_unit_test(a_stream_of_what_is_there),
        cmocka_unit_test(a_stream_follows_until_the_batch_is_complete),
        cmocka_unit_test(an_ordered_stream_goes_by_index),
        cmocka_unit_test(rows_wait_for_credit),
        cmocka_unit_test(rows_come_once_whichever_way_they_come),
        cmocka_unit_test(strangers_and_mistakes_are_answered_in_words),
        cmocka_unit_test(a_stream_can_be_given_up),
        cmocka_unit_test(a_purge_ends_its_streams),
        cmocka_unit_test(a_client_that_is_gone_is_forgotten),
        cmocka_unit_test(what_was_recorded_survives),
        cmocka_unit_test(it_refuses_what_is_in_use),
        cmocka_unit_test(it_refuses_a_bad_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
