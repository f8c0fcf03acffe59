/* Who hears of which batch: the streams of each, and the rows that go to them from memory.
 *
 * A row that is recorded goes to the streams that have everything before it as it is: a read would cost them two more changes
 * of threads. Rows are kept for streams that are near, or whose read may be over before they are recorded. */
#include "sink/streams_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- life ---- */

static struct audience *audience_new(const char *name, uint64_t batch)
{
    struct audience *self = calloc(1, sizeof *self);
    if (!self)
        return NULL;
    TAILQ_INIT(&self->streams);
    STAILQ_INIT(&self->recent);
    self->batch = batch;
    self->name = name ? strdup(name) : NULL;
    if (!name || self->name)
        return self;
    free(self);
    return NULL;
}

static void recent_free(struct recent *recent)
{
    slice_drop(&recent->frame.head);
    slice_drop(&recent->frame.body);
    free(recent);
}

static void drop_recent(struct streams *streams, struct audience *self)
{
    struct recent *recent = STAILQ_FIRST(&self->recent);
    STAILQ_REMOVE_HEAD(&self->recent, entry);
    recent_free(recent);
    if (STAILQ_EMPTY(&self->recent))
        TAILQ_REMOVE(&streams->with_recent, self, entry);
}

static void audience_destroy(struct streams *streams, struct audience *self)
{
    while (!STAILQ_EMPTY(&self->recent))
        drop_recent(streams, self);
    if (self->hh.tbl && self->name)
        HASH_DEL(streams->by_name, self);
    else if (self->hh.tbl)
        HASH_DEL(streams->by_batch, self);
    free(self->name);
    free(self);
}

static struct audience *of_batch(struct streams *streams, uint64_t batch)
{
    struct audience *self;
    HASH_FIND(hh, streams->by_batch, &batch, sizeof batch, self);
    return self;
}

static struct audience *of_name(struct streams *streams, const char *name, size_t len)
{
    struct audience *self;
    HASH_FIND(hh, streams->by_name, name, len, self);
    return self;
}

static struct audience *add_audience(struct streams *streams, const char *name, uint64_t batch)
{
    struct audience *self = audience_new(name, batch);
    if (!self)
        return NULL;
    if (name)
        HASH_ADD_KEYPTR(hh, streams->by_name, self->name, strlen(self->name), self);
    else
        HASH_ADD(hh, streams->by_batch, batch, sizeof self->batch, self);
    if (self->hh.tbl)
        return self;
    audience_destroy(streams, self);
    return NULL;
}

void audience_leave(struct stream *stream)
{
    struct audience *self = stream->audience;
    if (!self)
        return;
    TAILQ_REMOVE(&self->streams, stream, of_audience);
    stream->audience = NULL;
    if (TAILQ_EMPTY(&self->streams))
        audience_destroy(stream->streams, self);
}

int audience_join(struct stream *stream, const struct register_batch *batch, const char *name)
{
    struct streams *streams = stream->streams;
    struct audience *self = batch ? of_batch(streams, batch->number) : of_name(streams, name, strlen(name));
    if (!self)
        self = batch ? add_audience(streams, NULL, batch->number) : add_audience(streams, name, 0);
    if (!self)
        return -ENOMEM;
    audience_leave(stream);
    TAILQ_INSERT_TAIL(&self->streams, stream, of_audience);
    stream->audience = self;
    return 0;
}

/* ---- rows from their staging on ---- */

static bool is_kept_for(const struct stream *stream)
{
    return !stream->ordered && (stream->near || stream->reading);
}

/* Who has not seen the row by now has to read it. */
static void forget_row(struct streams *streams, struct audience *self, uint64_t number, uint64_t sequence)
{
    struct stream *stream;
    TAILQ_FOREACH(stream, &self->streams, of_audience) {
        streams->looked++;
        if (!is_kept_for(stream) || stream->after >= number || (stream->reading && sequence <= stream->read_sees))
            continue;
        stream->near = false;
        stream->missed = true;
    }
}

static bool anybody_near(struct streams *streams, const struct audience *self)
{
    const struct stream *stream;
    TAILQ_FOREACH(stream, &self->streams, of_audience) {
        streams->looked++;
        if (is_kept_for(stream))
            return true;
    }
    return false;
}

/* false: no memory. */
static bool keep_row(struct streams *streams, struct audience *self, const struct store_frame *frame, uint64_t sequence)
{
    struct recent *recent = calloc(1, sizeof *recent);
    if (!recent)
        return false;
    recent->sequence = sequence;
    recent->frame = *frame;
    recent->frame.head = slice_keep(frame->head);
    recent->frame.body = slice_keep(frame->body);
    if (!recent->frame.head.data || (frame->body.len > 0 && !recent->frame.body.data)) {
        recent_free(recent);
        return false;
    }
    if (STAILQ_EMPTY(&self->recent))
        TAILQ_INSERT_TAIL(&streams->with_recent, self, entry);
    STAILQ_INSERT_TAIL(&self->recent, recent, entry);
    return true;
}

void streams_appended(struct streams *self, const struct store_frame *frame)
{
    struct audience *audience = of_batch(self, frame->batch);
    uint64_t sequence = store_flushed(self->config.store) + 1;
    if (audience && anybody_near(self, audience) && !keep_row(self, audience, frame, sequence))
        forget_row(self, audience, frame->number, sequence);
}

void audiences_forget_recorded(struct streams *self)
{
    struct audience *audience, *next;
    const struct recent *recent;
    uint64_t committed = store_committed(self->config.store);
    for (audience = TAILQ_FIRST(&self->with_recent); audience; audience = next) {
        next = TAILQ_NEXT(audience, entry);
        while ((recent = STAILQ_FIRST(&audience->recent)) && recent->sequence <= committed) {
            forget_row(self, audience, recent->frame.number, recent->sequence);
            drop_recent(self, audience);
        }
    }
}

bool audience_send_recent(struct stream *stream)
{
    const struct recent *recent;
    uint64_t committed = store_committed(stream->streams->config.store);
    STAILQ_FOREACH(recent, &stream->audience->recent, entry) {
        if (recent->sequence > committed)
            break;
        if (recent->frame.number <= stream->after)
            continue;
        int rc = stream->credit > 0 ? say_row(stream, &recent->frame) : -EAGAIN;
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

/* Whoever is gone takes streams, and maybe audiences, along: the others are seen again in the turn. */
void streams_recorded(struct streams *self)
{
    struct audience *audience;
    struct stream *stream;
    TAILQ_FOREACH(audience, &self->with_recent, entry) {
        TAILQ_FOREACH(stream, &audience->streams, of_audience) {
            self->looked++;
            if (stream->near && !audience_send_recent(stream))
                return;
        }
    }
}

/* ---- what moved ---- */

/* A batch comes under a name that somebody waits for. */
static void wake_waiting(struct streams *self, const char *name, size_t len)
{
    struct audience *audience = of_name(self, name, len);
    struct stream *stream;
    if (!audience)
        return;
    TAILQ_FOREACH(stream, &audience->streams, of_audience) {
        self->looked++;
        stream_wake(stream);
    }
}

/* By all names that it has: the short one, and each beginning of its id. */
static void wake_waiting_for(struct streams *self, const struct register_batch *batch)
{
    char hex[33];
    if (!self->by_name)
        return;
    wire_id_hex(batch->id, hex);
    wake_waiting(self, batch->short_id, strlen(batch->short_id));
    for (size_t len = 1; len < sizeof hex; len++)
        wake_waiting(self, hex, len);
}

/* Nothing is sent here: who calls is in the middle of something else. */
void streams_moved(struct streams *self, const struct register_batch *batch)
{
    struct audience *audience = of_batch(self, batch->number);
    struct stream *stream;
    wake_waiting_for(self, batch);
    if (!audience)
        return;
    TAILQ_FOREACH(stream, &audience->streams, of_audience) {
        self->looked++;
        stream->moved = true;
        stream_tell_news(stream);
        stream_wake(stream);
    }
}
