/* Clients, their streams, and the reads for them. Sending may find out that a client is gone; then it
 * is forgotten on the spot with all its streams: what sends says so to its caller, who touches the
 * stream no more. */
#include "sink/streams.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "common/log.h"
#include "proto/wire.h"

#define CLIENTS 4096u                       /* at most; then those go that have had no stream for longest */
#define STREAMS_OF_CLIENT 64u
#define STREAMS 1024u
#define READS 8u                            /* at a time, for all streams */
#define READ_BYTES ((uint64_t)1024 * 1024)  /* of one read, but for its last row */
#define CREDIT ((int64_t)64 * 1024 * 1024)  /* of one stream, at most */
#define PROGRESS_EVERY (100 * NS_PER_MS)
#define IDLE_EVERY (5 * NS_PER_S)           /* progress without news: finds out clients that are gone */

struct client;

struct stream {
    TAILQ_ENTRY(stream) of_client, of_all, of_ready;
    struct streams *streams;
    struct client *client;
    uint64_t id;
    char *ref;                              /* while it waits for a batch of this name, then NULL */
    uint64_t batch;
    bool ordered, follow, wait, heads_only;
    int64_t credit;
    uint64_t after;                         /* the last row; in an ordered stream: of the window */
    uint64_t from, to;                      /* ordered: the window, all of it recorded */
    bool ready, reading;
    bool moved;                             /* since the last read was asked for */
    bool saw_complete;                      /* the batch was complete when it was asked for */
    bool news;                              /* something to say about its progress */
    uint64_t read_id;
    bool near;                              /* it has every row that is not among the recent ones */
    bool missed;                            /* of the read that is under way: it may not see a row that is recent no more */
    uint64_t read_sees;                     /* … but all rows of this flush and of those before, if they found room */
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
    struct stream_list all, ready;
    struct recent_list recent;
    struct wire_arena *arena;
    struct wire_writer writer;
    unsigned n_streams, n_reading;
    bool news;                              /* of any stream */
    mono_t look_at;                         /* their progress is due */
    uint64_t rows, bytes;
};

/* ---- life ---- */

struct streams *streams_new(const struct streams_config *config)
{
    struct streams *self = calloc(1, sizeof *self);
    if (!self)
        return NULL;
    self->config = *config;
    TAILQ_INIT(&self->idle);
    TAILQ_INIT(&self->all);
    TAILQ_INIT(&self->ready);
    STAILQ_INIT(&self->recent);
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

static void stream_destroy(struct stream **stream_p)
{
    struct stream *stream = *stream_p;
    struct streams *self = stream->streams;
    *stream_p = NULL;
    if (stream->reading) {
        store_read_cancel(self->config.store, stream->read_id);
        self->n_reading--;
    }
    stream_unready(stream);
    TAILQ_REMOVE(&self->all, stream, of_all);
    TAILQ_REMOVE(&stream->client->streams, stream, of_client);
    self->n_streams--;
    stream->client->n_streams--;
    client_goes_idle(self, stream->client);
    free(stream->ref);
    free(stream);
}

static void client_forget(struct streams *self, struct client *client)
{
    struct stream *stream;
    while ((stream = TAILQ_FIRST(&client->streams)))
        stream_destroy(&stream);
    if (client->idle)
        TAILQ_REMOVE(&self->idle, client, entry);
    HASH_DEL(self->clients, client);
    free(client);
}

static void drop_recent(struct recent *self)
{
    slice_drop(&self->frame.head);
    slice_drop(&self->frame.body);
    free(self);
}

void streams_destroy(struct streams **self_p)
{
    struct streams *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    struct client *client, *next;
    HASH_ITER(hh, self->clients, client, next)
        client_forget(self, client);
    for (struct recent *recent; (recent = STAILQ_FIRST(&self->recent));) {
        STAILQ_REMOVE_HEAD(&self->recent, entry);
        drop_recent(recent);
    }
    wire_arena_destroy(&self->arena);
    wire_writer_release(&self->writer);
    free(self);
}

/* ---- sending ---- */

static int send_answer(struct streams *self, net_peer peer, const Wire__Answer *answer, struct slice body, bool with_body)
{
    if (wire_write(&self->writer, &answer->base) < 0)
        return -ENOMEM;
    return self->config.send(self->config.arg, peer, self->writer.bytes, self->writer.len, body, with_body);
}

/* false: the client is gone, and with it its streams. Without memory the message is lost; rows look at that themselves. */
static bool answer(struct streams *self, struct client *client, const Wire__Answer *message)
{
    if (send_answer(self, client->peer, message, (struct slice){0}, false) != -EHOSTUNREACH)
        return true;
    client_forget(self, client);
    return false;
}

static void refuse(struct streams *self, net_peer peer, uint64_t id, Wire__RefusedCode code, const char *sentence)
{
    Wire__Refused refused = WIRE__REFUSED__INIT;
    Wire__Answer message = WIRE__ANSWER__INIT;
    refused.code = code;
    refused.sentence = (char *)(uintptr_t)sentence;
    message.id = id;
    message.what_case = WIRE__ANSWER__WHAT_REFUSED;
    message.refused = &refused;
    send_answer(self, peer, &message, (struct slice){0}, false);
}

static bool say_progress(struct stream *stream, const struct register_batch *batch)
{
    Wire__StreamProgress progress = WIRE__STREAM_PROGRESS__INIT;
    Wire__Number total = WIRE__NUMBER__INIT;
    Wire__Answer message = WIRE__ANSWER__INIT;
    uint64_t counts[WIRE_VERDICTS] = {0};
    if (batch) {
        memcpy(counts, batch->counts, sizeof counts);
        progress.recorded = batch->recorded;
        progress.complete = batch->complete;
        total.n = batch->total;
        progress.total = batch->total_known ? &total : NULL;
    }
    progress.counts = counts;
    progress.n_counts = WIRE_VERDICTS;
    message.id = stream->id;
    message.what_case = WIRE__ANSWER__WHAT_PROGRESS;
    message.progress = &progress;
    stream->said_at = loop_now(stream->streams->config.loop);
    stream->news = false;
    return answer(stream->streams, stream->client, &message);
}

/* Ends the stream; `sentence`: why before the batch was complete, or NULL. */
static void end_stream(struct stream *stream, const struct register_batch *batch, const char *sentence)
{
    Wire__StreamEnd end = WIRE__STREAM_END__INIT;
    Wire__Number total = WIRE__NUMBER__INIT;
    Wire__Answer message = WIRE__ANSWER__INIT;
    uint64_t counts[WIRE_VERDICTS] = {0};
    char cut[WIRE_SENTENCE];
    if (batch) {
        memcpy(counts, batch->counts, sizeof counts);
        end.recorded = batch->recorded;
        total.n = batch->total;
        end.total = batch->total_known ? &total : NULL;
        end.complete = batch->complete;
        end.whole_cancelled = batch->whole_cancelled;
        end.by_deadline = batch->by_deadline;
    }
    if (sentence) {
        snprintf(cut, sizeof cut, "%s", sentence);
        end.sentence = cut;
    }
    end.counts = counts;
    end.n_counts = WIRE_VERDICTS;
    message.id = stream->id;
    message.what_case = WIRE__ANSWER__WHAT_END;
    message.end = &end;
    if (answer(stream->streams, stream->client, &message))
        stream_destroy(&stream);
}

static bool say_begin(struct stream *stream, const struct register_batch *batch)
{
    Wire__StreamBegin begin = WIRE__STREAM_BEGIN__INIT;
    Wire__Answer message = WIRE__ANSWER__INIT;
    begin.batch = wire_id_bytes(batch->id);
    begin.short_id = (char *)(uintptr_t)batch->short_id;
    begin.options = (Wire__Options *)(uintptr_t)batch->options;
    message.id = stream->id;
    message.what_case = WIRE__ANSWER__WHAT_BEGIN;
    message.begin = &begin;
    return answer(stream->streams, stream->client, &message);
}

/* 0, -EHOSTUNREACH: the client was forgotten, or -ENOMEM: not sent. */
static int send_row(struct stream *stream, const struct store_frame *frame)
{
    struct streams *self = stream->streams;
    Wire__StreamRow row = WIRE__STREAM_ROW__INIT;
    Wire__Answer message = WIRE__ANSWER__INIT;
    row.number = frame->number;
    row.row = (ProtobufCBinaryData){.len = frame->head.len, .data = (uint8_t *)(uintptr_t)frame->head.data};
    message.id = stream->id;
    message.what_case = WIRE__ANSWER__WHAT_ROW;
    message.row = &row;
    struct slice body = stream->heads_only ? (struct slice){0} : frame->body;
    int rc = send_answer(self, stream->client->peer, &message, body, !stream->heads_only);
    if (rc == -EHOSTUNREACH)
        client_forget(self, stream->client);
    if (rc < 0)
        return rc;
    stream->credit -= (int64_t)(self->writer.len + body.len);
    self->rows++;
    self->bytes += self->writer.len + body.len;
    return 0;
}

/* ---- reading ---- */

/* It has something to do: a batch to look for, a read, or its end. */
static void stream_wake(struct stream *stream)
{
    if (stream->ready || stream->reading || (stream->credit <= 0 && !stream->ref))
        return;
    stream->ready = true;
    TAILQ_INSERT_TAIL(&stream->streams->ready, stream, of_ready);
}

/* In an ordered stream a row that ends behind the window is new since the window was made: the next
 * window has it. Attempts have no place among verdicts by index. */
static bool is_wanted(const struct stream *stream, const struct store_frame *frame)
{
    return !stream->ordered || (frame->kind != ROW_ATTEMPT && frame->first + frame->count <= stream->to);
}

static void tell_news(struct stream *stream)
{
    stream->news = true;
    stream->streams->news = true;
}

/* Everything that was there when the read was asked for is sent. */
static void stream_caught_up(struct stream *stream)
{
    const struct register_batch *batch = register_find_number(stream->streams->config.registry, stream->batch);
    if (!batch || !stream->follow || stream->saw_complete)
        end_stream(stream, batch, batch ? NULL : "the batch was purged: what was not read of its results is gone");
    else
        tell_news(stream);
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
        int rc = is_wanted(stream, &rows->frames[i]) ? send_row(stream, &rows->frames[i]) : 0;
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
    tell_news(stream);
    bool cut = (size_t)n < rows->n;
    if (!cut && rows->damage) {
        log_event(LOG_ERROR, "stream_damaged", "sentence", rows->damage, NULL);
        end_stream(stream, register_find_number(stream->streams->config.registry, stream->batch), rows->damage);
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

/* ---- what was just recorded ---- */

/* A row that is recorded goes to the streams that have everything before it as it is, from memory: a read would cost them two
 * more changes of threads. Rows are kept for streams that are near, or whose read may be over before they are recorded. */
static bool is_kept_for(const struct stream *stream, uint64_t batch)
{
    return !stream->ref && !stream->ordered && stream->batch == batch && (stream->near || stream->reading);
}

/* Who has not seen the row by now has to read it. */
static void forget_row(struct streams *self, uint64_t batch, uint64_t number, uint64_t sequence)
{
    struct stream *stream;
    TAILQ_FOREACH(stream, &self->all, of_all) {
        if (!is_kept_for(stream, batch) || stream->after >= number || (stream->reading && sequence <= stream->read_sees))
            continue;
        stream->near = false;
        stream->missed = true;
    }
}

void streams_appended(struct streams *self, const struct store_frame *frame)
{
    struct stream *stream;
    uint64_t sequence = store_flushed(self->config.store) + 1;
    TAILQ_FOREACH(stream, &self->all, of_all)
        if (is_kept_for(stream, frame->batch))
            break;
    if (!stream)
        return;
    struct recent *recent = calloc(1, sizeof *recent);
    if (recent) {
        recent->sequence = sequence;
        recent->frame = *frame;
        recent->frame.head = slice_keep(frame->head);
        recent->frame.body = slice_keep(frame->body);
        if (recent->frame.head.data && (frame->body.len == 0 || recent->frame.body.data)) {
            STAILQ_INSERT_TAIL(&self->recent, recent, entry);
            return;
        }
        drop_recent(recent);
    }
    forget_row(self, frame->batch, frame->number, sequence);
}

/* At the end of a turn whoever could take them has them. */
static void forget_recorded(struct streams *self)
{
    struct recent *recent;
    uint64_t committed = store_committed(self->config.store);
    while ((recent = STAILQ_FIRST(&self->recent)) && recent->sequence <= committed) {
        STAILQ_REMOVE_HEAD(&self->recent, entry);
        forget_row(self, recent->frame.batch, recent->frame.number, recent->sequence);
        drop_recent(recent);
    }
}

/* Without credit or memory it goes on with a read, later. false: the client is gone, and with it its streams. */
static bool send_recent(struct stream *stream)
{
    struct streams *self = stream->streams;
    struct recent *recent;
    uint64_t committed = store_committed(self->config.store);
    STAILQ_FOREACH(recent, &self->recent, entry) {
        if (recent->sequence > committed)
            break;
        if (recent->frame.batch != stream->batch || recent->frame.number <= stream->after)
            continue;
        int rc = stream->credit > 0 ? send_row(stream, &recent->frame) : -EAGAIN;
        if (rc == -EHOSTUNREACH)
            return false;
        if (rc < 0) {
            stream->near = false;
            stream_wake(stream);
            return true;
        }
        stream->after = recent->frame.number;
    }
    return true;
}

/* Whoever is gone is seen again in the turn. */
void streams_recorded(struct streams *self)
{
    struct stream *stream, *next;
    if (STAILQ_EMPTY(&self->recent))
        return;
    for (stream = TAILQ_FIRST(&self->all); stream; stream = next) {
        next = TAILQ_NEXT(stream, of_all);
        if (stream->near && !send_recent(stream))
            return;
    }
}

static void stream_read(struct stream *stream)
{
    struct streams *self = stream->streams;
    const struct register_batch *batch = register_find_number(self->config.registry, stream->batch);
    if (!batch) {
        end_stream(stream, NULL, "the batch was purged: what was not read of its results is gone");
        return;
    }
    stream->moved = false;
    stream->saw_complete = batch->complete;
    if (stream->near) {
        if (send_recent(stream) && stream->near)
            stream_caught_up(stream);
        return;
    }
    if (stream->ordered && !next_window(stream, batch)) {
        stream_caught_up(stream);
        return;
    }
    uint64_t credit = (uint64_t)stream->credit;
    struct store_query query = {
        .batch = stream->batch, .order = stream->ordered ? STORE_BY_INDEX : STORE_BY_NUMBER,
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

/* A batch comes under the name that a stream waits for. */
static bool is_awaited(const struct stream *stream, const struct register_batch *batch)
{
    char hex[33];
    wire_id_hex(batch->id, hex);
    return strcmp(stream->ref, batch->short_id) == 0 || strncmp(stream->ref, hex, strlen(stream->ref)) == 0;
}

/* Nothing is sent here: who calls is in the middle of something else. */
void streams_moved(struct streams *self, const struct register_batch *batch)
{
    struct stream *stream;
    TAILQ_FOREACH(stream, &self->all, of_all) {
        if (stream->ref ? !is_awaited(stream, batch) : stream->batch != batch->number)
            continue;
        stream->moved = true;
        if (!stream->ref)
            tell_news(stream);
        stream_wake(stream);
    }
}

/* ---- queries ---- */

/* Binds the stream to its batch. */
static void stream_begin(struct stream *stream, const struct register_batch *batch)
{
    free(stream->ref);
    stream->ref = NULL;
    stream->batch = batch->number;
    stream->said_at = (mono_t){INT64_MIN / 2};
    if (!say_begin(stream, batch))
        return;
    tell_news(stream);
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
    int64_t more = bytes < (uint64_t)CREDIT ? (int64_t)bytes : CREDIT;
    stream->credit = stream->credit + more < CREDIT ? stream->credit + more : CREDIT;
    stream_wake(stream);
}

static struct stream *stream_new(struct streams *self, struct client *client, uint64_t id, const Wire__Subscribe *subscribe)
{
    struct stream *stream = calloc(1, sizeof *stream);
    char *ref = strdup(subscribe->ref);
    if (!stream || !ref) {
        free(stream);
        free(ref);
        return NULL;
    }
    *stream = (struct stream){
        .streams = self, .client = client, .id = id, .ref = ref,
        .ordered = subscribe->ordered, .follow = subscribe->follow, .wait = subscribe->wait, .heads_only = subscribe->heads_only,
        .after = subscribe->ordered ? 0 : subscribe->after, .from = subscribe->from_index,
        .said_at = loop_now(self->config.loop),
    };
    if (client->idle)
        TAILQ_REMOVE(&self->idle, client, entry);
    client->idle = false;
    TAILQ_INSERT_TAIL(&client->streams, stream, of_client);
    TAILQ_INSERT_TAIL(&self->all, stream, of_all);
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
        refuse(self, client->peer, id, WIRE__REFUSED_CODE__NOT_NOW, full);
        return;
    }
    if (find_stream(client, id)) {
        snprintf(sentence, sizeof sentence, "query %" PRIu64 " of this connection is a stream already; give each its own id", id);
        refuse(self, client->peer, id, WIRE__REFUSED_CODE__BAD_REQUEST, sentence);
        return;
    }
    const struct register_batch *batch = register_find(self->config.registry, subscribe->ref);
    if (!batch && register_was_forgotten(self->config.registry, subscribe->ref)) {
        snprintf(sentence, sizeof sentence, "batch %s was purged: its results are gone", subscribe->ref);
        refuse(self, client->peer, id, WIRE__REFUSED_CODE__REFUSED, sentence);
        return;
    }
    if (!batch && !subscribe->wait) {
        snprintf(sentence, sizeof sentence, "the sink has no batch %s; give the id that submit printed (list shows them)", subscribe->ref);
        refuse(self, client->peer, id, WIRE__REFUSED_CODE__UNKNOWN_BATCH, sentence);
        return;
    }
    struct stream *stream = stream_new(self, client, id, subscribe);
    if (!stream) {
        refuse(self, client->peer, id, WIRE__REFUSED_CODE__NOT_NOW, "the sink has no memory for one more stream; try again later");
        return;
    }
    add_credit(stream, subscribe->credit);
    self->news = true;
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
        client_forget(self, TAILQ_FIRST(&self->idle));
    return client;
}

static void take_hello(struct streams *self, struct client *client, net_peer peer, uint64_t id, const Wire__ClientHello *hello)
{
    Wire__ClientWelcome welcome = WIRE__CLIENT_WELCOME__INIT;
    Wire__Answer message = WIRE__ANSWER__INIT;
    char sentence[256];
    if (hello->major != WIRE_MAJOR) {
        snprintf(sentence, sizeof sentence, "this sink speaks protocol %u, the client %" PRIu32 "; use programs of the same version",
                 WIRE_MAJOR, hello->major);
        refuse(self, peer, id, WIRE__REFUSED_CODE__WRONG_VERSION, sentence);
        return;
    }
    if (!client && !(client = client_new(self, peer)))
        return;
    welcome.major = WIRE_MAJOR;
    welcome.minor = WIRE_MINOR;
    welcome.program = (char *)(uintptr_t)self->config.program;
    welcome.max_payload = WIRE_PAYLOAD;
    welcome.window_chunks = 1;           /* nobody sends chunks here */
    welcome.window_bytes = (uint64_t)CREDIT;
    message.id = id;
    message.what_case = WIRE__ANSWER__WHAT_WELCOME;
    message.welcome = &welcome;
    answer(self, client, &message);
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
            stream_destroy(&stream);
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
        refuse(self, message->peer, wire_peek_id(message->head, message->head_len), WIRE__REFUSED_CODE__BAD_REQUEST, why.text);
        return;
    }
    HASH_FIND(hh, self->clients, &message->peer, sizeof message->peer, client);
    if (query->what_case == WIRE__QUERY__WHAT_HELLO) {
        take_hello(self, client, message->peer, query->id, query->hello);
    } else if (client) {
        take_word(self, client, query);
    } else {
        Wire__SayHello say_hello = WIRE__SAY_HELLO__INIT;
        Wire__Answer again = WIRE__ANSWER__INIT;
        again.id = query->id;
        again.what_case = WIRE__ANSWER__WHAT_SAY_HELLO;
        again.say_hello = &say_hello;
        send_answer(self, message->peer, &again, (struct slice){0}, false);
    }
}

/* ---- each turn ---- */

/* Says how far the batch is: soon when there is news, else now and then. false: the client is gone. */
static bool look_at_progress(struct stream *stream, mono_t now, mono_t *next)
{
    mono_t due = mono_add(stream->said_at, stream->news ? PROGRESS_EVERY : IDLE_EVERY);
    if (mono_reached(now, due)) {
        if (!say_progress(stream, stream->ref ? NULL : register_find_number(stream->streams->config.registry, stream->batch)))
            return false;
        due = mono_add(now, IDLE_EVERY);
    }
    *next = mono_min(*next, due);
    return true;
}

/* Forgetting a client may take away the next stream too: then the look goes on in the next turn. */
static mono_t look_at_streams(struct streams *self, mono_t now)
{
    mono_t next = MONO_NEVER;
    struct stream *stream, *following;
    for (stream = TAILQ_FIRST(&self->all); stream; stream = following) {
        following = TAILQ_NEXT(stream, of_all);
        if (!look_at_progress(stream, now, &next))
            return now;
    }
    return next;
}

static void serve(struct stream *stream)
{
    if (!stream->ref) {
        stream_read(stream);
        return;
    }
    const struct register_batch *batch = register_find(stream->streams->config.registry, stream->ref);
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
    forget_recorded(self);
    if (self->news || mono_reached(now, self->look_at)) {
        self->news = false;
        self->look_at = look_at_streams(self, now);
    }
    /* With all reads taken, the next one that ends brings another turn. */
    return !TAILQ_EMPTY(&self->ready) && self->n_reading < READS ? now : self->look_at;
}

void streams_count(const struct streams *self, struct streams_counts *ret)
{
    *ret = (struct streams_counts){HASH_COUNT(self->clients), self->n_streams, self->n_reading, self->rows, self->bytes};
}
