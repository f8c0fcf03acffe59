/* The register without memory: each allocation of its own fails in turn while a batch is registered, its results,
 * attempts and closings come in, a second one is forgotten, and while everything is rebuilt after a crash. What was not
 * taken in is sent again, as workers and the ventilator do; then every task has one verdict, on the disk too. */
#include <errno.h>

#include "sink/register.h"
#include "tests/support/fail.h"

/* Only the register itself runs out of memory: not the world around it, nor its ports. */
#define IN_REGISTER(call) (fail_resume(), (call), fail_pause())
#define register_ventilator(...) IN_REGISTER(register_ventilator(__VA_ARGS__))
#define register_downward(...) IN_REGISTER(register_downward(__VA_ARGS__))
#define register_result(...) IN_REGISTER(register_result(__VA_ARGS__))
#define register_result_packed(...) IN_REGISTER(register_result_packed(__VA_ARGS__))
#define register_committed(...) IN_REGISTER(register_committed(__VA_ARGS__))

#include "tests/unit/register_world.h"

#define OTHER_ID "other-other-othe"
#define THIRD_ID "third-third-thir"
#define TOTAL 10

/* ---- the ports, which always have memory ---- */

#define OUTSIDE(type, call)                \
    do {                                   \
        fail_pause();                      \
        type result = (call);              \
        fail_resume();                     \
        return result;                     \
    } while (0)

static int up(void *arg, const Wire__Upward *m, struct slice body, bool with_body) { OUTSIDE(int, world_up(arg, m, body, with_body)); }
static uint64_t put(void *arg, const char *key, const void *value, size_t len) { OUTSIDE(uint64_t, world_put(arg, key, value, len)); }
static uint64_t take_away(void *arg, const char *key) { OUTSIDE(uint64_t, world_remove(arg, key)); }
static uint64_t append(void *arg, uint64_t batch, uint64_t first, uint32_t count, enum register_row kind, struct slice head,
                       struct slice body, uint64_t *ret_row)
{
    OUTSIDE(uint64_t, world_append(arg, batch, first, count, kind, head, body, ret_row));
}
static uint64_t take_rows_away(void *arg, uint64_t batch) { OUTSIDE(uint64_t, world_remove_rows(arg, batch)); }

static struct registry *make(struct world *w)
{
    const struct register_config config = {.program = "sink 0", .store = "store-store-stor", .session = 7, .results_port = 1, .query_port = 2};
    struct register_ports ports = {.arg = w, .up = up, .put = put, .remove = take_away, .append = append, .remove_rows = take_rows_away,
                                   .moved = world_moved, .note = world_note};
    return register_new(&config, &ports);
}

/* ---- what happens ---- */

static void play(struct world *w)
{
    register_ventilator(w->registry, w->now, true);
    welcome_from(w, "journal-journal-");
    send_register(w, BATCH_ID, "b1", -1);
    commit(w);
    DELIVER(w, .first = 0, .count = 3);
    send_register(w, BATCH_ID, "b1", TOTAL);
    DELIVER(w, .first = 3, .count = 1, .verdict = WIRE__VERDICT__FAILED, .reason = WIRE__REASON__EXIT_CODE, .is_attempt = true);
    commit(w);
    DELIVER(w, .first = 3, .count = 1, .attempt = 2, .unpacked = true);
    CLOSE(w, .number = 1, .first = 4, .count = 6, .reason = WIRE__REASON__CANCEL_TASK);
    commit(w);
    send_ask(w, BATCH_ID);
    send_register(w, OTHER_ID, "b2", 5);
    commit(w);
    DELIVER(w, .first = 1, .count = 2, .id = OTHER_ID);
    commit(w);
    send_forget(w, OTHER_ID);
    commit(w);
}

static int take_records(struct world *w, struct why *why)
{
    for (size_t i = 0; i < w->n_ops; i++)
        if (w->ops[i].kind == OP_PUT
            && register_restore_record(w->registry, w->ops[i].key, w->ops[i].head.data, w->ops[i].head.len, why) < 0)
            return -1;
    return 0;
}

static int take_rows(struct world *w, struct why *why)
{
    uint64_t batch, after;
    while (register_restore_needs(w->registry, &batch, &after)) {
        for (size_t i = 0; i < w->n_ops; i++) {
            struct op *op = &w->ops[i];
            if (op->kind == OP_ROW && op->batch == batch && op->number > after
                && register_restore_row(w->registry, batch, op->number, op->row_kind, op->head, why) < 0)
                return -1;
        }
        register_restore_rows_end(w->registry, batch);
    }
    return 0;
}

/* A restart that finds no memory says so, and is made again. */
static void restart(struct world *w)
{
    struct why why = {""};
    register_destroy(&w->registry);
    for (size_t i = w->n_ops; i > 0; i--)
        if (w->ops[i - 1].sequence > w->committed)
            world_drop(w, i - 1);
    world_compact(w);
    qsort(w->ops, w->n_ops, sizeof *w->ops, op_order);
    w->committed = 0;
    for (size_t i = 0; i < w->n_ops; i++)
        w->ops[i].sequence = 0;
    for (int tries = 0; ; tries++) {
        assert_true(tries < 2);
        fail_resume();
        w->registry = make(w);
        int result = w->registry ? take_records(w, &why) : why_set(&why, "no memory");
        result = result < 0 ? result : take_rows(w, &why);
        fail_pause();
        if (result == 0)
            return;
        assert_true(fail_hits() > 0);
        if (!strstr(why.text, "memory"))
            fail_msg("without memory it says: %s", why.text);
        register_destroy(&w->registry);
    }
}

static void assert_each_once(struct world *w)
{
    const struct register_batch *b = register_find(w->registry, "b1");
    assert_non_null(b);
    assert_true(b->complete && b->total_known);
    assert_int_equal(b->total, TOTAL);
    assert_int_equal(b->recorded, TOTAL);
    assert_int_equal(b->counts[WIRE__VERDICT__OK], 4);
    assert_int_equal(b->counts[WIRE__VERDICT__CANCELLED], 6);
    assert_null(register_find(w->registry, "b2"));
}

static struct world *begin(const struct fail_sweep *sweep)
{
    fail_disarm();
    struct world *w = world_new();
    register_destroy(&w->registry);
    w->registry = make(w);
    assert_non_null(w->registry);
    fail_again(sweep);
    fail_pause();
    return w;
}

static void each_allocation_fails_in_turn(void **state)
{
    struct fail_sweep sweep = {.kinds = FAIL_MEMORY, .error = ENOMEM, .stride = 1};
    (void)state;
    while (fail_next(&sweep)) {
        size_t blocks = fail_blocks();
        struct world *w = begin(&sweep);
        play(w);
        fail_disarm();
        bool was_whole = fail_hits() == 0;
        if (was_whole)
            assert_each_once(w);
        /* Everything comes once more, as it does until it is answered. */
        w->heard_len = 0;
        long hits = fail_hits();
        play(w);
        assert_int_equal(fail_hits(), hits);
        assert_each_once(w);
        restart(w);
        assert_each_once(w);
        world_destroy(w);
        fail_blocks() == blocks ? (void)0 : fail_tell_blocks(blocks);
        assert_int_equal(fail_blocks(), blocks);
    }
    fail_said("allocations of the register", sweep.points);
    assert_true(sweep.points >= 20);
}

static void each_allocation_of_a_restart_fails(void **state)
{
    struct fail_sweep sweep = {.kinds = FAIL_MEMORY, .error = ENOMEM, .stride = 1};
    (void)state;
    while (fail_next(&sweep)) {
        size_t blocks = fail_blocks();
        struct world *w = begin(&sweep);
        fail_disarm();
        play(w);
        send_register(w, THIRD_ID, "b3", 5);           /* one that is not complete: its rows are read */
        commit(w);
        DELIVER(w, .first = 1, .count = 2, .id = THIRD_ID);
        commit(w);
        fail_again(&sweep);
        fail_pause();
        restart(w);
        fail_disarm();
        assert_int_equal(register_find(w->registry, "b1")->recorded, TOTAL);
        const struct register_batch *open = register_find(w->registry, "b3");
        assert_non_null(open);
        assert_int_equal(open->recorded, 2);
        assert_int_equal(register_prefix(w->registry, open->number, 0), 0);
        assert_int_equal(register_prefix(w->registry, open->number, 1), 3);
        world_destroy(w);
        assert_int_equal(fail_blocks(), blocks);
    }
    fail_said("allocations of the register's restart", sweep.points);
    assert_true(sweep.points >= 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_allocation_fails_in_turn),
        cmocka_unit_test(each_allocation_of_a_restart_fails),
    };
    return cmocka_run_group_tests_name("register without memory", tests, NULL, NULL);
}
