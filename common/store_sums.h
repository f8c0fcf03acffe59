/* Checksums of the pages of a store's file: what SQLite doesn't do. Rows have sums of their own, but a byte
 * that changed in an index, in a page's list of its rows or in the list of free pages would make rows
 * disappear, or be overwritten later, without a word.
 *
 * It is a layer between SQLite and the system's files (a "VFS"). The last SUMS_BYTES of each page are left free by
 * SQLite; on the way to the file a CRC-32C of the page and its number is put there, on the way back it is
 * compared. Pages in the log are covered by the log's own sums. A file that was made without them is
 * passed through as it is. Any SQLite can read these files; who writes them with another makes them damaged. */
#ifndef COMMON_STORE_SUMS_H
#define COMMON_STORE_SUMS_H

#include <stdbool.h>
#include <stdint.h>

#define SUMS_BYTES 8
#define SUMS_PAGE 16384                      /* the one size of pages that is known */

struct sqlite3;                              /* as in sqlite3.h */

/* The name of the layer for sqlite3_open_v2; NULL: no memory. Any thread. */
const char *sums_layer(void);
/* Before anything of the file is set: leaves room in each page. An SQLite code. */
int sums_reserve(struct sqlite3 *db);
bool sums_are_kept(struct sqlite3 *db);      /* the file has them */
/* The page that was found damaged last by this connection, from 1; 0: none. The read has failed with SQLITE_IOERR_DATA. */
uint64_t sums_damaged_page(struct sqlite3 *db);

#endif
