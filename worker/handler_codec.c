#include "worker/handler_codec.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "proto/handler.h"
#include "tarmac/base64.h"

#define CODE_MOST 255

/* ---- bytes and frames ---- */

bool handler_bytes_reserve(struct handler_bytes *self, size_t wanted)
{
    if (self->room - self->len >= wanted)
        return true;
    size_t room = self->room < 4096 ? 4096 : 2 * self->room;
    if (room - self->len < wanted)
        room = self->len + wanted;
    uint8_t *data = realloc(self->data, room);
    if (!data)
        return false;
    self->data = data;
    self->room = room;
    return true;
}

void handler_bytes_release(struct handler_bytes *self)
{
    free(self->data);
    *self = (struct handler_bytes){0};
}

uint32_t handler_frame_length(const uint8_t head[HANDLER_FRAME_HEAD])
{
    return (uint32_t)head[0] << 24 | (uint32_t)head[1] << 16 | (uint32_t)head[2] << 8 | head[3];
}

/* Room for a frame; returns where its message goes, or NULL. */
static uint8_t *begin_frame(struct handler_bytes *to, size_t len)
{
    if (len > UINT32_MAX || !handler_bytes_reserve(to, HANDLER_FRAME_HEAD + len))
        return NULL;
    uint8_t *at = to->data + to->len;
    for (int i = 0; i < 4; i++)
        at[i] = (uint8_t)(len >> (24 - 8 * i));
    to->len += HANDLER_FRAME_HEAD + len;
    return at + HANDLER_FRAME_HEAD;
}

static int put_json(struct handler_bytes *to, json_t *root)
{
    char *text = root ? json_dumps(root, JSON_COMPACT) : NULL;
    uint8_t *at = text ? begin_frame(to, strlen(text)) : NULL;
    if (at)
        memcpy(at, text, strlen(text));
    free(text);
    json_decref(root);
    return at ? 0 : -ENOMEM;
}

static int put_protobuf(struct handler_bytes *to, const ProtobufCMessage *message)
{
    uint8_t *at = begin_frame(to, protobuf_c_message_get_packed_size(message));
    if (!at)
        return -ENOMEM;
    protobuf_c_message_pack(message, at);
    return 0;
}

/* ---- a task ---- */

/* As text where it is UTF-8, else as base64: false when there is no memory. */
static bool set_bytes(json_t *root, const char *key, const void *bytes, size_t len)
{
    char name[32];
    json_t *text = json_stringn(bytes ? bytes : "", len);
    if (text)
        return json_object_set_new(root, key, text) == 0;
    char *base = malloc(base64_len(len) + 1);
    if (!base)
        return false;
    base64_encode(bytes, len, base);
    snprintf(name, sizeof name, "%s_base64", key);
    text = json_stringn_nocheck(base, base64_len(len));
    free(base);
    return json_object_set_new(root, name, text) == 0;
}

static json_t *values_of(const Tarmac__Handler__Task *task)
{
    json_t *values = json_object();
    for (size_t i = 0; values && i < task->n_values; i++)
        json_object_set_new(values, task->values[i]->key, json_string(task->values[i]->value));
    return values;
}

static json_t *json_of_task(const Tarmac__Handler__Task *task, uint64_t id, const void *payload, size_t payload_len)
{
    json_t *root = json_pack("{s:s, s:I, s:s, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:o}", "type", "task", "id", (json_int_t)id,
                             "batch", task->batch, "index", (json_int_t)task->index, "attempt", (json_int_t)task->attempt,
                             "slot", (json_int_t)task->slot, "key", task->key, "trace_id", task->trace_id,
                             "traceparent", task->traceparent, "tracestate", task->tracestate, "ventilator", task->ventilator,
                             "parent", task->parent, "values", values_of(task));
    json_t *budget = task->budget_ms < 0 ? json_null() : json_integer(task->budget_ms);
    if (root && (json_object_set_new(root, "budget_ms", budget) < 0 || !set_bytes(root, "payload", payload, payload_len))) {
        json_decref(root);
        return NULL;
    }
    return root;
}

int handler_put_task(struct handler_bytes *to, bool protobuf, uint64_t id, const void *task, size_t task_len, const void *payload, size_t payload_len,
                     uint64_t shared)
{
    Tarmac__Handler__Task *read = tarmac__handler__task__unpack(NULL, task_len, task);
    int result = -EINVAL;
    if (!read)
        return result;
    if (protobuf) {
        Tarmac__Handler__ToHandler message = TARMAC__HANDLER__TO_HANDLER__INIT;
        message.what_case = TARMAC__HANDLER__TO_HANDLER__WHAT_TASK;
        message.task = read;
        ProtobufCBinaryData before = read->payload;
        read->id = id;
        read->shared = shared;
        read->payload = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)payload, .len = payload_len};
        result = put_protobuf(to, &message.base);
        read->payload = before;
    } else {
        result = put_json(to, json_of_task(read, id, payload, payload_len));
    }
    tarmac__handler__task__free_unpacked(read, NULL);
    return result;
}

int handler_put_cancel(struct handler_bytes *to, bool protobuf, uint64_t id)
{
    if (!protobuf)
        return put_json(to, json_pack("{s:s, s:I}", "type", "cancel", "id", (json_int_t)id));
    Tarmac__Handler__Cancel cancel = TARMAC__HANDLER__CANCEL__INIT;
    cancel.id = id;
    Tarmac__Handler__ToHandler message = TARMAC__HANDLER__TO_HANDLER__INIT;
    message.what_case = TARMAC__HANDLER__TO_HANDLER__WHAT_CANCEL;
    message.cancel = &cancel;
    return put_protobuf(to, &message.base);
}

/* ---- a result ---- */

int handler_put_result(struct handler_bytes *to, const struct handler_result *from)
{
    Tarmac__Handler__Result result = TARMAC__HANDLER__RESULT__INIT;
    result.id = from->id;
    result.ok = from->ok;
    result.output = (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)from->output, .len = from->output_len};
    result.error = (char *)(uintptr_t)from->error;
    result.code = from->code;
    result.fault = from->fault;
    result.shared = from->shared;
    Tarmac__Handler__FromHandler message = TARMAC__HANDLER__FROM_HANDLER__INIT;
    message.what_case = TARMAC__HANDLER__FROM_HANDLER__WHAT_RESULT;
    message.result = &result;
    return put_protobuf(to, &message.base);
}

static int set_code(struct handler_result *ret, int64_t code, struct why *why)
{
    if (code < 0 || code > CODE_MOST)
        return why_set(why, "its result has code %lld; a code is 0 to 255", (long long)code);
    ret->code = ret->ok ? 0 : code == 0 ? 1 : (int)code;
    return 0;
}

static int read_protobuf(const uint8_t *frame, size_t len, struct handler_result *ret, struct why *why)
{
    Tarmac__Handler__FromHandler *message = tarmac__handler__from_handler__unpack(NULL, len, frame);
    ret->message = message;
    if (!message || message->what_case != TARMAC__HANDLER__FROM_HANDLER__WHAT_RESULT)
        return why_set(why, "its message of %zu bytes is no FromHandler with a result", len);
    const Tarmac__Handler__Result *result = message->result;
    ret->id = result->id;
    ret->ok = result->ok;
    ret->output = result->output.data;
    ret->output_len = result->output.len;
    ret->shared = result->shared;
    ret->error = result->error;
    ret->fault = result->fault && !result->ok;
    return set_code(ret, result->code, why);
}

static int read_output(json_t *root, struct handler_result *ret, struct why *why)
{
    const json_t *text = json_object_get(root, "output"), *base = json_object_get(root, "output_base64");
    if (text && base)
        return why_set(why, "its result has output and output_base64; one of them is enough");
    if ((text && !json_is_string(text)) || (base && !json_is_string(base)))
        return why_set(why, "the output of its result is no string");
    if (text) {
        ret->output = (const uint8_t *)json_string_value(text);
        ret->output_len = json_string_length(text);
    } else if (base) {
        size_t n = json_string_length(base);
        ret->decoded = malloc(n / 4 * 3 + 1);
        ssize_t got = ret->decoded ? base64_decode(json_string_value(base), n, ret->decoded) : -1;
        if (got < 0)
            return why_set(why, "output_base64 of its result is not base64");
        ret->output = ret->decoded;
        ret->output_len = (size_t)got;
    }
    return 0;
}

static int read_json(const uint8_t *frame, size_t len, struct handler_result *ret, struct why *why)
{
    json_error_t error;
    json_t *root = json_loadb((const char *)frame, len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    ret->message = root;
    if (!root)
        return why_set(why, "its message of %zu bytes is no JSON: %s", len, error.text);
    const char *type = json_string_value(json_object_get(root, "type"));
    const json_t *id = json_object_get(root, "id"), *ok = json_object_get(root, "ok");
    const json_t *text = json_object_get(root, "error"), *code = json_object_get(root, "code");
    const json_t *fault = json_object_get(root, "fault");
    if (!type || strcmp(type, "result") != 0)
        return why_set(why, "its message has no \"type\": \"result\"");
    if (!json_is_integer(id) || json_integer_value(id) < 0 || !json_is_boolean(ok))
        return why_set(why, "its result lacks the \"id\" of the task, a number, or \"ok\", true or false");
    if ((text && !json_is_string(text) && !json_is_null(text)) || (code && !json_is_integer(code) && !json_is_null(code)))
        return why_set(why, "its result has an \"error\" that is no string, or a \"code\" that is no number");
    ret->id = (uint64_t)json_integer_value(id);
    ret->ok = json_is_true(ok);
    if (fault && !json_is_boolean(fault))
        return why_set(why, "its result has a \"fault\" that is neither true nor false");
    ret->error = json_is_string(text) ? json_string_value(text) : "";
    ret->fault = json_is_true(fault) && !ret->ok;
    if (set_code(ret, json_is_integer(code) ? json_integer_value(code) : 0, why) < 0)
        return -1;
    return read_output(root, ret, why);
}

int handler_read_result(bool protobuf, const uint8_t *frame, size_t len, struct handler_result *ret, struct why *why)
{
    *ret = (struct handler_result){.protobuf = protobuf, .error = ""};
    int result = protobuf ? read_protobuf(frame, len, ret, why) : read_json(frame, len, ret, why);
    if (result < 0)
        handler_result_release(ret);
    return result;
}

void handler_result_release(struct handler_result *self)
{
    if (self->message && self->protobuf)
        tarmac__handler__from_handler__free_unpacked(self->message, NULL);
    else if (self->message)
        json_decref(self->message);
    free(self->decoded);
    *self = (struct handler_result){0};
}
