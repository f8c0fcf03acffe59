/* The options that the commands share, and what is left of a command line behind them. */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bug.h"
#include "ventilator/cli.h"

#define AT(field) offsetof(struct cli_options, field)

const struct option_spec cli_connection_options[] = {
    {.name = "ventilator", .type = OPT_STRING, .offset = AT(ventilator), .value = "ENDPOINT", .preset = "tcp://127.0.0.1:5555",
     .help = "Where the ventilator listens for clients; the port may be left out."},
    {.name = "keys", .type = OPT_STRING, .offset = AT(keys), .value = "DIR",
     .help = "A client's folder of what 'ventilator keygen' made, for a ventilator that has keys."},
    {.name = "connect-timeout", .type = OPT_DURATION, .offset = AT(connect_timeout), .value = "D", .preset = "10s",
     .help = "How long the first contact may take."},
    {.name = "reconnect-timeout", .type = OPT_DURATION, .offset = AT(reconnect_timeout), .value = "D", .preset = "60s",
     .help = "How long a ventilator or sink that was there may be away."},
    {.name = NULL},
};

const struct option_spec cli_handler_options[] = {
    {.name = "handler", .type = OPT_STRING, .offset = AT(handler), .value = "NAME",
     .help = "What the workers run for each task, by the name that they know; or give a command behind --."},
    {.name = NULL},
};

const struct option_spec cli_batch_options[] = {
    {.name = "name", .type = OPT_STRING, .offset = AT(name), .value = "TEXT", .help = "A name for people."},
    {.name = "key", .type = OPT_STRING, .offset = AT(key), .value = "TEXT", .env = "TARMAC_SUBMISSION_KEY",
     .help = "Your own word for this submission: the same again continues or returns the same batch."},
    {.name = "deadline", .type = OPT_DURATION, .offset = AT(deadline), .value = "D", .preset = "-1",
     .help = "Time for the whole batch."},
    {.name = "timeout", .type = OPT_DURATION, .offset = AT(timeout), .value = "D", .preset = "-1",
     .help = "Time for each attempt."},
    {.name = "grace", .type = OPT_DURATION, .offset = AT(grace), .value = "D", .preset = "2s",
     .help = "Time between SIGTERM and SIGKILL when an attempt is stopped."},
    {.name = "min-runtime", .type = OPT_DURATION, .offset = AT(min_runtime), .value = "D", .preset = "0",
     .help = "An attempt with less time left is not started."},
    {.name = "retries", .type = OPT_U64, .offset = AT(retries), .value = "N", .preset = "0", .max = 1000000,
     .help = "Further tries of a task after its first."},
    {.name = "retry-on", .type = OPT_STRING, .offset = AT(retry_on), .value = "WHAT,...", .preset = "failed",
     .help = "What is tried again: failed, deadline_exceeded (an attempt's timeout), lost, or exit codes."},
    {.name = "backoff", .type = OPT_STRING, .offset = AT(backoff), .value = "D,FACTOR,D", .preset = "1s,2,60s",
     .help = "Pause before the first further try, its factor from try to try, and its most."},
    {.name = "priority", .type = OPT_I64, .offset = AT(priority), .value = "N", .preset = "0", .min = -1000000, .max = 1000000,
     .help = "Batches of higher priority go first."},
    {.name = "weight", .type = OPT_U64, .offset = AT(weight), .value = "N", .preset = "1", .min = 1, .max = 1000000,
     .help = "Share among batches of one priority."},
    {.name = "max-running", .type = OPT_U64, .offset = AT(max_running), .value = "N", .preset = "0",
     .help = "At most so many attempts at a time; 0: as many as there is room for."},
    {.name = "value", .type = OPT_STRINGS, .offset = AT(values), .value = "KEY=VALUE",
     .help = "A value that travels with each task; handlers see TARMAC_VALUE_<KEY>."},
    {.name = "traceparent", .type = OPT_STRING, .offset = AT(traceparent), .value = "TP",
     .help = "W3C trace context; without it that of the variable TRACEPARENT, else one is made."},
    {.name = "detach", .type = OPT_FLAG, .offset = AT(detach), .help = "The batch outlives the attempt that submits it."},
    {.name = "halt", .type = OPT_STRING, .offset = AT(halt), .value = "POLICY", .preset = "never",
     .help = "When to stop the batch: never, now,fail=N or soon,fail=N (let running ones finish); N% of the tasks works too."},
    {.name = "max-output", .type = OPT_SIZE, .offset = AT(max_output), .value = "SIZE", .preset = "1M",
     .help = "How much of a task's standard output is kept."},
    {.name = "pipe", .type = OPT_FLAG, .offset = AT(pipe),
     .help = "Items go to the command's standard input instead of its command line."},
    {.name = "dry-run", .type = OPT_FLAG, .offset = AT(dry_run), .help = "Print the command lines that would be run, and run nothing."},
    {.name = NULL},
};

const struct option_spec cli_items_options[] = {
    {.name = "arg-file", .letter = 'a', .type = OPT_STRING, .offset = AT(arg_file), .value = "FILE",
     .help = "Read items from FILE instead of standard input."},
    {.name = "null", .letter = '0', .type = OPT_FLAG, .offset = AT(null), .help = "Items end with NUL instead of a new line."},
    {.name = "range", .type = OPT_STRING, .offset = AT(range), .value = "A-B", .help = "The numbers from A to B are the items."},
    {.name = "files", .type = OPT_STRINGS, .offset = AT(files), .given_offset = AT(files_given), .value = "FILE",
     .help = "The content of each FILE (several may follow) is an item, its name is the value 'file'."},
    {.name = "json-lines", .type = OPT_FLAG, .offset = AT(json_lines),
     .help = "Each line is an object: payload or payload_base64, and if wanted timeout and values."},
    {.name = "blocks", .type = OPT_SIZE, .offset = AT(blocks), .given_offset = AT(blocks_given), .value = "SIZE",
     .help = "Cut the input at line ends into items of at most SIZE; a line that is longer is an item of its own."},
    {.name = NULL},
};

#define BAR_OPTIONS \
    {.name = "bar", .type = OPT_FLAG, .offset = AT(bar), .given_offset = AT(bar_given), \
     .help = "Show progress on standard error: a bar on a terminal (the default there), else a line every few seconds."}, \
    {.name = "no-bar", .type = OPT_NO_FLAG, .offset = AT(bar), .given_offset = AT(bar_given), .help = "Show no progress."}

const struct option_spec cli_format_options[] = {
    {.name = "ordered", .type = OPT_FLAG, .offset = AT(ordered), .help = "Results in the order of the items, not as they end."},
    {.name = "format", .type = OPT_CHOICE, .offset = AT(format), .given_offset = AT(format_given), .value = "text|json|csv|none",
     .preset = "text", .choices = "text|json|csv|none",
     .help = "text: each task's standard output; json: one object a line; with --out-dir the default is none."},
    {.name = "out-dir", .type = OPT_STRING, .offset = AT(out_dir), .value = "DIR",
     .help = "Write each task's standard output to a file in DIR, and its standard error, if any, to one that ends in .err."},
    {.name = "out-name", .type = OPT_STRING, .offset = AT(out_name), .value = "TEMPLATE", .preset = "{#}.out",
     .help = "Names of these files: {} {.} {/} {/.} stand for the value 'file' (see --files) and its parts, {#} for index + 1. Where two tasks would have the same, the later one gets its number into it."},
    {.name = NULL},
};

const struct option_spec cli_require_options[] = {
    {.name = "require", .type = OPT_STRINGS, .offset = AT(require), .value = "KEY=VALUE",
     .help = "A label that a worker must have."},
    {.name = "require-worker", .type = OPT_FLAG, .offset = AT(require_worker),
     .help = "Refuse the batch when no present worker could run it, instead of keeping it for one."},
    {.name = NULL},
};

const struct option_spec cli_verdict_options[] = {
    {.name = "verdict", .type = OPT_CUSTOM, .offset = AT(verdicts), .value = "V,...", .parse = cli_parse_verdicts,
     .help = "Only results of these verdicts: ok, failed, deadline_exceeded, cancelled, lost, rejected."},
    {.name = NULL},
};

const struct option_spec cli_wait_options[] = {
    {.name = "wait", .type = OPT_FLAG, .offset = AT(wait), .help = "Wait until the batch is complete, and print its results."},
    {.name = NULL},
};

const struct option_spec cli_follow_options[] = {
    {.name = "joblog", .type = OPT_STRING, .offset = AT(joblog), .value = "FILE",
     .help = "Write a line for each task that ends, in the columns of GNU parallel's --joblog."},
    BAR_OPTIONS,
    {.name = NULL},
};

/* ---- parsing ---- */

void cli_refuse_usage(const char *sentence)
{
    fprintf(stderr, "ventilator: %s\n", sentence);
}

bool cli_parse_into(const struct command_spec *command, int argc, char **argv, void *into, int *ret_rest, bool *ret_dashes,
                    int *ret_code)
{
    struct why why;
    switch (options_parse(command, argc, argv, into, ret_rest, ret_dashes, &why)) {
    case OPTIONS_HELP:
        options_help(command, stdout);
        *ret_code = CLI_OK;
        return false;
    case OPTIONS_VERSION:
        puts("ventilator " TARMAC_VERSION);
        *ret_code = CLI_OK;
        return false;
    case OPTIONS_BAD:
        cli_refuse_usage(why.text);
        *ret_code = EXIT_USAGE;
        return false;
    case OPTIONS_OK:
        break;
    }
    return true;
}

bool cli_parse(const struct command_spec *command, int argc, char **argv, struct cli_options *ret, int *ret_rest,
               bool *ret_dashes, int *ret_code)
{
    struct why why, inner;
    *ret = (struct cli_options){0};
    if (!cli_parse_into(command, argc, argv, ret, ret_rest, ret_dashes, ret_code))
        return false;
    if (ret->ventilator && net_endpoint_parse(ret->ventilator, 5555, ret->endpoint, sizeof ret->endpoint, &inner) < 0) {
        why_set(&why, "--ventilator '%.200s': %s", ret->ventilator, inner.text);
        cli_refuse_usage(why.text);
        options_release(command, ret);
        *ret_code = EXIT_USAGE;
        return false;
    }
    return true;
}

/* How many words behind argv[i], which is --files, are names of files. */
static int count_files(int argc, char **argv, int i)
{
    int n = 0;
    while (i + 1 + n < argc && argv[i + 1 + n][0] != '-' && strcmp(argv[i + 1 + n], ":::") != 0)
        n++;
    return n;
}

void cli_argv_free(char **argv)
{
    for (size_t i = 0; argv && argv[i]; i++)
        free(argv[i]);
    free(argv);
}

char **cli_gather_files(int argc, char **argv, int *ret_argc)
{
    char **out = calloc((size_t)argc + 1, sizeof *out);
    int n = 0;
    bool options = true;
    for (int i = 0; out && i < argc; i++) {
        int files = options && strcmp(argv[i], "--files") == 0 ? count_files(argc, argv, i) : 0;
        options = options && strcmp(argv[i], "--") != 0 && strcmp(argv[i], ":::") != 0;
        if (files == 0 && !(out[n++] = strdup(argv[i])))
            goto no_memory;
        for (; files > 0; files--)
            if (asprintf(&out[n++], "--files=%s", argv[++i]) < 0) {
                out[n - 1] = NULL;
                goto no_memory;
            }
    }
    *ret_argc = n;
    return out;
no_memory:
    cli_argv_free(out);
    return NULL;
}

/* What GNU parallel takes for another list of items, or a file of them. As a plain word it would do the wrong work without saying so. */
static bool begins_a_list(const char *word)
{
    static const char *const signs[] = {":::", "::::", ":::+", "::::+"};
    for (size_t i = 0; i < sizeof signs / sizeof *signs; i++)
        if (strcmp(word, signs[i]) == 0)
            return true;
    return false;
}

static int refuse_other_lists(const struct cli_words *words, struct why *why)
{
    for (size_t i = 0; i < words->n_command; i++)
        if (begins_a_list(words->command[i]))
            return why_set(why, "'%s' in the command: items are words behind ':::', or lines of a file with -a FILE", words->command[i]);
    for (size_t i = 0; i < words->n_items; i++)
        if (begins_a_list(words->items[i]))
            return why_set(why, "'%s' among the items: they come from one list, and lists are not combined; write what is wanted to standard "
                           "input in place of ':::', an item a line", words->items[i]);
    return 0;
}

int cli_split_words(const struct cli_options *o, char **rest, bool dashes, const char *or_handler, struct cli_words *ret,
                    struct why *why)
{
    size_t n = 0, items = 0;
    *ret = (struct cli_words){.command = rest};
    while (rest[n] && strcmp(rest[n], ":::") != 0)
        n++;
    if (n > 0 && !dashes)
        return why_set(why, "%.100s: a command comes behind --, items behind :::", rest[0]);
    ret->n_command = n;
    if (rest[n]) {
        ret->has_items = true;
        ret->items = (const char *const *)(rest + n + 1);
        while (ret->items[items])
            items++;
        ret->n_items = items;
    }
    if (refuse_other_lists(ret, why) < 0)
        return -1;
    if (o->handler && n > 0)
        return why_set(why, "--handler %.100s and a command behind --: a batch has one of both", o->handler);
    if (!o->handler && n == 0)
        return why_set(why, "there is nothing to run; give a command behind --, such as: -- echo {}%s", or_handler);
    return 0;
}

/* ---- items ---- */

static int parse_range(const char *text, struct items_spec *ret, struct why *why)
{
    struct why ignored;
    const char *dash = strchr(text, '-');
    char from[24];
    uint64_t first, last;
    if (!dash || (size_t)(dash - text) >= sizeof from)
        return why_set(why, "--range %.60s: a range is two numbers such as 1-1000", text);
    memcpy(from, text, (size_t)(dash - text));
    from[dash - text] = '\0';
    if (parse_u64(from, 0, INT64_MAX, &first, &ignored) < 0 || parse_u64(dash + 1, 0, INT64_MAX, &last, &ignored) < 0)
        return why_set(why, "--range %.60s: a range is two numbers such as 1-1000", text);
    if (last < first || last - first >= WIRE_TASKS)
        return why_set(why, "--range %.60s: the second number is the larger one, and there are at most %" PRIu64 " items", text,
                       WIRE_TASKS);
    ret->first = first;
    ret->count = last - first + 1;
    return 0;
}

int cli_items_spec(const struct cli_options *o, const struct cli_words *words, struct items_spec *ret, struct why *why)
{
    const struct { bool given; const char *flag; enum items_kind kind; } sources[] = {
        {words->has_items, ":::", ITEMS_WORDS},
        {o->range, "--range", ITEMS_RANGE},
        {o->files_given, "--files", ITEMS_FILES},
        {o->arg_file && !o->json_lines && !o->blocks_given, "--arg-file", ITEMS_LINES},
        {o->json_lines, "--json-lines", ITEMS_JSON_LINES},
        {o->blocks_given, "--blocks", ITEMS_BLOCKS},
    };
    const char *flag = NULL;
    *ret = (struct items_spec){.kind = ITEMS_LINES, .path = o->arg_file, .separator = o->null ? '\0' : '\n',
                               .block_size = o->blocks};
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++) {
        if (!sources[i].given)
            continue;
        if (flag)
            return why_set(why, "%s and %s: items come from one source", flag, sources[i].flag);
        flag = sources[i].flag;
        ret->kind = sources[i].kind;
    }
    if (o->null && ret->kind != ITEMS_LINES)
        return why_set(why, "-0 and %s: NUL separates the items of a file or of standard input only", flag);
    if (o->blocks_given && o->blocks == 0)
        return why_set(why, "--blocks 0: a block has at least one byte");
    if (ret->kind == ITEMS_WORDS) {
        ret->words = words->items;
        ret->n_words = words->n_items;
    } else if (ret->kind == ITEMS_FILES) {
        ret->words = o->files.items;
        ret->n_words = o->files.n;
    }
    return ret->kind == ITEMS_RANGE ? parse_range(o->range, ret, why) : 0;
}

/* ---- lists ---- */

void cli_free_spans(Wire__Span **spans, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(spans[i]);
    free(spans);
}

static int add_span(Wire__Span ***spans, size_t *n, const char *word, struct why *why)
{
    struct why ignored;
    char first[24];
    const char *dash = strchr(word, '-');
    size_t len = dash ? (size_t)(dash - word) : strlen(word);
    uint64_t from = 0, to = 0;
    snprintf(first, sizeof first, "%.*s", len < 23 ? (int)len : 23, word);
    if (parse_u64(first, 0, WIRE_TASKS, &from, &ignored) < 0 ||
        parse_u64(dash ? dash + 1 : first, 0, WIRE_TASKS, &to, &ignored) < 0 || to < from)
        return why_set(why, "--task '%.60s': tasks are indices from 0, such as 3,7-9", word);
    Wire__Span **list = reallocarray(*spans, *n + 1, sizeof *list);
    Wire__Span *span = malloc(sizeof *span);
    if (list)
        *spans = list;
    if (!list || !span) {
        free(span);
        return why_set(why, "there is no memory left");
    }
    wire__span__init(span);
    span->first = from;
    span->count = to - from + 1;
    list[(*n)++] = span;
    return 0;
}

int cli_parse_spans(const struct string_list *texts, Wire__Span ***ret_spans, size_t *ret_n, struct why *why)
{
    Wire__Span **spans = NULL;
    size_t n = 0;
    for (size_t i = 0; i < texts->n; i++) {
        char *copy = strdup(texts->items[i]), *rest = copy, *word;
        int r = copy ? 0 : why_set(why, "there is no memory left");
        while (r == 0 && (word = strsep(&rest, ",")))
            r = add_span(&spans, &n, word, why);
        free(copy);
        if (r < 0) {
            cli_free_spans(spans, n);
            return -1;
        }
    }
    *ret_spans = spans;
    *ret_n = n;
    return 0;
}

int cli_parse_verdicts(void *field, const char *text, struct why *why)
{
    char *copy = strdup(text), *rest = copy, *word;
    uint32_t bits = 0;
    Wire__Verdict verdict;
    if (!copy)
        return why_set(why, "there is no memory left");
    while ((word = strsep(&rest, ","))) {
        if (wire_verdict_parse(word, &verdict) < 0) {
            free(copy);
            return why_set(why, "verdicts are ok, failed, deadline_exceeded, cancelled, lost and rejected, with commas between them");
        }
        bits |= UINT32_C(1) << verdict;
    }
    free(copy);
    *(uint32_t *)field = bits;
    return 0;
}
