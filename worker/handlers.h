/* The handlers of a worker, as its operator configured them: by --handler, by a handlers file, with --limit. */
#ifndef WORKER_HANDLERS_H
#define WORKER_HANDLERS_H

#include <stddef.h>
#include <stdint.h>

#include "common/why.h"
#include "worker/agent.h"
#include "worker/limits.h"

/* What the agent needn't know of a handler. */
struct handler_setup {
    struct limits limits;
    uint32_t recycle;                /* persistent: replaced after so many tasks; 0: never */
    bool has_recycle;                /* it says so itself: --recycle is for the others */
    bool protobuf;                   /* persistent: its messages; else JSON */
};

struct handlers {
    struct agent_handler *list;      /* owned, names and words too */
    struct handler_setup *setups;    /* of the same places */
    size_t n;
    struct limits defaults;          /* also of the commands that batches bring along */
};

/* `where` is "--handler", or a file and its line; `text` is NAME=COMMAND LINE. 0, or -1 with why. */
int handlers_add_line(struct handlers *self, const char *where, const char *text, struct why *why);
/* A file: one JSON object of handlers, or one NAME=COMMAND LINE a line. */
int handlers_read_file(struct handlers *self, const char *path, struct why *why);
/* [NAME:]WHAT=VALUE, after all handlers are known. */
int handlers_limit(struct handlers *self, const char *text, struct why *why);
/* After the last limit: each handler gets those that it has not itself. */
void handlers_complete(struct handlers *self, uint32_t recycle);
/* The place of a handler by its name; -1: none, also for NULL. */
int handlers_find(const struct handlers *self, const char *name);
/* The setup of a handler by its name; of an ad-hoc command (NULL): one with the defaults. Lent. */
struct handler_setup handlers_setup(const struct handlers *self, const char *name);
void handlers_release(struct handlers *self);

#endif
