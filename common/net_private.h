/* What net.c needs and what needs no ZeroMQ: net_endpoint.c and net_parts.c. Nobody else includes this. */
#ifndef COMMON_NET_PRIVATE_H
#define COMMON_NET_PRIVATE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
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

/* ---- net_endpoint.c ---- */

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

/* ---- net_parts.c ---- */

/* What was given to libzmq and is not yet with the kernel. Its I/O threads count down. */
struct away {
    atomic_size_t messages, bytes;
    atomic_bool wanted;                      /* somebody waits for room */
    int wake;                                /* an eventfd */
};

bool away_has_room(struct away *self, size_t more);
bool away_want_room(struct away *self);      /* whether there is again; if not, the eventfd will tell when to ask again */
void away_wake(const struct away *self);

/* The bytes of a message that is counted: shared with their buffer, or copied. NULL without memory. */
struct note *note_new(struct away *away, bool share, struct slice bytes, size_t counted);
void *note_bytes(struct note *self);
void note_done(void *data, void *note);      /* libzmq's form of "I need it no more"; on any thread */

#define PACK_LEN 4
size_t pack_len(size_t head_len, struct slice body, bool with_body);      /* 0: too long */
void pack_write(uint8_t *to, const uint8_t *head, size_t head_len, struct slice body, bool with_body);
/* The head is behind PACK_LEN bytes, the body is the rest behind it. Touches nothing on failure. */
bool pack_read(const uint8_t *bytes, size_t len, size_t *ret_head_len, bool *ret_has_body);

#endif
