/* Where tasks are. Every index of [0, admitted) is in exactly one place: at or after the cursor, in
 * a hole, waiting, in a flight (not done), in a closing, or settled. Tasks move between these places here
 * and nowhere else; ledger_audit checks it. */
#include "ventilator/ledger_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int hole_cmp(const struct hole *a, const struct hole *b)
{
    return a->first < b->first ? -1 : a->first > b->first;
}
int flight_cmp(const struct flight *a, const struct flight *b)
{
    return a->first < b->first ? -1 : a->first > b->first;
}
int closing_cmp(const struct closing *a, const struct closing *b)
{
    if (a->first != b->first)
        return a->first < b->first ? -1 : 1;
    return a->number < b->number ? -1 : a->number > b->number;
}
RB_GENERATE(closing_tree, closing, place_link, closing_cmp)
RB_GENERATE(hole_tree, hole, link, hole_cmp)
RB_GENERATE(care_tree, hole, care_link, hole_cmp)
RB_GENERATE(flight_tree, flight, link, flight_cmp)

/* ---- bits ---- */

static size_t words_for(uint32_t count)
{
    return ((size_t)count + 63) / 64;
}

bool bit_get(const uint64_t *bits, uint32_t at)
{
    return (bits[at / 64] >> (at % 64)) & 1;
}

uint64_t word_mask(uint32_t w, uint32_t from, uint32_t to)
{
    uint32_t low = w * 64, high = low + 64;
    uint64_t mask = ~UINT64_C(0);
    if (from > low)
        mask &= ~UINT64_C(0) << (from - low);
    if (to < high)
        mask &= ~UINT64_C(0) >> (high - to);
    return mask;
}

uint32_t bits_fill(uint64_t *bits, uint32_t from, uint32_t n)
{
    uint32_t fresh = 0, to = from + n;
    for (uint32_t w = from / 64; n > 0 && w * 64 < to; w++) {
        uint64_t mask = word_mask(w, from, to);
        fresh += (uint32_t)__builtin_popcountll(mask & ~bits[w]);
        bits[w] |= mask;
    }
    return fresh;
}

static uint32_t bits_count(const uint64_t *bits, uint32_t count)
{
    uint32_t n = 0;
    for (uint32_t w = 0; w < words_for(count); w++)
        n += (uint32_t)__builtin_popcountll(bits[w] & word_mask(w, 0, count));
    return n;
}

/* Copies n bits from `from` on to the beginning of `to`. */
static void bits_copy(uint64_t *to, const uint64_t *bits, uint32_t from, uint32_t n)
{
    uint32_t shift = from % 64;
    for (uint32_t w = 0; w < words_for(n); w++) {
        uint32_t at = from / 64 + w;
        uint64_t word = bits[at] >> shift;
        if (shift > 0 && at + 1 < words_for(from + n))
            word |= bits[at + 1] << (64 - shift);
        to[w] = word & word_mask(w, 0, n);
    }
}

/* ---- the queue: holes and the cursor ---- */

struct hole *hole_after(struct batch *b, uint64_t index)
{
    struct hole key = {.first = index};
    struct hole *h = RB_NFIND(hole_tree, &b->holes, &key);
    struct hole *previous = h != NULL ? RB_PREV(hole_tree, &b->holes, h) : RB_MAX(hole_tree, &b->holes);
    return previous != NULL && previous->first + previous->count > index ? previous : h;
}

struct hole *hole_at(struct batch *b, uint64_t index)
{
    struct hole *h = hole_after(b, index);
    return h != NULL && h->first <= index ? h : NULL;
}

uint64_t batch_queued(const struct batch *b)
{
    return b->in_holes + (b->admitted - b->cursor);
}

static bool same_past(struct past a, struct past b)
{
    return a.attempts == b.attempts && a.tries == b.tries && a.forgiven == b.forgiven && a.losses == b.losses && a.alone == b.alone
           && memcmp(a.lost, b.lost, sizeof a.lost) == 0;
}

/* Tasks come into holes, or leave them. */
static void holes_more(struct ledger *l, struct batch *b, enum care care, uint64_t n)
{
    if (care == CARE_LAST && b->in_care[care] == 0)
        TAILQ_INSERT_TAIL(&l->quarantine, b, quarantine_link);
    b->in_holes += n;
    b->in_care[care] += n;
}

static void holes_less(struct ledger *l, struct batch *b, enum care care, uint64_t n)
{
    b->in_holes -= n;
    b->in_care[care] -= n;
    if (care == CARE_LAST && b->in_care[care] == 0)
        TAILQ_REMOVE(&l->quarantine, b, quarantine_link);
}

static void hole_free(struct ledger *l, struct batch *b, struct hole *h)
{
    RB_REMOVE(hole_tree, &b->holes, h);
    RB_REMOVE(care_tree, &b->by_care[h->care], h);
    l->counts.holes--;
    free(h);
}

void drop_holes(struct ledger *l, struct batch *b)
{
    struct hole *h, *next;
    RB_FOREACH_SAFE(h, hole_tree, &b->holes, next) {
        holes_less(l, b, h->care, h->count);
        hole_free(l, b, h);
    }
}

void put_hole(struct ledger *l, struct batch *b, uint64_t first, uint64_t count, struct past past)
{
    if (count == 0)
        return;
    enum care care = care_of(l, &past);
    holes_more(l, b, care, count);
    struct hole key = {.first = first};
    struct hole *next = RB_NFIND(hole_tree, &b->holes, &key);
    struct hole *previous = next != NULL ? RB_PREV(hole_tree, &b->holes, next) : RB_MAX(hole_tree, &b->holes);
    if (previous != NULL && previous->first + previous->count == first && same_past(previous->past, past)) {
        previous->count += count;
        if (next != NULL && previous->first + previous->count == next->first && same_past(next->past, past)) {
            previous->count += next->count;
            hole_free(l, b, next);
        }
        return;
    }
    if (next != NULL && first + count == next->first && same_past(next->past, past)) {
        next->first = first;         /* keeps its order: nothing lies between */
        next->count += count;
        return;
    }
    struct hole *h = calloc(1, sizeof *h);
    BUG_IF_NO_MEMORY(h);
    h->first = first;
    h->count = count;
    h->care = care;
    h->past = past;
    RB_INSERT(hole_tree, &b->holes, h);
    RB_INSERT(care_tree, &b->by_care[care], h);
    l->counts.holes++;
}

/* Takes [from, to) out of the hole h, which overlaps it. How many tasks that were. */
static uint64_t cut_hole(struct ledger *l, struct batch *b, struct hole *h, uint64_t from, uint64_t to)
{
    uint64_t end = h->first + h->count;
    uint64_t low = from > h->first ? from : h->first, high = to < end ? to : end;
    struct past past = h->past;
    uint64_t head = low - h->first, tail = end - high;
    holes_less(l, b, h->care, high - low);
    if (head > 0) {
        h->count = head;
        if (tail > 0) {
            holes_less(l, b, h->care, tail);
            put_hole(l, b, high, tail, past);
        }
    } else if (tail > 0) {
        h->first = high;
        h->count = tail;
    } else {
        hole_free(l, b, h);
    }
    return high - low;
}

uint64_t take_queued(struct ledger *l, struct batch *b, uint64_t first, uint64_t count)
{
    uint64_t to = first + count, taken = 0;
    struct hole *h = hole_after(b, first);
    while (h != NULL && h->first < to) {
        struct hole *next = RB_NEXT(hole_tree, &b->holes, h);
        taken += cut_hole(l, b, h, first, to);
        h = next;
    }
    if (to > b->admitted)
        to = b->admitted;
    if (to > b->cursor) {
        uint64_t from = first > b->cursor ? first : b->cursor, gap = b->cursor;
        b->cursor = to;
        taken += to - from;
        put_hole(l, b, gap, from - gap, (struct past){0});
    }
    return taken;
}

uint64_t queued_run(struct batch *b, uint64_t first, uint64_t count, struct past *ret_past)
{
    struct hole *h = hole_at(b, first);
    if (h != NULL) {
        uint64_t n = h->first + h->count - first;
        *ret_past = h->past;
        return n < count ? n : count;
    }
    *ret_past = (struct past){0};
    if (first < b->cursor || first >= b->admitted)
        return 0;
    return b->admitted - first < count ? b->admitted - first : count;
}

/* ---- waiting ---- */

static void waiting_due(struct ledger *l, void *owner)
{
    struct waiting *w = owner;
    struct batch *b = w->batch;
    uint64_t index = w->index;
    struct past past = w->past;
    drop_waiting(l, w);
    requeue(l, b, index, 1, past);
    batch_moved(l, b);
}

struct waiting *put_waiting(struct ledger *l, struct batch *b, uint64_t index, struct past past, int64_t delay)
{
    struct waiting *w = calloc(1, sizeof *w);
    BUG_IF_NO_MEMORY(w);
    w->batch = b;
    w->index = index;
    w->past = past;
    HASH_ADD(hh, b->waitings, index, sizeof w->index, w);
    due_set(l, &w->due, mono_add(l->now, delay), waiting_due, w);
    return w;
}

void drop_waiting(struct ledger *l, struct waiting *w)
{
    due_clear(l, &w->due);
    HASH_DEL(w->batch->waitings, w);
    free(w);
}

void span_add(struct span_list *list, uint64_t first, uint64_t count)
{
    Wire__Span *last = list->n > 0 ? &list->at[list->n - 1] : NULL;
    if (last != NULL && last->first + last->count == first) {
        last->count += count;
        return;
    }
    if (list->n == list->room) {
        list->room = list->room > 0 ? 2 * list->room : 16;
        list->at = reallocarray(list->at, list->room, sizeof *list->at);
        BUG_IF_NO_MEMORY(list->at);
    }
    wire__span__init(&list->at[list->n]);
    list->at[list->n].first = first;
    list->at[list->n++].count = count;
}

static void end_waiting(struct ledger *l, struct waiting *w, struct span_list *taken)
{
    if (taken != NULL)
        span_add(taken, w->index, 1);
    drop_waiting(l, w);
}

uint64_t take_waiting(struct ledger *l, struct batch *b, uint64_t first, uint64_t end, struct span_list *taken)
{
    struct waiting *w, *next;
    uint64_t before = HASH_COUNT(b->waitings);
    if (end - first < before) {
        for (uint64_t index = first; index < end; index++) {
            HASH_FIND(hh, b->waitings, &index, sizeof index, w);
            if (w != NULL)
                end_waiting(l, w, taken);
        }
    } else {
        HASH_ITER(hh, b->waitings, w, next)
            if (w->index >= first && w->index < end)
                end_waiting(l, w, taken);
    }
    return before - HASH_COUNT(b->waitings);
}

/* ---- flights ---- */

#define LONG_NS NS_PER_S

/* What nothing is known of may take long, and nothing takes longer than that. */
static uint64_t work_of(const struct flight *f)
{
    return (uint64_t)(f->service > 0 && f->service < LONG_NS ? f->service : LONG_NS);
}

/* So many of f take up their part of the worker's credit, and of its time; or no longer. */
static void credit_take(const struct flight *f, uint32_t n)
{
    f->worker->filled += n * f->charge;
    f->worker->work += n * work_of(f);
}

static void credit_give_back(const struct flight *f, uint32_t n)
{
    f->worker->filled -= n * f->charge;
    f->worker->work -= n * work_of(f);
}

void flights_charge(struct worker *w, const struct batch *b)
{
    struct flight *f;
    TAILQ_FOREACH(f, &w->flights, at_worker) {
        if (f->batch != b || f->service > 0)
            continue;
        credit_give_back(f, f->unended);
        f->service = pace_of(w, b);
        f->charge = pace_charge(w, f->service);
        credit_take(f, f->unended);
    }
}

/* A worker holds more attempts of f that have not ended, or fewer. */
static void hold_more(struct ledger *l, const struct flight *f, uint32_t n)
{
    struct worker *w = f->worker;
    enum care care = care_of(l, &f->past);
    w->held += n;
    credit_take(f, n);
    f->batch->unended += n;
    stake_more(l, w, f->batch->want, n);
    w->suspects += care == CARE_SUSPECT ? n : 0;
    l->n_alone += care == CARE_LAST && w->last == 0 && n > 0;
    w->last += care == CARE_LAST ? n : 0;
}

static void hold_less(struct ledger *l, const struct flight *f, uint32_t n)
{
    struct worker *w = f->worker;
    enum care care = care_of(l, &f->past);
    w->held -= n;
    credit_give_back(f, n);
    f->batch->unended -= n;
    stake_less(l, w, f->batch->want, n);
    w->suspects -= care == CARE_SUSPECT ? n : 0;
    w->last -= care == CARE_LAST ? n : 0;
    l->n_alone -= care == CARE_LAST && w->last == 0 && n > 0;
}

struct flight *flight_after(struct batch *b, uint64_t index)
{
    struct flight key = {.first = index};
    struct flight *f = RB_NFIND(flight_tree, &b->flights, &key);
    struct flight *previous = f != NULL ? RB_PREV(flight_tree, &b->flights, f) : RB_MAX(flight_tree, &b->flights);
    return previous != NULL && previous->first + previous->count > index ? previous : f;
}

struct flight *flight_at(struct batch *b, uint64_t index)
{
    struct flight *f = flight_after(b, index);
    return f != NULL && f->first <= index ? f : NULL;
}

/* Attempts that take long fly in small numbers: the start of each one is kept. */
#define BEGAN_MOST 64u

static struct flight *flight_make(uint32_t count)
{
    size_t words = words_for(count);
    size_t times = count <= BEGAN_MOST ? count * sizeof(uint32_t) : 0;
    struct flight *f = calloc(1, sizeof *f + 3 * words * sizeof(uint64_t) + times);
    if (f == NULL)
        return NULL;
    f->count = count;
    f->done = (uint64_t *)(f + 1);
    f->ended = f->done + words;
    f->started = f->ended + words;
    f->began = times > 0 ? (uint32_t *)(void *)(f->started + words) : NULL;
    return f;
}

/* Payloads of what runs or has ended have arrived: nothing waits behind them any more. */
static bool give_bytes_back(struct flight *f)
{
    if (f->bytes == 0 || flight_waits(f))
        return false;
    f->worker->held_bytes -= f->bytes;
    f->bytes = 0;
    return true;
}

void flight_began(struct ledger *l, struct flight *f, uint64_t first, uint32_t count)
{
    int64_t ms = mono_since(l->now, f->assigned) / NS_PER_MS;
    f->reported = l->now;
    for (uint32_t i = 0, at = (uint32_t)(first - f->first); f->began != NULL && i < count; i++)
        if (f->began[at + i] == 0)
            f->began[at + i] = ms < UINT32_MAX ? (uint32_t)ms + 1 : UINT32_MAX;
    bits_fill(f->started, (uint32_t)(first - f->first), count);
    if (give_bytes_back(f))
        worker_room(l, f->worker);
}

bool flight_waits(const struct flight *f)
{
    for (uint32_t w = 0; w < words_for(f->count); w++)
        if ((~(f->started[w] | f->ended[w]) & word_mask(w, 0, f->count)) != 0)
            return true;
    return false;
}

struct flight *put_flight(struct ledger *l, struct batch *b, struct worker *w, uint64_t first, uint32_t count,
                          uint64_t epoch, struct past past, uint64_t bytes)
{
    struct flight *f = flight_make(count);
    if (f == NULL)
        return NULL;
    f->batch = b;
    f->worker = w;
    f->first = first;
    f->epoch = epoch;
    f->past = past;
    f->open = f->unended = count;
    f->bytes = bytes;
    f->service = pace_of(w, b);
    f->charge = pace_charge(w, f->service);
    f->assigned = l->now;
    RB_INSERT(flight_tree, &b->flights, f);
    TAILQ_INSERT_TAIL(&w->flights, f, at_worker);
    b->in_flight += count;
    hold_more(l, f, count);
    w->held_bytes += bytes;
    l->counts.flights++;
    return f;
}

/* What is left of f from `at` on becomes a flight of its own behind it. */
static struct flight *flight_split(struct ledger *l, struct flight *f, uint32_t at)
{
    struct flight *rest = flight_make(f->count - at);
    if (rest == NULL)
        return NULL;
    uint64_t *done = f->done, *ended = f->ended, *started = f->started;
    bits_copy(rest->done, done, at, rest->count);
    bits_copy(rest->ended, ended, at, rest->count);
    bits_copy(rest->started, started, at, rest->count);
    if (f->began != NULL)
        memcpy(rest->began, f->began + at, rest->count * sizeof *rest->began);
    rest->batch = f->batch;
    rest->worker = f->worker;
    rest->first = f->first + at;
    rest->epoch = f->epoch;
    rest->past = f->past;
    rest->service = f->service;
    rest->charge = f->charge;
    rest->assigned = f->assigned;
    rest->reported = f->reported;
    rest->open = rest->count - bits_count(rest->done, rest->count);
    rest->unended = rest->count - bits_count(rest->ended, rest->count);
    rest->bytes = f->bytes * rest->count / f->count;
    f->bytes -= rest->bytes;
    f->count = at;
    f->open -= rest->open;
    f->unended -= rest->unended;
    give_bytes_back(f);
    give_bytes_back(rest);
    RB_INSERT(flight_tree, &f->batch->flights, rest);
    TAILQ_INSERT_AFTER(&f->worker->flights, f, rest, at_worker);
    l->counts.flights++;
    return rest;
}

struct flight *flight_carve(struct ledger *l, struct flight *f, uint64_t first, uint32_t count)
{
    struct flight *front = NULL, *rest = NULL;
    if (first > f->first) {
        front = f;
        if ((f = flight_split(l, f, (uint32_t)(first - f->first))) == NULL)
            return NULL;
    }
    if (count < f->count && (rest = flight_split(l, f, count)) == NULL)
        return NULL;
    if (front != NULL)
        flight_prune(l, front);
    if (rest != NULL)
        flight_prune(l, rest);
    return f;
}

uint32_t flight_end(struct ledger *l, struct flight *f, uint64_t first, uint32_t count)
{
    uint32_t n = bits_fill(f->ended, (uint32_t)(first - f->first), count);
    if (n == 0)
        return 0;
    f->unended -= n;
    hold_less(l, f, n);
    give_bytes_back(f);
    worker_room(l, f->worker);
    return n;
}

uint32_t flight_settle(struct flight *f, uint64_t first, uint32_t count)
{
    uint32_t n = bits_fill(f->done, (uint32_t)(first - f->first), count);
    f->open -= n;
    f->batch->in_flight -= n;
    return n;
}

void flight_prune(struct ledger *l, struct flight *f)
{
    if (f->open == 0 && f->unended == 0)
        flight_drop(l, f);
}

void flight_drop(struct ledger *l, struct flight *f)
{
    f->batch->in_flight -= f->open;
    hold_less(l, f, f->unended);
    f->worker->held_bytes -= f->bytes;
    RB_REMOVE(flight_tree, &f->batch->flights, f);
    TAILQ_REMOVE(&f->worker->flights, f, at_worker);
    l->counts.flights--;
    worker_room(l, f->worker);
    free(f);
}

uint32_t flight_open_run(const struct flight *f, uint64_t *first)
{
    uint64_t end = f->first + f->count, i = *first < f->first ? f->first : *first;
    while (i < end && bit_get(f->done, (uint32_t)(i - f->first)))
        i++;
    *first = i;
    while (i < end && !bit_get(f->done, (uint32_t)(i - f->first)))
        i++;
    return (uint32_t)(i - *first);
}

/* ---- closings ---- */

struct closing *put_closing(struct ledger *l, struct batch *b, uint64_t first, uint64_t count, Wire__Verdict verdict,
                            Wire__Reason reason, const char *sentence)
{
    struct closing *c = calloc(1, sizeof *c);
    BUG_IF_NO_MEMORY(c);
    c->number = l->epoch << 32 | l->next_closing++;     /* counted alone: of recalls there may be more than half a number holds */
    c->first = first;
    c->count = c->expected = count;
    c->verdict = verdict;
    c->reason = reason;
    if (sentence != NULL && sentence[0] != '\0') {
        c->sentence = strdup(sentence);
        BUG_IF_NO_MEMORY(c->sentence);
    }
    TAILQ_INSERT_TAIL(&b->closings, c, link);
    HASH_ADD(hh, b->closing_by_number, number, sizeof c->number, c);
    RB_INSERT(closing_tree, &b->closing_places, c);
    b->in_closings += count;
    return c;
}

void drop_closing(struct batch *b, struct closing *c)
{
    b->in_closings -= c->expected;
    TAILQ_REMOVE(&b->closings, c, link);
    HASH_DEL(b->closing_by_number, c);
    RB_REMOVE(closing_tree, &b->closing_places, c);
    free(c->sentence);
    free(c);
}

struct closing *closing_at(struct batch *b, uint64_t index)
{
    struct closing key = {.first = index, .number = UINT64_MAX};
    struct closing *c = RB_NFIND(closing_tree, &b->closing_places, &key);
    c = c != NULL ? RB_PREV(closing_tree, &b->closing_places, c) : RB_MAX(closing_tree, &b->closing_places);
    return c != NULL && index - c->first < c->count ? c : NULL;
}

/* ---- the audit ---- */

static int audit_batch(const struct batch *b, struct why *why)
{
    struct batch *open = (struct batch *)(uintptr_t)b;      /* the tree macros are not const */
    uint64_t holes = 0, flying = 0, held = 0, closing = 0, end = 0, sum = 0, by_care[CARES] = {0};
    struct hole *h;
    RB_FOREACH(h, hole_tree, &open->holes) {
        if (h->count == 0 || h->first < end || h->first + h->count > b->cursor)
            return why_set(why, "batch %s: hole [%" PRIu64 " +%" PRIu64 ") overlaps or passes the cursor", b->short_id, h->first, h->count);
        end = h->first + h->count;
        holes += h->count;
        by_care[h->care] += h->count;
    }
    if (memcmp(by_care, b->in_care, sizeof by_care) != 0)
        return why_set(why, "batch %s: the holes that are on their last chance, or suspect, are miscounted", b->short_id);
    struct flight *f;
    end = 0;
    RB_FOREACH(f, flight_tree, &open->flights) {
        uint32_t is_open = f->count - bits_count(f->done, f->count), unended = f->count - bits_count(f->ended, f->count);
        if (f->first < end || is_open != f->open || unended != f->unended || (is_open == 0 && unended == 0))
            return why_set(why, "batch %s: flight [%" PRIu64 " +%u) is miscounted or overlaps", b->short_id, f->first, f->count);
        end = f->first + f->count;
        flying += is_open;
        held += unended;
    }
    if (held != b->unended)
        return why_set(why, "batch %s: %" PRIu64 " attempts have not ended by its counter, %" PRIu64 " by its flights", b->short_id, b->unended, held);
    const struct closing *c;
    TAILQ_FOREACH(c, &b->closings, link)
        closing += c->expected;
    for (size_t i = 0; i < WIRE_VERDICTS; i++)
        sum += b->counts[i];
    if (holes != b->in_holes || flying != b->in_flight || closing != b->in_closings || sum != b->settled)
        return why_set(why, "batch %s: counters disagree: holes %" PRIu64 "/%" PRIu64 " flights %" PRIu64 "/%" PRIu64
                       " closings %" PRIu64 "/%" PRIu64 " settled %" PRIu64 "/%" PRIu64, b->short_id, b->in_holes, holes,
                       b->in_flight, flying, b->in_closings, closing, b->settled, sum);
    uint64_t all = batch_queued(b) + HASH_COUNT(b->waitings) + flying + closing + b->settled;
    if (b->recovery != RECOVER_ASK && !b->partly_told && all != b->admitted)
        return why_set(why, "batch %s: %" PRIu64 " tasks are somewhere, %" PRIu64 " were admitted", b->short_id, all, b->admitted);
    return 0;
}

static int audit_worker(const struct ledger *l, const struct worker *w, struct why *why)
{
    uint64_t held = 0, by_care[CARES] = {0};
    const struct flight *f;
    TAILQ_FOREACH(f, &w->flights, at_worker) {
        held += f->unended;
        by_care[care_of(l, &f->past)] += f->unended;
    }
    if (held != w->held)
        return why_set(why, "worker %s: holds %u by its counter, %" PRIu64 " by its flights", w->name, w->held, held);
    if (by_care[CARE_SUSPECT] != w->suspects || by_care[CARE_LAST] != w->last)
        return why_set(why, "worker %s: its tasks that were at lost workers are miscounted", w->name);
    return 0;
}

/* Complete batches, too: a retry reads them. */
static int audit_loading(const struct ledger *l, struct why *why)
{
    uint64_t batches = 0, by_want = 0;
    for (const struct batch *b = l->by_id; b != NULL; b = b->hh.next)
        batches += b->loading;
    for (const struct want *want = l->wants; want != NULL; want = want->hh.next)
        by_want += want->n_loading;
    if (l->n_loading != batches || by_want != batches)
        return why_set(why, "payloads of %" PRIu64 " batches are being read; of %u by the ledger's counter, of %" PRIu64 " by those of the wants",
                       batches, l->n_loading, by_want);
    return 0;
}

int ledger_audit(const struct ledger *l, struct why *why)
{
    const struct batch *b;
    TAILQ_FOREACH(b, &l->open, open_link)
        if (audit_batch(b, why) < 0)
            return -1;
    for (const struct worker *w = l->by_session; w != NULL; w = w->hh.next)
        if (audit_worker(l, w, why) < 0)
            return -1;
    return audit_loading(l, why);
}
