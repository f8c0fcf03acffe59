#include "worker/limits.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common/clock.h"
#include "common/options.h"

#define LEAST_MEMORY (1u << 20)    /* a program can't even be loaded with less */
#define LEAST_FILES 4u             /* its three and one */
#define MOST_COUNT 4194304u        /* pids of Linux */

static const char *const names[LIMIT_KINDS] = {
    [LIMIT_MEMORY] = "memory", [LIMIT_CPU] = "cpu", [LIMIT_PROCESSES] = "processes", [LIMIT_FILES] = "files",
};

const char *limit_name(enum limit_kind kind) { return names[kind]; }

static int parse_value(enum limit_kind kind, const char *text, uint64_t *ret, struct why *why)
{
    int64_t ns = 0;
    switch (kind) {
    case LIMIT_MEMORY:
        if (parse_size(text, ret, why) < 0)
            return -1;
        return *ret >= LEAST_MEMORY ? 0 : why_set(why, "a memory limit has at least 1M");
    case LIMIT_CPU:
        if (parse_duration(text, &ns, why) < 0)
            return -1;
        *ret = (uint64_t)ns;
        return ns >= NS_PER_MS ? 0 : why_set(why, "a limit of CPU time has at least 1ms");
    case LIMIT_PROCESSES: return parse_u64(text, 1, MOST_COUNT, ret, why);
    case LIMIT_FILES: return parse_u64(text, LEAST_FILES, MOST_COUNT, ret, why);
    case LIMIT_KINDS: break;
    }
    return -1;
}

int limits_parse_one(struct limits *self, const char *name, const char *value, struct why *why)
{
    struct why detail = {""};
    uint64_t n = 0;
    for (int kind = 0; kind < LIMIT_KINDS; kind++) {
        if (strcmp(name, names[kind]) != 0)
            continue;
        if (parse_value((enum limit_kind)kind, value, &n, &detail) < 0)
            return why_set(why, "%s=%.100s: %s", name, value, detail.text);
        self->of[kind] = n;
        return 0;
    }
    return why_set(why, "'%.60s' is no limit; there are memory=SIZE, cpu=DURATION, processes=N and files=N", name);
}

int limits_parse(struct limits *self, const char *text, struct why *why)
{
    char name[64];
    const char *equals = strchr(text, '=');
    size_t len = equals ? (size_t)(equals - text) : 0;
    if (len == 0 || len >= sizeof name)
        return why_set(why, "a limit is memory=SIZE, cpu=DURATION, processes=N or files=N");
    snprintf(name, sizeof name, "%.*s", (int)len, text);
    return limits_parse_one(self, name, equals + 1, why);
}

void limits_inherit(struct limits *self, const struct limits *from)
{
    for (int kind = 0; kind < LIMIT_KINDS; kind++)
        if (self->of[kind] == 0)
            self->of[kind] = from->of[kind];
}

const char *limit_describe(enum limit_kind kind, uint64_t value, char *out, size_t size)
{
    char text[32];
    if (kind == LIMIT_MEMORY && value % (1u << 20) == 0)
        snprintf(out, size, "memory limit of %" PRIu64 "M", value >> 20);
    else if (kind == LIMIT_CPU)
        snprintf(out, size, "limit of CPU time of %s", format_duration((int64_t)value, text));
    else
        snprintf(out, size, "%s limit of %" PRIu64, names[kind], value);
    return out;
}
