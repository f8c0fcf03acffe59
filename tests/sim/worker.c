/* A worker: the agent, and slots whose attempts take a time and end in a way that chance decides. An attempt
 * may ignore the signal to stop, and some never end unless they are killed. */
#include "tests/sim/sim.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bug.h"

static void slot_over(struct world *w, struct event *e);

static int port_up(void *arg, const Wire__Upward *m)
{
    struct worker *k = arg;
    struct world *w = k->p.world;
    if (!dial_is_up(&k->control) || !port_works(&k->p))
        return -EAGAIN;
    Wire__Upward copy = *m;
    Wire__WorkerHello hello;
    if (m->what_case == WIRE__UPWARD__WHAT_HELLO && m->hello->n_holdings > 0 && mutate(w, MUTANT_HOLDINGS_HIDDEN)) {
        hello = *m->hello;
        hello.n_holdings = 0;
        copy.hello = &hello;
    }
    if (m->what_case == WIRE__UPWARD__WHAT_FINISHED && mutate(w, MUTANT_WIRE_BENT))
        m->finished->fences[0]->count = 0;
    return link_send(k->control.link, DIALER, &copy.base, (struct slice){0}, false);
}

static void port_lane_close(void *arg)
{
    struct worker *k = arg;
    k->lane.wanted = false;
    dial_drop(&k->lane);
}

static void port_lane_dial(void *arg, const char *endpoint, uint32_t port)
{
    struct worker *k = arg;
    (void)endpoint;
    dial_drop(&k->lane);
    k->lane.port = port;
    dial_want(&k->lane);
}

static void port_sink_place(void *arg, const Wire__SinkPlace *place)
{
    struct worker *k = arg;
    if (place->results_port != 0 && k->sink.link == NULL)
        dial_want(&k->sink);
}

static int port_result(void *arg, const Wire__Result *m, struct slice body)
{
    struct worker *k = arg;
    if (!dial_is_up(&k->sink) || !port_works(&k->p))
        return -EAGAIN;
    int rc = link_send(k->sink.link, DIALER, &m->base, body, true);
    k->was_full |= rc < 0;
    return rc;
}

static void port_note(void *arg, int level, const char *event, const char *text)
{
    struct worker *k = arg;
    (void)level;
    trace(k->p.world, k->p.name, "%s %s", event, text);
}

static void leave(struct world *w, struct event *e)
{
    (void)w;
    process_crash(e->target, "it left");
}

static void port_leave(void *arg, uint64_t unreleased)
{
    struct worker *k = arg;
    (void)unreleased;
    k->left = true;
    after(k->p.world, between(k->p.world, 0, 20 * MS), &k->p, leave);
}

/* ---- slots ---- */

static void plan_end(struct worker *k, uint32_t slot, int64_t delay, bool by_us)
{
    struct run *r = &k->runs[slot];
    struct event *e = after(k->p.world, delay, &k->p, slot_over);
    e->a = slot;
    e->b = ++r->generation << 1 | by_us;
}

static int64_t run_time(struct world *w)
{
    switch (below(w, 12)) {
    case 0:  return between(w, 200 * US, 2 * MS);
    case 1:  return between(w, S, 4 * S);
    case 2:
    case 3:  return between(w, 100 * MS, 900 * MS);
    default: return between(w, 2 * MS, 60 * MS);
    }
}

static void choose_end(struct world *w, struct run *r)
{
    r->how = AGENT_EXITED;
    r->code = 0;
    switch (below(w, 40)) {
    case 0:  r->how = AGENT_SIGNALLED; r->code = 11; break;
    case 1:  r->how = AGENT_NOT_STARTED; break;
    case 2:  r->how = AGENT_KEEPER_DIED; break;
    case 3:
    case 4:
    case 5:
    case 6:
    case 7:  r->code = (int)between(w, 1, 3); break;
    default: break;
    }
}

/* The attempt takes the whole worker with it. */
static void poisoned(struct world *w, struct event *e)
{
    const struct worker *k = (const struct worker *)e->target;
    const struct run *r = &k->runs[e->b >> 1 & 0x7F];
    if (!r->busy || r->epoch != e->b >> 40 || r->attempt != (e->b >> 8 & 0xFFFFFFFF) || r->index != e->a)
        return;                         /* it was stopped before */
    if (!(e->b & 1))
        check_killed(w, e->p, e->a);
    process_doom(e->target, between(w, 20 * MS, 800 * MS));
}

static bool is_poison(const struct plan *p, uint64_t index)
{
    for (size_t i = 0; p != NULL && i < p->n_poison; i++)
        if (p->poison[i] == index)
            return true;
    return false;
}

static int64_t time_of_run(struct world *w, const struct plan *plan)
{
    if (plan != NULL && plan->micro && !one_in(w, 200))
        return between(w, US, 200 * US);
    return plan != NULL && plan->tiny ? between(w, 200 * US, 4 * MS) : run_time(w);
}

/* The next task of the slot begins: the only one, or one of a bundle. */
static void begin(struct worker *k, uint32_t slot)
{
    struct world *w = k->p.world;
    struct run *r = &k->runs[slot];
    r->index = r->what.index = r->what.index + (r->begun > 0);
    r->begun++;
    r->started = w->now;
    r->begun_at = clock_of(&k->p);
    if (r->begun == 1)
        r->first_at = r->begun_at;
    r->record = check_run(k, &r->what);
    if (mutate(w, MUTANT_RUN_TWICE))
        check_run(k, &r->what);
    choose_end(w, r);
    const struct plan *plan = plan_of_batch(w, r->batch);
    bool blamed = w->theme == THEME_POISON && r->index % 7 == 3 && mutate(w, MUTANT_INNOCENT_BLAMED);
    if (blamed || is_poison(plan, r->index)) {
        struct event *kill = after(w, between(w, 0, 30 * MS), &k->p, poisoned);
        kill->p = truth_of(w, r->batch);
        kill->a = r->index;
        kill->b = r->epoch << 40 | (uint64_t)r->attempt << 8 | slot << 1 | (blamed && !is_poison(plan, r->index));
        return;
    }
    bool stuck = plan != NULL && plan->may_get_stuck && r->what.budget >= 0 && one_in(w, 12);
    if (!stuck)
        plan_end(k, slot, time_of_run(w, plan), false);
}

static void port_run(void *arg, const struct agent_run *run)
{
    struct worker *k = arg;
    struct world *w = k->p.world;
    struct run *r = &k->runs[run->slot];
    if (!port_works(&k->p))
        return;
    trace(w, k->p.name, "slot %u runs %s/%" PRIu64 "+%u attempt %" PRIu64 ".%u", run->slot, run->short_id, run->index, run->count, run->epoch, run->attempt);
    if (run->slot >= k->slots || r->busy) {
        violated(w, "I8", "%s starts %s/%" PRIu64 " in slot %u, where task %" PRIu64 " still runs", k->p.name, run->short_id, run->index,
                 run->slot, r->index);
        return;
    }
    uint64_t generation = r->generation;
    *r = (struct run){.busy = true, .generation = generation, .index = run->index, .epoch = run->epoch, .attempt = run->attempt,
                      .kill_at = INT64_MAX, .stubborn = one_in(w, 4), .what = *run};
    memcpy(r->batch, run->batch, WIRE_ID);
    if (run->count > 1)
        cover(w, COVER_BUNDLE);
    begin(k, run->slot);
}

static void port_split(void *arg, uint32_t slot, bool keep_first, struct agent_split *ret)
{
    static const uint8_t outputs[WIRE_BLOCK * 30];
    struct worker *k = arg;
    struct run *r = &k->runs[slot];
    (void)keep_first;                  /* here the first begins at once */
    ret->begun = 1;
    if (!port_works(&k->p))
        return;
    r->closed = !mutate(k->p.world, MUTANT_BUNDLE_GOES_ON);
    ret->begun = r->begun;
    ret->begun_at = r->begun_at;
    if (r->begun < r->what.count)
        cover(k->p.world, COVER_BUNDLE_SPLIT);
    ret->parts = k->parts[slot];
    ret->n_parts = r->begun - 1;
    ret->part_outputs.data = outputs;
    for (uint32_t i = 0; i < ret->n_parts; i++)
        ret->part_outputs.len += (size_t)ret->parts[i].output_len + ret->parts[i].errors_len;
}

static void port_stop(void *arg, uint32_t slot, int64_t grace)
{
    struct worker *k = arg;
    struct world *w = k->p.world;
    struct run *r = &k->runs[slot];
    if (!r->busy || !port_works(&k->p))
        return;
    trace(w, k->p.name, "slot %u is told to stop task %" PRIu64 ", grace %" PRId64 " ms", slot, r->index, grace / MS);
    r->stopping = true;
    if (r->record != NULL)
        r->record->stopped = true;
    if (w->now + grace < r->kill_at)
        r->kill_at = w->now + grace;
    int64_t delay = r->stubborn ? r->kill_at - w->now : between(w, 100 * US, 15 * MS);
    if (delay > r->kill_at - w->now)
        delay = r->kill_at - w->now;
    plan_end(k, slot, delay + between(w, 50 * US, 3 * MS), true);
}

static void tell_end(struct worker *k, uint32_t slot, const struct run *r, bool by_us)
{
    struct world *w = k->p.world;
    static const uint8_t words[] = "what it printed, and what it complained about";
    struct agent_end end = {.code = r->code, .run_ns = w->now - r->started};
    const struct agent_end kinds[] = {{.how = AGENT_EXITED}, {.how = AGENT_SIGNALLED}, {.how = AGENT_NOT_STARTED}, {.how = AGENT_KEEPER_DIED}};
    end.how = kinds[r->how].how;
    end.output = (struct slice){NULL, words, (size_t)below(w, 20)};
    end.errors = (struct slice){NULL, words, (size_t)(one_in(w, 4) ? below(w, 20) : 0)};
    if (by_us) {
        end.how = AGENT_SIGNALLED;
        end.code = w->now >= r->kill_at ? 9 : 15;
        end.term_sent = true;
        end.kill_sent = end.code == 9;
    } else if (r->stopping) {
        end.term_sent = true;
    }
    if (end.how == AGENT_NOT_STARTED || end.how == AGENT_KEEPER_DIED)
        end.sentence = "chance would have it so";
    for (uint32_t i = 0; i + 1 < r->begun; i++)
        end.run_ns += k->parts[slot][i].run_ns;
    agent_ended(k->agent, clock_of(&k->p), slot, &end);
}

/* The process takes the next task of its bundle by itself, and asks nobody. */
static bool goes_on(struct worker *k, uint32_t slot)
{
    struct world *w = k->p.world;
    struct run *r = &k->runs[slot];
    mono_t now = clock_of(&k->p);
    if (r->closed || r->stopping || r->how != AGENT_EXITED || r->begun >= r->what.count || !mono_before(now, r->what.not_after)
        || mono_since(now, r->first_at) >= r->what.begin_for)
        return false;
    if (r->record != NULL) {
        r->record->over = true;
        r->record->ok = r->code == 0;
    }
    k->parts[slot][r->begun - 1] = (struct agent_part){
        .code = r->code, .run_ns = (uint32_t)(w->now - r->started), .output_len = (uint32_t)below(w, 20),
        .errors_len = one_in(w, 3) ? (uint32_t)below(w, 9) : 0, .swept = one_in(w, 9),
        .sentence = r->code != 0 && one_in(w, 2) ? "it says why" : NULL,
    };
    begin(k, slot);
    return true;
}

static void slot_over(struct world *w, struct event *e)
{
    struct worker *k = (struct worker *)e->target;
    struct run *r = &k->runs[e->a];
    bool by_us = e->b & 1;
    if (!r->busy || r->generation != e->b >> 1)
        return;
    if (!r->stopping && mutate(w, MUTANT_SLOT_FREED_EARLY)) {
        tell_end(k, (uint32_t)e->a, r, by_us);      /* and yet it is alive */
        return;
    }
    if (!by_us && goes_on(k, (uint32_t)e->a))
        return;
    r->busy = false;
    trace(w, k->p.name, "slot %" PRIu64 " is free of task %" PRIu64, e->a, r->index);
    if (r->record != NULL) {
        r->record->over = true;
        r->record->ok = !by_us && r->how == AGENT_EXITED && r->code == 0;
    }
    struct run copy = *r;
    if (!copy.stopping && copy.code != 0 && mutate(w, MUTANT_OK_INVENTED))
        copy.code = 0;
    tell_end(k, (uint32_t)e->a, &copy, by_us);
}

/* ---- what comes ---- */

void worker_message(struct worker *k, const struct arrival *a)
{
    struct world *w = k->p.world;
    struct why why = {""};
    if (link_kind(a->link) == LINK_LANE) {
        const Wire__Lane *m;
        if (a->link != k->lane.link)
            return;             /* of a lane that was closed: its socket is gone */
        if (wire_read_lane(k->p.arena, a->head, a->head_len, a->body.len, &m, &why) < 0)
            violated(w, "wire", "a lane message is malformed: %s", why.text);
        else if (say_lane(w, k->p.name, m), w->mutant == MUTANT_NONE)
            agent_lane(k->agent, clock_of(&k->p), m, a->body);
        else
            mutant_lane(k, m, a->body);
    } else {
        const Wire__Downward *m;
        if (wire_read_downward(k->p.arena, a->head, a->head_len, a->body.len, &m, &why) < 0)
            violated(w, "wire", "a downward message is malformed: %s", why.text);
        else
            agent_downward(k->agent, clock_of(&k->p), mutant_downward(k, m));
    }
}

void worker_notice(struct worker *k, struct link *l, bool is_up)
{
    mono_t now = clock_of(&k->p);
    switch (link_kind(l)) {
    case LINK_CONTROL: agent_control(k->agent, now, is_up); break;
    case LINK_RESULTS: agent_sink(k->agent, now, is_up); break;
    default:
        if (!is_up && k->lane.link == l)
            agent_lane_lost(k->agent, now, "its connection closed");
    }
}

void worker_has_room(struct worker *k)
{
    if (!k->was_full || k->agent == NULL || !dial_is_up(&k->sink) || k->p.frozen)
        return;
    k->was_full = false;
    agent_sink(k->agent, clock_of(&k->p), true);
    turn_soon(&k->p);
}

void worker_drain(struct worker *k)
{
    if (k->p.stopping)
        return;
    k->p.stopping = true;
    trace(k->p.world, k->p.name, "SIGTERM");
    agent_drain(k->agent, clock_of(&k->p));
    turn_soon(&k->p);
}

void worker_turn(struct worker *k, bool caught_up)
{
    sleep_until(&k->p, agent_tick(k->agent, clock_of(&k->p), caught_up));
}

/* ---- start and end ---- */

void worker_start(struct worker *k)
{
    struct world *w = k->p.world;
    struct agent_ports ports = {
        .arg = k, .up = port_up, .lane_dial = port_lane_dial, .lane_close = port_lane_close, .sink_place = port_sink_place,
        .result = port_result, .run = port_run, .stop = port_stop, .split = port_split, .note = port_note, .leave = port_leave,
    };
    static const char *const words[] = {"resize", "{}", NULL};
    const struct agent_handler handler = {.name = "resize", .kind = AGENT_PLUGIN, .command = words, .bundles = true};
    k->session = chance(w) | 1;
    const struct agent_config config = {
        .name = k->p.name, .program = "worker sim", .slots = k->slots, .handlers = &handler, .n_handlers = 1, .allow_commands = true,
        .max_payload = WIRE_PAYLOAD, .shutdown_timeout = between(w, S, 4 * S), .session = k->session,
    };
    memset(k->runs, 0, sizeof k->runs);
    k->left = k->was_full = false;
    k->control = (struct dial){.kind = LINK_CONTROL, .from = &k->p, .to = &w->vent.p};
    k->lane = (struct dial){.kind = LINK_LANE, .from = &k->p, .to = &w->vent.p};
    k->sink = (struct dial){.kind = LINK_RESULTS, .from = &k->p, .to = &w->sink.p};
    k->agent = agent_new(&config, &ports);
    BUG_IF(k->agent == NULL);
    dial_want(&k->control);
}

/* SIGKILL, or its own leaving: its attempts end with it. */
void worker_end(struct worker *k)
{
    for (uint32_t i = 0; i < k->slots; i++) {
        if (k->runs[i].busy && !k->runs[i].stopping && k->p.world->theme == THEME_GENTLE && !k->p.world->over)
            violated(k->p.world, "gentle", "%s leaves, and takes task %" PRIu64 " with it that was not told to stop", k->p.name, k->runs[i].index);
        if (k->runs[i].busy && k->runs[i].record != NULL)
            k->runs[i].record->over = true;
        k->runs[i].busy = false;
    }
    agent_destroy(&k->agent);
}
