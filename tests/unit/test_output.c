/* Standard output that can't be written: in processes of their own, each with another one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/bug.h"
#include "common/output.h"

enum place { TO_NULL, TO_FULL, TO_NOBODY };

static void point_to(enum place place)
{
    static const char *const paths[] = {[TO_NULL] = "/dev/null", [TO_FULL] = "/dev/full"};
    int ends[2], fd;
    if (place == TO_NOBODY) {
        if (pipe(ends) < 0)
            _exit(99);
        close(ends[0]);
        fd = ends[1];
        signal(SIGPIPE, SIG_IGN);
    } else if ((fd = open(paths[place], O_WRONLY | O_CLOEXEC)) < 0) {
        _exit(99);
    }
    if (dup2(fd, STDOUT_FILENO) < 0)
        _exit(99);
}

static void print_letters(size_t n)
{
    for (size_t i = 0; i < n; i++)
        putchar('x');
}

/* The exit code of a program that prints n bytes there and ends with `code`; what it says goes to ret_words. */
static int exit_code(enum place place, size_t n, bool forget, int code, char ret_words[200])
{
    int said[2], status;
    fflush(NULL);
    assert_int_equal(pipe(said), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        point_to(place);
        dup2(said[1], STDERR_FILENO);
        print_letters(n);
        if (forget && output_flush() != 0)
            output_forget();
        _exit(output_end("prog", code));
    }
    close(said[1]);
    ssize_t len = read(said[0], ret_words, 199);
    assert_true(len >= 0);
    ret_words[len] = '\0';
    close(said[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void what_arrives_changes_nothing(void **state)
{
    char words[200];
    (void)state;
    assert_int_equal(exit_code(TO_NULL, 100, false, 0, words), 0);
    assert_int_equal(exit_code(TO_NULL, 100000, false, 4, words), 4);
    assert_int_equal(exit_code(TO_FULL, 0, false, 0, words), 0);
    assert_string_equal(words, "");
}

static void what_is_lost_is_said(void **state)
{
    char words[200];
    (void)state;
    assert_int_equal(exit_code(TO_FULL, 1, false, 0, words), EXIT_DISK);
    assert_string_equal(words, "prog: standard output can't be written: No space left on device\n");
    assert_int_equal(exit_code(TO_FULL, 1, false, 4, words), 4);
    assert_string_equal(words, "prog: standard output can't be written: No space left on device\n");
    /* Whatever the buffer has left when the end comes. */
    for (size_t n = BUFSIZ - 2; n < BUFSIZ + 3; n++) {
        assert_int_equal(exit_code(TO_FULL, n, false, 0, words), EXIT_DISK);
        assert_non_null(strstr(words, "standard output can't be written: "));
    }
}

static void who_reads_no_more_is_told_nothing(void **state)
{
    char words[200];
    (void)state;
    for (size_t n = BUFSIZ - 2; n < BUFSIZ + 3; n++) {
        assert_int_equal(exit_code(TO_NOBODY, n, false, 0, words), 1);
        assert_string_equal(words, "");
    }
}

static void what_nobody_misses_can_be_forgotten(void **state)
{
    char words[200];
    (void)state;
    assert_int_equal(exit_code(TO_FULL, 10, true, 0, words), 0);
    assert_int_equal(exit_code(TO_NOBODY, 100000, true, 0, words), 0);
    assert_string_equal(words, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_arrives_changes_nothing),
        cmocka_unit_test(what_is_lost_is_said),
        cmocka_unit_test(who_reads_no_more_is_told_nothing),
        cmocka_unit_test(what_nobody_misses_can_be_forgotten),
    };
    return cmocka_run_group_tests_name("output", tests, NULL, NULL);
}
