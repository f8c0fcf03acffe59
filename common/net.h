/* ZeroMQ, all of it: net*.c are the only files that include zmq.h or czmq.h. It keeps the socket
 * rules of docs/design.md §3 and turns libzmq's edge-triggered ZMQ_FD into plain callbacks of the loop.
 *
 * A message is one part (head) or two (head, body); from a ROUTER to a DEALER it is always one part,
 * with the length of the head before it (net_parts.c says why). Anything else is malformed: counted,
 * dropped, and logged once per peer. Sockets are served by class in each turn, control before data,
 * each with a bounded number of messages, so nobody starves. */
#ifndef COMMON_NET_H
#define COMMON_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/loop.h"
#include "common/net_keys.h"
#include "common/why.h"

struct net;
struct net_socket;

/* A connection to one of our ROUTERs, as long as it lasts. A peer that connects anew has another. */
typedef uint32_t net_peer;

enum net_kind {
    NET_ROUTER,       /* binds; many peers; net_send needs the peer */
    NET_DEALER,       /* dials a ROUTER; messages wait for nobody (ZMQ_IMMEDIATE): -EAGAIN while it is not up */
    NET_LANE_OUT,     /* PUSH that binds for one peer */
    NET_LANE_IN,      /* PULL that dials a lane; never reconnects by itself */
    NET_RESULTS_OUT,  /* PUSH that dials a sink; reconnects */
    NET_RESULTS_IN,   /* PULL that binds; RCVHWM 4 */
};

struct net_message {
    net_peer peer;              /* NET_ROUTER only, else 0 */
    const uint8_t *head;        /* lent for the length of the call */
    size_t head_len;
    struct slice body;          /* body.buf is counted: slice_keep it without a copy. len 0: no second part, or an empty one */
    bool has_body;
    const struct net_identity *who;     /* whose key it came with; NULL: we have no keys. Stays valid until net_destroy */
};

struct net_callbacks {
    /* One message. Legal here: everything but net_destroy; closing this or any other socket too. */
    void (*message)(void *arg, struct net_socket *socket, const struct net_message *message);
    /* A peer came or went (POLLOUT, on the kinds that send and are no ROUTER). Nothing is sent before
     * `up` was told; what a DEALER had received is handed over before it is told to be down. May be NULL. */
    void (*up)(void *arg, struct net_socket *socket, bool is_up);
    void *arg;
    /* NET_RESULTS_OUT: net_send has said -EAGAIN because too much is on its way; now it would take
     * more. The peer was there all the time: being full is not being down. May be NULL. */
    void (*room)(void *arg, struct net_socket *socket);
    /* Kinds that dial, but for lanes: somebody is there, and the handshake fails; told when the reason is another one
     * than before. It is tried again all the time. `sentence`: as net_refusal. May be NULL. */
    void (*refused)(void *arg, struct net_socket *socket, const char *sentence);
};

struct net_config {
    int max_sockets;            /* ZMQ_MAX_SOCKETS; RLIMIT_NOFILE is raised to match, or refused in words */
    size_t max_message;         /* longest head and longest body, bytes (ZMQ_MAXMSGSIZE) */
    struct net_keys *keys;      /* taken, also on failure. NULL: nothing is encrypted, and whoever connects is let in */
};

/* Who is at the other end; asked for when there are keys, else it means nothing. */
struct net_access {
    const char *port;           /* binding kinds: a word for logs, and the domain of ZAP: "clients" */
    unsigned admits;            /* binding kinds: the roles that may connect, as ROLE_BITs … */
    const struct net_identity *only;    /* … or just this key; revoking it shuts the socket */
    enum net_role dials;        /* dialling kinds: whose known key the other side must have */
};

/* Sets up the context (two I/O threads, control sockets on the second by affinity) and registers
 * with the loop. zsys signal handlers are off. NULL: why says what to raise. */
struct net *net_new(struct loop *loop, const struct net_config *config, struct why *why);
void net_destroy(struct net **self_p);      /* closes what is still open; bounded by LINGER 0, except see net_linger */

/* Opens a socket. `endpoint` is tcp://host:port (port 0 or *: any free one), ipc://path; binding kinds
 * bind, others connect (a name is resolved later, in an I/O thread). NULL: why names the endpoint
 * and what is wrong; errno is EADDRINUSE when somebody else has it. */
struct net_socket *net_open(struct net *self, enum net_kind kind, const char *endpoint,
                            const struct net_callbacks *callbacks, struct why *why);
/* The same for a net that may have keys. One with keys admits nobody to a socket without access, and dials nobody. */
struct net_socket *net_open_for(struct net *self, enum net_kind kind, const char *endpoint, const struct net_access *access,
                                const struct net_callbacks *callbacks, struct why *why);
void net_close(struct net_socket **socket_p);       /* legal in its own callback; drops what is unsent */
void net_pause(struct net_socket *socket, bool paused);   /* stops reading from it; peers feel it once its high-water mark is reached */
void net_linger(struct net_socket *socket, int64_t ns);   /* how long closing may go on sending what was queued (default 0) */

const char *net_endpoint(const struct net_socket *socket);   /* the bound address with its real port, or the dialled one */
unsigned net_port(const struct net_socket *socket);          /* the bound TCP port; 0 for ipc */
bool net_is_up(const struct net_socket *socket);             /* as last told to `up`; kinds without `up`: always */

/* Sends head and, when with_body, a body (possibly empty). Never blocks. The body is sent from its
 * counted buffer without a copy when it is larger than a few hundred bytes; a reference is taken for
 * as long as libzmq needs it. (A ROUTER copies.) 0, -EAGAIN (not up; or full: RESULTS_OUT only),
 * -EHOSTUNREACH (ROUTER: the peer is gone), -ENOMEM. */
int net_send(struct net_socket *socket, net_peer peer, const uint8_t *head, size_t head_len,
             struct slice body, bool with_body);

/* The host address from which a ROUTER's peer came, as seen by the last message of that peer in
 * whose callback this is called ("Peer-Address"); empty when unknown (ipc). */
const char *net_peer_address(const struct net_socket *socket);

/* Why the other side of a dialled socket will not have us: "it takes connections with keys only, and we have none; …",
 * ends without a full stop. Empty when the last handshake went well or nobody is there. A constant text. */
const char *net_refusal(const struct net_socket *socket);

bool net_has_keys(const struct net *self);

struct net_counters {
    uint64_t messages_in, messages_out, bytes_in, bytes_out, malformed;
};
const struct net_counters *net_counters(const struct net *self);

/* Endpoint words. */
/* "tcp://host" or "tcp://host:port" or "ipc://path" → canonical, with the default port (0: there is
 * none, the port must be given). Port * becomes 0, "any free one". 0 or why_set. */
int net_endpoint_parse(const char *text, unsigned default_port, char *out, size_t out_size, struct why *why);
/* The host of tcp://host:port (brackets of IPv6 kept) into out; -1 when it is not tcp. */
int net_endpoint_host(const char *endpoint, char *out, size_t out_size);
bool net_endpoint_is_loopback(const char *endpoint);          /* ipc counts as loopback */

#endif
