#include "sink/config.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "common/log.h"
#include "common/net.h"
#include "common/options.h"
#include "proto/wire.h"

#define AT(field) offsetof(struct config, field)

static const struct option_spec sink_options[] = {
    {.name = "ventilator", .type = OPT_STRING, .offset = AT(ventilator_text), .value = "ENDPOINT", .preset = "tcp://127.0.0.1:5556",
     .env = "TARMAC_VENTILATOR_WORKERS", .help = "Where the ventilator listens for workers and sinks; the port may be left out."},
    {.name = "data", .type = OPT_STRING, .offset = AT(data), .value = "DIR", .preset = "./tarmac-sink",
     .help = "Folder of the results; made if it is missing."},
    {.name = "results-listen", .type = OPT_STRING, .offset = AT(results_text), .value = "ENDPOINT", .preset = "tcp://127.0.0.1:5557",
     .help = "Where workers bring results."},
    {.name = "query-listen", .type = OPT_STRING, .offset = AT(query_text), .value = "ENDPOINT", .preset = "tcp://127.0.0.1:5558",
     .help = "Where clients ask for results."},
    {.name = "advertise", .type = OPT_STRING, .offset = AT(advertise), .value = "HOST", .preset = "",
     .help = "The host by which workers and clients reach this sink; they try the ventilator's host and this sink's address after it."},
    {.name = "trace-file", .type = OPT_STRING, .offset = AT(trace_file), .value = "FILE", .preset = "",
     .help = "One span for each recorded attempt goes to the end of this file, as a line of OTLP JSON; SIGHUP opens it again."},
    {.name = NULL},
};

static const struct option_spec common_options[] = {
    {.name = "log-format", .type = OPT_CHOICE, .offset = AT(log_format), .value = "FORMAT", .preset = "text", .choices = "text|json",
     .help = "How log lines are written to standard error."},
    {.name = "log-level", .type = OPT_CHOICE, .offset = AT(log_level), .value = "LEVEL", .preset = "info", .choices = "error|warn|info|debug",
     .help = "The least important lines that are written."},
    {.name = "health-file", .type = OPT_STRING, .offset = AT(health_file), .value = "FILE", .preset = "",
     .help = "A file, best in memory, that says every second how it is; 'ventilator doctor --health-file' reads it."},
    {.name = "keys", .type = OPT_STRING, .offset = AT(keys), .value = "DIR", .preset = "",
     .help = "The sink's folder of what 'ventilator keygen' made: everything is encrypted, and only keys that it lists are let in."},
    {.name = "insecure", .type = OPT_FLAG, .offset = AT(insecure),
     .help = "Listen on other interfaces than loopback without keys: whoever reaches the ports can read and write results."},
    {.name = NULL},
};

static const struct option_spec hidden_options[] = {
    {.name = "leave-with", .type = OPT_I64, .offset = AT(leave_with), .preset = "-1", .min = -1, .max = 1 << 20, .env = ""},
    {.name = NULL},
};

static const struct option_spec *const tables[] = {sink_options, common_options, hidden_options, NULL};

static const struct command_spec command = {
    .program = "sink",
    .arguments = "[options]",
    .summary = "Records the one verdict of each task and serves the results.",
    .details = "A sink takes in the results that workers bring, keeps the first verdict of each task on its disk, tells the "
               "ventilator once it is there, and sends results to the clients that ask for them.\n\n"
               "It prints one line, \"ready results=ENDPOINT query=ENDPOINT\", when it serves. It doesn't wait for the ventilator. "
               "On SIGTERM or SIGINT it takes in what is on the way, commits it and leaves; a second signal ends it at once, and "
               "nothing that was recorded is lost by that.\n\n"
               "Exit codes: 0 stopped, 2 usage, 5 an address or the data folder is in use, or there are no memory "
               "or descriptors to begin with, 6 disk, 7 a bug of ours.",
    .tables = tables,
};

static const struct command_spec *const commands[] = {&command, NULL};
static const struct program_spec program = {.name = "sink", .summary = "records and serves the results of Tarmac's tasks", .commands = commands};

static int endpoint(const char *flag, const char *text, unsigned port, char *ret, struct why *why)
{
    struct why inner;
    if (net_endpoint_parse(text, port, ret, ENDPOINT_SIZE, &inner) == 0)
        return 0;
    return why_set(why, "--%s %s: %s", flag, text, inner.text);
}

static int check_safety(const struct config *config, struct why *why)
{
    const struct { const char *flag, *endpoint; } listens[] = {{"results-listen", config->results}, {"query-listen", config->query}};
    for (size_t i = 0; i < sizeof listens / sizeof *listens; i++)
        if (!config->insecure && config->keys[0] == '\0' && !net_endpoint_is_loopback(listens[i].endpoint))
            return why_set(why, "--%s %s: without keys whoever reaches this port can read and write results; make keys with "
                           "'ventilator keygen DIR' and give --keys DIR/sink, or listen on 127.0.0.1, or say --insecure if the "
                           "network is yours", listens[i].flag, listens[i].endpoint);
    return 0;
}

static int check(struct config *config, struct why *why)
{
    if (endpoint("ventilator", config->ventilator_text, 5556, config->ventilator, why) < 0
        || endpoint("results-listen", config->results_text, 5557, config->results, why) < 0
        || endpoint("query-listen", config->query_text, 5558, config->query, why) < 0)
        return -1;
    if (config->data[0] == '\0')
        return why_set(why, "--data is empty; name a folder for the results");
    if (strlen(config->advertise) > WIRE_NAME || strpbrk(config->advertise, "/ \t\n"))
        return why_set(why, "--advertise %s: not a host; give a name or an address of at most %u characters, without tcp:// and port",
                       config->advertise, WIRE_NAME);
    return check_safety(config, why);
}

enum config_result config_read(struct config *ret, int argc, char **argv, struct why *why)
{
    int rest;
    bool dashes;
    if (argc == 2 && strcmp(argv[1], "--man") == 0) {
        options_man(&command, stdout);
        return CONFIG_DONE;
    }
    if (argc == 2 && strcmp(argv[1], "--completion") == 0) {
        options_completion(&program, stdout);
        return CONFIG_DONE;
    }
    *ret = (struct config){0};
    switch (options_parse(&command, argc, argv, ret, &rest, &dashes, why)) {
    case OPTIONS_HELP:
        options_help(&command, stdout);
        return CONFIG_DONE;
    case OPTIONS_VERSION:
        puts("sink " TARMAC_VERSION);
        return CONFIG_DONE;
    case OPTIONS_BAD:
        return CONFIG_BAD;
    case OPTIONS_OK:
        break;
    }
    if (rest < argc) {
        why_set(why, "%s: a sink takes no arguments, only options; see sink --help", argv[rest]);
        return CONFIG_BAD;
    }
    return check(ret, why) < 0 ? CONFIG_BAD : CONFIG_RUN;
}
