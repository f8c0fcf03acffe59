/* What SQLite's codes mean here, and in words. For store_sql.c and store_inspect.c. */
#ifndef COMMON_STORE_ERROR_H
#define COMMON_STORE_ERROR_H

#include <stdbool.h>
#include <stdint.h>

#include "common/why.h"

struct store_error {
    const char *path;
    int rc;                                  /* extended */
    int system_error;                        /* errno, 0: none is known */
    uint64_t page;                           /* that was found damaged, see store_sums.h */
};

/* A lack of room that showed up while writing, which may be tried again. */
bool store_error_is_full(const struct store_error *self);
/* The primary code, where SQLite's own is no help. */
int store_error_kind(const struct store_error *self);
/* SQLite's own words, or ours where it has none; written into `out` when they have to be made. */
const char *store_error_words(const struct store_error *self, char out[80]);
/* Says why what was tried was refused: "opened", "written". Returns -1. */
int store_error_tell(const struct store_error *self, const char *doing, struct why *why);

#endif
