/* What store_sql.c and store_read.c share: the connection, and how statements are run on it. */
#ifndef COMMON_STORE_DB_H
#define COMMON_STORE_DB_H

#include "common/store_bulk.h"
#include "common/store_format.h"
#include "common/store_private.h"

struct sqlite3;                              /* as in sqlite3.h */
struct sqlite3_stmt;

struct db {
    struct sqlite3 *handle;
    char *path;
    struct sqlite3_stmt *statements[N_STATEMENTS];
    struct bulk *bulk;                       /* NULL: the file's format has none, or it is the second connection */
    int64_t format;
    size_t log_pages;
    int system_error;                        /* of the last statement that failed */
    char words[80];
};

int db_kind_of(const struct db *self, int rc);
const char *db_words_of(struct db *self, int rc);
int db_tell(const struct db *self, int rc, const char *doing, struct why *why);    /* -1 */
void db_bind_number(struct sqlite3_stmt *statement, int at, uint64_t value);
void db_done_with(struct sqlite3_stmt *statement);
int db_step(struct db *self, struct sqlite3_stmt *statement);
/* The first column of the first row of a statement whose values are bound. SQLITE_DONE: no row. */
int db_run_number(struct db *self, enum statement which, int64_t *ret_value);

#endif
