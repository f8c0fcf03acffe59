/* Streams beside a real store, without the rest of a sink: what is looked at, and who is told what when many listen. */
#include "tests/unit/store_world.h"

#include "proto/wire.h"
#include "sink/register.h"
#include "sink/streams.h"

#define BATCHES 900u
#define WAITING 100u
#define A_CLIENT 60u                            /* so many streams of each */
#define IS_WAITING 5000u                        /* from this id on */

struct scene {
    struct world *world;
    struct registry *registry;
    struct streams *streams;
    struct loop_hook hook;
    struct wire_arena *arena;
    struct wire_writer writer;
    net_peer gone;                              /* nothing reaches it */
    uint64_t n_rows, moved;                     /* staged; the batch that they were of */
    uint64_t begun, ended, told, idly, rows[2 * IS_WAITING];     /* what streams heard; rows by the stream's id */
};

/* ---- the sink around them ---- */

static uint64_t nothing_put(void *arg, const char *key, const void *value, size_t len) { return (void)arg, (void)key, (void)value, len; }
static uint64_t nothing_removed(void *arg, const char *key) { return (void)arg, (void)key, 1; }
static void nothing_noted(void *arg, int level, const char *event, const char *text) { (void)arg, (void)level, (void)event, (void)text; }

static int heard(void *arg, net_peer peer, const uint8_t *head, size_t head_len, struct slice body, bool with_body)
{
    struct scene *s = arg;
    const Wire__Answer *message;
    struct why why = {""};
    if (peer == s->gone)
        return -EHOSTUNREACH;
    if (wire_read_answer(s->arena, head, head_len, with_body ? body.len : 0, &message, &why) < 0)
        fail_msg("%s", why.text);
    switch (message->what_case) {
    case WIRE__ANSWER__WHAT_BEGIN: s->begun++; break;
    case WIRE__ANSWER__WHAT_ROW: s->rows[message->id]++; break;
    case WIRE__ANSWER__WHAT_PROGRESS: *(message->id < IS_WAITING ? &s->told : &s->idly) += 1; break;
    case WIRE__ANSWER__WHAT_END: s->ended++; break;
    case WIRE__ANSWER__WHAT_WELCOME: break;
    default: fail_msg("unexpected answer %d", message->what_case);
    }
    return 0;
}

static void committed(void *arg, uint64_t sequence)
{
    struct scene *s = arg;
    s->world->committed = sequence;
    streams_recorded(s->streams);
    if (s->moved)
        streams_moved(s->streams, register_find_number(s->registry, s->moved));
}

static bool turn(void *arg)
{
    struct scene *s = arg;
    store_flush(s->world->store);
    struct streams_counts counts;
    mono_t next = streams_turn(s->streams);
    streams_count(s->streams, &counts);
    assert_int_equal(mono_is_never(next), counts.streams == 0);     /* who is gone is found out, with nothing else to do */
    loop_timer_set(s->world->loop, &s->world->bound, mono_min(next, mono_add(mono_now(), BOUND)));
    loop_stop(s->world->loop);
    return false;
}

static void woken(void *arg) { (void)arg; }

/* Lets turns pass, at least one now, until it holds. */
#define await(s, condition)                                                                     \
    do {                                                                                        \
        mono_t bound_ = mono_add(mono_now(), BOUND);                                            \
        loop_go_on((s)->world->loop);                                                           \
        do                                                                                      \
            assert_int_equal(loop_run((s)->world->loop), 0);                                    \
        while (!(condition) && !mono_reached(mono_now(), bound_));                              \
        assert_true(condition);                                                                 \
    } while (0)

static void batch_known(struct scene *s, uint64_t number)
{
    Wire__SinkBatchRecord record = WIRE__SINK_BATCH_RECORD__INIT;
    Wire__Options options = WIRE__OPTIONS__INIT;
    uint64_t counts[WIRE_VERDICTS] = {0};
    char id[WIRE_ID + 1], name[24], key[32];
    struct why why = {""};
    snprintf(id, sizeof id, "id%014" PRIu64, number);
    snprintf(name, sizeof name, "b%" PRIu64, number);
    snprintf(key, sizeof key, "batch/%016" PRIx64, number);
    options.handler = (char *)(uintptr_t)"h";
    options.weight = 1;
    record.batch = wire_id_bytes((const uint8_t *)id);
    record.number = number;
    record.short_id = name;
    record.options = &options;
    record.counts = counts;
    record.n_counts = WIRE_VERDICTS;
    assert_int_equal(wire_write(&s->writer, &record.base), 0);
    if (register_restore_record(s->registry, key, s->writer.bytes, s->writer.len, &why) < 0)
        fail_msg("%s", why.text);
}

static int setup(void **state)
{
    struct scene *s = test_calloc(1, sizeof *s);
    const struct register_ports ports = {.arg = s, .put = nothing_put, .remove = nothing_removed, .note = nothing_noted};
    const struct register_config registered = {.program = "sink", .session = 1, .advertise = "", .results_endpoint = "", .query_endpoint = ""};
    s->world = world_prepare();
    s->world->config.committed = committed;
    s->world->config.arg = s;
    s->world->bound.fire = woken;
    world_open(s->world);
    s->arena = wire_arena_new();
    s->registry = register_new(&registered, &ports);
    const struct streams_config config = {.loop = s->world->loop, .store = s->world->store, .registry = s->registry, .program = "sink",
                                          .send = heard, .arg = s};
    s->streams = streams_new(&config);
    assert_true(s->arena && s->registry && s->streams);
    s->hook = (struct loop_hook){.turn = turn, .arg = s};
    loop_add_hook(s->world->loop, &s->hook);
    *state = s;
    return 0;
}

static int teardown(void **state)
{
    struct scene *s = *state;
    loop_remove_hook(s->world->loop, &s->hook);
    loop_timer_clear(s->world->loop, &s->world->bound);
    streams_destroy(&s->streams);
    register_destroy(&s->registry);
    s->world->config.arg = s->world;
    world_end(s->world);
    wire_arena_destroy(&s->arena);
    wire_writer_release(&s->writer);
    test_free(s);
    return 0;
}

/* ---- what clients and workers do ---- */

static void query(struct scene *s, net_peer peer, Wire__Query *message)
{
    assert_int_equal(wire_write(&s->writer, &message->base), 0);
    const struct net_message from = {.peer = peer, .head = s->writer.bytes, .head_len = s->writer.len};
    streams_message(s->streams, &from);
}

static void hello(struct scene *s, net_peer peer)
{
    Wire__ClientHello word = WIRE__CLIENT_HELLO__INIT;
    Wire__Query message = WIRE__QUERY__INIT;
    word.major = WIRE_MAJOR;
    message.id = 1;
    message.what_case = WIRE__QUERY__WHAT_HELLO;
    message.hello = &word;
    query(s, peer, &message);
}

static void subscribe(struct scene *s, net_peer peer, uint64_t id, const char *ref)
{
    Wire__Subscribe word = WIRE__SUBSCRIBE__INIT;
    Wire__Query message = WIRE__QUERY__INIT;
    word.ref = (char *)(uintptr_t)ref;
    word.follow = word.wait = true;
    word.credit = 1024 * 1024;
    message.id = id;
    message.what_case = WIRE__QUERY__WHAT_SUBSCRIBE;
    message.subscribe = &word;
    query(s, peer, &message);
}

static void unsubscribe(struct scene *s, net_peer peer, uint64_t id)
{
    Wire__Unsubscribe word = WIRE__UNSUBSCRIBE__INIT;
    Wire__Query message = WIRE__QUERY__INIT;
    message.id = id;
    message.what_case = WIRE__QUERY__WHAT_UNSUBSCRIBE;
    message.unsubscribe = &word;
    query(s, peer, &message);
}

/* So many streams, each of a batch of its own with the number of its id, which have all that there is: progress was told once at their begin,
 * and once when they had it. */
static void listen_to(struct scene *s, uint64_t n)
{
    char name[24];
    for (uint64_t id = 1; id <= n; id++) {
        if (id % A_CLIENT == 1)
            hello(s, (net_peer)(id / A_CLIENT + 1));
        batch_known(s, id);
        snprintf(name, sizeof name, "b%" PRIu64, id);
        subscribe(s, (net_peer)((id - 1) / A_CLIENT + 1), id, name);
    }
    await(s, s->begun == n && s->told >= 2 * n);
}

static void stage(struct scene *s, uint64_t batch)
{
    uint64_t number;
    struct store_frame frame = {.batch = batch, .first = s->n_rows++, .count = 1, .kind = ROW_VERDICT,
                                .head = {NULL, (const uint8_t *)"head", 4}, .body = {NULL, (const uint8_t *)"body", 4}};
    assert_int_equal(store_append(s->world->store, &frame, &number), 0);
    frame.number = number;
    streams_appended(s->streams, &frame);
    s->moved = batch;
}

static void record(struct scene *s, uint64_t batch)
{
    stage(s, batch);
    uint64_t sequence = store_flushed(s->world->store) + 1;
    await(s, s->world->committed >= sequence);
}

/* But for what telling of progress takes: a look when it is time for that, and one when it may be told again. */
static int64_t looked(const struct scene *s)
{
    struct streams_counts counts;
    streams_count(s->streams, &counts);
    return (int64_t)(counts.looked - 2 * (s->told + s->idly));
}

static uint64_t all_rows(const struct scene *s)
{
    uint64_t n = 0;
    for (size_t id = 0; id < sizeof s->rows / sizeof *s->rows; id++)
        n += s->rows[id];
    return n;
}

/* ---- tests ---- */

static void a_row_looks_at_the_streams_of_its_batch_alone(void **state)
{
    struct scene *s = *state;
    char name[24];
    listen_to(s, BATCHES);
    for (uint64_t i = 0; i < WAITING; i++) {
        if (i % A_CLIENT == 0)
            hello(s, (net_peer)(1000 + i / A_CLIENT));
        snprintf(name, sizeof name, "later%" PRIu64, i);
        subscribe(s, (net_peer)(1000 + i / A_CLIENT), IS_WAITING + i, name);
    }
    int64_t before = looked(s);
    for (uint64_t i = 0; i < 100; i++)
        record(s, 7);
    await(s, s->rows[7] == 100);
    /* When it is staged, sent and forgotten, and when its batch is said to have moved; the others once, after they were told of their begin. */
    assert_in_range(looked(s) - before, 300, 400 + BATCHES + WAITING);
    batch_known(s, BATCHES + 1);
    before = looked(s);
    for (uint64_t i = 0; i < 100; i++)
        record(s, BATCHES + 1);
    assert_true(looked(s) - before <= (int64_t)BATCHES + WAITING);
    assert_int_equal(all_rows(s), 100);
}

static void whoever_waits_begins_under_each_name_of_its_batch(void **state)
{
    struct scene *s = *state;
    hello(s, 1);
    subscribe(s, 1, IS_WAITING, "b1");
    subscribe(s, 1, IS_WAITING + 1, "b1");
    subscribe(s, 1, IS_WAITING + 2, "6964");                                /* "id" */
    subscribe(s, 1, IS_WAITING + 3, "69643030303030303030303030303031");
    subscribe(s, 1, IS_WAITING + 4, "b2");
    await(s, s->begun == 0);
    batch_known(s, 1);
    int64_t before = looked(s);
    streams_moved(s->streams, register_find_number(s->registry, 1));
    assert_int_equal(looked(s) - before, 4);
    await(s, s->begun == 4);
    record(s, 1);
    await(s, all_rows(s) == 4);
    assert_int_equal(s->rows[IS_WAITING + 4], 0);
}

/* In between a row is staged and recorded, one batch loses its only stream, another one its client: no row of the others is lost,
 * and who comes then reads them. */
static void rows_of_many_batches_go_their_ways(void **state)
{
    struct scene *s = *state;
    listen_to(s, 3 * A_CLIENT);
    for (unsigned i = 0; i < 3; i++)
        for (uint64_t id = 1; id <= 3 * A_CLIENT; id++)
            stage(s, id);
    unsubscribe(s, 1, 1);
    s->gone = 2;
    struct streams_counts counts;
    streams_count(s->streams, &counts);
    assert_int_equal(counts.streams, 3 * A_CLIENT - 1);
    uint64_t sequence = store_flushed(s->world->store) + 1;
    await(s, s->world->committed >= sequence);
    for (uint64_t id = 1; id <= 3 * A_CLIENT; id++)
        streams_moved(s->streams, register_find_number(s->registry, id));
    await(s, all_rows(s) == (2 * A_CLIENT - 1) * 3);
    streams_count(s->streams, &counts);
    assert_int_equal(counts.streams, 2 * A_CLIENT - 1);
    for (uint64_t id = 1; id <= 3 * A_CLIENT; id++)
        assert_int_equal(s->rows[id], id == 1 || (id > A_CLIENT && id <= 2 * A_CLIENT) ? 0 : 3);
    subscribe(s, 1, 1, "b1");
    await(s, s->rows[1] == 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_row_looks_at_the_streams_of_its_batch_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(whoever_waits_begins_under_each_name_of_its_batch, setup, teardown),
        cmocka_unit_test_setup_teardown(rows_of_many_batches_go_their_ways, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
