/* The library's batches: what is added waits in a short queue, from which the submission takes it; what comes
 * back is a stream that is opened when the first result is asked for. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "tarmac/api_private.h"

#define QUEUE_ITEMS 8192u
#define QUEUE_BYTES ((size_t)4 * 1024 * 1024)
#define CREDIT ((uint64_t)4 * 1024 * 1024)
#define TURN_NS NS_PER_MS                /* while tasks are added the connection is served this often */
#define GOODBYE_NS (2 * NS_PER_S)        /* for the cancel of a batch whose context has ended */

struct added {
    STAILQ_ENTRY(added) entry;
    struct buf *payload;
};

/* A stream of results, and what it has said so far. */
struct reader {
    struct stream *stream;
    bool ready, ended;
    tarmac_failure failure;
};

struct tarmac_batch {
    tarmac_context *context;
    tarmac_client *client;
    bool detach, cancelled;              /* cancelled: the ventilator was told that the context has ended */
    uint8_t id[WIRE_ID];
    char short_id[16];

    /* Of a batch that is submitted here. */
    struct items *items;
    struct submission *submission;
    STAILQ_HEAD(, added) queue;
    struct added *given;                 /* lent to the submission until it asks for the next */
    size_t n_queued, queued_bytes;
    uint64_t n_added;
    bool known, sealed, over;
    bool complete;                       /* when it was opened by its id */
    tarmac_failure failure;              /* of the submission, once it is over */
    mono_t turned;

    struct reader results;
};

/* ---- ends ---- */

static void on_cancelled(void *arg, const Wire__Reply *reply) { (void)arg; (void)reply; }

static int cancel(tarmac_batch *self, tarmac_context *context, const char *reason, tarmac_failure *failure)
{
    Wire__Cancel m = WIRE__CANCEL__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    m.ref = self->short_id;
    m.reason = (char *)(uintptr_t)(reason ? reason : "");
    request.what_case = WIRE__REQUEST__WHAT_CANCEL;
    request.cancel = &m;
    return api_ask(context, self->client, &request, on_cancelled, NULL, failure);
}

/* As a cancelled parent cancels its children. A deadline needs no word: the batch has it too. */
static void follow_context(tarmac_batch *self)
{
    char cause[300];
    tarmac_failure ignored;
    if (self->detach || self->cancelled || !self->known || tarmac_err(self->context) != TARMAC_CANCELLED)
        return;
    self->cancelled = true;
    tarmac_context *last = tarmac_with_timeout(tarmac_background(), GOODBYE_NS);
    if (last)
        cancel(self, last, tarmac_cause(self->context, cause, sizeof cause), &ignored);
    tarmac_release(&last);
}

static int wait_for(tarmac_batch *self, bool (*is_done)(void *arg), void *arg, tarmac_failure *failure)
{
    int code = api_wait(self->context, self->client, is_done, arg, failure);
    if (code != TARMAC_OK)
        follow_context(self);
    return code;
}

/* ---- submitting ---- */

static void drop_added(struct added **self_p)
{
    struct added *self = *self_p;
    if (self)
        buf_unref(&self->payload);
    free(self);
    *self_p = NULL;
}

static enum items_result next_added(void *arg, struct item *ret, struct why *why)
{
    tarmac_batch *self = arg;
    (void)why;
    drop_added(&self->given);
    struct added *added = STAILQ_FIRST(&self->queue);
    if (!added)
        return self->sealed ? ITEMS_END : ITEMS_WAIT;
    STAILQ_REMOVE_HEAD(&self->queue, entry);
    self->n_queued--;
    self->queued_bytes -= buf_len(added->payload);
    self->given = added;
    ret->payload = slice_of(added->payload);
    return ITEMS_ITEM;
}

static void on_known(void *arg, const Wire__Submitted *submitted)
{
    tarmac_batch *self = arg;
    memcpy(self->id, submitted->batch.data, WIRE_ID);
    snprintf(self->short_id, sizeof self->short_id, "%s", submitted->short_id);
    self->known = true;
}

static void on_accepted(void *arg) { (void)arg; }

static void on_ended(void *arg, enum submission_end how, enum client_end end, const char *sentence)
{
    tarmac_batch *self = arg;
    self->over = true;
    if (how == SUBMISSION_FAILED)
        failed_as(&self->failure, end, sentence);
    else if (how == SUBMISSION_CLOSED)
        failed(&self->failure, TARMAC_CLOSED, "batch %s takes no more tasks: it was sealed or cancelled, or its deadline came first",
               self->short_id);
}

static void on_items_ready(void *arg) { (void)arg; }

static tarmac_batch *batch_new(tarmac_context *context, tarmac_client *client, tarmac_failure *failure)
{
    tarmac_batch *self = calloc(1, sizeof *self);
    if (!self) {
        failed(failure, TARMAC_NO_MEMORY, "there is no memory left");
        return NULL;
    }
    STAILQ_INIT(&self->queue);
    self->context = tarmac_retain(context);
    self->client = client;
    return self;
}

static int begin(tarmac_batch *self, const struct tarmac_options *options, const struct api_options *made, tarmac_failure *failure)
{
    struct why why;
    struct items_spec spec = {.kind = ITEMS_CALLED, .next = next_added};
    struct submission_config config = {
        .options = &made->options, .key = options->key, .known = on_known, .accepted = on_accepted, .ended = on_ended, .arg = self,
    };
    if (options->range_count == 0) {
        self->items = items_new(self->client->loop, &spec, on_items_ready, self, &why);
        if (!self->items)
            return failed(failure, TARMAC_NO_MEMORY, "%s", why.text);
        config.items = self->items;
    }
    self->submission = submission_new(self->client->client, &config, &why);
    return self->submission ? TARMAC_OK : failed(failure, TARMAC_NO_MEMORY, "%s", why.text);
}

static bool is_known(void *arg)
{
    const tarmac_batch *self = arg;
    return self->known || self->over;
}

tarmac_batch *tarmac_submit(tarmac_context *context, tarmac_client *client, const struct tarmac_options *options,
                            tarmac_failure *failure)
{
    struct api_options made;
    if (api_options_make(context, options, &made, failure) != TARMAC_OK)
        return NULL;
    tarmac_batch *self = batch_new(context, client, failure);
    int code = TARMAC_NO_MEMORY;
    if (self) {
        self->detach = options->detach;
        code = begin(self, options, &made, failure);
    }
    api_options_release(&made);
    if (code == TARMAC_OK)
        code = wait_for(self, is_known, self, failure);
    if (code == TARMAC_OK && !self->known)
        code = failed_with(failure, &self->failure);
    if (code != TARMAC_OK)
        tarmac_batch_release(&self);
    return self;
}

static bool has_room(void *arg)
{
    const tarmac_batch *self = arg;
    return self->over || (self->n_queued < QUEUE_ITEMS && self->queued_bytes < QUEUE_BYTES);
}

/* A task that is added now and then must not wait for the queue to fill. */
static void serve(tarmac_batch *self)
{
    mono_t now = mono_now();
    if (mono_since(now, self->turned) < TURN_NS)
        return;
    self->turned = now;
    api_turn(self->client);
}

static int add_check(tarmac_batch *self, size_t len, tarmac_failure *failure)
{
    if (!self->items)
        return failed(failure, TARMAC_BAD_INPUT, "batch %s takes no tasks from here: it is a range, or was opened by its id", self->short_id);
    if (self->sealed)
        return failed(failure, TARMAC_CLOSED, "batch %s is sealed: it takes no more tasks", self->short_id);
    if (len > WIRE_PAYLOAD)
        return failed(failure, TARMAC_BAD_INPUT, "the payload has %zu bytes, and the largest that is taken has %u", len, WIRE_PAYLOAD);
    return self->over ? failed_with(failure, &self->failure) : TARMAC_OK;
}

int tarmac_add(tarmac_batch *self, const void *payload, size_t len, tarmac_failure *failure)
{
    int code = add_check(self, len, failure);
    if (code == TARMAC_OK)
        code = wait_for(self, has_room, self, failure);
    if (code == TARMAC_OK && self->over)
        code = failed_with(failure, &self->failure);
    if (code != TARMAC_OK)
        return code;
    struct added *added = calloc(1, sizeof *added);
    if (!added || !(added->payload = buf_new(len))) {
        free(added);
        return failed(failure, TARMAC_NO_MEMORY, "there is no memory for a payload of %zu bytes", len);
    }
    if (len > 0)
        memcpy(buf_data(added->payload), payload, len);
    STAILQ_INSERT_TAIL(&self->queue, added, entry);
    self->n_queued++;
    self->queued_bytes += len;
    self->n_added++;
    submission_ready(self->submission);
    serve(self);
    return TARMAC_OK;
}

static bool is_flushed(void *arg)
{
    const tarmac_batch *self = arg;
    return self->over || submission_admitted(self->submission) >= self->n_added;
}

int tarmac_flush(tarmac_batch *self, tarmac_failure *failure)
{
    if (!self->submission)
        return TARMAC_OK;
    int code = wait_for(self, is_flushed, self, failure);
    return code == TARMAC_OK && self->over && self->failure.code != TARMAC_OK ? failed_with(failure, &self->failure) : code;
}

static bool is_over(void *arg) { return ((const tarmac_batch *)arg)->over; }

int tarmac_seal(tarmac_batch *self, tarmac_failure *failure)
{
    if (!self->submission)
        return failed(failure, TARMAC_BAD_INPUT, "batch %s was opened by its id; who submits it seals it", self->short_id);
    self->sealed = true;
    submission_ready(self->submission);
    int code = wait_for(self, is_over, self, failure);
    return code == TARMAC_OK && self->failure.code != TARMAC_OK ? failed_with(failure, &self->failure) : code;
}

const char *tarmac_batch_id(const tarmac_batch *self) { return self->short_id; }

/* ---- a batch that exists ---- */

static void on_status(void *arg, const Wire__Reply *reply)
{
    tarmac_batch *self = arg;
    if (reply->what_case != WIRE__REPLY__WHAT_STATUS || reply->status->n_batches != 1)
        return;
    memcpy(self->id, reply->status->batches[0]->batch.data, WIRE_ID);
    snprintf(self->short_id, sizeof self->short_id, "%s", reply->status->batches[0]->short_id);
    self->complete = reply->status->batches[0]->state == WIRE__STATE__COMPLETE;
    self->known = true;
}

tarmac_batch *tarmac_open(tarmac_context *context, tarmac_client *client, const char *id, tarmac_failure *failure)
{
    Wire__Status m = WIRE__STATUS__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    m.ref = (char *)(uintptr_t)id;
    request.what_case = WIRE__REQUEST__WHAT_STATUS;
    request.status = &m;
    tarmac_batch *self = batch_new(context, client, failure);
    if (!self)
        return NULL;
    self->detach = true;                 /* Whoever reads it isn't its parent. */
    int code = *id == '\0' ? failed(failure, TARMAC_BAD_INPUT, "which batch? give the id that submit has told")
                           : api_ask(context, client, &request, on_status, self, failure);
    if (code == TARMAC_OK && !self->known)
        code = failed(failure, TARMAC_REFUSED, "the ventilator has answered something else; use programs of one release");
    if (code != TARMAC_OK)
        tarmac_batch_release(&self);
    return self;
}

int tarmac_batch_cancel(tarmac_batch *self, const char *reason, tarmac_failure *failure)
{
    return cancel(self, self->context, reason, failure);
}

void tarmac_batch_release(tarmac_batch **self_p)
{
    tarmac_batch *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    follow_context(self);
    stream_destroy(&self->results.stream);
    submission_destroy(&self->submission);
    items_destroy(&self->items);
    drop_added(&self->given);
    for (struct added *added; (added = STAILQ_FIRST(&self->queue));) {
        STAILQ_REMOVE_HEAD(&self->queue, entry);
        drop_added(&added);
    }
    tarmac_release(&self->context);
    free(self);
}

/* ---- results ---- */

static void on_begun(void *arg, const Wire__StreamBegin *begin) { (void)arg; (void)begin; }
static void on_stream_ready(void *arg) { ((struct reader *)arg)->ready = true; }

static void on_stream_failed(void *arg, enum client_end end, const char *sentence)
{
    failed_as(&((struct reader *)arg)->failure, end, sentence);
}

static bool has_more(void *arg)
{
    const struct reader *self = arg;
    return self->ready || self->failure.code != TARMAC_OK;
}

static int open_reader(tarmac_batch *self, struct reader *reader, bool end_only, tarmac_failure *failure)
{
    struct why why;
    struct stream_config config = {
        .batch = self->id, .recorded_as = self->complete ? self->short_id : NULL, .follow = true, .end_only = end_only, .credit = CREDIT,
        .begun = on_begun, .ready = on_stream_ready, .failed = on_stream_failed, .arg = reader,
    };
    reader->stream = stream_new(self->client->client, &config, &why);
    return reader->stream ? TARMAC_OK : failed(failure, TARMAC_NO_MEMORY, "%s", why.text);
}

static void fill(const struct stream_task *from, struct tarmac_result *ret)
{
    const char *reason = wire_reason_name(from->reason);
    *ret = (struct tarmac_result){
        .index = from->index, .verdict = (int)from->verdict, .reason = reason ? reason : "", .sentence = from->sentence,
        .attempts = from->attempts, .worker = from->worker, .exit_code = from->has_code ? from->code : -1, .signal = (int)from->signal,
        .queued = (int64_t)from->queued_us * NS_PER_US, .run = (int64_t)from->run_us * NS_PER_US,
        .output = from->output, .output_len = from->output_len, .errors = from->errors, .errors_len = from->errors_len,
        .output_cut = from->output_cut, .errors_cut = from->errors_cut,
    };
}

/* The next thing that the stream says, waited for: STREAM_TASK or STREAM_END, else *ret_code. */
static enum stream_result read_next(tarmac_batch *self, struct reader *reader, struct stream_task *ret, int *ret_code,
                                    tarmac_failure *failure)
{
    for (;;) {
        reader->ready = false;
        enum stream_result r = stream_next(reader->stream, ret);
        if (r != STREAM_WAIT)
            return r;
        *ret_code = wait_for(self, has_more, reader, failure);
        if (*ret_code == TARMAC_OK && reader->failure.code != TARMAC_OK)
            *ret_code = failed_with(failure, &reader->failure);
        if (*ret_code != TARMAC_OK)
            return STREAM_WAIT;
    }
}

/* TARMAC_OK when the stream has ended as the batch did. */
static int judge_end(const struct reader *reader, tarmac_failure *failure)
{
    const Wire__StreamEnd *end = stream_end(reader->stream);
    return end->complete ? TARMAC_OK : failed(failure, TARMAC_REFUSED, "%s", end->sentence);
}

int tarmac_next(tarmac_batch *self, struct tarmac_result *ret, tarmac_failure *failure)
{
    struct stream_task task;
    struct reader *reader = &self->results;
    int code = TARMAC_OK;
    if (!reader->stream && (code = open_reader(self, reader, false, failure)) != TARMAC_OK)
        return code;
    enum stream_result r = reader->ended ? STREAM_END : read_next(self, reader, &task, &code, failure);
    if (r == STREAM_WAIT)
        return code;
    if (r == STREAM_END) {
        reader->ended = true;
        return judge_end(reader, failure);
    }
    fill(&task, ret);
    return 1;
}

int tarmac_wait(tarmac_batch *self, uint64_t counts[7], tarmac_failure *failure)
{
    struct reader reader = {0};
    struct stream_task task;
    int code = open_reader(self, &reader, true, failure);
    if (code == TARMAC_OK && read_next(self, &reader, &task, &code, failure) == STREAM_END) {
        const Wire__StreamEnd *end = stream_end(reader.stream);
        for (size_t v = 0; counts && v < WIRE_VERDICTS; v++)
            counts[v] = v < end->n_counts ? end->counts[v] : 0;
        code = judge_end(&reader, failure);
    }
    stream_destroy(&reader.stream);
    return code;
}

const char *tarmac_verdict_name(int verdict)
{
    return verdict > 0 && verdict < (int)WIRE_VERDICTS ? wire_verdict_name((Wire__Verdict)verdict) : "none";
}
