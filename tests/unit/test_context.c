/* Contexts: what Go's package promises, redone in C; and what is ours: descriptors, references, moved deadlines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "tarmac/context_private.h"

#define PARENT_TEXT "000102030405060708090a0b0c0d0e0f/41/5/3"

static bool readable(tarmac_context *c, int ms)
{
    struct pollfd p = {.fd = tarmac_done(c), .events = POLLIN};
    assert_true(p.fd >= 0);
    return poll(&p, 1, ms) == 1;
}

static void assert_cause(tarmac_context *c, const char *wanted)
{
    char out[100];
    assert_string_equal(tarmac_cause(c, out, sizeof out), wanted);
}

static void background_never_ends(void **state)
{
    (void)state;
    tarmac_context *b = tarmac_background(), *same = b;
    tarmac_cancel(b, "no");
    assert_int_equal(tarmac_err(b), TARMAC_OK);
    assert_cause(b, "");
    assert_int_equal(tarmac_done(b), -1);
    assert_int_equal(tarmac_deadline(b).ns, TARMAC_NEVER.ns);
    assert_int_equal(tarmac_left(b), INT64_MAX);
    assert_null(tarmac_value(b, "user"));
    tarmac_release(&same);
    tarmac_release(&same);
    assert_int_equal(tarmac_err(tarmac_background()), TARMAC_OK);
}

static void cancel_travels_down_and_not_up(void **state)
{
    (void)state;
    tarmac_context *top = tarmac_with_cancel(tarmac_background());
    tarmac_context *left = tarmac_with_cancel(top), *right = tarmac_with_cancel(top);
    tarmac_context *leaf = tarmac_with_value(left, "user", "ada"), *below = tarmac_with_cancel(leaf);
    assert_false(readable(below, 0));
    tarmac_cancel(left, "the user left");
    assert_int_equal(tarmac_err(top), TARMAC_OK);
    assert_int_equal(tarmac_err(right), TARMAC_OK);
    assert_int_equal(tarmac_err(left), TARMAC_CANCELLED);
    assert_int_equal(tarmac_err(leaf), TARMAC_CANCELLED);
    assert_int_equal(tarmac_err(below), TARMAC_CANCELLED);
    assert_cause(below, "the user left");
    assert_true(readable(below, 0));
    assert_true(readable(leaf, 0));    /* Asked for only afterwards. */
    assert_false(readable(right, 0));
    tarmac_cancel(below, "again");
    assert_cause(below, "the user left");

    /* Born of what has ended. */
    tarmac_context *late = tarmac_with_cancel(leaf);
    assert_int_equal(tarmac_err(late), TARMAC_CANCELLED);
    assert_cause(late, "the user left");
    assert_true(readable(late, 0));
    tarmac_cancel(right, NULL);
    assert_cause(right, "context cancelled");
    for (tarmac_context **c = (tarmac_context *[]){top, left, right, leaf, below, late, NULL}; *c; c++)
        tarmac_release(&(tarmac_context *){*c});
}

static void deadlines_only_tighten(void **state)
{
    (void)state;
    tarmac_context *hour = tarmac_with_timeout(tarmac_background(), 3600 * TARMAC_S);
    tarmac_context *longer = tarmac_with_timeout(hour, 7200 * TARMAC_S), *none = tarmac_with_cancel(hour);
    tarmac_context *passed = tarmac_with_timeout(hour, 0), *below = tarmac_with_timeout(passed, TARMAC_S);
    assert_int_equal(tarmac_deadline(longer).ns, tarmac_deadline(hour).ns);
    assert_int_equal(tarmac_deadline(none).ns, tarmac_deadline(hour).ns);
    assert_true(tarmac_left(longer) > 3500 * TARMAC_S && tarmac_left(longer) <= 3600 * TARMAC_S);
    assert_int_equal(tarmac_err(passed), TARMAC_DEADLINE_EXCEEDED);
    assert_cause(passed, "context deadline exceeded");
    assert_int_equal(tarmac_err(below), TARMAC_DEADLINE_EXCEEDED);
    assert_int_equal(tarmac_left(below), 0);
    assert_true(readable(below, 0));
    tarmac_cancel(passed, "too late to matter");
    assert_cause(passed, "context deadline exceeded");
    assert_int_equal(tarmac_err(hour), TARMAC_OK);
    tarmac_context *never = tarmac_with_timeout(tarmac_background(), INT64_MAX);
    assert_int_equal(tarmac_deadline(never).ns, INT64_MAX);
    for (tarmac_context **c = (tarmac_context *[]){hour, longer, none, passed, below, never, NULL}; *c; c++)
        tarmac_release(&(tarmac_context *){*c});
}

/* A deadline makes the descriptor readable by itself. */
static void a_deadline_wakes_whoever_polls(void **state)
{
    (void)state;
    tarmac_context *c = tarmac_with_timeout(tarmac_background(), 20 * TARMAC_MS), *below = tarmac_with_cancel(c);
    assert_true(readable(below, 10000));
    assert_int_equal(tarmac_err(below), TARMAC_DEADLINE_EXCEEDED);
    assert_int_equal(tarmac_sleep(below, 3600 * TARMAC_S), TARMAC_DEADLINE_EXCEEDED);
    assert_int_equal(tarmac_sleep(tarmac_background(), TARMAC_MS), TARMAC_OK);
    tarmac_release(&below);
    tarmac_release(&c);
}

static void values_are_found_upwards(void **state)
{
    (void)state;
    tarmac_context *a = tarmac_with_value(tarmac_background(), "user", "ada");
    tarmac_context *b = tarmac_with_value(a, "job", "7"), *c = tarmac_with_value(b, "user", "bob");
    tarmac_context *d = tarmac_with_timeout(c, TARMAC_S);
    assert_string_equal(tarmac_value(d, "user"), "bob");
    assert_string_equal(tarmac_value(d, "job"), "7");
    assert_string_equal(tarmac_value(b, "user"), "ada");
    assert_null(tarmac_value(d, "User"));
    for (tarmac_context **at = (tarmac_context *[]){a, b, c, NULL}; *at; at++)
        tarmac_release(&(tarmac_context *){*at});
    assert_string_equal(tarmac_value(d, "job"), "7");    /* It keeps what it needs. */
    tarmac_release(&d);
}

static void values_that_cannot_be_sent_are_refused(void **state)
{
    (void)state;
    char *longest = calloc(1, 4098);
    assert_non_null(longest);
    memset(longest, 'x', 4096);
    const char *const bad[][2] = {{"", "x"}, {"1a", "x"}, {"a b", "x"}, {"=parent", "x"}, {"a", "\xff"}, {"traceparent", "junk"}, {NULL, "x"}, {"a", NULL}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        errno = 0;
        assert_null(tarmac_with_value(tarmac_background(), bad[i][0], bad[i][1]));
        assert_int_equal(errno, EINVAL);
    }
    tarmac_context *ok = tarmac_with_value(tarmac_background(), "a", longest);
    assert_non_null(ok);
    tarmac_release(&ok);
    longest[4096] = 'x';
    assert_null(tarmac_with_value(tarmac_background(), "a", longest));
    free(longest);
}

static void without_cancel_keeps_values_only(void **state)
{
    (void)state;
    tarmac_context *a = tarmac_with_value(tarmac_background(), "user", "ada"), *b = tarmac_with_timeout(a, 3600 * TARMAC_S);
    tarmac_context *c = tarmac_without_cancel(b);
    tarmac_cancel(b, NULL);
    assert_int_equal(tarmac_err(c), TARMAC_OK);
    assert_int_equal(tarmac_deadline(c).ns, INT64_MAX);
    assert_string_equal(tarmac_value(c, "user"), "ada");
    tarmac_cancel(c, NULL);
    assert_int_equal(tarmac_err(c), TARMAC_CANCELLED);
    for (tarmac_context **at = (tarmac_context *[]){a, b, c, NULL}; *at; at++)
        tarmac_release(&(tarmac_context *){*at});
}

static void a_moved_deadline_moves_what_took_it(void **state)
{
    (void)state;
    tarmac_context *top = tarmac_with_timeout(tarmac_background(), 3600 * TARMAC_S);
    tarmac_context *same = tarmac_with_cancel(top), *own = tarmac_with_timeout(top, 60 * TARMAC_S);
    int64_t before = tarmac_deadline(own).ns;
    assert_false(readable(same, 0));
    context_move_deadline(top, tarmac_in(7200 * TARMAC_S));
    assert_true(tarmac_left(same) > 7100 * TARMAC_S);
    assert_int_equal(tarmac_deadline(own).ns, before);
    context_move_deadline(top, tarmac_now());
    assert_true(readable(same, 10000));
    assert_int_equal(tarmac_err(own), TARMAC_DEADLINE_EXCEEDED);
    context_move_deadline(top, tarmac_in(3600 * TARMAC_S));
    assert_int_equal(tarmac_err(own), TARMAC_DEADLINE_EXCEEDED);    /* An end stays. */
    for (tarmac_context **at = (tarmac_context *[]){top, same, own, NULL}; *at; at++)
        tarmac_release(&(tarmac_context *){*at});
}

struct seen { size_t n; char text[200]; };

static void see(void *arg, const char *key, const char *value)
{
    struct seen *self = arg;
    self->n++;
    size_t len = strlen(self->text);
    snprintf(self->text + len, sizeof self->text - len, "%s=%s;", key, value);
}

static void the_environment_of_a_handler(void **state)
{
    (void)state;
    struct seen seen = {0};
    setenv("TARMAC_BUDGET_MS", "60000", 1);
    setenv("TARMAC_VALUES", "{\"user\":\"ada\",\"bad key\":\"x\",\"n\":1}", 1);
    setenv("TRACEPARENT", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", 1);
    setenv("TARMAC_PARENT", PARENT_TEXT, 1);
    tarmac_context *c = tarmac_from_environment();
    assert_non_null(c);
    assert_true(tarmac_left(c) > 50 * TARMAC_S && tarmac_left(c) <= 60 * TARMAC_S);
    assert_string_equal(tarmac_value(c, CONTEXT_PARENT), PARENT_TEXT);
    tarmac_context *over = tarmac_with_value(c, "user", "bob");
    context_values(over, see, &seen);
    assert_string_equal(seen.text, "user=bob;traceparent=00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01;");
    tarmac_release(&over);
    tarmac_release(&c);

    setenv("TARMAC_VALUES", "junk", 1);
    setenv("TARMAC_BUDGET_MS", "soon", 1);
    unsetenv("TRACEPARENT");
    unsetenv("TARMAC_PARENT");
    c = tarmac_from_environment();
    assert_non_null(c);
    assert_int_equal(tarmac_left(c), INT64_MAX);
    unsetenv("TARMAC_VALUES");
    unsetenv("TARMAC_BUDGET_MS");
    tarmac_release(&c);
}

/* ---- many threads ---- */

struct crowd { tarmac_context *top; atomic_uint ended; };

static void *one_of_many(void *arg)
{
    struct crowd *crowd = arg;
    for (int i = 0; i < 300; i++) {
        tarmac_context *a = tarmac_with_timeout(crowd->top, 3600 * TARMAC_S), *b = tarmac_with_value(a, "k", "v");
        if (i % 3 == 0)
            tarmac_cancel(a, "by itself");
        (void)tarmac_done(b);
        (void)tarmac_err(b);
        tarmac_release(&a);
        tarmac_release(&b);
    }
    if (tarmac_sleep(crowd->top, 3600 * TARMAC_S) == TARMAC_CANCELLED)
        atomic_fetch_add(&crowd->ended, 1);
    return NULL;
}

static void threads_share_a_tree(void **state)
{
    (void)state;
    pthread_t threads[8];
    struct crowd crowd = {.top = tarmac_with_cancel(tarmac_background())};
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, one_of_many, &crowd), 0);
    for (int i = 0; i < 200; i++) {
        tarmac_context *c = tarmac_with_cancel(crowd.top);
        tarmac_release(&c);
    }
    tarmac_cancel(crowd.top, NULL);
    for (size_t i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&crowd.ended), 8);
    tarmac_release(&crowd.top);
}

static void names(void **state)
{
    (void)state;
    for (int code = TARMAC_OK; code >= TARMAC_CLOSED; code--)
        assert_string_not_equal(tarmac_code_name(code), "unknown");
    assert_string_equal(tarmac_code_name(5), "unknown");
    assert_string_equal(tarmac_verdict_name(TARMAC_V_LOST), "lost");
    assert_string_equal(tarmac_verdict_name(0), "none");
    assert_string_equal(tarmac_verdict_name(7), "none");
    assert_true(strlen(tarmac_version()) > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(background_never_ends), cmocka_unit_test(cancel_travels_down_and_not_up),
        cmocka_unit_test(deadlines_only_tighten), cmocka_unit_test(a_deadline_wakes_whoever_polls),
        cmocka_unit_test(values_are_found_upwards), cmocka_unit_test(values_that_cannot_be_sent_are_refused),
        cmocka_unit_test(without_cancel_keeps_values_only), cmocka_unit_test(a_moved_deadline_moves_what_took_it),
        cmocka_unit_test(the_environment_of_a_handler), cmocka_unit_test(threads_share_a_tree), cmocka_unit_test(names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
