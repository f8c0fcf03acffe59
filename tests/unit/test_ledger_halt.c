/* Batches that are ended by their own failures. */
#include "tests/unit/ledger_world.h"

static Wire__HaltRule rule;

static Wire__Options *halting(Wire__Options *o, Wire__HaltWhen when, uint64_t failures, uint32_t percent)
{
    wire__options__init(o);
    wire__halt_rule__init(&rule);
    rule.when = when;
    rule.failures = failures;
    rule.percent = percent;
    o->halt = &rule;
    return o;
}

static void verdict(struct world *w, uint64_t index, Wire__Verdict v)
{
    finished(w, 11, 1, index, 1, 1);
    recorded(w, 11, index, 1, 1, WIRE__RESULT_KIND__IS_VERDICT, v, true);
}

static void has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("'%s' is not in: %s", part, text);
}

static void lacks(const char *text, const char *part)
{
    if (strstr(text, part) != NULL)
        fail_msg("'%s' is in: %s", part, text);
}

static void forget(struct world *w) { w->trace[0] = '\0'; }

/* Two slots and one ahead: tasks 0, 1 run, 2 waits at the worker, the rest is queued. */
static void fly(struct world *w, Wire__Options *o, const char *items)
{
    cluster(w);
    batch(w, o, items);
    forget(w);
}

static void soon_lets_what_runs_finish(void **state)
{
    struct world *w = *state;
    Wire__Options o;
    fly(w, halting(&o, WIRE__HALT_WHEN__HALT_SOON, 1, 0), "abcdefgh");
    verdict(w, 0, WIRE__VERDICT__FAILED);
    tick(w);
    EXPECT(w, "");                             /* nothing is dispatched, and nothing closed before it is on disk */
    committed(w);
    tick(w);
    EXPECT(w, "closing #1 3+5 cancelled halt\nL1 recall 2\nL1 release 0+1\n");
    assert_string_equal(w->sentence, "halted: 1 task failed");
    recorded_closing(w, 1, 5);
    verdict(w, 1, WIRE__VERDICT__OK);
    status(w);
    has(w->trace, "status 2 total=8 queued=0 running=1 ok=1 failed=1 deadline=0 cancelled=5");
    assert_string_equal(w->note, "halted: 1 task failed");
    verdict(w, 2, WIRE__VERDICT__OK);          /* it had started before the recall came */
    tick(w);
    forget(w);
    status(w);
    has(w->trace, "status 3 total=8 queued=0 running=0 ok=2 failed=1 deadline=0 cancelled=5");
    assert_string_equal(w->note, "halted: 1 task failed");
}

static void now_stops_what_runs(void **state)
{
    struct world *w = *state;
    Wire__Options o;
    fly(w, halting(&o, WIRE__HALT_WHEN__HALT_NOW, 2, 0), "abcdefgh");
    verdict(w, 0, WIRE__VERDICT__FAILED);
    tick(w);
    committed(w);
    lacks(w->trace, "closing");
    verdict(w, 1, WIRE__VERDICT__REJECTED);
    forget(w);
    committed(w);
    tick(w);
    has(w->trace, " cancelled halt\nL1 cancel 0 halt\n");
    assert_string_equal(w->sentence, "halted: 2 tasks failed");
    /* A worker that doesn't answer is judged after the grace, like any cancel. */
    forget(w);
    pass(w, 4 * NS_PER_S);
    has(w->trace, "cancelled halt\nL1 cancel 1 halt silent\n");
}

static void a_percentage_counts_from_the_third_failure_on(void **state)
{
    struct world *w = *state;
    Wire__Options o;
    fly(w, halting(&o, WIRE__HALT_WHEN__HALT_NOW, 0, 25), "abcdefghijkl");
    verdict(w, 0, WIRE__VERDICT__FAILED);
    verdict(w, 1, WIRE__VERDICT__FAILED);
    tick(w);
    committed(w);
    lacks(w->trace, "halt");
    verdict(w, 2, WIRE__VERDICT__FAILED);
    committed(w);
    has(w->trace, "closing");
    has(w->trace, "halt");
}

static void a_percentage_is_of_all_tasks(void **state)
{
    struct world *w = *state;
    Wire__Options o;
    fly(w, halting(&o, WIRE__HALT_WHEN__HALT_NOW, 0, 26), "abcdefghijkl");
    for (uint64_t i = 0; i < 3; i++)
        verdict(w, i, WIRE__VERDICT__FAILED);
    tick(w);
    committed(w);
    lacks(w->trace, "halt");
}

static void timeouts_count_and_deadlines_do_not(void **state)
{
    struct world *w = *state;
    Wire__Options o;
    fly(w, halting(&o, WIRE__HALT_WHEN__HALT_NOW, 1, 0), "abcdefgh");
    recorded_as(w, 11, 0, 1, 1, WIRE__VERDICT__DEADLINE_EXCEEDED, WIRE__REASON__DEADLINE);
    recorded_as(w, 11, 1, 1, 1, WIRE__VERDICT__CANCELLED, WIRE__REASON__CANCEL_TASK);
    tick(w);
    committed(w);
    lacks(w->trace, "halt");
    recorded_as(w, 11, 2, 1, 1, WIRE__VERDICT__DEADLINE_EXCEEDED, WIRE__REASON__TIMEOUT);
    committed(w);
    has(w->trace, "halt");
}

static void attempts_do_not_count_and_their_retries_are_closed(void **state)
{
    struct world *w = *state;
    Wire__RetryRule retry = WIRE__RETRY_RULE__INIT;
    Wire__Options o;
    halting(&o, WIRE__HALT_WHEN__HALT_SOON, 1, 0);
    retry.retries = 3;
    retry.on_failed = true;
    retry.backoff_us = 60000000;
    o.retry = &retry;
    fly(w, &o, "abc");
    finished(w, 11, 1, 0, 1, 1);
    recorded(w, 11, 0, 1, 1, WIRE__RESULT_KIND__IS_ATTEMPT, WIRE__VERDICT__FAILED, true);
    tick(w);
    committed(w);
    lacks(w->trace, "halt");
    forget(w);
    verdict(w, 1, WIRE__VERDICT__FAILED);
    committed(w);
    tick(w);
    has(w->trace, "closing #1 0+1 cancelled halt\n");           /* the one that waits for its next try */
    forget(w);
    finished(w, 11, 1, 2, 1, 1);
    recorded(w, 11, 2, 1, 1, WIRE__RESULT_KIND__IS_ATTEMPT, WIRE__VERDICT__FAILED, true);
    tick(w);
    has(w->trace, "2+1 cancelled halt\n");                      /* and the one that would have one */
}

static void an_open_batch_takes_no_more(void **state)
{
    struct world *w = *state;
    Wire__Options o;
    cluster(w);
    submit(w, halting(&o, WIRE__HALT_WHEN__HALT_SOON, 1, 0), 1);
    committed(w);
    registered(w);
    chunk(w, 0, "a", false);
    committed(w);
    tick(w);
    verdict(w, 0, WIRE__VERDICT__FAILED);
    committed(w);
    tick(w);
    forget(w);
    chunk(w, 1, "b", true);
    committed(w);
    tick(w);
    has(w->trace, "admitted 1 state=2\n");
}

static void a_restart_keeps_it(void **state)
{
    struct world *w = *state;
    Wire__Options o;
    fly(w, halting(&o, WIRE__HALT_WHEN__HALT_SOON, 1, 0), "abcdefgh");
    verdict(w, 0, WIRE__VERDICT__FAILED);
    committed(w);
    Wire__Fence running = fence_of(w, 1, 1, 1), queued = fence_of(w, 2, 1, 1);
    Wire__Holding h[2] = {WIRE__HOLDING__INIT, WIRE__HOLDING__INIT}, *held[2] = {&h[0], &h[1]};
    h[0].fence = &running;
    h[0].state = WIRE__HOLDING_STATE__RUNNING;
    h[1].fence = &queued;
    restart(w);
    client_hello(w);
    sink_hello(w);
    registered(w);
    worker_hello(w, 11, "w1", 2, held, 2);
    forget(w);
    records(w, 0, 1, 0, 0, 0);
    has(w->trace, "cancelled halt\n");
    worker_opened(w, 11, 1);
    tick(w);
    has(w->trace, "L1 recall");
    lacks(w->trace, "L1 cancel");
    lacks(w->trace, "assign");
    forget(w);
    pass(w, 20 * NS_PER_S);
    lacks(w->trace, "1+1");                     /* what runs may take its time */
    status(w);
    has(w->trace, "status 2 ");
    assert_string_equal(w->note, "halted: 1 task failed");
}

static void after_a_restart_the_sink_s_counts_decide(void **state)
{
    struct world *w = *state;
    Wire__Options o;
    fly(w, halting(&o, WIRE__HALT_WHEN__HALT_NOW, 2, 0), "abcdefgh");
    restart(w);
    client_hello(w);
    sink_hello(w);
    registered(w);
    worker_hello(w, 11, "w1", 2, NULL, 0);
    worker_opened(w, 11, 1);
    forget(w);
    uint64_t counts[WIRE_VERDICTS] = {[WIRE__VERDICT__DEADLINE_EXCEEDED] = 3};
    records_are(w, 0, 3, counts, 2);
    committed(w);
    lacks(w->trace, "halt");
    recorded_as(w, 12, 5, 1, 1, WIRE__VERDICT__FAILED, WIRE__REASON__EXIT_CODE);
    committed(w);
    has(w->trace, "halt");
    assert_string_equal(w->sentence, "halted: 2 tasks failed");
}

static void a_cancel_stops_what_a_halt_let_run(void **state)
{
    struct world *w = *state;
    Wire__Options o;
    fly(w, halting(&o, WIRE__HALT_WHEN__HALT_SOON, 1, 0), "abcdefgh");
    verdict(w, 0, WIRE__VERDICT__FAILED);
    committed(w);
    tick(w);
    forget(w);
    cancel(w, 0, 0);
    committed(w);
    has(w->trace, "L1 cancel 0 cancel\n");
}

static void the_last_failure_halts_nothing(void **state)
{
    struct world *w = *state;
    Wire__Options o;
    fly(w, halting(&o, WIRE__HALT_WHEN__HALT_NOW, 1, 0), "a");
    verdict(w, 0, WIRE__VERDICT__FAILED);
    tick(w);
    committed(w);
    status(w);
    has(w->trace, "status 3 total=1 queued=0 running=0 ok=0 failed=1");
    assert_string_equal(w->note, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(soon_lets_what_runs_finish, setup, teardown),
        cmocka_unit_test_setup_teardown(now_stops_what_runs, setup, teardown),
        cmocka_unit_test_setup_teardown(a_percentage_counts_from_the_third_failure_on, setup, teardown),
        cmocka_unit_test_setup_teardown(a_percentage_is_of_all_tasks, setup, teardown),
        cmocka_unit_test_setup_teardown(timeouts_count_and_deadlines_do_not, setup, teardown),
        cmocka_unit_test_setup_teardown(attempts_do_not_count_and_their_retries_are_closed, setup, teardown),
        cmocka_unit_test_setup_teardown(an_open_batch_takes_no_more, setup, teardown),
        cmocka_unit_test_setup_teardown(a_restart_keeps_it, setup, teardown),
        cmocka_unit_test_setup_teardown(after_a_restart_the_sink_s_counts_decide, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cancel_stops_what_a_halt_let_run, setup, teardown),
        cmocka_unit_test_setup_teardown(the_last_failure_halts_nothing, setup, teardown),
    };
    return cmocka_run_group_tests_name("ledger_halt", tests, NULL, NULL);
}
