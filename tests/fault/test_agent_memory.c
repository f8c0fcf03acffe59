/* The agent without memory: the first, second, third … allocation fails, until a run needs no more of them. Whatever
 * fails, it neither crashes nor leaks, and what it holds it finishes and reports. */
#include "tests/unit/agent_world.h"

/* The sanitizers bring allocators of their own, which can't be stood in for like this: there nothing fails. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FAULTS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define FAULTS 0
#endif
#endif
#ifndef FAULTS
#define FAULTS 1
#endif

static long until_fault = -1;       /* allocations that are let through; -1: all */
static bool failed;

static long blocks;                 /* that are in use */

#if FAULTS
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void __libc_free(void *p);

static bool fails(void)
{
    failed |= until_fault == 0;
    return until_fault >= 0 && until_fault-- == 0;
}

static void *counted(void *block)
{
    blocks += block != NULL;
    return block;
}

void *malloc(size_t size) { return fails() ? NULL : counted(__libc_malloc(size)); }
void *calloc(size_t n, size_t size) { return fails() ? NULL : counted(__libc_calloc(n, size)); }
void *realloc(void *p, size_t size)
{
    if (fails())
        return NULL;
    return p ? __libc_realloc(p, size) : counted(__libc_realloc(p, size));
}

void free(void *p)
{
    blocks -= p != NULL;
    __libc_free(p);
}
#endif

static void end_all(struct world *w)
{
    for (uint32_t slot = 0; slot < 2; slot++) {
        struct agent_end end = {.how = AGENT_EXITED, .code = (int)slot, .sentence = slot ? "why" : NULL,
                                .output = {.data = (const uint8_t *)"output", .len = 6},
                                .errors = {.data = (const uint8_t *)"errors", .len = 6}, .run_ns = MS};
        agent_ended(w->agent, w->now, slot, &end);
    }
}

static void let_time_pass(struct world *w, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        pass(w, 200 * MS);
        end_all(w);
        tick(w);
        answer(w, w->last_beat);
        forget_trace(w);
    }
}

static void play(struct world *w)
{
    Wire__Value value = WIRE__VALUE__INIT, *values[] = {&value};
    value.key = (char *)(uintptr_t)"user";
    value.value = (char *)(uintptr_t)"ada";
    Wire__TaskExtra extra = WIRE__TASK_EXTRA__INIT, *extras[] = {&extra};
    extra.offset = 1;
    extra.values = values;
    extra.n_values = 1;
    agent_control(w->agent, w->now, true);
    welcome_dropping(w, NULL, 0);
    open_lane(w);
    agent_sink(w->agent, w->now, true);
    announce(w, batch_a, 60000);
    announce(w, batch_b, 1000);
    assign_these(w, &(struct assignment){.batch = batch_a, .count = 7, .body = "a b c d e f g", .extras = extras, .n_extras = 1});
    assign(w, batch_b, 0, 2, "x y");
    tick(w);
    answer(w, w->last_beat);
    cancel(w, batch_a, 4, 1, WIRE__REASON__CANCEL, false);
    end_all(w);
    tick(w);
    agent_control(w->agent, w->now, false);
    agent_control(w->agent, w->now, true);
    welcome_dropping(w, NULL, 0);
    open_lane(w);
    let_time_pass(w, 30);
}

/* Every run is the same but for the allocation that fails. */
static void each_allocation_fails_in_turn(void **state)
{
    (void)state;
    long n = 0;
    do {
        long before = blocks;
        struct world *w = calloc(1, sizeof *w);
        w->bare = true;
        build(w, 2);
        failed = false;
        until_fault = n++;
        play(w);
        until_fault = -1;
        struct agent_counts c = counts(w);
        assert_int_equal(c.queued, 0);
        assert_int_equal(c.busy, 0);
        /* What ended was sent, and sent again for want of a release; nothing is forgotten. */
        assert_int_equal(c.unreleased, c.ended);
        assert_true(w->results >= c.ended);
        if (!failed)
            assert_int_equal(c.ended, 8);
        agent_destroy(&w->agent);
        free(w);
        assert_int_equal(blocks, before);
    } while (failed);
    assert_true(!FAULTS || n > 20);
}

/* ---- bundles ---- */

/* All of them have begun; every other one says why it failed, so that its report can't join the one before. */
static void end_bundle(struct world *w)
{
    static struct agent_part parts[64];
    for (uint32_t i = 0; i < sizeof parts / sizeof *parts; i++)
        parts[i] = (struct agent_part){.code = i % 2 == 0, .run_ns = 2000, .output_len = 1, .sentence = i % 2 == 0 ? "why" : NULL};
    w->parts = parts;
    w->begun = w->count;
    w->part_outputs = (struct slice){.data = (const uint8_t *)"ABCDEFGHIJKLMNOPQRSTUVWXYZ", .len = w->count - 1};
    const struct agent_end end = {.how = AGENT_EXITED, .run_ns = 2000 * (int64_t)w->count};
    agent_ended(w->agent, w->now, 0, &end);
}

static void play_bundles(struct world *w)
{
    agent_control(w->agent, w->now, true);
    welcome_dropping(w, NULL, 0);
    open_lane(w);
    agent_sink(w->agent, w->now, true);
    announce(w, batch_a, -1);
    assign(w, batch_a, 0, 9, "a b c d e f g h i");
    tick(w);
    answer(w, w->last_beat);
    for (unsigned i = 0; i < 30; i++) {
        pass(w, 9 * MS);
        end_bundle(w);
        tick(w);
        answer(w, w->last_beat);
        forget_trace(w);
    }
}

/* What could not be reported is given back, and nothing is told of no tasks. */
static void each_allocation_of_bundles_fails_in_turn(void **state)
{
    (void)state;
    long n = 0;
    do {
        long before = blocks;
        struct world *w = calloc(1, sizeof *w);
        w->bare = w->bundles = true;
        build(w, 1);
        w->options.handler = (char *)(uintptr_t)"resize";
        w->options.n_command = 0;
        failed = false;
        until_fault = n++;
        play_bundles(w);
        until_fault = -1;
        struct agent_counts c = counts(w);
        assert_int_equal(c.queued, 0);
        assert_int_equal(c.busy, 0);
        /* One that was given back has ended too. */
        assert_int_equal(c.unreleased + c.returned, c.ended);
        if (!failed)
            assert_int_equal(c.ended, 9);
        agent_destroy(&w->agent);
        free(w);
        assert_int_equal(blocks, before);
    } while (failed);
    assert_true(!FAULTS || n > 20);
}

static void an_agent_is_made_whole_or_not_at_all(void **state)
{
    (void)state;
    static const struct agent_ports ports;
    static const char *const words[] = {"a", "b", NULL};
    const struct agent_handler handler = {.name = "h", .command = words};
    Wire__Value label = WIRE__VALUE__INIT;
    const Wire__Value *const labels[] = {&label};
    const struct agent_config config = {.name = "w1", .program = "p", .slots = 100, .handlers = &handler, .n_handlers = 1,
                                        .labels = labels, .n_labels = 1, .session = 1};
    struct agent *agent = NULL;
    for (long n = 0; !agent; n++) {
        failed = false;
        until_fault = n;
        agent = agent_new(&config, &ports);
        until_fault = -1;
        assert_true(failed == !agent);
    }
    agent_destroy(&agent);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_agent_is_made_whole_or_not_at_all),
        cmocka_unit_test(each_allocation_fails_in_turn),
        cmocka_unit_test(each_allocation_of_bundles_fails_in_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
