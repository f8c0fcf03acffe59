/* Contexts: a tree in which ends travel down, and in which deadlines and values are found by looking up.
 *
 * No thread and no timer is needed. That a deadline has passed is seen when somebody asks; and the descriptor of a
 * context is a timerfd, set to its deadline: it becomes readable by itself, or at once by being set to the past.
 *
 * A tree has one lock. The background is the root of all trees and in none of them: it never changes. */
#include "tarmac/context_private.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "common/clock.h"
#include "proto/wire.h"
#include "proto/wire_check.h"

struct tree {
    pthread_mutex_t lock;
    atomic_uint refs;
};

struct tarmac_context {
    atomic_uint refs;                   /* its owners', its children's */
    struct tree *tree;                  /* NULL: the background */
    tarmac_context *parent;             /* NULL: the background */
    bool apart;                         /* only values are looked for in the parent */
    char *key, *value;                  /* NULL, or what it adds */

    /* Guarded by the tree's lock. */
    tarmac_context *first_child, *next, **link;
    tarmac_time own, deadline;          /* what it was given; that or the parent's, whichever is earlier */
    int err;
    char *cause;
    int fd;
};

static tarmac_context background = {.own = TARMAC_NEVER, .deadline = TARMAC_NEVER, .fd = -1};

tarmac_context *tarmac_background(void) { return &background; }

/* ---- time ---- */

tarmac_time tarmac_now(void) { return (tarmac_time){mono_now().ns}; }
tarmac_time tarmac_in(int64_t ns) { return (tarmac_time){mono_add(mono_now(), ns).ns}; }

static tarmac_time earlier(tarmac_time a, tarmac_time b) { return a.ns <= b.ns ? a : b; }

/* ---- ends, with the lock held ---- */

/* In the past: readable at once. 0 would disarm it. */
static void arm(const tarmac_context *self)
{
    struct itimerspec at = {0};
    tarmac_time when = self->err != TARMAC_OK || self->deadline.ns <= 0 ? (tarmac_time){1} : self->deadline;
    if (self->fd < 0)
        return;
    if (when.ns != INT64_MAX)
        at.it_value = (struct timespec){.tv_sec = when.ns / NS_PER_S, .tv_nsec = when.ns % NS_PER_S};
    timerfd_settime(self->fd, TFD_TIMER_ABSTIME, &at, NULL);
}

/* The next of a subtree, parents before children: the tree is walked without a stack of its own. `into`: below `at` too. */
static tarmac_context *walk(const tarmac_context *top, tarmac_context *at, bool into)
{
    if (into && at->first_child)
        return at->first_child;
    for (; at != top; at = at->parent)
        if (at->next)
            return at->next;
    return NULL;
}

static void end(tarmac_context *self, int err, const char *cause)
{
    for (tarmac_context *c = self; c; c = walk(self, c, true)) {
        if (c->err != TARMAC_OK)
            continue;
        c->err = err;
        c->cause = cause ? strdup(cause) : NULL;    /* Without memory it has ended all the same, and says less. */
        arm(c);
    }
}

static int look(tarmac_context *self)
{
    if (self->err == TARMAC_OK && self->deadline.ns != INT64_MAX && tarmac_now().ns >= self->deadline.ns)
        end(self, TARMAC_DEADLINE_EXCEEDED, NULL);
    return self->err;
}

/* ---- life ---- */

static void lock(const tarmac_context *self) { pthread_mutex_lock(&self->tree->lock); }
static void unlock(const tarmac_context *self) { pthread_mutex_unlock(&self->tree->lock); }

static struct tree *tree_of(tarmac_context *parent, bool apart)
{
    if (parent->tree && !apart) {
        atomic_fetch_add(&parent->tree->refs, 1);
        return parent->tree;
    }
    struct tree *tree = calloc(1, sizeof *tree);
    if (tree) {
        pthread_mutex_init(&tree->lock, NULL);
        atomic_init(&tree->refs, 1);
    }
    return tree;
}

static void tree_drop(struct tree *tree)
{
    if (!tree || atomic_fetch_sub(&tree->refs, 1) > 1)
        return;
    pthread_mutex_destroy(&tree->lock);
    free(tree);
}

static void destroy(tarmac_context *self)
{
    if (self->tree) {
        lock(self);    /* Siblings that come and go move `link`: it is read under the lock as well. */
        if (self->link)
            *self->link = self->next;
        if (self->link && self->next)
            self->next->link = self->link;
        unlock(self);
    }
    if (self->fd >= 0)
        close(self->fd);
    tree_drop(self->tree);
    free(self->key);
    free(self->value);
    free(self->cause);
    free(self);
}

/* It is born with its parent's end, if that has come. */
static void adopt(tarmac_context *parent, tarmac_context *self)
{
    lock(parent);
    self->deadline = earlier(self->own, parent->deadline);
    if (look(parent) != TARMAC_OK) {
        self->err = parent->err;
        self->cause = parent->cause ? strdup(parent->cause) : NULL;
    }
    self->next = parent->first_child;
    self->link = &parent->first_child;
    if (self->next)
        self->next->link = &self->next;
    parent->first_child = self;
    unlock(parent);
}

static tarmac_context *child(tarmac_context *parent, tarmac_time own, const char *key, const char *value, bool apart)
{
    tarmac_context *self = calloc(1, sizeof *self);
    if (!self)
        return NULL;
    atomic_init(&self->refs, 1);
    self->fd = -1;
    self->own = self->deadline = own;
    self->apart = apart;
    self->tree = tree_of(parent, apart);
    self->key = key ? strdup(key) : NULL;
    self->value = key ? strdup(value) : NULL;
    if (!self->tree || (key && (!self->key || !self->value))) {
        destroy(self);
        errno = ENOMEM;
        return NULL;
    }
    self->parent = tarmac_retain(parent);
    if (parent->tree && !apart)
        adopt(parent, self);
    return self;
}

tarmac_context *tarmac_retain(tarmac_context *self)
{
    if (self->tree)
        atomic_fetch_add(&self->refs, 1);
    return self;
}

void tarmac_release(tarmac_context **self_p)
{
    tarmac_context *self = *self_p, *parent;
    *self_p = NULL;
    for (; self && self->tree && atomic_fetch_sub(&self->refs, 1) == 1; self = parent) {
        parent = self->parent;
        destroy(self);
    }
}

/* ---- children ---- */

tarmac_context *tarmac_with_cancel(tarmac_context *parent) { return child(parent, TARMAC_NEVER, NULL, NULL, false); }
tarmac_context *tarmac_with_deadline(tarmac_context *parent, tarmac_time at) { return child(parent, at, NULL, NULL, false); }
tarmac_context *tarmac_with_timeout(tarmac_context *parent, int64_t ns) { return child(parent, tarmac_in(ns), NULL, NULL, false); }
tarmac_context *tarmac_without_cancel(tarmac_context *parent) { return child(parent, TARMAC_NEVER, NULL, NULL, true); }

tarmac_context *context_with_raw(tarmac_context *parent, const char *key, const char *value)
{
    return child(parent, TARMAC_NEVER, key, value, false);
}

static bool sendable(const char *key, const char *value)
{
    if (!key || !value || !wire_value_key_ok(key) || strlen(value) > WIRE_VALUE || wire_text_fault(value, strlen(value), false))
        return false;
    return strcmp(key, "traceparent") != 0 || wire_traceparent_ok(value);
}

tarmac_context *tarmac_with_value(tarmac_context *parent, const char *key, const char *value)
{
    if (!sendable(key, value)) {
        errno = EINVAL;
        return NULL;
    }
    return context_with_raw(parent, key, value);
}

/* ---- asking ---- */

void tarmac_cancel(tarmac_context *self, const char *cause)
{
    if (!self->tree)
        return;
    lock(self);
    if (look(self) == TARMAC_OK)
        end(self, TARMAC_CANCELLED, cause);
    unlock(self);
}

int tarmac_err(tarmac_context *self)
{
    if (!self->tree)
        return TARMAC_OK;
    lock(self);
    int err = look(self);
    unlock(self);
    return err;
}

const char *tarmac_cause(tarmac_context *self, char *out, size_t out_size)
{
    snprintf(out, out_size, "%s", "");
    if (!self->tree)
        return out;
    lock(self);
    if (look(self) != TARMAC_OK)
        snprintf(out, out_size, "%s", self->cause ? self->cause : tarmac_code_name(self->err));
    unlock(self);
    return out;
}

int tarmac_done(tarmac_context *self)
{
    if (!self->tree)
        return -1;
    lock(self);
    if (self->fd < 0) {
        self->fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
        arm(self);
    }
    int fd = self->fd;
    unlock(self);
    return fd;
}

tarmac_time tarmac_deadline(tarmac_context *self)
{
    if (!self->tree)
        return TARMAC_NEVER;
    lock(self);
    tarmac_time at = self->deadline;
    unlock(self);
    return at;
}

int64_t tarmac_left(tarmac_context *self)
{
    tarmac_time at = tarmac_deadline(self);
    if (at.ns == INT64_MAX)
        return INT64_MAX;
    int64_t now = tarmac_now().ns;
    return at.ns > now ? at.ns - now : 0;
}

const char *tarmac_value(tarmac_context *self, const char *key)
{
    for (; self; self = self->parent)
        if (self->key && strcmp(self->key, key) == 0)
            return self->value;
    return NULL;
}

void context_values(tarmac_context *self, void (*each)(void *arg, const char *key, const char *value), void *arg)
{
    for (const tarmac_context *c = self; c; c = c->parent)
        if (c->key && strcmp(c->key, CONTEXT_PARENT) != 0 && tarmac_value(self, c->key) == c->value)
            each(arg, c->key, c->value);
}

void context_move_deadline(tarmac_context *self, tarmac_time at)
{
    lock(self);
    look(self);
    self->own = at;
    for (tarmac_context *c = self; c; c = walk(self, c, true)) {
        c->deadline = c->link ? earlier(c->own, c->parent->deadline) : c->own;
        if (c->err == TARMAC_OK)
            arm(c);
    }
    unlock(self);
}

int tarmac_sleep(tarmac_context *self, int64_t ns)
{
    struct pollfd p = {.fd = tarmac_done(self), .events = POLLIN};
    tarmac_time until = tarmac_in(ns);
    for (int err;;) {
        if ((err = tarmac_err(self)) != TARMAC_OK)
            return err;
        int64_t left = until.ns - tarmac_now().ns;
        if (left <= 0)
            return TARMAC_OK;
        struct timespec wait = {.tv_sec = left / NS_PER_S, .tv_nsec = left % NS_PER_S};
        ppoll(&p, 1, &wait, NULL);
    }
}
