#include "ventilator/lanes.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HASH_NONFATAL_OOM 1                 /* a failed HASH_ADD leaves the handle's tbl NULL */
#include <uthash.h>

struct lane {
    UT_hash_handle hh;
    uint64_t number;
    struct lanes *of;
    struct net_socket *socket;
    const struct net_identity *who;
};

struct lanes {
    struct net *net;
    struct lane_range range;
    char host[200];
    unsigned next;
    char endpoint[160];
    struct lane *all;
    void (*up)(void *arg, uint64_t lane, bool is_up);
    void *arg;
};

struct lanes *lanes_new(struct net *net, const struct lane_range *range, const char *host_of,
                        void (*up)(void *arg, uint64_t lane, bool is_up), void *arg)
{
    struct lanes *l = calloc(1, sizeof *l);
    if (l == NULL)
        return NULL;
    l->net = net;
    l->range = *range;
    l->next = range->from;
    l->up = up;
    l->arg = arg;
    if (net_endpoint_host(host_of, l->host, sizeof l->host) < 0)
        l->host[0] = '\0';
    return l;
}

void lanes_destroy(struct lanes **self_p)
{
    struct lanes *l = *self_p;
    struct lane *lane, *next;
    if (l == NULL)
        return;
    HASH_ITER(hh, l->all, lane, next)
        lanes_close(l, lane->number);
    free(l);
    *self_p = NULL;
}

static void on_up(void *arg, struct net_socket *socket, bool is_up)
{
    (void)socket;
    struct lane *lane = arg;
    lane->of->up(lane->of->arg, lane->number, is_up);
}

static struct net_socket *open_at(struct lanes *l, struct lane *lane, const char *endpoint)
{
    struct net_callbacks callbacks = {.up = on_up, .arg = lane};
    struct net_access access = {.port = "lane", .admits = ROLE_BIT(ROLE_WORKER), .only = lane->who};
    struct why why;
    errno = 0;
    return net_open_for(l->net, NET_LANE_OUT, endpoint, &access, &callbacks, &why);
}

static struct net_socket *open_next(struct lanes *l, struct lane *lane)
{
    if (l->range.prefix[0] != '\0') {
        snprintf(l->endpoint, sizeof l->endpoint, "%s%" PRIx64, l->range.prefix, lane->number);
        return open_at(l, lane, l->endpoint);
    }
    for (unsigned tries = l->range.to - l->range.from + 1; tries > 0; tries--) {
        unsigned port = l->next;
        l->next = port >= l->range.to ? l->range.from : port + 1;
        char endpoint[240];
        snprintf(endpoint, sizeof endpoint, "tcp://%s:%u", l->host, port);
        struct net_socket *socket = open_at(l, lane, endpoint);
        if (socket != NULL || errno != EADDRINUSE)
            return socket;
    }
    return NULL;
}

int lanes_open(struct lanes *l, uint64_t number, const struct net_identity *who, uint32_t *ret_port, const char **ret_endpoint)
{
    struct lane *lane = calloc(1, sizeof *lane);
    if (lane == NULL)
        return -ENOMEM;
    lane->number = number;
    lane->of = l;
    lane->who = who;
    l->endpoint[0] = '\0';
    lane->socket = open_next(l, lane);
    if (lane->socket == NULL) {
        int error = errno != 0 ? errno : EADDRINUSE;
        free(lane);
        return -error;
    }
    HASH_ADD(hh, l->all, number, sizeof lane->number, lane);
    if (lane->hh.tbl == NULL) {
        net_close(&lane->socket);
        free(lane);
        return -ENOMEM;
    }
    *ret_port = net_port(lane->socket);
    *ret_endpoint = l->endpoint;
    return 0;
}

static struct lane *find(struct lanes *l, uint64_t number)
{
    struct lane *lane;
    HASH_FIND(hh, l->all, &number, sizeof number, lane);
    return lane;
}

struct net_socket *lanes_socket(struct lanes *l, uint64_t number)
{
    struct lane *lane = find(l, number);
    return lane != NULL ? lane->socket : NULL;
}

void lanes_close(struct lanes *l, uint64_t number)
{
    struct lane *lane = find(l, number);
    if (lane == NULL)
        return;
    HASH_DEL(l->all, lane);
    net_close(&lane->socket);
    free(lane);
}
