/* The stream: one event a tick, made once and sent to all viewers. A viewer holds a reference to the event that it is
 * being sent, and takes the newest one next: what it didn't read in time it never gets, and nothing is kept for it.
 * While there is nothing to send its connection is suspended; one that doesn't move is dropped by libmicrohttpd. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "ventilator/http_private.h"

#define STANDS_MOST 48u         /* in one event */
#define BATCHES_MOST 8u
#define SEND_BUFFER 16384       /* of the kernel, for one viewer: what lies there is old news */

/* ---- the event ---- */

json_t *json_stand(const struct tower_stand *s)
{
    return json_pack("[I, o, s, I, I, I, I, I, o]", (json_int_t)s->number, json_text(s->name), s->state, (json_int_t)s->slots,
                     (json_int_t)s->phases[SURVEY_WAITING], (json_int_t)s->phases[SURVEY_RUNNING], (json_int_t)s->phases[SURVEY_STOPPING],
                     (json_int_t)s->phases[SURVEY_LANDING], s->worst >= 0 ? json_integer(s->worst) : json_null());
}

json_t *json_field(struct http *http)
{
    json_t *o = json_object(), *stands = json_array();
    for (const struct tower_stand *s = http->tower->stands; s != NULL; s = s->hh.next)
        json_array_append_new(stands, json_stand(s));
    json_object_set_new(o, "epoch", json_integer((json_int_t)http->tower->now.epoch));
    json_object_set_new(o, "sequence", json_integer((json_int_t)http->tower->sequence));
    json_object_set_new(o, "stands", stands);
    return o;
}

json_t *json_plane(const struct tower_plane *p)
{
    return json_pack("[s, I, I, I, s, o, o, o]", p->short_id, (json_int_t)p->seen.index, (json_int_t)p->seen.attempt, (json_int_t)p->seen.worker,
                     survey_phase_name(p->seen.phase), json_left(p->seen.age), json_left(p->seen.left), json_left(p->seen.budget));
}

json_t *json_stream_batch(const struct tower_batch *batch)
{
    const struct survey_batch *b = &batch->last;
    static const Wire__Verdict verdicts[] = {WIRE__VERDICT__OK, WIRE__VERDICT__FAILED, WIRE__VERDICT__DEADLINE_EXCEEDED, WIRE__VERDICT__CANCELLED,
                                             WIRE__VERDICT__LOST, WIRE__VERDICT__REJECTED};
    bool is_complete = b->state == WIRE__STATE__COMPLETE;
    json_t *row = json_pack("[I, s, o, s, I, I, I]", (json_int_t)batch->number, batch->short_id, json_text(batch->name), wire_state_name(b->state),
                            (json_int_t)b->total, (json_int_t)b->queued, (json_int_t)b->in_flight);
    for (size_t i = 0; i < sizeof verdicts / sizeof *verdicts; i++)
        json_array_append_new(row, json_integer((json_int_t)b->counts[verdicts[i]]));
    json_array_append_new(row, json_real(is_complete ? 0 : b->rate));
    bool has_eta = !is_complete && b->state == WIRE__STATE__SEALED && b->rate > 0.001;
    json_array_append_new(row, has_eta ? json_integer((json_int_t)((double)(b->total - b->settled) / b->rate * 1000)) : json_null());
    json_array_append_new(row, is_complete ? json_null() : json_left(b->deadline_left));
    return row;
}

/* Workers that changed, as many as fit; they are told once, in turn, so that none waits for ever behind a busier one. */
static void add_stands(struct http *http, json_t *o)
{
    json_t *list = json_array();
    json_int_t left = 0;
    struct tower_stand *stand, *next, *last = NULL;
    HASH_ITER(hh, http->tower->stands, stand, next) {
        if (!stand->dirty || json_array_size(list) >= STANDS_MOST) {
            left += stand->dirty;
            continue;
        }
        json_array_append_new(list, json_stand(stand));
        stand->dirty = false;
        last = stand;
    }
    if (left > 0 && last != NULL) {
        /* Those that were told go to the end of the table's order. */
        while ((stand = http->tower->stands) != last) {
            HASH_DEL(http->tower->stands, stand);
            HASH_ADD(hh, http->tower->stands, number, sizeof stand->number, stand);
            if (stand->hh.tbl == NULL)
                free(stand);        /* it comes back with the next sample */
        }
    }
    json_object_set_new(o, "stands", list);
    json_object_set_new(o, "stands_left", json_integer(left));
}

static int moved_last(const void *a, const void *b)
{
    const struct tower_batch *x = *(const struct tower_batch *const *)a, *y = *(const struct tower_batch *const *)b;
    bool x_open = x->last.state != WIRE__STATE__COMPLETE, y_open = y->last.state != WIRE__STATE__COMPLETE;
    if (x->moved != y->moved)
        return x->moved > y->moved ? -1 : 1;
    if (x_open != y_open)
        return x_open ? -1 : 1;
    return x->number > y->number ? -1 : x->number < y->number;
}

static void add_batches(struct http *http, json_t *o)
{
    struct tower_batch *rows[TOWER_BATCHES], *batch, *next;
    json_t *list = json_array();
    size_t n = 0;
    HASH_ITER(hh, http->tower->batches, batch, next)
        if (n < TOWER_BATCHES)
            rows[n++] = batch;
    qsort(rows, n, sizeof *rows, moved_last);
    for (size_t i = 0; i < n && i < BATCHES_MOST; i++)
        json_array_append_new(list, json_stream_batch(rows[i]));
    json_object_set_new(o, "batches", list);
}

static void add_landed(struct http *http, json_t *o)
{
    const struct survey_totals *t = &http->tower->now;
    json_t *landed = json_object();
    for (size_t i = WIRE__VERDICT__OK; i < WIRE_VERDICTS; i++) {
        json_object_set_new(landed, wire_verdict_name((Wire__Verdict)i), json_integer((json_int_t)(t->verdicts[i] - http->told_verdicts[i])));
        http->told_verdicts[i] = t->verdicts[i];
    }
    json_object_set_new(o, "landed", landed);
    json_object_set_new(o, "takeoffs", json_integer((json_int_t)(t->dispatched - http->told_dispatched)));
    http->told_dispatched = t->dispatched;
}

json_t *stream_event(struct http *http)
{
    struct tower *tower = http->tower;
    json_t *o = json_object(), *gone = json_array(), *planes = json_array();
    json_object_set_new(o, "sequence", json_integer((json_int_t)tower->sequence));
    json_object_set_new(o, "overview", json_overview(http));
    add_landed(http, o);
    add_batches(http, o);
    add_stands(http, o);
    for (size_t i = 0; i < tower->n_gone; i++)
        json_array_append_new(gone, json_integer((json_int_t)tower->gone[i]));
    tower->n_gone = 0;
    for (size_t i = 0; i < tower->planes.n; i++)
        json_array_append_new(planes, json_plane(&tower->planes.rows[i]));
    json_object_set_new(o, "gone", gone);
    json_object_set_new(o, "planes", planes);
    json_object_set_new(o, "planes_total", json_integer((json_int_t)tower->planes.total));
    return o;
}

/* "event: NAME", its data in one line. Takes json. NULL: no memory. */
static struct buf *frame_event(const char *name, json_t *json)
{
    char head[64];
    char *text = json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(5));
    json_decref(json);
    if (text == NULL)
        return NULL;
    size_t head_len = (size_t)snprintf(head, sizeof head, "event: %s\ndata: ", name), len = strlen(text);
    struct buf *event = buf_new(head_len + len + 2);
    if (event != NULL) {
        memcpy(buf_data(event), head, head_len);
        memcpy(buf_data(event) + head_len, text, len);
        memcpy(buf_data(event) + head_len + len, "\n\n", 2);
    }
    free(text);
    return event;
}

/* ---- viewers ---- */

static ssize_t on_read(void *arg, uint64_t at, char *out, size_t most)
{
    (void)at;
    struct viewer *v = arg;
    struct http *http = v->http;
    if (http->closing)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (v->event != NULL && v->sent == buf_len(v->event))
        buf_unref(&v->event);
    if (v->event == NULL && http->event != NULL && v->sequence != http->event_sequence) {
        v->event = buf_ref(http->event);
        v->sequence = http->event_sequence;
        v->sent = 0;
    }
    if (v->event == NULL) {
        v->suspended = true;
        MHD_suspend_connection(v->connection);
        return 0;
    }
    size_t n = buf_len(v->event) - v->sent;
    n = n < most ? n : most;
    memcpy(out, buf_bytes(v->event) + v->sent, n);
    v->sent += n;
    return (ssize_t)n;
}

static void on_free(void *arg)
{
    struct viewer *v = arg;
    LIST_REMOVE(v, link);
    v->http->n_viewers--;
    buf_unref(&v->event);
    free(v);
}

static struct buf *hello_event(const struct http *http)
{
    const struct tower *tower = http->tower;
    return frame_event("hello", json_pack("{s:s, s:I, s:I, s:I}", "program", http->config.program, "epoch", (json_int_t)tower->now.epoch, "tick_ms",
                                          (json_int_t)(http->config.tick / NS_PER_MS), "sequence", (json_int_t)tower->sequence));
}

void stream_begin(struct call *call)
{
    struct http *http = call->http;
    if (http->n_viewers >= HTTP_VIEWERS) {
        call_error(call, MHD_HTTP_SERVICE_UNAVAILABLE, "%u streams are open, which is the most; close one, or ask /api/v1/overview now and then",
                   HTTP_VIEWERS);
        return;
    }
    struct viewer *v = calloc(1, sizeof *v);
    struct buf *hello = v != NULL ? hello_event(http) : NULL;
    if (hello != NULL)
        call->response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 8192, on_read, v, on_free);
    if (call->response == NULL) {
        buf_unref(&hello);
        free(v);
        call_error(call, MHD_HTTP_SERVICE_UNAVAILABLE, "no memory for another stream now");
        return;
    }
    v->http = http;
    v->connection = call->connection;
    v->event = hello;
    v->sequence = http->event_sequence;
    LIST_INSERT_HEAD(&http->viewers, v, link);
    http->n_viewers++;
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(call->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    int size = SEND_BUFFER;
    if (info != NULL)
        setsockopt(info->connect_fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    call->type = "text/event-stream";
    call->status = MHD_HTTP_OK;
    call->answered = true;
}

static void wake_all(struct http *http)
{
    struct viewer *v;
    LIST_FOREACH(v, &http->viewers, link) {
        if (!v->suspended)
            continue;
        v->suspended = false;
        MHD_resume_connection(v->connection);
    }
}

void stream_tick(struct http *http)
{
    if (http->n_viewers == 0) {
        http->tower->n_gone = 0;
        return;
    }
    struct buf *event = frame_event("tick", stream_event(http));
    if (event == NULL)
        return;
    buf_unref(&http->event);
    http->event = event;
    http->event_sequence++;
    wake_all(http);
}

void stream_end_all(struct http *http)
{
    wake_all(http);
}
