/* The context that a worker gives to a command: from its environment. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "common/clock.h"
#include "common/options.h"
#include "proto/wire.h"
#include "tarmac/context_private.h"

/* *context becomes its own child with a value; it is gone when there is no memory. What can't be sent is left out:
 * somebody else has put it there. */
static void add(tarmac_context **context, const char *key, const char *value, bool raw)
{
    if (!*context || !value || *value == '\0')
        return;
    errno = 0;
    tarmac_context *child = raw ? context_with_raw(*context, key, value) : tarmac_with_value(*context, key, value);
    if (!child && errno == EINVAL)
        return;
    tarmac_release(context);
    *context = child;
}

/* TARMAC_VALUES is all of them as one JSON object: TARMAC_VALUE_<NAME> has lost the case of the keys. */
static void add_values(tarmac_context **context, const char *text)
{
    json_t *values = text ? json_loads(text, 0, NULL) : NULL, *value;
    const char *key;
    json_object_foreach(values, key, value)
        add(context, key, json_string_value(value), false);
    json_decref(values);
}

static tarmac_context *bounded(void)
{
    const char *budget = getenv("TARMAC_BUDGET_MS");
    struct why ignored;
    uint64_t ms;
    if (budget && parse_u64(budget, 0, INT64_MAX / (uint64_t)NS_PER_MS, &ms, &ignored) == 0)
        return tarmac_with_timeout(tarmac_background(), (int64_t)ms * NS_PER_MS);
    return tarmac_with_cancel(tarmac_background());
}

tarmac_context *tarmac_from_environment(void)
{
    tarmac_context *context = bounded();
    add_values(&context, getenv("TARMAC_VALUES"));
    add(&context, "traceparent", getenv("TRACEPARENT"), false);
    add(&context, "tracestate", getenv("TRACESTATE"), false);
    add(&context, CONTEXT_PARENT, getenv("TARMAC_PARENT"), true);
    return context;
}
