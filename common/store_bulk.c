/* Space is counted in blocks. Everything before `end` is in use or a gap; gaps are in order, never touch each other,
 * and never touch the end. They are kept in memory only, and follow at each start from what is referred to.
 *
 * What has been written for a commit that was undone is given back, and so is what a commit has deleted, once it is on
 * the disk: never before, since after a power cut the rows would be there again. */
#include "common/store_bulk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK 4096                           /* a body begins at one: writing it can't tear what lies beside it */
#define PIECE ((size_t)1 << 20)
#define LEN_BITS 28
#define LEN_MOST ((UINT64_C(1) << LEN_BITS) - 1)
#define AT_MOST ((UINT64_C(1) << (63 - LEN_BITS)) - 1)

struct space { uint64_t at, n; };            /* blocks */

struct spaces {
    struct space *of;
    size_t n, room;
};

struct bulk {
    int fd;
    bool direct;                             /* past the page cache, by way of `piece` */
    uint8_t *piece;                          /* PIECE bytes, on a block's boundary; NULL: none was needed yet */
    uint64_t end;
    uint64_t last_byte;                      /* behind the last body, at the start */
    struct spaces gaps, written, dropped;    /* the last two: of the commit under way */
    bool unsynced;
};

/* ---- references ---- */

static uint64_t blocks_of(uint64_t len)
{
    return (len + BLOCK - 1) / BLOCK;
}

static uint64_t at_of(int64_t reference)
{
    return (uint64_t)reference >> LEN_BITS;
}

size_t bulk_len(int64_t reference)
{
    return (size_t)((uint64_t)reference & LEN_MOST);
}

bool bulk_wants(size_t len)
{
    return len >= BULK_LEAST && len <= LEN_MOST;
}

/* ---- spaces ---- */

static int make_room(struct spaces *self)
{
    if (self->n < self->room)
        return 0;
    size_t room = self->room ? 2 * self->room : 16;
    struct space *of = reallocarray(self->of, room, sizeof *of);
    if (!of)
        return -ENOMEM;
    self->of = of;
    self->room = room;
    return 0;
}

static int add(struct spaces *self, uint64_t at, uint64_t n)
{
    if (make_room(self) < 0)
        return -ENOMEM;
    self->of[self->n++] = (struct space){at, n};
    return 0;
}

static void take_away(struct spaces *self, size_t i)
{
    memmove(&self->of[i], &self->of[i + 1], (--self->n - i) * sizeof *self->of);
}

/* The first gap that is large enough, else the end. */
static uint64_t find_space(struct bulk *self, uint64_t n)
{
    struct spaces *gaps = &self->gaps;
    for (size_t i = 0; i < gaps->n; i++) {
        struct space *gap = &gaps->of[i];
        if (gap->n < n)
            continue;
        uint64_t at = gap->at;
        *gap = (struct space){at + n, gap->n - n};
        if (gap->n == 0)
            take_away(gaps, i);
        return at;
    }
    uint64_t at = self->end;
    self->end += n;
    return at;
}

/* The gaps from `i` on lie behind `at`. */
static size_t first_behind(const struct spaces *gaps, uint64_t at)
{
    size_t low = 0, high = gaps->n;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (gaps->of[middle].at > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* Without memory it stays unused until the next start. */
static void make_gap(struct bulk *self, struct space space)
{
    struct spaces *gaps = &self->gaps;
    size_t i = first_behind(gaps, space.at);
    if (i < gaps->n && space.at + space.n == gaps->of[i].at) {
        space.n += gaps->of[i].n;
        take_away(gaps, i);
    }
    if (i > 0 && gaps->of[i - 1].at + gaps->of[i - 1].n == space.at) {
        gaps->of[i - 1].n += space.n;
        return;
    }
    if (make_room(gaps) < 0)
        return;
    memmove(&gaps->of[i + 1], &gaps->of[i], (gaps->n++ - i) * sizeof *gaps->of);
    gaps->of[i] = space;
}

static int compare(const void *a, const void *b)
{
    const struct space *x = a, *y = b;
    return (x->at > y->at) - (x->at < y->at);
}

/* The disk gets it back: it stays a hole, or the file ends before it. Where that can't be done it is used again all the same. */
static void give_back(struct bulk *self, struct spaces *list)
{
    uint64_t end = self->end;
    if (list->n > 1)
        qsort(list->of, list->n, sizeof *list->of, compare);
    for (size_t i = 0, next; i < list->n; i = next) {
        struct space space = list->of[i];
        for (next = i + 1; next < list->n && list->of[next].at == space.at + space.n; next++)
            space.n += list->of[next].n;
        make_gap(self, space);
        if (space.at + space.n < end)
            (void)!fallocate(self->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(space.at * BLOCK), (off_t)(space.n * BLOCK));
    }
    const struct space *last = self->gaps.n > 0 ? &self->gaps.of[self->gaps.n - 1] : NULL;
    if (!last || last->at + last->n != self->end)
        return;
    self->end = last->at;
    self->gaps.n--;
    (void)!ftruncate(self->fd, (off_t)(self->end * BLOCK));
}

/* ---- opening ---- */

struct bulk *bulk_new(void)
{
    struct bulk *self = calloc(1, sizeof *self);
    if (self)
        self->fd = -1;
    return self;
}

void bulk_destroy(struct bulk **self_p)
{
    struct bulk *self = *self_p;
    if (!self)
        return;
    *self_p = NULL;
    if (self->fd >= 0)
        close(self->fd);
    free(self->piece);
    free(self->gaps.of);
    free(self->written.of);
    free(self->dropped.of);
    free(self);
}

int bulk_refer(struct bulk *self, int64_t reference)
{
    uint64_t at = at_of(reference), len = bulk_len(reference);
    if (reference < 0 || at < self->end || len == 0)
        return -EINVAL;
    if (at > self->end && add(&self->gaps, self->end, at - self->end) < 0)
        return -ENOMEM;
    self->end = at + blocks_of(len);
    self->last_byte = at * BLOCK + len;
    return 0;
}

int bulk_open_file(const char *database, int flags)
{
    char path[4200];
    if (snprintf(path, sizeof path, "%s-bulk", database) >= (int)sizeof path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    return open(path, flags | O_CLOEXEC, 0600);
}

/* What is written once and read once has no use for the page cache: filling it is most of the cost of writing, and it
 * drives out what has. Where the file system can't do without, it is used. */
static bool go_direct(struct bulk *self)
{
    int flags = fcntl(self->fd, F_GETFL);
    if (!self->piece)
        self->piece = aligned_alloc(BLOCK, PIECE);
    return self->piece && flags >= 0 && fcntl(self->fd, F_SETFL, flags | O_DIRECT) == 0;
}

static void go_indirect(struct bulk *self)
{
    int flags = fcntl(self->fd, F_GETFL);
    if (flags >= 0)
        (void)fcntl(self->fd, F_SETFL, flags & ~O_DIRECT);
    self->direct = false;
}

int bulk_open(struct bulk *self, const char *database)
{
    struct stat found;
    self->fd = bulk_open_file(database, O_RDWR | O_CREAT);
    if (self->fd < 0 || fstat(self->fd, &found) < 0)
        return -errno;
    if ((uint64_t)found.st_size < self->last_byte)
        return -EINVAL;
    self->direct = go_direct(self);
    /* What was written for a commit that never was. It does no harm if it stays. */
    if ((uint64_t)found.st_size > self->end * BLOCK)
        (void)!ftruncate(self->fd, (off_t)(self->end * BLOCK));
    return 0;
}

/* ---- writing ---- */

/* A piece of a body, filled up to whole blocks: what lies behind it there is nobody's. */
static ssize_t write_piece(struct bulk *self, const uint8_t *data, size_t len, off_t at)
{
    size_t part = len < PIECE ? len : PIECE, whole = blocks_of(part) * BLOCK;
    memcpy(self->piece, data, part);
    memset(self->piece + part, 0, whole - part);
    ssize_t n = pwrite(self->fd, self->piece, whole, at);
    return n > (ssize_t)part ? (ssize_t)part : n;
}

/* Also behind a write that came to its end within a block, nothing goes directly any more. */
static bool was_too_direct(struct bulk *self, ssize_t n)
{
    if (n >= 0 || errno != EINVAL || !self->direct)
        return false;
    go_indirect(self);
    return true;
}

static int write_all(struct bulk *self, const uint8_t *data, size_t len, off_t at)
{
    while (len > 0) {
        ssize_t n = self->direct ? write_piece(self, data, len, at) : pwrite(self->fd, data, len, at);
        if (was_too_direct(self, n) || (n < 0 && errno == EINTR))
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        data += n, at += n, len -= (size_t)n;
    }
    return 0;
}

int bulk_write(struct bulk *self, const void *data, size_t len, int64_t *ret_reference)
{
    if (make_room(&self->written) < 0)
        return -ENOMEM;
    uint64_t n = blocks_of(len), at = find_space(self, n);
    self->written.of[self->written.n++] = (struct space){at, n};
    if (at > AT_MOST - n)
        return -EFBIG;
    self->unsynced = true;
    *ret_reference = (int64_t)(at << LEN_BITS | len);
    return write_all(self, data, len, (off_t)(at * BLOCK));
}

int bulk_sync(struct bulk *self)
{
    if (!self->unsynced)
        return 0;
    self->unsynced = false;
    return fdatasync(self->fd) < 0 ? -errno : 0;
}

int bulk_drop(struct bulk *self, int64_t reference)
{
    return add(&self->dropped, at_of(reference), blocks_of(bulk_len(reference)));
}

size_t bulk_dropped(const struct bulk *self)
{
    size_t blocks = 0;
    for (size_t i = 0; i < self->dropped.n; i++)
        blocks += self->dropped.of[i].n;
    return blocks * BLOCK;
}

void bulk_settle(struct bulk *self, enum bulk_outcome outcome)
{
    if (outcome == BULK_COMMITTED)
        give_back(self, &self->dropped);
    else if (outcome == BULK_UNDONE)
        give_back(self, &self->written);
    self->written.n = self->dropped.n = 0;
}

/* ---- reading ---- */

int bulk_read_from(int fd, int64_t reference, uint8_t *out, size_t *ret_len)
{
    size_t len = bulk_len(reference);
    off_t at = (off_t)(at_of(reference) * BLOCK);
    *ret_len = 0;
    while (*ret_len < len) {
        ssize_t n = pread(fd, out + *ret_len, len - *ret_len, at + (off_t)*ret_len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        *ret_len += (size_t)n;
    }
    return 0;
}

static ssize_t read_piece(struct bulk *self, uint8_t *out, size_t len, off_t at)
{
    size_t part = len < PIECE ? len : PIECE;
    ssize_t n = pread(self->fd, self->piece, blocks_of(part) * BLOCK, at);
    if (n > (ssize_t)part)
        n = (ssize_t)part;
    if (n > 0)
        memcpy(out, self->piece, (size_t)n);
    return n;
}

int bulk_read(struct bulk *self, int64_t reference, uint8_t *out, size_t *ret_len)
{
    size_t len = bulk_len(reference);
    off_t at = (off_t)(at_of(reference) * BLOCK);
    *ret_len = 0;
    while (*ret_len < len) {
        size_t left = len - *ret_len;
        off_t from = at + (off_t)*ret_len;
        ssize_t n = self->direct ? read_piece(self, out + *ret_len, left, from) : pread(self->fd, out + *ret_len, left, from);
        if (was_too_direct(self, n) || (n < 0 && errno == EINTR))
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            break;
        *ret_len += (size_t)n;
    }
    return 0;
}
