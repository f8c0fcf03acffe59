/* Batches as they were announced on the lane: what their tasks have in common, and the deadline.
 *
 * A batch stays while it is announced or while a frame, a slot or a result belongs to it. With each
 * new lane all announcements are void, but what is held of a batch still needs its options. */
#include "worker/agent_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int by_id(const struct batch *a, const struct batch *b) { return memcmp(a->id, b->id, WIRE_ID); }
RB_GENERATE_INTERNAL(batch_tree, batch, node, by_id, static __attribute__((unused)))

struct batch *agent_batch_find(struct agent *self, const ProtobufCBinaryData *id)
{
    struct batch key;
    memcpy(key.id, id->data, WIRE_ID);
    return RB_FIND(batch_tree, &self->batches, &key);
}

static void expire(struct agent *self, mono_t now, struct due *due)
{
    struct batch *batch = (struct batch *)((char *)due - offsetof(struct batch, expiry));
    if (agent_queue_expire(self, now, batch) < 0)
        agent_due_set(&self->due, due, mono_add(now, MEMORY_PAUSE));
}

static int64_t min_runtime(const struct batch *batch) { return (int64_t)batch->options->min_runtime_us * NS_PER_US; }

bool agent_batch_has_time(const struct batch *batch, mono_t now)
{
    return mono_is_never(batch->deadline) || mono_since(batch->deadline, now) > min_runtime(batch);
}

void agent_batch_set_deadline(struct agent *self, mono_t now, struct batch *batch, const Wire__Micros *left)
{
    batch->deadline = left ? mono_add(now, (int64_t)left->us * NS_PER_US) : MONO_NEVER;
    agent_due_set(&self->due, &batch->expiry, mono_add(batch->deadline, -min_runtime(batch)));
    struct slot *slot;
    agent_bundles_split(self, now, batch, true);    /* its process knows the deadline of before */
    LIST_FOREACH(slot, &batch->running, batch_entry)
        agent_slot_arm(self, slot);
}

static void find_handler(const struct agent *self, struct batch *batch)
{
    const char *name = batch->options->handler;
    batch->refused = name[0] != '\0' || !self->config.allow_commands;
    for (size_t i = 0; i < self->config.n_handlers && name[0] != '\0'; i++)
        if (strcmp(self->config.handlers[i].name, name) == 0) {
            batch->handler = &self->config.handlers[i];
            batch->refused = false;
        }
}

static void batch_destroy(struct agent *self, struct batch *batch)
{
    RB_REMOVE(batch_tree, &self->batches, batch);
    agent_due_clear(&self->due, &batch->expiry);
    agent_due_break_promise(&self->due);
    wire_free(&batch->options);
    free(batch->short_id);
    free(batch);
}

static struct batch *batch_new(struct agent *self, const Wire__Announce *message)
{
    struct batch *batch = calloc(1, sizeof *batch);
    if (!batch)
        return NULL;
    TAILQ_INIT(&batch->frames);
    LIST_INIT(&batch->running);
    batch->expiry.fire = expire;
    batch->deadline = MONO_NEVER;
    memcpy(batch->id, message->batch.data, WIRE_ID);
    batch->short_id = strdup(message->short_id);
    batch->options = (Wire__Options *)wire_copy(&message->options->base);
    if (!batch->short_id || !batch->options || agent_due_promise(&self->due) < 0) {
        wire_free(&batch->options);
        free(batch->short_id);
        free(batch);
        return NULL;
    }
    find_handler(self, batch);
    RB_INSERT(batch_tree, &self->batches, batch);
    return batch;
}

int agent_batch_announce(struct agent *self, mono_t now, const Wire__Announce *message)
{
    struct batch *batch = agent_batch_find(self, &message->batch);
    if (!batch)
        batch = batch_new(self, message);
    if (!batch)
        return -ENOMEM;
    batch->announced = true;
    agent_batch_set_deadline(self, now, batch, message->deadline_left);
    return 0;
}

void agent_batch_hold(struct batch *batch) { batch->holders++; }

void agent_batch_let_go(struct agent *self, struct batch *batch)
{
    if (--batch->holders == 0 && !batch->announced)
        batch_destroy(self, batch);
}

void agent_batch_retire(struct agent *self, struct batch *batch)
{
    batch->announced = false;
    if (batch->holders == 0)
        batch_destroy(self, batch);
}

void agent_batches_retire_all(struct agent *self)
{
    struct batch *batch, *next;
    RB_FOREACH_SAFE(batch, batch_tree, &self->batches, next)
        agent_batch_retire(self, batch);
}

void agent_batches_destroy(struct agent *self)
{
    struct batch *batch, *next;
    RB_FOREACH_SAFE(batch, batch_tree, &self->batches, next)
        batch_destroy(self, batch);
}
