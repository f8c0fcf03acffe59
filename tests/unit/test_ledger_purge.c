/* Purges, retention and what is remembered of purged batches; and answers that come in parts: lists for
 * clients, what the sink has on record. */
#include "tests/unit/ledger_world.h"

#define DAY (86400 * NS_PER_S)

/* ---- what the tests say ---- */

static void purge(struct world *w, const char *ref, int64_t older_than)
{
    Wire__Micros age = WIRE__MICROS__INIT;
    Wire__Purge p = WIRE__PURGE__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    age.us = (uint64_t)older_than / (uint64_t)NS_PER_US;
    if (ref != NULL)
        p.ref = (char *)(uintptr_t)ref;
    else
        p.older_than = &age;
    m.what_case = WIRE__REQUEST__WHAT_PURGE;
    m.purge = &p;
    request(w, &m, "");
}

static void submit_key(struct world *w, const char *key)
{
    Wire__Range range = WIRE__RANGE__INIT;
    Wire__Options o = WIRE__OPTIONS__INIT;
    Wire__Submit s = WIRE__SUBMIT__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    range.count = 1;
    range.step = 1;
    o.range = &range;
    o.n_command = 1;
    o.command = command;
    o.weight = 1;
    s.key = (char *)(uintptr_t)key;
    s.options = &o;
    m.what_case = WIRE__REQUEST__WHAT_SUBMIT;
    m.submit = &s;
    request(w, &m, "");
}

static void forgotten_id(struct world *w, const uint8_t id[WIRE_ID])
{
    Wire__Forgotten f = WIRE__FORGOTTEN__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    f.batch = wire_id_bytes(id);
    m.what_case = WIRE__UPWARD__WHAT_FORGOTTEN;
    m.forgotten = &f;
    upward(w, SINK, 900, 0, &m);
}
static void forgotten(struct world *w) { forgotten_id(w, w->batch); }

/* A batch of one task, ended by the sink's word alone; w->batch and w->short_id are its names. */
static void complete_key(struct world *w, const char *key)
{
    Wire__Verdict ok = WIRE__VERDICT__OK;
    submit_key(w, key);
    committed(w);
    w->total = 1;
    registered(w);
    tick(w);
    recorded(w, 11, 0, 1, 1, WIRE__RESULT_KIND__IS_VERDICT, ok, true);
    registered(w);
    tick(w);
    committed(w);
}

static void complete_batch(struct world *w, Wire__Options *o)
{
    cluster(w);
    batch(w, o, "ab");
    finished(w, 11, 1, 0, 2, 1);
    recorded(w, 11, 0, 2, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);
    tick(w);
    committed(w);
    status(w);
    assert_non_null(strstr(w->trace, "status 3 total=2"));
    w->trace[0] = '\0';
}

static bool has_row(const struct world *w, const char *folder)
{
    for (size_t i = 0; i < w->n_rows; i++)
        if (strncmp(w->rows[i].key, folder, strlen(folder)) == 0)
            return true;
    return false;
}

/* The process dies, starts again on what the journal has, and the client finds it. */
static void come_back(struct world *w)
{
    restart(w);
    client_hello(w);
    w->trace[0] = '\0';
}

static void explain(struct world *w, const char *ref)
{
    Wire__Explain x = WIRE__EXPLAIN__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    x.ref = (char *)(uintptr_t)ref;
    m.what_case = WIRE__REQUEST__WHAT_EXPLAIN;
    m.explain = &x;
    request(w, &m, "");
}

/* ---- purges ---- */

static void a_purge_is_journaled_then_answered_then_told_to_the_sink(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    complete_batch(w, &o);
    purge(w, w->short_id, 0);
    EXPECT(w, "remove frames of b1\n");
    assert_false(has_row(w, "batch/") || has_row(w, "tally/"));
    assert_true(has_row(w, "purged/"));
    committed(w);
    EXPECT(w, "purged 1 open=0 held=0 at_sink=0\nforget\n");
    forgotten(w);
    forgotten(w);                             /* again, and of a batch that nobody knows */
    forgotten_id(w, (const uint8_t *)"not-a-batch-here");
    pass(w, 20 * NS_PER_S);
    assert_null(strstr(w->trace, "forget"));
    assert_true(has_row(w, "purged/"));
}

static void what_is_not_over_is_not_purged(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    cluster(w);
    batch(w, &o, "ab");
    w->trace[0] = '\0';
    purge(w, w->short_id, 0);
    EXPECT(w, "refused 0 next=0\n");
    assert_non_null(strstr(w->refusal, "is not complete: 0 of its 2 tasks have ended"));
    recorded(w, 12, 0, 2, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);    /* a late result: w1 still runs them */
    tick(w);
    committed(w);
    w->trace[0] = '\0';
    purge(w, w->short_id, 0);
    EXPECT(w, "refused 0 next=0\n");
    assert_non_null(strstr(w->refusal, "worker w1 still holds attempts"));
    purge(w, NULL, 0);
    tick(w);
    EXPECT(w, "purged 0 open=0 held=1 at_sink=0\n");
    finished(w, 11, 1, 0, 2, 1);
    purge(w, w->short_id, 0);
    committed(w);
    EXPECT(w, "remove frames of b1\npurged 1 open=0 held=0 at_sink=0\nforget\n");
    purge(w, "zzzz", 0);
    EXPECT(w, "refused 1 next=0\n");
}

static void what_was_purged_is_called_so(void **state)
{
    struct world *w = *state;
    sink_hello(w);
    complete_key(w, "nightly");
    w->trace[0] = '\0';
    purge(w, w->short_id, 0);
    committed(w);
    EXPECT(w, "purged 1 open=0 held=0 at_sink=0\nforget\n");      /* a range has no frames */
    for (int pass_no = 0; pass_no < 2; pass_no++) {
        status(w);
        EXPECT(w, "refused 1 next=0\n");
        assert_non_null(strstr(w->refusal, "was purged at 1970-01-01 00:00:00 UTC"));
        cancel(w, 0, 0);
        explain(w, w->short_id);
        EXPECT(w, "refused 1 next=0\nrefused 1 next=0\n");
        submit_key(w, "nightly");
        EXPECT(w, "refused 0 next=0\n");
        assert_non_null(strstr(w->refusal, "the key 'nightly' is that of batch"));
        assert_non_null(strstr(w->refusal, "another --key"));
        purge(w, w->short_id, 0);             /* as after a lost reply */
        committed(w);
        EXPECT(w, pass_no == 0 ? "purged 0 open=0 held=0 at_sink=1\n" : "purged 0 open=0 held=0 at_sink=0\n");
        forgotten(w);
        come_back(w);
        sink_hello(w);
        EXPECT(w, "sink welcome\n");
    }
    pass(w, DAY);                             /* then the key is forgotten too */
    assert_false(has_row(w, "purged/"));
    client_hello(w);
    submit_key(w, "nightly");
    committed(w);
    assert_non_null(strstr(w->trace, "submitted next=1"));
}

static void a_crash_leaves_no_half(void **state)
{
    struct world *w = *state;
    complete_batch(w, &(Wire__Options)WIRE__OPTIONS__INIT);
    struct world *before = malloc(sizeof *before);
    memcpy(before, w, sizeof *before);
    purge(w, w->short_id, 0);                 /* the flush never made it: the sink has heard nothing, the batch is there */
    EXPECT(w, "remove frames of b1\n");
    memcpy(w->rows, before->rows, sizeof w->rows);
    w->n_rows = before->n_rows;
    come_back(w);
    status(w);
    EXPECT(w, "status 3 total=2 queued=0 running=0 ok=2 failed=0 deadline=0 cancelled=0 lost=0 dup=0 retried=0\n");
    purge(w, w->short_id, 0);
    EXPECT(w, "refused 0 next=0\n");          /* w1 may hold some of it, until it is back */
    assert_non_null(strstr(w->refusal, "not back yet"));
    pass(w, 5 * NS_PER_S);
    purge(w, w->short_id, 0);
    committed(w);
    EXPECT(w, "remove frames of b1\npurged 1 open=0 held=0 at_sink=1\n");     /* and no sink is here */
    come_back(w);
    status(w);
    EXPECT(w, "refused 1 next=0\n");
    sink_hello(w);
    EXPECT(w, "sink welcome\nforget\n");
    pass(w, 4 * NS_PER_S);
    EXPECT(w, "");
    pass(w, 2 * NS_PER_S);                    /* not answered: told again, also at the next connection */
    EXPECT(w, "forget\n");
    sink_hello(w);
    EXPECT(w, "sink welcome\nforget\n");
    forgotten(w);
    sink_hello(w);
    EXPECT(w, "sink welcome\n");
    assert_false(has_row(w, "purged/"));      /* keys are not kept here */
    free(before);
}

static void a_late_result_of_a_purged_batch_is_released(void **state)
{
    struct world *w = *state;
    complete_batch(w, &(Wire__Options)WIRE__OPTIONS__INIT);
    purge(w, w->short_id, 0);
    committed(w);
    w->trace[0] = '\0';
    recorded(w, 11, 0, 2, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, false);
    EXPECT(w, "L1 release 0+2\n");
}

/* The release of its results waits for the lane of their worker: it outlives the batch. */
static void a_release_outlives_its_batch(void **state)
{
    struct world *w = *state;
    Wire__Holding h = WIRE__HOLDING__INIT, *held = &h;
    cluster(w);
    batch(w, &(Wire__Options)WIRE__OPTIONS__INIT, "ab");
    ledger_lane(w->ledger, w->now, lane_of(1), false);
    Wire__Fence f = fence_of(w, 0, 2, 1);
    h.fence = &f;
    h.state = WIRE__HOLDING_STATE__ENDED;
    worker_hello(w, 11, "w1", 2, &held, 1);
    recorded(w, 11, 0, 2, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);
    tick(w);
    purge(w, w->short_id, 0);
    committed(w);
    w->trace[0] = '\0';
    worker_opened(w, 11, 2);
    tick(w);
    EXPECT(w, "L2 open\nL2 release 0+2\n");
}

static void the_sink_is_not_flooded(void **state)
{
    struct world *w = *state;
    uint8_t ids[300][WIRE_ID];
    char key[20];
    sink_hello(w);
    for (int i = 0; i < 300; i++) {
        snprintf(key, sizeof key, "k%d", i);
        complete_key(w, key);
        memcpy(ids[i], w->batch, WIRE_ID);
        w->trace[0] = '\0';
    }
    submit_key(w, "open");
    committed(w);
    w->trace[0] = '\0';
    purge(w, NULL, 0);
    tick(w);
    EXPECT(w, "");                            /* 256 at a time, others have their turn between */
    pass(w, 100 * MS);
    EXPECT(w, "");
    committed(w);
    assert_non_null(strstr(w->trace, "purged 300 open=1 held=0 at_sink=0\n"));
    size_t told = 0;
    for (const char *at = w->trace; (at = strstr(at, "forget")) != NULL; at++)
        told++;
    assert_int_equal(told, 256);
    w->trace[0] = '\0';
    forgotten_id(w, ids[3]);
    forgotten_id(w, ids[299]);                /* not yet told: by an earlier process */
    EXPECT(w, "forget\n");
    for (int i = 0; i < 300; i++)
        forgotten_id(w, ids[i]);
    assert_false(has_row(w, "purged/"));
}

/* Its first step is on disk before its last one finds nothing to purge: no flush comes that would bring the answer. */
static void a_purge_is_answered_when_its_last_step_has_nothing_to_do(void **state)
{
    struct world *w = *state;
    char key[20];
    sink_hello(w);
    for (int i = 0; i < 257; i++) {
        snprintf(key, sizeof key, "k%d", i);
        complete_key(w, key);
        w->trace[0] = '\0';
    }
    purge(w, NULL, 0);
    tick(w);
    committed(w);
    w->trace[0] = '\0';
    cancel(w, 0, 0);                          /* somebody asks about the last of them: it is held */
    pass(w, 100 * MS);
    EXPECT(w, "purged 256 open=0 held=1 at_sink=0\n");
}

static void a_full_disk_is_purged(void **state)
{
    struct world *w = *state;
    Wire__Options o = WIRE__OPTIONS__INIT;
    complete_batch(w, &o);
    ledger_full(w->ledger, w->now, true);
    submit_key(w, "new");
    EXPECT(w, "refused 4 next=0\n");
    purge(w, w->short_id, 0);
    committed(w);
    EXPECT(w, "remove frames of b1\npurged 1 open=0 held=0 at_sink=0\nforget\n");
}

/* ---- retention ---- */

static void complete_batches_are_retained_for_a_while(void **state)
{
    struct world *w = *state;
    w->retain = 10 * NS_PER_S;
    w->wall.ns = 1000 * DAY;
    come_back(w);
    sink_hello(w);
    complete_key(w, "first");
    pass(w, 5 * NS_PER_S);
    complete_key(w, "second");
    w->trace[0] = '\0';
    pass(w, 4900 * MS);
    assert_null(strstr(w->trace, "forget"));
    pass(w, 200 * MS);
    committed(w);
    assert_non_null(strstr(w->trace, "forget"));
    w->wall.ns -= 3 * DAY;                       /* the clock is set back: no batch is younger than new */
    come_back(w);
    sink_hello(w);
    EXPECT(w, "sink welcome\nforget\n");      /* the first's, not answered */
    pass(w, 4900 * MS);
    EXPECT(w, "");
    w->wall.ns += 6 * DAY;
    come_back(w);
    pass(w, 100 * MS);
    committed(w);
    assert_false(has_row(w, "batch/"));
}

static void tombstones_are_bounded(void **state)
{
    struct world *w = *state;
    struct wire_writer writer = {0};
    struct why why = {""};
    w->keep_keys = DAY;
    ledger_destroy(&w->ledger);
    w->n_rows = 0;
    begin(w);
    for (uint64_t i = 1; i <= 10010; i++) {
        uint8_t id[WIRE_ID] = {(uint8_t)i, (uint8_t)(i >> 8)};
        char key[40], short_id[16];
        Wire__JournalPurged r = WIRE__JOURNAL_PURGED__INIT;
        snprintf(key, sizeof key, "purged/%016" PRIx64, i);
        snprintf(short_id, sizeof short_id, "p%05" PRIu64, i);
        r.number = i;
        r.batch = r.submission = wire_id_bytes(id);
        r.short_id = short_id;
        r.purged_wall_ns = (int64_t)(20000 - i);       /* the youngest first */
        r.forgotten = i != 10010;
        assert_int_equal(wire_write(&writer, &r.base), 0);
        assert_int_equal(ledger_restore(w->ledger, key, writer.bytes, writer.len, &why), 0);
    }
    wire_writer_release(&writer);
    ledger_restored(w->ledger, w->now);
    committed(w);
    client_hello(w);
    tick(w);
    w->trace[0] = '\0';
    snprintf(w->short_id, sizeof w->short_id, "p10009");
    status(w);
    assert_non_null(strstr(w->refusal, "there is no batch 'p10009'"));
    snprintf(w->short_id, sizeof w->short_id, "p10000");
    status(w);
    assert_non_null(strstr(w->refusal, "batch p10000 was purged"));
    snprintf(w->short_id, sizeof w->short_id, "p10010");       /* what the sink has not forgotten stays */
    status(w);
    assert_non_null(strstr(w->refusal, "batch p10010 was purged"));
}

static void damaged_records_are_refused(void **state)
{
    struct world *w = *state;
    struct wire_writer writer = {0};
    struct why why = {""};
    Wire__JournalPurged r = WIRE__JOURNAL_PURGED__INIT;
    r.number = 1;
    assert_int_equal(wire_write(&writer, &r.base), 0);
    assert_int_equal(ledger_restore(w->ledger, "purged/0000000000000001", writer.bytes, writer.len, &why), -1);
    assert_non_null(strstr(why.text, "purged batch number 1 is not one"));
    assert_int_equal(ledger_restore(w->ledger, "purged/0000000000000001", (const uint8_t *)"\xff", 1, &why), -1);
    wire_writer_release(&writer);
}

/* ---- pages ---- */

static uint64_t next_page;
static size_t n_reported;
static bool has_more, right_order;

static void count_reply(struct world *w, const Wire__Reply *m)
{
    (void)w;
    Wire__BatchStatus **batches = m->what_case == WIRE__REPLY__WHAT_LIST ? m->list->batches : m->what_case == WIRE__REPLY__WHAT_STATUS ? m->status->batches : NULL;
    size_t n = m->what_case == WIRE__REPLY__WHAT_LIST ? m->list->n_batches : m->what_case == WIRE__REPLY__WHAT_STATUS ? m->status->n_batches : m->workers->n_workers;
    struct wire_writer writer = {0};
    assert_int_equal(wire_write(&writer, &m->base), 0);
    assert_true(writer.len < WIRE_HEAD);
    wire_writer_release(&writer);
    for (size_t i = 0; i < n && batches != NULL; i++) {
        char name[20];
        snprintf(name, sizeof name, "%zu", n_reported + i);
        right_order = right_order && strncmp(batches[i]->name, name, strlen(name)) == 0;
    }
    n_reported += n;
    has_more = m->what_case == WIRE__REPLY__WHAT_LIST ? m->list->more : m->what_case == WIRE__REPLY__WHAT_STATUS ? m->status->more : m->workers->more;
    next_page = m->what_case == WIRE__REPLY__WHAT_LIST ? m->list->next : m->what_case == WIRE__REPLY__WHAT_STATUS ? m->status->next : m->workers->next;
}

static void ask_page(struct world *w, Wire__Request__WhatCase what, uint64_t after, uint32_t most)
{
    Wire__Request m = WIRE__REQUEST__INIT;
    Wire__List list = WIRE__LIST__INIT;
    Wire__Status all = WIRE__STATUS__INIT;
    Wire__Workers workers = WIRE__WORKERS__INIT;
    list.after = all.after = workers.after = after;
    list.most = all.most = workers.most = most;
    m.what_case = what;
    if (what == WIRE__REQUEST__WHAT_LIST)
        m.list = &list;
    else if (what == WIRE__REQUEST__WHAT_STATUS)
        m.status = &all;
    else
        m.workers = &workers;
    request(w, &m, "");
}

static unsigned ask_all(struct world *w, Wire__Request__WhatCase what, uint32_t most)
{
    unsigned pages = 0;
    n_reported = 0;
    next_page = 0;
    has_more = right_order = true;
    w->on_reply = count_reply;
    for (; has_more && pages < 2000; pages++)
        ask_page(w, what, next_page, most);
    w->on_reply = NULL;
    return pages;
}

static void lists_come_in_pages(void **state)
{
    struct world *w = *state;
    char name[256];
    for (int i = 0; i < 700; i++) {           /* 700 batches, whose names are long; none is complete */
        Wire__Options o = WIRE__OPTIONS__INIT;
        uint8_t id[WIRE_ID] = {(uint8_t)i, (uint8_t)(i >> 8), 1};
        Wire__Submit s = WIRE__SUBMIT__INIT;
        Wire__Request m = WIRE__REQUEST__INIT;
        snprintf(name, sizeof name, "%d%0*d", i, i % 2 ? 200 : 1, 0);
        o.name = name;
        o.n_command = 1;
        o.command = command;
        o.weight = 1;
        s.submission = wire_id_bytes(id);
        s.options = &o;
        m.what_case = WIRE__REQUEST__WHAT_SUBMIT;
        m.submit = &s;
        request(w, &m, "");
    }
    assert_true(ask_all(w, WIRE__REQUEST__WHAT_LIST, 1000) >= 3);
    assert_int_equal(n_reported, 700);
    assert_true(right_order);
    assert_true(ask_all(w, WIRE__REQUEST__WHAT_STATUS, 10) == 70);
    assert_int_equal(n_reported, 700);
    assert_true(right_order);
    assert_int_equal(ask_all(w, WIRE__REQUEST__WHAT_LIST, 0), 1);       /* who asks for no pages gets the newest */
    assert_true(n_reported > 100 && n_reported <= 256 && !has_more);
    w->on_reply = count_reply;
    n_reported = 0;
    ask_page(w, WIRE__REQUEST__WHAT_LIST, 700, 10);
    assert_true(n_reported == 0 && !has_more);
}

static void a_page_goes_on_behind_what_was_purged(void **state)
{
    struct world *w = *state;
    sink_hello(w);
    for (int i = 0; i < 5; i++) {
        char key[20];
        snprintf(key, sizeof key, "k%d", i);
        complete_key(w, key);
        if (i == 1)
            purge(w, w->short_id, 0);
        w->trace[0] = '\0';
    }
    w->on_reply = count_reply;
    n_reported = 0;
    ask_page(w, WIRE__REQUEST__WHAT_LIST, 2, 2);
    assert_true(n_reported == 2 && has_more && next_page == 4);
    ask_page(w, WIRE__REQUEST__WHAT_LIST, 4, 2);
    assert_true(n_reported == 3 && !has_more);
}

static void workers_come_in_pages(void **state)
{
    struct world *w = *state;
    for (ledger_peer i = 0; i < 600; i++) {
        char name[20];
        snprintf(name, sizeof name, "w%u", i);
        worker_hello(w, 100 + i, name, 2, NULL, 0);
        w->trace[0] = '\0';
    }
    assert_int_equal(ask_all(w, WIRE__REQUEST__WHAT_WORKERS, 1000), 3);
    assert_int_equal(n_reported, 600);
    assert_int_equal(ask_all(w, WIRE__REQUEST__WHAT_WORKERS, 0), 1);
    assert_int_equal(n_reported, 256);
}

/* ---- what the sink has, in parts ---- */

static void records_part(struct world *w, uint64_t from, uint64_t to, const char *bits, uint64_t ok, uint64_t cancelled)
{
    uint64_t counts[WIRE_VERDICTS] = {[WIRE__VERDICT__OK] = ok, [WIRE__VERDICT__CANCELLED] = cancelled};
    uint8_t bitmap[8] = {0};
    Wire__BatchRecords r = WIRE__BATCH_RECORDS__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    for (size_t i = 0; bits[i] != '\0'; i++)
        bitmap[i / 8] = (uint8_t)(bitmap[i / 8] | (bits[i] == '1') << (i % 8));
    r.batch = wire_id_bytes(w->batch);
    r.known = r.bitmap = true;
    r.from = from;
    r.to = to;
    r.more = to > 0;
    r.n_counts = WIRE_VERDICTS;
    r.counts = counts;
    m.what_case = WIRE__UPWARD__WHAT_RECORDS;
    m.records = &r;
    m.session = 900;
    ledger_upward(w->ledger, w->now, SINK, "", &m, (struct slice){.data = bitmap, .len = (strlen(bits) + 7) / 8});
    tick(w);
}

static void recovery_hears_the_sink_part_by_part(void **state)
{
    struct world *w = *state;
    cluster(w);
    batch(w, &(Wire__Options)WIRE__OPTIONS__INIT, "abcdefgh");
    come_back(w);
    sink_hello(w);
    EXPECT(w, "sink welcome\nregister total=8\nask\n");
    registered(w);
    records_part(w, 0, 4, "1100", 3, 0);
    EXPECT(w, "ask from 4\n");
    records_part(w, 0, 4, "1100", 3, 0);              /* the answer to an ask that was sent twice */
    EXPECT(w, "");
    recorded(w, 11, 2, 1, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);    /* between the parts: of one that was told … */
    recorded(w, 11, 6, 1, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);    /* … and of one that will be */
    sink_hello(w);                            /* a new connection begins anew */
    EXPECT(w, "sink welcome\nregister total=8\nask\n");
    records_part(w, 4, 0, "0010", 4, 0);
    EXPECT(w, "");
    records_part(w, 0, 4, "1110", 4, 0);
    EXPECT(w, "ask from 4\n");
    pass(w, 6 * NS_PER_S);                    /* no answer: asked again */
    EXPECT(w, "register total=8\nask from 4\n");
    recorded(w, 11, 3, 1, 1, WIRE__RESULT_KIND__IS_VERDICT, WIRE__VERDICT__OK, true);
    records_part(w, 4, 0, "0010", 5, 0);
    status(w);
    EXPECT(w, "status 1 total=8 queued=3 running=0 ok=5 failed=0 deadline=0 cancelled=0 lost=0 dup=0 retried=0\n");
}

/* A cancel's closing is recorded while the sink tells what it has: nothing is counted twice, and nothing is missed. */
static void a_closing_is_recorded_between_two_parts(void **state)
{
    struct world *w = *state;
    sink_hello(w);
    batch(w, &(Wire__Options)WIRE__OPTIONS__INIT, "abcdefgh");
    cancel(w, 0, 0);
    w->trace[0] = '\0';
    committed(w);
    EXPECT(w, "closing #1 0+8 cancelled cancel\ncancelled queued=8 running=0 finished=0 unreachable=0\n");
    recorded_closing(w, 77, 1);               /* of before a restart: nobody knows which task that was */
    EXPECT(w, "ask\n");
    records_part(w, 0, 4, "1000", 1, 0);
    EXPECT(w, "ask from 4\n");
    recorded_closing(w, 78, 1);               /* one more, perhaps of a task before 4: all is asked once more */
    records_part(w, 4, 0, "0100", 2, 0);
    EXPECT(w, "ask\n");
    records_part(w, 0, 4, "1000", 2, 0);
    EXPECT(w, "ask from 4\n");
    recorded_closing(w, 1, 6);                /* the closing itself */
    audit(w);
    EXPECT(w, "");
    records_part(w, 4, 0, "1111", 2, 6);
    status(w);
    EXPECT(w, "status 3 total=8 queued=0 running=0 ok=2 failed=0 deadline=0 cancelled=6 lost=0 dup=0 retried=0\n");
}

/* The same, but the closing's answer comes before the first part, or after the last one. */
static void a_closing_is_recorded_after_the_last_part(void **state)
{
    struct world *w = *state;
    sink_hello(w);
    batch(w, &(Wire__Options)WIRE__OPTIONS__INIT, "abcdefgh");
    cancel(w, 0, 0);
    committed(w);
    recorded_closing(w, 77, 1);
    records_part(w, 0, 4, "1000", 1, 0);
    records_part(w, 4, 0, "0100", 2, 0);
    w->trace[0] = '\0';
    status(w);
    EXPECT(w, "status 2 total=8 queued=6 running=0 ok=2 failed=0 deadline=0 cancelled=0 lost=0 dup=0 retried=0\n");
    recorded_closing(w, 1, 6);
    status(w);
    EXPECT(w, "status 3 total=8 queued=0 running=0 ok=2 failed=0 deadline=0 cancelled=6 lost=0 dup=0 retried=0\n");
}

/* As setup, with keys that are kept for a day. */
static int keeping(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->now.ns = NS_PER_S;
    w->flush = 1;
    w->keep_keys = DAY;
    begin(w);
    ledger_restored(w->ledger, w->now);
    committed(w);
    client_hello(w);
    w->trace[0] = '\0';
    *state = w;
    return 0;
}

#define KEEPING(name) cmocka_unit_test_setup_teardown(name, keeping, teardown)
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        KEEPING(a_purge_is_journaled_then_answered_then_told_to_the_sink),
        TEST(what_is_not_over_is_not_purged),
        KEEPING(what_was_purged_is_called_so),
        TEST(a_crash_leaves_no_half),
        TEST(a_late_result_of_a_purged_batch_is_released),
        TEST(a_release_outlives_its_batch),
        TEST(the_sink_is_not_flooded),
        TEST(a_purge_is_answered_when_its_last_step_has_nothing_to_do),
        TEST(a_full_disk_is_purged),
        TEST(complete_batches_are_retained_for_a_while),
        TEST(tombstones_are_bounded),
        TEST(damaged_records_are_refused),
        TEST(lists_come_in_pages),
        TEST(a_page_goes_on_behind_what_was_purged),
        TEST(workers_come_in_pages),
        TEST(recovery_hears_the_sink_part_by_part),
        TEST(a_closing_is_recorded_between_two_parts),
        TEST(a_closing_is_recorded_after_the_last_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
