/* Private to tarmac/client*.c: requests as they wait for their replies. */
#ifndef TARMAC_CLIENT_PRIVATE_H
#define TARMAC_CLIENT_PRIVATE_H

#include "tarmac/client.h"

/* Told when the ventilator has welcomed us anew: what was posted as CLIENT_ONCE is forgotten by then. */
struct client_listener {
    void (*welcomed)(void *arg);
    void *arg;
    struct client_listener *next;
};

struct outstanding;

struct client {
    struct loop *loop;
    struct net *net;
    struct client_config config;
    char *ventilator, *program;
    struct net_socket *socket;
    struct loop_timer patience;          /* set while the ventilator is away and wanted */
    struct loop_timer later;             /* set while there was no memory to send: then it is tried again */
    mono_t away_since;
    bool up, welcomed, ever_welcomed, failed;
    int wanted;                          /* by submissions and streams, beside what is outstanding */
    uint64_t next_id, hello_id;
    struct outstanding *first, *last;
    struct client_listener *listeners;
    struct wire_arena *arena;
    struct wire_writer writer;
    uint8_t *frame;                      /* an id and a packed request, as they are sent */
    size_t frame_room;
    /* From the welcome. */
    uint64_t max_payload, window_bytes;
    uint32_t window_chunks;
};

/* `packed` is a Request without its id (a reference is taken). CLIENT_ONCE: not sent again after a reconnect. */
enum client_again { CLIENT_AGAIN, CLIENT_ONCE };
uint64_t client_post(struct client *self, struct buf *packed, struct slice body, bool with_body, enum client_again again,
                     client_reply *reply, void *arg);
void client_listen(struct client *self, struct client_listener *listener);
void client_unlisten(struct client *self, struct client_listener *listener);
void client_want(struct client *self, int by);           /* +1: its absence is a failure; -1: no longer */

#endif
