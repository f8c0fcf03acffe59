/* A command inside of a handler: the attempt that it belongs to is the parent of what it submits. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "tarmac/nested.h"
#include "ventilator/cli.h"

static bool has_value(const struct cli_batch *b, const char *key)
{
    for (size_t i = 0; i < b->options.n_values; i++)
        if (strcmp(b->values[i].key, key) == 0)
            return true;
    return false;
}

/* TARMAC_VALUES: all values of the attempt, as one JSON object. Those of the command line win. What somebody else has put
 * there is passed over. */
static void inherit_values(struct cli_batch *b)
{
    const char *text = getenv("TARMAC_VALUES"), *key;
    json_t *value;
    b->inherited = text ? json_loads(text, 0, NULL) : NULL;
    json_object_foreach(b->inherited, key, value) {
        size_t n = b->options.n_values;
        if (!json_is_string(value) || !wire_value_key_ok(key) || has_value(b, key) || n >= WIRE_VALUES)
            continue;
        wire__value__init(&b->values[n]);
        b->values[n].key = (char *)(uintptr_t)key;
        b->values[n].value = (char *)(uintptr_t)json_string_value(value);
        b->value_list[n] = &b->values[n];
        b->options.n_values = n + 1;
    }
}

/* What the attempt had left when it began: the ventilator knows the rest, and cuts to it. */
static void tighten(struct cli_batch *b)
{
    const char *budget = getenv("TARMAC_BUDGET_MS");
    struct why ignored;
    uint64_t ms;
    if (!budget || parse_u64(budget, 0, 3650ull * 86400 * 1000, &ms, &ignored) < 0)
        return;
    if (b->options.deadline && b->deadline.us <= ms * 1000)
        return;
    b->deadline.us = ms > 0 ? ms * 1000 : 1;
    b->options.deadline = &b->deadline;
}

int cli_nested(const struct cli_options *o, bool elsewhere, struct cli_batch *b, struct why *why)
{
    const char *parent = getenv("TARMAC_PARENT");
    if (!parent || *parent == '\0')
        return 0;
    if (nested_parent(parent, b->parent_id, &b->parent) < 0)
        return why_set(why, "TARMAC_PARENT '%.100s' is not what a worker makes: BATCH/INDEX/EPOCH/ATTEMPT; unset it, or leave it as it was", parent);
    inherit_values(b);
    if (!o->detach)
        tighten(b);
    if (!elsewhere)
        b->options.parent = &b->parent;
    return 0;
}

void cli_nested_release(struct cli_batch *b)
{
    json_decref(b->inherited);
}
