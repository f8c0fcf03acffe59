/* Reading a store's file: lookups, records, and the check of all of it. */
#include "common/store_db.h"

#include <errno.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_ROWS 256
#define DEFAULT_BYTES ((size_t)1 << 20)

/* ---- frames ---- */

/* Copies a blob out of a row, behind what `buf` holds already. */
static struct slice take_blob(sqlite3_stmt *row, int column, struct buf *buf, size_t at)
{
    size_t len = (size_t)sqlite3_column_bytes(row, column);
    if (len == 0)
        return (struct slice){0};
    memcpy(buf_data(buf) + at, sqlite3_column_blob(row, column), len);
    return (struct slice){ .buf = buf, .data = buf_bytes(buf) + at, .len = len };
}

static bool body_is_apart(const struct db *self, sqlite3_stmt *row)
{
    return self->bulk && sqlite3_column_type(row, 7) == SQLITE_INTEGER;
}

/* The same of a large body. Where its file ends before it does, less of it. */
static struct slice take_apart(const struct db *self, sqlite3_stmt *row, struct buf *buf, size_t at, int *ret_error)
{
    size_t len;
    *ret_error = bulk_read(self->bulk, sqlite3_column_int64(row, 7), buf_data(buf) + at, &len);
    return (struct slice){ .buf = buf, .data = buf_bytes(buf) + at, .len = len };
}

/* The numbers of a row; false when they can't be what was written. */
static bool take_fields(sqlite3_stmt *row, struct store_frame *frame)
{
    sqlite3_int64 count = sqlite3_column_int64(row, 3), kind = sqlite3_column_int64(row, 4);
    if (count < 0 || count > UINT32_MAX || kind < 0 || kind > UINT32_MAX)
        return false;
    frame->number = (uint64_t)sqlite3_column_int64(row, 0);
    frame->batch = (uint64_t)sqlite3_column_int64(row, 1);
    frame->first = (uint64_t)sqlite3_column_int64(row, 2);
    frame->count = (uint32_t)count;
    frame->kind = (uint32_t)kind;
    return true;
}

/* The frame of the present row, with a buffer of its own. 0, or -1 with why. */
static int take_frame(const struct db *self, sqlite3_stmt *row, uint64_t number, uint64_t batch, bool with_body,
                      struct store_frame *ret_frame, struct why *why)
{
    struct store_frame frame = {0};
    size_t head_len = (size_t)sqlite3_column_bytes(row, 6);
    bool apart = with_body && body_is_apart(self, row);
    size_t body_len = !with_body ? 0 : apart ? bulk_len(sqlite3_column_int64(row, 7)) : (size_t)sqlite3_column_bytes(row, 7);
    struct buf *buf = NULL;
    int error = 0;
    if (head_len + body_len > 0 && !(buf = buf_new(head_len + body_len)))
        return why_set(why, "no memory to read frame %" PRIu64 " of batch %" PRIu64 " from %s", number, batch, self->path);
    frame.head = take_blob(row, 6, buf, 0);
    if (apart)
        frame.body = take_apart(self, row, buf, head_len, &error);
    else if (with_body)
        frame.body = take_blob(row, 7, buf, head_len);
    if (error < 0) {
        buf_unref(&buf);
        return why_set(why, "%s-bulk can't be read: number %" PRIu64 " of batch %" PRIu64 ": %s; look after the disk", self->path, number, batch,
                       strerror(-error));
    }
    if (!take_fields(row, &frame) || frame.number != number || frame.batch != batch ||
        !frame_is_sound(&frame, (uint64_t)sqlite3_column_int64(row, 5), with_body)) {
        buf_unref(&buf);
        return why_set(why, "%s is damaged: in table frames, number %" PRIu64 " of batch %" PRIu64
                       " doesn't match its checksum; restore the folder from a backup, or purge the batch", self->path, number, batch);
    }
    if (frame.head.buf && frame.body.buf)
        buf_ref(buf);                /* each slice has an owner's reference */
    *ret_frame = frame;
    return 0;
}

static int cant_read(struct db *self, int rc, uint64_t number, uint64_t batch, struct why *why)
{
    if (db_kind_of(self, rc) == SQLITE_NOMEM)
        return why_set(why, "no memory to read frame %" PRIu64 " of batch %" PRIu64 " from %s", number, batch, self->path);
    if (db_kind_of(self, rc) == SQLITE_IOERR)
        return why_set(why, "%s can't be read: in table frames, number %" PRIu64 " of batch %" PRIu64 ": %s, error %d; look after the disk",
                       self->path, number, batch, db_words_of(self, rc), rc);
    return why_set(why, "%s is damaged: in table frames, number %" PRIu64 " of batch %" PRIu64 " can't be read (%s)"
                   "; restore the folder from a backup", self->path, number, batch,
                   rc == SQLITE_DONE ? "an index names it, but it is missing" : db_words_of(self, rc));
}

static int fetch(struct db *self, const struct store_query *query, uint64_t number, struct store_frame *ret_frame, struct why *why)
{
    sqlite3_stmt *row = self->statements[query->heads_only ? FRAME_HEAD : FRAME];
    db_bind_number(row, 1, number);
    int rc = db_step(self, row);
    int result = rc == SQLITE_ROW ? take_frame(self, row, number, query->batch, !query->heads_only, ret_frame, why)
                                  : cant_read(self, rc, number, query->batch, why);
    db_done_with(row);
    return result;
}

static int64_t as_index(uint64_t value)
{
    return value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

/* Binds the statement that yields the numbers of the rows. NULL: there can't be any, or damage in the lookup. */
static sqlite3_stmt *start_lookup(struct db *self, struct lookup *lookup)
{
    const struct store_query *query = &lookup->query;
    int64_t floor = 0, after_first = -1;
    db_bind_number(self->statements[PURGE_FLOOR], 1, query->batch);
    int rc = db_run_number(self, PURGE_FLOOR, &floor);
    bool resume = query->order == STORE_BY_INDEX && query->after > 0;
    if (resume && (rc == SQLITE_OK || rc == SQLITE_DONE)) {
        db_bind_number(self->statements[FIRST_OF], 1, query->after);
        rc = db_run_number(self, FIRST_OF, &after_first);
        if (rc == SQLITE_DONE)
            return NULL;             /* the row to go on behind is gone: so are, or will be, the others */
    }
    if (rc != SQLITE_OK && rc != SQLITE_DONE) {
        lookup->damaged = true;
        cant_read(self, rc, query->after, query->batch, &lookup->damage);
        return NULL;
    }
    sqlite3_stmt *numbers = self->statements[query->order == STORE_BY_INDEX ? BY_INDEX : BY_NUMBER];
    int64_t after = as_index(query->after), from = as_index(query->from);
    db_bind_number(numbers, 1, query->batch);
    if (query->order == STORE_BY_NUMBER) {
        sqlite3_bind_int64(numbers, 2, after > floor ? after : floor);
        return numbers;
    }
    int64_t window = from >= SHORT ? from - SHORT + 1 : 0;
    sqlite3_bind_int64(numbers, 2, window > after_first ? window : after_first);
    sqlite3_bind_int64(numbers, 3, as_index(query->to));
    sqlite3_bind_int64(numbers, 4, from);
    sqlite3_bind_int64(numbers, 5, floor);
    sqlite3_bind_int64(numbers, 6, after_first);
    sqlite3_bind_int64(numbers, 7, after);
    return numbers;
}

void db_lookup(struct db *self, struct lookup *lookup)
{
    size_t max_rows = lookup->query.max_rows ? lookup->query.max_rows : DEFAULT_ROWS;
    size_t max_bytes = lookup->query.max_bytes ? lookup->query.max_bytes : DEFAULT_BYTES;
    size_t bytes = 0;
    uint64_t number = lookup->query.after;
    sqlite3_stmt *numbers = start_lookup(self, lookup);
    if (!numbers)
        return;
    int rc;
    while ((rc = db_step(self, numbers)) == SQLITE_ROW) {
        if (lookup->n >= max_rows || bytes > max_bytes) {
            lookup->more = true;
            break;
        }
        number = (uint64_t)sqlite3_column_int64(numbers, 0);
        if (lookup_make_room(lookup) < 0 || fetch(self, &lookup->query, number, &lookup->frames[lookup->n], &lookup->damage) < 0) {
            lookup->damaged = true;
            break;
        }
        const struct store_frame *frame = &lookup->frames[lookup->n++];
        bytes += frame->head.len + frame->body.len;
    }
    db_done_with(numbers);
    if (rc != SQLITE_ROW && rc != SQLITE_DONE) {
        lookup->damaged = true;
        cant_read(self, rc, number, lookup->query.batch, &lookup->damage);
    }
}

/* The record of the present row: 0, or -1 with why. The pointers hold until the next step. */
static int take_record(const struct db *self, sqlite3_stmt *row, const char **ret_key, const uint8_t **ret_value, size_t *ret_len, struct why *why)
{
    const char *key = (const char *)sqlite3_column_text(row, 0);
    const uint8_t *value = sqlite3_column_blob(row, 1);
    size_t len = (size_t)sqlite3_column_bytes(row, 1);
    if (!key || (len > 0 && !value))
        return why_set(why, "no memory to read the records of %s", self->path);
    if (sqlite3_column_int64(row, 2) != (sqlite3_int64)record_crc(key, (size_t)sqlite3_column_bytes(row, 0), value, len))
        return why_set(why, "%s is damaged: in table records, key '%s' doesn't match its checksum; restore the folder from a backup",
                       self->path, key);
    *ret_key = key, *ret_value = value, *ret_len = len;
    return 0;
}

int db_load(struct db *self, const char *prefix, int (*each)(void *arg, const char *key, const uint8_t *value, size_t len),
            void *arg, struct why *why)
{
    sqlite3_stmt *row = self->statements[RECORDS];
    sqlite3_bind_text(row, 1, prefix, -1, SQLITE_STATIC);
    int rc, result = 0;
    while (result == 0 && (rc = db_step(self, row)) != SQLITE_DONE) {
        const char *key = NULL;
        const uint8_t *value = NULL;
        size_t len = 0;
        if (rc != SQLITE_ROW)
            result = db_tell(self, rc, "read", why);
        else if (take_record(self, row, &key, &value, &len, why) < 0)
            result = -1;
        else if (strncmp(key, prefix, strlen(prefix)) != 0)
            break;
        else if (each && each(arg, key, value, len) != 0)
            result = -1;
    }
    db_done_with(row);
    return result;
}

/* ---- checking ---- */

static int check_frames(struct db *self, struct why *why)
{
    sqlite3_stmt *row = NULL;
    int rc = sqlite3_prepare_v2(self->handle, "SELECT number, batch, first, count, kind, crc, head, body FROM frames NOT INDEXED", -1, &row, NULL);
    int result = 0;
    uint64_t last = 0;
    while (rc == SQLITE_OK && result == 0 && (rc = db_step(self, row)) == SQLITE_ROW) {
        struct store_frame frame;
        uint64_t batch = (uint64_t)sqlite3_column_int64(row, 1);
        last = (uint64_t)sqlite3_column_int64(row, 0);
        result = take_frame(self, row, last, batch, true, &frame, why);
        if (result == 0) {
            slice_drop(&frame.head);
            slice_drop(&frame.body);
        }
        rc = SQLITE_OK;
    }
    sqlite3_finalize(row);
    if (result == 0 && rc != SQLITE_DONE && db_kind_of(self, rc) != SQLITE_CORRUPT)
        return db_tell(self, rc, "read", why);
    if (result == 0 && rc != SQLITE_DONE)
        result = why_set(why, "%s is damaged: table frames can't be read behind number %" PRIu64 " (%s); restore the folder from a backup",
                         self->path, last, db_words_of(self, rc));
    return result;
}

int db_check(struct db *self, struct why *why)
{
    if (db_load(self, "", NULL, NULL, why) < 0 || check_frames(self, why) < 0)
        return -1;
    sqlite3_stmt *row = NULL;
    int rc = sqlite3_prepare_v2(self->handle, "PRAGMA integrity_check(1)", -1, &row, NULL);
    if (rc == SQLITE_OK)
        rc = db_step(self, row);
    const char *found = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(row, 0) : NULL;
    int result = 0;
    if (!found)
        result = db_tell(self, rc == SQLITE_ROW ? SQLITE_NOMEM : rc, "checked", why);
    else if (strcmp(found, "ok") != 0)
        result = why_set(why, "%s is damaged: %s; restore the folder from a backup", self->path, found);
    sqlite3_finalize(row);
    return result;
}
