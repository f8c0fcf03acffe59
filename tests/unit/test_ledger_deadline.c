/* Deadlines across restarts of the host, and tasks that could not end in time any more. */
#include "tests/unit/ledger_world.h"

static void extend(struct world *w, uint64_t seconds)
{
    Wire__Extend e = WIRE__EXTEND__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    e.ref = w->short_id;
    e.deadline_us = seconds * 1000000;
    m.what_case = WIRE__REQUEST__WHAT_EXTEND;
    m.extend = &e;
    request(w, &m, "");
    committed(w);
    tick(w);
}

static void what_cannot_end_in_time_is_not_dispatched(void **state)
{
    struct world *w = *state;
    Wire__Micros ten = WIRE__MICROS__INIT;
    Wire__Options o = WIRE__OPTIONS__INIT;
    ten.us = 10000000;
    o.deadline = &ten;
    o.min_runtime_us = 4000000;
    sink_hello(w);
    batch(w, &o, "abc");
    w->trace[0] = '\0';
    pass(w, 5900 * MS);
    EXPECT(w, "");
    pass(w, 200 * MS);
    EXPECT(w, "closing #1 0+3 deadline_exceeded deadline\n");
    recorded_closing(w, 1, 3);
    status(w);
    EXPECT(w, "status 3 total=3 queued=0 running=0 ok=0 failed=0 deadline=3 cancelled=0 lost=0 dup=0 retried=0\n");
}

static void an_extension_lets_new_tasks_start_again(void **state)
{
    struct world *w = *state;
    Wire__Micros ten = WIRE__MICROS__INIT;
    Wire__Options o = WIRE__OPTIONS__INIT;
    ten.us = 10000000;
    o.deadline = &ten;
    o.min_runtime_us = 4000000;
    cluster(w);
    submit(w, &o, 1);
    committed(w);
    registered(w);
    pass(w, 7 * NS_PER_S);
    w->trace[0] = '\0';
    chunk(w, 0, "a", false);
    committed(w);
    tick(w);
    EXPECT(w, "closing #1 0+1 deadline_exceeded deadline\nadmitted 1 state=0\n");
    extend(w, 10);
    w->trace[0] = '\0';
    chunk(w, 1, "b", true);
    committed(w);
    tick(w);
    assert_non_null(strstr(w->trace, "assign 1+1"));
}

/* The wall clock was set back while the host was down, and is not asked again after the first restart. */
static void a_deadline_is_judged_by_the_wall_clock_once(void **state)
{
    struct world *w = *state;
    Wire__Micros ten = WIRE__MICROS__INIT;
    Wire__Options o = WIRE__OPTIONS__INIT;
    ten.us = 10000000;
    o.deadline = &ten;
    sink_hello(w);
    batch(w, &o, "abc");
    w->boot = "another";
    w->now.ns = 1;                      /* its clock begins anew */
    w->wall.ns = -NS_PER_S;             /* nothing seems to have passed */
    restart(w);
    pass(w, 9 * NS_PER_S);
    restart(w);                         /* the same boot: exact from here on */
    sink_hello(w);
    registered(w);
    records(w, 0, 0, 0, 0, 0);
    w->trace[0] = '\0';
    pass(w, 900 * MS);
    EXPECT(w, "");
    pass(w, 200 * MS);
    assert_non_null(strstr(w->trace, "closing #1 0+3 deadline_exceeded deadline\n"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_cannot_end_in_time_is_not_dispatched),
        TEST(an_extension_lets_new_tasks_start_again),
        TEST(a_deadline_is_judged_by_the_wall_clock_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
