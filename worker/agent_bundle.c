/* Bundles: many tiny tasks for a plugin's process in one go, which begins them by itself, one after the other.
 *
 * What must hold: a task of a bundle is either begun or not, and after a split everybody knows which. So a cancel is confirmed
 * only when the bundles of its batch are split; what was not begun is in the queue again, as if it had never left it. A crash
 * costs the one attempt that had begun and not ended.
 *
 * A bundle is as large as its time allows, by measurement: it begins with one task and grows fourfold. One that lasts longer than
 * it should is split, and what is left of it is an attempt as any other: it has its own timeout, and is told as started. */
#include "worker/agent_private.h"

#include <errno.h>
#include <stdlib.h>

#define GROWS_BY 4u

static bool may_bundle(const struct agent *self, const struct batch *batch, const struct frame *frame)
{
    const Wire__Options *options = batch->options;
    if (!self->ports.split || !batch->handler || !batch->handler->bundles || frame->columns)
        return false;
    return !options->timeout || (int64_t)options->timeout->us * NS_PER_US >= BUNDLE_TIMEOUT;
}

/* Of its handler, whatever the batch: the next one need not begin to learn anew. */
static uint32_t *known_of(const struct agent *self, const struct batch *batch) { return &self->bundle_of[batch->handler - self->config.handlers]; }

uint32_t agent_bundle_size(const struct agent *self, const struct frame *frame)
{
    const struct batch *batch = frame->batch;
    if (!may_bundle(self, batch, frame) || *known_of(self, batch) <= 1)
        return 1;
    /* Few tasks are shared out among all slots. */
    uint64_t share = (self->queued + self->config.slots - 1) / self->config.slots;
    uint64_t n = *known_of(self, batch) < share ? *known_of(self, batch) : share;
    return n < frame->count ? (uint32_t)n : frame->count;
}

void agent_bundle_split(struct agent *self, mono_t now, struct slot *slot, bool keep_first)
{
    mono_t begun_at = slot->started;
    if (!slot->open)
        return;
    slot->open = false;
    slot->begun = self->ports.split(self->ports.arg, slot->number, keep_first, &begun_at);
    slot->started = mono_before(begun_at, slot->started) ? slot->started : begun_at;
    const Wire__Micros *timeout = slot->batch->options->timeout;
    slot->timeout = timeout ? mono_add(slot->started, (int64_t)timeout->us * NS_PER_US) : MONO_NEVER;
    agent_slot_arm(self, slot);
    if (slot->begun > 0) {
        if (TAILQ_EMPTY(&self->fresh))
            self->started_due = mono_add(now, STARTED_EVERY);
        TAILQ_INSERT_TAIL(&self->fresh, slot, fresh_entry);
        slot->fresh = true;
    }
    agent_queue_put_back(self, now, &slot->rest, slot->begun);
}

void agent_bundles_split(struct agent *self, mono_t now, const struct batch *batch, bool keep_first)
{
    for (uint32_t i = 0; i < self->config.slots; i++)
        if (self->slots[i].busy && (!batch || self->slots[i].batch == batch))
            agent_bundle_split(self, now, &self->slots[i], keep_first);
}

/* ---- the end ---- */

static void learn(struct agent *self, const struct slot *slot, const struct agent_end *end, uint64_t parts_ns)
{
    /* The last one's time is seen from outside, with its way there and back: of many it says little. */
    uint64_t last = end->run_ns > 0 ? (uint64_t)end->run_ns : 0, each = slot->begun > 0 ? last : BUNDLE_NS;
    if (end->n_parts > 0)
        each = parts_ns / end->n_parts;
    uint64_t fits = BUNDLE_NS / (each > 0 ? each : 1), most = (uint64_t)slot->begun * GROWS_BY;
    /* A small one that was done says nothing against a large one; one that was not done does. */
    uint32_t *known = known_of(self, slot->batch);
    if (slot->begun == slot->count && most < *known)
        most = *known;
    uint64_t bundle = fits < most ? fits : most;
    *known = bundle < 1 ? 1 : bundle < WIRE_BLOCK ? (uint32_t)bundle : WIRE_BLOCK;
}

static void fill_part(const struct slot *slot, const struct agent_part *part, struct outcome *out)
{
    *out = (struct outcome){
        .verdict = part->code == 0 ? WIRE__VERDICT__OK : WIRE__VERDICT__FAILED,
        .reason = part->code == 0 ? WIRE__REASON__REASON_NONE : WIRE__REASON__EXIT_CODE, .code = part->code,
        .flags = FLAG_EXIT_CODE | (part->output_truncated ? FLAG_OUTPUT_TRUNCATED : 0U), .slot = slot->number + 1,
        .run_us = part->run_ns / NS_PER_US, .sentence = part->sentence ? agent_report_sentence(part->sentence) : NULL,
    };
}

/* What can't be reported for want of memory is given back, as if it had been cut off: it runs again, and loses no try. */
static void report_parts(struct agent *self, struct slot *slot, const struct agent_end *end, uint64_t queued_us)
{
    struct report like = {.batch = slot->batch, .epoch = slot->epoch, .attempt = slot->attempt};
    uint64_t sum = 0, told = slot->index;
    size_t at = 0;
    for (uint32_t i = 0; i < end->n_parts; i++)
        sum += end->parts[i].output_len;
    for (uint32_t i = 0; i < end->n_parts; i++) {
        const struct agent_part *part = &end->parts[i];
        struct outcome out;
        fill_part(slot, part, &out);
        out.queued_us = queued_us;
        queued_us += part->run_ns / NS_PER_US;
        if (part->output_len > 0 && sum > end->part_outputs.len)
            out.flags |= FLAG_OUTPUT_TRUNCATED;
        else
            out.output = slice_keep(slice_cut(end->part_outputs, at, part->output_len));
        out.output_len = (uint32_t)out.output.len;
        at += part->output_len;
        like.first = slot->index + i;
        like.kind = out.verdict == WIRE__VERDICT__OK ? WIRE__RESULT_KIND__IS_VERDICT : agent_report_kind(slot->batch, slot->tries_left, &out);
        if (agent_outbox_add(self, &like, &out) == 0)
            continue;
        agent_control_tell(self, &self->tell[TELL_FINISHED], slot->batch, told, (uint32_t)(like.first - told), slot->epoch, slot->attempt);
        agent_control_tell(self, &self->tell[TELL_CUT_OFF], slot->batch, like.first, 1, slot->epoch, slot->attempt);
        self->returned++;
        told = like.first + 1;
    }
    uint64_t last = slot->index + end->n_parts;
    agent_control_tell(self, &self->tell[TELL_FINISHED], slot->batch, told, (uint32_t)(last - told), slot->epoch, slot->attempt);
}

void agent_bundle_ended(struct agent *self, mono_t now, struct slot *slot, const struct agent_end *end)
{
    bool was_open = slot->open, failed = end->how == AGENT_FAULT || end->how == AGENT_NOT_STARTED;
    mono_t first_began = slot->started;
    uint64_t parts_ns = 0;
    if (slot->open) {
        mono_t unused;
        slot->open = false;
        slot->begun = self->ports.split(self->ports.arg, slot->number, false, &unused);
        /* What can't begin at all is told of its first task, as it would be if that had come alone. */
        if (slot->begun == 0 && failed)
            slot->begun = 1;
        agent_queue_put_back(self, now, &slot->rest, slot->begun);
    }
    for (uint32_t i = 0; i < end->n_parts; i++)
        parts_ns += end->parts[i].run_ns;
    learn(self, slot, end, parts_ns);
    uint64_t queued_us = (uint64_t)(mono_since(first_began, slot->admitted) / NS_PER_US);
    if (was_open)
        slot->started = mono_add(first_began, (int64_t)parts_ns);
    else
        queued_us -= queued_us < parts_ns / NS_PER_US ? queued_us : parts_ns / NS_PER_US;
    if (end->n_parts > 0) {
        report_parts(self, slot, end, queued_us);
        self->ended += end->n_parts;
        self->finished_run_us += parts_ns / NS_PER_US;
    }
}
