/* The registry's life and its talk with the ventilator: hello, heartbeats, goodbye, and whether the
 * ventilator is the one that the open batches come from. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sink/register_private.h"

#define HELLO_AGAIN (2 * NS_PER_S)       /* a hello that was not answered */
#define REFUSED_AGAIN (10 * NS_PER_S)
#define SILENCE (10 * NS_PER_S)          /* or five heartbeats, whichever is longer */
#define DIRTY_EVERY NS_PER_S             /* counts of duplicates, which may be lost */

/* ---- for all files ---- */

void register_note(struct registry *self, int level, const char *event, const char *format, ...)
{
    char text[WIRE_SENTENCE];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    self->ports.note(self->ports.arg, level, event, text);
}

static void send_up(struct registry *self, Wire__Upward *message, struct slice body)
{
    message->session = self->config.session;
    self->ports.up(self->ports.arg, message, body,
                   message->what_case == WIRE__UPWARD__WHAT_RECORDS && message->records->bitmap);
}

void say(struct registry *self, Wire__Upward *message, struct slice body)
{
    if (self->welcomed)
        send_up(self, message, body);
}

bool staged(struct registry *self, uint64_t sequence)
{
    if (sequence > self->last_sequence)
        self->last_sequence = sequence;
    return sequence > 0;
}

/* ---- life ---- */

static int copy_text(const char *text, char **ret, const char **in_config)
{
    *ret = strdup(text ? text : "");
    *in_config = *ret;
    return *ret ? 0 : -1;
}

struct registry *register_new(const struct register_config *config, const struct register_ports *ports)
{
    struct registry *self = calloc(1, sizeof *self);
    if (!self)
        return NULL;
    self->ports = *ports;
    self->config = *config;
    STAILQ_INIT(&self->answers);
    TAILQ_INIT(&self->dirty);
    TAILQ_INIT(&self->touched);
    TAILQ_INIT(&self->tombstones);
    TAILQ_INIT(&self->unread);
    figures_begin(self);
    self->next_number = 1;
    self->hello_at = self->beat_at = self->dirty_at = MONO_NEVER;
    self->heartbeat = NS_PER_S;
    self->arena = wire_arena_new();
    if (!self->arena || copy_text(config->program, &self->program, &self->config.program) < 0
        || copy_text(config->advertise, &self->advertise, &self->config.advertise) < 0
        || copy_text(config->results_endpoint, &self->results_endpoint, &self->config.results_endpoint) < 0
        || copy_text(config->query_endpoint, &self->query_endpoint, &self->config.query_endpoint) < 0)
        register_destroy(&self);
    return self;
}

void register_destroy(struct registry **self_p)
{
    struct registry *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    struct batch *batch, *next_batch;
    HASH_ITER(by_id, self->by_id, batch, next_batch) {
        batch_take_out(self, batch);
        batch_destroy(&batch);
    }
    tombstones_release(self);
    figures_end(self);
    struct answer *answer;
    while ((answer = STAILQ_FIRST(&self->answers))) {
        STAILQ_REMOVE_HEAD(&self->answers, entry);
        answer_destroy(&answer);
    }
    wire_writer_release(&self->writer);
    wire_arena_destroy(&self->arena);
    free(self->program);
    free(self->advertise);
    free(self->results_endpoint);
    free(self->query_endpoint);
    free(self);
}

/* ---- hello ---- */

static void say_hello(struct registry *self, mono_t now)
{
    Wire__SinkHello hello = WIRE__SINK_HELLO__INIT;
    Wire__Upward message = WIRE__UPWARD__INIT;
    hello.major = WIRE_MAJOR;
    hello.minor = WIRE_MINOR;
    hello.program = self->program;
    hello.store = wire_id_bytes(self->config.store);
    if (self->journal_known)
        hello.journal = wire_id_bytes(self->journal);
    hello.advertise = self->advertise;
    hello.results_port = self->config.results_port;
    hello.query_port = self->config.query_port;
    hello.results_endpoint = self->results_endpoint;
    hello.query_endpoint = self->query_endpoint;
    message.what_case = WIRE__UPWARD__WHAT_SINK_HELLO;
    message.sink_hello = &hello;
    self->welcomed = false;
    self->beat_at = MONO_NEVER;
    self->hello_at = mono_add(now, HELLO_AGAIN);
    send_up(self, &message, (struct slice){0});
}

void register_ventilator(struct registry *self, mono_t now, bool is_up)
{
    self->is_up = is_up;
    self->welcomed = false;
    self->hello_at = self->beat_at = MONO_NEVER;
    if (is_up)
        say_hello(self, now);
    register_note(self, NOTE_INFO, is_up ? "ventilator_connected" : "ventilator_gone", "%s",
         is_up ? "says hello" : "results go on being recorded; the ventilator asks for them when it is back");
}

/* The open batches are the word of one journal. Those of another one are strangers to them. */
static bool is_ours(struct registry *self, const Wire__SinkWelcome *welcome)
{
    if (self->journal_known && memcmp(self->journal, welcome->journal.data, WIRE_ID) == 0)
        return true;
    char theirs[33], ours[33];
    wire_id_hex(welcome->journal.data, theirs);
    wire_id_hex(self->journal, ours);
    if (self->journal_known && self->open_batches > 0) {
        register_note(self, NOTE_ERROR, "other_ventilator", "the ventilator has journal %s, but %" PRIu64 " open batches of this sink come from journal %s"
             "; give the ventilator the --data folder that it had, or this sink another one", theirs, self->open_batches, ours);
        return false;
    }
    Wire__SinkRecord record = WIRE__SINK_RECORD__INIT;
    record.journal = welcome->journal;
    if (wire_write(&self->writer, &record.base) < 0
        || !staged(self, self->ports.put(self->ports.arg, "meta", self->writer.bytes, self->writer.len)))
        return false;
    memcpy(self->journal, welcome->journal.data, WIRE_ID);
    self->journal_known = true;
    return true;
}

static void take_welcome(struct registry *self, mono_t now, const Wire__SinkWelcome *welcome)
{
    self->heard_at = now;
    if (!is_ours(self, welcome)) {
        self->welcomed = false;
        self->beat_at = MONO_NEVER;
        self->hello_at = mono_add(now, REFUSED_AGAIN);
        return;
    }
    self->welcomed = true;
    self->hello_at = MONO_NEVER;
    self->heartbeat = (int64_t)welcome->heartbeat_us * NS_PER_US;
    self->beat_at = now;
    register_note(self, NOTE_INFO, "welcomed", "by %s", welcome->program);
}

static void take_refusal(struct registry *self, mono_t now, const Wire__Refused *refused)
{
    self->welcomed = false;
    self->beat_at = MONO_NEVER;
    self->hello_at = mono_add(now, REFUSED_AGAIN);
    register_note(self, NOTE_ERROR, "refused", "the ventilator refuses this sink: %s", refused->sentence);
}

static void take_goodbye(struct registry *self, mono_t now)
{
    self->welcomed = false;
    self->beat_at = MONO_NEVER;
    self->hello_at = mono_add(now, HELLO_AGAIN);
    register_note(self, NOTE_INFO, "ventilator_leaves", "it said goodbye; everything is kept");
}

/* ---- events ---- */

/* What speaks of batches counts only between welcome and goodbye. */
static void take_word(struct registry *self, const Wire__Downward *message)
{
    if (!self->welcomed)
        return;
    if (message->what_case == WIRE__DOWNWARD__WHAT_REGISTER)
        batch_register(self, message->register_);
    else if (message->what_case == WIRE__DOWNWARD__WHAT_ASK)
        batch_ask(self, message->ask->batch.data, message->ask->from);
    else if (message->what_case == WIRE__DOWNWARD__WHAT_FORGET)
        batch_forget(self, message->forget->batch.data);
    else if (message->what_case == WIRE__DOWNWARD__WHAT_CLOSING)
        take_closing(self, message->closing);
}

void register_downward(struct registry *self, mono_t now, const Wire__Downward *message)
{
    self->heard_at = now;
    switch (message->what_case) {
    case WIRE__DOWNWARD__WHAT_SINK_WELCOME:
        take_welcome(self, now, message->sink_welcome);
        break;
    case WIRE__DOWNWARD__WHAT_SAY_HELLO:
        say_hello(self, now);
        break;
    case WIRE__DOWNWARD__WHAT_REFUSED:
        take_refusal(self, now, message->refused);
        break;
    case WIRE__DOWNWARD__WHAT_GOODBYE:
        take_goodbye(self, now);
        break;
    default:
        take_word(self, message);
        break;
    }
}

static void leave_if_done(struct registry *self)
{
    if (!self->draining || self->drained || !STAILQ_EMPTY(&self->answers) || self->committed < self->last_sequence)
        return;
    Wire__Goodbye goodbye = WIRE__GOODBYE__INIT;
    Wire__Upward message = WIRE__UPWARD__INIT;
    message.what_case = WIRE__UPWARD__WHAT_GOODBYE;
    message.goodbye = &goodbye;
    say(self, &message, (struct slice){0});
    self->drained = true;
}

void register_committed(struct registry *self, mono_t now, uint64_t sequence)
{
    self->now = now;
    if (sequence > self->committed)
        self->committed = sequence;
    answers_say(self);
    leave_if_done(self);
}

static void beat(struct registry *self, mono_t now)
{
    Wire__Heartbeat heartbeat = WIRE__HEARTBEAT__INIT;
    Wire__Upward message = WIRE__UPWARD__INIT;
    heartbeat.number = ++self->beats;
    heartbeat.full = self->full;
    heartbeat.queued = self->committed < self->last_sequence ? self->last_sequence - self->committed : 0;
    heartbeat.draining = self->draining;
    message.what_case = WIRE__UPWARD__WHAT_HEARTBEAT;
    message.heartbeat = &heartbeat;
    say(self, &message, (struct slice){0});
    self->beat_at = mono_add(now, self->heartbeat);
}

void register_full(struct registry *self, mono_t now, bool is_full)
{
    if (self->full == is_full)
        return;
    self->full = is_full;
    register_note(self, is_full ? NOTE_ERROR : NOTE_INFO, is_full ? "disk_full" : "disk_has_room", "%s",
         is_full ? "no result is taken until there is room" : "results are taken again");
    if (self->welcomed)
        beat(self, now);
}

void register_drain(struct registry *self, mono_t now)
{
    if (self->draining)
        return;
    self->draining = true;
    batches_store_dirty(self);
    if (self->welcomed)
        beat(self, now);
    leave_if_done(self);
}

bool register_drained(const struct registry *self)
{
    return self->drained;
}

mono_t register_tick(struct registry *self, mono_t now, bool caught_up)
{
    int64_t silence = self->heartbeat * 5 > SILENCE ? self->heartbeat * 5 : SILENCE;
    if (self->welcomed && caught_up && mono_reached(now, mono_add(self->heard_at, silence))) {
        register_note(self, NOTE_WARN, "ventilator_silent", "no answer for %" PRId64 " s; says hello anew", mono_since(now, self->heard_at) / NS_PER_S);
        self->heard_at = now;
        say_hello(self, now);
    }
    if (self->is_up && !self->welcomed && mono_reached(now, self->hello_at))
        say_hello(self, now);
    if (self->welcomed && mono_reached(now, self->beat_at))
        beat(self, now);
    if (!TAILQ_EMPTY(&self->dirty) && mono_is_never(self->dirty_at))
        self->dirty_at = mono_add(now, DIRTY_EVERY);
    if (mono_reached(now, self->dirty_at)) {
        batches_store_dirty(self);
        self->dirty_at = TAILQ_EMPTY(&self->dirty) ? MONO_NEVER : mono_add(now, DIRTY_EVERY);
    }
    leave_if_done(self);
    return mono_min(self->dirty_at, self->welcomed ? self->beat_at : self->is_up ? self->hello_at : MONO_NEVER);
}

void register_count(const struct registry *self, struct register_counts *ret)
{
    *ret = (struct register_counts){
        .batches = self->n_batches, .open_batches = self->open_batches, .results = self->results,
        .recorded = self->recorded, .duplicates = self->duplicates, .refused = self->refused,
        .unregistered = self->unregistered, .malformed = self->malformed,
        .ventilator_present = self->welcomed, .full = self->full,
    };
    struct batch *batch, *next;
    HASH_ITER(by_short, self->by_short, batch, next)
        ret->bitmap_bytes += batch->tasks.bytes;
}
