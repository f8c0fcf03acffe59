/* What people are told of tasks that wait though workers are here that could run them: slots that are busy, --max-running. */
#include "tests/unit/ledger_world.h"

#define BUSY_2 "all 2 slots that could run its tasks are busy, at 1 worker"

static void forget(struct world *w) { w->trace[0] = '\0'; }

/* index < 0: of the whole batch. */
static const char *explain(struct world *w, int64_t index)
{
    Wire__Number n = WIRE__NUMBER__INIT;
    Wire__Explain e = WIRE__EXPLAIN__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    n.n = (uint64_t)index;
    e.ref = w->short_id;
    e.index = index < 0 ? NULL : &n;
    m.what_case = WIRE__REQUEST__WHAT_EXPLAIN;
    m.explain = &e;
    request(w, &m, "");
    return w->story;
}

static const char *note_now(struct world *w)
{
    status(w);
    forget(w);
    return w->note;
}

static void has(const char *text, const char *part)
{
    if (strstr(text, part) == NULL)
        fail_msg("'%s' isn't in '%s'", part, text);
}

static void lacks(const char *text, const char *part)
{
    if (strstr(text, part) != NULL)
        fail_msg("'%s' is in '%s'", part, text);
}

static void label(Wire__Value *value, const char *key, const char *text)
{
    wire__value__init(value);
    value->key = (char *)(uintptr_t)key;
    value->value = (char *)(uintptr_t)text;
}

static void busy_slots_are_counted(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    batch(w, &o, "abcdef");
    assert_string_equal(note_now(w), "");           /* it gets on, though not all of it is at the worker … */
    has(explain(w, 5), "task 5: queued, 2 of its batch are before it\n" BUSY_2 "\n");
    lacks(explain(w, 0), "busy");
    lacks(explain(w, -1), "busy");
    batch(w, &o, "g");
    assert_string_equal(note_now(w), BUSY_2);       /* … and this one doesn't */
    assert_string_equal(strstr(explain(w, 0), "\n") + 1, BUSY_2 "\ntask 0: queued, 0 of its batch are before it\n");
    worker_hello(w, 12, "w2", 1, NULL, 0);
    assert_string_equal(note_now(w), BUSY_2 "; other workers: 1 away");        /* its lane isn't open yet */
    worker_opened(w, 12, 2);
    assert_string_equal(note_now(w), "");           /* that one has room */
    tick(w);
    batch(w, &o, "h");
    assert_string_equal(note_now(w), "all 3 slots that could run its tasks are busy, at 2 workers");
}

static void the_only_slot_is_called_so(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    sink_hello(w);
    worker_hello(w, 11, "w1", 1, NULL, 0);
    worker_opened(w, 11, 1);
    batch(w, &o, "ab");
    batch(w, &o, "c");
    assert_string_equal(note_now(w), "the only slot that could run its tasks is busy");
}

static void leaves(struct world *w, ledger_peer peer, unsigned lane)
{
    Wire__Heartbeat h = WIRE__HEARTBEAT__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    h.lane_sequence = 1;
    h.draining = true;
    m.what_case = WIRE__UPWARD__WHAT_HEARTBEAT;
    m.heartbeat = &h;
    upward(w, peer, peer, lane_of(lane), &m);
}

static void workers_that_take_nothing_new_are_named(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    worker_hello(w, 12, "w2", 1, NULL, 0);
    worker_opened(w, 12, 2);
    batch(w, &o, "abcde");
    batch(w, &o, "f");
    assert_string_equal(note_now(w), "all 3 slots that could run its tasks are busy, at 2 workers");
    leaves(w, 12, 2);
    assert_string_equal(note_now(w), BUSY_2 "; other workers: 1 draining");
    ledger_lane(w->ledger, w->now, lane_of(1), false);
    assert_string_equal(note_now(w), "no worker that could run its tasks takes new ones: 1 draining, 1 away");
}

static void a_higher_priority_is_named_where_it_wants_the_same_slots(void **state)
{
    struct world *w = *state;
    Wire__Value gpu;
    Wire__Value *labels[] = {&gpu};
    Wire__Options plain = WIRE__OPTIONS__INIT, urgent = WIRE__OPTIONS__INIT, special = WIRE__OPTIONS__INIT;
    char expected[200], low[16];
    label(&gpu, "gpu", "1");
    cluster(w);
    worker_hello_with(w, 12, "w2", 1, labels, 1, NULL, 0);
    worker_opened(w, 12, 2);
    batch(w, &plain, "abcde");
    special.n_require = 1;
    special.require = labels;
    batch(w, &special, "f");
    assert_string_equal(note_now(w), "the only slot that could run its tasks is busy");
    special.priority = 9;
    batch(w, &special, "g");
    assert_string_equal(note_now(w), "the only slot that could run its tasks is busy");        /* nothing is before it */
    batch(w, &plain, "h");
    snprintf(low, sizeof low, "%s", w->short_id);
    has(note_now(w), "all 3 slots that could run its tasks are busy, at 2 workers; batch ");
    urgent.priority = 7;
    batch(w, &urgent, "i");
    has(note_now(w), ", queued for them too, has a higher priority (9)");
    urgent.priority = 12;
    batch(w, &urgent, "j");
    assert_string_equal(note_now(w), "all 3 slots that could run its tasks are busy, at 2 workers");
    snprintf(expected, sizeof expected, "; batch %s, queued for them too, has a higher priority (12)", w->short_id);
    snprintf(w->short_id, sizeof w->short_id, "%s", low);
    has(note_now(w), expected);
}

static void another_kind_of_workers_is_no_reason(void **state)
{
    struct world *w = *state;
    Wire__Value a, b;
    Wire__Value *first[] = {&a}, *second[] = {&b};
    Wire__Options one = WIRE__OPTIONS__INIT, two = WIRE__OPTIONS__INIT;
    label(&a, "zone", "a");
    label(&b, "zone", "b");
    sink_hello(w);
    worker_hello_with(w, 11, "w1", 2, first, 1, NULL, 0);
    worker_opened(w, 11, 1);
    worker_hello_with(w, 12, "w2", 3, second, 1, NULL, 0);
    worker_opened(w, 12, 2);
    one.n_require = two.n_require = 1;
    one.require = first;
    two.require = second;
    two.priority = 3;
    batch(w, &two, "abcdefg");
    batch(w, &one, "hijkl");
    batch(w, &one, "m");
    assert_string_equal(note_now(w), BUSY_2);
}

static void a_reached_limit_is_named_to_who_asks(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    o.max_running = 1;
    cluster(w);
    batch(w, &o, "abcd");
    assert_string_equal(note_now(w), "");           /* it runs as was wanted */
    has(explain(w, -1), "--max-running 1 is reached: what is queued waits until one of those ends\n");
    has(explain(w, 3), "task 3: queued, 2 of its batch are before it\n--max-running 1 is reached");
    lacks(explain(w, 0), "max-running");
    cancel(w, 0, 1);                                /* what is stopped takes up its slot, and has its verdict soon */
    committed(w);
    tick(w);
    has(explain(w, 3), "--max-running 1 is reached");
    finished(w, 11, 1, 0, 1, 1);
    tick(w);
    has(explain(w, 3), "task 3: queued, 1 of its batch are before it\n--max-running 1 is reached");
    finished(w, 11, 1, 1, 1, 1);
    lacks(explain(w, 3), "max-running");
}

/* ---- a report of many ---- */

static char notes[8][WIRE_SENTENCE];
static size_t n_notes;

static void keep_notes(struct world *w, const Wire__Reply *m)
{
    (void)w;
    assert_int_equal(m->what_case, WIRE__REPLY__WHAT_LIST);
    n_notes = m->list->n_batches;
    for (size_t i = 0; i < n_notes && i < 8; i++)
        snprintf(notes[i], sizeof notes[i], "%s", m->list->batches[i]->note);
}

static void each_of_a_list_has_its_own(void **state)
{
    struct world *w = *state;
    Wire__Value gpu;
    Wire__Value *labels[] = {&gpu};
    Wire__Options o = WIRE__OPTIONS__INIT, special = WIRE__OPTIONS__INIT, none = WIRE__OPTIONS__INIT;
    Wire__List list = WIRE__LIST__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    label(&gpu, "gpu", "1");
    cluster(w);
    worker_hello_with(w, 12, "w2", 1, labels, 1, NULL, 0);
    worker_opened(w, 12, 2);
    batch(w, &o, "abcde");
    batch(w, &o, "f");
    special.n_require = 1;
    special.require = labels;
    batch(w, &special, "g");
    none.handler = (char *)(uintptr_t) "thumb";
    batch(w, &none, "h");
    m.what_case = WIRE__REQUEST__WHAT_LIST;
    m.list = &list;
    w->on_reply = keep_notes;
    request(w, &m, "");
    w->on_reply = NULL;
    assert_int_equal(n_notes, 4);
    assert_string_equal(notes[0], "");
    assert_string_equal(notes[1], "all 3 slots that could run its tasks are busy, at 2 workers");
    assert_string_equal(notes[2], "the only slot that could run its tasks is busy");
    has(notes[3], "no present worker has the handler 'thumb'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(busy_slots_are_counted, setup, teardown),
        cmocka_unit_test_setup_teardown(the_only_slot_is_called_so, setup, teardown),
        cmocka_unit_test_setup_teardown(workers_that_take_nothing_new_are_named, setup, teardown),
        cmocka_unit_test_setup_teardown(a_higher_priority_is_named_where_it_wants_the_same_slots, setup, teardown),
        cmocka_unit_test_setup_teardown(another_kind_of_workers_is_no_reason, setup, teardown),
        cmocka_unit_test_setup_teardown(a_reached_limit_is_named_to_who_asks, setup, teardown),
        cmocka_unit_test_setup_teardown(each_of_a_list_has_its_own, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
