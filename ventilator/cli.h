/* The ventilator's command line: what its commands share. Each command is a table of options, a
 * function, and for those that talk to a ventilator a loop that runs until there is an exit code. */
#ifndef VENTILATOR_CLI_H
#define VENTILATOR_CLI_H

#include <stdbool.h>
#include <stdint.h>

#include "common/loop.h"
#include "common/net.h"
#include "common/options.h"
#include "common/why.h"
#include "proto/wire.h"
#include "tarmac/client.h"
#include "tarmac/items.h"

/* Exit codes of the commands (docs/guide.md); 2, 5 and 6 are those of common/bug.h. CLI_EXIT_WORDS ends the list in --help. */
enum cli_exit { CLI_OK = 0, CLI_NOT_OK = 1, CLI_UNREACHABLE = 3, CLI_REFUSED = 4, CLI_BY_DEADLINE = 124, CLI_CANCELLED = 130 };

#define CLI_EXIT_WORDS "4 refused, 5 no memory or descriptors to begin with, 6 standard output or a file of results can't be written."

enum cli_format { FORMAT_TEXT, FORMAT_JSON, FORMAT_CSV, FORMAT_NONE };

/* All options of all commands; each command has tables for those that it takes. Durations are -1 when not given. */
struct cli_options {
    /* Where the ventilator is. */
    const char *ventilator, *keys;
    char endpoint[256];
    int64_t connect_timeout, reconnect_timeout;
    /* A batch. */
    const char *name, *handler, *key, *retry_on, *traceparent, *halt, *backoff;
    int64_t deadline, timeout, grace, min_runtime, priority;
    uint64_t retries, weight, max_running, max_output;
    struct string_list require, values;
    bool require_worker, detach, pipe;
    /* Items. */
    const char *arg_file, *range;
    struct string_list files;
    bool files_given, null, json_lines, blocks_given;
    uint64_t blocks;
    /* What comes out. */
    const char *out_dir, *out_name, *joblog;
    uint32_t verdicts;                   /* bit v: verdict v is wanted; 0: all */
    int format;
    bool format_given, wait, follow, ordered, bar, bar_given, dry_run, json, lines, no_colour;
    /* Of single commands. */
    uint64_t slots;                      /* 0: auto */
    const char *reason;
    int64_t older_than, interval;
    struct string_list tasks;
};

/* ---- options (cli_options.c) ---- */

/* cli_require_options: which workers may run a batch; `run` has one alone, without labels. */
extern const struct option_spec cli_connection_options[], cli_handler_options[], cli_require_options[], cli_batch_options[],
    cli_items_options[], cli_format_options[], cli_verdict_options[], cli_wait_options[], cli_follow_options[];

/* The words of a command line, and the items behind `:::`. Lent from argv. */
struct cli_words {
    char **command;
    size_t n_command;
    const char *const *items;
    size_t n_items;
    bool has_items;                      /* there was a ::: */
};

/* Parses argv (argv[0] is the command's name). Help and version are printed. True: go on; false: *ret_code is
 * the exit code, and a sentence was said. */
bool cli_parse(const struct command_spec *command, int argc, char **argv, struct cli_options *ret, int *ret_rest,
               bool *ret_dashes, int *ret_code);
/* The same for a command whose options go into a structure of its own, which the caller has cleared. After true the caller
 * ends it with options_release. */
bool cli_parse_into(const struct command_spec *command, int argc, char **argv, void *into, int *ret_rest, bool *ret_dashes,
                    int *ret_code);
/* `--files a b --pipe` becomes `--files=a --files=b --pipe`. A new NULL-terminated argv (free it with
 * cli_argv_free), or NULL without memory. */
char **cli_gather_files(int argc, char **argv, int *ret_argc);
void cli_argv_free(char **argv);
/* Splits what is left behind the options into command and items. 0, or why; `or_handler` ends the sentence when there
 * is nothing to run. */
int cli_split_words(const struct cli_options *o, char **rest, bool dashes, const char *or_handler, struct cli_words *ret,
                    struct why *why);
/* Which source of items was asked for. 0, or why: two were. */
int cli_items_spec(const struct cli_options *o, const struct cli_words *words, struct items_spec *ret, struct why *why);
int cli_parse_spans(const struct string_list *texts, Wire__Span ***ret_spans, size_t *ret_n, struct why *why);
void cli_free_spans(Wire__Span **spans, size_t n);
/* "failed,lost" → bits. For tables. */
int cli_parse_verdicts(void *field, const char *text, struct why *why);

/* Options of a batch as they travel. Everything is checked with the codec's own rules. */
struct cli_batch {
    Wire__Options options;
    Wire__RetryRule retry;
    Wire__HaltRule halt;
    Wire__Micros deadline, timeout;
    Wire__Range range;
    Wire__Value *values, *require;
    Wire__Value **value_list, **require_list;
    char *keys;                          /* the text of both, cut at the = */
    uint32_t codes[256];
    struct json_t *inherited;            /* values of the attempt that this process belongs to */
    Wire__Fence parent;                  /* that attempt */
    uint8_t parent_id[WIRE_ID];
};
/* elsewhere: for another ventilator than that of a handler which runs us. */
int cli_batch_build(const struct cli_options *o, const struct cli_words *words, const struct items_spec *items, bool elsewhere,
                    struct cli_batch *ret, struct why *why);
/* Inside of a handler (cli_nested.c): what the batch inherits, and, unless it goes elsewhere, its parent. 0, or why. */
int cli_nested(const struct cli_options *o, bool elsewhere, struct cli_batch *b, struct why *why);
void cli_nested_release(struct cli_batch *b);
void cli_batch_release(struct cli_batch *self);

/* ---- a session (cli.c) ---- */

struct bar;

struct cli {
    const struct cli_options *options;
    struct loop *loop;
    struct net *net;
    struct client *client;
    struct bar *bar;                     /* taken away before anything is said; may be NULL */
    void (*clear)(void *arg);            /* as well taken away, when there is one: a screen */
    void *clear_arg;
    const char *advice;                  /* what to do when the ventilator or the sink stays away; lent, NULL: nothing */
    bool over;
    int code;
};

/* Opens loop, sockets and the connection. With signals: SIGINT, SIGTERM and SIGHUP go to on_signal. 0, or a sentence was said
 * and self->code is set. */
int cli_open(struct cli *self, const struct cli_options *options, void (*on_signal)(void *arg, int number), void *arg);
int cli_connect(struct cli *self);
int cli_run_loop(struct cli *self);      /* until cli_end; returns the code */
void cli_close(struct cli *self);
void cli_end(struct cli *self, int code);                            /* the first one counts */
void cli_fail(struct cli *self, int code, const char *sentence);     /* says it and ends; later ones are silent */
void cli_fail_as(struct cli *self, enum client_end end, const char *sentence);
/* The advice from now on, of a batch that is cancelled; `out` has it, and is lent. */
void cli_advise_cancelled(struct cli *self, const char *short_id, char *out, size_t size);
/* "ventilator: sentence" on standard error. */
void cli_say(struct cli *self, const char *format, ...) __attribute__((format(printf, 2, 3)));
void cli_refuse_usage(const char *sentence);
/* The id of a new batch, on standard output at once; on standard error when that can't be written: without it nobody finds the batch. */
void cli_print_id(struct cli *self, const char *short_id);

/* ---- commands ---- */

struct cli_command {
    const struct command_spec *spec;
    int (*run)(int argc, char **argv);   /* argv[0] is the command's name; the exit code */
};

extern const struct command_spec submit_command, run_command, wait_command, results_command, status_command, list_command,
    cancel_command, extend_command, seal_command, explain_command, workers_command, drain_command, purge_command, retry_command, watch_command,
    keygen_command, doctor_command;
int submit_main(int argc, char **argv);
int run_main(int argc, char **argv);
int wait_main(int argc, char **argv);
int results_main(int argc, char **argv);
int status_main(int argc, char **argv);
int list_main(int argc, char **argv);
int cancel_main(int argc, char **argv);
int extend_main(int argc, char **argv);
int seal_main(int argc, char **argv);
int explain_main(int argc, char **argv);
int workers_main(int argc, char **argv);
int drain_main(int argc, char **argv);
int purge_main(int argc, char **argv);
int retry_main(int argc, char **argv);
int watch_main(int argc, char **argv);
int keygen_main(int argc, char **argv);
int doctor_main(int argc, char **argv);

#endif
