/* The ventilator: the ledger, with ports that are the simulation's network and disk. Its turn is that of
 * ventilator/serve.c: tick, then one flush for all that was staged. */
#include "tests/sim/sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bug.h"

#define N_LANES (sizeof((struct vent *)0)->lanes / sizeof(struct lane))

static const uint8_t journal_id[WIRE_ID] = "the-journal's-id";

/* Every event of the ledger is followed by an audit of all its counters. */
void vent_audit(struct vent *v)
{
    struct why why = {""};
    if (v->ledger != NULL && v->p.world->mutant == MUTANT_COUNTER_BENT && ledger_bend(v->ledger))
        mutate(v->p.world, MUTANT_COUNTER_BENT);
    if (v->ledger != NULL && ledger_audit(v->ledger, &why) < 0)
        violated(v->p.world, "audit", "%s", why.text);
}

/* ---- ports ---- */

static int port_reply(void *arg, ledger_peer client, const Wire__Reply *m)
{
    struct vent *v = arg;
    struct world *w = v->p.world;
    struct link *l = link_of_peer(w, LINK_CLIENT, client);
    if (!port_works(&v->p))
        return 0;
    Wire__Reply copy = *m;
    Wire__StatusReport report;
    Wire__BatchStatus status, *rows[1] = {&status};
    if (m->what_case == WIRE__REPLY__WHAT_STATUS && m->status->n_batches == 1 && mutate(w, MUTANT_COUNTS_FORGED)) {
        report = *m->status;
        status = *m->status->batches[0];
        status.ok++;
        report.batches = rows;
        copy.status = &report;
    }
    for (size_t i = 0; m->what_case == WIRE__REPLY__WHAT_CANCELLED && i < MAX_PLANS; i++)
        if (w->plans[i].known && strcmp(w->plans[i].short_id, m->cancelled->short_id) == 0)
            check_cancel_reply(w, &w->plans[i], m->cancelled);
    return l == NULL || link_send(l, LISTENER, &copy.base, (struct slice){0}, false) < 0 ? -EHOSTUNREACH : 0;
}

static int port_down(void *arg, ledger_peer peer, const Wire__Downward *m)
{
    struct vent *v = arg;
    struct link *l = link_of_peer(v->p.world, LINK_CONTROL, peer);
    if (!port_works(&v->p))
        return 0;
    if (m->what_case == WIRE__DOWNWARD__WHAT_FORGET && mutate(v->p.world, MUTANT_FORGET_LOST))
        return 0;
    if (m->what_case == WIRE__DOWNWARD__WHAT_REGISTER)
        check_register(v->p.world, m->register_);
    return l == NULL || link_send(l, LISTENER, &m->base, (struct slice){0}, false) < 0 ? -EHOSTUNREACH : 0;
}

struct lane *vent_lane(struct vent *v, uint32_t port)
{
    for (size_t i = 0; i < N_LANES; i++)
        if (v->lanes[i].open && v->lanes[i].port == port)
            return &v->lanes[i];
    return NULL;
}

static struct lane *lane_by_epoch(struct vent *v, uint64_t epoch)
{
    for (size_t i = 0; i < N_LANES; i++)
        if (v->lanes[i].open && v->lanes[i].epoch == epoch)
            return &v->lanes[i];
    return NULL;
}

/* A short range of ports, so that a late dialler meets a lane that is not its own. */
static int port_lane_open(void *arg, uint64_t epoch, uint32_t *ret_port, const char **ret_endpoint)
{
    struct vent *v = arg;
    for (size_t i = 0; i < 9; i++) {
        uint32_t port = 5600 + v->next_port++ % 9;
        struct lane *lane = &v->lanes[port - 5600];
        if (lane->open)
            continue;
        *lane = (struct lane){.epoch = epoch, .port = port, .open = true};
        *ret_port = port;
        *ret_endpoint = "";
        return 0;
    }
    return -EADDRINUSE;
}

static void port_lane_send(void *arg, uint64_t epoch, const Wire__Lane *m, struct slice body, bool with_body)
{
    struct vent *v = arg;
    struct lane *lane = lane_by_epoch(v, epoch);
    if (!port_works(&v->p))
        return;
    say_lane(v->p.world, "lane>", m);
    if (m->what_case == WIRE__LANE__WHAT_ANNOUNCE)
        m = mutant_announce(v, m);
    if (lane != NULL && lane->link != NULL)
        link_send(lane->link, LISTENER, &m->base, body, with_body);
}

static void port_lane_close(void *arg, uint64_t epoch)
{
    struct lane *lane = lane_by_epoch(arg, epoch);
    if (lane == NULL)
        return;
    lane->open = false;
    if (lane->link != NULL)
        link_break(lane->link);
}

static void port_sink_place(void *arg, const Wire__SinkPlace *place)
{
    struct vent *v = arg;
    if (place != NULL && place->results_port != 0)
        dial_want(&v->sink);
}

static int port_closing(void *arg, const Wire__Result *m)
{
    struct vent *v = arg;
    if (!dial_is_up(&v->sink) || !port_works(&v->p))
        return -EAGAIN;
    if (mutate(v->p.world, MUTANT_CLOSING_LOST))
        return 0;
    return link_send(v->sink.link, DIALER, &m->base, (struct slice){0}, false);
}

static uint64_t port_put(void *arg, const char *key, const void *value, size_t len) { return disk_put(&((struct vent *)arg)->disk, key, value, len); }
static uint64_t port_remove(void *arg, const char *key) { return disk_remove(&((struct vent *)arg)->disk, key); }
static uint64_t port_remove_frames(void *arg, uint64_t batch) { return disk_remove_frames(&((struct vent *)arg)->disk, batch); }

static uint64_t port_append(void *arg, uint64_t batch, const struct ledger_frame *f)
{
    return disk_append(&((struct vent *)arg)->disk, batch, f->first, f->count, 0, f->head, f->body, NULL);
}

struct load { uint64_t batch, from, to; size_t bytes; };

static bool in_load(const struct op *op, const struct load *load)
{
    return op->batch == load->batch && op->first < load->to && op->first + op->count > load->from;
}

static void read_back(struct world *w, struct event *e)
{
    (void)w;
    struct vent *v = (struct vent *)e->target;
    const struct load load = {e->a, e->b & 0xFFFFFFFF, e->b >> 32, 4096};
    struct ledger_frame frames[64];
    size_t n = 0, bytes = 0;
    for (size_t i = 0; i < v->disk.n_frames && n < 64 && bytes < load.bytes; i++) {
        struct op *op = v->disk.frames[i];
        if (!in_load(op, &load))
            continue;
        frames[n++] = (struct ledger_frame){op->first, op->count, slice_of(op->value), slice_of(op->body)};
        bytes += buf_len(op->value) + buf_len(op->body);
    }
    ledger_loaded(v->ledger, clock_of(&v->p), load.batch, frames, n, n == 0 ? "the journal has no frame for tasks that it admitted" : NULL);
    vent_audit(v);
}

static void port_load(void *arg, uint64_t batch, uint64_t from, uint64_t to, size_t bytes)
{
    struct vent *v = arg;
    (void)bytes;                /* small pieces, so that loading goes on and on */
    struct event *e = after(v->p.world, between(v->p.world, 50 * US, 5 * MS), &v->p, read_back);
    e->a = batch;
    e->b = from | to << 32;
}

static void port_random(void *arg, void *bytes, size_t len)
{
    struct vent *v = arg;
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)bytes)[i] = (uint8_t)chance(v->p.world);
}

static void port_note(void *arg, int level, const char *event, const char *text)
{
    struct vent *v = arg;
    (void)level;
    trace(v->p.world, v->p.name, "%s %s", event, text);
    if (strcmp(event, "batch_complete") == 0)
        check_batch_complete(v->p.world, text);
    if (strcmp(event, "closing_miscounted") == 0)
        violated(v->p.world, "counts", "%s %s", event, text);
    if (strcmp(event, "journal_damaged") == 0)
        violated(v->p.world, "I1", "%s %s", event, text);
}

static void port_leave(void *arg) { ((struct vent *)arg)->left = true; }

/* ---- what comes ---- */

void vent_message(struct vent *v, const struct arrival *a)
{
    struct world *w = v->p.world;
    struct why why = {""};
    if (link_kind(a->link) == LINK_CLIENT) {
        const Wire__Request *m;
        if (wire_read_request(v->p.arena, a->head, a->head_len, a->body.len, &m, &why) < 0)
            violated(w, "wire", "a request is malformed: %s", why.text);
        else
            ledger_request(v->ledger, clock_of(&v->p), link_peer(a->link), m, a->body);
    } else {
        const Wire__Upward *m;
        if (wire_read_upward(v->p.arena, a->head, a->head_len, a->body.len, &m, &why) < 0)
            violated(w, "wire", "an upward message is malformed: %s", why.text);
        else if (say_upward(w, v->p.name, m), m->what_case != WIRE__UPWARD__WHAT_RECORDED || !mutate(w, MUTANT_RECORDED_LOST))
            ledger_upward(v->ledger, clock_of(&v->p), link_peer(a->link), "10.0.0.1", m, a->body);
    }
    vent_audit(v);
}

void vent_notice(struct vent *v, struct link *l, bool is_up)
{
    mono_t now = clock_of(&v->p);
    if (link_kind(l) == LINK_RESULTS) {
        ledger_sink_up(v->ledger, now, is_up);
    } else if (link_kind(l) == LINK_LANE) {
        struct lane *lane = lane_by_epoch(v, link_lane(l));
        if (lane != NULL && lane->link == l)
            ledger_lane(v->ledger, now, lane->epoch, is_up);
    }
    vent_audit(v);
}

void vent_committed(struct vent *v, uint64_t sequence)
{
    v->boot_known = v->p.boots;
    ledger_committed(v->ledger, clock_of(&v->p), sequence);
    vent_audit(v);
}

void vent_full(struct vent *v, bool is_full) { ledger_full(v->ledger, clock_of(&v->p), is_full); }

static void give_up(struct world *w, struct event *e)
{
    (void)w;
    process_crash(e->target, "its shutdown timeout is over");
}

void vent_drain(struct vent *v)
{
    if (v->p.stopping)
        return;
    v->p.stopping = true;
    trace(v->p.world, v->p.name, "SIGTERM");
    after(v->p.world, 30 * S, &v->p, give_up);
    ledger_drain(v->ledger, clock_of(&v->p));
    turn_soon(&v->p);
}

static void leave(struct world *w, struct event *e)
{
    (void)w;
    process_crash(e->target, "it left");
}

void vent_turn(struct vent *v, bool caught_up)
{
    mono_t next = ledger_tick(v->ledger, clock_of(&v->p), caught_up);
    vent_audit(v);
    check_memory(v);
    disk_flush(&v->disk);
    sleep_until(&v->p, next);
    if (v->left && disk_is_idle(&v->disk))
        after(v->p.world, 0, &v->p, leave);
}

/* ---- start and end ---- */

void vent_start(struct vent *v)
{
    struct world *w = v->p.world;
    static const struct ledger_ports ports = {
        .reply = port_reply, .down = port_down, .lane_open = port_lane_open, .lane_send = port_lane_send, .lane_close = port_lane_close,
        .sink_place = port_sink_place, .closing = port_closing, .put = port_put, .remove = port_remove, .append = port_append,
        .remove_frames = port_remove_frames, .load = port_load, .random = port_random, .note = port_note, .leave = port_leave,
    };
    struct ledger_ports mine = ports;
    mine.arg = v;
    struct ledger_config config = {
        .program = "ventilator sim", .session = chance(w) | 1, .heartbeat = S, .loss_grace = LOSS_GRACE, .silence = 10 * S,
        .shutdown_timeout = 30 * S, .max_losses = mutate(w, MUTANT_LOSSES_UNCOUNTED) ? 100 : MAX_LOSSES,
        .max_payload = WIRE_PAYLOAD, .result_credit = 4000, .cache_bytes = mutate(w, MUTANT_CACHE_UNBOUNDED) ? SIZE_MAX : CACHE_BYTES,
        .retain = w->retain, .keep_keys = 30 * 86400 * S, .wall = wall_of(w),
    };
    snprintf(config.boot, sizeof config.boot, "00000000-0000-4000-8000-%012u", mutate(w, MUTANT_REBOOT_UNNOTICED) ? 0 : v->p.boots);
    memcpy(config.journal, journal_id, WIRE_ID);
    if (v->boot_known != v->p.boots)
        check_reboot(w);
    memset(v->lanes, 0, sizeof v->lanes);
    v->left = false;
    v->sink = (struct dial){.kind = LINK_RESULTS, .from = &v->p, .to = &w->sink.p};
    v->ledger = ledger_new(&config, &mine, clock_of(&v->p));
    BUG_IF(v->ledger == NULL);
    struct why why = {""};
    for (size_t i = 0; i < v->disk.n_records; i++) {
        struct op *r = v->disk.records[i];
        if (ledger_restore(v->ledger, r->key, buf_bytes(r->value), buf_len(r->value), &why) < 0)
            violated(w, "I1", "the journal can't be restored: %s", why.text);
    }
    ledger_restored(v->ledger, clock_of(&v->p));
    if (v->disk.full) {
        cover(w, COVER_FULL_START);
        ledger_full(v->ledger, clock_of(&v->p), true);
    }
    vent_audit(v);
}

void vent_end(struct vent *v)
{
    ledger_destroy(&v->ledger);
    disk_crash(&v->disk);
}
