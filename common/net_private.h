/* Shared by net.c and net_endpoint.c only: what net.c needs and what needs no ZeroMQ. */
#ifndef COMMON_NET_PRIVATE_H
#define COMMON_NET_PRIVATE_H

#include <stdbool.h>

#include "common/why.h"

/* A ring of things with a list's own link in it: each can leave without knowing which list it is in. */
struct link { struct link *next, *prev; };

static inline void link_init(struct link *link) { link->next = link->prev = link; }
static inline bool link_alone(const struct link *link) { return link->next == link; }

static inline void link_out(struct link *link)
{
    link->next->prev = link->prev;
    link->prev->next = link->next;
    link_init(link);
}

static inline void link_last(struct link *list, struct link *link)
{
    link->prev = list->prev;
    link->next = list;
    list->prev->next = link;
    list->prev = link;
}

/* Takes over everything that is in `from`. */
static inline void link_all(struct link *list, struct link *from)
{
    link_init(list);
    if (link_alone(from))
        return;
    *list = *from;
    list->next->prev = list->prev->next = list;
    link_init(from);
}

unsigned endpoint_port(const char *endpoint);      /* 0 when it is not tcp */

/* Whether a process answers at this ipc address: libzmq removes whatever is at the path before it
 * binds, also the socket of a process that lives. tcp is left to bind itself. */
bool endpoint_in_use(const char *endpoint);

/* Removes the path of a bound ipc address, which libzmq leaves behind. Before the socket is closed:
 * nobody else can have bound it by then. */
void endpoint_remove(const char *endpoint);

/* The sentence for an errno of opening a socket there. Sets errno, returns -1. */
int endpoint_refuse(const char *endpoint, int error, struct why *why);

/* RLIMIT_NOFILE for so many ZeroMQ sockets: as high as it goes. 0, or -1 with why when that is not enough. */
int net_raise_descriptors(int max_sockets, struct why *why);

#endif
