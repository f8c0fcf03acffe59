/* The loop: the order of a turn, timers, and what callbacks may do to one another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <string.h>
#include <unistd.h>

#include "common/log.h"
#include "common/loop.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

/* A loop that is stopped with a failure when a test forgets to end it. */
struct world {
    struct loop *loop;
    struct loop_timer guard;
    char trace[256];
};

static void too_late(void *arg)
{
    struct world *w = arg;
    fail_msg("the loop still ran after 30 s, trace: %s", w->trace);
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    w->loop = loop_new();
    assert_non_null(w->loop);
    w->guard = (struct loop_timer){.fire = too_late, .arg = w};
    assert_int_equal(loop_timer_set(w->loop, &w->guard, mono_add(mono_now(), 30 * NS_PER_S)), 0);
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    loop_timer_clear(w->loop, &w->guard);
    loop_destroy(&w->loop);
    assert_null(w->loop);
    loop_destroy(&w->loop);
    free(w);
    return 0;
}

static void note(struct world *w, const char *what)
{
    size_t len = strlen(w->trace);
    snprintf(w->trace + len, sizeof w->trace - len, "%s%s", len ? " " : "", what);
}

/* One thing that notes its name, and then does `then`. */
struct actor {
    struct world *w;
    const char *name;
    void (*then)(struct actor *self);
    struct actor *other;
    struct loop_timer timer;
    struct loop_watch watch;
    struct loop_hook hook;
    uint32_t events;
    int count;
};

static void act(struct actor *a)
{
    a->count++;
    note(a->w, a->name);
    if (a->then)
        a->then(a);
}

static void on_fire(void *arg) { act(arg); }

static void on_ready(void *arg, uint32_t events)
{
    struct actor *a = arg;
    a->events = events;
    act(a);
}

static bool on_turn(void *arg)
{
    struct actor *a = arg;
    act(a);
    return a->events != 0;    /* Here: whether it has more to do. */
}

static void stop(struct actor *a) { loop_stop(a->w->loop); }

static struct actor actor(struct world *w, const char *name, void (*then)(struct actor *self))
{
    return (struct actor){.w = w, .name = name, .then = then, .watch.fd = -1};
}

static void set_timer(struct actor *a, mono_t at)
{
    a->timer.fire = on_fire;
    a->timer.arg = a;
    assert_int_equal(loop_timer_set(a->w->loop, &a->timer, at), 0);
}

/* Watches an eventfd that is readable and writable from the start. */
static void watch_ready_fd(struct actor *a, uint32_t events)
{
    a->watch = (struct loop_watch){.fd = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK), .ready = on_ready, .arg = a};
    assert_true(a->watch.fd >= 0);
    assert_int_equal(loop_watch(a->w->loop, &a->watch, events), 0);
    assert_true(a->watch.active);
}

static void unwatch_and_close(struct actor *a)
{
    loop_unwatch(a->w->loop, &a->watch);
    assert_false(a->watch.active);
    loop_unwatch(a->w->loop, &a->watch);
    if (a->watch.fd >= 0)
        close(a->watch.fd);
    a->watch.fd = -1;
}

static void run(struct world *w) { assert_int_equal(loop_run(w->loop), 0); }

/* ---- timers ---- */

static void timers_fire_in_order_and_not_early(void **state)
{
    struct world *w = *state;
    mono_t now = mono_now();
    struct actor a = actor(w, "a", NULL), b = actor(w, "b", NULL), c = actor(w, "c", stop), d = actor(w, "d", NULL);
    set_timer(&c, mono_add(now, 3 * NS_PER_MS));
    set_timer(&b, mono_add(now, 2 * NS_PER_MS));
    set_timer(&d, mono_add(now, 1 * NS_PER_MS));
    set_timer(&a, (mono_t){1});
    loop_timer_clear(w->loop, &d.timer);
    loop_timer_clear(w->loop, &d.timer);
    run(w);
    assert_string_equal(w->trace, "a b c");
    assert_true(loop_now(w->loop).ns >= now.ns + 3 * NS_PER_MS);
    assert_int_equal(a.timer.place, 0);
}

static void a_timer_moves_and_never_clears(void **state)
{
    struct world *w = *state;
    mono_t now = mono_now();
    struct actor a = actor(w, "a", NULL), b = actor(w, "b", NULL), c = actor(w, "c", stop);
    set_timer(&a, mono_add(now, 1 * NS_PER_MS));
    set_timer(&b, mono_add(now, 2 * NS_PER_MS));
    set_timer(&c, mono_add(now, 4 * NS_PER_MS));
    set_timer(&a, mono_add(now, 3 * NS_PER_MS));
    set_timer(&b, MONO_NEVER);
    assert_int_equal(b.timer.place, 0);
    run(w);
    assert_string_equal(w->trace, "a c");
}

static void set_again_now(struct actor *a)
{
    if (a->count < 3)
        set_timer(a, (mono_t){0});
    else
        loop_stop(a->w->loop);
}

static void a_timer_for_now_doesnt_keep_the_loop(void **state)
{
    struct world *w = *state;
    struct actor timer = actor(w, "t", set_again_now), fd = actor(w, "fd", NULL);
    set_timer(&timer, (mono_t){0});
    watch_ready_fd(&fd, EPOLLIN);
    run(w);
    assert_string_equal(w->trace, "fd t fd t fd t");
    unwatch_and_close(&fd);
}

static void clear_other(struct actor *a) { loop_timer_clear(a->w->loop, &a->other->timer); }

static void a_due_timer_can_be_cleared_by_another(void **state)
{
    struct world *w = *state;
    struct actor b = actor(w, "b", NULL), a = actor(w, "a", clear_other), c = actor(w, "c", stop);
    a.other = &b;
    set_timer(&a, (mono_t){1});
    set_timer(&b, (mono_t){2});
    set_timer(&c, (mono_t){3});
    run(w);
    assert_string_equal(w->trace, "a c");
}

static void free_itself(struct actor *a)
{
    loop_stop(a->w->loop);
    free(a);
}

static void a_timer_may_free_itself(void **state)
{
    struct world *w = *state;
    struct actor *a = malloc(sizeof *a);
    assert_non_null(a);
    *a = actor(w, "a", free_itself);
    set_timer(a, (mono_t){1});
    run(w);
}

struct drawn {
    struct loop_timer timer;
    struct drawn_world *world;
};
struct drawn_world {
    struct loop *loop;
    mono_t last;
    size_t fired;
};

static void check_order(void *arg)
{
    struct drawn *d = arg;
    assert_false(mono_before(d->timer.at, d->world->last));
    d->world->last = d->timer.at;
    d->world->fired++;
}

static void stop_loop(void *arg) { loop_stop(arg); }

static void many_timers_set_moved_and_cleared_keep_their_order(void **state)
{
    struct world *w = *state;
    static struct drawn drawn[1000];
    struct drawn_world world = {.loop = w->loop};
    uint64_t seed = 42;
    size_t set = 0;
    for (size_t i = 0; i < 20000; i++) {
        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407u;
        struct drawn *d = &drawn[(seed >> 33) % COUNT(drawn)];
        d->timer.fire = check_order;
        d->timer.arg = d;
        d->world = &world;
        bool clear = (seed >> 60) % 4 == 0;
        assert_int_equal(loop_timer_set(w->loop, &d->timer, clear ? MONO_NEVER : (mono_t){(int64_t)(seed >> 40)}), 0);
    }
    for (size_t i = 0; i < COUNT(drawn); i++)
        set += drawn[i].timer.place != 0;
    assert_true(set > 500);
    struct loop_timer last = {.fire = stop_loop, .arg = w->loop};
    assert_int_equal(loop_timer_set(w->loop, &last, (mono_t){INT64_C(1) << 24}), 0);
    run(w);
    assert_int_equal(world.fired, set);
}

/* ---- descriptors ---- */

static void unwatch_other(struct actor *a)
{
    unwatch_and_close(a->other);
    loop_stop(a->w->loop);
}

static void an_unwatched_descriptor_gets_nothing_from_the_same_batch(void **state)
{
    struct world *w = *state;
    struct actor a = actor(w, "one", unwatch_other), b = actor(w, "one", unwatch_other);
    a.other = &b;
    b.other = &a;
    watch_ready_fd(&a, EPOLLIN);
    watch_ready_fd(&b, EPOLLIN);
    run(w);
    assert_string_equal(w->trace, "one");    /* Whichever came first ended the other. */
    unwatch_and_close(&a);
    unwatch_and_close(&b);
}

/* The other's watch is ended, and its memory at once used for a descriptor that isn't ready. */
static void reuse_other(struct actor *a)
{
    struct actor *b = a->other;
    unwatch_and_close(b);
    b->watch = (struct loop_watch){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .ready = on_ready, .arg = b};
    assert_int_equal(loop_watch(a->w->loop, &b->watch, EPOLLIN), 0);
    loop_stop(a->w->loop);
}

static void a_reused_watch_doesnt_inherit_events(void **state)
{
    struct world *w = *state;
    struct actor a = actor(w, "one", reuse_other), b = actor(w, "one", reuse_other);
    a.other = &b;
    b.other = &a;
    watch_ready_fd(&a, EPOLLIN);
    watch_ready_fd(&b, EPOLLIN);
    run(w);
    assert_string_equal(w->trace, "one");
    unwatch_and_close(&a);
    unwatch_and_close(&b);
}

static void want_only_output(struct actor *a)
{
    assert_int_equal(loop_rewatch(a->w->loop, &a->other->watch, EPOLLOUT), 0);
    if (a->count + a->other->count == 2)
        loop_stop(a->w->loop);
}

static void a_rewatched_descriptor_gets_only_what_it_wants_now(void **state)
{
    struct world *w = *state;
    struct actor a = actor(w, "one", want_only_output), b = actor(w, "one", want_only_output);
    a.other = &b;
    b.other = &a;
    watch_ready_fd(&a, EPOLLIN | EPOLLOUT);
    watch_ready_fd(&b, EPOLLIN | EPOLLOUT);
    run(w);
    assert_int_equal((a.events | b.events), EPOLLIN | EPOLLOUT);
    assert_true(a.events == EPOLLOUT || b.events == EPOLLOUT);    /* The second of the two. */
    unwatch_and_close(&a);
    unwatch_and_close(&b);
}

static void wrong_watches_are_refused(void **state)
{
    struct world *w = *state;
    struct loop_watch watch = {.fd = -1, .ready = on_ready};
    assert_int_equal(loop_watch(w->loop, &watch, EPOLLIN), -EBADF);
    assert_false(watch.active);
    assert_int_equal(loop_rewatch(w->loop, &watch, EPOLLIN), -ENOENT);
    struct actor a = actor(w, "a", NULL);
    watch_ready_fd(&a, EPOLLIN);
    assert_int_equal(loop_watch(w->loop, &a.watch, EPOLLIN), -EEXIST);
    assert_true(a.watch.active);
    unwatch_and_close(&a);
}

/* ---- signals ---- */

static void on_signal(void *arg, int signal)
{
    struct world *w = arg;
    note(w, signal == SIGUSR1 ? "usr1" : "usr2");
    if (signal == SIGUSR2)
        loop_stop(w->loop);
}

static void signals_are_events(void **state)
{
    struct world *w = *state;
    const int wanted[] = {SIGUSR1, SIGUSR2}, wrong[] = {9999};
    sigset_t before, after;
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    assert_int_equal(loop_signals(w->loop, wrong, 1, on_signal, w), -EINVAL);
    assert_int_equal(loop_signals(w->loop, wanted, 2, on_signal, w), 0);
    assert_int_equal(loop_signals(w->loop, wanted, 2, on_signal, w), -EEXIST);
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    assert_int_equal(sigismember(&after, SIGUSR1), 1);
    assert_int_equal(raise(SIGUSR1), 0);
    assert_int_equal(raise(SIGUSR2), 0);
    run(w);
    assert_string_equal(w->trace, "usr1 usr2");
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ---- hooks and the turn ---- */

static void add(struct actor *a, bool more)
{
    a->hook = (struct loop_hook){.turn = on_turn, .arg = a};
    a->events = more;
    loop_add_hook(a->w->loop, &a->hook);
}

static void a_turn_has_its_order(void **state)
{
    struct world *w = *state;
    struct actor hook = actor(w, "hook", stop), second = actor(w, "second", NULL);
    struct actor timer = actor(w, "timer", NULL), fd = actor(w, "fd", NULL);
    add(&hook, false);
    add(&second, false);
    set_timer(&timer, (mono_t){1});
    watch_ready_fd(&fd, EPOLLIN);
    run(w);
    assert_string_equal(w->trace, "fd timer hook second");
    unwatch_and_close(&fd);
}

static void three_times(struct actor *a)
{
    a->events = a->count < 3;
    if (a->count == 3)
        loop_stop(a->w->loop);
}

static void a_hook_with_more_to_do_isnt_kept_waiting(void **state)
{
    struct world *w = *state;
    struct actor hook = actor(w, "h", three_times);
    struct actor start = actor(w, "t", NULL);
    set_timer(&start, (mono_t){1});
    add(&hook, true);
    run(w);    /* Nothing but the guard could end another wait. */
    assert_string_equal(w->trace, "t h h h");
}

/* As a call of the library does, which runs the loop only to wait: its last turn found nothing to do, then there was something. */
static void a_loop_that_is_told_to_go_on_doesnt_wait(void **state)
{
    struct world *w = *state;
    struct actor hook = actor(w, "h", stop);
    struct actor start = actor(w, "t", NULL);
    set_timer(&start, (mono_t){1});
    add(&hook, false);
    run(w);
    loop_go_on(w->loop);
    run(w);    /* Nothing but the guard could end another wait. */
    assert_string_equal(w->trace, "t h h");
}

static void remove_both(struct actor *a)
{
    loop_remove_hook(a->w->loop, &a->other->hook);
    loop_remove_hook(a->w->loop, &a->hook);
    loop_remove_hook(a->w->loop, &a->hook);
    loop_stop(a->w->loop);
}

static void hooks_can_be_removed_by_hooks(void **state)
{
    struct world *w = *state;
    struct actor a = actor(w, "a", remove_both), b = actor(w, "b", NULL), c = actor(w, "c", NULL);
    struct actor start = actor(w, "t", NULL);
    a.other = &b;
    add(&a, false);
    add(&b, false);
    add(&c, false);
    set_timer(&start, (mono_t){1});
    run(w);
    assert_string_equal(w->trace, "t a c");
}

static void a_stop_before_the_run_ends_it(void **state)
{
    struct world *w = *state;
    struct actor a = actor(w, "a", stop);
    loop_stop(w->loop);
    run(w);
    set_timer(&a, (mono_t){1});
    run(w);
    assert_string_equal(w->trace, "a");
}

/* ---- time that was lost ---- */

static void be_busy(struct actor *a)
{
    mono_t until = mono_add(loop_now(a->w->loop), 22 * NS_PER_MS);
    while (!mono_reached(mono_now(), until))
        continue;
    set_timer(a->other, (mono_t){1});
}

static void keep_stood_still(struct actor *a)
{
    a->timer.at.ns = loop_stood_still(a->w->loop);
    loop_stop(a->w->loop);
}

static void a_long_turn_is_standing_still_and_is_logged(void **state)
{
    struct world *w = *state;
    struct actor slow = actor(w, "slow", be_busy), after = actor(w, "after", keep_stood_still);
    slow.other = &after;
    set_timer(&slow, (mono_t){1});

    int log = memfd_create("log", MFD_CLOEXEC), stderr_kept = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    assert_true(log >= 0 && stderr_kept >= 0);
    log_setup("test", LOG_TEXT, LOG_DEBUG);
    dup2(log, STDERR_FILENO);
    run(w);
    dup2(stderr_kept, STDERR_FILENO);
    close(stderr_kept);
    log_setup("test", LOG_TEXT, LOG_ERROR);

    char text[1024] = "";
    assert_true(pread(log, text, sizeof text - 1, 0) > 0);
    close(log);
    assert_non_null(strstr(text, " test slow_turn ms="));
    assert_true(after.timer.at.ns >= 22 * NS_PER_MS);
}

static void waiting_as_meant_isnt_standing_still(void **state)
{
    struct world *w = *state;
    struct actor a = actor(w, "a", stop);
    mono_t at = mono_add(mono_now(), 20 * NS_PER_MS);
    set_timer(&a, at);
    run(w);
    int64_t late = mono_since(loop_now(w->loop), at);
    assert_true(loop_stood_still(w->loop) <= late);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(timers_fire_in_order_and_not_early),
        T(a_timer_moves_and_never_clears),
        T(a_timer_for_now_doesnt_keep_the_loop),
        T(a_due_timer_can_be_cleared_by_another),
        T(a_timer_may_free_itself),
        T(many_timers_set_moved_and_cleared_keep_their_order),
        T(an_unwatched_descriptor_gets_nothing_from_the_same_batch),
        T(a_reused_watch_doesnt_inherit_events),
        T(a_rewatched_descriptor_gets_only_what_it_wants_now),
        T(wrong_watches_are_refused),
        T(signals_are_events),
        T(a_turn_has_its_order),
        T(a_hook_with_more_to_do_isnt_kept_waiting),
        T(a_loop_that_is_told_to_go_on_doesnt_wait),
        T(hooks_can_be_removed_by_hooks),
        T(a_stop_before_the_run_ends_it),
        T(a_long_turn_is_standing_still_and_is_logged),
        T(waiting_as_meant_isnt_standing_still),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
