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
    EXPECT(w, "load b1 0-1\nL2 release 0+1\nL2 assign 0+1 #2 left=1 'a'\n");
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
    EXPECT(w, "load b1 0-2\nL1 release 0+1\nL1 assign 0+1 #3 left=1 'a'\n");
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
