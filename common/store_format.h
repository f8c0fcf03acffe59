/* The format of the store's file, as text: its tables, and every statement that is run on them. For store_sql.c and store_inspect.c. */
#ifndef COMMON_STORE_FORMAT_H
#define COMMON_STORE_FORMAT_H

#define APPLICATION 0x5461726d               /* "Tarm", in the file's header */
#define FORMAT 3                             /* 1: without sums of the pages (store_sums.h); 2: without large bodies apart (store_bulk.h) */
#define PAGE 16384
#define SHORT 4096
#define TEXT(x) TEXT_OF(x)
#define TEXT_OF(x) #x

#define PURGE_STEP 16                        /* rows of one statement */
#define NEXT_PURGED "(SELECT number FROM frames INDEXED BY frames_by_number WHERE batch = ?1 AND number <= ?2 ORDER BY number LIMIT " TEXT(PURGE_STEP) ")"

enum statement {
    BEGIN, COMMIT, PUT, DELETE, APPEND, PURGE, SET_META, RAISE_NUMBER,
    PURGE_FLOOR, NEXT_PURGE, PURGE_BULK, PURGE_ROWS, PURGE_DONE, FREE_PAGES,
    BY_NUMBER, BY_INDEX, FIRST_OF, FRAME, FRAME_HEAD, RECORDS, N_STATEMENTS
};

static const char *const statement_texts[N_STATEMENTS] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [PUT] = "INSERT INTO records VALUES(?1, ?2, ?3) ON CONFLICT(key) DO UPDATE SET value = ?2, crc = ?3",
    [DELETE] = "DELETE FROM records WHERE key = ?1",
    [APPEND] = "INSERT INTO frames VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    [PURGE] = "INSERT INTO purges VALUES(?1, ?2) ON CONFLICT(batch) DO UPDATE SET upto = max(upto, ?2)",
    [SET_META] = "INSERT INTO meta VALUES(?1, ?2) ON CONFLICT(name) DO UPDATE SET value = ?2",
    [RAISE_NUMBER] = "UPDATE meta SET value = max(value, ?1) WHERE name = 'next_number'",
    [PURGE_FLOOR] = "SELECT upto FROM purges WHERE batch = ?1",
    [NEXT_PURGE] = "SELECT batch, upto FROM purges LIMIT 1",
    [PURGE_BULK] = "SELECT body FROM frames NOT INDEXED WHERE number IN " NEXT_PURGED " AND typeof(body) = 'integer'",
    [PURGE_ROWS] = "DELETE FROM frames WHERE number IN " NEXT_PURGED,
    [PURGE_DONE] = "DELETE FROM purges WHERE batch = ?1",
    [FREE_PAGES] = "PRAGMA freelist_count",
    [BY_NUMBER] = "SELECT number FROM frames INDEXED BY frames_by_number WHERE batch = ?1 AND number > ?2 ORDER BY number",
    /* ?2 and ?6: where first begins, ?3: to, ?4: from, ?5: numbers up to here are gone, (?6, ?7): the last row got. */
    [BY_INDEX] = "SELECT number, first FROM frames INDEXED BY frames_by_first"
                 " WHERE batch = ?1 AND first >= ?2 AND first < ?3 AND count BETWEEN 1 AND " TEXT(SHORT)
                 " AND first + count > ?4 AND number > ?5 AND (first > ?6 OR number > ?7)"
                 " UNION ALL SELECT number, first FROM frames INDEXED BY frames_long"
                 " WHERE batch = ?1 AND first >= ?6 AND first < ?3 AND count > " TEXT(SHORT)
                 " AND first + count > ?4 AND number > ?5 AND (first > ?6 OR number > ?7) ORDER BY 2, 1",
    [FIRST_OF] = "SELECT first FROM frames WHERE number = ?1",
    [FRAME] = "SELECT number, batch, first, count, kind, crc, head, body FROM frames NOT INDEXED WHERE number = ?1",
    [FRAME_HEAD] = "SELECT number, batch, first, count, kind, crc, head FROM frames NOT INDEXED WHERE number = ?1",
    [RECORDS] = "SELECT key, value, crc FROM records WHERE key >= ?1 ORDER BY key",
};

static const char schema[] =
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE records(key TEXT PRIMARY KEY, value BLOB NOT NULL, crc INT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE frames(number INTEGER PRIMARY KEY, batch INT NOT NULL, first INT NOT NULL, count INT NOT NULL,"
    " kind INT NOT NULL, crc INT NOT NULL, head BLOB NOT NULL, body BLOB NOT NULL);"
    "CREATE INDEX frames_by_number ON frames(batch);"     /* the number is at the end of every index */
    "CREATE INDEX frames_by_first ON frames(batch, first, number, count);"
    "CREATE INDEX frames_long ON frames(batch, first, number, count) WHERE count > " TEXT(SHORT) ";"
    "CREATE INDEX frames_bulk ON frames(body) WHERE typeof(body) = 'integer';"
    "CREATE TABLE purges(batch INTEGER PRIMARY KEY, upto INT NOT NULL);"
    "PRAGMA application_id = " TEXT(APPLICATION) ";";

/* Debian's SQLite would write zeros over all that is deleted (measured: a purge takes five times as long). */
static const char settings[] =
    "PRAGMA synchronous = FULL; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY; PRAGMA cache_size = -16384;"
    "PRAGMA cell_size_check = ON; PRAGMA trusted_schema = OFF; PRAGMA secure_delete = OFF;";

#endif
