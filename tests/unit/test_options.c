/* Options: what each type accepts, the sentence of each refusal, who overrules whom, and the
 * documentation that comes from the same table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/clock.h"
#include "common/options.h"

struct batch_options {
    bool bar, detach, deadline_given;
    const char *name;
    struct string_list labels;
    int64_t deadline, grace, priority;
    uint64_t max_output, retries;
    int format, custom;
};

static int parse_twice(void *field, const char *text, struct why *why)
{
    uint64_t n;
    if (parse_u64(text, 0, 100, &n, why) < 0)
        return -1;
    *(int *)field = (int)(2 * n);
    return 0;
}

#define AT(field) offsetof(struct batch_options, field)
static const struct option_spec batch_table[] = {
    {.name = "bar", .type = OPT_FLAG, .offset = AT(bar), .preset = "yes", .help = "Show a bar."},
    {.name = "no-bar", .type = OPT_NO_FLAG, .offset = AT(bar), .help = "Show no bar."},
    {.name = "detach", .letter = 'd', .type = OPT_FLAG, .offset = AT(detach), .help = "Let it live on."},
    {.name = "name", .letter = 'n', .type = OPT_STRING, .offset = AT(name), .help = "Its name."},
    {.name = "label", .type = OPT_STRINGS, .offset = AT(labels), .value = "KEY=VALUE", .help = "A label."},
    {.name = "deadline", .type = OPT_DURATION, .offset = AT(deadline), .preset = "-1",
     .given_offset = AT(deadline_given), .help = "The deadline of the whole batch, which is told with more "
     "words than would fit on a single line of eighty columns."},
    {.name = "loss-grace", .type = OPT_DURATION, .offset = AT(grace), .preset = "2s", .help = "Grace."},
    {.name = NULL},
};
static const struct option_spec number_table[] = {
    {.name = "max-output", .type = OPT_SIZE, .offset = AT(max_output), .preset = "1M", .help = "Output."},
    {.name = "retries", .type = OPT_U64, .offset = AT(retries), .max = 100, .help = "Tries."},
    {.name = "priority", .type = OPT_I64, .offset = AT(priority), .min = -20, .max = 20, .help = "Priority."},
    {.name = "format", .type = OPT_CHOICE, .offset = AT(format), .choices = "text|json|csv", .help = "Format."},
    {.name = "twice", .type = OPT_CUSTOM, .offset = AT(custom), .preset = "4", .parse = parse_twice, .env = "",
     .help = "Custom."},
    {.name = NULL},
};
static const struct option_spec *const tables[] = {batch_table, number_table, NULL};
static const struct command_spec submit = {
    .program = "ventilator", .name = "submit", .arguments = "[options] -- COMMAND", .summary = "Submits a batch.",
    .details = "A paragraph.\n\n  an example -- {}\n\nAnother.", .tables = tables, .stop_at_first_argument = true,
};
static const struct command_spec list = {
    .program = "ventilator", .name = "list", .arguments = "[options]", .summary = "Lists batches.", .tables = tables,
};

struct run {
    enum options_result result;
    struct batch_options o;
    int rest;
    bool dashes;
    struct why why;
};

/* Parses a line that is split at blanks; a word `''` is an empty one. */
static struct run run_command(const struct command_spec *command, const char *line)
{
    static char copy[512];
    static char empty[] = "";
    char *argv[32] = {0}, *at = copy, *word;
    struct run run = {.rest = -1};
    int argc = 0;
    memset(&run.o, 0x5A, sizeof run.o);
    snprintf(copy, sizeof copy, "program %s", line);
    while ((word = strsep(&at, " ")) && argc < 31)
        if (*word)
            argv[argc++] = strcmp(word, "''") == 0 ? empty : word;
    run.result = options_parse(command, argc, argv, &run.o, &run.rest, &run.dashes, &run.why);
    return run;
}

static struct run run_line(const char *line) { return run_command(&submit, line); }

static void assert_refused(const char *line, const char *sentence)
{
    struct run run = run_line(line);
    assert_int_equal(run.result, OPTIONS_BAD);
    assert_string_equal(run.why.text, sentence);
    assert_int_equal(run.rest, -1);
    assert_null(run.o.labels.items);
}

static void presets(void **state)
{
    (void)state;
    struct run run = run_line("");
    assert_int_equal(run.result, OPTIONS_OK);
    assert_true(run.o.bar);
    assert_false(run.o.detach);
    assert_null(run.o.name);
    assert_int_equal(run.o.labels.n, 0);
    assert_int_equal(run.o.deadline, -1);
    assert_false(run.o.deadline_given);
    assert_int_equal(run.o.grace, 2 * NS_PER_S);
    assert_int_equal(run.o.max_output, 1 << 20);
    assert_int_equal(run.o.retries, 0);
    assert_int_equal(run.o.format, 0);
    assert_int_equal(run.o.custom, 8);
    assert_int_equal(run.rest, 1);
    assert_false(run.dashes);
}

static void every_type_from_the_command_line(void **state)
{
    (void)state;
    struct run run = run_line("--no-bar -d -n ada --label a=1 --label=b=2 --deadline=1.5s --loss-grace 250ms "
                              "--max-output 64K --retries 3 --priority -7 --format csv --twice 50 -- cat {}");
    assert_int_equal(run.result, OPTIONS_OK);
    assert_false(run.o.bar);
    assert_true(run.o.detach);
    assert_string_equal(run.o.name, "ada");
    assert_int_equal(run.o.labels.n, 2);
    assert_string_equal(run.o.labels.items[0], "a=1");
    assert_string_equal(run.o.labels.items[1], "b=2");
    assert_int_equal(run.o.deadline, 1500 * NS_PER_MS);
    assert_true(run.o.deadline_given);
    assert_int_equal(run.o.grace, 250 * NS_PER_MS);
    assert_int_equal(run.o.max_output, 65536);
    assert_int_equal(run.o.retries, 3);
    assert_int_equal(run.o.priority, -7);
    assert_int_equal(run.o.format, 2);
    assert_int_equal(run.o.custom, 100);
    assert_true(run.dashes);
    assert_int_equal(run.rest, 22);
    options_release(&submit, &run.o);
    assert_null(run.o.labels.items);
}

static void refusals_name_flag_value_and_what_is_accepted(void **state)
{
    (void)state;
    assert_refused("--deadline 5x", "--deadline '5x': a duration is a number with ms, s, m, h or d, such as 30s");
    assert_refused("--deadline 5", "--deadline '5': a duration is a number with ms, s, m, h or d, such as 30s");
    assert_refused("--deadline -1", "--deadline '-1': a duration is a number with ms, s, m, h or d, such as 30s");
    assert_refused("--deadline 999999999d", "--deadline '999999999d': a duration is at most 106751d");
    assert_refused("--deadline", "--deadline: its value is missing");
    assert_refused("--deadline=", "--deadline '': the value is empty; give one, or leave --deadline out");
    assert_refused("--name ''", "--name '': the value is empty; give one, or leave --name out");
    assert_refused("-n", "-n: its value is missing");
    assert_refused("--retries 101", "--retries '101': expected a whole number from 0 to 100");
    assert_refused("--retries +1", "--retries '+1': expected a whole number from 0 to 100");
    assert_refused("--priority -21", "--priority '-21': expected a whole number from -20 to 20");
    assert_refused("--max-output 1k", "--max-output '1k': a size is a whole number of bytes, or one with K, M, G or T, such as 64K");
    assert_refused("--format xml", "--format 'xml': expected one of text|json|csv");
    assert_refused("--format tex", "--format 'tex': expected one of text|json|csv");
    assert_refused("--twice 101", "--twice '101': expected a whole number from 0 to 100");
    assert_refused("--bar=yes", "--bar=yes: --bar takes no value");
    assert_refused("--help=yes", "--help=yes: --help takes no value");
    assert_refused("--label a --retries x", "--retries 'x': expected a whole number from 0 to 100");
}

static void unknown_flags_are_named_with_a_suggestion(void **state)
{
    (void)state;
    assert_refused("--deadlien 5s", "--deadlien: there is no such flag; did you mean --deadline?");
    assert_refused("--dead 5s", "--dead: there is no such flag; did you mean --deadline?");
    assert_refused("--dead=5s", "--dead: there is no such flag; did you mean --deadline?");
    assert_refused("--dead", "--dead: there is no such flag; did you mean --deadline?");
    assert_refused("--no-ba=1", "--no-ba: there is no such flag; did you mean --no-bar?");
    assert_refused("--hlep", "--hlep: there is no such flag; did you mean --help?");
    assert_refused("--d", "--d: there is no such flag; --help lists them all");
    assert_refused("--zeppelin", "--zeppelin: there is no such flag; --help lists them all");
    assert_refused("-z", "-z: there is no such flag; --help lists them all");
    assert_refused("-dz", "-z: there is no such flag; --help lists them all");
    assert_refused("-\xC3\xA9", "-?: there is no such flag; --help lists them all");
    assert_refused("--b\x1B[31m", "--b?[31m: there is no such flag; --help lists them all");
}

static void help_and_version_exist_everywhere(void **state)
{
    (void)state;
    assert_int_equal(run_line("--label a --help").result, OPTIONS_HELP);
    assert_int_equal(run_line("-h").result, OPTIONS_HELP);
    assert_int_equal(run_line("--version").result, OPTIONS_VERSION);
    assert_int_equal(run_line("--retries 1 -- --help").result, OPTIONS_OK);
}

static void arguments_and_dashes(void **state)
{
    (void)state;
    struct run run = run_line("--name x ::: --zeppelin");
    assert_int_equal(run.result, OPTIONS_OK);
    assert_int_equal(run.rest, 3);
    assert_false(run.dashes);
    /* A "--" that is a value ends nothing. */
    run = run_line("--name -- cat");
    assert_int_equal(run.result, OPTIONS_OK);
    assert_string_equal(run.o.name, "--");
    assert_int_equal(run.rest, 3);
    assert_false(run.dashes);
    run = run_line("--name -- -- cat");
    assert_true(run.dashes);
    assert_int_equal(run.rest, 4);
    run = run_line("--");
    assert_true(run.dashes);
    assert_int_equal(run.rest, 2);
    /* Without stop_at_first_argument, flags may stand behind the arguments. */
    run = run_command(&list, "b7k2 --retries 4");
    assert_int_equal(run.result, OPTIONS_OK);
    assert_int_equal(run.o.retries, 4);
    assert_int_equal(run.rest, 3);
    assert_false(run.dashes);
}

static void the_environment_stands_in(void **state)
{
    (void)state;
    setenv("TARMAC_LOSS_GRACE", "3s", 1);
    setenv("TARMAC_RETRIES", "", 1);
    setenv("TARMAC_DETACH", "yes", 1);
    setenv("TARMAC_NO_BAR", "1", 1);
    setenv("TARMAC_LABEL", "a=1\n\nb=2\n", 1);
    setenv("TARMAC_TWICE", "9", 1);
    setenv("TARMAC_DEADLINE", "5m", 1);
    struct run run = run_line("");
    assert_int_equal(run.result, OPTIONS_OK);
    assert_int_equal(run.o.grace, 3 * NS_PER_S);
    assert_int_equal(run.o.retries, 0);
    assert_true(run.o.detach);
    assert_false(run.o.bar);
    assert_int_equal(run.o.labels.n, 2);
    assert_string_equal(run.o.labels.items[1], "b=2");
    assert_int_equal(run.o.custom, 8);
    assert_true(run.o.deadline_given);
    options_release(&submit, &run.o);
    run = run_line("--loss-grace 1s --bar --label c=3");
    assert_int_equal(run.o.grace, NS_PER_S);
    assert_true(run.o.bar);
    assert_int_equal(run.o.labels.n, 1);
    assert_string_equal(run.o.labels.items[0], "c=3");
    options_release(&submit, &run.o);
    setenv("TARMAC_LOSS_GRACE", "3 s", 1);
    assert_refused("", "TARMAC_LOSS_GRACE '3 s': a duration is a number with ms, s, m, h or d, such as 30s");
    run = run_line("--loss-grace 1s");
    assert_int_equal(run.result, OPTIONS_OK);
    options_release(&submit, &run.o);
    unsetenv("TARMAC_LOSS_GRACE");
    setenv("TARMAC_DETACH", "maybe", 1);
    assert_refused("", "TARMAC_DETACH 'maybe': expected 1, yes, true or on, or else 0, no, false or off");
}

static int forget_environment(void **state)
{
    (void)state;
    static const char *const names[] = {"LOSS_GRACE", "RETRIES", "DETACH", "NO_BAR", "BAR", "LABEL", "TWICE",
                                        "DEADLINE", "NAME", "FORMAT", "PRIORITY", "MAX_OUTPUT"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char name[40];
        snprintf(name, sizeof name, "TARMAC_%s", names[i]);
        unsetenv(name);
    }
    return 0;
}

static void a_wrong_default_is_refused(void **state)
{
    (void)state;
    static const struct option_spec wrong[] = {
        {.name = "retries", .type = OPT_U64, .offset = AT(retries), .preset = "many", .help = "Tries."},
        {.name = NULL},
    };
    static const struct option_spec *const wrong_tables[] = {wrong, NULL};
    struct command_spec command = {.program = "p", .summary = "S.", .tables = wrong_tables};
    struct run run = run_command(&command, "");
    assert_int_equal(run.result, OPTIONS_BAD);
    assert_string_equal(run.why.text, "the default of --retries 'many': expected a whole number, 0 or more");
}

static void list_presets_are_replaced(void **state)
{
    (void)state;
    static const struct option_spec table[] = {
        {.name = "label", .type = OPT_STRINGS, .offset = AT(labels), .preset = "x\ny", .help = "A label."},
        {.name = NULL},
    };
    static const struct option_spec *const both[] = {table, NULL};
    struct command_spec command = {.program = "p", .summary = "S.", .tables = both};
    struct run run = run_command(&command, "");
    assert_int_equal(run.o.labels.n, 2);
    options_release(&command, &run.o);
    run = run_command(&command, "--label z");
    assert_int_equal(run.o.labels.n, 1);
    assert_string_equal(run.o.labels.items[0], "z");
    options_release(&command, &run.o);
}

static void durations(void **state)
{
    (void)state;
    static const struct { const char *text; int64_t ns; } good[] = {
        {"0", 0}, {"0s", 0}, {"250ms", 250 * NS_PER_MS}, {"0.5s", NS_PER_S / 2}, {"1.5m", 90 * NS_PER_S},
        {"2h", 7200 * NS_PER_S}, {"1d", 86400 * NS_PER_S}, {"0.000001ms", 1}, {"007s", 7 * NS_PER_S},
        {"106751d", INT64_C(106751) * 86400 * NS_PER_S},
    };
    static const char *const bad[] = {"", "s", "5", "5 s", " 5s", "5s ", "-5s", "+5s", "5.s", ".5s", "1e3s", "5S", "5us",
                                      "0x5s", "106752d", "1.0000000000000000000001s", "0.0000001ms", "1s1s", "5.5",
                                      "99999999999999999999s", "0.5.5s", "0.0"};
    struct why why;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        int64_t ns = -5;
        assert_int_equal(parse_duration(good[i].text, &ns, &why), 0);
        assert_int_equal(ns, good[i].ns);
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        int64_t ns = -5;
        assert_int_equal(parse_duration(bad[i], &ns, &why), -1);
        assert_int_equal(ns, -5);
    }
}

static void formatted_durations_read_back(void **state)
{
    (void)state;
    static const struct { int64_t ns; const char *text; } cases[] = {
        {0, "0s"}, {NS_PER_MS, "1ms"}, {1500 * NS_PER_MS, "1500ms"}, {2 * NS_PER_S, "2s"}, {90 * NS_PER_S, "90s"},
        {300 * NS_PER_S, "5m"}, {7200 * NS_PER_S, "2h"}, {86400 * NS_PER_S, "1d"}, {1, "0.000001ms"},
        {1500000, "1.5ms"}, {INT64_MAX, "9223372036854.775807ms"},
    };
    char out[32];
    struct why why;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int64_t ns = -1;
        assert_string_equal(format_duration(cases[i].ns, out), cases[i].text);
        assert_int_equal(parse_duration(out, &ns, &why), 0);
        assert_int_equal(ns, cases[i].ns);
    }
    assert_string_equal(format_duration(-2 * NS_PER_S, out), "-2s");
    assert_string_equal(format_duration(INT64_MIN, out), "-9223372036854.775808ms");
}

static void sizes(void **state)
{
    (void)state;
    struct why why;
    uint64_t n = 5;
    assert_int_equal(parse_size("16777215T", &n, &why), 0);
    assert_true(n == UINT64_C(16777215) << 40);
    assert_int_equal(parse_size("18446744073709551615", &n, &why), 0);
    assert_true(n == UINT64_MAX);
    assert_int_equal(parse_size("0", &n, &why), 0);
    assert_true(n == 0);
    static const char *const bad[] = {"", "K", "1k", "1KB", "1.5M", "-1", "+1", " 1", "1 ", "16777216T",
                                      "18446744073709551616", "18446744073709551615K"};
    n = 5;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(parse_size(bad[i], &n, &why), -1);
    assert_true(n == 5);
}

static void whole_numbers(void **state)
{
    (void)state;
    struct why why;
    uint64_t u = 5;
    int64_t i = 5;
    assert_int_equal(parse_u64("18446744073709551615", 0, UINT64_MAX, &u, &why), 0);
    assert_true(u == UINT64_MAX);
    assert_int_equal(parse_u64("18446744073709551616", 0, UINT64_MAX, &u, &why), -1);
    assert_int_equal(parse_u64("", 0, 9, &u, &why), -1);
    assert_int_equal(parse_u64("-1", 0, 9, &u, &why), -1);
    assert_int_equal(parse_u64("2", 3, 9, &u, &why), -1);
    assert_int_equal(parse_i64("-9223372036854775808", INT64_MIN, INT64_MAX, &i, &why), 0);
    assert_true(i == INT64_MIN);
    assert_int_equal(parse_i64("9223372036854775807", INT64_MIN, INT64_MAX, &i, &why), 0);
    assert_true(i == INT64_MAX);
    assert_int_equal(parse_i64("9223372036854775808", INT64_MIN, INT64_MAX, &i, &why), -1);
    assert_int_equal(parse_i64("-9223372036854775809", INT64_MIN, INT64_MAX, &i, &why), -1);
    assert_int_equal(parse_i64("--1", -5, 5, &i, &why), -1);
    assert_int_equal(parse_i64("-", -5, 5, &i, &why), -1);
    assert_true(i == INT64_MAX);
}

/* ---- documentation ---- */

static const struct command_spec *const commands[] = {&submit, &list, NULL};
static const struct program_spec ventilator = {"ventilator", "Hands tasks out.", ".A page\\n", commands};

static char *printed(void (*print)(FILE *out))
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    print(out);
    fclose(out);
    return text;
}

static void print_help(FILE *out) { options_help(&submit, out); }
static void print_program_help(FILE *out) { options_program_help(&ventilator, out); }
static void print_man(FILE *out) { options_man(&submit, out); }
static void print_program_man(FILE *out) { options_man_program(&ventilator, out); }
static void print_completion(FILE *out) { options_completion(&ventilator, out); }

static void help_is_complete_and_fits(void **state)
{
    (void)state;
    char *text = printed(print_help);
    static const char *const wanted[] = {
        "Usage: ventilator submit [options] -- COMMAND\n", "\nA paragraph.\n\n  an example -- {}\n\nAnother.\n",
        "    --loss-grace D", "[default: 2s] [TARMAC_LOSS_GRACE]", "-n, --name TEXT", "--label KEY=VALUE ...",
        "--format text|json|csv", "[default: text] [TARMAC_FORMAT]", "-h, --help", "--version",
        "[default: 0] [TARMAC_RETRIES]", "[default: 1M]", "The deadline of the whole batch",
    };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        if (!strstr(text, wanted[i]))
            fail_msg("--help lacks \"%s\":\n%s", wanted[i], text);
    assert_null(strstr(text, "TARMAC_TWICE"));
    assert_null(strstr(text, "-1"));
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
        assert_true(strcspn(line, "\n") <= 80);
    free(text);
    text = printed(print_program_help);
    assert_non_null(strstr(text, "\n  submit                    Submits a batch.\n  list"));
    free(text);
}

static void man_pages_are_complete_and_escaped(void **state)
{
    (void)state;
    char *text = printed(print_man);
    assert_non_null(strstr(text, ".TH \"ventilator-submit\" 1"));
    assert_non_null(strstr(text, "\\fB\\-n\\fR, \\fB\\-\\-name\\fR \\fITEXT\\fR"));
    assert_non_null(strstr(text, "Default: 2s.\nVariable: \\fBTARMAC_LOSS_GRACE\\fR."));
    assert_non_null(strstr(text, ".EX\n  an example \\-\\- {}\n"));
    free(text);
    text = printed(print_program_man);
    assert_non_null(strstr(text, ".SS submit"));
    assert_non_null(strstr(text, ".SS list"));
    assert_non_null(strstr(text, "\n\\&.A page\\en\n"));
    free(text);
}

/* What bash would offer after the line, by running the script itself; the words are sorted. */
static void assert_completes(const char *line, const char *wanted)
{
    char command[8192], got[2048] = "";
    char *script = printed(print_completion);
    snprintf(command, sizeof command,
             "compopt() { :; }\n%s\nCOMP_WORDS=(%s); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _tarmac_ventilator;"
             " printf '%%s\\n' \"${COMPREPLY[@]}\" | sort | tr '\\n' ' '", script, line);
    free(script);
    setenv("TARMAC_TEST_SCRIPT", command, 1);
    FILE *bash = popen("exec bash -c \"$TARMAC_TEST_SCRIPT\" 2>&1", "re");
    assert_non_null(bash);
    size_t n = fread(got, 1, sizeof got - 1, bash);
    got[n] = '\0';
    assert_int_equal(pclose(bash), 0);
    unsetenv("TARMAC_TEST_SCRIPT");
    assert_string_equal(got, wanted);
}

static void completion_offers_commands_flags_and_choices(void **state)
{
    (void)state;
    assert_completes("ventilator ''", "list submit ");
    assert_completes("ventilator su", "submit ");
    assert_completes("ventilator submit --lo", "--loss-grace ");
    assert_completes("ventilator submit --format ''", "csv json text ");
    assert_completes("ventilator submit --format = j", "json ");
    assert_completes("ventilator submit --format =", "csv json text ");
    assert_completes("ventilator --he", "--help ");
    assert_completes("ventilator submit --name ''", " ");
    assert_completes("ventilator submit -- --lo", " ");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(presets),
        cmocka_unit_test(every_type_from_the_command_line),
        cmocka_unit_test(refusals_name_flag_value_and_what_is_accepted),
        cmocka_unit_test(unknown_flags_are_named_with_a_suggestion),
        cmocka_unit_test(help_and_version_exist_everywhere),
        cmocka_unit_test(arguments_and_dashes),
        cmocka_unit_test_setup_teardown(the_environment_stands_in, forget_environment, forget_environment),
        cmocka_unit_test(a_wrong_default_is_refused),
        cmocka_unit_test(list_presets_are_replaced),
        cmocka_unit_test(durations),
        cmocka_unit_test(formatted_durations_read_back),
        cmocka_unit_test(sizes),
        cmocka_unit_test(whole_numbers),
        cmocka_unit_test(help_is_complete_and_fits),
        cmocka_unit_test(man_pages_are_complete_and_escaped),
        cmocka_unit_test(completion_offers_commands_flags_and_choices),
    };
    forget_environment(NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
