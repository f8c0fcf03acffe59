/* The command doctor: its options, its lines, its exit code. */
#include "ventilator/cli_doctor.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include "common/bug.h"
#include "common/notify.h"
#include "ventilator/cli.h"

#define AT(field) offsetof(struct doctor, field)

static const struct option_spec doctor_options[] = {
    {.name = "data", .type = OPT_STRING, .offset = AT(data), .value = "DIR", .env = "",
     .help = "Look at this folder of a ventilator or a sink that doesn't run, instead of what runs."},
    {.name = "quick", .type = OPT_FLAG, .offset = AT(quick), .env = "",
     .help = "Only whether the ventilator answers: for health checks."},
    {.name = "for-worker", .type = OPT_FLAG, .offset = AT(for_worker), .env = "",
     .help = "A port that only a worker on this host would need, and that can't be reached from here, is a failure and no warning."},
    {.name = "health-file", .type = OPT_STRING, .offset = AT(health_file), .value = "FILE", .env = "",
     .help = "Only what this file, written by a program on this host that was started with --health-file, says: for health checks."},
    {.name = "ventilator", .type = OPT_STRING, .offset = AT(ventilator), .value = "ENDPOINT", .preset = "tcp://127.0.0.1:5555",
     .help = "Where the ventilator listens for clients; the port may be left out."},
    {.name = "keys", .type = OPT_STRING, .offset = AT(keys), .value = "DIR",
     .help = "Look at this folder of keys too: a role's, or that of all roles; what runs is asked with a client's keys."},
    {.name = "connect-timeout", .type = OPT_DURATION, .offset = AT(connect_timeout), .value = "D", .preset = "10s",
     .help = "How long the first contact may take."},
    {.name = NULL},
};
static const struct option_spec *const doctor_tables[] = {doctor_options, NULL};

const struct command_spec doctor_command = {
    .program = "ventilator", .name = "doctor", .arguments = "[options]",
    .summary = "Looks at what runs, or at a folder on the disk, and says what is wrong and what to do.",
    .details = "One line for each thing: ok, WARN or FAIL. Exit code 0 when nothing has failed, 1 when something has, 3 when the "
               "ventilator can't be reached. With --data: every page, record and frame of the folder's store is read and compared "
               "with its checksum, and nothing is changed; exit code 0, 5 when a process has the folder, 6 when it is damaged or "
               "can't be read. With --health-file: exit code 0 when the program serves, 1 when it waits for another one or leaves, 3 when it stands "
               "still or isn't there. 6 also says that standard output can't be written.",
    .tables = doctor_tables,
};

void doctor_say(struct doctor *self, enum finding finding, const char *format, ...)
{
    static const char *const words[] = {[FINDING_OK] = "ok   ", [FINDING_WARN] = "WARN ", [FINDING_FAIL] = "FAIL "};
    va_list args;
    self->warnings += finding == FINDING_WARN;
    self->failures += finding == FINDING_FAIL;
    printf("%s ", words[finding]);
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
}

static int look_at_health(struct doctor *self)
{
    static const enum finding findings[] = {[HEALTH_SERVING] = FINDING_OK, [HEALTH_AWAY] = FINDING_WARN, [HEALTH_DEAD] = FINDING_FAIL};
    static const int codes[] = {[HEALTH_SERVING] = CLI_OK, [HEALTH_AWAY] = CLI_NOT_OK, [HEALTH_DEAD] = CLI_UNREACHABLE};
    struct why why;
    enum health health = notify_health(self->health_file, &why);
    doctor_say(self, findings[health], "%s", why.text);
    return codes[health];
}

/* With keys, but none of a client, what runs would not answer. */
static bool can_ask(struct doctor *self)
{
    if (!self->keys || self->client_keys[0] != '\0')
        return true;
    doctor_say(self, FINDING_WARN, "%s: no keys of a client: what runs is not asked", self->keys);
    return false;
}

static int run(struct doctor *self, int rest, int argc)
{
    struct why why, inner;
    if (rest < argc) {
        cli_refuse_usage("doctor takes options only; see 'ventilator doctor --help'");
        return EXIT_USAGE;
    }
    if (self->health_file && (self->data || self->quick)) {
        cli_refuse_usage("--health-file asks no network and no folder; leave --data and --quick out");
        return EXIT_USAGE;
    }
    if (self->health_file)
        return look_at_health(self);
    if (self->data && self->quick) {
        cli_refuse_usage("--data and --quick: one looks at a folder, the other at what runs; give one of both");
        return EXIT_USAGE;
    }
    if (!self->data && net_endpoint_parse(self->ventilator, 5555, self->endpoint, sizeof self->endpoint, &inner) < 0) {
        why_set(&why, "--ventilator '%.200s': %s", self->ventilator, inner.text);
        cli_refuse_usage(why.text);
        return EXIT_USAGE;
    }
    bool good = self->data || !self->keys || doctor_look_at_keys(self);
    int code = self->data ? doctor_look_at_disk(self) : can_ask(self) ? doctor_reach(self) : good ? CLI_OK : CLI_NOT_OK;
    if (!good && code == CLI_OK)
        code = CLI_NOT_OK;
    return code;
}

int doctor_main(int argc, char **argv)
{
    struct doctor self = {0};
    int rest, code;
    bool dashes;
    if (!cli_parse_into(&doctor_command, argc, argv, &self, &rest, &dashes, &code))
        return code;
    code = run(&self, rest, argc);
    options_release(&doctor_command, &self);
    return code;
}
