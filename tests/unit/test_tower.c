/* The control tower: what a walk over the ledger sees, what is kept of it, and how large an event may become. */
#include "tests/unit/ledger_world.h"

#include "ventilator/http_private.h"

struct seen {
    struct survey_worker worker;
    struct survey_attempt attempts[8];
    struct survey_batch batch;
    size_t n_workers, n_attempts, n_batches;
};

static void see_worker(void *arg, const struct survey_worker *worker)
{
    struct seen *s = arg;
    s->worker = *worker;
    s->n_workers++;
}

static void see_attempt(void *arg, const struct survey_attempt *attempt)
{
    struct seen *s = arg;
    assert_true(s->n_attempts < 8);
    s->attempts[s->n_attempts++] = *attempt;
}

static void see_batch(void *arg, const struct survey_batch *seen)
{
    struct seen *s = arg;
    s->batch = *seen;
    s->n_batches++;
}

static struct survey_totals look(struct world *w, struct seen *s)
{
    const struct survey_visitor visitor = {.arg = s, .batch = see_batch, .worker = see_worker, .attempt = see_attempt};
    struct survey_totals totals;
    *s = (struct seen){.n_workers = 0};
    ledger_survey(w->ledger, w->now, &visitor, &totals);
    return totals;
}

/* Options with a timeout of so many seconds. */
static Wire__Options *with_timeout(uint64_t seconds)
{
    static Wire__Options o;
    static Wire__Micros timeout;
    wire__options__init(&o);
    wire__micros__init(&timeout);
    timeout.us = seconds * 1000000;
    o.weight = 1;
    o.timeout = &timeout;
    return &o;
}

static void attempts_move_through_their_phases(void **state)
{
    struct world *w = *state;
    struct seen s;
    cluster(w);
    batch(w, with_timeout(10), "abcd");
    w->trace[0] = '\0';
    struct survey_totals t = look(w, &s);
    uint64_t handed = t.phases[SURVEY_WAITING];
    assert_true(handed >= 2);
    assert_int_equal(t.phases[SURVEY_RUNNING], 0);
    assert_int_equal(t.queued + handed, 4);
    assert_int_equal(t.wanted, 4);
    pass(w, NS_PER_S);
    started(w, 11, 1, 0, 1, 1);
    pass(w, 3 * NS_PER_S);
    started(w, 11, 1, 0, 2, 1);         /* again, with another one */
    pass(w, NS_PER_S);
    t = look(w, &s);
    assert_int_equal(t.phases[SURVEY_RUNNING], 2);
    assert_int_equal(s.n_attempts, 2);
    assert_int_equal(s.attempts[0].index, 0);
    assert_int_equal(s.attempts[0].age / NS_PER_S, 4);
    assert_int_equal(s.attempts[1].age / NS_PER_S, 1);
    assert_int_equal(s.attempts[0].left / NS_PER_S, 6);
    assert_int_equal(s.attempts[0].budget / NS_PER_S, 10);
    assert_string_equal(s.attempts[0].worker_name, "w1");
    assert_int_equal(s.worker.worst / 10, 40);
    finished(w, 11, 1, 0, 1, 1);
    t = look(w, &s);
    assert_int_equal(t.phases[SURVEY_LANDING], 1);
    assert_int_equal(t.phases[SURVEY_RUNNING], 1);
    recorded(w, 11, 0, 1, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);
    t = look(w, &s);
    assert_int_equal(t.phases[SURVEY_LANDING], 0);
    assert_int_equal(t.verdicts[WIRE__VERDICT__OK], 1);
    assert_int_equal(s.batch.settled, 1);
    cancel(w, 0, 0);
    committed(w);
    t = look(w, &s);
    assert_int_equal(t.phases[SURVEY_STOPPING], 1);
    assert_int_equal(s.attempts[0].phase, SURVEY_STOPPING);
}

static void samples_become_histories(void **state)
{
    struct world *w = *state;
    uint64_t number;
    cluster(w);
    struct tower *tower = tower_new(w->now);
    batch(w, with_timeout(10), "abcd");
    tower_sample(tower, w->ledger, w->now);
    assert_int_equal(tower->sequence, 1);
    assert_int_equal(HASH_COUNT(tower->stands), 1);
    assert_true(ledger_batch_number(w->ledger, w->short_id, &number));
    struct tower_batch *kept = tower_batch_find(tower, number);
    assert_non_null(kept);
    assert_int_equal(kept->last.total, 4);
    started(w, 11, 1, 0, 1, 1);
    for (int i = 0; i < 25; i++) {
        pass(w, NS_PER_S / 4);
        tower_sample(tower, w->ledger, w->now);
    }
    assert_int_equal(tower->series->n_fine, 26);
    assert_int_equal(tower->series->n_coarse, 2);
    assert_int_equal(tower->series->coarse[1].running, 1);
    assert_int_equal(tower->planes.n, 1);
    assert_int_equal(tower->planes.total, 1);
    assert_true(tower->planes.rows[0].seen.age >= 6 * NS_PER_S);
    /* The worker leaves: so does its stand, and the viewers are told. */
    pass(w, 11 * NS_PER_S);
    w->trace[0] = '\0';
    tower_sample(tower, w->ledger, w->now);
    assert_int_equal(HASH_COUNT(tower->stands), 0);
    assert_int_equal(tower->n_gone, 1);
    tower_destroy(&tower);
}

/* Names of 255 bytes that differ in the last one: two stands, two series, two paths. */
static void long_names_stay_apart(void **state)
{
    struct world *w = *state;
    char names[2][WIRE_NAME + 1];
    size_t len;
    cluster(w);
    struct tower *tower = tower_new(w->now);
    struct http http = {.tower = tower, .config = {.program = "ventilator test"}, .ports = {.ledger = w->ledger}};
    for (unsigned i = 0; i < 2; i++) {
        memset(names[i], 'n', WIRE_NAME);
        names[i][WIRE_NAME - 1] = (char)('a' + i);
        names[i][WIRE_NAME] = '\0';
        worker_hello(w, 12 + i, names[i], 1, NULL, 0);
    }
    w->trace[0] = '\0';
    tower_sample(tower, w->ledger, w->now);
    char *text = metrics_render(&http, &len);
    for (unsigned i = 0; i < 2; i++) {
        char series[3 * WIRE_NAME];
        snprintf(series, sizeof series, "tarmac_worker_slots{worker=\"%s\"} 1\n", names[i]);
        assert_non_null(strstr(text, series));
    }
    free(text);
    tower_destroy(&tower);
}

static void oldest_come_first(void **state)
{
    struct world *w = *state;
    struct tower_planes planes;
    cluster(w);
    batch(w, with_timeout(100), "abcd");
    for (uint64_t i = 0; i < 2; i++) {
        pass(w, NS_PER_S);
        started(w, 11, 1, 1 - i, 1, 1);
    }
    pass(w, NS_PER_S);
    assert_int_equal(tower_oldest(w->ledger, w->now, 10, 0, &planes), 0);
    assert_int_equal(planes.n, 2);
    assert_int_equal(planes.rows[0].seen.index, 1);
    tower_planes_release(&planes);
    assert_int_equal(tower_oldest(w->ledger, w->now, 1, 0, &planes), 0);
    assert_int_equal(planes.n, 1);
    assert_int_equal(planes.total, 2);
    assert_int_equal(planes.rows[0].seen.index, 1);
    tower_planes_release(&planes);
    assert_int_equal(tower_oldest(w->ledger, w->now, 10, 999, &planes), 0);
    assert_int_equal(planes.n, 0);
    tower_planes_release(&planes);
    w->trace[0] = '\0';
}

/* ---- events ---- */

#define MANY 500u

static void add_workers(struct tower *tower)
{
    for (uint64_t i = 1; i <= MANY; i++) {
        struct tower_stand *stand = calloc(1, sizeof *stand);
        assert_non_null(stand);
        stand->number = i;
        stand->slots = 64;
        stand->state = "ready";
        stand->phases[SURVEY_RUNNING] = 64;
        stand->dirty = true;
        snprintf(stand->name, sizeof stand->name, "a-worker-with-a-rather-long-name-%03u", (unsigned)i);
        HASH_ADD(hh, tower->stands, number, sizeof stand->number, stand);
    }
}

static void fill_planes(struct tower *tower)
{
    tower->planes.n = TOWER_PLANES;
    tower->planes.total = 64 * MANY;
    for (size_t i = 0; i < TOWER_PLANES; i++) {
        struct tower_plane *p = &tower->planes.rows[i];
        snprintf(p->short_id, sizeof p->short_id, "b7k2");
        p->seen = (struct survey_attempt){.index = 9999999, .attempt = 3, .worker = 499, .age = 3600 * NS_PER_S, .left = NS_PER_S, .budget = 3601 * NS_PER_S};
    }
}

/* With 500 workers of 64 slots that all change, an event stays small, and each worker is told in its turn. */
static void events_are_bounded(void **state)
{
    struct world *w = *state;
    unsigned told[MANY + 1] = {0}, rounds = 0;
    struct tower *tower = tower_new(w->now);
    struct http http = {.tower = tower, .config = {.program = "ventilator test"}, .ports = {.ledger = w->ledger}};
    add_workers(tower);
    fill_planes(tower);
    for (bool more = true; more; rounds++) {
        json_t *event = stream_event(&http);
        char *text = json_dumps(event, JSON_COMPACT | JSON_REAL_PRECISION(5));
        assert_true(strlen(text) < 8192);
        size_t i;
        json_t *row;
        json_array_foreach(json_object_get(event, "stands"), i, row)
            told[json_integer_value(json_array_get(row, 0))]++;
        more = json_integer_value(json_object_get(event, "stands_left")) > 0;
        /* The busiest ones change again each time; the others have their turn all the same. */
        for (struct tower_stand *s = tower->stands; s != NULL && more; s = s->hh.next)
            s->dirty = s->dirty || s->number <= 20;
        free(text);
        json_decref(event);
        assert_true(rounds < 100);
    }
    for (unsigned i = 1; i <= MANY; i++)
        assert_true(told[i] >= 1);
    tower_destroy(&tower);
}

static void metrics_have_each_family_once(void **state)
{
    struct world *w = *state;
    struct tower *tower = tower_new(w->now);
    struct http http = {.tower = tower, .config = {.program = "ventilator test"}, .ports = {.ledger = w->ledger}};
    size_t len;
    add_workers(tower);
    tower->n_handlers = 1;
    snprintf(tower->handlers[0].name, sizeof tower->handlers[0].name, "a\"b\\c");
    tower->handlers[0].verdicts[WIRE__VERDICT__OK] = 5;
    histogram_add(&tower->handlers[0].run, 1000, 5);
    char *text = metrics_render(&http, &len);
    assert_int_equal(strlen(text), len);
    assert_non_null(strstr(text, "tarmac_run_seconds_bucket{handler=\"a\\\"b\\\\c\",le=\"0.001\"} 5\n"));
    assert_non_null(strstr(text, "tarmac_run_seconds_bucket{handler=\"a\\\"b\\\\c\",le=\"0.0005\"} 0\n"));
    assert_non_null(strstr(text, "tarmac_run_seconds_sum{handler=\"a\\\"b\\\\c\"} 0.005000\n"));
    assert_non_null(strstr(text, "tarmac_worker_slots{worker=\"a-worker-with-a-rather-long-name-500\"} 64\n"));
    for (char *at = text; (at = strstr(at, "# TYPE ")) != NULL; at++) {
        char name[100];
        size_t n = strcspn(at + 7, " ");
        assert_true(n < sizeof name - 8);
        snprintf(name, sizeof name, "# TYPE %.*s ", (int)n, at + 7);
        assert_null(strstr(at + 1, name));
    }
    free(text);
    tower_destroy(&tower);
}

/* Whatever a program writes to its standard error, and whatever people call things, JSON stays JSON. */
static void foreign_text_is_shown(void **state)
{
    (void)state;
    json_t *good = json_text("süß \"quoted\""), *bad = json_text("a\xff" "b");
    assert_string_equal(json_string_value(good), "süß \"quoted\"");
    assert_string_equal(json_string_value(bad), "a?b");
    json_decref(good);
    json_decref(bad);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(attempts_move_through_their_phases), TEST(samples_become_histories), TEST(long_names_stay_apart), TEST(oldest_come_first), TEST(events_are_bounded),
        TEST(metrics_have_each_family_once), TEST(foreign_text_is_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
