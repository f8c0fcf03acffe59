/* Each sentence says what, where, and what would be right: whether it is the file, the disk, the rights or the memory. */
#include "common/store_error.h"

#include <errno.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

/* One that a flush reports is not here: after a failed flush nobody knows which pages are on the disk, so it must
 * not be tried again. */
bool store_error_is_full(const struct store_error *self)
{
    if ((self->rc & 0xff) == SQLITE_FULL)
        return true;
    int error = self->system_error;
    return (error == ENOSPC || error == EDQUOT) && (self->rc == SQLITE_IOERR_WRITE || self->rc == SQLITE_IOERR_SHMSIZE);
}

/* SQLite calls a file damaged that the disk can't read: that is the disk's fault. */
int store_error_kind(const struct store_error *self)
{
    if (self->rc == SQLITE_IOERR_NOMEM)
        return SQLITE_NOMEM;
    if (self->rc == SQLITE_IOERR_DATA)
        return SQLITE_CORRUPT;
    bool unreadable = self->system_error == EIO || self->system_error == ENXIO;
    return (self->rc & 0xff) == SQLITE_CORRUPT && unreadable ? SQLITE_IOERR : self->rc & 0xff;
}

const char *store_error_words(const struct store_error *self, char out[80])
{
    if (self->rc != SQLITE_IOERR_DATA)
        return sqlite3_errstr(self->rc);
    snprintf(out, 80, "page %" PRIu64 " doesn't match its checksum", self->page);
    return out;
}

int store_error_tell(const struct store_error *self, const char *doing, struct why *why)
{
    char made[80];
    const char *path = self->path, *what = store_error_words(self, made);
    const char *system = self->system_error ? strerror(self->system_error) : "no error of the system";
    if (store_error_is_full(self))
        return why_set(why, "%s can't be %s: no room is left on the disk; make room there", path, doing);
    switch (store_error_kind(self)) {
    case SQLITE_NOTADB:
        return why_set(why, "%s is not a store of Tarmac: it is no SQLite database; move it away or choose another folder", path);
    case SQLITE_CORRUPT:
        return why_set(why, "%s is damaged (%s); restore the folder from a backup, or move it away to begin anew", path, what);
    case SQLITE_NOMEM:
        return why_set(why, "%s can't be %s: no memory is left; raise the limit of this process, or run less beside it", path, doing);
    case SQLITE_CANTOPEN: case SQLITE_READONLY: case SQLITE_PERM: case SQLITE_AUTH:
        return why_set(why, "%s can't be %s: %s (%s); the file and its folder must be writable for this user", path, doing, what, system);
    default:
        return why_set(why, "%s can't be %s: %s, error %d (%s); look after the disk, then start again", path, doing, what, self->rc, system);
    }
}
