/* Private to tarmac/items*.c. */
#ifndef TARMAC_ITEMS_PRIVATE_H
#define TARMAC_ITEMS_PRIVATE_H

#include <jansson.h>

#include "tarmac/items.h"

#define ITEMS_READ (64u * 1024u)           /* bytes of one read of a stream */
#define ITEMS_FILE_READ (1024u * 1024u)    /* bytes of a file that one call reads */

struct items {
    struct items_spec spec;
    struct loop *loop;
    struct loop_watch watch;
    void (*ready)(void *arg);
    void *arg;
    uint64_t max_payload, given;
    bool too_large;
    struct why broken;         /* why it is ITEMS_BAD for good; empty: it isn't */

    /* A stream: bytes[from, to) are read and not given yet; up to `seen` there is no separator. */
    int fd;
    bool own_fd, ended;
    uint8_t *bytes;
    size_t from, to, room, seen;
    uint64_t line;             /* the last one given, from 1 */

    /* The file that is being read. */
    int file_fd;
    struct buf *file;
    size_t filled;

    json_t *object;            /* of the line given last: its strings are lent */
    uint8_t *decoded;
    Wire__Value value[WIRE_VALUES], *values[WIRE_VALUES];
    char number[24];
};

/* Reads the object of one line into *ret. ITEMS_ITEM or ITEMS_BAD; the sentence says what is wrong in the object. */
enum items_result items_json(struct items *self, const uint8_t *line, size_t len, struct item *ret, struct why *why);
void items_json_release(struct items *self);

#endif
