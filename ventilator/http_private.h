/* What the files of the HTTP server share; nobody else includes this.
 *
 *   http.c          the daemon in the loop, connections, calls from their first byte to their answer
 *   http_guard.c    who may ask, and how often
 *   http_api.c      paths and what they do
 *   http_json.c     JSON of what the ledger and the tower know
 *   http_stream.c   viewers, and the event that all of them are sent
 *   metrics.c       /metrics
 *   page.h          the page's files, made by the Makefile out of ventilator/page */
#ifndef VENTILATOR_HTTP_PRIVATE_H
#define VENTILATOR_HTTP_PRIVATE_H

#include <bsd/sys/queue.h>
#include <jansson.h>
#include <microhttpd.h>

#include "common/buf.h"
#include "ventilator/http.h"
#include "ventilator/http_guard.h"

#define HTTP_CONNECTIONS 128u
#define HTTP_PER_ADDRESS 64u
#define HTTP_VIEWERS     32u
#define HTTP_HEAD        ((size_t)16 * 1024)
#define HTTP_BODY        ((size_t)16 * 1024)
#define HTTP_PARTS       6u                    /* of a path */
#define HTTP_ANSWER_NS   (60 * NS_PER_S)       /* the ledger's own waits are shorter */
#define API_PAGE         256u

/* One request, from its head to the end of its answer. */
struct call {
    LIST_ENTRY(call) link;                /* of those that wait for the ledger */
    struct http *http;
    struct MHD_Connection *connection;
    char who[64];                         /* the address that it came from */
    bool is_post, is_head;
    char *path;                           /* owned; parts point into it */
    const char *parts[HTTP_PARTS];
    size_t n_parts;
    char body[HTTP_BODY + 1];
    size_t body_len;
    bool body_too_long;
    uint64_t request;                     /* id of what the ledger was asked; 0: nothing */
    bool answered, suspended, queued;
    mono_t asked;
    unsigned status;
    const char *type;                     /* content type */
    char *text;                           /* owned: what is answered */
    size_t text_len;
    struct MHD_Response *response;        /* instead of text: a stream, or a part of the page; owned */
};

struct viewer {
    LIST_ENTRY(viewer) link;
    struct http *http;
    struct MHD_Connection *connection;
    struct buf *event;                    /* being sent */
    size_t sent;
    uint64_t sequence;                    /* of it */
    bool suspended;
};

struct http {
    struct http_config config;
    char *listen;
    struct http_ports ports;
    struct loop *loop;
    struct tower *tower;
    struct guard guard;
    struct MHD_Daemon *daemon;
    struct loop_watch watch;
    struct loop_timer timer, tick;
    char url[128];
    LIST_HEAD(, call) waiting;
    LIST_HEAD(, viewer) viewers;
    unsigned n_viewers;
    struct buf *event;                    /* the newest tick; NULL before the first */
    uint64_t event_sequence;
    uint64_t requests, told_settled, told_dispatched, told_verdicts[WIRE_VERDICTS];
    uint64_t served, refused, dropped;    /* for /metrics */
    struct call *asking;                  /* whose request the ledger has in hand */
    bool closing;
};

/* ---- http.c ---- */
void call_answer(struct call *call, unsigned status, const char *type, char *text, size_t len);    /* takes text; NULL: no memory */
void call_json(struct call *call, unsigned status, json_t *json);                                 /* takes json */
void call_error(struct call *call, unsigned status, const char *format, ...) __attribute__((format(printf, 3, 4)));
void call_ask(struct call *call, Wire__Request *request);      /* gives it an id; the answer comes by api_reply */
const char *call_argument(const struct call *call, const char *key);   /* of the query; NULL: none */

/* ---- http_api.c ---- */
void api_handle(struct call *call);
void api_reply(struct call *call, const Wire__Reply *reply);

/* ---- http_json.c ---- */
json_t *json_overview(struct http *http);
json_t *json_batch(struct http *http, const Wire__BatchStatus *s);
json_t *json_worker(struct http *http, const Wire__WorkerStatus *w);
json_t *json_batches(struct http *http, Wire__BatchStatus *const *rows, size_t n, bool more, uint64_t next);
json_t *json_workers(struct http *http, const Wire__WorkersReport *report);
json_t *json_attempts(struct http *http, const struct tower_planes *planes, double factor);      /* with suspects */
json_t *json_history(const struct tower *tower, const struct tower_series *series);
json_t *json_failures(struct http *http, const struct tower_batch *batch);     /* NULL: of all */
json_t *json_field(struct http *http);
json_t *json_stand(const struct tower_stand *stand);
json_t *json_plane(const struct tower_plane *plane);
json_t *json_stream_batch(const struct tower_batch *batch);
json_t *json_quantiles(const struct histogram *h);             /* null: empty */
json_t *json_left(int64_t ns);                                 /* ms; INT64_MAX: null */
json_t *json_text(const char *text);                           /* what isn't UTF-8 is replaced */

/* ---- http_stream.c ---- */
void stream_begin(struct call *call);
void stream_tick(struct http *http);
void stream_end_all(struct http *http);
json_t *stream_event(struct http *http);                       /* the next tick's data; what it tells isn't told again */

/* ---- metrics.c ---- */
char *metrics_render(const struct http *http, size_t *ret_len);        /* NULL: no memory */

#endif
