/* What large payloads are allowed: at a worker, which must not be sent more than it takes in soon, and in memory. */
#include "tests/unit/ledger_world.h"

#define MIB (1u << 20)
#define WINDOW 8u                   /* MiB of payloads that may wait at a worker */

/* ---- what happens ---- */

/* Payloads of zeros; the trace shows none of them. */
static const uint8_t *nothing(void)
{
    static uint8_t zeros[40 * MIB];
    return zeros;
}

static Wire__Tasks tasks_of(uint32_t count, uint32_t *each)
{
    Wire__Tasks t = WIRE__TASKS__INIT;
    t.count = count;
    t.n_lengths = 1;
    t.lengths = each;
    return t;
}

/* A batch of so many payloads of so many bytes, in one frame. Of all of them the journal has the frame, memory that of the first. */
static void submit_large(struct world *w, unsigned n, uint32_t count, uint32_t each)
{
    uint8_t id[WIRE_ID] = {(uint8_t)n, (uint8_t)(n >> 8), 7};
    Wire__Options o = WIRE__OPTIONS__INIT;
    Wire__Submit s = WIRE__SUBMIT__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    o.n_command = 1, o.command = command;
    o.weight = 1;
    s.submission = wire_id_bytes(id);
    s.options = &o;
    m.id = 5;
    m.what_case = WIRE__REQUEST__WHAT_SUBMIT;
    m.submit = &s;
    request(w, &m, "");
    committed(w);
    ledger_tick(w->ledger, w->now, true);
    registered(w);
    Wire__Tasks t = tasks_of(count, &each);
    Wire__Chunk c = WIRE__CHUNK__INIT;
    c.batch = wire_id_bytes(w->batch);
    c.tasks = &t;
    c.digest_after = 1;
    c.last = true;
    w->total = count;
    m.what_case = WIRE__REQUEST__WHAT_CHUNK;
    m.chunk = &c;
    ledger_request(w->ledger, w->now, CLIENT, &m, (struct slice){.data = nothing(), .len = (size_t)count * each});
    committed(w);
    registered(w);
    ledger_tick(w->ledger, w->now, true);
    w->total = 0;
}

/* ---- at a worker ---- */

/* How many tasks were assigned since it was asked last; they are reported to run, when wanted. */
static uint32_t assigned(struct world *w, bool run)
{
    char trace[BYTES];
    uint32_t n = 0, count, attempt;
    uint64_t first;
    memcpy(trace, w->trace, sizeof trace);
    w->trace[0] = '\0';
    for (const char *at = trace; (at = strstr(at, "L1 assign ")) != NULL; at++) {
        assert_int_equal(sscanf(at, "L1 assign %" SCNu64 "+%u #%u", &first, &count, &attempt), 3);
        if (run)
            started(w, 11, 1, first, count, attempt);
        n += count;
    }
    return n;
}

static void wide_worker(struct world *w, uint32_t slots)
{
    sink_hello(w);
    worker_hello(w, 11, "w1", slots, NULL, 0);
    worker_opened(w, 11, 1);
    tick(w);
    w->trace[0] = '\0';
}

/* Payloads of half of the slots are as much as may wait at a worker. What runs doesn't wait. */
static void large_payloads_leave_no_slot_empty(void **state)
{
    struct world *w = *state;
    uint32_t held = 0;
    wide_worker(w, 2 * WINDOW);
    submit_large(w, 1, 40, MIB);
    for (int n = 0; n < 10; n++) {
        tick(w);
        held += assigned(w, true);
    }
    assert_in_range(held, 2 * WINDOW, 2 * WINDOW + 1);
}

static void what_has_not_begun_waits_within_the_window(void **state)
{
    struct world *w = *state;
    uint32_t held = 0;
    wide_worker(w, 2 * WINDOW);
    submit_large(w, 1, 40, MIB);
    for (int n = 0; n < 10; n++) {
        tick(w);
        held += assigned(w, false);
    }
    assert_int_equal(held, WINDOW);
    finished(w, 11, 1, 0, WINDOW, 1);           /* too quick to be reported before */
    tick(w);
    assert_int_equal(assigned(w, false), WINDOW);
}

/* Bytes come back once, by the report of a begin or by the end: the window is the same from the first task to the last. */
static void what_runs_and_ends_gives_its_bytes_back_once(void **state)
{
    struct world *w = *state;
    uint32_t sent = 0, begun = 0, ended = 0;
    wide_worker(w, 2 * WINDOW);
    submit_large(w, 1, 40, MIB);
    for (int n = 0; n < 100 && ended < 40; n++) {
        tick(w);
        sent += assigned(w, false);
        assert_true(sent - begun <= WINDOW);
        if (n % 2 == 0 && sent > begun) {
            started(w, 11, 1, begun, sent - begun, 1);
            begun = sent;
        } else if (begun > ended) {
            uint32_t some = begun - ended < 5 ? begun - ended : 5;
            finished(w, 11, 1, ended, some, 1);
            recorded(w, 11, ended, some, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);
            ended += some;
        }
    }
    assert_int_equal(ended, 40);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(large_payloads_leave_no_slot_empty),
        TEST(what_has_not_begun_waits_within_the_window),
        TEST(what_runs_and_ends_gives_its_bytes_back_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
