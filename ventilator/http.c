/* The daemon in the loop, and what becomes of a request: its head is judged, its body gathered up to a bound, the
 * API answers it, at once or when the ledger does (until then its connection is suspended).
 *
 * libmicrohttpd has no thread here. Its epoll descriptor lies in the loop's; each time that it is ready, or that
 * libmicrohttpd has asked to be called by then, MHD_run does what can be done without waiting. */
#include "ventilator/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "common/bug.h"
#include "common/log.h"
#include "ventilator/http_private.h"

/* ---- answers ---- */

void call_answer(struct call *call, unsigned status, const char *type, char *text, size_t len)
{
    free(call->text);
    call->text = text;
    call->text_len = text != NULL ? len : 0;
    call->status = text != NULL ? status : MHD_HTTP_SERVICE_UNAVAILABLE;
    call->type = type;
    call->answered = true;
}

void call_json(struct call *call, unsigned status, json_t *json)
{
    char *text = json != NULL ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(json);
    call_answer(call, status, "application/json", text, text != NULL ? strlen(text) : 0);
}

void call_error(struct call *call, unsigned status, const char *format, ...)
{
    char sentence[WIRE_SENTENCE + 1];
    va_list ap;
    va_start(ap, format);
    vsnprintf(sentence, sizeof sentence, format, ap);
    va_end(ap);
    call->http->refused++;
    json_t *o = json_object();
    json_object_set_new(o, "error", json_text(sentence));
    call_json(call, status, o);
}

const char *call_argument(const struct call *call, const char *key)
{
    return MHD_lookup_connection_value(call->connection, MHD_GET_ARGUMENT_KIND, key);
}

static const char *header(const struct call *call, const char *key)
{
    return MHD_lookup_connection_value(call->connection, MHD_HEADER_KIND, key);
}

static void add_headers(const struct call *call, struct MHD_Response *response)
{
    static const char *const always[][2] = {
        {"X-Content-Type-Options", "nosniff"},
        {"Referrer-Policy", "no-referrer"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
                                    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"},
        {"Cache-Control", "no-store"},
    };
    for (size_t i = 0; i < sizeof always / sizeof *always; i++)
        MHD_add_response_header(response, always[i][0], always[i][1]);
    if (call->type != NULL)
        MHD_add_response_header(response, "Content-Type", call->type);
    if (call->status == MHD_HTTP_TOO_MANY_REQUESTS || call->status == MHD_HTTP_SERVICE_UNAVAILABLE)
        MHD_add_response_header(response, "Retry-After", "1");
    if (call->status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
}

static enum MHD_Result queue_answer(struct call *call)
{
    struct MHD_Response *response = call->response;
    call->response = NULL;
    if (response == NULL) {
        response = MHD_create_response_from_buffer(call->text_len, call->text, MHD_RESPMEM_MUST_FREE);
        if (response != NULL)
            call->text = NULL;
    }
    if (response == NULL)
        return MHD_NO;
    add_headers(call, response);
    call->queued = true;
    call->http->served++;
    enum MHD_Result rc = MHD_queue_response(call->connection, call->status, response);
    MHD_destroy_response(response);
    return rc;
}

/* ---- asking the ledger ---- */

static void run_soon(struct http *self)
{
    loop_timer_set(self->loop, &self->timer, loop_now(self->loop));
}

void call_ask(struct call *call, Wire__Request *request)
{
    struct http *self = call->http;
    Wire__ClientHello hello = WIRE__CLIENT_HELLO__INIT;
    Wire__Request first = WIRE__REQUEST__INIT;
    hello.major = WIRE_MAJOR;
    hello.minor = WIRE_MINOR;
    hello.program = (char *)(uintptr_t)self->config.program;
    first.id = ++self->requests;
    first.what_case = WIRE__REQUEST__WHAT_HELLO;
    first.hello = &hello;
    self->ports.ask(self->ports.arg, call->who, &first);     /* the ledger forgets clients that are idle for long */
    request->id = call->request = ++self->requests;
    call->asked = loop_now(self->loop);
    self->asking = call;
    self->ports.ask(self->ports.arg, call->who, request);
    self->asking = NULL;
    if (!call->answered)
        LIST_INSERT_HEAD(&self->waiting, call, link);
}

static void wake(struct call *call)
{
    LIST_REMOVE(call, link);
    call->request = 0;
    if (call->suspended) {
        call->suspended = false;
        MHD_resume_connection(call->connection);
        run_soon(call->http);
    }
}

void http_reply(struct http *self, const Wire__Reply *reply)
{
    if (self->asking != NULL && self->asking->request == reply->id) {
        api_reply(self->asking, reply);
        self->asking->request = 0;
        return;
    }
    struct call *call;
    LIST_FOREACH(call, &self->waiting, link) {
        if (call->request != reply->id)
            continue;
        api_reply(call, reply);
        wake(call);
        return;
    }
}

static void give_up_late(struct http *self)
{
    struct call *call, *next;
    LIST_FOREACH_SAFE(call, &self->waiting, link, next) {
        if (mono_since(loop_now(self->loop), call->asked) < HTTP_ANSWER_NS)
            continue;
        call_error(call, MHD_HTTP_GATEWAY_TIMEOUT, "the ventilator has not answered within 60 s; the action may still happen: look before you repeat it");
        wake(call);
    }
}

/* ---- a request comes in ---- */

static void client_address(struct MHD_Connection *connection, char *out, size_t size)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    out[0] = '\0';
    if (info == NULL || info->client_addr == NULL)
        return;
    const struct sockaddr *address = info->client_addr;
    if (address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)address)->sin_addr, out, (socklen_t)size);
    else if (address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr, out, (socklen_t)size);
}

static bool is_open_to_all(const struct call *call)
{
    return call->n_parts == 1 && (strcmp(call->parts[0], "healthz") == 0 || strcmp(call->parts[0], "readyz") == 0);
}

/* Whether it may be answered by the API; else its refusal is its answer. */
static bool admit(struct call *call)
{
    struct http *self = call->http;
    mono_t now = loop_now(self->loop);
    if (!guard_take(&self->guard, now, call->who, 1))
        call_error(call, MHD_HTTP_TOO_MANY_REQUESTS, "more than %.0f requests a second from %s; ask less often", GUARD_PER_S, call->who);
    else if (!guard_host_ok(&self->guard, header(call, "Host")))
        call_error(call, 421, "this ventilator is not called by that Host; use its address, localhost, or start it with --http-name");
    else if (!is_open_to_all(call)
             && !guard_token_ok(&self->guard, header(call, "Authorization"), MHD_lookup_connection_value(call->connection, MHD_COOKIE_KIND, "tarmac"),
                                call->n_parts == 0 ? call_argument(call, "token") : NULL)) {
        guard_take(&self->guard, now, call->who, GUARD_FAILURE);
        call_error(call, MHD_HTTP_UNAUTHORIZED, "this ventilator wants its token: 'Authorization: Bearer TOKEN', or open /?token=TOKEN once");
    } else if (call->is_post && !guard_origin_ok(header(call, "Host"), header(call, "Origin"), header(call, "Sec-Fetch-Site"), header(call, "X-Tarmac"))) {
        call_error(call, MHD_HTTP_FORBIDDEN, "an action needs the header 'X-Tarmac: 1', and comes from this ventilator's own page or from no page");
    }
    return !call->answered;
}

static bool split_path(struct call *call, const char *url)
{
    char *at = url[0] == '/' ? call->path = strdup(url + 1) : NULL;
    if (at == NULL)
        return false;
    while (at != NULL && *at != '\0' && call->n_parts < HTTP_PARTS)
        call->parts[call->n_parts++] = strsep(&at, "/");
    return at == NULL || *at == '\0';
}

static enum MHD_Result begin_call(struct http *self, struct MHD_Connection *connection, const char *url, const char *method, void **state)
{
    struct call *call = calloc(1, sizeof *call);
    if (call == NULL)
        return MHD_NO;
    *state = call;
    call->http = self;
    call->connection = connection;
    call->is_post = strcmp(method, MHD_HTTP_METHOD_POST) == 0;
    call->is_head = strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;
    client_address(connection, call->who, sizeof call->who);
    if (!split_path(call, url))
        call_error(call, MHD_HTTP_NOT_FOUND, "there is nothing at this path; docs/http.md lists them");
    else if (!call->is_post && !call->is_head && strcmp(method, MHD_HTTP_METHOD_GET) != 0)
        call_error(call, MHD_HTTP_METHOD_NOT_ALLOWED, "GET, HEAD and POST are taken here");
    else
        admit(call);
    return call->answered ? queue_answer(call) : MHD_YES;
}

static void gather_body(struct call *call, const char *bytes, size_t len)
{
    if (len > HTTP_BODY - call->body_len) {
        call->body_too_long = true;
        return;
    }
    memcpy(call->body + call->body_len, bytes, len);
    call->body_len += len;
}

static enum MHD_Result on_request(void *arg, struct MHD_Connection *connection, const char *url, const char *method, const char *version,
                                  const char *bytes, size_t *len, void **state)
{
    (void)version;
    struct http *self = arg;
    struct call *call = *state;
    if (call == NULL)
        return begin_call(self, connection, url, method, state);
    if (call->queued)
        return MHD_YES;
    if (*len > 0) {
        gather_body(call, bytes, *len);
        *len = 0;
        return MHD_YES;
    }
    if (call->body_too_long)
        call_error(call, MHD_HTTP_CONTENT_TOO_LARGE, "a body has at most %zu bytes here", HTTP_BODY);
    else if (!call->answered)
        api_handle(call);
    if (call->answered)
        return queue_answer(call);
    call->suspended = true;
    MHD_suspend_connection(connection);
    return MHD_YES;
}

static void on_completed(void *arg, struct MHD_Connection *connection, void **state, enum MHD_RequestTerminationCode code)
{
    (void)arg, (void)connection, (void)code;
    struct call *call = *state;
    *state = NULL;
    if (call == NULL)
        return;
    if (call->request != 0)
        LIST_REMOVE(call, link);
    if (call->response != NULL)
        MHD_destroy_response(call->response);
    free(call->path);
    free(call->text);
    free(call);
}

/* The URL is handed over as text: an escaped NUL would end it early, so it is left as it came. */
static size_t unescape(void *arg, struct MHD_Connection *connection, char *text)
{
    (void)arg, (void)connection;
    if (strstr(text, "%00") != NULL)
        return strlen(text);
    return MHD_http_unescape(text);
}

static void on_log(void *arg, const char *format, va_list ap)
{
    (void)arg;
    char text[256];
    vsnprintf(text, sizeof text, format, ap);
    text[strcspn(text, "\r\n")] = '\0';
    log_event(LOG_DEBUG, "http", "what", text, NULL);
}

/* ---- in the loop ---- */

static void run(struct http *self)
{
    MHD_UNSIGNED_LONG_LONG ms;
    MHD_run(self->daemon);
    if (MHD_get_timeout(self->daemon, &ms) == MHD_YES)
        loop_timer_set(self->loop, &self->timer, mono_add(loop_now(self->loop), (int64_t)ms * NS_PER_MS));
    else
        loop_timer_clear(self->loop, &self->timer);
}

static void on_ready(void *arg, uint32_t events)
{
    (void)events;
    run(arg);
}

static void on_timer(void *arg)
{
    run(arg);
}

static void on_tick(void *arg)
{
    struct http *self = arg;
    mono_t now = loop_now(self->loop);
    loop_timer_set(self->loop, &self->tick, mono_add(now, self->config.tick));
    tower_sample(self->tower, self->ports.ledger, now);
    stream_tick(self);
    give_up_late(self);
    run(self);
}

/* ---- where it listens ---- */

static int parse_port(const char *text, uint64_t *port)
{
    struct why ignored;
    return parse_u64(text, 0, 65535, port, &ignored);
}

static int parse_listen(const char *text, struct sockaddr_storage *out, bool *ret_loopback, struct why *why)
{
    char host[200];
    const char *colon = strrchr(text, ':');
    size_t len = colon != NULL ? (size_t)(colon - text) : 0;
    uint64_t port;
    if (len == 0 || len >= sizeof host || parse_port(colon + 1, &port) < 0)
        return why_set(why, "--http '%s': it is off, or HOST:PORT such as 127.0.0.1:8080", text);
    memcpy(host, text, len);
    host[len] = '\0';
    memset(out, 0, sizeof *out);
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    if (strcmp(host, "localhost") == 0 || inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        if (host[0] == 'l')
            v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)port);
        *ret_loopback = ntohl(v4->sin_addr.s_addr) >> 24 == 127;
        return 0;
    }
    if (host[0] == '[' && host[len - 1] == ']') {
        host[len - 1] = '\0';
        if (inet_pton(AF_INET6, host + 1, &v6->sin6_addr) == 1) {
            v6->sin6_family = AF_INET6;
            v6->sin6_port = htons((uint16_t)port);
            *ret_loopback = IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
            return 0;
        }
    }
    return why_set(why, "--http '%s': the host is an address (127.0.0.1, 0.0.0.0, [::1]) or localhost", text);
}

int http_check(const char *listen, const char *token, struct why *why)
{
    struct sockaddr_storage address;
    struct guard guard = {.needs_token = false};
    bool is_loopback = false;
    if (parse_listen(listen, &address, &is_loopback, why) < 0)
        return -1;
    if (token != NULL && token[0] != '\0')
        return guard_set_token(&guard, token, why);
    if (!is_loopback)
        return why_set(why, "--http %s can be reached from other machines: give it --http-token, or listen on 127.0.0.1", listen);
    return 0;
}

static int start_daemon(struct http *self, struct why *why)
{
    struct sockaddr_storage address;
    bool is_loopback;
    if (parse_listen(self->listen, &address, &is_loopback, why) < 0)
        return -1;
    unsigned flags = MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | (address.ss_family == AF_INET6 ? MHD_USE_IPv6 : 0);
    int64_t silence = self->config.silence / NS_PER_S;
    errno = 0;
    self->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, self, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&address,
                                    MHD_OPTION_EXTERNAL_LOGGER, on_log, self, MHD_OPTION_NOTIFY_COMPLETED, on_completed, self,
                                    MHD_OPTION_UNESCAPE_CALLBACK, unescape, self, MHD_OPTION_CONNECTION_LIMIT, HTTP_CONNECTIONS,
                                    MHD_OPTION_PER_IP_CONNECTION_LIMIT, HTTP_PER_ADDRESS, MHD_OPTION_CONNECTION_TIMEOUT,
                                    (unsigned)(silence > 0 ? silence : 1), MHD_OPTION_CONNECTION_MEMORY_LIMIT, 2 * HTTP_HEAD,
                                    MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    if (self->daemon != NULL)
        return 0;
    int error = errno;
    why_set(why, "--http %s: can't listen there: %s", self->listen, error != 0 ? strerror(error) : "libmicrohttpd gives no reason");
    errno = error;
    return -1;
}

static void note_url(struct http *self)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(self->daemon, MHD_DAEMON_INFO_BIND_PORT);
    size_t len = (size_t)(strrchr(self->listen, ':') - self->listen);
    snprintf(self->url, sizeof self->url, "http://%.*s:%u", (int)len, self->listen, info != NULL ? info->port : 0);
}

static int watch_daemon(struct http *self)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(self->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (info == NULL)
        return -1;
    self->watch = (struct loop_watch){.fd = info->epoll_fd, .ready = on_ready, .arg = self};
    self->timer = (struct loop_timer){.fire = on_timer, .arg = self};
    self->tick = (struct loop_timer){.fire = on_tick, .arg = self};
    if (loop_watch(self->loop, &self->watch, EPOLLIN) < 0)
        return -1;
    return loop_timer_set(self->loop, &self->tick, mono_add(mono_now(), self->config.tick));
}

struct http *http_new(struct loop *loop, struct tower *tower, const struct http_config *config, const struct http_ports *ports, struct why *why)
{
    struct http *self = calloc(1, sizeof *self);
    if (self == NULL || (self->listen = strdup(config->listen)) == NULL) {
        why_set(why, "--http %s: no memory", config->listen);
        free(self);
        return NULL;
    }
    self->config = *config;
    self->ports = *ports;
    self->loop = loop;
    self->tower = tower;
    self->guard.names = config->names;
    bool has_token = config->token != NULL && config->token[0] != '\0';
    errno = 0;
    if ((has_token && guard_set_token(&self->guard, config->token, why) < 0) || start_daemon(self, why) < 0) {
        int error = errno;
        http_destroy(&self);
        errno = error;
        return NULL;
    }
    note_url(self);
    if (watch_daemon(self) < 0) {
        why_set(why, "--http %s: no memory, or no descriptors", config->listen);
        http_destroy(&self);
    }
    return self;
}

void http_destroy(struct http **self_p)
{
    struct http *self = *self_p;
    struct call *call, *next;
    *self_p = NULL;
    if (self == NULL)
        return;
    self->closing = true;
    stream_end_all(self);
    LIST_FOREACH_SAFE(call, &self->waiting, link, next) {
        call_error(call, MHD_HTTP_SERVICE_UNAVAILABLE, "the ventilator leaves; ask again when it is back");
        wake(call);
    }
    if (self->daemon != NULL) {
        MHD_run(self->daemon);
        loop_unwatch(self->loop, &self->watch);
        MHD_stop_daemon(self->daemon);
        loop_timer_clear(self->loop, &self->timer);
        loop_timer_clear(self->loop, &self->tick);
    }
    buf_unref(&self->event);
    guard_release(&self->guard);
    free(self->listen);
    free(self);
}

const char *http_url(const struct http *self)
{
    return self->url;
}
