/* A disk: operations are staged, flushed together, and durable some time later; then the process is told.
 * A flush is durable as a whole or not at all: that is what the store promises (one transaction). A crash loses
 * what is not durable; of the flushes that were under way a random number made it, the first ones.
 *
 * Each wait of a process for its disk is a place of its own, where it can be made to die (disk_await). */
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

static bool is_sink(const struct disk *d) { return d->owner->role == ROLE_SINK; }

/* ---- where a process can die ---- */

static void count_await(struct disk *d, enum await where)
{
    cover(d->owner->world, (enum cover)(COVER_JOURNAL_IDLE + 2 * (int)where + is_sink(d)));
}

static void disk_await(struct disk *d, enum await where)
{
    if (d->armed != where || --d->armed_in > 0)
        return;
    d->armed = AWAIT_IDLE;
    d->in_part = where == AWAIT_PART;
    process_doom(d->owner, d->owner->down);
}

static enum await where_it_is(const struct disk *d)
{
    if (d->in_part)
        return AWAIT_PART;
    if (d->busy)
        return AWAIT_WRITING;
    if (d->told < d->committed)
        return AWAIT_DURABLE;
    if (d->staged != NULL)
        return AWAIT_STAGED;
    if (d->flushes != NULL)
        return AWAIT_FLUSHED;
    return d->told_at == d->owner->world->now ? AWAIT_TOLD : AWAIT_IDLE;
}

void disk_died(struct disk *d)
{
    struct world *w = d->owner->world;
    count_await(d, where_it_is(d));
    for (size_t i = 0; i < MAX_PLANS; i++)
        if (w->plans[i].purge_asked && !purge_is_over(w, &w->plans[i]))
            cover(w, COVER_KILL_PURGING);
    if (d->full)
        cover(d->owner->world, COVER_FULL_KILL);
}

/* ---- staging ---- */

/* NULL: the process is dying, nothing that it does has an effect. */
static struct op *op_stage(struct disk *d)
{
    if (!port_works(d->owner))
        return NULL;
    struct op *op = calloc(1, sizeof *op);
    BUG_IF(op == NULL);
    if (d->staged == NULL) {
        d->staged = calloc(1, sizeof *d->staged);
        BUG_IF(d->staged == NULL);
        d->staged->tail = &d->staged->ops;
    }
    *d->staged->tail = op;
    d->staged->tail = &op->next;
    disk_await(d, AWAIT_STAGED);
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
    if (op == NULL)
        return d->sequence + 1;
    op->kind = OP_PUT;
    snprintf(op->key, sizeof op->key, "%s", key);
    op->value = copy_of(value, len);
    return d->sequence + 1;
}

uint64_t disk_remove(struct disk *d, const char *key)
{
    struct op *op = op_stage(d);
    if (op == NULL)
        return d->sequence + 1;
    op->kind = OP_REMOVE;
    snprintf(op->key, sizeof op->key, "%s", key);
    return d->sequence + 1;
}

uint64_t disk_append(struct disk *d, uint64_t batch, uint64_t first, uint32_t count, uint32_t kind, struct slice head, struct slice body,
                     uint64_t *ret_number)
{
    struct op *op = op_stage(d);
    uint64_t number = ++d->next_number;
    if (ret_number != NULL)
        *ret_number = number;
    if (op == NULL)
        return d->sequence + 1;
    op->kind = OP_APPEND;
    op->batch = batch;
    op->first = first;
    op->count = count;
    op->row_kind = kind;
    op->number = number;
    op->value = copy_of(head.data, head.len);
    op->body = copy_of(body.data, body.len);
    return d->sequence + 1;
}

uint64_t disk_remove_frames(struct disk *d, uint64_t batch)
{
    struct op *op = op_stage(d);
    if (op == NULL)
        return d->sequence + 1;
    op->kind = OP_REMOVE_FRAMES;
    op->batch = batch;
    return d->sequence + 1;
}

/* ---- what is durable ---- */

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

static void apply(struct disk *d, struct op *op)
{
    struct world *w = d->owner->world;
    op->next = NULL;
    bool kept = op->kind == OP_REMOVE && !is_sink(d) && mutate(w, MUTANT_PURGE_HALF);
    if (kept || (op->kind == OP_PUT && strncmp(op->key, "purged/", 7) == 0 && mutate(w, MUTANT_TOMBSTONE_LOST))) {
        op_free(op);
        return;
    }
    switch (op->kind) {
    case OP_PUT:           apply_put(d, op); break;
    case OP_REMOVE:        apply_remove(d, op); break;
    case OP_APPEND:        apply_append(d, op); break;
    case OP_REMOVE_FRAMES: apply_remove_frames(d, op); break;
    }
}

static struct flush *take_first(struct disk *d)
{
    struct flush *f = d->flushes;
    d->flushes = f->next;
    if (d->flushes == NULL)
        d->flushes_tail = &d->flushes;
    return f;
}

/* The first flush becomes durable, as a whole. */
static void apply_first(struct disk *d)
{
    struct flush *f = take_first(d);
    d->committed = f->sequence;
    while (f->ops != NULL) {
        struct op *op = f->ops;
        f->ops = op->next;
        apply(d, op);
    }
    flush_free(f);
}

/* All of it but one operation: what no store may ever leave behind. */
static void tear_first(struct disk *d)
{
    struct flush *f = take_first(d);
    size_t n = 0;
    for (const struct op *op = f->ops; op != NULL; op = op->next)
        n++;
    size_t torn = below(d->owner->world, n);
    for (size_t i = 0; f->ops != NULL; i++) {
        struct op *op = f->ops;
        f->ops = op->next;
        if (i == torn)
            op_free(op);
        else
            apply(d, op);
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
    struct disk *d = disk_of(e->target);
    d->told = e->a;
    d->told_at = w->now;
    if (e->target->role == ROLE_VENT)
        vent_committed((struct vent *)e->target, e->a);
    else
        sink_committed((struct sink *)e->target, e->a);
    disk_await(d, AWAIT_TOLD);
}

static void commit(struct world *w, struct event *e);

static void begin_commit(struct disk *d)
{
    struct world *w = d->owner->world;
    if (d->busy || (d->full && d->reserve == 0) || d->flushes == NULL)
        return;
    uint64_t upto = 0;
    for (struct flush *f = d->flushes; f != NULL; f = f->next)
        upto = f->sequence;
    int64_t time = between(w, d->speed / 3, d->speed * 2);
    if (one_in(w, 150))
        time += between(w, 10 * MS, 400 * MS);
    d->busy = true;
    after(w, time, d->owner, commit)->a = upto;
    disk_await(d, AWAIT_WRITING);
}

/* Whether the process can go on: an error of the disk is its end. What was being written may be there or not. */
static bool disk_errs(struct disk *d, uint64_t upto)
{
    struct world *w = d->owner->world;
    if (!d->fail_next)
        return false;
    d->fail_next = false;
    if (mutate(w, MUTANT_DISK_ERROR_IGNORED)) {
        while (d->flushes != NULL && d->flushes->sequence <= upto) {
            struct flush *f = take_first(d);
            d->committed = f->sequence;
            flush_free(f);
        }
        return false;
    }
    cover(w, is_sink(d) ? COVER_ERROR_STORE : COVER_ERROR_JOURNAL);
    trace(w, d->owner->name, "its disk fails: exit code 6");
    d->busy = true;
    process_doom(d->owner, d->owner->down);
    return true;
}

static void commit(struct world *w, struct event *e)
{
    struct disk *d = disk_of(e->target);
    d->busy = false;
    if (d->full && d->reserve == 0)
        return;
    d->reserve -= d->full;
    if (disk_errs(d, e->a))
        return;
    while (d->flushes != NULL && d->flushes->sequence <= e->a) {
        apply_first(d);
        if (d->flushes != NULL && d->flushes->sequence <= e->a)
            disk_await(d, AWAIT_PART);
        if (d->owner->doomed)
            return;
    }
    after(w, between(w, 5 * US, 200 * US), d->owner, tell_committed)->a = e->a;
    disk_await(d, AWAIT_DURABLE);
    begin_commit(d);
}

void disk_flush(struct disk *d)
{
    struct world *w = d->owner->world;
    struct flush *f = d->staged;
    if (f == NULL || !port_works(d->owner))
        return;
    d->staged = NULL;
    f->sequence = ++d->sequence;
    if (d->flushes == NULL)
        d->flushes_tail = &d->flushes;
    *d->flushes_tail = f;
    d->flushes_tail = &f->next;
    if (d->busy)
        disk_await(d, AWAIT_FLUSHED);
    begin_commit(d);
    enum mutant early = is_sink(d) ? MUTANT_SINK_COMMITS_EARLY : MUTANT_JOURNAL_COMMITS_EARLY;
    if (mutate(w, early))
        after(w, 0, d->owner, tell_committed)->a = f->sequence;
}

void disk_full(struct disk *d, bool is_full)
{
    d->full = is_full;
    d->reserve = is_full ? (unsigned)below(d->owner->world, 6) : 0;
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
    size_t n = disk_waiting(d), keep = d->in_part || (d->full && d->reserve == 0) ? 0 : below(w, n + 1);
    for (size_t i = 0; i < keep; i++) {
        apply_first(d);
        cover(w, COVER_FLUSHES_KEPT);
    }
    if (d->flushes != NULL && mutate(w, MUTANT_TORN_FLUSH))
        tear_first(d);
    flush_free(d->staged);
    d->staged = NULL;
    while (d->flushes != NULL) {
        flush_free(take_first(d));
        cover(w, COVER_FLUSHES_LOST);
    }
    d->busy = d->in_part = d->fail_next = false;
    d->armed = AWAIT_IDLE;
    d->sequence = d->committed = d->told = 0;
    d->told_at = 0;
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
