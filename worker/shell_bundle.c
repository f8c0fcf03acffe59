/* The worker shell's side of bundles: see the header. */
#include "worker/shell_bundle.h"

#include <stdlib.h>
#include <unistd.h>

struct shell_parts {
    struct bundle_part read[BUNDLE_MOST];
    struct agent_part parts[BUNDLE_MOST];
    struct buf *outputs, *words;
};

int shell_bundle_open(struct shell_bundle *self)
{
    return self->memory ? 0 : bundle_make(&self->memory, &self->fd);
}

void shell_bundle_close(struct shell_bundle *self)
{
    if (!self->memory)
        return;
    bundle_unmap(&self->memory);
    close(self->fd);
}

int shell_bundle_put(struct shell_bundle *self, const struct agent_run *run)
{
    struct bundle_order order = {
        .count = run->count, .not_after = run->not_after, .begin_for = run->begin_for, .max_output = run->options->max_output,
    };
    if (!self->commands) {
        order.lengths = run->lengths;
        order.n_lengths = run->n_lengths;
        order.body = run->payload;
        order.range = run->options->range;
        order.index = run->index;
    }
    int error = bundle_put(self->memory, &order);
    self->count = error == 0 ? run->count : 0;
    self->max_output = order.max_output;
    return error;
}

size_t shell_bundle_put_large(struct shell_bundle *self, const struct agent_run *run)
{
    bool fits = self && self->memory && run->count == 1 && run->payload.len >= BUNDLE_LARGE_LEAST && bundle_put_large(self->memory, run->payload);
    if (fits)
        self->large = true;
    return fits ? run->payload.len : 0;
}

struct slice shell_bundle_take_large(struct shell_bundle *self, size_t len)
{
    self->large = true;
    return slice_of(bundle_take_large(self->memory, len));
}

void shell_bundle_let_large_go(struct shell_bundle *self)
{
    if (self->large)
        bundle_let_large_go(self->memory);
    self->large = false;
}

struct agent_run shell_bundle_one(const struct agent_run *run, uint32_t i, size_t payload_at, char number[WIRE_RANGE_ITEM])
{
    struct agent_run one = *run;
    const Wire__Range *range = run->options->range;
    one.index += i;
    one.count = 1;
    one.payload = range ? wire_range_item(range, one.index, number) : slice_cut(run->payload, payload_at, wire_u32(run->lengths, run->n_lengths, i));
    wire_span_id(run->batch, one.index, run->epoch, run->attempt, one.span_id);
    return one;
}

/* ---- what has become of them ---- */

struct shell_parts *shell_parts_new(void) { return calloc(1, sizeof(struct shell_parts)); }

static void drop(struct shell_parts *self)
{
    buf_unref(&self->outputs);
    buf_unref(&self->words);
}

void shell_parts_destroy(struct shell_parts **self_p)
{
    if (*self_p)
        drop(*self_p);
    free(*self_p);
    *self_p = NULL;
}

/* A plugin writes to that memory what it likes; commands don't have it. What it could not have left would be refused by the sink, again and again. */
static bool can_be(const struct shell_bundle *self, const struct bundle_part *part)
{
    return self->commands || (!part->signalled && !part->swept && part->errors_len == 0 && part->output_len <= self->max_output);
}

static bool are_sound(const struct shell_bundle *self, struct shell_parts *parts, uint32_t n)
{
    bool sound = bundle_take(self->memory, n, parts->read, &parts->outputs, &parts->words);
    for (uint32_t i = 0; i < n && sound; i++)
        sound = can_be(self, &parts->read[i]);
    if (!sound)
        drop(parts);
    return sound;
}

static void take(struct shell_parts *self, const struct shell_bundle *bundle, uint32_t n)
{
    bool sound = are_sound(bundle, self, n);
    for (uint32_t i = 0; i < n; i++) {
        const struct bundle_part *from = &self->read[i];
        struct agent_part *to = &self->parts[i];
        *to = (struct agent_part){.code = 1, .sentence = "somebody wrote over the memory in which its result was left"};
        if (!sound)
            continue;
        *to = (struct agent_part){
            .code = from->code, .signalled = from->signalled, .swept = from->swept,
            .run_ns = from->run_ns, .output_len = from->output_len, .errors_len = from->errors_len,
        };
        if (from->words_at > 0 && self->words)
            to->sentence = (const char *)buf_bytes(self->words) + from->words_at;
    }
}

void shell_bundle_split(struct shell_bundle *self, struct shell_parts *parts, bool keep_first, struct agent_split *ret)
{
    drop(parts);
    /* One that could not even be handed over has not begun. */
    if (!self->memory || self->count == 0)
        return;
    uint32_t begun = bundle_close(self->memory, keep_first);
    ret->begun = begun < self->count ? begun : self->count;
    mono_t at = bundle_begun_at(self->memory);
    /* A beginning that is still to come would put off its timeout. */
    if (ret->begun > 0 && at.ns > ret->begun_at.ns && !mono_before(mono_now(), at))
        ret->begun_at = at;
    ret->n_parts = ret->begun > 0 ? ret->begun - 1 : 0;
    take(parts, self, ret->n_parts);
    ret->parts = parts->parts;
    ret->part_outputs = slice_of(parts->outputs);
}
