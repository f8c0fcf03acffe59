/* The store's file: every call of SQLite, and the format.
 *
 * To change the format (docs/disk.md): count FORMAT up, keep a way from the older one in read_facts, add a test
 * that opens a file of the older one.
 *
 * The checksum of a frame stands before its blobs in the row, so that heads can be read and
 * checked without walking through the body's pages. Its lower half covers the fields and the head,
 * the upper half goes on over the body.
 *
 * Frames are found by index with a window: all but a few hold at most SHORT tasks, so one that
 * holds index i begins after i - SHORT. The few that hold more have an index of their own. */
#include "common/store_private.h"

#include <errno.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/clock.h"
#include "common/store_error.h"
#include "common/store_format.h"
#include "common/store_sums.h"

#define PURGE_AT_ONCE 2000                   /* rows, and time, of one transaction of a purge */
#define PURGE_TIME (2 * NS_PER_MS)
#define SHRINK_STEP 32                       /* pages of one transaction */
#define KEEP_FREE 256                        /* pages that may stay unused: 4 MiB */
#define DEFAULT_ROWS 256
#define DEFAULT_BYTES ((size_t)1 << 20)

struct db {
    sqlite3 *handle;
    char *path;
    sqlite3_stmt *statements[N_STATEMENTS];
    size_t log_pages;
    int system_error;                        /* of the last statement that failed */
    char words[80];
};

/* ---- errors ---- */

static struct store_error error_of(const struct db *self, int rc)
{
    return (struct store_error){.path = self->path, .rc = rc, .system_error = self->system_error,
                                .page = rc == SQLITE_IOERR_DATA ? sums_damaged_page(self->handle) : 0};
}

static int kind_of(const struct db *self, int rc)
{
    struct store_error error = error_of(self, rc);
    return store_error_kind(&error);
}

static const char *words_of(struct db *self, int rc)
{
    struct store_error error = error_of(self, rc);
    return store_error_words(&error, self->words);
}

static int tell(const struct db *self, int rc, const char *doing, struct why *why)
{
    struct store_error error = error_of(self, rc);
    return store_error_tell(&error, doing, why);
}

static enum db_result judge(const struct db *self, int rc, struct why *why)
{
    struct store_error error = error_of(self, rc);
    if (rc == SQLITE_OK)
        return DB_OK;
    if (store_error_is_full(&error))
        return DB_FULL;
    store_error_tell(&error, "written", why);
    return DB_FAILED;
}

/* ---- small helpers ---- */

static void bind_number(sqlite3_stmt *statement, int at, uint64_t value)
{
    sqlite3_bind_int64(statement, at, (sqlite3_int64)value);
}

/* The bytes stay with the caller until the statement is reset. An empty blob needs an address, else it is NULL. */
static void bind_bytes(sqlite3_stmt *statement, int at, const void *data, size_t len)
{
    sqlite3_bind_blob64(statement, at, len ? data : "", len, SQLITE_STATIC);
}

static void done_with(sqlite3_stmt *statement)
{
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
}

/* Call it right behind the statement, with errno 0 before: SQLite itself forgets the system's error of a commit. */
static void note_system_error(struct db *self)
{
    self->system_error = errno ? errno : sqlite3_system_errno(self->handle);
}

static int step(struct db *self, sqlite3_stmt *statement)
{
    errno = 0;
    int rc = sqlite3_step(statement);
    note_system_error(self);
    return rc;
}

/* Runs a statement whose rows don't matter. As all that return SQLite's codes, 0 when it went well: so `a ?: b` is a, then b. */
static int run(struct db *self, enum statement which)
{
    sqlite3_stmt *statement = self->statements[which];
    int rc;
    while ((rc = step(self, statement)) == SQLITE_ROW)
        continue;
    done_with(statement);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* The first column of the first row of a statement whose values are bound. SQLITE_DONE: no row. */
static int run_number(struct db *self, enum statement which, int64_t *ret_value)
{
    sqlite3_stmt *statement = self->statements[which];
    int rc = step(self, statement);
    if (rc == SQLITE_ROW) {
        *ret_value = sqlite3_column_int64(statement, 0);
        rc = SQLITE_OK;
    }
    done_with(statement);
    return rc;
}

static int ask_number(struct db *self, const char *text, int64_t *ret_value)
{
    sqlite3_stmt *statement = NULL;
    errno = 0;
    int rc = sqlite3_prepare_v2(self->handle, text, -1, &statement, NULL);
    if (rc == SQLITE_OK && (rc = sqlite3_step(statement)) == SQLITE_ROW) {
        *ret_value = sqlite3_column_int64(statement, 0);
        rc = SQLITE_OK;
    }
    note_system_error(self);
    sqlite3_finalize(statement);
    return rc;
}

static int run_text(struct db *self, const char *text)
{
    errno = 0;
    int rc = sqlite3_exec(self->handle, text, NULL, NULL, NULL);
    note_system_error(self);
    return rc;
}

static void roll_back(struct db *self)
{
    if (!sqlite3_get_autocommit(self->handle))
        sqlite3_exec(self->handle, "ROLLBACK", NULL, NULL, NULL);
}

/* Ends a transaction: commits when all went well so far, else rolls back. */
static enum db_result end(struct db *self, int rc, struct why *why)
{
    if (rc == SQLITE_OK)
        rc = run(self, COMMIT);
    enum db_result result = judge(self, rc, why);     /* before the rollback, which forgets the error */
    roll_back(self);
    return result;
}

/* ---- opening ---- */

static int on_commit(void *arg, sqlite3 *handle, const char *name, int pages)
{
    struct db *self = arg;
    (void)handle, (void)name;
    self->log_pages = pages > 0 ? (size_t)pages : 0;
    return SQLITE_OK;
}

#define BUSY_MS 10000                        /* for somebody who opens the file by hand */

static struct db *connect_file(const char *path, int flags, struct why *why)
{
    struct db *self = calloc(1, sizeof *self);
    const char *layer = sums_layer();
    if (!self || !(self->path = strdup(path))) {
        why_set(why, "no memory to open %s", path);
        goto fail;
    }
    errno = 0;
    flags |= SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int rc = layer ? sqlite3_open_v2(path, &self->handle, flags, layer) : SQLITE_NOMEM;
    note_system_error(self);
    if (rc != SQLITE_OK) {
        tell(self, rc, "opened", why);
        goto fail;
    }
    if (sqlite3_db_readonly(self->handle, "main") == 1) {
        why_set(why, "%s can't be written: the file, its folder or the file system is read-only for this user", path);
        goto fail;
    }
    /* Only somebody who opens the file by hand can make us wait: our own two connections share. */
    sqlite3_busy_timeout(self->handle, BUSY_MS);
    return self;
fail:
    db_close(&self, true);
    return NULL;
}

static int use_log(struct db *self, struct why *why)
{
    int rc = run_text(self, "PRAGMA journal_mode = WAL") ?: run_text(self, settings);
    if (rc != SQLITE_OK)
        return tell(self, rc, "opened", why);
    sqlite3_wal_hook(self->handle, on_commit, self);  /* this also switches SQLite's own checkpoints off */
    return 0;
}

static int set_meta(struct db *self, const char *name, sqlite3_int64 value)
{
    sqlite3_bind_text(self->statements[SET_META], 1, name, -1, SQLITE_STATIC);
    sqlite3_bind_int64(self->statements[SET_META], 2, value);
    return run(self, SET_META);
}

static int set_meta_bytes(struct db *self, const char *name, const void *value, size_t len)
{
    sqlite3_bind_text(self->statements[SET_META], 1, name, -1, SQLITE_STATIC);
    bind_bytes(self->statements[SET_META], 2, value, len);
    return run(self, SET_META);
}

/* *ret_len: the length of what is there, at most `room`; 0 when there is nothing. */
static int get_meta_bytes(struct db *self, const char *name, void *out, size_t room, size_t *ret_len)
{
    sqlite3_stmt *statement = NULL;
    *ret_len = 0;
    errno = 0;
    int rc = sqlite3_prepare_v2(self->handle, "SELECT value FROM meta WHERE name = ?1", -1, &statement, NULL);
    if (rc == SQLITE_OK && (rc = sqlite3_bind_text(statement, 1, name, -1, SQLITE_STATIC)) == SQLITE_OK &&
        (rc = sqlite3_step(statement)) == SQLITE_ROW) {
        const void *value = sqlite3_column_blob(statement, 0);
        size_t len = value ? (size_t)sqlite3_column_bytes(statement, 0) : 0;
        *ret_len = len < room ? len : room;
        if (*ret_len > 0)
            memcpy(out, value, *ret_len);
    }
    note_system_error(self);
    sqlite3_finalize(statement);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int prepare_all(struct db *self, struct why *why)
{
    for (int i = 0; i < N_STATEMENTS; i++) {
        int rc = sqlite3_prepare_v3(self->handle, statement_texts[i], -1, SQLITE_PREPARE_PERSISTENT, &self->statements[i], NULL);
        if (rc == SQLITE_ERROR)
            return why_set(why, "%s is damaged: its tables are not those of a store (%s); restore the folder from a backup",
                           self->path, sqlite3_errmsg(self->handle));
        if (rc != SQLITE_OK)
            return tell(self, rc, "opened", why);
    }
    return 0;
}

/* Where an older Tarmac was cut short in making a file, there is no room for sums in it any more. */
static int fill_meta(struct db *self, const char *role, uint32_t version)
{
    uint8_t id[16];
    if (getrandom(id, sizeof id, 0) != (ssize_t)sizeof id)
        return SQLITE_IOERR;
    return set_meta_bytes(self, "id", id, sizeof id) ?: set_meta_bytes(self, "role", role, strlen(role)) ?:
           set_meta(self, "format", sums_are_kept(self->handle) ? FORMAT : 1) ?: set_meta(self, "version", version) ?: set_meta(self, "next_number", 1);
}

/* Tables and identity come in one transaction: a file whose making was cut short is still empty,
 * and made again. */
static int make_file(struct db *self, const char *role, uint32_t version, struct why *why)
{
    int rc = sums_reserve(self->handle) ?: run_text(self, "PRAGMA page_size = " TEXT(PAGE) "; PRAGMA auto_vacuum = INCREMENTAL;");
    if (rc != SQLITE_OK)
        return tell(self, rc, "made", why);
    if (use_log(self, why) < 0)
        return -1;
    rc = run_text(self, "BEGIN IMMEDIATE") ?: run_text(self, schema);
    if (rc == SQLITE_OK && prepare_all(self, why) < 0)
        return -1;                   /* closing rolls back */
    if (rc == SQLITE_OK)
        rc = fill_meta(self, role, version) ?: run(self, COMMIT);
    return rc == SQLITE_OK ? 0 : tell(self, rc, "made", why);
}

/* Whose file it is, before anything in it is touched. 1: nobody's, it is empty; 0: ours. */
static int recognise(struct db *self, struct why *why)
{
    int64_t tables = 0, application = 0;
    int rc = ask_number(self, "SELECT count(*) FROM sqlite_schema", &tables) ?: ask_number(self, "PRAGMA application_id", &application);
    if (rc != SQLITE_OK)
        return tell(self, rc, "read", why);
    if (tables == 0 && application == 0)
        return 1;
    if (application != APPLICATION)
        return why_set(why, "%s is not a store of Tarmac: it is a database of another program; move it away or choose another folder",
                       self->path);
    return 0;
}

static int check_role(struct db *self, const char *role, struct why *why)
{
    char found[32] = "";
    size_t len = 0;
    int rc = get_meta_bytes(self, "role", found, sizeof found - 1, &len);
    if (rc != SQLITE_OK && rc != SQLITE_ERROR)
        return tell(self, rc, "read", why);
    if (strcmp(found, role) == 0)
        return 0;
    return why_set(why, "%s holds the role '%s' where '%s' is wanted; name the folder of this program's own %s", self->path, found, role, role);
}

static int read_facts(struct db *self, uint32_t version, struct db_facts *ret_facts, struct why *why)
{
    int64_t format = 0, owner = 0, next = 0, last = 0;
    size_t id_len = 0;
    int rc = ask_number(self, "SELECT value FROM meta WHERE name = 'format'", &format);
    if (rc == SQLITE_OK && format > FORMAT)
        return why_set(why, "%s has format %" PRId64 ", and this Tarmac knows up to %d; use the newer Tarmac that wrote it", self->path, format, FORMAT);
    if (rc == SQLITE_OK)
        rc = ask_number(self, "SELECT value FROM meta WHERE name = 'version'", &owner);
    if (rc == SQLITE_OK && owner > (int64_t)version)
        return why_set(why, "%s has records of version %" PRId64 ", and this Tarmac knows up to %" PRIu32 "; use the newer Tarmac that wrote it",
                       self->path, owner, version);
    if (rc == SQLITE_OK)
        rc = ask_number(self, "SELECT value FROM meta WHERE name = 'next_number'", &next) ?:
             ask_number(self, "SELECT coalesce(max(number), 0) FROM frames", &last) ?:
             get_meta_bytes(self, "id", ret_facts->id, 16, &id_len);
    if (rc != SQLITE_OK && rc != SQLITE_DONE && rc != SQLITE_ERROR)
        return tell(self, rc, "read", why);
    /* Format 1 had no sums of its pages; such a file goes on without. */
    bool sums_lost = format >= 2 && !sums_are_kept(self->handle);
    if (rc != SQLITE_OK || id_len != 16 || sums_lost || format < 1 || owner < 0 || next < 1 || last < 0 || last == INT64_MAX)
        return why_set(why, "%s is damaged: what it says about itself makes no sense; restore the folder from a backup", self->path);
    ret_facts->version = (uint32_t)owner;
    ret_facts->next_number = (uint64_t)(last >= next ? last + 1 : next);
    return 0;
}

struct db *db_open(const char *path, const char *role, uint32_t version, struct db_facts *ret_facts, struct why *why)
{
    struct db_facts facts = { .version = version };
    struct db *self = connect_file(path, SQLITE_OPEN_CREATE, why);
    if (!self)
        return NULL;
    int empty = recognise(self, why);
    if (empty < 0)
        goto fail;
    if (empty ? make_file(self, role, version, why) < 0
              : check_role(self, role, why) < 0 || use_log(self, why) < 0)
        goto fail;
    /* The facts first: a newer format may lack the tables that the statements name. */
    if (read_facts(self, version, &facts, why) < 0 || (!empty && prepare_all(self, why) < 0))
        goto fail;
    *ret_facts = facts;
    return self;
fail:
    db_close(&self, true);
    return NULL;
}

struct db *db_open_second(const char *path, struct why *why)
{
    struct db *self = connect_file(path, 0, why);
    if (self && use_log(self, why) < 0)
        db_close(&self, true);
    return self;
}

void db_close(struct db **self_p, bool hands_off)
{
    struct db *self = *self_p;
    if (!self)
        return;
    *self_p = NULL;
    for (int i = 0; i < N_STATEMENTS; i++)
        sqlite3_finalize(self->statements[i]);
    if (hands_off && self->handle)
        sqlite3_db_config(self->handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_close(self->handle);
    free(self->path);
    free(self);
}

/* ---- writing ---- */

static int put(struct db *self, const struct op *op)
{
    sqlite3_stmt *statement = self->statements[PUT];
    const char *value = op->key + op->key_len + 1;
    sqlite3_bind_text64(statement, 1, op->key, op->key_len, SQLITE_STATIC, SQLITE_UTF8);
    bind_bytes(statement, 2, value, op->value_len);
    bind_number(statement, 3, record_crc(op->key, op->key_len, value, op->value_len));
    return run(self, PUT);
}

static int append(struct db *self, const struct store_frame *frame)
{
    sqlite3_stmt *statement = self->statements[APPEND];
    bind_number(statement, 1, frame->number);
    bind_number(statement, 2, frame->batch);
    bind_number(statement, 3, frame->first);
    bind_number(statement, 4, frame->count);
    bind_number(statement, 5, frame->kind);
    bind_number(statement, 6, frame_crc(frame));
    bind_bytes(statement, 7, frame->head.data, frame->head.len);
    bind_bytes(statement, 8, frame->body.data, frame->body.len);
    return run(self, APPEND);
}

/* Notes that the batch goes; its rows are hidden from now on and deleted bit by bit. The highest
 * number is noted too, for when the row that has it is gone. */
static int purge(struct db *self, const struct op *op)
{
    bind_number(self->statements[RAISE_NUMBER], 1, op->frame.number + 1);
    int rc = run(self, RAISE_NUMBER);
    if (rc != SQLITE_OK)
        return rc;
    bind_number(self->statements[PURGE], 1, op->frame.batch);
    bind_number(self->statements[PURGE], 2, op->frame.number);
    return run(self, PURGE);
}

static int apply(struct db *self, const struct op *op)
{
    switch (op->kind) {
    case OP_PUT:
        return put(self, op);
    case OP_DELETE:
        sqlite3_bind_text64(self->statements[DELETE], 1, op->key, op->key_len, SQLITE_STATIC, SQLITE_UTF8);
        return run(self, DELETE);
    case OP_APPEND:
        return append(self, &op->frame);
    case OP_PURGE:
        return purge(self, op);
    case OP_VERSION:
        return set_meta(self, "version", (sqlite3_int64)op->frame.number);
    }
    return SQLITE_MISUSE;
}

enum db_result db_commit(struct db *self, const struct flush_list *flushes, struct why *why)
{
    const struct flush *flush;
    const struct op *op;
    int rc = run(self, BEGIN);
    STAILQ_FOREACH(flush, flushes, entry) {
        if (rc != SQLITE_OK)
            break;
        STAILQ_FOREACH(op, &flush->ops, entry) {
            rc = apply(self, op);
            if (rc != SQLITE_OK)
                break;
        }
    }
    return end(self, rc, why);
}

/* Deletes rows of one batch; *ret_done: there are no more of them. */
static int purge_rows(struct db *self, sqlite3_int64 batch, sqlite3_int64 upto, mono_t until, bool *ret_done)
{
    *ret_done = false;
    for (int rows = 0, gone; rows < PURGE_AT_ONCE; rows += gone) {
        sqlite3_bind_int64(self->statements[PURGE_ROWS], 1, batch);
        sqlite3_bind_int64(self->statements[PURGE_ROWS], 2, upto);
        int rc = run(self, PURGE_ROWS);
        if (rc != SQLITE_OK)
            return rc;
        gone = sqlite3_changes(self->handle);
        if (gone < PURGE_STEP) {
            *ret_done = true;
            sqlite3_bind_int64(self->statements[PURGE_DONE], 1, batch);
            return run(self, PURGE_DONE);
        }
        if (mono_reached(mono_now(), until))
            break;
    }
    return SQLITE_OK;
}

/* SQLITE_ROW: a batch that is to go; SQLITE_DONE: there is none. */
static int next_purge(struct db *self, sqlite3_int64 *ret_batch, sqlite3_int64 *ret_upto)
{
    sqlite3_stmt *next = self->statements[NEXT_PURGE];
    int rc = step(self, next);
    if (rc == SQLITE_ROW) {
        *ret_batch = sqlite3_column_int64(next, 0);
        *ret_upto = sqlite3_column_int64(next, 1);
    }
    done_with(next);
    return rc;
}

/* Damage is no reason to end for what is only tidied up: the same would be found at each start. */
static enum db_result unless_damaged(const struct db *self, int rc, enum db_result result)
{
    return result == DB_FAILED && kind_of(self, rc) == SQLITE_CORRUPT ? DB_DAMAGED : result;
}

/* One transaction for many small batches: thousands of them would else cost a flush each. */
enum db_result db_purge_some(struct db *self, bool *ret_more, struct why *why)
{
    mono_t until = mono_add(mono_now(), PURGE_TIME);
    sqlite3_int64 batch, upto;
    bool done = true;
    int next = next_purge(self, &batch, &upto);
    *ret_more = next == SQLITE_ROW;
    if (next != SQLITE_ROW)
        return next == SQLITE_DONE ? DB_OK : unless_damaged(self, next, judge(self, next, why));
    int rc = run(self, BEGIN);
    for (int batches = 0; rc == SQLITE_OK && next == SQLITE_ROW && batches < PURGE_AT_ONCE; batches++) {
        rc = purge_rows(self, batch, upto, until, &done);
        if (rc != SQLITE_OK || !done || mono_reached(mono_now(), until))
            break;
        next = next_purge(self, &batch, &upto);
        rc = next == SQLITE_ROW || next == SQLITE_DONE ? SQLITE_OK : next;
    }
    enum db_result result = unless_damaged(self, rc, end(self, rc, why));
    *ret_more = result != DB_OK || next == SQLITE_ROW;
    return result;
}

enum db_result db_shrink_some(struct db *self, bool *ret_more, struct why *why)
{
    int64_t before = 0, after = 0;
    *ret_more = false;
    int rc = run_number(self, FREE_PAGES, &before);
    if (rc == SQLITE_OK && before > KEEP_FREE) {
        rc = run_text(self, "PRAGMA incremental_vacuum(" TEXT(SHRINK_STEP) ")");
        if (rc == SQLITE_OK)
            rc = run_number(self, FREE_PAGES, &after);
        *ret_more = rc == SQLITE_OK && after < before && after > KEEP_FREE;
    }
    return unless_damaged(self, rc, judge(self, rc, why));
}

enum db_result db_checkpoint(struct db *self, struct why *why)
{
    errno = 0;
    int rc = sqlite3_wal_checkpoint_v2(self->handle, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    note_system_error(self);
    return judge(self, (rc & 0xff) == SQLITE_BUSY ? SQLITE_OK : rc, why);
}

enum db_result db_cut_log(struct db *self, struct why *why)
{
    errno = 0;
    sqlite3_busy_timeout(self->handle, 0);       /* somebody who reads the file by hand is not waited for */
    int rc = sqlite3_wal_checkpoint_v2(self->handle, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    note_system_error(self);
    sqlite3_busy_timeout(self->handle, BUSY_MS);
    if (rc == SQLITE_OK)
        self->log_pages = 0;
    return judge(self, (rc & 0xff) == SQLITE_BUSY ? SQLITE_OK : rc, why);
}

size_t db_log_bytes(const struct db *self)
{
    return self->log_pages * PAGE;
}

/* ---- reading ---- */

/* Copies a blob out of a row, behind what `buf` holds already. */
static struct slice take_blob(sqlite3_stmt *row, int column, struct buf *buf, size_t at)
{
    size_t len = (size_t)sqlite3_column_bytes(row, column);
    if (len == 0)
        return (struct slice){0};
    memcpy(buf_data(buf) + at, sqlite3_column_blob(row, column), len);
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
    size_t body_len = with_body ? (size_t)sqlite3_column_bytes(row, 7) : 0;
    struct buf *buf = NULL;
    if (head_len + body_len > 0 && !(buf = buf_new(head_len + body_len)))
        return why_set(why, "no memory to read frame %" PRIu64 " of batch %" PRIu64 " from %s", number, batch, self->path);
    frame.head = take_blob(row, 6, buf, 0);
    if (with_body)
        frame.body = take_blob(row, 7, buf, head_len);
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
    if (kind_of(self, rc) == SQLITE_NOMEM)
        return why_set(why, "no memory to read frame %" PRIu64 " of batch %" PRIu64 " from %s", number, batch, self->path);
    if (kind_of(self, rc) == SQLITE_IOERR)
        return why_set(why, "%s can't be read: in table frames, number %" PRIu64 " of batch %" PRIu64 ": %s, error %d; look after the disk",
                       self->path, number, batch, words_of(self, rc), rc);
    return why_set(why, "%s is damaged: in table frames, number %" PRIu64 " of batch %" PRIu64 " can't be read (%s)"
                   "; restore the folder from a backup", self->path, number, batch,
                   rc == SQLITE_DONE ? "an index names it, but it is missing" : words_of(self, rc));
}

static int fetch(struct db *self, const struct store_query *query, uint64_t number, struct store_frame *ret_frame, struct why *why)
{
    sqlite3_stmt *row = self->statements[query->heads_only ? FRAME_HEAD : FRAME];
    bind_number(row, 1, number);
    int rc = step(self, row);
    int result = rc == SQLITE_ROW ? take_frame(self, row, number, query->batch, !query->heads_only, ret_frame, why)
                                  : cant_read(self, rc, number, query->batch, why);
    done_with(row);
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
    bind_number(self->statements[PURGE_FLOOR], 1, query->batch);
    int rc = run_number(self, PURGE_FLOOR, &floor);
    bool resume = query->order == STORE_BY_INDEX && query->after > 0;
    if (resume && (rc == SQLITE_OK || rc == SQLITE_DONE)) {
        bind_number(self->statements[FIRST_OF], 1, query->after);
        rc = run_number(self, FIRST_OF, &after_first);
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
    bind_number(numbers, 1, query->batch);
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
    while ((rc = step(self, numbers)) == SQLITE_ROW) {
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
    done_with(numbers);
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
    while (result == 0 && (rc = step(self, row)) != SQLITE_DONE) {
        const char *key = NULL;
        const uint8_t *value = NULL;
        size_t len = 0;
        if (rc != SQLITE_ROW)
            result = tell(self, rc, "read", why);
        else if (take_record(self, row, &key, &value, &len, why) < 0)
            result = -1;
        else if (strncmp(key, prefix, strlen(prefix)) != 0)
            break;
        else if (each && each(arg, key, value, len) != 0)
            result = -1;
    }
    done_with(row);
    return result;
}

/* ---- checking ---- */

static int check_frames(struct db *self, struct why *why)
{
    sqlite3_stmt *row = NULL;
    int rc = sqlite3_prepare_v2(self->handle, "SELECT number, batch, first, count, kind, crc, head, body FROM frames NOT INDEXED", -1, &row, NULL);
    int result = 0;
    uint64_t last = 0;
    while (rc == SQLITE_OK && result == 0 && (rc = step(self, row)) == SQLITE_ROW) {
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
    if (result == 0 && rc != SQLITE_DONE && kind_of(self, rc) != SQLITE_CORRUPT)
        return tell(self, rc, "read", why);
    if (result == 0 && rc != SQLITE_DONE)
        result = why_set(why, "%s is damaged: table frames can't be read behind number %" PRIu64 " (%s); restore the folder from a backup",
                         self->path, last, words_of(self, rc));
    return result;
}

int db_check(struct db *self, struct why *why)
{
    if (db_load(self, "", NULL, NULL, why) < 0 || check_frames(self, why) < 0)
        return -1;
    sqlite3_stmt *row = NULL;
    int rc = sqlite3_prepare_v2(self->handle, "PRAGMA integrity_check(1)", -1, &row, NULL);
    if (rc == SQLITE_OK)
        rc = step(self, row);
    const char *found = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(row, 0) : NULL;
    int result = 0;
    if (!found)
        result = tell(self, rc == SQLITE_ROW ? SQLITE_NOMEM : rc, "checked", why);
    else if (strcmp(found, "ok") != 0)
        result = why_set(why, "%s is damaged: %s; restore the folder from a backup", self->path, found);
    sqlite3_finalize(row);
    return result;
}
