/* Nested submissions: batches that an attempt has submitted, and what becomes of them when it ends. */
#include "tests/unit/ledger_world.h"

static uint8_t parent_id[WIRE_ID], child_id[WIRE_ID];
static char child_short[16];
static Wire__Fence fence;

static void forget(struct world *w) { w->trace[0] = '\0'; }

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

static void speak_of(struct world *w, const uint8_t id[WIRE_ID], uint64_t total)
{
    memcpy(w->batch, id, WIRE_ID);
    w->total = total;
}

/* Task 0 of the parent runs at w1, which has two slots. */
static void fly(struct world *w, Wire__Options *o)
{
    cluster(w);
    batch(w, o, "ab");
    memcpy(parent_id, w->batch, WIRE_ID);
    wire__fence__init(&fence);
    fence.batch = wire_id_bytes(parent_id);
    fence.count = 1;
    fence.epoch = epoch_now;
    fence.attempt = 1;
    forget(w);
}

static void submit_child(struct world *w, Wire__Options *o, uint8_t seed)
{
    o->parent = &fence;
    submit(w, o, seed);
    committed(w);
}

/* A batch of two tasks that attempt 1 of the parent's task 0 has submitted. */
static void nest(struct world *w, Wire__Options *o)
{
    submit_child(w, o, 77);
    memcpy(child_id, w->batch, WIRE_ID);
    snprintf(child_short, sizeof child_short, "%s", w->short_id);
    registered(w);
    chunk(w, 0, "xy", true);
    committed(w);
    registered(w);
    tick(w);
    forget(w);
}

static void recorded_parent(struct world *w, Wire__ResultKind kind, Wire__Verdict v)
{
    speak_of(w, parent_id, 2);
    finished(w, 11, 1, 0, 1, 1);
    recorded(w, 11, 0, 1, 1, kind, v, true);
    committed(w);
    tick(w);
}

static const Wire__Options *journaled(struct world *w, uint64_t number, Wire__JournalBatch **ret)
{
    char key[40];
    snprintf(key, sizeof key, "batch/%016" PRIx64, number);
    for (size_t i = 0; i < w->n_rows; i++)
        if (strcmp(w->rows[i].key, key) == 0) {
            *ret = wire__journal_batch__unpack(NULL, w->rows[i].len, w->rows[i].value);
            return (*ret)->options;
        }
    fail_msg("%s is not in the journal", key);
    return NULL;
}

static void it_inherits_values_trace_and_time(void **state)
{
    struct world *w = *state;
    Wire__Value a = WIRE__VALUE__INIT, b = WIRE__VALUE__INIT, own = WIRE__VALUE__INIT, *values[] = {&a, &b}, *mine[] = {&own};
    Wire__Micros deadline = WIRE__MICROS__INIT, timeout = WIRE__MICROS__INIT;
    Wire__Options o = WIRE__OPTIONS__INIT, c = WIRE__OPTIONS__INIT;
    Wire__JournalBatch *record;
    a.key = (char *)(uintptr_t)"user";
    a.value = (char *)(uintptr_t)"ada";
    b.key = own.key = (char *)(uintptr_t)"tier";
    b.value = (char *)(uintptr_t)"gold";
    own.value = (char *)(uintptr_t)"lead";
    o.n_values = 2;
    o.values = values;
    o.traceparent = (char *)(uintptr_t)"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    o.tracestate = (char *)(uintptr_t)"k=v";
    deadline.us = 60000000;
    timeout.us = 20000000;
    o.deadline = &deadline;
    o.timeout = &timeout;
    fly(w, &o);
    pass(w, 5 * NS_PER_S);
    c.n_values = 1;
    c.values = mine;
    submit_child(w, &c, 77);
    const Wire__Options *got = journaled(w, 2, &record);
    assert_int_equal(got->n_values, 2);
    assert_string_equal(got->values[0]->value, "lead");
    assert_string_equal(got->values[1]->value, "ada");
    assert_memory_equal(got->traceparent, o.traceparent, 36);
    assert_true(wire_traceparent_ok(got->traceparent) && strcmp(got->traceparent, o.traceparent) != 0);
    assert_string_equal(got->tracestate, "k=v");
    /* Nobody has said that the attempt runs: the timeout counts from now at the latest. */
    assert_int_equal(got->deadline->us, 20000000);
    wire__journal_batch__free_unpacked(record, NULL);
}

static void the_attempt_s_own_timeout_counts_from_its_start(void **state)
{
    struct world *w = *state;
    Wire__Micros timeout = WIRE__MICROS__INIT, shorter = WIRE__MICROS__INIT;
    Wire__Options o = WIRE__OPTIONS__INIT, c = WIRE__OPTIONS__INIT, d = WIRE__OPTIONS__INIT;
    Wire__JournalBatch *record;
    timeout.us = 8000000;
    o.timeout = &timeout;
    fly(w, &o);
    started(w, 11, 1, 0, 1, 1);
    pass(w, 5 * NS_PER_S);
    submit_child(w, &c, 77);
    assert_int_equal(journaled(w, 2, &record)->deadline->us, 3000000);
    wire__journal_batch__free_unpacked(record, NULL);
    shorter.us = 1000000;
    d.deadline = &shorter;
    submit_child(w, &d, 78);
    assert_int_equal(journaled(w, 3, &record)->deadline->us, 1000000);
    wire__journal_batch__free_unpacked(record, NULL);
}

static void only_a_running_attempt_has_children(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT, c = WIRE__OPTIONS__INIT;
    fly(w, &o);
    fence.attempt = 2;
    submit_child(w, &c, 77);
    EXPECT(w, "refused 0 next=0\n");
    has(w->refusal, "attempt 2 of task 0 of batch ");
    fence.attempt = 1;
    speak_of(w, parent_id, 2);
    finished(w, 11, 1, 0, 1, 1);
    tick(w);
    submit_child(w, &c, 78);
    EXPECT(w, "refused 0 next=0\n");
    has(w->refusal, "has ended");
    c.detach = true;
    submit_child(w, &c, 79);
    has(w->trace, "submitted");
}

static void when_it_ends_by_itself_they_go_on(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT, c = WIRE__OPTIONS__INIT;
    fly(w, &o);
    nest(w, &c);
    recorded_parent(w, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__FAILED);
    finished(w, 11, 1, 1, 1, 1);
    recorded(w, 11, 1, 1, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);
    tick(w);
    committed(w);
    has(w->trace, "L1 retire\n");           /* the parent is complete */
    lacks(w->trace, "parent");
    has(w->trace, "assign");
    /* Nor does a restart find it abandoned. */
    restart(w);
    client_hello(w);
    sink_hello(w);
    forget(w);
    pass(w, 5 * NS_PER_S);
    committed(w);
    speak_of(w, child_id, 2);
    records(w, 0, 0, 0, 0, 0);
    pass(w, 5 * NS_PER_S);
    committed(w);
    lacks(w->trace, "parent");
}

static void a_cancelled_parent_cancels_them(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT, c = WIRE__OPTIONS__INIT;
    fly(w, &o);
    char parent_short[16];
    snprintf(parent_short, sizeof parent_short, "%s", w->short_id);
    nest(w, &c);
    snprintf(w->short_id, sizeof w->short_id, "%s", parent_short);
    cancel(w, 0, 1);
    committed(w);                           /* the cancel, and with it its child's */
    committed(w);
    tick(w);
    has(w->trace, "cancelled parent\n");
    has(w->sentence, "the attempt that submitted it, task 0 of batch ");
    snprintf(w->short_id, sizeof w->short_id, "%s", child_short);
    forget(w);
    status(w);
    has(w->trace, "status 2 ");
}

static void a_timeout_cancels_them_and_theirs(void **state)
{
    struct world *w = *state;
    Wire__RetryRule retry = WIRE__RETRY_RULE__INIT;
    Wire__Options o = WIRE__OPTIONS__INIT, c = WIRE__OPTIONS__INIT, d = WIRE__OPTIONS__INIT;
    retry.retries = 1;
    retry.on_deadline_exceeded = true;
    o.retry = &retry;
    fly(w, &o);
    nest(w, &c);
    /* Task 1 of the parent ends, so that the child's first gets its slot, and has a child of its own. */
    speak_of(w, parent_id, 2);
    finished(w, 11, 1, 1, 1, 1);
    tick(w);
    has(w->trace, "assign");
    Wire__Fence grand = fence;
    grand.batch = wire_id_bytes(child_id);
    d.parent = &grand;
    submit(w, &d, 78);
    committed(w);
    has(w->trace, "submitted");
    uint8_t grandchild[WIRE_ID];
    memcpy(grandchild, w->batch, WIRE_ID);
    registered(w);
    chunk(w, 0, "z", true);
    committed(w);
    registered(w);
    forget(w);
    recorded_parent(w, WIRE__RESULT_KIND__IS_ATTEMPT, WIRE__VERDICT__DEADLINE_EXCEEDED);
    committed(w);
    committed(w);
    tick(w);
    has(w->trace, "L1 cancel 0 parent\n");      /* what runs of the child */
    has(w->trace, " 0+1 cancelled parent\n");   /* what is queued of the grandchild */
}

static void a_lost_worker_s_attempts_abandon_them(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT, c = WIRE__OPTIONS__INIT;
    fly(w, &o);
    nest(w, &c);
    ledger_lane(w->ledger, w->now, lane_of(1), false);
    pass(w, NS_PER_S);
    committed(w);
    lacks(w->trace, "parent");                  /* it may come back */
    pass(w, 2 * NS_PER_S);
    committed(w);
    tick(w);
    has(w->trace, "cancelled parent\n");
}

static void detached_ones_do_not_care(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT, c = WIRE__OPTIONS__INIT;
    fly(w, &o);
    c.detach = true;
    nest(w, &c);
    ledger_lane(w->ledger, w->now, lane_of(1), false);
    pass(w, 4 * NS_PER_S);
    committed(w);
    tick(w);
    lacks(w->trace, "parent");
}

static void a_restart_waits_for_the_parent_s_worker(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT, c = WIRE__OPTIONS__INIT;
    Wire__Holding h = WIRE__HOLDING__INIT, *held[] = {&h};
    fly(w, &o);
    nest(w, &c);
    restart(w);
    client_hello(w);
    sink_hello(w);
    submit_child(w, &c, 79);                    /* while nobody knows where the parent is */
    has(w->trace, "refused 4");
    h.fence = &fence;
    h.state = WIRE__HOLDING_STATE__RUNNING;
    worker_hello(w, 11, "w1", 2, held, 1);
    worker_opened(w, 11, 1);
    speak_of(w, parent_id, 2);
    records(w, 0, 0, 0, 0, 0);
    speak_of(w, child_id, 2);
    records(w, 0, 0, 0, 0, 0);
    pass(w, 6 * NS_PER_S);
    committed(w);
    lacks(w->trace, "parent");
    submit_child(w, &c, 79);
    has(w->trace, "submitted");
}

static void a_parent_that_no_worker_holds_after_a_restart_is_given_up(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT, c = WIRE__OPTIONS__INIT;
    fly(w, &o);
    nest(w, &c);
    restart(w);
    client_hello(w);
    sink_hello(w);
    speak_of(w, child_id, 2);
    records(w, 0, 0, 0, 0, 0);
    speak_of(w, parent_id, 2);
    records(w, 0, 0, 0, 0, 0);
    speak_of(w, child_id, 2);
    registered(w);
    forget(w);
    pass(w, 3 * NS_PER_S);
    committed(w);
    lacks(w->trace, "parent");                  /* its worker has the time of two graces */
    pass(w, 2 * NS_PER_S);
    committed(w);
    tick(w);
    has(w->trace, "cancelled parent\n");
}

static void one_that_is_recorded_after_a_restart_has_ended_by_itself(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT, c = WIRE__OPTIONS__INIT;
    fly(w, &o);
    nest(w, &c);
    restart(w);
    client_hello(w);
    sink_hello(w);
    speak_of(w, child_id, 2);
    records(w, 0, 0, 0, 0, 0);
    speak_of(w, parent_id, 2);
    records(w, 0, 1, 0, 0, 0);
    pass(w, 8 * NS_PER_S);
    committed(w);
    tick(w);
    lacks(w->trace, "parent");
}

static void the_deadlock_is_named(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT, c = WIRE__OPTIONS__INIT;
    fly(w, &o);
    char parent_short[16];
    snprintf(parent_short, sizeof parent_short, "%s", w->short_id);
    nest(w, &c);
    status(w);
    assert_string_equal(w->note, "");           /* task 1 of the parent may still end */
    fence.first = 1;
    submit_child(w, &c, 78);
    registered(w);
    chunk(w, 0, "v", true);
    committed(w);
    registered(w);
    tick(w);
    status(w);
    has(w->note, "deadlock: all slots that could run batch ");
    snprintf(w->short_id, sizeof w->short_id, "%s", parent_short);
    status(w);
    has(w->note, "deadlock");
    worker_hello(w, 12, "w2", 1, NULL, 0);
    worker_opened(w, 12, 2);
    tick(w);
    status(w);
    assert_string_equal(w->note, "");
    Wire__Explain e = WIRE__EXPLAIN__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    e.ref = child_short;
    m.what_case = WIRE__REQUEST__WHAT_EXPLAIN;
    m.explain = &e;
    request(w, &m, "");
    has(w->story, "submitted by attempt 1 of task 0 of batch ");
    e.ref = parent_short;
    request(w, &m, "");
    has(w->story, "task 0: its attempt 1 has submitted batch ");
}

static void a_halt_that_lets_finish_lets_them_too(void **state)
{
    struct world *w = *state;
    Wire__HaltRule rule = WIRE__HALT_RULE__INIT;
    Wire__Options o = WIRE__OPTIONS__INIT, c = WIRE__OPTIONS__INIT;
    rule.when = WIRE__HALT_WHEN__HALT_SOON;
    rule.failures = 1;
    o.halt = &rule;
    fly(w, &o);
    nest(w, &c);
    speak_of(w, parent_id, 2);
    finished(w, 11, 1, 1, 1, 1);
    recorded(w, 11, 1, 1, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__FAILED, true);
    committed(w);
    tick(w);
    lacks(w->trace, "parent");
    cancel(w, 0, 0);                            /* of the child, whose name is the last */
    committed(w);
    tick(w);
    has(w->trace, "L1 cancel 0 cancel\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_inherits_values_trace_and_time, setup, teardown),
        cmocka_unit_test_setup_teardown(the_attempt_s_own_timeout_counts_from_its_start, setup, teardown),
        cmocka_unit_test_setup_teardown(only_a_running_attempt_has_children, setup, teardown),
        cmocka_unit_test_setup_teardown(when_it_ends_by_itself_they_go_on, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cancelled_parent_cancels_them, setup, teardown),
        cmocka_unit_test_setup_teardown(a_timeout_cancels_them_and_theirs, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_worker_s_attempts_abandon_them, setup, teardown),
        cmocka_unit_test_setup_teardown(detached_ones_do_not_care, setup, teardown),
        cmocka_unit_test_setup_teardown(a_restart_waits_for_the_parent_s_worker, setup, teardown),
        cmocka_unit_test_setup_teardown(a_parent_that_no_worker_holds_after_a_restart_is_given_up, setup, teardown),
        cmocka_unit_test_setup_teardown(one_that_is_recorded_after_a_restart_has_ended_by_itself, setup, teardown),
        cmocka_unit_test_setup_teardown(the_deadlock_is_named, setup, teardown),
        cmocka_unit_test_setup_teardown(a_halt_that_lets_finish_lets_them_too, setup, teardown),
    };
    return cmocka_run_group_tests_name("ledger_parent", tests, NULL, NULL);
}
