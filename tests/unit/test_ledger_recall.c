/* What waits behind a busy slot goes to an idle one, unless it is done sooner; and how much of tiny tasks goes at once. */
#include "tests/unit/ledger_world.h"

/* Each took 0.1 ms. */
static void finished_quickly(struct world *w, ledger_peer peer, unsigned lane, uint64_t first, uint32_t count)
{
    finished_in(w, peer, lane, first, count, 1, 100);
    tick(w);
}

static void second_worker(struct world *w)
{
    worker_hello(w, 12, "w2", 2, NULL, 0);
    worker_opened(w, 12, 2);
    tick(w);
}

static void what_is_done_soon_is_not_recalled(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    batch(w, &o, "abcdefghij");
    w->trace[0] = '\0';
    finished_quickly(w, 11, 1, 0, 2);
    EXPECT(w, "L1 assign 3+7 #1 left=0 'defghij'\n");
    second_worker(w);                         /* idle, while 8 are at w1: but they end within half a millisecond */
    EXPECT(w, "12: welcome lane=2 dropped=0\nL2 open\n");
    pass(w, 20 * MS);
    EXPECT(w, "");
    finished_quickly(w, 11, 1, 2, 1);         /* it goes on */
    pass(w, 20 * MS);
    EXPECT(w, "");
    pass(w, 5 * MS);                          /* one of them takes its time after all */
    EXPECT(w, "L1 recall 3\n");
}

static void long_tasks_are_recalled_at_once(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    batch(w, &o, "abc");
    finished(w, 11, 1, 0, 1, 1);              /* a second each */
    tick(w);
    w->trace[0] = '\0';
    submit(w, &o, 9);
    committed(w);
    registered(w);
    chunk(w, 0, "d", true);
    committed(w);
    registered(w);
    tick(w);
    w->trace[0] = '\0';
    second_worker(w);
    assert_non_null(strstr(w->trace, "L1 recall 1\n"));
}

/* w1 runs a task that w2 could run as well; what waits behind it only w1 can. */
static void what_runs_is_not_asked_back(void **state)
{
    struct world *w = *state;
    Wire__Value label = WIRE__VALUE__INIT, *labels = &label;
    Wire__Options o = WIRE__OPTIONS__INIT, of_w1 = WIRE__OPTIONS__INIT;
    label.key = (char *)(uintptr_t) "has";
    label.value = (char *)(uintptr_t) "it";
    of_w1.n_require = 1;
    of_w1.require = &labels;
    sink_hello(w);
    worker_hello_with(w, 11, "w1", 2, &labels, 1, NULL, 0);
    worker_opened(w, 11, 1);
    tick(w);
    batch(w, &o, "a");
    started(w, 11, 1, 0, 1, 1);
    submit(w, &of_w1, 9);
    committed(w);
    registered(w);
    chunk(w, 0, "bc", true);
    committed(w);
    registered(w);
    tick(w);
    started(w, 11, 1, 0, 1, 1);
    w->trace[0] = '\0';
    second_worker(w);
    EXPECT(w, "12: welcome lane=2 dropped=0\nL2 open\n");
    pass(w, 1000 * MS);
    assert_null(strstr(w->trace, "recall"));
}

static void a_recall_that_is_not_answered_keeps_none_from_others(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    second_worker(w);
    batch(w, &o, "abcdef");
    w->trace[0] = '\0';
    worker_hello(w, 13, "w3", 1, NULL, 0);
    worker_opened(w, 13, 3);
    tick(w);
    EXPECT(w, "13: welcome lane=3 dropped=0\nL3 open\nL1 recall 1\n");
    pass(w, 90 * MS);
    EXPECT(w, "");
    pass(w, 10 * MS);                         /* w1 is stopped, perhaps; w2 has one that waits, too */
    EXPECT(w, "L2 recall 1\n");
    pass(w, 1000 * MS);
    EXPECT(w, "");                            /* there is nobody else to be asked */
}

static void show_workers(struct world *w, const Wire__Reply *m)
{
    assert_int_equal(m->what_case, WIRE__REPLY__WHAT_WORKERS);
    const Wire__WorkerStatus *s = m->workers->workers[0];
    say(w, "finished=%" PRIu64 " service=%" PRIu64 "\n", s->finished, s->service_us);
}

/* The sink's word and the worker's race: whichever comes first, each attempt counts once, and its time is its own. */
static void what_is_recorded_before_its_report_counts(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    Wire__Workers workers = WIRE__WORKERS__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    cluster(w);
    batch(w, &o, "abcdefghij");
    recorded(w, 11, 0, 1, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);
    finished_quickly(w, 11, 1, 0, 2);
    recorded(w, 11, 1, 9, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);
    finished_quickly(w, 11, 1, 2, 8);
    w->trace[0] = '\0';
    w->on_reply = show_workers;
    m.what_case = WIRE__REQUEST__WHAT_WORKERS;
    m.workers = &workers;
    request(w, &m, "");
    EXPECT(w, "finished=10 service=100\n");
}

static void frames_hold_what_is_worth_their_way(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    Wire__Range r = WIRE__RANGE__INIT;
    cluster(w);
    batch(w, &o, "ab");
    finished_quickly(w, 11, 1, 0, 2);
    r.count = 102;
    r.step = 1;
    o.range = &r;
    submit(w, &o, 3);
    committed(w);
    w->total = 102;
    registered(w);
    tick(w);
    w->trace[0] = '\0';
    finished_quickly(w, 11, 1, 0, 2);         /* towards the end, too, a millisecond of work for each of two slots */
    EXPECT(w, "L1 assign 3+50 #1 left=0 ''\nL1 assign 53+26 #1 left=0 ''\nL1 assign 79+18 #1 left=0 ''\nL1 assign 97+5 #1 left=0 ''\n");
}

/* Another batch, of so many tasks, that all fits what the worker may hold of it. */
static void range_batch(struct world *w, uint8_t submission, uint64_t count, int32_t priority)
{
    Wire__Options o = WIRE__OPTIONS__INIT;
    Wire__Range r = WIRE__RANGE__INIT;
    r.count = count;
    r.step = 1;
    o.range = &r;
    o.priority = priority;
    submit(w, &o, submission);
    committed(w);
    w->total = count;
    registered(w);
    tick(w);
}

static void who_ran_tiny_tasks_gets_few_that_may_be_long(void **state)
{
    struct world *w = *state;
    cluster(w);
    range_batch(w, 1, 3, 0);
    finished_quickly(w, 11, 1, 0, 3);
    w->trace[0] = '\0';
    range_batch(w, 2, 100000, 0);             /* by what the worker did before it could have hundreds of these */
    assert_non_null(strstr(w->trace, "L1 assign 0+2 #1 left=0 ''\nL1 assign 2+1 #1 left=0 ''\n"));
    assert_null(strstr(w->trace, "assign 3+"));
    w->trace[0] = '\0';
    finished(w, 11, 1, 0, 1, 1);              /* a second */
    tick(w);
    EXPECT(w, "L1 assign 3+1 #1 left=0 ''\n");
}

static void long_ones_that_run_leave_room_for_tiny_ones(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    batch(w, &o, "a");
    finished(w, 11, 1, 0, 1, 1);
    range_batch(w, 2, 1, 0);                  /* one that runs for long, in one of two slots */
    range_batch(w, 3, 100000, 0);
    w->trace[0] = '\0';
    finished_quickly(w, 11, 1, 0, 1);
    const char *assign = strstr(w->trace, "L1 assign ");
    uint64_t first = 0, count = 0;
    assert_non_null(assign);
    assert_int_equal(sscanf(assign, "L1 assign %" SCNu64 "+%" SCNu64, &first, &count), 2);
    assert_true(count > 50);                  /* a window of them, but for what the long one takes of it */
}

static void what_became_long_goes_back(void **state)
{
    struct world *w = *state;
    cluster(w);
    range_batch(w, 1, 100000, 0);
    finished_quickly(w, 11, 1, 0, 3);
    assert_non_null(strstr(w->trace, "L1 assign 3+"));
    w->trace[0] = '\0';
    finished(w, 11, 1, 3, 1, 1);              /* a second, and hundreds wait behind it */
    assert_non_null(strstr(w->trace, "L1 recall "));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_done_soon_is_not_recalled),
        TEST(long_tasks_are_recalled_at_once),
        TEST(what_runs_is_not_asked_back),
        TEST(a_recall_that_is_not_answered_keeps_none_from_others),
        TEST(what_is_recorded_before_its_report_counts),
        TEST(frames_hold_what_is_worth_their_way),
        TEST(who_ran_tiny_tasks_gets_few_that_may_be_long),
        TEST(long_ones_that_run_leave_room_for_tiny_ones),
        TEST(what_became_long_goes_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
