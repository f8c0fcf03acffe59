/* A worker that runs nothing: each task ends at once, `ok`, with so many bytes of output. It is for tests of what
 * comes before and after the running, with more tasks than processes could be started for.
 *
 * usage: pretender VENTILATOR NAME BYTES
 *
 * Prints `ready` when its lane is open for the first time, and goes on until it is ended by a signal. Results are kept
 * until they are sent, not until they are released: the sink must stay. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <bsd/sys/queue.h>

#include "common/loop.h"
#include "common/net.h"
#include "common/options.h"
#include "proto/wire.h"

#define CREDIT_TASKS 4096

struct result {
    STAILQ_ENTRY(result) entry;
    struct buf *head;
    size_t body;
};

struct pretender {
    struct loop *loop;
    struct net *net;
    struct net_socket *control, *lane, *sink;
    struct wire_arena *arena;
    struct wire_writer writer;
    struct loop_timer beat;
    struct buf *outputs;                 /* as many bytes as a whole frame of tasks can have written */
    uint64_t session, lane_epoch, sequence, beats, bytes;
    int64_t heartbeat;
    const char *name, *ventilator;
    STAILQ_HEAD(, result) results;       /* on their way to the sink */
    bool said_ready;
};

static void die(const char *what)
{
    fprintf(stderr, "pretender: %s\n", what);
    exit(1);
}

/* ---- to the ventilator ---- */

static void send_up(struct pretender *self, Wire__Upward *m)
{
    m->session = self->session;
    m->lane_epoch = m->what_case == WIRE__UPWARD__WHAT_HELLO ? 0 : self->lane_epoch;
    if (wire_write(&self->writer, &m->base) < 0)
        die("no memory");
    net_send(self->control, 0, self->writer.bytes, self->writer.len, (struct slice){0}, false);
}

static void say_hello(struct pretender *self)
{
    Wire__WorkerHello hello = WIRE__WORKER_HELLO__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    if (self->lane != NULL)
        net_close(&self->lane);
    hello.major = WIRE_MAJOR;
    hello.minor = WIRE_MINOR;
    hello.program = (char *)(uintptr_t)"pretender";
    hello.name = (char *)(uintptr_t)self->name;
    hello.slots = CREDIT_TASKS;
    hello.commands = true;
    hello.max_payload = WIRE_PAYLOAD;
    m.what_case = WIRE__UPWARD__WHAT_HELLO;
    m.hello = &hello;
    send_up(self, &m);
}

static void beat(void *arg)
{
    struct pretender *self = arg;
    Wire__Heartbeat heartbeat = WIRE__HEARTBEAT__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    heartbeat.number = ++self->beats;
    heartbeat.lane_sequence = self->sequence;
    heartbeat.sink_up = true;
    m.what_case = WIRE__UPWARD__WHAT_HEARTBEAT;
    m.heartbeat = &heartbeat;
    send_up(self, &m);
    loop_timer_set(self->loop, &self->beat, mono_add(loop_now(self->loop), self->heartbeat));
}

/* ---- to the sink ---- */

static void send_results(struct pretender *self)
{
    struct result *r;
    while ((r = STAILQ_FIRST(&self->results)) != NULL && self->sink != NULL) {
        struct slice body = slice_cut(slice_of(self->outputs), 0, r->body);
        if (net_send(self->sink, 0, buf_bytes(r->head), buf_len(r->head), body, true) < 0)
            return;
        STAILQ_REMOVE_HEAD(&self->results, entry);
        buf_unref(&r->head);
        free(r);
    }
}

static void sink_room(void *arg, struct net_socket *socket) { (void)socket; send_results(arg); }
static void sink_up(void *arg, struct net_socket *socket, bool is_up)
{
    (void)socket;
    if (is_up)
        send_results(arg);
}

static void dial_sink(struct pretender *self, const Wire__SinkPlace *place)
{
    const struct net_callbacks callbacks = {.up = sink_up, .room = sink_room, .arg = self};
    char endpoint[64];
    struct why why;
    if (place == NULL || place->results_port == 0 || self->sink != NULL)
        return;
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%u", place->results_port);
    self->sink = net_open(self->net, NET_RESULTS_OUT, endpoint, &callbacks, &why);
    if (self->sink == NULL)
        die(why.text);
}

/* ---- tasks ---- */

static void take_assign(struct pretender *self, const Wire__Assign *assign)
{
    Wire__Verdict ok = WIRE__VERDICT__OK;
    uint32_t length = (uint32_t)self->bytes, flags = 8;
    uint64_t run_us = 10;
    Wire__Fence fence = WIRE__FENCE__INIT, *fences = &fence;
    Wire__Report report = WIRE__REPORT__INIT;
    Wire__Result result = WIRE__RESULT__INIT;
    Wire__Finished finished = WIRE__FINISHED__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    fence.batch = assign->batch;
    fence.first = assign->tasks->first;
    fence.count = assign->tasks->count;
    fence.epoch = assign->epoch;
    fence.attempt = assign->attempt;
    report.fence = &fence;
    report.session = self->session;
    report.worker = (char *)(uintptr_t)self->name;
    report.n_verdicts = report.n_output_lengths = report.n_flags = report.n_run_us = 1;
    report.verdicts = &ok;
    report.output_lengths = &length;
    report.flags = &flags;
    report.run_us = &run_us;
    result.what_case = WIRE__RESULT__WHAT_REPORT;
    result.report = &report;
    struct result *r = calloc(1, sizeof *r);
    if (r == NULL || (r->head = wire_write_buf(&result.base)) == NULL)
        die("no memory");
    r->body = fence.count * (size_t)length;
    STAILQ_INSERT_TAIL(&self->results, r, entry);
    send_results(self);
    finished.n_fences = 1;
    finished.fences = &fences;
    finished.run_us = run_us * fence.count;
    finished.result_bytes = r->body;
    m.what_case = WIRE__UPWARD__WHAT_FINISHED;
    m.finished = &finished;
    send_up(self, &m);
}

static void confirm(struct pretender *self, uint64_t number)
{
    Wire__Confirmed confirmed = WIRE__CONFIRMED__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    confirmed.number = number;
    m.what_case = WIRE__UPWARD__WHAT_CONFIRMED;
    m.confirmed = &confirmed;
    send_up(self, &m);
}

static void take_open(struct pretender *self)
{
    Wire__Opened opened = WIRE__OPENED__INIT;
    Wire__Upward m = WIRE__UPWARD__INIT;
    opened.lane_sequence = self->sequence;
    m.what_case = WIRE__UPWARD__WHAT_OPENED;
    m.opened = &opened;
    send_up(self, &m);
    if (self->said_ready)
        return;
    self->said_ready = true;
    puts("ready");
    fflush(stdout);
}

static void take_lane(void *arg, struct net_socket *socket, const struct net_message *message)
{
    struct pretender *self = arg;
    const Wire__Lane *m;
    struct why why;
    (void)socket;
    if (wire_read_lane(self->arena, message->head, message->head_len, message->body.len, &m, &why) < 0)
        die(why.text);
    if (m->lane_epoch != self->lane_epoch || m->sequence != self->sequence + 1) {
        say_hello(self);
        return;
    }
    self->sequence = m->sequence;
    switch (m->what_case) {
    case WIRE__LANE__WHAT_OPEN:   take_open(self); break;
    case WIRE__LANE__WHAT_ASSIGN: take_assign(self, m->assign); break;
    case WIRE__LANE__WHAT_CANCEL: confirm(self, m->cancel->number); break;
    case WIRE__LANE__WHAT_RECALL: confirm(self, m->recall->number); break;
    default: break;
    }
}

/* ---- from the ventilator ---- */

static void take_welcome(struct pretender *self, const Wire__Welcome *welcome)
{
    const struct net_callbacks callbacks = {.message = take_lane, .arg = self};
    char host[200], endpoint[256];
    struct why why;
    if (net_endpoint_host(self->ventilator, host, sizeof host) < 0)
        die("the ventilator's endpoint must be tcp");
    snprintf(endpoint, sizeof endpoint, "tcp://%s:%u", host, welcome->lane_port);
    if (self->lane != NULL)
        net_close(&self->lane);
    self->lane_epoch = welcome->lane_epoch;
    self->sequence = 0;
    self->heartbeat = (int64_t)welcome->heartbeat_us * NS_PER_US;
    self->lane = net_open(self->net, NET_LANE_IN, endpoint, &callbacks, &why);
    if (self->lane == NULL)
        die(why.text);
    dial_sink(self, welcome->sink);
    beat(self);
}

static void take_downward(void *arg, struct net_socket *socket, const struct net_message *message)
{
    struct pretender *self = arg;
    const Wire__Downward *m;
    struct why why;
    (void)socket;
    if (wire_read_downward(self->arena, message->head, message->head_len, message->body.len, &m, &why) < 0)
        die(why.text);
    if (m->what_case == WIRE__DOWNWARD__WHAT_WELCOME)
        take_welcome(self, m->welcome);
    else if (m->what_case == WIRE__DOWNWARD__WHAT_SAY_HELLO)
        say_hello(self);
    else if (m->what_case == WIRE__DOWNWARD__WHAT_HEARTBEAT)
        dial_sink(self, m->heartbeat->sink);
    else if (m->what_case == WIRE__DOWNWARD__WHAT_REFUSED)
        die(m->refused->sentence);
}

static void control_up(void *arg, struct net_socket *socket, bool is_up)
{
    struct pretender *self = arg;
    self->control = socket;
    loop_timer_clear(self->loop, &self->beat);
    if (is_up)
        say_hello(self);
}

static void on_signal(void *arg, int signal)
{
    (void)signal;
    loop_stop(((struct pretender *)arg)->loop);
}

static void end(struct pretender *self)
{
    struct result *r;
    while ((r = STAILQ_FIRST(&self->results)) != NULL) {
        STAILQ_REMOVE_HEAD(&self->results, entry);
        buf_unref(&r->head);
        free(r);
    }
    loop_timer_clear(self->loop, &self->beat);
    net_destroy(&self->net);
    loop_destroy(&self->loop);
    wire_arena_destroy(&self->arena);
    wire_writer_release(&self->writer);
    buf_unref(&self->outputs);
}

int main(int argc, char **argv)
{
    static const int signals[] = {15, 2};
    struct pretender self = {.heartbeat = NS_PER_S};
    const struct net_callbacks control = {.message = take_downward, .up = control_up, .arg = &self};
    struct why why = {"usage: pretender VENTILATOR NAME BYTES"};
    if (argc != 4 || parse_u64(argv[3], 0, WIRE_FRAME_BODY / WIRE_BLOCK, &self.bytes, &why) < 0)
        die(why.text);
    self.ventilator = argv[1];
    self.name = argv[2];
    STAILQ_INIT(&self.results);
    self.beat = (struct loop_timer){.fire = beat, .arg = &self};
    self.loop = loop_new();
    self.arena = wire_arena_new();
    self.outputs = buf_new(WIRE_FRAME_BODY);
    if (self.loop == NULL || self.arena == NULL || self.outputs == NULL || loop_signals(self.loop, signals, 2, on_signal, &self) < 0)
        die("no memory");
    memset(buf_data(self.outputs), 'o', WIRE_FRAME_BODY);
    while (self.session == 0)
        if (getrandom(&self.session, sizeof self.session, 0) < 0)
            die("no random numbers");
    self.net = net_new(self.loop, &(struct net_config){.max_sockets = 64, .max_message = WIRE_MESSAGE}, &why);
    if (self.net == NULL || (self.control = net_open(self.net, NET_DEALER, self.ventilator, &control, &why)) == NULL)
        die(why.text);
    loop_run(self.loop);
    end(&self);
    return 0;
}
