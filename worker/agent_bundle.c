/* Bundles: many tiny tasks in one go, for a plugin's process or for the keeper of commands, which begins them by itself, one after
 * the other.
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
#define WORTH_IT 16u                          /* this part of a bundle's time */

static bool takes_bundles(const struct agent *self, const struct batch *batch)
{
    return self->ports.split && (!batch->handler || batch->handler->bundles);
}

static bool is_plugin(const struct batch *batch) { return batch->handler && batch->handler->kind == AGENT_PLUGIN; }

static bool may_bundle(const struct agent *self, mono_t now, const struct batch *batch, const struct frame *frame)
{
    const Wire__Options *options = batch->options;
    if (!takes_bundles(self, batch) || frame->columns)
        return false;
    if (!is_plugin(batch) && mono_before(batch->deadline, mono_add(now, BUDGET_EXACT)))
        return false;
    return !options->timeout || (int64_t)options->timeout->us * NS_PER_US >= BUNDLE_TIMEOUT;
}

/* Of its handler, whatever the batch: the next one need not begin to learn anew. What a batch brings along is its own. */
static uint32_t *known_of(const struct agent *self, struct batch *batch)
{
    return batch->handler ? &self->bundle_of[batch->handler - self->config.handlers] : &batch->bundle;
}

uint32_t agent_bundle_size(const struct agent *self, mono_t now, const struct frame *frame)
{
    struct batch *batch = frame->batch;
    if (!may_bundle(self, now, batch, frame) || *known_of(self, batch) <= 1)
        return 1;
    /* Few tasks are shared out among all slots, but none gets less than what is worth the way there and back. */
    uint64_t most = *known_of(self, batch), n = (self->to_share + self->n_free - 1) / self->n_free;
    n = n > most / WORTH_IT ? n : most / WORTH_IT;
    n = n < most ? n : most;
    n = n < frame->count ? n : frame->count;
    return n > 0 ? (uint32_t)n : 1;
}

/* ---- how large it may be ---- */

/* `begun` of them did, and each took so long. */
static void learn(struct agent *self, struct slot *slot, uint32_t begun, uint64_t each)
{
    uint64_t fits = BUNDLE_NS / (each > 0 ? each : 1), most = (uint64_t)begun * GROWS_BY;
    /* A small one that was done says nothing against a large one; one that was not done does. */
    uint32_t *known = known_of(self, slot->batch);
    if (begun == slot->count && most < *known)
        most = *known;
    uint64_t bundle = fits < most ? fits : most;
    *known = bundle < 1 ? 1 : bundle < WIRE_BLOCK ? (uint32_t)bundle : WIRE_BLOCK;
    slot->learned = true;
}

/* ---- what has ended of it ---- */

static void fill_part(const struct slot *slot, const struct agent_part *part, struct outcome *out)
{
    bool ok = part->code == 0 && !part->signalled;
    *out = (struct outcome){
        .verdict = ok ? WIRE__VERDICT__OK : WIRE__VERDICT__FAILED,
        .reason = ok ? WIRE__REASON__REASON_NONE : part->signalled ? WIRE__REASON__SIGNAL : WIRE__REASON__EXIT_CODE,
        .code = part->signalled ? 0 : part->code, .signal = part->signalled ? (uint32_t)part->code : 0,
        .flags = (part->signalled ? 0U : WIRE_EXIT_CODE) | (part->swept ? WIRE_SWEPT : 0U) | (part->output_truncated ? WIRE_OUTPUT_TRUNCATED : 0U),
        .slot = slot->number + 1, .run_us = part->run_ns / NS_PER_US,
        .sentence = part->sentence ? agent_report_sentence(part->sentence) : NULL,
    };
}

static size_t said_by(const struct agent_part *part) { return (size_t)part->output_len + part->errors_len; }

/* What it said begins at `at`; `complete`: nothing of it is lost. */
static void fill_said(const struct agent_part *part, struct slice outputs, size_t at, bool complete, struct outcome *out)
{
    if (!complete) {
        out->flags |= (part->output_len > 0 ? WIRE_OUTPUT_TRUNCATED : 0U) | (part->errors_len > 0 ? WIRE_ERRORS_TRUNCATED : 0U);
        return;
    }
    out->output = slice_keep(slice_cut(outputs, at, part->output_len));
    out->errors = slice_keep(slice_cut(outputs, at + part->output_len, part->errors_len));
    out->output_len = (uint32_t)out->output.len;
    out->errors_len = (uint32_t)out->errors.len;
}

/* What can't be reported for want of memory is given back, as if it had been cut off: it runs again, and loses no try. */
static void report_parts(struct agent *self, struct slot *slot, const struct agent_split *split, uint64_t queued_us)
{
    struct report like = {.batch = slot->batch, .epoch = slot->epoch, .attempt = slot->attempt};
    uint64_t told = slot->index;
    size_t at = 0, sum = 0;
    for (uint32_t i = 0; i < split->n_parts; i++)
        sum += said_by(&split->parts[i]);
    for (uint32_t i = 0; i < split->n_parts; i++) {
        const struct agent_part *part = &split->parts[i];
        struct outcome out;
        fill_part(slot, part, &out);
        out.queued_us = queued_us;
        queued_us += part->run_ns / NS_PER_US;
        fill_said(part, split->part_outputs, at, sum <= split->part_outputs.len, &out);
        at += said_by(part);
        like.first = slot->index + i;
        like.kind = out.verdict == WIRE__VERDICT__OK ? WIRE__RESULT_KIND__IS_VERDICT : agent_report_kind(slot->batch, slot->tries_left, &out);
        if (agent_outbox_add(self, &like, &out) == 0)
            continue;
        agent_control_finished(self, slot, told, (uint32_t)(like.first - told), 0);      /* its time is told with the rest */
        agent_control_tell(self, &self->tell[TELL_CUT_OFF], slot->batch, like.first, 1, slot->epoch, slot->attempt);
        self->returned++;
        told = like.first + 1;
    }
    uint64_t last = slot->index + split->n_parts;
    agent_control_finished(self, slot, told, (uint32_t)(last - told), slot->parts_ns);
}

/* They are done with, whatever becomes of the one that began last: from now on that one is the slot's. */
static void take_parts(struct agent *self, struct slot *slot, const struct agent_split *split)
{
    for (uint32_t i = 0; i < split->n_parts; i++)
        slot->parts_ns += split->parts[i].run_ns;
    if (split->n_parts == 0)
        return;
    learn(self, slot, split->begun, (uint64_t)slot->parts_ns / split->n_parts);
    report_parts(self, slot, split, (uint64_t)(mono_since(slot->started, slot->admitted) / NS_PER_US));
    self->ended += split->n_parts;
    slot->index += split->n_parts;
}

/* Asks how far it has come. What has not begun is in the queue again. */
static void close_bundle(struct agent *self, mono_t now, struct slot *slot, bool keep_first, bool first_failed)
{
    struct agent_split split = {.begun_at = slot->started};
    slot->open = false;
    self->ports.split(self->ports.arg, slot->number, keep_first, &split);
    /* What can't begin at all is told of its first task, as it would be if that had come alone. */
    if (split.begun == 0 && first_failed)
        split.begun = 1;
    take_parts(self, slot, &split);
    slot->begun = split.begun > 0;
    slot->started = mono_before(split.begun_at, slot->started) ? slot->started : split.begun_at;
    agent_queue_put_back(self, now, &slot->rest, split.begun);
}

void agent_bundle_split(struct agent *self, mono_t now, struct slot *slot, bool keep_first)
{
    if (!slot->open)
        return;
    close_bundle(self, now, slot, keep_first, false);
    const Wire__Micros *timeout = slot->batch->options->timeout;
    slot->timeout = timeout ? mono_add(slot->started, (int64_t)timeout->us * NS_PER_US) : MONO_NEVER;
    agent_slot_arm(self, slot);
    if (slot->begun > 0)
        agent_slot_is_fresh(self, now, slot);
}

void agent_bundles_split(struct agent *self, mono_t now, const struct batch *batch, bool keep_first)
{
    for (uint32_t i = 0; i < self->config.slots; i++)
        if (self->slots[i].busy && (!batch || self->slots[i].batch == batch))
            agent_bundle_split(self, now, &self->slots[i], keep_first);
}

/* ---- the end ---- */

void agent_bundle_ended(struct agent *self, mono_t now, struct slot *slot, struct agent_end *end)
{
    if (!takes_bundles(self, slot->batch))
        return;
    if (slot->open)
        close_bundle(self, now, slot, false, end->how == AGENT_FAULT || end->how == AGENT_NOT_STARTED);
    if (is_plugin(slot->batch))
        end->run_ns = end->run_ns > slot->parts_ns ? end->run_ns - slot->parts_ns : 0;
    /* The last one's time is seen from outside, with its way there and back: of many it says little. */
    if (!slot->learned)
        learn(self, slot, slot->begun, slot->begun == 0 ? BUNDLE_NS : end->run_ns > 0 ? (uint64_t)end->run_ns : 0);
}
