/* What the ledger makes of answers that are lost, late or heard twice, and of its own restarts. */
#include "tests/unit/ledger_world.h"

static void forget(struct world *w)
{
    w->trace[0] = '\0';
}

/* An attempt is on record, now or since long: `on_record` of its task are. */
static void recorded_attempt(struct world *w, ledger_peer worker, uint64_t index, uint64_t epoch, uint32_t attempt, uint32_t on_record)
{
    Wire__Verdict failed = WIRE__VERDICT__FAILED;
    Wire__Fence f = fence_of(w, index, 1, attempt);
    Wire__RecordedResult r = WIRE__RECORDED_RESULT__INIT, *results = &r;
    Wire__Recorded x = WIRE__RECORDED__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    f.epoch = epoch;
    r.fence = &f;
    r.session = worker;
    r.kind = WIRE__RESULT_KIND__IS_ATTEMPT;
    r.n_verdicts = 1;
    r.verdicts = &failed;
    r.all_fresh = true;
    r.n_on_record = 1;
    r.on_record = &on_record;
    x.n_results = 1;
    x.results = &results;
    m.what_case = WIRE__UPWARD__WHAT_RECORDED;
    m.recorded = &x;
    upward(w, SINK, 900, 0, &m);
    tick(w);
    loaded(w);
}

static void holds(struct world *w, ledger_peer peer, const char *name, unsigned lane, uint64_t index, uint64_t epoch, uint32_t attempt,
                  Wire__HoldingState state)
{
    Wire__Fence f = fence_of(w, index, 1, attempt);
    Wire__Holding h = WIRE__HOLDING__INIT, *held = &h;
    f.epoch = epoch;
    h.fence = &f;
    h.state = state;
    worker_hello(w, peer, name, 2, &held, 1);
    worker_opened(w, peer, lane);
    tick(w);
    loaded(w);
}

static void arrives(struct world *w, ledger_peer peer, const char *name, unsigned lane)
{
    worker_hello(w, peer, name, 2, NULL, 0);
    worker_opened(w, peer, lane);
    tick(w);
    loaded(w);
}

/* The worker on the lane before is killed, and starts anew. */
static void dies(struct world *w, ledger_peer peer, const char *name, unsigned lane)
{
    ledger_lane(w->ledger, w->now, lane_of(lane - 1), false);
    arrives(w, peer, name, lane);
}

static void retrying(struct world *w, Wire__RetryRule *rule, uint32_t retries, const char *items)
{
    Wire__Options o = WIRE__OPTIONS__INIT;
    wire__retry_rule__init(rule);
    rule->retries = retries;
    rule->on_failed = true;
    rule->on_lost = true;
    o.retry = rule;
    batch(w, &o, items);
}

static void the_sink_hears_of_a_batch_when_it_is_on_disk(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    sink_hello(w);
    submit(w, &o, 1);
    tick(w);
    pass(w, 6 * NS_PER_S);
    sink_hello(w);                            /* nor a sink that comes meanwhile */
    EXPECT(w, "sink welcome\nsink welcome\n");
    committed(w);
    EXPECT(w, "register total=-1\nsubmitted next=0 state=0\n");
}

static void an_attempt_whose_answer_comes_twice_is_one_try(void **state)
{
    struct world *w = *state;
    Wire__RetryRule rule;
    cluster(w);
    retrying(w, &rule, 2, "a");
    finished(w, 11, 1, 0, 1, 1);
    ledger_lane(w->ledger, w->now, lane_of(1), false);
    recorded_attempt(w, 11, 0, 1, 1, 1);      /* its worker is away, and is not told */
    forget(w);
    holds(w, 11, "w1", 2, 0, 1, 1, WIRE__HOLDING_STATE__ENDED);
    EXPECT(w, "11: welcome lane=2 dropped=0\nL2 open\nL2 announce\n");
    recorded_attempt(w, 11, 0, 1, 1, 1);      /* brought again, and answered again */
    EXPECT(w, "load b1 0-1\nL2 assign 0+1 #2 left=1 'a'\nL2 release 0+1\n");
    status(w);
    EXPECT(w, "status 1 total=1 queued=0 running=1 ok=0 failed=0 deadline=0 cancelled=0 lost=0 dup=0 retried=1\n");
}

static void a_late_attempt_of_a_lost_worker_is_a_try(void **state)
{
    struct world *w = *state;
    Wire__RetryRule rule;
    cluster(w);
    retrying(w, &rule, 2, "a");
    dies(w, 12, "w1", 2);                  /* it started anew: the task is at it again */
    assert_non_null(strstr(w->trace, "L2 assign 0+1 #2 left=2 'a'\n"));
    recorded_attempt(w, 11, 0, 1, 1, 1);      /* and had failed at the lost one */
    forget(w);
    dies(w, 13, "w1", 3);
    assert_non_null(strstr(w->trace, "L3 assign 0+1 #3 left=1 'a'\n"));
}

static void tries_are_rebuilt_after_a_restart(void **state)
{
    struct world *w = *state;
    Wire__RetryRule rule;
    cluster(w);
    retrying(w, &rule, 3, "ab");
    restart(w);
    sink_hello(w);
    registered(w);
    holds(w, 11, "w1", 1, 0, 1, 2, WIRE__HOLDING_STATE__RUNNING);      /* 0 is at its second try, 1 is nowhere */
    forget(w);
    records(w, 0, 0, 0, 0, 1);
    loaded(w);
    EXPECT(w, "load b1 1-2\nL1 assign 1+1 #1 left=3 'b'\n");
    recorded_attempt(w, 11, 0, 1, 2, 2);      /* the second one is on record, and the first one was not forgotten */
    EXPECT(w, "load b1 0-2\nL1 assign 0+1 #3 left=1 'a'\nL1 release 0+1\n");
}

static void losses_use_tries_where_the_rule_says_so(void **state)
{
    struct world *w = *state;
    Wire__RetryRule rule;
    w->max_losses = 2;
    ledger_destroy(&w->ledger);
    begin(w);
    ledger_restored(w->ledger, w->now);
    committed(w);
    client_hello(w);
    forget(w);
    cluster(w);
    retrying(w, &rule, 1, "a");
    for (unsigned i = 2; i <= 4; i++) {
        forget(w);
        dies(w, 10 + i, "w1", i);
        assert_null(strstr(w->trace, "closing"));
    }
    assert_non_null(strstr(w->trace, "L4 assign 0+1 #4 left=0 'a'\n"));
    forget(w);
    status(w);
    EXPECT(w, "status 1 total=1 queued=0 running=1 ok=0 failed=0 deadline=0 cancelled=0 lost=0 dup=0 retried=1\n");
    dies(w, 15, "w1", 5);                  /* no try is left */
    assert_non_null(strstr(w->trace, "closing #1 0+1 lost losses\n"));
    assert_string_equal(w->sentence, "2 workers were lost while it ran: w1, w1");
}

static void a_loss_that_is_forgiven_has_its_backoff(void **state)
{
    struct world *w = *state;
    Wire__RetryRule rule;
    w->max_losses = 1;
    ledger_destroy(&w->ledger);
    begin(w);
    ledger_restored(w->ledger, w->now);
    committed(w);
    client_hello(w);
    forget(w);
    cluster(w);
    retrying(w, &rule, 1, "");
    wire__retry_rule__init(&rule);
    rule.retries = 1;
    rule.on_lost = true;
    rule.backoff_us = 1000000;
    Wire__Options o = WIRE__OPTIONS__INIT;
    o.retry = &rule;
    batch(w, &o, "ab");
    forget(w);
    dies(w, 12, "w1", 2);
    EXPECT(w, "L1 close\n12: welcome lane=2 dropped=0\nL2 open\n");
    pass(w, 1300 * MS);
    assert_non_null(strstr(w->trace, "load b2 "));
}

static void losses_are_judged_when_the_sink_has_told(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    w->max_losses = 1;
    cluster(w);
    batch(w, &o, "ab");
    restart(w);
    sink_hello(w);
    registered(w);
    holds(w, 11, "w1", 1, 0, 1, 1, WIRE__HOLDING_STATE__RUNNING);
    forget(w);
    dies(w, 12, "w1", 2);                  /* that was its end; the sink may have its result */
    EXPECT(w, "L1 close\n12: welcome lane=2 dropped=0\nL2 open\n");
    records(w, 1, 1, 0, 0, 0);
    EXPECT(w, "closing #1 0+1 lost losses\n");
    assert_string_equal(w->sentence, "1 worker was lost while it ran: w1; those of before the ventilator's restart are not counted");
}

/* ---- leases ---- */

/* A heartbeat of the worker on lane 1; whether it gets a lease for it. */
static bool beats(struct world *w, uint64_t number, uint64_t lane_sequence)
{
    Wire__Heartbeat beat = WIRE__HEARTBEAT__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    beat.number = number;
    beat.lane_sequence = lane_sequence;
    m.what_case = WIRE__UPWARD__WHAT_HEARTBEAT;
    m.heartbeat = &beat;
    upward(w, 11, 11, lane_of(1), &m);
    tick(w);
    return w->beat_answer == number;
}

static void no_lease_while_the_lane_stands_still(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    assert_true(beats(w, 1, 1));
    pass(w, 5 * NS_PER_S);
    assert_true(beats(w, 2, 1));              /* nothing is outstanding: a quiet lane is no broken one */
    batch(w, &o, "abc");                      /* open, announce, two assigns */
    forget(w);
    pass(w, NS_PER_S);
    assert_true(beats(w, 3, 1));
    pass(w, 600 * MS);
    assert_false(beats(w, 4, 1));
    assert_int_equal(w->beat_answer, 0);      /* it is answered all the same: we are not silent */
    pass(w, 100 * MS);
    assert_true(beats(w, 5, 2));              /* one of them was a large one, and is read now */
    for (uint64_t n = 6; n < 14; n++) {
        pass(w, NS_PER_S);
        beats(w, n, 2);
    }
    EXPECT(w, "");                            /* nobody is given up before the silence time */
    pass(w, 3 * NS_PER_S);
    assert_non_null(strstr(w->trace, "L1 close\n11: say hello\n"));
}

/* One task of a mebibyte, which may be a second on its way. */
static void large_chunk(struct world *w)
{
    static char item[(1 << 20) + 1];
    uint32_t len = sizeof item - 1;
    Wire__Tasks t = WIRE__TASKS__INIT;
    Wire__Chunk c = WIRE__CHUNK__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    memset(item, 'x', len);
    t.count = 1;
    t.n_lengths = 1;
    t.lengths = &len;
    c.batch = wire_id_bytes(w->batch);
    c.tasks = &t;
    c.digest_after = 1;
    c.last = true;
    w->total = 1;
    m.what_case = WIRE__REQUEST__WHAT_CHUNK;
    m.chunk = &c;
    request(w, &m, item);
}

static void a_large_payload_on_a_slow_line_is_waited_for(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    submit(w, &o, 'x');
    committed(w);
    registered(w);
    large_chunk(w);
    committed(w);
    registered(w);
    tick(w);
    forget(w);
    for (uint64_t n = 1; n <= 22; n++) {      /* 11 s */
        beats(w, n, 1);
        pass(w, NS_PER_S / 2);
    }
    EXPECT(w, "");
    beats(w, 23, 1);
    pass(w, NS_PER_S);
    assert_non_null(strstr(w->trace, "L1 close\n11: say hello\n"));
}

static void a_cancel_is_not_answered_while_a_lease_may_last(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    batch(w, &o, "abc");
    beats(w, 1, 4);
    forget(w);
    cancel(w, 0, 0);
    committed(w);
    EXPECT(w, "L1 cancel 0 cancel\n");
    for (uint64_t n = 2; n < 5; n++) {        /* its control lives, and it doesn't read that */
        pass(w, 700 * MS);
        beats(w, n, 4);
    }
    EXPECT(w, "");                            /* 2.1 s; the last lease was given at 1.4 s */
    pass(w, 700 * MS);
    EXPECT(w, "");
    pass(w, 200 * MS);
    assert_non_null(strstr(w->trace, "cancelled queued=0 running=0 finished=0 unreachable=3\n"));
}

/* ---- cancels ---- */

static void a_cancel_in_a_recovery_is_answered_after_it(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    batch(w, &o, "abcdefgh");
    restart(w);
    sink_hello(w);
    registered(w);
    holds(w, 11, "w1", 1, 2, 1, 1, WIRE__HOLDING_STATE__RUNNING);
    client_hello(w);
    forget(w);
    cancel(w, 0, 0);
    committed(w);
    confirmed(w, 11, 1, 1, 0, 1);             /* told at once, the answer waits */
    pass(w, 5 * NS_PER_S);
    assert_null(strstr(w->trace, "cancelled"));
    assert_non_null(strstr(w->trace, "L1 cancel 0 cancel\n"));
    forget(w);
    records(w, 0, 2, 0, 0, 0);                /* 0 and 1 had ended before */
    assert_non_null(strstr(w->trace, "closing #1 3+5 cancelled cancel\ncancelled queued=5 running=1 finished=2 unreachable=0\n"));
}

/* A worker that stood still reads a lane that is long broken, and counts the time it was given from then on. */
static void what_is_too_late_is_not_adopted_to_start(void **state)
{
    struct world *w = *state;
    Wire__Micros left = WIRE__MICROS__INIT;
    Wire__Options o = WIRE__OPTIONS__INIT;
    left.us = 3000000;
    o.deadline = &left;
    cluster(w);
    batch(w, &o, "abcdefgh");
    restart(w);
    sink_hello(w);
    registered(w);
    pass(w, 4 * NS_PER_S);                    /* the sink hasn't told yet what is recorded: nothing of it is closed */
    forget(w);
    holds(w, 11, "w1", 1, 2, 1, 1, WIRE__HOLDING_STATE__QUEUED);
    assert_non_null(strstr(w->trace, "11: welcome lane=1 dropped=1\n"));
    holds(w, 12, "w2", 2, 3, 1, 1, WIRE__HOLDING_STATE__RUNNING);
    assert_non_null(strstr(w->trace, "12: welcome lane=2 dropped=0\n"));
    forget(w);
    records(w, 0, 2, 0, 0, 0);
    assert_non_null(strstr(w->trace, "closing #1 2+1 deadline_exceeded deadline\n"));
}

static void what_waits_is_closed_in_few_rows(void **state)
{
    struct world *w = *state;
    Wire__RetryRule rule = WIRE__RETRY_RULE__INIT;
    Wire__Options o = WIRE__OPTIONS__INIT;
    rule.retries = 5;
    rule.on_failed = true;
    rule.backoff_us = 60000000;
    o.retry = &rule;
    cluster(w);
    batch(w, &o, "abcdefgh");
    for (uint64_t i = 0; i < 5; i++) {
        finished(w, 11, 1, i, 1, 1);
        recorded_attempt(w, 11, i, 1, 1, 1);
    }
    forget(w);
    cancel(w, 0, 0);
    committed(w);
    EXPECT(w, "closing #1 0+5 cancelled cancel\nL1 cancel 0 cancel\n");
}

/* ---- a sink that purged it ---- */

static void unknown(struct world *w)
{
    Wire__Registered r = WIRE__REGISTERED__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    r.batch = wire_id_bytes(w->batch);
    r.unknown = true;
    m.what_case = WIRE__UPWARD__WHAT_REGISTERED;
    m.registered = &r;
    upward(w, SINK, 900, 0, &m);
    tick(w);
}

static void a_batch_that_the_sink_purged_is_said_so(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    sink_hello(w);
    batch(w, &o, "abc");
    sink_hello(w);
    unknown(w);
    forget(w);
    arrives(w, 11, "w1", 1);
    pass(w, 30 * NS_PER_S);
    assert_null(strstr(w->trace, "assign"));
    assert_null(strstr(w->trace, "register"));
    assert_null(strstr(w->trace, "ask"));
    forget(w);
    status(w);
    assert_string_equal(w->note, "the sink has purged this batch and records nothing of it: start the sink with the folder that has its records");
    forget(w);
    sink_hello(w);                            /* with the right folder */
    registered(w);
    EXPECT(w, "sink welcome\nregister total=3\nask\n");
    w->note[0] = 'x';
    status(w);
    assert_null(strstr(w->note, "purged"));
}

/* ---- duplicates ---- */

static uint64_t duplicates(struct world *w)
{
    forget(w);
    status(w);
    const char *at = strstr(w->trace, " dup=");
    assert_non_null(at);
    return (uint64_t)(at[5] - '0');
}

static void late_results_are_counted_and_not_forgotten(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    batch(w, &o, "ab");
    recorded(w, 11, 0, 2, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);
    assert_int_equal(duplicates(w), 0);
    recorded(w, 99, 0, 2, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, false);
    recorded(w, 99, 1, 1, 1, WIRE__RESULT_KIND__IS_ATTEMPT, WIRE__VERDICT__FAILED, false);
    assert_int_equal(duplicates(w), 3);
    restart(w);                               /* a complete batch: the journal has it */
    client_hello(w);
    assert_int_equal(duplicates(w), 3);
}

static void the_sink_tells_of_duplicates_after_a_restart(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    batch(w, &o, "abc");
    recorded(w, 11, 0, 2, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);
    recorded(w, 99, 0, 2, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, false);
    assert_int_equal(duplicates(w), 2);
    restart(w);
    client_hello(w);
    sink_hello(w);
    registered(w);
    records(w, 0, 2, 4, 0, 0);                /* two more came while nobody was here */
    assert_int_equal(duplicates(w), 4);
    recorded(w, 99, 0, 1, 1, WIRE__RESULT_KIND__IS_ATTEMPT, WIRE__VERDICT__FAILED, false);
    assert_int_equal(duplicates(w), 5);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_sink_hears_of_a_batch_when_it_is_on_disk),
        TEST(an_attempt_whose_answer_comes_twice_is_one_try),
        TEST(a_late_attempt_of_a_lost_worker_is_a_try),
        TEST(tries_are_rebuilt_after_a_restart),
        TEST(losses_use_tries_where_the_rule_says_so),
        TEST(a_loss_that_is_forgiven_has_its_backoff),
        TEST(losses_are_judged_when_the_sink_has_told),
        TEST(no_lease_while_the_lane_stands_still),
        TEST(a_large_payload_on_a_slow_line_is_waited_for),
        TEST(a_cancel_is_not_answered_while_a_lease_may_last),
        TEST(a_cancel_in_a_recovery_is_answered_after_it),
        TEST(what_is_too_late_is_not_adopted_to_start),
        TEST(what_waits_is_closed_in_few_rows),
        TEST(a_batch_that_the_sink_purged_is_said_so),
        TEST(late_results_are_counted_and_not_forgotten),
        TEST(the_sink_tells_of_duplicates_after_a_restart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
