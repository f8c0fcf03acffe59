/* retry: tasks of a complete batch become a new one, piece by piece. */
#include "tests/unit/ledger_world.h"

static char old_short[16];

static void forget(struct world *w) { w->trace[0] = '\0'; }

static void retry(struct world *w, uint8_t seed, uint64_t first, const char *pieces, bool last)
{
    uint8_t id[WIRE_ID] = {seed};
    Wire__Span spans[16], *pointers[16];
    Wire__Retry r = WIRE__RETRY__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    r.ref = old_short;
    r.submission = wire_id_bytes(id);
    r.first = first;
    r.last = last;
    r.tasks = pointers;
    for (; *pieces != '\0'; pieces += 2) {        /* "a3f1": three from a on, one from f on */
        wire__span__init(&spans[r.n_tasks]);
        spans[r.n_tasks].first = (uint64_t)(pieces[0] - 'a');
        spans[r.n_tasks].count = (uint64_t)(pieces[1] - '0');
        pointers[r.n_tasks] = &spans[r.n_tasks];
        r.n_tasks++;
    }
    m.what_case = WIRE__REQUEST__WHAT_RETRY;
    m.retry = &r;
    request(w, &m, "");
}

/* Batch 1 is complete: all its tasks have failed. */
static void complete(struct world *w, Wire__Options *o, const char *items)
{
    cluster(w);
    submit(w, o, 1);
    w->total = o->range != NULL ? o->range->count : 0;
    committed(w);
    registered(w);
    if (o->range == NULL) {
        chunk(w, 0, items, true);
        committed(w);
        registered(w);
    }
    tick(w);
    for (uint64_t i = 0; i < w->total; i++) {
        finished(w, 11, 1, i, 1, 1);
        tick(w);
        recorded(w, 11, i, 1, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__FAILED, true);
    }
    tick(w);
    snprintf(old_short, sizeof old_short, "%s", w->short_id);
    w->shows_appends = true;
    status(w);
    assert_non_null(strstr(w->trace, "status 3 "));
    forget(w);
}

/* Frames of batch 1, as the journal has them: two tasks each, with one-byte payloads. */
static void frames(struct world *w, uint64_t first, const char *payloads, const char *damage)
{
    uint32_t one = 1;
    struct wire_writer writers[8] = {{0}};
    struct ledger_frame f[8] = {{0}};
    size_t n = 0;
    for (; *payloads != '\0'; payloads += 2, first += 2, n++) {
        Wire__Tasks t = WIRE__TASKS__INIT;
        t.first = first;
        t.count = 2;
        t.n_lengths = 1;
        t.lengths = &one;
        assert_int_equal(wire_write(&writers[n], &t.base), 0);
        f[n] = (struct ledger_frame){.first = first, .count = 2, .head = {.data = writers[n].bytes, .len = writers[n].len},
                                     .body = {.data = (const uint8_t *)payloads, .len = 2}};
    }
    ledger_loaded(w->ledger, w->now, 1, f, n, damage);
    for (size_t i = 0; i < n; i++)
        wire_writer_release(&writers[i]);
    tick(w);
}

static void pieces_are_copied_as_far_as_they_can_be_read(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    complete(w, &o, "abcdefgh");
    retry(w, 9, 0, "", false);
    EXPECT(w, "");
    committed(w);
    EXPECT(w, "register total=-1\nsubmitted next=0 state=0\n");
    retry(w, 9, 0, "b1d3h1", true);
    EXPECT(w, "load b1 1-8\n");
    frames(w, 0, "abcdef", NULL);               /* not all of it came at once */
    EXPECT(w, "append b2 0+4 'bdef'\n");
    committed(w);
    tick(w);
    EXPECT(w, "admitted 4 state=0\n");
    retry(w, 9, 4, "h1", true);
    EXPECT(w, "load b1 7-8\n");
    frames(w, 6, "gh", NULL);
    EXPECT(w, "append b2 4+1 'h'\n");
    committed(w);
    tick(w);
    EXPECT(w, "admitted 5 state=1\n");
    w->total = 0;
    registered(w);
    tick(w);
    assert_non_null(strstr(w->trace, "L1 assign 0+2 #1 left=0 'bd'"));
}

static void a_range_is_spelled_out(void **state)
{
    struct world *w = *state;
    Wire__Range range = WIRE__RANGE__INIT;
    Wire__Options o = WIRE__OPTIONS__INIT;
    range.first = 8;
    range.count = 4;
    range.step = 1;
    o.range = &range;
    complete(w, &o, "");
    retry(w, 9, 0, "", false);
    committed(w);
    forget(w);
    retry(w, 9, 0, "a1c2", true);
    EXPECT(w, "append b2 0+3 '81011'\n");
    committed(w);
    tick(w);
    EXPECT(w, "admitted 3 state=1\n");
}

static void what_comes_again_is_not_taken_twice(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    complete(w, &o, "abcd");
    retry(w, 9, 0, "", false);
    committed(w);
    retry(w, 9, 0, "", false);
    committed(w);
    EXPECT(w, "register total=-1\nsubmitted next=0 state=0\nsubmitted next=0 state=0\n");
    retry(w, 9, 0, "a2", false);
    retry(w, 9, 0, "a2", false);
    EXPECT(w, "load b1 0-2\nrefused 4 next=0\n");
    frames(w, 0, "ab", NULL);
    committed(w);
    tick(w);
    forget(w);
    retry(w, 9, 0, "a2", false);                /* its answer was lost */
    EXPECT(w, "refused 7 next=2\n");
    retry(w, 9, 2, "", true);
    committed(w);
    tick(w);
    EXPECT(w, "admitted 2 state=1\n");
    retry(w, 9, 2, "c1", true);
    committed(w);
    tick(w);
    EXPECT(w, "admitted 2 state=1\n");
}

static void refusals(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT, p = WIRE__OPTIONS__INIT;
    complete(w, &o, "abcd");
    retry(w, 9, 0, "a2", true);
    EXPECT(w, "refused 1 next=0\n");
    retry(w, 9, 0, "", false);
    committed(w);
    forget(w);
    retry(w, 9, 0, "c3", true);
    EXPECT(w, "refused 3 next=0\n");
    retry(w, 9, 0, "a2", true);
    forget(w);
    frames(w, 0, "", "block 3 is damaged");
    EXPECT(w, "refused 0 next=0\n");
    assert_non_null(strstr(w->refusal, "can't be read from the journal: block 3 is damaged"));
    retry(w, 9, 0, "a2", true);
    forget(w);
    frames(w, 0, "", NULL);                     /* no memory for them */
    EXPECT(w, "refused 4 next=0\n");
    submit(w, &p, 5);
    committed(w);
    snprintf(old_short, sizeof old_short, "%s", w->short_id);
    forget(w);
    retry(w, 6, 0, "", false);
    EXPECT(w, "refused 0 next=0\n");
    assert_non_null(strstr(w->refusal, "is not complete"));
    snprintf(old_short, sizeof old_short, "zz");
    retry(w, 6, 0, "", false);
    EXPECT(w, "refused 1 next=0\n");
}

static void a_purge_meanwhile_is_told(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    complete(w, &o, "abcd");
    retry(w, 9, 0, "", false);
    committed(w);
    retry(w, 9, 0, "a2", true);
    forget(w);
    Wire__Purge purge = WIRE__PURGE__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    purge.ref = old_short;
    m.what_case = WIRE__REQUEST__WHAT_PURGE;
    m.purge = &purge;
    request(w, &m, "");
    assert_non_null(strstr(w->trace, "refused 1"));
    audit(w);                                   /* nothing is being read any more, for no batch of the same kind */
    frames(w, 0, "ab", NULL);                   /* nobody waits for them any more */
    committed(w);
}

static void a_restart_in_between_goes_on_where_it_was(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    complete(w, &o, "abcd");
    retry(w, 9, 0, "", false);
    committed(w);
    retry(w, 9, 0, "a2", false);
    frames(w, 0, "ab", NULL);
    committed(w);
    retry(w, 9, 2, "c2", true);
    restart(w);
    client_hello(w);
    forget(w);
    retry(w, 9, 2, "c2", true);
    EXPECT(w, "load b1 2-4\n");
    frames(w, 2, "cd", NULL);
    committed(w);
    tick(w);
    EXPECT(w, "append b2 2+2 'cd'\nadmitted 4 state=1\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pieces_are_copied_as_far_as_they_can_be_read, setup, teardown),
        cmocka_unit_test_setup_teardown(a_range_is_spelled_out, setup, teardown),
        cmocka_unit_test_setup_teardown(what_comes_again_is_not_taken_twice, setup, teardown),
        cmocka_unit_test_setup_teardown(refusals, setup, teardown),
        cmocka_unit_test_setup_teardown(a_purge_meanwhile_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(a_restart_in_between_goes_on_where_it_was, setup, teardown),
    };
    return cmocka_run_group_tests_name("ledger_again", tests, NULL, NULL);
}
