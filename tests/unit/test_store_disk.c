/* The store when things go wrong below it: no room, errors of the disk, damage, sudden death.
 * Two calls of the C library are replaced here, so that a disk can be full or broken at will:
 * SQLite's come here as well. */
#include "tests/unit/store_world.h"

#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static atomic_int write_error, sync_error;
static atomic_uint refused_writes, writes_after_failure;
static atomic_bool count_writes;
static struct rlimit no_limit;               /* as it was at the start */

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at)
{
    int error = atomic_load(&write_error);
    if (atomic_load(&count_writes))
        atomic_fetch_add(&writes_after_failure, 1);
    if (error) {
        atomic_fetch_add(&refused_writes, 1);
        errno = error;
        return -1;
    }
    return (ssize_t)syscall(SYS_pwrite64, fd, data, len, at);
}

int fdatasync(int fd)
{
    int error = atomic_load(&sync_error);
    if (error) {
        errno = error;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

static int teardown(void **state)
{
    atomic_store(&write_error, 0);
    atomic_store(&sync_error, 0);
    atomic_store(&count_writes, false);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &no_limit), 0);
    struct world *world = *state;
    store_close(&world->store, 0);
    umount2(world->dir, MNT_DETACH);         /* only where a test that failed left its disk */
    return world_teardown(state);
}

/* ---- a full disk ---- */

static bool has_reserve(const struct world *world)
{
    return world_file_size(world, "reserve") > 0;
}

static void assert_waits_for_room(struct world *world, int error, size_t bytes)
{
    static struct got got;
    uint64_t before = store_committed(world->store);
    unsigned full = world->n_full, room = world->n_room;
    atomic_store(&write_error, error);
    world_append(world, 1, 10, 1, bytes, 2);
    uint64_t sequence = store_flush(world->store);
    wait_until(world, world->n_full == full + 1);
    assert_true(store_is_full(world->store));
    assert_false(has_reserve(world));
    assert_true(store_waiting(world->store) > bytes);

    world_look(world, &(struct store_query){ .batch = 1 }, &got);      /* is served meanwhile */
    assert_int_equal(got.n, 1);
    unsigned refused = atomic_load(&refused_writes);                   /* it is tried again */
    for (mono_t until = mono_add(mono_now(), BOUND); atomic_load(&refused_writes) == refused;) {
        assert_true(mono_before(mono_now(), until));
        world_look(world, &(struct store_query){ .batch = 1 }, &got);
    }
    got_drop(&got);
    assert_int_equal(store_committed(world->store), before);
    assert_int_equal(world->n_full, full + 1);

    atomic_store(&write_error, 0);
    wait_until(world, world->committed == sequence && world->n_room == room + 1);
    assert_false(store_is_full(world->store));
    assert_true(has_reserve(world));
    assert_int_equal(store_waiting(world->store), 0);
    assert_int_equal(world->n_failed, 0);
}

static void a_full_disk_is_waited_for(void **state)
{
    struct world *world = *state;
    world_append(world, 1, 0, 1, 1000, 1);
    world_commit(world);
    assert_waits_for_room(world, ENOSPC, 50000);
    world_reopen(world);
    assert_int_equal(world_count(world, 1), 2);
}

/* What was written of it before there was no room is no loss. */
static void a_large_body_waits_for_room(void **state)
{
    struct world *world = *state;
    world_append(world, 1, 0, 1, 1000, 1);
    world_commit(world);
    assert_waits_for_room(world, ENOSPC, 5 << 20);
    assert_true(world_file_size(world, "journal.db-bulk") <= 5 << 20);
    world_reopen(world);
    assert_int_equal(world_count(world, 1), 2);
}

static void a_used_up_quota_is_a_full_disk(void **state)
{
    struct world *world = *state;
    world_append(world, 1, 0, 1, 1000, 1);
    world_commit(world);
    assert_waits_for_room(world, EDQUOT, 50000);
}

/* Deleting and shrinking need room themselves: they are put off, not given up. */
static void a_full_disk_gets_its_space_back(void **state)
{
    struct world *world = *state;
    world_fill(world, 1, 40 << 20);
    world_reopen(world);
    store_delete_frames(world->store, 1);
    world_commit(world);
    atomic_store(&write_error, ENOSPC);      /* somewhere amid it */
    store_put(world->store, "beside", "x", 1);
    uint64_t sequence = store_flush(world->store);
    wait_until(world, world->n_full == 1);
    atomic_store(&write_error, 0);
    wait_until(world, world->committed == sequence && world->n_room == 1);
    mono_t until = mono_add(mono_now(), BOUND);
    while (world_file_size(world, "journal.db") > 8 << 20 && mono_before(mono_now(), until)) {
        store_put(world->store, "beside", "x", 1);
        world_commit(world);
    }
    assert_true(world_file_size(world, "journal.db") <= 8 << 20);
}

static void closing_waits_for_room_only_so_long(void **state)
{
    struct world *world = *state;
    world_append(world, 1, 0, 1, 1000, 1);
    world_commit(world);
    atomic_store(&write_error, ENOSPC);
    world_append(world, 1, 1, 1, 1000, 1);
    store_flush(world->store);
    wait_until(world, world->n_full == 1);
    mono_t from = mono_now();
    store_close(&world->store, 50 * NS_PER_MS);
    assert_in_range(mono_since(mono_now(), from), 50 * NS_PER_MS, BOUND);
    atomic_store(&write_error, 0);
    world_open(world);
    assert_int_equal(world_count(world, 1), 1);
    assert_int_equal(store_check(world->store, &world->why), 0);
}

/* A disk of a few megabytes for the store's folder; false where that isn't allowed. */
static bool mount_small(struct world *world, const char *size)
{
    if (mkdir(world->dir, 0700) < 0)
        return false;
    if (mount("tarmac-test", world->dir, "tmpfs", MS_NOSUID | MS_NODEV, size) == 0)
        return true;
    rmdir(world->dir);
    return false;
}

static void unmount_small(struct world *world)
{
    store_close(&world->store, BOUND);
    assert_int_equal(umount2(world->dir, MNT_DETACH), 0);
}

static int put_ballast(const struct world *world, off_t len)
{
    int fd = open(world_path(world, "ballast"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    int error = fd < 0 ? errno : posix_fallocate(fd, 0, len);
    close(fd);
    return error;
}

static void a_really_full_disk(void **state)
{
    struct world *world = *state;
    if (!mount_small(world, "size=3m")) {
        world_open(world);                   /* no right to mount: the limit of files' sizes is fatal, which is another test's */
        return;
    }
    world_open(world);
    assert_int_equal(put_ballast(world, 1 << 20), 0);
    while (world->n_full == 0) {
        world_append(world, 1, 0, 1, 30000, 1);
        uint64_t sequence = store_flush(world->store);
        wait_until(world, world->committed == sequence || world->n_full > 0);
    }
    assert_int_equal(world->n_failed, 0);
    uint64_t sequence = store_flush(world->store);
    assert_int_equal(unlink(world_path(world, "ballast")), 0);
    wait_until(world, world->n_room == 1 && world->committed == sequence);
    assert_int_equal(world->n_full, 1);
    world_close(world);
    world_open(world);
    assert_int_equal(world_count(world, 1), sequence);
    assert_int_equal(store_check(world->store, &world->why), 0);
    unmount_small(world);
}

/* What ends while the disk is full is written in the reserve's place; and room counts as room
 * again only when there is enough for a new reserve. */
static void the_reserve_is_for_endings(void **state)
{
    struct world *world = *state;
    if (!mount_small(world, "size=32m")) {
        world_open(world);
        return;
    }
    world_open(world);
    world_append(world, 1, 0, 1, 1000, 1);
    world_commit(world);
    for (off_t len = 32 << 20; put_ballast(world, len) != 0; len -= 1 << 16)
        assert_true(len > 1 << 20);
    while (world->n_full == 0) {
        world_append(world, 1, 0, 1, 100000, 1);
        uint64_t flushed = store_flush(world->store);
        wait_until(world, world->committed == flushed || world->n_full > 0);
    }
    assert_false(has_reserve(world));
    world_commit(world);
    for (int i = 0; i < 10; i++) {
        store_put(world->store, "ending", &i, sizeof i);
        world_commit(world);
    }
    assert_true(store_is_full(world->store));
    assert_int_equal(unlink(world_path(world, "ballast")), 0);
    wait_until(world, world->n_room == 1);
    assert_true(has_reserve(world));
    assert_int_equal(world->n_full, 1);
    unmount_small(world);
}

/* ---- errors that aren't forgiven ---- */

static void assert_nothing_more(struct world *world, const char *reason)
{
    static struct got got;
    wait_until(world, world->n_failed);
    assert_non_null(strstr(world->sentence, world->dir));
    if (!strstr(world->sentence, reason))
        fail_msg("'%s' doesn't say '%s'", world->sentence, reason);
    world_look(world, &(struct store_query){ .batch = 1 }, &got);      /* a commit beside a failed checkpoint is over then */
    uint64_t before = store_committed(world->store);
    atomic_store(&writes_after_failure, 0);
    atomic_store(&count_writes, true);
    for (int i = 0; i < 5; i++) {
        world_append(world, 1, 1, 1, 1000, 3);
        store_flush(world->store);
        world_look(world, &(struct store_query){ .batch = 1 }, &got);
    }
    assert_int_equal(got.n, 1);              /* reading goes on */
    got_drop(&got);
    assert_int_equal(store_committed(world->store), before);
    assert_int_equal(world->n_failed, 1);
    store_close(&world->store, BOUND);
    assert_int_equal(atomic_load(&writes_after_failure), 0);
    atomic_store(&count_writes, false);
}

static void a_failed_flush_is_the_end(void **state)
{
    struct world *world = *state;
    world_append(world, 1, 0, 1, 1000, 1);
    world_commit(world);
    atomic_store(&sync_error, EIO);
    world_append(world, 1, 1, 1, 1000, 2);
    store_flush(world->store);
    wait_until(world, world->n_failed);
    atomic_store(&sync_error, 0);            /* it would work now, and must not be believed */
    assert_nothing_more(world, "can't be written");
    assert_int_equal(world->n_full, 0);
    world_open(world);
    assert_true(world_count(world, 1) >= 1);
}

/* No room that shows up while flushing: what is on the disk is unknown, so it isn't tried again. */
static void no_room_in_a_flush_is_the_end_too(void **state)
{
    struct world *world = *state;
    world_append(world, 1, 0, 1, 1000, 1);
    world_commit(world);
    atomic_store(&sync_error, ENOSPC);
    world_append(world, 1, 1, 1, 1000, 2);
    store_flush(world->store);
    wait_until(world, world->n_failed);
    assert_int_equal(world->n_full, 0);
}

/* The body is synced before the row that refers to it is even written. */
static void a_failed_flush_of_a_large_body_is_the_end(void **state)
{
    struct world *world = *state;
    world_append(world, 1, 0, 1, 100000, 1);
    world_commit(world);
    atomic_store(&sync_error, EIO);
    world_append(world, 1, 1, 1, 100000, 2);
    store_flush(world->store);
    wait_until(world, world->n_failed);
    atomic_store(&sync_error, 0);
    assert_nothing_more(world, "can't be written");
    world_open(world);
    assert_int_equal(world_count(world, 1), 1);
    assert_int_equal(store_check(world->store, &world->why), 0);
}

static void a_failed_write_is_the_end(void **state)
{
    struct world *world = *state;
    world_append(world, 1, 0, 1, 1000, 1);
    world_commit(world);
    atomic_store(&write_error, EIO);
    world_append(world, 1, 1, 1, 1000, 2);
    store_flush(world->store);
    assert_nothing_more(world, strerror(EIO));
}

static void limit_sizes(rlim_t bytes)
{
    struct rlimit small = { .rlim_cur = bytes, .rlim_max = no_limit.rlim_max };
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
}

static void a_limit_of_sizes_is_the_end(void **state)
{
    struct world *world = *state;
    world_append(world, 1, 0, 1, 1000, 1);
    world_commit(world);
    limit_sizes(1 << 20);
    world_append(world, 1, 1, 1, 2 << 20, 2);
    store_flush(world->store);
    assert_nothing_more(world, strerror(EFBIG));
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &no_limit), 0);
    world_open(world);
    assert_int_equal(world_count(world, 1), 1);
}

/* The checkpoint thread writes the file itself: what it meets counts as well. */
static void a_failed_checkpoint_is_the_end(void **state)
{
    struct world *world = *state;
    world_append(world, 1, 0, 1, 1000, 1);
    world_commit(world);
    world_fill(world, 2, 12 << 20);
    world_commit(world);
    world_reopen(world);                     /* the file has 12 MiB, the log nothing */
    size_t frames = world_count(world, 2);
    limit_sizes(12 << 20);
    for (int i = 0; i < 100; i++)
        world_append(world, 2, 0, 1, 60000, 1);
    store_flush(world->store);
    assert_nothing_more(world, "can't be written");
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &no_limit), 0);
    world_open(world);
    assert_int_equal(world_count(world, 2), frames + 100);         /* it was in the log */
}

static void no_room_to_begin_with(void **state)
{
    struct world *world = *state;
    atomic_store(&write_error, ENOSPC);
    assert_null(world_try(world));
    assert_int_equal(world->refusal, STORE_DISK);
    assert_non_null(strstr(world->why.text, "no room is left"));
    atomic_store(&write_error, 0);
    world_open(world);                       /* what was begun is no obstacle */
}

/* ---- damage ---- */

/* Changes one byte in the middle of the first place where `mark` stands three times in a row. */
static void flip(struct world *world, uint8_t mark, size_t run)
{
    int fd = open(world_path(world, "journal.db"), O_RDWR | O_CLOEXEC);
    int64_t size = world_file_size(world, "journal.db");
    if (fd < 0 || size <= 0 || size > 64 << 20)
        fail_msg("journal.db can't be damaged");
    uint8_t *bytes = test_malloc((size_t)size);
    assert_int_equal(pread(fd, bytes, (size_t)size, 0), size);
    size_t at = 0, len = 0;
    for (; at < (size_t)size && len < run; at++)
        len = bytes[at] == mark ? len + 1 : 0;
    assert_int_equal(len, run);
    bytes[at - run / 2] ^= 0x10;
    assert_int_equal(pwrite(fd, bytes + at - run / 2, 1, (off_t)(at - run / 2)), 1);
    test_free(bytes);
    close(fd);
}

/* The same where the page's sum fits: as if the bytes had changed in memory, on their way to the page. */
static void flip_within(struct world *world, uint8_t mark, size_t run)
{
    flip(world, mark, run);
    world_seal(world_path(world, "journal.db"));
}

static void assert_says(const char *sentence, const char *first, const char *second)
{
    if (!strstr(sentence, first) || !strstr(sentence, second))
        fail_msg("'%s' doesn't say '%s' and '%s'", sentence, first, second);
}

static void a_damaged_frame_is_named(void **state)
{
    struct world *world = *state;
    static struct got got;
    for (uint8_t i = 1; i <= 5; i++)
        world_append(world, 8, i, 1, 2000, (uint8_t)(0xA0 + i));
    world_close(world);
    flip_within(world, 0xA3, 1000);
    world_open(world);
    for (int order = STORE_BY_NUMBER; order <= STORE_BY_INDEX; order++) {
        world_look(world, &(struct store_query){ .batch = 8, .to = 100, .order = (enum store_order)order }, &got);
        assert_true(got.damaged);
        assert_int_equal(got.n, 2);
        assert_says(got.damage, "table frames", "number 3 of batch 8");
    }
    world_look(world, &(struct store_query){ .batch = 8, .heads_only = true }, &got);
    assert_false(got.damaged);               /* the body is the damaged part, and not read */
    assert_int_equal(got.n, 5);
    world_look(world, &(struct store_query){ .batch = 8, .after = 3 }, &got);
    assert_int_equal(got.n, 2);
    assert_int_equal(store_check(world->store, &world->why), -1);
    assert_says(world->why.text, "table frames", "number 3 of batch 8");
    got_drop(&got);
}

static void change_bulk(struct world *world, off_t at, uint8_t byte)
{
    int fd = open(world_path(world, "journal.db-bulk"), O_WRONLY | O_CLOEXEC);
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

static void a_damaged_large_body_is_named(void **state)
{
    struct world *world = *state;
    static struct got got;
    for (uint8_t i = 1; i <= 3; i++)
        world_append(world, 8, i, 1, 100000, i);
    world_close(world);
    change_bulk(world, 102400 + 99999, 7);   /* the last byte of the second: each begins at a multiple of 4,096 */
    change_bulk(world, 102400 + 100000, 7);  /* behind it is nothing */
    world_open(world);
    world_look(world, &(struct store_query){ .batch = 8 }, &got);
    assert_true(got.damaged);
    assert_int_equal(got.n, 1);
    assert_says(got.damage, "table frames", "number 2 of batch 8");
    world_look(world, &(struct store_query){ .batch = 8, .after = 2 }, &got);
    assert_int_equal(got.n, 1);
    got_drop(&got);
    assert_int_equal(store_check(world->store, &world->why), -1);
    assert_says(world->why.text, "table frames", "number 2 of batch 8");
    store_delete_frames(world->store, 8);
    world_commit(world);
    assert_int_equal(world_count(world, 8), 0);
}

/* Bodies that are referred to and not there are no reason to make an empty file. */
static void a_missing_or_short_file_of_large_bodies_is_refused(void **state)
{
    struct world *world = *state;
    world_append(world, 8, 1, 1, 100000, 1);
    world_append(world, 8, 2, 1, 100000, 2);
    world_close(world);
    assert_int_equal(truncate(world_path(world, "journal.db-bulk"), 102400 + 99999), 0);
    assert_null(world_try(world));
    assert_int_equal(world->refusal, STORE_DISK);
    assert_says(world->why.text, "damaged", "journal.db-bulk");
    assert_int_equal(unlink(world_path(world, "journal.db-bulk")), 0);
    assert_null(world_try(world));
    assert_says(world->why.text, "damaged", "journal.db-bulk");
}

static void a_damaged_page_is_named(void **state)
{
    struct world *world = *state;
    static struct got got;
    for (uint8_t i = 1; i <= 20; i++)
        world_append(world, 8, i, 1, 20000, (uint8_t)(0xA0 + i));
    world_close(world);
    flip(world, 0xA3, 10000);
    world_open(world);
    world_look(world, &(struct store_query){ .batch = 8 }, &got);
    assert_true(got.damaged);
    assert_int_equal(got.n, 2);
    assert_says(got.damage, "number 3 of batch 8", "doesn't match its checksum");
    assert_int_equal(store_check(world->store, &world->why), -1);
    assert_says(world->why.text, "is damaged", "doesn't match its checksum");
    got_drop(&got);
}

/* What can't be deleted stays, and is in nobody's way. */
static void a_damaged_batch_can_be_purged(void **state)
{
    struct world *world = *state;
    for (uint8_t i = 1; i <= 90; i++)
        world_append(world, 8, i, 1, 2000, (uint8_t)(0xA0 + i));
    world_append(world, 9, 0, 1, 1000, 1);
    world_close(world);
    flip(world, 0xC8, 1000);
    world_open(world);
    store_delete_frames(world->store, 8);
    for (int start = 0; start < 2; start++) {
        for (int i = 0; i < 50; i++) {       /* each turn of the thread deletes some */
            store_put(world->store, "beside", "x", 1);
            world_commit(world);
        }
        assert_int_equal(world_count(world, 8), 0);
        assert_int_equal(world_count(world, 9), 1);
        world_reopen(world);                 /* and it is found again at the next start */
    }
    assert_int_equal(world->n_failed, 0);
}

static void a_damaged_head_is_named(void **state)
{
    struct world *world = *state;
    static struct got got;
    world_append(world, 8, 1, 1, 5, 0xB7);   /* the head is the same five bytes, and stands before the body */
    world_close(world);
    flip_within(world, 0xB7, 5);
    world_open(world);
    world_look(world, &(struct store_query){ .batch = 8, .heads_only = true }, &got);
    assert_true(got.damaged);
    assert_int_equal(got.n, 0);
    assert_says(got.damage, "table frames", "number 1 of batch 8");
    got_drop(&got);
}

static void a_damaged_record_is_named(void **state)
{
    struct world *world = *state;
    char value[600];
    memset(value, 0xC5, sizeof value);
    store_put(world->store, "the-key", value, sizeof value);
    world_close(world);
    flip_within(world, 0xC5, sizeof value);
    world_open(world);
    assert_int_equal(store_load(world->store, "", NULL, NULL, &world->why), -1);
    assert_says(world->why.text, "table records", "'the-key'");
    assert_int_equal(store_check(world->store, &world->why), -1);
    assert_says(world->why.text, "table records", "'the-key'");
}

static void a_cut_file_is_refused(void **state)
{
    struct world *world = *state;
    for (int i = 0; i < 50; i++)
        world_append(world, 8, 0, 1, 20000, 1);
    world_close(world);
    assert_int_equal(truncate(world_path(world, "journal.db"), 5 * 16384), 0);
    assert_null(world_try(world));
    assert_int_equal(world->refusal, STORE_DISK);
    assert_says(world->why.text, "damaged", "restore the folder from a backup");
}

/* ---- sudden death ---- */

static void told_parent(void *arg, uint64_t sequence)
{
    int *fd = arg;
    if (write(*fd, &sequence, sizeof sequence) != (ssize_t)sizeof sequence)
        _exit(1);
}

/* Commits for ever: flush n has record n, frame n and, now and then, a purge of an older batch. */
static void commit_until_killed(const struct world *parents, int fd)
{
    struct store_config config = { .dir = parents->dir, .role = "journal", .version = 1, .committed = told_parent, .arg = &fd };
    enum store_refusal refusal;
    struct why why;
    struct loop *loop = loop_new();
    struct store *store = loop ? store_open(loop, &config, &refusal, &why) : NULL;
    if (!store)
        _exit(2);
    struct loop_timer now = { .fire = (void (*)(void *))loop_stop, .arg = loop };
    static uint8_t body[20000];
    for (uint64_t n = 1;; n++) {
        struct store_frame frame = { .batch = n / 100, .first = n, .count = 1, .body = { .data = body, .len = sizeof body } };
        uint64_t number;
        if (store_put(store, "last", &n, sizeof n) < 0 || store_append(store, &frame, &number) < 0 ||
            (n % 100 == 99 && n > 300 && store_delete_frames(store, n / 100 - 2) < 0))
            _exit(3);
        while (store_flush(store) > store_committed(store) + 4) {
            loop_timer_set(loop, &now, mono_add(mono_now(), NS_PER_MS));
            if (loop_run(loop) < 0)
                _exit(4);
        }
    }
}

static int keep_last(void *arg, const char *key, const uint8_t *value, size_t len)
{
    assert_string_equal(key, "last");
    assert_int_equal(len, sizeof(uint64_t));
    memcpy(arg, value, len);
    return 0;
}

static void assert_all_there(struct world *world, uint64_t told)
{
    uint64_t last = 0;
    assert_int_equal(store_load(world->store, "", keep_last, &last, &world->why), 0);
    assert_true(last >= told);
    for (uint64_t batch = 0; batch <= last / 100; batch++) {
        uint64_t from = batch * 100, to = from + 99 < last ? from + 99 : last;
        uint64_t wanted = to - from + (batch > 0);
        bool purged = batch >= 1 && last >= (batch + 2) * 100 + 99 && (batch + 2) * 100 + 99 > 300;
        assert_int_equal(world_count(world, batch), purged ? 0 : wanted);
    }
    assert_int_equal(store_check(world->store, &world->why), 0);
}

/* It may be in memory only: nothing is told, and no place of a large body is free, before it is on the disk. */
static void the_log_of_a_killed_process_is_synced_first(void **state)
{
    struct world *world = *state;
    int ends[2];
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        commit_until_killed(world, ends[1]);
    close(ends[1]);
    uint64_t told = 0;
    while (told < 3)
        assert_int_equal(read(ends[0], &told, sizeof told), sizeof told);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    close(ends[0]);
    assert_true(world_file_size(world, "journal.db-wal") > 0);
    atomic_store(&sync_error, EIO);
    assert_null(world_try(world));
    assert_non_null(strstr(world->why.text, "journal.db-wal can't be written to the disk: Input/output error"));
    atomic_store(&sync_error, 0);
    world_open(world);
    assert_all_there(world, told);
}

static void what_was_told_survives_a_kill(void **state)
{
    struct world *world = *state;
    for (uint64_t round = 1; round <= 3; round++) {
        int ends[2];
        assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            commit_until_killed(world, ends[1]);
        close(ends[1]);
        uint64_t told = 0;
        while (told < round * 300)
            assert_int_equal(read(ends[0], &told, sizeof told), sizeof told);
        assert_int_equal(kill(child, SIGKILL), 0);
        assert_int_equal(waitpid(child, NULL, 0), child);
        uint64_t more;
        while (read(ends[0], &more, sizeof more) == (ssize_t)sizeof more)
            told = more;
        close(ends[0]);
        world_open(world);
        assert_all_there(world, told);
        world_close(world);
        world_remove_files(world);
    }
}

int main(void)
{
#define OPENED(test) cmocka_unit_test_setup_teardown(test, world_setup, teardown)
#define CLOSED(test) cmocka_unit_test_setup_teardown(test, world_setup_closed, teardown)
    const struct CMUnitTest tests[] = {
        CLOSED(what_was_told_survives_a_kill),           /* first: it forks */
        CLOSED(the_log_of_a_killed_process_is_synced_first),
        OPENED(a_full_disk_is_waited_for),
        OPENED(a_large_body_waits_for_room),
        OPENED(a_used_up_quota_is_a_full_disk),
        OPENED(a_full_disk_gets_its_space_back),
        OPENED(closing_waits_for_room_only_so_long),
        CLOSED(a_really_full_disk),
        CLOSED(the_reserve_is_for_endings),
        OPENED(a_failed_flush_is_the_end),
        OPENED(no_room_in_a_flush_is_the_end_too),
        OPENED(a_failed_flush_of_a_large_body_is_the_end),
        OPENED(a_failed_write_is_the_end),
        OPENED(a_limit_of_sizes_is_the_end),
        OPENED(a_failed_checkpoint_is_the_end),
        CLOSED(no_room_to_begin_with),
        OPENED(a_damaged_frame_is_named),
        OPENED(a_damaged_large_body_is_named),
        OPENED(a_missing_or_short_file_of_large_bodies_is_refused),
        OPENED(a_damaged_page_is_named),
        OPENED(a_damaged_batch_can_be_purged),
        OPENED(a_damaged_head_is_named),
        OPENED(a_damaged_record_is_named),
        OPENED(a_cut_file_is_refused),
    };
    /* A file over the limit is to be an error of a write, not the end of the program. */
    signal(SIGXFSZ, SIG_IGN);
    if (getrlimit(RLIMIT_FSIZE, &no_limit) < 0)
        return 1;
    return cmocka_run_group_tests_name("store and disk", tests, NULL, NULL);
}
