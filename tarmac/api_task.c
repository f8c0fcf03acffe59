/* What a plugin sees of a task. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tarmac/task_private.h"

#define FIRST_ROOM 256u

const void *tarmac_task_payload(const tarmac_task *self, size_t *ret_len)
{
    if (ret_len)
        *ret_len = self->payload_len;
    return self->payload;
}

/* What is made at the first question is no change that anybody sees. */
tarmac_context *tarmac_task_context(const tarmac_task *self)
{
    return self->context || !self->make_context ? self->context : self->make_context((tarmac_task *)(uintptr_t)self);
}

const char *tarmac_task_batch(const tarmac_task *self) { return self->batch; }
const char *tarmac_task_key(const tarmac_task *self)
{
    return self->key || !self->make_key ? self->key : self->make_key((tarmac_task *)(uintptr_t)self);
}

uint64_t tarmac_task_index(const tarmac_task *self) { return self->index; }
unsigned tarmac_task_attempt(const tarmac_task *self) { return self->attempt; }
unsigned tarmac_task_slot(const tarmac_task *self) { return self->slot; }

int tarmac_task_output(tarmac_task *self, const void *bytes, size_t len)
{
    if (len > TASK_OUTPUT - self->output_len)
        return TARMAC_BAD_INPUT;
    if (self->output_room - self->output_len < len) {
        size_t room = self->output_room ? 2 * self->output_room : FIRST_ROOM;
        if (room - self->output_len < len)
            room = self->output_len + len;
        uint8_t *output = realloc(self->output, room);
        if (!output)
            return TARMAC_NO_MEMORY;
        self->output = output;
        self->output_room = room;
    }
    if (len > 0)
        memcpy(self->output + self->output_len, bytes, len);
    self->output_len += len;
    return TARMAC_OK;
}

void tarmac_task_error(tarmac_task *self, const char *sentence)
{
    snprintf(self->error, sizeof self->error, "%s", sentence ? sentence : "");
}
