/* One loop. What comes in goes to the register or the streams; what they stage is flushed at the end
 * of the turn; what was committed goes back to the register, which tells everybody.
 *
 * Results are not read while the disk is full or too much waits for it: then the sockets' buffers
 * fill, and the workers feel it. When that takes long, the port is closed until it is over: a connection on which
 * nothing is taken is given up by its sender's system (ZMQ_TCP_MAXRT) and made anew, and libzmq would keep what it had
 * received of each old one. */
#include "sink/shell.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>

#include "common/bug.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/net.h"
#include "common/notify.h"
#include "common/output.h"
#include "common/store.h"
#include "sink/config.h"
#include "sink/register.h"
#include "sink/streams.h"
#include "sink/trace.h"

#define PROGRAM "sink " TARMAC_VERSION
#define SOCKETS 64
#define PAUSE_AT ((size_t)16 * 1024 * 1024)     /* bytes that wait for the disk */
#define RESUME_AT ((size_t)8 * 1024 * 1024)
#define CLOSE_AFTER (8 * NS_PER_S)              /* less than MAXRT */
#define BIND_EVERY (100 * NS_PER_MS)            /* when a port isn't free again yet */
#define RESTORE_ROWS 4096u
#define RESTORE_BYTES ((size_t)8 * 1024 * 1024)
#define QUIET (200 * NS_PER_MS)                 /* leaving: nothing came for so long … */
#define INTAKE_MOST (5 * NS_PER_S)              /* … or so long at most */
#define LEAVE_MOST (10 * NS_PER_S)
#define GOODBYE_LINGER (500 * NS_PER_MS)
#define STOOD_STILL NS_PER_S                    /* who stood still so long judges nobody in that turn */
#define WAITING_FIRST NS_PER_S
#define FIGURES_EVERY NS_PER_S
#define WAITING_EVERY (10 * NS_PER_S)

struct shell {
    struct config config;
    struct loop *loop;
    struct net *net;
    struct store *store;
    struct registry *registry;
    struct streams *streams;
    struct trace *trace;                        /* NULL: no --trace-file */
    struct linefile_counts traced;              /* as last looked at */
    bool trace_drops;
    struct net_socket *control, *results, *query;
    struct wire_arena *arena;
    struct wire_writer writer;
    struct loop_hook hook;
    struct loop_timer tick, waiting, leaving, figures;
    struct loop_watch left;                     /* --leave-with */
    uint64_t flushed;                           /* the last sequence handed to the store */
    bool present, full, paused;
    mono_t paused_at;
    char results_at[ENDPOINT_SIZE];             /* while `results` is closed: where it was */
    struct notify *notify;
    bool stopping, drained;                     /* taking in what is on the way; then nothing more */
    mono_t stop_at, last_result;
    int exit_code;
    bool serving, restore_failed, restore_stopped;
    struct why why;
    uint64_t restored_rows, restoring;
};

/* ---- the register's ports ---- */

static int port_up(void *arg, const Wire__Upward *message, struct slice body, bool with_body)
{
    struct shell *self = arg;
    if (!self->control || wire_write(&self->writer, &message->base) < 0)
        return -EAGAIN;
    return net_send(self->control, 0, self->writer.bytes, self->writer.len, body, with_body) < 0 ? -EAGAIN : 0;
}

static uint64_t sequence(const struct shell *self, int staged)
{
    return staged < 0 ? 0 : self->flushed + 1;
}

static uint64_t port_put(void *arg, const char *key, const void *value, size_t len)
{
    struct shell *self = arg;
    return sequence(self, store_put(self->store, key, value, len));
}

static uint64_t port_remove(void *arg, const char *key)
{
    struct shell *self = arg;
    return sequence(self, store_delete(self->store, key));
}

static uint64_t port_append(void *arg, uint64_t batch, uint64_t first, uint32_t count, enum register_row kind,
                            struct slice head, struct slice body, uint64_t *ret_row)
{
    struct shell *self = arg;
    struct store_frame frame = {.batch = batch, .first = first, .count = count, .kind = (uint32_t)kind, .head = head, .body = body};
    int staged = store_append(self->store, &frame, ret_row);
    if (staged == 0 && self->streams) {
        frame.number = *ret_row;
        streams_appended(self->streams, &frame);
    }
    return sequence(self, staged);
}

static uint64_t port_remove_rows(void *arg, uint64_t batch)
{
    struct shell *self = arg;
    return sequence(self, store_delete_frames(self->store, batch));
}

static void port_moved(void *arg, const struct register_batch *batch)
{
    struct shell *self = arg;
    if (self->streams)
        streams_moved(self->streams, batch);
}

static void port_note(void *arg, int level, const char *event, const char *text)
{
    (void)arg;
    log_event((enum log_level)level, event, "text", text, NULL);
}

static void port_attempts(void *arg, const struct register_batch *batch, const Wire__Report *report, const uint8_t *fresh, uint64_t staged_in)
{
    struct shell *self = arg;
    if (self->trace)
        trace_staged(self->trace, batch->short_id, batch->options, report, fresh, staged_in, wall_now());
}

static int port_send(void *arg, net_peer peer, const uint8_t *head, size_t head_len, struct slice body, bool with_body)
{
    struct shell *self = arg;
    return net_send(self->query, peer, head, head_len, body, with_body);
}

/* ---- what the sockets bring ---- */

static void take_result(void *arg, struct net_socket *socket, const struct net_message *message)
{
    struct shell *self = arg;
    (void)socket;
    const Wire__Result *result;
    struct why why;
    self->last_result = loop_now(self->loop);
    if (wire_read_result(self->arena, message->head, message->head_len, message->body.len, &result, &why) < 0)
        register_malformed(self->registry, self->last_result, why.text);
    else if (message->who && message->who->role != (result->what_case == WIRE__RESULT__WHAT_CLOSING ? ROLE_VENTILATOR : ROLE_WORKER)) {
        why_set(&why, "the key of %s %s came with what only the other one sends here", net_role_name(message->who->role), message->who->name);
        register_malformed(self->registry, self->last_result, why.text);
    } else
        register_result_packed(self->registry, self->last_result, result, (struct slice){NULL, message->head, message->head_len},
                               message->body);
}

static void take_downward(void *arg, struct net_socket *socket, const struct net_message *message)
{
    struct shell *self = arg;
    (void)socket;
    const Wire__Downward *word;
    struct why why;
    if (wire_read_downward(self->arena, message->head, message->head_len, message->body.len, &word, &why) < 0)
        log_event(LOG_WARN, "message_malformed", "from", "ventilator", "text", why.text, NULL);
    else
        register_downward(self->registry, loop_now(self->loop), word);
}

static void control_up(void *arg, struct net_socket *socket, bool is_up)
{
    struct shell *self = arg;
    (void)socket;
    register_ventilator(self->registry, loop_now(self->loop), is_up);
}

static void control_refused(void *arg, struct net_socket *socket, const char *sentence)
{
    (void)arg;
    log_event(LOG_WARN, "ventilator_refuses", "endpoint", net_endpoint(socket), "reason", sentence, NULL);
}

static void take_query(void *arg, struct net_socket *socket, const struct net_message *message)
{
    struct shell *self = arg;
    (void)socket;
    streams_message(self->streams, message);
}

/* ---- what the store brings ---- */

static void store_is_committed(void *arg, uint64_t committed)
{
    struct shell *self = arg;
    if (self->trace)
        trace_committed(self->trace, committed);
    /* Whoever waits for a result first: what follows is of use to what comes later. */
    if (self->streams)
        streams_recorded(self->streams);
    if (self->registry)
        register_committed(self->registry, loop_now(self->loop), committed);
}

static void store_became_full(void *arg, bool is_full)
{
    struct shell *self = arg;
    self->full = is_full;
    if (self->registry)
        register_full(self->registry, loop_now(self->loop), is_full);
}

static void store_has_failed(void *arg, const char *sentence)
{
    struct shell *self = arg;
    why_set(&self->why, "%s", sentence);
    self->exit_code = EXIT_DISK;
    self->restore_failed = true;
    loop_stop(self->loop);
}

/* ---- each turn ---- */

static int open_intake(struct shell *self, const char *endpoint, struct why *why)
{
    const struct net_callbacks callbacks = {.message = take_result, .arg = self};
    const struct net_access access = {.port = "results", .admits = ROLE_BIT(ROLE_WORKER) | ROLE_BIT(ROLE_VENTILATOR)};
    self->results = net_open_for(self->net, NET_RESULTS_IN, endpoint, &access, &callbacks, why);
    return self->results ? 0 : -1;
}

static void close_intake(struct shell *self)
{
    snprintf(self->results_at, sizeof self->results_at, "%s", net_endpoint(self->results));
    log_event(LOG_INFO, "results_closed", "endpoint", self->results_at, "text",
              self->full ? "until there is room on the disk; the workers keep what they have"
                         : "until the disk has written what waits for it; the workers keep what they have", NULL);
    net_close(&self->results);
}

/* When to look again, whatever happens. */
static mono_t look_at_intake(struct shell *self, mono_t now)
{
    size_t waiting = store_waiting(self->store);
    bool pause = self->full || self->drained || waiting > PAUSE_AT || (self->paused && waiting > RESUME_AT);
    struct why why;
    if (!pause && !self->results && open_intake(self, self->results_at, &why) < 0)
        return mono_add(now, BIND_EVERY);
    if (pause != self->paused) {
        self->paused = pause;
        self->paused_at = now;
        if (self->results)
            net_pause(self->results, pause);
    }
    if (!self->paused || !self->results)
        return MONO_NEVER;
    mono_t close_at = mono_add(self->paused_at, CLOSE_AFTER);
    if (!mono_reached(now, close_at))
        return close_at;
    close_intake(self);
    return MONO_NEVER;
}

static bool turn(void *arg)
{
    struct shell *self = arg;
    bool caught_up = loop_stood_still(self->loop) < STOOD_STILL;
    mono_t next = register_tick(self->registry, loop_now(self->loop), caught_up);
    self->flushed = store_flush(self->store);
    next = mono_min(next, streams_turn(self->streams));
    next = mono_min(next, look_at_intake(self, loop_now(self->loop)));
    if (self->drained && register_drained(self->registry))
        loop_stop(self->loop);
    /* Without memory for the timer the loop comes back at once. */
    return loop_timer_set(self->loop, &self->tick, next) < 0;
}

/* The turn's hook does the work; the timer brings the turn. */
static void tick(void *arg)
{
    (void)arg;
}

/* A disk without room stops no recording: spans are dropped, which is said when it begins and when it is over. */
static void look_at_trace(struct shell *self)
{
    struct linefile_counts before = self->traced;
    trace_count(self->trace, &self->traced);
    bool drops = self->traced.dropped != before.dropped || self->traced.error != 0;
    if (drops && !self->trace_drops)
        log_event(LOG_WARN, "trace_dropped", "file", self->config.trace_file, "spans", log_u64(self->traced.dropped), "text",
                  self->traced.error != 0 ? strerror(self->traced.error) : "they come faster than they can be written; results are recorded all the same",
                  NULL);
    if (!drops && self->trace_drops)
        log_event(LOG_INFO, "trace_goes_on", "file", self->config.trace_file, "dropped", log_u64(self->traced.dropped), NULL);
    self->trace_drops = drops;
}

static void tell_figures(void *arg)
{
    struct shell *self = arg;
    if (self->trace)
        look_at_trace(self);
    struct register_extra extra = {.waiting_bytes = store_waiting(self->store), .trace_lines = self->traced.written,
                                   .trace_dropped = self->traced.dropped};
    register_tell_figures(self->registry, &extra);
    (void)loop_timer_set(self->loop, &self->figures, mono_add(loop_now(self->loop), FIGURES_EVERY));
}

static void say_waiting(void *arg)
{
    struct shell *self = arg;
    const char *refusal = net_refusal(self->control);
    struct register_counts counts;
    register_count(self->registry, &counts);
    if (!counts.ventilator_present)
        log_event(LOG_WARN, "waiting_for_ventilator", "endpoint", self->config.ventilator, "text",
                  "results are recorded meanwhile", refusal[0] != '\0' ? "refused" : NULL, refusal, NULL);
    (void)loop_timer_set(self->loop, &self->waiting, mono_add(loop_now(self->loop), WAITING_EVERY));
}

/* ---- leaving ---- */

static void go_on_leaving(void *arg)
{
    struct shell *self = arg;
    mono_t now = loop_now(self->loop);
    mono_t quiet_at = mono_add(self->last_result, QUIET);
    if (!self->drained && (mono_reached(now, quiet_at) || mono_reached(now, mono_add(self->stop_at, INTAKE_MOST)))) {
        self->drained = true;
        register_drain(self->registry, now);
    }
    if (mono_reached(now, mono_add(self->stop_at, LEAVE_MOST))) {
        log_event(LOG_WARN, "leaving_uncommitted", "bytes", log_u64(store_waiting(self->store)), "text",
                  "what could not be committed is not released: workers bring it again", NULL);
        loop_stop(self->loop);
        return;
    }
    mono_t next = self->drained ? mono_add(self->stop_at, LEAVE_MOST) : mono_min(quiet_at, mono_add(self->stop_at, INTAKE_MOST));
    if (loop_timer_set(self->loop, &self->leaving, next) < 0)
        loop_stop(self->loop);
}

static void on_signal(void *arg, int number)
{
    struct shell *self = arg;
    if (number == SIGHUP) {
        if (self->trace)
            trace_reopen(self->trace);
        return;
    }
    if (self->stopping || !self->serving) {         /* the second one; or restoring still */
        self->stopping = self->restore_stopped = true;
        loop_stop(self->loop);
        return;
    }
    self->stopping = true;
    notify_stopping(self->notify);
    self->stop_at = self->last_result = loop_now(self->loop);
    log_event(LOG_INFO, "leaving", "signal", number == SIGTERM ? "SIGTERM" : "SIGINT", "text", "takes in what is on the way", NULL);
    go_on_leaving(self);
}

/* Whoever started us is gone: as a second signal. */
static void on_left(void *arg, uint32_t events)
{
    struct shell *self = arg;
    (void)events;
    loop_unwatch(self->loop, &self->left);
    self->stopping = self->restore_stopped = true;
    loop_stop(self->loop);
}

/* ---- starting ---- */

static int restore_record(void *arg, const char *key, const uint8_t *value, size_t len)
{
    struct shell *self = arg;
    return register_restore_record(self->registry, key, value, len, &self->why);
}

static void restore_rows(void *arg, const struct store_rows *rows);

static void ask_rows(struct shell *self, uint64_t batch, uint64_t after)
{
    struct store_query query = {.batch = batch, .order = STORE_BY_NUMBER, .after = after, .max_rows = RESTORE_ROWS,
                                .max_bytes = RESTORE_BYTES, .heads_only = true};
    self->restoring = batch;
    if (store_read(self->store, &query, restore_rows, self, NULL) == 0)
        return;
    why_set(&self->why, "no memory to read the rows of batch %" PRIu64, batch);
    self->restore_failed = true;
}

/* The next rows are asked for before these are looked at, so that the store's thread reads meanwhile.
 * Stops the loop when there is nothing more to ask for. */
static void restore_rows(void *arg, const struct store_rows *rows)
{
    struct shell *self = arg;
    uint64_t batch = self->restoring, after;
    if (rows->damage) {
        why_set(&self->why, "%s", rows->damage);
        self->restore_failed = true;
    } else if (rows->more) {
        ask_rows(self, batch, rows->frames[rows->n - 1].number);
    }
    for (size_t i = 0; i < rows->n && !self->restore_failed; i++) {
        const struct store_frame *frame = &rows->frames[i];
        if (register_restore_row(self->registry, batch, frame->number, frame->kind, frame->head, &self->why) < 0)
            self->restore_failed = true;
    }
    self->restored_rows += rows->n;
    if (!rows->more && !self->restore_failed) {
        register_restore_rows_end(self->registry, batch);
        if (register_restore_needs(self->registry, &batch, &after))
            ask_rows(self, batch, after);
        else
            loop_stop(self->loop);
    }
    if (self->restore_failed || self->restore_stopped)
        loop_stop(self->loop);
}

static int restore(struct shell *self)
{
    mono_t begin = mono_now();
    uint64_t batch, after;
    struct why why;
    self->why.text[0] = '\0';
    if (store_load(self->store, "", restore_record, self, &why) < 0) {
        if (self->why.text[0] == '\0')
            self->why = why;
        return -1;
    }
    if (register_restore_needs(self->registry, &batch, &after)) {
        ask_rows(self, batch, after);
        int rc = self->restore_failed ? 0 : loop_run(self->loop);
        if (rc < 0)
            return why_set(&self->why, "the event loop failed: %s", strerror(-rc));
    }
    if (self->restore_failed)
        return -1;
    if (self->restore_stopped)
        return 0;
    struct register_counts counts;
    register_count(self->registry, &counts);
    log_event(LOG_INFO, "restored", "batches", log_u64(counts.batches), "open", log_u64(counts.open_batches),
              "rows", log_u64(self->restored_rows), "ms", log_ms(mono_since(mono_now(), begin)), NULL);
    return 0;
}

static int open_store(struct shell *self)
{
    struct store_config config = {
        .dir = self->config.data, .role = "results", .version = WIRE_RESULTS_VERSION,
        .committed = store_is_committed, .full = store_became_full, .failed = store_has_failed, .arg = self,
    };
    enum store_refusal refusal = STORE_DISK;
    self->store = store_open(self->loop, &config, &refusal, &self->why);
    if (!self->store)
        return refusal == STORE_BUSY ? EXIT_BUSY : EXIT_DISK;
    self->flushed = store_flush(self->store);
    return 0;
}

/* The ports of the sockets are known by now. */
static int make_register(struct shell *self)
{
    struct register_ports ports = {
        .arg = self, .up = port_up, .put = port_put, .remove = port_remove, .append = port_append,
        .remove_rows = port_remove_rows, .moved = port_moved, .note = port_note, .attempts = port_attempts,
    };
    struct register_config config = {
        .program = PROGRAM, .advertise = self->config.advertise,
        .results_port = net_port(self->results), .query_port = net_port(self->query),
        .results_endpoint = net_port(self->results) ? "" : net_endpoint(self->results),
        .query_endpoint = net_port(self->query) ? "" : net_endpoint(self->query),
    };
    memcpy(config.store, store_id(self->store), WIRE_ID);
    while (config.session == 0)
        if (getrandom(&config.session, sizeof config.session, 0) < 0)
            return why_set(&self->why, "no random numbers: %s", strerror(errno));
    self->registry = register_new(&config, &ports);
    return self->registry ? 0 : why_set(&self->why, "no memory for the register");
}

static int bind_sockets(struct shell *self)
{
    struct net_config config = {.max_sockets = SOCKETS, .max_message = WIRE_MESSAGE};
    const struct net_callbacks query = {.message = take_query, .arg = self};
    const struct net_access for_queries = {.port = "queries", .admits = ROLE_BIT(ROLE_CLIENT)};
    if (self->config.keys[0] != '\0' && !(config.keys = net_keys_read(self->config.keys, ROLE_SINK, &self->why)))
        return EXIT_USAGE;
    self->net = net_new(self->loop, &config, &self->why);
    if (!self->net)
        return EXIT_BUSY;
    if (open_intake(self, self->config.results, &self->why) == 0)
        self->query = net_open_for(self->net, NET_ROUTER, self->config.query, &for_queries, &query, &self->why);
    if (!self->query)
        return EXIT_BUSY;
    /* Nothing is read before the register is whole. */
    net_pause(self->results, true);
    net_pause(self->query, true);
    self->paused = true;
    self->paused_at = mono_now();
    return 0;
}

static int make_streams(struct shell *self)
{
    struct streams_config config = {.loop = self->loop, .store = self->store, .registry = self->registry, .program = PROGRAM,
                                    .send = port_send, .arg = self};
    self->streams = streams_new(&config);
    return self->streams ? 0 : why_set(&self->why, "no memory for the streams");
}

static int dial(struct shell *self)
{
    const struct net_callbacks control = {.message = take_downward, .up = control_up, .refused = control_refused, .arg = self};
    const struct net_access access = {.dials = ROLE_VENTILATOR};
    self->control = net_open_for(self->net, NET_DEALER, self->config.ventilator, &access, &control, &self->why);
    if (!self->control)
        return -1;
    net_linger(self->control, GOODBYE_LINGER);
    return 0;
}

static bool is_serving(void *arg, char text[NOTIFY_TEXT])
{
    struct shell *self = arg;
    struct register_counts counts;
    register_count(self->registry, &counts);
    snprintf(text, NOTIFY_TEXT, "%s%s, %" PRIu64 " open batches", self->full ? "the disk is full; " : "",
             counts.ventilator_present ? "with its ventilator" : "waiting for the ventilator", counts.open_batches);
    return counts.ventilator_present && !self->full;
}

static int open_trace(struct shell *self)
{
    struct why why = {""};
    if (self->config.trace_file[0] == '\0')
        return 0;
    self->trace = trace_open(self->config.trace_file, &why);
    return self->trace ? 0 : why_set(&self->why, "--trace-file %s", why.text);
}

static int begin(struct shell *self)
{
    static const int signals[] = {SIGTERM, SIGINT, SIGHUP};      /* SIGHUP only where there is a file to open again */
    size_t n_signals = self->config.trace_file[0] != '\0' ? 3 : 2;
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || !(self->loop = loop_new()) || !(self->arena = wire_arena_new())
        || loop_signals(self->loop, signals, n_signals, on_signal, self) < 0) {
        why_set(&self->why, "no event loop: %s", strerror(errno));
        return EXIT_BUSY;
    }
    self->left = (struct loop_watch){.fd = (int)self->config.leave_with, .ready = on_left, .arg = self};
    if (self->left.fd >= 0
        && (fcntl(self->left.fd, F_SETFD, FD_CLOEXEC) < 0 || loop_watch(self->loop, &self->left, EPOLLIN) < 0)) {
        why_set(&self->why, "--leave-with %d: this descriptor can't be watched", self->left.fd);
        return EXIT_USAGE;
    }
    const struct notify_source source = {.serving = is_serving, .arg = self};
    self->notify = notify_new(self->loop, self->config.health_file, &source, &self->why);
    if (!self->notify || open_trace(self) < 0)
        return EXIT_USAGE;
    return 0;
}

/* 0, or the exit code with why. */
static int start(struct shell *self)
{
    int code = begin(self);
    if (code == 0)
        code = open_store(self);
    if (code == 0)
        code = bind_sockets(self);
    if (code != 0)
        return code;
    if (make_register(self) < 0 || make_streams(self) < 0)
        return EXIT_BUSY;
    if (restore(self) < 0)
        return EXIT_DISK;
    return dial(self) < 0 ? EXIT_BUSY : 0;
}

/* ---- running ---- */

static int serve(struct shell *self)
{
    self->hook = (struct loop_hook){.turn = turn, .arg = self};
    self->tick = (struct loop_timer){.fire = tick, .arg = self};
    self->waiting = (struct loop_timer){.fire = say_waiting, .arg = self};
    self->leaving = (struct loop_timer){.fire = go_on_leaving, .arg = self};
    self->figures = (struct loop_timer){.fire = tell_figures, .arg = self};
    self->serving = true;
    loop_add_hook(self->loop, &self->hook);
    (void)loop_timer_set(self->loop, &self->waiting, mono_add(mono_now(), WAITING_FIRST));
    (void)loop_timer_set(self->loop, &self->figures, mono_add(mono_now(), FIGURES_EVERY));
    net_pause(self->query, false);
    printf("ready results=%s query=%s\n", net_endpoint(self->results), net_endpoint(self->query));
    fflush(stdout);
    notify_ready(self->notify);
    log_event(LOG_INFO, "ready", "results", net_endpoint(self->results), "query", net_endpoint(self->query),
              "data", self->config.data, "ventilator", self->config.ventilator, NULL);
    int rc = loop_run(self->loop);
    loop_remove_hook(self->loop, &self->hook);
    loop_timer_clear(self->loop, &self->tick);
    loop_timer_clear(self->loop, &self->waiting);
    loop_timer_clear(self->loop, &self->leaving);
    loop_timer_clear(self->loop, &self->figures);
    if (rc < 0) {
        why_set(&self->why, "the event loop failed: %s", strerror(-rc));
        return EXIT_BUG;
    }
    return self->exit_code;
}

static void end(struct shell *self)
{
    trace_close(&self->trace);
    if (self->streams)
        streams_destroy(&self->streams);
    if (self->net)
        net_destroy(&self->net);
    if (self->registry)
        register_destroy(&self->registry);
    if (self->store)
        store_close(&self->store, self->exit_code == 0 ? INTAKE_MOST : 0);
    wire_writer_release(&self->writer);
    wire_arena_destroy(&self->arena);
    if (self->loop) {
        notify_destroy(&self->notify);
        loop_unwatch(self->loop, &self->left);
        loop_destroy(&self->loop);
    }
}

static void say_stopped(const struct shell *self)
{
    struct register_counts counts;
    register_count(self->registry, &counts);
    log_event(LOG_INFO, "stopped", "results", log_u64(counts.results), "recorded", log_u64(counts.recorded),
              "duplicates", log_u64(counts.duplicates), "of_purged_batches", log_u64(counts.unregistered), NULL);
}

int shell_main(int argc, char **argv)
{
    struct shell self = {.exit_code = EXIT_STOPPED};
    switch (config_read(&self.config, argc, argv, &self.why)) {
    case CONFIG_DONE:
        return output_end("sink", EXIT_STOPPED);
    case CONFIG_BAD:
        fprintf(stderr, "sink: %s\n", self.why.text);
        return EXIT_USAGE;
    case CONFIG_RUN:
        break;
    }
    log_setup("sink", (enum log_format)self.config.log_format, (enum log_level)self.config.log_level);
    int code = start(&self);
    if (code == 0 && !self.stopping)
        code = serve(&self);
    if (code != 0 && self.why.text[0] != '\0')
        fprintf(stderr, "sink: %s\n", self.why.text);
    if (code == 0)
        say_stopped(&self);
    self.exit_code = code;
    end(&self);
    return code;
}
