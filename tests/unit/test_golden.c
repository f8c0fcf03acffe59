/* Files of every version of the formats, as real processes left them (tools/make-golden.sh), read through the paths by
 * which a ventilator and a sink start; and files that must be refused: newer, foreign, damaged in any byte. */
#include "tests/unit/store_world.h"

#include <fcntl.h>
#include <spawn.h>
#include <sqlite3.h>
#include <sys/wait.h>

#include "common/crc32c.h"
#include "common/store_sums.h"
#include "sink/register.h"
#include "ventilator/ledger.h"

#define FLIPS 600                            /* bytes of each golden file that are changed in turn */

/* SQLite's syncs come here: nothing depends on whether these files reach the disk. */
int fsync(int fd) { return fd < 0 ? -1 : 0; }
int fdatasync(int fd) { return fd < 0 ? -1 : 0; }

/* ---- files ---- */

static void unpack_file(const char *from_path, const char *to)
{
    char from[200];
    char *argv[] = {(char *)(uintptr_t)"gzip", (char *)(uintptr_t)"-dc", from, NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status;
    snprintf(from, sizeof from, "%s", from_path);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(posix_spawnp(&pid, "gzip", &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

/* Unpacks a golden file into the world's folder as `role`.db, and its large bodies where it has some. */
static void unpack(struct world *world, const char *golden, const char *role)
{
    char from[200], to[200];
    snprintf(from, sizeof from, "tests/golden/%s.db.gz", golden);
    if (access(from, R_OK) < 0)
        fail_msg("%s can't be read; run this from the top of the sources", from);
    snprintf(to, sizeof to, "%s/%s.db", world->dir, role);
    assert_true(mkdir(world->dir, 0700) == 0 || errno == EEXIST);
    unpack_file(from, to);
    snprintf(from, sizeof from, "tests/golden/%s.db-bulk.gz", golden);
    snprintf(to, sizeof to, "%s/%s.db-bulk", world->dir, role);
    if (access(from, R_OK) == 0)
        unpack_file(from, to);
    else
        unlink(to);
    world->config.role = role;
}

static void change(struct world *world, const char *role, const char *sql)
{
    sqlite3 *db;
    char path[200];
    snprintf(path, sizeof path, "%s/%s.db", world->dir, role);
    assert_int_equal(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, sums_layer()), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void assert_refused(struct world *world, const char *first, const char *second)
{
    assert_null(world_try(world));
    assert_int_equal(world->refusal, STORE_DISK);
    if (!strstr(world->why.text, first) || !strstr(world->why.text, second) || !strstr(world->why.text, world->dir))
        fail_msg("'%s' doesn't say '%s' and '%s'", world->why.text, first, second);
}

/* ---- a ventilator's start ---- */

struct heard {
    struct ledger *ledger;
    const char *wanted;                      /* what status should tell of the batches */
    unsigned replies;
    struct why why;
};

static void describe(const Wire__StatusReport *status, char out[2000])
{
    out[0] = '\0';
    for (size_t i = 0; i < status->n_batches; i++) {
        const Wire__BatchStatus *b = status->batches[i];
        size_t at = strlen(out);
        snprintf(out + at, 2000 - at, "%s %s total=%" PRIu64 " queued=%" PRIu64 " ok=%" PRIu64 " failed=%" PRIu64 " cancelled=%" PRIu64 " retried=%" PRIu64 "\n",
                 b->name, wire_state_name(b->state), b->total, b->queued, b->ok, b->failed, b->cancelled, b->retried);
    }
}

static int on_reply(void *arg, ledger_peer client, const Wire__Reply *reply)
{
    struct heard *heard = arg;
    (void)client;
    if (reply->what_case == WIRE__REPLY__WHAT_STATUS) {
        char text[2000];
        describe(reply->status, text);
        assert_string_equal(text, heard->wanted);
        heard->replies++;
    }
    return 0;
}

static uint64_t on_put(void *arg, const char *key, const void *value, size_t len) { (void)arg, (void)key, (void)value, (void)len; return 1; }
static uint64_t on_remove(void *arg, const char *key) { (void)arg, (void)key; return 1; }
static void on_random(void *arg, void *bytes, size_t len) { (void)arg, memset(bytes, 7, len); }
static void on_note(void *arg, int level, const char *event, const char *text) { (void)arg, (void)level, (void)event, (void)text; }

static int give_ledger(void *arg, const char *key, const uint8_t *value, size_t len)
{
    struct heard *heard = arg;
    return ledger_restore(heard->ledger, key, value, len, &heard->why);
}

static void ask(struct heard *heard, mono_t now, Wire__Request *request)
{
    static uint64_t id;
    request->id = ++id;
    ledger_request(heard->ledger, now, 1, request, (struct slice){0});
}

static void ask_status(struct heard *heard, mono_t now)
{
    Wire__ClientHello hello = WIRE__CLIENT_HELLO__INIT;
    Wire__Status status = WIRE__STATUS__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    hello.major = WIRE_MAJOR;
    m.what_case = WIRE__REQUEST__WHAT_HELLO;
    m.hello = &hello;
    ask(heard, now, &m);
    m.what_case = WIRE__REQUEST__WHAT_STATUS;
    m.status = &status;
    ask(heard, now, &m);
    assert_int_equal(heard->replies, 1);
}

static struct ledger *new_ledger(struct heard *heard)
{
    struct ledger_ports ports = {.arg = heard, .reply = on_reply, .put = on_put, .remove = on_remove, .random = on_random, .note = on_note};
    struct ledger_config config = {.program = "test", .session = 1, .heartbeat = NS_PER_S, .loss_grace = 2 * NS_PER_S, .silence = 10 * NS_PER_S,
                                   .max_losses = 3, .max_payload = 1 << 20, .result_credit = 1 << 20, .cache_bytes = 1 << 20, .wall = wall_now()};
    return ledger_new(&config, &ports, (mono_t){NS_PER_S});
}

static void a_journal_is_read(struct world *world, const char *golden, const char *wanted)
{
    struct heard heard = {.wanted = wanted};
    unpack(world, golden, "journal");
    world_open(world);
    assert_int_equal(store_check(world->store, &world->why), 0);
    heard.ledger = new_ledger(&heard);
    assert_non_null(heard.ledger);
    if (store_load(world->store, "", give_ledger, &heard, &world->why) < 0)
        fail_msg("%s: %s%s", golden, world->why.text, heard.why.text);
    ledger_restored(heard.ledger, (mono_t){NS_PER_S});
    ask_status(&heard, (mono_t){NS_PER_S});
    if (ledger_audit(heard.ledger, &heard.why) < 0)
        fail_msg("%s", heard.why.text);
    ledger_destroy(&heard.ledger);
    /* A frame of tasks is a packed Tasks, and its body their payloads. */
    static struct got got;
    struct wire_arena *arena = wire_arena_new();
    const ProtobufCMessage *head;
    world_look(world, &(struct store_query){.batch = 2, .order = STORE_BY_INDEX, .to = 3000}, &got);
    assert_int_equal(got.n, 2);
    assert_int_equal(wire_read_any(arena, &wire__tasks__descriptor, got.frames[1].head.data, got.frames[1].head.len, &head, &heard.why), 0);
    assert_int_equal(((const Wire__Tasks *)head)->first, 2000);
    assert_int_equal(((const Wire__Tasks *)head)->lengths[0], 300000);
    assert_int_equal(got.frames[1].body.len, 300000);
    got_drop(&got);
    wire_arena_destroy(&arena);
}

static void journals_of_each_version_are_read(void **state)
{
    /* What the sink has recorded is not known before it is asked: "half" has everything queued. */
    static const char wanted[] =
        "done complete total=6 queued=0 ok=5 failed=1 cancelled=0 retried=1\n"
        "payloads sealed total=2001 queued=2001 ok=0 failed=0 cancelled=0 retried=0\n"
        "range sealed total=50000 queued=50000 ok=0 failed=0 cancelled=0 retried=0\n"
        "cancelled complete total=3 queued=0 ok=0 failed=0 cancelled=3 retried=0\n"
        "half sealed total=4 queued=4 ok=0 failed=0 cancelled=0 retried=0\n"
        "open open total=3 queued=3 ok=0 failed=0 cancelled=0 retried=0\n";
    a_journal_is_read(*state, "journal-1.1", wanted);
    world_close(*state);
    a_journal_is_read(*state, "journal-2.1", wanted);
    world_close(*state);
    a_journal_is_read(*state, "journal-3.1", wanted);
    assert_true(world_file_size(*state, "journal.db-bulk") >= 300000);
}

/* ---- a sink's start ---- */

struct sink {
    struct world *world;
    struct registry *registry;
    struct why why;
};

static int on_up(void *arg, const Wire__Upward *message, struct slice body, bool with_body) { (void)arg, (void)message, (void)body, (void)with_body; return -EAGAIN; }
static void on_moved(void *arg, const struct register_batch *batch) { (void)arg, (void)batch; }

static int give_register(void *arg, const char *key, const uint8_t *value, size_t len)
{
    struct sink *sink = arg;
    return register_restore_record(sink->registry, key, value, len, &sink->why);
}

static void give_rows(struct sink *sink)
{
    static struct got got;
    uint64_t batch, after;
    while (register_restore_needs(sink->registry, &batch, &after)) {
        world_look(sink->world, &(struct store_query){.batch = batch, .after = after, .heads_only = true}, &got);
        assert_false(got.damaged || got.more);
        for (size_t i = 0; i < got.n; i++)
            if (register_restore_row(sink->registry, batch, got.frames[i].number, got.frames[i].kind, got.frames[i].head, &sink->why) < 0)
                fail_msg("%s", sink->why.text);
        register_restore_rows_end(sink->registry, batch);
    }
    got_drop(&got);
}

static void assert_batch(struct sink *sink, uint64_t number, const char *wanted)
{
    char text[300];
    const struct register_batch *b = register_find_number(sink->registry, number);
    assert_non_null(b);
    snprintf(text, sizeof text, "%s total=%" PRId64 " recorded=%" PRIu64 " ok=%" PRIu64 " failed=%" PRIu64 " cancelled=%" PRIu64 "%s%s", b->options->name,
             b->total_known ? (int64_t)b->total : -1, b->recorded, b->counts[WIRE__VERDICT__OK], b->counts[WIRE__VERDICT__FAILED],
             b->counts[WIRE__VERDICT__CANCELLED], b->complete ? " complete" : "", b->whole_cancelled ? " whole" : "");
    assert_string_equal(text, wanted);
}

/* Each row is a packed Row; the first of batch 1 has both outputs of task 0. */
static void assert_rows(struct world *world)
{
    static struct got got;
    struct wire_arena *arena = wire_arena_new();
    const Wire__Row *row;
    world_look(world, &(struct store_query){.batch = 1}, &got);
    assert_int_equal(got.n, 7);
    for (size_t i = 0; i < got.n; i++)
        if (wire_read_row(arena, got.frames[i].head.data, got.frames[i].head.len, got.frames[i].body.len, &row, &world->why) < 0)
            fail_msg("row %" PRIu64 ": %s", got.frames[i].number, world->why.text);
    assert_int_equal(wire_read_row(arena, got.frames[0].head.data, got.frames[0].head.len, got.frames[0].body.len, &row, &world->why), 0);
    assert_string_equal(row->report->worker, "golden");
    assert_int_equal(got.frames[0].body.len, 12);
    assert_memory_equal(got.frames[0].body.data, "out 0\nerr 0\n", 12);
    got_drop(&got);
    wire_arena_destroy(&arena);
}

static void a_results_store_is_read(struct world *world, const char *golden)
{
    struct sink sink = {.world = world};
    struct register_ports ports = {.arg = &sink, .up = on_up, .put = on_put, .remove = on_remove, .moved = on_moved, .note = on_note};
    struct register_config config = {.program = "test", .advertise = "", .results_endpoint = "", .query_endpoint = "", .session = 1};
    unpack(world, golden, "results");
    world_open(world);
    assert_int_equal(store_check(world->store, &world->why), 0);
    sink.registry = register_new(&config, &ports);
    assert_non_null(sink.registry);
    if (store_load(world->store, "", give_register, &sink, &world->why) < 0)
        fail_msg("%s: %s%s", golden, world->why.text, sink.why.text);
    give_rows(&sink);
    assert_batch(&sink, 1, "done total=6 recorded=6 ok=5 failed=1 cancelled=0 complete");
    assert_batch(&sink, 2, "payloads total=2001 recorded=1 ok=0 failed=0 cancelled=1");
    assert_batch(&sink, 3, "range total=50000 recorded=0 ok=0 failed=0 cancelled=0");
    assert_batch(&sink, 4, "cancelled total=3 recorded=3 ok=0 failed=0 cancelled=3 complete whole");
    assert_batch(&sink, 5, "half total=4 recorded=2 ok=2 failed=0 cancelled=0");
    assert_batch(&sink, 6, "open total=-1 recorded=0 ok=0 failed=0 cancelled=0");
    assert_int_equal(register_prefix(sink.registry, 5, 0), 2);
    register_destroy(&sink.registry);
    assert_rows(world);
}

static void results_of_each_version_are_read(void **state)
{
    a_results_store_is_read(*state, "results-1.1");
    world_close(*state);
    a_results_store_is_read(*state, "results-2.1");
    world_close(*state);
    a_results_store_is_read(*state, "results-3.1");
}

/* A store of an older format goes on as it is, and without a file that it knows nothing of. */
static void an_older_format_stays_what_it_is(void **state)
{
    struct world *world = *state;
    unpack(world, "journal-2.1", "journal");
    world_open(world);
    world_append(world, 77, 0, 1, 200000, 7);
    world_reopen(world);
    assert_int_equal(world_count(world, 77), 1);
    store_delete_frames(world->store, 77);
    world_reopen(world);
    assert_int_equal(world_count(world, 77), 0);
    assert_int_equal(store_check(world->store, &world->why), 0);
    assert_int_equal(world_file_size(world, "journal.db-bulk"), -1);
}

/* ---- other versions, other files ---- */

static void a_newer_format_is_refused(void **state)
{
    struct world *world = *state;
    unpack(world, "journal-2.1", "journal");
    change(world, "journal", "UPDATE meta SET value = 99 WHERE name = 'format'");
    assert_refused(world, "format 99", "use the newer Tarmac");
    change(world, "journal", "DROP TABLE purges");      /* what a newer one may have done: its format is still the reason */
    assert_refused(world, "format 99", "use the newer Tarmac");
}

static void newer_records_are_refused(void **state)
{
    struct world *world = *state;
    unpack(world, "results-2.1", "results");
    change(world, "results", "UPDATE meta SET value = 2 WHERE name = 'version'");
    assert_refused(world, "version 2", "use the newer Tarmac");
}

static uint32_t migrated_from;

static int migrate(struct store *store, uint32_t from, struct why *why)
{
    (void)why;
    migrated_from = from;
    return store_put(store, "meta/new", "yes", 3);
}

static int migrate_not(struct store *store, uint32_t from, struct why *why)
{
    (void)store_put(store, "meta/half", "no", 2);
    return why_set(why, "%u can't be brought up to date", from);
}

static int count_records(void *arg, const char *key, const uint8_t *value, size_t len)
{
    (void)key, (void)value, (void)len;
    ++*(unsigned *)arg;
    return 0;
}

static unsigned records_like(struct world *world, const char *prefix)
{
    unsigned n = 0;
    assert_int_equal(store_load(world->store, prefix, count_records, &n, &world->why), 0);
    return n;
}

static void older_records_are_handed_to_migrate(void **state)
{
    struct world *world = *state;
    unpack(world, "journal-2.1", "journal");
    world->config.version = 2;
    assert_refused(world, "version 1", "use the older Tarmac");
    world->config.migrate = migrate_not;
    assert_null(world_try(world));
    assert_string_equal(world->why.text, "1 can't be brought up to date");
    world->config.migrate = migrate;
    world_open(world);
    assert_int_equal(migrated_from, 1);
    assert_int_equal(records_like(world, "meta/half"), 0);
    assert_int_equal(records_like(world, "meta/new"), 1);
    assert_int_equal(records_like(world, "batch/"), 6);
    migrated_from = 0;
    world_reopen(world);
    assert_int_equal(migrated_from, 0);
    world_close(world);
    world->config.version = 1;               /* and the older Tarmac keeps its hands off */
    assert_refused(world, "version 2", "use the newer Tarmac");
}

static void write_file(struct world *world, const char *name, const char *text)
{
    assert_true(mkdir(world->dir, 0700) == 0 || errno == EEXIST);
    int fd = open(world_path(world, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void what_is_not_ours_is_refused(void **state)
{
    struct world *world = *state;
    write_file(world, "journal.db", "these are somebody's notes, and they are long enough to be taken for the header of a database "
                                    "by whoever looks at the length alone; but they are notes.");
    assert_refused(world, "is not a store of Tarmac", "move it away");
    unlink(world_path(world, "journal.db"));
    change(world, "journal", "CREATE TABLE notes(text)");
    assert_refused(world, "another program", "move it away");
    unpack(world, "results-2.1", "journal");
    assert_refused(world, "'results' where 'journal'", "own journal");
}

/* ---- damage ---- */

/* Everything that a process reads of its store, as one number; false: something was refused, with a sentence. */
static int add_record(void *arg, const char *key, const uint8_t *value, size_t len)
{
    uint32_t *sum = arg;
    *sum = crc32c(crc32c(*sum, key, strlen(key) + 1), value, len);
    return 0;
}

static bool read_all(struct world *world, uint32_t *ret_sum, struct why *why)
{
    static struct got got;
    uint32_t sum = crc32c(0, store_id(world->store), 16);
    if (store_load(world->store, "", add_record, &sum, why) < 0)
        return false;
    for (uint64_t batch = 1; batch <= 6; batch++)
        for (int order = STORE_BY_NUMBER; order <= STORE_BY_INDEX; order++) {
            world_look(world, &(struct store_query){.batch = batch, .order = (enum store_order)order, .to = INT64_MAX, .max_bytes = 1 << 24}, &got);
            if (got.damaged) {
                why_set(why, "%s", got.damage);
                return false;
            }
            for (size_t i = 0; i < got.n; i++) {
                sum = crc32c(sum, &got.frames[i].number, sizeof got.frames[i].number);
                sum = crc32c(crc32c(sum, got.frames[i].head.data, got.frames[i].head.len), got.frames[i].body.data, got.frames[i].body.len);
            }
        }
    got_drop(&got);
    *ret_sum = sum;
    return true;
}

struct tally { unsigned same, refused, checked; };

/* The file with one byte changed: the same is read, or a sentence says that it is damaged and what to do. */
static void try_damage(struct world *world, const char *path, const char *named, uint8_t *bytes, size_t len, size_t at, uint32_t right, struct tally *tally)
{
    struct why why = {""};
    uint32_t sum = 0;
    bytes[at] ^= 0x10;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_int_equal(write(fd, bytes, len), len);
    close(fd);
    bytes[at] ^= 0x10;
    bool opened = world_try(world) != NULL;
    bool read = opened && read_all(world, &sum, &why);
    bool checked = read && store_check(world->store, &why) == 0;
    if (!opened)
        why = world->why;
    if (!read || !checked) {
        if (!strstr(why.text, named) || !(strstr(why.text, "restore") || strstr(why.text, "move it away") || strstr(why.text, "name the folder") || strstr(why.text, "use the")))
            fail_msg("byte %zu of %s: '%s' doesn't say where and what to do", at, path, why.text);
        ++*(read ? &tally->checked : &tally->refused);
    } else if (sum == right) {
        tally->same++;
    } else {
        fail_msg("byte %zu of %s: something else was read, and nobody said so", at, path);
    }
    store_close(&world->store, BOUND);
}

/* `end`: of the name of the file that is damaged. */
static void any_damaged_byte_is_told(struct world *world, const char *golden, const char *role, const char *end, unsigned seed)
{
    struct tally tally = {0};
    uint32_t right;
    char path[200], named[200];
    unpack(world, golden, role);
    snprintf(named, sizeof named, "%s/%s.db", world->dir, role);
    snprintf(path, sizeof path, "%s%s", named, end);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = (size_t)lseek(fd, 0, SEEK_END);
    uint8_t *bytes = test_malloc(len);
    assert_int_equal(pread(fd, bytes, len, 0), len);
    close(fd);
    world_open(world);
    assert_true(read_all(world, &right, &world->why));
    world_close(world);
    srandom(seed);
    for (int i = 0; i < FLIPS; i++) {
        /* Empty space would be hit most of the time: of the zeros one in ten is tried. */
        size_t at;
        do
            at = (size_t)random() % len;
        while ((bytes[at] == 0 || (bytes[at] == 'x' && *end == '\0')) && random() % 10 > 0);
        try_damage(world, path, named, bytes, len, at, right, &tally);
    }
    print_message("# %s%s, SEED=%u: of %d bytes %u were of no consequence, %u were refused in reading, %u found by the check\n", golden, end, seed, FLIPS,
                  tally.same, tally.refused, tally.checked);
    test_free(bytes);
}

static void any_damaged_byte_is_told_of(void **state)
{
    const char *text = getenv("SEED");
    unsigned seed = text ? (unsigned)strtoul(text, NULL, 10) : (unsigned)wall_now().ns % 100000;
    any_damaged_byte_is_told(*state, "journal-3.1", "journal", "", seed);
    world_remove_files(*state);
    any_damaged_byte_is_told(*state, "journal-3.1", "journal", "-bulk", seed);
    world_remove_files(*state);
    any_damaged_byte_is_told(*state, "results-3.1", "results", "", seed);
}

/* One of each kind that the sample might miss. */
static void each_kind_of_damage_is_told(void **state)
{
    struct world *world = *state;
    static const char *const changes[] = {
        "UPDATE records SET value = zeroblob(length(value)) WHERE key = 'batch/0000000000000002'",
        "UPDATE records SET key = 'batch/0000000000000009' WHERE key = 'batch/0000000000000002'",
        "UPDATE frames SET count = count + 1 WHERE number = 2",
        "UPDATE frames SET head = zeroblob(length(head)) WHERE number = 2",
        "UPDATE frames SET body = zeroblob(length(body)) WHERE number = 3",
        "UPDATE frames SET body = body + 1 WHERE typeof(body) = 'integer'",
        "UPDATE frames SET body = body + (1 << 28) WHERE typeof(body) = 'integer'",
        "UPDATE frames SET body = -body WHERE typeof(body) = 'integer'",
        "UPDATE frames SET body = x'' WHERE typeof(body) = 'integer'",
        "DROP INDEX frames_bulk",
        "UPDATE frames SET batch = 3 WHERE number = 2",
        "UPDATE meta SET value = 'results' WHERE name = 'role'",
        "UPDATE meta SET value = 0 WHERE name = 'format'",
        "DROP INDEX frames_by_first",
        "DROP TABLE records",
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct why why = {""};
        uint32_t sum;
        unpack(world, "journal-3.1", "journal");
        change(world, "journal", changes[i]);
        bool opened = world_try(world) != NULL;
        bool fine = opened && read_all(world, &sum, &why) && store_check(world->store, &why) == 0;
        store_close(&world->store, BOUND);
        if (fine)
            fail_msg("nobody said so: %s", changes[i]);
    }
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, world_setup_closed, world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(journals_of_each_version_are_read),
        TEST(results_of_each_version_are_read),
        TEST(an_older_format_stays_what_it_is),
        TEST(a_newer_format_is_refused),
        TEST(newer_records_are_refused),
        TEST(older_records_are_handed_to_migrate),
        TEST(what_is_not_ours_is_refused),
        TEST(any_damaged_byte_is_told_of),
        TEST(each_kind_of_damage_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
