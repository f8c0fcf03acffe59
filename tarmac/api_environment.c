/* The context that a worker gives to a command: from its environment. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "common/clock.h"
#include "common/options.h"
#include "proto/wire.h"
#include "tarmac/context_private.h"

void context_add(tarmac_context **context, const char *key, const char *value, bool raw)
{
    if (!*context || !value)
        return;
    errno = 0;
    tarmac_context *child = raw ? context_with_raw(*context, key, value) : tarmac_with_value(*context, key, value);
    if (!child && errno == EINVAL)
        return;    /* somebody else has put it there */
    tarmac_release(context);
    *context = child;
}

/* TARMAC_VALUES is all of them as one JSON object: TARMAC_VALUE_<NAME> has lost the case of the keys. */
static void add_values(tarmac_context **context, const char *text)
{
    json_t *values = text ? json_loads(text, 0, NULL) : NULL, *value;
    const char *key;
    json_object_foreach(values, key, value)
        context_add(context, key, json_string_value(value), false);
    json_decref(values);
}

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && *value != '\0' ? value : NULL;
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
    context_add(&context, "traceparent", variable("TRACEPARENT"), false);
    context_add(&context, "tracestate", variable("TRACESTATE"), false);
    context_add(&context, CONTEXT_PARENT, variable("TARMAC_PARENT"), true);
    return context;
}
