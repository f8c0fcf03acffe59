/* What was typed about a batch becomes the Options that travel. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ventilator/cli.h"

#define LONGEST (INT64_C(3650) * 86400 * NS_PER_S)     /* what the wire takes */

static int bad(struct why *why, const char *flag, const char *text, const char *accepted)
{
    return why_set(why, "--%s %.100s: %s", flag, text, accepted);
}

/* ---- durations ---- */

static int check_duration(const char *flag, int64_t ns, bool zero_too, struct why *why)
{
    char text[32];
    if (ns > LONGEST || (!zero_too && ns < NS_PER_US)) {
        format_duration(ns, text);
        return bad(why, flag, text, ns > LONGEST ? "the longest time is 3650d" : "it must be more than 0");
    }
    return 0;
}

static int set_bound(const char *flag, int64_t ns, Wire__Micros *micros, Wire__Micros **ret, struct why *why)
{
    if (ns < 0)
        return 0;
    if (check_duration(flag, ns, false, why) < 0)
        return -1;
    micros->us = (uint64_t)(ns / NS_PER_US);
    *ret = micros;
    return 0;
}

/* ---- key=value ---- */

/* Cuts each text at its = into keys[] and values. */
static int set_values(const char *flag, const struct string_list *texts, char **keys, Wire__Value *values, Wire__Value **list,
                      struct why *why)
{
    for (size_t i = 0; i < texts->n; i++) {
        const char *text = texts->items[i], *equals = strchr(text, '=');
        if (!equals)
            return bad(why, flag, text, "it is KEY=VALUE");
        size_t len = (size_t)(equals - text);
        memcpy(*keys, text, len);
        (*keys)[len] = '\0';
        if (!wire_value_key_ok(*keys))
            return bad(why, flag, text, "a key is a letter or _ and then letters, digits and _.-, at most 64 of them");
        wire__value__init(&values[i]);
        values[i].key = *keys;
        values[i].value = (char *)(uintptr_t)(equals + 1);
        list[i] = &values[i];
        for (size_t k = 0; k < i; k++)
            if (strcmp(values[k].key, values[i].key) == 0)
                return bad(why, flag, text, "this key was given before");
        *keys += len + 1;
    }
    return 0;
}

static int set_all_values(const struct cli_options *o, struct cli_batch *b, struct why *why)
{
    size_t bytes = 1;
    for (size_t i = 0; i < o->values.n; i++)
        bytes += strlen(o->values.items[i]) + 1;
    for (size_t i = 0; i < o->require.n; i++)
        bytes += strlen(o->require.items[i]) + 1;
    b->keys = malloc(bytes);
    b->values = calloc(o->values.n + 1 + WIRE_VALUES, sizeof *b->values);     /* and those that are inherited */
    b->require = calloc(o->require.n + 1, sizeof *b->require);
    b->value_list = calloc(o->values.n + 1 + WIRE_VALUES, sizeof *b->value_list);
    b->require_list = calloc(o->require.n + 1, sizeof *b->require_list);
    if (!b->keys || !b->values || !b->require || !b->value_list || !b->require_list)
        return why_set(why, "there is no memory left");
    char *keys = b->keys;
    if (set_values("value", &o->values, &keys, b->values, b->value_list, why) < 0 ||
        set_values("require", &o->require, &keys, b->require, b->require_list, why) < 0)
        return -1;
    b->options.values = b->value_list;
    b->options.n_values = o->values.n;
    b->options.require = b->require_list;
    b->options.n_require = o->require.n;
    return 0;
}

/* ---- rules ---- */

static const char retry_on_words[] = "it is a list of failed, deadline_exceeded, lost and exit codes (1 to 255), with commas between them";

static int set_retry_on(const char *text, struct cli_batch *b, struct why *why)
{
    char *copy = strdup(text), *rest = copy, *word;
    int r = copy ? 0 : why_set(why, "there is no memory left");
    while (r == 0 && (word = strsep(&rest, ","))) {
        struct why ignored;
        uint64_t code;
        if (strcmp(word, "failed") == 0)
            b->retry.on_failed = true;
        else if (strcmp(word, "deadline_exceeded") == 0)
            b->retry.on_deadline_exceeded = true;
        else if (strcmp(word, "lost") == 0)
            b->retry.on_lost = true;
        else if (parse_u64(word, 1, 255, &code, &ignored) < 0 || b->retry.n_on_codes == 255)
            r = bad(why, "retry-on", text, retry_on_words);
        else
            b->retry.on_codes[b->retry.n_on_codes++] = (uint32_t)code;
    }
    free(copy);
    return r;
}

/* "2" or "1.5" in thousandths. */
static int parse_factor(const char *text, uint64_t *ret_milli)
{
    struct why ignored;
    char whole[16], part[4] = "000";
    const char *point = strchr(text, '.');
    size_t len = point ? (size_t)(point - text) : strlen(text);
    uint64_t a, b = 0;
    if (len >= sizeof whole || (point && (strlen(point + 1) == 0 || strlen(point + 1) > 3)))
        return -1;
    memcpy(whole, text, len);
    whole[len] = '\0';
    if (point)
        memcpy(part, point + 1, strlen(point + 1));
    if (parse_u64(whole, 0, 1000, &a, &ignored) < 0 || parse_u64(part, 0, 999, &b, &ignored) < 0)
        return -1;
    *ret_milli = a * 1000 + b;
    return 0;
}

static int set_backoff(const char *text, struct cli_batch *b, struct why *why)
{
    static const char accepted[] = "it is a first pause, a factor from 1 up and a longest pause, such as 1s,2,60s";
    struct why ignored;
    char copy[96], *rest = copy;
    int64_t first, most;
    uint64_t milli;
    if (strlen(text) >= sizeof copy)
        return bad(why, "backoff", text, accepted);
    snprintf(copy, sizeof copy, "%s", text);
    const char *a = strsep(&rest, ","), *factor = strsep(&rest, ","), *c = strsep(&rest, ",");
    if (!factor || !c || rest || parse_duration(a, &first, &ignored) < 0 || parse_factor(factor, &milli) < 0 ||
        parse_duration(c, &most, &ignored) < 0 || milli < 1000 || most < first || most > LONGEST)
        return bad(why, "backoff", text, accepted);
    b->retry.backoff_us = (uint64_t)(first / NS_PER_US);
    b->retry.backoff_factor_milli = (uint32_t)milli;
    b->retry.backoff_max_us = (uint64_t)(most / NS_PER_US);
    return 0;
}

static int set_halt(const char *text, struct cli_batch *b, struct why *why)
{
    static const char accepted[] = "it is never, now,fail=N, soon,fail=N, or one of these with a percentage, such as soon,fail=10%";
    struct why ignored;
    char number[24];
    uint64_t n;
    if (strcmp(text, "never") == 0)
        return 0;
    b->halt.when = strncmp(text, "now,fail=", 9) == 0 ? WIRE__HALT_WHEN__HALT_NOW : WIRE__HALT_WHEN__HALT_SOON;
    const char *at = b->halt.when == WIRE__HALT_WHEN__HALT_NOW ? text + 9 : text + 10;
    if (b->halt.when == WIRE__HALT_WHEN__HALT_SOON && strncmp(text, "soon,fail=", 10) != 0)
        return bad(why, "halt", text, accepted);
    size_t len = strlen(at);
    bool percent = len > 0 && at[len - 1] == '%';
    if (len - percent >= sizeof number)
        return bad(why, "halt", text, accepted);
    memcpy(number, at, len - percent);
    number[len - percent] = '\0';
    if (parse_u64(number, 1, percent ? 100 : WIRE_TASKS, &n, &ignored) < 0)
        return bad(why, "halt", text, accepted);
    b->halt.failures = percent ? 0 : n;
    b->halt.percent = percent ? (uint32_t)n : 0;
    return 0;
}

/* A broken one that somebody else left in the environment is as good as none: W3C says to begin anew. */
static int set_trace(const struct cli_options *o, struct cli_batch *b, struct why *why)
{
    const char *inherited = getenv("TRACEPARENT"), *state = getenv("TRACESTATE");
    if (o->traceparent && !wire_traceparent_ok(o->traceparent))
        return bad(why, "traceparent", o->traceparent, "it is 00-<32 hex digits>-<16 hex digits>-<2 hex digits>, in lower case");
    if (o->traceparent) {
        b->options.traceparent = (char *)(uintptr_t)o->traceparent;
    } else if (inherited && wire_traceparent_ok(inherited)) {
        b->options.traceparent = (char *)(uintptr_t)inherited;
        if (state && strlen(state) <= WIRE_TRACE)
            b->options.tracestate = (char *)(uintptr_t)state;
    }
    return 0;
}

/* ---- all of it ---- */

static void start(struct cli_batch *b)
{
    *b = (struct cli_batch){0};
    wire__options__init(&b->options);
    wire__retry_rule__init(&b->retry);
    wire__halt_rule__init(&b->halt);
    wire__micros__init(&b->deadline);
    wire__micros__init(&b->timeout);
    wire__range__init(&b->range);
    b->retry.on_codes = b->codes;
}

static void set_plain(const struct cli_options *o, const struct cli_words *words, struct cli_batch *b)
{
    Wire__Options *w = &b->options;
    if (o->name)
        w->name = (char *)(uintptr_t)o->name;
    if (o->handler)
        w->handler = (char *)(uintptr_t)o->handler;
    w->command = words->command;
    w->n_command = words->n_command;
    w->pipe = o->pipe;
    w->grace_us = (uint64_t)(o->grace / NS_PER_US);
    w->min_runtime_us = (uint64_t)(o->min_runtime / NS_PER_US);
    b->retry.retries = (uint32_t)o->retries;
    w->retry = &b->retry;
    w->halt = &b->halt;
    w->priority = (int32_t)o->priority;
    w->weight = (uint32_t)o->weight;
    w->max_running = o->max_running;
    w->require_worker = o->require_worker;
    w->detach = o->detach;
    w->max_output = o->max_output;
}

/* The codec knows all limits; what it says of a field is a sentence for people too. */
static int check_as_the_wire_does(const struct cli_batch *b, struct why *why)
{
    struct wire_writer writer = {0};
    struct wire_arena *arena = wire_arena_new();
    const Wire__Options *read;
    int r = -1;
    if (!arena || wire_write(&writer, &b->options.base) < 0)
        why_set(why, "there is no memory left");
    else
        r = wire_read_options(arena, writer.bytes, writer.len, &read, why);
    wire_writer_release(&writer);
    wire_arena_destroy(&arena);
    return r;
}

int cli_batch_build(const struct cli_options *o, const struct cli_words *words, const struct items_spec *items, bool elsewhere,
                    struct cli_batch *ret, struct why *why)
{
    start(ret);
    set_plain(o, words, ret);
    if (o->max_output > WIRE_OUTPUT) {
        why_set(why, "--max-output: at most %uM of a task's output are kept", WIRE_OUTPUT >> 20);
        goto fail;
    }
    if (check_duration("grace", o->grace, true, why) < 0 || check_duration("min-runtime", o->min_runtime, true, why) < 0 ||
        set_bound("deadline", o->deadline, &ret->deadline, &ret->options.deadline, why) < 0 ||
        set_bound("timeout", o->timeout, &ret->timeout, &ret->options.timeout, why) < 0 || set_all_values(o, ret, why) < 0 ||
        set_retry_on(o->retry_on, ret, why) < 0 || set_backoff(o->backoff, ret, why) < 0 || set_halt(o->halt, ret, why) < 0 ||
        set_trace(o, ret, why) < 0 || cli_nested(o, elsewhere, ret, why) < 0)
        goto fail;
    if (items->kind == ITEMS_RANGE) {
        ret->range.first = (int64_t)items->first;
        ret->range.count = items->count;
        ret->range.step = 1;
        ret->options.range = &ret->range;
    }
    if (o->key && strlen(o->key) > WIRE_NAME) {
        why_set(why, "--key: it has more than %u bytes", WIRE_NAME);
        goto fail;
    }
    if (check_as_the_wire_does(ret, why) == 0)
        return 0;
fail:
    cli_batch_release(ret);
    return -1;
}

void cli_batch_release(struct cli_batch *self)
{
    cli_nested_release(self);
    free(self->keys);
    free(self->values);
    free(self->require);
    free(self->value_list);
    free(self->require_list);
    *self = (struct cli_batch){0};
}
