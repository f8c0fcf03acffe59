/* Many commands in a row as one run of the keeper: what each leaves in the bundle, which of them is the last, and that nothing begins
 * once the bundle is closed. */
#include "tests/unit/group_world.h"
#include "tests/unit/keeper_world.h"

#include "worker/bundle.h"

static struct bundle *bundle;
static int bundle_fd;

static int set_up_bundle(void **state, const char *group)
{
    if (bundle_make(&bundle, &bundle_fd) < 0)
        return -1;
    return set_up_sharing(state, group, bundle_fd);
}

static int set_up_row(void **state) { return set_up_bundle(state, ""); }
static int set_up_row_in_group(void **state) { return set_up_bundle(state, group_of_slot); }

static int tear_down_row(void **state)
{
    int result = tear_down(state);
    bundle_unmap(&bundle);
    close(bundle_fd);
    return result;
}

static void put(uint32_t count)
{
    const struct bundle_order order = {.count = count, .not_after = MONO_NEVER, .begin_for = LONG, .max_output = 1 << 20};
    assert_int_equal(bundle_put(bundle, &order), 0);
}

static void add(struct place *place, const char *script)
{
    char *argv[] = {"sh", "-c", (char *)script, NULL};
    struct keeper_run run = run_of(argv);
    assert_int_equal(keeper_add(place->keeper, &run), 0);
}

static void add_play(struct place *place, const char *what, int64_t grace)
{
    char *argv[] = {SELF, "--play", (char *)what, place->fifo, NULL};
    struct keeper_run run = run_of(argv);
    run.grace = grace;
    assert_int_equal(keeper_add(place->keeper, &run), 0);
}

/* One that is not to begin. */
static void add_never(struct place *place)
{
    char script[96];
    snprintf(script, sizeof script, "touch %s/begun", place->folder);
    add(place, script);
}

static void assert_never_began(struct place *place)
{
    char path[96];
    snprintf(path, sizeof path, "%s/begun", place->folder);
    assert_int_equal(access(path, F_OK), -1);
}

static void run_row(struct place *place)
{
    keeper_run_added(place->keeper);
    wait_for_end(place);
}

/* So many began before the last one, and together they said `said`. */
static void assert_parts(uint32_t begun, struct bundle_part *parts, const char *said)
{
    struct buf *outputs = NULL, *words = NULL;
    assert_int_equal(bundle_close(bundle, false), begun);
    assert_true(bundle_take(bundle, begun - 1, parts, &outputs, &words));
    assert_null(words);
    assert_slice(slice_of(outputs), said);
    buf_unref(&outputs);
}

static void each_leaves_its_end(void **state)
{
    struct place *place = *state;
    struct bundle_part parts[4];
    put(5);
    add(place, "echo one");
    add(place, "echo two; echo err >&2; exit 7");
    add(place, "kill -SEGV $$");
    add(place, "exit 0");
    add(place, "echo five; echo last >&2; exit 9");
    run_row(place);
    assert_parts(5, parts, "one\ntwo\nerr\n");
    assert_int_equal(parts[0].code, 0);
    assert_int_equal(parts[1].code, 7);
    assert_int_equal(parts[1].output_len, 4);
    assert_int_equal(parts[1].errors_len, 4);
    assert_true(parts[2].signalled && parts[2].code == SIGSEGV && !parts[1].signalled);
    assert_true(parts[3].run_ns > 0);
    assert_ended(place, KEEPER_EXITED, 9);
    assert_slice(place->end.output, "five\n");
    assert_slice(place->end.errors, "last\n");
    assert_int_equal(place->ends, 1);
    /* And the keeper is as before. */
    run_shell(place, "echo alone");
    assert_slice(place->end.output, "alone\n");
    put(2);
    add(place, "exit 1");
    add(place, "exit 2");
    run_row(place);
    assert_parts(2, parts, "");
    assert_ended(place, KEEPER_EXITED, 2);
}

static void each_has_its_input_and_environment(void **state)
{
    struct place *place = *state;
    struct bundle_part parts[3];
    char *argv[] = {"sh", "-c", "cat; echo $WHICH", NULL};
    put(3);
    for (int i = 0; i < 3; i++) {
        char which[24], input[8];
        char *env[] = {which, NULL};
        snprintf(which, sizeof which, "WHICH=%d", i);
        snprintf(input, sizeof input, "%c", (char)('a' + i));
        struct keeper_run run = run_of(argv);
        run.env = env;
        run.has_input = i < 2;
        run.input = (struct slice){.data = (const uint8_t *)input, .len = i < 2};
        assert_int_equal(keeper_add(place->keeper, &run), 0);
    }
    run_row(place);
    assert_parts(3, parts, "a0\nb1\n");
    assert_slice(place->end.output, "2\n");
}

static void nothing_begins_once_it_is_closed(void **state)
{
    struct place *place = *state;
    struct bundle_part parts[1];
    put(2);
    assert_int_equal(bundle_close(bundle, false), 0);
    add_never(place);
    add_never(place);
    run_row(place);
    assert_int_equal(bundle_close(bundle, false), 0);
    assert_never_began(place);
    /* Closed while one runs: that one goes on, and is the last. */
    char script[256];
    snprintf(script, sizeof script, "echo 1 >%s; read line <%s.go; echo went on", place->fifo, place->fifo);
    char go[96];
    snprintf(go, sizeof go, "%s.go", place->fifo);
    assert_int_equal(mkfifo(go, 0600), 0);
    put(3);
    add(place, "true");
    add(place, script);
    add_never(place);
    keeper_run_added(place->keeper);
    place->ends = 0;
    wait_for_lines(place, 1);
    assert_int_equal(bundle_close(bundle, true), 2);
    int fd = open(go, O_WRONLY | O_CLOEXEC);
    assert_int_equal(write(fd, "go\n", 3), 3);
    close(fd);
    wait_for_end(place);
    assert_parts(2, parts, "");
    assert_slice(place->end.output, "went on\n");
    assert_never_began(place);
    unlink(go);
}

/* Its owner took the first for begun when it closed the bundle: that it was late must not look like an end. */
static void the_first_that_was_kept_begins_late(void **state)
{
    struct place *place = *state;
    const struct bundle_order order = {.count = 2, .not_after = mono_now(), .begin_for = LONG, .max_output = 1 << 20};
    assert_int_equal(bundle_put(bundle, &order), 0);
    assert_int_equal(bundle_close(bundle, true), 1);
    add(place, "echo began; exit 5");
    add_never(place);
    run_row(place);
    assert_ended(place, KEEPER_EXITED, 5);
    assert_slice(place->end.output, "began\n");
    assert_never_began(place);
}

static void without_memory_it_is_not_started(void **state)
{
    struct place *place = *state;
    add_never(place);
    add_never(place);
    run_row(place);
    assert_ended(place, KEEPER_NOT_STARTED, ENOMEM);
    assert_never_began(place);
}

static void a_stop_ends_the_row(void **state)
{
    struct place *place = *state;
    struct bundle_part parts[1];
    put(3);
    add(place, "echo done");
    add_play(place, "stubborn", LONG);
    add_never(place);
    keeper_run_added(place->keeper);
    wait_for_lines(place, 1);
    assert_int_equal(bundle_close(bundle, false), 2);
    keeper_stop(place->keeper, 0);
    wait_for_end(place);
    assert_never_began(place);
    assert_parts(2, parts, "done\n");
    assert_ended(place, KEEPER_SIGNALLED, SIGKILL);
    assert_true(place->end.kill_sent);
    assert_gone(nth_pid(place, 0));
}

/* What a command leaves behind is ended before the next one begins. */
static void nothing_of_one_is_alive_when_the_next_begins(void **state)
{
    struct place *place = *state;
    struct bundle_part parts[1];
    char leaves[400], looks[256], pid[96];
    snprintf(pid, sizeof pid, "%s/pid", place->folder);
    snprintf(leaves, sizeof leaves, "sh -c 'trap \"\" TERM; echo $$ >%s; exec sleep 1000' & while [ ! -s %s ]; do :; done; exit 3", pid, pid);
    snprintf(looks, sizeof looks, "kill -0 $(cat %s) 2>/dev/null && echo alive || echo gone", pid);
    char *argv[] = {"sh", "-c", leaves, NULL};
    struct keeper_run run = run_of(argv);
    run.grace = 0;
    put(2);
    assert_int_equal(keeper_add(place->keeper, &run), 0);
    add(place, looks);
    run_row(place);
    unlink(pid);
    assert_parts(2, parts, "");
    assert_int_equal(parts[0].code, 3);
    assert_true(parts[0].swept);
    assert_slice(place->end.output, "gone\n");
}

static void unusual_ends_are_told_in_full(void **state)
{
    struct place *place = *state;
    char *missing[] = {"no-such-command-anywhere", NULL};
    struct keeper_run run = run_of(missing);
    struct bundle_part parts[1];
    put(3);
    add(place, "exit 4");
    assert_int_equal(keeper_add(place->keeper, &run), 0);
    add(place, "true");
    run_row(place);
    assert_parts(2, parts, "");
    assert_int_equal(parts[0].code, 4);
    assert_ended(place, KEEPER_NOT_STARTED, ENOENT);
    assert_string_equal(place->sentence, "no-such-command-anywhere");
    /* More than there is room for. */
    put(2);
    add(place, "head -c 600000 /dev/zero");
    add(place, "true");
    run_row(place);
    assert_int_equal(bundle_close(bundle, false), 1);
    assert_ended(place, KEEPER_EXITED, 0);
    assert_int_equal(place->end.output.len, 600000);
    put(2);
    add(place, "head -c 9000 /dev/zero >&2");
    add(place, "true");
    run_row(place);
    assert_int_equal(bundle_close(bundle, false), 1);
    assert_true(place->end.errors_truncated);
}

static void one_that_is_too_large_leaves_the_others(void **state)
{
    struct place *place = *state;
    static char word[200 * 1024];
    memset(word, 'x', sizeof word - 1);
    char *argv[] = {"true", word, NULL};
    struct keeper_run run = run_of(argv);
    struct bundle_part parts[1];
    assert_int_equal(keeper_add(place->keeper, &run), -E2BIG);
    put(2);
    add(place, "echo a");
    assert_int_equal(keeper_add(place->keeper, &run), -E2BIG);
    add(place, "echo b");
    run_row(place);
    assert_parts(2, parts, "a\n");
    assert_slice(place->end.output, "b\n");
}

static void a_keeper_that_dies_leaves_what_had_ended(void **state)
{
    struct place *place = *state;
    struct bundle_part parts[1];
    pid_t pid = keeper_pid(place);
    place->ends = 0;
    put(3);
    add(place, "exit 6");
    add_play(place, "stubborn", LONG);
    add_never(place);
    keeper_run_added(place->keeper);
    wait_for_lines(place, 1);
    assert_int_equal(kill(pid, SIGKILL), 0);
    while (place->deaths == 0)
        run_loop(place);
    assert_int_equal(place->lost, 1);
    assert_parts(2, parts, "");
    assert_int_equal(parts[0].code, 6);
    assert_gone_or_dead(nth_pid(place, 0));
}

static void many_rows(void **state)
{
    struct place *place = *state;
    static struct bundle_part parts[64];
    for (uint32_t row = 0; row < 5; row++) {
        put(64);
        for (int i = 0; i < 64; i++)
            add(place, "exit 3");
        run_row(place);
        assert_parts(64, parts, "");
        for (int i = 0; i < 63; i++)
            assert_int_equal(parts[i].code, 3);
        assert_ended(place, KEEPER_EXITED, 3);
    }
}

#define ROW_TEST(name) cmocka_unit_test_setup_teardown(name, set_up_row, tear_down_row)
#define ROW_GROUP_TEST(test) {#test "_in_a_group", test, set_up_row_in_group, tear_down_row, NULL}

int main(int argc, char **argv)
{
    play_a_part(argc, argv);
    const struct CMUnitTest tests[] = {
        ROW_TEST(each_leaves_its_end),
        ROW_TEST(each_has_its_input_and_environment),
        ROW_TEST(nothing_begins_once_it_is_closed),
        ROW_TEST(the_first_that_was_kept_begins_late),
        cmocka_unit_test_setup_teardown(without_memory_it_is_not_started, set_up, tear_down),
        ROW_TEST(a_stop_ends_the_row),
        ROW_TEST(nothing_of_one_is_alive_when_the_next_begins),
        ROW_TEST(unusual_ends_are_told_in_full),
        ROW_TEST(one_that_is_too_large_leaves_the_others),
        ROW_TEST(a_keeper_that_dies_leaves_what_had_ended),
        ROW_TEST(many_rows),
    };
    const struct CMUnitTest in_groups[] = {
        ROW_GROUP_TEST(each_leaves_its_end),
        ROW_GROUP_TEST(a_stop_ends_the_row),
        ROW_GROUP_TEST(nothing_of_one_is_alive_when_the_next_begins),
        ROW_GROUP_TEST(many_rows),
    };
    return RUN_ALSO_IN_GROUPS(tests, in_groups);
}
