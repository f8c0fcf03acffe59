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
#include "common/store_db.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/store_error.h"
#include "common/store_sums.h"

#define PURGE_AT_ONCE 2000                   /* rows, and time, of one transaction of a purge */
#define PURGE_TIME (2 * NS_PER_MS)
#define SHRINK_STEP 32                       /* pages of one transaction */
#define KEEP_FREE 256                        /* pages that may stay unused: 4 MiB */
#define PURGE_BYTES ((size_t)16 << 20)       /* of large bodies that become holes at once */

/* ---- errors ---- */

static struct store_error error_of(const struct db *self, int rc)
{
    return (struct store_error){.path = self->path, .rc = rc, .system_error = self->system_error,
                                .page = rc == SQLITE_IOERR_DATA ? sums_damaged_page(self->handle) : 0};
}

int db_kind_of(const struct db *self, int rc)
{
    struct store_error error = error_of(self, rc);
    return store_error_kind(&error);
}

const char *db_words_of(struct db *self, int rc)
{
    struct store_error error = error_of(self, rc);
    return store_error_words(&error, self->words);
}

int db_tell(const struct db *self, int rc, const char *doing, struct why *why)
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

void db_bind_number(sqlite3_stmt *statement, int at, uint64_t value)
{
    sqlite3_bind_int64(statement, at, (sqlite3_int64)value);
}

/* The bytes stay with the caller until the statement is reset. An empty blob needs an address, else it is NULL. */
static void bind_bytes(sqlite3_stmt *statement, int at, const void *data, size_t len)
{
    sqlite3_bind_blob64(statement, at, len ? data : "", len, SQLITE_STATIC);
}

void db_done_with(sqlite3_stmt *statement)
{
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
}

/* Call it right behind the statement, with errno 0 before: SQLite itself forgets the system's error of a commit. */
static void note_system_error(struct db *self)
{
    self->system_error = errno ? errno : sqlite3_system_errno(self->handle);
}

int db_step(struct db *self, sqlite3_stmt *statement)
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
    while ((rc = db_step(self, statement)) == SQLITE_ROW)
        continue;
    db_done_with(statement);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int db_run_number(struct db *self, enum statement which, int64_t *ret_value)
{
    sqlite3_stmt *statement = self->statements[which];
    int rc = db_step(self, statement);
    if (rc == SQLITE_ROW) {
        *ret_value = sqlite3_column_int64(statement, 0);
        rc = SQLITE_OK;
    }
    db_done_with(statement);
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
    if (self->bulk)
        bulk_settle(self->bulk, result == DB_OK ? BULK_COMMITTED : result == DB_FULL ? BULK_UNDONE : BULK_UNKNOWN);
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
        db_tell(self, rc, "opened", why);
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
        return db_tell(self, rc, "opened", why);
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
        if (i == PURGE_BULK && self->format < 3)
            continue;
        int rc = sqlite3_prepare_v3(self->handle, statement_texts[i], -1, SQLITE_PREPARE_PERSISTENT, &self->statements[i], NULL);
        if (rc == SQLITE_ERROR)
            return why_set(why, "%s is damaged: its tables are not those of a store (%s); restore the folder from a backup",
                           self->path, sqlite3_errmsg(self->handle));
        if (rc != SQLITE_OK)
            return db_tell(self, rc, "opened", why);
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
        return db_tell(self, rc, "made", why);
    if (use_log(self, why) < 0)
        return -1;
    self->format = FORMAT;
    rc = run_text(self, "BEGIN IMMEDIATE") ?: run_text(self, schema);
    if (rc == SQLITE_OK && prepare_all(self, why) < 0)
        return -1;                   /* closing rolls back */
    if (rc == SQLITE_OK)
        rc = fill_meta(self, role, version) ?: run(self, COMMIT);
    return rc == SQLITE_OK ? 0 : db_tell(self, rc, "made", why);
}

/* Whose file it is, before anything in it is touched. 1: nobody's, it is empty; 0: ours. */
static int recognise(struct db *self, struct why *why)
{
    int64_t tables = 0, application = 0;
    int rc = ask_number(self, "SELECT count(*) FROM sqlite_schema", &tables) ?: ask_number(self, "PRAGMA application_id", &application);
    if (rc != SQLITE_OK)
        return db_tell(self, rc, "read", why);
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
        return db_tell(self, rc, "read", why);
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
        return db_tell(self, rc, "read", why);
    /* Format 1 had no sums of its pages, 2 no file of large bodies; such a store goes on without. */
    bool sums_lost = format >= 2 && !sums_are_kept(self->handle);
    if (rc != SQLITE_OK || id_len != 16 || sums_lost || format < 1 || owner < 0 || next < 1 || last < 0 || last == INT64_MAX)
        return why_set(why, "%s is damaged: what it says about itself makes no sense; restore the folder from a backup", self->path);
    self->format = format;
    ret_facts->version = (uint32_t)owner;
    ret_facts->next_number = (uint64_t)(last >= next ? last + 1 : next);
    return 0;
}

/* The log of a process that was killed may be in memory only, and is read all the same. What follows from it is told, and places
 * of large bodies are free that a power cut would bring back: so it is synced before. */
static int sync_log(const struct db *self, struct why *why)
{
    char *path = NULL;
    struct stat found;
    if (asprintf(&path, "%s-wal", self->path) < 0)
        return why_set(why, "no memory to open %s", self->path);
    int fd = open(path, O_RDONLY | O_CLOEXEC), error = fd < 0 || fstat(fd, &found) < 0 ? errno : 0;
    free(path);
    if (error == 0 && found.st_size > 0 && fdatasync(fd) < 0)
        error = errno;
    if (fd >= 0)
        close(fd);          /* SQLite has no locks on this file, which would go with it */
    if (error == 0 || error == ENOENT)
        return 0;
    return why_set(why, "%s-wal can't be written to the disk: %s; look after the disk, then start again", self->path, strerror(error));
}

static int cant_open_bulk(const struct db *self, int error, struct why *why)
{
    if (error == -ENOMEM)
        return why_set(why, "no memory to open %s", self->path);
    if (error == -EINVAL)
        return why_set(why, "%s is damaged: large bodies that it refers to can't be in %s-bulk; restore the folder, with that file, from a backup",
                       self->path, self->path);
    return why_set(why, "%s-bulk can't be opened: %s; it must be writable for this user", self->path, strerror(-error));
}

/* The file of large bodies, and what of it is in use. */
static int open_bulk(struct db *self, struct why *why)
{
    sqlite3_stmt *row = NULL;
    int error = 0, rc;
    if (self->format < 3)
        return 0;
    if (!(self->bulk = bulk_new()))
        return cant_open_bulk(self, -ENOMEM, why);
    errno = 0;
    rc = sqlite3_prepare_v2(self->handle, "SELECT body FROM frames INDEXED BY frames_bulk WHERE typeof(body) = 'integer' ORDER BY body", -1, &row, NULL);
    while (error == 0 && rc == SQLITE_OK && (rc = sqlite3_step(row)) == SQLITE_ROW) {
        error = bulk_refer(self->bulk, sqlite3_column_int64(row, 0));
        rc = SQLITE_OK;
    }
    note_system_error(self);
    sqlite3_finalize(row);
    if (error == 0 && rc != SQLITE_DONE)
        return db_tell(self, rc, "read", why);
    if (error == 0)
        error = bulk_open(self->bulk, self->path);
    return error < 0 ? cant_open_bulk(self, error, why) : 0;
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
    if (read_facts(self, version, &facts, why) < 0 || (!empty && prepare_all(self, why) < 0) || sync_log(self, why) < 0
        || open_bulk(self, why) < 0)
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
    bulk_destroy(&self->bulk);
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
    db_bind_number(statement, 3, record_crc(op->key, op->key_len, value, op->value_len));
    return run(self, PUT);
}

/* What became of a call of the file of large bodies, as an SQLite code; `what` is that of its failures. */
static int bulk_code(struct db *self, int error, int what)
{
    if (error == 0)
        return SQLITE_OK;
    self->system_error = -error;
    return error == -ENOMEM ? SQLITE_NOMEM : what;
}

static int bind_body(struct db *self, sqlite3_stmt *statement, int at, const struct slice *body)
{
    int64_t reference = 0;
    if (!self->bulk || !bulk_wants(body->len)) {
        bind_bytes(statement, at, body->data, body->len);
        return SQLITE_OK;
    }
    int rc = bulk_code(self, bulk_write(self->bulk, body->data, body->len, &reference), SQLITE_IOERR_WRITE);
    sqlite3_bind_int64(statement, at, reference);
    return rc;
}

static int append(struct db *self, const struct store_frame *frame)
{
    sqlite3_stmt *statement = self->statements[APPEND];
    db_bind_number(statement, 1, frame->number);
    db_bind_number(statement, 2, frame->batch);
    db_bind_number(statement, 3, frame->first);
    db_bind_number(statement, 4, frame->count);
    db_bind_number(statement, 5, frame->kind);
    db_bind_number(statement, 6, frame_crc(frame));
    bind_bytes(statement, 7, frame->head.data, frame->head.len);
    int rc = bind_body(self, statement, 8, &frame->body);
    if (rc == SQLITE_OK)
        return run(self, APPEND);
    db_done_with(statement);
    return rc;
}

/* Notes that the batch goes; its rows are hidden from now on and deleted bit by bit. The highest
 * number is noted too, for when the row that has it is gone. */
static int purge(struct db *self, const struct op *op)
{
    db_bind_number(self->statements[RAISE_NUMBER], 1, op->frame.number + 1);
    int rc = run(self, RAISE_NUMBER);
    if (rc != SQLITE_OK)
        return rc;
    db_bind_number(self->statements[PURGE], 1, op->frame.batch);
    db_bind_number(self->statements[PURGE], 2, op->frame.number);
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
    if (rc == SQLITE_OK && self->bulk)
        rc = bulk_code(self, bulk_sync(self->bulk), SQLITE_IOERR_FSYNC);
    return end(self, rc, why);
}

/* The large bodies of the rows that are deleted next. */
static int drop_bulk(struct db *self, sqlite3_int64 batch, sqlite3_int64 upto)
{
    sqlite3_stmt *row = self->statements[PURGE_BULK];
    int rc = SQLITE_OK;
    if (!self->bulk)
        return SQLITE_OK;
    sqlite3_bind_int64(row, 1, batch);
    sqlite3_bind_int64(row, 2, upto);
    while (rc == SQLITE_OK && (rc = db_step(self, row)) == SQLITE_ROW)
        rc = bulk_code(self, bulk_drop(self->bulk, sqlite3_column_int64(row, 0)), SQLITE_NOMEM);
    db_done_with(row);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* Deletes rows of one batch; *ret_done: there are no more of them. */
static int purge_rows(struct db *self, sqlite3_int64 batch, sqlite3_int64 upto, mono_t until, bool *ret_done)
{
    *ret_done = false;
    for (int rows = 0, gone; rows < PURGE_AT_ONCE; rows += gone) {
        sqlite3_bind_int64(self->statements[PURGE_ROWS], 1, batch);
        sqlite3_bind_int64(self->statements[PURGE_ROWS], 2, upto);
        int rc = drop_bulk(self, batch, upto) ?: run(self, PURGE_ROWS);
        if (rc != SQLITE_OK)
            return rc;
        gone = sqlite3_changes(self->handle);
        if (gone < PURGE_STEP) {
            *ret_done = true;
            sqlite3_bind_int64(self->statements[PURGE_DONE], 1, batch);
            return run(self, PURGE_DONE);
        }
        if (mono_reached(mono_now(), until) || (self->bulk && bulk_dropped(self->bulk) > PURGE_BYTES))
            break;
    }
    return SQLITE_OK;
}

/* SQLITE_ROW: a batch that is to go; SQLITE_DONE: there is none. */
static int next_purge(struct db *self, sqlite3_int64 *ret_batch, sqlite3_int64 *ret_upto)
{
    sqlite3_stmt *next = self->statements[NEXT_PURGE];
    int rc = db_step(self, next);
    if (rc == SQLITE_ROW) {
        *ret_batch = sqlite3_column_int64(next, 0);
        *ret_upto = sqlite3_column_int64(next, 1);
    }
    db_done_with(next);
    return rc;
}

/* Damage is no reason to end for what is only tidied up: the same would be found at each start. */
static enum db_result unless_damaged(const struct db *self, int rc, enum db_result result)
{
    return result == DB_FAILED && db_kind_of(self, rc) == SQLITE_CORRUPT ? DB_DAMAGED : result;
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
    int rc = db_run_number(self, FREE_PAGES, &before);
    if (rc == SQLITE_OK && before > KEEP_FREE) {
        rc = run_text(self, "PRAGMA incremental_vacuum(" TEXT(SHRINK_STEP) ")");
        if (rc == SQLITE_OK)
            rc = db_run_number(self, FREE_PAGES, &after);
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
