/* The agent as a whole: making it, the events that belong to no one part, draining, the tick. */
#include "worker/agent_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void agent_note(struct agent *self, int level, const char *event, const char *format, ...)
{
    char text[WIRE_SENTENCE + 64];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    self->ports.note(self->ports.arg, level, event, text);
}

/* ---- making it ---- */

static void words_destroy(char **words)
{
    for (size_t i = 0; words && words[i]; i++)
        free(words[i]);
    free(words);
}

static char **words_copy(const char *const *words)
{
    size_t n = 0;
    while (words && words[n])
        n++;
    char **copy = calloc(n + 1, sizeof *copy);
    for (size_t i = 0; copy && i < n; i++)
        if (!(copy[i] = strdup(words[i]))) {
            words_destroy(copy);
            return NULL;
        }
    return copy;
}

static void config_release(struct agent_config *config)
{
    free((char *)(uintptr_t)config->name);
    free((char *)(uintptr_t)config->program);
    for (size_t i = 0; i < config->n_labels; i++) {
        Wire__Value *label = (Wire__Value *)(uintptr_t)config->labels[i];
        wire_free(&label);
    }
    free((void *)(uintptr_t)config->labels);
    for (size_t i = 0; i < config->n_handlers; i++) {
        free((char *)(uintptr_t)config->handlers[i].name);
        words_destroy((char **)(uintptr_t)config->handlers[i].command);
    }
    free((void *)(uintptr_t)config->handlers);
}

static int copy_labels(struct agent_config *to, const struct agent_config *from)
{
    Wire__Value **labels = calloc(from->n_labels + 1, sizeof(Wire__Value *));
    to->labels = (const Wire__Value *const *)labels;
    for (; labels && to->n_labels < from->n_labels; to->n_labels++)
        if (!(labels[to->n_labels] = (Wire__Value *)wire_copy(&from->labels[to->n_labels]->base)))
            return -ENOMEM;
    return labels ? 0 : -ENOMEM;
}

static int copy_handlers(struct agent_config *to, const struct agent_config *from)
{
    struct agent_handler *handlers = calloc(from->n_handlers + 1, sizeof *handlers);
    to->handlers = handlers;
    for (size_t i = 0; handlers && i < from->n_handlers; i++) {
        to->n_handlers++;
        handlers[i] = (struct agent_handler){.kind = from->handlers[i].kind, .bundles = from->handlers[i].bundles};
        handlers[i].name = strdup(from->handlers[i].name);
        handlers[i].command = (const char *const *)words_copy(from->handlers[i].command);
        if (!handlers[i].name || !handlers[i].command)
            return -ENOMEM;
    }
    return handlers ? 0 : -ENOMEM;
}

static int config_copy(struct agent_config *to, const struct agent_config *from)
{
    *to = *from;
    to->labels = NULL;
    to->handlers = NULL;
    to->n_labels = to->n_handlers = 0;
    to->name = strdup(from->name);
    to->program = strdup(from->program);
    if (!to->name || !to->program || copy_labels(to, from) < 0)
        return -ENOMEM;
    return copy_handlers(to, from);
}

struct agent *agent_new(const struct agent_config *config, const struct agent_ports *ports)
{
    struct agent *self = calloc(1, sizeof *self);
    if (!self)
        return NULL;
    self->ports = *ports;
    RB_INIT(&self->batches);
    RB_INIT(&self->reports);
    TAILQ_INIT(&self->queue);
    TAILQ_INIT(&self->fresh);
    for (size_t i = 0; i < REPORT_LISTS; i++)
        TAILQ_INIT(&self->lists[i]);
    self->control.hello_due = MONO_NEVER;
    self->control.silence = SILENCE_PRESET;
    self->control.lease_until = self->start_again = self->sink_again = (mono_t){INT64_MIN};
    self->control.last_hello_at = (mono_t){INT64_MIN / 2};
    self->cut_at = self->leave_by = MONO_NEVER;
    self->flushed = (mono_t){INT64_MIN / 2};
    self->columns = agent_columns_new();
    self->bundle_of = calloc(config->n_handlers + 1, sizeof *self->bundle_of);
    if (!self->bundle_of || config_copy(&self->config, config) < 0 || agent_slots_new(self) < 0 || !self->columns)
        agent_destroy(&self);
    return self;
}

void agent_destroy(struct agent **self_p)
{
    struct agent *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    self->open = NULL;
    agent_slots_destroy(self);
    agent_queue_destroy(self);
    agent_outbox_destroy(self);
    agent_batches_destroy(self);
    for (size_t i = 0; i < TELL_LISTS; i++)
        agent_fences_release(&self->tell[i]);
    agent_columns_destroy(&self->columns);
    free(self->due.at);
    free(self->bundle_of);
    config_release(&self->config);
    free(self);
}

/* ---- events ---- */

void agent_sink(struct agent *self, mono_t now, bool is_up)
{
    bool was_up = self->sink_up;
    self->sink_up = is_up;
    if (is_up && !was_up)
        agent_outbox_send_again(self);
    else if (is_up)
        self->sink_again = now;
}

void agent_ended(struct agent *self, mono_t now, uint32_t slot, const struct agent_end *end)
{
    if (!self->left && slot < self->config.slots && self->slots[slot].busy)
        agent_slot_ended(self, now, &self->slots[slot], end);
}

/* ---- leaving ---- */

static void leave(struct agent *self)
{
    Wire__Goodbye goodbye = WIRE__GOODBYE__INIT;
    goodbye.unreleased = self->unreleased;
    Wire__Upward message = WIRE__UPWARD__INIT;
    message.what_case = WIRE__UPWARD__WHAT_GOODBYE;
    message.goodbye = &goodbye;
    agent_control_flush(self);
    agent_control_send(self, &message);
    self->left = true;
    self->ports.leave(self->ports.arg, self->unreleased);
}

void agent_drain(struct agent *self, mono_t now)
{
    if (self->draining || self->left)
        return;
    self->draining = true;
    self->cut_at = mono_add(now, self->config.shutdown_timeout);
    agent_note(self, LOG_INFO, "draining", "busy=%u queued=%llu unreleased=%llu", agent_busy(self),
               (unsigned long long)self->queued, (unsigned long long)self->unreleased);
    agent_bundles_split(self, now, NULL, false);
    agent_queue_return_all(self);
    self->control.beat_due = now;    /* so that nothing more is sent here */
}

void agent_leave_now(struct agent *self, mono_t now)
{
    (void)now;
    if (!self->left)
        leave(self);
}

static void drain_tick(struct agent *self, mono_t now)
{
    if (!self->draining || self->cut || !mono_reached(now, self->cut_at))
        return;
    self->cut = true;
    self->leave_by = mono_add(mono_add(now, agent_slots_cut_off(self, now)), LEAVE_MARGIN);
}

static bool may_leave(const struct agent *self, mono_t now)
{
    return self->draining && ((agent_busy(self) == 0 && self->unreleased == 0) || (self->cut && mono_reached(now, self->leave_by)));
}

/* ---- the tick ---- */

/* With more to run others will end soon: they share one message and one commit. Nothing waits for company that does not come. */
static bool waits_for_company(const struct agent *self, mono_t now)
{
    for (size_t i = 0; i < TELL_LISTS; i++)
        if (i != TELL_FINISHED && self->tell[i].n > 0)
            return false;
    return !self->draining && !TAILQ_EMPTY(&self->queue) && agent_busy(self) > 0 && mono_before(now, mono_add(self->flushed, FLUSH_EVERY));
}

static mono_t next_tick(const struct agent *self, mono_t now)
{
    const struct due *first = agent_due_first(&self->due);
    mono_t next = mono_min(agent_control_next(self), agent_outbox_next(self, now));
    if (first)
        next = mono_min(next, first->at);
    if (!TAILQ_EMPTY(&self->fresh))
        next = mono_min(next, self->started_due);
    if (!TAILQ_EMPTY(&self->lists[REPORT_OPEN]) || (self->tell[TELL_FINISHED].n > 0 && self->lane.state == LANE_OPEN))
        next = mono_min(next, mono_add(self->flushed, FLUSH_EVERY));
    if (self->draining)
        next = mono_min(next, self->cut ? self->leave_by : self->cut_at);
    if (!TAILQ_EMPTY(&self->queue) && mono_before(now, self->start_again))
        next = mono_min(next, self->start_again);
    return next;
}

mono_t agent_tick(struct agent *self, mono_t now, bool caught_up)
{
    struct due *due;
    if (self->left)
        return MONO_NEVER;
    while ((due = agent_due_first(&self->due)) != NULL && mono_reached(now, due->at)) {
        agent_due_clear(&self->due, due);
        due->fire(self, now, due);
    }
    drain_tick(self, now);
    agent_control_tick(self, now, caught_up);
    agent_slots_start(self, now);
    agent_slots_report_started(self, now);
    bool flush = !waits_for_company(self, now);
    if (flush)
        agent_outbox_seal(self);
    /* With nothing more to run, what somebody waits for goes first: a free slot is of use only to what comes later. */
    if (TAILQ_EMPTY(&self->queue))
        agent_outbox_send(self, now);
    if (flush) {
        agent_control_flush(self);
        self->flushed = now;
    }
    agent_outbox_send(self, now);
    if (may_leave(self, now)) {
        leave(self);
        return MONO_NEVER;
    }
    return next_tick(self, now);
}

void agent_count(const struct agent *self, mono_t now, struct agent_counts *ret)
{
    *ret = (struct agent_counts){
        .slots = self->config.slots, .busy = agent_busy(self),
        .queued = self->queued, .unreleased = self->unreleased, .unreleased_bytes = self->unreleased_bytes,
        .started = self->started, .ended = self->ended, .resent = self->resent, .stale_messages = self->stale_messages,
        .returned = self->returned,
        .lane_open = self->lane.state == LANE_OPEN, .lease_valid = agent_control_lease_valid(self, now), .draining = self->draining,
    };
}
