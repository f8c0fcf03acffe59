/* The batches: found by id, number and the short id that people type; their records on disk; and their
 * registration by the ventilator. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sink/register_private.h"

/* ---- life ---- */

struct batch *batch_make(const uint8_t id[WIRE_ID], const char *short_id, const Wire__Options *options)
{
    struct batch *self = calloc(1, sizeof *self);
    if (!self)
        return NULL;
    TAILQ_INIT(&self->answers);
    memcpy(self->seen.id, id, WIRE_ID);
    self->short_id = strdup(short_id);
    self->options = (Wire__Options *)wire_copy(&options->base);
    self->seen.short_id = self->short_id;
    self->seen.options = self->options;
    if (!self->short_id || !self->options)
        batch_destroy(&self);
    return self;
}

void batch_destroy(struct batch **self_p)
{
    struct batch *self = *self_p;
    struct answer *answer;
    *self_p = NULL;
    if (!self)
        return;
    while ((answer = TAILQ_FIRST(&self->answers))) {
        TAILQ_REMOVE(&self->answers, answer, of_batch);
        answer->batch = NULL;
    }
    attempts_release(self);
    figures_forget(self);
    tasks_release(&self->tasks);
    wire_free(&self->options);
    free(self->short_id);
    free(self);
}

/* ---- tables ---- */

static void leave_tables(struct registry *self, struct batch *batch)
{
    if (batch->by_id.tbl)
        HASH_DELETE(by_id, self->by_id, batch);
    if (batch->by_number.tbl)
        HASH_DELETE(by_number, self->by_number, batch);
    if (batch->by_short.tbl)
        HASH_DELETE(by_short, self->by_short, batch);
    batch->by_id.tbl = batch->by_number.tbl = batch->by_short.tbl = NULL;
}

int batch_insert(struct registry *self, struct batch *batch)
{
    HASH_ADD(by_id, self->by_id, seen.id, WIRE_ID, batch);
    HASH_ADD(by_number, self->by_number, seen.number, sizeof batch->seen.number, batch);
    HASH_ADD_KEYPTR(by_short, self->by_short, batch->short_id, strlen(batch->short_id), batch);
    if (!batch->by_id.tbl || !batch->by_number.tbl || !batch->by_short.tbl) {
        leave_tables(self, batch);
        return -ENOMEM;
    }
    if (batch->seen.number >= self->next_number)
        self->next_number = batch->seen.number + 1;
    self->n_batches++;
    if (!batch->seen.complete)
        self->open_batches++;
    return 0;
}

static void leave_lists(struct registry *self, struct batch *batch)
{
    if (batch->dirty)
        TAILQ_REMOVE(&self->dirty, batch, dirty_entry);
    if (batch->touched)
        TAILQ_REMOVE(&self->touched, batch, touched_entry);
    batch->dirty = batch->touched = false;
}

void batch_take_out(struct registry *self, struct batch *batch)
{
    leave_lists(self, batch);
    leave_tables(self, batch);
    self->n_batches--;
    if (!batch->seen.complete)
        self->open_batches--;
}

struct batch *batch_of(struct registry *self, const uint8_t id[WIRE_ID])
{
    struct batch *batch;
    HASH_FIND(by_id, self->by_id, id, WIRE_ID, batch);
    return batch;
}

/* A beginning of the full id in hex, if only one batch has it. */
static struct batch *find_by_hex(struct registry *self, const char *ref, size_t len)
{
    struct batch *found = NULL, *batch, *next;
    HASH_ITER(by_short, self->by_short, batch, next) {
        char hex[33];
        wire_id_hex(batch->seen.id, hex);
        if (strncmp(hex, ref, len) != 0)
            continue;
        if (found)
            return NULL;
        found = batch;
    }
    return found;
}

const struct register_batch *register_find(struct registry *self, const char *ref)
{
    struct batch *batch;
    size_t len = strlen(ref);
    HASH_FIND(by_short, self->by_short, ref, len, batch);
    if (!batch && len > 0 && len <= 2 * WIRE_ID)
        batch = find_by_hex(self, ref, len);
    return batch ? &batch->seen : NULL;
}

static struct batch *by_number(struct registry *self, uint64_t number)
{
    struct batch *batch;
    HASH_FIND(by_number, self->by_number, &number, sizeof number, batch);
    return batch;
}

const struct register_batch *register_find_number(struct registry *self, uint64_t number)
{
    struct batch *batch = by_number(self, number);
    return batch ? &batch->seen : NULL;
}

/* Staged tasks that aren't committed end the prefix at the first of them. Between the first and the
 * last of a result's new tasks `from` is good enough: the window is empty then, and nothing is missed. */
uint64_t register_prefix(struct registry *self, uint64_t number, uint64_t from)
{
    struct batch *batch = by_number(self, number);
    if (!batch)
        return from;
    uint64_t prefix = batch->staged_complete ? batch->seen.total : tasks_next(&batch->tasks, from, UINT64_MAX, false);
    prefix = prefix > from ? prefix : from;
    struct answer *answer;
    TAILQ_FOREACH(answer, &batch->answers, of_batch) {
        uint64_t first = answer->fresh_first > from ? answer->fresh_first : from;
        if (first < prefix && from <= answer->fresh_last)
            prefix = first;
    }
    return prefix;
}

/* ---- records ---- */

static size_t gather_closings(const struct batch *batch, Wire__SinkClosing notes[CLOSINGS_KEPT], Wire__SinkClosing *pointers[CLOSINGS_KEPT])
{
    size_t n = batch->n_closings < CLOSINGS_KEPT ? (size_t)batch->n_closings : CLOSINGS_KEPT;
    for (size_t i = 0; i < n; i++) {
        const struct closing_note *from = &batch->closings[(batch->n_closings - n + i) % CLOSINGS_KEPT];
        wire__sink_closing__init(&notes[i]);
        notes[i].session = from->session;
        notes[i].number = from->number;
        notes[i].closed = from->closed;
        pointers[i] = &notes[i];
    }
    return n;
}

bool batch_store(struct registry *self, struct batch *batch)
{
    Wire__SinkClosing notes[CLOSINGS_KEPT], *pointers[CLOSINGS_KEPT];
    Wire__SinkBatchRecord record = WIRE__SINK_BATCH_RECORD__INIT;
    Wire__Number total = WIRE__NUMBER__INIT;
    record.batch = wire_id_bytes(batch->seen.id);
    record.number = batch->seen.number;
    record.short_id = batch->short_id;
    record.options = batch->options;
    total.n = batch->seen.total;
    record.total = batch->seen.total_known ? &total : NULL;
    record.complete = batch->staged_complete;
    record.counts = batch->counts;
    record.n_counts = batch->staged_complete ? WIRE_VERDICTS : 0;
    record.by_deadline = batch->by_deadline;
    record.duplicates = batch->seen.duplicates;
    record.whole = batch->whole;
    record.whole_closed = batch->whole_closed;
    record.closings = pointers;
    record.n_closings = gather_closings(batch, notes, pointers);
    if (wire_write(&self->writer, &record.base) < 0)
        return false;
    char key[32];
    snprintf(key, sizeof key, NUMBER_KEY, batch->seen.number);
    return staged(self, self->ports.put(self->ports.arg, key, self->writer.bytes, self->writer.len));
}

void batch_dirty(struct registry *self, struct batch *batch)
{
    if (batch->dirty)
        return;
    batch->dirty = true;
    TAILQ_INSERT_TAIL(&self->dirty, batch, dirty_entry);
}

void batches_store_dirty(struct registry *self)
{
    struct batch *batch;
    while ((batch = TAILQ_FIRST(&self->dirty)) && batch_store(self, batch)) {
        TAILQ_REMOVE(&self->dirty, batch, dirty_entry);
        batch->dirty = false;
    }
}

/* ---- state ---- */

void batch_touch(struct registry *self, struct batch *batch)
{
    if (batch->touched)
        return;
    batch->touched = true;
    TAILQ_INSERT_TAIL(&self->touched, batch, touched_entry);
}

void batch_settle_seen(struct batch *batch)
{
    batch->seen.whole_cancelled = batch->whole && (batch->whole_closed || batch->seen.counts[WIRE__VERDICT__CANCELLED] > 0);
}

bool batch_complete_now(struct registry *self, struct batch *batch)
{
    if (batch->staged_complete || !batch->seen.total_known || batch->recorded != batch->seen.total)
        return false;
    batch->staged_complete = true;
    figures_complete(batch);
    attempts_release(batch);
    tasks_release(&batch->tasks);
    if (!batch_store(self, batch))
        batch_dirty(self, batch);
    return true;
}

/* ---- the ventilator's words ---- */

/* batch NULL: it is purged. The total goes with it: an answer to an earlier registration, which had none, is not taken for one. */
static void say_registered(struct registry *self, const uint8_t id[WIRE_ID], const struct batch *batch, struct batch *completes)
{
    Wire__Registered registered = WIRE__REGISTERED__INIT;
    Wire__Number total = WIRE__NUMBER__INIT;
    Wire__Upward message = WIRE__UPWARD__INIT;
    registered.batch = wire_id_bytes(id);
    registered.unknown = batch == NULL;
    if (batch != NULL && batch->seen.total_known) {
        total.n = batch->seen.total;
        registered.total = &total;
    }
    message.what_case = WIRE__UPWARD__WHAT_REGISTERED;
    message.registered = &registered;
    struct answer *answer = answer_message(&message, (struct slice){0});
    if (!answer)
        return;
    answer->completes = completes != NULL;
    answer_put(self, &answer, completes);
}

static struct batch *batch_begin(struct registry *self, const Wire__Register *message)
{
    struct batch *batch = batch_make(message->batch.data, message->short_id, message->options);
    if (!batch)
        return NULL;
    batch->seen.number = self->next_number;
    if (message->total) {
        batch->seen.total_known = true;
        batch->seen.total = message->total->n;
    }
    if (batch_insert(self, batch) < 0) {
        batch_destroy(&batch);
        return NULL;
    }
    if (!batch_store(self, batch)) {
        batch_take_out(self, batch);
        batch_destroy(&batch);
        return NULL;
    }
    batch_touch(self, batch);
    return batch;
}

/* The total of a batch comes once, when it is sealed. */
static bool learn_total(struct registry *self, struct batch *batch, uint64_t total)
{
    if (batch->seen.total_known) {
        if (batch->seen.total != total)
            register_note(self, NOTE_ERROR, "total_differs", "batch %s has %" PRIu64 " tasks, the ventilator says %" PRIu64
                 "; the first number stands", batch->short_id, batch->seen.total, total);
        return true;
    }
    uint64_t beyond = tasks_next(&batch->tasks, total, (uint64_t)batch->tasks.n_blocks * WIRE_BLOCK, true);
    if (total < (uint64_t)batch->tasks.n_blocks * WIRE_BLOCK && beyond < (uint64_t)batch->tasks.n_blocks * WIRE_BLOCK) {
        register_note(self, NOTE_ERROR, "total_too_small", "batch %s is said to have %" PRIu64 " tasks, but task %" PRIu64
             " has a verdict; the total is not taken", batch->short_id, total, beyond);
        return false;
    }
    batch->seen.total_known = true;
    batch->seen.total = total;
    if (batch_store(self, batch))
        return true;
    batch->seen.total_known = false;
    return false;
}

void batch_register(struct registry *self, const Wire__Register *message)
{
    struct batch *batch = batch_of(self, message->batch.data);
    if (tombstone_of(self, message->batch.data)) {
        say_registered(self, message->batch.data, NULL, NULL);
        return;
    }
    if (!batch) {
        batch = batch_begin(self, message);
        if (!batch)
            return;                 /* no memory: unanswered, so it comes again */
    } else if (message->total && !learn_total(self, batch, message->total->n)) {
        return;
    }
    batch_touch(self, batch);
    bool completes = batch_complete_now(self, batch);
    say_registered(self, message->batch.data, batch, completes ? batch : NULL);
}
