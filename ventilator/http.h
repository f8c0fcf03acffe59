/* The control tower's HTTP server, inside the ventilator's loop: libmicrohttpd in its external epoll mode. It asks the
 * ledger as a client does, through `ask`, and shows what the tower has sampled. It blocks nobody; what a viewer
 * doesn't read is not kept for it. docs/http.md is its contract. */
#ifndef VENTILATOR_HTTP_H
#define VENTILATOR_HTTP_H

#include "common/loop.h"
#include "common/options.h"
#include "ventilator/ledger.h"
#include "ventilator/tower.h"

struct http;

/* The peer that the ledger knows all HTTP requests by. */
#define HTTP_PEER ((ledger_peer)0)

struct http_config {
    const char *listen;                   /* HOST:PORT; a host is an address, or localhost */
    const char *token;                    /* as given; NULL: none */
    const struct string_list *names;      /* lent */
    int64_t tick;                         /* ns between two ticks of the stream, and samples of the tower */
    int64_t silence;                      /* ns after which a connection that doesn't move is dropped */
    const char *program;
};

struct http_ports {
    void *arg;
    const struct ledger *ledger;
    /* Hands a request of HTTP_PEER to the ledger. `who` is the viewer's address. The answer comes by http_reply, perhaps at once. */
    void (*ask)(void *arg, const char *who, const Wire__Request *request);
};

/* Checks what can be checked without a socket: 0 or why_set. */
int http_check(const char *listen, const char *token, struct why *why);

/* Listens. NULL: why; errno EADDRINUSE when the address is taken. Copies config but for the names. */
struct http *http_new(struct loop *loop, struct tower *tower, const struct http_config *config, const struct http_ports *ports, struct why *why);
void http_destroy(struct http **self_p);       /* open streams end */

void http_reply(struct http *self, const Wire__Reply *reply);      /* to HTTP_PEER */
const char *http_url(const struct http *self);                     /* "http://127.0.0.1:8080" */

#endif
