/* Clients, their streams, the reads for them, and when they are told of their progress. */
#include "sink/streams_private.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log.h"

#define CLIENTS 4096u                       /* at most; then those go that have had no stream for longest */
#define STREAMS_OF_CLIENT 64u
#define STREAMS 1024u
#define READS 8u                            /* at a time, for all streams */
#define READ_BYTES ((uint64_t)1024 * 1024)  /* of one read, but for its last row */
#define PROGRESS_EVERY (100 * NS_PER_MS)
#define IDLE_EVERY (5 * NS_PER_S)           /* progress without news: finds out clients that are gone */

/* ---- when to tell of progress ---- */

static struct stream_list *progress_list(const struct stream *stream)
{
    return stream->hushed ? &stream->streams->hushed : &stream->streams->quiet;
}

static void progress_leave(struct stream *stream)
{
    TAILQ_REMOVE(progress_list(stream), stream, of_progress);
}

/* Behind those who were told earlier. */
static void progress_join(struct stream *stream, bool hushed)
{
    stream->hushed = hushed;
    TAILQ_INSERT_TAIL(progress_list(stream), stream, of_progress);
}

/* It is told at the end of this turn. */
static void progress_hurry(struct stream *stream)
{
    progress_leave(stream);
    stream->hushed = false;
    stream->said_at = (mono_t){INT64_MIN / 2};
    TAILQ_INSERT_HEAD(progress_list(stream), stream, of_progress);
}

static void set_news(struct stream *stream, bool news)
{
    struct streams *self = stream->streams;
    if (stream->news != news)
        self->n_news = news ? self->n_news + 1 : self->n_news - 1;
    stream->news = news;
}

void stream_tell_news(struct stream *stream)
{
    set_news(stream, true);
    if (!stream->hushed)
        progress_hurry(stream);
}

void stream_told(struct stream *stream)
{
    set_news(stream, false);
    stream->said_at = loop_now(stream->streams->config.loop);
    progress_leave(stream);
    progress_join(stream, true);
}

/* ---- life ---- */

struct streams *streams_new(const struct streams_config *config)
{
    struct streams *self = calloc(1, sizeof *self);
    if (!self)
        return NULL;
    self->config = *config;
    TAILQ_INIT(&self->idle);
    TAILQ_INIT(&self->with_recent);
    TAILQ_INIT(&self->ready);
    TAILQ_INIT(&self->hushed);
    TAILQ_INIT(&self->quiet);
    self->arena = wire_arena_new();
    if (!self->arena)
        streams_destroy(&self);
    return self;
}

static void stream_unready(struct stream *stream)
{
    if (stream->ready)
        TAILQ_REMOVE(&stream->streams->ready, stream, of_ready);
    stream->ready = false;
}

static void client_goes_idle(struct streams *self, struct client *client)
{
    if (client->n_streams == 0 && !client->idle) {
        client->idle = true;
        TAILQ_INSERT_TAIL(&self->idle, client, entry);
    }
}

void streams_drop(struct stream **stream_p)
{
    struct stream *stream = *stream_p;
    struct streams *self = stream->streams;
    *stream_p = NULL;
    if (stream->reading) {
        store_read_cancel(self->config.store, stream->read_id);
        self->n_reading--;
    }
    stream_unready(stream);
    set_news(stream, false);
    progress_leave(stream);
    TAILQ_REMOVE(&stream->client->streams, stream, of_client);
    self->n_streams--;
    stream->client->n_streams--;
    client_goes_idle(self, stream->client);
    audience_leave(stream);
    free(stream);
}

void streams_forget_client(struct streams *self, struct client *client)
{
    struct stream *stream;
    while ((stream = TAILQ_FIRST(&client->streams)))
        streams_drop(&stream);
    if (client->idle)
        TAILQ_REMOVE(&self->idle, client, entry);
    HASH_DEL(self->clients, client);
    free(client);
}

void streams_destroy(struct streams **self_p)
{
    struct streams *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    struct client *client, *next;
    HASH_ITER(hh, self->clients, client, next)
        streams_forget_client(self, client);
    wire_arena_destroy(&self->arena);
    wire_writer_release(&self->writer);
    free(self);
}

/* ---- reading ---- */

void stream_wake(struct stream *stream)
{
    if (stream->ready || stream->reading || (stream->credit <= 0 && !stream->audience->name))
        return;
    stream->ready = true;
    TAILQ_INSERT_TAIL(&stream->streams->ready, stream, of_ready);
}

/* NULL: it was purged, or is still to come. */
static const struct register_batch *batch_of(const struct stream *stream)
{
    return stream->audience->name ? NULL : register_find_number(stream->streams->config.registry, stream->audience->batch);
}

/* In an ordered stream a row that ends behind the window is new since the window was made: the next
 * window has it. Attempts have no place among verdicts by index. */
static bool is_wanted(const struct stream *stream, const struct store_frame *frame)
{
    return !stream->ordered || (frame->kind != ROW_ATTEMPT && frame->first + frame->count <= stream->to);
}

/* Everything that was there when the read was asked for is sent. */
static void stream_caught_up(struct stream *stream)
{
    const struct register_batch *batch = batch_of(stream);
    if (!batch || !stream->follow || stream->saw_complete)
        say_end(stream, batch, batch ? NULL : "the batch was purged: what was not read of its results is gone");
    else
        stream_tell_news(stream);
}

/* All of one read is sent. An ordered stream goes on with its next window. */
static void stream_read_through(struct stream *stream)
{
    if (stream->ordered) {
        stream->from = stream->to;
        stream->after = 0;
    }
    stream->near = !stream->ordered && !stream->missed;
    if (stream->ordered || (stream->moved && stream->follow))
        stream_wake(stream);
    else
        stream_caught_up(stream);
}

/* Sends what the credit allows. The number of rows that are done with, or -EHOSTUNREACH: the stream is gone. */
static ssize_t send_rows(struct stream *stream, const struct store_rows *rows)
{
    size_t i = 0;
    for (; i < rows->n && stream->credit > 0; i++) {
        int rc = is_wanted(stream, &rows->frames[i]) ? say_row(stream, &rows->frames[i]) : 0;
        if (rc == -EHOSTUNREACH)
            return rc;
        if (rc < 0)
            break;
        stream->after = rows->frames[i].number;
    }
    return (ssize_t)i;
}

static void read_done(void *arg, const struct store_rows *rows)
{
    struct stream *stream = arg;
    stream->reading = false;
    stream->streams->n_reading--;
    stream->missed |= rows->sees < stream->read_sees;       /* what waits for room is not among the recent, if nobody was near then */
    ssize_t n = send_rows(stream, rows);
    if (n < 0)
        return;
    stream_tell_news(stream);
    bool cut = (size_t)n < rows->n;
    if (!cut && rows->damage) {
        log_event(LOG_ERROR, "stream_damaged", "sentence", rows->damage, NULL);
        say_end(stream, batch_of(stream), rows->damage);
    } else if (cut || rows->more) {
        stream_wake(stream);
    } else {
        stream_read_through(stream);
    }
}

/* Ordered: the next window. false: there is none yet. */
static bool next_window(struct stream *stream, const struct register_batch *batch)
{
    if (stream->after == 0)
        stream->to = register_prefix(stream->streams->config.registry, batch->number, stream->from);
    return stream->to > stream->from;
}

static void stream_read(struct stream *stream)
{
    struct streams *self = stream->streams;
    const struct register_batch *batch = batch_of(stream);
    if (!batch) {
        say_end(stream, NULL, "the batch was purged: what was not read of its results is gone");
        return;
    }
    stream->moved = false;
    stream->saw_complete = batch->complete;
    if (stream->near) {
        if (audience_send_recent(stream) && stream->near)
            stream_caught_up(stream);
        return;
    }
    if (stream->ordered && !next_window(stream, batch)) {
        stream_caught_up(stream);
        return;
    }
    uint64_t credit = (uint64_t)stream->credit;
    struct store_query query = {
        .batch = batch->number, .order = stream->ordered ? STORE_BY_INDEX : STORE_BY_NUMBER,
        .after = stream->after, .from = stream->from, .to = stream->to,
        .max_rows = 4096, .max_bytes = (size_t)(credit < READ_BYTES ? credit : READ_BYTES), .heads_only = stream->heads_only,
    };
    if (store_read(self->config.store, &query, read_done, stream, &stream->read_id) < 0) {
        stream_wake(stream);
        return;
    }
    stream->reading = true;
    stream->missed = false;
    stream->read_sees = store_flushed(self->config.store);
    self->n_reading++;
}

/* ---- queries ---- */

/* Binds the stream to its batch. */
static void stream_begin(struct stream *stream, const struct register_batch *batch)
{
    /* Without memory it goes on waiting. */
    if (audience_join(stream, batch, NULL) < 0) {
        stream_wake(stream);
        return;
    }
    if (!say_begin(stream, batch))
        return;
    progress_hurry(stream);
    stream_tell_news(stream);
    stream_wake(stream);
}

static struct stream *find_stream(const struct client *client, uint64_t id)
{
    struct stream *stream;
    TAILQ_FOREACH(stream, &client->streams, of_client)
        if (stream->id == id)
            return stream;
    return NULL;
}

static void add_credit(struct stream *stream, uint64_t bytes)
{
    int64_t more = bytes < (uint64_t)STREAM_CREDIT ? (int64_t)bytes : STREAM_CREDIT;
    stream->credit = stream->credit + more < STREAM_CREDIT ? stream->credit + more : STREAM_CREDIT;
    stream_wake(stream);
}

static struct stream *stream_new(struct streams *self, struct client *client, uint64_t id, const Wire__Subscribe *subscribe)
{
    struct stream *stream = calloc(1, sizeof *stream);
    if (!stream)
        return NULL;
    *stream = (struct stream){
        .streams = self, .client = client, .id = id,
        .ordered = subscribe->ordered, .follow = subscribe->follow, .wait = subscribe->wait, .heads_only = subscribe->heads_only,
        .after = subscribe->ordered ? 0 : subscribe->after, .from = subscribe->from_index,
        .said_at = loop_now(self->config.loop),
    };
    if (audience_join(stream, NULL, subscribe->ref) < 0) {
        free(stream);
        return NULL;
    }
    if (client->idle)
        TAILQ_REMOVE(&self->idle, client, entry);
    client->idle = false;
    TAILQ_INSERT_TAIL(&client->streams, stream, of_client);
    progress_join(stream, true);
    client->n_streams++;
    self->n_streams++;
    return stream;
}

/* What stands in the way of one more stream; NULL: nothing. */
static const char *too_many(const struct streams *self, const struct client *client)
{
    if (client->n_streams >= STREAMS_OF_CLIENT)
        return "this connection has 64 streams, the most it may have; end one of them first";
    if (self->n_streams >= STREAMS)
        return "this sink serves 1024 streams, the most it can; try again later";
    return NULL;
}

static void take_subscribe(struct streams *self, struct client *client, uint64_t id, const Wire__Subscribe *subscribe)
{
    char sentence[512];
    const char *full = too_many(self, client);
    if (full) {
        say_refused(self, client->peer, id, WIRE__REFUSED_CODE__NOT_NOW, full);
        return;
    }
    if (find_stream(client, id)) {
        snprintf(sentence, sizeof sentence, "query %" PRIu64 " of this connection is a stream already; give each its own id", id);
        say_refused(self, client->peer, id, WIRE__REFUSED_CODE__BAD_REQUEST, sentence);
        return;
    }
    const struct register_batch *batch = register_find(self->config.registry, subscribe->ref);
    if (!batch && register_was_forgotten(self->config.registry, subscribe->ref)) {
        snprintf(sentence, sizeof sentence, "batch %s was purged: its results are gone", subscribe->ref);
        say_refused(self, client->peer, id, WIRE__REFUSED_CODE__REFUSED, sentence);
        return;
    }
    if (!batch && !subscribe->wait) {
        snprintf(sentence, sizeof sentence, "the sink has no batch %s; give the id that submit printed (list shows them)", subscribe->ref);
        say_refused(self, client->peer, id, WIRE__REFUSED_CODE__UNKNOWN_BATCH, sentence);
        return;
    }
    struct stream *stream = stream_new(self, client, id, subscribe);
    if (!stream) {
        say_refused(self, client->peer, id, WIRE__REFUSED_CODE__NOT_NOW, "the sink has no memory for one more stream; try again later");
        return;
    }
    add_credit(stream, subscribe->credit);
    if (batch)
        stream_begin(stream, batch);
}

static struct client *client_new(struct streams *self, net_peer peer)
{
    struct client *client = calloc(1, sizeof *client);
    if (!client)
        return NULL;
    TAILQ_INIT(&client->streams);
    client->peer = peer;
    HASH_ADD(hh, self->clients, peer, sizeof client->peer, client);
    if (!client->hh.tbl) {
        free(client);
        return NULL;
    }
    client_goes_idle(self, client);
    while (HASH_COUNT(self->clients) > CLIENTS && TAILQ_FIRST(&self->idle) != client && !TAILQ_EMPTY(&self->idle))
        streams_forget_client(self, TAILQ_FIRST(&self->idle));
    return client;
}

static void take_hello(struct streams *self, struct client *client, net_peer peer, uint64_t id, const Wire__ClientHello *hello)
{
    char sentence[256];
    if (hello->major != WIRE_MAJOR) {
        snprintf(sentence, sizeof sentence, "this sink speaks protocol %u, the client %" PRIu32 "; use programs of the same version",
                 WIRE_MAJOR, hello->major);
        say_refused(self, peer, id, WIRE__REFUSED_CODE__WRONG_VERSION, sentence);
        return;
    }
    if (!client && !(client = client_new(self, peer)))
        return;
    say_welcome(self, client, id);
}

static void take_word(struct streams *self, struct client *client, const Wire__Query *query)
{
    struct stream *stream;
    switch (query->what_case) {
    case WIRE__QUERY__WHAT_SUBSCRIBE:
        take_subscribe(self, client, query->id, query->subscribe);
        break;
    case WIRE__QUERY__WHAT_CREDIT:
        if ((stream = find_stream(client, query->id)))
            add_credit(stream, query->credit->bytes);
        break;
    case WIRE__QUERY__WHAT_UNSUBSCRIBE:
        if ((stream = find_stream(client, query->id)))
            streams_drop(&stream);
        break;
    default:                             /* of a newer client; the codec has let it pass */
        break;
    }
}

void streams_message(struct streams *self, const struct net_message *message)
{
    const Wire__Query *query;
    struct client *client;
    struct why why;
    if (wire_read_query(self->arena, message->head, message->head_len, message->body.len, &query, &why) < 0) {
        say_refused(self, message->peer, wire_peek_id(message->head, message->head_len), WIRE__REFUSED_CODE__BAD_REQUEST, why.text);
        return;
    }
    HASH_FIND(hh, self->clients, &message->peer, sizeof message->peer, client);
    if (query->what_case == WIRE__QUERY__WHAT_HELLO) {
        take_hello(self, client, message->peer, query->id, query->hello);
    } else if (client) {
        take_word(self, client, query);
    } else {
        say_hello_first(self, message->peer, query->id);
    }
}

/* ---- each turn ---- */

/* Says how far the batches are: soon where there is news, else now and then. Returns when the next one is due. A client that is gone
 * takes streams along, so each time the first of a list is looked at. */
static mono_t look_at_progress(struct streams *self, mono_t now)
{
    struct stream *stream;
    while ((stream = TAILQ_FIRST(&self->hushed)) && mono_reached(now, mono_add(stream->said_at, PROGRESS_EVERY))) {
        self->looked++;
        progress_leave(stream);
        progress_join(stream, false);
        if (stream->news)
            progress_hurry(stream);
    }
    while ((stream = TAILQ_FIRST(&self->quiet)) && mono_reached(now, mono_add(stream->said_at, IDLE_EVERY))) {
        self->looked++;
        say_progress(stream, batch_of(stream));
    }
    /* Those that have news are hushed: all others were told. */
    stream = stream ? stream : TAILQ_FIRST(&self->hushed);
    mono_t next = stream ? mono_add(stream->said_at, IDLE_EVERY) : MONO_NEVER;
    return self->n_news > 0 ? mono_min(next, mono_add(TAILQ_FIRST(&self->hushed)->said_at, PROGRESS_EVERY)) : next;
}

static void serve(struct stream *stream)
{
    if (!stream->audience->name) {
        stream_read(stream);
        return;
    }
    const struct register_batch *batch = register_find(stream->streams->config.registry, stream->audience->name);
    if (batch)
        stream_begin(stream, batch);
}

mono_t streams_turn(struct streams *self)
{
    mono_t now = loop_now(self->config.loop);
    struct stream *stream;
    unsigned n = self->n_streams;
    while (self->n_reading < READS && n-- > 0 && (stream = TAILQ_FIRST(&self->ready))) {
        stream_unready(stream);
        serve(stream);
    }
    audiences_forget_recorded(self);
    mono_t next = look_at_progress(self, now);
    /* With all reads taken, the next one that ends brings another turn. */
    return !TAILQ_EMPTY(&self->ready) && self->n_reading < READS ? now : next;
}

void streams_count(const struct streams *self, struct streams_counts *ret)
{
    *ret = (struct streams_counts){HASH_COUNT(self->clients), self->n_streams, self->n_reading, self->rows, self->bytes, self->looked};
}
