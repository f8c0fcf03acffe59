/* Everything is reached as a process would reach it: frames through their index. What the indexes miss is found by
 * SQLite's own check, which compares them with their tables. */
#include "common/store_inspect.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/store_bulk.h"
#include "common/store_error.h"
#include "common/store_format.h"
#include "common/store_private.h"
#include "common/store_sums.h"

#define TOLD_MOST 20                         /* pieces of damage that are told one by one */

struct inspection {
    const struct store_look *look;
    struct store_facts facts;
    sqlite3 *db;
    char *path;
    int lock_fd, bulk_fd;                    /* bulk_fd: of large bodies; -1: there is none, or it can't be opened */
    uint8_t *bulk;                           /* room for one of them */
    size_t bulk_room;
    char words[80];
};

static void tell_damage(struct inspection *self, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void tell_damage(struct inspection *self, const char *format, ...)
{
    char text[300];
    va_list args;
    if (self->facts.damages++ >= TOLD_MOST || !self->look->damage)
        return;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (char *c = text; *c; c++)
        *c = *c == '\n' ? ' ' : *c;          /* SQLite's words have lines */
    self->look->damage(self->look->arg, text);
}

static const char *words_of(struct inspection *self, int rc)
{
    struct store_error error = {.path = self->path, .rc = rc, .page = rc == SQLITE_IOERR_DATA ? sums_damaged_page(self->db) : 0};
    return store_error_words(&error, self->words);
}

/* ---- opening ---- */

static int64_t size_of(const char *path, const char *end)
{
    char whole[4200];
    struct stat found;
    snprintf(whole, sizeof whole, "%s%s", path, end);
    return stat(whole, &found) == 0 ? (int64_t)found.st_size : -1;
}

/* The lock of the folder, if it has one: 0, or -1 with why. It is not made here. */
static int lock_folder(struct inspection *self, enum store_refusal *refusal, struct why *why)
{
    char path[4200];
    snprintf(path, sizeof path, "%s/LOCK", self->look->dir);
    self->lock_fd = open(path, O_RDWR | O_CLOEXEC);
    if (self->lock_fd < 0 && (errno == EACCES || errno == EROFS))
        self->lock_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (self->lock_fd < 0 && errno == ENOENT)
        return 0;
    if (self->lock_fd < 0)
        return why_set(why, "%s can't be opened: %s; it must be readable for this user", path, strerror(errno));
    if (flock(self->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno != EWOULDBLOCK)
        return why_set(why, "the folder %s can't be locked: %s; copy it to a local disk", self->look->dir, strerror(errno));
    *refusal = STORE_BUSY;
    store_tell_holder(self->look->dir, self->lock_fd, why);
    return -1;
}

static int cant_open(struct inspection *self, int rc, struct why *why)
{
    switch (rc & 0xff) {
    case SQLITE_NOTADB:
        return why_set(why, "%s is not a store of Tarmac: it is no SQLite database, or its first page is damaged", self->path);
    case SQLITE_NOMEM:
        return why_set(why, "no memory to open %s", self->path);
    case SQLITE_CANTOPEN: case SQLITE_READONLY: case SQLITE_PERM:
        if (size_of(self->path, "-wal") > 0)
            return why_set(why, "%s has a log beside it (-wal), which can be read only where this user may write; copy the folder to such a place",
                           self->path);
        return why_set(why, "%s can't be opened: %s; it must be readable for this user", self->path, sqlite3_errstr(rc));
    default:
        return why_set(why, "%s can't be read: %s", self->path, words_of(self, rc));
    }
}

static int first_number(struct inspection *self, const char *sql, int64_t *ret)
{
    sqlite3_stmt *row = NULL;
    int rc = sqlite3_prepare_v2(self->db, sql, -1, &row, NULL);
    if (rc == SQLITE_OK && (rc = sqlite3_step(row)) == SQLITE_ROW) {
        *ret = sqlite3_column_int64(row, 0);
        rc = SQLITE_OK;
    }
    sqlite3_finalize(row);
    return rc;
}

static int connect_with(struct inspection *self, const char *name, int flags)
{
    int64_t tables;
    const char *layer = sums_layer();
    flags |= SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    int rc = layer ? sqlite3_open_v2(name, &self->db, flags, layer) : SQLITE_NOMEM;
    if (rc == SQLITE_OK)
        rc = first_number(self, "SELECT count(*) FROM sqlite_schema", &tables);
    return rc;
}

/* A file that nobody can write, without a log, is read as one that never changes. */
static int connect_unchanging(struct inspection *self)
{
    size_t room = 3 * strlen(self->path) + 32, len;
    char *name = malloc(room);
    if (!name)
        return SQLITE_NOMEM;
    len = (size_t)snprintf(name, room, "file:");
    for (const char *c = self->path; *c; c++)
        len += (size_t)snprintf(name + len, room - len, strchr("%?#", *c) ? "%%%02X" : "%c", (unsigned char)*c);
    snprintf(name + len, room - len, "?immutable=1");
    sqlite3_close(self->db);
    self->db = NULL;
    int rc = connect_with(self, name, SQLITE_OPEN_URI);
    free(name);
    return rc;
}

static int connect(struct inspection *self, struct why *why)
{
    struct stat found;
    if (stat(self->path, &found) < 0)
        return why_set(why, "%s can't be opened: %s", self->path, strerror(errno));
    int rc = connect_with(self, self->path, 0);
    int kind = rc & 0xff;
    if ((kind == SQLITE_CANTOPEN || kind == SQLITE_READONLY) && size_of(self->path, "-wal") <= 0)
        rc = connect_unchanging(self);
    return rc == SQLITE_OK ? 0 : cant_open(self, rc, why);
}

/* ---- what it says about itself ---- */

static int read_facts(struct inspection *self, struct why *why)
{
    struct store_facts *facts = &self->facts;
    int64_t application = 0, format = 0, version = 0, pages = 0, unused = 0, purges = 0;
    int rc = first_number(self, "PRAGMA application_id", &application);
    if (rc == SQLITE_OK && application != APPLICATION)
        return why_set(why, "%s is not a store of Tarmac: it is a database of another program, or was never used", self->path);
    if (rc == SQLITE_OK)
        rc = first_number(self, "SELECT value FROM meta WHERE name = 'format'", &format);
    if (rc == SQLITE_OK && format > FORMAT)
        return why_set(why, "%s has format %" PRId64 ", and this Tarmac knows up to %d; use the newer Tarmac that wrote it", self->path, format, FORMAT);
    if (rc == SQLITE_OK)
        rc = first_number(self, "SELECT value FROM meta WHERE name = 'version'", &version);
    if (rc == SQLITE_OK && version > (int64_t)self->look->version)
        return why_set(why, "%s has records of version %" PRId64 ", and this Tarmac knows up to %" PRIu32 "; use the newer Tarmac that wrote it",
                       self->path, version, self->look->version);
    if (rc == SQLITE_OK)
        rc = first_number(self, "PRAGMA page_count", &pages) ?: first_number(self, "PRAGMA freelist_count", &unused) ?:
             first_number(self, "SELECT count(*) FROM purges", &purges);
    if (rc != SQLITE_OK)
        return cant_open(self, rc == SQLITE_DONE ? SQLITE_CORRUPT : rc, why);
    facts->format = (uint32_t)format;
    facts->version = (uint32_t)version;
    facts->sums = sums_are_kept(self->db);
    facts->pages = (uint64_t)pages;
    facts->free_pages = (uint64_t)unused;
    facts->purges = (uint64_t)purges;
    return 0;
}

static void check_identity(struct inspection *self)
{
    sqlite3_stmt *row = NULL;
    int64_t format = self->facts.format, next = 0, last = 0;
    int rc = sqlite3_prepare_v2(self->db, "SELECT (SELECT value FROM meta WHERE name = 'id'), (SELECT value FROM meta WHERE name = 'role')", -1, &row, NULL);
    if (rc == SQLITE_OK && (rc = sqlite3_step(row)) == SQLITE_ROW) {
        const void *id = sqlite3_column_blob(row, 0);
        const char *role = (const char *)sqlite3_column_text(row, 1);
        if (!id || sqlite3_column_bytes(row, 0) != sizeof self->facts.id)
            tell_damage(self, "its id is missing");
        else
            memcpy(self->facts.id, id, sizeof self->facts.id);
        if (!role || strcmp(role, self->look->role) != 0)
            tell_damage(self, "it says that it holds the role '%.20s' and not '%s'", role ? role : "", self->look->role);
        rc = SQLITE_OK;
    }
    sqlite3_finalize(row);
    if (rc == SQLITE_OK)
        rc = first_number(self, "SELECT value FROM meta WHERE name = 'next_number'", &next) ?:
             first_number(self, "SELECT coalesce(max(number), 0) FROM frames", &last);
    if (rc != SQLITE_OK || next < 1 || last < 0 || format < 1)
        tell_damage(self, "what it says about itself makes no sense (%s)", rc == SQLITE_OK ? "its numbers" : words_of(self, rc));
    if (format >= 2 && !self->facts.sums)
        tell_damage(self, "its pages have no checksums, which format %" PRIu32 " has", self->facts.format);
}

/* ---- records ---- */

static void take_record(struct inspection *self, sqlite3_stmt *row)
{
    const char *key = (const char *)sqlite3_column_text(row, 0);
    size_t key_len = (size_t)sqlite3_column_bytes(row, 0);
    const void *value = sqlite3_column_blob(row, 1);
    size_t len = (size_t)sqlite3_column_bytes(row, 1);
    self->facts.records++;
    if (!key || sqlite3_column_int64(row, 2) != (sqlite3_int64)record_crc(key, key_len, value ? value : "", len))
        tell_damage(self, "the record '%.60s' doesn't match its checksum", key ? key : "");
    else if (self->look->record)
        self->look->record(self->look->arg, key, value ? value : (const uint8_t *)"", len);
}

static void read_records(struct inspection *self)
{
    sqlite3_stmt *row = NULL;
    int rc = sqlite3_prepare_v2(self->db, "SELECT key, value, crc FROM records ORDER BY key", -1, &row, NULL);
    while (rc == SQLITE_OK && (rc = sqlite3_step(row)) == SQLITE_ROW) {
        take_record(self, row);
        rc = SQLITE_OK;
    }
    if (rc != SQLITE_DONE)
        tell_damage(self, "the records can't be read behind the first %" PRIu64 " (%s)", self->facts.records, words_of(self, rc));
    sqlite3_finalize(row);
}

/* ---- frames ---- */

static struct slice bytes_of(sqlite3_stmt *row, int column)
{
    size_t len = (size_t)sqlite3_column_bytes(row, column);
    return (struct slice){.data = len ? sqlite3_column_blob(row, column) : NULL, .len = len};
}

/* A body that is in the file beside; what can't be read of it is missing. */
static struct slice body_apart(struct inspection *self, int64_t reference)
{
    size_t room = bulk_len(reference), len = 0;
    if (room > self->bulk_room) {
        free(self->bulk);
        self->bulk = malloc(room);
        self->bulk_room = self->bulk ? room : 0;
    }
    if (!self->bulk || self->bulk_fd < 0 || bulk_read_from(self->bulk_fd, reference, self->bulk, &len) < 0)
        len = 0;
    return (struct slice){.data = self->bulk, .len = len};
}

static struct slice body_of(struct inspection *self, sqlite3_stmt *row)
{
    bool apart = self->facts.format >= 3 && sqlite3_column_type(row, 7) == SQLITE_INTEGER;
    return apart ? body_apart(self, sqlite3_column_int64(row, 7)) : bytes_of(row, 7);
}

static void take_frame(struct inspection *self, sqlite3_stmt *row, uint64_t number, uint64_t batch)
{
    struct store_frame frame = {
        .number = (uint64_t)sqlite3_column_int64(row, 0), .batch = (uint64_t)sqlite3_column_int64(row, 1),
        .first = (uint64_t)sqlite3_column_int64(row, 2), .count = (uint32_t)sqlite3_column_int64(row, 3),
        .kind = (uint32_t)sqlite3_column_int64(row, 4), .head = bytes_of(row, 6), .body = body_of(self, row),
    };
    uint64_t crc = (uint64_t)sqlite3_column_int64(row, 5);
    bool whole = (!frame.head.len || frame.head.data) && (!frame.body.len || frame.body.data);
    self->facts.frames++;
    self->facts.frame_bytes += frame.head.len + frame.body.len;
    if (!whole || frame.number != number || frame.batch != batch || !frame_is_sound(&frame, crc, true))
        tell_damage(self, "frame %" PRIu64 " of batch %" PRIu64 " doesn't match its checksum", number, batch);
    else if (self->look->frame)
        self->look->frame(self->look->arg, &frame);
}

/* The frames of the index, one by one, so that one that can't be read stands in nobody's way. */
static int read_listed(struct inspection *self, sqlite3_stmt *list, sqlite3_stmt *row)
{
    int rc;
    while ((rc = sqlite3_step(list)) == SQLITE_ROW) {
        uint64_t number = (uint64_t)sqlite3_column_int64(list, 0), batch = (uint64_t)sqlite3_column_int64(list, 1);
        sqlite3_bind_int64(row, 1, (sqlite3_int64)number);
        int got = sqlite3_step(row);
        if (got == SQLITE_ROW)
            take_frame(self, row, number, batch);
        else
            tell_damage(self, "frame %" PRIu64 " of batch %" PRIu64 " can't be read (%s)", number, batch,
                        got == SQLITE_DONE ? "an index names it, but it is missing" : words_of(self, got));
        sqlite3_reset(row);
    }
    return rc;
}

static void read_frames(struct inspection *self)
{
    sqlite3_stmt *list = NULL, *row = NULL;
    /* What is being deleted is hidden from everybody. */
    int rc = sqlite3_prepare_v2(self->db, "SELECT number, batch FROM frames INDEXED BY frames_by_first"
                                " WHERE number > coalesce((SELECT upto FROM purges WHERE purges.batch = frames.batch), 0)"
                                " ORDER BY batch, first, number", -1, &list, NULL) ?:
             sqlite3_prepare_v2(self->db, statement_texts[FRAME], -1, &row, NULL);
    if (rc == SQLITE_OK)
        rc = read_listed(self, list, row);
    if (rc != SQLITE_DONE)
        tell_damage(self, "the frames can't be read behind the first %" PRIu64 " (%s)", self->facts.frames, words_of(self, rc));
    sqlite3_finalize(list);
    sqlite3_finalize(row);
}

/* SQLite's own look at each page, at the order of rows, and at indexes against tables. */
static void check_integrity(struct inspection *self)
{
    sqlite3_stmt *row = NULL;
    int rc = sqlite3_prepare_v2(self->db, "PRAGMA integrity_check(" TEXT(TOLD_MOST) ")", -1, &row, NULL);
    while (rc == SQLITE_OK && (rc = sqlite3_step(row)) == SQLITE_ROW) {
        const char *found = (const char *)sqlite3_column_text(row, 0);
        if (found && strcmp(found, "ok") != 0)
            tell_damage(self, "SQLite's check: %.200s", found);
        rc = SQLITE_OK;
    }
    if (rc != SQLITE_DONE)
        tell_damage(self, "SQLite's check came to no end (%s)", words_of(self, rc));
    sqlite3_finalize(row);
}

/* ---- all of it ---- */

static int look_at_file(struct inspection *self, struct why *why)
{
    int64_t log = size_of(self->path, "-wal");
    if (connect(self, why) < 0 || read_facts(self, why) < 0)
        return -1;
    self->facts.file_bytes = (uint64_t)size_of(self->path, "");
    self->facts.log_bytes = log > 0 ? (uint64_t)log : 0;
    self->bulk_fd = self->facts.format >= 3 ? bulk_open_file(self->path, O_RDONLY) : -1;
    if (self->bulk_fd >= 0)
        self->facts.bulk_bytes = (uint64_t)size_of(self->path, "-bulk");
    check_identity(self);
    read_records(self);
    read_frames(self);
    check_integrity(self);
    return 0;
}

static void drop(const struct inspection *self, const char *end)
{
    char path[4200];
    snprintf(path, sizeof path, "%s%s", self->path, end);
    unlink(path);
}

enum store_refusal store_inspect(const struct store_look *look, struct store_facts *ret, struct why *why)
{
    struct inspection self = {.look = look, .lock_fd = -1, .bulk_fd = -1};
    enum store_refusal refusal = STORE_DISK;
    if (asprintf(&self.path, "%s/%s.db", look->dir, look->role) < 0) {
        why_set(why, "no memory to open %s", look->dir);
        return STORE_DISK;
    }
    bool had_index = size_of(self.path, "-shm") >= 0, had_log = size_of(self.path, "-wal") >= 0;
    if (lock_folder(&self, &refusal, why) == 0 && look_at_file(&self, why) == 0) {
        refusal = STORE_OK;
        *ret = self.facts;
    }
    sqlite3_close(self.db);
    /* What reading made is no part of the store: an index of the log, and an empty log. */
    if (refusal != STORE_BUSY && !had_index)
        drop(&self, "-shm");
    if (refusal != STORE_BUSY && !had_log && size_of(self.path, "-wal") == 0)
        drop(&self, "-wal");
    if (self.lock_fd >= 0)
        close(self.lock_fd);
    if (self.bulk_fd >= 0)
        close(self.bulk_fd);
    free(self.bulk);
    free(self.path);
    return refusal;
}
