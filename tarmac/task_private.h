/* A plugin's task, for the host that makes it. */
#ifndef TARMAC_TASK_PRIVATE_H
#define TARMAC_TASK_PRIVATE_H

#include "tarmac/tarmac.h"

#define TASK_ERROR 1001u                   /* with its NUL */
#define TASK_OUTPUT (64u << 20)

struct tarmac_task {
    tarmac_context *context;
    const char *batch, *key;               /* key NULL: see make_key */
    /* Where most tasks don't ask for them: called at the first question. */
    tarmac_context *(*make_context)(struct tarmac_task *task);
    const char *(*make_key)(struct tarmac_task *task);
    const void *payload;
    size_t payload_len;
    uint64_t index;
    unsigned attempt, slot;

    /* What the plugin has said of it so far; the host frees the output. */
    uint8_t *output;
    size_t output_len, output_room;
    char error[TASK_ERROR];
};

#endif
