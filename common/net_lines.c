/* Whose connection is whose. libzmq has no call to close one connection of a listener; but it tells with each message on
 * which descriptor it came, and a connection that is shut down there ends as if the peer had gone.
 *
 * libzmq closes descriptors without a word, and the next connection may get the same number: before one is shut down,
 * it must be the very socket that it was, by its inode. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <zmq.h>

#include "common/log.h"
#include "common/net_inside.h"

struct line {
    const struct net_identity *who;      /* NULL: nobody that we know */
    ino_t inode;
    uint32_t serial;                     /* of our socket */
    net_peer peer;
};

struct lines {
    struct line *all;                    /* by descriptor */
    size_t room;
};

struct lines *lines_new(void) { return calloc(1, sizeof(struct lines)); }

void lines_destroy(struct lines **self_p)
{
    if (!*self_p)
        return;
    free((*self_p)->all);
    free(*self_p);
    *self_p = NULL;
}

static bool reserve(struct lines *self, size_t fd)
{
    if (fd < self->room)
        return true;
    size_t room = 2 * fd + 64;
    struct line *all = reallocarray(self->all, room, sizeof *all);
    if (!all)
        return false;
    memset(all + self->room, 0, (room - self->room) * sizeof *all);
    self->all = all;
    self->room = room;
    return true;
}

static bool inode_of(int fd, ino_t *ret)
{
    struct stat st;
    if (fstat(fd, &st) < 0 || !S_ISSOCK(st.st_mode))
        return false;
    *ret = st.st_ino;
    return true;
}

/* A peer of a ROUTER is one connection; a PULL doesn't tell its peers apart, so each time is a new one. */
static void note(struct lines *self, int fd, uint32_t serial, net_peer peer, const struct net_identity *who)
{
    if (fd < 0 || !reserve(self, (size_t)fd))
        return;
    struct line *line = &self->all[fd];
    if (line->who == who && line->serial == serial && line->peer == peer && peer != 0)
        return;
    *line = (struct line){.serial = serial, .peer = peer};
    if (inode_of(fd, &line->inode))
        line->who = who;
}

void lines_cut(struct lines *self, const struct net_identity *who)
{
    ino_t inode;
    for (size_t fd = 0; fd < self->room; fd++) {
        struct line *line = &self->all[fd];
        if (line->who != who)
            continue;
        if (inode_of((int)fd, &inode) && inode == line->inode)
            shutdown((int)fd, SHUT_RDWR);
        line->who = NULL;
    }
}

const struct net_identity *lines_who(struct net_socket *socket, zmq_msg_t *part, net_peer peer)
{
    struct net *net = socket->net;
    const char *user = zmq_msg_gets(part, "User-Id");
    int fd = zmq_msg_get(part, ZMQ_SRCFD);
    ino_t inode;
    if (user && user[0] >= 'a' && user[0] < 'a' + NET_ROLES) {
        const struct net_identity *who = net_keys_find(net->keys, ROLE_BIT(user[0] - 'a'), user + 1);
        if (who) {
            note(net->lines, fd, socket->serial, peer, who);
            return who;
        }
    }
    /* It was let in when its key was good, and has said nothing until now; or it is gone, and somebody else has its number. */
    bool anothers = fd >= 0 && (size_t)fd < net->lines->room && net->lines->all[fd].who;
    if (fd >= 0 && !anothers && inode_of(fd, &inode))
        shutdown(fd, SHUT_RDWR);
    const char *address = zmq_msg_gets(part, "Peer-Address");
    net_say_once(net, "peer_refused", address ? address : "", socket->access.port, "its key was revoked");
    return NULL;
}

/* ---- saying it once ---- */

static uint64_t mix(uint64_t hash, const char *text)
{
    for (; *text; text++)
        hash = (hash ^ (uint8_t)*text) * UINT64_C(0x100000001b3);
    return (hash ^ 0xff) * UINT64_C(0x100000001b3);
}

void net_say_once(struct net *net, const char *event, const char *address, const char *port, const char *sentence)
{
    uint64_t hash = mix(mix(mix(mix(UINT64_C(0xcbf29ce484222325), event), address), port), sentence);
    for (unsigned i = 0; i < ONCE; i++)
        if (net->once[i] == hash)
            return;
    net->once[net->next_once++ % ONCE] = hash;
    log_event(LOG_WARN, event, "address", address, "port", port, "reason", sentence, NULL);
}
