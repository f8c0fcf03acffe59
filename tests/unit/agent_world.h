/* An agent that is driven by hand: its ports write what they were asked for into a trace, which is
 * compared as text. Time is a number that the tests move. */
#ifndef TESTS_UNIT_AGENT_WORLD_H
#define TESTS_UNIT_AGENT_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/agent.h"

#define SESSION 77u
#define MS NS_PER_MS
#define S NS_PER_S

static const uint8_t batch_a[WIRE_ID] = "batch-a.........", batch_b[WIRE_ID] = "batch-b.........";

struct world {
    struct agent *agent;
    char trace[65536];
    size_t len;
    mono_t now, next;
    uint64_t sequence, lane_epoch;
    bool control_full, sink_full, notes;
    bool bare;                     /* results are counted, not looked at */
    uint64_t results;
    uint64_t seed;
    uint64_t last_beat;
    int64_t budget;                /* of the last run */
    uint32_t count;                /* its tasks */
    bool bundles;                  /* set before build: the handler is a plugin that takes many tasks at once */
    uint32_t begun;                /* what a split answers */
    const struct agent_part *parts;
    struct slice part_outputs;
    Wire__Options options;
    Wire__RetryRule retry;
    Wire__Micros timeout;
    char *command[2];
};

/* ---- the trace ---- */

static inline void say(struct world *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
static inline void say(struct world *w, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(w->trace + w->len, sizeof w->trace - w->len, format, args);
    va_end(args);
    assert_true(n >= 0 && (size_t)n < sizeof w->trace - w->len);
    w->len += (size_t)n;
}

static inline void forget_trace(struct world *w)
{
    w->len = 0;
    w->trace[0] = '\0';
}

#define EXPECT(w, text) (assert_string_equal((w)->trace, text), forget_trace(w))

static inline void say_fences(struct world *w, Wire__Fence **fences, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        assert_true(fences[i]->count > 0);         /* or the whole message would be refused */
        say(w, " %c%" PRIu64 "+%u@%" PRIu64 ".%u", fences[i]->batch.data[6], fences[i]->first, fences[i]->count, fences[i]->epoch,
            fences[i]->attempt);
    }
}

static inline void say_hello(struct world *w, const Wire__WorkerHello *hello)
{
    static const char *const states[] = {"queued", "running", "ended"};
    say(w, "hello");
    for (size_t i = 0; i < hello->n_holdings; i++) {
        say(w, " %s", states[hello->holdings[i]->state]);
        say_fences(w, &hello->holdings[i]->fence, 1);
    }
    say(w, "\n");
}

static inline int port_up(void *arg, const Wire__Upward *m)
{
    struct world *w = arg;
    if (w->control_full)
        return -EAGAIN;
    assert_int_equal(m->session, SESSION);
    switch (m->what_case) {
    case WIRE__UPWARD__WHAT_HELLO:
        assert_int_equal(m->lane_epoch, 0);
        say_hello(w, m->hello);
        return 0;
    case WIRE__UPWARD__WHAT_HEARTBEAT:
        w->last_beat = m->heartbeat->number;
        say(w, "beat %" PRIu64 " read=%" PRIu64 "%s\n", m->heartbeat->number, m->heartbeat->lane_sequence,
            m->heartbeat->draining ? " draining" : "");
        return 0;
    case WIRE__UPWARD__WHAT_GOODBYE:
        say(w, "goodbye %" PRIu64 "\n", m->goodbye->unreleased);
        return 0;
    default:
        break;
    }
    assert_int_equal(m->lane_epoch, w->lane_epoch);
    if (m->what_case == WIRE__UPWARD__WHAT_OPENED) {
        say(w, "opened");
    } else if (m->what_case == WIRE__UPWARD__WHAT_STARTED) {
        say(w, "started");
        say_fences(w, m->started->fences, m->started->n_fences);
    } else if (m->what_case == WIRE__UPWARD__WHAT_FINISHED) {
        say(w, "finished");
        say_fences(w, m->finished->fences, m->finished->n_fences);
    } else if (m->what_case == WIRE__UPWARD__WHAT_RETURNED) {
        say(w, "returned cause=%d%s", m->returned->cause, m->returned->cut_off ? " cut_off" : "");
        say_fences(w, m->returned->fences, m->returned->n_fences);
    } else if (m->what_case == WIRE__UPWARD__WHAT_CONFIRMED) {
        say(w, "confirmed %" PRIu64 " dropped=%" PRIu64 " stopping=%" PRIu64, m->confirmed->number, m->confirmed->dropped,
            m->confirmed->stopping);
    } else {
        fail_msg("unexpected upward message %d", m->what_case);
    }
    say(w, "\n");
    return 0;
}

static inline void port_lane_dial(void *arg, const char *endpoint, uint32_t port) { say(arg, "dial %s%u\n", endpoint, port); }
static inline void port_lane_close(void *arg) { say(arg, "close\n"); }
static inline void port_sink_place(void *arg, const Wire__SinkPlace *place) { say(arg, "sink %u\n", place->results_port); }

static inline void say_u32(struct world *w, const char *name, const uint32_t *column, size_t n)
{
    if (n > 0)
        say(w, " %s=", name);
    for (size_t i = 0; i < n; i++)
        say(w, "%s%u", i ? "," : "", column[i]);
}

static inline int port_result(void *arg, const Wire__Result *m, struct slice body)
{
    struct world *w = arg;
    if (w->sink_full)
        return -EAGAIN;
    const Wire__Report *r = m->report;
    w->results += r->fence->count;
    if (w->bare)
        return 0;
    assert_int_equal(m->what_case, WIRE__RESULT__WHAT_REPORT);
    /* What the codec would refuse would never be released. */
    struct wire_writer writer = {0};
    struct wire_arena *arena = wire_arena_new();
    const Wire__Result *read;
    struct why why = {""};
    assert_int_equal(wire_write(&writer, &m->base), 0);
    if (wire_read_result(arena, writer.bytes, writer.len, body.len, &read, &why) < 0)
        fail_msg("%s", why.text);
    wire_arena_destroy(&arena);
    wire_writer_release(&writer);
    say(w, "result%s", r->kind == WIRE__RESULT_KIND__IS_ATTEMPT ? " (attempt)" : "");
    say_fences(w, (Wire__Fence **)(uintptr_t)&r->fence, 1);
    for (size_t i = 0; i < r->n_verdicts; i++)
        say(w, " %s", wire_verdict_name(r->verdicts[i]));
    for (size_t i = 0; i < r->n_reasons; i++)
        say(w, " %s", wire_reason_name(r->reasons[i]) ? wire_reason_name(r->reasons[i]) : "-");
    say_u32(w, "slot", r->slots, r->n_slots);
    if (r->n_codes > 0)
        say(w, " code=%d", r->codes[0]);
    say_u32(w, "flags", r->flags, r->n_flags);
    if (body.len > 0 && body.len < 100)
        say(w, " body=%.*s", (int)body.len, (const char *)body.data);
    else if (body.len > 0)
        say(w, " body=%zu bytes", body.len);
    if (r->n_extras > 0)
        say(w, " extras=%zu", r->n_extras);
    say(w, "\n");
    return 0;
}

static inline void port_run(void *arg, const struct agent_run *run)
{
    struct world *w = arg;
    w->budget = run->budget;
    w->count = run->count;
    assert_memory_not_equal(run->span_id, "\0\0\0\0\0\0\0", sizeof run->span_id);
    if (run->count > 1) {
        say(w, "run slot=%u %c%" PRIu64 "+%u.%u payload=%.*s\n", run->slot, run->batch[6], run->index, run->count, run->attempt,
            (int)run->payload.len, (const char *)run->payload.data);
        return;
    }
    say(w, "run slot=%u %c%" PRIu64 ".%u payload=%.*s%s%s\n", run->slot, run->batch[6], run->index, run->attempt,
        (int)run->payload.len, (const char *)run->payload.data, run->handler ? " handler=" : "", run->handler ? run->handler->name : "");
}

static inline void port_stop(void *arg, uint32_t slot, int64_t grace) { say(arg, "stop slot=%u grace=%" PRId64 "ms\n", slot, grace / MS); }

/* All but the last that has begun printed a letter, unless `parts` says what they did. */
static inline void port_split(void *arg, uint32_t slot, bool keep_first, struct agent_split *ret)
{
    static struct agent_part parts[64];
    static const uint8_t text[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    struct world *w = arg;
    say(w, "split slot=%u%s\n", slot, keep_first ? " but the first" : "");
    ret->begun = keep_first && w->begun == 0 ? 1 : w->begun;
    if (w->begun == 0)
        return;
    ret->begun_at = w->now;
    ret->n_parts = w->begun - 1;
    for (uint32_t i = 0; i < ret->n_parts; i++)
        parts[i] = (struct agent_part){.run_ns = 2000, .output_len = 1};
    ret->parts = w->parts ? w->parts : parts;
    ret->part_outputs = w->parts ? w->part_outputs : (struct slice){.data = text, .len = ret->n_parts};
}

static inline void port_note(void *arg, int level, const char *event, const char *text)
{
    struct world *w = arg;
    (void)level;
    if (w->notes)
        say(w, "note %s %s\n", event, text);
}

static inline void port_leave(void *arg, uint64_t unreleased) { say(arg, "leave %" PRIu64 "\n", unreleased); }

/* ---- making a world ---- */

static inline void build(struct world *w, uint32_t slots)
{
    const struct agent_ports ports = {
        .split = w->bundles ? port_split : NULL, .arg = w, .up = port_up, .lane_dial = port_lane_dial, .lane_close = port_lane_close, .sink_place = port_sink_place,
        .result = port_result, .run = port_run, .stop = port_stop, .note = port_note, .leave = port_leave,
    };
    static const char *const words[] = {"resize", "{}", NULL};
    const struct agent_handler handler = {.name = "resize", .command = words, .kind = w->bundles ? AGENT_PLUGIN : AGENT_COMMAND, .bundles = w->bundles};
    const struct agent_config config = {
        .name = "w1", .program = "worker test", .slots = slots, .handlers = &handler, .n_handlers = 1, .allow_commands = true,
        .max_payload = WIRE_PAYLOAD, .shutdown_timeout = 30 * S, .session = SESSION,
    };
    w->now = (mono_t){1000 * S};
    w->agent = agent_new(&config, &ports);
    assert_non_null(w->agent);
    wire__options__init(&w->options);
    wire__retry_rule__init(&w->retry);
    wire__micros__init(&w->timeout);
    w->command[0] = (char *)(uintptr_t)"true";
    w->options.command = w->command;
    w->options.n_command = 1;
    w->options.grace_us = 2000000;
    w->options.weight = 1;
    w->options.max_output = 1000000;
}

static inline void tick(struct world *w) { w->next = agent_tick(w->agent, w->now, true); }

static inline void pass(struct world *w, int64_t ns)
{
    w->now = mono_add(w->now, ns);
    tick(w);
}

static inline void downward(struct world *w, Wire__Downward *m)
{
    m->epoch = 1;
    agent_downward(w->agent, w->now, m);
}

static inline void welcome_dropping(struct world *w, Wire__Fence **dropped, size_t n)
{
    Wire__SinkPlace place = WIRE__SINK_PLACE__INIT;
    place.results_port = 5557;
    Wire__Welcome welcome = WIRE__WELCOME__INIT;
    welcome.major = WIRE_MAJOR;
    welcome.ventilator = wire_id_bytes((const uint8_t *)"the journal's id");
    welcome.lane_port = 5600;
    welcome.lane_epoch = ++w->lane_epoch;
    welcome.heartbeat_us = 1000000;
    welcome.lease_us = 1500000;
    welcome.silence_us = 10000000;
    welcome.result_credit = 1u << 20;
    welcome.sink = &place;
    welcome.dropped = dropped;
    welcome.n_dropped = n;
    Wire__Downward m = WIRE__DOWNWARD__INIT;
    m.what_case = WIRE__DOWNWARD__WHAT_WELCOME;
    m.welcome = &welcome;
    w->sequence = 0;
    downward(w, &m);
}

static inline void answer(struct world *w, uint64_t number)
{
    Wire__HeartbeatAnswer heartbeat = WIRE__HEARTBEAT_ANSWER__INIT;
    heartbeat.number = number;
    Wire__Downward m = WIRE__DOWNWARD__INIT;
    m.what_case = WIRE__DOWNWARD__WHAT_HEARTBEAT;
    m.heartbeat = &heartbeat;
    downward(w, &m);
}

static inline void lane(struct world *w, Wire__Lane *m, struct slice body)
{
    m->session = SESSION;
    m->lane_epoch = w->lane_epoch;
    m->sequence = ++w->sequence;
    agent_lane(w->agent, w->now, m, body);
}

static inline void open_lane(struct world *w)
{
    Wire__Open open = WIRE__OPEN__INIT;
    Wire__Lane m = WIRE__LANE__INIT;
    m.what_case = WIRE__LANE__WHAT_OPEN;
    m.open = &open;
    lane(w, &m, (struct slice){0});
}

static inline void announce(struct world *w, const uint8_t *batch, int64_t deadline_ms)
{
    Wire__Micros left = WIRE__MICROS__INIT;
    left.us = (uint64_t)deadline_ms * 1000;
    Wire__Announce announce = WIRE__ANNOUNCE__INIT;
    announce.batch = wire_id_bytes(batch);
    announce.short_id = (char *)(uintptr_t)"b7k2";
    announce.options = &w->options;
    announce.deadline_left = deadline_ms >= 0 ? &left : NULL;
    Wire__Lane m = WIRE__LANE__INIT;
    m.what_case = WIRE__LANE__WHAT_ANNOUNCE;
    m.announce = &announce;
    lane(w, &m, (struct slice){0});
}

struct assignment {
    const uint8_t *batch;
    uint64_t first;
    uint32_t count, attempt, tries_left;
    const char *body;                 /* "a b c": words are the payloads */
    Wire__TaskExtra **extras;
    size_t n_extras;
};

static inline void assign_these(struct world *w, const struct assignment *a)
{
    uint32_t lengths[64], n = 0;
    char body[512];
    size_t len = 0;
    for (const char *s = a->body; *s; s += *s == ' ') {
        size_t word = strcspn(s, " ");
        memcpy(body + len, s, word);
        len += word;
        lengths[n++] = (uint32_t)word;
        s += word;
    }
    assert_int_equal(n, a->count);
    Wire__Tasks tasks = WIRE__TASKS__INIT;
    tasks.first = a->first;
    tasks.count = a->count;
    tasks.lengths = lengths;
    tasks.n_lengths = n;
    tasks.extras = a->extras;
    tasks.n_extras = a->n_extras;
    Wire__Assign assign = WIRE__ASSIGN__INIT;
    assign.batch = wire_id_bytes(a->batch);
    assign.tasks = &tasks;
    assign.epoch = 1;
    assign.attempt = a->attempt ? a->attempt : 1;
    assign.tries_left = a->tries_left;
    assign.waited_us = 5000;
    Wire__Lane m = WIRE__LANE__INIT;
    m.what_case = WIRE__LANE__WHAT_ASSIGN;
    m.assign = &assign;
    lane(w, &m, (struct slice){.data = (const uint8_t *)body, .len = len});
}

static inline void assign(struct world *w, const uint8_t *batch, uint64_t first, uint32_t count, const char *body)
{
    assign_these(w, &(struct assignment){.batch = batch, .first = first, .count = count, .body = body});
}

static inline Wire__Span span_of(uint64_t first, uint64_t count)
{
    Wire__Span span = WIRE__SPAN__INIT;
    span.first = first;
    span.count = count;
    return span;
}

static inline Wire__Fence fence_of(const uint8_t *batch, uint64_t first, uint32_t count, uint32_t attempt)
{
    Wire__Fence fence = WIRE__FENCE__INIT;
    fence.batch = wire_id_bytes(batch);
    fence.first = first;
    fence.count = count;
    fence.epoch = 1;
    fence.attempt = attempt;
    return fence;
}

/* count 0: the whole batch */
static inline void cancel(struct world *w, const uint8_t *batch, uint64_t first, uint64_t count, Wire__Reason reason, bool silent)
{
    Wire__Span span = span_of(first, count), *spans[] = {&span};
    Wire__CancelTasks cancel = WIRE__CANCEL_TASKS__INIT;
    cancel.number = 9;
    cancel.batch = wire_id_bytes(batch);
    cancel.tasks = spans;
    cancel.n_tasks = count > 0;
    cancel.reason = reason;
    cancel.silent = silent;
    Wire__Lane m = WIRE__LANE__INIT;
    m.what_case = WIRE__LANE__WHAT_CANCEL;
    m.cancel = &cancel;
    lane(w, &m, (struct slice){0});
}

static inline void release(struct world *w, const uint8_t *batch, uint64_t first, uint32_t count, uint32_t attempt)
{
    Wire__Fence fence = fence_of(batch, first, count, attempt), *fences[] = {&fence};
    Wire__Release release = WIRE__RELEASE__INIT;
    release.fences = fences;
    release.n_fences = 1;
    Wire__Lane m = WIRE__LANE__INIT;
    m.what_case = WIRE__LANE__WHAT_RELEASE;
    m.release = &release;
    lane(w, &m, (struct slice){0});
}

static inline void end_with(struct world *w, uint32_t slot, struct agent_end end)
{
    end.run_ns = 3 * MS;
    agent_ended(w->agent, w->now, slot, &end);
}

static inline void end_ok(struct world *w, uint32_t slot, const char *output)
{
    end_with(w, slot, (struct agent_end){.how = AGENT_EXITED, .output = {.data = (const uint8_t *)output, .len = strlen(output)}});
}

static inline void end_killed(struct world *w, uint32_t slot) { end_with(w, slot, (struct agent_end){.how = AGENT_SIGNALLED, .code = 15, .term_sent = true}); }

static inline struct agent_counts counts(const struct world *w)
{
    struct agent_counts c;
    agent_count(w->agent, w->now, &c);
    return c;
}

/* Up to an open lane, the sink there, and nothing to do. */
static inline void shake_hands(struct world *w)
{
    agent_control(w->agent, w->now, true);
    welcome_dropping(w, NULL, 0);
    open_lane(w);
    agent_sink(w->agent, w->now, true);
    tick(w);
    EXPECT(w, "hello\nsink 5557\ndial 5600\nopened\nbeat 1 read=1\n");
    answer(w, 1);
}

/* The ventilator answers each heartbeat: the lease goes on while nothing happens. */
static inline void live(struct world *w, int64_t ns)
{
    mono_t end = mono_add(w->now, ns);
    while (mono_before(w->now, end)) {
        pass(w, 100 * MS);
        answer(w, w->last_beat);
    }
}

static inline int setup(void **state)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    build(w, 2);
    *state = w;
    return 0;
}

static inline int teardown(void **state)
{
    struct world *w = *state;
    agent_destroy(&w->agent);
    assert_null(w->agent);
    free(w);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

#endif
