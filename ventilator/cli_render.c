/* Results as people and programs read them. */
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tarmac/base64.h"
#include "ventilator/cli_output.h"

/* ---- bytes ---- */

static bool make_room(struct text *self, size_t more)
{
    if (self->room - self->len >= more)
        return true;
    size_t room = self->room < 4096 ? 4096 : self->room;
    while (room - self->len < more)
        room *= 2;
    uint8_t *bytes = self->broken ? NULL : realloc(self->bytes, room);
    if (!bytes) {
        self->broken = true;
        return false;
    }
    self->bytes = bytes;
    self->room = room;
    return true;
}

void text_add(struct text *self, const void *bytes, size_t len)
{
    if (len == 0 || !make_room(self, len))
        return;
    memcpy(self->bytes + self->len, bytes, len);
    self->len += len;
}

void text_say(struct text *self, const char *format, ...)
{
    char line[2048];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (n > 0)
        text_add(self, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
}

void text_release(struct text *self)
{
    free(self->bytes);
    *self = (struct text){0};
}

/* ---- JSON ---- */

static int add_dumped(const char *bytes, size_t len, void *arg)
{
    text_add(arg, bytes, len);
    return 0;
}

/* `key` when the bytes are text, else `key`_base64. */
static void set_bytes(json_t *object, const char *key, const uint8_t *bytes, size_t len)
{
    char other[32];
    json_t *text = json_stringn(len ? (const char *)bytes : "", len);
    if (text) {
        json_object_set_new(object, key, text);
        return;
    }
    char *encoded = malloc(base64_len(len) + 1);
    if (!encoded)
        return;
    base64_encode(bytes, len, encoded);
    snprintf(other, sizeof other, "%s_base64", key);
    json_object_set_new(object, other, json_stringn_nocheck(encoded, base64_len(len)));
    free(encoded);
}

static void set_values(json_t *object, Wire__Value *const *values, size_t n)
{
    for (size_t i = 0; i < n; i++)
        json_object_set_new(object, values[i]->key, json_string(values[i]->value));
}

static json_t *all_values(const struct render_batch *batch, const struct stream_task *task)
{
    json_t *values = json_object();
    set_values(values, batch->values, batch->n_values);
    set_values(values, task->values, task->n_values);
    return values;
}

/* With one decimal, as in docs/guide.md. */
static json_t *milliseconds(uint64_t us) { return json_real((double)(us / 100) / 10); }

static void set_outcome(json_t *object, const struct render_batch *batch, const struct stream_task *task)
{
    char trace_id[33];
    wire_trace_id(batch->traceparent, trace_id);
    json_object_set_new(object, "batch", json_string(batch->short_id));
    json_object_set_new(object, "index", json_integer((json_int_t)task->index));
    json_object_set_new(object, "verdict", json_string(wire_verdict_name(task->verdict)));
    json_object_set_new(object, "attempts", json_integer(task->attempts));
    json_object_set_new(object, "worker", task->worker[0] ? json_string(task->worker) : json_null());
    json_object_set_new(object, "exit", task->has_code ? json_integer(task->code) : json_null());
    json_object_set_new(object, "signal", task->signal ? json_integer(task->signal) : json_null());
    json_object_set_new(object, "queued_ms", milliseconds(task->queued_us));
    json_object_set_new(object, "run_ms", milliseconds(task->run_us));
    json_object_set_new(object, "trace_id", json_string(trace_id));
    json_object_set_new(object, "values", all_values(batch, task));
}

void render_json(struct text *out, const struct render_batch *batch, const struct stream_task *task)
{
    const char *reason = wire_reason_name(task->reason);
    json_t *object = json_object();
    if (!object) {
        out->broken = true;
        return;
    }
    set_outcome(object, batch, task);
    set_bytes(object, "stdout", task->output, task->output_len);
    set_bytes(object, "stderr", task->errors, task->errors_len);
    json_object_set_new(object, "reason", reason ? json_string(reason) : json_null());
    if (task->sentence[0])
        json_object_set_new(object, "sentence", json_string(task->sentence));
    if (task->output_cut || task->errors_cut)
        json_object_set_new(object, "truncated", json_true());
    if (json_dump_callback(object, add_dumped, out, JSON_COMPACT | JSON_REAL_PRECISION(15)) < 0)
        out->broken = true;
    text_add(out, "\n", 1);
    json_decref(object);
}

/* ---- CSV ---- */

void render_csv_header(struct text *out)
{
    text_say(out, "batch,index,verdict,attempts,worker,exit,signal,queued_ms,run_ms,trace_id,values,stdout,stderr,reason\r\n");
}

static void add_field(struct text *out, const void *bytes, size_t len)
{
    const char *s = bytes;
    bool quote = false;
    for (size_t i = 0; i < len && !quote; i++)
        quote = s[i] == ',' || s[i] == '"' || s[i] == '\n' || s[i] == '\r';
    text_add(out, ",\"", quote ? 2 : 1);
    if (!quote) {
        text_add(out, s, len);
        return;
    }
    for (size_t i = 0, from = 0; i < len; i++)
        if (s[i] == '"' || i + 1 == len) {
            text_add(out, s + from, i + 1 - from);
            if (s[i] == '"')
                text_add(out, "\"", 1);
            from = i + 1;
        }
    text_add(out, "\"", 1);
}

void render_csv(struct text *out, const struct render_batch *batch, const struct stream_task *task)
{
    char trace_id[33];
    const char *reason = wire_reason_name(task->reason);
    json_t *values = all_values(batch, task);
    char *values_text = json_dumps(values, JSON_COMPACT);
    wire_trace_id(batch->traceparent, trace_id);
    text_say(out, "%s,%" PRIu64 ",%s,%" PRIu32, batch->short_id, task->index, wire_verdict_name(task->verdict), task->attempts);
    add_field(out, task->worker, strlen(task->worker));
    text_say(out, task->has_code ? ",%" PRId32 : ",", task->code);
    text_say(out, task->signal ? ",%" PRIu32 : ",", task->signal);
    text_say(out, ",%" PRIu64 ".%" PRIu64 ",%" PRIu64 ".%" PRIu64 ",%s", task->queued_us / 1000, task->queued_us / 100 % 10,
             task->run_us / 1000, task->run_us / 100 % 10, trace_id);
    add_field(out, values_text ? values_text : "{}", values_text ? strlen(values_text) : 2);
    add_field(out, task->output, task->output_len);
    add_field(out, task->errors, task->errors_len);
    text_say(out, ",%s\r\n", reason ? reason : "");
    free(values_text);
    json_decref(values);
}

/* ---- for people ---- */

void render_sentence(struct text *out, const struct stream_task *task)
{
    const char *reason = wire_reason_name(task->reason);
    text_say(out, "ventilator: task %" PRIu64 " %s", task->index, wire_verdict_name(task->verdict));
    if (task->sentence[0])
        text_say(out, ": %s", task->sentence);
    else if (task->signal)
        text_say(out, ": signal %" PRIu32, task->signal);
    else if (task->has_code && task->code != 0)
        text_say(out, ": exit code %" PRId32, task->code);
    else if (reason)
        text_say(out, ": %s", reason);
    text_add(out, "\n", 1);
}

int cli_exit_code(const Wire__StreamEnd *end)
{
    uint64_t ok = end->n_counts > WIRE__VERDICT__OK ? end->counts[WIRE__VERDICT__OK] : 0;
    if (end->whole_cancelled)
        return CLI_CANCELLED;
    if (end->by_deadline > 0)
        return CLI_BY_DEADLINE;
    return end->complete && ok == end->recorded ? CLI_OK : CLI_NOT_OK;
}
