/* What systemd and health checks are told, by a socket and a file of the test's own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/notify.h"

struct world {
    struct loop *loop;
    struct notify *notify;
    struct loop_timer guard, stop;
    int socket;
    char dir[64], file[128], path[128];
    bool serving;
    int beats, stop_after;
};

static void too_late(void *arg)
{
    (void)arg;
    fail_msg("the loop still ran after 60 s");
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    snprintf(w->dir, sizeof w->dir, "/tmp/tarmac-notify-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    snprintf(w->file, sizeof w->file, "%s/health", w->dir);
    snprintf(w->path, sizeof w->path, "%s/socket", w->dir);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, w->path, strlen(w->path));
    w->socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_true(w->socket >= 0);
    assert_int_equal(bind(w->socket, (const struct sockaddr *)&address, sizeof address), 0);
    w->loop = loop_new();
    assert_non_null(w->loop);
    w->guard = (struct loop_timer){.fire = too_late, .arg = w};
    assert_int_equal(loop_timer_set(w->loop, &w->guard, mono_add(mono_now(), 60 * NS_PER_S)), 0);
    w->serving = true;
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    notify_destroy(&w->notify);
    notify_destroy(&w->notify);
    loop_timer_clear(w->loop, &w->guard);
    loop_destroy(&w->loop);
    close(w->socket);
    unlink(w->path);
    assert_int_equal(rmdir(w->dir), 0);      /* The file went with its notify. */
    free(w);
    return 0;
}

static bool is_serving(void *arg, char text[NOTIFY_TEXT])
{
    struct world *w = arg;
    if (++w->beats == w->stop_after)
        loop_stop(w->loop);
    snprintf(text, NOTIFY_TEXT, "%s", w->serving ? "three workers" : "waits for the ventilator");
    return w->serving;
}

static void begin(struct world *w, const char *notify_socket, const char *watchdog, const char *file)
{
    const struct notify_source source = {.serving = is_serving, .arg = w};
    struct why why = {""};
    assert_int_equal(notify_socket ? setenv("NOTIFY_SOCKET", notify_socket, 1) : unsetenv("NOTIFY_SOCKET"), 0);
    assert_int_equal(watchdog ? setenv("WATCHDOG_USEC", watchdog, 1) : unsetenv("WATCHDOG_USEC"), 0);
    w->notify = notify_new(w->loop, file, &source, &why);
    assert_string_equal(why.text, "");
    assert_non_null(w->notify);
    assert_null(getenv("NOTIFY_SOCKET"));
    assert_null(getenv("WATCHDOG_USEC"));
}

static void hear(struct world *w, const char *wanted)
{
    char got[512] = "";
    struct pollfd fd = {.fd = w->socket, .events = POLLIN};
    assert_int_equal(poll(&fd, 1, 30000), 1);
    ssize_t n = recv(w->socket, got, sizeof got - 1, 0);
    assert_true(n > 0);
    got[n] = '\0';
    assert_string_equal(got, wanted);
}

static void hear_nothing(struct world *w)
{
    struct pollfd fd = {.fd = w->socket, .events = POLLIN};
    assert_int_equal(poll(&fd, 1, 0), 0);
}

static void test_a_life(void **state)
{
    struct world *w = *state;
    begin(w, w->path, NULL, NULL);
    hear_nothing(w);
    notify_ready(w->notify);
    hear(w, "READY=1\n");
    hear(w, "STATUS=three workers\n");
    hear_nothing(w);
    notify_stopping(w->notify);
    notify_stopping(w->notify);
    hear(w, "STOPPING=1\n");
    hear_nothing(w);
}

static void test_the_watchdog_is_fed(void **state)
{
    struct world *w = *state;
    begin(w, w->path, "30000", NULL);        /* 30 ms: a beat each 10 */
    w->stop_after = 4;
    notify_ready(w->notify);
    assert_int_equal(loop_run(w->loop), 0);
    hear(w, "READY=1\n");
    hear(w, "STATUS=three workers\n");
    for (int i = 0; i < 4; i++)
        hear(w, "WATCHDOG=1\n");
}

static void test_the_watchdog_of_another_process(void **state)
{
    struct world *w = *state;
    setenv("WATCHDOG_PID", "1", 1);
    begin(w, w->path, "30000", NULL);
    assert_null(getenv("WATCHDOG_PID"));
    notify_ready(w->notify);
    hear(w, "READY=1\n");
    hear(w, "STATUS=three workers\n");
    hear_nothing(w);
}

static void test_an_abstract_name(void **state)
{
    struct world *w = *state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char name[64];
    int n = snprintf(name, sizeof name, "@tarmac-notify-%d", getpid());
    memcpy(address.sun_path + 1, name + 1, (size_t)n - 1);
    close(w->socket);
    w->socket = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(w->socket, (const struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n)), 0);
    begin(w, name, NULL, NULL);
    notify_ready(w->notify);
    hear(w, "READY=1\n");
}

static void test_a_watcher_that_is_gone_is_no_harm(void **state)
{
    struct world *w = *state;
    char nowhere[160];
    snprintf(nowhere, sizeof nowhere, "%s/nobody", w->dir);
    begin(w, nowhere, "1000000", NULL);
    notify_ready(w->notify);
    notify_stopping(w->notify);
    hear_nothing(w);
}

static void test_bad_places_are_refused(void **state)
{
    struct world *w = *state;
    const struct notify_source source = {.serving = is_serving, .arg = w};
    struct why why = {""};
    char file[160];
    setenv("NOTIFY_SOCKET", "relative", 1);
    assert_null(notify_new(w->loop, NULL, &source, &why));
    assert_non_null(strstr(why.text, "NOTIFY_SOCKET 'relative'"));
    assert_null(getenv("NOTIFY_SOCKET"));
    snprintf(file, sizeof file, "%s/no/health", w->dir);
    assert_null(notify_new(w->loop, file, &source, &why));
    assert_non_null(strstr(why.text, "--health-file"));
    assert_non_null(strstr(why.text, strerror(ENOENT)));
}

static void test_the_file(void **state)
{
    struct world *w = *state;
    struct why why = {""};
    begin(w, NULL, NULL, w->file);
    assert_int_equal(notify_health(w->file, &why), HEALTH_DEAD);     /* not serving yet */
    assert_non_null(strstr(why.text, "not the health file"));
    w->stop_after = 1;
    notify_ready(w->notify);
    assert_int_equal(notify_health(w->file, &why), HEALTH_SERVING);
    assert_string_equal(why.text, "three workers");
    w->serving = false;
    w->stop_after = 2;
    assert_int_equal(loop_run(w->loop), 0);
    w->stop_after = 3;
    assert_int_equal(loop_run(w->loop), 0);
    assert_int_equal(notify_health(w->file, &why), HEALTH_AWAY);
    assert_string_equal(why.text, "waits for the ventilator");
    w->serving = true;
    notify_stopping(w->notify);
    assert_int_equal(notify_health(w->file, &why), HEALTH_AWAY);
    assert_string_equal(why.text, "stopping");
    notify_destroy(&w->notify);
    assert_int_equal(notify_health(w->file, &why), HEALTH_DEAD);
    assert_non_null(strstr(why.text, strerror(ENOENT)));
}

static void test_a_file_that_nobody_beats(void **state)
{
    struct world *w = *state;
    struct why why = {""};
    FILE *file = fopen(w->file, "we");
    assert_non_null(file);
    fprintf(file, "serving %lld three workers   \n", (long long)(mono_now().ns / NS_PER_MS - (HEALTH_STALE_S + 1) * 1000));
    assert_int_equal(fclose(file), 0);
    assert_int_equal(notify_health(w->file, &why), HEALTH_DEAD);
    assert_non_null(strstr(why.text, "stands still"));
    assert_non_null(strstr(why.text, "(it said: three workers)"));
    unlink(w->file);
}

static void test_nobody_watches(void **state)
{
    struct world *w = *state;
    begin(w, NULL, "1000", "");
    notify_ready(w->notify);
    assert_int_equal(w->notify != NULL, 1);
    notify_stopping(w->notify);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_a_life), TEST(test_the_watchdog_is_fed), TEST(test_the_watchdog_of_another_process), TEST(test_an_abstract_name),
        TEST(test_a_watcher_that_is_gone_is_no_harm), TEST(test_bad_places_are_refused), TEST(test_the_file),
        TEST(test_a_file_that_nobody_beats), TEST(test_nobody_watches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
