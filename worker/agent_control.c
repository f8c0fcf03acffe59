/* The control channel: hello and what is held, welcome, heartbeats and the lease they give, silence.
 *
 * What was started, finished or returned is told at the end of a turn, and only to a ventilator whose
 * lane is open: before that it couldn't tell which lane we speak of, and a hello tells it all anyway. */
#include "worker/agent_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int agent_control_send(struct agent *self, Wire__Upward *message)
{
    if (!self->control.is_up)
        return -EAGAIN;
    message->session = self->config.session;
    message->lane_epoch = self->lane.state == LANE_OPEN ? self->lane.epoch : 0;
    return self->ports.up(self->ports.arg, message);
}

bool agent_control_lease_valid(const struct agent *self, mono_t now) { return mono_before(now, self->control.lease_until); }

void agent_control_heard(struct agent *self, mono_t now) { self->control.last_heard = now; }

/* ---- hello ---- */

/* A holding takes up to 46 bytes of a head, and the rest of a hello up to 100 KiB: a hello that is too long would never
 * be read, nor the next one. */
#define HOLDINGS_TOLD 20000u
_Static_assert(HOLDINGS_TOLD <= WIRE_HOLDINGS && HOLDINGS_TOLD * 46 + 100 * 1024 <= WIRE_HEAD, "all holdings fit into a head");

struct holdings {
    Wire__Holding *messages;
    Wire__Fence *fences;
    Wire__Holding **pointers;
    size_t n, room;
};

static bool extends(const struct holdings *h, const struct batch *batch, uint64_t first, uint32_t count, uint64_t epoch,
                    uint32_t attempt, Wire__HoldingState state)
{
    if (h->n == 0 || h->messages[h->n - 1].state != state)
        return false;
    const Wire__Fence *last = &h->fences[h->n - 1];
    return last->batch.data == batch->id && last->epoch == epoch && last->attempt == attempt && last->first + last->count == first
        && last->first / WIRE_BLOCK == (first + count - 1) / WIRE_BLOCK;
}

static void hold(struct holdings *h, struct batch *batch, uint64_t first, uint32_t count, uint64_t epoch, uint32_t attempt,
                 Wire__HoldingState state)
{
    if (extends(h, batch, first, count, epoch, attempt, state)) {
        h->fences[h->n - 1].count += count;
        return;
    }
    if (h->n == h->room)
        return;
    Wire__Fence *fence = &h->fences[h->n];
    wire__fence__init(fence);
    fence->batch = wire_id_bytes(batch->id);
    fence->first = first;
    fence->count = count;
    fence->epoch = epoch;
    fence->attempt = attempt;
    wire__holding__init(&h->messages[h->n]);
    h->messages[h->n].fence = fence;
    h->messages[h->n].state = state;
    h->pointers[h->n] = &h->messages[h->n];
    h->n++;
}

static void holdings_release(struct holdings *h)
{
    free(h->messages);
    free(h->fences);
    free(h->pointers);
}

/* What runs comes first: should there be more than a hello takes, it is results that go untold. They
 * are kept and sent all the same. */
static int list_holdings(struct agent *self, struct holdings *h)
{
    size_t room = agent_busy(self) + self->unreleased;
    struct frame *frame;
    TAILQ_FOREACH(frame, &self->queue, entry)
        room++;
    h->room = room < HOLDINGS_TOLD ? room : HOLDINGS_TOLD;
    if (room == 0)
        return 0;
    h->messages = calloc(h->room, sizeof *h->messages);
    h->fences = calloc(h->room, sizeof *h->fences);
    h->pointers = calloc(h->room, sizeof(Wire__Holding *));
    if (!h->messages || !h->fences || !h->pointers)
        return -ENOMEM;
    for (uint32_t i = 0; i < self->config.slots; i++)
        if (self->slots[i].busy && self->slots[i].begun > 0)
            hold(h, self->slots[i].batch, self->slots[i].index, self->slots[i].begun, self->slots[i].epoch, self->slots[i].attempt,
                 WIRE__HOLDING_STATE__RUNNING);
    TAILQ_FOREACH(frame, &self->queue, entry)
        hold(h, frame->batch, frame->first, frame->count, frame->epoch, frame->attempt, WIRE__HOLDING_STATE__QUEUED);
    for (struct report *report = agent_outbox_first(self); report; report = agent_outbox_after(report))
        hold(h, report->batch, report->first, report->count, report->epoch, report->attempt, WIRE__HOLDING_STATE__ENDED);
    return 0;
}

static void describe(const struct agent *self, Wire__WorkerHello *hello, char **handlers)
{
    const struct agent_config *config = &self->config;
    hello->major = WIRE_MAJOR;
    hello->minor = WIRE_MINOR;
    hello->program = (char *)(uintptr_t)config->program;
    hello->name = (char *)(uintptr_t)config->name;
    hello->slots = config->slots;
    hello->n_labels = config->n_labels;
    hello->labels = (Wire__Value **)(uintptr_t)config->labels;
    for (size_t i = 0; i < config->n_handlers; i++)
        handlers[i] = (char *)(uintptr_t)config->handlers[i].name;
    hello->n_handlers = config->n_handlers;
    hello->handlers = handlers;
    hello->commands = config->allow_commands;
    hello->max_payload = config->max_payload;
    if (self->control.knows_ventilator)
        hello->ventilator = wire_id_bytes(self->control.ventilator);
}

static int send_hello(struct agent *self)
{
    struct holdings holdings = {0};
    char *handlers[WIRE_HANDLERS];
    int error = list_holdings(self, &holdings);
    if (error == 0) {
        Wire__WorkerHello hello = WIRE__WORKER_HELLO__INIT;
        describe(self, &hello, handlers);
        hello.n_holdings = holdings.n;
        hello.holdings = holdings.pointers;
        Wire__Upward message = WIRE__UPWARD__INIT;
        message.what_case = WIRE__UPWARD__WHAT_HELLO;
        message.hello = &hello;
        error = agent_control_send(self, &message);
    }
    holdings_release(&holdings);
    return error;
}

static void forget_told(struct agent *self)
{
    for (size_t i = 0; i < TELL_LISTS; i++)
        self->tell[i].n = 0;
    self->finished_run_us = self->finished_bytes = 0;
    struct slot *slot;
    while ((slot = TAILQ_FIRST(&self->fresh)) != NULL) {
        TAILQ_REMOVE(&self->fresh, slot, fresh_entry);
        slot->fresh = false;
    }
}

static void say_hello(struct agent *self, mono_t now)
{
    struct control *c = &self->control;
    /* Closed first: what was not read is discarded, and so doesn't count as held. */
    if (self->lane.state != LANE_NONE)
        self->ports.lane_close(self->ports.arg);
    self->lane.state = LANE_NONE;
    c->welcomed = false;
    agent_bundles_split(self, now, NULL, true);
    forget_told(self);
    int error = send_hello(self);
    if (error < 0) {
        c->hello_due = mono_add(now, error == -ENOMEM ? MEMORY_PAUSE : HELLO_PAUSE);
        return;
    }
    if (c->hellos_open++ == 0)
        c->first_hello_at = now;
    c->last_hello_at = now;
    c->hello_due = mono_add(now, c->silence);
    agent_note(self, LOG_DEBUG, "hello", "busy=%u queued=%llu unreleased=%llu", agent_busy(self),
               (unsigned long long)self->queued, (unsigned long long)self->unreleased);
}

void agent_control(struct agent *self, mono_t now, bool is_up)
{
    struct control *c = &self->control;
    if (self->left || is_up == c->is_up)
        return;
    agent_note(self, c->welcomed ? LOG_WARN : LOG_DEBUG, is_up ? "control_up" : "control_down", "busy=%u", agent_busy(self));
    c->is_up = is_up;
    c->welcomed = false;
    c->leaving = false;
    c->hellos_open = 0;
    c->hello_due = MONO_NEVER;
    c->last_heard = now;
    if (is_up)
        say_hello(self, now);
}

/* ---- what the ventilator says ---- */

static void drop_given_up(struct agent *self, mono_t now, const Wire__Welcome *welcome)
{
    if (welcome->n_dropped > 0)
        agent_bundles_split(self, now, NULL, false);
    for (size_t i = 0; i < welcome->n_dropped; i++) {
        uint64_t dropped = agent_queue_drop(self, welcome->dropped[i]);
        agent_slots_drop(self, now, welcome->dropped[i]);
        agent_outbox_release(self, welcome->dropped[i]);
        agent_note(self, LOG_DEBUG, "dropped", "first=%llu count=%u queued=%llu", (unsigned long long)welcome->dropped[i]->first,
                   welcome->dropped[i]->count, (unsigned long long)dropped);
    }
}

static void extend_lease(struct control *c, mono_t sent)
{
    mono_t until = mono_add(sent, c->lease);
    if (mono_before(c->lease_until, until))
        c->lease_until = until;
}

static void on_welcome(struct agent *self, mono_t now, const Wire__Welcome *welcome)
{
    struct control *c = &self->control;
    if (welcome->major != WIRE_MAJOR) {
        agent_note(self, LOG_ERROR, "wrong_version", "ventilator=%u.%u worker=%u.%u", welcome->major, welcome->minor, WIRE_MAJOR,
                   WIRE_MINOR);
        return;
    }
    c->heartbeat = (int64_t)welcome->heartbeat_us * NS_PER_US;
    c->lease = (int64_t)welcome->lease_us * NS_PER_US;
    c->silence = (int64_t)welcome->silence_us * NS_PER_US;
    c->result_credit = welcome->result_credit;
    c->knows_ventilator = true;
    memcpy(c->ventilator, welcome->ventilator.data, WIRE_ID);
    if (c->hellos_open > 0) {
        /* Of several hellos it can't be told which one this answers: the oldest gives the shortest lease. */
        extend_lease(c, c->first_hello_at);
        if (--c->hellos_open == 1)
            c->first_hello_at = c->last_hello_at;
    }
    c->welcomed = true;
    c->hello_due = MONO_NEVER;
    c->beat_due = now;
    drop_given_up(self, now, welcome);
    agent_batches_retire_all(self);
    self->lane = (struct lane_side){.state = LANE_DIALLED, .epoch = welcome->lane_epoch, .open_by = mono_add(now, OPEN_WITHIN),
                                     .port = welcome->lane_port};
    if (welcome->sink)
        self->ports.sink_place(self->ports.arg, welcome->sink);
    self->ports.lane_dial(self->ports.arg, welcome->lane_endpoint, welcome->lane_port);
    agent_note(self, LOG_DEBUG, "welcome", "lane_epoch=%llu dropped=%zu", (unsigned long long)welcome->lane_epoch, welcome->n_dropped);
}

static void on_beat_answer(struct agent *self, const Wire__HeartbeatAnswer *answer)
{
    struct control *c = &self->control;
    if (answer->number > 0 && c->beats[answer->number % BEATS].number == answer->number)
        extend_lease(c, c->beats[answer->number % BEATS].sent);
    if (answer->sink)
        self->ports.sink_place(self->ports.arg, answer->sink);
}

static void on_say_hello(struct agent *self, mono_t now)
{
    const struct control *c = &self->control;
    /* Each message that an unknown connection sends is answered so; one hello answers them all. */
    bool under_way = c->hellos_open > 0 && !c->welcomed && mono_since(now, c->last_hello_at) < OPEN_WITHIN;
    if (!under_way)
        say_hello(self, now);
}

static void on_refused(struct agent *self, mono_t now, const Wire__Refused *refused)
{
    struct control *c = &self->control;
    agent_note(self, LOG_ERROR, "refused", "sentence=\"%s\"", refused->sentence);
    if (c->hellos_open > 0)
        c->hellos_open--;
    if (!c->welcomed)
        c->hello_due = mono_add(now, OPEN_WITHIN);
}

/* The ventilator leaves: we keep what we have, and say hello to its successor. */
static void on_goodbye(struct agent *self, mono_t now)
{
    struct control *c = &self->control;
    agent_note(self, LOG_INFO, "ventilator_leaves", "busy=%u", agent_busy(self));
    c->welcomed = false;
    c->leaving = true;
    c->hellos_open = 0;
    c->hello_due = mono_add(now, c->silence);
}

void agent_downward(struct agent *self, mono_t now, const Wire__Downward *message)
{
    if (self->left || !self->control.is_up)
        return;
    agent_control_heard(self, now);
    self->control.epoch = message->epoch;
    switch (message->what_case) {
    case WIRE__DOWNWARD__WHAT_WELCOME:   on_welcome(self, now, message->welcome); break;
    case WIRE__DOWNWARD__WHAT_SAY_HELLO: on_say_hello(self, now); break;
    case WIRE__DOWNWARD__WHAT_REFUSED:   on_refused(self, now, message->refused); break;
    case WIRE__DOWNWARD__WHAT_HEARTBEAT: on_beat_answer(self, message->heartbeat); break;
    case WIRE__DOWNWARD__WHAT_GOODBYE:   on_goodbye(self, now); break;
    default:                             self->stale_messages++;
    }
}

/* ---- heartbeats and silence ---- */

static void beat(struct agent *self, mono_t now)
{
    struct control *c = &self->control;
    Wire__Heartbeat heartbeat = WIRE__HEARTBEAT__INIT;
    heartbeat.number = ++c->beat_number;
    heartbeat.lane_sequence = self->lane.state == LANE_OPEN ? self->lane.sequence : 0;
    heartbeat.busy = agent_busy(self);
    heartbeat.queued = self->queued;
    heartbeat.unreleased_bytes = self->unreleased_bytes;
    heartbeat.unreleased = self->unreleased;
    heartbeat.sink_up = self->sink_up;
    heartbeat.draining = self->draining;
    Wire__Upward message = WIRE__UPWARD__INIT;
    message.what_case = WIRE__UPWARD__WHAT_HEARTBEAT;
    message.heartbeat = &heartbeat;
    c->beat_due = mono_add(now, c->heartbeat);
    if (agent_control_send(self, &message) < 0)
        return;
    c->beats[c->beat_number % BEATS].number = c->beat_number;
    c->beats[c->beat_number % BEATS].sent = now;
}

/* The lease may have run out because the lane stood still, under one large payload: that it moves is said now, and not
 * with the next heartbeat. */
void agent_control_lane_moved(struct agent *self, mono_t now)
{
    struct control *c = &self->control;
    if (agent_control_lease_valid(self, now))
        return;
    mono_t soonest = mono_add(c->beats[c->beat_number % BEATS].sent, c->heartbeat / 4);
    c->beat_due = mono_min(c->beat_due, mono_before(soonest, now) ? now : soonest);
}

void agent_control_tick(struct agent *self, mono_t now, bool caught_up)
{
    struct control *c = &self->control;
    if (!c->is_up)
        return;
    if (c->welcomed && caught_up && mono_reached(now, mono_add(c->last_heard, c->silence)))
        agent_lane_break(self, now, "the ventilator is silent");
    if (self->lane.state == LANE_DIALLED && caught_up && mono_reached(now, self->lane.open_by))
        agent_lane_not_opened(self, now);
    if (mono_reached(now, c->hello_due))
        say_hello(self, now);
    if (c->welcomed && mono_reached(now, c->beat_due))
        beat(self, now);
}

mono_t agent_control_next(const struct agent *self)
{
    const struct control *c = &self->control;
    if (!c->is_up)
        return MONO_NEVER;
    mono_t next = c->hello_due;
    if (c->welcomed)
        next = mono_min(next, mono_min(c->beat_due, mono_add(c->last_heard, c->silence)));
    if (self->lane.state == LANE_DIALLED)
        next = mono_min(next, self->lane.open_by);
    return next;
}

/* ---- what is told at the end of a turn ---- */

static bool tell(struct agent *self, struct fence_list *list, const struct batch *batch, uint64_t first, uint32_t count,
                 uint64_t epoch, uint32_t attempt)
{
    struct control *c = &self->control;
    if (count == 0 || !c->is_up || (!c->welcomed && c->hellos_open == 0))
        return false;
    if (agent_fences_add(list, batch->id, first, count, epoch, attempt) == 0)
        return true;
    c->hello_due = (mono_t){0};          /* what can't be told piece by piece is told by the next hello */
    return false;
}

void agent_control_tell(struct agent *self, struct fence_list *list, const struct batch *batch, uint64_t first, uint32_t count,
                  uint64_t epoch, uint32_t attempt)
{
    tell(self, list, batch, first, count, epoch, attempt);
}

void agent_control_finished(struct agent *self, const struct slot *slot, uint64_t first, uint32_t count, int64_t run_ns)
{
    struct fence_list *list = &self->tell[TELL_FINISHED];
    uint64_t run_us = run_ns > 0 ? (uint64_t)(run_ns / NS_PER_US) : 0;
    self->finished_run_us += run_us;
    if (tell(self, list, slot->batch, first, count, slot->epoch, slot->attempt))
        list->at[list->n - 1].fence.run_us += run_us;
}

static void send_returned(struct agent *self, Wire__Fence **fences, size_t n, Wire__ReturnCause cause, bool cut_off)
{
    Wire__Returned returned = WIRE__RETURNED__INIT;
    returned.n_fences = n;
    returned.fences = fences;
    returned.cause = cause;
    returned.cut_off = cut_off;
    Wire__Upward message = WIRE__UPWARD__INIT;
    message.what_case = WIRE__UPWARD__WHAT_RETURNED;
    message.returned = &returned;
    agent_control_send(self, &message);
}

static void send_finished(struct agent *self, Wire__Fence **fences, size_t n)
{
    Wire__Finished finished = WIRE__FINISHED__INIT;
    finished.n_fences = n;
    finished.fences = fences;
    finished.run_us = self->finished_run_us;
    finished.result_bytes = self->finished_bytes;
    self->finished_run_us = self->finished_bytes = 0;
    Wire__Upward message = WIRE__UPWARD__INIT;
    message.what_case = WIRE__UPWARD__WHAT_FINISHED;
    message.finished = &finished;
    agent_control_send(self, &message);
}

static void send_started(struct agent *self, Wire__Fence **fences, size_t n)
{
    Wire__Started started = WIRE__STARTED__INIT;
    started.n_fences = n;
    started.fences = fences;
    Wire__Upward message = WIRE__UPWARD__INIT;
    message.what_case = WIRE__UPWARD__WHAT_STARTED;
    message.started = &started;
    agent_control_send(self, &message);
}

static void send_list(struct agent *self, size_t which, Wire__Fence **fences, size_t n)
{
    switch (which) {
    case TELL_STARTED:  send_started(self, fences, n); break;
    case TELL_FINISHED: send_finished(self, fences, n); break;
    case TELL_RECALLED: send_returned(self, fences, n, WIRE__RETURN_CAUSE__RECALLED, false); break;
    case TELL_DRAINED:  send_returned(self, fences, n, WIRE__RETURN_CAUSE__DRAINED, false); break;
    case TELL_NO_BATCH: send_returned(self, fences, n, WIRE__RETURN_CAUSE__NO_SUCH_BATCH, false); break;
    case TELL_DROPPED:  send_returned(self, fences, n, WIRE__RETURN_CAUSE__DROPPED, false); break;
    default:            send_returned(self, fences, n, WIRE__RETURN_CAUSE__DRAINED, true); break;
    }
}

void agent_control_flush(struct agent *self)
{
    if (self->lane.state != LANE_OPEN)
        return;
    for (size_t which = 0; which < TELL_LISTS; which++) {
        struct fence_list *list = &self->tell[which];
        Wire__Fence **fences;
        for (size_t from = 0; from < list->n;) {
            size_t n = agent_fences_cut(list, from, &fences);
            send_list(self, which, fences, n);
            from += n;
        }
        list->n = 0;
    }
}

void agent_control_confirm(struct agent *self, uint64_t number, uint64_t dropped, uint64_t stopping)
{
    /* Returned comes before the confirmation that counts it. */
    agent_control_flush(self);
    Wire__Confirmed confirmed = WIRE__CONFIRMED__INIT;
    confirmed.number = number;
    confirmed.dropped = dropped;
    confirmed.stopping = stopping;
    Wire__Upward message = WIRE__UPWARD__INIT;
    message.what_case = WIRE__UPWARD__WHAT_CONFIRMED;
    message.confirmed = &confirmed;
    agent_control_send(self, &message);
}
