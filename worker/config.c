/* The options table of the worker, and what its words mean. */
#include "worker/config.h"

#include <errno.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "common/net.h"
#include "common/options.h"

#define VENTILATOR_PORT 5556
#define CLIENTS_PORT 5555
#define RESULTS_PORT 5557

struct given {
    const char *ventilator, *sink, *submit_to, *name, *handlers_file, *keys, *handler_keys, *cgroup, *health_file;
    uint32_t slots;                  /* 0: auto */
    struct string_list labels, handlers, limits;
    uint64_t recycle;
    bool allow_commands, insecure;
    int64_t shutdown_timeout, leave_with;
    int log_format, log_level;
};

static int parse_slots(void *field, const char *text, struct why *why)
{
    uint64_t n = 0;
    if (strcmp(text, "auto") != 0 && parse_u64(text, 1, WIRE_SLOTS, &n, why) < 0)
        return why_set(why, "accepted are 1 to %u, and auto", WIRE_SLOTS);
    *(uint32_t *)field = (uint32_t)n;
    return 0;
}

static const struct option_spec options[] = {
    {.name = "ventilator", .type = OPT_STRING, .offset = offsetof(struct given, ventilator), .value = "ENDPOINT",
     .preset = "tcp://127.0.0.1:5556", .env = "TARMAC_VENTILATOR_WORKERS", .help = "The ventilator's port for workers."},
    {.name = "sink", .type = OPT_STRING, .offset = offsetof(struct given, sink), .value = "ENDPOINT",
     .help = "Where results go; without it the ventilator says where the sink is."},
    {.name = "submit-to", .type = OPT_STRING, .offset = offsetof(struct given, submit_to), .value = "ENDPOINT",
     .env = "TARMAC_VENTILATOR",
     .help = "The ventilator's port for clients, told to handlers that submit; without it the host of --ventilator, port 5555."},
    {.name = "name", .type = OPT_STRING, .offset = offsetof(struct given, name), .value = "ID",
     .help = "Unique among the workers; without it the host's name and a random suffix."},
    {.name = "slots", .type = OPT_CUSTOM, .offset = offsetof(struct given, slots), .value = "N|auto", .preset = "auto",
     .parse = parse_slots, .help = "How many attempts run at a time; auto: one for each core."},
    {.name = "label", .type = OPT_STRINGS, .offset = offsetof(struct given, labels), .value = "KEY=VALUE",
     .help = "What batches may require of a worker; may be given several times."},
    {.name = "handler", .type = OPT_STRINGS, .offset = offsetof(struct given, handlers), .value = "NAME='COMMAND LINE'",
     .help = "A command that batches may name; may be given several times."},
    {.name = "handlers", .type = OPT_STRING, .offset = offsetof(struct given, handlers_file), .value = "FILE",
     .help = "More of them: a JSON object {\"NAME\": {\"command\": [...], \"kind\": ..., \"limits\": {...}}}, or one NAME=COMMAND LINE a "
             "line, where # begins a comment."},
    {.name = "limit", .type = OPT_STRINGS, .offset = offsetof(struct given, limits), .value = "[NAME:]WHAT=VALUE",
     .help = "What an attempt may use: memory=SIZE, cpu=DURATION, processes=N, files=N; of one handler, or of all that have none "
             "themselves. May be given several times. One that nothing here can enforce is refused."},
    {.name = "recycle", .type = OPT_U64, .offset = offsetof(struct given, recycle), .value = "N", .preset = "0", .min = 0, .max = 1000000000,
     .help = "Persistent handlers and plugins that don't say it themselves are replaced after so many tasks; 0: never."},
    {.name = "allow-commands", .type = OPT_FLAG, .offset = offsetof(struct given, allow_commands),
     .help = "Also runs the commands that batches bring along: whoever can submit can run anything here."},
    {.name = "handler-keys", .type = OPT_STRING, .offset = offsetof(struct given, handler_keys), .value = "DIR",
     .help = "A client's folder of keys, for handlers that submit: they find it in TARMAC_KEYS. Handlers can read what is in it."},
    {.name = "cgroup", .type = OPT_STRING, .offset = offsetof(struct given, cgroup), .value = "PATH|auto|off", .preset = "auto",
     .help = "Each slot has a control group of its own, by which everything in it is ended: below PATH, a folder in a cgroup2 file "
             "system; auto: where this process is, if it may make groups there; off: by session and /proc only."},
    {.name = "shutdown-timeout", .type = OPT_DURATION, .offset = offsetof(struct given, shutdown_timeout), .value = "D",
     .preset = "30s", .help = "How long running attempts may go on after SIGTERM."},
    {.name = "health-file", .type = OPT_STRING, .offset = offsetof(struct given, health_file), .value = "FILE",
     .help = "A file, best in memory, that says every second how it is; 'ventilator doctor --health-file' reads it."},
    {.name = "log-format", .type = OPT_CHOICE, .offset = offsetof(struct given, log_format), .value = "text|json",
     .preset = "text", .choices = "text|json", .help = "How log lines look."},
    {.name = "log-level", .type = OPT_CHOICE, .offset = offsetof(struct given, log_level), .value = "LEVEL",
     .preset = "info", .choices = "error|warn|info|debug", .help = "The least important lines that are logged."},
    {.name = "keys", .type = OPT_STRING, .offset = offsetof(struct given, keys), .value = "DIR",
     .help = "A worker's folder of what 'ventilator keygen' made, for a ventilator that has keys."},
    {.name = "insecure", .type = OPT_FLAG, .offset = offsetof(struct given, insecure),
     .help = "Works without keys beyond this host."},
    {.name = "leave-with", .type = OPT_I64, .offset = offsetof(struct given, leave_with), .preset = "-1", .min = -1, .max = 1 << 20,
     .env = ""},
    {0},
};

static const struct option_spec *const tables[] = {options, NULL};

static const char details[] =
    "A command line is cut into words at blanks; 'single quotes' keep everything as it is, in \"double quotes\" and "
    "outside of quotes a backslash takes the next character as it is. No shell is involved. {} stands for the item, "
    "{#} for its number, {%} for the slot; without {} the item is the last argument.\n\n"
    "SIGTERM or SIGINT: gives back what has not started, lets what runs finish within --shutdown-timeout, and leaves "
    "when its last result is safe. A second one: leaves at once, and ends everything that runs.\n\n"
    "Exit codes: 0 stopped, 1 stopped with results that were not released, 2 usage, "
    "5 no memory or descriptors to begin with, 7 a bug of ours.";

static const struct command_spec command = {
    .program = "worker",
    .arguments = "[options]",
    .summary = "Runs the tasks that a ventilator hands out, one attempt per slot.",
    .details = details,
    .tables = tables,
};

static const struct command_spec *const commands[] = {&command, NULL};
static const struct program_spec program = {
    .name = "worker",
    .summary = "runs the tasks that a ventilator hands out",
    .details = details,
    .commands = commands,
};

/* ---- what each of them means ---- */

static int default_name(char *out, size_t size, struct why *why)
{
    char host[65];
    uint32_t suffix = 0;
    if (gethostname(host, sizeof host) < 0)
        return why_set(why, "the host's name can't be read: %s; give --name", strerror(errno));
    host[sizeof host - 1] = '\0';
    if (getrandom(&suffix, sizeof suffix, 0) != sizeof suffix)
        return why_set(why, "no random bytes for a name: %s; give --name", strerror(errno));
    snprintf(out, size, "%s-%04x", host, suffix & 0xffff);
    return 0;
}

static uint32_t count_cores(void)
{
    cpu_set_t set;
    int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return n > 0 ? (uint32_t)n : 1;
}

static int read_endpoints(const struct given *given, struct worker_config *ret, struct why *why)
{
    struct why detail;
    char host[200];
    if (net_endpoint_parse(given->ventilator, VENTILATOR_PORT, ret->ventilator, sizeof ret->ventilator, &detail) < 0)
        return why_set(why, "--ventilator: %s", detail.text);
    if (given->sink && net_endpoint_parse(given->sink, RESULTS_PORT, ret->sink, sizeof ret->sink, &detail) < 0)
        return why_set(why, "--sink: %s", detail.text);
    if (given->submit_to && net_endpoint_parse(given->submit_to, CLIENTS_PORT, ret->submit_to, sizeof ret->submit_to, &detail) < 0)
        return why_set(why, "--submit-to: %s", detail.text);
    if (!given->submit_to && net_endpoint_host(ret->ventilator, host, sizeof host) == 0)
        snprintf(ret->submit_to, sizeof ret->submit_to, "tcp://%s:%d", host, CLIENTS_PORT);
    return 0;
}

static bool has_label(const struct worker_config *config, const char *key)
{
    for (size_t i = 0; i < config->n_labels; i++)
        if (strcmp(config->labels[i]->key, key) == 0)
            return true;
    return false;
}

static int read_labels(const struct given *given, struct worker_config *ret, struct why *why)
{
    ret->labels = calloc(given->labels.n + 1, sizeof(Wire__Value *));
    if (!ret->labels)
        return why_set(why, "no memory for %zu labels", given->labels.n);
    for (size_t i = 0; i < given->labels.n; i++) {
        const char *text = given->labels.items[i], *equals = strchr(text, '=');
        char key[WIRE_KEY + 1] = "";
        if (equals && (size_t)(equals - text) <= WIRE_KEY)
            snprintf(key, sizeof key, "%.*s", (int)(equals - text), text);
        if (!wire_value_key_ok(key))
            return why_set(why, "--label %s: a label is KEY=VALUE, its key at most %u of the characters A-Z a-z 0-9 _ . - and "
                           "first a letter or _", text, WIRE_KEY);
        if (has_label(ret, key))
            return why_set(why, "--label %s: this key was given before; a label has one value", text);
        Wire__Value label = WIRE__VALUE__INIT;
        label.key = key;
        label.value = (char *)(uintptr_t)(equals + 1);
        ret->labels[ret->n_labels] = (Wire__Value *)wire_copy(&label.base);
        if (!ret->labels[ret->n_labels])
            return why_set(why, "no memory for label %s", text);
        ret->n_labels++;
    }
    return 0;
}

static int read_handlers(const struct given *given, struct worker_config *ret, struct why *why)
{
    for (size_t i = 0; i < given->handlers.n; i++)
        if (handlers_add_line(&ret->handlers, "--handler", given->handlers.items[i], why) < 0)
            return -1;
    if (given->handlers_file && handlers_read_file(&ret->handlers, given->handlers_file, why) < 0)
        return -1;
    for (size_t i = 0; i < given->limits.n; i++)
        if (handlers_limit(&ret->handlers, given->limits.items[i], why) < 0)
            return -1;
    handlers_complete(&ret->handlers, (uint32_t)given->recycle);
    return 0;
}

/* What the ventilator would refuse is refused here: a hello made of it all must be one that can be read. */
static int check_hello(const struct worker_config *config, struct why *why)
{
    char *handlers[WIRE_HANDLERS];
    if (config->handlers.n > WIRE_HANDLERS)
        return why_set(why, "--handler: %zu handlers; a worker has at most %u", config->handlers.n, WIRE_HANDLERS);
    for (size_t i = 0; i < config->handlers.n; i++)
        handlers[i] = (char *)(uintptr_t)config->handlers.list[i].name;
    Wire__WorkerHello hello = WIRE__WORKER_HELLO__INIT;
    hello.name = (char *)(uintptr_t)config->name;
    hello.major = WIRE_MAJOR;
    hello.slots = config->slots;
    hello.labels = config->labels;
    hello.n_labels = config->n_labels;
    hello.handlers = handlers;
    hello.n_handlers = config->handlers.n;
    hello.max_payload = WIRE_PAYLOAD;
    Wire__Upward message = WIRE__UPWARD__INIT;
    message.session = 1;
    message.what_case = WIRE__UPWARD__WHAT_HELLO;
    message.hello = &hello;
    struct wire_writer writer = {0};
    struct wire_arena *arena = wire_arena_new();
    const Wire__Upward *read;
    struct why detail;
    int error = 0;
    if (!arena || wire_write(&writer, &message.base) < 0)
        error = why_set(why, "no memory to begin with");
    else if (wire_read_upward(arena, writer.bytes, writer.len, 0, &read, &detail) < 0)
        error = why_set(why, "the ventilator would not understand this worker's name, labels or handlers: %s", detail.text);
    wire_arena_destroy(&arena);
    wire_writer_release(&writer);
    return error;
}

/* A handler may work in another folder. */
static int whole_path(const char *flag, const char *given, char ret[PATH_MAX], struct why *why)
{
    if (!given || given[0] == '\0' || realpath(given, ret))
        return 0;
    return why_set(why, "--%s %.200s: %s; give the folder that 'ventilator keygen' made", flag, given, strerror(errno));
}

static int read_keys(const struct given *given, struct worker_config *ret, struct why *why)
{
    struct why detail = {""};
    if (whole_path("keys", given->keys, ret->keys, why) < 0 || whole_path("handler-keys", given->handler_keys, ret->handler_keys, why) < 0)
        return -1;
    if (ret->handler_keys[0] == '\0')
        return 0;
    if (ret->keys[0] == '\0')
        return why_set(why, "--handler-keys %.200s without --keys: this worker has none itself, so nobody asks its handlers for theirs", given->handler_keys);
    struct net_keys *keys = net_keys_read(ret->handler_keys, ROLE_CLIENT, &detail);
    net_keys_destroy(&keys);
    return detail.text[0] == '\0' ? 0 : why_set(why, "--handler-keys: %s", detail.text);
}

static int make(const struct given *given, struct worker_config *ret, struct why *why)
{
    if (read_keys(given, ret, why) < 0)
        return -1;
    int n = snprintf(ret->cgroup, sizeof ret->cgroup, "%s", given->cgroup);
    if (n < 1 || (size_t)n >= sizeof ret->cgroup || (given->cgroup[0] != '/' && strcmp(given->cgroup, "auto") != 0 && strcmp(given->cgroup, "off") != 0))
        return why_set(why, "--cgroup %.100s: accepted are the whole path of a folder in a cgroup2 file system, auto, and off", given->cgroup);
    if (given->health_file && strlen(given->health_file) >= sizeof ret->health_file)
        return why_set(why, "--health-file %.100s...: this path is too long", given->health_file);
    snprintf(ret->health_file, sizeof ret->health_file, "%s", given->health_file ? given->health_file : "");
    ret->slots = given->slots ? given->slots : count_cores();
    ret->allow_commands = given->allow_commands;
    ret->shutdown_timeout = given->shutdown_timeout;
    ret->leave_with = (int)given->leave_with;
    ret->log_format = given->log_format == 1 ? LOG_JSON : LOG_TEXT;
    ret->log_level = (enum log_level)given->log_level;
    if (given->name && strlen(given->name) > WIRE_NAME)
        return why_set(why, "--name: %zu bytes; a name has 1 to %u", strlen(given->name), WIRE_NAME);
    if (given->name)
        snprintf(ret->name, sizeof ret->name, "%s", given->name);
    else if (default_name(ret->name, sizeof ret->name, why) < 0)
        return -1;
    if (read_endpoints(given, ret, why) < 0 || read_labels(given, ret, why) < 0 || read_handlers(given, ret, why) < 0)
        return -1;
    return check_hello(ret, why);
}

/* ---- all of it ---- */

static bool is_printed(int argc, char **argv, FILE *out)
{
    if (argc == 2 && strcmp(argv[1], "--man") == 0)
        options_man_program(&program, out);
    else if (argc == 2 && strcmp(argv[1], "--completion") == 0)
        options_completion(&program, out);
    else
        return false;
    return true;
}

enum config_result worker_config_read(int argc, char **argv, FILE *out, struct worker_config *ret, struct why *why)
{
    struct given given = {0};
    int rest;
    bool dashes;
    if (is_printed(argc, argv, out))
        return CONFIG_DONE;
    switch (options_parse(&command, argc, argv, &given, &rest, &dashes, why)) {
    case OPTIONS_HELP:
        options_help(&command, out);
        return CONFIG_DONE;
    case OPTIONS_VERSION:
        fprintf(out, "worker %s\n", TARMAC_VERSION);
        return CONFIG_DONE;
    case OPTIONS_BAD:
        return CONFIG_BAD;
    case OPTIONS_OK:
        break;
    }
    struct worker_config config = {0};
    int error = rest < argc ? why_set(why, "'%s' is not an option; a worker takes options only", argv[rest])
                            : make(&given, &config, why);
    options_release(&command, &given);
    if (error < 0) {
        worker_config_release(&config);
        return CONFIG_BAD;
    }
    *ret = config;
    return CONFIG_OK;
}

void worker_config_release(struct worker_config *self)
{
    for (size_t i = 0; i < self->n_labels; i++)
        wire_free(&self->labels[i]);
    free(self->labels);
    handlers_release(&self->handlers);
    *self = (struct worker_config){0};
}

static void unset_values(void)
{
    static const char prefix[] = "TARMAC_VALUE_";
    char name[256];
    for (char **variable = environ; variable && *variable;) {
        size_t len = strcspn(*variable, "=");
        bool is_value = strncmp(*variable, prefix, sizeof prefix - 1) == 0 && len < sizeof name;
        if (is_value) {
            snprintf(name, sizeof name, "%.*s", (int)len, *variable);
            unsetenv(name);    /* moves the next one here */
        } else {
            variable++;
        }
    }
}

void worker_config_clean_environment(const struct worker_config *self)
{
    static const char *const of_attempts[] = {
        "TARMAC_BATCH", "TARMAC_INDEX", "TARMAC_ATTEMPT", "TARMAC_KEY", "TARMAC_SLOT", "TARMAC_BUDGET_MS", "TARMAC_TRACE_ID",
        "TARMAC_VALUES", "TARMAC_PARENT", "TARMAC_KEYED", "TRACEPARENT", "TRACESTATE",
    };
    char name[64];
    for (size_t i = 0; i < sizeof of_attempts / sizeof *of_attempts; i++)
        unsetenv(of_attempts[i]);
    for (const struct option_spec *option = options; option->name; option++) {
        size_t n = (size_t)snprintf(name, sizeof name, "TARMAC_%s", option->env ? "" : option->name);
        for (size_t i = 0; i < n && i < sizeof name - 1; i++)
            name[i] = name[i] == '-' ? '_' : name[i] >= 'a' && name[i] <= 'z' ? (char)(name[i] - 'a' + 'A') : name[i];
        unsetenv(option->env ? option->env : name);
    }
    unset_values();
    /* Without memory for it a handler is refused by the ventilator, and doesn't know why. */
    if (self->handler_keys[0] != '\0')
        setenv("TARMAC_KEYS", self->handler_keys, 1);
    else if (self->keys[0] != '\0')
        setenv("TARMAC_KEYED", "1", 1);
}

struct agent_config worker_config_of_agent(const struct worker_config *self, uint64_t session)
{
    return (struct agent_config){
        .name = self->name, .program = "worker " TARMAC_VERSION, .slots = self->slots,
        .labels = (const Wire__Value *const *)self->labels, .n_labels = self->n_labels,
        .handlers = self->handlers.list, .n_handlers = self->handlers.n,
        .allow_commands = self->allow_commands, .max_payload = WIRE_PAYLOAD,
        .shutdown_timeout = self->shutdown_timeout, .session = session,
    };
}
