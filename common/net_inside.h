/* The insides of sockets, for the files that are ZeroMQ's own: net.c serves them in the turns of the loop, net_open.c
 * opens and closes them, net_receive.c reads messages, net_zap.c answers who may connect, net_lines.c knows who has,
 * net_monitor.c hears why dialling fails. Nobody else includes this. */
#ifndef COMMON_NET_INSIDE_H
#define COMMON_NET_INSIDE_H

#include "common/net.h"
#include "common/net_keys.h"
#include "common/net_private.h"

#define SCOLDED 64                           /* peers whose malformed messages were logged */

struct zmq_msg_t;

enum turn_class { CONTROL, LANES, RESULTS, N_CLASSES };

struct rule {
    int type;
    enum turn_class class;
    bool binds, reads, tells_up;
    bool bounded;          /* what is on its way is counted by us, since ZMQ_SNDHWM would make "full" look like "down" */
    bool never_again;      /* does not connect a second time */
    bool packs, unpacks;   /* sends, receives a message as one part: see net_parts.c */
    int rcvhwm;
};

/* Why a handshake failed. */
enum refusal { NOT_REFUSED, WANTS_KEYS, HAS_NO_KEYS, KEY_REFUSED, CUT_OFF };

#define ONCE 256                             /* sentences about peers that were logged */

struct net_socket {
    struct net *net;
    void *handle;
    const struct rule *rule;
    struct net_callbacks callbacks;
    struct loop_watch watch;
    struct link all;                         /* in net->sockets, or net->graveyard once closed */
    struct link ready;                       /* in net->ready[class] or the hook's own list */
    struct link shut;                        /* in net->shut: its key was revoked, and it has to be told */
    struct link starved;                     /* in net->starved: was told that there is no room */
    char *endpoint;
    uint32_t serial;
    bool bound, up, paused, closed;
    struct net_access access;                /* with keys only; domain is spelt out below */
    char domain[24];                         /* of ZAP: the port's word and our serial */
    int linger_ms;
    void *monitor;                           /* what dials: tells why a handshake failed */
    struct loop_watch monitor_watch;
    struct loop_timer redial;                /* libzmq gives a connection up whose handshake was refused */
    enum refusal refusal;                    /* since the last handshake that went well */
    struct zmq_msg_t *head;                       /* of the message whose callback runs, or NULL */
};

struct net {
    struct loop *loop;
    void *context;
    size_t max_message;
    struct link sockets, graveyard, starved, shut;
    struct link ready[N_CLASSES];
    struct loop_hook hook;
    struct loop_watch kick;
    bool hooked, in_turn;
    uint32_t next_serial;
    struct net_counters counters;
    uint64_t scolded[SCOLDED];               /* serial and peer */

    struct net_keys *keys;                   /* NULL: none, and nothing of the following */
    struct zap *zap;
    struct lines *lines;
    struct loop_timer reread;
    uint64_t once[ONCE];                     /* hashes; the oldest is replaced */
    unsigned next_once;

    struct away away;                        /* of all RESULTS_OUT sockets together */
};

#define OWNER(link_, member) ((struct net_socket *)(void *)((char *)(link_) - offsetof(struct net_socket, member)))

/* ---- net.c ---- */

/* Marks it to be served, from outside of our hook: which may have had its turn already. */
void net_touch(struct net_socket *socket);
void net_descriptor_ready(void *arg, uint32_t events);      /* of its ZMQ_FD */
void net_tell_up(struct net_socket *socket, bool up);

/* ---- net_open.c ---- */

/* Takes the handle away: the socket is down, and can be closed or dialled anew. */
void net_detach(struct net_socket *socket);

/* ---- net_receive.c ---- */

/* Reads one message; parts beyond the third are thrown away. The number of parts, 0 for nothing there. */
size_t net_receive(void *handle, struct zmq_msg_t parts[4], size_t *ret_bytes);
void net_hand_over(struct net_socket *socket, struct zmq_msg_t *parts, size_t n_parts, size_t bytes);

/* ---- net_zap.c ---- */

struct zap;

/* Answers who may connect, from now on. Before the first socket that binds. NULL: errno. */
struct zap *zap_new(struct net *net);
void zap_destroy(struct zap **self_p);
bool zap_turn(struct zap *self);             /* whether there is more to answer */

/* One request of ZAP 1.0 (RFC 27). `read` takes its parts as they came. 0, or why: it is malformed. */
struct zap_part { const uint8_t *bytes; size_t len; };
struct zap_request {
    char domain[24], address[64];
    char key[NET_KEY_TEXT];
};
int zap_read(const struct zap_part *parts, size_t n, struct zap_request *ret, struct why *why);
/* Who it is, when that one may connect to this socket; else NULL and why. `socket` may be NULL: there is no such domain. */
const struct net_identity *zap_judge(const struct net_keys *keys, const struct net_socket *socket,
                                     const struct zap_request *request, struct why *why);

/* ---- net_lines.c ---- */

struct lines;

struct lines *lines_new(void);
void lines_destroy(struct lines **self_p);
/* Whose message this is: NULL when whoever it was is allowed no longer, and then its connection is cut. */
const struct net_identity *lines_who(struct net_socket *socket, struct zmq_msg_t *part, net_peer peer);
/* Cuts every connection on which something of this identity came. */
void lines_cut(struct lines *self, const struct net_identity *who);
/* A sentence about a peer, logged once as long as it is among the last. */
void net_say_once(struct net *net, const char *event, const char *address, const char *port, const char *sentence);

/* ---- net_monitor.c ---- */

int monitor_open(struct net_socket *socket);     /* 0 or -errno */
void monitor_close(struct net_socket *socket);

#endif
