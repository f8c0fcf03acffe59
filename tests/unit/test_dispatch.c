/* How good dispatch is, and what it looks at, in virtual time: real ledger, real agents (tests/support/dispatch.h). Nothing here
 * depends on the machine: makespan and idle time are those of the model, and work is counted in candidates. */
#include "tests/unit/ledger_world.h"

#include "common/clock.h"
#include "tests/support/dispatch.h"

#define LAN (NS_PER_MS / 5)

struct result { double over, lost, looked, messages; };

/* The mean of three seeds. */
static struct result fly(struct dispatch_case c)
{
    struct result r = {0};
    c.slots = c.slots > 0 ? c.slots : 4;
    c.round_trip = c.round_trip > 0 ? c.round_trip : LAN;
    for (c.seed = 1; c.seed <= 3; c.seed++) {
        struct dispatch_figures f;
        dispatch_run(&c, &f);
        if (!f.complete)
            fail_msg("seed %" PRIu64 " did not end", c.seed);
        r.over += (double)f.makespan / (double)f.ideal / 3;
        r.lost += f.lost / 3;
        r.looked += (double)f.looked / (double)c.tasks / 3;
        r.messages += (double)f.messages / (double)c.tasks / 3;
    }
    return r;
}

#define AT_MOST(value, most) at_most(#value, (double)(value), most, __LINE__)
static void at_most(const char *what, double value, double most, int line)
{
    if (value > most)
        fail_msg("line %d: %s is %.4f, more than %.4f", line, what, value, most);
}

static void one_and_twenty_milliseconds(void **state)
{
    (void)state;
    struct result r = fly((struct dispatch_case){.mix = MIX_SPEEDS, .workers = 2, .slots = 1, .tasks = 4000, .mean = NS_PER_MS});
    AT_MOST(r.over, 1.05);
    AT_MOST(r.lost, 0.02);
    AT_MOST(r.messages, 1.0);
}

static void whatever_the_times_are_distributed_like(void **state)
{
    (void)state;
    for (unsigned t = 0; t < TIMES_KINDS; t++) {
        struct result r = fly((struct dispatch_case){.times = (enum dispatch_times)t, .workers = 20, .tasks = 4000, .mean = 100 * NS_PER_MS});
        AT_MOST(r.over, 1.06);      /* the rest is luck: who has the longest task when */
        AT_MOST(r.lost, 0.005);
    }
}

static void workers_that_differ_come_and_go(void **state)
{
    (void)state;
    static const double most[MIX_KINDS] = {1.02, 1.05, 1.02, 1.10, 1.02, 1.02, 1.02, 1.02};
    for (unsigned m = 0; m < MIX_KINDS; m++) {
        struct result r = fly((struct dispatch_case){.times = TIMES_UNIFORM, .mix = (enum dispatch_mix)m, .workers = 20, .tasks = 8000,
                                                     .mean = m == MIX_LOST ? NS_PER_S : 100 * NS_PER_MS});
        AT_MOST(r.over, most[m]);
        AT_MOST(r.lost, 0.005);
    }
}

static void many_batches(void **state)
{
    (void)state;
    /* What a limited batch has waiting at a worker counts as running. */
    static const double most[BATCHES_KINDS] = {1.02, 1.02, 1.02, 1.10, 1.02};
    for (unsigned b = 0; b < BATCHES_KINDS; b++) {
        struct result r = fly((struct dispatch_case){.times = TIMES_UNIFORM, .batches = (enum dispatch_batches)b, .workers = 20, .tasks = 8000,
                                                     .mean = 100 * NS_PER_MS});
        AT_MOST(r.over, most[b]);
        AT_MOST(r.lost, 0.01);
    }
}

static void far_away(void **state)
{
    (void)state;
    struct result near = fly((struct dispatch_case){.times = TIMES_UNIFORM, .workers = 10, .tasks = 4000, .mean = 100 * NS_PER_MS,
                                                    .round_trip = 2 * NS_PER_MS});
    struct result far = fly((struct dispatch_case){.times = TIMES_UNIFORM, .workers = 10, .tasks = 4000, .mean = NS_PER_S,
                                                   .round_trip = 50 * NS_PER_MS});
    AT_MOST(near.lost, 0.005);
    AT_MOST(far.lost, 0.01);
    AT_MOST(near.over, 1.02);
    AT_MOST(far.over, 1.02);
}

/* ---- what is looked at ---- */

static void looks_do_not_grow_with_workers(void **state)
{
    (void)state;
    for (unsigned m = 0; m < MIX_KINDS; m += MIX_LABELS) {
        struct dispatch_case c = {.times = TIMES_UNIFORM, .mix = (enum dispatch_mix)m, .mean = 50 * NS_PER_MS};
        c.workers = 20, c.tasks = 2000;
        double few = fly(c).looked;
        c.workers = 500, c.tasks = 50000;
        AT_MOST(fly(c).looked, 2 * few + 5);
    }
}

static void looks_do_not_grow_with_the_backlog(void **state)
{
    struct world *w = *state;
    uint64_t looked[2];
    for (size_t i = 0; i < 2; i++) {
        struct ledger_counts before, after;
        Wire__Range range = WIRE__RANGE__INIT;
        Wire__Options o = WIRE__OPTIONS__INIT;
        range.count = i == 0 ? 10000 : 4000000000;
        range.step = 1;
        o.range = &range;
        if (i == 0)
            cluster(w);
        submit(w, &o, (uint8_t)(i + 1));
        committed(w);
        ledger_count(w->ledger, &before);
        registered(w);
        for (int n = 0; n < 100; n++)
            tick(w);
        ledger_count(w->ledger, &after);
        looked[i] = after.looked - before.looked;
    }
    AT_MOST(looked[1], (double)looked[0] + 100);
}

/* Ten tasks that want this label. */
static void submit_pinned(struct world *w, unsigned n, Wire__Value *label)
{
    uint8_t id[WIRE_ID] = {(uint8_t)n, (uint8_t)(n >> 8), 7};
    Wire__Range range = WIRE__RANGE__INIT;
    Wire__Options o = WIRE__OPTIONS__INIT;
    Wire__Submit s = WIRE__SUBMIT__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    range.count = 10, range.step = 1;
    o.n_command = 1, o.command = command;
    o.range = &range;
    o.n_require = 1, o.require = &label;
    s.submission = wire_id_bytes(id);
    s.options = &o;
    m.what_case = WIRE__REQUEST__WHAT_SUBMIT;
    m.submit = &s;
    request(w, &m, "");
    committed(w);
    w->trace[0] = '\0';
    registered(w);
}

/* Hundreds of batches that nobody here can run are one kind, and looked at as one. */
static void looks_do_not_grow_with_batches_that_wait(void **state)
{
    struct world *w = *state;
    char gpu[] = "gpu", yes[] = "yes";
    Wire__Value label = WIRE__VALUE__INIT;
    struct ledger_counts before, after;
    label.key = gpu, label.value = yes;
    cluster(w);
    for (unsigned i = 0; i < 400; i++)
        submit_pinned(w, i, &label);
    ledger_count(w->ledger, &before);
    for (int n = 0; n < 100; n++)
        tick(w);
    ledger_count(w->ledger, &after);
    assert_int_equal(before.open_batches, 400);
    AT_MOST(after.looked - before.looked, 100 * 10);
}

/* Many kinds of batches, each for one worker of its own, which has no room. */
static void looks_do_not_grow_with_kinds_that_are_full(void **state)
{
    struct world *w = *state;
    struct ledger_counts before, after;
    Wire__Value label = WIRE__VALUE__INIT, *labels = &label;
    char host[] = "host", name[8];
    label.key = host, label.value = name;
    sink_hello(w);
    for (unsigned n = 1; n <= 50; n++) {
        snprintf(name, sizeof name, "w%u", n);
        worker_hello_with(w, 10 + n, name, 2, &labels, 1, NULL, 0);
        worker_opened(w, 10 + n, n);
        submit_pinned(w, n, &label);
        tick(w);
        w->trace[0] = '\0';
    }
    ledger_count(w->ledger, &before);
    for (int n = 0; n < 100; n++)
        tick(w);
    ledger_count(w->ledger, &after);
    assert_int_equal(after.in_flight, 50 * 3);
    AT_MOST(after.looked - before.looked, 100 * 10);
}

/* ---- recalls ---- */

static void opens(struct world *w, unsigned n)
{
    char name[] = "w0";
    name[1] = (char)('0' + n);
    worker_hello(w, 10 + n, name, 2, NULL, 0);
    worker_opened(w, 10 + n, n);
    w->trace[0] = '\0';
}

/* Each of two workers has one task more than it has slots. One that is idle asks both back in one turn; another one finds
 * nothing that isn't asked for. */
static void what_waits_is_asked_back_once(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    opens(w, 2);
    batch(w, &o, "abcdef");
    w->trace[0] = '\0';
    opens(w, 3);
    tick(w);
    EXPECT(w, "L1 recall 1\nL2 recall 1\n");
    opens(w, 4);
    tick(w);
    tick(w);
    EXPECT(w, "");
    confirmed(w, 12, 2, w->recall, 0, 0);       /* it had started: with the other's, it is enough */
    tick(w);
    EXPECT(w, "L2 recall 1\n");
}

#define TEST(f) cmocka_unit_test(f)
#define WORLD(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_and_twenty_milliseconds),
        TEST(whatever_the_times_are_distributed_like),
        TEST(workers_that_differ_come_and_go),
        TEST(many_batches),
        TEST(far_away),
        TEST(looks_do_not_grow_with_workers),
        WORLD(looks_do_not_grow_with_the_backlog),
        WORLD(looks_do_not_grow_with_batches_that_wait),
        WORLD(looks_do_not_grow_with_kinds_that_are_full),
        WORLD(what_waits_is_asked_back_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
