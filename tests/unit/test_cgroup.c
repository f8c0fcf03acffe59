/* The groups of a worker and its slots: finding a home, refusing what is none, killing by either way. */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "common/spawn.h"
#include "tests/unit/group_world.h"

#define MEMBERS 5

static pid_t put_into(const char *folder, const char *script)
{
    char path[PATH_MAX + 32], *argv[] = {"sh", "-c", (char *)(uintptr_t)script, NULL};
    pid_t pid;
    snprintf(path, sizeof path, "%s/cgroup.procs", folder);
    int procs = open(path, O_WRONLY | O_CLOEXEC);
    struct spawn_request request = {
        .argv = argv, .env = environ, .in = SPAWN_NULL, .out = SPAWN_NULL, .err = SPAWN_NULL, .keep_fd = SPAWN_NOTHING,
        .new_session = true, .cgroups = &procs, .n_cgroups = 1,
    };
    assert_int_equal(spawn_process(&request, &pid, NULL), 0);
    close(procs);
    return pid;
}

static void reap_killed(pid_t pid)
{
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void count(void *arg, pid_t pid)
{
    assert_true(pid > 1);
    ++*(int *)arg;
}

static void check_kill(bool no_kill_file)
{
    struct cgroup_slot slot;
    char folder[PATH_MAX + 32], inner[PATH_MAX + 64];
    pid_t pids[MEMBERS];
    int n = 0;
    snprintf(folder, sizeof folder, "%s/slot-1", groups.home.folder);
    snprintf(inner, sizeof inner, "%s/inner", folder);
    assert_int_equal(cgroup_slot_open(&slot, folder), 0);
    slot.no_kill_file = no_kill_file;
    assert_false(cgroup_slot_lives(&slot));
    assert_int_equal(mkdir(inner, 0755), 0);
    for (int i = 0; i < MEMBERS; i++)
        pids[i] = put_into(i % 2 ? inner : folder, "trap '' TERM; exec sleep 1000");
    assert_true(cgroup_slot_lives(&slot));
    cgroup_slot_each(&slot, count, &n);
    assert_int_equal(n, MEMBERS);
    cgroup_slot_kill(&slot);
    for (int i = 0; i < MEMBERS; i++)
        reap_killed(pids[i]);
    assert_false(cgroup_slot_lives(&slot));
    cgroup_slot_tidy(&slot);
    assert_int_equal(access(inner, F_OK), -1);
    /* The next one runs, whichever way the last was killed. */
    int status;
    pid_t pid = put_into(folder, "exit 3");
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 3);
    cgroup_slot_close(&slot, true);
    assert_int_equal(access(folder, F_OK), -1);
}

static void test_kill(void **state)
{
    (void)state;
    check_kill(false);
}

static void test_kill_on_an_old_kernel(void **state)
{
    (void)state;
    check_kill(true);
}

/* With one that forks faster than a list of processes can be read. */
static void test_old_kernel_and_a_hopper(void **state)
{
    struct cgroup_slot slot;
    char folder[PATH_MAX + 32];
    (void)state;
    snprintf(folder, sizeof folder, "%s/slot-1", groups.home.folder);
    assert_int_equal(cgroup_slot_open(&slot, folder), 0);
    slot.no_kill_file = true;
    pid_t pid = put_into(folder, "while :; do (while :; do (:); done) & (:) & wait; done");
    while (cgroup_slot_lives(&slot))
        cgroup_slot_kill(&slot);
    reap_killed(pid);
    cgroup_slot_close(&slot, true);
}

static void test_no_group_is_always_empty(void **state)
{
    struct cgroup_slot slot;
    (void)state;
    assert_int_equal(cgroup_slot_open(&slot, "/nowhere/at/all"), -ENOENT);
    assert_false(cgroup_slot_lives(&slot));
    cgroup_slot_kill(&slot);
    cgroup_slot_tidy(&slot);
    cgroup_slot_close(&slot, true);
    assert_int_equal(cgroup_slot_open(&slot, "/tmp"), -ENOENT);
}

static void test_auto_finds_a_home(void **state)
{
    struct cgroup_home one, two;
    struct why why = {""};
    (void)state;
    assert_int_equal(cgroup_home_open(&one, "auto", &why), 0);
    assert_string_not_equal(one.folder, "");
    /* The second one must not take the first for abandoned. */
    assert_int_equal(cgroup_home_open(&two, "auto", &why), 0);
    assert_string_not_equal(two.folder, one.folder);
    assert_int_equal(access(one.folder, F_OK), 0);
    cgroup_home_close(&two);
    assert_int_equal(cgroup_home_open(&two, "off", &why), 0);
    assert_string_equal(two.folder, "");
    cgroup_home_close(&two);
    char folder[PATH_MAX];
    snprintf(folder, sizeof folder, "%s", one.folder);
    cgroup_home_close(&one);
    assert_int_equal(access(folder, F_OK), -1);
}

/* A worker and all of its keepers were killed at once. */
static void test_abandoned_homes_are_cleared(void **state)
{
    struct cgroup_home home;
    struct why why = {""};
    char folder[PATH_MAX], slot[PATH_MAX + 32];
    (void)state;
    assert_int_equal(cgroup_home_open(&home, "auto", &why), 0);
    snprintf(folder, sizeof folder, "%s", home.folder);
    snprintf(slot, sizeof slot, "%s/slot-3", folder);
    assert_int_equal(mkdir(slot, 0755), 0);
    pid_t pid = put_into(slot, "exec sleep 1000");
    close(home.lock);
    assert_int_equal(cgroup_home_open(&home, "auto", &why), 0);
    reap_killed(pid);
    cgroup_home_close(&home);
    assert_int_equal(cgroup_home_open(&home, "auto", &why), 0);
    assert_int_equal(access(folder, F_OK), -1);
    cgroup_home_close(&home);
}

static void refuse(const char *where, const char *words)
{
    struct cgroup_home home;
    struct why why = {""};
    assert_int_equal(cgroup_home_open(&home, where, &why), -1);
    if (!strstr(why.text, words))
        fail_msg("'%s' should be named in: %s", words, why.text);
}

static void test_what_is_no_home_is_refused(void **state)
{
    char made[64], longer[PATH_MAX + 2];
    (void)state;
    memset(longer, 'x', sizeof longer - 1);
    longer[0] = '/';
    longer[sizeof longer - 1] = '\0';
    snprintf(made, sizeof made, "/tmp/test-cgroup-%d", (int)getpid());
    refuse("/nowhere/at/all", "/nowhere/at/all");
    refuse("/tmp", "cgroup2");
    refuse("/proc/self/status", "cgroup2");
    refuse(made, "cgroup2");
    assert_int_equal(access(made, F_OK), -1);
    refuse(groups.home.folder, "another worker");
    refuse(longer, "too long");
}

/* A folder of somebody's stays, with whatever else is in it. */
static void test_a_given_folder_is_left_as_it_was(void **state)
{
    struct cgroup_home home;
    struct why why = {""};
    char folder[PATH_MAX + 32], other[PATH_MAX + 64], slot[PATH_MAX + 64];
    int status;
    (void)state;
    snprintf(folder, sizeof folder, "%s/given", groups.home.folder);
    snprintf(other, sizeof other, "%s/other", folder);
    snprintf(slot, sizeof slot, "%s/slot-9", folder);
    assert_true(mkdir(folder, 0755) == 0 && mkdir(other, 0755) == 0 && mkdir(slot, 0755) == 0);
    pid_t left = put_into(slot, "exec sleep 1000"), mine = put_into(other, "exec sleep 1000");
    assert_int_equal(cgroup_home_open(&home, folder, &why), 0);
    reap_killed(left);
    cgroup_home_close(&home);
    assert_int_equal(waitpid(mine, &status, WNOHANG), 0);
    kill(mine, SIGKILL);
    reap_killed(mine);
    assert_int_equal(rmdir(other), 0);
    rmdir(slot);
    assert_int_equal(rmdir(folder), 0);
}

int main(void)
{
    const struct CMUnitTest anywhere[] = {
        cmocka_unit_test(test_no_group_is_always_empty),
    };
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill),
        cmocka_unit_test(test_kill_on_an_old_kernel),
        cmocka_unit_test(test_old_kernel_and_a_hopper),
        cmocka_unit_test(test_auto_finds_a_home),
        cmocka_unit_test(test_abandoned_homes_are_cleared),
        cmocka_unit_test(test_what_is_no_home_is_refused),
        cmocka_unit_test(test_a_given_folder_is_left_as_it_was),
    };
    int failed = cmocka_run_group_tests(anywhere, NULL, NULL);
    if (groups_open())
        failed += cmocka_run_group_tests(tests, NULL, NULL);
    groups_close();
    return failed;
}
