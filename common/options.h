/* One table of options per command: it is the parser (getopt_long), the environment, --help, the
 * man page and the bash completion. A flag `--loss-grace` is the variable TARMAC_LOSS_GRACE unless
 * `env` says otherwise; a flag wins; an empty variable counts as unset. */
#ifndef COMMON_OPTIONS_H
#define COMMON_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/why.h"

enum option_type {
    OPT_FLAG,         /* bool: --bar */
    OPT_NO_FLAG,      /* bool set to false: --no-bar, shares the offset of the flag that it undoes */
    OPT_STRING,       /* const char * (lent: argv, environment or the table's default) */
    OPT_STRINGS,      /* struct string_list: may be given several times; in the environment separated by newlines */
    OPT_DURATION,     /* int64_t ns: 250ms 30s 5m 2h 1d */
    OPT_SIZE,         /* uint64_t bytes: 64K 10M 1G */
    OPT_U64,          /* uint64_t with min and max */
    OPT_I64,          /* int64_t with min and max */
    OPT_CHOICE,       /* int: index into `choices`, a |-separated list */
    OPT_CUSTOM,       /* parse(field, text, why) */
};

struct string_list {
    const char **items;       /* owned array of lent strings */
    size_t n;
};

struct option_spec {
    const char *name;         /* long name without the dashes; NULL ends the table */
    char letter;              /* short form, or 0 */
    enum option_type type;
    size_t offset;            /* of the field in the caller's struct */
    const char *value;        /* the word for the value in --help: DIR, D, N */
    const char *preset;       /* default as text, parsed like a flag; NULL: zero (durations: -1 means "not given" only if preset says so) */
    const char *choices;      /* OPT_CHOICE: "text|json" */
    int64_t min, max;         /* OPT_U64, OPT_I64; both 0: any */
    int (*parse)(void *field, const char *text, struct why *why);   /* OPT_CUSTOM: 0 or why_set */
    const char *env;          /* NULL: TARMAC_<NAME>; "": no variable */
    const char *help;         /* one sentence; NULL: hidden from --help, man page and completion */
    size_t given_offset;      /* nonzero: offset of a bool that is set when the option was given (flag or variable) */
};

struct command_spec {
    const char *program;              /* "ventilator" */
    const char *name;                 /* "submit", or NULL for the program itself */
    const char *arguments;            /* "[options] --handler NAME | -- COMMAND {} [::: ITEM...]" */
    const char *summary;              /* one sentence */
    const char *details;              /* paragraphs for --help and the man page, or NULL */
    const struct option_spec *const *tables;   /* NULL-terminated list of tables: options can be shared */
    bool stop_at_first_argument;      /* "+" of getopt: what follows belongs to a command line */
};

enum options_result { OPTIONS_OK, OPTIONS_HELP, OPTIONS_VERSION, OPTIONS_BAD };

/* Fills `into` with defaults, the environment and argv (argv[0] is skipped; `--help` and
 * `--version` exist everywhere). On OPTIONS_OK *ret_rest is the index of the first argument that is
 * not an option; "--" is not passed over when it ends the options of a command that takes a command
 * line: `*ret_dashes` says whether it was there (it is skipped in *ret_rest). On OPTIONS_BAD `why`
 * names the flag or variable, the value and what is accepted. On HELP and VERSION nothing was
 * printed yet. On everything but OK the lists are released already. Long names are exact: no
 * abbreviations. Strings stay lent from argv and the environment. Not reentrant (getopt). */
enum options_result options_parse(const struct command_spec *command, int argc, char **argv, void *into,
                                  int *ret_rest, bool *ret_dashes, struct why *why);
void options_release(const struct command_spec *command, void *into);    /* frees string lists */

void options_help(const struct command_spec *command, FILE *out);        /* complete, with defaults and variables */
void options_man(const struct command_spec *command, FILE *out);         /* roff, section 1 (one page per program: see options_man_program) */

/* A program with commands: one man page, one completion script, one `--help` that lists them. */
struct program_spec {
    const char *name, *summary, *details;
    const struct command_spec *const *commands;      /* NULL-terminated */
};
void options_program_help(const struct program_spec *program, FILE *out);
void options_man_program(const struct program_spec *program, FILE *out);
void options_completion(const struct program_spec *program, FILE *out);  /* bash */

/* The only number parsers of the tree (the lint bans strtol and friends elsewhere). All are strict:
 * the whole text, no sign where none is accepted, no overflow. 0 or why_set: the sentence says what
 * is accepted; whoever calls puts the name and the value in front, as options_parse does. */
int parse_duration(const char *text, int64_t *ret_ns, struct why *why);
int parse_size(const char *text, uint64_t *ret_bytes, struct why *why);
int parse_u64(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct why *why);
int parse_i64(const char *text, int64_t min, int64_t max, int64_t *ret, struct why *why);

/* The shortest exact form: 1500ms, 2s, 5m. out has at least 32 bytes. */
const char *format_duration(int64_t ns, char out[32]);

#endif
