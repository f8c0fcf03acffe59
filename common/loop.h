/* The one loop of a process: file descriptors, timers, signals, and the work that a turn leaves
 * behind. One thread. No callback may block; a turn over 20 ms is logged.
 *
 * A turn: wait (until the earliest timer) → read the clock once → descriptors → due timers →
 * turn hooks. While a hook says that it has more to do, the next wait doesn't wait. */
#ifndef COMMON_LOOP_H
#define COMMON_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/clock.h"

struct loop;

struct loop *loop_new(void);                 /* NULL: no memory or no descriptors (errno) */
void loop_destroy(struct loop **self_p);     /* everything watched must be unwatched before */
int loop_run(struct loop *self);             /* until loop_stop; 0, or -errno when epoll fails */
void loop_stop(struct loop *self);           /* legal in any callback; the turn is finished first */
void loop_go_on(struct loop *self);          /* the hooks have something to do: the next wait does not wait; legal at any time */
mono_t loop_now(const struct loop *self);    /* the clock as read once for this turn */

/* How long the loop stood still before this turn beyond what it meant to wait (ns): a stopped or
 * starved process sees it here, and judges nobody's silence before it has read its input. */
int64_t loop_stood_still(const struct loop *self);

/* Descriptors: EPOLLIN, EPOLLOUT and so on, level-triggered unless EPOLLET is given. The watch is
 * the caller's memory and must stay in place while it is watched. Unwatching is legal in any callback. */
struct loop_watch {
    int fd;
    void (*ready)(void *arg, uint32_t events);
    void *arg;
    bool active;
};
int loop_watch(struct loop *self, struct loop_watch *watch, uint32_t events);    /* 0 or -errno */
int loop_rewatch(struct loop *self, struct loop_watch *watch, uint32_t events);  /* other events */
void loop_unwatch(struct loop *self, struct loop_watch *watch);                  /* idempotent; the fd stays open */

/* Timers: a binary heap with the place kept in the timer: set, move and clear in O(log n).
 * A timer fires once, not before its time; setting a set timer moves it. One that a firing timer
 * sets for now or earlier waits for the next turn. */
struct loop_timer {
    mono_t at;
    size_t place;                            /* 1-based place in the heap, 0: not set */
    void (*fire)(void *arg);
    void *arg;
};
int loop_timer_set(struct loop *self, struct loop_timer *timer, mono_t at);     /* 0 or -ENOMEM; MONO_NEVER clears */
void loop_timer_clear(struct loop *self, struct loop_timer *timer);             /* idempotent */

/* Signals as events. Blocks them in the calling thread: call before any thread is started.
 * Once per loop. A child must be spawned with an empty signal mask. */
int loop_signals(struct loop *self, const int *signals, size_t n,
                 void (*on_signal)(void *arg, int signal), void *arg);

/* Called at the end of each turn, in the order of adding; returns true when it has more to do.
 * The hook is the caller's memory. */
struct loop_hook {
    bool (*turn)(void *arg);
    void *arg;
    struct loop_hook *next;
};
void loop_add_hook(struct loop *self, struct loop_hook *hook);
void loop_remove_hook(struct loop *self, struct loop_hook *hook);

#endif
