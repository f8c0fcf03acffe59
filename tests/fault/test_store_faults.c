/* The store under faults: every write, flush, change of size, read and opening of its files, every allocation of ours
 * and of SQLite's, and every descriptor and thread that it asks for, fails in turn, while it opens, migrates, commits,
 * answers, purges, takes the log into the file, and closes.
 *
 * Whatever fails: it says so in a sentence or goes on; opened again without faults it has everything that it called
 * committed, each flush whole or not at all; nothing leaks; after a flush that failed nothing is written any more. */
#include <malloc.h>
#include <sqlite3.h>
#include <sys/statvfs.h>

#include "tests/support/fail.h"
#include "tests/support/fail_files.h"
#include "tests/unit/store_world.h"

/* ---- SQLite's memory ---- */

static void *memory_new(int size) { return fail_library_malloc((size_t)size); }
static void *memory_grow(void *p, int size) { return fail_library_realloc(p, (size_t)size); }
static int memory_size(void *p) { return p ? (int)malloc_usable_size(p) : 0; }
static int memory_round(int size) { return (size + 7) & ~7; }
static int memory_begin(void *arg) { (void)arg; return SQLITE_OK; }
static void memory_end(void *arg) { (void)arg; }

static void give_memory_to_sqlite(void)
{
    static const sqlite3_mem_methods methods = {
        .xMalloc = memory_new, .xFree = free, .xRealloc = memory_grow, .xSize = memory_size, .xRoundup = memory_round,
        .xInit = memory_begin, .xShutdown = memory_end,
    };
    sqlite3_shutdown();
    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) != SQLITE_OK || sqlite3_initialize() != SQLITE_OK)
        abort();
}

/* ---- one life of a store ---- */

/* How a life is led: each flush n stages the record "last" = n and a frame of batch 1 with the index n. */
struct life {
    uint64_t flushes;
    size_t body;                         /* bytes of a frame */
    unsigned frames;                     /* of batch 1 in each flush; 0: one */
    uint64_t purge_at;                   /* this flush also takes away batch 2, which the first flush has brought */
    bool migrates;                       /* the folder has the records of version 1 */
    bool looks;                          /* rows are asked for after each commit */
    bool waits_for_room;                 /* the fault is a disk without room, and goes when it was noticed */
};

struct tale {                            /* what came of it */
    bool refused, failed;
    uint64_t staged, committed;          /* flushes */
    char sentence[400];
    bool waited;
    long without_memory;                 /* rows that were not there for want of it */
};

static int stage_migrated(struct store *store, uint32_t from, struct why *why)
{
    (void)from;
    return store_put(store, "migrated", "yes", 3) < 0 ? why_set(why, "/tarmac-test-: no memory to migrate") : 0;
}

/* What was refused for want of memory is asked for once more: nothing was staged, and now there is some. */
#define INSIST(call) (assert_true((call) == 0 || (fail_hits() > 0 && (call) == 0)))

static void stage(struct world *world, const struct life *life, uint64_t n)
{
    uint8_t *body = test_malloc(life->body);
    uint64_t number;
    memset(body, (int)n, life->body);
    struct store_frame frame = {.batch = 1, .first = n, .count = 1, .head = {.data = body, .len = 5}, .body = {.data = body, .len = life->body}};
    INSIST(store_put(world->store, "last", &n, sizeof n));
    for (unsigned i = 0; i < (life->frames ? life->frames : 1); i++)
        INSIST(store_append(world->store, &frame, &number));
    if (n == 1) {
        frame.batch = 2;
        INSIST(store_append(world->store, &frame, &number));
    }
    if (n == life->purge_at)
        INSIST(store_delete_frames(world->store, 2));
    test_free(body);
}

static void look(struct world *world, struct tale *tale)
{
    static struct got got;
    struct store_query query = {.batch = 1};
    got_drop(&got);
    got.world = world;
    INSIST(store_read(world->store, &query, got_rows, &got, NULL));
    wait_until(world, got.done);
    if (got.damaged) {
        /* Nothing is damaged here: it is memory or the disk that is missing, and the sentence says which. */
        assert_null(strstr(got.damage, "is damaged"));
        assert_non_null(strstr(got.damage, "no memory") ?: strstr(got.damage, "can't be read"));
        assert_true(fail_hits() > 0);
        tale->without_memory++;
    } else {
        assert_true(got.n >= world->committed || got.more);
    }
    got_drop(&got);
}

static void wait_for_room(struct world *world, struct tale *tale, uint64_t sequence)
{
    wait_until(world, world->committed >= sequence || world->n_failed || world->n_full > 0);
    if (world->n_full == 0)
        return;
    tale->waited = true;
    assert_int_equal(world->n_failed, 0);
    fail_disarm();                       /* somebody has made room */
    fail_skip_time(NS_PER_S);            /* the store tries again when its half second is over */
    look(world, tale);                   /* which it is told in this way */
    wait_until(world, world->committed >= sequence || world->n_failed);
    assert_int_equal(world->n_failed, 0);
}

static void lead(struct world *world, const struct life *life, struct tale *tale)
{
    if (!world_try(world)) {
        tale->refused = true;
        assert_int_equal(world->refusal, STORE_DISK);
        snprintf(tale->sentence, sizeof tale->sentence, "%s", world->why.text);
        return;
    }
    for (uint64_t n = 1; n <= life->flushes && !world->n_failed; n++) {
        stage(world, life, n);
        tale->staged = n;
        uint64_t sequence = store_flush(world->store);
        if (life->waits_for_room)
            wait_for_room(world, tale, sequence);
        wait_until(world, world->committed >= sequence || world->n_failed);
        if (world->committed >= sequence)
            tale->committed = n;
        if (life->looks)
            look(world, tale);
    }
    tale->failed = world->n_failed > 0;
    snprintf(tale->sentence, sizeof tale->sentence, "%s", world->sentence);
    store_close(&world->store, BOUND);
}

/* ---- what is found afterwards ---- */

static int keep_number(void *arg, const char *key, const uint8_t *value, size_t len)
{
    (void)key;
    assert_int_equal(len, sizeof(uint64_t));
    memcpy(arg, value, len);
    return 0;
}

static int count_one(void *arg, const char *key, const uint8_t *value, size_t len)
{
    (void)key, (void)value, (void)len;
    ++*(int *)arg;
    return 0;
}

static void assert_all_there(struct world *world, const struct life *life, const struct tale *tale)
{
    uint64_t last = 0;
    int migrated = 0;
    world_open(world);
    assert_int_equal(store_load(world->store, "last", keep_number, &last, &world->why), 0);
    assert_in_range(last, tale->committed, tale->staged);
    assert_int_equal(world_count(world, 1), last * (life->frames ? life->frames : 1));
    assert_int_equal(world_count(world, 2), last >= 1 && !(life->purge_at && last >= life->purge_at));
    assert_int_equal(store_load(world->store, "migrated", count_one, &migrated, &world->why), 0);
    assert_int_equal(migrated, life->migrates);
    if (store_check(world->store, &world->why) < 0)
        fail_msg("%s", world->why.text);
    /* It is as good as any: it takes what comes. */
    uint64_t n = last + 1;
    assert_int_equal(store_put(world->store, "last", &n, sizeof n), 0);
    world_commit(world);
    world_close(world);
}

static void make_old(struct world *world)
{
    world->config.version = 1;
    world_open(world);
    world_close(world);
    world->config.version = 2;
    world->config.migrate = stage_migrated;
}

static void assert_honest(const struct tale *tale)
{
    if (!tale->refused && !tale->failed)
        return;
    assert_true(fail_hits() > 0);
    if (!strstr(tale->sentence, "/tarmac-test-"))
        fail_msg("'%s' doesn't name what is wrong", tale->sentence);
    if (strstr(tale->sentence, "damaged") || strstr(tale->sentence, "the role") || strstr(tale->sentence, "not a store"))
        fail_msg("'%s' blames a file that is right", tale->sentence);
}

/* In memory where that is possible: it is the calls that count, not the disk. */
static const char *folder(void)
{
    struct statvfs found;
    bool has_room = statvfs("/dev/shm", &found) == 0 && (uint64_t)found.f_bavail * found.f_frsize > 32 << 20;
    return has_room && access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
}

/* One run of a sweep; nothing of it is left. */
static void live_once(const struct fail_sweep *sweep, const struct life *life, struct tale *tale)
{
    fail_disarm();
    size_t blocks = fail_blocks();
    sqlite3_int64 memory = sqlite3_memory_used();
    int descriptors = fail_descriptors();
    struct world *world = world_prepare_in(folder());
    fail_folder = world->top;
    if (life->migrates)
        make_old(world);
    *tale = (struct tale){0};
    fail_again(sweep);
    lead(world, life, tale);
    fail_disarm();
    assert_honest(tale);
    world->n_failed = 0;
    assert_all_there(world, life, tale);
    fail_folder = NULL;
    world_end(world);
    if (fail_blocks() != blocks)
        fail_tell_blocks(blocks);
    assert_int_equal(fail_blocks(), blocks);
    assert_int_equal(sqlite3_memory_used(), memory);
    assert_int_equal(fail_descriptors(), descriptors);
}

/* All points of a sweep. `wanted`: how many there are at least, so that a sweep that misses what it is for is noticed. */
static void sweep_life(const char *what, struct fail_sweep sweep, const struct life *life, long wanted,
                       void (*check)(const struct tale *tale))
{
    struct tale tale;
    while (fail_next(&sweep)) {
        live_once(&sweep, life, &tale);
        if (check)
            check(&tale);
    }
    assert_false(tale.refused || tale.failed);
    assert_int_equal(tale.committed, life->flushes);
    fail_said(what, sweep.points);
    if (!fail_is_sanitized())
        assert_true(sweep.points >= wanted);
}

static const struct life whole_life = {.flushes = 4, .body = 3000, .purge_at = 3, .migrates = true, .looks = true};
/* The same with bodies in the file beside. */
static const struct life large_life = {.flushes = 5, .body = 70000, .purge_at = 3, .migrates = true, .looks = true};

/* ---- the disk ---- */

/* While closing nobody is told of it any more; but it holds there too. */
static void nothing_after_a_flush(const struct tale *tale)
{
    if (!tale->refused)
        assert_int_equal(fail_calls_since(FAIL_FILE_WRITE | FAIL_FILE_SYNC | FAIL_FILE_SIZE | FAIL_FILE_ROOM), 0);
}

/* A commit that ran beside a checkpoint may come to its end; nobody is told of it. */
static void hardly_anything_after_a_flush(const struct tale *tale)
{
    if (tale->refused)
        return;
    assert_in_range(fail_calls_since(FAIL_FILE_WRITE), 0, 300);
    assert_in_range(fail_calls_since(FAIL_FILE_SYNC), 0, 2);
}

static void never_the_end(const struct tale *tale)
{
    if (tale->failed)
        fail_msg("no room is not the end, but: %s", tale->sentence);
    if (tale->refused && !strstr(tale->sentence, "no room is left"))
        fail_msg("no room while opening says: %s", tale->sentence);
}

static void never_noticed(const struct tale *tale)
{
    if (tale->refused || tale->failed)
        fail_msg("a short write is nothing to stop for, but: %s", tale->sentence);
}

static void each_write_fails(void **state)
{
    (void)state;
    sweep_life("writes that fail with EIO", (struct fail_sweep){.kinds = FAIL_FILE_WRITE, .error = EIO}, &whole_life, 50, NULL);
    sweep_life("torn writes", (struct fail_sweep){.kinds = FAIL_FILE_WRITE, .error = EIO, .times = 2, .torn = true}, &whole_life, 50, NULL);
    sweep_life("short writes", (struct fail_sweep){.kinds = FAIL_FILE_WRITE, .error = FAIL_SHORT}, &whole_life, 50, never_noticed);
    sweep_life("writes after which every one fails", (struct fail_sweep){.kinds = FAIL_FILE_WRITE, .error = EIO, .times = -1}, &whole_life, 50, NULL);
    sweep_life("writes that fail, with large bodies", (struct fail_sweep){.kinds = FAIL_FILE_WRITE, .error = EIO}, &large_life, 50, NULL);
    sweep_life("torn writes, with large bodies", (struct fail_sweep){.kinds = FAIL_FILE_WRITE, .error = EIO, .times = 2, .torn = true}, &large_life, 50, NULL);
    sweep_life("short writes, with large bodies", (struct fail_sweep){.kinds = FAIL_FILE_WRITE, .error = FAIL_SHORT}, &large_life, 50, never_noticed);
}

static void each_write_finds_no_room(void **state)
{
    (void)state;
    struct life waits = whole_life, large_waits = large_life;
    waits.waits_for_room = large_waits.waits_for_room = true;
    sweep_life("single writes without room", (struct fail_sweep){.kinds = FAIL_FILE_WRITE | FAIL_FILE_ROOM, .error = ENOSPC}, &whole_life, 50, never_the_end);
    sweep_life("single writes without room, with large bodies", (struct fail_sweep){.kinds = FAIL_FILE_WRITE | FAIL_FILE_ROOM, .error = ENOSPC}, &large_life, 50, never_the_end);
    sweep_life("a disk that is full from a write on", (struct fail_sweep){.kinds = FAIL_FILE_WRITE | FAIL_FILE_ROOM, .error = ENOSPC, .times = -1}, &waits, 50, never_the_end);
    sweep_life("a disk that is full in the middle of a write",
               (struct fail_sweep){.kinds = FAIL_FILE_WRITE | FAIL_FILE_ROOM, .error = ENOSPC, .times = -1, .torn = true}, &waits, 50, never_the_end);
    sweep_life("a disk that is full in the middle of a write, with large bodies",
               (struct fail_sweep){.kinds = FAIL_FILE_WRITE | FAIL_FILE_ROOM, .error = ENOSPC, .times = -1, .torn = true}, &large_waits, 50, never_the_end);
}

static void each_flush_fails(void **state)
{
    (void)state;
    sweep_life("flushes that fail with EIO", (struct fail_sweep){.kinds = FAIL_FILE_SYNC, .error = EIO, .stride = 1}, &whole_life, 8, nothing_after_a_flush);
    sweep_life("flushes that find no room", (struct fail_sweep){.kinds = FAIL_FILE_SYNC, .error = ENOSPC, .stride = 1}, &whole_life, 8, nothing_after_a_flush);
    sweep_life("flushes that fail, with large bodies", (struct fail_sweep){.kinds = FAIL_FILE_SYNC, .error = EIO, .stride = 1}, &large_life, 12, nothing_after_a_flush);
    /* SQLite flushes folders too, and doesn't ask how it went; ours come after its own. */
    sweep_life("flushes of folders that fail", (struct fail_sweep){.kinds = FAIL_FOLDER_SYNC, .error = EIO, .stride = 1}, &whole_life, 2, NULL);
}

static void each_change_of_size_fails(void **state)
{
    (void)state;
    sweep_life("changes of size that fail", (struct fail_sweep){.kinds = FAIL_FILE_SIZE | FAIL_FILE_ROOM, .error = EIO, .stride = 1}, &whole_life, 3, NULL);
    sweep_life("changes of size that fail, with large bodies", (struct fail_sweep){.kinds = FAIL_FILE_SIZE | FAIL_FILE_ROOM, .error = EIO, .stride = 1}, &large_life, 3, NULL);
}

static void each_read_fails(void **state)
{
    (void)state;
    sweep_life("reads that fail", (struct fail_sweep){.kinds = FAIL_FILE_READ, .error = EIO, .stride = 1}, &whole_life, 10, NULL);
    sweep_life("reads that fail, with large bodies", (struct fail_sweep){.kinds = FAIL_FILE_READ, .error = EIO, .stride = 1}, &large_life, 10, NULL);
}

static void each_opening_fails(void **state)
{
    (void)state;
    sweep_life("files that can't be opened", (struct fail_sweep){.kinds = FAIL_FILE_OPEN, .error = EMFILE, .stride = 1}, &whole_life, 5, NULL);
    sweep_life("descriptors and threads that aren't there",
               (struct fail_sweep){.kinds = FAIL_OPEN | FAIL_CONTROL | FAIL_PROCESS, .error = EAGAIN, .stride = 1}, &whole_life, 5, NULL);
}

/* Enough for the log to be taken into the file beside the commits, by the other thread, and while closing. */
static void a_life_with_checkpoints(void **state)
{
    (void)state;
    const struct life life = {.flushes = 6, .body = 60000, .frames = 17};
    sweep_life("flushes that fail, with checkpoints", (struct fail_sweep){.kinds = FAIL_FILE_SYNC, .error = EIO, .stride = 1}, &life, 12, hardly_anything_after_a_flush);
    sweep_life("writes that fail, with checkpoints",
               (struct fail_sweep){.kinds = FAIL_FILE_WRITE, .error = EIO, .stride = fail_is_sanitized() ? 211 : 97}, &life, 10, NULL);
    sweep_life("writes without room, with checkpoints",
               (struct fail_sweep){.kinds = FAIL_FILE_WRITE, .error = ENOSPC, .stride = fail_is_sanitized() ? 211 : 97}, &life, 10, never_the_end);
    sweep_life("reads that fail, with checkpoints",
               (struct fail_sweep){.kinds = FAIL_FILE_READ, .error = EIO, .stride = fail_is_sanitized() ? 211 : 97}, &life, 3, NULL);
}

/* ---- memory ---- */

static void each_allocation_fails(void **state)
{
    (void)state;
    sweep_life("allocations of ours", (struct fail_sweep){.kinds = FAIL_MEMORY, .error = ENOMEM}, &whole_life, 30, NULL);
    sweep_life("allocations of ours, with large bodies", (struct fail_sweep){.kinds = FAIL_MEMORY, .error = ENOMEM}, &large_life, 30, NULL);
}

static void each_allocation_of_sqlite_fails(void **state)
{
    (void)state;
    sweep_life("allocations of SQLite", (struct fail_sweep){.kinds = FAIL_LIBRARY, .error = ENOMEM, .stride = fail_is_sanitized() ? 41 : 7}, &whole_life, 100, NULL);
}

/* Checking a store that is right never calls it damaged. */
static void checking_without_memory(void **state)
{
    (void)state;
    struct world *world = world_prepare_in(folder());
    world_open(world);
    for (uint64_t n = 1; n <= 20; n++) {
        world_append(world, 1, n, 1, 20000, (uint8_t)n);
        assert_int_equal(store_put(world->store, "last", &n, sizeof n), 0);
    }
    world_commit(world);
    assert_int_equal(world_count(world, 1), 20);         /* by then the thread has let go of what it wrote */
    struct fail_sweep sweep = {.kinds = FAIL_MEMORY | FAIL_LIBRARY, .error = ENOMEM};
    while (fail_next(&sweep)) {
        size_t blocks = fail_blocks();
        int result = store_check(world->store, &world->why);
        fail_disarm();
        if (result < 0 && strstr(world->why.text, "damaged"))
            fail_msg("without memory it says: %s", world->why.text);
        assert_true(result == 0 || strstr(world->why.text, "memory"));
        assert_int_equal(fail_blocks(), blocks);
        assert_int_equal(store_check(world->store, &world->why), 0);
    }
    fail_said("allocations while checking", sweep.points);
    world_end(world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_write_fails),
        cmocka_unit_test(each_write_finds_no_room),
        cmocka_unit_test(each_flush_fails),
        cmocka_unit_test(each_change_of_size_fails),
        cmocka_unit_test(each_read_fails),
        cmocka_unit_test(each_opening_fails),
        cmocka_unit_test(a_life_with_checkpoints),
        cmocka_unit_test(each_allocation_fails),
        cmocka_unit_test(each_allocation_of_sqlite_fails),
        cmocka_unit_test(checking_without_memory),
    };
    give_memory_to_sqlite();
    return cmocka_run_group_tests_name("store and faults", tests, NULL, NULL);
}
