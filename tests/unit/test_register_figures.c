/* What the register tells for people: durations per handler and batch, verdicts, a sample of failures. */
#include "tests/unit/register_world.h"

static Wire__Figures *told;             /* the last ones; owned */
static unsigned n_told;

/* Stands before the world's own ear, which knows no figures. */
static int listen(void *arg, const Wire__Upward *message, struct slice body, bool with_body)
{
    if (message->what_case != WIRE__UPWARD__WHAT_FIGURES)
        return world_up(arg, message, body, with_body);
    struct wire_writer writer = {0};
    struct why why = {""};
    const Wire__Upward *read;
    struct world *w = arg;
    assert_int_equal(wire_write(&writer, &message->base), 0);
    if (wire_read_upward(w->arena, writer.bytes, writer.len, 0, &read, &why) < 0)
        fail_msg("%s", why.text);
    wire_free(&told);
    told = (Wire__Figures *)wire_copy(&read->figures->base);
    n_told++;
    wire_writer_release(&writer);
    return 0;
}

static struct world *start(int64_t total)
{
    struct world *w = world_new();
    register_destroy(&w->registry);
    struct register_ports ports = {w, listen, world_put, world_remove, world_append, world_remove_rows, world_moved, world_note, NULL};
    struct register_config config = {.program = "sink test", .session = 7};
    w->registry = register_new(&config, &ports);
    assert_non_null(w->registry);
    register_ventilator(w->registry, w->now, true);
    welcome_from(w, "journal-journal-");
    send_register(w, BATCH_ID, "b1", total);
    commit(w);
    assert_heard(w, "hello; registered; ");
    n_told = 0;
    return w;
}

static void stop(struct world *w)
{
    wire_free(&told);
    world_destroy(w);
}

static void tell(struct world *w)
{
    struct register_extra extra = {.waiting_bytes = 11, .trace_lines = 12, .trace_dropped = 13};
    register_tell_figures(w->registry, &extra);
}

static uint64_t sum(const Wire__Durations *d)
{
    uint64_t n = 0;
    for (size_t i = 0; i < d->n_buckets; i++)
        n += d->buckets[i];
    return n;
}

/* Four tasks from `first` on, each with a byte of output and four of errors; run times of 1, 2, 3 and 4 ms. */
static void results(struct world *w, uint64_t first, Wire__Verdict verdict, bool is_attempt)
{
    static uint64_t run[] = {1000, 2000, 3000, 4000}, waited[] = {500};
    static uint32_t one = 1, four = 4;
    static uint8_t body[] = "1ouch2ouch3\xff\x80\0!4 end";
    Wire__Fence fence = WIRE__FENCE__INIT;
    Wire__Report report = WIRE__REPORT__INIT;
    Wire__Result message = WIRE__RESULT__INIT;
    Wire__ResultExtra extra = WIRE__RESULT_EXTRA__INIT, *extras = &extra;
    Wire__Reason reason = WIRE__REASON__EXIT_CODE;
    int32_t code = 3;
    fence.batch = batch_id(BATCH_ID);
    fence.first = first;
    fence.count = 4;
    fence.epoch = fence.attempt = 1;
    report.fence = &fence;
    report.session = 99;
    report.worker = (char *)(uintptr_t)"w1";
    report.kind = is_attempt ? WIRE__RESULT_KIND__IS_ATTEMPT : WIRE__RESULT_KIND__IS_VERDICT;
    report.verdicts = &verdict;
    report.reasons = &reason;
    report.codes = &code;
    report.slots = report.output_lengths = &one;
    report.error_lengths = &four;
    report.n_verdicts = report.n_reasons = report.n_codes = report.n_slots = report.n_output_lengths = report.n_error_lengths = 1;
    report.run_us = run;
    report.n_run_us = 4;
    report.queued_us = waited;
    report.n_queued_us = 1;
    extra.offset = 1;
    extra.sentence = (char *)(uintptr_t)"line one\nline two";
    report.n_extras = 1;
    report.extras = &extras;
    message.what_case = WIRE__RESULT__WHAT_REPORT;
    message.report = &report;
    register_result(w->registry, w->now, &message, (struct slice){NULL, body, 20});
}

static void verdicts_and_durations(void **state)
{
    (void)state;
    struct world *w = start(20);
    results(w, 0, WIRE__VERDICT__OK, false);
    results(w, 0, WIRE__VERDICT__OK, false);         /* once more: a duplicate counts nowhere */
    results(w, 4, WIRE__VERDICT__FAILED, true);      /* tried again */
    w->now = mono_add(w->now, 3 * NS_PER_MS);
    register_committed(w->registry, w->now, 1000);
    tell(w);
    assert_int_equal(n_told, 1);
    assert_int_equal(told->waiting_bytes, 11);
    assert_int_equal(told->trace_lines, 12);
    assert_int_equal(told->trace_dropped, 13);
    assert_int_equal(told->duplicates, 4);
    assert_int_equal(told->recorded, 4);
    assert_int_equal(told->n_handlers, 2);           /* and the others */
    assert_string_equal(told->handlers[1]->handler, "other");
    assert_int_equal(told->handlers[0]->verdicts[WIRE__VERDICT__OK], 4);
    assert_int_equal(told->handlers[0]->verdicts[WIRE__VERDICT__FAILED], 0);
    assert_int_equal(told->handlers[0]->attempts, 4);
    assert_int_equal(sum(told->handlers[0]->run), 8);
    assert_int_equal(told->handlers[0]->run->sum_us, 20000);
    assert_int_equal(told->handlers[0]->wait->sum_us, 4000);
    assert_int_equal(told->n_batches, 1);
    assert_int_equal(sum(told->batches[0]->run), 8);
    assert_true(sum(told->commit) >= 2);
    assert_true(told->commit->sum_us >= 6000);
    /* Nothing new of the batch: it isn't told again. */
    tell(w);
    assert_int_equal(told->n_batches, 0);
    assert_int_equal(told->n_failures, 0);
    w->heard_len = 0;
    w->heard[0] = '\0';
    stop(w);
}

static void failures_are_a_sample(void **state)
{
    (void)state;
    struct world *w = start(100);
    for (uint64_t first = 0; first < 40; first += 4)
        results(w, first, first == 0 ? WIRE__VERDICT__CANCELLED : WIRE__VERDICT__FAILED, false);
    tell(w);
    assert_int_equal(told->n_failures, 16);
    assert_int_equal(told->failures[0]->index, 4);
    assert_int_equal(told->failures[0]->code, 3);
    assert_true(told->failures[0]->settled);
    assert_string_equal(told->failures[0]->worker, "w1");
    assert_int_equal(told->failures[0]->tail.len, 4);
    assert_memory_equal(told->failures[0]->tail.data, "ouch", 4);
    assert_string_equal(told->failures[0]->sentence, "");
    assert_string_equal(told->failures[1]->sentence, "line one line two");
    assert_memory_equal(told->failures[2]->tail.data, "\xff\x80\0!", 4);
    assert_memory_equal(told->failures[3]->tail.data, " end", 4);
    assert_int_equal(told->handlers[0]->verdicts[WIRE__VERDICT__FAILED], 36);
    CLOSE(w, .number = 1, .first = 40, .count = 60, .verdict = WIRE__VERDICT__LOST);
    tell(w);
    assert_int_equal(told->n_failures, 1);
    assert_int_equal(told->failures[0]->index, 40);
    assert_int_equal(told->failures[0]->verdict, WIRE__VERDICT__LOST);
    assert_int_equal(told->handlers[0]->verdicts[WIRE__VERDICT__LOST], 60);
    stop(w);
}

/* A batch that goes takes its figures with it, told or not. */
static void forgotten_batches(void **state)
{
    (void)state;
    struct world *w = start(4);
    results(w, 0, WIRE__VERDICT__OK, false);
    commit(w);
    send_forget(w, BATCH_ID);
    commit(w);
    tell(w);
    assert_int_equal(told->n_batches, 0);
    assert_int_equal(told->handlers[0]->verdicts[WIRE__VERDICT__OK], 4);
    w->heard_len = 0;
    stop(w);
}

static void nobody_is_told_who_is_not_there(void **state)
{
    (void)state;
    struct world *w = start(4);
    register_ventilator(w->registry, w->now, false);
    tell(w);
    assert_int_equal(n_told, 0);
    w->heard_len = 0;
    stop(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdicts_and_durations), cmocka_unit_test(failures_are_a_sample), cmocka_unit_test(forgotten_batches),
        cmocka_unit_test(nobody_is_told_who_is_not_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
