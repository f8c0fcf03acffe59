/* The frames between a keeper and a persistent handler: four bytes of length, the most significant first, and a message of
 * proto/handler.proto as JSON or as protobuf. What a handler sends is foreign: it is checked, and what is wrong is said. */
#ifndef WORKER_HANDLER_CODEC_H
#define WORKER_HANDLER_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/why.h"

#define HANDLER_FRAME_HEAD 4u
#define HANDLER_FRAME_MOST (96u << 20)     /* the largest output, as base64, and what stands around it */

struct handler_bytes {                     /* {0}: empty */
    uint8_t *data;
    size_t len, room;
};
bool handler_bytes_reserve(struct handler_bytes *self, size_t wanted);    /* room for so many behind those that are there */
void handler_bytes_release(struct handler_bytes *self);

/* Each appends one frame. `task` is a packed Task without id and payload; `shared`: the length of a payload that is in
 * memory instead. 0; -ENOMEM; -EINVAL: it is none. */
int handler_put_task(struct handler_bytes *to, bool protobuf, uint64_t id, const void *task, size_t task_len, const void *payload, size_t payload_len,
                     uint64_t shared);
int handler_put_cancel(struct handler_bytes *to, bool protobuf, uint64_t id);
struct handler_result;
int handler_put_result(struct handler_bytes *to, const struct handler_result *from);    /* for a handler of ours: as protobuf */

struct handler_result {
    uint64_t id;
    bool ok;
    int code;                              /* 0 to 255, 0 exactly when ok */
    const uint8_t *output;
    size_t output_len;
    uint64_t shared;                       /* the length of an output that is in memory instead; 0: it is here */
    const char *error;                     /* "": none */
    bool fault;                            /* the handler itself can't work, which is no fault of the task's */
    void *message;                         /* what these point into */
    void *decoded;
    bool protobuf;
};

uint32_t handler_frame_length(const uint8_t head[HANDLER_FRAME_HEAD]);
/* A message without its length. 0, and *ret is to be released; -1 with why: it is no result. */
int handler_read_result(bool protobuf, const uint8_t *frame, size_t len, struct handler_result *ret, struct why *why);
void handler_result_release(struct handler_result *self);    /* {0} is fine */

#endif
