/* The sweep, both ways of walking: this process makes itself a child subreaper and grows a tree. */
#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "worker/sweep.h"

#define DEPTH 4
#define MEMBERS (1 + 2 + 4 + 8)

/* Two children each, some in sessions of their own; each says one byte when it is there. */
static void grow(int depth, int ready, bool stubborn)
{
    if (stubborn)
        signal(SIGTERM, SIG_IGN);
    if (write(ready, "x", 1) != 1)
        _exit(1);
    for (int born = 0; depth > 1 && born < 2; born++) {
        if (fork() != 0)
            continue;
        if (born == 0)
            setsid();
        if (write(ready, "x", 1) != 1)
            _exit(1);
        depth--;                   /* from here on this is the child, with two to come of its own */
        born = -1;
    }
    for (;;)
        pause();
}

static void plant(bool stubborn)
{
    int ends[2];
    char byte;
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        close(ends[0]);
        setsid();
        grow(DEPTH, ends[1], stubborn);
    }
    close(ends[1]);
    for (int i = 0; i < MEMBERS; i++)
        assert_int_equal(read(ends[0], &byte, 1), 1);
    close(ends[0]);
}

/* Reaps until nothing is left; killed things come to us as their parents end. */
static int reap_all(struct sweep *sweep, int signal_number)
{
    int n = 0, status;
    while (waitpid(-1, &status, 0) > 0) {
        n++;
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), signal_number);
        if (signal_number == SIGKILL)
            sweep_signal(sweep, SIGKILL, 0);
    }
    assert_int_equal(errno, ECHILD);
    return n;
}

static void check(bool slow)
{
    struct sweep sweep = {.slow = slow};
    assert_int_equal(sweep_signal(&sweep, SIGKILL, 0), 0);
    assert_int_equal(sweep.slow, slow);

    /* What ends at SIGTERM. */
    plant(false);
    assert_int_equal(sweep_signal(&sweep, SIGTERM, 0), MEMBERS);
    assert_true(reap_all(&sweep, SIGTERM) >= 1);

    /* What doesn't: counted once, however often it is signalled. */
    sweep_reset(&sweep);
    plant(true);
    assert_int_equal(sweep_signal(&sweep, SIGTERM, 0), MEMBERS);
    assert_int_equal(sweep_signal(&sweep, SIGTERM, 0), 0);
    assert_int_equal(sweep_signal(&sweep, SIGKILL, 0), 0);
    reap_all(&sweep, SIGKILL);

    /* Without a SIGTERM before, all are counted by the kill. */
    sweep_reset(&sweep);
    plant(true);
    assert_int_equal(sweep_signal(&sweep, SIGKILL, 0), MEMBERS);
    reap_all(&sweep, SIGKILL);
    sweep_clear(&sweep);
}

static void test_by_children_files(void **state)
{
    (void)state;
    check(false);
}

static void test_by_all_of_proc(void **state)
{
    (void)state;
    check(true);
}

/* A group that had its SIGTERM is neither counted nor sent another; SIGKILL spares nobody. */
static void test_spared_group(void **state)
{
    struct sweep sweep = {0};
    (void)state;
    pid_t pid = fork();
    if (pid == 0) {
        setsid();
        for (;;)
            pause();
    }
    siginfo_t info = {0};
    while (getpgid(pid) != pid)
        sched_yield();
    assert_int_equal(sweep_signal(&sweep, SIGTERM, pid), 0);
    assert_int_equal(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG), 0);
    assert_int_equal(info.si_pid, 0);
    assert_int_equal(sweep_signal(&sweep, SIGKILL, pid), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    sweep_clear(&sweep);
    sweep_clear(&sweep);
}

static int become_subreaper(void **state)
{
    (void)state;
    return prctl(PR_SET_CHILD_SUBREAPER, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_children_files),
        cmocka_unit_test(test_by_all_of_proc),
        cmocka_unit_test(test_spared_group),
    };
    return cmocka_run_group_tests(tests, become_subreaper, NULL);
}
