/* Bundles: the memory that a plugin's process shares, and what the agent makes of what has begun in it and what has not. */
#include "tests/unit/agent_world.h"

#include <signal.h>
#include <unistd.h>

#include "worker/bundle.h"
#include "worker/shell_bundle.h"

/* ---- the memory ---- */

static const uint32_t lengths[4] = {1, 0, 3, 2};

static struct bundle_order order(void)
{
    return (struct bundle_order){
        .count = 4, .lengths = lengths, .n_lengths = 4, .body = {NULL, (const uint8_t *)"abbbcc", 6}, .not_after = {1000}, .begin_for = 100, .max_output = 50,
    };
}

static int open_memory(void **state)
{
    static struct bundle *both[2];
    int fd = -1;
    assert_int_equal(bundle_make(&both[0], &fd), 0);
    both[1] = bundle_map(fd);
    assert_non_null(both[1]);
    assert_int_not_equal(ftruncate(fd, 10), 0);      /* whoever has the descriptor can't take the memory away */
    close(fd);
    *state = both;
    return 0;
}

static int close_memory(void **state)
{
    struct bundle **both = *state;
    bundle_unmap(&both[0]);
    bundle_unmap(&both[1]);
    return 0;
}

static void assert_payload(const struct bundle *b, uint32_t number, const char *wanted)
{
    size_t len;
    const char *payload = bundle_payload(b, number, &len);
    assert_int_equal(len, strlen(wanted));
    assert_string_equal(payload, wanted);
    assert_int_equal((uintptr_t)payload % 16, 0);
}

static void large_ones_have_a_place_of_their_own(void **state)
{
    struct bundle **both = *state;
    struct buf *payload = buf_new(BUNDLE_LARGE_MOST + 1);
    assert_non_null(payload);
    for (size_t i = 0; i < buf_len(payload); i++)
        buf_data(payload)[i] = (uint8_t)(i * 7 + i / 4096);
    assert_false(bundle_put_large(both[0], slice_of(payload)));
    assert_null(bundle_large(both[1], BUNDLE_LARGE_MOST + 1));
    assert_false(bundle_leave_large(both[1], buf_bytes(payload), BUNDLE_LARGE_MOST + 1));
    assert_null(bundle_take_large(both[0], BUNDLE_LARGE_MOST + 1));
    for (size_t len = BUNDLE_LARGE_MOST; len >= BUNDLE_LARGE_LEAST; len /= 8) {
        assert_true(bundle_put_large(both[0], slice_cut(slice_of(payload), 1, len)));
        const uint8_t *theirs = bundle_large(both[1], len);
        assert_non_null(theirs);
        assert_memory_equal(theirs, buf_bytes(payload) + 1, len);
        assert_int_equal(theirs[len], 0);
        assert_true(bundle_leave_large(both[1], buf_bytes(payload), len));
        struct buf *output = bundle_take_large(both[0], len);
        assert_non_null(output);
        assert_memory_equal(buf_bytes(output), buf_bytes(payload), len);
        buf_unref(&output);
        bundle_let_large_go(both[0]);
        assert_int_equal(len > 4 << 20 ? theirs[len - 1] : 0, 0);     /* its memory is gone */
    }
    buf_unref(&payload);
}

static void payloads_come_across(void **state)
{
    struct bundle **both = *state, *theirs = both[1];
    struct bundle_order o = order();
    assert_int_equal(bundle_put(both[0], &o), 0);
    static const char *const wanted[] = {"a", "", "bbb", "cc"};
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(bundle_claim(theirs, (mono_t){10}), i);
        assert_payload(theirs, i, wanted[i]);
    }
    assert_int_equal(bundle_claim(theirs, (mono_t){10}), -1);
    assert_int_equal(bundle_close(both[0], false), 4);
    Wire__Range range = WIRE__RANGE__INIT;
    range.first = 9;
    range.step = -2;
    o = (struct bundle_order){.count = 3, .range = &range, .index = 5, .not_after = {1000}, .begin_for = 1};
    assert_int_equal(bundle_put(both[0], &o), 0);
    assert_payload(theirs, 0, "-1");
    assert_payload(theirs, 2, "-5");
}

static void what_is_too_large_is_refused(void **state)
{
    struct bundle **both = *state;
    struct bundle_order o = order();
    o.body.len = 5;
    assert_int_equal(bundle_put(both[0], &o), -E2BIG);
    o = order();
    o.count = BUNDLE_MOST + 1;
    assert_int_equal(bundle_put(both[0], &o), -E2BIG);
    uint32_t huge = 1u << 20;
    static uint8_t body[2u << 20];
    o = (struct bundle_order){.count = 2, .lengths = &huge, .n_lengths = 1, .body = {NULL, body, sizeof body}};
    assert_int_equal(bundle_put(both[0], &o), -E2BIG);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_null(bundle_map(ends[0]));
    close(ends[0]);
    close(ends[1]);
}

static void a_claim_has_its_bounds(void **state)
{
    struct bundle **both = *state, *theirs = both[1];
    struct bundle_order o = order();
    bundle_put(both[0], &o);
    assert_int_equal(bundle_claim(theirs, (mono_t){1000}), -1);      /* the first, too */
    assert_int_equal(bundle_close(both[0], true), 0);
    bundle_put(both[0], &o);
    assert_int_equal(bundle_claim(theirs, (mono_t){500}), 0);
    assert_int_equal(bundle_claim(theirs, (mono_t){599}), 1);
    assert_int_equal(bundle_begun_at(both[0]).ns, 599);
    assert_int_equal(bundle_claim(theirs, (mono_t){600}), -1);
    /* What was said to be the last stays so. */
    assert_int_equal(bundle_claim(theirs, (mono_t){500}), -1);
    assert_int_equal(bundle_close(both[0], false), 2);
}

static void closing_says_what_has_begun(void **state)
{
    struct bundle **both = *state, *theirs = both[1];
    struct bundle_order o = order();
    bundle_put(both[0], &o);
    assert_int_equal(bundle_close(both[0], false), 0);
    assert_int_equal(bundle_claim(theirs, (mono_t){1}), -1);
    bundle_put(both[0], &o);
    assert_int_equal(bundle_close(both[0], true), 1);
    assert_int_equal(bundle_claim(theirs, (mono_t){1}), 0);
    assert_int_equal(bundle_claim(theirs, (mono_t){1}), -1);
    bundle_put(both[0], &o);
    assert_int_equal(bundle_close(both[0], true), 1);
    assert_int_equal(bundle_close(both[0], false), 0);               /* that one may not begin any more either */
    assert_int_equal(bundle_claim(theirs, (mono_t){1}), -1);
    /* What was said to have begun does, however late: nobody looks again whether it has. */
    bundle_put(both[0], &o);
    assert_int_equal(bundle_close(both[0], true), 1);
    assert_int_equal(bundle_claim(theirs, (mono_t){1000}), 0);
    assert_int_equal(bundle_claim(theirs, (mono_t){1000}), -1);
    assert_int_equal(bundle_close(both[0], false), 1);
}

static bool leave(struct bundle *bundle, uint32_t number, int code, const char *output, const char *sentence, int64_t run_ns)
{
    const struct bundle_left left = {.code = code, .output = output, .output_len = strlen(output), .sentence = sentence, .run_ns = run_ns};
    return bundle_leave(bundle, number, &left);
}

static void results_come_back(void **state)
{
    struct bundle **both = *state, *theirs = both[1];
    struct bundle_order o = order();
    struct bundle_part parts[4];
    struct buf *outputs = NULL, *words = NULL;
    bundle_put(both[0], &o);
    assert_true(leave(theirs, 0, 0, "one", "", 7));
    assert_true(leave(theirs, 1, 9, "", "it would not", 8));
    assert_true(leave(theirs, 2, 0, "three", "", 9));
    assert_false(leave(theirs, 3, 0, "an output that is longer than the fifty bytes it may be", "", 1));
    assert_true(bundle_take(both[0], 3, parts, &outputs, &words));
    assert_memory_equal(buf_bytes(outputs), "onethree", 8);
    assert_int_equal(parts[1].code, 9);
    assert_int_equal(parts[2].run_ns, 9);
    assert_int_equal(parts[0].words_at, 0);
    assert_string_equal((const char *)buf_bytes(words) + parts[1].words_at, "it would not");
    buf_unref(&outputs);
    buf_unref(&words);
    assert_true(leave(theirs, 3, -4, "", "", 1));        /* no code that there is */
    assert_false(bundle_take(both[0], 4, parts, &outputs, &words));
    assert_false(bundle_take(both[0], BUNDLE_MOST + 1, parts, &outputs, &words));
}

/* A command has two outputs, and can be ended by a signal. */
static void results_of_commands_come_back(void **state)
{
    struct bundle **both = *state, *theirs = both[1];
    struct bundle_order o = {.count = 3, .not_after = {1000}, .begin_for = 100, .max_output = 50};
    struct bundle_part parts[3];
    struct buf *outputs = NULL, *words = NULL;
    assert_int_equal(bundle_put(both[0], &o), 0);
    struct bundle_left left = {.code = SIGSEGV, .signalled = true, .swept = true, .output = "out", .output_len = 3, .errors = "errors", .errors_len = 6,
                               .sentence = "", .run_ns = INT64_C(5) << 32};
    assert_true(bundle_leave(theirs, 0, &left));
    left = (struct bundle_left){.errors = "more", .errors_len = 4, .sentence = ""};
    assert_true(bundle_leave(theirs, 1, &left));
    static const char much[400 * 1024];
    left = (struct bundle_left){.errors = much, .errors_len = sizeof much, .sentence = ""};
    assert_false(bundle_leave(theirs, 2, &left));
    assert_true(bundle_take(both[0], 2, parts, &outputs, &words));
    assert_memory_equal(buf_bytes(outputs), "outerrorsmore", 13);
    assert_null(words);
    assert_true(parts[0].signalled && parts[0].swept && !parts[1].signalled && !parts[1].swept);
    assert_int_equal(parts[0].code, SIGSEGV);
    assert_int_equal(parts[0].run_ns, UINT32_MAX);
    assert_int_equal(parts[0].errors_len, 6);
    assert_int_equal(parts[1].errors_len, 4);
    buf_unref(&outputs);
}

/* ---- what the worker believes ---- */

struct side {
    struct shell_bundle bundle;
    struct shell_parts *parts;
    struct bundle *theirs;
};

static void open_side(struct side *side, bool commands)
{
    static Wire__Options options = WIRE__OPTIONS__INIT;
    options.max_output = 50;
    const struct agent_run run = {.options = &options, .count = 4, .not_after = MONO_NEVER, .begin_for = INT64_MAX};
    *side = (struct side){.bundle.commands = commands, .parts = shell_parts_new()};
    assert_non_null(side->parts);
    assert_int_equal(shell_bundle_open(&side->bundle), 0);
    assert_int_equal(shell_bundle_put(&side->bundle, &run), 0);
    side->theirs = bundle_map(side->bundle.fd);
    assert_non_null(side->theirs);
}

static void close_side(struct side *side)
{
    bundle_unmap(&side->theirs);
    shell_bundle_close(&side->bundle);
    shell_parts_destroy(&side->parts);
}

static struct agent_split split_side(struct side *side)
{
    struct agent_split split = {.begun_at = {1}};
    shell_bundle_split(&side->bundle, side->parts, false, &split);
    return split;
}

/* No more tasks than there were, no time that is still to come, and no result. */
static void rubbish_has_bounds(void **state)
{
    struct side side;
    (void)state;
    open_side(&side, false);
    memset(side.theirs, 0x7f, 128 * 1024);
    struct agent_split split = split_side(&side);
    assert_int_equal(split.begun, 4);
    assert_int_equal(split.n_parts, 3);
    assert_int_equal(split.begun_at.ns, 1);
    assert_int_equal(split.part_outputs.len, 0);
    for (uint32_t i = 0; i < split.n_parts; i++)
        assert_true(split.parts[i].code == 1 && split.parts[i].sentence && split.parts[i].output_len == 0);
    close_side(&side);
}

/* Of errors the sink takes only so many: more would be sent again for ever. */
static void only_commands_have_errors(void **state)
{
    const struct bundle_left left = {.code = 11, .signalled = true, .errors = "oh", .errors_len = 2, .sentence = ""};
    (void)state;
    for (int commands = 0; commands < 2; commands++) {
        struct side side;
        open_side(&side, commands);
        assert_int_equal(bundle_claim(side.theirs, mono_now()), 0);
        assert_true(bundle_leave(side.theirs, 0, &left));
        assert_int_equal(bundle_claim(side.theirs, mono_now()), 1);
        struct agent_split split = split_side(&side);
        assert_int_equal(split.n_parts, 1);
        assert_true(split.begun_at.ns > 1);
        assert_int_equal(split.parts[0].signalled, commands);
        assert_int_equal(split.parts[0].errors_len, commands ? 2 : 0);
        assert_int_equal(split.part_outputs.len, commands ? 2 : 0);
        assert_int_equal(split.parts[0].sentence == NULL, commands);
        close_side(&side);
    }
}

/* ---- the agent ---- */

static int begin(void **state)
{
    static struct world world;
    world = (struct world){.bundles = true, .lane_epoch = 1};
    build(&world, 1);
    world.options.handler = (char *)(uintptr_t)"resize";
    world.options.n_command = 0;
    *state = &world;
    return 0;
}

static int finish(void **state)
{
    struct world *w = *state;
    agent_destroy(&w->agent);
    return 0;
}

/* `n` have begun. */
static void end_bundle(struct world *w, uint32_t n, struct agent_end end)
{
    w->begun = n;
    end.run_ns = 2000 * (int64_t)n;
    agent_ended(w->agent, w->now, 0, &end);
}

/* Up to a bundle of four that runs, 1 to 4, and four more that wait. */
static void reach_bundle(struct world *w)
{
    shake_hands(w);
    announce(w, batch_a, -1);
    assign(w, batch_a, 0, 9, "a b c d e f g h i");
    tick(w);
    end_bundle(w, 1, (struct agent_end){.how = AGENT_EXITED});
    pass(w, 10 * MS);
    assert_non_null(strstr(w->trace, "run slot=0 a1+4.1 payload=bcde\n"));
    forget_trace(w);
}

static void a_bundle_is_one_message_of_each_kind(void **state)
{
    struct world *w = *state;
    reach_bundle(w);
    end_bundle(w, 4, (struct agent_end){.how = AGENT_EXITED, .output = {.data = (const uint8_t *)"Z", .len = 1}});
    tick(w);
    EXPECT(w, "split slot=0\nrun slot=0 a5+4.1 payload=fghi\nresult a1+4@1.1 ok slot=1 flags=8 body=ABCZ\nfinished a1+4@1.1\n");
    end_bundle(w, 4, (struct agent_end){.how = AGENT_EXITED});
    tick(w);
    EXPECT(w, "split slot=0\nresult a5+4@1.1 ok slot=1 flags=8 body=ABC\nfinished a5+4@1.1\n");
    assert_int_equal(counts(w).ended, 9);
}

static void a_crash_costs_one_attempt(void **state)
{
    struct world *w = *state;
    reach_bundle(w);
    end_bundle(w, 3, (struct agent_end){.how = AGENT_FAULT, .sentence = "it fell"});
    pass(w, 10 * MS);
    assert_non_null(strstr(w->trace, "run slot=0 a4.1 payload=e"));
    assert_non_null(strstr(w->trace, "result a1+2@1.1 ok slot=1 flags=8 body=AB\nresult a3+1@1.1 failed handler_fault slot=1 extras=1\n"));
}

static void what_never_began_costs_nothing(void **state)
{
    struct world *w = *state;
    reach_bundle(w);
    end_bundle(w, 0, (struct agent_end){.how = AGENT_KEEPER_DIED, .sentence = "killed"});
    pass(w, 10 * MS);
    EXPECT(w, "split slot=0\nrun slot=0 a1.1 payload=b handler=resize\n");
}

/* Or it would be tried for ever. */
static void what_can_not_begin_is_told_of_the_first(void **state)
{
    struct world *w = *state;
    reach_bundle(w);
    end_bundle(w, 0, (struct agent_end){.how = AGENT_FAULT, .sentence = "it won't load"});
    pass(w, 10 * MS);
    assert_non_null(strstr(w->trace, "run slot=0 a2"));
    assert_non_null(strstr(w->trace, "result a1+1@1.1 failed handler_fault slot=1 extras=1\n"));
}

static void a_cancel_knows_what_has_begun(void **state)
{
    struct world *w = *state;
    reach_bundle(w);
    w->begun = 2;
    cancel(w, batch_a, 0, 0, WIRE__REASON__CANCEL, false);
    EXPECT(w, "split slot=0\nstop slot=0 grace=2000ms\nfinished a1+1@1.1\nreturned cause=5 a3+6@1.1\nconfirmed 9 dropped=6 stopping=1\n");
}

static void one_that_takes_long_is_split(void **state)
{
    struct world *w = *state;
    reach_bundle(w);
    w->begun = 2;
    pass(w, 10 * MS);
    /* What has ended of it doesn't wait for the one that takes long. */
    EXPECT(w, "split slot=0 but the first\nfinished a1+1@1.1\nresult a1+1@1.1 ok slot=1 flags=8 body=A\n");
    assert_int_equal(counts(w).queued, 6);
    pass(w, 20 * MS);
    EXPECT(w, "started a2+1@1.1\n");
    end_bundle(w, 2, (struct agent_end){.how = AGENT_EXITED});
    pass(w, 10 * MS);
    assert_non_null(strstr(w->trace, "result a2+1@1.1 ok slot=1 flags=8\n"));
}

static void a_hello_tells_of_all_that_have_begun(void **state)
{
    struct world *w = *state;
    reach_bundle(w);
    w->begun = 3;
    agent_control(w->agent, w->now, false);
    agent_control(w->agent, w->now, true);
    assert_non_null(strstr(w->trace, "split slot=0 but the first\nhello running a3+1@1.1 queued a4+5@1.1 ended a0+3@1.1\n"));
}

static void a_drain_returns_what_has_not_begun(void **state)
{
    struct world *w = *state;
    reach_bundle(w);
    w->begun = 0;
    agent_drain(w->agent, w->now);
    tick(w);
    assert_non_null(strstr(w->trace, "split slot=0\n"));
    assert_non_null(strstr(w->trace, "returned cause="));
    assert_int_equal(counts(w).returned, 8);
    end_bundle(w, 0, (struct agent_end){.how = AGENT_EXITED});
    tick(w);
    assert_int_equal(counts(w).busy, 0);
    assert_int_equal(counts(w).queued, 0);
    assert_int_equal(counts(w).ended, 1);
}

/* ---- a batch's own command ---- */

static int begin_command(void **state)
{
    static struct world world;
    world = (struct world){.bundles = true, .lane_epoch = 1};
    build(&world, 1);
    *state = &world;
    return 0;
}

/* Its commands, one of which a signal ended, say something in both ways. */
static void commands_go_in_bundles_too(void **state)
{
    struct world *w = *state;
    reach_bundle(w);
    static struct agent_part parts[3] = {
        {.run_ns = 2000, .output_len = 1, .errors_len = 2}, {.code = 11, .signalled = true, .run_ns = 2000}, {.code = 3, .swept = true, .run_ns = 2000, .errors_len = 1},
    };
    w->parts = parts;
    w->part_outputs = (struct slice){.data = (const uint8_t *)"OEef", .len = 4};
    end_bundle(w, 4, (struct agent_end){.how = AGENT_EXITED});
    pass(w, 10 * MS);
    EXPECT(w, "split slot=0\n"
              "run slot=0 a5+4.1 payload=fghi\n"
              "result a1+4@1.1 ok failed failed ok - signal exit - slot=1 code=0 flags=8,0,12,8 body=OEef\n"
              "finished a1+4@1.1\n");
}

/* Each is told how much time it has: in a bundle that would be what the first one had. */
static void commands_with_little_time_go_alone(void **state)
{
    struct world *w = *state;
    shake_hands(w);
    announce(w, batch_a, 900);
    assign(w, batch_a, 0, 9, "a b c d e f g h i");
    tick(w);
    end_bundle(w, 1, (struct agent_end){.how = AGENT_EXITED});
    pass(w, 10 * MS);
    assert_non_null(strstr(w->trace, "run slot=0 a1.1 payload=b"));
}

int main(void)
{
    const struct CMUnitTest memory[] = {
        cmocka_unit_test(payloads_come_across), cmocka_unit_test(what_is_too_large_is_refused), cmocka_unit_test(a_claim_has_its_bounds),
        cmocka_unit_test(closing_says_what_has_begun), cmocka_unit_test(results_come_back), cmocka_unit_test(results_of_commands_come_back),
        cmocka_unit_test(large_ones_have_a_place_of_their_own), cmocka_unit_test(rubbish_has_bounds), cmocka_unit_test(only_commands_have_errors),
    };
    const struct CMUnitTest agent[] = {
        cmocka_unit_test_setup_teardown(a_bundle_is_one_message_of_each_kind, begin, finish),
        cmocka_unit_test_setup_teardown(a_crash_costs_one_attempt, begin, finish),
        cmocka_unit_test_setup_teardown(what_never_began_costs_nothing, begin, finish),
        cmocka_unit_test_setup_teardown(what_can_not_begin_is_told_of_the_first, begin, finish),
        cmocka_unit_test_setup_teardown(a_cancel_knows_what_has_begun, begin, finish),
        cmocka_unit_test_setup_teardown(one_that_takes_long_is_split, begin, finish),
        cmocka_unit_test_setup_teardown(a_hello_tells_of_all_that_have_begun, begin, finish),
        cmocka_unit_test_setup_teardown(a_drain_returns_what_has_not_begun, begin, finish),
        cmocka_unit_test_setup_teardown(commands_go_in_bundles_too, begin_command, finish),
        cmocka_unit_test_setup_teardown(commands_with_little_time_go_alone, begin_command, finish),
    };
    int bad = cmocka_run_group_tests_name("the memory", memory, open_memory, close_memory);
    return bad + cmocka_run_group_tests_name("the agent", agent, NULL, NULL);
}
