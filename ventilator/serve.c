/* The shell of the ventilator: sockets, timers, signals and the journal become events of the ledger, and the
 * ledger's ports become sends and writes. It decides nothing.
 *
 * A turn: everything that arrived goes to the ledger; then on_turn ticks it, flushes the journal once for
 * all that the turn staged, and sets the timer. What must be on disk before it is said waits in the ledger. */
#include "ventilator/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>
#include <bsd/sys/queue.h>

#include "common/bug.h"
#include "common/dialer.h"
#include "common/log.h"
#include "common/net.h"
#include "common/notify.h"
#include "common/output.h"
#include "common/remove_tree.h"
#include "common/store.h"
#include "ventilator/audit.h"
#include "ventilator/http.h"
#include "ventilator/lanes.h"
#include "ventilator/ledger.h"
#include "ventilator/serve_config.h"

#define CACHE_BYTES  ((size_t)8 * 1024 * 1024)
#define LANES        1024             /* where the range doesn't say how many */
#define OTHER_SOCKETS 64

struct serve {
    struct serve_config config;
    struct loop *loop;
    struct net *net;
    struct net_socket *clients, *workers;
    struct lanes *lanes;
    struct dialer *sink;
    struct store *store;
    struct ledger *ledger;
    struct audit *audit;
    struct linefile_counts audited;        /* as last looked at */
    bool audit_drops;
    struct loop_timer audit_look;
    struct tower *tower;
    struct http *http;                 /* NULL: off */
    struct wire_arena *arena;
    struct wire_writer writer;
    struct loop_timer timer, give_up;
    struct loop_hook hook;
    struct loop_watch leave;
    struct notify *notify;
    unsigned stood_still;              /* turns to go before silence may be judged again */
    unsigned malformed;
    const struct net_identity *speaker;    /* whose message the ledger looks at; NULL: there are no keys */
    LIST_HEAD(, load) loads;
    uint64_t flushes;                  /* sequence of the last flush */
    bool staged;                       /* something is staged for the next one */
    bool stopping;
    struct why why;
    int exit_code;
};

/* ---- ports: out ---- */

static int send_to(struct serve *s, struct net_socket *socket, net_peer peer, const ProtobufCMessage *m, struct slice body, bool with_body)
{
    if (wire_write(&s->writer, m) < 0)
        return -ENOMEM;
    return net_send(socket, peer, s->writer.bytes, s->writer.len, body, with_body);
}

static int port_reply(void *arg, ledger_peer client, const Wire__Reply *m)
{
    struct serve *s = arg;
    audit_answered(s->audit, wall_now(), client, m);
    if (client == HTTP_PEER && s->http != NULL) {
        http_reply(s->http, m);
        return 0;
    }
    return send_to(s, s->clients, client, &m->base, (struct slice){0}, false);
}

static int port_down(void *arg, ledger_peer peer, const Wire__Downward *m)
{
    struct serve *s = arg;
    return send_to(s, s->workers, peer, &m->base, (struct slice){0}, false);
}

static int port_lane_open(void *arg, uint64_t lane, uint32_t *ret_port, const char **ret_endpoint)
{
    struct serve *s = arg;
    return lanes_open(s->lanes, lane, s->speaker, ret_port, ret_endpoint);
}

static void port_lane_send(void *arg, uint64_t lane, const Wire__Lane *m, struct slice body, bool with_body)
{
    struct serve *s = arg;
    struct net_socket *socket = lanes_socket(s->lanes, lane);
    /* A send that fails leaves a gap in the sequence: the worker sees it and shakes hands anew. */
    if (socket != NULL && send_to(s, socket, 0, &m->base, body, with_body) < 0)
        log_event(LOG_DEBUG, "lane_send_failed", "lane", log_u64(lane), NULL);
}

static void port_lane_close(void *arg, uint64_t lane)
{
    lanes_close(((struct serve *)arg)->lanes, lane);
}

static void port_sink_place(void *arg, const Wire__SinkPlace *place)
{
    struct serve *s = arg;
    char text[8][256];
    const char *endpoints[8];
    size_t n = 0;
    for (size_t i = 0; i < place->n_endpoints && n < 8; i++)
        endpoints[n++] = place->endpoints[i];
    for (size_t i = 0; i < place->n_hosts && n < 8; i++) {
        const char *host = place->hosts[i][0] != '\0' ? place->hosts[i] : "127.0.0.1";
        bool v6 = strchr(host, ':') != NULL && host[0] != '[';
        snprintf(text[n], sizeof text[n], v6 ? "tcp://[%.200s]:%u" : "tcp://%.200s:%u", host, place->results_port);
        endpoints[n] = text[n];
        n++;
    }
    if (dialer_set(s->sink, endpoints, n) < 0)
        log_event(LOG_ERROR, "no_memory", "what", "the address of the sink", NULL);
}

static int port_closing(void *arg, const Wire__Result *m)
{
    struct serve *s = arg;
    struct net_socket *socket = dialer_socket(s->sink);
    if (socket == NULL || !dialer_is_up(s->sink))
        return -EAGAIN;
    return send_to(s, socket, 0, &m->base, (struct slice){0}, false);
}

/* The flush that will hold what is staged now is the next one. */
static uint64_t next_flush(struct serve *s)
{
    return s->flushes + 1;
}

static void must_stage(int rc)
{
    if (rc == 0)
        return;
    fputs("ventilator: out of memory; the journal has everything that was acknowledged: give it more and start it again\n", stderr);
    abort();
}

static uint64_t port_put(void *arg, const char *key, const void *value, size_t len)
{
    struct serve *s = arg;
    must_stage(store_put(s->store, key, value, len));
    s->staged = true;
    return next_flush(s);
}

static uint64_t port_remove(void *arg, const char *key)
{
    struct serve *s = arg;
    must_stage(store_delete(s->store, key));
    s->staged = true;
    return next_flush(s);
}

static uint64_t port_append(void *arg, uint64_t batch, const struct ledger_frame *frame)
{
    struct serve *s = arg;
    struct store_frame row = {.batch = batch, .first = frame->first, .count = frame->count, .head = frame->head, .body = frame->body};
    uint64_t number;
    must_stage(store_append(s->store, &row, &number));
    s->staged = true;
    return next_flush(s);
}

static uint64_t port_remove_frames(void *arg, uint64_t batch)
{
    struct serve *s = arg;
    must_stage(store_delete_frames(s->store, batch));
    s->staged = true;
    return next_flush(s);
}

/* A read that the journal has not answered. */
struct load {
    LIST_ENTRY(load) link;
    struct serve *serve;
    uint64_t batch;
};

static void on_loaded(void *arg, const struct store_rows *rows)
{
    struct load *load = arg;
    struct serve *s = load->serve;
    struct ledger_frame *frames = calloc(rows->n + 1, sizeof *frames);
    if (frames != NULL)
        for (size_t i = 0; i < rows->n; i++)
            frames[i] = (struct ledger_frame){rows->frames[i].first, rows->frames[i].count, rows->frames[i].head, rows->frames[i].body};
    const char *damage = rows->damage != NULL ? rows->damage : rows->n == 0 ? "the journal has no frame for tasks that it admitted" : NULL;
    ledger_loaded(s->ledger, loop_now(s->loop), load->batch, frames, frames != NULL ? rows->n : 0, damage);
    free(frames);
    LIST_REMOVE(load, link);
    free(load);
}

static void port_load(void *arg, uint64_t batch, uint64_t from, uint64_t to, size_t bytes)
{
    struct serve *s = arg;
    struct load *load = calloc(1, sizeof *load);
    must_stage(load != NULL ? 0 : -ENOMEM);
    load->serve = s;
    load->batch = batch;
    LIST_INSERT_HEAD(&s->loads, load, link);
    struct store_query query = {.batch = batch, .order = STORE_BY_INDEX, .from = from, .to = to, .max_bytes = bytes};
    must_stage(store_read(s->store, &query, on_loaded, load, NULL));
}

static void port_random(void *arg, void *bytes, size_t len)
{
    (void)arg;
    if (getrandom(bytes, len, 0) != (ssize_t)len)
        abort();
}

static void port_note(void *arg, int level, const char *event, const char *text)
{
    struct serve *s = arg;
    log_text((enum log_level)level, event, text);
    audit_note(s->audit, wall_now(), event, text);
}

static void port_leave(void *arg)
{
    loop_stop(((struct serve *)arg)->loop);
}

/* ---- events: in ---- */

static void complain(struct serve *s, const char *from, const struct why *why)
{
    if (s->malformed++ < 20)
        log_event(LOG_WARN, "malformed_message", "from", from, "why", why->text, NULL);
}

/* By the name of its key where there are keys, else by where it is. */
static void audit_client(struct serve *s, struct net_socket *socket, const struct net_message *m, const Wire__Request *request)
{
    char by[160];
    const char *address = net_peer_address(socket);
    if (m->who != NULL)
        snprintf(by, sizeof by, "key:%s", m->who->name);
    else
        snprintf(by, sizeof by, "client:%s", address[0] != '\0' ? address : "local");
    audit_asked(s->audit, wall_now(), m->peer, by, request);
}

static void on_client(void *arg, struct net_socket *socket, const struct net_message *m)
{
    struct serve *s = arg;
    const Wire__Request *request;
    struct why why = {""};
    if (wire_read_request(s->arena, m->head, m->head_len, m->body.len, &request, &why) == 0) {
        audit_client(s, socket, m, request);
        ledger_request(s->ledger, loop_now(s->loop), m->peer, request, m->body);
        return;
    }
    complain(s, "client", &why);
    Wire__Refused refused = WIRE__REFUSED__INIT;
    refused.code = WIRE__REFUSED_CODE__BAD_REQUEST;
    refused.sentence = why.text;
    Wire__Reply reply = WIRE__REPLY__INIT;
    reply.id = wire_peek_id(m->head, m->head_len);
    reply.what_case = WIRE__REPLY__WHAT_REFUSED;
    reply.refused = &refused;
    port_reply(s, m->peer, &reply);
}

/* Workers and sinks dial the same port, and some messages both send. */
static bool may_say(const struct net_identity *who, const Wire__Upward *message)
{
    switch (message->what_case) {
    case WIRE__UPWARD__WHAT_HEARTBEAT: case WIRE__UPWARD__WHAT_GOODBYE:
        return true;
    case WIRE__UPWARD__WHAT_SINK_HELLO: case WIRE__UPWARD__WHAT_REGISTERED: case WIRE__UPWARD__WHAT_RECORDED:
    case WIRE__UPWARD__WHAT_REFUSED: case WIRE__UPWARD__WHAT_RECORDS: case WIRE__UPWARD__WHAT_FORGOTTEN:
    case WIRE__UPWARD__WHAT_FIGURES:
        return who->role == ROLE_SINK;
    default:
        return who->role == ROLE_WORKER;
    }
}

static void on_worker(void *arg, struct net_socket *socket, const struct net_message *m)
{
    struct serve *s = arg;
    const Wire__Upward *message;
    struct why why = {""};
    if (wire_read_upward(s->arena, m->head, m->head_len, m->body.len, &message, &why) < 0) {
        complain(s, "worker or sink", &why);
        return;
    }
    if (m->who != NULL && !may_say(m->who, message)) {
        why_set(&why, "the key of %s %s came with a message that only the other kind of process on this port may send", net_role_name(m->who->role), m->who->name);
        complain(s, "worker or sink", &why);
        return;
    }
    if (message->what_case == WIRE__UPWARD__WHAT_FIGURES && s->tower != NULL)
        tower_take(s->tower, s->ledger, message->session, message->figures, loop_now(s->loop));
    s->speaker = m->who;
    ledger_upward(s->ledger, loop_now(s->loop), m->peer, net_peer_address(socket), message, m->body);
    s->speaker = NULL;
}

static void on_lane(void *arg, uint64_t lane, bool is_up)
{
    struct serve *s = arg;
    ledger_lane(s->ledger, loop_now(s->loop), lane, is_up);
}

static void on_sink_refused(void *arg, struct net_socket *socket, const char *sentence)
{
    (void)arg;
    log_event(LOG_WARN, "sink_refuses", "endpoint", net_endpoint(socket), "reason", sentence, NULL);
}

static void on_sink_up(void *arg, struct net_socket *socket, bool is_up)
{
    (void)socket;
    struct serve *s = arg;
    if (s->ledger != NULL)
        ledger_sink_up(s->ledger, loop_now(s->loop), is_up);
}

static void on_committed(void *arg, uint64_t sequence)
{
    struct serve *s = arg;
    ledger_committed(s->ledger, loop_now(s->loop), sequence);
}

static void on_full(void *arg, bool is_full)
{
    struct serve *s = arg;
    log_event(is_full ? LOG_ERROR : LOG_INFO, is_full ? "disk_full" : "disk_has_room", "folder", s->config.data, "what",
              is_full ? "nothing new is taken in until there is room; nothing is lost" : "taking in again", NULL);
    ledger_full(s->ledger, loop_now(s->loop), is_full);
}

static void on_failed(void *arg, const char *sentence)
{
    struct serve *s = arg;
    fprintf(stderr, "ventilator: %s\n", sentence);
    s->exit_code = EXIT_DISK;
    loop_stop(s->loop);
}

static void on_timer(void *arg)
{
    (void)arg;          /* the turn's hook does what is due */
}

static void on_give_up(void *arg)
{
    struct serve *s = arg;
    log_event(LOG_WARN, "shutdown_timeout", "what", "left before everything was flushed", NULL);
    loop_stop(s->loop);
}

static void on_signal(void *arg, int signal)
{
    struct serve *s = arg;
    if (signal == SIGHUP) {
        audit_reopen(s->audit);
        return;
    }
    if (s->stopping) {
        loop_stop(s->loop);
        return;
    }
    s->stopping = true;
    notify_stopping(s->notify);
    log_event(LOG_INFO, "signal", "signal", signal == SIGTERM ? "SIGTERM" : "SIGINT", NULL);
    loop_timer_set(s->loop, &s->give_up, mono_add(loop_now(s->loop), s->config.shutdown_timeout));
    ledger_drain(s->ledger, loop_now(s->loop));
}

/* Whoever started us is gone. */
static void on_leave_with(void *arg, uint32_t events)
{
    (void)events;
    struct serve *s = arg;
    loop_unwatch(s->loop, &s->leave);
    loop_stop(s->loop);
}

static bool on_turn(void *arg)
{
    struct serve *s = arg;
    if (loop_stood_still(s->loop) > s->config.heartbeat)
        s->stood_still = 3;
    bool caught_up = s->stood_still == 0;
    if (!caught_up)
        s->stood_still--;
    mono_t next = ledger_tick(s->ledger, loop_now(s->loop), caught_up);
    if (s->staged) {
        s->flushes = store_flush(s->store);
        s->staged = false;
    }
    loop_timer_set(s->loop, &s->timer, next);
    return false;
}

static void on_http_request(void *arg, const char *who, const Wire__Request *request)
{
    struct serve *s = arg;
    char by[160];
    snprintf(by, sizeof by, "http:%s", who);
    audit_asked(s->audit, wall_now(), HTTP_PEER, by, request);
    ledger_request(s->ledger, loop_now(s->loop), HTTP_PEER, request, (struct slice){0});
}

/* ---- start and end ---- */

static int fail(struct serve *s, int code, const char *sentence)
{
    fprintf(stderr, "ventilator serve: %s\n", sentence);
    s->exit_code = code;
    return -1;
}

static int open_store(struct serve *s)
{
    struct why why = {""};
    enum store_refusal refusal = STORE_OK;
    struct store_config config = {.dir = s->config.data, .role = "journal", .version = WIRE_JOURNAL_VERSION, .committed = on_committed, .full = on_full,
                                  .failed = on_failed, .arg = s};
    s->store = store_open(s->loop, &config, &refusal, &why);
    if (s->store == NULL)
        return fail(s, refusal == STORE_BUSY ? EXIT_BUSY : EXIT_DISK, why.text);
    s->flushes = store_committed(s->store);
    return 0;
}

static int restore_record(void *arg, const char *key, const uint8_t *value, size_t len)
{
    struct serve *s = arg;
    return ledger_restore(s->ledger, key, value, len, &s->why);
}

static int open_ledger(struct serve *s)
{
    struct ledger_ports ports = {
        .arg = s, .reply = port_reply, .down = port_down, .lane_open = port_lane_open, .lane_send = port_lane_send,
        .lane_close = port_lane_close, .sink_place = port_sink_place, .closing = port_closing, .put = port_put, .remove = port_remove,
        .append = port_append, .remove_frames = port_remove_frames, .load = port_load, .random = port_random, .note = port_note,
        .leave = port_leave,
    };
    struct ledger_config config = {
        .program = "ventilator " TARMAC_VERSION, .heartbeat = s->config.heartbeat, .loss_grace = s->config.loss_grace,
        .silence = s->config.silence, .shutdown_timeout = s->config.shutdown_timeout, .max_losses = (uint32_t)s->config.max_losses,
        .max_payload = s->config.max_payload, .result_credit = s->config.result_credit, .cache_bytes = CACHE_BYTES, .wall = wall_now(),
        .workers_port = net_port(s->workers), .lanes_from = s->config.lanes.from, .lanes_to = s->config.lanes.to,
        .retain = s->config.retain, .keep_keys = s->config.keep_keys,
    };
    memcpy(config.journal, store_id(s->store), WIRE_ID);
    boot_id(config.boot);
    do
        port_random(NULL, &config.session, sizeof config.session);
    while (config.session == 0);
    s->ledger = ledger_new(&config, &ports, mono_now());
    if (s->ledger == NULL)
        return fail(s, EXIT_BUSY, "no memory to begin with");
    if (store_load(s->store, "", restore_record, s, &s->why) < 0)
        return fail(s, EXIT_DISK, s->why.text);
    return 0;
}

static int open_sockets(struct serve *s)
{
    struct why why = {""};
    int lanes = s->config.lanes.from > 0 ? (int)(s->config.lanes.to - s->config.lanes.from + 1) : LANES;
    struct net_config config = {.max_sockets = lanes + OTHER_SOCKETS, .max_message = WIRE_MESSAGE};
    struct net_callbacks clients = {.message = on_client, .arg = s}, workers = {.message = on_worker, .arg = s};
    struct net_callbacks sink = {.up = on_sink_up, .refused = on_sink_refused, .arg = s};
    struct net_access for_clients = {.port = "clients", .admits = ROLE_BIT(ROLE_CLIENT)};
    struct net_access for_workers = {.port = "workers", .admits = ROLE_BIT(ROLE_WORKER) | ROLE_BIT(ROLE_SINK)};
    if (s->config.keys != NULL && (config.keys = net_keys_read(s->config.keys, ROLE_VENTILATOR, &why)) == NULL)
        return fail(s, EXIT_USAGE, why.text);
    if ((s->net = net_new(s->loop, &config, &why)) == NULL)
        return fail(s, EXIT_BUSY, why.text);
    s->clients = net_open_for(s->net, NET_ROUTER, s->config.listen_endpoint, &for_clients, &clients, &why);
    if (s->clients == NULL)
        return fail(s, EXIT_BUSY, why.text);
    s->workers = net_open_for(s->net, NET_ROUTER, s->config.workers_endpoint, &for_workers, &workers, &why);
    if (s->workers == NULL)
        return fail(s, EXIT_BUSY, why.text);
    s->lanes = lanes_new(s->net, &s->config.lanes, s->config.workers_endpoint, on_lane, s);
    s->sink = dialer_new(s->loop, s->net, NET_RESULTS_OUT, ROLE_SINK, &sink);
    return s->lanes != NULL && s->sink != NULL ? 0 : fail(s, EXIT_BUSY, "no memory to begin with");
}

/* What the file has no room for is said when that begins and when it is over; nothing waits for it. */
static void look_at_audit(void *arg)
{
    struct serve *s = arg;
    struct linefile_counts before = s->audited;
    if (!audit_count(s->audit, &s->audited))
        return;
    bool drops = s->audited.dropped != before.dropped || s->audited.error != 0;
    if (drops && !s->audit_drops)
        log_event(LOG_ERROR, "audit_dropped", "file", s->config.audit_file, "lines", log_u64(s->audited.dropped), "why",
                  s->audited.error != 0 ? strerror(s->audited.error) : "they come faster than they can be written", NULL);
    if (!drops && s->audit_drops)
        log_event(LOG_INFO, "audit_goes_on", "file", s->config.audit_file, "dropped", log_u64(s->audited.dropped), NULL);
    s->audit_drops = drops;
    loop_timer_set(s->loop, &s->audit_look, mono_add(loop_now(s->loop), NS_PER_S));
}

static int open_audit(struct serve *s)
{
    struct why why = {""};
    char sentence[sizeof why.text + 32];
    s->audit = audit_open(s->config.audit_file, &why);
    s->audit_look = (struct loop_timer){.fire = look_at_audit, .arg = s};
    if (s->audit != NULL)
        return loop_timer_set(s->loop, &s->audit_look, mono_add(mono_now(), NS_PER_S));
    snprintf(sentence, sizeof sentence, "--audit-file %s", why.text);
    return fail(s, EXIT_USAGE, sentence);
}

/* Several ventilators on one machine are normal: the default port is not worth an error. */
static int open_http(struct serve *s)
{
    struct why why = {""};
    struct http_config config = {.listen = s->config.http, .token = s->config.http_token, .names = &s->config.http_names,
                                 .tick = s->config.http_tick, .silence = s->config.http_silence, .program = "ventilator " TARMAC_VERSION};
    struct http_ports ports = {.arg = s, .ledger = s->ledger, .ask = on_http_request};
    if (strcmp(s->config.http, "off") == 0)
        return 0;
    if ((s->tower = tower_new(mono_now())) == NULL)
        return fail(s, EXIT_BUSY, "no memory to begin with");
    s->http = http_new(s->loop, s->tower, &config, &ports, &why);
    if (s->http != NULL)
        return 0;
    if (s->config.http_given || errno != EADDRINUSE)
        return fail(s, EXIT_BUSY, why.text);
    log_event(LOG_WARN, "http_off", "why", why.text, "what", "goes on without a page; --http names another address", NULL);
    return 0;
}

static int open_loop(struct serve *s)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};      /* SIGHUP only where there is a file to open again */
    if ((s->loop = loop_new()) == NULL || loop_signals(s->loop, signals, s->config.audit_file != NULL ? 3 : 2, on_signal, s) < 0 || (s->arena = wire_arena_new()) == NULL)
        return fail(s, EXIT_BUSY, "no memory or no descriptors to begin with");
    s->timer = (struct loop_timer){.fire = on_timer, .arg = s};
    s->give_up = (struct loop_timer){.fire = on_give_up, .arg = s};
    s->hook = (struct loop_hook){.turn = on_turn, .arg = s};
    if (s->config.leave_with >= 0) {
        s->leave = (struct loop_watch){.fd = (int)s->config.leave_with, .ready = on_leave_with, .arg = s};
        fcntl(s->leave.fd, F_SETFD, FD_CLOEXEC);
        if (loop_watch(s->loop, &s->leave, EPOLLIN) < 0)
            return fail(s, EXIT_USAGE, "--leave-with: this descriptor can't be watched");
    }
    return 0;
}

static bool is_serving(void *arg, char text[NOTIFY_TEXT])
{
    struct serve *s = arg;
    struct ledger_counts counts;
    ledger_count(s->ledger, &counts);
    snprintf(text, NOTIFY_TEXT, "%s%" PRIu32 " workers, %s; %" PRIu64 " open batches", counts.full ? "the disk is full; " : "", counts.workers,
             counts.sink_present ? "a sink" : "no sink", counts.open_batches);
    return !counts.full && !counts.draining;
}

static int open_notify(struct serve *s)
{
    const struct notify_source source = {.serving = is_serving, .arg = s};
    s->notify = notify_new(s->loop, s->config.health_file, &source, &s->why);
    return s->notify ? 0 : fail(s, EXIT_USAGE, s->why.text);
}

static void say_ready(struct serve *s)
{
    printf("ready clients=%s workers=%s http=%s data=%s\n", net_endpoint(s->clients), net_endpoint(s->workers),
           s->http != NULL ? http_url(s->http) : "off", s->config.data);
    if (output_flush() != 0)
        output_forget();    /* Whoever waited for this line may be gone: we go on without. */
    notify_ready(s->notify);
}

/* The sink and the worker of a run leave at the same time, and may be writing still. */
static void remove_dir(const char *dir)
{
    for (int i = 0; i < 100; i++) {
        remove_tree(dir);
        if (access(dir, F_OK) < 0)
            return;
        poll(NULL, 0, 20);
    }
}

static void close_all(struct serve *s)
{
    if (s->clients != NULL)
        net_linger(s->clients, NS_PER_S / 5);
    if (s->workers != NULL)
        net_linger(s->workers, NS_PER_S / 5);
    http_destroy(&s->http);
    tower_destroy(&s->tower);
    if (s->store != NULL && s->exit_code != EXIT_DISK)
        store_flush(s->store);
    store_close(&s->store, s->config.shutdown_timeout);
    struct load *load, *next;
    LIST_FOREACH_SAFE(load, &s->loads, link, next)
        free(load);
    ledger_destroy(&s->ledger);
    lanes_destroy(&s->lanes);
    dialer_destroy(&s->sink);
    net_close(&s->clients);
    net_close(&s->workers);
    if (s->loop != NULL) {
        loop_remove_hook(s->loop, &s->hook);
        loop_timer_clear(s->loop, &s->timer);
        loop_timer_clear(s->loop, &s->give_up);
        loop_timer_clear(s->loop, &s->audit_look);
        loop_unwatch(s->loop, &s->leave);
    }
    notify_destroy(&s->notify);
    net_destroy(&s->net);
    loop_destroy(&s->loop);
    audit_close(&s->audit);
    wire_arena_destroy(&s->arena);
    wire_writer_release(&s->writer);
    if (s->config.remove_dir != NULL)
        remove_dir(s->config.remove_dir);
}

static int serve(struct serve *s)
{
    if (open_loop(s) < 0 || open_audit(s) < 0 || open_notify(s) < 0 || open_store(s) < 0 || open_sockets(s) < 0 || open_ledger(s) < 0
        || open_http(s) < 0)
        return -1;
    loop_add_hook(s->loop, &s->hook);
    ledger_restored(s->ledger, mono_now());
    say_ready(s);
    int rc = loop_run(s->loop);
    struct ledger_counts counts;
    ledger_count(s->ledger, &counts);
    log_event(LOG_INFO, "stopped", "open_batches", log_u64(counts.open_batches), "queued", log_u64(counts.queued), "in_flight",
              log_u64(counts.in_flight), NULL);
    return rc;
}

int serve_main(int argc, char **argv)
{
    struct serve *s = calloc(1, sizeof *s);
    struct why why = {""};
    int rest;
    bool dashes;
    if (s == NULL)
        return EXIT_BUSY;
    enum options_result result = options_parse(&serve_command, argc, argv, &s->config, &rest, &dashes, &why);
    int code = EXIT_STOPPED;
    if (result == OPTIONS_HELP) {
        options_help(&serve_command, stdout);
    } else if (result == OPTIONS_VERSION) {
        puts("ventilator " TARMAC_VERSION);
    } else if (result == OPTIONS_BAD || serve_config_check(&s->config, &why) < 0) {
        fprintf(stderr, "ventilator serve: %s\n", why.text);
        code = EXIT_USAGE;
    } else if (rest < argc) {
        fprintf(stderr, "ventilator serve: '%s' is one word too many; see 'ventilator serve --help'\n", argv[rest]);
        code = EXIT_USAGE;
    } else {
        log_setup("ventilator", s->config.log_format == 1 ? LOG_JSON : LOG_TEXT, (enum log_level)s->config.log_level);
        signal(SIGPIPE, SIG_IGN);    /* Whoever waits for the ready line may be gone. */
        serve(s);
        close_all(s);
        code = s->exit_code;
    }
    options_release(&serve_command, &s->config);
    free(s);
    return code;
}
