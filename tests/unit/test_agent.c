/* What an agent does with tasks: starts, bounds, cancels, reports. */
#include "tests/unit/agent_world.h"

/* ---- a task's way ---- */

static void runs_and_reports(void **state)
{
    struct world *w = *state;
    shake_hands(w);
    announce(w, batch_a, -1);
    assign(w, batch_a, 10, 3, "x yy zzz");
    tick(w);
    EXPECT(w, "run slot=0 a10.1 payload=x\nrun slot=1 a11.1 payload=yy\n");
    assert_int_equal(w->budget, -1);
    assert_int_equal(counts(w).queued, 1);
    pass(w, 20 * MS);
    EXPECT(w, "started a10+2@1.1\n");
    end_ok(w, 1, "out");
    tick(w);
    EXPECT(w, "run slot=1 a12.1 payload=zzz\nresult a11+1@1.1 ok slot=2 flags=8 body=out\nfinished a11+1@1.1\n");
    end_with(w, 0, (struct agent_end){.how = AGENT_EXITED, .code = 3, .errors = {.data = (const uint8_t *)"oh", .len = 2}});
    end_ok(w, 1, "");
    tick(w);
    /* The last one ended before it was worth telling that it had started. */
    EXPECT(w, "result a10+1@1.1 failed exit slot=1 code=3 flags=8 body=oh\n"
              "result a12+1@1.1 ok slot=2 flags=8\n"
              "finished a10+1@1.1 a12+1@1.1\n");
    assert_int_equal(counts(w).unreleased, 3);
    release(w, batch_a, 10, 3, 1);
    assert_int_equal(counts(w).unreleased, 0);
    assert_int_equal(counts(w).unreleased_bytes, 0);
}

static void runs_ranges_and_handlers(void **state)
{
    struct world *w = *state;
    Wire__Range range = WIRE__RANGE__INIT;
    range.first = 100;
    range.step = -7;
    range.count = 1000;
    w->options.range = &range;
    w->options.n_command = 0;
    w->options.handler = (char *)(uintptr_t)"resize";
    shake_hands(w);
    announce(w, batch_a, -1);
    Wire__Tasks tasks = WIRE__TASKS__INIT;
    tasks.first = 15;
    tasks.count = 1;
    Wire__Assign message = WIRE__ASSIGN__INIT;
    message.batch = wire_id_bytes(batch_a);
    message.tasks = &tasks;
    message.epoch = message.attempt = 1;
    Wire__Lane m = WIRE__LANE__INIT;
    m.what_case = WIRE__LANE__WHAT_ASSIGN;
    m.assign = &message;
    lane(w, &m, (struct slice){0});
    tick(w);
    EXPECT(w, "run slot=0 a15.1 payload=-5 handler=resize\n");
}

static void refuses_what_it_has_no_handler_for(void **state)
{
    struct world *w = *state;
    w->options.n_command = 0;
    w->options.handler = (char *)(uintptr_t)"paint";
    shake_hands(w);
    announce(w, batch_a, -1);
    assign(w, batch_a, 0, 3, "x y z");
    tick(w);
    EXPECT(w, "result a0+3@1.1 rejected no_handler extras=3\nfinished a0+3@1.1\n");
    assert_int_equal(counts(w).queued, 0);
}

static void consecutive_ends_share_a_report(void **state)
{
    struct world *w = *state;
    agent_destroy(&w->agent);
    build(w, 8);
    shake_hands(w);
    announce(w, batch_a, -1);
    assign(w, batch_a, 0, 8, "a b c d e f g h");
    tick(w);
    forget_trace(w);
    end_ok(w, 0, "A");
    end_ok(w, 1, "B");
    end_with(w, 2, (struct agent_end){.how = AGENT_EXITED, .code = 2});
    end_ok(w, 4, "E");
    end_ok(w, 5, "F");
    tick(w);
    EXPECT(w, "result a0+3@1.1 ok ok failed - - exit slot=1,2,3 code=0 flags=8 body=AB\n"
              "result a4+2@1.1 ok slot=5,6 flags=8 body=EF\n"
              "finished a0+3@1.1 a4+2@1.1\n");
    /* A release of a part is a release of that part. */
    release(w, batch_a, 1, 4, 1);
    assert_int_equal(counts(w).unreleased, 2);
    release(w, batch_a, 1, 2, 1);
    assert_int_equal(counts(w).unreleased, 2);
    release(w, batch_a, 0, 1, 2);
    assert_int_equal(counts(w).unreleased, 2);
    release(w, batch_a, 0, 1, 1);
    assert_int_equal(counts(w).unreleased, 1);
    release(w, batch_a, 0, 4096, 1);
    assert_int_equal(counts(w).unreleased, 0);
}

static void reports_stay_within_a_block_and_its_body(void **state)
{
    struct world *w = *state;
    char *big = malloc(200 * 1024 + 1);
    assert_non_null(big);
    memset(big, 'x', 200 * 1024);
    big[200 * 1024] = '\0';
    shake_hands(w);
    announce(w, batch_a, -1);
    assign(w, batch_a, 4095, 1, "x");
    assign(w, batch_a, 4096, 1, "y");
    tick(w);
    forget_trace(w);
    end_ok(w, 0, "A");
    end_ok(w, 1, "B");
    tick(w);
    EXPECT(w, "result a4095+1@1.1 ok slot=1 flags=8 body=A\nresult a4096+1@1.1 ok slot=2 flags=8 body=B\nfinished a4095+1@1.1 a4096+1@1.1\n");
    assign(w, batch_a, 0, 2, "x y");
    tick(w);
    forget_trace(w);
    end_ok(w, 1, big);
    end_ok(w, 0, big);
    tick(w);
    EXPECT(w, "result a0+1@1.1 ok slot=2 flags=8 body=204800 bytes\nresult a1+1@1.1 ok slot=1 flags=8 body=204800 bytes\nfinished a0+2@1.1\n");
    free(big);
}

static void labels_what_will_be_tried_again(void **state)
{
    struct world *w = *state;
    w->retry.on_failed = true;
    w->options.retry = &w->retry;
    shake_hands(w);
    announce(w, batch_a, -1);
    assign_these(w, &(struct assignment){.batch = batch_a, .count = 1, .body = "x", .tries_left = 1});
    assign_these(w, &(struct assignment){.batch = batch_a, .first = 5, .count = 1, .body = "y", .tries_left = 0});
    tick(w);
    forget_trace(w);
    end_with(w, 0, (struct agent_end){.how = AGENT_EXITED, .code = 1});
    end_with(w, 1, (struct agent_end){.how = AGENT_EXITED, .code = 1});
    tick(w);
    EXPECT(w, "result (attempt) a0+1@1.1 failed exit slot=1 code=1 flags=8\n"
              "result a5+1@1.1 failed exit slot=2 code=1 flags=8\n"
              "finished a0+1@1.1 a5+1@1.1\n");
    uint32_t codes[] = {7, 9};
    w->retry.on_codes = codes;
    w->retry.n_on_codes = 2;
    announce(w, batch_b, -1);
    assign_these(w, &(struct assignment){.batch = batch_b, .count = 2, .body = "x y", .tries_left = 1});
    tick(w);
    forget_trace(w);
    end_with(w, 1, (struct agent_end){.how = AGENT_EXITED, .code = 9});
    end_with(w, 0, (struct agent_end){.how = AGENT_SIGNALLED, .code = 9, .swept = true});
    tick(w);
    EXPECT(w, "result (attempt) b0+1@1.1 failed exit slot=2 code=9 flags=8\n"
              "result b1+1@1.1 failed signal slot=1 flags=4\n"
              "finished b0+2@1.1\n");
}

static void a_task_keeps_its_own_values_and_words(void **state)
{
    struct world *w = *state;
    Wire__Value value = WIRE__VALUE__INIT, *values[] = {&value};
    value.key = (char *)(uintptr_t)"user";
    value.value = (char *)(uintptr_t)"ada";
    Wire__TaskExtra extra = WIRE__TASK_EXTRA__INIT, *extras[] = {&extra};
    extra.offset = 1;
    extra.values = values;
    extra.n_values = 1;
    shake_hands(w);
    announce(w, batch_a, -1);
    assign_these(w, &(struct assignment){.batch = batch_a, .count = 2, .body = "x y", .extras = extras, .n_extras = 1});
    tick(w);
    forget_trace(w);
    end_with(w, 0, (struct agent_end){.how = AGENT_NOT_STARTED, .code = 2, .sentence = "no program caf\xe9"});
    end_ok(w, 1, "");
    tick(w);
    EXPECT(w, "result a0+1@1.1 failed not_started slot=1 extras=1\nresult a1+1@1.1 ok slot=2 flags=8 extras=1\nfinished a0+2@1.1\n");
}

/* ---- bounds ---- */

static void the_timeout_stops_an_attempt(void **state)
{
    struct world *w = *state;
    w->timeout.us = 500000;
    w->options.timeout = &w->timeout;
    shake_hands(w);
    announce(w, batch_a, 60000);
    assign(w, batch_a, 0, 1, "x");
    tick(w);
    forget_trace(w);
    assert_int_equal(w->budget, 500 * MS);
    pass(w, 499 * MS);
    EXPECT(w, "started a0+1@1.1\n");
    assert_int_equal(w->next.ns - w->now.ns, 1 * MS);
    pass(w, 1 * MS);
    EXPECT(w, "stop slot=0 grace=2000ms\n");
    /* Whatever its exit code. */
    end_with(w, 0, (struct agent_end){.how = AGENT_EXITED, .code = 0, .term_sent = true});
    tick(w);
    EXPECT(w, "result a0+1@1.1 deadline_exceeded timeout slot=1 flags=8\nfinished a0+1@1.1\n");
}

static void an_end_before_the_stop_is_its_own(void **state)
{
    struct world *w = *state;
    w->timeout.us = 500000;
    w->options.timeout = &w->timeout;
    shake_hands(w);
    announce(w, batch_a, -1);
    assign(w, batch_a, 0, 1, "x");
    tick(w);
    pass(w, 500 * MS);
    forget_trace(w);
    end_ok(w, 0, "done");
    tick(w);
    EXPECT(w, "result a0+1@1.1 ok slot=1 flags=8 body=done\nfinished a0+1@1.1\n");
}

static void a_task_tightens_its_timeout(void **state)
{
    struct world *w = *state;
    Wire__Micros tight = WIRE__MICROS__INIT, loose = WIRE__MICROS__INIT;
    tight.us = 100000;
    loose.us = 900000;
    Wire__TaskExtra first = WIRE__TASK_EXTRA__INIT, second = WIRE__TASK_EXTRA__INIT, *extras[] = {&first, &second};
    first.timeout = &tight;
    second.offset = 1;
    second.timeout = &loose;
    w->timeout.us = 500000;
    w->options.timeout = &w->timeout;
    shake_hands(w);
    announce(w, batch_a, -1);
    assign_these(w, &(struct assignment){.batch = batch_a, .count = 2, .body = "x y", .extras = extras, .n_extras = 2});
    tick(w);
    forget_trace(w);
    pass(w, 100 * MS);
    EXPECT(w, "stop slot=0 grace=2000ms\nstarted a0+2@1.1\n");
    pass(w, 400 * MS);
    EXPECT(w, "stop slot=1 grace=2000ms\n");
}

static void the_deadline_ends_what_runs_and_what_waits(void **state)
{
    struct world *w = *state;
    w->retry.on_deadline_exceeded = true;
    w->options.retry = &w->retry;
    shake_hands(w);
    announce(w, batch_a, 800);
    assign_these(w, &(struct assignment){.batch = batch_a, .count = 4, .body = "a b c d", .tries_left = 3});
    tick(w);
    forget_trace(w);
    assert_int_equal(w->budget, 800 * MS);
    pass(w, 800 * MS);
    EXPECT(w, "stop slot=1 grace=2000ms\n"
              "stop slot=0 grace=2000ms\n"
              "result a2+2@1.1 deadline_exceeded deadline\n"
              "started a0+2@1.1\n"
              "finished a2+2@1.1\n");
    end_killed(w, 0);
    tick(w);
    /* The batch's deadline is never tried again. */
    EXPECT(w, "result a0+1@1.1 deadline_exceeded deadline slot=1\nfinished a0+1@1.1\n");
    /* What comes too late doesn't wait for a slot. */
    assign(w, batch_a, 9, 1, "z");
    tick(w);
    EXPECT(w, "result a9+1@1.1 deadline_exceeded deadline\nfinished a9+1@1.1\n");
}

static void too_little_time_is_none(void **state)
{
    struct world *w = *state;
    w->options.min_runtime_us = 300000;
    shake_hands(w);
    announce(w, batch_a, 800);
    assign(w, batch_a, 0, 3, "a b c");
    tick(w);
    forget_trace(w);
    pass(w, 500 * MS);
    EXPECT(w, "result a2+1@1.1 deadline_exceeded min_runtime\nstarted a0+2@1.1\nfinished a2+1@1.1\n");
}

static void move_deadline(struct world *w, const uint8_t *batch, int64_t left_ms)
{
    Wire__Micros left = WIRE__MICROS__INIT;
    left.us = (uint64_t)left_ms * 1000;
    Wire__MoveDeadline move = WIRE__MOVE_DEADLINE__INIT;
    move.batch = wire_id_bytes(batch);
    move.deadline_left = &left;
    Wire__Lane m = WIRE__LANE__INIT;
    m.what_case = WIRE__LANE__WHAT_EXTEND;
    m.extend = &move;
    lane(w, &m, (struct slice){0});
}

static void a_deadline_moves_both_ways(void **state)
{
    struct world *w = *state;
    shake_hands(w);
    announce(w, batch_a, 800);
    assign(w, batch_a, 0, 1, "a");
    tick(w);
    move_deadline(w, batch_a, 5000);
    pass(w, 900 * MS);
    EXPECT(w, "run slot=0 a0.1 payload=a\nstarted a0+1@1.1\n");
    move_deadline(w, batch_a, 50);
    pass(w, 50 * MS);
    EXPECT(w, "stop slot=0 grace=2000ms\n");
}

/* ---- cancel, recall ---- */

static void a_cancel_drops_and_stops(void **state)
{
    struct world *w = *state;
    shake_hands(w);
    announce(w, batch_a, -1);
    assign(w, batch_a, 0, 8, "a b cc d e ff g h");
    tick(w);
    forget_trace(w);
    cancel(w, batch_a, 1, 3, WIRE__REASON__CANCEL, false);
    cancel(w, batch_a, 6, 1, WIRE__REASON__CANCEL, false);
    EXPECT(w, "stop slot=1 grace=2000ms\nreturned cause=5 a2+2@1.1\nconfirmed 9 dropped=2 stopping=1\n"
              "returned cause=5 a6+1@1.1\nconfirmed 9 dropped=1 stopping=0\n");
    end_killed(w, 1);
    end_ok(w, 0, "");
    pass(w, 10 * MS);
    EXPECT(w, "run slot=0 a4.1 payload=e\nrun slot=1 a5.1 payload=ff\nfinished a1+1@1.1 a0+1@1.1\n"
              "result a0+2@1.1 ok cancelled - cancel slot=1,2 flags=8,0\n");
    end_ok(w, 0, "");
    tick(w);
    EXPECT(w, "run slot=0 a7.1 payload=h\nresult a4+1@1.1 ok slot=1 flags=8\nfinished a4+1@1.1\n");
    cancel(w, batch_b, 0, 0, WIRE__REASON__HALT, false);
    EXPECT(w, "confirmed 9 dropped=0 stopping=0\n");
    cancel(w, batch_a, 0, 0, WIRE__REASON__HALT, true);
    EXPECT(w, "stop slot=0 grace=2000ms\nstop slot=1 grace=2000ms\nconfirmed 9 dropped=0 stopping=2\n");
    end_killed(w, 0);
    tick(w);
    /* A silent one is told as finished, and reported to nobody. */
    EXPECT(w, "finished a7+1@1.1\n");
}

static void the_first_reason_stands(void **state)
{
    struct world *w = *state;
    w->timeout.us = 100000;
    w->options.timeout = &w->timeout;
    shake_hands(w);
    announce(w, batch_a, -1);
    assign(w, batch_a, 0, 1, "x");
    tick(w);
    pass(w, 100 * MS);
    forget_trace(w);
    cancel(w, batch_a, 0, 0, WIRE__REASON__CANCEL, false);
    EXPECT(w, "confirmed 9 dropped=0 stopping=1\n");
    end_killed(w, 0);
    tick(w);
    EXPECT(w, "result a0+1@1.1 deadline_exceeded timeout slot=1\nfinished a0+1@1.1\n");
}

static void a_recall_gives_the_last_back(void **state)
{
    struct world *w = *state;
    shake_hands(w);
    announce(w, batch_a, -1);
    announce(w, batch_b, -1);
    assign(w, batch_a, 0, 4, "a b c d");
    assign(w, batch_b, 0, 2, "x y");
    assign(w, batch_a, 10, 2, "e f");
    tick(w);
    forget_trace(w);
    Wire__Recall recall = WIRE__RECALL__INIT;
    recall.number = 4;
    recall.batch = wire_id_bytes(batch_a);
    recall.count = 3;
    Wire__Lane m = WIRE__LANE__INIT;
    m.what_case = WIRE__LANE__WHAT_RECALL;
    m.recall = &recall;
    lane(w, &m, (struct slice){0});
    EXPECT(w, "returned cause=0 a10+2@1.1 a3+1@1.1\nconfirmed 4 dropped=3 stopping=0\n");
    recall.count = 100;
    lane(w, &m, (struct slice){0});
    EXPECT(w, "returned cause=0 a2+1@1.1\nconfirmed 4 dropped=1 stopping=0\n");
    assert_int_equal(counts(w).queued, 2);
}

static void a_batch_must_be_announced(void **state)
{
    struct world *w = *state;
    shake_hands(w);
    assign(w, batch_a, 0, 1, "a");
    tick(w);
    EXPECT(w, "returned cause=3 a0+1@1.1\n");
    announce(w, batch_a, -1);
    Wire__Retire retire = WIRE__RETIRE__INIT;
    retire.batch = wire_id_bytes(batch_a);
    Wire__Lane m = WIRE__LANE__INIT;
    m.what_case = WIRE__LANE__WHAT_RETIRE;
    m.retire = &retire;
    lane(w, &m, (struct slice){0});
    assign(w, batch_a, 0, 1, "a");
    tick(w);
    EXPECT(w, "returned cause=3 a0+1@1.1\n");
}

/* ---- many ---- */

static void a_thousand_slots_and_a_full_frame(void **state)
{
    struct world *w = *state;
    agent_destroy(&w->agent);
    build(w, 1000);
    shake_hands(w);
    announce(w, batch_a, -1);
    Wire__Tasks tasks = WIRE__TASKS__INIT;
    uint32_t length = 4;
    tasks.count = WIRE_BLOCK;
    tasks.lengths = &length;
    tasks.n_lengths = 1;
    Wire__Assign message = WIRE__ASSIGN__INIT;
    message.batch = wire_id_bytes(batch_a);
    message.tasks = &tasks;
    message.epoch = message.attempt = 1;
    Wire__Lane m = WIRE__LANE__INIT;
    m.what_case = WIRE__LANE__WHAT_ASSIGN;
    m.assign = &message;
    struct buf *body = buf_new(4 * WIRE_BLOCK);
    assert_non_null(body);
    memset(buf_data(body), 'p', 4 * WIRE_BLOCK);
    lane(w, &m, slice_of(body));
    buf_unref(&body);
    uint64_t done = 0;
    for (unsigned round = 0; round < 10 && done < WIRE_BLOCK; round++) {
        forget_trace(w);
        tick(w);
        uint32_t busy = counts(w).busy;
        forget_trace(w);
        /* Slots are a stack: the first tasks run in the first slots, so ends come in the order of tasks only by chance. */
        for (uint32_t slot = 0; slot < 1000 && slot < busy; slot++)
            end_ok(w, round % 2 && busy == 1000 ? 999 - slot : slot, "");
        done += busy;
        agent_sink(w->agent, w->now, round > 0);
        forget_trace(w);
    }
    tick(w);
    assert_int_equal(done, WIRE_BLOCK);
    assert_int_equal(counts(w).ended, WIRE_BLOCK);
    assert_int_equal(counts(w).unreleased, WIRE_BLOCK);
    release(w, batch_a, 0, WIRE_BLOCK, 1);
    assert_int_equal(counts(w).unreleased, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(runs_and_reports),
        TEST(runs_ranges_and_handlers),
        TEST(refuses_what_it_has_no_handler_for),
        TEST(consecutive_ends_share_a_report),
        TEST(reports_stay_within_a_block_and_its_body),
        TEST(labels_what_will_be_tried_again),
        TEST(a_task_keeps_its_own_values_and_words),
        TEST(the_timeout_stops_an_attempt),
        TEST(an_end_before_the_stop_is_its_own),
        TEST(a_task_tightens_its_timeout),
        TEST(the_deadline_ends_what_runs_and_what_waits),
        TEST(too_little_time_is_none),
        TEST(a_deadline_moves_both_ways),
        TEST(a_cancel_drops_and_stops),
        TEST(the_first_reason_stands),
        TEST(a_recall_gives_the_last_back),
        TEST(a_batch_must_be_announced),
        TEST(a_thousand_slots_and_a_full_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
