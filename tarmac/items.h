/* Where tasks come from: one source of items, read as they are asked for, with memory that doesn't
 * follow the length of the input. Items keep the order of the input.
 *
 * With a loop nothing here blocks: a pipe or terminal is read when it has something, a file a
 * bounded piece at a time. Without one (loop NULL, for a dry run) reading waits. */
#ifndef TARMAC_ITEMS_H
#define TARMAC_ITEMS_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buf.h"
#include "common/loop.h"
#include "common/why.h"
#include "proto/wire.h"

enum items_kind {
    ITEMS_WORDS,         /* the words are the payloads */
    ITEMS_LINES,         /* `path`, separated by `separator` */
    ITEMS_JSON_LINES,    /* `path`, one object a line */
    ITEMS_BLOCKS,        /* `path`, cut at line ends into pieces of at most block_size (a longer line stays whole) */
    ITEMS_FILES,         /* the words are names of files: the content is the payload, the name the value `file` */
    ITEMS_RANGE,         /* the numbers from `first` on, `count` of them */
    ITEMS_CALLED,        /* what the owner's `next` gives; after ITEMS_WAIT it calls submission_ready itself */
};

enum items_result {
    ITEMS_ITEM,
    ITEMS_MORE,              /* nothing yet, but this turn has read enough: ask again in the next */
    ITEMS_WAIT,              /* nothing yet: ready() will be called */
    ITEMS_END,
    ITEMS_BAD,               /* why names the source, the line and what would be right; it stays so */
};

struct item {
    struct slice payload;    /* lent until the next call; with a buf it can be kept without a copy */
    uint64_t timeout_us;     /* 0: none of its own */
    Wire__Value **values;    /* lent until the next call */
    size_t n_values;
};

struct items_spec {
    enum items_kind kind;
    const char *const *words;
    size_t n_words;
    const char *path;    /* NULL or "-": standard input */
    char separator;
    uint64_t block_size;
    uint64_t first, count;
    enum items_result (*next)(void *arg, struct item *ret, struct why *why);     /* with the `arg` of items_new */
};

struct items;

/* Lends the spec's words and path for as long as it lives. `ready(arg)` is called after items_next said
 * ITEMS_WAIT, when it is worth asking again. NULL: why names the file and what is wrong; files of
 * ITEMS_FILES are all looked at before the first is read, so that a wrong name stops everything early. */
struct items *items_new(struct loop *loop, const struct items_spec *spec, void (*ready)(void *arg), void *arg,
                        struct why *why);
void items_destroy(struct items **self_p);

/* The largest payload that is accepted (WIRE_PAYLOAD until told). -1: why names a file that is larger already. */
int items_limit(struct items *self, uint64_t max_payload, struct why *why);

enum items_result items_next(struct items *self, struct item *ret, struct why *why);

/* After ITEMS_BAD: an item has more than the limit (and isn't merely malformed). */
bool items_too_large(const struct items *self);

/* How many items items_next has given. */
uint64_t items_given(const struct items *self);

#endif
