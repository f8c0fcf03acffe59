/* Command lines as an operator writes them, cut into words by rules of our own; no shell is involved.
 *
 *   blanks separate words                      'as it is', blanks and backslashes too
 *   \x is x                                    "like that, but \" is " and \\ is \"
 *
 * Nothing else has a meaning: no variables, no wildcards, no redirection. */
#ifndef WORKER_WORDS_H
#define WORKER_WORDS_H

#include <stddef.h>

#include "common/why.h"

/* At least one word; NULL-terminated, in one block that one free() releases. 0, or -1 with why: an open quote, nothing at
 * all, or no memory. */
int worker_words_split(const char *line, const char ***ret_words, size_t *ret_n, struct why *why);

#endif
