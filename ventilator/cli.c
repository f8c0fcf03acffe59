/* A session: a loop with a connection to a ventilator, until there is an exit code. */
#include "ventilator/cli.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bug.h"
#include "common/output.h"
#include "ventilator/cli_output.h"

#define MAX_SOCKETS 64
#define PROGRAM "ventilator " TARMAC_VERSION

void cli_say(struct cli *self, const char *format, ...)
{
    va_list args;
    bar_clear(self->bar);
    if (self->clear)
        self->clear(self->clear_arg);
    fputs("ventilator: ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

void cli_print_id(struct cli *self, const char *short_id)
{
    puts(short_id);
    if (output_flush() != 0)
        cli_say(self, "batch %s is submitted; standard output does not take its id", short_id);
}

void cli_end(struct cli *self, int code)
{
    if (self->over)
        return;
    self->over = true;
    self->code = code;
    loop_stop(self->loop);
}

void cli_fail(struct cli *self, int code, const char *sentence)
{
    if (self->over)
        return;
    cli_say(self, "%s", sentence);
    cli_end(self, code);
}

void cli_fail_as(struct cli *self, enum client_end end, const char *sentence)
{
    static const int codes[] = {
        [CLIENT_REFUSED] = CLI_REFUSED, [CLIENT_UNREACHABLE] = CLI_UNREACHABLE, [CLIENT_BAD_INPUT] = EXIT_USAGE,
    };
    char whole[4 * WIRE_SENTENCE];
    if (end == CLIENT_UNREACHABLE && self->advice) {
        snprintf(whole, sizeof whole, "%s; %s", sentence, self->advice);
        sentence = whole;
    }
    cli_fail(self, codes[end], sentence);
}

void cli_advise_cancelled(struct cli *self, const char *short_id, char *out, size_t size)
{
    snprintf(out, size, "batch %s is cancelled: 'ventilator wait %s' says how it ended", short_id, short_id);
    self->advice = out;
}

static void on_failed(void *arg, enum client_end end, const char *sentence)
{
    cli_fail_as(arg, end, sentence);
}

static int cannot_start(struct cli *self, const char *sentence)
{
    fprintf(stderr, "ventilator: %s\n", sentence);
    self->code = EXIT_BUSY;
    cli_close(self);
    return -1;
}

/* A worker with keys tells its handlers so, in case it has none for them. For another ventilator it says nothing. */
static bool lacks_keys(const struct cli_options *options)
{
    const char *keyed = getenv("TARMAC_KEYED"), *ours = getenv("TARMAC_VENTILATOR");
    if (!keyed || !*keyed || (options->keys && *options->keys) || !options->ventilator)
        return false;
    return ours && strcmp(ours, options->ventilator) == 0;
}

int cli_open(struct cli *self, const struct cli_options *options, void (*on_signal)(void *arg, int number), void *arg)
{
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    struct why why;
    *self = (struct cli){.options = options};
    signal(SIGPIPE, SIG_IGN);
    self->loop = loop_new();
    if (!self->loop)
        return cannot_start(self, "no event loop can be made; are there too many open files?");
    if (on_signal && loop_signals(self->loop, signals, sizeof signals / sizeof *signals, on_signal, arg) < 0)
        return cannot_start(self, "signals can't be received; are there too many open files?");
    struct net_config config = {.max_sockets = MAX_SOCKETS, .max_message = WIRE_MESSAGE};
    if (lacks_keys(options)) {
        cannot_start(self, "this handler's ventilator takes connections with keys only, and its worker has none for handlers: start the worker "
                           "with --handler-keys, or give --keys here");
        return self->code = CLI_REFUSED, -1;
    }
    if (options->keys && options->keys[0] != '\0' && !(config.keys = net_keys_read(options->keys, ROLE_CLIENT, &why))) {
        cannot_start(self, why.text);
        return self->code = EXIT_USAGE, -1;
    }
    self->net = net_new(self->loop, &config, &why);
    return self->net ? 0 : cannot_start(self, why.text);
}

int cli_connect(struct cli *self)
{
    struct why why;
    struct client_config config = {
        .ventilator = self->options->endpoint, .program = PROGRAM, .connect_timeout = self->options->connect_timeout,
        .reconnect_timeout = self->options->reconnect_timeout, .failed = on_failed, .arg = self,
    };
    self->client = client_new(self->loop, self->net, &config, &why);
    if (self->client)
        return 0;
    fprintf(stderr, "ventilator: %s\n", why.text);
    self->code = CLI_UNREACHABLE;
    return -1;
}

int cli_run_loop(struct cli *self)
{
    int r = self->over ? 0 : loop_run(self->loop);
    if (r < 0) {
        fprintf(stderr, "ventilator: waiting for events failed: %s\n", strerror(-r));
        return EXIT_BUG;
    }
    return self->code;
}

void cli_close(struct cli *self)
{
    client_destroy(&self->client);
    net_destroy(&self->net);
    if (self->loop)
        loop_destroy(&self->loop);
}
