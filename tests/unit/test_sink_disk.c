/* A whole sink on a disk that is full, or broken: a call of the C library is replaced here, SQLite's
 * come here as well. */
#include <errno.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "tests/unit/sink_world.h"

static atomic_int write_error;

ssize_t pwrite64(int fd, const void *data, size_t len, off64_t at)
{
    int error = atomic_load(&write_error);
    if (error == 0)
        return (ssize_t)syscall(SYS_pwrite64, fd, data, len, at);
    errno = error;
    return -1;
}

static int teardown(void **state)
{
    (void)state;
    atomic_store(&write_error, 0);
    return 0;
}

static void a_full_disk_stops_the_intake_until_there_is_room(void **state)
{
    (void)state;
    struct world *w = world_with_batch(2000);
    atomic_store(&write_error, ENOSPC);
    deliver(w, 0, 10);
    wait_until(w, w->full);
    /* Nothing is read, so the worker feels it once the sockets hold what they may. */
    uint64_t last = 99;
    while (try_deliver(w, last + 1, 1, 1000000, WIRE__RESULT_KIND__IS_VERDICT) == 0)
        assert_true(++last < 1000);
    assert_true(last > 100);
    assert_string_equal(w->vent.bytes, "");
    atomic_store(&write_error, 0);
    wait_until(w, !w->full);
    wait_vent(w, "recorded 0; ");
    char word[32];
    snprintf(word, sizeof word, "recorded %" PRIu64 "; ", last);
    wait_vent(w, word);
    world_destroy(w);
}

/* What waited for room when the stream began was not there for its first read, and is recorded later. */
static void a_stream_that_begins_on_a_full_disk_gets_every_row(void **state)
{
    (void)state;
    struct world *w = world_with_batch(20);
    atomic_store(&write_error, ENOSPC);
    deliver(w, 0, 10);
    wait_until(w, w->full);
    SUBSCRIBE(w, .follow = true);
    wait_until(w, w->progress > 0);              /* it has seen that there is nothing */
    assert_string_equal(w->heard.bytes, "begin b1; ");
    atomic_store(&write_error, 0);
    wait_vent(w, "recorded 0; ");
    wait_until(w, !w->full);
    deliver(w, 10, 10);
    wait_heard(w, "end");
    assert_string_equal(w->heard.bytes, "begin b1; row 0+10; row 10+10; end 20 complete; ");
    world_destroy(w);
}

static void a_broken_disk_ends_the_sink(void **state)
{
    (void)state;
    struct world *w = world_with_batch(-1);
    deliver(w, 0, 10);
    wait_vent(w, "recorded 0; ");
    atomic_store(&write_error, EIO);
    deliver(w, 10, 10);
    assert_int_equal(pthread_join(w->thread, NULL), 0);
    w->running = false;
    assert_int_equal(w->exit_code, 6);
    assert_null(strstr(w->vent.bytes, "recorded 10"));
    /* Nothing is lost: what was not released comes again. */
    atomic_store(&write_error, 0);
    start_sink(w);
    deliver(w, 10, 10);
    wait_vent(w, "recorded 10; ");
    world_destroy(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_full_disk_stops_the_intake_until_there_is_room, teardown),
        cmocka_unit_test_teardown(a_stream_that_begins_on_a_full_disk_gets_every_row, teardown),
        cmocka_unit_test_teardown(a_broken_disk_ends_the_sink, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
