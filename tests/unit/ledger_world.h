/* A world for tests of the ledger: its ports write a trace, the tests say what arrives and move the time. */
#ifndef TESTS_UNIT_LEDGER_WORLD_H
#define TESTS_UNIT_LEDGER_WORLD_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/log_level.h"
#include "ventilator/ledger.h"

#define MS NS_PER_MS
#define CLIENT 7u
#define SINK 90u
#define BYTES (16 * 1024)

struct row { char key[64]; uint8_t value[600]; size_t len; };

struct world {
    struct ledger *ledger;
    mono_t now;
    char trace[BYTES];
    uint64_t flush;                 /* the sequence of what is staged now */
    uint8_t random;
    unsigned n_random;
    uint8_t batch[WIRE_ID];         /* of the last batch that was submitted */
    char short_id[16];
    uint64_t next_index;
    struct row rows[2048];          /* the journal's records */
    size_t n_rows;
    bool closing_fails, loading, shows_appends;
    uint64_t total;                 /* of the last batch, once its last chunk was sent */
    char items[64];                 /* of the last chunk */
    char sentence[1200];            /* of the last closing */
    char story[2000];               /* what explain told last */
    char note[1200];                /* of the last status */
    uint32_t max_losses;            /* 0: 3 */
    const char *boot;               /* of the host; NULL: "b" */
    wall_t wall;                    /* at the next start */
    uint64_t recall;                /* number of the last one */
    char refusal[WIRE_SENTENCE];    /* the last one's sentence */
    int64_t retain, keep_keys;      /* of the next start */
    void (*on_reply)(struct world *w, const Wire__Reply *m);       /* has all replies, in place of the trace */
    uint64_t beat_answer;           /* number of the last answer to a heartbeat */
    bool sink_unreachable;          /* its connection is closed */
};

static inline void say(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline void say(struct world *w, const char *format, ...)
{
    size_t at = strlen(w->trace);
    va_list ap;
    va_start(ap, format);
    vsnprintf(w->trace + at, sizeof w->trace - at, format, ap);
    va_end(ap);
}

/* ---- ports ---- */

static inline int on_reply(void *arg, ledger_peer client, const Wire__Reply *m)
{
    struct world *w = arg;
    assert_int_equal(client, CLIENT);
    if (w->on_reply != NULL) {
        w->on_reply(w, m);
        return 0;
    }
    switch (m->what_case) {
    case WIRE__REPLY__WHAT_WELCOME: say(w, "welcome\n"); break;
    case WIRE__REPLY__WHAT_SAY_HELLO: say(w, "say hello\n"); break;
    case WIRE__REPLY__WHAT_REFUSED:
        snprintf(w->refusal, sizeof w->refusal, "%s", m->refused->sentence);
        say(w, "refused %d next=%" PRIu64 "\n", m->refused->code, m->refused->next_index);
        break;
    case WIRE__REPLY__WHAT_PURGED:
        say(w, "purged %" PRIu64 " open=%" PRIu64 " held=%" PRIu64 " at_sink=%" PRIu64 "\n", m->purged->batches, m->purged->open, m->purged->held,
            m->purged->at_sink);
        break;
    case WIRE__REPLY__WHAT_SUBMITTED:
        memcpy(w->batch, m->submitted->batch.data, WIRE_ID);
        snprintf(w->short_id, sizeof w->short_id, "%s", m->submitted->short_id);
        say(w, "submitted next=%" PRIu64 " state=%d\n", m->submitted->next_index, m->submitted->state);
        break;
    case WIRE__REPLY__WHAT_ADMITTED: say(w, "admitted %" PRIu64 " state=%d\n", m->admitted->next_index, m->admitted->state); break;
    case WIRE__REPLY__WHAT_CANCELLED:
        say(w, "cancelled queued=%" PRIu64 " running=%" PRIu64 " finished=%" PRIu64 " unreachable=%" PRIu64 "\n", m->cancelled->queued,
            m->cancelled->running, m->cancelled->finished, m->cancelled->unreachable);
        break;
    case WIRE__REPLY__WHAT_STATUS: {
        const Wire__BatchStatus *s = m->status->batches[0];
        say(w, "status %d total=%" PRIu64 " queued=%" PRIu64 " running=%" PRIu64 " ok=%" PRIu64 " failed=%" PRIu64 " deadline=%" PRIu64
            " cancelled=%" PRIu64 " lost=%" PRIu64 " dup=%" PRIu64 " retried=%" PRIu64 "\n", s->state, s->total, s->queued, s->running, s->ok,
            s->failed, s->deadline_exceeded, s->cancelled, s->lost, s->duplicates, s->retried);
        snprintf(w->note, sizeof w->note, "%s", s->note);
        break;
    }
    case WIRE__REPLY__WHAT_SLOWEST:
        say(w, "slowest of %" PRIu64 ":", m->slowest->running);
        for (size_t i = 0; i < m->slowest->n_attempts; i++) {
            const Wire__RunningAttempt *a = m->slowest->attempts[i];
            say(w, " %" PRIu64 "#%u@%s", a->index, a->attempt, a->worker);
            say(w, " age=%" PRIu64 " left=%" PRId64, a->age_us / 1000000, a->left != NULL ? a->left->us / 1000000 : -1);
        }
        say(w, "\n");
        break;
    case WIRE__REPLY__WHAT_EXPLANATION:
        w->story[0] = '\0';
        for (size_t i = 0; i < m->explanation->n_lines; i++) {
            size_t at = strlen(w->story);
            snprintf(w->story + at, sizeof w->story - at, "%s\n", m->explanation->lines[i]);
        }
        break;
    default: say(w, "reply %d\n", m->what_case);
    }
    return 0;
}

static inline int on_down(void *arg, ledger_peer peer, const Wire__Downward *m)
{
    struct world *w = arg;
    if (peer == SINK && w->sink_unreachable)
        return -EHOSTUNREACH;
    switch (m->what_case) {
    case WIRE__DOWNWARD__WHAT_WELCOME: say(w, "%u: welcome lane=%" PRIu64 " dropped=%zu\n", peer, m->welcome->lane_epoch & 0xFFFFFF, m->welcome->n_dropped); break;
    case WIRE__DOWNWARD__WHAT_SINK_WELCOME: say(w, "sink welcome\n"); break;
    case WIRE__DOWNWARD__WHAT_REGISTER: say(w, "register total=%" PRId64 "\n", m->register_->total != NULL ? (int64_t)m->register_->total->n : -1); break;
    case WIRE__DOWNWARD__WHAT_ASK:
        if (m->ask->from > 0)
            say(w, "ask from %" PRIu64 "\n", m->ask->from);
        else
            say(w, "ask\n");
        break;
    case WIRE__DOWNWARD__WHAT_FORGET: say(w, "forget\n"); break;
    case WIRE__DOWNWARD__WHAT_REFUSED: say(w, "%u: refused %d\n", peer, m->refused->code); break;
    case WIRE__DOWNWARD__WHAT_SAY_HELLO: say(w, "%u: say hello\n", peer); break;
    case WIRE__DOWNWARD__WHAT_GOODBYE: say(w, "%u: goodbye\n", peer); break;
    case WIRE__DOWNWARD__WHAT_HEARTBEAT: w->beat_answer = m->heartbeat->number; break;
    default: break;
    }
    return 0;
}

static inline int on_lane_open(void *arg, uint64_t lane, uint32_t *port, const char **endpoint)
{
    (void)arg;
    *port = 5600 + (uint32_t)(lane & 0xFFFF);
    *endpoint = "";
    return 0;
}

static inline void on_lane_send(void *arg, uint64_t lane, const Wire__Lane *m, struct slice body, bool with_body)
{
    struct world *w = arg;
    (void)with_body;
    unsigned n = (unsigned)(lane & 0xFFFFFF);
    switch (m->what_case) {
    case WIRE__LANE__WHAT_OPEN: say(w, "L%u open\n", n); break;
    case WIRE__LANE__WHAT_ANNOUNCE: say(w, "L%u announce\n", n); break;
    case WIRE__LANE__WHAT_ASSIGN:
        say(w, "L%u assign %" PRIu64 "+%u #%u left=%u '%.*s'\n", n, m->assign->tasks->first, m->assign->tasks->count, m->assign->attempt,
            m->assign->tries_left, (int)body.len, (const char *)body.data);
        break;
    case WIRE__LANE__WHAT_CANCEL:
        say(w, "L%u cancel %zu %s%s\n", n, m->cancel->n_tasks, wire_reason_name(m->cancel->reason), m->cancel->silent ? " silent" : "");
        break;
    case WIRE__LANE__WHAT_RELEASE:
        for (size_t i = 0; i < m->release->n_fences; i++)
            say(w, "L%u release %" PRIu64 "+%u\n", n, m->release->fences[i]->first, m->release->fences[i]->count);
        break;
    case WIRE__LANE__WHAT_RECALL:
        w->recall = m->recall->number;
        say(w, "L%u recall %u\n", n, m->recall->count);
        break;
    case WIRE__LANE__WHAT_RETIRE: say(w, "L%u retire\n", n); break;
    default: say(w, "L%u %d\n", n, m->what_case);
    }
}

static inline void on_lane_close(void *arg, uint64_t lane) { say(arg, "L%u close\n", (unsigned)(lane & 0xFFFFFF)); }
static inline void on_sink_place(void *arg, const Wire__SinkPlace *place) { (void)arg, (void)place; }

static inline int on_closing(void *arg, const Wire__Result *m)
{
    struct world *w = arg;
    if (w->closing_fails)
        return -EAGAIN;
    say(w, "closing #%" PRIu64 " %" PRIu64 "+%" PRIu64 " %s %s\n", m->closing->number & 0xFFFFFFFF, m->closing->span->first, m->closing->span->count,
        wire_verdict_name(m->closing->verdict), wire_reason_name(m->closing->reason));
    snprintf(w->sentence, sizeof w->sentence, "%s", m->closing->sentence);
    return 0;
}

static inline uint64_t on_put(void *arg, const char *key, const void *value, size_t len)
{
    struct world *w = arg;
    size_t i = 0;
    while (i < w->n_rows && strcmp(w->rows[i].key, key) != 0)
        i++;
    assert_true(i < sizeof w->rows / sizeof *w->rows && len <= sizeof w->rows[i].value);
    snprintf(w->rows[i].key, sizeof w->rows[i].key, "%s", key);
    memcpy(w->rows[i].value, value, len);
    w->rows[i].len = len;
    w->n_rows += i == w->n_rows;
    return w->flush;
}

static inline uint64_t on_remove(void *arg, const char *key)
{
    struct world *w = arg;
    for (size_t i = 0; i < w->n_rows; i++)
        if (strcmp(w->rows[i].key, key) == 0)
            w->rows[i] = w->rows[--w->n_rows];
    return w->flush;
}

static inline uint64_t on_append(void *arg, uint64_t batch, const struct ledger_frame *f)
{
    struct world *w = arg;
    if (w->shows_appends)
        say(w, "append b%" PRIu64 " %" PRIu64 "+%u '%.*s'\n", batch, f->first, f->count, (int)f->body.len, (const char *)f->body.data);
    return w->flush;
}
static inline uint64_t on_remove_frames(void *arg, uint64_t batch)
{
    say(arg, "remove frames of b%" PRIu64 "\n", batch);
    return ((struct world *)arg)->flush;
}
static inline void on_load(void *arg, uint64_t batch, uint64_t from, uint64_t to, size_t bytes)
{
    (void)bytes;
    ((struct world *)arg)->loading = true;
    say(arg, "load b%" PRIu64 " %" PRIu64 "-%" PRIu64 "\n", batch, from, to);
}
static inline void on_random(void *arg, void *bytes, size_t len)
{
    struct world *w = arg;
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)((w->random += 37) ^ w->n_random++ / 256 * 29);
}
static inline void on_note(void *arg, int level, const char *event, const char *text) { (void)arg, (void)level, (void)event, (void)text; }
static inline void on_leave(void *arg) { say(arg, "leave\n"); }

/* ---- what happens ---- */

static inline void begin(struct world *w)
{
    struct ledger_ports ports = {
        .arg = w, .reply = on_reply, .down = on_down, .lane_open = on_lane_open, .lane_send = on_lane_send, .lane_close = on_lane_close,
        .sink_place = on_sink_place, .closing = on_closing, .put = on_put, .remove = on_remove, .append = on_append,
        .remove_frames = on_remove_frames, .load = on_load, .random = on_random, .note = on_note, .leave = on_leave,
    };
    struct ledger_config config = {
        .program = "ventilator test", .journal = {1}, .session = 1, .heartbeat = NS_PER_S, .loss_grace = 2 * NS_PER_S, .silence = 10 * NS_PER_S,
        .shutdown_timeout = 30 * NS_PER_S, .max_losses = w->max_losses > 0 ? w->max_losses : 3, .max_payload = 1 << 20, .result_credit = 1 << 20, .cache_bytes = 1 << 20,
        .wall = w->wall, .retain = w->retain, .keep_keys = w->keep_keys,
    };
    snprintf(config.boot, sizeof config.boot, "%s", w->boot != NULL ? w->boot : "b");
    w->ledger = ledger_new(&config, &ports, w->now);
    assert_non_null(w->ledger);
}

static inline void committed(struct world *w)
{
    ledger_committed(w->ledger, w->now, w->flush++);
}

static inline void audit(struct world *w)
{
    struct why why = {""};
    if (ledger_audit(w->ledger, &why) < 0)
        fail_msg("%s", why.text);
}

static inline void tick(struct world *w)
{
    ledger_tick(w->ledger, w->now, true);
    audit(w);
}

static inline void pass(struct world *w, int64_t ns)
{
    for (int64_t step; ns > 0; ns -= step) {
        step = ns < 100 * MS ? ns : 100 * MS;
        w->now.ns += step;
        tick(w);
    }
}

/* Answers the load that is under way, as the journal would. */
static inline void loaded(struct world *w)
{
    uint32_t one = 1;
    Wire__Tasks t = WIRE__TASKS__INIT;
    struct wire_writer writer = {0};
    if (!w->loading)
        return;
    w->loading = false;
    t.count = (uint32_t)strlen(w->items);
    t.n_lengths = 1;
    t.lengths = &one;
    assert_int_equal(wire_write(&writer, &t.base), 0);
    struct ledger_frame f = {.count = t.count, .head = {.data = writer.bytes, .len = writer.len},
                             .body = {.data = (const uint8_t *)w->items, .len = t.count}};
    ledger_loaded(w->ledger, w->now, 1, &f, 1, NULL);
    wire_writer_release(&writer);
    tick(w);
}

#define EXPECT(w, text) (assert_string_equal((w)->trace, text), (w)->trace[0] = '\0')

static inline void request(struct world *w, Wire__Request *m, const char *body)
{
    m->id = 5;
    struct slice s = {.data = (const uint8_t *)body, .len = strlen(body)};
    ledger_request(w->ledger, w->now, CLIENT, m, s);
}

static inline void client_hello(struct world *w)
{
    Wire__ClientHello h = WIRE__CLIENT_HELLO__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    h.major = WIRE_MAJOR;
    m.what_case = WIRE__REQUEST__WHAT_HELLO;
    m.hello = &h;
    request(w, &m, "");
}

static char *command[] = {(char *)(uintptr_t) "true"};
static inline void submit(struct world *w, Wire__Options *o, uint8_t seed)
{
    uint8_t id[WIRE_ID] = {seed};
    Wire__Submit s = WIRE__SUBMIT__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    o->n_command = 1;
    o->command = command;
    o->weight = 1;
    o->grace_us = 2000000;
    s.submission = wire_id_bytes(id);
    s.options = o;
    m.what_case = WIRE__REQUEST__WHAT_SUBMIT;
    m.submit = &s;
    request(w, &m, "");
}

/* One-byte payloads, the letters of `items`. */
static inline void chunk(struct world *w, uint64_t first, const char *items, bool last)
{
    uint32_t one = 1;
    snprintf(w->items, sizeof w->items, "%s", items);
    Wire__Tasks t = WIRE__TASKS__INIT;
    Wire__Chunk c = WIRE__CHUNK__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    t.first = first;
    t.count = (uint32_t)strlen(items);
    t.n_lengths = 1;
    t.lengths = &one;
    c.batch = wire_id_bytes(w->batch);
    c.tasks = &t;
    c.digest_before = first;
    c.digest_after = first + t.count;
    c.last = last;
    w->total = last ? first + t.count : 0;
    m.what_case = WIRE__REQUEST__WHAT_CHUNK;
    m.chunk = &c;
    request(w, &m, items);
}

static inline void upward(struct world *w, ledger_peer peer, uint64_t session, uint64_t lane, Wire__Upward *m)
{
    m->session = session;
    m->lane_epoch = lane;
    ledger_upward(w->ledger, w->now, peer, "", m, (struct slice){0});
}

static inline void sink_hello_with(struct world *w, ledger_peer peer, uint64_t session, uint8_t folder)
{
    uint8_t store[WIRE_ID] = {folder};
    Wire__SinkHello h = WIRE__SINK_HELLO__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    h.major = WIRE_MAJOR;
    h.store = wire_id_bytes(store);
    h.results_port = 1;
    m.what_case = WIRE__UPWARD__WHAT_SINK_HELLO;
    m.sink_hello = &h;
    upward(w, peer, session, 0, &m);
}

static inline void sink_hello(struct world *w) { sink_hello_with(w, SINK, 900, 9); }

static inline void registered(struct world *w)
{
    Wire__Registered r = WIRE__REGISTERED__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    Wire__Number total = WIRE__NUMBER__INIT;
    r.batch = wire_id_bytes(w->batch);
    total.n = w->total;
    if (w->total > 0)
        r.total = &total;
    m.what_case = WIRE__UPWARD__WHAT_REGISTERED;
    m.registered = &r;
    upward(w, SINK, 900, 0, &m);
}

static uint64_t epoch_now = 1;      /* of the ventilator: lanes and new fences are of it */

static inline uint64_t lane_of(unsigned n) { return epoch_now << 24 | n; }

static inline void worker_hello_with(struct world *w, ledger_peer peer, const char *name, uint32_t slots, Wire__Value **labels, size_t n_labels,
                                     Wire__Holding **held, size_t n)
{
    uint8_t journal[WIRE_ID] = {1};
    Wire__WorkerHello h = WIRE__WORKER_HELLO__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    h.major = WIRE_MAJOR;
    h.name = (char *)(uintptr_t)name;
    h.slots = slots;
    h.commands = true;
    h.labels = labels;
    h.n_labels = n_labels;
    h.n_holdings = n;
    h.holdings = held;
    h.ventilator = wire_id_bytes(journal);
    m.what_case = WIRE__UPWARD__WHAT_HELLO;
    m.hello = &h;
    upward(w, peer, peer, 0, &m);
}

static inline void worker_hello(struct world *w, ledger_peer peer, const char *name, uint32_t slots, Wire__Holding **held, size_t n)
{
    worker_hello_with(w, peer, name, slots, NULL, 0, held, n);
}

static inline void worker_opened(struct world *w, ledger_peer peer, unsigned lane)
{
    Wire__Opened o = WIRE__OPENED__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    ledger_lane(w->ledger, w->now, lane_of(lane), true);
    o.lane_sequence = 1;
    m.what_case = WIRE__UPWARD__WHAT_OPENED;
    m.opened = &o;
    upward(w, peer, peer, lane_of(lane), &m);
}

static inline Wire__Fence fence_of(struct world *w, uint64_t first, uint32_t count, uint32_t attempt)
{
    Wire__Fence f = WIRE__FENCE__INIT;
    f.batch = wire_id_bytes(w->batch);
    f.first = first;
    f.count = count;
    f.epoch = epoch_now;
    f.attempt = attempt;
    return f;
}

static inline void finished_in(struct world *w, ledger_peer peer, unsigned lane, uint64_t first, uint32_t count, uint32_t attempt, uint64_t each_us)
{
    Wire__Fence f = fence_of(w, first, count, attempt), *fences = &f;
    Wire__Finished x = WIRE__FINISHED__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    x.n_fences = 1;
    x.fences = &fences;
    x.run_us = each_us * count;
    m.what_case = WIRE__UPWARD__WHAT_FINISHED;
    m.finished = &x;
    upward(w, peer, peer, lane_of(lane), &m);
}

/* A second each. */
static inline void finished(struct world *w, ledger_peer peer, unsigned lane, uint64_t first, uint32_t count, uint32_t attempt)
{
    finished_in(w, peer, lane, first, count, attempt, 1000000);
}

static inline void returned(struct world *w, ledger_peer peer, unsigned lane, uint64_t first, uint32_t count, uint32_t attempt)
{
    Wire__Fence f = fence_of(w, first, count, attempt), *fences = &f;
    Wire__Returned x = WIRE__RETURNED__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    x.n_fences = 1;
    x.fences = &fences;
    m.what_case = WIRE__UPWARD__WHAT_RETURNED;
    m.returned = &x;
    upward(w, peer, peer, lane_of(lane), &m);
}

static inline void started(struct world *w, ledger_peer peer, unsigned lane, uint64_t first, uint32_t count, uint32_t attempt)
{
    Wire__Fence f = fence_of(w, first, count, attempt), *fences = &f;
    Wire__Started x = WIRE__STARTED__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    x.n_fences = 1;
    x.fences = &fences;
    m.what_case = WIRE__UPWARD__WHAT_STARTED;
    m.started = &x;
    upward(w, peer, peer, lane_of(lane), &m);
}

static inline void recorded_with(struct world *w, ledger_peer worker, const Wire__Fence *fence, Wire__ResultKind kind, Wire__Verdict v,
                                 Wire__Reason reason, bool fresh)
{
    Wire__Fence f = *fence;
    Wire__RecordedResult r = WIRE__RECORDED_RESULT__INIT, *results = &r;
    Wire__Recorded x = WIRE__RECORDED__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    r.fence = &f;
    r.session = worker;
    r.kind = kind;
    r.n_verdicts = 1;
    r.verdicts = &v;
    r.n_reasons = reason != WIRE__REASON__REASON_NONE;
    r.reasons = &reason;
    r.all_fresh = fresh;
    x.n_results = 1;
    x.results = &results;
    m.what_case = WIRE__UPWARD__WHAT_RECORDED;
    m.recorded = &x;
    upward(w, SINK, 900, 0, &m);
}

static inline void recorded(struct world *w, ledger_peer worker, uint64_t first, uint32_t count, uint32_t attempt, Wire__ResultKind kind, Wire__Verdict v, bool fresh)
{
    Wire__Fence f = fence_of(w, first, count, attempt);
    recorded_with(w, worker, &f, kind, v, WIRE__REASON__REASON_NONE, fresh);
}

static inline void recorded_as(struct world *w, ledger_peer worker, uint64_t first, uint32_t count, uint32_t attempt, Wire__Verdict v, Wire__Reason reason)
{
    Wire__Fence f = fence_of(w, first, count, attempt);
    recorded_with(w, worker, &f, WIRE__RESULT_KIND__IS_VERDICT, v, reason, true);
}

static inline void recorded_closing(struct world *w, uint64_t number, uint64_t closed)
{
    Wire__Fence f = fence_of(w, 0, 1, 0);
    Wire__RecordedResult r = WIRE__RECORDED_RESULT__INIT, *results = &r;
    Wire__Recorded x = WIRE__RECORDED__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    r.fence = &f;
    r.kind = WIRE__RESULT_KIND__IS_CLOSING;
    r.number = epoch_now << 32 | number;
    r.closed = closed;
    x.n_results = 1;
    x.results = &results;
    m.what_case = WIRE__UPWARD__WHAT_RECORDED;
    m.recorded = &x;
    upward(w, SINK, 900, 0, &m);
}

static inline void cancel(struct world *w, uint64_t first, uint64_t count)
{
    Wire__Span span = WIRE__SPAN__INIT, *spans = &span;
    Wire__Cancel c = WIRE__CANCEL__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    span.first = first;
    span.count = count;
    c.ref = w->short_id;
    c.n_tasks = count > 0;
    c.tasks = &spans;
    m.what_case = WIRE__REQUEST__WHAT_CANCEL;
    m.cancel = &c;
    request(w, &m, "");
}

static inline void confirmed(struct world *w, ledger_peer peer, unsigned lane, uint64_t number, uint64_t dropped, uint64_t stopping)
{
    Wire__Confirmed c = WIRE__CONFIRMED__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    c.number = number;
    c.dropped = dropped;
    c.stopping = stopping;
    m.what_case = WIRE__UPWARD__WHAT_CONFIRMED;
    m.confirmed = &c;
    upward(w, peer, peer, lane_of(lane), &m);
}

static inline void status(struct world *w)
{
    Wire__Status s = WIRE__STATUS__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    s.ref = w->short_id;
    m.what_case = WIRE__REQUEST__WHAT_STATUS;
    m.status = &s;
    request(w, &m, "");
}

static inline int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    w->now.ns = NS_PER_S;
    epoch_now = 1;
    w->flush = 1;
    begin(w);
    ledger_restored(w->ledger, w->now);
    committed(w);
    client_hello(w);
    EXPECT(w, "welcome\n");
    *state = w;
    return 0;
}

static inline int teardown(void **state)
{
    struct world *w = *state;
    ledger_destroy(&w->ledger);
    free(w);
    return 0;
}

/* The ventilator is killed and starts again with what its journal has. */
static inline void restart(struct world *w)
{
    static const char *const folders[] = {"batch/", "meta/", "purged/", "tally/", "worker/"};      /* in key order */
    struct why why = {""};
    ledger_destroy(&w->ledger);
    begin(w);
    for (size_t f = 0; f < sizeof folders / sizeof *folders; f++)
        for (size_t i = 0; i < w->n_rows; i++)
            if (strncmp(w->rows[i].key, folders[f], strlen(folders[f])) == 0)
                assert_int_equal(ledger_restore(w->ledger, w->rows[i].key, w->rows[i].value, w->rows[i].len, &why), 0);
    ledger_restored(w->ledger, w->now);
    epoch_now++;
    w->loading = false;
    committed(w);
}

/* The sink's answer to `ask`: `ok` tasks of a span are recorded (none: 0), and of one task attempts are on record. */
static inline void records(struct world *w, uint64_t first, uint64_t ok, uint64_t duplicates, uint64_t index, uint32_t attempts)
{
    Wire__Span span = WIRE__SPAN__INIT, *spans = &span;
    Wire__AttemptNote note = WIRE__ATTEMPT_NOTE__INIT, *notes = &note;
    uint64_t counts[WIRE_VERDICTS] = {[WIRE__VERDICT__OK] = ok};
    Wire__BatchRecords r = WIRE__BATCH_RECORDS__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    span.first = first;
    span.count = ok;
    note.first = index;
    note.count = 1;
    note.attempts = attempts;
    r.batch = wire_id_bytes(w->batch);
    r.known = true;
    r.n_spans = ok > 0;
    r.spans = &spans;
    r.n_counts = WIRE_VERDICTS;
    r.counts = counts;
    r.duplicates = duplicates;
    r.n_attempts = attempts > 0;
    r.attempts = &notes;
    m.what_case = WIRE__UPWARD__WHAT_RECORDS;
    m.records = &r;
    upward(w, SINK, 900, 0, &m);
    tick(w);
}

/* The same: tasks of a span are recorded, with these verdicts. */
static inline void records_are(struct world *w, uint64_t first, uint64_t count, uint64_t counts[WIRE_VERDICTS], uint64_t by_deadline)
{
    Wire__Span span = WIRE__SPAN__INIT, *spans = &span;
    Wire__BatchRecords r = WIRE__BATCH_RECORDS__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    span.first = first;
    span.count = count;
    r.batch = wire_id_bytes(w->batch);
    r.known = true;
    r.n_spans = 1;
    r.spans = &spans;
    r.n_counts = WIRE_VERDICTS;
    r.counts = counts;
    r.by_deadline = by_deadline;
    m.what_case = WIRE__UPWARD__WHAT_RECORDS;
    m.records = &r;
    upward(w, SINK, 900, 0, &m);
    tick(w);
}

/* A sink, and one worker of two slots on lane 1. */
static inline void cluster(struct world *w)
{
    sink_hello(w);
    worker_hello(w, 11, "w1", 2, NULL, 0);
    worker_opened(w, 11, 1);
    tick(w);
    EXPECT(w, "sink welcome\n11: welcome lane=1 dropped=0\nL1 open\n");
}

static inline void batch(struct world *w, Wire__Options *o, const char *items)
{
    submit(w, o, (uint8_t)items[0]);
    committed(w);
    registered(w);
    chunk(w, 0, items, true);
    committed(w);
    registered(w);
    tick(w);
}

#endif
