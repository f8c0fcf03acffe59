/* Streams: what was recorded, sent to clients that ask for it, as long as their credit lasts.
 *
 * A client says hello, subscribes to a batch and grants credit. Rows are read from the store, ahead of
 * nothing: a read is asked for when there is credit for it, a few reads at a time for all clients. A stream that
 * has read everything is given what is recorded from then on without a read, as long as its credit lasts.
 *   unordered   rows by number, attempts too; continues after a row number
 *   ordered     rows by index, as far as every task before has its verdict; continues at an index
 * A client that is gone is found out when something is sent to it, and forgotten. */
#ifndef SINK_STREAMS_H
#define SINK_STREAMS_H

#include "common/loop.h"
#include "common/net.h"
#include "common/store.h"
#include "sink/register.h"

struct streams;

struct streams_config {
    struct loop *loop;
    struct store *store;
    struct registry *registry;
    const char *program;
    /* Sends to a client: as net_send. */
    int (*send)(void *arg, net_peer peer, const uint8_t *head, size_t head_len, struct slice body, bool with_body);
    void *arg;
};

struct streams *streams_new(const struct streams_config *config);       /* NULL: no memory */
void streams_destroy(struct streams **self_p);                          /* before the store is closed */

void streams_message(struct streams *self, const struct net_message *message);     /* from a client */
void streams_moved(struct streams *self, const struct register_batch *batch);      /* see register_ports */
void streams_appended(struct streams *self, const struct store_frame *frame);      /* staged in the store, with its number */
void streams_recorded(struct streams *self);               /* the store has committed: before anybody else hears of it */
/* At the end of each turn, with nothing staged: asks for reads, says how far it is. Returns when to call again at the latest. */
mono_t streams_turn(struct streams *self);

/* looked: how many streams were looked at, all in all */
struct streams_counts { uint64_t clients, streams, reads, rows, bytes, looked; };
void streams_count(const struct streams *self, struct streams_counts *ret);

#endif
