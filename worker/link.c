/* A worker's connections around its agent: see the header.
 *
 * The agent's ports must not call back into it. */
#include "worker/link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/dialer.h"
#include "common/log.h"

#define GOODBYE_LINGER (500 * NS_PER_MS)
#define CANDIDATES 40u                        /* places of a sink: what the wire takes of endpoints and hosts */

struct worker_link {
    struct loop *loop;
    struct net *net;
    struct link_places places;
    struct link_slots slots;
    struct net_socket *control, *lane;
    struct dialer *sink;
    struct wire_arena *arena;
    struct wire_writer writer;
    struct agent *agent;
};

static void woken(struct worker_link *self)
{
    if (self->slots.woken)
        self->slots.woken(self->slots.arg);
}

/* ---- the agent's ports: messages ---- */

static int port_up(void *arg, const Wire__Upward *message)
{
    struct worker_link *self = arg;
    int error = wire_write(&self->writer, &message->base);
    return error < 0 ? error : net_send(self->control, 0, self->writer.bytes, self->writer.len, (struct slice){0}, false);
}

static int port_result(void *arg, const Wire__Result *message, struct slice body)
{
    struct worker_link *self = arg;
    struct net_socket *socket = dialer_socket(self->sink);
    if (!socket || !dialer_is_up(self->sink))
        return -EAGAIN;
    int error = wire_write(&self->writer, &message->base);
    return error < 0 ? error : net_send(socket, 0, self->writer.bytes, self->writer.len, body, body.len > 0);
}

static void port_lane_close(void *arg)
{
    struct worker_link *self = arg;
    if (self->lane)
        net_close(&self->lane);
}

static void on_lane(void *arg, struct net_socket *socket, const struct net_message *message)
{
    struct worker_link *self = arg;
    const Wire__Lane *lane;
    struct why why;
    if (socket != self->lane)
        return;
    if (wire_read_lane(self->arena, message->head, message->head_len, message->body.len, &lane, &why) == 0) {
        agent_lane(self->agent, loop_now(self->loop), lane, message->body);
        woken(self);
        return;
    }
    log_event(LOG_WARN, "message_malformed", "from", "lane", "reason", why.text, NULL);
    agent_lane_lost(self->agent, loop_now(self->loop), "a message that can't be read");
    woken(self);
}

static void port_lane_dial(void *arg, const char *endpoint, uint32_t port)
{
    struct worker_link *self = arg;
    const struct net_callbacks callbacks = {.message = on_lane, .arg = self};
    char host[200], whole[256];
    struct why why;
    port_lane_close(self);
    if (endpoint[0] == '\0' && net_endpoint_host(self->places.ventilator, host, sizeof host) == 0) {
        snprintf(whole, sizeof whole, "tcp://%s:%u", host, port);
        endpoint = whole;
    }
    const struct net_access access = {.dials = ROLE_VENTILATOR};
    self->lane = net_open_for(self->net, NET_LANE_IN, endpoint, &access, &callbacks, &why);
    /* The agent waits in vain for the lane's open, and says hello again. */
    if (!self->lane)
        log_event(LOG_WARN, "lane_not_dialled", "endpoint", endpoint, "reason", why.text, NULL);
}

/* Whole endpoints as they are; hosts with the port, an empty one being the host by which the ventilator was reached. */
static size_t list_candidates(const struct worker_link *self, const Wire__SinkPlace *place, char text[][256], const char **list)
{
    char host[200];
    size_t n = 0;
    for (size_t i = 0; i < place->n_endpoints && n < CANDIDATES; i++)
        list[n++] = place->endpoints[i];
    for (size_t i = 0; i < place->n_hosts && place->results_port != 0 && n < CANDIDATES; i++) {
        if (place->hosts[i][0] != '\0')
            snprintf(host, sizeof host, "%s", place->hosts[i]);
        else if (net_endpoint_host(self->places.ventilator, host, sizeof host) < 0)
            continue;
        snprintf(text[n], sizeof text[n], "tcp://%s:%u", host, place->results_port);
        list[n] = text[n];
        n++;
    }
    return n;
}

static void port_sink_place(void *arg, const Wire__SinkPlace *place)
{
    struct worker_link *self = arg;
    char text[CANDIDATES][256];
    const char *list[CANDIDATES];
    size_t n = self->places.sink[0] != '\0' ? 0 : list_candidates(self, place, text, list);
    /* A place that isn't known now says nothing against the one that was. */
    if (n > 0 && dialer_set(self->sink, list, n) < 0)
        log_event(LOG_WARN, "sink_not_dialled", "endpoint", list[0], "reason", "no memory", NULL);
}

/* ---- the agent's other ports ---- */

static void port_run(void *arg, const struct agent_run *run)
{
    const struct link_slots *slots = &((struct worker_link *)arg)->slots;
    slots->run(slots->arg, run);
}

static void port_stop(void *arg, uint32_t slot, int64_t grace)
{
    const struct link_slots *slots = &((struct worker_link *)arg)->slots;
    slots->stop(slots->arg, slot, grace);
}

static void port_split(void *arg, uint32_t slot, bool keep_first, struct agent_split *ret)
{
    const struct link_slots *slots = &((struct worker_link *)arg)->slots;
    slots->split(slots->arg, slot, keep_first, ret);
}

static void port_leave(void *arg, uint64_t unreleased)
{
    const struct link_slots *slots = &((struct worker_link *)arg)->slots;
    slots->leave(slots->arg, unreleased);
}

static void port_note(void *arg, int level, const char *event, const char *text)
{
    (void)arg;
    log_text((enum log_level)level, event, text);
}

/* ---- what the sockets bring ---- */

static void on_control(void *arg, struct net_socket *socket, const struct net_message *message)
{
    struct worker_link *self = arg;
    const Wire__Downward *downward;
    struct why why;
    (void)socket;
    if (wire_read_downward(self->arena, message->head, message->head_len, message->body.len, &downward, &why) == 0)
        agent_downward(self->agent, loop_now(self->loop), downward);
    else
        log_event(LOG_WARN, "message_malformed", "from", "ventilator", "reason", why.text, NULL);
    woken(self);
}

static void on_control_up(void *arg, struct net_socket *socket, bool is_up)
{
    struct worker_link *self = arg;
    (void)socket;
    agent_control(self->agent, loop_now(self->loop), is_up);
    woken(self);
}

static void on_control_refused(void *arg, struct net_socket *socket, const char *sentence)
{
    (void)arg;
    log_event(LOG_WARN, "ventilator_refuses", "endpoint", net_endpoint(socket), "reason", sentence, NULL);
}

static void on_sink_refused(void *arg, struct net_socket *socket, const char *sentence)
{
    (void)arg;
    log_event(LOG_WARN, "sink_refuses", "endpoint", net_endpoint(socket), "reason", sentence, NULL);
}

static void on_sink_up(void *arg, struct net_socket *socket, bool is_up)
{
    struct worker_link *self = arg;
    log_event(LOG_DEBUG, is_up ? "sink_up" : "sink_down", "endpoint", net_endpoint(socket), NULL);
    agent_sink(self->agent, loop_now(self->loop), is_up);
    woken(self);
}

static void on_sink_room(void *arg, struct net_socket *socket)
{
    struct worker_link *self = arg;
    (void)socket;
    if (!dialer_is_up(self->sink))
        return;
    agent_sink(self->agent, loop_now(self->loop), true);
    woken(self);
}

/* ---- beginning and ending ---- */

static int make_agent(struct worker_link *self, const struct agent_config *config, struct why *why)
{
    const struct agent_ports ports = {
        .arg = self, .up = port_up, .lane_dial = port_lane_dial, .lane_close = port_lane_close,
        .sink_place = port_sink_place, .result = port_result, .run = port_run, .stop = port_stop, .split = port_split,
        .note = port_note, .leave = port_leave,
    };
    self->agent = agent_new(config, &ports);
    self->arena = wire_arena_new();
    return self->agent && self->arena ? 0 : why_set(why, "no memory for %u slots", config->slots);
}

static int dial(struct worker_link *self, struct why *why)
{
    const struct net_access access = {.dials = ROLE_VENTILATOR};
    const struct net_callbacks control = {.message = on_control, .up = on_control_up, .refused = on_control_refused, .arg = self};
    const struct net_callbacks sink = {.up = on_sink_up, .room = on_sink_room, .refused = on_sink_refused, .arg = self};
    self->sink = dialer_new(self->loop, self->net, NET_RESULTS_OUT, ROLE_SINK, &sink);
    if (!self->sink || (self->places.sink[0] != '\0' && dialer_set(self->sink, &self->places.sink, 1) < 0))
        return why_set(why, "no memory for the connection to the sink");
    self->control = net_open_for(self->net, NET_DEALER, self->places.ventilator, &access, &control, why);
    if (!self->control)
        return -1;
    net_linger(self->control, GOODBYE_LINGER);
    return 0;
}

struct worker_link *worker_link_new(struct loop *loop, struct net *net, const struct link_places *places, const struct agent_config *config,
                                    const struct link_slots *slots, struct why *why)
{
    struct worker_link *self = calloc(1, sizeof *self);
    if (!self) {
        why_set(why, "no memory to begin with");
        return NULL;
    }
    self->loop = loop;
    self->net = net;
    self->places = *places;
    self->slots = *slots;
    if (make_agent(self, config, why) < 0 || dial(self, why) < 0)
        worker_link_destroy(&self);
    return self;
}

void worker_link_close(struct worker_link *self)
{
    port_lane_close(self);
    dialer_destroy(&self->sink);
    if (self->control)
        net_close(&self->control);
}

void worker_link_destroy(struct worker_link **self_p)
{
    struct worker_link *self = *self_p;
    *self_p = NULL;
    if (!self)
        return;
    worker_link_close(self);
    agent_destroy(&self->agent);
    wire_arena_destroy(&self->arena);
    wire_writer_release(&self->writer);
    free(self);
}

struct agent *worker_link_agent(struct worker_link *self) { return self->agent; }

const char *worker_link_waits_for(const struct worker_link *self, const char **ret_at, const char **ret_refusal)
{
    bool reached = net_is_up(self->control);
    *ret_at = reached && self->lane ? net_endpoint(self->lane) : self->places.ventilator;
    *ret_refusal = net_refusal(self->control);
    return reached ? "lane" : "ventilator";
}
