/* What an agent says and hears: hellos, the lane and its breaks, the lease, results and their release, leaving. */
#include "tests/unit/agent_world.h"

/* ---- the lane and the control channel ---- */

static void a_gap_closes_the_lane(void **state)
{
    struct world *w = *state;
    shake_hands(w);
    announce(w, batch_a, -1);
    assign(w, batch_a, 0, 3, "a b c");
    tick(w);
    forget_trace(w);
    pass(w, 300 * MS);
    forget_trace(w);
    w->sequence++;
    assign(w, batch_a, 3, 1, "d");
    EXPECT(w, "close\n");
    assign(w, batch_a, 4, 1, "e");
    assert_int_equal(counts(w).stale_messages, 1);
    tick(w);
    EXPECT(w, "hello running a0+2@1.1 queued a2+1@1.1\n");
    end_ok(w, 0, "A");
    tick(w);
    EXPECT(w, "run slot=0 a2.1 payload=c\nresult a0+1@1.1 ok slot=1 flags=8 body=A\n");
    welcome_dropping(w, NULL, 0);
    open_lane(w);
    tick(w);
    /* What ended between hello and open is told on the new lane. */
    EXPECT(w, "sink 5557\ndial 5600\nopened\nbeat 2 read=1\nfinished a0+1@1.1\n");
}

static void a_wrong_session_closes_the_lane(void **state)
{
    struct world *w = *state;
    shake_hands(w);
    Wire__Beat beat = WIRE__BEAT__INIT;
    Wire__Lane m = WIRE__LANE__INIT;
    m.what_case = WIRE__LANE__WHAT_BEAT;
    m.beat = &beat;
    m.session = SESSION + 1;
    m.lane_epoch = w->lane_epoch;
    m.sequence = 2;
    agent_lane(w->agent, w->now, &m, (struct slice){0});
    EXPECT(w, "close\n");
    tick(w);
    EXPECT(w, "");
    /* Hellos keep a pause between them. */
    pass(w, 250 * MS);
    EXPECT(w, "hello\n");
}

static void an_older_lane_is_ignored(void **state)
{
    struct world *w = *state;
    w->lane_epoch = 5;
    shake_hands(w);
    w->lane_epoch = 5;
    open_lane(w);
    EXPECT(w, "");
    assert_int_equal(counts(w).stale_messages, 1);
    assert_true(counts(w).lane_open);
}

static void a_lane_must_open_in_time(void **state)
{
    struct world *w = *state;
    agent_control(w->agent, w->now, true);
    welcome_dropping(w, NULL, 0);
    tick(w);
    forget_trace(w);
    w->now = mono_add(w->now, 2 * S);
    /* A process that stood still reads first and judges then. */
    w->next = agent_tick(w->agent, w->now, false);
    EXPECT(w, "beat 2 read=0\n");
    tick(w);
    EXPECT(w, "close\nhello\n");
}

static void silence_closes_the_lane(void **state)
{
    struct world *w = *state;
    shake_hands(w);
    announce(w, batch_a, -1);
    assign(w, batch_a, 0, 1, "a");
    tick(w);
    while (w->len < sizeof w->trace / 2 && strstr(w->trace, "close") == NULL)
        pass(w, 500 * MS);
    assert_int_equal(w->now.ns, 1010 * S);
    assert_non_null(strstr(w->trace, "close\nhello running a0+1@1.1\n"));
}

static void a_new_connection_says_hello(void **state)
{
    struct world *w = *state;
    shake_hands(w);
    announce(w, batch_a, -1);
    assign(w, batch_a, 0, 4, "a b c d");
    tick(w);
    forget_trace(w);
    agent_control(w->agent, w->now, false);
    end_ok(w, 0, "A");
    end_ok(w, 1, "B");
    tick(w);
    EXPECT(w, "run slot=1 a2.1 payload=c\nrun slot=0 a3.1 payload=d\nresult a0+2@1.1 ok slot=1,2 flags=8 body=AB\n");
    agent_control(w->agent, w->now, true);
    EXPECT(w, "close\nhello running a3+1@1.1 running a2+1@1.1 ended a0+2@1.1\n");
    Wire__Fence given_up[] = {fence_of(batch_a, 3, 1, 1), fence_of(batch_a, 0, 2, 1)};
    Wire__Fence *fences[] = {&given_up[0], &given_up[1]};
    welcome_dropping(w, fences, 2);
    open_lane(w);
    tick(w);
    EXPECT(w, "stop slot=0 grace=2000ms\nsink 5557\ndial 5600\nopened\nbeat 2 read=1\n");
    assert_int_equal(counts(w).unreleased, 0);
    end_killed(w, 0);
    end_ok(w, 1, "C");
    tick(w);
    EXPECT(w, "result a2+1@1.1 ok slot=2 flags=8 body=C\nfinished a3+1@1.1 a2+1@1.1\n");
}

static void a_welcome_drops_what_is_queued(void **state)
{
    struct world *w = *state;
    shake_hands(w);
    announce(w, batch_a, -1);
    assign(w, batch_a, 0, 6, "a b c d e f");
    tick(w);
    agent_control(w->agent, w->now, false);
    agent_control(w->agent, w->now, true);
    forget_trace(w);
    Wire__Fence given_up = fence_of(batch_a, 3, 2, 1), other = fence_of(batch_a, 5, 1, 2);
    Wire__Fence *fences[] = {&given_up, &other};
    welcome_dropping(w, fences, 2);
    assert_int_equal(counts(w).queued, 2);
    forget_trace(w);
    /* The options of what is held outlive the lane that announced them. */
    end_ok(w, 0, "");
    end_ok(w, 1, "");
    tick(w);
    EXPECT(w, "beat 2 read=0\nrun slot=1 a2.1 payload=c\nrun slot=0 a5.1 payload=f\nresult a0+2@1.1 ok slot=1,2 flags=8\n");
}

static void say_hello_is_answered_once(void **state)
{
    struct world *w = *state;
    shake_hands(w);
    Wire__SayHello say_it = WIRE__SAY_HELLO__INIT;
    Wire__Downward m = WIRE__DOWNWARD__INIT;
    m.what_case = WIRE__DOWNWARD__WHAT_SAY_HELLO;
    m.say_hello = &say_it;
    downward(w, &m);
    downward(w, &m);
    EXPECT(w, "close\nhello\n");
}

static void a_goodbye_keeps_what_is_held(void **state)
{
    struct world *w = *state;
    shake_hands(w);
    announce(w, batch_a, -1);
    assign(w, batch_a, 0, 1, "a");
    tick(w);
    forget_trace(w);
    Wire__Goodbye goodbye = WIRE__GOODBYE__INIT;
    Wire__Downward m = WIRE__DOWNWARD__INIT;
    m.what_case = WIRE__DOWNWARD__WHAT_GOODBYE;
    m.goodbye = &goodbye;
    downward(w, &m);
    agent_lane_lost(w->agent, w->now, "gone");
    pass(w, 1 * S);
    EXPECT(w, "close\n");
    agent_control(w->agent, w->now, false);
    agent_control(w->agent, w->now, true);
    EXPECT(w, "hello running a0+1@1.1\n");
}

static void nothing_starts_without_a_lease(void **state)
{
    struct world *w = *state;
    shake_hands(w);
    announce(w, batch_a, -1);
    assign(w, batch_a, 0, 3, "a b c");
    tick(w);
    forget_trace(w);
    pass(w, 1500 * MS);                 /* heartbeat 2 is sent, and nothing was answered since 1 */
    EXPECT(w, "beat 2 read=3\nstarted a0+2@1.1\n");
    assert_false(counts(w).lease_valid);
    end_ok(w, 0, "");
    pass(w, 10 * MS);
    EXPECT(w, "finished a0+1@1.1\nresult a0+1@1.1 ok slot=1 flags=8\n");
    answer(w, 99);
    tick(w);
    EXPECT(w, "");
    /* The lease counts from when the heartbeat was sent, not from when its answer came. */
    pass(w, 900 * MS);
    answer(w, 2);
    tick(w);
    EXPECT(w, "run slot=0 a2.1 payload=c\n");
    pass(w, 600 * MS);
    assert_false(counts(w).lease_valid);
}

/* ---- results ---- */

static void results_wait_for_the_sink(void **state)
{
    struct world *w = *state;
    shake_hands(w);
    announce(w, batch_a, -1);
    assign(w, batch_a, 0, 2, "a b");
    tick(w);
    forget_trace(w);
    agent_sink(w->agent, w->now, false);
    end_ok(w, 0, "A");
    tick(w);
    EXPECT(w, "finished a0+1@1.1\n");
    agent_sink(w->agent, w->now, true);
    w->sink_full = true;
    tick(w);
    EXPECT(w, "");
    assert_int_equal(w->next.ns - w->now.ns, 20 * MS);    /* the report of starts; then the sink again */
    w->sink_full = false;
    agent_sink(w->agent, w->now, true);
    tick(w);
    EXPECT(w, "result a0+1@1.1 ok slot=1 flags=8 body=A\n");
    /* Room alone sends nothing twice; a new connection does. */
    agent_sink(w->agent, w->now, true);
    tick(w);
    EXPECT(w, "");
    agent_sink(w->agent, w->now, false);
    agent_sink(w->agent, w->now, true);
    tick(w);
    EXPECT(w, "result a0+1@1.1 ok slot=1 flags=8 body=A\n");
    assert_int_equal(counts(w).resent, 1);
}

static unsigned times_in_trace(const struct world *w, const char *text)
{
    unsigned n = 0;
    for (const char *s = w->trace; (s = strstr(s, text)) != NULL; s++)
        n++;
    return n;
}

static void an_unreleased_result_is_sent_again(void **state)
{
    struct world *w = *state;
    shake_hands(w);
    announce(w, batch_a, -1);
    assign(w, batch_a, 0, 1, "a");
    tick(w);
    end_ok(w, 0, "A");
    tick(w);
    static const int64_t pauses[] = {5, 10, 20, 40, 60, 60};
    for (size_t i = 0; i < sizeof pauses / sizeof *pauses; i++) {
        forget_trace(w);
        live(w, pauses[i] * S - 100 * MS);
        assert_int_equal(times_in_trace(w, "result"), 0);
        live(w, 100 * MS);
        assert_int_equal(times_in_trace(w, "result a0+1@1.1 ok"), 1);
    }
    release(w, batch_a, 0, 1, 1);
    forget_trace(w);
    live(w, 130 * S);
    assert_int_equal(times_in_trace(w, "result"), 0);
}

static void unreleased_results_hold_back_new_starts(void **state)
{
    struct world *w = *state;
    char *big = malloc((1u << 20) + 1);
    assert_non_null(big);
    memset(big, 'x', 1u << 20);
    big[1u << 20] = '\0';
    shake_hands(w);
    announce(w, batch_a, -1);
    assign(w, batch_a, 0, 3, "a b c");
    tick(w);
    forget_trace(w);
    end_ok(w, 0, big);
    pass(w, 10 * MS);
    EXPECT(w, "finished a0+1@1.1\nresult a0+1@1.1 ok slot=1 flags=8 body=1048576 bytes\n");
    release(w, batch_a, 0, 1, 1);
    tick(w);
    EXPECT(w, "run slot=0 a2.1 payload=c\n");
    free(big);
}

/* ---- leaving ---- */

static void a_drain_gives_back_and_finishes(void **state)
{
    struct world *w = *state;
    shake_hands(w);
    announce(w, batch_a, -1);
    assign(w, batch_a, 0, 4, "a b c d");
    tick(w);
    forget_trace(w);
    agent_drain(w->agent, w->now);
    tick(w);
    EXPECT(w, "beat 2 read=3 draining\nreturned cause=1 a2+2@1.1\n");
    assign(w, batch_a, 4, 1, "e");
    tick(w);
    EXPECT(w, "returned cause=1 a4+1@1.1\n");
    end_ok(w, 0, "A");
    tick(w);
    EXPECT(w, "result a0+1@1.1 ok slot=1 flags=8 body=A\nfinished a0+1@1.1\n");
    /* Cancels go on working. */
    cancel(w, batch_a, 1, 1, WIRE__REASON__CANCEL, false);
    EXPECT(w, "stop slot=1 grace=2000ms\nconfirmed 9 dropped=0 stopping=1\n");
    end_killed(w, 1);
    release(w, batch_a, 0, 1, 1);
    tick(w);
    EXPECT(w, "result a1+1@1.1 cancelled cancel slot=2\nfinished a1+1@1.1\n");
    release(w, batch_a, 1, 1, 1);
    tick(w);
    EXPECT(w, "goodbye 0\nleave 0\n");
    tick(w);
    EXPECT(w, "");
    assert_true(mono_is_never(w->next));
}

static void a_drain_cuts_off_at_its_timeout(void **state)
{
    struct world *w = *state;
    shake_hands(w);
    announce(w, batch_a, -1);
    assign(w, batch_a, 0, 2, "a b");
    tick(w);
    Wire__LaneDrain drain = WIRE__LANE_DRAIN__INIT;
    Wire__Lane m = WIRE__LANE__INIT;
    m.what_case = WIRE__LANE__WHAT_DRAIN;
    m.drain = &drain;
    lane(w, &m, (struct slice){0});
    tick(w);
    live(w, 29900 * MS);
    forget_trace(w);
    pass(w, 100 * MS);
    assert_non_null(strstr(w->trace, "stop slot=0 grace=2000ms\nstop slot=1 grace=2000ms\n"));
    forget_trace(w);
    end_killed(w, 0);
    end_ok(w, 1, "just in time");
    tick(w);
    EXPECT(w, "result a1+1@1.1 ok slot=2 flags=8 body=just in time\nfinished a1+1@1.1\nreturned cause=1 cut_off a0+1@1.1\n");
    /* Nobody releases it: it is left behind, and counted. */
    live(w, 2900 * MS);
    assert_null(strstr(w->trace, "leave"));
    forget_trace(w);
    pass(w, 100 * MS);
    assert_non_null(strstr(w->trace, "goodbye 1\nleave 1\n"));
}

static void a_drain_without_a_ventilator_ends(void **state)
{
    struct world *w = *state;
    agent_drain(w->agent, w->now);
    tick(w);
    EXPECT(w, "leave 0\n");
}

static void a_lane_that_moves_again_is_told_at_once(void **state)
{
    struct world *w = *state;
    shake_hands(w);
    announce(w, batch_a, -1);
    live(w, S);
    pass(w, 2 * S);                           /* a large payload is under way: no lease for as long */
    assert_false(counts(w).lease_valid);
    forget_trace(w);
    uint64_t before = w->last_beat;
    pass(w, 400 * MS);                        /* the next heartbeat isn't due yet */
    assert_int_equal(w->last_beat, before);
    assign(w, batch_a, 0, 1, "a");
    tick(w);
    assert_int_equal(w->last_beat, before + 1);
    assert_null(strstr(w->trace, "run"));
    answer(w, w->last_beat);
    tick(w);
    assert_non_null(strstr(w->trace, "run slot=0 a0.1 payload=a\n"));
    answer(w, 0);                             /* heard, and no lease given */
    pass(w, 2 * S);
    assert_false(counts(w).lease_valid);
}

static void a_second_signal_leaves_at_once(void **state)
{
    struct world *w = *state;
    shake_hands(w);
    announce(w, batch_a, -1);
    assign(w, batch_a, 0, 2, "a b");
    tick(w);
    forget_trace(w);
    agent_drain(w->agent, w->now);
    agent_leave_now(w->agent, w->now);
    EXPECT(w, "goodbye 0\nleave 0\n");
    end_ok(w, 0, "A");
    tick(w);
    EXPECT(w, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_gap_closes_the_lane),
        TEST(a_wrong_session_closes_the_lane),
        TEST(an_older_lane_is_ignored),
        TEST(a_lane_must_open_in_time),
        TEST(silence_closes_the_lane),
        TEST(a_new_connection_says_hello),
        TEST(a_welcome_drops_what_is_queued),
        TEST(say_hello_is_answered_once),
        TEST(a_goodbye_keeps_what_is_held),
        TEST(nothing_starts_without_a_lease),
        TEST(a_lane_that_moves_again_is_told_at_once),
        TEST(results_wait_for_the_sink),
        TEST(an_unreleased_result_is_sent_again),
        TEST(unreleased_results_hold_back_new_starts),
        TEST(a_drain_gives_back_and_finishes),
        TEST(a_drain_cuts_off_at_its_timeout),
        TEST(a_drain_without_a_ventilator_ends),
        TEST(a_second_signal_leaves_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
