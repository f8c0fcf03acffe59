#include "ventilator/serve_config.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "common/net.h"
#include "ventilator/http.h"
#include "ventilator/serve.h"

static int parse_lanes(void *field, const char *text, struct why *why)
{
    struct lane_range *lanes = field, parsed = {.from = 0};
    struct why ignored;
    const char *dash = strchr(text, '-');
    uint64_t from, to;
    char first[16];
    if (strncmp(text, "ipc://", 6) == 0 && strlen(text) < sizeof parsed.prefix) {
        memcpy(parsed.prefix, text, strlen(text) + 1);
    } else if (strcmp(text, "0") != 0) {
        if (dash == NULL || (size_t)(dash - text) >= sizeof first)
            return why_set(why, "a range of ports such as 5600-6623, or 0 for any free port");
        memcpy(first, text, (size_t)(dash - text));
        first[dash - text] = '\0';
        if (parse_u64(first, 1, 65535, &from, &ignored) < 0 || parse_u64(dash + 1, 1, 65535, &to, &ignored) < 0 || from > to)
            return why_set(why, "a range of ports such as 5600-6623 (1 to 65535, rising), or 0 for any free port");
        parsed.from = (unsigned)from;
        parsed.to = (unsigned)to;
    }
    *lanes = parsed;
    return 0;
}

static int parse_retain(void *field, const char *text, struct why *why)
{
    int64_t ns = 0;
    if (strcmp(text, "off") != 0 && (parse_duration(text, &ns, why) < 0 || ns <= 0))
        return why_set(why, "off, or a time above 0 such as 7d");
    memcpy(field, &ns, sizeof ns);
    return 0;
}

#define AT(field) offsetof(struct serve_config, field)
static const struct option_spec options[] = {
    {.name = "data", .type = OPT_STRING, .offset = AT(data), .value = "DIR", .preset = "./tarmac-ventilator",
     .help = "Folder of the journal; one process at a time."},
    {.name = "listen", .type = OPT_STRING, .offset = AT(listen), .value = "ENDPOINT", .preset = "tcp://127.0.0.1:5555",
     .help = "Where clients connect."},
    {.name = "workers-listen", .type = OPT_STRING, .offset = AT(workers_listen), .value = "ENDPOINT",
     .preset = "tcp://127.0.0.1:5556",
     .help = "Where workers and the sink connect."},
    {.name = "lanes", .type = OPT_CUSTOM, .offset = AT(lanes), .value = "FROM-TO", .preset = "5600-6623", .parse = parse_lanes,
     .help = "Ports of the lanes, one for each worker; 0: any free port."},
    {.name = "http", .type = OPT_STRING, .offset = AT(http), .value = "HOST:PORT", .preset = "127.0.0.1:8080",
     .given_offset = AT(http_given),
     .help = "Where the control tower listens: the page, JSON and /metrics; off: nowhere. The default goes without when it "
             "is taken."},
    {.name = "http-token", .type = OPT_STRING, .offset = AT(http_token), .value = "TOKEN",
     .help = "What viewers must know, or, with a slash, the file that has it; needed when --http is not on loopback."},
    {.name = "http-name", .type = OPT_STRINGS, .offset = AT(http_names), .value = "NAME",
     .help = "A host name by which viewers call the control tower, beside its addresses; may be given several times."},
    {.name = "audit-file", .type = OPT_STRING, .offset = AT(audit_file), .value = "FILE",
     .help = "One line for each state change of a batch or worker, and for each action of a person, goes to the end of this "
             "file; SIGHUP opens it again."},
    {.name = "heartbeat", .type = OPT_DURATION, .offset = AT(heartbeat), .value = "D", .preset = "1s",
     .help = "Between two signs of life."},
    {.name = "loss-grace", .type = OPT_DURATION, .offset = AT(loss_grace), .value = "D", .preset = "2s",
     .help = "How long a worker whose connection closed may take to come back before its tasks run elsewhere."},
    {.name = "silence", .type = OPT_DURATION, .offset = AT(silence), .value = "D", .preset = "10s",
     .help = "How long a connected worker may be silent before it is given up."},
    {.name = "max-losses", .type = OPT_U64, .offset = AT(max_losses), .value = "N", .preset = "3", .min = 1, .max = 1000,
     .help = "A task that was at so many lost workers is judged lost."},
    {.name = "max-payload", .type = OPT_SIZE, .offset = AT(max_payload), .value = "SIZE", .preset = "64M",
     .help = "Largest payload of one task (at most 64M)."},
    {.name = "result-credit", .type = OPT_SIZE, .offset = AT(result_credit), .value = "SIZE", .preset = "256M",
     .help = "Bytes of results that a worker may hold unrecorded before it starts nothing new."},
    {.name = "retain", .type = OPT_CUSTOM, .offset = AT(retain), .value = "D", .preset = "off", .parse = parse_retain,
     .help = "Complete batches are purged, with their results, so long after their completion; off: only by 'ventilator "
             "purge'."},
    {.name = "keep-keys", .type = OPT_DURATION, .offset = AT(keep_keys), .value = "D", .preset = "7d",
     .help = "How long the keys of purged batches are kept, to refuse a submission that comes again (at most 10000 of them; "
             "0: not at all)."},
    {.name = "shutdown-timeout", .type = OPT_DURATION, .offset = AT(shutdown_timeout), .value = "D", .preset = "30s",
     .help = "How long a stop may take before it is made short."},
    {.name = "keys", .type = OPT_STRING, .offset = AT(keys), .value = "DIR",
     .help = "The ventilator's folder of what 'ventilator keygen' made: everything is encrypted, and only keys that it lists "
             "are let in."},
    {.name = "insecure", .type = OPT_FLAG, .offset = AT(insecure),
     .help = "Listen on addresses other than loopback without keys: whoever reaches them can submit and take tasks."},
    {.name = "health-file", .type = OPT_STRING, .offset = AT(health_file), .value = "FILE",
     .help = "A file, best in memory, that says every second how it is; 'ventilator doctor --health-file' reads it."},
    {.name = "log-format", .type = OPT_CHOICE, .offset = AT(log_format), .value = "FORMAT", .choices = "text|json",
     .preset = "text",
     .help = "Form of the log on standard error."},
    {.name = "log-level", .type = OPT_CHOICE, .offset = AT(log_level), .value = "LEVEL", .choices = "error|warn|info|debug",
     .preset = "info",
     .help = "What is logged."},
    {.name = NULL},
};
static const struct option_spec hidden[] = {
    {.name = "leave-with", .type = OPT_I64, .offset = AT(leave_with), .value = "FD", .preset = "-1", .min = -1, .max = 1 << 20, .env = ""},
    {.name = "http-tick", .type = OPT_DURATION, .offset = AT(http_tick), .value = "D", .preset = "1s", .env = ""},
    {.name = "http-silence", .type = OPT_DURATION, .offset = AT(http_silence), .value = "D", .preset = "10s", .env = ""},
    {.name = "remove-dir", .type = OPT_STRING, .offset = AT(remove_dir), .value = "DIR", .env = ""},
    {.name = NULL},
};
static const struct option_spec *const tables[] = {options, hidden, NULL};

const struct command_spec serve_command = {
    .program = "ventilator",
    .name = "serve",
    .arguments = "[options]",
    .summary = "Runs the daemon that takes batches in, hands tasks out and knows when a batch is complete.",
    .details = "Prints one line that begins with 'ready' and has its addresses when it serves. SIGTERM or SIGINT: stops taking and "
               "handing out, says goodbye to its workers (who keep what they have), keeps the queue on disk and leaves with 0; a second "
               "signal: at once. Exit codes: 2 usage, 5 an address or the data folder is in use, or there are no "
               "memory or descriptors to begin with, 6 disk, 7 a bug of ours.",
    .tables = tables,
};

static int check_listen(const char *flag, const char *text, unsigned port, bool open, char *out, size_t size, struct why *why)
{
    struct why inner = {""};
    if (net_endpoint_parse(text, port, out, size, &inner) < 0)
        return why_set(why, "%s '%s': %s", flag, text, inner.text);
    if (!net_endpoint_is_loopback(out) && !open)
        return why_set(why, "%s %s can be reached from other machines, and there are no keys: whoever reaches it can submit and take "
                       "tasks. Make keys with 'ventilator keygen DIR' and give --keys DIR/ventilator, or listen on 127.0.0.1, or say --insecure",
                       flag, out);
    return 0;
}

static int check_durations(const struct serve_config *c, struct why *why)
{
    const struct { const char *flag; int64_t ns; } all[] = {{"--heartbeat", c->heartbeat}, {"--loss-grace", c->loss_grace}};
    char given[32], beat[32];
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (all[i].ns <= 0)
            return why_set(why, "%s %s: accepted is a time above 0, such as 1s", all[i].flag, format_duration(all[i].ns, given));
    if (c->silence <= c->heartbeat)
        return why_set(why, "--silence %s: accepted is a time longer than --heartbeat, which is %s", format_duration(c->silence, given),
                       format_duration(c->heartbeat, beat));
    return 0;
}

int serve_config_check(struct serve_config *c, struct why *why)
{
    bool open = c->insecure || c->keys != NULL;
    if (strcmp(c->http, "off") != 0 && http_check(c->http, c->http_token, why) < 0)
        return -1;
    if (c->max_payload > 64u * 1024 * 1024)
        return why_set(why, "--max-payload %" PRIu64 ": accepted is at most 64M", c->max_payload);
    if (check_durations(c, why) < 0)
        return -1;
    if (check_listen("--listen", c->listen, 5555, open, c->listen_endpoint, sizeof c->listen_endpoint, why) < 0
        || check_listen("--workers-listen", c->workers_listen, 5556, open, c->workers_endpoint, sizeof c->workers_endpoint, why) < 0)
        return -1;
    if (strncmp(c->workers_endpoint, "ipc://", 6) == 0 && c->lanes.prefix[0] == '\0') {
        if (snprintf(c->lanes.prefix, sizeof c->lanes.prefix, "%.80s-lane-", c->workers_endpoint) >= (int)sizeof c->lanes.prefix)
            return why_set(why, "--workers-listen '%s': this path is too long for the lanes beside it; use a shorter one", c->workers_endpoint);
    }
    return 0;
}
