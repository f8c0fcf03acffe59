/* Purged batches: once it is acknowledged that one is gone, the journal has nothing of it but a tombstone, and in the
 * end the sink's store has none of its rows. Looked up on the disks. */
#include "tests/sim/sim.h"

#include <string.h>

static const ProtobufCMessage *read_record(struct world *w, const struct op *op, const ProtobufCMessageDescriptor *type)
{
    const ProtobufCMessage *m;
    struct why why = {""};
    if (wire_read_any(w->arena, type, buf_bytes(op->value), buf_len(op->value), &m, &why) == 0)
        return m;
    violated(w, "wire", "a record can't be read back: %s", why.text);
    return NULL;
}

static bool is_id(ProtobufCBinaryData id, const struct plan *p) { return id.len == WIRE_ID && memcmp(id.data, p->id, WIRE_ID) == 0; }

static bool has_frames(const struct disk *d, uint64_t batch)
{
    for (size_t i = 0; i < d->n_frames; i++)
        if (d->frames[i]->batch == batch)
            return true;
    return false;
}

/* The journal's number of a batch that has a record, or a tombstone, there; 0: it has neither. */
static uint64_t journal_number(struct world *w, const struct plan *p, bool *ret_tombstone)
{
    const struct disk *d = &w->vent.disk;
    for (size_t i = 0; i < d->n_records; i++) {
        const struct op *op = d->records[i];
        if (strncmp(op->key, "batch/", 6) == 0) {
            const Wire__JournalBatch *m = (const Wire__JournalBatch *)read_record(w, op, &wire__journal_batch__descriptor);
            if (m != NULL && is_id(m->batch, p)) {
                *ret_tombstone = false;
                return m->number;
            }
        } else if (strncmp(op->key, "purged/", 7) == 0) {
            const Wire__JournalPurged *m = (const Wire__JournalPurged *)read_record(w, op, &wire__journal_purged__descriptor);
            if (m != NULL && is_id(m->batch, p)) {
                *ret_tombstone = true;
                return m->number;
            }
        }
    }
    return 0;
}

void check_purged(struct world *w, const struct plan *p)
{
    bool tombstone = false;
    uint64_t number = journal_number(w, p, &tombstone);
    if (number == 0 || !tombstone)
        violated(w, "purge", "batch %s is purged, and the journal has %s", p->short_id, number == 0 ? "no tombstone of it" : "its record");
    else if (has_frames(&w->vent.disk, number))
        violated(w, "purge", "batch %s is purged, and the journal has its tasks", p->short_id);
}

bool purge_is_over(struct world *w, const struct plan *p)
{
    const struct disk *d = &w->sink.disk;
    for (size_t i = 0; i < d->n_records; i++) {
        const struct op *op = d->records[i];
        if (strncmp(op->key, "batch/", 6) != 0)
            continue;
        const Wire__SinkBatchRecord *m = (const Wire__SinkBatchRecord *)read_record(w, op, &wire__sink_batch_record__descriptor);
        if (m != NULL && is_id(m->batch, p))
            return m->forgotten && !has_frames(d, m->number);
    }
    return true;
}
