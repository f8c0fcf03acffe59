/* What the ledger does with what lost workers had: who is suspected, who flies alone, who is judged. */
#include "tests/unit/ledger_world.h"

/* A worker that is killed and starts anew under its name has another peer and another lane each time. */
struct plane {
    ledger_peer peer;
    unsigned lane;
    const char *name;
    uint32_t slots;
};

static void dies(struct world *w, struct plane *p)
{
    ledger_lane(w->ledger, w->now, lane_of(p->lane), false);
    worker_hello(w, ++p->peer, p->name, p->slots, NULL, 0);
    worker_opened(w, p->peer, ++p->lane);
    tick(w);
    loaded(w);
}

static void arrives(struct world *w, const struct plane *p)
{
    worker_hello(w, p->peer, p->name, p->slots, NULL, 0);
    worker_opened(w, p->peer, p->lane);
    tick(w);
    loaded(w);
}

static void explain(struct world *w, uint64_t index)
{
    Wire__Explain e = WIRE__EXPLAIN__INIT;
    Wire__Number n = WIRE__NUMBER__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    n.n = index;
    e.ref = w->short_id;
    e.index = &n;
    m.what_case = WIRE__REQUEST__WHAT_EXPLAIN;
    m.explain = &e;
    request(w, &m, "");
}

static void ends(struct world *w, const struct plane *p, uint64_t first, uint32_t count, uint32_t attempt)
{
    finished(w, p->peer, p->lane, first, count, attempt);
    recorded(w, p->peer, first, count, attempt, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);
    tick(w);
    loaded(w);
}

static void returns(struct world *w, const struct plane *p, uint64_t first, uint32_t count, uint32_t attempt)
{
    returned(w, p->peer, p->lane, first, count, attempt);
    confirmed(w, p->peer, p->lane, w->recall, count, 0);
    tick(w);
    loaded(w);
}

/* A batch of numbers. */
static void range(struct world *w, uint64_t count)
{
    Wire__Options o = WIRE__OPTIONS__INIT;
    Wire__Range r = WIRE__RANGE__INIT;
    r.count = count;
    r.step = 1;
    o.range = &r;
    submit(w, &o, 3);
    committed(w);
    w->total = count;
    registered(w);
    tick(w);
}

/* The tests read the trace from the last one of these on. */
static void forget(struct world *w)
{
    w->trace[0] = '\0';
}

static void the_innocent_are_never_judged(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    struct plane p = {11, 1, "w1", 2};
    cluster(w);
    batch(w, &o, "abc");
    forget(w);
    dies(w, &p);
    EXPECT(w, "L1 close\n12: welcome lane=2 dropped=0\nL2 open\nload b1 0-3\nL2 announce\nL2 assign 0+2 #2 left=0 'ab'\nL2 assign 2+1 #2 left=0 'c'\n");
    dies(w, &p);                              /* one more would end all three: each flies alone */
    EXPECT(w, "L2 close\n13: welcome lane=3 dropped=0\nL3 open\nload b1 0-3\nL3 announce\nL3 assign 0+1 #3 left=0 'a'\n");
    status(w);
    assert_string_equal(w->note, "2 tasks were at lost workers before and wait for a worker that holds nothing else");
    explain(w, 1);
    assert_non_null(strstr(w->story, "task 1: queued again, after 2 attempts; 2 workers were lost while it ran: w1, w1\n"
                                     "task 1: one more would end it: it waits for a worker that holds nothing else\n"));
    forget(w);
    dies(w, &p);                              /* that was it: it is judged, and nobody else */
    EXPECT(w, "L3 close\nclosing #1 0+1 lost losses\n14: welcome lane=4 dropped=0\nL4 open\nL4 announce\nL4 assign 1+1 #3 left=0 'b'\n");
    assert_string_equal(w->sentence, "3 workers were lost while it ran: w1, w1, w1");
    ends(w, &p, 1, 1, 3);
    EXPECT(w, "L4 assign 2+1 #3 left=0 'c'\nL4 release 1+1\n");
    ends(w, &p, 2, 1, 3);
    recorded_closing(w, 1, 1);
    forget(w);
    status(w);
    EXPECT(w, "status 3 total=3 queued=0 running=0 ok=2 failed=0 deadline=0 cancelled=0 lost=1 dup=0 retried=0\n");
}

static void a_busy_worker_is_emptied_for_it(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    struct plane p = {11, 1, "w1", 2}, q = {50, 2, "w2", 2};
    cluster(w);
    batch(w, &o, "abcdefghijklmnop");
    arrives(w, &q);
    p.lane = 2;                               /* the next one it gets is 3 */
    ledger_lane(w->ledger, w->now, lane_of(1), false);
    p.peer = 12, p.lane = 3;
    arrives(w, &p);                           /* 0 to 2 are suspects now, and all at w1 again */
    forget(w);
    ledger_lane(w->ledger, w->now, lane_of(3), false);
    pass(w, 2100 * MS);                       /* w1 doesn't come back, and w2 has 3 to 5 */
    EXPECT(w, "L3 close\nL2 recall 3\n");
    status(w);
    assert_string_equal(w->note, "3 tasks were at lost workers before and wait for a worker that holds nothing else"
                                 " (w2 gets nothing new, and has 3 to finish first)");
    forget(w);
    returns(w, &q, 5, 1, 1);                  /* which isn't given back to it at once */
    ends(w, &q, 3, 1, 1);
    EXPECT(w, "");
    ends(w, &q, 4, 1, 1);
    EXPECT(w, "L2 assign 0+1 #3 left=0 'a'\nL2 release 3+1\nL2 release 4+1\n");
    ends(w, &q, 0, 1, 3);                     /* it is empty again: the next one */
    EXPECT(w, "L2 assign 1+1 #3 left=0 'b'\nL2 release 0+1\n");
    ends(w, &q, 1, 1, 3);
    ends(w, &q, 2, 1, 3);
    EXPECT(w, "L2 assign 2+1 #3 left=0 'c'\nL2 release 1+1\nL2 assign 5+1 #2 left=0 'f'\nL2 assign 6+1 #1 left=0 'g'\n"
              "L2 assign 7+1 #1 left=0 'h'\nL2 release 2+1\n");
}

static void a_reservation_ends_when_nothing_is_left_to_fly_alone(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    struct plane p = {12, 3, "w1", 2}, q = {50, 2, "w2", 2};
    cluster(w);
    batch(w, &o, "abcdefghijklmnop");
    arrives(w, &q);
    ledger_lane(w->ledger, w->now, lane_of(1), false);
    arrives(w, &p);
    ledger_lane(w->ledger, w->now, lane_of(3), false);
    pass(w, 2100 * MS);
    forget(w);
    cancel(w, 0, 3);
    committed(w);
    EXPECT(w, "closing #1 0+3 cancelled cancel_task\ncancelled queued=3 running=0 finished=0 unreachable=0\n");
    ends(w, &q, 3, 1, 1);                     /* and w2 has work again */
    EXPECT(w, "L2 assign 6+1 #1 left=0 'g'\nL2 release 3+1\n");
}

static void few_suspects_are_at_one_worker(void **state)
{
    struct world *w = *state;
    struct plane p = {11, 2, "w2", 100};
    sink_hello(w);
    worker_hello(w, 10, "w0", 100, NULL, 0);
    worker_opened(w, 10, 1);
    range(w, 1000);
    forget(w);
    ledger_lane(w->ledger, w->now, lane_of(1), false);
    pass(w, 2100 * MS);
    EXPECT(w, "L1 close\n");
    arrives(w, &p);                           /* 0 to 100 were at w0: no more than 64 of them go to w2 */
    EXPECT(w, "11: welcome lane=2 dropped=0\nL2 open\nL2 announce\nL2 assign 0+64 #2 left=0 ''\nL2 assign 101+36 #1 left=0 ''\nL2 assign 137+1 #1 left=0 ''\n");
}

static void a_task_that_is_not_there_is_not_explained(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    batch(w, &o, "abc");
    explain(w, 2);
    forget(w);
    explain(w, 3);
    EXPECT(w, "refused 3 next=0\n");
    assert_non_null(strstr(w->refusal, "has 3 tasks so far; there is no task 3 to explain"));
}

static void what_had_ended_is_no_suspect(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    struct plane p = {11, 1, "w1", 2};
    cluster(w);
    batch(w, &o, "abc");
    finished(w, 11, 1, 0, 1, 1);              /* its result isn't recorded yet */
    dies(w, &p);
    explain(w, 0);
    forget(w);
    for (int i = 0; i < 3; i++) {
        finished(w, p.peer, p.lane, 0, 1, 2 + (uint32_t)i);
        dies(w, &p);
        assert_null(strstr(w->trace, "closing #1 0+1"));
    }
}

static void one_loss_is_enough_when_told_so(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    struct plane p = {11, 1, "w1", 2};
    w->max_losses = 1;
    ledger_destroy(&w->ledger);
    begin(w);
    ledger_restored(w->ledger, w->now);
    committed(w);
    client_hello(w);
    forget(w);
    cluster(w);
    batch(w, &o, "abcde");
    forget(w);
    dies(w, &p);
    assert_non_null(strstr(w->trace, "closing #1 0+2 lost losses\nclosing #2 2+1 lost losses\n"));
    assert_string_equal(w->sentence, "1 worker was lost while it ran: w1");
}

static void at_two_losses_the_second_time_is_alone(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    struct plane p = {11, 1, "w1", 2};
    w->max_losses = 2;
    ledger_destroy(&w->ledger);
    begin(w);
    ledger_restored(w->ledger, w->now);
    committed(w);
    client_hello(w);
    forget(w);
    cluster(w);
    batch(w, &o, "abcde");
    forget(w);
    dies(w, &p);
    EXPECT(w, "L1 close\n12: welcome lane=2 dropped=0\nL2 open\nL2 announce\nL2 assign 0+1 #2 left=0 'a'\n");
    dies(w, &p);
    assert_non_null(strstr(w->trace, "closing #1 0+1 lost losses\n"));
    assert_string_equal(w->sentence, "2 workers were lost while it ran: w1, w1");
}

static void a_worker_that_comes_back_was_not_lost(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    batch(w, &o, "ab");
    for (unsigned i = 1; i <= 5; i++) {       /* cut off for too long, again and again; it goes on all the time */
        ledger_lane(w->ledger, w->now, lane_of(i), false);
        pass(w, 2100 * MS);
        Wire__Fence f = fence_of(w, 0, 2, 1);
        Wire__Holding h = WIRE__HOLDING__INIT, *held = &h;
        h.fence = &f;
        h.state = WIRE__HOLDING_STATE__RUNNING;
        worker_hello(w, 11, "w1", 2, &held, 1);
        worker_opened(w, 11, i + 1);
        tick(w);
    }
    assert_null(strstr(w->trace, "closing"));
    forget(w);
    ledger_lane(w->ledger, w->now, lane_of(6), false);
    pass(w, 2100 * MS);
    explain(w, 0);
    assert_non_null(strstr(w->story, "1 worker was lost while it ran: w1\n"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_innocent_are_never_judged),
        TEST(a_busy_worker_is_emptied_for_it),
        TEST(a_reservation_ends_when_nothing_is_left_to_fly_alone),
        TEST(few_suspects_are_at_one_worker),
        TEST(a_task_that_is_not_there_is_not_explained),
        TEST(what_had_ended_is_no_suspect),
        TEST(one_loss_is_enough_when_told_so),
        TEST(at_two_losses_the_second_time_is_alone),
        TEST(a_worker_that_comes_back_was_not_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
