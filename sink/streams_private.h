/* What the files of the streams share; nobody else includes this.
 *
 *   streams.c            clients, their queries, reads, and what each turn does
 *   streams_audience.c   who hears of which batch, and its rows from their staging on
 *   streams_say.c        what clients are told
 *
 * What happens to a batch looks at the streams of that batch, and time at those whose time it is: all others may be many.
 *
 * Sending may find out that a client is gone; then it is forgotten on the spot with all its streams: what
 * sends says so to its caller, who touches the stream no more. */
#ifndef SINK_STREAMS_PRIVATE_H
#define SINK_STREAMS_PRIVATE_H

#include <sys/queue.h>

#define HASH_NONFATAL_OOM 1                 /* a failed HASH_ADD leaves the handle's tbl NULL */
#include <uthash.h>

#include "proto/wire.h"
#include "sink/streams.h"

#define STREAM_CREDIT ((int64_t)64 * 1024 * 1024)  /* of one stream, at most */

struct client;
struct audience;

struct stream {
    TAILQ_ENTRY(stream) of_client, of_audience, of_ready, of_progress;
    struct streams *streams;
    struct client *client;
    struct audience *audience;
    uint64_t id;
    bool ordered, follow, wait, heads_only;
    int64_t credit;
    uint64_t after;                         /* the last row; in an ordered stream: of the window */
    uint64_t from, to;                      /* ordered: the window, all of it recorded */
    bool ready, reading;
    bool moved;                             /* since the last read was asked for */
    bool saw_complete;                      /* the batch was complete when it was asked for */
    uint64_t read_id;
    bool near;                              /* it has every row that is not among the recent ones */
    bool missed;                            /* of the read that is under way: it may not see a row that is recent no more */
    uint64_t read_sees;                     /* … but all rows of this flush and of those before, if they found room */
    bool news;                              /* something to say about its progress */
    bool hushed;                            /* it is in that list, else in `quiet` */
    mono_t said_at;                         /* the last progress */
};
TAILQ_HEAD(stream_list, stream);

/* A row from its staging to the turn in which it is recorded. */
struct recent {
    STAILQ_ENTRY(recent) entry;
    uint64_t sequence;                      /* of its flush */
    struct store_frame frame;               /* with references of its own */
};
STAILQ_HEAD(recent_list, recent);

/* The streams of one batch, or those that wait for one of this name; it is there while it has any. */
struct audience {
    UT_hash_handle hh;
    TAILQ_ENTRY(audience) entry;            /* of those with recent rows */
    char *name;                             /* that they wait for; NULL: they have their batch */
    uint64_t batch;
    struct stream_list streams;
    struct recent_list recent;
};
TAILQ_HEAD(audience_list, audience);

struct client {
    UT_hash_handle hh;
    TAILQ_ENTRY(client) entry;              /* of those without streams, the longest first */
    net_peer peer;
    struct stream_list streams;
    unsigned n_streams;
    bool idle;
};
TAILQ_HEAD(client_list, client);

struct streams {
    struct streams_config config;
    struct client *clients;
    struct client_list idle;
    struct audience *by_batch, *by_name;
    struct audience_list with_recent;
    struct stream_list ready;
    struct stream_list hushed, quiet;       /* all: told of their progress lately, or earlier; whoever waits longest is the first */
    struct wire_arena *arena;
    struct wire_writer writer;
    unsigned n_streams, n_reading, n_news;
    uint64_t rows, bytes, looked;
};

/* ---- streams.c ---- */

void streams_forget_client(struct streams *self, struct client *client);
void streams_drop(struct stream **stream_p);
/* It has something to do: a batch to look for, a read, or its end. */
void stream_wake(struct stream *stream);
/* Its progress is said soon. */
void stream_tell_news(struct stream *stream);
void stream_told(struct stream *stream);               /* it was said */

/* ---- streams_audience.c ---- */

/* Brings the stream into the audience of a batch or (NULL) of a name, out of the one that it was in. 0 or -ENOMEM: it stays where it was. */
int audience_join(struct stream *stream, const struct register_batch *batch, const char *name);
void audience_leave(struct stream *stream);            /* in none: nothing happens */
/* Sends what was recorded and is recent. Without credit or memory the stream goes on with a read, later. false: the client is
 * gone, and with it its streams. */
bool audience_send_recent(struct stream *stream);
void audiences_forget_recorded(struct streams *self);  /* at the end of a turn whoever could take them has them */

/* ---- streams_say.c ---- */

/* false: the client is gone, and with it its streams. */
bool say_welcome(struct streams *self, struct client *client, uint64_t id);
bool say_begin(struct stream *stream, const struct register_batch *batch);
bool say_progress(struct stream *stream, const struct register_batch *batch);
/* Ends the stream; `sentence`: why before the batch was complete, or NULL. */
void say_end(struct stream *stream, const struct register_batch *batch, const char *sentence);
/* 0, -EHOSTUNREACH: the client was forgotten, or -ENOMEM: not sent. */
int say_row(struct stream *stream, const struct store_frame *frame);
void say_refused(struct streams *self, net_peer peer, uint64_t id, Wire__RefusedCode code, const char *sentence);
void say_hello_first(struct streams *self, net_peer peer, uint64_t id);

#endif
