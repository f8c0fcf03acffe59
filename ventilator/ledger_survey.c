/* The whole at a glance, for the control tower: one walk over batches, workers and what flies. */
#include "ventilator/ledger_survey.h"

#include <string.h>

#include "ventilator/ledger_private.h"

#define FLIGHTS_MOST 200000u        /* that one walk looks at: about 20 ms */

const char *survey_phase_name(enum survey_phase phase)
{
    static const char *const names[SURVEY_PHASES] = {"waiting", "running", "stopping", "landing"};
    return names[phase];
}

struct walk {
    const struct ledger *l;
    mono_t now;
    const struct survey_visitor *visitor;
    struct survey_totals *totals;
    uint32_t flights;
};

/* ---- batches ---- */

static uint64_t batch_waiting(const struct batch *b)
{
    return b->complete ? 0 : batch_queued(b) + HASH_COUNT(b->waitings) + b->in_closings;
}

static uint64_t batch_wanted(const struct batch *b)
{
    bool starts_none = b->cancelled || b->too_late || b->disowned || b->damage != NULL;
    uint64_t n = (starts_none ? 0 : batch_queued(b)) + b->in_flight;
    return b->options->max_running > 0 && n > b->options->max_running ? b->options->max_running : n;
}

static void show_batch(struct walk *walk, const struct batch *b)
{
    struct survey_batch seen = {
        .number = b->number, .short_id = b->short_id, .name = b->options->name, .handler = b->options->handler, .state = batch_state(b),
        .total = b->admitted, .queued = batch_waiting(b), .in_flight = b->in_flight, .settled = b->settled, .retried = b->retried,
        .duplicates = b->duplicates, .rate = b->rate, .recovering = b->recovery != RECOVERED, .disowned = b->disowned,
        .damaged = b->damage != NULL,
        .deadline_left = mono_is_never(b->deadline) ? INT64_MAX : mono_since(b->deadline, walk->now),
    };
    memcpy(seen.counts, b->counts, sizeof seen.counts);
    walk->visitor->batch(walk->visitor->arg, &seen);
}

static void walk_batches(struct walk *walk)
{
    const struct batch *b;
    TAILQ_FOREACH(b, &walk->l->open, open_link) {
        walk->totals->queued += batch_waiting(b);
        walk->totals->wanted += batch_wanted(b);
        walk->totals->recovering += b->recovery != RECOVERED;
        if (walk->visitor->batch != NULL)
            show_batch(walk, b);
    }
}

/* ---- what flies ---- */

static mono_t began_at(const struct flight *f, uint32_t at)
{
    if (f->began != NULL && f->began[at] > 0)
        return mono_add(f->assigned, (int64_t)(f->began[at] - 1) * NS_PER_MS);
    return f->reported.ns != 0 && f->began == NULL ? f->reported : f->assigned;
}

/* The earliest bound of an attempt that began then. */
static void find_bound(const struct walk *walk, const struct batch *b, mono_t began, struct survey_attempt *seen)
{
    mono_t bound = b->options->timeout != NULL ? mono_add(began, us_to_ns(b->options->timeout->us)) : MONO_NEVER;
    bound = mono_min(bound, b->deadline);
    seen->left = mono_is_never(bound) ? INT64_MAX : mono_since(bound, walk->now);
    seen->budget = mono_is_never(bound) ? INT64_MAX : mono_since(bound, began);
}

static int used_thousandths(const struct survey_attempt *seen)
{
    if (seen->budget == INT64_MAX)
        return -1;
    if (seen->left <= 0 || seen->budget <= 0)
        return 1000;
    return (int)(1000 - 1000.0 * (double)seen->left / (double)seen->budget);
}

static void show_attempt(struct walk *walk, const struct flight *f, uint32_t at, bool stops, struct survey_worker *w)
{
    mono_t began = began_at(f, at);
    struct survey_attempt seen = {
        .batch = f->batch->number, .worker = w->number, .short_id = f->batch->short_id, .worker_name = w->name,
        .handler = f->batch->options->handler, .index = f->first + at, .attempt = f->past.attempts,
        .phase = stops ? SURVEY_STOPPING : SURVEY_RUNNING, .age = mono_since(walk->now, began), .worker_silent = w->silent_too_long,
    };
    find_bound(walk, f->batch, began, &seen);
    int used = used_thousandths(&seen);
    w->worst = used > w->worst ? used : w->worst;
    if (walk->visitor->attempt != NULL)
        walk->visitor->attempt(walk->visitor->arg, &seen);
}

static bool is_stopping(const struct batch *b)
{
    return (b->cancelled && !halt_lets_finish(b)) || b->deadline_passed;
}

static void walk_flight(struct walk *walk, const struct flight *f, struct survey_worker *w)
{
    bool all_stop = is_stopping(f->batch);
    for (uint32_t word = 0; word * 64 < f->count; word++) {
        uint64_t ended = f->ended[word], done = f->done[word], all = word_mask(word, 0, f->count);
        uint64_t running = f->started[word] & ~ended & all, stops = all_stop ? running : running & done;
        w->phases[SURVEY_RUNNING] += (uint64_t)__builtin_popcountll(running & ~stops);
        w->phases[SURVEY_STOPPING] += (uint64_t)__builtin_popcountll(stops);
        w->phases[SURVEY_LANDING] += (uint64_t)__builtin_popcountll(ended & ~done & all);
        w->phases[SURVEY_WAITING] += (uint64_t)__builtin_popcountll(~ended & ~f->started[word] & ~done & all);
        for (; running != 0; running &= running - 1) {
            uint32_t bit = (uint32_t)__builtin_ctzll(running);
            show_attempt(walk, f, word * 64 + bit, stops >> bit & 1, w);
        }
    }
}

/* ---- workers ---- */

static void count_worker(struct walk *walk, const struct survey_worker *w)
{
    struct survey_totals *t = walk->totals;
    t->busy += w->busy;
    t->draining_workers += w->draining;
    t->silent_workers += w->silent_too_long;
    for (size_t i = 0; i < SURVEY_PHASES; i++)
        t->phases[i] += w->phases[i];
}

static void walk_worker(struct walk *walk, const struct worker *w)
{
    const struct ledger *l = walk->l;
    struct survey_worker seen = {
        .number = w->number, .name = w->name, .state = worker_state_name(l, w), .slots = w->slots, .busy = w->busy, .held = w->held,
        .window = w->window, .finished = w->finished, .run_us = w->run_us, .result_bytes = w->result_bytes,
        .unreleased_bytes = w->unreleased_bytes, .unreleased = w->unreleased, .queued = w->queued, .silent = mono_since(l->now, w->heard),
        .service = w->pace.service, .round_trip = w->round_trip, .draining = w->draining, .commands = w->hello->commands, .worst = -1,
    };
    seen.silent_too_long = w->state == WORKER_AWAY || seen.silent > 3 * l->config.heartbeat;
    const struct flight *f;
    TAILQ_FOREACH(f, &w->flights, at_worker) {
        if (walk->flights++ >= FLIGHTS_MOST) {
            walk->totals->cut_short = true;
            break;
        }
        walk_flight(walk, f, &seen);
    }
    count_worker(walk, &seen);
    if (walk->visitor->worker != NULL)
        walk->visitor->worker(walk->visitor->arg, &seen);
}

void ledger_survey(const struct ledger *l, mono_t now, const struct survey_visitor *visitor, struct survey_totals *ret)
{
    *ret = (struct survey_totals){
        .epoch = l->epoch, .batches = HASH_CNT(hh, l->by_id), .open_batches = l->counts.open_batches, .recorded = l->counts.recorded,
        .retried = l->counts.retried, .duplicates = l->counts.duplicates, .losses = l->counts.losses, .dispatched = l->counts.dispatched,
        .refused = l->counts.refused, .stale = l->counts.stale_messages, .flights = l->counts.flights, .cached_bytes = l->supply_bytes,
        .workers = HASH_CNT(hh, l->by_session), .slots = l->n_slots, .sink_present = l->sink_present, .sink_full = l->sink_full,
        .journal_full = l->full, .draining = l->draining, .sink_silent = l->sink_present ? mono_since(l->now, l->sink_heard) : 0,
    };
    memcpy(ret->verdicts, l->counts.verdicts, sizeof ret->verdicts);
    struct walk walk = {.l = l, .now = now, .visitor = visitor, .totals = ret};
    walk_batches(&walk);
    for (const struct worker *w = l->by_session; w != NULL; w = w->hh.next)
        walk_worker(&walk, w);
}

bool ledger_survey_batch(const struct ledger *l, mono_t now, uint64_t number, const struct survey_visitor *visitor)
{
    struct walk walk = {.l = l, .now = now, .visitor = visitor};
    const struct batch *b;
    HASH_FIND(hh_number, l->by_number, &number, sizeof number, b);
    if (b != NULL)
        show_batch(&walk, b);
    return b != NULL;
}

bool ledger_is_sink(const struct ledger *l, uint64_t session)
{
    return l->sink_present && l->sink_session == session;
}

bool ledger_batch_number(const struct ledger *l, const char *short_id, uint64_t *ret_number)
{
    const struct batch *b;
    HASH_FIND(hh_short, l->by_short, short_id, strlen(short_id), b);
    if (b == NULL)
        return false;
    *ret_number = b->number;
    return true;
}

bool ledger_batch_number_of(const struct ledger *l, const uint8_t id[WIRE_ID], uint64_t *ret_number)
{
    const struct batch *b;
    HASH_FIND(hh, l->by_id, id, WIRE_ID, b);
    if (b == NULL)
        return false;
    *ret_number = b->number;
    return true;
}

const char *ledger_batch_handler(const struct ledger *l, uint64_t number)
{
    const struct batch *b;
    HASH_FIND(hh_number, l->by_number, &number, sizeof number, b);
    return b != NULL ? b->options->handler : "";
}
