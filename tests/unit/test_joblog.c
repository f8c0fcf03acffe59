/* The log of the jobs: what its lines say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ventilator/cli_output.h"

struct world {
    struct loop *loop;
    int fd;
    struct joblog *log;
    Wire__Options options;
    Wire__Range range;
};

static int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    wire__options__init(&w->options);
    wire__range__init(&w->range);
    w->loop = loop_new();
    w->fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    assert_true(w->loop != NULL && w->fd >= 0);
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    joblog_destroy(&w->log);
    close(w->fd);
    loop_destroy(&w->loop);
    free(w);
    return 0;
}

static void begin(struct world *w, bool live, const char *const *items, size_t n_items)
{
    struct joblog_config config = {.fd = w->fd, .admitted = 1000 * NS_PER_S, .live = live, .items = items, .n_items = n_items};
    joblog_destroy(&w->log);
    w->log = joblog_new(w->loop, &config);
    assert_non_null(w->log);
    joblog_of_batch(w->log, &w->options);
    joblog_writer(w->log)->pending.len = 0;
}

static void expect(struct world *w, const struct stream_task *task, const char *line)
{
    struct text *out = &joblog_writer(w->log)->pending;
    joblog_put(w->log, task, (wall_t){2000 * NS_PER_S});
    text_add(out, "", 1);
    assert_string_equal((const char *)out->bytes, line);
    out->len = 0;
}

static struct stream_task task_of(uint64_t index, Wire__Verdict verdict)
{
    return (struct stream_task){.index = index, .verdict = verdict, .attempts = 1, .worker = "w1", .queued_us = 2500000, .run_us = 1250000,
                                .bytes = 12, .slot = 3, .sentence = ""};
}

static void a_line_has_gnu_parallel_s_columns(void **state)
{
    struct world *w = *state;
    char *words[] = {(char[]){"echo"}, (char[]){"{#}"}, (char[]){"{%}"}, (char[]){"{}"}};
    static const char *const items[] = {"a b", "it's"};
    w->options.command = words;
    w->options.n_command = 4;
    begin(w, false, items, 2);
    struct stream_task task = task_of(0, WIRE__VERDICT__OK);
    expect(w, &task, "1\tw1\t1002.500\t     1.250\t0\t12\t0\t0\techo 1 3 'a b'\n");
    task.index = 1;
    expect(w, &task, "2\tw1\t1002.500\t     1.250\t0\t12\t0\t0\techo 2 3 'it'\\''s'\n");
    task.index = 2;          /* an item that isn't known here */
    expect(w, &task, "3\tw1\t1002.500\t     1.250\t0\t12\t0\t0\techo {#} {%} {}\n");
    begin(w, true, items, 2);
    task.index = 0;
    expect(w, &task, "1\tw1\t1998.750\t     1.250\t0\t12\t0\t0\techo 1 3 'a b'\n");
}

static void exit_values_and_signals(void **state)
{
    struct world *w = *state;
    w->options.handler = (char *)(uintptr_t)"resize";
    begin(w, false, NULL, 0);
    struct stream_task task = task_of(0, WIRE__VERDICT__FAILED);
    task.has_code = true;
    task.code = 7;
    expect(w, &task, "1\tw1\t1002.500\t     1.250\t0\t12\t7\t0\tresize\n");
    task.has_code = false;
    task.signal = 9;
    expect(w, &task, "1\tw1\t1002.500\t     1.250\t0\t12\t0\t9\tresize\n");
    task.verdict = WIRE__VERDICT__DEADLINE_EXCEEDED;
    task.signal = 15;
    expect(w, &task, "1\tw1\t1002.500\t     1.250\t0\t12\t-1\t15\tresize\n");
    struct stream_task never = {.index = 4, .verdict = WIRE__VERDICT__CANCELLED, .worker = "", .sentence = ""};
    expect(w, &never, "5\t-\t1000.000\t     0.000\t0\t0\t-1\t0\tresize\n");
}

static void ranges_and_line_ends(void **state)
{
    struct world *w = *state;
    char *words[] = {(char[]){"printf"}, (char[]){"a\nb"}, (char[]){""}, (char[]){"{}"}};
    w->options.command = words;
    w->options.n_command = 4;
    w->range.first = -2;
    w->range.count = 3;
    w->range.step = 2;
    w->options.range = &w->range;
    begin(w, false, NULL, 0);
    struct stream_task task = task_of(2, WIRE__VERDICT__OK);
    joblog_put(w->log, &task, (wall_t){0});
    struct text *out = &joblog_writer(w->log)->pending;
    static const char line[] = "3\tw1\t1002.500\t     1.250\t0\t12\t0\t0\tprintf 'a\0b' '' 2\n";
    assert_int_equal(out->len, sizeof line - 1);
    assert_memory_equal(out->bytes, line, sizeof line - 1);
}

static void a_file_that_cannot_be_is_refused(void **state)
{
    struct why why = {""};
    (void)state;
    assert_int_equal(joblog_open("/dev/null/log", &why), -1);
    assert_non_null(strstr(why.text, "--joblog /dev/null/log"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_line_has_gnu_parallel_s_columns, setup, teardown),
        cmocka_unit_test_setup_teardown(exit_values_and_signals, setup, teardown),
        cmocka_unit_test_setup_teardown(ranges_and_line_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(a_file_that_cannot_be_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests_name("joblog", tests, NULL, NULL);
}
