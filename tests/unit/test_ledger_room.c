/* What fits where: large payloads at a worker, which must not be sent more than it takes in soon; payloads of many batches in
 * memory; and many attempts in one flight, which is cut wherever the worker's reports want it. */
#include "tests/unit/ledger_world.h"

#define MIB (1u << 20)
#define WINDOW 8u                   /* MiB of payloads that may wait at a worker */

/* ---- what happens ---- */

/* Payloads of zeros, but for the number of their batch at the beginning of each: the trace shows it. */
static struct slice payloads(unsigned batch, uint32_t count, uint32_t each)
{
    static uint8_t bytes[MIB];
    struct slice s = {.data = bytes, .len = (size_t)count * each};
    assert_true(s.len <= sizeof bytes);
    for (uint32_t i = 0; i < count; i++)
        snprintf((char *)bytes + (size_t)i * each, 8, "%u", batch);
    return s;
}

static Wire__Tasks tasks_of(uint64_t first, uint32_t count, uint32_t *each)
{
    Wire__Tasks t = WIRE__TASKS__INIT;
    t.first = first;
    t.count = count;
    t.n_lengths = 1;
    t.lengths = each;
    return t;
}

static void send_frame(struct world *w, unsigned batch, uint64_t first, uint32_t count, uint32_t each, bool last)
{
    Wire__Tasks t = tasks_of(first, count, &each);
    Wire__Chunk c = WIRE__CHUNK__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    c.batch = wire_id_bytes(w->batch);
    c.tasks = &t;
    c.digest_before = first;
    c.digest_after = first + count;
    c.last = last;
    m.what_case = WIRE__REQUEST__WHAT_CHUNK;
    m.chunk = &c;
    ledger_request(w->ledger, w->now, CLIENT, &m, payloads(batch, count, each));
}

/* A batch of so many frames, each of so many payloads of so many bytes. The journal has all of them, memory what the cache holds. */
static void submit_large(struct world *w, unsigned n, int32_t priority, uint32_t frames, uint32_t count, uint32_t each)
{
    uint8_t id[WIRE_ID] = {(uint8_t)n, (uint8_t)(n >> 8), 7};
    Wire__Options o = WIRE__OPTIONS__INIT;
    Wire__Submit s = WIRE__SUBMIT__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    o.n_command = 1, o.command = command;
    o.weight = 1;
    o.priority = priority;
    s.submission = wire_id_bytes(id);
    s.options = &o;
    m.what_case = WIRE__REQUEST__WHAT_SUBMIT;
    m.submit = &s;
    request(w, &m, "");
    committed(w);
    ledger_tick(w->ledger, w->now, true);       /* its answer names the batch */
    for (uint32_t i = 0; i < frames; i++)
        send_frame(w, n, (uint64_t)i * count, count, each, i + 1 == frames);
    w->total = (uint64_t)frames * count;
    committed(w);
    registered(w);
    w->trace[0] = '\0';
}

/* A frame of a batch is read from the journal. Batches are counted from 1 on. */
static void load_large(struct world *w, unsigned batch, uint64_t first, uint32_t count, uint32_t each)
{
    struct wire_writer writer = {0};
    Wire__Tasks t = tasks_of(first, count, &each);
    assert_int_equal(wire_write(&writer, &t.base), 0);
    struct ledger_frame f = {.first = first, .count = count, .head = {.data = writer.bytes, .len = writer.len},
                             .body = payloads(batch, count, each)};
    ledger_loaded(w->ledger, w->now, batch, &f, 1, NULL);
    wire_writer_release(&writer);
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

/* A turn, and as many more as it takes until no payload is missing. */
static void turn_with_payloads(struct world *w)
{
    const char *at;
    uint64_t from;
    ledger_tick(w->ledger, w->now, true);
    for (at = w->trace; (at = strstr(at, "load b1 ")) != NULL; at++) {
        assert_int_equal(sscanf(at, "load b1 %" SCNu64, &from), 1);
        load_large(w, 1, from, 1, MIB);
        ledger_tick(w->ledger, w->now, true);
    }
    audit(w);
}

static void wide_worker(struct world *w, uint32_t slots)
{
    sink_hello(w);
    worker_hello(w, 11, "w1", slots, NULL, 0);
    worker_opened(w, 11, 1);
    tick(w);
    w->trace[0] = '\0';
}

/* How many of a batch of 1 MiB tasks a worker of twice as many slots as its window has MiB holds after some turns. */
static uint32_t held_of_large(struct world *w, bool run)
{
    uint32_t held = 0;
    wide_worker(w, 2 * WINDOW);
    submit_large(w, 1, 0, 40, 1, MIB);
    for (int n = 0; n < 10; n++) {
        turn_with_payloads(w);
        held += assigned(w, run);
    }
    return held;
}

/* Payloads of half of the slots are as much as may wait at a worker. What runs doesn't wait. */
static void large_payloads_leave_no_slot_empty(void **state)
{
    assert_in_range(held_of_large(*state, true), 2 * WINDOW, 2 * WINDOW + 1);
}

static void what_has_not_begun_waits_within_the_window(void **state)
{
    struct world *w = *state;
    assert_int_equal(held_of_large(w, false), WINDOW);
    finished(w, 11, 1, 0, WINDOW, 1);           /* too quick to be reported before */
    turn_with_payloads(w);
    assert_int_equal(assigned(w, false), WINDOW);
}

/* Bytes come back once, by the report of a begin or by the end: the window is the same from the first task to the last. */
static void what_runs_and_ends_gives_its_bytes_back_once(void **state)
{
    struct world *w = *state;
    uint32_t sent = 0, begun = 0, ended = 0;
    wide_worker(w, 2 * WINDOW);
    submit_large(w, 1, 0, 40, 1, MIB);
    for (int n = 0; n < 100 && ended < 40; n++) {
        turn_with_payloads(w);
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

/* ---- in memory ---- */

#define CACHE MIB                   /* as the world has it; what is used in part stays up to 16 times as much */
#define UNDER_WAY 40u               /* frames that may be asked for in one turn */

/* How many loads were asked for since the trace was emptied; the last ones of them, at most `room`. */
static unsigned loads(const struct world *w, unsigned *batches, unsigned room)
{
    unsigned n = 0;
    for (const char *at = w->trace; (at = strstr(at, "load b")) != NULL; at++, n++)
        if (n < room)
            assert_int_equal(sscanf(at, "load b%u ", &batches[n]), 1);
    return n;
}

/* A slot wants one of them, and all may be the next. */
static void one_free_slot_does_not_ask_for_all_payloads(void **state)
{
    struct world *w = *state;
    sink_hello(w);
    for (unsigned b = 1; b <= 500; b++)
        submit_large(w, b, 0, 1, 1, MIB);
    worker_hello(w, 11, "w1", 1, NULL, 0);
    worker_opened(w, 11, 1);
    w->trace[0] = '\0';
    tick(w);
    assert_in_range(loads(w, NULL, 0), 1, UNDER_WAY);
}

/* Fifty batches are read one after the other for commands, and the journal takes its time. */
static void what_is_read_for_some_keeps_no_others_waiting(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    Wire__Range range = WIRE__RANGE__INIT;
    char key[] = "gpu", value[] = "yes";
    Wire__Value label = WIRE__VALUE__INIT, *labels = &label;
    label.key = key, label.value = value;
    sink_hello(w);
    for (unsigned b = 1; b <= 50; b++)
        submit_large(w, b, 1, 1, 1, MIB);
    worker_hello(w, 11, "w1", 64, NULL, 0);
    worker_opened(w, 11, 1);
    tick(w);
    assert_in_range(loads(w, NULL, 0), 1, UNDER_WAY);
    worker_hello_with(w, 12, "w2", 1, &labels, 1, NULL, 0);
    worker_opened(w, 12, 2);
    range.count = 10, range.step = 1;
    o.range = &range;
    o.require = &labels;
    o.n_require = 1;
    submit(w, &o, 9);
    committed(w);
    w->total = 10;
    registered(w);
    w->trace[0] = '\0';
    tick(w);
    assert_non_null(strstr(w->trace, "L2 assign 0+"));
}

#define MANY 200u                   /* batches */
#define EACH 4u                     /* tasks of one, in one frame */
#define FRAME (CACHE / 4)

struct many {
    uint8_t ids[MANY + 1][WIRE_ID];
    struct { unsigned batch; uint64_t first; uint32_t count, attempt; } at[8];      /* what the worker holds */
    unsigned n;
    uint64_t ended, peak;
};

static void look_at_memory(struct world *w, struct many *m)
{
    struct ledger_counts counts;
    ledger_count(w->ledger, &counts);
    m->peak = counts.cached_bytes > m->peak ? counts.cached_bytes : m->peak;
}

/* A turn: what it assigns is noted, what it asks for is read. false: it asked for nothing. */
static bool turn(struct world *w, struct many *m)
{
    unsigned batches[MANY], n;
    w->trace[0] = '\0';
    ledger_tick(w->ledger, w->now, true);
    look_at_memory(w, m);
    for (const char *at = w->trace; (at = strstr(at, "L1 assign ")) != NULL; at++, m->n++) {
        assert_true(m->n < sizeof m->at / sizeof *m->at);
        assert_int_equal(sscanf(at, "L1 assign %" SCNu64 "+%u #%u left=0 '%u'", &m->at[m->n].first, &m->at[m->n].count, &m->at[m->n].attempt,
                                &m->at[m->n].batch), 4);
    }
    n = loads(w, batches, MANY);
    for (unsigned i = 0; i < n; i++) {
        load_large(w, batches[i], 0, EACH, FRAME / EACH);
        look_at_memory(w, m);
    }
    return n > 0;
}

/* The oldest of what the worker holds ends. */
static void one_ends(struct world *w, struct many *m)
{
    assert_true(m->n > 0);
    memcpy(w->batch, m->ids[m->at[0].batch], WIRE_ID);
    finished(w, 11, 1, m->at[0].first, m->at[0].count, m->at[0].attempt);
    recorded(w, 11, m->at[0].first, m->at[0].count, m->at[0].attempt, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);
    m->ended += m->at[0].count;
    memmove(&m->at[0], &m->at[1], --m->n * sizeof m->at[0]);
}

/* Until all have ended. */
static void all_end(struct world *w, struct many *m)
{
    for (int n = 0; n < 4000 && m->ended < MANY * EACH; n++)
        if (!turn(w, m))
            one_ends(w, m);
    assert_int_equal(m->ended, MANY * EACH);
    audit(w);
}

/* Batches take turns, and of each a frame is used in part: there isn't memory for all of them. All are run all the same. */
static void frames_of_many_batches_fit_into_memory(void **state)
{
    struct world *w = *state;
    struct many m = {0};
    sink_hello(w);
    for (unsigned b = 1; b <= MANY; b++) {
        submit_large(w, b, 0, 1, EACH, FRAME / EACH);
        memcpy(m.ids[b], w->batch, WIRE_ID);
    }
    worker_hello(w, 11, "w1", 1, NULL, 0);
    worker_opened(w, 11, 1);
    all_end(w, &m);
    assert_in_range(m.peak, FRAME, 16 * CACHE + UNDER_WAY * FRAME);
}

/* Each batch begins, and the next one goes before it. */
static void frames_that_wait_for_what_is_more_urgent_fit_into_memory(void **state)
{
    struct world *w = *state;
    struct many m = {0};
    sink_hello(w);
    worker_hello(w, 11, "w1", 1, NULL, 0);
    worker_opened(w, 11, 1);
    for (unsigned b = 1; b <= MANY; b++) {
        submit_large(w, b, (int32_t)b, 1, EACH, FRAME / EACH);
        memcpy(m.ids[b], w->batch, WIRE_ID);
        if (m.n > 0)
            one_ends(w, &m);                    /* the worker has no room before */
        while (turn(w, &m))
            ;
    }
    all_end(w, &m);
    assert_in_range(m.peak, FRAME, 16 * CACHE + UNDER_WAY * FRAME);
}

/* ---- in one flight ---- */

#define FLIGHT 300u

/* What is known of the tasks of a flight. */
struct known { bool started, ended, done, back; };

static void show_workers(struct world *w, const Wire__Reply *m)
{
    const Wire__WorkerStatus *s = m->workers->workers[0];
    say(w, "held=%" PRIu64 " ", s->held);
}

/* What the ledger tells of the first worker: what it holds, and what runs there. */
static void expect_known(struct world *w, const struct known k[FLIGHT])
{
    unsigned held = 0, running = 0;
    char expected[64];
    Wire__Workers workers = WIRE__WORKERS__INIT;
    Wire__Slowest slowest = WIRE__SLOWEST__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    for (unsigned i = 0; i < FLIGHT; i++) {
        held += !k[i].back && !k[i].ended && !k[i].done;      /* what is recorded has ended, too */
        running += !k[i].back && k[i].started && !k[i].ended && !k[i].done;
    }
    w->trace[0] = '\0';
    w->on_reply = show_workers;
    m.what_case = WIRE__REQUEST__WHAT_WORKERS;
    m.workers = &workers;
    request(w, &m, "");
    w->on_reply = NULL;
    slowest.most = 1;
    m.what_case = WIRE__REQUEST__WHAT_SLOWEST;
    m.slowest = &slowest;
    request(w, &m, "");
    snprintf(expected, sizeof expected, "held=%u slowest of %u:", held, running);
    w->trace[strcspn(w->trace, ":") + 1] = '\0';
    assert_string_equal(w->trace, expected);
    audit(w);
}

/* Tasks with all combinations of what can be known of one, in another order in each word of bits. Of those that will come back
 * nothing is known. */
static void learn(struct world *w, struct known k[FLIGHT])
{
    for (unsigned i = 0; i < FLIGHT; i++) {
        unsigned mix = i * 2654435761u >> 16;
        if (k[i].back)
            continue;
        k[i] = (struct known){.started = mix % 3 == 0, .ended = mix % 5 == 0, .done = mix % 7 == 0};
        if (k[i].started)
            started(w, 11, 1, i, 1, 1);
        if (k[i].ended)
            finished(w, 11, 1, i, 1, 1);
        if (k[i].done)
            recorded(w, 11, i, 1, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);
    }
}

static void comes_back(struct world *w, uint64_t index)
{
    returned(w, 11, 1, index, 1, 1);
}

/* The worker leaves, and another one gets all that isn't done, and nothing else. */
static void expect_elsewhere(struct world *w, const struct known k[FLIGHT])
{
    Wire__Goodbye goodbye = WIRE__GOODBYE__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    bool got[FLIGHT] = {false};
    unsigned first, count;
    m.what_case = WIRE__UPWARD__WHAT_GOODBYE;
    m.goodbye = &goodbye;
    upward(w, 11, 11, lane_of(1), &m);
    worker_hello(w, 12, "w2", FLIGHT, NULL, 0);
    worker_opened(w, 12, 2);
    w->trace[0] = '\0';
    tick(w);
    for (const char *at = w->trace; (at = strstr(at, "L2 assign ")) != NULL; at++) {
        assert_int_equal(sscanf(at, "L2 assign %u+%u #2", &first, &count), 2);
        for (unsigned i = first; i < first + count; i++) {
            assert_true(i < FLIGHT && !got[i]);
            got[i] = true;
        }
    }
    for (unsigned i = 0; i < FLIGHT; i++)
        assert_int_equal(got[i], !k[i].done);
}

/* One task after the other comes back: each cuts the flight that it is in. */
static void cut(struct world *w, const unsigned *at, size_t n)
{
    struct known k[FLIGHT] = {0};
    Wire__Options o = WIRE__OPTIONS__INIT;
    Wire__Range range = WIRE__RANGE__INIT;
    range.count = FLIGHT, range.step = 1;
    o.range = &range;
    wide_worker(w, FLIGHT);
    submit(w, &o, 1);
    committed(w);
    tick(w);
    w->total = FLIGHT;
    registered(w);
    tick(w);
    assert_non_null(strstr(w->trace, "L1 assign 0+300 #1"));
    for (size_t i = 0; i < n; i++)
        k[at[i]].back = true;
    learn(w, k);
    for (size_t i = 0; i < n; i++)
        k[at[i]].back = false;
    expect_known(w, k);
    for (size_t i = 0; i < n; i++) {
        comes_back(w, at[i]);
        k[at[i]].back = true;
        expect_known(w, k);
    }
    expect_elsewhere(w, k);
}

static void a_flight_that_is_cut_keeps_what_is_known_of_its_tasks(void **state)
{
    static const unsigned at[] = {1, 63, 64, 65, 127, 200};
    cut(*state, at, sizeof at / sizeof *at);
}

static void a_flight_may_be_cut_from_behind(void **state)
{
    static const unsigned at[] = {299, 200, 192, 191, 128, 127, 65, 64, 63, 1, 0};
    cut(*state, at, sizeof at / sizeof *at);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(large_payloads_leave_no_slot_empty),
        TEST(what_has_not_begun_waits_within_the_window),
        TEST(what_runs_and_ends_gives_its_bytes_back_once),
        TEST(one_free_slot_does_not_ask_for_all_payloads),
        TEST(what_is_read_for_some_keeps_no_others_waiting),
        TEST(frames_of_many_batches_fit_into_memory),
        TEST(frames_that_wait_for_what_is_more_urgent_fit_into_memory),
        TEST(a_flight_that_is_cut_keeps_what_is_known_of_its_tasks),
        TEST(a_flight_may_be_cut_from_behind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
