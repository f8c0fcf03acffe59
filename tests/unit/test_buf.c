/* Counted bytes: who owns them, when they go, and that slices stay inside. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/buf.h"
#include "common/bug.h"

static void count_release(void *arg) { ++*(int *)arg; }

static void copies_are_apart(void **state)
{
    (void)state;
    char text[] = "plane";
    struct buf *buf = buf_copy(text, 5);
    text[0] = 'x';
    assert_int_equal(buf_len(buf), 5);
    assert_memory_equal(buf_bytes(buf), "plane", 5);
    buf_data(buf)[0] = 'P';
    assert_memory_equal(buf_bytes(buf), "Plane", 5);
    buf_unref(&buf);
    assert_null(buf);
    buf_unref(&buf);
    assert_null(buf_ref(NULL));
}

static void empty_and_impossible_sizes(void **state)
{
    (void)state;
    struct buf *buf = buf_copy(NULL, 0);
    assert_non_null(buf);
    assert_int_equal(buf_len(buf), 0);
    buf_unref(&buf);
    assert_null(buf_new(SIZE_MAX));
}

static void wrapped_memory_is_released_once_by_the_last_owner(void **state)
{
    (void)state;
    int released = 0;
    const char text[] = "runway";
    struct buf *first = buf_wrap(text, 6, count_release, &released);
    struct buf *second = buf_ref(first);
    assert_ptr_equal(buf_bytes(second), text);
    buf_unref(&first);
    assert_int_equal(released, 0);
    buf_unref(&second);
    assert_int_equal(released, 1);
}

static void slices_cut_and_keep(void **state)
{
    (void)state;
    int released = 0;
    struct buf *buf = buf_wrap("0123456789", 10, count_release, &released);
    struct slice whole = slice_of(buf);
    struct slice part = slice_keep(slice_cut(slice_cut(whole, 2, 6), 1, 3));
    assert_memory_equal(part.data, "345", 3);
    assert_int_equal(part.len, 3);
    buf_unref(&buf);
    assert_int_equal(released, 0);
    slice_drop(&part);
    assert_int_equal(released, 1);
    assert_null(part.data);
    assert_int_equal(part.len, 0);
    assert_int_equal(slice_cut((struct slice){0}, 0, 0).len, 0);
    assert_int_equal(slice_of(NULL).len, 0);
}

static void lent_bytes_are_copied_when_kept(void **state)
{
    (void)state;
    uint8_t lent[] = {1, 2, 3};
    struct slice kept = slice_keep((struct slice){NULL, lent, sizeof lent});
    assert_non_null(kept.buf);
    lent[1] = 9;
    assert_int_equal(kept.data[1], 2);
    slice_drop(&kept);
    kept = slice_keep((struct slice){NULL, lent, 0});
    assert_null(kept.buf);
}

/* Runs `wrong` in a child and returns its exit code. */
static int code_of(void (*wrong)(void))
{
    pid_t child = fork();
    if (child == 0) {
        close(STDERR_FILENO);
        wrong();
        _exit(0);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void cut_too_far(void) { slice_cut((struct slice){NULL, (const uint8_t *)"ab", 2}, 1, 2); }
static void cut_with_overflow(void) { slice_cut((struct slice){NULL, (const uint8_t *)"ab", 2}, 2, SIZE_MAX); }
static void negated_condition(void) { BUG_IF(!(1 > 2)); }
static void no_bug(void) { BUG_IF(1 > 2 || 2 > 3); }

static void bugs_end_the_process(void **state)
{
    (void)state;
    assert_int_equal(code_of(cut_too_far), EXIT_BUG);
    assert_int_equal(code_of(cut_with_overflow), EXIT_BUG);
    assert_int_equal(code_of(negated_condition), EXIT_BUG);
    assert_int_equal(code_of(no_bug), 0);
}

struct race {
    struct buf *buf;
    uint64_t sum;
};

static void *read_and_drop(void *arg)
{
    struct race *race = arg;
    for (int i = 0; i < 1000; i++) {
        struct buf *mine = buf_ref(race->buf);
        race->sum += buf_bytes(mine)[0];
        buf_unref(&mine);
    }
    buf_unref(&race->buf);
    return NULL;
}

static void references_drop_on_any_thread(void **state)
{
    (void)state;
    int released = 0;
    uint8_t one[1] = {1};
    struct buf *buf = buf_wrap(one, 1, count_release, &released);
    struct race races[2] = {{buf_ref(buf), 0}, {buf_ref(buf), 0}};
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_and_drop, &races[i]), 0);
    buf_unref(&buf);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(released, 1);
    assert_int_equal(races[0].sum + races[1].sum, 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_are_apart),
        cmocka_unit_test(empty_and_impossible_sizes),
        cmocka_unit_test(wrapped_memory_is_released_once_by_the_last_owner),
        cmocka_unit_test(slices_cut_and_keep),
        cmocka_unit_test(lent_bytes_are_copied_when_kept),
        cmocka_unit_test(bugs_end_the_process),
        cmocka_unit_test(references_drop_on_any_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
