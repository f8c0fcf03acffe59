/* The store as its users see it: records, frames, order, opening and refusing. What goes wrong
 * with disks is in test_store_disk.c. */
#include "tests/unit/store_world.h"

#include <sqlite3.h>
#include <sys/wait.h>

#include "common/clock.h"
#include "common/store_sums.h"

/* ---- records ---- */

struct listed {
    char text[400];
    int stop_after;
};

static int list(void *arg, const char *key, const uint8_t *value, size_t len)
{
    struct listed *listed = arg;
    size_t at = strlen(listed->text);
    snprintf(listed->text + at, sizeof listed->text - at, "%s=%.*s;", key, (int)len, (const char *)value);
    return --listed->stop_after == 0;
}

static void assert_records(struct world *world, const char *prefix, const char *wanted)
{
    struct listed listed = {0};
    assert_int_equal(store_load(world->store, prefix, list, &listed, &world->why), 0);
    assert_string_equal(listed.text, wanted);
}

static void records_last(void **state)
{
    struct world *world = *state;
    assert_int_equal(store_put(world->store, "b/2", "two", 3), 0);
    assert_int_equal(store_put(world->store, "b/10", "ten", 3), 0);
    assert_int_equal(store_put(world->store, "a", "first", 5), 0);
    assert_int_equal(store_put(world->store, "b/2", "again", 5), 0);
    assert_int_equal(store_put(world->store, "c", NULL, 0), 0);
    assert_int_equal(store_put(world->store, "b0", "neighbour", 9), 0);
    assert_int_equal(store_put(world->store, "gone", "x", 1), 0);
    assert_int_equal(store_delete(world->store, "gone"), 0);
    assert_int_equal(store_delete(world->store, "never there"), 0);
    world_commit(world);
    assert_records(world, "b/", "b/10=ten;b/2=again;");
    uint8_t id[16];
    memcpy(id, store_id(world->store), 16);
    world_reopen(world);
    assert_records(world, "", "a=first;b/10=ten;b/2=again;b0=neighbour;c=;");
    assert_records(world, "b/2x", "");
    assert_memory_equal(id, store_id(world->store), 16);
    assert_int_equal(store_check(world->store, &world->why), 0);
}

static void loading_stops_when_told(void **state)
{
    struct world *world = *state;
    struct listed listed = { .stop_after = 1 };
    store_put(world->store, "a", "1", 1);
    store_put(world->store, "b", "2", 1);
    world_commit(world);
    assert_int_equal(store_load(world->store, "", list, &listed, &world->why), -1);
    assert_string_equal(listed.text, "a=1;");
}

static void closing_flushes_what_is_staged(void **state)
{
    struct world *world = *state;
    store_put(world->store, "late", "yes", 3);
    world_reopen(world);
    assert_records(world, "", "late=yes;");
}

/* ---- flushes ---- */

static void flushes_are_numbered_and_told_in_order(void **state)
{
    struct world *world = *state;
    assert_int_equal(store_flush(world->store), 0);
    for (uint64_t i = 1; i <= 100; i++) {
        store_put(world->store, "n", &i, sizeof i);
        assert_true(store_waiting(world->store) > 0);
        assert_int_equal(store_flush(world->store), i);
        assert_int_equal(store_flush(world->store), i);
    }
    wait_until(world, world->committed == 100);
    assert_int_equal(store_waiting(world->store), 0);
    assert_int_equal(store_committed(world->store), 100);
    assert_true(world->n_committed <= 100);
}

static void a_lookup_sees_what_was_flushed_before(void **state)
{
    struct world *world = *state;
    static struct got got;
    for (uint64_t i = 1; i <= 50; i++) {
        world_append(world, 9, i, 1, 100, 1);
        uint64_t sequence = store_flush(world->store);
        world_append(world, 9, 1000 + i, 1, 100, 1);     /* staged only */
        world_look(world, &(struct store_query){ .batch = 9, .max_rows = 300 }, &got);
        assert_true(store_committed(world->store) >= sequence);
        assert_int_equal(got.n, 2 * i - 1);
    }
    got_drop(&got);
}

/* ---- frames ---- */

static void a_frame_comes_back_as_it_was(void **state)
{
    struct world *world = *state;
    static struct got got;
    struct buf *buf = buf_copy("headbody", 8);
    struct store_frame frame = { .batch = UINT64_MAX, .first = 1000, .count = UINT32_MAX, .kind = UINT32_MAX,
                                 .head = slice_cut(slice_of(buf), 0, 4), .body = slice_cut(slice_of(buf), 4, 4) };
    uint64_t number = 0;
    assert_int_equal(store_append(world->store, &frame, &number), 0);
    buf_unref(&buf);                         /* the store has references of its own */
    assert_int_equal(number, 1);
    store_flush(world->store);
    for (int heads_only = 0; heads_only <= 1; heads_only++) {
        world_look(world, &(struct store_query){ .batch = UINT64_MAX, .heads_only = heads_only }, &got);
        assert_int_equal(got.n, 1);
        assert_false(got.more || got.damaged);
        const struct store_frame *back = &got.frames[0];
        assert_int_equal(back->number, number);
        assert_int_equal(back->batch, UINT64_MAX);
        assert_int_equal(back->first, 1000);
        assert_int_equal(back->count, UINT32_MAX);
        assert_int_equal(back->kind, UINT32_MAX);
        assert_int_equal(back->head.len, 4);
        assert_memory_equal(back->head.data, "head", 4);
        assert_int_equal(back->body.len, heads_only ? 0 : 4);
        if (!heads_only)
            assert_memory_equal(back->body.data, "body", 4);
    }
    got_drop(&got);
}

static void rows_by_number_within_limits(void **state)
{
    struct world *world = *state;
    static struct got got;
    for (uint64_t i = 0; i < 100; i++)
        world_append(world, i % 2, i, 1, 1000, (uint8_t)i);
    world_commit(world);
    struct store_query query = { .batch = 1, .after = 10, .max_rows = 7 };
    world_look(world, &query, &got);
    assert_int_equal(got.n, 7);
    assert_true(got.more);
    for (size_t i = 0; i < got.n; i++)
        assert_int_equal(got.frames[i].number, 12 + 2 * i);
    query = (struct store_query){ .batch = 1, .max_bytes = 2500 };
    world_look(world, &query, &got);
    assert_int_equal(got.n, 3);
    assert_true(got.more);
    query = (struct store_query){ .batch = 1, .after = 98 };
    world_look(world, &query, &got);
    assert_int_equal(got.n, 1);
    assert_false(got.more);
    query = (struct store_query){ .batch = 1, .max_rows = 50 };
    world_look(world, &query, &got);
    assert_int_equal(got.n, 50);
    assert_false(got.more);
    query = (struct store_query){ .batch = 77 };
    world_look(world, &query, &got);
    assert_int_equal(got.n, 0);
    assert_false(got.more || got.damaged);
    got_drop(&got);
}

static void assert_rows(struct world *world, const struct store_query *query, const char *wanted, bool more)
{
    static struct got got;
    char numbers[200] = "";
    world_look(world, query, &got);
    for (size_t i = 0; i < got.n; i++)
        snprintf(numbers + strlen(numbers), sizeof numbers - strlen(numbers), "%" PRIu64 " ", got.frames[i].number);
    assert_string_equal(numbers, wanted);
    assert_int_equal(got.more, more);
    got_drop(&got);
}

static void rows_by_index(void **state)
{
    struct world *world = *state;
    world_append(world, 3, 4096, 4096, 10, 1);           /* 1: [4096, 8192) */
    world_append(world, 3, 0, 4096, 10, 1);              /* 2: [0, 4096) */
    world_append(world, 3, 4000, 200, 10, 1);            /* 3: [4000, 4200), overlaps both */
    world_append(world, 3, 2, 1000000, 10, 1);           /* 4: a long one, [2, 1000002) */
    world_append(world, 3, 4000, 1, 10, 1);              /* 5: begins where 3 does */
    world_append(world, 3, 4100, 0, 10, 1);              /* 6: holds nothing */
    world_append(world, 4, 0, 4096, 10, 1);              /* 7: of another batch */
    world_commit(world);
    struct store_query query = { .batch = 3, .order = STORE_BY_INDEX, .from = 0, .to = UINT64_MAX };
    assert_rows(world, &query, "2 4 3 5 1 ", false);
    query.from = 4000, query.to = 4001;
    assert_rows(world, &query, "2 4 3 5 ", false);
    query.from = 4096, query.to = 4097;
    assert_rows(world, &query, "4 3 1 ", false);
    query.from = 8191, query.to = 8192;
    assert_rows(world, &query, "4 1 ", false);
    query.from = 8192, query.to = 9000;
    assert_rows(world, &query, "4 ", false);
    query.from = 0, query.to = 1;
    assert_rows(world, &query, "2 ", false);
    query.from = 1000002, query.to = UINT64_MAX;
    assert_rows(world, &query, "", false);
    query.from = UINT64_MAX - 1;
    assert_rows(world, &query, "", false);
}

static void rows_by_index_go_on_behind_the_last(void **state)
{
    struct world *world = *state;
    for (int i = 0; i < 3; i++)
        world_append(world, 3, 50, 1, 10, 1);            /* 1, 2, 3 */
    world_append(world, 3, 40, 20, 10, 1);               /* 4 */
    world_append(world, 3, 45, 5000, 10, 1);             /* 5, long */
    world_commit(world);
    struct store_query query = { .batch = 3, .order = STORE_BY_INDEX, .from = 50, .to = 51, .max_rows = 2 };
    assert_rows(world, &query, "4 5 ", true);
    query.after = 5;
    assert_rows(world, &query, "1 2 ", true);
    query.after = 2;
    assert_rows(world, &query, "3 ", false);
    query.after = 3;
    assert_rows(world, &query, "", false);
    query.after = 99;                                    /* no such row (any more) */
    assert_rows(world, &query, "", false);
}

/* ---- cancelling ---- */

struct pair {
    struct world *world;
    uint64_t other;
    int calls;
};

static void cancel_the_other(void *arg, const struct store_rows *rows)
{
    struct pair *pair = arg;
    (void)rows;
    pair->calls++;
    store_read_cancel(pair->world->store, pair->other);
    loop_stop(pair->world->loop);
}

static void must_not_come(void *arg, const struct store_rows *rows)
{
    (void)arg, (void)rows;
    fail_msg("a cancelled lookup was answered");
}

static void a_cancelled_lookup_is_not_answered(void **state)
{
    struct world *world = *state;
    struct pair pair = { .world = world };
    struct store_query query = { .batch = 1 };
    static struct got got;
    uint64_t id = 0;
    world_append(world, 1, 0, 1, 100, 1);
    store_flush(world->store);
    assert_int_equal(store_read(world->store, &query, must_not_come, NULL, &id), 0);
    store_read_cancel(world->store, id);
    store_read_cancel(world->store, id);
    store_read_cancel(world->store, 12345);
    assert_int_equal(store_read(world->store, &query, cancel_the_other, &pair, NULL), 0);
    assert_int_equal(store_read(world->store, &query, must_not_come, NULL, &pair.other), 0);
    world_look(world, &query, &got);                     /* answers come in order: the others were before */
    assert_int_equal(pair.calls, 1);
    assert_int_equal(got.n, 1);
    got_drop(&got);
    assert_int_equal(store_read(world->store, &query, must_not_come, NULL, NULL), 0);
    world_close(world);                                  /* nor is one that is open at the end */
}

/* ---- deleting ---- */

static void a_deleted_batch_is_gone_at_once(void **state)
{
    struct world *world = *state;
    for (uint64_t i = 0; i < 5000; i++)
        world_append(world, i % 2, i, 1, 300, 1);
    assert_int_equal(store_delete_frames(world->store, 1), 0);
    uint64_t later = world_append(world, 1, 7, 1, 10, 1);
    store_flush(world->store);
    assert_int_equal(later, 5001);
    assert_rows(world, &(struct store_query){ .batch = 1 }, "5001 ", false);
    assert_rows(world, &(struct store_query){ .batch = 1, .order = STORE_BY_INDEX, .to = 5000 }, "5001 ", false);
    assert_int_equal(world_count(world, 0), 2500);
    world_reopen(world);                                 /* in the middle of it, or behind: the same is seen */
    assert_rows(world, &(struct store_query){ .batch = 1 }, "5001 ", false);
    assert_int_equal(world_count(world, 0), 2500);
    assert_int_equal(store_check(world->store, &world->why), 0);
}

/* Rows that are in the file, whether they are to go or not. */
static int count_rows(struct world *world)
{
    sqlite3 *handle = NULL;
    sqlite3_stmt *count = NULL;
    assert_int_equal(sqlite3_open_v2(world_path(world, "journal.db"), &handle, SQLITE_OPEN_READWRITE, NULL), SQLITE_OK);
    sqlite3_busy_timeout(handle, 10000);
    assert_int_equal(sqlite3_prepare_v2(handle, "SELECT count(*) FROM frames", -1, &count, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(count), SQLITE_ROW);
    int n = sqlite3_column_int(count, 0);
    assert_int_equal(sqlite3_finalize(count), SQLITE_OK);
    assert_int_equal(sqlite3_close(handle), SQLITE_OK);
    return n;
}

static void numbers_are_not_used_again(void **state)
{
    struct world *world = *state;
    static struct got got;
    for (int i = 0; i < 10; i++)
        world_append(world, 1, 0, 1, 10, 1);
    world_commit(world);
    store_delete_frames(world->store, 1);
    world_commit(world);
    for (mono_t until = mono_add(mono_now(), BOUND); count_rows(world) > 0;) {
        assert_true(mono_before(mono_now(), until));
        world_look(world, &(struct store_query){ .batch = 1 }, &got);      /* a turn of the thread */
    }
    world_reopen(world);
    assert_int_equal(world_append(world, 1, 0, 1, 10, 1), 11);
    world_reopen(world);
    assert_int_equal(world_append(world, 1, 0, 1, 10, 1), 12);
    world_commit(world);
    assert_rows(world, &(struct store_query){ .batch = 1 }, "11 12 ", false);
}

/* Commits go on while the purge and the vacuum do; each of them is a turn of the thread. */
static void assert_space_comes_back(struct world *world, const char *file, int64_t before)
{
    static struct got got;
    world_append(world, 2, 0, 1, 100, 1);
    world_append(world, 2, 0, 1, 200000, 1);
    world_reopen(world);
    assert_true(world_file_size(world, file) > before);
    store_delete_frames(world->store, 1);
    mono_t until = mono_add(mono_now(), BOUND);
    while (world_disk_bytes(world, file) > 8 << 20 && mono_before(mono_now(), until)) {
        store_put(world->store, "beside", "x", 1);
        world_commit(world);
        world_look(world, &(struct store_query){ .batch = 2 }, &got);
        assert_int_equal(got.n, 2);
        assert_false(got.damaged);
        got_drop(&got);
    }
    assert_true(world_disk_bytes(world, file) <= 8 << 20);
    assert_int_equal(store_check(world->store, &world->why), 0);
}

static void deleted_space_is_given_back(void **state)
{
    struct world *world = *state;
    world_fill(world, 1, 40 << 20);
    assert_space_comes_back(world, "journal.db", 40 << 20);
}

static void space_of_large_bodies_is_given_back(void **state)
{
    struct world *world = *state;
    for (int i = 0; i < 40; i++) {
        world_append(world, 1, 0, 1, 1 << 20, 1);
        store_flush(world->store);
    }
    assert_space_comes_back(world, "journal.db-bulk", 40 << 20);
    assert_true(world_file_size(world, "journal.db") < 1 << 20);
    /* What is at the end is cut off, and the next one begins where there is room. */
    store_delete_frames(world->store, 2);
    world_append(world, 3, 0, 1, 1 << 20, 1);
    world_reopen(world);
    assert_true(world_file_size(world, "journal.db-bulk") < 3 << 20);
    assert_int_equal(world_count(world, 3), 1);
}

/* Each finds a place of its own, whatever has been deleted before. */
static void places_of_large_bodies_are_used_again(void **state)
{
    struct world *world = *state;
    for (uint64_t i = 0; i < 60; i++) {
        world_append(world, 1 + i % 7, i, 1, 65536 + i * 7919 % 200000, (uint8_t)(i + 1));
        if (i % 5 == 4)
            store_delete_frames(world->store, 1 + i * 3 % 7);
        world_commit(world);
        if (i % 17 == 16)
            world_reopen(world);
        if (store_check(world->store, &world->why) < 0)
            fail_msg("after %u: %s", (unsigned)i, world->why.text);
    }
    assert_true(world_file_size(world, "journal.db-bulk") < 6 << 20);
}

/* Thousands of small batches go together, some in each turn of the thread. */
static void many_small_batches_are_deleted(void **state)
{
    struct world *world = *state;
    for (uint64_t batch = 1; batch <= 3000; batch++)
        world_append(world, batch, 0, 1, 10000, 1);
    world_append(world, 3001, 0, 1, 100, 1);
    world_reopen(world);
    assert_true(world_file_size(world, "journal.db") > 30000000);
    for (uint64_t batch = 1; batch <= 3000; batch++)
        store_delete_frames(world->store, batch);
    mono_t until = mono_add(mono_now(), BOUND);
    do {
        store_put(world->store, "beside", "x", 1);
        world_commit(world);
    } while (world_file_size(world, "journal.db") > 8 << 20 && mono_before(mono_now(), until));
    assert_true(world_file_size(world, "journal.db") <= 8 << 20);
    assert_int_equal(world_count(world, 2999), 0);
    assert_int_equal(world_count(world, 3001), 1);
    assert_int_equal(store_check(world->store, &world->why), 0);
}

/* ---- opening ---- */

static void assert_refused(struct world *world, enum store_refusal refusal, const char *first, const char *second)
{
    assert_null(world_try(world));
    assert_int_equal(world->refusal, refusal);
    if (!strstr(world->why.text, first) || !strstr(world->why.text, second))
        fail_msg("'%s' doesn't say '%s' and '%s'", world->why.text, first, second);
}

static void a_second_opener_is_refused(void **state)
{
    struct world *world = *state;
    struct world second = *world;
    char pid[40];
    snprintf(pid, sizeof pid, "process %ld", (long)getpid());
    assert_refused(&second, STORE_BUSY, world->dir, pid);
    store_put(world->store, "still", "works", 5);
    world_commit(world);
    world_close(world);
    world_open(world);
}

static void a_file_is_no_folder(void **state)
{
    struct world *world = *state;
    int fd = open(world->dir, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    close(fd);
    assert_refused(world, STORE_DISK, world->dir, "is a file where a folder");
    unlink(world->dir);
    snprintf(world->dir, sizeof world->dir, "%s/no/such", world->top);
    assert_refused(world, STORE_DISK, world->dir, "its parent must exist");
}

static void an_unwritable_folder_is_refused(void **state)
{
    struct world *world = *state;
    bool root = geteuid() == 0;              /* who may write everywhere, and so becomes somebody else */
    assert_int_equal(mkdir(world->dir, 0500), 0);
    if (root) {
        assert_int_equal(chmod(world->top, 0755), 0);
        assert_int_equal(chmod(world->dir, 0755), 0);
        assert_int_equal(seteuid(65534), 0);
    }
    struct store *store = world_try(world);
    if (root)
        assert_int_equal(seteuid(0), 0);
    assert_null(store);
    assert_int_equal(world->refusal, STORE_DISK);
    assert_non_null(strstr(world->why.text, world->dir));
    assert_non_null(strstr(world->why.text, "can't be written"));
}

static void put_file(struct world *world, const char *name, const char *text, size_t len)
{
    mkdir(world->dir, 0700);
    int fd = open(world_path(world, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, len), len);
    close(fd);
}

static void a_foreign_file_is_refused(void **state)
{
    struct world *world = *state;
    char noise[4096];
    memset(noise, 'x', sizeof noise);
    put_file(world, "journal.db", noise, sizeof noise);
    assert_refused(world, STORE_DISK, "journal.db", "is no SQLite database");
    assert_int_equal(world_file_size(world, "journal.db"), sizeof noise);
}

static void change(struct world *world, const char *text)
{
    sqlite3 *handle = NULL;
    mkdir(world->dir, 0700);
    assert_int_equal(sqlite3_open_v2(world_path(world, "journal.db"), &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, sums_layer()), SQLITE_OK);
    assert_int_equal(sqlite3_exec(handle, text, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(handle), SQLITE_OK);
}

static void another_programs_database_is_refused(void **state)
{
    struct world *world = *state;
    change(world, "CREATE TABLE songs(name TEXT)");
    assert_refused(world, STORE_DISK, "journal.db", "another program");
}

static void an_empty_file_is_made_a_store(void **state)
{
    struct world *world = *state;
    put_file(world, "journal.db", "", 0);
    world_open(world);
    world_close(world);
    unlink(world_path(world, "journal.db"));
    change(world, "PRAGMA page_size = 16384; PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL");
    world_open(world);                       /* its making was cut short before */
    world_append(world, 1, 0, 1, 10, 1);
    world_commit(world);
}

static void another_role_is_refused(void **state)
{
    struct world *world = *state;
    char path[160];
    world_close(world);
    snprintf(path, sizeof path, "%s", world_path(world, "journal.db"));
    assert_int_equal(rename(path, world_path(world, "results.db")), 0);
    world->config.role = "results";
    assert_refused(world, STORE_DISK, "'journal'", "'results' is wanted");
}

static void newer_ones_are_refused(void **state)
{
    struct world *world = *state;
    world_close(world);
    change(world, "UPDATE meta SET value = 2 WHERE name = 'version'");
    assert_refused(world, STORE_DISK, "records of version 2", "use the newer");
    change(world, "UPDATE meta SET value = 1 WHERE name = 'version'; UPDATE meta SET value = 99 WHERE name = 'format'; DROP TABLE purges");
    assert_refused(world, STORE_DISK, "format 99", "use the newer");
}

static void a_file_without_its_tables_is_refused(void **state)
{
    struct world *world = *state;
    world_close(world);
    change(world, "DROP INDEX frames_long");
    assert_refused(world, STORE_DISK, "damaged", "tables");
    change(world, "DELETE FROM meta WHERE name = 'id'");
    assert_refused(world, STORE_DISK, "damaged", "about itself");
    change(world, "DROP TABLE frames");
    assert_refused(world, STORE_DISK, "damaged", "journal.db");
}

static void the_folder_is_private(void **state)
{
    struct world *world = *state;
    struct stat found;
    assert_int_equal(stat(world->dir, &found), 0);
    assert_int_equal(found.st_mode & 0777, 0700);
}

/* ---- migrating ---- */

static int double_records(void *arg, const char *key, const uint8_t *value, size_t len)
{
    char twice[20];
    int n = snprintf(twice, sizeof twice, "%.*s%.*s", (int)len, (const char *)value, (int)len, (const char *)value);
    return store_put(arg, key, twice, (size_t)n);
}

static int migrate(struct store *store, uint32_t from, struct why *why)
{
    assert_int_equal(from, 1);
    return store_load(store, "", double_records, store, why);
}

static int migrate_in_vain(struct store *store, uint32_t from, struct why *why)
{
    (void)from;
    store_put(store, "half", "done", 4);
    return why_set(why, "that was nothing");
}

static void older_records_are_migrated(void **state)
{
    struct world *world = *state;
    store_put(world->store, "a", "1", 1);
    store_put(world->store, "b", "2", 1);
    world_close(world);
    world->config.version = 3;
    assert_refused(world, STORE_DISK, "version 1", "wants 3");
    world->config.migrate = migrate_in_vain;
    assert_refused(world, STORE_DISK, "that was", "nothing");
    world->config.migrate = migrate;
    world_open(world);
    assert_int_equal(store_waiting(world->store), 0);
    assert_records(world, "", "a=11;b=22;");
    world_reopen(world);                     /* not again */
    assert_records(world, "", "a=11;b=22;");
}

/* ---- the log ---- */

static void the_log_stays_short(void **state)
{
    struct world *world = *state;
    int64_t longest = 0;
    for (int i = 0; i < 220; i++) {
        world_append(world, 1, 0, 1, 1 << 20, 1);
        world_commit(world);
        int64_t len = world_file_size(world, "journal.db-wal");
        longest = len > longest ? len : longest;
    }
    assert_in_range(longest, 1 << 20, 136 << 20);
    world_close(world);
    assert_int_equal(world_file_size(world, "journal.db-wal"), -1);
}

int main(void)
{
#define OPENED(test) cmocka_unit_test_setup_teardown(test, world_setup, world_teardown)
#define CLOSED(test) cmocka_unit_test_setup_teardown(test, world_setup_closed, world_teardown)
    const struct CMUnitTest tests[] = {
        OPENED(records_last),
        OPENED(loading_stops_when_told),
        OPENED(closing_flushes_what_is_staged),
        OPENED(flushes_are_numbered_and_told_in_order),
        OPENED(a_lookup_sees_what_was_flushed_before),
        OPENED(a_frame_comes_back_as_it_was),
        OPENED(rows_by_number_within_limits),
        OPENED(rows_by_index),
        OPENED(rows_by_index_go_on_behind_the_last),
        OPENED(a_cancelled_lookup_is_not_answered),
        OPENED(a_deleted_batch_is_gone_at_once),
        OPENED(numbers_are_not_used_again),
        OPENED(deleted_space_is_given_back),
        OPENED(space_of_large_bodies_is_given_back),
        OPENED(places_of_large_bodies_are_used_again),
        OPENED(many_small_batches_are_deleted),
        OPENED(a_second_opener_is_refused),
        CLOSED(a_file_is_no_folder),
        CLOSED(an_unwritable_folder_is_refused),
        CLOSED(a_foreign_file_is_refused),
        CLOSED(another_programs_database_is_refused),
        CLOSED(an_empty_file_is_made_a_store),
        OPENED(another_role_is_refused),
        OPENED(newer_ones_are_refused),
        OPENED(a_file_without_its_tables_is_refused),
        OPENED(the_folder_is_private),
        OPENED(older_records_are_migrated),
        OPENED(the_log_stays_short),
    };
    return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
