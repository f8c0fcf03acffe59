/* The options of a batch as C programs give them, and what its context adds: values, trace, parent, deadline. */
#include "tarmac/api_private.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "tarmac/nested.h"

#define GRACE_NS (2 * NS_PER_S)
#define MAX_OUTPUT (UINT64_C(1) << 20)
#define LONGEST (INT64_C(3650) * 86400 * NS_PER_S)     /* what the wire takes */

static char *lent(const char *text) { return (char *)(uintptr_t)(text ? text : ""); }
static uint64_t us(int64_t ns) { return (uint64_t)(ns / NS_PER_US); }

/* ---- what the context says ---- */

struct adding { struct api_options *to; size_t room; bool too_many; };

static void add_value(void *arg, const char *key, const char *value)
{
    struct adding *self = arg;
    struct api_options *to = self->to;
    if (strcmp(key, "traceparent") == 0) {
        to->options.traceparent = lent(value);
    } else if (strcmp(key, "tracestate") == 0) {
        to->options.tracestate = lent(value);
    } else if (to->n_values == self->room) {
        self->too_many = true;
    } else {
        Wire__Value *v = &to->values[to->n_values];
        wire__value__init(v);
        v->key = lent(key);
        v->value = lent(value);
        to->value_list[to->n_values++] = v;
    }
}

static int set_values(tarmac_context *context, struct api_options *ret, tarmac_failure *failure)
{
    struct adding adding = {.to = ret, .room = WIRE_VALUES};
    ret->values = calloc(WIRE_VALUES, sizeof *ret->values);
    ret->value_list = calloc(WIRE_VALUES, sizeof(Wire__Value *));
    if (!ret->values || !ret->value_list)
        return failed(failure, TARMAC_NO_MEMORY, "there is no memory left");
    context_values(context, add_value, &adding);
    if (adding.too_many)
        return failed(failure, TARMAC_BAD_INPUT, "the context has more than %u values, which is what a batch takes", WIRE_VALUES);
    ret->options.values = ret->value_list;
    ret->options.n_values = ret->n_values;
    return TARMAC_OK;
}

static int set_context(tarmac_context *context, const struct tarmac_options *from, struct api_options *ret, tarmac_failure *failure)
{
    int64_t left = tarmac_left(context);
    int err = tarmac_err(context);
    const char *parent = tarmac_value(context, CONTEXT_PARENT);
    if (err != TARMAC_OK)
        return failed(failure, err, "%s before the batch was submitted", tarmac_code_name(err));
    if (from->deadline > 0 && from->deadline < left)
        left = from->deadline;
    if (left <= LONGEST) {
        ret->deadline.us = us(left) > 0 ? us(left) : 1;
        ret->options.deadline = &ret->deadline;
    }
    if (parent && nested_parent(parent, ret->parent_id, &ret->parent) < 0)
        return failed(failure, TARMAC_BAD_INPUT, "TARMAC_PARENT '%.100s' is not what a worker makes: BATCH/INDEX/EPOCH/ATTEMPT", parent);
    ret->options.parent = parent ? &ret->parent : NULL;
    return set_values(context, ret, failure);
}

/* ---- what the program says ---- */

static int set_labels(const char *const *require, struct api_options *ret, tarmac_failure *failure)
{
    size_t n = 0, bytes = 1;
    for (; require && require[n]; n++)
        bytes += strlen(require[n]) + 1;
    ret->require = calloc(n + 1, sizeof *ret->require);
    ret->require_list = calloc(n + 1, sizeof(Wire__Value *));
    ret->keys = malloc(bytes);
    if (!ret->require || !ret->require_list || !ret->keys)
        return failed(failure, TARMAC_NO_MEMORY, "there is no memory left");
    char *at = ret->keys;
    for (size_t i = 0; i < n; i++) {
        const char *equals = strchr(require[i], '=');
        if (!equals)
            return failed(failure, TARMAC_BAD_INPUT, "require '%.100s': it is KEY=VALUE", require[i]);
        size_t len = (size_t)(equals - require[i]);
        memcpy(at, require[i], len);
        at[len] = '\0';
        wire__value__init(&ret->require[i]);
        ret->require[i].key = at;
        ret->require[i].value = lent(equals + 1);
        ret->require_list[i] = &ret->require[i];
        at += len + 1;
    }
    ret->options.require = ret->require_list;
    ret->options.n_require = n;
    return TARMAC_OK;
}

static void set_retries(const struct tarmac_options *from, struct api_options *ret)
{
    ret->retry.retries = from->retries;
    ret->retry.on_failed = true;
    ret->retry.on_deadline_exceeded = from->retry_on_timeout;
    ret->retry.on_lost = from->retry_on_lost;
    ret->retry.backoff_us = us(from->backoff > 0 ? from->backoff : NS_PER_S);
    ret->retry.backoff_factor_milli = from->backoff_factor_milli ? from->backoff_factor_milli : 2000;
    ret->retry.backoff_max_us = us(from->backoff_most > 0 ? from->backoff_most : 60 * NS_PER_S);
    if (ret->retry.backoff_max_us < ret->retry.backoff_us)
        ret->retry.backoff_max_us = ret->retry.backoff_us;
    ret->options.retry = &ret->retry;
    ret->options.halt = &ret->halt;
}

static void set_plain(const struct tarmac_options *from, struct api_options *ret)
{
    Wire__Options *w = &ret->options;
    w->name = lent(from->name);
    w->handler = lent(from->handler);
    w->command = (char **)(uintptr_t)from->command;
    for (w->n_command = 0; from->command && from->command[w->n_command];)
        w->n_command++;
    w->pipe = from->pipe;
    w->grace_us = us(from->grace > 0 ? from->grace : GRACE_NS);
    w->min_runtime_us = us(from->min_runtime > 0 ? from->min_runtime : 0);
    if (from->timeout > 0) {
        ret->timeout.us = us(from->timeout);
        w->timeout = &ret->timeout;
    }
    w->priority = from->priority;
    w->weight = from->weight ? from->weight : 1;
    w->max_running = from->max_running;
    w->max_output = from->max_output ? from->max_output : MAX_OUTPUT;
    w->require_worker = from->require_worker;
    w->detach = from->detach;
    if (from->range_count > 0) {
        ret->range.first = from->range_first;
        ret->range.count = from->range_count;
        ret->range.step = 1;
        w->range = &ret->range;
    }
}

/* The codec knows all limits, and says which is broken. */
static int check(const struct api_options *self, tarmac_failure *failure)
{
    struct wire_writer writer = {0};
    struct wire_arena *arena = wire_arena_new();
    const Wire__Options *read;
    struct why why;
    int code = TARMAC_OK;
    if (!arena || wire_write(&writer, &self->options.base) < 0)
        code = failed(failure, TARMAC_NO_MEMORY, "there is no memory left");
    else if (wire_read_options(arena, writer.bytes, writer.len, &read, &why) < 0)
        code = failed(failure, TARMAC_BAD_INPUT, "%s", why.text);
    wire_writer_release(&writer);
    wire_arena_destroy(&arena);
    return code;
}

int api_options_make(tarmac_context *context, const struct tarmac_options *from, struct api_options *ret, tarmac_failure *failure)
{
    *ret = (struct api_options){0};
    if (from->size != sizeof *from)
        return failed(failure, TARMAC_BAD_INPUT, "the options have %zu bytes, and %zu in this release: begin with TARMAC_OPTIONS",
                      from->size, sizeof *from);
    wire__options__init(&ret->options);
    wire__retry_rule__init(&ret->retry);
    wire__halt_rule__init(&ret->halt);
    wire__micros__init(&ret->deadline);
    wire__micros__init(&ret->timeout);
    wire__range__init(&ret->range);
    wire__fence__init(&ret->parent);
    set_plain(from, ret);
    set_retries(from, ret);
    int code = set_labels(from->require, ret, failure);
    if (code == TARMAC_OK)
        code = set_context(context, from, ret, failure);
    if (code == TARMAC_OK && from->key && strlen(from->key) > WIRE_NAME)
        code = failed(failure, TARMAC_BAD_INPUT, "the key has more than %u bytes", WIRE_NAME);
    if (code == TARMAC_OK)
        code = check(ret, failure);
    if (code != TARMAC_OK)
        api_options_release(ret);
    return code;
}

void api_options_release(struct api_options *self)
{
    free(self->values);
    free(self->value_list);
    free(self->require);
    free(self->require_list);
    free(self->keys);
    *self = (struct api_options){0};
}
