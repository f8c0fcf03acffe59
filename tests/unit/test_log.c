/* Logs: the line in both formats, what is quoted and escaped, where it is cut, and that lines of
 * many threads stay whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"

static int log_fd, stderr_kept;

static void capture(void)
{
    log_fd = memfd_create("log", MFD_CLOEXEC);
    stderr_kept = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    assert_true(log_fd >= 0 && stderr_kept >= 0);
    /* A memfd has no lock on its position: only appending keeps the writes of threads apart. */
    assert_int_equal(fcntl(log_fd, F_SETFL, O_APPEND), 0);
    dup2(log_fd, STDERR_FILENO);
}

/* All that was written since capture; free it. */
static char *captured(void)
{
    struct stat st;
    dup2(stderr_kept, STDERR_FILENO);
    close(stderr_kept);
    assert_int_equal(fstat(log_fd, &st), 0);
    char *text = calloc(1, (size_t)st.st_size + 1);
    assert_non_null(text);
    assert_int_equal(pread(log_fd, text, (size_t)st.st_size, 0), st.st_size);
    close(log_fd);
    return text;
}

/* The line without its time, whose form is checked. */
static void assert_line(char *line, const char *wanted)
{
    static const char form[] = "dddd-dd-ddTdd:dd:dd.ddddddZ";
    assert_true(strlen(line) > sizeof form);
    for (size_t i = 0; i < sizeof form - 1; i++)
        assert_true(form[i] == 'd' ? line[i] >= '0' && line[i] <= '9' : line[i] == form[i]);
    assert_string_equal(line + sizeof form, wanted);
    free(line);
}

static json_t *json_line(char *line)
{
    json_error_t error;
    json_t *object = json_loads(line, 0, &error);
    if (!object)
        fail_msg("%s in: %s", error.text, line);
    free(line);
    return object;
}

static void assert_json(const json_t *object, const char *key, const char *value)
{
    assert_non_null(json_object_get(object, key));
    assert_string_equal(json_string_value(json_object_get(object, key)), value);
}

/* First in the list: log_setup is a thing of the whole process. */
static void nothing_is_logged_until_told(void **state)
{
    (void)state;
    capture();
    log_event(LOG_ERROR, "lost", NULL);
    char *text = captured();
    assert_string_equal(text, "");
    free(text);
    assert_false(log_wanted(LOG_ERROR));
}

static void text_lines(void **state)
{
    (void)state;
    log_setup("sink", LOG_TEXT, LOG_INFO);
    capture();
    log_event(LOG_INFO, "batch_admitted", "batch", "b7k2", "tasks", log_u64(10000000), NULL);
    assert_line(captured(), "info sink batch_admitted batch=b7k2 tasks=10000000\n");
    capture();
    log_event(LOG_WARN, "x", "a", "", "b", "two words", "c", "q\"\\=", "d", "l1\nl2\t\x1B[31m", NULL);
    assert_line(captured(), "warn sink x a=\"\" b=\"two words\" c=\"q\\\"\\\\=\" d=\"l1\\nl2\\t\\x1b[31m\"\n");
    capture();
    log_event(LOG_ERROR, "x", "a", "h\xC3\xA9", "b", "\xC3(", "c", "\xC2\x9B", "d", "\xED\xA0\x80", "a key", "v", NULL);
    assert_line(captured(), "error sink x a=\"h\xC3\xA9\" b=\"\\xc3(\" c=\"\\xc2\\x9b\" "
                            "d=\"\\xed\\xa0\\x80\" \"a key\"=v\n");
}

static void json_lines(void **state)
{
    (void)state;
    log_setup("sink", LOG_JSON, LOG_INFO);
    capture();
    log_event(LOG_INFO, "x", "name", "a\"b\\\n\x01", "bytes", "\xFF", "euro", "\xE2\x82\xAC", "n", log_i64(-5),
              "ms", log_ms(1234567), "digits", "12", "a\"key", "v", NULL);
    json_t *object = json_line(captured());
    assert_json(object, "level", "info");
    assert_json(object, "program", "sink");
    assert_json(object, "event", "x");
    assert_json(object, "name", "a\"b\\\n\x01");
    assert_json(object, "bytes", "\xEF\xBF\xBD");
    assert_json(object, "euro", "\xE2\x82\xAC");
    assert_json(object, "digits", "12");
    assert_json(object, "a\"key", "v");
    assert_int_equal(json_integer_value(json_object_get(object, "n")), -5);
    assert_true(json_is_real(json_object_get(object, "ms")));
    json_decref(object);
}

static void a_missing_value_ends_the_line(void **state)
{
    (void)state;
    const char *missing = NULL;
    log_setup("sink", LOG_TEXT, LOG_INFO);
    capture();
    log_event(LOG_INFO, "x", "a", "1", "b", missing, NULL);
    assert_line(captured(), "info sink x a=1 b=-\n");
    log_setup("sink", LOG_JSON, LOG_INFO);
    capture();
    log_event(LOG_INFO, "x", "b", missing, NULL);
    json_t *object = json_line(captured());
    assert_true(json_is_null(json_object_get(object, "b")));
    json_decref(object);
}

static void levels(void **state)
{
    (void)state;
    log_setup("sink", LOG_TEXT, LOG_WARN);
    capture();
    log_event(LOG_INFO, "not_this", NULL);
    log_event(LOG_DEBUG, "nor_this", NULL);
    errno = EDOM;
    log_event(LOG_WARN, "this", NULL);
    assert_int_equal(errno, EDOM);
    assert_line(captured(), "warn sink this\n");
    assert_true(log_wanted(LOG_ERROR));
    assert_false(log_wanted(LOG_INFO));
}

/* Whatever the length, and wherever the cut falls in an escape or a character: a whole line. */
static void long_lines_are_cut_whole(void **state)
{
    (void)state;
    static const char *const fills[] = {"x", "\n", "\xE2\x82\xAC", "\xFF", " "};
    char value[5000], second[] = "after";
    for (size_t f = 0; f < sizeof fills / sizeof *fills; f++)
        for (size_t lead = 0; lead < 8; lead++) {
            memset(value, 'a', lead);
            size_t n = lead, step = strlen(fills[f]);
            for (; n + step < sizeof value; n += step)
                memcpy(value + n, fills[f], step);
            value[n] = '\0';
            log_setup("sink", LOG_JSON, LOG_INFO);
            capture();
            log_event(LOG_INFO, "x", "long", value, "second", second, NULL);
            char *line = captured();
            assert_true(strlen(line) <= 4096 && strlen(line) > 4000);
            assert_int_equal(line[strlen(line) - 1], '\n');
            json_t *object = json_line(line);
            assert_true(json_is_true(json_object_get(object, "truncated")));
            assert_null(json_object_get(object, "second"));
            json_decref(object);
            log_setup("sink", LOG_TEXT, LOG_INFO);
            capture();
            log_event(LOG_INFO, "x", "long", value, NULL);
            line = captured();
            assert_true(strlen(line) <= 4096 && strlen(line) > 4000);
            assert_string_equal(line + strlen(line) - 16, " truncated=true\n");
            free(line);
        }
}

/* The pairs end anywhere, also within a key, and the object is still one. */
static void many_pairs_are_cut_whole(void **state)
{
    (void)state;
    char value[4096];
    log_setup("sink", LOG_JSON, LOG_INFO);
    for (size_t len = 3880; len < 4060; len++) {
        memset(value, 'v', len);
        value[len] = '\0';
        capture();
        log_event(LOG_INFO, "x", "first", value, "key", "value", "number", log_u64(123456), NULL);
        json_decref(json_line(captured()));
    }
}

static void numbers(void **state)
{
    (void)state;
    assert_string_equal(log_u64(ULLONG_MAX), "18446744073709551615");
    assert_string_equal(log_i64(LLONG_MIN), "-9223372036854775808");
    assert_string_equal(log_ms(0), "0.000");
    assert_string_equal(log_ms(1500000), "1.500");
    assert_string_equal(log_ms(-1500000), "-1.500");
    assert_string_equal(log_ms(-999), "0.000");
    assert_string_equal(log_ms(LLONG_MIN), "-9223372036854.775");
    /* Sixteen at once. */
    const char *first = log_u64(1);
    for (unsigned i = 2; i <= 16; i++)
        log_u64(i);
    assert_string_equal(first, "1");
}

static void *log_many(void *arg)
{
    for (unsigned i = 0; i < 200; i++)
        log_event(LOG_INFO, "x", "thread", arg, "n", log_u64(i), "fill", "0123456789012345678901234567890", NULL);
    return NULL;
}

static void lines_of_threads_stay_whole(void **state)
{
    (void)state;
    static char names[2][2] = {"a", "b"};
    pthread_t threads[2];
    int lines = 0;
    log_setup("sink", LOG_JSON, LOG_INFO);
    capture();
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_many, names[i]), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    char *text = captured(), *at = text, *line;
    while ((line = strsep(&at, "\n")) && *line) {
        json_decref(json_line(strdup(line)));
        lines++;
    }
    assert_int_equal(lines, 400);
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_logged_until_told),
        cmocka_unit_test(text_lines),
        cmocka_unit_test(json_lines),
        cmocka_unit_test(a_missing_value_ends_the_line),
        cmocka_unit_test(levels),
        cmocka_unit_test(long_lines_are_cut_whole),
        cmocka_unit_test(many_pairs_are_cut_whole),
        cmocka_unit_test(numbers),
        cmocka_unit_test(lines_of_threads_stay_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
