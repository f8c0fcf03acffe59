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
    const Wire__Range *range = run->options->range;
    int64_t first = range ? range->first + (int64_t)run->index * range->step : 0, step = range ? range->step : 0;
    const struct bundle_order order = {
        .count = run->count, .lengths = run->lengths, .n_lengths = run->n_lengths, .body = run->payload,
        .range_first = range ? &first : NULL, .range_step = range ? &step : NULL,
        .not_after = run->not_after, .begin_for = run->begin_for, .max_output = run->options->max_output,
    };
    return bundle_put(self->memory, &order);
}

uint32_t shell_bundle_split(struct shell_bundle *self, bool keep_first, mono_t *ret_begun)
{
    /* One that could not even be handed over has not begun. */
    if (!self->memory || self->count <= 1)
        return 0;
    uint32_t begun = bundle_close(self->memory, keep_first);
    mono_t at = bundle_begun_at(self->memory);
    if (begun > 0 && at.ns > ret_begun->ns)
        *ret_begun = at;
    return begun;
}

/* ---- the end ---- */

struct shell_parts *shell_parts_new(void) { return calloc(1, sizeof(struct shell_parts)); }

void shell_parts_destroy(struct shell_parts **self_p)
{
    if (*self_p)
        shell_parts_drop(*self_p);
    free(*self_p);
    *self_p = NULL;
}

void shell_parts_drop(struct shell_parts *self)
{
    buf_unref(&self->outputs);
    buf_unref(&self->words);
}

void shell_parts_take(struct shell_parts *self, struct shell_bundle *bundle, struct agent_end *end)
{
    int64_t parts_ns = 0;
    uint32_t begun = bundle_close(bundle->memory, false), n = begun > 0 ? begun - 1 : 0;
    bool sound = bundle_take(bundle->memory, n, self->read, &self->outputs, &self->words);
    for (uint32_t i = 0; i < n; i++) {
        const struct bundle_part *from = &self->read[i];
        struct agent_part *to = &self->parts[i];
        *to = (struct agent_part){.code = 1, .sentence = "the plugin's process wrote over the memory in which it leaves its results"};
        if (!sound)
            continue;
        *to = (struct agent_part){.code = from->code, .run_ns = from->run_ns, .output_len = from->output_len};
        if (from->words_at > 0 && self->words)
            to->sentence = (const char *)buf_bytes(self->words) + from->words_at;
        parts_ns += from->run_ns;
    }
    end->parts = self->parts;
    end->n_parts = n;
    end->part_outputs = slice_of(self->outputs);
    end->run_ns = end->run_ns > parts_ns ? end->run_ns - parts_ns : 0;
}
