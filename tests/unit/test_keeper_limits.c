/* Limits of an attempt, with real processes: each is met, named, and doesn't outlive its attempt. */
#include "tests/unit/group_world.h"
#include "tests/unit/keeper_world.h"

static void run_with(struct place *place, const char *script, enum limit_kind kind, uint64_t value)
{
    char *argv[] = {"sh", "-c", (char *)(uintptr_t)script, NULL};
    struct limits limits = {{0}};
    limits.of[kind] = value;
    struct keeper_run run = run_of(argv);
    run.limits = &limits;
    assert_int_equal(keeper_run(place->keeper, &run), 0);
    wait_for_end(place);
}

static const char spin[] = "while :; do :; done";

/* ---- anywhere ---- */

static void test_open_files(void **state)
{
    struct place *place = *state;
    run_with(place, "ulimit -n; ulimit -Hn", LIMIT_FILES, 50);
    assert_slice(place->end.output, "50\n50\n");
    assert_int_equal(place->end.limit, -1);
    run_shell(place, "ulimit -n");
    assert_true(place->end.output.len > 3);
    /* The least there is leaves room for the start itself. */
    run_with(place, "ulimit -n", LIMIT_FILES, 4);
    assert_slice(place->end.output, "4\n");
}

static void test_cpu_time_of_a_process(void **state)
{
    struct place *place = *state;
    run_with(place, spin, LIMIT_CPU, NS_PER_S / 2);
    assert_int_equal(place->end.how, KEEPER_SIGNALLED);
    assert_int_equal(place->end.limit, LIMIT_CPU);
    run_with(place, "exit 3", LIMIT_CPU, NS_PER_S);
    assert_ended(place, KEEPER_EXITED, 3);
    assert_int_equal(place->end.limit, -1);
    /* A child meets it, and its parent fails of that. */
    run_with(place, "sh -c 'while :; do :; done'; exit 4", LIMIT_CPU, NS_PER_S / 2);
    assert_ended(place, KEEPER_EXITED, 4);
    assert_int_equal(place->end.limit, LIMIT_CPU);
}

static void test_no_controller(void **state)
{
    struct place *place = *state;
    run_with(place, "exit 0", LIMIT_MEMORY, 64 << 20);
    assert_ended(place, KEEPER_NOT_STARTED, ENODEV);
    run_shell(place, "exit 0");
    assert_ended(place, KEEPER_EXITED, 0);
}

/* ---- in groups ---- */

/* Many processes share what one would be allowed: no rlimit could see that. */
static void test_cpu_time_of_all(void **state)
{
    struct place *place = *state;
    run_with(place, "for i in 1 2 3 4; do sh -c 'while :; do :; done' & done; wait", LIMIT_CPU, 300 * NS_PER_MS);
    assert_int_equal(place->end.limit, LIMIT_CPU);
    assert_true(place->end.kill_sent);
    /* The next one begins to count anew. */
    run_with(place, "exit 0", LIMIT_CPU, 300 * NS_PER_MS);
    assert_int_equal(place->end.limit, -1);
}

static void test_memory(void **state)
{
    struct place *place = *state;
    if (place->control[CONTROL_MEMORY][0] == '\0') {
        print_message("no memory controller here: its limit is not shown\n");
        return;
    }
    run_with(place, "head -c 200000000 /dev/zero | tail >/dev/null", LIMIT_MEMORY, 50 << 20);
    assert_int_equal(place->end.limit, LIMIT_MEMORY);
    run_with(place, "echo fits", LIMIT_MEMORY, 50 << 20);
    assert_slice(place->end.output, "fits\n");
    assert_int_equal(place->end.limit, -1);
    run_with(place, "exit 9", LIMIT_MEMORY, 60 << 20);
    assert_ended(place, KEEPER_EXITED, 9);
    assert_int_equal(place->end.limit, -1);
    /* Without a limit it is as before. */
    run_shell(place, "head -c 100000000 /dev/zero | tail -c 2 | wc -c");
    assert_slice(place->end.output, "2\n");
}

static void test_processes(void **state)
{
    struct place *place = *state;
    static const char many[] = "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; exit 1";
    if (place->control[CONTROL_PIDS][0] == '\0') {
        print_message("no pids controller here: its limit is not shown\n");
        return;
    }
    run_with(place, many, LIMIT_PROCESSES, 4);
    assert_int_equal(place->end.how, KEEPER_EXITED);
    assert_int_equal(place->end.limit, LIMIT_PROCESSES);
    run_with(place, "sleep 0 & wait; exit 1", LIMIT_PROCESSES, 4);
    assert_int_equal(place->end.limit, -1);
    run_shell(place, many);
    assert_ended(place, KEEPER_EXITED, 1);
    assert_int_equal(place->end.limit, -1);
    assert_int_equal(place->end.swept, 8);
}

static int set_up_controls(void **state)
{
    static const char *const names[CONTROLS] = {"memory", "pids"};
    set_up_in_group(state);
    struct place *place = *state;
    struct why why;
    keeper_close(&place->keeper);
    assert_true(keepers_wait(place->loop, BOUND));
    for (int i = 0; i < CONTROLS; i++) {
        if (cgroup_home_control(&groups.home, (enum cgroup_control)i, &why) == 0)
            snprintf(place->control[i], sizeof place->control[i], "%.110s/slot-7", groups.home.control[i]);
        else
            print_message("%s: %s\n", names[i], why.text);
    }
    open_keeper(place);
    return 0;
}

/* ---- the files of a group, played by plain ones ---- */

static void put_file(const char *folder, const char *name, const char *text)
{
    assert_true(groups_write(folder, name, text));
}

static void assert_file(const char *folder, const char *name, const char *expected)
{
    char path[200], text[64] = "";
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "re");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof text, file));
    fclose(file);
    assert_memory_equal(text, expected, strlen(expected));
}

/* What is written for a slot in cgroup2, where a machine has its controllers in the older hierarchies. */
static void test_files_of_cgroup2(void **state)
{
    char folder[] = "/tmp/test-limits-XXXXXX";
    static const char *const files[] = {"memory.max", "memory.swap.max", "memory.oom.group", "memory.events", "pids.max", "pids.events"};
    struct cgroup_limit memory, pids;
    (void)state;
    assert_non_null(mkdtemp(folder));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        put_file(folder, files[i], "");
    put_file(folder, "memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 1\n");
    put_file(folder, "pids.events", "max 7\n");
    assert_int_equal(cgroup_limit_open(&memory, CONTROL_MEMORY, folder, folder), 0);
    assert_int_equal(cgroup_limit_open(&pids, CONTROL_PIDS, folder, folder), 0);
    assert_true(memory.procs == -1 && pids.procs == -1);
    assert_int_equal(cgroup_limit_begin(&memory, 64 << 20), 0);
    assert_file(folder, "memory.max", "67108864");
    assert_file(folder, "memory.swap.max", "0");
    assert_file(folder, "memory.oom.group", "1");
    assert_false(cgroup_limit_was_hit(&memory));
    put_file(folder, "memory.events", "oom_kill 3\n");
    assert_true(cgroup_limit_was_hit(&memory));
    assert_int_equal(cgroup_limit_begin(&pids, 5), 0);
    assert_file(folder, "pids.max", "5");
    put_file(folder, "pids.events", "max 8\n");
    assert_true(cgroup_limit_was_hit(&pids));
    assert_int_equal(cgroup_limit_begin(&memory, 0), 0);
    assert_file(folder, "memory.max", "max");
    assert_false(cgroup_limit_was_hit(&memory));
    cgroup_limit_close(&memory);
    cgroup_limit_close(&pids);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[200];
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        unlink(path);
    }
    rmdir(folder);
}

int main(int argc, char **argv)
{
    play_a_part(argc, argv);
    const struct CMUnitTest tests[] = {
        KEEPER_TEST(test_open_files),
        KEEPER_TEST(test_cpu_time_of_a_process),
        KEEPER_TEST(test_no_controller),
        cmocka_unit_test(test_files_of_cgroup2),
    };
    const struct CMUnitTest in_groups[] = {
        {"test_open_files_in_a_group", test_open_files, set_up_controls, tear_down, NULL},
        {"test_cpu_time_of_all", test_cpu_time_of_all, set_up_controls, tear_down, NULL},
        {"test_memory", test_memory, set_up_controls, tear_down, NULL},
        {"test_processes", test_processes, set_up_controls, tear_down, NULL},
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (groups_open()) {
        snprintf(group_of_slot, sizeof group_of_slot, "%.100s/slot-7", groups.home.folder);
        failed += cmocka_run_group_tests(in_groups, NULL, NULL);
    }
    groups_close();
    return failed;
}
