/* A connection to something whose address is known only as a few candidates: they are tried in turn, one
 * at a time (a PUSH that is connected to two peers would split its messages), each for 2 s until one is up;
 * one that goes down has 2 s to come back before the next is tried. */
#ifndef COMMON_DIALER_H
#define COMMON_DIALER_H

#include "common/net.h"

struct dialer;

/* `callbacks` are those of the socket in use; its `up` is told of every candidate's coming and going. Copied. NULL: no memory.
 * `dials`: whose key the other side must have, where there are keys. */
struct dialer *dialer_new(struct loop *loop, struct net *net, enum net_kind kind, enum net_role dials, const struct net_callbacks *callbacks);
void dialer_destroy(struct dialer **self_p);

/* The candidates, best first (copied). The same list again changes nothing; another one begins anew. none: closes. */
int dialer_set(struct dialer *self, const char *const *endpoints, size_t n);      /* 0 or -ENOMEM */

/* The socket in use, or NULL while there is none. Not to be kept over a turn. */
struct net_socket *dialer_socket(const struct dialer *self);
bool dialer_is_up(const struct dialer *self);

#endif
