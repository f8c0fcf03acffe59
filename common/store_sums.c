/* Only the database itself has sums; its log, and everything else, goes to the system's layer directly. A connection is
 * used by one thread at a time, and so is its file here. */
#include "common/store_sums.h"

#include <endian.h>
#include <pthread.h>
#include <sqlite3.h>
#include <string.h>

#include "common/crc32c.h"

#define MARK UINT32_C(0x6d757331)            /* "1sum": a page without it has not been through here */
#define RESERVED_AT 20                       /* SQLite's header: bytes of each page that are left free */
#define ASK_DAMAGED 0x54617201               /* file controls of our own */
#define ASK_KEPT 0x54617202

struct sums_file {
    sqlite3_file base;
    bool kept;                               /* the file has sums, as its first page says */
    uint64_t damaged;
    uint8_t page[SUMS_PAGE];                 /* as it is written */
    /* Behind it: the system's file. */
};

static sqlite3_vfs *below;                   /* the system's layer */

static sqlite3_file *real(sqlite3_file *file)
{
    return (sqlite3_file *)(void *)((char *)file + sizeof(struct sums_file));
}

/* ---- sums ---- */

static uint32_t sum_of(const uint8_t *page, uint64_t number)
{
    uint64_t where = htole64(number);
    return htole32(crc32c(crc32c(0, &where, sizeof where), page, SUMS_PAGE - SUMS_BYTES));
}

static bool is_zero(const uint8_t *page)
{
    return page[0] == 0 && memcmp(page, page + 1, SUMS_PAGE - 1) == 0;
}

/* A page that was never written is all zeros: the one at 1 GiB, which SQLite uses for locks, and unused ones. */
static bool is_right(const uint8_t *page, uint64_t number)
{
    uint32_t found[2], wanted[2] = {sum_of(page, number), htole32(MARK)};
    memcpy(found, page + SUMS_PAGE - SUMS_BYTES, sizeof found);
    return memcmp(found, wanted, sizeof found) == 0 || is_zero(page);
}

static void look_at_header(struct sums_file *self, const void *bytes, int len, sqlite3_int64 at)
{
    if (at == 0 && len > RESERVED_AT)
        self->kept = ((const uint8_t *)bytes)[RESERVED_AT] == SUMS_BYTES;
}

static bool is_page(int len, sqlite3_int64 at)
{
    return len == SUMS_PAGE && at % SUMS_PAGE == 0;
}

static int sums_read(sqlite3_file *file, void *bytes, int len, sqlite3_int64 at)
{
    struct sums_file *self = (struct sums_file *)file;
    int rc = real(file)->pMethods->xRead(real(file), bytes, len, at);
    if (rc != SQLITE_OK)
        return rc;
    look_at_header(self, bytes, len, at);
    uint64_t number = (uint64_t)at / SUMS_PAGE + 1;
    if (!self->kept || !is_page(len, at) || is_right(bytes, number))
        return SQLITE_OK;
    self->damaged = number;
    return SQLITE_IOERR_DATA;
}

static int sums_write(sqlite3_file *file, const void *bytes, int len, sqlite3_int64 at)
{
    struct sums_file *self = (struct sums_file *)file;
    look_at_header(self, bytes, len, at);
    if (self->kept && is_page(len, at)) {
        uint32_t sum[2] = {sum_of(bytes, (uint64_t)at / SUMS_PAGE + 1), htole32(MARK)};
        memcpy(self->page, bytes, SUMS_PAGE - SUMS_BYTES);
        memcpy(self->page + SUMS_PAGE - SUMS_BYTES, sum, sizeof sum);
        bytes = self->page;
    }
    return real(file)->pMethods->xWrite(real(file), bytes, len, at);
}

static int sums_control(sqlite3_file *file, int what, void *arg)
{
    const struct sums_file *self = (const struct sums_file *)file;
    if (what == ASK_DAMAGED)
        *(uint64_t *)arg = self->damaged;
    else if (what == ASK_KEPT)
        *(bool *)arg = self->kept;
    else
        return real(file)->pMethods->xFileControl(real(file), what, arg);
    return SQLITE_OK;
}

/* ---- what passes through ---- */

static int sums_close(sqlite3_file *file)
{
    int rc = real(file)->pMethods->xClose(real(file));
    file->pMethods = NULL;
    return rc;
}

static int sums_truncate(sqlite3_file *file, sqlite3_int64 len) { return real(file)->pMethods->xTruncate(real(file), len); }
static int sums_sync(sqlite3_file *file, int flags) { return real(file)->pMethods->xSync(real(file), flags); }
static int sums_size(sqlite3_file *file, sqlite3_int64 *len) { return real(file)->pMethods->xFileSize(real(file), len); }
static int sums_lock(sqlite3_file *file, int level) { return real(file)->pMethods->xLock(real(file), level); }
static int sums_unlock(sqlite3_file *file, int level) { return real(file)->pMethods->xUnlock(real(file), level); }
static int sums_check_lock(sqlite3_file *file, int *held) { return real(file)->pMethods->xCheckReservedLock(real(file), held); }
static int sums_sector(sqlite3_file *file) { return real(file)->pMethods->xSectorSize(real(file)); }
static int sums_traits(sqlite3_file *file) { return real(file)->pMethods->xDeviceCharacteristics(real(file)); }
static int sums_shm_map(sqlite3_file *file, int part, int size, int extend, void volatile **at) { return real(file)->pMethods->xShmMap(real(file), part, size, extend, at); }
static int sums_shm_lock(sqlite3_file *file, int from, int n, int flags) { return real(file)->pMethods->xShmLock(real(file), from, n, flags); }
static void sums_shm_barrier(sqlite3_file *file) { real(file)->pMethods->xShmBarrier(real(file)); }
static int sums_shm_unmap(sqlite3_file *file, int drop) { return real(file)->pMethods->xShmUnmap(real(file), drop); }

static const sqlite3_io_methods methods = {
    .iVersion = 2,                           /* without memory mapping, which would go around us */
    .xClose = sums_close, .xRead = sums_read, .xWrite = sums_write, .xTruncate = sums_truncate, .xSync = sums_sync,
    .xFileSize = sums_size, .xLock = sums_lock, .xUnlock = sums_unlock, .xCheckReservedLock = sums_check_lock,
    .xFileControl = sums_control, .xSectorSize = sums_sector, .xDeviceCharacteristics = sums_traits,
    .xShmMap = sums_shm_map, .xShmLock = sums_shm_lock, .xShmBarrier = sums_shm_barrier, .xShmUnmap = sums_shm_unmap,
};

/* ---- the layer ---- */

static int open_file(sqlite3_vfs *layer, const char *name, sqlite3_file *file, int flags, int *ret_flags)
{
    struct sums_file *self = (struct sums_file *)file;
    (void)layer;
    if (!(flags & SQLITE_OPEN_MAIN_DB))
        return below->xOpen(below, name, file, flags, ret_flags);
    self->base.pMethods = NULL;              /* not open: nobody closes it */
    self->kept = false;
    self->damaged = 0;
    int rc = below->xOpen(below, name, real(file), flags, ret_flags);
    if (rc == SQLITE_OK)
        self->base.pMethods = &methods;
    else if (real(file)->pMethods)
        real(file)->pMethods->xClose(real(file));
    return rc;
}

static sqlite3_vfs sums_vfs;
static bool registered;

static void make_layer(void)
{
    below = sqlite3_vfs_find(NULL);
    if (!below)
        return;
    /* All that is no opening is done by the functions below, which take their layer to be the one they belong to: they
     * use nothing of it but its size and limits. */
    sums_vfs = *below;
    sums_vfs.pNext = NULL;
    sums_vfs.zName = "tarmac-sums";
    sums_vfs.szOsFile = (int)sizeof(struct sums_file) + below->szOsFile;
    sums_vfs.xOpen = open_file;
    registered = sqlite3_vfs_register(&sums_vfs, 0) == SQLITE_OK;
}

const char *sums_layer(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_layer);
    return registered ? sums_vfs.zName : NULL;
}

int sums_reserve(sqlite3 *db)
{
    int bytes = SUMS_BYTES;
    return sqlite3_file_control(db, "main", SQLITE_FCNTL_RESERVE_BYTES, &bytes);
}

bool sums_are_kept(sqlite3 *db)
{
    bool kept = false;
    return sqlite3_file_control(db, "main", ASK_KEPT, &kept) == SQLITE_OK && kept;
}

uint64_t sums_damaged_page(sqlite3 *db)
{
    uint64_t page = 0;
    return sqlite3_file_control(db, "main", ASK_DAMAGED, &page) == SQLITE_OK ? page : 0;
}
