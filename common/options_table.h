/* What the parser of options and the writer of their documentation have in common: the walk over a
 * command's tables, and the name of an option's variable. For options.c and options_doc.c only. */
#ifndef COMMON_OPTIONS_TABLE_H
#define COMMON_OPTIONS_TABLE_H

#include <stdbool.h>

#include "common/options.h"

/* Begin with {.tables = command->tables}. */
struct option_walk {
    const struct option_spec *const *tables;
    const struct option_spec *next;
};
const struct option_spec *option_next(struct option_walk *walk);    /* NULL after the last one */

bool option_takes_value(const struct option_spec *spec);

/* The variable's name into out; false when the option has none. */
#define ENV_NAME_SIZE 64
bool option_env_name(const struct option_spec *spec, char out[ENV_NAME_SIZE]);

/* The letter of --help, unless a table uses it for something else. */
bool option_letter_is_free(const struct command_spec *command, char letter);

#endif
