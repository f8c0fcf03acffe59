/* The one loop of a process.
 *
 * What it keeps: an epoll set, whose entries point at the callers' watches; a binary heap of the
 * callers' timers; one timerfd, armed for the earliest of them. The timerfd is on CLOCK_BOOTTIME
 * because epoll's own timeout doesn't count while the machine is suspended, and deadlines do.
 *
 * What must hold: an event is delivered only to a watch that is still watched. Callbacks may
 * unwatch, close and free whatever they like, so unwatching clears what is left of the batch. */
#include "common/loop.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "common/bug.h"
#include "common/log.h"

#define BATCH 256                            /* events taken from epoll at once */
#define SLOW_TURN (20 * NS_PER_MS)
#define VERY_SLOW_TURN (1 * NS_PER_S)

struct loop {
    int epoll;
    bool stopping;
    bool busy;                               /* a hook said that it has more to do */
    bool firing;                             /* due timers are being fired */

    struct epoll_event batch[BATCH];
    int n_batch, next_in_batch;

    struct loop_timer **heap;                /* 1-based: heap[0] is not used */
    size_t n_timers, room;
    struct loop_watch alarm;                 /* the timerfd */
    mono_t alarm_at;                         /* what it is armed for; never later than the earliest timer while waiting */

    mono_t now;
    int64_t stood_still;

    struct loop_watch signals;
    void (*on_signal)(void *arg, int signal);
    void *on_signal_arg;

    struct loop_hook *hooks, *next_hook;     /* next_hook: where the walk of this turn goes on */
};

/* ---- the heap ---- */

static void heap_put(struct loop *self, struct loop_timer *timer, size_t place)
{
    self->heap[place] = timer;
    timer->place = place;
}

static void heap_up(struct loop *self, struct loop_timer *timer, size_t place)
{
    while (place > 1 && mono_before(timer->at, self->heap[place / 2]->at)) {
        heap_put(self, self->heap[place / 2], place);
        place /= 2;
    }
    heap_put(self, timer, place);
}

static void heap_down(struct loop *self, struct loop_timer *timer, size_t place)
{
    for (;;) {
        size_t child = 2 * place;
        if (child > self->n_timers)
            break;
        if (child < self->n_timers && mono_before(self->heap[child + 1]->at, self->heap[child]->at))
            child++;
        if (!mono_before(self->heap[child]->at, timer->at))
            break;
        heap_put(self, self->heap[child], place);
        place = child;
    }
    heap_put(self, timer, place);
}

static void heap_settle(struct loop *self, struct loop_timer *timer, size_t place)
{
    heap_up(self, timer, place);
    heap_down(self, timer, timer->place);
}

static int heap_reserve(struct loop *self, size_t n)
{
    if (n <= self->room)
        return 0;
    size_t room = self->room ? self->room * 2 : 64;
    struct loop_timer **heap = reallocarray(self->heap, room + 1, sizeof(struct loop_timer *));
    if (!heap)
        return -ENOMEM;
    self->heap = heap;
    self->room = room;
    return 0;
}

int loop_timer_set(struct loop *self, struct loop_timer *timer, mono_t at)
{
    if (mono_is_never(at)) {
        loop_timer_clear(self, timer);
        return 0;
    }
    if (timer->place == 0) {
        if (heap_reserve(self, self->n_timers + 1) < 0)
            return -ENOMEM;
        timer->place = ++self->n_timers;
    }
    /* Set by a firing timer, it must not be due in the same turn, or it could keep the loop here. */
    bool too_soon = self->firing && mono_reached(self->now, at);
    timer->at = too_soon ? mono_add(self->now, 1) : at;
    heap_settle(self, timer, timer->place);
    return 0;
}

void loop_timer_clear(struct loop *self, struct loop_timer *timer)
{
    size_t place = timer->place;
    if (place == 0)
        return;
    BUG_IF(place > self->n_timers || self->heap[place] != timer);
    struct loop_timer *last = self->heap[self->n_timers--];
    timer->place = 0;
    if (last != timer)
        heap_settle(self, last, place);
}

static mono_t earliest(const struct loop *self)
{
    return self->n_timers ? self->heap[1]->at : MONO_NEVER;
}

static void fire_due(struct loop *self)
{
    self->firing = true;
    while (mono_reached(self->now, earliest(self))) {
        struct loop_timer *timer = self->heap[1];
        loop_timer_clear(self, timer);
        timer->fire(timer->arg);
    }
    self->firing = false;
}

/* ---- the alarm ---- */

static void alarm_rang(void *arg, uint32_t events)
{
    struct loop *self = arg;
    uint64_t times;
    (void)events;
    ssize_t n = read(self->alarm.fd, &times, sizeof times);
    (void)n;    /* Nothing to read means that it was set anew meanwhile. */
    self->alarm_at = MONO_NEVER;
}

/* An alarm that is too early costs an idle turn and is left: timers that move later with every
 * message, as those of silences do, then cost no system call. */
static int set_alarm(struct loop *self)
{
    mono_t at = earliest(self);
    if (!mono_before(at, self->alarm_at))
        return 0;
    int64_t ns = at.ns > 0 ? at.ns : 1;    /* 0 would disarm it */
    struct itimerspec when = {.it_value = {.tv_sec = ns / NS_PER_S, .tv_nsec = ns % NS_PER_S}};
    if (timerfd_settime(self->alarm.fd, TFD_TIMER_ABSTIME, &when, NULL) < 0)
        return -errno;
    self->alarm_at = at;
    return 0;
}

/* ---- descriptors ---- */

int loop_watch(struct loop *self, struct loop_watch *watch, uint32_t events)
{
    if (watch->active)
        return -EEXIST;
    struct epoll_event event = {.events = events, .data.ptr = watch};
    if (epoll_ctl(self->epoll, EPOLL_CTL_ADD, watch->fd, &event) < 0)
        return -errno;
    watch->active = true;
    return 0;
}

/* Takes from the rest of the batch what the watch doesn't want any more. */
static void forget_events(struct loop *self, const struct loop_watch *watch, uint32_t wanted)
{
    for (int i = self->next_in_batch; i < self->n_batch; i++)
        if (self->batch[i].data.ptr == watch)
            self->batch[i].events &= wanted;
}

int loop_rewatch(struct loop *self, struct loop_watch *watch, uint32_t events)
{
    if (!watch->active)
        return -ENOENT;
    struct epoll_event event = {.events = events, .data.ptr = watch};
    if (epoll_ctl(self->epoll, EPOLL_CTL_MOD, watch->fd, &event) < 0)
        return -errno;
    forget_events(self, watch, events | EPOLLERR | EPOLLHUP);
    return 0;
}

void loop_unwatch(struct loop *self, struct loop_watch *watch)
{
    if (!watch->active)
        return;
    watch->active = false;
    (void)epoll_ctl(self->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
    forget_events(self, watch, 0);
}

static void deliver(struct loop *self)
{
    while (self->next_in_batch < self->n_batch) {
        const struct epoll_event *event = &self->batch[self->next_in_batch++];
        struct loop_watch *watch = event->data.ptr;
        if (event->events)
            watch->ready(watch->arg, event->events);
    }
    self->n_batch = self->next_in_batch = 0;
}

/* ---- signals ---- */

static void signals_ready(void *arg, uint32_t events)
{
    struct loop *self = arg;
    struct signalfd_siginfo info;
    (void)events;
    while (read(self->signals.fd, &info, sizeof info) == sizeof info)
        self->on_signal(self->on_signal_arg, (int)info.ssi_signo);
}

int loop_signals(struct loop *self, const int *signals, size_t n,
                 void (*on_signal)(void *arg, int signal), void *arg)
{
    sigset_t set;
    if (self->signals.fd >= 0)
        return -EEXIST;
    sigemptyset(&set);
    for (size_t i = 0; i < n; i++)
        if (sigaddset(&set, signals[i]) < 0)
            return -errno;
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (fd < 0)
        return -errno;
    self->signals = (struct loop_watch){.fd = fd, .ready = signals_ready, .arg = self};
    int r = loop_watch(self, &self->signals, EPOLLIN);
    /* Blocked last, when nothing can fail any more: a refusal leaves the mask as it was. */
    if (r == 0)
        r = -pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (r < 0) {
        loop_unwatch(self, &self->signals);
        close(fd);
        self->signals.fd = -1;
        return r;
    }
    self->on_signal = on_signal;
    self->on_signal_arg = arg;
    return 0;
}

/* ---- hooks ---- */

void loop_add_hook(struct loop *self, struct loop_hook *hook)
{
    struct loop_hook **link = &self->hooks;
    while (*link)
        link = &(*link)->next;
    hook->next = NULL;
    *link = hook;
}

void loop_remove_hook(struct loop *self, struct loop_hook *hook)
{
    struct loop_hook **link = &self->hooks;
    while (*link && *link != hook)
        link = &(*link)->next;
    if (!*link)
        return;
    *link = hook->next;
    if (self->next_hook == hook)
        self->next_hook = hook->next;
    hook->next = NULL;
}

static void run_hooks(struct loop *self)
{
    self->busy = false;
    self->next_hook = self->hooks;
    while (self->next_hook) {
        struct loop_hook *hook = self->next_hook;
        self->next_hook = hook->next;
        if (hook->turn(hook->arg))
            self->busy = true;
    }
}

/* ---- the turn ---- */

/* Waits for something to do, then reads the clock for the turn. `from` is the clock now. */
static int wait_for_events(struct loop *self, mono_t from)
{
    mono_t until = earliest(self);
    bool now = self->busy || mono_reached(from, until);
    int r = now ? 0 : set_alarm(self);
    if (r < 0)
        return r;
    int n = epoll_wait(self->epoll, self->batch, BATCH, now ? 0 : -1);
    if (n < 0 && errno != EINTR)    /* Being stopped and continued is an EINTR too. */
        return -errno;
    self->n_batch = n > 0 ? n : 0;
    self->next_in_batch = 0;

    mono_t before = self->now;
    self->now = mono_now();
    int64_t meant = now ? 0 : mono_since(until, from);
    int64_t waited = mono_since(self->now, from);
    self->stood_still = mono_since(self->now, before) - (waited < meant ? waited : meant);
    return 0;
}

static void note_slow_turn(mono_t began, mono_t ended)
{
    int64_t took = mono_since(ended, began);
    if (took > SLOW_TURN)
        log_event(took > VERY_SLOW_TURN ? LOG_WARN : LOG_DEBUG, "slow_turn", "ms", log_ms(took), NULL);
}

int loop_run(struct loop *self)
{
    int r = 0;
    mono_t from = mono_now();
    self->now = from;    /* What passed before the loop ran is nobody's standing still. */
    while (!self->stopping) {
        r = wait_for_events(self, from);
        if (r < 0)
            break;
        deliver(self);
        fire_due(self);
        run_hooks(self);
        from = mono_now();
        note_slow_turn(self->now, from);
    }
    self->stopping = false;
    return r;
}

void loop_stop(struct loop *self) { self->stopping = true; }

void loop_go_on(struct loop *self) { self->busy = true; }

mono_t loop_now(const struct loop *self) { return self->now; }

int64_t loop_stood_still(const struct loop *self) { return self->stood_still; }

/* ---- making and ending ---- */

struct loop *loop_new(void)
{
    struct loop *self = calloc(1, sizeof *self);
    if (!self)
        return NULL;
    self->signals.fd = -1;
    self->alarm = (struct loop_watch){.fd = -1, .ready = alarm_rang, .arg = self};
    self->alarm_at = MONO_NEVER;
    self->now = mono_now();
    self->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (self->epoll < 0)
        goto fail;
    self->alarm.fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    if (self->alarm.fd < 0 || loop_watch(self, &self->alarm, EPOLLIN) < 0)
        goto fail;
    return self;
fail:
    loop_destroy(&self);
    return NULL;
}

void loop_destroy(struct loop **self_p)
{
    struct loop *self = *self_p;
    if (!self)
        return;
    int error = errno;    /* loop_new's caller wants the reason, not that of a close. */
    if (self->signals.fd >= 0)
        close(self->signals.fd);
    if (self->alarm.fd >= 0)
        close(self->alarm.fd);
    if (self->epoll >= 0)
        close(self->epoll);
    free(self->heap);
    free(self);
    *self_p = NULL;
    errno = error;
}
