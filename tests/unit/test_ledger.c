/* The ledger by itself: what it says, and when. */
#include "tests/unit/ledger_world.h"

/* ---- the tests ---- */

static void nothing_is_said_before_it_is_on_disk(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    submit(w, &o, 1);
    EXPECT(w, "");
    committed(w);
    EXPECT(w, "submitted next=0 state=0\n");
    chunk(w, 0, "abc", false);
    EXPECT(w, "");
    tick(w);
    EXPECT(w, "");
    committed(w);
    tick(w);
    EXPECT(w, "admitted 3 state=0\n");
}

static void a_batch_flies(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    submit(w, &o, 1);
    tick(w);
    committed(w);
    EXPECT(w, "register total=-1\nsubmitted next=0 state=0\n");
    chunk(w, 0, "abcd", true);
    committed(w);
    tick(w);
    EXPECT(w, "admitted 4 state=1\n");       /* nothing flies before the sink has registered the batch */
    w->total = 0;                             /* an answer to the registration that had no total */
    registered(w);
    tick(w);
    EXPECT(w, "register total=4\nL1 announce\nL1 assign 0+2 #1 left=0 'ab'\nL1 assign 2+1 #1 left=0 'c'\n");
    w->total = 4;
    registered(w);
    finished(w, 11, 1, 0, 2, 1);
    tick(w);
    EXPECT(w, "L1 assign 3+1 #1 left=0 'd'\n");
    recorded(w, 11, 0, 2, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);
    tick(w);
    EXPECT(w, "");                            /* a release goes with something else, or a little later */
    pass(w, 5 * MS);
    EXPECT(w, "L1 release 0+2\n");
    status(w);
    EXPECT(w, "status 1 total=4 queued=0 running=2 ok=2 failed=0 deadline=0 cancelled=0 lost=0 dup=0 retried=0\n");
    recorded(w, 11, 2, 2, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__FAILED, true);
    tick(w);
    EXPECT(w, "L1 release 2+2\nL1 retire\n");
    status(w);
    EXPECT(w, "status 3 total=4 queued=0 running=0 ok=2 failed=2 deadline=0 cancelled=0 lost=0 dup=0 retried=0\n");
}

/* One flush stands before both; the way of the task is the longer one. */
static void what_is_admitted_flies_before_it_is_acknowledged(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    submit(w, &o, 1);
    committed(w);
    chunk(w, 0, "a", false);
    committed(w);
    tick(w);
    w->total = 0;
    registered(w);
    finished(w, 11, 1, 0, 1, 1);
    tick(w);
    w->trace[0] = '\0';
    chunk(w, 1, "b", false);
    committed(w);
    tick(w);
    EXPECT(w, "L1 assign 1+1 #1 left=0 'b'\nadmitted 2 state=0\n");
}

static void slowest(struct world *w, uint32_t most)
{
    Wire__Slowest s = WIRE__SLOWEST__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    s.most = most;
    m.what_case = WIRE__REQUEST__WHAT_SLOWEST;
    m.slowest = &s;
    request(w, &m, "");
}

static void the_slowest_are_those_that_run_longest(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    Wire__Micros timeout = WIRE__MICROS__INIT;
    cluster(w);
    timeout.us = 60000000;
    o.timeout = &timeout;
    submit(w, &o, 1);
    committed(w);
    chunk(w, 0, "abcd", true);
    committed(w);
    registered(w);
    tick(w);
    w->trace[0] = '\0';
    slowest(w, 0);
    EXPECT(w, "slowest of 0:\n");           /* at a worker, but nobody has said that it runs */
    started(w, 11, 1, 2, 1, 1);
    pass(w, NS_PER_S);
    started(w, 11, 1, 0, 2, 1);
    pass(w, NS_PER_S);
    w->trace[0] = '\0';
    slowest(w, 2);
    EXPECT(w, "slowest of 3: 2#1@w1 age=2 left=58 0#1@w1 age=1 left=59\n");
    finished(w, 11, 1, 2, 1, 1);             /* it has ended, though nothing of it is recorded yet */
    w->trace[0] = '\0';
    slowest(w, 0);
    EXPECT(w, "slowest of 2: 0#1@w1 age=1 left=59 1#1@w1 age=1 left=59\n");
}

static void a_chunk_must_be_the_next_and_continue_the_same_input(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    submit(w, &o, 1);
    committed(w);
    chunk(w, 0, "abc", false);
    committed(w);
    tick(w);
    EXPECT(w, "submitted next=0 state=0\nadmitted 3 state=0\n");
    chunk(w, 5, "xy", false);
    EXPECT(w, "refused 7 next=3\n");
    chunk(w, 0, "abc", false);               /* again, as after a lost reply */
    committed(w);
    tick(w);
    EXPECT(w, "admitted 3 state=0\n");
    submit(w, &o, 1);
    committed(w);
    EXPECT(w, "submitted next=3 state=0\n");
    submit(w, &o, 2);
    committed(w);
    EXPECT(w, "submitted next=0 state=0\n");
}

static void a_lost_worker_s_tasks_run_elsewhere(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    batch(w, &o, "ab");
    w->trace[0] = '\0';
    ledger_lane(w->ledger, w->now, lane_of(1), false);
    worker_hello(w, 12, "w2", 2, NULL, 0);
    worker_opened(w, 12, 2);
    tick(w);
    EXPECT(w, "L1 close\n12: welcome lane=2 dropped=0\nL2 open\n");
    pass(w, 1900 * MS);
    EXPECT(w, "");
    pass(w, 200 * MS);                        /* the loss grace is over: the same tasks, the next number */
    loaded(w);
    EXPECT(w, "load b1 0-2\nL2 announce\nL2 assign 0+2 #2 left=0 'ab'\n");
    recorded(w, 11, 0, 1, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);
    EXPECT(w, "L2 cancel 1 cancel_task silent\n");     /* a late result is welcome: the other attempt stops */
    recorded(w, 12, 0, 2, 2, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, false);
    status(w);
    /* The sink calls both recorded, and only one of them was heard of here: it is asked for the whole. */
    EXPECT(w, "ask\nstatus 1 total=2 queued=0 running=1 ok=1 failed=0 deadline=0 cancelled=0 lost=0 dup=2 retried=0\n");
}

static void what_comes_back_in_time_is_adopted(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    batch(w, &o, "abc");
    w->trace[0] = '\0';
    ledger_lane(w->ledger, w->now, lane_of(1), false);
    Wire__Fence f = fence_of(w, 0, 2, 1);
    Wire__Holding h = WIRE__HOLDING__INIT, *held = &h;
    h.fence = &f;
    h.state = WIRE__HOLDING_STATE__RUNNING;
    worker_hello(w, 11, "w1", 2, &held, 1);
    worker_opened(w, 11, 2);
    tick(w);
    /* 0 and 1 run on; 2 had not been read, and is assigned again. */
    loaded(w);
    EXPECT(w, "L1 close\n11: welcome lane=2 dropped=0\nL2 open\nL2 announce\nload b1 2-3\nL2 assign 2+1 #2 left=0 'c'\n");
}

static void a_task_that_kills_its_workers_is_judged_lost(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    batch(w, &o, "a");
    for (unsigned i = 1; i <= 3; i++) {
        w->trace[0] = '\0';
        ledger_lane(w->ledger, w->now, lane_of(i), false);
        worker_hello(w, 11 + i, "w1", 2, NULL, 0);     /* it started anew: lost at once */
        if (i < 3)
            worker_opened(w, 11 + i, i + 1);
        tick(w);
        loaded(w);
    }
    EXPECT(w, "L3 close\nclosing #1 0+1 lost losses\n14: welcome lane=4 dropped=0\n");
    recorded_closing(w, 1, 1);
    status(w);
    EXPECT(w, "status 3 total=1 queued=0 running=0 ok=0 failed=0 deadline=0 cancelled=0 lost=1 dup=0 retried=0\n");
}

static void a_deadline_needs_no_worker(void **state)
{
    struct world *w = *state;
    Wire__Micros two = WIRE__MICROS__INIT;
    Wire__Options o = WIRE__OPTIONS__INIT;
    two.us = 2000000;
    o.deadline = &two;
    sink_hello(w);
    batch(w, &o, "abc");
    w->trace[0] = '\0';
    pass(w, 1900 * MS);
    EXPECT(w, "");
    pass(w, 200 * MS);
    EXPECT(w, "closing #1 0+3 deadline_exceeded deadline\n");
    pass(w, 5 * NS_PER_S);
    EXPECT(w, "closing #1 0+3 deadline_exceeded deadline\n");     /* said again until it is answered */
    recorded_closing(w, 1, 3);
    status(w);
    EXPECT(w, "status 3 total=3 queued=0 running=0 ok=0 failed=0 deadline=3 cancelled=0 lost=0 dup=0 retried=0\n");
}

static void a_running_task_has_its_grace_and_is_then_judged(void **state)
{
    struct world *w = *state;
    Wire__Micros two = WIRE__MICROS__INIT;
    Wire__Options o = WIRE__OPTIONS__INIT;
    two.us = 2000000;
    o.deadline = &two;
    cluster(w);
    batch(w, &o, "a");
    w->trace[0] = '\0';
    pass(w, 4100 * MS);
    EXPECT(w, "");
    pass(w, 200 * MS);
    EXPECT(w, "closing #1 0+1 deadline_exceeded deadline\nL1 cancel 1 deadline silent\n");
    /* Its own word came first after all: the closing ends nothing. */
    recorded(w, 11, 0, 1, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);
    recorded_closing(w, 1, 0);
    tick(w);
    EXPECT(w, "L1 release 0+1\nL1 retire\n");
    status(w);
    EXPECT(w, "status 3 total=1 queued=0 running=0 ok=1 failed=0 deadline=0 cancelled=0 lost=0 dup=0 retried=0\n");
}

static void a_cancel_is_journaled_then_told_then_answered(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    batch(w, &o, "abcdef");
    w->trace[0] = '\0';
    cancel(w, 0, 0);
    tick(w);
    EXPECT(w, "");
    committed(w);
    EXPECT(w, "closing #1 3+3 cancelled cancel\nL1 cancel 0 cancel\n");
    confirmed(w, 11, 1, 1, 1, 2);
    EXPECT(w, "cancelled queued=4 running=2 finished=0 unreachable=0\n");
    tick(w);
    EXPECT(w, "");
}

static void a_cancel_after_the_end_counts_what_it_names(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    batch(w, &o, "abcdef");
    recorded(w, 11, 0, 6, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);
    tick(w);
    committed(w);
    w->trace[0] = '\0';
    cancel(w, 3, 2);
    committed(w);
    EXPECT(w, "cancelled queued=0 running=0 finished=2 unreachable=0\n");
    cancel(w, 0, 0);
    committed(w);
    EXPECT(w, "cancelled queued=0 running=0 finished=6 unreachable=0\n");
}

static void a_cancel_of_the_unreachable_is_answered_too(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    batch(w, &o, "abc");
    w->trace[0] = '\0';
    cancel(w, 0, 2);
    committed(w);
    EXPECT(w, "L1 cancel 1 cancel_task\n");
    pass(w, 2100 * MS);
    EXPECT(w, "cancelled queued=0 running=0 finished=0 unreachable=2\n");
    pass(w, 1 * NS_PER_S);
    EXPECT(w, "closing #1 0+2 cancelled cancel_task\nL1 cancel 1 cancel_task silent\n");
}

static void a_failed_attempt_is_tried_again_after_its_backoff(void **state)
{
    struct world *w = *state;
    Wire__RetryRule rule = WIRE__RETRY_RULE__INIT;
    Wire__Options o = WIRE__OPTIONS__INIT;
    rule.retries = 1;
    rule.on_failed = true;
    rule.backoff_us = 1000000;
    rule.backoff_factor_milli = 2000;
    rule.backoff_max_us = 60000000;
    o.retry = &rule;
    cluster(w);
    batch(w, &o, "a");
    assert_non_null(strstr(w->trace, "L1 assign 0+1 #1 left=1 'a'\n"));
    w->trace[0] = '\0';
    finished(w, 11, 1, 0, 1, 1);
    recorded(w, 11, 0, 1, 1, WIRE__RESULT_KIND__IS_ATTEMPT, WIRE__VERDICT__FAILED, true);
    tick(w);
    pass(w, 10 * MS);
    EXPECT(w, "L1 release 0+1\n");
    pass(w, 690 * MS);
    EXPECT(w, "");
    pass(w, 600 * MS);
    /* Its frame had been passed, and is read back. */
    loaded(w);
    EXPECT(w, "load b1 0-1\nL1 assign 0+1 #2 left=0 'a'\n");
    status(w);
    EXPECT(w, "status 1 total=1 queued=0 running=1 ok=0 failed=0 deadline=0 cancelled=0 lost=0 dup=0 retried=1\n");
}

static void a_silent_worker_is_lost_but_not_by_our_own_sleep(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    batch(w, &o, "a");
    w->trace[0] = '\0';
    w->now.ns += 60 * NS_PER_S;
    ledger_tick(w->ledger, w->now, false);     /* we stood still: nobody is judged before the input is read */
    EXPECT(w, "");
    Wire__Heartbeat beat = WIRE__HEARTBEAT__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    beat.lane_sequence = 3;
    m.what_case = WIRE__UPWARD__WHAT_HEARTBEAT;
    m.heartbeat = &beat;
    upward(w, 11, 11, lane_of(1), &m);
    tick(w);
    EXPECT(w, "");
    pass(w, 11 * NS_PER_S);
    EXPECT(w, "L1 close\n");
}

static void beat(struct world *w, ledger_peer peer, uint64_t session, uint64_t lane, uint64_t sequence, uint64_t unreleased, uint64_t queued)
{
    Wire__Heartbeat h = WIRE__HEARTBEAT__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    h.lane_sequence = sequence;
    h.unreleased = unreleased;
    h.unreleased_bytes = unreleased;
    h.queued = queued;
    m.what_case = WIRE__UPWARD__WHAT_HEARTBEAT;
    m.heartbeat = &h;
    upward(w, peer, session, lane, &m);
}

/* A second after the other: both workers and the sink beat, w1 has a result that is not recorded. */
static void beats(struct world *w, int seconds, uint64_t waits_for_the_disk)
{
    for (; seconds > 0; seconds--) {
        beat(w, SINK, 900, 0, 0, 0, waits_for_the_disk);
        beat(w, 11, 11, lane_of(1), 1000, 1, 0);
        beat(w, 12, 12, lane_of(2), 1000, 0, 0);
        pass(w, NS_PER_S);
    }
}

/* What it held would come back to it each time, since it is the first of equals. */
static void who_swallows_large_messages_comes_last(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    batch(w, &o, "abc");
    worker_hello(w, 12, "w2", 8, NULL, 0);
    worker_opened(w, 12, 2);
    tick(w);
    for (int seconds = 8; seconds > 0; seconds--) {
        beat(w, SINK, 900, 0, 0, 0, 0);
        beat(w, 11, 11, lane_of(1), 1, 0, 0);
        beat(w, 12, 12, lane_of(2), 1000, 0, 0);
        pass(w, NS_PER_S);
    }
    ledger_lane(w->ledger, w->now, lane_of(1), false);
    worker_hello(w, 11, "w1", 2, NULL, 0);
    worker_opened(w, 11, 3);
    w->trace[0] = '\0';
    tick(w);
    loaded(w);
    assert_non_null(strstr(w->trace, "L2 assign 0+3 #2"));
    assert_null(strstr(w->trace, "L3 assign"));
    finished(w, 12, 2, 0, 3, 2);
    w->trace[0] = '\0';
    submit(w, &o, 9);
    committed(w);
    registered(w);
    chunk(w, 0, "defghijklmnop", true);       /* more than w2 has slots */
    committed(w);
    registered(w);
    tick(w);
    loaded(w);
    assert_non_null(strstr(w->trace, "L3 assign"));
}

static void a_worker_whose_results_never_arrive_is_given_up(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    batch(w, &o, "a");
    worker_hello(w, 12, "w2", 1, NULL, 0);
    worker_opened(w, 12, 2);
    tick(w);
    finished(w, 11, 1, 0, 1, 1);
    w->trace[0] = '\0';
    beats(w, 30, 1);                          /* the sink's disk stands still: that says nothing about the worker */
    EXPECT(w, "");
    beats(w, 9, 0);
    EXPECT(w, "");
    beats(w, 3, 0);
    loaded(w);
    EXPECT(w, "load b1 0-1\nL2 announce\nL2 assign 0+1 #2 left=0 'a'\n");
    batch(w, &o, "b");
    assert_null(strstr(w->trace, "L1"));      /* nothing new goes to it … */
    w->trace[0] = '\0';
    recorded(w, 11, 0, 1, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);
    batch(w, &o, "c");
    assert_non_null(strstr(w->trace, "L1 assign 0+1 #1 left=0 'c'"));      /* … before something of it arrives */
}

/* What people are told of a new batch that needs these labels. */
static const char *note_of(struct world *w, Wire__Options *o, Wire__Value **labels, size_t n, uint8_t seed)
{
    o->require = labels;
    o->n_require = n;
    submit(w, o, seed);
    committed(w);
    status(w);
    w->trace[0] = '\0';
    return w->note;
}

static void what_no_worker_has_is_named(void **state)
{
    struct world *w = *state;
    Wire__Value b = WIRE__VALUE__INIT, c = WIRE__VALUE__INIT, gpu = WIRE__VALUE__INIT;
    Wire__Value *all[] = {&b, &gpu, &c};
    Wire__Options o = WIRE__OPTIONS__INIT;
    b.key = c.key = (char *)(uintptr_t) "zone";
    b.value = (char *)(uintptr_t) "b";
    c.value = (char *)(uintptr_t) "c";
    gpu.key = (char *)(uintptr_t) "gpu";
    gpu.value = (char *)(uintptr_t) "1";
    sink_hello(w);
    assert_string_equal(note_of(w, &o, NULL, 0, 1), "no worker is connected: the tasks wait");
    worker_hello_with(w, 11, "w1", 2, &all[0], 1, NULL, 0);
    worker_hello_with(w, 12, "w2", 2, &all[1], 1, NULL, 0);
    assert_string_equal(note_of(w, &o, all, 3, 2), "no present worker has the required label zone=c: the tasks wait");
    assert_string_equal(note_of(w, &o, all, 2, 3), "no present worker takes ad-hoc commands (--allow-commands) and has all the required labels: the tasks wait");
    assert_string_equal(note_of(w, &o, all, 1, 4), "");
    o.handler = (char *)(uintptr_t) "thumb";
    assert_string_equal(note_of(w, &o, all, 2, 5), "no present worker has the handler 'thumb': the tasks wait");
}

/* That no sink is here is not the reason. */
static void who_requires_a_worker_is_refused_for_want_of_one(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    o.require_worker = true;
    submit(w, &o, 1);
    assert_string_equal(w->refusal, "no worker is connected: nothing was submitted");
    EXPECT(w, "refused 6 next=0\n");
    worker_hello(w, 11, "w1", 2, NULL, 0);
    w->trace[0] = '\0';
    submit(w, &o, 1);
    committed(w);
    EXPECT(w, "submitted next=0 state=0\n");
}

static void two_workers_of_one_name(void **state)
{
    struct world *w = *state;
    cluster(w);
    worker_hello(w, 12, "w1", 2, NULL, 0);
    EXPECT(w, "12: refused 0\n");
}

static void a_second_sink_is_refused_until_the_first_is_silent(void **state)
{
    struct world *w = *state;
    sink_hello(w);
    EXPECT(w, "sink welcome\n");
    for (int i = 1; i < 10; i++) {
        pass(w, NS_PER_S);
        sink_hello_with(w, 91, 901, 8);
        EXPECT(w, "91: refused 0\n");
    }
    pass(w, NS_PER_S);                         /* the refused hellos were no word of the first one */
    sink_hello_with(w, 91, 901, 8);
    EXPECT(w, "sink welcome\n");
}

static void a_killed_sink_is_seen_at_the_next_beat(void **state)
{
    struct world *w = *state;
    sink_hello(w);
    pass(w, 5 * NS_PER_S);                     /* it says nothing, but its connection is there */
    sink_hello_with(w, 91, 901, 8);
    EXPECT(w, "sink welcome\n91: refused 0\n");
    w->sink_unreachable = true;
    pass(w, NS_PER_S);
    sink_hello_with(w, 91, 901, 8);
    EXPECT(w, "sink welcome\n");
}

static void another_protocol_is_refused_in_words(void **state)
{
    struct world *w = *state;
    Wire__ClientHello client = WIRE__CLIENT_HELLO__INIT;
    Wire__Request request_of = WIRE__REQUEST__INIT;
    client.major = WIRE_MAJOR + 1;
    request_of.what_case = WIRE__REQUEST__WHAT_HELLO;
    request_of.hello = &client;
    request(w, &request_of, "");
    EXPECT(w, "refused 2 next=0\n");
    Wire__WorkerHello worker = WIRE__WORKER_HELLO__INIT;
    Wire__SinkHello sink = WIRE__SINK_HELLO__INIT;
    Wire__Upward up = WIRE__UPWARD__INIT;
    worker.name = (char *)(uintptr_t)"w9";
    worker.slots = 1;
    worker.major = sink.major = WIRE_MAJOR + 1;
    up.what_case = WIRE__UPWARD__WHAT_HELLO;
    up.hello = &worker;
    upward(w, 31, 31, 0, &up);
    EXPECT(w, "31: refused 2\n");
    up.what_case = WIRE__UPWARD__WHAT_SINK_HELLO;
    up.sink_hello = &sink;
    upward(w, 32, 32, 0, &up);
    EXPECT(w, "32: refused 2\n");
    cluster(w);                               /* and the daemon goes on */
}

static void a_restart_asks_before_it_flies(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    batch(w, &o, "abc");
    ledger_destroy(&w->ledger);
    w->trace[0] = '\0';
    begin(w);
    struct why why = {""};
    for (int pass_no = 0; pass_no < 4; pass_no++) {      /* in key order: batch, meta, tally, worker */
        static const char *const folders[] = {"batch/", "meta/", "tally/", "worker/"};
        for (size_t i = 0; i < w->n_rows; i++)
            if (strncmp(w->rows[i].key, folders[pass_no], strlen(folders[pass_no])) == 0)
                assert_int_equal(ledger_restore(w->ledger, w->rows[i].key, w->rows[i].value, w->rows[i].len, &why), 0);
    }
    ledger_restored(w->ledger, w->now);
    committed(w);
    sink_hello(w);
    EXPECT(w, "sink welcome\nregister total=3\nask\n");
    registered(w);
    worker_hello(w, 21, "w1", 2, NULL, 0);
    ledger_lane(w->ledger, w->now, UINT64_C(2) << 24 | 1, true);
    tick(w);
    EXPECT(w, "21: welcome lane=1 dropped=0\nL1 open\n");
    Wire__Span span = WIRE__SPAN__INIT, *spans = &span;
    uint64_t counts[WIRE_VERDICTS] = {[WIRE__VERDICT__OK] = 1};
    Wire__BatchRecords r = WIRE__BATCH_RECORDS__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    span.first = 1;
    span.count = 1;
    r.batch = wire_id_bytes(w->batch);
    r.known = true;
    r.n_spans = 1;
    r.spans = &spans;
    r.n_counts = WIRE_VERDICTS;
    r.counts = counts;
    m.what_case = WIRE__UPWARD__WHAT_RECORDS;
    m.records = &r;
    upward(w, SINK, 900, 0, &m);
    tick(w);
    Wire__Opened opened = WIRE__OPENED__INIT;
    Wire__Upward up = WIRE__UPWARD__INIT;
    up.what_case = WIRE__UPWARD__WHAT_OPENED;
    up.opened = &opened;
    upward(w, 21, 21, UINT64_C(2) << 24 | 1, &up);
    tick(w);
    EXPECT(w, "load b1 0-3\n");
    status(w);
    EXPECT(w, "say hello\n");                 /* the client's connection is unknown to the new process */
    client_hello(w);
    status(w);
    EXPECT(w, "welcome\nstatus 1 total=3 queued=2 running=0 ok=1 failed=0 deadline=0 cancelled=0 lost=0 dup=0 retried=0\n");
}

/* What the sink answers when it is asked: tasks 0 and 1 are recorded. */
static void two_on_record(struct world *w)
{
    Wire__Span span = WIRE__SPAN__INIT, *spans = &span;
    uint64_t counts[WIRE_VERDICTS] = {[WIRE__VERDICT__OK] = 2};
    Wire__BatchRecords r = WIRE__BATCH_RECORDS__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    span.count = 2;
    r.batch = wire_id_bytes(w->batch);
    r.known = true;
    r.n_spans = 1;
    r.spans = &spans;
    r.n_counts = WIRE_VERDICTS;
    r.counts = counts;
    m.what_case = WIRE__UPWARD__WHAT_RECORDS;
    m.records = &r;
    upward(w, SINK, 900, 0, &m);
    tick(w);
}

/* The word that they are recorded was lost with the sink's connection: what its answer tells is word enough to release
 * them, once there is a lane to say it on. */
static void what_the_sink_tells_of_is_released(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    batch(w, &o, "abc");
    ledger_lane(w->ledger, w->now, lane_of(1), false);
    sink_hello(w);
    w->trace[0] = '\0';
    Wire__Fence f = fence_of(w, 0, 2, 1);
    Wire__Holding h = WIRE__HOLDING__INIT, *held = &h;
    h.fence = &f;
    h.state = WIRE__HOLDING_STATE__ENDED;
    worker_hello(w, 11, "w1", 2, &held, 1);
    two_on_record(w);
    EXPECT(w, "11: welcome lane=2 dropped=0\n");
    worker_opened(w, 11, 2);
    tick(w);
    EXPECT(w, "L2 open\nload b1 2-3\nL2 release 0+2\n");
}

static void ok(struct world *w, uint64_t first)
{
    recorded(w, 11, first, 1, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);
    tick(w);
}

/* A message for it alone is not worth its way, but where something waits for it. */
static void a_release_goes_with_the_next_message(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    Wire__Returned r = WIRE__RETURNED__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    cluster(w);
    batch(w, &o, "abcd");
    w->trace[0] = '\0';
    finished(w, 11, 1, 0, 2, 1);
    tick(w);
    EXPECT(w, "L1 assign 3+1 #1 left=0 'd'\n");
    ok(w, 0);
    EXPECT(w, "");
    beat(w, 11, 11, lane_of(1), 1000, (1 << 20) / 4, 0);      /* a quarter of its result credit is in use */
    ok(w, 1);
    EXPECT(w, "L1 release 0+1\nL1 release 1+1\n");
    beat(w, 11, 11, lane_of(1), 1000, 0, 0);
    ok(w, 2);
    EXPECT(w, "");
    r.cause = WIRE__RETURN_CAUSE__DRAINED;
    m.what_case = WIRE__UPWARD__WHAT_RETURNED;
    m.returned = &r;
    upward(w, 11, 11, lane_of(1), &m);                        /* it leaves when its last result is released */
    tick(w);
    EXPECT(w, "L1 release 2+1\n");
}

static void a_drain_says_goodbye_and_leaves_when_all_is_on_disk(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    submit(w, &o, 1);
    ledger_drain(w->ledger, w->now);
    EXPECT(w, "11: goodbye\n90: goodbye\n");
    submit(w, &o, 2);
    EXPECT(w, "refused 4 next=0\n");
    committed(w);
    tick(w);
    EXPECT(w, "submitted next=0 state=0\nleave\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(nothing_is_said_before_it_is_on_disk),
        TEST(a_batch_flies), TEST(what_is_admitted_flies_before_it_is_acknowledged),
        TEST(the_slowest_are_those_that_run_longest),
        TEST(a_chunk_must_be_the_next_and_continue_the_same_input),
        TEST(a_lost_worker_s_tasks_run_elsewhere),
        TEST(what_comes_back_in_time_is_adopted),
        TEST(a_task_that_kills_its_workers_is_judged_lost),
        TEST(a_deadline_needs_no_worker),
        TEST(a_running_task_has_its_grace_and_is_then_judged),
        TEST(a_cancel_is_journaled_then_told_then_answered),
        TEST(a_cancel_after_the_end_counts_what_it_names),
        TEST(a_cancel_of_the_unreachable_is_answered_too),
        TEST(a_failed_attempt_is_tried_again_after_its_backoff),
        TEST(a_silent_worker_is_lost_but_not_by_our_own_sleep),
        TEST(who_swallows_large_messages_comes_last),
        TEST(a_worker_whose_results_never_arrive_is_given_up),
        TEST(what_no_worker_has_is_named),
        TEST(who_requires_a_worker_is_refused_for_want_of_one),
        TEST(two_workers_of_one_name),
        TEST(a_second_sink_is_refused_until_the_first_is_silent),
        TEST(a_killed_sink_is_seen_at_the_next_beat),
        TEST(another_protocol_is_refused_in_words),
        TEST(a_restart_asks_before_it_flies),
        TEST(what_the_sink_tells_of_is_released),
        TEST(a_release_goes_with_the_next_message),
        TEST(a_drain_says_goodbye_and_leaves_when_all_is_on_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
