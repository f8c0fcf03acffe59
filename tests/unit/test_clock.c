/* Clocks: that adding never wraps, and that the ends of time are where they should be. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "common/clock.h"
#include "common/why.h"

static void clocks_run(void **state)
{
    (void)state;
    mono_t first = mono_now(), second = mono_now();
    assert_false(mono_before(second, first));
    assert_true(first.ns > 0);
    /* 2020: a wall clock before it would mean that seconds and nanoseconds were mixed up. */
    assert_true(wall_now().ns > INT64_C(1577836800) * NS_PER_S);
}

static void adding_saturates(void **state)
{
    (void)state;
    assert_int_equal(mono_add((mono_t){5}, 7).ns, 12);
    assert_int_equal(mono_add((mono_t){5}, -7).ns, -2);
    assert_true(mono_is_never(mono_add((mono_t){INT64_MAX - 1}, 2)));
    assert_true(mono_is_never(mono_add(MONO_NEVER, -5)));
    assert_true(mono_is_never(mono_add(MONO_NEVER, INT64_MIN)));
    assert_int_equal(mono_add((mono_t){-2}, INT64_MIN).ns, INT64_MIN);
}

static void order(void **state)
{
    (void)state;
    assert_true(mono_reached((mono_t){3}, (mono_t){3}));
    assert_false(mono_reached((mono_t){3}, MONO_NEVER));
    assert_int_equal(mono_min(MONO_NEVER, (mono_t){9}).ns, 9);
    assert_int_equal(mono_since((mono_t){9}, (mono_t){4}), 5);
}

static void boot_id_is_stable(void **state)
{
    (void)state;
    char a[37], b[37];
    memset(a, 'x', sizeof a);
    boot_id(a);
    boot_id(b);
    assert_string_equal(a, b);
    assert_true(strlen(a) == 36 || strlen(a) == 0);
}

static void times_of_day_are_readable(void **state)
{
    (void)state;
    char text[32];
    assert_string_equal(wall_text((wall_t){0}, text), "1970-01-01 00:00:00 UTC");
    assert_string_equal(wall_text((wall_t){INT64_C(951868799) * NS_PER_S + 999}, text), "2000-02-29 23:59:59 UTC");
    assert_true(strlen(wall_text((wall_t){INT64_MAX}, text)) > 0);
    assert_true(strlen(wall_text((wall_t){INT64_MIN}, text)) > 0);
}

static void sentences_are_cut_and_may_contain_themselves(void **state)
{
    (void)state;
    struct why why = {"the old one"};
    assert_int_equal(why_set(&why, "new: %s", why.text), -1);
    assert_string_equal(why.text, "new: the old one");
    why_set(&why, "%0500d", 1);
    assert_int_equal(strlen(why.text), sizeof why.text - 1);
    assert_string_equal(why.text + sizeof why.text - 4, "...");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(clocks_run),
        cmocka_unit_test(adding_saturates),
        cmocka_unit_test(order),
        cmocka_unit_test(boot_id_is_stable),
        cmocka_unit_test(times_of_day_are_readable),
        cmocka_unit_test(sentences_are_cut_and_may_contain_themselves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
