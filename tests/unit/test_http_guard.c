/* Who may ask over HTTP: hosts, tokens, origins, and the buckets of addresses; and the bounds of histograms. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/histogram.h"
#include "ventilator/http.h"
#include "ventilator/http_guard.h"

#define TOKEN "0123456789abcdef"

static void hosts(void **state)
{
    (void)state;
    const char *names[] = {"Tower.example"};
    struct string_list list = {.items = names, .n = 1};
    struct guard open = {.names = NULL}, closed = {.names = &list};
    struct why why = {""};
    static const char *const good[] = {"localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:8080", "127.9.9.9:1", "[::1]", "[::1]:8080"};
    static const char *const bad[] = {"", ":80", "evil.example", "127.evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1",
                                      "[::2]", "[::1", "[::1]x", "evil.example:80@127.0.0.1"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_true(guard_host_ok(&open, good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(guard_host_ok(&open, bad[i]));
    assert_false(guard_host_ok(&open, NULL));
    assert_int_equal(guard_set_token(&closed, TOKEN, &why), 0);
    assert_true(guard_host_ok(&closed, "10.0.0.1:80"));
    assert_true(guard_host_ok(&closed, "[fe80::1]"));
    assert_true(guard_host_ok(&closed, "tower.example:443"));
    assert_false(guard_host_ok(&closed, "other.example"));
}

static void tokens(void **state)
{
    (void)state;
    struct guard guard = {.names = NULL};
    struct why why = {""};
    assert_true(guard_token_ok(&guard, NULL, NULL, NULL));
    static const char *const bad[] = {"", "short", "0123456789abcde", "0123456789abcdef ", "0123456789abcde;", "/none/of/these"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(guard_set_token(&guard, bad[i], &why), -1);
        assert_non_null(strstr(why.text, "--http-token"));
        assert_false(guard.needs_token);
    }
    assert_int_equal(guard_set_token(&guard, TOKEN, &why), 0);
    assert_false(guard_token_ok(&guard, NULL, NULL, NULL));
    assert_true(guard_token_ok(&guard, "Bearer " TOKEN, NULL, NULL));
    assert_true(guard_token_ok(&guard, "bearer " TOKEN, NULL, NULL));
    assert_true(guard_token_ok(&guard, "Basic x", TOKEN, NULL));
    assert_true(guard_token_ok(&guard, NULL, "wrong", TOKEN));
    assert_false(guard_token_ok(&guard, TOKEN, NULL, NULL));
    assert_false(guard_token_ok(&guard, "Bearer " TOKEN "0", NULL, NULL));
    assert_false(guard_token_ok(&guard, "Bearer 0123456789abcde", NULL, NULL));
    assert_false(guard_token_ok(&guard, "Bearer ", "", ""));
    /* Twice the token is as long as nothing, modulo its length. */
    assert_false(guard_token_ok(&guard, "Bearer " TOKEN TOKEN, NULL, NULL));
}

static void a_token_s_file(void **state)
{
    (void)state;
    char path[] = "/tmp/tarmac-token.XXXXXX";
    struct guard guard = {.names = NULL};
    struct why why = {""};
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, TOKEN "\nmore\n", sizeof TOKEN "\nmore"), (ssize_t)sizeof TOKEN "\nmore");
    close(fd);
    assert_int_equal(guard_set_token(&guard, path, &why), 0);
    unlink(path);
    assert_true(guard_token_ok(&guard, "Bearer " TOKEN, NULL, NULL));
}

static void origins(void **state)
{
    (void)state;
    const char *host = "127.0.0.1:8080";
    assert_true(guard_origin_ok(host, NULL, NULL, "1"));
    assert_true(guard_origin_ok(host, "http://127.0.0.1:8080", "same-origin", "1"));
    assert_true(guard_origin_ok(host, "https://127.0.0.1:8080", NULL, "1"));
    assert_true(guard_origin_ok(host, NULL, "none", "1"));
    assert_false(guard_origin_ok(host, NULL, NULL, NULL));
    assert_false(guard_origin_ok(host, NULL, NULL, "2"));
    assert_false(guard_origin_ok(host, "http://127.0.0.1:8081", NULL, "1"));
    assert_false(guard_origin_ok(host, "http://evil.example", NULL, "1"));
    assert_false(guard_origin_ok(host, "null", NULL, "1"));
    assert_false(guard_origin_ok(host, NULL, "cross-site", "1"));
    assert_false(guard_origin_ok(host, NULL, "same-site", "1"));
    assert_false(guard_origin_ok(NULL, NULL, NULL, "1"));
}

static void buckets_empty_and_fill(void **state)
{
    (void)state;
    struct guard guard = {.names = NULL};
    mono_t now = {NS_PER_S};
    unsigned taken = 0;
    while (guard_take(&guard, now, "10.0.0.1", 1))
        taken++;
    assert_int_equal(taken, (unsigned)GUARD_BURST);
    assert_true(guard_take(&guard, now, "10.0.0.2", 1));
    now = mono_add(now, NS_PER_S);
    assert_true(guard_take(&guard, now, "10.0.0.1", 1));
    /* However long it floods, it is heard again some seconds after it stops. */
    for (unsigned i = 0; i < 100000; i++)
        guard_take(&guard, now, "10.0.0.1", 1);
    assert_false(guard_take(&guard, now, "10.0.0.1", 1));
    assert_true(guard_take(&guard, mono_add(now, 6 * NS_PER_S), "10.0.0.1", 1));
    guard_release(&guard);
}

/* More addresses than are told apart cost no more memory than those; nobody is shut out by them. */
static void addresses_are_bounded(void **state)
{
    (void)state;
    struct guard guard = {.names = NULL};
    mono_t now = {NS_PER_S};
    char address[32];
    for (unsigned i = 0; i < 10 * GUARD_ADDRESSES; i++) {
        snprintf(address, sizeof address, "fd00::%x", i);
        assert_true(guard_take(&guard, now, address, 1));
    }
    assert_false(guard_take(&guard, now, "an address that is longer than any address can be, by far, is none", 1));
    guard_release(&guard);
}

static void where_to_listen(void **state)
{
    (void)state;
    struct why why = {""};
    static const char *const good[] = {"127.0.0.1:0", "localhost:8080", "[::1]:80", "127.1.2.3:1"};
    static const char *const bad[] = {"", ":80", "8080", "127.0.0.1", "127.0.0.1:65536", "127.0.0.1:x", "example.com:80", "[::1:80", "::1:80", "127.0.0.1:-1"};
    static const char *const others[] = {"0.0.0.0:80", "[::]:80", "10.0.0.1:80"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(http_check(good[i], NULL, &why), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(http_check(bad[i], TOKEN, &why), -1);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_int_equal(http_check(others[i], NULL, &why), -1);
        assert_non_null(strstr(why.text, "--http-token"));
        assert_int_equal(http_check(others[i], TOKEN, &why), 0);
    }
}

static void histograms(void **state)
{
    (void)state;
    struct histogram h = {0}, earlier;
    double us;
    assert_false(histogram_quantile(&h, 0.5, &us));
    histogram_add(&h, 0, 1);
    histogram_add(&h, histogram_bound(0), 1);
    assert_int_equal(h.buckets[0], 2);
    histogram_add(&h, histogram_bound(0) + 1, 1);
    assert_int_equal(h.buckets[1], 1);
    histogram_add(&h, UINT64_MAX / 4, 2);
    assert_int_equal(h.buckets[HISTOGRAM_BOUNDS], 2);
    for (size_t i = 1; i < HISTOGRAM_BOUNDS; i++)
        assert_true(histogram_bound(i) > histogram_bound(i - 1));
    earlier = h;
    histogram_add(&h, 1000, 100);
    struct histogram more = histogram_since(&h, &earlier);
    assert_int_equal(histogram_count(&more), 100);
    assert_int_equal(more.sum_us, 100000);
    assert_true(histogram_quantile(&more, 0.5, &us));
    assert_true(us > 500 && us <= 1000);
    assert_true(histogram_quantile(&more, 1, &us));
    assert_true(us >= 999 && us <= 1000);
    /* It was begun anew: all of it is more. */
    more = histogram_since(&earlier, &h);
    assert_int_equal(histogram_count(&more), histogram_count(&earlier));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts), cmocka_unit_test(tokens), cmocka_unit_test(a_token_s_file), cmocka_unit_test(origins),
        cmocka_unit_test(buckets_empty_and_fill), cmocka_unit_test(addresses_are_bounded), cmocka_unit_test(where_to_listen),
        cmocka_unit_test(histograms),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
