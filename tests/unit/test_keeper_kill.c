/* The keeper, with real processes: stopping, and ending what an attempt leaves behind. */
#include "common/spawn.h"
#include "tests/unit/group_world.h"
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

static void test_storm(void **state)
{
    struct place *place = *state;
    start_playing(place, "storm", LONG);
    wait_for_lines(place, 1);
    keeper_stop(place->keeper, NS_PER_MS);
    wait_for_end(place);
    assert_int_equal(place->end.how, KEEPER_SIGNALLED);
    run_shell(place, "exit 0");
    assert_int_equal(place->end.swept, 0);
}

/* ---- only with a group ---- */

static pid_t put_outsider(bool stubborn)
{
    char path[200];
    char *argv[] = {"sh", "-c", stubborn ? "trap '' TERM; while :; do sleep 1000; done" : "exec sleep 1000", NULL};
    snprintf(path, sizeof path, "%s/cgroup.procs", group_of_slot);
    int procs = open(path, O_WRONLY | O_CLOEXEC);
    pid_t pid;
    struct spawn_request request = {
        .argv = argv, .env = environ, .in = SPAWN_NULL, .out = SPAWN_NULL, .err = SPAWN_NULL, .keep_fd = SPAWN_NOTHING,
        .new_session = true, .cgroups = &procs, .n_cgroups = 1,
    };
    assert_int_equal(spawn_process(&request, &pid, NULL), 0);
    close(procs);
    return pid;
}

/* What is in the group and not below the keeper: nothing but the group can know of it. */
static void check_outsider(struct place *place, bool stubborn, int64_t grace)
{
    char script[240], *argv[] = {"sh", "-c", script, NULL};
    int status;
    snprintf(script, sizeof script, "echo ready > %s; read x < %s.go", place->fifo, place->fifo);
    char go[120];
    snprintf(go, sizeof go, "%s.go", place->fifo);
    assert_int_equal(mkfifo(go, 0600), 0);
    struct keeper_run run = run_of(argv);
    run.grace = grace;
    assert_int_equal(keeper_run(place->keeper, &run), 0);
    wait_for_lines(place, 1);
    pid_t pid = put_outsider(stubborn);
    tell(go, "\n");
    wait_for_end(place);
    unlink(go);
    assert_ended(place, KEEPER_EXITED, 0);
    assert_true(place->end.swept >= 1);
    assert_int_equal(waitpid(pid, &status, WNOHANG), pid);
    assert_true(WIFSIGNALED(status));
}

static void test_outsider(void **state) { check_outsider(*state, false, LONG); }
static void test_stubborn_outsider(void **state) { check_outsider(*state, true, 10 * NS_PER_MS); }
static void test_outsider_without_grace(void **state) { check_outsider(*state, true, 0); }

/* A handler may do with its own group what it likes: the next one finds it as new. */
static void test_group_is_put_in_order(void **state)
{
    struct place *place = *state;
    char script[700], *argv[] = {"sh", "-c", script, NULL};
    snprintf(script, sizeof script, "mkdir -p %s/a/b && echo $$ > %s/a/b/cgroup.procs && echo ready > %s && echo 1 > %s/cgroup.freeze; sleep 1000",
             place->group, place->group, place->fifo, place->group);
    struct keeper_run run = run_of(argv);
    assert_int_equal(keeper_run(place->keeper, &run), 0);
    wait_for_lines(place, 1);
    keeper_stop(place->keeper, 10 * NS_PER_MS);
    wait_for_end(place);
    snprintf(script, sizeof script, "%s/a", place->group);
    assert_int_equal(access(script, F_OK), -1);
    run_shell(place, "exit 3");
    assert_ended(place, KEEPER_EXITED, 3);
}

/* What an earlier keeper, or an earlier worker, has left in the slot's group is ended before anything starts. */
static void test_group_is_emptied_first(void **state)
{
    struct place *place = *state;
    int status;
    keeper_close(&place->keeper);
    assert_true(keepers_wait(place->loop, BOUND));
    assert_true(mkdir(group_of_slot, 0755) == 0);
    pid_t pid = put_outsider(true);
    open_keeper(place);
    run_shell(place, "exit 0");
    assert_int_equal(waitpid(pid, &status, WNOHANG), pid);
}

/* Uninterruptible, as far as anybody can tell: it takes SIGKILL only when it thaws. */
static void test_what_can_not_be_killed(void **state)
{
    struct place *place = *state;
    char folder[160], number[16];
    if (groups.freezer[0] == '\0') {
        print_message("no freezer can be mounted here: what can't be killed is not shown\n");
        return;
    }
    snprintf(folder, sizeof folder, "%s/tarmac-test-%d", groups.freezer, (int)getpid());
    assert_int_equal(mkdir(folder, 0755), 0);
    start_playing(place, "stubborn", LONG);
    wait_for_lines(place, 1);
    pid_t pid = nth_pid(place, 0);
    snprintf(number, sizeof number, "%d", (int)pid);
    assert_true(groups_write(folder, "cgroup.procs", number));
    assert_true(groups_write(folder, "freezer.state", "FROZEN"));
    keeper_stop(place->keeper, 10 * NS_PER_MS);
    run_loop(place);
    assert_int_equal(place->notes[KEEPER_NOTE_STUCK], 1);
    assert_non_null(strstr(place->said, number));
    assert_int_equal(place->ends, 0);
    assert_int_equal(kill(pid, 0), 0);
    assert_true(groups_write(folder, "freezer.state", "THAWED"));
    wait_for_end(place);
    assert_int_equal(place->notes[KEEPER_NOTE_STUCK], 1);
    assert_gone(pid);
    assert_int_equal(rmdir(folder), 0);
    run_shell(place, "exit 5");
    assert_ended(place, KEEPER_EXITED, 5);
}

static void test_group_that_can_not_be_used(void **state)
{
    struct place *place = *state;
    assert_int_equal(place->notes[KEEPER_NOTE_NO_GROUP], 0);
    keeper_close(&place->keeper);
    snprintf(place->group, sizeof place->group, "/nowhere/at/all");
    open_keeper(place);
    run_loop(place);
    assert_int_equal(place->notes[KEEPER_NOTE_NO_GROUP], 1);
    assert_non_null(strstr(place->said, "/nowhere/at/all"));
    run_shell(place, "exit 5");
    assert_ended(place, KEEPER_EXITED, 5);
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
        KEEPER_TEST(test_storm),
        KEEPER_TEST(test_group_that_can_not_be_used),
    };
    const struct CMUnitTest in_groups[] = {
        GROUP_TEST(test_stop),
        GROUP_TEST(test_stop_at_once),
        GROUP_TEST(test_second_stop_shortens),
        GROUP_TEST(test_stop_of_a_stopped_process),
        GROUP_TEST(test_stop_is_for_its_own_run),
        GROUP_TEST(test_leaves_plain),
        GROUP_TEST(test_leaves_session),
        GROUP_TEST(test_leaves_daemon),
        GROUP_TEST(test_leaves_stubborn_daemon),
        GROUP_TEST(test_stop_while_the_rest_ends),
        GROUP_TEST(test_stop_reaches_daemons),
        GROUP_TEST(test_leaves_a_burst),
        GROUP_TEST(test_hoppers),
        GROUP_TEST(test_headless_process),
        GROUP_TEST(test_leaves_without_grace),
        GROUP_TEST(test_storm),
        GROUP_TEST(test_outsider),
        GROUP_TEST(test_stubborn_outsider),
        GROUP_TEST(test_outsider_without_grace),
        GROUP_TEST(test_group_is_put_in_order),
        GROUP_TEST(test_group_is_emptied_first),
        GROUP_TEST(test_what_can_not_be_killed),
    };
    return RUN_ALSO_IN_GROUPS(tests, in_groups);
}
