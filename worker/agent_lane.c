/* The lane: messages in one unbroken order, or none. Anything else closes it, and a new hello says
 * what is held. */
#include "worker/agent_private.h"

#include <errno.h>
#include <stdio.h>

/* Closes the lane, if there is one, and plans the hello that gets another. */
void agent_lane_break(struct agent *self, mono_t now, const char *why)
{
    struct control *c = &self->control;
    agent_note(self, LOG_WARN, "lane_broken", "reason=\"%s\" lane_epoch=%llu sequence=%llu", why,
               (unsigned long long)self->lane.epoch, (unsigned long long)self->lane.sequence);
    if (self->lane.state != LANE_NONE)
        self->ports.lane_close(self->ports.arg);
    self->lane.state = LANE_NONE;
    /* Without control, or when the ventilator leaves, the next connection brings the hello. */
    if (!c->is_up || c->leaving)
        return;
    c->welcomed = false;
    mono_t soonest = mono_add(c->last_hello_at, HELLO_PAUSE);
    c->hello_due = mono_before(soonest, now) ? now : soonest;
}

/* With some ventilators lanes have no port, but an address on this machine. */
void agent_lane_not_opened(struct agent *self, mono_t now)
{
    char why[128] = "its open did not come in time";
    if (self->lane.port != 0)
        snprintf(why, sizeof why, "nothing came from port %u of the ventilator's host; are its ports for lanes (serve --lanes) open from here?",
                 self->lane.port);
    agent_lane_break(self, now, why);
}

void agent_lane_lost(struct agent *self, mono_t now, const char *why)
{
    if (!self->left && self->lane.state != LANE_NONE)
        agent_lane_break(self, now, why);
}

static void on_open(struct agent *self)
{
    self->lane.state = LANE_OPEN;
    Wire__Opened opened = WIRE__OPENED__INIT;
    opened.lane_sequence = self->lane.sequence;
    Wire__Upward message = WIRE__UPWARD__INIT;
    message.what_case = WIRE__UPWARD__WHAT_OPENED;
    message.opened = &opened;
    agent_control_send(self, &message);
    agent_note(self, LOG_DEBUG, "lane_open", "lane_epoch=%llu", (unsigned long long)self->lane.epoch);
}

static void refuse_assign(struct agent *self, const struct batch *batch, const Wire__Assign *assign, size_t list)
{
    const Wire__Tasks *tasks = assign->tasks;
    agent_control_tell(self, &self->tell[list], batch, tasks->first, tasks->count, assign->epoch, assign->attempt);
    self->returned += tasks->count;
}

static void on_assign(struct agent *self, mono_t now, const Wire__Assign *assign, struct slice body)
{
    struct batch *batch = agent_batch_find(self, &assign->batch);
    if (!batch || !batch->announced) {
        struct batch unknown;
        for (size_t i = 0; i < WIRE_ID; i++)
            unknown.id[i] = assign->batch.data[i];
        refuse_assign(self, &unknown, assign, TELL_NO_BATCH);
        return;
    }
    if (self->draining) {
        refuse_assign(self, batch, assign, TELL_DRAINED);
        return;
    }
    int error = agent_queue_push(self, now, batch, assign, body);
    if (error == 0 && batch->refused)
        error = agent_queue_refuse(self, now, batch);
    else if (error == 0 && !agent_batch_has_time(batch, now))
        error = agent_queue_expire(self, now, batch);
    if (error < 0)
        agent_lane_break(self, now, "no memory for what it brought");
}

static void on_cancel(struct agent *self, mono_t now, const Wire__CancelTasks *cancel)
{
    struct batch *batch = agent_batch_find(self, &cancel->batch);
    uint64_t dropped = 0, stopping = 0;
    if (batch) {
        agent_batch_hold(batch);
        agent_bundles_split(self, now, batch, false);
        dropped = agent_queue_cancel(self, batch, cancel->tasks, cancel->n_tasks);
        stopping = agent_slots_cancel(self, now, batch, cancel->tasks, cancel->n_tasks, cancel->reason, cancel->silent);
        agent_batch_let_go(self, batch);
    }
    agent_control_confirm(self, cancel->number, dropped, stopping);
}

static void on_recall(struct agent *self, mono_t now, const Wire__Recall *recall)
{
    struct batch *batch = agent_batch_find(self, &recall->batch);
    uint64_t n = 0;
    if (batch) {
        agent_batch_hold(batch);
        n = agent_queue_recall(self, batch, recall->count);
        if (n < recall->count) {
            agent_bundles_split(self, now, batch, true);
            n += agent_queue_recall(self, batch, recall->count - (uint32_t)n);
        }
        agent_batch_let_go(self, batch);
    }
    agent_control_confirm(self, recall->number, n, 0);
}

static void on_message(struct agent *self, mono_t now, const Wire__Lane *message, struct slice body)
{
    struct batch *batch;
    switch (message->what_case) {
    case WIRE__LANE__WHAT_ANNOUNCE:
        if (agent_batch_announce(self, now, message->announce) < 0)
            agent_lane_break(self, now, "no memory for what it brought");
        break;
    case WIRE__LANE__WHAT_ASSIGN:
        on_assign(self, now, message->assign, body);
        break;
    case WIRE__LANE__WHAT_CANCEL:
        on_cancel(self, now, message->cancel);
        break;
    case WIRE__LANE__WHAT_EXTEND:
        if ((batch = agent_batch_find(self, &message->extend->batch)) != NULL)
            agent_batch_set_deadline(self, now, batch, message->extend->deadline_left);
        break;
    case WIRE__LANE__WHAT_RELEASE:
        for (size_t i = 0; i < message->release->n_fences; i++)
            agent_outbox_release(self, message->release->fences[i]);
        break;
    case WIRE__LANE__WHAT_RECALL:
        on_recall(self, now, message->recall);
        break;
    case WIRE__LANE__WHAT_DRAIN:
        agent_drain(self, now);
        break;
    case WIRE__LANE__WHAT_RETIRE:
        if ((batch = agent_batch_find(self, &message->retire->batch)) != NULL)
            agent_batch_retire(self, batch);
        break;
    default:    /* A beat, or something of a later minor version: its place in the order is all that counts. */
        break;
    }
}

void agent_lane(struct agent *self, mono_t now, const Wire__Lane *message, struct slice body)
{
    if (self->left)
        return;
    if (self->lane.state == LANE_NONE || message->lane_epoch < self->lane.epoch) {
        self->stale_messages++;
        return;
    }
    agent_control_heard(self, now);
    bool opens = message->what_case == WIRE__LANE__WHAT_OPEN;
    if (message->session != self->config.session || message->lane_epoch != self->lane.epoch) {
        agent_lane_break(self, now, "a message of another lane");
    } else if (message->sequence != self->lane.sequence + 1) {
        agent_lane_break(self, now, "a gap");
    } else if (opens != (self->lane.state == LANE_DIALLED)) {
        agent_lane_break(self, now, "it does not begin with open");
    } else {
        self->lane.sequence = message->sequence;
        agent_control_lane_moved(self, now);
        if (opens)
            on_open(self);
        else
            on_message(self, now, message, body);
    }
}
