/* Nested submissions: batches that an attempt has submitted.
 *
 * A batch with a parent is taken in only while that attempt runs. It inherits the values and the trace, and can only
 * tighten the time that is left. When the attempt is stopped or given up, its batches are cancelled, and theirs with
 * them; when it ends by itself they go on, which is journaled: a restart finds them orphans then, not abandoned.
 *
 * Where a parent attempt is follows from its batch's flights, so it is looked up whenever that batch has moved; only how it
 * ended is told by its result alone. */
#include "ventilator/ledger_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum parent_state { PARENT_RUNS, PARENT_OVER /* it ended by itself */, PARENT_GONE };

static bool is_attempt(const struct flight *f, const Wire__Fence *fence)
{
    return f != NULL && f->epoch == fence->epoch && f->past.attempts == fence->attempt;
}

static bool is_stopped(const struct batch *p, uint64_t index)
{
    return (p->cancelled && !halt_lets_finish(p)) || p->deadline_passed || batch_task_cancelled(p, index);
}

/* Whether the sink has its verdict, so far as is known here. */
static bool is_settled(struct batch *p, uint64_t index)
{
    struct waiting *w;
    struct past ignored;
    HASH_FIND(hh, p->waitings, &index, sizeof index, w);
    if (w != NULL || queued_run(p, index, 1, &ignored) > 0)
        return false;
    return closing_at(p, index) == NULL;
}

static enum parent_state parent_state(const struct ledger *l, struct batch *p, const Wire__Fence *fence)
{
    uint64_t index = fence->first;
    if (p->complete)
        return PARENT_OVER;
    if (is_stopped(p, index))
        return PARENT_GONE;
    struct flight *f = flight_at(p, index);
    if (is_attempt(f, fence)) {
        uint32_t at = (uint32_t)(index - f->first);
        /* Settled while it runs: by another attempt, so it is being stopped. */
        return !bit_get(f->done, at) ? PARENT_RUNS : bit_get(f->ended, at) ? PARENT_OVER : PARENT_GONE;
    }
    if (p->recovery != RECOVERED || p->partly_told || l->waiting_for_workers)
        return PARENT_RUNS;         /* its worker may be on its way here */
    bool other = f != NULL && !bit_get(f->done, (uint32_t)(index - f->first));
    return !other && is_settled(p, index) ? PARENT_OVER : PARENT_GONE;
}

static void unlink_child(struct batch *child)
{
    if (child->parent == NULL)
        return;
    LIST_REMOVE(child, sibling);
    child->parent = NULL;
}

void nested_forget(struct batch *b)
{
    unlink_child(b);
    while (!LIST_EMPTY(&b->children))
        unlink_child(LIST_FIRST(&b->children));
}

static void let_go(struct ledger *l, struct batch *child)
{
    unlink_child(child);
    child->parent_over = true;
    batch_tally(l, child);
}

static void cancel_child(struct ledger *l, struct batch *child)
{
    char sentence[160];
    const struct batch *p = child->parent;
    snprintf(sentence, sizeof sentence, "the attempt that submitted it, task %" PRIu64 " of batch %s, was stopped or given up",
             child->options->parent->first, p->short_id);
    unlink_child(child);
    if (!child->cancelled || is_halted(child))
        cancel_by_itself(l, child, WIRE__REASON__PARENT, sentence);
}

static void judge(struct ledger *l, struct batch *child, enum parent_state state)
{
    if (state == PARENT_OVER)
        let_go(l, child);
    else if (state == PARENT_GONE)
        cancel_child(l, child);
}

void nested_judge(struct ledger *l, struct batch *p)
{
    struct batch *child, *next;
    LIST_FOREACH_SAFE(child, &p->children, sibling, next)
        judge(l, child, parent_state(l, p, child->options->parent));
}

void nested_recorded(struct ledger *l, struct batch *p, const Wire__RecordedResult *r)
{
    struct batch *child, *next;
    LIST_FOREACH_SAFE(child, &p->children, sibling, next) {
        const Wire__Fence *fence = child->options->parent;
        uint64_t at = fence->first - r->fence->first;
        if (fence->epoch != r->fence->epoch || fence->attempt != r->fence->attempt || at >= r->fence->count || r->n_verdicts == 0)
            continue;
        Wire__Verdict v = r->verdicts[r->n_verdicts == 1 ? 0 : at];
        bool stopped = v == WIRE__VERDICT__CANCELLED || v == WIRE__VERDICT__DEADLINE_EXCEEDED;
        judge(l, child, stopped ? PARENT_GONE : PARENT_OVER);
    }
}

/* ---- submitting ---- */

static bool has_value(const Wire__Options *o, const char *key)
{
    for (size_t i = 0; i < o->n_values; i++)
        if (strcmp(o->values[i]->key, key) == 0)
            return true;
    return false;
}

/* What the batch has of its own wins. */
static int inherit_values(Wire__Options *to, const Wire__Options *from, struct why *why)
{
    Wire__Value **all = reallocarray(to->values, to->n_values + from->n_values + 1, sizeof *all);
    BUG_IF_NO_MEMORY(all);
    to->values = all;
    for (size_t i = 0; i < from->n_values; i++) {
        if (has_value(to, from->values[i]->key))
            continue;
        all[to->n_values] = (Wire__Value *)wire_copy(&from->values[i]->base);
        BUG_IF_NO_MEMORY(all[to->n_values]);
        to->n_values++;
    }
    size_t bytes = 0;
    for (size_t i = 0; i < to->n_values; i++)
        bytes += strlen(all[i]->key) + strlen(all[i]->value);
    if (to->n_values > WIRE_VALUES || bytes > WIRE_VALUES_SUM)
        return why_set(why, "with the values that it inherits the batch has %zu of them with %zu bytes; at most %u with %u bytes are taken",
                       to->n_values, bytes, WIRE_VALUES, WIRE_VALUES_SUM);
    return 0;
}

/* In options that wire_copy has made: protobuf-c's empty string is nobody's. */
static void set_text(char **at, const char *text)
{
    if (*at != (char *)(uintptr_t)protobuf_c_empty_string)
        free(*at);
    *at = strdup(text);
    BUG_IF_NO_MEMORY(*at);
}

/* A span of the same trace. */
static void inherit_trace(struct ledger *l, Wire__Options *to, const Wire__Options *given, const Wire__Options *from)
{
    uint8_t span[8];
    char text[56];
    if (given->traceparent[0] != '\0' || !wire_traceparent_ok(from->traceparent))
        return;
    l->port.random(l->port.arg, span, sizeof span);
    span[0] |= 1;
    snprintf(text, sizeof text, "%.36s%02x%02x%02x%02x%02x%02x%02x%02x%s", from->traceparent, span[0], span[1], span[2], span[3], span[4],
             span[5], span[6], span[7], from->traceparent + 52);
    set_text(&to->traceparent, text);
    if (from->tracestate[0] != '\0')
        set_text(&to->tracestate, from->tracestate);
}

/* What the attempt has left (ns), at most: the start of a task is known from its report, which comes a little later. */
static int64_t time_left(const struct ledger *l, const struct batch *p, const struct flight *f)
{
    int64_t left = INT64_MAX;
    if (!mono_is_never(p->deadline))
        left = mono_since(p->deadline, l->now);
    if (p->options->timeout == NULL)
        return left;
    mono_t start = f->reported.ns != 0 ? f->reported : l->now;
    int64_t own = mono_since(mono_add(start, us_to_ns(p->options->timeout->us)), l->now);
    return own < left ? own : left;
}

static void tighten(Wire__Options *o, int64_t left)
{
    if (left == INT64_MAX || (o->deadline != NULL && us_to_ns(o->deadline->us) <= left))
        return;
    if (o->deadline == NULL) {
        o->deadline = calloc(1, sizeof *o->deadline);
        BUG_IF_NO_MEMORY(o->deadline);
        wire__micros__init(o->deadline);
    }
    o->deadline->us = ns_to_us(left) > 0 ? ns_to_us(left) : 1;
}

/* NULL: it doesn't run, and why says so. */
static struct flight *parent_flight(struct ledger *l, struct batch *p, const Wire__Fence *fence, Wire__RefusedCode *code, struct why *why)
{
    struct flight *f = p != NULL && !p->complete ? flight_at(p, fence->first) : NULL;
    bool current = is_attempt(f, fence);
    uint32_t at = current ? (uint32_t)(fence->first - f->first) : 0;
    if (current && !bit_get(f->done, at) && !bit_get(f->ended, at) && !is_stopped(p, fence->first))
        return f;
    if (!current && p != NULL && !p->complete && (p->recovery != RECOVERED || l->waiting_for_workers)) {
        *code = WIRE__REFUSED_CODE__NOT_NOW;
        why_set(why, "the ventilator has just started and does not know yet whether the attempt that submits this still runs; try again");
    } else {
        why_set(why, "the attempt that submits this, attempt %u of task %" PRIu64 " of batch %s, %s; with --detach a batch needs no parent", fence->attempt,
                fence->first, p != NULL ? p->short_id : "(not known here)", current ? "is being stopped, or has ended" : "has ended or was given up");
    }
    return NULL;
}

int nested_begin(struct ledger *l, struct batch *b, const Wire__Options *given, Wire__RefusedCode *code, struct why *why)
{
    Wire__Options *o = b->options;
    if (o->parent == NULL)
        return 0;
    struct batch *p = batch_by_id(l, o->parent->batch);
    if (o->detach) {
        if (p == NULL)
            return 0;
        inherit_trace(l, o, given, p->options);
        return inherit_values(o, p->options, why);
    }
    struct flight *f = parent_flight(l, p, o->parent, code, why);
    if (f == NULL || inherit_values(o, p->options, why) < 0)
        return -1;
    inherit_trace(l, o, given, p->options);
    tighten(o, time_left(l, p, f));
    nested_link(l, b);
    return 0;
}

void nested_link(struct ledger *l, struct batch *b)
{
    const Wire__Options *o = b->options;
    struct batch *p = o->parent != NULL && !o->detach ? batch_by_id(l, o->parent->batch) : NULL;
    if (p == NULL || p == b || p->complete)
        return;
    b->parent = p;
    LIST_INSERT_HEAD(&p->children, b, sibling);
}

/* ---- the deadlock: all slots hold parents that wait for queued children ---- */

/* What was sent ahead to a worker waits there for its slot. */
static bool runs_somewhere(const struct batch *b)
{
    struct batch *open = (struct batch *)(uintptr_t)b;      /* the tree macros are not const */
    struct flight *f;
    RB_FOREACH(f, flight_tree, &open->flights)
        for (uint32_t i = 0; i < f->count; i++)
            if (bit_get(f->started, i) && !bit_get(f->done, i))
                return true;
    return false;
}

static bool waits_for_a_slot(const struct batch *b)
{
    return !b->complete && !b->cancelled && b->in_flight + batch_queued(b) > 0 && !runs_somewhere(b);
}

/* Attempts at w whose batches wait for a slot. */
static uint32_t parents_at(const struct worker *w)
{
    uint32_t n = 0;
    const struct flight *f;
    TAILQ_FOREACH(f, &w->flights, at_worker) {
        uint64_t last = UINT64_MAX;
        const struct batch *child;
        LIST_FOREACH(child, &f->batch->children, sibling) {
            const Wire__Fence *fence = child->options->parent;
            if (fence->first - f->first >= f->count || !is_attempt(f, fence) || !waits_for_a_slot(child) || fence->first == last)
                continue;
            last = fence->first;        /* one that submits several does it one after the other: they are neighbours */
            n++;
        }
    }
    return n;
}

/* How many slots could run it, when all of them are so held; else 0. */
static uint64_t slots_held(const struct ledger *l, const struct batch *child)
{
    uint64_t slots = 0;
    if (!waits_for_a_slot(child))
        return 0;
    for (const struct worker *w = l->by_session; w != NULL; w = w->hh.next) {
        if (!worker_can_run(w, child))
            continue;
        if (parents_at(w) < w->slots)
            return 0;
        slots += w->slots;
    }
    return slots;
}

bool nested_note(const struct ledger *l, const struct batch *b, char *out, size_t size)
{
    const struct batch *child = b->parent != NULL && waits_for_a_slot(b) ? b : LIST_FIRST(&b->children);
    uint64_t slots = 0;
    while (child != NULL && (slots = slots_held(l, child)) == 0)
        child = child == b ? LIST_FIRST(&b->children) : LIST_NEXT(child, sibling);
    if (slots == 0)
        return false;
    snprintf(out, size, "deadlock: all slots that could run batch %s (%" PRIu64 ") hold attempts whose own batches wait for a slot; add slots or "
             "workers, or cancel one of these batches", child->short_id, slots);
    return true;
}
