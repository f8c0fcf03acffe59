/* A stream of results: finds the sink, subscribes, keeps rows until they are taken, gives credit back
 * as they are, and hands out one task at a time, however many a row has.
 *
 * In an ordered stream rows may overlap (a closing with holes, and reports in the holes): the sink sends
 * them so that each index comes before it is missed for long, and here the one row that has it is found.
 *
 * The sink is looked for where the ventilator says: one place after the other, each for a moment, then
 * asked again. After a lost connection the stream goes on behind the last row that came (in an ordered
 * one: at the first index that was not handed out). */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/options.h"
#include "tarmac/client_private.h"

#define CANDIDATES_MOST 64
#define CANDIDATE_TIME NS_PER_S                /* for a connection and a welcome */
#define ASK_AGAIN_FIRST (10 * NS_PER_MS)       /* until the ventilator knows its sink; doubled each time */
#define ASK_AGAIN_MOST (NS_PER_S / 2)
#define SMALL_BODY 2048                        /* below, a copy is cheaper than pinning a receive buffer */

struct row {
    uint64_t cost;                             /* credit to give back when it is used up */
    struct buf *bytes;                         /* a packed Row */
    struct slice body;
    struct row *next;
    /* Once it is looked at: where in it the next task is. */
    const Wire__Row *row;                      /* in `arena` */
    struct wire_arena *arena;
    bool found;                                /* `index` is that of the next task */
    uint64_t index, at, body_at;
    size_t extra, part;
};

struct stream {
    struct client *client;
    struct stream_config config;
    uint8_t batch[WIRE_ID];
    char ref[33];
    char recorded_as[64];                      /* "": the sink may hear of it yet */
    char *candidates[CANDIDATES_MOST];
    size_t n_candidates, candidate;
    struct net_socket *socket;
    struct loop_timer next_try, patience, tell;
    int64_t ask_pause;
    const char *refusal;                       /* why the last one that was there would not have us; NULL: it would */
    uint64_t where;                            /* the request that is outstanding */
    uint64_t id;                               /* of the hello or subscription that is current */
    bool welcomed, ever_there, begun, ended, failed;
    struct wire_arena *arena, *spare;          /* spare: for the next row that is looked at */
    struct wire_writer writer;
    Wire__StreamEnd *end;

    struct row *first, *last;
    uint64_t queued_cost, owed;                /* owed: credit to give back */
    uint64_t last_number, next_index;
};

static void try_next(struct stream *self);

/* ---- patience ---- */

static void fail(struct stream *self, enum client_end end, const char *sentence)
{
    if (self->failed || self->ended)
        return;
    self->failed = true;
    loop_timer_clear(self->client->loop, &self->next_try);
    loop_timer_clear(self->client->loop, &self->patience);
    self->config.failed(self->config.arg, end, sentence);
}

static void out_of_memory(struct stream *self) { fail(self, CLIENT_UNREACHABLE, "there is no memory left"); }

static void out_of_patience(void *arg)
{
    struct stream *self = arg;
    struct why why;
    char took[32];
    format_duration(self->ever_there ? self->client->config.reconnect_timeout : self->client->config.connect_timeout, took);
    const char *refusal = net_refusal(self->client->socket);
    if (refusal[0] != '\0')
        why_set(&why, "the ventilator at %s, which knows where the sink is, will not have us: %s (tried for %s)", self->client->ventilator, refusal, took);
    else if (self->n_candidates == 0)
        why_set(&why, "the ventilator at %s has no sink, and none came within %s; start a 'sink' for it", self->client->ventilator, took);
    else if (self->refusal)
        why_set(&why, "the sink at %.200s will not have us: %s (tried for %s)", self->candidates[self->candidate < self->n_candidates ? self->candidate : 0],
                self->refusal, took);
    else
        why_set(&why, "can't reach the sink within %s, tried %.200s%s last; is its query port open from here?", took,
                self->candidates[self->n_candidates - 1], self->n_candidates > 1 ? " and others," : "");
    fail(self, CLIENT_UNREACHABLE, why.text);
}

static void be_patient(struct stream *self)
{
    int64_t timeout = self->ever_there ? self->client->config.reconnect_timeout : self->client->config.connect_timeout;
    if (self->patience.place == 0 && loop_timer_set(self->client->loop, &self->patience, mono_add(mono_now(), timeout)) < 0)
        fail(self, CLIENT_UNREACHABLE, "there is no memory left");
}

/* ---- where the sink is ---- */

static void add_candidate(struct stream *self, const char *endpoint)
{
    struct why why;
    char whole[512];
    if (self->n_candidates == CANDIDATES_MOST || net_endpoint_parse(endpoint, 0, whole, sizeof whole, &why) < 0)
        return;
    for (size_t i = 0; i < self->n_candidates; i++)
        if (strcmp(self->candidates[i], whole) == 0)
            return;
    if ((self->candidates[self->n_candidates] = strdup(whole)))
        self->n_candidates++;
}

static void forget_candidates(struct stream *self)
{
    while (self->n_candidates > 0)
        free(self->candidates[--self->n_candidates]);
}

static void take_place(struct stream *self, const Wire__SinkPlace *place)
{
    char endpoint[512], host[300];
    forget_candidates(self);
    for (size_t i = 0; i < place->n_query_endpoints; i++)
        add_candidate(self, place->query_endpoints[i]);
    for (size_t i = 0; place->query_port != 0 && i < place->n_hosts; i++) {
        const char *name = place->hosts[i];
        if (name[0] == '\0') {
            if (net_endpoint_host(self->client->ventilator, host, sizeof host) < 0)
                continue;
            name = host;
        }
        snprintf(endpoint, sizeof endpoint, "tcp://%.300s:%" PRIu32, name, place->query_port);
        add_candidate(self, endpoint);
    }
}

static void disconnect(struct stream *self)
{
    loop_timer_clear(self->client->loop, &self->next_try);
    if (self->socket)
        net_close(&self->socket);
    self->welcomed = false;
}

static void ask_again_later(struct stream *self)
{
    disconnect(self);
    if (self->failed || self->ended)
        return;
    be_patient(self);
    if (loop_timer_set(self->client->loop, &self->next_try, mono_add(mono_now(), self->ask_pause)) < 0)
        fail(self, CLIENT_UNREACHABLE, "there is no memory left");
    self->ask_pause = 2 * self->ask_pause < ASK_AGAIN_MOST ? 2 * self->ask_pause : ASK_AGAIN_MOST;
}

static void on_where(void *arg, const Wire__Reply *reply)
{
    struct stream *self = arg;
    self->where = 0;
    if (reply->what_case == WIRE__REPLY__WHAT_REFUSED) {
        fail(self, CLIENT_REFUSED, reply->refused->sentence);
        return;
    }
    if (reply->what_case != WIRE__REPLY__WHAT_WHERE)
        return;
    take_place(self, reply->where);
    self->candidate = 0;
    try_next(self);
}

static void look_for_sink(struct stream *self)
{
    Wire__Where where = WIRE__WHERE__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    m.what_case = WIRE__REQUEST__WHAT_WHERE;
    m.where = &where;
    be_patient(self);
    self->where = client_request(self->client, &m, on_where, self);
    if (!self->where)
        fail(self, CLIENT_UNREACHABLE, "there is no memory left");
}

static void on_next_try(void *arg)
{
    struct stream *self = arg;
    if (!self->socket) {
        look_for_sink(self);
        return;
    }
    self->candidate++;
    try_next(self);
}

/* ---- queries ---- */

/* false: there was no memory to send it. What can't be sent because nobody is there is said anew once somebody is. */
static bool send_query(struct stream *self, Wire__Query *query)
{
    query->id = self->id;
    return wire_write(&self->writer, &query->base) == 0 &&
           net_send(self->socket, 0, self->writer.bytes, self->writer.len, (struct slice){0}, false) != -ENOMEM;
}

static void say_hello(struct stream *self)
{
    Wire__ClientHello hello = WIRE__CLIENT_HELLO__INIT;
    Wire__Query m = WIRE__QUERY__INIT;
    hello.major = WIRE_MAJOR;
    hello.minor = WIRE_MINOR;
    hello.program = self->client->program;
    m.what_case = WIRE__QUERY__WHAT_HELLO;
    m.hello = &hello;
    self->welcomed = false;
    self->id++;
    if (!send_query(self, &m))
        out_of_memory(self);
}

static void subscribe(struct stream *self)
{
    Wire__Subscribe s = WIRE__SUBSCRIBE__INIT;
    Wire__Query m = WIRE__QUERY__INIT;
    s.ref = self->ref;
    s.ordered = self->config.ordered;
    s.follow = self->config.follow;
    s.wait = self->config.follow && self->recorded_as[0] == '\0';
    s.heads_only = self->config.heads_only;
    s.after = self->config.ordered ? 0 : self->last_number;
    s.from_index = self->config.ordered ? self->next_index : 0;
    s.credit = self->config.credit > self->queued_cost ? self->config.credit - self->queued_cost : 1;
    m.what_case = WIRE__QUERY__WHAT_SUBSCRIBE;
    m.subscribe = &s;
    self->owed = 0;
    self->id++;
    if (!send_query(self, &m))
        out_of_memory(self);
}

static void give_credit(struct stream *self, uint64_t bytes)
{
    self->owed += bytes;
    if (self->owed < self->config.credit / 4 || !self->welcomed || self->end)
        return;
    Wire__Credit credit = WIRE__CREDIT__INIT;
    Wire__Query m = WIRE__QUERY__INIT;
    credit.bytes = self->owed;
    m.what_case = WIRE__QUERY__WHAT_CREDIT;
    m.credit = &credit;
    /* Without memory it is given with the next: most of the credit is still under way. */
    if (send_query(self, &m))
        self->owed = 0;
}

/* ---- answers ---- */

static void keep_row(struct stream *self, const Wire__StreamRow *row, const struct net_message *message)
{
    uint64_t cost = message->head_len + message->body.len;
    if (!self->config.ordered && row->number <= self->last_number) {
        give_credit(self, cost);
        return;
    }
    struct row *kept = calloc(1, sizeof *kept);
    struct slice body = message->body;
    if (body.len < SMALL_BODY)
        body.buf = NULL;
    if (kept) {
        kept->cost = cost;
        kept->bytes = buf_copy(row->row.data, row->row.len);
        kept->body = slice_keep(body);
    }
    if (!kept || !kept->bytes || (body.len > 0 && !kept->body.data)) {
        if (kept)
            buf_unref(&kept->bytes);
        free(kept);
        out_of_memory(self);
        return;
    }
    self->last_number = row->number;
    *(self->last ? &self->last->next : &self->first) = kept;
    self->last = kept;
    self->queued_cost += cost;
    self->config.ready(self->config.arg);
}

static void take_end(struct stream *self, const Wire__StreamEnd *end)
{
    if (self->config.follow && !end->complete) {
        if (end->sentence[0] != '\0')
            fail(self, CLIENT_REFUSED, end->sentence);
        else
            ask_again_later(self);    /* The sink leaves; it will be back. */
        return;
    }
    self->end = (Wire__StreamEnd *)wire_copy(&end->base);
    if (!self->end) {
        out_of_memory(self);
        return;
    }
    loop_timer_clear(self->client->loop, &self->patience);
    disconnect(self);
    self->config.ready(self->config.arg);
}

static void fail_without_records(struct stream *self)
{
    struct why why;
    why_set(&why, "the sink has no records of batch %s; start it with the data folder that has them", self->recorded_as);
    fail(self, CLIENT_REFUSED, why.text);
}

static void take_refusal(struct stream *self, const Wire__Refused *refused)
{
    Wire__StreamEnd nothing = WIRE__STREAM_END__INIT;
    if (refused->code == WIRE__REFUSED_CODE__UNKNOWN_BATCH && self->recorded_as[0] != '\0')
        fail_without_records(self);
    else if (refused->code == WIRE__REFUSED_CODE__UNKNOWN_BATCH && !self->config.follow)
        take_end(self, &nothing);    /* The ventilator has it; the sink has not heard of it yet. */
    else if (refused->code == WIRE__REFUSED_CODE__NOT_NOW)
        ask_again_later(self);
    else
        fail(self, CLIENT_REFUSED, refused->sentence);
}

static void is_there(struct stream *self)
{
    self->ever_there = true;
    self->refusal = NULL;
    self->ask_pause = ASK_AGAIN_FIRST;
    loop_timer_clear(self->client->loop, &self->patience);
}

static void take_answer(struct stream *self, const Wire__Answer *answer, const struct net_message *message)
{
    if (answer->what_case == WIRE__ANSWER__WHAT_SAY_HELLO) {
        if (self->welcomed)
            say_hello(self);
        return;
    }
    if (answer->id != self->id)
        return;    /* Of a subscription that this connection has seen replaced. */
    switch (answer->what_case) {
    case WIRE__ANSWER__WHAT_WELCOME:
        self->welcomed = true;
        loop_timer_clear(self->client->loop, &self->next_try);
        subscribe(self);
        return;
    case WIRE__ANSWER__WHAT_REFUSED:
        take_refusal(self, answer->refused);
        return;
    case WIRE__ANSWER__WHAT_ROW:
        is_there(self);
        keep_row(self, answer->row, message);
        return;
    case WIRE__ANSWER__WHAT_END:
        take_end(self, answer->end);
        return;
    case WIRE__ANSWER__WHAT_BEGIN:
        is_there(self);
        if (!self->begun)
            self->config.begun(self->config.arg, answer->begin);
        self->begun = true;
        return;
    case WIRE__ANSWER__WHAT_PROGRESS:
        is_there(self);
        if (self->config.progress)
            self->config.progress(self->config.arg, answer->progress);
        return;
    default:
        return;
    }
}

static void on_message(void *arg, struct net_socket *socket, const struct net_message *message)
{
    struct stream *self = arg;
    const Wire__Answer *answer;
    struct why why, whole;
    if (self->failed || self->end)
        return;
    if (wire_read_answer(self->arena, message->head, message->head_len, message->body.len, &answer, &why) < 0) {
        why_set(&whole, "the sink at %.100s has sent what breaks the protocol: %.250s", net_endpoint(socket), why.text);
        fail(self, CLIENT_UNREACHABLE, whole.text);
        return;
    }
    take_answer(self, answer, message);
}

/* ---- connecting ---- */

static void on_up(void *arg, struct net_socket *socket, bool is_up)
{
    struct stream *self = arg;
    (void)socket;
    if (self->failed || self->end)
        return;
    if (is_up)
        say_hello(self);
    else
        ask_again_later(self);
}

static void on_refused(void *arg, struct net_socket *socket, const char *sentence)
{
    (void)socket;
    ((struct stream *)arg)->refusal = sentence;
}

static void try_next(struct stream *self)
{
    struct net_callbacks callbacks = {.message = on_message, .up = on_up, .refused = on_refused, .arg = self};
    const struct net_access access = {.dials = ROLE_SINK};
    struct why why;
    disconnect(self);
    be_patient(self);
    while (self->candidate < self->n_candidates && !self->socket) {
        self->socket = net_open_for(self->client->net, NET_DEALER, self->candidates[self->candidate], &access, &callbacks, &why);
        if (!self->socket)
            self->candidate++;
    }
    if (!self->socket)
        ask_again_later(self);
    else if (loop_timer_set(self->client->loop, &self->next_try, mono_add(mono_now(), CANDIDATE_TIME)) < 0)
        out_of_memory(self);
}

/* ---- handing out ---- */

static void free_row(struct stream *self, struct row *row)
{
    if (self->spare)
        wire_arena_destroy(&row->arena);
    else
        self->spare = row->arena;
    buf_unref(&row->bytes);
    slice_drop(&row->body);
    free(row);
}

/* Takes the row that *link names out of the queue. */
static void drop_row(struct stream *self, struct row **link, struct row *before)
{
    struct row *row = *link;
    uint64_t cost = row->cost;
    *link = row->next;
    if (self->last == row)
        self->last = before;
    free_row(self, row);
    self->queued_cost -= cost;
    give_credit(self, cost);
}

static bool bit(const ProtobufCBinaryData *bitmap, uint64_t i)
{
    return i / 8 < bitmap->len && (bitmap->data[i / 8] >> (i % 8) & 1);
}

static int open_row(struct stream *self, struct row *row)
{
    struct why why, whole;
    size_t body_len = self->config.heads_only ? WIRE_NO_BODY : row->body.len;
    row->arena = self->spare ? self->spare : wire_arena_new();
    self->spare = NULL;
    if (!row->arena) {
        out_of_memory(self);
        return -1;
    }
    if (wire_read_row(row->arena, buf_bytes(row->bytes), buf_len(row->bytes), body_len, &row->row, &why) < 0) {
        row->row = NULL;
        why_set(&whole, "the sink has sent a row that breaks the protocol: %s", why.text);
        fail(self, CLIENT_UNREACHABLE, whole.text);
        return -1;
    }
    return 0;
}

static uint64_t body_bytes(const Wire__Report *r, size_t i)
{
    return (uint64_t)wire_u32(r->output_lengths, r->n_output_lengths, i)
           + wire_u32(r->error_lengths, r->n_error_lengths, i);
}

/* Finds the next task of a report that counts, one of those for which it was the first verdict, from `least` on. */
static bool find_in_report(struct row *row, uint64_t least)
{
    const Wire__Report *r = row->row->report;
    if (r->kind != WIRE__RESULT_KIND__IS_VERDICT)
        return false;
    for (; row->at < r->fence->count; row->body_at += body_bytes(r, (size_t)row->at++)) {
        row->index = r->fence->first + row->at;
        if (row->index >= least && (row->row->fresh.len == 0 || bit(&row->row->fresh, row->at)))
            return true;
    }
    return false;
}

/* The same of a closing: of its spans, or else of its bitmap. */
static bool find_in_closing(struct row *row, uint64_t least)
{
    const Wire__Row *r = row->row;
    for (; r->closed_bitmap.len > 0 && row->at < r->closing->span->count; row->at++) {
        row->index = r->closing->span->first + row->at;
        if (row->index >= least && bit(&r->closed_bitmap, row->at))
            return true;
    }
    for (; r->closed_bitmap.len == 0 && row->part < r->n_closed; row->part++, row->at = 0) {
        const Wire__Span *span = r->closed[row->part];
        if (least > span->first && row->at < least - span->first)
            row->at = least - span->first;
        row->index = span->first + row->at;
        if (row->at < span->count)
            return true;
    }
    return false;
}

/* 1: row->index is its next task; 0: it has none any more; -1: the stream has failed. */
static int look_at(struct stream *self, struct row *row)
{
    uint64_t least = self->config.ordered ? self->next_index : 0;
    if (!row->row && open_row(self, row) < 0)
        return -1;
    if (!row->found || row->index < least)
        row->found = row->row->report ? find_in_report(row, least) : find_in_closing(row, least);
    return row->found;
}

static void describe_report(struct stream *self, struct row *row, struct stream_task *ret)
{
    const Wire__Report *r = row->row->report;
    size_t i = (size_t)row->at;
    uint32_t flags = wire_u32(r->flags, r->n_flags, i);
    *ret = (struct stream_task){
        .index = row->index,
        .verdict = r->verdicts[r->n_verdicts == 1 ? 0 : i],
        .reason = r->n_reasons == 0 ? WIRE__REASON__REASON_NONE : r->reasons[r->n_reasons == 1 ? 0 : i],
        .attempts = r->fence->attempt,
        .worker = r->worker,
        .has_code = (flags & WIRE_EXIT_CODE) != 0,
        .code = wire_i32(r->codes, r->n_codes, i),
        .signal = wire_u32(r->signals, r->n_signals, i),
        .output_cut = (flags & WIRE_OUTPUT_TRUNCATED) != 0,
        .errors_cut = (flags & WIRE_ERRORS_TRUNCATED) != 0,
        .queued_us = wire_u64(r->queued_us, r->n_queued_us, i),
        .run_us = wire_u64(r->run_us, r->n_run_us, i),
        .slot = wire_u32(r->slots, r->n_slots, i),
        .bytes = (uint64_t)wire_u32(r->output_lengths, r->n_output_lengths, i) + wire_u32(r->error_lengths, r->n_error_lengths, i),
        .sentence = "",
    };
    if (!self->config.heads_only && row->body.len > 0) {
        ret->output_len = wire_u32(r->output_lengths, r->n_output_lengths, i);
        ret->errors_len = wire_u32(r->error_lengths, r->n_error_lengths, i);
        ret->output = row->body.data + row->body_at;
        ret->errors = ret->output + ret->output_len;
    }
    while (row->extra < r->n_extras && r->extras[row->extra]->offset < i)
        row->extra++;
    if (row->extra < r->n_extras && r->extras[row->extra]->offset == i) {
        const Wire__ResultExtra *extra = r->extras[row->extra];
        ret->values = extra->values;
        ret->n_values = extra->n_values;
        ret->sentence = extra->sentence;
    }
}

/* Describes the row's task and steps over it. */
static void take_task(struct stream *self, struct row *row, struct stream_task *ret)
{
    const Wire__Row *r = row->row;
    if (r->report)
        describe_report(self, row, ret);
    else
        *ret = (struct stream_task){.index = row->index, .verdict = r->closing->verdict, .reason = r->closing->reason,
                                    .worker = "", .sentence = r->closing->sentence};
    if (r->report)
        row->body_at += body_bytes(r->report, (size_t)row->at);
    row->at++;
    row->found = false;
    self->next_index = row->index + 1;
}

/* The row that has the next task: the first one, or in an ordered stream the one with the next index (at the
 * end, when nothing more will come, with the lowest). */
static struct row *row_of_next(struct stream *self)
{
    struct row **link = &self->first, *before = NULL, *lowest = NULL;
    while (*link) {
        struct row *row = *link;
        int r = look_at(self, row);
        if (r < 0)
            return NULL;
        if (r == 0) {
            drop_row(self, link, before);
            continue;
        }
        if (!self->config.ordered || row->index == self->next_index)
            return row;
        if (!lowest || row->index < lowest->index)
            lowest = row;
        before = row;
        link = &row->next;
    }
    return self->end ? lowest : NULL;
}

/* The index that is next lies behind rows which all wait for it: they must not keep the sink from sending it. */
static void lend_credit(struct stream *self)
{
    uint64_t cost = self->queued_cost;
    for (struct row *row = self->first; row; row = row->next)
        row->cost = 0;
    self->queued_cost = 0;
    if (cost > 0)
        give_credit(self, cost);
}

enum stream_result stream_next(struct stream *self, struct stream_task *ret)
{
    if (self->failed)
        return STREAM_WAIT;
    struct row *row = row_of_next(self);
    if (row) {
        take_task(self, row, ret);
        return STREAM_TASK;
    }
    if (self->first && self->queued_cost >= self->config.credit / 2)
        lend_credit(self);
    if (!self->end || self->failed)
        return STREAM_WAIT;
    self->ended = true;
    return STREAM_END;
}

const Wire__StreamEnd *stream_end(const struct stream *self) { return self->end; }

/* ---- all of it ---- */

static void on_start(void *arg)
{
    struct stream *self = arg;
    if (self->n_candidates > 0)
        try_next(self);
    else
        look_for_sink(self);
}

struct stream *stream_new(struct client *client, const struct stream_config *config, struct why *why)
{
    struct stream *self = calloc(1, sizeof *self);
    if (!self) {
        why_set(why, "there is no memory left");
        return NULL;
    }
    self->client = client;
    self->config = *config;
    memcpy(self->batch, config->batch, WIRE_ID);
    wire_id_hex(self->batch, self->ref);
    self->config.batch = self->batch;
    self->next_index = config->from_index;
    if (config->end_only)
        self->last_number = INT64_MAX;    /* Behind every row. */
    self->ask_pause = ASK_AGAIN_FIRST;
    self->next_try = (struct loop_timer){.fire = on_next_try, .arg = self};
    self->patience = (struct loop_timer){.fire = out_of_patience, .arg = self};
    self->tell = (struct loop_timer){.fire = on_start, .arg = self};
    self->arena = wire_arena_new();
    if (config->place)
        take_place(self, config->place);
    self->config.place = NULL;
    snprintf(self->recorded_as, sizeof self->recorded_as, "%s", config->recorded_as ? config->recorded_as : "");
    self->config.recorded_as = self->recorded_as;
    if (!self->arena || loop_timer_set(client->loop, &self->tell, mono_now()) < 0) {
        why_set(why, "there is no memory left");
        stream_destroy(&self);
    }
    return self;
}

void stream_destroy(struct stream **self_p)
{
    struct stream *self = *self_p;
    if (!self)
        return;
    disconnect(self);
    loop_timer_clear(self->client->loop, &self->patience);
    loop_timer_clear(self->client->loop, &self->tell);
    client_forget(self->client, self->where);
    while (self->first) {
        struct row *row = self->first;
        self->first = row->next;
        free_row(self, row);
    }
    forget_candidates(self);
    wire_arena_destroy(&self->arena);
    wire_arena_destroy(&self->spare);
    wire_writer_release(&self->writer);
    wire_free(&self->end);
    free(self);
    *self_p = NULL;
}
