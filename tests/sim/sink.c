/* The sink: the register, with ports that are the simulation's network and disk. */
#include "tests/sim/sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bug.h"

#define PAUSE_AT 6u                    /* flushes that are not on disk: nothing more is taken in */

static const uint8_t store_id[WIRE_ID] = "the-store's-id..";

static int port_up(void *arg, const Wire__Upward *m, struct slice body, bool with_body)
{
    struct sink *s = arg;
    if (!port_works(&s->p))
        return 0;
    if (m->what_case == WIRE__UPWARD__WHAT_RECORDED)
        check_recorded(s->p.world, m->recorded);
    return dial_is_up(&s->control) ? link_send(s->control.link, DIALER, &m->base, body, with_body) : -EAGAIN;
}

static uint64_t port_put(void *arg, const char *key, const void *value, size_t len) { return disk_put(&((struct sink *)arg)->disk, key, value, len); }
static uint64_t port_remove(void *arg, const char *key) { return disk_remove(&((struct sink *)arg)->disk, key); }
static uint64_t port_remove_rows(void *arg, uint64_t batch) { return disk_remove_frames(&((struct sink *)arg)->disk, batch); }

static uint64_t port_append(void *arg, uint64_t batch, uint64_t first, uint32_t count, enum register_row kind, struct slice head,
                            struct slice body, uint64_t *ret_row)
{
    struct sink *s = arg;
    return disk_append(&s->disk, batch, first, count, (uint32_t)kind, head, body, ret_row);
}

static void port_moved(void *arg, const struct register_batch *batch) { (void)arg, (void)batch; }

static void port_note(void *arg, int level, const char *event, const char *text)
{
    struct sink *s = arg;
    (void)level;
    trace(s->p.world, s->p.name, "%s %s", event, text);
}

/* ---- what comes ---- */

void sink_message(struct sink *s, const struct arrival *a)
{
    struct world *w = s->p.world;
    struct why why = {""};
    if (link_kind(a->link) == LINK_RESULTS) {
        const Wire__Result *m;
        if (wire_read_result(s->p.arena, a->head, a->head_len, a->body.len, &m, &why) < 0)
            violated(w, "wire", "a result is malformed: %s", why.text);
        else if (check_duplicate(w, m), true)
            register_result_packed(s->registry, clock_of(&s->p), m, (struct slice){NULL, a->head, a->head_len}, a->body);
    } else {
        const Wire__Downward *m;
        if (wire_read_downward(s->p.arena, a->head, a->head_len, a->body.len, &m, &why) < 0)
            violated(w, "wire", "a downward message is malformed: %s", why.text);
        else
            register_downward(s->registry, clock_of(&s->p), m);
    }
}

void sink_notice(struct sink *s, struct link *l, bool is_up)
{
    if (link_kind(l) == LINK_CONTROL)
        register_ventilator(s->registry, clock_of(&s->p), is_up);
}

void sink_committed(struct sink *s, uint64_t sequence) { register_committed(s->registry, clock_of(&s->p), sequence); }
void sink_full(struct sink *s, bool is_full) { register_full(s->registry, clock_of(&s->p), is_full); }

static void leave(struct world *w, struct event *e)
{
    (void)w;
    process_crash(e->target, "it left");
}

void sink_drain(struct sink *s)
{
    if (s->p.stopping)
        return;
    s->p.stopping = true;
    trace(s->p.world, s->p.name, "SIGTERM");
    register_drain(s->registry, clock_of(&s->p));
    after(s->p.world, 20 * S, &s->p, leave);
    turn_soon(&s->p);
}

void sink_turn(struct sink *s, bool caught_up)
{
    struct world *w = s->p.world;
    mono_t next = register_tick(s->registry, clock_of(&s->p), caught_up);
    disk_flush(&s->disk);
    bool pause = s->disk.full || s->p.stopping || disk_waiting(&s->disk) > (s->paused ? PAUSE_AT / 2 : PAUSE_AT);
    if (pause != s->paused) {
        s->paused = pause;
        links_pump(w);
    }
    if (s->p.stopping && register_drained(s->registry))
        after(w, 0, &s->p, leave);
    sleep_until(&s->p, next);
}

/* ---- start and end ---- */

static void restore(struct sink *s)
{
    struct world *w = s->p.world;
    struct why why = {""};
    uint64_t batch, from;
    for (size_t i = 0; i < s->disk.n_records; i++) {
        struct op *r = s->disk.records[i];
        if (register_restore_record(s->registry, r->key, buf_bytes(r->value), buf_len(r->value), &why) < 0)
            violated(w, "I1", "the store can't be restored: %s", why.text);
    }
    while (!w->failed && register_restore_needs(s->registry, &batch, &from)) {
        for (size_t i = 0; i < s->disk.n_frames; i++) {
            struct op *r = s->disk.frames[i];
            if (r->batch == batch && r->number > from && !(one_in(w, 3) && mutate(w, MUTANT_RESTORE_SKIPS))
                && register_restore_row(s->registry, batch, r->number, r->row_kind, slice_of(r->value), &why) < 0)
                violated(w, "I1", "a row can't be restored: %s", why.text);
        }
        register_restore_rows_end(s->registry, batch);
    }
}

void sink_start(struct sink *s)
{
    struct world *w = s->p.world;
    struct register_ports ports = {
        .arg = s, .up = port_up, .put = port_put, .remove = port_remove, .append = port_append, .remove_rows = port_remove_rows,
        .moved = port_moved, .note = port_note,
    };
    struct register_config config = {.program = "sink sim", .advertise = "", .results_endpoint = "", .query_endpoint = "",
                                     .results_port = 5557, .query_port = 5558, .session = chance(w) | 1,
                                     .ask_spans = 3, .ask_tasks = 200 /* many parts */};
    memcpy(config.store, store_id, WIRE_ID);
    s->paused = false;
    s->registry = register_new(&config, &ports);
    BUG_IF(s->registry == NULL);
    restore(s);
    if (s->disk.full) {
        cover(w, COVER_FULL_START);
        register_full(s->registry, clock_of(&s->p), true);
    }
    s->control = (struct dial){.kind = LINK_CONTROL, .from = &s->p, .to = &w->vent.p};
    dial_want(&s->control);
}

void sink_end(struct sink *s)
{
    register_destroy(&s->registry);
    disk_crash(&s->disk);
}
