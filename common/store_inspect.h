/* A store looked at from outside, without changing it: for `doctor`. Nobody may have it open meanwhile.
 * Everything in it is read, and each page, row and index checked; damage is told piece by piece, and the reading
 * goes on behind it. Blocks for as long as reading the file takes. */
#ifndef COMMON_STORE_INSPECT_H
#define COMMON_STORE_INSPECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/store.h"
#include "common/why.h"

struct store_look {
    const char *dir, *role;               /* the folder, and which store in it: role.db */
    uint32_t version;                     /* of the owner's records, as far as the caller can read them */
    /* What is sound: records in key order, then frames by batch, first index and number. Everything is lent for the
     * length of the call. NULL: not wanted. */
    void (*record)(void *arg, const char *key, const uint8_t *value, size_t len);
    void (*frame)(void *arg, const struct store_frame *frame);
    /* What is not: a part of a sentence such as "frame 3 of batch 8 doesn't match its checksum". */
    void (*damage)(void *arg, const char *what);
    void *arg;
};

struct store_facts {
    uint8_t id[16];
    uint32_t format, version;
    bool sums;                            /* its pages have checksums: format 2 on */
    uint64_t records, frames, frame_bytes;
    uint64_t purges;                      /* batches whose frames are being deleted */
    uint64_t file_bytes, log_bytes;       /* the log: what a process that was killed left to be taken in */
    uint64_t bulk_bytes;                  /* of the file of large bodies, holes included */
    uint64_t pages, free_pages;
    uint64_t damages;
};

/* STORE_OK: it was read, see facts->damages. STORE_BUSY: a process has it. STORE_DISK: it can't be read at all, is none
 * of ours, or newer. With why. */
enum store_refusal store_inspect(const struct store_look *look, struct store_facts *ret, struct why *why);

#endif
