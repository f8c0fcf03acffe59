/* Forgotten batches. Their rows and all that is known of them go; a tombstone stays for a while, so that a batch
 * isn't taken for a new one when it is registered once more, and so that people hear what became of it. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sink/register_private.h"

#define TOMBSTONES 10000u                   /* then the oldest go */

/* ---- tombstones ---- */

struct tombstone *tombstone_of(const struct registry *self, const uint8_t id[WIRE_ID])
{
    struct tombstone *found;
    HASH_FIND(hh, self->tombstones_by_id, id, WIRE_ID, found);
    return found;
}

static struct tombstone *tombstone_new(const uint8_t id[WIRE_ID], const char *short_id, uint64_t number)
{
    size_t len = strlen(short_id);
    struct tombstone *self = calloc(1, sizeof *self + len + 1);
    if (!self)
        return NULL;
    memcpy(self->id, id, WIRE_ID);
    memcpy(self->short_id, short_id, len + 1);
    self->number = number;
    return self;
}

/* false: no memory. */
static bool tombstone_put(struct registry *self, struct tombstone *tombstone)
{
    HASH_ADD(hh, self->tombstones_by_id, id, WIRE_ID, tombstone);
    if (!tombstone->hh.tbl)
        return false;
    TAILQ_INSERT_TAIL(&self->tombstones, tombstone, entry);
    if (tombstone->number >= self->next_number)
        self->next_number = tombstone->number + 1;
    return true;
}

static void tombstone_destroy(struct registry *self, struct tombstone *tombstone)
{
    HASH_DEL(self->tombstones_by_id, tombstone);
    TAILQ_REMOVE(&self->tombstones, tombstone, entry);
    free(tombstone);
}

void tombstones_release(struct registry *self)
{
    struct tombstone *tombstone;
    while ((tombstone = TAILQ_FIRST(&self->tombstones)))
        tombstone_destroy(self, tombstone);
}

int tombstone_restore(struct registry *self, const Wire__SinkBatchRecord *record)
{
    struct tombstone *tombstone = tombstone_new(record->batch.data, record->short_id, record->number);
    if (tombstone && tombstone_put(self, tombstone))
        return 0;
    free(tombstone);
    return -1;
}

/* Stages the record of a tombstone in the place of its batch's. */
static bool tombstone_store(struct registry *self, const struct tombstone *tombstone)
{
    char key[32];
    Wire__SinkBatchRecord record = WIRE__SINK_BATCH_RECORD__INIT;
    record.batch = wire_id_bytes(tombstone->id);
    record.number = tombstone->number;
    record.short_id = (char *)(uintptr_t)tombstone->short_id;
    record.forgotten = true;
    if (wire_write(&self->writer, &record.base) < 0)
        return false;
    snprintf(key, sizeof key, NUMBER_KEY, tombstone->number);
    return staged(self, self->ports.put(self->ports.arg, key, self->writer.bytes, self->writer.len));
}

/* The oldest beyond the limit go. */
static void tombstones_trim(struct registry *self)
{
    while (HASH_COUNT(self->tombstones_by_id) > TOMBSTONES) {
        struct tombstone *oldest = TAILQ_FIRST(&self->tombstones);
        char key[32];
        snprintf(key, sizeof key, NUMBER_KEY, oldest->number);
        if (!staged(self, self->ports.remove(self->ports.arg, key)))
            return;
        tombstone_destroy(self, oldest);
    }
}

bool register_was_forgotten(const struct registry *self, const char *ref)
{
    const struct tombstone *tombstone;
    size_t len = strlen(ref);
    TAILQ_FOREACH(tombstone, &self->tombstones, entry) {
        char hex[33];
        if (strcmp(tombstone->short_id, ref) == 0)
            return true;
        wire_id_hex(tombstone->id, hex);
        if (len >= 8 && strncmp(hex, ref, len) == 0)
            return true;
    }
    return false;
}

/* ---- forgetting ---- */

/* false: no memory; what was staged of it is staged once more when the ventilator asks again. */
static bool forget(struct registry *self, struct batch *batch)
{
    struct tombstone *tombstone = tombstone_new(batch->seen.id, batch->short_id, batch->seen.number);
    if (!tombstone || !staged(self, self->ports.remove_rows(self->ports.arg, batch->seen.number)) || !tombstone_store(self, tombstone)
        || !tombstone_put(self, tombstone)) {
        free(tombstone);
        return false;
    }
    batch_take_out(self, batch);
    self->ports.moved(self->ports.arg, &batch->seen);
    batch_destroy(&batch);
    return true;
}

void batch_forget(struct registry *self, const uint8_t id[WIRE_ID])
{
    struct batch *batch = batch_of(self, id);
    if (batch && !forget(self, batch))
        return;                     /* unanswered, so it comes again */
    tombstones_trim(self);
    Wire__Forgotten forgotten = WIRE__FORGOTTEN__INIT;
    Wire__Upward message = WIRE__UPWARD__INIT;
    forgotten.batch = wire_id_bytes(id);
    message.what_case = WIRE__UPWARD__WHAT_FORGOTTEN;
    message.forgotten = &forgotten;
    struct answer *answer = answer_message(&message, (struct slice){0});
    if (answer)
        answer_put(self, &answer, NULL);
}
