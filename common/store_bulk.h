/* The file of large bodies beside a store's database, named as it with "-bulk" behind: each is written there once,
 * where SQLite would write it twice, into its log and from there into its pages (and copy it five times on the way).
 * A row of frames holds a reference instead of the body: where, and how long. The file has no structure of its own.
 *
 * A commit with such bodies: they are written, synced, and only then is the commit that refers to them made. What was written
 * for one that never was is free space at the next start. What is deleted becomes a hole once its deletion is committed, and
 * is used again. Bodies are covered by the checksums of their frames.
 *
 * For store_sql.c, store_read.c and store_inspect.c; one thread at a time. Errors are negative errno. */
#ifndef COMMON_STORE_BULK_H
#define COMMON_STORE_BULK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BULK_LEAST ((size_t)64 << 10)        /* shorter bodies stay in the database */

struct bulk;

bool bulk_wants(size_t len);
size_t bulk_len(int64_t reference);

/* At the start: all references in rising order, then the file is opened or made. NULL: no memory. */
struct bulk *bulk_new(void);
int bulk_refer(struct bulk *self, int64_t reference);      /* -EINVAL: it can't be, or two share a place */
int bulk_open(struct bulk *self, const char *database);    /* -EINVAL: the file is shorter than what is referred to */
void bulk_destroy(struct bulk **self_p);

/* Within a commit. */
int bulk_write(struct bulk *self, const void *data, size_t len, int64_t *ret_reference);
int bulk_sync(struct bulk *self);                          /* what was written, if anything */
int bulk_drop(struct bulk *self, int64_t reference);       /* its row is deleted */
size_t bulk_dropped(const struct bulk *self);              /* bytes */

/* Its end. Unknown: after a failed flush nobody knows what is on the disk, so nothing is given back. */
enum bulk_outcome { BULK_COMMITTED, BULK_UNDONE, BULK_UNKNOWN };
void bulk_settle(struct bulk *self, enum bulk_outcome outcome);

/* Fills `out`, which has room for bulk_len; less than that in *ret_len: the file ends there. */
int bulk_read(struct bulk *self, int64_t reference, uint8_t *out, size_t *ret_len);
/* The same for who only looks at it: a descriptor, or -1 and errno. */
int bulk_open_file(const char *database, int flags);
int bulk_read_from(int fd, int64_t reference, uint8_t *out, size_t *ret_len);

#endif
