/* The keeper, with real processes: stopping, and ending what an attempt leaves behind. */
#include "tests/unit/keeper_world.h"

/* ---- stopping ---- */

static void test_stop(void **state)
{
    struct place *place = *state;
    start_playing(place, "stubborn", LONG);
    wait_for_lines(place, 1);
    mono_t began = mono_now();
    keeper_stop(place->keeper, 50 * NS_PER_MS);
    wait_for_end(place);
    assert_true(mono_since(mono_now(), began) >= 50 * NS_PER_MS);
    assert_ended(place, KEEPER_SIGNALLED, SIGKILL);
    assert_true(place->end.term_sent && place->end.kill_sent);
    assert_gone(nth_pid(place, 0));
}

static void test_stop_at_once(void **state)
{
    struct place *place = *state;
    start_playing(place, "stubborn", LONG);
    wait_for_lines(place, 1);
    keeper_stop(place->keeper, 0);
    wait_for_end(place);
    assert_ended(place, KEEPER_SIGNALLED, SIGKILL);
    assert_true(place->end.kill_sent);
    assert_false(place->end.term_sent);
}

static void test_second_stop_shortens(void **state)
{
    struct place *place = *state;
    start_playing(place, "stubborn", LONG);
    wait_for_lines(place, 1);
    keeper_stop(place->keeper, LONG);
    keeper_stop(place->keeper, 2 * LONG);
    keeper_stop(place->keeper, 20 * NS_PER_MS);
    keeper_stop(place->keeper, LONG);
    wait_for_end(place);
    assert_ended(place, KEEPER_SIGNALLED, SIGKILL);
    assert_true(place->end.term_sent && place->end.kill_sent);
}

static void test_stop_of_a_stopped_process(void **state)
{
    struct place *place = *state;
    char script[160], *argv[] = {"sh", "-c", script, NULL};
    snprintf(script, sizeof script, "echo ready > %s; kill -STOP $$; exit 0", place->fifo);
    struct keeper_run run = run_of(argv);
    assert_int_equal(keeper_run(place->keeper, &run), 0);
    wait_for_lines(place, 1);
    keeper_stop(place->keeper, LONG);
    wait_for_end(place);
    assert_ended(place, KEEPER_SIGNALLED, SIGTERM);
}

/* A stop that crosses the end, or comes when nothing runs, doesn't hit the next attempt. */
static void test_stop_is_for_its_own_run(void **state)
{
    struct place *place = *state;
    char *argv[] = {"true", NULL};
    struct keeper_run run = run_of(argv);
    keeper_stop(place->keeper, 0);
    for (int i = 0; i < 200; i++) {
        bool stopped = i % 2 == 0;
        assert_int_equal(keeper_run(place->keeper, &run), 0);
        if (stopped)
            keeper_stop(place->keeper, i % 4 == 0 ? 0 : LONG);
        wait_for_end(place);
        if (!stopped)
            assert_ended(place, KEEPER_EXITED, 0);
        keeper_stop(place->keeper, 0);
    }
}

/* ---- what is left behind ---- */

static void check_left(struct place *place, const char *what)
{
    start_playing(place, what, LONG);
    wait_for_end(place);
    assert_ended(place, KEEPER_EXITED, 3);
    assert_int_equal(place->end.swept, 1);
    assert_false(place->end.term_sent || place->end.kill_sent);
    assert_gone(nth_pid(place, 0));
}

static void test_leaves_plain(void **state) { check_left(*state, "plain"); }
static void test_leaves_session(void **state) { check_left(*state, "session"); }
static void test_leaves_daemon(void **state) { check_left(*state, "twice"); }

static void test_leaves_stubborn_daemon(void **state)
{
    struct place *place = *state;
    mono_t began = mono_now();
    start_playing(place, "stubborn-twice", 50 * NS_PER_MS);
    wait_for_end(place);
    assert_true(mono_since(mono_now(), began) >= 50 * NS_PER_MS);
    assert_ended(place, KEEPER_EXITED, 3);
    assert_int_equal(place->end.swept, 1);
    assert_gone(nth_pid(place, 0));
}

/* The attempt's own stop shortens the grace of what it left behind. */
static void test_stop_while_the_rest_ends(void **state)
{
    struct place *place = *state;
    start_playing(place, "stubborn-twice", LONG);
    wait_for_lines(place, 1);
    keeper_stop(place->keeper, 10 * NS_PER_MS);
    wait_for_end(place);
    assert_gone(nth_pid(place, 0));
}

static void test_stop_reaches_daemons(void **state)
{
    struct place *place = *state;
    start_playing(place, "daemon", LONG);
    wait_for_lines(place, 2);
    keeper_stop(place->keeper, 10 * NS_PER_MS);
    wait_for_end(place);
    assert_ended(place, KEEPER_SIGNALLED, SIGKILL);
    assert_gone(nth_pid(place, 0));
}

static void test_leaves_a_burst(void **state)
{
    struct place *place = *state;
    start_playing(place, "burst", NS_PER_MS);
    wait_for_end(place);
    assert_ended(place, KEEPER_EXITED, 0);
    /* 150, and those of the 30 children of children that were born before their parent was killed. */
    assert_in_range(place->end.swept, 150, 180);
}

static void test_hoppers(void **state)
{
    struct place *place = *state;
    start_playing(place, "hopper", NS_PER_MS);
    wait_for_end(place);
    assert_ended(place, KEEPER_EXITED, 0);
    start_playing(place, "session-hopper", NS_PER_MS);
    wait_for_end(place);
    assert_ended(place, KEEPER_EXITED, 0);
    run_shell(place, "exit 0");
    assert_int_equal(place->end.swept, 0);
}

static void test_headless_process(void **state)
{
    struct place *place = *state;
    start_playing(place, "headless", LONG);
    wait_for_lines(place, 1);
    keeper_stop(place->keeper, 10 * NS_PER_MS);
    wait_for_end(place);
    assert_gone(nth_pid(place, 0));
}

/* Without a grace there is no SIGTERM first, and nothing to wait for. */
static void test_leaves_without_grace(void **state)
{
    struct place *place = *state;
    start_playing(place, "stubborn-twice", 0);
    wait_for_end(place);
    assert_ended(place, KEEPER_EXITED, 3);
    assert_int_equal(place->end.swept, 1);
    assert_gone(nth_pid(place, 0));
}

int main(int argc, char **argv)
{
    play_a_part(argc, argv);
    const struct CMUnitTest tests[] = {
        KEEPER_TEST(test_stop),
        KEEPER_TEST(test_stop_at_once),
        KEEPER_TEST(test_second_stop_shortens),
        KEEPER_TEST(test_stop_of_a_stopped_process),
        KEEPER_TEST(test_stop_is_for_its_own_run),
        KEEPER_TEST(test_leaves_plain),
        KEEPER_TEST(test_leaves_session),
        KEEPER_TEST(test_leaves_daemon),
        KEEPER_TEST(test_leaves_stubborn_daemon),
        KEEPER_TEST(test_stop_while_the_rest_ends),
        KEEPER_TEST(test_stop_reaches_daemons),
        KEEPER_TEST(test_leaves_a_burst),
        KEEPER_TEST(test_hoppers),
        KEEPER_TEST(test_headless_process),
        KEEPER_TEST(test_leaves_without_grace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
