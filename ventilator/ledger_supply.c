/* Payloads in memory: what has just been admitted, and what was read back from the journal ahead of its
 * dispatch. Bounded over all batches; what is dropped is read again when it is wanted. */
#include "ventilator/ledger_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int supply_cmp(const struct supply *a, const struct supply *b)
{
    return a->first < b->first ? -1 : a->first > b->first;
}
RB_GENERATE(supply_tree, supply, link, supply_cmp)

static void supply_free(struct ledger *l, struct batch *b, struct supply *s)
{
    RB_REMOVE(supply_tree, &b->supplies, s);
    b->supply_bytes -= s->bytes;
    l->supply_bytes -= s->bytes;
    wire_free(&s->tasks);
    slice_drop(&s->body);
    free(s);
}

struct supply *supply_at(struct batch *b, uint64_t index)
{
    struct supply key = {.first = index};
    struct supply *s = RB_NFIND(supply_tree, &b->supplies, &key);
    if (s != NULL && s->first == index)
        return s;
    s = s != NULL ? RB_PREV(supply_tree, &b->supplies, s) : RB_MAX(supply_tree, &b->supplies);
    return s != NULL && index - s->first < s->count ? s : NULL;
}

void supply_add(struct ledger *l, struct batch *b, const Wire__Tasks *tasks, struct slice body, mono_t admitted)
{
    if (supply_at(b, tasks->first) != NULL)
        return;
    struct supply *s = calloc(1, sizeof *s);
    Wire__Tasks *copy = (Wire__Tasks *)wire_copy(&tasks->base);
    struct slice kept = slice_keep(body);
    if (s == NULL || copy == NULL || (body.len > 0 && kept.buf == NULL)) {
        free(s);                            /* no memory now: it is read from the journal later */
        wire_free(&copy);
        slice_drop(&kept);
        return;
    }
    s->first = tasks->first;
    s->count = tasks->count;
    s->tasks = copy;
    s->body = kept;
    s->bytes = sizeof *s + body.len + (tasks->n_lengths + 16) * sizeof(uint32_t);
    s->admitted = admitted;
    RB_INSERT(supply_tree, &b->supplies, s);
    b->supply_bytes += s->bytes;
    l->supply_bytes += s->bytes;
}

/* A batch whose payloads are numbers needs none: its frames are made as they are wanted. */
static void supply_range(struct ledger *l, struct batch *b, uint64_t index)
{
    Wire__Tasks t = WIRE__TASKS__INIT;
    t.first = index - index % WIRE_BLOCK;
    uint64_t left = b->admitted - t.first;
    t.count = left < WIRE_BLOCK ? (uint32_t)left : WIRE_BLOCK;
    supply_add(l, b, &t, (struct slice){0}, b->created);
}

void supply_loading(struct ledger *l, struct batch *b, bool loading)
{
    if (loading == b->loading)
        return;
    b->loading = loading;
    l->n_loading += loading ? 1 : UINT32_MAX;
    b->want->n_loading += loading ? 1 : UINT32_MAX;
}

void supply_want(struct ledger *l, struct batch *b, uint64_t index)
{
    if (b->options->range != NULL) {
        supply_range(l, b, index);
    } else if (!b->loading && b->damage == NULL) {
        supply_loading(l, b, true);
        /* Many batches at once share the cache: each has then little more than its next frame. */
        l->port.load(l->port.arg, b->number, index, b->admitted, l->supply_bytes < l->config.cache_bytes ? LOAD_BYTES : LOAD_BYTES / 16);
    }
}

size_t supply_offset(struct supply *s, uint32_t at)
{
    if (s->tasks->n_lengths <= 1)
        return (size_t)at * wire_u32(s->tasks->lengths, s->tasks->n_lengths, 0);
    if (s->memo_index > at)
        s->memo_index = 0, s->memo_offset = 0;
    for (; s->memo_index < at; s->memo_index++)
        s->memo_offset += s->tasks->lengths[s->memo_index];
    return s->memo_offset;
}

void supply_passed(struct ledger *l, struct batch *b, struct supply *s)
{
    uint64_t end = s->first + s->count;
    if (b->cursor < end)
        return;
    struct hole *h = hole_after(b, s->first);
    if (h != NULL && h->first < end)
        return;
    supply_free(l, b, s);
}

void supply_drop_all(struct ledger *l, struct batch *b)
{
    struct supply *s, *next;
    RB_FOREACH_SAFE(s, supply_tree, &b->supplies, next)
        supply_free(l, b, s);
}

/* What no hole wants and the cursor has passed makes room; then what is furthest ahead does. */
static void supply_trim(struct ledger *l, struct batch *b)
{
    struct supply *s, *next;
    RB_FOREACH_SAFE(s, supply_tree, &b->supplies, next)
        supply_passed(l, b, s);
    while (l->supply_bytes > l->config.cache_bytes && b->supply_bytes > 2 * LOAD_BYTES)
        supply_free(l, b, RB_MAX(supply_tree, &b->supplies));
}

void ledger_loaded(struct ledger *l, mono_t now, uint64_t number, const struct ledger_frame *frames, size_t n, const char *damage)
{
    l->now = now;
    struct batch *b = batch_by_number(l, number);
    if (b != NULL && b->complete)
        copies_loaded(l, b, frames, n, damage);     /* nothing else is wanted of it any more */
    if (b == NULL || b->complete)
        return;
    supply_loading(l, b, false);
    supply_trim(l, b);
    struct why why = {""};
    for (size_t i = 0; i < n; i++) {
        const Wire__Tasks *tasks;
        if (wire_read_tasks(l->arena, frames[i].head.data, frames[i].head.len, frames[i].body.len, &tasks, &why) < 0) {
            if (!wire_arena_starved(l->arena))      /* without memory it is read again, later */
                damage = why.text;
            break;
        }
        supply_add(l, b, tasks, frames[i].body, MONO_NEVER);
    }
    if (damage != NULL && b->damage == NULL) {
        b->damage = strdup(damage);
        note(l, LOG_ERROR, "journal_damaged", "batch=%s what=\"%s\"", b->short_id, damage);
    }
    batch_ready(l, b);
}
