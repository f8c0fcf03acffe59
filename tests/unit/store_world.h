/* What the tests of the store share: a folder of their own, a loop, a store, and waiting for
 * what the store says, with a bound. */
#ifndef TESTS_UNIT_STORE_WORLD_H
#define TESTS_UNIT_STORE_WORLD_H

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/crc32c.h"
#include "common/loop.h"
#include "common/store.h"

#define BOUND (30 * NS_PER_S)

struct world {
    char top[64], dir[80];                   /* the folder of the test, and the store's in it */
    struct loop *loop;
    struct store *store;
    struct store_config config;
    struct loop_timer bound;
    bool out_of_time;

    uint64_t committed;                      /* as told by the callback */
    unsigned n_committed, n_full, n_room, n_failed;
    char sentence[400];
    enum store_refusal refusal;
    struct why why;
};

static inline void world_committed(void *arg, uint64_t sequence)
{
    struct world *world = arg;
    assert_true(sequence > world->committed);
    assert_int_equal(sequence, store_committed(world->store));
    world->committed = sequence;
    world->n_committed++;
    loop_stop(world->loop);
}

static inline void world_full(void *arg, bool is_full)
{
    struct world *world = arg;
    assert_int_equal(is_full, store_is_full(world->store));
    *(is_full ? &world->n_full : &world->n_room) += 1;
    loop_stop(world->loop);
}

static inline void world_failed(void *arg, const char *sentence)
{
    struct world *world = arg;
    world->n_failed++;
    snprintf(world->sentence, sizeof world->sentence, "%s", sentence);
    loop_stop(world->loop);
}

static inline void world_bound(void *arg)
{
    struct world *world = arg;
    world->out_of_time = true;
    loop_stop(world->loop);
}

/* Lets the loop run until `condition` holds; fails the test when that takes too long. */
#define wait_until(world, condition)                                                           \
    do {                                                                                       \
        loop_timer_set((world)->loop, &(world)->bound, mono_add(mono_now(), BOUND));           \
        while (!(condition) && !(world)->out_of_time)                                          \
            assert_int_equal(loop_run((world)->loop), 0);                                      \
        loop_timer_clear((world)->loop, &(world)->bound);                                      \
        if ((world)->out_of_time)                                                              \
            fail_msg("waited too long for: %s", #condition);                                   \
    } while (0)

static inline struct store *world_try(struct world *world)
{
    world->committed = 0;
    world->store = store_open(world->loop, &world->config, &world->refusal, &world->why);
    return world->store;
}

static inline void world_open(struct world *world)
{
    if (!world_try(world))
        fail_msg("the store wasn't opened: %s", world->why.text);
}

static inline void world_close(struct world *world)
{
    store_close(&world->store, BOUND);
    assert_null(world->store);
}

static inline void world_reopen(struct world *world)
{
    world_close(world);
    world_open(world);
}

/* Nothing is opened yet. */
static inline struct world *world_prepare_in(const char *folder)
{
    struct world *world = test_calloc(1, sizeof *world);
    snprintf(world->top, sizeof world->top, "%s/tarmac-test-XXXXXX", folder);
    assert_non_null(mkdtemp(world->top));
    snprintf(world->dir, sizeof world->dir, "%s/data", world->top);
    world->loop = loop_new();
    assert_non_null(world->loop);
    world->bound = (struct loop_timer){ .fire = world_bound, .arg = world };
    world->config = (struct store_config){
        .dir = world->dir, .role = "journal", .version = 1,
        .committed = world_committed, .full = world_full, .failed = world_failed, .arg = world,
    };
    return world;
}

static inline struct world *world_prepare(void) { return world_prepare_in("/tmp"); }

static inline const char *world_path(const struct world *world, const char *name)
{
    static char path[160];
    snprintf(path, sizeof path, "%s/%s", world->dir, name);
    return path;
}

/* Gives each page of a store's file, changed behind its back, the sum that fits: so that what lies behind the sums of the
 * pages is tested too. docs/disk.md says how they are made. */
static inline void world_seal(const char *path)
{
    uint8_t page[16384];
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    for (uint64_t number = 1; pread(fd, page, sizeof page, (off_t)((number - 1) * sizeof page)) == (ssize_t)sizeof page; number++) {
        uint32_t sum = crc32c(crc32c(0, &number, sizeof number), page, sizeof page - 8);
        if (memcmp(page + sizeof page - 4, "1sum", 4) != 0)
            continue;
        memcpy(page + sizeof page - 8, &sum, sizeof sum);
        assert_int_equal(pwrite(fd, page, sizeof page, (off_t)((number - 1) * sizeof page)), sizeof page);
    }
    close(fd);
}

static inline void world_remove_files(struct world *world)
{
    static const char *const names[] = { "LOCK", "reserve", "journal.db", "journal.db-wal", "journal.db-shm", "journal.db-bulk",
                                         "results.db", "results.db-wal", "results.db-shm", "results.db-bulk" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(world_path(world, names[i]));
}

/* The folder must be empty then: what else were there would have been left lying about by the store. */
static inline void world_end(struct world *world)
{
    store_close(&world->store, BOUND);
    world_remove_files(world);
    assert_true(rmdir(world->dir) == 0 || errno == ENOENT);
    assert_int_equal(rmdir(world->top), 0);
    loop_destroy(&world->loop);
    test_free(world);
}

static inline int world_setup(void **state)
{
    struct world *world = world_prepare();
    world_open(world);
    *state = world;
    return 0;
}

static inline int world_setup_closed(void **state)
{
    *state = world_prepare();
    return 0;
}

static inline int world_teardown(void **state)
{
    world_end(*state);
    return 0;
}

/* Flushes and waits until that is on disk. */
static inline void world_commit(struct world *world)
{
    uint64_t sequence = store_flush(world->store);
    wait_until(world, world->committed >= sequence || world->n_failed);
    assert_int_equal(world->n_failed, 0);
}

/* A frame whose bytes follow from `seed`, lent for the length of the call. */
static inline uint64_t world_append(struct world *world, uint64_t batch, uint64_t first, uint32_t count, size_t len, uint8_t seed)
{
    uint8_t *bytes = test_malloc(len + 1);
    uint64_t number = 0;
    memset(bytes, seed, len + 1);
    struct store_frame frame = { .batch = batch, .first = first, .count = count, .kind = seed,
                                 .head = { .data = bytes, .len = len ? 5 : 0 }, .body = { .data = bytes, .len = len } };
    if (len > 0 && len < 5)
        frame.head.len = len;
    assert_int_equal(store_append(world->store, &frame, &number), 0);
    test_free(bytes);
    return number;
}

/* Frames that stay in the database, so many bytes of them, in flushes of about a mebibyte. */
static inline void world_fill(struct world *world, uint64_t batch, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 60000) {
        world_append(world, batch, 0, 1, 60000, 1);
        if (i / 60000 % 17 == 16)
            store_flush(world->store);
    }
}

/* What a lookup brought, with references of its own. */
struct got {
    struct world *world;
    struct store_frame frames[300];
    size_t n;
    bool more, damaged, done;
    char damage[400];
};

static inline void got_rows(void *arg, const struct store_rows *rows)
{
    struct got *got = arg;
    assert_false(got->done);
    assert_true(rows->n <= sizeof got->frames / sizeof *got->frames);
    for (size_t i = 0; i < rows->n; i++) {
        got->frames[i] = rows->frames[i];
        got->frames[i].head = slice_keep(rows->frames[i].head);
        got->frames[i].body = slice_keep(rows->frames[i].body);
    }
    got->n = rows->n;
    got->more = rows->more;
    got->damaged = rows->damage;
    if (rows->damage)
        snprintf(got->damage, sizeof got->damage, "%s", rows->damage);
    got->done = true;
    loop_stop(got->world->loop);
}

static inline void got_drop(struct got *got)
{
    for (size_t i = 0; i < got->n; i++) {
        slice_drop(&got->frames[i].head);
        slice_drop(&got->frames[i].body);
    }
    memset(got, 0, sizeof *got);
}

/* Asks and waits; got is emptied first. */
static inline void world_look(struct world *world, const struct store_query *query, struct got *got)
{
    got_drop(got);
    got->world = world;
    assert_int_equal(store_read(world->store, query, got_rows, got, NULL), 0);
    wait_until(world, got->done);
}

static inline size_t world_count(struct world *world, uint64_t batch)
{
    static struct got got;
    struct store_query query = { .batch = batch, .max_bytes = SIZE_MAX };
    size_t n = 0;
    do {
        world_look(world, &query, &got);
        assert_false(got.damaged);
        n += got.n;
        if (got.n > 0)
            query.after = got.frames[got.n - 1].number;
    } while (got.more);
    got_drop(&got);
    return n;
}

/* What it takes of the disk, without its holes. */
static inline int64_t world_disk_bytes(const struct world *world, const char *name)
{
    struct stat found;
    return stat(world_path(world, name), &found) == 0 ? (int64_t)found.st_blocks * 512 : -1;
}

static inline int64_t world_file_size(const struct world *world, const char *name)
{
    struct stat found;
    return stat(world_path(world, name), &found) == 0 ? (int64_t)found.st_size : -1;
}

#endif
