/* Paths and what they do: a table of words, one function each. What the ledger is asked comes back by api_reply. */
#include <stdlib.h>
#include <string.h>

#include "ventilator/http_private.h"
#include "ventilator/page.h"

#define SPANS_MOST 1024u        /* of a cancel */

/* ---- arguments ---- */

/* A number of the query within bounds; `otherwise` when it isn't given. false: it was refused. */
static bool number_argument(struct call *call, const char *key, uint64_t least, uint64_t most, uint64_t otherwise, uint64_t *ret)
{
    struct why why = {""};
    const char *text = call_argument(call, key);
    *ret = otherwise;
    if (text == NULL || parse_u64(text, least, most, ret, &why) == 0)
        return true;
    call_error(call, MHD_HTTP_BAD_REQUEST, "%s=%.40s: %s", key, text, why.text);
    return false;
}

static json_t *body_of(struct call *call)
{
    const char *type = MHD_lookup_connection_value(call->connection, MHD_HEADER_KIND, "Content-Type");
    json_error_t error;
    if (type == NULL || strncmp(type, "application/json", 16) != 0) {
        call_error(call, MHD_HTTP_UNSUPPORTED_MEDIA_TYPE, "the body of an action is 'Content-Type: application/json'");
        return NULL;
    }
    json_t *body = json_loadb(call->body, call->body_len, JSON_REJECT_DUPLICATES, &error);
    if (json_is_object(body))
        return body;
    json_decref(body);
    call_error(call, MHD_HTTP_BAD_REQUEST, "the body is not a JSON object: %.100s", error.text);
    return NULL;
}

static bool is_name(const char *text) { return text[0] != '\0' && strlen(text) <= WIRE_NAME; }

/* ---- what is read ---- */

static void get_overview(struct call *call) { call_json(call, MHD_HTTP_OK, json_overview(call->http)); }

static void get_batches(struct call *call)
{
    Wire__Request request = WIRE__REQUEST__INIT;
    Wire__List list = WIRE__LIST__INIT;
    uint64_t most;
    if (!number_argument(call, "after", 0, UINT64_MAX, 0, &list.after) || !number_argument(call, "most", 1, API_PAGE, 0, &most))
        return;
    list.most = (uint32_t)most;
    request.what_case = WIRE__REQUEST__WHAT_LIST;
    request.list = &list;
    call_ask(call, &request);
}

static void get_batch(struct call *call)
{
    Wire__Request request = WIRE__REQUEST__INIT;
    Wire__Status status = WIRE__STATUS__INIT;
    if (!is_name(call->parts[3])) {
        call_error(call, MHD_HTTP_NOT_FOUND, "no batch is given");
        return;
    }
    status.ref = (char *)(uintptr_t)call->parts[3];
    request.what_case = WIRE__REQUEST__WHAT_STATUS;
    request.status = &status;
    call_ask(call, &request);
}

static void get_workers(struct call *call)
{
    Wire__Request request = WIRE__REQUEST__INIT;
    Wire__Workers workers = WIRE__WORKERS__INIT;
    uint64_t most;
    if (!number_argument(call, "after", 0, UINT64_MAX, 0, &workers.after) || !number_argument(call, "most", 1, API_PAGE, API_PAGE, &most))
        return;
    workers.most = (uint32_t)most;
    request.what_case = WIRE__REQUEST__WHAT_WORKERS;
    request.workers = &workers;
    call_ask(call, &request);
}

static const struct tower_stand *stand_named(const struct tower *tower, const char *name)
{
    for (const struct tower_stand *stand = tower->stands; stand != NULL; stand = stand->hh.next)
        if (strcmp(stand->name, name) == 0)
            return stand;
    return NULL;
}

static void get_worker(struct call *call)
{
    Wire__Request request = WIRE__REQUEST__INIT;
    Wire__Workers workers = WIRE__WORKERS__INIT;
    const struct tower_stand *stand = stand_named(call->http->tower, call->parts[3]);
    if (stand == NULL) {
        call_error(call, MHD_HTTP_NOT_FOUND, "there is no worker '%.100s' here; /api/v1/workers has those that are", call->parts[3]);
        return;
    }
    workers.after = stand->number - 1;
    workers.most = 1;
    request.what_case = WIRE__REQUEST__WHAT_WORKERS;
    request.workers = &workers;
    call_ask(call, &request);
}

static void get_explain(struct call *call)
{
    Wire__Request request = WIRE__REQUEST__INIT;
    Wire__Explain explain = WIRE__EXPLAIN__INIT;
    Wire__Number index = WIRE__NUMBER__INIT;
    struct why why = {""};
    if (call->n_parts == 5 && parse_u64(call->parts[4], 0, WIRE_TASKS - 1, &index.n, &why) < 0) {
        call_error(call, MHD_HTTP_BAD_REQUEST, "index %.40s: %s", call->parts[4], why.text);
        return;
    }
    if (!is_name(call->parts[3])) {
        call_error(call, MHD_HTTP_NOT_FOUND, "no batch is given");
        return;
    }
    explain.ref = (char *)(uintptr_t)call->parts[3];
    explain.index = call->n_parts == 5 ? &index : NULL;
    request.what_case = WIRE__REQUEST__WHAT_EXPLAIN;
    request.explain = &explain;
    call_ask(call, &request);
}

static void get_field(struct call *call) { call_json(call, MHD_HTTP_OK, json_field(call->http)); }

static void get_slowest(struct call *call)
{
    struct http *http = call->http;
    struct tower_planes planes;
    uint64_t most, factor;
    if (!number_argument(call, "most", 1, TOWER_OLDEST, TOWER_PLANES, &most) || !number_argument(call, "k", 1, 1000000, 3, &factor))
        return;
    if (tower_oldest(http->ports.ledger, loop_now(http->loop), most, 0, &planes) < 0) {
        call_error(call, MHD_HTTP_SERVICE_UNAVAILABLE, "no memory for this report now; ask again later");
        return;
    }
    call_json(call, MHD_HTTP_OK, json_attempts(http, &planes, (double)factor));
    tower_planes_release(&planes);
}

/* The batch of ?batch=ID. false: refused; *ret NULL: none was given. */
static bool batch_argument(struct call *call, const struct tower_batch **ret)
{
    uint64_t number;
    const char *ref = call_argument(call, "batch");
    *ret = NULL;
    if (ref == NULL)
        return true;
    if (ledger_batch_number(call->http->ports.ledger, ref, &number))
        *ret = tower_batch_find(call->http->tower, number);
    if (*ret != NULL)
        return true;
    call_error(call, MHD_HTTP_NOT_FOUND, "no history is kept of batch '%.100s': of the %u that moved last only", ref, TOWER_BATCHES);
    return false;
}

static void get_history(struct call *call)
{
    const struct tower_batch *batch;
    if (batch_argument(call, &batch))
        call_json(call, MHD_HTTP_OK, json_history(call->http->tower, batch != NULL ? &batch->series : call->http->tower->series));
}

static void get_failures(struct call *call)
{
    const struct tower_batch *batch;
    if (batch_argument(call, &batch))
        call_json(call, MHD_HTTP_OK, json_failures(call->http, batch));
}

/* ---- actions ---- */

/* [[first, count], …] into spans behind their pointers. false: refused. */
static bool take_spans(struct call *call, const json_t *tasks, Wire__Span **pointers, Wire__Span *spans, size_t *ret_n)
{
    *ret_n = json_array_size(tasks);
    bool good = (tasks == NULL || json_is_array(tasks)) && *ret_n <= SPANS_MOST && (tasks == NULL || *ret_n > 0);
    for (size_t i = 0; good && i < *ret_n; i++) {
        const json_t *pair = json_array_get(tasks, i);
        json_int_t first = json_integer_value(json_array_get(pair, 0)), count = json_integer_value(json_array_get(pair, 1));
        good = json_array_size(pair) == 2 && json_is_integer(json_array_get(pair, 0)) && first >= 0 && count > 0 && (uint64_t)first < WIRE_TASKS
            && (uint64_t)count <= WIRE_TASKS - (uint64_t)first;
        wire__span__init(&spans[i]);
        spans[i].first = (uint64_t)first;
        spans[i].count = (uint64_t)count;
        pointers[i] = &spans[i];
    }
    if (!good)
        call_error(call, MHD_HTTP_BAD_REQUEST, "tasks is [[first, count], …]: 1 to %u of them, each with at least one task", SPANS_MOST);
    return good;
}

/* An action on parts[3] is the ledger's to judge, but for what its codec would have refused. */
static bool good_target(struct call *call, const char *reason)
{
    json_t *text = json_string(call->parts[3]);         /* NULL: it isn't UTF-8 */
    json_decref(text);
    if (is_name(call->parts[3]) && text != NULL && strlen(reason) <= WIRE_SENTENCE)
        return true;
    call_error(call, MHD_HTTP_BAD_REQUEST, "a name has 1 to %u bytes of UTF-8, a reason at most %u", WIRE_NAME, WIRE_SENTENCE);
    return false;
}

static void post_cancel(struct call *call)
{
    Wire__Request request = WIRE__REQUEST__INIT;
    Wire__Cancel cancel = WIRE__CANCEL__INIT;
    Wire__Span *pointers[SPANS_MOST], spans[SPANS_MOST];
    json_t *body = body_of(call);
    if (body == NULL)
        return;
    const char *reason = json_string_value(json_object_get(body, "reason"));
    if (reason == NULL)
        reason = "";
    if (good_target(call, reason) && take_spans(call, json_object_get(body, "tasks"), pointers, spans, &cancel.n_tasks)) {
        cancel.ref = (char *)(uintptr_t)call->parts[3];
        cancel.tasks = pointers;
        cancel.reason = (char *)(uintptr_t)reason;
        request.what_case = WIRE__REQUEST__WHAT_CANCEL;
        request.cancel = &cancel;
        call_ask(call, &request);
    }
    json_decref(body);
}

static void post_extend(struct call *call)
{
    Wire__Request request = WIRE__REQUEST__INIT;
    Wire__Extend extend = WIRE__EXTEND__INIT;
    json_t *body = body_of(call);
    if (body == NULL)
        return;
    const json_t *ms = json_object_get(body, "deadline_ms");
    json_int_t left = json_integer_value(ms);
    if (!json_is_integer(ms) || left <= 0 || left > (json_int_t)10 * 366 * 86400 * 1000) {
        call_error(call, MHD_HTTP_BAD_REQUEST, "deadline_ms is a whole number of milliseconds from now, above 0 and at most ten years");
    } else if (good_target(call, "")) {
        extend.ref = (char *)(uintptr_t)call->parts[3];
        extend.deadline_us = (uint64_t)left * 1000;
        request.what_case = WIRE__REQUEST__WHAT_EXTEND;
        request.extend = &extend;
        call_ask(call, &request);
    }
    json_decref(body);
}

static void post_drain(struct call *call)
{
    Wire__Request request = WIRE__REQUEST__INIT;
    Wire__Drain drain = WIRE__DRAIN__INIT;
    json_t *body = body_of(call);
    if (body == NULL)
        return;
    if (good_target(call, "")) {
        drain.worker = (char *)(uintptr_t)call->parts[3];
        request.what_case = WIRE__REQUEST__WHAT_DRAIN;
        request.drain = &drain;
        call_ask(call, &request);
    }
    json_decref(body);
}

/* ---- what the ledger answers ---- */

static void reply_refused(struct call *call, const Wire__Refused *refused)
{
    bool is_unknown = refused->code == WIRE__REFUSED_CODE__UNKNOWN_BATCH || strncmp(refused->sentence, "there is no worker", 18) == 0;
    unsigned status = is_unknown ? MHD_HTTP_NOT_FOUND : refused->code == WIRE__REFUSED_CODE__NOT_NOW ? MHD_HTTP_SERVICE_UNAVAILABLE
                    : refused->code == WIRE__REFUSED_CODE__BAD_REQUEST ? MHD_HTTP_BAD_REQUEST : MHD_HTTP_CONFLICT;
    call_error(call, status, "%s", refused->sentence);
}

static void reply_status(struct call *call, const Wire__StatusReport *report)
{
    struct http *http = call->http;
    uint64_t number;
    if (report->n_batches == 0) {
        call_error(call, MHD_HTTP_NOT_FOUND, "no such batch");
        return;
    }
    json_t *o = json_batch(http, report->batches[0]);
    const struct tower_batch *batch = NULL;
    if (ledger_batch_number(http->ports.ledger, report->batches[0]->short_id, &number))
        batch = tower_batch_find(http->tower, number);
    json_object_set_new(o, "history", batch != NULL ? json_history(http->tower, &batch->series) : json_null());
    if (batch != NULL)
        json_object_update_new(o, json_failures(http, batch));
    else
        json_object_set_new(o, "failures", json_array());
    call_json(call, MHD_HTTP_OK, o);
}

static void reply_workers(struct call *call, const Wire__WorkersReport *report)
{
    struct http *http = call->http;
    struct tower_planes planes;
    if (call->n_parts == 3) {
        call_json(call, MHD_HTTP_OK, json_workers(http, report));
        return;
    }
    const struct tower_stand *stand = stand_named(http->tower, call->parts[3]);
    if (report->n_workers == 0 || stand == NULL || strcmp(report->workers[0]->name, call->parts[3]) != 0
        || tower_oldest(http->ports.ledger, loop_now(http->loop), TOWER_OLDEST, stand->number, &planes) < 0) {
        call_error(call, MHD_HTTP_NOT_FOUND, "there is no worker '%.100s' here any more", call->parts[3]);
        return;
    }
    json_t *o = json_worker(http, report->workers[0]), *attempts = json_attempts(http, &planes, 3);
    json_object_set(o, "attempts", json_object_get(attempts, "attempts"));
    json_decref(attempts);
    tower_planes_release(&planes);
    call_json(call, MHD_HTTP_OK, o);
}

static json_t *json_explanation(const struct call *call, const Wire__Explanation *x)
{
    json_t *lines = json_array();
    for (size_t i = 0; i < x->n_lines; i++)
        json_array_append_new(lines, json_text(x->lines[i]));
    return json_pack("{s:o, s:o, s:b}", "batch", json_text(call->parts[3]), "lines", lines, "recorded", (int)x->recorded);
}

void api_reply(struct call *call, const Wire__Reply *m)
{
    json_t *o = NULL;
    switch (m->what_case) {
    case WIRE__REPLY__WHAT_REFUSED: reply_refused(call, m->refused); return;
    case WIRE__REPLY__WHAT_STATUS:  reply_status(call, m->status); return;
    case WIRE__REPLY__WHAT_WORKERS: reply_workers(call, m->workers); return;
    case WIRE__REPLY__WHAT_LIST:    o = json_batches(call->http, m->list->batches, m->list->n_batches, m->list->more, m->list->next); break;
    case WIRE__REPLY__WHAT_EXPLANATION: o = json_explanation(call, m->explanation); break;
    case WIRE__REPLY__WHAT_CANCELLED:
        o = json_pack("{s:o, s:I, s:I, s:I, s:I}", "batch", json_text(m->cancelled->short_id), "queued", (json_int_t)m->cancelled->queued, "running",
                      (json_int_t)m->cancelled->running, "finished", (json_int_t)m->cancelled->finished, "unreachable",
                      (json_int_t)m->cancelled->unreachable);
        break;
    case WIRE__REPLY__WHAT_EXTENDED:
        o = json_pack("{s:o, s:I}", "batch", json_text(m->extended->short_id), "deadline_left_ms", (json_int_t)(m->extended->deadline_left_us / 1000));
        break;
    case WIRE__REPLY__WHAT_DRAINING: o = json_pack("{s:o}", "worker", json_text(m->draining->worker)); break;
    default:
        call_error(call, MHD_HTTP_INTERNAL_SERVER_ERROR, "the ventilator gave an answer that doesn't belong to this request");
        return;
    }
    call_json(call, MHD_HTTP_OK, o);
}

/* ---- everything else ---- */

static void answer_text(struct call *call, unsigned status, const char *text)
{
    char *copy = strdup(text);
    call_answer(call, status, "text/plain; charset=utf-8", copy, strlen(text));
}

static void get_ready(struct call *call)
{
    json_t *overview = json_overview(call->http);
    const char *sentence = json_string_value(json_object_get(overview, "note"));
    answer_text(call, sentence == NULL ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, sentence == NULL ? "ready\n" : sentence);
    json_decref(overview);
}

static void get_metrics(struct call *call)
{
    size_t len = 0;
    char *text = metrics_render(call->http, &len);
    call_answer(call, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text, len);
}

static const char *type_of(const char *name)
{
    static const char *const types[][2] = {
        {".html", "text/html; charset=utf-8"}, {".css", "text/css; charset=utf-8"}, {".js", "text/javascript; charset=utf-8"}, {".svg", "image/svg+xml"},
    };
    const char *end = strrchr(name, '.');
    for (size_t i = 0; end != NULL && i < sizeof types / sizeof *types; i++)
        if (strcmp(end, types[i][0]) == 0)
            return types[i][1];
    return "application/octet-stream";
}

/* The token of a link becomes a cookie, and leaves the address bar. */
static void exchange_token(struct call *call)
{
    char cookie[400];
    snprintf(cookie, sizeof cookie, "tarmac=%s; Path=/; HttpOnly; SameSite=Strict", call->http->guard.token);
    call->response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    if (call->response != NULL) {
        MHD_add_response_header(call->response, "Set-Cookie", cookie);
        MHD_add_response_header(call->response, "Location", "/");
    }
    call->status = MHD_HTTP_SEE_OTHER;
    call->answered = true;
}

static void get_page(struct call *call, const char *name)
{
    for (const struct page_file *file = page_files; file->name != NULL; file++) {
        if (strcmp(file->name, name) != 0)
            continue;
        call->response = MHD_create_response_from_buffer(file->len, (void *)(uintptr_t)file->bytes, MHD_RESPMEM_PERSISTENT);
        call->status = MHD_HTTP_OK;
        call->type = type_of(name);
        call->answered = true;
        return;
    }
    call_error(call, MHD_HTTP_NOT_FOUND, "there is nothing at this path; docs/http.md lists them");
}

/* ---- the table ---- */

struct route {
    const char *word, *last;              /* /api/v1/WORD[/…[/LAST]] */
    size_t parts_least, parts_most;
    bool is_post;
    void (*handle)(struct call *call);
};

static const struct route routes[] = {
    {"overview", NULL, 3, 3, false, get_overview},  {"batches", NULL, 3, 3, false, get_batches},    {"batches", NULL, 4, 4, false, get_batch},
    {"workers", NULL, 3, 3, false, get_workers},    {"workers", NULL, 4, 4, false, get_worker},     {"explain", NULL, 4, 5, false, get_explain},
    {"field", NULL, 3, 3, false, get_field},        {"slowest", NULL, 3, 3, false, get_slowest},    {"history", NULL, 3, 3, false, get_history},
    {"failures", NULL, 3, 3, false, get_failures},  {"stream", NULL, 3, 3, false, stream_begin},    {"batches", "cancel", 5, 5, true, post_cancel},
    {"batches", "extend", 5, 5, true, post_extend}, {"workers", "drain", 5, 5, true, post_drain},
};

static bool route_fits(const struct route *r, const struct call *call)
{
    return strcmp(r->word, call->parts[2]) == 0 && call->n_parts >= r->parts_least && call->n_parts <= r->parts_most
        && (r->last == NULL || strcmp(r->last, call->parts[4]) == 0);
}

static void handle_api(struct call *call)
{
    bool exists = false;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        if (!route_fits(&routes[i], call))
            continue;
        if (routes[i].is_post == call->is_post) {
            routes[i].handle(call);
            return;
        }
        exists = true;
    }
    if (exists)
        call_error(call, MHD_HTTP_METHOD_NOT_ALLOWED, "this path takes %s", call->is_post ? "GET" : "POST");
    else
        call_error(call, MHD_HTTP_NOT_FOUND, "there is nothing at this path; docs/http.md lists them");
}

void api_handle(struct call *call)
{
    const char *first = call->n_parts > 0 ? call->parts[0] : "";
    if (call->n_parts >= 3 && strcmp(first, "api") == 0 && strcmp(call->parts[1], "v1") == 0)
        handle_api(call);
    else if (call->is_post)
        call_error(call, MHD_HTTP_METHOD_NOT_ALLOWED, "this path takes GET");
    else if (call->n_parts > 1)
        call_error(call, MHD_HTTP_NOT_FOUND, "there is nothing at this path; docs/http.md lists them");
    else if (strcmp(first, "healthz") == 0)
        answer_text(call, MHD_HTTP_OK, "ok\n");
    else if (strcmp(first, "readyz") == 0)
        get_ready(call);
    else if (strcmp(first, "metrics") == 0)
        get_metrics(call);
    else if (first[0] == '\0' && call->http->guard.needs_token && call_argument(call, "token") != NULL)
        exchange_token(call);
    else
        get_page(call, first[0] == '\0' ? "index.html" : first);
}
