/* The keeper, with real processes: how attempts end, what they read and print, and the keeper's own life. */
#include "tests/unit/group_world.h"
#include "tests/unit/keeper_world.h"

/* ---- ends ---- */

static void test_exit_codes(void **state)
{
    struct place *place = *state;
    run_shell(place, "echo out; echo err >&2; exit 0");
    assert_ended(place, KEEPER_EXITED, 0);
    assert_slice(place->end.output, "out\n");
    assert_slice(place->end.errors, "err\n");
    assert_false(place->end.output_truncated || place->end.errors_truncated);
    assert_false(place->end.term_sent || place->end.kill_sent);
    assert_int_equal(place->end.swept, 0);
    assert_true(place->end.run_ns > 0);
    run_shell(place, "exit 42");
    assert_ended(place, KEEPER_EXITED, 42);
    assert_slice(place->end.output, "");
    run_shell(place, "exit 255");
    assert_ended(place, KEEPER_EXITED, 255);
}

static void test_signals(void **state)
{
    struct place *place = *state;
    run_shell(place, "kill -SEGV $$");
    assert_ended(place, KEEPER_SIGNALLED, SIGSEGV);
    assert_false(place->end.term_sent || place->end.kill_sent);
    run_shell(place, "kill -KILL $$");
    assert_ended(place, KEEPER_SIGNALLED, SIGKILL);
    assert_false(place->end.kill_sent);
}

static void test_what_a_command_finds(void **state)
{
    struct place *place = *state;
    char *argv[] = {SELF, "--play", "inspect", NULL};
    char *env[] = {"TEST_ADDED=1", "TEST_REPLACED=new", NULL};
    struct keeper_run run = run_of(argv);
    run.env = env;
    assert_int_equal(keeper_run(place->keeper, &run), 0);
    wait_for_end(place);
    char expected[128];
    snprintf(expected, sizeof expected, "blocked 0 ignored 0 fds 0 nice %d session 1 added 1 replaced new",
             getpriority(PRIO_PROCESS, 0) + 5);
    assert_slice(place->end.output, expected);
    /* Only once, although the keeper has the other value in its own environment. */
    run_shell(place, "env | grep -c ^TEST_REPLACED=");
    assert_slice(place->end.output, "1\n");
}

static void test_not_started(void **state)
{
    struct place *place = *state;
    char *missing[] = {"no-such-command-anywhere", NULL}, *folder[] = {place->folder, NULL};
    struct keeper_run run = run_of(missing);
    assert_int_equal(keeper_run(place->keeper, &run), 0);
    wait_for_end(place);
    assert_ended(place, KEEPER_NOT_STARTED, ENOENT);
    assert_slice(place->end.output, "");
    run = run_of(folder);
    assert_int_equal(keeper_run(place->keeper, &run), 0);
    wait_for_end(place);
    assert_ended(place, KEEPER_NOT_STARTED, EACCES);
    run_shell(place, "exit 5");
    assert_ended(place, KEEPER_EXITED, 5);
}

/* A file of text without `#!` is refused: nobody hands it to a shell. */
static void test_no_shell_steps_in(void **state)
{
    struct place *place = *state;
    char path[128], *argv[] = {path, NULL};
    snprintf(path, sizeof path, "%s/script", place->folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
    assert_int_equal(write(fd, "exit 0\n", 7), 7);
    close(fd);
    struct keeper_run run = run_of(argv);
    assert_int_equal(keeper_run(place->keeper, &run), 0);
    wait_for_end(place);
    unlink(path);
    assert_ended(place, KEEPER_NOT_STARTED, ENOEXEC);
}

static void test_the_path_is_the_childs(void **state)
{
    struct place *place = *state;
    char *argv[] = {"true", NULL}, *env[] = {"PATH=/nowhere:/proc/self/status:", NULL};
    struct keeper_run run = run_of(argv);
    run.env = env;
    assert_int_equal(keeper_run(place->keeper, &run), 0);
    wait_for_end(place);
    assert_ended(place, KEEPER_NOT_STARTED, ENOENT);
}

static void test_too_big(void **state)
{
    struct place *place = *state;
    size_t size = 200 * 1024;
    char *word = malloc(size + 1);
    assert_non_null(word);
    memset(word, 'x', size);
    word[size] = '\0';
    char *argv[] = {"true", word, NULL};
    struct keeper_run run = run_of(argv);
    assert_int_equal(keeper_run(place->keeper, &run), -E2BIG);

    /* Each word is allowed, all together are not. */
    enum { WORDS = 2000 };
    word[100 * 1024] = '\0';
    char *many[WORDS + 2] = {"true"};
    for (int i = 1; i <= WORDS; i++)
        many[i] = word;
    run = run_of(many);
    assert_int_equal(keeper_run(place->keeper, &run), -E2BIG);
    char *one[] = {"true", word, NULL};
    run = run_of(one);
    assert_int_equal(keeper_run(place->keeper, &run), 0);
    wait_for_end(place);
    assert_ended(place, KEEPER_EXITED, 0);
    free(word);
}

/* ---- input and output ---- */

static void check_input(struct place *place, size_t len, bool counted)
{
    char *argv[] = {SELF, "--play", "sum", NULL}, expected[64];
    uint64_t sum = 0;
    struct buf *buf = buf_new(len);
    assert_non_null(buf);
    for (size_t i = 0; i < len; i++) {
        uint8_t byte = (uint8_t)(i * 7 + (i >> 9));
        buf_data(buf)[i] = byte;
        sum = sum * 31 + byte;
    }
    struct keeper_run run = run_of(argv);
    run.input = counted ? slice_of(buf) : (struct slice){.data = buf_bytes(buf), .len = len};
    run.has_input = true;
    assert_int_equal(keeper_run(place->keeper, &run), 0);
    buf_unref(&buf);
    wait_for_end(place);
    snprintf(expected, sizeof expected, "%llu %llu", (unsigned long long)len, (unsigned long long)sum);
    assert_ended(place, KEEPER_EXITED, 0);
    assert_slice(place->end.output, expected);
}

static void test_input(void **state)
{
    static const size_t lens[] = {0, 1, 4096, 4097, 16384, 16385, 65536, 65537, 300000, 8 << 20};
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        check_input(*state, lens[i], true);
        check_input(*state, lens[i], false);
    }
}

static void test_input_that_nobody_reads(void **state)
{
    struct place *place = *state;
    static const size_t lens[] = {1000, 60000, 4 << 20};
    char *argv[] = {"true", NULL};
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        struct buf *buf = buf_new(lens[i]);
        memset(buf_data(buf), 'x', lens[i]);
        struct keeper_run run = run_of(argv);
        run.input = slice_of(buf);
        assert_int_equal(keeper_run(place->keeper, &run), 0);
        buf_unref(&buf);
        wait_for_end(place);
        assert_ended(place, KEEPER_EXITED, 0);
    }
}

static void test_large_input_and_a_missing_command(void **state)
{
    struct place *place = *state;
    char *argv[] = {"no-such-command-anywhere", NULL};
    struct buf *buf = buf_new(4 << 20);
    memset(buf_data(buf), 'x', 4 << 20);
    struct keeper_run run = run_of(argv);
    run.input = slice_of(buf);
    assert_int_equal(keeper_run(place->keeper, &run), 0);
    buf_unref(&buf);
    wait_for_end(place);
    assert_ended(place, KEEPER_NOT_STARTED, ENOENT);
    run_shell(place, "exit 6");
    assert_ended(place, KEEPER_EXITED, 6);
}

/* A stop that comes while the input is still on its way waits behind it, and is not lost. */
static void test_stop_behind_a_large_input(void **state)
{
    struct place *place = *state;
    char *argv[] = {"sleep", "1000", NULL};
    struct buf *buf = buf_new(8 << 20);
    memset(buf_data(buf), 'x', 8 << 20);
    struct keeper_run run = run_of(argv);
    run.input = slice_of(buf);
    assert_int_equal(keeper_run(place->keeper, &run), 0);
    buf_unref(&buf);
    keeper_stop(place->keeper, LONG);
    keeper_stop(place->keeper, LONG / 2);
    keeper_stop(place->keeper, LONG / 3);
    wait_for_end(place);
    assert_ended(place, KEEPER_SIGNALLED, SIGTERM);
    assert_true(place->end.term_sent);
}

static void run_limited(struct place *place, const char *script, uint64_t max_output, uint64_t max_errors)
{
    char *argv[] = {"sh", "-c", (char *)script, NULL};
    struct keeper_run run = run_of(argv);
    run.max_output = max_output;
    run.max_errors = max_errors;
    assert_int_equal(keeper_run(place->keeper, &run), 0);
    wait_for_end(place);
}

static void test_output_is_cut(void **state)
{
    struct place *place = *state;
    run_limited(place, "printf 0123456789; printf abcdefghij >&2", 10, 10);
    assert_slice(place->end.output, "0123456789");
    assert_slice(place->end.errors, "abcdefghij");
    assert_false(place->end.output_truncated || place->end.errors_truncated);
    run_limited(place, "printf 0123456789; printf abcdefghij >&2", 9, 3);
    assert_slice(place->end.output, "012345678");
    assert_slice(place->end.errors, "hij");
    assert_true(place->end.output_truncated && place->end.errors_truncated);
    run_limited(place, "printf 0123456789; printf abcdefghij >&2", 0, 0);
    assert_slice(place->end.output, "");
    assert_slice(place->end.errors, "");
    assert_true(place->end.output_truncated && place->end.errors_truncated);
    run_limited(place, "true", 0, 0);
    assert_false(place->end.output_truncated || place->end.errors_truncated);
}

static void test_much_output(void **state)
{
    struct place *place = *state;
    run_limited(place, "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero | tr '\\0' e >&2; printf END >&2",
                3000000, 1000000);
    assert_int_equal(place->end.output.len, 3000000);
    assert_false(place->end.output_truncated);
    assert_int_equal(place->end.errors.len, 1000000);
    assert_true(place->end.errors_truncated);
    assert_memory_equal(place->end.errors.data + 1000000 - 5, "eeEND", 5);
    run_limited(place, "head -c 3000000 /dev/zero", 1000000, 0);
    assert_int_equal(place->end.output.len, 1000000);
    assert_true(place->end.output_truncated);
}

static void test_endless_output(void **state)
{
    struct place *place = *state;
    char script[160], *argv[] = {"sh", "-c", script, NULL};
    /* It tells when a few megabytes have gone through, so that the stop meets it while it writes. */
    snprintf(script, sizeof script, "yes | head -c 5000000; echo ready > %s; exec yes", place->fifo);
    struct keeper_run run = run_of(argv);
    run.max_output = 100000;
    assert_int_equal(keeper_run(place->keeper, &run), 0);
    wait_for_lines(place, 1);
    keeper_stop(place->keeper, LONG);
    wait_for_end(place);
    assert_ended(place, KEEPER_SIGNALLED, SIGTERM);
    assert_int_equal(place->end.output.len, 100000);
    assert_true(place->end.output_truncated);
}

static void test_closed_output(void **state)
{
    struct place *place = *state;
    run_shell(place, "exec >&- 2>&-; read x; exit 9");
    assert_ended(place, KEEPER_EXITED, 9);
    /* The last words of a command that closed one of the two, and an output that a child kept open a while. */
    run_shell(place, "exec 2>&-; echo last");
    assert_slice(place->end.output, "last\n");
}

/* A program that raised its own limit passes on the one it was started with. */
static void test_limits_are_those_of_the_start(void **state)
{
    struct place *place = *state;
    struct rlimit now, less;
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &now), 0);
    less = now;
    less.rlim_cur = now.rlim_cur / 2;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &less), 0);
    keeper_close(&place->keeper);
    open_keeper(place);
    run_shell(place, "ulimit -n");
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
    char expected[32];
    snprintf(expected, sizeof expected, "%llu\n", (unsigned long long)now.rlim_cur);
    assert_slice(place->end.output, expected);
}

/* ---- the keeper's own life ---- */

static void test_close_kills_everything(void **state)
{
    struct place *place = *state;
    start_playing(place, "daemon", LONG);
    wait_for_lines(place, 2);
    keeper_close(&place->keeper);
    assert_true(keepers_wait(place->loop, BOUND));
    assert_gone(nth_pid(place, 0));
    assert_int_equal(place->ends, 0);
    assert_int_equal(place->deaths, 0);
}

/* Closed and forgotten: the loop reaps it, and nobody has to ask. */
static void test_close_reaps_in_the_background(void **state)
{
    struct place *place = *state;
    pid_t pid = keeper_pid(place);
    start_playing(place, "stubborn", LONG);
    place->ends = 0;
    wait_for_lines(place, 1);
    keeper_close(&place->keeper);
    /* Another keeper on the same loop, until the first one is gone. */
    open_keeper(place);
    for (int i = 0; i < 5000 && kill(pid, 0) == 0; i++)
        run_shell(place, "exit 0");
    assert_gone(pid);
}

/* The next attempt may come only when nothing of the lost one is alive: a daemon with a session of its own, too. */
static void kill_the_keeper_of(struct place *place, const char *what)
{
    pid_t pid = keeper_pid(place);
    place->ends = 0;
    start_playing(place, what, LONG);
    wait_for_lines(place, 2);
    kill(pid, SIGKILL);
    run_loop(place);
    assert_int_equal(place->deaths, 1);
    assert_int_equal(place->lost, 1);
    assert_int_equal(place->ends, 0);
    assert_non_null(strstr(place->died, "slot 7"));
    assert_non_null(strstr(place->died, "unknown"));
    assert_gone_or_dead(nth_pid(place, 0));
    place->deaths = 0;
    run_shell(place, "exit 4");
    assert_ended(place, KEEPER_EXITED, 4);
}

static void test_keeper_is_killed(void **state)
{
    kill_the_keeper_of(*state, "daemon");
}

/* A daemon that is killed and still on its way out holds its locks and ports. */
static void test_keeper_is_killed_over_a_heavy_daemon(void **state)
{
    kill_the_keeper_of(*state, "heavy-daemon");
}

/* Nothing ran: the next attempt, even one that is asked for at once, doesn't notice. */
static void test_idle_keeper_is_killed(void **state)
{
    struct place *place = *state;
    pid_t pid = keeper_pid(place);
    place->ends = 0;
    kill(pid, SIGKILL);
    run_loop(place);
    assert_int_equal(place->deaths, 1);
    assert_int_equal(place->lost, 0);
    place->deaths = 0;
    run_shell(place, "exit 4");
    assert_ended(place, KEEPER_EXITED, 4);
    assert_int_equal(place->lost, 0);
    assert_true(keeper_pid(place) != pid);
}

/* With a worker that is a child subreaper, also what has left no trace of where it comes from. */
static void test_keeper_is_killed_over_an_anonymous_daemon(void **state)
{
    struct place *place = *state;
    char script[200], *argv[] = {"sh", "-c", script, NULL};
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    pid_t pid = keeper_pid(place);
    place->ends = 0;
    snprintf(script, sizeof script, "env -i setsid sh -c 'echo $$ > %s; exec sleep 1000' & exec sleep 1000", place->fifo);
    struct keeper_run run = run_of(argv);
    assert_int_equal(keeper_run(place->keeper, &run), 0);
    wait_for_lines(place, 1);
    kill(pid, SIGKILL);
    run_loop(place);
    assert_int_equal(place->lost, 1);
    place->deaths = 0;
    assert_gone(nth_pid(place, 0));
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 0), 0);
}

static void test_keeper_ignores_signals(void **state)
{
    struct place *place = *state;
    pid_t pid = keeper_pid(place);
    kill(pid, SIGTERM);
    kill(pid, SIGINT);
    kill(pid, SIGHUP);
    run_shell(place, "exit 11");
    assert_ended(place, KEEPER_EXITED, 11);
}

static int count_fds(pid_t pid)
{
    char path[64];
    int n = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *folder = opendir(path);
    assert_non_null(folder);
    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

static void test_many_runs(void **state)
{
    struct place *place = *state;
    char *argv[] = {"true", NULL};
    struct keeper_run run = run_of(argv);
    pid_t pid = keeper_pid(place);
    int ours = count_fds(getpid()), theirs = count_fds(pid);
    place->ends = 0;
    place->again = &run;
    place->repeat = 1999;
    assert_int_equal(keeper_run(place->keeper, &run), 0);
    while (place->ends < 2000)
        wait_for_end(place);
    assert_ended(place, KEEPER_EXITED, 0);
    assert_int_equal(count_fds(getpid()), ours);
    assert_int_equal(count_fds(pid), theirs);
}

static void test_no_descriptors_for_a_keeper(void **state)
{
    struct place *place = *state;
    struct rlimit before, none;
    struct why why = {""};
    struct keeper_callbacks callbacks = {.ended = on_ended, .died = on_died, .arg = place};
    struct keeper_place where = {.slot = 9};
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    none = before;
    none.rlim_cur = 0;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
    struct keeper *keeper = keeper_open(place->loop, &where, &callbacks, &why);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_null(keeper);
    assert_non_null(strstr(why.text, "slot 9"));
}

int main(int argc, char **argv)
{
    play_a_part(argc, argv);
    setenv("TEST_REPLACED", "old", 1);
    const struct CMUnitTest tests[] = {
        KEEPER_TEST(test_exit_codes),
        KEEPER_TEST(test_signals),
        KEEPER_TEST(test_what_a_command_finds),
        KEEPER_TEST(test_not_started),
        KEEPER_TEST(test_no_shell_steps_in),
        KEEPER_TEST(test_the_path_is_the_childs),
        KEEPER_TEST(test_too_big),
        KEEPER_TEST(test_input),
        KEEPER_TEST(test_input_that_nobody_reads),
        KEEPER_TEST(test_large_input_and_a_missing_command),
        KEEPER_TEST(test_stop_behind_a_large_input),
        KEEPER_TEST(test_output_is_cut),
        KEEPER_TEST(test_much_output),
        KEEPER_TEST(test_endless_output),
        KEEPER_TEST(test_closed_output),
        KEEPER_TEST(test_limits_are_those_of_the_start),
        KEEPER_TEST(test_close_kills_everything),
        KEEPER_TEST(test_close_reaps_in_the_background),
        KEEPER_TEST(test_keeper_is_killed),
        KEEPER_TEST(test_keeper_is_killed_over_a_heavy_daemon),
        KEEPER_TEST(test_idle_keeper_is_killed),
        KEEPER_TEST(test_keeper_is_killed_over_an_anonymous_daemon),
        KEEPER_TEST(test_keeper_ignores_signals),
        KEEPER_TEST(test_many_runs),
        KEEPER_TEST(test_no_descriptors_for_a_keeper),
    };
    const struct CMUnitTest in_groups[] = {
        GROUP_TEST(test_exit_codes),
        GROUP_TEST(test_what_a_command_finds),
        GROUP_TEST(test_not_started),
        GROUP_TEST(test_close_kills_everything),
        GROUP_TEST(test_keeper_is_killed),
        GROUP_TEST(test_idle_keeper_is_killed),
        GROUP_TEST(test_keeper_is_killed_over_an_anonymous_daemon),
        GROUP_TEST(test_many_runs),
    };
    return RUN_ALSO_IN_GROUPS(tests, in_groups);
}
