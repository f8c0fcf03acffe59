/* What runs: the ventilator first, then what it tells of itself, of its workers and of its sink, then the sink. A
 * connection of its own to each, so that what is measured is a hello and its answer, and nothing is tried again in
 * silence. */
#include "ventilator/cli_doctor.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bug.h"
#include "common/loop.h"
#include "common/net.h"
#include "proto/wire.h"
#include "ventilator/cli.h"

#define PROGRAM "ventilator " TARMAC_VERSION
#define ANSWER_TIME (5 * NS_PER_S)       /* for an answer of what has said hello */
#define SINK_TIME (2 * NS_PER_S)         /* for one address of the sink */
#define SOCKETS 16
#define CANDIDATES 16
#define PAGE 1000u                       /* workers of one reply, at most */
#define SLOW NS_PER_S                    /* a round trip that is worth a warning */

enum asked { ASKED_HELLO, ASKED_STATUS, ASKED_WHERE, ASKED_WORKERS };

struct visit {
    struct doctor *doctor;
    struct loop *loop;
    struct net *net;
    struct net_socket *socket;           /* to the ventilator, then to the sink */
    struct wire_arena *arena;
    struct wire_writer writer;
    struct loop_timer patience;
    mono_t sent;
    bool up, reached;
    uint64_t id;
    /* What was learnt. */
    uint64_t queued;                     /* tasks that nobody runs yet, of the first page of batches */
    bool sink_present;
    unsigned workers, slots, busy;
    struct doctor_ports ports;
    uint64_t slowest_us;                 /* round trip of a worker */
    char results[CANDIDATES][256];       /* hosts of the sink */
    size_t n_results;
    unsigned results_port;
    char *candidates[CANDIDATES];        /* where the sink may be */
    size_t n_candidates, candidate;
    int code;
};

static void visit_sink(struct visit *self);

static void leave(struct visit *self, int code)
{
    self->code = code;
    loop_stop(self->loop);
}

static void be_patient(struct visit *self, int64_t ns)
{
    if (loop_timer_set(self->loop, &self->patience, mono_add(mono_now(), ns)) < 0)
        leave(self, CLI_NOT_OK);
}

static int64_t round_trip(struct visit *self) { return mono_since(mono_now(), self->sent); }

static double ms(int64_t ns) { return (double)ns / NS_PER_MS; }

static bool send_message(struct visit *self, const ProtobufCMessage *message)
{
    self->sent = mono_now();
    return wire_write(&self->writer, message) == 0 && net_send(self->socket, 0, self->writer.bytes, self->writer.len, (struct slice){0}, false) == 0;
}

static void check_program(struct visit *self, const char *whose, const char *program)
{
    const char *version = strrchr(program, ' ');
    if (!version || strcmp(version + 1, TARMAC_VERSION) != 0)
        doctor_say(self->doctor, FINDING_WARN, "%s is '%s' and this is '" PROGRAM "'; use programs of one release", whose, program);
}

/* ---- asking the ventilator ---- */

static void ask(struct visit *self, enum asked what, Wire__Request *m)
{
    m->id = ++self->id;
    if (what != ASKED_HELLO)             /* which belongs to the first contact */
        be_patient(self, ANSWER_TIME);
    if (!send_message(self, &m->base)) {
        doctor_say(self->doctor, FINDING_FAIL, "the ventilator at %s went away while it was asked; look at its log", self->doctor->endpoint);
        leave(self, CLI_UNREACHABLE);
    }
}

static void say_hello_to_ventilator(struct visit *self)
{
    Wire__ClientHello hello = WIRE__CLIENT_HELLO__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    hello.major = WIRE_MAJOR;
    hello.minor = WIRE_MINOR;
    hello.program = (char *)(uintptr_t)PROGRAM;
    m.what_case = WIRE__REQUEST__WHAT_HELLO;
    m.hello = &hello;
    ask(self, ASKED_HELLO, &m);
}

static void ask_status(struct visit *self)
{
    Wire__Status status = WIRE__STATUS__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    m.what_case = WIRE__REQUEST__WHAT_STATUS;
    m.status = &status;
    ask(self, ASKED_STATUS, &m);
}

static void ask_where(struct visit *self)
{
    Wire__Where where = WIRE__WHERE__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    m.what_case = WIRE__REQUEST__WHAT_WHERE;
    m.where = &where;
    ask(self, ASKED_WHERE, &m);
}

static void ask_workers(struct visit *self, uint64_t after)
{
    Wire__Workers workers = WIRE__WORKERS__INIT;
    Wire__Request m = WIRE__REQUEST__INIT;
    workers.after = after;
    workers.most = PAGE;
    m.what_case = WIRE__REQUEST__WHAT_WORKERS;
    m.workers = &workers;
    ask(self, ASKED_WORKERS, &m);
}

/* ---- what it tells ---- */

static void take_welcome(struct visit *self, const Wire__ClientWelcome *welcome)
{
    int64_t took = round_trip(self);
    self->reached = true;
    doctor_say(self->doctor, took < SLOW ? FINDING_OK : FINDING_WARN, "the ventilator at %s answers within %.1f ms: %s, protocol %" PRIu32 ".%" PRIu32 ", epoch %" PRIu64,
               self->doctor->endpoint, ms(took), welcome->program, welcome->major, welcome->minor, welcome->epoch);
    if (self->doctor->quick) {
        leave(self, CLI_OK);
        return;
    }
    check_program(self, "the ventilator", welcome->program);
    ask_status(self);
}

static void take_status(struct visit *self, const Wire__StatusReport *report)
{
    struct doctor *doctor = self->doctor;
    const Wire__SystemStatus *s = report->system;
    for (size_t i = 0; i < report->n_batches; i++)
        self->queued += report->batches[i]->queued;
    if (!s) {
        doctor_say(doctor, FINDING_FAIL, "the ventilator tells nothing of itself; use programs of one release");
        leave(self, CLI_NOT_OK);
        return;
    }
    if (s->journal_full)
        doctor_say(doctor, FINDING_FAIL, "the ventilator's disk is full: it takes no new tasks; make room where its --data is, it goes on by itself");
    else
        doctor_say(doctor, FINDING_OK, "the ventilator's disk has room");
    if (s->draining)
        doctor_say(doctor, FINDING_WARN, "the ventilator is leaving: it takes nothing new and hands nothing out");
    if (s->recovering > 0)
        doctor_say(doctor, FINDING_WARN, "%" PRIu32 " batch%s wait for what the sink has recorded of them", s->recovering, s->recovering == 1 ? "" : "es");
    self->sink_present = s->sink_present;
    self->ports.workers = s->workers_port;
    self->ports.lanes_from = s->lanes_from;
    self->ports.lanes_to = s->lanes_to;
    if (s->sink_present && s->sink_full)
        doctor_say(doctor, FINDING_FAIL, "the sink's disk is full: results wait in the workers; make room where its --data is, it goes on by itself");
    else if (s->sink_present)
        doctor_say(doctor, FINDING_OK, "the sink is there, and its disk has room");
    else
        doctor_say(doctor, FINDING_FAIL, "the ventilator has no sink: nothing can be recorded; start 'sink --ventilator ADDRESS', or look at its log");
    ask_workers(self, 0);
}

static void take_worker(struct visit *self, const Wire__WorkerStatus *w)
{
    bool ready = strcmp(w->state, "ready") == 0;
    char name[120];
    self->workers++;
    self->slots += ready ? w->slots : 0;
    self->busy += w->busy;
    if (w->lane_port != 0 && self->ports.n_used < sizeof self->ports.used / sizeof *self->ports.used)
        self->ports.used[self->ports.n_used++] = w->lane_port;
    if (w->round_trip_us > self->slowest_us)
        self->slowest_us = w->round_trip_us;
    snprintf(name, sizeof name, "worker %.100s", w->name);
    if (w->program[0] != '\0')
        check_program(self, name, w->program);
    if (strcmp(w->state, "silent") == 0 || strcmp(w->state, "away") == 0)
        doctor_say(self->doctor, FINDING_FAIL, "worker %s at %s is %s: nothing was heard of it for %.1f s; look whether it runs and reaches the ventilator",
                   w->name, w->address, w->state, (double)w->silent_us / 1e6);
    else if (strcmp(w->state, "opening") == 0)
        doctor_say(self->doctor, FINDING_WARN, "worker %s at %s has no lane yet; is port %" PRIu32 " (--lanes) of the ventilator open from there?", w->name,
                   w->address, w->lane_port);
    else if (!ready)
        doctor_say(self->doctor, FINDING_WARN, "worker %s is %s", w->name, w->state);
    else if (w->round_trip_us > (uint64_t)(SLOW / NS_PER_US))
        doctor_say(self->doctor, FINDING_WARN, "worker %s at %s answers within %.1f s only; look at the network and its load", w->name, w->address,
                   (double)w->round_trip_us / 1e6);
}

static void take_workers(struct visit *self, const Wire__WorkersReport *report)
{
    for (size_t i = 0; i < report->n_workers; i++)
        take_worker(self, report->workers[i]);
    if (report->more) {
        ask_workers(self, report->next);
        return;
    }
    if (self->workers == 0 || self->slots == 0)
        doctor_say(self->doctor, self->queued > 0 ? FINDING_FAIL : FINDING_WARN, "%s, and %" PRIu64 " tasks are queued; start 'worker --ventilator ADDRESS'",
                   self->workers == 0 ? "there is no worker" : "no worker is ready", self->queued);
    else
        doctor_say(self->doctor, FINDING_OK, "%u worker%s with %u slots ready, %u of them busy; the slowest answers within %.1f ms", self->workers,
                   self->workers == 1 ? "" : "s", self->slots, self->busy, (double)self->slowest_us / 1e3);
    if (self->sink_present)
        ask_where(self);
    else
        leave(self, CLI_NOT_OK);
}

/* ---- the sink ---- */

static void add_candidate(struct visit *self, const char *endpoint)
{
    struct why why;
    char whole[512];
    if (self->n_candidates < CANDIDATES && net_endpoint_parse(endpoint, 0, whole, sizeof whole, &why) == 0 &&
        (self->candidates[self->n_candidates] = strdup(whole)))
        self->n_candidates++;
}

static void take_place(struct visit *self, const Wire__SinkPlace *place)
{
    char endpoint[512], host[300];
    for (size_t i = 0; i < place->n_query_endpoints; i++)
        add_candidate(self, place->query_endpoints[i]);
    for (size_t i = 0; place->query_port != 0 && i < place->n_hosts; i++) {
        const char *name = place->hosts[i];
        if (name[0] == '\0' && net_endpoint_host(self->doctor->endpoint, host, sizeof host) < 0)
            continue;
        if (self->n_results < CANDIDATES)
            snprintf(self->results[self->n_results++], sizeof self->results[0], "%.250s", name[0] != '\0' ? name : host);
        snprintf(endpoint, sizeof endpoint, "tcp://%.300s:%" PRIu32, name[0] != '\0' ? name : host, place->query_port);
        add_candidate(self, endpoint);
    }
    self->results_port = place->results_port;
    visit_sink(self);
}

static void say_hello_to_sink(struct visit *self)
{
    Wire__ClientHello hello = WIRE__CLIENT_HELLO__INIT;
    Wire__Query m = WIRE__QUERY__INIT;
    hello.major = WIRE_MAJOR;
    hello.minor = WIRE_MINOR;
    hello.program = (char *)(uintptr_t)PROGRAM;
    m.id = ++self->id;
    m.what_case = WIRE__QUERY__WHAT_HELLO;
    m.hello = &hello;
    if (!send_message(self, &m.base))
        visit_sink(self);
}

static void take_answer(void *arg, struct net_socket *socket, const struct net_message *message)
{
    struct visit *self = arg;
    const Wire__Answer *answer;
    struct why why;
    (void)socket;
    const char *where = self->candidates[self->candidate - 1];
    if (wire_read_answer(self->arena, message->head, message->head_len, message->body.len, &answer, &why) < 0)
        doctor_say(self->doctor, FINDING_FAIL, "what listens at %s is no sink: %s", where, why.text);
    else if (answer->what_case == WIRE__ANSWER__WHAT_REFUSED)
        doctor_say(self->doctor, FINDING_FAIL, "the sink at %s refuses: %s", where, answer->refused->sentence);
    else if (answer->what_case != WIRE__ANSWER__WHAT_WELCOME)
        return;
    else {
        int64_t took = round_trip(self);
        doctor_say(self->doctor, took < SLOW ? FINDING_OK : FINDING_WARN, "the sink at %s answers within %.1f ms: %s, protocol %" PRIu32 ".%" PRIu32, where, ms(took),
                   answer->welcome->program, answer->welcome->major, answer->welcome->minor);
        check_program(self, "the sink", answer->welcome->program);
    }
    leave(self, CLI_OK);
}

static void sink_up(void *arg, struct net_socket *socket, bool is_up)
{
    (void)socket;
    if (is_up)
        say_hello_to_sink(arg);
}

/* One address after the other, each for a moment. */
static void visit_sink(struct visit *self)
{
    const struct net_callbacks callbacks = {.message = take_answer, .up = sink_up, .arg = self};
    const struct net_access access = {.dials = ROLE_SINK};
    struct why why;
    if (self->socket)
        net_close(&self->socket);
    while (self->candidate < self->n_candidates && !self->socket)
        self->socket = net_open_for(self->net, NET_DEALER, self->candidates[self->candidate++], &access, &callbacks, &why);
    if (self->socket) {
        be_patient(self, SINK_TIME);
        return;
    }
    if (self->n_candidates == 0)
        doctor_say(self->doctor, FINDING_FAIL, "the ventilator doesn't know where the sink is; look at the sink's log");
    else
        doctor_say(self->doctor, FINDING_FAIL, "the sink doesn't answer at %s%s; is its query port (--query-listen) open from here, and its --advertise right?",
                   self->candidates[self->n_candidates - 1], self->n_candidates > 1 ? " and other addresses" : "");
    leave(self, CLI_NOT_OK);
}

/* ---- the connection to the ventilator ---- */

static void take_reply(struct visit *self, const Wire__Reply *reply)
{
    switch (reply->what_case) {
    case WIRE__REPLY__WHAT_WELCOME:
        take_welcome(self, reply->welcome);
        return;
    case WIRE__REPLY__WHAT_STATUS:
        take_status(self, reply->status);
        return;
    case WIRE__REPLY__WHAT_WORKERS:
        take_workers(self, reply->workers);
        return;
    case WIRE__REPLY__WHAT_WHERE:
        take_place(self, reply->where);
        return;
    case WIRE__REPLY__WHAT_REFUSED:
        doctor_say(self->doctor, FINDING_FAIL, "the ventilator at %s refuses: %s", self->doctor->endpoint, reply->refused->sentence);
        leave(self, self->reached ? CLI_NOT_OK : CLI_UNREACHABLE);
        return;
    default:
        return;
    }
}

static void on_reply(void *arg, struct net_socket *socket, const struct net_message *message)
{
    struct visit *self = arg;
    const Wire__Reply *reply;
    struct why why;
    (void)socket;
    if (wire_read_reply(self->arena, message->head, message->head_len, message->body.len, &reply, &why) < 0) {
        doctor_say(self->doctor, FINDING_FAIL, "what listens at %s is no ventilator: %s", self->doctor->endpoint, why.text);
        leave(self, CLI_UNREACHABLE);
    } else if (reply->id == self->id) {
        take_reply(self, reply);
    }
}

static void ventilator_up(void *arg, struct net_socket *socket, bool is_up)
{
    struct visit *self = arg;
    (void)socket;
    self->up = is_up;
    if (is_up && !self->reached)
        say_hello_to_ventilator(self);
    else if (!is_up && self->reached) {
        doctor_say(self->doctor, FINDING_FAIL, "the ventilator at %s went away while it was asked; look at its log", self->doctor->endpoint);
        leave(self, CLI_UNREACHABLE);
    }
}

static void out_of_patience(void *arg)
{
    struct visit *self = arg;
    if (self->candidate > 0) {
        visit_sink(self);
        return;
    }
    const char *refusal = net_refusal(self->socket);
    if (!self->reached && refusal[0] != '\0')
        doctor_say(self->doctor, FINDING_FAIL, "the ventilator at %s will not have us: %s", self->doctor->endpoint, refusal);
    else if (self->reached)
        doctor_say(self->doctor, FINDING_FAIL, "the ventilator at %s took the question, and was silent for %.0f s; look at its log and its load",
                   self->doctor->endpoint, (double)ANSWER_TIME / NS_PER_S);
    else if (self->up)
        doctor_say(self->doctor, FINDING_FAIL, "what listens at %s takes the connection and says nothing; is it the clients' port of 'ventilator serve'?",
                   self->doctor->endpoint);
    else
        doctor_say(self->doctor, FINDING_FAIL, "can't reach the ventilator at %s; is 'ventilator serve' running there, and its port open from here? "
                   "(--ventilator, --connect-timeout)", self->doctor->endpoint);
    leave(self, CLI_UNREACHABLE);
}

/* ---- all of it ---- */

/* What may block for a while, after everything that is asked of the processes. */
static void look_around(struct visit *self)
{
    const char *hosts[CANDIDATES];
    doctor_look_at_ports(self->doctor, self->doctor->endpoint, &self->ports);
    for (size_t i = 0; i < self->n_results; i++)
        hosts[i] = self->results[i];
    if (self->results_port != 0)
        doctor_look_at_results_port(self->doctor, hosts, self->n_results, self->results_port);
    doctor_look_at_limits(self->doctor);
}

static bool open_net(struct visit *self, struct why *why)
{
    struct net_config config = {.max_sockets = SOCKETS, .max_message = WIRE_MESSAGE};
    const char *keys = self->doctor->client_keys;
    why->text[0] = '\0';
    if (keys[0] != '\0' && !(config.keys = net_keys_read(keys, ROLE_CLIENT, why)))
        return false;
    self->net = net_new(self->loop, &config, why);
    return true;
}

static int go(struct visit *self)
{
    const struct net_callbacks callbacks = {.message = on_reply, .up = ventilator_up, .arg = self};
    const struct net_access access = {.dials = ROLE_VENTILATOR};
    struct why why;
    if (!self->loop || !self->arena) {
        cli_refuse_usage("no event loop can be made; are there too many open files?");
        return CLI_NOT_OK;
    }
    if (!doctor_look_at_name(self->doctor, self->doctor->endpoint))
        return CLI_UNREACHABLE;
    if (!open_net(self, &why)) {
        cli_refuse_usage(why.text);
        return EXIT_USAGE;
    }
    if (self->net)
        self->socket = net_open_for(self->net, NET_DEALER, self->doctor->endpoint, &access, &callbacks, &why);
    if (!self->socket) {
        cli_refuse_usage(why.text);
        return self->net ? CLI_UNREACHABLE : CLI_NOT_OK;
    }
    self->patience = (struct loop_timer){.fire = out_of_patience, .arg = self};
    be_patient(self, self->doctor->connect_timeout);
    int rc = loop_run(self->loop);
    loop_timer_clear(self->loop, &self->patience);
    if (rc < 0) {
        cli_refuse_usage("waiting for events failed");
        return EXIT_BUG;
    }
    if (self->reached && !self->doctor->quick)
        look_around(self);
    return self->code == CLI_OK && self->doctor->failures > 0 ? CLI_NOT_OK : self->code;
}

int doctor_reach(struct doctor *doctor)
{
    struct visit self = {.doctor = doctor, .loop = loop_new(), .arena = wire_arena_new()};
    signal(SIGPIPE, SIG_IGN);
    int code = go(&self);
    if (self.socket)
        net_close(&self.socket);
    net_destroy(&self.net);
    if (self.loop)
        loop_destroy(&self.loop);
    for (size_t i = 0; i < self.n_candidates; i++)
        free(self.candidates[i]);
    wire_arena_destroy(&self.arena);
    wire_writer_release(&self.writer);
    return code;
}
