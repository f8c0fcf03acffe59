/* What clients are told: the messages to them. */
#include "sink/streams_private.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

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
    streams_forget_client(self, client);
    return false;
}

bool say_welcome(struct streams *self, struct client *client, uint64_t id)
{
    Wire__ClientWelcome welcome = WIRE__CLIENT_WELCOME__INIT;
    Wire__Answer message = WIRE__ANSWER__INIT;
    welcome.major = WIRE_MAJOR;
    welcome.minor = WIRE_MINOR;
    welcome.program = (char *)(uintptr_t)self->config.program;
    welcome.max_payload = WIRE_PAYLOAD;
    welcome.window_chunks = 1;           /* nobody sends chunks here */
    welcome.window_bytes = (uint64_t)STREAM_CREDIT;
    message.id = id;
    message.what_case = WIRE__ANSWER__WHAT_WELCOME;
    message.welcome = &welcome;
    return answer(self, client, &message);
}

void say_hello_first(struct streams *self, net_peer peer, uint64_t id)
{
    Wire__SayHello say_hello = WIRE__SAY_HELLO__INIT;
    Wire__Answer message = WIRE__ANSWER__INIT;
    message.id = id;
    message.what_case = WIRE__ANSWER__WHAT_SAY_HELLO;
    message.say_hello = &say_hello;
    send_answer(self, peer, &message, (struct slice){0}, false);
}

void say_refused(struct streams *self, net_peer peer, uint64_t id, Wire__RefusedCode code, const char *sentence)
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

bool say_progress(struct stream *stream, const struct register_batch *batch)
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
    stream_told(stream);
    return answer(stream->streams, stream->client, &message);
}

void say_end(struct stream *stream, const struct register_batch *batch, const char *sentence)
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
        streams_drop(&stream);
}

bool say_begin(struct stream *stream, const struct register_batch *batch)
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

int say_row(struct stream *stream, const struct store_frame *frame)
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
        streams_forget_client(self, stream->client);
    if (rc < 0)
        return rc;
    stream->credit -= (int64_t)(self->writer.len + body.len);
    self->rows++;
    self->bytes += self->writer.len + body.len;
    return 0;
}

