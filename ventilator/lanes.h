/* The lanes' sockets: one PUSH for each worker, on the next port of the range that is free, oldest first, so
 * that a port rests for as long as possible before another lane has it. */
#ifndef VENTILATOR_LANES_H
#define VENTILATOR_LANES_H

#include <stdint.h>

#include "common/net.h"
#include "ventilator/serve_config.h"

struct lanes;

/* `up(arg, lane, is_up)`: the lane's one peer is there, or gone. NULL: no memory. `host_of` is the workers' endpoint. */
struct lanes *lanes_new(struct net *net, const struct lane_range *range, const char *host_of,
                        void (*up)(void *arg, uint64_t lane, bool is_up), void *arg);
void lanes_destroy(struct lanes **self_p);

/* Opens a lane under this number, for this key and no other (NULL: there are no keys). 0 and its port (or endpoint, for ipc; lent
 * until the next call); -EADDRINUSE: no port of the range is free; -EMFILE and so on: the socket could not be had. */
int lanes_open(struct lanes *self, uint64_t lane, const struct net_identity *who, uint32_t *ret_port, const char **ret_endpoint);
struct net_socket *lanes_socket(struct lanes *self, uint64_t lane);      /* NULL: closed */
void lanes_close(struct lanes *self, uint64_t lane);

#endif
