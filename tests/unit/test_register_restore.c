/* The register after a crash: exactly what was committed, whatever was on its way. Every run is
 * compared with a plain model of one verdict per task. */
#include "tests/unit/register_world.h"

#define TASKS 9000u

/* ---- the model ---- */

struct model {
    uint8_t verdict[TASKS];               /* staged; 0: none */
    uint8_t committed[TASKS];
};

/* A small generator of its own: the same runs everywhere. */
static uint64_t roll(uint64_t *seed, uint64_t below)
{
    *seed = *seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (*seed >> 33) % below;
}

static void settle(struct model *m, uint64_t first, uint64_t count, Wire__Verdict verdict)
{
    for (uint64_t i = first; i < first + count; i++)
        if (m->verdict[i] == 0)
            m->verdict[i] = (uint8_t)verdict;
}

static void compare(struct world *w, const struct model *m)
{
    uint64_t counts[WIRE_VERDICTS] = {0}, recorded = 0, first_open = TASKS;
    for (uint64_t i = TASKS; i-- > 0;) {
        counts[m->committed[i]]++;
        recorded += m->committed[i] != 0;
        first_open = m->committed[i] == 0 ? i : first_open;
    }
    const struct register_batch *batch = batch_seen(w);
    assert_int_equal(batch->recorded, recorded);
    for (size_t v = 1; v < WIRE_VERDICTS; v++)
        assert_int_equal(batch->counts[v], counts[v]);
    assert_int_equal(batch->complete, recorded == TASKS);
    assert_int_equal(prefix(w, 0), first_open);
}

/* After a restart nothing is staged: the answer to `ask` shows each task. */
static void compare_each_task(struct world *w, const struct model *m)
{
    register_ventilator(w->registry, w->now, true);
    welcome_from(w, "journal-journal-");
    send_ask(w, BATCH_ID);
    w->heard_len = 0;
    uint8_t is_in[TASKS] = {0};
    for (size_t s = 0; s < w->records->n_spans; s++)
        memset(is_in + w->records->spans[s]->first, 1, w->records->spans[s]->count);
    for (uint64_t i = 0; i < TASKS && i < w->bitmap.len * 8 && w->records->bitmap; i++)
        is_in[i] = w->bitmap.data[i / 8] >> (i % 8) & 1;
    for (uint64_t i = 0; i < TASKS; i++)
        assert_int_equal(is_in[i], m->committed[i] != 0);
}

/* ---- runs ---- */

static void do_result(struct world *w, struct model *m, uint64_t *seed)
{
    static const Wire__Verdict verdicts[] = {WIRE__VERDICT__OK, WIRE__VERDICT__FAILED, WIRE__VERDICT__LOST};
    uint64_t first = roll(seed, TASKS), block_end = (first / WIRE_BLOCK + 1) * WIRE_BLOCK;
    uint64_t end = block_end < TASKS ? block_end : TASKS;
    uint64_t most = roll(seed, 3) ? 40 : 1500;
    uint64_t count = 1 + roll(seed, end - first < most ? end - first : most);
    Wire__Verdict verdict = verdicts[roll(seed, 3)];
    DELIVER(w, .first = first, .count = (uint32_t)count, .verdict = verdict, .unpacked = roll(seed, 2));
    settle(m, first, count, verdict);
}

static void do_closing(struct world *w, struct model *m, uint64_t *seed, uint64_t number)
{
    uint64_t first = roll(seed, TASKS), count = 1 + roll(seed, TASKS - first);
    if (roll(seed, 4) == 0) {
        first = 0;
        count = TASKS;
    }
    CLOSE(w, .number = number, .first = first, .count = count);
    settle(m, first, count, WIRE__VERDICT__CANCELLED);
}

static void one_run(uint64_t seed)
{
    struct model *m = calloc(1, sizeof *m);
    struct world *w = world_with_batch(seed % 2 ? (int64_t)TASKS : -1);
    if (!(seed % 2))
        send_register(w, BATCH_ID, "b1", TASKS);
    commit(w);
    for (uint64_t step = 0; step < 150; step++) {
        uint64_t what = roll(&seed, 100);
        if (what < 60)
            do_result(w, m, &seed);
        else if (what < 62)
            do_closing(w, m, &seed, step);
        else if (what < 64)
            DELIVER(w, .first = roll(&seed, TASKS), .count = 1, .is_attempt = true);
        else if (what < 94) {
            commit(w);
            memcpy(m->committed, m->verdict, sizeof m->committed);
        } else {
            crash(w);
            memcpy(m->verdict, m->committed, sizeof m->verdict);
            compare_each_task(w, m);
        }
        compare(w, m);
        w->heard_len = 0;
    }
    world_destroy(w);
    free(m);
}

static void what_was_committed_comes_back_and_nothing_else(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 60; seed++)
        one_run(seed * 7919);
}

static void scattered_closings_come_back(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    for (uint64_t i = 0; i < 3000; i++)
        DELIVER(w, .first = i * 3, .count = 1);
    CLOSE(w, .number = 1, .first = 2, .count = 8996, .verdict = WIRE__VERDICT__DEADLINE_EXCEEDED, .reason = WIRE__REASON__DEADLINE);
    commit(w);
    uint64_t closed = batch_seen(w)->by_deadline;
    assert_int_equal(closed, 8996 - 2999);
    crash(w);
    assert_int_equal(batch_seen(w)->by_deadline, closed);
    assert_int_equal(batch_seen(w)->counts[WIRE__VERDICT__DEADLINE_EXCEEDED], closed);
    assert_int_equal(prefix(w, 0), 1);
    assert_int_equal(prefix(w, 2), 8998);
    world_destroy(w);
}

static void a_complete_batch_needs_no_rows(void **state)
{
    (void)state;
    struct world *w = world_with_batch(100);
    uint64_t batch, after;
    DELIVER(w, .first = 0, .count = 60);
    commit(w);
    DELIVER(w, .first = 60, .count = 40, .verdict = WIRE__VERDICT__CANCELLED, .reason = WIRE__REASON__CANCEL);
    crash(w);
    assert_int_equal(batch_seen(w)->recorded, 60);
    DELIVER(w, .first = 60, .count = 40, .verdict = WIRE__VERDICT__CANCELLED, .reason = WIRE__REASON__CANCEL);
    commit(w);
    for (size_t i = w->n_ops; i > 0; i--)
        if (w->ops[i - 1].kind == OP_ROW)
            world_drop(w, i - 1);
    crash(w);
    assert_false(register_restore_needs(w->registry, &batch, &after));
    assert_true(batch_seen(w)->complete && batch_seen(w)->whole_cancelled);
    assert_int_equal(batch_seen(w)->recorded, 100);
    assert_int_equal(batch_seen(w)->counts[WIRE__VERDICT__OK], 60);
    assert_int_equal(prefix(w, 0), 100);
    DELIVER(w, .first = 3, .count = 1);
    struct register_counts counts;
    register_count(w->registry, &counts);
    assert_int_equal(counts.duplicates, 1);
    assert_int_equal(counts.open_batches, 0);
    world_destroy(w);
}

static void an_unregistered_batch_is_gone(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    send_register(w, "batch-other-one-", "b2", -1);
    crash(w);
    assert_non_null(register_find(w->registry, "b1"));
    assert_null(register_find(w->registry, "b2"));
    world_destroy(w);
}

static void closings_are_known_again(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    CLOSE(w, .number = 3, .first = 10, .count = 5, .whole = true);
    commit(w);
    crash(w);
    register_ventilator(w->registry, w->now, true);
    welcome_from(w, "journal-journal-");
    w->heard_len = 0;
    CLOSE(w, .number = 3, .first = 10, .count = 5, .whole = true);
    assert_heard(w, "closing 3 closed 5; ");
    assert_true(batch_seen(w)->whole_cancelled);
    world_destroy(w);
}

static void attempts_and_duplicates_come_back(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    DELIVER(w, .first = 0, .count = 3, .is_attempt = true);
    DELIVER(w, .first = 1, .count = 1, .is_attempt = true, .attempt = 2);
    DELIVER(w, .first = 2, .count = 1);
    DELIVER(w, .first = 2, .count = 1);
    register_tick(w->registry, w->now, true);
    w->now = mono_add(w->now, NS_PER_S);
    register_tick(w->registry, w->now, true);       /* counts of duplicates are written once a second */
    commit(w);
    crash(w);
    assert_int_equal(batch_seen(w)->duplicates, 1);
    register_ventilator(w->registry, w->now, true);
    welcome_from(w, "journal-journal-");
    w->heard_len = 0;
    DELIVER(w, .first = 0, .count = 1, .is_attempt = true);
    send_ask(w, BATCH_ID);
    assert_heard(w, "attempt 0+1 all*1; records 1 of 2+1 0+1*1 1+1*2; ");
    world_destroy(w);
}

static void old_tombstones_go(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    char id[WIRE_ID + 1], short_id[WIRE_ID + 1];
    for (unsigned i = 0; i < 10050; i++) {
        snprintf(id, sizeof id, "many-batches%04x", i);
        snprintf(short_id, sizeof short_id, "x%x", i);
        send_register(w, id, short_id, -1);
        send_forget(w, id);
        if (i % 64 == 0) {
            commit(w);
            w->heard_len = 0;
        }
    }
    size_t puts = 0, removals = 0;
    for (size_t i = 0; i < w->n_ops; i++) {
        puts += w->ops[i].kind == OP_PUT;
        removals += w->ops[i].kind == OP_REMOVE;
    }
    assert_int_equal(removals, 50);
    assert_int_equal(puts, 10050 * 2 + 2);          /* with `meta` and the open one */
    w->heard_len = 0;
    commit(w);
    w->heard_len = 0;
    send_register(w, "many-batches0000", "x0", -1);     /* forgotten that it was forgotten */
    send_register(w, "many-batches2741", "x2741", -1);
    assert_heard(w, "");
    commit(w);
    assert_heard(w, "registered; registered unknown; ");
    world_destroy(w);
}

static void damage_is_named(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    struct why why = {""};
    assert_int_equal(register_restore_record(w->registry, "batch/0000000000000009", (const uint8_t *)"\xff", 1, &why), -1);
    assert_non_null(strstr(why.text, "record batch/0000000000000009 can't be read"));
    assert_int_equal(register_restore_record(w->registry, "batch/0000000000000009", (const uint8_t *)"", 0, &why), -1);
    assert_non_null(strstr(why.text, "is not a batch"));
    assert_int_equal(register_restore_record(w->registry, "worker/w1", (const uint8_t *)"", 0, &why), -1);
    assert_non_null(strstr(why.text, "none of a sink's"));
    assert_int_equal(register_restore_record(w->registry, "meta", (const uint8_t *)"\xff", 1, &why), -1);
    for (size_t i = 0; i < w->n_ops; i++)
        if (strncmp(w->ops[i].key, "batch/", 6) == 0)
            assert_int_equal(register_restore_record(w->registry, w->ops[i].key, w->ops[i].head.data, w->ops[i].head.len, &why), -1);
    assert_non_null(strstr(why.text, "second one"));
    world_destroy(w);
}

static void a_damaged_row_is_named(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    struct why why = {""};
    struct register_config config = {.store = "store-store-stor", .session = 7};
    struct register_ports ports = {w, world_up, world_put, world_remove, world_append, world_remove_rows, world_moved, world_note, NULL};
    struct registry *other = register_new(&config, &ports);
    uint64_t batch = 0, after;
    for (size_t i = 0; i < w->n_ops; i++)
        if (strncmp(w->ops[i].key, "batch/", 6) == 0)
            assert_int_equal(register_restore_record(other, w->ops[i].key, w->ops[i].head.data, w->ops[i].head.len, &why), 0);
    assert_true(register_restore_needs(other, &batch, &after));
    assert_int_equal(register_restore_row(other, batch, 5, ROW_VERDICT, (struct slice){NULL, (const uint8_t *)"\xff", 1}, &why), -1);
    assert_non_null(strstr(why.text, "row 5 of batch b1 can't be read"));
    register_destroy(&other);
    world_destroy(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_committed_comes_back_and_nothing_else),
        cmocka_unit_test(scattered_closings_come_back),
        cmocka_unit_test(a_complete_batch_needs_no_rows),
        cmocka_unit_test(an_unregistered_batch_is_gone),
        cmocka_unit_test(closings_are_known_again),
        cmocka_unit_test(attempts_and_duplicates_come_back),
        cmocka_unit_test(old_tombstones_go),
        cmocka_unit_test(damage_is_named),
        cmocka_unit_test(a_damaged_row_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
