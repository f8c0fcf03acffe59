/* A power cut, tried on paper. A preloaded shim (tests/fault/powercut_shim.c) records what a process does to
 * the files of one folder; from the record the folder is rebuilt as a disk could show it when the power
 * had gone at any moment: what was synced is there, of all else any part may be.
 *
 * The record is one file for all processes that write to it: each entry is appended by one call, so
 * their order is the order in which things happened. `powercut_mark` adds what somebody was told. */
#ifndef TESTS_SUPPORT_POWERCUT_H
#define TESTS_SUPPORT_POWERCUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- the record ---- */

enum powercut_kind {
    POWERCUT_OPEN = 1,          /* text: label/name */
    POWERCUT_OPEN_FOLDER,       /* text: label/ */
    POWERCUT_WRITE,
    POWERCUT_TRUNCATE,          /* offset: the new length */
    POWERCUT_ALLOCATE,          /* offset: the least length */
    POWERCUT_UNLINK,            /* text: label/name */
    POWERCUT_RENAME,            /* text: label/old, NUL, label/new */
    POWERCUT_SYNC,              /* a sync begins … */
    POWERCUT_SYNCED,            /* … and is over, of the same thread */
    POWERCUT_MARK,              /* text: what was told */
};

#define POWERCUT_MAGIC 0x54757063u

struct powercut_entry {         /* as it lies in the file; `len` bytes follow */
    uint32_t magic, kind;
    int32_t pid, tid, fd;
    uint32_t len;
    uint64_t offset;
};

/* Appends a mark to the record at `path`. 0 or -errno. */
int powercut_mark(const char *path, const char *text, size_t len);

/* ---- the disk as it could be ---- */

struct powercut;

enum powercut_how {
    POWERCUT_LOST,              /* nothing that was not synced */
    POWERCUT_ALL,               /* everything */
    POWERCUT_SOME,              /* any part of it: whole, missing or torn, in any order */
    POWERCUT_TORN,              /* everything, but the last write is torn */
    POWERCUT_HOWS
};

/* Reads the record at `path`. NULL: it can't be read, and a sentence was printed. */
struct powercut *powercut_open(const char *path);
void powercut_close(struct powercut **self_p);

size_t powercut_entries(const struct powercut *self);
enum powercut_kind powercut_kind(const struct powercut *self, size_t at);
const char *powercut_text(const struct powercut *self, size_t at, size_t *ret_len);
/* What a write wrote where; false: the entry is no write to a file whose name ends in `name_end`. */
bool powercut_is_write(const struct powercut *self, size_t at, const char *name_end, uint64_t *ret_offset, size_t *ret_len);

/* For the test of the test: a disk that drops syncs. Before the first powercut_to. */
enum powercut_lie { POWERCUT_HONEST, POWERCUT_NO_SYNC, POWERCUT_NO_FOLDER_SYNC };
void powercut_lie(struct powercut *self, enum powercut_lie lie);

/* Goes on to the moment before entry `at` (which never falls). */
void powercut_to(struct powercut *self, size_t at);

/* Writes the files of the folder with this label into `dir`, which is there and empty, as the disk could show
 * them if the power went now. `seed` decides what is random, the length of the pieces among it (512 or 4,096 bytes). */
int powercut_rebuild(struct powercut *self, const char *label, const char *dir, enum powercut_how how, uint64_t seed);

#endif
