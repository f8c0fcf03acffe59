/* A disk: operations are staged, flushed together, and durable some time later; then the process is told.
 * A crash loses what is not durable; of the flushes that were under way a random number made it. */
#include "tests/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bug.h"

static void op_free(struct op *op)
{
    if (op == NULL)
        return;
    buf_unref(&op->value);
    buf_unref(&op->body);
    free(op);
}

static struct op *op_stage(struct disk *d)
{
    struct op *op = calloc(1, sizeof *op);
    BUG_IF(op == NULL);
    if (d->staged == NULL) {
        d->staged = calloc(1, sizeof *d->staged);
        BUG_IF(d->staged == NULL);
        d->staged->tail = &d->staged->ops;
    }
    *d->staged->tail = op;
    d->staged->tail = &op->next;
    return op;
}

static struct buf *copy_of(const void *data, size_t len)
{
    struct buf *b = buf_copy(len > 0 ? data : "", len);
    BUG_IF(b == NULL);
    return b;
}

uint64_t disk_put(struct disk *d, const char *key, const void *value, size_t len)
{
    struct op *op = op_stage(d);
    op->kind = OP_PUT;
    snprintf(op->key, sizeof op->key, "%s", key);
    op->value = copy_of(value, len);
    return d->sequence + 1;
}

uint64_t disk_remove(struct disk *d, const char *key)
{
    struct op *op = op_stage(d);
    op->kind = OP_REMOVE;
    snprintf(op->key, sizeof op->key, "%s", key);
    return d->sequence + 1;
}

uint64_t disk_append(struct disk *d, uint64_t batch, uint64_t first, uint32_t count, uint32_t kind, struct slice head, struct slice body,
                     uint64_t *ret_number)
{
    struct op *op = op_stage(d);
    op->kind = OP_APPEND;
    op->batch = batch;
    op->first = first;
    op->count = count;
    op->row_kind = kind;
    op->number = ++d->next_number;
    op->value = copy_of(head.data, head.len);
    op->body = copy_of(body.data, body.len);
    if (ret_number != NULL)
        *ret_number = op->number;
    return d->sequence + 1;
}

uint64_t disk_remove_frames(struct disk *d, uint64_t batch)
{
    struct op *op = op_stage(d);
    op->kind = OP_REMOVE_FRAMES;
    op->batch = batch;
    return d->sequence + 1;
}

/* ---- what is durable ---- */

static bool is_sink(const struct disk *d) { return d->owner->role == ROLE_SINK; }

/* The place of the key, or where it would be. */
static size_t place_of(const struct disk *d, const char *key, bool *ret_there)
{
    size_t low = 0, high = d->n_records;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (strcmp(d->records[middle]->key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_there = low < d->n_records && strcmp(d->records[low]->key, key) == 0;
    return low;
}

static struct op **grow(struct op **list, size_t n, size_t *room)
{
    if (n < *room)
        return list;
    *room = *room ? 2 * *room : 32;
    list = realloc(list, *room * sizeof(struct op *));
    BUG_IF(list == NULL);
    return list;
}

static void apply_put(struct disk *d, struct op *op)
{
    bool there;
    size_t at = place_of(d, op->key, &there);
    if (there) {
        op_free(d->records[at]);
    } else {
        d->records = grow(d->records, d->n_records, &d->room_records);
        memmove(&d->records[at + 1], &d->records[at], (d->n_records - at) * sizeof d->records[0]);
        d->n_records++;
    }
    d->records[at] = op;
    if (is_sink(d))
        check_sink_record(d->owner->world, op);
}

static void apply_remove(struct disk *d, struct op *op)
{
    bool there;
    size_t at = place_of(d, op->key, &there);
    if (there) {
        op_free(d->records[at]);
        memmove(&d->records[at], &d->records[at + 1], (--d->n_records - at) * sizeof d->records[0]);
    }
    op_free(op);
}

static void apply_append(struct disk *d, struct op *op)
{
    struct world *w = d->owner->world;
    if (is_sink(d) && op->row_kind != ROW_ATTEMPT && one_in(w, 10) && mutate(w, MUTANT_ROW_FORGOTTEN)) {
        op_free(op);
        return;
    }
    d->frames = grow(d->frames, d->n_frames, &d->room_frames);
    d->frames[d->n_frames++] = op;
    if (is_sink(d))
        check_row(w, op);
}

static void apply_remove_frames(struct disk *d, struct op *op)
{
    size_t n = 0;
    for (size_t i = 0; i < d->n_frames; i++) {
        if (d->frames[i]->batch == op->batch)
            op_free(d->frames[i]);
        else
            d->frames[n++] = d->frames[i];
    }
    d->n_frames = n;
    op_free(op);
}

static void flush_free(struct flush *f)
{
    while (f != NULL && f->ops != NULL) {
        struct op *op = f->ops;
        f->ops = op->next;
        op_free(op);
    }
    free(f);
}

/* The first flush becomes durable, as a whole. */
static void apply_first(struct disk *d)
{
    struct flush *f = d->flushes;
    d->flushes = f->next;
    if (d->flushes == NULL)
        d->flushes_tail = &d->flushes;
    d->committed = f->sequence;
    while (f->ops != NULL) {
        struct op *op = f->ops;
        f->ops = op->next;
        op->next = NULL;
        switch (op->kind) {
        case OP_PUT:           apply_put(d, op); break;
        case OP_REMOVE:        apply_remove(d, op); break;
        case OP_APPEND:        apply_append(d, op); break;
        case OP_REMOVE_FRAMES: apply_remove_frames(d, op); break;
        }
    }
    flush_free(f);
}

/* ---- the store's thread ---- */

static struct disk *disk_of(struct process *p)
{
    return p->role == ROLE_VENT ? &((struct vent *)p)->disk : &((struct sink *)p)->disk;
}

static void tell_committed(struct world *w, struct event *e)
{
    (void)w;
    if (e->target->role == ROLE_VENT)
        vent_committed((struct vent *)e->target, e->a);
    else
        sink_committed((struct sink *)e->target, e->a);
}

static void commit(struct world *w, struct event *e);

static void begin_commit(struct disk *d)
{
    struct world *w = d->owner->world;
    if (d->busy || d->full || d->flushes == NULL)
        return;
    uint64_t upto = 0;
    for (struct flush *f = d->flushes; f != NULL; f = f->next)
        upto = f->sequence;
    int64_t time = between(w, d->speed / 3, d->speed * 2);
    if (one_in(w, 150))
        time += between(w, 10 * MS, 400 * MS);
    d->busy = true;
    after(w, time, d->owner, commit)->a = upto;
}

static void commit(struct world *w, struct event *e)
{
    struct disk *d = disk_of(e->target);
    d->busy = false;
    if (d->full)
        return;
    while (d->flushes != NULL && d->flushes->sequence <= e->a)
        apply_first(d);
    after(w, between(w, 5 * US, 200 * US), d->owner, tell_committed)->a = e->a;
    begin_commit(d);
}

void disk_flush(struct disk *d)
{
    struct world *w = d->owner->world;
    struct flush *f = d->staged;
    if (f == NULL)
        return;
    d->staged = NULL;
    f->sequence = ++d->sequence;
    if (d->flushes == NULL)
        d->flushes_tail = &d->flushes;
    *d->flushes_tail = f;
    d->flushes_tail = &f->next;
    begin_commit(d);
    enum mutant early = is_sink(d) ? MUTANT_SINK_COMMITS_EARLY : MUTANT_JOURNAL_COMMITS_EARLY;
    if (mutate(w, early))
        after(w, 0, d->owner, tell_committed)->a = f->sequence;
}

void disk_full(struct disk *d, bool is_full)
{
    d->full = is_full;
    if (!d->owner->alive)
        return;
    if (d->owner->role == ROLE_VENT)
        vent_full((struct vent *)d->owner, is_full);
    else
        sink_full((struct sink *)d->owner, is_full);
    begin_commit(d);
    turn_soon(d->owner);
}

void disk_crash(struct disk *d)
{
    struct world *w = d->owner->world;
    size_t n = 0;
    for (struct flush *f = d->flushes; f != NULL; f = f->next)
        n++;
    for (size_t keep = d->full ? 0 : below(w, n + 1); keep > 0; keep--)
        apply_first(d);
    flush_free(d->staged);
    d->staged = NULL;
    while (d->flushes != NULL) {
        struct flush *f = d->flushes;
        d->flushes = f->next;
        flush_free(f);
    }
    d->busy = false;
    d->sequence = d->committed = 0;
}

bool disk_is_idle(const struct disk *d) { return d->staged == NULL && d->flushes == NULL; }

size_t disk_waiting(const struct disk *d)
{
    size_t n = 0;
    for (const struct flush *f = d->flushes; f != NULL; f = f->next)
        n++;
    return n;
}

void disk_free(struct disk *d)
{
    for (size_t i = 0; i < d->n_records; i++)
        op_free(d->records[i]);
    for (size_t i = 0; i < d->n_frames; i++)
        op_free(d->frames[i]);
    free(d->records);
    free(d->frames);
}
