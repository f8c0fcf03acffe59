/* The library's client: a connection of its own with a loop of its own, which runs only inside the calls. */
#include "tarmac/api_private.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "tarmac/client_private.h"

#define MAX_SOCKETS 64
#define PORT 5555
#define DEFAULT "tcp://127.0.0.1:5555"
#define CONNECT_NS (10 * NS_PER_S)
#define RECONNECT_NS (60 * NS_PER_S)

const char *tarmac_version(void) { return TARMAC_VERSION; }

/* ---- failures ---- */

const char *tarmac_code_name(int code)
{
    switch (code) {
    case TARMAC_OK:                return "ok";
    case TARMAC_CANCELLED:         return "context cancelled";
    case TARMAC_DEADLINE_EXCEEDED: return "context deadline exceeded";
    case TARMAC_REFUSED:           return "refused";
    case TARMAC_UNREACHABLE:       return "unreachable";
    case TARMAC_BAD_INPUT:         return "bad input";
    case TARMAC_NO_MEMORY:         return "no memory";
    case TARMAC_CLOSED:            return "closed";
    default:                       return "unknown";
    }
}

int failed(tarmac_failure *failure, enum tarmac_code code, const char *format, ...)
{
    va_list args;
    if (failure) {
        failure->code = code;
        va_start(args, format);
        vsnprintf(failure->sentence, sizeof failure->sentence, format, args);
        va_end(args);
    }
    return code;
}

int failed_with(tarmac_failure *failure, const tarmac_failure *from)
{
    if (failure)
        *failure = *from;
    return from->code;
}

int failed_as(tarmac_failure *failure, enum client_end end, const char *sentence)
{
    static const enum tarmac_code codes[] = {
        [CLIENT_REFUSED] = TARMAC_REFUSED, [CLIENT_UNREACHABLE] = TARMAC_UNREACHABLE, [CLIENT_BAD_INPUT] = TARMAC_BAD_INPUT,
    };
    return failed(failure, codes[end], "%s", sentence);
}

/* ---- waiting ---- */

struct waiting {
    struct loop *loop;
    bool (*is_done)(void *arg);
    void *arg;
};

/* After each turn: what was waited for may have come. */
static bool look(void *arg)
{
    struct waiting *self = arg;
    if (self->is_done(self->arg))
        loop_stop(self->loop);
    return false;
}

static void on_context_end(void *arg, uint32_t events)
{
    (void)events;
    loop_stop(((struct waiting *)arg)->loop);
}

static int ended(tarmac_context *context, tarmac_failure *failure)
{
    char cause[300];
    int err = tarmac_err(context);
    return err == TARMAC_OK ? TARMAC_OK : failed(failure, err, "%s", tarmac_cause(context, cause, sizeof cause));
}

int api_wait(tarmac_context *context, tarmac_client *client, bool (*is_done)(void *arg), void *arg, tarmac_failure *failure)
{
    struct waiting waiting = {.loop = client->loop, .is_done = is_done, .arg = arg};
    struct loop_hook hook = {.turn = look, .arg = &waiting};
    struct loop_watch watch = {.fd = tarmac_done(context), .ready = on_context_end, .arg = &waiting};
    int code = TARMAC_OK, error = 0;
    loop_add_hook(client->loop, &hook);
    if (watch.fd >= 0)
        error = loop_watch(client->loop, &watch, EPOLLIN);
    while (error == 0 && code == TARMAC_OK && !is_done(arg)) {
        code = client->failure.code != TARMAC_OK ? failed_with(failure, &client->failure) : ended(context, failure);
        if (code == TARMAC_OK)
            error = loop_run(client->loop);
    }
    loop_unwatch(client->loop, &watch);
    loop_remove_hook(client->loop, &hook);
    return error < 0 ? failed(failure, TARMAC_NO_MEMORY, "waiting for events failed: %s", strerror(-error)) : code;
}

static void on_turn(void *arg) { loop_stop(((tarmac_client *)arg)->loop); }

void api_turn(tarmac_client *client)
{
    if (loop_timer_set(client->loop, &client->turn, mono_now()) == 0)
        loop_run(client->loop);
}

/* ---- asking ---- */

struct asking {
    client_reply *reply;
    void *arg;
    bool answered;
    int code;
    tarmac_failure *failure;
};

static bool is_answered(void *arg) { return ((struct asking *)arg)->answered; }

static void on_reply(void *arg, const Wire__Reply *reply)
{
    struct asking *self = arg;
    self->answered = true;
    if (reply->what_case == WIRE__REPLY__WHAT_REFUSED)
        self->code = failed(self->failure, TARMAC_REFUSED, "%s", reply->refused->sentence);
    else
        self->reply(self->arg, reply);
}

int api_ask(tarmac_context *context, tarmac_client *client, Wire__Request *request, client_reply *reply, void *arg,
            tarmac_failure *failure)
{
    struct asking asking = {.reply = reply, .arg = arg, .failure = failure};
    uint64_t id = client_request(client->client, request, on_reply, &asking);
    if (id == 0)
        return failed(failure, TARMAC_NO_MEMORY, "there is no memory left");
    int code = api_wait(context, client, is_answered, &asking, failure);
    client_forget(client->client, id);
    return code != TARMAC_OK ? code : asking.code;
}

/* ---- connecting ---- */

static void on_failed(void *arg, enum client_end end, const char *sentence)
{
    tarmac_client *self = arg;
    failed_as(&self->failure, end, sentence);
    loop_stop(self->loop);
}

static bool is_up(void *arg) { return client_is_up(((tarmac_client *)arg)->client); }

/* *ret: NULL when there are none. A worker with keys tells its handlers so, in case it has none for them. */
static int read_keys(const char *dir, bool elsewhere, struct net_keys **ret, tarmac_failure *failure)
{
    const char *variable = getenv("TARMAC_KEYS"), *keyed = getenv("TARMAC_KEYED");
    struct why why;
    if (!dir && variable)
        dir = variable;
    if (dir && *dir)
        return (*ret = net_keys_read(dir, ROLE_CLIENT, &why)) ? TARMAC_OK : failed(failure, TARMAC_BAD_INPUT, "%s", why.text);
    if (keyed && *keyed && !elsewhere)
        return failed(failure, TARMAC_REFUSED, "this handler's ventilator takes connections with keys only, and its worker has none for handlers: "
                      "start the worker with --handler-keys");
    return TARMAC_OK;
}

static int open_client(tarmac_client *self, const char *ventilator, const char *dir, tarmac_failure *failure)
{
    struct why why;
    char endpoint[256];
    const char *variable = getenv("TARMAC_VENTILATOR");
    bool elsewhere = ventilator && (!variable || strcmp(ventilator, variable) != 0);
    struct net_config network = {.max_sockets = MAX_SOCKETS, .max_message = WIRE_MESSAGE};
    if (!ventilator)
        ventilator = variable && *variable ? variable : DEFAULT;
    if (net_endpoint_parse(ventilator, PORT, endpoint, sizeof endpoint, &why) < 0)
        return failed(failure, TARMAC_BAD_INPUT, "ventilator '%.100s': %.250s", ventilator, why.text);
    self->loop = loop_new();
    if (!self->loop)
        return failed(failure, TARMAC_NO_MEMORY, "no event loop can be made: %s", strerror(errno));
    int code = read_keys(dir, elsewhere, &network.keys, failure);
    if (code != TARMAC_OK)
        return code;
    self->net = net_new(self->loop, &network, &why);
    if (!self->net)
        return failed(failure, TARMAC_NO_MEMORY, "%s", why.text);
    struct client_config config = {
        .ventilator = endpoint, .program = "libtarmac " TARMAC_VERSION, .connect_timeout = CONNECT_NS,
        .reconnect_timeout = RECONNECT_NS, .failed = on_failed, .arg = self,
    };
    self->client = client_new(self->loop, self->net, &config, &why);
    return self->client ? TARMAC_OK : failed(failure, TARMAC_NO_MEMORY, "%s", why.text);
}

tarmac_client *tarmac_connect(tarmac_context *context, const char *ventilator, tarmac_failure *failure)
{
    return tarmac_connect_with_keys(context, ventilator, NULL, failure);
}

tarmac_client *tarmac_connect_with_keys(tarmac_context *context, const char *ventilator, const char *keys, tarmac_failure *failure)
{
    tarmac_client *self = calloc(1, sizeof *self);
    if (!self) {
        failed(failure, TARMAC_NO_MEMORY, "there is no memory left");
        return NULL;
    }
    self->turn = (struct loop_timer){.fire = on_turn, .arg = self};
    int code = open_client(self, ventilator, keys, failure);
    if (code == TARMAC_OK) {
        /* Nothing is asked yet, and its absence is a failure all the same. */
        client_want(self->client, +1);
        code = api_wait(context, self, is_up, self, failure);
        client_want(self->client, -1);
    }
    if (code != TARMAC_OK)
        tarmac_disconnect(&self);
    return self;
}

void tarmac_disconnect(tarmac_client **self_p)
{
    tarmac_client *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    if (self->loop)
        loop_timer_clear(self->loop, &self->turn);
    client_destroy(&self->client);
    net_destroy(&self->net);
    if (self->loop)
        loop_destroy(&self->loop);
    free(self);
}
