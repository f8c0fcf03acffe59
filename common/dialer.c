#include "common/dialer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PATIENCE_NS (2 * NS_PER_S)

struct dialer {
    struct loop *loop;
    struct net *net;
    enum net_kind kind;
    struct net_access access;
    struct net_callbacks user;
    struct net_socket *socket;
    struct loop_timer timer;
    char **endpoints;
    size_t n, at;
    bool is_up;
};

static void forget(struct dialer *d)
{
    for (size_t i = 0; i < d->n; i++)
        free(d->endpoints[i]);
    free(d->endpoints);
    d->endpoints = NULL;
    d->n = d->at = 0;
}

static void hang_up(struct dialer *d)
{
    bool was_up = d->is_up;
    d->is_up = false;
    loop_timer_clear(d->loop, &d->timer);
    if (d->socket == NULL)
        return;
    struct net_socket *socket = d->socket;
    d->socket = NULL;
    if (was_up && d->user.up != NULL)
        d->user.up(d->user.arg, socket, false);
    net_close(&socket);
}

static void be_patient(struct dialer *d)
{
    loop_timer_set(d->loop, &d->timer, mono_add(mono_now(), PATIENCE_NS));
}

static void on_up(void *arg, struct net_socket *socket, bool is_up)
{
    struct dialer *d = arg;
    if (socket != d->socket)
        return;
    d->is_up = is_up;
    if (is_up)
        loop_timer_clear(d->loop, &d->timer);
    else
        be_patient(d);
    if (d->user.up != NULL)
        d->user.up(d->user.arg, socket, is_up);
}

static void on_room(void *arg, struct net_socket *socket)
{
    struct dialer *d = arg;
    if (socket == d->socket && d->user.room != NULL)
        d->user.room(d->user.arg, socket);
}

static void on_refused(void *arg, struct net_socket *socket, const char *sentence)
{
    struct dialer *d = arg;
    if (socket == d->socket && d->user.refused != NULL)
        d->user.refused(d->user.arg, socket, sentence);
}

static void on_message(void *arg, struct net_socket *socket, const struct net_message *message)
{
    struct dialer *d = arg;
    if (socket == d->socket && d->user.message != NULL)
        d->user.message(d->user.arg, socket, message);
}

static void dial(struct dialer *d)
{
    struct net_callbacks callbacks = {.message = on_message, .up = on_up, .room = on_room, .refused = on_refused, .arg = d};
    struct why why;
    d->socket = net_open_for(d->net, d->kind, d->endpoints[d->at], &d->access, &callbacks, &why);
    be_patient(d);
}

static void on_impatient(void *arg)
{
    struct dialer *d = arg;
    if (d->is_up || d->n == 0)
        return;
    hang_up(d);
    d->at = (d->at + 1) % d->n;
    dial(d);
}

struct dialer *dialer_new(struct loop *loop, struct net *net, enum net_kind kind, enum net_role dials, const struct net_callbacks *callbacks)
{
    struct dialer *d = calloc(1, sizeof *d);
    if (d == NULL)
        return NULL;
    d->loop = loop;
    d->net = net;
    d->kind = kind;
    d->access.dials = dials;
    d->user = *callbacks;
    d->timer = (struct loop_timer){.fire = on_impatient, .arg = d};
    return d;
}

void dialer_destroy(struct dialer **self_p)
{
    if (*self_p == NULL)
        return;
    hang_up(*self_p);
    forget(*self_p);
    free(*self_p);
    *self_p = NULL;
}

static bool same(const struct dialer *d, const char *const *endpoints, size_t n)
{
    if (n != d->n)
        return false;
    for (size_t i = 0; i < n; i++)
        if (strcmp(endpoints[i], d->endpoints[i]) != 0)
            return false;
    return true;
}

int dialer_set(struct dialer *d, const char *const *endpoints, size_t n)
{
    if (same(d, endpoints, n))
        return 0;
    hang_up(d);
    forget(d);
    if (n == 0)
        return 0;
    d->endpoints = calloc(n, sizeof *d->endpoints);
    if (d->endpoints == NULL)
        return -ENOMEM;
    for (; d->n < n; d->n++) {
        d->endpoints[d->n] = strdup(endpoints[d->n]);
        if (d->endpoints[d->n] == NULL) {
            forget(d);
            return -ENOMEM;
        }
    }
    dial(d);
    return 0;
}

struct net_socket *dialer_socket(const struct dialer *d)
{
    return d->socket;
}

bool dialer_is_up(const struct dialer *d)
{
    return d->is_up;
}
