/* A submission: items are cut into chunks, each kept until the ventilator has it on disk. At most a
 * window of them is on its way, so memory follows the window and not the input.
 *
 * Everything that can go wrong between us and the ventilator has one cure: submit again, with the same
 * submission id, and go on where the answer says. A batch that had items already (a key) is gone through
 * from its beginning: our items are digested and not sent, until both digests can be compared. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/options.h"
#include "tarmac/client_private.h"

#define OWN_WINDOW_CHUNKS 16u
#define OWN_WINDOW_BYTES (4u * 1024u * 1024u)
#define ITEMS_PER_TURN 8192
#define NOT_NOW_PAUSE (NS_PER_S / 2)

enum phase {
    SUBMITTING,          /* the answer to `submit` is awaited */
    SENDING,
    PAUSED,              /* the ventilator takes nothing now; submit again soon */
    SEALING,             /* everything is admitted but the end */
    OVER,
};

struct chunk {
    uint64_t first, id;
    uint32_t count;
    uint64_t digest_before, digest_after;
    struct buf *packed;
    struct slice body;
    bool last;
    struct chunk *next;
};

struct submission {
    struct client *client;
    struct submission_config config;
    struct client_listener listener;
    struct loop_hook hook;
    struct loop_timer pause;
    mono_t refused_since;                /* NOT_NOW again and again; MONO_NEVER: not so */
    enum phase phase;
    uint8_t id[WIRE_ID], batch[WIRE_ID];
    bool wanted, known, accepted;
    bool waits, end_seen;                /* the input: has nothing now; has nothing more */
    struct buf *submit;                  /* packed */
    uint64_t request;                    /* the submit or seal that is outstanding */

    uint64_t admitted, taken, digest;    /* digest: of all items taken */
    uint64_t skip_to, skip_digest;       /* items below are the batch's already */
    Wire__State state;                   /* of the batch, as of the last `submitted` */

    struct item item;                    /* taken and not yet in a chunk */
    bool held;
    /* The chunk that is being filled. */
    uint64_t first, digest_before;
    uint32_t count, lengths[WIRE_BLOCK];
    struct buf *bytes;                   /* WIRE_FRAME_BODY of room; or, of one large item, its payload */
    size_t filled;
    struct slice large;
    Wire__TaskExtra **extras;
    size_t n_extras, extras_room, extras_bytes;

    struct chunk *sent, *last_sent;
    size_t n_sent, sent_bytes;
};

static void submit_again(struct submission *self);

/* ---- the end ---- */

static void stop(struct submission *self)
{
    self->phase = OVER;
    loop_remove_hook(self->client->loop, &self->hook);
    loop_timer_clear(self->client->loop, &self->pause);
    if (self->wanted)
        client_want(self->client, -1);
    self->wanted = false;
}

static void end(struct submission *self, enum submission_end how, enum client_end why_ended, const char *sentence)
{
    if (self->phase == OVER)
        return;
    stop(self);
    self->config.ended(self->config.arg, how, why_ended, sentence);
}

static void fail(struct submission *self, enum client_end why_ended, const char *sentence)
{
    end(self, SUBMISSION_FAILED, why_ended, sentence);
}

static void out_of_memory(struct submission *self) { fail(self, CLIENT_UNREACHABLE, "there is no memory left"); }

static void different_input(struct submission *self, const char *how)
{
    struct why why;
    if (self->config.key)
        why_set(&why, "--key %.200s: the batch of this key %s; use another key for another input", self->config.key, how);
    else
        why_set(&why, "the batch of this submission %s", how);
    fail(self, CLIENT_REFUSED, why.text);
}

/* ---- the chunk that is being filled ---- */

static void clear_extras(struct submission *self)
{
    for (size_t i = 0; i < self->n_extras; i++)
        wire_free(&self->extras[i]);
    self->n_extras = self->extras_bytes = 0;
}

static void begin_chunk(struct submission *self)
{
    self->first = self->taken;
    self->digest_before = self->digest;
    self->count = 0;
    self->filled = 0;
    slice_drop(&self->large);
    clear_extras(self);
}

static int add_extra(struct submission *self, const struct item *item)
{
    if (item->timeout_us == 0 && item->n_values == 0)
        return 0;
    if (self->n_extras == self->extras_room) {
        size_t room = self->extras_room ? 2 * self->extras_room : 16;
        Wire__TaskExtra **extras = reallocarray(self->extras, room, sizeof *extras);
        if (!extras)
            return -1;
        self->extras = extras;
        self->extras_room = room;
    }
    Wire__TaskExtra extra = WIRE__TASK_EXTRA__INIT;
    Wire__Micros timeout = WIRE__MICROS__INIT;
    timeout.us = item->timeout_us;
    extra.offset = self->count;
    extra.timeout = item->timeout_us ? &timeout : NULL;
    extra.n_values = item->n_values;
    extra.values = item->values;
    Wire__TaskExtra *copy = (Wire__TaskExtra *)wire_copy(&extra.base);
    if (!copy)
        return -1;
    self->extras[self->n_extras++] = copy;
    for (size_t i = 0; i < item->n_values; i++)
        self->extras_bytes += strlen(item->values[i]->key) + strlen(item->values[i]->value) + 16;
    return 0;
}

/* Heads are bounded too: values of thousands of tasks could fill one. */
static bool fits(const struct submission *self, const struct item *item)
{
    if (self->count == 0)
        return true;
    return self->taken % WIRE_BLOCK != 0 && self->large.len == 0 && item->payload.len <= WIRE_FRAME_BODY - self->filled
           && (item->n_values == 0 || self->extras_bytes < WIRE_HEAD / 8) && self->n_extras < WIRE_BLOCK / 2;
}

static int add(struct submission *self, const struct item *item)
{
    if (self->count == 0)
        begin_chunk(self);
    if (add_extra(self, item) < 0)
        return -1;
    if (item->payload.len > WIRE_FRAME_BODY) {
        self->large = slice_keep(item->payload);
        if (!self->large.data)
            return -1;
    } else if (item->payload.len > 0) {
        memcpy(buf_data(self->bytes) + self->filled, item->payload.data, item->payload.len);
    }
    self->filled += item->payload.len;
    self->lengths[self->count++] = (uint32_t)item->payload.len;
    self->digest = wire_digest(self->digest, item->payload.data, item->payload.len);
    self->taken++;
    return 0;
}

static struct buf *pack_chunk(struct submission *self, bool last)
{
    Wire__Tasks tasks = WIRE__TASKS__INIT;
    Wire__Chunk chunk = WIRE__CHUNK__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    bool alike = true;
    for (uint32_t i = 1; i < self->count; i++)
        alike = alike && self->lengths[i] == self->lengths[0];
    tasks.first = self->first;
    tasks.count = self->count;
    tasks.n_lengths = alike ? 1 : self->count;
    tasks.lengths = self->lengths;
    tasks.n_extras = self->n_extras;
    tasks.extras = self->extras;
    chunk.batch = wire_id_bytes(self->batch);
    chunk.tasks = &tasks;
    chunk.digest_before = self->digest_before;
    chunk.digest_after = self->digest;
    chunk.last = last;
    m.what_case = WIRE__REQUEST__WHAT_CHUNK;
    m.chunk = &chunk;
    return wire_write_buf(&m.base);
}

static struct slice chunk_body(struct submission *self)
{
    if (self->large.len > 0)
        return slice_keep(self->large);
    /* Without its buffer a slice is copied, to just the size that it has. */
    return slice_keep((struct slice){.data = buf_bytes(self->bytes), .len = self->filled});
}

/* ---- chunks on their way ---- */

static void free_chunk(struct submission *self, struct chunk *chunk)
{
    client_forget(self->client, chunk->id);
    buf_unref(&chunk->packed);
    slice_drop(&chunk->body);
    free(chunk);
}

static void drop_first(struct submission *self)
{
    struct chunk *chunk = self->sent;
    self->sent = chunk->next;
    if (!self->sent)
        self->last_sent = NULL;
    self->n_sent--;
    self->sent_bytes -= chunk->body.len;
    free_chunk(self, chunk);
}

static void on_admitted(void *arg, const Wire__Reply *reply);

static int post(struct submission *self, struct chunk *chunk)
{
    chunk->id = client_post(self->client, chunk->packed, chunk->body, true, CLIENT_ONCE, on_admitted, self);
    return chunk->id ? 0 : -1;
}

static int flush(struct submission *self, bool last)
{
    struct chunk *chunk = calloc(1, sizeof *chunk);
    if (!chunk)
        return -1;
    *chunk = (struct chunk){.first = self->first, .count = self->count, .digest_before = self->digest_before,
                            .digest_after = self->digest, .last = last, .packed = pack_chunk(self, last),
                            .body = chunk_body(self)};
    if (!chunk->packed || (self->filled > 0 && !chunk->body.data) || post(self, chunk) < 0) {
        free_chunk(self, chunk);
        return -1;
    }
    *(self->last_sent ? &self->last_sent->next : &self->sent) = chunk;
    self->last_sent = chunk;
    self->n_sent++;
    self->sent_bytes += chunk->body.len;
    self->count = 0;
    begin_chunk(self);
    return 0;
}

static bool window_open(const struct submission *self, size_t more)
{
    uint32_t chunks = self->client->window_chunks;
    uint64_t bytes = self->client->window_bytes;
    if (chunks > OWN_WINDOW_CHUNKS)
        chunks = OWN_WINDOW_CHUNKS;
    if (bytes > OWN_WINDOW_BYTES)
        bytes = OWN_WINDOW_BYTES;
    return self->n_sent == 0 || (self->n_sent < chunks && self->sent_bytes + more <= bytes);
}

/* ---- what was admitted ---- */

static void accept(struct submission *self)
{
    if (self->accepted)
        return;
    self->accepted = true;
    self->config.accepted(self->config.arg);
}

static void on_sealed(void *arg, const Wire__Reply *reply)
{
    struct submission *self = arg;
    self->request = 0;
    if (reply->what_case == WIRE__REPLY__WHAT_REFUSED) {
        fail(self, CLIENT_REFUSED, reply->refused->sentence);
        return;
    }
    accept(self);
    end(self, SUBMISSION_DONE, CLIENT_REFUSED, "");
}

static void seal(struct submission *self)
{
    Wire__Seal m = WIRE__SEAL__INIT;
    Wire__Request request = WIRE__REQUEST__INIT;
    m.batch = wire_id_bytes(self->batch);
    request.what_case = WIRE__REQUEST__WHAT_SEAL;
    request.seal = &m;
    self->phase = SEALING;
    self->request = client_request(self->client, &request, on_sealed, self);
    if (!self->request)
        out_of_memory(self);
}

/* All before next_index is on the ventilator's disk. A batch that is no longer open takes nothing more. */
static void admitted_upto(struct submission *self, uint64_t next_index, Wire__State state)
{
    if (next_index > self->admitted)
        self->admitted = next_index;
    while (self->sent && self->sent->first + self->sent->count <= next_index) {
        bool last = self->sent->last;
        drop_first(self);
        if (last) {
            accept(self);
            end(self, SUBMISSION_DONE, CLIENT_REFUSED, "");
            return;
        }
    }
    if (state != WIRE__STATE__OPEN)
        end(self, SUBMISSION_CLOSED, CLIENT_REFUSED, wire_state_name(state));
}

static void pause_expired(void *arg)
{
    struct submission *self = arg;
    submit_again(self);
}

/* It is there and takes nothing: for as long as it might have been away. */
static void wait_for_ventilator(struct submission *self, const char *sentence)
{
    int64_t patience = self->client->config.reconnect_timeout;
    mono_t now = mono_now();
    struct why why;
    char took[32];
    if (mono_is_never(self->refused_since)) {
        self->refused_since = now;
        if (self->config.waiting)
            self->config.waiting(self->config.arg, sentence);
    }
    if (mono_since(now, self->refused_since) > patience) {
        format_duration(patience, took);
        why_set(&why, "%.300s; nothing was taken for %s (--reconnect-timeout)", sentence, took);
        fail(self, CLIENT_REFUSED, why.text);
        return;
    }
    self->phase = PAUSED;
    loop_timer_set(self->client->loop, &self->pause, mono_add(now, NOT_NOW_PAUSE));
}

static void take_refusal(struct submission *self, const Wire__Refused *refused)
{
    switch (refused->code) {
    case WIRE__REFUSED_CODE__OUT_OF_ORDER:
    case WIRE__REFUSED_CODE__UNKNOWN_BATCH:
        submit_again(self);
        return;
    case WIRE__REFUSED_CODE__NOT_NOW:
        wait_for_ventilator(self, refused->sentence);
        return;
    case WIRE__REFUSED_CODE__DIFFERENT_INPUT:
        different_input(self, "has other items");
        return;
    default:
        break;
    }
    fail(self, CLIENT_REFUSED, refused->sentence);
}

static void on_admitted(void *arg, const Wire__Reply *reply)
{
    struct submission *self = arg;
    if (self->phase != SENDING) {
        /* Said before what we have submitted again since, or will; it is true all the same. */
        if (reply->what_case == WIRE__REPLY__WHAT_ADMITTED && reply->admitted->next_index > self->admitted)
            self->admitted = reply->admitted->next_index;
        return;
    }
    if (reply->what_case == WIRE__REPLY__WHAT_REFUSED) {
        take_refusal(self, reply->refused);
        return;
    }
    if (reply->what_case != WIRE__REPLY__WHAT_ADMITTED)
        return;
    self->refused_since = MONO_NEVER;
    accept(self);
    admitted_upto(self, reply->admitted->next_index, reply->admitted->state);
}

/* ---- submit, and submit again ---- */

/* Goes on at `next`: forgets what was admitted, sends the rest again, or sets out to skip to it.
 * `digest` is that of the items before. */
static void go_on(struct submission *self, uint64_t next, uint64_t digest)
{
    while (self->sent && self->sent->first < next && self->sent->first + self->sent->count <= next)
        drop_first(self);
    uint64_t here = self->sent ? self->sent->first : self->count ? self->first : self->taken;
    uint64_t mine = self->sent ? self->sent->digest_before : self->count ? self->digest_before : self->digest;
    if (next < here) {
        struct why why;
        why_set(&why, "the ventilator has %" PRIu64 " items of this batch, and had acknowledged %" PRIu64 "; its data folder is not the same any more",
                next, here);
        fail(self, CLIENT_REFUSED, why.text);
        return;
    }
    if (next > here && (self->sent || self->count)) {
        different_input(self, "is being filled by somebody else too");
        return;
    }
    if (next == here && digest != mine) {
        different_input(self, "has other items");
        return;
    }
    self->skip_to = next;
    self->skip_digest = digest;
    for (struct chunk *chunk = self->sent; chunk; chunk = chunk->next) {
        client_forget(self->client, chunk->id);
        if (post(self, chunk) < 0) {
            out_of_memory(self);
            return;
        }
    }
}

static void on_submitted(void *arg, const Wire__Reply *reply)
{
    struct submission *self = arg;
    self->request = 0;
    if (reply->what_case == WIRE__REPLY__WHAT_REFUSED) {
        take_refusal(self, reply->refused);
        return;
    }
    if (reply->what_case != WIRE__REPLY__WHAT_SUBMITTED)
        return;
    const Wire__Submitted *s = reply->submitted;
    bool again = self->known && self->taken >= self->skip_to;
    self->known = true;
    self->refused_since = MONO_NEVER;
    memcpy(self->batch, s->batch.data, WIRE_ID);
    self->phase = SENDING;
    self->config.known(self->config.arg, s);
    if (self->phase == OVER)
        return;
    self->admitted = s->next_index;
    if (!self->config.items) {
        accept(self);
        end(self, SUBMISSION_DONE, CLIENT_REFUSED, "");
        return;
    }
    /* Of a batch that takes no more, a new submitter of the key still compares all items. */
    if (again && s->state != WIRE__STATE__OPEN) {
        admitted_upto(self, s->next_index, s->state);
        return;
    }
    self->state = s->state;
    go_on(self, s->next_index, s->digest);
}

static void submit_again(struct submission *self)
{
    self->phase = SUBMITTING;
    self->pause.fire = pause_expired;
    client_forget(self->client, self->request);
    self->request = client_post(self->client, self->submit, (struct slice){0}, false, CLIENT_ONCE, on_submitted, self);
    if (!self->request)
        out_of_memory(self);
}

/* ---- the input ---- */

static void bad_input(struct submission *self, const struct why *why)
{
    fail(self, items_too_large(self->config.items) ? CLIENT_REFUSED : CLIENT_BAD_INPUT, why->text);
}

/* Makes `item` the next one of the input. False: there is none now. */
static bool pull(struct submission *self)
{
    struct why why;
    if (self->held)
        return true;
    if (self->waits || self->end_seen)
        return false;
    switch (items_next(self->config.items, &self->item, &why)) {
    case ITEMS_ITEM:
        self->held = true;
        break;
    case ITEMS_MORE:
        break;
    case ITEMS_WAIT:
        self->waits = true;
        break;
    case ITEMS_END:
        self->end_seen = true;
        break;
    case ITEMS_BAD:
        bad_input(self, &why);
        break;
    }
    return self->held;
}

static void skip(struct submission *self)
{
    self->digest = wire_digest(self->digest, self->item.payload.data, self->item.payload.len);
    self->taken++;
    self->held = false;
    if (self->taken < self->skip_to)
        return;
    if (self->digest != self->skip_digest)
        different_input(self, "has other items");
    else if (self->state == WIRE__STATE__OPEN)
        accept(self);
}

static void input_over(struct submission *self)
{
    if (self->taken < self->skip_to) {
        different_input(self, "has more items");
    } else if (self->state != WIRE__STATE__OPEN) {
        accept(self);
        end(self, SUBMISSION_DONE, CLIENT_REFUSED, "");
    } else if (self->count > 0) {
        if (window_open(self, self->filled) && flush(self, true) < 0)
            out_of_memory(self);
    } else if (!self->sent) {
        /* Only now: a seal that is sent again after a reconnect must not overtake chunks. */
        seal(self);
    }
}

/* One item goes where it belongs. False: the window is closed. */
static bool place(struct submission *self)
{
    if (self->taken < self->skip_to) {
        skip(self);
        return true;
    }
    if (self->state != WIRE__STATE__OPEN) {
        different_input(self, "has fewer items and takes no more");
        return false;
    }
    if (!fits(self, &self->item)) {
        if (!window_open(self, self->filled))
            return false;
        if (flush(self, false) < 0) {
            out_of_memory(self);
            return false;
        }
    }
    if (add(self, &self->item) < 0) {
        out_of_memory(self);
        return false;
    }
    self->held = false;
    return true;
}

/* At the end of each turn of the loop. A part of a chunk is sent when the input has nothing now and nothing
 * is on its way: small inputs don't wait, fast ones fill their chunks. */
static bool pump(void *arg)
{
    struct submission *self = arg;
    for (int i = 0; i < ITEMS_PER_TURN && self->phase == SENDING; i++) {
        if (pull(self)) {
            if (!place(self))
                return false;
        } else if (self->phase == SENDING && self->end_seen) {
            input_over(self);
            return false;
        } else if (self->waits) {
            if (self->phase == SENDING && self->count > 0 && self->n_sent == 0 && flush(self, false) < 0)
                out_of_memory(self);
            return false;
        } else {
            break;
        }
    }
    return self->phase == SENDING;
}

/* ---- all of it ---- */

/* What is wrong with the first item is found before there is a batch. */
static bool input_is_good(struct submission *self)
{
    struct why why;
    if (!self->config.items || self->known)
        return true;
    if (items_limit(self->config.items, self->client->max_payload, &why) < 0) {
        fail(self, CLIENT_REFUSED, why.text);
        return false;
    }
    pull(self);
    return self->phase != OVER;
}

static void on_welcomed(void *arg)
{
    struct submission *self = arg;
    if (self->phase == SEALING || self->phase == OVER || !input_is_good(self))
        return;
    loop_timer_clear(self->client->loop, &self->pause);
    submit_again(self);
}

static struct buf *pack_submit(struct submission *self)
{
    Wire__Submit submit = WIRE__SUBMIT__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    submit.submission = wire_id_bytes(self->id);
    if (self->config.key)
        submit.key = (char *)(uintptr_t)self->config.key;
    submit.options = (Wire__Options *)(uintptr_t)self->config.options;
    m.what_case = WIRE__REQUEST__WHAT_SUBMIT;
    m.submit = &submit;
    return wire_write_buf(&m.base);
}

struct submission *submission_new(struct client *client, const struct submission_config *config, struct why *why)
{
    struct submission *self = calloc(1, sizeof *self);
    if (!self) {
        why_set(why, "there is no memory left");
        return NULL;
    }
    self->client = client;
    self->config = *config;
    self->refused_since = MONO_NEVER;
    self->listener = (struct client_listener){.welcomed = on_welcomed, .arg = self};
    self->hook = (struct loop_hook){.turn = pump, .arg = self};
    self->pause = (struct loop_timer){.fire = pause_expired, .arg = self};
    client_listen(client, &self->listener);
    loop_add_hook(client->loop, &self->hook);
    self->bytes = buf_new(WIRE_FRAME_BODY);
    if (getrandom(self->id, sizeof self->id, 0) != (ssize_t)sizeof self->id || !self->bytes || !(self->submit = pack_submit(self))) {
        why_set(why, "there is no memory left");
        submission_destroy(&self);
        return NULL;
    }
    self->config.options = NULL;
    client_want(client, 1);
    self->wanted = true;
    if (client_is_up(client)) {
        /* As if it had just come: nothing is called back from in here. */
        self->pause.fire = on_welcomed;
        loop_timer_set(client->loop, &self->pause, mono_now());
    }
    return self;
}

void submission_destroy(struct submission **self_p)
{
    struct submission *self = *self_p;
    if (!self)
        return;
    stop(self);
    client_unlisten(self->client, &self->listener);
    client_forget(self->client, self->request);
    while (self->sent)
        drop_first(self);
    clear_extras(self);
    free(self->extras);
    slice_drop(&self->large);
    buf_unref(&self->bytes);
    buf_unref(&self->submit);
    free(self);
    *self_p = NULL;
}

/* Whoever says so may be outside of the loop (the library's calls are): nothing else would bring the turn that takes it. */
void submission_ready(struct submission *self)
{
    self->waits = false;
    loop_go_on(self->client->loop);
}

void submission_stop(struct submission *self)
{
    stop(self);
    client_forget(self->client, self->request);
    self->request = 0;
    while (self->sent)
        drop_first(self);
}

uint64_t submission_admitted(const struct submission *self) { return self->admitted; }
uint64_t submission_taken(const struct submission *self) { return self->taken; }
