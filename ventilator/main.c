/* ventilator: one table of commands is the dispatch, the help, the man page and the completion. */
#include <stdio.h>
#include <string.h>

#include "common/bug.h"
#include "common/memory.h"
#include "common/output.h"
#include "ventilator/cli.h"
#include "ventilator/serve.h"

static const struct cli_command commands[] = {
    {&serve_command, serve_main},
    {&run_command, run_main},
    {&submit_command, submit_main},
    {&wait_command, wait_main},
    {&status_command, status_main},
    {&list_command, list_main},
    {&results_command, results_main},
    {&cancel_command, cancel_main},
    {&extend_command, extend_main},
    {&seal_command, seal_main},
    {&explain_command, explain_main},
    {&workers_command, workers_main},
    {&drain_command, drain_main},
    {&watch_command, watch_main},
    {&retry_command, retry_main},
    {&purge_command, purge_main},
    {&keygen_command, keygen_main},
    {&doctor_command, doctor_main},
};
#define COMMANDS (sizeof commands / sizeof *commands)

static const char details[] =
    "A batch is many tasks that have a command or handler in common. The ventilator hands them out to workers, a sink "
    "records how each of them ended. 'ventilator run' needs nothing else running; for many machines start "
    "'ventilator serve', 'worker' and 'sink', and use 'ventilator submit'.\n\n"
    "Exit codes of the commands that ask: 0 done, 1 something is wrong, 2 usage, 3 the ventilator or the sink can't be reached, "
    CLI_EXIT_WORDS " Those of run, submit, wait and serve are in their own --help.";

static int print(void (*page)(const struct program_spec *program, FILE *out))
{
    const struct command_spec *specs[COMMANDS + 1] = {NULL};
    for (size_t i = 0; i < COMMANDS; i++)
        specs[i] = commands[i].spec;
    struct program_spec program = {
        .name = "ventilator", .summary = "takes batches of tasks, hands them out to workers and knows when they are complete",
        .details = details, .commands = specs,
    };
    page(&program, stdout);
    return CLI_OK;
}

static int other_word(const char *word)
{
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0)
        return print(options_program_help);
    if (strcmp(word, "--man") == 0)
        return print(options_man_program);
    if (strcmp(word, "--completion") == 0)
        return print(options_completion);
    if (strcmp(word, "--version") == 0) {
        puts("ventilator " TARMAC_VERSION);
        return CLI_OK;
    }
    fprintf(stderr, "ventilator: %.100s: there is no such command; 'ventilator --help' lists them all\n", word);
    return EXIT_USAGE;
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        fputs("ventilator: which command? 'ventilator --help' lists them all\n", stderr);
        return EXIT_USAGE;
    }
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(argv[1], commands[i].spec->name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    return other_word(argv[1]);
}

int main(int argc, char **argv)
{
    memory_keep();
    return output_end("ventilator", run(argc, argv));
}
