/* Limits of a handler: what each of its attempts may use. How each is enforced is the keeper's matter. */
#ifndef WORKER_LIMITS_H
#define WORKER_LIMITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/why.h"

enum limit_kind { LIMIT_MEMORY, LIMIT_CPU, LIMIT_PROCESSES, LIMIT_FILES, LIMIT_KINDS };

struct limits {
    uint64_t of[LIMIT_KINDS];      /* bytes, ns, processes and threads, open files of each process; 0: none */
};

const char *limit_name(enum limit_kind kind);

/* One as a person writes it, `memory=512M`. 0, or -1 with why, which doesn't repeat the text. */
int limits_parse(struct limits *self, const char *text, struct why *why);
/* The same with its name and its value apart. */
int limits_parse_one(struct limits *self, const char *name, const char *value, struct why *why);
void limits_inherit(struct limits *self, const struct limits *from);     /* those that it has not itself */
/* For people: "memory limit of 512M". */
const char *limit_describe(enum limit_kind kind, uint64_t value, char *out, size_t size);

#endif
